"""Normalisation of the columns of one panel, and its derivative: walks down the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["column_moments", "column_sums", "columns_back", "normalise_columns"]

# Rows whose sums are taken apart, so that no rounding error grows with the batch.
_BLOCK = 1024


def _rows(M: Any, at: int, rows: int) -> Any:
    """Return rows of one panel, for NumPy."""
    panel = PANEL_BYTES // M.itemsize
    return M[at : at + rows * panel].reshape(rows, panel)


def _called(M: Any, kinds: Sequence[Any], name: str, emit: Callable[..., None]) -> Any:
    """Return signature and generator of an intrinsic that calls one function of M and others."""
    signature = types.void(M, *kinds)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        given = [data, *arguments[1:]]
        name_of = f"fastnn.{name}.{data.type.pointee}"
        function = simd.outlined(builder, name_of, [one.type for one in given], emit)
        builder.call(function, given)
        return context.get_dummy_value()

    return signature, generate


def _halves(v: simd.Vectors, data: Any, at: Any) -> list[Any]:
    """Return both vectors of a panel's row."""
    build = v.builder
    return [v.load(data, build.add(at, simd.int64(half * v.lanes))) for half in range(2)]


def _keep(v: simd.Vectors, data: Any, at: Any, vectors: Sequence[Any]) -> None:
    """Store both vectors of a panel's row."""
    for half, vector in enumerate(vectors):
        v.store(vector, data, v.builder.add(at, simd.int64(half * v.lanes)))


def _summed(
    v: simd.Vectors, rows: Any, count: int, apart: int,
    add: Callable[[Any, Any, int, Sequence[Any]], Sequence[Any]],
) -> list[list[Any]]:  # fmt: skip
    """Emit sums over the rows of a panel; return them, as many for each half.

    ``add(row, place, half, sums)`` returns the sums with a row; so many rows have sums apart, as
    one waits for the one before, and all of a block.
    """
    build, zero = v.builder, v.constant(0.0)

    def variables() -> list[list[Any]]:
        return [[simd.variable(build, zero) for _ in range(count)] for _ in range(2)]

    total, parts = variables(), [variables() for _ in range(apart)]

    def take(i: Any, part: list[list[Any]]) -> None:
        place = build.mul(i, simd.int64(2 * v.lanes))
        for half, held in enumerate(part):
            at = build.add(place, simd.int64(half * v.lanes))
            for one, value in zip(
                held, add(i, at, half, [build.load(one) for one in held]), strict=True
            ):
                build.store(value, one)

    def block(start: Any) -> None:
        for part in parts:
            for held in part:
                for one in held:
                    build.store(zero, one)
        left = build.sub(rows, start)
        some = build.icmp_signed("<", left, simd.int64(_BLOCK))
        here = build.select(some, left, simd.int64(_BLOCK))
        even = build.and_(here, simd.int64(-apart))

        def several(n: Any) -> None:
            for k, part in enumerate(parts):
                take(build.add(start, build.add(n, simd.int64(k))), part)

        simd.count_loop(build, even, several, step=apart)
        first = build.add(start, even)
        simd.count_loop(build, build.sub(here, even), lambda n: take(build.add(first, n), parts[0]))
        for half in range(2):
            for k in range(count):
                values = [build.load(part[half][k]) for part in parts]
                while len(values) > 1:
                    values = [
                        build.fadd(a, b) for a, b in zip(values[::2], values[1::2], strict=True)
                    ]
                held = total[half][k]
                build.store(build.fadd(build.load(held), values[0]), held)

    simd.count_loop(build, rows, block, step=_BLOCK)
    return [[build.load(one) for one in held] for held in total]


def _weight(v: simd.Vectors, data: Any, portions: Any, i: Any) -> Any:
    """Return a row's part of the batch, in every lane."""
    build = v.builder
    return v.splat(build.load(build.gep(data, [build.add(portions, i)])))


def _inverses(v: simd.Vectors, variances: Sequence[Any], number: Any) -> list[Any]:
    """Return one over the deviation of each column."""
    build, one, epsilon = v.builder, v.constant(1.0), v.splat(number)
    return [
        build.fdiv(one, v.call("llvm.sqrt", build.fadd(variance, epsilon)))
        for variance in variances
    ]


def _moments(M: Any, x: int, portions: int, to: int, other: int, rows: int) -> None:
    """Compute in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    X, w = _rows(M, x, rows), M[portions : portions + rows, np.newaxis]
    M[to : to + panel] = mean = (w * X).sum(axis=0)
    M[other : other + panel] = (w * (X - mean) ** 2).sum(axis=0)


@intrinsic(_moments)
def column_moments(
    typing: Any, M: Any, x: Any, portions: Any, to: Any, other: Any, rows: Any
) -> Any:
    """Compute mean and variance of the columns of one panel.

    Reads: in M, rows of the panel at x, and the part of each at portions.
    Writes: one row of means at `to`, one of variances at other.  May overwrite: nothing else.
    """
    return _called(M, [types.intp] * 5, "column_moments", _emit_moments)


def _emit_moments(
    build: Any, data: Any, x: Any, portions: Any, to: Any, other: Any, rows: Any
) -> None:
    """Emit two passes, the second one over what is left without the mean."""
    v = simd.Vectors(build, data.type.pointee)

    def add(i: Any, at: Any, half: int, sums: Sequence[Any]) -> Sequence[Any]:
        a = v.load(data, build.add(x, at))
        return [v.fma(a, _weight(v, data, portions, i), sums[0])]

    means = [held[0] for held in _summed(v, rows, 1, 4, add)]

    def spread(i: Any, at: Any, half: int, sums: Sequence[Any]) -> Sequence[Any]:
        off = build.fsub(v.load(data, build.add(x, at)), means[half])
        return [v.fma(build.fmul(off, off), _weight(v, data, portions, i), sums[0])]

    variances = [held[0] for held in _summed(v, rows, 1, 4, spread)]
    _keep(v, data, to, means)
    _keep(v, data, other, variances)


def _normalise(
    M: Any, x: int, to: int, mean: int, variance: int, scale: int, shift: int, rows: int,
    number: Any,
) -> None:  # fmt: skip
    """Normalise in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    factor = M[scale : scale + panel] / np.sqrt(M[variance : variance + panel] + number)
    off = _rows(M, x, rows) - M[mean : mean + panel]
    _rows(M, to, rows)[:] = off * factor + M[shift : shift + panel]


@intrinsic(_normalise)
def normalise_columns(
    typing: Any, M: Any, x: Any, to: Any, mean: Any, variance: Any, scale: Any, shift: Any,
    rows: Any, number: Any,
) -> Any:  # fmt: skip
    """Compute ``(x - mean) / sqrt(variance + number) * scale + shift`` of rows of one panel.

    Reads: in M, the panel at x; one row each at mean, variance, scale and shift.
    Writes: the panel at `to`.  May overwrite: nothing else.
    """
    return _called(M, [*[types.intp] * 7, M.dtype], "normalise_columns", _emit_normalise)


def _emit_normalise(
    build: Any, data: Any, x: Any, to: Any, mean: Any, variance: Any, scale: Any, shift: Any,
    rows: Any, number: Any,
) -> None:  # fmt: skip
    """Emit the loop over rows."""
    v = simd.Vectors(build, data.type.pointee)
    inverses = _inverses(v, _halves(v, data, variance), number)
    factors = [build.fmul(a, b) for a, b in zip(_halves(v, data, scale), inverses, strict=True)]
    means, shifts = _halves(v, data, mean), _halves(v, data, shift)

    def row(i: Any) -> None:
        at = build.mul(i, simd.int64(2 * v.lanes))
        off = [
            build.fsub(a, b) for a, b in zip(_halves(v, data, build.add(x, at)), means, strict=True)
        ]
        _keep(
            v, data, build.add(to, at),
            [v.fma(*three) for three in zip(off, factors, shifts, strict=True)],
        )  # fmt: skip

    simd.count_loop(build, rows, row)


def _sums(
    M: Any, x: int, d: int, mean: int, variance: int, first: int, second: int, rows: int,
    number: Any,
) -> None:  # fmt: skip
    """Sum in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    slope = _rows(M, d, rows)
    normal = _rows(M, x, rows) - M[mean : mean + panel]
    normal = normal / np.sqrt(M[variance : variance + panel] + number)
    M[first : first + panel] = (slope * normal).sum(axis=0)
    M[second : second + panel] = slope.sum(axis=0)


@intrinsic(_sums)
def column_sums(
    typing: Any, M: Any, x: Any, d: Any, mean: Any, variance: Any, first: Any, second: Any,
    rows: Any, number: Any,
) -> Any:  # fmt: skip
    """Sum the gradients of scale and shift over rows of one panel.

    Reads: in M, the panels at x and d, and one row each at mean and variance.
    Writes: one row at first, of scales, and one at second.  May overwrite: nothing else.
    """
    return _called(M, [*[types.intp] * 7, M.dtype], "column_sums", _emit_sums)


def _emit_sums(
    build: Any, data: Any, x: Any, d: Any, mean: Any, variance: Any, first: Any, second: Any,
    rows: Any, number: Any,
) -> None:  # fmt: skip
    """Emit the loop over rows."""
    v = simd.Vectors(build, data.type.pointee)
    means = _halves(v, data, mean)

    def add(i: Any, at: Any, half: int, sums: Sequence[Any]) -> Sequence[Any]:
        off = build.fsub(v.load(data, build.add(x, at)), means[half])
        slope = v.load(data, build.add(d, at))
        return [v.fma(slope, off, sums[0]), build.fadd(sums[1], slope)]

    found = _summed(v, rows, 2, 2, add)
    inverses = _inverses(v, _halves(v, data, variance), number)
    _keep(
        v, data, first,
        [build.fmul(sums[0], inverse) for sums, inverse in zip(found, inverses, strict=True)],
    )  # fmt: skip
    _keep(v, data, second, [sums[1] for sums in found])


def _back(
    M: Any, x: int, d: int, to: int, mean: int, variance: int, scale: int, first: int,
    second: int, portions: int, rows: int, number: Any,
) -> None:  # fmt: skip
    """Go back in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    inverse = 1 / np.sqrt(M[variance : variance + panel] + number)
    slope = _rows(M, d, rows)
    if portions >= 0:
        normal = (_rows(M, x, rows) - M[mean : mean + panel]) * inverse
        level = normal * M[first : first + panel] + M[second : second + panel]
        slope = slope - M[portions : portions + rows, np.newaxis] * level
    _rows(M, to, rows)[:] = M[scale : scale + panel] * inverse * slope


@intrinsic(_back)
def columns_back(
    typing: Any, M: Any, x: Any, d: Any, to: Any, mean: Any, variance: Any, scale: Any,
    first: Any, second: Any, portions: Any, rows: Any, number: Any,
) -> Any:  # fmt: skip
    """Compute the derivative by x from that by what `normalise_columns` gave, of one panel.

    Reads: in M, the panels at x and d; one row each at mean, variance and scale, and of the sums of
    gradients at first and second; the part of each row at portions, which is negative where mean
    and variance do not hang on x: then nothing but d, variance and scale is read.
    Writes: the panel at `to`.  May overwrite: nothing else.
    """
    return _called(M, [*[types.intp] * 10, M.dtype], "columns_back", _emit_back)


def _emit_back(
    build: Any, data: Any, x: Any, d: Any, to: Any, mean: Any, variance: Any, scale: Any,
    first: Any, second: Any, portions: Any, rows: Any, number: Any,
) -> None:  # fmt: skip
    """Emit both loops over rows."""
    v = simd.Vectors(build, data.type.pointee)
    inverses = _inverses(v, _halves(v, data, variance), number)
    factors = [build.fmul(a, b) for a, b in zip(_halves(v, data, scale), inverses, strict=True)]
    hanging = build.icmp_signed(">=", portions, simd.int64(0))
    with build.if_else(hanging) as (then, otherwise):
        with then:
            means, levels = _halves(v, data, mean), _halves(v, data, second)
            along = [
                build.fmul(a, b) for a, b in zip(_halves(v, data, first), inverses, strict=True)
            ]

            def row(i: Any) -> None:
                at = build.mul(i, simd.int64(2 * v.lanes))
                share = build.fneg(_weight(v, data, portions, i))
                given = _halves(v, data, build.add(x, at))
                slopes = _halves(v, data, build.add(d, at))
                for half in range(2):
                    off = build.fsub(given[half], means[half])
                    common = v.fma(off, along[half], levels[half])
                    slopes[half] = build.fmul(v.fma(share, common, slopes[half]), factors[half])
                _keep(v, data, build.add(to, at), slopes)

            simd.count_loop(build, rows, row)
        with otherwise:

            def plain(i: Any) -> None:
                at = build.mul(i, simd.int64(2 * v.lanes))
                slopes = _halves(v, data, build.add(d, at))
                _keep(
                    v, data, build.add(to, at),
                    [build.fmul(a, b) for a, b in zip(slopes, factors, strict=True)],
                )  # fmt: skip

            simd.count_loop(build, rows, plain)
