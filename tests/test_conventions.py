"""Conventions: settings of the engine and of the reference, which must mean the same to both."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from cases import DTYPES, JIT, PAIRS, Shape, data, error, fitted, network

import fastnn as fn
from fastnn import paths
from fastnn.conventions import OWN, Conventions
from fastnn.fitting import jobs, states
from fastnn.kernels import records
from fastnn.losses import LOSSES
from fastnn.tuning import tuning

SHAPE = Shape(37, 5, 9, 3, 3) if JIT else Shape(7, 3, 3, 2, 2)
BATCH = 16 if JIT else 3
THEIRS = Conventions(
    loss_scale=0.5,
    gradient_scale=1.5,
    loss_limit=0.75,
    shared_penalty=True,
    by_examples=True,
    bare_epsilon=True,
)
TOLERANCE = {"float32": 2e-4, "float64": 1e-11}


def job(net, examples, loss, weights, backend, conventions, optimizer):
    """Return what a stepper needs to train a copy of the network's parameters."""
    row = LOSSES[loss]
    parameters = net.parameters.copy()
    known = net._data(examples.X, examples.y, row, None, net.inputs)
    if weights is not None:
        weights = np.asarray(weights, net.dtype)
        weights.flags.writeable = False
        known = type(known)(known.X, known.targets, weights)
    state = states.TrainingState.fresh(optimizer, parameters)
    return jobs.Job(
        net.layout, parameters, row, known, None, (), BATCH, state, paths.asked(backend),
        conventions=conventions,
    )  # fmt: skip


def stepped(*arguments):
    """Return parameters, moments and the report of two epochs, in slices of unequal length."""
    work = job(*arguments)
    stepper = work.path.stepper(work)
    stepper.order[:] = np.random.default_rng(0).permutation(SHAPE.n)
    reports = [
        stepper.run(*steps, 0, np.zeros(1, records.RECORD))
        for steps in ((0, 1), (1, work.steps), (0, work.steps))
    ]
    stepper.show()
    stepper.store_moments(work.state.moments)
    sums = [
        (*(done.record[name][0] for name in ("loss_sum", "weight_sum")), done.trouble)
        for done in reports
    ]
    return work.parameters, work.state.moments, sums


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("last", "loss"), PAIRS)
def test_native_steps_count_as_the_reference_s(last, loss, dtype):
    shape = fitted(SHAPE, loss)
    net, examples = network(shape, "tanh", last, dtype, l2=0.3), data(shape, loss)
    signed = np.where(np.arange(SHAPE.n) % 5 == 0, -0.05, examples.w + 0.2)
    for weights in (None, examples.w, signed):
        for optimizer in (fn.Adam(0.01, epsilon=0.01), fn.SGD(0.01, momentum=0.5)):
            native, expected = (
                stepped(net, examples, loss, weights, backend, THEIRS, optimizer)
                for backend in ("native", "reference")
            )
            assert error(native[0], expected[0]) <= TOLERANCE[dtype]
            assert error(native[1], expected[1]) <= TOLERANCE[dtype]
            assert error(native[2], expected[2]) <= TOLERANCE[dtype]
            own = stepped(net, examples, loss, weights, "native", OWN, optimizer)
            assert error(own[0], expected[0]) > 1e-4


@pytest.mark.parametrize("field", fields(Conventions), ids=lambda field: field.name)
def test_every_setting_counts(field):
    net, examples = network(SHAPE, "tanh", "sigmoid", "float64", l2=0.3), data(SHAPE, PAIRS[0][1])
    examples.y = np.random.default_rng(3).integers(0, 2, (SHAPE.n, SHAPE.m))
    setting = Conventions(**{field.name: getattr(THEIRS, field.name)})
    adam = fn.Adam(0.01, epsilon=0.01)
    own, other = (
        stepped(net, examples, "binary_cross_entropy", examples.w, "native", conventions, adam)
        for conventions in (OWN, setting)
    )
    moved = error(own[0], other[0]) > 1e-9
    told = error(own[2], other[2]) > 1e-9
    assert moved == (field.name in ("gradient_scale", "shared_penalty", "bare_epsilon"))
    assert told


def test_scales_multiply_and_shares_divide():
    net, examples = network(SHAPE, "tanh", "identity", "float64", l2=0.3), data(SHAPE, PAIRS[0][1])
    row = LOSSES["mean_squared_error"]
    known = net._data(examples.X, examples.y, row, examples.w, net.inputs)

    def asked(conventions, layout=net.layout):
        for backend in ("native", "reference"):
            yield paths.asked(backend).slope(layout, net.parameters, row, known, conventions)()

    bare = fn.Sequential([fn.Dense(u, a) for u, a in ((SHAPE.first, "tanh"),
                          (SHAPE.second, "tanh"), (SHAPE.m, "identity"))], SHAPE.p)  # fmt: skip
    scaled = Conventions(loss_scale=0.5, gradient_scale=3.0)
    for own, other in zip(asked(OWN, bare.layout), asked(scaled, bare.layout), strict=True):
        assert other[0] == pytest.approx(0.5 * own[0], rel=1e-12)
        np.testing.assert_allclose(other[1], 3.0 * own[1], rtol=1e-12, atol=1e-15)
    shared = Conventions(shared_penalty=True)
    rows = zip(asked(OWN), asked(shared), asked(OWN, bare.layout), strict=True)
    for own, other, without in rows:
        penalty = own[0] - without[0]
        assert other[0] - without[0] == pytest.approx(penalty / known.total, rel=1e-9)
        np.testing.assert_allclose(
            other[1] - without[1], (own[1] - without[1]) / known.total, rtol=1e-6, atol=1e-12
        )


@pytest.mark.parametrize(("last", "loss"), PAIRS)
def test_losses_and_gradients_count_alike_on_both_paths(last, loss):
    shape = fitted(SHAPE, loss)
    net, examples = network(shape, "tanh", last, "float64", l2=0.3), data(shape, loss)
    row = LOSSES[loss]
    known = net._data(examples.X, examples.y, row, examples.w, net.inputs)
    for ask in ("mean_loss", "slope"):
        found, expected = (
            getattr(path, ask)(net.layout, net.parameters, row, known, THEIRS)()
            for path in (paths.NATIVE, paths.TEXTBOOK)
        )
        if isinstance(found, tuple):
            assert error(found[1], expected[1]) <= 1e-11
            found, expected = found[0], expected[0]
        assert found == pytest.approx(expected, rel=1e-11)


def test_a_mean_loss_follows_the_parameters_whole_and_in_pieces(monkeypatch):
    net, examples = network(SHAPE, "tanh", "identity", "float64"), data(SHAPE, PAIRS[0][1])
    row = LOSSES["mean_squared_error"]
    known = net._data(examples.X, examples.y, row, examples.w, net.inputs)
    asked = net.layout, net.parameters, row, known
    for backend in ("native", "reference"):
        whole = paths.asked(backend).mean_loss(*asked)
        with tuning(call_nanoseconds=1, smallest_call=4):
            pieces = paths.asked(backend).mean_loss(*asked)
        assert len(pieces._parts) > 1
        for _ in range(2):
            expected = net.evaluate(
                examples.X, examples.y, sample_weight=examples.w, backend=backend
            )["loss"]
            assert whole() == expected
            assert pieces() == pytest.approx(expected, rel=1e-13)
            net.parameters[:] *= 1.5


def test_a_slope_follows_the_parameters():
    net, examples = network(SHAPE, "tanh", "identity", "float64"), data(SHAPE, PAIRS[0][1])
    row = LOSSES["mean_squared_error"]
    known = net._data(examples.X, examples.y, row, None, net.inputs)
    for backend in ("native", "reference"):
        slope = paths.asked(backend).slope(net.layout, net.parameters, row, known)
        for _ in range(2):
            value, gradient = slope()
            expected = net.loss_and_gradient(examples.X, examples.y, backend=backend)
            assert value == expected[0]
            assert gradient.tobytes() == expected[1].tobytes()
            net.parameters[:] *= 1.5


def test_numbers_stand_where_the_engine_reads_them():
    plans = np.zeros(2, records.PLAN)
    THEIRS.enter(plans)
    assert plans["loss_limit"].tolist() == [0.75, 0.75]
    assert plans["shared_penalty"].tolist() == [1, 1]
    OWN.enter(plans)
    names = [field.name for field in fields(OWN)]
    assert [plans[name][1] for name in names] == [1.0, 1.0, np.inf, 0, 0, 0]
