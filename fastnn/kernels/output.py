"""Losses and the gradients that the backward pass starts from, one arm for each code.

A matched loss is computed from Z of the last layer and gives dZ; the others read A and give dA.
Loss and gradient share their exponentials, so one walk over the rows gives both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import codes, simd, vector_math
from fastnn.kernels._jit import intrinsic
from fastnn.kernels.rows import Matrix, Walk, walk_rows

__all__ = ["output_loss"]


def _output_loss(
    losses: Any, D: Any, S: Any, labels: Any, Y: Any, picks: Any, shares: Any, code: int
) -> None:
    """Compute it in NumPy."""
    y = np.eye(S.shape[1], dtype=S.dtype)[labels[picks]] if labels.size else Y[picks]
    if code == codes.MEAN_SQUARED_ERROR:
        L, gradient = np.mean((S - y) ** 2, axis=1), 2 * (S - y) / S.shape[1]
    elif code == codes.BINARY_CROSS_ENTROPY:
        E = np.exp(-np.abs(S))
        L = np.mean(np.maximum(S, 0) - S * y + np.log1p(E), axis=1)
        gradient = (np.where(S < 0, E, 1) / (1 + E) - y) / S.shape[1]
    elif code == codes.CROSS_ENTROPY:
        shifted = S - S.max(axis=1, keepdims=True)
        E = np.exp(shifted)
        total = E.sum(axis=1, keepdims=True)
        L = np.sum(y * (np.log(total) - shifted), axis=1, where=y != 0)
        gradient = E / total * y.sum(axis=1, keepdims=True) - y
    losses[:] = L
    if D.size:
        D[:] = shares[:, np.newaxis] * gradient


@intrinsic(_output_loss)
def output_loss(
    typing: Any,
    losses: Any,
    D: Any,
    S: Any,
    labels: Any,
    Y: Any,
    picks: Any,
    shares: Any,
    code: Any,
) -> Any:
    """Compute the loss of each example, and the gradient of the batch's mean with respect to S.

    Reads: S (rows, outputs), which is Z for a matched loss and A for the others; picks (rows,),
    the example of each row; labels (examples,) where targets are integer classes, else
    Y (examples, outputs), the other one being empty; shares (rows,), each row's part in the mean.
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

        def rows(walk: Walk) -> None:
            examples = walk.numbers(picks_at)
            label = simd.variable(builder, v.integer_constant(0))
            with builder.if_then(labelled):
                classes = [builder.load(builder.gep(labels_at, [number])) for number in examples]
                builder.store(walk.spread([v.whole(number) for number in classes]), label)
            work = _Work(
                walk=walk,
                s=walk.source(s_all),
                y=walk.answers(y_all, examples, builder.load(label), labelled),
                d=walk.target(d_all, wanted),
                wanted=wanted,
                share=walk.spread(walk.numbers(shares_at)),
                count=v.splat(builder.sitofp(walk.columns, v.element)),
            )
            loss = simd.variable(builder, v.constant(0.0))
            for row, emit in _LOSSES.items():
                with builder.if_then(builder.icmp_signed("==", arguments[7], simd.int64(row))):
                    builder.store(emit(work), loss)
            walk.write(builder.load(loss), losses_at)
            walk.hand_out(work.d)

        walk_rows(v, s_all, rows)
        return context.get_dummy_value()

    return types.void(losses, D, S, labels, Y, picks, shares, types.intp), generate


@dataclass(frozen=True)
class _Work:
    """What a loss is computed with."""

    walk: Walk
    s: Any  # rows to load from
    y: Any  # their targets
    d: Any  # rows to store the gradient to
    wanted: Any  # whether anybody wants it
    share: Any  # part in the mean, of each row
    count: Any  # outputs, as a number of the rows' type


def _mean_squared_error(work: _Work) -> Any:
    """Emit sum_j (s_j - y_j)^2 / outputs."""
    v = work.walk.v
    build = v.builder
    scale = build.fdiv(build.fadd(work.share, work.share), work.count)

    def square(place: Any) -> list[Any]:
        error = build.fsub(work.s.load(place), work.y.load(place))
        work.d.store(build.fmul(scale, error), place)
        return [build.fmul(error, error)]

    (total,) = work.walk.total(square)
    return build.fdiv(total, work.count)


def _binary_cross_entropy(work: _Work) -> Any:
    """Emit sum_j (log(1 + e^(s_j)) - y_j s_j) / outputs, with no exponent above 0."""
    v = work.walk.v
    build = v.builder
    scale = build.fdiv(work.share, work.count)
    zero, one = v.constant(0.0), v.constant(1.0)

    def term(place: Any) -> list[Any]:
        s, y = work.s.load(place), work.y.load(place)
        e = vector_math.exp(v, build.fneg(v.call("llvm.fabs", s)))
        above = build.select(build.fcmp_ordered(">=", s, zero), one, e)
        sigmoid = build.fdiv(above, build.fadd(one, e))
        work.d.store(build.fmul(scale, build.fsub(sigmoid, y)), place)
        # Where y is 1, s cancels before the logarithm comes in.
        straight = v.fma(build.fneg(s), y, v.greater(s, zero))
        return [build.fadd(straight, vector_math.log1p(v, e))]

    (total,) = work.walk.total(term)
    return build.fdiv(total, work.count)


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
    return v.fma(mass, vector_math.log(v, total), build.fneg(along))


_LOSSES = {
    codes.MEAN_SQUARED_ERROR: _mean_squared_error,
    codes.BINARY_CROSS_ENTROPY: _binary_cross_entropy,
    codes.CROSS_ENTROPY: _cross_entropy,
}
