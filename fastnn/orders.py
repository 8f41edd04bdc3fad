"""The order in which the epochs of a fit take their examples: drawn by the steps, or given."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn.jobs import Job
from fastnn.states import Streams

__all__ = ["Drawn", "Given", "Source"]

Order = NDArray[np.int64]


class Source(Protocol):
    """The order in which the epochs of a descent take their examples."""

    def reach(self, epochs: int) -> None:
        """Note that so many epochs are begun."""

    def stepped(self) -> None:
        """Note that steps were taken."""

    def number(self, epoch: int) -> int:
        """Return the number of an epoch's order, by which steps draw it."""

    @property
    def order(self) -> Order | None:
        """The present epoch's order, where the steps do not draw it themselves."""

    def arrange(self, into: Order, epoch: int, order: Order | None) -> None:
        """Write an epoch's order anew: the one given, where the steps did not draw it."""


class Drawn:
    """Orders that the steps draw by themselves, from a network's stream; or the examples' own.

    Parameters
    ----------
    job : Job
        What is trained.
    streams : Streams
        Of orders and dropout; advanced.
    first : int or None, default None
        Number of the first epoch's order, where it is not the next one of the stream.

    Attributes
    ----------
    first : int
        Number of the first epoch's order.
    """

    order = None

    def __init__(self, job: Job, streams: Streams, first: int | None = None) -> None:
        self._job, self._streams = job, streams
        self.first = streams.drawn if first is None else first

    def reach(self, epochs: int) -> None:
        """Note that so many epochs are begun."""
        if self._job.shuffle:
            self._streams.drawn = self.first + epochs

    def stepped(self) -> None:
        """Note that steps were taken."""
        self._streams.steps = self._job.step

    def number(self, epoch: int) -> int:
        """Return the number of an epoch's order, by which steps draw it."""
        return self.first + epoch

    def arrange(self, into: Order, epoch: int, order: Order | None) -> None:
        """Write an epoch's order anew."""
        if self._job.shuffle:
            self._job.path.draw_order(into, self._job.order_key, self.first + epoch)


class Given:
    """Orders that somebody else draws: `follow` tells that of the epoch to come.

    Attributes
    ----------
    order : ndarray of int64
        Of the present epoch.
    """

    def __init__(self, examples: int) -> None:
        self.order: Order = np.arange(examples)

    def follow(self, order: Order, into: Order) -> None:
        """Have the coming epoch go by an order, which steps read from an array of theirs."""
        self.order = into[:] = order

    def reach(self, epochs: int) -> None:
        """Do nothing: nothing is counted here."""

    def stepped(self) -> None:
        """Do nothing: nothing is counted here."""

    def number(self, epoch: int) -> int:
        """Return 0: no order is drawn by its number."""
        return 0

    def arrange(self, into: Order, epoch: int, order: Order | None) -> None:
        """Write an epoch's order anew."""
        assert order is not None
        into[:] = order
