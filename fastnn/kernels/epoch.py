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
from fastnn.kernels.measures import add_tallies, close_epoch, count_rows, tiles_in
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
    M: Any, table: Any, plan: Any, sparse: Any, rows: int, low: int, high: int, group: int,
    starting: bool,
) -> None:  # fmt: skip
    """Add a chunk's part of the tiles from low to before high to a gradient; see `sum_tiles`."""
    for r in range(table.shape[0]):
        begin, end = tiles_of(table, plan, r)
        first, last = max(begin, low) - begin, min(end, high) - begin
        if table[r].form == codes.MATRIX:
            sum_tiles(M, table[r], plan, sparse, rows, first, last, group, starting)
        elif table[r].form == codes.SPANS:
            sum_spans(M, table[r], plan, rows, first, last, group, starting)


@kernel
def finish_gradient(
    M: Any, table: Any, share: float, plan: Any, sums: Any, low: int, high: int, groups: int
) -> None:
    """Finish the tiles of the gradient from low to before high; see `finish_tiles`."""
    for r in range(table.shape[0]):
        begin, end = tiles_of(table, plan, r)
        first, last = max(begin, low) - begin, min(end, high) - begin
        if table[r].form == codes.MATRIX:
            l2 = M.dtype.type(table[r].l2 * share)
            finish_tiles(M, table[r], plan, sums, l2, first, last, groups)
        elif table[r].form == codes.SPANS:
            finish_spans(M, table[r], plan, sums, first, last, groups)


@kernel
def step_chunk(
    M: Any, table: Any, share: float, plan: Any, sparse: Any, sums: Any, scale: float, rows: int,
    low: int, high: int, tile: int, starting: bool, kept: bool,
) -> int:  # fmt: skip
    """Update the tiles from low to before high, with room for one; see `step_tiles`."""
    broken = 0
    for r in range(table.shape[0]):
        begin, end = tiles_of(table, plan, r)
        first, last = max(begin, low) - begin, min(end, high) - begin
        factor = M.dtype.type(scale)
        if table[r].form == codes.MATRIX:
            # A gradient that was kept includes that of L2.
            l2 = M.dtype.type(0.0 if kept else table[r].l2 * share)
            broken += step_tiles(
                M, table[r], plan, sparse, sums, l2, factor, rows, first, last, tile, starting,
                kept,
            )  # fmt: skip
        elif table[r].form == codes.SPANS:
            broken += step_spans(M, table[r], plan, factor, rows, first, last, tile, starting, kept)
    return broken


@kernel
def sum_groups(
    M: Any, table: Any, plan: Any, sums: Any, sparse: Any, picks: Any, X: Any, labels: Any,
    values: Any, weights: Any, order: Any, stream: Any, total: float, first: int, last: int,
    groups: int, place: int, size: int, out: Any,
) -> None:  # fmt: skip
    """Sum the gradients of the groups of chunks that are this thread's, and each chunk's loss.

    Reads: everything of the batch from first to before last.  Writes: the groups' gradients, the
    chunks' losses and what is counted of them in sums, the examples' rows of out if it has any.
    May overwrite: this thread's activations, picks, `losses` and `shares`.
    """
    chunk = plan.chunk
    top = table[table.shape[0] - 1]
    chunks = (last - first + chunk - 1) // chunk
    tally = plan.tally
    # A literal 0 is a type of its own to Numba, which would compile whatever gets one a second time
    # (the engine: 15 % of its code).
    begin = first - first
    for group in range(groups * place // size, groups * (place + 1) // size):
        beginning = chunks * group // groups
        for c in range(beginning, chunks * (group + 1) // groups):
            start = first + c * chunk
            rows = min(chunk, last - start)
            take_rows(M, table, plan, sparse, picks, X, order, start, begin, rows)
            forward(M, table, plan, sparse, picks, stream, start - first, begin, rows)
            if out.size:
                hand_out(out, M, top.result, plan.height, picks, begin, rows)
            row_losses(M, top, plan, picks, labels, values, weights, total, begin, rows)
            if plan.counted:
                at = plan.tallies + tiles_in(plan, c * chunk) * tally
                count_rows(M, top, plan, sums, at, picks, labels, values, weights, begin, rows)
            sums[2 * plan.unit_count + c] = chunk_loss(M, plan, rows)
            backward(M, table, plan, stream, start - first, begin, rows)
            sum_chunk(M, table, plan, sparse, rows, begin, plan.unit_count, group, c == beginning)


@kernel
def tiles_for(table: Any, plan: Any, panel: int, place: int, size: int) -> tuple[int, int]:
    """Return the first and the one past the last of a thread's tiles of weight gradients."""
    if table[table.shape[0] - 1].dresult < 0:
        return 0, 0
    return (
        tiles_before(table, plan, panel, place, size),
        tiles_before(table, plan, panel, place + 1, size),
    )


@entry
def engine(
    plans: Any,
    tables: Any,
    numbers: Any,
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
    plans : records.PLAN (threads,)
        What to do, with each thread's places in the workspace; one more where there are validation
        examples, for all threads.
    tables : records.OPERATION (as many, operations)
        From `layout.Program`.
    numbers : records.NUMBERS ()
        The optimizer's; the count of steps is written in mode TRAIN.
    etas : float64 (steps of this call,) or (0,)
        The learning rate of each step, where it changes from step to step.
    sums : float64 (Program.sums,)
        Scratch: sums of squares over the tiles of weights and gradients; the chunks' losses.  Where
        epochs end with measuring, what that takes; see `measures`.
    report : records.REPORT ()
        Written: steps done, trouble met.  Where a fit stops by a value, how that stands.
    record : records.RECORD (epochs,)
        Added to: sums of losses and weights of each epoch that the call touches.  Written where
        epochs end with measuring: the values.
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
    out : (n, outputs), or (0, 0)
        Written: the last operation's result for each example.
    integers : int64 (Program.integers,)
        Room.
    starts : int64 (n + 1,); columns : int32 (entries,); entries : (entries,); or (0,) each
        Sparse examples: where each one's entries begin, their columns and their values.
        Read only.
    """
    place = join(signals, plans[0].threads, leading)
    if place < 0:
        return
    begin = place - place  # See `sum_groups`.
    size = team_size(signals)
    control = flush_subnormals()
    rule, result = numbers[()], report[()]
    # Threads that share a chunk all use the first thread's activations.
    plan, table, picks = plans[0], tables[0], room[place]
    training = plan.mode == codes.TRAIN
    clipping = training and plan.clipping != 0
    keeping = clipping or plan.mode == codes.GRADIENT
    height, chunk = plan.height, plan.chunk
    top = table[table.shape[0] - 1]
    cursors = plan.cursors + place * plan.cursor_pitch
    sparse = (integers, starts, columns, entries, cursors)
    known = (X, labels, values, weights)
    examples = starts.size - 1 if plan.sparse_rows else X.shape[0]
    first_step, last_step, batch = 0, 1, examples
    if training:
        first_step, last_step, batch = plan.first_step, plan.last_step, plan.batch
    steps = (examples + batch - 1) // batch
    panel = PANEL_BYTES // M.itemsize
    first_tile, last_tile = tiles_for(table, plan, panel, place, size)
    tile = plan.tiles + place * plan.tile_size
    rates = M[plan.rates_at : plan.rates_at + 2 * codes.RATES]
    done, taken, trouble = 0, 0, codes.FINE
    counting, tally = training and plan.counted != 0, plan.tally
    measuring = training and plan.measures != 0
    for step in range(first_step, last_step):
        epoch, within = step // steps, step % steps
        here = record[epoch - first_step // steps]
        ending = measuring and within == steps - 1
        if counting and within == 0 and place == 0:
            sums[plan.counts_so_far : plan.counts_so_far + tally] = 0.0
        if within == 0 and plan.shuffle and training:
            # Other threads may still be reading the last batch's weights through `order`.
            barrier(signals, size)
            if place == 0:
                shuffle(order, plan.order_key, plan.order_number + np.uint64(epoch))
            barrier(signals, size)
        first, last = within * batch, min((within + 1) * batch, examples)
        total = batch_weight(weights, order, first, last)
        if total == 0.0:
            done += 1
            if ending:
                close_epoch(
                    M, tables, plans, sums, result, here, sparse, picks, known, order, signals,
                    place, size,
                )  # fmt: skip
                if result.stopped:
                    break
            continue
        if training and place == 0:
            if etas.size:
                rule.learning_rate = etas[step - first_step]
            prepare_rates(rates, rule, plan)
        stream = stream_of(plan.mask_key, plan.step_number + np.uint64(taken))
        taken += 1
        share = 1.0 / total if plan.shared_penalty else 1.0
        loss = 0.0
        groups = min(plan.groups, (last - first + chunk - 1) // chunk)
        if groups > 1:
            sum_groups(
                M, tables[place], plans[place], sums, sparse, picks, X, labels, values, weights,
                order, stream, total, first, last, groups, place, size, out,
            )  # fmt: skip
            barrier(signals, size)
            loss = sum_of(sums[2 * plan.unit_count :][: (last - first + chunk - 1) // chunk])
            if counting and place == 0:
                tiles = tiles_in(plan, last - first)
                add_tallies(sums, plan.counts_so_far, plan.tallies, tiles, tally)
            if training and not np.isfinite(loss):
                trouble = codes.LOSS_NOT_FINITE
                break
        for start in range(first if groups == 1 else last, last, chunk):
            rows = min(chunk, last - start)
            tiles = (rows + BATCH_ROWS - 1) // BATCH_ROWS
            low = tiles * place // size * BATCH_ROWS
            high = min(tiles * (place + 1) // size * BATCH_ROWS, rows)
            take_rows(M, table, plan, sparse, picks, X, order, start, low, high)
            forward(M, table, plan, sparse, picks, stream, start - first, low, high)
            if out.size:
                hand_out(out, M, top.result, height, picks, low, high)
            if plan.loss == codes.NO_LOSS:
                # A shorter chunk is divided among the threads at other rows.
                barrier(signals, size)
                size = team_size(signals)
                if place >= size:
                    break
                continue
            row_losses(M, top, plan, picks, labels, values, weights, total, low, high)
            if counting:
                at = plan.tallies
                count_rows(M, top, plan, sums, at, picks, labels, values, weights, low, high)
            if top.dresult >= 0:
                backward(M, table, plan, stream, start - first, low, high)
            barrier(signals, size)
            loss += chunk_loss(M, plan, rows)
            if counting and place == 0:
                to, at = plan.counts_so_far, plan.tallies
                add_tallies(sums, to, at, tiles_in(plan, rows), tally)
            if training and not np.isfinite(loss):
                trouble = codes.LOSS_NOT_FINITE
                break
            starting, ready = start == first, start + rows == last
            if top.dresult >= 0 and (keeping or not ready):
                sum_chunk(M, table, plan, sparse, rows, first_tile, last_tile, begin, starting)
            elif training:
                broken = step_chunk(
                    M, table, share, plan, sparse, sums, 1.0, rows, first_tile, last_tile, tile,
                    starting, False,
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
            finish_gradient(M, table, share, plan, sums, first_tile, last_tile, groups)
            scale = 1.0
            if clipping:
                barrier(signals, size)
                norm = np.sqrt(sum_of(sums[plan.unit_count : 2 * plan.unit_count]))
                scale = rule.clip_norm / max(norm, rule.clip_norm)
                raise_flag(signals, not np.isfinite(norm))
            if training:
                broken = step_chunk(
                    M, table, share, plan, sparse, sums, scale, 0, first_tile, last_tile, tile,
                    False, True,
                )  # fmt: skip
                raise_flag(signals, broken > 0)
            barrier(signals, size)
        if plan.penalty:
            loss += sum_of(sums[: plan.unit_count])
        if place == 0 and plan.loss != codes.NO_LOSS:
            counted = float(last - first) if plan.by_examples else total
            here.loss_sum += loss * counted
            here.weight_sum += counted
        if training and plan.penalty and not np.isfinite(loss):
            trouble = codes.LOSS_NOT_FINITE
            break
        if flag(signals):
            trouble = codes.UPDATE_NOT_FINITE
            break
        done += 1
        if ending:
            close_epoch(
                M, tables, plans, sums, result, here, sparse, picks, known, order, signals, place,
                size,
            )  # fmt: skip
            if result.stopped:
                break
        if team_size(signals) != size:
            size = team_size(signals)
            if place >= size:
                break
            first_tile, last_tile = tiles_for(table, plan, panel, place, size)
    restore_subnormals(control)
    if place == 0:
        result.steps_done = done
        result.trouble = trouble


@entry
def load(table: Any, M: Any, shift: int, vector: Any) -> None:
    """Pack a vector of parameters, or of moments, which lie `shift` further on.

    Reads: vector (size,).  Writes: in M, every operation's `packed` and `biases`, shifted; where
    the shift is 0 also its `transposed`.
    """
    for row in table:
        inputs, outputs = row.inputs, row.outputs
        if row.form == codes.MATRIX:
            W = matrix(vector, row.W, inputs, outputs)
            if row.narrow:
                pack_narrow(M, row.packed + shift, W)
            else:
                pack(M, row.packed + shift, tall(inputs), W)
        elif row.W >= 0:
            pack(M, row.packed + shift, 1, matrix(vector, row.W, 1, outputs))
        if row.b >= 0:
            pack(M, row.biases + shift, 1, matrix(vector, row.b, 1, outputs))
        if shift == 0:
            pack_transposes(M, row)


@entry
def store(table: Any, M: Any, shift: int, vector: Any) -> None:
    """Unpack what `load` packs, or a gradient, which lies after the moments.

    Reads: in M, every operation's `packed` and `biases`, shifted.  Writes: vector (size,).
    """
    for row in table:
        inputs, outputs = row.inputs, row.outputs
        if row.form == codes.MATRIX:
            W = matrix(vector, row.W, inputs, outputs)
            if row.narrow:
                unpack_narrow(W, M, row.packed + shift)
            else:
                unpack(W, M, row.packed + shift, tall(inputs))
        elif row.W >= 0:
            unpack(matrix(vector, row.W, 1, outputs), M, row.packed + shift, 1)
        if row.b >= 0:
            unpack(matrix(vector, row.b, 1, outputs), M, row.biases + shift, 1)
