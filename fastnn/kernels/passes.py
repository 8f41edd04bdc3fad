"""The walk over the operation table: forward, backward, and the tiles of weight gradients.

The architecture is data: the table says what to do with which part of the workspace.  Forward and
backward go by rows, of which every thread has its own; weight gradients go by tiles.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import kernel
from fastnn.kernels.dropout import dropout_backward, dropout_forward, dropped_relu_backward
from fastnn.kernels.elementwise import activation_backward, activation_forward
from fastnn.kernels.matmul import (
    AS_IT_IS,
    BATCH_ROWS,
    BLOCK_ROWS,
    DEPTH,
    RELU,
    RELU_SLOPE,
    SIGMOID_SLOPE,
    TANH_SLOPE,
    UNIT_ROWS,
    column_sums,
    gradient_tile,
    strip,
)
from fastnn.kernels.panels import PANEL_BYTES, pack, transpose_tile, unpack
from fastnn.kernels.update import add_scaled, squares, update_span
from fastnn.kernels.views import matrix, rows_apart

__all__ = [
    "backward",
    "finish_tiles",
    "forward",
    "pack_transposes",
    "step_tiles",
    "sum_tiles",
    "tall",
]

# Elements of A that the tiles of a weight gradient go through before they turn to the next panel.
_BAND = 1 << 18


@kernel
def tall(rows: int) -> int:
    """Return the rows of a weight matrix, rounded up to whole tiles of its gradient."""
    return (rows + UNIT_ROWS - 1) // UNIT_ROWS * UNIT_ROWS


@kernel
def tile_at(unit: int, inputs: int, outputs: int, panel: int, chunk: int) -> tuple[int, int]:
    """Return the first row and column of a tile of a weight gradient.

    Tiles go down a panel, panel after panel; where A is too large for the second-level cache, in
    bands of rows, so that it is read once and not for every panel (2048-2048, batch 512: 7 %).
    """
    down, across = tall(inputs) // UNIT_ROWS, (outputs + panel - 1) // panel
    band = max(_BAND // (chunk * UNIT_ROWS), 1)
    above = unit // (band * across) * band
    here = min(band, down - above)
    place = unit - above * across
    return (above + place % here) * UNIT_ROWS, place // here * panel


@kernel
def block_rows(rows: int) -> int:
    """Return how many rows a product takes at a time: equal blocks of at most BLOCK_ROWS.

    A last block of few rows would read all weights for little.
    """
    blocks = max((rows + BLOCK_ROWS - 1) // BLOCK_ROWS, 1)
    tiles = (rows + blocks * BATCH_ROWS - 1) // (blocks * BATCH_ROWS)
    return max(tiles, 1) * BATCH_ROWS


@kernel
def activate_panel(M: Any, row: Any, height: int, first: int, rows: int, j: int) -> None:
    """Compute A = f(Z) of a block of rows, one panel from column j.

    Reads: the operation's Z.  Writes: its result.  May overwrite: nothing else.
    """
    if row[codes.ACTIVATION] == codes.IDENTITY and row[codes.Z] == row[codes.RESULT]:
        return
    panel = PANEL_BYTES // M.itemsize
    width = panel if row[codes.OUTPUTS] - j > panel // 2 else panel // 2
    at = j * height + first * panel
    Z = rows_apart(M, row[codes.Z] + at, rows, width, panel)
    A = rows_apart(M, row[codes.RESULT] + at, rows, width, panel)
    activation_forward(A, Z, row[codes.ACTIVATION])


@kernel
def deactivate_panel(M: Any, row: Any, height: int, first: int, rows: int, j: int) -> None:
    """Compute dZ = dA f'(Z) of a block of rows, one panel from column j.

    Reads: the operation's result or its Z.  Writes: its DRESULT, which holds dA on the way in.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    width = panel if row[codes.OUTPUTS] - j > panel // 2 else panel // 2
    at = j * height + first * panel
    A = rows_apart(M, row[codes.RESULT] + at, rows, width, panel)
    Z = rows_apart(M, row[codes.Z] + at, rows, width, panel)
    dZ = rows_apart(M, row[codes.DRESULT] + at, rows, width, panel)
    activation_backward(dZ, A, Z, row[codes.ACTIVATION])


@kernel
def activate_rows(M: Any, row: Any, flat: int, height: int, first: int, last: int) -> None:
    """Compute A = softmax(Z) of some rows.

    Reads: the operation's Z.  Writes: its result.  May overwrite: room for the rows at flat.
    """
    panel = PANEL_BYTES // M.itemsize
    outputs = row[codes.OUTPUTS]
    Z = matrix(M, flat, last - first, outputs)
    unpack(Z, M, row[codes.Z] + first * panel, height)
    activation_forward(Z, Z, codes.SOFTMAX)
    pack(M, row[codes.RESULT] + first * panel, height, Z)


@kernel
def deactivate_rows(
    M: Any, row: Any, flat: int, dflat: int, height: int, first: int, last: int
) -> None:
    """Compute dZ = dA f'(Z) of some rows: of the last operation, below a dropout, of a softmax.

    Reads: the operation's result or its Z.  Writes: its DRESULT, which holds dA on the way in.
    May overwrite: room for the rows at flat and dflat.
    """
    panel = PANEL_BYTES // M.itemsize
    outputs = row[codes.OUTPUTS]
    if row[codes.ACTIVATION] == codes.IDENTITY:
        return
    if row[codes.ACTIVATION] != codes.SOFTMAX:
        for j in range(0, outputs, panel):
            deactivate_panel(M, row, height, first, last - first, j)
        return
    A = matrix(M, flat, last - first, outputs)
    unpack(A, M, row[codes.RESULT] + first * panel, height)
    dZ = matrix(M, dflat, last - first, outputs)
    unpack(dZ, M, row[codes.DRESULT] + first * panel, height)
    activation_backward(dZ, A, A, codes.SOFTMAX)
    pack(M, row[codes.DRESULT] + first * panel, height, dZ)


@kernel
def dense_forward(M: Any, row: Any, flat: int, height: int, first: int, last: int) -> None:
    """Compute Z = A W + b and f(Z) of some rows.

    Reads: the operation's source, packed weights and biases.  Writes: its Z and result, of rows
    rounded up to whole tiles.  May overwrite: room for the rows at flat.
    """
    panel = PANEL_BYTES // M.itemsize
    inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
    activation = row[codes.ACTIVATION]
    in_registers = activation == codes.RELU and row[codes.Z] == row[codes.RESULT]
    high = tall(inputs)
    share = block_rows(last - first)
    for block in range(first, last, share):
        rows = min(share, last - block)
        at = block * panel
        for k in range(0, inputs, DEPTH):
            depth = min(DEPTH, inputs - k)
            ready = k + depth == inputs
            finish = RELU if ready and in_registers else AS_IT_IS
            a = row[codes.SOURCE] + k * height + at
            for j in range(0, outputs, panel):
                c = row[codes.Z] + j * height + at
                b = row[codes.PACKED] + j * high + k * panel
                start = c if k else row[codes.BIASES] + j
                pitch = panel if k else 0
                strip(
                    M, c, a, b, start, pitch, finish, 0, height, rows, depth, outputs - j,
                    b + high * panel,
                )  # fmt: skip
                if ready and not in_registers and activation != codes.SOFTMAX:
                    activate_panel(M, row, height, block, rows, j)
    if activation == codes.SOFTMAX:
        activate_rows(M, row, flat, height, first, last)


@kernel
def slope_in_registers(activation: int) -> int:
    """Return how a product ends that passes a gradient below an activation, or AS_IT_IS."""
    if activation == codes.RELU:
        return RELU_SLOPE
    if activation == codes.TANH:
        return TANH_SLOPE
    return SIGMOID_SLOPE if activation == codes.SIGMOID else AS_IT_IS


@kernel
def dense_backward(M: Any, row: Any, below: Any, height: int, first: int, last: int) -> None:
    """Compute dA = dZ W^T of some rows, and dZ = dA f'(Z) of the operation below.

    A softmax below, which takes whole rows, is left to `deactivate_rows`; a dropout has no slope.

    Reads: the operation's DRESULT and TRANSPOSED, and what the one below left.
    Writes: the DRESULT of the one below, of rows rounded up to whole tiles.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
    activation = below[codes.ACTIVATION]
    slope = slope_in_registers(activation)
    sweeping = slope == AS_IT_IS and activation != codes.IDENTITY and activation != codes.SOFTMAX
    share = block_rows(last - first)
    for block in range(first, last, share):
        rows = min(share, last - block)
        at = block * panel
        for k in range(0, outputs, DEPTH):
            depth = min(DEPTH, outputs - k)
            ready = k + depth == outputs
            finish = slope if ready else AS_IT_IS
            a = row[codes.DRESULT] + k * height + at
            for j in range(0, inputs, panel):
                c = row[codes.DSOURCE] + j * height + at
                b = row[codes.TRANSPOSED] + j * outputs + k * panel
                e = below[codes.RESULT] + j * height + at
                start = c if k else codes.NONE
                pitch = panel if k else 0
                strip(
                    M, c, a, b, start, pitch, finish, e, height, rows, depth, inputs - j,
                    b + outputs * panel,
                )  # fmt: skip
                if ready and sweeping:
                    deactivate_panel(M, below, height, block, rows, j)


@kernel
def forward(
    M: Any, table: Any, constants: Any, plan: Any, stream: Any, begun: int, first: int, last: int
) -> None:
    """Walk the table down: every Z and A of some rows of a chunk.

    Reads: packed weights, and the first operation's source; the step's stream, and begun, the
    rows of the batch before the chunk.  Writes: every operation's Z and result.
    May overwrite: these rows of FLAT.
    """
    height = plan[codes.HEIGHT]
    flat = plan[codes.FLAT] + first * plan[codes.WIDEST]
    for r in range(table.shape[0]):
        row = table[r]
        if row[codes.OPERATION] == codes.DROPOUT:
            scale = constants[r, codes.KEPT_SCALE]
            dropout_forward(M, row, scale, height, stream, begun, first, last)
        else:
            dense_forward(M, row, flat, height, first, last)


@kernel
def backward(
    M: Any, table: Any, constants: Any, plan: Any, stream: Any, begun: int, first: int, last: int
) -> None:
    """Walk the table up: every dZ of some rows of a chunk.

    Reads: what `forward` left and was given, and the last operation's DRESULT.
    Writes: every DRESULT.  May overwrite: these rows of FLAT and DFLAT.
    """
    apart, height = first * plan[codes.WIDEST], plan[codes.HEIGHT]
    flat, dflat = plan[codes.FLAT] + apart, plan[codes.DFLAT] + apart
    top = table[table.shape[0] - 1]
    deactivate_rows(M, top, flat, dflat, height, first, last)
    for r in range(table.shape[0] - 1, 0, -1):
        row, below = table[r], table[r - 1]
        if row[codes.DSOURCE] < 0:
            # Only the inputs are left, and what dropout made of them.
            break
        scale, activation = constants[r, codes.KEPT_SCALE], below[codes.ACTIVATION]
        ready = activation != codes.SOFTMAX
        if row[codes.OPERATION] == codes.DENSE:
            dense_backward(M, row, below, height, first, last)
        elif activation == codes.RELU:
            dropped_relu_backward(M, row, scale, height, first, last)
        else:
            dropout_backward(M, row, scale, height, stream, begun, first, last)
            ready = False
        if not ready:
            deactivate_rows(M, below, flat, dflat, height, first, last)


@kernel
def pack_transposes(M: Any, row: Any) -> None:
    """Write the transpose of an operation's packed weights, where it is asked for.

    Reads: its PACKED.  Writes: its TRANSPOSED, but for what lies past the last input.
    """
    if row[codes.TRANSPOSED] < 0:
        return
    panel = PANEL_BYTES // M.itemsize
    for j in range(0, row[codes.OUTPUTS], panel):
        for i in range(0, row[codes.INPUTS], UNIT_ROWS):
            turn_tile(M, row, i, j)


@kernel
def turn_tile(M: Any, row: Any, i: int, j: int) -> None:
    """Write the transpose of one tile of weights.

    Reads: the operation's PACKED.  Writes: its TRANSPOSED.
    """
    panel = PANEL_BYTES // M.itemsize
    outputs = row[codes.OUTPUTS]
    source = row[codes.PACKED] + j * tall(row[codes.INPUTS]) + i * panel
    target = row[codes.TRANSPOSED] + i // panel * panel * outputs + i % panel + j * panel
    transpose_tile(UNIT_ROWS, M, source, target, min(panel, outputs - j))


@kernel
def sum_tiles(
    M: Any, row: Any, plan: Any, rows: int, first: int, last: int, group: int, starting: bool
) -> None:
    """Add a chunk's part of some tiles of an operation's gradient, and of the biases beside them.

    Reads: the operation's source and DRESULT.  Writes: the group's part of its gradient, anew
    where starting.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    inputs, outputs, height = row[codes.INPUTS], row[codes.OUTPUTS], plan[codes.HEIGHT]
    high = tall(inputs)
    shift = (1 + plan[codes.MOMENTS] + group) * plan[codes.STATE]
    for unit in range(first, last):
        i, j = tile_at(unit, inputs, outputs, panel, plan[codes.CHUNK])
        g = row[codes.PACKED] + j * high + i * panel + shift
        gradient_tile(
            M, g, row[codes.SOURCE], row[codes.DRESULT], height, rows, i, j, outputs,
            codes.NONE if starting else g,
        )  # fmt: skip
        if i == 0 and row[codes.B] >= 0:
            b = row[codes.BIASES] + j + shift
            dZ = row[codes.DRESULT] + j * height
            column_sums(M, b, dZ, rows, codes.NONE if starting else b)


@kernel
def finish_tiles(
    M: Any, row: Any, plan: Any, sums: Any, l2: Any, first: int, last: int, groups: int
) -> None:
    """Add up the groups' parts of some tiles of an operation's gradient, and the part of L2.

    Reads: the groups' parts, in their order; the operation's PACKED.  Writes: its gradient, which
    is the first group's; the sums of squares of weights and gradients of each tile.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    lanes = panel // 2
    inputs, outputs, state = row[codes.INPUTS], row[codes.OUTPUTS], plan[codes.STATE]
    high = tall(inputs)
    shift = (1 + plan[codes.MOMENTS]) * state
    one = M.dtype.type(1)
    for unit in range(first, last):
        i, j = tile_at(unit, inputs, outputs, panel, plan[codes.CHUNK])
        w = row[codes.PACKED] + j * high + i * panel
        g, b = w + shift, row[codes.BIASES] + j + shift
        halves = 2 if outputs - j > lanes else 1
        count, pitch = halves * min(UNIT_ROWS, inputs - i), panel // halves
        biased = i == 0 and row[codes.B] >= 0
        for group in range(1, groups):
            add_scaled(M, g, g + group * state, count, pitch, one)
            if biased:
                add_scaled(M, b, b + group * state, 2, lanes, one)
        place = row[codes.UNITS] + unit
        if l2:
            sums[place] = 0.5 * float(l2) * squares(M, w, count, pitch)
            add_scaled(M, g, w, count, pitch, l2)
        square = squares(M, g, count, pitch)
        if biased:
            square += squares(M, b, 2, lanes)
        sums[plan[codes.UNIT_COUNT] + place] = square


@kernel
def step_tiles(
    M: Any, row: Any, plan: Any, sums: Any, l2: Any, scale: Any, rows: int, first: int, last: int,
    tile: int, starting: bool, kept: bool,
) -> int:  # fmt: skip
    """Update some tiles of an operation's weights, and the biases beside them.

    Where the gradient is kept, it is read; else each tile's is computed (from zero where the
    batch has no chunk before, starting), applied while it is in the cache, and forgotten.

    Reads: the operation's source and DRESULT, or its gradient.  Writes: its PACKED, BIASES,
    TRANSPOSED and moments; where l2 is not zero, the sum of squared weights of each tile.
    May overwrite: tile.  Returns how many tiles have results that are not finite.
    """
    panel = PANEL_BYTES // M.itemsize
    lanes = panel // 2
    inputs, outputs, height = row[codes.INPUTS], row[codes.OUTPUTS], plan[codes.HEIGHT]
    state, rates, code = plan[codes.STATE], plan[codes.RATES_AT], plan[codes.OPTIMIZER]
    high = tall(inputs)
    shift = (1 + plan[codes.MOMENTS]) * state
    zero = M.dtype.type(0)
    broken = 0
    for unit in range(first, last):
        i, j = tile_at(unit, inputs, outputs, panel, plan[codes.CHUNK])
        w = row[codes.PACKED] + j * high + i * panel
        g = w + shift if kept else tile
        if not kept:
            gradient_tile(
                M, tile, row[codes.SOURCE], row[codes.DRESULT], height, rows, i, j, outputs,
                codes.NONE if starting else w + shift,
            )  # fmt: skip
        halves = 2 if outputs - j > lanes else 1
        count, pitch = halves * min(UNIT_ROWS, inputs - i), panel // halves
        if l2:
            sums[row[codes.UNITS] + unit] = 0.5 * float(l2) * squares(M, w, count, pitch)
        broken += update_span(M, w, g, state, count, pitch, rates, l2, scale, code)
        if row[codes.TRANSPOSED] >= 0:
            turn_tile(M, row, i, j)
        if i == 0 and row[codes.B] >= 0:
            b = row[codes.BIASES] + j
            g = b + shift if kept else tile
            if not kept:
                dZ = row[codes.DRESULT] + j * height
                column_sums(M, tile, dZ, rows, codes.NONE if starting else b + shift)
            of_biases = rates + codes.RATES
            broken += update_span(M, b, g, state, 2, lanes, of_biases, zero, scale, code)
    return broken
