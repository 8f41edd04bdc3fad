"""The textbook network in plain NumPy: one function per equation, from forward to update.

``docs/mathematics.md`` goes through it in order.  EXAMPLES ARE COLUMNS, as in the textbook;
layers stand in lists and are counted from 0:

    X (n, d)        d examples of n features       Y (m, d)      their targets
    W (h, h_below)  weights of a layer             b (h, 1)      its biases, or None
    Z (h, d)        W A_below + b                  A (h, d)      f(Z); the last one is Yhat
    dZ, dW, db      derivatives of the loss J      w (d,)        weights of examples, or None
    D (h_below, d)  what dropout does to A_below: 0, or 1 over the part that stays; or None

Results have the dtype of what comes in and nothing is modified.  Nothing is checked: names,
shapes, weights that sum to zero and ``np.errstate`` are the caller's care.  Activations, losses
and optimizers beside the first stand in `equations.tables`, `equations.losses` and
`equations.optimizers`, what is drawn at random in `equations.draws`; a loss's numbers come by name.

Examples
--------
>>> X, Y = np.array([[0.5], [0.2]]), np.array([[1.0]])
>>> W = [np.array([[0.1, 0.4], [0.8, 0.6]]), np.array([[0.3, 0.7]])]
>>> b = [np.array([[0.3], [0.9]]), np.array([[0.5]])]
>>> Z, A = forward(W, b, ["sigmoid", "sigmoid"], X)
>>> round(mean_loss("binary_cross_entropy", "sigmoid", Z[-1], A[-1], Y), 4)
0.2529
"""

# NumPy types most results as Any, and casts would hide the equations:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastnn.equations import losses as further
from fastnn.equations import optimizers as rules
from fastnn.equations import tables as more
from fastnn.equations.losses import log_softmax, per_example, per_output, smoothed
from fastnn.equations.tables import Array, Curve, Hyper, Pair, State, Step

Arrays: TypeAlias = Sequence[Array]
Biases: TypeAlias = Sequence[Array | None]
Names: TypeAlias = Sequence[str]
Drops: TypeAlias = Sequence[Array | None] | None
Layer: TypeAlias = tuple[Array, Array | None]
LayerState: TypeAlias = tuple[State, State | None]


# Activations: A = f(Z), and dZ = dA * f'(Z).


def sigmoid(Z: Array) -> Array:
    """Return ``1 / (1 + exp(-z))``, written so that no exponent is positive."""
    E = np.exp(-np.abs(Z))
    return np.where(Z < 0, E, np.ones_like(E)) / (1 + E)


def softmax(Z: Array) -> Array:
    """Return ``exp(z_k) / sum_j exp(z_j)`` in each column; the shift by the largest cancels out."""
    E = np.exp(Z - Z.max(axis=0))
    return E / E.sum(axis=0)


def softmax_backward(dA: Array, Z: Array, A: Array) -> Array:
    """Return ``(diag(a) - a a^T) da`` in each column: every output hangs on every z."""
    columns = [(np.diag(a) - np.outer(a, a)) @ da for a, da in zip(A.T, dA.T, strict=True)]
    return np.stack(columns, axis=1)


ACTIVATIONS: more.Open[Curve] = more.Open({
    "identity": (lambda Z: Z.copy(), lambda dA, Z, A: dA.copy()),
    "sigmoid": (sigmoid, lambda dA, Z, A: dA * A * (1 - A)),
    "tanh": (np.tanh, lambda dA, Z, A: dA * (1 - A**2)),
    "relu": (lambda Z: np.maximum(Z, 0), lambda dA, Z, A: dA * (Z > 0)),
    "softmax": (softmax, softmax_backward),
    **more.ACTIVATIONS,
})  # fmt: skip


# Losses: L of each example, (d,), and its derivative by Yhat, the last layer's A, (m, d).


def mean_squared_error(Yhat: Array, Y: Array) -> Array:
    """Return ``mean_k (yhat_k - y_k)^2``."""
    return np.mean((Yhat - Y) ** 2, axis=0)


def binary_cross_entropy(Yhat: Array, Y: Array) -> Array:
    """Return ``-mean_k (y_k log yhat_k + (1 - y_k) log(1 - yhat_k))``, for ``0 < yhat_k < 1``."""
    return -np.mean(Y * np.log(Yhat) + (1 - Y) * np.log(1 - Yhat), axis=0)


def cross_entropy(Yhat: Array, Y: Array) -> Array:
    """Return ``-sum_k y_k log yhat_k``, for ``0 < yhat_k``."""
    return -np.sum(Y * np.log(Yhat), axis=0)


LOSSES: more.Open[tuple[Pair, Pair]] = more.Open({
    "mean_squared_error": (mean_squared_error, lambda A, Y: 2 * (A - Y) / len(Y)),
    "binary_cross_entropy": (binary_cross_entropy, lambda A, Y: (A - Y) / (A * (1 - A)) / len(Y)),
    "cross_entropy": (cross_entropy, lambda A, Y: -Y / A),
    **further.LOSSES,
})  # fmt: skip


# Matched pairs: the same from the last layer's Z, where nothing overflows, and derivative by Z.


def sigmoid_binary_cross_entropy(Z: Array, Y: Array, limit: float = np.inf) -> Array:
    """Return ``mean_k max(z_k, 0) - z_k y_k + log(1 + exp(-|z_k|))``, each at most the limit."""
    return np.mean(np.minimum(np.maximum(Z, 0) - Z * Y + np.log1p(np.exp(-abs(Z))), limit), axis=0)


def softmax_cross_entropy(Z: Array, Y: Array, limit: float = np.inf) -> Array:
    """Return ``-sum_k y_k log softmax(z)_k``, at most the limit."""
    return np.minimum(-np.sum(Y * log_softmax(Z), axis=0), limit)


MATCHED: dict[tuple[str, str], tuple[Any, Pair]] = {
    ("binary_cross_entropy", "sigmoid"): (
        sigmoid_binary_cross_entropy,
        lambda Z, Y: (sigmoid(Z) - Y) / len(Y),
    ),
    ("cross_entropy", "softmax"): (softmax_cross_entropy, lambda Z, Y: softmax(Z) * sum(Y) - Y),
    **further.MATCHED,
}


def one_hot(labels: Array, m: int, dtype: npt.DTypeLike) -> Array:
    """Return Y (m, d) with a 1 in row ``labels[i]`` of column i, for integers in ``0..m-1``."""
    return (np.arange(m)[:, np.newaxis] == labels).astype(dtype)


# Forward.


def linear(W: Array, b: Array | None, A: Array) -> Array:
    """Return ``Z = W A + b``, one layer's weighted sums."""
    return W @ A if b is None else W @ A + b


def dropped(A: Array, D: Array | None) -> Array:
    """Return ``D * A``, and 0 where D is 0 whatever A is; A itself where nothing is dropped."""
    return A if D is None else np.multiply(D, A, out=np.zeros_like(A), where=D != 0)


def forward(
    W: Arrays, b: Biases, activations: Names, X: Array, D: Drops = None
) -> tuple[list[Array], list[Array]]:
    """Return every layer's Z and A, the first layer fed by X and each other by the one below."""
    Z: list[Array] = []
    A: list[Array] = []
    for W_l, b_l, name, D_l in zip(W, b, activations, D or [None] * len(W), strict=True):
        Z.append(linear(W_l, b_l, dropped(A[-1] if A else X, D_l)))
        A.append(ACTIVATIONS[name][0](Z[-1]))
    return Z, A


def mean_loss(
    loss: str, activation: str, Z: Array, A: Array, Y: Array, w: Array | None = None,
    limit: float = np.inf, **number: float,
) -> float:  # fmt: skip
    """Return ``J = sum_i L_i / d``, with weights ``sum_i w_i L_i / sum_i w_i``."""
    matched = (loss, activation) in MATCHED
    Y, own = smoothed(loss, Y, number)
    own |= {"limit": limit} if matched and loss.endswith("cross_entropy") else {}
    f = MATCHED[loss, activation][0] if matched else LOSSES[loss][0]
    L = per_example(f, Z if matched else A, Y, own)
    return float(np.mean(L) if w is None else np.sum(w * L, where=w != 0) / np.sum(w))


def l2_penalty(W: Arrays, l2: Sequence[float]) -> float:
    """Return ``sum_l lambda_l / 2 sum(W_l^2)``; biases go free."""
    return sum(float(lam) / 2 * float(np.sum(W_l**2)) for lam, W_l in zip(l2, W, strict=True))


# Backward.


def output_gradient(
    loss: str, activation: str, Z: Array, A: Array, Y: Array, w: Array | None = None,
    **number: float,
) -> Array:  # fmt: skip
    """Return ``dZ`` of the last layer: every example's own, times its share in the mean."""
    Y, own = smoothed(loss, Y, number)
    if (loss, activation) in MATCHED:
        dZ = per_output(MATCHED[loss, activation][1], Z, Y, own)
    else:
        dZ = ACTIVATIONS[activation][1](per_output(LOSSES[loss][1], A, Y, own), Z, A)
    return dZ / Y.shape[1] if w is None else dZ * (w / np.sum(w))


def hidden_gradient(
    W_next: Array, dZ_next: Array, activation: str, Z: Array, A: Array, D_next: Array | None = None
) -> Array:
    """Return ``dZ = D_next * (W_next^T dZ_next) * f'(Z)`` of a hidden layer."""
    return ACTIVATIONS[activation][1](dropped(W_next.T @ dZ_next, D_next), Z, A)


def input_gradient(W: Array, dZ: Array, D: Array | None = None) -> Array:
    """Return ``dX = D * (W^T dZ)``, from the first layer's W, dZ and D."""
    return dropped(W.T @ dZ, D)


def weight_gradient(dZ: Array, A_below: Array) -> Array:
    """Return ``dW = dZ A_below^T``."""
    return dZ @ A_below.T


def bias_gradient(dZ: Array) -> Array:
    """Return ``db = dZ 1``, the sum over examples."""
    return np.sum(dZ, axis=1, keepdims=True)


def backward(
    W: Arrays, b: Biases, activations: Names, loss: str, X: Array, Z: Arrays, A: Arrays, Y: Array,
    w: Array | None = None, D: Drops = None, **number: float,
) -> tuple[list[Array], list[Array], list[Array | None]]:  # fmt: skip
    """Return dZ, dW and db of every layer, from the last one down."""
    D = D or [None] * len(W)
    dZ = [output_gradient(loss, activations[-1], Z[-1], A[-1], Y, w, **number)]
    for n in reversed(range(len(W) - 1)):
        dZ = [hidden_gradient(W[n + 1], dZ[0], activations[n], Z[n], A[n], D[n + 1]), *dZ]
    A_below = [dropped(A_l, D_l) for A_l, D_l in zip([X, *A[:-1]], D, strict=True)]
    dW = [weight_gradient(dZ_l, A_l) for dZ_l, A_l in zip(dZ, A_below, strict=True)]
    db = [None if b_l is None else bias_gradient(dZ_l) for b_l, dZ_l in zip(b, dZ, strict=True)]
    return dZ, dW, db


def l2_gradient(W: Arrays, l2: Sequence[float]) -> list[Array]:
    """Return ``lambda_l W_l`` of every layer, which is added to its dW."""
    return [float(lam) * W_l for lam, W_l in zip(l2, W, strict=True)]


# Update: a parameter theta, its gradient g and its state, at step t = 1, 2, ...


def sgd_step(theta: Array, g: Array, state: State, t: int, hyper: Hyper) -> tuple[Array, State]:
    """Return ``v = mu v - eta g``, then ``theta + v``; Nesterov's ``theta + mu v - eta g``."""
    eta, mu = float(hyper["learning_rate"]), float(hyper["momentum"])
    v = mu * state[0] - eta * g
    return theta + (mu * v - eta * g if hyper["nesterov"] else v), (v,)


def adam_step(theta: Array, g: Array, state: State, t: int, hyper: Hyper) -> tuple[Array, State]:
    """Return algorithm 1 of Kingma & Ba 2015: running means of g and g^2, corrected for t."""
    eta, epsilon = float(hyper["learning_rate"]), float(hyper["epsilon"])
    beta_1, beta_2 = float(hyper["beta_1"]), float(hyper["beta_2"])
    m = beta_1 * state[0] + (1 - beta_1) * g
    v = beta_2 * state[1] + (1 - beta_2) * g**2
    m_hat, v_hat = m / (1 - beta_1**t), v / (1 - beta_2**t)
    return theta - eta * m_hat / (np.sqrt(v_hat) + epsilon), (m, v)


OPTIMIZERS: dict[str, Step] = {"SGD": sgd_step, "Adam": adam_step, **rules.OPTIMIZERS}


def layer_step(
    step: Step, theta: Layer, g: Layer, state: LayerState, t: int, hyper: Hyper
) -> tuple[Array, Array | None, LayerState]:
    """Return W, b and state of one layer after a step; its bias, if any, does not decay."""
    W, state_W = step(theta[0], g[0], state[0], t, hyper)
    if theta[1] is None or g[1] is None or state[1] is None:
        return W, None, (state_W, None)
    b, state_b = step(theta[1], g[1], state[1], t, {**hyper, "weight_decay": 0.0})
    return W, b, (state_W, state_b)


def clipped(dW: Arrays, db: Biases, limit: float) -> tuple[list[Array], list[Array | None]]:
    """Return ``g min(1, limit / |g|)`` for the gradient g of all parameters taken together."""
    parts = [G.ravel().astype(np.float64) for G in (*dW, *db) if G is not None]
    factor = dW[0].dtype.type(limit / max(limit, float(np.linalg.norm(np.concatenate(parts)))))
    return [factor * G for G in dW], [None if g is None else factor * g for g in db]


def train_step(
    W: Arrays, b: Biases, activations: Names, loss: str, l2: Sequence[float], X: Array, Y: Array,
    w: Array | None, optimizer: str, hyper: Hyper, states: Sequence[LayerState], t: int,
    clip_norm: float | None = None, scales: Sequence[float] = (1, 1), limit: float = np.inf,
    D: Drops = None, **number: float,
) -> tuple[list[Array], list[Array | None], list[LayerState], float]:  # fmt: skip
    """Return W, b and states after one step, and the loss before it; scales of it and dJ."""
    Z, A = forward(W, b, activations, X, D)
    J = scales[0] * mean_loss(loss, activations[-1], Z[-1], A[-1], Y, w, limit, **number)
    _, dW, db = backward(W, b, activations, loss, X, Z, A, Y, w, D, **number)
    dW = [scales[1] * dW_l + R_l for dW_l, R_l in zip(dW, l2_gradient(W, l2), strict=True)]
    db = [None if db_l is None else scales[1] * db_l for db_l in db]
    dW, db = (dW, db) if clip_norm is None else clipped(dW, db, clip_norm)
    layers = zip(zip(W, b, strict=True), zip(dW, db, strict=True), states, strict=True)
    stepped = [layer_step(OPTIMIZERS[optimizer], *layer, t, hyper) for layer in layers]
    J += l2_penalty(W, l2)
    return [s[0] for s in stepped], [s[1] for s in stepped], [s[2] for s in stepped], J
