"""Averages of weights over the epochs of a fit.

Source: Polyak & Juditsky 1992; Izmailov, Podoprikhin, Garipov, Vetrov & Wilson 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastnn.names import check_integer, check_real, describe

__all__ = ["SWA", "Averaged", "averaged"]

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class SWA:
    """Stochastic weight averaging: end a fit with the mean of the weights of its last epochs.

    For ``Sequential.fit(average=...)``.  Training goes on from its own weights, which nobody sees
    once averaging has begun: validation, callbacks such as `EarlyStopping`, and the network after
    the fit have the mean of the weights at the ends of the epochs so far.

    Parameters
    ----------
    start : int or float, default 0.75
        How many epochs go before: a number of epochs, or a part of them, at least 0 and less
        than 1, rounded down.

    Raises
    ------
    TypeError, ValueError
        If start is not as described.

    Notes
    -----
    A learning rate that stays high at the end, as without a schedule, is what averaging is for.
    Source: Izmailov, Podoprikhin, Garipov, Vetrov & Wilson 2018; Polyak & Juditsky 1992.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=1)
    >>> history = net.fit([[1.0]], [1.0], optimizer=fn.SGD(0.125), epochs=4, average=fn.SWA(2))
    >>> net.weights[0]  # the mean of 0.4375 and 0.46875
    array([[0.453125]], dtype=float32)
    """

    start: int | float = 0.75

    def __post_init__(self) -> None:
        if isinstance(self.start, (float, np.floating)):
            check_real(self.start, "start", low=0.0, high=1.0, high_open=True)
        else:
            check_integer(self.start, "start", 0)

    def before(self, epochs: int) -> int:
        """Return how many of a fit's epochs go before."""
        if isinstance(self.start, (float, np.floating)):
            return int(self.start * epochs)
        if self.start >= epochs:
            raise ValueError(
                f"average=SWA({self.start}) begins after {self.start} epochs, but the fit has "
                f"{epochs}; give a smaller start, or a part such as 0.75."
            )
        return self.start


class Averaged:
    """The mean of weights so far.

    Parameters
    ----------
    before : int
        Epochs whose weights do not count.
    """

    def __init__(self, before: int) -> None:
        self._before = self._last = before
        self._mean: NDArray[np.float64] | None = None

    @property
    def mean(self) -> NDArray[np.float64] | None:
        """The mean; None before the first weights that count."""
        return self._mean

    def epochs_to(self, epoch: int) -> int:
        """Return after how many epochs weights count, or would be the last that do not."""
        return max(1, self._before - epoch)

    def add(self, epoch: int, weights: Floats) -> None:
        """Count the weights after so many epochs, once; ``mean += (weights - mean) / count``."""
        if epoch <= self._last:
            return
        self._last = epoch
        if self._mean is None:
            self._mean = np.zeros(len(weights))
        self._mean += (weights - self._mean) / (epoch - self._before)


def averaged(average: object, epochs: int) -> Averaged | None:
    """Return what averages as a fit's argument says, if it does."""
    if average is None:
        return None
    if not isinstance(average, SWA):
        raise TypeError(f"average must be fastnn.SWA(start=0.75) or None; got {describe(average)}.")
    return Averaged(average.before(epochs))
