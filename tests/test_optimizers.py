"""The update rules: the native kernel against the reference, on hills with a known valley."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import DTYPES, RULES

import fastnn as fn
from fastnn import reference
from fastnn.kernels import codes
from fastnn.kernels._jit import entry
from fastnn.kernels.update import prepare_rates, update_vector
from fastnn.optimizers import OPTIMIZERS, hyperparameters, row_of
from fastnn.training import TrainingState

ALL_RULES = {**RULES, **{f"default-{name}": row.record() for name, row in OPTIMIZERS.items()}}

TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


@pytest.fixture(scope="module")
def step():
    """Return the native update as a function that Python can call."""
    with pytest.MonkeyPatch.context() as patch:
        # A file on disk would not notice an edit of this one.
        patch.setenv("FASTNN_CACHE", "0")
        return entry(_step)


def _step(w, g, moments, numbers, code):
    rates = np.empty(codes.RATES, w.dtype)
    prepare_rates(rates, numbers, code)
    return update_vector(w, g, moments, rates, code)


def minimise(step, gradient, start, optimizer, steps, dtype="float64"):
    """Return where a rule arrives after some native steps down a gradient."""
    w = np.array(start, dtype)
    state = TrainingState.fresh(optimizer, w)
    code = row_of(optimizer).code
    for _ in range(steps):
        assert step(w, gradient(w), state.moments, state.numbers, code) == 0
    assert state.numbers[codes.STEPS] == steps
    return w


def rosenbrock(w):
    """Return the gradient of ``(1 - x)^2 + 100 (y - x^2)^2``, whose valley ends at (1, 1)."""
    x, y = w
    return np.array([2 * (x - 1) - 400 * x * (y - x * x), 200 * (y - x * x)], w.dtype)


# Step by step.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ALL_RULES)
def test_native_steps_are_the_reference_s(rule, dtype, step):
    optimizer = ALL_RULES[rule]
    row = row_of(optimizer)
    rng = np.random.default_rng(0)
    w = rng.normal(size=61).astype(dtype)
    expected, moments = w.copy(), (np.zeros_like(w),) * row.moments
    state = TrainingState.fresh(optimizer, w)
    assert state.moments.shape == (row.moments, w.size)
    for t in range(1, 51):
        # Some entries never move, some have gradients of very different sizes.
        g = (rng.normal(size=61) * 10.0 ** rng.integers(-6, 3, size=61)).astype(dtype)
        g[::7] = 0.0
        kept = g.copy()
        assert step(w, g, state.moments, state.numbers, row.code) == 0
        expected, moments = reference.OPTIMIZERS[row.name](
            expected, g, moments, t, hyperparameters(optimizer)
        )
        assert g.tobytes() == kept.tobytes()
        assert expected.dtype == dtype
        assert np.abs(w - expected).max() <= TOLERANCE[dtype] * np.abs(expected).max()
        for found, moment in zip(state.moments, moments, strict=True):
            assert np.abs(found - moment).max() <= TOLERANCE[dtype] * np.abs(moment).max()
    assert state.numbers[codes.STEPS] == 50


def test_two_steps_of_every_rule_by_hand(step):
    g = np.array([2.0])

    def after_two(optimizer):
        return minimise(step, lambda w: g, [1.0], optimizer, 2)[0]

    assert after_two(fn.SGD(0.1)) == pytest.approx(1.0 - 0.2 - 0.2, rel=1e-15)
    # v = -0.2, then -0.3.
    assert after_two(fn.SGD(0.1, 0.5)) == pytest.approx(1.0 - 0.2 - 0.3, rel=1e-15)
    # The same v; each step looks ahead: 0.5 v - 0.2.
    assert after_two(fn.SGD(0.1, 0.5, True)) == pytest.approx(1.0 - 0.3 - 0.35, rel=1e-15)
    # Under a gradient that stays the same, both corrected means are g and g^2.
    assert after_two(fn.Adam(0.1, epsilon=1.0)) == pytest.approx(1.0 - 2 * 0.1 * 2 / 3, rel=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_s_first_step_is_the_learning_rate_whatever_the_gradient(dtype, step):
    g = np.array([1e-3, -1e-3, 5.0, -700.0, 0.0], dtype)
    w = minimise(step, lambda w: g, np.zeros(5), fn.Adam(0.25), 1, dtype)
    assert w == pytest.approx([-0.25, 0.25, -0.25, 0.25, 0.0], rel=1e-4)


def test_epsilon_stands_outside_the_corrected_root(step):
    # At step 1 the corrected root is |g|: inside, or uncorrected, epsilon would weigh otherwise.
    w = minimise(step, lambda w: np.array([3.0]), [0.0], fn.Adam(1.0, epsilon=1.0), 1)
    assert w == pytest.approx([-3.0 / (3.0 + 1.0)], rel=1e-14)


# Valleys.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_finds_the_bottom_of_a_parabola(rule, dtype, step):
    bottom = np.array([3.0, -2.0, 0.5], dtype)
    curvature = np.array([1.0, 4.0, 0.5], dtype)
    w = minimise(
        step, lambda w: curvature * (w - bottom), [-1.0, 5.0, 0.0], RULES[rule], 3000, dtype
    )
    assert w == pytest.approx(bottom, abs=1e-3)


@pytest.mark.parametrize(
    ("optimizer", "steps"),
    [
        (fn.SGD(0.001), 40_000),
        (fn.SGD(0.001, momentum=0.9), 5_000),
        (fn.SGD(0.001, momentum=0.9, nesterov=True), 5_000),
        (fn.Adam(0.02), 6_000),
    ],
    ids=lambda value: str(value),
)
def test_every_rule_reaches_the_end_of_rosenbrock_s_valley(optimizer, steps, step):
    w = minimise(step, rosenbrock, [-1.2, 1.0], optimizer, steps)
    assert w == pytest.approx([1.0, 1.0], abs=1e-3)


def test_momentum_goes_further_than_plain_descent(step):
    plain, heavy, ahead = (
        np.linalg.norm(minimise(step, rosenbrock, [-1.2, 1.0], fn.SGD(0.001, *more), 1000) - 1.0)
        for more in ((), (0.9,), (0.9, True))
    )
    assert heavy < 0.5 * plain
    assert ahead < 0.5 * plain


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("rule", RULES)
def test_a_network_whose_loss_is_a_parabola_finds_its_bottom(rule, backend):
    # One weight and one bias on three points of a line: the fit is exact.
    net = fn.Sequential([fn.Dense(1)], 1, "float64", rng=1)
    X = [[-1.0], [0.0], [1.0]]
    net.fit(X, [1.0, 3.0, 5.0], optimizer=RULES[rule], epochs=1500, batch_size=3, backend=backend)
    assert net.parameters == pytest.approx([2.0, 3.0], abs=1e-3)


# What is not finite.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("places", [[0], [5, 6], [36], [0, 5, 36]])
def test_results_that_are_not_finite_are_noticed(places, bad, rule, dtype, step):
    row = row_of(RULES[rule])
    w = np.ones(37, dtype)
    state = TrainingState.fresh(RULES[rule], w)
    g = np.ones(37, dtype)
    g[places] = bad
    assert 0 < step(w, g, state.moments, state.numbers, row.code) <= len(places)
    assert np.isfinite(w).sum() == 37 - len(places)


def test_a_second_moment_that_overflows_is_noticed(step):
    w = np.ones(5, np.float32)
    state = TrainingState.fresh(fn.Adam(), w)
    g = np.array([1.0, 1e25, 1.0, -1e25, 1.0], np.float32)
    assert step(w, g, state.moments, state.numbers, codes.ADAM) > 0
    assert np.isfinite(w).all()


# The state between steps.


def test_a_state_starts_at_zero_and_a_copy_is_its_own():
    w = np.ones(5, np.float32)
    state = TrainingState.fresh(fn.Adam(0.5), w)
    assert state.moments.dtype == np.float32
    assert not state.moments.any()
    assert state.numbers.tolist()[:4] == [0.0, 0.5, 0.9, 0.999]
    twin = state.copy()
    state.moments[:] = 1.0
    state.numbers[codes.STEPS] = 3.0
    assert not twin.moments.any()
    assert twin.numbers[codes.STEPS] == 0.0
    state.restore(twin)
    assert not state.moments.any()
    assert state.numbers.tolist() == twin.numbers.tolist()


def test_a_state_goes_on_under_other_numbers_of_the_same_rule():
    state = TrainingState.fresh(fn.Adam(0.5), np.ones(5))
    state.numbers[codes.STEPS] = 3.0
    state.moments[:] = 2.0
    later = state.continued(fn.Adam(0.25))
    assert later.numbers[codes.STEPS] == 3.0
    assert later.numbers[codes.LEARNING_RATE] == 0.25
    assert (later.moments == 2.0).all()
    assert state.continued(fn.SGD(0.25)) is None
