"""Predictions with dropout left on: the mean and the spread of many passes.

Source: Gal & Ghahramani 2016, Dropout as a Bayesian approximation, with the moments of the passes
put together as Chan, Golub & LeVeque 1983 do, so that no pass has to be kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.layout import Layout
from fastnn.path import Path
from fastnn.sparse import SparseRows

__all__ = ["DropoutPrediction", "in_passes"]

Floats = NDArray[np.floating]

# Rows of one call: many enough that a call costs nothing beside them, few enough that what they
# take is soon needed again.  What is dropped depends on it.
ROWS = 2048

# The number of a call's stream has the call in its lower half, and the part of the rows above it.
_HALF = 32


@dataclass(frozen=True, slots=True)
class DropoutPrediction:
    """What `Sequential.predict` gives with ``dropout=True``: moments of many passes.

    ``mean, spread = net.predict(X, dropout=True)`` takes it apart.

    Attributes
    ----------
    mean : ndarray, shape (n, m)
        Mean of the passes.
    spread : ndarray, shape (n, m)
        Their standard deviation, of the squares' mean over all passes.

    Notes
    -----
    The spread is that of the network's own doubt about its outputs; the noise of targets, which no
    pass knows of, comes in addition.  Source: Gal & Ghahramani 2016.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dropout(0.5), fn.Dense(1, initializer=1.0)], inputs=2)
    >>> found = net.predict([[1.0, 1.0]], dropout=True, samples=1000, rng=0)
    >>> found.mean.round(1), found.spread.round(1)
    (array([[2.]], dtype=float32), array([[1.4]], dtype=float32))
    """

    mean: Floats
    spread: Floats

    def __iter__(self) -> Iterator[Floats]:
        return iter((self.mean, self.spread))


def in_passes(
    path: Path, layout: Layout, parameters: Floats, X: Floats | SparseRows, samples: int, key: int
) -> DropoutPrediction:
    """Return the moments of passes of all rows; sums are in float64.

    Few rows go through several times in one call; of many rows a part goes through in each.

    Parameters
    ----------
    path : Path
        What computes.
    layout, parameters
        Of the network.
    X : ndarray or SparseRows (n, p)
        Examples.
    samples : int
        Passes of each row.
    key : int
        By which units are dropped.
    """
    passes, outputs = path.passes(layout, parameters, key, ROWS), layout.outputs
    n = len(X)
    mean, squares = np.zeros((n, outputs)), np.zeros((n, outputs))
    together = max(1, ROWS // max(1, n))
    with np.errstate(all="ignore"):
        for place, begin in enumerate(range(0, n, ROWS)):
            part = slice(begin, begin + ROWS)
            rows = _repeated(X[part], min(together, samples))
            height = len(mean[part])
            for call, taken in enumerate(range(0, samples, together)):
                count = min(together, samples - taken)
                out = passes(rows[: count * height], (place << _HALF) + call)
                _add(out.reshape(count, height, outputs), taken, mean[part], squares[part])
        spread = np.sqrt(squares / samples)
    return DropoutPrediction(mean.astype(X.dtype), spread.astype(X.dtype))


def _repeated(X: Floats | SparseRows, times: int) -> Any:
    """Return all rows so many times, one time behind the other, read-only."""
    if times == 1:
        return X
    rows = X[np.tile(np.arange(len(X)), times)]
    if not isinstance(rows, SparseRows):
        rows.flags.writeable = False
    return rows


def _add(passed: Floats, before: int, mean: Floats, squares: Floats) -> None:
    """Add passes, (count, rows, outputs), to the moments of those that came before.

    ``squares`` are sums of squared distances from the mean.
    """
    values = passed.astype(np.float64)
    count, own = len(values), values.mean(axis=0)
    apart, total = own - mean, before + len(values)
    squares += ((values - own) ** 2).sum(axis=0) + apart**2 * (before * count / total)
    mean += apart * (count / total)
