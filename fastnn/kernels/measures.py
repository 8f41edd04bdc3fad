"""What an epoch records beside its loss: metrics of training and validation examples, counted here.

Whatever is counted of examples is a sum over them.  It is summed in float64, for each tile of rows
by the thread that has computed it, then over the tiles in their order, so that no bit depends on
the number of threads.  Training examples are counted in the passes that training makes.  Validation
examples go through the network when an epoch has ended, by weights that are in panels already, in
room of their own that is as large as their number deserves.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import apart, kernel
from fastnn.kernels.chunk import batch_weight, row_losses, take_rows
from fastnn.kernels.counts import count_errors, count_hits, count_logs
from fastnn.kernels.elementwise import activation_forward
from fastnn.kernels.figures import finish_values
from fastnn.kernels.micro_kernels import BATCH_ROWS
from fastnn.kernels.panels import PANEL_BYTES, unpack
from fastnn.kernels.passes import forward
from fastnn.kernels.team import barrier
from fastnn.kernels.views import array_at, matrix, rows_apart

__all__ = ["add_tallies", "close_epoch", "count_rows", "tiles_in"]


@kernel
def tiles_in(plan: Any, rows: int) -> int:
    """Return how many tiles there are in so many rows of a batch, taken in chunks."""
    whole = rows // plan.chunk
    left = rows - whole * plan.chunk
    tiles = plan.height // BATCH_ROWS
    found: int = whole * tiles + (left + BATCH_ROWS - 1) // BATCH_ROWS
    return found


@apart
def count_rows(
    M: Any, top: Any, plan: Any, sums: Any, at: int, picks: Any, labels: Any, values: Any,
    weights: Any, first: int, last: int,
) -> None:  # fmt: skip
    """Count some rows of a chunk, from a tile's first row on.

    Reads: the last operation's result, or `flat_at` where `row_losses` left it; picks, labels or
    values, weights.  Writes: in sums, a line for each tile, those of the chunk from `at`. May
    overwrite: these rows of `flat_at`.
    """
    panel = PANEL_BYTES // M.itemsize
    outputs, width = top.outputs, plan.tally
    line = at + first // BATCH_ROWS * width
    for n in range(line, line + (last - first + BATCH_ROWS - 1) // BATCH_ROWS * width):
        sums[n] = 0.0
    flat = plan.flat_at + first * plan.widest
    start, pitch = flat, outputs
    if outputs <= panel:
        start, pitch = top.result + first * panel, panel
    chosen, kind = picks[first:last], plan.counted
    hitting = kind & (codes.PLACES | codes.SIDES | codes.ALL_SIDES | codes.RANKS) != 0
    S = rows_apart(M, start, last - first, outputs, pitch)
    if hitting and not kind & codes.FINISHED:
        count_hits(S, plan, sums, line, chosen, labels, values, weights)
    if kind & (codes.ERRORS | codes.LOGS | codes.FINISHED) and plan.finish != codes.IDENTITY:
        A = matrix(M, flat, last - first, outputs)
        if outputs <= panel:
            unpack(A, M, start, plan.height)
        activation_forward(A, A, plan.finish)
        S = rows_apart(M, flat, last - first, outputs, outputs)
    if hitting and kind & codes.FINISHED:
        count_hits(S, plan, sums, line, chosen, labels, values, weights)
    if kind & codes.ERRORS:
        count_errors(S, plan, sums, line, chosen, labels, values, weights)
    if kind & codes.LOGS:
        count_logs(S, plan, sums, line, chosen, labels, values, weights)


@kernel
def add_tallies(sums: Any, to: int, at: int, tiles: int, width: int) -> None:
    """Add lines of tiles, in their order, to a line of sums.

    Reads: the lines from `at`.  Writes: the line at `to`.  May overwrite: nothing else.
    """
    for t in range(tiles):
        for k in range(width):
            sums[to + k] += sums[at + t * width + k]


@kernel
def held_examples(plan: Any, known: Any) -> Any:
    """Return X, labels, values and weights of validation examples, of these types."""
    X, labels, values, weights = known
    n = plan.held_examples
    return (
        array_at(X, plan.x_at, n, X.shape[1]),
        array_at(labels, plan.labels_at, n if plan.labels_at else 0, 1),
        array_at(values, plan.values_at, n if plan.values_at else 0, plan.targets),
        array_at(weights, plan.weights_at, n if plan.weights_at else 0, 1),
    )


@kernel
def count_held(
    M: Any, table: Any, plan: Any, sums: Any, sparse: Any, picks: Any, held: Any, order: Any,
    key: Any, place: int, size: int, full: Any,
) -> None:  # fmt: skip
    """Take a thread's share of the validation examples through the network.

    Every thread has rows of the room to itself, and goes through its share of the examples with
    them, so that none waits for another.

    Reads: held; their table and plan.  Writes: in sums, the examples' part of `held_losses`, and
    lines of the tiles that they are in.  May overwrite: this thread's rows of their room.
    """
    X, labels, values, weights = held
    examples, room = X.shape[0], plan.height // BATCH_ROWS
    low, high = room * place // size, room * (place + 1) // size
    tiles = (examples + BATCH_ROWS - 1) // BATCH_ROWS
    begin, end = tiles * low // room, tiles * high // room
    operations, top = table[: plan.table_rows], table[plan.table_rows - 1]
    total = batch_weight(weights, order, 0, examples)
    width = plan.tally
    first = low * BATCH_ROWS
    for tile in range(begin, end, max(high - low, 1)):
        start = tile * BATCH_ROWS
        rows = min((high - low) * BATCH_ROWS, min(end * BATCH_ROWS, examples) - start)
        last = first + rows
        take_rows(M, table, plan, sparse, picks, X, order, start - first, first, last)
        forward(
            M, operations, plan, sparse, picks, key, 0, first, last, 0, plan.table_rows, full
        )  # fmt: skip
        row_losses(M, top, plan, picks, labels, values, weights, total, first, last)
        for i in range(first, last):
            to = plan.held_losses + 2 * picks[i]
            sums[to] = M[plan.shares + i]
            sums[to + 1] = M[plan.losses + i]
        if plan.counted:
            at = plan.held_tallies + (tile - low) * width
            count_rows(M, top, plan, sums, at, picks, labels, values, weights, first, last)


@kernel
def held_loss(M: Any, plan: Any, sums: Any, held: Any, order: Any) -> float:
    """Return the mean loss of the validation examples, of what `count_held` left of each.

    Sums have the order and the precision of a call of their own; see `chunk_loss`.
    """
    examples, chunk = held[0].shape[0], plan.chunk
    factor = float(plan.loss_scale / plan.gradient_scale)
    total = 0.0
    for start in range(0, examples, chunk):
        part = 0.0
        for i in range(start, min(start + chunk, examples)):
            at = plan.held_losses + 2 * i
            share, loss = M.dtype.type(sums[at]), M.dtype.type(sums[at + 1])
            if share != 0.0:
                part += share * loss
        total += part * factor
    counted = float(examples)
    if not plan.by_examples:
        counted = batch_weight(held[3], order, 0, examples)
    return total * counted / counted


@kernel
def watch(M: Any, plan: Any, report: Any, here: Any) -> None:
    """Keep the weights where the watched value is the best so far; stop where it is no better.

    Reads: here; packed weights and biases.  Writes: the report; in M, `best`.
    """
    value = plan.sign * here.values[plan.watches_held, plan.watched]
    if value < report.best_value:
        report.best_value = value
        if plan.best >= 0:
            for k in range(plan.state):
                M[plan.best + k] = M[k]
    if value < report.to_beat - plan.min_delta:
        report.to_beat = value
        report.waited = 0
    else:
        report.waited += 1
        if report.waited >= plan.patience:
            report.stopped = 1


@apart
def close_epoch(
    M: Any, tables: Any, plans: Any, sums: Any, report: Any, here: Any, sparse: Any, picks: Any,
    known: Any, order: Any, signals: Any, place: int, size: int, full: Any,
) -> None:  # fmt: skip
    """Measure at the end of an epoch, after a barrier behind its last step.

    Reads: validation examples, of the training examples' types; what was counted in the epoch, in
    sums.  Writes: here, the epoch's record; the report; sums.
    May overwrite: the room of the validation examples.
    """
    plan, beside = plans[0], plans[plans.shape[0] - 1]
    nobody = order[:0]
    width = plan.tally
    examples = plan.held_examples
    held = held_examples(plan, known)
    if examples:
        count_held(
            M, tables[tables.shape[0] - 1], beside, sums, sparse, picks, held, nobody,
            plan.mask_key, place, size, full,
        )  # fmt: skip
        barrier(signals, size)
    if place == 0:
        values = here.values[0]
        values[codes.LOSS_VALUE] = here.loss_sum / here.weight_sum
        finish_values(values, plan, sums, plan.counts_so_far, plan.figures)
        if examples:
            values = here.values[1]
            values[codes.LOSS_VALUE] = held_loss(M, beside, sums, held, nobody)
            tiles = (examples + BATCH_ROWS - 1) // BATCH_ROWS
            whole = plan.held_tallies + tiles * width
            for k in range(whole, whole + width):
                sums[k] = 0.0
            add_tallies(sums, whole, plan.held_tallies, tiles, width)
            figures = plan.figures + 1 + plan.targets
            finish_values(values, plan, sums, whole, figures)
        if plan.watching:
            watch(M, plan, report, here)
    if plan.watching:
        barrier(signals, size)
