"""Whatever comes in: it is used, or refused in words that name it, and the next fit works."""

from __future__ import annotations

import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("sklearn.callback")

from scipy import sparse
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError

import fastnn as fn

KINDS = {"classifier": fn.MLPClassifier, "regressor": fn.MLPRegressor}
SETTINGS = {"hidden_layer_sizes": 3, "max_iter": 2, "random_state": 0}

_rng = np.random.RandomState(0)
X = _rng.normal(size=(12, 3))
Y = {"classifier": np.arange(12) % 3, "regressor": X[:, 0] + 1.0}
W = _rng.uniform(0.5, 1.5, size=12)

# What may be said beside errors.
SAID = (ConvergenceWarning, DataConversionWarning, UserWarning)


def changed(value, place=(0, 0), source=X):
    """Return the features with one of them replaced."""
    array = np.array(source, dtype=object if isinstance(value, (str, type(None))) else float)
    array[place] = value
    return array


def read_only(array):
    """Return a copy that nobody may write into."""
    array = array.copy()
    array.flags.writeable = False
    return array


def strange(kind):
    """Return an object whose conversion fails in a way of its own."""

    class Strange:
        def __array__(self, dtype=None, copy=None):
            raise kind("no")

    return Strange()


def matrix(array):
    """Return NumPy's own old class of matrices."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.asmatrix(array)


def of_unaligned(array):
    """Return the same numbers at an address that no number should have."""
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[:] = array
    return view


# Features: a name, what they are, and whether they can be used.
FEATURES = {
    **{f"as {kind}": (X.astype(kind), True) for kind in (
        "f2", "f4", "f8", "g", ">f4", ">f8", "i1", "i8", ">i4", "u1", "u8", "?",
    )},
    "complex": (X.astype("c16"), False),
    "dates": (X.astype("i8").astype("M8[s]"), None),
    "durations": (X.astype("i8").astype("m8[s]"), None),
    "records": (np.zeros(12, [("a", float), ("b", float)]), False),
    "text": (X.astype(str), None),
    "bytes": (X.astype("S8"), None),
    "objects": (X.astype(object), True),
    "objects that are no numbers": (changed("hello"), False),
    "None": (changed(None), False),
    "decimals": (np.array([[Decimal("1.5")] * 3] * 12), True),
    "fractions": (np.array([[Fraction(1, 3)] * 3] * 12), True),
    "column order": (np.asfortranarray(X), True),
    "every other row": (np.repeat(X, 2, axis=0)[::2], True),
    "backwards": (X[::-1, ::-1], True),
    "broadcast": (np.broadcast_to(X[0], X.shape), True),
    "read-only": (read_only(X), True),
    "not aligned": (of_unaligned(X), True),
    "a list": (X.tolist(), True),
    "a tuple": (tuple(map(tuple, X)), True),
    "ragged": ([[1.0, 2.0], [3.0]] * 6, False),
    "a matrix": (matrix(X), False),
    "masked": (np.ma.masked_array(X, X > 5), True),
    "NaN": (changed(np.nan), False),
    "infinity": (changed(np.inf), False),
    "minus infinity": (changed(-np.inf), False),
    "too far for float32": (changed(1e39), True),
    "the largest": (changed(1.7e308), None),
    "the smallest": (changed(5e-324), True),
    "a number": (3.0, False),
    "0-d": (np.array(3.0), False),
    "1-d": (X[:, 0], False),
    "3-d": (X[None], False),
    "4-d": (X[None, None], False),
    "empty": (X[:0], False),
    "no columns": (X[:, :0], False),
    "nothing": ([], False),
    "None itself": (None, False),
    "a string": ("features", False),
    "a set": ({1.0, 2.0}, False),
    "a dict": ({"a": 1.0}, False),
    "a generator": ((row for row in X), False),
    "an object": (object(), False),
    "a class": (dict, False),
    "a function": (len, False),
    "an array that fails with ValueError": (strange(ValueError), False),
    "an array that fails with TypeError": (strange(TypeError), False),
    **{f"sparse {name}": (getattr(sparse, f"{name}_array")(X), True) for name in (
        "csr", "csc", "coo", "lil", "dok", "bsr", "dia",
    )},
    "sparse matrix": (sparse.csr_matrix(X), True),
    "sparse float32": (sparse.csc_array(X.astype("f4")), True),
    "sparse integers": (sparse.csr_array(X.astype(int)), True),
    "sparse with int64 indices": (sparse.csr_array(
        (X.ravel(), np.tile(np.arange(3), 12), np.arange(0, 37, 3))
    ), True),
    "sparse with NaN": (sparse.csr_array(changed(np.nan)), False),
    "sparse without entries": (sparse.csr_array(X.shape), True),
    "sparse and empty": (sparse.csr_array((0, 3)), False),
    "sparse complex": (sparse.csr_array(X.astype("c16")), False),
}  # fmt: skip

TARGETS = {
    **{f"as {kind}": (lambda y, kind=kind: y.astype(kind), True) for kind in (
        "f4", "f8", ">f8", "i1", "i8", ">i4", "u1",
    )},
    "a list": (lambda y: y.tolist(), True),
    "a column": (lambda y: y[:, None], True),
    "a row": (lambda y: y[None], False),
    "read-only": (read_only, True),
    "every other": (lambda y: np.repeat(y, 2)[::2], True),
    "masked": (lambda y: np.ma.masked_array(y, y > 99), True),
    "too few": (lambda y: y[:-1], False),
    "too many": (lambda y: np.append(y, y), False),
    "none": (lambda y: y[:0], False),
    "None itself": (lambda y: None, False),
    "a number": (lambda y: 1, False),
    "0-d": (lambda y: np.array(1), False),
    "3-d": (lambda y: y[:, None, None], False),
    "NaN": (lambda y: np.where(y == y[0], np.nan, y), False),
    "infinity": (lambda y: np.where(y == y[0], np.inf, y), False),
    "complex": (lambda y: y.astype("c16"), False),
    "mixed": (lambda y: np.array(["a", 1, None] * 4, dtype=object), False),
    "ragged": (lambda y: [[1], [1, 2]] * 6, False),
    "an object": (lambda y: object(), False),
    "a generator": (lambda y: iter(y), False),
    "an array that fails": (lambda y: strange(ValueError), False),
    "sparse columns": (lambda y: sparse.csr_array(np.eye(12)[:, :2]), None),
}  # fmt: skip

OF_ONE_KIND = {
    "classifier": {
        "objects": (lambda y: y.astype(object), False),
        "strings": (lambda y: np.array(["a", "b", "c"])[y], True),
        "object strings": (lambda y: np.array(["a", "b", "c"], dtype=object)[y], True),
        "booleans": (lambda y: y > 0, True),
        "negative": (lambda y: y - 5, True),
        "far apart": (lambda y: y * 10**15, True),
        "whole floats": (lambda y: y + 0.0, True),
        "floats": (lambda y: y + 0.5, False),
        "one class": (lambda y: 0 * y, True),
        "a class each": (lambda y: np.arange(12), True),
        "several labels": (lambda y: np.eye(3, dtype=int)[y], True),
        "several labels, sparse": (lambda y: sparse.csr_array(np.eye(3, dtype=int)[y]), True),
        "several outputs": (lambda y: np.stack([y, y + 4], 1), False),
        "bytes": (lambda y: np.array([b"a", b"b", b"c"])[y], None),
        "dates": (lambda y: y.astype("M8[D]"), None),
    },
    "regressor": {
        "objects": (lambda y: y.astype(object), True),
        "strings": (lambda y: y.astype(str), None),
        "text": (lambda y: ["one"] * 12, False),
        "booleans": (lambda y: y > 0, True),
        "negative": (lambda y: -y, True),
        "huge": (lambda y: 1e300 * y, None),
        "the largest": (lambda y: 1.7e308 * np.sign(y), None),
        "tiny": (lambda y: 1e-300 * y, True),
        "constant": (lambda y: 0 * y + 7, True),
        "integers": (lambda y: np.arange(12), True),
        "two outputs": (lambda y: np.stack([y, y], 1), True),
        "no outputs": (lambda y: np.empty((12, 0)), False),
        "two outputs, sparse": (lambda y: sparse.csr_array(np.stack([y, y], 1)), True),
        "dates": (lambda y: np.arange(12).astype("M8[D]"), False),
    },
}  # fmt: skip

WEIGHTS = {
    "a list": (W.tolist(), True),
    "float32": (W.astype("f4"), True),
    "integers": (np.arange(12), True),
    "booleans": (np.arange(12) > 5, True),
    "read-only": (read_only(W), True),
    "every other": (np.repeat(W, 2)[::2], True),
    "big-endian": (W.astype(">f8"), True),
    "a number": (2.0, True),
    "one zero": (np.where(np.arange(12) == 3, 0, W), True),
    "negative": (np.where(np.arange(12) == 3, -0.1, W), True),
    "all zero": (0 * W, False),
    "sum zero": (np.where(np.arange(12) % 2, 1.0, -1.0), False),
    "sum infinite": (np.full(12, 1.7e308), True),
    "too few": (W[:-1], False),
    "too many": (np.append(W, W), False),
    "a column": (W[:, None], False),
    "0-d": (np.array(1.0), False),
    "NaN": (np.where(np.arange(12) == 3, np.nan, W), False),
    "infinity": (np.where(np.arange(12) == 3, np.inf, W), False),
    "strings": (["a"] * 12, False),
    "complex": (W.astype("c16"), False),
    "a dict": ({0: 1.0}, False),
    "an object": (object(), False),
    "sparse": (sparse.csr_array(W[None]), False),
}

PARAMETERS = {
    "hidden_layer_sizes": [0, -1, (3, 0), (3.5,), 2.0, "3", "abc", None, [[3]], [True], {"a": 1},
                           (3, None), np.array([2, -2]), object()],
    "activation": ["ghost", 3, None, ["relu", "relu"], ["ghost"], [3], [], "RELU"],
    "solver": ["ghost", None, 3, ["adam"]],
    "alpha": [-1.0, np.nan, np.inf, "1", None, [1.0], 1j, 10**400],
    "batch_size": [0, -1, 1.5, "all", None, np.inf],
    "learning_rate": ["ghost", None, 0.1, "onecycle", ["cosine"], fn.OneCycle, fn.SGD(0.1), {}],
    "learning_rate_init": [0, -0.1, np.nan, np.inf, "fast", None, 10**400],
    "power_t": [-1, np.nan, "1", None, 10**400],
    "max_iter": [0, -1, 1.5, None, "1", np.inf],
    "shuffle": [2, "yes", None],
    "random_state": [-1, "0", 1.5, 2**33, np.random.default_rng(0), [1]],
    "tol": [-1, np.nan, "1", None, 10**400],
    "verbose": [-1, "yes", None],
    "warm_start": [2, "yes", None],
    "momentum": [-0.1, 1.1, np.nan, "1"],
    "nesterovs_momentum": [2, "yes", None],
    "early_stopping": [2, "yes", None],
    "validation_fraction": [-0.1, 1.0, np.nan, "1", None],
    "beta_1": [-0.1, 1.0, np.nan, "1"],
    "beta_2": [-0.1, 1.0, np.nan, None],
    "epsilon": [0, -1e-8, np.nan, "1"],
    "n_iter_no_change": [0, 1.5, -np.inf, np.nan, "1"],
    "max_fun": [0, 1.5, "1", np.inf],
    "monitor": [3, ["loss"], 1.5, "ghost", ""],
    "monitor_mode": ["most", None, 1],
    "callbacks": [3, "stop", [3], [None], [fn.EarlyStopping]],
    "coefs_init": [3, "x", [], [np.zeros((3, 3))], [np.zeros((2, 3)), np.zeros((3, 3))],
                   [np.full((3, 3), np.nan), np.zeros((3, 1))], [None, None], ["a", "b"]],
    "intercepts_init": [3, [], [np.zeros(3)], [np.zeros(2), np.zeros(9)], [None, None]],
    "max_time": [0, -1, np.nan, np.inf, "1", 10**400],
    "dtype": ["float16", "f8", int, np.float16, 32, object()],
    "clip_norm": [0, -1.0, np.nan, np.inf, "1", 10**400],
    "dropout": [-0.1, 1.0, np.nan, "1", None, [0.1, 0.1, 0.1, 0.1], [2], ["1"], [None], [[0.1]],
                [np.array([0.1, 0.2])], np.array([0.1])],
    "weight_decay": [-0.1, np.nan, "1"],
    "rho": [-0.1, 1.0, np.nan, "1"],
    "n_threads": [0, -1, 1.5, "1", np.inf],
    "search": ["best", None, 1],
}  # fmt: skip

PARAMETERS_OF_ONE = {
    "classifier": {"class_weight": ["heavy", 3, {"ghost": 1.0}, {0: "x"}, [1.0] * 12,
                                    {0: 0, 1: 0, 2: 0}, {0: np.nan}],
                   "loss": ["ghost", None, 3, "poisson", "quantile", "cross_entropy", fn.Huber,
                            fn.Quantile()]},
    "regressor": {"loss": ["ghost", None, 3, "huber_loss", "binary", fn.Huber, "hinge"]},
}  # fmt: skip

CASES = {
    kind: [
        *(("X", name, *case) for name, case in FEATURES.items()),
        *(("y", name, case[0](Y[kind]), case[1]) for name, case in
          (TARGETS | OF_ONE_KIND[kind]).items()),
        *(("sample_weight", name, *case) for name, case in WEIGHTS.items()),
        *((name, repr(value), value, False) for name, values in
          (PARAMETERS | PARAMETERS_OF_ONE[kind]).items() for value in values),
    ]
    for kind in KINDS
}  # fmt: skip


def test_there_are_enough_cases():
    assert all(len(cases) >= 150 for cases in CASES.values())


def fingerprint(value):
    """Return what must not change of an array, a sparse one, or anything else."""
    if sparse.issparse(value):
        arrays = [value.tocsr().data, value.tocsr().indices]
        return type(value), value.shape, [array.tobytes() for array in arrays]
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype, value.shape, value.strides, value.flags.writeable, value.tobytes()
    return repr(value)


def attempt(one, what, value, y):
    """Fit with one argument or parameter replaced."""
    arguments = {"X": X, "y": y, "sample_weight": None}
    if what in arguments:
        one.fit(**arguments | {what: value})
    else:
        one.set_params(**{what: value}).fit(X, y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(
    ("kind", "what", "name", "value", "usable"),
    [
        pytest.param(kind, *case, id=f"{kind}-{case[0]}-{case[1]}")
        for kind, cases in CASES.items()
        for case in cases
    ],
)
def test_what_comes_in(kind, what, name, value, usable, solver):
    if what == "solver" and solver == "lbfgs":
        pytest.skip("asked for by the other")
    one = KINDS[kind](**SETTINGS, solver=solver)
    if what == "monitor":
        one.set_params(early_stopping=True, solver="adam")
    before = fingerprint(value)
    problem = None
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            attempt(one, what, value, Y[kind])
        except (ValueError, TypeError) as raised:
            problem = raised
    assert fingerprint(value) == before
    assert all(issubclass(entry.category, SAID) for entry in seen), seen
    if usable is not None:
        assert (problem is None) == usable, problem
    if problem is not None:
        assert not type(problem).__module__.startswith("numba")
        assert "numba" not in str(problem).lower()
        assert _says(problem, what), problem
    else:
        assert all(np.isfinite(W).all() for W in one.coefs_)

    # The next fit is as good as a first one.
    fresh = KINDS[kind](**SETTINGS, solver=solver)
    one.set_params(**fresh.get_params())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        again, expected = one.fit(X, Y[kind], W), fresh.fit(X, Y[kind], W)
    assert again.predict(X).tolist() == expected.predict(X).tolist()


# How scikit-learn and NumPy word it where they do not use the argument's name.
ALSO = {
    "X": ("array", "sample", "feature", "sequence", "Complex", "input data", "dtype", "matrix",
          "float", "singleton", "len()", "no"),
    "y": ("target", "label", "array", "sample", "class", "Complex", "dtype", "len()", "input",
          "float", "no", "singleton"),
    "sample_weight": ("weight", "array", "Complex", "float", "len()"),
    "random_state": ("seed",),
    "class_weight": ("class",),
}  # fmt: skip


def _says(problem, what):
    """Tell whether a message says what is wrong."""
    text = str(problem)
    return any(word in text for word in (what, *ALSO.get(what, ())))


# Predicting.


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_predicted(kind, name, single):
    value, usable = FEATURES[name]
    one = KINDS[kind](**SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one.fit(X.astype("f4") if single else X, Y[kind])
    before = fingerprint(value)
    problem = found = None
    try:
        found = one.predict(value)
    except (ValueError, TypeError) as raised:
        problem = raised
    if problem is None:
        assert usable in (True, None)
        assert found.shape == (12,)
    else:
        assert not usable or "fit float32" in str(problem)
        assert _says(problem, "X"), problem
    assert fingerprint(value) == before


@pytest.mark.parametrize("kind", KINDS)
def test_before_a_fit_there_is_nothing(kind):
    one = KINDS[kind]()
    for what in ("predict", "score", "network_", "to_sklearn"):
        with pytest.raises(NotFittedError):
            {
                "predict": lambda: one.predict(X),
                "score": lambda: one.score(X, Y[kind]),
                "network_": lambda: one.network_,
                "to_sklearn": lambda: one.to_sklearn(),
            }[what]()


def test_after_a_fit_that_is_refused_there_is_nothing_either():
    early = fn.MLPClassifier(early_stopping=True)
    with pytest.raises(ValueError, match="early_stopping"):
        early.partial_fit(X, Y["classifier"], classes=np.unique(Y["classifier"]))
    uneven = fn.MLPRegressor(hidden_layer_sizes=3, dropout=[0.1, 0.2])
    with pytest.raises(ValueError, match="dropout"):
        uneven.fit(X, Y["regressor"])
    for one in (early, uneven):
        with pytest.raises(NotFittedError):
            one.predict(X)
        with pytest.raises(NotFittedError):
            _ = one.network_
        with pytest.raises(NotFittedError):
            one.to_sklearn()


@pytest.mark.parametrize("value", [3, "x", (X,), (X, X, W, W), {"X": X}, [X]], ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_validation_data_of_another_kind(kind, value):
    with pytest.raises(TypeError, match="validation_data must be"):
        KINDS[kind](**SETTINGS).fit(X, Y[kind], validation_data=value)


@pytest.mark.parametrize("kind", KINDS)
def test_validation_data_that_do_not_fit(kind):
    y = Y[kind]
    for value in (
        (X[:, :2], y), (X, y[:-1]), (changed(np.nan), y), (X, y, W[:-1]), (X, y, 0 * W),
        (X[:0], y[:0]), (X, np.stack([y, y, y, y], axis=1)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"X|y|weight|sample|class|output"):
            KINDS[kind](**SETTINGS).fit(X, y, validation_data=value)


def test_validation_data_of_an_unknown_class():
    with pytest.raises(ValueError, match=r"validation_data\[1\] has classes not in"):
        fn.MLPClassifier(**SETTINGS).fit(X, Y["classifier"], validation_data=(X, [7] * 12))


@pytest.mark.parametrize("kind", KINDS)
def test_memory_maps_are_read_where_they_lie(kind, tmp_path):
    for mode in ("r", "r+", "c"):
        path = tmp_path / f"{mode}.npy"
        np.save(path, X)
        mapped = np.load(path, mmap_mode=mode)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            one = KINDS[kind](**SETTINGS).fit(mapped, Y[kind])
            plain = KINDS[kind](**SETTINGS).fit(X, Y[kind])
        assert one.predict(mapped).tolist() == plain.predict(X).tolist()
        assert np.load(path).tobytes() == X.tobytes()
