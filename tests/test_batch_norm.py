"""BatchNorm: the batch's statistics in training, the running ones elsewhere, on every path."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
from cases import differences, error

import fastnn as fn
from fastnn.exports.parts import PlainLayer
from fastnn.exports.plain import PlainNetwork
from fastnn.optimizers import OPTIMIZERS
from fastnn.predicting.folding import Folding

BACKENDS = ("native", "reference")
DTYPES = ("float32", "float64")

STACKS = {
    "after a Dense": [fn.Dense(20, "relu"), fn.BatchNorm(), fn.Dense(3, "softmax")],
    "first, dropped, and twice": [
        fn.BatchNorm(0.5, 0.01), fn.Dense(33, "tanh"), fn.BatchNorm(), fn.Dropout(0.25),
        fn.BatchNorm(0.0), fn.Dense(47, "gelu", l2=0.01), fn.Dropout(0.1), fn.Dense(3, "softmax"),
    ],
    "after a softmax and before a narrow one": [
        fn.Dense(70, "softmax"), fn.BatchNorm(0.9, 1e-3), fn.Dense(17, bias=False), fn.BatchNorm(),
        fn.Dense(2, "elu"), fn.Dense(3, "softmax"),
    ],
    "in blocks": [
        fn.Dense(17), fn.Residual([fn.BatchNorm(), fn.Dense(30, "relu"), fn.BatchNorm(),
                                   fn.Dense(17)]),
        fn.Residual([fn.LayerNorm(), fn.Residual([fn.BatchNorm(), fn.PReLU()])]),
        fn.Dense(3, "softmax"),
    ],
    "frozen, and behind frozen ones": [
        fn.Dense(20, "relu", trainable=False), fn.BatchNorm(), fn.Dense(33), fn.BatchNorm(
            trainable=False), fn.Dense(130, "silu"), fn.BatchNorm(), fn.Dense(3, "softmax"),
    ],
}  # fmt: skip


def network(stack="after a Dense", dtype="float64", seed=0):
    """Return a network whose arrays are none of those at the start."""
    net = fn.Sequential(STACKS[stack], inputs=6, dtype=dtype, rng=seed)
    rng = np.random.default_rng(seed)
    net.parameters[:] += 0.1 * rng.normal(size=net.parameters.size)
    net.buffers[:] += rng.uniform(0.0, 0.5, size=net.buffers.size)
    return net


def examples(n=53, p=6):
    rng = np.random.default_rng(7)
    return rng.normal(size=(n, p)) * (1 + np.arange(p)) + 2, rng.integers(3, size=n)


def same(one, other):
    """Whether two networks have the same bits."""
    return (one.parameters == other.parameters).all() and (one.buffers == other.buffers).all()


# What it is.


def test_a_batch_norm_is_a_momentum_and_an_epsilon():
    assert fn.BatchNorm() == fn.BatchNorm(0.9, 1e-5)
    assert repr(fn.BatchNorm()) == "BatchNorm(momentum=0.9, epsilon=1e-05)"
    for layer in (fn.BatchNorm(0.5), fn.BatchNorm(trainable=False)):
        assert pickle.loads(pickle.dumps(layer)) == copy.deepcopy(layer) == layer
        assert eval(repr(layer), {"BatchNorm": fn.BatchNorm}) == layer


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"momentum": 1.0}, ValueError, "momentum must be"),
        ({"momentum": -0.1}, ValueError, "momentum must be"),
        ({"momentum": "slow"}, TypeError, "momentum must be"),
        ({"epsilon": 0.0}, ValueError, "epsilon must be"),
        ({"trainable": 1}, TypeError, "trainable must be"),
        ({"eps": 1e-5}, TypeError, "epsilon"),
        ({"track_running_stats": True}, TypeError, "running mean"),
    ],
    ids=str,
)
def test_what_is_no_batch_norm_is_refused(arguments, kind, said):
    with pytest.raises(kind, match=said):
        fn.BatchNorm(**arguments)


def test_its_arrays_begin_as_nothing_to_do():
    net = fn.Sequential([fn.Dense(4), fn.BatchNorm(), fn.Dense(2), fn.BatchNorm(), fn.Dense(1)],
                        inputs=3)  # fmt: skip
    assert net.layout.names == (
        "0.W", "0.b", "1.scale", "1.shift", "2.W", "2.b", "3.scale", "3.shift", "4.W", "4.b",
    )  # fmt: skip
    assert net.layout.view(net.parameters, "1.scale").tolist() == [1.0] * 4
    assert net.parameters.size == net.layout.size == 16 + 8 + 10 + 4 + 3
    assert list(net.layout.buffers) == ["1.mean", "1.variance", "3.mean", "3.variance"]
    assert net.buffers.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 2 + [1.0] * 2
    assert net.summary().splitlines()[2].split() == [
        "1", "BatchNorm", "momentum", "0.9", "(n,", "4)", "8"
    ]  # fmt: skip
    net.buffers = np.arange(12)
    assert net.buffers.tolist() == list(range(12))
    with pytest.raises(ValueError, match="buffers must"):
        net.buffers = np.arange(11)
    net.parameters = np.zeros(net.layout.size)
    assert net.buffers.tolist() == list(range(12))
    assert fn.Sequential([fn.Dense(1)], inputs=2).buffers.size == 0


# What it computes.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("units", [1, 2, 7, 16, 33, 100])
def test_columns_are_normalised_by_the_batch_or_by_what_runs(units, backend):
    net = fn.Sequential([fn.Dense(units, "tanh"), fn.BatchNorm(0.75, 1e-6), fn.Dense(2)], inputs=6,
                        dtype="float64")  # fmt: skip
    X, _ = examples()
    y = np.zeros((len(X), 2))
    A = net.hidden(X, 0, backend=backend)
    assert error(net.hidden(X, 1, backend=backend), A / np.sqrt(1 + 1e-6)) <= 1e-12
    normal = (A - A.mean(axis=0)) / np.sqrt(A.var(axis=0) + 1e-6)
    Z = net.trace(X, y, backend=backend).Z[1]
    assert error(Z, normal @ net.weights[1] + net.biases[1]) <= 1e-11
    net.train_on_batch(X, y, optimizer=fn.SGD(1e-300), backend=backend)
    view = net.layout.view
    mean, variance = (view(net._everything, net.layout.buffers[f"1.{name}"])
                      for name in ("mean", "variance"))  # fmt: skip
    assert error(mean, 0.25 * A.mean(axis=0)) <= 1e-12
    assert error(variance, 0.75 + 0.25 * A.var(axis=0)) <= 1e-12
    wanted = (A - mean) / np.sqrt(variance + 1e-6)
    assert error(net.hidden(X, 1, backend=backend), wanted) <= 1e-11


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("stack", STACKS)
def test_gradients_are_those_of_differences(stack, weighted, backend):
    net, (X, y) = network(stack), examples(11)
    weights = np.random.default_rng(3).integers(0, 4, size=11) / 2 if weighted else None
    gradient = net.loss_and_gradient(X, y, sample_weight=weights, backend=backend)[1].copy()
    assert gradient.shape == net.parameters.shape
    places = np.unique(np.linspace(0, net.parameters.size - 1, 100).astype(int))
    for entry in net.layout:
        places = np.union1d(places, entry.offset + np.arange(min(entry.size, 3)))
    frozen = {
        place
        for one in net.layout.operations if not one.trainable
        for entry in one.parameters
        for place in range(entry.offset, entry.offset + entry.size)
    }  # fmt: skip
    places = [place for place in places if place not in frozen]
    found = differences(net, places, X, y, sample_weight=weights, backend=backend)
    assert error(found, gradient[places]) < 1e-7
    assert not gradient[sorted(frozen)].any()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stack", STACKS)
def test_native_is_the_reference_in_any_number_of_threads(stack, optimizer):
    X, y = examples(200)
    options = {
        "optimizer": OPTIMIZERS[optimizer].record(), "epochs": 2, "progress": False,
        "batch_size": 64, "clip_norm": 0.5 if optimizer in ("Adam", "SGD") else None,
    }  # fmt: skip
    net = network(stack)
    nets = [net.copy() for _ in range(4)]
    for one, threads in zip(nets, (1, 2, 3, 8), strict=True):
        one.fit(X, y, threads=threads, **options)
        assert same(one, nets[0])
    assert (nets[0].buffers != net.buffers).any()
    if optimizer in ("Rprop", "Lion"):
        # These step by signs, and the gradient of a bias before the layer is 0 but for rounding.
        assert np.isfinite(nets[0].parameters).all()
        return
    net.fit(X, y, backend="reference", **options)
    assert error(nets[0].parameters, net.parameters) <= 1e-8
    assert error(nets[0].buffers, net.buffers) <= 1e-8


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [2, 5, 700, 3000])
def test_a_batch_is_one_whatever_its_size(rows, dtype):
    net, (X, y) = network("after a Dense", dtype), examples(rows)
    (loss, gradient), (wanted, other) = (
        net.loss_and_gradient(X, y, backend=backend) for backend in BACKENDS
    )
    limit = 1e-11 if dtype == "float64" else 2e-4
    assert loss == pytest.approx(wanted, rel=limit)
    assert error(gradient, other) <= limit
    nets = [net.copy() for _ in range(3)]
    for one, backend, threads in zip(nets, (*BACKENDS, "native"), (1, 1, 5), strict=True):
        one.fit(X, y, optimizer=fn.SGD(0.1), batch_size=rows, epochs=2, progress=False,
                backend=backend, threads=threads)  # fmt: skip
    assert error(nets[0].parameters, nets[1].parameters) <= limit
    assert error(nets[0].buffers, nets[1].buffers) <= limit
    assert same(nets[0], nets[2])


def test_columns_far_from_zero_keep_their_variance():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(4000, 3)) + 300).astype(np.float32)
    net = fn.Sequential([fn.BatchNorm(0.0), fn.Dense(1)], inputs=3)
    net.train_on_batch(X, np.zeros(4000), optimizer=fn.SGD(1e-9))
    exact = X.astype(float)
    assert error(net.buffers[:3], exact.mean(axis=0)) <= 1e-6
    assert error(net.buffers[3:], exact.var(axis=0)) <= 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_of_examples_count(backend):
    X, y = examples(60)
    weights = np.random.default_rng(0).integers(0, 3, size=60).astype(float)
    nets = [network(), network()]
    rows = np.repeat(np.arange(60), weights.astype(int))
    found = nets[0].loss_and_gradient(X, y, sample_weight=weights, backend=backend)
    wanted = nets[1].loss_and_gradient(X[rows], y[rows], backend=backend)
    assert found[0] == pytest.approx(wanted[0], rel=1e-12)
    assert error(found[1], wanted[1]) <= 1e-11
    nets[0].train_on_batch(X, y, sample_weight=weights, backend=backend)
    nets[1].train_on_batch(X[rows], y[rows], backend=backend)
    assert error(nets[0].buffers, nets[1].buffers) <= 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_single_example_says_is_the_shift(backend):
    X, y = examples(9)
    net = network()
    held = net.buffers.copy()
    Z = net.trace(X[:1], y[:1], backend=backend).Z[1]
    shift = net.layout.view(net.parameters, "1.shift")
    assert error(Z[0], shift @ net.weights[1] + net.biases[1]) <= 1e-12
    for call in (
        lambda: net.train_on_batch(X[:1], y[:1], backend=backend),
        lambda: net.fit(X, y, batch_size=1, progress=False, backend=backend),
        lambda: net.fit(X[:1], y[:1], progress=False, backend=backend),
    ):
        before = net.parameters.copy()
        with pytest.raises(ValueError, match=r"layer 1, .* at least 2 .*LayerNorm"):
            call()
        assert (net.parameters == before).all()
    # The last batch of an epoch may be one, and one example may be the only one that counts.
    net.train_on_batch(X, y, sample_weight=[0, 0, 2, 0, 0, 0, 0, 0, 0], backend=backend)
    assert (net.buffers == held).all()
    twin = net.copy()
    net.fit(X, y, batch_size=8, epochs=1, shuffle=False, progress=False, backend=backend)
    twin.fit(X[:8], y[:8], batch_size=8, epochs=1, shuffle=False, progress=False, backend=backend)
    assert (net.buffers == twin.buffers).all()
    assert np.isfinite(net.parameters).all()


def test_a_network_ends_with_a_dense_layer():
    with pytest.raises(ValueError, match="must end with a Dense layer"):
        fn.Sequential([fn.Dense(3), fn.BatchNorm()])


@pytest.mark.parametrize("record", [fn.LBFGS(), fn.LevenbergMarquardt()])
def test_searches_refuse_it(record):
    X, _ = examples()
    net = fn.Sequential([fn.Dense(3), fn.BatchNorm(), fn.Dense(1)], inputs=6)
    with pytest.raises(ValueError, match=r"running mean .* got BatchNorm.*LayerNorm.* Adam"):
        net.fit(X, X[:, 0], optimizer=record, progress=False)


# Which view is whose.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stack", STACKS)
def test_training_sees_the_batch_and_predictions_do_not(stack, backend):
    net, (X, y) = network(stack), examples()
    whole = net.predict(X, backend=backend)
    alone = np.concatenate([net.predict(x[None], backend=backend) for x in X])
    assert error(whole, alone) <= 1e-12
    loss = net.evaluate(X, y, backend=backend)["loss"]
    assert loss == pytest.approx(-np.log(whole[np.arange(len(y)), y]).mean(), rel=1e-10)
    seen = net.trace(X, y, backend=backend)
    assert seen.loss == pytest.approx(-np.log(seen.A[-1][np.arange(len(y)), y]).mean(), rel=1e-10)
    penalty = sum(
        0.5 * getattr(one.layer, "l2", 0.0) * (net.layout.view(net.parameters, one.W) ** 2).sum()
        for one in net.layout.blocks
    )
    assert net.loss_and_gradient(X, y, backend=backend)[0] == pytest.approx(
        seen.loss + penalty, rel=1e-10
    )
    assert abs(seen.loss - loss) > 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", STACKS)
def test_predictions_are_the_same_bits_however_they_are_asked_for(stack, dtype):
    net, (X, _) = network(stack, dtype), examples(300)
    X = X.astype(dtype)
    wanted = net.predict(X)
    assert error(wanted, net.predict(X, backend="reference")) <= (
        1e-11 if dtype == "float64" else 2e-5
    )
    assert (net(X) == wanted).all()
    assert (net.freeze()(X[:9]) == wanted[:9]).all()
    for n in (0, 1, 299):
        assert (net(X[n]) == wanted[n]).all()
        assert (net.freeze()(X[n]) == wanted[n]).all()
    out = np.empty_like(wanted)
    assert (net.predict(X, out=out) == wanted).all()
    assert (net.hidden(X, -1) == wanted).all()
    net.buffers[:] *= 1.5
    assert (net.predict(X) != wanted).any()
    assert error(net.predict(X), net.predict(X, backend="reference")) <= (
        1e-11 if dtype == "float64" else 2e-5
    )


@pytest.mark.parametrize("stack", STACKS)
def test_traces_evaluations_and_reports_are_those_of_the_reference(stack):
    net, (X, y) = network(stack), examples()
    native, textbook = (net.trace(X, y, backend=backend) for backend in BACKENDS)
    for field in ("Z", "A", "dZ", "dW", "db"):
        for one, other in zip(getattr(native, field), getattr(textbook, field), strict=True):
            assert (one is None) == (other is None)
            assert one is None or error(one, other) <= 1e-10
    assert error(native.dX, textbook.dX) <= 1e-10
    for place in range(len(net.layers)):
        found = [net.hidden(X, place, backend=backend) for backend in BACKENDS]
        assert error(*found) <= 1e-11
    for asked in ((), ("accuracy",)):
        found = [net.evaluate(X, y, metrics=asked, backend=backend) for backend in BACKENDS]
        assert found[0] == pytest.approx(found[1], rel=1e-11)
    held = net._everything.copy()
    reports = [net.diagnose(X, y, backend=backend) for backend in BACKENDS]
    assert (net._everything == held).all()
    assert len(reports[0].layers) == len(net.weights)
    assert reports[0].findings == reports[1].findings
    f = net.objective(X, y)
    (loss, gradient), (wanted, other) = f(net.parameters), net.loss_and_gradient(X, y)
    assert loss == wanted
    assert (gradient == other).all()
    kind, parts = f.__reduce__()
    assert (kind(*parts)(net.parameters)[1] == other).all()


def test_reports_look_at_what_predictions_see():
    X, y = examples(200)
    net = network()
    layers = [net.diagnose(X, y).layers[1]]
    net.buffers[20:] *= 1e4
    layers.append(net.diagnose(X, y).layers[1])
    assert str(layers[0]) != str(layers[1])


@pytest.mark.parametrize("stack", STACKS)
def test_derivatives_are_those_of_predictions(stack):
    net, (X, y) = network(stack), examples(5)
    J = net.jacobian(X)
    for j in range(6):
        step = 1e-5 * (np.arange(6) == j)
        slope = (net.predict(X + step) - net.predict(X - step)) / 2e-5
        assert np.abs(J[:, :, j] - slope).max() <= 1e-8
    P, base = net.parameter_jacobian(X), net.parameters.copy()
    for place in range(0, base.size, 7):
        step = 1e-5 * (np.arange(base.size) == place)
        net.parameters = base + step
        up = net.predict(X)
        net.parameters = base - step
        assert np.abs(P[:, :, place] - (up - net.predict(X)) / 2e-5).max() <= 1e-8
    net.parameters = base
    errors = fn.check_gradients(net, X, y).errors
    # What a layer takes off has a gradient of 0, and what differs from that is rounding.
    assert max(found for name, found in errors.items() if name.endswith(".W")) < 1e-6
    v = np.random.default_rng(0).normal(size=base.size)
    moving = np.zeros(base.size)
    for one in net.layout.operations:
        for entry in one.parameters:
            moving[entry.offset : entry.offset + entry.size] = one.trainable
    product = net.hessian_vector_product(X, y, v)
    gradients = []
    for sign in (1, -1):
        net.parameters = base + sign * 1e-5 * v * moving
        gradients.append(net.loss_and_gradient(X, y, backend="reference")[1])
    assert error(product, (gradients[0] - gradients[1]) / 2e-5) <= 1e-4


# Fits.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("alone", [True, False])
def test_a_fit_validates_measures_and_keeps_the_best(backend, alone):
    X, y = examples(120)
    callbacks = [fn.EarlyStopping(patience=3)]
    callbacks += [] if alone else [fn.Callback()]
    net = network("first, dropped, and twice")
    history = net.fit(
        X, y, epochs=12, progress=False, metrics="accuracy", validation_data=(X[:40], y[:40]),
        callbacks=callbacks, backend=backend, optimizer=fn.Adam(0.3),
    )  # fmt: skip
    best = int(np.argmin(history["val_loss"]))
    assert history.best_epoch == best + 1
    assert net.evaluate(X[:40], y[:40])["loss"] == pytest.approx(
        history["val_loss"][best], rel=1e-9
    )
    twin = network("first, dropped, and twice")
    again = twin.fit(
        X, y, epochs=best + 1, progress=False, metrics="accuracy", backend="reference",
        validation_data=(X[:40], y[:40]), optimizer=fn.Adam(0.3),
    )  # fmt: skip
    assert error(net.buffers, twin.buffers) <= 1e-7
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        assert history[name][: best + 1] == pytest.approx(again[name], rel=1e-7)


@pytest.mark.filterwarnings("ignore::fastnn.FitWarning")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_divergence_goes_back_to_before_the_step(backend):
    X, y = examples(64)
    X = X.astype(np.float32)
    X[40] = 1e30
    net = fn.Sequential([fn.Dense(5, "exp"), fn.BatchNorm(), fn.Dense(3, "softmax")], inputs=6)
    twin = net.copy()
    options = {"batch_size": 8, "shuffle": False, "progress": False, "optimizer": fn.SGD(1e-3)}
    with pytest.raises(fn.DivergenceError), np.errstate(all="ignore"):
        net.fit(X, y, epochs=2, backend=backend, **options)
    twin.fit(X[:40], y[:40], epochs=1, backend=backend, **options)
    assert same(net, twin)
    with pytest.raises(fn.DivergenceError), np.errstate(all="ignore"):
        net.train_on_batch(X[40:], y[40:], backend=backend)
    assert same(net, twin)
    net.buffers[2] = np.nan
    with pytest.raises(fn.DivergenceError, match=r"1\.mean"):
        net.fit(X, y, progress=False, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_fits_go_on_to_the_same_bits(backend, tmp_path):
    X, y = examples(100)
    options = {
        "batch_size": 16, "progress": False, "backend": backend, "validation_fraction": 0.2,
    }  # fmt: skip
    net, twin = (network("first, dropped, and twice", "float32") for _ in range(2))
    net.fit(X, y, epochs=5, **options)
    twin.fit(X, y, epochs=2, callbacks=fn.Checkpoint(tmp_path / "fit"), **options)
    other = network("first, dropped, and twice", "float32", seed=5)
    twin.fit(X, y, epochs=3, resume=True, **options)
    other.fit(X, y, epochs=5, resume=tmp_path / "fit", **options)
    assert same(net, twin)
    assert same(net, other)


def test_the_best_of_a_fit_that_goes_on_brings_its_buffers(tmp_path):
    X, y = examples(100)
    options = {
        "batch_size": 16, "progress": False, "validation_fraction": 0.2, "optimizer": fn.Adam(0.2),
    }  # fmt: skip
    nets = [network() for _ in range(2)]
    for net, epochs in zip(nets, ((9,), (3, 6)), strict=True):
        for count in epochs:
            net.fit(X, y, epochs=count, resume=True, callbacks=[fn.EarlyStopping(patience=4),
                    fn.Checkpoint(tmp_path / "best")], **options)  # fmt: skip
    assert same(*nets)


@pytest.mark.parametrize("stack", STACKS)
def test_files_copies_and_pickles_go_on_to_the_same_bits(stack, tmp_path):
    net, (X, y) = network(stack, "float32"), examples()
    net.fit(X, y, epochs=1, progress=False)
    net.save(tmp_path / "net")
    twins = [fn.load(tmp_path / "net"), net.copy(), pickle.loads(pickle.dumps(net))]
    for twin in twins:
        assert twin.layers == net.layers
        assert same(twin, net)
        assert not np.shares_memory(twin.buffers, net.buffers)
    net.fit(X, y, epochs=2, progress=False)
    for twin in twins:
        twin.fit(X, y, epochs=2, progress=False)
        assert same(twin, net)


def test_many_layers_of_it_are_read_from_a_file(tmp_path):
    layers = [layer for _ in range(40) for layer in (fn.Dense(2), fn.BatchNorm())]
    net = fn.Sequential([*layers, fn.Dense(1)], inputs=2)
    net.buffers[:] = np.arange(net.buffers.size)
    net.save(tmp_path / "net")
    assert same(fn.load(tmp_path / "net"), net)


def test_one_step_at_a_time_is_a_fit():
    X, y = examples(32)
    net, twin = network(), network()
    for _ in range(3):
        net.train_on_batch(X, y)
    twin.fit(X, y, epochs=3, batch_size=32, progress=False, shuffle=False)
    assert error(net.parameters, twin.parameters) <= 1e-12
    assert error(net.buffers, twin.buffers) <= 1e-12


def test_what_is_frozen_stays_and_is_seen_as_predictions_see_it():
    X, y = examples(64)
    layers = [fn.Dense(9, "tanh", trainable=False), fn.BatchNorm(trainable=False),
              fn.Dense(3, "softmax")]  # fmt: skip
    net = fn.Sequential(layers, inputs=6, dtype="float64")
    net.buffers[:] = np.linspace(0.1, 1.0, 18)
    held = net.buffers.copy()
    assert net.trace(X, y).loss == pytest.approx(net.evaluate(X, y)["loss"], rel=1e-12)
    net.fit(X[:1], y[:1], epochs=1, progress=False)
    net.fit(X, y, epochs=2, progress=False)
    assert (net.buffers == held).all()
    assert (net.layout.view(net.parameters, "1.scale") == 1).all()


# Sparse examples.


def test_sparse_examples_are_read_by_a_dense_layer_before_it():
    sparse = pytest.importorskip("scipy.sparse")
    X, y = examples(80)
    X = np.where(np.abs(X) > 0.7, X, 0.0)
    nets = [network(), network()]
    for net, given in zip(nets, (X, sparse.csr_array(X)), strict=True):
        net.fit(given, y, epochs=3, progress=False, metrics="accuracy", validation_fraction=0.2)
    assert same(*nets)
    given = sparse.csr_array(X)
    assert error(nets[0].predict(given), nets[0].predict(X)) <= 1e-12
    assert error(nets[0].hidden(given, 1), nets[0].hidden(X, 1)) <= 1e-12
    assert nets[0].evaluate(given, y) == pytest.approx(nets[0].evaluate(X, y), rel=1e-12)
    with pytest.raises(ValueError, match=r"X must be dense .* got a sparse matrix, and BatchNorm"):
        network("first, dropped, and twice").fit(given, y, progress=False)


# PyTorch's.


def test_training_and_predictions_are_pytorch_s():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    X = (rng.normal(size=(40, 6)) * [1, 2, 3, 1, 1, 1] + 1).astype(np.float32)
    targets = rng.normal(size=(40, 3)).astype(np.float32)
    net = fn.Sequential([fn.Dense(30, "tanh"), fn.BatchNorm(0.8, 1e-3), fn.Dense(3)], inputs=6)
    net.parameters[:] += 0.2 * rng.normal(size=net.parameters.size).astype(np.float32)
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 30), torch.nn.Tanh(),
        torch.nn.BatchNorm1d(30, eps=1e-3, momentum=0.2), torch.nn.Linear(30, 3),
    )  # fmt: skip
    theirs = {
        "0.W": module[0].weight, "0.b": module[0].bias, "1.scale": module[2].weight,
        "1.shift": module[2].bias, "2.W": module[3].weight, "2.b": module[3].bias,
    }  # fmt: skip
    with torch.no_grad():
        for name, parameter in theirs.items():
            parameter.copy_(torch.from_numpy(net.layout.view(net.parameters, name).T.copy()))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(module(torch.from_numpy(X)), torch.from_numpy(targets))
        loss.backward()
        value, gradient = net.loss_and_gradient(X, targets)
        assert value == pytest.approx(loss.item(), rel=1e-5)
        for name, parameter in theirs.items():
            found = net.layout.view(gradient, name)
            assert np.abs(found - parameter.grad.numpy().T).max() <= 1e-5
        optimizer.step()
        net.train_on_batch(X, targets, optimizer=fn.SGD(0.1))
    mean, variance = net.buffers[:30], net.buffers[30:]
    assert np.abs(mean - module[2].running_mean.numpy()).max() <= 1e-5
    # Theirs follows the variance over n - 1; both begin at 1.
    begun = 0.8**5
    corrected = begun + (module[2].running_var.numpy() - begun) * 39 / 40
    assert np.abs(variance - corrected).max() <= 1e-5
    net.buffers[30:] = module[2].running_var.numpy()
    predicted = module.eval()(torch.from_numpy(X)).detach().numpy()
    assert np.abs(net.predict(X) - predicted).max() <= 1e-5


# Estimators.


@pytest.mark.parametrize("early", [False, True])
def test_estimators_take_it_and_keep_its_buffers(early, tmp_path):
    pytest.importorskip("sklearn")
    X, y = examples(150)
    layers = [fn.Dense(9, "relu"), fn.BatchNorm(0.7), fn.Dense(7, "tanh"), fn.BatchNorm()]
    options = {"layers": layers, "max_iter": 12, "early_stopping": early, "random_state": 0,
               "n_iter_no_change": 20, "tol": 0.0}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = fn.MLPClassifier(**options).fit(X, y)
        with fn.backend("reference"):
            other = fn.MLPClassifier(**options).fit(X, y)
    network = model.network_
    assert (network.buffers != fn.Sequential(network.layers, 6).buffers).any()
    assert error(network.buffers, other.network_.buffers) <= 1e-3
    assert error(model.predict_proba(X), network.predict(X)) <= 1e-6
    model.save(tmp_path / "model")
    for twin in (pickle.loads(pickle.dumps(model)), fn.load_estimator(tmp_path / "model")):
        assert same(twin.network_, network)
        assert (twin.predict_proba(X) == model.predict_proba(X)).all()
        if not early:
            twin.partial_fit(X[:50], y[:50])
            assert (twin.network_.buffers != network.buffers).any()


def test_estimators_refuse_what_cannot_train_it():
    pytest.importorskip("sklearn")
    X, y = examples(30)
    layers = [fn.Dense(4), fn.BatchNorm()]
    with pytest.raises(ValueError, match=r"lbfgs.* BatchNorm.* cannot follow"):
        fn.MLPClassifier(layers=layers, solver="lbfgs", random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="at least 2"):
        fn.MLPClassifier(layers=layers, batch_size=1, random_state=0).fit(X, y)


# Other forms.


def exported(dtype="float32"):
    """Return a network of which some norms go into the layer before, others into the next one."""
    layers = [
        fn.BatchNorm(), fn.Dense(9, "tanh"), fn.BatchNorm(0.5, 0.01), fn.Dropout(0.1),
        fn.BatchNorm(), fn.Dense(5, bias=False), fn.BatchNorm(), fn.BatchNorm(), fn.Dense(4, "elu"),
        fn.Dense(3, "softmax"),
    ]  # fmt: skip
    net = fn.Sequential(layers, inputs=6, dtype=dtype)
    rng = np.random.default_rng(3)
    net.parameters[:] += 0.1 * rng.normal(size=net.parameters.size)
    net.buffers[:] += rng.uniform(0.0, 0.5, size=net.buffers.size)
    return net


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_are_folded_into_the_layers_beside_them(dtype):
    net, (X, _) = exported(dtype), examples()
    limit = 1e-12 if dtype == "float64" else 1e-5
    scaled = fn.Sequential([fn.Standardize(), *net.layers], inputs=6, dtype=dtype)
    scaled.adapt(X)
    scaled.buffers[:12] = net.buffers[:12]
    for one in (net, scaled):
        folded = PlainNetwork.of(one.layout, one._everything, None)
        assert [type(step) for step in folded.steps] == [PlainLayer] * 4
        assert error(folded.predictions(X.astype(dtype)), one.predict(X)) <= limit
    for stack in ("in blocks", "after a softmax and before a narrow one"):
        found = network(stack)
        kinds = PlainNetwork.of(found.layout, found._everything, None).kinds
        assert ("BatchNorm" in kinds) == (stack == "in blocks")


@pytest.mark.parametrize("dtype", DTYPES)
def test_folded_predictions_are_the_textbook_s(dtype):
    net, (X, _) = exported(dtype), examples()
    limit = 1e-11 if dtype == "float64" else 1e-4
    X[:, 1] = np.arange(len(X)) % 4
    for front in ([], [fn.Standardize()], [fn.Embedding({1: 4}, 2)]):
        net = fn.Sequential([*front, *net.layers[-9:]], inputs=6, dtype=dtype, rng=3)
        net.buffers[:] += np.random.default_rng(1).uniform(0.0, 0.5, size=net.buffers.size)
        if front and isinstance(front[0], fn.Standardize):
            net.adapt(X)
        assert Folding.of(net.layout, centred=True) is not None
        expected = net.predict(X, backend="reference")
        assert error(net.predict(X), expected) <= limit
        assert error(net.predict(X[:1]), expected[:1]) <= limit


def test_what_is_folded():
    net = exported()
    kinds = [one.kind.name for one in Folding.of(net.layout).layout.operations]
    assert kinds == ["Dense"] * 4
    kinds = [one.kind.name for one in Folding.of(net.layout, centred=True).layout.operations]
    assert kinds == ["Standardize"] + ["Dense"] * 4
    assert Folding.of(network("in blocks").layout) is None
    assert Folding.of(fn.Sequential([fn.Dense(2)], inputs=1).layout) is None
    assert Folding.of(net.layout, net.layout.operations[:3]) is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_predictions_fold_with_the_same_bits_and_see_every_write(dtype):
    net, (X, _) = exported(dtype), examples()
    X = X.astype(dtype)
    for _ in range(2):
        expected = net.predict(X)
        limit = 1e-11 if dtype == "float64" else 1e-4
        assert error(expected, net.predict(X, backend="reference")) <= limit
        frozen = net.freeze()
        for found in (net(X), frozen(X), frozen(X, out=np.empty_like(expected))):
            assert np.array_equal(found, expected)
        for one, row in zip(X[:5], expected, strict=False):
            assert np.array_equal(net(one), row)
            assert np.array_equal(frozen(one), row)
        net.parameters[:] *= 1.1
        net.buffers[:] *= 1.2
        assert not np.array_equal(net(X), expected)
        assert np.array_equal(frozen(X), expected)


def test_features_far_from_zero_are_normalised_before_they_are_summed():
    layers = [fn.BatchNorm(), fn.Dense(4, "tanh"), fn.Dense(1)]
    net = fn.Sequential(layers, inputs=2, dtype="float32", rng=0)
    rng = np.random.default_rng(0)
    X = (1e6 + rng.normal(size=(50, 2))).astype(np.float32)
    net.buffers[:] = [1e6, 1e6, 1.0, 1.0]
    exact = fn.Sequential(layers, inputs=2, dtype="float64")
    exact.parameters, exact.buffers[:] = net.parameters, net.buffers
    assert error(net.predict(X), exact.predict(X)) <= 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_weight_vectors_and_compiled_code_take_norms_in(dtype):
    net, (X, _) = exported(dtype), examples()
    X = X.astype(dtype)
    vectors = np.stack([net.parameters * by for by in (1.0, 0.9, 1.2)]).astype(dtype)
    many = net.predict_many(vectors, X)
    textbook = net.predict_many(vectors, X, backend="reference")
    assert error(many, textbook) <= (1e-11 if dtype == "float64" else 1e-4)
    for vector, found in zip(vectors, many, strict=True):
        net.parameters[:] = vector
        assert np.array_equal(net.predict(X), found)
    behind = fn.Sequential(net.layers[1:], inputs=6, dtype=dtype, rng=0)
    behind.buffers[:] += 0.3
    forward, weights = behind.jitted()
    out = np.empty(3, dtype)
    for row, expected in zip(X[:5], behind.predict(X), strict=False):
        forward(weights, row, out)
        assert np.array_equal(out, expected)
    with pytest.raises(ValueError, match="got a Standardize as layer 0"):
        fn.Sequential([fn.Standardize(), *net.layers], inputs=6).jitted()


def test_files_of_python_and_onnx_predict_the_same(tmp_path):
    net, (X, _) = exported(), examples()
    X = X.astype(np.float32)
    net.to_python(tmp_path / "net.py")
    space = {"__name__": "net"}
    exec((tmp_path / "net.py").read_text(encoding="utf-8"), space)
    assert error(space["predict"](X), net.predict(X)) <= 1e-5
    net.to_c(tmp_path / "net.c", X)
    assert "network_predict" in (tmp_path / "net.c").read_text(encoding="utf-8")
    pytest.importorskip("onnx")
    net.to_onnx(tmp_path / "net.onnx")
    assert error(fn.from_onnx(tmp_path / "net.onnx").predict(X), net.predict(X)) <= 1e-5
    net.buffers[0] = np.inf
    with pytest.raises(ValueError, match="finite"):
        net.to_c(tmp_path / "net.c")


@pytest.mark.parametrize("dtype", DTYPES)
def test_modules_of_pytorch_go_both_ways(dtype):
    torch = pytest.importorskip("torch")
    net, (X, _) = exported(dtype), examples()
    X = X.astype(dtype)
    module = net.to_torch()
    kinds = [type(one).__name__ for one in module]
    assert kinds.count("BatchNorm1d") == 5
    predicted = module(torch.from_numpy(X)).detach().numpy()
    assert error(net.predict(X), predicted) <= (1e-12 if dtype == "float64" else 1e-5)
    back = fn.from_torch(module)
    assert same(back, net)
    momenta = [one.momentum for one in back.layers if isinstance(one, fn.BatchNorm)]
    assert momenta == pytest.approx([0.9, 0.5, 0.9, 0.9, 0.9])
    scaled = fn.Sequential([fn.Standardize(), *net.layers], inputs=6, dtype=dtype)
    scaled.adapt(X)
    found = scaled.to_torch()(torch.from_numpy(X)).detach().numpy()
    assert error(scaled.predict(X), found) <= (1e-12 if dtype == "float64" else 1e-5)
    Linear, Norm = torch.nn.Linear, torch.nn.BatchNorm1d
    plain = fn.from_torch(torch.nn.Sequential(Linear(2, 3), Norm(3, affine=False), Linear(3, 1)))
    assert plain.layout.view(plain.parameters, "1.scale").tolist() == [1.0] * 3
    for modules, said in (
        ([Linear(2, 3), Norm(3), torch.nn.Tanh(), Linear(3, 1)], "follow a Linear module"),
        ([Linear(2, 3), Norm(4), Linear(3, 1)], "must have 3 features"),
        ([Norm(3), Linear(2, 1)], "must"),
        ([Linear(2, 3), Norm(3, track_running_stats=False), Linear(3, 1)], "track_running_stats"),
        ([Linear(2, 3), Norm(3, momentum=None), Linear(3, 1)], "momentum"),
    ):
        with pytest.raises(ValueError, match=said):
            fn.from_torch(torch.nn.Sequential(*modules))


def test_compiled_code_refuses_one_that_no_layer_takes_in_by_name():
    net = fn.Sequential([fn.Residual([fn.Dense(2), fn.BatchNorm()]), fn.Dense(1)], inputs=2)
    for call in (net.jitted, net.cfunc):
        with pytest.raises(ValueError, match=r"got a BatchNorm as layer 0\.1.*net\.freeze"):
            call()


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_averages_of_weights_are_refused(backend):
    net = fn.Sequential([fn.Dense(4), fn.BatchNorm(), fn.Dense(1)], rng=0)
    X, y = np.ones((8, 2)), np.ones(8)
    with pytest.raises(ValueError, match=r"average=SWA\(\).*BatchNorm"):
        net.fit(X, y, epochs=4, average=fn.SWA(2), backend=backend, progress=False)
    frozen = fn.BatchNorm(trainable=False)
    fn.Sequential([fn.Dense(4), frozen, fn.Dense(1)], rng=0).fit(
        X, y, epochs=4, average=fn.SWA(2), backend=backend, progress=False
    )


def test_a_gradient_that_is_given_is_refused():
    net = fn.Sequential([fn.BatchNorm(), fn.Dense(1)], inputs=2, rng=0)
    with pytest.raises(ValueError, match=r"apply_gradient moves parameters alone.*BatchNorm"):
        net.apply_gradient(np.zeros(net.parameters.size))
    frozen = fn.Sequential([fn.BatchNorm(trainable=False), fn.Dense(1)], inputs=2, rng=0)
    frozen.apply_gradient(np.zeros(frozen.parameters.size))
