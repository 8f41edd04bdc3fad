"""Elementary functions on explicit vectors: no table, no branch, no call of a library.

A function takes `Vectors` and a vector and emits the instructions of its value, the same for
every lane, so that a number's result depends neither on its place nor on its address.  Every
multiplication that feeds an addition is a fused one by name, which leaves the compiler nothing
to fuse here and not there.

Polynomials are minimax fits by the exchange of Remez (1934), made in 60 digits and rounded to
the element's type.  Errors are the largest found over dense sweeps of normal results, in units in
the last place, for both types, with fused multiply-add and without.  Subnormal results may be
flushed to zero, and the sign of zero may be lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan
from typing import Any

from fastnn.kernels.simd import Vectors

__all__ = ["exp", "log", "log1p", "sigmoid", "tanh"]

_LOG2_E = 1.4426950408889634


@dataclass(frozen=True, slots=True)
class _Format:
    """What depends on the element's type; polynomials have the highest coefficient first."""

    mantissa: int  # bits, without the hidden one
    bias: int  # of the exponent
    ln2_high: float  # so short that its product with any exponent is exact
    ln2_low: float
    exp_lowest: float  # the least x whose exponential is normal
    exp_highest: float  # the greatest x whose exponential is finite
    tanh_flat: float  # beyond it tanh rounds to 1
    exp_tail: tuple[float, ...]  # (e^r - 1 - r) / r^2, for |r| <= log(2) / 2
    log_tail: tuple[float, ...]  # (2 artanh(s) - 2 s) / s^3 in s^2, for |s| <= 1 / 5


_FORMATS = {
    32: _Format(
        mantissa=23,
        bias=127,
        ln2_high=0.693359375,
        ln2_low=-2.1219444005469058e-4,
        exp_lowest=-87.33654022216797,
        exp_highest=88.72283172607422,
        tanh_flat=10.0,
        exp_tail=(0.0013946468, 0.008366611, 0.04166628, 0.16666543, 0.5),
        log_tail=(0.3036246, 0.39957738, 0.6666695),
    ),
    64: _Format(
        mantissa=52,
        bias=1023,
        ln2_high=0.6931471803691238,
        ln2_low=1.9082149292705877e-10,
        exp_lowest=-708.3964185322641,
        exp_highest=709.782712893384,
        tanh_flat=22.0,
        exp_tail=(
            2.5114512157183947e-08,
            2.7626382599033596e-07,
            2.7557227840854718e-06,
            2.4801504310916458e-05,
            0.0001984126990314307,
            0.001388888893248565,
            0.008333333333314548,
            0.041666666666573315,
            0.16666666666666685,
            0.5000000000000006,
        ),
        log_tail=(
            0.1537040563090959,
            0.1524990393769102,
            0.1818637029318711,
            0.22222138154211885,
            0.285714293995453,
            0.39999999996137925,
            0.6666666666667276,
        ),
    ),
}


def exp(v: Vectors, x: Any) -> Any:
    """Return e^x: infinity above the type's range, 0 where the result would be subnormal.

    x = n log(2) + r with whole n and |r| <= log(2) / 2 (Cody & Waite 1980, chapter 6); the power
    of two is added to the exponent's bits.  Error: 1.1 units.
    """
    numbers = _FORMATS[v.bits]
    build = v.builder
    power, grown = _expm1_of_remainder(v, x)
    mantissa = build.bitcast(build.fadd(v.constant(1.0), grown), v.integers)
    result = build.bitcast(build.add(mantissa, power), v.type)
    # Asked this way round, NaN stays NaN and infinity infinite.
    inside = build.fcmp_ordered("<=", x, v.constant(numbers.exp_highest))
    result = build.select(inside, result, build.fadd(x, v.constant(inf)))
    flushed = build.fcmp_ordered("<", x, v.constant(numbers.exp_lowest))
    return build.select(flushed, v.constant(0.0), result)


def tanh(v: Vectors, x: Any) -> Any:
    """Return tanh(x) = m / (m + 2) with m = e^(2 |x|) - 1, and the sign of x.

    m = 2^n (e^r - 1) + (2^n - 1) loses nothing near 0, where n is 0.  Error: 2.7 units.
    """
    numbers = _FORMATS[v.bits]
    build = v.builder
    flat = v.constant(numbers.tanh_flat)
    size = v.call("llvm.fabs", x)
    size = v.select_greater(size, flat, flat, size)
    power, grown = _expm1_of_remainder(v, build.fadd(size, size))
    unit = v.integer_constant(numbers.bias << numbers.mantissa)
    scale = build.bitcast(build.add(power, unit), v.type)
    m = v.fma(grown, scale, build.fsub(scale, v.constant(1.0)))
    return v.call("llvm.copysign", build.fdiv(m, build.fadd(m, v.constant(2.0))), x)


def sigmoid(v: Vectors, x: Any) -> Any:
    """Return 1 / (1 + e^(-x)), as exact far below 0 as above.  Error: 2.4 units."""
    build = v.builder
    one = v.constant(1.0)
    return build.fdiv(one, build.fadd(one, exp(v, build.fneg(x))))


def log(v: Vectors, x: Any) -> Any:
    """Return the natural logarithm, of subnormal numbers too: log(0) = -inf, log(< 0) = NaN.

    x = 2^k m with m in [3/4, 3/2), where k is 0 around 1 and nothing cancels.  Error: 1 unit.
    """
    numbers = _FORMATS[v.bits]
    build = v.builder
    bits = numbers.mantissa
    zero = v.constant(0.0)
    subnormal = build.fcmp_ordered("<", x, v.constant(2.0 ** (1 - numbers.bias)))
    raised = build.select(subnormal, build.fmul(x, v.constant(2.0**bits)), x)
    lowered = build.select(subnormal, v.constant(float(bits)), zero)
    three_quarters = v.integer_constant((numbers.bias << bits) - (1 << (bits - 1)))
    above = build.sub(build.bitcast(raised, v.integers), three_quarters)
    above = build.add(above, v.integer_constant(numbers.bias << bits))
    fraction = build.and_(above, v.integer_constant((1 << bits) - 1))
    m = build.bitcast(build.add(fraction, three_quarters), v.type)
    # The exponent as a number: put below the bits of 2^mantissa, which is then taken away.
    exponent = build.lshr(above, v.integer_constant(bits))
    exponent = build.or_(exponent, v.integer_constant((numbers.bias + bits) << bits))
    k = build.fsub(build.bitcast(exponent, v.type), v.constant(2.0**bits + numbers.bias))
    result = _log_of_power(v, build.fsub(k, lowered), build.fsub(m, v.constant(1.0)))
    # Infinity and NaN are their own logarithms; what is not above 0 is 0 or has none.
    result = build.select(build.fcmp_ordered("<", x, v.constant(inf)), result, x)
    outside = build.select(build.fcmp_ordered("==", x, zero), v.constant(-inf), v.constant(nan))
    return build.select(build.fcmp_unordered(">", x, zero), result, outside)


def log1p(v: Vectors, x: Any) -> Any:
    """Return log(1 + x) for x in [0, 1], small x losing nothing.  Error: 1 unit."""
    half, one, zero = v.constant(0.5), v.constant(1.0), v.constant(0.0)
    f = v.select_greater(x, half, v.fma(x, half, v.constant(-0.5)), x)
    return _log_of_power(v, v.select_greater(x, half, one, zero), f)


def _expm1_of_remainder(v: Vectors, x: Any) -> tuple[Any, Any]:
    """Return n, in the exponent's bits, and e^r - 1, where x = n log(2) + r.

    A number so large that its last bit counts ones rounds whatever is added to it, and then
    holds n in its low bits.
    """
    numbers = _FORMATS[v.bits]
    build = v.builder
    large = v.constant(1.5 * 2.0**numbers.mantissa)
    shifted = v.fma(x, v.constant(_LOG2_E), large)
    n = build.fsub(shifted, large)
    r = v.fma(n, v.constant(-numbers.ln2_high), x)
    r = v.fma(n, v.constant(-numbers.ln2_low), r)
    tail = v.polynomial(r, numbers.exp_tail)
    power = build.shl(build.bitcast(shifted, v.integers), v.integer_constant(numbers.mantissa))
    return power, v.fma(build.fmul(r, r), tail, r)


def _log_of_power(v: Vectors, k: Any, f: Any) -> Any:
    """Return k log(2) + log(1 + f) for f in [-1/4, 1/2].

    log(1 + f) = 2 artanh(s) with s = f / (2 + f), which is put as f minus a correction, as f is
    exact (Tang 1990, ACM Transactions on Mathematical Software 16).
    """
    numbers = _FORMATS[v.bits]
    build = v.builder
    s = build.fdiv(f, build.fadd(f, v.constant(2.0)))
    square = build.fmul(s, s)
    half_f = build.fmul(f, v.constant(0.5))
    curved = v.fma(square, v.polynomial(square, numbers.log_tail), build.fmul(half_f, f))
    low = v.fma(s, curved, build.fmul(k, v.constant(numbers.ln2_low)))
    low = v.fma(build.fneg(half_f), f, low)
    return v.fma(k, v.constant(numbers.ln2_high), build.fadd(f, low))
