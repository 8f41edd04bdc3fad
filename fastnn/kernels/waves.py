"""Learnt periodic features: ``relu(W v + b)`` of each column by itself, v its sines and cosines.

Forward, the waves of each row are noted, and back what comes back to their angles, so that the sums
of the gradient read no parameter: a thread may step some while another one sums others.  Vectors
lie in pieces within panels (`periodic.pieces`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import codes, simd, vector_math
from fastnn.kernels._jit import apart, intrinsic, kernel
from fastnn.kernels.gathers import column_at, copy_run
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["numeric_backward", "numeric_forward", "numeric_sums"]

# Only a name of the module's own counts as a literal in a kernel.
_ONE, _FOUR = 1, 4
_TURN = 2 * math.pi


def _places(M: Any, count: int, name: str, emit: Any, numbers: int = 0) -> Any:
    """Return signature and generator of an intrinsic that calls one function of M and places.

    Numbers of M's type come first.
    """
    signature = types.void(M, *[M.dtype] * numbers, *[types.intp] * count)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        kinds = [data.type, *[data.type.pointee] * numbers, *[simd.int64] * count]
        function = simd.outlined(builder, f"fastnn.{name}.{data.type.pointee}", kinds, emit)
        builder.call(function, [data, *arguments[1:]])
        return context.get_dummy_value()

    return signature, generate


def _wave(M: Any, turn: Any, to: int, c: int, k: int) -> None:
    """Compute waves in NumPy."""
    t = turn * M[c : c + k]
    M[to : to + k], M[to + k : to + 2 * k] = np.sin(t), np.cos(t)


@intrinsic(_wave)
def wave(typing: Any, M: Any, turn: Any, to: Any, c: Any, k: Any) -> Any:
    """Compute the sines, then the cosines, of ``turn c`` for k frequencies.

    Reads: in M, k numbers from c.  Writes: 2 k numbers from `to`.  May overwrite: nothing else.
    """
    return _places(M, 3, "wave", _emit_wave, numbers=1)


def _emit_wave(build: Any, data: Any, turn: Any, to: Any, c: Any, k: Any) -> None:
    """Emit it."""
    v = simd.Vectors(build, data.type.pointee)
    factor = v.splat(turn)

    def body(n: Any, mask: Any) -> None:
        t = build.fmul(factor, v.load(data, build.add(c, n), mask))
        place = build.add(to, n)
        v.store(vector_math.sin(v, t), data, place, mask)
        v.store(vector_math.cos(v, t), data, build.add(place, k), mask)

    v.over(k, body)


def _wave_slopes(M: Any, turn: Any, d: int, at: int, k: int) -> None:
    """Go back to the angles in NumPy."""
    dv, v = M[d : d + 2 * k].copy(), M[at : at + 2 * k]
    M[d : d + k] = turn * (dv[:k] * v[k:] - dv[k:] * v[:k])


@intrinsic(_wave_slopes)
def wave_slopes(typing: Any, M: Any, turn: Any, d: Any, at: Any, k: Any) -> Any:
    """Compute what comes back to k frequencies of one number from what does to its waves, at d.

    Reads: in M, 2 k waves from at, and as many derivatives from d.
    Writes: the first k of these.  May overwrite: nothing else.
    """
    return _places(M, 3, "wave_slopes", _emit_wave_slopes, numbers=1)


def _emit_wave_slopes(build: Any, data: Any, turn: Any, d: Any, at: Any, k: Any) -> None:
    """Emit it."""
    v = simd.Vectors(build, data.type.pointee)
    factor = v.splat(turn)

    def body(n: Any, mask: Any) -> None:
        here, there = build.add(d, n), build.add(at, n)
        of_sine, sine = v.load(data, here, mask), v.load(data, there, mask)
        of_cosine = v.load(data, build.add(here, k), mask)
        cosine = v.load(data, build.add(there, k), mask)
        slope = build.fsub(build.fmul(of_sine, cosine), build.fmul(of_cosine, sine))
        v.store(build.fmul(factor, slope), data, here, mask)

    v.over(k, body)


def _weighted(
    rows: int, M: Any, to: int, to_step: int, start: int, start_step: int, s: int, s_step: int,
    s_pitch: int, m: int, m_pitch: int, terms: int, count: int,
) -> None:  # fmt: skip
    """Sum in NumPy."""
    places = m + np.arange(terms)[:, np.newaxis] * m_pitch + np.arange(count)
    found = []
    for r in range(rows):
        weights = M[s + r * s_step + np.arange(terms) * s_pitch]
        sums = (weights[:, np.newaxis] * M[places]).sum(axis=0)
        found.append(M[start + r * start_step :][:count] + sums)
    for r, values in enumerate(found):
        M[to + r * to_step :][:count] = values


@intrinsic(_weighted)
def weighted(
    typing: Any, rows: Any, M: Any, to: Any, to_step: Any, start: Any, start_step: Any, s: Any,
    s_step: Any, s_pitch: Any, m: Any, m_pitch: Any, terms: Any, count: Any,
) -> Any:  # fmt: skip
    """Add weighted vectors of at most a panel to some starts: a product of few rows.

    Each number is summed in the order of the terms, however many rows there are.

    Reads: in M, for each row its start, of count numbers, and its weights, which are s_pitch apart;
    the vectors from m, m_pitch apart.  Writes: for each row count numbers, from `to`.
    May overwrite: nothing else; starts may be what is written.
    """
    wide = rows.literal_value
    signature = types.void(rows, M, *[types.intp] * 11)

    def emit(
        build: Any, data: Any, to: Any, to_step: Any, start: Any, start_step: Any, s: Any,
        s_step: Any, s_pitch: Any, m: Any, m_pitch: Any, terms: Any, count: Any,
    ) -> None:  # fmt: skip
        v = simd.Vectors(build, data.type.pointee)

        def product(masks: list[tuple[int, Any]]) -> None:
            held = []
            for r in range(wide):
                begin = build.add(start, build.mul(start_step, simd.int64(r)))
                held.append([
                    simd.variable(build, v.load(data, build.add(begin, simd.int64(half)), mask))
                    for half, mask in masks
                ])  # fmt: skip

            def term(n: Any) -> None:
                at = build.add(m, build.mul(n, m_pitch))
                x = [v.load(data, build.add(at, simd.int64(half)), mask) for half, mask in masks]
                weight = build.add(s, build.mul(n, s_pitch))
                for r, sums in enumerate(held):
                    place = build.add(weight, build.mul(s_step, simd.int64(r)))
                    factor = v.splat(build.load(build.gep(data, [place])))
                    for one, total in zip(x, sums, strict=True):
                        build.store(v.fma(factor, one, build.load(total)), total)

            simd.count_loop(build, terms, term)
            for r, sums in enumerate(held):
                end = build.add(to, build.mul(to_step, simd.int64(r)))
                for (half, mask), total in zip(masks, sums, strict=True):
                    place = build.add(end, simd.int64(half))
                    v.store(build.load(total), data, place, mask)

        lanes = simd.int64(v.lanes)
        first, second = v.first_lanes(count), v.first_lanes(count, skipped=v.lanes)
        with build.if_else(build.icmp_signed(">", count, lanes)) as (two, one):
            with two:
                product([(0, None), (v.lanes, second)])
            with one:
                product([(0, first)])

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[1])
        kinds = [data.type, *[simd.int64] * 11]
        name = f"fastnn.weighted.{wide}.{data.type.pointee}"
        builder.call(simd.outlined(builder, name, kinds, emit), [data, *arguments[2:]])
        return context.get_dummy_value()

    return signature, generate


def _rectify(M: Any, to: int, a: int, count: int) -> None:
    """Rectify in NumPy."""
    here = M[to : to + count]
    M[to : to + count] = np.where(M[a : a + count] <= 0, M.dtype.type(0), here)


@intrinsic(_rectify)
def rectify(typing: Any, M: Any, to: Any, a: Any, count: Any) -> Any:
    """Write 0 over numbers where others, at a, which may be the same, are not above 0.

    Reads: in M, count numbers from a.  Reads and writes: as many from `to`.
    May overwrite: nothing else.
    """
    return _places(M, 3, "rectify", _emit_rectify)


def _emit_rectify(build: Any, data: Any, to: Any, a: Any, count: Any) -> None:
    """Emit it."""
    v = simd.Vectors(build, data.type.pointee)
    zero = v.constant(0.0)

    def body(n: Any, mask: Any) -> None:
        place = build.add(to, n)
        nothing = build.fcmp_ordered("<=", v.load(data, build.add(a, n), mask), zero)
        kept = build.select(nothing, zero, v.load(data, place, mask))
        v.store(kept, data, place, mask)

    v.over(count, body)


@kernel
def weighted_rows(
    M: Any, to: int, to_step: int, start: int, start_step: int, s: int, s_step: int, s_pitch: int,
    m: int, m_pitch: int, terms: int, count: int, rows: int,
) -> None:  # fmt: skip
    """Add weighted vectors to any number of starts; see `weighted`."""
    r = 0
    while r + _FOUR <= rows:
        weighted(
            _FOUR, M, to + r * to_step, to_step, start + r * start_step, start_step, s + r * s_step,
            s_step, s_pitch, m, m_pitch, terms, count,
        )  # fmt: skip
        r += _FOUR
    while r < rows:
        weighted(
            _ONE, M, to + r * to_step, to_step, start + r * start_step, start_step, s + r * s_step,
            s_step, s_pitch, m, m_pitch, terms, count,
        )  # fmt: skip
        r += 1


@kernel
def turn_weights(M: Any, to: int, w: int, rows: int, pitch: int, count: int) -> None:
    """Transpose some columns of a matrix.

    Reads: in M, count numbers of each of some rows from w, pitch apart.
    Writes: as many rows of theirs from `to`.  May overwrite: nothing else.
    """
    for n in range(count):
        for f in range(rows):
            M[to + n * rows + f] = M[w + f * pitch + n]


@apart
def numeric_forward(M: Any, row: Any, integers: Any, height: int, first: int, last: int) -> None:
    """Compute the vectors of some rows' numbers, and copy the columns that pass.

    Reads: the operation's source and span; integers from its `pieces` on.
    Writes: its result; in `scratch`, for each row the waves of its columns, and a 1 at the end.
    May overwrite: these rows of `scratch`.
    """
    panel = PANEL_BYTES // M.itemsize
    head = row.pieces
    columns, k, d = integers[head], integers[head + 1], integers[head + 2]
    pitch = 4 * k * columns + 1
    W, B = row.packed + columns * k, row.packed + columns * k * (1 + 2 * d)
    turn = M.dtype.type(_TURN)
    for j in range(columns):
        source = column_at(row.source, j, height, panel)
        for i in range(first, last):
            x = M[source + i * panel]
            wave(M, turn * x, row.scratch + i * pitch + j * 2 * k, row.packed + j * k, k)
    for i in range(first, last):
        M[row.scratch + i * pitch + pitch - 1] = M.dtype.type(1)
    for p in range(1, row.piece_count):
        at = head + p * codes.P_COLUMNS
        count, column = integers[at + codes.P_COUNT], integers[at + codes.P_FROM]
        to = column_at(row.result, integers[at + codes.P_TO], height, panel)
        if integers[at + codes.P_SIZE] == 0:
            source = column_at(row.source, column, height, panel)
            for i in range(first, last):
                copy_run(M, to + i * panel, M, source + i * panel, count)
            continue
        skipped = integers[at + codes.P_START]
        weighted_rows(
            M, to + first * panel, panel, B + column * d + skipped, 0 * d,
            row.scratch + first * pitch + column * 2 * k, pitch, 1 + 0 * d,
            W + column * 2 * k * d + skipped, d, 2 * k, count, last - first,
        )  # fmt: skip
        for i in range(first, last):
            rectify(M, to + i * panel, to + i * panel, count)


@apart
def numeric_backward(M: Any, row: Any, integers: Any, height: int, first: int, last: int) -> None:
    """Compute what comes back to the frequencies, of some rows, and to the columns that pass.

    Reads: what `numeric_forward` read and wrote.  Reads and writes: the operation's `dresult`, of
    which relu's part is set to 0.  Writes: in `scratch`, behind the waves of each row, what comes
    back to each frequency; of `dsource`, if the operation has one, the columns that pass: nothing
    reads the others.  May overwrite: these rows of `scratch` behind the waves, and room behind all
    rows that only these have.
    """
    panel = PANEL_BYTES // M.itemsize
    head = row.pieces
    columns, k, d = integers[head], integers[head + 1], integers[head + 2]
    pitch, waves, one = 4 * k * columns + 1, 2 * k * columns, 1 + 0 * d
    W = row.packed + columns * k
    turn = M.dtype.type(_TURN)
    # Room for a column's transposed weights: for each four rows, of which a thread has some.
    turned = row.scratch + height * pitch + first * ((2 * k * d + 3) // 4)
    for p in range(1, row.piece_count):
        at = head + p * codes.P_COLUMNS
        count, column = integers[at + codes.P_COUNT], integers[at + codes.P_FROM]
        slope = column_at(row.dresult, integers[at + codes.P_TO], height, panel)
        if integers[at + codes.P_SIZE] == 0:
            if row.dsource >= 0:
                to = column_at(row.dsource, column, height, panel)
                for i in range(first, last):
                    copy_run(M, to + i * panel, M, slope + i * panel, count)
            continue
        result = column_at(row.result, integers[at + codes.P_TO], height, panel)
        skipped = integers[at + codes.P_START]
        source = column_at(row.source, column, height, panel)
        noted = row.scratch + column * 2 * k
        turn_weights(M, turned, W + column * 2 * k * d + skipped, 2 * k, d, count)
        for i in range(first, last):
            rectify(M, slope + i * panel, result + i * panel, count)
            if skipped == 0:
                for n in range(2 * k):
                    M[noted + i * pitch + waves + n] = M.dtype.type(0)
        for f in range(0, 2 * k, panel):
            to = noted + first * pitch + waves + f
            weighted_rows(
                M, to, pitch, to, pitch, slope + first * panel, panel, one, turned + f, 2 * k,
                count, min(panel, 2 * k - f), last - first,
            )  # fmt: skip
        if skipped + count == d:
            for i in range(first, last):
                here = noted + i * pitch
                wave_slopes(M, turn * M[source + i * panel], here + waves, here, k)


@kernel
def numeric_sums(
    M: Any, row: Any, integers: Any, height: int, rows: int, low: int, high: int, result: int
) -> None:
    """Add what comes back to some elements of the operation's span, from low to before high.

    Each element is added to in the order of rows.

    Reads: the operation's `scratch` and `dresult`, as `numeric_backward` left them; integers from
    its `pieces` on.  Reads and writes: the sums, from result on.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    head = row.pieces
    columns, k, d = integers[head], integers[head + 1], integers[head + 2]
    pitch, waves = 4 * k * columns + 1, 2 * k * columns
    zero, one = 0 * d, row.scratch + pitch - 1
    place = low
    while place < min(high, columns * k):
        # Frequencies, as many as lie in a row of notes and make no more than a panel.
        j, f = place // k, place % k
        count = min(min(k - f, panel), min(high, columns * k) - place)
        to = result + place - low
        noted = row.scratch + waves + j * 2 * k + f
        weighted_rows(M, to, zero, to, zero, one, zero, pitch, noted, pitch, rows, count, zero + 1)
        place += count
    biases = columns * k * (1 + 2 * d)
    for p in range(1, row.piece_count):
        at = head + p * codes.P_COLUMNS
        if integers[at + codes.P_SIZE] == 0:
            continue
        width, column = integers[at + codes.P_COUNT], integers[at + codes.P_FROM]
        skipped = integers[at + codes.P_START]
        slope = column_at(row.dresult, integers[at + codes.P_TO], height, panel)
        noted = row.scratch + column * 2 * k
        begin = columns * k + column * 2 * k * d + skipped
        f = max((low - begin - width) // d + 1, 0) if begin + width <= low else zero
        while f < 2 * k and begin + f * d < high:
            here = begin + f * d
            cut, end = max(low - here, 0), min(width, high - here)
            whole = zero + 1
            if cut == 0 and end == width:
                # As many whole ones as there are before the end.
                whole = min(2 * k - f, max((high - here - width) // d + 1, 1))
            if cut < end:
                to = result + here + cut - low
                weighted_rows(
                    M, to, d, to, d, noted + f, zero + 1, pitch, slope + cut, panel, rows,
                    end - cut, whole,
                )  # fmt: skip
            f += whole
        here = biases + column * d + skipped
        cut, end = max(low - here, 0), min(width, high - here)
        if cut < end:
            to = result + here + cut - low
            weighted_rows(
                M, to, zero, to, zero, one, zero, pitch, slope + cut, panel, rows, end - cut,
                zero + 1,
            )  # fmt: skip
