"""Metrics that are means of how far each prediction lies from its target.

Targets and predictions are ``(n, m)``, one row per example, weights ``(n,)`` or None.  Sums are
taken in float64; nothing here raises over numbers, as `metrics` says.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "coverage", "log_loss", "log_loss_by_output", "mean", "mean_absolute_error",
    "mean_absolute_percentage_error", "mean_squared_error", "r2", "root_mean_squared_error",
    "spreads",
]  # fmt: skip

Floats: TypeAlias = NDArray[np.floating[Any]]

# What a percentage is taken of where a target is 0.
_LEAST_TARGET = float(np.finfo(np.float64).eps)


def mean(values: NDArray[Any], weights: Floats | None) -> NDArray[np.float64]:
    """Average over examples, the first axis, in float64.

    Parameters
    ----------
    values : ndarray (n, ...)
        One entry per example.
    weights : ndarray (n,) or None
        How much each counts.

    Returns
    -------
    ndarray of float64 (...)
        NaN where there is no weight.
    """
    if weights is None:
        return np.asarray(values.mean(axis=0, dtype=np.float64))
    w = weights.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(np.tensordot(w, values.astype(np.float64), axes=1) / w.sum())


def _difference(targets: Floats, predictions: Floats) -> NDArray[np.float64]:
    """Subtract in float64, whatever the dtypes."""
    return np.asarray(np.subtract(predictions, targets, dtype=np.float64))


def _squared_errors(
    targets: Floats, predictions: Floats, weights: Floats | None
) -> NDArray[np.float64]:
    """Mean squared error of each output, ``(m,)``."""
    with np.errstate(over="ignore", invalid="ignore"):
        return mean(np.square(_difference(targets, predictions)), weights)


def mean_squared_error(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Mean over outputs of ``mean (a - y)^2``."""
    return float(_squared_errors(targets, predictions, weights).mean())


def root_mean_squared_error(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Mean over outputs of ``sqrt(mean (a - y)^2)``, each root in its output's own unit."""
    return float(np.sqrt(_squared_errors(targets, predictions, weights)).mean())


def mean_absolute_error(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Mean over outputs of ``mean |a - y|``."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(mean(np.abs(_difference(targets, predictions)), weights).mean())


def mean_absolute_percentage_error(
    targets: Floats, predictions: Floats, weights: Floats | None
) -> float:
    """Mean over outputs of ``mean |a - y| / |y|``, as a share; |y| counts as 2.2e-16 at least."""
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = np.maximum(np.abs(targets.astype(np.float64)), _LEAST_TARGET)
        return float(mean(np.abs(_difference(targets, predictions)) / sizes, weights).mean())


def r2(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Mean over outputs of ``1 - sum (a - y)^2 / sum (y - mean y)^2``.

    An output whose targets are all the same scores 1 if it is predicted exactly, else 0; fewer
    than two examples of some weight give NaN.
    """
    spread = spreads(targets, weights)
    residual = _squared_errors(targets, predictions, weights)
    flat = spread == 0.0
    explained = 1.0 - residual / np.where(flat, 1.0, spread)
    of_flat = np.where(np.isnan(residual), np.nan, np.where(residual == 0.0, 1.0, 0.0))
    return float(np.where(flat, of_flat, explained).mean())


def coverage(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Share of targets from the lowest to the highest of their predicted quantiles.

    Predictions are ``(n, k)``, a column for each quantile of the one target.  It is nominal where
    it is the distance of the two quantiles: 0.9 for 0.05 and 0.95.
    """
    if not np.isfinite(predictions).all():
        return float("nan")
    inside = (predictions[:, :1] <= targets) & (targets <= predictions[:, -1:])
    return float(mean(inside, weights)[0])


def spreads(targets: Floats, weights: Floats | None) -> NDArray[np.float64]:
    """Return the mean squared distance of each target from its mean, by which r2 divides.

    Parameters
    ----------
    targets : ndarray (n, m)
        One row per example.
    weights : ndarray (n,) or None
        How much each counts.

    Returns
    -------
    ndarray of float64 (m,)
        0 where all targets of some weight are the same; NaN where there are fewer than two.
    """
    counted = targets if weights is None else targets[weights > 0]
    if len(counted) < 2:
        return np.full(targets.shape[1], np.nan)
    spread = _squared_errors(targets, mean(targets, weights).reshape(1, -1), weights)
    # Constant targets are told by the values themselves: their mean is rounded, so that their
    # spread need not be zero.
    return np.where(counted.min(axis=0) == counted.max(axis=0), 0.0, spread)


def log_loss(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Mean of ``-sum y log p`` over classes, p no nearer to 0 and 1 than its dtype tells apart."""
    if not np.isfinite(predictions).all():
        return float("nan")
    surprise = -(targets.astype(np.float64) * np.log(_inside(predictions))).sum(axis=1)
    return float(mean(surprise, weights))


def log_loss_by_output(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Mean over outputs of ``-(y log p + (1 - y) log(1 - p))``, p kept inside as in `log_loss`."""
    if not np.isfinite(predictions).all():
        return float("nan")
    y, p = targets.astype(np.float64), _inside(predictions)
    surprise = -(y * np.log(p) + (1.0 - y) * np.log(1.0 - p))
    return float(mean(surprise, weights).mean())


def _inside(predictions: Floats) -> NDArray[np.float64]:
    """Return probabilities that are neither 0 nor 1, in float64."""
    least = np.finfo(predictions.dtype).eps
    return np.clip(predictions, least, 1 - least).astype(np.float64)
