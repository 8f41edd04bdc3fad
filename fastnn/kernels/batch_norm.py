"""Normalisation of each column over the rows of a batch, or by what running means are known.

A panel of columns belongs to one thread, which goes down all rows of it: sums have one order,
whatever the number of threads.  The forward pass notes mean and variance of each column, the
backward pass the gradients of scale and shift, which it needs itself; from these and what was read
the normalised numbers are found again, so that none are stored.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels._jit import apart, kernel
from fastnn.kernels.columns import column_moments, column_sums, columns_back, normalise_columns
from fastnn.kernels.panels import PANEL_BYTES

__all__ = [
    "batch_norm_gradient", "normalise_rows", "return_rows", "span_of", "whole_backward",
    "whole_forward",
]  # fmt: skip


@kernel
def span_of(M: Any, row: Any) -> int:
    """Return how many elements one number per column takes."""
    panel = PANEL_BYTES // M.itemsize
    found: int = (row.outputs + panel - 1) // panel * panel
    return found


@kernel
def share_of(M: Any, row: Any, place: int, size: int) -> tuple[int, int]:
    """Return the first and the one past the last column of a thread's panels."""
    panel = PANEL_BYTES // M.itemsize
    panels = (row.outputs + panel - 1) // panel
    return panels * place // size * panel, panels * (place + 1) // size * panel


@kernel
def say_several(M: Any, plan: Any, rows: int) -> bool:
    """Return whether more than one row of a batch counts."""
    found = 0
    for i in range(plan.portions, plan.portions + rows):
        found += M[i] > 0
        if found > 1:
            return True
    return False


@apart
def whole_forward(
    M: Any, row: Any, plan: Any, rows: int, updating: bool, place: int, size: int
) -> None:
    """Normalise this thread's panels by their mean and variance over a batch.

    Reads: all rows of the operation's source, its spans, `portions`.  Writes: all rows of these
    panels of its result, and of `scratch`; if updating, of `running`.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    one, momentum = M.dtype.type(1), M.dtype.type(row.momentum)
    span = span_of(M, row)
    updating = updating and say_several(M, plan, rows)
    low, high = share_of(M, row, place, size)
    for j in range(low, high, panel):
        at = j * plan.height
        mean, variance = row.scratch + j, row.scratch + span + j
        column_moments(M, row.source + at, plan.portions, mean, variance, rows)
        normalise_columns(
            M, row.source + at, row.result + at, mean, variance, row.packed + j, row.biases + j,
            rows, M.dtype.type(row.number),
        )  # fmt: skip
        if updating:
            for k in range(j, j + panel):
                for n in (row.running + k, row.running + span + k):
                    new = M[n - row.running + row.scratch]
                    M[n] = momentum * M[n] + (one - momentum) * new


@apart
def whole_backward(M: Any, row: Any, plan: Any, rows: int, place: int, size: int) -> None:
    """Sum the gradients of this thread's panels, and go back through the batch's statistics.

    Reads: all rows of the operation's source and `dresult`, its spans, `portions` and what
    `whole_forward` noted.  Writes: of these panels, `scratch` behind that, and `dsource` if there
    is one.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    number, span = M.dtype.type(row.number), span_of(M, row)
    low, high = share_of(M, row, place, size)
    for j in range(low, high, panel):
        at, mean = j * plan.height, row.scratch + j
        variance, first, second = mean + span, mean + 2 * span, mean + 3 * span
        column_sums(
            M, row.source + at, row.dresult + at, mean, variance, first, second, rows, number
        )
        if row.dsource >= 0:
            columns_back(
                M, row.source + at, row.dresult + at, row.dsource + at, mean, variance,
                row.packed + j, first, second, plan.portions, rows, number,
            )  # fmt: skip


@apart
def normalise_rows(M: Any, row: Any, height: int, first: int, last: int) -> None:
    """Normalise some rows by the running mean and variance.

    Reads: the operation's source, spans and `running`.  Writes: its result.
    May overwrite: nothing else.
    """
    panel, span = PANEL_BYTES // M.itemsize, span_of(M, row)
    for j in range(0, row.outputs, panel):
        at, mean = j * height + first * panel, row.running + j
        normalise_columns(
            M, row.source + at, row.result + at, mean, mean + span, row.packed + j,
            row.biases + j, last - first, M.dtype.type(row.number),
        )  # fmt: skip


@apart
def return_rows(M: Any, row: Any, height: int, first: int, last: int) -> None:
    """Compute the derivative by what `normalise_rows` reads, of some rows.

    Reads: the operation's `dresult`, first span and `running`.  Writes: its `dsource`.
    May overwrite: nothing else.
    """
    panel, span = PANEL_BYTES // M.itemsize, span_of(M, row)
    nothing = row.running - row.running - 1
    for j in range(0, row.outputs, panel):
        at, mean = j * height + first * panel, row.running + j
        columns_back(
            M, row.source + at, row.dresult + at, row.dsource + at, mean, mean + span,
            row.packed + j, mean, mean, nothing, last - first, M.dtype.type(row.number),
        )  # fmt: skip


@kernel
def batch_norm_gradient(M: Any, row: Any, j: int, first: int, second: int) -> None:
    """Hand out the gradients of its spans that `whole_backward` left; see `span_gradient`.

    All rows of a batch were one chunk, so that nothing is added to a start.
    """
    span = span_of(M, row)
    for k in range(PANEL_BYTES // M.itemsize):
        M[first + k] = M[row.scratch + 2 * span + j + k]
        M[second + k] = M[row.scratch + 3 * span + j + k]
