"""Fits: what they do to a network, what they record, how they end, and what they refuse."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from cases import JIT, STEPPERS

import fastnn as fn
from fastnn import training
from fastnn.equations import draws as reference_draws
from fastnn.fitting import compiled_call, descent, orders, snapshots, steppers
from fastnn.metrics import resolve

BACKENDS = ("native", "reference")
# Scales that a fit warns of, where it is to diverge.
out_of_scale = pytest.mark.filterwarnings("ignore::fastnn.FitWarning")
both_backends = pytest.mark.parametrize("backend", BACKENDS)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3))
Y = X[:, :1] * X[:, 1:2] - X[:, 2:]
W = RNG.integers(1, 4, size=23)
LABELS = RNG.integers(0, 3, size=23)


def network(dtype="float32", rng=1, l2=0.0):
    return fn.Sequential([fn.Dense(6, "tanh", l2=l2), fn.Dense(1, l2=l2)], 3, dtype, rng)


def classifier(dtype="float32", rng=1, outputs=3):
    return fn.Sequential([fn.Dense(6, "relu"), fn.Dense(outputs, "softmax")], 3, dtype, rng)


def everything(net):
    """All that a network holds, as bytes."""
    return pickle.dumps(net)


def same(net, other):
    """Whether two networks have the same parameters, bit for bit."""
    return net.parameters.tobytes() == other.parameters.tobytes()


# Learning.


@both_backends
@pytest.mark.parametrize(
    "optimizer",
    [fn.SGD(0.1), fn.SGD(0.03, momentum=0.9), fn.SGD(0.03, 0.9, nesterov=True), fn.Adam(0.02)],
    ids=["sgd", "momentum", "nesterov", "adam"],
)
def test_the_loss_falls(optimizer, backend):
    net = network()
    history = net.fit(X, Y, optimizer=optimizer, epochs=150, batch_size=8, backend=backend)
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    assert net.evaluate(X, Y, backend=backend)["loss"] < 0.3 * history["loss"][0]


@both_backends
def test_classes_are_learnt(backend):
    centres = np.array([[4, 0, 0], [0, 4, 0], [0, 0, 4]])
    examples = centres[LABELS] + 0.3 * X
    net = classifier()
    history = net.fit(
        examples, LABELS, optimizer=fn.Adam(0.05), epochs=60, metrics="accuracy", backend=backend
    )
    assert history["accuracy"][-1] == 1.0
    np.testing.assert_array_equal(net.predict(examples).argmax(axis=1), LABELS)


@both_backends
def test_the_same_seed_gives_the_same_bits(backend):
    def trained(rng):
        net = network(rng=rng)
        history = net.fit(X, Y, epochs=5, batch_size=4, backend=backend, validation_fraction=0.2)
        return net, history.to_dict()

    (first, one), (second, two), (other, three) = trained(3), trained(3), trained(4)
    assert same(first, second)
    assert one == two
    assert not same(first, other)
    assert one != three
    assert not same(trained(None)[0], trained(None)[0])


@both_backends
def test_a_fit_goes_on_from_the_present_parameters_in_the_streams(backend):
    """Plain SGD has no state, so that two fits of five epochs are one of ten."""
    once, twice = network(), network()
    settings = {"optimizer": fn.SGD(0.05), "batch_size": 4, "backend": backend}
    whole = once.fit(X, Y, epochs=10, **settings)["loss"]
    parts = [twice.fit(X, Y, epochs=5, **settings)["loss"] for _ in range(2)]
    assert same(once, twice)
    assert whole == [*parts[0], *parts[1]]


@both_backends
def test_every_epoch_and_every_fit_has_an_order_of_its_own(backend):
    net = network()
    start = net.parameters.copy()
    ends = set()
    for _ in range(4):
        net.parameters[:] = start
        net.fit(X, Y, optimizer=fn.SGD(0.05), epochs=1, batch_size=4, backend=backend)
        ends.add(net.parameters.tobytes())
    assert len(ends) == 4


def test_continuing_fits_are_the_same_on_both_paths():
    nets = [network("float64") for _ in BACKENDS]
    for net, backend in zip(nets, BACKENDS, strict=True):
        for epochs, fraction in ((5, 0.0), (3, 0.2), (4, 0.0)):
            net.fit(X, Y, epochs=epochs, batch_size=4, validation_fraction=fraction,
                    optimizer=fn.Adam(0.01), backend=backend)  # fmt: skip
    np.testing.assert_allclose(*[net.parameters for net in nets], rtol=1e-10, atol=1e-12)
    assert nets[0]._streams == nets[1]._streams


def test_paths_may_take_turns_within_one_network():
    """The streams are the network's, so that a fit goes on whichever path took the last one."""
    pure, mixed = network("float64"), network("float64")
    for backend in ("native", "reference", "native"):
        pure.fit(X, Y, epochs=3, batch_size=4)
        mixed.fit(X, Y, epochs=3, batch_size=4, backend=backend)
    np.testing.assert_allclose(pure.parameters, mixed.parameters, rtol=1e-10, atol=1e-12)


@both_backends
def test_every_fit_starts_with_a_fresh_optimizer_state(backend):
    """The first step of Adam moves every parameter by the learning rate, near enough."""
    net = network("float64")
    for _ in range(3):
        before = net.parameters.copy()
        _, gradient = net.loss_and_gradient(X, Y)
        net.fit(X, Y, optimizer=fn.Adam(0.01), epochs=1, batch_size=99, backend=backend)
        assert np.abs(gradient).min() > 1e-5
        np.testing.assert_allclose(
            net.parameters - before, -0.01 * np.sign(gradient), rtol=1e-2, atol=0
        )


@both_backends
def test_without_shuffling_nothing_is_random_but_the_start(backend):
    first, second = network(rng=1), network(rng=2)
    second.parameters[:] = first.parameters
    for net in (first, second):
        net.fit(X, Y, epochs=4, batch_size=4, shuffle=False, backend=backend)
    assert same(first, second)


# Batches.


@both_backends
@pytest.mark.parametrize("batch_size", [1, 4, 7, 22, 23])
def test_batches_without_shuffling_are_taken_in_order_and_a_short_last_one_is_kept(
    batch_size, backend
):
    fitted, stepped = network(), network()
    history = fitted.fit(
        X, Y, optimizer=fn.Adam(0.01), epochs=2, batch_size=batch_size, shuffle=False,
        sample_weight=W, backend=backend,
    )  # fmt: skip
    for epoch in range(2):
        total = 0.0
        for first in range(0, 23, batch_size):
            rows = slice(first, first + batch_size)
            loss = stepped.train_on_batch(
                X[rows], Y[rows], optimizer=fn.Adam(0.01), sample_weight=W[rows], backend=backend
            )
            total += loss * W[rows].sum()
        assert history["loss"][epoch] == pytest.approx(total / W.sum(), rel=1e-6)
    assert same(fitted, stepped)


@both_backends
def test_a_batch_larger_than_the_data_is_all_of_them(backend):
    nets = [network() for _ in range(3)]
    for net, batch_size in zip(nets, (23, 24, 10**30), strict=True):
        net.fit(X, Y, epochs=3, batch_size=batch_size, backend=backend)
    assert same(nets[0], nets[1])
    assert same(nets[0], nets[2])


@both_backends
def test_one_example_is_enough(backend):
    net = network()
    history = net.fit(X[:1], Y[:1], optimizer=fn.Adam(0.05), epochs=40, backend=backend)
    assert history["loss"][-1] < 0.1 * history["loss"][0]


@both_backends
def test_every_example_is_seen_once_an_epoch(backend):
    """One feature an example, and weights at zero: a step writes just the rows of its batch."""
    n = 37
    net = fn.Sequential([fn.Dense(1, bias=False, initializer="zeros")], inputs=n)
    net.fit(np.eye(n), np.ones(n), optimizer=fn.SGD(0.25), epochs=1, batch_size=1, backend=backend)
    np.testing.assert_array_equal(net.parameters, np.full(n, 0.5, np.float32))


# Weights.


@both_backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whole_weights_count_like_repeated_examples(dtype, backend):
    weighted, repeated = network(dtype, l2=0.1), network(dtype, l2=0.1)
    settings = {"epochs": 10, "batch_size": 999, "backend": backend}
    first = weighted.fit(X, Y, sample_weight=W, **settings)
    second = repeated.fit(np.repeat(X, W, axis=0), np.repeat(Y, W, axis=0), **settings)
    tolerance = {"float32": 1e-4, "float64": 1e-11}[dtype]
    np.testing.assert_allclose(weighted.parameters, repeated.parameters, rtol=tolerance)
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=tolerance)
    np.testing.assert_allclose(
        weighted.evaluate(X, Y, sample_weight=W, metrics=["mse", "mae"])["mae"],
        weighted.evaluate(np.repeat(X, W, axis=0), np.repeat(Y, W, axis=0), metrics="mae")["mae"],
        rtol=1e-6,
    )


@both_backends
def test_weights_count_only_in_proportion(backend):
    plain, heavy = network("float64"), network("float64")
    plain.fit(X, Y, epochs=3, batch_size=4, backend=backend)
    heavy.fit(X, Y, epochs=3, batch_size=4, sample_weight=np.full(23, 4.0), backend=backend)
    np.testing.assert_allclose(plain.parameters, heavy.parameters, rtol=1e-12)


@both_backends
def test_an_example_of_zero_weight_might_as_well_be_missing(backend):
    with_it, without = network("float64"), network("float64")
    weights = np.where(np.arange(23) % 3 == 1, 0, W)
    kept = weights > 0
    settings = {"epochs": 5, "batch_size": 99, "shuffle": False, "backend": backend}
    first = with_it.fit(X, Y, sample_weight=weights, **settings)
    second = without.fit(X[kept], Y[kept], sample_weight=weights[kept], **settings)
    np.testing.assert_allclose(with_it.parameters, without.parameters, rtol=1e-11)
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-12)


@both_backends
@pytest.mark.parametrize("optimizer", [fn.SGD(0.05, momentum=0.9), fn.Adam(0.01)])
def test_a_batch_of_zero_weight_takes_no_step(optimizer, backend):
    """Not even one of momentum, or one more in Adam's count."""
    with_it, without = network(), network()
    weights = W.copy()
    weights[4:8] = 0
    rows = np.r_[0:4, 8:23]
    settings = {"optimizer": optimizer, "batch_size": 4, "epochs": 3, "shuffle": False,
                "backend": backend}  # fmt: skip
    first = with_it.fit(X, Y, sample_weight=weights, **settings)
    # 19 rows in batches of 4 would end 4, 4, 4, 4, 3: the same batches without the second.
    second = without.fit(X[rows], Y[rows], sample_weight=weights[rows], **settings)
    assert same(with_it, without)
    assert first.to_dict() == second.to_dict()


@both_backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e-38, 1e-45, 1e-300, 1e-310, 5e-324])
def test_tiny_weights_count_like_others(size, dtype, backend):
    """Kernels take numbers below the smallest normal one for 0; proportions are all that counts."""
    weights = np.array([1, 2, 0, 4] * (len(X) // 4 + 1))[: len(X)]
    losses = []
    for given in (weights, weights * size):
        net = network(dtype)
        history = net.fit(X, Y, epochs=2, batch_size=7, sample_weight=given, backend=backend)
        losses.append(
            [
                *history["loss"],
                net.train_on_batch(X, Y, sample_weight=given, backend=backend),
                net.evaluate(X, Y, sample_weight=given, backend=backend)["loss"],
                net.loss_and_gradient(X, Y, sample_weight=given, backend=backend)[0],
            ]
        )
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5 if dtype == "float32" else 1e-12)


@both_backends
def test_a_weight_that_is_nothing_beside_the_largest_is_zero(backend):
    nets = [network(), network()]
    for net, tiny in zip(nets, (1e-44, 0.0), strict=True):
        weights = np.full(len(X), tiny)
        weights[::2] = 1e30
        net.fit(X, Y, epochs=2, batch_size=1, shuffle=False, sample_weight=weights, backend=backend)
    assert same(*nets)


@both_backends
def test_huge_weights_count_like_others(backend):
    plain, heavy = network(), network()
    plain.fit(X, Y, epochs=2, batch_size=4, backend=backend)
    heavy.fit(X, Y, epochs=2, batch_size=4, sample_weight=np.full(23, 3e38), backend=backend)
    np.testing.assert_allclose(plain.parameters, heavy.parameters, rtol=1e-4)
    loss = heavy.evaluate(X, Y, sample_weight=np.full(23, 3e38), backend=backend)["loss"]
    assert loss == pytest.approx(heavy.evaluate(X, Y)["loss"], rel=1e-5)


# L2.


@both_backends
def test_the_history_s_loss_has_the_penalty_and_evaluate_and_trace_have_not(backend):
    net, l2 = network("float64", l2=0.3), 0.3
    penalty = l2 / 2 * sum((weight**2).sum() for weight in net.weights)
    bare = net.evaluate(X, Y, backend=backend)["loss"]
    assert bare == pytest.approx(((net.predict(X) - Y) ** 2).mean(), rel=1e-12)
    assert net.trace(X, Y, backend=backend).loss == pytest.approx(bare, rel=1e-12)
    with_it, gradient = net.loss_and_gradient(X, Y, backend=backend)
    assert with_it == pytest.approx(bare + penalty, rel=1e-12)
    flat = [part.ravel() for both in zip(net.weights, net.biases, strict=True) for part in both]
    t = net.trace(X, Y, backend=backend)
    traced = np.concatenate([t.dW[0].ravel(), t.db[0], t.dW[1].ravel(), t.db[1]])
    factor = np.concatenate([np.full(part.size, l2 if k % 2 == 0 else 0.0)
                             for k, part in enumerate(flat)])  # fmt: skip
    np.testing.assert_allclose(gradient, traced + factor * np.concatenate(flat), rtol=1e-10)

    twin = net.copy()
    assert twin.train_on_batch(X, Y, backend=backend) == pytest.approx(bare + penalty, rel=1e-12)
    history = net.fit(X, Y, epochs=1, batch_size=99, validation_data=(X, Y), backend=backend)
    assert history["loss"] == [pytest.approx(bare + penalty, rel=1e-12)]
    assert history["val_loss"] == [net.evaluate(X, Y, backend=backend)["loss"]]


@both_backends
def test_l2_pulls_weights_towards_zero_and_leaves_biases(backend):
    """With nothing to learn from the data, a step of SGD scales W by 1 - eta lambda."""
    net = fn.Sequential([fn.Dense(1, l2=0.5)], inputs=3, dtype="float64")
    net.biases[0][:] = 2.0
    before = net.get_weights()
    net.fit(np.zeros((4, 3)), np.full(4, 2.0), optimizer=fn.SGD(0.1), epochs=1, backend=backend)
    np.testing.assert_allclose(net.weights[0], before[0] * (1 - 0.1 * 0.5), rtol=1e-15)
    np.testing.assert_array_equal(net.biases[0], before[1])


# One step at a time.


@both_backends
def test_train_on_batch_gives_the_loss_before_its_step(backend):
    net = network("float64")
    before = net.evaluate(X, Y)["loss"]
    loss = net.train_on_batch(X, Y, optimizer=fn.SGD(0.1), backend=backend)
    assert isinstance(loss, float)
    assert loss == pytest.approx(before, rel=1e-12)
    assert net.evaluate(X, Y)["loss"] < before


@both_backends
def test_train_on_batch_keeps_the_moments_and_their_count(backend):
    """In Adam's second step, too, the learning rate is a mere factor."""
    net = network("float64")
    for _ in range(5):
        net.train_on_batch(X, Y, optimizer=fn.Adam(0.01), backend=backend)
    moves = {}
    for rate in (0.01, 0.03):
        twin = net.copy()
        twin.train_on_batch(X, Y, optimizer=fn.Adam(rate), backend=backend)
        moves[rate] = twin.parameters - net.parameters
    np.testing.assert_allclose(moves[0.03], 3 * moves[0.01], rtol=1e-9)
    fresh = network("float64")
    fresh.parameters[:] = net.parameters
    fresh.train_on_batch(X, Y, optimizer=fn.Adam(0.01), backend=backend)
    assert not np.allclose(fresh.parameters - net.parameters, moves[0.01], rtol=1e-2, atol=0)


@both_backends
def test_another_rule_or_a_fit_in_between_means_a_fresh_state(backend):
    adam, sgd = fn.Adam(0.01), fn.SGD(0.1, momentum=0.9)
    net = network("float64")

    def starts_afresh():
        fresh = network("float64")
        fresh.parameters[:] = net.parameters
        for each in (net, fresh):
            each.train_on_batch(X, Y, optimizer=adam, backend=backend)
        return same(net, fresh)

    assert starts_afresh()
    assert not starts_afresh()
    net.train_on_batch(X, Y, optimizer=sgd, backend=backend)
    assert starts_afresh()
    net.fit(X, Y, optimizer=adam, epochs=1, backend=backend)
    assert starts_afresh()
    assert not starts_afresh()


def test_train_on_batch_may_change_path_between_calls():
    pure, mixed = network("float64"), network("float64")
    for step in range(6):
        rows = slice(3 * step, 3 * step + 5)
        pure.train_on_batch(X[rows], Y[rows])
        mixed.train_on_batch(X[rows], Y[rows], backend=BACKENDS[step % 2])
    np.testing.assert_allclose(pure.parameters, mixed.parameters, rtol=1e-11)


# Class weights.


def by_class(weights, labels=LABELS):
    return np.array([weights[label] for label in labels])


@both_backends
@pytest.mark.parametrize("form", ["labels", "one-hot", "hinge"])
def test_class_weights_are_sample_weights(form, backend):
    weights = {0: 0.5, 1: 2.0, 2: 4.0}
    y = np.eye(3)[LABELS] if form == "one-hot" else LABELS
    settings = {
        "epochs": 3, "batch_size": 4, "backend": backend, "metrics": "accuracy",
        "loss": "hinge" if form == "hinge" else "auto",
    }  # fmt: skip
    for mine in (None, W):
        one, other = classifier(), classifier()
        first = one.fit(X, y, class_weight=weights, sample_weight=mine, **settings)
        both = by_class(weights) * (1 if mine is None else W)
        second = other.fit(X, y, sample_weight=both, **settings)
        assert same(one, other)
        assert dict(first) == dict(second)


@both_backends
def test_balanced_classes_weigh_alike(backend):
    counts = np.bincount(LABELS, W)
    weights = dict(enumerate(W.sum() / (3 * counts)))
    one, other = classifier("float64"), classifier("float64")
    one.fit(X, LABELS, class_weight="balanced", sample_weight=W, backend=backend)
    other.fit(X, LABELS, class_weight=weights, sample_weight=W, backend=backend)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-12)


@both_backends
def test_class_weights_of_bits(backend):
    bits = np.stack([LABELS == 0, LABELS < 2], axis=1).astype(int)
    for y, weights, factors in (
        (bits[:, 0], {1: 5.0}, np.where(bits[:, 0], 5, 1)),
        (bits, [{1: 5.0}, {0: 2.0}], np.where(bits[:, 0], 5, 1) * np.where(bits[:, 1], 1, 2)),
    ):
        one, other = (
            fn.Sequential([fn.Dense(np.atleast_2d(y.T).shape[0], "sigmoid")], 3) for _ in range(2)
        )
        one.fit(X, y, epochs=2, class_weight=weights, backend=backend)
        other.fit(X, y, epochs=2, sample_weight=factors, backend=backend)
        assert same(one, other)


def test_a_fraction_held_out_is_weighed_like_the_rest_and_given_data_are_not():
    weights = {0: 0.5, 1: 2.0, 2: 4.0}
    held = {"validation_fraction": 0.3}
    first = classifier().fit(X, LABELS, class_weight=weights, **held)
    second = classifier().fit(X, LABELS, sample_weight=by_class(weights), **held)
    assert first["val_loss"] == second["val_loss"]
    net = classifier()
    history = net.fit(X, LABELS, class_weight=weights, validation_data=(X, LABELS))
    assert history["val_loss"][-1] == pytest.approx(net.evaluate(X, LABELS)["loss"])
    assert history["val_loss"][-1] != pytest.approx(
        net.evaluate(X, LABELS, sample_weight=by_class(weights))["loss"]
    )


@both_backends
def test_class_weights_of_one_batch(backend):
    weights = {0: 0.5, 2: 4.0}
    one, other = classifier(), classifier()
    factors = by_class({1: 1.0} | weights) * W
    found = one.train_on_batch(X, LABELS, class_weight=weights, sample_weight=W, backend=backend)
    assert found == other.train_on_batch(X, LABELS, sample_weight=factors, backend=backend)
    assert same(one, other)
    before = everything(one)
    with pytest.raises(ValueError, match="class_weight='balanced' needs all examples at once"):
        one.train_on_batch(X, LABELS, class_weight="balanced")
    with pytest.raises(ValueError, match="class_weight must have classes as keys"):
        one.train_on_batch(X, LABELS, class_weight={3: 1.0})
    assert everything(one) == before


def test_class_weights_that_leave_nothing_to_validate_on_are_refused():
    labels = np.where(np.arange(23) == 5, 1, 0)
    with pytest.raises(ValueError, match="none of any weight to validate on"):
        classifier().fit(X, labels, class_weight={0: 0.0}, validation_fraction=0.1)


# Validation.


def held_out(net, y, fraction, *, epochs=3, backend="native", sample_weight=None):
    """Return which of the examples a fit does not train on.

    Every example has a feature of its own, and the weights start at zero: a row of W that is
    still zero belongs to an example that no step has seen.
    """
    history = net.fit(
        np.eye(len(y)), y, epochs=epochs, batch_size=5, validation_fraction=fraction,
        optimizer=fn.SGD(0.01), sample_weight=sample_weight, backend=backend,
    )  # fmt: skip
    assert list(history) == ["loss", "val_loss"]
    return ~net.weights[0].any(axis=1)


def linear(n, activation, outputs=1, rng=0):
    layer = fn.Dense(outputs, activation, bias=False, initializer="zeros")
    return fn.Sequential([layer], inputs=n, rng=rng)


@both_backends
@pytest.mark.parametrize(("n", "fraction", "expected"), [(50, 0.2, 10), (41, 0.1, 4), (2, 0.5, 1),
                                                          (30, 0.9, 27), (5, 0.01, 1)])  # fmt: skip
def test_a_fraction_of_the_examples_is_never_trained_on(n, fraction, expected, backend):
    held = held_out(linear(n, "identity"), np.ones(n), fraction, backend=backend)
    assert held.sum() == expected


@both_backends
def test_held_out_examples_are_drawn_anew_for_every_fit_and_alike_on_both_paths(backend):
    held = []
    for rng in (0, 0, 1):
        net = linear(50, "identity", rng=rng)
        for _ in range(2):
            net.parameters[:] = 0
            held.append(held_out(net, np.ones(50), 0.2, backend=backend).tobytes())
    assert held[:2] == held[2:4], "the same seed holds the same ones"
    assert len(set(held)) == 4
    other = held_out(linear(50, "identity"), np.ones(50), 0.2, backend="reference")
    assert other.tobytes() == held[0]


@both_backends
def test_held_out_examples_are_drawn_anew_without_shuffling_too(backend):
    net, held = linear(50, "identity"), set()
    for _ in range(3):
        net.parameters[:] = 0
        net.fit(
            np.eye(50), np.ones(50), optimizer=fn.SGD(0.01), epochs=1, shuffle=False,
            validation_fraction=0.2, backend=backend,
        )  # fmt: skip
        held.add((net.parameters == 0).tobytes())
    assert len(held) == 3


@both_backends
@pytest.mark.parametrize("rng", range(4))
def test_classes_are_held_out_in_proportion(rng, backend):
    y = np.repeat([0, 1, 2], [20, 50, 30])
    held = held_out(linear(100, "softmax", 3, rng), y, 0.1, backend=backend)
    np.testing.assert_array_equal(np.bincount(y[held]), [2, 5, 3])


@pytest.mark.parametrize("rng", range(4))
@pytest.mark.parametrize("form", [np.asarray, lambda y: y.astype(float), lambda y: y[:, None]])
def test_the_two_classes_of_a_sigmoid_are_held_out_in_proportion(form, rng):
    y = np.repeat([0, 1], [90, 10])
    held = held_out(linear(100, "sigmoid", 1, rng), form(y), 0.2)
    np.testing.assert_array_equal(np.bincount(y[held]), [18, 2])


@pytest.mark.parametrize("rng", range(4))
def test_one_hot_classes_are_held_out_in_proportion(rng):
    y = np.repeat([0, 1, 2], [20, 50, 30])
    held = held_out(linear(100, "softmax", 3, rng), np.eye(3)[y], 0.1)
    np.testing.assert_array_equal(np.bincount(y[held]), [2, 5, 3])


@pytest.mark.parametrize(
    ("classes", "each", "fraction"), [(10, 4, 0.1), (10, 3, 0.2), (20, 5, 0.1), (7, 9, 0.25)]
)
def test_small_classes_do_not_change_how_many_are_held_out(classes, each, fraction):
    y = np.repeat(np.arange(classes), each)
    held = held_out(linear(len(y), "softmax", classes), y, fraction)
    assert abs(held.sum() - fraction * len(y)) <= 1
    counts = np.bincount(y[held], minlength=classes)
    assert counts.max() - counts.min() <= 1


@both_backends
def test_validation_data_are_measured_and_never_trained_on(backend):
    plain, watched = network(), network()
    inside, outside = slice(0, 15), slice(15, 23)
    settings = {"epochs": 4, "batch_size": 4, "backend": backend}
    without = plain.fit(X[inside], Y[inside], **settings)
    seen = []
    history = watched.fit(
        X[inside], Y[inside], validation_data=(X[outside], Y[outside], W[outside]),
        metrics="mae",
        callbacks=lambda run: seen.append(
            run.network.evaluate(
                X[outside], Y[outside], metrics="mae", sample_weight=W[outside], backend=backend
            )
        ),
        **settings,
    )  # fmt: skip
    assert same(plain, watched)
    assert history["loss"] == without["loss"]
    assert history["val_loss"] == [found["loss"] for found in seen]
    assert history["val_mae"] == [found["mae"] for found in seen]


@pytest.mark.parametrize(
    "data", [(X, Y), [X.tolist(), Y.ravel().tolist()], (X, Y, W), (X, Y, None)]
)
def test_validation_data_come_as_two_or_three(data):
    history = network().fit(X, Y, epochs=1, validation_data=data)
    assert len(history["val_loss"]) == 1


def test_a_fraction_leaves_weights_with_their_examples():
    """The held-out loss is that of the held-out examples under their own weights."""
    n = 40
    net = linear(n, "identity")
    weights = np.arange(1.0, n + 1)
    y = 1 + np.arange(n) / 10
    held = held_out(net, y, 0.25, epochs=2, sample_weight=weights)
    assert held.sum() == 10
    # Every held-out example is predicted as zero.
    expected = np.average(y[held] ** 2, weights=weights[held])
    net.parameters[:] = 0
    assert net.evaluate(
        np.eye(n)[held], y[held], sample_weight=weights[held]
    )["loss"] == pytest.approx(expected, rel=1e-5)  # fmt: skip
    again = linear(n, "identity")
    history = again.fit(np.eye(n), y, epochs=2, batch_size=5, validation_fraction=0.25,
                        optimizer=fn.SGD(0.01), sample_weight=weights)  # fmt: skip
    assert history["val_loss"] == [pytest.approx(expected, rel=1e-5)] * 2


# What is recorded.


@both_backends
def test_the_history_holds_one_float_an_epoch_of_everything(backend):
    def largest(predictions, targets):
        assert predictions.shape == targets.shape == (len(targets), 3)
        return np.abs(predictions - targets).max()

    net = classifier()
    history = net.fit(
        X, LABELS, epochs=4, metrics=["accuracy", largest], validation_fraction=0.3,
        backend=backend,
    )  # fmt: skip
    assert list(history) == [
        "loss", "accuracy", "largest", "val_loss", "val_accuracy", "val_largest",
    ]  # fmt: skip
    for values in history.values():
        assert len(values) == history.epochs == 4
        assert all(type(value) is float for value in values)
    assert history.stopped is None
    assert history.best_epoch is None
    assert history.seconds > 0


# What is trained, on what, and how large a batch; groups of chunks are those of a full batch.
MEASURED = {
    "classes": ("softmax", "auto", LABELS, 4),
    "sides of a half": ("sigmoid", "auto", (X > 0).astype(float), 5),
    "sides of 0": ("identity", "hinge", LABELS, 4),
    "no matched loss": ("tanh", "mean_squared_error", X, 7),
    "the whole batch": ("softmax", "auto", LABELS, 23),
}


@both_backends
@pytest.mark.parametrize("case", MEASURED)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_metrics_are_those_of_the_passes_that_training_makes(case, weighted, rate, backend):
    """Every example as its own step predicted it, with what dropout left, before the update."""
    last, loss, y, batch = MEASURED[case]
    seen = []

    def keep(targets, predictions):
        seen.append((np.array(targets), np.array(predictions)))
        return 0.0

    net, twin = (
        fn.Sequential([fn.Dense(5, "tanh"), fn.Dropout(rate), fn.Dense(3, last)], 3, "float64")
        for _ in range(2)
    )
    w = W if weighted else None
    asked = [keep, "mse"] if last in ("identity", "tanh") else [keep, "mse", "accuracy"]
    if loss == "hinge":
        asked = [keep, "accuracy"]
    history = net.fit(
        X, y, loss, epochs=2, batch_size=batch, sample_weight=w, metrics=asked, backend=backend
    )
    twin.fit(X, y, loss, epochs=2, batch_size=batch, sample_weight=w, backend=backend)
    assert same(net, twin), "measuring changes no weight"
    again = fn.Sequential(net.layers, 3, "float64")
    order = reference_draws.permutation(again._streams.order_key, 0, len(X))
    predicted = np.zeros((len(X), 3))
    for start in range(0, len(X), batch):
        rows = order[start : start + batch]
        if rate == 0.0:
            predicted[rows] = again.predict(X[rows], backend="reference")
            again.train_on_batch(
                X[rows], y[rows], loss, sample_weight=None if w is None else w[rows],
                backend="reference",
            )  # fmt: skip
    targets, found = seen[0]
    if rate == 0.0:
        np.testing.assert_allclose(found, predicted, rtol=1e-9, atol=1e-12)
    for place, name in enumerate(asked[1:], 1):
        kind = {"softmax": "classes", "sigmoid": "probabilities", "identity": "sides"}
        (row,) = resolve(name, kind.get(last, "real"))
        value = row.function(targets, found, None if w is None else w)
        assert history[name][0] == pytest.approx(value, rel=1e-12), place


def test_training_metrics_of_both_paths_are_alike_with_dropout():
    histories = []
    for backend in ("native", "reference"):
        net = fn.Sequential(
            [fn.Dense(5, "tanh"), fn.Dropout(0.4), fn.Dense(3, "softmax")], 3, "float64"
        )
        histories.append(
            net.fit(
                X,
                LABELS,
                epochs=4,
                batch_size=4,
                metrics=["mse", "accuracy"],
                backend=backend,
                validation_fraction=0.3,
            )
        )
    for name in histories[0]:
        np.testing.assert_allclose(*(history[name] for history in histories), rtol=1e-9)


@pytest.mark.parametrize("given", ["before", None, True])
def test_metrics_are_measured_during_or_after(given):
    with pytest.raises((TypeError, ValueError), match=r"^measure must be .*'during', 'after'"):
        network().fit(X, Y, measure=given)


def test_a_group_of_chunks_hands_out_what_it_predicts():
    """A full batch of many chunks is summed in groups, in which every example has its place."""
    rng = np.random.default_rng(0)
    many, labels = rng.normal(size=(20_000, 4)), rng.integers(0, 3, 20_000)
    net = fn.Sequential([fn.Dense(8, "tanh"), fn.Dense(3, "softmax")], 4)
    before = net.evaluate(many, labels, metrics=["accuracy", "mse"])
    history = net.fit(
        many, labels, epochs=1, batch_size=20_000, metrics=["accuracy", "mse"], threads=2
    )
    assert history["accuracy"] == [before["accuracy"]]
    assert history["mse"][0] == pytest.approx(before["mse"], rel=1e-6)


@both_backends
def test_metrics_may_be_those_of_the_weights_at_the_epoch_s_end(backend):
    net = classifier()
    found = []
    history = net.fit(
        X, LABELS, epochs=3, measure="after", batch_size=4, metrics=["accuracy", "mse"],
        sample_weight=W,
        callbacks=lambda run: found.append(
            run.network.evaluate(
                X, LABELS, metrics=["accuracy", "mse"], sample_weight=W, backend=backend
            )
        ),
        backend=backend,
    )  # fmt: skip
    assert history["accuracy"] == [each["accuracy"] for each in found]
    assert history["mse"] == [each["mse"] for each in found]


def test_without_validation_the_history_has_the_loss_alone():
    assert list(network().fit(X, Y, epochs=1)) == ["loss"]
    assert list(network().fit(X, Y, epochs=1, metrics="r2")) == ["loss", "r2"]


# Callbacks.


@both_backends
def test_early_stopping_restores_the_best_weights(backend):
    seen, net = [], network()
    history = net.fit(
        X[:8], Y[:8], optimizer=fn.Adam(0.05), epochs=500, batch_size=4,
        validation_data=(X[8:], Y[8:]), backend=backend,
        callbacks=[
            fn.EarlyStopping(patience=15),
            lambda run: seen.append(run.network.parameters.copy()),
        ],
    )  # fmt: skip
    best = int(np.argmin(history["val_loss"])) + 1
    assert history.stopped == "early stopping"
    assert history.best_epoch == best
    assert history.epochs == best + 15 < 500
    np.testing.assert_array_equal(net.parameters, seen[best - 1])
    assert net.evaluate(X[8:], Y[8:], backend=backend)["loss"] == min(history["val_loss"])


def test_early_stopping_may_keep_the_last_weights():
    seen, net = [], network()
    history = net.fit(
        X[:8], Y[:8], optimizer=fn.Adam(0.05), epochs=500, validation_data=(X[8:], Y[8:]),
        callbacks=[
            fn.EarlyStopping(patience=5, restore_best=False),
            lambda run: seen.append(run.network.parameters.copy()),
        ],
    )  # fmt: skip
    assert history.best_epoch == history.epochs - 5
    np.testing.assert_array_equal(net.parameters, seen[-1])


@both_backends
def test_a_callback_may_change_the_parameters_in_place(backend):
    net = network()
    start = net.parameters.copy()

    def back_to_start(run):
        assert run.network is net
        run.network.parameters[:] = start

    history = net.fit(
        X, Y, optimizer=fn.SGD(0.1), epochs=4, batch_size=4, shuffle=False,
        callbacks=back_to_start, backend=backend,
    )  # fmt: skip
    assert len(set(history["loss"])) == 1, "every epoch starts from the same weights"
    np.testing.assert_array_equal(net.parameters, start)


@both_backends
def test_a_callback_may_stop_a_fit(backend):
    net = network()
    history = net.fit(
        X, Y, epochs=100, callbacks=lambda run: run.epoch == 3 and run.stop("enough"),
        backend=backend,
    )  # fmt: skip
    assert history.epochs == 3
    assert history.stopped == "enough"
    twin = network()
    twin.fit(X, Y, epochs=3, backend=backend)
    assert same(net, twin)


def test_the_hooks_run_in_order_and_see_the_fit():
    told = []

    class Watcher(fn.Callback):
        def on_fit_begin(self, run):
            told.append(("begin", run.epoch, run.epochs, run.names, dict(run.logs)))

        def on_epoch_end(self, run):
            told.append(("epoch", run.epoch, run.logs["loss"] == run.history["loss"][-1]))

        def on_fit_end(self, run):
            told.append(("end", run.epoch, run.history.epochs))

    network().fit(X, Y, epochs=2, callbacks=Watcher(), validation_fraction=0.2)
    assert told == [
        ("begin", 0, 2, ("loss", "val_loss"), {}),
        ("epoch", 1, True),
        ("epoch", 2, True),
        ("end", 2, 2),
    ]


@pytest.mark.parametrize("hook", ["on_fit_begin", "on_epoch_end", "on_fit_end"])
def test_an_error_in_a_callback_comes_through_and_the_network_can_be_fitted_again(hook):
    class Broken(fn.Callback):
        pass

    def fail(self, run):
        raise RuntimeError("mine")

    setattr(Broken, hook, fail)
    net = network()
    with pytest.raises(RuntimeError, match="mine"):
        net.fit(X, Y, epochs=3, callbacks=Broken())
    assert np.isfinite(net.parameters).all()
    assert net.fit(X, Y, epochs=2).epochs == 2


def test_an_error_in_a_metric_comes_through_and_the_network_can_be_fitted_again():
    def broken(predictions, targets):
        raise ZeroDivisionError("mine")

    net = network()
    with pytest.raises(ZeroDivisionError, match="mine"):
        net.fit(X, Y, epochs=3, metrics=broken)
    assert net.fit(X, Y, epochs=2).epochs == 2


# Progress.


@both_backends
@pytest.mark.parametrize("progress", [{}, {"progress": "auto"}, {"progress": False}])
def test_nothing_is_said_where_no_one_watches(progress, backend, capfd):
    network().fit(X, Y, epochs=3, backend=backend, **progress)
    assert capfd.readouterr() == ("", "")


@both_backends
def test_a_line_an_epoch_is_said_where_it_is_asked_for(backend, capfd):
    history = network().fit(
        X, Y, epochs=3, progress=True, validation_fraction=0.2, backend=backend,
        callbacks=lambda run: time.sleep(0.6),
    )  # fmt: skip
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 4
    for number, line in enumerate(lines[:3], 1):
        assert line.startswith(f"epoch {number}/3")
        for name in ("loss", "val_loss"):
            assert f"{name} {history[name][number - 1]:#.4g}".rstrip(".") in line
    assert "left" in lines[1]
    assert lines[3].startswith("3 epochs in ")


# Interruptions.

INTERRUPTED = textwrap.dedent("""
    import json, signal, sys, time, warnings
    import numpy as np
    import fastnn as fn

    # A shell that starts this in the background would have it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    case, backend = sys.argv[1:]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 20))
    y = X[:, :1] * X[:, 1:2]
    net = fn.Sequential([fn.Dense(32, "tanh"), fn.Dense(1)], inputs=20)
    more = {"callbacks": [lambda run: run.epoch == 1 and print("running", flush=True)]}
    if case == "tiny":
        # Epochs so short that nearly all the time is spent between them.
        X, y = X[:4], y[:4]
        more["metrics"] = ["mse", "mae"]
    if case == "asleep":
        more["callbacks"].append(lambda run: time.sleep(30))
    if case == "busy":
        def busy(run):
            began = time.monotonic()
            while time.monotonic() < began + 30:
                pass
        more["callbacks"].append(busy)
    if case == "validation":
        Xv = np.asarray(rng.normal(size=(100_000, 20)), dtype=np.float32)
        more |= {"validation_data": (Xv, Xv[:, :1]), "metrics": "mse"}
        net = fn.Sequential([fn.Dense(512, "tanh"), fn.Dense(1)], inputs=20)
    net.fit(X, y, epochs=1, batch_size=256, backend=backend, validation_data=(X[:9], y[:9]))
    print("ready", flush=True)
    for line in sys.stdin:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = net.fit(X, y, epochs=10**9, backend=backend, **more)
        # First of all: the time until this line arrives is what is measured.
        print("ended", flush=True)
        print(json.dumps({
            "stopped": history.stopped,
            "epochs": history.epochs,
            "lengths": [len(values) for values in history.values()],
            "finite": bool(np.isfinite(net.parameters).all()),
            "usable": bool(np.isfinite(net.predict(X)).all()),
            "warnings": [str(one.message) for one in caught],
            "files": [one.filename for one in caught],
        }), flush=True)
    again = net.fit(X, y, epochs=2, batch_size=500, backend=backend)
    print(json.dumps(again["loss"]), flush=True)
""")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no way to send Ctrl-C to one process")
@pytest.mark.parametrize(
    ("case", "backend", "moments"),
    [
        pytest.param("plain", "native", (0.0, 0.03, 0.1, 0.25, 0.5), marks=pytest.mark.jit),
        ("plain", "reference", (0.0, 0.03, 0.1, 0.25, 0.5)),
        ("tiny", "native", tuple(k / 500 for k in range(25))),
        pytest.param("asleep", "native", (0.05, 0.2), marks=pytest.mark.jit),
        ("busy", "reference", (0.2,)),
        pytest.param("validation", "native", (0.1, 0.2), marks=pytest.mark.jit),
    ],
)
def test_ctrl_c_ends_a_fit_at_once_and_leaves_a_usable_network(case, backend, moments):
    root = str(Path(fn.__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, case, backend],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as child:  # fmt: skip
        watchdog = threading.Timer(120, child.kill)
        watchdog.start()
        try:
            latencies = []
            assert child.stdout.readline() == "ready\n"
            for moment in moments:
                child.stdin.write("go\n")
                child.stdin.flush()
                assert child.stdout.readline() == "running\n"
                time.sleep(moment)
                sent = time.monotonic()
                child.send_signal(signal.SIGINT)
                assert child.stdout.readline() == "ended\n"
                latencies.append(time.monotonic() - sent)
                found = json.loads(child.stdout.readline())
                assert found["stopped"] == "interrupted"
                assert found["finite"]
                assert found["usable"]
                assert set(found["lengths"]) == {found["epochs"]}
                assert found["warnings"] == [
                    f"fit was interrupted after {found['epochs']} of 1000000000 epochs; "
                    "the network keeps the weights that it had reached."
                ]
                assert found["files"] == ["<string>"], "the warning points at the caller"
            child.stdin.close()
            losses = json.loads(child.stdout.readline())
            assert len(losses) == 2
            assert all(map(math.isfinite, losses))
            assert child.wait(10) == 0
            print(f"{case} on {backend}:", *(f"{one:.3f}" for one in latencies), "s")
            # Half a second is what is promised; a busy machine may be late, though not always.
            assert min(latencies) < 0.5
            assert max(latencies) < 2.0
        finally:
            watchdog.cancel()
            child.kill()


class Interrupting(fn.Callback):
    """What Ctrl-C does to a callback."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, run):
        if run.epoch == self.epoch:
            raise KeyboardInterrupt


@both_backends
def test_an_interrupted_fit_keeps_what_it_has_and_callbacks_end_in_order(backend):
    net, twin = network(), network()
    with pytest.warns(UserWarning, match="fit was interrupted after 3 of 9 epochs; the network"):
        history = net.fit(
            X, Y, epochs=9, validation_data=(X, Y), backend=backend,
            callbacks=[fn.EarlyStopping(mode="max"), Interrupting(3)],
        )  # fmt: skip
    assert history.stopped == "interrupted"
    assert history.epochs == len(history["loss"]) == len(history["val_loss"]) == 3
    assert history.seconds > 0
    assert history.best_epoch == 1, "the loss falls, and this one watches for the largest"
    twin.fit(X, Y, epochs=1, backend=backend)
    assert same(net, twin)


@both_backends
def test_an_interruption_on_any_line_leaves_everything_in_order(backend, tuned):
    """Ctrl-C falls between any two lines: the history stays whole, the network usable."""
    # Saved before every slice, whatever the time: each fit goes through the same lines.
    tuned(saving_share=0)
    rooms = {
        *(room.__file__ for room in (training, descent, orders, snapshots)),
        fn.History.append.__code__.co_filename,
    }

    def fitted(strike):
        """Fit, and interrupt at the strike-th line from the first epoch's end on."""
        net, runs, lines = network(), [], []

        def trace(frame, event, argument):
            if frame.f_code.co_filename not in rooms:
                return None
            if event == "line" and runs and runs[-1].epoch < 3:
                lines.append(f"{frame.f_code.co_qualname}, line {frame.f_lineno}")
                if len(lines) == strike:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            # Python itself may strike before a block's end is run.
            with warnings.catch_warnings(record=True) as caught, np.errstate():
                warnings.simplefilter("always")
                history = net.fit(
                    X, Y, epochs=3, batch_size=99, callbacks=runs.append, metrics="mse",
                    validation_fraction=0.2, backend=backend,
                )  # fmt: skip
        finally:
            sys.settrace(before)
        return net, history, [str(one.message) for one in caught], lines

    every = fitted(0)[-1]
    assert len(set(every)) > 30
    for where in dict.fromkeys(every):
        net, history, caught, lines = fitted(every.index(where) + 1)
        assert lines[-1] == where
        assert history.stopped == "interrupted", where
        assert {len(values) for values in history.values()} == {history.epochs}, where
        assert caught[0].startswith(f"fit was interrupted after {history.epochs} of 3"), where
        assert np.isfinite(net.parameters).all(), where
        assert net.fit(X, Y, epochs=1, backend=backend).epochs == 1, where


@both_backends
def test_an_interruption_beside_a_divergence_leaves_finite_weights(backend, monkeypatch):
    """Ctrl-C takes effect as soon as a slice returns, also one whose last step went wrong."""
    stepper = STEPPERS[backend]
    run = stepper.run

    def interrupted(self, *arguments):
        done = run(self, *arguments)
        if done.trouble:
            monkeypatch.undo()
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(stepper, "run", interrupted)
    net = network()
    with pytest.warns(UserWarning, match="interrupted"):
        net.fit(X, 100 * Y, optimizer=fn.SGD(3e38), epochs=5, backend=backend)
    assert np.isfinite(net.parameters).all()


# Divergence.


def deep(dtype):
    return fn.Sequential([fn.Dense(8, "relu"), fn.Dense(8), fn.Dense(1)], 3, dtype, rng=0)


def overflowing(dtype):
    net = fn.Sequential([fn.Dense(4, "tanh"), fn.Dense(4, "relu"), fn.Dense(4, "relu"),
                         fn.Dense(1)], 3, dtype)  # fmt: skip
    large = {"float32": 1e20, "float64": 1e160}[dtype]
    net.weights[1][:] = net.weights[2][:] = large
    return net


def of_classes(dtype):
    return fn.Sequential([fn.Dense(8, "tanh"), fn.Dense(3, "softmax")], 3, dtype)


HUGE = {"float32": 1e39, "float64": 1e308}

DIVERGING = {
    # What diverges, on which targets, with which optimizer, and the layer at fault if one is sure.
    "sgd": (deep, Y, lambda dtype: fn.SGD(1e3), None),
    "momentum": (deep, Y, lambda dtype: fn.SGD(5.0, momentum=0.9), None),
    "nesterov": (deep, Y, lambda dtype: fn.SGD(5.0, momentum=0.9, nesterov=True), None),
    "sgd update": (deep, 100 * Y, lambda dtype: fn.SGD(HUGE[dtype]), "layer 0"),
    "adam": (deep, Y, lambda dtype: fn.Adam({"float32": 1e30, "float64": 1e200}[dtype]), "layer 1"),
    "adam targets": (
        deep, {"float32": 1e15, "float64": 1e150}, lambda dtype: fn.Adam(HUGE[dtype] / 1e2), None,
    ),
    "hidden": (overflowing, Y, lambda dtype: fn.SGD(1e-3), "layer 2"),
    "classes": (of_classes, LABELS, lambda dtype: fn.SGD(HUGE[dtype]), None),
}  # fmt: skip


@out_of_scale
@both_backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", DIVERGING)
def test_a_fit_that_diverges_stops_at_once_with_its_last_finite_weights(case, dtype, backend):
    make, y, rule, layer = DIVERGING[case]
    y = Y * y[dtype] if isinstance(y, dict) else y
    net, optimizer = make(dtype), rule(dtype)
    with pytest.raises(fn.DivergenceError) as caught:
        net.fit(X, y, optimizer=optimizer, epochs=500, batch_size=4, shuffle=False, backend=backend)
    error = caught.value
    assert isinstance(error, ValueError)
    assert isinstance(error, FloatingPointError)
    message = str(error)
    assert f"epoch {error.epoch}, step {error.step} of 6:" in message
    assert error.history.epochs == error.epoch - 1
    if layer is not None:
        assert error.layer == layer
    # Something is named where it began: a layer, or the loss that comes after the last one.
    assert (error.layer or "the loss") in message
    assert "learning_rate" in message
    assert "dtype" not in message or dtype == "float32", "the remedy is one that is left"
    assert "last finite weights" in message

    assert np.isfinite(net.parameters).all()
    twin = make(dtype)
    for step in range(6 * (error.epoch - 1) + error.step - 1):
        rows = slice(4 * (step % 6), 4 * (step % 6) + 4)
        twin.train_on_batch(X[rows], y[rows], optimizer=optimizer, backend=backend)
    assert same(net, twin), "the weights are those from before the bad step"


@both_backends
def test_divergence_is_found_in_the_middle_of_a_long_slice(backend):
    """Thousands of good steps, then one example that overflows."""
    n = 6000
    rng = np.random.default_rng(1)
    features = rng.normal(size=(n, 3))
    y = features[:, 0].copy()
    y[4321] = 1e30
    net, twin = network(), network()
    settings = {"optimizer": fn.Adam(0.01), "batch_size": 1, "shuffle": False, "backend": backend}
    if backend == "reference":
        features, y = features[4000:], y[4000:]
    bad = int(np.argmax(y))
    with pytest.raises(fn.DivergenceError) as caught:
        net.fit(features, y, epochs=1, **settings)
    assert (caught.value.epoch, caught.value.step) == (1, bad + 1)
    assert "largest in y is 1e+30" in str(caught.value)
    twin.fit(features[:bad], y[:bad], epochs=1, **settings)
    assert same(net, twin)


@out_of_scale
@both_backends
def test_a_shuffled_fit_diverges_at_the_example_it_names(backend):
    y = Y.copy()
    y[7] = 1e30
    net = network()
    order = reference_draws.permutation(net._streams.order_key, 0, 23)
    with pytest.raises(fn.DivergenceError) as caught:
        net.fit(X, y, batch_size=1, epochs=2, backend=backend)
    assert order[caught.value.step - 1] == 7
    twin = network()
    for row in order[: caught.value.step - 1]:
        twin.train_on_batch(X[[row]], y[[row]], backend=backend)
    assert same(net, twin)


@both_backends
def test_train_on_batch_diverges_without_a_trace(backend):
    """Weights, moments and their count are those from before the call."""
    net = network()
    for _ in range(3):
        net.train_on_batch(X, Y, backend=backend)
    before = everything(net)
    for y, optimizer in ((1e30 * Y, fn.Adam()), (Y, fn.Adam(1e39)), (Y, fn.SGD(1e39))):
        with pytest.raises(fn.DivergenceError, match=r"epoch 1, step 1 of 1"):
            net.train_on_batch(X, y, optimizer=optimizer, backend=backend)
        assert everything(net) == before
    net.train_on_batch(X, Y, backend=backend)


@out_of_scale
@pytest.mark.parametrize(
    ("features", "targets", "expected"),
    [(X * 1e6, Y, "largest in X is"), (X, Y * 1e30, "largest in y is")],
)
def test_the_remedy_looks_at_the_data(features, targets, expected):
    with pytest.raises(fn.DivergenceError, match=expected):
        deep("float32").fit(features, targets, optimizer=fn.SGD(1.0), epochs=20)


@out_of_scale
def test_a_divergence_survives_pickling():
    with pytest.raises(fn.DivergenceError) as caught:
        network().fit(X, Y * 1e30)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    for name in ("epoch", "step", "layer"):
        assert getattr(again, name) == getattr(caught.value, name)


@both_backends
def test_large_logits_do_not_diverge(backend):
    net = fn.Sequential([fn.Dense(3, "softmax", initializer="zeros")], inputs=3)
    net.weights[0][:] = 1e4 * np.eye(3)
    history = net.fit(np.eye(3), [1, 2, 0], optimizer=fn.SGD(1.0), epochs=3, backend=backend)
    assert history["loss"][0] == pytest.approx(1e4, rel=1e-6)
    assert np.isfinite(net.parameters).all()


# Several at once.


def test_two_fits_of_one_network_at_once_are_refused():
    net = network()
    running, go_on = threading.Event(), threading.Event()

    def wait(run):
        running.set()
        assert go_on.wait(60)

    thread = threading.Thread(target=net.fit, args=(X, Y), kwargs={"epochs": 2, "callbacks": wait})
    thread.start()
    try:
        assert running.wait(60)
        before = net.parameters.copy()
        for again in (net.fit, net.train_on_batch):
            with pytest.raises(RuntimeError, match=r"being fitted already.*net\.copy\(\)"):
                again(X, Y)
        np.testing.assert_array_equal(net.parameters, before)
        assert net.predict(X).shape == (23, 1), "predicting goes on"
        net.diagnose(X, Y)
    finally:
        go_on.set()
        thread.join()
    net.fit(X, Y, epochs=1)


def test_a_fit_within_a_fit_is_refused():
    net = network()
    with pytest.raises(RuntimeError, match="being fitted already"):
        net.fit(X, Y, callbacks=lambda run: net.train_on_batch(X, Y))
    net.fit(X, Y, epochs=1)


def test_fits_of_different_networks_in_threads_give_the_bits_they_give_alone():
    features = np.random.default_rng(2).normal(size=(400 if JIT else 30, 3))
    y = features[:, 0] * features[:, 1]

    def work(place):
        net = fn.Sequential([fn.Dense(5 + place, "tanh"), fn.Dense(1)], inputs=3, rng=place)
        net.fit(features, y, epochs=30, batch_size=7, validation_fraction=0.1)
        return net.parameters.tobytes()

    alone = [work(place) for place in range(6)]
    together = [None] * 6
    gate = threading.Barrier(6)

    def run(place):
        gate.wait(60)
        together[place] = work(place)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


# What is refused.

# Each: arguments, the error's type, and what its message must say.
WRONG = {
    "loss unknown": ({"loss": "mean_square_error"}, ValueError,
                     ("loss must be one of", "'mean_square_error'", "'mean_squared_error'?")),
    "loss number": ({"loss": 3}, TypeError, ("loss must be a string", "3 (int)")),
    "loss none": ({"loss": None}, TypeError, ("loss must be a string", "None")),
    "loss array": ({"loss": np.array(["auto", "auto"])}, TypeError,
                   ("loss must be a string", "ndarray")),
    "loss of classes": ({"loss": "cross_entropy"}, ValueError,
                        ("loss='cross_entropy'", "'softmax'", "got", "'identity'",
                         "loss='mean_squared_error'")),
    "loss of bits": ({"loss": "binary_cross_entropy"}, ValueError,
                     ("loss='binary_cross_entropy'", "'sigmoid'", "'identity'")),
    "optimizer name": ({"optimizer": "adamm"}, ValueError,
                       ("optimizer must be one of", "'Adam'", "Did you mean 'Adam'?")),
    "optimizer class": ({"optimizer": fn.Adam}, TypeError,
                        ("optimizer must be one of", "Did you mean fastnn.Adam()?")),
    "optimizer none": ({"optimizer": None}, TypeError, ("optimizer must be one of", "None")),
    "epochs zero": ({"epochs": 0}, ValueError,
                    ("epochs must be an integer of at least 1; got 0.",)),
    "epochs negative": ({"epochs": -5}, ValueError, ("epochs", "got -5.")),
    "epochs float": ({"epochs": 10.0}, TypeError, ("epochs", "10.0 (float)")),
    "epochs bool": ({"epochs": True}, TypeError, ("epochs", "True (bool)")),
    "epochs none": ({"epochs": None}, TypeError, ("epochs", "None")),
    "epochs text": ({"epochs": "10"}, TypeError, ("epochs", "'10' (str)")),
    "batch_size zero": ({"batch_size": 0}, ValueError,
                        ("batch_size must be an integer of at least 1; got 0.",)),
    "batch_size float": ({"batch_size": 32.0}, TypeError, ("batch_size", "32.0 (float)")),
    "batch_size none": ({"batch_size": None}, TypeError, ("batch_size", "None")),
    "batch_size text": ({"batch_size": "auto"}, TypeError, ("batch_size", "'auto' (str)")),
    "sample_weight length": ({"sample_weight": W[:5]}, ValueError,
                             ("sample_weight", "5", "23")),
    "sample_weight shape": ({"sample_weight": np.ones((23, 1))}, ValueError,
                            ("sample_weight", "(23,)", "(23, 1)")),
    "sample_weight scalar": ({"sample_weight": 1.0}, ValueError, ("sample_weight", "(23,)", "()")),
    "sample_weight negative": ({"sample_weight": -np.ones(23)}, ValueError,
                               ("sample_weight", "-1.0", "row 0", "at least 0")),
    "sample_weight zero": ({"sample_weight": np.zeros(23)}, ValueError,
                           ("sample_weight", "above 0", "23 weights of 0")),
    "sample_weight nan": ({"sample_weight": np.full(23, np.nan)}, ValueError,
                          ("sample_weight", "NaN", "row 0", "finite")),
    "sample_weight infinity": ({"sample_weight": np.full(23, np.inf)}, ValueError,
                               ("sample_weight", "infinity")),
    "sample_weight text": ({"sample_weight": ["a"] * 23}, TypeError,
                           ("sample_weight", "'a' (str)")),
    "class_weight of numbers": ({"class_weight": {0: 2.0}}, ValueError,
                                ("class_weight needs a loss on classes", "sample_weight")),
    "class_weight balanced": ({"class_weight": "balanced"}, ValueError,
                              ("class_weight needs a loss on classes",)),
    "validation_data text": ({"validation_data": "0.2"}, TypeError,
                             ("validation_data must be (X, y)", "'0.2' (str)")),
    "validation_data number": ({"validation_data": 0.2}, TypeError,
                               ("validation_data must be (X, y)", "0.2 (float)")),
    "validation_data one": ({"validation_data": (X,)}, TypeError,
                            ("validation_data must be (X, y)", "(tuple)")),
    "validation_data four": ({"validation_data": (X, Y, W, W)}, TypeError,
                             ("validation_data must be (X, y)",)),
    "validation_data array": ({"validation_data": X}, TypeError,
                              ("validation_data must be (X, y)", "(ndarray)")),
    "validation_data X": ({"validation_data": (X * np.nan, Y)}, ValueError,
                          ("validation_data[0]", "NaN", "row 0, column 0")),
    "validation_data empty": ({"validation_data": (X[:0], Y[:0])}, ValueError,
                              ("validation_data[0]", "at least one example", "(0, 3)")),
    "validation_data y": ({"validation_data": (X, Y[:5])}, ValueError,
                          ("validation_data[0] has 23 rows", "validation_data[1] has 5")),
    "validation_data w": ({"validation_data": (X, Y, -W)}, ValueError,
                          ("validation_data[2]", "row 0")),
    "validation both": ({"validation_data": (X, Y), "validation_fraction": 0.2}, ValueError,
                        ("validation_data", "validation_fraction", "both")),
    "validation_fraction one": ({"validation_fraction": 1.0}, ValueError,
                                ("validation_fraction must be a number in [0.0, 1.0); got 1.0.",)),
    "validation_fraction negative": ({"validation_fraction": -0.1}, ValueError,
                                     ("validation_fraction", "got -0.1.")),
    "validation_fraction nan": ({"validation_fraction": math.nan}, ValueError,
                                ("validation_fraction", "got nan.")),
    "validation_fraction text": ({"validation_fraction": "0.1"}, TypeError,
                                 ("validation_fraction", "'0.1' (str)")),
    "validation_fraction all": ({"validation_fraction": 0.999}, ValueError,
                                ("validation_fraction=0.999", "23 examples", "train on")),
    "metrics unknown": ({"metrics": "mean_absolut_error"}, ValueError,
                        ("metrics must be one of", "'mean_absolute_error'?")),
    "metrics for classes": ({"metrics": ["accuracy"]}, ValueError,
                            ("metrics", "'accuracy'", "real numbers")),
    "metrics number": ({"metrics": [3]}, TypeError, ("metrics", "3 (int)")),
    "metrics none": ({"metrics": None}, TypeError, ("metrics", "None")),
    "metrics twice": ({"metrics": ["mse", "mean_squared_error"]}, ValueError,
                      ("metrics", "'mse'", "'mean_squared_error'", "twice")),
    "callbacks class": ({"callbacks": fn.EarlyStopping}, TypeError,
                        ("callbacks", "Did you mean EarlyStopping(...)")),
    "callbacks text": ({"callbacks": "stop"}, TypeError, ("callbacks", "'stop' (str)")),
    "callbacks none": ({"callbacks": None}, TypeError, ("callbacks", "None")),
    "callbacks list": ({"callbacks": [3]}, TypeError, ("callbacks", "3 (int)")),
    "monitor without validation": ({"callbacks": fn.EarlyStopping()}, ValueError,
                                   ("monitor must be one of 'loss'", "'val_loss'",
                                    "validation_fraction")),
    "monitor misspelt": ({"callbacks": fn.EarlyStopping("val_los"), "validation_fraction": 0.2},
                         ValueError, ("monitor", "'val_los'", "Did you mean 'val_loss'?")),
    "shuffle number": ({"shuffle": 1}, TypeError, ("shuffle must be True or False", "1 (int)")),
    "shuffle none": ({"shuffle": None}, TypeError, ("shuffle", "None")),
    "clip_norm zero": ({"clip_norm": 0.0}, ValueError, ("clip_norm", "greater than 0", "got 0.0.")),
    "clip_norm negative": ({"clip_norm": -1}, ValueError, ("clip_norm", "got -1.")),
    "clip_norm nan": ({"clip_norm": math.nan}, ValueError, ("clip_norm", "got nan.")),
    "clip_norm infinite": ({"clip_norm": math.inf}, ValueError, ("clip_norm", "got inf.")),
    "clip_norm text": ({"clip_norm": "1"}, TypeError, ("clip_norm", "'1' (str)")),
    "clip_norm bool": ({"clip_norm": True}, TypeError, ("clip_norm", "True (bool)")),
    "threads negative": ({"threads": -1}, ValueError, ("threads", "at least 1", "got -1.")),
    "threads bool": ({"threads": True}, TypeError, ("threads", "True (bool)")),
    "threads zero": ({"threads": 0}, ValueError, ("threads", "at least 1", "got 0.")),
    "threads float": ({"threads": 2.0}, TypeError, ("threads", "2.0 (float)")),
    "threads text": ({"threads": "all"}, TypeError, ("threads", "'all' (str)")),
    "progress text": ({"progress": "yes"}, ValueError,
                      ("progress must be 'auto', True or False", "'yes' (str)")),
    "progress none": ({"progress": None}, (TypeError, ValueError), ("progress", "None")),
    "progress number": ({"progress": 1}, (TypeError, ValueError), ("progress", "1 (int)")),
    "backend unknown": ({"backend": "nativ"}, ValueError,
                        ("backend must be one of 'native', 'reference'", "Did you mean 'native'?")),
    "backend number": ({"backend": 1}, TypeError, ("backend must be a string", "1 (int)")),
    "X none": ({"X": None}, TypeError, ("X", "None")),
    "X flat": ({"X": X[:, 0]}, ValueError, ("X must be 2-D", "(23,)")),
    "X deep": ({"X": X[None]}, ValueError, ("X must be 2-D", "(1, 23, 3)")),
    "X no rows": ({"X": X[:0], "y": Y[:0]}, ValueError, ("X must hold at least one", "(0, 3)")),
    "X no columns": ({"X": X[:, :0]}, ValueError, ("X must hold at least one", "(23, 0)")),
    "X empty list": ({"X": [], "y": []}, ValueError, ("X must hold at least one", "(0,)")),
    "X wide": ({"X": np.ones((23, 4))}, ValueError, ("X has 4 features", "3", "rebuild")),
    "X ragged": ({"X": [[1, 2, 3], [4, 5]]}, TypeError, ("X must be a rectangular array", "row 1")),
    "X text": ({"X": [["a", "b", "c"]] * 23}, TypeError, ("X", "'a' (str)", "row 0, column 0")),
    "X complex": ({"X": X + 1j}, TypeError, ("X must hold real numbers", "complex")),
    "X dates": ({"X": np.zeros((23, 3), "datetime64[s]")}, TypeError, ("X", "dates")),
    "X NaN": ({"X": np.where(X[4, 1] == X, np.nan, X)}, ValueError,
              ("X has NaN at row 4, column 1", "finite")),
    "X infinity": ({"X": np.where(X[4, 1] == X, np.inf, X)}, ValueError,
                   ("X has infinity at row 4, column 1",)),
    "X large": ({"X": np.where(X[4, 1] == X, 1e39, X)}, ValueError,
                ("X has 1e+39 at row 4, column 1", "float32", "float64")),
    "y none": ({"y": None}, TypeError, ("y", "None")),
    "y short": ({"y": Y[:22]}, ValueError, ("X has 23 rows", "y has 22")),
    "y wide": ({"y": np.ones((23, 2))}, ValueError, ("y must have shape", "1 output", "(23, 2)")),
    "y empty": ({"y": []}, ValueError, ("X has 23 rows", "y has 0")),
    "y text": ({"y": ["a"] * 23}, TypeError, ("y", "'a' (str)", "row 0")),
    "y NaN": ({"y": np.where(Y[4] == Y, np.nan, Y)}, ValueError, ("y has NaN at row 4", "finite")),
    "y infinity": ({"y": np.where(Y[4] == Y, -np.inf, Y)}, ValueError,
                   ("y has -infinity at row 4",)),
    "y large": ({"y": np.where(Y[4] == Y, 1e39, Y)}, ValueError, ("y has 1e+39", "float32")),
}  # fmt: skip


def refused(net, call, kinds, expected):
    """Hold that a call raises a clear error of just these types and leaves the network alone."""
    before = everything(net)
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    with pytest.raises(kinds) as caught:
        call(net)
    message = str(caught.value)
    assert type(caught.value) in kinds
    assert all(part in message for part in expected), message
    assert "numba" not in message.lower()
    assert len(message) < 500
    assert everything(net) == before


@pytest.mark.parametrize("case", WRONG)
def test_a_fit_says_what_is_wrong_with_an_argument_and_changes_nothing(case):
    arguments, kinds, expected = WRONG[case]
    arguments = {"X": X, "y": Y, "epochs": 1, **arguments}
    net = network()
    # A state to lose: moments, and places in the streams.
    net.fit(X, Y, epochs=1)
    net.train_on_batch(X, Y)
    refused(net, lambda net: net.fit(**arguments), kinds, expected)
    twin = network()
    twin.fit(X, Y, epochs=1)
    twin.train_on_batch(X, Y)
    for each in (net, twin):
        each.train_on_batch(X, Y)
        each.fit(X, Y, epochs=1, batch_size=4)
    assert same(net, twin)


@pytest.mark.parametrize("case", WRONG)
def test_a_first_fit_that_is_refused_does_not_fix_the_inputs(case):
    arguments, kinds, expected = WRONG[case]
    if case == "X wide":
        pytest.skip("a first fit takes any width")
    arguments = {"X": X, "y": Y, "epochs": 1, **arguments}
    net = fn.Sequential([fn.Dense(4, "tanh"), fn.Dense(1)])
    refused(net, lambda net: net.fit(**arguments), kinds, expected)
    assert net.inputs is None
    net.fit(np.ones((4, 7)), np.ones(4), epochs=1)
    assert net.inputs == 7


OF_TRAIN_ON_BATCH = ("X", "y", "loss", "optimizer", "sample_weight", "backend")


@pytest.mark.parametrize("case", [case for case in WRONG if WRONG[case][0].keys()
                                  <= set(OF_TRAIN_ON_BATCH)])  # fmt: skip
def test_train_on_batch_says_what_is_wrong_with_an_argument_and_changes_nothing(case):
    arguments, kinds, expected = WRONG[case]
    net = network()
    net.train_on_batch(X, Y)
    refused(net, lambda net: net.train_on_batch(**{"X": X, "y": Y, **arguments}), kinds, expected)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (
            np.where(np.arange(23) == 5, 3, LABELS),
            ("y has label 3 at row 5", "0 to 2", "3 outputs"),
        ),
        (np.where(np.arange(23) == 5, -1, LABELS), ("y has label -1 at row 5", "0 to 2")),
        (LABELS + 0.5, ("y has", "row 0", "whole")),
        (np.where(np.arange(23) == 5, np.nan, LABELS), ("y has NaN at row 5",)),
        (["cat"] * 23, ("y must hold real numbers", "'cat' (str)", "np.unique")),
        (np.eye(3)[LABELS] * 2, ("y has", "row 0", "probability in [0, 1]")),
        (np.eye(3)[LABELS] / 2, ("y has the sum 0.5 at row 0", "sum 1")),
        (np.eye(4)[LABELS], ("y must have shape (23,)", "(23, 3)", "(23, 4)")),
        (np.zeros((23, 0)), ("y must have shape", "(23, 0)")),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("method", ["fit", "train_on_batch", "evaluate", "trace",
                                    "loss_and_gradient", "diagnose"])  # fmt: skip
def test_classes_that_are_none_are_refused(method, y, expected):
    call = lambda net: getattr(net, method)(X, y)  # noqa: E731
    refused(classifier(), call, (TypeError, ValueError), expected)


def test_bits_that_are_none_are_refused():
    net = fn.Sequential([fn.Dense(1, "sigmoid")], inputs=3)
    refused(net, lambda net: net.fit(X, LABELS), ValueError, ("y has 2", "[0, 1]"))


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: fn.SGD(0), ValueError,
         "learning_rate must be a finite number greater than 0.0; got 0."),
        (lambda: fn.SGD(-1.0), ValueError,
         "learning_rate must be a finite number greater than 0.0; got -1.0."),
        (lambda: fn.SGD(math.nan), ValueError,
         "learning_rate must be a finite number greater than 0.0; got nan."),
        (lambda: fn.SGD("0.1"), TypeError,
         "learning_rate must be a finite number greater than 0.0; got '0.1' (str)."),
        (lambda: fn.SGD(0.1, 1.0), ValueError, "momentum must be a number in [0.0, 1.0); got 1.0."),
        (lambda: fn.SGD(0.1, 0.9, 1), TypeError, "nesterov must be True or False; got 1 (int)."),
        (lambda: fn.SGD(0.1, nesterov=True), ValueError,
         "nesterov=True needs a momentum above 0; got momentum=0.0."),
        (lambda: fn.Adam(math.inf), ValueError,
         "learning_rate must be a finite number greater than 0.0; got inf."),
        (lambda: fn.Adam(beta_1=1), ValueError, "beta_1 must be a number in [0.0, 1.0); got 1."),
        (lambda: fn.Adam(beta_2=-0.1), ValueError,
         "beta_2 must be a number in [0.0, 1.0); got -0.1."),
        (lambda: fn.Adam(epsilon=0), ValueError,
         "epsilon must be a finite number greater than 0.0; got 0."),
        (lambda: fn.Adam(epsilon=None), TypeError,
         "epsilon must be a finite number greater than 0.0; got None."),
    ],
    ids=range(12),
)  # fmt: skip
def test_an_optimizer_says_what_is_wrong_with_its_numbers(make, kind, message):
    with pytest.raises(kind) as caught:
        make()
    assert str(caught.value) == message


def test_weights_that_are_not_finite_are_told_before_they_are_trained():
    net = network()
    net.parameters[0] = np.nan
    with pytest.raises(ValueError, match=r"layer 0|0\.W|parameters") as caught:
        net.fit(X, Y)
    assert "last finite weights" not in str(caught.value), "there were none"


# What comes in is accepted in any form, and left as it is.

WHOLE = np.random.default_rng(4).integers(-3, 4, size=(12, 3))
TARGETS = np.random.default_rng(5).integers(0, 2, size=12)
COUNTS = np.random.default_rng(6).integers(1, 4, size=12)


def forms(values, folder):
    """The same numbers in every form in which they may come."""
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    single = values.astype(np.float32)
    strided = np.zeros((2 * len(values), *values.shape[1:]))
    strided[::2] = values
    read_only = single.copy()
    read_only.flags.writeable = False
    mapped = np.memmap(folder / "values", dtype=np.float32, mode="w+", shape=values.shape)
    mapped[:] = values
    mapped.flush()
    in_a_file = np.memmap(folder / "values", dtype=np.float32, mode="r", shape=values.shape)
    unaligned = np.frombuffer(b"\0" + single.tobytes(), np.uint8)[1:].view(np.float32)
    found = {
        "list": values.tolist(),
        "tuple": tuple(map(tuple, values.tolist())) if values.ndim == 2 else tuple(values.tolist()),
        "rows": list(values),
        "int64": values,
        "int8": values.astype(np.int8),
        "float16": values.astype(np.float16),
        "float32": single,
        "float64": values.astype(np.float64),
        "longdouble": values.astype(np.longdouble),
        "object": values.astype(object),
        "Fortran": np.asfortranarray(single),
        "reversed": np.ascontiguousarray(single[::-1])[::-1],
        "strided": strided[::2],
        "read-only": read_only,
        "memory-mapped": in_a_file,
        "big-endian": values.astype(">f4"),
        "unaligned": unaligned.reshape(values.shape),
        "array-like": Wrapped(values),
    }
    if values.ndim == 2:
        names = [f"c{place}" for place in range(values.shape[1])]
        found["pandas"] = pandas.DataFrame(values, columns=names)
        found["pandas mixed"] = found["pandas"].astype({"c0": "float32", "c2": "int8"})
        found["polars"] = polars.DataFrame(values, schema=names)
    else:
        found["pandas"] = pandas.Series(values, index=range(100, 100 + len(values)))
        found["polars"] = polars.Series(values)
    return found


class Wrapped:
    """Something of another library that NumPy can read."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return self._values.astype(dtype) if dtype is not None else self._values.copy()


def fingerprint(value):
    """What must be the same about an argument after a call."""
    if isinstance(value, np.ndarray):
        flags = value.flags
        return value.tobytes(), value.strides, value.ctypes.data, flags.writeable, str(flags)
    if isinstance(value, Wrapped):
        return value._values.tobytes()
    if isinstance(value, (list, tuple)):
        return repr(value)
    return type(value), value.to_numpy().tobytes(), str(getattr(value, "dtypes", value.shape))


METHODS = {
    "fit": lambda net, X, y, w: [
        net.fit(X, y, epochs=2, batch_size=5, sample_weight=w, metrics="mse").to_dict(),
        net.fit(X, y, epochs=1, validation_data=(X, y, w)).to_dict(),
        net.fit(X, y, epochs=1, validation_fraction=0.25, sample_weight=w).to_dict(),
    ],
    "train_on_batch": lambda net, X, y, w: net.train_on_batch(X, y, sample_weight=w),
    "evaluate": lambda net, X, y, w: net.evaluate(X, y, metrics=["mae"], sample_weight=w),
    "trace": lambda net, X, y, w: [t.tobytes() for t in net.trace(X, y).dZ],
    "loss_and_gradient": lambda net, X, y, w: net.loss_and_gradient(X, y, sample_weight=w)[
        1
    ].tobytes(),
    "diagnose": lambda net, X, y, w: str(net.diagnose(X, y)),
    "predict": lambda net, X, y, w: net.predict(X).tobytes(),
    "hidden": lambda net, X, y, w: net.hidden(X).tobytes(),
}


@both_backends
@pytest.mark.parametrize("last", ["identity", "sigmoid", "softmax"])
def test_any_form_of_x_y_and_weights_gives_the_same_bits_and_is_left_alone(last, backend, tmp_path):
    features, targets, weights = (
        forms(values, folder)
        for values, folder in zip(
            (WHOLE, TARGETS, COUNTS), (tmp_path / "X", tmp_path / "y", tmp_path / "w"), strict=True
        )
        if folder.mkdir() is None
    )
    start = fn.Sequential(
        [fn.Dense(4, "tanh"), fn.Dense(2 if last == "softmax" else 1, last)], inputs=3
    )

    def results(name, X, y, w):
        net = start.copy()
        before = [fingerprint(value) for value in (X, y, w)]
        with fn.backend(backend):
            found = METHODS[name](net, X, y, w)
        assert [fingerprint(value) for value in (X, y, w)] == before
        return found, net.parameters.tobytes()

    plain = (WHOLE.astype(np.float32), TARGETS, COUNTS.astype(np.float32))
    names = METHODS if backend == "native" else ("fit", "evaluate")
    expected = {name: results(name, *plain) for name in names}
    columns = [*targets.keys() | features.keys()]
    for name in names:
        for form in columns:
            given = (
                features.get(form, plain[0]), targets.get(form, plain[1]),
                weights.get(form, plain[2]),
            )  # fmt: skip
            assert results(name, *given) == expected[name], (name, form)
    # A column of targets is what one feature of a frame is.
    for column in (TARGETS[:, None], TARGETS[:, None].astype(float)):
        assert results("fit", plain[0], column, plain[2]) == expected["fit"]


def test_nothing_is_kept_of_what_came_in():
    """No reference to the data stays behind to be changed by, or to hold memory."""
    import weakref

    class Data(np.ndarray):
        pass

    features = np.ascontiguousarray(X, dtype=np.float32).view(Data)
    gone = weakref.ref(features)
    net = network()
    history = net.fit(features, Y, epochs=1, validation_data=(features, Y))
    net.train_on_batch(features, Y)
    del features
    assert gone() is None
    assert history.epochs == 1


# Numbers that a dtype cannot hold, and where a loss overflows.


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [(fn.SGD(1e-46), "learning_rate"), (fn.Adam(epsilon=1e-50), "epsilon")],
)
def test_a_number_that_the_dtype_takes_for_zero_is_refused(optimizer, name):
    net = network()
    with pytest.raises(ValueError, match=rf"^{name} .*float32.*got 1e-"):
        net.fit(X, Y, optimizer=optimizer)
    network(dtype="float64").fit(X, Y, optimizer=optimizer, epochs=1)


@out_of_scale
@both_backends
def test_a_loss_that_overflows_names_the_last_layer(backend):
    net = fn.Sequential([fn.Dense(4, "tanh"), fn.Dense(1)])
    with pytest.raises(fn.DivergenceError) as caught:
        net.fit(X, 1e30 * X[:, 0], epochs=1, backend=backend)
    assert caught.value.layer == "layer 1"
    assert "the loss of the outputs of layer 1" in str(caught.value)


@both_backends
def test_a_penalty_that_overflows_names_its_layer_and_l2(backend):
    net = fn.Sequential([fn.Dense(4), fn.Dense(1, l2=100.0)], dtype="float64")
    with pytest.raises(fn.DivergenceError) as caught:
        net.fit(X, 0 * X[:, 0], optimizer=fn.SGD(1e150), epochs=1, batch_size=5, backend=backend)
    assert caught.value.layer is not None
    assert "l2" in str(caught.value)


# Slices that go on through several epochs.


@pytest.fixture
def long_slices(monkeypatch, tuned):
    """Let slices be as long as they may; return (first, last) of every one."""
    tuned(slice_seconds=1e9)
    taken = []
    for stepper in STEPPERS.values():
        monkeypatch.setattr(stepper, "run", watching(stepper.run, taken))
    return taken


def watching(run, taken):
    """Return a stepper's method that notes what it is asked for."""

    def watched(self, first, last, number, record):
        taken.append((first, last))
        return run(self, first, last, number, record)

    return watched


def looked_at(run):
    """Nothing but a callback, for which every epoch must come to an end of its own."""


@both_backends
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("optimizer", [fn.SGD(0.02, momentum=0.9), fn.Adam(0.01)], ids=str)
def test_slices_through_epochs_give_the_bits_of_epochs_one_by_one(
    optimizer, shuffle, backend, long_slices
):
    settings = {"optimizer": optimizer, "epochs": 30, "batch_size": 5, "shuffle": shuffle,
                "sample_weight": W, "backend": backend}  # fmt: skip
    through, apart = network(l2=0.1), network(l2=0.1)
    history = through.fit(X, Y, **settings)
    assert max(last - first for first, last in long_slices) > 2 * 5
    assert max(last for _, last in long_slices) > 2 * 5
    long_slices.clear()
    expected = apart.fit(X, Y, callbacks=looked_at, **settings)
    assert max(last for _, last in long_slices) == 5
    assert same(through, apart)
    assert history.to_dict() == expected.to_dict()
    assert history.epochs == 30
    assert through._streams == apart._streams
    # And so on: the streams stand where they should.
    for net in (through, apart):
        net.fit(X, Y, epochs=2, batch_size=5, backend=backend)
    assert same(through, apart)


@both_backends
@pytest.mark.parametrize("share", [0, 50, 1e9], ids=["saved always", "as it is", "saved once"])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    ("optimizer", "clip"),
    [
        (fn.SGD(1.0), None),
        (fn.SGD(0.8, momentum=0.5), None),
        (fn.SGD(0.8, momentum=0.5), 1e30),
        (fn.Adam(4e18), None),
    ],
    ids=str,
)
def test_a_divergence_within_a_slice_is_found_in_its_epoch_and_step(
    optimizer, clip, shuffle, share, backend, tuned, long_slices
):
    tuned(saving_share=share)
    settings = {"optimizer": optimizer, "epochs": 500, "batch_size": 5, "shuffle": shuffle,
                "backend": backend, "clip_norm": clip}  # fmt: skip
    ends = []
    for callbacks in ((), looked_at):
        net = linear_in_all()
        with pytest.raises(fn.DivergenceError) as caught:
            net.fit(X, Y, callbacks=callbacks, **settings)
        error = caught.value
        assert error.history.epochs == error.epoch - 1
        ends.append(
            (str(error), error.epoch, error.step, error.layer, error.history.to_dict(),
             net.parameters.tobytes(), net._streams)
        )  # fmt: skip
    assert ends[0] == ends[1]
    assert error.epoch > 2
    # The good steps alone lead to the same weights.
    twin = linear_in_all()
    twin.fit(X, Y, **settings | {"epochs": error.epoch - 1})
    assert (error.step == 1) == same(twin, net)


@both_backends
@pytest.mark.parametrize("shuffle", [True, False])
def test_steps_that_are_taken_again_go_in_slices_too(shuffle, backend, monkeypatch, tuned):
    """Somebody who presses Ctrl-C then waits no longer than at any other time."""
    stepper, lengths, ends = STEPPERS[backend], [], []
    run = stepper.run

    def counted(self, first, last, *more):
        lengths.append(last - first)
        return run(self, first, last, *more)

    monkeypatch.setattr(stepper, "run", counted)
    tuned(saving_share=1e9)
    for most in (3, 10**6):
        monkeypatch.setattr(
            descent.Descent, "_adapt", lambda self, *_, most=most: setattr(self, "_length", most)
        )
        net = linear_in_all()
        lengths.clear()
        with pytest.raises(fn.DivergenceError) as caught:
            net.fit(X, Y, optimizer=fn.SGD(0.8, momentum=0.5), epochs=500, batch_size=5,
                    shuffle=shuffle, backend=backend)  # fmt: skip
        ends.append((str(caught.value), net.parameters.tobytes(), net._streams))
        assert max(lengths) <= most
        assert max(lengths) > 3 or most == 3
    assert ends[0] == ends[1]


def linear_in_all():
    """A network that nothing holds back."""
    return fn.Sequential([fn.Dense(1)], 3, "float32", rng=2)


@both_backends
def test_a_callback_s_change_is_not_lost_in_a_divergence(backend, tuned):
    """What is gone back to are the weights as the callback left them."""
    tuned(saving_share=1e9)
    rule = fn.SGD(1.2)
    settings = {"optimizer": rule, "batch_size": 5, "shuffle": False, "backend": backend}

    def change(run):
        run.network.parameters[:] *= 0.5

    net, twin = linear_in_all(), linear_in_all()
    with pytest.raises(fn.DivergenceError) as caught:
        net.fit(X, Y, epochs=999, callbacks=change, **settings)
    epoch, step = caught.value.epoch, caught.value.step
    assert epoch > 2
    for _ in range(epoch - 1):
        twin.fit(X, Y, epochs=1, **settings)
        twin.parameters[:] *= 0.5
    for start in range(0, 5 * (step - 1), 5):
        rows = slice(start, start + 5)
        twin.train_on_batch(X[rows], Y[rows], optimizer=rule, backend=backend)
    assert same(net, twin)


@both_backends
@pytest.mark.parametrize("optimizer", [fn.SGD(0.02, momentum=0.9), fn.Adam(0.01)], ids=str)
def test_callbacks_leave_the_moments_as_they_are(optimizer, backend):
    """Even one that writes into the parameters."""
    settings = {"optimizer": optimizer, "epochs": 6, "batch_size": 5, "backend": backend}

    def rewrite(run):
        run.network.parameters[:] = run.network.parameters.copy()

    watched, plain = network(), network()
    watched.fit(X, Y, callbacks=rewrite, **settings)
    plain.fit(X, Y, **settings)
    assert same(watched, plain)


@both_backends
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_interrupted_fit_tells_of_every_epoch_that_its_weights_have_seen(
    shuffle, backend, monkeypatch, tuned
):
    """Ctrl-C takes effect when a slice returns, which may have gone through many epochs."""
    tuned(slice_seconds=1e9)
    stepper, calls = STEPPERS[backend], []
    run = stepper.run

    def interrupted(self, *arguments):
        run(self, *arguments)
        calls.append(arguments[:2])
        if len(calls) == 3:
            raise KeyboardInterrupt

    def going(self, *arguments):
        interrupted(self, *arguments)
        return steppers.Slice(arguments[3], arguments[1] - arguments[0], 0)

    monkeypatch.setattr(stepper, "run", going)
    settings = {"batch_size": 5, "shuffle": shuffle, "backend": backend}
    net, twin = network(), network()
    with pytest.warns(UserWarning, match=r"after 14 of 999 epochs"):
        history = net.fit(X, Y, epochs=999, **settings)
    monkeypatch.undo()
    # Slices of 1, 8 and 64 steps, five of which are an epoch: 14 epochs and 3 steps.
    assert sum(last - first for first, last in calls) == 14 * 5 + 3
    assert history.stopped == "interrupted"
    expected = twin.fit(X, Y, epochs=14, **settings)
    assert history["loss"] == expected["loss"]
    assert net._streams.drawn == (15 if shuffle else 0)
    moved = np.abs(net.parameters - twin.parameters)
    assert 0 < moved.max() <= 3 * 1.01e-3, "three more steps of Adam"


# The state between single steps.


def test_the_state_after_single_steps_is_the_reference_s():
    states = []
    for backend in BACKENDS:
        net = network("float64", l2=0.1)
        for step in range(5):
            rows = slice(3 * step, 3 * step + 4)
            net.train_on_batch(X[rows], Y[rows], optimizer=fn.Adam(0.01), backend=backend)
        states.append(net._state)
    native, expected = states
    assert native.moments.any()
    np.testing.assert_allclose(native.moments, expected.moments, rtol=1e-9, atol=1e-15)
    assert native.numbers["steps"] == expected.numbers["steps"] == 5


@both_backends
def test_an_interrupted_single_step_was_never_taken(backend, monkeypatch):
    steps = {
        "native": (compiled_call.Call, "at_once"), "reference": (steppers.ReferenceStepper, "run"),
    }  # fmt: skip
    run = getattr(*steps[backend])

    def interrupted(self, *arguments):
        run(self, *arguments)
        raise KeyboardInterrupt

    net = network()
    for _ in range(3):
        net.train_on_batch(X, Y, backend=backend)
    before, twin = everything(net), net.copy()
    with monkeypatch.context() as patch:
        patch.setattr(*steps[backend], interrupted)
        with pytest.raises(KeyboardInterrupt):
            net.train_on_batch(X, Y, backend=backend)
    assert everything(net) == before
    for each in (net, twin):
        each.train_on_batch(X, Y, backend=backend)
    assert same(net, twin)
