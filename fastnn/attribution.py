"""What each feature has contributed to an output: integrated and expected gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Attribution", "expected_gradients", "integrated_gradients"]

Floats = NDArray[np.floating]
# Points (k, p) -> the gradient of one output at each of them.
Gradient = Callable[[Floats], Floats]

# Points whose gradients are computed at a time.
_POINTS = 1 << 16


@dataclass(frozen=True, slots=True)
class Attribution:
    """What each feature has contributed.

    Attributes
    ----------
    values : ndarray (n, p) or (n, m, p)
        Of each feature of each example, to one output or to each of several.
    base : float or ndarray (m,)
        The output at the baseline, or its mean over several.
    outputs : ndarray (n,) or (n, m)
        The output for each example.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, initializer=2.0)], inputs=2, dtype="float64")
    >>> found = net.attribute([[1.0, 3.0]], baseline=[0.0, 0.0])
    >>> found.values.round(6).tolist(), found.base
    ([[2.0, 6.0]], 0.0)
    >>> float(abs(found.gap).max()) < 1e-9
    True
    """

    values: Floats
    base: float | Floats
    outputs: Floats

    @property
    def gap(self) -> Floats:
        """What the values do not explain of ``outputs - base``: an error of integration."""
        gap: Floats = self.outputs - self.base - self.values.sum(axis=-1, dtype=np.float64)
        return gap


def integrated_gradients(gradient: Gradient, X: Floats, baseline: Floats, steps: int) -> Floats:
    """Return ``(x - b)`` times the mean gradient along the line from each b to x, over all b.

    Sundararajan, Taly & Yan 2017, equation 1, by Gauss and Legendre's rule.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    at, share = (nodes + 1) / 2, weights / 2
    found = np.zeros(X.shape)
    n, p = X.shape
    rows = max(1, _POINTS // steps)
    for b in baseline:
        for start in range(0, n, rows):
            x = X[start : start + rows]
            points = b + at[:, np.newaxis, np.newaxis] * (x - b)
            slopes = gradient(points.reshape(-1, p).astype(X.dtype)).reshape(points.shape)
            found[start : start + rows] += (x - b) * (
                share[:, np.newaxis, np.newaxis] * slopes
            ).sum(axis=0)
    return np.asarray(found / len(baseline))


def expected_gradients(
    gradient: Gradient, X: Floats, baseline: Floats, steps: int, rng: np.random.Generator
) -> Floats:
    """Return the mean over baselines b and places on the lines of ``(x - b)`` times the gradient.

    Erion and others 2021, equation 5.  Each example meets every b ``steps`` times, at places on the
    line that are drawn one from each of as many equal parts, in an order of its own.
    """
    n, p = X.shape
    count = len(baseline) * steps
    backgrounds = np.repeat(baseline, steps, axis=0)
    found = np.zeros(X.shape)
    rows = max(1, _POINTS // count)
    for start in range(0, n, rows):
        x = X[start : start + rows, np.newaxis]
        parts = rng.permuted(np.tile(np.arange(count), (len(x), 1)), axis=1)
        places = ((parts + rng.random(parts.shape)) / count)[:, :, np.newaxis].astype(X.dtype)
        lines = x - backgrounds
        points = backgrounds + places * lines
        slopes = gradient(points.reshape(-1, p)).reshape(points.shape)
        found[start : start + rows] = (lines * slopes).sum(axis=1)
    return np.asarray(found / count)
