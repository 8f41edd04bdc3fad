"""The textbook's second derivatives: a Hessian times a vector, without the Hessian.

Pearlmutter's operator R takes the derivative of everything along a direction v of the parameters:
``R{f} = d f(theta + t v) / dt`` at t = 0.  EXAMPLES ARE COLUMNS, as in `reference`; RA is R{A}.
"""

# NumPy types most results as Any, and casts would hide the equations:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import reference
from fastnn.equations.tables import SELU_ALPHA, SELU_SCALE, logistic, softplus
from fastnn.equations.walk import Passed, Walk, columns, deactivated
from fastnn.layout import Layout, Operation
from fastnn.losses import Loss

__all__ = ["hessian_product", "knows"]

Floats: TypeAlias = NDArray[np.floating]
Batch: TypeAlias = tuple[Floats, Floats, Floats | None]


def _mish(Z: Floats) -> Floats:
    """Return ``2 t' + z t''`` for ``t = tanh(softplus(z))``."""
    t, s = np.tanh(softplus(Z)), logistic(Z)
    slope = (1 - t**2) * s
    return 2 * slope + Z * (-2 * t * slope * s + (1 - t**2) * s * (1 - s))


def _silu(Z: Floats) -> Floats:
    """Return ``s (1 - s) (2 + z (1 - 2 s))``."""
    s = logistic(Z)
    return s * (1 - s) * (2 + Z * (1 - 2 * s))


def _bell(Z: Floats) -> Floats:
    """Return ``s (1 - s)``, with s of `logistic`."""
    return logistic(Z) * (1 - logistic(Z))


#: Second derivatives by z.
BENDS: dict[str, Callable[[Floats], Floats]] = {
    "identity": np.zeros_like,
    "relu": np.zeros_like,
    "leaky_relu": np.zeros_like,
    "hard_sigmoid": np.zeros_like,
    "sigmoid": lambda Z: _bell(Z) * (1 - 2 * logistic(Z)),
    "tanh": lambda Z: -2 * np.tanh(Z) * (1 - np.tanh(Z) ** 2),
    "elu": lambda Z: np.where(Z > 0, 0, np.exp(np.minimum(Z, 0))),
    "selu": lambda Z: SELU_SCALE * SELU_ALPHA * np.where(Z > 0, 0, np.exp(np.minimum(Z, 0))),
    "gelu": lambda Z: (2 - Z**2) * np.exp(-(Z**2) / 2) / math.sqrt(2 * math.pi),
    "silu": _silu,
    "softplus": _bell,
    "mish": _mish,
    "softsign": lambda Z: -2 * np.sign(Z) / (1 + np.abs(Z)) ** 3,
    "exp": np.exp,
    "sin": lambda Z: -np.sin(Z),
}

#: Second derivatives of losses by each output, times m.
LOSSES: dict[str, Callable[..., Floats]] = {
    "mean_squared_error": lambda A, Y: np.full_like(A, 2.0),
    "mean_absolute_error": lambda A, Y: np.zeros_like(A),
    "huber": lambda A, Y, delta: (np.abs(A - Y) <= delta).astype(A.dtype),
    "log_cosh": lambda A, Y: 1 - np.tanh(A - Y) ** 2,
    "quantile": lambda A, Y, quantile: np.zeros_like(A),
    "hinge": lambda A, Y: np.zeros_like(A),
}

# Where dZ of the last layer is A - Y, but for factors that do not depend on the parameters.
MATCHED = {
    ("cross_entropy", "softmax"): False,
    ("binary_cross_entropy", "sigmoid"): True,
    ("poisson", "exp"): True,
}


def knows(layout: Layout, loss: Loss) -> bool:
    """Say whether the equations of all layers and of the loss stand here."""
    operations = layout.without_training().operations
    last = operations[-1].activation
    known = loss.name in LOSSES or (loss.name, last) in MATCHED or loss.name == "gaussian_nll"
    layers = all(one.kind.answered for one in operations)
    return (
        known
        and layers
        and all(one.activation in BENDS or one.activation == "softmax" for one in operations)
    )


def activated(one: Operation, seen: Passed, RZ: Floats) -> Floats:
    """Return RA; the derivatives of every activation are symmetric."""
    return deactivated(one, RZ, seen)


def bent(one: Operation, seen: Passed, dA: Floats, RdA: Floats, RZ: Floats, RA: Floats) -> Floats:
    """Return R{dZ} for ``dZ = dA f'(Z)``."""
    if one.activation == "softmax":
        A = seen.A
        along = np.sum(A * dA, axis=0)
        R_along = np.sum(RA * dA + A * RdA, axis=0)
        return RA * (dA - along) + A * (RdA - R_along)
    return deactivated(one, RdA, seen) + BENDS[one.activation](seen.Z) * RZ * dA


def output_bends(
    loss: Loss, one: Operation, seen: Passed, batch: Batch, RZ: Floats, RA: Floats
) -> tuple[Floats, Floats]:
    """Return dZ of the last layer and R{dZ}."""
    _, Y, w = batch
    m, A = len(Y), seen.A
    share = 1 / Y.shape[1] if w is None else w / w.sum()
    dZ = reference.output_gradient(
        loss.name, one.activation, seen.Z, A, Y, w, **loss.settings
    )  # fmt: skip
    key = loss.name, one.activation
    if key in MATCHED:
        return dZ, RA * share / (m if MATCHED[key] else 1)
    if loss.name == "gaussian_nll":
        (mu, s), (Rmu, Rs) = np.split(A, 2), np.split(RA, 2)
        e = np.exp(-s)
        by_mu = (Rmu - (mu - Y) * Rs) * e
        by_s = -(mu - Y) * Rmu * e + (mu - Y) ** 2 * e * Rs / 2
        return dZ, np.concatenate([by_mu, by_s]) * share / m
    dA = reference.LOSSES[loss.name][1](A, Y, **loss.settings) * share
    RdA = LOSSES[loss.name](A, Y, **loss.settings) * RA * share / m
    return dZ, bent(one, seen, dA, RdA, RZ, RA)


def hessian_product(layout: Layout, vector: Floats, loss: Loss, batch: Batch, v: Floats) -> Floats:
    """Return ``H v`` for the Hessian H of the training loss, with L2.

    Reads batch, X, Y and w with examples as columns; zero, in and out, for what is frozen.
    """
    operations = layout.without_training().operations
    walk = Walk(layout.without_training(), vector, loss, batch)
    passed = walk.forward()
    Rsource: Any = np.zeros_like(batch[0])
    RZs, RAs, sources = [], [], []
    for one, seen in zip(operations, passed, strict=True):
        (W, *b), (RW, *Rb) = columns(layout, vector, one), columns(layout, v, one)
        sources.append(Rsource)
        RZ = W @ Rsource + one.trainable * (RW @ seen.source + (Rb[0] if b else 0))
        RZs.append(RZ)
        Rsource = activated(one, seen, RZ)
        RAs.append(Rsource)
    flat = np.zeros_like(vector)
    dZ, RdZ = output_bends(loss, operations[-1], passed[-1], batch, RZs[-1], RAs[-1])
    for place in reversed(range(len(operations))):
        one, seen = operations[place], passed[place]
        (W, *_), (RW, *_) = columns(layout, vector, one), columns(layout, v, one)
        if one.trainable:
            into = columns(layout, flat, one)
            into[0][:] = RdZ @ seen.source.T + dZ @ sources[place].T + one.l2 * RW
            for to in into[1:]:
                to[:] = RdZ.sum(axis=1, keepdims=True)
        if place:
            below, before = operations[place - 1], passed[place - 1]
            dA, RdA = W.T @ dZ, W.T @ RdZ + one.trainable * (RW.T @ dZ)
            dZ = deactivated(below, dA, before)
            RdZ = bent(below, before, dA, RdA, RZs[place - 1], RAs[place - 1])
    return flat
