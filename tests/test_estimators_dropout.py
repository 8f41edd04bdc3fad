"""Dropout in the estimators: what it does to a fit, and what it leaves alone."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn.callback")

from scipy import sparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import fastnn as fn
from fastnn.equations import draws as reference_draws

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = {"classifier": fn.MLPClassifier, "regressor": fn.MLPRegressor}
_rng = np.random.RandomState(1)
X = _rng.normal(size=(90, 4))
_f = np.sin(X[:, 0]) + X[:, 1]
Y = {"classifier": np.digitize(_f, [-0.6, 0.6]), "regressor": _f}
SMALL = {"hidden_layer_sizes": (6, 5), "max_iter": 6, "batch_size": 16, "random_state": 0}

each_kind = pytest.mark.parametrize("kind", KINDS)


def fitted(kind="classifier", known=X, **parameters):
    return KINDS[kind](**{**SMALL, "dropout": 0.3, **parameters}).fit(known, Y[kind])


def bits(one):
    return [array.tobytes() for array in (*one.coefs_, *one.intercepts_)]


@each_kind
def test_it_is_off_by_default_and_then_scikit_learn_s(kind):
    assert KINDS[kind]().dropout == 0.0
    plain = KINDS[kind](**SMALL).fit(X, Y[kind])
    theirs = getattr(neural_network, KINDS[kind].__name__)(**SMALL).fit(X, Y[kind])
    for off in (0, 0.0, [0.0, 0.0], (0, 0)):
        one = fitted(kind, dropout=off)
        assert bits(one) == bits(plain)
        assert all(isinstance(layer, fn.Dense) for layer in one.network_.layers)
    for W, expected in zip(plain.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(W, expected, rtol=1e-9, atol=1e-12)


@each_kind
def test_first_weights_splits_and_orders_are_those_without_it(kind):
    """What is drawn from random_state is drawn as before, so that nothing else changes."""
    found = {}
    for rate in (0.0, 0.3):
        state = np.random.RandomState(5)
        one = fitted(kind, dropout=rate, early_stopping=True, random_state=state)
        found[rate] = one.n_iter_, state.get_state()[1].tobytes()
    assert found[0.0] == found[0.3]
    still = {"solver": "sgd", "learning_rate_init": 1e-300, "momentum": 0.0, "alpha": 0.0}
    assert bits(fitted(kind, **still)) == bits(fitted(kind, dropout=0.0, **still))


@each_kind
@pytest.mark.parametrize("solver", ["adam", "sgd", "rmsprop"])
def test_both_backends_and_any_number_of_threads_drop_the_same(kind, solver):
    one = fitted(kind, solver=solver)
    with fn.backend("reference"):
        textbook = fitted(kind, solver=solver)
    for W, expected in zip(one.coefs_, textbook.coefs_, strict=True):
        np.testing.assert_allclose(W, expected, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(one.loss_curve_, textbook.loss_curve_, rtol=1e-9)
    assert bits(fitted(kind, solver=solver, n_threads=2)) == bits(one)
    assert bits(clone(one).fit(X, Y[kind])) == bits(one)
    assert bits(fitted(kind, solver=solver, random_state=1)) != bits(one)


@each_kind
@pytest.mark.parametrize(
    ("dropout", "layers"),
    [
        (0.25, [6, 0.25, 5, 0.25]),
        ([0.5, 0.1], [6, 0.5, 5, 0.1]),
        ((0.0, 0.5), [6, 5, 0.5]),
    ],
)
def test_the_network_holds_a_dropout_behind_each_hidden_layer(kind, dropout, layers):
    one = fitted(kind, dropout=dropout)
    *hidden, last = one.network_.layers
    found = [layer.units if isinstance(layer, fn.Dense) else layer.rate for layer in hidden]
    assert found == layers
    assert last.units == one.n_outputs_
    assert one.n_layers_ == 4
    assert len(one.coefs_) == len(one.intercepts_) == 3


def test_the_first_step_is_that_of_the_textbook():
    """With the weights that scikit-learn would begin with, and the units that the key keeps."""
    one = KINDS["regressor"](
        hidden_layer_sizes=(6,), activation="identity", solver="sgd", momentum=0.0, alpha=0.0,
        learning_rate_init=1.0, max_iter=1, shuffle=False, batch_size=90, random_state=3,
        dropout=0.5,
    )  # fmt: skip
    before = clone(one).set_params(learning_rate_init=1e-300).fit(X, _f)
    one.fit(X, _f)
    state = np.random.RandomState(3)
    for shape in ((4, 6), 6, (6, 1), 1):
        state.uniform(size=shape)
    key = int.from_bytes(state.bytes(8), "little")
    D = 2.0 * reference_draws.kept(key, 0, 1, 6, 90, 0.5).T
    A = D * (X @ before.coefs_[0] + before.intercepts_[0])
    dZ = (A @ before.coefs_[1] + before.intercepts_[1] - _f[:, None]) / 90
    np.testing.assert_allclose(before.coefs_[1] - one.coefs_[1], A.T @ dZ, rtol=1e-9)
    dZ = D * (dZ @ before.coefs_[1].T)
    np.testing.assert_allclose(before.coefs_[0] - one.coefs_[0], X.T @ dZ, rtol=1e-9)


@each_kind
def test_scores_and_predictions_drop_nothing(kind):
    one = fitted(kind, early_stopping=True, max_iter=4, dropout=0.5, n_iter_no_change=9)
    plain = clone(one).set_params(dropout=0.0)
    plain.fit(X, Y[kind])
    for name, value in vars(one).items():
        if name in ("coefs_", "intercepts_"):
            setattr(plain, name, [array.copy() for array in value])
    assert plain.predict(X).tobytes() == one.predict(X).tobytes()
    assert plain.score(X, Y[kind]) == one.score(X, Y[kind])
    held = X[:20], Y[kind][:20]
    seen = KINDS[kind](**{**SMALL, "max_iter": 1, "dropout": 0.5}).fit(
        X, Y[kind], validation_data=held
    )
    assert seen.validation_scores_ == pytest.approx([seen.score(*held)], rel=1e-12)


@each_kind
def test_epochs_of_partial_fit_drop_other_units_each(kind):
    one = KINDS[kind](**SMALL, dropout=0.5, solver="sgd", momentum=0.0, shuffle=False)
    more = {"classes": [0, 1, 2]} if kind == "classifier" else {}
    one.partial_fit(X, Y[kind], **more)
    before = copy.deepcopy(one)
    one.partial_fit(X, Y[kind])
    again = copy.deepcopy(before).partial_fit(X, Y[kind])
    assert bits(again) == bits(one)
    assert bits(pickle.loads(pickle.dumps(before)).partial_fit(X, Y[kind])) == bits(one)
    # From the same weights, as if no epoch had been before.
    other = copy.deepcopy(before)
    other.t_ = 0
    assert bits(other.partial_fit(X, Y[kind])) != bits(one)


@each_kind
def test_a_warm_start_may_change_the_rate(kind):
    one = fitted(kind, warm_start=True)
    for rate, kinds in ((0.0, 3), (0.5, 5), ([0.5, 0.0], 4)):
        before = one.coefs_[0].copy()
        one.set_params(dropout=rate).fit(X, Y[kind])
        assert len(one.network_.layers) == kinds
        assert (one.coefs_[0] != before).any()


def test_sparse_examples_are_dropped_from_like_dense_ones():
    thin = np.where(X > 0.5, X, 0.0)
    dense = fitted(known=thin)
    for form in (sparse.csr_array, sparse.csc_matrix):
        found = fitted(known=form(thin))
        for W, expected in zip(found.coefs_, dense.coefs_, strict=True):
            np.testing.assert_allclose(W, expected, rtol=1e-9, atol=1e-12)


@each_kind
def test_it_is_pickled_copied_and_converted(kind):
    one = fitted(kind)
    for twin in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert twin.predict(X).tobytes() == one.predict(X).tobytes()
        assert twin.network_.layers == one.network_.layers
    theirs = one.to_sklearn()
    np.testing.assert_allclose(theirs.predict(X), one.predict(X), rtol=1e-9)
    back = KINDS[kind].from_sklearn(theirs)
    assert back.dropout == 0.0
    back.set_params(dropout=0.3).partial_fit(X, Y[kind])
    assert len(back.network_.layers) == 5


@each_kind
def test_a_divergence_goes_back_over_the_same_units(kind):
    settings = {"solver": "sgd", "learning_rate_init": 1e150, "max_iter": 50, "batch_size": 30}
    ends = []
    for backend in ("native", "reference"):
        one = KINDS[kind](**{**SMALL, **settings, "dropout": 0.4, "activation": "identity"})
        with fn.backend(backend), pytest.raises(fn.DivergenceError) as caught:
            one.fit(X, Y[kind])
        ends.append((caught.value.epoch, caught.value.step))
        assert all(np.isfinite(W).all() for W in one.coefs_)
    assert ends[0] == ends[1]


@each_kind
@pytest.mark.parametrize("rate", [1.0, -0.1, 2, "0.5", None, True, np.nan])
def test_a_wrong_rate_is_refused_as_scikit_learn_would(kind, rate):
    said = rf"The 'dropout' parameter of {KINDS[kind].__name__} must be a float in the range \[0"
    with pytest.raises(ValueError, match=said):
        fitted(kind, dropout=rate)


@each_kind
@pytest.mark.parametrize(
    ("rates", "error", "said"),
    [
        ([0.1], ValueError, r"dropout must be one number, or 2, one for each hidden layer"),
        ([], ValueError, r"dropout must be one number, or 2"),
        ([0.1, 1.0], ValueError, r"dropout\[1\] must be a number in \[0.0, 1.0\); got 1.0"),
        (["a", 0.1], TypeError, r"dropout\[0\] must be a number in \[0.0, 1.0\); got 'a'"),
    ],
    ids=str,
)
def test_wrong_rates_are_refused(kind, rates, error, said):
    with pytest.raises(error, match=said):
        fitted(kind, dropout=rates)


@each_kind
def test_lbfgs_refuses_it(kind):
    with pytest.raises(ValueError, match="dropout needs a solver that takes steps"):
        fitted(kind, solver="lbfgs")
    with pytest.raises(ValueError, match="dropout needs a solver that takes steps"):
        fitted(kind, solver="lbfgs", dropout=[0.0, 0.1])
    fitted(kind, solver="lbfgs", dropout=[0.0, 0.0])


def test_without_hidden_layers_there_is_nothing_to_drop():
    with pytest.warns(ConvergenceWarning):
        one = fitted(hidden_layer_sizes=())
    assert bits(one) == bits(fitted(hidden_layer_sizes=(), dropout=0.0))
