"""Scales: what a fit warns of, what it leaves unsaid, and the constant that is to be beaten."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fastnn as fn
from fastnn.losses import LOSSES
from fastnn.reporting.constant import constant_loss
from fastnn.reporting.scales import Columns, hopeless

RNG = np.random.default_rng(0)
X = RNG.normal(size=(500, 3))
Y = X.sum(axis=1)


def warned(X, y, net=None, **settings):
    net = net or fn.Sequential([fn.Dense(4, "tanh"), fn.Dense(1)])
    with warnings.catch_warnings(record=True, action="always") as caught:
        net.fit(X, y, epochs=1, **settings)
    assert all(one.category is fn.FitWarning for one in caught)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(
    ("features", "targets", "said"),
    [
        (X, Y + 1e5, "y reaches 1e+05: "),
        (X, 1e6 * Y, "y reaches "),
        (X * 1e5, Y, "X[:, "),
        (X * [1, 1e5, 1], Y, "X[:, 1] reaches "),
        (X * [1, 1, 1e-6], Y, "X[:, 2] reaches no more than "),
        (X, 1e-6 * Y, "y reaches no more than "),
        (np.hstack([X, np.full((500, 1), 1.6e9)]), Y, "X[:, 3] reaches 1.6e+09: "),
        (X * 1e6, Y * 1e6, ", and y reaches"),
    ],
)
def test_a_fit_warns_once_of_scales_that_are_hopeless(features, targets, said):
    (message,) = warned(features, targets)
    assert said in message
    assert "Standardize" in message
    assert "net.diagnose(X, y)" in message


@pytest.mark.parametrize(
    ("features", "targets"),
    [
        (X * 1e3, Y),
        (X, Y * 1e3),
        (np.hstack([X, np.zeros((500, 1))]), Y),
        (np.hstack([X, np.eye(500, 1)]), Y),
    ],
)
def test_a_fit_says_nothing_of_scales_that_are_merely_bad(features, targets):
    assert warned(features, targets) == []


def test_a_fit_that_goes_on_does_not_warn_again():
    net = fn.Sequential([fn.Dense(1)])
    assert len(warned(X, Y + 1e5, net)) == 1
    assert warned(X, Y + 1e5, net) == []


def test_classes_and_counts_have_no_scale():
    net = fn.Sequential([fn.Dense(1, "exp", initializer="zeros")])
    assert warned(X, np.full(500, 1e5), net) == []


def test_a_warning_that_is_an_error_leaves_the_network_as_it_was():
    net = fn.Sequential([fn.Dense(1)])
    with warnings.catch_warnings(action="error"), pytest.raises(fn.FitWarning):
        net.fit(X, Y + 1e5)
    assert net.inputs is None


def test_estimators_keep_scikit_learn_s_silence():
    pytest.importorskip("sklearn")
    with warnings.catch_warnings(record=True, action="always") as caught:
        fn.MLPRegressor(hidden_layer_sizes=(4,), max_iter=1, random_state=0).fit(X * 1e5, Y)
    assert not [one for one in caught if one.category is fn.FitWarning]


def test_a_few_rows_of_many_are_looked_at():
    rows = np.ones((100_000, 1))
    rows[0] = 1e6
    assert hopeless(rows, None) is not None
    rows[0], rows[1] = 1.0, 1e6
    assert hopeless(rows, None) is None, "one row among many"
    assert hopeless(np.full((2, 300_000), 1e5), None).startswith("X[:, 0] reaches 1e+05 (as 299999")


def test_sparse_rows_are_looked_at_by_their_entries():
    sparse = pytest.importorskip("scipy.sparse")
    rows = sparse.random_array((500, 40), density=0.05, rng=np.random.default_rng(0), format="csr")
    assert warned(rows, Y) == []
    (message,) = warned(rows.multiply(np.where(np.arange(40) == 7, 1e6, 1.0)).tocsr(), Y)
    assert message.startswith("X[:, 7] reaches ")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_that_a_dtype_takes_for_one_are_lost(dtype):
    day = 1.6e9 + 86_400 * RNG.random((500, 1))
    lost = Columns.of("X", day, np.dtype(dtype)).lost
    assert lost.tolist() == [dtype == "float32"]
    assert not Columns.of("X", X, np.dtype(dtype)).lost.any()
    assert not Columns.of("X", np.round(X), np.dtype(dtype)).lost.any(), "values that recur"


@pytest.mark.parametrize(
    ("loss", "targets", "best"),
    [
        ("mean_squared_error", [[0.0, 1.0], [2.0, 1.0]], 0.5),
        ("mean_absolute_error", [[0.0], [1.0], [5.0]], 5 / 3),
        ("quantile", [[0.0], [1.0], [5.0]], 5 / 6),
        ("cross_entropy", [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], 0.5623351446188083),
        ("binary_cross_entropy", [[1.0], [0.0]], np.log(2)),
        ("poisson", [[1.0], [3.0]], 2 - 2 * np.log(2)),
        ("gaussian_nll", [[-1.0], [1.0]], 0.5),
        ("hinge", [[1.0], [1.0], [1.0], [0.0]], 0.5),
        ("huber", [[0.0], [0.0], [0.0]], 0.0),
        ("log_cosh", [[-1.0], [1.0]], np.log(np.cosh(1.0))),
    ],
)
def test_the_best_constant_by_hand(loss, targets, best):
    assert constant_loss(LOSSES[loss], np.array(targets)) == pytest.approx(best, abs=1e-9)


def test_every_loss_has_a_best_constant():
    targets = RNG.integers(0, 2, (50, 1)).astype(float)
    assert all(np.isfinite(constant_loss(loss, targets)) for loss in LOSSES.values())


def test_targets_of_several_outputs_are_to_be_standardized_by_column():
    y = np.stack([Y, 1e6 * Y], axis=1)
    net = fn.Sequential([fn.Dense(2)], inputs=3)
    by_column = "y = (y - y.mean(axis=0)) / y.std(axis=0)"
    assert by_column in hopeless(X, y)
    assert by_column in " ".join(net.diagnose(X, y).findings)


def test_the_largest_floats_of_single_precision_are_told_without_overflow(recwarn):
    assert "X[:, 0] reaches 2e+38" in hopeless(np.full((3, 1), 2e38, "float32"), None)
    assert not recwarn.list


def test_the_warning_says_what_does_it_inside():
    said = hopeless(1e6 * X, 1e6 * Y[:, None])
    assert (
        "fastnn.Standardize() as the first layer and fastnn.Sequential(..., scale_targets" in said
    )
    assert "Standardize()" not in hopeless(X, 1e6 * Y[:, None])
    assert "scale_targets=True" not in hopeless(1e6 * X, Y[:, None])
    # And the advice helps.
    net = fn.Sequential([fn.Standardize(), fn.Dense(1)], 3, rng=0, scale_targets=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.fit(1e6 * X, 1e6 * Y, epochs=1, progress=False)
