"""The fit of a network: what ends it, what it records, and callbacks between its epochs."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import notices
from fastnn.callbacks import Callback, EarlyStopping, Trainable
from fastnn.errors import DivergenceError, ModelFileError
from fastnn.fitting.descent import Descent, mean
from fastnn.fitting.divergence import check_finite, divergence
from fastnn.fitting.dropping import Dropping
from fastnn.fitting.epochs import Epochs, FitRun, Measures, rates
from fastnn.fitting.fitstate import FitState, give_back
from fastnn.fitting.jobs import Job
from fastnn.fitting.orders import Drawn, Windowed
from fastnn.fitting.snapshots import Aside
from fastnn.fitting.states import Streams, TrainingState
from fastnn.fitting.steppers import Applying
from fastnn.history import History
from fastnn.kernels import records
from fastnn.reporting.progress import Progress

__all__ = ["Stepped", "begin", "fit", "single_step", "step_by"]

Floats = NDArray[np.floating]


def begin(
    job: Job, network: Trainable, epochs: int, callbacks: tuple[Callback, ...], progress: Any,
    resumed: FitState | None = None,
) -> FitRun:  # fmt: skip
    """Prepare a fit: everything that can fail does so before anything is changed."""
    check_finite(job)
    if job.schedule is not None:
        rates(job, job.state.optimizer.learning_rate, epochs, 0, 0, 1, History())
    shown = Progress(progress, epochs, job.names)
    history = History(job.names)
    dropping = Dropping(job.layout, job.steps, epochs)
    run = FitRun(
        network, epochs, job.names, history, callbacks, shown, resumed=resumed, dropping=dropping
    )
    if resumed is not None:
        before = resumed.history
        history.extend(zip(*before.values(), strict=True))
        history.seconds = before.seconds
        history.learning_rates.extend(before.learning_rates)
        run.epoch = history.epochs
        # What Ctrl-C ended goes on.
        history.stopped = None if before.stopped == "interrupted" else before.stopped
    dropping.check(history.epochs, history)
    for callback in callbacks:
        callback.on_fit_begin(run)
    if resumed is not None:
        give_back(callbacks, resumed.callbacks)
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
    began, before = time.perf_counter(), run.history.seconds
    stopping = _stopping(run)
    job = job.counted(None if stopping is None else stopping.watch())
    if job.counting is None or job.counting.watch is None:
        stopping = None
    first = None if run.resumed is None else run.resumed.first_order
    source = (Drawn if job.feed is None else Windowed)(job, streams, first)
    policy = Epochs(job, run, source, streams, stopping)
    descent = Descent(job, source, policy, Aside(job))
    policy.measures = Measures(job, descent.stepper.outputs)
    if run.resumed is not None:
        _go_on(descent, run.resumed)
    try:
        whole = descent.run()
    except BaseException:
        run.shown.close("failed")
        raise
    if stopping is not None:
        stopping.take_best(descent.best)
    run.history.seconds = before + time.perf_counter() - began
    run.state = policy.ended(descent)
    run.shown.close(run.history.stopped)
    if not whole:
        notices.warn(
            f"fit was interrupted after {run.history.epochs} of {run.epochs} epochs; "
            "the network keeps the weights that it had reached."
        )
    return run.history


def _go_on(descent: Descent, state: FitState) -> None:
    """Have a descent begin where a fit ended."""
    record = np.zeros((), records.RECORD)
    record["loss_sum"], record["weight_sum"] = state.sums
    stepper, step = descent.stepper, state.step
    if step and (stepper.counts.shape, stepper.outputs.shape) != (
        state.counts.shape, state.outputs.shape,
    ):  # fmt: skip
        raise ModelFileError("the state of a fit has counted other things than this fit counts.")
    descent.go_on(state.history.epochs, step, record, state.counts)
    if step:
        stepper.outputs[:] = state.outputs


def _stopping(run: FitRun) -> EarlyStopping | None:
    """Return the library's own rule to stop by, if it is the only callback."""
    known = run.resumed is not None and bool(run.resumed.callbacks)
    if len(run.callbacks) == 1 and type(run.callbacks[0]) is EarlyStopping and not known:
        return run.callbacks[0]
    return None


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
    ahead, stepper = _begun(job)
    record = np.zeros(1, records.RECORD)
    done = stepper.run(0, 1, 0, record)
    reached = _reached(job, ahead, stepper)
    if done.trouble:
        check_finite(job)
        raise divergence(job, job.data, reached, done.trouble, (0, 0), History(job.names))
    return Stepped(mean(record[0]), *reached)


def step_by(job: Job, gradient: Floats) -> Stepped:
    """Take one step by a gradient that is given, of which nothing is written.

    Parameters
    ----------
    job : Job
        What is trained; it needs no data.
    gradient : ndarray (size,)
        Of the training loss, L2 included.

    Returns
    -------
    Stepped
        The state after the step; the loss is not known.

    Raises
    ------
    DivergenceError
        If a weight or a moment becomes non-finite.
    """
    # Only where its norm is limited has a whole gradient room in every plan.
    limit = sys.float_info.max if job.clip_norm is None else job.clip_norm
    job = replace(job, clip_norm=limit)
    ahead, stepper = _begun(job)
    trouble = stepper.apply(gradient)
    reached = _reached(job, ahead, stepper)
    if trouble:
        check_finite(job)
        raise DivergenceError(
            "a weight or a moment is not finite after the step. Take a smaller learning rate, or "
            "limit the gradient by clip_norm=.",
            epoch=1,
            step=1,
            layer="",
        )
    return Stepped(math.nan, *reached)


def _begun(job: Job) -> tuple[TrainingState, Applying]:
    """Return the state that a single step advances, and what takes the step."""
    # The engine counts steps in the state.
    ahead = replace(job.state, numbers=records.copied(job.state.numbers))
    return ahead, job.path.stepper(replace(job, state=ahead))


def _reached(job: Job, ahead: TrainingState, stepper: Applying) -> tuple[Floats, TrainingState]:
    """Return parameters and state after a single step."""
    parameters, moments = np.empty_like(job.parameters), np.empty_like(ahead.moments)
    stepper.store(parameters, moments)
    return parameters, replace(ahead, moments=moments)
