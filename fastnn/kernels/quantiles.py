"""The loss of several quantiles of one target, together with the activation that orders them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastnn.kernels import simd, vector_math
from fastnn.kernels.increments import increasing_backward, next_sum
from fastnn.kernels.rows import Matrix, Walk, walk_in_parts

__all__ = ["Ordered", "quantiles"]


@dataclass(frozen=True, slots=True)
class Ordered:
    """What the loss of several quantiles is computed with, beside matrices: all are addresses.

    Attributes
    ----------
    levels, picks, shares, losses : llvmlite values
        The quantiles as doubles; the others as in `output_loss`.
    missing, wanted : llvmlite values
        Whether NaN stands for no target, and whether the gradient is wanted.
    """

    levels: Any
    missing: Any
    wanted: Any
    picks: Any
    shares: Any
    losses: Any


def quantiles(v: simd.Vectors, d_all: Matrix, s_all: Matrix, y_all: Matrix, given: Ordered) -> None:
    """Emit mean_j e_j (1[e_j > 0] - q_j) with e_j = a_j - y, where the a are sums along a row."""
    build = v.builder
    zero, half = v.constant(0.0), v.constant(0.5)
    count = v.splat(build.sitofp(s_all.columns, v.element))
    missing = build.icmp_signed("!=", given.missing, simd.int64(0))

    def rows(walk: Walk, at: Any, held: Any, loss: Any) -> None:
        part = s_all.part(build, at)
        s, d = walk.source(part), walk.target(d_all.part(build, at), given.wanted)
        starts = [build.mul(example, y_all.pitch) for example in walk.numbers(given.picks)]
        y = walk.spread([build.load(build.gep(y_all.data, [start])) for start in starts])
        none = build.and_(build.fcmp_unordered("uno", y, y), v.splat(missing))
        share = build.fdiv(walk.read(given.shares), count)

        def step(column: Any) -> None:
            here = build.add(at, column)
            first = build.icmp_signed("==", here, simd.int64(0))
            error = build.fsub(next_sum(v, s.load(column), first, held), y)
            level = build.load(build.gep(given.levels, [here]))
            level = level if v.bits == 64 else build.fptrunc(level, v.element)
            middle = build.fsub(half, v.splat(level))
            slope = build.select(none, zero, v.fma(vector_math.sign(v, error), half, middle))
            value = build.select(none, zero, build.fmul(error, slope))
            build.store(build.fadd(build.load(loss), value), loss)
            d.store(build.fmul(share, slope), column)

        walk.each(step)
        walk.hand_out(d)
        walk.write(build.fdiv(build.load(loss), count), given.losses)

    walk_in_parts(v, s_all, rows, count=2)
    with build.if_then(given.wanted):
        increasing_backward(v, d_all, None, s_all)
