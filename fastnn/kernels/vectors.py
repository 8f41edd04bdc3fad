"""Sums over long vectors of float64, in one pass each: what quasi-Newton searches are made of.

LLVM does not vectorise a sum whose order counts.  Here each lane of four vectors has a sum of its
own, added up at the end, so that the order depends on the length alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic

__all__ = ["blended_dot", "dot", "largest"]

# Sums side by side: an addition takes four cycles, in which eight could begin; the loads are the
# limit from four on.
_ABREAST = 4


def _dot(a: Any, b: Any) -> float:
    """Compute it in NumPy."""
    return float((a * b).sum())


def _blended_dot(q: Any, scale: float, factor: float, y: Any, s: Any) -> float:
    """Compute it in NumPy."""
    q[:] = scale * q + factor * y
    return float((s * q).sum())


def _largest(a: Any) -> float:
    """Compute it in NumPy."""
    return float(np.fmax.reduce(np.abs(a), initial=0.0))


def _over(
    context: Any, builder: Any, signature: Any, arguments: Any, arrays: tuple[int, ...],
    combine: Callable[..., Any], reduce: Callable[..., Any],
) -> Any:  # fmt: skip
    """Emit a walk over arrays of one length; return its sums, reduced to one number.

    ``combine(v, total, offset, mask, *pointers)`` emits a vector's part of a sum.
    """
    data = [simd.data_pointer(context, builder, signature.args[n], arguments[n]) for n in arrays]
    count = simd.data_length(context, builder, signature.args[arrays[0]], arguments[arrays[0]])
    v = simd.Vectors(builder, context.get_data_type(types.float64))
    totals = [simd.variable(builder, v.constant(0.0)) for _ in range(_ABREAST)]

    def add(total: Any, offset: Any, mask: Any) -> None:
        builder.store(combine(v, builder.load(total), offset, mask, *data), total)

    def several(offset: Any) -> None:
        for n, total in enumerate(totals):
            add(total, builder.add(offset, simd.int64(n * v.lanes)), None)

    whole = builder.and_(count, simd.int64(-_ABREAST * v.lanes))
    simd.count_loop(builder, whole, several, step=_ABREAST * v.lanes)
    rest = builder.sub(count, whole)
    v.over(rest, lambda offset, mask: add(totals[0], builder.add(whole, offset), mask))
    sums = [builder.load(total) for total in totals]
    pairs = [reduce(v, sums[0], sums[1]), reduce(v, sums[2], sums[3])]
    return v.folded(reduce(v, *pairs), lambda a, b: reduce(v, a, b))


def _added(v: simd.Vectors, a: Any, b: Any) -> Any:
    """Emit a sum."""
    return v.builder.fadd(a, b)


@intrinsic(_dot)
def dot(typing: Any, a: Any, b: Any) -> Any:
    """Return the sum of products of two vectors of float64.

    Reads: a and b (n,).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def combine(v: simd.Vectors, total: Any, at: Any, mask: Any, a: Any, b: Any) -> Any:
            return v.fma(v.load(a, at, mask), v.load(b, at, mask), total)

        return _over(context, builder, signature, arguments, (0, 1), combine, _added)

    return types.float64(a, b), generate


@intrinsic(_blended_dot)
def blended_dot(typing: Any, q: Any, scale: Any, factor: Any, y: Any, s: Any) -> Any:
    """Compute ``q = scale q + factor y`` and return the sum of products of s and the new q.

    Reads: y and s (n,); s may be q.  Writes: q (n,).  May overwrite: nothing else.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scales = [
            context.cast(builder, arguments[n], signature.args[n], types.float64) for n in (1, 2)
        ]

        def combine(v: simd.Vectors, total: Any, at: Any, mask: Any, *places: Any) -> Any:
            q, y, s = places
            old, more = (v.load(array, at, mask) for array in (q, y))
            new = v.fma(v.splat(scales[1]), more, builder.fmul(v.splat(scales[0]), old))
            v.store(new, q, at, mask)
            # After the store, as s may be q.
            return v.fma(v.load(s, at, mask), new, total)

        return _over(context, builder, signature, arguments, (0, 3, 4), combine, _added)

    return types.float64(q, types.float64, types.float64, y, s), generate


@intrinsic(_largest)
def largest(typing: Any, a: Any) -> Any:
    """Return the largest absolute value of a vector of float64; NaN counts as 0.

    Reads: a (n,).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def greater(v: simd.Vectors, x: Any, y: Any) -> Any:
            return v.select_greater(x, y, x, y)

        def combine(v: simd.Vectors, total: Any, at: Any, mask: Any, a: Any) -> Any:
            # A comparison with NaN is false, which leaves what there was.
            return greater(v, v.call("llvm.fabs", v.load(a, at, mask)), total)

        return _over(context, builder, signature, arguments, (0,), combine, greater)

    return types.float64(a), generate
