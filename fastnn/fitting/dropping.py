"""The rates of dropouts that follow a schedule: one for each epoch of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from fastnn.history import History
from fastnn.kinds import spelt
from fastnn.layers import Dropout
from fastnn.layout import Layout
from fastnn.names import check_real
from fastnn.schedules import FromFunction, Schedule, looks_back, resolve_schedule

__all__ = ["UNSCHEDULED", "DropRates", "Dropping"]

#: Rates by the places of their dropouts; the others drop at their own.
DropRates: TypeAlias = Mapping[int, float]

UNSCHEDULED: DropRates = MappingProxyType({})


class Dropping:
    """What the dropouts of a network drop in each epoch of a fit.

    Parameters
    ----------
    layout : Layout
        The network's.
    steps : int
        How many an epoch has.
    epochs : int
        How many the fit has.

    Attributes
    ----------
    scheduled : bool
        Whether there is a dropout whose rate follows a schedule.
    """

    def __init__(self, layout: Layout, steps: int, epochs: int) -> None:
        self._steps, self._epochs = steps, epochs
        self._followed: list[tuple[int, str, float, Schedule]] = []
        for one in layout.operations:
            if isinstance(one.layer, Dropout) and one.layer.schedule is not None:
                name = f"the schedule of {spelt(one.name)}"
                schedule = resolve_schedule(one.layer.schedule)
                if isinstance(schedule, FromFunction):
                    # What it gives is checked there, and named so.
                    schedule = replace(schedule, argument=name)
                self._followed.append((one.place, name, one.layer.rate, schedule))
        self.scheduled = bool(self._followed)
        self._known: tuple[int, DropRates] = -1, UNSCHEDULED

    def rates(self, epoch: int, history: History) -> DropRates:
        """Return the rates of an epoch, counted from 0, of which the schedules are asked once.

        Parameters
        ----------
        epoch : int
            Counted from 0 through the whole fit.
        history : History
            Of the epochs before.

        Raises
        ------
        TypeError, ValueError
            If one is no number of at least 0 and less than 1.
        """
        if not self.scheduled:
            return UNSCHEDULED
        if self._known[0] != epoch:
            found = {
                place: self._rate(name, base, schedule, epoch, history)
                for place, name, base, schedule in self._followed
            }
            self._known = epoch, found
        return self._known[1]

    def check(self, epoch: int, history: History) -> None:
        """Refuse schedules whose rates from an epoch on are none, as far as can be known by then.

        Raises
        ------
        TypeError, ValueError
            As from `rates`.
        """
        for _, name, base, schedule in self._followed:
            last = min(epoch + 1, self._epochs) if looks_back(schedule) else self._epochs
            for e in range(epoch, last):
                self._rate(name, base, schedule, e, history)

    def _rate(
        self, name: str, base: float, schedule: Schedule, epoch: int, history: History
    ) -> float:
        """Return what a schedule gives at an epoch's first step."""
        first = epoch * self._steps
        rate = schedule.rate(first, self._steps, self._epochs, base, history)
        said = f"the dropout rate that {name} makes of rate={base:g} in epoch {epoch + 1}"
        return check_real(rate, said, low=0.0, high=1.0, high_open=True)
