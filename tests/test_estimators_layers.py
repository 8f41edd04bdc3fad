"""Estimators of any layers, with features and targets at unit scale inside."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from cases import error
from scipy import sparse

pytest.importorskip("sklearn.callback")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn as fn
from fastnn.estimators.layered import Layered, asked_of
from fastnn.kinds import KINDS, Array
from fastnn.kinds import LAYERS as LAYERS_OF_ALL
from fastnn.stacks import check_layers

pytestmark = [pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

LAYERS = [
    fn.Dense(13, "relu"), fn.LayerNorm(), fn.Dropout(0.1),
    fn.Residual([fn.Dense(9, "tanh"), fn.Dense(13, bias=False)]), fn.PReLU(),
]  # fmt: skip
STILL = [fn.Dense(13, "tanh"), fn.RMSNorm(), fn.Dense(5, "relu")]
SOLVERS = {"adam": LAYERS, "sgd": LAYERS, "lbfgs": STILL}


def numbers(n=90, outputs=1, dtype="float64"):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(n, 4)) * [1, 100, 1e-2, 1] + [0, 900, 0, 5]
    y = 1e4 + 300 * np.sin(X[:, 0]) + 2 * (X[:, 1] - 900)
    y = np.stack([y, 1e-3 * X[:, 3], y - X[:, 1]][:outputs], 1)
    return X.astype(dtype), y[:, 0] if outputs == 1 else y


def classes(n=90, several=False):
    X, _ = numbers(n)
    sides = np.stack([X[:, 0] > 0, X[:, 1] > 900, X[:, 3] > 5], 1).astype(int)
    return (X, sides) if several else (X, np.array(["a", "b", "c"])[sides[:, :2].sum(1)])


def regressor(**more):
    options = {"layers": LAYERS, "standardize": True, "scale_targets": True, "max_iter": 5}
    return fn.MLPRegressor(random_state=0, **{**options, **more})


def classifier(**more):
    options = {"layers": LAYERS, "standardize": True, "max_iter": 5}
    return fn.MLPClassifier(random_state=0, **{**options, **more})


# What is learnt.


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_scaling_inside_is_scaling_before(outputs, solver):
    X, y = numbers(outputs=outputs)
    sizes = {"hidden_layer_sizes": (9, 5), "max_iter": 8, "random_state": 1, "solver": solver}
    ours = fn.MLPRegressor(**sizes, standardize=True, scale_targets=True).fit(X, y)
    mean, deviation = y.mean(axis=0), y.std(axis=0)
    before = make_pipeline(StandardScaler(), fn.MLPRegressor(**sizes))
    before.fit(X, (y - mean) / deviation)
    assert error(ours.coefs_[0], before[-1].coefs_[0]) <= 1e-8
    assert error(ours.predict(X), before.predict(X) * deviation + mean) <= 1e-8
    assert error(ours.loss_, before[-1].loss_) <= 1e-8
    assert error(ours.score(X, y), before.score(X, (y - mean) / deviation)) <= 1e-7
    assert ours.n_layers_ == 4


def test_dense_layers_learn_as_hidden_layer_sizes_do():
    X, y = classes()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    common = {"alpha": 0.1, "random_state": 0, "max_iter": 5, "shuffle": False}
    layers = [fn.Dense(9, "tanh"), fn.Dropout(0.3), fn.Dense(5, "relu")]
    sizes = fn.MLPClassifier((9, 5), ["tanh", "relu"], dropout=[0.3, 0.0], **common)
    starts = sizes.fit(X, y).network_.copy()
    common |= {"coefs_init": starts.weights, "intercepts_init": starts.biases, "dtype": "float64"}
    ours = fn.MLPClassifier(layers=layers, **common).fit(X, y)
    sizes.set_params(**common).fit(X, y)
    assert ours.network_.layers == sizes.network_.layers
    assert ours.n_layers_ == sizes.n_layers_ == 4
    # What is dropped is drawn after the first weights, which are given, and none more.
    assert [W.shape for W in ours.coefs_] == [W.shape for W in sizes.coefs_]
    assert np.isfinite(ours.loss_)
    ours.set_params(layers=[fn.Dense(9, "tanh"), fn.Dense(5, "relu")]).fit(X, y)
    sizes.set_params(dropout=0.0).fit(X, y)
    assert error(ours.coefs_[1], sizes.coefs_[1]) <= 1e-13


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_both_paths_learn_the_same_from_any_layers(solver, backend):
    X, y = numbers()
    c, z = classes()
    with fn.backend(backend):
        one = regressor(solver=solver, layers=SOLVERS[solver]).fit(X, y)
        two = classifier(solver=solver, layers=SOLVERS[solver]).fit(c, z)
    other = regressor(solver=solver, layers=SOLVERS[solver]).fit(X, y)
    assert error(one.predict(X), other.predict(X)) <= 1e-6
    other = classifier(solver=solver, layers=SOLVERS[solver]).fit(c, z)
    assert error(two.predict_proba(c), other.predict_proba(c)) <= 1e-6
    assert set(two.predict(c)) <= {"a", "b", "c"}
    assert len(one.loss_curve_ if solver != "lbfgs" else [0] * 5) == 5


def test_every_kind_of_problem_is_learnt():
    c, sides = classes(several=True)
    found = classifier(max_iter=60, learning_rate_init=0.01).fit(c, sides)
    assert found.predict(c).shape == sides.shape
    assert found.score(c, sides) > 0.3
    X, y = numbers(outputs=3)
    several = regressor(max_iter=80, learning_rate_init=0.01).fit(X, y)
    assert several.predict(X).shape == y.shape
    assert several.score(X, y) > 0.5
    X, y = numbers(300)
    spread = regressor(loss="gaussian_nll", layers=[fn.Dense(9, "tanh")], max_iter=40).fit(X, y)
    means, deviations = spread.predict(X, return_std=True)
    assert abs(means - y).mean() < 3 * y.std()
    assert 0.01 * y.std() < deviations.mean() < 10 * y.std()
    quantiles = regressor(loss=fn.Quantiles([0.1, 0.5, 0.9]), layers=STILL, max_iter=40).fit(X, y)
    assert (np.diff(quantiles.predict(X)) > 0).all()
    assert abs(quantiles.predict(X)[:, 1] - y).mean() < 3 * y.std()
    assert pickle.loads(pickle.dumps(quantiles)).score(X, y) == quantiles.score(X, y)
    assert regressor(layers=[], max_iter=3).fit(X, y).n_layers_ == 2


def test_early_stopping_and_validation_data_score_in_units():
    X, y = numbers(200)
    for more in ({}, {"monitor": "loss"}, {"monitor": "neg_mean_absolute_error"}):
        found = regressor(early_stopping=True, max_iter=8, layers=STILL, **more).fit(X, y)
        assert len(found.validation_scores_) == 8
    assert found.best_validation_score_ < -1.0
    one = regressor(layers=STILL).fit(X[:150], y[:150], X_val=X[150:], y_val=y[150:])
    assert error(one.validation_scores_[-1], one.score(X[150:], y[150:])) <= 1e-7
    native = regressor(layers=STILL, dtype="float32").fit(X, y, X_val=X, y_val=y)
    assert error(native.validation_scores_[-1], native.score(X, y)) <= 1e-3


def test_scales_are_those_of_the_first_fit():
    X, y = numbers()
    found = regressor(warm_start=True, layers=STILL).fit(X, y)
    scale = found.network_.target_scale
    found.fit(X + 5, 2 * y)
    assert found.network_.target_scale[0] == scale[0]
    found.set_params(warm_start=False).fit(X, 2 * y)
    assert error(found.network_.target_scale[0], 2 * scale[0]) <= 1e-12
    step = regressor(layers=STILL).partial_fit(X[:40], y[:40])
    assert error(step.network_.target_scale[0], [y[:40].mean()]) <= 1e-12
    before = step.predict(X)
    step.partial_fit(X[40:], y[40:])
    assert error(step.network_.target_scale[0], [y[:40].mean()]) <= 1e-12
    assert (step.predict(X) != before).any()


def test_sparse_features_are_read_by_dense_layers_and_refused_by_others():
    X, y = numbers()
    X[np.abs(X) < 1] = 0
    for options in ({"standardize": False}, {"standardize": False, "layers": [fn.Dropout(0.1)]}):
        found = regressor(**options).fit(sparse.csr_array(X), y)
        assert (
            found.predict(sparse.csr_array(X)) == regressor(**options).fit(X, y).predict(X)
        ).all()
    for kind in (regressor(), regressor(layers=[fn.LayerNorm()], standardize=False)):
        with pytest.raises(ValueError, match=r"X must be dense where the first layer is no Dense"):
            kind.fit(sparse.csr_array(X), y)
        assert not hasattr(kind, "coefs_")
        assert not kind.__sklearn_tags__().input_tags.sparse
    assert regressor(standardize=False).__sklearn_tags__().input_tags.sparse


def test_codes_are_checked_wherever_features_come_in():
    X, y = numbers()
    X[:, 1] = np.arange(len(X)) % 3
    layers = [fn.Embedding({1: 3}, 2), fn.Dense(9, "tanh")]
    found = regressor(layers=layers, early_stopping=True, max_iter=3).fit(X, y)
    assert found.predict(X).shape == y.shape
    twin = pickle.loads(pickle.dumps(found))
    assert (twin.predict(X) == found.predict(X)).all()
    wrong = X.copy()
    wrong[5, 1] = 3
    asks = (
        lambda: found.predict(wrong), lambda: found.predict(wrong[5:6]),
        lambda: regressor(layers=layers).fit(wrong, y), lambda: twin.partial_fit(wrong, y),
        lambda: regressor(layers=layers).fit(X, y, X_val=wrong, y_val=y),
    )  # fmt: skip
    twin.set_params(early_stopping=False)
    for ask in asks:
        with pytest.raises(ValueError, match="which holds codes: whole numbers from 0 to 2"):
            ask()


# What kinds need that are not made of nothing.
NEEDED = {
    "Dense": (4,), "Dropout": (0.3,), "Residual": ([fn.Dense(13)],), "Embedding": ({0: 3},)
}  # fmt: skip


def layers_with(name):
    """Layers of which one is of a kind, where it may stand."""
    layer = LAYERS_OF_ALL[name](*NEEDED.get(name, ()))
    behind = [fn.Dense(13, "tanh"), layer]
    try:
        check_layers([*behind, fn.Dense(1)])
    except ValueError:
        return [layer, fn.Dense(13, "tanh")]
    return behind


@pytest.mark.parametrize("name", LAYERS_OF_ALL)
def test_layers_of_every_kind_are_learnt_kept_and_refused_alike(name, tmp_path):
    X, y = numbers(70)
    X[:, 0] = np.arange(len(X)) % 3
    options = {"layers": layers_with(name), "standardize": False, "max_iter": 3}
    found = regressor(**options).fit(X, y)
    with fn.backend("reference"):
        # What a BatchNorm takes off has a gradient of 0 but for rounding, by which Adam steps.
        limit = 1e-3 if name == "BatchNorm" else 1e-6
        assert error(found.predict(X), regressor(**options).fit(X, y).predict(X)) <= limit
    found.save(tmp_path / "it.fastnn")
    for twin in (pickle.loads(pickle.dumps(found)), fn.load_estimator(tmp_path / "it.fastnn")):
        assert (twin.predict(X) == found.predict(X)).all()
        again = clone(found).fit(X, y).partial_fit(X, y)
        assert (twin.partial_fit(X, y).predict(X) == again.predict(X)).all()
    layout = found.network_.layout
    search = regressor(**options, solver="lbfgs")
    if layout.buffer_size or any(one.kind.in_training for one in layout.operations):
        with pytest.raises(ValueError, match=r"takes? steps"):
            search.fit(X, y)
    else:
        assert np.isfinite(search.fit(X, y).loss_)


def test_what_layers_hold_beside_parameters_is_kept(monkeypatch, tmp_path):
    row = replace(KINDS["Dropout"], buffers=lambda layer, width: (Array("mean", (width,), 0.25),))
    monkeypatch.setitem(KINDS, "Dropout", row)
    X, y = numbers()
    found = regressor().fit(X, y)
    found.network_.buffers[1] = 7.0
    found.save(tmp_path / "it.fastnn")
    for twin in (pickle.loads(pickle.dumps(found)), fn.load_estimator(tmp_path / "it.fastnn")):
        assert twin.network_.buffers[:3].tolist() == [0.25, 7.0, 0.25]
    found.coefs_ = [W.copy() for W in found.coefs_]
    assert found.network_.buffers[1] == 7.0
    with pytest.raises(ValueError, match="holds beside its parameters cannot follow"):
        asked_of(regressor(), (100,)).check(X, searching=True)


# What is kept.


@pytest.mark.parametrize("make", [regressor, classifier])
def test_pickles_files_and_copies_go_on_to_the_same_bits(make, tmp_path):
    X, y = numbers() if make is regressor else classes()
    found = make().fit(X, y)
    found.save(tmp_path / "it.fastnn")
    twins = [pickle.loads(pickle.dumps(found)), fn.load_estimator(tmp_path / "it.fastnn")]
    before = found.predict(X)
    for twin in twins:
        assert (twin.predict(X) == before).all()
        assert twin.get_params() == found.get_params()
    found.partial_fit(X, y)
    for twin in twins:
        twin.partial_fit(X, y)
        assert (twin.coefs_[1] == found.coefs_[1]).all()
        assert (twin.predict(X) == found.predict(X)).all()
        assert (twin.network_.parameters == found.network_.parameters).all()


def test_files_of_before_are_read(tmp_path):
    from fastnn.formats import safetensors

    X, y = numbers()
    found = fn.MLPRegressor(hidden_layer_sizes=3, max_iter=2, random_state=0).fit(X, y)
    path = tmp_path / "it.fastnn"
    found.save(path)
    tensors, texts = safetensors.read(path)
    import json

    described = json.loads(texts["estimator"])
    for name in ("layers", "standardize", "scale_targets"):
        del described["parameters"][name]
    safetensors.write(path, tensors, {**texts, "estimator": json.dumps(described)})
    assert (fn.load_estimator(path).predict(X) == found.predict(X)).all()


@pytest.mark.parametrize("part", ["held", "scale", "inputs", "layers"])
def test_files_of_other_networks_are_refused(part, tmp_path):
    X, y = numbers()
    found = regressor(layers=STILL).fit(X, y)
    state = found.__getstate__()
    beyond = state["_beyond"]
    wrong = {
        "held": {name: array[:-1] for name, array in beyond["held"].items()},
        "scale": {"mean": np.zeros(2), "deviation": np.ones(2)},
        "inputs": 10**9,
        "layers": [*beyond["layers"][:-1], {**beyond["layers"][-1], "units": 10**6}],
    }[part]
    try:
        fits = Layered.fits({**beyond, part: wrong}, found.coefs_, found.intercepts_)
    except (TypeError, ValueError):
        fits = False
    assert not fits


def test_weights_set_by_hand_are_those_of_the_network():
    X, y = numbers()
    found = regressor().fit(X, y)
    before = found.predict(X)
    found.coefs_[-1] *= 2
    assert (found.predict(X) != before).any()
    found.coefs_ = [W.copy() for W in found.coefs_]
    found.coefs_[-1] /= 2
    assert error(found.predict(X), before) <= 1e-12
    assert error(pickle.loads(pickle.dumps(found)).predict(X), before) <= 1e-12
    found.coefs_[-1] = np.zeros((2, 2))
    with pytest.raises(ValueError, match=r"coefs_\[3\]"):
        found.predict(X)


def test_clone_and_searches_see_layers_as_a_parameter():
    X, y = classes()
    found = GridSearchCV(
        classifier(max_iter=2),
        {"layers": [None, [fn.Dense(3)], LAYERS], "standardize": [True]},
        cv=2,
    )
    assert found.fit(X, y).best_params_["layers"] in (None, [fn.Dense(3)], LAYERS)
    twin = clone(classifier())
    assert twin.layers == LAYERS
    assert "LayerNorm" in repr(twin)


def test_files_of_onnx_have_the_scales_and_every_layer(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X, y = numbers()
    for found in (regressor(layers=[fn.Dense(7, "tanh")]), regressor()):
        found.fit(X, y).to_onnx(tmp_path / "it.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / "it.onnx"))
        (answer,) = session.run(None, {"X": X})
        assert error(answer.ravel(), found.predict(X)) <= 1e-12


# What is refused.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_layer_sizes": (5,)}, "layers and hidden_layer_sizes exclude each other"),
        ({"activation": "tanh"}, "layers and activation exclude each other"),
        ({"dropout": 0.5}, "layers and dropout exclude each other"),
        ({"layers": [fn.Dense(3, l2=0.1)]}, "must have l2=0.0, as alpha is the strength"),
        ({"layers": [fn.Residual([fn.Dense(4, l2=0.1)])]}, "as layer 0.0"),
        ({"layers": [fn.Dense(3), 5]}, r"layers\[1\] must be a layer"),
        ({"layers": "relu"}, "'layers' parameter"),
        ({"layers": [fn.Standardize()]}, "must be the first layer"),
        ({"standardize": 1}, "'standardize' parameter"),
        ({"solver": "lbfgs"}, "a layer that drops units needs a solver that takes steps"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    X, y = numbers()
    found = regressor(**options)
    with pytest.raises((TypeError, ValueError), match=message):
        found.fit(X, y)
    assert not hasattr(found, "coefs_")


def test_losses_and_conversions_that_have_no_counterpart_are_refused():
    X, y = numbers()
    with pytest.raises(ValueError, match=r"needs a loss for targets that are any numbers"):
        regressor(loss="poisson").fit(X, y)
    with pytest.raises(ValueError, match=r"to_sklearn needs a network of hidden_layer_sizes"):
        regressor().fit(X, y).to_sklearn()
    with pytest.raises(ValueError, match="Invalid parameter 'scale_targets'"):
        classifier().set_params(scale_targets=True)
    found = regressor(warm_start=True, layers=STILL).fit(X, y)
    with pytest.warns(UserWarning, match="have no effect on a fit that goes on"):
        found.set_params(layers=[fn.Dense(2)]).fit(X, y)
    assert [W.shape[1] for W in found.coefs_] == [13, 5, 1]
