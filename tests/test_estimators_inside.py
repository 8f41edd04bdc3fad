"""The estimators inside other people's code: filters, subclasses, habits, and other packages."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn.callback")

from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import _multilayer_perceptron
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn as fn
from fastnn.estimators.elsewhere import ELSEWHERE

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = {"classifier": fn.MLPClassifier, "regressor": fn.MLPRegressor}
THEIRS = {"classifier": neural_network.MLPClassifier, "regressor": neural_network.MLPRegressor}
SMALL = {"hidden_layer_sizes": 4, "max_iter": 2, "random_state": 0}

_rng = np.random.RandomState(0)
X = _rng.normal(size=(40, 3))
Y = {"classifier": np.arange(40) % 2, "regressor": X[:, 0]}
LABELS = (X > 0).astype(int)
both = pytest.mark.parametrize("kind", KINDS)


# Warnings.


@both
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_the_idiom_that_silences_scikit_learn_silences_us(kind, solver):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="sklearn")
        KINDS[kind](solver=solver, batch_size=1000, **SMALL).fit(X, Y[kind])


@both
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_warning_shows_the_user_s_line_however_deep_it_comes_from(kind, solver):
    one = KINDS[kind](solver=solver, **SMALL)
    fits = [
        lambda: one.fit(X, Y[kind]),
        lambda: make_pipeline(StandardScaler(), one).fit(X, Y[kind]),
        lambda: GridSearchCV(one, {"alpha": [0.1, 0.2]}, cv=2).fit(X, Y[kind]),
    ]
    for fit in fits:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            fit()
        assert heard
        assert {one.filename for one in heard} == {__file__}
        assert {one.category for one in heard} == {ConvergenceWarning}


# Subclasses.


@both
@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_override_that_would_never_be_called_is_refused(kind, name):
    override = {name: lambda self, *given: None}
    with pytest.raises(TypeError, match=rf"Mine must not override {name}, .*: \w"):
        type("Mine", (KINDS[kind],), override)
    with pytest.raises(TypeError, match=rf"Mine must not override {name}, "):
        type("Mine", (type("Mixin", (), override), KINDS[kind]), {})


@both
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_private_method_of_scikit_learn_s_says_where_to_turn(kind, name):
    one = KINDS[kind](**SMALL).fit(X, Y[kind])
    assert not hasattr(one, name)
    with pytest.raises(AttributeError, match=rf"{name} is a private method .*: \w"):
        getattr(one, name)(X)


@both
def test_every_private_method_of_scikit_learn_s_is_here_or_elsewhere(kind):
    owners = (THEIRS[kind], _multilayer_perceptron.BaseMultilayerPerceptron)
    private = {
        name
        for owner in owners
        for name, value in vars(owner).items()
        if inspect.isfunction(value) and re.match(r"_[a-z]", name)
    }
    assert {"_init_coef", "_backprop", "_fit"} <= private
    for name in private:
        assert (name in ELSEWHERE) != callable(inspect.getattr_static(KINDS[kind], name)), name


@both
def test_what_a_refusal_names_can_be_used(kind):
    parameters = inspect.signature(KINDS[kind]).parameters
    for advice in ELSEWHERE.values():
        for word in re.findall(r"\b(\w+)=", advice):
            assert word in parameters, word


@both
def test_a_subclass_that_calls_no_init_of_ours_has_our_defaults(kind):
    names = inspect.signature(THEIRS[kind]).parameters

    class Mine(KINDS[kind]):
        def __init__(self, hidden_layer_sizes=(4,), max_iter=2, random_state=0):
            for name, parameter in names.items():
                setattr(self, name, parameter.default)
            self.hidden_layer_sizes = hidden_layer_sizes
            self.max_iter, self.random_state = max_iter, random_state

    one, plain = Mine().fit(X, Y[kind]), KINDS[kind](**SMALL).fit(X, Y[kind])
    assert np.array_equal(one.predict(X), plain.predict(X))
    assert clone(one).get_params() == one.get_params()
    for name, parameter in inspect.signature(KINDS[kind]).parameters.items():
        if name not in names:
            assert getattr(one, name) == parameter.default == getattr(Mine, name), name


@both
def test_a_subclass_may_wrap_fit_as_scikit_learn_has_it(kind):
    seen = []

    class Mine(KINDS[kind]):
        def _fit(self, X, y, sample_weight=None, incremental=False):
            seen.append(incremental)
            return super()._fit(X, y, sample_weight, incremental)

    one = Mine(**SMALL).fit(X, Y[kind])
    one.partial_fit(X, Y[kind])
    assert seen == [False, True]
    assert one.t_ == 3 * len(X)


# Habits.


@both
@pytest.mark.parametrize(
    ("solver", "rate", "name"),
    [
        (solver, rate, name)
        for solver, rate in [
            ("adam", "constant"), ("sgd", "constant"), ("sgd", "invscaling"), ("sgd", "adaptive"),
        ]
        for name in ("learning_rate", "learning_rate_init")
    ],
)  # fmt: skip
def test_a_learning_rate_set_between_epochs_counts_as_in_scikit_learn(kind, solver, rate, name):
    pair = []
    for classes in (KINDS, THEIRS):
        one = classes[kind](solver=solver, learning_rate=rate, **SMALL)
        more = {"classes": [0, 1]} if kind == "classifier" else {}
        one.partial_fit(X, Y[kind], **more)
        setattr(one._optimizer, name, 0.05)
        for _ in range(3):
            one.partial_fit(X, Y[kind])
        pair.append(one)
    ours, theirs = pair
    for a, b in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    assert ours._optimizer.learning_rate == pytest.approx(theirs._optimizer.learning_rate)
    assert ours._optimizer.learning_rate_init == theirs._optimizer.learning_rate_init


@pytest.mark.parametrize("solver", ["nadam", "rmsprop", "adagrad"])
@pytest.mark.parametrize("name", ["learning_rate", "learning_rate_init"])
def test_a_learning_rate_set_between_epochs_counts_for_the_library_s_solvers(solver, name):
    one = fn.MLPRegressor(solver=solver, **SMALL).partial_fit(X, X[:, 0])
    before = [W.copy() for W in one.coefs_]
    setattr(one._optimizer, name, 0.0)
    one.partial_fit(X, X[:, 0])
    for a, b in zip(one.coefs_, before, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    setattr(one._optimizer, name, 0.5)
    one.partial_fit(X, X[:, 0])
    assert not np.allclose(one.coefs_[0], before[0])


@pytest.mark.parametrize("rate", ["a", -1.0, np.nan, None])
def test_what_is_no_learning_rate_is_not_set(rate):
    one = fn.MLPRegressor(**SMALL).partial_fit(X, X[:, 0])
    for name in ("learning_rate", "learning_rate_init"):
        with pytest.raises((TypeError, ValueError), match=f"^{name} must"):
            setattr(one._optimizer, name, rate)


@both
@pytest.mark.parametrize("parameters", [{}, {"solver": "lbfgs"}, {"early_stopping": True}], ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_losses_are_numbers_of_numpy_s_where_scikit_learn_s_are(kind, parameters, dtype):
    pair = [
        classes[kind](**parameters, **SMALL).fit(X.astype(dtype), Y[kind])
        for classes in (KINDS, THEIRS)
    ]
    for name in ("loss_", "best_loss_", "loss_curve_"):
        ours, theirs = (getattr(one, name, None) for one in pair)
        if isinstance(theirs, list):
            ours, theirs = ours[-1], theirs[-1]
        assert hasattr(ours, "round") == hasattr(theirs, "round"), name
    assert round(pair[0].loss_, 2) == pair[0].loss_.round(2)


@both
def test_half_precision_weights_stay_what_they_are(kind):
    one = KINDS[kind](**SMALL).fit(X, Y[kind])
    one.coefs_ = [W.astype("f2") for W in one.coefs_]
    one.intercepts_ = [b.astype("f2") for b in one.intercepts_]
    for twin in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert {W.dtype for W in [*twin.coefs_, *twin.intercepts_]} == {np.dtype("f2")}
        assert np.array_equal(twin.predict(X), one.predict(X))
    assert one.network_.dtype == "float32"
    assert {W.dtype for W in one.to_sklearn().coefs_} == {np.dtype("f2")}


@pytest.mark.parametrize("y", [np.arange(40) % 2, np.arange(40) % 3, LABELS])
def test_an_output_activation_set_by_hand_shows_the_weighted_sums_as_there(y):
    ours = fn.MLPClassifier(**SMALL).fit(X, y)
    theirs = ours.to_sklearn()
    for one in (ours, theirs):
        one.out_activation_ = "identity"
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-10)
    assert np.array_equal(ours.predict(X), theirs.predict(X))
    assert not hasattr(ours, "decision_function")
    assert np.isfinite(ours.score(X, y))


# Words that are not the estimators'.


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda kind: kind(lr=0.1), "() has no argument 'lr'. Did you mean 'learning_rate_init'?"),
        (lambda kind: kind(verbos=1), "() has no argument 'verbos'. Did you mean 'verbose'?"),
        (lambda kind: kind(epochs=3), "Did you mean 'max_iter'?"),
        (lambda kind: kind(n_jobs=3), "Did you mean 'n_threads'?"),
        (lambda kind: kind(qqq=3), "It has "),
        (lambda kind: kind().fit(X, Y["regressor"], epochs=3), "(max_iter=...)."),
        (lambda kind: kind().fit(X, Y["regressor"], batch_size=3), "(batch_size=...)."),
        (lambda kind: kind().fit(X, Y["regressor"], validation_split=0.1), "early_stopping=True"),
        (lambda kind: kind().fit(X, Y["regressor"], sample_weights=X), "Did you mean 'sample_we"),
        (lambda kind: kind().partial_fit(X, Y["regressor"], lr=3), "(learning_rate_init=...)."),
        (lambda kind: kind().predict(X, batch_size=3), "(batch_size=...)."),
        (lambda kind: kind().score(X, Y["regressor"], metrics="r2"), "(monitor=...)."),
    ],
)
def test_an_argument_of_another_library_is_told(name, call, said):
    with pytest.raises(TypeError) as caught:
        call(KINDS[name])
    assert str(caught.value).startswith(KINDS[name].__name__)
    assert said in str(caught.value)


def test_a_parameter_to_set_that_is_none_is_told():
    with pytest.raises(ValueError, match=r"^Invalid parameter 'lr' for .*'learning_rate_init'\?"):
        fn.MLPClassifier().set_params(lr=0.1)
    with pytest.raises(ValueError, match="Did you mean 'alpha'"):
        fn.MLPRegressor().set_params(alpa=0.1)
    one = fn.MLPRegressor().set_params(alpha=0.5, tol=0.25)
    assert (one.alpha, one.tol) == (0.5, 0.25)


@pytest.mark.parametrize("kind", KINDS.values())
def test_signatures_are_the_classes_own(kind):
    names = set(inspect.signature(kind).parameters)
    assert names == set(kind().get_params())
    assert names | {"self"} == {
        *inspect.getfullargspec(kind.__init__).args,
        *inspect.getfullargspec(kind.__init__).kwonlyargs,
    }
    assert list(inspect.signature(kind.fit).parameters)[:4] == ["self", "X", "y", "sample_weight"]
    assert list(inspect.signature(kind().partial_fit).parameters)[:2] == ["X", "y"]
    assert clone(kind(5, tol=0.5)).get_params() == kind(5, tol=0.5).get_params()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["max_iter", "alpha", "random_state", "tol", "batch_size", "verbose", "momentum"]
)
def test_a_parameter_of_thousands_of_digits_is_told(kind, name):
    with pytest.raises(ValueError, match=rf"^{name} must be an? .*; got about 10\*\*5000 \(int\)"):
        KINDS[kind](**{name: 10**5000}).fit(X, Y[kind])
    with pytest.raises(
        ValueError, match=r"^hidden_layer_sizes must hold .*got \(about 10\*\*5000,"
    ):
        KINDS[kind](hidden_layer_sizes=(10**5000,)).fit(X, Y[kind])


def test_a_private_method_that_is_set_later_is_refused():
    class Mine(fn.MLPRegressor):
        pass

    Mine(**SMALL).fit(X, Y["regressor"])
    Mine._backprop = lambda self: None
    with pytest.raises(TypeError, match="Mine must not override _backprop, a private method"):
        Mine(**SMALL).fit(X, Y["regressor"])
    del Mine._backprop
    one = Mine(**SMALL).fit(X, Y["regressor"])
    with pytest.raises(AttributeError, match="_init_coef must not be set"):
        one._init_coef = lambda self: None
