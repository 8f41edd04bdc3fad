"""Dropout: which units stay follows from a hash, so that no mask is stored and no order matters.

Each unit of each example has a number: the example's place in the batch times the units of the
layer, plus the unit's own.  A keyed hash of it says whether the unit stays.  So the backward pass
finds the same units as the forward pass, and so does any thread, with vectors of any width and
either dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import apart, intrinsic, kernel
from fastnn.kernels.order import drawn
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["dropout_backward", "dropout_forward", "dropped_relu_backward"]

# llvmlite's helpers carry no types.
_ir: Any = ir

# Shifts and multipliers of 32 bits that mix best (Wellons 2018, "Prospecting for hash functions").
# Half of a key is added before, and half comes between them.  The last shift of the original
# would mix the lowest bits only, which hardly matter in a comparison.
_SHIFTS = 16, 15
_FACTORS = 0x7FEB352D, 0x846CA68B


def _keep(
    M: Any, to: int, at: int, rows: int, vectors: int, first: int, pitch: int, key: int,
    threshold: int, scale: Any,
) -> None:  # fmt: skip
    """Drop in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    width = panel // 2 * vectors
    low, high = np.uint32(int(key) % 2**32), np.uint32(int(key) >> 32)
    numbers = first + np.arange(rows)[:, np.newaxis] * pitch + np.arange(width)
    x = (numbers % 2**32).astype(np.uint32) + low
    x = (x ^ (x >> np.uint32(_SHIFTS[0]))) * np.uint32(_FACTORS[0])
    x = (x ^ (x >> np.uint32(_SHIFTS[1])) ^ high) * np.uint32(_FACTORS[1])
    for i in range(rows):
        a = M[at + i * panel : at + i * panel + width]
        M[to + i * panel : to + i * panel + width] = np.where(
            x[i] >= threshold, a * scale, M.dtype.type(0)
        )


@intrinsic(_keep)
def keep(
    typing: Any, M: Any, to: Any, at: Any, rows: Any, vectors: Any, first: Any, pitch: Any,
    key: Any, threshold: Any, scale: Any,
) -> Any:  # fmt: skip
    """Copy rows of one panel, scaled where a number's hash is at least the threshold, else zero.

    Reads: in M, one or two vectors of each of the rows from at, a panel's row apart; first, the
    number of the first unit, and pitch, from one row's number to the next; key, uint64.
    Writes: the same of the panel at to, which may be the one at at.  May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(
        M, place, place, place, place, place, place, types.uint64, types.int64, M.dtype
    )

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        element = context.get_data_type(M.dtype)
        kinds = [data.type, *[simd.int64] * 8, element]
        # Forward and backward, wherever they are called from, share one loop.
        function = simd.outlined(builder, f"fastnn.keep.{element}", kinds, _emit)
        builder.call(function, [data, *arguments[1:]])
        return context.get_dummy_value()

    return signature, generate


def _emit(
    builder: Any, data: Any, to: Any, at: Any, rows: Any, vectors: Any, first: Any, pitch: Any,
    key: Any, threshold: Any, scale: Any,
) -> None:  # fmt: skip
    """Emit the loops over vectors and rows."""
    v = simd.Vectors(builder, scale.type)
    number, half = simd.int64, simd.int32
    # As many integers of 32 bits as there are lanes, whatever the width of an element.
    words = _ir.VectorType(half, v.lanes)

    def same(value: int) -> Any:
        return _ir.Constant(words, [value] * v.lanes)

    lanes = _ir.Constant(words, list(range(v.lanes)))
    high = v.splat(builder.trunc(builder.lshr(key, number(32)), half))
    low, step = builder.trunc(key, half), builder.trunc(pitch, half)
    least = v.splat(builder.trunc(threshold, half))
    factor, zero = v.splat(scale), v.constant(0.0)

    def column(n: Any) -> None:
        number_of = builder.add(first, builder.mul(n, number(v.lanes)))
        start = builder.add(low, builder.trunc(number_of, half))
        begin = builder.add(v.splat(start), lanes)

        def row(i: Any) -> None:
            here = _place(v, n, i)
            x = builder.add(begin, v.splat(builder.mul(builder.trunc(i, half), step)))
            x = builder.xor(x, builder.lshr(x, same(_SHIFTS[0])))
            x = builder.mul(x, same(_FACTORS[0]))
            x = builder.xor(builder.xor(x, builder.lshr(x, same(_SHIFTS[1]))), high)
            x = builder.mul(x, same(_FACTORS[1]))
            a = builder.fmul(v.load(data, builder.add(at, here)), factor)
            stays = builder.icmp_unsigned(">=", x, least)
            v.store(builder.select(stays, a, zero), data, builder.add(to, here))

        simd.count_loop(builder, rows, row)

    simd.count_loop(builder, vectors, column)


def _pass_kept(M: Any, d: int, a: int, rows: int, vectors: int, scale: Any) -> None:
    """Scale in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    width = panel // 2 * vectors
    for i in range(0, rows * panel, panel):
        below, gradient = M[a + i : a + i + width], M[d + i : d + i + width]
        gradient[:] = np.where(below <= 0, M.dtype.type(0), gradient * scale)


@intrinsic(_pass_kept)
def pass_kept(typing: Any, M: Any, d: Any, a: Any, rows: Any, vectors: Any, scale: Any) -> Any:
    """Scale rows of one panel where another one is above zero; elsewhere write zero.

    Reads: in M, one or two vectors of each of the rows from a, a panel's row apart.
    Writes: the same from d, in place.  May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(M, place, place, place, place, M.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        d, a, rows, vectors, scale = arguments[1:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        factor, zero = v.splat(scale), v.constant(0.0)

        def column(n: Any) -> None:
            def row(i: Any) -> None:
                here = _place(v, n, i)
                gradient = v.load(data, builder.add(d, here))
                # Asked this way round, NaN keeps its gradient, as in relu without dropout.
                nothing = builder.fcmp_ordered("<=", v.load(data, builder.add(a, here)), zero)
                scaled = builder.select(nothing, zero, builder.fmul(gradient, factor))
                v.store(scaled, data, builder.add(d, here))

            simd.count_loop(builder, rows, row)

        simd.count_loop(builder, vectors, column)
        return context.get_dummy_value()

    return signature, generate


def _place(v: simd.Vectors, n: Any, i: Any) -> Any:
    """Return where vector n of row i lies in a panel."""
    build, lanes = v.builder, simd.int64(v.lanes)
    return build.add(build.mul(n, lanes), build.mul(i, build.add(lanes, lanes)))


@kernel
def drop(
    M: Any, row: Any, scale: float, to: int, at: int, height: int, stream: Any, begun: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """Copy some rows of a chunk, with zeros for the units that the operation drops.

    Reads: in M, the panels from `at`; the step's stream, and begun, how many rows of the batch
    came before the chunk.  Writes: the panels from to, which may be the same ones.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    units = row.outputs
    key = drawn(stream, row.place)
    for j in range(0, units, panel):
        vectors = 2 if units - j > panel // 2 else 1
        here = j * height + first * panel
        number = (begun + first) * units + j
        keep(
            M, to + here, at + here, last - first, vectors, number, units, key, row.threshold,
            M.dtype.type(scale),
        )  # fmt: skip


@apart
def dropout_forward(
    M: Any, row: Any, scale: float, height: int, stream: Any, begun: int, first: int, last: int
) -> None:
    """Drop units of some rows, and scale the others, so that expected sums stay the same.

    Reads: the operation's source.  Writes: its result, which may be the source.
    May overwrite: nothing else.
    """
    source, result = row.source, row.result
    drop(M, row, scale, result, source, height, stream, begun, first, last)


@apart
def dropout_backward(
    M: Any, row: Any, scale: float, height: int, stream: Any, begun: int, first: int, last: int
) -> None:
    """Compute the gradient of the operation's source from that of its result, for some rows.

    Reads and writes: the operation's `dresult`, which is its `dsource` too.
    May overwrite: nothing else.
    """
    dresult = row.dresult
    drop(M, row, scale, dresult, dresult, height, stream, begun, first, last)


@apart
def dropped_relu_backward(
    M: Any, row: Any, scale: float, height: int, first: int, last: int
) -> None:
    """Compute dZ of a relu below a dropout, for some rows, in one pass and without rehashing.

    An output that is still positive was neither clipped nor dropped (64-100-10, batch 200:
    dropout adds 9 % to a step, 14 % with a hash).

    Reads: the operation's result.  Reads and writes: its `dresult`, which is its `dsource` too.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    units = row.outputs
    for j in range(0, units, panel):
        vectors = 2 if units - j > panel // 2 else 1
        here = j * height + first * panel
        d, a = row.dresult + here, row.result + here
        pass_kept(M, d, a, last - first, vectors, M.dtype.type(scale))
