"""Whole epochs in one call: the entries that Python calls, and the walk over the steps.

The architecture is data: the operation table says what to do, so that a thousand networks
compile nothing after the first of their dtype.  Kernels never raise, check or allocate; ``gate``
and ``layout`` guarantee their input.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import entry, phase
from fastnn.kernels.averages import average_weights, step_rate
from fastnn.kernels.batch_norm import span_of
from fastnn.kernels.chunk import batch_weight
from fastnn.kernels.measures import close_epoch
from fastnn.kernels.narrow import pack_narrow, unpack_narrow
from fastnn.kernels.order import shuffle, stream_of
from fastnn.kernels.panels import pack, unpack
from fastnn.kernels.projections import project
from fastnn.kernels.rules import prepare_own_rates, prepare_rates
from fastnn.kernels.steps import take_step, tiles_for
from fastnn.kernels.subnormals import flush_subnormals, restore_subnormals
from fastnn.kernels.team import barrier, join, team_size
from fastnn.kernels.tiles import pack_transposes, tall
from fastnn.kernels.views import matrix

__all__ = ["engine", "load", "store"]


@phase
def begin_epoch(
    plan: Any, sums: Any, order: Any, epoch: int, signals: Any, place: int, size: int
) -> None:
    """Begin to count an epoch anew, unless it goes on, and draw its order if the plan says so.

    Writes: what is counted in sums; order.
    """
    if plan.counted and not plan.begun and place == 0:
        sums[plan.counts_so_far : plan.counts_so_far + plan.tally] = 0.0
    if plan.shuffle:
        # Other threads may still be reading the last batch's weights through `order`.
        barrier(signals, size)
        if place == 0:
            shuffle(order, plan.order_key, plan.order_number + np.uint64(epoch))
        barrier(signals, size)


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
    full: Any,
) -> None:
    """Run the plan's mode on the rows of X, in as many threads as call this; see `steps`.

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
    full : int64 or None
        Any number for the engine that knows every kind of layer; None for that which knows the
        plain ones only, and is compiled without the others.
    """
    place = join(signals, plans[0].threads, leading)
    if place < 0:
        return
    size = team_size(signals)
    control = flush_subnormals()
    plan, rule, result, picks = plans[0], numbers[()], report[()], room[place]
    training, applying = plan.mode == codes.TRAIN, plan.mode == codes.APPLY
    sparse = (integers, starts, columns, entries, plan.cursors + place * plan.cursor_pitch)
    known = (X, labels, values, weights)
    examples = starts.size - 1 if plan.sparse_rows else X.shape[0]
    first_step, last_step, batch = 0, 1, max(examples, 1)
    if training:
        first_step, last_step, batch = plan.first_step, plan.last_step, plan.batch
    steps = max((examples + batch - 1) // batch, 1)
    low_tile, high_tile = tiles_for(M, tables[0], plan, place, size)
    rates = M[plan.rates_at : plan.rates_at + 2 * codes.RATES]
    done, taken, trouble = 0, 0, codes.FINE
    for step in range(first_step, last_step):
        epoch, within = step // steps, step % steps
        here = record[epoch - first_step // steps]
        if training and within == 0:
            begin_epoch(plan, sums, order, epoch, signals, place, size)
        first, last = within * batch, min((within + 1) * batch, examples)
        total = 1.0 if applying else batch_weight(weights, order, first, last)
        # A batch without weight is passed over.
        if total != 0.0:
            if (training or applying) and place == 0:
                if etas.size:
                    rule.learning_rate = etas[step - first_step]
                prepare_rates(rates, rule, plan)
                if full is not None and plan.own_rates:
                    prepare_own_rates(M, tables[0], rule, plan)
                if plan.average == codes.EACH_TILE:
                    M[plan.average_rate] = M.dtype.type(step_rate(plan, plan.averaged + taken + 1))
            stream = stream_of(plan.mask_key, plan.step_number + np.uint64(taken))
            taken += 1
            trouble, size, low_tile, high_tile = take_step(
                M, tables, plans, rule, sums, here, sparse, picks, known, order, out, stream,
                total, first, last, signals, place, size, low_tile, high_tile, full,
            )  # fmt: skip
            if trouble != codes.FINE or place >= size:
                break
            if full is not None and plan.projecting:
                project(M, tables[0], signals, place, size)
        if plan.average and plan.average != codes.EACH_TILE:
            average_weights(M, plan, total != 0.0, taken, step + 1, steps, place, size)
        done += 1
        if training and plan.measures and within == steps - 1:
            close_epoch(
                M, tables, plans, sums, result, here, sparse, picks, known, order, signals, place,
                size, full,
            )  # fmt: skip
            if result.stopped:
                break
        if team_size(signals) != size:
            size = team_size(signals)
            if place >= size:
                break
            low_tile, high_tile = tiles_for(M, tables[0], plan, place, size)
    restore_subnormals(control)
    if place == 0:
        result.steps_done = done
        result.trouble = trouble


@entry
def load(table: Any, M: Any, shift: int, vector: Any) -> None:
    """Pack a vector of parameters, or of moments, which lie `shift` further on.

    Reads: vector (size,), with buffers or without.  Writes: in M, every operation's `packed`,
    `biases` and `running`, shifted; where the shift is 0 also its `transposed`.
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
            pack(M, row.packed + shift, 1, matrix(vector, row.W, 1, row.span))
        if row.b >= 0:
            pack(M, row.biases + shift, 1, matrix(vector, row.b, 1, outputs))
        if 0 <= row.buffers < vector.size:
            # A vector of parameters or moments alone ends before them.
            at, second = row.running + shift, row.running + span_of(M, row) + shift
            pack(M, at, 1, matrix(vector, row.buffers, 1, outputs))
            pack(M, second, 1, matrix(vector, row.buffers + outputs, 1, outputs))
        if shift == 0:
            pack_transposes(M, row)


@entry
def store(table: Any, M: Any, shift: int, vector: Any) -> None:
    """Unpack what `load` packs, or a gradient, which lies after the moments.

    Reads: in M, every operation's `packed`, `biases` and `running`, shifted.
    Writes: vector (size,), with buffers or without.
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
            unpack(matrix(vector, row.W, 1, row.span), M, row.packed + shift, 1)
        if row.b >= 0:
            unpack(matrix(vector, row.b, 1, outputs), M, row.biases + shift, 1)
        if 0 <= row.buffers < vector.size:
            at, second = row.running + shift, row.running + span_of(M, row) + shift
            unpack(matrix(vector, row.buffers, 1, outputs), M, at, 1)
            unpack(matrix(vector, row.buffers + outputs, 1, outputs), M, second, 1)
