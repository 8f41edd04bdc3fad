"""Whole epochs in one call: the entries that Python calls, and the walk over the table.

The architecture is data: the operation table says what to do, so that a thousand networks
compile nothing after the first of their dtype.  Kernels never raise, check or allocate; what
comes in is right by construction (``gate``, ``layout``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import entry, kernel, spliced
from fastnn.kernels.output import output_loss
from fastnn.kernels.panels import gather, pack, unpack
from fastnn.kernels.passes import backward, forward, pack_network
from fastnn.kernels.update import prepare_rates, update_vector
from fastnn.kernels.views import matrix

__all__ = ["draw_order", "engine"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_27, _30, _31, _32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_ONE = np.uint64(1)


@kernel
def pick_rows(picks: Any, order: Any, first: int) -> None:
    """Set picks to the examples that stand at first, first + 1, ... in the order.

    Reads: order (examples,), or (0,) for the examples' own order.  Writes: picks (rows,).
    """
    for i in range(picks.size):
        picks[i] = order[first + i] if order.size else first + i


@kernel
def hand_out(out: Any, A: Any, picks: Any) -> None:
    """Copy A into the picked rows of out.

    Reads: A (rows, outputs), picks (rows,).  Writes: out (examples, outputs).
    May overwrite: nothing else.
    """
    for i in range(A.shape[0]):
        o, a = out[picks[i]], A[i]
        for j in range(a.size):
            o[j] = a[j]


@spliced
def batch_weight(weights: Any, order: Any, first: int, last: int) -> float:
    """Return the sum of the weights of a batch's examples; without weights, their number."""
    if not weights.size:
        return float(last - first)
    total = 0.0
    for i in range(first, last):
        total += float(weights[order[i]] if order.size else weights[i])
    return total


@spliced
def add_penalty(gradient: Any, parameters: Any, table: Any, constants: Any) -> float:
    """Return the sum of l2 / 2 * sum(W^2) over the operations; gradient += l2 W.

    Reads: parameters, table, constants.  Writes: gradient, adding to it, unless it is empty.
    """
    penalty = 0.0
    for r in range(table.shape[0]):
        l2 = constants[r, codes.L2]
        if l2 == 0.0:
            continue
        row = table[r]
        size = row[codes.INPUTS] * row[codes.OUTPUTS]
        W = parameters[row[codes.W] :][:size]
        squares = 0.0
        for i in range(size):
            squares += float(W[i]) * float(W[i])
        penalty += 0.5 * l2 * squares
        if gradient.size:
            dW = gradient[row[codes.W] :][:size]
            factor = W.dtype.type(l2)
            for i in range(size):
                dW[i] += factor * W[i]
    return penalty


@kernel
def chunk_loss(
    workspace: Any, plan: Any, D: Any, S: Any, picks: Any, labels: Any, values: Any, weights: Any,
    total: float,
) -> float:  # fmt: skip
    """Return a chunk's part of its batch's mean loss, and compute its gradient.

    Reads: S (rows, outputs), picks (rows,), labels or values, weights.
    Writes: D (rows, outputs), or nothing where D is (0, outputs).
    May overwrite: the workspace's SHARES and LOSSES.
    """
    rows = picks.size
    losses = workspace[plan[codes.LOSSES] :][:rows]
    shares = workspace[plan[codes.SHARES] :][:rows]
    for i in range(rows):
        weight = float(weights[picks[i]]) if weights.size else 1.0
        shares[i] = workspace.dtype.type(weight / total)
    output_loss(losses, D, S, labels, values, picks, shares, plan[codes.LOSS_CODE])
    loss = 0.0
    for i in range(rows):
        # An example of no weight has no say, not even with an infinite loss.
        if shares[i] != 0.0:
            loss += float(shares[i]) * float(losses[i])
    return loss


@entry
def engine(
    plan: Any,
    table: Any,
    constants: Any,
    numbers: Any,
    report: Any,
    parameters: Any,
    gradient: Any,
    moments: Any,
    workspace: Any,
    picks: Any,
    X: Any,
    labels: Any,
    values: Any,
    weights: Any,
    order: Any,
    out: Any,
) -> None:
    """Do what the plan's mode asks for, on the rows of X.

    A large batch goes through in chunks of rows, and its sums are taken in the chunks' order.  A
    batch of one chunk is stepped layer by layer on the way back, tile by tile, and its gradient
    is never stored.

    Parameters
    ----------
    plan : int64 (codes.PLAN_ENTRIES,)
        What to do.
    table, constants : int64 and float64, one row an operation
        From `layout.Program`.
    numbers : float64 (codes.NUMBERS,)
        The optimizer's; its count of steps is written in mode TRAIN.
    report : float64 (codes.REPORT_ENTRIES,)
        Written: sums of losses and weights, steps done, trouble met.
    parameters : (size,)
        Written in mode TRAIN.
    gradient : (size,), or (0,) where none is wanted
        Written in mode GRADIENT; may be overwritten in mode TRAIN.
    moments : (rule's own, size)
        Written in mode TRAIN.
    workspace : (Program.workspace,); picks : int64 (chunk,)
        Room; any content on the way in.
    X : (n, inputs); labels : int64 (n,) or (0,); values : (n, outputs) or (0, outputs);
    weights : (n,) or (0,)
        Read only.
    order : int64 (n,), or (0,) for X's own order
        Read.
    out : (n, outputs), or (0, 0)
        Written: the last operation's result for each example.
    """
    training = plan[codes.MODE] == codes.TRAIN
    height, chunk = plan[codes.HEIGHT], plan[codes.CHUNK]
    top, bottom = table[table.shape[0] - 1], table[0]
    report[:] = 0.0
    first_step, last_step, size = 0, 1, X.shape[0]
    if training:
        first_step, last_step = plan[codes.FIRST_STEP], plan[codes.LAST_STEP]
        size = plan[codes.BATCH]
    rates = workspace[plan[codes.UPDATE] :][: codes.RATES]
    nothing = gradient[:0]
    pack_network(workspace, parameters, table)
    for step in range(first_step, last_step):
        first, last = step * size, min((step + 1) * size, X.shape[0])
        total = batch_weight(weights, order, first, last)
        if total == 0.0:
            report[codes.STEPS_DONE] += 1.0
            continue
        stepping = training and last - first <= chunk
        summing = gradient.size > 0 and not stepping
        if summing:
            gradient[:] = gradient.dtype.type(0)
        loss = add_penalty(gradient if summing else nothing, parameters, table, constants)
        broken = 0
        for start in range(first, last, chunk):
            rows = min(chunk, last - start)
            chosen = picks[:rows]
            pick_rows(chosen, order, start)
            gather(workspace, bottom[codes.SOURCE], height, X, chosen)
            forward(workspace, table, plan, rows)
            S = matrix(workspace, plan[codes.FLAT], rows, top[codes.OUTPUTS])
            unpack(S, workspace, top[codes.RESULT], height)
            if out.size:
                hand_out(out, S, chosen)
            if plan[codes.LOSS_CODE] == codes.NO_LOSS:
                continue
            wanted = rows if gradient.size else 0
            D = matrix(workspace, plan[codes.DFLAT], wanted, top[codes.OUTPUTS])
            loss += chunk_loss(workspace, plan, D, S, chosen, labels, values, weights, total)
            if gradient.size == 0 or (stepping and not np.isfinite(loss)):
                continue
            if stepping:
                prepare_rates(rates, numbers, plan[codes.OPTIMIZER])
            pack(workspace, top[codes.DRESULT], height, D)
            broken += backward(
                workspace, gradient, parameters, moments, table, constants, plan, rows, stepping
            )
        report[codes.LOSS_SUM] += loss * total
        report[codes.WEIGHT_SUM] += total
        if training:
            if not np.isfinite(loss):
                report[codes.TROUBLE] = codes.LOSS_NOT_FINITE
                return
            if not stepping:
                prepare_rates(rates, numbers, plan[codes.OPTIMIZER])
                broken = update_vector(parameters, gradient, moments, rates, plan[codes.OPTIMIZER])
                pack_network(workspace, parameters, table)
            if broken:
                report[codes.TROUBLE] = codes.UPDATE_NOT_FINITE
                return
        report[codes.STEPS_DONE] += 1.0


@kernel
def hash64(x: Any) -> Any:
    """Mix 64 bits: the finaliser of splitmix64 (Steele, Lea & Flood 2014)."""
    x = (x ^ (x >> _30)) * _MIX_1
    x = (x ^ (x >> _27)) * _MIX_2
    return x ^ (x >> _31)


@entry
def draw_order(order: Any, draw: Any) -> None:
    """Shuffle the numbers 0, 1, ..., n - 1 (Fisher & Yates), the same for the same draw.

    Every choice is a hash of the key, the draw's number and the place, so that any epoch's
    order can be had without those before it.

    Reads: draw, uint64 (2,): key and number of the draw.  Writes: order, int64 (n,).
    """
    stream = hash64(draw[0] + (draw[1] + _ONE) * _GOLDEN)
    for i in range(order.size):
        order[i] = i
    for i in range(order.size - 1, 0, -1):
        bits = hash64(stream + np.uint64(i + 1) * _GOLDEN) >> _32
        j = np.int64((bits * np.uint64(i + 1)) >> _32)
        order[i], order[j] = order[j], order[i]
