"""The least loss that one prediction for all examples has: what a network has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import reference
from fastnn.equations.losses import smoothed
from fastnn.losses import Loss

__all__ = ["constant_loss"]

Floats = NDArray[np.floating[Any]]

# Rows that it is sought with, evenly spread.
_ROWS = 10_000

_THIRDS = 60


def constant_loss(loss: Loss, targets: Floats) -> float:
    """Return the least loss that one prediction for all examples has, of the loss's own kind.

    Parameters
    ----------
    loss : Loss
        Its row.
    targets : ndarray, shape (n, m)
        One-hot rows for classes.

    Returns
    -------
    float
        The mean loss of that prediction: of the mean, of each class's share, or of what the
        loss is least at.

    Examples
    --------
    >>> from fastnn.losses import LOSSES
    >>> constant_loss(LOSSES["mean_squared_error"], np.array([[1.0], [3.0]]))
    1.0
    >>> round(constant_loss(LOSSES["cross_entropy"], np.eye(2)), 4)
    0.6931
    """
    Y = targets[:: -(-len(targets) // _ROWS)].astype(np.float64)
    mean = smoothed(loss.name, Y.mean(axis=0), loss.settings)[0]
    with np.errstate(all="ignore"):
        if loss.name == "cross_entropy":
            return float(-np.sum(mean * np.log(np.where(mean > 0.0, mean, 1.0))))
        if loss.name == "binary_cross_entropy":
            parts = [
                share * np.log(np.where(share > 0.0, share, 1.0)) for share in (mean, 1 - mean)
            ]
            return float(-(parts[0] + parts[1]).mean())
        if loss.name == "poisson":
            return float((mean - mean * np.log(np.where(mean > 0.0, mean, 1.0))).mean())
        if loss.name in ("focal", "gamma", "tweedie"):
            # The last two are least there.
            some = np.where(mean > 0.0, mean, 1.0)[:, None]
            return float(
                reference.LOSSES[loss.name][0](some, mean[:, None], **loss.settings).mean()
            )
        if loss.name == "gaussian_nll":
            return float((np.log(Y.var(axis=0)) + 1.0).mean() / 2.0)
        if loss.name == "quantiles":
            guess = np.quantile(Y[:, 0], loss.settings["quantiles"], method="inverted_cdf")
            every = np.tile(guess[:, None], len(Y))
            return float(reference.LOSSES[loss.name][0](every, Y.T, **loss.settings).mean())
        if loss.name == "mean_squared_error":
            return float(Y.var(axis=0).mean())
        return float(_least(loss, Y).mean())


def _least(loss: Loss, Y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the least mean loss of a constant for each target, by thirds: all are convex."""
    of_pair = reference.LOSSES[loss.name][0]

    def losses(guess: NDArray[np.float64]) -> NDArray[np.float64]:
        each = [
            of_pair(np.full((1, len(Y)), at), Y[None, :, place], **loss.settings).mean()
            for place, at in enumerate(guess)
        ]
        return np.array(each)

    low, high = Y.min(axis=0), Y.max(axis=0)
    if loss.targets == "sides":
        low, high = np.full_like(low, -1.0), np.full_like(high, 1.0)
    for _ in range(_THIRDS):
        left, right = low + (high - low) / 3.0, high - (high - low) / 3.0
        better = losses(left) < losses(right)
        low, high = np.where(better, low, left), np.where(better, right, high)
    return losses((low + high) / 2.0)
