"""The activation "increasing": sums along a row of what is not negative, but for the first unit.

A sum goes on from column to column, so that a lane is a row here, whatever the width.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import simd, vector_math
from fastnn.kernels.rows import Matrix, Walk, walk_in_parts

__all__ = ["increased", "increased_back", "increasing", "increasing_backward", "next_sum"]


def increased(Z: Any) -> Any:
    """Compute z_1, then what is before plus log(1 + e^z), in NumPy."""
    steps = np.logaddexp(0, Z)
    steps[:, 0] = Z[:, 0]
    return steps.cumsum(axis=1)


def increased_back(D: Any, Z: Any) -> Any:
    """Compute the gradient by Z from that by what is increased, in NumPy."""
    slopes = 1 / (1 + np.exp(-Z))
    slopes[:, 0] = 1
    return slopes * D[:, ::-1].cumsum(axis=1)[:, ::-1]


def next_sum(v: simd.Vectors, z: Any, first: Any, held: Any) -> Any:
    """Emit the next unit of each row, which takes the place of the one before in `held`."""
    more = v.builder.select(first, z, vector_math.softplus(v, z))
    v.builder.store(v.builder.fadd(v.builder.load(held), more), held)
    return v.builder.load(held)


def increasing(v: simd.Vectors, target: Matrix, matrix: Matrix) -> None:
    """Emit a_1 = z_1 and a_j = a_(j-1) + log(1 + e^z_j) of each row."""
    build = v.builder

    def rows(walk: Walk, at: Any, held: Any) -> None:
        z, a = walk.source(matrix.part(build, at)), walk.target(target.part(build, at), simd.TRUE)

        def step(place: Any) -> None:
            first = build.icmp_signed("==", build.add(at, place), simd.int64(0))
            a.store(next_sum(v, z.load(place), first, held), place)

        walk.each(step)
        walk.hand_out(a)

    walk_in_parts(v, matrix, rows)


def increasing_backward(v: simd.Vectors, gradient: Matrix, _result: Any, matrix: Matrix) -> None:
    """Emit dz_j = s_j sum_(k >= j) da_k of each row, with s the slope of log(1 + e^z), s_1 = 1."""
    build = v.builder

    def rows(walk: Walk, at: Any, held: Any) -> None:
        part = gradient.part(build, at)
        z, d, out = (
            walk.source(matrix.part(build, at)),
            walk.source(part),
            walk.target(part, simd.TRUE),
        )
        last = build.sub(walk.columns, simd.int64(1))

        def step(turned: Any) -> None:
            place = build.sub(last, turned)
            build.store(build.fadd(build.load(held), d.load(place)), held)
            first = build.icmp_signed("==", build.add(at, place), simd.int64(0))
            slope = build.select(first, v.constant(1.0), vector_math.sigmoid(v, z.load(place)))
            out.store(build.fmul(build.load(held), slope), place)

        walk.each(step)
        walk.hand_out(out)

    walk_in_parts(v, matrix, rows, backward=True)
