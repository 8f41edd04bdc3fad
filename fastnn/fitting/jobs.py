"""What a fit trains on what: network, examples, and how."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fastnn.averages import Averaging
from fastnn.conventions import OWN, Conventions
from fastnn.data import Data
from fastnn.fitting.feeds import Feed
from fastnn.fitting.states import TrainingState
from fastnn.fitting.tallies import Counting, Watch
from fastnn.layout import Layout
from fastnn.losses import Loss
from fastnn.metrics import Metric
from fastnn.path import Path
from fastnn.predicting.predictor import slices
from fastnn.schedules import Schedule
from fastnn.sharing import Shown
from fastnn.sparse import SparseRows
from fastnn.target_scale import TargetScale
from fastnn.whole_batch import Searched

__all__ = ["Job"]

Floats = NDArray[np.floating]


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
    path: Path
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
    scale: TargetScale | None = None  # of the targets, where they are at unit scale
    average: Averaging | None = None  # what others see of the parameters
    search: Searched | None = None  # what takes iterations over all examples in place of steps
    feed: Feed | None = None  # what examples come from, of which data are the first window's

    @property
    def examples(self) -> int:
        """How many an epoch has."""
        return len(self.data) if self.feed is None else self.feed.rows

    @property
    def fingerprint(self) -> int:
        """A number by which the examples are recognised."""
        return self.data.fingerprint() if self.feed is None else self.feed.fingerprint

    @property
    def window(self) -> int | None:
        """How many examples are shuffled together, where these are not all of them."""
        feed = self.feed
        return None if feed is None or feed.windows == 1 else feed.size

    @property
    def outputs(self) -> Floats:
        """Room for what training predicts for each example in memory, for metrics made here."""
        elsewhere = self.measured_after or not self.metrics or self.counting is not None
        rows = 0 if elsewhere else len(self.data)
        return np.zeros((rows, self.layout.outputs), self.parameters.dtype)

    @property
    def steps(self) -> int:
        """Steps per epoch; the last batch may be short."""
        return -(-self.examples // self.batch_size)

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
        if not self.path.by_engine or (len(self.names) == 1 and watch is None):
            return self
        if self.search is not None or self.average is not None:
            return self
        listed = bool(self.data.targets.labels.size)
        if self.feed is not None and self.loss.targets == "sides" and not listed:
            # What they say of classes takes a look at all of them.
            return self
        held = self.validation
        if held is not None and (
            isinstance(held.X, SparseRows) or len(slices(len(held), self.layout.operations)) > 1
        ):
            # The second would put off Ctrl-C.
            held = None
        counting = Counting.of(
            self.metrics, self.loss, self.layout, self.data, held,
            training=not self.measured_after, scale=self.scale,
        )  # fmt: skip
        if counting is not None and watch is not None and watch.name in counting.places:
            counting = counting.watching(watch)
        return replace(self, counting=counting)
