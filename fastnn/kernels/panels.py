"""The panel format, and the ways in and out of it.

A matrix in panels lies as ``[panel of columns][row][column in the panel]``; a panel is two vector
registers wide.  A tile of a product then reads both operands with constant, short strides, needs
no masks, and stays at the same rate from the smallest size to the largest.  Columns past the last
one are zero in packed weights; in activations they hold what comes of that and count for nothing.
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic, kernel

__all__ = [
    "PANEL_BYTES",
    "gather",
    "pack",
    "pack_transposed",
    "pack_weights",
    "transpose_tile",
    "unpack",
]

PANEL_BYTES = 2 * simd.BYTES


@kernel
def gather(P: Any, at: int, height: int, X: Any, picks: Any) -> None:
    """Copy the picked rows of X into panels.

    Reads: X (examples, columns), picks (rows,).  Writes: rows of P (height, columns) in panels
    from at, zero past the last column.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // P.itemsize
    columns = X.shape[1]
    zero = P.dtype.type(0)
    for i in range(picks.size):
        x = X[picks[i]]
        for j in range(0, columns, panel):
            start = at + j * height + i * panel
            p = P[start : start + panel]
            if columns - j >= panel:
                s = x[j : j + panel]
                for q in range(panel):
                    p[q] = s[q]
            else:
                for q in range(panel):
                    p[q] = x[j + q] if j + q < columns else zero


@kernel
def pack(P: Any, at: int, height: int, M: Any) -> None:
    """Copy a matrix into panels.

    Reads: M (rows, columns).  Writes: rows of P (height, columns) in panels from at, zero past
    the last column.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // P.itemsize
    rows, columns = M.shape
    zero = P.dtype.type(0)
    for j in range(0, columns, panel):
        width = min(panel, columns - j)
        for i in range(rows):
            start = at + j * height + i * panel
            p = P[start : start + panel]
            m = M[i, j : j + width]
            for q in range(width):
                p[q] = m[q]
            for q in range(width, panel):
                p[q] = zero


@kernel
def unpack(M: Any, P: Any, at: int, height: int) -> None:
    """Copy rows of panels into a matrix.

    Reads: rows of P (height, columns) in panels from at.  Writes: M (rows, columns).
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // P.itemsize
    rows, columns = M.shape
    for j in range(0, columns, panel):
        width = min(panel, columns - j)
        for i in range(rows):
            start = at + j * height + i * panel
            p = P[start : start + panel]
            m = M[i, j : j + width]
            for q in range(width):
                m[q] = p[q]


@kernel
def pack_weights(P: Any, at: int, W: Any, b: Any) -> None:
    """Pack a layer's weights and, behind them, its biases.

    Reads: W (inputs, outputs), b (outputs,) or (0,).  Writes: P from at: W in panels, then b,
    all zero past the last column.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // P.itemsize
    inputs, outputs = W.shape
    pack(P, at, inputs, W)
    columns = (outputs + panel - 1) // panel * panel
    biases = at + columns * inputs
    zero = P.dtype.type(0)
    for j in range(columns):
        P[biases + j] = b[j] if j < b.size else zero


@kernel
def pack_transposed(P: Any, at: int, W: Any) -> None:
    """Pack the transpose of a layer's weights.

    Reads: W (inputs, outputs).  Writes: P from at: (outputs, inputs) in panels, zero past the
    last column.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // P.itemsize
    inputs, outputs = W.shape
    zero = P.dtype.type(0)
    for j in range(0, inputs, panel):
        for q in range(panel):
            start = at + j * outputs + q
            if j + q < inputs:
                w = W[j + q]
                for i in range(outputs):
                    P[start + i * panel] = w[i]
            else:
                for i in range(outputs):
                    P[start + i * panel] = zero


def _transpose_tile(rows: int, P: Any, at: int, to: int, count: int) -> None:
    """Transpose a tile in NumPy."""
    panel = PANEL_BYTES // P.itemsize
    for q in range(count):
        for r in range(rows):
            P[to + q * panel + r] = P[at + r * panel + q]


@intrinsic(_transpose_tile)
def transpose_tile(typing: Any, rows: Any, P: Any, at: Any, to: Any, count: Any) -> Any:
    """Write the transpose of a tile, rows by count of a panel, in registers.

    Reads: rows of P from at, a panel's row apart.  Writes: count rows of P from to, a panel's
    row apart, of which the first lanes.  May overwrite: nothing else.
    """
    height = rows.literal_value
    signature = types.void(rows, P, types.intp, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at, to, count = arguments[2:]
        data = simd.data_pointer(context, builder, signature.args[1], arguments[1])
        element = context.get_data_type(P.dtype)
        v = simd.Vectors(builder, element)
        short = simd.Vectors(builder, element, min(height, v.lanes))
        panel = 2 * v.lanes
        number = simd.int64
        for half in (0, v.lanes):
            tile = [v.load(data, builder.add(at, number(r * panel + half))) for r in range(height)]
            for q, column in enumerate(v.columns(v.interleave(tile), height)):
                place = builder.add(to, number((half + q) * panel))
                with builder.if_then(builder.icmp_signed("<", number(half + q), count)):
                    for n, piece in enumerate(column):
                        short.store(piece, data, builder.add(place, number(n * short.lanes)))
        return context.get_dummy_value()

    return signature, generate
