"""Where a described network meets learning: epochs in native slices, callbacks between them.

A slice is as many steps as fill about 70 ms: long enough that the way in and out costs nothing,
short enough that Ctrl-C, callbacks and progress are served at once.  How an epoch is cut into
slices changes no bit of its result.

This file is long because description and computing meet here on both paths, and a fit's start,
its slices and its bad end belong together.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn import reference
from fastnn.callbacks import Callback, Trainable
from fastnn.data import Data
from fastnn.errors import DivergenceError
from fastnn.gate import Targets
from fastnn.history import History
from fastnn.kernels import codes
from fastnn.layout import Block, Layout
from fastnn.losses import Loss
from fastnn.metrics import Metric
from fastnn.optimizers import Optimizer, hyperparameters, row_of
from fastnn.prediction import Run, mean_loss, predictions, textbook, trace
from fastnn.progress import Progress

__all__ = [
    "Job",
    "Streams",
    "TrainingState",
    "begin",
    "fit",
    "metric_values",
    "split",
    "train_on_batch",
]

Floats = NDArray[np.floating]

_SLICE_SECONDS = 0.07


@dataclass(slots=True)
class Streams:
    """Where a network's randomness comes from after its weights are drawn.

    Every epoch's order is a function of the key and of how many were drawn before it, so that
    a later fit goes on where the last one stopped.
    """

    order_key: int
    drawn: int = 0


@dataclass(slots=True)
class TrainingState:
    """What an optimizer carries from step to step.

    Attributes
    ----------
    optimizer : Optimizer
        The record with the rule's numbers.
    moments : ndarray (rule's own, size)
        Vectors like the parameters, in the same layout.
    numbers : ndarray of float64 (codes.NUMBERS,)
        The count of steps taken, and the record's numbers, as the engine reads them.
    """

    optimizer: Optimizer
    moments: Floats
    numbers: NDArray[np.float64]

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
        return cls(optimizer, moments, _numbers(optimizer))

    def continued(self, optimizer: Optimizer) -> TrainingState | None:
        """Return this state under a record of the same rule, or None under another rule."""
        if type(optimizer) is not type(self.optimizer):
            return None
        numbers = _numbers(optimizer)
        numbers[codes.STEPS] = self.numbers[codes.STEPS]
        return replace(self, optimizer=optimizer, numbers=numbers)

    def copy(self) -> TrainingState:
        """Return a state that shares nothing with this one."""
        return replace(self, moments=self.moments.copy(), numbers=self.numbers.copy())

    def restore(self, saved: TrainingState) -> None:
        """Go back to a copy, in place."""
        self.moments[:] = saved.moments
        self.numbers[:] = saved.numbers


def _numbers(optimizer: Optimizer) -> NDArray[np.float64]:
    """Return a record's numbers as the engine reads them, before the first step."""
    numbers = np.zeros(codes.NUMBERS)
    for place, number in row_of(optimizer).numbers(optimizer).items():
        numbers[place] = number
    return numbers


@dataclass(frozen=True, slots=True)
class Slice:
    """What a slice of steps reports."""

    loss_sum: float
    weight_sum: float
    done: int
    trouble: int


class Stepper(Protocol):
    """What takes the steps of an epoch: native or reference."""

    order: NDArray[np.int64]

    def draw(self, key: int, number: int) -> None:
        """Write the order of an epoch."""

    def run(self, first: int, last: int) -> Slice:
        """Take the steps from first to before last of the present epoch."""


class NativeStepper:
    """Takes steps in the engine."""

    def __init__(self, job: Job) -> None:
        self.order = np.arange(len(job.data), dtype=np.int64)
        self._run = Run(
            job.layout.blocks, job.parameters, job.data, job.loss,
            batch_size=job.batch_size, gradient=True, order=self.order,
        )  # fmt: skip
        code = row_of(job.state.optimizer).code
        self._run.optimize_with(code, job.state.moments, job.state.numbers)

    def draw(self, key: int, number: int) -> None:
        """Write the order of an epoch."""
        _draw(self.order, key, number, "native")

    def run(self, first: int, last: int) -> Slice:
        """Take the steps from first to before last of the present epoch."""
        report = self._run(codes.TRAIN, first, last)
        return Slice(
            float(report[codes.LOSS_SUM]),
            float(report[codes.WEIGHT_SUM]),
            int(report[codes.STEPS_DONE]),
            int(report[codes.TROUBLE]),
        )


class ReferenceStepper:
    """Takes steps in the textbook's equations."""

    def __init__(self, job: Job) -> None:
        self.order = np.arange(len(job.data), dtype=np.int64)
        self._job = job

    def draw(self, key: int, number: int) -> None:
        """Write the order of an epoch."""
        _draw(self.order, key, number, "reference")

    def run(self, first: int, last: int) -> Slice:
        """Take the steps from first to before last of the present epoch."""
        loss_sum = weight_sum = 0.0
        with np.errstate(all="ignore"):
            for step in range(first, last):
                rows = self.order[step * self._job.batch_size : (step + 1) * self._job.batch_size]
                batch = self._job.data.take(rows)
                total = batch.total
                if total == 0.0:
                    continue
                loss, trouble = self._step(batch)
                if trouble:
                    return Slice(loss_sum, weight_sum, step - first, trouble)
                loss_sum += loss * total
                weight_sum += total
        return Slice(loss_sum, weight_sum, last - first, codes.FINE)

    def _step(self, batch: Data) -> tuple[float, int]:
        """Take one step; nothing is written before everything is computed."""
        layout, state = self._job.layout, self._job.state
        W, b, activations = textbook(layout, self._job.parameters)
        moments = [textbook(layout, moment)[:2] for moment in state.moments]
        states: list[Any] = [
            (
                tuple(moment[0][place] for moment in moments),
                None if b[place] is None else tuple(moment[1][place] for moment in moments),
            )
            for place in range(len(W))
        ]
        l2 = [block.l2 for block in layout.blocks]
        X, Y, w = batch.columns(layout.outputs)
        W, b, states, loss = reference.train_step(
            W, b, activations, self._job.loss.name, l2, X, Y, w,
            type(state.optimizer).__name__, hyperparameters(state.optimizer), states,
            int(state.numbers[codes.STEPS]) + 1,
        )  # fmt: skip
        if not np.isfinite(loss):
            return loss, codes.LOSS_NOT_FINITE
        new = [_flat(layout, W, b)]
        for place in range(len(state.moments)):
            of_W = [of[0][place] for of in states]
            of_b = [None if of[1] is None else of[1][place] for of in states]
            new.append(_flat(layout, of_W, of_b))
        self._job.parameters[:] = new[0]
        for moment, stepped in zip(state.moments, new[1:], strict=True):
            moment[:] = stepped
        if not all(np.isfinite(vector).all() for vector in new):
            return loss, codes.UPDATE_NOT_FINITE
        state.numbers[codes.STEPS] += 1
        return loss, codes.FINE


def _flat(layout: Layout, W: Sequence[Floats], b: Sequence[Floats | None]) -> Floats:
    """Return the textbook's W and b of every layer as one vector of the layout."""
    pieces = []
    for of_W, of_b in zip(W, b, strict=True):
        pieces.append(of_W.T.reshape(-1))
        if of_b is not None:
            pieces.append(of_b.reshape(-1))
    return np.concatenate(pieces)


STEPPERS: dict[str, type[NativeStepper] | type[ReferenceStepper]] = {
    "native": NativeStepper,
    "reference": ReferenceStepper,
}


def _draw(order: NDArray[np.int64], key: int, number: int, backend: str) -> None:
    """Write an order of examples, the same on both paths."""
    if backend == "reference":
        order[:] = reference.permutation(key, number, len(order))
        return
    from fastnn.kernels.epoch import draw_order

    draw_order(order, np.array([key, number], np.uint64))


def split(
    data: Data, loss: Loss, fraction: float, streams: Streams, *, backend: str
) -> tuple[Data, Data]:
    """Part data into training and validation; class by class where targets are classes.

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
    if loss.targets != "real" and np.isin(values, (0, 1)).all():
        if values.shape[1] == 1:
            return values[:, 0]
        if loss.targets == "classes":
            return np.asarray(values.argmax(axis=1))
    return np.zeros(len(values), np.int64)


def _shares(sizes: Sequence[int], fraction: float) -> list[int]:
    """Part the number to hold out among classes, by their largest remainders; at least one."""
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
    return {prefix + row.name: float(row.function(predicted, wanted, weights)) for row in metrics}


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that one fit works with."""

    layout: Layout
    parameters: Floats
    loss: Loss
    data: Data
    validation: Data | None
    metrics: tuple[Metric, ...]
    batch_size: int
    state: TrainingState
    backend: str

    @property
    def steps(self) -> int:
        """Steps an epoch; the last batch may be short."""
        return -(-len(self.data) // self.batch_size)

    @property
    def names(self) -> tuple[str, ...]:
        """What every epoch records."""
        names = ("loss", *(row.name for row in self.metrics))
        return names if self.validation is None else (*names, *(f"val_{name}" for name in names))


@dataclass(slots=True)
class FitRun:
    """A fit in progress, as callbacks see it (`callbacks.Run`), and what shows it."""

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
    """Get a fit ready: everything that can refuse does so before anything is changed."""
    _check_finite(job)
    shown = Progress(progress, epochs, job.names)
    run = FitRun(network, epochs, job.names, History(job.names), callbacks, shown)
    for callback in callbacks:
        callback.on_fit_begin(run)
    return run


def fit(job: Job, run: FitRun, streams: Streams, *, shuffle: bool) -> History:
    """Train for the run's epochs; return what they recorded.

    Parameters
    ----------
    job : Job
        What to train on what; its parameters and state are written.
    run : FitRun
        From `begin`; its history is written.
    streams : Streams
        Where the orders come from; goes on.
    shuffle : bool
        Whether every epoch draws an order.

    Returns
    -------
    History
        One value an epoch of everything in ``job.names``.

    Raises
    ------
    DivergenceError
        If a loss, a weight or a moment turns non-finite; the parameters are then those from
        before the step in which that happened.
    """
    began = time.perf_counter()
    slices = _Slices(job)
    interrupted = None
    try:
        while run.epoch < run.epochs and run.history.stopped is None:
            if shuffle:
                slices.stepper.draw(streams.order_key, streams.drawn)
                streams.drawn += 1
            run.logs = {"loss": slices.epoch(run), **_measured(job)}
            run.history.append(run.logs)
            run.epoch = run.history.epochs
            run.shown.epoch_end(run.epoch, run.logs)
            for callback in run.callbacks:
                callback.on_epoch_end(run)
    except KeyboardInterrupt:
        slices.settle()
        run.history.stopped = "interrupted"
        interrupted = (
            f"fit was interrupted after {run.history.epochs} of {run.epochs} epochs; "
            "the network keeps the weights that it had reached."
        )
    except BaseException:
        run.shown.close("failed")
        raise
    for callback in run.callbacks:
        callback.on_fit_end(run)
    run.history.seconds = time.perf_counter() - began
    run.shown.close(run.history.stopped)
    if interrupted:
        warnings.warn(interrupted, UserWarning, stacklevel=3)
    return run.history


def _check_finite(job: Job) -> None:
    """Refuse to train from weights that are not finite."""
    if np.isfinite(job.parameters).all():
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


def _measured(job: Job) -> dict[str, float]:
    """Return what an epoch records beside the training loss, with the weights at its end."""
    measured = metric_values(job.metrics, job.layout, job.parameters, job.data, backend=job.backend)
    if job.validation is None:
        return measured
    held = job.validation
    measured["val_loss"] = mean_loss(
        job.layout, job.parameters, job.loss, held, backend=job.backend
    )
    return measured | metric_values(
        job.metrics, job.layout, job.parameters, held, backend=job.backend, prefix="val_"
    )


class _Slices:
    """Cuts epochs into slices of steps, and sees to it that weights stay finite."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.stepper: Stepper = STEPPERS[job.backend](job)
        self._saved = job.parameters.copy(), job.state.copy()
        self._length = 1

    def settle(self) -> None:
        """Go back to the slice's start should an interruption have come beside a divergence."""
        if not np.isfinite(self._job.parameters).all():
            self._restore()

    def _restore(self) -> None:
        """Go back to the slice's start."""
        parameters, state = self._saved
        self._job.parameters[:] = parameters
        self._job.state.restore(state)

    def epoch(self, run: FitRun) -> float:
        """Take all steps of an epoch; return its loss, with the penalty."""
        loss_sum = weight_sum = 0.0
        first, steps = 0, self._job.steps
        while first < steps:
            last = min(first + self._length, steps)
            began = time.perf_counter()
            self._saved = self._job.parameters.copy(), self._job.state.copy()
            done = self.stepper.run(first, last)
            if done.trouble:
                self._diverged(run, first, first + done.done, done.trouble)
            loss_sum += done.loss_sum
            weight_sum += done.weight_sum
            first = last
            self._adapt(time.perf_counter() - began, done.done)
            run.shown.update(first / steps, {"loss": loss_sum / weight_sum} if weight_sum else {})
        return loss_sum / weight_sum

    def _adapt(self, seconds: float, steps: int) -> None:
        """Choose the next slice's length; at most eight times this one, as timings err."""
        fitting = int(_SLICE_SECONDS * steps / max(seconds, 1e-9))
        self._length = max(1, min(fitting, 8 * steps))

    def _diverged(self, run: FitRun, first: int, step: int, trouble: int) -> None:
        """Go back to the last finite weights and say where the trouble began."""
        job = self._job
        after = job.parameters.copy(), job.state.copy()
        self._restore()
        if step > first:
            # Steps repeat bit for bit, so this ends at the weights before the bad step.
            self.stepper.run(first, step)
        rows = self.stepper.order[step * job.batch_size : (step + 1) * job.batch_size]
        block, what = _where_it_began(job, job.data.take(rows), after, trouble)
        place = f"layer {block.place} ({_named(block)})"
        raise DivergenceError(
            f"training turned non-finite in epoch {run.epoch + 1}, step {step + 1} of "
            f"{job.steps}: {what.format(place=place)}. The network holds its last finite "
            f"weights, from before that step. {_remedy(job)}",
            epoch=run.epoch + 1,
            step=step + 1,
            layer=f"layer {block.place}",
            history=run.history,
        )


def _named(block: Block) -> str:
    """Describe a layer in a few words."""
    return f"Dense, {block.outputs} units, {block.activation}"


def _where_it_began(
    job: Job, batch: Data, after: tuple[Floats, TrainingState], trouble: int
) -> tuple[Block, str]:
    """Follow a bad step in the textbook's order; return the first layer with a non-finite part."""
    seen = trace(job.layout, job.parameters, job.loss, batch, backend="reference")
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
    for block in blocks:
        for entry in (block.W, block.b):
            vectors = (parameters, *state.moments)
            if entry is not None and not all(
                np.isfinite(job.layout.view(vector, entry)).all() for vector in vectors
            ):
                return block, "the update of {place} overflowed"
    return blocks[0], "an update from {place} on overflowed"


def _remedy(job: Job) -> str:
    """Suggest what most likely helps, from what the data and the optimizer look like."""
    rate = job.state.optimizer.learning_rate
    advice = [f"Try a smaller learning_rate (it is {rate:g}; {rate / 10:g} would be a tenth)"]
    largest = float(np.abs(job.data.X).max())
    if largest > 100:
        advice.append(f"scale the features (the largest in X is {largest:.3g}; about 1 is good)")
    wanted = job.data.targets.values
    if job.loss.targets == "real" and wanted.size and float(np.abs(wanted).max()) > 100:
        far = float(np.abs(wanted).max())
        advice.append(f"scale the targets (the largest in y is {far:.3g}; about 1 is good)")
    if any(rate * block.l2 >= 1.0 for block in job.layout.blocks):
        advice.append("use a smaller l2 (with this learning_rate it overshoots)")
    if job.parameters.dtype == np.float32:
        advice.append('compute in dtype="float64"')
    return (", or ".join(advice) if len(advice) < 3 else "; ".join(advice)) + "."


def train_on_batch(job: Job) -> float:
    """Take one step on all of the job's data; return the loss before it, with the penalty."""
    run = begin(job, _Nobody(job.parameters), 1, (), False)
    return _Slices(job).epoch(run)


@dataclass(frozen=True, slots=True)
class _Nobody:
    """Stands in for the network where no callback will see it."""

    parameters: Floats
