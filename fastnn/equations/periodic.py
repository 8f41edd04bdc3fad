"""The textbook's equations of learnt periodic features; EXAMPLES ARE COLUMNS, as in `reference`.

Gorishniy, Rubachev & Babenko 2022, "On embeddings for numerical features in tabular deep learning".
"""

# NumPy types most results as Any, and casts would hide the equations:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.equations.kinds import Equations, Parameters
from fastnn.equations.tables import Array

__all__ = ["NUMERIC_EMBEDDING"]


def _of_column(layer: Any, parameters: Parameters, j: int) -> tuple[Array, Array, Array]:
    """Return the frequencies (k, 1), weights (e, 2k) and biases (e, 1) of a row of A."""
    C, W, B = parameters
    k = layer.frequencies
    return C[:, j : j + 1], W[:, 2 * k * j : 2 * k * (j + 1)], B[:, j : j + 1]


def _angles(c: Array, x: Array) -> Array:
    """Return ``2 pi c x`` for each frequency and example."""
    return 2 * np.pi * c * x


def _waves(c: Array, x: Array) -> Array:
    """Return ``v = [sin t, cos t]`` of the angles t."""
    t = _angles(c, x)
    return np.vstack([np.sin(t), np.cos(t)])


def _numeric(layer: Any, parameters: Parameters, A: Array, D: Array | None) -> Array:
    """Return ``relu(W v + b)`` of each row, one below the other, then the rows that pass."""
    found, count = [], len(A) - layer.passing
    for j in range(count):
        c, W, b = _of_column(layer, parameters, j)
        found.append(np.maximum(W @ _waves(c, A[j]) + b, 0))
    return np.vstack([*found, A[count:]])


def _slopes(layer: Any, Z: Array, dZ: Array, j: int) -> Array:
    """Return the derivative by ``W v + b`` of a row."""
    rows = slice(layer.dimension * j, layer.dimension * (j + 1))
    return dZ[rows] * (Z[rows] > 0)


def _angle_slopes(
    layer: Any, parameters: Parameters, A: Array, Z: Array, dZ: Array, j: int
) -> Array:
    """Return the derivative by the angles of a row: ``dt = dv_sin cos t - dv_cos sin t``."""
    c, W, _ = _of_column(layer, parameters, j)
    t, dv = _angles(c, A[j]), W.T @ _slopes(layer, Z, dZ, j)
    k = layer.frequencies
    return dv[:k] * np.cos(t) - dv[k:] * np.sin(t)


def _numeric_backward(
    layer: Any, parameters: Parameters, A: Array, Z: Array, dZ: Array, D: Array | None
) -> Array:
    """Return dA: ``sum 2 pi c dt`` over a row's frequencies; dZ of rows that pass."""
    dA, count = np.empty_like(A), len(A) - layer.passing
    for j in range(count):
        dt = _angle_slopes(layer, parameters, A, Z, dZ, j)
        dA[j] = np.sum(2 * np.pi * _of_column(layer, parameters, j)[0] * dt, axis=0)
    dA[count:] = dZ[count * layer.dimension :]
    return dA


def _numeric_gradient(
    layer: Any, parameters: Parameters, A: Array, Z: Array, dZ: Array
) -> Parameters:
    """Return ``dc = sum 2 pi x dt``, ``dW = dz v^T`` and ``db = dz 1`` of each row."""
    dC, dW, dB = (np.zeros_like(one) for one in parameters)
    for j in range(len(A) - layer.passing):
        (c, _, _), dz = _of_column(layer, parameters, j), _slopes(layer, Z, dZ, j)
        to_c, to_W, to_b = _of_column(layer, (dC, dW, dB), j)
        dt = _angle_slopes(layer, parameters, A, Z, dZ, j)
        to_c[:] = np.sum(2 * np.pi * A[j] * dt, axis=1, keepdims=True)
        to_W[:] = dz @ _waves(c, A[j]).T
        to_b[:] = np.sum(dz, axis=1, keepdims=True)
    return dC, dW, dB


NUMERIC_EMBEDDING = Equations(_numeric, _numeric_backward, _numeric_gradient)
