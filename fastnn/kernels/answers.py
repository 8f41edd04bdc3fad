"""Predictions: the forward pass of some rows, from the flat vector or from packed weights.

One entry serves any number of rows, in any number of threads.  For very few rows large weights are
streamed in the order in which they lie (`single`), others are computed in register blocks
(`blocks`), by a tile of the weights that was copied where the caches demand it.  Every sum has the
same order as in a fit, so that no bit depends on the number of rows or threads.

This file is long because rows, layers and weight vectors are divided by one entry, on the same
kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import address_of, entry, kernel
from fastnn.kernels.blocks import copy_rows, rows_times_few, rows_times_strip
from fastnn.kernels.crew import BOARD, finish, left, post, take_part, take_rows, wait_for
from fastnn.kernels.elementwise import activation_forward
from fastnn.kernels.elementwise import by_rows as takes_rows
from fastnn.kernels.halves import product_of_halves
from fastnn.kernels.narrow import pack_narrow, row_times_few
from fastnn.kernels.panels import PANEL_BYTES
from fastnn.kernels.scaling import give_units
from fastnn.kernels.single import few_times_matrix
from fastnn.kernels.subnormals import flush_subnormals, restore_subnormals
from fastnn.kernels.views import array_at, matrix

__all__ = ["SHARE_ROWS", "answer", "machine_code", "tile_elements"]

# Rows that go through the network together: their activations between two layers stay in the L2
# cache, and so does the block of weights that they read.
SHARE_ROWS = 64

# Shares of the rows per thread where several divide them, and rows of the smallest share.
_SHARES = 4
_SMALLEST_SHARE = 8

# The block of the inner index: the block of the rows stays in the L2 cache, and so does a strip of
# weights that was prefetched, whose rows are far from each other and share few sets of it.
_DEPTH = 256

# Columns of a tile of weights, in panels.  Rows of a matrix that are a multiple of a large power of
# two apart share so few sets of the caches that a strip of it does not stay in either of them from
# one block to the next.  A tile is copied and stays in the L2 cache, a strip of it in the L1 cache
# (one layer of 1024 x 1024 on a Zen 3, 64 rows: half the time).
_TILE_PANELS = 8

# The most rows for which a part of each row of weights is streamed.
_STREAMED_IN_PARTS = 3

# Rows of weights that are packed together: each is read from one end to the other, as a processor
# expects it (784-512-512-10, 128 rows: 0.96 of the time).
_PACKED_TOGETHER = 16


def tile_elements(panel: int) -> int:
    """Return how many elements a tile of weights has."""
    return _TILE_PANELS * panel * _DEPTH


@kernel
def apply(M: Any, at: int, rows: int, columns: int, activation: int) -> None:
    """Compute f(Z) in place.

    It is a kernel of its own, so that the activations are compiled only once.

    Reads and writes: a matrix (rows, columns) in M from at.  May overwrite: nothing else.
    """
    Z = matrix(M, at, rows, columns)
    activation_forward(Z, Z, activation)


@kernel
def apply_part(
    M: Any, at: int, rows: int, pitch: int, activation: int, first: int, last: int
) -> None:
    """Compute f(Z) in place of some columns.  Reads and writes: M from at, rows a pitch apart."""
    for r in range(rows):
        apply(M, at + r * pitch + first, 1, last - first, activation)


@kernel
def prepare(table: Any, plan: Any, P: Any, Q: Any, begin: int, rows: int) -> None:
    """Pack the weights that are not read in place, of the layers from `begin` on.

    Reads: table, plan; P (size,).  Writes: in Q, what `prepare_little` does, and PACKED of the
    others unless their weights are streamed.
    """
    if begin == 0:
        prepare_little(table, P, Q)
    for n in range(begin, table.shape[0]):
        row = table[n]
        if not streams(row, plan, rows):
            pack_strips(row, P, Q, row[codes.PACKED_FROM], row[codes.OUTPUTS])


@kernel
def prepare_little(table: Any, P: Any, Q: Any) -> None:
    """Pack biases, and layers of few outputs.

    Reads: table; P (size,).  Writes: in Q, each layer's BIASES, padded to whole vectors, zero where
    it has none, and PACKED of layers of few outputs: the transpose.
    """
    for row in table:
        if row[codes.B] >= 0:
            copy_rows(Q, row[codes.BIASES], 0, P, row[codes.B], 0, 1, row[codes.OUTPUTS], True)
        if row[codes.NARROW]:
            W = matrix(P, row[codes.W], row[codes.INPUTS], row[codes.OUTPUTS])
            pack_narrow(Q, row[codes.PACKED], W)


@kernel
def pack_strips(row: Any, P: Any, Q: Any, first: int, last: int) -> None:
    """Pack the strips of a layer's weights between two columns, from PACKED_FROM on.

    Reads: P (size,).  Writes: in Q, PACKED, the last strip padded with zeros; nothing of a layer of
    few outputs.
    """
    inputs, begin = row[codes.INPUTS], row[codes.PACKED_FROM]
    if row[codes.NARROW] == 0:
        first = max(first, begin)
        copy_strips(row, P, Q, row[codes.PACKED] + (first - begin) * inputs, first, last, 0, inputs)


@kernel
def copy_strips(
    row: Any, P: Any, Q: Any, to: int, first: int, last: int, top: int, deep: int
) -> None:
    """Copy columns of some rows of a layer's weights into strips, one behind the other.

    Reads: P (size,).  Writes: Q from to, the last strip padded with zeros.
    """
    panel, outputs = PANEL_BYTES // Q.itemsize, row[codes.OUTPUTS]
    for k in range(0, deep, _PACKED_TOGETHER):
        count = min(_PACKED_TOGETHER, deep - k)
        W = row[codes.W] + (top + k) * outputs
        for j in range(first, last, panel):
            columns, strip = min(panel, outputs - j), to + (j - first) * deep
            copy_rows(Q, strip + k * panel, panel, P, W + j, outputs, count, columns, True)


@kernel
def product(
    C: Any, c: int, c_pitch: int, A: Any, a: int, a_pitch: int, P: Any, Q: Any, row: Any,
    plan: Any, room: Any, rows: int, first: int, last: int,
) -> None:  # fmt: skip
    """Compute columns of Z = A W + b of some rows, and apply relu where that is the activation.

    With few rows, and weights too large for the L2 cache, the product is bound by memory, and the
    weights are streamed in the order in which they lie.

    Reads: A (rows, inputs) from a; P and Q as in `answer`; plan.  P is None where all weights lie
    in Q, as halves, but for those of few outputs.  Writes: C (rows, outputs) from c, from column
    first, where a strip begins, to before last; padded to whole vectors; rows are a pitch apart.
    All columns of a layer of few outputs.  May overwrite: this thread's TILE in room.
    """
    inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
    if row[codes.NARROW]:
        rows_times_few(
            C, c, c_pitch, A, a, a_pitch, Q, row[codes.PACKED], row[codes.BIASES], rows, inputs,
            outputs,
        )  # fmt: skip
    elif P is None:
        product_of_halves(C, c, c_pitch, A, a, a_pitch, Q, row, rows, first, last)
    elif streams(row, plan, rows):
        W, b = row[codes.W] + first, row[codes.B]
        b = b + first if b >= 0 else b
        few_times_matrix(
            C, c + first, c_pitch, A, a, a_pitch, P, W, outputs, b, rows, inputs, last - first
        )
        if row[codes.ACTIVATION] == codes.RELU:
            apply_part(C, c, rows, c_pitch, row[codes.ACTIVATION], first, last)
    elif row[codes.TILED] < 0 or rows < row[codes.TILED]:
        for k in range(0, inputs, _DEPTH):
            product_of_strips(C, c, c_pitch, A, a, a_pitch, P, Q, row, rows, first, last, k, Q, -1)
    else:
        tile = plan[codes.TILE]
        if plan[codes.BY_COLUMNS]:
            tile += plan[codes.NUMBER] * plan[codes.STRIDE]
        wide = _TILE_PANELS * PANEL_BYTES // C.itemsize
        for j in range(first, last, wide):
            end = min(j + wide, last)
            for k in range(0, inputs, _DEPTH):
                copy_strips(row, P, room, tile, j, end, k, min(_DEPTH, inputs - k))
                product_of_strips(
                    C, c, c_pitch, A, a, a_pitch, P, Q, row, rows, j, end, k, room, tile
                )


@kernel
def product_of_strips(
    C: Any, c: int, c_pitch: int, A: Any, a: int, a_pitch: int, P: Any, Q: Any, row: Any,
    rows: int, first: int, last: int, k: int, room: Any, tile: int,
) -> None:  # fmt: skip
    """Add a block of the inner index, from k on, to columns of Z = A W + b; see `product`.

    The strips lie in room from tile on, unless it is negative.
    """
    panel = PANEL_BYTES // C.itemsize
    inputs, outputs, begin = row[codes.INPUTS], row[codes.OUTPUTS], row[codes.PACKED_FROM]
    deep = min(_DEPTH, inputs - k)
    floor = -np.inf
    if k + deep == inputs and row[codes.ACTIVATION] == codes.RELU:
        floor = 0.0
    for j in range(first, last, panel):
        S, start, start_pitch = Q, row[codes.BIASES] + j, 0
        if k > 0:
            S, start, start_pitch = C, c + j, c_pitch
        B, b, b_pitch = P, row[codes.W] + k * outputs + j, outputs
        if tile >= 0:
            B, b, b_pitch = room, tile + (j - first) * deep, panel
        elif j >= begin:
            B, b, b_pitch = Q, row[codes.PACKED] + (j - begin) * inputs + k * panel, panel
        vectors = 2 if outputs - j > panel // 2 else 1
        rows_times_strip(
            vectors, C, c + j, c_pitch, A, a + k, a_pitch, B, b, b_pitch, S, start, start_pitch,
            rows, deep, floor,
        )  # fmt: skip


@kernel
def activate(M: Any, row: Any, at: int, spare: int, rows: int) -> None:
    """Compute f(Z) of some rows between two layers, in place.

    Reads and writes: rows of M from at, PITCH apart.  May overwrite: as many from spare on.
    """
    activation, pitch, outputs = row[codes.ACTIVATION], row[codes.PITCH], row[codes.OUTPUTS]
    if takes_rows(activation):
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
    table: Any, plan: Any, P: Any, Q: Any, room: Any, x: Any, out: Any, first: int, last: int,
    begin: int,
) -> None:  # fmt: skip
    """Compute the predictions for the rows from first to before last; see `answer`.

    The layers before `begin` are computed already; their result lies where they would have left it.
    """
    lanes = PANEL_BYTES // room.itemsize // 2
    layers, rows = table.shape[0], last - first
    end = first * table[layers - 1, codes.OUTPUTS]
    for n in range(begin, layers):
        row = table[n]
        A, a, a_pitch = source_of(table, plan, room, x, first, n)
        C, c, c_pitch = room, place_of(plan, n), row[codes.PITCH]
        if n == layers - 1 and (row[codes.OUTPUTS] % lanes == 0 or row[codes.NARROW]):
            C, c, c_pitch = out, end, row[codes.OUTPUTS]
        outputs = row[codes.OUTPUTS]
        product(C, c, c_pitch, A, a, a_pitch, P, Q, row, plan, room, rows, 0, outputs)
        if n < layers - 1:
            activate(room, row, c, place_of(plan, n + 1), rows)
    row = table[layers - 1]
    outputs = row[codes.OUTPUTS]
    if begin == layers or not (outputs % lanes == 0 or row[codes.NARROW]):
        place = place_of(plan, layers - 1)
        copy_rows(out, end, outputs, room, place, row[codes.PITCH], rows, outputs, False)
    if not is_done(row):
        apply(out, end, rows, outputs, row[codes.ACTIVATION])
    if plan[codes.UNITS]:
        give_units(out, end, rows, outputs, array_at(out, plan[codes.UNITS], 2 * outputs, 0))


@kernel
def streams(row: Any, plan: Any, rows: int) -> bool:
    """Return whether a layer is computed by streaming the weights, for so few rows.

    Where outputs are divided, a thread reads a part of each row of weights, and streaming pays for
    three rows at the most (on two cores of a Zen 3, 4 rows: 784-512-512-10 takes 1.3 times as long,
    256-1024-1024-10 1.5 times).
    """
    most = row[codes.STREAMED]
    if plan[codes.BY_COLUMNS]:
        most = min(most, _STREAMED_IN_PARTS)
    streamed: bool = rows <= most
    return streamed


@kernel
def place_of(plan: Any, layer: int) -> int:
    """Return where a layer's result lies in the room."""
    place: int = plan[codes.ROOM] + layer % 2 * plan[codes.HALF]
    return place


@kernel
def source_of(
    table: Any, plan: Any, room: Any, x: Any, first: int, layer: int
) -> tuple[Any, int, int]:
    """Return what a layer reads for the rows from `first` on, where it begins, and its pitch."""
    if layer == 0:
        inputs = table[0, codes.INPUTS]
        return x, first * inputs, inputs
    return room, place_of(plan, layer - 1), table[layer - 1, codes.PITCH]


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
            few_times_matrix(room, to, 0, A, a, 0, P, W, outputs, b, 1, inputs, outputs)
        apply(room, to, 1, outputs, row[codes.ACTIVATION])
        A, a = room, to
        to, other = other, to
    # The result may overwrite the row: it is written only after the whole row was read.
    for j in range(out.size):
        out[j] = room[a + j]
    if plan[codes.UNITS]:
        numbers = array_at(room, plan[codes.UNITS], 2 * out.size, 0)
        give_units(out, out.size - out.size, x.size // table[0, codes.INPUTS], out.size, numbers)


@kernel
def answer_part(
    table: Any, plan: Any, P: Any, Q: Any, room: Any, x: Any, layer: int, part: int
) -> None:
    """Compute some outputs of a layer for all rows, one part of as many as the team has threads."""
    row, rows, size = table[layer], plan[codes.ROWS], plan[codes.TEAM]
    panel, outputs = PANEL_BYTES // room.itemsize, row[codes.OUTPUTS]
    strips = (outputs + panel - 1) // panel
    first = (part * strips + size - 1) // size * panel
    last = min(((part + 1) * strips + size - 1) // size * panel, outputs)
    if P is not None and not (plan[codes.FROZEN] or streams(row, plan, rows)):
        pack_strips(row, P, Q, first, last)
    A, a, a_pitch = source_of(table, plan, room, x, 0, layer)
    c, pitch = place_of(plan, layer), row[codes.PITCH]
    product(room, c, pitch, A, a, a_pitch, P, Q, row, plan, room, rows, first, last)
    if layer < table.shape[0] - 1 and not is_done(row):
        apply_part(room, c, rows, pitch, row[codes.ACTIVATION], first, last)


@kernel
def by_columns(
    board: Any, job: int, table: Any, plan: Any, P: Any, Q: Any, room: Any, x: Any
) -> None:
    """Compute what there is to take of the layers whose outputs are divided.

    Each thread begins with a part of its own, the same in every call, so that the weights stay in
    its core's cache.
    """
    team, number = plan[codes.TEAM], plan[codes.NUMBER]
    for layer in range(plan[codes.PHASES]):
        for turn in range(team):
            part = (number + turn) % team
            if take_part(board, job, layer, part):
                answer_part(table, plan, P, Q, room, x, layer, part)
                left(board, layer, 1)
        plan[codes.WAITED] += wait_for(board, job, layer, team)


@kernel
def by_rows(
    board: Any, job: int, table: Any, plan: Any, P: Any, Q: Any, room: Any, x: Any, out: Any,
    rows: int, begin: int,
) -> None:  # fmt: skip
    """Compute the layers from `begin` on for the rows that there are to take.

    These are all where there is no job, or where other layers were computed by columns.
    """
    shared = job != 0 and begin == 0
    share = plan[codes.TAKEN] if shared else plan[codes.SHARE]
    first = take_rows(board, job, share, rows) if shared else 0
    if P is not None and first < rows and plan[codes.FROZEN] == 0:
        prepare(table, plan, P, Q, begin, rows)
    while first < rows:
        last = min(first + share, rows)
        answer_rows(table, plan, P, Q, room, x, out, first, last, begin)
        if shared:
            left(board, 0, last - first)
            last = take_rows(board, job, share, rows)
        first = last


@kernel
def take_all(
    board: Any, job: int, table: Any, plan: Any, P: Any, Q: Any, room: Any, x: Any, out: Any,
    rows: int,
) -> None:  # fmt: skip
    """Compute what there is to take: outputs of wide layers where these are divided, then rows.

    The asking thread waits for what others have taken, and gives the helpers back.
    """
    helping, begin = plan[codes.NUMBER] > 0, 0
    if job != 0 and plan[codes.BY_COLUMNS]:
        by_columns(board, job, table, plan, P, Q, room, x)
        begin = plan[codes.PHASES]
        if not helping:
            finish(board)
    if not helping or begin == 0:
        by_rows(board, job, table, plan, P, Q, room, x, out, rows, begin)
        if job != 0 and begin == 0 and not helping:
            plan[codes.WAITED] = wait_for(board, job, 0, rows)
            finish(board)


@kernel
def divide(plan: Any, rows: int) -> None:
    """Decide what threads divide, and how.  Writes: plan."""
    plan[codes.ROWS], plan[codes.WAITED] = rows, 0
    if plan[codes.VECTORS] > 0:
        plan[codes.BY_COLUMNS] = 0
        plan[codes.TAKEN] = max(1, plan[codes.VECTORS] // (plan[codes.TEAM] * _SHARES))
        return
    plan[codes.BY_COLUMNS] = rows <= plan[codes.SHARE] and plan[codes.PHASES] > 0
    # Several shares per thread, so that they end at about the same time; but one where each share
    # begins by copying weights.
    parts = plan[codes.TEAM] * (_SHARES if plan[codes.TILE] < 0 else 1)
    plan[codes.TAKEN] = min(max((rows + parts - 1) // parts, _SMALLEST_SHARE), plan[codes.SHARE])


@kernel
def answer_vector(table: Any, plan: Any, P: Any, room: Any, x: Any, out: Any, rows: int) -> None:
    """Compute the predictions of one of several weight vectors; see `answer`."""
    inputs, outputs = table[0, codes.INPUTS], out.size // rows
    if plan[codes.ONE_BY_ONE]:
        for r in range(rows):
            row, result = x[r * inputs : (r + 1) * inputs], out[r * outputs : (r + 1) * outputs]
            answer_one(table, plan, P, room, row, result)
        return
    prepare(table, plan, P, room, 0, rows)
    for first in range(0, rows, plan[codes.SHARE]):
        last = min(first + plan[codes.SHARE], rows)
        answer_rows(table, plan, P, room, room, x, out, first, last, 0)


@kernel
def by_vectors(
    board: Any, job: int, table: Any, plan: Any, P: Any, room: Any, x: Any, out: Any
) -> None:
    """Compute the predictions of the weight vectors that there are to take; see `answer`.

    Rows are the same for all vectors, or each has as many of its own.
    """
    vectors = plan[codes.VECTORS]
    size, results = P.size // vectors, out.size // vectors
    top = table[table.shape[0] - 1]
    rows = results // top[codes.OUTPUTS]
    given = rows * table[0, codes.INPUTS]
    apart = given if x.size > given else 0
    share = plan[codes.TAKEN] if job != 0 else vectors
    first = take_rows(board, job, share, vectors) if job != 0 else 0
    while first < vectors:
        last = min(first + share, vectors)
        for k in range(first, last):
            answer_vector(
                table, plan, P[k * size : (k + 1) * size], room,
                x[k * apart : k * apart + given], out[k * results : (k + 1) * results], rows,
            )  # fmt: skip
        if job != 0:
            left(board, 0, last - first)
            last = take_rows(board, job, share, vectors)
        first = last


@entry
def answer(table: Any, plan: Any, P: Any, room: Any, x: Any, out: Any) -> None:
    """Compute the prediction for each row of x; or, where there is none, pack weights.

    Where the plan has VECTORS, so many weight vectors lie in P one behind the other, their results
    in out, and the rows of each in x, or one set of rows for all.

    Where the plan has a board, helpers take part, which are called with the same arguments, but a
    copy of the plan and, where they divide rows, a room of their own.  A helper touches nothing but
    its plan and the board before it has taken something; see `crew`.

    Parameters
    ----------
    table : int64 (layers, codes.TABLE_COLUMNS)
        From `predictor.Table`.
    plan : int64 (codes.ANSWER_ENTRIES,)
        From there too; written only where it has a board.
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
    helping, job = plan[codes.NUMBER] > 0, plan[codes.JOB]
    board = array_at(plan, plan[codes.BOARD], BOARD, 0)
    vectors = plan[codes.VECTORS]
    rows = plan[codes.ROWS] if helping else max(x.size // table[0, codes.INPUTS], vectors)
    Q = P if plan[codes.FROZEN] else room
    if plan[codes.BOARD] != 0 and not helping:
        if vectors == 0 and plan[codes.FROZEN] == 0:
            prepare_little(table, P, Q)
        divide(plan, rows)
        job = post(board, table, plan, P, room, x, out)
    if vectors > 0:
        by_vectors(board, job, table, plan, P, room, x, out)
        if job != 0 and not helping:
            plan[codes.WAITED] = wait_for(board, job, 0, vectors)
            finish(board)
        restore_subnormals(control)
        return
    if rows == 0 and not helping:
        prepare(table, plan, P, Q, 0, plan[codes.SHARE])
    elif rows == 1 and plan[codes.FROZEN] == 0 and job == 0:
        answer_one(table, plan, P, room, x, out)
    else:
        take_all(board, job, table, plan, P, Q, room, x, out, rows)
    restore_subnormals(control)


def machine_code(*arguments: Any) -> int:
    """Return where the code of `answer` for such arguments lies, once it is compiled; else 0."""
    return address_of(answer, arguments)
