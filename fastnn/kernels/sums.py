"""Sums of two operations' results, and the gradients that are added up where one is read twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import apart, intrinsic, kernel
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["add_gradient", "residual_backward", "residual_forward"]


def _add_rows(M: Any, to: int, at: int, other: int, count: int) -> None:
    """Add in NumPy."""
    M[to : to + count] = M[at : at + count] + (M[other : other + count] if other >= 0 else 0)


@intrinsic(_add_rows)
def add_rows(typing: Any, M: Any, to: Any, at: Any, other: Any, count: Any) -> Any:
    """Add elements at two places, or copy those of the first where the other one is negative.

    Reads: in M, count elements from each place, whole vectors.  Writes: as many from `to`, which
    may be either place.  May overwrite: nothing else.
    """

    def emit(build: Any, data: Any, to: Any, at: Any, other: Any, count: Any) -> None:
        v = simd.Vectors(build, data.type.pointee)

        def add(n: Any) -> None:
            first = v.load(data, build.add(at, n))
            second = v.load(data, build.add(other, n))
            v.store(build.fadd(first, second), data, build.add(to, n))

        def copy(n: Any) -> None:
            v.store(v.load(data, build.add(at, n)), data, build.add(to, n))

        with build.if_else(build.icmp_signed(">=", other, simd.int64(0))) as (two, one):
            with two:
                simd.count_loop(build, count, add, step=v.lanes)
            with one:
                simd.count_loop(build, count, copy, step=v.lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        kinds = [data.type, *[simd.int64] * 4]
        function = simd.outlined(builder, f"fastnn.add_rows.{data.type.pointee}", kinds, emit)
        builder.call(function, [data, *arguments[1:]])
        return context.get_dummy_value()

    return types.void(M, *[types.intp] * 4), generate


def _pass_positive(M: Any, to: int, at: int, a: int, count: int) -> None:
    """Pass it in NumPy."""
    M[to : to + count] = np.where(M[a : a + count] <= 0, M.dtype.type(0), M[at : at + count])


@intrinsic(_pass_positive)
def pass_positive(typing: Any, M: Any, to: Any, at: Any, a: Any, count: Any) -> Any:
    """Copy elements where others, at a, are above zero; elsewhere write zero.

    Reads: in M, count elements from at and from a, whole vectors.  Writes: as many from to.
    May overwrite: nothing else.
    """

    def emit(build: Any, data: Any, to: Any, at: Any, a: Any, count: Any) -> None:
        v = simd.Vectors(build, data.type.pointee)
        zero = v.constant(0.0)

        def turn(n: Any) -> None:
            nothing = build.fcmp_ordered("<=", v.load(data, build.add(a, n)), zero)
            kept = build.select(nothing, zero, v.load(data, build.add(at, n)))
            v.store(kept, data, build.add(to, n))

        simd.count_loop(build, count, turn, step=v.lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        kinds = [data.type, *[simd.int64] * 4]
        function = simd.outlined(builder, f"fastnn.pass_positive.{data.type.pointee}", kinds, emit)
        builder.call(function, [data, *arguments[1:]])
        return context.get_dummy_value()

    return types.void(M, *[types.intp] * 4), generate


@kernel
def add_panels(
    M: Any, to: int, at: int, other: int, columns: int, height: int, first: int, last: int
) -> None:
    """Add some rows of two matrices in panels, as `add_rows` does."""
    panel = PANEL_BYTES // M.itemsize
    for j in range(0, columns, panel):
        here = j * height + first * panel
        there = other + here if other >= 0 else other
        add_rows(M, to + here, at + here, there, (last - first) * panel)


@apart
def residual_forward(M: Any, row: Any, height: int, first: int, last: int) -> None:
    """Add what a block reads to what it gives, of some rows.

    Reads: the operation's source and `other`.  Writes: its result, which may be the source.
    May overwrite: nothing else.
    """
    add_panels(M, row.result, row.source, row.other, row.outputs, height, first, last)


@apart
def residual_backward(
    M: Any, row: Any, slope: int, source: int, height: int, first: int, last: int
) -> None:
    """Pass the derivative of a sum on to what a block gives, of some rows.

    What the block reads has it from `plus` of the first operation inside.  The slope of a relu is
    applied on the way (three relu layers of 256 in a block each, batch 256: 2 % of a step).

    Reads: the operation's `dresult`, and `carried` if it has that; the activation that the block
    ends in, and what it gave.  Writes: its `dsource`, and `carry`.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    if row.carry >= 0:
        add_panels(M, row.carry, row.dresult, row.carried, row.outputs, height, first, last)
    if slope == codes.RELU and row.plus < 0:
        for j in range(0, row.outputs, panel):
            at = j * height + first * panel
            pass_positive(
                M, row.dsource + at, row.dresult + at, source + at, (last - first) * panel
            )
    elif row.dsource != row.dresult:
        add_panels(M, row.dsource, row.dresult, codes.NONE, row.outputs, height, first, last)


@apart
def add_gradient(M: Any, row: Any, height: int, first: int, last: int) -> None:
    """Add the derivative of a sum that reads what the operation reads too, of some rows.

    Reads: the operation's `plus`.  Reads and writes: its `dsource`.  May overwrite: nothing else.
    """
    add_panels(M, row.dsource, row.dsource, row.plus, row.inputs, height, first, last)
