"""How each kind of solver goes about a fit: by steps on batches, or with all examples at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from fastnn.data import Data
from fastnn.estimators.judge import Judge, Measure
from fastnn.estimators.lbfgs import FullBatch, Search
from fastnn.estimators.parameters import SOLVERS
from fastnn.estimators.watchers import Watchers

__all__ = ["Strategy", "Task", "strategy_of"]


@dataclass(frozen=True, slots=True)
class Task:
    """What a fit has prepared: examples, how the loss is measured, and who looks at it."""

    known: Data
    measure: Measure
    alpha: float
    judge: Judge | None
    watchers: Watchers
    first: bool
    incremental: bool


class Strategy(ABC):
    """How a kind of solver goes about a fit."""

    steps: ClassVar[bool]  # whether it takes steps on batches of examples
    penalises: ClassVar[bool]  # whether it adds L2 by itself, not the engine

    @staticmethod
    @abstractmethod
    def check(estimator: Any) -> None:
        """Refuse parameters that it has no use for."""

    @staticmethod
    @abstractmethod
    def run(estimator: Any, task: Task) -> None:
        """Fit."""


class Stepwise(Strategy):
    """Epochs of minibatches."""

    steps, penalises = True, False

    @staticmethod
    def check(estimator: Any) -> None:
        """Let all be: it has a use for everything."""

    @staticmethod
    def run(estimator: Any, task: Task) -> None:
        """Fit."""
        estimator._descend(
            task.known, task.measure, task.judge, task.watchers, first=task.first,
            incremental=task.incremental,
        )  # fmt: skip


class Whole(Strategy):
    """A search with all examples at once."""

    steps, penalises = False, True

    @staticmethod
    def check(estimator: Any) -> None:
        """Refuse parameters that it has no use for."""
        drops = "dropout" if estimator.layers is None else "a layer that drops units"
        unused = {"clip_norm": estimator.clip_norm is not None, drops: estimator._drops()}
        for name, chosen in unused.items():
            if chosen:
                raise ValueError(
                    f"{name} needs a solver that takes steps; got solver={estimator.solver!r}."
                )

    @staticmethod
    def run(estimator: Any, task: Task) -> None:
        """Fit."""
        measure = task.measure
        objective = FullBatch(task.known, measure, task.alpha, estimator.n_threads)
        learnt = None if task.first else vars(estimator).get("_curvature")
        # Another curvature is found, or none, on the way from here on.
        vars(estimator).pop("_curvature", None)
        search = Search(estimator, objective, measure, task.judge, task.watchers, learnt)
        learnt = search.run()
        if learnt is not None:
            estimator._curvature = learnt


def strategy_of(solver: str) -> type[Strategy]:
    """Return how a solver goes about a fit."""
    return Whole if SOLVERS[solver] is None else Stepwise
