"""Estimators as ONNX, of their own and inside what skl2onnx converts, beside ONNX Runtime."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import StackingClassifier, VotingRegressor
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.exports.onnx_answers import onnx_labels

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
SINGLE = X.astype("f4")
SIDES = (X[:, 0] > 0).astype(int)
THIRDS = np.arange(60) % 3
SEVERAL = (X > 0.2).astype(int)
BASE = {"hidden_layer_sizes": (5,), "max_iter": 8, "random_state": 0, "learning_rate_init": 0.05}


def classifier(y, **more):
    return fn.MLPClassifier(**(BASE | more)).fit(X, y)


def regressor(y=X[:, 0], **more):
    return fn.MLPRegressor(**(BASE | more)).fit(X, y)


def margins_by_hand():
    one = classifier(THIRDS)
    one.out_activation_ = "identity"
    return one


MODELS = {
    "two": lambda: classifier(SIDES),
    "two texts": lambda: classifier(np.array(["no", "y\u00e9s"])[SIDES]),
    "truth": lambda: classifier(SIDES > 0),
    "several": lambda: classifier(THIRDS),
    "texts": lambda: classifier(np.array(["a", "bb", "\u6771"])[THIRDS]),
    "objects": lambda: classifier(np.array(["a", "bb", "c"], object)[THIRDS]),
    "floats": lambda: classifier(np.array([-1.0, 2.0, 7.0])[THIRDS]),
    "bytes": lambda: classifier(np.array([1, 2, 255], "u1")[THIRDS]),
    "large": lambda: classifier(np.array([-(2**60), 3, 2**62])[THIRDS]),
    "one class": lambda: classifier(np.full(60, 7)),
    "labels": lambda: classifier(SEVERAL),
    "hinge": lambda: classifier(SIDES, loss="hinge"),
    "several hinge": lambda: classifier(THIRDS, loss="hinge"),
    "labels, hinge": lambda: classifier(SEVERAL, loss="hinge"),
    "sums by hand": margins_by_hand,
    "squared": lambda: classifier(THIRDS, loss="mean_squared_error"),
    "dropout": lambda: classifier(THIRDS, dropout=0.2, hidden_layer_sizes=(5, 4)),
    "no layer": lambda: classifier(THIRDS, hidden_layer_sizes=()),
    "lbfgs": lambda: classifier(THIRDS, solver="lbfgs"),
    "numbers": regressor,
    "two numbers": lambda: regressor(X[:, :2]),
    "deviations": lambda: regressor(loss="gaussian_nll"),
    "deviations of two": lambda: regressor(X[:, :2], loss="gaussian_nll"),
    "counts": lambda: regressor(np.arange(60.0) % 4, loss="poisson"),
}  # fmt: skip


@pytest.fixture(scope="module")
def fitted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return {name: make() for name, make in MODELS.items()}


def asked(raw, features):
    """Return what ONNX Runtime answers, by name."""
    session = runtime.InferenceSession(raw, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    found = dict(zip(names, session.run(None, {"X": features}), strict=True))
    for one in session.get_outputs():
        # What a file says of its outputs holds.
        array = found[one.name]
        assert array.ndim == len(one.shape)
        assert list(array.shape[1:]) == one.shape[1:], (one.name, one.shape)
    return found


def holds(found, model, features, tolerance):
    """Hold that answers are those of an estimator."""
    wanted = model.predict(features)
    if isinstance(model, fn.MLPRegressor):
        assert list(found) == ["variable"]
        assert found["variable"].shape == (len(features), model.n_outputs_)
        close = wanted.reshape(found["variable"].shape)
        np.testing.assert_allclose(found["variable"], close, atol=tolerance, rtol=tolerance)
        return
    probable = hasattr(model, "predict_proba")
    assert list(found) == ["label", "probabilities" if probable else "scores"]
    scores = model.predict_proba(features) if probable else model.decision_function(features)
    if model.out_activation_ == "identity" and probable:
        scores = model._forward(features)
    label, given = found.values()
    np.testing.assert_allclose(given, scores, atol=tolerance, rtol=tolerance)
    assert label.shape == wanted.shape
    # The runtime's rounding may tip what lies on an edge.
    edge = 0.5 if probable else 0.0
    far = (np.abs(scores - edge) > 1e-4).reshape(len(scores), -1).all(axis=1)
    assert (label == wanted)[far].all()
    assert far.sum() >= 40


@pytest.mark.parametrize("dtype", [None, "float32", np.float64])
@pytest.mark.parametrize("name", MODELS)
def test_an_estimator_s_file_answers_as_it_does(name, dtype, fitted, tmp_path):
    model = fitted[name]
    before = [W.tobytes() for W in model.coefs_]
    model.to_onnx(tmp_path / "model.onnx", dtype=dtype)
    single = dtype == "float32"
    found = asked((tmp_path / "model.onnx").read_bytes(), X.astype("f4") if single else X)
    holds(found, model, X, 1e-5 if single else 1e-12)
    assert [W.tobytes() for W in model.coefs_] == before


def test_a_float32_estimator_takes_float32(tmp_path):
    model = fn.MLPClassifier(**BASE).fit(X.astype("f4"), THIRDS)
    model.to_onnx(tmp_path / "model.onnx")
    holds(asked((tmp_path / "model.onnx").read_bytes(), X.astype("f4")), model, X, 1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_goes_to_a_file(activation, tmp_path):
    if activation == "softmax":
        pytest.skip("no hidden layer's")
    model = regressor(activation=activation, max_iter=2)
    model.to_onnx(tmp_path / "model.onnx", dtype="float32")
    holds(asked((tmp_path / "model.onnx").read_bytes(), X.astype("f4")), model, X, 2e-5)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: (fn.MLPClassifier(), {}), NotFittedError, "not fitted"),
        (lambda: (regressor(), {"dtype": "float16"}), ValueError, "dtype must be 'float32'"),
        (lambda: (regressor(), {"dtype": int}), ValueError, "dtype must be 'float32'"),
        (
            lambda: (classifier(np.array(["2020", "2021"], "M8[D]")[SIDES]), {}), TypeError,
            "classes must be whole numbers of 64 bits",
        ),
    ],
)  # fmt: skip
def test_what_no_file_says_is_an_error(make, kind, message, tmp_path):
    model, more = make()
    with pytest.raises(kind, match=message):
        model.to_onnx(tmp_path / "model.onnx", **more)
    assert not list(tmp_path.iterdir())


def test_weights_that_the_dtype_has_not_are_refused(tmp_path):
    model = regressor()
    model.coefs_[0][0, 0] = 1e300
    with pytest.raises(ValueError, match="dtype must hold all weights; got float32"):
        model.to_onnx(tmp_path / "model.onnx", dtype="float32")
    model.coefs_[0][0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        model.to_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("labels", [np.array([2**63], "u8"), np.array([1, "a"], object)])
def test_labels_that_onnx_has_not_are_refused(labels):
    with pytest.raises(TypeError, match="classes must be"):
        onnx_labels(labels)


def test_without_onnx_it_says_what_it_needs(monkeypatch, fitted, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "fastnn.exports.onnx_out", raising=False)
    with pytest.raises(ImportError, match="to_onnx needs onnx: python -m pip install onnx"):
        fitted["two"].to_onnx(tmp_path / "model.onnx")


def test_the_network_alone_goes_to_a_file_and_back(fitted, tmp_path):
    fitted["texts"].network_.to_onnx(tmp_path / "net.onnx")
    net = fn.from_onnx(tmp_path / "net.onnx")
    assert (net.predict(X) == fitted["texts"].predict_proba(X)).all()
    assert net.classes.tolist() == ["a", "bb", "\u6771"]


# Inside what skl2onnx converts.


def converted(model, features=SINGLE, **more):
    skl2onnx = pytest.importorskip("skl2onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return skl2onnx.to_onnx(model, features[:1], **more).SerializeToString()


@pytest.mark.parametrize("options", [False, True])
@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_skl2onnx_converts_all_that_can_be_fitted(name, piped, options, fitted):
    model = fitted[name]
    whole = model
    if piped:
        scaler = StandardScaler().fit(X)
        whole = make_pipeline(scaler, copy.copy(model))
    if options and isinstance(model, fn.MLPRegressor):
        pytest.skip("has no options")
    found = asked(converted(whole, options={"zipmap": False} if options else None), X.astype("f4"))
    features = X.astype("f4")
    holds(found, model, scaler.transform(features) if piped else features, 2e-5)


def test_skl2onnx_converts_in_double_precision(fitted):
    whole = make_pipeline(StandardScaler().fit(X), fitted["texts"])
    found = asked(converted(whole, X), X)
    holds(found, fitted["texts"], StandardScaler().fit_transform(X), 1e-12)


@pytest.mark.parametrize("opset", [13, 15, 18, 21])
def test_skl2onnx_converts_to_operators_of_any_version(opset, fitted):
    for name in ("two texts", "several", "labels", "deviations"):
        found = asked(converted(fitted[name], target_opset=opset), X.astype("f4"))
        holds(found, fitted[name], X.astype("f4"), 2e-5)


def test_whole_numbers_are_taken_too():
    model = classifier(THIRDS)
    features = np.arange(30).reshape(10, 3) % 5
    found = asked(converted(model, features), features)
    np.testing.assert_allclose(
        found["probabilities"], model.predict_proba(features.astype(float)), atol=1e-5
    )


def test_estimators_inside_others_are_converted():
    converted(classifier(SIDES))  # From here on skl2onnx knows the class.
    stack = StackingClassifier(
        [("ours", fn.MLPClassifier(**BASE)), ("theirs", LogisticRegression())], cv=2
    ).fit(X, SIDES)
    found = asked(converted(stack, options={"zipmap": False}), X.astype("f4"))
    np.testing.assert_allclose(found["probabilities"], stack.predict_proba(X), atol=1e-5)
    converted(regressor())
    vote = VotingRegressor(
        [("ours", fn.MLPRegressor(**BASE)), ("theirs", LinearRegression())]
    ).fit(X, X[:, 0])  # fmt: skip
    found = asked(converted(vote), X.astype("f4"))
    np.testing.assert_allclose(found["variable"].ravel(), vote.predict(X), atol=1e-5)


REGISTERED = """
import sys
import {first}
import {second}
import fastnn as fn
from skl2onnx._supported_operators import get_model_alias
fn.MLPClassifier
print(get_model_alias(fn.MLPClassifier), get_model_alias(fn.MLPRegressor))
"""


def test_they_are_registered_where_skl2onnx_was_imported_before():
    pytest.importorskip("skl2onnx")
    code = REGISTERED.format(first="skl2onnx", second="fastnn.estimators")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["FastnnMLPClassifier", "FastnnMLPRegressor"]


def test_nothing_is_imported_where_skl2onnx_was_not():
    code = "import fastnn.estimators, sys; print({'skl2onnx', 'onnx'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"


def test_a_zipmap_is_refused(fitted):
    with pytest.raises(ValueError, match="zipmap"):
        converted(fitted["two"], options={"zipmap": True})


def test_the_page_s_example_runs(tmp_path, monkeypatch):
    pytest.importorskip("skl2onnx")
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text("utf-8")
    section = page.partition("### ONNX files of estimators")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    known = {"model": classifier(np.array(["no", "yes"])[SIDES]), "X": X,
             "y": np.array(["no", "yes"])[SIDES]}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, known)
    assert set(known["labels"]) <= {"no", "yes"}
    assert (known["labels"] == known["model"].predict(X)).mean() > 0.9
