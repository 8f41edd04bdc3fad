"""`loss` of the estimators beyond scikit-learn's: of classes, of margins, of variances."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn.callback")

from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import roc_auc_score
from sklearn.utils.class_weight import compute_class_weight

import fastnn as fn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

_rng = np.random.RandomState(1)
X = _rng.normal(size=(90, 4))
_f = np.sin(X[:, 0]) + X[:, 1]
W = _rng.uniform(0.5, 2.0, size=90)
PROBLEMS = {
    "two": np.array(["no", "yes"])[(_f > 0.3) * 1],
    "three": np.digitize(_f, [-0.6, 0.6]) + 5,
    "labels": np.stack([_f > 0.5, X[:, 2] > 0, X[:, 0] > X[:, 1]], axis=1).astype(int),
}
OF_PROBABILITIES = ["mean_squared_error", "mean_absolute_error", "huber", "log_cosh", fn.Huber(0.3)]
LOSSES = ["log_loss", "hinge", *OF_PROBABILITIES]
SMALL = {"hidden_layer_sizes": (6, 5), "max_iter": 12, "batch_size": 16, "random_state": 0}

both_problems = pytest.mark.parametrize("problem", PROBLEMS)
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=str)


def classifier(loss, **parameters):
    return fn.MLPClassifier(**SMALL | {"loss": loss} | parameters)


def rows(problem):
    """Return the targets as rows of 0 and 1, one a unit of the last layer."""
    y = PROBLEMS[problem]
    if y.ndim == 2:
        return y
    found = (y[:, np.newaxis] == np.unique(y)).astype(int)
    return found if problem == "three" else found[:, 1:]


# Of classes.


@every_loss
@both_problems
def test_every_loss_counts_as_the_reference_does(problem, loss):
    y = PROBLEMS[problem]
    for solver in ("adam", "lbfgs"):
        native = classifier(loss, solver=solver, early_stopping=True).fit(X, y, W)
        with fn.backend("reference"):
            expected = clone(native).fit(X, y, W)
        for one, other in zip(native.coefs_, expected.coefs_, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
        assert native.loss_ == pytest.approx(expected.loss_)


@every_loss
@both_problems
def test_every_loss_learns(problem, loss):
    y = PROBLEMS[problem]
    one = classifier(loss, hidden_layer_sizes=16, max_iter=300, learning_rate_init=0.02)
    one.fit(X, y)
    assert one.score(X, y) > 0.75
    known = one.fit(X, y, validation_data=(X, y))
    assert known.validation_scores_[-1] == pytest.approx(one.score(X, y))


@pytest.mark.parametrize("loss", OF_PROBABILITIES, ids=str)
@both_problems
def test_a_loss_of_probabilities_is_the_mean_over_outputs(problem, loss):
    y = PROBLEMS[problem]
    one = classifier(loss, alpha=0.0, batch_size=90, max_iter=1, learning_rate_init=1e-300)
    one.fit(X, y, W)
    outputs = one.network_.predict(X)
    errors = outputs - rows(problem)
    each = {
        "mean_squared_error": errors**2,
        "mean_absolute_error": np.abs(errors),
        "huber": errors**2 / 2,
        "log_cosh": np.log(np.cosh(errors)),
    }.get(str(loss), np.where(np.abs(errors) < 0.3, errors**2 / 2, 0.3 * (np.abs(errors) - 0.15)))
    assert one.loss_ == pytest.approx(np.average(each.mean(axis=1), weights=W))
    likely = one.predict_proba(X)
    assert likely.shape == (90, 2 if problem == "two" else 3)
    np.testing.assert_array_equal(likely[:, -outputs.shape[1] :], outputs)
    np.testing.assert_allclose(one.predict_log_proba(X), np.log(likely), rtol=1e-14)
    assert one.out_activation_ == ("softmax" if problem == "three" else "logistic")
    assert not hasattr(one, "decision_function")


def test_the_number_of_a_loss_counts():
    y = PROBLEMS["three"]
    plain, wide, narrow = (
        classifier(loss).fit(X, y).coefs_[0] for loss in ("huber", fn.Huber(1.0), fn.Huber(0.1))
    )
    np.testing.assert_array_equal(plain, wide)
    assert (plain != narrow).any()
    assert clone(classifier(fn.Huber(0.1))).loss == fn.Huber(0.1)


# Of margins.


@both_problems
def test_hinge_gives_margins_and_no_probabilities(problem):
    y = PROBLEMS[problem]
    one = classifier("hinge", alpha=0.0, batch_size=90, max_iter=1, learning_rate_init=1e-300)
    assert not hasattr(one, "predict_proba")
    one.fit(X, y, W)
    assert one.out_activation_ == "identity"
    margins = one.decision_function(X)
    outputs = one.network_.predict(X)
    sides = 2 * rows(problem) - 1
    each = np.maximum(0, 1 - sides * outputs)
    assert one.loss_ == pytest.approx(np.average(each.mean(axis=1), weights=W))
    if problem == "two":
        np.testing.assert_array_equal(margins, outputs[:, 0])
        expected = one.classes_[(margins > 0) * 1]
    else:
        np.testing.assert_array_equal(margins, outputs)
        expected = (margins > 0) * 1
        if problem == "three":
            expected = one.classes_[margins.argmax(axis=1)]
    np.testing.assert_array_equal(one.predict(X), expected)
    assert len(np.unique(one.predict(X))) > 1
    thin = one.decision_function(sparse.csr_array(X))
    np.testing.assert_allclose(thin, margins, rtol=1e-12)
    for name in ("predict_proba", "predict_log_proba"):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'") as problem_:
            getattr(one, name)
        assert "not available for loss='hinge'" in str(problem_.value.__cause__)


def test_the_methods_are_those_of_the_weights_there_are():
    y = PROBLEMS["two"]
    one = classifier("hinge").fit(X, y)
    one.set_params(loss="log_loss")
    assert hasattr(one, "decision_function")
    assert not hasattr(one, "predict_proba")
    margins = one.decision_function(X)
    assert (one.predict(X) == one.classes_[(margins > 0) * 1]).all()
    with pytest.raises(ValueError, match="the loss must be the one of the fit that goes on"):
        one.set_params(warm_start=True).fit(X, y)
    one.set_params(warm_start=False).fit(X, y)
    assert hasattr(one, "predict_proba")
    with pytest.raises(AttributeError) as problem:
        one.decision_function  # noqa: B018
    assert "use predict_proba" in str(problem.value.__cause__)


def test_margins_are_what_others_need():
    y = PROBLEMS["two"]
    one = classifier("hinge", early_stopping=True, monitor="roc_auc", max_iter=40,
                     learning_rate_init=0.02)  # fmt: skip
    one.fit(X, y, validation_data=(X, y))
    found = roc_auc_score(y == "yes", one.decision_function(X))
    assert one.best_validation_score_ == pytest.approx(found)
    calibrated = CalibratedClassifierCV(classifier("hinge", max_iter=100), cv=2).fit(X, y)
    assert calibrated.predict_proba(X).shape == (90, 2)


def test_one_class_is_always_right():
    for loss in LOSSES:
        one = classifier(loss).fit(X, np.full(90, 3))
        assert (one.predict(X) == 3).all()


@every_loss
def test_partial_fit_goes_on_by_every_loss(loss):
    y = PROBLEMS["three"]
    settings = {"shuffle": False, "max_iter": 3, "n_iter_no_change": 100}
    whole = classifier(loss, **settings).fit(X, y)
    parts = classifier(loss, **settings)
    for _ in range(3):
        parts.partial_fit(X, y, classes=[5, 6, 7])
    for a, b in zip(whole.coefs_, parts.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("loss", ["poisson", "quantile", "squared_error", fn.Quantile(), None, 3])
def test_what_is_no_loss_of_classes_is_refused(loss):
    with pytest.raises(ValueError, match="'loss' parameter of MLPClassifier must be") as problem:
        classifier(loss).fit(X, PROBLEMS["two"])
    assert "'hinge'" in str(problem.value)


def test_scikit_learn_s_classifier_has_one_loss():
    for loss in ("hinge", "huber", fn.Huber()):
        with pytest.raises(ValueError, match="loss must be one that scikit-learn has, 'log_loss'"):
            classifier(loss).fit(X, PROBLEMS["two"]).to_sklearn()


# Weights of classes.


@both_problems
def test_balanced_classes_are_counted_by_sample_weights(problem):
    y = PROBLEMS[problem]
    weights = np.where(np.arange(90) % 7 == 0, 0.0, W)
    columns = y.T if y.ndim == 2 else [y]
    by_hand = weights.copy()
    for column in columns:
        classes = np.unique(column)
        factors = compute_class_weight("balanced", classes=classes, y=column, sample_weight=weights)
        by_hand *= factors[np.searchsorted(classes, column)]
    one = classifier("log_loss", class_weight="balanced").fit(X, y, weights)
    other = classifier("log_loss").fit(X, y, by_hand)
    for a, b in zip(one.coefs_, other.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_a_class_without_weight_may_as_well_not_be_there():
    y = PROBLEMS["three"]
    weights = np.where(y == 6, 0.0, W)
    one = classifier("log_loss", class_weight="balanced", batch_size=90).fit(X, y, weights)
    factors = {5: 1.0, 7: weights[y == 5].sum() / weights[y == 7].sum()}
    other = classifier("log_loss", class_weight=factors | {6: 1.0}, batch_size=90, alpha=0.0)
    # Only the penalty depends on the sum of weights.
    one.set_params(alpha=0.0).fit(X, y, weights)
    other.fit(X, y, weights)
    for a, b in zip(one.coefs_, other.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)


# Of variances.


def spread(n, outputs=1):
    """Return numbers that scatter more to the right, their means and deviations."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (n, 1))
    deviations = np.where(X > 0, 0.6, 0.1) * np.arange(1, outputs + 1)
    means = X * np.arange(1, outputs + 1)
    return X, means + deviations * rng.normal(size=(n, outputs)), means, deviations


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_variance_is_learnt_beside_the_mean(outputs):
    X, y, means, deviations = spread(2000, outputs)
    one = fn.MLPRegressor("gaussian_nll", 20, "tanh", solver="lbfgs", max_iter=2000, random_state=0)
    one.fit(X, y.ravel() if outputs == 1 else y)
    found, uncertain = one.predict(X, return_std=True)
    shape = (2000,) if outputs == 1 else (2000, outputs)
    assert found.shape == uncertain.shape == shape
    np.testing.assert_array_equal(one.predict(X), found)
    np.testing.assert_array_equal(one.predict(sparse.csr_array(X)), found)
    clear = np.abs(X[:, 0]) > 0.3  # Away from where it jumps.
    np.testing.assert_allclose(found.reshape(means.shape)[clear], means[clear], atol=0.25)
    np.testing.assert_allclose(uncertain.reshape(means.shape)[clear], deviations[clear], rtol=0.35)
    assert one.n_outputs_ == outputs
    assert one.network_.outputs == 2 * outputs
    assert one.coefs_[-1].shape == (20, 2 * outputs)
    assert one.score(X, y) > 0.5


def test_the_loss_of_means_and_variances_is_the_layer_api_s():
    y = np.stack([_f, X[:, 2]], axis=1)
    one = fn.MLPRegressor("gaussian_nll", **SMALL, alpha=0.0).fit(X, y, validation_data=(X, y, W))
    net = one.network_
    assert one.validation_loss_curve_[-1] == pytest.approx(
        net.evaluate(X, y, "gaussian_nll", sample_weight=W)["loss"]
    )
    assert one.validation_scores_[-1] == pytest.approx(one.score(X, y, W))


def test_means_and_variances_stop_early_and_go_on():
    settings = {**SMALL, "max_iter": 300, "early_stopping": True, "learning_rate_init": 0.02}
    one = fn.MLPRegressor("gaussian_nll", **settings, monitor="loss").fit(X, _f)
    assert one.n_iter_ < 300
    assert one.best_validation_score_ == min(one.validation_loss_curve_)
    one.set_params(early_stopping=False).partial_fit(X, _f)
    assert one.predict(X).shape == (90,)
    single = fn.MLPRegressor("gaussian_nll", **SMALL).fit(X.astype("f4"), _f)
    assert {part.dtype for part in single.predict(X.astype("f4"), return_std=True)} == {
        np.dtype("f4")
    }


def test_other_losses_know_no_deviations():
    one = fn.MLPRegressor(**SMALL).fit(X, _f)
    with pytest.raises(
        ValueError, match=r"return_std=True needs .*'gaussian_nll'.*'squared_error'"
    ):
        one.predict(X, return_std=True)
    several = fn.MLPRegressor(**SMALL).fit(X, np.stack([_f, _f], axis=1))
    with pytest.raises(ValueError, match="return_std=True needs"):
        several.predict(X, return_std=True)
