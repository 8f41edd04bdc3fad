"""Elementary functions on explicit vectors: no table, no branch, no call of a library.

A function takes `Vectors` and a vector and emits the instructions of its value, the same for
every lane, so that a result depends neither on an element's lane nor on its address.  Every
multiplication that feeds an addition is an explicit fma, so that the compiler has no choice of
fusing it in one place and not in another.

Errors are the largest found over dense sweeps of normal results, in units in the last place, for
both types, with fused multiply-add and without.  Subnormal results may be flushed to zero, and
the sign of zero may be lost.  Infinity gives the limit and NaN gives NaN.
"""

from __future__ import annotations

from math import inf, nan
from typing import Any

from fastnn.kernels.fits import FORMATS
from fastnn.kernels.simd import Vectors

__all__ = [
    "cos",
    "erf",
    "exp",
    "exp_times",
    "expm1",
    "gelu",
    "limited",
    "log",
    "log1p",
    "log1p_of_any",
    "normal",
    "sigmoid",
    "sign",
    "sin",
    "softplus",
    "tanh",
]

_LOG2_E = 1.4426950408889634
_SQRT_2 = 1.4142135623730951
_NORMAL_PEAK = 0.3989422804014327  # 1 / sqrt(2 pi)

# Pi in three parts of float64, the first two of 33 bits, so that their products with any number
# of half waves below 2^20 are exact.
_PI = (3.1415926534682512, 1.2154201012607932e-10, 4.044532497591901e-21)
_HALF_PI = 1.5707963267948966
_ONE_BY_PI = 0.3183098861837907

_FLAT_BELOW = -40.0  # e^x - 1 is -1 from there
_TAIL_SLOPE = 0.75
_ERF_BENDS = 0.5  # where erf changes from its polynomial to 1 - erfc


def exp(v: Vectors, x: Any) -> Any:
    """Return e^x: infinity above the type's range, 0 where the result would be subnormal.

    x = n log(2) + r with whole n and |r| <= log(2) / 2 (Cody & Waite 1980, chapter 6); the power
    of two is added to the exponent's bits.  Error: 1.1 units.
    """
    numbers = FORMATS[v.bits]
    build = v.builder
    power, grown = _expm1_of_remainder(v, x)
    mantissa = build.bitcast(build.fadd(v.constant(1.0), grown), v.integers)
    result = build.bitcast(build.add(mantissa, power), v.type)
    # With the comparison this way round, NaN stays NaN and infinity stays infinite.
    inside = build.fcmp_ordered("<=", x, v.constant(numbers.exp_highest))
    result = build.select(inside, result, build.fadd(x, v.constant(inf)))
    flushed = build.fcmp_ordered("<", x, v.constant(numbers.exp_lowest))
    return build.select(flushed, v.constant(0.0), result)


def exp_times(v: Vectors, x: Any, factor: Any) -> Any:
    """Return factor e^x for x <= 0, normal where only e^x itself would be subnormal.

    x is at least the least x with a normal exponential, less 10, and not NaN.
    """
    power, grown = _expm1_of_remainder(v, x)
    return _scaled(v, v.fma(factor, grown, factor), power)


def expm1(v: Vectors, x: Any) -> Any:
    """Return e^x - 1 = 2^n (e^r - 1) + (2^n - 1): no cancellation near 0, where n is 0.

    Computed from halves, as 2^n may overflow where the result does not.  Error: 2.3 units.
    """
    numbers = FORMATS[v.bits]
    build = v.builder
    half = v.constant(0.5)
    x = v.select_greater(v.constant(_FLAT_BELOW), x, v.constant(_FLAT_BELOW), x)
    above = v.constant(numbers.exp_highest + 0.25)
    power, grown = _expm1_of_remainder(v, v.select_greater(x, above, above, x))
    unit = v.integer_constant((numbers.bias - 1) << numbers.mantissa)
    scale = build.bitcast(build.add(power, unit), v.type)
    m = v.fma(grown, scale, build.fsub(scale, half))
    return build.fadd(m, m)


def tanh(v: Vectors, x: Any) -> Any:
    """Return tanh(x) = m / (m + 2) with m = e^(2 |x|) - 1, and the sign of x.

    m = 2^n (e^r - 1) + (2^n - 1) does not cancel near 0, where n is 0.  Error: 2.7 units.
    """
    numbers = FORMATS[v.bits]
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
    """Return 1 / (1 + e^(-x)), as accurate far below 0 as above.  Error: 2.5 units."""
    build = v.builder
    one = v.constant(1.0)
    return build.fdiv(one, build.fadd(one, exp(v, build.fneg(x))))


def softplus(v: Vectors, x: Any) -> Any:
    """Return log(1 + e^x) = max(x, 0) + log(1 + e^(-|x|)).  Error: 1.8 units."""
    build = v.builder
    e = exp(v, build.fneg(v.call("llvm.fabs", x)))
    return build.fadd(v.greater(x, v.constant(0.0)), log1p(v, e))


def sin(v: Vectors, x: Any) -> Any:
    """Return sin(x).  Error: 2.5 units up to |x| = 10 000; far beyond, any value in [-1, 1]."""
    return _wave(v, x, 0.0)


def cos(v: Vectors, x: Any) -> Any:
    """Return cos(x) = sin(x + pi / 2).  Error: 2.5 units, as that of `sin`."""
    return _wave(v, x, 0.5)


def normal(v: Vectors, x: Any) -> tuple[Any, Any]:
    """Return the normal distribution function and its density at x.  Error: 3.8, 1.6 units."""
    build = v.builder
    peak = v.constant(_NORMAL_PEAK)
    t, ratio, grown, power = _normal_tail(v, x)
    tail = _scaled(v, v.fma(ratio, grown, ratio), power)
    beyond = build.fsub(v.constant(1.0), tail)
    density = _scaled(v, v.fma(grown, peak, peak), power)
    below = build.select(build.fcmp_ordered("<", x, v.constant(0.0)), tail, beyond)
    # The clamps above drop a NaN; adding 0 t restores it.
    return v.fma(t, v.constant(0.0), below), v.fma(t, v.constant(0.0), density)


def gelu(v: Vectors, x: Any) -> Any:
    """Return x P(X <= x) for X normal, that is x (1 + erf(x / sqrt(2))) / 2.  Error: 3.9 units.

    Below 0 it is x times the tail beyond |x|, so that nothing cancels, else x minus that.
    """
    build = v.builder
    t, ratio, grown, power = _normal_tail(v, x)
    part = build.fmul(ratio, v.call("llvm.copysign", t, x))
    part = _scaled(v, v.fma(part, grown, part), power)
    below = build.fcmp_ordered("<", x, v.constant(0.0))
    return build.select(below, part, build.fsub(x, part))


def erf(v: Vectors, x: Any) -> Any:
    """Return erf(x), up to 1/2 by a polynomial, beyond by the normal tail.  Error: 2.4 units."""
    build = v.builder
    size = v.call("llvm.fabs", x)
    _, ratio, grown, power = _normal_tail(v, build.fmul(size, v.constant(_SQRT_2)))
    tail = _scaled(v, v.fma(ratio, grown, ratio), power)
    far = v.fma(v.constant(-2.0), tail, v.constant(1.0))
    near = v.fma(size, v.polynomial(build.fmul(x, x), FORMATS[v.bits].erf_head), size)
    far = build.select(build.fcmp_ordered(">", size, v.constant(_ERF_BENDS)), far, near)
    return v.call("llvm.copysign", far, x)


def log(v: Vectors, x: Any) -> Any:
    """Return the natural logarithm, of subnormal numbers too: log(0) = -inf, log(< 0) = NaN.

    x = 2^k m with m in [3/4, 3/2), where k is 0 around 1 and nothing cancels.  Error: 1.0 units.
    """
    numbers = FORMATS[v.bits]
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
    # The exponent as a float: placed in the low bits of 2^mantissa, which is then subtracted.
    exponent = build.lshr(above, v.integer_constant(bits))
    exponent = build.or_(exponent, v.integer_constant((numbers.bias + bits) << bits))
    k = build.fsub(build.bitcast(exponent, v.type), v.constant(2.0**bits + numbers.bias))
    result = _log_of_power(v, build.fsub(k, lowered), build.fsub(m, v.constant(1.0)))
    # Infinity and NaN are returned as they are; x <= 0 gives -inf or NaN.
    result = build.select(build.fcmp_ordered("<", x, v.constant(inf)), result, x)
    outside = build.select(build.fcmp_ordered("==", x, zero), v.constant(-inf), v.constant(nan))
    return build.select(build.fcmp_unordered(">", x, zero), result, outside)


def log1p(v: Vectors, x: Any) -> Any:
    """Return log(1 + x) for x in [0, 1], without cancellation for small x.  Error: 1.0 units."""
    half, one, zero = v.constant(0.5), v.constant(1.0), v.constant(0.0)
    f = v.select_greater(x, half, v.fma(x, half, v.constant(-0.5)), x)
    return _log_of_power(v, v.select_greater(x, half, one, zero), f)


def log1p_of_any(v: Vectors, x: Any) -> Any:
    """Return log(1 + x) of any number: -inf for -1, NaN below.  Error: 1.5 units.

    u = 1 + x is rounded; log(u) misses what was lost, of which the first order is lost / u.
    """
    build = v.builder
    one = v.constant(1.0)
    u = build.fadd(x, one)
    # Of the two that are added the smaller one loses its last bits.
    back = build.fsub(u, one)
    lost = v.select_greater(x, one, build.fsub(one, build.fsub(u, x)), build.fsub(x, back))
    logarithm, rest = log(v, u), build.fdiv(lost, u)
    # Infinity and -1 have a limit, and leave nothing that could be told of what was lost.
    known = build.fcmp_ordered("ord", rest, rest)
    return build.select(known, build.fadd(logarithm, rest), logarithm)


def sign(v: Vectors, x: Any) -> Any:
    """Return 1, -1 or 0."""
    zero = v.constant(0.0)
    below = v.select_greater(zero, x, v.constant(-1.0), x)
    return v.select_greater(x, zero, v.constant(1.0), below)


def limited(v: Vectors, x: Any, end: float) -> Any:
    """Return x clamped to [-end, end]."""
    x = v.select_greater(x, v.constant(end), v.constant(end), x)
    return v.select_greater(v.constant(-end), x, v.constant(-end), x)


def _expm1_of_remainder(v: Vectors, x: Any, low: Any = None) -> tuple[Any, Any]:
    """Return n, in the exponent's bits, and e^r - 1, where x, or x + low, is n log(2) + r.

    Adding a number so large that its last bit is worth 1 rounds to an integer, which then stands
    in the low bits of the sum.
    """
    numbers = FORMATS[v.bits]
    build = v.builder
    large = v.constant(1.5 * 2.0**numbers.mantissa)
    whole = x if low is None else build.fadd(x, low)
    shifted = v.fma(whole, v.constant(_LOG2_E), large)
    n = build.fsub(shifted, large)
    r = v.fma(n, v.constant(-numbers.ln2_high), x)
    rest = v.constant(-numbers.ln2_low)
    r = v.fma(n, rest, r) if low is None else build.fadd(r, v.fma(n, rest, low))
    tail = v.polynomial(r, numbers.exp_tail)
    power = build.shl(build.bitcast(shifted, v.integers), v.integer_constant(numbers.mantissa))
    return power, v.fma(build.fmul(r, r), tail, r)


def _scaled(v: Vectors, x: Any, power: Any) -> Any:
    """Return x 2^n, with n in the exponent's bits; 0 where that would be subnormal."""
    numbers = FORMATS[v.bits]
    build = v.builder
    bits = build.bitcast(x, v.integers)
    size = build.and_(bits, v.integer_constant((1 << (v.bits - 1)) - 1))
    least = v.integer_constant(1 << numbers.mantissa)
    alive = build.icmp_signed(">=", build.add(size, power), least)
    return build.select(alive, build.bitcast(build.add(bits, power), v.type), v.constant(0.0))


def _normal_tail(v: Vectors, x: Any) -> tuple[Any, Any, Any, Any]:
    """Return t = |x|, at most the end of the tail, and P(X > t) for X normal in three parts.

    It is ratio (1 + grown) 2^n, where (1 + grown) 2^n = e^(-t^2 / 2) and n stands in the
    exponent's bits.  The square is split into an exact and a small part, because its rounding
    error would become a relative error of the exponential.
    """
    numbers = FORMATS[v.bits]
    build = v.builder
    end, middle = v.constant(numbers.normal_end), v.constant(numbers.tail_middle)
    t = v.call("llvm.fabs", x)
    t = v.select_greater(t, end, end, t)
    mask = v.integer_constant(-1 << numbers.half_bits)
    short = build.bitcast(build.and_(build.bitcast(t, v.integers), mask), v.type)
    rest = build.fmul(build.fsub(t, short), v.constant(-0.5))
    square = build.fmul(build.fmul(short, v.constant(-0.5)), short)
    power, grown = _expm1_of_remainder(v, square, build.fmul(rest, build.fadd(t, short)))
    place = build.fdiv(build.fsub(t, middle), build.fadd(t, middle))
    *bent, sloped, level = numbers.normal_tail
    # The last coefficients are joined by Horner's rule, which rounds less.
    flat = v.fma(place, v.polynomial(place, bent), v.constant(sloped))
    flat = v.fma(place, flat, v.constant(level))
    ratio = build.fdiv(flat, v.fma(t, v.constant(_TAIL_SLOPE), v.constant(1.0)))
    return t, ratio, grown, power


def _wave(v: Vectors, x: Any, shift: float) -> Any:
    """Return sin(x + shift pi) = (-1)^k sin(r) with x + shift pi = k pi + r and |r| <= pi / 2.

    r is taken in float64 for both types (Cody & Waite 1980, chapter 8).
    """
    w = v.widened()
    build = v.builder
    wide = w.taken(x)
    large = w.constant(1.5 * 2.0**52)
    shifted = build.fadd(w.fma(wide, w.constant(_ONE_BY_PI), w.constant(shift)), large)
    whole = build.fsub(build.fsub(shifted, large), w.constant(shift))
    r = wide
    for part in _PI:
        r = w.fma(whole, w.constant(-part), r)
    # For huge x the parts of pi are too short, and r may be out of its range.
    r = limited(w, r, _HALF_PI)
    odd = build.shl(build.bitcast(shifted, w.integers), w.integer_constant(63))
    r = v.taken(build.bitcast(build.xor(build.bitcast(r, w.integers), odd), w.type))
    square = build.fmul(r, r)
    wave = v.fma(build.fmul(r, square), v.polynomial(square, FORMATS[v.bits].sin_tail), r)
    return limited(v, wave, 1.0)


def _log_of_power(v: Vectors, k: Any, f: Any) -> Any:
    """Return k log(2) + log(1 + f) for f in [-1/4, 1/2].

    log(1 + f) = 2 artanh(s) with s = f / (2 + f), which is put as f minus a correction, as f is
    exact (Tang 1990, ACM Transactions on Mathematical Software 16).
    """
    numbers = FORMATS[v.bits]
    build = v.builder
    s = build.fdiv(f, build.fadd(f, v.constant(2.0)))
    square = build.fmul(s, s)
    half_f = build.fmul(f, v.constant(0.5))
    curved = v.fma(square, v.polynomial(square, numbers.log_tail), build.fmul(half_f, f))
    low = v.fma(s, curved, build.fmul(k, v.constant(numbers.ln2_low)))
    low = v.fma(build.fneg(half_f), f, low)
    return v.fma(k, v.constant(numbers.ln2_high), build.fadd(f, low))
