"""What a fit carries from step to step, as one record, for a fit that goes on where it was.

The record turns into plain values and arrays, which files hold, and back.  What a file says is
checked here for its kind, and against network and examples when a fit goes on from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.callbacks import Callback
from fastnn.errors import ModelFileError
from fastnn.fitting.about import About
from fastnn.fitting.jobs import Job
from fastnn.fitting.runs import Packed
from fastnn.fitting.states import Streams, TrainingState
from fastnn.formats.plain_values import from_plain, to_plain
from fastnn.history import History
from fastnn.names import check_integer, describe
from fastnn.optimizers import Optimizer
from fastnn.target_scale import TargetScale

__all__ = ["FitState", "Resumed", "callbacks_of", "give_back"]

Floats = NDArray[np.floating]
Counts = NDArray[np.float64]

_VERSION = 1


@dataclass(slots=True)  # As `About`.
class FitState:
    """A fit between two steps.  Nothing writes to it or its arrays.

    Attributes
    ----------
    about : About or dict
        What is trained on what; from a file, in words and numbers.
    moments : ndarray (rule's own, size) or Packed
        Of the optimizer.
    steps : int
        That the optimizer took.
    rate : float
        Learning rate of the last one.
    streams : Streams
        Of orders and dropout.
    first_order : int
        Number of the first epoch's order.
    split_at : int
        Number of the order by which validation examples were held out.
    step : int
        How many steps of the present epoch are taken.
    sums : ndarray (2,)
        Sum of the losses of these, and of what they count.
    counts : ndarray
        What the engine counted in them for metrics; of length 0 between epochs.
    outputs : ndarray (n or 0, outputs)
        What they predicted, where metrics are made of that.
    history : History
        Of the epochs that ended.
    callbacks : tuple of (str, dict)
        What callbacks know of the fit, those that know anything, by the names of their classes.
    parameters : ndarray or None
        As the last step left them; None where the network has them.
    left : ndarray or None
        What the network has where it has others, as callbacks left them.
    """

    about: About | dict[str, Any]
    moments: Floats | Packed
    steps: int
    rate: float
    streams: Streams
    first_order: int
    split_at: int
    step: int
    sums: Counts
    counts: Counts
    outputs: Floats
    history: History
    callbacks: tuple[tuple[str, dict[str, Any]], ...]
    parameters: Floats | None = None
    left: Floats | None = None

    def to_plain(self) -> tuple[str, dict[str, NDArray[Any]]]:
        """Return it as JSON and arrays.

        Raises
        ------
        TypeError
            If a callback's state holds what no file can.
        """
        streams, history = self.streams, self.history
        plain, arrays = to_plain(
            {
                "version": _VERSION,
                "about": self.words,
                "moments": self.unpacked,
                "steps": self.steps,
                "rate": self.rate,
                "streams": [streams.order_key, streams.mask_key, streams.drawn, streams.steps],
                "orders": [self.first_order, self.split_at],
                "step": self.step,
                "sums": self.sums,
                "counts": self.counts,
                "outputs": self.outputs,
                "history": history.to_dict(),
                "ended": [history.seconds, history.stopped],
                "learning_rates": list(history.learning_rates),
                "callbacks": [[name, state] for name, state in self.callbacks],
                "parameters": self.parameters,
            }
        )
        return json.dumps(plain), arrays

    @classmethod
    def of_plain(cls, plain: Any, arrays: dict[str, NDArray[Any]], network: Floats) -> FitState:
        """Return what `to_plain` described, of a network with these parameters.

        Raises
        ------
        TypeError, ValueError
            If it is no such description.
        """
        found = from_plain(plain, arrays)
        _check(found, network)
        streams = Streams(*(_count(value, "streams") for value in found["streams"]))
        first_order, split_at = (_count(value, "orders") for value in found["orders"])
        parameters = found["parameters"]
        return cls(
            about=found["about"],
            moments=found["moments"],
            steps=_count(found["steps"], "steps"),
            rate=found["rate"],
            streams=streams,
            first_order=first_order,
            split_at=split_at,
            step=_count(found["step"], "step"),
            sums=found["sums"],
            counts=found["counts"],
            outputs=found["outputs"],
            history=_history(found["history"], found["ended"], found["learning_rates"]),
            callbacks=tuple((name, state) for name, state in found["callbacks"]),
            parameters=parameters,
            # What the network has may be changed by then.
            left=None if parameters is None else network.copy(),
        )

    @property
    def words(self) -> dict[str, Any]:
        """What is trained on what, in words and numbers."""
        return self.about.words() if isinstance(self.about, About) else self.about

    @property
    def unpacked(self) -> Floats:
        """The moments, of which nothing is written."""
        moments = self.moments
        return moments.unpacked() if isinstance(moments, Packed) else moments

    def training(self, optimizer: Optimizer) -> TrainingState:
        """Return the optimizer's state, which shares the moments."""
        return TrainingState.resumed(optimizer, self.unpacked, self.steps, self.rate)

    def beginning(self, present: Floats) -> Floats:
        """Return the parameters to go on from, for a network that has these at present."""
        if self.parameters is None or self.left is None:
            return present
        return self.parameters if np.array_equal(present, self.left) else present

    def with_parameters(self, parameters: Floats, left: Floats) -> FitState:
        """Return the same for a network that has others than the last step left."""
        return replace(self, parameters=parameters, left=left)

    def check(self, job: Job, theirs: str) -> None:
        """Refuse to go on with a job of another kind, or with sums that are not of its epoch.

        Raises
        ------
        ValueError
            If the fits differ; the message says in what.
        ModelFileError
            If the state is none that such a fit has.
        """
        mine, others = About.of(job, job.names).words(), self.words
        if job.average is not None and "average" in others:
            there, over = others["average"], self.history.epochs
            if job.average.check_beginning(str(there), over, theirs):
                mine["average"] = there
        parts = [
            f"{name} ({_said(others, name)} there, {_said(mine, name)} here)"
            for name in (mine | others)
            if name not in mine or name not in others or mine[name] != others[name]
        ]
        if parts:
            raise ValueError(
                f"resume must be of a fit of the same network, optimizer and examples; {theirs} "
                f"differs in {'; '.join(parts)}."
            )
        fits = (
            tuple(self.history) == job.names
            and self.step < job.steps
            and self.moments.shape == job.state.moments.shape
            and (self.step or not self.counts.size)
        )
        if not fits:
            raise ModelFileError(f"{theirs}: expected the state of such a fit; got another.")


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a fit goes on.

    Attributes
    ----------
    state : FitState
        Of the fit before.
    parameters : ndarray
        Of the network, with its buffers, to go on from.
    name : str
        What messages call the fit before.
    scale : TargetScale or None
        Of its targets, where they are scaled.
    changed : bool
        Whether the network has other parameters than that fit left.
    """

    state: FitState
    parameters: Floats
    name: str
    scale: TargetScale | None = None
    changed: bool = False

    @classmethod
    def here(cls, state: FitState, parameters: Floats) -> Resumed:
        """Return where a network's own last fit goes on, with these parameters at present."""
        history = History(state.history)
        history.extend(zip(*state.history.values(), strict=True))
        history.seconds = state.history.seconds
        history.learning_rates.extend(state.history.learning_rates)
        beginning = state.beginning(parameters)
        changed = state.left is not None and beginning is parameters
        return cls(replace(state, history=history), beginning, "the last one", changed=changed)

    def job(self, job: Job) -> Job:
        """Return a job that goes on where the fit before ended, or refuse one that does not fit."""
        state = self.state
        state.check(job, self.name)
        if job.feed is not None and state.outputs.size and state.step >= job.feed.steps:
            raise ValueError(
                f"resume must be of a fit on Blocks that ended with an epoch, where metrics are "
                f"made of all that an epoch predicts; {self.name} ended within one. Take a file "
                "that Checkpoint wrote with unit='epochs', or the metrics that are counted."
            )
        training = state.training(job.state.optimizer)
        average = job.average
        if average is not None and average.counted(state.history.epochs, state.steps):
            if self.changed:
                raise ValueError(
                    "resume=True goes on from the weights that the last fit trained, of which the "
                    "network has an average; its parameters were changed since, and would be no "
                    "more than a part of that. Fit without resume, which begins afresh from them, "
                    "or put back what the fit left."
                )
        elif average is not None and training.moments[-1].any():
            # What was averaged before does not count any more.
            training.moments = training.moments.copy()
            training.moments[-1] = 0.0
        before = state.streams.steps - state.steps
        return replace(job, state=training, steps_before=before)


def _said(words: Mapping[str, Any], name: str) -> str:
    """Return what one of two fits has there."""
    return f"{words[name]!s:.200}" if name in words else "none"


def callbacks_of(callbacks: Sequence[Callback]) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Return what callbacks know of a fit, those that know anything."""
    states = [(type(one).__name__, one.get_state()) for one in callbacks]
    return tuple((name, dict(state)) for name, state in states if state)


def give_back(
    callbacks: Sequence[Callback], states: Sequence[tuple[str, Mapping[str, Any]]]
) -> None:
    """Let each callback know what the one of its class knew; the others begin anew."""
    left = list(states)
    for one in callbacks:
        for place, (name, state) in enumerate(left):
            if name == type(one).__name__:
                _give_back(one, state)
                del left[place]
                break


def _give_back(callback: Callback, state: Mapping[str, Any]) -> None:
    """Let a callback know a state, which may be anything that a file says."""
    try:
        callback.set_state(state)
    except (TypeError, ValueError, KeyError) as problem:
        name = type(callback).__name__
        raise ModelFileError(
            f"the state of {name} must be one that it gave; got another: {problem}"
        ) from problem


_PARTS: dict[str, type | tuple[type, ...]] = {
    "version": int, "about": dict, "moments": np.ndarray, "steps": int, "rate": float,
    "streams": list, "orders": list, "step": int, "sums": np.ndarray, "counts": np.ndarray,
    "outputs": np.ndarray, "history": dict, "ended": list, "learning_rates": list,
    "callbacks": list, "parameters": (np.ndarray, type(None)),
}  # fmt: skip


def _check(found: Any, network: Floats) -> None:
    """Refuse what has not the parts of a state, each of its kind."""
    if not isinstance(found, dict) or found.keys() != _PARTS.keys():
        came = describe(sorted(found) if isinstance(found, dict) else found)
        raise ValueError(f"a fit's state must have {', '.join(_PARTS)}; got {came}.")
    for name, kind in _PARTS.items():
        if not isinstance(found[name], kind) or isinstance(found[name], bool):
            raise TypeError(f"{name} of a fit's state must not be {describe(found[name])}.")
    if found["version"] != _VERSION:
        raise ValueError(f"version of a fit's state must be {_VERSION}; got {found['version']}.")
    if len(found["streams"]) != 4 or len(found["orders"]) != 2 or len(found["ended"]) != 2:
        raise ValueError("a fit's state must have four streams, two orders and two ends.")
    if not found["rate"] >= 0.0 or not all(isinstance(name, str) for name in found["about"]):
        raise ValueError("a fit's state must have a learning rate, and names for what it is about.")
    for entry in found["callbacks"]:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], dict):
            raise ValueError("a callback's state must be a name and values; got another.")
    _check_arrays(found, network)


def _check_arrays(found: Mapping[str, Any], network: Floats) -> None:
    """Refuse arrays that are none of a network with these parameters."""
    moments, outputs, parameters = found["moments"], found["outputs"], found["parameters"]
    double, sums = np.dtype(np.float64), found["sums"]
    fits = (
        moments.ndim == 2
        and moments.shape[1] == network.size
        and moments.dtype == outputs.dtype == network.dtype
        and outputs.ndim == 2
        and sums.shape == (2,)
        and found["counts"].ndim == 1
        and sums.dtype == found["counts"].dtype == double
        and np.isfinite(sums).all()
    )
    vectors = [] if parameters is None else [parameters]
    for _, state in found["callbacks"]:
        # What a callback keeps under this name goes back into the network.
        best = state.get("best_parameters")
        vectors += [] if best is None else [best]
    for vector in vectors:
        alike = isinstance(vector, np.ndarray) and vector.dtype == network.dtype
        fits = fits and alike and vector.shape == network.shape
    if not fits:
        raise ValueError("a fit's state must have arrays of its network; got others.")
    if not all(np.isfinite(vector).all() for vector in (moments, *vectors)):
        raise ValueError("a fit's state must have finite moments and parameters.")


def _history(columns: dict[Any, Any], ended: list[Any], rates: list[Any]) -> History:
    """Return a history of what a file says."""
    for name, values in columns.items():
        if not isinstance(name, str) or not isinstance(values, list):
            raise TypeError("a history must have lists by name.")
        if not all(isinstance(value, float) for value in values):
            raise TypeError(f"a history must have floats; {describe(name)} has others.")
    seconds, stopped = ended
    if not isinstance(seconds, float) or not isinstance(stopped, str | None):
        raise TypeError("a history must have seconds, and why it stopped.")
    history = History(columns)
    history.extend(zip(*columns.values(), strict=True))
    history.seconds, history.stopped = seconds, stopped
    if len(rates) > history.epochs or not all(isinstance(rate, float) for rate in rates):
        raise TypeError("a history must have floats as learning rates, at most one per epoch.")
    history.learning_rates.extend(rates)
    return history


def _count(value: Any, name: str) -> int:
    """Return a count, or refuse what is none that 64 bits hold."""
    count = check_integer(value, name, 0)
    most = 2**64 if name == "streams" else 2**62
    if count >= most:
        raise ValueError(f"{name} must be below {most}; got {count}.")
    return count
