"""The update rules: the native kernel against the reference, on hills with a known valley."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from cases import DTYPES, RULES

import fastnn as fn
from fastnn import reference
from fastnn.conventions import OWN
from fastnn.fitting.states import TrainingState
from fastnn.kernels import codes, records, simd
from fastnn.kernels._jit import entry
from fastnn.kernels.rules import RULES as NATIVE
from fastnn.kernels.rules import prepare_rates
from fastnn.kernels.update import blend, squares, update_span
from fastnn.layout import aligned_zeros
from fastnn.optimizers import OPTIMIZERS, hyperparameters, row_of

ALL_RULES = {**RULES, **{f"default-{name}": row.record() for name, row in OPTIMIZERS.items()}}

TOLERANCE = {"float32": 1e-5, "float64": 1e-13}

# How near to a bottom a rule comes: one whose step there is its learning rate.
WITHIN = {"rmsprop": 0.01, "lion": 0.02}


@pytest.fixture(scope="module")
def native():
    """Return the native update of a span, and its companions, as Python can call them."""
    with pytest.MonkeyPatch.context() as patch:
        # A file on disk would not notice an edit of this one.
        patch.setenv("FASTNN_CACHE", "0")
        return SimpleNamespace(step=entry(_step), squares=entry(_squares), blend=entry(_blend))


def _step(M, w, g, state, count, pitch, rates, numbers, plan):
    prepare_rates(M[rates : rates + 2 * codes.RATES], numbers[()], plan[()])
    return update_span(M, w, g, state, count, pitch, rates, plan[()].optimizer)


def _plan(code):
    """Return a plan with an optimizer's code and the library's own conventions."""
    plan = np.zeros((), records.PLAN)
    plan["optimizer"] = code
    OWN.enter(plan)
    return plan


def _squares(M, at, count, pitch):
    return squares(M, at, count, pitch)


def _blend(M, to, source, count, pitch, kept, factor):
    blend(M, to, source, count, pitch, kept, factor)


@pytest.fixture
def step(native):
    """Return the native update for vectors of any length: packed, stepped and unpacked."""

    def stepped(w, g, moments, numbers, code):
        lanes = simd.BYTES // w.itemsize
        count = -(-w.size // lanes)
        state = count * lanes
        vectors = [w, *moments, g]
        M = aligned_zeros(len(vectors) * state + 2 * codes.RATES, w.dtype)
        for place, vector in enumerate(vectors):
            M[place * state :][: w.size] = vector
        gradient, rates = (len(vectors) - 1) * state, len(vectors) * state
        trouble = native.step(M, 0, gradient, state, count, lanes, rates, numbers, _plan(code))
        for place, vector in enumerate(vectors):
            vector[:] = M[place * state :][: w.size]
        return trouble

    return stepped


def minimise(step, gradient, start, optimizer, steps, dtype="float64"):
    """Return where a rule arrives after some native steps down a gradient."""
    w = np.array(start, dtype)
    state = TrainingState.fresh(optimizer, w)
    code = row_of(optimizer).code
    for _ in range(steps):
        assert step(w, gradient(w), state.moments, state.numbers, code) == 0
    assert state.numbers["steps"] == steps
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
    assert state.numbers["steps"] == 50


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
    # The same, less a tenth of a tenth of the weight before each step.
    decayed = 0.99 * (0.99 - 0.2 / 3) - 0.2 / 3
    found = after_two(fn.AdamW(0.1, epsilon=1.0, weight_decay=0.1))
    assert found == pytest.approx(decayed, rel=1e-13)
    # v = 0.4, then 0.76; the sum of squares is 4, then 8.
    rms = 1.0 - 0.2 / (0.4**0.5 + 1) - 0.2 / (0.76**0.5 + 1)
    assert after_two(fn.RMSprop(0.1, epsilon=1.0)) == pytest.approx(rms, rel=1e-13)
    ada = 1.0 - 0.2 / (2 + 1) - 0.2 / (8**0.5 + 1)
    assert after_two(fn.Adagrad(0.1, epsilon=1.0)) == pytest.approx(ada, rel=1e-13)
    # No scaling yet: the corrected mean is g.
    assert after_two(fn.RAdam(0.1, epsilon=1.0)) == pytest.approx(1.0 - 0.2 - 0.2, rel=1e-13)
    # The largest gradient is 2 and epsilon, each time.
    assert after_two(fn.Adamax(0.1, epsilon=1.0)) == pytest.approx(1.0 - 0.4 / 3, rel=1e-13)
    # The mean of squares has its largest value now.
    assert after_two(fn.AMSGrad(0.1, epsilon=1.0)) == pytest.approx(1.0 - 0.4 / 3, rel=1e-13)
    first = 2 / 1.4**0.5
    second = 2 * (0.1 * first**2 + 1) ** 0.5 / 1.76**0.5
    found = after_two(fn.Adadelta(0.1, epsilon=1.0))
    assert found == pytest.approx(1.0 - 0.1 * (first + second), rel=1e-13)
    decayed = 0.99 * (0.99 - 0.1) - 0.1
    assert after_two(fn.Lion(0.1, weight_decay=0.1)) == pytest.approx(decayed, rel=1e-13)
    # 0.1, and then a fifth more.
    assert after_two(fn.Rprop(0.1)) == pytest.approx(1.0 - 0.1 - 0.12, rel=1e-13)


@pytest.mark.parametrize("name", ["Adadelta", "Adamax", "AMSGrad"])
def test_rules_are_pytorch_s(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    net = fn.Sequential([fn.Dense(1, initializer="zeros")], 3, "float64")
    w = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    theirs = {"AMSGrad": lambda: torch.optim.Adam([w], amsgrad=True)}.get(
        name, lambda: getattr(torch.optim, name)([w])
    )()
    A = torch.tensor(np.column_stack([X, np.ones(20)]))
    for _ in range(30):
        theirs.zero_grad()
        ((A @ w - torch.tensor(y)) ** 2).mean().backward()
        theirs.step()
        net.train_on_batch(X, y, optimizer=name.lower())
    np.testing.assert_allclose(net.parameters, w.detach().numpy(), rtol=1e-10, atol=1e-14)


def test_every_native_rule_fits_the_rows_that_share_it():
    assert {rule.moments for rule in NATIVE.values()} <= {1, 2, 3}
    assert max(rule.rates for rule in NATIVE.values()) <= codes.RATES
    assert set(NATIVE) <= {row.code for row in OPTIMIZERS.values()}
    for code, rule in NATIVE.items():
        assert {row.code: row.moments for row in OPTIMIZERS.values()}[code] == rule.moments


def test_nadam_s_product_of_momenta_is_nothing_where_it_is_left_out():
    # Whatever beta_1, so that the steps after the 64th need no loop.
    for beta_1 in (0.0, 0.5, 0.9, 0.999, 1.0 - 2.0**-53):
        steps = np.arange(1, 65)
        product = np.prod(beta_1 * (1 - 0.96 ** (steps / 250) / 2))
        assert 1.0 - product == 1.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_nadam_is_the_reference_s_far_beyond_its_first_steps(dtype, step):
    optimizer = fn.Nadam(0.01, beta_1=0.99)
    w = np.array([0.5, -2.0], dtype)
    state = TrainingState.fresh(optimizer, w)
    expected, moments = w.copy(), (np.zeros_like(w),) * 2
    for t in range(1, 400):
        g = np.array([np.sin(t), 2.0], dtype)
        assert step(w, g, state.moments, state.numbers, codes.NADAM) == 0
        expected, moments = reference.OPTIMIZERS["Nadam"](
            expected, g, moments, t, hyperparameters(optimizer)
        )
    assert np.abs(w - expected).max() <= TOLERANCE[dtype] * np.abs(expected).max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_rprop_s_steps_stay_within_their_limits(dtype, step):
    optimizer = fn.Rprop(0.1, smallest=0.05, largest=0.3)
    w = np.zeros(2, dtype)
    state = TrainingState.fresh(optimizer, w)
    for t in range(20):
        g = np.array([1.0, (-1.0) ** t], dtype)
        assert step(w, g, state.moments, state.numbers, codes.RPROP) == 0
    assert state.moments[1] == pytest.approx([0.3, 0.05])


@pytest.mark.parametrize("dtype", DTYPES)
def test_rprop_takes_signs_of_gradients_whose_product_underflows(dtype, step):
    tiny = float(np.finfo(dtype).tiny)
    w = minimise(
        step, lambda w: np.array([tiny, -tiny], dtype), [0.0, 0.0], fn.Rprop(0.1), 2, dtype
    )
    assert w == pytest.approx([-0.22, 0.22])


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

# Steps of some shrink, and Lion's are as long as its learning rate: bottoms that are far off need a
# large one.
FAR = {**RULES, "adagrad": fn.Adagrad(0.5), "amsgrad": fn.AMSGrad(0.3), "lion": fn.Lion(0.01)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", FAR)
def test_every_rule_finds_the_bottom_of_a_parabola(rule, dtype, step):
    bottom = np.array([3.0, -2.0, 0.5], dtype)
    curvature = np.array([1.0, 4.0, 0.5], dtype)
    w = minimise(step, lambda w: curvature * (w - bottom), [-1.0, 5.0, 0.0], FAR[rule], 3000, dtype)
    assert w == pytest.approx(bottom, abs=WITHIN.get(rule, 1e-3))


@pytest.mark.parametrize(
    ("optimizer", "steps"),
    [
        (fn.SGD(0.001), 40_000),
        (fn.SGD(0.001, momentum=0.9), 5_000),
        (fn.SGD(0.001, momentum=0.9, nesterov=True), 5_000),
        (fn.Adam(0.02), 6_000),
        (fn.AdamW(0.02, weight_decay=0.0), 6_000),
        (fn.RMSprop(0.0005), 12_000),
        (fn.Adagrad(0.5), 12_000),
        (fn.Rprop(0.1, smallest=1e-9), 8_000),
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
@pytest.mark.parametrize("rule", FAR)
def test_a_network_whose_loss_is_a_parabola_finds_its_bottom(rule, backend):
    # One weight and one bias on three points of a line: the fit is exact.
    net = fn.Sequential([fn.Dense(1)], 1, "float64", rng=1)
    X = [[-1.0], [0.0], [1.0]]
    net.fit(X, [1.0, 3.0, 5.0], optimizer=FAR[rule], epochs=1500, batch_size=3, backend=backend)
    assert net.parameters == pytest.approx([2.0, 3.0], abs=WITHIN.get(rule, 1e-3))


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
    assert step(w, g, state.moments, state.numbers, row.code) == 1
    finite = np.isfinite(w) & np.isfinite(state.moments).all(axis=0)
    assert finite.sum() == 37 - len(places)


def test_a_second_moment_that_overflows_is_noticed(step):
    w = np.ones(5, np.float32)
    state = TrainingState.fresh(fn.Adam(), w)
    g = np.array([1.0, 1e25, 1.0, -1e25, 1.0], np.float32)
    assert step(w, g, state.moments, state.numbers, codes.ADAM) > 0


# Spans of panels.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_a_span_steps_every_pitch_and_leaves_the_rest_alone(rule, dtype, native, step):
    """A panel of which only one vector is in use is stepped by two vectors' pitch."""
    row, rng = row_of(RULES[rule]), np.random.default_rng(0)
    lanes, count = simd.BYTES // np.dtype(dtype).itemsize, 5
    state = 2 * lanes * count
    M = np.ascontiguousarray(rng.random((row.moments + 2) * state + 2 * codes.RATES), dtype)
    gradient, rates = (row.moments + 1) * state, (row.moments + 2) * state
    kept, numbers = M.copy(), TrainingState.fresh(RULES[rule], M).numbers
    found = native.step(M, 0, gradient, state, count, 2 * lanes, rates, numbers, _plan(row.code))
    assert found == 0
    panels, before = (
        vector[:rates].reshape(-1, count, 2, lanes).transpose(2, 0, 1, 3) for vector in (M, kept)
    )
    assert panels[1].tobytes() == before[1].tobytes()
    w, *moments, g = (vector.ravel() for vector in before[0])
    assert panels[0, -1].tobytes() == g.tobytes()
    expected, after = reference.OPTIMIZERS[row.name](w, g, moments, 1, hyperparameters(RULES[rule]))
    for vector, wanted in zip(panels[0], (expected, *after), strict=False):
        assert np.abs(vector.ravel() - wanted).max() <= TOLERANCE[dtype] * np.abs(wanted).max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 7])
def test_squares_are_summed_in_float64_and_multiples_blended_vector_by_vector(count, dtype, native):
    kind = np.dtype(dtype).type
    lanes = simd.BYTES // np.dtype(dtype).itemsize
    M = np.random.default_rng(1).normal(size=40 * lanes).astype(dtype)
    # In float32 their squares are infinite.
    M[3 * lanes] = 1e25
    seen = M[3 * lanes : (3 + 2 * count) * lanes].reshape(count, 2, lanes)[:, 0]
    expected = np.square(seen.astype(float)).sum()
    assert native.squares(M, 3 * lanes, count, 2 * lanes) == pytest.approx(expected, rel=1e-15)
    before = M.copy()
    native.blend(M, 20 * lanes, 3 * lanes, count, 2 * lanes, kind(3.0), kind(0.5))
    wanted = before.copy()
    target = wanted[20 * lanes : (20 + 2 * count) * lanes].reshape(count, 2, lanes)[:, 0]
    target[:] = kind(3.0) * target + kind(0.5) * seen
    np.testing.assert_allclose(M, wanted, rtol=10 * np.finfo(dtype).eps)
    untouched = np.ones(M.size, bool)
    untouched[20 * lanes : (20 + 2 * count) * lanes] = False
    assert M[untouched].tobytes() == before[untouched].tobytes()


# The state between steps.


def test_a_state_starts_at_zero_and_a_copy_is_its_own():
    w = np.ones(5, np.float32)
    state = TrainingState.fresh(fn.Adam(0.5), w)
    assert state.moments.dtype == np.float32
    assert not state.moments.any()
    known = {"learning_rate": 0.5, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
    for name in state.numbers.dtype.names:
        assert state.numbers[name] == known.get(name, 0.0)
    twin = state.copy()
    state.moments[:] = 1.0
    state.numbers["steps"] = 3.0
    assert not twin.moments.any()
    assert twin.numbers["steps"] == 0.0


def test_a_state_goes_on_under_other_numbers_of_the_same_rule():
    state = TrainingState.fresh(fn.Adam(0.5), np.ones(5))
    state.numbers["steps"] = 3.0
    state.moments[:] = 2.0
    later = state.continued(fn.Adam(0.25))
    assert later.numbers["steps"] == 3.0
    assert later.numbers["learning_rate"] == 0.25
    assert (later.moments == 2.0).all()
    assert state.continued(fn.SGD(0.25)) is None
    # Another rule, though it has the same numbers.
    assert state.continued(fn.Nadam(0.25)) is None


@pytest.mark.parametrize("given", ["lbfgs", "LevenbergMarquardt", fn.LBFGS(memory=3)])
def test_a_search_is_no_step(given):
    net = fn.Sequential([fn.Dense(1)], 2, rng=0)
    X, y = np.eye(2), [1.0, 2.0]
    calls = (
        lambda: net.train_on_batch(X, y, optimizer=given),
        lambda: net.apply_gradient(np.zeros(3), given),
        lambda: net.diagnose(X, y, optimizer=given),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"one that takes steps, SGD.*in fit alone"):
            call()
    net.fit(X, y, optimizer=given, epochs=1, progress=False)


def test_fit_lists_searches_among_the_optimizers():
    net = fn.Sequential([fn.Dense(1)], 2, rng=0)
    for wrong in ("levenberg", 3, fn.LBFGS):
        with pytest.raises((TypeError, ValueError), match=r"LBFGS.*LevenbergMarquardt"):
            net.fit(np.eye(2), [1.0, 2.0], optimizer=wrong)
