"""Examples parted into those to train on and those to validate on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.data import Data
from fastnn.fitting.states import Streams
from fastnn.gate import Targets
from fastnn.losses import Loss
from fastnn.path import Path

__all__ = ["split"]


def split(
    data: Data, loss: Loss, fraction: float, streams: Streams, *, path: Path
) -> tuple[Data, Data]:
    """Split data into training and validation; stratified where targets are classes.

    Drawn from the network's stream of orders, once, before the first epoch.
    """
    order = np.empty(len(data), np.int64)
    path.draw_order(order, streams.order_key, streams.drawn)
    streams.drawn += 1
    classes = _classes(data.targets, loss)[order]
    members = [order[classes == label] for label in np.unique(classes)]
    held = np.zeros(len(data), bool)
    for part, count in zip(
        members, _shares([len(part) for part in members], fraction), strict=True
    ):
        held[part[:count]] = True
    rows = np.arange(len(data))
    parts = data.take(rows[~held]), data.take(rows[held])
    for piece, what in zip(parts, ("to train on", "to validate on"), strict=True):
        if not len(piece) or (piece.weights.size and not piece.weights.any()):
            raise ValueError(
                f"validation_fraction={fraction:g} of {len(data)} examples leaves none of any "
                f"weight {what}."
            )
    return parts


def _classes(targets: Targets, loss: Loss) -> NDArray[Any]:
    """Return a class for each example; the same one for all where targets are no classes."""
    values: NDArray[Any] = targets.values
    if targets.labels.size:
        return targets.labels
    if not loss.numeric and np.isin(values, (0, 1)).all():
        if values.shape[1] == 1:
            return values[:, 0]
        if loss.targets == "classes":
            return np.asarray(values.argmax(axis=1))
    return np.zeros(len(values), np.int64)


def _shares(sizes: Sequence[int], fraction: float) -> list[int]:
    """Divide the number to hold out among classes by largest remainders; at least one."""
    exact = [fraction * size for size in sizes]
    counts = [int(share) for share in exact]
    missing = max(1, round(fraction * sum(sizes))) - sum(counts)
    by_remainder = sorted(range(len(sizes)), key=lambda place: counts[place] - exact[place])
    for place in by_remainder[:missing]:
        counts[place] += 1
    return counts
