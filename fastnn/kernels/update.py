"""The optimizers' rules, on explicit vectors.

A rule is written once, on `simd.Vectors` (and in NumPy for the mode without the JIT).  `segment`
applies it to at most a panel's width of weights and their moments, where they lie in the flat
vectors, so that the same code serves a whole vector and the rows of a tile of weight gradients
that has just been computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import intrinsic, kernel
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["prepare_rates", "segment", "update_row", "update_vector"]

# Only a name of the module's own counts as a literal in a kernel.
_ADAM = codes.ADAM
_SGD = codes.SGD


@kernel
def prepare_rates(rates: Any, numbers: Any, code: int) -> None:
    """Count a step, and compute what all its segments share.

    Reads: numbers (codes.NUMBERS,).  Writes: rates (codes.RATES,) in the order in which the rule
    takes them, and the count of steps in numbers.
    """
    dtype = rates.dtype.type
    numbers[codes.STEPS] += 1.0
    eta = numbers[codes.LEARNING_RATE]
    if code == codes.ADAM:
        t = numbers[codes.STEPS]
        rates[0] = dtype(eta / (1.0 - numbers[codes.BETA_1] ** t))
        rates[1] = dtype(1.0 / (1.0 - numbers[codes.BETA_2] ** t))
        rates[2] = dtype(1.0 - numbers[codes.BETA_1])
        rates[3] = dtype(1.0 - numbers[codes.BETA_2])
        rates[4] = dtype(numbers[codes.EPSILON])
    else:
        rates[0] = dtype(eta)
        rates[1] = dtype(numbers[codes.MOMENTUM])
        rates[2] = dtype(numbers[codes.NESTEROV])


def adam_rule(v: simd.Vectors, w: Any, g: Any, moments: list[Any], rates: list[Any]) -> list[Any]:
    """Step as Adam does, algorithm 1 of Kingma & Ba 2015; epsilon outside the corrected root."""
    eta, correction, new_1, new_2, epsilon = rates[:5]
    b = v.builder
    m = v.fma(new_1, b.fsub(g, moments[0]), moments[0])
    s = v.fma(new_2, b.fsub(b.fmul(g, g), moments[1]), moments[1])
    root = b.fadd(v.call("llvm.sqrt", b.fmul(s, correction)), epsilon)
    return [b.fsub(w, b.fdiv(b.fmul(eta, m), root)), m, s]


def sgd_rule(v: simd.Vectors, w: Any, g: Any, moments: list[Any], rates: list[Any]) -> list[Any]:
    """Step as SGD does: v = mu v - eta g, w += v, or with Nesterov w += mu v - eta g."""
    eta, mu, nesterov = rates[:3]
    b = v.builder
    pull = b.fmul(eta, g)
    velocity = b.fsub(b.fmul(mu, moments[0]), pull)
    ahead = b.fsub(b.fmul(mu, velocity), pull)
    step = v.select_greater(nesterov, v.constant(0.0), ahead, velocity)
    return [b.fadd(w, step), velocity]


_RULES: dict[int, tuple[Any, int, int]] = {
    codes.ADAM: (adam_rule, 2, 5),
    codes.SGD: (sgd_rule, 1, 3),
}


def _segment(
    rule: int, w: Any, moments: Any, at: int, g: Any, g_at: int, count: int, rates: Any, l2: Any,
    packed: Any, p_at: int,
) -> int:  # fmt: skip
    """Take one step for a segment in NumPy."""
    here = slice(at, at + count)
    slope = g[g_at : g_at + count] + l2 * w[here]
    if rule == codes.ADAM:
        eta, correction, new_1, new_2, epsilon = rates[:5]
        moments[0, here] += new_1 * (slope - moments[0, here])
        moments[1, here] += new_2 * (slope * slope - moments[1, here])
        w[here] -= eta * moments[0, here] / (np.sqrt(moments[1, here] * correction) + epsilon)
    else:
        eta, mu, nesterov = rates[:3]
        moments[0, here] = mu * moments[0, here] - eta * slope
        w[here] += mu * moments[0, here] - eta * slope if nesterov else moments[0, here]
    if p_at >= 0:
        packed[p_at : p_at + count] = w[here]
    return int(not (np.isfinite(w[here]).all() and np.isfinite(moments[:, here]).all()))


@intrinsic(_segment)
def segment(
    typing: Any, rule: Any, w: Any, moments: Any, at: Any, g: Any, g_at: Any, count: Any,
    rates: Any, l2: Any, packed: Any, p_at: Any,
) -> Any:  # fmt: skip
    """Take one step for a segment; return 0 if all its results are finite, else 1.

    Reads: g from g_at, rates.  Writes: w and moments from at, count of each, and the new w at
    p_at in packed unless that is negative.  May overwrite: nothing else.
    """
    step, kept, used = _RULES[rule.literal_value]
    place = types.intp
    signature = types.intp(rule, w, moments, place, g, place, place, rates, w.dtype, packed, place)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        at, g_at, count, factor, p_at = (arguments[n] for n in (3, 5, 6, 8, 10))
        bases = {
            n: simd.data_pointer(context, builder, kinds[n], arguments[n]) for n in (1, 2, 4, 7, 9)
        }
        v = simd.Vectors(builder, context.get_data_type(w.dtype))
        number = simd.int64
        length = simd.array_length(context, builder, kinds[2], arguments[2], 1)
        chosen = [v.splat(builder.load(builder.gep(bases[7], [number(n)]))) for n in range(used)]
        l2s = v.splat(factor)
        broken = simd.variable(builder, number(0))

        def vector(lane: int, mask: Any) -> None:
            shift = number(lane)
            here = builder.add(at, shift)
            places = [builder.add(here, builder.mul(length, number(n))) for n in range(kept)]
            old = v.load(bases[1], here, mask)
            slope = v.fma(l2s, old, v.load(bases[4], builder.add(g_at, shift), mask))
            before = [v.load(bases[2], spot, mask) for spot in places]
            new, *after = step(v, old, slope, before, chosen)
            v.store(new, bases[1], here, mask)
            for value, spot in zip(after, places, strict=True):
                v.store(value, bases[2], spot, mask)
            with builder.if_then(builder.icmp_signed(">=", p_at, number(0))):
                v.store(new, bases[9], builder.add(p_at, shift), mask)
            # A second moment that overflowed would stop its weight for good without a sign.
            for value in (new, *after):
                bad = v.any_not_finite(value, mask)
                builder.store(builder.or_(builder.load(broken), bad), broken)

        whole = builder.icmp_signed(">=", count, number(2 * v.lanes))
        with builder.if_else(whole) as (full, part):
            with full:
                for lane in (0, v.lanes):
                    vector(lane, None)
            with part:
                for lane in (0, v.lanes):
                    vector(lane, v.first_lanes(count, lane))
        return builder.load(broken)

    return signature, generate


@kernel
def update_vector(w: Any, g: Any, moments: Any, rates: Any, code: int) -> int:
    """Take one step for whole vectors; return how many segments have results not finite.

    Reads: g (size,), rates.  Writes: w (size,), moments (rule's own, size).
    May overwrite: nothing else; no two arrays overlap.
    """
    panel = PANEL_BYTES // w.itemsize
    zero = w.dtype.type(0)
    broken = 0
    for at in range(0, w.size, panel):
        count = min(panel, w.size - at)
        broken += update_row(w, moments, at, g, at, count, rates, zero, g, -1, code)
    return broken


@kernel
def update_row(
    w: Any, moments: Any, at: int, g: Any, g_at: int, count: int, rates: Any, l2: Any, packed: Any,
    p_at: int, code: int,
) -> int:  # fmt: skip
    """Take one step for a segment with the rule of the code; see `segment`."""
    if code == codes.ADAM:
        return segment(_ADAM, w, moments, at, g, g_at, count, rates, l2, packed, p_at)
    return segment(_SGD, w, moments, at, g, g_at, count, rates, l2, packed, p_at)
