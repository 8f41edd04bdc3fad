"""The policy of a network's fit: its epochs, what they record, and callbacks between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fastnn import schedules
from fastnn.callbacks import Callback, EarlyStopping, Trainable
from fastnn.checkpoints import Checkpoint
from fastnn.data import Data, together
from fastnn.errors import DivergenceError
from fastnn.fitting.about import About
from fastnn.fitting.descent import Bad, Descent
from fastnn.fitting.divergence import divergence
from fastnn.fitting.dropping import Dropping, DropRates
from fastnn.fitting.fitstate import FitState, callbacks_of
from fastnn.fitting.jobs import Job
from fastnn.fitting.measuring import Group, Validation, metrics_of
from fastnn.fitting.orders import Drawn
from fastnn.fitting.runs import Packed
from fastnn.fitting.snapshots import reached
from fastnn.fitting.states import Streams
from fastnn.history import History
from fastnn.layout import Layout
from fastnn.losses import Loss
from fastnn.metrics import Metric
from fastnn.path import Path
from fastnn.reporting.progress import Progress
from fastnn.target_scale import TargetScale

__all__ = ["Epochs", "FitRun", "Measures", "metric_values", "rates"]

Floats = NDArray[np.floating]

_NOTHING = np.zeros(0)


def metric_values(
    metrics: Sequence[Metric],
    layout: Layout,
    parameters: Floats,
    loss: Loss,
    data: Data,
    *,
    path: Path,
    prefix: str = "",
    scale: TargetScale | None = None,
) -> dict[str, float]:
    """Return each metric of the predictions for the data, whose targets may be at unit scale."""
    if not metrics:
        return {}
    predicted = path.predictions(layout.with_scale(None), parameters, data.X)
    return metrics_of(metrics, loss, data, predicted, scale, prefix)


@dataclass(slots=True)
class FitRun:
    """A fit in progress, as callbacks see it (`callbacks.Run`), and its progress line."""

    network: Trainable
    epochs: int
    names: tuple[str, ...]
    history: History
    callbacks: tuple[Callback, ...]
    shown: Progress
    epoch: int = 0
    logs: Mapping[str, float] = field(default_factory=dict)
    resumed: FitState | None = None  # where it goes on
    dropping: Dropping | None = None  # of a network's layers; of an estimator's none is scheduled
    split_at: int = 0  # number of the order by which validation examples were held out
    state: FitState | None = None  # where it ended

    def stop(self, reason: str) -> None:
        """End the fit after this epoch."""
        self.history.stopped = reason


class Epochs:
    """The policy of a fit: as many epochs as were asked for, unless a callback ends them.

    Parameters
    ----------
    job : Job
        What is trained.
    run : FitRun
        What callbacks see; its history is written.
    source : Drawn
        The order of examples.
    streams : Streams
        Of orders and dropout.
    stopping : EarlyStopping or None
        The rule that the engine follows.

    Attributes
    ----------
    measures : Measures
        What the engine does not measure; set before the first step.
    measured : bool
        Whether the engine measures epochs.
    apart : bool
        Whether somebody sees the weights after every epoch, so that no slice may continue into
        the next one.
    """

    measures: Measures

    def __init__(
        self, job: Job, run: FitRun, source: Drawn, streams: Streams,
        stopping: EarlyStopping | None,
    ) -> None:  # fmt: skip
        self._job, self._fit, self._stopping = job, run, stopping
        self._source, self._streams = source, streams
        self._checkpoints = [one for one in run.callbacks if isinstance(one, Checkpoint)]
        self._base = job.state.optimizer.learning_rate
        self._names = job.measured
        # The learning rates of the last steps of epochs under way, with a schedule.
        self._ended_at: dict[int, float] = {}
        assert run.dropping is not None
        self._dropping = run.dropping
        self.measured = job.counting is not None
        self._columns: tuple[list[int], list[int]] | None = None
        if job.counting is not None:
            places = [job.counting.places[name] for name in self._names]
            self._columns = [place[0] for place in places], [place[1] for place in places]
        scheduled = job.schedule is not None and schedules.looks_back(job.schedule)
        others = tuple(one for one in run.callbacks if not isinstance(one, Checkpoint))
        self._called = () if stopping is not None else others
        self._watching = any(callback.each_epoch for callback in self._called)
        self.apart = self._watching or scheduled or len(job.measured) < len(job.names)

    def goes_on(self, descent: Descent) -> bool:
        """Return whether to take more steps."""
        search, history = self._job.search, self._fit.history
        if search is not None and search.ended and history.stopped is None:
            history.stopped = search.ended
        return self._fit.epoch < self._fit.epochs and history.stopped is None

    def horizon(self, epoch: int) -> tuple[int, int | None]:
        """Return through how many epochs steps may go from one on, and how many are to come."""
        to_come = self._fit.epochs - epoch
        if self.apart or self._dropping.scheduled:
            return 1, to_come
        due = [one.epochs_to(epoch) for one in self._checkpoints]
        return min([to_come, *(epochs for epochs in due if epochs is not None)]), to_come

    def rates(self, epoch: int, first: int, last: int) -> NDArray[np.float64]:
        """Return the scheduled learning rates of steps."""
        fit, steps = self._fit, self._job.steps
        found = rates(self._job, self._base, fit.epochs, epoch, first, last, fit.history)
        if found.size:
            for ended in range(first // steps, last // steps):
                self._ended_at[epoch + ended] = float(found[(ended + 1) * steps - 1 - first])
        return found

    def drop_rates(self, epoch: int) -> DropRates:
        """Return the rates of dropouts that follow a schedule, by place, of an epoch."""
        return self._dropping.rates(epoch, self._fit.history)

    def values(self, ended: NDArray[np.void]) -> Iterable[list[float]]:
        """Return what the engine gives of each of these epochs."""
        if self._columns is None:
            found = (ended["loss_sum"] / ended["weight_sum"])[:, np.newaxis]
        else:
            found = ended["values"][:, *self._columns]
        values: list[list[float]] = found.tolist()
        return values

    def look(self, descent: Descent) -> None:
        """Measure, record and show the epochs that ended, and let the callbacks see them."""
        feed = self._job.feed
        if feed is not None and descent.place[0] % feed.steps == 0:
            self.measures.keep(self._source.data)
        if descent.between_epochs and (self.apart or self.measured):
            descent.show()
        so_far = descent.so_far
        if so_far is not None:
            self._fit.shown.update(so_far[0], {"loss": so_far[1]})
        recorded, shown = self._fit.epoch, None
        if self._watching and descent.averaged:
            shown = self._job.parameters.copy()
        self._record(descent)
        if self._watching and self._fit.epoch > recorded:
            self._take_over(descent, shown)
        for one in self._checkpoints:
            if one.is_due(self._fit.epoch, descent.between_epochs):
                self._write(one, descent)

    def _take_over(self, descent: Descent, shown: Floats | None) -> None:
        """Go on from weights that a callback may have changed; an average was shown if given."""
        if shown is None:
            descent.renew()
        elif not np.array_equal(shown, self._job.parameters):
            raise RuntimeError(
                "a callback has changed the weights, which are an average of those that are "
                "trained; leave average out, or the callback."
            )

    def _trained(self, descent: Descent) -> tuple[Floats, Floats, Floats]:
        """Return the weights that are trained, what others see of them, and the moments."""
        weights, state = reached(self._job, descent.stepper)
        moments = state.moments
        return weights, moments[-1] if descent.averaged else weights, moments

    def diverged(self, bad: Bad) -> DivergenceError:
        """Return what to raise for a step that turned non-finite."""
        after, at = (bad.parameters, bad.state), (bad.epoch, bad.step)
        history = self._fit.history
        return divergence(self._job, bad.batch, after, bad.trouble, at, history, bad.drop_rates)

    def interrupted(self, descent: Descent) -> None:
        """Record the epochs that the weights have seen."""
        if not self.apart:
            self._record(descent)
        self._fit.history.mend()
        self._fit.history.stopped = "interrupted"

    def ended(self, descent: Descent) -> FitState:
        """Let callbacks end the fit; return its state, which is written to files too."""
        run, parameters = self._fit, None
        if descent.averaged:
            parameters = self._trained(descent)[0]
        elif run.callbacks:
            parameters = self._job.parameters.copy()
        state = self._state(descent, descent.stepper.leave_moments())
        for callback in run.callbacks:
            callback.on_fit_end(run)
        if parameters is not None and (
            descent.averaged or not np.array_equal(parameters, self._job.parameters)
        ):
            state = state.with_parameters(parameters, self._job.parameters.copy())
        for one in self._checkpoints:
            one.write(lambda path: run.network._write(path, self._job.parameters, state))
        return state

    def _write(self, checkpoint: Checkpoint, descent: Descent) -> None:
        """Write the present state to a file."""
        trained, seen, moments = self._trained(descent)
        state = self._state(descent, moments)
        if descent.averaged:
            state = state.with_parameters(trained, seen)
        checkpoint.write(lambda path: self._fit.network._write(path, seen, state))

    def _state(self, descent: Descent, moments: Floats | Packed) -> FitState:
        """Return what the fit carries now."""
        job, run, (step, record) = self._job, self._fit, descent.place
        counts, outputs = descent.stepper.counts, descent.stepper.outputs
        streams = self._streams
        if not step:
            # Nothing is counted yet.
            counts, outputs = _NOTHING, outputs[:0]
        return FitState(
            about=About.of(job, run.names),
            moments=moments,
            steps=job.state.steps,
            rate=job.state.learning_rate,
            streams=Streams(streams.order_key, streams.mask_key, streams.drawn, job.step),
            first_order=self._source.first,
            split_at=run.split_at,
            step=step,
            sums=np.array([record["loss_sum"], record["weight_sum"]]),
            counts=counts.copy(),
            outputs=outputs.copy(),
            history=run.history,
            callbacks=callbacks_of(run.callbacks),
        )

    def _record(self, descent: Descent) -> None:
        """Take the epochs that ended into the history."""
        run, before = self._fit, self._fit.history.epochs
        ended = descent.ended[before:]
        if not ended:
            return
        if self._called or self.measures.present or run.shown.shown:
            for values in ended:
                self._end(values)
        else:
            run.history.extend(ended)
            run.epoch = run.history.epochs
            run.logs = dict(zip(self._names, ended[-1], strict=True))
        reached = [self._ended_at.pop(epoch, self._base) for epoch in range(before, run.epoch)]
        run.history.learning_rates.extend(reached)
        if self._stopping is not None:
            place = self._names.index(self._stopping.monitor)
            self._stopping.follow(run, before, [values[place] for values in ended])

    def _end(self, values: list[float]) -> None:
        """Record and show one epoch, and let the callbacks see it."""
        run = self._fit
        run.logs = {**dict(zip(self._names, values, strict=True)), **self.measures()}
        run.history.append(run.logs)
        run.epoch = run.history.epochs
        run.shown.epoch_end(run.epoch, run.logs)
        for callback in self._called:
            callback.on_epoch_end(run)


def rates(
    job: Job, base: float, epochs: int, epoch: int, first: int, last: int,
    history: History,
) -> NDArray[np.float64]:  # fmt: skip
    """Return the scheduled rates of steps, counted from the beginning of an epoch.

    Every step sees what was recorded before its own epoch.
    """
    if job.schedule is None:
        return np.zeros(0)
    parts = []
    for e in range(first // job.steps, (last - 1) // job.steps + 1):
        begin, end = max(first, e * job.steps), min(last, (e + 1) * job.steps)
        before = epoch * job.steps
        parts.append(
            schedules.rates(
                job.schedule, before + begin, before + end, job.steps, epochs, base, history
            )
        )
    return np.concatenate(parts)


class Measures:
    """What an epoch records that the engine does not measure."""

    def __init__(self, job: Job, outputs: Floats) -> None:
        asked = job.metrics, job.loss, job.layout
        self._job, self._outputs = job, outputs
        # Targets and weights of windows, and what was predicted for them.
        self._parts: list[tuple[Data, Floats]] = []
        measured = job.measured
        missing = [name for name in job.names if name not in measured]
        self._after = bool(job.metrics) and job.metrics[0].name in missing and not len(outputs)
        self._training = None
        if len(outputs) and job.feed is None:
            self._training = Group(*asked, job.data, job.path, job.scale)
        self._held = None
        if job.validation is not None and "val_loss" in missing:
            self._held = Validation(*asked, job.validation, job.path, job.parameters, job.scale)
        self.present = bool(missing)

    def keep(self, data: Data) -> None:
        """Keep what a window's steps predicted, where metrics are made of it: for all but X."""
        if len(self._outputs):
            self._parts.append((data.without_features(), self._outputs[: len(data)].copy()))

    def _of_parts(self) -> dict[str, float]:
        """Measure what was kept of an epoch, and keep it no longer."""
        job, parts = self._job, self._parts
        self._parts = []
        data = together([part for part, _ in parts])
        group = Group(job.metrics, job.loss, job.layout, data, job.path, job.scale)
        return group.values(np.concatenate([outputs for _, outputs in parts]))

    def __call__(self) -> dict[str, float]:
        """Measure with the weights at the epoch's end, but for what its own passes gave."""
        job, measured = self._job, {}
        if self._training is not None:
            measured = self._training.values(self._outputs)
        elif self._parts:
            measured = self._of_parts()
        elif self._after:
            measured = metric_values(
                job.metrics,
                job.layout,
                job.parameters,
                job.loss,
                job.data,
                path=job.path,
                scale=job.scale,
            )
        if self._held is None:
            return measured
        loss, metrics = self._held()
        return measured | {"val_loss": loss} | metrics
