"""Matrices inside a flat buffer, without a bounds check, a copy or reference counting.

``buffer[o : o + n].reshape(rows, columns)`` says the same, but carries its error paths and its
reference counts into every kernel that is compiled with it.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
from numba.core import types
from numba.np import arrayobj

from fastnn.kernels._jit import intrinsic

__all__ = ["array_at", "call_at", "matrix", "rows_apart"]

# Numba's helpers carry no types.
_arrayobj: Any = arrayobj


def _rows(buffer: Any, offset: int, rows: int, columns: int, pitch: int) -> Any:
    """Return a (rows, columns) view of a flat buffer, its rows pitch apart."""
    item = buffer.itemsize
    return np.lib.stride_tricks.as_strided(
        buffer[offset:], (rows, columns), (pitch * item, item), writeable=True
    )


def _matrix(buffer: Any, offset: int, rows: int, columns: int) -> Any:
    """Return a (rows, columns) view of a flat buffer."""
    return buffer[offset : offset + rows * columns].reshape(rows, columns)


def _array_at(like: Any, address: int, rows: int, columns: int) -> Any:
    """Return the array that lies at an address."""
    shape = (int(rows), int(columns))[: like.ndim]
    if not rows:
        return np.zeros(shape, like.dtype)
    content = (ctypes.c_byte * (math.prod(shape) * like.itemsize)).from_address(int(address))
    return np.frombuffer(content, like.dtype).reshape(shape)


@intrinsic(_array_at)
def array_at(typing: Any, like: Any, address: Any, rows: Any, columns: Any) -> Any:
    """Return the array at an address, of another one's type; (rows,) if that has one dimension.

    It lies there row by row without gaps, and must outlive the view.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        height, width = _integers(context, builder, signature, arguments)[1:]
        size = context.get_constant(types.intp, like.dtype.bitwidth // 8)
        view = _arrayobj.make_array(like)(context, builder)
        _arrayobj.populate_array(
            view,
            data=builder.inttoptr(arguments[1], view.data.type),
            shape=[height, width][: like.ndim],
            strides=[builder.mul(width, size), size][2 - like.ndim :],
            itemsize=size,
            meminfo=None,
        )
        return view._getvalue()

    return like(like, address, rows, columns), generate


@intrinsic(_matrix)
def matrix(typing: Any, buffer: Any, offset: Any, rows: Any, columns: Any) -> Any:
    """Return a (rows, columns) view of a flat buffer; the buffer must outlive it."""
    result = types.Array(buffer.dtype, 2, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start, height, width = _integers(context, builder, signature, arguments)
        return _view(context, builder, buffer, result, arguments[0], start, height, width, width)

    return result(buffer, offset, rows, columns), generate


@intrinsic(_rows)
def rows_apart(typing: Any, buffer: Any, offset: Any, rows: Any, columns: Any, pitch: Any) -> Any:
    """Return a (rows, columns) view of a flat buffer, its rows pitch apart; see `matrix`."""
    result = types.Array(buffer.dtype, 2, "A")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _integers(context, builder, signature, arguments)
        return _view(context, builder, buffer, result, arguments[0], *places)

    return result(buffer, offset, rows, columns, pitch), generate


def call_at(context: Any, builder: Any, address: Any, kinds: Any, arguments: Any) -> None:
    """Call compiled code that returns nothing at an address."""
    convention = context.call_conv
    function = convention.get_function_type(types.none, kinds)
    pointer = builder.inttoptr(address, function.as_pointer())
    convention.call_function(builder, pointer, types.none, kinds, arguments)


def _integers(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    """Return the arguments behind the first as integers of one kind."""
    return [
        context.cast(builder, value, kind, types.intp)
        for value, kind in zip(arguments[1:], signature.args[1:], strict=True)
    ]


def _view(
    context: Any, builder: Any, kind: Any, result: Any, buffer: Any, start: Any, height: Any,
    width: Any, pitch: Any,
) -> Any:  # fmt: skip
    """Return an array of two dimensions inside a buffer."""
    whole = _arrayobj.make_array(kind)(context, builder, buffer)
    size = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
    view = _arrayobj.make_array(result)(context, builder)
    _arrayobj.populate_array(
        view,
        data=builder.gep(whole.data, [start]),
        shape=[height, width],
        strides=[builder.mul(pitch, size), size],
        itemsize=size,
        meminfo=None,
    )
    return view._getvalue()
