"""The panel format, and the ways in and out of it.

A matrix in panels lies as ``[panel of columns][row][column in the panel]``; a panel is two vector
registers wide.  A tile of a product then reads both operands with constant, short strides, needs
no masks, and stays at the same rate from the smallest size to the largest.  Padding
columns are zero in packed weights; in activations they hold f(0) and are never read as results.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic, kernel

__all__ = [
    "PANEL_BYTES",
    "collect_rows",
    "pack",
    "shared_columns",
    "spread_rows",
    "transpose_tile",
    "unpack",
]

PANEL_BYTES = 2 * simd.BYTES


def shared_columns(rows: int, panel: int) -> int:
    """Return the length of runs of a tile's columns that never straddle two panels.

    Tiles are placed side by side, across panels: with six columns and panels of 16, runs of two.
    """
    return math.gcd(rows, panel)


def _chosen(picks: Any, first: int, last: int) -> Any:
    """Return the picks from first to before last, or their places where there are none."""
    return range(first, last) if picks is None else picks[first:last]


def _spread_rows(P: Any, at: int, height: int, X: Any, picks: Any, first: int, last: int) -> None:
    """Copy in NumPy."""
    panel = PANEL_BYTES // P.itemsize
    for i, row in enumerate(_chosen(picks, first, last), first):
        for j in range(0, X.shape[1], panel):
            part = X[row, j : j + panel]
            start = at + j * height + i * panel
            P[start : start + part.size] = part
            P[start + part.size : start + panel] = 0


@intrinsic(_spread_rows)
def spread_rows(
    typing: Any, P: Any, at: Any, height: Any, X: Any, picks: Any, first: Any, last: Any
) -> Any:
    """Copy picked rows of a matrix into panels.

    Reads: X (examples, columns); picks[first:last], which rows of X, or None for rows first to
    last - 1.  Writes: rows first to last - 1 of P (height, columns) in panels from `at`, zero past
    the last column.  May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(P, place, place, X, picks, place, place)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = simd.data_pointer(context, builder, P, arguments[0])
        at, height = arguments[1:3]
        v = simd.Vectors(builder, context.get_data_type(P.dtype))

        def copy(to: Any, offset: Any, source: Any, masks: Any) -> None:
            for half, mask in zip((0, v.lanes), masks, strict=True):
                shift = simd.int64(half)
                x = v.load(source, builder.add(offset, shift), mask)
                v.store(x, target, builder.add(to, shift))

        whole = (X, arguments[3]), (picks, arguments[4])
        _over_rows(context, v, whole, arguments[5:], at, height, copy)
        return context.get_dummy_value()

    return signature, generate


def _collect_rows(
    out: Any, picks: Any, P: Any, at: int, height: int, first: int, last: int
) -> None:
    """Copy in NumPy."""
    panel = PANEL_BYTES // P.itemsize
    for i, row in enumerate(_chosen(picks, first, last), first):
        for j in range(0, out.shape[1], panel):
            part = out[row, j : j + panel]
            start = at + j * height + i * panel
            part[:] = P[start : start + part.size]


@intrinsic(_collect_rows)
def collect_rows(
    typing: Any, out: Any, picks: Any, P: Any, at: Any, height: Any, first: Any, last: Any
) -> Any:
    """Copy rows of panels into picked rows of a matrix, as `spread_rows` copies the other way.

    Reads: rows first to last - 1 of P (height, columns) in panels from `at`; picks.
    Writes: the picked rows of out (examples, columns).  May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(out, picks, P, *[place] * 4)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = simd.data_pointer(context, builder, P, arguments[2])
        at, height = arguments[3:5]
        v = simd.Vectors(builder, context.get_data_type(P.dtype))

        def copy(place: Any, offset: Any, target: Any, masks: Any) -> None:
            for half, mask in zip((0, v.lanes), masks, strict=True):
                shift = simd.int64(half)
                x = v.load(source, builder.add(place, shift))
                v.store(x, target, builder.add(offset, shift), mask)

        whole = (out, arguments[0]), (picks, arguments[1])
        _over_rows(context, v, whole, arguments[5:], at, height, copy)
        return context.get_dummy_value()

    return signature, generate


def _over_rows(
    context: Any, v: simd.Vectors, arrays: Any, rows: Any, at: Any, height: Any,
    copy: Callable[[Any, Any, Any, Any], None],
) -> None:  # fmt: skip
    """Emit ``copy(place in the panels, column, row, masks of both vectors)`` for every panel.

    The masks are made once for all rows (10 000 rows of 4 columns: 47 us in all, against 80).
    """
    build = v.builder
    (kind, matrix), (of_picks, picks) = arrays
    first, last = rows
    panel = simd.int64(2 * v.lanes)
    columns = simd.data_length(context, build, kind, matrix, 1)
    base = simd.data_pointer(context, build, kind, matrix)
    across = build.mul(height, panel)
    whole = build.sdiv(columns, panel)
    done = build.mul(whole, panel)
    rest = build.sub(columns, done)
    masks = v.first_lanes(rest), v.first_lanes(rest, v.lanes)
    ragged = build.icmp_signed(">", rest, simd.int64(0))

    def turn(n: Any) -> None:
        i = build.add(first, n)
        chosen = i
        if of_picks != types.none:
            numbers = simd.data_pointer(context, build, of_picks, picks)
            chosen = build.load(build.gep(numbers, [i]))
        row = build.gep(base, [build.mul(chosen, columns)])
        start = build.add(at, build.mul(i, panel))

        def whole_panel(k: Any) -> None:
            copy(build.add(start, build.mul(k, across)), build.mul(k, panel), row, (None, None))

        simd.count_loop(build, whole, whole_panel)
        with build.if_then(ragged):
            copy(build.add(start, build.mul(whole, across)), done, row, masks)

    simd.count_loop(build, build.sub(last, first), turn)


@kernel
def pack(P: Any, at: int, height: int, M: Any) -> None:
    """Copy a matrix into panels.

    Reads: M (rows, columns).  Writes: rows of P (height, columns) in panels from at, zero past
    the last column.  May overwrite: nothing else.
    """
    spread_rows(P, at, height, M, None, 0, M.shape[0])


@kernel
def unpack(M: Any, P: Any, at: int, height: int) -> None:
    """Copy rows of panels into a matrix.

    Reads: rows of P (height, columns) in panels from at.  Writes: M (rows, columns).
    May overwrite: nothing else.
    """
    collect_rows(M, None, P, at, height, 0, M.shape[0])


def _transpose_tile(rows: int, P: Any, at: int, to: int, near: int, apart: int, count: int) -> None:
    """Transpose a tile in NumPy."""
    panel = PANEL_BYTES // P.itemsize
    for r in range(rows if apart >= 0 else min(rows, near)):
        column = to + r + (apart if r >= near else 0)
        for q in range(count):
            P[column + q * panel] = P[at + r * panel + q]


@intrinsic(_transpose_tile)
def transpose_tile(
    typing: Any, rows: Any, P: Any, at: Any, to: Any, near: Any, apart: Any, count: Any
) -> Any:
    """Write the transpose of a tile, rows by count of a panel, in registers.

    Reads: rows of P from at, a panel's row apart.  Writes: count rows of P from to, a panel's
    row apart: columns 0 to near - 1 of each there, the rest `apart` elements further on (in the
    next panel), or nowhere where apart is negative; near is a multiple of `shared_columns`.
    May overwrite: nothing else.
    """
    height = rows.literal_value
    place = types.intp
    signature = types.void(rows, P, *[place] * 5)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at, to, near, apart, count = arguments[2:]
        data = simd.data_pointer(context, builder, signature.args[1], arguments[1])
        v = simd.Vectors(builder, context.get_data_type(P.dtype))
        panel, number = 2 * v.lanes, simd.int64
        tall = 1 << (height - 1).bit_length()
        # A store takes a run of columns that lies in one panel, at most a vector.
        some = min(shared_columns(height, panel), v.lanes)
        short = simd.Vectors(builder, v.element, some)
        firsts = [number(r) for r in range(0, height, some)]
        there = [builder.icmp_signed(">=", first, near) for first in firsts]
        # Columns without a destination repeat the store of the first run.
        wanted = [
            builder.or_(builder.not_(far), builder.icmp_signed(">=", apart, number(0)))
            for far in there
        ]
        places = [
            builder.select(
                want, builder.add(first, builder.select(far, apart, number(0))), number(0)
            )
            for want, far, first in zip(wanted, there, firsts, strict=True)
        ]
        for half in (0, v.lanes):
            tile = [v.load(data, builder.add(at, number(r * panel + half))) for r in range(height)]
            tile += tile[:1] * (tall - height)
            for q, column in enumerate(v.columns(v.interleave(tile), tall), half):
                pieces = [v.part(x, n, some) for x in column for n in range(0, x.type.count, some)]
                row = builder.add(to, number(q * panel))
                with builder.if_then(builder.icmp_signed("<", number(q), count)):
                    for want, place, piece in zip(wanted, places, pieces, strict=False):
                        piece = builder.select(want, piece, pieces[0])
                        short.store(piece, data, builder.add(row, place))
        return context.get_dummy_value()

    return signature, generate
