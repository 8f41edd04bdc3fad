"""Targets that are missing in the estimators, and errors that say what was meant."""

from __future__ import annotations

import numpy as np
import pytest
from cases import error
from scipy import sparse

pytest.importorskip("sklearn.callback")

import pandas

import fastnn as fn

pytestmark = [pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

SOLVERS = ("adam", "sgd", "lbfgs")
COMMON = {"max_iter": 6, "random_state": 0, "missing_targets": "ignore"}


def numbers(outputs=2, n=70):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(n, 3))
    y = np.stack([np.sin(X[:, 0]), X[:, 1] ** 2, X[:, 2]][:outputs], 1)
    return X, y, rng.uniform(0.5, 2, n)


def gaps(y):
    y = y.astype(float)
    y[::4, 0] = y[1::5, 1] = np.nan
    y[7] = np.nan
    return y


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ["array", "list", "series", "objects", "masked"])
def test_examples_without_a_target_are_left_out(kind, solver):
    X, y, w = numbers()
    y = y[:, 0].copy()
    y[::3] = np.nan
    known = ~np.isnan(y)
    asked = {
        "array": y, "list": y.tolist(), "series": pandas.Series(y),
        "objects": [None if one != one else one for one in y],
        "masked": np.ma.array(np.where(known, y, 1e6), mask=~known),
    }[kind]  # fmt: skip
    found = fn.MLPRegressor(**COMMON, solver=solver).fit(X, asked, w)
    wanted = fn.MLPRegressor(**COMMON, solver=solver).fit(X[known], y[known], w[known])
    assert (found.coefs_[0] == wanted.coefs_[0]).all()
    assert found.score(X, asked, w) == wanted.score(X[known], y[known], w[known])


@pytest.mark.parametrize("labels", [["no", "yes"], [0, 1], [2.0, 3.0, 5.0], [True, False]])
def test_classes_that_are_missing_leave_their_examples_out(labels):
    X, y, w = numbers()
    places = (y[:, 0] > 0).astype(int) + (len(labels) > 2) * (y[:, 1] > 0.5)
    whole = np.array(labels, object)[places]
    known = np.arange(len(X)) % 3 > 0
    asked = np.where(known, whole, None)
    options = {**COMMON, "early_stopping": True, "class_weight": "balanced"}
    found = fn.MLPClassifier(**options).fit(pandas.DataFrame(X, columns=list("abc")), asked, w)
    plain = np.array(whole[known].tolist())
    frame = pandas.DataFrame(X[known], columns=list("abc"))
    wanted = fn.MLPClassifier(**options).fit(frame, plain, w[known])
    assert (found.coefs_[0] == wanted.coefs_[0]).all()
    assert found.classes_.tolist() == sorted(set(plain.tolist()))
    assert found.feature_names_in_.tolist() == ["a", "b", "c"]
    step = fn.MLPClassifier(**COMMON).partial_fit(X, asked, classes=np.unique(plain))
    other = fn.MLPClassifier(**COMMON).partial_fit(X[known], plain, classes=np.unique(plain))
    assert (step.coefs_[0] == other.coefs_[0]).all()
    masked = np.ma.array(np.array(labels)[places], mask=~known)
    again = fn.MLPClassifier(**COMMON).partial_fit(X, masked, classes=np.unique(plain))
    assert (again.coefs_[0] == other.coefs_[0]).all()


@pytest.mark.parametrize("form", ["nullable", "objects", "masked"])
def test_several_outputs_may_be_missing_in_any_form(form):
    X, y, w = numbers()
    y = gaps(y)
    asked = {
        "nullable": pandas.DataFrame(y).astype("Float64"),
        "objects": np.where(np.isnan(y), None, y),
        "masked": np.ma.array(np.where(np.isnan(y), 1e6, y), mask=np.isnan(y)),
    }[form]
    found = fn.MLPRegressor(**COMMON).fit(X, asked, w)
    wanted = fn.MLPRegressor(**COMMON).fit(X, y, w)
    assert (found.coefs_[0] == wanted.coefs_[0]).all()
    assert found.score(X, asked, w) == wanted.score(X, y, w)


@pytest.mark.parametrize("loss", ["mean_squared_error", "gaussian_nll", "poisson", "huber"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_several_outputs_learn_from_the_targets_that_they_have(solver, loss):
    X, y, w = numbers()
    y = gaps(np.abs(y))
    found = fn.MLPRegressor(loss, **COMMON, solver=solver, alpha=0.0).fit(X, y, w)
    with fn.backend("reference"):
        book = fn.MLPRegressor(loss, **COMMON, solver=solver, alpha=0.0).fit(X, y, w)
    assert error(found.coefs_[0], book.coefs_[0]) <= 1e-7
    filled = np.where(np.isnan(y), 1e3, y)
    assert np.isfinite(found.loss_)
    assert found.loss_ < 1e3 < abs(filled).max() + 1
    means = found.predict(X)
    parts = []
    for k in range(2):
        known = ~np.isnan(y[:, k])
        target, weights = y[known, k], w[known]
        spread = weights @ (target - np.average(target, weights=weights)) ** 2
        parts.append(1 - weights @ (means[known, k] - target) ** 2 / spread)
    assert error(found.score(X, y, w), np.mean(parts)) <= 1e-9


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_the_loss_is_the_layer_interface_s(solver):
    X, y, w = numbers()
    y = gaps(y)
    known = ~np.isnan(y).all(axis=1)
    options = {**COMMON, "max_iter": 1, "alpha": 0.0, "solver": solver}
    found = fn.MLPRegressor("mean_squared_error", **options).fit(X, y, w)
    net = fn.Sequential(found.network_.layers, 3, "float64")
    net.parameters = found.network_.parameters
    value = net.evaluate(X, y, sample_weight=w, missing_targets="ignore")["loss"]
    held = fn.MLPRegressor("mean_squared_error", **options)
    held.fit(X, y, w, validation_data=(X[known], y[known], w[known]))
    if solver == "sgd":
        assert error(held.validation_loss_curve_[-1], value) <= 1e-12
        assert error(held.validation_scores_[-1], held.score(X, y, w)) <= 1e-12
    else:
        assert error(found.loss_, value) <= 1e-12


@pytest.mark.parametrize("scaled", [False, True])
def test_early_stopping_scales_and_single_steps_go_by_known_targets(scaled):
    X, y, _ = numbers()
    y = gaps(y)
    options = {**COMMON, "scale_targets": scaled, "early_stopping": True}
    found = fn.MLPRegressor("mean_squared_error", **options).fit(X, y)
    assert np.isfinite(found.validation_scores_).all()
    steps = fn.MLPRegressor("mean_squared_error", **COMMON, scale_targets=scaled)
    for _ in range(3):
        steps.partial_fit(X, y)
    assert np.isfinite(steps.loss_curve_).all()
    if scaled:
        wanted = np.nanmean(y[~np.isnan(y).all(axis=1)], axis=0)
        assert error(steps.network_.target_scale[0], wanted) <= 1e-12


@pytest.mark.parametrize("solver", SOLVERS)
def test_labels_that_are_missing_beside_others_count_for_nothing(solver):
    X, y, w = numbers(3)
    sides = gaps((y > 0).astype(float))
    found = fn.MLPClassifier(**COMMON, solver=solver, alpha=0.0).fit(X, sides, w)
    with fn.backend("reference"):
        book = fn.MLPClassifier(**COMMON, solver=solver, alpha=0.0).fit(X, sides, w)
    assert error(found.coefs_[0], book.coefs_[0]) <= 1e-7
    right = ((found.predict(X) == sides) | np.isnan(sides)).all(axis=1)
    known = ~np.isnan(sides).all(axis=1)
    assert error(found.score(X, sides, w), np.average(right[known], weights=w[known])) <= 1e-12
    first = fn.MLPClassifier(**COMMON).partial_fit(X, sides, classes=[0, 1, 2])
    assert first.partial_fit(X, sides).predict(X).shape == sides.shape
    twin = fn.MLPClassifier(**COMMON).fit(X, sides, validation_data=(X, sides))
    assert np.isfinite(twin.validation_scores_).all()


def test_a_number_that_is_missing_is_no_target_of_several_examples():
    with pytest.raises(ValueError, match="y"):
        fn.MLPRegressor(**COMMON).fit(np.ones((3, 1)), np.nan)


def test_what_does_not_fit_is_refused():
    X, y, _ = numbers(3)
    sides = gaps((y > 0).astype(float))
    with pytest.raises(ValueError, match="NaN"):
        fn.MLPRegressor(max_iter=2).fit(X, gaps(y))
    with pytest.raises(ValueError, match="NaN"):
        fn.MLPClassifier(max_iter=2).fit(X, sides)
    with pytest.raises(ValueError, match="class_weight needs all labels of an example"):
        fn.MLPClassifier(**COMMON, class_weight="balanced").fit(X, sides)
    with pytest.raises(ValueError, match="rows of 0 and 1 where labels"):
        fn.MLPClassifier(**COMMON).fit(X, 2 * sides)
    with pytest.raises(ValueError, match="must have a target that is not missing"):
        fn.MLPRegressor(**COMMON).fit(X, np.full(len(X), np.nan))
    with pytest.raises(ValueError, match="infinity"):
        fn.MLPRegressor(**COMMON).fit(X, np.where(np.isnan(sides), sides, np.inf))
    with pytest.raises(ValueError, match="'missing_targets' parameter"):
        fn.MLPRegressor(missing_targets="drop").fit(X, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fn.MLPRegressor(**COMMON).fit(X[:5], sides)


def test_nothing_of_the_user_s_changes_and_without_gaps_nothing_differs():
    X, y, w = numbers()
    holes, kept = gaps(y), gaps(y)
    fn.MLPRegressor(**COMMON).fit(X, holes, w)
    assert np.array_equal(holes, kept, equal_nan=True)
    for rows in (X, sparse.csr_array(X)):
        one = fn.MLPRegressor(**COMMON).fit(rows, y, w)
        other = fn.MLPRegressor(**{**COMMON, "missing_targets": "error"}).fit(rows, y, w)
        assert (one.coefs_[0] == other.coefs_[0]).all()
        fn.MLPRegressor(**COMMON).fit(rows, holes, w)


@pytest.mark.parametrize("sizes", [(16,), [16, 8], 16])
def test_sizes_in_the_place_of_the_loss_are_told_apart(sizes):
    X, y, _ = numbers()
    wanted = r"'loss' parameter of MLPRegressor.*given by name: MLPRegressor\(hidden_layer_sizes="
    with pytest.raises(ValueError, match=wanted):
        fn.MLPRegressor(sizes).fit(X, y)
    with pytest.raises(ValueError, match="'loss' parameter of MLPRegressor") as caught:
        fn.MLPRegressor("no such loss").fit(X, y)
    assert "hidden_layer_sizes" not in str(caught.value)
