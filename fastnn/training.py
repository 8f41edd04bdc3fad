"""The fit of a network: what ends it, what it records, and callbacks between its epochs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import notices, schedules
from fastnn.callbacks import Callback, EarlyStopping, Trainable
from fastnn.data import Data
from fastnn.descent import Bad, Descent, mean
from fastnn.divergence import check_finite, divergence
from fastnn.errors import DivergenceError
from fastnn.history import History
from fastnn.kernels import records
from fastnn.layout import Layout
from fastnn.measuring import Group, Validation
from fastnn.metrics import Metric, of_known
from fastnn.orders import Drawn
from fastnn.prediction import predictions
from fastnn.progress import Progress
from fastnn.snapshots import Aside
from fastnn.states import Streams, TrainingState
from fastnn.steppers import STEPPERS, Job

__all__ = ["FitRun", "Stepped", "begin", "fit", "metric_values", "single_step"]

Floats = NDArray[np.floating]


def metric_values(
    metrics: Sequence[Metric],
    layout: Layout,
    parameters: Floats,
    data: Data,
    *,
    backend: str,
    prefix: str = "",
) -> dict[str, float]:
    """Return each metric of the predictions for the data."""
    if not metrics:
        return {}
    predicted = predictions(layout, parameters, data.X, backend=backend)
    wanted = data.targets.as_rows(layout.outputs, parameters.dtype)
    weights = data.weights if data.weights.size else None
    # Where a loss takes more outputs than targets, the first ones are the predictions.
    predicted = predicted[:, : wanted.shape[1]]
    found = {}
    for row in metrics:
        function = of_known(row.function) if data.targets.missing else row.function
        found[prefix + row.name] = float(function(wanted, predicted, weights))
    return found


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

    def stop(self, reason: str) -> None:
        """End the fit after this epoch."""
        self.history.stopped = reason


def begin(
    job: Job, network: Trainable, epochs: int, callbacks: tuple[Callback, ...], progress: Any
) -> FitRun:
    """Prepare a fit: everything that can fail does so before anything is changed."""
    check_finite(job)
    if job.schedule is not None:
        _rates(job, job.state.optimizer.learning_rate, epochs, 0, 0, 1, History())
    shown = Progress(progress, epochs, job.names)
    run = FitRun(network, epochs, job.names, History(job.names), callbacks, shown)
    for callback in callbacks:
        callback.on_fit_begin(run)
    return run


def fit(job: Job, run: FitRun, streams: Streams) -> History:
    """Train for the run's epochs; return what they recorded.

    Parameters
    ----------
    job : Job
        What to train, and on what; its parameters and state are written.
    run : FitRun
        From `begin`; its history is written.
    streams : Streams
        The random state of orders and dropout; advanced.

    Returns
    -------
    History
        One value per epoch of everything in ``job.names``.

    Raises
    ------
    DivergenceError
        If a loss, a weight or a moment becomes non-finite; the parameters are then those from
        before the step in which that happened.
    """
    began = time.perf_counter()
    stopping = _stopping(run)
    job = job.counted(None if stopping is None else stopping.watch())
    if job.counting is None or job.counting.watch is None:
        stopping = None
    policy = _Epochs(job, run, stopping)
    descent = Descent(job, Drawn(job, streams), policy, Aside(job))
    policy.measures = _Measures(job, descent.stepper.outputs)
    try:
        whole = descent.run()
    except BaseException:
        run.shown.close("failed")
        raise
    if stopping is not None:
        stopping.take_best(descent.best)
    for callback in run.callbacks:
        callback.on_fit_end(run)
    run.history.seconds = time.perf_counter() - began
    run.shown.close(run.history.stopped)
    if not whole:
        notices.warn(
            f"fit was interrupted after {run.history.epochs} of {run.epochs} epochs; "
            "the network keeps the weights that it had reached."
        )
    return run.history


def _stopping(run: FitRun) -> EarlyStopping | None:
    """Return the library's own rule to stop by, if it is the only callback."""
    if len(run.callbacks) == 1 and type(run.callbacks[0]) is EarlyStopping:
        return run.callbacks[0]
    return None


class _Epochs:
    """The policy of a fit: as many epochs as were asked for, unless a callback ends them.

    Parameters
    ----------
    job : Job
        What is trained.
    run : FitRun
        What callbacks see; its history is written.
    stopping : EarlyStopping or None
        The rule that the engine follows.

    Attributes
    ----------
    measures : _Measures
        What the engine does not measure; set before the first step.
    measured : bool
        Whether the engine measures epochs.
    apart : bool
        Whether somebody sees the weights after every epoch, so that no slice may continue into
        the next one.
    """

    measures: _Measures

    def __init__(self, job: Job, run: FitRun, stopping: EarlyStopping | None) -> None:
        self._job, self._fit, self._stopping = job, run, stopping
        self._base = job.state.optimizer.learning_rate
        self._names = job.measured
        # The learning rates of the last steps of epochs under way, with a schedule.
        self._ended_at: dict[int, float] = {}
        self.measured = job.counting is not None
        self._columns: tuple[list[int], list[int]] | None = None
        if job.counting is not None:
            places = [job.counting.places[name] for name in self._names]
            self._columns = [place[0] for place in places], [place[1] for place in places]
        scheduled = job.schedule is not None and schedules.looks_back(job.schedule)
        self._called = () if stopping is not None else run.callbacks
        self._watching = any(callback.each_epoch for callback in self._called)
        self.apart = self._watching or scheduled or len(job.measured) < len(job.names)

    def goes_on(self, descent: Descent) -> bool:
        """Return whether to take more steps."""
        return self._fit.epoch < self._fit.epochs and self._fit.history.stopped is None

    def horizon(self, epoch: int) -> tuple[int, int | None]:
        """Return through how many epochs steps may go from one on, and how many are to come."""
        to_come = self._fit.epochs - epoch
        return 1 if self.apart else to_come, to_come

    def rates(self, epoch: int, first: int, last: int) -> NDArray[np.float64]:
        """Return the scheduled learning rates of steps."""
        fit, steps = self._fit, self._job.steps
        found = _rates(self._job, self._base, fit.epochs, epoch, first, last, fit.history)
        if found.size:
            for ended in range(first // steps, last // steps):
                self._ended_at[epoch + ended] = float(found[(ended + 1) * steps - 1 - first])
        return found

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
        if descent.between_epochs and (self.apart or self.measured):
            descent.show()
        so_far = descent.so_far
        if so_far is not None:
            self._fit.shown.update(so_far[0], {"loss": so_far[1]})
        recorded = self._fit.epoch
        self._record(descent)
        if self._watching and self._fit.epoch > recorded:
            descent.renew()

    def diverged(self, bad: Bad) -> DivergenceError:
        """Return what to raise for a step that turned non-finite."""
        after, at = (bad.parameters, bad.state), (bad.epoch, bad.step)
        return divergence(self._job, bad.batch, after, bad.trouble, at, self._fit.history)

    def interrupted(self, descent: Descent) -> None:
        """Record the epochs that the weights have seen."""
        if not self.apart:
            self._record(descent)
        self._fit.history.mend()
        self._fit.history.stopped = "interrupted"

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
        rates = [self._ended_at.pop(epoch, self._base) for epoch in range(before, run.epoch)]
        run.history.learning_rates.extend(rates)
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


def _rates(
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


class _Measures:
    """What an epoch records that the engine does not measure."""

    def __init__(self, job: Job, outputs: Floats) -> None:
        asked = job.metrics, job.loss, job.layout
        self._job, self._outputs = job, outputs
        measured = job.measured
        missing = [name for name in job.names if name not in measured]
        self._after = bool(job.metrics) and job.metrics[0].name in missing and not len(outputs)
        self._training = Group(*asked, job.data, job.backend) if len(outputs) else None
        self._held = None
        if job.validation is not None and "val_loss" in missing:
            self._held = Validation(*asked, job.validation, job.backend, job.parameters)
        self.present = bool(missing)

    def __call__(self) -> dict[str, float]:
        """Measure with the weights at the epoch's end, but for what its own passes gave."""
        job, measured = self._job, {}
        if self._training is not None:
            measured = self._training.values(self._outputs)
        elif self._after:
            measured = metric_values(
                job.metrics, job.layout, job.parameters, job.data, backend=job.backend
            )
        if self._held is None:
            return measured
        loss, metrics = self._held()
        return measured | {"val_loss": loss} | metrics


@dataclass(frozen=True, slots=True)
class Stepped:
    """The result of a single step.

    Attributes
    ----------
    loss : float
        Before the step, with the penalty.
    parameters : ndarray (size,)
        After it.
    state : TrainingState
        After it.
    """

    loss: float
    parameters: Floats
    state: TrainingState


def single_step(job: Job) -> Stepped:
    """Take one step on all of the job's data, of which nothing is written.

    Parameters
    ----------
    job : Job
        What to train on what.

    Returns
    -------
    Stepped
        The state after the step.

    Raises
    ------
    DivergenceError
        If the loss, a weight or a moment becomes non-finite.
    """
    # The engine counts steps in the state.
    ahead = replace(job.state, numbers=records.copied(job.state.numbers))
    stepper = STEPPERS[job.backend](replace(job, state=ahead))
    record = np.zeros(1, records.RECORD)
    done = stepper.run(0, 1, 0, record)
    parameters, moments = np.empty_like(job.parameters), np.empty_like(ahead.moments)
    stepper.store(parameters, moments)
    after = replace(ahead, moments=moments)
    if done.trouble:
        check_finite(job)
        reached = parameters, after
        raise divergence(job, job.data, reached, done.trouble, (0, 0), History(job.names))
    return Stepped(mean(record[0]), parameters, after)
