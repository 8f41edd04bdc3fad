"""The values of an epoch, of what was counted of its examples; see `counts` for the columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import kernel

__all__ = ["finish_values"]


@kernel
def finish_values(values: Any, plan: Any, sums: Any, counts: int, figures: int) -> None:
    """Compute the values that the plan's slots ask for, of what was counted.

    Reads: in sums, what was counted of some examples, and their figures.
    Writes: values (codes.SLOTS,), but for the loss.  May overwrite: nothing else.
    """
    total, targets = sums[figures], plan.targets
    more = counts + plan.more
    for slot in range(codes.SLOTS):
        wanted, number = plan.slots[slot], plan.slot_numbers[slot]
        if wanted == codes.LOSS_VALUE:
            continue
        value = np.nan
        if wanted == codes.ACCURACY:
            value = sums[counts + codes.HITS] / total
        elif wanted == codes.ABSOLUTE_ERROR:
            value = sums[counts + codes.ABSOLUTE] / total / targets
        elif wanted == codes.RELATIVE_ERROR:
            value = sums[more + codes.RELATIVE] / total / targets
        elif wanted == codes.LOG_LOSS:
            value = sums[more + codes.SURPRISE] / total
            if not plan.counted & codes.PLACES:
                value /= targets
        elif wanted == codes.TOP_PLACES:
            value = sums[more + codes.RANKED + slot] / total
        elif wanted == codes.BALANCED:
            value = balanced(sums, plan, counts + plan.confusion)
        elif wanted >= codes.PRECISION:
            value = score_of(sums, plan, counts + plan.confusion, wanted, number)
        else:
            value = of_squares(sums, plan, counts, figures, wanted)
        if wanted >= codes.TOP_PLACES and np.isnan(sums[counts + codes.HITS] / total):
            # A result was not finite, or no example has weight.
            value = np.nan
        values[slot] = value


@kernel
def of_squares(sums: Any, plan: Any, counts: int, figures: int, wanted: int) -> float:
    """Return the mean over targets of squared errors, their roots, or 1 minus their share."""
    total: float = sums[figures]
    result = 0.0
    for j in range(plan.targets):
        square, spread = sums[counts + codes.SQUARES + j] / total, sums[figures + 1 + j]
        if wanted == codes.SQUARED_ERROR:
            result += square
        elif wanted == codes.ROOT_OF_SQUARES:
            result += np.sqrt(square)
        else:
            score = 1.0 - square / spread
            if spread == 0.0:
                # A target that does not vary is met or not.
                score = 1.0 if square == 0.0 else 0.0
                if np.isnan(square):
                    score = np.nan
            result += score
    targets: int = plan.targets
    return result / targets


@kernel
def class_counts(sums: Any, plan: Any, classes: int, c: int) -> tuple[float, float, float]:
    """Return hits, guesses and members of a class; a single output has those of no and of yes."""
    at = classes if plan.targets == 1 else classes + codes.CELLS * c
    right, wrong, missed = sums[at], sums[at + codes.WRONG], sums[at + codes.MISSED]
    if plan.targets == 1 and c == 0:
        # Whoever is taken for a no wrongly is missed among the yes.
        right, wrong, missed = sums[at + codes.REJECTED], missed, wrong
    return right, right + wrong, right + missed


@kernel
def share(above: float, below: float) -> float:
    """Return a quotient, or 0 where there is nothing to divide by."""
    return above / below if below > 0.0 else 0.0


@kernel
def score_of_counts(right: float, found: float, wanted: float, score: int) -> float:
    """Return precision, recall or F1 of hits, guesses and members."""
    if score == codes.PRECISION:
        return share(right, found)
    if score == codes.RECALL:
        return share(right, wanted)
    return share(2.0 * right, found + wanted)


@kernel
def score_of(sums: Any, plan: Any, classes: int, score: int, how: int) -> float:
    """Return precision, recall or F1 of all classes; see `metrics.Precision`."""
    exclusive = plan.counted & codes.PLACES != 0 or plan.targets == 1
    count = max(plan.targets, 2) if exclusive else plan.targets
    if how == codes.AUTO:
        how = codes.BINARY if exclusive and count == 2 else codes.MACRO
    rights, founds, wanteds, scores, weighted, asked = 0.0, 0.0, 0.0, 0.0, 0.0, 0
    for c in range(count):
        right, found, wanted = class_counts(sums, plan, classes, c)
        of_class = score_of_counts(right, found, wanted, score)
        if how == codes.BINARY and c == 1:
            return of_class
        rights, founds, wanteds = rights + right, founds + found, wanteds + wanted
        weighted += of_class * wanted
        if found + wanted > 0.0 or not exclusive:
            scores, asked = scores + of_class, asked + 1
    if how == codes.MICRO:
        return score_of_counts(rights, founds, wanteds, score)
    if how == codes.WEIGHTED:
        return share(weighted, wanteds)
    return scores / max(asked, 1)


@kernel
def balanced(sums: Any, plan: Any, classes: int) -> float:
    """Return the mean recall of the classes that occur; of several outputs, the mean over them."""
    targets: int = plan.targets
    if plan.counted & codes.PLACES or targets == 1:
        recalls, asked = 0.0, 0
        for c in range(max(targets, 2)):
            right, _, wanted = class_counts(sums, plan, classes, c)
            if wanted > 0.0:
                recalls, asked = recalls + right / wanted, asked + 1
        return recalls / max(asked, 1)
    result = 0.0
    for c in range(targets):
        at = classes + codes.CELLS * c
        right, missed = sums[at + codes.RIGHT], sums[at + codes.MISSED]
        rejected, wrong = sums[at + codes.REJECTED], sums[at + codes.WRONG]
        sides = int(right + missed > 0.0) + int(rejected + wrong > 0.0)
        both = share(right, right + missed) + share(rejected, rejected + wrong)
        result += both / max(sides, 1)
    return result / targets
