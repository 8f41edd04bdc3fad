"""More of the textbook in plain NumPy: the activations, losses and optimizers beside the first.

`reference` holds the network itself and one or two of each kind; this room holds the others, in
the same notation (examples are columns) and under the same rules.  ``docs/mathematics.md`` has
their formulas and sources.

Examples
--------
>>> elu(np.array([[-1.0, 2.0]])).round(4)
array([[-0.6321,  2.    ]])
"""

# NumPy types most results as Any, and casts would hide the equations:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
State: TypeAlias = tuple[Array, ...]
Hyper: TypeAlias = Mapping[str, float]
Curve: TypeAlias = tuple[Callable[[Array], Array], Callable[..., Array]]
Pair: TypeAlias = Callable[..., Array]
Step: TypeAlias = Callable[[Array, Array, State, int, Hyper], tuple[Array, State]]
Row = TypeVar("Row")


# Activations: A = f(Z), and dZ = dA * f'(Z).

ERFC = np.frompyfunc(math.erfc, 1, 1)
LEAK = 0.01
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


class Open(dict[str, Row]):
    """A table whose rows are found by name, those of the user's own too, which are not listed."""

    def __init__(self, rows: dict[str, Row]) -> None:
        """Begin with the library's own rows."""
        super().__init__(rows)
        self.own: dict[str, Row] = {}

    def __missing__(self, name: str) -> Row:
        """Return the row of the user's own."""
        return self.own[name]


def elu(Z: Array) -> Array:
    """Return ``z`` above 0 and ``exp(z) - 1`` below; the slope is ``exp(min(z, 0))``."""
    return np.maximum(Z, 0) + np.expm1(np.minimum(Z, 0))


def selu(Z: Array) -> Array:
    """Return ``scale z`` above 0 and ``scale alpha (exp(z) - 1)`` below."""
    return SELU_SCALE * (np.maximum(Z, 0) + SELU_ALPHA * np.expm1(np.minimum(Z, 0)))


def selu_backward(dA: Array, Z: Array, A: Array) -> Array:
    """Return ``da`` times scale above 0, times ``scale alpha exp(z)`` below."""
    return SELU_SCALE * np.where(Z > 0, dA, SELU_ALPHA * np.exp(np.minimum(Z, 0)) * dA)


def normal_cdf(Z: Array) -> Array:
    """Return ``Phi(z) = (1 + erf(z / sqrt(2))) / 2``, which is ``erfc(-z / sqrt(2)) / 2``."""
    return np.asarray(ERFC(-Z / math.sqrt(2)) / 2, Z.dtype)


def gelu_backward(dA: Array, Z: Array, A: Array) -> Array:
    """Return ``da (Phi(z) + z phi(z))``, with the normal density ``phi``."""
    return dA * (normal_cdf(Z) + Z * np.exp(-(Z**2) / 2) / math.sqrt(2 * math.pi))


def logistic(Z: Array) -> Array:
    """Return ``1 / (1 + exp(-z))``, which is ``(1 + tanh(z / 2)) / 2``."""
    return (1 + np.tanh(Z / 2)) / 2


def silu_backward(dA: Array, Z: Array, A: Array) -> Array:
    """Return ``da (s + z s (1 - s))``, with s of `logistic`."""
    s = logistic(Z)
    return dA * (s + Z * s * (1 - s))


def softplus(Z: Array) -> Array:
    """Return ``log(1 + exp(z)) = max(z, 0) + log(1 + exp(-|z|))``; the slope is `logistic`."""
    return np.maximum(Z, 0) + np.log1p(np.exp(-np.abs(Z)))


def mish(Z: Array) -> Array:
    """Return ``z tanh(softplus(z))``."""
    return Z * np.tanh(softplus(Z))


def mish_backward(dA: Array, Z: Array, A: Array) -> Array:
    """Return ``da (t + z (1 - t^2) s)``, with ``t = tanh(softplus(z))`` and s of `logistic`."""
    t = np.tanh(softplus(Z))
    return dA * (t + Z * (1 - t**2) * logistic(Z))


def increasing(Z: Array) -> Array:
    """Return ``z_1`` and then ``z_1 + sum_(i=2)^k softplus(z_i)``, from row to row."""
    return np.cumsum(np.concatenate([Z[:1], softplus(Z[1:])]), axis=0)


def increasing_backward(dA: Array, Z: Array, A: Array) -> Array:
    """Return ``dz_i = s_i sum_(k>=i) da_k`` with s of `logistic`, but 1 for the first row."""
    m = len(Z)
    passed = np.triu(np.ones((m, m), dA.dtype)) @ dA
    return np.concatenate([passed[:1], logistic(Z[1:]) * passed[1:]])


ACTIVATIONS: dict[str, Curve] = {
    "leaky_relu": (
        lambda Z: np.where(Z > 0, Z, LEAK * Z),
        lambda dA, Z, A: np.where(Z > 0, dA, LEAK * dA),
    ),
    "elu": (elu, lambda dA, Z, A: dA * np.exp(np.minimum(Z, 0))),
    "selu": (selu, selu_backward),
    "gelu": (lambda Z: Z * normal_cdf(Z), gelu_backward),
    "silu": (lambda Z: Z * logistic(Z), silu_backward),
    "softplus": (softplus, lambda dA, Z, A: dA * logistic(Z)),
    "mish": (mish, mish_backward),
    "softsign": (lambda Z: Z / (1 + np.abs(Z)), lambda dA, Z, A: dA / (1 + np.abs(Z)) ** 2),
    "hard_sigmoid": (
        lambda Z: np.clip(Z + 3, 0, 6) / 6,
        lambda dA, Z, A: dA * ((Z > -3) & (Z < 3)) / 6,
    ),
    "exp": (np.exp, lambda dA, Z, A: dA * A),
    "sin": (np.sin, lambda dA, Z, A: dA * np.cos(Z)),
    "increasing": (increasing, increasing_backward),
}


# Losses: L of each example, (d,), and its derivative by Yhat, the last layer's A, (m, d).


def mean_absolute_error(Yhat: Array, Y: Array) -> Array:
    """Return ``mean_k |yhat_k - y_k|``."""
    return np.mean(np.abs(Yhat - Y), axis=0)


def huber(Yhat: Array, Y: Array, delta: float) -> Array:
    """Return the mean of ``e_k^2 / 2`` up to delta, of ``delta (|e_k| - delta / 2)`` beyond."""
    E = np.abs(Yhat - Y)
    return np.mean(np.where(delta >= E, E**2 / 2, delta * (E - delta / 2)), axis=0)


def log_cosh(Yhat: Array, Y: Array) -> Array:
    """Return ``mean_k log cosh(e_k) = mean_k (|e_k| + log(1 + exp(-2 |e_k|)) - log(2))``."""
    E = np.abs(Yhat - Y)
    return np.mean(E + np.log1p(np.exp(-2 * E)) - math.log(2), axis=0)


def poisson(Yhat: Array, Y: Array) -> Array:
    """Return ``mean_k (yhat_k - y_k log yhat_k)``, for ``0 < yhat_k``."""
    return np.mean(Yhat - Y * np.log(Yhat), axis=0)


def exp_poisson(Z: Array, Y: Array) -> Array:
    """Return the same from Z of an exponential: ``mean_k (exp(z_k) - y_k z_k)``."""
    return np.mean(np.exp(Z) - Y * Z, axis=0)


def pinball(Yhat: Array, Y: Array, quantile: float) -> Array:
    """Return ``mean_k max(q (y_k - yhat_k), (q - 1) (y_k - yhat_k))`` at the quantile q."""
    return np.mean(np.maximum(quantile * (Y - Yhat), (quantile - 1) * (Y - Yhat)), axis=0)


def gaussian_nll(Yhat: Array, Y: Array) -> Array:
    """Return ``mean_k (s_k + (mu_k - y_k)^2 / exp(s_k)) / 2``, where Yhat holds mu, then s."""
    mu, s = np.split(Yhat, 2)
    return np.mean(s + (mu - Y) ** 2 / np.exp(s), axis=0) / 2


def gaussian_nll_derivative(Yhat: Array, Y: Array) -> Array:
    """Return ``(mu_k - y_k) / exp(s_k)``, then ``(1 - (mu_k - y_k)^2 / exp(s_k)) / 2``, by m."""
    mu, s = np.split(Yhat, 2)
    by_mu = (mu - Y) / np.exp(s)
    return np.concatenate([by_mu, (1 - (mu - Y) * by_mu) / 2]) / len(Y)


def hinge(Yhat: Array, Y: Array) -> Array:
    """Return ``mean_k max(0, 1 - t_k yhat_k)`` for the sides ``t_k = 2 y_k - 1``."""
    return np.mean(np.maximum(0, 1 - (2 * Y - 1) * Yhat), axis=0)


def hinge_derivative(Yhat: Array, Y: Array) -> Array:
    """Return ``-t_k`` where ``t_k yhat_k < 1``, else 0, by m."""
    T = 2 * Y - 1
    return -T * np.heaviside(1 - T * Yhat, 0) / len(Y)


LOSSES: dict[str, tuple[Pair, Pair]] = {
    "mean_absolute_error": (mean_absolute_error, lambda A, Y: np.sign(A - Y) / len(Y)),
    "huber": (huber, lambda A, Y, delta: np.clip(A - Y, -delta, delta) / len(Y)),
    "log_cosh": (log_cosh, lambda A, Y: np.tanh(A - Y) / len(Y)),
    "poisson": (poisson, lambda A, Y: (1 - Y / A) / len(Y)),
    "quantile": (pinball, lambda A, Y, quantile: ((np.sign(A - Y) + 1) / 2 - quantile) / len(Y)),
    "gaussian_nll": (gaussian_nll, gaussian_nll_derivative),
    "hinge": (hinge, hinge_derivative),
}

MATCHED: dict[tuple[str, str], tuple[Pair, Pair]] = {
    ("poisson", "exp"): (exp_poisson, lambda Z, Y: (np.exp(Z) - Y) / len(Y)),
    ("gaussian_nll", "identity"): LOSSES["gaussian_nll"],
}


# Update: a parameter theta, its gradient g and its state, at step t = 1, 2, ...


def rmsprop_step(theta: Array, g: Array, state: State, t: int, hyper: Hyper) -> tuple[Array, State]:
    """Return ``v = rho v + (1 - rho) g^2``, then ``theta - eta g / (sqrt(v) + epsilon)``."""
    eta, rho = float(hyper["learning_rate"]), float(hyper["rho"])
    v = rho * state[0] + (1 - rho) * g**2
    return theta - eta * g / (np.sqrt(v) + float(hyper["epsilon"])), (v,)


def adagrad_step(theta: Array, g: Array, state: State, t: int, hyper: Hyper) -> tuple[Array, State]:
    """Return ``v = v + g^2``, then ``theta - eta g / (sqrt(v) + epsilon)``."""
    v = state[0] + g**2
    step = float(hyper["learning_rate"]) * g / (np.sqrt(v) + float(hyper["epsilon"]))
    return theta - step, (v,)


def running_means(g: Array, state: State, hyper: Hyper) -> State:
    """Return Adam's m and v: the running means of g and g^2."""
    beta_1, beta_2 = float(hyper["beta_1"]), float(hyper["beta_2"])
    return beta_1 * state[0] + (1 - beta_1) * g, beta_2 * state[1] + (1 - beta_2) * g**2


def adamw_step(theta: Array, g: Array, state: State, t: int, hyper: Hyper) -> tuple[Array, State]:
    """Return Adam's step with the decay beside it: ``theta - eta (adam + lambda theta)``."""
    m, v = running_means(g, state, hyper)
    m_hat, v_hat = m / (1 - float(hyper["beta_1"]) ** t), v / (1 - float(hyper["beta_2"]) ** t)
    adam = m_hat / (np.sqrt(v_hat) + float(hyper["epsilon"]))
    step = adam + float(hyper["weight_decay"]) * theta
    return theta - float(hyper["learning_rate"]) * step, (m, v)


def nadam_step(theta: Array, g: Array, state: State, t: int, hyper: Hyper) -> tuple[Array, State]:
    """Return Adam's step by the momentum to come, with ``mu_t = beta_1 (1 - 0.96^(t/250) / 2)``."""
    m, v = running_means(g, state, hyper)
    eta, epsilon = float(hyper["learning_rate"]), float(hyper["epsilon"])
    mu = float(hyper["beta_1"]) * (1 - 0.96 ** (np.arange(1, t + 2) / 250) / 2)
    now, later = float(1 - np.prod(mu[:-1])), float(1 - np.prod(mu))
    ahead = float(mu[-1]) * m / later + float(1 - mu[-2]) * g / now
    v_hat = v / (1 - float(hyper["beta_2"]) ** t)
    return theta - eta * ahead / (np.sqrt(v_hat) + epsilon), (m, v)


def radam_step(theta: Array, g: Array, state: State, t: int, hyper: Hyper) -> tuple[Array, State]:
    """Return Adam's step rectified by r, or where v averages too little, ``theta - eta m_hat``."""
    m, v = running_means(g, state, hyper)
    eta, beta_2 = float(hyper["learning_rate"]), float(hyper["beta_2"])
    m_hat = m / (1 - float(hyper["beta_1"]) ** t)
    rho_end = 2 / (1 - beta_2) - 1
    rho = rho_end - 2 * t * beta_2**t / (1 - beta_2**t)
    if rho <= 4:
        return theta - eta * m_hat, (m, v)
    r = math.sqrt((rho - 4) * (rho - 2) * rho_end / ((rho_end - 4) * (rho_end - 2) * rho))
    v_hat = v / (1 - beta_2**t)
    return theta - eta * r * m_hat / (np.sqrt(v_hat) + float(hyper["epsilon"])), (m, v)


def rprop_step(theta: Array, g: Array, state: State, t: int, hyper: Hyper) -> tuple[Array, State]:
    """Return a step of each parameter's own size by the sign of g; where it turns, none."""
    hyper = {name: float(value) for name, value in hyper.items()}
    size = state[1] if t > 1 else np.full_like(theta, hyper["learning_rate"])
    same = np.sign(g) * np.sign(state[0])
    size = np.where(same > 0, hyper["increase"] * size, size)
    size = np.where(same < 0, hyper["decrease"] * size, size)
    size = np.clip(size, hyper["smallest"], hyper["largest"])
    g = np.where(same < 0, 0, g)
    return theta - np.sign(g) * size, (g, size)


OPTIMIZERS: dict[str, Step] = {
    "RMSprop": rmsprop_step,
    "Adagrad": adagrad_step,
    "AdamW": adamw_step,
    "Nadam": nadam_step,
    "RAdam": radam_step,
    "Rprop": rprop_step,
}
