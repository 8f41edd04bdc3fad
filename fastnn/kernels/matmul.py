"""The dense layer's matrix products, forward and backward, on panels.

All three products are one micro-kernel, `tile`: a few rows by one panel of columns of the result
stay in registers while the inner index runs over two operands that lie in the order in which they
are read.  See ``panels`` for the format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic, kernel
from fastnn.kernels.panels import PANEL_BYTES

__all__ = [
    "AS_IT_IS",
    "BATCH_ROWS",
    "BLOCK_ROWS",
    "DEPTH",
    "DOWN_COLUMNS",
    "LINE",
    "RELU",
    "RELU_SLOPE",
    "SIGMOID_SLOPE",
    "TANH_SLOPE",
    "UNIT_ROWS",
    "column_sums",
    "gradient_tile",
    "strip",
    "tile",
]

# Rows of a tile.  Two vectors of columns, as many accumulators as the registers leave room for
# beside two vectors of B and a broadcast; a weight gradient's tile must divide a panel.
BATCH_ROWS = 8 if simd.REGISTERS == 32 else 6
UNIT_ROWS = 8 if simd.BYTES == 64 else 4

# Steps of the inner index in one turn of the loop (183 GFLOP/s against 171 with one, in cache).
_UNROLLED = 2

LINE = 64  # bytes of a cache line

# How a tile reads A: rows of a panel matrix, its inner index running along them from panel to
# panel; or columns of one panel, its inner index running down.
ALONG_ROWS = 0
DOWN_COLUMNS = 1

# What becomes of a sum before it is stored: the activations, and the derivatives with respect to
# them, that cost so little that they are done in registers.
AS_IT_IS = 0
RELU = 1
RELU_SLOPE = 2
TANH_SLOPE = 3
SIGMOID_SLOPE = 4

# A product takes so much of the inner index at a time, and so many rows, that a block of A stays
# in the second-level cache and a panel of B in the first.
DEPTH = 256
BLOCK_ROWS = 240


def _finished(finish: int, x: Any, a: Any) -> Any:
    """Do in NumPy what becomes of sums."""
    zero = x.dtype.type(0)
    if finish == RELU:
        return np.where(x < zero, zero, x)
    if finish == RELU_SLOPE:
        return np.where(a <= zero, zero, x)
    if finish == TANH_SLOPE:
        return x * (1 - a * a)
    return x * (a * (1 - a)) if finish == SIGMOID_SLOPE else x


def _tile(
    rows: int, vectors: int, reading: int, M: Any, c: int, a: int, a_panel: int, b: int, inner: int,
    start: int, start_pitch: int, finish: int, e: int, ahead: int, ahead_step: int, lines: int,
) -> None:  # fmt: skip
    """Compute one tile in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    width = panel // 2 * vectors
    for r in range(rows):
        first = start + r * start_pitch
        total = M[first : first + width].copy() if start >= 0 else M[:width] * M.dtype.type(0)
        for k in range(inner):
            if reading == ALONG_ROWS:
                factor = M[a + k // panel * a_panel + r * panel + k % panel]
            else:
                factor = M[a + k * panel + r]
            total += factor * M[b + k * panel : b + k * panel + width]
        here = slice(c + r * panel, c + r * panel + width)
        M[here] = _finished(finish, total, M[e + r * panel : e + r * panel + width])


@intrinsic(_tile)
def tile(
    typing: Any, rows: Any, vectors: Any, reading: Any, M: Any, c: Any, a: Any, a_panel: Any,
    b: Any, inner: Any, start: Any, start_pitch: Any, finish: Any, e: Any, ahead: Any,
    ahead_step: Any, lines: Any,
) -> Any:  # fmt: skip
    """Compute one tile: C(r, j) = finish(start(r, j) + sum_k A(r, k) B(k, j)).

    Reads: in M, A from a, B from b, the sums' start from start, rows start_pitch apart, or zero
    where start is negative; E from e, laid out as C, if finish needs it.
    Fetched on the way, a cache line a turn: along rows, from ahead on, ahead_step apart; down
    columns, so many lines of what is laid out as C from ahead on, and ahead_step behind it.
    Writes: rows x vectors of C from c, a panel's row apart.  May overwrite: nothing else.
    """
    height, width = rows.literal_value, vectors.literal_value
    down = reading.literal_value == DOWN_COLUMNS
    place = types.intp
    signature = types.void(rows, vectors, reading, M, *[place] * 12)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[3])
        c_at, a_at, a_step, b_at, count, start_at, pitch, ending, e_at, ahead, ahead_step, lines = (
            arguments[4:]
        )
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        panel = 2 * v.lanes
        number = simd.int64
        cells = [(r, q) for r in range(height) for q in range(width)]
        sums = {cell: simd.variable(builder, v.constant(0.0)) for cell in cells}

        with builder.if_then(builder.icmp_signed(">=", start_at, number(0))):
            for r, q in cells:
                row = builder.add(start_at, builder.mul(pitch, number(r)))
                builder.store(v.load(data, builder.add(row, number(q * v.lanes))), sums[r, q])

        a_place = simd.variable(builder, builder.gep(data, [a_at]))
        b_place = simd.variable(builder, builder.gep(data, [b_at]))
        ahead_place = simd.variable(builder, builder.gep(data, [ahead]))

        def advance(steps: int) -> None:
            at, bt = builder.load(a_place), builder.load(b_place)
            for k in range(steps):
                row = [v.load(bt, number(k * panel + q * v.lanes)) for q in range(width)]
                for r in range(height):
                    apart = k * panel + r if down else r * panel + k
                    factor = v.splat(builder.load(builder.gep(at, [number(apart)])))
                    for q in range(width):
                        builder.store(v.fma(factor, row[q], builder.load(sums[r, q])), sums[r, q])
            builder.store(builder.gep(at, [number(steps * panel if down else steps)]), a_place)
            builder.store(builder.gep(bt, [number(steps * panel)]), b_place)

        def run(steps: Any) -> None:
            turns = builder.sdiv(steps, number(_UNROLLED))
            simd.count_loop(builder, turns, lambda turn: advance(_UNROLLED))
            rest = builder.srem(steps, number(_UNROLLED))
            simd.count_loop(builder, rest, lambda turn: advance(1))

        def turn(_: Any) -> None:
            place = builder.load(ahead_place)
            simd.prefetch(builder, place, number(0), False)
            builder.store(builder.gep(place, [ahead_step]), ahead_place)
            advance(_UNROLLED)

        def cross(_: Any) -> None:
            at = builder.load(a_place)
            turns = number(panel // _UNROLLED)
            simd.count_loop(builder, turns, turn)
            builder.store(builder.gep(at, [a_step]), a_place)

        line, of_tile = LINE * 8 // v.bits, height * panel * v.bits // (8 * LINE)

        def turn_down(n: Any) -> None:
            apart = builder.mul(builder.sdiv(n, number(of_tile)), ahead_step)
            along = builder.mul(builder.srem(n, number(of_tile)), number(line))
            simd.prefetch(builder, data, builder.add(ahead, builder.add(apart, along)), False)
            advance(_UNROLLED)

        if down:
            turns = builder.sdiv(count, number(_UNROLLED))
            turns = builder.select(builder.icmp_signed("<", turns, lines), turns, lines)
            simd.count_loop(builder, turns, turn_down)
            run(builder.sub(count, builder.mul(turns, number(_UNROLLED))))
        else:
            simd.count_loop(builder, builder.sdiv(count, number(panel)), cross)
            run(builder.srem(count, number(panel)))

        def put(finish: Callable[[Any, Any], Any]) -> None:
            for r, q in cells:
                apart = number(r * panel + q * v.lanes)
                value = finish(builder.load(sums[r, q]), builder.add(e_at, apart))
                v.store(value, data, builder.add(c_at, apart))

        if down:
            put(lambda x, _: x)
        else:
            _put_finished(v, data, ending, put)
        return context.get_dummy_value()

    return signature, generate


def _put_finished(v: simd.Vectors, data: Any, ending: Any, put: Callable[..., None]) -> None:
    """Emit the stores of sums as they are finished, chosen once for all of a tile's."""
    build = v.builder
    zero, one = v.constant(0.0), v.constant(1.0)

    def relu(x: Any, _: Any) -> Any:
        # Asked this way round, NaN stays NaN, and keeps its gradient below.
        return build.select(build.fcmp_ordered("<", x, zero), zero, x)

    def relu_slope(x: Any, e: Any) -> Any:
        return build.select(build.fcmp_ordered("<=", v.load(data, e), zero), zero, x)

    def tanh_slope(x: Any, e: Any) -> Any:
        a = v.load(data, e)
        return build.fmul(x, v.fma(build.fneg(a), a, one))

    def sigmoid_slope(x: Any, e: Any) -> Any:
        a = v.load(data, e)
        return build.fmul(x, v.fma(build.fneg(a), a, a))

    after = build.append_basic_block("finished")
    plain = build.append_basic_block("plain")
    chosen = build.switch(ending, plain)
    arms = {RELU: relu, RELU_SLOPE: relu_slope, TANH_SLOPE: tanh_slope}
    for code, finish in (arms | {SIGMOID_SLOPE: sigmoid_slope}).items():
        arm = build.append_basic_block("finish")
        chosen.add_case(simd.int64(code), arm)
        build.position_at_end(arm)
        put(finish)
        build.branch(after)
    build.position_at_end(plain)
    put(lambda x, _: x)
    build.branch(after)
    build.position_at_end(after)


@kernel
def strip(
    M: Any, c: int, a: int, b: int, start: int, start_pitch: int, finish: int, e: int, height: int,
    rows: int, inner: int, columns: int, next_b: int,
) -> None:  # fmt: skip
    """Compute one panel of C = finish(A B + start) for a block of rows.

    Reads: in M, A (rows, inner) in panels of a height from a, one panel of B (inner, columns)
    from b, the start as `tile` does, a row of it for each of C's unless start_pitch is 0; E.
    The panel of B that is next, at next_b, is fetched on the way.
    Writes: C (rows, columns), one panel, rows rounded up to whole tiles of them.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    across = height * panel
    tiles = (rows + BATCH_ROWS - 1) // BATCH_ROWS
    step = min(max(_UNROLLED * panel // tiles, 1), LINE // M.itemsize)
    for i in range(0, rows * panel, BATCH_ROWS * panel):
        begin = start + i if start_pitch else start
        ahead = next_b + i // (BATCH_ROWS * panel) * (inner // _UNROLLED) * step
        if columns > panel // 2:
            tile(
                BATCH_ROWS, 2, ALONG_ROWS, M, c + i, a + i, across, b, inner, begin, start_pitch,
                finish, e + i, ahead, step, 0,
            )  # fmt: skip
        else:
            tile(
                BATCH_ROWS, 1, ALONG_ROWS, M, c + i, a + i, across, b, inner, begin, start_pitch,
                finish, e + i, ahead, step, 0,
            )  # fmt: skip


@kernel
def gradient_tile(
    M: Any, result: int, A: int, dZ: int, height: int, rows: int, i: int, j: int, outputs: int,
    start: int, ahead: int, ahead_step: int, lines: int,
) -> None:  # fmt: skip
    """Compute UNIT_ROWS rows from i, one panel of columns from j, of dW = A^T dZ + start.

    Reads: in M, A (height, inputs) and dZ (height, outputs) in panels, of which rows count; the
    start, laid out as the result, or zero where it is negative.  Fetched on the way: see `tile`.
    Writes: the tile at result, a panel's row apart.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    a = A + i // panel * panel * height + i % panel
    b = dZ + j * height
    if outputs - j > panel // 2:
        tile(
            UNIT_ROWS, 2, DOWN_COLUMNS, M, result, a, 0, b, rows, start, panel, AS_IT_IS, 0, ahead,
            ahead_step, lines,
        )  # fmt: skip
    else:
        tile(
            UNIT_ROWS, 1, DOWN_COLUMNS, M, result, a, 0, b, rows, start, panel, AS_IT_IS, 0, ahead,
            ahead_step, lines,
        )  # fmt: skip


def _column_sums(M: Any, result: int, d: int, rows: int, start: int) -> None:
    """Sum in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    total = M[d : d + rows * panel].reshape(rows, panel).sum(axis=0)
    M[result : result + panel] = total + (M[start : start + panel] if start >= 0 else 0)


@intrinsic(_column_sums)
def column_sums(typing: Any, M: Any, result: Any, d: Any, rows: Any, start: Any) -> Any:
    """Sum the columns of one panel, as four sums of every fourth row.

    Reads: in M, rows of the panel at d, and one row at start unless that is negative.
    Writes: one row of sums at result.  May overwrite: nothing else; result may be start.
    """
    signature = types.void(M, *[types.intp] * 4)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        result, d, rows, start = arguments[1:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        panel = 2 * v.lanes
        number = simd.int64
        halves = (0, v.lanes)
        sums = [[simd.variable(builder, v.constant(0.0)) for _ in range(4)] for _ in halves]
        with builder.if_then(builder.icmp_signed(">=", start, number(0))):
            for half, parts in zip(halves, sums, strict=True):
                builder.store(v.load(data, builder.add(start, number(half))), parts[0])

        def add(row: Any, count: int) -> None:
            at = builder.add(d, builder.mul(row, number(panel)))
            for n in range(count):
                for half, parts in zip(halves, sums, strict=True):
                    x = v.load(data, builder.add(at, number(n * panel + half)))
                    builder.store(builder.fadd(builder.load(parts[n]), x), parts[n])

        whole = builder.and_(rows, number(-4))
        simd.count_loop(builder, whole, lambda row: add(row, 4), step=4)
        rest = builder.sub(rows, whole)
        simd.count_loop(builder, rest, lambda row: add(builder.add(whole, row), 1))
        for half, parts in zip(halves, sums, strict=True):
            a, b, c, e = (builder.load(part) for part in parts)
            total = builder.fadd(builder.fadd(a, b), builder.fadd(c, e))
            v.store(total, data, builder.add(result, number(half)))
        return context.get_dummy_value()

    return signature, generate
