"""Products of one row, or very few, that stream the weights from memory (GEMV).

With so few rows the product is bound by memory: each row of weights comes from there once, in the
order in which it lies, and is accumulated into all results.  Every sum has the same order as in a
tile, from the bias through the inputs, so that the bits are those of a prediction for many rows.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic

__all__ = ["few_times_matrix", "rows_times_vector"]

# Rows of the matrix that are accumulated per pass over the results, by the number of rows computed
# together (one row, 784-512-512-10: 67 us, against 79 with sums in registers and 72 with 4 rows).
_DEEP = {1: 8, 2: 8, 3: 8, 4: 4}
_TOGETHER = max(_DEEP)

# More rows are divided into groups, which take turns at so many rows of the matrix: the first one
# brings them into the cache for the others.
_CHUNK = 48

# Rows of the matrix whose products with a vector are summed side by side.
_ABREAST = 4


def _few_times_matrix(
    z: Any, to: int, z_pitch: int, a: Any, source: int, a_pitch: int, P: Any, W: int, w_pitch: int,
    b: int, rows: int, inputs: int, outputs: int,
) -> None:  # fmt: skip
    """Compute it in NumPy."""
    for r in range(rows):
        total = P[b : b + outputs].copy() if b >= 0 else P[:0].dtype.type(0) * P[W : W + outputs]
        for k in range(inputs):
            factor = a[source + r * a_pitch + k]
            total += factor * P[W + k * w_pitch :][:outputs]
        z[to + r * z_pitch :][:outputs] = total


@intrinsic(_few_times_matrix)
def few_times_matrix(
    typing: Any, z: Any, to: Any, z_pitch: Any, a: Any, source: Any, a_pitch: Any, P: Any, W: Any,
    w_pitch: Any, b: Any, rows: Any, inputs: Any, outputs: Any,
) -> Any:  # fmt: skip
    """Compute z = a W + b for few rows.

    Reads: a (rows, inputs) from source; in P, W (inputs, outputs), and b (outputs,) unless its
    place is negative.  Writes: z (rows, outputs) from to.  Rows of a, W and z are a pitch apart.
    May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(z, place, place, a, place, place, P, *[place] * 6)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, z_pitch, source, a_pitch = (arguments[n] for n in (1, 2, 4, 5))
        z_data, a_data, p_data = (
            simd.data_pointer(context, builder, signature.args[n], arguments[n]) for n in (0, 3, 6)
        )
        starts = builder.gep(z_data, [to]), z_pitch, builder.gep(a_data, [source]), a_pitch
        element = context.get_data_type(P.dtype)
        values = [*starts, p_data, *arguments[7:]]
        kinds = [value.type for value in values]
        name = f"fastnn.few_times_matrix.{element}"
        builder.call(simd.outlined(builder, name, kinds, _by_count), values)
        return context.get_dummy_value()

    return signature, generate


def _by_count(
    builder: Any, z: Any, z_pitch: Any, a: Any, a_pitch: Any, P: Any, W: Any, w_pitch: Any, b: Any,
    rows: Any, inputs: Any, outputs: Any,
) -> None:  # fmt: skip
    """Emit the product: chunks of the matrix, and for each of them all groups of rows."""
    v, number = simd.Vectors(builder, z.type.pointee), simd.int64
    alone = builder.icmp_signed("<=", rows, number(_TOGETHER))
    chunk = builder.select(alone, inputs, number(_CHUNK))
    simd.count_loop(builder, rows, lambda r: _begin(v, builder.mul(r, z_pitch), z, P, b, outputs))

    def some(first: Any) -> None:
        rest = builder.sub(inputs, first)
        deep = builder.select(builder.icmp_signed("<", rest, chunk), rest, chunk)
        weights = builder.gep(P, [builder.add(W, builder.mul(first, w_pitch))])

        def group(n: Any, done: Any, height: Any) -> None:
            result = builder.gep(z, [builder.mul(done, z_pitch)]), z_pitch
            factors = builder.gep(a, [builder.add(builder.mul(done, a_pitch), first)]), a_pitch

            def arm(rows: int) -> None:
                _stream(v, rows, result, factors, (weights, w_pitch), deep, outputs)

            simd.switch(builder, height, {rows: partial(arm, rows) for rows in _DEEP})

        simd.evenly(builder, rows, _TOGETHER, group)

    chunks = builder.sdiv(builder.add(inputs, builder.sub(chunk, number(1))), chunk)
    simd.count_loop(builder, chunks, lambda n: some(builder.mul(n, chunk)))


def _begin(v: simd.Vectors, at: Any, z: Any, P: Any, b: Any, outputs: Any) -> None:
    """Emit the start of one row's sums: the bias, or zero where its place is negative."""
    build = v.builder
    biased = build.icmp_signed(">=", b, simd.int64(0))

    def step(j: Any, mask: Any) -> None:
        first = simd.variable(build, v.constant(0.0))
        with build.if_then(biased):
            build.store(v.load(P, build.add(b, j), mask), first)
        v.store(build.load(first), z, build.add(at, j), mask)

    v.over(outputs, step)


def _stream(
    v: simd.Vectors, count: int, result: Any, factors: Any, matrix: Any, inputs: Any, outputs: Any
) -> None:
    """Emit the accumulation for one number of rows; a matrix is its first element and its pitch."""
    build, number = v.builder, simd.int64
    (z, z_pitch), (a, a_pitch), (W, w_pitch) = result, factors, matrix
    targets = [build.gep(z, [build.mul(z_pitch, number(r))]) for r in range(count)]
    sources = [build.gep(a, [build.mul(a_pitch, number(r))]) for r in range(count)]

    def add(k: Any, deep: int) -> None:
        """Accumulate some rows of the matrix into all results."""
        places = [build.add(k, number(n)) for n in range(deep)]
        rows = [build.mul(place, w_pitch) for place in places]
        scales = [
            [v.splat(build.load(build.gep(source, [place]))) for place in places]
            for source in sources
        ]

        def step(j: Any, mask: Any) -> None:
            totals = [v.load(target, j, mask) for target in targets]
            for n, row in enumerate(rows):
                w = v.load(W, build.add(row, j), mask)
                totals = [
                    v.fma(scale[n], w, total) for scale, total in zip(scales, totals, strict=True)
                ]
            for total, target in zip(totals, targets, strict=True):
                v.store(total, target, j, mask)

        v.over(outputs, step)

    deep = _DEEP[count]
    whole = build.and_(inputs, number(-deep))
    simd.count_loop(build, whole, lambda k: add(k, deep), step=deep)
    rest = build.sub(inputs, whole)
    simd.count_loop(build, rest, lambda k: add(build.add(whole, k), 1))


def _rows_times_vector(
    z: Any, to: int, P: Any, W: int, d: Any, source: int, inputs: int, outputs: int
) -> None:
    """Compute it in NumPy."""
    weights = P[W : W + inputs * outputs].reshape(inputs, outputs)
    z[to : to + inputs] = (weights * d[source : source + outputs]).sum(axis=1)


@intrinsic(_rows_times_vector)
def rows_times_vector(
    typing: Any, z: Any, to: Any, P: Any, W: Any, d: Any, source: Any, inputs: Any, outputs: Any
) -> Any:
    """Compute z = W d, the way back through a layer for one row.

    Each sum is kept in one partial sum per lane; these are reduced in the order of
    `Vectors.folded`.

    Reads: in P, W (inputs, outputs) row by row; d (outputs,) from source.  Writes: z (inputs,) from
    to.  May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(z, place, P, place, d, place, place, place)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, W, source, inputs, outputs = (arguments[n] for n in (1, 3, 5, 6, 7))
        z_data, p_data, d_data = (
            simd.data_pointer(context, builder, signature.args[n], arguments[n]) for n in (0, 2, 4)
        )
        starts = builder.gep(z_data, [to]), builder.gep(p_data, [W]), builder.gep(d_data, [source])
        values = [*starts, inputs, outputs]
        name = f"fastnn.rows_times_vector.{context.get_data_type(P.dtype)}"
        kinds = [value.type for value in values]
        builder.call(simd.outlined(builder, name, kinds, _sum_rows), values)
        return context.get_dummy_value()

    return signature, generate


def _sum_rows(builder: Any, z: Any, W: Any, d: Any, inputs: Any, outputs: Any) -> None:
    """Emit the product, some rows of the matrix at a time."""
    v, number = simd.Vectors(builder, z.type.pointee), simd.int64

    def some(i: Any, count: int) -> None:
        places = [builder.add(i, number(n)) for n in range(count)]
        rows = [builder.gep(W, [builder.mul(place, outputs)]) for place in places]
        totals = [simd.variable(builder, v.constant(0.0)) for _ in rows]

        def step(j: Any, mask: Any) -> None:
            x = v.load(d, j, mask)
            for row, total in zip(rows, totals, strict=True):
                builder.store(v.fma(v.load(row, j, mask), x, builder.load(total)), total)

        v.over(outputs, step)
        for place, total in zip(places, totals, strict=True):
            builder.store(v.folded(builder.load(total), builder.fadd), builder.gep(z, [place]))

    whole = builder.and_(inputs, number(-_ABREAST))
    simd.count_loop(builder, whole, lambda i: some(i, _ABREAST), step=_ABREAST)
    rest = builder.sub(inputs, whole)
    simd.count_loop(builder, rest, lambda i: some(builder.add(whole, i), 1))
