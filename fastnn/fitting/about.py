"""What a fit trains on what, in words and numbers, by which another is told from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.averages import Averaging
from fastnn.fitting.jobs import Job
from fastnn.layout import Layout
from fastnn.losses import Loss
from fastnn.optimizers import Optimizer
from fastnn.schedules import FromFunction, Schedule

__all__ = ["About"]


@dataclass(slots=True)  # Frozen ones take three times as long to make, after every fit.
class About:
    """What a fit trains on what: that of one which goes on must be the same."""

    layout: Layout
    dtype: np.dtype[Any]
    loss: Loss
    optimizer: Optimizer
    examples: int
    batch_size: int
    shuffle: bool
    clip_norm: float | None
    schedule: Schedule | None
    names: tuple[str, ...]
    measured_after: bool
    held: int
    backend: str
    data: int
    average: Averaging | None
    window: int | None  # where examples come in several

    @classmethod
    def of(cls, job: Job, names: tuple[str, ...]) -> About:
        """Return what there is to know of a job that records these values."""
        held = job.validation
        return cls(
            job.layout, job.parameters.dtype, job.loss, job.state.optimizer, job.examples,
            job.batch_size, job.shuffle, job.clip_norm, job.schedule, names,
            job.measured_after, 0 if held is None else len(held), job.path.name,
            job.fingerprint, job.average, job.window,
        )  # fmt: skip

    def words(self) -> dict[str, Any]:
        """Return it in words and numbers."""
        schedule = self.schedule
        operations = enumerate(self.layout.operations)
        words: dict[str, Any] = {f"layer {place}": str(one.layer) for place, one in operations}
        if self.average is not None:
            words["average"] = str(self.average)
        if self.window is not None:
            words["window"] = self.window
        return words | {
            "inputs": self.layout.inputs,
            "dtype": str(self.dtype),
            "loss": self.loss.name if self.loss.given is None else str(self.loss.given),
            "optimizer": str(self.optimizer),
            "examples": self.examples,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "clip_norm": self.clip_norm,
            "schedule": "a function" if isinstance(schedule, FromFunction) else str(schedule),
            "what is recorded": ", ".join(self.names),
            "measure": "after" if self.measured_after else "during",
            "validation examples": self.held,
            "backend": self.backend,
            "the examples' contents": self.data,
        }
