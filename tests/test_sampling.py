"""Predictions with dropout left on: their moments, and what they hang on."""

from __future__ import annotations

import numpy as np
import pytest
from cases import DTYPES, JIT, error

import fastnn as fn
from fastnn.equations import draws as reference_draws
from fastnn.equations import walk as reference_walk
from fastnn.machine import threads
from fastnn.predicting import sampling

BACKENDS = ("native", "reference")
TOLERANCE = {"float32": 3e-6, "float64": 1e-14}

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
both_backends = pytest.mark.parametrize("backend", BACKENDS)

NETWORKS = {
    "plain": [fn.Dense(17, "relu"), fn.Dropout(0.3), fn.Dense(9, "tanh"), fn.Dropout(0.5)],
    "inputs": [fn.Dropout(0.2), fn.Dense(17, "gelu")],
    "inside": [fn.Dense(6, "relu"), fn.Residual([fn.Dense(6), fn.Dropout(0.4)]), fn.LayerNorm()],
    "codes": [fn.Embedding({2: 5}, 3), fn.Dropout(0.1), fn.Dense(5, "elu")],
}


def network(kind="plain", dtype="float64", **settings):
    net = fn.Sequential([*NETWORKS[kind], fn.Dense(3)], 4, dtype, rng=2, **settings)
    for b in net.biases:
        b[:] = np.linspace(-0.5, 0.5, b.size)
    return net


def rows(n, dtype="float64"):
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, 4))
    X[:, 2] = rng.integers(5, size=n)
    return X.astype(dtype)


def by_the_book(net, X, samples, seed, most):
    """Return every pass, one by one, from the masks that docs/mathematics.md describes."""
    key = int(np.random.default_rng(seed).integers(2**64, dtype=np.uint64))
    layout, n = net.layout, len(X)
    together = max(1, most // n)
    passes = np.empty((samples, n, layout.outputs))
    for s in range(samples):
        for i in range(n):
            part, row = divmod(i, most)
            height = min(most, n - part * most)
            call, within = divmod(s, together)
            at = within * height + row
            D = {}
            for one in layout.operations:
                if isinstance(one.layer, fn.Dropout):
                    number, rate = part * 2**32 + call, one.layer.rate
                    keep = reference_draws.kept(key, number, one.place, one.inputs, at + 1, rate)
                    D[one.place] = keep[:, at:] / X.dtype.type(1 - rate)
            passed = reference_walk.outputs(
                layout, net.parameters, X[i : i + 1].T, layout.operations, D
            )
            passes[s, i] = passed[-1].A[:, 0]
    return passes


@each_dtype
@both_backends
@pytest.mark.parametrize(("n", "samples"), [(1, 30), (3, 5), (5, 2), (7, 3), (16, 2)])
def test_the_moments_are_those_of_the_passes(backend, dtype, n, samples, monkeypatch):
    monkeypatch.setattr(sampling, "ROWS", 7)
    net, X = network(dtype=dtype), rows(n, dtype)
    found = net.predict(X, dropout=True, samples=samples, rng=5, backend=backend)
    passes = by_the_book(net, X, samples, 5, 7)
    assert found.mean.dtype == found.spread.dtype == dtype
    assert found.mean.shape == found.spread.shape == (n, 3)
    assert error(found.mean, passes.mean(axis=0)) < TOLERANCE[dtype]
    assert error(found.spread, passes.std(axis=0)) < TOLERANCE[dtype]


@each_dtype
@pytest.mark.parametrize("kind", NETWORKS)
def test_both_paths_drop_the_same(kind, dtype):
    net, X = network(kind, dtype), rows(65 if JIT else 5, dtype)
    native, textbook = (
        net.predict(X, dropout=True, samples=12, rng=1, backend=backend) for backend in BACKENDS
    )
    assert native.spread.min() > 0.0
    assert error(native.mean, textbook.mean) < TOLERANCE[dtype]
    assert error(native.spread, textbook.spread) < TOLERANCE[dtype]


@pytest.mark.skipif(not JIT, reason="Threads are those of compiled code.")
@each_dtype
def test_no_bit_depends_on_threads(dtype, monkeypatch, tuned):
    monkeypatch.setattr(threads, "usable_cores", lambda: 64)
    tuned(step_share=1e-9, call_share=1e-9, helper_share=1e-9, awake_share=1e-9)
    net, X = network(dtype=dtype), rows(700, dtype)
    found = []
    for count in (1, 2, 3, 8):
        fn.set_threads(count)
        found.append(net.predict(X, dropout=True, samples=7, rng=1))
    fn.set_threads(None)
    for other in found[1:]:
        assert np.array_equal(other.mean, found[0].mean)
        assert np.array_equal(other.spread, found[0].spread)


@pytest.mark.skipif(not JIT, reason="Chunks of few rows take long.")
def test_no_bit_depends_on_chunks(tuned):
    net, X = network(), rows(100)
    whole = net.predict(X, dropout=True, samples=9, rng=1)
    tuned(chunk_elements=1, smallest_chunk=7)
    parts = net.predict(X, dropout=True, samples=9, rng=1)
    assert np.array_equal(whole.mean, parts.mean)
    assert np.array_equal(whole.spread, parts.spread)


@both_backends
def test_rng_says_what_is_dropped_and_the_network_goes_on_as_before(backend):
    net, other, X = network(), network(), rows(5)
    same = [
        net.predict(X, dropout=True, samples=4, rng=rng, backend=backend).mean
        for rng in (7, np.random.default_rng(7), np.random.SeedSequence(7))
    ]
    assert all(np.array_equal(one, same[0]) for one in same)
    stream = np.random.default_rng(7)
    for rng in (8, None):
        another = net.predict(X, dropout=True, samples=4, rng=rng, backend=backend)
        assert not np.array_equal(another.mean, same[0])
    first, second = (net.predict(X, dropout=True, samples=4, rng=stream).mean for _ in range(2))
    assert not np.array_equal(first, second)
    for one in (net, other):
        one.fit(X, rows(5)[:, :3], epochs=2, batch_size=2, backend=backend)
    assert np.array_equal(net.parameters, other.parameters)


@both_backends
def test_moments_are_in_the_units_of_scaled_targets(backend):
    net, X = network(scale_targets=True), rows(6)
    net.adapt(X, y=100.0 + 20.0 * rows(6)[:, :3])
    inside = network().predict(X, dropout=True, samples=8, rng=3, backend=backend)
    found = net.predict(X, dropout=True, samples=8, rng=3, backend=backend)
    mean, deviation = net.target_scale
    assert np.allclose(found.mean, mean + deviation * inside.mean, rtol=1e-12)
    assert np.allclose(found.spread, deviation * inside.spread, rtol=1e-12)


@both_backends
@pytest.mark.parametrize("kind", ["plain", "inputs"])
def test_sparse_rows_are_predicted_like_dense_ones(backend, kind, monkeypatch):
    sparse = pytest.importorskip("scipy.sparse")
    monkeypatch.setattr(sampling, "ROWS", 7)
    net = network(kind)
    for n in (2, 10):
        X = rows(n) * (rows(n) > 0)
        dense = net.predict(X, dropout=True, samples=9, rng=3, backend=backend)
        found = net.predict(sparse.csr_array(X), dropout=True, samples=9, rng=3, backend=backend)
        assert error(found.mean, dense.mean) < 1e-14
        assert error(found.spread, dense.spread) < 1e-13


def test_the_mean_and_spread_of_a_sum_of_coins():
    net = fn.Sequential([fn.Dropout(0.25), fn.Dense(1, initializer=1.0)], 12, "float64", rng=0)
    found = net.predict(np.ones((1, 12)), dropout=True, samples=20000, rng=1)
    # Each of twelve is 4/3 with probability 3/4.
    assert abs(found.mean[0, 0] - 12.0) < 0.06
    assert abs(found.spread[0, 0] - np.sqrt(12 * 0.25 / 0.75)) < 0.04
    mean, spread = found
    assert mean is found.mean
    assert spread is found.spread


@both_backends
def test_an_overflow_stays_in_its_row(backend):
    net, X = network("inputs"), rows(4)
    X[:, 0] = 1.0
    before = net.predict(X, dropout=True, samples=9, rng=1, backend=backend)
    X[2, 0] = 1e308
    after = net.predict(X, dropout=True, samples=9, rng=1, backend=backend)
    assert not np.isfinite(after.spread[2]).all()
    assert np.array_equal(np.delete(after.mean, 2, 0), np.delete(before.mean, 2, 0))
    assert np.array_equal(np.delete(after.spread, 2, 0), np.delete(before.spread, 2, 0))


def test_what_cannot_be_asked_for_is_refused():
    net, X = network(), rows(2)
    plain = fn.Sequential([fn.Dense(1)], 4)
    with pytest.raises(ValueError, match=r"dropout=True needs layers that drop units"):
        plain.predict(X, dropout=True)
    with pytest.raises(ValueError, match=r"out is for the predictions of predict\(X\)"):
        net.predict(X, np.empty((2, 3)), dropout=True)
    with pytest.raises(TypeError, match=r"with dropout=True; got Blocks. Predict each block"):
        net.predict(fn.Blocks(lambda: iter([X])), dropout=True)
    with pytest.raises(ValueError, match=r"samples must be .* at least 2; got 1"):
        net.predict(X, dropout=True, samples=1)
    with pytest.raises(TypeError, match=r"dropout must be True or False"):
        net.predict(X, dropout=1)
    with pytest.raises(TypeError, match=r"rng must be None, an integer"):
        net.predict(X, dropout=True, rng="seed")
    with pytest.raises(ValueError, match=r"rng must be None, an integer .*; got -1"):
        net.predict(X, dropout=True, rng=-1)
    with pytest.raises(ValueError, match=r"rng says what dropout drops"):
        net.predict(X, rng=1)
    with pytest.raises(ValueError, match=r"X has 2 features"):
        net.predict(X[:, :2], dropout=True)
    coded = network("codes")
    X[1, 2] = 9
    with pytest.raises(ValueError, match=r"9"):
        coded.predict(X, dropout=True)
