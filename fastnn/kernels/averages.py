"""Averages of weights: one more vector behind the moments, which follows the weights.

It has the layout of packed parameters, buffers among them, so that one walk over all of it does.
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import apart, intrinsic
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["approach", "average_weights", "follow_tile", "step_rate"]

# Beyond this exponent e^-x is below the last bit of 1.
_GONE = 40.0


def _approach(M: Any, to: int, source: int, count: int, pitch: int, rate: Any) -> None:
    """Go there in NumPy."""
    lanes = simd.BYTES // M.itemsize
    for n in range(count):
        here = M[to + n * pitch :][:lanes]
        here += rate * (M[source + n * pitch :][:lanes] - here)


@intrinsic(_approach)
def approach(typing: Any, M: Any, to: Any, source: Any, count: Any, pitch: Any, rate: Any) -> Any:
    """Compute ``to = to + rate * (source - to)`` for count vectors, pitch apart.

    Reads: in M, the vectors from source.  Writes: in M, those from to.
    May overwrite: nothing else.  What is equal stays so to the bit.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        to, source, count, pitch, rate = arguments[1:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        rates = v.splat(rate)

        def follow(n: Any) -> None:
            apart = builder.mul(n, pitch)
            place = builder.add(to, apart)
            own = v.load(data, place)
            way = builder.fsub(v.load(data, builder.add(source, apart)), own)
            v.store(v.fma(rates, way, own), data, place)

        simd.count_loop(builder, count, follow)
        return context.get_dummy_value()

    return types.void(M, *[types.intp] * 4, M.dtype), generate


@apart
def step_rate(plan: Any, t: int) -> float:
    """Return what part of its way the average of steps goes to the weights after the t-th one."""
    rate: float = 1.0 - plan.decay
    if t * rate < _GONE:
        rate /= 1.0 - plan.decay**t
    return rate


@apart
def follow_tile(M: Any, plan: Any, w: int, count: int, pitch: int) -> None:
    """Have the average follow a tile of weights that has just been updated.

    Reads: packed parameters from w on, count vectors, pitch apart; the plan's rate.  Writes: their
    average.  May overwrite: nothing else.
    """
    approach(M, w + plan.moments * plan.state, w, count, pitch, M[plan.average_rate])


@apart
def average_weights(
    M: Any, plan: Any, stepped: bool, taken: int, step: int, steps: int, place: int, size: int
) -> None:
    """Have this thread's part of the average follow the weights, after a step or an epoch.

    The step was the `step`-th of the present epoch and those that follow it, of so many `steps`
    each, and the `taken`-th of the call, where it was not passed over.

    Reads: packed parameters, after all threads have written them.  Writes: the last vector of
    moments.  May overwrite: nothing else.
    """
    rate = 0.0
    if plan.average == codes.EACH_EPOCH:
        if step % steps == 0 and plan.averaged + step // steps > 0:
            rate = 1.0 / (plan.averaged + step // steps)
    elif stepped:
        rate = step_rate(plan, plan.averaged + taken)
    if rate == 0.0:
        return
    lanes = PANEL_BYTES // M.itemsize // 2
    vectors = plan.state // lanes
    first, last = vectors * place // size, vectors * (place + 1) // size
    at = first * lanes
    to = plan.moments * plan.state + at
    approach(M, to, at, last - first, lanes, M.dtype.type(rate))
