"""Products of some rows on unpacked matrices, in register blocks.

Packing a network's weights takes as long as predicting dozens of rows.  Here a block of a few rows
by two vectors of columns stays in registers while the inner index runs over row-major matrices of
any stride.  Every sum has the same order as in a tile (`micro_kernels`) or in `narrow`, so that the
bits are the same whichever kernel computes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import intrinsic
from fastnn.kernels.micro_kernels import LINE
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["TALLEST", "copy_rows", "rows_times_few", "rows_times_strip"]

# Rows of the tallest block.  Rows are divided evenly into blocks, and every height has a loop of
# its own, so that no padding rows are computed: 9 rows, as 5 and 4, take 9/8 of the time of 8, not
# twice that.
TALLEST = 8 if simd.REGISTERS == 32 else 6

# From this height on a block is bound by its instructions, lower ones by memory.  Counting turns
# and prefetching are a fifth of them, which a core of one's own hides, and one whose other hardware
# thread is busy does not.  So turns are unrolled (64 rows by 784-512-512-10 on such a core of a
# Zen 3: 0.8 of the time), and only the first block of a strip prefetches the columns to its right,
# where the next strip begins: those of packed weights come by themselves.
_TALL = 4
_UNROLLED = 4

# Rows whose sums over few outputs are accumulated together, at most as many as a vector has lanes.
_TOGETHER = 4

NARROW_ROWS = codes.NARROW_ROWS


def _rows_times_strip(
    vectors: int, C: Any, c: int, c_pitch: int, A: Any, a: int, a_pitch: int, B: Any, b: int,
    b_pitch: int, S: Any, start: int, start_pitch: int, rows: int, inner: int, floor: float,
) -> None:  # fmt: skip
    """Compute it in NumPy."""
    width = PANEL_BYTES // C.itemsize // 2 * vectors
    for r in range(rows):
        total = S[start + r * start_pitch :][:width].copy()
        for k in range(inner):
            total += A[a + r * a_pitch + k] * B[b + k * b_pitch :][:width]
        C[c + r * c_pitch :][:width] = np.where(total < floor, C.dtype.type(floor), total)


@intrinsic(_rows_times_strip)
def rows_times_strip(
    typing: Any, vectors: Any, C: Any, c: Any, c_pitch: Any, A: Any, a: Any, a_pitch: Any, B: Any,
    b: Any, b_pitch: Any, S: Any, start: Any, start_pitch: Any, rows: Any, inner: Any, floor: Any,
) -> Any:  # fmt: skip
    """Compute a strip of C = max(A B + start, floor), one or two vectors wide.

    Reads: A (rows, inner) from a, the strip of B (inner, ...) from b, the sums' start from start;
    rows are a pitch apart, and all rows of C start from the same one where start_pitch is 0.
    Writes: the strip of C from c.  May overwrite: nothing else; C may be the start.
    """
    place = types.intp
    operands = [part for array in (C, A, B, S) for part in (array, place, place)]
    signature = types.void(place, *operands, place, place, types.float64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        element = context.get_data_type(C.dtype)
        matrices = []
        for n in (1, 4, 7, 10):
            data = simd.data_pointer(context, builder, signature.args[n], arguments[n])
            matrices += [builder.gep(data, [arguments[n + 1]]), arguments[n + 2]]
        floor = context.cast(builder, arguments[15], types.float64, C.dtype)
        values = [arguments[0], *matrices, *arguments[13:15], floor]
        kinds = [value.type for value in values]
        name = f"fastnn.rows_times_strip.{element}"
        builder.call(simd.outlined(builder, name, kinds, _strip_of_blocks), values)
        return context.get_dummy_value()

    return signature, generate


def _strip_of_blocks(
    builder: Any, vectors: Any, c: Any, c_pitch: Any, a: Any, a_pitch: Any, b: Any, b_pitch: Any,
    s: Any, s_pitch: Any, rows: Any, inner: Any, floor: Any,
) -> None:  # fmt: skip
    """Emit all blocks of a strip, of either width."""
    v = simd.Vectors(builder, floor.type)
    number = simd.int64

    def strip(width: int) -> None:
        def block(n: Any, done: Any, height: Any) -> None:
            result, factors, begin = (
                (builder.gep(base, [builder.mul(done, pitch)]), pitch)
                for base, pitch in ((c, c_pitch), (a, a_pitch), (s, s_pitch))
            )

            def arm(shape: _Shape) -> None:
                _block(v, shape, result, factors, begin, (b, b_pitch), inner, floor)

            arms = {h: partial(arm, _Shape(h, width, False)) for h in range(1, TALLEST + 1)}
            for h in range(_TALL, TALLEST + 1):
                arms[h + TALLEST] = partial(arm, _Shape(h, width, True))
            fetching = builder.and_(
                builder.icmp_signed("==", n, number(0)),
                builder.and_(
                    builder.icmp_signed(">=", height, number(_TALL)),
                    builder.icmp_signed("!=", b_pitch, number(2 * v.lanes)),
                ),
            )
            shift = builder.select(fetching, number(TALLEST), number(0))
            simd.switch(builder, builder.add(height, shift), arms)

        simd.evenly(builder, rows, TALLEST, block)

    simd.switch(builder, vectors, {width: partial(strip, width) for width in (1, 2)})


@dataclass(frozen=True, slots=True)
class _Shape:
    """Rows of a block, vectors in a row, and whether it prefetches the columns to its right."""

    height: int
    width: int
    fetching: bool


def _block(
    v: simd.Vectors, shape: _Shape, result: Any, factors: Any, begin: Any, matrix: Any, inner: Any,
    floor: Any,
) -> None:  # fmt: skip
    """Emit one block, whose operands are given by their first element and the pitch of rows."""
    build, number, height, width = v.builder, simd.int64, shape.height, shape.width
    (c, c_pitch), (a, a_pitch), (s, s_pitch), (b, b_pitch) = result, factors, begin, matrix
    across = width * v.lanes * v.bits // 8

    def place(row: Any, pitch: Any, q: int) -> Any:
        return build.add(build.mul(pitch, number(row)), number(q * v.lanes))

    cells = [(r, q) for r in range(height) for q in range(width)]
    sums = {(r, q): simd.variable(build, v.load(s, place(r, s_pitch, q))) for r, q in cells}
    rows = [build.gep(a, [build.mul(a_pitch, number(r))]) for r in range(height)]
    here = simd.variable(build, b)

    def advance(k: Any, steps: int) -> None:
        row = build.load(here)
        for n in range(steps):
            w = [v.load(row, number(q * v.lanes)) for q in range(width)]
            if shape.fetching:
                for line in range(across, 2 * across, LINE):
                    simd.prefetch(build, row, number(line * 8 // v.bits))
            for r in range(height):
                # The constant last, so that it becomes part of the instruction.
                factor = v.splat(build.load(build.gep(build.gep(rows[r], [k]), [number(n)])))
                for q in range(width):
                    held = sums[r, q]
                    build.store(v.fma(factor, w[q], build.load(held)), held)
            row = build.gep(row, [b_pitch])
        build.store(row, here)

    steps = _UNROLLED if height >= _TALL and width > 1 else 1
    whole = build.and_(inner, number(-steps))
    simd.count_loop(build, whole, lambda k: advance(k, steps), step=steps)
    if steps > 1:
        rest = build.sub(inner, whole)
        simd.count_loop(build, rest, lambda k: advance(build.add(whole, k), 1))
    low = v.splat(floor)
    for r, q in cells:
        x = build.load(sums[r, q])
        # With the comparison this way round, NaN stays NaN.
        x = build.select(build.fcmp_ordered("<", x, low), low, x)
        v.store(x, c, place(r, c_pitch, q))


def _rows_times_few(
    C: Any, c: int, c_pitch: int, A: Any, a: int, a_pitch: int, Q: Any, w: int, bias: int,
    rows: int, inner: int, columns: int,
) -> None:  # fmt: skip
    """Compute it in NumPy, as `narrow.dots` does there."""
    panel = PANEL_BYTES // Q.itemsize
    for r in range(rows):
        for q in range(columns):
            total = Q[bias + q]
            for k in range(0, inner, panel):
                width = min(panel, inner - k)
                part = A[a + r * a_pitch + k :][:width]
                total += (part * Q[w + k * NARROW_ROWS + q * panel :][:width]).sum()
            C[c + r * c_pitch + q] = total


@intrinsic(_rows_times_few)
def rows_times_few(
    typing: Any, C: Any, c: Any, c_pitch: Any, A: Any, a: Any, a_pitch: Any, Q: Any, w: Any,
    bias: Any, rows: Any, inner: Any, columns: Any,
) -> Any:  # fmt: skip
    """Compute C = A B + bias of few columns, in the order of `narrow.dots`.

    Reads: A (rows, inner) from a; in Q, B's transpose as `narrow.pack_narrow` packs it from w,
    and bias (columns,).  Rows are a pitch apart.
    Writes: C (rows, columns) from c.  May overwrite: nothing else.
    """
    place = types.intp
    operands = [part for array in (C, A, Q) for part in (array, place, place)]
    signature = types.void(*operands, place, place, place)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        c_data, a_data, data = (
            simd.data_pointer(context, builder, signature.args[n], arguments[n]) for n in (0, 3, 6)
        )
        c, c_pitch, a, a_pitch, w, bias, rows, inner, columns = (
            arguments[n] for n in (1, 2, 4, 5, 7, 8, 9, 10, 11)
        )
        v = simd.Vectors(builder, context.get_data_type(C.dtype))
        number, zero = simd.int64, v.constant(0.0)
        panel, together = 2 * v.lanes, min(_TOGETHER, v.lanes)
        last = builder.sub(rows, number(1))

        def some(first: Any) -> None:
            # Rows past the end are replaced by the last one, whose results are written again.
            chosen = []
            for r in range(together):
                row = builder.add(first, number(r))
                inside = builder.icmp_signed("<", row, last)
                chosen.append(builder.select(inside, row, last))
            starts = [builder.add(a, builder.mul(row, a_pitch)) for row in chosen]

            def column(q: Any) -> None:
                sums = [simd.variable(builder, zero) for _ in chosen]
                mine = builder.add(w, builder.mul(q, number(panel)))

                def add(k: Any, mask: Any) -> None:
                    whole = builder.and_(k, number(-panel))
                    along = builder.add(builder.mul(whole, number(NARROW_ROWS - 1)), k)
                    factors = v.load(data, builder.add(mine, along))
                    for start, total in zip(starts, sums, strict=True):
                        x = v.load(a_data, builder.add(start, k), mask)
                        builder.store(v.fma(x, factors, builder.load(total)), total)

                v.over(inner, add)
                found = v.sums([builder.load(total) for total in sums])
                found = builder.fadd(
                    found, v.splat(builder.load(builder.gep(data, [builder.add(bias, q)])))
                )
                to = builder.add(c, q)
                for r, row in enumerate(chosen):
                    x = builder.extract_element(found, simd.int32(r))
                    at = builder.add(to, builder.mul(row, c_pitch))
                    builder.store(x, builder.gep(c_data, [at]))

            simd.count_loop(builder, columns, column)

        simd.count_loop(builder, rows, some, step=together)
        return context.get_dummy_value()

    return signature, generate


def _copy_rows(
    T: Any, to: int, to_pitch: int, A: Any, a: int, a_pitch: int, rows: int, columns: int,
    filled: bool,
) -> None:  # fmt: skip
    """Copy in NumPy."""
    lanes = PANEL_BYTES // A.itemsize // 2
    for r in range(rows):
        target = T[to + r * to_pitch :]
        if filled:
            target[: -(-columns // lanes) * lanes] = 0
        target[:columns] = A[a + r * a_pitch :][:columns]


@intrinsic(_copy_rows)
def copy_rows(
    typing: Any, T: Any, to: Any, to_pitch: Any, A: Any, a: Any, a_pitch: Any, rows: Any,
    columns: Any, filled: Any,
) -> Any:  # fmt: skip
    """Copy a matrix from rows of one pitch to rows of another.

    Reads: A (rows, columns) from a.  Writes: T from to, and, where it is to be padded, zeros up to
    whole vectors.  May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(T, place, place, A, place, place, place, place, types.boolean)

    def body(builder: Any, target: Any, apart: Any, source: Any, pitch: Any, rows: Any,
             columns: Any, filled: Any) -> None:  # fmt: skip
        v = simd.Vectors(builder, target.type.pointee)
        whole = builder.and_(columns, simd.int64(-v.lanes))
        mask = v.first_lanes(builder.sub(columns, whole))
        ragged = builder.icmp_signed("<", whole, columns)

        def row(r: Any) -> None:
            start = builder.gep(source, [builder.mul(r, pitch)])
            end = builder.gep(target, [builder.mul(r, apart)])

            def move(k: Any) -> None:
                v.store(v.load(start, k), end, k)

            simd.count_loop(builder, whole, move, step=v.lanes)
            with builder.if_then(ragged):
                x = v.load(start, whole, mask)
                with builder.if_else(filled) as (all_lanes, some_lanes):
                    with all_lanes:
                        v.store(x, end, whole)
                    with some_lanes:
                        v.store(x, end, whole, mask)

        simd.count_loop(builder, rows, row)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        element = context.get_data_type(T.dtype)
        target = simd.data_pointer(context, builder, T, arguments[0])
        source = simd.data_pointer(context, builder, A, arguments[3])
        filled = builder.icmp_unsigned("!=", arguments[8], arguments[8].type(0))
        values = [
            builder.gep(target, [arguments[1]]), arguments[2],
            builder.gep(source, [arguments[4]]), arguments[5], *arguments[6:8], filled,
        ]  # fmt: skip
        kinds = [value.type for value in values]
        name = f"fastnn.copy_rows.{element}"
        builder.call(simd.outlined(builder, name, kinds, body), values)
        return context.get_dummy_value()

    return signature, generate
