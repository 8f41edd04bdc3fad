"""Losses and the gradients that the backward pass starts from.

A matched loss is computed from Z of the last layer and gives dZ; the others read A and give dA.
Loss and gradient share their exponentials, so one walk over the rows gives both.  Losses that are
means over the outputs (`pointwise`) share that walk and differ in one call per vector; the
others have an arm of their own here.

The file is long because those arms stand beside the walk that all share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from fastnn.kernels import codes, records, simd, vector_math
from fastnn.kernels._jit import intrinsic
from fastnn.kernels.increments import increased, increased_back
from fastnn.kernels.own_functions import TWINS, emit_loss
from fastnn.kernels.pointwise import POINTWISE
from fastnn.kernels.quantiles import Ordered, quantiles
from fastnn.kernels.rows import Matrix, Walk, walk_rows

__all__ = ["output_loss"]

# llvmlite's and Numba's helpers carry no types.
_ir: Any = ir
_cgutils: Any = cgutils

_FIELDS: Any = records.PLAN.fields
_DOUBLE: Any = _ir.DoubleType()


class _Plain:
    """The numbers of a plan as NumPy takes them, by name, in a dtype."""

    def __init__(self, plan: Any, dtype: Any) -> None:
        self._plan, self._dtype = plan, dtype

    def __getitem__(self, name: str) -> Any:
        return self._dtype.type(self._plan[name])


def _known(y: Any, plan: Any) -> tuple[Any, Any]:
    """Return how many targets each row has, as numbers of their type, and which are missing."""
    gone = np.isnan(y) if plan["missing"] else np.zeros(y.shape, bool)
    return np.maximum((~gone).sum(axis=1, keepdims=True), 1).astype(y.dtype), gone


def _output_loss(
    losses: Any, D: Any, S: Any, labels: Any, Y: Any, picks: Any, shares: Any, plan: Any
) -> None:
    """Compute it in NumPy."""
    y = np.eye(S.shape[1], dtype=S.dtype)[labels[picks]] if labels.size else Y[picks]
    code, numbers = int(plan["loss"]), _Plain(plan, S.dtype)
    if code in (codes.CROSS_ENTROPY, codes.FOCAL):
        shifted = S - S.max(axis=1, keepdims=True)
        E = np.exp(shifted)
        total = E.sum(axis=1, keepdims=True)
        logs = shifted - np.log(total)
    if code == codes.CROSS_ENTROPY:
        smoothing = numbers["label_smoothing"]
        y = (1 - smoothing) * y + smoothing / S.dtype.type(y.shape[1])
        L = np.sum(-y * logs, axis=1, where=y != 0)
        L = np.minimum(L, numbers["loss_limit"])
        gradient = E / total * y.sum(axis=1, keepdims=True) - y
    elif code == codes.FOCAL:
        gamma = numbers["gamma"]
        rest = np.maximum(-np.expm1(logs), np.finfo(S.dtype).tiny)
        weight = rest**gamma
        L = np.sum(-y * weight * logs, axis=1, where=y != 0)
        pull = y * (weight - gamma * weight / rest * np.exp(logs) * logs)
        gradient = np.exp(logs) * pull.sum(axis=1, keepdims=True) - pull
    elif code == codes.QUANTILES:
        q = plan["quantiles"][: S.shape[1]].astype(S.dtype)
        error = increased(S) - y
        _, gone = _known(y, plan)
        slopes = (np.sign(error) + 1) / 2 - q
        L = np.where(gone, 0, error * slopes).mean(axis=1)
        gradient = increased_back(np.where(gone, 0, slopes) / S.dtype.type(S.shape[1]), S)
    elif code == codes.GAUSSIAN_NLL:
        m = y.shape[1]
        error, logs = S[:, :m] - y, S[:, m:]
        squares = error * error * np.exp(-logs)
        count, gone = _known(y, plan)
        L = np.where(gone, 0, logs + squares).sum(axis=1) / count[:, 0] / 2
        slopes = np.hstack([error * np.exp(-logs), (1 - squares) / 2])
        gradient = np.where(np.hstack([gone, gone]), 0, slopes) / count
    else:
        if code > codes.LARGEST_CODE:
            values, slopes = TWINS[code].values(S, y), TWINS[code].slopes(S, y)
        else:
            values, slopes = POINTWISE[code].twin(S, y, numbers)
        count, gone = _known(y, plan)
        L = np.where(gone, 0, values).sum(axis=1) / count[:, 0]
        gradient = np.where(gone, 0, slopes) / count
    losses[:] = L
    if D.size:
        D[:] = shares[:, np.newaxis] * gradient


@intrinsic(_output_loss)
def output_loss(
    typing: Any, losses: Any, D: Any, S: Any, labels: Any, Y: Any, picks: Any, shares: Any,
    plan: Any,
) -> Any:  # fmt: skip
    """Compute the loss of each example, and the gradient of the batch's mean with respect to S.

    Reads: S (rows, outputs), which is Z for a matched loss and A for the others; picks (rows,),
    the example of each row; labels (examples,) where targets are integer classes, else
    Y (examples, targets), the other one being empty, NaN there being no target where the plan
    says so, and the loss the mean over those that there are; shares (rows,), each row's part in
    the mean; in the plan, the loss and its numbers, and a cross-entropy's upper bound per output
    (its gradient is not bounded).
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
        at = builder.bitcast(arguments[7], _ir.IntType(8).as_pointer())
        code, missing = (_loaded(builder, at, name, simd.int64) for name in ("loss", "missing"))

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
                plan=at,
                missing=builder.icmp_signed("!=", missing, simd.int64(0)),
            )
            loss = simd.variable(builder, v.constant(0.0))

            def arm(emit: Callable[[_Work], Any]) -> Callable[[], object]:
                return lambda: builder.store(emit(work), loss)

            arms = {row: arm(emit) for row, emit in _LOSSES.items()}
            simd.switch(builder, code, arms, arm(_pointwise))
            walk.write(builder.load(loss), losses_at)
            walk.hand_out(work.d)

        ordered = builder.icmp_signed("==", code, simd.int64(codes.QUANTILES))
        with builder.if_else(ordered) as (together, apart):
            with together:
                levels = _placed(builder, at, "quantiles", _DOUBLE)
                given = Ordered(levels, missing, wanted, picks_at, shares_at, losses_at)
                quantiles(v, d_all, s_all, y_all, given)
            with apart:
                walk_rows(v, s_all, rows)
        return context.get_dummy_value()

    return types.void(losses, D, S, labels, Y, picks, shares, plan), generate


def _loaded(builder: Any, plan: Any, name: str, kind: Any) -> Any:
    """Load a field of the plan that begins at an address."""
    return builder.load(_placed(builder, plan, name, kind))


def _placed(builder: Any, plan: Any, name: str, kind: Any) -> Any:
    """Return the address of a field of the plan that begins at an address."""
    place = builder.gep(plan, [simd.int64(_FIELDS[name][1])])
    return builder.bitcast(place, kind.as_pointer())


@dataclass(frozen=True, slots=True)
class _Numbers:
    """A loss's numbers, by name, in all lanes of a vector; NumPy twins take them as plain ones.

    Attributes
    ----------
    v : Vectors
        Where the instructions go.
    plan : llvmlite value
        Address of the plan.
    """

    v: simd.Vectors
    plan: Any

    def __getitem__(self, name: str) -> Any:
        build, element = self.v.builder, self.v.element
        number = _loaded(build, self.plan, name, _DOUBLE)
        return self.v.splat(number if self.v.bits == 64 else build.fptrunc(number, element))


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
    plan: Any  # its address
    missing: Any  # whether NaN among the targets stands for none

    def known(self) -> Any:
        """Emit how many targets each row has, at least 1."""
        v, build = self.walk.v, self.walk.v.builder
        held = simd.variable(build, self.count)
        one = v.constant(1.0)

        def term(place: Any) -> list[Any]:
            y = self.y.load(place)
            return [build.select(build.fcmp_ordered("ord", y, y), one, v.constant(0.0))]

        with build.if_then(self.missing):
            (total,) = self.walk.first(self.targets).total(term)
            build.store(v.greater(total, one), held)
        return build.load(held)

    def gone(self, y: Any) -> Any:
        """Emit the mask of the targets that are missing."""
        v, build = self.walk.v, self.walk.v.builder
        wide = build.select(self.missing, v.constant(1.0), v.constant(0.0))
        asked = build.fcmp_ordered("!=", wide, v.constant(0.0))
        return build.and_(build.fcmp_unordered("uno", y, y), asked)

    @property
    def numbers(self) -> _Numbers:
        """The numbers of the plan, by name."""
        return _Numbers(self.walk.v, self.plan)


def _pointwise(work: _Work) -> Any:
    """Emit the mean over outputs of the value of each, by the code."""
    v = work.walk.v
    build = v.builder
    pair = _ir.LiteralStructType([v.type, v.type])
    kinds = [v.type, v.type, work.plan.type, simd.int64]
    function = simd.outlined(build, f"fastnn.pointwise.{v.element}", kinds, _values, pair)
    count, zero = work.known(), v.constant(0.0)
    scale = build.fdiv(work.share, count)

    def term(place: Any) -> list[Any]:
        s, y = work.s.load(place), work.y.load(place)
        value, slope = _cgutils.unpack_tuple(
            build, build.call(function, [s, y, work.plan, work.code]), 2
        )
        gone = work.gone(y)
        work.d.store(build.fmul(scale, build.select(gone, zero, slope)), place)
        return [build.select(gone, zero, value)]

    (total,) = work.walk.total(term)
    return build.fdiv(total, count)


def _values(builder: Any, s: Any, y: Any, plan: Any, code: Any) -> Any:
    """Emit value and slope of a vector of outputs, by the code."""
    v = simd.Vectors(builder, s.type.element)
    results = [simd.variable(builder, v.constant(0.0)) for _ in range(2)]

    def arm(row: int) -> None:
        pair = POINTWISE[row].emit(v, s, y, _Numbers(v, plan))
        for result, held in zip(pair, results, strict=True):
            builder.store(result, held)

    def own() -> None:
        for result, held in zip(emit_loss(v, code, s, y), results, strict=True):
            builder.store(result, held)

    # No other code comes here.
    simd.switch(builder, code, {row: partial(arm, row) for row in POINTWISE}, own)
    return _cgutils.pack_struct(builder, [builder.load(held) for held in results])


def _cross_entropy(work: _Work) -> Any:
    """Emit sum_j y_j (log sum_k e^(s_k - highest) - (s_j - highest)), over the j with a target."""
    v = work.walk.v
    build = v.builder
    zero = v.constant(0.0)
    highest = work.walk.largest(work.s)
    smoothing = work.numbers["label_smoothing"]
    kept, spread = build.fsub(v.constant(1.0), smoothing), build.fdiv(smoothing, work.count)

    def wanted(place: Any) -> Any:
        return v.fma(kept, work.y.load(place), spread)

    def terms(place: Any) -> list[Any]:
        shifted = build.fsub(work.s.load(place), highest)
        e = vector_math.exp(v, shifted)
        work.d.store(e, place)
        y = wanted(place)
        asked = build.fcmp_unordered("!=", y, zero)
        return [e, y, build.select(asked, build.fmul(y, shifted), zero)]

    total, mass, along = work.walk.total(terms, count=3)
    factor = build.fdiv(build.fmul(work.share, mass), total)

    def step(place: Any) -> None:
        asked = build.fmul(work.share, wanted(place))
        work.d.store(v.fma(factor, work.d.load(place), build.fneg(asked)), place)

    with build.if_then(work.wanted):
        work.walk.each(step)
    loss, limit = (
        v.fma(mass, vector_math.log(v, total), build.fneg(along)),
        work.numbers["loss_limit"],
    )
    return v.select_greater(loss, limit, limit, loss)


def _focal(work: _Work) -> Any:
    """Emit -sum_j y_j (1 - p_j)^gamma log p_j for p = softmax(s).

    The gradient is p_j times the sum of all pulls, less the pull of its own, where that is
    y_j ((1 - p_j)^gamma - gamma (1 - p_j)^(gamma - 1) p_j log p_j).
    """
    v = work.walk.v
    build = v.builder
    zero, gamma = v.constant(0.0), work.numbers["gamma"]
    least = v.constant(2.0**-126 if v.bits == 32 else 2.0**-1022)
    highest = work.walk.largest(work.s)
    (total,) = work.walk.total(
        lambda place: [vector_math.exp(v, build.fsub(work.s.load(place), highest))]
    )
    level = vector_math.log(v, total)

    def logarithm(place: Any) -> Any:
        return build.fsub(build.fsub(work.s.load(place), highest), level)

    def terms(place: Any) -> list[Any]:
        y, log_p = work.y.load(place), logarithm(place)
        # 1 - p, exact where p is near 1.
        rest = v.greater(least, build.fneg(vector_math.expm1(v, log_p)))
        weight = vector_math.exp(v, build.fmul(gamma, vector_math.log(v, rest)))
        weighted = build.fmul(weight, log_p)
        bend = build.fdiv(build.fmul(build.fmul(gamma, weighted), vector_math.exp(v, log_p)), rest)
        asked = build.fcmp_unordered("!=", y, zero)
        loss = build.select(asked, build.fmul(y, weighted), zero)
        pull = build.select(asked, build.fmul(y, build.fsub(weight, bend)), zero)
        work.d.store(pull, place)
        return [loss, pull]

    along, pulls = work.walk.total(terms, count=2)

    def step(place: Any) -> None:
        p = vector_math.exp(v, logarithm(place))
        slope = v.fma(p, pulls, build.fneg(work.d.load(place)))
        work.d.store(build.fmul(work.share, slope), place)

    with build.if_then(work.wanted):
        work.walk.each(step)
    return build.fneg(along)


def _gaussian_nll(work: _Work) -> Any:
    """Emit sum_j (r_j + (s_j - y_j)^2 e^(-r_j)) / (2 targets), where the r follow the s."""
    v = work.walk.v
    build = v.builder
    half, zero = v.constant(0.5), v.constant(0.0)
    count = work.known()
    scale = build.fdiv(work.share, count)

    def term(place: Any) -> list[Any]:
        behind = work.walk.moved(place, work.targets)
        logs = work.s.load(behind)
        precision = vector_math.exp(v, build.fneg(logs))
        y = work.y.load(place)
        gone = work.gone(y)
        error = build.fsub(work.s.load(place), y)
        weighted = build.fmul(error, precision)
        square = build.fmul(weighted, error)
        slopes = weighted, v.fma(square, build.fneg(half), half)
        for slope, where in zip(slopes, (place, behind), strict=True):
            work.d.store(build.fmul(scale, build.select(gone, zero, slope)), where)
        return [build.select(gone, zero, build.fadd(logs, square))]

    (total,) = work.walk.first(work.targets).total(term)
    return build.fdiv(build.fmul(total, half), count)


_LOSSES = {
    codes.CROSS_ENTROPY: _cross_entropy,
    codes.FOCAL: _focal,
    codes.GAUSSIAN_NLL: _gaussian_nll,
}
