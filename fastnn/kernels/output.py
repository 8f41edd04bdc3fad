"""Losses and the gradients that the backward pass starts from.

A matched loss is computed from Z of the last layer and gives dZ; the others read A and give dA.
Loss and gradient share their exponentials, so one walk over the rows gives both.  Losses that are
means over the outputs (`pointwise`) share that walk and differ in one call per vector; the
others have an arm of their own here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from fastnn.kernels import codes, simd, vector_math
from fastnn.kernels._jit import intrinsic
from fastnn.kernels.pointwise import POINTWISE
from fastnn.kernels.rows import Matrix, Walk, walk_rows

__all__ = ["output_loss"]

# llvmlite's and Numba's helpers carry no types.
_ir: Any = ir
_cgutils: Any = cgutils


def _output_loss(
    losses: Any, D: Any, S: Any, labels: Any, Y: Any, picks: Any, shares: Any, code: int,
    number: float,
) -> None:  # fmt: skip
    """Compute it in NumPy."""
    y = np.eye(S.shape[1], dtype=S.dtype)[labels[picks]] if labels.size else Y[picks]
    if code == codes.CROSS_ENTROPY:
        shifted = S - S.max(axis=1, keepdims=True)
        E = np.exp(shifted)
        total = E.sum(axis=1, keepdims=True)
        L = np.sum(y * (np.log(total) - shifted), axis=1, where=y != 0)
        L = np.minimum(L, S.dtype.type(number))
        gradient = E / total * y.sum(axis=1, keepdims=True) - y
    elif code == codes.GAUSSIAN_NLL:
        m = y.shape[1]
        error, logs = S[:, :m] - y, S[:, m:]
        squares = error * error * np.exp(-logs)
        L = np.mean(logs + squares, axis=1) / 2
        gradient = np.hstack([error * np.exp(-logs), (1 - squares) / 2]) / m
    else:
        values, slopes = POINTWISE[code].twin(S, y, S.dtype.type(number))
        L, gradient = values.mean(axis=1), slopes / S.shape[1]
    losses[:] = L
    if D.size:
        D[:] = shares[:, np.newaxis] * gradient


@intrinsic(_output_loss)
def output_loss(
    typing: Any, losses: Any, D: Any, S: Any, labels: Any, Y: Any, picks: Any, shares: Any,
    code: Any, number: Any,
) -> Any:  # fmt: skip
    """Compute the loss of each example, and the gradient of the batch's mean with respect to S.

    Reads: S (rows, outputs), which is Z for a matched loss and A for the others; picks (rows,),
    the example of each row; labels (examples,) where targets are integer classes, else
    Y (examples, targets), the other one being empty; shares (rows,), each row's part in the mean;
    number, the loss's parameter, or a cross-entropy's upper bound per output (its gradient is
    not bounded).
    Writes: losses (rows,); D (rows, outputs), or nothing where it is (0, outputs).
    May overwrite: nothing else.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        v = simd.Vectors(builder, context.get_data_type(S.dtype))
        d_all, s_all, y_all = (
            Matrix.of(context, builder, kinds[n], arguments[n]) for n in (1, 2, 4)
        )
        losses_at, labels_at, picks_at, shares_at = (
            simd.data_pointer(context, builder, kinds[n], arguments[n]) for n in (0, 3, 5, 6)
        )
        lengths = [simd.data_length(context, builder, kinds[n], arguments[n]) for n in (1, 3)]
        wanted, labelled = (builder.icmp_signed(">", length, simd.int64(0)) for length in lengths)
        code = arguments[7]
        number = context.cast(builder, arguments[8], types.float64, S.dtype)

        def rows(walk: Walk) -> None:
            examples = walk.numbers(picks_at)
            label = simd.variable(builder, v.integer_constant(0))
            with builder.if_then(labelled):
                classes = [builder.load(builder.gep(labels_at, [place])) for place in examples]
                builder.store(walk.spread([v.whole(one) for one in classes]), label)
            answers = walk.first(y_all.columns)
            work = _Work(
                walk=walk,
                s=walk.source(s_all),
                y=answers.answers(y_all, examples, builder.load(label), labelled),
                d=walk.target(d_all, wanted),
                wanted=wanted,
                share=walk.read(shares_at),
                count=v.splat(builder.sitofp(y_all.columns, v.element)),
                targets=y_all.columns,
                code=code,
                number=number,
            )
            loss = simd.variable(builder, v.constant(0.0))

            def arm(emit: Callable[[_Work], Any]) -> Callable[[], object]:
                return lambda: builder.store(emit(work), loss)

            arms = {row: arm(emit) for row, emit in _LOSSES.items()}
            simd.switch(builder, code, arms, arm(_pointwise))
            walk.write(builder.load(loss), losses_at)
            walk.hand_out(work.d)

        walk_rows(v, s_all, rows)
        return context.get_dummy_value()

    return types.void(losses, D, S, labels, Y, picks, shares, types.intp, types.float64), generate


@dataclass(frozen=True)
class _Work:
    """What a loss is computed with."""

    walk: Walk
    s: Any  # rows to load from
    y: Any  # their targets
    d: Any  # rows to store the gradient to
    wanted: Any  # whether the gradient is wanted
    share: Any  # part in the mean, of each row
    count: Any  # targets of a row, as a number of the rows' type
    targets: Any  # the same as int64
    code: Any
    number: Any  # the loss's own


def _pointwise(work: _Work) -> Any:
    """Emit the mean over outputs of the value of each, by the code."""
    v = work.walk.v
    build = v.builder
    pair = _ir.LiteralStructType([v.type, v.type])
    kinds = [v.type, v.type, v.element, simd.int64]
    function = simd.outlined(build, f"fastnn.pointwise.{v.element}", kinds, _values, pair)
    scale = build.fdiv(work.share, work.count)

    def term(place: Any) -> list[Any]:
        s, y = work.s.load(place), work.y.load(place)
        value, slope = _cgutils.unpack_tuple(
            build, build.call(function, [s, y, work.number, work.code]), 2
        )
        work.d.store(build.fmul(scale, slope), place)
        return [value]

    (total,) = work.walk.total(term)
    return build.fdiv(total, work.count)


def _values(builder: Any, s: Any, y: Any, number: Any, code: Any) -> Any:
    """Emit value and slope of a vector of outputs, by the code."""
    v = simd.Vectors(builder, s.type.element)
    results = [simd.variable(builder, v.constant(0.0)) for _ in range(2)]

    def arm(row: int) -> None:
        pair = POINTWISE[row].emit(v, s, y, v.splat(number))
        for result, held in zip(pair, results, strict=True):
            builder.store(result, held)

    simd.switch(builder, code, {row: partial(arm, row) for row in POINTWISE})
    return _cgutils.pack_struct(builder, [builder.load(held) for held in results])


def _cross_entropy(work: _Work) -> Any:
    """Emit sum_j y_j (log sum_k e^(s_k - highest) - (s_j - highest)), over the j with a target."""
    v = work.walk.v
    build = v.builder
    zero = v.constant(0.0)
    highest = work.walk.largest(work.s)

    def terms(place: Any) -> list[Any]:
        shifted = build.fsub(work.s.load(place), highest)
        e = vector_math.exp(v, shifted)
        work.d.store(e, place)
        y = work.y.load(place)
        asked = build.fcmp_unordered("!=", y, zero)
        return [e, y, build.select(asked, build.fmul(y, shifted), zero)]

    total, mass, along = work.walk.total(terms, count=3)
    factor = build.fdiv(build.fmul(work.share, mass), total)

    def step(place: Any) -> None:
        asked = build.fmul(work.share, work.y.load(place))
        work.d.store(v.fma(factor, work.d.load(place), build.fneg(asked)), place)

    with build.if_then(work.wanted):
        work.walk.each(step)
    loss, limit = v.fma(mass, vector_math.log(v, total), build.fneg(along)), v.splat(work.number)
    return v.select_greater(loss, limit, limit, loss)


def _gaussian_nll(work: _Work) -> Any:
    """Emit sum_j (r_j + (s_j - y_j)^2 e^(-r_j)) / (2 targets), where the r follow the s."""
    v = work.walk.v
    build = v.builder
    half = v.constant(0.5)
    scale = build.fdiv(work.share, work.count)

    def term(place: Any) -> list[Any]:
        behind = work.walk.moved(place, work.targets)
        logs = work.s.load(behind)
        precision = vector_math.exp(v, build.fneg(logs))
        error = build.fsub(work.s.load(place), work.y.load(place))
        weighted = build.fmul(error, precision)
        work.d.store(build.fmul(scale, weighted), place)
        square = build.fmul(weighted, error)
        work.d.store(build.fmul(scale, v.fma(square, build.fneg(half), half)), behind)
        return [build.fadd(logs, square)]

    (total,) = work.walk.first(work.targets).total(term)
    return build.fdiv(build.fmul(total, half), work.count)


_LOSSES = {
    codes.CROSS_ENTROPY: _cross_entropy,
    codes.GAUSSIAN_NLL: _gaussian_nll,
}
