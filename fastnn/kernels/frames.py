"""Memory of a caller's own: room on the stack, and arrays at an address."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.np import arrayobj

from fastnn.kernels._jit import intrinsic, kernel

__all__ = ["dense", "is_dense", "pointed", "room_on_stack"]

# Numba's helpers carry no types.
_arrayobj: Any = arrayobj
_types: Any = types

_LINE = 64  # bytes of a cache line


def _room_on_stack(P: Any, elements: int) -> Any:
    """Return an array that is not on the stack, in Python."""
    return np.empty(elements, P.dtype)


@intrinsic(_room_on_stack)
def room_on_stack(typing: Any, P: Any, elements: Any) -> Any:
    """Return an uninitialised vector on the stack of the calling function, of P's dtype.

    The calling function is never inlined: in a caller's loop its room would grow with every turn,
    and a caller's numbers could be computed where subnormals are flushed.
    """
    result = _types.Array(P.dtype, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        room = builder.alloca(context.get_data_type(P.dtype), size=arguments[1])
        room.align = _LINE
        return _vector(context, builder, result, room, arguments[1])

    return result(P, types.intp), generate


def _pointed(pointer: Any, elements: int) -> Any:
    """Return the array in Python, of a ctypes pointer."""
    return np.ctypeslib.as_array(pointer, (elements,))


@intrinsic(_pointed)
def pointed(typing: Any, pointer: Any, elements: Any) -> Any:
    """Return the vector of so many elements that a pointer leads to."""
    result = _types.Array(pointer.dtype, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _vector(context, builder, result, *arguments)

    return result(pointer, types.intp), generate


@kernel
def is_dense(x: Any) -> bool:
    """Return whether the elements of a vector follow each other without a gap."""
    return bool(x.size <= 1 or x.strides[0] == x.itemsize)


def _dense(x: Any) -> Any:
    """Return the array as it is, in Python."""
    return x


@intrinsic(_dense)
def dense(typing: Any, x: Any) -> Any:
    """Return a vector for which `is_dense` holds as one of the type that kernels take.

    Rows that Numba takes from a matrix in a loop have a type of any strides.
    """
    if not isinstance(x, _types.Array):
        return None
    result = _types.Array(x.dtype, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = _arrayobj.make_array(x)(context, builder, arguments[0])
        return _vector(context, builder, result, given.data, given.nitems)

    return result(x), generate


def _vector(context: Any, builder: Any, kind: Any, data: Any, elements: Any) -> Any:
    """Return an array of one dimension."""
    size = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
    view = _arrayobj.make_array(kind)(context, builder)
    _arrayobj.populate_array(
        view, data=data, shape=[elements], strides=[size], itemsize=size, meminfo=None
    )
    return view._getvalue()
