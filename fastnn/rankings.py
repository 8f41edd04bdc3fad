"""Metrics of the order of predictions: areas under curves, and places among the largest outputs.

Only the order of an output's values counts for an area, and only that of an example's outputs for
its place.  Equal values share what they would get in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.distances import mean

__all__ = ["Area", "TopPlaces"]

Floats: TypeAlias = NDArray[np.floating[Any]]

_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class TopPlaces:
    """Share of examples whose class is among the k largest predictions.

    Of equal predictions that of the later class counts as the larger one, as in scikit-learn's
    ``top_k_accuracy_score``.
    """

    k: int

    def __call__(self, targets: Floats, predictions: Floats, weights: Floats | None) -> float:
        """Return it, a float; weights may be None."""
        if not np.isfinite(predictions).all():
            return float("nan")
        places = np.argsort(predictions, axis=1, kind="stable")[:, ::-1][:, : self.k]
        hits = (places == targets.argmax(axis=1)[:, np.newaxis]).any(axis=1)
        return float(mean(hits, weights))


@dataclass(frozen=True, slots=True)
class Area:
    """The area under a curve of each output's values, as a mean over outputs.

    Attributes
    ----------
    curve : {"roc_auc", "average_precision"}
        Which one.
    classes : bool
        Whether an example belongs to the class of its largest target: one class against the rest,
        and where there are two, the second alone.  Else each target says yes above 0.5.

    Notes
    -----
    An output that no example belongs to is left out of the mean, and for ROC one that all belong
    to; NaN where none is left.
    """

    curve: Literal["roc_auc", "average_precision"]
    classes: bool

    def __call__(self, targets: Floats, predictions: Floats, weights: Floats | None) -> float:
        """Return it, a float; weights may be None."""
        w = np.ones(len(targets)) if weights is None else weights.astype(np.float64)
        if not np.isfinite(predictions).all():
            return float("nan")
        members = targets > _THRESHOLD
        if self.classes:
            members = targets.argmax(axis=1)[:, np.newaxis] == np.arange(targets.shape[1])
            if targets.shape[1] == 2:
                members, predictions = members[:, 1:], predictions[:, 1:]
        area = _AREAS[self.curve]
        found = np.array(
            [area(*_levels(*one, w)) for one in zip(members.T, predictions.T, strict=True)]
        )
        return float(found[~np.isnan(found)].mean()) if not np.isnan(found).all() else float("nan")


def _levels(
    members: NDArray[np.bool_], values: Floats, weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weight of members and of others at each different value, the largest first."""
    _, level = np.unique(-values, return_inverse=True)
    yes, no = (np.bincount(level, weights * part) for part in (members, ~members))
    return yes.astype(np.float64), no.astype(np.float64)


def _under_roc(yes: NDArray[np.float64], no: NDArray[np.float64]) -> float:
    """Return how likely a member lies above one that is none; equal ones count half."""
    if not (yes.sum() > 0.0 and no.sum() > 0.0):
        return float("nan")
    below = no.sum() - np.cumsum(no)
    return float((yes * (below + 0.5 * no)).sum() / (yes.sum() * no.sum()))


def _average_precision(yes: NDArray[np.float64], no: NDArray[np.float64]) -> float:
    """Return the mean of the precision at each level, weighed by its members."""
    if not yes.sum() > 0.0:
        return float("nan")
    right = np.cumsum(yes)
    taken = right + np.cumsum(no)
    # Levels before the first of some weight.
    precision = right / np.where(taken > 0.0, taken, 1.0)
    return float((precision * yes).sum() / yes.sum())


_AREAS: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], float]] = {
    "roc_auc": _under_roc,
    "average_precision": _average_precision,
}
