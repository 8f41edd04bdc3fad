"""Fully connected layers: ``A = f(X W + b)`` of some rows, and what goes back through it.

Each thread has its own rows of a chunk.  Gradients of weights are summed by tiles; see `tiles`.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import apart, kernel
from fastnn.kernels.elementwise import activation_backward, activation_forward, by_rows
from fastnn.kernels.matmul import BLOCK_ROWS, DEPTH, strip
from fastnn.kernels.micro_kernels import (
    AS_IT_IS,
    BATCH_ROWS,
    RELU,
    RELU_SLOPE,
    SIGMOID_SLOPE,
    TANH_SLOPE,
)
from fastnn.kernels.narrow import narrow_strip
from fastnn.kernels.panels import PANEL_BYTES, pack, unpack
from fastnn.kernels.sparse_products import narrow_sums, row_sums
from fastnn.kernels.tiles import tall
from fastnn.kernels.views import matrix, rows_apart

__all__ = ["block_rows", "deactivate_rows", "dense_backward", "dense_forward", "sparse_forward"]


@kernel
def block_rows(rows: int) -> int:
    """Return how many rows a product takes at a time: equal blocks of at most BLOCK_ROWS.

    Equal, because a short last block would stream all weights through the cache for a few rows.
    """
    blocks = max((rows + BLOCK_ROWS - 1) // BLOCK_ROWS, 1)
    tiles = (rows + blocks * BATCH_ROWS - 1) // (blocks * BATCH_ROWS)
    return max(tiles, 1) * BATCH_ROWS


@kernel
def activate_panel(M: Any, row: Any, height: int, first: int, rows: int, j: int) -> None:
    """Compute A = f(Z) of a block of rows, one panel from column j.

    Reads: the operation's Z.  Writes: its result.  May overwrite: nothing else.
    """
    if row.activation == codes.IDENTITY and row.result == row.Z:
        return
    panel = PANEL_BYTES // M.itemsize
    width = panel if row.outputs - j > panel // 2 else panel // 2
    at = j * height + first * panel
    Z = rows_apart(M, row.Z + at, rows, width, panel)
    A = rows_apart(M, row.result + at, rows, width, panel)
    activation_forward(A, Z, row.activation)


@kernel
def deactivate_panel(M: Any, row: Any, height: int, first: int, rows: int, j: int) -> None:
    """Compute dZ = dA f'(Z) of a block of rows, one panel from column j.

    Reads: the operation's result or its Z.  Writes: its `dresult`, which holds dA on the way in.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    width = panel if row.outputs - j > panel // 2 else panel // 2
    at = j * height + first * panel
    A = rows_apart(M, row.result + at, rows, width, panel)
    Z = rows_apart(M, row.Z + at, rows, width, panel)
    dZ = rows_apart(M, row.dresult + at, rows, width, panel)
    activation_backward(dZ, A, Z, row.activation)


@kernel
def activate_rows(M: Any, row: Any, flat: int, height: int, first: int, last: int) -> None:
    """Compute A = f(Z) of some rows, for an activation that takes them whole.

    Reads: the operation's Z.  Writes: its result.  May overwrite: scratch for the rows at flat.
    """
    panel = PANEL_BYTES // M.itemsize
    outputs = row.outputs
    Z = matrix(M, flat, last - first, outputs)
    unpack(Z, M, row.Z + first * panel, height)
    activation_forward(Z, Z, row.activation)
    pack(M, row.result + first * panel, height, Z)


@kernel
def deactivate_rows(
    M: Any, row: Any, flat: int, dflat: int, height: int, first: int, last: int
) -> None:
    """Compute dZ = dA f'(Z) of some rows, where no product has done it in its registers.

    That is for the last operation, below a dropout, and for what takes whole rows.

    Reads: the operation's result or its Z.  Writes: its `dresult`, which holds dA on the way in.
    May overwrite: scratch for the rows at flat and dflat.
    """
    panel = PANEL_BYTES // M.itemsize
    outputs = row.outputs
    if row.activation == codes.IDENTITY:
        return
    if not by_rows(row.activation):
        for j in range(0, outputs, panel):
            deactivate_panel(M, row, height, first, last - first, j)
        return
    # Of A and Z it reads one alone.
    read = row.result if row.activation == codes.SOFTMAX else row.Z
    A = matrix(M, flat, last - first, outputs)
    unpack(A, M, read + first * panel, height)
    dZ = matrix(M, dflat, last - first, outputs)
    unpack(dZ, M, row.dresult + first * panel, height)
    activation_backward(dZ, A, A, row.activation)
    pack(M, row.dresult + first * panel, height, dZ)


@kernel
def dense_forward(M: Any, row: Any, flat: int, height: int, first: int, last: int) -> None:
    """Compute Z = A W + b and f(Z) of some rows.

    Reads: the operation's source, packed weights and biases.  Writes: its Z and result, rows
    rounded up to whole tiles.  May overwrite: scratch for the rows at flat.
    """
    panel = PANEL_BYTES // M.itemsize
    inputs, outputs = row.inputs, row.outputs
    activation = row.activation
    if row.narrow:
        at = first * panel
        narrow_strip(
            M, row.Z + at, row.source + at, row.packed, row.biases, height, last - first, inputs,
            outputs,
        )  # fmt: skip
        if by_rows(activation):
            activate_rows(M, row, flat, height, first, last)
        else:
            activate_panel(M, row, height, first, last - first, 0)
        return
    in_registers = activation == codes.RELU and row.result == row.Z
    high = tall(inputs)
    share = block_rows(last - first)
    for block in range(first, last, share):
        rows = min(share, last - block)
        at = block * panel
        for k in range(0, inputs, DEPTH):
            depth = min(DEPTH, inputs - k)
            ready = k + depth == inputs
            finish = RELU if ready and in_registers else AS_IT_IS
            a = row.source + k * height + at
            for j in range(0, outputs, panel):
                c = row.Z + j * height + at
                b = row.packed + j * high + k * panel
                start = c if k else row.biases + j
                pitch = panel if k else 0
                strip(
                    M, c, a, b, start, pitch, finish, 0, height, rows, depth, outputs - j,
                    b + high * panel,
                )  # fmt: skip
                if ready and not in_registers and not by_rows(activation):
                    activate_panel(M, row, height, block, rows, j)
    if by_rows(activation):
        activate_rows(M, row, flat, height, first, last)


@apart
def sparse_forward(
    M: Any, row: Any, plan: Any, sparse: Any, picks: Any, flat: int, first: int, last: int
) -> None:
    """Compute Z = X W + b and f(Z) of some rows of sparse examples X.

    Reads: what `gather_entries` left, sparse, the operation's packed weights and biases.
    Writes: its Z and result.  May overwrite: room for the rows at flat.
    """
    panel = PANEL_BYTES // M.itemsize
    height, outputs = plan.height, row.outputs
    W, b = row.packed, row.biases
    integers, starts, columns, _, _ = sparse
    # Pads come out as zero, as what is packed has zeros there.
    wide = (outputs + panel // 2 - 1) // (panel // 2) * (panel // 2)
    for i in range(first, last):
        at = integers[plan.beginnings + i]
        count = integers[plan.beginnings + i + 1] - at
        z, entries, begin = row.Z + i * panel, plan.entries + at, starts[picks[i]]
        if row.narrow:
            narrow_sums(
                M, z, M, entries, columns, begin, count, M, W, panel * codes.NARROW_ROWS, 1, panel,
                b, outputs,
            )  # fmt: skip
        else:
            row_sums(
                M, z, height * panel, M, entries, columns, begin, count, M, W, panel,
                tall(row.inputs) * panel, b, wide,
            )  # fmt: skip
    if by_rows(row.activation):
        activate_rows(M, row, flat, height, first, last)
        return
    for j in range(0, outputs, panel):
        activate_panel(M, row, height, first, last - first, j)


@kernel
def slope_in_registers(activation: int) -> int:
    """Return the derivative that a product's epilogue applies, AS_IT_IS for none."""
    if activation == codes.RELU:
        return RELU_SLOPE
    if activation == codes.TANH:
        return TANH_SLOPE
    return SIGMOID_SLOPE if activation == codes.SIGMOID else AS_IT_IS


@kernel
def dense_backward(
    M: Any, row: Any, below: Any, activation: int, height: int, first: int, last: int
) -> None:
    """Compute dA = dZ W^T of some rows, and dZ = dA f'(Z) of the operation below.

    A sum that reads what the operation reads adds its gradient to dA.  What takes whole rows
    below is left to `deactivate_rows`.

    Reads: the operation's `dresult`, `plus` and the transpose of its weights; the activation to
    apply the derivative of, and what the operation below, which has it, left.
    Writes: its `dsource`, of rows rounded up to whole tiles.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    inputs, outputs = row.inputs, row.outputs
    slope = slope_in_registers(activation)
    sweeping = slope == AS_IT_IS and activation != codes.IDENTITY and not by_rows(activation)
    # Narrow weights are stored as their transpose already.
    turned = row.packed if row.narrow else row.transposed
    deep = codes.NARROW_ROWS if row.narrow else outputs
    share = block_rows(last - first)
    for block in range(first, last, share):
        rows = min(share, last - block)
        at = block * panel
        for k in range(0, outputs, DEPTH):
            depth = min(DEPTH, outputs - k)
            ready = k + depth == outputs
            finish = slope if ready else AS_IT_IS
            a = row.dresult + k * height + at
            for j in range(0, inputs, panel):
                c = row.dsource + j * height + at
                b = turned + j * deep + k * panel
                e = below.result + j * height + at
                start, pitch = codes.NONE, 0
                if k:
                    start, pitch = c, panel
                elif row.plus >= 0:
                    start, pitch = row.plus + j * height + at, panel
                strip(
                    M, c, a, b, start, pitch, finish, e, height, rows, depth, inputs - j,
                    b + deep * panel,
                )  # fmt: skip
                if ready and sweeping:
                    deactivate_panel(M, below, height, block, rows, j)
