"""More optimizers of the textbook in plain NumPy: Adadelta, Adamax, AMSGrad and Lion.

They stand under the rules of `reference` and in its notation: a parameter theta, its gradient g and
its state, at step t = 1, 2, ...

Examples
--------
>>> hyper = {"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.99, "weight_decay": 0.0}
>>> lion_step(np.array([1.0]), np.array([-7.0]), (np.zeros(1),), 1, hyper)[0]
array([1.1])
"""

# NumPy types most results as Any, and casts would hide the equations:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from fastnn.equations import tables as more
from fastnn.equations.tables import Array, Hyper, State, Step, running_means


def adadelta_step(
    theta: Array, g: Array, state: State, t: int, hyper: Hyper
) -> tuple[Array, State]:
    """Return ``theta - eta d`` with ``d = sqrt(u + epsilon) / sqrt(v + epsilon) g``."""
    rho, epsilon = float(hyper["rho"]), float(hyper["epsilon"])
    v = rho * state[0] + (1 - rho) * g**2
    d = np.sqrt(state[1] + epsilon) / np.sqrt(v + epsilon) * g
    u = rho * state[1] + (1 - rho) * d**2
    return theta - float(hyper["learning_rate"]) * d, (v, u)


def adamax_step(theta: Array, g: Array, state: State, t: int, hyper: Hyper) -> tuple[Array, State]:
    """Return ``u = max(beta_2 u, |g| + epsilon)``, then ``theta - eta m_hat / u``."""
    eta, beta_1, beta_2 = (float(hyper[name]) for name in ("learning_rate", "beta_1", "beta_2"))
    m = beta_1 * state[0] + (1 - beta_1) * g
    u = np.maximum(beta_2 * state[1], np.abs(g) + float(hyper["epsilon"]))
    return theta - eta / (1 - beta_1**t) * m / u, (m, u)


def amsgrad_step(theta: Array, g: Array, state: State, t: int, hyper: Hyper) -> tuple[Array, State]:
    """Return Adam's step by the largest v so far."""
    m, v = running_means(g, state, hyper)
    most = np.maximum(state[2], v)
    m_hat = m / (1 - float(hyper["beta_1"]) ** t)
    root = np.sqrt(most / (1 - float(hyper["beta_2"]) ** t)) + float(hyper["epsilon"])
    return theta - float(hyper["learning_rate"]) * m_hat / root, (m, v, most)


def lion_step(theta: Array, g: Array, state: State, t: int, hyper: Hyper) -> tuple[Array, State]:
    """Return ``theta - eta (sign(beta_1 m + (1 - beta_1) g) + lambda theta)``, then m by beta_2."""
    beta_1, beta_2 = float(hyper["beta_1"]), float(hyper["beta_2"])
    side = np.sign(beta_1 * state[0] + (1 - beta_1) * g)
    step = side + float(hyper["weight_decay"]) * theta
    m = beta_2 * state[0] + (1 - beta_2) * g
    return theta - float(hyper["learning_rate"]) * step, (m,)


OPTIMIZERS: dict[str, Step] = {
    **more.OPTIMIZERS,
    "Adadelta": adadelta_step,
    "Adamax": adamax_step,
    "AMSGrad": amsgrad_step,
    "Lion": lion_step,
}


# What a step ends with.


def bounded(W: Array, max_norm: float | None, non_negative: bool) -> Array:
    """Return ``w_jk = max(w_jk, 0)``, then ``w_j = w_j min(1, c / ||w_j||)``, of each unit j.

    The rows of W are the units' incoming weights.
    """
    if non_negative:
        W = np.maximum(W, 0)
    if max_norm is not None:
        length = np.linalg.norm(W, axis=1, keepdims=True)
        W = np.where(length > max_norm, W * (max_norm / np.maximum(length, max_norm)), W)
    return W
