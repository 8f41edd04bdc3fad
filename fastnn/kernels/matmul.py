"""The dense layer's matrix products, forward and backward, on panels.

All three are made of register blocks, called tiles; see ``micro_kernels``.
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic, kernel
from fastnn.kernels.micro_kernels import BATCH_ROWS, LINE, UNIT_ROWS, UNROLLED, column_tile, tile
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["BLOCK_ROWS", "DEPTH", "column_sums", "gradient_tile", "strip"]

# Cache blocking: the inner index is taken DEPTH at a time and rows BLOCK_ROWS at a time, so that a
# block of A stays in the L2 cache and a panel of B in L1.
DEPTH = 256
BLOCK_ROWS = 240


@kernel
def strip(
    M: Any, c: int, a: int, b: int, start: int, start_pitch: int, finish: int, e: int, height: int,
    rows: int, inner: int, columns: int, next_b: int,
) -> None:  # fmt: skip
    """Compute one panel of C = finish(A B + start) for a block of rows.

    Reads: in M, A (rows, inner) in panels of a height from a, one panel of B (inner, columns)
    from b, the start as `tile` does, a row of it for each of C's unless start_pitch is 0; E.
    Prefetches the next panel of B, at next_b.
    Writes: C (rows, columns), one panel, rows rounded up to whole tiles of them.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    across = height * panel
    tiles = (rows + BATCH_ROWS - 1) // BATCH_ROWS
    step = min(max(UNROLLED * panel // tiles, 1), LINE // M.itemsize)
    for i in range(0, rows * panel, BATCH_ROWS * panel):
        begin = start + i if start_pitch else start
        ahead = next_b + i // (BATCH_ROWS * panel) * (inner // UNROLLED) * step
        if columns > panel // 2:
            tile(
                BATCH_ROWS, 2, M, c + i, a + i, across, b, inner, begin, start_pitch, finish, e + i,
                ahead, step,
            )  # fmt: skip
        else:
            tile(
                BATCH_ROWS, 1, M, c + i, a + i, across, b, inner, begin, start_pitch, finish, e + i,
                ahead, step,
            )  # fmt: skip


@kernel
def gradient_tile(
    M: Any, result: int, A: int, dZ: int, height: int, rows: int, i: int, j: int, inputs: int,
    outputs: int, start: int, ahead: int, ahead_step: int, lines: int,
) -> None:  # fmt: skip
    """Compute UNIT_ROWS rows from i, one panel of columns from j, of dW = A^T dZ + start.

    Reads: in M, A (height, inputs) and dZ (height, outputs) in panels, of which rows count; the
    start, laid out as the result, or zero where it is negative.  Prefetches: see `column_tile`.
    Writes: the tile at result, a panel's row apart; rows past the last input are not meaningful.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    a = A + i // panel * panel * height + i % panel
    near = panel - i % panel
    # After the last panel of A comes another buffer: for rows past the last input the panel's own
    # first columns are read instead.
    apart = panel * height - panel if i + near < inputs else -panel
    b = dZ + j * height
    if outputs - j > panel // 2:
        column_tile(
            UNIT_ROWS, 2, M, result, a, near, apart, b, rows, start, ahead, ahead_step, lines,
        )  # fmt: skip
    else:
        column_tile(
            UNIT_ROWS, 1, M, result, a, near, apart, b, rows, start, ahead, ahead_step, lines,
        )  # fmt: skip


def _column_sums(M: Any, result: int, d: int, rows: int, start: int) -> None:
    """Sum in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    total = M[d : d + rows * panel].reshape(rows, panel).sum(axis=0)
    M[result : result + panel] = total + (M[start : start + panel] if start >= 0 else 0)


@intrinsic(_column_sums)
def column_sums(typing: Any, M: Any, result: Any, d: Any, rows: Any, start: Any) -> Any:
    """Sum the columns of one panel, as four sums of every fourth row.

    Reads: in M, rows of the panel at d, and one row at start unless that is negative.
    Writes: one row of sums at result.  May overwrite: nothing else; result may be start.
    """
    signature = types.void(M, *[types.intp] * 4)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        result, d, rows, start = arguments[1:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        panel = 2 * v.lanes
        number = simd.int64
        halves = (0, v.lanes)
        sums = [[simd.variable(builder, v.constant(0.0)) for _ in range(4)] for _ in halves]
        with builder.if_then(builder.icmp_signed(">=", start, number(0))):
            for half, parts in zip(halves, sums, strict=True):
                builder.store(v.load(data, builder.add(start, number(half))), parts[0])

        def add(row: Any, count: int) -> None:
            at = builder.add(d, builder.mul(row, number(panel)))
            for n in range(count):
                for half, parts in zip(halves, sums, strict=True):
                    x = v.load(data, builder.add(at, number(n * panel + half)))
                    builder.store(builder.fadd(builder.load(parts[n]), x), parts[n])

        whole = builder.and_(rows, number(-4))
        simd.count_loop(builder, whole, lambda row: add(row, 4), step=4)
        rest = builder.sub(rows, whole)
        simd.count_loop(builder, rest, lambda row: add(builder.add(whole, row), 1))
        for half, parts in zip(halves, sums, strict=True):
            a, b, c, e = (builder.load(part) for part in parts)
            total = builder.fadd(builder.fadd(a, b), builder.fadd(c, e))
            v.store(total, data, builder.add(result, number(half)))
        return context.get_dummy_value()

    return signature, generate
