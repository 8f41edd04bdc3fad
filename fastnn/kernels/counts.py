"""What is counted of examples for metrics: sums over rows of results, by their examples' weights.

Every kernel adds to lines of sums, one for each tile of rows, whose columns `codes` names: hits and
errors first, then squares by target; from the plan's `more` on what not every metric takes, and
from its `confusion` on the counts of each class.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import kernel
from fastnn.kernels.micro_kernels import BATCH_ROWS

__all__ = ["count_errors", "count_hits", "count_logs"]

# The shares of a whole between which a float32, or a float64, can tell.
LEAST_SHARE_4 = float(np.finfo(np.float32).eps)
LEAST_SHARE_8 = float(np.finfo(np.float64).eps)


@kernel
def wanted_place(e: int, targets: int, labels: Any, values: Any) -> int:
    """Return the class of an example: its label, or the place of its largest target."""
    wanted = 0
    if labels.size:
        wanted = labels[e]
    else:
        for j in range(1, targets):
            if values[e, j] > values[e, wanted]:
                wanted = j
    return wanted


@kernel
def target_of(e: int, j: int, labels: Any, values: Any) -> float:
    """Return a target of an example; of a label 1 at its place and 0 elsewhere."""
    if labels.size:
        return 1.0 if labels[e] == j else 0.0
    return np.float64(values[e, j])


@kernel
def count_hits(
    S: Any, plan: Any, sums: Any, line: int, chosen: Any, labels: Any, values: Any, weights: Any
) -> None:
    """Count of rows of results, S, how far they are right, by their examples' weights.

    Reads: S (rows, outputs), the chosen examples' labels or values, weights.
    Adds to: HITS of the lines of tiles from `line` on, the counts of classes, and hits by rank, as
    far as the plan asks for them.  May overwrite: nothing.
    """
    kind, targets = plan.counted, plan.targets
    half = 0.5 if kind & codes.SIDES_OF_HALF else 0.0
    for i in range(S.shape[0]):
        e = chosen[i]
        hits = 0.0
        weight = np.float64(weights[e]) if weights.size else 1.0
        to = line + i // BATCH_ROWS * plan.tally
        classes = to + plan.confusion
        if kind & codes.PLACES:
            found = 0
            for j in range(1, targets):
                if S[i, j] > S[i, found]:
                    found = j
            wanted = wanted_place(e, targets, labels, values)
            hits = 1.0 if found == wanted else 0.0
            if kind & codes.CONFUSED and found == wanted:
                sums[classes + codes.CELLS * found + codes.RIGHT] += weight
            elif kind & codes.CONFUSED:
                sums[classes + codes.CELLS * found + codes.WRONG] += weight
                sums[classes + codes.CELLS * wanted + codes.MISSED] += weight
            if kind & codes.RANKS:
                count_rank(S, plan, sums, to, i, wanted, weight)
        else:
            right = 0
            for j in range(targets):
                y = labels[e] == j if labels.size else values[e, j] > 0.5
                says = S[i, j] > half
                right += says == y
                if kind & codes.CONFUSED:
                    cell = codes.RIGHT if y else codes.WRONG
                    if not says:
                        cell = codes.MISSED if y else codes.REJECTED
                    sums[classes + codes.CELLS * j + cell] += weight
            hits = right / targets
            if kind & codes.ALL_SIDES:
                hits = 1.0 if right == targets else 0.0
        for j in range(S.shape[1]):
            if not np.isfinite(S[i, j]):
                # To compare it says nothing.
                hits = np.nan
        sums[to + codes.HITS] += weight * hits


@kernel
def count_rank(S: Any, plan: Any, sums: Any, to: int, i: int, wanted: int, weight: float) -> None:
    """Count whether a row's result at its class is among the largest, the later of equal ones.

    Reads: row i of S.  Adds to: the line of sums at `to`, for each slot whose value asks for it.
    May overwrite: nothing.
    """
    above = 0
    for j in range(plan.targets):
        above += S[i, j] > S[i, wanted] or (j > wanted and S[i, j] == S[i, wanted])
    for slot in range(codes.SLOTS):
        if plan.slots[slot] == codes.TOP_PLACES and above < plan.slot_numbers[slot]:
            sums[to + plan.more + codes.RANKED + slot] += weight


@kernel
def count_errors(
    S: Any, plan: Any, sums: Any, line: int, chosen: Any, labels: Any, values: Any, weights: Any
) -> None:
    """Sum absolute errors of rows of predictions, S, and their squares, by examples' weights.

    Of targets at unit scale they are those in their units, by which they are multiplied.

    Reads: S (rows, outputs), the chosen examples' labels or values, weights; in sums, the figures.
    Adds to: ABSOLUTE and SQUARES of the lines of tiles from `line` on, and RELATIVE if the plan
    asks for it.  May overwrite: nothing.
    """
    targets = plan.targets
    # Behind the figures of training and validation examples; see `tallies.Counting`.
    deviation = plan.figures + 2 * (1 + targets)
    mean = deviation + targets
    for i in range(S.shape[0]):
        e, to = chosen[i], line + i // BATCH_ROWS * plan.tally
        weight = np.float64(weights[e]) if weights.size else 1.0
        total, relative = 0.0, 0.0
        for j in range(targets):
            y = target_of(e, j, labels, values)
            error = (np.float64(S[i, j]) - y) * sums[deviation + j]
            total += abs(error)
            sums[to + codes.SQUARES + j] += weight * error * error
            if plan.counted & codes.RELATIVES:
                y = y * sums[deviation + j] + sums[mean + j]
                relative += abs(error) / max(abs(y), LEAST_SHARE_8)
        sums[to + codes.ABSOLUTE] += weight * total
        if plan.counted & codes.RELATIVES:
            sums[to + plan.more + codes.RELATIVE] += weight * relative


@kernel
def count_logs(
    S: Any, plan: Any, sums: Any, line: int, chosen: Any, labels: Any, values: Any, weights: Any
) -> None:
    """Sum what probabilities, S, make of targets: -log p of classes, of sides that of both sides.

    Reads: S (rows, outputs), the chosen examples' labels or values, weights.
    Adds to: SURPRISE of the lines of tiles from `line` on.  May overwrite: nothing.
    """
    least = LEAST_SHARE_4 if S.itemsize == 4 else LEAST_SHARE_8
    for i in range(S.shape[0]):
        e, to = chosen[i], line + i // BATCH_ROWS * plan.tally
        weight = np.float64(weights[e]) if weights.size else 1.0
        surprise = 0.0
        for j in range(plan.targets):
            y = target_of(e, j, labels, values)
            p = min(max(np.float64(S[i, j]), least), 1.0 - least)
            if y != 0.0:
                surprise -= y * np.log(p)
            if y != 1.0 and not plan.counted & codes.PLACES:
                surprise -= (1.0 - y) * np.log(1.0 - p)
            if not np.isfinite(S[i, j]):
                surprise = np.nan
        sums[to + plan.more + codes.SURPRISE] += weight * surprise
