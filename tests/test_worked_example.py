"""The textbook's worked example, number by number: 2 inputs, 2 sigmoid units, 1 sigmoid output.

The textbook prints three or four digits and goes on with the rounded figures, so that some of
its later ones are off by a unit in the last place.  Those places are listed in ROUNDED, each with
the way in which the textbook came to it; everything else must be equal to the printed digits.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastnn as fn

X, Y = [[0.5, 0.2]], [1]

# The textbook's W is our W.T: it has one row a unit, we have one column a unit.
W1 = [[0.1, 0.8], [0.4, 0.6]]
B1 = [0.3, 0.9]
W2 = [[0.3], [0.7]]
B2 = [0.5]

# What the textbook prints, in our orientation, with the unit of its last digit.
PRINTED = {
    "Z0": ([[0.43, 1.42]], 1e-2),
    "A0": ([[0.606, 0.805]], 1e-3),
    "Z1": ([[1.244]], 1e-3),
    "A1": ([[0.776]], 1e-3),
    "loss": (0.253, 1e-3),
    "dZ1": ([[-0.224]], 1e-3),
    "dW1": ([[-0.136], [-0.180]], 1e-3),
    "db1": ([-0.224], 1e-3),
    "dZ0": ([[-0.0161, -0.0246]], 1e-4),
    "dW0": ([[-0.0080, -0.0123], [-0.0032, -0.0049]], 1e-4),
    "db0": ([-0.0161, -0.0246], 1e-4),
}

# Where the printed figure is not the rounded true one: the true one, with its last digit's unit.
ROUNDED = {
    "Z1": ([[1.24550]], 1e-5),  # printed 1.244; even 0.3 * 0.606 + 0.7 * 0.805 + 0.5 is 1.2453
    "A1": ([[0.776520]], 1e-6),  # printed 0.776 = sigmoid(1.244)
    "dZ1": ([[-0.223480]], 1e-6),  # printed -0.224 = 0.776 - 1
    "db1": ([-0.223480], 1e-6),  # the same
    "dW1": ([[-0.135401], [-0.179977]], 1e-6),  # printed -0.136 = -0.224 * 0.606; -0.180 holds
    "dZ0": ([[-0.0160095, -0.0245243]], 1e-7),  # printed -0.0161 = -0.0672 * 0.239, and alike
    "db0": ([-0.0160095, -0.0245243], 1e-7),  # the same
}

BACKENDS = ("native", "reference")
DTYPES = ("float32", "float64")


def textbook_network(dtype):
    layers = [fn.Dense(2, activation="sigmoid"), fn.Dense(1, activation="sigmoid")]
    net = fn.Sequential(layers, inputs=2, dtype=dtype)
    net.set_weights([W1, B1, W2, B2])
    return net


def by_hand():
    """Every intermediate in Python's own floats, straight from the textbook's equations."""

    def sigmoid(z):
        return 1 / (1 + math.exp(-z))

    x = X[0]
    z0 = [sum(W1[i][j] * x[i] for i in range(2)) + B1[j] for j in range(2)]
    a0 = [sigmoid(z) for z in z0]
    z1 = sum(W2[j][0] * a0[j] for j in range(2)) + B2[0]
    a1 = sigmoid(z1)
    dz1 = a1 - 1
    dz0 = [W2[j][0] * dz1 * a0[j] * (1 - a0[j]) for j in range(2)]
    return {
        "Z0": [z0],
        "A0": [a0],
        "Z1": [[z1]],
        "A1": [[a1]],
        "loss": -math.log(a1),
        "dZ1": [[dz1]],
        "dW1": [[dz1 * a] for a in a0],
        "db1": [dz1],
        "dZ0": [dz0],
        "dW0": [[d * value for d in dz0] for value in x],
        "db0": dz0,
    }


def traced(net, backend):
    t = net.trace(X, Y, backend=backend)
    found = {"loss": t.loss}
    for name in ("Z", "A", "dZ", "dW", "db"):
        assert len(getattr(t, name)) == 2
        found |= {f"{name}{layer}": array for layer, array in enumerate(getattr(t, name))}
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_intermediate_is_the_textbooks(backend, dtype):
    found = traced(textbook_network(dtype), backend)
    assert found.keys() == PRINTED.keys()
    for name, (figure, unit) in (PRINTED | ROUNDED).items():
        # Half a unit of the last digit, which is what rounding can do; the rest is float32's own.
        half = 0.5 * unit * (1 + 1e-3) + 1e-7 * np.abs(figure).max() * (dtype == "float32")
        np.testing.assert_allclose(found[name], figure, rtol=0, atol=half, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_intermediate_is_that_of_the_equations(backend, dtype):
    found, hand = traced(textbook_network(dtype), backend), by_hand()
    tolerance = {"float32": 1e-6, "float64": 1e-14}[dtype]
    assert found.keys() == hand.keys()
    for name, expected in hand.items():
        assert np.shape(found[name]) == np.shape(expected), name
        np.testing.assert_allclose(found[name], expected, rtol=tolerance, err_msg=name)
        if name != "loss":
            assert found[name].dtype == dtype, name
    assert isinstance(found["loss"], float)


def test_the_printed_figures_that_differ_come_from_rounding_on_the_way():
    """Going on with the textbook's own rounded figures gives what it prints."""

    def sigmoid(z):
        return 1 / (1 + math.exp(-z))

    a0, z1 = PRINTED["A0"][0][0], PRINTED["Z1"][0][0][0]
    a1 = round(sigmoid(z1), 3)
    assert [[a1]] == PRINTED["A1"][0]
    dz1 = round(a1 - 1, 3)
    assert [[dz1]] == PRINTED["dZ1"][0]
    assert [[round(dz1 * a, 3)] for a in a0] == PRINTED["dW1"][0]
    slope = [round(a * (1 - a), 3) for a in a0]
    assert slope == [0.239, 0.157]
    back = [round(w[0] * dz1, 4) for w in W2]
    assert back == [-0.0672, -0.1568]
    assert [[round(d * s, 4) for d, s in zip(back, slope, strict=True)]] == PRINTED["dZ0"][0]
    # The output's Z is the one figure that no rounding on the way explains: it is 1.2453 even so.
    assert round(0.3 * a0[0] + 0.7 * a0[1] + 0.5, 4) == 1.2453
    # Cut off, not rounded: -log(0.776) is 0.2536, where the true loss, 0.2529, rounds to 0.253.
    assert math.floor(-1000 * math.log(a1)) == 253
    for name, (true, _) in ROUNDED.items():
        printed, unit = PRINTED[name]
        off = np.abs(np.array(printed) - true).max()
        assert 0.5 * unit < off < 1.6 * unit, name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", ["fit", "train_on_batch"])
def test_an_update_moves_every_parameter_by_minus_eta_times_its_gradient(how, backend, dtype):
    eta = 0.5
    net, hand = textbook_network(dtype), by_hand()
    start = net.get_weights()
    if how == "fit":
        history = net.fit(X, Y, optimizer=fn.SGD(eta), epochs=1, backend=backend)
        loss = history["loss"][0]
    else:
        loss = net.train_on_batch(X, Y, optimizer=fn.SGD(eta), backend=backend)
    assert loss == pytest.approx(hand["loss"], rel=1e-6)
    tolerance = {"float32": 1e-7, "float64": 1e-15}[dtype]
    for before, after, name in zip(
        start, net.get_weights(), ("dW0", "db0", "dW1", "db1"), strict=True
    ):
        moved = before.astype(np.float64) - eta * np.array(hand[name])
        np.testing.assert_allclose(after, moved, rtol=0, atol=tolerance, err_msg=name)
        assert (after > before).all(), "every gradient of the example is negative"


@pytest.mark.parametrize("backend", BACKENDS)
def test_repeating_the_steps_improves_the_prediction(backend):
    net = textbook_network("float64")
    losses = [net.train_on_batch(X, Y, optimizer=fn.SGD(0.5), backend=backend) for _ in range(50)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.1 * losses[0]
    assert net.predict(X)[0, 0] > 0.97


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_for_training_is_the_traced_one_and_the_loss_the_same(backend):
    net = textbook_network("float64")
    t = net.trace(X, Y, backend=backend)
    loss, gradient = net.loss_and_gradient(X, Y, backend=backend)
    flat = np.concatenate([t.dW[0].ravel(), t.db[0], t.dW[1].ravel(), t.db[1]])
    assert loss == t.loss == net.evaluate(X, Y, backend=backend)["loss"]
    np.testing.assert_allclose(gradient, flat, rtol=1e-15)
    np.testing.assert_array_equal(t.A[-1], net.predict(X, backend=backend))
