"""Frames in predictions: one look where they are like that of the fit, and no other answers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fastnn as fn
from fastnn.estimators import fitted

pd = pytest.importorskip("pandas")

RNG = np.random.default_rng(0)
NAMES = ["width", "height", "age", "count"]
FRAME = pd.DataFrame(RNG.normal(size=(40, 4)), columns=NAMES)
MIXED = FRAME.assign(count=RNG.integers(0, 9, size=40))
CLASSES = np.array(["low", "middle", "high"])[RNG.integers(0, 3, size=40)]
NUMBERS = RNG.normal(size=(40, 2))
SMALL = {"hidden_layer_sizes": (7,), "max_iter": 3, "random_state": 0}
ASKED = {
    "classifier": ["predict", "predict_proba", "predict_log_proba"],
    "hinge": ["predict", "decision_function"],
    "regressor": ["predict"],
}


@pytest.fixture(scope="module")
def estimators():
    """Fitted on frames, by what they are and the dtype of the frame."""
    fitted = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for dtype in ("float64", "float32", "mixed"):
            X = MIXED if dtype == "mixed" else FRAME.astype(dtype)
            fitted["classifier", dtype] = fn.MLPClassifier(**SMALL).fit(X, CLASSES)
            fitted["hinge", dtype] = fn.MLPClassifier(**SMALL, loss="hinge").fit(X, CLASSES)
            fitted["regressor", dtype] = fn.MLPRegressor(**SMALL).fit(X, NUMBERS)
    return fitted


@pytest.fixture
def validations(monkeypatch):
    """Count what scikit-learn is asked to look at."""
    asked, validate = [], fitted.validate_data

    def counted(estimator, X, **more):
        asked.append(X)
        return validate(estimator, X, **more)

    monkeypatch.setattr(fitted, "validate_data", counted)
    return asked


def heard(ask):
    """Return the outcome of a call: its answer to the last bit, its warnings and its error."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = np.asarray(ask())
            answer = found.dtype, found.shape, found.tolist()
        except Exception as problem:
            answer = type(problem), str(problem)
    return answer, [(one.category, str(one.message)) for one in said]


@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("dtype", ["float64", "float32", "mixed"])
@pytest.mark.parametrize("kind", ASKED)
def test_frames_like_that_of_the_fit_take_one_look(kind, dtype, rows, estimators, validations):
    one = estimators[kind, dtype]
    X = (MIXED if dtype == "mixed" else FRAME.astype(dtype)).iloc[3 : 3 + rows]
    for frame in (X, pd.DataFrame(X.to_numpy(), columns=list(NAMES))):
        for method in ASKED[kind]:
            found = getattr(one, method)(frame)
            assert not validations
            bare = fn.MLPClassifier.__new__(type(one))
            bare.__dict__.update(one.__dict__)
            del bare.__dict__["feature_names_in_"]
            values = np.ascontiguousarray(frame.to_numpy(), one.coefs_[0].dtype)
            assert found.tolist() == getattr(bare, method)(values).tolist()
            validations.clear()


class Own(pd.DataFrame):
    """A frame of a user's class."""


def _with(column, value):
    frame = FRAME.iloc[:2].copy()
    frame[column] = value
    return frame


# Frames that scikit-learn says something about, or that must be converted with care.
UNUSUAL = {
    "another order": lambda: FRAME.iloc[:2, ::-1],
    "other names": lambda: FRAME.iloc[:2].rename(columns={"age": "year"}),
    "a column too few": lambda: FRAME.iloc[:2, :3],
    "a column too many": lambda: FRAME.iloc[:2].assign(more=1.0),
    "numbers for names": lambda: pd.DataFrame(FRAME.to_numpy()[:2]),
    "one number among the names": lambda: FRAME.iloc[:2].rename(columns={"age": 7}),
    "names of two levels": lambda: pd.concat({"a": FRAME.iloc[:2]}, axis=1),
    "names of NumPy's": lambda: FRAME.iloc[:2].set_axis(
        pd.Index(list(map(np.str_, NAMES)), dtype=object), axis=1
    ),
    "no rows": lambda: FRAME.iloc[:0],
    "NaN": lambda: _with("age", np.nan),
    "infinity": lambda: _with("age", np.inf),
    "text": lambda: _with("age", "old"),
    "text that is a number": lambda: _with("age", "7"),
    "objects": lambda: FRAME.iloc[:2].astype(object),
    "truth": lambda: _with("age", True),
    "dates": lambda: _with("age", pd.Timestamp("2020-01-01")),
    "complex numbers": lambda: _with("age", 1j),
    "single precision": lambda: FRAME.iloc[:2].astype("float32"),
    "half precision": lambda: FRAME.iloc[:2].astype("float16"),
    "numbers beyond single precision": lambda: _with("age", 1e300),
    "large integers": lambda: _with("age", 2**63),
    "nullable": lambda: FRAME.iloc[:2].astype("Float64"),
    "missing in nullable": lambda: _with("age", pd.array([1.0, None], dtype="Float64")),
    "nullable integers": lambda: _with("age", pd.array([1, 2], dtype="Int64")),
    "categories": lambda: _with("age", pd.Categorical([1, 2])),
    "one sparse column": lambda: _with("age", pd.arrays.SparseArray([0.0, 1.0])),
    "sparse": lambda: FRAME.iloc[:2].astype(pd.SparseDtype("float64", 0.0)),
    "a class of its own": lambda: Own(FRAME.iloc[:2]),
    "a series": lambda: FRAME.iloc[0],
    "an array": lambda: FRAME.to_numpy()[:2],
    "nothing": lambda: None,
}


@pytest.mark.parametrize("unusual", UNUSUAL)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_other_frames_are_answered_as_ever(kind, dtype, unusual, estimators, monkeypatch):
    one = estimators[kind, dtype]
    for method in ASKED[kind]:
        found = heard(lambda method=method: getattr(one, method)(UNUSUAL[unusual]()))
        with monkeypatch.context() as patched:
            patched.setattr(fitted, "frame_at_once", lambda *given: None)
            assert found == heard(lambda method=method: getattr(one, method)(UNUSUAL[unusual]()))


def test_names_that_a_user_sets_are_followed(estimators):
    one = estimators["regressor", "float64"]
    before = one.feature_names_in_
    try:
        one.feature_names_in_ = np.array(["a", "b", "c", "d"], object)
        with pytest.raises(ValueError, match="feature names should match"):
            one.predict(FRAME)
        one.feature_names_in_ = list(NAMES)
        assert one.predict(FRAME).shape == (40, 2)
    finally:
        one.feature_names_in_ = before
