"""Kinds of layers: rows of one table, that every room walks."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from cases import error

import fastnn as fn
from fastnn.kernels import codes
from fastnn.kinds import KINDS, Array, from_dict, kind_of, to_dict
from fastnn.layout import Layout, Program, Tiling
from fastnn.optimizers import OPTIMIZERS
from fastnn.stacks import check_layers

BACKENDS = ("native", "reference")


def examples(n=70, p=7, classes=3):
    rng = np.random.default_rng(3)
    return rng.normal(size=(n, p)), rng.integers(classes, size=n)


def frozen_in_the_middle(dtype="float64", **options):
    return fn.Sequential(
        [
            fn.Dense(20, "tanh", l2=0.01),
            fn.Dense(9, "gelu", l2=0.5, trainable=False),
            fn.Dense(3, "softmax"),
        ],
        inputs=7,
        dtype=dtype,
        **options,
    )


# The table.


def test_codes_are_those_of_the_kernels_and_no_two_kinds_share_one():
    assert sorted(kind.code for kind in KINDS.values()) == list(codes.OPERATIONS)
    assert all(kind.record.__name__ == name for name, kind in KINDS.items())


@pytest.mark.parametrize(
    "layer", [fn.Dense(4), fn.Dense(4, bias=False), fn.Dropout(0.5), fn.Standardize()], ids=repr
)
def test_a_layer_survives_as_plain_data(layer):
    assert from_dict(json.loads(json.dumps(to_dict(layer)))) == layer
    kind = kind_of(layer)
    arrays = kind.parameters(layer, 6)
    assert bool(arrays) == (kind.form != codes.NO_PARAMETERS)
    assert Layout.of(6, [layer]).names == tuple(f"0.{array.name}" for array in arrays)


def test_a_file_of_before_has_no_field_that_came_later():
    plain = to_dict(fn.Dense(3))
    assert "trainable" not in plain
    assert from_dict(plain) == fn.Dense(3)
    frozen = fn.Dense(3, trainable=False)
    assert from_dict(to_dict(frozen)) == frozen
    assert "trainable=False" in repr(frozen)
    with pytest.raises(ValueError, match="a layer must be described by units"):
        from_dict({**plain, "colour": 1})


def test_a_network_ends_with_a_dense_layer():
    with pytest.raises(ValueError, match="must end with a Dense layer"):
        check_layers([fn.Dense(2), fn.Dropout(0.5)])


# Dropouts in a row.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_dropouts_in_a_row_drop_what_both_drop(dtype):
    X, y = examples()
    layers = [
        fn.Dropout(0.1), fn.Dropout(0.2), fn.Dense(24, "relu"), fn.Dropout(0.3), fn.Dropout(0.4),
        fn.Dense(11, "gelu"), fn.Dropout(0.1), fn.Dropout(0.1), fn.Dense(3, "softmax"),
    ]  # fmt: skip
    net = fn.Sequential(layers, inputs=7, dtype=dtype)
    twin, third = net.copy(), net.copy()
    net.fit(X, y, epochs=4, progress=False, threads=1)
    third.fit(X, y, epochs=4, progress=False, threads=2)
    twin.fit(X, y, epochs=4, progress=False, backend="reference")
    assert (net.parameters == third.parameters).all()
    assert error(net.parameters, twin.parameters) <= (1e-12 if dtype == "float64" else 1e-4)


def test_dropouts_in_a_row_drop_the_entries_of_sparse_examples():
    sparse = pytest.importorskip("scipy.sparse")
    X, y = examples()
    X = np.where(np.abs(X) > 1, X, 0.0)
    layers = [fn.Dropout(0.2), fn.Dropout(0.3), fn.Dense(6, "relu"), fn.Dense(3, "softmax")]
    nets = [fn.Sequential(layers, inputs=7, dtype="float64") for _ in range(2)]
    for net, given in zip(nets, (X, sparse.csr_array(X)), strict=True):
        net.fit(given, y, epochs=3, progress=False)
    assert error(nets[1].parameters, nets[0].parameters) <= 1e-12


def test_a_file_may_hold_more_dropouts_than_arrays(tmp_path):
    net = fn.Sequential([*[fn.Dropout(0.1)] * 12, fn.Dense(2)], inputs=3)
    net.save(tmp_path / "net")
    assert fn.load(tmp_path / "net").layers == net.layers


# Layers that are frozen.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_step_moves_a_frozen_layer(optimizer, backend):
    X, y = examples()
    net = frozen_in_the_middle()
    before = net.copy()
    options = {"optimizer": OPTIMIZERS[optimizer].record(), "progress": False, "clip_norm": 0.5}
    net.fit(X, y, epochs=3, batch_size=16, backend=backend, **options)
    for place, same in enumerate([False, True, False]):
        assert (net.weights[place] == before.weights[place]).all() == same
        assert (net.biases[place] == before.biases[place]).all() == same


@pytest.mark.parametrize("places", [(0,), (1,), (0, 1), (2,), (0, 1, 2)])
def test_native_and_reference_freeze_alike(places):
    X, y = examples()
    layers = [fn.Dense(20, "relu", l2=0.1), fn.Dense(9, "gelu"), fn.Dense(3, "softmax", l2=0.2)]
    for place in places:
        layers[place] = fn.Dense(
            layers[place].units, layers[place].activation, l2=0.3, trainable=False
        )
    net = fn.Sequential(layers, inputs=7, dtype="float64")
    twin, third = net.copy(), net.copy()
    histories = [
        one.fit(X, y, epochs=3, progress=False, **options)
        for one, options in (
            (net, {"threads": 1}), (third, {"threads": 2}), (twin, {"backend": "reference"})
        )
    ]  # fmt: skip
    assert (net.parameters == third.parameters).all()
    assert error(net.parameters, twin.parameters) <= 1e-12
    assert histories[0]["loss"] == pytest.approx(histories[2]["loss"], rel=1e-12)
    traces = [net.trace(X, y, backend=backend) for backend in BACKENDS]
    for native, textbook in zip(traces[0].dZ, traces[1].dZ, strict=True):
        assert error(native, textbook) <= 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_of_a_frozen_layer_is_zero_and_it_has_no_penalty(backend):
    X, y = examples()
    net = frozen_in_the_middle()
    loss, gradient = net.loss_and_gradient(X, y, backend=backend)
    weights = net.layout.weights(gradient)
    assert [bool(W.any()) for W in weights] == [True, False, True]
    bare = net.evaluate(X, y, backend=backend)["loss"]
    assert loss == pytest.approx(bare + 0.005 * (net.weights[0] ** 2).sum(), rel=1e-12)
    base = net.parameters.copy()
    for entry in (0, 50, net.layout["2.W"].offset + 1):
        found = []
        for step in (1e-6, -1e-6):
            net.parameters = base + step * (np.arange(base.size) == entry)
            found.append(net.loss_and_gradient(X, y, backend=backend)[0])
        assert (found[0] - found[1]) / 2e-6 == pytest.approx(gradient[entry], rel=1e-6, abs=1e-9)


def test_a_frozen_layer_stays_frozen_in_files_copies_and_pickles(tmp_path):
    net = frozen_in_the_middle()
    net.save(tmp_path / "net")
    for twin in (fn.load(tmp_path / "net"), net.copy(), pickle.loads(pickle.dumps(net))):
        assert [layer.trainable for layer in twin.layers] == [True, False, True]
    assert "gelu, frozen" in net.summary()


def test_nothing_goes_back_to_where_nothing_learns():
    layers = [fn.Dense(4, trainable=False), fn.Dense(5, "relu"), fn.Dense(2)]
    operations = Layout.of(3, layers).operations
    table = Program.of(operations, 9, Tiling(16, 6, 4), gradient=True, moments=1).table[0]
    assert (table["dsource"] >= 0).tolist() == [False, False, True]
    assert table["below"].tolist() == [codes.NONE, codes.NONE, 1]


# Buffers.


@pytest.fixture
def with_buffers(monkeypatch):
    """Let dropouts have a buffer, as no layer of today has one."""
    import dataclasses

    row = dataclasses.replace(
        KINDS["Dropout"], buffers=lambda layer, inputs: (Array("mean", (inputs,), 0.25),)
    )
    monkeypatch.setitem(KINDS, "Dropout", row)


def test_buffers_are_kept_beside_the_parameters(with_buffers, tmp_path):
    net = fn.Sequential([fn.Dense(3), fn.Dropout(0.5), fn.Dense(2)], inputs=4)
    assert net.layout.buffers["1.mean"].shape == (3,)
    assert net.buffers.tolist() == [0.25] * 3
    assert net.layout.names == ("0.W", "0.b", "2.W", "2.b")
    net.buffers[1] = 7.0
    net.save(tmp_path / "net")
    for twin in (fn.load(tmp_path / "net"), net.copy(), pickle.loads(pickle.dumps(net))):
        assert twin.buffers.tolist() == [0.25, 7.0, 0.25]
        assert not np.shares_memory(twin.buffers, net.buffers)


def test_a_network_without_buffers_has_an_empty_vector():
    net = fn.Sequential([fn.Dense(2)], inputs=4)
    assert net.buffers.shape == (0,)
    with pytest.raises(ValueError, match="no weights yet"):
        fn.Sequential([fn.Dense(2)]).buffers  # noqa: B018
