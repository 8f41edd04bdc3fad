"""Dropout: what it keeps, in every way that a step is taken, and where it keeps out."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from cases import DTYPES, JIT, RULES, Shape, data, error, through

import fastnn as fn
from fastnn import kinds, reference
from fastnn.activations import ACTIVATIONS
from fastnn.equations import draws as reference_draws
from fastnn.fitting import compiled_call, steppers
from fastnn.kernels import codes
from fastnn.layout import Program, Tiling, aligned_zeros
from fastnn.losses import LOSSES
from fastnn.machine import threads

BACKENDS = ("native", "reference")
STEP_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

both_backends = pytest.mark.parametrize("backend", BACKENDS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)

# Widths that are multiples of nothing, of half a panel and of more than one.
SHAPE = Shape(61, 35, 17, 70, 3) if JIT else Shape(9, 3, 3, 5, 2)
BATCH = 23 if JIT else 4

# How a batch goes through: whole; in chunks, of odd lengths too; in groups of chunks.
WAYS = {
    "whole": through(1 << 15, 512, 4),
    "chunks": through(1, 7 if JIT else 3, 99),
    "groups": through(1, 5 if JIT else 1, 2),
}


@pytest.fixture
def eager(monkeypatch, tuned):
    """Use as many threads as are asked for, however little there is to do, on any machine."""
    monkeypatch.setattr(threads, "usable_cores", lambda: 64)
    tuned(step_share=1e-9, call_share=1e-9, helper_share=1e-9, awake_share=1e-9)


def network(hidden="tanh", dtype="float64", rates=(0.2, 0.5, 0.1), l2=0.01, shape=SHAPE, rng=3):
    """Return a network with dropout of inputs and of both hidden layers; None leaves one out."""
    dense = [
        fn.Dense(shape.first, hidden, l2=l2),
        fn.Dense(shape.second, hidden, l2=l2),
        fn.Dense(shape.m, "softmax"),
    ]
    layers = []
    for rate, layer in zip(rates, dense, strict=True):
        layers += [layer] if rate is None else [fn.Dropout(rate), layer]
    net = fn.Sequential(layers, shape.p, dtype, rng=rng)
    for b in net.biases:
        b[:] = np.linspace(-0.5, 0.5, b.size)
    return net


def examples(shape=SHAPE):
    return data(shape, "cross_entropy")


def what_was_read(rate, n, p, dtype="float64", backend="native", steps=1, place=0, **settings):
    """Return what a layer read, (n, p), in each step, where all that it could read is 1.

    With weights of zero and targets -I a step of gradient descent writes just that into the
    weights: dW = A^T dZ, and dZ is a multiple of I.
    """
    below = [fn.Dense(p, initializer="zeros"), fn.Dense(p, initializer=0.0)][:place]
    net = fn.Sequential(
        [*below, fn.Dropout(rate), fn.Dense(n, bias=False, initializer="zeros")],
        p,
        dtype,
        **settings,
    )
    for b in net.biases[:place]:
        b[:] = 1.0
    found = []
    for _ in range(steps):
        net.weights[-1][:] = 0.0
        net.train_on_batch(
            np.ones((n, p)), -np.eye(n), "mean_squared_error", fn.SGD(n * n / 2), backend=backend
        )
        found.append(-net.weights[-1].T.copy())
        # What passes through weights of zero moves nothing below.
        assert all((b == 1.0).all() for b in net.biases[:place])
    return found, net


# What is kept.


@both_backends
@each_dtype
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.3, 0.5, 0.99, 1 - 2**-40])
def test_a_unit_stays_scaled_or_becomes_zero(rate, dtype, backend):
    for place, (n, p) in ((0, (9, 5)), (1, (7, 33 if JIT else 4))):
        (found, *_), net = what_was_read(rate, n, p, dtype, backend, place=place)
        kept = reference_draws.kept(net._streams.mask_key, 0, place, p, n, rate).T
        assert found.dtype == dtype
        np.testing.assert_allclose(found, kept / (1 - rate), rtol=1e-5)
        assert ((found == 0.0) == ~kept).all()
        if rate == 0.0:
            assert kept.all()


@pytest.mark.jit
@pytest.mark.parametrize("rate", [0.01, 0.25, 0.5, 0.9])
def test_units_stay_as_often_as_they_should_and_for_themselves(rate):
    n, p, steps = 64, 48, 150
    found, _ = what_was_read(rate, n, p, steps=steps)
    kept = np.array(found) != 0.0
    spread = np.sqrt(rate * (1 - rate))
    C = (kept - (1 - rate)) / spread
    # By steps, examples, units and places: sums of squares, each 1 on the average.
    for axes in ((1, 2), (0, 2), (0, 1), (0,)):
        means = C.mean(axis=axes) * np.sqrt(C.size / C.mean(axis=axes).size)
        assert abs(np.mean(means**2) - 1) < 5 * np.sqrt(2 / means.size), axes
    # With neighbours, with the next row, and with the next step.
    for one, other in (
        (C[:, :, :-1], C[:, :, 1:]),
        (C[:, :-1], C[:, 1:]),
        (C[:-1], C[1:]),
        (C[:, :, :-16], C[:, :, 16:]),
    ):
        assert abs(np.mean(one * other)) < 5 / np.sqrt(one.size)
    assert abs(C.mean()) < 5 / np.sqrt(C.size)


def test_what_is_kept_is_pinned():
    """With whole numbers of Python's, which know no overflow."""
    layer = int(reference_draws.draws(1, 2, 4)[3])
    expected = []
    for number in range(12):
        x = (number + layer) % 2**32
        x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
        x = (x ^ (x >> 15) ^ (layer >> 32)) * 0x846CA68B % 2**32
        expected.append(x >= 0.75 * 2**32)
    kept = reference_draws.kept(1, 2, 3, 4, 3, 0.75)
    assert kept.T.ravel().tolist() == expected
    assert kept.astype(int).tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0]]


@both_backends
def test_seed_step_and_layer_each_draw_their_own(backend):
    found, _ = what_was_read(0.5, 16, 8, backend=backend, steps=3)
    other, _ = what_was_read(0.5, 16, 8, backend=backend, rng=1)
    above, _ = what_was_read(0.5, 16, 8, backend=backend, place=1)
    patterns = {A.tobytes() for A in (*found, *other, *above)}
    assert len(patterns) == 5
    again, _ = what_was_read(0.5, 16, 8, backend=backend)
    assert (again[0] == found[0]).all()


def test_more_units_are_dropped_at_a_higher_rate_and_the_same_ones():
    kept = [reference_draws.kept(5, 0, 0, 40, 30, rate) for rate in (0.0, 0.1, 0.5, 0.9)]
    assert kept[0].all()
    for more, fewer in pairwise(kept):
        assert (more >= fewer).all()
        assert more.sum() > fewer.sum()


# Native steps equal reference steps, and calculus.


@each_dtype
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_steps_are_the_reference_s_steps(hidden, way, dtype, tuned):
    tuned(**WAYS[way])
    known = examples()
    for rates in ((0.2, 0.5, 0.1), (None, 0.9, None)):
        twins = []
        for backend in BACKENDS:
            net = network(hidden, dtype, rates)
            if hidden == "exp":
                net.parameters[:] *= 0.2
            losses = [
                net.train_on_batch(
                    known.X[rows], known.y[rows], optimizer=fn.SGD(0.05, 0.5), backend=backend,
                    sample_weight=known.w[rows] if step % 2 else None,
                )
                for step, rows in enumerate((slice(0, BATCH), slice(BATCH, None)) * 2)
            ]  # fmt: skip
            twins.append((net.parameters, losses))
        assert error(twins[0][0], twins[1][0]) <= 10 * STEP_TOLERANCE[dtype]
        assert error(twins[0][1], twins[1][1]) <= 10 * STEP_TOLERANCE[dtype]


@each_dtype
@pytest.mark.parametrize("rule", RULES)
def test_epochs_of_every_rule_are_the_reference_s(rule, dtype):
    known, twins = examples(), []
    for backend in BACKENDS:
        net = network("relu", dtype)
        history = net.fit(
            known.X, known.y, optimizer=RULES[rule], epochs=3, batch_size=BATCH, backend=backend,
            sample_weight=known.w, clip_norm=0.5,
        )  # fmt: skip
        twins.append((net.parameters, history["loss"], net._streams))
    assert error(twins[0][0], twins[1][0]) <= {"float32": 1e-3, "float64": 1e-9}[dtype]
    assert error(twins[0][1], twins[1][1]) <= {"float32": 1e-3, "float64": 1e-9}[dtype]
    assert twins[0][2] == twins[1][2]


@pytest.mark.parametrize("hidden", ["tanh", "sigmoid", "softplus", "softmax"])
def test_the_gradient_is_that_of_the_loss_with_the_same_units_dropped(hidden):
    rng = np.random.default_rng(0)
    widths = (4, 5, 3, 2)
    W = [rng.normal(size=shape) for shape in zip(widths[1:], widths, strict=False)]
    b = [rng.normal(size=(h, 1)) for h in widths[1:]]
    f, loss = [hidden, hidden, "identity"], "mean_squared_error"
    X, Y = rng.normal(size=(4, 6)), rng.normal(size=(2, 6))
    D = [reference_draws.kept(9, 0, place, h, 6, 0.4) / 0.6 for place, h in enumerate(widths[:-1])]

    def J():
        Z, A = reference.forward(W, b, f, X, D)
        return reference.mean_loss(loss, f[-1], Z[-1], A[-1], Y)

    Z, A = reference.forward(W, b, f, X, D)
    _, dW, db = reference.backward(W, b, f, loss, X, Z, A, Y, D=D)
    for arrays, slopes in ((W, dW), (b, db)):
        for array, slope in zip(arrays, slopes, strict=True):
            for place in np.ndindex(array.shape):
                kept, step = array[place], 1e-5
                array[place] = kept + step
                above = J()
                array[place] = kept - step
                below = J()
                array[place] = kept
                assert slope[place] == pytest.approx((above - below) / (2 * step), abs=1e-7)


def test_what_is_dropped_is_zero_whatever_it_was():
    A = np.array([[np.inf, np.nan, 2.0]])
    assert reference.dropped(A, np.array([[0.0, 0.0, 4.0]])).tolist() == [[0.0, 0.0, 8.0]]
    assert reference.dropped(A, None) is A


@both_backends
def test_a_unit_that_overflowed_harms_nobody_where_it_is_dropped(backend):
    n = 12
    net = fn.Sequential(
        [fn.Dense(1, "relu", initializer="constant"), fn.Dropout(0.5), fn.Dense(1)], 1, "float32"
    )
    kept = reference_draws.kept(net._streams.mask_key, 0, 1, 1, n, 0.5)[0]
    assert 0 < kept.sum() < n
    net.weights[0][:] = 1e15
    X = np.where(kept, 0.0, 1e30)[:, None]
    assert net.train_on_batch(X, np.zeros(n), optimizer=fn.SGD(0.1), backend=backend) == 0.0


# The same bits.


@each_dtype
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hidden", ["relu", "tanh", "gelu", "softmax"])
def test_a_fit_has_the_same_bits_in_any_number_of_threads(hidden, way, dtype, tuned, eager):
    tuned(**WAYS[way])
    known, found = examples(), []
    for number in (1, 2, 3, 4, 8) if JIT else (1, 2):
        net = network(hidden, dtype)
        history = net.fit(
            known.X, known.y, epochs=2, batch_size=BATCH, threads=number, sample_weight=known.w
        )
        found.append((net.parameters.tobytes(), history.to_dict(), net._streams))
    assert found[1:] == [found[0]] * (len(found) - 1)


@pytest.mark.parametrize("way", WAYS)
def test_the_way_through_a_batch_drops_no_other_units(way, tuned):
    known = examples()
    whole = network()
    whole.train_on_batch(known.X, known.y, optimizer=fn.SGD(1.0))
    tuned(**WAYS[way])
    parts = network()
    parts.train_on_batch(known.X, known.y, optimizer=fn.SGD(1.0))
    assert error(parts.parameters, whole.parameters) < 1e-12


def test_both_dtypes_drop_the_same_units():
    for place, p in ((0, 5), (1, 33 if JIT else 4), (2, 17 if JIT else 3)):
        single, double = (what_was_read(0.3, 9, p, dtype, place=place)[0] for dtype in DTYPES)
        assert ((single[0] == 0.0) == (double[0] == 0.0)).all()


@both_backends
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_slices_and_callbacks_change_no_bits(seconds, backend, tuned):
    known, settings = examples(), {"epochs": 4, "batch_size": BATCH, "backend": backend}
    plain, sliced, watched = network(), network(), network()
    plain.fit(known.X, known.y, **settings)
    tuned(slice_seconds=seconds)
    sliced.fit(known.X, known.y, **settings)
    watched.fit(known.X, known.y, callbacks=lambda run: None, **settings)
    for net in (sliced, watched):
        assert net.parameters.tobytes() == plain.parameters.tobytes()
        assert net._streams == plain._streams


@each_dtype
def test_whatever_the_workspace_held_does_not_matter(dtype, monkeypatch):
    known = examples()

    def fit():
        # A rule without moments, which are taken to be zeros before the first step.
        net = network("sigmoid", dtype)
        net.fit(known.X, known.y, optimizer=fn.SGD(0.1), epochs=2, batch_size=BATCH)
        return net.parameters.tobytes()

    before = fit()

    def dirty(size, kind):
        vector = aligned_zeros(size, kind)
        vector[:] = 3.0
        return vector

    monkeypatch.setattr("fastnn.fitting.runs.aligned_zeros", dirty)
    assert fit() == before


@both_backends
@each_dtype
def test_a_rate_of_zero_is_no_dropout(dtype, backend):
    known, settings = examples(), {"epochs": 2, "batch_size": BATCH, "backend": backend}
    without, with_none = network("relu", dtype, (None,) * 3), network("relu", dtype, (0.0,) * 3)
    for net in (without, with_none):
        net.fit(known.X, known.y, **settings)
    assert with_none.parameters.tobytes() == without.parameters.tobytes()


def test_an_example_without_weight_and_a_batch_without_any_change_nothing():
    known = examples()
    weights = np.ones(SHAPE.n)
    weights[:BATCH] = 0.0
    for backend in BACKENDS:
        net, rest = network(), network()
        options = {"optimizer": fn.SGD(0.1), "batch_size": BATCH, "epochs": 1, "shuffle": False,
                   "backend": backend}  # fmt: skip
        net.fit(known.X, known.y, sample_weight=weights, **options)
        # A batch that takes no step draws no mask.
        rest.fit(known.X[BATCH:], known.y[BATCH:], **options)
        assert net._streams.steps == rest._streams.steps
        assert error(net.parameters, rest.parameters) < 1e-12


# Streams.


def test_a_seed_s_weights_and_orders_are_the_same_with_dropout():
    with_it, without = network(), network(rates=(None,) * 3)
    assert with_it.parameters.tobytes() == without.parameters.tobytes()
    assert with_it._streams == without._streams
    assert with_it._streams.mask_key != with_it._streams.order_key
    assert network(rng=4)._streams.mask_key != with_it._streams.mask_key


@both_backends
def test_two_fits_go_on_where_one_longer_fit_would_be(backend):
    known = examples()
    settings = {"optimizer": fn.SGD(0.1), "batch_size": BATCH, "backend": backend}
    once, twice = network(), network()
    once.fit(known.X, known.y, epochs=4, **settings)
    for epochs in (1, 3):
        twice.fit(known.X, known.y, epochs=epochs, **settings)
    assert twice.parameters.tobytes() == once.parameters.tobytes()
    assert twice._streams == once._streams
    assert once._streams.steps == 4 * -(-SHAPE.n // BATCH)


@both_backends
def test_a_fit_and_single_steps_share_the_stream(backend):
    known = examples()
    settings = {"optimizer": fn.SGD(0.1), "backend": backend}
    fitted, stepped = network(), network()
    fitted.fit(known.X, known.y, epochs=4, batch_size=SHAPE.n, shuffle=False, **settings)
    for _ in range(2):
        stepped.train_on_batch(known.X, known.y, **settings)
    # Another rule begins with a fresh state, and goes on in the stream all the same.
    stepped.train_on_batch(known.X, known.y, optimizer=fn.SGD(0.1, momentum=0.0), backend=backend)
    stepped.fit(known.X, known.y, epochs=1, batch_size=SHAPE.n, shuffle=False, **settings)
    assert stepped._streams.steps == fitted._streams.steps == 4
    assert error(stepped.parameters, fitted.parameters) < 1e-12


@pytest.mark.parametrize(
    "again",
    [
        lambda net, path: net.copy(),
        lambda net, path: pickle.loads(pickle.dumps(net)),
        lambda net, path: (net.save(path), fn.load(path))[1],
    ],
    ids=["copy", "pickle", "file"],
)
def test_a_network_goes_on_in_its_stream_when_it_comes_back(again, tmp_path):
    known, settings = examples(), {"epochs": 2, "batch_size": BATCH}
    net = network()
    net.fit(known.X, known.y, **settings)
    twin = again(net, tmp_path / "net")
    assert twin.layers == net.layers
    assert twin._streams == net._streams
    for one in (net, twin):
        one.fit(known.X, known.y, **settings)
    assert twin.parameters.tobytes() == net.parameters.tobytes()


@both_backends
def test_what_a_callback_saves_goes_on_in_the_stream(backend, tmp_path):
    known = examples()
    settings = {"optimizer": fn.SGD(0.1), "batch_size": BATCH, "backend": backend}

    def keep(run):
        if run.epoch == 2:
            run.network.save(tmp_path / "net")

    net = network()
    net.fit(known.X, known.y, epochs=4, callbacks=keep, **settings)
    twin = fn.load(tmp_path / "net")
    twin.fit(known.X, known.y, epochs=2, **settings)
    assert twin.parameters.tobytes() == net.parameters.tobytes()


@both_backends
def test_a_step_that_was_not_taken_draws_nothing(backend, monkeypatch):
    known, net = examples(), network("relu", "float32")
    net.train_on_batch(known.X, known.y, backend=backend)
    before, twin = pickle.dumps(net._streams), net.copy()
    with pytest.raises(fn.DivergenceError):
        net.train_on_batch(known.X, known.y, optimizer=fn.Adam(1e39), backend=backend)
    with pytest.raises(ValueError, match="sample_weight"):
        net.train_on_batch(known.X, known.y, sample_weight=[1.0], backend=backend)
    steps = {
        "native": (compiled_call.Call, "at_once"), "reference": (steppers.ReferenceStepper, "run")
    }  # fmt: skip
    run = getattr(*steps[backend])

    def interrupted(self, *arguments):
        run(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*steps[backend], interrupted)
        with pytest.raises(KeyboardInterrupt):
            net.train_on_batch(known.X, known.y, backend=backend)
    assert pickle.dumps(net._streams) == before
    for one in (net, twin):
        one.train_on_batch(known.X, known.y, backend=backend)
    assert twin.parameters.tobytes() == net.parameters.tobytes()


# Divergence.


@both_backends
@pytest.mark.parametrize("share", [0, 1e9], ids=["saved always", "saved once"])
@pytest.mark.parametrize("optimizer", [fn.SGD(0.8, momentum=0.5), fn.Adam(4e18)], ids=str)
def test_a_divergence_goes_back_over_steps_with_the_same_units_dropped(
    optimizer, share, backend, tuned
):
    tuned(saving_share=share, slice_seconds=1e9)
    known = data(Shape(23, 3, 1, 1, 1), "mean_squared_error")
    settings = {"optimizer": optimizer, "epochs": 900, "batch_size": 5, "backend": backend}
    ends = []
    for callbacks in ((), lambda run: None):
        net = fn.Sequential([fn.Dropout(0.3), fn.Dense(1)], 3, "float32", rng=2)
        with pytest.raises(fn.DivergenceError) as caught:
            net.fit(known.X, known.y, callbacks=callbacks, **settings)
        problem = caught.value
        ends.append((str(problem), problem.epoch, problem.step, net.parameters.tobytes(),
                     net._streams))  # fmt: skip
    assert ends[0] == ends[1]
    assert net._streams.steps == (problem.epoch - 1) * 5 + problem.step - 1
    # The good steps alone lead to the same weights.
    twin = fn.Sequential([fn.Dropout(0.3), fn.Dense(1)], 3, "float32", rng=2)
    if problem.epoch > 1:
        twin.fit(known.X, known.y, **settings | {"epochs": problem.epoch - 1})
    assert (problem.step == 1) == (twin.parameters.tobytes() == net.parameters.tobytes())


@both_backends
def test_a_divergence_is_looked_for_with_the_same_units_dropped(backend):
    """Only what dropout scales up overflows."""
    net = fn.Sequential(
        [fn.Dense(8, initializer="constant"), fn.Dropout(0.9), fn.Dense(1, initializer="constant")],
        1, "float32",
    )  # fmt: skip
    net.weights[0][:] = 1e38
    X = np.ones((16, 1))
    assert np.isfinite(net.predict(X)).all()
    with pytest.raises(fn.DivergenceError, match=r"weighted sums Z of layer 2 \(Dense, 1 units"):
        net.train_on_batch(X, np.zeros(16), "mean_absolute_error", fn.SGD(1e-3), backend=backend)


# Where it keeps out.


@both_backends
@each_dtype
def test_only_training_drops(dtype, backend):
    known = examples()
    with_it, without = network("relu", dtype), network("relu", dtype, (None,) * 3)
    X, y, path = known.X, known.y, {"backend": backend}
    assert with_it.predict(X, **path).tobytes() == without.predict(X, **path).tobytes()
    assert with_it.evaluate(X, y, **path) == without.evaluate(X, y, **path)
    found, expected = (net.loss_and_gradient(X, y, **path) for net in (with_it, without))
    assert found[0] == expected[0]
    assert found[1].tobytes() == expected[1].tobytes()
    found, expected = (net.trace(X, y, **path) for net in (with_it, without))
    assert len(found.Z) == len(found.dW) == 3
    for part in ("Z", "A", "dZ", "dW", "db"):
        for a, b in zip(getattr(found, part), getattr(expected, part), strict=True):
            assert a.tobytes() == b.tobytes()
    with fn.backend(backend):
        x = X.astype(dtype)
        for rows in (x, x[0]):
            assert with_it(rows).tobytes() == without(rows).tobytes()


@both_backends
def test_a_diagnosis_is_that_of_the_network_without_dropout(backend):
    known = examples()
    with_it, without = network("relu"), network("relu", rates=(None,) * 3)
    before = with_it._streams.steps
    found = with_it.diagnose(known.X, known.y, backend=backend)
    expected = without.diagnose(known.X, known.y, backend=backend)
    assert [layer.place for layer in found.layers] == [1, 3, 5]
    for one, other in zip(found.layers, expected.layers, strict=True):
        assert (one.mean, one.gradient_norm, one.update_ratio) == (
            other.mean, other.gradient_norm, other.update_ratio,
        )  # fmt: skip
    assert with_it._streams.steps == before


@both_backends
def test_validation_drops_nothing(backend):
    known, net = examples(), network()
    history = net.fit(
        known.X, known.y, epochs=1, validation_data=(known.X, known.y), backend=backend,
        measure="after", metrics="accuracy",
    )  # fmt: skip
    measured = net.evaluate(known.X, known.y, metrics="accuracy", backend=backend)
    assert history["val_loss"] == [measured["loss"]]
    assert history["val_accuracy"] == history["accuracy"] == [measured["accuracy"]]


@both_backends
def test_hidden_counts_in_the_layer_list(backend):
    known = examples()
    with_it, without = network(), network(rates=(None,) * 3)
    for place, same in ((0, None), (1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (-1, 2), (-2, 1)):
        found = with_it.hidden(known.X, place, backend=backend)
        expected = known.X if same is None else without.hidden(known.X, same, backend=backend)
        assert found.tobytes() == np.ascontiguousarray(expected).tobytes()
    copied = np.array(known.X)
    with_it.hidden(copied, 0, backend=backend)[:] = 0.0
    assert copied.any()


def test_a_network_with_dropout_describes_itself(tmp_path):
    net = fn.Sequential(
        [fn.Dropout(0.1), fn.Dense(4, "relu"), fn.Dropout(0.25), fn.Dense(2)], rng=0
    )
    assert "0  Dropout  rate 0.1    (n, ?)" in net.summary()
    assert "inputs taken from X" in net.summary()
    net.fit(np.ones((3, 5)), np.ones((3, 2)), epochs=1)
    assert net.layout.names == ("1.W", "1.b", "3.W", "3.b")
    assert net.outputs == 2
    lines = net.summary().splitlines()
    assert lines[1].split() == ["0", "Dropout", "rate", "0.1", "(n,", "5)", "0"]
    assert lines[3].split() == ["2", "Dropout", "rate", "0.25", "(n,", "4)", "0"]
    assert "34 parameters" in lines[-1]
    assert "Dropout(rate=0.25)" in repr(net)
    net.save(tmp_path / "net")
    assert fn.load(tmp_path / "net").layers == net.layers


# The table.


def test_dropout_is_a_row_of_the_table_in_training_only():
    blocks, tiling = network().layout.operations, Tiling(16, 6, 4)
    options = {"loss": LOSSES["cross_entropy"], "gradient": True, "moments": 2}
    assert len(Program.of(blocks, 9, tiling, **options).table[0]) == 3
    program = Program.of(blocks, 9, tiling, dropping=True, **options)
    table = program.table[0]
    drops, dense = (table[table["operation"] == code] for code in (codes.DROPOUT, codes.DENSE))
    assert len(drops) == len(dense) == 3
    assert drops["place"].tolist() == [0, 2, 4]
    thresholds = [round(rate * 2**32) for rate in (0.2, 0.5, 0.1)]
    assert drops["threshold"].tolist() == thresholds
    np.testing.assert_allclose(program.table[0]["number"][::2], [1.25, 2.0, 1 / 0.9])
    # Inputs change where they lie; what a layer gave stays for its slope.
    assert table["result"][0] == table["source"][0]
    assert (drops["result"][1:] != drops["source"][1:]).all()
    assert (table["source"][1:] == table["result"][:-1]).all()
    assert (table["dsource"][:2] == codes.NONE).all()
    assert (drops["dsource"][1:] == drops["dresult"][1:]).all()
    # The chunks are those of the same network without it.
    for rows in (9, 10**6):
        plans = [
            Program.of(blocks, rows, tiling, dropping=dropping, **options).plan[0]
            for dropping in (False, True)
        ]
        for entry in ("chunk", "groups", "unit_count", "state"):
            assert plans[0][entry] == plans[1][entry]


# A rate that changes from epoch to epoch.

SCHEDULES = {
    "list": [1.0, 0.25, 0.0, 1.5],
    "record": fn.CosineDecay(),
    "name": "exponential",
    "function": lambda epoch: 1.0 - epoch / 5,
    "nested": fn.Warmup(2, then=[1.0, 0.5]),
    "plateau": fn.ReduceOnPlateau("loss", factor=0.5, patience=1, min_delta=1.0),
}


def scheduled(schedule, dtype="float64", hidden="relu", rates=(0.2, 0.4)):
    """Return a network of two dropouts, of which the second, in a block, follows a schedule."""
    net = fn.Sequential(
        [
            fn.Dense(SHAPE.first, hidden),
            fn.Dropout(rates[0]),
            fn.Residual([fn.Dense(SHAPE.first, hidden), fn.Dropout(rates[1], schedule)]),
            fn.Dense(SHAPE.m, "softmax"),
        ],
        SHAPE.p, dtype, rng=3,
    )  # fmt: skip
    for b in net.biases:
        b[:] = np.linspace(-0.5, 0.5, b.size)
    return net


@each_dtype
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_both_backends_follow_a_schedule(schedule, dtype):
    known, twins = examples(), []
    for backend in BACKENDS:
        net = scheduled(schedule, dtype)
        history = net.fit(known.X, known.y, epochs=5, batch_size=BATCH, backend=backend)
        twins.append((net.parameters, history["loss"]))
    constant = scheduled(None, dtype)
    constant.fit(known.X, known.y, epochs=5, batch_size=BATCH)
    assert error(constant.parameters, twins[0][0]) > 1e-4
    for found, expected in zip(*twins, strict=True):
        assert error(found, expected) <= {"float32": 1e-4, "float64": 1e-9}[dtype]


@both_backends
@each_dtype
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_every_epoch_is_one_at_its_own_rate(seconds, dtype, backend, tuned):
    tuned(slice_seconds=seconds)
    known, rates = examples(), (0.4, 0.1, 0.0, 0.6)
    settings = {"optimizer": fn.SGD(0.1), "batch_size": BATCH, "backend": backend}
    whole = scheduled([rate / 0.4 for rate in rates], dtype)
    history = whole.fit(known.X, known.y, epochs=4, **settings)
    parts = scheduled(None, dtype)
    for epoch, rate in enumerate(rates):
        block = fn.Residual([fn.Dense(SHAPE.first, "relu"), fn.Dropout(rate)])
        if rate == 0.0:
            block = fn.Residual([fn.Dense(SHAPE.first, "relu")])
        one = fn.Sequential([*parts.layers[:2], block, parts.layers[-1]], SHAPE.p, dtype)
        one.parameters[:], one._streams = parts.parameters, parts._streams
        assert one.fit(known.X, known.y, epochs=1, **settings)["loss"] == [history["loss"][epoch]]
        parts.parameters[:], parts._streams = one.parameters, one._streams
    assert parts.parameters.tobytes() == whole.parameters.tobytes()


@both_backends
@each_dtype
def test_a_schedule_that_changes_nothing_changes_no_bit(dtype, backend):
    known, found = examples(), []
    for schedule in (None, [1, 1, 1], "constant", lambda epoch: 1):
        net = scheduled(schedule, dtype)
        history = net.fit(known.X, known.y, epochs=3, batch_size=BATCH, backend=backend)
        found.append((net.parameters.tobytes(), history.to_dict(), net._streams))
    assert found[1:] == [found[0]] * 3


@each_dtype
@pytest.mark.parametrize("way", WAYS)
def test_a_schedule_has_the_same_bits_in_any_number_of_threads(way, dtype, tuned, eager):
    tuned(**WAYS[way])
    known, found = examples(), []
    for number in (1, 2, 4) if JIT else (1, 2):
        net = scheduled([1.0, 0.5, 2.0], dtype)
        net.fit(known.X, known.y, epochs=3, batch_size=BATCH, threads=number)
        found.append(net.parameters.tobytes())
    assert found[1:] == [found[0]] * (len(found) - 1)


@both_backends
def test_what_is_measured_beside_it_changes_no_rate(backend):
    """The engine's validation, blocks, and callbacks that see every epoch."""
    known, settings = examples(), {"epochs": 4, "batch_size": 10, "backend": backend}
    settings |= {"shuffle": False}
    plain, measured, watched, read = (scheduled([1.0, 0.5, 0.0, 2.0]) for _ in range(4))
    plain.fit(known.X, known.y, **settings)
    measured.fit(
        known.X, known.y, validation_data=(known.X, known.y), metrics="accuracy",
        callbacks=fn.EarlyStopping(patience=9, restore_best=False), **settings,
    )  # fmt: skip
    watched.fit(known.X, known.y, callbacks=lambda run: None, **settings)
    parts = [(known.X[n : n + 7], known.y[n : n + 7]) for n in range(0, SHAPE.n, 7)]
    blocks = fn.Blocks(lambda: iter(parts), window=20)
    read.fit(blocks, **settings)
    for net in (measured, watched, read):
        assert net.parameters.tobytes() == plain.parameters.tobytes()


@both_backends
@pytest.mark.parametrize("name", ["list", "record", "plateau"])
def test_a_fit_that_goes_on_follows_the_same_rates(name, backend, tmp_path, tuned):
    tuned(slice_seconds=0.0)
    known, schedule, files = examples(), SCHEDULES[name], []
    settings = {"epochs": 4, "batch_size": BATCH, "backend": backend}

    class Copying(fn.Checkpoint):
        def write(self, save):
            super().write(save)
            files.append(tmp_path / str(len(files)))
            files[-1].write_bytes((tmp_path / "state").read_bytes())

    whole = scheduled(schedule)
    kept = Copying(tmp_path / "state", every=1e-9, unit="seconds")
    expected = whole.fit(known.X, known.y, callbacks=kept, **settings)
    within = 0
    for file in files[:-1:2]:
        within += fn.load(file)._fit_state.step > 0
        other = scheduled(schedule)
        found = other.fit(known.X, known.y, resume=file, **settings)
        assert found.to_dict() == expected.to_dict()
        assert other.parameters.tobytes() == whole.parameters.tobytes()
    assert within > 2
    with pytest.raises(ValueError, match=r"layer 3 \(Dropout\(rate=0.4, schedule=.* there, "):
        scheduled([1.0]).fit(known.X, known.y, resume=files[0], **settings)


def test_a_longer_fit_goes_on_after_a_shorter_one():
    known, whole, parts = examples(), scheduled([1.0, 0.5, 0.0]), scheduled([1.0, 0.5, 0.0])
    whole.fit(known.X, known.y, epochs=5, batch_size=BATCH)
    for epochs in (1, 1, 3):
        parts.fit(known.X, known.y, epochs=epochs, batch_size=BATCH, resume=True)
    assert parts.parameters.tobytes() == whole.parameters.tobytes()


@both_backends
@pytest.mark.parametrize("share", [0, 1e9], ids=["saved always", "saved once"])
def test_a_divergence_goes_back_over_epochs_at_their_own_rates(share, backend, tuned):
    tuned(saving_share=share, slice_seconds=1e9)
    known = data(Shape(23, 3, 1, 1, 1), "mean_squared_error")
    settings = {"optimizer": fn.SGD(0.8, momentum=0.5), "batch_size": 5, "backend": backend}

    def net():
        layer = fn.Dropout(0.3, lambda epoch: 1.0 + epoch % 3)
        return fn.Sequential([layer, fn.Dense(1)], 3, "float32", rng=2)

    ends = []
    for callbacks in ((), lambda run: None):
        one = net()
        with pytest.raises(fn.DivergenceError) as caught:
            one.fit(known.X, known.y, epochs=900, callbacks=callbacks, **settings)
        problem = caught.value
        ends.append((str(problem), one.parameters.tobytes(), one._streams))
    assert ends[0] == ends[1]
    assert problem.epoch > 4
    twin = net()
    twin.fit(known.X, known.y, epochs=problem.epoch - 1, **settings)
    assert (problem.step == 1) == (twin.parameters.tobytes() == one.parameters.tobytes())


@pytest.mark.filterwarnings("ignore::fastnn.FitWarning")
@both_backends
def test_a_divergence_is_looked_for_at_the_rate_of_its_epoch(backend):
    """Only what the second epoch's rate scales up overflows."""
    net = fn.Sequential(
        [fn.Dense(8), fn.Dropout(0.45, [0.0, 2.0]), fn.Dense(1, initializer="constant")],
        1, "float32",
    )  # fmt: skip
    net.weights[0][:] = 1e18
    X, y, loss = np.full((3, 1), 1e20), np.zeros(3), "mean_absolute_error"
    with pytest.raises(fn.DivergenceError, match=r"epoch 2, .* sums Z of layer 2 \(Dense, 1 unit"):
        net.fit(X, y, loss, fn.SGD(1e-40), epochs=3, backend=backend)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ([1.0, 1.0, 3.0], r"schedule of layers\[2\].layers\[1\] makes of rate=0.4 in epoch 3 "
                          r"must be a number in \[0.0, 1.0\); got 1.2"),
        (lambda epoch: 2.5, r"layers\[2\].layers\[1\] .* epoch 1 must be .*; got 1.0"),
        (lambda epoch: -0.5, r"what the schedule of layers\[2\].layers\[1\] gives at step 0.*-0.5"),
        (lambda epoch: "a", r"what the schedule of layers\[2\].layers\[1\] gives at step 0.*'a'"),
        (fn.ReduceOnPlateau("val_loss"), "monitor must be one of what the fit records"),
    ],
    ids=["list", "much", "negative", "text", "monitor"],
)  # fmt: skip
@both_backends
def test_a_rate_that_is_none_is_refused_before_anything_changes(schedule, message, backend):
    known, net = examples(), scheduled(schedule)
    before = net.parameters.tobytes(), pickle.dumps(net._streams)
    with pytest.raises((ValueError, TypeError), match=message):
        net.fit(known.X, known.y, epochs=3, backend=backend)
    assert (net.parameters.tobytes(), pickle.dumps(net._streams)) == before


@both_backends
def test_a_function_that_goes_wrong_later_leaves_what_was_reached(backend):
    known = examples()
    settings = {"batch_size": BATCH, "backend": backend}
    net, twin = (scheduled(lambda epoch: 1.0 + (epoch >= 2) * 9) for _ in range(2))
    with pytest.raises(ValueError, match=r"layers\[2\].layers\[1\] makes of rate=0.4 in epoch 3"):
        net.fit(known.X, known.y, epochs=5, **settings)
    twin.fit(known.X, known.y, epochs=2, **settings)
    assert net.parameters.tobytes() == twin.parameters.tobytes()


def test_a_schedule_is_asked_once_in_each_epoch(tuned):
    tuned(slice_seconds=0.0)
    known, asked = examples(), []

    def factor(epoch):
        asked.append(epoch)
        return 1.0

    scheduled(factor).fit(known.X, known.y, epochs=3, batch_size=BATCH)
    # The first one before anything is changed, too.
    assert asked == [0.0, 0.0, 1.0, 2.0]


@pytest.mark.parametrize("schedule", ["no such", [], [1.0, -1.0], fn.CosineDecay, 0.5, {"a": 1}])
def test_what_is_no_schedule_is_refused(schedule):
    with pytest.raises((TypeError, ValueError), match="schedule"):
        fn.Dropout(0.5, schedule)


def test_steps_and_samples_outside_fits_drop_at_the_first_rate():
    known = examples()
    with_it, without = scheduled([0.0, 2.0]), scheduled(None)
    asked = {"dropout": True, "samples": 3, "rng": 0}
    drawn = [net.predict(known.X, **asked) for net in (with_it, without)]
    assert (drawn[0].mean == drawn[1].mean).all()
    for net in (with_it, without):
        net.train_on_batch(known.X, known.y)
    assert with_it.parameters.tobytes() == without.parameters.tobytes()
    # A fit leaves no other rate behind.
    with_it.fit(known.X, known.y, epochs=1)
    without.parameters[:] = with_it.parameters
    drawn = [net.predict(known.X, **asked) for net in (with_it, without)]
    assert (drawn[0].spread == drawn[1].spread).all()


def factors(epoch):
    """A function that pickles name."""
    return 1.0 - epoch / 8


@pytest.mark.parametrize("name", ["list", "record", "name", "nested", "plateau"])
def test_a_schedule_is_kept_in_files(name, tmp_path):
    net = scheduled(SCHEDULES[name])
    net.save(tmp_path / "net")
    twins = [fn.load(tmp_path / "net"), net.copy(), pickle.loads(pickle.dumps(net))]
    for twin in twins:
        assert twin.layers == net.layers
        assert repr(twin) == repr(net)
    layer = net.layers[2].inside[1]
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert hash(layer) == hash(fn.Dropout(0.4))


def test_ten_thousand_factors_are_kept_in_a_file(tmp_path):
    layer = fn.Dropout(0.5, np.linspace(0.0, 1.0, 10_000))
    fn.Sequential([layer, fn.Dense(1)], inputs=1).save(tmp_path / "net")
    assert fn.load(tmp_path / "net").layers[0] == layer


class Half:
    """A schedule of a user's own, which has no hash."""

    __hash__ = None

    def rate(self, step, steps_per_epoch, epochs, base, history=None):
        return base / 2


@pytest.mark.parametrize("schedule", [factors, Half(), fn.Warmup(1, factors)], ids=str)
def test_code_is_kept_in_copies_and_not_in_files(schedule, tmp_path):
    known, net = examples(), scheduled(schedule)
    twins = [net, net.copy(), pickle.loads(pickle.dumps(net))]
    for twin in twins:
        twin.fit(known.X, known.y, epochs=3, batch_size=BATCH)
        assert twin.parameters.tobytes() == net.parameters.tobytes()
    before = net.parameters.tobytes()
    for keep in (
        lambda: net.save(tmp_path / "net"),
        lambda: net.fit(known.X, known.y, callbacks=fn.Checkpoint(tmp_path / "net", every=1)),
    ):
        with pytest.raises(TypeError, match="schedule must be one of this library's records"):
            keep()
    assert list(tmp_path.iterdir()) == []
    assert net.parameters.tobytes() == before


@pytest.mark.parametrize(
    "schedule",
    [
        {"schedule": "FromFunction", "function": "print", "argument": "schedule"},
        {"schedule": "StepDecay", "every": 1},
        {"schedule": "FromNumbers", "factors": "1.0 nan"},
        {"schedule": "FromNumbers", "factors": None},
        {"schedule": "Warmup", "epochs": 1, "then": {"schedule": "Warmup"}},
        {"every": 1, "factor": 0.5},
        7,
    ],
    ids=str,
)
def test_a_schedule_that_no_file_has_is_refused(schedule):
    with pytest.raises((TypeError, ValueError)):
        kinds.from_dict({"layer": "Dropout", "rate": 0.5, "schedule": schedule})


def test_a_schedule_of_endless_levels_is_refused():
    inside = None
    for _ in range(5000):
        inside = {"schedule": "Warmup", "epochs": 1.0, "then": inside}
    with pytest.raises(ValueError, match="few levels"):
        kinds.from_dict({"layer": "Dropout", "rate": 0.5, "schedule": inside})


def test_a_network_says_that_a_rate_is_scheduled():
    net = fn.Sequential([fn.Dropout(0.5, [1.0, 0.0]), fn.Dense(1)], inputs=2)
    assert "Dropout  rate 0.5, scheduled" in net.summary()
    assert repr(net.layers[0]) == "Dropout(rate=0.5, schedule=[1.0, 0.0])"
    assert eval(repr(net.layers[0]), {"Dropout": fn.Dropout}) == net.layers[0]


@dataclass
class Levels:
    """A function of the user's own that holds an array, with the comparison of a dataclass."""

    levels: np.ndarray

    def __call__(self, epoch):
        return float(self.levels[int(epoch)])


class Lowered(Levels):
    def rate(self, step, steps_per_epoch, epochs, base, history=None):
        return base * self(step // steps_per_epoch)


@pytest.mark.parametrize("kind", [Levels, Lowered])
def test_networks_whose_schedules_cannot_be_compared_are_trained_one_after_the_other(kind):
    X, Y = np.eye(4), np.ones((4, 1))
    found = []
    for _ in range(2):
        drop = fn.Dropout(0.5, kind(np.array([1.0, 0.5])))
        net = fn.Sequential([fn.Dense(9, "relu"), drop, fn.Dense(1)], 4, rng=0)
        found.append(net.fit(X, Y, epochs=2, batch_size=2)["loss"])
        assert drop == drop
        assert drop != fn.Dropout(0.5, kind(np.array([1.0, 0.5])))
    assert found[0] == found[1]


def test_dropouts_are_equal_where_rates_and_schedules_are():
    given = fn.Dropout(0.5, [1, 0.5])
    assert given == fn.Dropout(0.5, [1.0, 0.5])
    assert hash(given) == hash(fn.Dropout(0.5, [1.0, 0.5]))
    others = (fn.Dropout(0.4, [1, 0.5]), fn.Dropout(0.5), fn.Dropout(0.5, [1, 0.6]), 0.5)
    assert all(given != other for other in others)
