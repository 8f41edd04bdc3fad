"""Predictions from weights of half the size: the walk of `answers` on the products of `halves`."""

from __future__ import annotations

from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import address_of, entry
from fastnn.kernels.answers import divide, take_all
from fastnn.kernels.crew import BOARD, post
from fastnn.kernels.subnormals import flush_subnormals, restore_subnormals
from fastnn.kernels.views import array_at

__all__ = ["answer_by_halves", "machine_code"]


@entry
def answer_by_halves(table: Any, plan: Any, Q: Any, room: Any, x: Any, out: Any) -> None:
    """Compute the prediction for each row of x, one at least.

    Helpers take part as in `answers.answer`, whose arguments these are.

    Parameters
    ----------
    table : int64 (layers, codes.TABLE_COLUMNS)
        From `predicting.halves`.
    plan : int64 (codes.ANSWER_ENTRIES,)
        From there too; written only where it has a board.
    Q : float32 (size,)
        Biases and layers of few outputs as `answers.prepare` packs them, and panels of halves, two
        in the bits of each number.
    room : float32 (elements,)
        Workspace.
    x : float32 (rows * inputs,)
        Read only.
    out : float32 (rows * outputs,)
        Written.
    """
    control = flush_subnormals()
    helping, job = plan[codes.NUMBER] > 0, plan[codes.JOB]
    board = array_at(plan, plan[codes.BOARD], BOARD, 0)
    rows = plan[codes.ROWS] if helping else x.size // table[0, codes.INPUTS]
    if plan[codes.BOARD] != 0 and not helping:
        divide(plan, rows)
        job = post(board, table, plan, Q, room, x, out)
    take_all(board, job, table, plan, None, Q, room, x, out, rows)
    restore_subnormals(control)


def machine_code(*arguments: Any) -> int:
    """Return where the kernel's code for such arguments lies, once it is compiled; else 0."""
    return address_of(answer_by_halves, arguments)
