"""The one door to Numba: how every kernel of the library is compiled.

Flags, and why:

- ``nogil``: other Python threads go on while a kernel runs.
- ``error_model="numpy"``: a division by zero gives infinity, so that no loop carries a branch
  and an exception for it.
- ``fastmath={"nsz", "contract"}``: multiply and add may fuse, and the sign of zero may be lost;
  NaN and infinity stay honest and sums keep their order.  With ``reassoc`` twelve identical runs
  on one thread gave two different results, as the vector and the scalar path of one loop were
  chosen by the data's address.
- ``_nrt=False``: nobody counts references to arrays, as kernels allocate nothing and their callers
  hold what they hand in.  Counting took a quarter of the smallest step (8-32-32-1: 3.3 us instead
  of 2.8), and kept two threads fighting for the counters (784-512-512-10, batch 128: 1.55 ms
  instead of 0.97).
- no ``parallel``, no object mode, no signature at import: nothing compiles before its first use.

With ``NUMBA_DISABLE_JIT=1`` kernels run as plain Python, for coverage and tracebacks; as machine
code raises no floating-point warnings, neither does that mode.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numba
import numba.extending
import numpy as np

from fastnn.kernels._cache import KernelCache
from fastnn.kernels._parts import PartCompiler

__all__ = ["entry", "external", "intrinsic", "kernel"]

Function = TypeVar("Function", bound=Callable[..., Any])

# Numba's own types do not know all of its options.
_numba: Any = numba

_JIT_OFF: bool = bool(_numba.config.DISABLE_JIT)

_FLAGS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"nsz", "contract"},
    "_nrt": False,
}

# Objects that Python makes while it compiles before it looks for garbage among them.
_OBJECTS = 10_000


@contextlib.contextmanager
def _seldom_collected() -> Iterator[None]:
    """Let Python look for garbage seldom, if it does at all.

    A compiler makes millions of objects that stay (one dtype's first fit: 9.3 s of processor time
    instead of 10.6).  Compilers take turns, by Numba's lock, so that none restores another's.
    """
    before = gc.get_threshold()
    try:
        if before[0]:
            gc.set_threshold(max(before[0], _OBJECTS), *before[1:])
        yield
    finally:
        gc.set_threshold(*before)


def _compiled(function: Function, **options: Any) -> Function:
    """Compile with the house's flags, or leave the function as it is where the JIT is off."""
    if _JIT_OFF:
        return function
    dispatcher: Function = _numba.njit(**_FLAGS, **options)(function)
    return dispatcher


def kernel(function: Function) -> Function:
    """Compile a function that other kernels call: a part of theirs, never run by itself."""
    return _compiled(
        function, no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=PartCompiler
    )


def entry(function: Function) -> Function:
    """Compile a function that Python calls; its machine code is kept on disk."""
    if _JIT_OFF:

        @functools.wraps(function)
        def quiet(*args: Any) -> Any:
            with np.errstate(all="ignore"):
                return function(*args)

        return quiet  # type: ignore[return-value]
    dispatcher: Any = _compiled(function, no_cfunc_wrapper=True)
    compiler = dispatcher._compiler
    compiler.compile = _seldom_collected()(compiler.compile)
    if os.environ.get("FASTNN_CACHE", "1") != "0":
        dispatcher._cache = KernelCache(function)
    compiled: Function = dispatcher
    return compiled


def external(name: str, signature: Any, twin: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function without arguments that every process has, to be called from kernels.

    Where the JIT is off its twin in Python is called.
    """
    if _JIT_OFF:
        return twin
    function: Callable[[], Any] = _numba.core.types.ExternalFunction(name, signature)
    return function


def intrinsic(twin: Function) -> Callable[[Callable[..., Any]], Function]:
    """Write a building block in LLVM's terms; its NumPy twin runs where the JIT is off.

    The decorated function is Numba's: it takes the typing context and the argument types, and
    returns a signature and a code generator.
    """

    def decorate(builder: Callable[..., Any]) -> Function:
        block: Any = twin if _JIT_OFF else _numba.extending.intrinsic(prefer_literal=True)(builder)
        chosen: Function = block
        return chosen

    return decorate
