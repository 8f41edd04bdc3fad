"""Why a fit became non-finite, where the reason is the scale of y."""

from __future__ import annotations

import numpy as np

from fastnn.data import Data
from fastnn.estimators.judge import Measure, mean_loss, outputs_for
from fastnn.network import Sequential

__all__ = ["overflow"]

# Losses, and rules that keep means of squared gradients, overflow from about the root of the
# largest number on; gradients are some larger than targets.
_MARGIN = 1e-3
_SQUARED = ("mean_squared_error", "gaussian_nll")

# Of which the square still fits float64.
_FITS_DOUBLE = 1e150


def overflow(network: Sequential, measure: Measure, known: Data) -> str | None:
    """Say that targets are too large for the loss's dtype; None where the fault lies elsewhere.

    Parameters
    ----------
    network : Sequential
        With the last finite weights.
    measure : Measure
        How the loss is measured.
    known : Data
        The examples of the step that went wrong.

    Returns
    -------
    str or None
        Sentences for an error message.
    """
    wanted, dtype = known.targets.values, network.dtype
    if not measure.loss.numeric or not wanted.size or network.scale_targets:
        return None
    found = outputs_for(network, known)[:, : wanted.shape[1]]
    largest = np.abs(wanted).max(axis=0)
    column = int(largest.argmax())
    far = float(largest[column])
    if not np.isfinite(found).all() or float(np.abs(found).max()) > far:
        return None
    squared = measure.loss.name in _SQUARED and far > _MARGIN * float(np.finfo(dtype).max) ** 0.5
    if not squared and np.isfinite(mean_loss(measure, known)()):
        return None
    where = f" in column {column}" if wanted.shape[1] > 1 else ""
    wider = ' or compute in dtype="float64"' if dtype == np.float32 and far < _FITS_DOUBLE else ""
    return (
        f"The loss overflowed {dtype}: the largest y{where} is {far:.3g}, and about 1 is good. "
        f"Scale y, by scale_targets=True or sklearn.compose.TransformedTargetRegressor,{wider}"
    ).rstrip(",") + "."
