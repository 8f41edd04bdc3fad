"""`partial_fit`, call after call: the short way is the long one, to the last bit and word."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
from scipy import sparse

import fastnn as fn
from fastnn.estimators.base import Perceptron
from fastnn.fitting import kept

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
NUMBERS = np.sin(X[:, 0])
SEVERAL = np.cos(X[:, :3])
CLASSES = RNG.integers(0, 3, size=60)
TWO = (NUMBERS > 0).astype(int)
WORDS = np.array(["left", "on", "right"])[CLASSES]
LABELS = (SEVERAL > 0.5).astype(int)
WEIGHTS = RNG.uniform(0.1, 2.0, size=60)
ROWS = [1, 1, 3, 7, 1, 33, 2, 60, 1]
SMALL = {"hidden_layer_sizes": (9,), "random_state": 0}

# The class, its parameters, y, and what the first call has beside.
CASES = {
    "two classes": ("MLPClassifier", {}, TWO, {"classes": [0, 1]}),
    "classes": ("MLPClassifier", {"solver": "sgd"}, CLASSES, {"classes": [0, 1, 2]}),
    "words": ("MLPClassifier", {"activation": "tanh"}, WORDS, {"classes": np.unique(WORDS)}),
    "labels": ("MLPClassifier", {"alpha": 0.3}, LABELS, {"classes": [0, 1, 2]}),
    "whole floats": ("MLPClassifier", {}, CLASSES.astype(float), {"classes": [0, 1, 2]}),
    "hinge": ("MLPClassifier", {"loss": "hinge"}, CLASSES, {"classes": [0, 1, 2]}),
    "numbers": ("MLPRegressor", {"solver": "sgd", "momentum": 0.5}, NUMBERS, {}),
    "several numbers": ("MLPRegressor", {}, SEVERAL, {}),
    "variances": ("MLPRegressor", {"loss": "gaussian_nll"}, NUMBERS, {}),
    "no order": ("MLPRegressor", {"shuffle": False}, NUMBERS, {}),
    "dropout": ("MLPRegressor", {"dropout": 0.3, "hidden_layer_sizes": [9, 5]}, NUMBERS, {}),
    "clipped": ("MLPRegressor", {"clip_norm": 0.1, "solver": "rmsprop"}, NUMBERS, {}),
    "slower": (
        "MLPRegressor",
        {"solver": "sgd", "learning_rate": "invscaling", "nesterovs_momentum": False},
        NUMBERS,
        {},
    ),
    "impatient": (
        "MLPRegressor",
        {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 1.0},
        NUMBERS,
        {},
    ),
    "a generator": (
        "MLPRegressor",
        {"random_state": np.random.RandomState(5), "dropout": 0.2},
        NUMBERS,
        {},
    ),
    "no hidden layer": ("MLPClassifier", {"hidden_layer_sizes": ()}, TWO, {"classes": [0, 1]}),
}


def begun(case, dtype="float64"):
    """Return an estimator after its first call, and its targets."""
    kind, more, y, first = CASES[case]
    one = getattr(fn, kind)(**copy.deepcopy(SMALL | more))
    return one.partial_fit(X[:40].astype(dtype), y[:40], **first), y


def anew(one):
    """Return a copy, which keeps no plan."""
    return copy.deepcopy(one)


def state(one):
    """Return all that an estimator has learnt, to the last bit."""
    seen = {
        name: value
        for name, value in vars(one).items()
        if name.endswith("_") or name == "_no_improvement_count"
    }
    pace = one._optimizer
    moved = pace.state.moments, pace.state.numbers, pace.learning_rate
    drawn = one._random_state.get_state(legacy=False)
    return pickle.dumps([sorted(seen.items()), moved, drawn])


@pytest.fixture
def long_ways(monkeypatch):
    """Count the calls that go the long way."""
    taken, fit = [], Perceptron._fit

    def counted(self, *given, **more):
        taken.append(self)
        return fit(self, *given, **more)

    monkeypatch.setattr(Perceptron, "_fit", counted)
    return taken


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_the_short_way_learns_what_the_long_one_does(case, weighted, dtype, long_ways):
    one, y = begun(case, dtype)
    one.partial_fit(X[:60].astype(dtype), y[:60])
    for place, rows in enumerate(ROWS):
        some = RNG.permutation(60)[:rows]
        given = X[some].astype(dtype if place % 3 else "float64"), y[some]
        more = {"sample_weight": WEIGHTS[some]} if weighted else {}
        twin = anew(one)
        assert twin.partial_fit(*given, **more) is twin
        before = len(long_ways)
        assert one.partial_fit(*given, **more) is one
        assert len(long_ways) == before
        assert state(one) == state(twin)


def test_lists_and_known_classes_go_the_short_way_too(long_ways):
    one, _ = begun("words")
    twin, before = anew(one), len(long_ways)
    one.partial_fit(X[:2], ["on", "left"], classes=["right", "left", "on"])
    assert len(long_ways) == before
    assert state(one) == state(twin.partial_fit(X[:2], np.array(["on", "left"])))


def pandas():
    """Return pandas, where it is there."""
    return pytest.importorskip("pandas")


def heard(ask):
    """Return the outcome of a call: what it warned of, and what it raised."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            ask()
            raised = None
        except Exception as problem:
            raised = type(problem), str(problem)
    return [(one.category, str(one.message)) for one in said], raised


def _changed(array, value):
    array = array.copy()
    array[0] = value
    return array


# What a call may bring that is looked at closely, or refused.
UNUSUAL = {
    "NaN": lambda y: (_changed(X[:3], np.nan), y[:3]),
    "infinity": lambda y: (_changed(X[:3], np.inf), y[:3]),
    "another width": lambda y: (X[:3, :2], y[:3]),
    "a vector": lambda y: (X[0], y[:1]),
    "no example": lambda y: (X[:0], y[:0]),
    "integers": lambda y: (X[:3].astype(int), y[:3]),
    "halves": lambda y: (X[:3].astype(np.float16), y[:3]),
    "text": lambda y: (X[:3].astype(str), y[:3]),
    "objects": lambda y: (X[:3].astype(object), y[:3]),
    "a list": lambda y: (X[:3].tolist(), y[:3]),
    "strides": lambda y: (np.asfortranarray(X[:9])[::2], y[:9:2]),
    "the other byte order": lambda y: (X[:3].astype(X.dtype.newbyteorder()), y[:3]),
    "a frame": lambda y: (pandas().DataFrame(X[:3], columns=list("abcd")), y[:3]),
    "sparse": lambda y: (sparse.csr_array(X[:3]), y[:3]),
    "too few targets": lambda y: (X[:3], y[:2]),
    "a column": lambda y: (X[:3], y[:3].reshape(3, -1)),
    "one number": lambda y: (X[:1], y[0]),
    "unknown targets": lambda y: (X[:3], np.full(3, 77.5)),
    "NaN as target": lambda y: (X[:3], np.full(y[:3].shape, np.nan)),
    "bytes": lambda y: (X[:3], np.full(3, b"on")),
    "a series": lambda y: (X[:3], pandas().Series(list(y[:3]))),
    "nothing": lambda y: (X[:3], None),
    "many targets of many kinds": lambda y: (X[:30], np.arange(30)),
    "weights of 0": lambda y: (X[:3], y[:3], np.zeros(3)),
    "weights below 0": lambda y: (X[:3], y[:3], np.array([-1.0, 2.0, 3.0])),
    "one weight": lambda y: (X[:3], y[:3], 2.0),
    "too few weights": lambda y: (X[:3], y[:3], np.ones(2)),
    "a list of weights": lambda y: (X[:3], y[:3], [1, 2, 3]),
    "NaN as weight": lambda y: (X[:3], y[:3], np.full(3, np.nan)),
    "tiny weights": lambda y: (X[:3], y[:3], np.full(3, 1e-320)),
    "classes in the fourth place": lambda y: (X[:3], y[:3], None, [0, 1, 2]),
    "other classes": lambda y: (X[:3], y[:3], None, [0, 1, 5]),
    "classes of another kind": lambda y: (X[:3], y[:3], None, ["a", "b", "c"]),
    "beyond the batch": lambda y: (np.tile(X, (6, 1)), np.concatenate([y] * 6)),
}


@pytest.mark.parametrize("unusual", UNUSUAL)
@pytest.mark.parametrize("case", ["classes", "words", "labels", "numbers", "several numbers"])
def test_what_is_unusual_is_answered_as_ever(case, unusual):
    one, y = begun(case)
    twin = anew(one)
    given = UNUSUAL[unusual](y)
    assert heard(lambda: one.partial_fit(*given)) == heard(lambda: twin.partial_fit(*given))
    assert state(one) == state(twin)
    one.partial_fit(X[:5], y[:5])
    assert state(one) == state(anew(twin).partial_fit(X[:5], y[:5]))


@pytest.mark.parametrize(
    "call",
    [{}, {"X": X[:1]}, {"y": [1]}, {"X": X[:1], "y": [1], "weights": [1]}],
    ids=["no argument", "no y", "no X", "a foreign name"],
)
def test_arguments_that_do_not_fit_are_refused_in_the_same_words(call):
    one, _ = begun("two classes")
    assert heard(lambda: one.partial_fit(**call)) == heard(lambda: anew(one).partial_fit(**call))
    assert heard(lambda: one.partial_fit(**call))[1][0] is TypeError


def test_a_regressor_takes_no_classes():
    one, y = begun("numbers")
    with pytest.raises(TypeError, match="classes"):
        one.partial_fit(X[:1], y[:1], classes=[0.0])


def _write(one, name, value):
    setattr(one, name, value)


# What may have happened between two calls.
CHANGES = {
    "alpha": lambda one: one.set_params(alpha=0.5),
    "a learning rate": lambda one: one.set_params(learning_rate_init=0.1),
    "batches": lambda one: one.set_params(batch_size=2),
    "larger batches": lambda one: one.set_params(batch_size=500),
    "orders": lambda one: one.set_params(shuffle=False),
    "a seed": lambda one: one.set_params(random_state=7),
    "clipping": lambda one: one.set_params(clip_norm=1e-3),
    "dropout": lambda one: one.set_params(dropout=0.5),
    "early stopping": lambda one: one.set_params(early_stopping=True),
    "the solver": lambda one: one.set_params(solver="lbfgs"),
    "sizes": lambda one: one.set_params(hidden_layer_sizes=(3,)),
    "sizes in place": lambda one: one.hidden_layer_sizes.append(3),
    "the activation": lambda one: one.set_params(activation="tanh"),
    "a schedule": lambda one: one.set_params(learning_rate="cosine"),
    "speech": lambda one: one.set_params(verbose=True),
    "weights in place": lambda one: one.coefs_[0].fill(0.01),
    "other weights": lambda one: _write(one, "coefs_", [W + 0.1 for W in one.coefs_]),
    "one other array": lambda one: one.intercepts_.__setitem__(0, one.intercepts_[0] * 2.0),
    "weights that overflow": lambda one: [W.fill(1e200) for W in one.coefs_],
    "the optimizer": lambda one: delattr(one, "_optimizer"),
    "its rate": lambda one: _write(one._optimizer, "learning_rate_init", 0.5),
    "the curve": lambda one: delattr(one, "loss_curve_"),
    "names": lambda one: _write(one, "feature_names_in_", np.array(list("abcd"), object)),
    "the width": lambda one: _write(one, "n_features_in_", 3),
    "a fit": lambda one: one.set_params(max_iter=2).fit(X, one.predict(X)),
    "what validates": lambda one: one.set_params(max_iter=0),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("case", ["two classes", "numbers"])
def test_what_changed_between_two_calls_is_seen(case, change, capsys):
    one, y = begun(case)
    if change == "sizes in place":
        one.hidden_layer_sizes = [9]
    for each in (one, twin := anew(one.partial_fit(X[:4], y[:4]))):
        heard(lambda each=each: CHANGES[change](each))

    def asked(one, rows):
        capsys.readouterr()
        return heard(lambda: one.partial_fit(X[:rows], y[:rows])), capsys.readouterr()

    for rows in (4, 3, 4):
        twin = anew(twin)
        assert asked(one, rows) == asked(twin, rows)
        if "_optimizer" in vars(one):
            assert state(one) == state(twin)


@pytest.mark.parametrize("seed", [0, "a generator"])
def test_a_step_that_diverges_says_so_and_leaves_what_was_before(seed):
    more = {"random_state": np.random.RandomState(3) if seed else 0}
    one = fn.MLPRegressor(**SMALL | more, solver="sgd").partial_fit(X, NUMBERS)
    one.partial_fit(X[:5], NUMBERS[:5])
    twin, weights = anew(one), [W.copy() for W in one.coefs_]
    with np.errstate(all="ignore"):
        given = X[:5] * 1e300, NUMBERS[:5] * 1e300
        assert heard(lambda: one.partial_fit(*given)) == heard(lambda: twin.partial_fit(*given))
        with pytest.raises(fn.DivergenceError):
            one.partial_fit(*given)
    assert all(map(np.array_equal, one.coefs_, weights))


def test_an_interrupted_step_is_not_taken(monkeypatch):
    one, y = begun("numbers")
    one.partial_fit(X[:5], y[:5])
    weights, seen = [W.copy() for W in one.coefs_], one.t_

    def interrupted(*given, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(kept.Step, "take", interrupted)
        with pytest.warns(UserWarning, match="Training interrupted by user"):
            assert one.partial_fit(X[:5], y[:5]) is one
    assert all(map(np.array_equal, one.coefs_, weights))
    assert one.t_ == seen
    one.partial_fit(X[:5], y[:5])
    assert one.t_ == seen + 5


def test_plans_stay_behind_when_an_estimator_is_copied_or_pickled():
    one, y = begun("numbers")
    bare = pickle.dumps(anew(one.partial_fit(X[:5], y[:5])))
    one.partial_fit(X[:5], y[:5])
    assert vars(one)["_increment"]._step is not None
    for other in (copy.copy(one), copy.deepcopy(one), pickle.loads(bare)):
        assert "_increment" not in vars(other)
    assert len(pickle.dumps(one)) < len(bare) + 200


def test_subclasses_that_fit_in_their_own_way_are_asked():
    calls = []

    class Mine(fn.MLPRegressor):
        def partial_fit(self, X, y):
            calls.append(len(X))
            return super().partial_fit(X, y)

        def _fit(self, X, y, *more, **named):
            return super()._fit(X, 2.0 * np.asarray(y), *more, **named)

    mine = Mine(**SMALL).partial_fit(X, NUMBERS)
    plain = fn.MLPRegressor(**SMALL).partial_fit(X, 2.0 * NUMBERS)
    for _ in range(3):
        mine.partial_fit(X[:2], NUMBERS[:2])
        plain.partial_fit(X[:2], 2.0 * NUMBERS[:2])
    assert calls == [60, 2, 2, 2]
    assert all(map(np.array_equal, mine.coefs_, plain.coefs_))
