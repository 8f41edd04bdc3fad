"""The estimators by themselves: what is more than scikit-learn's, and how they live with others."""

from __future__ import annotations

import copy
import doctest
import pickle
import threading
import tracemalloc
import warnings
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("sklearn.callback")

import joblib
from scipy import sparse
from sklearn import config_context, neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ScoringMonitor
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn as fn
from fastnn.errors import DivergenceError
from fastnn.estimators.parameters import OBJECTIVES, SOLVERS, hidden_sizes, plain
from fastnn.fitting import runs
from fastnn.fitting.steppers import NativeStepper
from fastnn.tuning import tuning

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = {"classifier": fn.MLPClassifier, "regressor": fn.MLPRegressor}
THEIRS = {
    "classifier": neural_network.MLPClassifier,
    "regressor": neural_network.MLPRegressor,
}
_rng = np.random.RandomState(1)
X = _rng.normal(size=(90, 4))
_f = np.sin(X[:, 0]) + X[:, 1]
Y = {"classifier": np.digitize(_f, [-0.6, 0.6]), "regressor": _f}
W = _rng.uniform(0.5, 2.0, size=90)
REGRESSOR_LOSSES = [
    *sorted({*OBJECTIVES} - {"multiclass", "binary"}),
    fn.Huber(0.2),
    fn.Quantile(0.9),
]
SMALL = {"hidden_layer_sizes": (6, 5), "max_iter": 12, "batch_size": 16, "random_state": 0}


def fitted(kind="classifier", *, given=(), **parameters):
    """Return a fitted estimator."""
    return KINDS[kind](**SMALL | parameters).fit(X, Y[kind], *given)


def same(one, other):
    """Tell whether two estimators have the same weights, bit for bit."""
    arrays = zip([*one.coefs_, *one.intercepts_], [*other.coefs_, *other.intercepts_], strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in arrays)


# Activations, layer by layer.


def test_a_list_of_equal_activations_is_one_activation():
    for name in ("logistic", "tanh"):
        assert same(fitted(activation=[name, name]), fitted(activation=name))


def test_every_hidden_layer_has_its_own_activation():
    one = fitted(activation=("tanh", "sigmoid"))
    layers = one.network_.layers
    assert [layer.activation for layer in layers] == ["tanh", "sigmoid", "softmax"]
    hidden = np.tanh(X @ one.coefs_[0] + one.intercepts_[0])
    hidden = 1 / (1 + np.exp(-(hidden @ one.coefs_[1] + one.intercepts_[1])))
    out = np.exp(hidden @ one.coefs_[2] + one.intercepts_[2])
    np.testing.assert_allclose(one.predict_proba(X), out / out.sum(1, keepdims=True))


def test_first_weights_follow_each_layer_s_activation():
    one = KINDS["regressor"](
        hidden_layer_sizes=(300, 300), activation=["tanh", "logistic"], max_iter=1,
        learning_rate_init=1e-12, random_state=0,
    ).fit(X, _f)  # fmt: skip
    for W, factor in zip(one.coefs_, (6, 2, 2), strict=True):
        bound = np.sqrt(factor / sum(W.shape))
        assert 0.95 * bound < np.abs(W).max() <= bound * (1 + 1e-6)


@pytest.mark.parametrize("name", fn.activations.ACTIVATIONS)
def test_every_activation_of_the_table_can_be_hidden(name):
    one = fitted("regressor", activation=name, learning_rate_init=1e-3)
    assert np.isfinite(one.predict(X)).all()
    assert one.network_.layers[0].activation == name


# Losses.


def test_an_objective_counts_as_the_reference_does():
    y = np.abs(np.stack([_f, X[:, 2]], axis=1))
    for loss in REGRESSOR_LOSSES:
        for solver in ("adam", "lbfgs"):
            native = KINDS["regressor"](loss, **SMALL, solver=solver, early_stopping=True)
            # Several quantiles are of one target.
            given = y[:, 0] if native._objective.row.ordered else y
            native.fit(X, given, W)
            with fn.backend("reference"):
                expected = clone(native).fit(X, given, W)
            for one, other in zip(native.coefs_, expected.coefs_, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
            assert native.loss_ == pytest.approx(expected.loss_)
            if solver == "adam":
                assert native.validation_loss_curve_ == pytest.approx(
                    expected.validation_loss_curve_
                )


def test_the_number_of_a_loss_counts():
    high, low = (
        fitted("regressor", loss=fn.Quantile(quantile), max_iter=200, learning_rate_init=0.01)
        for quantile in (0.9, 0.1)
    )
    assert np.mean(_f <= high.predict(X)) > 0.7
    assert np.mean(_f <= low.predict(X)) < 0.3
    assert same(fitted("regressor", loss=fn.Huber(1.0)), fitted("regressor", loss="huber"))
    assert clone(high).loss == high.loss


@pytest.mark.parametrize("loss", [name for name in REGRESSOR_LOSSES if isinstance(name, str)])
def test_a_regressor_learns_by_every_loss(loss):
    y = np.exp(0.5 * _f)
    one = fitted("regressor", loss=loss, solver="lbfgs", max_iter=200)
    assert one.fit(X, y).score(X, y) > 0.8


# Solvers.


@pytest.mark.parametrize("solver", [name for name, make in SOLVERS.items() if make is not None])
def test_solvers_step_as_the_reference_does(solver):
    parameters = {"solver": solver, "learning_rate_init": 0.01, "weight_decay": 0.1, "rho": 0.8}
    for clip_norm in (None, 0.05):
        native = fitted(clip_norm=clip_norm, given=[W], max_iter=3, **parameters)
        with fn.backend("reference"):
            expected = clone(native).fit(X, Y["classifier"], W)
        for one, other in zip(native.coefs_, expected.coefs_, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "solver",
    ["adamw", "nadam", "radam", "rmsprop", "adagrad", "rprop", "adadelta", "adamax", "amsgrad"],
)
def test_the_library_s_solvers_are_its_optimizers(solver):
    rule = {row.name.lower(): row.record for row in fn.optimizers.OPTIMIZERS.values()}[solver]
    named = {f.name for f in fields(rule)} - {"learning_rate"}
    if solver == "adadelta":
        # Its epsilon stands inside the roots, where scikit-learn's 1e-8 would be far too little.
        named -= {"epsilon"}
    numbers = {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-3, "rho": 0.8, "weight_decay": 0.1}
    one = KINDS["regressor"](
        "mean_squared_error", 6, "tanh", alpha=0.0, batch_size=90, max_iter=1, shuffle=False,
        solver=solver, learning_rate_init=0.02, random_state=0, **numbers,
    )  # fmt: skip
    one.fit(X, _f)
    still = clone(one).set_params(solver="sgd", momentum=0.0, learning_rate_init=1e-300)
    before = still.fit(X, _f).network_
    settings = {name: number for name, number in numbers.items() if name in named}
    before.train_on_batch(X, _f, optimizer=rule(0.02, **settings))
    np.testing.assert_allclose(one.network_.parameters, before.parameters, rtol=1e-9, atol=1e-12)


def test_numbers_left_out_are_the_rule_s_own():
    for solver, name, number in (("adamw", "weight_decay", 0.01), ("rmsprop", "rho", 0.9)):
        own = fitted(solver=solver)
        assert same(own, fitted(solver=solver, **{name: number}))
        assert not same(own, fitted(solver=solver, **{name: 0.5}))


def test_partial_fit_goes_on_with_every_solver():
    for solver in ("adamw", "rprop"):
        whole = fitted(solver=solver, shuffle=False, max_iter=3, n_iter_no_change=100)
        parts = KINDS["classifier"](**SMALL).set_params(solver=solver, shuffle=False)
        for _ in range(3):
            parts.partial_fit(X, Y["classifier"], classes=[0, 1, 2])
        assert same(whole, parts)


def test_clipping_holds_for_steps_only():
    free, held = fitted(solver="sgd", momentum=0.0), fitted(solver="sgd", momentum=0.0, clip_norm=9)
    assert same(free, held)
    step = {"solver": "sgd", "momentum": 0.0, "max_iter": 1, "batch_size": 90, "alpha": 0.0}
    before = fitted(**step, learning_rate_init=1e-300).network_.parameters
    after = fitted(**step, learning_rate_init=1.0, clip_norm=1e-3).network_.parameters
    assert np.linalg.norm(after - before) == pytest.approx(1e-3, rel=1e-9)
    with pytest.raises(ValueError, match="clip_norm needs a solver that takes steps"):
        fitted(solver="lbfgs", clip_norm=1.0)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_threads_change_nothing_but_are_counted(solver, monkeypatch):
    asked = []
    fitting = runs.fitting

    def spy(threads, *rest):
        asked.append(threads)
        return fitting(threads, *rest)

    monkeypatch.setattr(runs, "fitting", spy)
    assert same(fitted(solver=solver, n_threads=2), fitted(solver=solver, n_threads=1))
    assert {1, 2} <= set(asked) <= {1, 2, None}


def test_the_library_s_squared_error_has_the_gradient_of_its_loss():
    y = np.stack([_f, X[:, 2], X[:, 3]], axis=1)
    one = KINDS["regressor"]("mean_squared_error", 5, "tanh", alpha=0.0, random_state=0)
    one.set_params(solver="sgd", momentum=0.0, learning_rate_init=1e-6, max_iter=2).fit(X, y)
    found = one.loss_curve_
    net, eps = one.network_, 1e-6
    _, gradient = net.loss_and_gradient(X, y)
    assert found[0] == pytest.approx(np.mean((one.predict(X) - y) ** 2), rel=1e-4)
    # A step of plain descent lowers the loss by the rate times the gradient's square.
    assert found[0] - found[1] == pytest.approx(eps * gradient @ gradient, rel=1e-3)


# dtype.


@pytest.mark.parametrize("kind", KINDS)
def test_double_precision_data_can_be_computed_in_single(kind):
    for solver in ("adam", "lbfgs"):
        one = fitted(kind, dtype="float32", solver=solver)
        assert {W.dtype for W in one.coefs_} == {np.dtype("f4")}
        assert fitted(kind, dtype=np.float32, solver=solver).loss_ == one.loss_
        found = one.predict_proba(X) if kind == "classifier" else one.predict(X)
        assert found.dtype == np.float32
    asked = KINDS[kind](**SMALL, dtype="float64").fit(X.astype("f4"), Y[kind])
    assert {W.dtype for W in asked.coefs_} == {np.dtype("f8")}
    single = fitted(kind, dtype="float32", solver="adam")
    plain_ = KINDS[kind](**SMALL).fit(X.astype("f4"), Y[kind])
    assert same(single, plain_)


# Class weights.


def test_class_weights_are_sample_weights():
    y = Y["classifier"]
    weights = {0: 0.5, 1: 2.0, 2: 1.5}
    by_hand = np.array([weights[label] for label in y])
    for solver in ("adam", "lbfgs"):
        one = fitted(class_weight=weights, solver=solver)
        assert same(one, fitted(given=(by_hand,), solver=solver))
        both = fitted(class_weight=weights, given=(W,), solver=solver)
        assert same(both, fitted(given=(by_hand * W,), solver=solver))


def test_balanced_classes_count_alike():
    y = Y["classifier"]
    counts = np.bincount(y)
    by_hand = (len(y) / (3 * counts))[y]
    assert same(fitted(class_weight="balanced"), fitted(given=(by_hand,)))
    names = np.array(["a", "b", "c"])[y]
    one = KINDS["classifier"](**SMALL, class_weight="balanced").fit(X, names)
    assert same(one, fitted(given=(by_hand,)))


def test_class_weights_of_several_labels():
    Y2 = np.stack([_f > 0.8, X[:, 2] > 0], axis=1).astype(int)
    weights = [{0: 1.0, 1: 5.0}, {0: 2.0, 1: 1.0}]
    by_hand = np.where(Y2[:, 0], 5.0, 1.0) * np.where(Y2[:, 1], 1.0, 2.0)
    one = KINDS["classifier"](**SMALL, class_weight=weights).fit(X, Y2)
    assert same(one, KINDS["classifier"](**SMALL).fit(X, Y2, by_hand))


def test_class_weights_in_partial_fit():
    y = Y["classifier"]
    weights = {0: 0.5, 1: 2.0, 2: 1.5}
    one = KINDS["classifier"](**SMALL, class_weight=weights).partial_fit(X, y, classes=[0, 1, 2])
    by_hand = np.array([weights[label] for label in y])
    other = KINDS["classifier"](**SMALL).partial_fit(X, y, by_hand, classes=[0, 1, 2])
    assert same(one, other)
    with pytest.raises(ValueError, match="balanced"):
        one.set_params(class_weight="balanced").partial_fit(X, y)


def test_partial_fit_may_lack_classes_that_have_a_weight():
    y = Y["classifier"]
    some = y != 1
    for weights, by_hand in (({1: 3.0}, 1.0), ({0: 2.0, 1: 3.0, 2: 2.0}, 2.0)):
        one = KINDS["classifier"](**SMALL, class_weight=weights)
        one.partial_fit(X[some], y[some], classes=[0, 1, 2])
        other = KINDS["classifier"](**SMALL)
        other.partial_fit(X[some], y[some], np.full(some.sum(), by_hand), classes=[0, 1, 2])
        assert same(one, other)
    labels = np.tile([1, 0], (len(X), 1))
    one = KINDS["classifier"](**SMALL, class_weight=[{1: 3.0}, {1: 5.0}])
    one.partial_fit(X, sparse.csr_array(labels), classes=[0, 1])
    other = KINDS["classifier"](**SMALL)
    assert same(one, other.partial_fit(X, labels, np.full(len(X), 3.0), classes=[0, 1]))


# Validation.


@pytest.mark.parametrize("kind", KINDS)
def test_validation_data_leave_the_weights_alone(kind):
    y = Y[kind]
    for solver in ("adam", "lbfgs"):
        one = KINDS[kind](**SMALL, solver=solver).fit(
            X[:60], y[:60], validation_data=(X[60:], y[60:])
        )
        assert same(one, KINDS[kind](**SMALL, solver=solver).fit(X[:60], y[:60]))
        assert len(one.validation_scores_) == len(one.validation_loss_curve_) == one.n_iter_
        assert one.validation_scores_[-1] == pytest.approx(one.score(X[60:], y[60:]))
        assert one.best_validation_score_ == max(one.validation_scores_)
        weighted = KINDS[kind](**SMALL, solver=solver).fit(
            X[:60], y[:60], validation_data=(X[60:], y[60:], W[60:])
        )
        assert weighted.validation_scores_[-1] == pytest.approx(one.score(X[60:], y[60:], W[60:]))
        thin = KINDS[kind](**SMALL, solver=solver).fit(
            X[:60], y[:60], validation_data=(sparse.csr_array(X[60:]), y[60:])
        )
        assert thin.validation_loss_curve_ == pytest.approx(one.validation_loss_curve_)


def test_the_validation_loss_is_the_training_loss_without_l2():
    one = fitted("regressor", alpha=0.0, shuffle=False, batch_size=90, max_iter=3)
    other = KINDS["regressor"](**SMALL | {"batch_size": 90, "max_iter": 3}, alpha=7.0)
    other.set_params(shuffle=False, alpha=0.0).fit(X, _f, validation_data=(X, _f))
    # The loss of an epoch of one batch belongs to the weights before it.
    assert other.validation_loss_curve_[:-1] == pytest.approx(one.loss_curve_[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_early_stopping_on_the_user_s_own_examples(kind):
    y = Y[kind]
    one = KINDS[kind](**SMALL | {"max_iter": 400}, early_stopping=True, learning_rate_init=0.02)
    one.fit(X[:60], y[:60], validation_data=(X[60:], y[60:]))
    assert one.n_iter_ < 400
    assert one.score(X[60:], y[60:]) == pytest.approx(one.best_validation_score_)


def test_early_stopping_on_the_loss_keeps_the_least():
    settings = SMALL | {"max_iter": 400}
    one = KINDS["classifier"](**settings, early_stopping=True, monitor="loss",
                              learning_rate_init=0.05)  # fmt: skip
    one.fit(X[:60], Y["classifier"][:60], validation_data=(X[60:], Y["classifier"][60:]))
    assert one.n_iter_ < 400
    assert one.validation_scores_ == one.validation_loss_curve_
    assert one.best_validation_score_ == min(one.validation_loss_curve_)
    likely = one.predict_proba(X[60:])[np.arange(30), Y["classifier"][60:]]
    assert -np.log(likely).mean() == pytest.approx(one.best_validation_score_)


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [
        ("neg_mean_absolute_error", "auto"),
        (make_scorer(mean_absolute_error, greater_is_better=False), "max"),
        (lambda estimator, X, y: np.abs(estimator.predict(X) - y).mean(), "min"),
    ],
)
def test_early_stopping_on_any_scorer(monitor, mode):
    one = KINDS["regressor"](
        **SMALL | {"max_iter": 100}, early_stopping=True, monitor=monitor, monitor_mode=mode,
        learning_rate_init=0.01,
    ).fit(X[:60], _f[:60], validation_data=(X[60:], _f[60:]))  # fmt: skip
    error = np.abs(one.predict(X[60:]) - _f[60:]).mean()
    assert abs(one.best_validation_score_) == pytest.approx(error)
    assert error == pytest.approx(min(map(abs, one.validation_scores_)))


def test_a_monitor_sees_names_weights_and_labels():
    frame = pytest.importorskip("pandas").DataFrame(X, columns=list("abcd"))
    names = np.array(["a", "b", "c"])[Y["classifier"]]
    seen = []

    def scorer(estimator, X, y, sample_weight=None):
        seen.append((set(y), None if sample_weight is None else len(sample_weight)))
        return estimator.score(X, y, sample_weight)

    one = KINDS["classifier"](**SMALL, early_stopping=True, monitor=scorer)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        one.fit(frame, names, W)
    assert seen[0] == ({"a", "b", "c"}, 9)
    plain_ = KINDS["classifier"](**SMALL, early_stopping=True).fit(X, names, W)
    assert one.validation_scores_ == pytest.approx(plain_.validation_scores_)
    assert same(one, plain_)
    assert list(one.feature_names_in_) == list("abcd")


def test_a_monitor_must_give_a_number():
    one = KINDS["regressor"](**SMALL, early_stopping=True, monitor=lambda e, X, y: "good")
    with pytest.raises((TypeError, ValueError), match="number"):
        one.fit(X, _f)


# Callbacks.


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_callbacks_are_told_of_every_epoch(solver):
    logs, ends = [], []

    class Keeper(fn.Callback):
        def on_fit_begin(self, run):
            logs.append(run.names)

        def on_epoch_end(self, run):
            logs.append(dict(run.logs) | {"epoch": run.epoch, "of": run.epochs})

        def on_fit_end(self, run):
            ends.append(run.history.epochs)

    keeper = Keeper()
    one = KINDS["regressor"](**SMALL, solver=solver, callbacks=keeper)
    one.fit(X[:60], _f[:60], validation_data=(X[60:], _f[60:]))
    assert logs[0] == ("loss", "val_loss", "val_r2")
    assert len(logs) - 1 == one.n_iter_ == ends[0]
    assert [entry["epoch"] for entry in logs[1:]] == list(range(1, one.n_iter_ + 1))
    assert [entry["val_loss"] for entry in logs[1:]] == one.validation_loss_curve_
    assert [entry["val_r2"] for entry in logs[1:]] == one.validation_scores_
    if solver != "lbfgs":
        assert [entry["loss"] for entry in logs[1:]] == one.loss_curve_
    one.set_params(solver="adam").partial_fit(X, _f)
    assert len(ends) == 1


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_callback_stops_a_fit(solver):
    def enough(run):
        if run.epoch == 3:
            run.stop("enough")

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        one = fitted("regressor", callbacks=[enough], solver=solver)
    assert one.n_iter_ == 3


def test_a_callback_writes_weights():
    def halve(run):
        run.network.parameters[:] *= 0.5

    one = fitted("regressor", max_iter=1, callbacks=halve)
    other = fitted("regressor", max_iter=1)
    for a, b in zip(one.coefs_, other.coefs_, strict=True):
        assert (a == 0.5 * b).all()
    # The steps that follow go on from there.
    plainly = {"solver": "sgd", "momentum": 0.0, "shuffle": False}
    two = fitted("regressor", **plainly, max_iter=2, callbacks=halve)
    first = fitted("regressor", **plainly, max_iter=1, callbacks=halve)
    given = {"coefs_init": first.coefs_, "intercepts_init": first.intercepts_}
    assert same(two, fitted("regressor", **plainly, **given, max_iter=1, callbacks=halve))


def test_the_library_s_early_stopping_works_too():
    stop = fn.EarlyStopping("val_loss", patience=3)
    one = KINDS["classifier"](**SMALL | {"max_iter": 500}, callbacks=[stop],
                              learning_rate_init=0.05)  # fmt: skip
    one.fit(X[:60], Y["classifier"][:60], validation_data=(X[60:], Y["classifier"][60:]))
    assert one.n_iter_ < 500
    likely = one.predict_proba(X[60:])[np.arange(30), Y["classifier"][60:]]
    assert -np.log(likely).mean() == pytest.approx(min(one.validation_loss_curve_))


class Recorder:
    """A callback of scikit-learn's protocol."""

    def __init__(self, stop_after=None):
        self.told, self.stop_after = [], stop_after

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.told.append(("begin", context.task_name, context.max_subtasks))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        score = None if fitted_estimator is None else fitted_estimator.score(X, y)
        self.told.append(("end", context.task_name, context.task_id, score))
        return self.stop_after is not None and context.task_id == self.stop_after


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("kind", KINDS)
def test_scikit_learn_s_callbacks_follow_a_fit(kind, solver):
    recorder = Recorder()
    one = KINDS[kind](**SMALL, solver=solver).set_callbacks(recorder).fit(X, Y[kind])
    told = recorder.told
    more = int(solver == "lbfgs")
    assert told[:2] == ["setup", ("begin", "fit", 12 + more)]
    assert told[-1] == "teardown"
    assert told[-2] == ("end", "fit", 0, pytest.approx(one.score(X, Y[kind])))
    ends = [entry for entry in told if entry[0] == "end" and entry[1] == "epoch"]
    assert [entry[2] for entry in ends] == list(range(one.n_iter_ + more))
    scores = [entry[3] for entry in ends[: one.n_iter_]]
    assert scores[-1] == pytest.approx(one.score(X, Y[kind]))
    assert len(set(scores)) > 2
    assert same(one, fitted(kind, solver=solver))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_scikit_learn_s_callbacks_stop_a_fit(solver):
    one = KINDS["regressor"](**SMALL, solver=solver).set_callbacks(Recorder(stop_after=2))
    assert one.fit(X, _f).n_iter_ == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_scoring_monitor_logs_every_epoch(kind):
    names = [f"feature {n}" for n in range(4)]
    frame = pytest.importorskip("pandas").DataFrame(X, columns=names)
    scoring = {"classifier": "neg_log_loss", "regressor": "r2"}[kind]
    monitor = ScoringMonitor(scoring=scoring)
    one = KINDS[kind](**SMALL).set_callbacks(monitor)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        one.fit(frame, Y[kind])
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert [row["task_id"] for row in rows] == list(range(12))
    assert all(np.isfinite(row[scoring]) for row in rows)
    assert rows[-1][scoring] > rows[0][scoring]
    piped = make_pipeline(StandardScaler(), KINDS[kind](**SMALL))
    again = ScoringMonitor(scoring=scoring)
    piped.steps[1][1].set_callbacks(again)
    piped.fit(X, Y[kind])
    assert sum(row["task_name"] == "epoch" for row in again.get_logs().data) == 12


def test_a_progress_bar_shows_every_epoch(capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    KINDS["regressor"](**SMALL).set_callbacks(ProgressBar()).fit(X, _f)
    assert "MLPRegressor - fit" in capsys.readouterr().out


# First weights.


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_first_weights_can_be_given(solver):
    start = KINDS["regressor"](**SMALL, solver=solver, warm_start=True)
    theirs = THEIRS["regressor"](**SMALL, solver=solver, warm_start=True).fit(X, _f)
    given = [W.copy() for W in theirs.coefs_], [b.copy() for b in theirs.intercepts_]
    one = KINDS["regressor"](**SMALL, solver=solver, coefs_init=given[0], intercepts_init=given[1])
    one.fit(X, _f)
    expected = theirs.fit(X, _f)
    for a, b in zip(one.coefs_, expected.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4 if solver == "lbfgs" else 1e-9)
    assert not hasattr(start, "coefs_")


def test_first_weights_given_in_part_leave_the_others_drawn():
    settings = {"learning_rate_init": 1e-15, "solver": "sgd", "max_iter": 1, "momentum": 0.0}
    drawn = fitted("regressor", **settings)
    zeros = [np.zeros_like(b) for b in drawn.intercepts_]
    one = fitted("regressor", intercepts_init=zeros, **settings)
    assert all(np.abs(b).max() < 1e-12 for b in one.intercepts_)
    for a, b in zip(one.coefs_, drawn.coefs_, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


# Time, Ctrl-C, divergence.


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_time_runs_out(solver, monkeypatch):
    ticks = iter(range(10**6))
    for name in ("stochastic", "lbfgs"):
        module = __import__(f"fastnn.estimators.{name}", fromlist=["time"])
        monkeypatch.setattr(
            module, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks)))
        )
    one = KINDS["regressor"](**SMALL | {"max_iter": 10**6}, max_time=30.0, solver=solver, tol=0.0)
    with pytest.warns(ConvergenceWarning, match="max_time of 30 s reached after"):
        one.fit(X, _f)
    assert 1 <= one.n_iter_ < 100


def test_ctrl_c_keeps_the_weights():
    def press(run):
        if run.epoch == 3:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user"):
        one = fitted("regressor", callbacks=press)
    assert one.n_iter_ == 3
    assert same(one, fitted("regressor", max_iter=3))
    with pytest.warns(UserWarning, match="interrupted"):
        early = fitted("regressor", callbacks=press, early_stopping=True)
    assert early.best_validation_score_ == max(early.validation_scores_)


def test_a_fit_that_diverges_says_when_and_keeps_finite_weights():
    one = KINDS["regressor"](
        hidden_layer_sizes=5, activation="identity", solver="sgd", learning_rate_init=50.0,
        max_iter=500, random_state=0,
    )  # fmt: skip
    message = r"non-finite parameter weights.*It happened in epoch \d+, step 1"
    with pytest.raises(DivergenceError, match=message) as seen:
        one.fit(X, _f)
    assert seen.value.epoch > 1
    assert all(np.isfinite(W).all() for W in one.coefs_)
    with pytest.warns(ConvergenceWarning, match="non-finite"):
        one.set_params(early_stopping=True).fit(X, _f)
    assert np.isnan(one.validation_scores_[-1])
    assert np.isnan(one.loss_curve_[-1])
    assert len(one.validation_scores_) == len(one.loss_curve_) == one.n_iter_
    assert all(np.isfinite(W).all() for W in one.coefs_)


def diverging(**changes):
    """Return an estimator whose learning rate falls, but not soon enough."""
    parameters = {"hidden_layer_sizes": (), "solver": "sgd", "learning_rate": "invscaling"}
    rates = {"learning_rate_init": 50.0, "power_t": 0.05, "n_iter_no_change": 300}
    return KINDS["regressor"](**SMALL | parameters | rates | {"max_iter": 300} | changes)


def weights_before_divergence(backend, known):
    """Return weights and moments that a fit which diverges ends with, and in which step."""
    one = diverging()
    with fn.backend(backend), pytest.raises(DivergenceError) as seen:
        one.fit(known, _f)
    arrays = [*one.coefs_, *one.intercepts_, one._optimizer.state.moments]
    numbers = one._optimizer.state.numbers
    return [array.copy() for array in arrays], numbers, seen.value


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
def test_what_was_brought_back_last_leads_to_the_step_that_diverged(backend, make, monkeypatch):
    found = []
    for share in (0.0, np.inf):
        # Brought back before every slice, and never.
        with tuning(saving_share=share):
            found.append(weights_before_divergence(backend, make(X)))
    (often, numbers, first), (never, others, second) = found
    assert (first.epoch, first.step) == (second.epoch, second.step)
    assert first.epoch > 2
    assert np.array_equal(numbers, others)
    assert all(
        np.isfinite(a).all() and np.array_equal(a, b) for a, b in zip(often, never, strict=True)
    )
    # A fit that ends with the epoch before, and the steps that it took.
    before = diverging(max_iter=first.epoch - 1)
    with fn.backend(backend):
        before.fit(make(X), _f)
    taken = numbers["steps"] - before._optimizer.state.numbers["steps"]
    assert taken == first.step - 1


def test_an_interruption_does_not_hide_a_divergence(monkeypatch):
    run, begun = NativeStepper.run, []

    def pressed(self, first, *arguments):
        begun.append(first)
        done = run(self, first, *arguments)
        if begun.count(0) == 4:
            self._run.load(np.full_like(self._job.parameters, np.nan))
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(NativeStepper, "run", pressed)
    with tuning(saving_share=np.inf), pytest.warns(UserWarning, match="interrupted"):
        one = fitted("regressor")
    monkeypatch.undo()
    assert one.n_iter_ == 3
    other = fitted("regressor", max_iter=3)
    assert same(one, other)
    assert np.array_equal(one._optimizer.state.moments, other._optimizer.state.moments)


def test_a_checkpoint_is_for_networks(tmp_path):
    one = KINDS["regressor"](**SMALL, callbacks=fn.Checkpoint(tmp_path / "state"))
    with pytest.raises(TypeError, match="must not hold a Checkpoint"):
        one.fit(X, _f)


def test_weights_that_a_callback_writes_before_it_raises_stay():
    def fail(run):
        run.network.parameters[:] = 0.5
        raise RuntimeError("enough")

    one = KINDS["regressor"](**SMALL, callbacks=fail)
    with pytest.raises(RuntimeError, match="enough"):
        one.fit(X, _f)
    assert all((W == 0.5).all() for W in one.coefs_)


def test_batches_of_no_weight_take_no_step():
    # scikit-learn ends with a ZeroDivisionError here.
    weights = np.repeat([0.0, 1.0], [32, 58])
    one = fitted(shuffle=False, given=(weights,))
    rest = KINDS["classifier"](**SMALL, shuffle=False).fit(X[32:], Y["classifier"][32:])
    assert same(one, rest)


# The weights.


def test_weights_are_views_of_the_network():
    one = fitted()
    net = one.network_
    assert net is one.network_
    np.testing.assert_array_equal(net.predict(X), one.predict_proba(X))
    one.coefs_[0][:] = 0.0
    assert not net.weights[0].any()
    assert len(set(one.predict(X))) == 1
    net.parameters[:] = 0.0
    assert (one.predict_proba(X) == 1 / 3).all()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_set_by_hand_count_at_once(kind):
    theirs = THEIRS[kind](**SMALL).fit(X, Y[kind])
    one = fitted(kind, max_iter=1)
    one.coefs_[0] = theirs.coefs_[0]
    one.coefs_[1:] = theirs.coefs_[1:]
    one.intercepts_ = theirs.intercepts_
    for _ in range(2):
        found = one.predict(X)
        np.testing.assert_allclose(found, theirs.predict(X), rtol=1e-9)
        theirs.coefs_[0] *= 1.25  # in place: the array is ours too
    np.testing.assert_allclose(one.network_.weights[0], theirs.coefs_[0])
    for each in (one, theirs):
        each.partial_fit(X, Y[kind])


def test_one_array_set_by_hand_counts_at_once():
    one = fitted("regressor")
    one.coefs_[1] = np.zeros((6, 5))
    assert len(set(one.predict(X))) == 1
    one.partial_fit(X, _f)
    assert one.network_.weights[1] is not one.coefs_[1]
    assert np.shares_memory(one.network_.weights[1], one.coefs_[1])
    assert 0 < np.abs(one.coefs_[1]).max() < 0.1


def test_weights_that_are_none_of_a_network_are_refused():
    one = fitted()
    one.coefs_[1] = one.coefs_[1].T
    with pytest.raises(ValueError, match="coefs_ and intercepts_ must hold arrays of shape"):
        one.predict(X)


def test_another_activation_after_the_fit_counts_as_there():
    for name in ("activation", "out_activation_"):
        ours, theirs = fitted("regressor"), THEIRS["regressor"](**SMALL).fit(X, _f)
        for one in (ours, theirs):
            setattr(one, name, "tanh")
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X))


def test_a_fit_that_goes_on_says_what_it_cannot_change():
    one = fitted("regressor", warm_start=True)
    with pytest.warns(UserWarning, match="hidden_layer_sizes=3 has no effect"):
        one.set_params(hidden_layer_sizes=3).fit(X, _f)
    assert [W.shape for W in one.coefs_] == [(4, 6), (6, 5), (5, 1)]
    one.set_params(hidden_layer_sizes=(6, 5))
    with pytest.raises(ValueError, match=r"a last layer of 1 units.* 2 outputs of y, .* need 2"):
        one.fit(X, X[:, :2])
    with pytest.raises(ValueError, match="loss='gaussian_nll' and 1 outputs of y, which need 2"):
        one.set_params(loss="gaussian_nll").fit(X, _f)
    with pytest.raises(ValueError, match="the loss must be the one of the fit that goes on"):
        one.set_params(loss="poisson").fit(X, _f**2)


# Kept, copied, handed over.


def clones(one, folder):
    """Return an estimator's copies, by how they were made."""
    path = folder / "one.joblib"
    joblib.dump(one, path)
    return {
        "pickle": pickle.loads(pickle.dumps(one)),
        "copy": copy.copy(one),
        "deepcopy": copy.deepcopy(one),
        "joblib": joblib.load(path),
        "mapped": joblib.load(path, mmap_mode="r"),
    }


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("kind", KINDS)
def test_copies_go_on_as_the_original(kind, solver, tmp_path):
    one = fitted(kind, solver=solver, early_stopping=True)
    one.set_params(early_stopping=False)
    found = one.predict(X)
    copied = clones(one, tmp_path)
    for how, other in copied.items():
        assert same(one, other), how
        assert other.predict(X).tolist() == found.tolist(), how
        assert other.network_.weights[0] is not one.network_.weights[0]
    if solver == "lbfgs":
        return
    one.partial_fit(X, Y[kind])
    for how in ("pickle", "deepcopy", "joblib", "mapped"):
        assert not same(one, copied[how]), how
        assert same(one, copied[how].partial_fit(X, Y[kind])), how


def test_a_pickle_holds_the_weights_once():
    one = KINDS["regressor"](
        hidden_layer_sizes=400, max_iter=1, solver="lbfgs", random_state=0
    ).fit(X, _f)
    size = sum(W.nbytes for W in (*one.coefs_, *one.intercepts_))
    assert len(pickle.dumps(one)) < 1.5 * size + 3000


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("kind", KINDS)
def test_from_scikit_learn_and_back(kind, solver):
    y = Y[kind]
    theirs = THEIRS[kind](**SMALL, solver=solver, learning_rate="adaptive").fit(X, y, W)
    ours = KINDS[kind].from_sklearn(theirs)
    back = ours.to_sklearn()
    assert type(back) is type(theirs)
    assert back.get_params() == theirs.get_params()
    assert vars(back).keys() >= {name for name in vars(theirs) if name.endswith("_")}
    for one in (ours, back):
        np.testing.assert_allclose(one.predict(X), theirs.predict(X), rtol=1e-12)
        assert one.score(X, y) == pytest.approx(theirs.score(X, y))
    if solver == "lbfgs":
        return
    for one in (theirs, ours, back):
        for _ in range(3):
            one.partial_fit(X, y, W)
    for one in (ours, back):
        for a, b in zip(one.coefs_, theirs.coefs_, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9)
        assert one._optimizer.learning_rate == pytest.approx(theirs._optimizer.learning_rate)
        assert one.loss_curve_ == pytest.approx(theirs.loss_curve_)


def test_several_labels_and_names_come_over():
    frame = pytest.importorskip("pandas").DataFrame(X, columns=list("abcd"))
    labels = np.stack([_f > 0, X[:, 2] > 0], axis=1).astype(int)
    theirs = THEIRS["classifier"](**SMALL).fit(frame, labels)
    ours = fn.MLPClassifier.from_sklearn(theirs)
    assert (ours.predict(frame) == theirs.predict(frame)).all()
    assert list(ours.feature_names_in_) == list("abcd")
    assert (ours.to_sklearn().predict(frame) == theirs.predict(frame)).all()


def test_only_what_fits_is_handed_over():
    with pytest.raises(TypeError, match=r"sklearn\.neural_network\.MLPClassifier; got"):
        fn.MLPClassifier.from_sklearn(THEIRS["regressor"](**SMALL).fit(X, _f))
    with pytest.raises(NotFittedError):
        fn.MLPClassifier.from_sklearn(THEIRS["classifier"]())
    with pytest.raises(ValueError, match="activation must be one that scikit-learn has"):
        fitted(activation=["relu", "tanh"]).to_sklearn()
    with pytest.raises(ValueError, match="loss must be one that scikit-learn has"):
        fitted("regressor", loss="mean_squared_error").to_sklearn()
    with pytest.raises(ValueError, match="solver must be one that scikit-learn has"):
        fitted(solver="adamw").to_sklearn()
    with pytest.raises(ValueError, match="must be one that scikit-learn has; got AdamW"):
        fitted(solver="adamw").set_params(solver="adam").to_sklearn()
    assert fitted(activation=["sigmoid", "logistic"]).to_sklearn().activation == "logistic"


@pytest.mark.parametrize(
    ("kind", "loss", "theirs"),
    [("classifier", "hinge", "log_loss"), ("regressor", "gaussian_nll", "squared_error")],
)
def test_weights_of_another_loss_are_not_handed_over(kind, loss, theirs):
    one = fitted(kind, loss=loss).set_params(loss=theirs)
    with pytest.raises(ValueError, match="the weights must be those of a loss that scikit-learn"):
        one.to_sklearn()


# In the company of others.


@pytest.mark.parametrize("kind", KINDS)
def test_searches_and_pipelines(kind):
    piped = make_pipeline(StandardScaler(), KINDS[kind](**SMALL))
    name = f"mlp{kind}__alpha"
    search = GridSearchCV(piped, {name: [1e-4, 1.0]}, cv=3, n_jobs=2).fit(X, Y[kind])
    alone = GridSearchCV(piped, {name: [1e-4, 1.0]}, cv=3).fit(X, Y[kind])
    assert search.cv_results_["mean_test_score"].tolist() == (
        alone.cv_results_["mean_test_score"].tolist()
    )
    theirs = cross_val_score(THEIRS[kind](**SMALL), X, Y[kind], cv=3)
    assert cross_val_score(KINDS[kind](**SMALL), X, Y[kind], cv=3) == pytest.approx(theirs)


def test_meta_estimators():
    y = Y["classifier"]
    kinds = fn.MLPClassifier, THEIRS["classifier"]
    calibrated, bagged, important = ([] for _ in range(3))
    for kind in kinds:
        one = kind(**SMALL)
        calibrated.append(CalibratedClassifierCV(one, cv=3).fit(X, y).predict_proba(X))
        bag = BaggingClassifier(one, n_estimators=3, random_state=0).fit(X, y)
        bagged.append(bag.predict_proba(X))
        fit = one.fit(X, y)
        found = permutation_importance(fit, X, y, n_repeats=2, random_state=0, n_jobs=2)
        important.append(found.importances)
    for ours, theirs in (calibrated, bagged, important):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)


def test_metadata_are_routed():
    weights = np.repeat([0.0, 1.0], [30, 60])
    with config_context(enable_metadata_routing=True):
        one = KINDS["regressor"](**SMALL).set_fit_request(sample_weight=True)
        piped = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), one)
        piped.fit(X, _f, sample_weight=weights)
        plain_ = make_pipeline(StandardScaler(), KINDS["regressor"](**SMALL)).fit(X, _f)
        assert not same(piped[1], plain_[1])
        asked = KINDS["regressor"](**SMALL).set_fit_request(
            validation_data=True, sample_weight=False
        )
        piped = make_pipeline(asked).fit(X, _f, validation_data=(X, _f))
        assert len(piped[0].validation_loss_curve_) == 12
        assert asked.set_partial_fit_request(sample_weight=True) is asked


def test_names_of_features_are_kept_and_held_against():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    one = KINDS["regressor"](**SMALL, early_stopping=True).fit(frame, pandas.Series(_f))
    assert list(one.feature_names_in_) == list("abcd")
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        one.predict(X)
    with pytest.raises(ValueError, match="feature names"):
        one.predict(frame[list("abdc")])
    polars = pytest.importorskip("polars")
    other = KINDS["regressor"](**SMALL, early_stopping=True)
    assert same(other.fit(polars.DataFrame(X, schema=list("abcd")), polars.Series(_f)), one)


def test_they_look_like_estimators():
    one = fn.MLPClassifier(5, class_weight="balanced")
    assert repr(one) == "MLPClassifier(class_weight='balanced', hidden_layer_sizes=5)"
    assert "MLPClassifier" in one._repr_html_()
    assert "coefs_" in fitted()._repr_html_()
    assert "partial_fit" not in dir(fn.MLPRegressor(solver="lbfgs"))
    for method in ("fit", "partial_fit", "predict", "predict_proba"):
        assert getattr(fn.MLPClassifier, method).__doc__


def test_threads_may_predict_from_one_estimator():
    one = fitted()
    expected = one.predict_proba(X)
    found = [None] * 4

    def work(place):
        for _ in range(20):
            found[place] = one.predict_proba(X)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((one == expected).all() for one in found)


# Memory and compiling.


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_features_are_never_dense_as_a_whole(solver):
    n, p = 6000, 2000
    thin = sparse.random_array((n, p), density=0.001, format="csr", rng=np.random.default_rng(0))
    y = np.arange(n) % 2
    one = KINDS["classifier"](hidden_layer_sizes=2, max_iter=1, solver=solver, random_state=0)
    one.fit(thin[:300], y[:300])
    tracemalloc.start()
    try:
        one.fit(thin, y).predict(thin.tocsc())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < n * p * 8 / 2


@pytest.mark.jit
def test_estimators_compile_nothing_of_their_own():
    from fastnn.kernels.epoch import engine

    net = fn.Sequential([fn.Dense(3), fn.Dense(1)], dtype="float64")
    net.fit(X, _f, epochs=1)
    before = len(engine.signatures)
    for X_ in (X, sparse.csr_array(X)):
        for kind, y in Y.items():
            for solver in ("adam", "sgd", "lbfgs"):
                for early in (False, True):
                    one = KINDS[kind](**SMALL, solver=solver, early_stopping=early)
                    one.fit(X_, y, W).predict(X_)
    assert len(engine.signatures) == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_short_way_in_gives_what_the_long_way_gives(kind):
    one = fitted(kind)
    for rows in (X, X[:1], X[3:40]):
        assert one.predict(rows).tolist() == one.predict(rows.tolist()).tolist()
    assert one._as_it_is(X) is not None
    for other in (X.tolist(), X.astype("f4"), X[::2], X[:, :3], X[0], np.full((2, 4), np.nan)):
        assert one._as_it_is(other) is None


# The tables.


def test_objectives_are_scikit_learn_s():
    y = np.abs(_rng.normal(size=(7, 3)))
    assert OBJECTIVES["squared_error"].scales(3) == (0.5, 1.5)
    assert OBJECTIVES["binary"].scales(3) == OBJECTIVES["poisson"].scales(3) == (3.0, 3.0)
    assert OBJECTIVES["multiclass"].scales(3) == (1.0, 1.0)
    constant = OBJECTIVES["poisson"].constant(y)
    np.testing.assert_allclose(constant, (y * np.log(y) - y).sum(axis=1))
    assert OBJECTIVES["poisson"].constant(np.zeros((1, 2))).tolist() == [0.0]
    conventions = OBJECTIVES["binary"].conventions(2, "float32", "adam")
    assert conventions.loss_limit == pytest.approx(-np.log(np.finfo("f4").eps))
    assert conventions.shared_penalty
    assert conventions.by_examples
    assert conventions.bare_epsilon


def test_numbers_of_any_kind_become_floats():
    assert plain(1, "tol") == 1.0
    assert plain(1e-60, "epsilon", np.float32) == float(np.finfo("f4").smallest_subnormal)
    with pytest.raises(ValueError, match="alpha must be a number that fits float32"):
        plain(1e39, "alpha", np.float32)
    assert hidden_sizes(np.array([3, 4])) == [3, 4]
    assert hidden_sizes(()) == []


def test_the_page_shows_what_its_code_prints():
    page = Path(__file__).parents[1] / "docs" / "sklearn.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted > 10
    assert result.failed == 0
