"""Single calls that keep what they planned: the bits of calls that plan anew, and nothing else."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref

import numba
import numpy as np
import pytest
from scipy.optimize import minimize

import fastnn as fn
from fastnn.fitting import kept, states
from fastnn.kernels import once

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1000, 7))
Y = np.sin(X[:, :2])
CLASSES = RNG.integers(0, 3, size=1000)
WEIGHTS = RNG.uniform(size=1000)
ROWS = [1, 2, 3, 32, 33, 500, 512, 513, 700, 1000]

NETWORKS = {
    "regression": (lambda: [fn.Dense(19, "gelu", l2=0.1), fn.Dropout(0.3), fn.Dense(2)], Y),
    "wide": (lambda: [fn.Dense(200, "relu"), fn.Dense(70, "tanh"), fn.Dense(2)], Y),
    "classes": (lambda: [fn.Dense(33, "relu"), fn.Dense(3, "softmax")], CLASSES),
}
OPTIMIZERS = [fn.Adam(0.01), fn.SGD(0.1), fn.SGD(0.1, momentum=0.9), fn.RMSprop(1e-3)]


def network(case="regression", dtype="float32"):
    return fn.Sequential(NETWORKS[case][0](), inputs=7, dtype=dtype, rng=3)


def anew(net):
    """A copy, which keeps nothing yet."""
    return net.copy()


def same(one, other):
    """Tell whether two networks are alike to the last bit, moments and counts included."""
    return (
        one.parameters.tobytes() == other.parameters.tobytes()
        and one._state.moments.tobytes() == other._state.moments.tobytes()
        and one._state.numbers.tobytes() == other._state.numbers.tobytes()
        and one._streams == other._streams
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", NETWORKS)
@pytest.mark.parametrize("weighted", [False, True])
def test_kept_plans_change_no_bit(case, dtype, weighted):
    net, y = network(case, dtype), NETWORKS[case][1]
    for turn in range(2):
        for place, rows in enumerate(ROWS):
            optimizer = OPTIMIZERS[(place + turn) % 4 if turn else 0]
            more = {"sample_weight": WEIGHTS[:rows]} if weighted else {}
            batch = X[:rows], y[:rows]
            row, data, path = net._asked(*batch, "auto", more.get("sample_weight"), None)
            asked = net.layout, net.parameters, row, data
            assert net.evaluate(*batch, **more)["loss"] == path.mean_loss(*asked)()
            loss, gradient = net.loss_and_gradient(*batch, **more)
            expected = path.slope(*asked)()
            assert loss == expected[0]
            assert gradient.tobytes() == expected[1].tobytes()
            twin = anew(net)
            state = None if twin._state is None else twin._state.continued(optimizer)
            if state is None:
                state = states.TrainingState.fresh(optimizer, twin.parameters)
            value, parameters, after = twin._single_step(row, data, state, path)
            assert net.train_on_batch(*batch, optimizer=optimizer, **more) == value
            twin.parameters, twin._state = parameters, after
            twin._streams.steps += 1
            assert same(net, twin)


def test_a_change_of_the_parameters_is_seen_by_every_call():
    net = network()
    for _ in range(3):
        net.parameters[:] = RNG.normal(size=net.parameters.size) / 9
        twin = anew(net)
        for ask in (
            lambda each: each.evaluate(X[:9], Y[:9])["loss"],
            lambda each: each.loss_and_gradient(X[:9], Y[:9])[1].tolist(),
            lambda each: each.train_on_batch(X[:9], Y[:9]),
        ):
            assert ask(net) == ask(twin)


def test_a_change_of_loss_optimizer_or_threads_is_planned_anew():
    net = network()
    for loss in ("mean_squared_error", "huber", fn.Huber(0.3), fn.Huber(3.0), "log_cosh"):
        for optimizer in OPTIMIZERS:
            twin = anew(net)
            for each in (twin, net):
                each.train_on_batch(X[:40], Y[:40], loss, optimizer)
            assert same(net, twin)
            given = X[:40], Y[:40], loss
            assert net.evaluate(*given) == anew(net).evaluate(*given)
            fn.set_threads(1 if fn.machine.threads.ceiling() > 1 else None)
    fn.set_threads(None)


def test_few_plans_are_kept_and_no_examples():
    net = network()
    data = X[:5].astype(np.float32)
    gone = weakref.ref(data)
    net.train_on_batch(data, Y[:5])
    net.evaluate(data, Y[:5])
    net.loss_and_gradient(data, Y[:5])
    del data
    gc.collect()
    assert gone() is None
    for rows in range(600, 640):
        net.evaluate(X[:rows], Y[:rows])
        net.train_on_batch(X[:rows], Y[:rows])
    assert len(net._plans._runs) <= kept._KINDS
    assert len(net._plans._steps) <= kept._KINDS
    for twin in (net.copy(), copy.copy(net), pickle.loads(pickle.dumps(net))):
        assert twin._plans is None


def test_several_threads_may_ask_at_once():
    net, found = network("wide"), []
    expected = {rows: net.loss_and_gradient(X[:rows], Y[:rows]) for rows in ROWS}
    losses = {rows: net.evaluate(X[:rows], Y[:rows]) for rows in ROWS}

    def ask(seed):
        for rows in np.random.default_rng(seed).choice(ROWS, 60):
            loss, gradient = net.loss_and_gradient(X[:rows], Y[:rows])
            fine = loss == expected[rows][0] and gradient.tobytes() == expected[rows][1].tobytes()
            found.append(fine and net.evaluate(X[:rows], Y[:rows]) == losses[rows])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 240
    assert all(found)


def test_a_diverging_step_leaves_no_trace_in_what_is_kept():
    net = network()
    net.train_on_batch(X[:9], Y[:9])
    twin = anew(net)
    with pytest.raises(fn.DivergenceError):
        net.train_on_batch(1e30 * X[:9], 1e30 * Y[:9])
    for each in (net, twin):
        each.train_on_batch(X[:9], Y[:9])
    assert same(net, twin)


# An objective.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", NETWORKS)
@pytest.mark.parametrize("rows", [1, 33, 700])
def test_an_objective_is_the_loss_and_gradient_of_a_network_of_these_parameters(case, dtype, rows):
    net, y = network(case, dtype), NETWORKS[case][1]
    f = net.objective(X[:rows], y[:rows], sample_weight=WEIGHTS[:rows])
    before = net.parameters.copy()
    for _ in range(3):
        vector = RNG.normal(size=before.size) / 5
        loss, gradient = f(vector)
        twin = net.copy()
        twin.parameters = vector
        expected = twin.loss_and_gradient(X[:rows], y[:rows], sample_weight=WEIGHTS[:rows])
        assert loss == expected[0]
        assert gradient.tobytes() == expected[1].tobytes()
        assert gradient.dtype == net.dtype
    np.testing.assert_array_equal(net.parameters, before)


def test_an_objective_s_gradient_is_that_of_central_differences():
    net = network(dtype="float64")
    f = net.objective(X[:30], Y[:30])
    at = net.parameters.copy()
    _, gradient = f(at)
    for place in RNG.choice(at.size, 12):
        step = np.zeros(at.size)
        step[place] = 1e-6
        slope = (f(at + step)[0] - f(at - step)[0]) / 2e-6
        assert slope == pytest.approx(gradient[place], rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_an_objective_goes_straight_into_scipy(dtype, backend):
    net = network(dtype=dtype)
    f = net.objective(X[:60], Y[:60], backend=backend)
    result = minimize(f, net.parameters, jac=True, method="L-BFGS-B", options={"maxiter": 25})
    assert result.fun < 0.5 * f(net.parameters)[0]
    net.parameters = result.x
    assert net.loss_and_gradient(X[:60], Y[:60])[0] == pytest.approx(result.fun, rel=1e-5)


def test_an_objective_is_deaf_to_its_examples_and_keeps_its_hands_off_the_vector():
    net, given, wanted = network(), X[:20].astype(np.float32), Y[:20].astype(np.float32)
    f = net.objective(given, wanted)
    vector = net.parameters.copy()
    vector.flags.writeable = False
    loss, gradient = f(vector)
    given[:], wanted[:] = 0, 9
    again = f(vector)
    assert again[0] == loss
    assert again[1] is not gradient
    np.testing.assert_array_equal(again[1], gradient)
    np.testing.assert_array_equal(vector, net.parameters)
    for form in (vector.tolist(), np.repeat(vector, 2)[::2], vector.astype(np.float64)):
        assert f(form)[0] == loss
    assert pickle.loads(pickle.dumps(f))(vector)[0] == loss


def test_an_objective_of_numbers_that_overflow_is_not_finite_and_no_error():
    net = network()
    f = net.objective(X[:20], Y[:20])
    for value in (np.nan, np.inf, 1e300):
        loss, gradient = f(np.full(net.parameters.size, value))
        assert not np.isfinite(loss)
        assert gradient.shape == net.parameters.shape
    assert np.isfinite(f(net.parameters)[0])


@pytest.mark.parametrize(
    ("vector", "kind", "expected"),
    [
        (np.zeros(3), ValueError, r"vector must have shape \(192,\), as the network's parameters"),
        (np.zeros((192, 1)), ValueError, r"got shape \(192, 1\)\."),
        (1.0, ValueError, r"got shape \(\)\."),
        ("abc", TypeError, r"vector must be a vector of real numbers; got 'abc' \(str\)\."),
        (None, TypeError, r"got None\."),
        (np.zeros(192, complex), TypeError, r"vector must be a vector of real numbers; got "),
        ([[1], [2, 3]], TypeError, r"vector must be a vector of real numbers; got "),
    ],
)
def test_what_is_no_vector_of_parameters_is_refused(vector, kind, expected):
    net = network()
    assert net.parameters.size == 192
    with pytest.raises(kind, match=expected):
        net.objective(X[:2], Y[:2])(vector)


def test_several_threads_may_call_one_objective():
    net, found = network("wide"), []
    f = net.objective(X[:100], Y[:100])
    vectors = RNG.normal(size=(8, net.parameters.size)) / 9
    expected = [f(vector)[1].tobytes() for vector in vectors]

    def ask():
        for _ in range(10):
            found.extend(
                f(vector)[1].tobytes() == right
                for vector, right in zip(vectors, expected, strict=True)
            )

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 320
    assert all(found)


# One compiled call.


def calls(net):
    """All that single calls of a network planned, once each was made twice."""
    found = [call for kept in net._plans._runs.values() for call in kept]
    return [*found, *(step._call for step in net._plans._steps.values())]


SHORT = {
    "numbers": (lambda: [fn.Dense(9, "tanh"), fn.Dense(2)], "auto", Y),
    "a column": (lambda: [fn.Dense(9, "tanh"), fn.Dense(1)], "auto", Y[:, 0]),
    "counts": (lambda: [fn.Dense(9), fn.Dense(2, "exp")], "poisson", np.floor(3 + Y)),
    "probabilities": (lambda: [fn.Dense(2, "sigmoid")], "auto", (Y > 0) * 1.0),
    "classes": (lambda: [fn.Dense(9, "relu"), fn.Dense(3, "softmax")], "auto", CLASSES),
    "dropout": (lambda: [fn.Dense(9, "relu"), fn.Dropout(0.4), fn.Dense(2)], "auto", Y),
}


def examples(case, dtype, rows):
    """Arrays that a single call takes as they lie, and a network and loss for them."""
    layers, loss, y = SHORT[case]
    net = fn.Sequential(layers(), inputs=7, dtype=dtype, rng=3)
    y = y[:rows].copy() if case == "classes" else y[:rows].astype(dtype)
    return net, X[:rows].astype(dtype), y, loss


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="there is no compiled code")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", SHORT)
@pytest.mark.parametrize("rows", [1, 5, 33])
def test_a_compiled_call_has_the_bits_of_the_long_way(case, dtype, rows, monkeypatch):
    net, x, y, loss = examples(case, dtype, rows)
    twin = net.copy()
    found, expected = [], []
    for _ in range(3):
        value = net.train_on_batch(x, y, loss)
        found.append((value, net.evaluate(x, y, loss), net.loss_and_gradient(x, y, loss)))
    made = calls(net)
    assert len(made) == 3
    assert all(call._once[0] is once.once for call in made)
    # Lists have to be led through the gate; and no call finds its machine code.
    monkeypatch.setattr(once, "address_of", lambda *_: 0)
    for _ in range(3):
        value = twin.train_on_batch(x.tolist(), y.tolist(), loss)
        asked = x.tolist(), y.tolist(), loss
        expected.append((value, twin.evaluate(*asked), twin.loss_and_gradient(*asked)))
    assert not any(call._once[0] is once.once for call in calls(twin))
    for (value, mean, (total, slope)), (right, right_mean, (whole, gradient)) in zip(
        found, expected, strict=True
    ):
        assert (value, mean, total) == (right, right_mean, whole)
        assert slope.tobytes() == gradient.tobytes()
    assert same(net, twin)


@pytest.mark.parametrize("place", ["X", "y"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name_also_where_calls_repeat(place, value):
    net, x, y, _ = examples("numbers", "float32", 5)
    for ask in (net.train_on_batch, net.evaluate, net.loss_and_gradient):
        ask(x, y)
        ask(x, y)
    before = net.copy()
    bad = {"X": x.copy(), "y": y.copy()}
    bad[place][3, 1] = value
    for ask in (net.train_on_batch, net.evaluate, net.loss_and_gradient):
        with pytest.raises(ValueError, match=rf"^{place} has .* at row 3, column 1"):
            ask(bad["X"], bad["y"])
    assert same(net, before)
    with pytest.raises(ValueError, match=r"^X has "):
        net.predict(np.full((1, 7), value, np.float32))


@pytest.mark.parametrize(
    ("case", "value", "expected"),
    [
        ("counts", -1, r"y has -1\.0 at row 0, column 0, but each target must be a count"),
        ("probabilities", 1.5, r"y has 1\.5 at row 0, column 0, but each target must be a prob"),
        ("probabilities", -0.5, r"y has -0\.5 at row 0, column 0, but each target must be a prob"),
        ("classes", 3, r"y has label 3 at row 0, but labels must be integers from 0 to 2"),
        ("classes", -1, r"y has label -1 at row 0, but labels must be integers from 0 to 2"),
    ],
)
def test_targets_out_of_their_range_are_refused_also_where_calls_repeat(case, value, expected):
    net, x, y, loss = examples(case, "float32", 5)
    asking = net.train_on_batch, net.evaluate, net.loss_and_gradient
    for ask in asking:
        ask(x, y, loss)
        ask(x, y, loss)
    y.flat[0] = value
    for ask in asking:
        with pytest.raises(ValueError, match=expected):
            ask(x, y, loss)


def test_arrays_of_any_layout_give_the_same_and_are_left_as_they_are():
    net, x, y, _ = examples("numbers", "float32", 33)
    wanted = net.loss_and_gradient(x, y), net.evaluate(x, y), net.predict(x)
    locked = x.copy()
    locked.flags.writeable = False
    for form in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], locked, x.astype(">f4")):
        before, flags = form.copy(), str(form.flags)
        for _ in range(2):
            loss, gradient = net.loss_and_gradient(form, np.asfortranarray(y))
            assert loss == wanted[0][0]
            assert gradient.tobytes() == wanted[0][1].tobytes()
            assert net.evaluate(form, y) == wanted[1]
            assert net.predict(form).tobytes() == wanted[2].tobytes()
        np.testing.assert_array_equal(form, before)
        assert str(form.flags) == flags


def test_calls_of_fewer_and_more_rows_share_one_plan_without_its_examples():
    net, x, y, _ = examples("classes", "float32", 33)
    expected = [anew(net).loss_and_gradient(x[:rows], y[:rows])[0] for rows in range(1, 34)]
    for _ in range(2):
        found = [net.loss_and_gradient(x[:rows], y[:rows])[0] for rows in range(1, 34)]
        assert found == expected
