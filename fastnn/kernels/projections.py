"""Bounds of weights, kept after every step: none below 0, none of a unit longer than a limit.

A panel of an operation's weights is the unit of work: it belongs to one thread, and has one order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import apart, intrinsic, kernel
from fastnn.kernels.micro_kernels import UNIT_ROWS
from fastnn.kernels.panels import PANEL_BYTES
from fastnn.kernels.team import barrier
from fastnn.kernels.tiles import tall, turn_tile
from fastnn.kernels.update import blend, squares, sums_of_squares

__all__ = ["project"]


def _clear_negative(M: Any, at: int, count: int, pitch: int) -> None:
    """Clear in NumPy."""
    lanes = simd.BYTES // M.itemsize
    for n in range(count):
        here = M[at + n * pitch :][:lanes]
        here[here < 0] = 0


@intrinsic(_clear_negative)
def clear_negative(typing: Any, M: Any, at: Any, count: Any, pitch: Any) -> Any:
    """Put 0 in place of what is below 0 in count vectors, pitch apart.

    Reads and writes: in M, the vectors from at.  May overwrite: nothing else.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        at, count, pitch = arguments[1:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        zero = v.constant(0.0)

        def clear(n: Any) -> None:
            place = builder.add(at, builder.mul(n, pitch))
            x = v.load(data, place)
            v.store(v.select_greater(zero, x, zero, x), data, place)

        simd.count_loop(builder, count, clear)
        return context.get_dummy_value()

    return types.void(M, *[types.intp] * 3), generate


def _shorten(M: Any, at: int, count: int, pitch: int, limit: Any) -> None:
    """Shorten in NumPy."""
    lanes = simd.BYTES // M.itemsize
    rows = [M[at + n * pitch :][:lanes] for n in range(count)]
    lengths = np.sqrt(sum(row.astype(float) ** 2 for row in rows))
    factors = np.where(lengths > limit, limit / np.maximum(lengths, limit), 1.0)
    for row in rows:
        row *= factors.astype(M.dtype)


@intrinsic(_shorten)
def shorten(typing: Any, M: Any, at: Any, count: Any, pitch: Any, limit: Any) -> Any:
    """Scale each lane of count vectors, pitch apart, to a length of the limit if it is longer.

    Reads and writes: in M, the vectors from at.  May overwrite: nothing else.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        at, count, pitch, limit = arguments[1:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        wide = simd.Vectors(builder, context.get_data_type(types.float64), v.lanes)
        length = wide.call("llvm.sqrt", sums_of_squares(v, wide, data, at, count, pitch))
        most = wide.splat(limit)
        factor = builder.fdiv(most, wide.greater(length, most))
        if v.bits != 64:
            factor = builder.fptrunc(factor, v.type)

        def scale(n: Any) -> None:
            place = builder.add(at, builder.mul(n, pitch))
            v.store(builder.fmul(factor, v.load(data, place)), data, place)

        simd.count_loop(builder, count, scale)
        return context.get_dummy_value()

    return types.void(M, *[types.intp] * 3, types.float64), generate


@kernel
def project_narrow(M: Any, row: Any, panel: int) -> None:
    """Keep the bounds of weights that are stored as their transpose.

    Reads and writes: the operation's `packed`.  May overwrite: nothing else.
    """
    lanes, pitch = panel // 2, panel * codes.NARROW_ROWS
    count = (row.inputs + panel - 1) // panel
    for k in range(row.outputs):
        at = row.packed + k * panel
        if row.non_negative:
            clear_negative(M, at, count, pitch)
            clear_negative(M, at + lanes, count, pitch)
        if row.max_norm > 0.0:
            square = squares(M, at, count, pitch) + squares(M, at + lanes, count, pitch)
            length = square**0.5
            if length > row.max_norm:
                factor, zero = M.dtype.type(row.max_norm / length), M.dtype.type(0)
                blend(M, at, at, count, pitch, factor, zero)
                blend(M, at + lanes, at + lanes, count, pitch, factor, zero)


@kernel
def project_panel(M: Any, row: Any, j: int, panel: int) -> None:
    """Keep the bounds of a panel of weights, the units from column j on.

    Reads: the operation's `packed`.  Writes: that, and `transposed`.  May overwrite: nothing else.
    """
    lanes, inputs = panel // 2, row.inputs
    at = row.packed + j * tall(inputs)
    if row.non_negative:
        clear_negative(M, at, 2 * inputs, lanes)
    if row.max_norm > 0.0:
        shorten(M, at, inputs, panel, row.max_norm)
        shorten(M, at + lanes, inputs, panel, row.max_norm)
    if row.transposed >= 0:
        for i in range(0, inputs, UNIT_ROWS):
            turn_tile(M, row, i, j)


@apart
def project(M: Any, table: Any, signals: Any, place: int, size: int) -> None:
    """Keep the bounds of all weights after a step, and wait for the other threads to do so.

    Reads: packed weights, after all threads have written them.  Writes: these, and their
    transposes.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    turn = 0
    for r in range(table.shape[0]):
        row = table[r]
        if row.non_negative <= 0 and row.max_norm <= 0.0:
            continue
        across = 1 if row.narrow else (row.outputs + panel - 1) // panel
        for n in range(across):
            if turn % size == place:
                if row.narrow:
                    project_narrow(M, row, panel)
                else:
                    project_panel(M, row, n * panel, panel)
            turn += 1
    barrier(signals, size)
