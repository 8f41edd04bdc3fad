"""Standardising: ``(x - mean) / deviation`` of some rows, in place.

The division is a multiplication by the reciprocal, of which each column has one for all rows.
Outputs of a network that learnt scaled targets are brought back to their units here too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import apart, entry, intrinsic, kernel
from fastnn.kernels.panels import PANEL_BYTES
from fastnn.kernels.subnormals import flush_subnormals, restore_subnormals

__all__ = ["bring_back", "give_units", "scale_examples", "standardize_forward"]


def _scale_rows(M: Any, to: int, at: int, mean: int, deviation: int, rows: int, pitch: int) -> None:
    """Compute it in NumPy."""
    lanes = simd.BYTES // M.itemsize
    one = M.dtype.type(1)
    spread = M[deviation : deviation + lanes]
    factor = one / np.where(spread > 0, spread, one)
    for i in range(rows):
        x = M[at + i * pitch :][:lanes]
        M[to + i * pitch :][:lanes] = (x - M[mean : mean + lanes]) * factor


@intrinsic(_scale_rows)
def scale_rows(
    typing: Any, M: Any, to: Any, at: Any, mean: Any, deviation: Any, rows: Any, pitch: Any
) -> Any:
    """Compute ``(x - mean) / deviation`` for a vector of each of some rows, pitch apart.

    Deviations of 0 count as 1: those of pads, and of features that are not known yet.

    Reads: in M, vectors of rows from at, one of means and one of deviations.
    Writes: those from to, which may be the same.  May overwrite: nothing else.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        to, at, mean, deviation, rows, pitch = arguments[1:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        one = v.constant(1.0)
        spread = v.load(data, deviation)
        known = builder.fcmp_ordered(">", spread, v.constant(0.0))
        factor = builder.fdiv(one, builder.select(known, spread, one))
        middle = v.load(data, mean)

        def turn(n: Any) -> None:
            apart = builder.mul(n, pitch)
            x = builder.fsub(v.load(data, builder.add(at, apart)), middle)
            v.store(builder.fmul(x, factor), data, builder.add(to, apart))

        simd.count_loop(builder, rows, turn)
        return context.get_dummy_value()

    return types.void(M, *[types.intp] * 6), generate


@apart
def standardize_forward(M: Any, row: Any, height: int, first: int, last: int) -> None:
    """Bring the columns of some rows to the scale that the operation's spans say.

    Reads: the operation's source, its means and deviations.  Writes: its result, which may be its
    source.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    lanes = panel // 2
    for j in range(0, row.outputs, panel):
        at = j * height + first * panel
        for half in range(j, j + panel, lanes):
            scale_rows(
                M, row.result + at + half - j, row.source + at + half - j,
                row.packed + half, row.biases + half, last - first, panel,
            )  # fmt: skip


@entry
def scale_examples(P: Any, mean: int, deviation: int, columns: int, x: Any, out: Any) -> None:
    """Bring features to their scale, with the bits of `standardize_forward`.

    Parameters
    ----------
    P : (size,)
        The parameters, with means from `mean` on and deviations from `deviation` on.
    x : (rows * columns,)
        Examples, read only.
    out : (rows * columns,)
        Written.
    """
    control = flush_subnormals()
    one = P.dtype.type(1)
    for k in range(columns):
        spread, middle = P[deviation + k], P[mean + k]
        factor = one
        if spread > 0:
            factor = one / spread
        for at in range(k, x.size, columns):
            out[at] = (x[at] - middle) * factor
    restore_subnormals(control)


@kernel
def give_units(out: Any, start: int, rows: int, outputs: int, numbers: Any) -> None:
    """Bring outputs back to the units of their targets: ``out * factor + shift``.

    Reads: numbers (2 * outputs,), factors and then shifts.  Writes: out (rows, outputs) from start.
    May overwrite: nothing else.
    """
    for i in range(rows):
        at = start + i * outputs
        for j in range(outputs):
            out[at + j] = out[at + j] * numbers[j] + numbers[outputs + j]


@entry
def bring_back(out: Any, numbers: Any) -> None:
    """Bring outputs back to the units of their targets, with the bits of `answers.answer`.

    Parameters
    ----------
    out : (rows * outputs,)
        Read and written.
    numbers : (2 * outputs,)
        What they are multiplied by, then what is added.
    """
    control = flush_subnormals()
    outputs = numbers.size // 2
    give_units(out, out.size - out.size, out.size // outputs, outputs, numbers)
    restore_subnormals(control)
