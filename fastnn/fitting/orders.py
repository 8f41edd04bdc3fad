"""The order in which the epochs of a fit take their examples: drawn by the steps, or given.

And which examples are in memory: all of them, or a window of those that a feed reads.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn.data import Data, Window
from fastnn.fitting.jobs import Job
from fastnn.fitting.states import Streams

__all__ = ["Drawn", "Given", "Source", "Windowed"]

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

    def holds(self, epoch: int, step: int) -> bool:
        """Return whether the examples that a step needs are in memory."""

    def read_on(self, epoch: int) -> Window:
        """Bring the next examples of an epoch into memory, where some are not."""

    def until(self, step: int) -> int | None:
        """Return before which step of an epoch others are needed; None for never."""

    @property
    def begin(self) -> int:
        """Of the examples in memory, the first step that needs them."""

    @property
    def data(self) -> Data:
        """The examples in memory."""


class _Whole:
    """Of a source all of whose examples are in memory."""

    begin = 0

    def __init__(self, data: Data) -> None:
        self.data = data

    def holds(self, epoch: int, step: int) -> bool:
        """Return True."""
        return True

    def read_on(self, epoch: int) -> Window:
        """Return all examples."""
        return Window(self.data, 0, True)

    def until(self, step: int) -> int | None:
        """Return None."""
        return None


class Drawn(_Whole):
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
        super().__init__(job.data)
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


class Windowed(Drawn):
    """Orders of the windows of a feed, each drawn by itself; see `Drawn`.

    Parameters
    ----------
    job : Job
        What is trained; its feed has begun a pass.
    streams, first
        As for `Drawn`.
    """

    def __init__(self, job: Job, streams: Streams, first: int | None = None) -> None:
        super().__init__(job, streams, first)
        assert job.feed is not None
        self._feed = job.feed
        self._place: tuple[int, int] | None = None  # the window's epoch, and its number in that

    @property
    def begin(self) -> int:  # type: ignore[override]
        """Of the examples in memory, the first step that needs them."""
        return self._feed.window.first

    def holds(self, epoch: int, step: int) -> bool:
        """Return whether the examples that a step needs are in memory."""
        return self._place == (epoch, step // self._feed.steps)

    def until(self, step: int) -> int | None:
        """Return before which step of an epoch others are needed."""
        steps = self._feed.steps
        return min((step // steps + 1) * steps, self._job.steps)

    def read_on(self, epoch: int) -> Window:
        """Read the next window of an epoch: its first one, where the last one was of another."""
        feed, place = self._feed, self._place
        if place is None:
            # The feed has begun a pass already.
            self._place = epoch, 0
        elif place[0] != epoch:
            feed.begin()
            self._place = epoch, 0
        else:
            feed.advance()
            self._place = epoch, place[1] + 1
        self.data = feed.window.data
        if self._job.shuffle:
            self._streams.drawn = self.number(epoch) + 1
        return feed.window

    def reach(self, epochs: int) -> None:
        """Do nothing: orders are counted by windows."""

    def number(self, epoch: int) -> int:
        """Return the number of the window's order, by which steps draw it."""
        place = 0 if self._place is None else self._place[1]
        return self.first + epoch * self._feed.windows + place

    def arrange(self, into: Order, epoch: int, order: Order | None) -> None:
        """Write the window's order anew."""
        if self._job.shuffle:
            self._job.path.draw_order(into, self._job.order_key, self.number(epoch))


class Given(_Whole):
    """Orders that somebody else draws: `follow` tells that of the epoch to come.

    Attributes
    ----------
    order : ndarray of int64
        Of the present epoch.
    """

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.order: Order = np.arange(len(data))

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
