"""`learning_rate` of the estimators beyond scikit-learn's: schedules, in every way of fitting."""

from __future__ import annotations

import copy
import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("sklearn.callback")

from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import fastnn as fn
from fastnn.errors import DivergenceError
from fastnn.estimators.pace import schedule_of
from fastnn.estimators.parameters import RATES, SOLVERS
from fastnn.schedules import SCHEDULES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

_rng = np.random.RandomState(1)
X = _rng.normal(size=(90, 4))
_f = np.sin(X[:, 0]) + X[:, 1]
Y = np.digitize(_f, [-0.6, 0.6])
W = _rng.uniform(0.5, 2.0, size=90)
CLASSES = [0, 1, 2]
STEPS = 6  # an epoch has, by the batch size below
SMALL = {
    "hidden_layer_sizes": (6, 5), "max_iter": 7, "batch_size": 16, "random_state": 0,
    "learning_rate_init": 0.01, "n_iter_no_change": math.inf,
}  # fmt: skip
NAMES = sorted({*SCHEDULES} - {*RATES})
STOCHASTIC = [name for name, make in SOLVERS.items() if make is not None]


def halving(epoch):
    return 0.5**epoch


def classifier(rate, **parameters):
    return fn.MLPClassifier(**SMALL | {"learning_rate": rate} | parameters)


def fitted(rate, **parameters):
    return classifier(rate, **parameters).fit(X, Y, W)


def same(one, other):
    """Tell whether two estimators have the same weights, bit for bit."""
    arrays = zip([*one.coefs_, *one.intercepts_], [*other.coefs_, *other.intercepts_], strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in arrays)


class Spy:
    """A schedule that keeps what it was asked for, in a list that copies share."""

    seen: list = []  # noqa: RUF012

    def rate(self, step, steps_per_epoch, epochs, base, history=None):
        recorded = {name: len(values) for name, values in history.items()}
        self.seen.append((step, steps_per_epoch, epochs, base, recorded))
        return base


@pytest.fixture
def spy():
    Spy.seen.clear()
    return Spy()


# What it does to a fit.


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_every_solver_follows_a_schedule_as_the_reference_does(solver):
    for rate in [*NAMES, fn.CosineDecay(2), halving] if solver == "adam" else ["one_cycle"]:
        native = fitted(rate, solver=solver)
        with fn.backend("reference"):
            expected = clone(native).fit(X, Y, W)
        for one, other in zip(native.coefs_, expected.coefs_, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-10)
        assert native._optimizer.learning_rate == expected._optimizer.learning_rate


@pytest.mark.parametrize("rate", ["one_cycle", fn.Warmup(2, "cosine"), halving], ids=str)
@pytest.mark.parametrize("solver", ["sgd", "radam"])
def test_a_schedule_is_the_layer_api_s(rate, solver):
    layers = [fn.Dense(6, "relu"), fn.Dense(5, "relu"), fn.Dense(1)]
    net = fn.Sequential(layers, 4, "float64", rng=3)
    one = fn.MLPRegressor(
        "mean_squared_error", **SMALL, learning_rate=rate, solver=solver, alpha=0.0, momentum=0.5,
        nesterovs_momentum=False, shuffle=False, coefs_init=net.weights,
        intercepts_init=net.biases,
    ).fit(X, _f)  # fmt: skip
    rule = fn.SGD(0.01, momentum=0.5) if solver == "sgd" else fn.RAdam(0.01)
    history = net.fit(X, _f, optimizer=rule, epochs=7, batch_size=16, shuffle=False, schedule=rate)
    np.testing.assert_allclose(one.network_.parameters, net.parameters, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(one.loss_curve_, history["loss"], rtol=0.1)


def test_a_name_is_its_record_and_a_constant_is_none():
    for name in {*NAMES} - {"plateau"}:
        # A step comes after ten epochs.
        one, record = fitted(name, max_iter=11), fitted(SCHEDULES[name](), max_iter=11)
        assert same(one, record), name
        assert not same(one, fitted("constant", max_iter=11)), name
    for solver in ("adam", "sgd"):
        assert same(fitted(fn.ConstantRate(), solver=solver), fitted("constant", solver=solver))


def test_scikit_learn_s_ways_are_for_sgd_alone():
    for rate in RATES:
        assert same(fitted(rate, solver="adam"), fitted("constant", solver="adam"))
    assert not same(fitted("invscaling", solver="sgd"), fitted("constant", solver="sgd"))


def test_lbfgs_has_no_use_for_a_learning_rate():
    assert same(fitted("one_cycle", solver="lbfgs"), fitted("constant", solver="lbfgs"))


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_schedule_is_asked_for_every_step_with_what_was_recorded(backend, spy):
    with fn.backend(backend):
        one = fitted(spy, max_iter=3, early_stopping=True)
    steps = -(-81 // 16)
    recorded = ("loss", "val_loss", "val_accuracy")
    assert one.n_iter_ == 3
    assert spy.seen == [
        (step, steps, 3, 0.01, dict.fromkeys(recorded, step // steps)) for step in range(3 * steps)
    ]


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("solver", ["sgd", "adam", "rprop"])
def test_the_present_rate_is_the_last_step_s(solver, backend):
    rate = fn.OneCycle(end=0.0)
    with fn.backend(backend):
        for epochs in (1, 4):
            one = classifier(rate, solver=solver)
            for _ in range(epochs):
                one.partial_fit(X, Y, classes=CLASSES)
            expected = rate.rate(epochs * STEPS - 1, STEPS, 7, 0.01)
            assert one._optimizer.learning_rate == expected
        # The schedule ends at 0, which is a rate like any other.
        assert fitted(rate, solver=solver)._optimizer.learning_rate == 0.0


def test_numbers_of_any_kind_are_a_base():
    assert same(fitted("cosine", learning_rate_init=np.float32(0.5)), fitted(
        "cosine", learning_rate_init=0.5))  # fmt: skip


def test_sparse_features_follow_the_schedule():
    thin = sparse.csr_array(np.where(np.abs(X) > 0.7, X, 0.0))
    for solver in ("sgd", "adam"):
        dense = classifier("one_cycle", solver=solver).fit(thin.toarray(), Y, W)
        whole = classifier("one_cycle", solver=solver).fit(thin, Y, W)
        assert same(dense, whole)


# Plateaus.


@pytest.mark.parametrize("early", [False, True], ids=["loss", "score"])
def test_a_plateau_lowers_the_rate_before_the_fit_ends(early):
    settings = {"n_iter_no_change": 4, "tol": 1e9, "max_iter": 50, "early_stopping": early}
    for solver in ("sgd", "adam"):
        one = fitted("plateau", solver=solver, **settings)
        # Nothing after the first epoch is better by so much: it falls after two epochs more, and
        # after four; then the fit ends.
        assert one.n_iter_ == 6
        assert one._optimizer.learning_rate == pytest.approx(0.01 * 0.1**2)


def test_a_plateau_is_one_of_what_the_fit_is_judged_by():
    one = fn.MLPClassifier(n_iter_no_change=7, tol=0.25)
    one.set_params(learning_rate="plateau")
    best = {"val_accuracy": 1.0, "val_loss": -1.0}
    expected = {"val_accuracy": "max", "val_loss": "min"}
    for name, sign in best.items():
        found = schedule_of(one, SimpleNamespace(name=name, sign=sign))
        assert found == fn.ReduceOnPlateau(name, patience=3, min_delta=0.25, mode=expected[name])
    assert schedule_of(one, None) == fn.ReduceOnPlateau("loss", patience=3, min_delta=0.25,
                                                        mode="min")  # fmt: skip
    for patient, patience in ((1, 1), (math.inf, 10), (np.int64(9), 4)):
        one.set_params(n_iter_no_change=patient)
        assert schedule_of(one, None).patience == patience


def test_a_plateau_of_one_s_own_watches_what_is_recorded():
    keywords = {"factor": 0.5, "patience": 1, "min_delta": 1e9, "mode": "max"}
    held = {"validation_data": (X, Y)}
    for watched, monitor in (
        ("loss", None), ("val_loss", None), ("val_accuracy", None), ("val_loss", "loss"),
        ("val_f1_macro", "f1_macro"),
    ):  # fmt: skip
        rate = fn.ReduceOnPlateau(watched, **keywords)
        one = classifier(rate, max_iter=4, monitor=monitor).fit(X, Y, **held)
        assert one._optimizer.learning_rate == 0.01 * 0.5**2, watched
    words = (
        "learning_rate cannot be followed: monitor must be one of what .* 'loss'; got 'val_loss'"
    )
    with pytest.raises(ValueError, match=words):
        classifier(fn.ReduceOnPlateau()).fit(X, Y)


def test_early_stopping_keeps_the_best_weights_under_a_schedule():
    one = fitted("one_cycle", early_stopping=True, max_iter=60, n_iter_no_change=5,
                 learning_rate_init=0.05)  # fmt: skip
    assert one.best_validation_score_ == max(one.validation_scores_)
    assert one.n_iter_ <= 60


# Going on.


@pytest.mark.parametrize("solver", ["sgd", "adamw"])
@pytest.mark.parametrize("rate", ["one_cycle", fn.Warmup(1, "cosine"), halving], ids=str)
def test_partial_fit_counts_on(rate, solver):
    settings = {"solver": solver, "shuffle": False, "max_iter": 4}
    whole = fitted(rate, **settings)
    parts = classifier(rate, **settings)
    for epoch in range(4):
        parts.partial_fit(X, Y, W, classes=CLASSES)
        if epoch == 1:
            parts = pickle.loads(pickle.dumps(parts))
    assert same(whole, parts)
    assert parts._optimizer.learning_rate == whole._optimizer.learning_rate


def test_partial_fit_may_bring_other_numbers_of_examples(spy):
    one = classifier(spy, max_iter=4)
    for rows in (90, 20, 50):
        one.partial_fit(X[:rows], Y[:rows], classes=CLASSES)
    asked = [(step, steps) for step, steps, *_ in spy.seen]
    # An epoch each: the place in it, not the count of steps, goes on.
    assert asked == [
        *((step, 6) for step in range(6)), (2, 2), (3, 2), *((step, 4) for step in range(8, 12))
    ]  # fmt: skip


@pytest.mark.parametrize("rate", ["one_cycle", "cosine", fn.Warmup(1, "cosine")], ids=str)
def test_partial_fit_beyond_a_schedule_s_end_is_refused(rate):
    one = classifier(rate, max_iter=2)
    for _ in range(2):
        one.partial_fit(X, Y, classes=CLASSES)
    before = copy.deepcopy(one)
    with pytest.raises(ValueError, match="learning_rate is laid out for max_iter=2 epochs"):
        one.partial_fit(X, Y)
    assert same(one, before)
    one.set_params(max_iter=3).partial_fit(X, Y)
    assert not same(one, before)


@pytest.mark.parametrize("rate", ["one_cycle", "cosine", fn.Warmup(1, "one_cycle")], ids=str)
def test_a_schedule_of_single_steps_has_an_end_too(rate):
    one = classifier(rate, max_iter=2, batch_size=len(X))
    for _ in range(2):
        one.partial_fit(X, Y, classes=CLASSES)
    with pytest.raises(ValueError, match="learning_rate is laid out for max_iter=2 epochs"):
        one.partial_fit(X, Y)


@pytest.mark.parametrize("rate", ["step", "plateau", fn.CosineDecay(2), halving], ids=str)
def test_a_schedule_without_an_end_goes_on_for_ever(rate):
    one = classifier(rate, max_iter=2)
    for _ in range(5):
        one.partial_fit(X, Y, classes=CLASSES)
    assert one._optimizer.learning_rate > 0.0


def test_partial_fit_after_a_fit_goes_on_in_its_schedule():
    one = fitted("step", max_iter=3, validation_fraction=0.2, early_stopping=True)
    one.set_params(early_stopping=False)
    for _ in range(7):
        one.partial_fit(X, Y)
    assert one._optimizer.learning_rate == 0.01
    one.partial_fit(X, Y)
    assert one._optimizer.learning_rate == 0.01 * 0.1
    watching = classifier("plateau", n_iter_no_change=2).fit(X, Y, validation_data=(X, Y))
    rate = watching._optimizer.learning_rate
    # Of the score that it watches nothing new comes.
    assert watching.partial_fit(X, Y)._optimizer.learning_rate in (rate, 0.1 * rate)


def test_a_warm_start_begins_the_schedule_anew(spy):
    one = classifier(spy, max_iter=2, warm_start=True).fit(X, Y)
    first = list(spy.seen)
    one.fit(X, Y)
    assert spy.seen == first * 2


# Copies and searches.


@pytest.mark.parametrize("rate", ["one_cycle", fn.OneCycle(0.5), fn.Warmup(1, "cosine"), halving])
def test_learning_rates_are_copied_and_kept(rate):
    one = fitted(rate)
    assert clone(one).learning_rate == rate
    assert same(one, clone(one).fit(X, Y, W))
    again = pickle.loads(pickle.dumps(one))
    assert again.learning_rate == rate
    for copied in (one, again):
        copied.set_params(max_iter=9).partial_fit(X, Y)
    assert same(one, again)
    assert "learning_rate=" in repr(one)


def test_learning_rates_are_searched_for():
    rates = ["constant", "one_cycle", fn.CosineDecay(floor=0.1), halving]
    found = GridSearchCV(classifier("constant"), {"learning_rate": rates}, cv=2).fit(X, Y)
    assert found.best_params_["learning_rate"] in rates


def test_scikit_learn_s_class_takes_its_own_names_only():
    for rate in ("one_cycle", fn.OneCycle(), halving):
        with pytest.raises(ValueError, match="learning_rate must be one that scikit-learn has"):
            fitted(rate).to_sklearn()
    with pytest.raises(ValueError, match="must be one that scikit-learn has; got OneCycle"):
        fitted("one_cycle").set_params(learning_rate="constant").to_sklearn()
    assert fitted("adaptive").to_sklearn().learning_rate == "adaptive"


# What is refused.


class Gives:
    """A schedule of one number."""

    def __init__(self, number):
        self.number = number

    def rate(self, step, steps_per_epoch, epochs, base, history=None):
        return self.number


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("rate", ["ghost", "onecycle", 0.1, None, ["one_cycle"], fn.OneCycle])
def test_what_is_no_learning_rate_is_refused(rate, solver):
    one = classifier(rate, solver=solver)
    with pytest.raises((ValueError, TypeError), match="learning_rate") as problem:
        one.fit(X, Y)
    if rate is fn.OneCycle:
        assert "Did you mean OneCycle()?" in str(problem.value)
    elif isinstance(rate, list):
        assert "learning_rate[0] must be a finite number" in str(problem.value)
    else:
        for name in (*RATES, *SCHEDULES):
            assert repr(name) in str(problem.value)
    assert not hasattr(one, "coefs_")


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (lambda epoch: -1.0, "what learning_rate gives at step 0, 0 epochs from its start, must"),
        (lambda epoch: math.nan, "what learning_rate gives at step 0"),
        (lambda epoch: "fast", "what learning_rate gives at step 0"),
        (Gives(-1.0), "learning_rate cannot be followed: the learning rate that schedule gives"),
        (Gives(math.inf), "learning_rate cannot be followed: the learning rate that"),
    ],
)
def test_what_gives_no_rate_is_refused(rate, words):
    for start in (lambda one: one.fit(X, Y), lambda one: one.partial_fit(X, Y, classes=CLASSES)):
        with pytest.raises((ValueError, TypeError), match=words):
            start(classifier(rate))


def test_factors_by_epoch_are_a_learning_rate(tmp_path):
    factors = [1.0, 0.5, 0.1]
    fits = [
        classifier(given, max_iter=5).fit(X, Y)
        for given in (factors, tuple(factors), np.array(factors), lambda e: factors[min(int(e), 2)])
    ]
    for one in fits[1:]:
        assert all(map(np.array_equal, one.coefs_, fits[0].coefs_))
    # What goes on knows its schedule, in a pickle and in a file.
    ahead = classifier(factors).partial_fit(X, Y, classes=CLASSES)
    ahead.save(tmp_path / "ahead")
    copies = [pickle.loads(pickle.dumps(ahead)), fn.load_estimator(tmp_path / "ahead")]
    for one in (ahead, *copies):
        one.partial_fit(X, Y)
        assert all(map(np.array_equal, one.coefs_, ahead.coefs_))
    for wrong in ([], [1.0, -1.0], [1.0, math.nan], np.ones((2, 2)), ["a"]):
        with pytest.raises((TypeError, ValueError), match="learning_rate"):
            classifier(wrong).fit(X, Y)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_scheduled_fit_that_diverges_goes_back_to_before_the_step(backend):
    def growing(epoch):
        return 1e308 if epoch > 1.6 else 1e-6

    def ending(epoch):
        return 0.0 if epoch > 1.6 else 1e-6

    settings = {"solver": "sgd", "momentum": 0.0, "shuffle": False, "learning_rate_init": 1.0}
    one = classifier(growing, **settings)
    with fn.backend(backend):
        with pytest.raises(DivergenceError) as caught:
            one.fit(1e3 * X, Y)
        twin = classifier(ending, **settings, max_iter=2).fit(1e3 * X, Y)
    # The rate jumps after four sixths of the second epoch.
    assert (caught.value.epoch, caught.value.step) == (2, 5)
    assert same(one, twin)
