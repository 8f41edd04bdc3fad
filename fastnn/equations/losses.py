"""More losses of the textbook in plain NumPy: smoothed labels, focal, gamma, Tweedie, quantiles.

They stand under the rules of `reference` and in its notation: examples are columns.

Examples
--------
>>> smoothed("cross_entropy", np.array([[1.0], [0.0]]), {"label_smoothing": 0.2})[0]
array([[0.9],
       [0.1]])
"""

# NumPy types most results as Any, and casts would hide the equations:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fastnn.equations import tables as more
from fastnn.equations.tables import Array, Pair, increasing, increasing_backward, logistic, softplus


def smoothed(loss: str, Y: Array, numbers: Mapping[str, float]) -> tuple[Array, dict[str, float]]:
    """Return ``(1 - s) y_k + s / m`` for the smoothing s among the numbers, and the others.

    m is the number of classes: 2 for each output of a binary loss.
    """
    others = dict(numbers)
    s = others.pop("label_smoothing", 0.0)
    return ((1 - s) * Y + s / (2 if loss.startswith("binary") else len(Y)) if s else Y), others


def per_example(loss: Pair, S: Array, Y: Array, numbers: Mapping[str, float]) -> Array:
    """Return L of each example; where NaN stands for no target, the mean over those it has."""
    known = ~np.isnan(Y)
    if known.all():
        return loss(S, Y, **numbers)
    m, filled = len(Y), np.where(known, Y, 1)
    each = np.stack([loss(S[k::m], filled[k : k + 1], **numbers) for k in range(m)])
    return np.where(known, each, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def per_output(slope: Pair, S: Array, Y: Array, numbers: Mapping[str, float]) -> Array:
    """Return the derivative of `per_example`, which is 0 where a target is missing."""
    known = ~np.isnan(Y)
    if known.all():
        return slope(S, Y, **numbers)
    m, filled, D = len(Y), np.where(known, Y, 1), np.zeros_like(S)
    share = (known / np.maximum(known.sum(axis=0), 1)).astype(S.dtype)
    for k in range(m):
        D[k::m] = np.where(known[k], slope(S[k::m], filled[k : k + 1], **numbers), 0) * share[k]
    return D


def log_softmax(Z: Array) -> Array:
    """Return ``z_k - log sum_j exp(z_j)`` in each column, shifted by the largest."""
    S = Z - Z.max(axis=0)
    return S - np.log(np.exp(S).sum(axis=0))


def focal(Yhat: Array, Y: Array, gamma: float) -> Array:
    """Return ``-sum_k y_k (1 - yhat_k)^gamma log yhat_k``, for ``0 < yhat_k``."""
    return -np.sum(Y * (1 - Yhat) ** gamma * np.log(Yhat), axis=0)


def focal_derivative(Yhat: Array, Y: Array, gamma: float) -> Array:
    """Return ``y_k (gamma (1 - yhat_k)^(gamma - 1) log yhat_k - (1 - yhat_k)^gamma / yhat_k)``."""
    off = 1 - Yhat
    falling = gamma * off ** (gamma - 1) * np.log(Yhat) if gamma else 0
    return Y * (falling - off**gamma / Yhat)


def softmax_focal(Z: Array, Y: Array, gamma: float) -> Array:
    """Return the same from Z of a softmax, by ``log yhat_k = z_k - log sum_j exp(z_j)``."""
    S = log_softmax(Z)
    return -np.sum(Y * (-np.expm1(S)) ** gamma * S, axis=0)


def softmax_focal_derivative(Z: Array, Y: Array, gamma: float) -> Array:
    """Return ``sum_j (dL / d log yhat_j) (1[j = k] - yhat_k)``; where yhat is 1, L is flat."""
    S = log_softmax(Z)
    off = -np.expm1(S)
    inner = off > 0
    power = np.where(inner, off, 1) ** gamma
    by_log = np.where(
        inner, Y * power * (gamma * np.exp(S) * S / np.where(inner, off, 1) - 1), -Y * (gamma == 0)
    )
    return by_log - np.exp(S) * by_log.sum(axis=0)


def binary_focal(Yhat: Array, Y: Array, gamma: float) -> Array:
    """Return the mean of ``-y (1 - yhat)^gamma log yhat - (1 - y) yhat^gamma log(1 - yhat)``."""
    yes, no = (1 - Yhat) ** gamma * np.log(Yhat), Yhat**gamma * np.log(1 - Yhat)
    return -np.mean(Y * yes + (1 - Y) * no, axis=0)


def binary_focal_derivative(Yhat: Array, Y: Array, gamma: float) -> Array:
    """Return its derivative by ``yhat_k``, the product rule on both terms."""
    off = 1 - Yhat
    yes = off**gamma / Yhat - gamma * off ** (gamma - 1) * np.log(Yhat)
    no = gamma * Yhat ** (gamma - 1) * np.log(off) - Yhat**gamma / off
    return -(Y * yes + (1 - Y) * no) / len(Y)


def sigmoid_focal(Z: Array, Y: Array, gamma: float) -> Array:
    """Return the same from Z of a sigmoid, with ``log yhat = -softplus(-z)``."""
    yes = np.exp(-gamma * softplus(Z)) * softplus(-Z)
    no = np.exp(-gamma * softplus(-Z)) * softplus(Z)
    return np.mean(Y * yes + (1 - Y) * no, axis=0)


def sigmoid_focal_derivative(Z: Array, Y: Array, gamma: float) -> Array:
    """Return its derivative: the product rule on both terms, with ``softplus' = logistic``."""
    yes = -np.exp(-gamma * softplus(Z)) * (gamma * logistic(Z) * softplus(-Z) + logistic(-Z))
    no = np.exp(-gamma * softplus(-Z)) * (gamma * logistic(-Z) * softplus(Z) + logistic(Z))
    return (Y * yes + (1 - Y) * no) / len(Y)


def gamma_deviance(Yhat: Array, Y: Array) -> Array:
    """Return ``mean_k (log yhat_k + y_k / yhat_k)``, for ``0 < yhat_k``."""
    return np.mean(np.log(Yhat) + Y / Yhat, axis=0)


def tweedie(Yhat: Array, Y: Array, power: float) -> Array:
    """Return ``mean_k (yhat_k^(2 - p) / (2 - p) - y_k yhat_k^(1 - p) / (1 - p))``."""
    return np.mean(
        Yhat ** (2 - power) / (2 - power) - Y * Yhat ** (1 - power) / (1 - power), axis=0
    )


def exp_tweedie(Z: Array, Y: Array, power: float) -> Array:
    """Return the same from Z of an exponential; where y is 0 the second term is, whatever z."""
    second = np.where(Y == 0, 0, Y * np.exp((1 - power) * Z)) / (1 - power)
    return np.mean(np.exp((2 - power) * Z) / (2 - power) - second, axis=0)


def exp_tweedie_derivative(Z: Array, Y: Array, power: float) -> Array:
    """Return ``exp((2 - p) z_k) - y_k exp((1 - p) z_k)`` by m."""
    second = np.where(Y == 0, 0, Y * np.exp((1 - power) * Z))
    return (np.exp((2 - power) * Z) - second) / len(Y)


def pinballs(Yhat: Array, Y: Array, quantiles: Sequence[float]) -> Array:
    """Return ``mean_k max(q_k (y - yhat_k), (q_k - 1) (y - yhat_k))``, a quantile for each row."""
    q = np.array(quantiles, Yhat.dtype)[:, np.newaxis]
    return np.mean(np.maximum(q * (Y - Yhat), (q - 1) * (Y - Yhat)), axis=0)


def pinballs_derivative(Yhat: Array, Y: Array, quantiles: Sequence[float]) -> Array:
    """Return ``1 - q_k`` where ``yhat_k > y``, ``-q_k`` below, between them where equal; by m."""
    q = np.array(quantiles, Yhat.dtype)[:, np.newaxis]
    return (np.heaviside(Yhat - Y, Yhat.dtype.type(0.5)) - q) / len(Yhat)


def increasing_pinballs(Z: Array, Y: Array, quantiles: Sequence[float]) -> Array:
    """Return `pinballs` from Z of the activation increasing."""
    return pinballs(increasing(Z), Y, quantiles)


def increasing_pinballs_derivative(Z: Array, Y: Array, quantiles: Sequence[float]) -> Array:
    """Return its derivative by Z, the chain rule through the sums."""
    A = increasing(Z)
    return increasing_backward(pinballs_derivative(A, Y, quantiles), Z, A)


LOSSES: dict[str, tuple[Pair, Pair]] = {
    **more.LOSSES,
    "focal": (focal, focal_derivative),
    "binary_focal": (binary_focal, binary_focal_derivative),
    "gamma": (gamma_deviance, lambda A, Y: (1 - Y / A) / A / len(Y)),
    "tweedie": (tweedie, lambda A, Y, power: (A - Y) * A**-power / len(Y)),
    "quantiles": (pinballs, pinballs_derivative),
}

MATCHED: dict[tuple[str, str], tuple[Pair, Pair]] = {
    **more.MATCHED,
    ("focal", "softmax"): (softmax_focal, softmax_focal_derivative),
    ("binary_focal", "sigmoid"): (sigmoid_focal, sigmoid_focal_derivative),
    ("gamma", "exp"): (
        lambda Z, Y: np.mean(Z + Y * np.exp(-Z), axis=0),
        lambda Z, Y: (1 - Y * np.exp(-Z)) / len(Y),
    ),
    ("tweedie", "exp"): (exp_tweedie, exp_tweedie_derivative),
    ("quantiles", "increasing"): (increasing_pinballs, increasing_pinballs_derivative),
}


# A penalty beside the loss: that of L2 stands in `reference`.


def l1_penalty(W: Sequence[Array], l1: Sequence[float]) -> float:
    """Return ``sum_l lambda_l sum(|W_l|)``; biases go free."""
    return sum(float(lam) * float(np.sum(np.abs(W_l))) for lam, W_l in zip(l1, W, strict=True))


def l1_gradient(W: Sequence[Array], l1: Sequence[float]) -> list[Array]:
    """Return ``lambda_l sign(W_l)`` of every layer, the subgradient that is 0 at 0."""
    return [float(lam) * np.sign(W_l) for lam, W_l in zip(l1, W, strict=True)]
