"""The step: an optimizer's rule applied to vectors of weights.

`span` applies a rule (`rules`) to vectors of packed weights, whose moments have the same layout a
multiple of `state` further on: to a tile whose gradient has just been computed, or to a tile of a
gradient that was kept.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import intrinsic, kernel
from fastnn.kernels.rules import RULES
from fastnn.kernels.vector_math import sign

__all__ = ["add_signs", "blend", "span", "squares", "sums_of_squares", "update_span"]

# Only a name of the module's own counts as a literal in a kernel.
_ADADELTA = codes.ADADELTA
_ADAM = codes.ADAM
_ADAMAX = codes.ADAMAX
_AMSGRAD = codes.AMSGRAD
_LION = codes.LION
_RMSPROP = codes.RMSPROP
_RPROP = codes.RPROP
_SGD = codes.SGD


def _span(rule: int, M: Any, w: int, g: int, state: int, count: int, pitch: int, rates: int) -> int:
    """Take one step for a span in NumPy."""
    lanes = simd.BYTES // M.itemsize
    chosen = RULES[rule]
    numbers = M[rates : rates + chosen.rates]
    finite = True
    for n in range(count):
        places = [w + n * pitch + k * state for k in range(1 + chosen.moments)]
        old = [M[place : place + lanes].copy() for place in places]
        slope = M[g + n * pitch : g + n * pitch + lanes]
        new = chosen.twin(old[0], slope, old[1:], numbers)
        for place, vector in zip(places, new, strict=True):
            M[place : place + lanes] = vector
            finite &= bool(np.isfinite(vector).all())
    return int(not finite)


@intrinsic(_span)
def span(
    typing: Any, rule: Any, M: Any, w: Any, g: Any, state: Any, count: Any, pitch: Any, rates: Any
) -> Any:
    """Take one step for count vectors, pitch apart; return 0 if all results are finite, else 1.

    Reads: in M, gradients from g, rates.  Writes: in M, weights from w and their moments, the
    first of them `state` elements further on.  May overwrite: nothing else.
    """
    chosen = RULES[rule.literal_value]
    place = types.intp
    signature = types.intp(rule, M, *[place] * 6)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[1])
        w, g, state, count, pitch, rates = arguments[2:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        number = simd.int64
        places = [builder.add(rates, number(n)) for n in range(chosen.rates)]
        numbers = [v.splat(builder.load(builder.gep(data, [place]))) for place in places]
        zero = v.constant(0.0)
        troubles = [simd.variable(builder, zero) for _ in range(1 + chosen.moments)]

        def vector(n: Any) -> None:
            apart = builder.mul(n, pitch)
            here = builder.add(w, apart)
            spots = [
                builder.add(here, builder.mul(state, number(k + 1))) for k in range(chosen.moments)
            ]
            old = v.load(data, here)
            slope = v.load(data, builder.add(g, apart))
            before = [v.load(data, spot) for spot in spots]
            new, *after = chosen.emit(v, old, slope, before, numbers)
            v.store(new, data, here)
            for value, spot in zip(after, spots, strict=True):
                v.store(value, data, spot)
            # If a second moment overflows to infinity, the update becomes 0 for ever and nothing
            # would report it, so every result is tested: what is not finite becomes NaN when
            # it is multiplied by 0, and stays NaN in the sum.  Each result has a sum of its
            # own, as one for all would be one long chain of dependent additions.
            for value, trouble in zip((new, *after), troubles, strict=True):
                builder.store(v.fma(value, zero, builder.load(trouble)), trouble)

        simd.count_loop(builder, count, vector)
        return v.any_not_finite(functools.reduce(builder.fadd, map(builder.load, troubles)))

    return signature, generate


@kernel
def update_span(
    M: Any, w: int, g: int, state: int, count: int, pitch: int, rates: int, code: int
) -> int:
    """Take one step for a span with the rule of the code; see `span`."""
    if code == codes.SGD:
        return span(_SGD, M, w, g, state, count, pitch, rates)
    if code == codes.RMSPROP or code == codes.ADAGRAD:
        return span(_RMSPROP, M, w, g, state, count, pitch, rates)
    if code == codes.RPROP:
        return span(_RPROP, M, w, g, state, count, pitch, rates)
    if code == codes.ADADELTA:
        return span(_ADADELTA, M, w, g, state, count, pitch, rates)
    if code == codes.ADAMAX:
        return span(_ADAMAX, M, w, g, state, count, pitch, rates)
    if code == codes.AMSGRAD:
        return span(_AMSGRAD, M, w, g, state, count, pitch, rates)
    if code == codes.LION:
        return span(_LION, M, w, g, state, count, pitch, rates)
    return span(_ADAM, M, w, g, state, count, pitch, rates)


def sums_of_squares(
    v: simd.Vectors, wide: simd.Vectors, data: Any, at: Any, count: Any, pitch: Any
) -> Any:
    """Emit the sum of squares, in each lane, of count vectors, pitch apart, in float64."""
    builder = v.builder
    held = simd.variable(builder, wide.constant(0.0))

    def add(n: Any) -> None:
        x = v.load(data, builder.add(at, builder.mul(n, pitch)))
        x = x if v.bits == 64 else builder.fpext(x, wide.type)
        builder.store(wide.fma(x, x, builder.load(held)), held)

    simd.count_loop(builder, count, add)
    return builder.load(held)


def _squares(M: Any, at: int, count: int, pitch: int) -> float:
    """Sum in NumPy."""
    lanes = simd.BYTES // M.itemsize
    vectors = [M[at + n * pitch :][:lanes].astype(np.float64) for n in range(count)]
    return sum(float(np.square(vector).sum()) for vector in vectors)


@intrinsic(_squares)
def squares(typing: Any, M: Any, at: Any, count: Any, pitch: Any) -> Any:
    """Return the sum of the squares of count vectors, pitch apart, in float64.

    Reads: in M, the vectors from at.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        at, count, pitch = arguments[1:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        wide = simd.Vectors(builder, context.get_data_type(types.float64), v.lanes)
        return wide.folded(sums_of_squares(v, wide, data, at, count, pitch), builder.fadd)

    return types.float64(M, *[types.intp] * 3), generate


def _blend(M: Any, to: int, source: int, count: int, pitch: int, kept: Any, factor: Any) -> None:
    """Add in NumPy."""
    lanes = simd.BYTES // M.itemsize
    for n in range(count):
        here = M[to + n * pitch :][:lanes]
        here[:] = kept * here + factor * M[source + n * pitch :][:lanes]


@intrinsic(_blend)
def blend(
    typing: Any, M: Any, to: Any, source: Any, count: Any, pitch: Any, kept: Any, factor: Any
) -> Any:
    """Compute ``to = kept * to + factor * source`` for count vectors, pitch apart.

    Reads: in M, the vectors from source.  Writes: in M, those from to.
    May overwrite: nothing else; both may be the same.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        to, source, count, pitch, kept, factor = arguments[1:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        keeps, factors = v.splat(kept), v.splat(factor)

        def turn(n: Any) -> None:
            apart = builder.mul(n, pitch)
            place = builder.add(to, apart)
            x = v.load(data, builder.add(source, apart))
            own = builder.fmul(keeps, v.load(data, place))
            v.store(v.fma(factors, x, own), data, place)

        simd.count_loop(builder, count, turn)
        return context.get_dummy_value()

    return types.void(M, *[types.intp] * 4, M.dtype, M.dtype), generate


def _add_signs(M: Any, to: int, source: int, count: int, pitch: int, factor: Any) -> float:
    """Add in NumPy."""
    lanes, total = simd.BYTES // M.itemsize, 0.0
    for n in range(count):
        x = M[source + n * pitch :][:lanes]
        M[to + n * pitch :][:lanes] += factor * np.sign(x)
        total += float(np.abs(x).astype(float).sum())
    return total


@intrinsic(_add_signs)
def add_signs(
    typing: Any, M: Any, to: Any, source: Any, count: Any, pitch: Any, factor: Any
) -> Any:
    """Compute ``to = to + factor * sign(source)`` for count vectors, pitch apart; 0 has sign 0.

    Reads: in M, the vectors from source.  Writes: in M, those from to.
    May overwrite: nothing else.  Returns the sum of the magnitudes of source, in float64.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        to, source, count, pitch, factor = arguments[1:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        wide = simd.Vectors(builder, context.get_data_type(types.float64), v.lanes)
        held = simd.variable(builder, wide.constant(0.0))
        factors = v.splat(factor)

        def add(n: Any) -> None:
            apart = builder.mul(n, pitch)
            place = builder.add(to, apart)
            x = v.load(data, builder.add(source, apart))
            v.store(v.fma(factors, sign(v, x), v.load(data, place)), data, place)
            size = v.call("llvm.fabs", x)
            size = size if v.bits == 64 else builder.fpext(size, wide.type)
            builder.store(builder.fadd(size, builder.load(held)), held)

        simd.count_loop(builder, count, add)
        return wide.folded(builder.load(held), builder.fadd)

    return types.float64(M, *[types.intp] * 4, M.dtype), generate
