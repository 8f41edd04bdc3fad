"""Whole epochs in one call: the entries that Python calls, and the walk over the steps.

The architecture is data: the operation table says what to do, so that a thousand networks
compile nothing after the first of their dtype.  Kernels never raise, check or allocate; ``gate``
and ``layout`` guarantee their input.

This file is long because every walk over the steps meets the same team at the same barriers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import entry, kernel
from fastnn.kernels.chunk import batch_weight, chunk_loss, hand_out, row_losses, take_rows
from fastnn.kernels.entries import count_entries, turn_entries
from fastnn.kernels.measures import add_tallies, close_epoch, count_rows, stops, tiles_in
from fastnn.kernels.micro_kernels import BATCH_ROWS
from fastnn.kernels.narrow import pack_narrow, unpack_narrow
from fastnn.kernels.order import shuffle, stream_of
from fastnn.kernels.panels import PANEL_BYTES, pack, unpack
from fastnn.kernels.passes import backward, forward
from fastnn.kernels.rules import prepare_rates
from fastnn.kernels.spans import finish_spans, step_spans, sum_spans
from fastnn.kernels.subnormals import flush_subnormals, restore_subnormals
from fastnn.kernels.team import barrier, flag, join, raise_flag, team_size
from fastnn.kernels.tiles import (
    finish_tiles,
    pack_transposes,
    step_tiles,
    sum_tiles,
    tall,
    tiles_before,
    tiles_of,
)
from fastnn.kernels.views import matrix

__all__ = ["engine", "load", "store"]


@kernel
def sum_of(numbers: Any) -> float:
    """Return the sum of numbers, in their order."""
    total = 0.0
    for number in numbers:
        total += number
    return total


@kernel
def sum_chunk(
    M: Any, table: Any, plan: Any, integers: Any, rows: int, low: int, high: int, group: int,
    starting: bool,
) -> None:  # fmt: skip
    """Add a chunk's part of the tiles from low to before high to a gradient; see `sum_tiles`."""
    for r in range(table.shape[0]):
        begin, end = tiles_of(table, plan, r)
        first, last = max(begin, low) - begin, min(end, high) - begin
        if table[r, codes.FORM] == codes.MATRIX:
            sum_tiles(M, table[r], plan, integers, rows, first, last, group, starting)
        elif table[r, codes.FORM] == codes.SPANS:
            sum_spans(M, table[r], plan, rows, first, last, group, starting)


@kernel
def finish_gradient(
    M: Any, table: Any, constants: Any, share: float, plan: Any, sums: Any, low: int, high: int,
    groups: int,
) -> None:  # fmt: skip
    """Finish the tiles of the gradient from low to before high; see `finish_tiles`."""
    for r in range(table.shape[0]):
        begin, end = tiles_of(table, plan, r)
        first, last = max(begin, low) - begin, min(end, high) - begin
        if table[r, codes.FORM] == codes.MATRIX:
            l2 = M.dtype.type(constants[r, codes.L2] * share)
            finish_tiles(M, table[r], plan, sums, l2, first, last, groups)
        elif table[r, codes.FORM] == codes.SPANS:
            finish_spans(M, table[r], plan, sums, first, last, groups)


@kernel
def step_chunk(
    M: Any, table: Any, constants: Any, share: float, plan: Any, integers: Any, sums: Any,
    scale: float, rows: int, low: int, high: int, tile: int, starting: bool, kept: bool,
) -> int:  # fmt: skip
    """Update the tiles from low to before high, with room for one; see `step_tiles`."""
    broken = 0
    for r in range(table.shape[0]):
        begin, end = tiles_of(table, plan, r)
        first, last = max(begin, low) - begin, min(end, high) - begin
        factor = M.dtype.type(scale)
        if table[r, codes.FORM] == codes.MATRIX:
            # A gradient that was kept includes that of L2.
            l2 = M.dtype.type(0.0 if kept else constants[r, codes.L2] * share)
            broken += step_tiles(
                M, table[r], plan, integers, sums, l2, factor, rows, first, last, tile, starting,
                kept,
            )  # fmt: skip
        elif table[r, codes.FORM] == codes.SPANS:
            broken += step_spans(M, table[r], plan, factor, rows, first, last, tile, starting, kept)
    return broken


@kernel
def sum_groups(
    M: Any, table: Any, constants: Any, plan: Any, conventions: Any, sums: Any, sparse: Any,
    picks: Any, X: Any, labels: Any, values: Any, weights: Any, order: Any, stream: Any,
    total: float, first: int, last: int, groups: int, place: int, size: int, out: Any,
) -> None:  # fmt: skip
    """Sum the gradients of the groups of chunks that are this thread's, and each chunk's loss.

    Reads: everything of the batch from first to before last.  Writes: the groups' gradients, the
    chunks' losses and what is counted of them in sums, the examples' rows of out if it has any.
    May overwrite: this thread's activations, picks, LOSSES and SHARES.
    """
    chunk, inputs = plan[codes.CHUNK], table[0, codes.INPUTS]
    top = table[table.shape[0] - 1]
    number = constants[table.shape[0] - 1, codes.LOSS_NUMBER]
    chunks = (last - first + chunk - 1) // chunk
    tally = codes.SQUARES + plan[codes.TARGETS]
    # A literal 0 is a type of its own to Numba, which would compile whatever gets one a second time
    # (the engine: 15 % of its code).
    begin = first - first
    for group in range(groups * place // size, groups * (place + 1) // size):
        beginning = chunks * group // groups
        for c in range(beginning, chunks * (group + 1) // groups):
            start = first + c * chunk
            rows = min(chunk, last - start)
            take_rows(M, table, plan, sparse, picks, X, order, start, begin, rows)
            forward(M, table, constants, plan, sparse, picks, stream, start - first, begin, rows)
            if out.size:
                hand_out(out, M, top[codes.RESULT], plan[codes.HEIGHT], picks, begin, rows)
            row_losses(
                M, top, plan, conventions, number, picks, labels, values, weights, total, begin,
                rows,
            )  # fmt: skip
            if plan[codes.COUNTED]:
                at = plan[codes.TALLIES] + tiles_in(plan, c * chunk) * tally
                count_rows(M, top, plan, sums, at, picks, labels, values, weights, begin, rows)
            sums[2 * plan[codes.UNIT_COUNT] + c] = chunk_loss(M, plan, conventions, rows)
            backward(M, table, constants, plan, stream, start - first, begin, rows)
            if plan[codes.SPARSE_ROWS]:
                count_entries(plan, sparse, inputs, order, start, rows, begin, begin + 1)
                turn_entries(M, plan, sparse, inputs, order, start, rows, begin, begin + 1)
            sum_chunk(
                M, table, plan, sparse[0], rows, begin, plan[codes.UNIT_COUNT], group,
                c == beginning,
            )  # fmt: skip


@kernel
def tiles_for(table: Any, plan: Any, panel: int, place: int, size: int) -> tuple[int, int]:
    """Return the first and the one past the last of a thread's tiles of weight gradients."""
    if table[table.shape[0] - 1, codes.DRESULT] < 0:
        return 0, 0
    return (
        tiles_before(table, plan, panel, place, size),
        tiles_before(table, plan, panel, place + 1, size),
    )


@entry
def engine(
    plans: Any,
    tables: Any,
    constants: Any,
    numbers: Any,
    conventions: Any,
    etas: Any,
    sums: Any,
    report: Any,
    record: Any,
    signals: Any,
    leading: bool,
    M: Any,
    room: Any,
    X: Any,
    labels: Any,
    values: Any,
    weights: Any,
    order: Any,
    draw: Any,
    out: Any,
    integers: Any,
    starts: Any,
    columns: Any,
    entries: Any,
) -> None:
    """Run the plan's mode on the rows of X, in as many threads as call this.

    A large batch is processed in chunks of rows.  Either the threads share every chunk: rows are
    divided among them for the forward and backward passes, tiles of weight gradients for sums and
    steps.  Or, where a batch has many chunks and the weights are few, they divide groups of
    chunks, each of which accumulates a gradient of its own.  Which of the two, and the order of
    all sums, depend on the shape alone, so that no result depends on the number of threads, nor
    on when the team shrinks: between two barriers rows and tiles are divided anew.

    Parameters
    ----------
    plans : int64 (threads, codes.PLAN_ENTRIES)
        What to do, with each thread's places in the workspace; one more where there are validation
        examples, for all threads.
    tables, constants : int64 (as many, ...) and float64, one row per operation
        From `layout.Program`.
    numbers : float64 (codes.NUMBERS,)
        The optimizer's; its count of steps is written in mode TRAIN.
    conventions : float64 (codes.CONVENTIONS,)
        How losses, their gradients and penalties count.
    etas : float64 (steps of this call,) or (0,)
        The learning rate of each step, where it changes from step to step.
    sums : float64 (Program.sums,)
        Scratch: sums of squares over the tiles of weights and gradients; the chunks' losses.  Where
        epochs end with measuring, what that takes; see `measures`.
    report : float64 (codes.REPORT_ENTRIES,)
        Written: steps done, trouble met.
    record : float64 (epochs, codes.RECORD_COLUMNS or more)
        Added to: sums of losses and weights of each epoch that the call touches.  Where epochs end
        with measuring, what is counted too; written at the end: the values.
    signals : int64 (team.SIGNALS,)
        Zeros but for the team's terms when the first thread enters; the team's barrier.
    leading : bool
        True for one of the threads.
    M : (Program.workspace,)
        Packed weights and biases, then moments and gradient, then scratch.  Written:
        gradient in mode GRADIENT; weights and moments in mode TRAIN.
    room : int64 (threads, chunk)
        Scratch.
    X : (n, inputs), or (0, inputs) where examples are sparse
        Read only.
    labels : int64 (n,) or (0,); values : (n, outputs) or (0, outputs); weights : (n,) or (0,)
        Read only.
    order : int64 (n,), or (0,) for X's own order
        Read; written where the plan asks for epochs in an order of their own.
    draw : uint64 (codes.DRAW_ENTRIES,)
        Keys of these orders and of what dropout keeps; the numbers of the present epoch's order
        and of the first step that is taken.
    out : (n, outputs), or (0, 0)
        Written: the last operation's result for each example.
    integers : int64 (Program.integers,)
        Room.
    starts : int64 (n + 1,); columns : int32 (entries,); entries : (entries,); or (0,) each
        Sparse examples: where each one's entries begin, their columns and their values.
        Read only.
    """
    place = join(signals, plans[0, codes.THREADS], leading)
    if place < 0:
        return
    begin = place - place  # See `sum_groups`.
    size = team_size(signals)
    control = flush_subnormals()
    # Threads that share a chunk all use the first thread's activations.
    plan, table, picks = plans[0], tables[0], room[place]
    training = plan[codes.MODE] == codes.TRAIN
    clipping = training and plan[codes.CLIPPING] != 0
    keeping = clipping or plan[codes.MODE] == codes.GRADIENT
    height, chunk = plan[codes.HEIGHT], plan[codes.CHUNK]
    top, bottom = table[table.shape[0] - 1], table[0]
    number = constants[table.shape[0] - 1, codes.LOSS_NUMBER]
    sparse = (integers, starts, columns, entries)
    known = (X, labels, values, weights)
    turning = plan[codes.SPARSE_ROWS] != 0 and top[codes.DRESULT] >= 0
    examples = starts.size - 1 if plan[codes.SPARSE_ROWS] else X.shape[0]
    first_step, last_step, batch = 0, 1, examples
    if training:
        first_step, last_step, batch = (
            plan[codes.FIRST_STEP],
            plan[codes.LAST_STEP],
            plan[codes.BATCH],
        )
    steps = (examples + batch - 1) // batch
    panel = PANEL_BYTES // M.itemsize
    first_tile, last_tile = tiles_for(table, plan, panel, place, size)
    tile = plan[codes.TILES] + place * plan[codes.TILE_SIZE]
    rates = M[plan[codes.RATES_AT] : plan[codes.RATES_AT] + 2 * codes.RATES]
    done, taken, trouble = 0, 0, codes.FINE
    counting, tally = training and plan[codes.COUNTED] != 0, codes.SQUARES + plan[codes.TARGETS]
    measuring = training and plan[codes.MEASURES] != 0
    for step in range(first_step, last_step):
        epoch, within = step // steps, step % steps
        here = record[epoch - first_step // steps]
        ending = measuring and within == steps - 1
        if within == 0 and plan[codes.SHUFFLE] and training:
            # Other threads may still be reading the last batch's weights through `order`.
            barrier(signals, size)
            if place == 0:
                shuffle(order, draw[codes.ORDER_KEY], draw[codes.ORDER] + np.uint64(epoch))
            barrier(signals, size)
        first, last = within * batch, min((within + 1) * batch, examples)
        total = batch_weight(weights, order, first, last)
        if total == 0.0:
            done += 1
            if ending:
                close_epoch(
                    M, tables, constants, plans, conventions, sums, sparse, picks, known, order,
                    draw[codes.MASK_KEY], here, signals, place, size,
                )  # fmt: skip
                if stops(plan, sums):
                    break
            continue
        if training and place == 0:
            if etas.size:
                numbers[codes.LEARNING_RATE] = etas[step - first_step]
            prepare_rates(rates, numbers, conventions, plan[codes.OPTIMIZER])
        stream = stream_of(draw[codes.MASK_KEY], draw[codes.STEP] + np.uint64(taken))
        taken += 1
        share = 1.0 / total if conventions[codes.SHARED_PENALTY] != 0.0 else 1.0
        loss = 0.0
        groups = min(plan[codes.GROUPS], (last - first + chunk - 1) // chunk)
        if groups > 1:
            sum_groups(
                M, tables[place], constants, plans[place], conventions, sums, sparse, picks, X,
                labels, values, weights, order, stream, total, first, last, groups, place, size,
                out,
            )  # fmt: skip
            barrier(signals, size)
            loss = sum_of(sums[2 * plan[codes.UNIT_COUNT] :][: (last - first + chunk - 1) // chunk])
            if counting and place == 0:
                tiles = tiles_in(plan, last - first)
                add_tallies(here, codes.COUNTS_SO_FAR, sums, plan[codes.TALLIES], tiles, tally)
            if training and not np.isfinite(loss):
                trouble = codes.LOSS_NOT_FINITE
                break
        for start in range(first if groups == 1 else last, last, chunk):
            rows = min(chunk, last - start)
            tiles = (rows + BATCH_ROWS - 1) // BATCH_ROWS
            low = tiles * place // size * BATCH_ROWS
            high = min(tiles * (place + 1) // size * BATCH_ROWS, rows)
            take_rows(M, table, plan, sparse, picks, X, order, start, low, high)
            forward(M, table, constants, plan, sparse, picks, stream, start - first, low, high)
            if out.size:
                hand_out(out, M, top[codes.RESULT], height, picks, low, high)
            if plan[codes.LOSS_CODE] == codes.NO_LOSS:
                # A shorter chunk is divided among the threads at other rows.
                barrier(signals, size)
                size = team_size(signals)
                if place >= size:
                    break
                continue
            row_losses(
                M, top, plan, conventions, number, picks, labels, values, weights, total, low, high
            )
            if counting:
                at = plan[codes.TALLIES]
                count_rows(M, top, plan, sums, at, picks, labels, values, weights, low, high)
            if top[codes.DRESULT] >= 0:
                backward(M, table, constants, plan, stream, start - first, low, high)
            if turning:
                count_entries(plan, sparse, bottom[codes.INPUTS], order, start, rows, place, size)
            barrier(signals, size)
            loss += chunk_loss(M, plan, conventions, rows)
            if counting and place == 0:
                at = plan[codes.TALLIES]
                add_tallies(here, codes.COUNTS_SO_FAR, sums, at, tiles_in(plan, rows), tally)
            if training and not np.isfinite(loss):
                trouble = codes.LOSS_NOT_FINITE
                break
            if turning:
                inputs = bottom[codes.INPUTS]
                turn_entries(M, plan, sparse, inputs, order, start, rows, place, size)
                barrier(signals, size)
            starting, ready = start == first, start + rows == last
            if top[codes.DRESULT] >= 0 and (keeping or not ready):
                sum_chunk(M, table, plan, integers, rows, first_tile, last_tile, begin, starting)
            elif training:
                broken = step_chunk(
                    M, table, constants, share, plan, integers, sums, 1.0, rows, first_tile,
                    last_tile, tile, starting, False,
                )  # fmt: skip
                raise_flag(signals, broken > 0)
            barrier(signals, size)
            if team_size(signals) != size:
                size = team_size(signals)
                if place >= size:
                    break
                first_tile, last_tile = tiles_for(table, plan, panel, place, size)
        if trouble != codes.FINE or place >= size:
            break
        if keeping or groups > 1:
            finish_gradient(M, table, constants, share, plan, sums, first_tile, last_tile, groups)
            scale = 1.0
            if clipping:
                barrier(signals, size)
                norm = np.sqrt(sum_of(sums[plan[codes.UNIT_COUNT] : 2 * plan[codes.UNIT_COUNT]]))
                scale = numbers[codes.CLIP_NORM] / max(norm, numbers[codes.CLIP_NORM])
                raise_flag(signals, not np.isfinite(norm))
            if training:
                broken = step_chunk(
                    M, table, constants, share, plan, integers, sums, scale, 0, first_tile,
                    last_tile, tile, False, True,
                )  # fmt: skip
                raise_flag(signals, broken > 0)
            barrier(signals, size)
        if plan[codes.PENALTY]:
            loss += sum_of(sums[: plan[codes.UNIT_COUNT]])
        if place == 0 and plan[codes.LOSS_CODE] != codes.NO_LOSS:
            counted = float(last - first) if conventions[codes.BY_EXAMPLES] != 0.0 else total
            here[codes.LOSS_SUM] += loss * counted
            here[codes.WEIGHT_SUM] += counted
        if training and plan[codes.PENALTY] and not np.isfinite(loss):
            trouble = codes.LOSS_NOT_FINITE
            break
        if flag(signals):
            trouble = codes.UPDATE_NOT_FINITE
            break
        done += 1
        if ending:
            close_epoch(
                M, tables, constants, plans, conventions, sums, sparse, picks, known, order,
                draw[codes.MASK_KEY], here, signals, place, size,
            )  # fmt: skip
            if stops(plan, sums):
                break
        if team_size(signals) != size:
            size = team_size(signals)
            if place >= size:
                break
            first_tile, last_tile = tiles_for(table, plan, panel, place, size)
    restore_subnormals(control)
    if place == 0:
        report[codes.STEPS_DONE] = done
        report[codes.TROUBLE] = trouble


@entry
def load(table: Any, M: Any, shift: int, vector: Any) -> None:
    """Pack a vector of parameters, or of moments, which lie `shift` further on.

    Reads: vector (size,).  Writes: in M, every operation's PACKED and BIASES, shifted; where
    the shift is 0 also its TRANSPOSED.
    """
    for row in table:
        inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
        if row[codes.FORM] == codes.MATRIX:
            W = matrix(vector, row[codes.W], inputs, outputs)
            if row[codes.NARROW]:
                pack_narrow(M, row[codes.PACKED] + shift, W)
            else:
                pack(M, row[codes.PACKED] + shift, tall(inputs), W)
        elif row[codes.W] >= 0:
            pack(M, row[codes.PACKED] + shift, 1, matrix(vector, row[codes.W], 1, outputs))
        if row[codes.B] >= 0:
            pack(M, row[codes.BIASES] + shift, 1, matrix(vector, row[codes.B], 1, outputs))
        if shift == 0:
            pack_transposes(M, row)


@entry
def store(table: Any, M: Any, shift: int, vector: Any) -> None:
    """Unpack what `load` packs, or a gradient, which lies after the moments.

    Reads: in M, every operation's PACKED and BIASES, shifted.  Writes: vector (size,).
    """
    for row in table:
        inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
        if row[codes.FORM] == codes.MATRIX:
            W = matrix(vector, row[codes.W], inputs, outputs)
            if row[codes.NARROW]:
                unpack_narrow(W, M, row[codes.PACKED] + shift)
            else:
                unpack(W, M, row[codes.PACKED] + shift, tall(inputs))
        elif row[codes.W] >= 0:
            unpack(matrix(vector, row[codes.W], 1, outputs), M, row[codes.PACKED] + shift, 1)
        if row[codes.B] >= 0:
            unpack(matrix(vector, row[codes.B], 1, outputs), M, row[codes.BIASES] + shift, 1)
