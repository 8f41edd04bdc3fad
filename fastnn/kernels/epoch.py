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
from fastnn.kernels.elementwise import activation_backward, activation_forward
from fastnn.kernels.matmul import dense_backward, dense_forward
from fastnn.kernels.output import loss_backward, loss_forward
from fastnn.kernels.update import update
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
def gather(A: Any, X: Any, picks: Any) -> None:
    """Copy the picked rows of X into A.

    Reads: X (examples, inputs), picks (rows,).  Writes: A (rows, inputs).
    May overwrite: nothing else.
    """
    for i in range(A.shape[0]):
        a, x = A[i], X[picks[i]]
        for j in range(a.size):
            a[j] = x[j]


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
def forward(workspace: Any, parameters: Any, table: Any, rows: int) -> None:
    """Walk the table down: every Z and A of a chunk of rows.

    Reads: parameters, and the first operation's source in the workspace.
    Writes: every operation's Z and result in the workspace.
    """
    for row in table:
        inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
        A = matrix(workspace, row[codes.SOURCE], rows, inputs)
        Z = matrix(workspace, row[codes.Z], rows, outputs)
        W = matrix(parameters, row[codes.W], inputs, outputs)
        b = parameters[:0] if row[codes.B] < 0 else parameters[row[codes.B] :][:outputs]
        dense_forward(Z, A, W, b)
        result = matrix(workspace, row[codes.RESULT], rows, outputs)
        activation_forward(result, Z, row[codes.ACTIVATION])


@spliced
def backward(
    workspace: Any, gradient: Any, parameters: Any, table: Any, rows: int, scratch: int
) -> None:
    """Walk the table up: every dZ of a chunk of rows, adding to the gradient.

    Reads: parameters; what `forward` left, and the last operation's DRESULT, in the workspace.
    Writes: the gradient of every parameter, adding to it; every DRESULT in the workspace.
    May overwrite: the workspace's scratch.
    """
    for r in range(table.shape[0] - 1, -1, -1):
        row = table[r]
        inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
        dZ = matrix(workspace, row[codes.DRESULT], rows, outputs)
        result = matrix(workspace, row[codes.RESULT], rows, outputs)
        Z = matrix(workspace, row[codes.Z], rows, outputs)
        activation_backward(dZ, result, Z, row[codes.ACTIVATION])
        A = matrix(workspace, row[codes.SOURCE], rows, inputs)
        W = matrix(parameters, row[codes.W], inputs, outputs)
        dW = matrix(gradient, row[codes.W], inputs, outputs)
        db = gradient[:0] if row[codes.B] < 0 else gradient[row[codes.B] :][:outputs]
        wanted = row[codes.DSOURCE] >= 0
        dA = matrix(workspace, row[codes.DSOURCE] if wanted else 0, rows if wanted else 0, inputs)
        transposed = matrix(workspace, scratch, outputs if wanted else 0, inputs)
        dense_backward(dA, dW, db, dZ, A, W, transposed)


@spliced
def batch_weight(weights: Any, order: Any, first: int, last: int) -> float:
    """Return the sum of the weights of a batch's examples; without weights, their number."""
    if not weights.size:
        return float(last - first)
    total = 0.0
    for i in range(first, last):
        total += weights[order[i]] if order.size else weights[i]
    return total


@spliced
def batch(
    plan: Any,
    table: Any,
    parameters: Any,
    gradient: Any,
    workspace: Any,
    picks: Any,
    X: Any,
    labels: Any,
    values: Any,
    weights: Any,
    order: Any,
    out: Any,
    first: int,
    last: int,
    total: float,
) -> float:
    """Take the examples from first to last as one batch; return its mean loss.

    A large batch goes through in chunks of rows, and the sums are taken in the chunks' order.
    The weights' total is given, as every chunk needs it for its gradient.

    Reads: parameters, X, labels or values, weights, order.
    Writes: out, the last operation's result for each example, unless it is empty; gradient,
    adding to it, unless it is empty.
    May overwrite: workspace, picks.
    """
    top, bottom = table[table.shape[0] - 1], table[0]
    loss = 0.0
    for start in range(first, last, plan[codes.CHUNK]):
        rows = min(plan[codes.CHUNK], last - start)
        chosen = picks[:rows]
        pick_rows(chosen, order, start)
        gather(matrix(workspace, bottom[codes.SOURCE], rows, bottom[codes.INPUTS]), X, chosen)
        forward(workspace, parameters, table, rows)
        S = matrix(workspace, top[codes.RESULT], rows, top[codes.OUTPUTS])
        if out.size:
            hand_out(out, S, chosen)
        if plan[codes.LOSS_CODE] == codes.NO_LOSS:
            continue
        shares = workspace[plan[codes.SHARES] :][:rows]
        for i in range(rows):
            weight = float(weights[chosen[i]]) if weights.size else 1.0
            shares[i] = workspace.dtype.type(weight / total)
        losses = workspace[plan[codes.LOSSES] :][:rows]
        loss_forward(losses, S, labels, values, chosen, plan[codes.LOSS_CODE])
        for i in range(rows):
            # An example of no weight has no say, not even with an infinite loss.
            if shares[i] != 0.0:
                loss += float(shares[i]) * float(losses[i])
        if gradient.size:
            D = matrix(workspace, top[codes.DRESULT], rows, top[codes.OUTPUTS])
            loss_backward(D, S, labels, values, chosen, shares, plan[codes.LOSS_CODE])
            backward(workspace, gradient, parameters, table, rows, plan[codes.SCRATCH])
    return loss


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
        Written in modes GRADIENT and TRAIN.
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
    mode = plan[codes.MODE]
    examples = X.shape[0]
    report[:] = 0.0
    first_step, last_step, size = 0, 1, examples
    if mode == codes.TRAIN:
        first_step, last_step, size = (
            plan[codes.FIRST_STEP],
            plan[codes.LAST_STEP],
            plan[codes.BATCH],
        )
    for step in range(first_step, last_step):
        first, last = step * size, min((step + 1) * size, examples)
        total = batch_weight(weights, order, first, last)
        if total > 0.0:
            gradient[:] = gradient.dtype.type(0)
            loss = batch(
                plan, table, parameters, gradient, workspace, picks,
                X, labels, values, weights, order, out, first, last, total,
            )  # fmt: skip
            loss += add_penalty(gradient, parameters, table, constants)
            report[codes.LOSS_SUM] += loss * total
            report[codes.WEIGHT_SUM] += total
            if mode == codes.TRAIN:
                if not np.isfinite(loss):
                    report[codes.TROUBLE] = codes.LOSS_NOT_FINITE
                    return
                if update(parameters, gradient, moments, numbers, plan[codes.OPTIMIZER]):
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
