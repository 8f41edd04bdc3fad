"""The textbook's equations of normalisations; EXAMPLES ARE COLUMNS, as in `reference`.

Ba, Kiros & Hinton 2016, "Layer normalization"; Zhang & Sennrich 2019, "Root mean square layer
normalization"; Ioffe & Szegedy 2015, "Batch normalization".
"""

# NumPy types most results as Any, and casts would hide the equations:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.equations.kinds import Equations, Parameters
from fastnn.equations.tables import Array

__all__ = ["BATCH_NORM", "LAYER_NORM", "RMS_NORM"]


def _deviation(layer: Any, A: Array) -> Array:
    """Return ``sqrt(variance + epsilon)`` of each column."""
    return np.sqrt(A.var(axis=0) + A.dtype.type(layer.epsilon))


def _layer_norm(layer: Any, parameters: Parameters, A: Array, D: Array | None) -> Array:
    """Return ``scale (A - mean) / sqrt(variance + epsilon) + shift``, each column by itself."""
    scale, shift = parameters
    return scale * (A - A.mean(axis=0)) / _deviation(layer, A) + shift


def _layer_norm_backward(
    layer: Any, parameters: Parameters, A: Array, Z: Array, dZ: Array, D: Array | None
) -> Array:
    """Return dA by the chain over variance and mean: both hang on every number of a column."""
    n, s = len(A), _deviation(layer, A)
    off, slope = A - A.mean(axis=0), parameters[0] * dZ
    dvariance = -np.sum(slope * off, axis=0) / (2 * s**3)
    dmean = -np.sum(slope, axis=0) / s - 2 * dvariance * off.mean(axis=0)
    return slope / s + 2 * dvariance * off / n + dmean / n


def _layer_norm_gradient(
    layer: Any, parameters: Parameters, A: Array, Z: Array, dZ: Array
) -> Parameters:
    """Return ``dscale = sum dZ (A - mean) / sqrt(variance + epsilon)`` and ``dshift = sum dZ``."""
    normal = (A - A.mean(axis=0)) / _deviation(layer, A)
    return np.sum(dZ * normal, axis=1, keepdims=True), np.sum(dZ, axis=1, keepdims=True)


LAYER_NORM = Equations(_layer_norm, _layer_norm_backward, _layer_norm_gradient)


def _length(layer: Any, A: Array) -> Array:
    """Return ``sqrt(mean a^2 + epsilon)`` of each column."""
    return np.sqrt(np.mean(A**2, axis=0) + A.dtype.type(layer.epsilon))


def _rms_norm_backward(
    layer: Any, parameters: Parameters, A: Array, Z: Array, dZ: Array, D: Array | None
) -> Array:
    """Return dA: a number counts by itself, and in the length by which all are divided."""
    r, slope = _length(layer, A), parameters[0] * dZ
    return slope / r - A * np.sum(slope * A, axis=0) / (len(A) * r**3)


RMS_NORM = Equations(
    lambda layer, parameters, A, D: parameters[0] * A / _length(layer, A),
    _rms_norm_backward,
    lambda layer, parameters, A, Z, dZ: (
        np.sum(dZ * A / _length(layer, A), axis=1, keepdims=True),
    ),
)


def _statistics(A: Array, w: Array) -> Parameters:
    """Return mean and variance of each row, in which examples have the parts w."""
    mean = np.sum(w * A, axis=1, keepdims=True)
    return mean, np.sum(w * (A - mean) ** 2, axis=1, keepdims=True)


def _normal(layer: Any, parameters: Parameters, A: Array) -> Array:
    """Return ``(A - mean) / sqrt(variance + epsilon)``, each row by itself."""
    _, _, mean, variance, _ = parameters
    return (A - mean) / np.sqrt(variance + A.dtype.type(layer.epsilon))


def _batch_norm_backward(
    layer: Any, parameters: Parameters, A: Array, Z: Array, dZ: Array, D: Array | None
) -> Array:
    """Return dA by the chain over variance and mean, on which examples have the effect w."""
    scale, _, mean, variance, w = parameters
    s, slope = np.sqrt(variance + A.dtype.type(layer.epsilon)), scale * dZ
    off = A - mean
    dvariance = -np.sum(slope * off, axis=1, keepdims=True) / (2 * s**3)
    dmean = -np.sum(slope, axis=1, keepdims=True) / s
    dmean = dmean - 2 * dvariance * np.sum(w * off, axis=1, keepdims=True)
    return slope / s + w * (2 * dvariance * off + dmean)


BATCH_NORM = Equations(
    lambda layer, parameters, A, D: parameters[0] * _normal(layer, parameters, A) + parameters[1],
    _batch_norm_backward,
    lambda layer, parameters, A, Z, dZ: (
        np.sum(dZ * _normal(layer, parameters, A), axis=1, keepdims=True),
        np.sum(dZ, axis=1, keepdims=True),
    ),
    _statistics,
)
