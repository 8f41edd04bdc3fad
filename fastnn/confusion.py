"""Metrics of the table of confusion: which classes are predicted, and which are right.

Every output, or class, has three counts of examples: those that belong to it, those of which it is
predicted, and those where both hold.  Where an example belongs to one class of several, or to one
of the two sides of a single output, the classes exclude each other; else every output is a
question of its own.  Averages, and what counts where nothing is predicted, are scikit-learn's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.distances import mean

__all__ = [
    "AVERAGES", "Average", "Classified", "Decision", "accuracy_by_side", "accuracy_by_threshold",
    "accuracy_of_classes",
]  # fmt: skip

Floats: TypeAlias = NDArray[np.floating[Any]]
Average: TypeAlias = Literal["auto", "binary", "macro", "micro", "weighted"]
Decision: TypeAlias = Literal["classes", "probabilities", "sides"]
Score: TypeAlias = Literal["precision", "recall", "f1", "balanced_accuracy"]

AVERAGES: dict[str, int] = {"auto": 0, "binary": 1, "macro": 2, "micro": 3, "weighted": 4}

_THRESHOLD = 0.5


def _one_each(targets: Floats) -> bool:
    """Whether every row names one class of several."""
    return targets.shape[1] > 1 and bool((targets.sum(axis=1) == 1).all())


def _share(hits: NDArray[np.bool_], predictions: Floats, weights: Floats | None) -> float:
    """Average hits; NaN where a prediction is not finite, since comparing it says nothing."""
    if not np.isfinite(predictions).all():
        return float("nan")
    return float(mean(hits, weights).mean())


def accuracy_of_classes(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Share of examples whose largest prediction stands at their class."""
    hits = predictions.argmax(axis=1) == targets.argmax(axis=1)
    return _share(hits, predictions, weights)


def accuracy_by_threshold(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Share of outputs on the target's side of one half, averaged over outputs."""
    hits = (predictions > _THRESHOLD) == (targets > _THRESHOLD)
    return _share(hits, predictions, weights)


def accuracy_by_side(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Share of outputs on the target's side of 0, or of examples by their largest output."""
    if _one_each(targets):
        return accuracy_of_classes(targets, predictions, weights)
    hits = (predictions > 0) == (targets > _THRESHOLD)
    return _share(hits, predictions, weights)


@dataclass(frozen=True, slots=True)
class Classified:
    """A metric of classes, as a function of targets, predictions and weights.

    Attributes
    ----------
    score : {"precision", "recall", "f1", "balanced_accuracy"}
        What is computed of each class.
    average : {"auto", "binary", "macro", "micro", "weighted"}
        How the classes come to one number.
    decision : {"classes", "probabilities", "sides"}
        What a loss's targets are: classes are told by the largest output, probabilities by 0.5,
        sides by 0 (by the largest output where every row names one class).
    """

    score: Score
    average: Average
    decision: Decision

    def __call__(self, targets: Floats, predictions: Floats, weights: Floats | None) -> float:
        """Return it, a float; weights may be None."""
        w = np.ones(len(targets)) if weights is None else weights.astype(np.float64)
        if not np.isfinite(predictions).all() or not w.sum() > 0.0:
            return float("nan")
        members, guesses, exclusive = self._decided(targets, predictions)
        if self.score == "balanced_accuracy" and not exclusive:
            columns = zip(members.T, guesses.T, strict=True)
            parts = [_mean_recall(*_both_sides(*column), w) for column in columns]
            return float(np.mean(parts))
        if self.score == "balanced_accuracy":
            return _mean_recall(members, guesses, w)
        right, found, wanted = w @ (members & guesses), w @ guesses, w @ members
        average = self.average
        if average == "auto":
            average = "binary" if exclusive and len(right) == 2 else "macro"
        if average == "micro":
            right, found, wanted = right.sum(), found.sum(), wanted.sum()
        scores = _scores(self.score, right, found, wanted)
        if average == "micro":
            return float(scores)
        if average == "binary":
            return float(scores[1])
        if average == "weighted":
            total = wanted.sum()
            return float(scores @ wanted / total) if total > 0.0 else 0.0
        # Of classes that exclude each other those are not asked that do not occur.
        asked = found + wanted > 0.0 if exclusive else np.ones(len(right), bool)
        return float(scores[asked].mean())

    def _decided(
        self, targets: Floats, predictions: Floats
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], bool]:
        """Return members and guesses (n, k) of each class, and whether classes exclude others."""
        if self.decision == "classes" or (self.decision == "sides" and _one_each(targets)):
            places = np.arange(targets.shape[1])
            members = targets.argmax(axis=1)[:, np.newaxis] == places
            return members, predictions.argmax(axis=1)[:, np.newaxis] == places, True
        members = targets > _THRESHOLD
        guesses = predictions > (0.0 if self.decision == "sides" else _THRESHOLD)
        if targets.shape[1] == 1:
            return *_both_sides(members[:, 0], guesses[:, 0]), True
        return members, guesses, False


def _both_sides(
    members: NDArray[np.bool_], guesses: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return a question with yes and no, (n,), as two classes, (n, 2): no and yes."""
    return np.column_stack([~members, members]), np.column_stack([~guesses, guesses])


def _scores(
    score: Score, right: NDArray[Any], found: NDArray[Any], wanted: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the score of each class; 0 where nothing is there to divide by."""
    above, below = right, wanted
    if score == "precision":
        below = found
    elif score == "f1":
        above, below = 2.0 * right, found + wanted
    return np.asarray(above / np.where(below > 0.0, below, 1.0))


def _mean_recall(
    members: NDArray[np.bool_], guesses: NDArray[np.bool_], weights: NDArray[np.float64]
) -> float:
    """Return the mean over the classes that occur of the share of their examples found."""
    wanted = weights @ members
    right = weights @ (members & guesses)
    return float((right[wanted > 0.0] / wanted[wanted > 0.0]).mean())
