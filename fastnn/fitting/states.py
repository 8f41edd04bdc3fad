"""What training carries from step to step: an optimizer's state, and the streams of a network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastnn.kernels import records
from fastnn.optimizers import Optimizer, hyperparameters, row_of

__all__ = ["Streams", "TrainingState"]

Floats = NDArray[np.floating]


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
        Vectors like the parameters, in the same layout; zeros before the first step, and always
        where buffers lie.  Where weights are averaged, their average is one more.
    numbers : ndarray of records.NUMBERS ()
        The number of steps taken, and the hyperparameters, as the engine reads them; with a
        schedule, the learning rate is that of the last step.
    """

    optimizer: Optimizer
    moments: Floats
    numbers: NDArray[np.void]

    @classmethod
    def fresh(
        cls, optimizer: Optimizer, parameters: Floats, *, averaging: bool = False
    ) -> TrainingState:
        """Return the state before the first step, with room for an average of weights if asked."""
        for name, number in hyperparameters(optimizer).items():
            if 0 < number < float(np.finfo(parameters.dtype).smallest_subnormal):
                raise ValueError(
                    f"{name} must be a number that {parameters.dtype} can tell from 0; "
                    f"got {number!r}."
                )
        count = row_of(optimizer).moments + averaging
        moments = np.zeros((count, parameters.size), parameters.dtype)
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
