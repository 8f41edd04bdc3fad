"""Sparse examples: the first layer's products over their non-zero entries alone.

A sum over the inputs runs over a row's entries in the order of their columns, and a weight's
gradient over the rows in their order, as in the products of dense examples, where a zero term adds
nothing.  So the bits are those of the same examples stored densely, except for signs of zero.

This file is long because each product stands twice: as instructions, and in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import cgutils, types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import intrinsic
from fastnn.kernels.micro_kernels import LINE
from fastnn.kernels.panels import PANEL_BYTES

__all__ = [
    "STRIP",
    "add_entries",
    "add_narrow_entries",
    "clear",
    "fetch",
    "narrow_sums",
    "row_sums",
]

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


def _add_entries(
    M: Any, g: int, apart: int, values: int, dz: int, dz_apart: int, vectors: int, C: Any,
    first: int, last: int, limit: int,
) -> int:  # fmt: skip
    """Add one row's part in NumPy."""
    lanes = PANEL_BYTES // M.itemsize // 2
    end = first + int(np.searchsorted(C[first:last], limit))
    for e in range(first, end):
        for q in range(vectors):
            place = g + q // 2 * apart + C[e] * 2 * lanes + q % 2 * lanes
            source = dz + q // 2 * dz_apart + q % 2 * lanes
            M[place : place + lanes] += M[values + e] * M[source : source + lanes]
    return end


@intrinsic(_add_entries)
def add_entries(
    typing: Any, M: Any, g: Any, apart: Any, values: Any, dz: Any, dz_apart: Any, vectors: Any,
    C: Any, first: Any, last: Any, limit: Any,
) -> Any:  # fmt: skip
    """Add value times dZ(j) to G(column, j) for a row's entries in columns before the limit.

    Reads: in M, the entries' values, that of entry e at values + e, and so many vectors of the
    row's dZ, at most STRIP, from dz, in panels that are dz_apart from each other; the columns of
    the entries from first to before last in C, ascending.
    Writes: as many vectors of these rows of G, that of column 0 at g, in panels `apart` from each
    other.  May overwrite: nothing else.  Returns the first entry past the limit, or last.
    """
    place = types.intp
    signature = place(M, *[place] * 6, C, *[place] * 3)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        columns = simd.data_pointer(context, builder, C, arguments[7])
        g, apart, values, dz, dz_apart, vectors = arguments[1:7]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        number, build = simd.int64, builder
        factors = build.gep(data, [values])
        reached = simd.variable(build, arguments[8])

        def strip(count: int) -> None:
            """Emit the loop over the entries for so many vectors of each."""

            def places(start: Any, distance: Any) -> list[Any]:
                return [
                    build.add(
                        build.add(start, build.mul(distance, number(q // 2))),
                        number(q % 2 * v.lanes),
                    )
                    for q in range(count)
                ]

            slopes = [v.load(data, at) for at in places(dz, dz_apart)]
            targets = [build.gep(data, [at]) for at in places(g, apart)]

            def entry(e: Any, column: Any) -> None:
                row = build.mul(column, number(2 * v.lanes))
                factor = v.splat(build.load(build.gep(factors, [e])))
                # Panels often lie a multiple of 4096 bytes apart: a load that follows a store at
                # the same place of another page waits for it on some CPUs.
                sums = [
                    v.fma(factor, slope, v.load(target, row))
                    for slope, target in zip(slopes, targets, strict=True)
                ]
                for total, target in zip(sums, targets, strict=True):
                    v.store(total, target, row)

            e = _before(build, columns, arguments[8], arguments[9], arguments[10], entry)
            build.store(e, reached)

        def arm(count: int) -> Callable[[], None]:
            return lambda: strip(count)

        simd.switch(build, vectors, {count: arm(count) for count in range(1, STRIP + 1)})
        return build.load(reached)

    return signature, generate


def _before(
    build: Any, columns: Any, first: Any, last: Any, limit: Any, body: Callable[[Any, Any], None]
) -> Any:
    """Emit ``body(entry, column)`` for a row's entries before a column; return the next entry."""
    looking, found, inside, after = (
        build.append_basic_block(name) for name in ("looking", "found", "inside", "after")
    )
    before = build.block
    build.branch(looking)
    build.position_at_end(looking)
    e = build.phi(simd.int64)
    e.add_incoming(first, before)
    build.cbranch(build.icmp_signed("<", e, last), found, after)
    build.position_at_end(found)
    column = build.sext(build.load(build.gep(columns, [e])), simd.int64)
    build.cbranch(build.icmp_signed("<", column, limit), inside, after)
    build.position_at_end(inside)
    body(e, column)
    e.add_incoming(build.add(e, simd.int64(1)), build.block)
    build.branch(looking)
    build.position_at_end(after)
    return e


def _add_narrow_entries(
    M: Any, g: int, values: int, dz: int, C: Any, first: int, last: int, limit: int, outputs: int
) -> int:
    """Add one row's part in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    end = first + int(np.searchsorted(C[first:last], limit))
    for q in range(outputs):
        for e in range(first, end):
            place = g + C[e] // panel * panel * codes.NARROW_ROWS + q * panel + C[e] % panel
            M[place] += M[values + e] * M[dz + q]
    return end


@intrinsic(_add_narrow_entries)
def add_narrow_entries(
    typing: Any, M: Any, g: Any, values: Any, dz: Any, C: Any, first: Any, last: Any, limit: Any,
    outputs: Any,
) -> Any:  # fmt: skip
    """Add the same as `add_entries` to G of few columns, stored as its transpose.

    Reads: as there.  Writes: in M, G of so many outputs, NARROW_ROWS rows for each panel of
    columns, that of column 0 at g.  May overwrite: nothing else.  Returns the same.
    """
    place = types.intp
    signature = place(M, place, place, place, C, place, place, place, place)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        columns = simd.data_pointer(context, builder, C, arguments[4])
        g, values, dz = arguments[1:4]
        outputs = arguments[8]
        one = simd.Vectors(builder, context.get_data_type(M.dtype), 1)
        number, build = simd.int64, builder
        panel = number(2 * simd.BYTES * 8 // one.bits)
        apart = build.mul(panel, number(codes.NARROW_ROWS))
        factors, slopes = build.gep(data, [values]), build.gep(data, [dz])

        def entry(e: Any, column: Any) -> None:
            across = build.mul(build.udiv(column, panel), apart)
            row = build.add(g, build.add(across, build.urem(column, panel)))
            factor = one.load(factors, e)

            def output(q: Any) -> None:
                at = build.add(row, build.mul(q, panel))
                total = one.fma(factor, one.load(slopes, q), one.load(data, at))
                one.store(total, data, at)

            simd.count_loop(build, outputs, output)

        return _before(build, columns, arguments[5], arguments[6], arguments[7], entry)

    return signature, generate


def _fetch(M: Any, at: int, count: int) -> None:
    """Do nothing in NumPy."""


@intrinsic(_fetch)
def fetch(typing: Any, M: Any, at: Any, count: Any) -> Any:
    """Prefetch so many elements of M, which will be added to in no order of their places."""
    signature = types.void(M, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        start = builder.gep(data, [arguments[1]])
        line = LINE * 8 // simd.Vectors(builder, context.get_data_type(M.dtype)).bits
        simd.count_loop(
            builder, arguments[2], lambda n: simd.prefetch(builder, start, n), step=line
        )
        return context.get_dummy_value()

    return signature, generate


def _clear(M: Any, at: int, count: int) -> None:
    """Clear them in NumPy."""
    M[at : at + count] = 0


@intrinsic(_clear)
def clear(typing: Any, M: Any, at: Any, count: Any) -> Any:
    """Set so many elements of M, whole vectors of them, to zero."""
    signature = types.void(M, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        start = builder.gep(data, [arguments[1]])
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        zero = v.constant(0.0)
        simd.count_loop(builder, arguments[2], lambda n: v.store(zero, start, n), step=v.lanes)
        return context.get_dummy_value()

    return signature, generate
