"""The textbook in NumPy: against calculus, and against the textbook's own figures."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import numpy as np
import pytest

from fastnn import reference as ref

WIDTHS = (2, 3, 2, 3)
M, D = WIDTHS[-1], 4
STEP = 1e-4

SGD = {"learning_rate": 0.1, "momentum": 0.0, "nesterov": False}
MOMENTUM = {"learning_rate": 0.1, "momentum": 0.5, "nesterov": False}
NESTEROV = {"learning_rate": 0.1, "momentum": 0.5, "nesterov": True}
ADAM = {"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}


# What the tables hold, and what goes with what.


def stays_inside_unit_interval(activation):
    """Say whether outputs can be probabilities, which both cross-entropies need."""
    A = ref.ACTIVATIONS[activation][0](np.random.default_rng(0).normal(size=(4, 50)))
    return bool(np.all((A > 0) & (A < 1)))


def legal_pairs():
    """List every loss with every last activation that it can be computed for."""
    return [
        (loss, last)
        for loss in ref.LOSSES
        for last in ref.ACTIVATIONS
        if loss == "mean_squared_error" or stays_inside_unit_interval(last)
    ]


def targets(loss, rng, m=M, d=D):
    """Return targets that suit a loss, soft ones where it takes probabilities."""
    if loss == "mean_squared_error":
        return rng.normal(size=(m, d))
    Y = rng.random((m, d))
    return Y / Y.sum(axis=0) if loss == "cross_entropy" else Y


def network(widths, biases, rng, dtype=np.float64):
    """Return W and b of a network of these widths, the input's first."""
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    W = [0.7 * rng.normal(size=shape).astype(dtype) for shape in shapes]
    b = [rng.normal(size=(h, 1)).astype(dtype) if biases else None for h, _ in shapes]
    return W, b


def zero_states(optimizer, W, b):
    """Return the state before the first step."""
    moments = {"SGD": 1, "Adam": 2}[optimizer]
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


@pytest.mark.parametrize("l2", [0.0, 0.3], ids=["no-l2", "l2"])
@pytest.mark.parametrize("biases", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(("loss", "last"), legal_pairs())
@pytest.mark.parametrize("hidden", ref.ACTIVATIONS)
def test_gradients_are_the_slopes_of_the_loss(hidden, loss, last, weighted, biases, l2):
    rng = np.random.default_rng(3)
    W, b = network(WIDTHS, biases, rng)
    f = [hidden, hidden, last]
    X, Y = rng.normal(size=(WIDTHS[0], D)), targets(loss, rng)
    w = rng.random(D) if weighted else None
    lambdas = [l2, 2 * l2, 0.0]

    Z, A = ref.forward(W, b, f, X)
    if "relu" in f:
        assert min(np.abs(Z_l).min() for Z_l in Z) > 20 * STEP, "a kink lies within reach"
    _, dW, db = ref.backward(W, b, f, loss, X, Z, A, Y, w)
    dW = [a + r for a, r in zip(dW, ref.l2_gradient(W, lambdas), strict=True)]
    assert [db_l is None for db_l in db] == [not biases] * 3
    theta = [*W, *(b if biases else [])]
    gradient = np.concatenate([g.ravel() for g in [*dW, *(db if biases else [])]])

    def objective(flat):
        cuts = np.cumsum([p.size for p in theta])[:-1]
        parts = [c.reshape(p.shape) for c, p in zip(np.split(flat, cuts), theta, strict=True)]
        W, b = parts[:3], parts[3:] if biases else [None] * 3
        Z, A = ref.forward(W, b, f, X)
        return ref.mean_loss(loss, last, Z[-1], A[-1], Y, w) + ref.l2_penalty(W, lambdas)

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
    Z, dA, V = rng.normal(size=(3, 4, D))
    assert close(slope(lambda s: np.sum(dA * f(Z + s * V))), np.sum(backward(dA, Z, f(Z)) * V))


def test_relu_passes_nothing_at_its_kink():
    Z = np.array([[-1.0, -0.0, 0.0, 2.0]])
    f, backward = ref.ACTIVATIONS["relu"]
    assert f(Z).tolist() == [[0.0, 0.0, 0.0, 2.0]]
    assert backward(np.ones_like(Z), Z, f(Z)).tolist() == [[0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("loss", ref.LOSSES)
def test_derivative_of_a_loss_is_its_slope_example_by_example(loss):
    per_example, derivative = ref.LOSSES[loss]
    rng = np.random.default_rng(3)
    Yhat, Y, V = rng.uniform(0.1, 0.9, size=(M, D)), targets(loss, rng), rng.normal(size=(M, D))
    assert per_example(Yhat, Y).shape == (D,)
    found = slope(lambda s: per_example(Yhat + s * V, Y))
    assert close(found, np.sum(derivative(Yhat, Y) * V, axis=0))


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
    }
    assert set(by_hand) == set(ref.LOSSES)
    for loss, expected in by_hand.items():
        assert ref.LOSSES[loss][0](Yhat, Y) == pytest.approx([expected], rel=1e-15)


@pytest.mark.parametrize(("loss", "activation"), ref.MATCHED)
def test_matched_pair_equals_the_generic_path(loss, activation):
    per_example, dZ = ref.MATCHED[loss, activation]
    f, backward = ref.ACTIVATIONS[activation]
    rng = np.random.default_rng(1)
    Z, Y = 3 * rng.normal(size=(M, D)), targets(loss, rng)
    A = f(Z)
    assert np.allclose(per_example(Z, Y), ref.LOSSES[loss][0](A, Y), rtol=1e-12, atol=0)
    generic = backward(ref.LOSSES[loss][1](A, Y), Z, A)
    assert np.allclose(dZ(Z, Y), generic, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("loss", "activation"), ref.MATCHED)
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
    Z = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]], np.float32)
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
    assert np.isnan(A[1, 0]) == (activation == "softmax")
    assert not np.isnan(A[:, 1]).any()


@pytest.mark.parametrize(("loss", "last"), legal_pairs())
@pytest.mark.parametrize("hidden", ref.ACTIVATIONS)
def test_nan_in_the_input_reaches_the_loss_and_the_gradients(hidden, loss, last):
    rng = np.random.default_rng(4)
    W, b = network((2, 3, 2), True, rng)
    X, Y = rng.normal(size=(2, 3)), targets(loss, rng, m=2, d=3)
    X[0, 1] = np.nan
    Z, A = ref.forward(W, b, [hidden, last], X)
    _, dW, db = ref.backward(W, b, [hidden, last], loss, X, Z, A, Y)
    assert np.isnan(ref.mean_loss(loss, last, Z[-1], A[-1], Y))
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
    W, b = network((2, 3), True, rng)
    X, Y = rng.normal(size=(2, 4)), targets(loss, rng, d=4)
    times = np.array([1, 3, 0, 2])

    def run(X, Y, w):
        Z, A = ref.forward(W, b, [last], X)
        _, dW, db = ref.backward(W, b, [last], loss, X, Z, A, Y, w)
        return ref.mean_loss(loss, last, Z[-1], A[-1], Y, w), dW[0], db[0]

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
    ],
    ids=["sgd", "momentum", "nesterov", "adam"],
)
def test_first_two_steps_by_hand(optimizer, hyper, expected):
    theta, state = np.array([1.0]), (np.zeros(1),) * (2 if optimizer == "Adam" else 1)
    for t, (gradient, after) in enumerate(zip([2.0, 1.0], expected, strict=True), start=1):
        theta, state = ref.OPTIMIZERS[optimizer](theta, np.array([gradient]), state, t, hyper)
        assert theta == pytest.approx([after], rel=1e-14)


def test_first_step_of_adam_is_the_learning_rate_whatever_the_gradient():
    g = np.array([[1e-3, -5.0], [1e3, 0.0]])
    theta, _ = ref.adam_step(np.zeros((2, 2)), g, (np.zeros((2, 2)),) * 2, 1, ADAM)
    assert np.allclose(theta, -0.1 * np.sign(g), rtol=1e-4)


def descend(optimizer, hyper, gradient, theta, steps):
    """Follow an optimizer downhill for so many steps."""
    state = (np.zeros_like(theta),) * (2 if optimizer == "Adam" else 1)
    for t in range(1, steps + 1):
        theta, state = ref.OPTIMIZERS[optimizer](theta, gradient(theta), state, t, hyper)
    return theta


@pytest.mark.parametrize(
    ("optimizer", "hyper"),
    [("SGD", SGD), ("SGD", MOMENTUM), ("SGD", NESTEROV), ("Adam", ADAM)],
    ids=["sgd", "momentum", "nesterov", "adam"],
)
def test_optimizers_find_the_bottom_of_a_parabola(optimizer, hyper):
    bottom = np.array([[3.0, -1.0], [0.5, 2.0]])
    steep = np.array([[1.0, 4.0], [2.0, 0.5]])
    found = descend(optimizer, hyper, lambda x: steep * (x - bottom), np.zeros((2, 2)), 1500)
    assert np.allclose(found, bottom, atol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "hyper", "steps"),
    [
        ("SGD", {**SGD, "learning_rate": 1e-3}, 40_000),
        ("SGD", {**SGD, "learning_rate": 5e-4, "momentum": 0.95}, 8_000),
        ("SGD", {**NESTEROV, "learning_rate": 5e-4, "momentum": 0.95}, 8_000),
        ("Adam", {**ADAM, "learning_rate": 0.02}, 8_000),
    ],
    ids=["sgd", "momentum", "nesterov", "adam"],
)
def test_optimizers_find_the_bottom_of_rosenbrock(optimizer, hyper, steps):
    def gradient(theta):
        x, y = theta
        return np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])

    found = descend(optimizer, hyper, gradient, np.array([-1.2, 1.0]), steps)
    assert np.allclose(found, 1.0, atol=1e-3)


# A step of training.


@pytest.mark.parametrize("biases", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize(("optimizer", "hyper"), [("SGD", NESTEROV), ("Adam", ADAM)])
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
            expected = step(b[k], db[k], states[k][1], 1, hyper)
            assert np.array_equal(b_new[k], expected[0])
            assert all(map(np.array_equal, states_new[k][1], expected[1]))
        else:
            assert b_new[k] is None
            assert states_new[k][1] is None


@pytest.mark.parametrize(("optimizer", "hyper"), [("SGD", MOMENTUM), ("Adam", ADAM)])
@pytest.mark.parametrize(("loss", "last"), legal_pairs())
@pytest.mark.parametrize("hidden", ref.ACTIVATIONS)
def test_float32_stays_float32(hidden, loss, last, optimizer, hyper):
    rng = np.random.default_rng(0)
    W, b = network((3, 4, 2), True, rng, np.float32)
    X, w = rng.normal(size=(3, 5)).astype(np.float32), rng.random(5).astype(np.float32)
    Y = targets(loss, rng, m=2, d=5).astype(np.float32)
    hyper = {name: np.float64(value) for name, value in hyper.items()}
    f, states = [hidden, last], zero_states(optimizer, W, b)
    Z, A = ref.forward(W, b, f, X)
    dZ, dW, db = ref.backward(W, b, f, loss, X, Z, A, Y, w)
    W, b, states, J = ref.train_step(
        W, b, f, loss, [np.float64(0.1), 0.1], X, Y, w, optimizer, hyper, states, 3
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
    counters = np.arange(1, 4, dtype=np.uint64) * np.uint64(ref.GOLDEN)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert ref.hash64(counters).tolist() == expected


def test_order_is_pinned():
    assert ref.permutation(1, 0, 10).tolist() == [9, 5, 0, 3, 7, 6, 4, 8, 1, 2]


@pytest.mark.parametrize("n", [0, 1, 2, 17, 1000])
@pytest.mark.parametrize("key", [0, 1, 2**63, 2**64 - 1, np.uint64(2**64 - 1)])
def test_order_is_a_permutation(key, n):
    order = ref.permutation(key, 2**40, n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_order_follows_key_and_epoch_alone():
    orders = {tuple(ref.permutation(key, epoch, 50)) for key in range(5) for epoch in range(5)}
    assert len(orders) == 25
    assert np.array_equal(ref.permutation(3, 4, 50), ref.permutation(3, 4, 50))


@pytest.mark.parametrize("by", ["epoch", "key"])
def test_order_puts_every_example_everywhere_equally_often(by):
    n, draws = 10, 4000
    counts = np.zeros((n, n))
    for i in range(draws):
        order = ref.permutation(7, i, n) if by == "epoch" else ref.permutation(i, 0, n)
        counts[np.arange(n), order] += 1
    # Chi-square with (n - 1)^2 = 81 degrees of freedom: 81 on the average, give or take 12.7.
    chi_square = np.sum((counts - draws / n) ** 2 / (draws / n))
    assert 81 - 4 * 12.7 < chi_square < 81 + 4 * 12.7


# A page for students.


def test_source_stays_short_and_needs_numpy_alone():
    source = Path(ref.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert len(source.splitlines()) < 300
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.body[0].end_lineno <= 10, node.name
            assert ast.get_docstring(node), node.name
    imported = {
        (getattr(node, "module", None) or node.names[0].name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported == {"__future__", "collections", "typing", "numpy"}


PAGE = Path(__file__).parents[1] / "docs" / "mathematics.md"


def test_page_of_mathematics_names_every_function_of_the_reference():
    text = PAGE.read_text(encoding="utf-8")
    tree = ast.parse(Path(ref.__file__).read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert functions <= set(re.findall(r"`(\w+)`", text))


def test_page_of_mathematics_names_kernels_that_are_there():
    text = PAGE.read_text(encoding="utf-8")
    places = re.findall(r"((?:`\w+`(?: and )?)+) in `(kernels/\w+\.py)`", text)
    assert len(places) > 10
    for names, file in places:
        source = (Path(ref.__file__).parent / file).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert f"\ndef {name}(" in source, f"{name} in {file}"


def test_page_of_mathematics_runs():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 5
    assert result.failed == 0
