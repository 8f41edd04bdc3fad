"""The one door to Numba: how every kernel of the library is compiled.

Flags, and why:

- ``nogil``: other Python threads can run while a kernel does.
- ``error_model="numpy"``: a division by zero gives infinity, so that no loop contains a branch
  and an exception for it.
- ``fastmath={"nsz", "contract"}``: multiply and add may fuse, and the sign of zero may be lost;
  NaN and infinity are handled correctly and sums keep their order.  With ``reassoc`` twelve
  identical runs on one thread gave two different results, as the data's address decided between the
  vector and the scalar path of a loop.
- ``_nrt=False``: references to arrays are not counted, as kernels allocate nothing and callers hold
  references to the arguments.  Counting took a quarter of the smallest step (8-32-32-1: 3.3 us
  instead of 2.8), and two threads contended for the counters (784-512-512-10, batch 128: 1.55 ms
  instead of 0.97).
- no ``parallel``, no object mode, no signature at import: nothing compiles before its first use.

An entry compiles, or is loaded, without interruption (`machine/uninterrupted.py`).  Where one of
Numba's private interfaces that are used here and in `_parts.py` is missing or has changed, kernels
are compiled without it, with one warning: slower to compile, and perhaps to run.

With ``NUMBA_DISABLE_JIT=1`` kernels run as plain Python, for coverage and tracebacks; as machine
code raises no floating-point warnings, neither does that mode.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numba
import numba.extending
import numpy as np

from fastnn.kernels._cache import KernelCache
from fastnn.machine.tested import advice
from fastnn.machine.uninterrupted import in_one_piece, stop_if_abandoned
from fastnn.notices import warn

__all__ = [
    "JIT_OFF", "address_of", "apart", "embeddable", "entry", "external", "intrinsic", "kernel",
    "phase", "pointer_entry", "user_function",
]  # fmt: skip

Function = TypeVar("Function", bound=Callable[..., Any])

# Numba's own types do not know all of its options.
_numba: Any = numba

JIT_OFF: bool = bool(_numba.config.DISABLE_JIT)

_FLAGS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"nsz", "contract"},
    "_nrt": False,
}

# Options that kernels can be compiled without.
_OPTIONAL = "_nrt", "no_cpython_wrapper", "no_cfunc_wrapper", "forceinline"

# Objects that are allocated during compiling between two runs of Python's garbage collector.
_OBJECTS = 10_000

# What Numba was found to lack; one warning lists it all.
_lacking: list[str] = []

# All kernels that are compiled as parts.
_parts: list[Any] = []


def _do_without(problem: object) -> None:
    """Warn once that Numba lacks something that made kernels faster, or faster to compile."""
    if not _lacking:
        _lacking.append(str(problem))
        warn(
            f"Numba {_numba.__version__} has changed where fastnn builds on it ({problem}), so "
            "that kernels are compiled in a plain way: they take longer to compile, and perhaps "
            f"to run. {advice('numba')}",
            RuntimeWarning,
        )


def _part_compiler() -> Any:
    """Return the compiler of parts, or None where Numba lacks what it needs."""
    try:
        from fastnn.kernels._parts import PartCompiler
    except (ImportError, AttributeError, TypeError) as problem:
        _do_without(problem)
        return None
    return PartCompiler


_PartCompiler: Any = None if JIT_OFF else _part_compiler()


@contextlib.contextmanager
def _seldom_collected() -> Iterator[None]:
    """Let Python's garbage collector run rarely, if it is on.

    A compiler allocates millions of objects that stay alive (one dtype's first fit: 9.3 s of CPU
    time instead of 10.6).  Compilations are serialised by Numba's lock, so that none restores the
    threshold of another.
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
    if JIT_OFF:
        return function
    options = {**_FLAGS, **options}
    known = getattr(_numba.core.cpu, "CPUTargetOptions", None)
    for option in _OPTIONAL:
        if option in options and known is not None and not hasattr(known, option):
            _do_without(f"no option {option}")
            del options[option]
    dispatcher: Function = _numba.njit(**options)(function)
    return dispatcher


def kernel(function: Function) -> Function:
    """Compile a function that other kernels call: a part of theirs, never run by itself."""
    # Said, or what a phase calls would be compiled as a phase too.
    return _part(function, forceinline=False)


def apart(function: Function) -> Function:
    """Compile a part that stays a function of its own, as few networks call it.

    What calls it keeps its own variables in registers then: a step of a network of `Dense` layers
    takes 2-4 % less time with the kernels of all other layers apart.
    """
    function.is_apart = True  # type: ignore[attr-defined]
    return _part(function, forceinline=False)


def phase(function: Function) -> Function:
    """Compile a part that is called from one or two places only, and write its code there.

    An array is handed over as eight numbers, a record as one more; a step of the smallest network
    took 1.3 times as long where its phases were called.
    """
    return _part(function, forceinline=True)


def _part(function: Function, forceinline: bool) -> Function:
    """Compile a function that other kernels call."""
    options: dict[str, Any] = {
        "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": forceinline,
    }  # fmt: skip
    if _PartCompiler is None:
        return _compiled(function, **options)
    part: Any = _compiled(function, **options, pipeline_class=_PartCompiler)
    part.get_call_template = _Once(part.get_call_template)
    _parts.append(part)
    compiled: Function = part
    return compiled


def _with_attributes(arg: Any) -> Any:
    """Return an array of records such that `row.field` reads a field, and any other as it is."""
    if isinstance(arg, np.ndarray) and arg.dtype.names:
        return arg.view(np.recarray)
    return arg


def entry(function: Function) -> Function:
    """Compile a function that Python calls; its machine code is cached on disk."""
    if JIT_OFF:

        @functools.wraps(function)
        def quiet(*args: Any) -> Any:
            with np.errstate(all="ignore"):
                return function(*map(_with_attributes, args))

        return quiet  # type: ignore[return-value]
    dispatcher: Any = _compiled(function, no_cfunc_wrapper=True)
    try:
        if os.environ.get("FASTNN_CACHE", "1") != "0":
            # Were there none, setting one would do nothing.
            _ = dispatcher._cache
            dispatcher._cache = KernelCache(function)
        dispatcher._compiler.compile = _Compiling(dispatcher._compiler)
        dispatcher._compile_for_args = _Beginning(dispatcher._compile_for_args)
    except AttributeError as problem:
        _do_without(problem)
    compiled: Function = dispatcher
    return compiled


def embeddable(misfit: Callable[..., str | None]) -> Callable[[Function], Function]:
    """Compile a function that users' compiled functions call, and Python too.

    ``misfit(*types)`` says what is wrong with the types of its arguments; such are not compiled.
    Pickles have the function's name only: where a user's function has it in a closure, or takes it
    as an argument, Numba compares pickles to find what it has kept.
    """

    def decorate(function: Function) -> Function:
        compiled: Any = entry(function)
        if not JIT_OFF:
            name = function.__name__
            compiled._reduce_class = lambda: _ByName
            compiled._reduce_states = lambda: {"module": function.__module__, "name": name}
            compiled._compile_for_args = _Asked(compiled._compile_for_args, name, misfit)
            compiled.get_call_template = _AskedByCompiler(compiled.get_call_template, name, misfit)
        chosen: Function = compiled
        return chosen

    return decorate


class _ByName:
    """How an embeddable function is found again."""

    @classmethod
    def _rebuild(cls, module: str, name: str) -> Any:
        """Return it; its module may not be loaded yet."""
        return getattr(in_one_piece(lambda: importlib.import_module(module)), name)


class _Asked:
    """Compile an embeddable function for a call from Python, if its arguments fit."""

    def __init__(
        self, begin: Callable[..., Any], name: str, misfit: Callable[..., str | None]
    ) -> None:
        self._begin, self._name, self._misfit = begin, name, misfit

    def __call__(self, *args: Any) -> Any:
        said = self._misfit(*map(self._type, args))
        if said:
            raise TypeError(f"{self._name}: {said}.")
        return self._begin(*args)

    def _type(self, value: object) -> Any:
        """Return Numba's type of an argument, or else the name of Python's."""
        try:
            return _numba.typeof(value)
        except (TypeError, ValueError):
            return type(value).__name__


class _AskedByCompiler(_Asked):
    """The same where another compiled function calls it."""

    def __call__(self, args: Any, kws: Any) -> Any:
        said = None if kws else self._misfit(*args)
        if said:
            raise _numba.core.errors.TypingError(f"{self._name}: {said}.")
        return self._begin(args, kws)


class _Once:
    """Have a part compiled for the types of its arguments alone, not for a literal's value too."""

    def __init__(self, begin: Callable[..., Any]) -> None:
        self._begin = begin

    def __call__(self, args: Any, kws: Any) -> Any:
        unliteral = _numba.core.types.unliteral
        return self._begin(tuple(map(unliteral, args)), {k: unliteral(v) for k, v in kws.items()})


def user_function(function: Callable[..., Any], pipeline: Any = None) -> Any:
    """Compile a user's function of numbers with the house's flags, for other functions to call."""
    named = {} if pipeline is None else {"pipeline_class": pipeline}
    return _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, **named)


def pointer_entry(function: Callable[..., None], signature: Any, *, cached: bool = True) -> Any:
    """Compile a function as one of C, which has an ``address``; None where the JIT is off."""
    if JIT_OFF:
        return None
    parts = signature.args, signature.return_type
    # Nothing else loads it.
    callbacks = importlib.import_module("numba.core.ccallback")
    compiled: Any = callbacks.CFunc(function, parts, {}, dict(_FLAGS))
    if cached and os.environ.get("FASTNN_CACHE", "1") != "0":
        compiled._cache = KernelCache(function)

    def begin() -> None:
        with _seldom_collected():
            compiled.compile()

    in_one_piece(begin)
    return compiled


class _Beginning:
    """What a dispatcher does when it is called with types that are new to it, uninterrupted."""

    def __init__(self, begin: Callable[..., Any]) -> None:
        self._begin = begin

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return in_one_piece(lambda: self._begin(*args, **kwargs))


class _Compiling:
    """Compile an entry with parts, or, where that fails, without."""

    def __init__(self, compiler: Any) -> None:
        self._compiler = compiler
        self._compile = compiler.compile

    def __call__(self, args: Any, return_type: Any) -> Any:
        stop_if_abandoned()
        with _seldom_collected():
            try:
                return self._compile(args, return_type)
            except (MemoryError, _numba.core.errors.ForceLiteralArg):
                # Not a fault of parts; the second is a request.
                raise
            except Exception as problem:
                if not _parts:
                    raise
                return self._without_parts(args, return_type, problem)

    def _without_parts(self, args: Any, return_type: Any, problem: Exception) -> Any:
        """Compile again without parts; raise the first error if that fails too."""
        try:
            _forget_parts(True, self._compiler)
            compiled = self._compile(args, return_type)
        except Exception:
            with contextlib.suppress(AttributeError):
                _forget_parts(False, self._compiler)
            raise problem from None
        _do_without(f"{type(problem).__name__}: {problem}")
        return compiled


def _forget_parts(plain: bool, compiler: Any) -> None:
    """Have all parts recompiled, with Numba's own way or as parts, and an entry that failed too."""
    from fastnn.kernels._parts import give_up

    give_up(plain)
    compiler._failed_cache.clear()
    for part in _parts:
        part._compiler._failed_cache.clear()
        part._reset_overloads()


def address_of(function: Callable[..., Any], arguments: Sequence[Any]) -> int:
    """Return where an entry's machine code for such arguments lies; 0 where that is not known.

    The code takes and returns what Numba's own calls do.  It stays there as long as the entry.
    """
    if JIT_OFF:
        return 0
    dispatcher: Any = function
    try:
        compiled = dispatcher.overloads[tuple(map(_numba.typeof, arguments))]
        return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))
    except (AttributeError, LookupError, TypeError, ValueError):
        return 0


def external(name: str, signature: Any, twin: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function without arguments that every process has, to be called from kernels.

    Where the JIT is off its twin in Python is called.
    """
    if JIT_OFF:
        return twin
    function: Callable[[], Any] = _numba.core.types.ExternalFunction(name, signature)
    return function


def intrinsic(twin: Function) -> Callable[[Callable[..., Any]], Function]:
    """Write a building block in LLVM IR; its NumPy twin runs where the JIT is off.

    The decorated function is Numba's: it takes the typing context and the argument types, and
    returns a signature and a code generator.
    """

    def decorate(builder: Callable[..., Any]) -> Function:
        block: Any = twin if JIT_OFF else _numba.extending.intrinsic(prefer_literal=True)(builder)
        chosen: Function = block
        return chosen

    return decorate
