"""Side by side with the installed scikit-learn: the same weights, curves, words and errors."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn.callback")

from scipy import sparse
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import get_tags

import fastnn as fn

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

OURS = {"classifier": fn.MLPClassifier, "regressor": fn.MLPRegressor}
THEIRS = {
    "classifier": neural_network.MLPClassifier,
    "regressor": neural_network.MLPRegressor,
}

_rng = np.random.RandomState(0)
X = _rng.normal(size=(120, 6))
_f = np.sin(X[:, 0]) + X[:, 1]
WEIGHTS = _rng.uniform(0.1, 2.0, size=120)
PROBLEMS = {
    "multiclass": ("classifier", np.digitize(_f, [-0.5, 0.7])),
    "strings": ("classifier", np.array(["no", "maybe", "yes"])[np.digitize(_f, [-0.5, 0.7])]),
    "binary": ("classifier", _f > 0),
    "multilabel": ("classifier", np.stack([_f > 0, X[:, 2] > 0, X[:, 3] > 1], 1).astype(int)),
    "one output": ("regressor", _f),
    "two outputs": ("regressor", np.stack([_f, X[:, 2] ** 2], axis=1)),
}
COUNTS = np.exp(_f).round()
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
SOLVERS = ("adam", "sgd")
SMALL = {"hidden_layer_sizes": (9, 5), "max_iter": 20, "batch_size": 32, "random_state": 3}


def pair(kind, **parameters):
    """Return ours and theirs with the same parameters."""
    return OURS[kind](**parameters), THEIRS[kind](**parameters)


def apart(ours, theirs):
    """Return the largest difference of all weights, as a part of the largest of their array."""
    arrays = zip(
        [*ours.coefs_, *ours.intercepts_], [*theirs.coefs_, *theirs.intercepts_], strict=True
    )
    found = 0.0
    for one, other in arrays:
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        found = max(found, np.abs(one - other).max() / np.abs(other).max())
    return found


def both(problem, X=X, weights=None, **parameters):
    """Return ours and theirs after fitting a problem."""
    kind, y = PROBLEMS[problem]
    return [one.fit(X, y, weights) for one in pair(kind, **parameters)]


def same_curves(ours, theirs, rel=1e-9):
    """Hold every recorded number of a stochastic fit against theirs."""
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.t_ == theirs.t_
    assert ours.loss_curve_ == pytest.approx(theirs.loss_curve_, rel=rel)
    assert ours.loss_ == ours.loss_curve_[-1]
    assert ours._no_improvement_count == theirs._no_improvement_count
    assert ours._optimizer.learning_rate == pytest.approx(theirs._optimizer.learning_rate)
    for name in ("best_loss_", "best_validation_score_", "validation_scores_"):
        expected = getattr(theirs, name)
        if expected is None:
            assert getattr(ours, name) is None
        else:
            assert getattr(ours, name) == pytest.approx(expected, rel=rel, abs=1e-12)


# The same weights.


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_twenty_epochs_give_the_same_weights(problem, solver, activation):
    for weights in (None, WEIGHTS):
        ours, theirs = both(
            problem, weights=weights, solver=solver, activation=activation,
            learning_rate_init=0.01, **SMALL,
        )  # fmt: skip
        assert apart(ours, theirs) < 1e-9
        same_curves(ours, theirs)


@pytest.mark.parametrize(
    "parameters",
    [
        {"shuffle": False},
        {"early_stopping": True},
        {"early_stopping": True, "validation_fraction": 0.3, "solver": "sgd"},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": 1, "alpha": 3.0},
        {"alpha": 0},
        {"batch_size": "auto"},
        {"batch_size": 1, "max_iter": 2},
        {"batch_size": 7, "alpha": 0.5},
        {"beta_1": 0.0, "beta_2": 0.5, "epsilon": 0.1},
        {"solver": "sgd", "momentum": 0.0},
        {"solver": "sgd", "momentum": 1.0, "learning_rate_init": 1e-4},
        {"solver": "sgd", "momentum": 0.5, "nesterovs_momentum": False},
        {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.5},
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.1},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_parameter_means_the_same(problem, parameters):
    for weights in (None, WEIGHTS):
        ours, theirs = both(problem, weights=weights, **SMALL | parameters)
        assert apart(ours, theirs) < 1e-9
        same_curves(ours, theirs)


@pytest.mark.parametrize("solver", SOLVERS)
def test_poisson(solver):
    for y in (COUNTS, np.stack([COUNTS, COUNTS[::-1]], axis=1)):
        for weights in (None, WEIGHTS):
            for early in (False, True):
                ours, theirs = pair(
                    "regressor", loss="poisson", solver=solver, early_stopping=early, **SMALL
                )
                ours.fit(X, y, weights)
                theirs.fit(X, y, weights)
                assert apart(ours, theirs) < 1e-9
                same_curves(ours, theirs)
                assert ours.out_activation_ == theirs.out_activation_ == "exp"


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
@pytest.mark.parametrize("problem", ["multiclass", "one output"])
def test_any_seed_gives_the_same_weights(problem, seed):
    ours, theirs = both(problem, **SMALL | {"random_state": seed})
    assert apart(ours, theirs) < 1e-9


def test_a_random_state_is_drawn_from_in_the_same_order():
    rngs = np.random.RandomState(7), np.random.RandomState(7)
    y = PROBLEMS["multiclass"][1]
    ours, theirs = [
        kind(**SMALL | {"random_state": rng, "early_stopping": True}).fit(X, y)
        for kind, rng in zip((fn.MLPClassifier, THEIRS["classifier"]), rngs, strict=True)
    ]
    assert apart(ours, theirs) < 1e-9
    assert rngs[0].randint(2**31) == rngs[1].randint(2**31)
    assert ours._random_state is rngs[0]


@pytest.mark.global_random
def test_without_a_seed_the_global_generator_is_drawn_from():
    fitted = []
    for kind in (fn.MLPRegressor, THEIRS["regressor"]):
        np.random.seed(5)
        fitted.append(kind(**SMALL | {"random_state": None}).fit(X, _f))
    assert apart(*fitted) < 1e-9


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("parameters", [{}, {"early_stopping": True, "learning_rate_init": 0.01}])
def test_a_fit_ends_at_the_same_epoch(problem, parameters):
    ours, theirs = both(
        problem, hidden_layer_sizes=8, max_iter=3000, tol=2e-4, random_state=0, **parameters
    )
    assert 12 < ours.n_iter_ < 3000
    same_curves(ours, theirs, rel=1e-6)
    assert apart(ours, theirs) < 1e-6


@pytest.mark.parametrize("numbers", [(0, 5), (-1, 1), (1, 2), (0.0, 2.0)], ids=str)
@pytest.mark.parametrize("parameters", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_several_labels_by_any_two_numbers_are_taken_alike(numbers, parameters):
    y = np.where(np.stack([_f > 0.8, X[:, 2] > 0], axis=1), numbers[1], numbers[0])
    ours, theirs = (one.fit(X, y) for one in pair("classifier", **SMALL | parameters))
    assert apart(ours, theirs) < 1e-6
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-6)


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_array, sparse.csr_matrix])
@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
def test_sparse_numbers_to_predict_are_taken_as_dense_ones(columns, form):
    y = np.where(X[:, :columns] > 0, X[:, :columns], 0.0)
    for parameters in ({}, {"early_stopping": True}, {"solver": "lbfgs", "max_iter": 5}):
        dense, thin = (OURS["regressor"](**SMALL | parameters) for _ in range(2))
        assert apart(thin.fit(X, form(y)), dense.fit(X, y)) == 0.0
        assert apart(thin, THEIRS["regressor"](**SMALL | parameters).fit(X, y)) < 1e-6


@pytest.mark.parametrize("problem", PROBLEMS)
def test_features_that_are_not_scaled_give_the_same_weights(problem):
    # Probabilities come out at 0 and 1, where scikit-learn clips them, and close to 1, where it
    # has lost most digits of what is left to 1 when it takes the logarithm.
    ours, theirs = both(problem, X=1000 * X, solver="adam", **SMALL)
    assert apart(ours, theirs) < 1e-9
    same_curves(ours, theirs, rel=1e-3)


def test_the_clipped_loss_is_what_stops_a_hopeless_fit():
    ours, theirs = both("multilabel", X=1e6 * X, max_iter=300, tol=0.1, random_state=0)
    assert ours.n_iter_ < 300
    same_curves(ours, theirs, rel=1e-6)


# L-BFGS.


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_lbfgs_ends_at_the_same_loss(problem, activation):
    # Where it converges, or before rounding has grown: later two runs of scikit-learn itself,
    # on a dense and on a sparse matrix, end at losses that differ in the second digit.
    for X_ in (X, sparse.csr_array(X)):
        for weights in (None, WEIGHTS):
            ours, theirs = both(
                problem, X=X_, weights=weights, solver="lbfgs", activation=activation,
                hidden_layer_sizes=(9, 5), max_iter=20, random_state=3,
            )  # fmt: skip
            assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-6)
            assert ours.n_iter_ == theirs.n_iter_
            assert apart(ours, theirs) < 1e-4


@pytest.mark.parametrize("problem", PROBLEMS)
def test_lbfgs_converges_to_the_same_loss(problem):
    ours, theirs = both(
        problem, solver="lbfgs", activation="tanh", hidden_layer_sizes=5, alpha=5.0,
        max_iter=2000, random_state=0,
    )  # fmt: skip
    assert ours.n_iter_ < 2000
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-6)


def test_lbfgs_stops_at_its_limits():
    for parameters in ({"max_iter": 4}, {"max_fun": 6}):
        messages = []
        for one in pair("regressor", solver="lbfgs", random_state=0, **parameters):
            with pytest.warns(ConvergenceWarning) as seen:
                one.fit(X, _f)
            messages.append((str(seen[0].message), one.n_iter_))
        assert messages[0] == messages[1]


def test_lbfgs_poisson():
    ours, theirs = pair(
        "regressor", loss="poisson", solver="lbfgs", hidden_layer_sizes=4, max_iter=20,
        random_state=0,
    )  # fmt: skip
    for weights in (None, WEIGHTS):
        assert ours.fit(X, COUNTS, weights).loss_ == pytest.approx(
            theirs.fit(X, COUNTS, weights).loss_, rel=1e-6
        )


# What comes out.


@pytest.mark.parametrize("solver", [*SOLVERS, "lbfgs"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_predictions_are_the_same(problem, solver):
    kind, y = PROBLEMS[problem]
    ours, theirs = both(problem, solver=solver, **SMALL | {"max_iter": 10})
    for X_ in (
        X, X.tolist(), np.asfortranarray(X), X[::2], X[:1], X.astype("f4"), X.round().astype(int),
        sparse.csr_array(X), sparse.csc_matrix(X),
    ):  # fmt: skip
        found, expected = ours.predict(X_), theirs.predict(X_)
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        if kind == "regressor":
            assert found == pytest.approx(expected, rel=1e-6)
            continue
        assert (found == expected).all()
        for method in ("predict_proba", "predict_log_proba"):
            found, expected = getattr(ours, method)(X_), getattr(theirs, method)(X_)
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-12)
    assert ours.score(X, y, WEIGHTS) == pytest.approx(theirs.score(X, y, WEIGHTS))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_float32_stays_and_agrees_to_rounding(problem):
    kind = PROBLEMS[problem][0]
    single = X.astype("f4")
    ours, theirs = both(problem, X=single, **SMALL)
    assert apart(ours, theirs) < 1e-4
    same_curves(ours, theirs, rel=1e-4)
    found, expected = ours.predict(single), theirs.predict(single)
    assert found.dtype == expected.dtype
    if kind == "regressor":
        assert found.dtype == np.float32
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
        assert ours.predict(X).dtype == theirs.predict(X).dtype == np.float64
    else:
        assert (found == expected).all()
        assert ours.predict_proba(single).dtype == np.float32


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_array, sparse.csr_matrix])
@pytest.mark.parametrize("solver", [*SOLVERS, "lbfgs"])
@pytest.mark.parametrize("problem", ["multiclass", "two outputs"])
def test_sparse_features_give_the_dense_weights_bit_for_bit(problem, solver, form):
    kind, y = PROBLEMS[problem]
    holes = np.where(np.abs(X) > 1, X, 0.0)
    for early in (False, True):
        for weights in (None, WEIGHTS):
            settings = SMALL | {"solver": solver, "early_stopping": early, "max_iter": 8}
            dense = OURS[kind](**settings).fit(holes, y, weights)
            thin = OURS[kind](**settings).fit(form(holes), y, weights)
            theirs = THEIRS[kind](**settings).fit(form(holes), y, weights)
            for one, other in zip(dense.coefs_, thin.coefs_, strict=True):
                assert one.tobytes() == other.tobytes()
            assert apart(thin, theirs) < 1e-6
            assert (thin.predict(form(holes)) == dense.predict(holes)).all()


@pytest.mark.parametrize("kind", OURS)
def test_one_class_or_one_example_is_fitted_all_the_same(kind):
    for X_, y in (([[1.0, 2.0]], [3]), (X[:5], [1, 1, 1, 1, 1])):
        ours, theirs = (one.fit(X_, y) for one in pair(kind, **SMALL | {"batch_size": 1}))
        assert apart(ours, theirs) < 1e-9
        assert ours.predict(X_) == pytest.approx(theirs.predict(X_))


# Going on.


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_partial_fit_goes_on_in_the_same_way(problem, solver):
    kind, y = PROBLEMS[problem]
    ours, theirs = pair(kind, **SMALL | {"solver": solver, "learning_rate": "adaptive"})
    first = {"classes": np.unique(y)} if kind == "classifier" else {}
    if problem == "multilabel":
        first = {"classes": [0, 1, 2]}
    for one in (ours, theirs):
        for start in (0, 40, 80, 0):
            rows = slice(start, start + 40)
            one.partial_fit(X[rows], y[rows], WEIGHTS[rows], **first)
    assert apart(ours, theirs) < 1e-9
    same_curves(ours, theirs)
    for one in (ours, theirs):
        one.set_params(learning_rate_init=0.5).partial_fit(X, y)
    assert apart(ours, theirs) < 1e-9


@pytest.mark.parametrize("solver", [*SOLVERS, "lbfgs"])
@pytest.mark.parametrize("early", [False, True], ids=["", "early"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_warm_start_goes_on_in_the_same_way(problem, solver, early):
    kind, y = PROBLEMS[problem]
    settings = SMALL | {"solver": solver, "early_stopping": early, "max_iter": 5}
    ours, theirs = pair(kind, warm_start=True, **settings)
    for one in (ours, theirs):
        for _ in range(3):
            one.fit(X, y)
    assert apart(ours, theirs) < (1e-4 if solver == "lbfgs" else 1e-9)
    assert ours.n_iter_ == theirs.n_iter_
    if solver != "lbfgs":
        same_curves(ours, theirs)
        for one in (ours, theirs):
            one.set_params(early_stopping=False)
        if not early:
            assert apart(ours.partial_fit(X, y), theirs.partial_fit(X, y)) < 1e-9


# What is said.


@pytest.mark.parametrize(
    "parameters",
    [
        {"verbose": True, "max_iter": 3},
        {"verbose": 10, "max_iter": 3, "early_stopping": True},
        {"verbose": True, "tol": 1.0, "n_iter_no_change": 1},
        {"verbose": True, "tol": 1.0, "n_iter_no_change": 1, "early_stopping": True},
        {"verbose": True, "tol": 1.0, "n_iter_no_change": 1, "solver": "sgd",
         "learning_rate": "adaptive", "max_iter": 40},
        {"verbose": True, "solver": "lbfgs"},
    ],
    ids=str,
)  # fmt: skip
def test_the_same_is_printed(parameters, capsys):
    printed = []
    for one in pair("classifier", **SMALL | parameters):
        one.fit(X, PROBLEMS["multiclass"][1])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert bool(printed[0]) == (parameters.get("solver") != "lbfgs")


def test_warnings_are_the_same():
    for parameters in ({"max_iter": 2}, {"batch_size": 500, "max_iter": 2}):
        said = []
        for one in pair("regressor", **SMALL | parameters):
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                one.fit(X, _f[:, np.newaxis])
            said.append([(entry.category, str(entry.message)) for entry in seen])
        assert said[0] == said[1]
        assert said[0]


def test_warnings_point_to_the_caller():
    one = fn.MLPRegressor(**SMALL | {"max_iter": 1, "batch_size": 500})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        one.fit(X, _f)
        one.set_params(warm_start=True, hidden_layer_sizes=3).fit(X, _f)
        one.set_params(solver="lbfgs").fit(X, _f)
    assert len(seen) == 7
    assert {entry.filename for entry in seen} == {__file__}


BAD_PARAMETERS = [
    {"hidden_layer_sizes": -1}, {"hidden_layer_sizes": (4, 0)}, {"activation": "ghost"},
    {"solver": "ghost"}, {"alpha": -1}, {"alpha": "1"}, {"batch_size": 0}, {"batch_size": 1.5},
    {"learning_rate": "ghost"}, {"learning_rate_init": 0}, {"learning_rate_init": -1},
    {"power_t": -1}, {"max_iter": 0}, {"max_iter": 1.0}, {"shuffle": "yes"},
    {"random_state": -1}, {"random_state": "x"}, {"tol": -1}, {"verbose": -1}, {"warm_start": 2},
    {"momentum": 1.1}, {"momentum": -0.1}, {"nesterovs_momentum": None}, {"early_stopping": "x"},
    {"early_stopping": True, "validation_fraction": 1.0}, {"validation_fraction": -0.1},
    {"early_stopping": True, "validation_fraction": 0.999}, {"beta_1": 1.0}, {"beta_1": -0.5},
    {"beta_2": 1.0}, {"beta_2": -0.5}, {"epsilon": 0}, {"epsilon": -0.5},
    {"n_iter_no_change": 0}, {"n_iter_no_change": 1.5}, {"max_fun": 0}, {"max_fun": 0.5},
    {"early_stopping": True, "validation_fraction": 0.0},
]  # fmt: skip


@pytest.mark.parametrize("parameters", BAD_PARAMETERS, ids=str)
@pytest.mark.parametrize("kind", OURS)
def test_bad_parameters_are_refused_alike(kind, parameters):
    y = np.arange(len(X)) % 2
    said = []
    for one in pair(kind, **{"random_state": 0} | parameters):
        with pytest.raises(ValueError) as problem:  # noqa: PT011  (compared below)
            one.fit(X, y)
        said.append((type(problem.value), str(problem.value)))
    assert said[0][0] is said[1][0]
    # Ours may offer more, and a set of choices is listed in no order.
    if not {"activation", "solver", "learning_rate"} & set(parameters):
        assert said[0][1] == said[1][1]
    assert any(name in said[0][1] for name in (*parameters, "test_size", "validation"))


@pytest.mark.parametrize("kind", OURS)
def test_bad_data_are_refused_alike(kind):
    y = np.arange(len(X)) % 3
    holes, far = X.copy(), X.copy()
    holes[3, 2], far[0, 0] = np.nan, np.inf
    nan_y = y.astype(float)
    nan_y[0] = np.nan
    calls = [
        ((holes, y), {}), ((far, y), {}), ((X[0], y), {}), ((X[None], y), {}), ((X, y[:-1]), {}),
        ((X[:0], y[:0]), {}), ((X[:, :0], y), {}), ((X, None), {}), ((X, nan_y), {}),
        ((X * 1j, y), {}), ((X, y, WEIGHTS[:-1]), {}), ((X, y, WEIGHTS[:, None]), {}),
        ((X, y, 0 * WEIGHTS), {}), ((X, y, nan_y), {}), ((sparse.dok_array(X), y[:-1]), {}),
        ((sparse.csr_array(holes), y), {}), (("text", y), {}), ((5, y), {}),
        ((X, np.stack([y, y + 1, y], 1)[None]), {}),
    ]  # fmt: skip
    if kind == "classifier":
        calls += [((X, X[:, 0]), {}), ((X, np.stack([y, y + 3], 1)), {})]
    for arguments, keywords in calls:
        said = []
        for one in pair(kind, **SMALL):
            with pytest.raises((ValueError, TypeError)) as problem:
                one.fit(*arguments, **keywords)
            said.append((type(problem.value), str(problem.value).replace(repr(one), "")))
        assert said[0] == said[1]


def test_wrong_ways_to_go_on_are_refused_alike():
    y = PROBLEMS["multiclass"][1]
    stories = [
        lambda one: one.partial_fit(X, y),
        lambda one: one.partial_fit(X, y, classes=[0, 1]),
        lambda one: one.fit(X, y).partial_fit(X, y + 1),
        lambda one: one.fit(X, y).partial_fit(X[:, :2], y),
        lambda one: one.fit(X, y).partial_fit(X, y, classes=[0, 1]),
        lambda one: one.set_params(warm_start=True).fit(X, y).fit(X, y + 1),
        lambda one: one.set_params(warm_start=True).fit(X, y).fit(X[:, :2], y),
        lambda one: one.set_params(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2]),
        lambda one: one.predict(X),
        lambda one: one.fit(X, y).predict(X[:, :2]),
        lambda one: one.fit(X, y).predict(X[0]),
        lambda one: one.fit(X, y).predict(np.full_like(X, np.nan)),
        lambda one: one.set_params(solver="lbfgs").partial_fit(X, y),
    ]
    for place, story in enumerate(stories):
        said = []
        for one in pair("classifier", **SMALL | {"max_iter": 2}):
            with pytest.raises((ValueError, AttributeError)) as problem:
                story(one)
            said.append((type(problem.value), str(problem.value)))
        assert said[0] == said[1], place


# What they look like.


@pytest.mark.parametrize("kind", OURS)
def test_signatures_begin_as_theirs(kind):
    for name in ("__init__", "fit", "partial_fit", "predict", "score"):
        ours, theirs = (
            inspect.signature(getattr(side[kind], name)).parameters for side in (OURS, THEIRS)
        )
        shared = list(ours.values())[: len(theirs)]
        assert [(p.name, p.default, p.kind) for p in shared] == [
            (p.name, p.default, p.kind) for p in theirs.values()
        ]
        more = list(ours.values())[len(theirs) :]
        # "own" searches as scikit-learn does, but for rounding; "error" refuses what it refuses.
        off = (None, "auto", "log_loss", False, 0.0, "own", "error")
        assert all(p.kind is p.KEYWORD_ONLY and p.default in off for p in more)


@pytest.mark.parametrize("solver", [*SOLVERS, "lbfgs"])
@pytest.mark.parametrize("kind", OURS)
def test_attributes_are_theirs_and_a_few_more(kind, solver):
    y = np.arange(len(X)) % 3
    ours, theirs = (one.fit(X, y) for one in pair(kind, **SMALL | {"solver": solver}))
    public = [
        {name: value for name, value in vars(one).items() if name.endswith("_")}
        for one in (ours, theirs)
    ]
    assert public[0].keys() - public[1].keys() <= {"validation_loss_curve_"}
    assert public[1].keys() <= public[0].keys()
    for name, value in public[1].items():
        found = public[0][name]
        if isinstance(value, (int, str, type(None))):
            assert found == value, name
        assert isinstance(found, type(value)) or np.isscalar(value), name
    assert hasattr(ours, "partial_fit") == (solver != "lbfgs")
    assert (getattr(ours, "loss", None)) == theirs.loss


@pytest.mark.parametrize("kind", OURS)
def test_tags_are_theirs(kind):
    assert get_tags(OURS[kind]()) == get_tags(THEIRS[kind]())
