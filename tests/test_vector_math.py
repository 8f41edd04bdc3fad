"""Vector mathematics: errors in units in the last place, special values, places, processors."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import types

from fastnn.activations import ACTIVATIONS
from fastnn.kernels import codes, curves, elementwise, output, records, simd, vector_math
from fastnn.losses import LOSSES as TABLE

X86 = platform.machine().lower() in ("x86_64", "amd64")

DTYPES = ("float32", "float64")

# Largest errors, in units in the last place, that the docstrings state.
BOUNDS = {
    "exp": 1.1,
    "expm1": 2.3,
    "log": 1.0,
    "log1p": 1.0,
    "log1p_of_any": 1.5,
    "tanh": 2.7,
    "sigmoid": 2.5,
    "softplus": 1.8,
    "sin": 2.5,
    "cos": 2.5,
    "normal": 3.8,
    "density": 1.6,
    "erf": 2.4,
    "gelu": 3.9,
    "silu": 3.0,
    "mish": 3.1,
    "elu": 1.3,
    "selu": 2.6,
    "softsign": 1.6,
    "hard_sigmoid": 1.1,
}

# Where a function is not simply one of the same name.
EMITTERS = {
    "normal": lambda v, x: vector_math.normal(v, x)[0],
    "density": lambda v, x: vector_math.normal(v, x)[1],
    **{name: getattr(curves, name) for name in ("elu", "hard_sigmoid", "mish", "selu", "silu")},
    "softsign": curves.softsign,
}


def emitter(name):
    """Return what emits a function's instructions."""
    return EMITTERS.get(name) or getattr(vector_math, name)


# What the functions are held against, in the next wider type, from their definitions.


def number(x, text):
    """Return a constant in the type of an array."""
    return x.dtype.type(text)


def tail_and_density(x):
    """Return the normal distribution's tail beyond |x| and its density.

    Near 0 by the series of positive terms, further out by Laplace's continued fraction.
    """
    t = np.abs(x)
    # The square of a short number is exact, and its rounding error would be the exponential's.
    short = t.astype(np.float32).astype(t.dtype)
    root = np.sqrt(number(t, "6.283185307179586476925286766559005768"))
    density = np.exp(-short * short / 2) * np.exp(-(t - short) * (t + short) / 2) / root
    middle = number(t, 2.5)
    tail = np.zeros_like(t)
    near = t[t < middle]
    term = total = near
    for n in range(1, 60):
        term = term * near * near / (2 * n + 1)
        total = total + term
    tail[t < middle] = number(t, 0.5) - np.exp(-near * near / 2) * total / root
    far = (t >= middle) & (density > 0)
    fraction = t[far]
    for n in range(120, 0, -1):
        fraction = t[far] + n / fraction
    tail[far] = density[far] / fraction
    return tail, density


def normal(x):
    """Return the normal distribution's function."""
    tail = tail_and_density(x)[0]
    return np.where(x < 0, tail, 1 - tail)


def erf(x):
    """Return it: by the series of positive terms below 1, by the normal tail above."""
    t = np.abs(x)
    near = np.minimum(t, 1)
    term = total = near
    for n in range(1, 40):
        term = term * 2 * near * near / (2 * n + 1)
        total = total + term
    pi = number(x, "3.141592653589793238462643383279502884")
    below = 2 / np.sqrt(pi) * np.exp(-near * near) * total
    tail = tail_and_density(t * np.sqrt(number(x, 2)))[0]
    return np.sign(x) * np.where(t < 1, below, 1 - 2 * tail)


def softplus(x):
    """Return log(1 + e^x)."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def selu(x):
    """Return it, with the constants in more digits."""
    scale = number(x, "1.0507009873554804934193349852946")
    alpha = number(x, "1.6732632423543772848170429916717")
    return np.where(x > 0, scale * x, scale * alpha * np.expm1(np.minimum(x, 0)))


REFERENCES = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "log1p_of_any": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": softplus,
    "sin": np.sin,
    "cos": np.cos,
    "normal": normal,
    "density": lambda x: tail_and_density(x)[1],
    "erf": erf,
    "gelu": lambda x: x * normal(x),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": selu,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
}

SETTINGS = {
    "AVX2": ("haswell", "+avx2,+fma,+avx,+sse4.2"),
    "SSE2": ("x86-64", "+sse2"),
    "AVX-512": ("skylake-avx512", "+avx512f,+avx512dq,+avx512bw,+avx512vl,+avx2,+fma,+avx"),
}

LIBRARY_CALL = re.compile(
    r"\b(exp2?|expm1|log|log1p|tanh|sin|cos|erfc?|fma|rint|round|floor|trunc)f?\b"
)


def sweep(emit):
    """Return a compiled function of two arrays that applies a function."""

    @numba.extending.intrinsic
    def apply(typing, target, source):
        def generate(context, builder, signature, arguments):
            kinds = signature.args
            v = simd.Vectors(builder, context.get_data_type(kinds[0].dtype))
            to, out_of = (
                simd.data_pointer(context, builder, kind, array)
                for kind, array in zip(kinds, arguments, strict=True)
            )

            def step(offset, mask):
                x = v.load(out_of, offset, mask)
                v.store(emit(v, x), to, offset, mask)

            v.over(simd.data_length(context, builder, kinds[0], arguments[0]), step)
            return context.get_dummy_value()

        return types.void(target, source), generate

    return numba.njit(lambda target, source: apply(target, source))


SWEEPS = {name: sweep(emitter(name)) for name in BOUNDS}


def values(name, x):
    """Return what a function gives for an array."""
    result = np.full_like(x, 7)
    SWEEPS[name](result, x)
    return result


def bits(array):
    """Return floating-point numbers as integers in the same order, the negative ones below 0."""
    whole = array.view(np.int32 if array.dtype == np.float32 else np.int64)
    return np.where(whole < 0, np.iinfo(whole.dtype).min - whole, whole)


def neighbours(x, dtype, count=2000):
    """Return the numbers around one, in order."""
    bits_of = np.array([x], dtype).view(f"i{np.dtype(dtype).itemsize}")
    return np.sort((bits_of + np.arange(-count, count, dtype=bits_of.dtype)).view(dtype))


# Up to where a function is tried most densely.
REACH = {
    **dict.fromkeys(("exp", "expm1", "sigmoid", "softplus", "silu", "mish"), "all of exp"),
    **dict.fromkeys(("normal", "density", "gelu", "elu", "selu"), 40),
    **dict.fromkeys(("sin", "cos"), 1e4),
    "tanh": 25,
    "erf": 7,
    "hard_sigmoid": 4,
}


def dense(name, dtype):
    """Return a million numbers and more of all exponents and of where a function bends."""
    kind = np.finfo(dtype)
    rng = np.random.default_rng(5)
    exponents = np.arange(kind.minexp, kind.maxexp)
    each = -(-700_000 // exponents.size)
    mantissas = rng.uniform(1, 2, (exponents.size, each))
    x = np.ldexp(mantissas, exponents[:, np.newaxis]).ravel()
    reach = REACH.get(name, 2)
    reach = kind.maxexp * 0.6932 if reach == "all of exp" else reach
    x = np.concatenate([x, rng.uniform(0, reach, 600_000), rng.uniform(0, 1.5, 300_000)])
    if name == "log1p":
        return np.concatenate([x[x <= 1], rng.uniform(0, 1, 600_000)]).astype(dtype)
    if name == "log":
        return np.concatenate([x, rng.uniform(0.5, 2, 600_000)]).astype(dtype)
    if name == "log1p_of_any":
        return np.concatenate([x, -x[x < 1], rng.uniform(-1, 1, 600_000)]).astype(dtype)
    if name in ("sin", "cos"):
        # Also next to where they are 0.
        zeros = (
            np.pi / 2 * rng.integers(0, 6366, 200_000) * (1 + kind.eps * rng.normal(size=200_000))
        )
        x = np.concatenate([x, zeros])
        x = x[x <= 1e4]
    if name in ("normal", "density", "erf", "gelu"):
        # What these are held against takes its time.
        x = x[::3]
    return np.concatenate([x, -x]).astype(dtype)


def error(name, x):
    """Return the largest error over normal results, in units in the last place."""
    kind = np.finfo(x.dtype)
    wide = np.float64 if x.dtype == np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        exact = REFERENCES[name](x.astype(wide))
    found = values(name, x)
    normal = (np.abs(exact) >= kind.tiny) & (np.abs(exact) <= kind.max)
    assert normal.sum() > 300_000
    found, exact = found[normal].astype(wide), exact[normal]
    unit = np.ldexp(wide(1), np.frexp(exact)[1] - 1 - kind.nmant)
    return float(np.max(np.abs(found - exact) / unit))


# The functions.


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOUNDS)
def test_errors_stay_within_what_is_stated(name, dtype):
    if dtype == "float64" and np.finfo(np.longdouble).nmant < 60:
        pytest.skip("nothing here is exact enough to compare with")
    assert error(name, dense(name, dtype)) <= BOUNDS[name] <= 4


@pytest.mark.parametrize("name", BOUNDS)
def test_an_error_is_stated_where_the_function_stands(name):
    homes = {"density": vector_math.normal, **vars(vector_math)}
    function = homes.get(name) or getattr(curves, name)
    stated = re.search(r"Error: ([\d., ]+) units", function.__doc__).group(1).split(", ")
    assert str(BOUNDS[name]) == stated[name == "density"]


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("exp", [("nan", "nan"), ("inf", "inf"), ("-inf", 0), (1e4, "inf"), (-1e4, 0), (0, 1)]),
        (
            "log",
            [("nan", "nan"), ("inf", "inf"), ("-inf", "nan"), (0, "-inf"), (-1, "nan"), (1, 0)],
        ),
        ("log1p", [("nan", "nan"), (0, 0), (1, np.log(2))]),
        (
            "log1p_of_any",
            [("nan", "nan"), ("inf", "inf"), ("-inf", "nan"), (-1, "-inf"), (-2, "nan"), (0, 0)],
        ),
        ("tanh", [("nan", "nan"), ("inf", 1), ("-inf", -1), (0, 0), (1e30, 1), (-1e30, -1)]),
        ("sigmoid", [("nan", "nan"), ("inf", 1), ("-inf", 0), (0, 0.5), (1e30, 1), (-1e30, 0)]),
        ("expm1", [("nan", "nan"), ("inf", "inf"), ("-inf", -1), (1e4, "inf"), (-1e4, -1), (0, 0)]),
        ("softplus", [("nan", "nan"), ("inf", "inf"), ("-inf", 0), (1e30, 1e30), (-1e30, 0)]),
        ("sin", [("nan", "nan"), ("inf", "nan"), ("-inf", "nan"), (0, 0)]),
        ("cos", [("nan", "nan"), ("inf", "nan"), ("-inf", "nan")]),
        ("normal", [("nan", "nan"), ("inf", 1), ("-inf", 0), (0, 0.5), (1e30, 1), (-1e30, 0)]),
        ("density", [("nan", "nan"), ("inf", 0), ("-inf", 0), (1e30, 0), (-1e30, 0)]),
        ("erf", [("nan", "nan"), ("inf", 1), ("-inf", -1), (0, 0), (1e30, 1), (-1e30, -1)]),
        ("gelu", [("nan", "nan"), ("inf", "inf"), ("-inf", 0), (0, 0), (1e30, 1e30), (-1e30, 0)]),
        ("silu", [("nan", "nan"), ("inf", "inf"), ("-inf", 0), (0, 0), (1e30, 1e30), (-1e30, 0)]),
        ("mish", [("nan", "nan"), ("inf", "inf"), ("-inf", 0), (0, 0), (1e30, 1e30), (-1e30, 0)]),
        ("elu", [("nan", "nan"), ("inf", "inf"), ("-inf", -1), (0, 0), (1e30, 1e30), (-1e30, -1)]),
        ("selu", [("nan", "nan"), ("inf", "inf"), (0, 0)]),
        ("softsign", [("nan", "nan"), ("inf", 1), ("-inf", -1), (0, 0), (1e36, 1), (-1e36, -1)]),
        ("hard_sigmoid", [("nan", "nan"), ("inf", 1), ("-inf", 0), (0, 0.5), (3, 1), (-3, 0)]),
    ],
)
def test_special_values(name, pairs, dtype):
    x, expected = (np.array(column, dtype) for column in zip(*pairs, strict=True))
    np.testing.assert_array_equal(values(name, x), expected)
    # In every lane.
    np.testing.assert_array_equal(values(name, np.tile(x, 9)), np.tile(expected, 9))


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOUNDS)
def test_nan_stays_nan_whatever_its_bits(name, dtype):
    kind = np.dtype(f"u{np.dtype(dtype).itemsize}")
    exponent = kind.type(np.array(np.inf, dtype).view(kind))
    rng = np.random.default_rng(2)
    payload = rng.integers(1, 1 << np.finfo(dtype).nmant, 1000).astype(kind)
    sign = kind.type(1) << kind.type(8 * kind.itemsize - 1)
    x = np.concatenate([exponent | payload, sign | exponent | payload]).view(dtype)
    assert np.isnan(x).all()
    assert np.isnan(values(name, x)).all()


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_logarithms_of_subnormal_numbers_are_right(dtype):
    kind = np.finfo(dtype)
    x = kind.smallest_subnormal * np.arange(1, 5000, dtype=dtype)
    exact = np.log(np.arange(1, 5000)) + np.log(2.0) * (kind.minexp - kind.nmant)
    np.testing.assert_allclose(values("log", x), exact, rtol=4 * kind.eps)


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_exponentials_pass_the_clamps_in_one_step(dtype):
    kind = np.finfo(dtype)
    low = neighbours(np.log(2.0) * kind.minexp, dtype)
    high = neighbours(np.log(2.0) * kind.maxexp, dtype)
    for x in (low, high):
        assert (np.diff(x) > 0).all()
    e = values("exp", low)
    flushed = np.sum(e == 0)
    assert 0 < flushed < e.size
    assert (e[:flushed] == 0).all()
    assert e[flushed:].min() >= kind.tiny
    e = values("exp", high)
    finite = np.sum(np.isfinite(e))
    assert 0 < finite < e.size
    assert (e[finite:] == np.inf).all()
    for x in (low, high):
        assert np.diff(bits(values("exp", x))).min() >= -2
        assert (np.diff(values("sigmoid", np.sort(-x))) >= 0).all()


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_saturation_is_reached_and_not_passed(dtype):
    x = np.linspace(0, 50, 1_000_001).astype(dtype)
    t, s = values("tanh", x), values("sigmoid", x)
    assert t.max() == s.max() == t[-1] == s[-1] == 1
    assert (values("tanh", neighbours(10.0 if dtype == "float32" else 22.0, dtype)) == 1).all()
    assert (values("tanh", -x) == -t).all()


# Where a function rises, if not from 0 to 30.
RISING = {
    "log1p": (0, 1),
    "density": (-30, 0),
    "sin": (-np.pi / 2, np.pi / 2),
    "cos": (-np.pi, 0),
}


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOUNDS)
def test_no_step_back_exceeds_the_error(name, dtype):
    x = np.sort(np.random.default_rng(4).uniform(*RISING.get(name, (0, 30)), 1_000_000))
    assert np.diff(bits(values(name, x.astype(dtype)))).min() >= -4


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["normal", "density", "gelu", "silu", "mish"])
def test_far_below_zero_a_result_is_a_normal_number_or_zero(name, dtype):
    kind = np.finfo(dtype)
    x = np.sort(-np.random.default_rng(7).uniform(0, -1.2 * np.log(kind.tiny), 1_000_000))
    size = np.abs(values(name, x.astype(dtype)))
    flushed = int(np.argmax(size > 0))
    assert 0 < flushed < x.size
    assert (size[:flushed] == 0).all()
    assert kind.tiny <= size[flushed:].min() < 2 * kind.tiny
    # All of them grow from there to where x is -1.3.
    assert np.diff(bits(size[x < -1.3])).min() >= -8


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("expm1", [-40.0, -0.34657, 0.34657]),
        ("erf", [0.5]),
        ("log1p", [0.5]),
        ("log1p_of_any", [-0.25, 0.5, 1.0]),
        ("selu", [-40.0]),
        ("softsign", [1e30]),
        ("hard_sigmoid", [3.0]),
        ("sin", [1.5707963, 3.5]),
    ],
)
def test_no_jump_where_a_form_changes(name, places, dtype):
    for place in places:
        steps = np.diff(bits(values(name, neighbours(place, dtype))))
        # Where a function bends no faster, a step of x is four of its own at most.
        assert np.abs(steps).max() <= 8


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_top_of_expm1_is_that_of_exp(dtype):
    x = neighbours(np.log(2.0) * np.finfo(dtype).maxexp, dtype)
    e, m = values("exp", x), values("expm1", x)
    finite = np.isfinite(e) & np.isfinite(m)
    assert 0 < np.sum(finite) < x.size
    assert np.abs(bits(e)[finite] - bits(m)[finite]).max() <= 4
    assert np.sum(np.isfinite(e) != np.isfinite(m)) <= 4
    assert np.diff(bits(m)).min() >= -2


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_waves_stay_between_their_ends_however_far_out(name, dtype):
    kind = np.finfo(dtype)
    rng = np.random.default_rng(6)
    far = np.ldexp(rng.uniform(1, 2, 300_000), rng.integers(10, kind.maxexp, 300_000))
    far = np.concatenate([far, [kind.max]]).astype(dtype)
    for x in (far, -far):
        found = values(name, x)
        assert np.abs(found).max() <= 1
    # Up to a million half waves they are still right.
    x = rng.uniform(1e4, 1e6, 300_000).astype(dtype)
    exact = getattr(np, name)(x.astype(np.longdouble))
    assert np.abs(values(name, x) - exact).max() <= 2 * kind.eps


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOUNDS)
def test_neither_place_nor_length_changes_a_bit(name, dtype):
    lanes = 64 // np.dtype(dtype).itemsize
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 1, 5 * lanes).astype(dtype)
    expected = values(name, x)
    for offset in range(lanes + 1):
        for length in (*range(2 * lanes + 2), 4 * lanes):
            result = np.full(x.size, np.nan, dtype)
            part = slice(offset, offset + length)
            SWEEPS[name](result[part], x[part])
            assert result[part].tobytes() == expected[part].tobytes()
            assert np.isnan(result[:offset]).all()
            assert np.isnan(result[offset + length :]).all()


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOUNDS)
def test_no_library_is_called(name, dtype):
    values(name, np.zeros(3, dtype))
    code = "\n".join(SWEEPS[name].inspect_asm().values())
    assert not LIBRARY_CALL.search(re.sub(r"^\s*(\.|#).*$|_ZN\S+", "", code, flags=re.MULTILINE))


# Rows.

WIDTHS = (1, 2, 3, 4, 7, 8, 9, 16, 17, 31, 32, 33, 40, 64, 100)
COUNTS = (0, 1, 2, 3, 5, 8, 9, 16, 17, 33)

# Code, form of the targets, and the loss's numbers.
LOSSES = {
    "squares": (codes.MEAN_SQUARED_ERROR, "values", {}),
    "binary": (codes.BINARY_CROSS_ENTROPY, "values", {}),
    "labels": (codes.CROSS_ENTROPY, "labels", {}),
    "smoothed": (codes.CROSS_ENTROPY, "labels", {"label_smoothing": 0.1}),
    "smoothed-binary": (codes.BINARY_CROSS_ENTROPY, "values", {"label_smoothing": 0.2}),
    "focal": (codes.FOCAL, "labels", {"gamma": 2.0}),
    "focal-probabilities": (codes.FOCAL, "values", {"gamma": 0.5}),
    "binary-focal": (codes.BINARY_FOCAL, "values", {"gamma": 2.0}),
    "gamma": (codes.GAMMA, "values", {}),
    "tweedie": (codes.TWEEDIE, "values", {"power": 1.5}),
    "tweedie-far": (codes.TWEEDIE, "values", {"power": 3.0}),
    "probabilities": (codes.CROSS_ENTROPY, "values", {}),
    "absolute": (codes.MEAN_ABSOLUTE_ERROR, "values", {}),
    "huber": (codes.HUBER, "values", {"delta": 0.7}),
    "log_cosh": (codes.LOG_COSH, "values", {}),
    "poisson": (codes.POISSON, "values", {}),
    "quantile": (codes.QUANTILE, "values", {"quantile": 0.8}),
    "gaussian": (codes.GAUSSIAN_NLL, "values", {}),
    "hinge": (codes.HINGE, "values", {}),
    "one-against-the-rest": (codes.HINGE, "labels", {}),
    "quantiles": (codes.QUANTILES, "values", {"quantiles": np.arange(1, 100) / 100}),
}

TOLERANCE = {"float32": 3e-6, "float64": 3e-15}


@numba.njit
def run_activation(A, Z, code):
    elementwise.activation_forward(A, Z, code)


@numba.njit
def run_activation_backward(dZ, A, Z, code):
    elementwise.activation_backward(dZ, A, Z, code)


@numba.njit
def planned_loss(losses, D, S, labels, Y, picks, shares, plans):
    output.output_loss(losses, D, S, labels, Y, picks, shares, plans[0])


def run_loss(losses, D, S, labels, Y, picks, shares, code, numbers):
    plans = np.zeros(1, records.PLAN)
    for name, number in {"loss": code, "loss_limit": np.inf, **numbers}.items():
        plans[name] = number
    planned_loss(losses, D, S, labels, Y, picks, shares, plans)


def softmax(Z):
    """Return it in float64."""
    E = np.exp(Z.astype(float) - Z.max(axis=1, initial=-np.inf, keepdims=True))
    return E / E.sum(axis=1, keepdims=True)


def close(found, expected, dtype):
    """Hold numbers against others, as a part of the largest."""
    assert found.shape == expected.shape
    if found.size:
        assert np.abs(found - expected).max() <= TOLERANCE[dtype] * max(1, np.abs(expected).max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_and_its_derivative(dtype):
    rng = np.random.default_rng(1)
    for rows in COUNTS:
        for width in WIDTHS:
            Z = (4 * rng.normal(size=(rows, width))).astype(dtype)
            A = np.full_like(Z, np.nan)
            run_activation(A, Z, codes.SOFTMAX)
            exact = softmax(Z)
            close(A, exact, dtype)
            in_place = Z.copy()
            run_activation(in_place, in_place, codes.SOFTMAX)
            assert in_place.tobytes() == A.tobytes()
            for i in range(rows):
                # A row's bits are its own: neither its place nor its neighbours count.
                alone = np.empty((1, width), dtype)
                run_activation(alone, Z[i : i + 1], codes.SOFTMAX)
                assert alone.tobytes() == A[i].tobytes()
            dA = rng.normal(size=Z.shape).astype(dtype)
            dZ = dA.copy()
            run_activation_backward(dZ, A, Z, codes.SOFTMAX)
            along = np.sum(A.astype(float) * dA, axis=1, keepdims=True)
            close(dZ, A.astype(float) * (dA - along), dtype)


# Code, value, derivative and from which of both it is taken, in float64 from the definitions.
CURVES = {
    "identity": (lambda z: z, lambda z: np.ones_like(z)),
    "sigmoid": (REFERENCES["sigmoid"], lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "leaky_relu": (lambda z: np.where(z > 0, z, z / 100), lambda z: np.where(z > 0, 1, 0.01)),
    "elu": (REFERENCES["elu"], lambda z: np.exp(np.minimum(z, 0))),
    "selu": (
        selu,
        lambda z: 1.0507009873554805 * np.where(z > 0, 1, 1.6732632423543772 * np.exp(z)),
    ),
    "gelu": (REFERENCES["gelu"], lambda z: normal(z) + z * tail_and_density(z)[1]),
    "silu": (
        REFERENCES["silu"],
        lambda z: (1 + np.exp(-z) + z * np.exp(-z)) / (1 + np.exp(-z)) ** 2,
    ),
    "softplus": (softplus, REFERENCES["sigmoid"]),
    "mish": (
        REFERENCES["mish"],
        lambda z: np.tanh(softplus(z)) + z / np.cosh(softplus(z)) ** 2 / (1 + np.exp(-z)),
    ),
    "softsign": (REFERENCES["softsign"], lambda z: 1 / (1 + np.abs(z)) ** 2),
    "hard_sigmoid": (REFERENCES["hard_sigmoid"], lambda z: ((z > -3) & (z < 3)) / 6),
    "exp": (np.exp, np.exp),
    "sin": (np.sin, np.cos),
}


def test_every_activation_of_single_units_is_a_curve_that_is_tried():
    assert {getattr(codes, name.upper()) for name in CURVES} == set(curves.CURVES)
    assert {row.code for row in ACTIVATIONS.values()} == {*curves.CURVES, *codes.ROW_WISE}


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=lambda row: row.name)
def test_a_curve_reads_what_its_row_says(row):
    if row.code not in codes.ROW_WISE:
        assert curves.CURVES[row.code].from_z == (row.derivative_from == "Z")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CURVES)
def test_sweeps_of_matrices(name, dtype):
    rng = np.random.default_rng(1)
    code, (value, slope) = getattr(codes, name.upper()), CURVES[name]
    for shape in ((0, 3), (1, 1), (3, 5), (16, 8), (7, 33)):
        Z = (3 * rng.normal(size=shape)).astype(dtype)
        A = np.full_like(Z, np.nan)
        run_activation(A, Z, code)
        exact = Z.astype(float)
        close(A, value(exact), dtype)
        dA = rng.normal(size=shape).astype(dtype)
        dZ = dA.copy()
        from_z = curves.CURVES[code].from_z
        other = np.full_like(Z, np.nan)
        run_activation_backward(dZ, *((other, Z) if from_z else (A, other)), code)
        close(dZ, dA * slope(exact), dtype)
        run_activation(Z, Z, code)
        assert Z.tobytes() == A.tobytes()


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CURVES)
def test_slopes_of_infinity_are_limits_and_nan_stays(name, dtype):
    code = getattr(codes, name.upper())
    Z = np.array([[np.inf, -np.inf, np.nan, 1e30, -1e30]], dtype)
    A, dZ = np.empty_like(Z), np.ones_like(Z)
    run_activation(A, Z, code)
    run_activation_backward(dZ, A, Z, code)
    ends = {
        "identity": (1, 1),
        "relu": (1, 0),
        "leaky_relu": (1, 0.01),
        "elu": (1, 0),
        "selu": (1.0507009873554805, 0),
        "gelu": (1, 0),
        "silu": (1, 0),
        "softplus": (1, 0),
        "mish": (1, 0),
        "exp": (np.inf, 0),
    }
    if name == "sin":
        assert np.isnan(dZ[0, :3]).all()
        assert (np.abs(dZ[0, 3:]) <= 1).all()
        return
    high, low = ends.get(name, (0, 0))
    exact = np.array([high, low, high, low])
    np.testing.assert_allclose(dZ[0, [0, 1, 3, 4]], exact, rtol=1e-6, atol=1e-6)
    # These choose the gradient, and what they choose by is true of no NaN.
    chosen = {"identity": 1, "relu": 1, "leaky_relu": 0.01, "hard_sigmoid": 1 / 6}
    np.testing.assert_allclose(dZ[0, 2], chosen.get(name, np.nan), rtol=1e-6)


def problem(kind, rows, width, dtype, seed=0):
    """Return S, labels, Y, picks and shares of a batch out of some more examples."""
    rng = np.random.default_rng(seed)
    code, form, _ = LOSSES[kind]
    examples = rows + 3
    outputs = 2 * width if code == codes.GAUSSIAN_NLL else width
    S = (3 * rng.normal(size=(rows, outputs))).astype(dtype)
    width = 1 if code == codes.QUANTILES else width
    labels, Y = np.empty(0, np.int64), np.empty((0, width), dtype)
    if form == "labels":
        labels = rng.integers(0, width, examples)
    else:
        Y = rng.random((examples, width)).astype(dtype)
        Y[::3] = 0
        Y[::3, 0] = 1
    picks = rng.permutation(examples)[:rows].astype(np.int64)
    return S, labels, Y, picks, rng.random(rows).astype(dtype)


def expected_loss(kind, S, labels, Y, picks, shares):
    """Return losses and gradient in float64."""
    code, form, numbers = LOSSES[kind]
    width = S.shape[1]
    S, shares = S.astype(float), shares.astype(float)[:, np.newaxis]
    y = np.eye(width)[labels[picks]] if form == "labels" else Y[picks].astype(float)
    if code == codes.CROSS_ENTROPY:
        shifted = S - S.max(axis=1, initial=-np.inf, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        smoothing = numbers.get("label_smoothing", 0.0)
        y = (1 - smoothing) * y + smoothing / width
        slopes = np.exp(log_p) * y.sum(axis=1, keepdims=True) - y
        return -np.sum(y * log_p, axis=1), shares * slopes
    if code == codes.FOCAL:
        gamma, p = numbers["gamma"], softmax(S)
        off = -np.expm1(np.minimum(np.log(p), -1e-300))
        by_p = y * (gamma * off ** (gamma - 1) * np.log(p) - off**gamma / p)
        slopes = p * (by_p - np.sum(p * by_p, axis=1, keepdims=True))
        return -np.sum(y * off**gamma * np.log(p), axis=1), shares * slopes
    if code == codes.GAUSSIAN_NLL:
        m = width // 2
        e, s = S[:, :m] - y, S[:, m:]
        slopes = np.hstack([e / np.exp(s), 0.5 - e**2 / np.exp(s) / 2]) / m
        return np.mean(s + e**2 / np.exp(s), axis=1) / 2, shares * slopes
    if code == codes.QUANTILES:
        A = np.cumsum(np.hstack([S[:, :1], np.logaddexp(0, S[:, 1:])]), axis=1)
        e, q = A - y, numbers["quantiles"][:width]
        later = np.cumsum(np.where(e > 0, 1 - q, -q)[:, ::-1], axis=1)[:, ::-1]
        slopes = later / np.hstack([np.ones_like(S[:, :1]), 1 + np.exp(-S[:, 1:])])
        return np.maximum(-q * e, (1 - q) * e).mean(axis=1), shares * slopes / width
    e, t = S - y, 2 * y - 1
    number = next(iter(numbers.values()), 0.0)
    p, q = 1 / (1 + np.exp(-S)), 1 / (1 + np.exp(S))
    wanted = (1 - number) * y + number / 2
    values, slopes = {
        codes.MEAN_SQUARED_ERROR: lambda: (e**2, 2 * e),
        codes.MEAN_ABSOLUTE_ERROR: lambda: (np.abs(e), np.sign(e)),
        codes.HUBER: lambda: (
            np.where(np.abs(e) < number, e**2 / 2, number * (np.abs(e) - number / 2)),
            np.clip(e, -number, number),
        ),
        codes.LOG_COSH: lambda: (np.log(np.cosh(e)), np.tanh(e)),
        codes.BINARY_CROSS_ENTROPY: lambda: (
            np.logaddexp(0, S) - S * wanted,
            p - wanted,
        ),
        codes.POISSON: lambda: (np.exp(S) - y * S, np.exp(S) - y),
        codes.QUANTILE: lambda: (
            np.maximum(-number * e, (1 - number) * e),
            np.where(e > 0, 1 - number, -number),
        ),
        codes.BINARY_FOCAL: lambda: (
            -y * q**number * np.log(p) - (1 - y) * p**number * np.log(q),
            y * q**number * (number * p * np.log(p) - q)
            - (1 - y) * p**number * (number * q * np.log(q) - p),
        ),
        codes.GAMMA: lambda: (S + y * np.exp(-S), 1 - y * np.exp(-S)),
        codes.TWEEDIE: lambda: (
            np.exp((2 - number) * S) / (2 - number) - y * np.exp((1 - number) * S) / (1 - number),
            np.exp((2 - number) * S) - y * np.exp((1 - number) * S),
        ),
        codes.HINGE: lambda: (np.maximum(0, 1 - t * S), np.where(t * S < 1, -t, 0)),
    }[code]()
    return values.mean(axis=1), shares * slopes / width


def test_every_loss_is_tried():
    assert {code for code, _, _ in LOSSES.values()} == {row.code for row in TABLE.values()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", LOSSES)
def test_losses_and_their_gradients(kind, dtype):
    code, _, numbers = LOSSES[kind]
    for rows in COUNTS:
        for width in WIDTHS:
            width = min(width, codes.MOST_QUANTILES) if code == codes.QUANTILES else width
            S, labels, Y, picks, shares = problem(kind, rows, width, dtype)
            # What lies around the results stays as it is.
            around = np.full(rows + 2, 9, dtype)
            field = np.full((rows + 2, S.shape[1]), 9, dtype)
            losses, D = around[1:-1], field[1:-1]
            run_loss(losses, D, S, labels, Y, picks, shares, code, numbers)
            exact_losses, exact_D = expected_loss(kind, S, labels, Y, picks, shares)
            close(losses, exact_losses, dtype)
            close(D, exact_D, dtype)
            assert (around[[0, -1]] == 9).all()
            assert (field[[0, -1]] == 9).all()

            alone = np.full_like(losses, np.nan)
            run_loss(alone, D[:0], S, labels, Y, picks, shares, code, numbers)
            assert alone.tobytes() == losses.tobytes()
            for i in range(rows):
                one, d = np.empty(1, dtype), np.empty((1, S.shape[1]), dtype)
                part = slice(i, i + 1)
                run_loss(one, d, S[part], labels, Y, picks[part], shares[part], code, numbers)
                assert one.tobytes() == losses[part].tobytes()
                assert d.tobytes() == D[part].tobytes()


@pytest.mark.parametrize("kind", LOSSES)
def test_rows_may_lie_apart(kind):
    code, _, numbers = LOSSES[kind]
    for width in (3, 40):
        S, labels, Y, picks, shares = problem(kind, 11, width, "float32")
        outputs = S.shape[1]
        losses, D = np.empty(11, "float32"), np.empty((11, outputs), "float32")
        run_loss(losses, D, S, labels, Y, picks, shares, code, numbers)
        wide, far = np.full((11, 99), 5, "float32"), np.full((11, 99), 5, "float32")
        wide[:, :outputs] = S
        again = np.empty_like(losses)
        arguments = labels, Y, picks, shares, code, numbers
        run_loss(again, far[:, :outputs], wide[:, :outputs], *arguments)
        assert again.tobytes() == losses.tobytes()
        assert far[:, :outputs].tobytes() == D.tobytes()
        assert (far[:, outputs:] == 5).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_cosh_of_small_and_of_large_errors_is_exact(dtype):
    kind = np.finfo(dtype)
    S = np.concatenate([np.geomspace(np.sqrt(kind.tiny), 1e4, 500), np.linspace(0.9, 1.1, 99)])
    S = S.astype(dtype)[:, np.newaxis]
    losses, D, Y = np.empty(len(S), dtype), np.empty_like(S), np.zeros_like(S)
    nothing, picks, shares = np.empty(0, np.int64), np.arange(len(S)), np.ones(len(S), dtype)
    run_loss(losses, D, S, nothing, Y, picks, shares, codes.LOG_COSH, {})
    x = S.ravel().astype(float)
    exact = np.where(
        x < 1, np.log1p(2 * np.sinh(np.minimum(x, 1) / 2) ** 2), np.logaddexp(x, -x) - np.log(2)
    )
    np.testing.assert_allclose(losses, exact, rtol=8 * kind.eps)
    np.testing.assert_allclose(D.ravel(), np.tanh(x), rtol=8 * kind.eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", LOSSES)
def test_nan_in_an_output_is_nan_in_loss_and_gradient(kind, dtype):
    code, _, numbers = LOSSES[kind]
    for width in (3, 40):
        S, labels, Y, picks, shares = problem(kind, 5, width, dtype)
        S[2, 1] = np.nan
        losses, D = np.empty(5, dtype), np.empty_like(S)
        run_loss(losses, D, S, labels, Y, picks, shares, code, numbers)
        assert np.isnan(losses).tolist() == [False, False, True, False, False]
        assert np.isnan(D[2, 1])
        assert np.isfinite(D[[0, 1, 3, 4]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [3, 40])
def test_losses_stay_finite_and_honest(width, dtype):
    picks, shares = np.arange(4), np.ones(4, dtype)
    S = np.zeros((4, width), dtype)
    S[0, 0], S[1, 0], S[2, 0], S[3, 1] = 1e4, -1e4, np.nan, np.inf
    none, labels = np.empty((0, width), dtype), np.zeros(4, np.int64)
    losses, D = np.empty(4, dtype), np.empty_like(S)
    with np.errstate(all="ignore"):
        run_loss(losses, D, S, labels, none, picks, shares, codes.CROSS_ENTROPY, {})
        assert losses[0] == 0
        assert losses[1] == pytest.approx(1e4 + np.log(width - 1))
        assert np.isfinite(D[:2]).all()
        assert np.isnan(losses[2:]).all()
        assert np.isnan(D[2]).all()

        Y, nobody = np.zeros((4, width), dtype), np.empty(0, np.int64)
        Y[:, 0] = 1
        run_loss(losses, D, S, nobody, Y, picks, shares, codes.BINARY_CROSS_ENTROPY, {})
        rest = (width - 1) * np.log(2)
        assert losses[0] == pytest.approx(rest / width)
        assert losses[1] == pytest.approx((1e4 + rest) / width)
        assert np.isnan(losses[2])
        assert not np.isfinite(losses[3])


# Other processors.


def again(arguments, **environment):
    """Run Python in a process with another environment; return what it prints."""
    outcome = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "FASTNN_CACHE": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


def repeat(pytestconfig, marked="not slow", **environment):
    """Run these tests in a process with another environment."""
    options = ["-q", "-p", "no:cacheprovider", "-m", marked]
    if pytestconfig.inipath:
        options += ["-c", str(pytestconfig.inipath)]
    again(["-m", "pytest", *options, __file__], **environment)


@pytest.mark.slow
@pytest.mark.jit
@pytest.mark.skipif(not X86, reason="names processors of another kind")
@pytest.mark.parametrize("setting", ["AVX2", "SSE2"])
def test_everything_holds_on_lesser_processors(setting, pytestconfig):
    name, features = SETTINGS[setting]
    repeat(pytestconfig, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features)


@pytest.mark.slow
@pytest.mark.jit
def test_rows_hold_without_the_compiler(pytestconfig):
    repeat(pytestconfig, marked="not slow and not jit", NUMBA_DISABLE_JIT="1")


@pytest.mark.slow
@pytest.mark.jit
@pytest.mark.skipif(not X86, reason="names processors of another kind")
@pytest.mark.parametrize(
    ("setting", "used", "unused"),
    [("AVX-512", "zmm", None), ("AVX2", "ymm", "zmm"), ("SSE2", "xmm", "ymm")],
)
def test_code_uses_the_registers_of_its_processor(setting, used, unused):
    name, features = SETTINGS[setting]
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numba
from numba import float32, float64, int64
from fastnn.kernels.records import PLAN
from test_vector_math import SWEEPS, planned_loss, run_activation
plans = numba.from_dtype(PLAN)[::1]
for kind in (float32, float64):
    row, matrix, whole = kind[::1], kind[:, ::1], int64[::1]
    for sweep in SWEEPS.values():
        sweep.compile((row, row))
    run_activation.compile((matrix, matrix, int64))
    planned_loss.compile((row, matrix, matrix, whole, matrix, whole, row, plans))
for function in (*SWEEPS.values(), run_activation, planned_loss):
    for code in function.inspect_asm().values():
        print(code)
        print("NEXT")
"""
    printed = again(["-c", program], NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features)
    parts = printed.split("NEXT")[:-1]
    assert len(parts) == 2 * (len(SWEEPS) + 2)
    for code in parts:
        assert used in code
        assert unused is None or unused not in code
        called = re.sub(r"^\s*(\.|#).*$|_ZN\S+", "", code, flags=re.MULTILINE)
        assert not LIBRARY_CALL.search(called)
