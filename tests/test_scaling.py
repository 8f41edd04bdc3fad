"""Features that the network itself brings to unit scale."""

from __future__ import annotations

import pickle
import runpy

import numpy as np
import pytest
from cases import error

import fastnn as fn
from fastnn.optimizers import OPTIMIZERS
from fastnn.scaling import measured

BACKENDS = ("native", "reference")


def examples(n=90, dtype="float64"):
    """Columns far from unit scale, one of them of one value only."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, 6)) * [1, 300, 1e-3, 7, 1, 40] + [0, 5000, 0, -70, 3, 1]
    X[:, 4] = 3.5
    y = (X[:, 1] > 5000).astype(int) + (X[:, 3] > -70)
    return X.astype(dtype), y


def network(*rest, dtype="float64", **options):
    layers = [fn.Standardize(), *rest, fn.Dense(21, "tanh"), fn.Dense(3, "softmax")]
    return fn.Sequential(layers, dtype=dtype, **options)


def by_hand(X):
    deviation = np.where(X.min(0) == X.max(0), 1, X.std(0))
    return (X - np.where(X.min(0) == X.max(0), 0, X.mean(0))) / deviation


# What the data say.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_means_and_deviations_are_those_of_the_columns(dtype):
    X, _ = examples(dtype=dtype)
    mean, deviation = measured(X, np.zeros(0, dtype))
    exact = X.astype(np.float64)
    moving = [0, 1, 2, 3, 5]
    assert error(mean[moving], exact.mean(0)[moving]) <= 1e-12
    assert error(deviation[moving], exact.std(0)[moving]) <= 1e-12
    assert (mean[4], deviation[4]) == (0.0, 1.0)


def test_weights_count_like_repeated_examples_and_zero_like_none():
    X, _ = examples()
    weights = np.random.default_rng(0).integers(0, 4, len(X)).astype(float)
    repeated = np.repeat(X, weights.astype(int), axis=0)
    for one, other in zip(measured(X, weights), measured(repeated, np.zeros(0)), strict=True):
        assert error(one, other) <= 1e-12
    far = np.vstack([X, np.full((1, 6), 1e9)])
    for one, other in zip(
        measured(far, np.append(weights, 0.0)), measured(X, weights), strict=True
    ):
        assert (one == other).all()


def test_what_a_dtype_cannot_divide_by_is_left_alone():
    X = np.array([[0.0, 1e-42], [1.0, 3e-42]], "float32")
    mean, deviation = measured(X, np.zeros(0, "float32"))
    assert (mean.tolist(), deviation.tolist()) == ([0.5, 0.0], [0.5, 1.0])


# What the network does with it.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fit_is_that_of_a_plain_network_on_scaled_features(dtype, backend):
    X, y = examples(dtype=dtype)
    net = network(dtype=dtype)
    net.fit(X, y, epochs=3, batch_size=7, backend=backend)
    plain = fn.Sequential(net.layers[1:], inputs=6, dtype=dtype)
    scaled = by_hand(X.astype(np.float64)).astype(dtype)
    plain.fit(scaled, y, epochs=3, batch_size=7, backend=backend)
    limit = 1e-11 if dtype == "float64" else 2e-3
    assert error(net.parameters[12:], plain.parameters) <= limit
    assert error(net.predict(X, backend=backend), plain.predict(scaled)) <= limit
    assert net.evaluate(X, y)["loss"] == pytest.approx(plain.evaluate(scaled, y)["loss"], rel=limit)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_native_and_reference_agree_and_no_step_moves_what_was_measured(optimizer):
    X, y = examples()
    net = network(fn.Dropout(0.2))
    net.adapt(X)
    before, twin, third = net.parameters[:12].copy(), net.copy(), net.copy()
    rule = OPTIMIZERS[optimizer].record()
    options = {"optimizer": rule, "epochs": 3, "batch_size": 16, "clip_norm": 0.7}
    net.fit(X, y, threads=1, **options)
    third.fit(X, y, threads=2, **options)
    twin.fit(X, y, backend="reference", **options)
    assert (net.parameters == third.parameters).all()
    assert error(net.parameters, twin.parameters) <= 1e-10
    assert (net.parameters[:12] == before).all()


def test_gradients_are_those_of_central_differences():
    X, y = examples()
    net = network()
    net.adapt(X)
    for backend in BACKENDS:
        _, gradient = net.loss_and_gradient(X, y, backend=backend)
        assert not gradient[:12].any()
        base = net.parameters.copy()
        for entry in (12, 40, 130, base.size - 1):
            found = []
            for step in (1e-6, -1e-6):
                net.parameters = base + step * (np.arange(base.size) == entry)
                found.append(net.loss_and_gradient(X, y, backend=backend)[0])
            net.parameters = base
            assert (found[0] - found[1]) / 2e-6 == pytest.approx(gradient[entry], rel=1e-6)
    seen = [net.trace(X, y, backend=backend) for backend in BACKENDS]
    assert error(seen[0].dX, seen[1].dX) <= 1e-12


@pytest.mark.parametrize("rows", [1, 2, 5, 90, 3000])
def test_every_way_to_predict_gives_the_same(rows, tmp_path):
    X, y = examples(dtype="float32")
    net = network(dtype="float32")
    net.fit(X, y, epochs=2)
    some = np.ascontiguousarray(np.resize(X, (rows, 6)))
    wanted = net.predict(some)
    assert (net(some) == wanted).all()
    assert (net.freeze()(some) == wanted).all()
    assert (net(some[0]) == wanted[0]).all()
    net.save(tmp_path / "net")
    for twin in (fn.load(tmp_path / "net"), net.copy(), pickle.loads(pickle.dumps(net))):
        assert twin.layers[0] == fn.Standardize()
        assert (twin.predict(some) == wanted).all()
    assert error(net.predict(some, backend="reference"), wanted) <= 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
def test_exports_have_it_in_the_first_weights(bias, dtype, tmp_path):
    X, y = examples(dtype=dtype)
    layers = [fn.Standardize(), fn.Dropout(0.1), fn.Dense(9, "tanh", bias=bias),
              fn.Dense(3, "softmax")]  # fmt: skip
    net = fn.Sequential(layers, dtype=dtype)
    net.fit(X, y, epochs=2, progress=False)
    net.to_python(tmp_path / "net.py", X)
    written = runpy.run_path(str(tmp_path / "net.py"))["predict"]
    limit = 2e-5 if dtype == "float32" else 1e-12
    assert error(written(X), net.predict(X)) <= limit
    with pytest.raises(ValueError, match="got a Standardize as layer 0"):
        net.jitted()
    torch = pytest.importorskip("torch")
    module = net.to_torch()
    assert [type(part).__name__ for part in module] == [
        "Dropout", "Linear", "Tanh", "Linear", "Softmax"
    ]  # fmt: skip
    assert error(module(torch.from_numpy(X)).detach().numpy(), net.predict(X)) <= limit


def test_weights_that_it_would_make_infinite_are_not_exported(tmp_path):
    net = fn.Sequential([fn.Standardize(), fn.Dense(2, initializer=1e20)], inputs=1)
    net.adapt([[0.0], [1e-25]])
    with pytest.raises(ValueError, match="a Standardize can be exported where the first weights"):
        net.to_python(tmp_path / "net.py")


def test_a_network_that_measured_nothing_yet_takes_features_as_they_are():
    X, y = examples()
    net = network(inputs=6)
    plain = fn.Sequential(net.layers[1:], inputs=6, dtype="float64")
    for backend in BACKENDS:
        assert error(net.predict(X / 100, backend=backend), plain.predict(X / 100)) <= 1e-12
    with pytest.raises(ValueError, match=r"Call net\.adapt\(X\) with all examples"):
        net.train_on_batch(X[:4], y[:4])
    net.adapt(X)
    assert net.train_on_batch(X[:4], y[:4]) > 0


def test_the_first_fit_measures_and_later_ones_go_on():
    X, y = examples()
    net = network()
    net.fit(X, y)
    first = net.parameters[:12].copy()
    net.fit(X * 3, y)
    assert (net.parameters[:12] == first).all()
    net.adapt(X * 3)
    assert error(net.parameters[:12], first * np.where(np.arange(12) == 10, 1, 3)) <= 1e-12


def test_examples_held_out_are_not_measured():
    X, y = examples()
    net = network(rng=3)
    net.fit(X, y, validation_fraction=0.3)
    assert not np.allclose(net.parameters[:6], measured(X, np.zeros(0))[0])


def test_a_fit_that_is_refused_leaves_nothing_behind():
    X, y = examples()
    net = network(inputs=6)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match="epochs"):
        net.fit(X, y, epochs=0)
    assert (net.parameters == before).all()


def test_scales_need_no_warning(recwarn):
    X, y = examples()
    net = network()
    net.fit(X * 1e6, y)
    assert not recwarn.list
    report = str(network(inputs=6).diagnose(X * 1e6, y))
    assert "Standardize: X" not in report


def test_it_is_the_first_layer_and_reads_no_sparse_examples():
    with pytest.raises(ValueError, match="must be the first layer"):
        fn.Sequential([fn.Dense(3), fn.Standardize(), fn.Dense(1)])
    with pytest.raises(ValueError, match="this one begins with Dense"):
        fn.Sequential([fn.Dense(3)]).adapt([[1.0]])
    sparse = pytest.importorskip("scipy.sparse")
    X, y = examples()
    with pytest.raises(ValueError, match=r"X must be dense .* Standardize\(\) as the first"):
        network().fit(sparse.csr_array(X), y)
    net = network()
    net.fit(X, y)
    with pytest.raises(ValueError, match="X must be dense"):
        net.predict(sparse.csr_array(X))


def test_the_summary_says_what_was_measured():
    line = network(inputs=6).summary().splitlines()[1]
    assert line.split() == ["0", "Standardize", "measured", "(n,", "6)", "12"]


def test_a_learning_rate_is_looked_for_on_scaled_features():
    X, y = examples()
    net = network()
    found = fn.find_learning_rate(net, X, y, steps=20)
    scaled = fn.find_learning_rate(network(), by_hand(X), y, steps=20)
    assert error(found.losses, scaled.losses) <= 1e-9
    assert net.inputs is None, "a copy measures, and takes the steps"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_it_gives_can_be_looked_at(dtype, backend):
    X, _ = examples(dtype=dtype)
    net = network(fn.Dropout(0.3), fn.Dropout(0.1), dtype=dtype)
    net.adapt(X)
    wanted = by_hand(X.astype("float64"))
    for place in range(3):
        found = net.hidden(X, place, backend=backend)
        assert error(found, wanted) <= (1e-3 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e200, 5e306])
def test_columns_whose_squares_overflow_or_vanish_come_to_unit_scale(size, recwarn):
    X = np.random.default_rng(3).normal(size=(50, 3))
    mean, deviation = measured(X * size, np.zeros(0))
    assert error(mean / size, X.mean(0)) <= 1e-12
    assert error(deviation / size, X.std(0)) <= 1e-12
    assert not recwarn.list


def test_what_other_libraries_give_it_is_answered():
    with pytest.raises(TypeError, match=r"no argument 'axis'\. It measures each feature by itself"):
        fn.Standardize(axis=0)
    with pytest.raises(TypeError, match=r"no argument 'colour'\. It has none"):
        fn.Standardize(colour=0)
