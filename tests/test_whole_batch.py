"""L-BFGS and Levenberg-Marquardt in a fit: iterations as epochs, and what belongs to a fit."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fn
from fastnn.fitting.least_squares import LeastSquares
from fastnn.losses import resolve_loss
from fastnn.paths import NATIVE

rng = np.random.default_rng(11)
X = rng.standard_normal((120, 3))
Y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2]
SEARCHES = {"lbfgs": fn.LBFGS(), "levenberg_marquardt": fn.LevenbergMarquardt()}
both = pytest.mark.parametrize("name", SEARCHES)


def network(dtype="float64", l2=0.0, hidden=7):
    layers = [fn.Dense(hidden, "tanh", l2=l2), fn.Dense(1)]
    return fn.Sequential(layers, inputs=3, dtype=dtype, rng=0)


@both
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_fall_with_every_iteration(name, dtype):
    net = network(dtype, l2=1e-4)
    start = net.loss_and_gradient(X, Y)[0]
    history = net.fit(X, Y, optimizer=SEARCHES[name], epochs=25)
    losses = history["loss"]
    assert losses[0] == pytest.approx(start, rel=1e-5)
    assert (np.diff(losses) <= 0).all()
    assert losses[-1] < 0.5 * losses[0]
    assert net.loss_and_gradient(X, Y)[0] <= losses[-1] * (1 + 1e-5)
    assert net.parameters.dtype == dtype


@both
def test_both_paths_take_the_same_steps(name):
    found = []
    for backend in ("native", "reference"):
        net = network(l2=1e-3)
        net.fit(X[:40], Y[:40], optimizer=name, epochs=6, backend=backend,
                sample_weight=np.linspace(0.5, 2.0, 40))  # fmt: skip
        found.append(net.parameters)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-8)


@both
def test_cutting_a_fit_with_callbacks_changes_nothing(name):
    alone, watched, seen = network(), network(), []
    plain = alone.fit(X, Y, optimizer=SEARCHES[name], epochs=12)
    history = watched.fit(
        X, Y, optimizer=SEARCHES[name], epochs=12, callbacks=lambda run: seen.append(run.epoch),
        metrics="r2", validation_data=(X[:20], Y[:20]),
    )  # fmt: skip
    assert seen == list(range(1, 13))
    assert history["loss"] == plain["loss"]
    assert (alone.parameters == watched.parameters).all()
    assert history["r2"][-1] == pytest.approx(watched.evaluate(X, Y, metrics="r2")["r2"])
    assert history["val_loss"][-1] == pytest.approx(watched.evaluate(X[:20], Y[:20])["loss"])


@both
def test_a_search_that_is_over_ends_the_fit(name):
    net = network(hidden=2)
    history = net.fit(X, Y, optimizer=SEARCHES[name], epochs=3000)
    assert history.epochs < 3000
    assert "converged" in history.stopped or "no step" in history.stopped
    assert np.abs(net.loss_and_gradient(X, Y)[1]).max() < 1e-2


@both
def test_early_stopping_and_stops_work(name):
    net = network(hidden=30)
    history = net.fit(
        X[:30], Y[:30], optimizer=SEARCHES[name], epochs=400,
        validation_data=(X[30:], Y[30:]), callbacks=fn.EarlyStopping(patience=3),
    )  # fmt: skip
    assert history.epochs < 400
    assert net.evaluate(X[30:], Y[30:])["loss"] == pytest.approx(min(history["val_loss"]))


@both
def test_what_a_callback_writes_is_where_it_goes_on(name):
    net = network()

    moved_to = np.linspace(-0.5, 0.5, net.parameters.size)

    def moved(run):
        if run.epoch == 3:
            run.network.parameters = moved_to

    history = net.fit(X, Y, optimizer=SEARCHES[name], epochs=6, callbacks=moved)
    net.parameters = moved_to
    assert history["loss"][3] == pytest.approx(net.loss_and_gradient(X, Y)[0])
    assert history["loss"][4] < history["loss"][3]


@both
def test_ctrl_c_leaves_the_last_iteration(name):
    net, seen = network(), []

    def press(run):
        seen.append(run.network.parameters.copy())
        if run.epoch == 4:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted after 4 of 50"):
        history = net.fit(X, Y, optimizer=SEARCHES[name], epochs=50, callbacks=press)
    assert history.stopped == "interrupted"
    assert (net.parameters == seen[-1]).all()


@both
def test_threads_leave_the_bits(name):
    found = []
    for threads in (1, 2, 3):
        net = network(hidden=40)
        net.fit(X, Y, optimizer=SEARCHES[name], epochs=5, threads=threads)
        found.append(net.parameters.tobytes())
    assert len(set(found)) == 1


@both
def test_frozen_layers_stay(name):
    net = fn.Sequential(
        [fn.Dense(7, "tanh", trainable=False), fn.Dense(1)], inputs=3, dtype="float64", rng=0
    )
    before = net.parameters.copy()
    history = net.fit(X, Y, optimizer=SEARCHES[name], epochs=10)
    assert (net.parameters[:28] == before[:28]).all()
    assert history["loss"][-1] < history["loss"][0]


@both
def test_what_it_has_no_use_for_is_refused(name):
    one = SEARCHES[name]
    with pytest.raises(ValueError, match="schedule is for optimizers that take steps"):
        network().fit(X, Y, optimizer=one, schedule="cosine")
    with pytest.raises(ValueError, match="clip_norm is for optimizers that take steps"):
        network().fit(X, Y, optimizer=one, clip_norm=1.0)
    dropping = fn.Sequential([fn.Dense(3), fn.Dropout(0.1), fn.Dense(1)], inputs=3)
    with pytest.raises(ValueError, match="needs the same loss at every evaluation"):
        dropping.fit(X, Y, optimizer=one)


def test_squares_are_refused_what_they_do_not_know():
    one = fn.LevenbergMarquardt()
    with pytest.raises(ValueError, match="must be 'mean_squared_error'; got 'huber'"):
        network().fit(X, Y, "huber", optimizer=one)
    normed = fn.Sequential([fn.Dense(3), fn.LayerNorm(), fn.Dense(1)], inputs=3)
    with pytest.raises(ValueError, match="Dense layers only; got LayerNorm"):
        normed.fit(X, Y, optimizer=one)
    with pytest.raises(ValueError, match=r"needs .* bytes for 36 parameters, .* max_memory=10,000"):
        network().fit(X, Y, optimizer=fn.LevenbergMarquardt(max_memory=10_000))
    for wrong in ({"damping": 0.0}, {"tolerance": -1.0}, {"max_memory": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            fn.LevenbergMarquardt(**wrong)
    for wrong in ({"memory": 0}, {"tolerance": -1.0}, {"max_evaluations": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            fn.LBFGS(**wrong)


def test_evaluations_are_limited():
    history = network().fit(X, Y, optimizer=fn.LBFGS(max_evaluations=8), epochs=100)
    assert history.stopped == "max_evaluations=8 reached"
    assert history.epochs <= 8


def test_a_step_is_that_of_the_damped_normal_equations():
    net = network(l2=0.01)
    w = rng.uniform(0.5, 2.0, len(X))
    row = resolve_loss("auto", "identity")
    data = net._data(X, Y, row, w, 3)
    squares = LeastSquares(
        net.layout, net.parameters, row, data, fn.LevenbergMarquardt(1.0), NATIVE
    )
    share = np.sqrt(2 * w / w.sum())
    J = net.parameter_jacobian(X)[:, 0] * share[:, None]
    r = (net.predict(X)[:, 0] - Y) * share
    decay = np.zeros(net.parameters.size)
    decay[:21] = 0.01
    g = net.loss_and_gradient(X, Y, sample_weight=w)[1]
    np.testing.assert_allclose(J.T @ r + decay * net.parameters, g, atol=1e-12)
    damping = np.square(J).sum(axis=0).max()
    wanted = net.parameters - np.linalg.solve(J.T @ J + np.diag(decay + damping), g)
    assert squares.iterate()
    np.testing.assert_allclose(squares.point, wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.jit
@pytest.mark.parametrize("size", [1, 5, 31, 32, 33, 70])
def test_the_normal_equations_are_solved(size):
    from fastnn.kernels._load import load_derivatives

    load_derivatives()
    from fastnn.kernels.codes import FACTORISED as BLOCK
    from fastnn.kernels.normal_equations import add_products, solve_damped

    rows, pitch = 2 * size + 150, -(-(size + 1) // BLOCK) * BLOCK
    J = np.zeros((rows, pitch))
    J[:, :size] = rng.standard_normal((rows, size))
    C, whole = np.zeros((size, pitch)), J[:, :size].T @ J[:, :size]
    for part in (J[:99], J[99:]):
        add_products(np.ascontiguousarray(part[:, :size].T), np.ascontiguousarray(part), C)
    np.testing.assert_allclose(np.tril(C[:, :size]), np.tril(whole), rtol=1e-10, atol=1e-10)
    g, damping = rng.standard_normal(size), rng.uniform(0, 1, size)
    L, room, step = np.empty((size, pitch)), np.empty(size * BLOCK), np.empty(size)
    assert solve_damped(C, damping, g, L, room, step)
    np.testing.assert_allclose(step, np.linalg.solve(whole + np.diag(damping), -g), rtol=1e-8)
    C[size - 1, size - 1] = -1e9
    assert not solve_damped(C, damping, g, L, room, step)


@pytest.mark.parametrize("optimizer", [fn.LBFGS(), fn.LevenbergMarquardt()])
def test_a_search_has_no_state_that_a_fit_could_go_on_from(optimizer, tmp_path):
    net = fn.Sequential([fn.Dense(3, "tanh"), fn.Dense(1)], rng=0)
    X, y = np.eye(4), np.arange(4.0)
    name = type(optimizer).__name__
    with pytest.raises(ValueError, match=f"resume is for optimizers that take steps; {name}"):
        net.fit(X, y, optimizer=optimizer, epochs=2, resume=True)
    keeper = fn.Checkpoint(tmp_path / "kept")
    with pytest.raises(ValueError, match=f"Checkpoint is for optimizers that take steps; {name}"):
        net.fit(X, y, optimizer=optimizer, epochs=2, callbacks=[keeper])
    net.fit(X, y, optimizer=optimizer, epochs=2)
    assert net.fit(X, y, epochs=1, resume=True).epochs == 1
