"""What surrounds the passes for a chunk of rows: examples in, losses and predictions out."""

from __future__ import annotations

from typing import Any

from fastnn.kernels._jit import apart, kernel
from fastnn.kernels.entries import gather_entries
from fastnn.kernels.output import output_loss
from fastnn.kernels.panels import PANEL_BYTES, collect_rows, pack, spread_rows, unpack
from fastnn.kernels.views import matrix, rows_apart

__all__ = ["batch_weight", "chunk_loss", "hand_out", "row_losses", "take_rows"]


@kernel
def gather(
    M: Any, at: int, height: int, picks: Any, X: Any, order: Any, start: int, first: int, last: int
) -> None:
    """Copy some rows of a chunk into panels, and note which examples they are.

    Reads: X (examples, columns); order (examples,), or (0,) for the examples' own order;
    the chunk begins at position start of either.  Writes: in M, rows first to last - 1 of the
    panel matrix that begins at `at`; the same rows of picks.  May overwrite: nothing else.
    """
    for i in range(first, last):
        picks[i] = order[start + i] if order.size else start + i
    spread_rows(M, at, height, X, picks, first, last)


@kernel
def take_rows(
    M: Any, table: Any, plan: Any, sparse: Any, picks: Any, X: Any, order: Any, start: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """Take some rows of a chunk in, dense or sparse; see `gather` and `gather_entries`."""
    if plan.sparse_rows:
        gather_entries(M, plan, sparse, picks, order, start, first, last)
    else:
        gather(M, table[0].source, plan.height, picks, X, order, start, first, last)


@apart
def hand_out(out: Any, M: Any, at: int, height: int, picks: Any, first: int, last: int) -> None:
    """Copy some rows of panels into the picked rows of out.

    Reads: in M, rows first to last - 1 of the panel matrix that begins at `at`; picks.
    Writes: out (examples, outputs).  May overwrite: nothing else.
    """
    collect_rows(out, picks, M, at, height, first, last)


@kernel
def batch_weight(weights: Any, order: Any, first: int, last: int) -> float:
    """Return the sum of the weights of a batch's examples; without weights, their number."""
    if not weights.size:
        return float(last - first)
    total = 0.0
    for i in range(first, last):
        total += float(weights[order[i]] if order.size else weights[i])
    return total


@kernel
def row_losses(
    M: Any, top: Any, plan: Any, picks: Any, labels: Any, values: Any, weights: Any,
    total: float, first: int, last: int,
) -> None:  # fmt: skip
    """Compute the losses of some rows of a chunk, and the gradients of their batch's mean.

    Reads: the last operation's result, picks, labels or values, weights.  Writes: the same rows of
    `shares` and `losses`, and of the last operation's `dresult` if it has one.
    May overwrite: these rows of `flat_at` and `dflat_at`.
    """
    panel = PANEL_BYTES // M.itemsize
    outputs, height = top.outputs, plan.height
    shares = M[plan.shares + first : plan.shares + last]
    losses = M[plan.losses + first : plan.losses + last]
    chosen = picks[first:last]
    scale = plan.gradient_scale
    if weights.size:
        for i in range(last - first):
            shares[i] = M.dtype.type(float(weights[chosen[i]]) / total * scale)
    else:
        shares[:] = M.dtype.type(1.0 / total * scale)
    wanted = last - first if top.dresult >= 0 else 0
    # Threads may be in different layers, so the stride between rows is the widest layer's.
    flat = plan.flat_at + first * plan.widest
    dflat = plan.dflat_at + first * plan.widest
    pitch = outputs
    if outputs <= panel:
        flat = top.result + first * panel
        dflat = top.dresult + first * panel
        pitch = panel
    else:
        unpack(matrix(M, flat, last - first, outputs), M, top.result + first * panel, height)
    S = rows_apart(M, flat, last - first, outputs, pitch)
    D = rows_apart(M, dflat, wanted, outputs, pitch)
    output_loss(losses, D, S, labels, values, chosen, shares, plan)
    if outputs > panel:
        pack(M, top.dresult + first * panel, height, matrix(M, dflat, wanted, outputs))


@kernel
def chunk_loss(M: Any, plan: Any, rows: int) -> float:
    """Return a chunk's part of its batch's mean loss.  Reads: `shares`, `losses`."""
    loss = 0.0
    shares = M[plan.shares : plan.shares + rows]
    losses = M[plan.losses : plan.losses + rows]
    for i in range(rows):
        # An example of weight 0 does not count, not even with an infinite loss (0 * inf is NaN).
        if shares[i] != 0.0:
            loss += float(shares[i]) * float(losses[i])
    return loss * float(plan.loss_scale / plan.gradient_scale)
