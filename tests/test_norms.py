"""Layers that normalise each example: native, reference, by differences, and PyTorch's."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from cases import differences, error

import fastnn as fn
from fastnn.optimizers import OPTIMIZERS

BACKENDS = ("native", "reference")
DTYPES = ("float32", "float64")

STACKS = {
    "after a Dense": [fn.Dense(20, "relu"), fn.LayerNorm(), fn.Dense(3, "softmax")],
    "first, dropped, and twice": [
        fn.LayerNorm(0.01), fn.Dense(33, "tanh"), fn.LayerNorm(), fn.Dropout(0.25),
        fn.LayerNorm(), fn.Dense(47, "gelu", l2=0.01), fn.Dropout(0.1), fn.Dense(3, "softmax"),
    ],
    "after a softmax and before a narrow one": [
        fn.Dense(70, "softmax"), fn.LayerNorm(1e-3), fn.Dense(17, bias=False), fn.LayerNorm(),
        fn.Dense(2, "elu"), fn.Dense(3, "softmax"),
    ],
    "of root mean squares": [
        fn.RMSNorm(0.01), fn.Dense(33, "tanh"), fn.RMSNorm(), fn.Dropout(0.2), fn.Dense(50, "silu"),
        fn.RMSNorm(1e-3), fn.LayerNorm(), fn.Dense(3, "softmax"),
    ],
    "with slopes": [
        fn.PReLU(-0.5), fn.Dense(33), fn.PReLU(), fn.Dropout(0.2), fn.Dense(70), fn.LayerNorm(),
        fn.PReLU(0.1), fn.Dense(17), fn.PReLU(trainable=False), fn.Dense(3, "softmax"),
    ],
    "wide": [fn.Dense(130, "silu"), fn.LayerNorm(), fn.Dense(64), fn.LayerNorm(trainable=False),
             fn.Dense(3, "softmax")],
}  # fmt: skip


def network(stack="after a Dense", dtype="float64", seed=0):
    """Return a network whose scales and shifts are none of those at the start."""
    net = fn.Sequential(STACKS[stack], inputs=6, dtype=dtype, rng=seed)
    rng = np.random.default_rng(seed)
    net.parameters[:] += 0.1 * rng.normal(size=net.parameters.size)
    return net


def examples(n=53, p=6):
    rng = np.random.default_rng(7)
    return rng.normal(size=(n, p)), rng.integers(3, size=n)


# What it is.


def test_a_layer_norm_is_an_epsilon():
    assert fn.LayerNorm() == fn.LayerNorm(1e-5)
    assert repr(fn.LayerNorm()) == "LayerNorm(epsilon=1e-05)"
    assert repr(fn.LayerNorm(trainable=False)) == "LayerNorm(epsilon=1e-05, trainable=False)"
    for layer in (fn.LayerNorm(0.5), fn.LayerNorm(trainable=False)):
        assert pickle.loads(pickle.dumps(layer)) == copy.deepcopy(layer) == layer


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"epsilon": 0.0}, ValueError, "epsilon must be"),
        ({"epsilon": -1.0}, ValueError, "epsilon must be"),
        ({"epsilon": "small"}, TypeError, "epsilon must be"),
        ({"epsilon": float("nan")}, ValueError, "epsilon must be"),
        ({"trainable": 1}, TypeError, "trainable must be"),
        ({"eps": 1e-5}, TypeError, "epsilon"),
    ],
    ids=str,
)
def test_what_is_no_layer_norm_is_refused(arguments, kind, said):
    with pytest.raises(kind, match=said):
        fn.LayerNorm(**arguments)


def test_its_arrays_begin_at_one_and_zero():
    net = fn.Sequential([fn.Dense(4), fn.LayerNorm(), fn.Dense(2)], inputs=3)
    assert net.layout.names == ("0.W", "0.b", "1.scale", "1.shift", "2.W", "2.b")
    assert net.layout.view(net.parameters, "1.scale").tolist() == [1.0] * 4
    assert net.layout.view(net.parameters, "1.shift").tolist() == [0.0] * 4
    assert [W.shape for W in net.weights] == [(3, 4), (4, 2)]
    assert net.summary().splitlines()[2].split() == [
        "1", "LayerNorm", "epsilon", "1e-05", "(n,", "4)", "8"
    ]  # fmt: skip
    unknown = fn.Sequential([fn.LayerNorm(), fn.Dense(2)]).summary().splitlines()
    assert unknown[1].split()[-1] == unknown[2].split()[-1] == "?"


def test_a_network_does_not_end_with_it():
    with pytest.raises(ValueError, match="must end with a Dense layer"):
        fn.Sequential([fn.Dense(3), fn.LayerNorm()])


# What it computes.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("units", [1, 2, 7, 16, 33, 100])
def test_each_example_is_normalised_by_itself(units, backend):
    net = fn.Sequential([fn.Dense(units, "tanh"), fn.LayerNorm(1e-6), fn.Dense(2)], inputs=6,
                        dtype="float64")  # fmt: skip
    X, _ = examples()
    A, normal = net.hidden(X, 0, backend=backend), net.hidden(X, 1, backend=backend)
    wanted = (A - A.mean(axis=1, keepdims=True)) / np.sqrt(A.var(axis=1, keepdims=True) + 1e-6)
    assert error(normal, wanted) <= 1e-12
    assert np.abs(normal.mean(axis=1)).max() <= 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stack", STACKS)
def test_gradients_are_those_of_differences(stack, backend):
    net, (X, y) = network(stack), examples(11)
    gradient = net.loss_and_gradient(X, y, backend=backend)[1].copy()
    places = np.unique(np.linspace(0, net.parameters.size - 1, 150).astype(int))
    for entry in net.layout:
        places = np.union1d(places, entry.offset + np.arange(min(entry.size, 3)))
    frozen = {
        place
        for one in net.layout.operations if not one.trainable
        for entry in one.parameters
        for place in range(entry.offset, entry.offset + entry.size)
    }  # fmt: skip
    places = [place for place in places if place not in frozen]
    found = differences(net, places, X, y, backend=backend)
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
        assert (one.parameters == nets[0].parameters).all()
    net.fit(X, y, backend="reference", **options)
    assert error(nets[0].parameters, net.parameters) <= (1e-6 if optimizer == "Rprop" else 1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 5, 700, 5000])
def test_batches_of_many_chunks_give_the_reference_s_gradient(rows, dtype):
    net, (X, y) = network("after a Dense", dtype), examples(rows)
    (loss, gradient), (wanted, other) = (
        net.loss_and_gradient(X, y, backend=backend) for backend in BACKENDS
    )
    limit = 1e-12 if dtype == "float64" else 1e-4
    assert loss == pytest.approx(wanted, rel=limit)
    assert error(gradient, other) <= limit
    nets = [net.copy(), net.copy()]
    for one, backend in zip(nets, BACKENDS, strict=True):
        one.fit(X, y, optimizer=fn.SGD(0.1), batch_size=rows, epochs=2, progress=False,
                backend=backend)  # fmt: skip
    assert error(nets[0].parameters, nets[1].parameters) <= limit


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", STACKS)
def test_predictions_are_the_same_bits_however_they_are_asked_for(stack, dtype):
    net, (X, _) = network(stack, dtype), examples(300)
    X = X.astype(dtype)
    wanted = net.predict(X)
    assert error(wanted, net.predict(X, backend="reference")) <= (
        1e-12 if dtype == "float64" else 1e-5
    )
    assert (net(X) == wanted).all()
    assert (net.freeze()(X[:9]) == wanted[:9]).all()
    for n in (0, 1, 299):
        assert (net(X[n]) == wanted[n]).all()
        assert (net.freeze()(X[n]) == wanted[n]).all()
    out = np.empty_like(wanted)
    assert (net.predict(X, out=out) == wanted).all()
    assert (net.hidden(X, -1) == wanted).all()


def test_rows_in_any_order_of_sizes_are_predicted_from_the_weights_as_they_are():
    net, (X, _) = network("after a Dense", "float32"), examples(3000)
    X = X.astype(np.float32)
    for n in (1, 700, 3, 3000, 1, 500, 64):
        net.parameters[:] *= np.float32(0.9)
        wanted = net.predict(X[:n], backend="reference")
        assert error(net(X[:n]), wanted) <= 1e-5
        assert error(net.predict(X[:n]), wanted) <= 1e-5
        assert error(net(X[n - 1]), wanted[-1]) <= 1e-5


@pytest.mark.parametrize("stack", STACKS)
def test_traces_evaluations_and_reports_are_those_of_the_reference(stack):
    net, (X, y) = network(stack), examples()
    native, textbook = (net.trace(X, y, backend=backend) for backend in BACKENDS)
    for field in ("Z", "A", "dZ", "dW", "db"):
        for one, other in zip(getattr(native, field), getattr(textbook, field), strict=True):
            assert (one is None) == (other is None)
            assert one is None or error(one, other) <= 1e-11
    assert error(native.dX, textbook.dX) <= 1e-11
    for asked in ((), ("accuracy",)):
        found = [net.evaluate(X, y, metrics=asked, backend=backend) for backend in BACKENDS]
        assert found[0] == pytest.approx(found[1], rel=1e-11)
    reports = [net.diagnose(X, y, backend=backend) for backend in BACKENDS]
    assert len(reports[0].layers) == len(net.weights)
    assert reports[0].findings == reports[1].findings
    f = net.objective(X, y)
    (loss, gradient), (wanted, other) = f(net.parameters), net.loss_and_gradient(X, y)
    assert loss == wanted
    assert (gradient == other).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fit_validates_measures_and_keeps_the_best(backend):
    X, y = examples(120)
    net = network("first, dropped, and twice")
    history = net.fit(
        X, y, epochs=6, progress=False, metrics="accuracy", validation_data=(X[:40], y[:40]),
        callbacks=fn.EarlyStopping(patience=2), backend=backend,
    )  # fmt: skip
    best = min(history["val_loss"])
    assert net.evaluate(X[:40], y[:40])["loss"] == pytest.approx(best, rel=1e-9)
    twin = network("first, dropped, and twice")
    again = twin.fit(
        X, y, epochs=6, progress=False, metrics="accuracy", validation_data=(X[:40], y[:40]),
        callbacks=fn.EarlyStopping(patience=2), backend="reference",
    )  # fmt: skip
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        assert history[name] == pytest.approx(again[name], rel=1e-9)


def test_weights_of_examples_count():
    X, y = examples(60)
    weights = np.random.default_rng(0).integers(0, 3, size=60).astype(float)
    net = network()
    found = net.loss_and_gradient(X, y, sample_weight=weights)
    rows = np.repeat(np.arange(60), weights.astype(int))
    wanted = net.loss_and_gradient(X[rows], y[rows])
    assert found[0] == pytest.approx(wanted[0], rel=1e-12)
    assert error(found[1], wanted[1]) <= 1e-12


# Sparse examples, and files.


def test_sparse_examples_are_read_by_a_dense_layer_before_it():
    sparse = pytest.importorskip("scipy.sparse")
    X, y = examples(80)
    X = np.where(np.abs(X) > 0.7, X, 0.0)
    nets = [network(), network()]
    for net, given in zip(nets, (X, sparse.csr_array(X)), strict=True):
        net.fit(given, y, epochs=3, progress=False, metrics="accuracy", validation_fraction=0.2)
    assert (nets[0].parameters == nets[1].parameters).all()
    given = sparse.csr_array(X)
    assert error(nets[0].predict(given), nets[0].predict(X)) <= 1e-12
    assert error(nets[0].hidden(given, 1), nets[0].hidden(X, 1)) <= 1e-12
    assert nets[0].evaluate(given, y) == pytest.approx(nets[0].evaluate(X, y), rel=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sparse_examples_are_refused_where_it_comes_first(backend):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = examples()
    net, given = network("first, dropped, and twice"), sparse.csr_array(X)
    for call in (
        lambda: net.predict(given, backend=backend),
        lambda: net.hidden(given, 2, backend=backend),
        lambda: net.fit(given, y, progress=False, backend=backend),
        lambda: net.evaluate(given, y, backend=backend),
    ):
        with pytest.raises(ValueError, match=r"X must be dense .* got a sparse matrix, and Layer"):
            call()


@pytest.mark.parametrize("stack", STACKS)
def test_files_copies_and_pickles_go_on_to_the_same_bits(stack, tmp_path):
    net, (X, y) = network(stack, "float32"), examples()
    net.fit(X, y, epochs=1, progress=False)
    net.save(tmp_path / "net")
    twins = [fn.load(tmp_path / "net"), net.copy(), pickle.loads(pickle.dumps(net))]
    for twin in twins:
        assert twin.layers == net.layers
        assert (twin.parameters == net.parameters).all()
    net.fit(X, y, epochs=2, progress=False)
    for twin in twins:
        twin.fit(X, y, epochs=2, progress=False)
        assert (twin.parameters == net.parameters).all()


def test_one_step_at_a_time_is_a_fit():
    X, y = examples(32)
    net, twin = network(), network()
    for _ in range(3):
        net.train_on_batch(X, y)
    twin.fit(X, y, epochs=3, batch_size=32, progress=False, shuffle=False)
    assert error(net.parameters, twin.parameters) <= 1e-12


def test_slopes_and_root_mean_squares_begin_where_they_are_said_to():
    net = fn.Sequential([fn.Dense(4), fn.RMSNorm(), fn.PReLU(0.5), fn.Dense(2)], inputs=3)
    assert net.layout.names == ("0.W", "0.b", "1.scale", "2.slope", "3.W", "3.b")
    assert net.layout.view(net.parameters, "1.scale").tolist() == [1.0] * 4
    assert net.layout.view(net.parameters, "2.slope").tolist() == [0.5] * 4
    for wrong in ({"initial": float("inf")}, {"initial": "steep"}, {"trainable": 1}):
        with pytest.raises((TypeError, ValueError), match="must be"):
            fn.PReLU(**wrong)
    with pytest.raises(ValueError, match="epsilon must be"):
        fn.RMSNorm(0.0)


# PyTorch's.


def test_slopes_and_root_mean_squares_are_pytorch_s():
    torch = pytest.importorskip("torch")
    X, _ = examples(40, 6)
    X = X.astype(np.float32)
    net = fn.Sequential([fn.Dense(30), fn.RMSNorm(1e-3), fn.PReLU(), fn.Dense(3)], inputs=6)
    rng = np.random.default_rng(1)
    net.parameters[:] += 0.2 * rng.normal(size=net.parameters.size).astype(np.float32)
    targets = rng.normal(size=(40, 3)).astype(np.float32)
    modules = [torch.nn.Linear(6, 30), torch.nn.RMSNorm(30, eps=1e-3), torch.nn.PReLU(30),
               torch.nn.Linear(30, 3)]  # fmt: skip
    names = ("0.W", "0.b", "1.scale", "2.slope", "3.W", "3.b")
    theirs = [parameter for module in modules for parameter in module.parameters()]
    with torch.no_grad():
        for name, parameter in zip(names, theirs, strict=True):
            own = net.layout.view(net.parameters, name)
            parameter.copy_(torch.from_numpy(own.T.copy()))
    predicted = torch.nn.Sequential(*modules)(torch.from_numpy(X))
    assert np.abs(net.predict(X) - predicted.detach().numpy()).max() <= 1e-5
    torch.nn.functional.mse_loss(predicted, torch.from_numpy(targets)).backward()
    gradient = net.loss_and_gradient(X, targets)[1]
    for name, parameter in zip(names, theirs, strict=True):
        found = net.layout.view(gradient, name)
        assert np.abs(found - parameter.grad.numpy().T).max() <= 1e-5


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_it_is_pytorch_s(epsilon):
    torch = pytest.importorskip("torch")
    X, _ = examples(40, 6)
    X = X.astype(np.float32)
    layers = [fn.Dense(30, "tanh"), fn.LayerNorm(epsilon), fn.Dense(3)]
    net = fn.Sequential(layers, inputs=6, rng=3)
    rng = np.random.default_rng(1)
    net.parameters[:] += 0.2 * rng.normal(size=net.parameters.size).astype(np.float32)
    targets = rng.normal(size=(40, 3)).astype(np.float32)
    arrays = {name: net.layout.view(net.parameters, name) for name in net.layout.names}
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 30), torch.nn.Tanh(), torch.nn.LayerNorm(30, eps=epsilon),
        torch.nn.Linear(30, 3),
    )  # fmt: skip
    theirs = {
        "0.W": module[0].weight, "0.b": module[0].bias, "1.scale": module[2].weight,
        "1.shift": module[2].bias, "2.W": module[3].weight, "2.b": module[3].bias,
    }  # fmt: skip
    with torch.no_grad():
        for name, parameter in theirs.items():
            parameter.copy_(torch.from_numpy(arrays[name].T.copy()))
    predicted = module(torch.from_numpy(X))
    assert np.abs(net.predict(X) - predicted.detach().numpy()).max() <= 1e-5
    loss = torch.nn.functional.mse_loss(predicted, torch.from_numpy(targets))
    loss.backward()
    value, gradient = net.loss_and_gradient(X, targets)
    assert value == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in theirs.items():
        found = net.layout.view(gradient, name)
        assert np.abs(found - parameter.grad.numpy().T).max() <= 1e-5


@pytest.mark.parametrize(
    ("layer", "name"),
    [(fn.LayerNorm(1e-60), "epsilon"), (fn.RMSNorm(1e60), "epsilon"), (fn.PReLU(-1e39), "initial")],
)
def test_numbers_fit_the_dtype(layer, name):
    wanted = rf"{name} of layers\[1\] must be a number that fits float32; got"
    with pytest.raises(ValueError, match=wanted):
        fn.Sequential([fn.Dense(3), layer, fn.Dense(1)], inputs=2)
    later = fn.Sequential([fn.Dense(3), layer, fn.Dense(1)])
    with pytest.raises(ValueError, match=wanted):
        later.fit(np.ones((4, 2)), np.ones(4))
    assert later.inputs is None
    assert fn.Sequential([fn.Dense(3), layer, fn.Dense(1)], inputs=2, dtype="float64").inputs == 2
