"""The dense layer's matrix products, forward and backward, on panels.

All three products are one micro-kernel, `tile`: a few rows by one panel of columns of the result
stay in registers while the inner index runs over two operands that lie in the order in which they
are read.  See ``panels`` for the format.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic, kernel
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["BATCH_ROWS", "UNIT_ROWS", "column_sums", "gradient_tile", "row_product"]

_ir: Any = ir
_cgutils: Any = cgutils

# Rows of a tile.  Two vectors of columns, as many accumulators as the registers leave room for
# beside two vectors of B and a broadcast; a weight gradient's tile must divide a panel.
BATCH_ROWS = 8 if simd.REGISTERS == 32 else 6
UNIT_ROWS = 8 if simd.BYTES == 64 else 4

# How a tile reads A: rows of a panel matrix, its inner index running along them from panel to
# panel; or columns of one panel, its inner index running down.
ALONG_ROWS = 0
DOWN_COLUMNS = 1


def _tile(
    rows: int, vectors: int, reading: int,
    C: Any, c: int, A: Any, a: int, a_panel: int, B: Any, b: int, inner: int, bias: int,
) -> None:  # fmt: skip
    """Compute one tile in NumPy."""
    panel = PANEL_BYTES // C.itemsize
    width = panel // 2 * vectors
    for r in range(rows):
        total = B[bias : bias + width].copy() if bias >= 0 else B[:0].dtype.type(0) * B[:width]
        for k in range(inner):
            if reading == ALONG_ROWS:
                factor = A[a + k // panel * a_panel + r * panel + k % panel]
            else:
                factor = A[a + k * panel + r]
            total += factor * B[b + k * panel : b + k * panel + width]
        C[c + r * panel : c + r * panel + width] = total


@intrinsic(_tile)
def tile(
    typing: Any, rows: Any, vectors: Any, reading: Any,
    C: Any, c: Any, A: Any, a: Any, a_panel: Any, B: Any, b: Any, inner: Any, bias: Any,
) -> Any:  # fmt: skip
    """Compute one tile: C[c + r panel + j] = bias_j + sum_k A(r, k) B[b + k panel + j].

    Reads: A from a, B from b, the bias at B[bias] or zero where bias is negative.
    Writes: rows x vectors of C from c, a panel's row apart.  May overwrite: nothing else.
    """
    height, width = rows.literal_value, vectors.literal_value
    down = reading.literal_value == DOWN_COLUMNS
    place = types.intp
    signature = types.void(
        rows, vectors, reading, C, place, A, place, place, B, place, place, place
    )

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        c_at, a_at, a_step, b_at, count, bias_at = (arguments[n] for n in (4, 6, 7, 9, 10, 11))
        c_data = simd.data_pointer(context, builder, kinds[3], arguments[3])
        a_data = simd.data_pointer(context, builder, kinds[5], arguments[5])
        b_data = simd.data_pointer(context, builder, kinds[8], arguments[8])
        v = simd.Vectors(builder, context.get_data_type(C.dtype))
        panel = 2 * v.lanes
        number = simd.int64
        lanes = [number(q * v.lanes) for q in range(width)]
        cells = [(r, q) for r in range(height) for q in range(width)]
        sums = {cell: _cgutils.alloca_once(builder, v.type) for cell in cells}

        biased = builder.icmp_signed(">=", bias_at, number(0))
        with builder.if_else(biased) as (given, none):
            with given:
                first = [v.load(b_data, builder.add(bias_at, lane)) for lane in lanes]
                for r, q in cells:
                    builder.store(first[q], sums[r, q])
            with none:
                for cell in cells:
                    builder.store(v.constant(0.0), sums[cell])

        a_place = _cgutils.alloca_once_value(builder, builder.gep(a_data, [a_at]))
        b_place = _cgutils.alloca_once_value(builder, builder.gep(b_data, [b_at]))

        def advance() -> None:
            at, bt = builder.load(a_place), builder.load(b_place)
            row = [v.load(bt, lane) for lane in lanes]
            for r in range(height):
                factor = v.splat(builder.load(builder.gep(at, [number(r if down else r * panel)])))
                for q in range(width):
                    builder.store(v.fma(factor, row[q], builder.load(sums[r, q])), sums[r, q])
            builder.store(builder.gep(at, [number(panel if down else 1)]), a_place)
            builder.store(builder.gep(bt, [number(panel)]), b_place)

        def repeat(times: Any) -> None:
            with _cgutils.for_range(builder, times):
                advance()

        if down:
            repeat(count)
        else:
            with _cgutils.for_range(builder, builder.sdiv(count, number(panel))):
                start = builder.load(a_place)
                repeat(number(panel))
                builder.store(builder.gep(start, [a_step]), a_place)
            repeat(builder.srem(count, number(panel)))
        for r, q in cells:
            v.store(
                builder.load(sums[r, q]), c_data, builder.add(c_at, number(r * panel + q * v.lanes))
            )
        return context.get_dummy_value()

    return signature, generate


@kernel
def row_product(
    workspace: Any, C: int, A: int, B: int, bias: int, height: int, rows: int, inner: int,
    columns: int,
) -> None:  # fmt: skip
    """Compute C = A B + bias for a chunk of rows: the forward product, and dA = dZ W^T.

    Reads: A (height, inner) in panels, B (inner, columns) in panels, biases of whole panels
    unless bias is negative.  Writes: C (height, columns) in panels, rows rounded up to whole
    tiles of them.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // workspace.itemsize
    across = height * panel
    for j in range(0, columns, panel):
        c, b = C + j * height, B + j * inner
        start = bias + j if bias >= 0 else -1
        for i in range(0, rows * panel, BATCH_ROWS * panel):
            if columns - j > panel // 2:
                tile(
                    BATCH_ROWS, 2, ALONG_ROWS,
                    workspace, c + i, workspace, A + i, across, workspace, b, inner, start,
                )  # fmt: skip
            else:
                tile(
                    BATCH_ROWS, 1, ALONG_ROWS,
                    workspace, c + i, workspace, A + i, across, workspace, b, inner, start,
                )  # fmt: skip


@kernel
def gradient_tile(
    workspace: Any, result: int, A: int, dZ: int, height: int, rows: int, i: int, j: int,
    outputs: int,
) -> None:  # fmt: skip
    """Compute UNIT_ROWS rows from i, one panel of columns from j, of dW = A^T dZ.

    Reads: A (height, inputs) and dZ (height, outputs) in panels, of which rows count.
    Writes: the tile, a panel's row apart.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // workspace.itemsize
    a = A + i // panel * panel * height + i % panel
    b = dZ + j * height
    if outputs - j > panel // 2:
        tile(UNIT_ROWS, 2, DOWN_COLUMNS, workspace, result, workspace, a, 0, workspace, b, rows, -1)
    else:
        tile(UNIT_ROWS, 1, DOWN_COLUMNS, workspace, result, workspace, a, 0, workspace, b, rows, -1)


@kernel
def column_sums(workspace: Any, result: int, dZ: int, rows: int) -> None:
    """Sum the columns of one panel, row after row.

    Reads: rows of the panel at dZ.  Writes: one row of sums at result.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // workspace.itemsize
    sums = workspace[result : result + panel]
    for q in range(panel):
        sums[q] = workspace.dtype.type(0)
    for i in range(rows):
        dz = workspace[dZ + i * panel : dZ + (i + 1) * panel]
        for q in range(panel):
            sums[q] += dz[q]
