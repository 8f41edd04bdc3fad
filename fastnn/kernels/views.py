"""Matrices inside a flat buffer, without a check, a copy or a count of references.

``buffer[o : o + n].reshape(rows, columns)`` says the same, but carries its error paths and its
reference counts into every kernel that is compiled with it.
"""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.np import arrayobj

from fastnn.kernels._jit import intrinsic

__all__ = ["matrix"]

# Numba's helpers carry no types.
_arrayobj: Any = arrayobj


def _matrix(buffer: Any, offset: int, rows: int, columns: int) -> Any:
    """Return a (rows, columns) view of a flat buffer."""
    return buffer[offset : offset + rows * columns].reshape(rows, columns)


@intrinsic(_matrix)
def matrix(typing: Any, buffer: Any, offset: Any, rows: Any, columns: Any) -> Any:
    """Return a (rows, columns) view of a flat buffer; the buffer must outlive it."""
    result = types.Array(buffer.dtype, 2, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = _arrayobj.make_array(buffer)(context, builder, arguments[0])
        start, height, width = (
            context.cast(builder, value, kind, types.intp)
            for value, kind in zip(arguments[1:], signature.args[1:], strict=True)
        )
        size = context.get_constant(types.intp, buffer.dtype.bitwidth // 8)
        view = _arrayobj.make_array(result)(context, builder)
        _arrayobj.populate_array(
            view,
            data=builder.gep(whole.data, [start]),
            shape=[height, width],
            strides=[builder.mul(width, size), size],
            itemsize=size,
            meminfo=None,
        )
        return view._getvalue()

    return result(buffer, offset, rows, columns), generate
