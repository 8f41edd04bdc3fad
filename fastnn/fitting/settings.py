"""What a fit was asked for: the arguments of `Sequential.fit`, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import paths
from fastnn.averages import SWA, Average, Averaging, check_average
from fastnn.callbacks import Callback, as_callbacks
from fastnn.checkpoints import Checkpoint
from fastnn.data import Data
from fastnn.fitting.feeds import Feed
from fastnn.fitting.jobs import Job
from fastnn.fitting.searching import check_search
from fastnn.fitting.states import Streams, TrainingState
from fastnn.kinds import to_dict
from fastnn.layers import Dense
from fastnn.layout import Layout
from fastnn.losses import Loss, resolve_loss
from fastnn.metrics import Metric, resolve
from fastnn.names import check_bool, check_integer, check_real, describe, lookup
from fastnn.optimizers import SGD, Optimizer, check_decays, resolve_optimizer
from fastnn.path import Path
from fastnn.schedules import Schedule, resolve_schedule
from fastnn.sharing import Shown
from fastnn.target_scale import TargetScale
from fastnn.whole_batch import Searched, searched

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
    path: Path
    schedule: Schedule | None
    search: Searched | None = None
    average: Average | None = None

    @classmethod
    def of(
        cls, last: Dense, *, loss: Any, optimizer: Any, metrics: Any, callbacks: Any,
        epochs: Any, batch_size: Any, shuffle: Any, validation_fraction: Any, measure: Any,
        clip_norm: Any, threads: Any, backend: Any, schedule: Any, average: Any,
    ) -> Settings:  # fmt: skip
        """Check what was asked of a network with such a last layer."""
        row = resolve_loss(loss, last.activation)
        search = searched(optimizer)
        known = {"schedule": schedule, "clip_norm": clip_norm, "average": average}
        for name, value in known.items():
            if search is not None and value is not None:
                raise ValueError(
                    f"{name} is for optimizers that take steps; {type(search.record).__name__} "
                    f"finds its own. Leave it out; got {describe(value)}."
                )
        check_bool(shuffle, "shuffle")
        if clip_norm is not None:
            clip_norm = check_real(clip_norm, "clip_norm", low=0.0, low_open=True)
        asked = as_callbacks(callbacks)
        found = cls(
            loss=row,
            optimizer=(SGD() if search is not None else resolve_optimizer(optimizer, fitting=True)),
            search=search,
            metrics=resolve(metrics, row.targets, row.width(last.units), quantiles=row.ordered),
            callbacks=asked,
            epochs=check_integer(epochs, "epochs", 1),
            batch_size=check_integer(batch_size, "batch_size", 1),
            fraction=check_real(
                validation_fraction, "validation_fraction", low=0.0, high=1.0, high_open=True
            ),
            shuffle=shuffle,
            measured_after=lookup({"during": False, "after": True}, measure, "measure"),
            clip_norm=clip_norm,
            threads=None if threads is None else check_integer(threads, "threads", 1),
            path=paths.asked(backend),
            schedule=None if schedule is None else resolve_schedule(schedule),
            average=check_average(average),
        )
        if any(isinstance(one, Checkpoint) for one in asked):
            found.check_resumable("Checkpoint")
        return found

    def check_resumable(self, asked: str) -> None:
        """Refuse what needs a state that a file can hold, where a search has none."""
        if self.search is not None:
            raise ValueError(
                f"{asked} is for optimizers that take steps; {type(self.search.record).__name__} "
                "begins anew at the weights that it finds."
            )

    def check_fed(self, y: object, sample_weight: object, class_weight: object) -> None:
        """Refuse what blocks of examples, which come one after the other, do not give."""
        self.check_weights(y, sample_weight)
        if self.search is not None:
            raise ValueError(
                f"{type(self.search.record).__name__} needs all examples at once, which Blocks are "
                "read to avoid. An optimizer that takes steps, such as Adam, trains on them."
            )
        if self.fraction > 0.0:
            raise ValueError(
                "validation_fraction draws from all examples, which Blocks do not have at once. "
                "Give validation_data=(X, y)."
            )
        if isinstance(class_weight, str):
            raise ValueError(
                f"class_weight={class_weight!r} needs all examples at once, which Blocks do not "
                "have. Give a dict from class to weight."
            )
        if self.measured_after and self.metrics:
            raise ValueError(
                "measure='after' predicts all examples once more, for which Blocks would be read "
                "once more in every epoch. Take measure='during', or net.evaluate after the fit."
            )

    @staticmethod
    def check_weights(y: object, sample_weight: object) -> None:
        """Refuse beside blocks what these hold."""
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(
                    f"{name} must be left out with Blocks, whose blocks hold it: (X, y) or (X, y, "
                    f"sample_weight); got {describe(value)}."
                )

    def job(
        self, layout: Layout, parameters: Floats, data: Data, held: Data | None, streams: Streams,
        shown: Shown, scale: TargetScale | None = None, average: Averaging | None = None,
        feed: Feed | None = None,
    ) -> Job:  # fmt: skip
        """Return what to train: a network's parameters, on data, with others to validate on.

        A search takes all examples at once, whose metrics are measured after each iteration.
        """
        search = self.search
        if search is not None:
            check_search(search.record, layout, self.loss, data)
        else:
            check_decays(self.optimizer, [one.layer for one in layout.operations])
        if any(isinstance(one, Checkpoint) for one in self.callbacks):
            # What no file holds is refused now, and not when the first one is due.
            for one in layout.operations:
                to_dict(one.layer)
        following = next((one.layer for one in layout.operations if one.whole), None)
        if isinstance(self.average, SWA) and following is not None:
            raise ValueError(
                f"average=SWA() ends with weights of which no batch has seen the mean, and so "
                f"without what {following!r} keeps of batches. average=EMA() averages that too; "
                "fastnn.LayerNorm() keeps nothing."
            )
        return Job(
            layout=layout,
            parameters=parameters,
            loss=self.loss,
            data=data,
            validation=held,
            metrics=self.metrics,
            batch_size=min(self.batch_size, len(data)) if search is None else len(data),
            state=TrainingState.fresh(self.optimizer, parameters, averaging=average is not None),
            path=self.path,
            shuffle=self.shuffle and search is None,
            order_key=streams.order_key,
            mask_key=streams.mask_key,
            steps_before=streams.steps,
            clip_norm=self.clip_norm,
            threads=self.threads,
            schedule=self.schedule,
            shown=shown,
            measured_after=self.measured_after or search is not None,
            search=search,
            scale=scale,
            average=average,
            feed=feed,
        )
