"""The micro-kernels of the dense layer's products: one tile of a result, in registers.

A tile (register block), a few rows by one panel of columns of the result, stays in registers while
the inner index runs over two packed operands.  `tile` reads A along rows, `column_tile` down
columns.  See ``panels`` for the format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic
from fastnn.kernels.panels import PANEL_BYTES, shared_columns

__all__ = [
    "AS_IT_IS",
    "BATCH_ROWS",
    "LINE",
    "RELU",
    "RELU_SLOPE",
    "SIGMOID_SLOPE",
    "TANH_SLOPE",
    "UNIT_ROWS",
    "UNROLLED",
    "column_tile",
    "tile",
]

# Rows of a tile, examples or inputs, by two vectors of columns: of 16 registers, 12 accumulators
# leave room for two vectors of B and a broadcast; of 32, more than 16 accumulators gained nothing.
BATCH_ROWS = 8 if simd.REGISTERS == 32 else 6
UNIT_ROWS = BATCH_ROWS

# Unrolling of the inner loop (183 GFLOP/s against 171 without, in cache).
UNROLLED = 2

LINE = 64  # bytes of a cache line

# Epilogues: what is done to a sum in its register before it is stored; the activations and the
# derivatives that are cheap enough.
AS_IT_IS = 0
RELU = 1
RELU_SLOPE = 2
TANH_SLOPE = 3
SIGMOID_SLOPE = 4


def _finished(finish: int, x: Any, a: Any) -> Any:
    """Apply an epilogue in NumPy."""
    zero = x.dtype.type(0)
    if finish == RELU:
        return np.where(x < zero, zero, x)
    if finish == RELU_SLOPE:
        return np.where(a <= zero, zero, x)
    if finish == TANH_SLOPE:
        return x * (1 - a * a)
    return x * (a * (1 - a)) if finish == SIGMOID_SLOPE else x


def _tile(
    rows: int, vectors: int, M: Any, c: int, a: int, a_panel: int, b: int, inner: int, start: int,
    start_pitch: int, finish: int, e: int, ahead: int, ahead_step: int,
) -> None:  # fmt: skip
    """Compute one tile in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    width = panel // 2 * vectors
    for r in range(rows):
        total = _beginning(M, width, start, r * start_pitch)
        for k in range(inner):
            factor = M[a + k // panel * a_panel + r * panel + k % panel]
            total += factor * M[b + k * panel : b + k * panel + width]
        here = slice(c + r * panel, c + r * panel + width)
        M[here] = _finished(finish, total, M[e + r * panel : e + r * panel + width])


@intrinsic(_tile)
def tile(
    typing: Any, rows: Any, vectors: Any, M: Any, c: Any, a: Any, a_panel: Any, b: Any, inner: Any,
    start: Any, start_pitch: Any, finish: Any, e: Any, ahead: Any, ahead_step: Any,
) -> Any:  # fmt: skip
    """Compute one tile: C(r, j) = finish(start(r, j) + sum_k A(r, k) B(k, j)).

    Reads: in M, rows of A from a, its panels a_panel apart; B from b; the sums' start from start,
    rows start_pitch apart, or zero where start is negative; E from e, laid out as C, if finish
    needs it.  Prefetches one cache line per iteration, from ahead on, ahead_step apart.
    Writes: rows x vectors of C from c, a panel's row apart.  May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(rows, vectors, M, *[place] * 11)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[2])
        c, a, a_panel, b, inner, start, pitch, finish, e, ahead, ahead_step = arguments[3:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        sums = _Sums(v, data, rows.literal_value, vectors.literal_value)
        sums.begin(start, pitch)
        panel, number = sums.panel, simd.int64
        a_place = simd.variable(builder, builder.gep(data, [a]))
        b_place = simd.variable(builder, builder.gep(data, [b]))
        ahead_place = simd.variable(builder, builder.gep(data, [ahead]))

        def advance(steps: int) -> None:
            at, bt = builder.load(a_place), builder.load(b_place)
            for k in range(steps):
                places = [builder.gep(at, [number(r * panel + k)]) for r in range(sums.height)]
                sums.add(places, bt, k)
            builder.store(builder.gep(at, [number(steps)]), a_place)
            builder.store(builder.gep(bt, [number(steps * panel)]), b_place)

        def turn(_: Any) -> None:
            place = builder.load(ahead_place)
            simd.prefetch(builder, place, number(0))
            builder.store(builder.gep(place, [ahead_step]), ahead_place)
            advance(UNROLLED)

        def cross(_: Any) -> None:
            at = builder.load(a_place)
            simd.count_loop(builder, number(panel // UNROLLED), turn)
            builder.store(builder.gep(at, [a_panel]), a_place)

        simd.count_loop(builder, builder.sdiv(inner, number(panel)), cross)
        _in_turns(builder, builder.srem(inner, number(panel)), advance)
        _put_finished(v, data, finish, lambda how: sums.put(c, how, e))
        return context.get_dummy_value()

    return signature, generate


def _column_tile(
    rows: int, vectors: int, M: Any, c: int, a: int, near: int, apart: int, b: int, inner: int,
    start: int, ahead: int, ahead_step: int, lines: int,
) -> None:  # fmt: skip
    """Compute one tile in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    width = panel // 2 * vectors
    for r in range(rows):
        total = _beginning(M, width, start, r * panel)
        column = a + r + (apart if r >= near else 0)
        for k in range(inner):
            total += M[column + k * panel] * M[b + k * panel : b + k * panel + width]
        M[c + r * panel : c + r * panel + width] = total


@intrinsic(_column_tile)
def column_tile(
    typing: Any, rows: Any, vectors: Any, M: Any, c: Any, a: Any, near: Any, apart: Any, b: Any,
    inner: Any, start: Any, ahead: Any, ahead_step: Any, lines: Any,
) -> Any:  # fmt: skip
    """Compute one tile: C(r, j) = start(r, j) + sum_k A(k, r) B(k, j).

    Reads: in M, columns of a panel of A: columns 0 to near - 1 from a, the rest `apart` elements
    further on (in the next panel); near is a multiple of `shared_columns`.  B from b; the sums'
    start from start, laid out as C, or zero where it is negative.  Prefetches so many cache lines
    of tiles laid out as C, from ahead on, ahead_step apart.
    Writes: rows x vectors of C from c, a panel's row apart.  May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(rows, vectors, M, *[place] * 10)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[2])
        c, a, near, apart, b, inner, start, ahead, ahead_step, lines = arguments[3:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        sums = _Sums(v, data, rows.literal_value, vectors.literal_value)
        panel, number = sums.panel, simd.int64
        sums.begin(start, number(panel))
        some = shared_columns(sums.height, panel)
        runs = []
        for r in range(0, sums.height, some):
            there = builder.icmp_signed(">=", number(r), near)
            shift = builder.add(number(r), builder.select(there, apart, number(0)))
            runs.append(simd.variable(builder, builder.gep(data, [builder.add(a, shift)])))
        b_place = simd.variable(builder, builder.gep(data, [b]))

        def advance(steps: int) -> None:
            at, bt = [builder.load(run) for run in runs], builder.load(b_place)
            for k in range(steps):
                places = [
                    builder.gep(at[r // some], [number(k * panel + r % some)])
                    for r in range(sums.height)
                ]
                sums.add(places, bt, k)
            for here, held in zip((*at, bt), (*runs, b_place), strict=True):
                builder.store(builder.gep(here, [number(steps * panel)]), held)

        line, of_tile = LINE * 8 // v.bits, sums.height * panel * v.bits // (8 * LINE)

        def turn(n: Any) -> None:
            further = builder.mul(builder.sdiv(n, number(of_tile)), ahead_step)
            along = builder.mul(builder.srem(n, number(of_tile)), number(line))
            simd.prefetch(builder, data, builder.add(ahead, builder.add(further, along)))
            advance(UNROLLED)

        turns = builder.sdiv(inner, number(UNROLLED))
        turns = builder.select(builder.icmp_signed("<", turns, lines), turns, lines)
        simd.count_loop(builder, turns, turn)
        _in_turns(builder, builder.sub(inner, builder.mul(turns, number(UNROLLED))), advance)
        sums.put(c)
        return context.get_dummy_value()

    return signature, generate


def _beginning(M: Any, width: int, start: int, apart: int) -> Any:
    """Return the initial sums of a row, in NumPy."""
    if start < 0:
        return M[:width] * M.dtype.type(0)
    return M[start + apart : start + apart + width].copy()


class _Sums:
    """The accumulators of a tile, in registers, bound to a builder.

    Parameters
    ----------
    v : Vectors
        Of the accumulators.
    data : LLVM value
        Where all operands begin.
    height, width : int
        Rows of the tile, and vectors in a row.
    """

    def __init__(self, v: simd.Vectors, data: Any, height: int, width: int) -> None:
        self.height, self.width, self.panel = height, width, 2 * v.lanes
        self._v, self._data, self._build = v, data, v.builder
        cells = [(r, q) for r in range(height) for q in range(width)]
        self._held = {cell: simd.variable(v.builder, v.constant(0.0)) for cell in cells}

    def begin(self, start: Any, pitch: Any) -> None:
        """Load their initial values, rows pitch apart; zero where start is negative."""
        build, number = self._build, simd.int64
        with build.if_then(build.icmp_signed(">=", start, number(0))):
            for (r, q), held in self._held.items():
                row = build.add(start, build.mul(pitch, number(r)))
                x = self._v.load(self._data, build.add(row, number(q * self._v.lanes)))
                build.store(x, held)

    def add(self, factors: Sequence[Any], b: Any, k: int) -> None:
        """Add each row's factor, which is at a place, times the row k of B."""
        v, build = self._v, self._build
        row = [v.load(b, simd.int64(k * self.panel + q * v.lanes)) for q in range(self.width)]
        for r, place in enumerate(factors):
            factor = v.splat(build.load(place))
            for q in range(self.width):
                held = self._held[r, q]
                build.store(v.fma(factor, row[q], build.load(held)), held)

    def put(self, c: Any, finish: Callable[[Any, Any], Any] | None = None, e: Any = None) -> None:
        """Store them from c, as they are or as finish makes them of each and its place in E."""
        build, v = self._build, self._v
        for (r, q), held in self._held.items():
            apart = simd.int64(r * self.panel + q * v.lanes)
            value = build.load(held)
            if finish is not None:
                value = finish(value, build.add(e, apart))
            v.store(value, self._data, build.add(c, apart))


def _in_turns(builder: Any, steps: Any, advance: Callable[[int], None]) -> None:
    """Emit the loop over the inner index, unrolled, and its remainder."""
    turns = builder.sdiv(steps, simd.int64(UNROLLED))
    simd.count_loop(builder, turns, lambda turn: advance(UNROLLED))
    rest = builder.srem(steps, simd.int64(UNROLLED))
    simd.count_loop(builder, rest, lambda turn: advance(1))


def _put_finished(v: simd.Vectors, data: Any, ending: Any, put: Callable[[Any], None]) -> None:
    """Emit the stores, with the epilogue; the switch is outside, once per tile."""
    build = v.builder
    zero, one = v.constant(0.0), v.constant(1.0)

    def relu(x: Any, _: Any) -> Any:
        # With the comparison this way round, NaN stays NaN, and passes its gradient below.
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
    put(None)
    build.branch(after)
    build.position_at_end(after)
