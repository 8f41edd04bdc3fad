"""A gradient that is given is applied as the one that a step computes."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from cases import DTYPES

import fastnn as fn
from fastnn.fitting import kept, updates
from fastnn.fitting.steppers import NativeStepper, ReferenceStepper
from fastnn.optimizers import OPTIMIZERS
from fastnn.tuning import tuning

BACKENDS = ("native", "reference")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 5))
Y = RNG.normal(size=(23, 3))


def network(dtype="float32", **more):
    """Return a network with L2, a layer of spans and a frozen one."""
    frozen = fn.Dense(7, "tanh", trainable=False)
    layers = [fn.Dense(9, "tanh", l2=0.1), fn.LayerNorm(), frozen, fn.Dense(3, l2=0.2)]
    return fn.Sequential(layers, inputs=5, dtype=dtype, rng=0, **more)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_what_a_step_does(name, backend, dtype):
    one, two = network(dtype), network(dtype)
    for _ in range(3):
        loss, gradient = one.loss_and_gradient(X, Y, backend=backend)
        assert one.apply_gradient(gradient, name, backend=backend) is None
        assert two.train_on_batch(X, Y, optimizer=name, backend=backend) == pytest.approx(
            loss, rel=1e-5
        )
    if backend == "native":
        assert one.parameters.tobytes() == two.parameters.tobytes()
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(one.parameters, two.parameters, rtol=tolerance, atol=tolerance)
    # The state is one for both.
    gradient = one.loss_and_gradient(X, Y, backend=backend)[1]
    two.apply_gradient(gradient, name, backend=backend)
    one.train_on_batch(X, Y, optimizer=name, backend=backend)
    np.testing.assert_allclose(one.parameters, two.parameters, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_parts_add_up(backend):
    whole, parted = network("float64"), network("float64")
    weights = RNG.uniform(0.5, 2.0, 23)
    for _ in range(4):
        whole.train_on_batch(X, Y, sample_weight=weights, backend=backend)
        total = np.zeros_like(parted.parameters)
        for part in (slice(0, 4), slice(4, 20), slice(20, 23)):
            found = parted.loss_and_gradient(
                X[part], Y[part], sample_weight=weights[part], backend=backend
            )[1]
            total += found * weights[part].sum() / weights.sum()
        parted.apply_gradient(total, backend=backend)
    np.testing.assert_allclose(parted.parameters, whole.parameters, rtol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_its_norm_can_be_limited(backend, dtype):
    nets = [network(dtype) for _ in range(2)]
    moved = np.array(nets[0].loss_and_gradient(X, Y)[1]) != 0
    gradient = np.where(moved, RNG.normal(size=moved.shape), 0.0)
    nets[0].apply_gradient(gradient, fn.SGD(0.1), clip_norm=0.5, backend=backend)
    nets[1].apply_gradient(0.5 * gradient / np.linalg.norm(gradient), fn.SGD(0.1), backend=backend)
    np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_path_that_is_asked_for_takes_the_step(backend, monkeypatch):
    taken = []
    for name, owner, method in (
        ("native", updates.Update, "take"), ("reference", ReferenceStepper, "apply")
    ):  # fmt: skip
        known = getattr(owner, method)

        def noted(self, *arguments, name=name, known=known):
            taken.append(name)
            return known(self, *arguments)

        monkeypatch.setattr(owner, method, noted)
    net = network()
    gradient = np.zeros(net.parameters.size)
    net.apply_gradient(gradient, backend=backend)
    with fn.backend(backend):
        net.apply_gradient(gradient)
    assert taken == [backend] * 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_frozen_stays(backend):
    net = network()
    before = net.weights[1].copy()
    net.apply_gradient(np.ones(net.parameters.size), fn.SGD(0.1), backend=backend)
    assert (net.weights[1] == before).all()
    assert (net.weights[0] != network().weights[0]).all()


@pytest.mark.jit
@pytest.mark.parametrize("widths", [(784, 512, 512, 10), (3, 700, 1), (900, 2, 2)])
def test_a_whole_gradient_has_room_in_networks_of_any_size(widths):
    p, *hidden, m = widths
    layers = [*(fn.Dense(units, "tanh") for units in hidden), fn.Dense(m)]
    one, two = (fn.Sequential(layers, inputs=p, rng=0) for _ in range(2))
    X, y = RNG.normal(size=(8, p)), RNG.normal(size=(8, m))
    for _ in range(3):
        one.apply_gradient(one.loss_and_gradient(X, y)[1])
        two.train_on_batch(X, y)
        assert one.parameters.tobytes() == two.parameters.tobytes()


@pytest.mark.jit
def test_threads_change_no_bit():
    found = []
    gradient = RNG.normal(size=300 * 500 + 500 + 500 * 2 + 2)
    for threads in (1, 2, 5):
        net = fn.Sequential([fn.Dense(500, "relu"), fn.Dense(2)], inputs=300, rng=0)
        fn.set_threads(threads)
        try:
            net.apply_gradient(gradient, clip_norm=3.0)
        finally:
            fn.set_threads(None)
        found.append(net.parameters.tobytes())
    assert len(set(found)) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_that_is_not_finite_is_not_taken(backend):
    net = network()
    net.train_on_batch(X, Y)
    before, state = net.parameters.copy(), net._state
    with pytest.raises(fn.DivergenceError, match="smaller learning rate"):
        net.apply_gradient(np.full(before.size, 1e38), fn.SGD(1e3), backend=backend)
    assert (net.parameters == before).all()
    assert net._state is state


def test_errors_name_the_argument():
    net = network()
    size = net.parameters.size
    for gradient, said in (
        (np.ones(3), r"gradient must have shape \(\d+,\)"),
        (np.full(size, np.nan), "gradient"),
        (["a"] * size, "gradient"),
    ):
        with pytest.raises((TypeError, ValueError), match=said):
            net.apply_gradient(gradient)
    with pytest.raises(ValueError, match="clip_norm"):
        net.apply_gradient(np.ones(size), clip_norm=0.0)
    with pytest.raises((TypeError, ValueError), match="optimizer"):
        net.apply_gradient(np.ones(size), "fast")
    with pytest.raises((TypeError, ValueError)):
        net.apply_gradient(np.ones(size), fn.LBFGS())
    with pytest.raises(ValueError, match="weights"):
        fn.Sequential([fn.Dense(1)]).apply_gradient([1.0])


def test_readers_see_whole_steps():
    net = network()
    gradients = np.full(net.parameters.size, 1.0)
    moving, seen, over = net.weights[0].size, [], threading.Event()

    def read():
        while not over.is_set():
            seen.append(net.copy().weights[0] - start)

    start = net.weights[0].copy()
    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(200):
        net.apply_gradient(gradients, fn.SGD(0.5))
    over.set()
    reader.join()
    assert moving
    for one in seen:
        assert np.ptp(one) < 1e-3


# What is kept from call to call.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_kept_changes_no_bit(name, dtype, monkeypatch):
    """Held against a stepper that is planned anew for every step, other calls in between."""
    one, two = network(dtype), network(dtype)
    gradients = RNG.normal(size=(6, one.parameters.size)).astype(dtype)

    def anew(plans, parameters, state):
        return updates.Update(plans.layout, parameters, state)

    for step, gradient in enumerate(gradients):
        limit = 0.5 if step % 2 else None
        given = gradient.astype("float64") if step == 4 else gradient
        one.apply_gradient(given, name, clip_norm=limit)
        with monkeypatch.context() as patch:
            patch.setattr(kept.Plans, "update", anew)
            two.apply_gradient(gradient, name, clip_norm=limit)
        assert one.parameters.tobytes() == two.parameters.tobytes()
        assert one._state.moments.tobytes() == two._state.moments.tobytes()
        for net in (one, two):
            if step == 1:
                net.train_on_batch(X, Y, optimizer=name)
            if step == 2:
                net.parameters[:] *= 0.5
            if step == 3:
                net.apply_gradient(gradient, fn.SGD(0.1))
                net.evaluate(X, Y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_the_step_of_a_fit_s_stepper(dtype, monkeypatch):
    one, two = network(dtype), network(dtype)
    gradients = RNG.normal(size=(3, one.parameters.size))
    taken, apply = [], NativeStepper.apply

    def noted(self, gradient):
        taken.append(self)
        return apply(self, gradient)

    monkeypatch.setattr(NativeStepper, "apply", noted)
    for gradient in gradients:
        one.apply_gradient(gradient)
    assert taken == []
    # What turns to nothing goes the long way.
    monkeypatch.setattr(updates.Update, "take", lambda *arguments: None)
    for gradient in gradients:
        two.apply_gradient(gradient)
    assert len(taken) == 3
    assert one.parameters.tobytes() == two.parameters.tobytes()


def test_steps_of_one_rule_are_planned_once(monkeypatch):
    planned, begin = [], updates.Update.__init__

    def noted(self, layout, parameters, state):
        planned.append(type(state.optimizer).__name__)
        begin(self, layout, parameters, state)

    monkeypatch.setattr(updates.Update, "__init__", noted)
    net = network()
    gradient = np.ones(net.parameters.size)
    for optimizer in (fn.Adam(), fn.Adam(0.1), fn.SGD(0.1), fn.Adam(), "sgd"):
        net.apply_gradient(gradient, optimizer)
    assert planned == ["Adam", "SGD"]
    # Other figures plan anew; copies share nothing.
    with tuning(groups=8):
        net.apply_gradient(gradient)
    net.copy().apply_gradient(gradient)
    assert planned == ["Adam", "SGD", "Adam", "Adam"]


def check_next_step(net, twin, gradient):
    """Hold the next step of a network against that of another."""
    for one in (net, twin):
        one.apply_gradient(gradient)
    assert net.parameters.tobytes() == twin.parameters.tobytes()


def test_copies_and_a_state_from_before_stay_as_they_were():
    net = network()
    gradient = np.ones(net.parameters.size)
    net.apply_gradient(gradient)
    twin, state = net.copy(), net._state
    moments = state.moments.copy()
    net.apply_gradient(2 * gradient)
    assert (twin._state.moments == moments).all()
    before = net.parameters.tobytes(), net._state.moments.tobytes(), net._streams.steps
    with pytest.raises(fn.DivergenceError, match="smaller learning rate"):
        net.apply_gradient(np.full(gradient.size, 1e38))
    assert (net.parameters.tobytes(), net._state.moments.tobytes(), net._streams.steps) == before
    # A later step is that of a network that never saw the bad one.
    twin.apply_gradient(2 * gradient)
    check_next_step(net, twin, gradient)


def test_a_step_that_is_interrupted_is_not_taken(monkeypatch):
    net, take = network(), updates.Update.take
    gradient = np.ones(net.parameters.size)
    net.apply_gradient(gradient)
    before, twin = net.parameters.tobytes(), net.copy()

    def interrupted(self, *arguments):
        take(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(updates.Update, "take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            net.apply_gradient(gradient)
    assert net.parameters.tobytes() == before
    check_next_step(net, twin, gradient)


def test_one_step_at_a_time_is_taken(monkeypatch):
    net, take = network(), updates.Update.take
    gradient = np.ones(net.parameters.size)

    def meanwhile(self, *arguments):
        with pytest.raises(RuntimeError, match="being fitted already"):
            net.apply_gradient(gradient)
        return take(self, *arguments)

    monkeypatch.setattr(updates.Update, "take", meanwhile)
    net.apply_gradient(gradient)
    assert net._streams.steps == 1


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_given_gradients_go_into_the_engine_of_fits(dtype):
    from fastnn.kernels.epoch import engine

    net = fn.Sequential([fn.Dense(3, "tanh"), fn.Dense(1)], inputs=2, dtype=dtype, rng=0)
    net.fit(np.ones((4, 2)), np.ones(4), epochs=1)
    net.apply_gradient(np.ones(net.parameters.size))
    # By the workspace's dtype, and whether it knows all kinds of layers: compiled once for each.
    kinds = [(str(one[11].dtype), str(one[-1]) != "none") for one in engine.signatures]
    assert len(kinds) == len(set(kinds))
