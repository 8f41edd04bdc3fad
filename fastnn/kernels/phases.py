"""The way through a network of which some operations need all rows of a batch at once.

Such an operation ends a phase: until there each thread walks its own rows, as in `passes`; then
threads meet, divide the operation's panels, and meet again.  The batch is one chunk.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import apart, kernel
from fastnn.kernels.batch_norm import whole_backward, whole_forward
from fastnn.kernels.chunk import hand_out, row_losses, take_rows
from fastnn.kernels.measures import count_rows
from fastnn.kernels.passes import backward, forward
from fastnn.kernels.team import barrier

__all__ = ["pass_phases"]


@kernel
def phased_forward(
    M: Any, table: Any, plan: Any, sparse: Any, picks: Any, weights: Any, stream: Any,
    total: float, rows: int, first: int, last: int, signals: Any, place: int, size: int,
) -> None:  # fmt: skip
    """Walk the table down with a batch of so many rows, of which some are this thread's.

    Reads and writes: as `passes.forward`; all rows together, of the operations that end phases.
    Reads: weights, of which the sum is total.  Writes: these rows of `portions`; while training
    the buffers of operations.
    """
    for i in range(first, last):
        weight = float(weights[picks[i]]) if weights.size else 1.0
        M[plan.portions + i] = M.dtype.type(weight / total)
    start = 0
    for r in range(table.shape[0]):
        if table[r].whole:
            forward(M, table, plan, sparse, picks, stream, 0, first, last, start, r, 1)
            barrier(signals, size)
            whole_forward(M, table[r], plan, rows, plan.mode == codes.TRAIN, place, size)
            barrier(signals, size)
            start = r + 1
    forward(M, table, plan, sparse, picks, stream, 0, first, last, start, table.shape[0], 1)


@kernel
def phased_backward(
    M: Any, table: Any, plan: Any, integers: Any, stream: Any, rows: int, first: int, last: int,
    signals: Any, place: int, size: int,
) -> None:  # fmt: skip
    """Walk the table up with a batch of so many rows, of which some are this thread's.

    Reads and writes: as `passes.backward`; all rows together, of the operations that end phases.
    """
    end = table.shape[0]
    for r in range(table.shape[0] - 1, -1, -1):
        if table[r].whole:
            backward(M, table, plan, integers, stream, 0, first, last, r + 1, end, 1)
            barrier(signals, size)
            whole_backward(M, table[r], plan, rows, place, size)
            barrier(signals, size)
            end = r + 1
    backward(M, table, plan, integers, stream, 0, first, last, 0, end, 1)


@apart
def pass_phases(
    M: Any, table: Any, plan: Any, sums: Any, sparse: Any, picks: Any, known: Any, order: Any,
    out: Any, stream: Any, total: float, start: int, rows: int, low: int, high: int, signals: Any,
    place: int, size: int,
) -> None:  # fmt: skip
    """Take some rows of a batch through the network and back, as `steps.pass_rows`, with others.

    The batch has so many rows, from example `start` of the order on.
    """
    X, labels, values, weights = known
    top = table[table.shape[0] - 1]
    take_rows(M, table, plan, sparse, picks, X, order, start, low, high)
    phased_forward(
        M, table, plan, sparse, picks, weights, stream, total, rows, low, high, signals, place, size
    )
    if out.size:
        hand_out(out, M, top.result, plan.height, picks, low, high)
    row_losses(M, top, plan, picks, labels, values, weights, total, low, high)
    if plan.counted and plan.mode == codes.TRAIN:
        at = plan.tallies
        count_rows(M, top, plan, sums, at, picks, labels, values, weights, low, high)
    phased_backward(M, table, plan, sparse[0], stream, rows, low, high, signals, place, size)
