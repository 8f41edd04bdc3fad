"""Weights of half the size, for predictions: the upper halves of float32 (bfloat16), in panels.

A word of 32 bits holds two weights of one row of W: the lower half that of a column in the first
vector of a panel, the upper half that of the same column in the second one.  So a register of words
becomes two of float32 by a shift and a mask, without a shuffle, between the load and the
multiply-adds; sums are of float32.  Where few rows are computed the product is bound by the memory
that weights are read from, of which this is half.

A weight is rounded once, before it is stored; what is computed with it has the order of a tile's
sums, so that the bits are those of a network of such weights in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import intrinsic, kernel
from fastnn.kernels.blocks import TALLEST
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["product_of_halves"]

# Sums that are computed side by side, in vectors, at the least where there are columns enough: so
# many hide how long a multiply-add takes (784 x 512, one row on a Zen 3: 16 us, against 18 with
# half as many and 32 with a quarter).
_SIDE_BY_SIDE = 8

# Rows of weights by which the loop is unrolled.
_UNROLLED = 4

# The block of the inner index where several blocks of rows read a panel: it stays in the L1 cache.
_DEPTH = 256

# The bits of a word that are the second weight, and how far the first one is from there.
_UPPER = 0xFFFF0000
_SHIFT = 16


def _rows_times_halves(
    C: Any, c: int, c_pitch: int, A: Any, a: int, a_pitch: int, Q: Any, q: int, apart: int, S: Any,
    start: int, start_pitch: int, rows: int, inner: int, columns: int, floor: float,
) -> None:  # fmt: skip
    """Compute it in NumPy."""
    lanes = PANEL_BYTES // C.itemsize // 2
    for j in range(0, columns, lanes):
        words = Q[q + j // (2 * lanes) * apart :][: inner * lanes].view(np.uint32)
        bits = words & np.uint32(_UPPER) if j // lanes % 2 else words << np.uint32(_SHIFT)
        weights = bits.view(C.dtype).reshape(inner, lanes)
        for r in range(rows):
            total = S[start + r * start_pitch + j :][:lanes].copy()
            for k in range(inner):
                total += A[a + r * a_pitch + k] * weights[k]
            C[c + r * c_pitch + j :][:lanes] = np.where(total < floor, C.dtype.type(floor), total)


@intrinsic(_rows_times_halves)
def rows_times_halves(
    typing: Any, C: Any, c: Any, c_pitch: Any, A: Any, a: Any, a_pitch: Any, Q: Any, q: Any,
    apart: Any, S: Any, start: Any, start_pitch: Any, rows: Any, inner: Any, columns: Any,
    floor: Any,
) -> Any:  # fmt: skip
    """Compute C = max(A B + start, floor), at most TALLEST rows of it at a time.

    Reads: A (rows, inner) from a; B's panels of halves from q, each `apart` behind the last; the
    sums' start from start.  Rows are a pitch apart, and all rows of C start from the same one where
    start_pitch is 0.
    Writes: C (rows, columns) from c, padded to whole vectors.  May overwrite: nothing else; C may
    be the start.
    """
    place = types.intp
    operands = [part for array in (C, A, Q, S) for part in (array, place, place)]
    signature = types.void(*operands, place, place, place, types.float64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        matrices = []
        for n in (0, 3, 6, 9):
            data = simd.data_pointer(context, builder, signature.args[n], arguments[n])
            matrices += [builder.gep(data, [arguments[n + 1]]), arguments[n + 2]]
        floor = context.cast(builder, arguments[15], types.float64, C.dtype)
        values = [*matrices, *arguments[12:15], floor]
        kinds = [value.type for value in values]
        builder.call(simd.outlined(builder, "fastnn.halves", kinds, _blocks), values)
        return context.get_dummy_value()

    return signature, generate


def _blocks(
    builder: Any, c: Any, c_pitch: Any, a: Any, a_pitch: Any, q: Any, apart: Any, s: Any,
    s_pitch: Any, rows: Any, inner: Any, columns: Any, floor: Any,
) -> None:  # fmt: skip
    """Emit blocks of rows for every height."""
    v = simd.Vectors(builder, floor.type)

    def block(n: Any, done: Any, height: Any) -> None:
        result, factors, begin = (
            (builder.gep(base, [builder.mul(done, pitch)]), pitch)
            for base, pitch in ((c, c_pitch), (a, a_pitch), (s, s_pitch))
        )
        across = partial(
            _panels, v, result, factors, begin, (q, apart), inner, columns, v.splat(floor)
        )
        arms = {high: partial(across, high) for high in range(1, TALLEST + 1)}
        simd.switch(builder, height, arms)

    simd.evenly(builder, rows, TALLEST, block)


def _panels(
    v: simd.Vectors, result: Any, factors: Any, begin: Any, matrix: Any, inner: Any, columns: Any,
    low: Any, height: int,
) -> None:  # fmt: skip
    """Emit all columns of a block of some rows: some panels at a time, then one by one."""
    build, number, panel = v.builder, simd.int64, 2 * v.lanes
    together = max(1, _SIDE_BY_SIDE // 2 // height)
    sides = _Sides(v, result, factors, begin, matrix, inner, low)
    whole = number(0)
    if together > 1:
        whole = build.and_(columns, number(-panel * together))
        simd.count_loop(
            build, whole, lambda j: _strip(sides, height, together, j), step=panel * together
        )

    def last(j: Any) -> None:
        first = build.add(whole, j)
        both = build.icmp_signed(">", build.sub(columns, first), number(v.lanes))
        with build.if_else(both) as (then, otherwise):
            with then:
                _strip(sides, height, 1, first)
            with otherwise:
                _strip(sides, height, 1, first, halves=1)

    simd.count_loop(build, build.sub(columns, whole), last, step=panel)


@dataclass(frozen=True, slots=True)
class _Sides:
    """The operands of a block, each its first element and a pitch; the inner length; the floor."""

    v: simd.Vectors
    result: Any
    factors: Any
    begin: Any
    matrix: Any
    depth: Any
    low: Any


def _strip(sides: _Sides, height: int, panels: int, j: Any, halves: int = 2) -> None:
    """Emit some panels from column j on, or the first vector of one, for a block of some rows."""
    v, inner = sides.v, sides.depth
    build, number = v.builder, simd.int64
    (c, c_pitch), (a, a_pitch), (s, s_pitch) = sides.result, sides.factors, sides.begin
    q, apart = sides.matrix

    def place(row: int, pitch: Any, vector: int) -> Any:
        return build.add(build.mul(pitch, number(row)), build.add(j, number(vector * v.lanes)))

    cells = [
        (r, p, half) for r in range(height) for p in range(panels) for half in range(halves)
    ]  # fmt: skip
    sums = {
        (r, p, half): simd.variable(build, v.load(s, place(r, s_pitch, 2 * p + half)))
        for r, p, half in cells
    }
    rows = [build.gep(a, [build.mul(a_pitch, number(r))]) for r in range(height)]
    first = build.gep(q, [build.mul(build.sdiv(j, number(2 * v.lanes)), apart)])
    heads = [build.gep(first, [build.mul(apart, number(p))]) for p in range(panels)]

    def advance(k: Any, steps: int) -> None:
        for n in range(steps):
            x = [v.splat(build.load(build.gep(build.gep(row, [k]), [number(n)]))) for row in rows]
            for p, head in enumerate(heads):
                here = build.gep(head, [build.mul(k, number(v.lanes))])
                weights = _widened(v, build.gep(here, [number(n * v.lanes)]))
                for r in range(height):
                    for half in range(halves):
                        held = sums[r, p, half]
                        build.store(v.fma(x[r], weights[half], build.load(held)), held)

    whole = build.and_(inner, number(-_UNROLLED))
    simd.count_loop(build, whole, lambda k: advance(k, _UNROLLED), step=_UNROLLED)
    rest = build.sub(inner, whole)
    simd.count_loop(build, rest, lambda k: advance(build.add(whole, k), 1))
    for r, p, half in cells:
        x = build.load(sums[r, p, half])
        # With the comparison this way round, NaN stays NaN.
        x = build.select(build.fcmp_ordered("<", x, sides.low), sides.low, x)
        v.store(x, c, place(r, c_pitch, 2 * p + half))


def _widened(v: simd.Vectors, place: Any) -> tuple[Any, Any]:
    """Load a vector of words; return the weights that they hold, as two vectors."""
    build = v.builder
    words = build.load(build.bitcast(place, v.integers.as_pointer()), align=v.bits // 8)
    bits = (
        build.shl(words, v.integer_constant(_SHIFT)), build.and_(words, v.integer_constant(_UPPER))
    )  # fmt: skip
    low, high = (build.bitcast(each, v.type) for each in bits)
    return low, high


@kernel
def product_of_halves(
    C: Any, c: int, c_pitch: int, A: Any, a: int, a_pitch: int, Q: Any, row: Any, rows: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """Compute columns of Z = A W + b of some rows, and apply relu where that is the activation.

    Reads: A (rows, inputs) from a; in Q, the layer's PACKED panels of halves and its BIASES.
    Writes: C (rows, outputs) from c, from column first, where a panel begins, to before last;
    padded to whole vectors; rows are a pitch apart.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // C.itemsize
    inputs, lanes = row[codes.INPUTS], panel // 2
    apart = inputs * lanes
    lowest = 0.0 if row[codes.ACTIVATION] == codes.RELU else -np.inf
    q, biases = row[codes.PACKED] + first // panel * apart, row[codes.BIASES] + first
    if rows <= TALLEST:
        rows_times_halves(
            C, c + first, c_pitch, A, a, a_pitch, Q, q, apart, Q, biases, 0, rows, inputs,
            last - first, lowest,
        )  # fmt: skip
        return
    for k in range(0, inputs, _DEPTH):
        deep = min(_DEPTH, inputs - k)
        floor = lowest if k + deep == inputs else -np.inf
        for j in range(0, last - first, panel):
            S, start, start_pitch = Q, biases + j, 0
            if k > 0:
                S, start, start_pitch = C, c + first + j, c_pitch
            rows_times_halves(
                C, c + first + j, c_pitch, A, a + k, a_pitch, Q, q + j // panel * apart + k * lanes,
                apart, S, start, start_pitch, rows, deep, min(panel, last - first - j), floor,
            )  # fmt: skip
