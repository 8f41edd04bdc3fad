"""Learnt periodic features: native, reference, by differences, and PyTorch's formula."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from cases import differences, error

import fastnn as fn
from fastnn.kernels import codes
from fastnn.kinds import from_dict, to_dict
from fastnn.optimizers import OPTIMIZERS
from fastnn.periodic import pieces

BACKENDS = ("native", "reference")
DTYPES = ("float32", "float64")
SIZES = {1: 7, 3: 40}

STACKS = {
    "alone": [fn.NumericEmbedding(5, 7, 0.3), fn.Dense(20, "tanh"), fn.Dense(3, "softmax")],
    "scaled, behind vectors": [
        fn.Standardize(), fn.Embedding(SIZES, {3: 33}), fn.NumericEmbedding(17, 24, 0.1),
        fn.Dropout(0.2), fn.Dense(17, "gelu", l2=0.1), fn.Dense(3, "softmax", l2=0.01),
    ],
    "before other layers": [
        fn.NumericEmbedding(3, 13, 0.5, passing=2), fn.LayerNorm(),
        fn.Residual([fn.Dense(54, "tanh")]), fn.Dense(3, "softmax"),
    ],
    "of one number": [fn.NumericEmbedding(33, 1, 0.2), fn.Dense(3, "softmax")],
    "behind frozen vectors": [
        fn.Embedding(SIZES, 5, trainable=False), fn.NumericEmbedding(2, 70, 0.2),
        fn.Dense(9, "sigmoid"), fn.Dense(3, "softmax"),
    ],
    "frozen": [
        fn.Embedding(SIZES, 5), fn.NumericEmbedding(4, 6, 0.2, trainable=False),
        fn.Dense(3, "softmax"),
    ],
}  # fmt: skip


def network(stack="alone", dtype="float64", seed=0):
    """Return a network, measured if it is to be."""
    net = fn.Sequential(STACKS[stack], inputs=6, dtype=dtype, rng=seed)
    if isinstance(net.layers[0], fn.Standardize):
        net.adapt(examples(net)[0])
    return net


def examples(net, n=53):
    rng = np.random.default_rng(7)
    X = rng.normal(size=(n, 6))
    for column, size in net.layout.coded:
        X[:, column] = rng.integers(size, size=n)
    return X, rng.integers(3, size=n)


# What it is.


def test_a_numeric_embedding_is_three_numbers():
    layer = fn.NumericEmbedding()
    assert layer == fn.NumericEmbedding(48, 24, 0.01)
    assert repr(layer) == "NumericEmbedding(frequencies=48, dimension=24, sigma=0.01)"
    for one in (layer, fn.NumericEmbedding(3, 2, 1.0, passing=4, trainable=False)):
        assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
        assert from_dict(json.loads(json.dumps(to_dict(one)))) == one


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"frequencies": 0}, "frequencies must be"),
        ({"dimension": 1.5}, "dimension must be"),
        ({"sigma": 0.0}, "sigma must be"),
        ({"sigma": "wide"}, "sigma must be"),
        ({"passing": -1}, "passing must be"),
        ({"trainable": 1}, "trainable must be"),
        ({"n_frequencies": 48}, "frequencies"),
        ({"activation": "relu"}, "relu"),
    ],
    ids=str,
)
def test_what_is_no_numeric_embedding_is_refused(arguments, said):
    with pytest.raises((TypeError, ValueError), match=said):
        fn.NumericEmbedding(**arguments)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([fn.Dense(3), fn.NumericEmbedding(), fn.Dense(1)], r"layers\[1\] .* must be the first"),
        ([fn.Dropout(0.1), fn.NumericEmbedding(), fn.Dense(1)], "before it stands Dropout"),
        ([fn.Residual([fn.NumericEmbedding(), fn.Dense(3)]), fn.Dense(1)], "stands a block"),
        ([fn.NumericEmbedding(), fn.NumericEmbedding(), fn.Dense(1)], "stands NumericEmbedding"),
        ([fn.NumericEmbedding(), fn.Embedding({0: 2}), fn.Dense(1)], "reads codes from X"),
        ([fn.Embedding({0: 2}, 3), fn.NumericEmbedding(passing=2), fn.Dense(1)], "have 3"),
        ([fn.NumericEmbedding()], "must end with a Dense"),
    ],
    ids=str,
)
def test_it_reads_x_or_what_is_prepared(layers, said):
    with pytest.raises(ValueError, match=said):
        fn.Sequential(layers)


def test_there_must_be_numbers():
    layers = [fn.Embedding({0: 3, 1: 2}), fn.NumericEmbedding(), fn.Dense(1)]
    with pytest.raises(ValueError, match="needs more of them; got 3"):
        fn.Sequential(layers, inputs=2)


def test_sigma_fits_the_dtype():
    with pytest.raises(ValueError, match=r"sigma of layers\[0\] must be a number that fits"):
        fn.Sequential([fn.NumericEmbedding(sigma=1e60), fn.Dense(1)], inputs=2)


def test_arrays_have_names_and_vectors_of_an_embedding_pass():
    net = network("scaled, behind vectors")
    assert net.layers[2] == fn.NumericEmbedding(17, 24, 0.1, passing=37)
    assert net.layout.names[4:7] == ("2.frequencies", "2.weights", "2.biases")
    assert [net.layout[name].shape for name in net.layout.names[4:7]] == [
        (4, 17), (4 * 34, 24), (4, 24)
    ]  # fmt: skip
    X, _ = examples(net)
    for backend in BACKENDS:
        before, after = (net.hidden(X, place, backend=backend) for place in (1, 2))
        assert (after[:, 96:] == before[:, 4:]).all()
    assert net.summary().splitlines()[3].split()[:4] == ["2", "NumericEmbedding", "17", "waves"]
    assert fn.Sequential(net.layers, inputs=6).layers == net.layers


def test_arrays_begin_as_they_are_said_to():
    net = fn.Sequential([fn.NumericEmbedding(200, 30, 0.5), fn.Dense(1)], inputs=9)
    spreads = {name: net.layout.view(net.parameters, f"0.{name}").std()
               for name in ("frequencies", "weights", "biases")}  # fmt: skip
    wanted = {"frequencies": 0.5, "weights": 1200**-0.5, "biases": 1200**-0.5}
    assert spreads == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("panel", [4, 8, 32])
@pytest.mark.parametrize(("dimension", "passing"), [(1, 0), (24, 3), (70, 41)])
def test_pieces_are_all_columns_once_and_none_straddles_two_panels(panel, dimension, passing):
    head, *found = pieces(fn.NumericEmbedding(6, dimension, passing=passing), 44, panel)
    count = 44 - passing
    assert head[:3].tolist() == [count, 6, dimension]
    found = np.array(found)
    to, wide = found[:, codes.P_TO], found[:, codes.P_COUNT]
    assert to.tolist() == [0, *np.cumsum(wide)[:-1].tolist()]
    assert to[-1] + wide[-1] == count * dimension + passing
    assert (to // panel == (to + wide - 1) // panel).all()


# What it computes.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stack", ["alone", "before other layers", "of one number"])
def test_it_is_a_linear_layer_of_waves(stack, backend):
    net = network(stack)
    (X, _), layer = examples(net), net.layers[0]
    c, W, b = (net.layout.view(net.parameters, f"0.{name}")
               for name in ("frequencies", "weights", "biases"))  # fmt: skip
    wanted = []
    for j in range(6 - layer.passing):
        t = 2 * np.pi * X[:, j : j + 1] * c[j]
        v = np.hstack([np.sin(t), np.cos(t)])
        k = 2 * layer.frequencies
        wanted.append(np.maximum(v @ W[j * k : (j + 1) * k] + b[j], 0))
    wanted = np.hstack([*wanted, X[:, 6 - layer.passing :]])
    assert error(net.hidden(X, 0, backend=backend), wanted) <= 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stack", STACKS)
def test_gradients_are_those_of_differences(stack, backend):
    net = network(stack)
    X, y = examples(net, 11)
    gradient = net.loss_and_gradient(X, y, backend=backend)[1].copy()
    places, still = [], []
    rng = np.random.default_rng(0)
    for one in net.layout.operations:
        for entry in one.parameters:
            some = entry.offset + rng.permutation(entry.size)[:25]
            (places if one.trainable else still).extend(some)
    found = differences(net, places, X, y, backend=backend)
    assert error(found, gradient[places]) < 1e-7
    assert not gradient[still].any()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stack", STACKS)
def test_native_is_the_reference_in_any_number_of_threads(stack, optimizer):
    net = network(stack)
    X, y = examples(net, 200)
    options = {
        "optimizer": OPTIMIZERS[optimizer].record(), "epochs": 2, "progress": False,
        "batch_size": 64, "clip_norm": 0.5 if optimizer in ("Adam", "SGD") else None,
    }  # fmt: skip
    nets = [net.copy() for _ in range(4)]
    for one, threads in zip(nets, (1, 2, 3, 8), strict=True):
        one.fit(X, y, threads=threads, **options)
        assert (one.parameters == nets[0].parameters).all()
    net.fit(X, y, backend="reference", **options)
    assert error(nets[0].parameters, net.parameters) <= (1e-6 if optimizer == "Rprop" else 1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "waves"), [(1, 3), (5, 48), (700, 3), (700, 300), (4000, 3)])
def test_batches_of_many_chunks_give_the_reference_s_gradient(rows, waves, dtype):
    layers = [fn.NumericEmbedding(waves, 19, 0.1), fn.Dense(20, "tanh"), fn.Dense(3, "softmax")]
    net = fn.Sequential(layers, inputs=6, dtype=dtype)
    X, y = examples(net, rows)
    (loss, gradient), (wanted, other) = (
        net.loss_and_gradient(X, y, backend=backend) for backend in BACKENDS
    )
    limit = 1e-12 if dtype == "float64" else 1e-4
    assert loss == pytest.approx(wanted, rel=limit)
    assert error(gradient, other) <= limit
    options = [{"threads": 1}, {"threads": 2}, {"threads": 7}, {"backend": "reference"}]
    nets = [net.copy() for _ in options]
    for one, more in zip(nets, options, strict=True):
        one.fit(X, y, optimizer=fn.SGD(0.01), batch_size=rows, epochs=2, progress=False, **more)
    for one in nets[1:3]:
        assert (one.parameters == nets[0].parameters).all()
    assert error(nets[0].parameters, nets[3].parameters) <= limit


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", STACKS)
def test_predictions_are_the_same_bits_however_they_are_asked_for(stack, dtype):
    net = network(stack, dtype)
    X = examples(net, 300)[0].astype(dtype)
    wanted = net.predict(X)
    assert error(wanted, net.predict(X, backend="reference")) <= (
        1e-12 if dtype == "float64" else 1e-5
    )
    assert (net(X) == wanted).all()
    assert (net.freeze()(X[:9]) == wanted[:9]).all()
    for n in (0, 1, 299):
        assert (net(X[n]) == wanted[n]).all()
        assert (net.freeze()(X[n].copy()) == wanted[n]).all()
    assert (net.hidden(X, -1) == wanted).all()


@pytest.mark.parametrize("stack", STACKS)
def test_traces_evaluations_and_derivatives_are_those_of_the_reference(stack):
    net = network(stack)
    X, y = examples(net)
    native, textbook = (net.trace(X, y, backend=backend) for backend in BACKENDS)
    for field in ("Z", "A", "dZ", "dW", "db"):
        for one, other in zip(getattr(native, field), getattr(textbook, field), strict=True):
            assert error(one, other) <= 1e-11
    assert error(native.dX, textbook.dX) <= 1e-11
    found = [net.evaluate(X, y, metrics="accuracy", backend=backend) for backend in BACKENDS]
    assert found[0] == pytest.approx(found[1], rel=1e-11)
    assert net.diagnose(X, y).findings == net.diagnose(X, y, backend="reference").findings
    J, coded = net.jacobian(X[:4]), [column for column, _ in net.layout.coded]
    for column in (column for column in range(6) if column not in coded):
        up, down = X[:4].copy(), X[:4].copy()
        up[:, column] += 1e-6
        down[:, column] -= 1e-6
        slope = (net.predict(up) - net.predict(down)) / 2e-6
        assert error(J[:, :, column], slope) < 1e-6
    if not coded:
        gap = net.attribute(X[:4], output=0, steps=200).gap
        assert np.abs(gap).max() < 1e-2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fit_validates_measures_and_keeps_the_best(backend):
    nets, histories = [network("scaled, behind vectors") for _ in range(2)], []
    X, y = examples(nets[0], 120)
    for net, path in zip(nets, (backend, "reference"), strict=True):
        histories.append(net.fit(
            X, y, epochs=6, progress=False, metrics="accuracy", validation_data=(X[:40], y[:40]),
            callbacks=fn.EarlyStopping(patience=2), backend=path,
        ))  # fmt: skip
    best = min(histories[0]["val_loss"])
    assert nets[0].evaluate(X[:40], y[:40])["loss"] == pytest.approx(best, rel=1e-9)
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        assert histories[0][name] == pytest.approx(histories[1][name], rel=1e-8)


def test_it_learns_what_a_line_through_relu_takes_long_for():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1.0, 1.0, size=(2000, 1)).astype(np.float32)
    y = np.sin(12.0 * X[:, 0])
    losses = []
    for first in ([], [fn.NumericEmbedding(16, 8, sigma=1.0)]):
        net = fn.Sequential([*first, fn.Dense(32, "relu"), fn.Dense(1)])
        net.fit(X, y, epochs=20, optimizer=fn.Adam(0.005), progress=False)
        losses.append(net.evaluate(X, y)["loss"])
    assert losses[1] < 0.1 * losses[0]


# Keeping, and leaving.


@pytest.mark.parametrize("stack", STACKS)
def test_files_copies_and_pickles_go_on_to_the_same_bits(stack, tmp_path):
    net = network(stack, "float32")
    X, y = examples(net)
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


def test_a_fit_goes_on_to_the_same_bits(tmp_path):
    nets = [network("scaled, behind vectors", "float32") for _ in range(2)]
    X, y = examples(nets[0])
    nets[0].fit(X, y, epochs=4, progress=False)
    nets[1].fit(X, y, epochs=2, progress=False, callbacks=fn.Checkpoint(tmp_path / "c", every=2))
    twin = network("scaled, behind vectors", "float32", seed=9)
    twin.fit(X, y, epochs=4, progress=False, resume=tmp_path / "c")
    assert (twin.parameters == nets[0].parameters).all()


def test_what_cannot_compute_it_says_so_by_name():
    net = network()
    for call in (net.jitted, net.cfunc):
        with pytest.raises(ValueError, match="got a NumericEmbedding as layer 0"):
            call()


def test_sparse_examples_are_refused():
    sparse = pytest.importorskip("scipy.sparse")
    net = network()
    with pytest.raises(ValueError, match="X must be dense"):
        net.predict(sparse.csr_array(examples(net)[0]))


# PyTorch's.


def test_it_is_the_paper_s_formula_in_pytorch():
    torch = pytest.importorskip("torch")
    net = fn.Sequential([fn.NumericEmbedding(9, 5, 0.3), fn.Dense(3)], inputs=6, rng=3)
    X = examples(net, 40)[0].astype(np.float32)
    targets = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    theirs = [
        torch.from_numpy(net.layout.view(net.parameters, name).copy()).requires_grad_()
        for name in net.layout.names
    ]
    c, W, b, V, e = theirs
    t = 2 * torch.pi * c * torch.from_numpy(X)[..., None]
    waves = torch.cat([torch.sin(t), torch.cos(t)], -1)
    vectors = torch.relu(torch.einsum("njf,jfd->njd", waves, W.reshape(6, 18, 5)) + b)
    predicted = vectors.flatten(1) @ V + e
    assert np.abs(net.predict(X) - predicted.detach().numpy()).max() <= 1e-5
    torch.nn.functional.mse_loss(predicted, torch.from_numpy(targets)).backward()
    gradient = net.loss_and_gradient(X, targets)[1]
    for name, one in zip(net.layout.names, theirs, strict=True):
        assert np.abs(net.layout.view(gradient, name) - one.grad.numpy()).max() <= 1e-5
