"""What takes the steps of a fit: the engine, or the textbook's equations, behind one interface.

This file is long because the two stand side by side, and nobody else knows what they share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn import reference
from fastnn.data import Data, Window
from fastnn.equations import draws as reference_draws
from fastnn.equations import walk as reference_walk
from fastnn.equations.walk import Drops, Walk
from fastnn.fitting.dropping import UNSCHEDULED, DropRates
from fastnn.fitting.jobs import Job
from fastnn.fitting.runs import Packed, Run
from fastnn.fitting.tallies import Figures
from fastnn.kernels import codes, records
from fastnn.layers import Dropout
from fastnn.layout import Layout
from fastnn.optimizers import hyperparameters, row_of

__all__ = [
    "Applying", "Job", "NativeStepper", "ReferenceStepper", "Slice", "Stepper", "drawn", "dropped",
]  # fmt: skip

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Slice:
    """The result of a slice of steps.

    Attributes
    ----------
    record : ndarray of records.RECORD (epochs,)
        Sums of losses and of weights of every epoch that it touched, the first one's with what
        went before; and what the engine measured.
    done : int
        Steps taken.
    trouble : int
        What stopped it, or codes.FINE.
    """

    record: NDArray[np.void]
    done: int
    trouble: int


class Stepper(Protocol):
    """Takes the steps of a fit, natively or on the reference.

    Steps are counted from the beginning of an epoch, through the epochs that follow it.  During
    steps the parameters may be packed elsewhere: `show` unpacks them.
    """

    order: NDArray[np.int64]
    report: NDArray[np.void]  # what the present `run` has done so far, `records.REPORT`
    rates: NDArray[np.float64]  # learning rates of the next steps to take; empty for the record's
    outputs: Floats  # what the steps predicted last, for each example; empty where nobody asks

    counts: NDArray[np.float64]  # what was counted of the present epoch so far; may be empty
    epoch: int  # from the beginning of which the next steps to take are counted
    drop_rates: DropRates  # of the next steps to take, where they follow a schedule

    @property
    def best_value(self) -> float:
        """The best of what is watched, times its sign; infinity before the first."""

    def follow(self, window: Window) -> None:
        """Go on with other examples, which come next in their epoch."""

    def run(self, first: int, last: int, number: int, record: NDArray[np.void]) -> Slice:
        """Take the steps from first to before last; the epoch's order has the number."""

    def ration(self, left: int | None = None) -> int | None:
        """Return how many steps the next call shall take at the most, None for any number."""

    def take(self, moments: bool = False) -> None:
        """Pack the job's present parameters, and its moments if asked."""

    def show(self, average: bool = False) -> None:
        """Write the job's parameters, or the average of weights in their place."""

    def load(self, parameters: Floats, moments: Iterable[Floats]) -> None:
        """Take over parameters and moments that are not the job's."""

    def store(self, parameters: Floats, moments: Floats) -> None:
        """Write parameters and moments as they are now, without showing them."""

    def store_moments(self, moments: Floats) -> None:
        """Write moments as they are now."""

    def leave_moments(self) -> Floats | Packed:
        """Return the moments, after the last step."""

    def store_best(self, parameters: Floats) -> None:
        """Write the parameters of the best epoch, where the job's counting keeps them."""

    def measure_no_more(self) -> None:
        """Take steps as if nothing were measured, with records that have no room for it."""


class Applying(Stepper, Protocol):
    """Takes steps of a gradient and its update, of which the second can be had alone."""

    def apply(self, gradient: Floats) -> int:
        """Take a step by a gradient that is given; return what went wrong, or codes.FINE."""


class NativeStepper:
    """Takes steps in the engine."""

    def __init__(self, job: Job) -> None:
        self.order = self._places = np.arange(len(job.data), dtype=np.int64)
        self._job = job
        self.outputs = job.outputs
        self._begin = 0  # step of the epoch with which the examples in memory begin
        self._ends = True  # whether the epoch ends with them
        self.epoch = 0
        self._run = self._planned(job.data)
        self.report = self._run.report
        self.rates = np.zeros(0)
        self.drop_rates = UNSCHEDULED
        self.counts = self._run.counts
        self._figures = None if job.feed is None else Figures.of(job.counting)
        # Before a first step the moments are zeros, as is the room that they get.
        self.take(moments=job.state.steps > 0)

    def _planned(self, data: Data) -> Run:
        """Plan for examples."""
        job = self._job
        run = Run(
            job.layout.operations, job.parameters.dtype, data, job.loss,
            batch_size=job.batch_size, gradient=True, order=self.order, threads=job.threads,
            moments=len(job.state.moments), clipping=job.clip_norm is not None,
            dropping=True, conventions=job.conventions, counting=job.counting,
        )  # fmt: skip
        code = row_of(job.state.optimizer).code
        run.optimize_with(code, job.state.numbers, job.shuffle)
        plan = run.program.plan
        plan["order_key"], plan["mask_key"] = job.order_key, job.mask_key
        if job.average is not None:
            run.average(job.average.code, job.average.decay, job.layout.operations)
        run.hand_out_to(self.outputs)
        return run

    def follow(self, window: Window) -> None:
        """Go on with other examples, which come next in their epoch."""
        data, self._begin, self._ends = window.data, window.first, window.last
        self.order = self._places[: len(data)]
        if not self._run.has_room_for(data):
            self._move(data)
        self._run.go_on_with(data, self.order, begun=window.first > 0, ends=window.last)
        if self._figures is not None:
            self._figures.add(data, anew=not window.first)
            if window.last:
                self._run.figures[:] = self._figures.row

    def _move(self, data: Data) -> None:
        """Plan anew, for examples that have more entries, and go on as before."""
        old, job = self._run, self._job
        run = self._run = self._planned(data)
        vector = np.empty_like(job.parameters)
        for place in range(1 + len(job.state.moments)):
            old.store(vector, place)
            run.load(vector, place)
        run.keep_best_of(old)
        run.report[...], run.counts[:] = old.report, old.counts
        self.report, self.counts = run.report, run.counts

    @property
    def best_value(self) -> float:
        """The best of what is watched, times its sign; infinity before the first."""
        return float(self.report["best_value"])

    def run(self, first: int, last: int, number: int, record: NDArray[np.void]) -> Slice:
        """Take the steps from first to before last; the epoch's order has the number."""
        plan = self._run.program.plan
        plan["order_number"], plan["step_number"] = number, self._job.step
        average, steps = self._job.average, self._job.state.steps
        if average is not None:
            each_step = average.code == codes.EACH_STEP
            plan["averaged"] = steps if each_step else self.epoch - average.before
            if not (each_step or self._ends):
                # No epoch ends with these examples.
                plan["averaged"] = -(2**62)
        if self._job.clip_norm is not None:
            self._run.numbers["clip_norm"] = self._job.clip_norm
        if self.drop_rates:
            self._run.drop_at(self.drop_rates)
        self._run(codes.TRAIN, first - self._begin, last - self._begin, record, self.rates)
        return Slice(record, int(self.report["steps_done"]), int(self.report["trouble"]))

    def apply(self, gradient: Floats) -> int:
        """Take a step by a gradient that is given; return what went wrong, or codes.FINE."""
        # `load` is compiled for vectors that can be written to.
        self._run.load(gradient.copy(), len(self._job.state.moments) + 1)
        if self._job.clip_norm is not None:
            self._run.numbers["clip_norm"] = self._job.clip_norm
        self._run(codes.APPLY)
        return int(self.report["trouble"])

    def ration(self, left: int | None = None) -> int | None:
        """Return how many steps the next call shall take at the most, None for any number."""
        return self._run.ration(left)

    def take(self, moments: bool = False) -> None:
        """Take over the job's parameters, and its moments if asked, as they are now."""
        self.load(self._job.parameters, self._job.state.moments if moments else ())

    def show(self, average: bool = False) -> None:
        """Write the job's parameters, or the average of weights in their place."""
        job = self._job
        place = len(job.state.moments) if average else 0
        job.shown.write(lambda: self._run.store(job.parameters, place))

    def load(self, parameters: Floats, moments: Iterable[Floats]) -> None:
        """Take over parameters and moments that are not the job's."""
        self._run.load(parameters)
        for place, moment in enumerate(moments, 1):
            self._run.load(moment, place)

    def store(self, parameters: Floats, moments: Floats) -> None:
        """Write parameters and moments as they are now, without showing them."""
        self._run.store(parameters)
        self.store_moments(moments)

    def store_moments(self, moments: Floats) -> None:
        """Write moments as they are now."""
        for place, moment in enumerate(moments, 1):
            self._run.store(moment, place)

    def leave_moments(self) -> Floats | Packed:
        """Return the moments, after the last step."""
        return Packed(self._run, self._job.state.moments.shape)

    def store_best(self, parameters: Floats) -> None:
        """Write the parameters of the best epoch, where the job's counting keeps them."""
        self._run.store_best(parameters)

    def measure_no_more(self) -> None:
        """Take steps as if nothing were measured, with records that have no room for it."""
        self._run.measure_no_more()


class ReferenceStepper:
    """Takes steps in the textbook's equations."""

    def __init__(self, job: Job) -> None:
        self._window = Window(job.data, 0, True)
        self.order = np.arange(len(job.data), dtype=np.int64)
        self.report = np.zeros((), records.REPORT)
        self.rates = self.counts = np.zeros(0)
        self.drop_rates = UNSCHEDULED
        self.epoch = 0
        self.outputs = job.outputs
        self._job = job
        self._parameters = job.parameters.copy()
        self._moments = job.state.copy().moments

    @property
    def best_value(self) -> float:
        """Infinity: here nothing is watched."""
        return np.inf

    def follow(self, window: Window) -> None:
        """Go on with other examples, which come next in their epoch."""
        self._window = window
        self.order = np.arange(len(window.data), dtype=np.int64)

    def run(self, first: int, last: int, number: int, record: NDArray[np.void]) -> Slice:
        """Take the steps from first to before last; the epoch's order has the number."""
        job, data, begin = self._job, self._window.data, self._window.first
        steps = -(-len(data) // job.batch_size)
        with np.errstate(all="ignore"):
            for step in range(first, last):
                epoch, within = divmod(step - begin, steps)
                if within == 0 and job.shuffle:
                    self.order[:] = reference_draws.permutation(
                        job.order_key, number + epoch, len(self.order)
                    )
                if self.rates.size:
                    # Not through the record, which refuses the 0 that a schedule may end at.
                    job.state.numbers["learning_rate"] = self.rates[step - first]
                rows = self.order[within * job.batch_size : (within + 1) * job.batch_size]
                batch = data.take(rows)
                total = batch.total
                if total:
                    if len(self.outputs):
                        self.outputs[rows] = self._predicted(batch)
                    loss, trouble = self._step(batch)
                    if trouble:
                        return Slice(record, step - first, trouble)
                    counted = float(len(batch)) if job.conventions.by_examples else total
                    here = record[epoch - (first - begin) // steps]
                    here["loss_sum"] += loss * counted
                    here["weight_sum"] += counted
                ended = self._window.last and within == steps - 1
                self._average(bool(total), epoch + 1 if ended else None)
                self.report["steps_done"] = step + 1 - first
        return Slice(record, last - first, codes.FINE)

    def ration(self, left: int | None = None) -> int | None:
        """Return None: there is nothing to try."""
        return None

    def take(self, moments: bool = False) -> None:
        """Take over the job's parameters, and its moments if asked, as they are now."""
        self.load(self._job.parameters, self._job.state.moments if moments else ())

    def show(self, average: bool = False) -> None:
        """Write the job's parameters, or the average of weights in their place."""
        job = self._job
        shown = self._moments[-1] if average else self._parameters
        job.shown.write(lambda: np.copyto(job.parameters, shown))

    def load(self, parameters: Floats, moments: Iterable[Floats]) -> None:
        """Take over parameters and moments that are not the job's."""
        self._parameters[:] = parameters
        for own, moment in zip(self._moments, moments, strict=False):
            own[:] = moment

    def store(self, parameters: Floats, moments: Floats) -> None:
        """Write parameters and moments as they are now, without showing them."""
        parameters[:] = self._parameters
        self.store_moments(moments)

    def store_moments(self, moments: Floats) -> None:
        """Write moments as they are now."""
        moments[:] = self._moments

    def leave_moments(self) -> Floats | Packed:
        """Return the moments, after the last step."""
        return self._moments

    def store_best(self, parameters: Floats) -> None:
        """Do nothing: here epochs end in Python."""

    def measure_no_more(self) -> None:
        """Do nothing: here epochs end in Python."""

    def _average(self, stepped: bool, ended: int | None) -> None:
        """Take the weights into their average, after a step or after so many epochs since `epoch`.

        EMA: ``s_t = d s_(t-1) + (1 - d) w_t``, from which ``s_t / (1 - d^t)`` has no bias; it is
        the latter that is kept.  SWA: the mean of n is ``((n - 1) mean + w) / n``.
        """
        average, w, steps = self._job.average, self._parameters, self._job.state.steps
        if average is None:
            return
        mean = self._moments[-1]
        if average.code == codes.EACH_STEP:
            if stepped:
                d = average.decay
                s = d * (1.0 - d ** (steps - 1)) * mean.astype(float) + (1.0 - d) * w
                mean[:] = s / (1.0 - d**steps)
        elif ended is not None and average.counted(self.epoch + ended, steps):
            n = average.counted(self.epoch + ended, steps)
            mean[:] = ((n - 1) * mean.astype(float) + w) / n

    def _predicted(self, batch: Data) -> Floats:
        """Return the predictions of the next step, before it changes anything."""
        with np.errstate(all="ignore"):
            return self._walk(batch).forward()[-1].A.T

    def _walk(self, batch: Data) -> Walk:
        """Return the walk of the next step."""
        job = self._job
        return Walk(
            job.layout, self._parameters, job.loss, batch.columns(job.layout.outputs),
            job.conventions.loss_limit, dropped(job, len(batch), self.drop_rates),
        )  # fmt: skip

    def _step(self, batch: Data) -> tuple[float, int]:
        """Take one step; nothing is written before everything is computed."""
        conventions = self._job.conventions
        share = 1.0 / batch.total if conventions.shared_penalty else 1.0
        walk = self._walk(batch)
        passed = walk.forward()
        loss = conventions.scales[0] * walk.mean_loss(passed) + walk.penalty(share)
        gradient = walk.gradient(walk.backward(passed), conventions.scales[1], share)
        if not np.isfinite(loss):
            return loss, codes.LOSS_NOT_FINITE
        return loss, self.apply(gradient, walk.followed(passed))

    def apply(self, gradient: Floats, begun: Floats | None = None) -> int:
        """Take a step by a gradient that is given; return what went wrong, or codes.FINE.

        It begins at the present parameters, or at the same with other buffers.
        """
        job, state = self._job, self._job.state
        t = int(state.numbers["steps"]) + 1
        rule = reference.OPTIMIZERS[type(state.optimizer).__name__]
        moments = self._moments[: row_of(state.optimizer).moments]
        with np.errstate(all="ignore"):
            if job.clip_norm is not None:
                gradient = reference_walk.clipped(job.layout, gradient, job.clip_norm)
            new = reference_walk.step(
                job.layout, self._parameters if begun is None else begun, gradient,
                list(moments), rule, t, self._hyper(t),
            )  # fmt: skip
        self._parameters[:] = new[0]
        for moment, stepped in zip(moments, new[1:], strict=True):
            moment[:] = stepped
        if not all(np.isfinite(vector).all() for vector in new):
            return codes.UPDATE_NOT_FINITE
        state.numbers["steps"] += 1
        return codes.FINE

    def _hyper(self, t: int) -> dict[str, float]:
        """Return the optimizer's numbers as step t takes them."""
        state = self._job.state
        hyper = hyperparameters(state.optimizer)
        hyper["learning_rate"] = float(state.numbers["learning_rate"])
        if self._job.conventions.bare_epsilon and "beta_2" in hyper:
            # (sqrt(v) + epsilon) / sqrt(1 - beta_2^t) is the root of v_hat plus this:
            hyper["epsilon"] /= float(np.sqrt(1.0 - hyper["beta_2"] ** t))
        return hyper


def dropped(job: Job, examples: int, rates: DropRates = UNSCHEDULED) -> Drops:
    """Return what each dropout does in the next step, by its place; some at scheduled rates."""
    layout, dtype = job.layout, job.parameters.dtype
    return drawn(layout, job.mask_key, job.step, examples, dtype, rates)


def drawn(
    layout: Layout, key: int, number: int, examples: int, dtype: np.dtype[Any],
    rates: DropRates = UNSCHEDULED,
) -> Drops:  # fmt: skip
    """Return what each dropout does to so many examples, by its place, in a stream of a key."""
    drops = {}
    for one in layout.operations:
        if not isinstance(one.layer, Dropout):
            continue
        rate = rates.get(one.place, one.layer.rate)
        kept = reference_draws.kept(key, number, one.place, one.inputs, examples, rate)
        drops[one.place] = kept * dtype.type(1.0 / (1.0 - rate))
    return drops
