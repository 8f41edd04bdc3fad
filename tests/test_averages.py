"""Averages of weights: what a fit ends with, what sees them, and what goes on beside."""

from __future__ import annotations

import numpy as np
import pytest
from cases import DTYPES, JIT

import fastnn as fn
from fastnn import threads
from fastnn.averages import SWA

BACKENDS = ("native", "reference")

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
both_backends = pytest.mark.parametrize("backend", BACKENDS)


def network(dtype="float64", **settings):
    layers = [fn.Dense(17, "tanh"), fn.Dropout(0.2), fn.Dense(5, "relu"), fn.Dense(2)]
    return fn.Sequential(layers, 3, dtype, rng=4, **settings)


def examples(n=23):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    return X, np.stack([X[:, 0] - X[:, 1], X[:, 2] ** 2], axis=1)


def fitted(net, average=None, epochs=6, **settings):
    X, y = examples()
    settings = {"optimizer": fn.Adam(0.05), "batch_size": 7, **settings}
    return net.fit(X, y, epochs=epochs, average=average, **settings)


def after_each_epoch(dtype, backend, epochs=6):
    """Return the weights after each epoch of a fit that averages nothing."""
    net, found = network(dtype), []
    for _ in range(epochs):
        fitted(net, epochs=1, resume=True, backend=backend)
        found.append(net.parameters.copy())
    return found


@each_dtype
@both_backends
@pytest.mark.parametrize(
    ("start", "first"), [(0, 0), (2, 2), (5, 5), (0.0, 0), (0.75, 4), (0.34, 2)]
)
def test_a_fit_ends_with_the_mean_of_its_last_epochs(start, first, backend, dtype):
    net = network(dtype)
    fitted(net, SWA(start), backend=backend)
    wanted = np.mean(np.array(after_each_epoch(dtype, backend)[first:], np.float64), axis=0)
    limit = 4 * np.finfo(dtype).eps
    assert np.allclose(net.parameters, wanted, rtol=limit, atol=limit)


@both_backends
def test_training_goes_on_from_its_own_weights(backend):
    averaged, plain = network(), network()
    one = fitted(averaged, SWA(1), backend=backend, metrics="r2")
    other = fitted(plain, backend=backend, metrics="r2")
    assert one["loss"] == other["loss"]
    assert np.allclose(one["r2"], other["r2"], rtol=1e-12)
    assert not np.array_equal(averaged.parameters, plain.parameters)


@both_backends
def test_validation_and_callbacks_see_the_average(backend):
    X, y = examples(9)
    net, seen, losses = network(), [], []

    def look(run):
        seen.append(run.network.parameters.copy())
        losses.append(run.network.evaluate(X, y, backend=backend)["loss"])

    history = fitted(net, SWA(2), backend=backend, validation_data=(X, y), callbacks=look)
    weights = after_each_epoch("float64", backend)
    for epoch, found in enumerate(seen, 1):
        wanted = weights[epoch - 1] if epoch <= 2 else np.mean(weights[2:epoch], axis=0)
        assert np.allclose(found, wanted, rtol=1e-12, atol=1e-15)
    assert np.allclose(history["val_loss"], losses, rtol=1e-12)
    assert np.array_equal(seen[-1], net.parameters)


def test_early_stopping_gives_back_the_best_average():
    X, y = examples(9)
    net, seen = network(), []
    early = fn.EarlyStopping(patience=2)
    callbacks = [lambda run: seen.append(run.network.parameters.copy()), early]
    history = fitted(net, SWA(0), epochs=60, validation_data=(X, -y), callbacks=callbacks)
    best = int(np.argmin(history["val_loss"]))
    assert history.epochs < 60
    assert np.array_equal(net.parameters, seen[best])


@pytest.mark.skipif(not JIT, reason="Threads are those of compiled code.")
@each_dtype
def test_no_bit_depends_on_threads(dtype, monkeypatch, tuned):
    monkeypatch.setattr(threads, "usable_cores", lambda: 64)
    tuned(step_share=1e-9, call_share=1e-9, helper_share=1e-9, awake_share=1e-9)
    found = []
    for count in (1, 2, 5, 8):
        net = network(dtype)
        fitted(net, SWA(), threads=count)
        found.append(net.parameters.copy())
    assert all(np.array_equal(one, found[0]) for one in found[1:])


@both_backends
def test_ctrl_c_leaves_the_average(backend):
    net, weights = network(), after_each_epoch("float64", backend)

    def stop(run):
        if run.epoch == 4:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        history = fitted(net, SWA(1), backend=backend, callbacks=stop)
    assert history.stopped == "interrupted"
    assert np.allclose(net.parameters, np.mean(weights[1:4], axis=0), rtol=1e-12, atol=1e-15)


def test_a_later_fit_begins_afresh_at_the_average():
    net, other = network(), network()
    fitted(net, SWA(3))
    other.parameters[:] = net.parameters
    X, y = examples()
    net.fit(X, y, epochs=1, shuffle=False, resume=True)
    assert not np.array_equal(net.parameters, other.parameters)
    assert net.copy().parameters.shape == other.parameters.shape


def test_what_cannot_be_averaged_is_refused(tmp_path):
    net = network()
    before = net.parameters.copy()
    with pytest.raises(TypeError, match=r"average must be fastnn.SWA\(start=0.75\) or None"):
        fitted(net, 0.75)
    with pytest.raises(ValueError, match=r"begins after 6 epochs, but the fit has 6"):
        fitted(net, SWA(6))
    with pytest.raises(ValueError, match=r"average is for optimizers that take steps; LBFGS"):
        fitted(net, SWA(), optimizer=fn.LBFGS())
    for other in ({"resume": True}, {"callbacks": fn.Checkpoint(tmp_path / "state")}):
        with pytest.raises(ValueError, match=r"with average=SWA\(\) it ends with others"):
            fitted(net, SWA(), **other)
    assert np.array_equal(net.parameters, before)
    for start in (1.0, -0.1, float("nan"), -1):
        with pytest.raises(ValueError, match="start must be"):
            SWA(start)
    for start in ("half", None, True):
        with pytest.raises(TypeError, match="start must be"):
            SWA(start)


def test_a_callback_that_changes_averaged_weights_is_refused():
    def spoil(run):
        run.network.parameters[:] += 1.0

    with pytest.raises(RuntimeError, match="a callback has changed the weights"):
        fitted(network(), SWA(1), callbacks=spoil)
