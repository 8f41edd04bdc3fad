"""The textbook in NumPy: against calculus, and against the textbook's own figures."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import numpy as np
import pytest

from fastnn import reference as ref
from fastnn.equations import draws
from fastnn.equations import losses as further
from fastnn.equations import optimizers as rules
from fastnn.equations import tables as more

WIDTHS = (2, 3, 2, 3)
M, D = WIDTHS[-1], 4
STEP = 1e-4

SGD = {"learning_rate": 0.1, "momentum": 0.0, "nesterov": False}
MOMENTUM = {"learning_rate": 0.1, "momentum": 0.5, "nesterov": False}
NESTEROV = {"learning_rate": 0.1, "momentum": 0.5, "nesterov": True}
ADAM = {"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
HYPER = {
    "SGD": NESTEROV,
    "Adam": ADAM,
    "RMSprop": {"learning_rate": 0.01, "rho": 0.9, "epsilon": 1e-8},
    "Adagrad": {"learning_rate": 0.5, "epsilon": 1e-10},
    "AdamW": {**ADAM, "weight_decay": 0.01},
    "Nadam": ADAM,
    "RAdam": ADAM,
    "Rprop": {
        "learning_rate": 0.1, "decrease": 0.5, "increase": 1.2, "smallest": 1e-6, "largest": 50.0,
    },
    "Adadelta": {"learning_rate": 1.0, "rho": 0.9, "epsilon": 1e-3},
    "Adamax": ADAM,
    "AMSGrad": ADAM,
    "Lion": {"learning_rate": 0.01, "beta_1": 0.9, "beta_2": 0.99, "weight_decay": 0.0},
}  # fmt: skip
MOMENTS = {"SGD": 1, "RMSprop": 1, "Adagrad": 1, "AMSGrad": 3, "Lion": 1}

# Losses with a number of their own.
NUMBERS = {
    "huber": {"delta": 0.7},
    "quantile": {"quantile": 0.8},
    "focal": {"gamma": 3.0},
    "binary_focal": {"gamma": 0.6},
    "tweedie": {"power": 1.4},
    "quantiles": {"quantiles": (0.1, 0.4, 0.8)},
}
# Losses of probabilities, and losses whose outputs must be above 0.
OF_PROBABILITIES = ("binary_cross_entropy", "cross_entropy", "focal", "binary_focal")
ABOVE_0 = ("poisson", "gamma", "tweedie")

# Where a slope jumps, or bends so that differences notice.
KINKS = {"relu": [0], "leaky_relu": [0], "elu": [0], "selu": [0], "hard_sigmoid": [-3, 3]}
LOSS_KINKS = {
    "mean_absolute_error": lambda A, Y: A - Y,
    "quantile": lambda A, Y: A - Y,
    "huber": lambda A, Y: np.abs(A - Y) - 0.7,
    "hinge": lambda A, Y: (2 * Y - 1) * A - 1,
    "quantiles": lambda A, Y: A - Y,
}


# What the tables hold, and what goes with what.


def outputs_of(activation):
    """Return some outputs of an activation."""
    return ref.ACTIVATIONS[activation][0](np.random.default_rng(0).normal(size=(4, 500)))


def stays_inside_unit_interval(activation):
    """Say whether outputs can be probabilities, which both cross-entropies need."""
    A = outputs_of(activation)
    return bool(np.all((A > 0) & (A < 1)))


def legal_pairs():
    """List every loss with every last activation that it can be computed for."""
    suits = {
        **dict.fromkeys(OF_PROBABILITIES, stays_inside_unit_interval),
        **dict.fromkeys(ABOVE_0, lambda last: bool(np.all(outputs_of(last) > 0))),
        "gaussian_nll": lambda last: last == "identity",
        "quantiles": lambda last: last == "increasing",
    }
    return [
        (loss, last)
        for loss in ref.LOSSES
        for last in ref.ACTIVATIONS
        if suits.get(loss, lambda last: True)(last)
    ]


def networks():
    """List every legal pair with a hidden activation, and so each activation several times."""
    names, found = list(ref.ACTIVATIONS), []
    for place, (loss, last) in enumerate(legal_pairs()):
        hidden = names[(3 * place) % len(names)]
        # Of an exponential of an exponential no difference tells the slope.
        found.append(("sin" if hidden == last == "exp" else hidden, loss, last))
    return found


def outputs_for(loss, m=M):
    """Return a number of outputs that a loss can be computed for."""
    if loss == "quantiles":
        return len(NUMBERS[loss]["quantiles"])
    return 2 * m if loss == "gaussian_nll" else m


def targets(loss, rng, m=M, d=D):
    """Return targets that suit a loss, soft ones where it takes probabilities."""
    if loss in OF_PROBABILITIES:
        Y = rng.random((m, d))
        return Y if loss.startswith("binary") else Y / Y.sum(axis=0)
    if loss == "quantiles":
        return rng.normal(size=(1, d))
    if loss == "hinge":
        return rng.integers(0, 2, size=(m, d)).astype(float)
    return (
        rng.poisson(2.0, size=(m, d)).astype(float) if loss in ABOVE_0 else rng.normal(size=(m, d))
    )


def far_from_kinks(f, loss, Z, A, Y):
    """Say whether differences reach over no kink of an activation or of the loss."""
    reach = 20 * STEP
    distances = [
        np.abs(z - kink).min() for name, z in zip(f, Z, strict=True) for kink in KINKS.get(name, [])
    ]
    if loss in LOSS_KINKS:
        distances.append(np.abs(LOSS_KINKS[loss](A[-1], Y)).min())
    return min(distances, default=1.0) > reach


def network(widths, biases, rng, dtype=np.float64):
    """Return W and b of a network of these widths, the input's first."""
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    W = [0.7 * rng.normal(size=shape).astype(dtype) for shape in shapes]
    b = [rng.normal(size=(h, 1)).astype(dtype) if biases else None for h, _ in shapes]
    return W, b


def zero_states(optimizer, W, b):
    """Return the state before the first step."""
    moments = MOMENTS.get(optimizer, 2)
    return [
        (
            (np.zeros_like(W_l),) * moments,
            None if b_l is None else (np.zeros_like(b_l),) * moments,
        )
        for W_l, b_l in zip(W, b, strict=True)
    ]


def slope(f):
    """Return the slope of f at 0 by central differences over one and over two steps."""
    near, far = f(STEP) - f(-STEP), f(2 * STEP) - f(-2 * STEP)
    return (8 * near - far) / (12 * STEP)


def close(found, expected, relative=1e-6, absolute=1e-9):
    """Say whether every entry agrees to a relative and an absolute tolerance."""
    return bool(np.all(np.abs(found - expected) <= absolute + relative * np.abs(expected)))


def test_legal_pairs_hold_every_loss_every_activation_and_every_matched_pair():
    pairs = legal_pairs()
    assert {loss for loss, _ in pairs} == set(ref.LOSSES)
    assert {last for _, last in pairs} == set(ref.ACTIVATIONS)
    assert set(ref.MATCHED) <= set(pairs)


# Gradients against central differences.


@pytest.mark.parametrize(
    ("weighted", "biases", "l2"),
    [(False, True, 0.0), (True, False, 0.3), (True, True, 0.3)],
    ids=["bias", "weighted-l2", "weighted-bias-l2"],
)
@pytest.mark.parametrize(("hidden", "loss", "last"), networks())
def test_gradients_are_the_slopes_of_the_loss(hidden, loss, last, weighted, biases, l2):
    f, numbers = [hidden, hidden, last], NUMBERS.get(loss, {})
    widths = (*WIDTHS[:-1], outputs_for(loss))
    for seed in range(3, 30):
        rng = np.random.default_rng(seed)
        W, b = network(widths, biases, rng)
        X, Y = rng.normal(size=(WIDTHS[0], D)), targets(loss, rng)
        w = rng.random(D) if weighted else None
        Z, A = ref.forward(W, b, f, X)
        # Exponentials of exponentials leave no digits for differences.
        if far_from_kinks(f, loss, Z, A, Y) and np.abs(Z[-1]).max() < 1e3:
            break
    else:
        pytest.fail("a kink lies within reach, or an output is too large, whatever the seed")
    lambdas = [l2, 2 * l2, 0.0]
    _, dW, db = ref.backward(W, b, f, loss, X, Z, A, Y, w, **numbers)
    dW = [a + r for a, r in zip(dW, ref.l2_gradient(W, lambdas), strict=True)]
    assert [db_l is None for db_l in db] == [not biases] * 3
    theta = [*W, *(b if biases else [])]
    gradient = np.concatenate([g.ravel() for g in [*dW, *(db if biases else [])]])

    def objective(flat):
        cuts = np.cumsum([p.size for p in theta])[:-1]
        parts = [c.reshape(p.shape) for c, p in zip(np.split(flat, cuts), theta, strict=True)]
        W, b = parts[:3], parts[3:] if biases else [None] * 3
        Z, A = ref.forward(W, b, f, X)
        J = ref.mean_loss(loss, last, Z[-1], A[-1], Y, w, **numbers)
        return J + ref.l2_penalty(W, lambdas)

    here = np.concatenate([p.ravel() for p in theta])
    directions = np.vstack([np.eye(here.size), rng.normal(size=(2, here.size))])
    slopes = [slope(lambda s, v=v: objective(here + s * v)) for v in directions]
    assert close(np.array(slopes), directions @ gradient)


@pytest.mark.parametrize("widths", [(1, 1), (2, 3), (3, 2, 4, 5, 2), (1, 1, 1)])
def test_gradients_hold_for_any_depth_and_mixed_biases(widths):
    rng = np.random.default_rng(8)
    W, b = network(widths, True, rng)
    b[0] = None
    f = ["tanh", "sigmoid", "softmax", "identity"][-len(W) :]
    X, Y = rng.normal(size=(widths[0], 1)), rng.normal(size=(widths[-1], 1))
    Z, A = ref.forward(W, b, f, X)
    dZ, dW, db = ref.backward(W, b, f, "mean_squared_error", X, Z, A, Y)
    assert [a.shape for a in dZ] == [a.shape for a in Z]
    assert [a.shape for a in dW] == [a.shape for a in W]
    assert [None if a is None else a.shape for a in db] == [
        None if a is None else a.shape for a in b
    ]

    def loss_with(layer, change):
        moved = [W_l + change if k == layer else W_l for k, W_l in enumerate(W)]
        Z, A = ref.forward(moved, b, f, X)
        return ref.mean_loss("mean_squared_error", f[-1], Z[-1], A[-1], Y)

    for layer, dW_l in enumerate(dW):
        v = rng.normal(size=dW_l.shape)
        found = slope(lambda s, layer=layer, v=v: loss_with(layer, s * v))
        assert close(found, np.sum(dW_l * v))


@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_backward_of_an_activation_is_its_slope(activation):
    f, backward = ref.ACTIVATIONS[activation]
    rng = np.random.default_rng(2)
    Z, dA, V = 2 * rng.normal(size=(3, 4, D))
    assert far_from_kinks([activation], None, [Z], None, None)
    assert close(slope(lambda s: np.sum(dA * f(Z + s * V))), np.sum(backward(dA, Z, f(Z)) * V))


def test_relu_passes_nothing_at_its_kink():
    Z = np.array([[-1.0, -0.0, 0.0, 2.0]])
    f, backward = ref.ACTIVATIONS["relu"]
    assert f(Z).tolist() == [[0.0, 0.0, 0.0, 2.0]]
    assert backward(np.ones_like(Z), Z, f(Z)).tolist() == [[0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("loss", ref.LOSSES)
def test_derivative_of_a_loss_is_its_slope_example_by_example(loss):
    per_example, derivative = ref.LOSSES[loss]
    numbers, shape = NUMBERS.get(loss, {}), (outputs_for(loss), D)
    rng = np.random.default_rng(3)
    Yhat, Y, V = rng.uniform(0.1, 0.9, size=shape), targets(loss, rng), rng.normal(size=shape)
    assert far_from_kinks([], loss, [], [Yhat], Y)
    assert per_example(Yhat, Y, **numbers).shape == (D,)
    found = slope(lambda s: per_example(Yhat + s * V, Y, **numbers))
    assert close(found, np.sum(derivative(Yhat, Y, **numbers) * V, axis=0))


# Activations and losses, number by number.


def test_softmax_columns_sum_to_one_and_do_not_feel_a_shift():
    Z = np.random.default_rng(0).normal(size=(5, 7))
    A = ref.softmax(Z)
    assert np.allclose(A.sum(axis=0), 1.0, rtol=0, atol=1e-15)
    assert np.allclose(ref.softmax(Z + 100.0), A, rtol=1e-12)
    assert np.allclose(np.exp(ref.log_softmax(Z)), A, rtol=1e-14)


def test_losses_are_means_over_outputs_and_cross_entropy_is_a_sum():
    Yhat, Y = np.array([[0.5], [0.25]]), np.array([[1.0], [0.0]])
    by_hand = {
        "mean_squared_error": (0.25 + 0.0625) / 2,
        "binary_cross_entropy": (np.log(2) + np.log(4 / 3)) / 2,
        "cross_entropy": np.log(2),
        "mean_absolute_error": (0.5 + 0.25) / 2,
        # 0.5 and 0.25 beyond and up to a delta of 0.4.
        "huber": (0.4 * (0.5 - 0.2) + 0.03125) / 2,
        "log_cosh": (np.log(np.cosh(0.5)) + np.log(np.cosh(0.25))) / 2,
        "poisson": (0.5 + np.log(2) + 0.25) / 2,
        # Too low by 0.5 and too high by 0.25.
        "quantile": (0.9 * 0.5 + 0.1 * 0.25) / 2,
        # One target, 1, from the mean 0.5 and the logarithm of the variance 0.25.
        "gaussian_nll": (0.25 + 0.25 / np.exp(0.25)) / 2,
        "hinge": ((1 - 0.5) + (1 + 0.25)) / 2,
        "focal": 0.25 * np.log(2),
        "binary_focal": (0.25 * np.log(2) + 0.0625 * np.log(4 / 3)) / 2,
        "gamma": (-np.log(2) + 2 - np.log(4)) / 2,
        # At the power 3: -1 / yhat + y / (2 yhat^2).
        "tweedie": (-2 + 2 - 4) / 2,
        # One target, 1: too low by 0.5 and by 0.75.
        "quantiles": (0.1 * 0.5 + 0.6 * 0.75) / 2,
    }
    assert set(by_hand) == set(ref.LOSSES)
    numbers = {
        "huber": {"delta": 0.4},
        "quantile": {"quantile": 0.9},
        "focal": {"gamma": 2.0},
        "binary_focal": {"gamma": 2.0},
        "tweedie": {"power": 3.0},
        "quantiles": {"quantiles": (0.1, 0.6)},
    }
    for loss, expected in by_hand.items():
        wanted = Y[:1] if loss in ("gaussian_nll", "quantiles") else Y
        found = ref.LOSSES[loss][0](Yhat, wanted, **numbers.get(loss, {}))
        assert found == pytest.approx([expected], rel=1e-15)


@pytest.mark.parametrize(
    ("activation", "z", "a"),
    [
        ("leaky_relu", [-2.0, 3.0], [-0.02, 3.0]),
        ("elu", [-1.0, 2.0], [1 / np.e - 1, 2.0]),
        # The fixed point of the paper: the mean 0 and the variance 1 come out as they went in.
        ("selu", [-1.0, 1.0], [1.7580993408473769 * (1 / np.e - 1), 1.0507009873554805]),
        # Phi(1) = 0.8413447460685429.
        ("gelu", [-1.0, 1.0], [0.8413447460685429 - 1, 0.8413447460685429]),
        ("silu", [-1.0, 1.0], [-1 / (1 + np.e), np.e / (1 + np.e)]),
        ("softplus", [0.0, 1.0], [np.log(2), np.log(1 + np.e)]),
        # tanh(log(2)) = 3/5 and tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2).
        ("mish", [0.0, 1.0], [0.0, (np.e**2 + 2 * np.e) / (np.e**2 + 2 * np.e + 2)]),
        ("softsign", [-3.0, 1.0], [-0.75, 0.5]),
        ("hard_sigmoid", [-4.0, 1.5], [0.0, 0.75]),
        ("exp", [0.0, -1.0], [1.0, 1 / np.e]),
        ("sin", [0.0, np.pi / 6], [0.0, 0.5]),
    ],
)
def test_activations_by_hand(activation, z, a):
    assert ref.ACTIVATIONS[activation][0](np.array([z]))[0] == pytest.approx(a, rel=1e-14)


def test_a_standard_normal_stays_one_through_selu():
    x = np.linspace(-12.0, 12.0, 200_001)[np.newaxis]
    p = np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * (x[0, 1] - x[0, 0])
    A = ref.ACTIVATIONS["selu"][0](x)
    assert np.sum(A * p) == pytest.approx(0.0, abs=1e-8)
    assert np.sum(A * A * p) == pytest.approx(1.0, rel=1e-8)


@pytest.mark.parametrize(("loss", "activation"), ref.MATCHED)
def test_matched_pair_equals_the_generic_path(loss, activation):
    per_example, dZ = ref.MATCHED[loss, activation]
    f, backward = ref.ACTIVATIONS[activation]
    rng = np.random.default_rng(1)
    Z, Y = 3 * rng.normal(size=(outputs_for(loss), D)), targets(loss, rng)
    A, numbers = f(Z), NUMBERS.get(loss, {})
    wanted = ref.LOSSES[loss][0](A, Y, **numbers)
    assert np.allclose(per_example(Z, Y, **numbers), wanted, rtol=1e-12, atol=0)
    generic = backward(ref.LOSSES[loss][1](A, Y, **numbers), Z, A)
    assert np.allclose(dZ(Z, Y, **numbers), generic, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("loss", "activation"), [("binary_cross_entropy", "sigmoid"), ("cross_entropy", "softmax")]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_matched_pair_survives_huge_logits(loss, activation, dtype):
    Z = np.array([[1e4, -1e4, 1e4, 0.0], [-1e4, 1e4, 1e4, -1e4]], dtype=dtype)
    Y = np.array([[0, 0, 1, 1], [1, 1, 0, 0]], dtype=dtype)
    A = ref.ACTIVATIONS[activation][0](Z)
    J = ref.mean_loss(loss, activation, Z, A, Y)
    dZ = ref.output_gradient(loss, activation, Z, A, Y)
    assert np.isfinite(J)
    assert J > 1000
    assert dZ.dtype == dtype
    assert np.all(np.abs(dZ) <= 1 / 4)
    assert close(dZ[:, 0], np.array([1.0, -1.0]) / (8 if activation == "sigmoid" else 4))


def test_matched_losses_of_huge_logits_are_exact():
    Z, Y = np.array([[1e4, -1e4]], np.float32), np.array([[0.0, 0.0]], np.float32)
    pair = ref.MATCHED["binary_cross_entropy", "sigmoid"]
    assert pair[0](Z, Y).tolist() == [1e4, 0.0]
    Z, Y = np.array([[1e4], [-1e4]], np.float32), np.array([[0.0], [1.0]], np.float32)
    assert ref.MATCHED["cross_entropy", "softmax"][0](Z, Y).tolist() == [2e4]


@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_activations_are_stable_at_large_numbers_in_float32(activation):
    f, backward = ref.ACTIVATIONS[activation]
    far = 80.0 if activation == "exp" else 1e4
    Z = np.array([[far, -far, 0.0], [-far, -far, far]], np.float32)
    A = f(Z)
    assert np.all(np.isfinite(A))
    assert np.all(np.isfinite(backward(np.ones_like(Z), Z, A)))
    if stays_inside_unit_interval(activation):
        assert A[0, 0] == 1.0
        assert A[1, 0] == 0.0


@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_goes_through_every_activation(activation, dtype):
    Z = np.array([[np.nan, 1.0], [0.5, -1.0]], dtype)
    A = ref.ACTIVATIONS[activation][0](Z)
    assert np.isnan(A[0, 0])
    assert np.isnan(A[1, 0]) == (activation in ("softmax", "increasing"))
    assert not np.isnan(A[:, 1]).any()


@pytest.mark.parametrize(("hidden", "loss", "last"), networks())
def test_nan_in_the_input_reaches_the_loss_and_the_gradients(hidden, loss, last):
    rng = np.random.default_rng(4)
    W, b = network((2, 3, outputs_for(loss, 2)), True, rng)
    X, Y = rng.normal(size=(2, 3)), targets(loss, rng, m=2, d=3)
    X[0, 1] = np.nan
    numbers = NUMBERS.get(loss, {})
    Z, A = ref.forward(W, b, [hidden, last], X)
    _, dW, db = ref.backward(W, b, [hidden, last], loss, X, Z, A, Y, **numbers)
    assert np.isnan(ref.mean_loss(loss, last, Z[-1], A[-1], Y, **numbers))
    assert all(np.isnan(g).all() for g in dW)
    assert all(np.isnan(g).all() for g in db)


def test_one_hot_marks_one_class_in_each_column():
    Y = ref.one_hot(np.array([2, 0, 1, 2]), 3, np.float32)
    assert Y.dtype == np.float32
    assert Y.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]]


# Means, weights, penalty.


@pytest.mark.parametrize(("loss", "last"), legal_pairs())
def test_whole_weights_are_repetitions_of_examples(loss, last):
    rng = np.random.default_rng(6)
    W, b = network((2, outputs_for(loss)), True, rng)
    X, Y = rng.normal(size=(2, 4)), targets(loss, rng, d=4)
    times, numbers = np.array([1, 3, 0, 2]), NUMBERS.get(loss, {})

    def run(X, Y, w):
        Z, A = ref.forward(W, b, [last], X)
        _, dW, db = ref.backward(W, b, [last], loss, X, Z, A, Y, w, **numbers)
        return ref.mean_loss(loss, last, Z[-1], A[-1], Y, w, **numbers), dW[0], db[0]

    weighted = run(X, Y, times.astype(float))
    repeated = run(np.repeat(X, times, axis=1), np.repeat(Y, times, axis=1), None)
    for found, expected in zip(weighted, repeated, strict=True):
        assert np.allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_an_example_without_weight_has_no_say_even_where_its_loss_overflows():
    Z = np.array([[1.0, 1e30]], np.float32)
    Y, w = np.zeros_like(Z), np.array([2, 0], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        assert ref.mean_loss("mean_squared_error", "identity", Z, Z, Y, w) == 1.0
    assert ref.output_gradient("mean_squared_error", "identity", Z, Z, Y, w).tolist() == [[2, 0]]


def test_cross_entropy_gradient_is_exact_where_targets_miss_the_sum_of_one():
    rng = np.random.default_rng(7)
    Z, Y, V = rng.normal(size=(3, M, D))
    per_example, dZ = ref.MATCHED["cross_entropy", "softmax"]
    found = slope(lambda s: per_example(Z + s * V, Y))
    assert close(found, np.sum(dZ(Z, Y) * V, axis=0))
    Y /= Y.sum(axis=0)
    assert np.allclose(dZ(Z, Y), ref.softmax(Z) - Y, rtol=0, atol=1e-14)


def test_l2_counts_weights_by_layer_and_divides_by_nothing():
    W = [np.array([[1.0, -2.0]]), np.array([[3.0]]), np.array([[5.0]])]
    assert ref.l2_penalty(W, [0.5, 2.0, 0.0]) == 0.25 * 5 + 1.0 * 9
    gradient = ref.l2_gradient(W, [0.5, 2.0, 0.0])
    assert [g.tolist() for g in gradient] == [[[0.5, -1.0]], [[6.0]], [[0.0]]]


# The textbook's worked example.

EXAMPLE_X, EXAMPLE_Y = np.array([[0.5], [0.2]]), np.array([[1.0]])
EXAMPLE_W = [np.array([[0.1, 0.4], [0.8, 0.6]]), np.array([[0.3, 0.7]])]
EXAMPLE_B = [np.array([[0.3], [0.9]]), np.array([[0.5]])]
EXAMPLE_F = ["sigmoid", "sigmoid"]

# Each of the textbook's figures, the decimals it prints, and the exact value where the textbook,
# which rounds as it goes, prints another figure than the exact one rounded:
TEXTBOOK = {
    "Z1": ([[0.43], [1.42]], 2, None),
    "A1": ([[0.606], [0.805]], 3, None),
    # 0.3 x 0.606 + 0.7 x 0.805 + 0.5 would be 1.2453.
    "Z2": ([[1.244]], 3, [[1.245499]]),
    # sigmoid(1.244) is 0.77626.
    "A2": ([[0.776]], 3, [[0.776520]]),
    "J": (0.253, 3, None),
    # 0.776 - 1.
    "dZ2": ([[-0.224]], 3, [[-0.223480]]),
    "db2": ([[-0.224]], 3, [[-0.223480]]),
    # -0.224 x 0.606 is -0.13574; the second entry agrees.
    "dW2": ([[-0.136, -0.180]], 3, [[-0.135401, -0.179977]]),
    # From -0.224 again, and so are the two below.
    "W2.T dZ2": ([[-0.0672], [-0.1568]], 4, [[-0.067044], [-0.156436]]),
    "f'(Z1)": ([[0.239], [0.157]], 3, None),
    "dZ1": ([[-0.0161], [-0.0246]], 4, [[-0.016010], [-0.024524]]),
    "db1": ([[-0.0161], [-0.0246]], 4, [[-0.016010], [-0.024524]]),
    "dW1": ([[-0.0080, -0.0032], [-0.0123, -0.0049]], 4, None),
}


def example_intermediates():
    """Return every intermediate of the worked example by the textbook's names."""
    W, b, X, Y = EXAMPLE_W, EXAMPLE_B, EXAMPLE_X, EXAMPLE_Y
    loss = "binary_cross_entropy"
    Z, A = ref.forward(W, b, EXAMPLE_F, X)
    dZ, dW, db = ref.backward(W, b, EXAMPLE_F, loss, X, Z, A, Y)
    slope_Z1 = ref.ACTIVATIONS["sigmoid"][1](np.ones_like(Z[0]), Z[0], A[0])
    return {
        **{"Z1": Z[0], "A1": A[0], "Z2": Z[1], "A2": A[1]},
        "J": ref.mean_loss(loss, "sigmoid", Z[1], A[1], Y),
        **{"dZ2": dZ[1], "dW2": dW[1], "db2": db[1]},
        **{"W2.T dZ2": W[1].T @ dZ[1], "f'(Z1)": slope_Z1},
        **{"dZ1": dZ[0], "dW1": dW[0], "db1": db[0]},
    }


def rounds_to(found, figure, decimals):
    """Say whether numbers round to a figure of so many decimals, a tie either way."""
    return close(np.asarray(figure), found, relative=0, absolute=0.5 * 10**-decimals + 1e-12)


@pytest.mark.parametrize("name", TEXTBOOK)
def test_worked_example(name):
    figure, decimals, exact = TEXTBOOK[name]
    found = example_intermediates()[name]
    assert np.shape(found) == np.shape(figure)
    assert rounds_to(found, figure, decimals) == (exact is None)
    if exact is not None:
        assert rounds_to(found, exact, 6)


def test_worked_example_rounding_as_the_textbook_does():
    figure = {name: np.array(row[0]) for name, row in TEXTBOOK.items()}
    backward = ref.ACTIVATIONS["sigmoid"][1]
    A1, A2, dZ2, dZ1 = (figure[name] for name in ("A1", "A2", "dZ2", "dZ1"))
    WdZ = ref.hidden_gradient(EXAMPLE_W[1], dZ2, "identity", A1, A1)
    steps = {
        "A1": ref.sigmoid(figure["Z1"]),
        "A2": ref.sigmoid(figure["Z2"]),
        "dZ2": A2 - EXAMPLE_Y,
        "dW2": ref.weight_gradient(dZ2, A1),
        "db2": ref.bias_gradient(dZ2),
        "W2.T dZ2": WdZ,
        "f'(Z1)": backward(np.ones_like(A1), figure["Z1"], A1),
        "dZ1": figure["W2.T dZ2"] * figure["f'(Z1)"],
        "dW1": ref.weight_gradient(dZ1, EXAMPLE_X),
        "db1": ref.bias_gradient(dZ1),
    }
    for name, found in steps.items():
        assert rounds_to(found, figure[name], TEXTBOOK[name][1]), name
    # Two figures do not follow from the rounded ones before them: Z2 would be 1.245, and J, which
    # is the exact one rounded, would be 0.254.
    assert rounds_to(ref.linear(EXAMPLE_W[1], EXAMPLE_B[1], A1), [[1.2453]], 4)
    assert rounds_to(-np.log(A2), [[0.2536]], 4)


def test_worked_example_update_and_the_next_cycle():
    states = zero_states("SGD", EXAMPLE_W, EXAMPLE_B)
    W, b, loss = EXAMPLE_W, EXAMPLE_B, "binary_cross_entropy"
    seen = []
    for t in (1, 2, 3):
        W, b, states, J = ref.train_step(
            W, b, EXAMPLE_F, loss, [0, 0], EXAMPLE_X, EXAMPLE_Y, None, "SGD", SGD, states, t
        )
        seen.append(J)
        if t == 1:
            exact = example_intermediates()
            assert np.allclose(W[1], EXAMPLE_W[1] - 0.1 * exact["dW2"], rtol=1e-15)
            assert np.allclose(b[0], EXAMPLE_B[0] - 0.1 * exact["db1"], rtol=1e-15)
    assert seen[:2] == pytest.approx([0.252933, 0.242931], abs=5e-7)
    assert seen[2] < seen[1]


# Optimizers.


@pytest.mark.parametrize(
    ("optimizer", "hyper", "expected"),
    [
        # v = -0.2, then 0.5 x -0.2 - 0.1 = -0.2
        ("SGD", SGD, [0.8, 0.7]),
        ("SGD", MOMENTUM, [0.8, 0.6]),
        # 1 + 0.5 x -0.2 - 0.2, then 0.7 + 0.5 x -0.2 - 0.1
        ("SGD", NESTEROV, [0.7, 0.5]),
        # m = 0.2, v = 0.004; corrected 2 and 4: 1 - 0.1 x 2 / (2 + 0.5).
        # m = 0.28, v = 0.004996; corrected 28/19 and 4996/1999: 0.92 - 0.1 x 28/19 / (root + 0.5)
        ("Adam", {**ADAM, "epsilon": 0.5}, [0.92, 0.92 - 2.8 / 19 / ((4996 / 1999) ** 0.5 + 0.5)]),
        # The same with 0.01 of the weight taken off: 0.92 - 0.1 x 0.1 x 1, and once more.
        (
            "AdamW",
            {**ADAM, "epsilon": 0.5, "weight_decay": 0.1},
            [0.91, 0.91 - 0.0091 - 2.8 / 19 / ((4996 / 1999) ** 0.5 + 0.5)],
        ),
        # v = 0.4, then 0.46.
        (
            "RMSprop",
            {"learning_rate": 0.1, "rho": 0.9, "epsilon": 0.5},
            [1 - 0.2 / (0.4**0.5 + 0.5), 1 - 0.2 / (0.4**0.5 + 0.5) - 0.1 / (0.46**0.5 + 0.5)],
        ),
        # v = 4, then 5.
        (
            "Adagrad",
            {"learning_rate": 0.1, "epsilon": 0.5},
            [0.92, 0.92 - 0.1 / (5**0.5 + 0.5)],
        ),
        # m hat is 2, then 28/19: the squares average too little for any scaling.
        ("RAdam", {**ADAM, "epsilon": 0.5}, [0.8, 0.8 - 2.8 / 19]),
        # The first step, then one that is longer by a fifth.
        ("Rprop", HYPER["Rprop"], [0.9, 0.78]),
        # v = 0.4, then 0.46; the first step is 2 / sqrt(0.9), its square 40/9.
        (
            "Adadelta",
            {"learning_rate": 0.1, "rho": 0.9, "epsilon": 0.5},
            [
                1 - 0.2 * (0.5 / 0.9) ** 0.5,
                1 - 0.2 * (0.5 / 0.9) ** 0.5 - 0.1 * ((0.4 * 0.5 / 0.9 + 0.5) / 0.96) ** 0.5,
            ],
        ),
        # m hat is 2, then 28/19; the largest gradient so far is 2, then 1.998.
        (
            "Adamax",
            {**ADAM, "epsilon": 1e-30},
            [0.9, 0.9 - 2.8 / 19 / 1.998],
        ),
        # v hat is 4, then 4996/1999.
        (
            "AMSGrad",
            {**ADAM, "epsilon": 1e-30},
            [0.9, 0.9 - 2.8 / 19 / (4996 / 1999) ** 0.5],
        ),
        ("Lion", HYPER["Lion"], [0.99, 0.98]),
    ],
    ids=[
        "sgd",
        "momentum",
        "nesterov",
        "adam",
        "adamw",
        "rmsprop",
        "adagrad",
        "radam",
        "rprop",
        "adadelta",
        "adamax",
        "amsgrad",
        "lion",
    ],
)
def test_first_two_steps_by_hand(optimizer, hyper, expected):
    theta, state = np.array([1.0]), (np.zeros(1),) * MOMENTS.get(optimizer, 2)
    for t, (gradient, after) in enumerate(zip([2.0, 1.0], expected, strict=True), start=1):
        theta, state = ref.OPTIMIZERS[optimizer](theta, np.array([gradient]), state, t, hyper)
        assert theta == pytest.approx([after], rel=1e-14)


def test_nadam_looks_ahead_with_the_momentum_that_comes():
    mu = [0.9 * (1 - 0.96 ** (t / 250) / 2) for t in (1, 2, 3)]
    first = mu[1] * 0.2 / (1 - mu[0] * mu[1]) + (1 - mu[0]) * 2 / (1 - mu[0])
    theta, state = ref.OPTIMIZERS["Nadam"](
        np.array([1.0]), np.array([2.0]), (np.zeros(1),) * 2, 1, {**ADAM, "epsilon": 0.5}
    )
    assert theta == pytest.approx([1 - 0.1 * first / 2.5], rel=1e-14)
    now, later = 1 - mu[0] * mu[1], 1 - mu[0] * mu[1] * mu[2]
    second = mu[2] * 0.28 / later + (1 - mu[1]) * 1 / now
    theta, state = ref.OPTIMIZERS["Nadam"](
        theta, np.array([1.0]), state, 2, {**ADAM, "epsilon": 0.5}
    )
    expected = 1 - 0.1 * first / 2.5 - 0.1 * second / ((4996 / 1999) ** 0.5 + 0.5)
    assert theta == pytest.approx([expected], rel=1e-14)


def test_radam_scales_once_the_squares_average_enough():
    # A constant gradient of 2: m hat is 2 and v hat 4, so that a scaled step is 0.1 r.
    theta, state, taken = np.array([0.0]), (np.zeros(1),) * 2, []
    for t in range(1, 2001):
        before = theta
        theta, state = ref.OPTIMIZERS["RAdam"](theta, np.array([2.0]), state, t, ADAM)
        taken.append(float(before[0] - theta[0]))
    assert taken[:4] == pytest.approx([0.2] * 4)
    assert 0 < taken[4] < taken[50] < taken[500] < taken[-1] < 0.1


def test_rprop_waits_where_the_sign_turns():
    theta, state, seen = np.array([0.0]), (np.zeros(1),) * 2, []
    for t, g in enumerate((1.0, 1.0, -1.0, -1.0, -1.0, 0.0, 2.0), start=1):
        theta, state = ref.OPTIMIZERS["Rprop"](theta, np.array([g]), state, t, HYPER["Rprop"])
        seen.append(float(theta[0]))
    # 0.1, 0.12, then nothing and 0.06; that again, as nothing came before; 0.072; no sign, and
    # that again.
    expected = [-0.1, -0.22, -0.22, -0.16, -0.088, -0.088, -0.16]
    assert seen == pytest.approx(expected, rel=1e-12)


def test_first_step_of_adam_is_the_learning_rate_whatever_the_gradient():
    g = np.array([[1e-3, -5.0], [1e3, 0.0]])
    theta, _ = ref.adam_step(np.zeros((2, 2)), g, (np.zeros((2, 2)),) * 2, 1, ADAM)
    assert np.allclose(theta, -0.1 * np.sign(g), rtol=1e-4)


def descend(optimizer, hyper, gradient, theta, steps):
    """Follow an optimizer downhill for so many steps."""
    state = (np.zeros_like(theta),) * MOMENTS.get(optimizer, 2)
    for t in range(1, steps + 1):
        theta, state = ref.OPTIMIZERS[optimizer](theta, gradient(theta), state, t, hyper)
    return theta


@pytest.mark.parametrize(
    ("optimizer", "hyper", "within"),
    [
        ("SGD", SGD, 1e-6),
        ("SGD", MOMENTUM, 1e-6),
        ("SGD", NESTEROV, 1e-6),
        ("Adam", ADAM, 1e-6),
        # Its step near the bottom is the learning rate, whatever the gradient.
        ("RMSprop", HYPER["RMSprop"], 0.01),
        ("Adagrad", HYPER["Adagrad"], 1e-6),
        # The decay pulls a little from the bottom to 0.
        ("AdamW", {**ADAM, "weight_decay": 1e-5}, 1e-3),
        ("Nadam", ADAM, 1e-6),
        ("RAdam", ADAM, 1e-6),
        ("Rprop", HYPER["Rprop"], 1e-5),
        ("Adadelta", HYPER["Adadelta"], 1e-3),
        ("Adamax", ADAM, 1e-6),
        ("AMSGrad", ADAM, 1e-6),
        ("Lion", HYPER["Lion"], 0.05),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_optimizers_find_the_bottom_of_a_parabola(optimizer, hyper, within):
    bottom = np.array([[3.0, -1.0], [0.5, 2.0]])
    steep = np.array([[1.0, 4.0], [2.0, 0.5]])
    found = descend(optimizer, hyper, lambda x: steep * (x - bottom), np.zeros((2, 2)), 1500)
    assert np.allclose(found, bottom, atol=within)


def test_every_optimizer_is_tried():
    assert list(HYPER) == list(ref.OPTIMIZERS)


@pytest.mark.parametrize(
    ("optimizer", "hyper", "steps"),
    [
        ("SGD", {**SGD, "learning_rate": 1e-3}, 40_000),
        ("SGD", {**SGD, "learning_rate": 5e-4, "momentum": 0.95}, 8_000),
        ("SGD", {**NESTEROV, "learning_rate": 5e-4, "momentum": 0.95}, 8_000),
        ("Adam", {**ADAM, "learning_rate": 0.02}, 8_000),
        ("RMSprop", {**HYPER["RMSprop"], "learning_rate": 5e-4}, 12_000),
        ("Adagrad", HYPER["Adagrad"], 12_000),
        ("Rprop", {**HYPER["Rprop"], "smallest": 1e-9}, 8_000),
    ],
    ids=["sgd", "momentum", "nesterov", "adam", "rmsprop", "adagrad", "rprop"],
)
def test_optimizers_find_the_bottom_of_rosenbrock(optimizer, hyper, steps):
    def gradient(theta):
        x, y = theta
        return np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])

    found = descend(optimizer, hyper, gradient, np.array([-1.2, 1.0]), steps)
    assert np.allclose(found, 1.0, atol=1e-3)


# A step of training.


@pytest.mark.parametrize("biases", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize(("optimizer", "hyper"), HYPER.items(), ids=HYPER)
def test_train_step_is_its_parts_in_order_and_modifies_nothing(optimizer, hyper, biases):
    rng = np.random.default_rng(9)
    W, b = network((3, 4, 2), biases, rng)
    X, Y, w = rng.normal(size=(3, 5)), targets("cross_entropy", rng, m=2, d=5), rng.random(5)
    f, loss, l2 = ["relu", "softmax"], "cross_entropy", [0.1, 0.2]
    states = zero_states(optimizer, W, b)
    inputs = [*W, *(b_l for b_l in b if b_l is not None), X, Y, w]
    inputs += [a for pair in states for state in pair if state is not None for a in state]
    for a in inputs:
        a.flags.writeable = False

    W_new, b_new, states_new, J = ref.train_step(
        W, b, f, loss, l2, X, Y, w, optimizer, hyper, states, 1
    )

    Z, A = ref.forward(W, b, f, X)
    assert ref.mean_loss(loss, "softmax", Z[-1], A[-1], Y, w) + ref.l2_penalty(W, l2) == J
    _, dW, db = ref.backward(W, b, f, loss, X, Z, A, Y, w)
    step = ref.OPTIMIZERS[optimizer]
    for k in range(2):
        expected = step(W[k], dW[k] + l2[k] * W[k], states[k][0], 1, hyper)
        assert np.array_equal(W_new[k], expected[0])
        assert all(map(np.array_equal, states_new[k][0], expected[1]))
        if biases:
            # Biases go free of every decay.
            expected = step(b[k], db[k], states[k][1], 1, hyper | {"weight_decay": 0.0})
            assert np.array_equal(b_new[k], expected[0])
            assert all(map(np.array_equal, states_new[k][1], expected[1]))
        else:
            assert b_new[k] is None
            assert states_new[k][1] is None


@pytest.mark.parametrize(
    ("hidden", "loss", "last", "optimizer"),
    [(*net, list(HYPER)[n % len(HYPER)]) for n, net in enumerate(networks())],
)
def test_float32_stays_float32(hidden, loss, last, optimizer):
    rng = np.random.default_rng(0)
    W, b = network((3, 4, outputs_for(loss, 2)), True, rng, np.float32)
    X, w = rng.normal(size=(3, 5)).astype(np.float32), rng.random(5).astype(np.float32)
    Y = targets(loss, rng, m=2, d=5).astype(np.float32)
    hyper = {name: np.float64(value) for name, value in HYPER[optimizer].items()}
    numbers = NUMBERS.get(loss, {})
    f, states = [hidden, last], zero_states(optimizer, W, b)
    Z, A = ref.forward(W, b, f, X)
    dZ, dW, db = ref.backward(W, b, f, loss, X, Z, A, Y, w, **numbers)
    W, b, states, J = ref.train_step(
        W, b, f, loss, [np.float64(0.1), 0.1], X, Y, w, optimizer, hyper, states, 3, **numbers
    )
    moments = [a for pair in states for state in pair for a in state]
    assert {a.dtype for a in [*Z, *A, *dZ, *dW, *db, *W, *b, *moments]} == {np.dtype(np.float32)}
    assert type(J) is float


def test_training_lowers_the_loss():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2, 200))
    Y = ref.one_hot((X[0] * X[1] > 0).astype(int), 2, np.float64)
    W, b = network((2, 16, 2), True, rng)
    states, seen = zero_states("Adam", W, b), []
    for t in range(1, 201):
        W, b, states, J = ref.train_step(
            *(W, b, ["tanh", "softmax"], "cross_entropy", [0.0, 0.0], X, Y, None),
            *("Adam", ADAM, states, t),
        )
        seen.append(J)
    assert seen[-1] < 0.1 * seen[0]


# The order of an epoch.


def test_hash_gives_the_published_stream_of_splitmix64():
    counters = np.arange(1, 4, dtype=np.uint64) * np.uint64(draws.GOLDEN)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert draws.hash64(counters).tolist() == expected


def test_order_is_pinned():
    assert draws.permutation(1, 0, 10).tolist() == [9, 5, 0, 3, 7, 6, 4, 8, 1, 2]


@pytest.mark.parametrize("n", [0, 1, 2, 17, 1000])
@pytest.mark.parametrize("key", [0, 1, 2**63, 2**64 - 1, np.uint64(2**64 - 1)])
def test_order_is_a_permutation(key, n):
    order = draws.permutation(key, 2**40, n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_order_follows_key_and_epoch_alone():
    orders = {tuple(draws.permutation(key, epoch, 50)) for key in range(5) for epoch in range(5)}
    assert len(orders) == 25
    assert np.array_equal(draws.permutation(3, 4, 50), draws.permutation(3, 4, 50))


@pytest.mark.parametrize("by", ["epoch", "key"])
def test_order_puts_every_example_everywhere_equally_often(by):
    n, times = 10, 4000
    counts = np.zeros((n, n))
    for i in range(times):
        order = draws.permutation(7, i, n) if by == "epoch" else draws.permutation(i, 0, n)
        counts[np.arange(n), order] += 1
    # Chi-square with (n - 1)^2 = 81 degrees of freedom: 81 on the average, give or take 12.7.
    chi_square = np.sum((counts - times / n) ** 2 / (times / n))
    assert 81 - 4 * 12.7 < chi_square < 81 + 4 * 12.7


# A page for students.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_clipped_gradient_has_the_limit_s_length_and_its_own_direction(dtype):
    rng = np.random.default_rng(3)
    dW = [rng.normal(size=shape).astype(dtype) for shape in ((3, 2), (1, 3))]
    db = [None, rng.normal(size=(1, 1)).astype(dtype)]
    parts = [*dW, db[1]]
    norm = np.sqrt(sum((part.astype(float) ** 2).sum() for part in parts))
    for limit, factor in ((norm / 4, 0.25), (norm, 1.0), (2 * norm, 1.0)):
        short, biases = ref.clipped(dW, db, limit)
        assert biases[0] is None
        for part, wanted in zip([*short, biases[1]], parts, strict=True):
            assert part.dtype == dtype
            np.testing.assert_allclose(part, factor * wanted, rtol=4 * np.finfo(dtype).eps)
    # Squares that float32 cannot hold are summed all the same; where nothing is, nothing becomes.
    large = np.dtype(dtype).type(1e25)
    short, _ = ref.clipped([large * part for part in dW], [None, None], 1.0)
    assert np.linalg.norm(np.concatenate([G.ravel() for G in short])) == pytest.approx(1.0)
    assert not ref.clipped([0 * dW[0]], [None], 1.0)[0][0].any()


def test_a_train_step_clips_the_gradient_with_its_penalty():
    rng = np.random.default_rng(4)
    W, b = [rng.normal(size=(2, 3))], [rng.normal(size=(2, 1))]
    X, Y = rng.normal(size=(3, 5)), rng.normal(size=(2, 5))
    hyper = {"learning_rate": 1.0, "momentum": 0.0, "nesterov": False}

    def step(limit):
        states = [((np.zeros((2, 3)),), (np.zeros((2, 1)),))]
        W_new, b_new, _, J = ref.train_step(
            W, b, ["identity"], "mean_squared_error", [5.0], X, Y, None, "SGD", hyper, states, 1,
            limit,
        )  # fmt: skip
        return np.concatenate([(W[0] - W_new[0]).ravel(), (b[0] - b_new[0]).ravel()]), J

    free, J = step(None)
    short, J_short = step(0.1)
    assert J_short == J
    np.testing.assert_allclose(short, 0.1 * free / np.linalg.norm(free), rtol=1e-12)
    np.testing.assert_array_equal(step(1e9)[0], free)


@pytest.mark.parametrize(
    ("room", "lines", "needed"),
    [
        (ref, 300, {"__future__", "collections", "typing", "numpy", "fastnn"}),
        (more, 300, {"__future__", "collections", "math", "typing", "numpy"}),
        (further, 300, {"__future__", "collections", "numpy", "fastnn"}),
        (rules, 300, {"__future__", "numpy", "fastnn"}),
        (draws, 100, {"__future__", "typing", "numpy"}),
    ],
    ids=[
        "reference",
        "reference_tables",
        "reference_losses",
        "reference_optimizers",
        "reference_draws",
    ],
)
def test_source_stays_short_and_needs_numpy_alone(room, lines, needed):
    source = Path(room.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert len(source.splitlines()) < lines
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.body[0].end_lineno <= 10, node.name
            assert ast.get_docstring(node), node.name
    imported = {
        (getattr(node, "module", None) or node.names[0].name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported == needed


PAGE = Path(__file__).parents[1] / "docs" / "mathematics.md"


@pytest.mark.parametrize(
    "room",
    [ref, more, further, rules, draws],
    ids=[
        "reference",
        "reference_tables",
        "reference_losses",
        "reference_optimizers",
        "reference_draws",
    ],
)
def test_page_of_mathematics_names_every_function_of_the_reference(room):
    text = PAGE.read_text(encoding="utf-8")
    tree = ast.parse(Path(room.__file__).read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert functions <= set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize("table", [ref.ACTIVATIONS, ref.LOSSES, ref.OPTIMIZERS])
def test_page_of_mathematics_names_every_row(table):
    text = PAGE.read_text(encoding="utf-8")
    assert set(table) <= set(re.findall(r"`(\w+)`", text)) | set(
        re.findall(r"^### (\w+)", text, re.M)
    )


def test_page_of_mathematics_names_kernels_that_are_there():
    text = PAGE.read_text(encoding="utf-8")
    places = re.findall(r"((?:`\w+`(?:, | and )?)+) in `(kernels/\w+\.py)`", text)
    assert len(places) > 10
    for names, file in places:
        source = (Path(ref.__file__).parent / file).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert f"\ndef {name}(" in source, f"{name} in {file}"


def test_page_of_mathematics_runs():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 5
    assert result.failed == 0
