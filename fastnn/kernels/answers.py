"""Predictions: the forward pass of some rows, from the flat vector or from packed weights.

One entry serves any number of rows, in any number of threads.  For very few rows the weights are
streamed in the order in which they lie (`single`), others are computed in register blocks
(`blocks`).  Every sum has the same order as in a fit, so that no bit depends on the number of rows
or threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import entry, kernel
from fastnn.kernels.blocks import TALLEST, copy_rows, rows_times_few, rows_times_strip
from fastnn.kernels.elementwise import activation_forward
from fastnn.kernels.narrow import pack_narrow, row_times_few
from fastnn.kernels.panels import PANEL_BYTES
from fastnn.kernels.parking import clock
from fastnn.kernels.single import FEW_ROWS, few_times_matrix
from fastnn.kernels.subnormals import flush_subnormals, restore_subnormals
from fastnn.kernels.team import add, read
from fastnn.kernels.views import matrix

__all__ = ["SHARE_ROWS", "answer"]

# Rows that go through the network together: their activations between two layers stay in the L2
# cache, and so does the block of weights that they read.
SHARE_ROWS = 64

# The block of the inner index, for more rows than a register block has: the block of the rows stays
# in the L2 cache, a strip of weights in L1.
_DEPTH = 256


@kernel
def apply(M: Any, at: int, rows: int, columns: int, activation: int) -> None:
    """Compute f(Z) in place.

    It is a kernel of its own, so that the activations are compiled only once.

    Reads and writes: a matrix (rows, columns) in M from at.  May overwrite: nothing else.
    """
    Z = matrix(M, at, rows, columns)
    activation_forward(Z, Z, activation)


@kernel
def prepare(table: Any, P: Any, Q: Any) -> None:
    """Pack the weights that are not read in place.

    Reads: table; P (size,).  Writes: in Q, each layer's BIASES, padded to whole vectors, zero where
    it has none; and PACKED: the transpose for a layer of few outputs, else the strips from column
    PACKED_FROM on, the last one padded with zeros.
    """
    panel = PANEL_BYTES // Q.itemsize
    for row in table:
        inputs, outputs, at = row[codes.INPUTS], row[codes.OUTPUTS], row[codes.PACKED]
        if row[codes.B] >= 0:
            copy_rows(Q, row[codes.BIASES], 0, P, row[codes.B], 0, 1, outputs, True)
        if row[codes.NARROW]:
            pack_narrow(Q, at, matrix(P, row[codes.W], inputs, outputs))
            continue
        begin = row[codes.PACKED_FROM]
        for j in range(begin, outputs, panel):
            columns, to = min(panel, outputs - j), at + (j - begin) * inputs
            copy_rows(Q, to, panel, P, row[codes.W] + j, outputs, inputs, columns, True)


@kernel
def product(
    C: Any, c: int, c_pitch: int, A: Any, a: int, a_pitch: int, P: Any, Q: Any, row: Any,
    rows: int, waiting: bool,
) -> None:  # fmt: skip
    """Compute Z = A W + b of some rows, and apply relu where that is the layer's activation.

    With few rows, and weights too large for the L2 cache, the product is bound by memory, and the
    weights are streamed in the order in which they lie.

    Reads: A (rows, inputs) from a; P and Q as in `answer`.  Writes: C (rows, outputs) from c,
    padded to whole vectors; rows are a pitch apart.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // C.itemsize
    inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
    if row[codes.NARROW]:
        rows_times_few(
            C, c, c_pitch, A, a, a_pitch, Q, row[codes.PACKED], row[codes.BIASES], rows, inputs,
            outputs,
        )  # fmt: skip
        return
    if waiting:
        W, b = row[codes.W], row[codes.B]
        few_times_matrix(C, c, c_pitch, A, a, a_pitch, P, W, b, rows, inputs, outputs)
        if row[codes.ACTIVATION] == codes.RELU:
            apply(C, c, rows, c_pitch, row[codes.ACTIVATION])
        return
    begin = row[codes.PACKED_FROM]
    depth = inputs if rows <= TALLEST else _DEPTH
    for k in range(0, inputs, depth):
        deep = min(depth, inputs - k)
        floor = -np.inf
        if k + deep == inputs and row[codes.ACTIVATION] == codes.RELU:
            floor = 0.0
        for j in range(0, outputs, panel):
            S, start, start_pitch = Q, row[codes.BIASES] + j, 0
            if k > 0:
                S, start, start_pitch = C, c + j, c_pitch
            B, b, b_pitch = P, row[codes.W] + k * outputs + j, outputs
            if j >= begin:
                B, b, b_pitch = Q, row[codes.PACKED] + (j - begin) * inputs + k * panel, panel
            vectors = 2 if outputs - j > panel // 2 else 1
            rows_times_strip(
                vectors, C, c + j, c_pitch, A, a + k, a_pitch, B, b, b_pitch, S, start,
                start_pitch, rows, deep, floor,
            )  # fmt: skip


@kernel
def activate(M: Any, row: Any, at: int, spare: int, rows: int) -> None:
    """Compute f(Z) of some rows between two layers, in place.

    Reads and writes: rows of M from at, PITCH apart.  May overwrite: as many from spare on.
    """
    activation, pitch, outputs = row[codes.ACTIVATION], row[codes.PITCH], row[codes.OUTPUTS]
    if activation == codes.SOFTMAX:
        copy_rows(M, spare, outputs, M, at, pitch, rows, outputs, False)
        apply(M, spare, rows, outputs, activation)
        copy_rows(M, at, pitch, M, spare, outputs, rows, outputs, False)
    elif not is_done(row):
        # The padding between the rows is computed too.
        apply(M, at, rows, pitch, activation)


@kernel
def is_done(row: Any) -> bool:
    """Return whether a layer's product applies its activation."""
    activation = row[codes.ACTIVATION]
    return activation == codes.IDENTITY or (activation == codes.RELU and not row[codes.NARROW])


@kernel
def answer_rows(
    table: Any, plan: Any, P: Any, Q: Any, room: Any, x: Any, out: Any, first: int, last: int
) -> None:
    """Compute the predictions for the rows from first to before last; see `answer`."""
    lanes = PANEL_BYTES // room.itemsize // 2
    layers, rows = table.shape[0], last - first
    waiting = rows <= FEW_ROWS and plan[codes.FAR] != 0
    A, a, a_pitch = x, first * table[0, codes.INPUTS], table[0, codes.INPUTS]
    to, other = plan[codes.ROOM], plan[codes.ROOM] + plan[codes.HALF]
    for n in range(layers - 1):
        row = table[n]
        product(room, to, row[codes.PITCH], A, a, a_pitch, P, Q, row, rows, waiting)
        activate(room, row, to, other, rows)
        A, a, a_pitch = room, to, row[codes.PITCH]
        to, other = other, to
    row = table[layers - 1]
    outputs = row[codes.OUTPUTS]
    end = first * outputs
    C, c, c_pitch = out, end, outputs
    through = outputs % lanes != 0 and not row[codes.NARROW]
    if through:
        C, c, c_pitch = room, to, row[codes.PITCH]
    product(C, c, c_pitch, A, a, a_pitch, P, Q, row, rows, waiting)
    if through:
        copy_rows(out, end, outputs, room, to, row[codes.PITCH], rows, outputs, False)
    if not is_done(row):
        apply(out, end, rows, outputs, row[codes.ACTIVATION])


@kernel
def answer_one(table: Any, plan: Any, P: Any, room: Any, x: Any, out: Any) -> None:
    """Compute the prediction for one row, from weights in the flat vector; see `answer`."""
    A, a = x, 0
    to, other = plan[codes.ROOM], plan[codes.ROOM] + plan[codes.HALF]
    for row in table:
        inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
        W, b = row[codes.W], row[codes.B]
        if row[codes.NARROW]:
            row_times_few(room, to, A, a, P, W, b, inputs, outputs)
        else:
            few_times_matrix(room, to, 0, A, a, 0, P, W, b, 1, inputs, outputs)
        # A literal number would specialise, and so compile, a second version of the kernel.
        apply(room, to, x.size // table[0, codes.INPUTS], outputs, row[codes.ACTIVATION])
        A, a = room, to
        to, other = other, to
    # The result may overwrite the row: it is written only after the whole row was read.
    for j in range(out.size):
        out[j] = room[a + j]


@entry
def answer(table: Any, plan: Any, P: Any, room: Any, x: Any, out: Any) -> None:
    """Compute the prediction for each row of x; or, where there is none, pack weights.

    Threads that share the rows call this with the same plan, each with a workspace of its own; each
    takes the next rows that no thread has taken, until there are no more.

    Parameters
    ----------
    table : int64 (layers, codes.TABLE_COLUMNS)
        From `predictor.Table`.
    plan : int64 (codes.ANSWER_ENTRIES,)
        From there too; its NEXT and DONE are written.
    P : (size,)
        The parameters, as in a network's flat vector; or, where the plan says FROZEN, as packed by
        an earlier call.
    room : (elements,)
        Workspace.  What `prepare` packs is written from 0 on, unless it is in P.
    x : (rows * inputs,)
        Read only.
    out : (rows * outputs,)
        Written.
    """
    control = flush_subnormals()
    rows, share = x.size // table[0, codes.INPUTS], plan[codes.SHARE]
    if rows == 1 and not plan[codes.FROZEN]:
        answer_one(table, plan, P, room, x, out)
    else:
        Q = room
        if plan[codes.FROZEN]:
            Q = P
        else:
            prepare(table, P, room)
        first = add(plan, codes.NEXT, share)
        while first < rows:
            last = min(first + share, rows)
            answer_rows(table, plan, P, Q, room, x, out, first, last)
            add(plan, codes.DONE, last - first)
            first = add(plan, codes.NEXT, share)
        if plan[codes.WAIT] > 0:
            # To be woken up takes longer than the rest of the others' last rows, mostly.
            end = clock() + plan[codes.WAIT]
            while read(plan, codes.DONE) < rows and clock() < end:
                pass
    restore_subnormals(control)
