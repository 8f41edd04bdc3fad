"""Whole epochs: native against reference, their order, their slices, and one engine for all."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
from cases import (
    DTYPES,
    JIT,
    NETWORKS,
    PAIRS,
    RULES,
    TARGETS,
    Shape,
    data,
    error,
    fitted,
    network,
    through,
)  # fmt: skip
from numba.core.event import install_recorder

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.equations import draws as reference_draws
from fastnn.fitting import jobs, states, steppers
from fastnn.kernels import codes, records
from fastnn.kernels.answers import answer
from fastnn.kernels.epoch import engine, load, store
from fastnn.kernels.order import draw_order
from fastnn.losses import LOSSES
from fastnn.optimizers import OPTIMIZERS

BACKENDS = ("native", "reference")

# What one step may add, and what twenty epochs may amount to.
STEP_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
FIT_TOLERANCE = {"float32": 1e-3, "float64": 1e-10}

SHAPE = Shape(61, 5, 17, 3, 3) if JIT else Shape(9, 3, 3, 2, 2)
BATCH = 17 if JIT else 4  # leaves a short last one

# Where what holds the parameters stands among the arguments of each entry.
HOLDERS = {engine: 11, load: 1, store: 1, answer: 2}

ALL_RULES = {**RULES, **{f"default-{name}": row.record() for name, row in OPTIMIZERS.items()}}


def on_both(net, work):
    """Return a native and a reference twin of a network, each after the work."""
    twins = []
    for backend in BACKENDS:
        twin = net.copy()
        with fn.backend(backend):
            result = work(twin)
        twins.append((twin.parameters, result))
    return twins


def stepper(
    net, examples, loss="cross_entropy", optimizer=RULES["adam"], batch=BATCH, weights=None, **job
):
    """Return what takes native steps for a network, and the optimizer's state."""
    state = states.TrainingState.fresh(optimizer, net.parameters)
    row = LOSSES[loss]
    known = net._data(examples.X, examples.y, row, weights, net.inputs)
    job = jobs.Job(net.layout, net.parameters, row, known, None, (), batch, state, "native", **job)
    return steppers.NativeStepper(job), state


def take_steps(taken, first, last, number=0, steps=-(-SHAPE.n // BATCH)):
    """Take native steps, counted from the beginning of an epoch, and show what became of all."""
    record = np.zeros((last - 1) // steps + 1, records.RECORD)
    done = taken.run(first, last, number, record)
    assert done.record is record
    taken.show()
    taken.store_moments(taken._job.state.moments)
    return done


def test_every_rule_is_tried_with_a_record_of_its_own():
    assert {type(record).__name__ for record in RULES.values()} == set(OPTIMIZERS)


# Native steps equal reference steps.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("hidden", "last", "loss"), NETWORKS)
def test_ten_steps_are_the_reference_s_ten_steps(hidden, last, loss, dtype):
    shape = fitted(SHAPE, loss)
    net, examples = network(shape, hidden, last, dtype, l2=0.01), data(shape, loss)

    # A gradient that is 0 but for rounding, as of a softmax whose errors have one sign, would
    # otherwise be a step of full length, in a direction that rounding says.
    adam = fn.Adam(0.01, epsilon=1e-4)

    def steps(net):
        losses = []
        for step in range(10):
            rows = np.random.default_rng(step).permutation(SHAPE.n)[: BATCH + step]
            weights = examples.w[rows] if step % 2 else None
            losses.append(
                net.train_on_batch(
                    examples.X[rows], examples.y[rows], loss, adam,
                    sample_weight=weights,
                )
            )  # fmt: skip
        return losses

    (native, losses_n), (expected, losses_r) = on_both(net, steps)
    assert error(native, expected) <= 10 * STEP_TOLERANCE[dtype]
    assert error(losses_n, losses_r) <= 10 * STEP_TOLERANCE[dtype]
    assert error(net.parameters, expected) > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ALL_RULES)
def test_ten_steps_of_every_rule_are_the_reference_s(rule, dtype):
    net, examples = network(SHAPE, "tanh", "softmax", dtype), data(SHAPE, "cross_entropy")

    def steps(net):
        optimizer = ALL_RULES[rule]
        return [net.train_on_batch(examples.X, examples.y, optimizer=optimizer) for _ in range(10)]

    (native, losses_n), (expected, losses_r) = on_both(net, steps)
    assert error(native, expected) <= 10 * STEP_TOLERANCE[dtype]
    assert error(losses_n, losses_r) <= 10 * STEP_TOLERANCE[dtype]
    assert error(net.parameters, expected) > 1e-4


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ALL_RULES)
def test_twenty_epochs_are_the_reference_s(rule, dtype, weighted):
    for last, loss, shuffle in (
        ("softmax", "cross_entropy", True),
        ("sigmoid", "binary_cross_entropy", True),
        ("identity", "mean_squared_error", False),
    ):
        net, examples = network(SHAPE, "tanh", last, dtype, l2=0.01), data(SHAPE, loss)
        weights = examples.w if weighted else None

        def fit(net, loss=loss, examples=examples, weights=weights, shuffle=shuffle):
            return net.fit(
                examples.X, examples.y, loss, ALL_RULES[rule], epochs=20, batch_size=BATCH,
                sample_weight=weights, shuffle=shuffle,
                validation_data=(examples.X[:5], examples.y[:5]),
            )  # fmt: skip

        (native, history_n), (expected, history_r) = on_both(net, fit)
        assert error(native, expected) <= FIT_TOLERANCE[dtype], loss
        for name in ("loss", "val_loss"):
            assert error(history_n[name], history_r[name]) <= FIT_TOLERANCE[dtype], loss
        assert history_n["loss"][-1] < history_n["loss"][0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 2, SHAPE.n - 1, SHAPE.n, 10 * SHAPE.n])
def test_a_batch_of_any_size_is_the_reference_s(batch, dtype):
    net, examples = network(SHAPE, "relu", "softmax", dtype), data(SHAPE, "cross_entropy")

    def fit(net):
        return net.fit(
            examples.X, examples.y, optimizer=fn.SGD(0.05, 0.5), epochs=3, batch_size=batch
        )

    (native, history_n), (expected, history_r) = on_both(net, fit)
    assert error(native, expected) <= FIT_TOLERANCE[dtype]
    assert error(history_n["loss"], history_r["loss"]) <= FIT_TOLERANCE[dtype]
    steps = 3 * -(-SHAPE.n // min(batch, SHAPE.n))
    taken, state = stepper(net, examples, batch=min(batch, SHAPE.n))
    for _ in range(3):
        take_steps(taken, 0, steps // 3, steps=steps // 3)
    assert state.numbers["steps"] == steps


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_training_batch_of_several_chunks_is_the_reference_s(dtype, tuned):
    tuned(chunk_elements=1, smallest_chunk=3)
    net, examples = network(SHAPE, "tanh", "softmax", dtype, l2=0.1), data(SHAPE, "cross_entropy")

    def fit(net):
        return net.fit(examples.X, examples.y, epochs=5, batch_size=BATCH, sample_weight=examples.w)

    (native, history_n), (expected, history_r) = on_both(net, fit)
    assert error(native, expected) <= FIT_TOLERANCE[dtype]
    assert error(history_n["loss"], history_r["loss"]) <= FIT_TOLERANCE[dtype]


# How batches go through: elements of a chunk, its least rows, and the fewest groups.
WAYS = {
    "whole": through(1 << 15, 512, 4),
    "shared chunks": through(1, 4 if JIT else 2, 99),
    "groups": through(1, 4 if JIT else 2, 2),
    # A last batch that is one chunk by itself.
    "groups and a rest": through(1, SHAPE.n % BATCH, 2),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", ["tanh", "softmax"])
def test_every_way_through_a_batch_is_the_reference_s(hidden, dtype, way, tuned):
    tuned(**WAYS[way])
    net, examples = network(SHAPE, hidden, "softmax", dtype, l2=0.1), data(SHAPE, "cross_entropy")

    def work(net):
        gradient = net.loss_and_gradient(examples.X, examples.y, sample_weight=examples.w)
        history = net.fit(
            examples.X, examples.y, epochs=3, batch_size=BATCH, sample_weight=examples.w
        )
        return [*gradient[1], gradient[0], *history["loss"], *net.predict(examples.X).ravel()]

    (native, found), (expected, wanted) = on_both(net, work)
    assert error(native, expected) <= FIT_TOLERANCE[dtype]
    assert error(found, wanted) <= FIT_TOLERANCE[dtype]


# Gradients of a limited length.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_clipped_steps_are_the_reference_s(rule, dtype, way, tuned):
    tuned(**WAYS[way])
    for l2, weighted, limit in ((0.0, False, 0.05), (0.3, True, 0.2), (0.1, False, 1e6)):
        net, examples = (
            network(SHAPE, "tanh", "softmax", dtype, l2=l2),
            data(SHAPE, "cross_entropy"),
        )
        free = net.copy()

        def fit(net, clip=limit, examples=examples, weighted=weighted):
            return net.fit(
                examples.X, examples.y, optimizer=RULES[rule], epochs=3, batch_size=BATCH,
                clip_norm=clip, sample_weight=examples.w if weighted else None,
            )  # fmt: skip

        (native, history_n), (expected, history_r) = on_both(net, fit)
        assert error(native, expected) <= FIT_TOLERANCE[dtype]
        assert error(history_n["loss"], history_r["loss"]) <= FIT_TOLERANCE[dtype]
        fit(free, None)
        apart = error(free.parameters, native)
        # Rprop asks for the gradient's sign alone, which clipping leaves as it is.
        same = limit > 1 or rule == "rprop"
        assert apart <= FIT_TOLERANCE[dtype] if same else apart > FIT_TOLERANCE[dtype]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_is_shortened_to_the_limit_and_keeps_its_direction(dtype, backend, way, tuned):
    tuned(**WAYS[way])
    # Outputs of every width: what stands in the rest of a panel counts for nothing.
    for width in (1, 3, 5, 9, 17, 33, 40) if JIT else (1, 3):
        shape = Shape(SHAPE.n, 4, 2 * width, 3, width)
        net, examples = network(shape, "sigmoid", "identity", dtype, l2=0.5), data(
            shape, "mean_squared_error"
        )  # fmt: skip
        _, gradient = net.loss_and_gradient(examples.X, examples.y, backend=backend)
        norm = float(np.linalg.norm(gradient.astype(float)))
        for limit in (0.3 * norm, 1e-3 * norm, 2 * norm):
            twin = net.copy()
            twin.fit(
                examples.X, examples.y, optimizer=fn.SGD(1.0), epochs=1, batch_size=SHAPE.n,
                shuffle=False, clip_norm=limit, backend=backend,
            )  # fmt: skip
            step = net.parameters.astype(float) - twin.parameters
            wanted = gradient.astype(float) * min(1.0, limit / norm)
            # A step is a small difference of weights.
            close = 4 * np.finfo(dtype).eps * np.abs(net.parameters).max()
            assert np.abs(step - wanted).max() <= close + STEP_TOLERANCE[dtype] * limit


@pytest.mark.filterwarnings("ignore::fastnn.FitWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("dtype", "far"), [("float32", 1e18), ("float64", 1e150)])
def test_a_gradient_whose_squares_overflow_is_clipped_like_any_other(
    dtype, far, backend, way, tuned
):
    """The squares are summed in float64; those of float64 itself have to fit."""
    tuned(**WAYS[way])
    net = fn.Sequential([fn.Dense(SHAPE.m, initializer="zeros")], SHAPE.p, dtype)
    examples = data(SHAPE, "mean_squared_error")
    X = 20 * examples.X
    net.fit(
        X, far * examples.y, optimizer=fn.SGD(1.0), epochs=1, batch_size=SHAPE.n, clip_norm=0.5,
        backend=backend,
    )  # fmt: skip
    assert np.linalg.norm(net.parameters.astype(float)) == pytest.approx(0.5, rel=1e-5)


# Weights of zero.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ALL_RULES)
def test_a_batch_of_zero_weight_takes_no_step(rule, dtype, backend):
    net, examples = network(SHAPE, "tanh", "softmax", dtype, l2=0.1), data(SHAPE, "cross_entropy")
    weights = np.ones(SHAPE.n)
    weights[BATCH : 2 * BATCH] = 0.0
    rows = weights > 0.0
    options = {"optimizer": ALL_RULES[rule], "epochs": 3, "batch_size": BATCH}
    options |= {"shuffle": False, "backend": backend}
    twin = net.copy()
    full = net.fit(examples.X, examples.y, sample_weight=weights, **options)
    less = twin.fit(examples.X[rows], examples.y[rows], sample_weight=weights[rows], **options)
    assert net.parameters.tobytes() == twin.parameters.tobytes()
    assert full["loss"] == less["loss"]


def test_the_report_counts_steps_and_weights():
    net, examples = (
        network(SHAPE, "tanh", "softmax", "float64", l2=0.1),
        data(SHAPE, "cross_entropy"),
    )
    weights = examples.w.copy()
    weights[BATCH : 2 * BATCH] = 0.0
    taken, state = stepper(net, examples, weights=weights)
    expected = [
        net.loss_and_gradient(
            examples.X[:BATCH], examples.y[:BATCH], sample_weight=weights[:BATCH]
        )[0],
        weights[:BATCH].sum(),
    ]
    done = take_steps(taken, 0, 2)
    assert (done.done, done.trouble) == (2, codes.FINE)
    assert state.numbers["steps"] == 1
    (sums,) = done.record
    assert sums["loss_sum"] == pytest.approx(expected[0] * expected[1], rel=1e-12)
    assert sums["weight_sum"] == pytest.approx(expected[1], rel=1e-12)


def test_an_epoch_s_loss_is_the_mean_over_its_examples():
    net, examples = network(SHAPE, "tanh", "softmax", "float64"), data(SHAPE, "cross_entropy")
    # A step so small leaves the weights as they are, so that the batches' losses add up.
    history = net.fit(
        examples.X, examples.y, optimizer=fn.SGD(1e-30), epochs=1, batch_size=BATCH,
        sample_weight=examples.w,
    )  # fmt: skip
    expected = net.evaluate(examples.X, examples.y, sample_weight=examples.w)["loss"]
    assert history["loss"] == pytest.approx([expected], rel=1e-12)


# Trouble.


def regression(dtype):
    """Return a linear network and data whose second batch can be spoilt."""
    net = network(SHAPE, "identity", "identity", dtype)
    return net, data(SHAPE, "mean_squared_error")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("dtype", "far"), [("float32", 1e30), ("float64", 1e200)])
def test_a_loss_that_is_not_finite_stops_before_its_step(rule, dtype, far):
    net, examples = regression(dtype)
    examples.X[BATCH] = far
    twin = net.copy()
    first, state_first = stepper(twin, examples, "mean_squared_error", RULES[rule])
    assert take_steps(first, 0, 1).trouble == codes.FINE
    taken, state = stepper(net, examples, "mean_squared_error", RULES[rule])
    done = take_steps(taken, 0, 3)
    assert (done.done, done.trouble) == (1, codes.LOSS_NOT_FINITE)
    assert net.parameters.tobytes() == twin.parameters.tobytes()
    assert state.moments.tobytes() == state_first.moments.tobytes()
    # The step that went wrong is counted; what a fit goes back to has the count of before.
    assert state.numbers["steps"] == state_first.numbers["steps"] + 1


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_weight_that_overflows_is_reported(nesterov):
    net, examples = regression("float32")
    examples.X[BATCH] = 1e10
    rule = fn.SGD(1e25, momentum=0.5, nesterov=nesterov)
    # A learning rate that is far too large does no harm where there is no error.
    examples.y[:BATCH] = net.predict(examples.X[:BATCH])
    taken, _ = stepper(net, examples, "mean_squared_error", rule)
    take_steps(taken, 0, 1)
    net.parameters[:] = network(SHAPE, "identity", "identity", "float32").parameters
    taken.take()
    done = take_steps(taken, 1, 3)
    assert (done.done, done.trouble) == (0, codes.UPDATE_NOT_FINITE)
    assert not np.isfinite(net.parameters).all()


def test_a_second_moment_that_overflows_is_reported():
    net, examples = regression("float32")
    examples.X[0] = 1e15
    taken, state = stepper(net, examples, "mean_squared_error", fn.Adam(1e-3))
    assert take_steps(taken, 0, 1).trouble == codes.UPDATE_NOT_FINITE
    assert np.isinf(state.moments[1]).any()


# The order of an epoch.

KEYS = [0, 1, 12345, 2**63 - 1, 2**63, 2**64 - 1]


def drawn(key, draw, n):
    """Return a natively drawn order."""
    order = np.full(n, -1, dtype=np.int64)
    draw_order(order, np.array([key, draw], dtype=np.uint64))
    return order


@pytest.mark.parametrize("n", [0, 1, 2, 3, 17, 1000])
@pytest.mark.parametrize("key", KEYS)
def test_the_native_order_is_the_reference_s(key, n):
    for draw in (0, 1, 2, 1000, 2**32):
        order = drawn(key, draw, n)
        assert order.tolist() == reference_draws.permutation(key, draw, n).tolist()
        assert sorted(order) == list(range(n))


def test_the_order_stays_what_it_was_in_the_first_release():
    # Computed from the published splitmix64 constants with Python's own integers.
    assert drawn(42, 0, 10).tolist() == [4, 2, 6, 9, 3, 0, 8, 5, 1, 7]
    assert drawn(2**64 - 1, 7, 10).tolist() == [6, 8, 9, 4, 2, 5, 0, 7, 1, 3]


@pytest.mark.jit
def test_every_order_of_three_is_as_likely():
    orders = [tuple(drawn(key, draw, 3)) for key in range(100) for draw in range(60)]
    counts = {order: orders.count(order) for order in permutations(range(3))}
    assert sum(counts.values()) == 6000
    # Five standard deviations of a count of 6000 with probability 1/6.
    assert all(abs(count - 1000) < 145 for count in counts.values())


def test_keys_and_draws_give_orders_of_their_own():
    orders = {tuple(drawn(key, draw, 20)) for key in KEYS for draw in range(10)}
    assert len(orders) == 10 * len(KEYS)


def test_shuffling_follows_the_drawn_order():
    net, examples = network(SHAPE, "tanh", "softmax", "float64"), data(SHAPE, "cross_entropy")
    key, count = net._streams.order_key, net._streams.drawn
    by_hand = net.copy()
    net.fit(examples.X, examples.y, optimizer=fn.SGD(0.1), epochs=2, batch_size=BATCH)
    for epoch in range(2):
        rows = drawn(key, count + epoch, SHAPE.n)
        by_hand.fit(
            examples.X[rows], examples.y[rows], optimizer=fn.SGD(0.1), epochs=1, batch_size=BATCH,
            shuffle=False,
        )  # fmt: skip
    assert net.parameters.tobytes() == by_hand.parameters.tobytes()


# The same bits, however an epoch is cut.


@pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "shuffled"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_slicing_epochs_changes_no_bits(rule, dtype, shuffle):
    examples = data(SHAPE, "cross_entropy")
    steps = -(-SHAPE.n // BATCH)
    results = []
    for length in (1, 3, steps, steps + 1, 2 * steps, 3 * steps):
        net = network(SHAPE, "relu", "softmax", dtype, l2=0.1)
        taken, state = stepper(
            net, examples, optimizer=RULES[rule], weights=examples.w, shuffle=shuffle, order_key=7
        )
        sums = np.zeros((3, 2))
        for first in range(0, 3 * steps, length):
            last = min(first + length, 3 * steps)
            epoch, within = divmod(first, steps)
            done = take_steps(taken, within, within + last - first, 2 + epoch)
            assert (done.done, done.trouble) == (last - first, codes.FINE)
            sums[epoch : epoch + len(done.record)] += np.column_stack(
                [done.record["loss_sum"], done.record["weight_sum"]]
            )
        results.append((net.parameters.tobytes(), state.moments.tobytes(), state.numbers.tolist()))
        assert state.numbers["steps"] > steps
        np.testing.assert_allclose(sums[:, 1], examples.w.sum())
        if length == 1:
            each = sums
        np.testing.assert_allclose(sums, each, rtol=1e-12)
    assert results == [results[0]] * 6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seconds", [0.0, 1e-5, 1e9])
def test_the_time_of_a_slice_changes_no_bits_of_a_fit(seconds, dtype, tuned):
    examples = data(SHAPE, "cross_entropy")

    def fit():
        net = network(SHAPE, "tanh", "softmax", dtype)
        history = net.fit(examples.X, examples.y, epochs=5, batch_size=2)
        return net.parameters.tobytes(), history["loss"]

    parameters, losses = fit()
    tuned(slice_seconds=seconds)
    again, others = fit()
    assert again == parameters
    assert others == pytest.approx(losses, rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_fit_gives_the_same_bytes_wherever_its_data_lies(dtype):
    examples = data(SHAPE, "cross_entropy")
    results = set()
    for shift in range(4):
        # One element on, X starts at another place of a cache line and of a vector.
        room = np.empty(examples.X.size + shift, dtype)
        X = room[shift:].reshape(examples.X.shape)
        X[:] = examples.X
        net = network(SHAPE, "tanh", "softmax", dtype)
        net.fit(X, examples.y, epochs=5, batch_size=BATCH, sample_weight=examples.w)
        results.add(net.parameters.tobytes())
    assert len(results) == 1


def test_two_fits_go_on_where_one_longer_fit_would_be():
    examples = data(SHAPE, "cross_entropy")
    once, twice = (network(SHAPE, "tanh", "softmax", "float64") for _ in range(2))
    options = {"optimizer": fn.SGD(0.1), "batch_size": BATCH}
    once.fit(examples.X, examples.y, epochs=4, **options)
    for _ in range(2):
        twice.fit(examples.X, examples.y, epochs=2, **options)
    assert once.parameters.tobytes() == twice.parameters.tobytes()


# One engine for every network.


def any_architecture(rng, dtype):
    """Return a random network with data that suits it, in one of the forms that are accepted."""
    last, loss = PAIRS[rng.integers(len(PAIRS))]
    names = list(ACTIVATIONS)
    shape = Shape(*(int(number) for number in rng.integers(1, 40, size=5)))
    shape = fitted(shape, loss)
    layers = [
        fn.Dense(
            int(rng.integers(1, 40)), names[rng.integers(len(names))],
            bias=bool(rng.integers(2)), l2=float(rng.choice([0.0, 0.1])),
        )
        for _ in range(rng.integers(0, 6))
    ]  # fmt: skip
    net = fn.Sequential(
        [*layers, fn.Dense(shape.m, last)], shape.p, dtype, rng=int(rng.integers(9))
    )
    forms = [form for last_, loss_, form in TARGETS if (last_, loss_) == (last, loss)]
    examples = data(shape, loss, forms[rng.integers(len(forms))], seed=int(rng.integers(100)))
    examples.loss = loss
    X = examples.X
    frozen = X.astype(dtype)
    frozen.flags.writeable = False
    wide = np.repeat(X.astype(dtype), 2, axis=1)
    kinds = [X, X.tolist(), frozen, wide[:, ::2], np.asfortranarray(X), X.astype(dtype), X[::-1]]
    examples.X = kinds[rng.integers(len(kinds))]
    if rng.integers(2):
        examples.w = None
    return net, examples


def use_everything(net, examples, rng):
    """Call all that reaches native code."""
    X, y, loss, w = examples.X, examples.y, examples.loss, examples.w
    rules = list(ALL_RULES.values())
    net.predict(X)
    net.predict(X, out=np.empty((len(X), net.outputs), net.dtype))
    net(np.ones(net.inputs, net.dtype))
    net(np.ones((2, net.inputs), net.dtype))
    net.hidden(X, 0)
    net.evaluate(X, y, loss, sample_weight=w)
    net.trace(X, y, loss)
    net.loss_and_gradient(X, y, loss, sample_weight=w)
    net.train_on_batch(X, y, loss, rules[rng.integers(len(rules))], sample_weight=w)
    net.fit(
        X, y, loss, rules[rng.integers(len(rules))], epochs=2, sample_weight=w,
        batch_size=int(rng.integers(1, 50)), shuffle=bool(rng.integers(2)),
        validation_data=(X, y),
    )  # fmt: skip
    net.copy().predict(X)


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_second_architecture_compiles_nothing_and_loads_nothing(dtype):
    rng = np.random.default_rng(11)
    use_everything(*any_architecture(rng, dtype), rng)
    network(SHAPE, "tanh", "softmax", dtype).fit([[0.0] * SHAPE.p], [0], epochs=1)
    entries = engine, load, store, answer, draw_order
    known = [list(entry.signatures) for entry in entries]
    fetched = [
        (sum(e.stats.cache_hits.values()), sum(e.stats.cache_misses.values())) for e in entries
    ]
    with install_recorder("numba:compile") as compiled:
        for _ in range(50):
            use_everything(*any_architecture(rng, dtype), rng)
    assert compiled.buffer == []
    assert [list(entry.signatures) for entry in entries] == known
    assert fetched == [
        (sum(e.stats.cache_hits.values()), sum(e.stats.cache_misses.values())) for e in entries
    ]
    # The parameters' dtype tells the signatures apart; one order, if any, serves both.
    for each, place in HOLDERS.items():
        dtypes = [str(signature[place].dtype) for signature in each.signatures]
        # Networks with layers of other kinds have an engine of their own.
        full = [each is engine and str(signature[-1]) != "none" for signature in each.signatures]
        kinds = list(zip(dtypes, full, strict=True))
        assert len(kinds) == len(set(kinds)) <= len(DTYPES) * len(set(full))
        assert (dtype, False) in kinds
    assert len(draw_order.signatures) <= 1


# Nothing is allocated inside.

COUNTING = """
import numpy as np
from numba.core.runtime import rtsys

from dataclasses import replace

import fastnn as fn
from fastnn.kernels import codes, records
from fastnn.kernels.order import draw_order
from fastnn.kernels.answers import answer
from fastnn.losses import LOSSES
from fastnn.fitting.runs import Run
from fastnn.predicting.predictor import Table
from fastnn.fitting.states import TrainingState
from fastnn.fitting.jobs import Job
from fastnn.fitting.steppers import NativeStepper
from fastnn.tuning import tuning

# Not even a handle for an array that Python hands over: kernels count no references.
nothing = 0, 0
n, dtype = 500, "{dtype}"
rng = np.random.default_rng(0)
layers = [fn.Dense(20, name, l2=0.1) for name in {names}]
net = fn.Sequential([*layers, fn.Dense(4, "softmax")], 7, dtype)
net.parameters[:] *= 0.1
row = LOSSES["cross_entropy"]
data = net._data(rng.normal(size=(n, 7)), rng.integers(0, 4, n), row, rng.random(n), 7)


def counted(call, *arguments):
    before = rtsys.get_allocation_stats()
    call(*arguments)
    after = rtsys.get_allocation_stats()
    assert after.alloc - before.alloc == after.free - before.free
    assert after.mi_alloc - before.mi_alloc == after.mi_free - before.mi_free
    return after.alloc - before.alloc, after.mi_alloc - before.mi_alloc


for optimizer, clip, size in (
    (fn.SGD(0.1, 0.5), None, 3), (fn.Adam(), 0.1, 3), (fn.Adam(), None, 400), (fn.Adam(), 0.1, 400),
    (fn.RMSprop(), None, 3), (fn.Nadam(), None, 3), (fn.Rprop(1e-5), None, 3),
):
    state = TrainingState.fresh(optimizer, net.parameters)
    # A batch of 400 goes through in chunks of 17, in groups.
    job = Job(net.layout, net.parameters, row, data, None, (), size, state, "native")
    job = replace(job, shuffle=True, clip_norm=clip)
    with tuning(**dict(chunk_elements=1, smallest_chunk=17) if size > 3 else dict()):
        steps, record = NativeStepper(job), np.zeros(3, records.RECORD)
    steps.run(0, 1, 0, record)
    assert counted(steps.run, 0, 1, 0, record) == nothing
    last = 3 * job.steps
    assert counted(steps.run, 0, last, 0, record) == nothing
    assert state.numbers["steps"] == 2 + last
    assert counted(steps._run.load, net.parameters) == nothing
    assert counted(steps._run.store, net.parameters) == nothing

whole = Run(net.layout.blocks, net.dtype, data, row, gradient=True)
for mode in (codes.FORWARD, codes.LOSS, codes.GRADIENT):
    assert counted(whole, mode) == nothing

table = Table.of(net.layout.blocks, net.dtype)
for rows in (1, 50):
    x, out = np.zeros(7 * rows, dtype), np.zeros(4 * rows, dtype)
    room = np.zeros(table.room, dtype)
    assert counted(answer, table.rows, table.plan.copy(), net.parameters, room, x, out) == nothing

draw = np.zeros(2, np.uint64)
assert counted(draw_order, np.zeros(1000, np.int64), draw) == nothing
print("counted")
"""


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_engine_allocates_nothing(dtype):
    # Sums of twenty growing numbers, in a hidden layer, make it diverge.
    names = [name for name in ACTIVATIONS if name != "increasing"]
    done = subprocess.run(
        [sys.executable, "-c", COUNTING.format(dtype=dtype, names=names)],
        env={**os.environ, "NUMBA_NRT_STATS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip() == "counted", done.stderr
