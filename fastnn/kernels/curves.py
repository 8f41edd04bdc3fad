"""Elementwise activations and their derivatives, on explicit vectors.

A curve is written once for the vectors and once in NumPy, for the mode without the JIT.  As in
`vector_math`, a multiplication that feeds an addition is an explicit fma; infinity gives the
limit, and NaN gives NaN.  Where a derivative is 0 or 1 the gradient is selected, not multiplied,
so that an infinite gradient does not become NaN where the derivative is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.kernels import codes, vector_math
from fastnn.kernels.fits import FORMATS
from fastnn.kernels.simd import Vectors

__all__ = ["CURVES", "Curve"]

_LEAK = 0.01
_SELU_SCALE = 1.0507009873554805
_SELU_BELOW = 1.7580993408473768  # scale alpha
_FAR = 1e30  # x / (1 + |x|) is 1 or -1 from there


@dataclass(frozen=True, slots=True)
class Curve:
    """One activation.

    Attributes
    ----------
    value : callable
        ``value(v, z)`` emits f(z).
    back : callable
        ``back(v, d, x)`` emits ``d f'(z)``, where x is a = f(z), or z where `from_z` says so.
    value_twin, back_twin : callable
        The same in NumPy, without v.
    from_z : bool
        Whether the derivative reads z; else it reads a.
    """

    value: Callable[[Vectors, Any], Any]
    back: Callable[[Vectors, Any, Any], Any]
    value_twin: Callable[[Any], Any]
    back_twin: Callable[[Any, Any], Any]
    from_z: bool = False


def silu(v: Vectors, x: Any) -> Any:
    """Return x / (1 + e^(-x)).  Error: 3.0 units."""
    x = _not_below_the_tail(v, x)
    top, e = _times_exp_below(v, x)
    return v.builder.fdiv(top, v.builder.fadd(v.constant(1.0), e))


def mish(v: Vectors, x: Any) -> Any:
    """Return x tanh(log(1 + e^x)).  Error: 3.1 units.

    The hyperbolic tangent is 1 / (1 + q) from 0 on and e^x / (1 + q) below.
    """
    x = _not_below_the_tail(v, x)
    top, e = _times_exp_below(v, x)
    more, _ = _mish_parts(v, x, e)
    return v.builder.fdiv(top, more)


def mish_slope(v: Vectors, x: Any) -> Any:
    """Return t + x s (1 - t) (1 + t), where t = tanh(log(1 + e^x)) and s = 1 / (1 + e^(-x))."""
    build = v.builder
    one = v.constant(1.0)
    x = vector_math.limited(v, x, -FORMATS[v.bits].exp_lowest)
    e = vector_math.exp(v, build.fneg(v.call("llvm.fabs", x)))
    more, rest = _mish_parts(v, x, e)
    top = _at_least_0(v, x, one, e)
    s = build.fdiv(top, build.fadd(one, e))
    t = build.fdiv(top, more)
    other = build.fmul(build.fdiv(rest, more), build.fadd(one, t))
    return v.fma(build.fmul(x, s), other, t)


def _mish_parts(v: Vectors, x: Any, e: Any) -> tuple[Any, Any]:
    """Return 1 + q and (1 + q) (1 - t) for e = e^(-|x|) and t = tanh(log(1 + e^x)).

    q is e (e + 1) / (e + 2), from 0 on 2 e^2 / (1 + 2 e); the other is 2 / (e + 2), or q.
    """
    build = v.builder
    one, two = v.constant(1.0), v.constant(2.0)
    twice = build.fadd(e, e)
    square = build.fmul(twice, e)
    bottom = _at_least_0(v, x, build.fadd(twice, one), build.fadd(e, two))
    q = build.fdiv(_at_least_0(v, x, square, v.fma(e, e, e)), bottom)
    return build.fadd(one, q), _at_least_0(v, x, q, build.fdiv(two, bottom))


def silu_slope(v: Vectors, x: Any) -> Any:
    """Return s + x s (1 - s), where s = 1 / (1 + e^(-x))."""
    build = v.builder
    one = v.constant(1.0)
    x = vector_math.limited(v, x, -FORMATS[v.bits].exp_lowest)
    e = vector_math.exp(v, build.fneg(v.call("llvm.fabs", x)))
    share = build.fdiv(one, build.fadd(one, e))
    s = build.fmul(share, _at_least_0(v, x, one, e))
    other = build.fmul(share, _at_least_0(v, x, e, one))
    return v.fma(build.fmul(x, other), s, s)


def gelu_slope(v: Vectors, x: Any) -> Any:
    """Return P(X <= x) + x p(x) for X normal with the density p."""
    x = vector_math.limited(v, x, FORMATS[v.bits].normal_end)
    below, density = vector_math.normal(v, x)
    return v.fma(x, density, below)


def relu(v: Vectors, x: Any) -> Any:
    """Return max(x, 0)."""
    zero = v.constant(0.0)
    return v.builder.select(v.builder.fcmp_ordered("<", x, zero), zero, x)


def relu_back(v: Vectors, d: Any, a: Any) -> Any:
    """Return d where a > 0, else 0."""
    zero = v.constant(0.0)
    return v.builder.select(v.builder.fcmp_ordered("<=", a, zero), zero, d)


def leaky_relu(v: Vectors, x: Any) -> Any:
    """Return x, or 0.01 x below 0."""
    return leaky_relu_back(v, x, x)


def leaky_relu_back(v: Vectors, d: Any, a: Any) -> Any:
    """Return d where a > 0, else 0.01 d."""
    return v.select_greater(a, v.constant(0.0), d, v.builder.fmul(d, v.constant(_LEAK)))


def elu(v: Vectors, x: Any) -> Any:
    """Return x, or e^x - 1 below 0.  Error: 1.3 units."""
    zero = v.constant(0.0)
    below = vector_math.expm1(v, v.select_greater(x, zero, zero, x))
    return v.select_greater(x, zero, x, below)


def elu_slope(v: Vectors, a: Any) -> Any:
    """Return 1, or e^x = a + 1 below 0."""
    one = v.constant(1.0)
    return v.select_greater(a, v.constant(0.0), one, v.builder.fadd(a, one))


def selu(v: Vectors, x: Any) -> Any:
    """Return scale x, or scale alpha (e^x - 1) below 0.  Error: 2.6 units."""
    scaled = [v.constant(_SELU_SCALE), v.constant(_SELU_BELOW)]
    return v.builder.fmul(elu(v, x), v.select_greater(x, v.constant(0.0), *scaled))


def selu_slope(v: Vectors, a: Any) -> Any:
    """Return scale, or scale alpha e^x = a + scale alpha below 0."""
    below = v.builder.fadd(a, v.constant(_SELU_BELOW))
    return v.select_greater(a, v.constant(0.0), v.constant(_SELU_SCALE), below)


def softplus_slope(v: Vectors, a: Any) -> Any:
    """Return 1 / (1 + e^(-x)) = 1 - e^(-a)."""
    return v.builder.fneg(vector_math.expm1(v, v.builder.fneg(a)))


def softsign(v: Vectors, x: Any) -> Any:
    """Return x / (1 + |x|).  Error: 1.6 units."""
    x = vector_math.limited(v, x, _FAR)
    return v.builder.fdiv(x, v.builder.fadd(v.constant(1.0), v.call("llvm.fabs", x)))


def softsign_slope(v: Vectors, a: Any) -> Any:
    """Return 1 / (1 + |x|)^2 = (1 - |a|)^2."""
    rest = v.builder.fsub(v.constant(1.0), v.call("llvm.fabs", a))
    return v.builder.fmul(rest, rest)


def hard_sigmoid(v: Vectors, x: Any) -> Any:
    """Return min(max(x + 3, 0), 6) / 6.  Error: 1.1 units."""
    six = v.constant(6.0)
    up = relu(v, v.builder.fadd(x, v.constant(3.0)))
    return v.builder.fdiv(v.select_greater(up, six, six, up), six)


def hard_sigmoid_back(v: Vectors, d: Any, a: Any) -> Any:
    """Return d / 6 between the ends, else 0."""
    build = v.builder
    zero = v.constant(0.0)
    ends = [build.fcmp_ordered("<=", a, zero), build.fcmp_ordered(">=", a, v.constant(1.0))]
    return build.select(build.or_(*ends), zero, build.fdiv(d, v.constant(6.0)))


def sigmoid_slope(v: Vectors, a: Any) -> Any:
    """Return a (1 - a)."""
    return v.builder.fmul(a, v.builder.fsub(v.constant(1.0), a))


def tanh_slope(v: Vectors, a: Any) -> Any:
    """Return 1 - a^2."""
    return v.fma(v.builder.fneg(a), a, v.constant(1.0))


def same(v: Vectors, x: Any) -> Any:
    """Return x."""
    return x


def times(slope: Callable[[Vectors, Any], Any]) -> Callable[[Vectors, Any, Any], Any]:
    """Return the function that multiplies a gradient by a derivative."""
    return lambda v, d, x: v.builder.fmul(d, slope(v, x))


def _not_below_the_tail(v: Vectors, x: Any) -> Any:
    """Return x, clamped from below where x e^x is 0 anyway; NaN stays."""
    end = v.constant(FORMATS[v.bits].exp_lowest - 10.0)
    return v.select_greater(end, x, end, x)


def _at_least_0(v: Vectors, x: Any, then: Any, other: Any) -> Any:
    """Return ``then`` where x >= 0, else ``other``."""
    return v.builder.select(v.builder.fcmp_ordered(">=", x, v.constant(0.0)), then, other)


def _times_exp_below(v: Vectors, x: Any) -> tuple[Any, Any]:
    """Return x, below 0 times e^x, and e^(-|x|)."""
    down = v.builder.fneg(v.call("llvm.fabs", x))
    below = vector_math.exp_times(v, down, x)
    return v.select_greater(v.constant(0.0), x, below, x), vector_math.exp(v, down)


# Twins.

_erfc = np.frompyfunc(math.erfc, 1, 1)


def _sigmoid(Z: Any) -> Any:
    """Compute it in NumPy."""
    return 1 / (1 + np.exp(-Z))


def _normal(Z: Any) -> Any:
    """Compute it in NumPy."""
    return np.asarray(_erfc(-Z / math.sqrt(2)) / 2, Z.dtype)


def _gelu_slope(Z: Any) -> Any:
    """Compute it in NumPy."""
    return _normal(Z) + Z * np.exp(-Z * Z / 2) / math.sqrt(2 * math.pi)


def _mish_slope(Z: Any) -> Any:
    """Compute it in NumPy."""
    T = np.tanh(np.logaddexp(0, Z))
    return T + Z * _sigmoid(Z) * (1 - T * T)


CURVES: dict[int, Curve] = {
    codes.IDENTITY: Curve(same, lambda v, d, a: d, lambda Z: Z, lambda D, A: D),
    codes.SIGMOID: Curve(
        vector_math.sigmoid, times(sigmoid_slope), _sigmoid, lambda D, A: D * A * (1 - A)
    ),
    codes.TANH: Curve(vector_math.tanh, times(tanh_slope), np.tanh, lambda D, A: D * (1 - A * A)),
    codes.RELU: Curve(
        relu, relu_back, lambda Z: np.where(Z < 0, 0, Z), lambda D, A: np.where(A <= 0, 0, D)
    ),
    codes.LEAKY_RELU: Curve(
        leaky_relu,
        leaky_relu_back,
        lambda Z: np.where(Z > 0, Z, _LEAK * Z),
        lambda D, A: np.where(A > 0, D, _LEAK * D),
    ),
    codes.ELU: Curve(
        elu,
        times(elu_slope),
        lambda Z: np.where(Z > 0, Z, np.expm1(Z)),
        lambda D, A: D * np.where(A > 0, 1, A + 1),
    ),
    codes.SELU: Curve(
        selu,
        times(selu_slope),
        lambda Z: np.where(Z > 0, _SELU_SCALE * Z, _SELU_BELOW * np.expm1(Z)),
        lambda D, A: D * np.where(A > 0, _SELU_SCALE, A + _SELU_BELOW),
    ),
    codes.GELU: Curve(
        vector_math.gelu,
        times(gelu_slope),
        lambda Z: Z * _normal(Z),
        lambda D, Z: D * _gelu_slope(Z),
        from_z=True,
    ),
    codes.SILU: Curve(
        silu,
        times(silu_slope),
        lambda Z: Z * _sigmoid(Z),
        lambda D, Z: D * _sigmoid(Z) * (1 + Z * _sigmoid(-Z)),
        from_z=True,
    ),
    codes.SOFTPLUS: Curve(
        vector_math.softplus,
        times(softplus_slope),
        lambda Z: np.logaddexp(0, Z),
        lambda D, A: D * -np.expm1(-A),
    ),
    codes.MISH: Curve(
        mish,
        times(mish_slope),
        lambda Z: Z * np.tanh(np.logaddexp(0, Z)),
        lambda D, Z: D * _mish_slope(Z),
        from_z=True,
    ),
    codes.SOFTSIGN: Curve(
        softsign,
        times(softsign_slope),
        lambda Z: Z / (1 + np.abs(Z)),
        lambda D, A: D * (1 - np.abs(A)) ** 2,
    ),
    codes.HARD_SIGMOID: Curve(
        hard_sigmoid,
        hard_sigmoid_back,
        lambda Z: np.clip(Z + 3, 0, 6) / 6,
        lambda D, A: np.where((A <= 0) | (A >= 1), 0, D / 6),
    ),
    codes.EXP: Curve(vector_math.exp, times(same), np.exp, lambda D, A: D * A),
    codes.SIN: Curve(
        vector_math.sin, times(vector_math.cos), np.sin, lambda D, Z: D * np.cos(Z), from_z=True
    ),
}
