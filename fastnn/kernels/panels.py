"""The panel format, and the ways in and out of it.

A matrix in panels lies as ``[panel of columns][row][column in the panel]``; a panel is two vector
registers wide.  A tile of a product then reads both operands with constant, short strides, needs
no masks, and stays at the same rate from the smallest size to the largest.  Columns past the last
one are zero in packed weights; in activations they hold what comes of that and count for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic, kernel

__all__ = [
    "PANEL_BYTES",
    "collect_row",
    "pack",
    "spread_row",
    "transpose_tile",
    "unpack",
]

PANEL_BYTES = 2 * simd.BYTES


def _spread_row(P: Any, at: int, across: int, X: Any, row: int) -> None:
    """Copy in NumPy."""
    panel = PANEL_BYTES // P.itemsize
    for j in range(0, X.shape[1], panel):
        part = X[row, j : j + panel]
        start = at + j // panel * across
        P[start : start + part.size] = part
        P[start + part.size : start + panel] = 0


@intrinsic(_spread_row)
def spread_row(typing: Any, P: Any, at: Any, across: Any, X: Any, row: Any) -> Any:
    """Copy a row of X into the panels of a panel matrix, which lie across apart.

    Reads: a row of X (examples, columns).  Writes: P, a whole panel's row of each panel from at,
    zero past the last column.  May overwrite: nothing else.
    """
    signature = types.void(P, types.intp, types.intp, X, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = simd.data_pointer(context, builder, P, arguments[0])
        source, columns = simd.row_of(context, builder, X, arguments[3], arguments[4])
        v = simd.Vectors(builder, context.get_data_type(P.dtype))

        def copy(place: Any, offset: Any, masks: Any) -> None:
            for half, mask in zip((0, v.lanes), masks, strict=True):
                shift = simd.int64(half)
                x = v.load(source, builder.add(offset, shift), mask)
                v.store(x, target, builder.add(place, shift))

        _over_panels(v, columns, arguments[1], arguments[2], copy)
        return context.get_dummy_value()

    return signature, generate


def _collect_row(out: Any, row: int, P: Any, at: int, across: int) -> None:
    """Copy in NumPy."""
    panel = PANEL_BYTES // P.itemsize
    for j in range(0, out.shape[1], panel):
        part = out[row, j : j + panel]
        start = at + j // panel * across
        part[:] = P[start : start + part.size]


@intrinsic(_collect_row)
def collect_row(typing: Any, out: Any, row: Any, P: Any, at: Any, across: Any) -> Any:
    """Copy from the panels of a panel matrix, which lie across apart, into a row of a matrix.

    Reads: P, a panel's row of each panel from at.  Writes: a row of out (rows, columns).
    May overwrite: nothing else.
    """
    signature = types.void(out, types.intp, P, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = simd.data_pointer(context, builder, P, arguments[2])
        target, columns = simd.row_of(context, builder, out, arguments[0], arguments[1])
        v = simd.Vectors(builder, context.get_data_type(P.dtype))

        def copy(place: Any, offset: Any, masks: Any) -> None:
            for half, mask in zip((0, v.lanes), masks, strict=True):
                shift = simd.int64(half)
                x = v.load(source, builder.add(place, shift))
                v.store(x, target, builder.add(offset, shift), mask)

        _over_panels(v, columns, arguments[3], arguments[4], copy)
        return context.get_dummy_value()

    return signature, generate


def _over_panels(
    v: simd.Vectors, columns: Any, at: Any, across: Any, copy: Callable[[Any, Any, Any], None]
) -> None:
    """Emit ``copy(place in the panels, column, masks of both vectors)`` for each panel of a row."""
    build = v.builder
    panel = simd.int64(2 * v.lanes)
    whole = build.sdiv(columns, panel)

    def place(n: Any) -> Any:
        return build.add(at, build.mul(n, across))

    simd.count_loop(build, whole, lambda n: copy(place(n), build.mul(n, panel), (None, None)))
    done = build.mul(whole, panel)
    rest = build.sub(columns, done)
    with build.if_then(build.icmp_signed(">", rest, simd.int64(0))):
        masks = v.first_lanes(rest), v.first_lanes(rest, v.lanes)
        copy(place(whole), done, masks)


@kernel
def pack(P: Any, at: int, height: int, M: Any) -> None:
    """Copy a matrix into panels.

    Reads: M (rows, columns).  Writes: rows of P (height, columns) in panels from at, zero past
    the last column.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // P.itemsize
    for i in range(M.shape[0]):
        spread_row(P, at + i * panel, height * panel, M, i)


@kernel
def unpack(M: Any, P: Any, at: int, height: int) -> None:
    """Copy rows of panels into a matrix.

    Reads: rows of P (height, columns) in panels from at.  Writes: M (rows, columns).
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // P.itemsize
    for i in range(M.shape[0]):
        collect_row(M, i, P, at + i * panel, height * panel)


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
