"""Features brought to unit scale within the network: the record, and what the data say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn.hints import understands
from fastnn.layers import Layer

__all__ = ["Moments", "Standardize", "measured"]

Floats = NDArray[np.floating]

# Elements that are read at a time in float64.
_AT_A_TIME = 1 << 18


_WORDS = {
    "axis": "It measures each feature by itself.",
    "mean": "The first fit measures it, or net.adapt(X).",
    "variance": "The first fit measures it, or net.adapt(X).",
    "name": "A layer has no name; leave it out.",
}


@understands(_WORDS)
@dataclass(frozen=True, slots=True, repr=False)
class Standardize(Layer):
    """Brings every feature to mean 0 and standard deviation 1: ``Z = (X - mean) / deviation``.

    It is the first layer.  Means and deviations are those of the training examples of the first
    fit, or of `Sequential.adapt`; they are kept in files, copies and pickles, no training changes
    them, and predictions take the features as they come.  Before either it changes nothing.
    Columns of codes, which an `Embedding` behind it reads, it leaves alone.

    Notes
    -----
    Deviations are those of the population, ``sqrt(sum w (x - mean)**2 / sum w)`` with sample
    weights w, taken in float64.  A column of one value throughout is left alone.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Standardize(), fn.Dense(8, "tanh"), fn.Dense(1)], inputs=2)
    >>> net.adapt(np.array([[1.0, 200.0], [3.0, 600.0]]))
    >>> net.parameters[:4]
    array([  2., 400.,   1., 200.], dtype=float32)
    """

    # Of all layers of the kind: no step changes what the data say.
    trainable: ClassVar[bool] = False


def measured(X: Floats, weights: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return means and standard deviations of columns, 0 and 1 of one that has one value only.

    Parameters
    ----------
    X : ndarray, shape (n, p)
        Examples.
    weights : ndarray, shape (n,) or (0,)
        Their weights, if they have some; an example of weight 0 does not count.

    Examples
    --------
    >>> mean, deviation = measured(np.array([[1.0, 5.0], [3.0, 5.0]]), np.zeros(0))
    >>> mean.tolist(), deviation.tolist()
    ([2.0, 0.0], [1.0, 1.0])
    """
    moments = Moments(X.shape[1], X.dtype)
    moments.add(X, weights)
    return moments.found()


class Moments:
    """Means and deviations of columns of examples that come in several parts.

    Those of parts are combined as by Chan, Golub & LeVeque 1983.

    Parameters
    ----------
    columns : int
        How many columns there are.
    dtype : dtype
        Of the examples.

    Examples
    --------
    >>> moments = Moments(1, "float64")
    >>> for part in ([[1.0], [2.0]], [[3.0], [6.0]]):
    ...     moments.add(np.array(part), np.zeros(0))
    >>> mean, deviation = moments.found()
    >>> mean.tolist(), (deviation**2).round(12).tolist()
    ([3.0], [3.5])
    """

    def __init__(self, columns: int, dtype: Any) -> None:
        self._limits = np.finfo(dtype)
        self._total = 0.0
        self._mean, self._deviation = np.zeros(columns), np.zeros(columns)
        self._least, self._most = np.zeros(columns), np.zeros(columns)

    def add(self, X: Floats, weights: Floats) -> None:
        """Add examples (n, p) with weights (n,) or (0,); one of weight 0 does not count."""
        counted = X[weights > 0] if weights.size and not weights.all() else X
        shares = np.ones(len(X)) if not weights.size else weights[weights > 0].astype(np.float64)
        total = float(shares.sum())
        if not total > 0.0:
            return
        rows = max(1, _AT_A_TIME // X.shape[1])
        parts = [slice(start, start + rows) for start in range(0, len(counted), rows)]
        least, most = counted.min(axis=0), counted.max(axis=0)
        # By a power of two for each column, which rounds nothing, so that no square overflows.
        power = np.frexp(np.maximum(np.abs(least), np.abs(most)).astype(np.float64))[1]

        def scaled(part: slice) -> NDArray[Any]:
            return np.asarray(np.ldexp(counted[part].astype(np.float64), -power))

        def summed(of: Any) -> NDArray[Any]:
            return np.asarray(np.add.reduce([shares[part] @ of(scaled(part)) for part in parts], 0))

        with np.errstate(under="ignore"):
            mean = summed(lambda rows: rows) / total
            deviation = np.sqrt(summed(lambda rows: np.square(rows - mean)) / total)
            mean, deviation = np.ldexp(mean, power), np.ldexp(deviation, power)
        if self._total:
            mean, deviation = self._with(mean, deviation, total)
            least, most = np.minimum(least, self._least), np.maximum(most, self._most)
        self._total += total
        self._mean, self._deviation, self._least, self._most = mean, deviation, least, most

    def _with(
        self, mean: NDArray[Any], deviation: NDArray[Any], total: float
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return those of a further part and of what was added before, together."""
        share = total / (self._total + total)
        with np.errstate(all="ignore"):
            apart = mean - self._mean
            own = np.hypot(np.sqrt(1.0 - share) * self._deviation, np.sqrt(share) * deviation)
            return (
                self._mean + share * apart,
                np.hypot(own, np.sqrt(share * (1.0 - share)) * apart),
            )

    def found(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return means and standard deviations, 0 and 1 of a column that has one value only."""
        # A sum's rounding would give a column of one value a deviation of about 1e-17.
        flat, limits = self._least == self._most, self._limits
        flat |= ~((self._deviation >= limits.tiny) & (self._deviation <= limits.max))
        return np.where(flat, 0.0, self._mean), np.where(flat, 1.0, self._deviation)
