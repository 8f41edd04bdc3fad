"""Layers of few outputs, whose weights lie as their transpose, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from cases import DTYPES, JIT

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.kernels import codes, simd
from fastnn.kernels._jit import entry
from fastnn.kernels.narrow import pack_narrow, unpack_narrow
from fastnn.kernels.panels import PANEL_BYTES
from fastnn.layout import Program, aligned_zeros
from fastnn.predicting.predictor import tiling_of

# Up to one more than lie as their transpose anywhere.
OUTPUTS = (1, 2, 3, 4, 5)

# Around whole vectors and panels of every width that there is.
INPUTS = (1, 2, 7, 15, 16, 17, 31, 32, 33, 65) if JIT else (1, 5, 9)

TOLERANCE = {"float32": 1e-4, "float64": 1e-11}


def examples(inputs, outputs, dtype, n=43 if JIT else 9):
    rng = np.random.default_rng(inputs + 100 * outputs)
    return rng.normal(size=(n, inputs)).astype(dtype), rng.normal(size=(n, outputs)).astype(dtype)


def network(widths, dtype, hidden="tanh", last="identity", **more):
    inputs, *units, outputs = widths
    layers = [fn.Dense(count, hidden, l2=0.01) for count in units]
    net = fn.Sequential([*layers, fn.Dense(outputs, last, **more)], inputs, dtype, rng=0)
    net.parameters[:] += 0.01
    return net


def trained(net, X, y, backend, **more):
    """Return a copy of a network after two epochs of short batches."""
    net = net.copy()
    net.fit(X, y, epochs=2, batch_size=17 if JIT else 4, progress=False, backend=backend, **more)
    return net


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", OUTPUTS)
def test_few_outputs_of_any_number_of_inputs_are_trained_as_in_the_reference(outputs, dtype):
    for inputs in INPUTS:
        X, y = examples(inputs, outputs, dtype)
        for widths in ((inputs, outputs), (3, inputs, outputs)):
            net = network(widths, dtype)
            features = X[:, :1].repeat(widths[0], axis=1) if len(widths) == 3 else X
            for more in ({}, {"clip_norm": 0.1, "sample_weight": np.arange(len(X), dtype=dtype)}):
                native, expected = (
                    trained(net, features, y, backend, **more)
                    for backend in ("native", "reference")
                )
                difference = np.abs(native.parameters - expected.parameters).max()
                assert difference <= TOLERANCE[dtype], (widths, more)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_a_layer_of_few_units_may_stand_anywhere(hidden, dtype):
    X, y = examples(7, 2, dtype)
    net = network((7, 2, 19, 1, 3, 2), dtype, hidden)
    for threads in (1, 2):
        native = trained(net, X, y, "native", threads=threads)
        expected = trained(net, X, y, "reference")
        difference = np.abs(native.parameters - expected.parameters).max()
        assert difference <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", ["identity", "exp", "softplus", "softmax", "sigmoid"])
def test_what_stands_beside_few_outputs_never_grows(last, dtype):
    """An activation that is not 0 at 0 would feed on itself there, step after step."""
    X, y = examples(5, 3, dtype)
    net = network((5, 3, 3), dtype, "exp", last)
    for W in net.weights:
        W *= 0.3  # An exponential of another's must not overflow by itself.
    net.fit(X, np.abs(y), loss="mean_squared_error", optimizer=fn.SGD(1e-4), epochs=200,
            batch_size=5, progress=False)  # fmt: skip
    assert np.isfinite(net.parameters).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", OUTPUTS)
def test_one_row_has_the_bits_that_it_has_among_many(outputs, dtype):
    for inputs in INPUTS:
        X, _ = examples(inputs, outputs, dtype)
        for bias in (True, False):
            net = network((inputs, 4, outputs), dtype, bias=bias)
            together = net.predict(X)
            assert np.array_equal(net(X), together)
            for x, row in zip(X, together, strict=True):
                assert net(x).tobytes() == row.tobytes()


@entry
def packed_and_back(P, at, W, back):
    pack_narrow(P, at, W)
    unpack_narrow(back, P, at)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", OUTPUTS[: codes.NARROW_ROWS])
def test_weights_are_packed_as_rows_of_their_transpose(outputs, dtype):
    panel = PANEL_BYTES // np.dtype(dtype).itemsize
    for inputs in INPUTS:
        across = -(-inputs // panel)
        W = np.random.default_rng(inputs).normal(size=(inputs, outputs)).astype(dtype)
        size = across * codes.NARROW_ROWS * panel
        P = aligned_zeros(size + 2 * panel, dtype)
        P[:] = np.nan
        back = np.empty_like(W)
        packed_and_back(P, panel, W, back)
        assert back.tobytes() == W.tobytes()
        assert np.isnan(P[:panel]).all()
        assert np.isnan(P[panel + size :]).all()
        rows = P[panel : panel + size].reshape(across, codes.NARROW_ROWS, panel).transpose(1, 0, 2)
        rows = rows.reshape(codes.NARROW_ROWS, -1)
        assert rows[:outputs, :inputs].tobytes() == np.ascontiguousarray(W.T).tobytes()
        assert not rows[outputs:].any()
        assert not rows[:, inputs:].any()


def test_few_is_what_fits_an_eighth_of_a_panel():
    tiling = tiling_of(np.dtype("float32"))
    program = Program.of(network((9, 5, 4, 2, 1), "float32").layout.blocks, 1, tiling)
    most = simd.BYTES // 16
    assert program.table["narrow"][0].tolist() == [n <= most for n in (5, 4, 2, 1)]
