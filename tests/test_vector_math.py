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

from fastnn.kernels import codes, elementwise, output, simd, vector_math

X86 = platform.machine().lower() in ("x86_64", "amd64")

DTYPES = ("float32", "float64")

# Largest errors, in units in the last place, that the docstrings state.
BOUNDS = {"exp": 1.1, "log": 1.0, "log1p": 1.0, "tanh": 2.7, "sigmoid": 2.4}

REFERENCES = {
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}

SETTINGS = {
    "AVX2": ("haswell", "+avx2,+fma,+avx,+sse4.2"),
    "SSE2": ("x86-64", "+sse2"),
    "AVX-512": ("skylake-avx512", "+avx512f,+avx512dq,+avx512bw,+avx512vl,+avx2,+fma,+avx"),
}

LIBRARY_CALL = re.compile(r"\b(exp2?|expm1|log|log1p|tanh|fma|rint|round|floor|trunc)f?\b")


def sweep(name):
    """Return a compiled function of two arrays that applies one of the functions."""

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
                v.store(getattr(vector_math, name)(v, x), to, offset, mask)

            v.over(simd.data_length(context, builder, kinds[0], arguments[0]), step)
            return context.get_dummy_value()

        return types.void(target, source), generate

    return numba.njit(lambda target, source: apply(target, source))


SWEEPS = {name: sweep(name) for name in BOUNDS}


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


def dense(name, dtype):
    """Return a million numbers and more of all exponents and of where a function bends."""
    kind = np.finfo(dtype)
    rng = np.random.default_rng(5)
    exponents = np.arange(kind.minexp, kind.maxexp)
    each = -(-700_000 // exponents.size)
    mantissas = rng.uniform(1, 2, (exponents.size, each))
    x = np.ldexp(mantissas, exponents[:, np.newaxis]).ravel()
    reach = {"exp": kind.maxexp * 0.6932, "sigmoid": kind.maxexp * 0.6932, "tanh": 25}.get(name, 2)
    x = np.concatenate([x, rng.uniform(0, reach, 600_000), rng.uniform(0, 1.5, 300_000)])
    if name == "log1p":
        return np.concatenate([x[x <= 1], rng.uniform(0, 1, 600_000)]).astype(dtype)
    if name == "log":
        return np.concatenate([x, rng.uniform(0.5, 2, 600_000)]).astype(dtype)
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
        ("tanh", [("nan", "nan"), ("inf", 1), ("-inf", -1), (0, 0), (1e30, 1), (-1e30, -1)]),
        ("sigmoid", [("nan", "nan"), ("inf", 1), ("-inf", 0), (0, 0.5), (1e30, 1), (-1e30, 0)]),
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


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOUNDS)
def test_no_step_back_exceeds_the_error(name, dtype):
    x = np.sort(np.random.default_rng(4).uniform(0, 1 if name == "log1p" else 30, 1_000_000))
    assert np.diff(bits(values(name, x.astype(dtype)))).min() >= -4


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

LOSSES = {
    "squares": codes.MEAN_SQUARED_ERROR,
    "binary": codes.BINARY_CROSS_ENTROPY,
    "labels": codes.CROSS_ENTROPY,
    "probabilities": codes.CROSS_ENTROPY,
}

TOLERANCE = {"float32": 3e-6, "float64": 3e-15}


@numba.njit
def run_activation(A, Z, code):
    elementwise.activation_forward(A, Z, code)


@numba.njit
def run_activation_backward(dZ, A, Z, code):
    elementwise.activation_backward(dZ, A, Z, code)


@numba.njit
def run_loss(losses, D, S, labels, Y, picks, shares, code):
    output.output_loss(losses, D, S, labels, Y, picks, shares, code)


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("code", [codes.SIGMOID, codes.TANH])
def test_sweeps_of_matrices(code, dtype):
    rng = np.random.default_rng(1)
    exact = {codes.SIGMOID: REFERENCES["sigmoid"], codes.TANH: np.tanh}[code]
    for shape in ((0, 3), (1, 1), (3, 5), (16, 8), (7, 33)):
        Z = (4 * rng.normal(size=shape)).astype(dtype)
        A = np.full_like(Z, np.nan)
        run_activation(A, Z, code)
        close(A, exact(Z.astype(float)), dtype)
        run_activation(Z, Z, code)
        assert Z.tobytes() == A.tobytes()


def problem(kind, rows, width, dtype, seed=0):
    """Return S, labels, Y, picks and shares of a batch out of some more examples."""
    rng = np.random.default_rng(seed)
    examples = rows + 3
    S = (3 * rng.normal(size=(rows, width))).astype(dtype)
    labels, Y = np.empty(0, np.int64), np.empty((0, width), dtype)
    if kind == "labels":
        labels = rng.integers(0, width, examples)
    else:
        Y = rng.random((examples, width)).astype(dtype)
        Y[::3] = 0
        Y[::3, 0] = 1
    picks = rng.permutation(examples)[:rows].astype(np.int64)
    return S, labels, Y, picks, rng.random(rows).astype(dtype)


def expected_loss(kind, S, labels, Y, picks, shares):
    """Return losses and gradient in float64."""
    width = S.shape[1]
    S, shares = S.astype(float), shares.astype(float)[:, np.newaxis]
    y = np.eye(width)[labels[picks]] if kind == "labels" else Y[picks].astype(float)
    if kind == "squares":
        return np.mean((S - y) ** 2, axis=1), shares * 2 * (S - y) / width
    if kind == "binary":
        return (
            np.mean(np.logaddexp(0, S) - S * y, axis=1),
            shares * (1 / (1 + np.exp(-S)) - y) / width,
        )
    shifted = S - S.max(axis=1, initial=-np.inf, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -np.sum(y * log_p, axis=1), shares * (np.exp(log_p) * y.sum(axis=1, keepdims=True) - y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", LOSSES)
def test_losses_and_their_gradients(kind, dtype):
    code = LOSSES[kind]
    for rows in COUNTS:
        for width in WIDTHS:
            S, labels, Y, picks, shares = problem(kind, rows, width, dtype)
            # What lies around the results stays as it is.
            around = np.full(rows + 2, 9, dtype)
            field = np.full((rows + 2, width), 9, dtype)
            losses, D = around[1:-1], field[1:-1]
            run_loss(losses, D, S, labels, Y, picks, shares, code)
            exact_losses, exact_D = expected_loss(kind, S, labels, Y, picks, shares)
            close(losses, exact_losses, dtype)
            close(D, exact_D, dtype)
            assert (around[[0, -1]] == 9).all()
            assert (field[[0, -1]] == 9).all()

            alone = np.full_like(losses, np.nan)
            run_loss(alone, D[:0], S, labels, Y, picks, shares, code)
            assert alone.tobytes() == losses.tobytes()
            for i in range(rows):
                one, d = np.empty(1, dtype), np.empty((1, width), dtype)
                part = slice(i, i + 1)
                run_loss(one, d, S[part], labels, Y, picks[part], shares[part], code)
                assert one.tobytes() == losses[part].tobytes()
                assert d.tobytes() == D[part].tobytes()


@pytest.mark.parametrize("kind", LOSSES)
def test_rows_may_lie_apart(kind):
    for width in (3, 40):
        S, labels, Y, picks, shares = problem(kind, 11, width, "float32")
        losses, D = np.empty(11, "float32"), np.empty((11, width), "float32")
        run_loss(losses, D, S, labels, Y, picks, shares, LOSSES[kind])
        wide, far = np.full((11, 64), 5, "float32"), np.full((11, 64), 5, "float32")
        wide[:, :width] = S
        again = np.empty_like(losses)
        run_loss(again, far[:, :width], wide[:, :width], labels, Y, picks, shares, LOSSES[kind])
        assert again.tobytes() == losses.tobytes()
        assert far[:, :width].tobytes() == D.tobytes()
        assert (far[:, width:] == 5).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [3, 40])
def test_losses_stay_finite_and_honest(width, dtype):
    picks, shares = np.arange(4), np.ones(4, dtype)
    S = np.zeros((4, width), dtype)
    S[0, 0], S[1, 0], S[2, 0], S[3, 1] = 1e4, -1e4, np.nan, np.inf
    none = np.empty((0, width), dtype)
    losses, D = np.empty(4, dtype), np.empty_like(S)
    with np.errstate(all="ignore"):
        run_loss(losses, D, S, np.zeros(4, np.int64), none, picks, shares, codes.CROSS_ENTROPY)
        assert losses[0] == 0
        assert losses[1] == pytest.approx(1e4 + np.log(width - 1))
        assert np.isfinite(D[:2]).all()
        assert np.isnan(losses[2:]).all()
        assert np.isnan(D[2]).all()

        Y = np.zeros((4, width), dtype)
        Y[:, 0] = 1
        run_loss(losses, D, S, np.empty(0, np.int64), Y, picks, shares, codes.BINARY_CROSS_ENTROPY)
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
from test_vector_math import SWEEPS, run_activation, run_loss
for kind in (float32, float64):
    row, matrix, whole = kind[::1], kind[:, ::1], int64[::1]
    for sweep in SWEEPS.values():
        sweep.compile((row, row))
    run_activation.compile((matrix, matrix, int64))
    run_loss.compile((row, matrix, matrix, whole, matrix, whole, row, int64))
for function in (*SWEEPS.values(), run_activation, run_loss):
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
