"""Where a step turned non-finite, what began it, and what most likely helps, in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastnn.data import Data
from fastnn.equations.walk import Drops
from fastnn.errors import DivergenceError
from fastnn.fitting.dropping import UNSCHEDULED, DropRates
from fastnn.fitting.jobs import Job
from fastnn.fitting.states import TrainingState
from fastnn.fitting.steppers import dropped
from fastnn.history import History
from fastnn.kernels import codes
from fastnn.layout import Operation
from fastnn.sparse import SparseRows
from fastnn.textbook import textbook_trace

__all__ = ["check_finite", "divergence"]

Floats = NDArray[np.floating]


def check_finite(job: Job) -> None:
    """Refuse to train from weights that are not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        # One non-finite number makes the sum non-finite, in a third of the time.
        if np.isfinite(job.parameters.sum()):
            return
    for entry in (*job.layout, *job.layout.buffers.values()):
        if not np.isfinite(job.layout.view(job.parameters, entry)).all():
            place = f"layer {entry.name.split('.')[0]}"
            raise DivergenceError(
                f"training cannot begin: the parameters of {place} ({entry.name}) are not all "
                "finite. Set them anew, with set_weights or through parameters.",
                epoch=1,
                step=1,
                layer=place,
            )


def _named(block: Operation) -> str:
    """Describe a layer in a few words."""
    return f"{block.kind.name}, {block.outputs} units, {block.kind.say(block.layer)}"


def divergence(
    job: Job, batch: Data, after: tuple[Floats, TrainingState], trouble: int,
    at: tuple[int, int], history: History, drop_rates: DropRates = UNSCHEDULED,
) -> DivergenceError:  # fmt: skip
    """Say where a step went wrong, at an epoch and a step of it, and what may help."""
    epoch, step = at
    drops = dropped(job, len(batch), drop_rates)
    block, what = _where_it_began(job, batch, after, trouble, drops)
    place = f"layer {block.name} ({_named(block)})"
    return DivergenceError(
        f"training turned non-finite in epoch {epoch + 1}, step {step + 1} of "
        f"{job.steps}: {what.format(place=place)}. The network holds its last finite "
        f"weights, from before that step. {_remedy(job)}",
        epoch=epoch + 1,
        step=step + 1,
        layer=f"layer {block.name}",
        history=history,
    )


def _where_it_began(
    job: Job, batch: Data, after: tuple[Floats, TrainingState], trouble: int, drops: Drops
) -> tuple[Operation, str]:
    """Trace a bad step in the textbook's order; return the first layer with a non-finite part."""
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
            weights = [W.astype(float) for W in job.layout.weights(job.parameters)]
            squares = [one.l2 * np.square(W).sum() for one, W in zip(blocks, weights, strict=True)]
            sizes = [one.l1 * np.abs(W).sum() for one, W in zip(blocks, weights, strict=True)]
        if max(sizes) > max(squares):
            return blocks[int(np.argmax(sizes))], "the L1 penalty of {place} overflowed"
        return blocks[int(np.argmax(squares))], "the L2 penalty of {place} overflowed"
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
    if job.loss.numeric and wanted.size and float(np.abs(wanted).max()) > 100:
        far = float(np.abs(wanted).max())
        advice.append(f"scale the targets (the largest in y is {far:.3g}; about 1 is good)")
    if any(rate * block.l2 >= 1.0 for block in job.layout.blocks):
        advice.append("use a smaller l2 (with this learning_rate it overshoots)")
    if job.parameters.dtype == np.float32:
        advice.append('compute in dtype="float64"')
    return (", or ".join(advice) if len(advice) < 3 else "; ".join(advice)) + "."
