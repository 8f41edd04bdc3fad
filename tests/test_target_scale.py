"""Targets that the network itself brings to unit scale, and predictions in their units."""

from __future__ import annotations

import pickle
import runpy
import warnings

import numpy as np
import pytest
from cases import error
from scipy import sparse

import fastnn as fn
from fastnn.losses import LOSSES
from fastnn.target_scale import check_loss

BACKENDS = ("native", "reference")
DTYPES = ("float32", "float64")
ERRORS = ["mse", "mae", "rmse", "r2", "mape"]
REAL = [row for row in LOSSES.values() if row.targets == "real"]


def examples(n=65, dtype="float64"):
    """Targets far from unit scale, the last of one value only."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, 5))
    y = np.stack([1e4 + 300 * np.sin(X[:, 0]), -5 + 0.01 * X[:, 1] * X[:, 2], np.full(n, 7.0)], 1)
    return X.astype(dtype), y


def network(*hidden, units=3, dtype="float64", bias=True, **options):
    layers = [*(hidden or (fn.Dense(17, "tanh"),)), fn.Dense(units, bias=bias)]
    return fn.Sequential(layers, dtype=dtype, scale_targets=True, **options)


def plain(net, inputs=5):
    """The same network without the scale, by its weights."""
    twin = fn.Sequential(net.layers, inputs, net.dtype)
    twin.parameters = net.parameters
    return twin


def scale_by_hand(y, w=None):
    mean, deviation = np.average(y, axis=0, weights=w), np.zeros(y.shape[1])
    deviation = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=w))
    flat = y.min(axis=0) == y.max(axis=0)
    return np.where(flat, 0, mean), np.where(flat, 1, deviation)


# What is learnt.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fit_is_that_of_a_plain_network_on_scaled_targets(dtype, backend):
    X, y = examples(dtype=dtype)
    net = network(dtype=dtype)
    twin = fn.Sequential(net.layers, dtype=dtype)
    history = net.fit(X, y, epochs=3, batch_size=7, backend=backend)
    mean, deviation = scale_by_hand(y)
    other = twin.fit(X, (y - mean) / deviation, epochs=3, batch_size=7, backend=backend)
    tolerance = 1e-13 if dtype == "float64" else 1e-5
    assert error(net.parameters, twin.parameters) <= tolerance
    assert error(history["loss"], other["loss"]) <= tolerance
    found = net.predict(X, backend=backend)
    assert found.dtype == dtype
    assert error(found, mean + deviation * twin.predict(X)) <= tolerance


@pytest.mark.parametrize("optimizer", [fn.LBFGS(), fn.LevenbergMarquardt()])
def test_searches_over_all_examples_learn_scaled_targets(optimizer):
    X, y = examples()
    net = network(fn.Dense(6, "tanh"))
    history = net.fit(X, y, optimizer=optimizer, epochs=30, metrics="r2")
    assert history["loss"][-1] < 0.1
    found = net.evaluate(X, y, metrics="r2")
    assert error(history["r2"][-1], found["r2"]) <= 1e-10
    assert history["r2"][-1] > history["r2"][0]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_the_scale_is_that_of_the_known_targets_by_their_weights(missing, weighted):
    X, y = examples()
    w = np.random.default_rng(1).uniform(0, 2, len(X)) if weighted else None
    if missing:
        y[::3, 0] = y[1::4, 1] = np.nan
    net = network()
    net.fit(X, y, epochs=1, sample_weight=w, missing_targets="ignore" if missing else "error")
    ours = net.target_scale
    for column in range(3):
        known = ~np.isnan(y[:, column])
        wanted = scale_by_hand(y[known, column, None], None if w is None else w[known])
        for one, other in zip(ours, wanted, strict=True):
            assert error(one[column : column + 1], other) <= 1e-12


def test_examples_held_out_are_not_measured_and_later_fits_measure_nothing():
    X, y = examples()
    net, other = network(), network()
    net.fit(X[:40], y[:40], epochs=1, X_val=X[40:], y_val=y[40:])
    assert error(net.target_scale[0], scale_by_hand(y[:40])[0]) <= 1e-12
    before = net.target_scale
    net.fit(X, 2 * y, epochs=1)
    assert all((a == b).all() for a, b in zip(before, net.target_scale, strict=True))
    other.fit(X, y, epochs=1, validation_fraction=0.3)
    assert not np.isclose(other.target_scale[0][0], y[:, 0].mean(), rtol=1e-9)


def test_targets_that_float32_cannot_tell_apart_are_learnt():
    X, _ = examples(200)
    y = 1e9 + np.sin(X[:, 0])
    net = network(units=1, dtype="float32")
    with pytest.warns(fn.FitWarning, match="predictions in float32"):
        history = net.fit(X, y, epochs=60, optimizer=fn.Adam(0.02), metrics="rmse")
    assert history["rmse"][-1] < 0.1


def test_several_outputs_for_each_target_are_scaled_as_means_and_variances():
    X, y = examples(300)
    net = network(units=2)
    net.fit(X, y[:, 0], loss="gaussian_nll", epochs=5)
    (mean,), (deviation,) = net.target_scale
    inner = plain(net).predict(X)
    wanted = np.stack([mean + deviation * inner[:, 0], inner[:, 1] + 2 * np.log(deviation)], 1)
    found = net.predict(X)
    assert error(found, wanted) <= 1e-12
    value = net.evaluate(X, y[:, 0], loss="gaussian_nll", metrics="mae")
    nll = 0.5 * (found[:, 1] + (found[:, 0] - y[:, 0]) ** 2 / np.exp(found[:, 1]))
    assert error(value["loss"], nll.mean()) <= 1e-10
    assert error(value["mae"],
                 abs(found[:, 0] - y[:, 0]).mean()) <= 1e-10  # fmt: skip
    with pytest.raises(ValueError, match="must have 1 columns"):
        net.evaluate(X, y[:, :2])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_quantiles_are_all_in_the_units_of_one_target(count, backend, tmp_path):
    X, y = examples(200)
    loss = fn.Quantiles(np.linspace(0.1, 0.9, count).tolist())
    layers = [fn.Dense(9, "tanh"), fn.Dense(count, "increasing")]
    net = fn.Sequential(layers, dtype="float64", scale_targets=True)
    history = net.fit(X, y[:, 0], loss, epochs=4, metrics="mae", backend=backend, X_val=X,
                      y_val=y[:, 0])  # fmt: skip
    (mean,), (deviation,) = net.target_scale
    found = net.predict(X, backend=backend)
    assert error(found, mean + deviation * plain(net).predict(X)) <= 1e-12
    assert (np.diff(found) > 0).all()
    value = net.evaluate(X, y[:, 0], loss, metrics="mae", backend=backend)
    errors = y[:, :1] - found
    q = np.array(loss.quantiles)
    assert error(value["loss"], np.maximum(q * errors, (q - 1) * errors).mean()) <= 1e-10
    assert error(value["mae"], abs(errors[:, loss.middle]).mean()) <= 1e-10
    assert error(history["val_mae"][-1], value["mae"]) <= 1e-9
    net.save(tmp_path / "net.fastnn")
    for twin in (fn.load(tmp_path / "net.fastnn"), pickle.loads(pickle.dumps(net))):
        assert (twin.predict(X) == net.predict(X)).all()
    other = fn.Sequential(layers, dtype="float64", scale_targets=True)
    other.adapt(X, y=y[:, 0])
    assert other.target_scale[0] == mean
    for ask in (net.jitted, net.cfunc, lambda: net.to_python(tmp_path / "net.py")):
        with pytest.raises(ValueError, match="can be folded into a last layer of activation"):
            ask()


# What is measured.


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_metrics_are_in_the_units_of_the_targets(dtype, weighted, missing):
    X, y = examples(dtype=dtype)
    Xv, yv = X[:23], y[:23] + 0.002
    w = np.random.default_rng(1).uniform(0, 2, len(X)) if weighted else None
    if missing:
        y[::3, 0] = np.nan
    options = {"missing_targets": "ignore" if missing else "error", "sample_weight": w}
    found = []
    for how in ({}, {"backend": "reference"}, {"measure": "after"}, {"metrics": [*ERRORS, sums]}):
        net = network(dtype=dtype)
        asked = {"metrics": ERRORS, **options, **how}
        found.append(net.fit(X, y, epochs=2, batch_size=9, X_val=Xv, y_val=yv, **asked))
        last = net.evaluate(Xv, yv, metrics=ERRORS)
        for name in ERRORS:
            assert error(found[-1][f"val_{name}"][-1], last[name]) <= tolerance(dtype)
    by_hand = abs(net.predict(Xv).astype(float) - yv).mean()
    assert error(found[0]["val_mae"][-1], by_hand) <= 1e-3
    for name in ERRORS:
        for other in (found[1], found[3]):
            assert error(found[0][name], other[name]) <= tolerance(dtype)
    after = net.evaluate(X, y, metrics=ERRORS, **options)
    for name in ERRORS:
        assert error(found[2][name][-1], after[name]) <= tolerance(dtype)


def tolerance(dtype):
    return 1e-9 if dtype == "float64" else 2e-4


def sums(t, p):
    return float(np.sum(t))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loss", [row.name for row in REAL if row.outputs == 1 and not row.ordered])
def test_evaluate_gives_the_loss_in_the_units_of_the_targets(loss, backend):
    X, y = examples()
    w = np.random.default_rng(1).uniform(0, 2, len(X))
    net = network()
    net.fit(X, y, loss=loss, epochs=2)
    found = net.evaluate(X, y, loss=loss, sample_weight=w, backend=backend)
    wanted = folded(net).evaluate(X, y, loss=loss, sample_weight=w)
    assert error(found["loss"], wanted["loss"]) <= 1e-9
    trained = plain(net).evaluate(X, scaled(net, y), loss=loss, sample_weight=w)
    assert error(
        net.loss_and_gradient(X, y, loss=loss, sample_weight=w, backend=backend)[0],
        trained["loss"],
    ) <= 1e-10  # fmt: skip


def scaled(net, y):
    return (y - net.target_scale[0]) / net.target_scale[1]


def folded(net):
    """A plain network that gives the units by its last weights."""
    *before, W, b = net.get_weights()
    mean, deviation = net.target_scale
    twin = fn.Sequential(net.layers, 5, net.dtype)
    twin.set_weights([*before, W * deviation, b * deviation + mean])
    return twin


def test_early_stopping_counts_natively_what_it_counts_in_python():
    X, y = examples(200)
    stops = {"validation_fraction": 0.2, "epochs": 60, "metrics": "mae"}
    found = []
    for more in ([], [lambda run: None]):
        net = network(rng=2)
        stopping = fn.EarlyStopping("val_mae", patience=2, min_delta=1.0)
        found.append(net.fit(X, y, callbacks=[stopping, *more], **stops))
    assert error(found[0]["val_mae"], found[1]["val_mae"]) <= 1e-10
    assert found[0].epochs == found[1].epochs < 60


# What is predicted.

HIDDEN = {
    "dense": (fn.Dense(17, "tanh"),),
    "none": (),
    "walked": (fn.Dense(17, "relu"), fn.LayerNorm(), fn.Dropout(0.2)),
    "leading": (fn.Standardize(), fn.Dense(65, "relu")),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", HIDDEN)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_way_to_predict_gives_the_same(dtype, kind, bias):
    X, y = examples(150, dtype)
    net = fn.Sequential([*HIDDEN[kind], fn.Dense(3, bias=bias)], dtype=dtype, scale_targets=True)
    net.fit(X, y, epochs=2)
    found = net.predict(X)
    mean, deviation = net.target_scale
    bound = 1e-12 if dtype == "float64" else 1e-6
    assert error(found, mean + deviation * plain(net).predict(X)) <= bound
    assert error(found, net.predict(X, backend="reference")) <= bound
    frozen, out = net.freeze(), np.empty((150, 3), dtype)
    for same in (net(X), frozen(X), net.hidden(X, -1), net.predict(X, out=out), out):
        assert (same == found).all()
    for row in range(5):
        assert (net(X[row]) == found[row]).all()
        assert (frozen(X[row]) == found[row]).all()
        assert (net.predict(X[row : row + 3]) == found[row : row + 3]).all()
    if kind != "leading":
        assert (net.predict(sparse.csr_array(X)) == found).all()
    with fn.backend("reference"):
        assert error(net(X), found) <= bound
        assert error(frozen(X), found) <= bound
    assert error(net.hidden(X, -2), plain(net).hidden(X, -2)) == 0.0 if HIDDEN[kind] else True


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_code_and_many_vectors_predict_in_units(dtype, bias):
    X, y = examples(dtype=dtype)
    net = network(dtype=dtype, bias=bias)
    net.fit(X, y, epochs=2)
    found, out = net.predict(X), np.empty(3, dtype)
    bound = 1e-12 if dtype == "float64" else 1e-6
    for rows in (1, 65):
        many = net.predict_many([net.parameters, 2 * net.parameters], X[:rows])
        assert (many[0] == found[:rows]).all()
        other = net.copy()
        other.parameters[:] *= 2
        assert (many[1] == other.predict(X[:rows])).all()
        book = net.predict_many([net.parameters], X[:rows], backend="reference")
        assert error(book[0], found[:rows]) <= bound
    forward, weights, vjp = net.jitted(gradient=True)
    forward(weights, X[0], out)
    assert error(out, found[0]) <= bound
    dx = np.empty(5, dtype)
    vjp(weights, X[0], np.ones(3, dtype), dx)
    assert error(dx, net.vjp(X[:1], np.ones((1, 3)))[0]) <= 100 * bound
    function = net.cfunc()
    pointer = function.ctypes.argtypes[0]
    function.ctypes(X[1].ctypes.data_as(pointer), out.ctypes.data_as(pointer))
    assert error(out, found[1]) <= bound


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_are_those_of_what_is_predicted(backend):
    X, y = examples(9)
    net = network()
    net.fit(X, y, epochs=2)
    J = net.jacobian(X, backend=backend)
    V, U = np.random.default_rng(0).normal(size=(2, 9, 5))[..., :5]
    for j in range(5):
        step = np.eye(5)[j] * 1e-5
        slope = (net.predict(X + step) - net.predict(X - step)) / 2e-5
        assert error(J[:, :, j], slope) <= 1e-7
    assert error(net.jvp(X, V, backend=backend), np.einsum("nmp,np->nm", J, V)) <= 1e-12
    U = U[:, :3]
    assert error(net.vjp(X, U, backend=backend), np.einsum("nmp,nm->np", J, U)) <= 1e-12
    inner = plain(net).parameter_jacobian(X)
    deviation = net.target_scale[1][:, None]
    assert error(net.parameter_jacobian(X, backend=backend), inner * deviation) <= 1e-12
    found = net.attribute(X, output=0, steps=200, backend=backend)
    assert error(found.values.sum(1) + net.predict(np.zeros((1, 5)))[0, 0], found.outputs) <= 1e-6


def test_gradients_of_what_is_trained_are_those_of_central_differences():
    X, y = examples(9)
    net = network()
    net.fit(X, y, epochs=1)
    value, gradient = net.loss_and_gradient(X, y)
    f = net.objective(X, y)
    assert f(net.parameters)[0] == value
    v = np.random.default_rng(0).normal(size=net.parameters.shape)
    slope = (f(net.parameters + 1e-5 * v)[0] - f(net.parameters - 1e-5 * v)[0]) / 2e-5
    assert error(slope, gradient @ v) <= 1e-7
    product = net.hessian_vector_product(X, y, v)
    bend = (f(net.parameters + 1e-5 * v)[1] - f(net.parameters - 1e-5 * v)[1]) / 2e-5
    assert error(product, bend) <= 1e-6
    seen = net.trace(X, y)
    assert error(seen.loss, value) <= 1e-12
    assert error(net.target_scale[0] + net.target_scale[1] * seen.A[-1], net.predict(X)) <= 1e-12


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_exports_have_it_in_the_last_weights(dtype, bias, tmp_path):
    X, y = examples(dtype=dtype)
    net = network(fn.Standardize(), fn.Dense(9, "relu"), fn.Dropout(0.1), dtype=dtype, bias=bias)
    net.fit(X, y, epochs=2)
    bound = 1e-12 if dtype == "float64" else 1e-5
    path = tmp_path / "net.py"
    net.to_python(path, X)
    assert error(runpy.run_path(str(path))["predict"](X), net.predict(X)) <= bound
    net.to_c(tmp_path / "net.c", X)
    module = pytest.importorskip("torch")
    with module.no_grad():
        found = net.to_torch()(module.from_numpy(X)).numpy()
    assert error(found, net.predict(X)) <= bound
    pytest.importorskip("onnx")
    net.to_onnx(tmp_path / "net.onnx")
    again = fn.from_onnx(tmp_path / "net.onnx")
    assert error(again.predict(X), net.predict(X)) <= bound


def test_weights_that_it_would_make_infinite_are_not_exported(tmp_path):
    net = network(units=1, inputs=5, dtype="float32")
    X = examples()[0]
    net.adapt(X, y=1e37 * X[:, 0])
    net.weights[-1][:] = 1e5
    with pytest.raises(ValueError, match="scale_targets can be exported"):
        net.to_python(tmp_path / "net.py")


# What is kept.


def test_files_pickles_and_copies_keep_it(tmp_path):
    X, y = examples()
    net = network(fn.Dense(4, "tanh"), fn.Dropout(0.2))
    for known in (False, True):
        if known:
            net.fit(X, y, epochs=2)
        twins = [net.copy(), pickle.loads(pickle.dumps(net))]
        if known:
            net.save(tmp_path / "net.fastnn", state=True)
            twins.append(fn.load(tmp_path / "net.fastnn"))
        for twin in twins:
            assert twin.scale_targets
            assert (twin.target_scale is None) is not known
            assert twin.fit(X, y, epochs=1)["loss"] == net.copy().fit(X, y, epochs=1)["loss"]
    assert "scale_targets=True" in repr(net)
    assert net.summary().endswith("targets at unit scale inside")
    unfitted = network(inputs=5)
    unfitted.save(tmp_path / "new.fastnn")
    assert fn.load(tmp_path / "new.fastnn").target_scale is None
    fn.Sequential([fn.Dense(1)], inputs=2).save(tmp_path / "old.fastnn")
    assert b"scale" not in (tmp_path / "old.fastnn").read_bytes()


def test_a_network_of_many_layers_is_read_again(tmp_path):
    X, y = examples()
    net = network(*[fn.Dense(2, "tanh")] * 60)
    net.fit(X, y, epochs=1)
    net.save(tmp_path / "deep.fastnn")
    assert (fn.load(tmp_path / "deep.fastnn").predict(X) == net.predict(X)).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("targets.mean", np.zeros(2)),
        ("targets.mean", np.full(3, np.nan)),
        ("targets.deviation", np.zeros(3)),
        ("targets.deviation", np.ones(3, np.float32)),
        ("targets.other", np.ones(3)),
    ],
)
def test_a_file_of_another_scale_is_refused(name, value, tmp_path):
    from fastnn.formats import safetensors

    X, y = examples()
    net = network()
    net.fit(X, y, epochs=1)
    path = tmp_path / "net.fastnn"
    net.save(path)
    tensors, texts = safetensors.read(path)
    safetensors.write(path, dict(tensors) | {name: value}, texts)
    with pytest.raises(fn.ModelFileError):
        fn.load(path)


def test_a_fit_goes_on_to_the_same_bits(tmp_path):
    X, y = examples()
    whole, halves, other = network(), network(), network()
    whole.fit(X, y, epochs=6, metrics="mae")
    halves.fit(X, y, epochs=2, metrics="mae", callbacks=fn.Checkpoint(tmp_path / "a.fastnn"))
    other.fit(X, y, epochs=6, metrics="mae", resume=tmp_path / "a.fastnn")
    history = halves.fit(X, y, epochs=4, metrics="mae", resume=True)
    for net in (halves, other):
        assert (net.predict(X) == whole.predict(X)).all()
    assert history.epochs == 6
    alien = fn.Sequential(whole.layers, dtype="float64")
    with pytest.raises(ValueError, match="scale_targets must be as in the fit that goes on, True"):
        alien.fit(X, y, epochs=6, metrics="mae", resume=tmp_path / "a.fastnn")


# What is refused, and what comes before a fit.


def test_single_steps_need_a_scale_that_all_examples_told():
    X, y = examples()
    net = network()
    with pytest.raises(ValueError, match=r"has not seen the targets yet.*net\.adapt\(X, y=y\)"):
        net.train_on_batch(X, y)
    net.adapt(X, y=y)
    assert error(net.target_scale[0], scale_by_hand(y)[0]) <= 1e-12
    twin = plain(net)
    for _ in range(3):
        ours = net.train_on_batch(X, y)
        assert error(ours, twin.train_on_batch(X, scaled(net, y))) <= 1e-12
    assert error(net.parameters, twin.parameters) <= 1e-12


def test_a_fit_that_is_refused_leaves_nothing_behind():
    X, y = examples()
    net = network()
    with pytest.raises(ValueError, match="schedule"):
        net.fit(X, y, schedule="no such thing")
    assert net.inputs is None
    net = network(inputs=5)
    with pytest.raises(ValueError, match="y has infinity"):
        net.fit(X, np.where(y > 0, y, np.inf))
    assert net.target_scale is None
    before = net.predict(X)
    assert (before == plain(net).predict(X)).all()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "exp", "relu", "tanh"])
def test_last_layers_of_other_ranges_are_refused(activation):
    with pytest.raises(ValueError, match="needs a last layer of activation 'identity'"):
        fn.Sequential([fn.Dense(2, activation)], scale_targets=True)


def test_other_losses_and_arguments_are_refused():
    X, y = examples()
    net = network()
    with pytest.raises(ValueError, match=r"one of 'mean_squared_error'.*got loss='hinge'"):
        net.fit(X, np.sign(X[:, :3]), loss="hinge")
    with pytest.raises(ValueError, match="got loss='hinge'"):
        network(inputs=5).evaluate(X, np.sign(X[:, :3]), loss="hinge")
    with pytest.raises(AttributeError):
        net.scale_targets = False
    with pytest.raises(TypeError, match="scale_targets must be"):
        fn.Sequential([fn.Dense(2)], scale_targets=1)
    with pytest.raises(ValueError, match="y is for networks with scale_targets=True"):
        fn.Sequential([fn.Standardize(), fn.Dense(3)]).adapt(X, y=y)
    with pytest.raises(ValueError, match="adapt needs y="):
        net.adapt(X)
    for row in LOSSES.values():
        if row.targets == "real":
            check_loss(row)
        else:
            with pytest.raises(ValueError, match="needs a loss for targets that are any numbers"):
                check_loss(row)


def test_targets_beyond_a_dtype_are_refused():
    X, y = examples()
    net = network(units=1, dtype="float32")
    with pytest.raises(ValueError, match="numbers that fit float32"):
        net.fit(X, 1e40 + 1e39 * X[:, 0])
    net.fit(X, 1e-20 * X[:, 0], epochs=1)
    with pytest.raises(ValueError, match="y must lie within what float32 holds"):
        net.evaluate(X, 1e38 * y[:, 0])


def test_scales_need_no_warning_and_diagnose_sees_scaled_targets(recwarn):
    X, y = examples()
    net = network(inputs=5)
    report = net.diagnose(X, 1e6 * y)
    assert net.target_scale is None
    assert not any(" y" in finding or "targets" in finding for finding in report.findings[:1])
    net.fit(X, 1e6 * y, epochs=1)
    net.diagnose(X, 1e6 * y)
    assert not recwarn.list
    assert fn.find_learning_rate(network(), X, 1e6 * y, steps=30).suggestion > 0


def test_outputs_in_order_need_quantiles():
    net = fn.Sequential([fn.Dense(3, "increasing")], scale_targets=True)
    with pytest.raises(ValueError, match=r"is for one target.* got y of 3 columns"):
        net.fit([[1.0], [2.0]], [[1.0, 2, 3], [3, 4, 50]], "mean_squared_error", epochs=1)


@pytest.mark.parametrize("estimator", [False, True])
def test_targets_too_close_for_the_dtype_are_warned_of(estimator):
    x = np.arange(50.0)[:, None]
    y = 1.7e9 + x[:, 0]

    def fit(dtype):
        if estimator:
            regressor = fn.MLPRegressor(
                hidden_layer_sizes=(3,), scale_targets=True, dtype=dtype, max_iter=1, random_state=0
            )
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Stochastic Optimizer")
                regressor.fit(x, y)
        else:
            layers = [fn.Standardize(), fn.Dense(1)]
            fn.Sequential(layers, dtype=dtype, scale_targets=True).fit(x, y, epochs=1)

    with pytest.warns(fn.FitWarning, match=r"around 1\.7e\+09 .* float32 .* by 2e\+02 only"):
        fit("float32")
    fit("float64")
