"""Sparse examples: the first layer's products over their non-zero entries alone.

A sum over the inputs runs over a row's entries in the order of their columns, and a weight's
gradient over the rows in their order, as in the products of dense examples, where a zero term adds
nothing.  So the bits are those of the same examples stored densely, except for signs of zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import cgutils, types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import intrinsic
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["narrow_sums", "narrow_turned_tile", "row_sums", "turned_tile"]

# Numba's helpers carry no types.
_cgutils: Any = cgutils

# Vectors of a row's sums that stay in registers over the loop over its entries: enough to hide the
# latency of a multiply-add.
STRIP = 8


def _row_sums(
    Z: Any, z: int, z_apart: int, V: Any, at: int, C: Any, first: int, count: int, P: Any, w: int,
    pitch: int, apart: int, b: int, columns: int,
) -> None:  # fmt: skip
    """Compute one row's sums in NumPy."""
    panel = PANEL_BYTES // P.itemsize
    for j in range(0, columns, panel):
        width = min(panel, columns - j)
        total = P[b + j : b + j + width].copy() if b >= 0 else np.zeros(width, P.dtype)
        for n in range(count):
            place = w + C[first + n] * pitch + j // panel * apart
            total += V[at + n] * P[place : place + width]
        Z[z + j // panel * z_apart :][:width] = total


@intrinsic(_row_sums)
def row_sums(
    typing: Any, Z: Any, z: Any, z_apart: Any, V: Any, at: Any, C: Any, first: Any, count: Any,
    P: Any, w: Any, pitch: Any, apart: Any, b: Any, columns: Any,
) -> Any:  # fmt: skip
    """Compute z(j) = b(j) + sum over a row's entries of value times W(column, j).

    Reads: V, count values from at; C, their columns from first; in P, panels of W from w, whose
    rows are pitch apart and which are `apart` from each other, and b unless its place is negative.
    Writes: in Z, so many columns from z, in panels that are z_apart from each other.
    May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(Z, place, place, V, place, C, place, place, P, *[place] * 5)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        z_data, v_data, c_data, p_data = (
            simd.data_pointer(context, builder, kind, arguments[n])
            for kind, n in ((Z, 0), (V, 3), (C, 5), (P, 8))
        )
        z, z_apart, at, first, count = (arguments[n] for n in (1, 2, 4, 6, 7))
        w, pitch, apart, b, columns = arguments[9:]
        v = simd.Vectors(builder, context.get_data_type(P.dtype))
        number, build = simd.int64, builder
        biased = build.icmp_signed(">=", b, number(0))
        values, places = build.gep(v_data, [at]), build.gep(c_data, [first])

        def strip(j: Any, vectors: int, mask: Any) -> None:
            """Emit the sums of some vectors from column j on, the first of a panel."""
            panel = build.sdiv(j, number(2 * v.lanes))
            masks = [None] * (vectors - 1) + [mask]
            halves = [(q // 2, q % 2 * v.lanes) for q in range(vectors)]

            def shifts(distance: Any) -> list[Any]:
                start = build.mul(panel, distance)
                return [
                    build.add(build.add(start, build.mul(distance, number(q))), number(half))
                    for q, half in halves
                ]

            sums = [simd.variable(build, v.constant(0.0)) for _ in halves]
            with build.if_then(biased):
                for q, total in enumerate(sums):
                    here = build.add(build.add(b, j), number(q * v.lanes))
                    build.store(v.load(p_data, here, masks[q]), total)
            sources = [build.gep(p_data, [build.add(w, shift)]) for shift in shifts(apart)]

            def entry(n: Any) -> None:
                column = build.sext(build.load(build.gep(places, [n])), number)
                row = build.mul(column, pitch)
                factor = v.splat(build.load(build.gep(values, [n])))
                for source, total, part in zip(sources, sums, masks, strict=True):
                    x = v.load(source, row, part)
                    build.store(v.fma(factor, x, build.load(total)), total)

            simd.count_loop(build, count, entry)
            targets = [build.add(z, shift) for shift in shifts(z_apart)]
            for total, target, part in zip(sums, targets, masks, strict=True):
                v.store(build.load(total), z_data, target, part)

        _in_strips(v, columns, strip)
        return context.get_dummy_value()

    return signature, generate


def _in_strips(v: simd.Vectors, columns: Any, strip: Callable[[Any, int, Any], None]) -> None:
    """Emit ``strip(first column, vectors, mask of the last one)`` for so many columns."""
    build, number = v.builder, simd.int64
    wide = STRIP * v.lanes
    whole = build.mul(build.sdiv(columns, number(wide)), number(wide))
    simd.count_loop(build, whole, lambda j: strip(j, STRIP, None), step=wide)
    rest = build.sub(columns, whole)
    vectors = build.sdiv(build.add(rest, number(v.lanes - 1)), number(v.lanes))
    filled = build.mul(build.sub(vectors, number(1)), number(v.lanes))
    mask = v.first_lanes(build.sub(rest, filled))

    def arm(count: int) -> Callable[[], None]:
        return lambda: strip(whole, count, mask)

    simd.switch(build, vectors, {count: arm(count) for count in range(1, STRIP + 1)})


def _narrow_sums(
    Z: Any, z: int, V: Any, at: int, C: Any, first: int, count: int, P: Any, w: int, far: int,
    near: int, apart: int, b: int, columns: int,
) -> None:  # fmt: skip
    """Compute one row's sums in NumPy, as `narrow.dots` does there."""
    panel = PANEL_BYTES // P.itemsize
    places = C[first : first + count].astype(np.int64)
    rows = w + places // panel * far + places % panel * near
    for q in range(columns):
        total = (V[at : at + count] * P[rows + q * apart]).sum()
        Z[z + q] = total + (P[b + q] if b >= 0 else 0)


@intrinsic(_narrow_sums)
def narrow_sums(
    typing: Any, Z: Any, z: Any, V: Any, at: Any, C: Any, first: Any, count: Any, P: Any, w: Any,
    far: Any, near: Any, apart: Any, b: Any, columns: Any,
) -> Any:  # fmt: skip
    """Compute z(q) = sum over a row's entries of value times W(column, q), + b(q); few columns.

    Each sum is kept in one partial sum per lane, by the entry's column, and these are reduced in
    the order of `narrow.dots`.

    Reads: V, count values from at; C, their columns from first; in P, W from w: its rows are `near`
    apart within a panel of rows, panels `far` apart, and columns `apart`; b unless its place is
    negative.  Writes: in Z, so many columns from z.  May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(Z, place, V, place, C, place, place, P, *[place] * 6)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        z_data, v_data, c_data, p_data = (
            simd.data_pointer(context, builder, kind, arguments[n])
            for kind, n in ((Z, 0), (V, 2), (C, 4), (P, 7))
        )
        z, at, first, count = (arguments[n] for n in (1, 3, 5, 6))
        w, far, near, apart, b, columns = arguments[8:]
        v = simd.Vectors(builder, context.get_data_type(P.dtype))
        one = simd.Vectors(builder, v.element, 1)
        number, build = simd.int64, builder
        biased = build.icmp_signed(">=", b, number(0))
        size = number(codes.NARROW_ROWS * v.lanes)
        sums = _cgutils.alloca_once(build, v.element, size=size)
        values, places = build.gep(v_data, [at]), build.gep(c_data, [first])

        def begin(q: Any) -> None:
            v.store(v.constant(0.0), sums, build.mul(q, number(v.lanes)))

        def entry(n: Any) -> None:
            column = build.zext(build.load(build.gep(places, [n])), number)
            across = build.mul(build.udiv(column, number(2 * v.lanes)), far)
            within = build.mul(build.urem(column, number(2 * v.lanes)), near)
            row = build.add(w, build.add(across, within))
            factor = one.load(values, n)
            lane = build.urem(column, number(v.lanes))

            def add(q: Any) -> None:
                here = build.add(build.mul(q, number(v.lanes)), lane)
                x = one.load(p_data, build.add(row, build.mul(q, apart)))
                one.store(one.fma(factor, x, one.load(sums, here)), sums, here)

            simd.count_loop(build, columns, add)

        def end(q: Any) -> None:
            total = v.folded(v.load(sums, build.mul(q, number(v.lanes))), build.fadd)
            start = simd.variable(build, v.element(0.0))
            with build.if_then(biased):
                build.store(build.load(build.gep(p_data, [build.add(b, q)])), start)
            total = build.fadd(total, build.load(start))
            build.store(total, build.gep(z_data, [build.add(z, q)]))

        simd.count_loop(build, columns, begin)
        simd.count_loop(build, count, entry)
        simd.count_loop(build, columns, end)
        return context.get_dummy_value()

    return signature, generate


def _turned_tile(
    vectors: int, M: Any, N: Any, result: int, cursor: int, rows_at: int, values_at: int, b: int,
    height: int, start: int,
) -> None:  # fmt: skip
    """Compute one tile in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    width = panel // 2 * vectors
    for r in range(height):
        total = M[:width] * M.dtype.type(0)
        if start >= 0:
            total = M[start + r * panel :][:width].copy()
        for e in range(N[cursor + r], N[cursor + r + 1]):
            place = b + N[rows_at + e] * panel
            total += M[values_at + e] * M[place : place + width]
        M[result + r * panel :][:width] = total


@intrinsic(_turned_tile)
def turned_tile(
    typing: Any, vectors: Any, M: Any, N: Any, result: Any, cursor: Any, rows_at: Any,
    values_at: Any, b: Any, height: Any, start: Any,
) -> Any:  # fmt: skip
    """Compute C(r, j) = start(r, j) + sum over the entries of column r of value times B(row, j).

    Reads: in N, from cursor, where the entries of each of `height` columns begin, and from rows_at
    their rows; in M, their values from values_at, one panel of B from b, the start laid out as
    C, or zero where it is negative.  Writes: rows of one or two vectors of C from result, a
    panel's row apart.  May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(vectors, M, N, *[place] * 7)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[1])
        integers = simd.data_pointer(context, builder, N, arguments[2])
        result, cursor, rows_at, values_at, b, height, start = arguments[3:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        number, build = simd.int64, builder
        panel = number(2 * v.lanes)
        halves = [number(q * v.lanes) for q in range(vectors.literal_value)]
        started = build.icmp_signed(">=", start, number(0))
        columns = build.gep(integers, [cursor])
        sources = [build.gep(data, [build.add(b, half)]) for half in halves]

        def column(r: Any) -> None:
            at = build.mul(r, panel)
            sums = [simd.variable(build, v.constant(0.0)) for _ in halves]
            with build.if_then(started):
                for half, total in zip(halves, sums, strict=True):
                    here = build.add(build.add(start, at), half)
                    build.store(v.load(data, here), total)
            begin = build.load(build.gep(columns, [r]))
            end = build.load(build.gep(columns, [build.add(r, number(1))]))
            rows = build.gep(integers, [build.add(rows_at, begin)])
            values = build.gep(data, [build.add(values_at, begin)])

            def entry(n: Any) -> None:
                row = build.mul(build.load(build.gep(rows, [n])), panel)
                factor = v.splat(build.load(build.gep(values, [n])))
                for source, total in zip(sources, sums, strict=True):
                    x = v.load(source, row)
                    build.store(v.fma(factor, x, build.load(total)), total)

            simd.count_loop(build, build.sub(end, begin), entry)
            for half, total in zip(halves, sums, strict=True):
                v.store(build.load(total), data, build.add(build.add(result, at), half))

        simd.count_loop(build, height, column)
        return context.get_dummy_value()

    return signature, generate


def _narrow_turned_tile(
    M: Any, N: Any, result: int, cursor: int, rows_at: int, values_at: int, b: int, height: int,
    outputs: int, start: int,
) -> None:  # fmt: skip
    """Compute one tile in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    for q in range(outputs):
        for r in range(panel):
            total = M[start + q * panel + r] if start >= 0 and r < height else M.dtype.type(0)
            if r < height:
                for e in range(N[cursor + r], N[cursor + r + 1]):
                    total += M[values_at + e] * M[b + N[rows_at + e] * panel + q]
            M[result + q * panel + r] = total


@intrinsic(_narrow_turned_tile)
def narrow_turned_tile(
    typing: Any, M: Any, N: Any, result: Any, cursor: Any, rows_at: Any, values_at: Any, b: Any,
    height: Any, outputs: Any, start: Any,
) -> Any:  # fmt: skip
    """Compute the same as `turned_tile` for few columns of C, stored as its transpose.

    Reads: as there; `height` columns of entries, at most one panel.  Writes: one panel's row per
    output from result, zero past the last column.
    May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(M, N, *[place] * 8)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        integers = simd.data_pointer(context, builder, N, arguments[1])
        result, cursor, rows_at, values_at, b, height, outputs, start = arguments[2:]
        one = simd.Vectors(builder, context.get_data_type(M.dtype), 1)
        number, build = simd.int64, builder
        panel = number(2 * simd.BYTES * 8 // one.bits)
        started = build.icmp_signed(">=", start, number(0))
        columns = build.gep(integers, [cursor])

        def output(q: Any) -> None:
            source = build.gep(data, [build.add(b, q)])
            line = build.mul(q, panel)

            def column(r: Any) -> None:
                at = build.add(line, r)
                total = simd.variable(build, one.constant(0.0))
                with build.if_then(started):
                    build.store(one.load(data, build.add(start, at)), total)
                begin = build.load(build.gep(columns, [r]))
                end = build.load(build.gep(columns, [build.add(r, number(1))]))

                def entry(n: Any) -> None:
                    e = build.add(begin, n)
                    row = build.load(build.gep(integers, [build.add(rows_at, e)]))
                    x = one.load(source, build.mul(row, panel))
                    factor = one.load(data, build.add(values_at, e))
                    build.store(one.fma(factor, x, build.load(total)), total)

                simd.count_loop(build, build.sub(end, begin), entry)
                one.store(build.load(total), data, build.add(result, at))

            def rest(n: Any) -> None:
                at = build.add(build.add(line, height), n)
                one.store(one.constant(0.0), data, build.add(result, at))

            simd.count_loop(build, height, column)
            simd.count_loop(build, build.sub(panel, height), rest)

        simd.count_loop(build, outputs, output)
        return context.get_dummy_value()

    return signature, generate
