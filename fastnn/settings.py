"""What a fit was asked for: the arguments of `Sequential.fit`, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import backends
from fastnn.callbacks import Callback, as_callbacks
from fastnn.data import Data
from fastnn.jobs import Job
from fastnn.layers import Dense
from fastnn.layout import Layout
from fastnn.losses import Loss, resolve_loss
from fastnn.metrics import Metric, resolve
from fastnn.names import check_bool, check_integer, check_real, lookup
from fastnn.optimizers import Optimizer, resolve_optimizer
from fastnn.schedules import Schedule, resolve_schedule
from fastnn.sharing import Shown
from fastnn.states import Streams, TrainingState

__all__ = ["Settings"]

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a fit was asked for, checked; the arguments of `Sequential.fit`."""

    loss: Loss
    optimizer: Optimizer
    metrics: tuple[Metric, ...]
    callbacks: tuple[Callback, ...]
    epochs: int
    batch_size: int
    fraction: float
    shuffle: bool
    measured_after: bool
    clip_norm: float | None
    threads: int | None
    backend: str
    schedule: Schedule | None

    @classmethod
    def of(
        cls, last: Dense, *, loss: Any, optimizer: Any, metrics: Any, callbacks: Any,
        epochs: Any, batch_size: Any, shuffle: Any, validation_fraction: Any, measure: Any,
        clip_norm: Any, threads: Any, backend: Any, schedule: Any,
    ) -> Settings:  # fmt: skip
        """Check what was asked of a network with such a last layer."""
        row = resolve_loss(loss, last.activation)
        check_bool(shuffle, "shuffle")
        if clip_norm is not None:
            clip_norm = check_real(clip_norm, "clip_norm", low=0.0, low_open=True)
        return cls(
            loss=row,
            optimizer=resolve_optimizer(optimizer),
            metrics=resolve(metrics, row.targets, row.width(last.units)),
            callbacks=as_callbacks(callbacks),
            epochs=check_integer(epochs, "epochs", 1),
            batch_size=check_integer(batch_size, "batch_size", 1),
            fraction=check_real(
                validation_fraction, "validation_fraction", low=0.0, high=1.0, high_open=True
            ),
            shuffle=shuffle,
            measured_after=lookup({"during": False, "after": True}, measure, "measure"),
            clip_norm=clip_norm,
            threads=None if threads is None else check_integer(threads, "threads", 1),
            backend=backends.in_force(backend),
            schedule=None if schedule is None else resolve_schedule(schedule),
        )

    def job(
        self, layout: Layout, parameters: Floats, data: Data, held: Data | None, streams: Streams,
        shown: Shown,
    ) -> Job:  # fmt: skip
        """Return what to train: a network's parameters, on data, with others to validate on."""
        return Job(
            layout=layout,
            parameters=parameters,
            loss=self.loss,
            data=data,
            validation=held,
            metrics=self.metrics,
            batch_size=min(self.batch_size, len(data)),
            state=TrainingState.fresh(self.optimizer, parameters),
            backend=self.backend,
            shuffle=self.shuffle,
            order_key=streams.order_key,
            mask_key=streams.mask_key,
            steps_before=streams.steps,
            clip_norm=self.clip_norm,
            threads=self.threads,
            schedule=self.schedule,
            shown=shown,
            measured_after=self.measured_after,
        )
