"""scikit-learn's estimator checks, and that we fail none which its own classes pass."""

from __future__ import annotations

import pytest

pytest.importorskip("sklearn.callback")

from sklearn import neural_network
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

import fastnn as fn

# Short fits warn, and some checks leave random_state alone.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.global_random]

# No check may fail.
FLAWLESS = [
    {},
    {"solver": "sgd", "activation": "tanh"},
    {"solver": "lbfgs", "activation": "logistic"},
]

# With these scikit-learn's own classes fail some checks.
OTHERS = [
    {"batch_size": 13, "max_iter": 50},
    {"early_stopping": True},
    {"solver": "sgd", "learning_rate": "adaptive", "nesterovs_momentum": False},
    {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0.5, "shuffle": False},
    {"hidden_layer_sizes": (7, 5), "activation": "identity", "alpha": 0.1},
    {"warm_start": True},
    {"max_iter": 20, "tol": 0.01, "n_iter_no_change": 3, "random_state": 3},
    {"solver": "lbfgs", "max_iter": 5, "max_fun": 20},
    {"hidden_layer_sizes": (), "beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.1},
]

# The check of class_weight asks for a class that outweighs all others by ten million: too much for
# five validation examples, a learning rate that dies out, and no hidden layer.
TOO_WEAK = [OTHERS[1], OTHERS[3], OTHERS[8]]

# What is ours alone must pass what nothing else does.
OURS_ALONE = [
    {"dtype": "float64", "max_time": 60.0},
    {"learning_rate": "one_cycle", "learning_rate_init": 0.005},
    {"learning_rate": fn.Warmup(2), "solver": "nadam"},
]
LAYERS = [fn.Dense(32, "relu"), fn.LayerNorm(), fn.Residual([fn.Dense(32, "tanh")]), fn.PReLU()]
LOSSES = [
    fn.MLPClassifier(layers=LAYERS, learning_rate_init=0.005),
    fn.MLPRegressor(layers=LAYERS, scale_targets=True),
    fn.MLPClassifier(standardize=True),
    fn.MLPRegressor(standardize=True, scale_targets=True),
    fn.MLPClassifier(loss="hinge"),
    fn.MLPClassifier(loss="mean_squared_error", learning_rate="cosine"),
    fn.MLPRegressor("gaussian_nll", learning_rate="plateau"),
]

# With dropout an example that comes twice loses other units each time, one that weighs twice not.
EXEMPT = dict.fromkeys(
    (
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weight_equivalence_on_sparse_data",
    ),
    "what is dropped is drawn for each example of a batch",
)


@parametrize_with_checks(
    [
        kind(**parameters)
        for kind in (fn.MLPClassifier, fn.MLPRegressor)
        for parameters in [*FLAWLESS, *OURS_ALONE]
    ]
    + LOSSES
)
def test_checks(estimator, check):
    check(estimator)


@parametrize_with_checks(
    [kind(dropout=0.2) for kind in (fn.MLPClassifier, fn.MLPRegressor)],
    expected_failed_checks=lambda estimator: EXEMPT,
    xfail_strict=True,
)
def test_checks_with_dropout(estimator, check):
    check(estimator)


def failures(estimator):
    """Return the checks that an estimator fails, by name, with what would run them again."""
    failed = {}
    for one, check in estimator_checks_generator(estimator, mark="skip"):
        try:
            check(one)
        except Exception as problem:
            if type(problem).__name__ not in ("SkipTest", "Skipped"):
                failed[_name(check)] = check
    return failed


def passes(check, name, estimator):
    """Tell whether an estimator passes a check that was made for another."""
    try:
        check.func(name, estimator, **check.keywords)
    except Exception:
        return False
    return True


def _name(check):
    """Return the name of a check, which may be a partial, with its own arguments."""
    arguments = {k: v for k, v in check.keywords.items() if k != "estimator"}
    return f"{check.func.__name__} {check.args[1:]} {arguments}"


@pytest.mark.parametrize("parameters", OTHERS, ids=str)
@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_what_we_fail_scikit_learn_fails_too(name, parameters):
    if name == "MLPRegressor" and parameters.get("warm_start"):
        parameters = {**parameters, "loss": "poisson"}
    ours = getattr(fn, name)(**parameters)
    theirs = getattr(neural_network, name)(**parameters)
    for what, check in failures(ours).items():
        if what.startswith("check_class_weight_classifiers"):
            # scikit-learn's class has no such parameter.
            assert parameters in TOO_WEAK
            continue
        # scikit-learn runs some checks of its own classes with other parameters; here, the same.
        assert not passes(check, name, theirs), what
