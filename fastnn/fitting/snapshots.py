"""Weights and moments that a fit can go back to: copies of its own, or those that are shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn.fitting.jobs import Job
from fastnn.fitting.states import TrainingState
from fastnn.fitting.steppers import Stepper
from fastnn.kernels import records

__all__ = ["Aside", "InPlace", "Saved", "reached"]

Floats = NDArray[np.floating]

# How many times as long as a fit's first copy of its weights the next one may take for each vector,
# as it is written to new memory (8 million weights: 380 ms, in fits of two seconds).
_NEW_MEMORY = 20

# Seconds that unpacking a weight or moment takes, until it was measured.
_UNPACKING_ONE = 2e-9


class Saved(Protocol):
    """Weights and moments that a descent can go back to.

    Attributes
    ----------
    seconds : float
        How long saving them takes.
    """

    seconds: float

    def save(self, stepper: Stepper) -> None:
        """Save what the last step left."""

    def bring_back(self, stepper: Stepper) -> None:
        """Have the stepper go on from what was saved."""

    @property
    def is_shown(self) -> bool:
        """Whether what is saved is what others see of the job."""


class Aside:
    """Copies that nobody else sees.

    Parameters
    ----------
    job : Job
        What is trained; its weights and moments are saved as they are.
    """

    is_shown = False

    def __init__(self, job: Job) -> None:
        began = time.perf_counter()
        self._job = job
        self._copies = job.parameters.copy(), job.state.copy()
        # Later the moments are unpacked and copied too.
        vectors = 1 + len(job.state.moments)
        self.seconds = (time.perf_counter() - began) * _NEW_MEMORY * vectors

    def save(self, stepper: Stepper) -> None:
        """Save what the last step left."""
        began = time.perf_counter()
        self._copies = reached(self._job, stepper)
        self.seconds = time.perf_counter() - began

    def bring_back(self, stepper: Stepper) -> None:
        """Have the stepper go on from what was saved."""
        parameters, state = self._copies
        stepper.load(parameters, state.moments)
        self._job.state.numbers[...] = state.numbers


class InPlace:
    """The job's own weights and moments, which are shown whenever they are saved.

    Parameters
    ----------
    job : Job
        What is trained.
    note : callable
        Called while they are written, by the one who shows them.
    """

    is_shown = True

    def __init__(self, job: Job, note: Callable[[], None]) -> None:
        self._job, self._note = job, note
        self._numbers = records.copied(job.state.numbers)
        self.seconds = _UNPACKING_ONE * (job.parameters.size + job.state.moments.size)

    def save(self, stepper: Stepper) -> None:
        """Save what the last step left."""
        began, job = time.perf_counter(), self._job

        def write() -> None:
            stepper.store(job.parameters, job.state.moments)
            self._note()

        job.shown.write(write)
        self._numbers = records.copied(job.state.numbers)
        self.seconds = time.perf_counter() - began

    def bring_back(self, stepper: Stepper) -> None:
        """Have the stepper go on from what was saved."""
        stepper.load(self._job.parameters, self._job.state.moments)
        self._job.state.numbers[...] = self._numbers


def reached(job: Job, stepper: Stepper) -> tuple[Floats, TrainingState]:
    """Return copies of weights and state as the last step left them, without showing them."""
    state, parameters = job.state, np.empty_like(job.parameters)
    moments = np.empty_like(state.moments)
    stepper.store(parameters, moments)
    return parameters, replace(state, moments=moments, numbers=records.copied(state.numbers))
