"""Averages of weights: what a fit ends with, what sees them, and what goes on beside."""

from __future__ import annotations

import numpy as np
import pytest
from cases import DTYPES, JIT

import fastnn as fn
from fastnn.averages import EMA, SWA
from fastnn.machine import threads

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


AVERAGES = (EMA(0.9), EMA(0.0), EMA(0.9999), SWA(2), SWA(0))
each_average = pytest.mark.parametrize("average", AVERAGES, ids=str)


@both_backends
@each_average
def test_fits_that_go_on_are_one_fit(average, backend):
    whole, parts = network(), network()
    history = fitted(whole, average, backend=backend)
    for _ in range(6):
        again = fitted(parts, average, epochs=1, resume=True, backend=backend)
    assert np.array_equal(whole.parameters, parts.parameters)
    assert again["loss"] == history["loss"]


@both_backends
@each_average
def test_a_checkpoint_goes_on_exactly(average, backend, tmp_path):
    whole, net = network(), network()
    fitted(whole, average, epochs=9, backend=backend)

    def stop(run):
        if run.epoch == 5:
            raise KeyboardInterrupt

    # Written while training goes on from its own weights, of which the file has the average.
    callbacks = [fn.Checkpoint(tmp_path / "state", every=1), stop]
    with pytest.warns(UserWarning, match="interrupted"):
        fitted(net, average, epochs=9, callbacks=callbacks, backend=backend)
    assert np.array_equal(fn.load(tmp_path / "state").parameters, net.parameters)
    again = network()
    fitted(again, average, epochs=9, resume=tmp_path / "state", backend=backend)
    assert np.array_equal(again.parameters, whole.parameters)
    # And a network that was saved with its state goes on in memory.
    net.save(tmp_path / "net", state=True)
    kept, copied = fn.load(tmp_path / "net"), net.copy()
    assert np.array_equal(kept.parameters, net.parameters)
    for one in (kept, copied):
        fitted(one, average, epochs=4, resume=True, backend=backend)
        assert np.array_equal(one.parameters, whole.parameters)


def test_another_average_does_not_go_on():
    net = network()
    fitted(net, EMA(0.9))
    before = net.parameters.copy()
    for average, there in ((None, "none here"), (SWA(2), "SWA after 2"), (EMA(0.8), "decay=0.8")):
        with pytest.raises(ValueError, match=rf"average \(EMA\(decay=0.9\) there, .*{there}"):
            fitted(net, average, resume=True)
    plain = network()
    fitted(plain)
    with pytest.raises(ValueError, match=r"average \(none there, EMA\(decay=0.9\) here\)"):
        fitted(plain, EMA(0.9), resume=True)
    assert before.any()


@each_dtype
@both_backends
@pytest.mark.parametrize("way", ["here", "file", "copy"])
def test_a_part_of_more_epochs_begins_anew(way, backend, dtype, tmp_path):
    """Six epochs of eight, then of twelve and of more: each time the bits of one longer fit."""
    net, average = network(dtype), SWA(0.5)
    kept = fn.Checkpoint(tmp_path / "state", every=2)
    over = 4
    fitted(net, average, epochs=over, backend=backend, callbacks=kept)
    for epochs in (8, 9, 18, 40):
        whole = network(dtype)
        expected = fitted(whole, average, epochs=epochs, backend=backend)
        asked = {"epochs": epochs, "resume": tmp_path / "state"}
        if way == "copy":
            net.save(tmp_path / "net", state=True)
            net = fn.load(tmp_path / "net").copy()
        elif way == "file":
            net = network(dtype)
        if way != "file":
            asked = {"epochs": epochs - over, "resume": True}
        found = fitted(net, average, backend=backend, callbacks=kept, **asked)
        assert np.array_equal(net.parameters, whole.parameters)
        assert found["loss"] == expected["loss"]
        over = epochs


@pytest.mark.parametrize("way", ["here", "file"])
def test_a_part_that_begins_among_what_is_over_is_refused(way, tmp_path):
    net = network()
    kept = fn.Checkpoint(tmp_path / "state", every=1)
    fitted(net, SWA(0.75), epochs=10, callbacks=kept)
    before = net.parameters.tobytes()

    def go_on(epochs, average):
        asked = {"epochs": epochs, "resume": tmp_path / "state"}
        if way == "here":
            asked = {"epochs": epochs - 10, "resume": True}
        return fitted(net, average, **asked)

    for epochs in (11, 13):
        with pytest.raises(
            ValueError,
            match=rf"average=SWA\(0.75\) begins after {int(0.75 * epochs)} epochs .* began after "
            r"7, 10 are over, .* at least 14 in all, .* average=SWA\(7\), for one that goes on",
        ):
            go_on(epochs, SWA(0.75))
        assert net.parameters.tobytes() == before
    # Just what the error says does.
    whole = network()
    fitted(whole, SWA(7), epochs=11)
    go_on(11, SWA(7))
    assert np.array_equal(net.parameters, whole.parameters)
    longer, again = network(), network()
    fitted(longer, SWA(0.75), epochs=14)
    fitted(again, SWA(0.75), epochs=10)
    fitted(again, SWA(0.75), epochs=4, resume=True)
    assert np.array_equal(again.parameters, longer.parameters)


def test_a_number_of_epochs_begins_where_it_did():
    net = network()
    fitted(net, SWA(3))
    with pytest.raises(ValueError, match=r"SWA after 3 epochs there, SWA after 7 epochs here"):
        fitted(net, SWA(7), resume=True)
    with pytest.raises(ValueError, match=r"SWA after 3 epochs there, EMA"):
        fitted(net, EMA(0.9), resume=True)


@both_backends
@pytest.mark.parametrize("average", [EMA(0.9), SWA(2), SWA(5), SWA(0.5)], ids=str)
@pytest.mark.parametrize(
    "again",
    [
        lambda net, path: net,
        lambda net, path: net.copy(),
        lambda net, path: (net.save(path, state=True), fn.load(path))[1],
    ],
    ids=["here", "copy", "file"],
)
def test_an_average_that_was_changed_by_hand_does_not_go_on(average, again, backend, tmp_path):
    net = network()
    fitted(net, average, backend=backend)
    net = again(net, tmp_path / "net")
    left = net.parameters.copy()
    net.parameters *= 0.5
    with pytest.raises(ValueError, match=r"its parameters were changed since.* without resume"):
        fitted(net, average, epochs=1, resume=True, backend=backend)
    assert np.array_equal(net.parameters, 0.5 * left)
    # Put back, it goes on.
    net.parameters[:] = left
    whole = network()
    fitted(net, average, epochs=1, resume=True, backend=backend)
    fitted(whole, SWA(3) if average == SWA(0.5) else average, epochs=7, backend=backend)
    assert np.array_equal(net.parameters, whole.parameters)


@both_backends
def test_weights_whose_average_has_not_begun_may_be_changed(backend):
    by_hand, plain = network(), network()
    fitted(by_hand, SWA(9), resume=True, epochs=6, backend=backend)
    fitted(plain, epochs=6, backend=backend)
    for net, average in ((by_hand, SWA(9)), (plain, None)):
        net.parameters *= 0.5
        fitted(net, average, epochs=2, resume=True, backend=backend)
    assert np.array_equal(by_hand.parameters, plain.parameters)


@both_backends
@each_dtype
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_an_exponential_average_by_hand(decay, dtype, backend):
    X, y = examples()
    net, weights = network(dtype), []
    plain = network(dtype)
    for _ in range(4):
        plain.fit(X, y, optimizer=fn.Adam(0.05), batch_size=23, epochs=1, resume=True,
                  backend=backend)  # fmt: skip
        weights.append(plain.parameters.astype(float))
    net.fit(X, y, optimizer=fn.Adam(0.05), batch_size=23, epochs=4, average=EMA(decay),
            backend=backend)  # fmt: skip
    share = np.array([decay ** (len(weights) - n) for n in range(1, len(weights) + 1)])
    wanted = (share[:, None] * weights).sum(axis=0) / share.sum()
    # The reference divides by a difference of that size.
    limit = 8 * np.finfo(dtype).eps / (1.0 - decay if dtype == "float64" else 1.0)
    assert np.allclose(net.parameters, wanted, rtol=limit, atol=limit)


@each_dtype
@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("batch_size", [40, 700])
def test_large_networks_average_as_small_ones_do(batch_size, clip_norm, dtype, tuned):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(1500, 37)), rng.normal(size=(1500, 3))
    found = []
    for averaged_bytes in (0, 1 << 40):
        tuned(averaged_bytes=averaged_bytes)
        layers = [fn.Dense(70, "tanh"), fn.Dense(9, "relu", bias=False), fn.Dense(3)]
        net = fn.Sequential(layers, 37, dtype, rng=1)
        net.fit(X, y, epochs=2, batch_size=batch_size, clip_norm=clip_norm, average=EMA(0.97),
                threads=2)  # fmt: skip
        found.append(net.parameters.copy())
    assert np.array_equal(*found)


@both_backends
def test_every_layer_follows(backend):
    rng = np.random.default_rng(0)
    X = np.c_[rng.integers(0, 5, 200), rng.normal(size=(200, 3))]
    layers = [
        fn.Embedding({0: 5}, dimension=4),
        fn.Dense(9, "tanh", trainable=False),
        fn.BatchNorm(),
        fn.PReLU(),
        fn.Residual([fn.LayerNorm(), fn.Dense(9)]),
        fn.Dense(1),
    ]
    vectors = {}
    for average in (None, EMA(0.0), EMA(0.7)):
        net = fn.Sequential(layers, 4, "float64", rng=2)
        net.fit(X, X[:, 1], epochs=2, batch_size=30, average=average, backend=backend)
        vectors[average] = np.r_[net.parameters, net.buffers]
        # What does not move is averaged to itself, natively to the bit.
        fixed = fn.Sequential(layers, 4, "float64", rng=2).weights[0]
        same = np.array_equal if backend == "native" else np.allclose
        assert same(net.weights[0], fixed)
    # An average that keeps nothing is the last weights, buffers among them.
    assert np.allclose(vectors[None], vectors[EMA(0.0)], rtol=1e-14, atol=1e-15)
    assert not np.allclose(vectors[None], vectors[EMA(0.7)], rtol=1e-3)


@pytest.mark.skipif(not JIT, reason="Threads are those of compiled code.")
@each_dtype
@each_average
def test_no_bit_of_an_average_depends_on_threads(average, dtype, monkeypatch, tuned):
    monkeypatch.setattr(threads, "usable_cores", lambda: 64)
    tuned(step_share=1e-9, call_share=1e-9, helper_share=1e-9, awake_share=1e-9)
    found = []
    for count in range(1, 9):
        net = network(dtype)
        fitted(net, average, threads=count, batch_size=23)
        found.append(net.parameters.copy())
    assert all(np.array_equal(one, found[0]) for one in found[1:])


@both_backends
def test_a_batch_without_weight_is_no_step(backend):
    X, y = examples(21)
    weights = np.repeat([1.0, 0.0, 1.0], 7)
    net = network()
    settings = {"optimizer": fn.Adam(0.05), "batch_size": 7, "shuffle": False, "backend": backend}
    net.fit(X, y, epochs=1, sample_weight=weights, average=EMA(0.5), **settings)
    two = network()
    two.fit(X[weights > 0], y[weights > 0], epochs=1, average=EMA(0.5), **settings)
    assert np.allclose(net.parameters, two.parameters, rtol=1e-12, atol=1e-15)


@both_backends
@each_average
def test_a_fit_that_diverges_keeps_a_finite_average(average, backend):
    X, y = examples()
    far = np.repeat(y[:, :1], 2, axis=1)
    far[-1] = 1e200  # Its square overflows, in the last step of the first epoch.
    settings = {"optimizer": fn.SGD(0.01), "batch_size": 11, "shuffle": False, "backend": backend}
    net, good = network(), network()
    with pytest.warns(fn.FitWarning), pytest.raises(fn.DivergenceError, match="epoch 1, step 3"):
        net.fit(X, far, epochs=3, average=average, **settings)
    plain = None if isinstance(average, SWA) else average
    good.fit(X[:22], far[:22], epochs=1, average=plain, **settings)
    # Of the weights before that step, or these where no epoch has ended.
    assert np.allclose(net.parameters, good.parameters, rtol=1e-12, atol=1e-15)


def test_what_cannot_be_averaged_is_refused():
    net = network()
    before = net.parameters.copy()
    with pytest.raises(
        TypeError, match=r"average must be fastnn.EMA\(.*fastnn.SWA\(start=0.75\) or None"
    ):
        fitted(net, 0.75)
    with pytest.raises(ValueError, match=r"begins after 6 epochs, but the fit has 6"):
        fitted(net, SWA(6))
    with pytest.raises(ValueError, match=r"average is for optimizers that take steps; LBFGS"):
        fitted(net, SWA(), optimizer=fn.LBFGS())
    with pytest.raises(TypeError, match=r"Did you mean fastnn.EMA\(\)"):
        fitted(net, EMA)
    with pytest.raises(TypeError, match="use_ema"):
        fitted(net, use_ema=True)
    assert np.array_equal(net.parameters, before)
    for start in (1.0, -0.1, float("nan"), -1):
        with pytest.raises(ValueError, match="start must be"):
            SWA(start)
    for start in ("half", None, True):
        with pytest.raises(TypeError, match="start must be"):
            SWA(start)
    for decay in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="decay must be"):
            EMA(decay)
    for decay in ("slow", None, True):
        with pytest.raises(TypeError, match="decay must be"):
            EMA(decay)
    with pytest.raises(TypeError, match="decay"):
        EMA(ema_momentum=0.99)


def test_a_callback_that_changes_averaged_weights_is_refused():
    def spoil(run):
        run.network.parameters[:] += 1.0

    for average in (SWA(1), EMA(0.9)):
        with pytest.raises(RuntimeError, match="a callback has changed the weights"):
            fitted(network(), average, callbacks=spoil)
