"""Tiles of weight gradients: summed, applied while they are in the cache, and turned.

Of a layer's weights a tile is ``UNIT_ROWS`` inputs by a panel of outputs.  Each belongs to one
thread, and every sum has one order.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import kernel
from fastnn.kernels.matmul import UNIT_ROWS, column_sums, gradient_tile
from fastnn.kernels.panels import PANEL_BYTES, transpose_tile
from fastnn.kernels.update import blend, squares, update_span

__all__ = ["finish_tiles", "pack_transposes", "step_tiles", "sum_tiles", "tall", "tile_at"]

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
            blend(M, g, g + group * state, count, pitch, one, one)
            if biased:
                blend(M, b, b + group * state, 2, lanes, one, one)
        place = row[codes.UNITS] + unit
        if l2:
            sums[place] = 0.5 * float(l2) * squares(M, w, count, pitch)
            blend(M, g, w, count, pitch, one, l2)
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
    May overwrite: tile, the gradient.  Returns how many tiles have results that are not finite.
    """
    panel = PANEL_BYTES // M.itemsize
    lanes = panel // 2
    inputs, outputs, height = row[codes.INPUTS], row[codes.OUTPUTS], plan[codes.HEIGHT]
    state, rates, code = plan[codes.STATE], plan[codes.RATES_AT], plan[codes.OPTIMIZER]
    high = tall(inputs)
    shift = (1 + plan[codes.MOMENTS]) * state
    zero, one = M.dtype.type(0), M.dtype.type(1)
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
            blend(M, g, w, count, pitch, one, l2)
        if scale != one:
            blend(M, g, g, count, pitch, scale, zero)
        broken += update_span(M, w, g, state, count, pitch, rates, code)
        if row[codes.TRANSPOSED] >= 0:
            turn_tile(M, row, i, j)
        if i == 0 and row[codes.B] >= 0:
            b = row[codes.BIASES] + j
            g = b + shift if kept else tile
            if not kept:
                dZ = row[codes.DRESULT] + j * height
                column_sums(M, tile, dZ, rows, codes.NONE if starting else b + shift)
            if scale != one:
                blend(M, g, g, 2, lanes, scale, zero)
            broken += update_span(M, b, g, state, 2, lanes, rates + codes.RATES, code)
    return broken
