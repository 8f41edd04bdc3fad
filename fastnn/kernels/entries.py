"""Sparse examples: a chunk's entries, gathered by row, and their part of the weight gradient.

Both passes read the rows of a chunk as they lie (CSR).  The gradient's rows are the columns of the
examples: those of a few hundred columns stay in the L2 cache while the entries of all rows are
added to them.  Its tiles are then applied like any other, so that there is no gradient array here
either.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import apart, kernel
from fastnn.kernels.order import drawn
from fastnn.kernels.panels import PANEL_BYTES
from fastnn.kernels.sparse_products import add_entries, add_narrow_entries

__all__ = ["drop_entries", "gather_entries", "spread_entries"]

_HALF = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
# Shifts and multipliers of `dropout.keep`.
_SHIFT_1, _SHIFT_2 = np.uint64(16), np.uint64(15)
_FACTOR_1, _FACTOR_2 = np.uint64(0x7FEB352D), np.uint64(0x846CA68B)


@apart
def gather_entries(
    M: Any, plan: Any, sparse: Any, picks: Any, order: Any, start: int, first: int, last: int
) -> None:
    """Copy the values of some rows of a chunk; record where they begin and which examples they are.

    Reads: sparse, whose first array is written; order (examples,), or (0,) for the examples' own
    order, in which the chunk begins at start.  Writes: in M, the rows' part of `entries`; of the
    integers, that of `row_starts`, and of `beginnings` and the element behind it, to which the next
    row's thread writes the same number; the same rows of picks.  May overwrite: nothing else.
    """
    integers, starts, _, values, _ = sparse
    at = 0
    for i in range(first):
        row = order[start + i] if order.size else start + i
        at += starts[row + 1] - starts[row]
    beginnings, entries = plan.beginnings, plan.entries
    places = plan.row_starts
    for i in range(first, last):
        row = order[start + i] if order.size else start + i
        picks[i] = row
        integers[beginnings + i] = at
        integers[places + i] = starts[row]
        for e in range(starts[row], starts[row + 1]):
            M[entries + at] = values[e]
            at += 1
    if last > first:
        integers[beginnings + last] = at


@apart
def drop_entries(
    M: Any, row: Any, plan: Any, sparse: Any, picks: Any, scale: float, stream: Any, begun: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """Drop entries of some rows, and scale the others, as `dropout.drop` does with panels.

    Reads: sparse, picks; the step's stream, and begun, the rows of the batch before the chunk.
    Writes: in M, the rows' part of `entries`.  May overwrite: nothing else.
    """
    integers, starts, columns, _, _ = sparse
    units, threshold = row.outputs, np.uint64(row.threshold)
    key = drawn(stream, row.place)
    low, high = key & _HALF, key >> _32
    factor, nothing = M.dtype.type(scale), M.dtype.type(0)
    for i in range(first, last):
        at = plan.entries + integers[plan.beginnings + i]
        begin = starts[picks[i]]
        for n in range(starts[picks[i] + 1] - begin):
            number = np.uint64((begun + i) * units + columns[begin + n])
            x = ((number & _HALF) + low) & _HALF
            x = ((x ^ (x >> _SHIFT_1)) * _FACTOR_1) & _HALF
            x = ((x ^ (x >> _SHIFT_2) ^ high) * _FACTOR_2) & _HALF
            M[at + n] = M[at + n] * factor if x >= threshold else nothing


@kernel
def first_from(columns: Any, begin: int, end: int, column: int) -> int:
    """Return a row's first entry in this column or a later one, or its end.

    Reads: columns, ascending from begin to before end.
    """
    while begin < end:
        middle = (begin + end) // 2
        if columns[middle] < column:
            begin = middle + 1
        else:
            end = middle
    return begin


@kernel
def spread_entries(
    M: Any, row: Any, plan: Any, sparse: Any, rows: int, j: int, across: int, low: int, high: int,
    at: int, apart: int, known: bool, kept: bool,
) -> None:  # fmt: skip
    """Add the entries of a chunk in columns from low to before high to these rows of a gradient.

    Reads: what `gather_entries` left; so many panels from column j of the operation's `dresult`;
    where known, the thread's `cursors`, which say where each row's entries from low on begin.
    Writes: in M, the rows of as many panels, `apart` from each other, that of column low at `at`;
    where kept, `cursors`, for high.  May overwrite: nothing else.
    """
    integers, _, columns, _, cursors = sparse
    panel, height = PANEL_BYTES // M.itemsize, plan.height
    beginnings, places = plan.beginnings, plan.row_starts
    outputs = row.outputs
    lanes = panel // 2
    vectors = min(2 * across, (outputs - j + lanes - 1) // lanes)
    dz = row.dresult + j * height
    g = at - low * (codes.NARROW_ROWS if row.narrow else panel)
    for i in range(rows):
        e, begin = integers[places + i], integers[beginnings + i]
        last = e + integers[beginnings + i + 1] - begin
        values = plan.entries + begin - e
        if known:
            e = integers[cursors + i]
        elif low > 0:
            e = first_from(columns, e, last, low)
        if e == last or columns[e] >= high:
            # Often so where columns are many; a row of dZ is not read then.
            pass
        elif row.narrow:
            e = add_narrow_entries(M, g, values, dz, columns, e, last, high, outputs)
        else:
            e = add_entries(
                M, g, apart, values, dz, height * panel, vectors, columns, e, last, high
            )
        if kept:
            integers[cursors + i] = e
        dz += panel
