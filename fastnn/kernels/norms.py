"""Normalisation of each row: LayerNorm, and RMSNorm, which takes no mean off.

The forward pass notes the mean of each row and one over its deviation; from these and what was read
the backward pass and the gradients find the normalised numbers again, so that none are stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import apart, intrinsic, kernel
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["norm_backward", "norm_forward", "norm_gradient"]


def _matrix(M: Any, at: int, height: int, rows: int, columns: int) -> Any:
    """Return the places of a matrix in panels, for NumPy."""
    panel = PANEL_BYTES // M.itemsize
    j, i = np.arange(columns), np.arange(rows)[:, np.newaxis]
    return at + j // panel * panel * height + i * panel + j % panel


def _normalise(
    M: Any, source: int, result: int, notes: int, height: int, rows: int, columns: int, scale: int,
    shift: int, number: Any, centred: int, shifted: int,
) -> None:  # fmt: skip
    """Normalise in NumPy."""
    X = M[_matrix(M, source, height, rows, columns)]
    mean = X.mean(axis=1) * centred
    inverse = 1 / np.sqrt(((X - mean[:, np.newaxis]) ** 2).mean(axis=1) + number)
    M[notes : notes + rows], M[notes + height : notes + height + rows] = mean, inverse
    X = (X - mean[:, np.newaxis]) * inverse[:, np.newaxis]
    X = X * M[scale : scale + columns] + shifted * M[shift : shift + columns]
    M[_matrix(M, result, height, rows, columns)] = X


def _over(v: simd.Vectors, columns: Any, height: Any, body: Callable[..., None]) -> None:
    """Emit ``body(place, column, mask)`` for the vectors of a row in panels, in pairs.

    The mask is None but for the last panel, where it is that of the row's columns.
    """
    build, panel = v.builder, 2 * v.lanes

    def pair(j: Any, masks: tuple[Any, Any]) -> None:
        at = build.mul(j, height)
        for half, mask in zip((0, v.lanes), masks, strict=True):
            body(build.add(at, simd.int64(half)), build.add(j, simd.int64(half)), mask)

    whole = build.and_(columns, simd.int64(-panel))
    simd.count_loop(build, whole, lambda j: pair(j, (None, None)), step=panel)
    rest = build.sub(columns, whole)
    with build.if_then(build.icmp_signed(">", rest, simd.int64(0))):
        pair(whole, (v.first_lanes(rest), v.first_lanes(rest, skipped=v.lanes)))


def _mean(v: simd.Vectors, held: Any, count: Any) -> Any:
    """Return the sum of a variable's lanes over a count, in every lane."""
    build = v.builder
    total = v.folded(build.load(held), build.fadd)
    return v.splat(build.fdiv(total, build.sitofp(count, v.element)))


def _within(v: simd.Vectors, x: Any, mask: Any) -> Any:
    """Return a vector with zeros outside the mask."""
    return x if mask is None else v.builder.select(mask, x, v.constant(0.0))


@intrinsic(_normalise)
def normalise(
    typing: Any, M: Any, source: Any, result: Any, notes: Any, height: Any, rows: Any,
    columns: Any, scale: Any, shift: Any, number: Any, centred: Any, shifted: Any,
) -> Any:  # fmt: skip
    """Compute ``(x - mean) / sqrt(variance + number) * scale + shift`` of rows, each by itself.

    Reads: in M, rows of panels of a height from source; the spans scale and shift; whether the
    mean is taken off, and whether the shift counts, as 1 or 0.
    Writes: the same rows of result; at notes, the mean of each row, and a height further on one
    over its deviation.  May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(M, *[place] * 8, M.dtype, place, place)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        element = context.get_data_type(M.dtype)
        kinds = [data.type, *[simd.int64] * 8, element, *[simd.int64] * 2]
        function = simd.outlined(builder, f"fastnn.normalise.{element}", kinds, _emit_forward)
        builder.call(function, [data, *arguments[1:]])
        return context.get_dummy_value()

    return signature, generate


def _emit_forward(
    build: Any, data: Any, source: Any, result: Any, notes: Any, height: Any, rows: Any,
    columns: Any, scale: Any, shift: Any, number: Any, centred: Any, shifted: Any,
) -> None:  # fmt: skip
    """Emit the loop over rows."""
    v = simd.Vectors(build, number.type)
    zero, one = v.constant(0.0), v.constant(1.0)
    takes = v.splat(build.sitofp(centred, v.element))
    adds = v.splat(build.sitofp(shifted, v.element))
    epsilon = v.splat(number)

    def row(i: Any) -> None:
        at = build.mul(i, simd.int64(2 * v.lanes))
        begin, to = build.add(source, at), build.add(result, at)
        held = simd.variable(build, zero)

        def add(n: Any, j: Any, mask: Any) -> None:
            x = v.load(data, build.add(begin, n), mask)
            build.store(build.fadd(build.load(held), x), held)

        _over(v, columns, height, add)
        mean = build.fmul(_mean(v, held, columns), takes)
        build.store(zero, held)

        def spread(n: Any, j: Any, mask: Any) -> None:
            off = _within(v, build.fsub(v.load(data, build.add(begin, n), mask), mean), mask)
            build.store(v.fma(off, off, build.load(held)), held)

        _over(v, columns, height, spread)
        variance = build.fadd(_mean(v, held, columns), epsilon)
        inverse = build.fdiv(one, v.call("llvm.sqrt", variance))
        note = build.add(notes, i)
        for where, value in ((note, mean), (build.add(note, height), inverse)):
            first = build.extract_element(value, simd.int32(0))
            build.store(first, build.gep(data, [where]))

        def write(n: Any, j: Any, mask: Any) -> None:
            x = build.fsub(v.load(data, build.add(begin, n), mask), mean)
            g = v.load(data, build.add(scale, j), mask)
            b = build.fmul(adds, v.load(data, build.add(shift, j), mask))
            y = v.fma(build.fmul(x, inverse), g, b)
            v.store(y, data, build.add(to, n), mask)

        _over(v, columns, height, write)

    simd.count_loop(build, rows, row)


def _normalise_back(
    M: Any, source: int, d: int, to: int, notes: int, height: int, rows: int, columns: int,
    scale: int, centred: int,
) -> None:  # fmt: skip
    """Go back in NumPy."""
    mean, inverse = (M[n : n + rows, np.newaxis].copy() for n in (notes, notes + height))
    x = (M[_matrix(M, source, height, rows, columns)] - mean) * inverse
    slope = M[_matrix(M, d, height, rows, columns)] * M[scale : scale + columns]
    along = (slope * x).mean(axis=1, keepdims=True)
    slope = inverse * (slope - centred * slope.mean(axis=1, keepdims=True) - x * along)
    M[_matrix(M, to, height, rows, columns)] = slope


@intrinsic(_normalise_back)
def normalise_back(
    typing: Any, M: Any, source: Any, d: Any, to: Any, notes: Any, height: Any, rows: Any,
    columns: Any, scale: Any, centred: Any,
) -> Any:  # fmt: skip
    """Compute the derivative by what `normalise` read, of rows, from that by its result, at d.

    Reads: what `normalise` read and noted.  Writes: in M, rows of panels from `to`.
    May overwrite: nothing else.
    """
    signature = types.void(M, *[types.intp] * 9)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        kinds = [data.type, *[simd.int64] * 9]
        name = f"fastnn.normalise_back.{data.type.pointee}"
        builder.call(simd.outlined(builder, name, kinds, _emit_back), [data, *arguments[1:]])
        return context.get_dummy_value()

    return signature, generate


def _emit_back(
    build: Any, data: Any, source: Any, d: Any, to: Any, notes: Any, height: Any, rows: Any,
    columns: Any, scale: Any, centred: Any,
) -> None:  # fmt: skip
    """Emit the loop over rows."""
    v = simd.Vectors(build, data.type.pointee)
    zero = v.constant(0.0)
    takes = v.splat(build.sitofp(centred, v.element))

    def row(i: Any) -> None:
        at = build.mul(i, simd.int64(2 * v.lanes))
        mean, inverse = _noted(v, data, notes, height, i)
        sums = simd.variable(build, zero), simd.variable(build, zero)

        def both(n: Any, j: Any, mask: Any) -> tuple[Any, Any]:
            """Return the derivative by the normalised numbers, and these."""
            here = build.add(at, n)
            x = build.fsub(v.load(data, build.add(source, here), mask), mean)
            g = v.load(data, build.add(scale, j), mask)
            slope = build.fmul(v.load(data, build.add(d, here), mask), g)
            return slope, build.fmul(x, inverse)

        def add(n: Any, j: Any, mask: Any) -> None:
            slope, x = both(n, j, mask)
            build.store(build.fadd(build.load(sums[0]), slope), sums[0])
            build.store(v.fma(slope, x, build.load(sums[1])), sums[1])

        _over(v, columns, height, add)
        level = build.fmul(_mean(v, sums[0], columns), takes)
        along = build.fneg(_mean(v, sums[1], columns))

        def write(n: Any, j: Any, mask: Any) -> None:
            slope, x = both(n, j, mask)
            slope = build.fmul(v.fma(x, along, build.fsub(slope, level)), inverse)
            v.store(slope, data, build.add(build.add(to, at), n), mask)

        _over(v, columns, height, write)

    simd.count_loop(build, rows, row)


def _noted(v: simd.Vectors, data: Any, notes: Any, height: Any, i: Any) -> tuple[Any, Any]:
    """Return a row's mean and one over its deviation, in every lane."""
    build = v.builder
    note = build.add(notes, i)
    first, second = (
        v.splat(build.load(build.gep(data, [at]))) for at in (note, build.add(note, height))
    )
    return first, second


def _norm_sums(
    M: Any, source: int, d: int, notes: int, height: int, rows: int, first: int, second: int,
    start: int, other: int,
) -> None:  # fmt: skip
    """Sum in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    mean, inverse = (M[n : n + rows, np.newaxis] for n in (notes, notes + height))
    X, slope = (M[at : at + rows * panel].reshape(rows, panel) for at in (source, d))
    sums = (slope * ((X - mean) * inverse)).sum(axis=0), slope.sum(axis=0)
    for to, begin, total in zip((first, second), (start, other), sums, strict=True):
        if to >= 0:
            M[to : to + panel] = total + (M[begin : begin + panel] if begin >= 0 else 0)


@intrinsic(_norm_sums)
def norm_sums(
    typing: Any, M: Any, source: Any, d: Any, notes: Any, height: Any, rows: Any, first: Any,
    second: Any, start: Any, other: Any,
) -> Any:  # fmt: skip
    """Sum the gradients of scale and shift over rows of one panel.

    Reads: in M, the panel that `normalise` read, at source, and that of its result's derivative,
    at d; what was noted; one row at each start unless that is negative.
    Writes: one row of sums at first, and at second unless that is negative.
    May overwrite: nothing else; either may be its start.
    """
    signature = types.void(M, *[types.intp] * 9)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        kinds = [data.type, *[simd.int64] * 9]
        name = f"fastnn.norm_sums.{data.type.pointee}"
        builder.call(simd.outlined(builder, name, kinds, _emit_sums), [data, *arguments[1:]])
        return context.get_dummy_value()

    return signature, generate


def _emit_sums(
    build: Any, data: Any, source: Any, d: Any, notes: Any, height: Any, rows: Any, first: Any,
    second: Any, start: Any, other: Any,
) -> None:  # fmt: skip
    """Emit the loop over rows."""
    v = simd.Vectors(build, data.type.pointee)
    halves, none = (0, v.lanes), simd.int64(0)
    sums = [[simd.variable(build, v.constant(0.0)) for _ in halves] for _ in range(2)]
    for held, begin in zip(sums, (start, other), strict=True):
        with build.if_then(build.icmp_signed(">=", begin, none)):
            for half, one in zip(halves, held, strict=True):
                build.store(v.load(data, build.add(begin, simd.int64(half))), one)

    def row(i: Any) -> None:
        at = build.mul(i, simd.int64(2 * v.lanes))
        mean, inverse = _noted(v, data, notes, height, i)
        for n, half in enumerate(halves):
            here = build.add(at, simd.int64(half))
            x = build.fmul(build.fsub(v.load(data, build.add(source, here)), mean), inverse)
            slope = v.load(data, build.add(d, here))
            build.store(v.fma(slope, x, build.load(sums[0][n])), sums[0][n])
            build.store(build.fadd(build.load(sums[1][n]), slope), sums[1][n])

    simd.count_loop(build, rows, row)
    for held, to in zip(sums, (first, second), strict=True):
        with build.if_then(build.icmp_signed(">=", to, none)):
            for half, one in zip(halves, held, strict=True):
                v.store(build.load(one), data, build.add(to, simd.int64(half)))


@apart
def norm_forward(M: Any, row: Any, number: float, height: int, first: int, last: int) -> None:
    """Normalise some rows.

    Reads: the operation's source and spans.  Writes: its result and `scratch`.
    May overwrite: nothing else.
    """
    at = first * (PANEL_BYTES // M.itemsize)
    centred = 1 if row.operation == codes.LAYER_NORM else 0
    shifted = 1 if row.biases >= 0 else 0
    shift = row.biases if shifted else row.packed
    normalise(
        M, row.source + at, row.result + at, row.scratch + first, height, last - first, row.outputs,
        row.packed, shift, M.dtype.type(number), centred, shifted,
    )  # fmt: skip


@apart
def norm_backward(M: Any, row: Any, height: int, first: int, last: int) -> None:
    """Compute the derivative by what the operation reads, of some rows.

    Reads: its source, `dresult`, first span and `scratch`.  Writes: its `dsource`.
    May overwrite: nothing else.
    """
    at = first * (PANEL_BYTES // M.itemsize)
    centred = 1 if row.operation == codes.LAYER_NORM else 0
    normalise_back(
        M, row.source + at, row.dresult + at, row.dsource + at, row.scratch + first, height,
        last - first, row.outputs, row.packed, centred,
    )  # fmt: skip


@kernel
def norm_gradient(
    M: Any, row: Any, height: int, rows: int, j: int, first: int, second: int, start: int,
    other: int,
) -> None:  # fmt: skip
    """Sum the gradients of its spans, one panel from column j; see `spans.span_gradient`."""
    at = j * height
    norm_sums(
        M, row.source + at, row.dresult + at, row.scratch, height, rows, first, second, start, other
    )
