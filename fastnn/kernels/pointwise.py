"""Losses that are means over the outputs, of one output s and its target y, on explicit vectors.

A loss gives value and derivative together, as they share their exponentials.  It is written once
for the vectors and once in NumPy, for the mode without the JIT.  A loss that is matched with an
activation reads z, so that nothing overflows.  A multiplication that feeds an addition is an
explicit fma, and NaN gives a value and a derivative of NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.kernels import codes, vector_math
from fastnn.kernels.simd import Vectors

__all__ = ["POINTWISE", "Pointwise"]

_LN_2 = 0.6931471805599453
_FAR = 1.0  # where log(cosh) changes from one form to the other


@dataclass(frozen=True, slots=True)
class Pointwise:
    """One loss.

    Attributes
    ----------
    emit : callable
        ``emit(v, s, y, numbers)`` emits value and slope; ``numbers["delta"]`` is one of the
        plan's, in all lanes.
    twin : callable
        The same in NumPy, without v.
    """

    emit: Callable[[Vectors, Any, Any, Any], tuple[Any, Any]]
    twin: Callable[[Any, Any, Any], tuple[Any, Any]]


def squared_error(v: Vectors, s: Any, y: Any, numbers: Any) -> tuple[Any, Any]:
    """Return (s - y)^2."""
    error = v.builder.fsub(s, y)
    return v.builder.fmul(error, error), v.builder.fadd(error, error)


def absolute_error(v: Vectors, s: Any, y: Any, numbers: Any) -> tuple[Any, Any]:
    """Return |s - y|; the slope is 0 where both are equal."""
    error = v.builder.fsub(s, y)
    return v.call("llvm.fabs", error), vector_math.sign(v, error)


def huber(v: Vectors, s: Any, y: Any, numbers: Any) -> tuple[Any, Any]:
    """Return half the squared error, beyond delta its tangent: c (e - c / 2) with e cut to c."""
    error, delta = v.builder.fsub(s, y), numbers["delta"]
    cut = v.select_greater(error, delta, delta, error)
    low = v.builder.fneg(delta)
    cut = v.select_greater(low, cut, low, cut)
    return v.builder.fmul(cut, v.fma(cut, v.constant(-0.5), error)), cut


def log_cosh(v: Vectors, s: Any, y: Any, numbers: Any) -> tuple[Any, Any]:
    """Return log(cosh(e)) for e = s - y.

    With m = e^(-|e|) - 1 it is log(1 + m^2 / (2 (m + 1))), which is exact near 0, and further
    out, before that overflows, |e| - log(2) + log(1 + (m + 1)^2).  The slope is tanh(e).
    """
    build = v.builder
    one, far = v.constant(1.0), v.constant(_FAR)
    error = build.fsub(s, y)
    size = v.call("llvm.fabs", error)
    m = vector_math.expm1(v, build.fneg(size))
    power = build.fadd(m, one)
    square = build.fmul(power, power)
    near = build.fdiv(build.fmul(m, m), build.fadd(power, power))
    logarithm = vector_math.log1p(v, v.select_greater(size, far, square, near))
    straight = build.fadd(build.fsub(size, v.constant(_LN_2)), logarithm)
    top = build.fmul(build.fneg(m), build.fadd(power, one))
    slope = build.fdiv(top, v.fma(power, power, one))
    value = v.select_greater(size, far, straight, logarithm)
    return value, v.call("llvm.copysign", slope, error)


def binary_cross_entropy(v: Vectors, s: Any, y: Any, numbers: Any) -> tuple[Any, Any]:
    """Return log(1 + e^s) - y s for a sigmoid's z, with no exponent above 0; at most the limit."""
    build = v.builder
    zero, one = v.constant(0.0), v.constant(1.0)
    limit, smoothing = numbers["loss_limit"], numbers["label_smoothing"]
    y = v.fma(build.fsub(one, smoothing), y, build.fmul(v.constant(0.5), smoothing))
    e = vector_math.exp(v, build.fneg(v.call("llvm.fabs", s)))
    above = build.select(build.fcmp_ordered(">=", s, zero), one, e)
    sigmoid = build.fdiv(above, build.fadd(one, e))
    # Where y is 1, s cancels before the logarithm is added.
    straight = v.fma(build.fneg(s), y, v.greater(s, zero))
    value = build.fadd(straight, vector_math.log1p(v, e))
    return v.select_greater(value, limit, limit, value), build.fsub(sigmoid, y)


def poisson(v: Vectors, s: Any, y: Any, numbers: Any) -> tuple[Any, Any]:
    """Return e^s - y s for an exponential's z."""
    mean = vector_math.exp(v, s)
    return v.fma(v.builder.fneg(y), s, mean), v.builder.fsub(mean, y)


def quantile(v: Vectors, s: Any, y: Any, numbers: Any) -> tuple[Any, Any]:
    """Return level (y - s) or (level - 1) (y - s), the greater: e = s - y times its slope."""
    error = v.builder.fsub(s, y)
    middle = v.builder.fsub(v.constant(0.5), numbers["quantile"])
    slope = v.fma(vector_math.sign(v, error), v.constant(0.5), middle)
    return v.builder.fmul(error, slope), slope


def hinge(v: Vectors, s: Any, y: Any, numbers: Any) -> tuple[Any, Any]:
    """Return max(0, 1 - t s) for the side t = 2 y - 1."""
    build = v.builder
    zero, one = v.constant(0.0), v.constant(1.0)
    away = v.fma(y, v.constant(-2.0), one)
    margin = v.fma(away, s, one)
    met = build.fcmp_ordered("<=", margin, zero)
    slope = v.select_greater(margin, zero, away, margin)
    return build.select(met, zero, margin), build.select(met, zero, slope)


def binary_focal(v: Vectors, s: Any, y: Any, numbers: Any) -> tuple[Any, Any]:
    """Return y f(s) + (1 - y) f(-s) for f(z) = (1 - p)^gamma (-log p) of a sigmoid's p.

    With q = 1 - p it is e^(-gamma log(1 + e^z)) log(1 + e^(-z)), its slope
    -q^gamma (gamma p (-log p) + q).
    """
    build = v.builder
    zero, one, focus = v.constant(0.0), v.constant(1.0), numbers["gamma"]
    e = vector_math.exp(v, build.fneg(v.call("llvm.fabs", s)))
    small, whole = vector_math.log1p(v, e), build.fadd(one, e)
    positive = build.fcmp_ordered(">=", s, zero)
    p, q = (build.fdiv(build.select(positive, *pair), whole) for pair in ((one, e), (e, one)))
    # -log q and -log p.
    of_q, of_p = (build.fadd(v.greater(x, zero), small) for x in (s, build.fneg(s)))

    def side(lost: Any, found: Any, here: Any, away: Any) -> tuple[Any, Any]:
        weight = vector_math.exp(v, build.fneg(build.fmul(focus, lost)))
        bend = v.fma(build.fmul(focus, here), found, away)
        return build.fmul(weight, found), build.fmul(weight, bend)

    (yes, up), (no, down) = side(of_q, of_p, p, q), side(of_p, of_q, q, p)
    rest = build.fsub(one, y)
    value = v.fma(y, yes, build.fmul(rest, no))
    return value, v.fma(rest, down, build.fneg(build.fmul(y, up)))


def gamma(v: Vectors, s: Any, y: Any, numbers: Any) -> tuple[Any, Any]:
    """Return s + y e^(-s) for an exponential's z."""
    share = v.builder.fmul(y, vector_math.exp(v, v.builder.fneg(s)))
    return v.builder.fadd(s, share), v.builder.fsub(v.constant(1.0), share)


def tweedie(v: Vectors, s: Any, y: Any, numbers: Any) -> tuple[Any, Any]:
    """Return e^((2 - p) s) / (2 - p) - y e^((1 - p) s) / (1 - p) at the power p."""
    build = v.builder
    zero, power = v.constant(0.0), numbers["power"]
    far, near = build.fsub(v.constant(2.0), power), build.fsub(v.constant(1.0), power)
    mean = vector_math.exp(v, build.fmul(far, s))
    part = build.fmul(y, vector_math.exp(v, build.fmul(near, s)))
    # Where y is 0 the other factor may be infinite.
    part = build.select(build.fcmp_ordered("==", y, zero), zero, part)
    value = build.fsub(build.fdiv(mean, far), build.fdiv(part, near))
    return value, build.fsub(mean, part)


# Twins.


def _huber(S: Any, Y: Any, numbers: Any) -> Any:
    """Compute it in NumPy."""
    delta = numbers["delta"]
    C = np.clip(S - Y, -delta, delta)
    return C * (S - Y - C / 2), C


def _log_cosh(S: Any, Y: Any, numbers: Any) -> Any:
    """Compute it in NumPy."""
    E = np.abs(S - Y)
    near = np.log1p(2 * np.sinh(np.minimum(E, 1) / 2) ** 2)
    far = E - np.log(2) + np.log1p(np.exp(-2 * E))
    return np.where(E > 1, far, near), np.tanh(S - Y)


def _binary_cross_entropy(S: Any, Y: Any, numbers: Any) -> Any:
    """Compute it in NumPy."""
    limit, smoothing = numbers["loss_limit"], numbers["label_smoothing"]
    Y = (1 - smoothing) * Y + smoothing / 2
    E = np.exp(-np.abs(S))
    value = np.minimum(np.maximum(S, 0) - S * Y + np.log1p(E), limit)
    return value, np.where(S < 0, E, 1) / (1 + E) - Y


def _quantile(S: Any, Y: Any, numbers: Any) -> Any:
    """Compute it in NumPy."""
    slope = (np.sign(S - Y) + 1) / 2 - numbers["quantile"]
    return (S - Y) * slope, slope


def _hinge(S: Any, Y: Any, numbers: Any) -> Any:
    """Compute it in NumPy."""
    margin = 1 - (2 * Y - 1) * S
    return np.maximum(margin, 0), (1 - 2 * Y) * np.heaviside(margin, 0)


def _binary_focal(S: Any, Y: Any, numbers: Any) -> Any:
    """Compute it in NumPy."""
    gamma = numbers["gamma"]

    def side(Z: Any) -> tuple[Any, Any]:
        p, q = (np.exp(-np.logaddexp(0, turned)) for turned in (-Z, Z))
        found = np.logaddexp(0, -Z)
        return q**gamma * found, -(q**gamma) * (gamma * p * found + q)

    (yes, up), (no, down) = side(S), side(-S)
    return Y * yes + (1 - Y) * no, Y * up - (1 - Y) * down


def _tweedie(S: Any, Y: Any, numbers: Any) -> Any:
    """Compute it in NumPy."""
    far, near = 2 - numbers["power"], 1 - numbers["power"]
    part = np.where(Y == 0, 0, Y * np.exp(near * S))
    return np.exp(far * S) / far - part / near, np.exp(far * S) - part


POINTWISE: dict[int, Pointwise] = {
    codes.MEAN_SQUARED_ERROR: Pointwise(
        squared_error, lambda S, Y, numbers: ((S - Y) ** 2, 2 * (S - Y))
    ),
    codes.MEAN_ABSOLUTE_ERROR: Pointwise(
        absolute_error, lambda S, Y, numbers: (np.abs(S - Y), np.sign(S - Y))
    ),
    codes.HUBER: Pointwise(huber, _huber),
    codes.LOG_COSH: Pointwise(log_cosh, _log_cosh),
    codes.BINARY_CROSS_ENTROPY: Pointwise(binary_cross_entropy, _binary_cross_entropy),
    codes.POISSON: Pointwise(poisson, lambda S, Y, numbers: (np.exp(S) - Y * S, np.exp(S) - Y)),
    codes.QUANTILE: Pointwise(quantile, _quantile),
    codes.HINGE: Pointwise(hinge, _hinge),
    codes.BINARY_FOCAL: Pointwise(binary_focal, _binary_focal),
    codes.GAMMA: Pointwise(gamma, lambda S, Y, numbers: (S + Y * np.exp(-S), 1 - Y * np.exp(-S))),
    codes.TWEEDIE: Pointwise(tweedie, _tweedie),
}
