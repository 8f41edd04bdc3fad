"""Where a described network meets learning: epochs in native slices, callbacks between them.

A slice is as many steps as take about 70 ms: long enough that the call itself costs nothing, short
enough that Ctrl-C, callbacks and progress take effect at once.  How an epoch is cut into slices
changes no bit of its result.

This file is long because description and computing meet here on both paths, and a fit's start,
its slices and its divergence belong together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn import notices, reference, reference_draws, reference_walk, schedules, tuning
from fastnn.callbacks import Callback, EarlyStopping, Trainable
from fastnn.conventions import OWN, Conventions
from fastnn.data import Data
from fastnn.errors import DivergenceError
from fastnn.gate import Targets
from fastnn.history import History
from fastnn.kernels import codes, records
from fastnn.kernels._load import load_kernels
from fastnn.layers import Dropout
from fastnn.layout import Layout, Operation
from fastnn.losses import Loss
from fastnn.measuring import Group, Validation
from fastnn.metrics import Metric
from fastnn.optimizers import Optimizer, hyperparameters, row_of
from fastnn.prediction import Run, predictions, textbook_trace
from fastnn.predictor import slices
from fastnn.progress import Progress
from fastnn.reference_walk import Drops, Walk
from fastnn.schedules import Schedule
from fastnn.sharing import Shown
from fastnn.sparse import SparseRows
from fastnn.tallies import Counting, Watch

__all__ = [
    "Job",
    "Streams",
    "TrainingState",
    "begin",
    "fit",
    "metric_values",
    "single_step",
    "split",
]

Floats = NDArray[np.floating]

# How many times as long as a fit's first copy of its weights the next one may take for each vector,
# as it is written to new memory (8 million weights: 380 ms, in fits of two seconds).
_NEW_MEMORY = 20


@dataclass(slots=True)
class Streams:
    """The random state of a network after its weights are drawn.

    It is counter-based: an epoch's order is a function of a key and the number of orders drawn
    before, and a step's dropout one of another key and the number of steps taken before, so that a
    later fit continues where the last one stopped.
    """

    order_key: int
    mask_key: int
    drawn: int = 0
    steps: int = 0


@dataclass(slots=True)
class TrainingState:
    """The state of an optimizer between steps.

    Attributes
    ----------
    optimizer : Optimizer
        The record with the hyperparameters.
    moments : ndarray (rule's own, size)
        Vectors like the parameters, in the same layout; zeros before the first step.
    numbers : ndarray of records.NUMBERS ()
        The number of steps taken, and the hyperparameters, as the engine reads them; with a
        schedule, the learning rate is that of the last step.
    """

    optimizer: Optimizer
    moments: Floats
    numbers: NDArray[np.void]

    @classmethod
    def fresh(cls, optimizer: Optimizer, parameters: Floats) -> TrainingState:
        """Return the state before the first step."""
        for name, number in hyperparameters(optimizer).items():
            if 0 < number < float(np.finfo(parameters.dtype).smallest_subnormal):
                raise ValueError(
                    f"{name} must be a number that {parameters.dtype} can tell from 0; "
                    f"got {number!r}."
                )
        moments = np.zeros((row_of(optimizer).moments, parameters.size), parameters.dtype)
        return cls(optimizer, moments, row_of(optimizer).numbers(optimizer))

    @classmethod
    def resumed(
        cls, optimizer: Optimizer, moments: Floats, steps: int, rate: float
    ) -> TrainingState:
        """Return the state after so many steps, the last of them at this learning rate."""
        numbers = row_of(optimizer).numbers(optimizer)
        numbers["steps"] = steps
        numbers["learning_rate"] = rate
        return cls(optimizer, moments, numbers)

    def continued(self, optimizer: Optimizer) -> TrainingState | None:
        """Return this state for a record of the same rule, or None for one of another rule."""
        if type(optimizer) is not type(self.optimizer):
            return None
        numbers = row_of(optimizer).numbers(optimizer)
        numbers["steps"] = self.numbers["steps"]
        return replace(self, optimizer=optimizer, numbers=numbers)

    @property
    def steps(self) -> int:
        """How many were taken."""
        return int(self.numbers["steps"])

    @property
    def learning_rate(self) -> float:
        """That of the last step with a schedule, else the optimizer's."""
        return float(self.numbers["learning_rate"])

    def learn_at(self, rate: float) -> None:
        """Change the learning rate from the next step on."""
        self.optimizer = replace(self.optimizer, learning_rate=rate)
        self.numbers["learning_rate"] = rate

    def copy(self) -> TrainingState:
        """Return a state that shares no memory with this one."""
        # Before a first step the moments are zeros, of which new ones cost nothing yet.
        before = not self.steps
        moments = (
            np.zeros(self.moments.shape, self.moments.dtype) if before else self.moments.copy()
        )
        return replace(self, moments=moments, numbers=records.copied(self.numbers))


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

    def run(self, first: int, last: int, number: int, record: NDArray[np.void]) -> Slice:
        """Take the steps from first to before last; the epoch's order has the number."""

    def ration(self, left: int | None = None) -> int | None:
        """Return how many steps the next call shall take at the most, None for any number."""

    def take(self, moments: bool = False) -> None:
        """Pack the job's present parameters, and its moments if asked."""

    def show(self, moments: bool = False) -> None:
        """Write the job's parameters, and its moments if asked."""

    def load(self, parameters: Floats, moments: Iterable[Floats]) -> None:
        """Take over parameters and moments that are not the job's."""

    def store(self, parameters: Floats, moments: Floats) -> None:
        """Write parameters and moments as they are now, without showing them."""

    def store_best(self, parameters: Floats) -> None:
        """Write the parameters of the best epoch, where the job's counting keeps them."""

    def measure_no_more(self) -> None:
        """Take steps as if nothing were measured, with records that have no room for it."""


class NativeStepper:
    """Takes steps in the engine."""

    def __init__(self, job: Job) -> None:
        self.order = np.arange(len(job.data), dtype=np.int64)
        self._job = job
        self._run = Run(
            job.layout.operations, job.parameters.dtype, job.data, job.loss,
            batch_size=job.batch_size, gradient=True, order=self.order, threads=job.threads,
            moments=len(job.state.moments), clipping=job.clip_norm is not None,
            dropping=True, conventions=job.conventions, counting=job.counting,
        )  # fmt: skip
        code = row_of(job.state.optimizer).code
        self._run.optimize_with(code, job.state.numbers, job.shuffle)
        plan = self._run.program.plan
        plan["order_key"], plan["mask_key"] = job.order_key, job.mask_key
        self.report = self._run.report
        self.rates = np.zeros(0)
        self.outputs = job.outputs
        self._run.hand_out_to(self.outputs)
        # Before a first step the moments are zeros, as is the room that they get.
        self.take(moments=job.state.steps > 0)

    def run(self, first: int, last: int, number: int, record: NDArray[np.void]) -> Slice:
        """Take the steps from first to before last; the epoch's order has the number."""
        plan = self._run.program.plan
        plan["order_number"], plan["step_number"] = number, self._job.step
        if self._job.clip_norm is not None:
            self._run.numbers["clip_norm"] = self._job.clip_norm
        self._run(codes.TRAIN, first, last, record, self.rates)
        return Slice(record, int(self.report["steps_done"]), int(self.report["trouble"]))

    def ration(self, left: int | None = None) -> int | None:
        """Return how many steps the next call shall take at the most, None for any number."""
        return self._run.ration(left)

    def take(self, moments: bool = False) -> None:
        """Take over the job's parameters, and its moments if asked, as they are now."""
        self.load(self._job.parameters, self._job.state.moments if moments else ())

    def show(self, moments: bool = False) -> None:
        """Write the job's parameters, and its moments if asked."""
        job = self._job
        job.shown.write(lambda: self._run.store(job.parameters))
        if moments:
            for place, moment in enumerate(job.state.moments, 1):
                self._run.store(moment, place)

    def load(self, parameters: Floats, moments: Iterable[Floats]) -> None:
        """Take over parameters and moments that are not the job's."""
        self._run.load(parameters)
        for place, moment in enumerate(moments, 1):
            self._run.load(moment, place)

    def store(self, parameters: Floats, moments: Floats) -> None:
        """Write parameters and moments as they are now, without showing them."""
        self._run.store(parameters)
        for place, moment in enumerate(moments, 1):
            self._run.store(moment, place)

    def store_best(self, parameters: Floats) -> None:
        """Write the parameters of the best epoch, where the job's counting keeps them."""
        self._run.store_best(parameters)

    def measure_no_more(self) -> None:
        """Take steps as if nothing were measured, with records that have no room for it."""
        self._run.measure_no_more()


class ReferenceStepper:
    """Takes steps in the textbook's equations."""

    def __init__(self, job: Job) -> None:
        self.order = np.arange(len(job.data), dtype=np.int64)
        self.report = np.zeros((), records.REPORT)
        self.rates = np.zeros(0)
        self.outputs = job.outputs
        self._job = job
        self._parameters = job.parameters.copy()

    def run(self, first: int, last: int, number: int, record: NDArray[np.void]) -> Slice:
        """Take the steps from first to before last; the epoch's order has the number."""
        job = self._job
        with np.errstate(all="ignore"):
            for step in range(first, last):
                epoch, within = divmod(step, job.steps)
                if within == 0 and job.shuffle:
                    self.order[:] = reference_draws.permutation(
                        job.order_key, number + epoch, len(self.order)
                    )
                if self.rates.size:
                    # Not through the record, which refuses the 0 that a schedule may end at.
                    job.state.numbers["learning_rate"] = self.rates[step - first]
                rows = self.order[within * job.batch_size : (within + 1) * job.batch_size]
                batch = job.data.take(rows)
                total = batch.total
                if total:
                    if len(self.outputs):
                        self.outputs[rows] = self._predicted(batch)
                    loss, trouble = self._step(batch)
                    if trouble:
                        return Slice(record, step - first, trouble)
                    counted = float(len(batch)) if job.conventions.by_examples else total
                    here = record[epoch - first // job.steps]
                    here["loss_sum"] += loss * counted
                    here["weight_sum"] += counted
                self.report["steps_done"] = step + 1 - first
        return Slice(record, last - first, codes.FINE)

    def ration(self, left: int | None = None) -> int | None:
        """Return None: there is nothing to try."""
        return None

    def take(self, moments: bool = False) -> None:
        """Take over the job's parameters as they are now; its moments are read where they lie."""
        self._parameters[:] = self._job.parameters

    def show(self, moments: bool = False) -> None:
        """Write the job's parameters; its moments are written by every step."""
        job = self._job
        job.shown.write(lambda: np.copyto(job.parameters, self._parameters))

    def load(self, parameters: Floats, moments: Iterable[Floats]) -> None:
        """Take over parameters and moments that are not the job's."""
        self._parameters[:] = parameters
        for own, moment in zip(self._job.state.moments, moments, strict=True):
            own[:] = moment

    def store(self, parameters: Floats, moments: Floats) -> None:
        """Write parameters and moments as they are now, without showing them."""
        parameters[:] = self._parameters
        moments[:] = self._job.state.moments

    def store_best(self, parameters: Floats) -> None:
        """Do nothing: here epochs end in Python."""

    def measure_no_more(self) -> None:
        """Do nothing: here epochs end in Python."""

    def _predicted(self, batch: Data) -> Floats:
        """Return the predictions of the next step, before it changes anything."""
        job = self._job
        X, drops = batch.columns(job.layout.outputs)[0], _drops(job, len(batch))
        operations = job.layout.operations
        with np.errstate(all="ignore"):
            passed = reference_walk.outputs(job.layout, self._parameters, X, operations, drops)
            return passed[-1].A.T

    def _step(self, batch: Data) -> tuple[float, int]:
        """Take one step; nothing is written before everything is computed."""
        job, state, conventions = self._job, self._job.state, self._job.conventions
        share = 1.0 / batch.total if conventions.shared_penalty else 1.0
        walk = Walk(
            job.layout, self._parameters, job.loss, batch.columns(job.layout.outputs),
            conventions.loss_limit, _drops(job, len(batch)),
        )  # fmt: skip
        passed = walk.forward()
        loss = conventions.scales[0] * walk.mean_loss(passed) + walk.penalty(share)
        gradient = walk.gradient(walk.backward(passed), conventions.scales[1], share)
        if not np.isfinite(loss):
            return loss, codes.LOSS_NOT_FINITE
        if job.clip_norm is not None:
            gradient = reference_walk.clipped(job.layout, gradient, job.clip_norm)
        t = int(state.numbers["steps"]) + 1
        rule = reference.OPTIMIZERS[type(state.optimizer).__name__]
        new = reference_walk.step(
            job.layout, self._parameters, gradient, list(state.moments), rule, t, self._hyper(t)
        )
        self._parameters[:] = new[0]
        for moment, stepped in zip(state.moments, new[1:], strict=True):
            moment[:] = stepped
        if not all(np.isfinite(vector).all() for vector in new):
            return loss, codes.UPDATE_NOT_FINITE
        state.numbers["steps"] += 1
        return loss, codes.FINE

    def _hyper(self, t: int) -> dict[str, float]:
        """Return the optimizer's numbers as step t takes them."""
        state = self._job.state
        hyper = hyperparameters(state.optimizer)
        hyper["learning_rate"] = float(state.numbers["learning_rate"])
        if self._job.conventions.bare_epsilon and "beta_2" in hyper:
            # (sqrt(v) + epsilon) / sqrt(1 - beta_2^t) is the root of v_hat plus this:
            hyper["epsilon"] /= float(np.sqrt(1.0 - hyper["beta_2"] ** t))
        return hyper


def _drops(job: Job, examples: int) -> Drops:
    """Return what each dropout does in the next step, by its place."""
    drops = {}
    for one in job.layout.operations:
        if not isinstance(one.layer, Dropout):
            continue
        rate = one.layer.rate
        kept = reference_draws.kept(job.mask_key, job.step, one.place, one.inputs, examples, rate)
        drops[one.place] = kept * job.parameters.dtype.type(1.0 / (1.0 - rate))
    return drops


STEPPERS: dict[str, type[NativeStepper] | type[ReferenceStepper]] = {
    "native": NativeStepper,
    "reference": ReferenceStepper,
}


def _draw(order: NDArray[np.int64], key: int, number: int, backend: str) -> None:
    """Write an order of examples, the same on both paths."""
    if backend == "reference":
        order[:] = reference_draws.permutation(key, number, len(order))
        return
    load_kernels()
    from fastnn.kernels.order import draw_order

    draw_order(order, np.array([key, number], np.uint64))


def split(
    data: Data, loss: Loss, fraction: float, streams: Streams, *, backend: str
) -> tuple[Data, Data]:
    """Split data into training and validation; stratified where targets are classes.

    Drawn from the network's stream of orders, once, before the first epoch.
    """
    order = np.empty(len(data), np.int64)
    _draw(order, streams.order_key, streams.drawn, backend)
    streams.drawn += 1
    classes = _classes(data.targets, loss)[order]
    members = [order[classes == label] for label in np.unique(classes)]
    held = np.zeros(len(data), bool)
    for part, count in zip(
        members, _shares([len(part) for part in members], fraction), strict=True
    ):
        held[part[:count]] = True
    rows = np.arange(len(data))
    parts = data.take(rows[~held]), data.take(rows[held])
    for piece, what in zip(parts, ("to train on", "to validate on"), strict=True):
        if not len(piece) or (piece.weights.size and not piece.weights.any()):
            raise ValueError(
                f"validation_fraction={fraction:g} of {len(data)} examples leaves none of any "
                f"weight {what}."
            )
    return parts


def _classes(targets: Targets, loss: Loss) -> NDArray[Any]:
    """Return a class for each example; the same one for all where targets are no classes."""
    values: NDArray[Any] = targets.values
    if targets.labels.size:
        return targets.labels
    if loss.targets not in ("real", "counts") and np.isin(values, (0, 1)).all():
        if values.shape[1] == 1:
            return values[:, 0]
        if loss.targets == "classes":
            return np.asarray(values.argmax(axis=1))
    return np.zeros(len(values), np.int64)


def _shares(sizes: Sequence[int], fraction: float) -> list[int]:
    """Divide the number to hold out among classes by largest remainders; at least one."""
    exact = [fraction * size for size in sizes]
    counts = [int(share) for share in exact]
    missing = max(1, round(fraction * sum(sizes))) - sum(counts)
    by_remainder = sorted(range(len(sizes)), key=lambda place: counts[place] - exact[place])
    for place in by_remainder[:missing]:
        counts[place] += 1
    return counts


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
    return {prefix + row.name: float(row.function(wanted, predicted, weights)) for row in metrics}


@dataclass(frozen=True, slots=True)
class Job:
    """The inputs and settings of one fit."""

    layout: Layout
    parameters: Floats
    loss: Loss
    data: Data
    validation: Data | None
    metrics: tuple[Metric, ...]
    batch_size: int
    state: TrainingState
    backend: str
    shuffle: bool = False
    order_key: int = 0
    mask_key: int = 0
    steps_before: int = 0  # in the stream of dropout's masks, before the state's first one
    clip_norm: float | None = None
    threads: int | None = None
    conventions: Conventions = OWN
    schedule: Schedule | None = None
    shown: Shown = field(default_factory=Shown)
    measured_after: bool = False  # metrics of the training examples, not by the way
    counting: Counting | None = None  # what the engine measures by itself

    @property
    def outputs(self) -> Floats:
        """Room for what training predicts for each example, if metrics are made of it here."""
        elsewhere = self.measured_after or not self.metrics or self.counting is not None
        rows = 0 if elsewhere else len(self.data)
        return np.zeros((rows, self.layout.outputs), self.parameters.dtype)

    @property
    def steps(self) -> int:
        """Steps per epoch; the last batch may be short."""
        return -(-len(self.data) // self.batch_size)

    @property
    def step(self) -> int:
        """Number of the next step in the stream of dropout's masks."""
        return (self.steps_before + self.state.steps) % 2**64

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the values that every epoch records."""
        names = ("loss", *(row.name for row in self.metrics))
        return names if self.validation is None else (*names, *(f"val_{name}" for name in names))

    @property
    def measured(self) -> tuple[str, ...]:
        """What the engine gives of every epoch, in the order of names."""
        if self.counting is None:
            return ("loss",)
        return tuple(name for name in self.names if name in self.counting.places)

    def counted(self, watch: Watch | None) -> Job:
        """Return the same with all that the engine can measure left to it, and a value watched."""
        if self.backend == "reference" or (len(self.names) == 1 and watch is None):
            return self
        held = self.validation
        if held is not None and (
            isinstance(held.X, SparseRows) or len(slices(len(held), self.layout.operations)) > 1
        ):
            # The second would put off Ctrl-C.
            held = None
        counting = Counting.of(
            self.metrics, self.loss, self.layout, self.data, held, training=not self.measured_after
        )
        if counting is not None and watch is not None and watch.name in counting.places:
            counting = counting.watching(watch)
        return replace(self, counting=counting)


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
    _check_finite(job)
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
    scheduled = job.schedule is not None and schedules.looks_back(job.schedule)
    watching = run.callbacks and stopping is None
    looking = watching or scheduled or len(job.measured) < len(job.names)
    slices = _Slices(job, streams, apart=bool(looking), run=run)
    measures = _Measures(job, slices.stepper.outputs)
    interrupted = None
    try:
        while run.epoch < run.epochs and run.history.stopped is None:
            recorded = run.epoch
            diverged = slices.advance(run)
            _end_epochs(run, slices, measures, stopping)
            if diverged is not None:
                raise diverged
            if watching and run.epoch > recorded:
                slices.renew()
        slices.show()
    except KeyboardInterrupt:
        slices.settle()
        if not slices.apart:
            _end_epochs(run, slices, measures, stopping)
        run.history.mend()
        run.history.stopped = "interrupted"
        interrupted = (
            f"fit was interrupted after {run.history.epochs} of {run.epochs} epochs; "
            "the network keeps the weights that it had reached."
        )
    except BaseException:
        slices.show()
        run.shown.close("failed")
        raise
    finally:
        streams.steps = job.step
    if stopping is not None:
        stopping.take_best(slices.best)
    for callback in run.callbacks:
        callback.on_fit_end(run)
    run.history.seconds = time.perf_counter() - began
    run.shown.close(run.history.stopped)
    if interrupted:
        notices.warn(interrupted)
    return run.history


def _stopping(run: FitRun) -> EarlyStopping | None:
    """Return the library's own rule to stop by, if it is the only callback."""
    if len(run.callbacks) == 1 and type(run.callbacks[0]) is EarlyStopping:
        return run.callbacks[0]
    return None


def _end_epochs(
    run: FitRun, slices: _Slices, measures: _Measures, stopping: EarlyStopping | None
) -> None:
    """Measure, record and show the epochs that ended, and let the callbacks see them."""
    before = run.history.epochs
    ended = slices.ended[before:]
    if not ended:
        return
    watching = run.callbacks and stopping is None
    if watching or measures.present or run.shown.shown:
        for values in ended:
            run.logs = {**dict(zip(slices.names, values, strict=True)), **measures()}
            run.history.append(run.logs)
            run.epoch = run.history.epochs
            run.shown.epoch_end(run.epoch, run.logs)
            if watching:
                for callback in run.callbacks:
                    callback.on_epoch_end(run)
    else:
        run.history.extend(ended)
        run.epoch = run.history.epochs
        run.logs = dict(zip(slices.names, ended[-1], strict=True))
    if stopping is not None:
        place = slices.names.index(stopping.monitor)
        stopping.follow(run, before, [values[place] for values in ended])


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
        # It is longer only where steps are taken again.
        known = history if history.epochs <= epoch + e else history.until(epoch + e)
        parts.append(
            schedules.rates(
                job.schedule, before + begin, before + end, job.steps, epochs, base, known
            )
        )
    return np.concatenate(parts)


def _check_finite(job: Job) -> None:
    """Refuse to train from weights that are not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        # One non-finite number makes the sum non-finite, in a third of the time.
        if np.isfinite(job.parameters.sum()):
            return
    for entry in job.layout:
        if not np.isfinite(job.layout.view(job.parameters, entry)).all():
            place = f"layer {entry.name.split('.')[0]}"
            raise DivergenceError(
                f"training cannot begin: the parameters of {place} ({entry.name}) are not all "
                "finite. Set them anew, with set_weights or through parameters.",
                epoch=1,
                step=1,
                layer=place,
            )


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


class _Slices:
    """Cuts a fit into slices of steps, and ensures that weights stay finite.

    Parameters
    ----------
    job : Job
        What is trained.
    streams : Streams
        The random state of orders and dropout; advanced.
    apart : bool
        Whether a callback sees the weights after every epoch, so that no slice may continue into
        the next one.
    run : FitRun
        The fit whose epochs and history a schedule sees.

    Attributes
    ----------
    names : tuple of str
        What the engine gives of every epoch: the loss, with the penalty, first.
    ended : list of list of float
        Their values, of the epochs that ended.
    """

    def __init__(self, job: Job, streams: Streams, *, apart: bool, run: FitRun) -> None:
        self._job = job
        self._fit = run
        self._base = job.state.optimizer.learning_rate
        self._streams = streams
        self.apart = apart
        self.names = job.measured
        self.ended: list[list[float]] = []
        self._columns: tuple[list[int], list[int]] | None = None
        if job.counting is not None:
            places = [job.counting.places[name] for name in self.names]
            self._columns = [place[0] for place in places], [place[1] for place in places]
        self.stepper: Stepper = STEPPERS[job.backend](job)
        self._length = 1
        self._first_order = streams.drawn
        self._step = 0  # of the present epoch, the next one to take
        self._record = np.zeros((), records.RECORD)  # of the present epoch, so far
        self._stale = 0.0  # seconds of training since weights were saved
        self._copying = 0.0  # seconds that saving took
        self._under_way = _Steps(0, 0, np.zeros(0, records.RECORD))
        self._ahead = False  # whether the stepper has taken steps that the parameters do not show
        self._keep()
        # Later the moments are unpacked and copied too.
        self._copying *= _NEW_MEMORY * (1 + len(job.state.moments))

    def show(self) -> None:
        """Write the parameters as the last step left them."""
        if self._ahead:
            self.stepper.show()
            self._ahead = False

    def renew(self) -> None:
        """Continue from the parameters, which a callback may have changed."""
        self.stepper.take()
        # A replay from what was saved before would not lead here.
        self._stale = np.inf

    @property
    def best(self) -> Floats:
        """The parameters of the epoch whose watched value was the best, a copy."""
        parameters = np.empty_like(self._job.parameters)
        self.stepper.store_best(parameters)
        return parameters

    def settle(self) -> None:
        """Unpack the present weights, or, if they diverged at an interruption, the saved ones."""
        self._count()
        if not np.isfinite(self._reached()[0]).all():
            saved = self._saved
            self.stepper.load(saved.parameters, saved.state.moments)
            self._ahead = True
        self.show()

    def _save(self) -> None:
        """Save the present weights and state, rarely enough that it costs nothing."""
        if self._stale < tuning.current.saving_share * self._copying:
            return
        began = time.perf_counter()
        parameters, state = self._reached()
        self._saved = _Saved(parameters, state, len(self.ended), self._step)
        self._copying = time.perf_counter() - began
        self._stale = 0.0

    def _keep(self) -> None:
        """Keep a copy of the job's parameters and state, which are up to date."""
        began = time.perf_counter()
        job = self._job
        self._saved = _Saved(job.parameters.copy(), job.state.copy(), len(self.ended), self._step)
        self._copying = time.perf_counter() - began
        self._stale = 0.0

    def _reached(self) -> tuple[Floats, TrainingState]:
        """Return copies of weights and state as the last step left them, without showing them."""
        state, parameters = self._job.state, np.empty_like(self._job.parameters)
        moments = np.empty_like(state.moments)
        self.stepper.store(parameters, moments)
        return parameters, replace(state, moments=moments, numbers=records.copied(state.numbers))

    def advance(self, run: FitRun) -> DivergenceError | None:
        """Take a slice of steps; return what to raise should one of them turn non-finite."""
        steps, epoch = self._job.steps, len(self.ended)
        left = (1 if self.apart else run.epochs - epoch) * steps - self._step
        to_come = (run.epochs - epoch) * steps - self._step
        wanted = min(self._length, left, self.stepper.ration(to_come) or left)
        first, last = self._step, self._step + wanted
        if self._columns is not None and last > steps:
            # Where epochs are measured, others see the weights at the end of one.
            last = last // steps * steps
        self._save()
        began = time.perf_counter()
        record = np.zeros((last - 1) // steps + 1, records.RECORD)
        record[0] = self._record
        if self._job.shuffle:
            self._streams.drawn = self._first_order + epoch + len(record)
        done = self._run(epoch, first, last, record)
        self._streams.steps = self._job.step
        self._count()
        if done.trouble:
            return self._diverged(run, epoch * steps + first + done.done, done.trouble)
        # It may have stopped earlier.
        self._step = (first + done.done) % steps
        self._record = record[-1] if self._step else np.zeros_like(self._record)
        if not self._step and (self.apart or self._columns is not None):
            self.show()
        seconds = time.perf_counter() - began
        self._stale += seconds
        self._adapt(seconds, done.done)
        if self._step and self._record["weight_sum"]:
            run.shown.update(self._step / steps, {"loss": _mean(self._record)})
        return None

    def _run(self, epoch: int, first: int, last: int, record: NDArray[np.void]) -> Slice:
        """Let the stepper take steps, counted from the beginning of an epoch."""
        self.stepper.report["steps_done"] = 0
        self._under_way = _Steps(epoch, first, record)
        self._ahead = True
        fit = self._fit
        self.stepper.rates = _rates(
            self._job, self._base, fit.epochs, epoch, first, last, fit.history
        )
        return self.stepper.run(first, last, self._first_order + epoch, record)

    def _count(self) -> None:
        """Record the losses of the epochs that ended in the steps under way."""
        steps = self._under_way
        taken = steps.first + int(self.stepper.report["steps_done"])
        if self._columns is not None and self._job.shuffle and taken > steps.first:
            # The engine may have stopped before the last of the orders that it was to draw.
            begun = -(-taken // self._job.steps)
            self._streams.drawn = self._first_order + steps.epoch + begun
        ended = steps.record[len(self.ended) - steps.epoch : taken // self._job.steps]
        if self._columns is not None:
            self.ended.extend(ended["values"][:, *self._columns].tolist())
        else:
            losses = ended["loss_sum"] / ended["weight_sum"]
            self.ended.extend(losses[:, np.newaxis].tolist())

    def _adapt(self, seconds: float, steps: int) -> None:
        """Choose the next slice's length; at most eight times this one, as timings err."""
        fitting = int(tuning.current.slice_seconds * steps / max(seconds, 1e-9))
        self._length = max(1, min(fitting, 8 * steps))

    def _diverged(self, run: FitRun, bad: int, trouble: int) -> DivergenceError:
        """Go back to before the bad step, counted through all epochs; say where that began."""
        job, saved = self._job, self._saved
        after = self._reached()
        self.stepper.load(saved.parameters, saved.state.moments)
        self.stepper.measure_no_more()
        job.state.numbers[...] = saved.state.numbers
        self._replay(bad)
        epoch, step = divmod(bad, job.steps)
        if job.shuffle:
            _draw(self.stepper.order, job.order_key, self._first_order + epoch, job.backend)
            self._streams.drawn = self._first_order + epoch + 1
        rows = self.stepper.order[step * job.batch_size : (step + 1) * job.batch_size]
        return _divergence(job, job.data.take(rows), after, trouble, (epoch, step), run.history)

    def _replay(self, bad: int) -> None:
        """Replay the steps from the saved state to before the bad one: they repeat bit for bit."""
        job, saved = self._job, self._saved
        if job.shuffle and saved.step:
            number = self._first_order + saved.epoch
            _draw(self.stepper.order, job.order_key, number, job.backend)
        step = saved.epoch * job.steps + saved.step
        while step < bad:
            # In slices, like a fit, so that Ctrl-C takes effect.
            (epoch, first), count = divmod(step, job.steps), min(self._length, bad - step)
            epochs = (first + count - 1) // job.steps + 1
            self._run(epoch, first, first + count, np.zeros(epochs, records.RECORD))
            step += count
        self.stepper.show(moments=True)
        self._ahead = False


@dataclass(frozen=True, slots=True)
class _Saved:
    """Weights and state before a step of an epoch, counted from the fit's first."""

    parameters: Floats
    state: TrainingState
    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class _Steps:
    """Steps under way: from which one of which epoch on, and the sums of all that they touch."""

    epoch: int
    first: int
    record: NDArray[np.void]


def _mean(sums: NDArray[np.void]) -> float:
    """Return the mean loss of an epoch."""
    return float(sums["loss_sum"] / sums["weight_sum"])


def _named(block: Operation) -> str:
    """Describe a layer in a few words."""
    return f"{block.kind.name}, {block.outputs} units, {block.kind.say(block.layer)}"


def _divergence(
    job: Job, batch: Data, after: tuple[Floats, TrainingState], trouble: int,
    at: tuple[int, int], history: History,
) -> DivergenceError:  # fmt: skip
    """Say where a step went wrong, at an epoch and a step of it, and what may help."""
    epoch, step = at
    block, what = _where_it_began(job, batch, after, trouble)
    place = f"layer {block.place} ({_named(block)})"
    return DivergenceError(
        f"training turned non-finite in epoch {epoch + 1}, step {step + 1} of "
        f"{job.steps}: {what.format(place=place)}. The network holds its last finite "
        f"weights, from before that step. {_remedy(job)}",
        epoch=epoch + 1,
        step=step + 1,
        layer=f"layer {block.place}",
        history=history,
    )


def _where_it_began(
    job: Job, batch: Data, after: tuple[Floats, TrainingState], trouble: int
) -> tuple[Operation, str]:
    """Trace a bad step in the textbook's order; return the first layer with a non-finite part."""
    drops = _drops(job, len(batch))
    seen = textbook_trace(job.layout, job.parameters, job.loss, batch, drops)
    blocks = job.layout.blocks
    for block, Z, A in zip(blocks, seen.Z, seen.A, strict=True):
        if not np.isfinite(Z).all():
            return block, "the weighted sums Z of {place} overflowed"
        if not np.isfinite(A).all():
            return block, "the activations of {place} overflowed"
    if trouble == codes.LOSS_NOT_FINITE:
        if not np.isfinite(seen.loss):
            return blocks[-1], "the loss of the outputs of {place} overflowed"
        with np.errstate(over="ignore"):
            squares = [np.square(W, dtype=float).sum() for W in job.layout.weights(job.parameters)]
            sizes = [
                block.l2 * float(square) for block, square in zip(blocks, squares, strict=True)
            ]
        return blocks[int(np.argmax(sizes))], "the L2 penalty of {place} overflowed"
    for place in reversed(range(len(blocks))):
        gradients = (seen.dZ[place], seen.dW[place], seen.db[place])
        if not all(part is None or np.isfinite(part).all() for part in gradients):
            return blocks[place], "the gradient of {place} overflowed"
    parameters, state = after
    vectors = (parameters, *state.moments)
    for one in job.layout.operations:
        arrays = (job.layout.view(vector, entry) for vector in vectors for entry in one.parameters)
        if not all(np.isfinite(array).all() for array in arrays):
            return one, "the update of {place} overflowed"
    return blocks[0], "an update from {place} on overflowed"


def _remedy(job: Job) -> str:
    """Suggest what most likely helps, from what the data and the optimizer look like."""
    rate = job.state.optimizer.learning_rate
    advice = [f"Try a smaller learning_rate (it is {rate:g}; {rate / 10:g} would be a tenth)"]
    X = job.data.X
    largest = float(np.abs(X.values if isinstance(X, SparseRows) else X).max(initial=0.0))
    if largest > 100:
        advice.append(f"scale the features (the largest in X is {largest:.3g}; about 1 is good)")
    wanted = job.data.targets.values
    if job.loss.targets in ("real", "counts") and wanted.size and float(np.abs(wanted).max()) > 100:
        far = float(np.abs(wanted).max())
        advice.append(f"scale the targets (the largest in y is {far:.3g}; about 1 is good)")
    if any(rate * block.l2 >= 1.0 for block in job.layout.blocks):
        advice.append("use a smaller l2 (with this learning_rate it overshoots)")
    if job.parameters.dtype == np.float32:
        advice.append('compute in dtype="float64"')
    return (", or ".join(advice) if len(advice) < 3 else "; ".join(advice)) + "."


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
    if job.backend == "reference":
        ahead = ahead.copy()
    stepper = STEPPERS[job.backend](replace(job, state=ahead))
    record = np.zeros(1, records.RECORD)
    done = stepper.run(0, 1, 0, record)
    parameters, moments = np.empty_like(job.parameters), np.empty_like(ahead.moments)
    stepper.store(parameters, moments)
    after = replace(ahead, moments=moments)
    if done.trouble:
        _check_finite(job)
        raise _divergence(
            job, job.data, (parameters, after), done.trouble, (0, 0), History(job.names)
        )
    return Stepped(_mean(record[0]), parameters, after)
