"""The walk over the operation table, forward and backward.

The architecture is data: the table says what to do with which part of the workspace.  Each thread
walks its own rows of the chunk, so that the passes need no barrier; where an operation needs all
rows at once, `phases` walks the operations before and behind it by these.  Every code has an arm;
for one that has none nothing is done, and the planner refuses it.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import apart, kernel
from fastnn.kernels.batch_norm import normalise_rows, return_rows
from fastnn.kernels.dense import deactivate_rows, dense_backward, dense_forward, sparse_forward
from fastnn.kernels.dropout import dropout_backward, dropout_forward, dropped_relu_backward
from fastnn.kernels.elementwise import by_rows
from fastnn.kernels.entries import drop_entries
from fastnn.kernels.gathers import embedding_forward
from fastnn.kernels.norms import norm_backward, norm_forward
from fastnn.kernels.prelu import prelu_backward, prelu_forward
from fastnn.kernels.scaling import standardize_forward
from fastnn.kernels.sums import add_gradient, residual_backward, residual_forward
from fastnn.kernels.waves import numeric_backward, numeric_forward

__all__ = ["backward", "forward"]


@kernel
def forward(
    M: Any, table: Any, plan: Any, sparse: Any, picks: Any, stream: Any, begun: int, first: int,
    last: int, start: int, end: int, full: Any,
) -> None:  # fmt: skip
    """Walk the table down, from operation start to before end: Z and A of some rows of a chunk.

    Reads: packed weights, and the first operation's source, or sparse and picks; the integers, the
    first of sparse; the step's stream, and begun, the rows of the batch before the chunk.
    Writes: every operation's Z and result.  May overwrite: these rows of `flat_at`.
    """
    height = plan.height
    flat = plan.flat_at + first * plan.widest
    for r in range(start, end):
        row = table[r]
        operation = row.operation
        number = row.number
        if operation == codes.DENSE:
            if row.sparse:
                sparse_forward(M, row, plan, sparse, picks, flat, first, last)
            else:
                dense_forward(M, row, flat, height, first, last)
        elif operation == codes.DROPOUT:
            if row.sparse:
                drop_entries(M, row, plan, sparse, picks, number, stream, begun, first, last)
            else:
                dropout_forward(M, row, number, height, stream, begun, first, last)
        elif full is not None:
            other_forward(M, row, sparse[0], height, first, last)


@apart
def other_forward(M: Any, row: Any, integers: Any, height: int, first: int, last: int) -> None:
    """Take some rows of a chunk through an operation of a kind that the plain engine leaves out.

    Reads and writes: as `forward`.
    """
    operation, number = row.operation, row.number
    if operation == codes.LAYER_NORM or operation == codes.RMS_NORM:
        norm_forward(M, row, number, height, first, last)
    elif operation == codes.STANDARDIZE:
        standardize_forward(M, row, height, first, last)
    elif operation == codes.PRELU:
        prelu_forward(M, row, height, first, last)
    elif operation == codes.RESIDUAL:
        residual_forward(M, row, height, first, last)
    elif operation == codes.EMBEDDING:
        embedding_forward(M, row, integers, height, first, last)
    elif operation == codes.NUMERIC_EMBEDDING:
        numeric_forward(M, row, integers, height, first, last)
    elif operation == codes.BATCH_NORM:
        normalise_rows(M, row, height, first, last)


@kernel
def slope_of(table: Any, row: Any) -> int:
    """Return the activation whose derivative an operation's backward pass applies."""
    if row.below < 0:
        return codes.IDENTITY
    activation: int = table[row.below].activation
    return activation


@apart
def other_backward(
    M: Any, row: Any, below: Any, slope: int, integers: Any, height: int, first: int, last: int
) -> bool:
    """Take some rows of a chunk back through an operation that the plain engine leaves out.

    Reads and writes: as `backward`.  Returns whether the derivative `slope` is applied too.
    """
    operation = row.operation
    if operation == codes.LAYER_NORM or operation == codes.RMS_NORM:
        norm_backward(M, row, height, first, last)
    elif operation == codes.NUMERIC_EMBEDDING:
        numeric_backward(M, row, integers, height, first, last)
    elif operation == codes.PRELU:
        prelu_backward(M, row, height, first, last)
    elif operation == codes.RESIDUAL:
        residual_backward(M, row, slope, below.result, height, first, last)
    elif operation == codes.BATCH_NORM and not row.whole:
        return_rows(M, row, height, first, last)
    applied: bool = operation == codes.RESIDUAL and slope == codes.RELU and row.plus < 0
    return applied


@kernel
def backward(
    M: Any, table: Any, plan: Any, integers: Any, stream: Any, begun: int, first: int, last: int,
    start: int, end: int, full: Any,
) -> None:  # fmt: skip
    """Walk the table up, from before operation end to start: dZ of some rows of a chunk.

    Reads: what `forward` left and was given, and the last operation's `dresult`.
    Writes: every `dresult`, and what an operation notes for its gradient.
    May overwrite: these rows of `flat_at` and `dflat_at`.
    """
    apart, height = first * plan.widest, plan.height
    flat, dflat = plan.flat_at + apart, plan.dflat_at + apart
    if end == table.shape[0]:
        deactivate_rows(M, table[end - 1], flat, dflat, height, first, last)
    for r in range(end - 1, start - 1, -1):
        row = table[r]
        if row.dsource < 0 and (full is None or row.operation != codes.NUMERIC_EMBEDDING):
            # Nothing that it reads hangs on a parameter that learns.
            continue
        operation, slope = row.operation, slope_of(table, row)
        below = row if row.below < 0 else table[row.below]
        number = row.number
        applied = False
        if operation == codes.DENSE:
            dense_backward(M, row, below, slope, height, first, last)
            applied = not by_rows(slope)
        elif operation == codes.DROPOUT:
            if slope == codes.RELU and row.plus < 0:
                dropped_relu_backward(M, row, number, height, first, last)
                applied = True
            else:
                dropout_backward(M, row, number, height, stream, begun, first, last)
        elif full is not None:
            applied = other_backward(M, row, below, slope, integers, height, first, last)
        if full is not None and row.plus >= 0 and operation != codes.DENSE:
            add_gradient(M, row, height, first, last)
        if slope != codes.IDENTITY and not applied:
            deactivate_rows(M, below, flat, dflat, height, first, last)
