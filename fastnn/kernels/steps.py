"""A step: a batch through the network and back, its gradient summed, and the update applied.

There are three ways through.  A batch of one chunk is *fused*: each tile of a gradient is computed,
applied and dropped.  With several chunks, or where a norm is needed first, the gradient
is *kept* and applied when it is whole; the last chunk is fused with the update where it may be.
Where a batch has many chunks and the weights are few, threads divide *groups* of chunks, each of
which sums a gradient of its own.  Which way it goes, and the order of all sums, depend on the shape
alone, so that no result depends on the number of threads, nor on when the team shrinks: between two
barriers rows and tiles are divided anew.

Summing and applying can be asked for apart, so that gradients of several processes can be added
between them: mode GRADIENT keeps the gradient of all examples, mode APPLY takes one that is given.

The barriers of a step, each passed by all threads of the team (`team`):

==============================  =====================================================  ===========
between                         what it separates                                      how often
==============================  =====================================================  ===========
`pass_rows`, sums               rows' results and gradients, from the tiles that        per chunk
                                read all rows of the chunk
rows, panels, rows              rows' results, from the panels of an operation that     twice per
                                reads all rows of the batch, and these from the rows    phase, down
                                of the next phase (`phases`)                            and up
sums or update, next rows       tiles written, from rows that read weights, and the     per chunk
                                chunk's results from those of the next one
`pass_groups`, what finishes    the groups' gradients, losses and counts, from their    per step,
                                sums                                                   grouped
finished tiles, their norm      squares of the tiles, from the sum over all of them     per step,
                                                                                       clipped
update, the next step           weights and moments, from rows that read them           per step,
                                                                                       kept
==============================  =====================================================  ===========

Beside these, an epoch begins with two where it draws an order (`epoch.begin_epoch`), and ends with
those of `measures.close_epoch`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import kernel, phase
from fastnn.kernels.chunk import chunk_loss, hand_out, row_losses, take_rows
from fastnn.kernels.measures import add_tallies, count_rows, tiles_in
from fastnn.kernels.micro_kernels import BATCH_ROWS
from fastnn.kernels.panels import PANEL_BYTES
from fastnn.kernels.passes import backward, forward
from fastnn.kernels.phases import pass_phases
from fastnn.kernels.spans import (
    finish_spans,
    step_one_span,
    step_spans,
    sum_one_span,
    sum_spans,
)
from fastnn.kernels.team import barrier, flag, raise_flag, team_size
from fastnn.kernels.tiles import finish_tiles, step_tiles, sum_tiles, tiles_before, tiles_of

__all__ = ["take_step", "tiles_for"]


@kernel
def sum_of(numbers: Any) -> float:
    """Return the sum of numbers, in their order."""
    total = 0.0
    for number in numbers:
        total += number
    return total


@kernel
def tiles_for(M: Any, table: Any, plan: Any, place: int, size: int) -> tuple[int, int]:
    """Return the first and the one past the last of a thread's tiles of weight gradients."""
    if table[table.shape[0] - 1].dresult < 0:
        return 0, 0
    panel = PANEL_BYTES // M.itemsize
    return (
        tiles_before(table, plan, panel, place, size),
        tiles_before(table, plan, panel, place + 1, size),
    )


@kernel
def sum_chunk(
    M: Any, table: Any, plan: Any, sparse: Any, rows: int, low: int, high: int, group: int,
    starting: bool, full: Any,
) -> None:  # fmt: skip
    """Add a chunk's part of the tiles from low to before high to a gradient; see `sum_tiles`."""
    for r in range(table.shape[0]):
        begin, end = tiles_of(table, plan, r)
        first, last = max(begin, low) - begin, min(end, high) - begin
        if table[r].form == codes.MATRIX:
            sum_tiles(M, table[r], plan, sparse, rows, first, last, group, starting)
        elif full is not None:
            if table[r].form == codes.SPANS:
                sum_spans(M, table[r], plan, rows, first, last, group, starting)
            elif table[r].form == codes.ONE_SPAN:
                sum_one_span(M, table[r], plan, sparse[0], rows, first, last, group, starting)


@kernel
def finish_gradient(
    M: Any, table: Any, share: float, plan: Any, sums: Any, low: int, high: int, groups: int,
    full: Any,
) -> None:  # fmt: skip
    """Finish the tiles of the gradient from low to before high; see `finish_tiles`."""
    for r in range(table.shape[0]):
        begin, end = tiles_of(table, plan, r)
        first, last = max(begin, low) - begin, min(end, high) - begin
        if table[r].form == codes.MATRIX:
            l2, l1 = M.dtype.type(table[r].l2 * share), table[r].l1 * share
            finish_tiles(M, table[r], plan, sums, l2, l1, first, last, groups, full)
        elif full is not None and table[r].form != codes.NO_PARAMETERS:
            finish_spans(M, table[r], plan, sums, first, last, groups)


@kernel
def step_chunk(
    M: Any, table: Any, share: float, plan: Any, sparse: Any, sums: Any, scale: float, rows: int,
    low: int, high: int, tile: int, starting: bool, kept: bool, full: Any,
) -> int:  # fmt: skip
    """Update the tiles from low to before high, with room for one; see `step_tiles`."""
    broken = 0
    for r in range(table.shape[0]):
        begin, end = tiles_of(table, plan, r)
        first, last = max(begin, low) - begin, min(end, high) - begin
        factor = M.dtype.type(scale)
        if table[r].form == codes.MATRIX:
            # A gradient that was kept includes those of L1 and L2.
            l2 = M.dtype.type(0.0 if kept else table[r].l2 * share)
            l1 = 0.0 if kept else table[r].l1 * share
            broken += step_tiles(
                M, table[r], plan, sparse, sums, l2, l1, factor, rows, first, last, tile, starting,
                kept, full,
            )  # fmt: skip
        elif full is not None:
            if table[r].form == codes.SPANS:
                broken += step_spans(
                    M, table[r], plan, factor, rows, first, last, tile, starting, kept
                )
            elif table[r].form == codes.ONE_SPAN:
                broken += step_one_span(
                    M, table[r], plan, sparse[0], factor, rows, first, last, tile, starting, kept
                )
    return broken


@phase
def pass_rows(
    M: Any, table: Any, plan: Any, sums: Any, sparse: Any, picks: Any, known: Any, order: Any,
    out: Any, stream: Any, total: float, start: int, begun: int, at: int, low: int, high: int,
    full: Any,
) -> None:  # fmt: skip
    """Take some rows of a chunk through the network and back.

    The chunk begins with example `start` of the order, which is row `begun` of its batch.

    Reads: their examples; packed weights.  Writes: every operation's result and gradient of these
    rows; their losses and shares; their examples' rows of out if it has any; what is counted of
    them, the chunk's tiles from `at` in sums.  May overwrite: these rows of the scratch.
    """
    X, labels, values, weights = known
    top = table[table.shape[0] - 1]
    take_rows(M, table, plan, sparse, picks, X, order, start, low, high)
    operations = table.shape[0]
    forward(M, table, plan, sparse, picks, stream, begun, low, high, 0, operations, full)
    if out.size:
        hand_out(out, M, top.result, plan.height, picks, low, high)
    if plan.loss == codes.NO_LOSS:
        return
    row_losses(M, top, plan, picks, labels, values, weights, total, low, high)
    if plan.counted and plan.mode == codes.TRAIN:
        count_rows(M, top, plan, sums, at, picks, labels, values, weights, low, high)
    if top.dresult >= 0:
        backward(M, table, plan, sparse[0], stream, begun, low, high, 0, operations, full)


@phase
def pass_groups(
    M: Any, table: Any, plan: Any, sums: Any, sparse: Any, picks: Any, known: Any, order: Any,
    out: Any, stream: Any, total: float, first: int, last: int, groups: int, signals: Any,
    place: int, size: int, full: Any,
) -> float:  # fmt: skip
    """Sum the gradients of the groups of chunks that are this thread's; return the batch's loss.

    Reads: everything of the batch from first to before last, with the thread's own table and plan.
    Writes: the groups' gradients, the chunks' losses and what is counted of them in sums.
    May overwrite: this thread's activations, picks, `losses` and `shares`.
    """
    chunk, tally = plan.chunk, plan.tally
    chunks = (last - first + chunk - 1) // chunk
    for group in range(groups * place // size, groups * (place + 1) // size):
        beginning = chunks * group // groups
        for c in range(beginning, chunks * (group + 1) // groups):
            start = first + c * chunk
            rows = min(chunk, last - start)
            at = plan.tallies + tiles_in(plan, c * chunk) * tally
            pass_rows(
                M, table, plan, sums, sparse, picks, known, order, out, stream, total, start,
                start - first, at, 0, rows, full,
            )  # fmt: skip
            sums[2 * plan.unit_count + c] = chunk_loss(M, plan, rows)
            sum_chunk(M, table, plan, sparse, rows, 0, plan.unit_count, group, c == beginning, full)
    barrier(signals, size)
    if plan.counted and plan.mode == codes.TRAIN and place == 0:
        tiles = tiles_in(plan, last - first)
        add_tallies(sums, plan.counts_so_far, plan.tallies, tiles, tally)
    return sum_of(sums[2 * plan.unit_count :][:chunks])


@phase
def pass_chunks(
    M: Any, table: Any, plan: Any, sums: Any, sparse: Any, picks: Any, known: Any, order: Any,
    out: Any, stream: Any, total: float, share: float, first: int, last: int, kept: bool,
    signals: Any, place: int, size: int, low_tile: int, high_tile: int, full: Any,
) -> tuple[float, int, int, int]:  # fmt: skip
    """Take a batch through in chunks that the threads share; return its loss.

    Each chunk's part is added to the gradient; the last one's is applied at once, unless the
    gradient is to be kept.

    Reads: everything of the batch from first to before last.  Writes: as `pass_rows`; the gradient,
    or weights and moments.  Returns too: the team's size, and this thread's tiles.
    """
    training = plan.mode == codes.TRAIN
    learning = table[table.shape[0] - 1].dresult >= 0
    tile = plan.tiles + place * plan.tile_size
    loss = 0.0
    for start in range(first, last, plan.chunk):
        rows = min(plan.chunk, last - start)
        tiles = (rows + BATCH_ROWS - 1) // BATCH_ROWS
        low = tiles * place // size * BATCH_ROWS
        high = min(tiles * (place + 1) // size * BATCH_ROWS, rows)
        if full is None or not plan.phased:
            pass_rows(
                M, table, plan, sums, sparse, picks, known, order, out, stream, total, start,
                start - first, plan.tallies, low, high, full,
            )  # fmt: skip
        else:
            pass_phases(
                M, table, plan, sums, sparse, picks, known, order, out, stream, total, start, rows,
                low, high, signals, place, size,
            )  # fmt: skip
        barrier(signals, size)
        if plan.loss != codes.NO_LOSS:
            loss += chunk_loss(M, plan, rows)
            if training and plan.counted and place == 0:
                to, at = plan.counts_so_far, plan.tallies
                add_tallies(sums, to, at, tiles_in(plan, rows), plan.tally)
            if training and not np.isfinite(loss):
                break
            starting = start == first
            if learning and (kept or start + rows != last):
                sum_chunk(M, table, plan, sparse, rows, low_tile, high_tile, 0, starting, full)
            elif training:
                broken = step_chunk(
                    M, table, share, plan, sparse, sums, 1.0, rows, low_tile, high_tile, tile,
                    starting, False, full,
                )  # fmt: skip
                raise_flag(signals, broken > 0)
            barrier(signals, size)
        if team_size(signals) != size:
            size = team_size(signals)
            if place >= size:
                break
            low_tile, high_tile = tiles_for(M, table, plan, place, size)
    return loss, size, low_tile, high_tile


@phase
def apply_kept(
    M: Any, table: Any, plan: Any, rule: Any, sums: Any, sparse: Any, share: float, groups: int,
    signals: Any, place: int, size: int, low_tile: int, high_tile: int, full: Any,
) -> None:  # fmt: skip
    """Finish the gradient that was kept, or given, and apply it where this is a step.

    Reads: the groups' gradients.  Writes: the gradient; weights and moments.
    """
    finish_gradient(M, table, share, plan, sums, low_tile, high_tile, groups, full)
    if plan.mode >= codes.TRAIN:
        scale = 1.0
        if plan.clipping:
            barrier(signals, size)
            norm = np.sqrt(sum_of(sums[plan.unit_count : 2 * plan.unit_count]))
            scale = rule.clip_norm / max(norm, rule.clip_norm)
            raise_flag(signals, not np.isfinite(norm))
        broken = step_chunk(
            M, table, share, plan, sparse, sums, scale, 0, low_tile, high_tile,
            plan.tiles + place * plan.tile_size, False, True, full,
        )  # fmt: skip
        raise_flag(signals, broken > 0)
    barrier(signals, size)


@phase
def note_step(
    plan: Any, sums: Any, here: Any, loss: float, counted: float, signals: Any, place: int
) -> int:
    """Add a step's loss, with its penalty, to those of its epoch; return what went wrong.

    Reads: sums of squares of weights.  Writes: here, the epoch's record.
    """
    if plan.penalty:
        loss += sum_of(sums[: plan.unit_count])
    if place == 0 and plan.loss != codes.NO_LOSS:
        here.loss_sum += loss * counted
        here.weight_sum += counted
    if plan.mode == codes.TRAIN and plan.penalty and not np.isfinite(loss):
        return codes.LOSS_NOT_FINITE
    return codes.UPDATE_NOT_FINITE if flag(signals) else codes.FINE


@phase
def take_step(
    M: Any, tables: Any, plans: Any, rule: Any, sums: Any, here: Any, sparse: Any, picks: Any,
    known: Any, order: Any, out: Any, stream: Any, total: float, first: int, last: int,
    signals: Any, place: int, size: int, low_tile: int, high_tile: int, full: Any,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Take the step, or else what the plan's mode asks for, of a batch of the weight `total`.

    Reads: everything of the batch from first to before last.  Writes: in M, weights and moments,
    or the gradient; here, the epoch's record.
    Returns what went wrong, the team's size, and this thread's tiles.
    """
    # Threads that share a chunk all use the first thread's activations.
    plan, table = plans[0], tables[0]
    training = plan.mode == codes.TRAIN
    kept = plan.mode == codes.GRADIENT or (training and plan.clipping != 0)
    share = 1.0 / total if plan.shared_penalty else 1.0
    loss = 0.0
    groups = min(plan.groups, (last - first + plan.chunk - 1) // plan.chunk)
    if plan.mode == codes.APPLY:
        # A gradient that is given has that of L2 already.
        kept, groups, share = True, 1, 0.0
    elif groups > 1:
        kept = True
        loss = pass_groups(
            M, tables[place], plans[place], sums, sparse, picks, known, order, out, stream, total,
            first, last, groups, signals, place, size, full,
        )  # fmt: skip
    else:
        loss, size, low_tile, high_tile = pass_chunks(
            M, table, plan, sums, sparse, picks, known, order, out, stream, total, share, first,
            last, kept, signals, place, size, low_tile, high_tile, full,
        )  # fmt: skip
    trouble = codes.FINE
    if training and not np.isfinite(loss):
        trouble = codes.LOSS_NOT_FINITE
    elif place < size:
        if kept:
            apply_kept(
                M, table, plan, rule, sums, sparse, share, groups, signals, place, size, low_tile,
                high_tile, full,
            )  # fmt: skip
        counted = float(last - first) if plan.by_examples else total
        trouble = note_step(plan, sums, here, loss, counted, signals, place)
    return trouble, size, low_tile, high_tile
