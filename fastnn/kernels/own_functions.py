"""Loops over arrays around users' functions, and how kernels call them: by their address.

A table has the address of a record of whole numbers where it else has the code of an activation or
a loss; addresses are greater than every code.  The record of an activation says whether the
derivative reads z, then where the loops are: the values' for float32 and float64, the derivatives'
for both.  That of a loss has a loop for both.  Records and loops stay as long as the process.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numpy.typing import NDArray

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import JIT_OFF, pointer_entry, user_function

__all__ = ["TWINS", "emit_back", "emit_loss", "emit_values", "is_own", "written_down"]

# llvmlite and Numba carry no types of their own.
_ir: Any = ir
_types: Any = types

#: Where there is no compiler: the records by the number that stands for the address.
TWINS: dict[int, Any] = {}

_VALUES, _BACK = 1, 3
_DTYPES = types.float32, types.float64


def written_down(own: Any) -> tuple[int, Any]:
    """Compile a record's functions for both dtypes; return its address and what must be kept.

    Raises
    ------
    ValueError
        If Numba cannot compile one of them, saying what Numba said.
    """
    if JIT_OFF:
        code = codes.LARGEST_CODE + 1 + len(TWINS)
        TWINS[code] = own
        return code, None
    activation = hasattr(own, "derivative_from")
    loops = [
        loop
        for make in ((_value_loop, _back_loop) if activation else (_loss_loop,))
        for loop in (make(own, dtype) for dtype in _DTYPES)
    ]
    addresses = [loop.address for loop in loops]
    first = [int(own.derivative_from == "Z")] if activation else []
    numbers: NDArray[np.int64] = np.array([*first, *addresses], np.int64)
    return int(numbers.ctypes.data), (numbers, loops)


def _value_loop(own: Any, dtype: Any) -> Any:
    """Compile ``a[i] = f(a[i])``."""
    f = _compiled(own, "value", 0, (dtype,))

    def loop(a, n):  # type: ignore[no-untyped-def]
        for i in range(n):
            a[i] = f(a[i])

    return pointer_entry(loop, _types.void(_types.CPointer(dtype), _types.int64), cached=False)


def _back_loop(own: Any, dtype: Any) -> Any:
    """Compile ``d[i] *= f'(x[i])``."""
    f = _compiled(own, "derivative", 1, (dtype,))

    def loop(d, x, n):  # type: ignore[no-untyped-def]
        for i in range(n):
            d[i] *= f(x[i])

    pointer = _types.CPointer(dtype)
    return pointer_entry(loop, _types.void(pointer, pointer, _types.int64), cached=False)


def _loss_loop(own: Any, dtype: Any) -> Any:
    """Compile the loss and its slope of a vector of predictions, whose targets follow it."""
    f, g = (_compiled(own, name, n, (dtype, dtype)) for n, name in enumerate(("loss", "gradient")))
    lanes = simd.BYTES * 8 // dtype.bitwidth

    def loop(s):  # type: ignore[no-untyped-def]
        for i in range(lanes):
            a, y = s[i], s[lanes + i]
            s[i] = f(a, y)
            s[lanes + i] = g(a, y)

    return pointer_entry(loop, _types.void(_types.CPointer(dtype)), cached=False)


def _compiled(own: Any, argument: str, place: int, kinds: Any) -> Any:
    """Compile a function for numbers of a dtype, or say why Numba cannot."""
    function = own.functions[place]
    from fastnn.kernels._own import OwnCompiler, Raises

    for pipeline in (OwnCompiler, None):
        compiled = user_function(function, pipeline)
        try:
            compiled.compile(kinds)
        except Raises:
            said, cause = "it raises exceptions, which compiled code cannot; return NaN", None
            break
        except Exception as problem:
            said, cause = f"Numba says: {_short(problem)}", problem
        else:
            result = compiled.overloads[kinds].signature.return_type
            if isinstance(result, (_types.Float, _types.Integer, _types.Boolean)):
                return compiled
            said, cause = f"it returns {result}, no number", None
    raise ValueError(f"{argument} of {own!r} cannot be compiled: {said}.") from cause


def _short(problem: Exception) -> str:
    """Return the one line of an error of Numba's that says what is wrong."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(problem)).splitlines()
    skipped = ("Failed in", "File ", "During:", ">>>", "Overload", "There are", "- of", "[")
    for line in (line.strip() for line in lines):
        if line and not line.startswith(skipped):
            return line.rstrip(".:")
    return type(problem).__name__


# What kernels emit.


def is_own(builder: Any, code: Any) -> Any:
    """Emit whether a code is the address of a record."""
    return builder.icmp_signed(">", code, simd.int64(codes.LARGEST_CODE))


def _loop_at(builder: Any, code: Any, place: int, kinds: list[Any], element: Any) -> Any:
    """Emit the address of a loop for an element type, as a function."""
    place += isinstance(element, _ir.DoubleType)
    record = builder.inttoptr(code, simd.int64.as_pointer())
    address = builder.load(builder.gep(record, [simd.int64(place)]))
    kind = _ir.FunctionType(_ir.VoidType(), kinds)
    return builder.inttoptr(address, kind.as_pointer())


def emit_values(v: simd.Vectors, code: Any, a: Any, z: Any, count: Any) -> None:
    """Emit a = f(z) for so many elements; both may begin at one place."""
    build = v.builder
    with build.if_then(build.icmp_unsigned("!=", a, z)):
        v.over(count, lambda at, mask: v.store(v.load(z, at, mask), a, at, mask))
    loop = _loop_at(build, code, _VALUES, [a.type, simd.int64], v.element)
    build.call(loop, [a, count])


def emit_back(v: simd.Vectors, code: Any, d: Any, a: Any, z: Any, count: Any) -> None:
    """Emit d = d f' for so many elements; f' is a function of z or of a."""
    build = v.builder
    record = build.inttoptr(code, simd.int64.as_pointer())
    x = build.select(build.icmp_signed("!=", build.load(record), simd.int64(0)), z, a)
    loop = _loop_at(build, code, _BACK, [d.type, d.type, simd.int64], v.element)
    build.call(loop, [d, x, count])


def emit_loss(v: simd.Vectors, code: Any, s: Any, y: Any) -> tuple[Any, Any]:
    """Emit loss and slope of a vector of predictions and their targets."""
    build = v.builder
    room = simd.room(build, v.type, 2)
    other = build.gep(room, [simd.int64(1)])
    build.store(s, room)
    build.store(y, other)
    start = build.bitcast(room, v.element.as_pointer())
    build.call(_loop_at(build, code, 0, [start.type], v.element), [start])
    return build.load(room), build.load(other)
