"""One descent: slices of steps, what is saved to go back to, and the way back from a divergence.

A slice is as many steps as take about 70 ms: long enough that the call itself costs nothing, short
enough that Ctrl-C, callbacks and progress take effect at once.  How an epoch is cut into slices
changes no bit of its result.

During steps weights and moments are packed.  Now and then they are saved: from there, and from a
list of the steps since, a fit that diverged is taken again to the step in which it did, as steps
repeat bit for bit.

What is trained is a `Job`, whose examples, dense or sparse, a `Source` puts in order, and reads
where they are not all in memory; when to look, when to stop and what to record is the business of
a `Policy`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn import tuning
from fastnn.data import Data
from fastnn.errors import DivergenceError
from fastnn.fitting.dropping import DropRates
from fastnn.fitting.jobs import Job
from fastnn.fitting.orders import Source
from fastnn.fitting.searching import stepper_of
from fastnn.fitting.snapshots import Saved, reached
from fastnn.fitting.states import TrainingState
from fastnn.fitting.steppers import Slice, Stepper
from fastnn.kernels import records

__all__ = ["Bad", "Descent", "Policy", "mean"]

Floats = NDArray[np.floating]
Order = NDArray[np.int64]
Rates = NDArray[np.float64]
Records = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Leg:
    """Steps of a slice: what it takes to take them again.

    Attributes
    ----------
    epoch : int
        From the beginning of which epoch steps are counted, through those that follow it.
    first, last : int
        The first step, and the one past the last.
    rate : float
        The state's learning rate before them.
    rates : ndarray
        That of each step, where they are scheduled.
    order : ndarray of int64 or None
        The epoch's order, where the steps do not draw it themselves.
    drop_rates : mapping of int to float
        Those of dropouts that follow a schedule, by place.
    """

    epoch: int
    first: int
    last: int
    rate: float
    rates: Rates
    order: Order | None
    drop_rates: DropRates


@dataclass(frozen=True, slots=True)
class Bad:
    """A step that turned non-finite; the job has the weights and moments from before it.

    Attributes
    ----------
    epoch, step : int
        Counted from 0.
    batch : Data
        Its examples.
    parameters : ndarray
        After it.
    state : TrainingState
        After it.
    trouble : int
        What was found, a code.
    drop_rates : mapping of int to float
        Those of dropouts that follow a schedule, by place.
    """

    epoch: int
    step: int
    batch: Data
    parameters: Floats
    state: TrainingState
    trouble: int
    drop_rates: DropRates


class Policy(Protocol):
    """When a descent is looked at, when it ends, and what is recorded of it."""

    def goes_on(self, descent: Descent) -> bool:
        """Return whether to take more steps; called before every slice."""

    def horizon(self, epoch: int) -> tuple[int, int | None]:
        """Return through how many epochs steps may go from one on, and how many are to come.

        The second is None where nobody knows.
        """

    def rates(self, epoch: int, first: int, last: int) -> Rates:
        """Return the learning rates of steps, counted from the beginning of an epoch, or none."""

    def drop_rates(self, epoch: int) -> DropRates:
        """Return the rates of dropouts that follow a schedule, by place, of a whole epoch.

        Where there are any, steps go through no more than one epoch (`horizon`).
        """

    def values(self, ended: Records) -> Iterable[Any]:
        """Return what is kept of each of these epochs that ended."""

    @property
    def measured(self) -> bool:
        """Whether epochs end with measuring, so that a slice ends with one where it can."""

    def look(self, descent: Descent) -> None:
        """Take note of a slice, and of the epochs that ended in it."""

    def diverged(self, bad: Bad) -> DivergenceError:
        """Return what to raise for a step that turned non-finite."""

    def interrupted(self, descent: Descent) -> None:
        """Take note of Ctrl-C: the weights are shown as the last step left them."""


class Descent:
    """Takes a job's steps, and ensures that weights stay finite.

    Parameters
    ----------
    job : Job
        What is trained.
    source : Source
        The order of the examples.
    policy : Policy
        Who looks, and decides.
    saved : Saved
        What to go back to.

    Attributes
    ----------
    stepper : Stepper
        Takes the steps.
    ended : list
        What the policy keeps of each epoch that ended.
    """

    def __init__(self, job: Job, source: Source, policy: Policy, saved: Saved) -> None:
        self._job, self._source, self._policy, self._saved = job, source, policy, saved
        self.stepper: Stepper = stepper_of(job)
        self.ended: list[Any] = []
        self._length = 1
        self._step = 0  # of the present epoch, the next one to take
        self._record = np.zeros((), records.RECORD)  # of the present epoch, so far
        self._legs: list[Leg] = []  # since weights were saved
        self._stale = 0.0  # seconds of steps since then
        # Whether the stepper has taken steps that the parameters do not show.
        self._ahead = False
        self._under_way: tuple[Leg, Records] | None = None

    def go_on(self, epochs: int, step: int, record: Records, counts: NDArray[np.float64]) -> None:
        """Begin after so many epochs, and steps of another, with what was summed up of it."""
        self.ended = [None] * epochs
        self._step, self._record = step, record
        self._bring(epochs, step)
        if step:
            self.stepper.counts[:] = counts
            self._source.arrange(self.stepper.order, epochs, self._source.order)

    @property
    def place(self) -> tuple[int, Records]:
        """How many steps of the present epoch are taken, and what was summed up of it."""
        return self._step, self._record

    def run(self) -> bool:
        """Take steps as long as the policy wants; return False where Ctrl-C ended that.

        Raises
        ------
        DivergenceError
            Where a step turns non-finite; the job then has what was before it.
        """
        policy = self._policy
        try:
            while policy.goes_on(self):
                diverged = self.advance()
                policy.look(self)
                if diverged is not None:
                    raise diverged
            self.show()
        except KeyboardInterrupt:
            self.settle()
            policy.interrupted(self)
            return False
        except BaseException:
            self.show()
            raise
        finally:
            self._source.stepped()
        return True

    @property
    def between_epochs(self) -> bool:
        """Whether the last step taken ended an epoch."""
        return not self._step

    @property
    def so_far(self) -> tuple[float, float] | None:
        """Which part of an epoch is over, and its mean loss; None between epochs."""
        if not self._step or not self._record["weight_sum"]:
            return None
        return self._step / self._job.steps, mean(self._record)

    @property
    def best(self) -> Floats:
        """The parameters of the epoch whose watched value was the best, a copy."""
        parameters = np.empty_like(self._job.parameters)
        self.stepper.store_best(parameters)
        return parameters

    @property
    def averaged(self) -> bool:
        """Whether there is an average of weights, which others see in place of these."""
        average = self._job.average
        return average is not None and bool(average.counted(len(self.ended), self._job.state.steps))

    def show(self) -> None:
        """Write the parameters as the last step left them, or their average."""
        if self._ahead and self._saved.is_shown:
            self._save()
        elif self._ahead:
            self.stepper.show(self.averaged)
        self._ahead = False

    def renew(self) -> None:
        """Continue from the parameters, which a callback may have changed."""
        self.stepper.take()
        if not self._saved.is_shown:
            # Steps that are taken again from what was saved before would not lead here.
            self._stale = np.inf

    def settle(self) -> None:
        """Show the present weights, or, if they diverged at an interruption, those from before."""
        self._count()
        if self._legs and not np.isfinite(reached(self._job, self.stepper)[0]).all():
            self.stepper.measure_no_more()
            self._again(self._legs[:-1])
        self.show()

    def advance(self) -> DivergenceError | None:
        """Take a slice of steps; return what to raise should one of them turn non-finite."""
        leg = self._next()
        missing = not self._source.holds(leg.epoch, leg.first)
        if self._due() or (missing and self._legs):
            # Without the examples no step can be taken again.
            self._save()
        if missing:
            self._bring(leg.epoch, leg.first)
        began = time.perf_counter()
        epochs = (leg.last - 1) // self._job.steps + 1
        record = np.zeros(epochs, records.RECORD)
        record[0] = self._record
        self._source.reach(leg.epoch + epochs)
        self._legs.append(leg)
        done = self._take(leg, record)
        self._source.stepped()
        self._count()
        if done.trouble:
            return self._diverged(leg, done)
        seconds = time.perf_counter() - began
        self._stale += seconds
        self._adapt(seconds, done.done)
        return None

    def _bring(self, epoch: int, step: int) -> None:
        """Have the stepper go on with the examples that a step needs, if others are in memory."""
        while not self._source.holds(epoch, step):
            self.stepper.follow(self._source.read_on(epoch))

    def _next(self) -> Leg:
        """Return the steps to take next."""
        steps, epoch, first = self._job.steps, len(self.ended), self._step
        near, far = self._policy.horizon(epoch)
        left, until = near * steps - first, self._source.until(first)
        if until is not None:
            left = min(left, until - first)
        to_come = None if far is None else far * steps - first
        last = first + min(self._length, left, self.stepper.ration(to_come) or left)
        if self._policy.measured and last > steps:
            last = last // steps * steps
        rates = self._policy.rates(epoch, first, last)
        rate, drop_rates = self._job.state.learning_rate, self._policy.drop_rates(epoch)
        return Leg(epoch, first, last, rate, rates, self._source.order, drop_rates)

    def _take(self, leg: Leg, record: Records) -> Slice:
        """Let the stepper take steps."""
        self._under_way = None
        self.stepper.report["steps_done"] = 0
        self._under_way = leg, record
        self._ahead = True
        self.stepper.rates, self.stepper.epoch = leg.rates, leg.epoch
        self.stepper.drop_rates = leg.drop_rates
        return self.stepper.run(leg.first, leg.last, self._source.number(leg.epoch), record)

    def _count(self) -> None:
        """Record the epochs that ended in the steps under way, and how far the next one is."""
        if self._under_way is None:
            return
        (leg, record), steps = self._under_way, self._job.steps
        taken = leg.first + int(self.stepper.report["steps_done"])
        if self._policy.measured and taken > leg.first:
            # The engine may have stopped before the last of the orders that it was to draw.
            self._source.reach(leg.epoch - (-taken // steps))
        ended = record[len(self.ended) - leg.epoch : taken // steps]
        if len(ended):
            self.ended.extend(self._policy.values(ended))
        self._step = taken % steps
        begun = self._step and taken // steps < len(record)
        self._record = record[taken // steps] if begun else np.zeros((), records.RECORD)

    def _adapt(self, seconds: float, steps: int) -> None:
        """Choose the next slice's length; at most eight times this one, as timings err."""
        fitting = int(tuning.current.slice_seconds * steps / max(seconds, 1e-9))
        self._length = max(1, min(fitting, 8 * steps))

    # The way back.

    def _due(self) -> bool:
        """Return whether to save before the next steps: rarely enough that it costs nothing."""
        figures, legs = tuning.current, self._legs
        orders = len(legs) * len(self.stepper.order) if legs and legs[0].order is not None else 0
        late = self._stale >= figures.saving_share * self._saved.seconds
        return bool(legs) and (late or orders >= figures.kept_orders)

    def _save(self) -> None:
        """Save weights and moments as the last step left them."""
        self._saved.save(self.stepper)
        self._legs.clear()
        self._stale = 0.0
        self._ahead = self._ahead and not self._saved.is_shown

    def _diverged(self, leg: Leg, done: Slice) -> DivergenceError:
        """Go back to before a bad step; say where it began."""
        job, stepper = self._job, self.stepper
        parameters, state = reached(job, stepper)
        stepper.measure_no_more()
        bad, before = leg.first + done.done, self._legs[:-1]
        self._again([*before, replace(leg, last=bad)] if done.done else before)
        if self.averaged:
            stepper.show()
        else:
            self.show()
        later, step = divmod(bad, job.steps)
        epoch = leg.epoch + later
        self._source.reach(epoch + 1)
        self._source.arrange(stepper.order, epoch, leg.order)
        place = (step - self._source.begin) * job.batch_size
        batch = self._source.data.take(stepper.order[place : place + job.batch_size])
        return self._policy.diverged(
            Bad(epoch, step, batch, parameters, state, done.trouble, leg.drop_rates)
        )

    def _again(self, legs: Iterable[Leg]) -> None:
        """Go back to what was saved, and take steps from there: they repeat bit for bit."""
        numbers, steps = self._job.state.numbers, self._job.steps
        rate = float(numbers["learning_rate"])
        self._saved.bring_back(self.stepper)
        self._ahead = True
        for leg in legs:
            if leg.first or leg.order is not None:
                self._source.arrange(self.stepper.order, leg.epoch, leg.order)
            numbers["learning_rate"] = leg.rate
            self._take(leg, np.zeros((leg.last - 1) // steps + 1, records.RECORD))
        numbers["learning_rate"] = rate


def mean(sums: Records) -> float:
    """Return the mean loss of an epoch."""
    return float(sums["loss_sum"] / sums["weight_sum"])
