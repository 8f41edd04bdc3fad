"""Sparse examples: a chunk's entries, gathered by row and sorted by column.

The forward pass reads the rows of a chunk (CSR).  The backward pass needs its entries by column
(CSC): they are sorted by counting, once per chunk, each thread a share of the columns.  A tile of
the weight gradient then reads the entries of its own rows of W, and is applied while it is in the
cache like any other, so that there is no gradient array here either.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import kernel
from fastnn.kernels.order import drawn

__all__ = ["count_entries", "drop_entries", "gather_entries", "turn_entries"]

_HALF = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
# Shifts and multipliers of `dropout.keep`.
_SHIFT_1, _SHIFT_2 = np.uint64(16), np.uint64(15)
_FACTOR_1, _FACTOR_2 = np.uint64(0x7FEB352D), np.uint64(0x846CA68B)


@kernel
def gather_entries(
    M: Any, plan: Any, sparse: Any, picks: Any, order: Any, start: int, first: int, last: int
) -> None:
    """Copy the values of some rows of a chunk; record where they begin and which examples they are.

    Reads: sparse, whose first array is written; order (examples,), or (0,) for the examples' own
    order, in which the chunk begins at start.  Writes: in M, the rows' part of `entries`; of the
    integers, that of `beginnings` and the element behind it, to which the next row's thread writes
    the same number; the same rows of picks.  May overwrite: nothing else.
    """
    integers, starts, _, values = sparse
    at = 0
    for i in range(first):
        row = order[start + i] if order.size else start + i
        at += starts[row + 1] - starts[row]
    beginnings, entries = plan.beginnings, plan.entries
    for i in range(first, last):
        row = order[start + i] if order.size else start + i
        picks[i] = row
        integers[beginnings + i] = at
        for e in range(starts[row], starts[row + 1]):
            M[entries + at] = values[e]
            at += 1
    if last > first:
        integers[beginnings + last] = at


@kernel
def drop_entries(
    M: Any, row: Any, plan: Any, sparse: Any, picks: Any, scale: float, stream: Any, begun: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """Drop entries of some rows, and scale the others, as `dropout.drop` does with panels.

    Reads: sparse, picks; the step's stream, and begun, the rows of the batch before the chunk.
    Writes: in M, the rows' part of `entries`.  May overwrite: nothing else.
    """
    integers, starts, columns, _ = sparse
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
def count_entries(
    plan: Any, sparse: Any, inputs: int, order: Any, start: int, rows: int, place: int, size: int
) -> None:
    """Count the entries of a chunk in each of a thread's share of the columns.

    Reads: sparse; order, in which the chunk begins at start.  Writes: of the integers, the share's
    part of `cursors`, and `counts`.  May overwrite: nothing else.
    """
    integers, starts, columns, _ = sparse
    low, high = inputs * place // size, inputs * (place + 1) // size
    cursors = plan.cursors + 1
    for c in range(low, high):
        integers[cursors + c] = 0
    total = 0
    for i in range(rows):
        row = order[start + i] if order.size else start + i
        for e in range(starts[row], starts[row + 1]):
            c = columns[e]
            if low <= c < high:
                integers[cursors + c] += 1
                total += 1
    integers[plan.counts + place * codes.COUNT_PITCH] = total


@kernel
def turn_entries(
    M: Any, plan: Any, sparse: Any, inputs: int, order: Any, start: int, rows: int, place: int,
    size: int,
) -> None:  # fmt: skip
    """Sort the entries of a thread's share of the columns by column.

    Reads: sparse, and what `gather_entries` and all threads' `count_entries` wrote.
    Writes: the share's part of `turned_entries`, `turned_rows` and `cursors`.
    May overwrite: nothing else.
    """
    integers, starts, columns, _ = sparse
    low, high = inputs * place // size, inputs * (place + 1) // size
    cursors = plan.cursors + 1
    at = 0
    for other in range(place):
        at += integers[plan.counts + other * codes.COUNT_PITCH]
    if place == 0:
        integers[plan.cursors] = 0
    for c in range(low, high):
        count = integers[cursors + c]
        integers[cursors + c] = at
        at += count
    turned, turned_rows = plan.turned_entries, plan.turned_rows
    for i in range(rows):
        row = order[start + i] if order.size else start + i
        entry = plan.entries + integers[plan.beginnings + i] - starts[row]
        for e in range(starts[row], starts[row + 1]):
            c = columns[e]
            if low <= c < high:
                # In the end a column's cursor points to where the next one begins.
                to = integers[cursors + c]
                integers[cursors + c] = to + 1
                integers[turned_rows + to] = i
                M[turned + to] = M[entry + e]
