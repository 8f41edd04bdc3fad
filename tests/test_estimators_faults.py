"""Arguments that are wrong in ways of their own, and numbers at the ends of their range."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn.callback")

from scipy import sparse, special
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning

import fastnn as fn
from fastnn.errors import DivergenceError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = {"classifier": fn.MLPClassifier, "regressor": fn.MLPRegressor}
SMALL = {"hidden_layer_sizes": 3, "max_iter": 2, "random_state": 0}

_rng = np.random.RandomState(0)
X = _rng.normal(size=(30, 3))
Y = {"classifier": np.arange(30) % 2, "regressor": X[:, 0]}
LABELS = np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(int)


# Logarithms of probabilities.


def weighted(Z, dtype, problem="several"):
    """Return a classifier whose last layer's weighted sums are the features, and the features."""
    Z = np.asarray(Z, dtype)
    m = Z.shape[1]
    y = {"several": np.arange(30) % max(m, 2), "two": np.arange(30) % 2, "labels": None}[problem]
    if problem == "labels":
        y = np.tile(np.eye(m, dtype=int), (30, 1))[:30]
    one = fn.MLPClassifier((), max_iter=1, random_state=0)
    one.fit(np.ones((30, m), dtype), y)
    one.coefs_ = [np.eye(m, dtype=dtype)]
    one.intercepts_ = [np.zeros(m, dtype)]
    return one, Z


Z3 = [[45, 0, -45], [1e4, -1e4, 3], [0, 0, 0], [0, -1e-9, 1e-9], [-800, -900, -1000], [30, 0, 29]]


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logarithms_of_classes_are_a_log_softmax(backend, dtype):
    one, Z = weighted(Z3, dtype)
    right = special.log_softmax(Z.astype(np.longdouble), axis=1)
    with fn.backend(backend):
        found = one.predict_log_proba(Z)
        thin = one.predict_log_proba(sparse.csr_array(Z))
    assert found.dtype == dtype
    tolerance = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(found, right.astype(float), rtol=tolerance, atol=np.finfo(dtype).eps)
    assert np.array_equal(thin, found)
    np.testing.assert_allclose(np.exp(found), one.predict_proba(Z), rtol=1e-5, atol=1e-30)


def test_the_logarithm_of_what_is_likely_is_that_of_the_probability():
    one, Z = weighted([[40.0, 0.0, 0.0], [1.0, 0.0, 0.0]], "float64")
    found, likely = one.predict_log_proba(Z), one.predict_proba(Z)
    assert np.array_equal(found[:, 0], np.log(likely[:, 0]))
    assert found.argmax(axis=1).tolist() == likely.argmax(axis=1).tolist()


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("problem", ["two", "labels"])
def test_logarithms_of_two_classes_and_of_labels_are_a_log_sigmoid(problem, backend, dtype):
    Z = [[45.0], [-45.0], [90.0], [-1e4], [0.0], [1e-9]]
    Z = Z if problem == "two" else [[*a, *b] for a, b in zip(Z, reversed(Z), strict=True)]
    one, Z = weighted(Z, dtype, problem)
    right = special.log_expit(Z.astype(float))
    if problem == "two":
        right = np.hstack([special.log_expit(-Z.astype(float)), right])
    with fn.backend(backend):
        found = one.predict_log_proba(Z)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, right, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_left_of_two_classes_is_not_nothing(dtype):
    one, Z = weighted([[20.0], [45.0], [80.0], [-80.0], [0.5]], dtype, "two")
    likely = one.predict_proba(Z)
    assert (likely > 0.0).all()
    np.testing.assert_allclose(np.log(likely[:3, 0]), one.predict_log_proba(Z)[:3, 0], rtol=1e-2)
    theirs = one.to_sklearn().predict_proba(Z)
    np.testing.assert_allclose(likely, theirs, atol=np.finfo(dtype).eps)


@pytest.mark.parametrize("y", [np.arange(30) % 3, np.arange(30) % 2, LABELS])
def test_logarithms_agree_with_scikit_learn_s_where_those_are_right(y):
    ours = fn.MLPClassifier(**SMALL).fit(X, y)
    theirs = ours.to_sklearn()
    expected = theirs.predict_log_proba(X)
    for form in (np.asarray, np.ndarray.tolist, sparse.csr_array, sparse.csc_array):
        np.testing.assert_allclose(ours.predict_log_proba(form(X)), expected, rtol=1e-12)


def test_scikit_learn_s_own_logarithm_in_single_precision_is_met():
    theirs = neural_network.MLPClassifier((), max_iter=1, random_state=0)
    theirs.fit(np.array([[0.0], [1], [2]], "f4"), [0, 1, 2])
    theirs.coefs_ = [np.array([[1, 0, -1]], "f4")]
    theirs.intercepts_ = [np.zeros(3, "f4")]
    found = fn.MLPClassifier.from_sklearn(theirs).predict_log_proba(np.array([[45]], "f4"))
    np.testing.assert_allclose(found, [[0, -45, -90]], atol=1e-12)


# What NumPy cannot read.


class Busy:
    """An array of a device that has none to give."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("the device is busy")


UNREADABLE = {
    "an object that fails": (Busy(), TypeError, "the device is busy"),
    "integers beyond float64": ([10**400] * 30, ValueError, "fit float64"),
}


@pytest.mark.parametrize("bad", UNREADABLE)
@pytest.mark.parametrize("kind", KINDS)
def test_what_numpy_cannot_read_is_named(kind, bad):
    value, error, words = UNREADABLE[bad]
    wide = [[10**400] * 3] * 30 if isinstance(value, list) else value
    make, y = KINDS[kind], Y[kind]
    fitted = make(**SMALL).fit(X, y)
    asked = {
        "X": lambda: make(**SMALL).fit(wide, y),
        "sample_weight": lambda: make(**SMALL).fit(X, y, value),
        r"validation_data\[0\]": lambda: make(**SMALL).fit(X, y, validation_data=(wide, y)),
        r"validation_data\[2\]": lambda: make(**SMALL).fit(X, y, validation_data=(X, y, value)),
    }
    if kind == "regressor":
        asked["y"] = lambda: make(**SMALL).fit(X, value)
        asked[r"validation_data\[1\]"] = lambda: make(**SMALL).fit(X, y, validation_data=(X, value))
    for name, ask in asked.items():
        with pytest.raises(error, match=rf"^{name} must .*{words}"):
            ask()
    for ask in (fitted.predict, lambda given: fitted.score(given, y)):
        with pytest.raises(error, match=rf"^X must .*{words}"):
            ask(wide)
    with pytest.raises((TypeError, ValueError), match=r"sample_weight|y must"):
        fitted.score(X, y, Busy())


def test_a_tensor_that_requires_gradients_is_to_be_detached():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(X, requires_grad=True)
    with pytest.raises(TypeError, match=r"^X must .*detach"):
        fn.MLPClassifier(**SMALL).fit(tensor, Y["classifier"])
    with pytest.raises(TypeError, match=r"^y must .*detach"):
        fn.MLPRegressor(**SMALL).fit(X, tensor[:, 0])
    with pytest.raises(TypeError, match=r"^X must .*detach"):
        fn.Sequential([fn.Dense(1)]).fit(tensor, X[:, 0])
    assert fn.MLPClassifier(**SMALL).fit(tensor.detach(), Y["classifier"]).score(X, Y["classifier"])


@pytest.mark.parametrize("name", ["coefs_", "intercepts_"])
def test_weights_set_by_hand_that_numpy_cannot_read_are_named(name):
    one = fn.MLPRegressor(**SMALL).fit(X, Y["regressor"])
    before = one.predict(X)
    good = getattr(one, name)
    setattr(one, name, [array.tolist() for array in good])
    np.testing.assert_allclose(one.predict(X), before, rtol=1e-12)
    for bad, error in ((Busy(), TypeError), ([10**400] * 3, ValueError), ("a", TypeError)):
        setattr(one, name, [good[0], bad])
        for ask in (one.predict, lambda given: one.partial_fit(given, Y["regressor"])):
            with pytest.raises(error, match=rf"^{name}\[1\] must"):
                ask(X)
    for bad in (None, "ab"):
        setattr(one, name, bad)
        with pytest.raises(TypeError, match=rf"^{name} must be a list of arrays"):
            one.predict(X)


@pytest.mark.parametrize(
    "given", [[1], [], [{}], [{0: 1}, {0: 1}], (1, 2), {0: 10**400}, {0: "a"}, {0: None}, {7: 1}]
)
def test_class_weights_of_another_form_are_refused(given):
    with pytest.raises((TypeError, ValueError), match="class_weight"):
        fn.MLPClassifier(class_weight=given, **SMALL).fit(X, Y["classifier"])


@pytest.mark.parametrize("given", [[1], [{}], {0: 1}, [{0: 1}] * 3, [{0: 10**400}, {}]])
def test_class_weights_of_several_labels_of_another_form_are_refused(given):
    with pytest.raises((TypeError, ValueError), match="class_weight"):
        fn.MLPClassifier(class_weight=given, **SMALL).fit(X, LABELS)


def test_numbers_as_text_are_no_classes_for_a_regressor():
    with pytest.raises(TypeError, match=r"'0.5' .*np.asarray\(..., dtype=float\)"):
        fn.MLPRegressor(**SMALL).fit([[0.0], [1.0]], ["0.5", "1.5"])
    with pytest.raises(TypeError, match=r"'red' .*use MLPClassifier"):
        fn.MLPRegressor(**SMALL).fit([[0.0], [1.0]], ["red", "blue"])


# Losses that overflow.


@pytest.mark.parametrize("solver", ["adam", "sgd", "rmsprop"])
@pytest.mark.parametrize(
    ("dtype", "far", "wider"), [("f4", 1e19, True), ("f4", 1e37, True), ("f8", 1e160, False)]
)
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
def test_targets_that_no_loss_can_hold_are_what_is_blamed(solver, dtype, far, wider, make):
    one = fn.MLPRegressor(solver=solver, **SMALL)
    with pytest.raises(
        DivergenceError, match=r"the largest y is .*Scale y.* epoch 1, step 1"
    ) as seen:
        one.fit(make(X.astype(dtype)), far * X[:, 0])
    said = str(seen.value)
    assert "learning_rate" not in said
    assert "parameter weights" not in said
    assert ('dtype="float64"' in said) == wider
    assert all(np.isfinite(W).all() for W in one.coefs_)


def test_the_column_of_targets_is_named():
    with pytest.raises(DivergenceError, match="the largest y in column 1 is "):
        fn.MLPRegressor(**SMALL).fit(X.astype("f4"), np.stack([X[:, 0], 1e20 * X[:, 1]], axis=1))


def test_lbfgs_says_it_too():
    one = fn.MLPRegressor(solver="lbfgs", **SMALL)
    with pytest.warns(ConvergenceWarning, match="The loss overflowed float64: the largest y"):
        one.fit(X, 1e160 * X[:, 0])


def test_what_is_no_fault_of_the_targets_is_not_put_on_them():
    one = fn.MLPRegressor(solver="sgd", learning_rate_init=1e3, **SMALL | {"max_iter": 200})
    with pytest.raises(DivergenceError, match=r"parameter weights.*learning_rate_init"):
        one.fit(X, X[:, 0])


# Going on.


def test_a_warm_start_s_partial_fit_takes_batches_that_lack_classes():
    one = fn.MLPClassifier(warm_start=True, **SMALL)
    one.partial_fit([[0.0], [1.0]], [0, 1], classes=[0, 1])
    plain = fn.MLPClassifier(**SMALL).partial_fit([[0.0], [1.0]], [0, 1], classes=[0, 1])
    for each in (one, plain):
        each.partial_fit([[1.0]], [1])
    assert all(np.array_equal(a, b) for a, b in zip(one.coefs_, plain.coefs_, strict=True))
    with pytest.raises(ValueError, match="same classes"):
        one.fit([[1.0]], [1])
    with pytest.raises(ValueError, match="classes not in"):
        one.partial_fit([[1.0]], [2])


def test_hidden_layers_of_no_dimension_are_refused():
    with pytest.raises(TypeError, match=r"^hidden_layer_sizes must be .*; got array\(3\)"):
        fn.MLPRegressor(hidden_layer_sizes=np.array(3)).fit(X, Y["regressor"])


# Weights of examples, of which only the shares count.

SHARES = 0.5 + np.arange(30) % 5
SOLVED = {"adam": {}, "sgd": {"solver": "sgd"}, "lbfgs": {"solver": "lbfgs"}}


@pytest.mark.parametrize("factor", [1e-310, 1e-300, 1e-38, 1e-25, 1e25, 1e38, 1e300])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("solver", SOLVED)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_any_scale_give_the_fit_of_their_shares(kind, solver, dtype, factor):
    """Where alpha counts for nothing: it is divided by the weights' sum."""
    model = KINDS[kind](**SMALL, **SOLVED[solver], alpha=0.0)
    found = model.fit(X.astype(dtype), Y[kind], sample_weight=factor * SHARES)
    other = KINDS[kind](**SMALL, **SOLVED[solver], alpha=0.0)
    other.fit(X.astype(dtype), Y[kind], sample_weight=SHARES)
    # Multiples by 1e-310 are rounded themselves.
    assert found.loss_ == pytest.approx(other.loss_, rel=1e-5)
    for one, another in zip(found.coefs_, other.coefs_, strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", SOLVED)
def test_weights_times_a_power_of_two_and_alpha_alike_give_the_same_bits(kind, solver):
    fits = [
        KINDS[kind](**SMALL, **SOLVED[solver], alpha=np.ldexp(0.1, power)).fit(
            X, Y[kind], sample_weight=np.ldexp(SHARES, power)
        )
        for power in (0, 200, -900)
    ]
    for one in fits[1:]:
        assert all(map(np.array_equal, one.coefs_, fits[0].coefs_))
        assert one.loss_ == fits[0].loss_


@pytest.mark.parametrize(("dtype", "weight"), [("f4", 1e-38), ("f4", 1e-45), ("f8", 1e-310)])
@pytest.mark.parametrize("solver", SOLVED)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_beside_which_the_penalty_overflows_are_refused(kind, solver, dtype, weight):
    model = KINDS[kind](**SMALL, **SOLVED[solver], dtype="float32" if dtype == "f4" else None)
    with pytest.raises(ValueError, match=r"must not be so small beside alpha=0.0001.* alpha=0"):
        model.fit(X.astype(dtype), Y[kind], sample_weight=np.full(30, weight))
    some = np.where(np.arange(30) < 5, 1.0, weight)
    assert model.fit(X.astype(dtype), Y[kind], sample_weight=some).loss_ > 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_with_tiny_weights_gives_no_nan_without_an_error(kind):
    model = KINDS[kind](solver="lbfgs", **SMALL)
    with pytest.raises(ValueError, match="alpha=0"):
        model.fit(X, Y[kind], sample_weight=np.full(30, 1e-300))
    for weight in (1e-140, 1e-100, 1e-20):
        assert np.isfinite(model.fit(X, Y[kind], sample_weight=np.full(30, weight)).loss_)


def test_further_calls_take_weights_of_any_scale_too():
    found, other = (fn.MLPRegressor(**SMALL, alpha=0.0) for _ in range(2))
    for factor in (1.0, 1e-300, 1.0, 1e300, 1e-310):
        found.partial_fit(X, Y["regressor"], sample_weight=factor * SHARES)
        other.partial_fit(X, Y["regressor"], sample_weight=SHARES)
    for one, another in zip(found.coefs_, other.coefs_, strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-6)


def test_validation_examples_take_weights_of_any_scale():
    scores = []
    for factor in (1.0, 1e-310, 1e300):
        one = fn.MLPRegressor(**SMALL, alpha=0.0).fit(
            X, Y["regressor"], X_val=X, y_val=Y["regressor"], sample_weight_val=factor * SHARES
        )
        scores.append([*one.validation_scores_, *one.validation_loss_curve_])
    np.testing.assert_allclose(scores[1:], [scores[0]] * 2, rtol=1e-6)
