"""Tiles of weight gradients: summed, applied while they are in the cache, and transposed.

A tile (a register block) of a layer's weights is ``UNIT_ROWS`` inputs by a panel of outputs; of
narrow weights, which are stored as their transpose, a panel of inputs by all outputs.  Each tile
belongs to one thread, and every sum has one order.

This file is long because summing and stepping walk the same tiles, of dense and of sparse examples.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import apart, kernel
from fastnn.kernels.averages import follow_tile
from fastnn.kernels.entries import spread_entries
from fastnn.kernels.matmul import column_sums, gradient_tile
from fastnn.kernels.micro_kernels import LINE, UNIT_ROWS
from fastnn.kernels.narrow import narrow_gradient_tile
from fastnn.kernels.panels import PANEL_BYTES, transpose_tile
from fastnn.kernels.sparse_products import STRIP, clear, fetch
from fastnn.kernels.update import add_signs, blend, squares, update_span

__all__ = [
    "finish_tiles",
    "pack_transposes",
    "step_tiles",
    "sum_tiles",
    "tall",
    "tiles_before",
    "tiles_of",
]

# Bytes of weights and moments that stay in the L2 cache.
_NEAR = 1 << 19

# L2 block of A: elements that the tiles of a weight gradient read before they move on to the next
# panel, what stays in an L2 cache of 1 MB while weights stream through it (with four times as many,
# 784-128-10, batch 128, takes 524 us instead of 499 in float64; no difference in float32).
_BAND = 1 << 16


@kernel
def tall(rows: int) -> int:
    """Return the rows of a weight matrix, rounded up to whole tiles of its gradient."""
    return (rows + UNIT_ROWS - 1) // UNIT_ROWS * UNIT_ROWS


@kernel
def tile_rows(row: Any, panel: int) -> int:
    """Return how many inputs a tile of an operation's weight gradient covers."""
    return panel if row.narrow else UNIT_ROWS


@kernel
def band_rows(rows: int, chunk: int) -> int:
    """Return the height of a band: inputs whose tiles are done for all panels before the next band.

    Where A exceeds the L2 cache, it is then read from memory once, not once per panel.
    """
    return max(_BAND // (chunk * rows), 1) * rows


@kernel
def tile_at(
    unit: int, inputs: int, outputs: int, panel: int, rows: int, band: int
) -> tuple[int, int, int]:
    """Return where a tile of a weight gradient lies: its band's first row, its own row, its column.

    Within a band of rows, tiles are numbered down the first panel, then down the next.
    """
    down, across = (inputs + rows - 1) // rows, (outputs + panel - 1) // panel
    of_band = band // rows
    above = unit // (of_band * across) * of_band
    here = min(of_band, down - above)
    place = unit - above * across
    return above * rows, (above + place % here) * rows, place // here * panel


@kernel
def tile_after(
    top: int, i: int, j: int, inputs: int, outputs: int, panel: int, rows: int, band: int
) -> tuple[int, int, int]:
    """Return where the next tile lies; `tile_at` without its divisions."""
    i += rows
    if i < min(top + band, inputs):
        return top, i, j
    j += panel
    if j < outputs:
        return top, top, j
    return i, i, 0


@kernel
def tile_work(row: Any, j: int, panel: int) -> int:
    """Return the work of a tile, in units of half a panel's tile.

    A narrow tile counts 1 too: its 4 x 2 vectors cost about as much as the 8 x 1 (AVX-512) or
    6 x 1 (AVX2) of half a panel.
    """
    return 2 if row.outputs - j > panel // 2 and not row.narrow else 1


@kernel
def tiles_of(table: Any, plan: Any, r: int) -> tuple[int, int]:
    """Return the first and the one past the last of an operation's tiles."""
    end = table[r + 1].units if r + 1 < table.shape[0] else plan.unit_count
    return table[r].units, end


@kernel
def tiles_before(table: Any, plan: Any, panel: int, place: int, size: int) -> int:
    """Return the first tile of part `place` of `size` equal parts of the work of all operations.

    (Parts of equally many tiles are uneven: 64-100-10, batch 200, on two threads takes 23.3 us
    instead of 22.3.)
    """
    if place == 0 or place == size:
        return plan.unit_count if place else 0
    total = 0
    for r in range(table.shape[0]):
        row = table[r]
        begin, end = tiles_of(table, plan, r)
        if row.form == codes.MATRIX and begin < end:
            rows = tile_rows(row, panel)
            down = (row.inputs + rows - 1) // rows
            for j in range(0, row.outputs, panel):
                total += down * tile_work(row, j, panel)
        else:
            # Tiles of spans count 1 each.
            total += end - begin
    left = total * place // size
    count = 0
    for r in range(table.shape[0]):
        row = table[r]
        begin, end = tiles_of(table, plan, r)
        if row.form == codes.MATRIX and begin < end:
            inputs, outputs, rows = row.inputs, row.outputs, tile_rows(row, panel)
            band = band_rows(rows, plan.chunk)
            top, i, j = 0, 0, 0
            while left > 0 and top < inputs:
                left -= tile_work(row, j, panel)
                count += 1
                top, i, j = tile_after(top, i, j, inputs, outputs, panel, rows, band)
        else:
            taken = max(min(end - begin, left), 0)
            left -= taken
            count += taken
    return count


@kernel
def weights_at(row: Any, i: int, j: int, panel: int) -> int:
    """Return where the weights of a tile lie."""
    start: int = row.packed
    if row.narrow:
        return start + i * codes.NARROW_ROWS
    return start + j * tall(row.inputs) + i * panel


@kernel
def vectors_of(row: Any, i: int, j: int, panel: int) -> tuple[int, int]:
    """Return how many vectors the weights of a tile fill, and the stride between them."""
    if row.narrow:
        return 2 * row.outputs, panel // 2
    halves = 2 if row.outputs - j > panel // 2 else 1
    return halves * min(UNIT_ROWS, row.inputs - i), panel // halves


@kernel
def tile_size(row: Any, panel: int) -> int:
    """Return the elements of a tile of an operation's weight gradient."""
    return panel * (codes.NARROW_ROWS if row.narrow else UNIT_ROWS)


@kernel
def tiles_near(row: Any, plan: Any, panel: int) -> int:
    """Return how many tiles of a gradient have room in `tile_size`, and so in the L2 cache."""
    count: int = plan.tile_size // tile_size(row, panel)
    return count


@kernel
def spread_tiles(
    row: Any, plan: Any, panel: int, top: int, i: int, j: int, left: int, room: int
) -> tuple[int, int]:
    """Return how many of so many tiles get a chunk's entries together, and of how many panels.

    They lie below each other in each panel: in a part of a band, or in whole bands of all panels,
    as many as come to `room` tiles; in any case at least one tile.
    """
    inputs, rows = row.inputs, tile_rows(row, panel)
    panels = (row.outputs + panel - 1) // panel
    beyond = (inputs - i + rows - 1) // rows
    if panels == 1:
        return min(beyond, room, left), 1
    of_band = band_rows(rows, plan.chunk) // rows
    here = min(of_band - (i - top) // rows, beyond)
    across = min(panels - j // panel, room // here, left // here) if i == top else 1
    if across <= 1:
        return min(here, room, left), 1
    down = here
    if across == panels:
        whole = min(left, room) // panels
        down = beyond if whole >= beyond else max(whole // of_band * of_band, here)
    return across * down, across


@kernel
def spread_chunk(
    M: Any, row: Any, plan: Any, sparse: Any, rows: int, top: int, i: int, j: int, count: int,
    across: int, at: int, apart: int, starting: bool, known: int,
) -> int:  # fmt: skip
    """Add a chunk's entries to some tiles of a gradient, from row i, column j; see `spread_tiles`.

    Reads: what `gather_entries` left; the operation's `dresult`; the thread's `cursors`, if they
    stand at row i, which is then the one known.  Writes: the tiles at `at`, of panels that are
    `apart` from each other, from zero where starting; `cursors` where the next tile lies below
    these.  Returns the row at which `cursors` stand.
    """
    panel = PANEL_BYTES // M.itemsize
    inputs, outputs, deep = row.inputs, row.outputs, tile_rows(row, panel)
    down = count // across
    size = down * tile_size(row, panel)
    high = min(i + down * deep, inputs)
    end = j + across * panel
    end_of_band = min(top + band_rows(deep, plan.chunk), inputs)
    below = high != end_of_band or end >= outputs
    # As many panels as have room in registers.
    step = STRIP // 2 * panel
    for k in range(j, end, step):
        panels = min(step, end - k) // panel
        for q in range(panels):
            begin = at + q * apart
            if starting:
                clear(M, begin, size)
            else:
                fetch(M, begin, size)
        kept = below and k + step >= end
        spread_entries(M, row, plan, sparse, rows, k, panels, i, high, at, apart, known == i, kept)
        at += STRIP // 2 * apart
    return high if below else known


@kernel
def tile_gradient(
    M: Any, row: Any, plan: Any, rows: int, i: int, j: int, result: int, start: int, ahead: int,
    lines: int,
) -> None:  # fmt: skip
    """Compute a tile of an operation's weight gradient from dense examples.

    Reads: the operation's source and `dresult`; the start.  Prefetches: so many cache lines of
    weights and moments from ahead on; see `column_tile`.
    Writes: the tile at result.  May overwrite: nothing else.
    """
    source, dZ = row.source, row.dresult
    height, ahead_step = plan.height, plan.state
    if row.narrow:
        narrow_gradient_tile(M, result, source, dZ, height, rows, i, row.inputs, start)
    else:
        gradient_tile(
            M, result, source, dZ, height, rows, i, j, row.inputs, row.outputs, start,
            ahead, ahead_step, lines,
        )  # fmt: skip


@kernel
def pack_transposes(M: Any, row: Any) -> None:
    """Write the transpose of an operation's packed weights, where the backward pass needs it.

    Reads: its `packed`.  Writes: its `transposed`, except columns past the last input.
    """
    if row.transposed < 0:
        return
    panel = PANEL_BYTES // M.itemsize
    for j in range(0, row.outputs, panel):
        for i in range(0, row.inputs, UNIT_ROWS):
            turn_tile(M, row, i, j)


@kernel
def turn_tile(M: Any, row: Any, i: int, j: int) -> None:
    """Write the transpose of one tile of weights.

    Reads: the operation's `packed`.  Writes: its `transposed`.
    """
    panel = PANEL_BYTES // M.itemsize
    inputs, outputs = row.inputs, row.outputs
    source = row.packed + j * tall(inputs) + i * panel
    target = row.transposed + i // panel * panel * outputs + i % panel + j * panel
    near = panel - i % panel
    apart = panel * outputs - panel if i + near < inputs else codes.NONE
    transpose_tile(UNIT_ROWS, M, source, target, near, apart, min(panel, outputs - j))


@kernel
def sum_tiles(
    M: Any, row: Any, plan: Any, sparse: Any, rows: int, first: int, last: int, group: int,
    starting: bool,
) -> None:  # fmt: skip
    """Add a chunk's part of some tiles of an operation's gradient, and of the biases beside them.

    Reads: the operation's source, or sparse, and `dresult`.  Writes: the group's part of its
    gradient, overwritten where starting, else added to.  May overwrite: the thread's `cursors`.
    """
    if first >= last:
        return
    panel = PANEL_BYTES // M.itemsize
    inputs, outputs, height = row.inputs, row.outputs, plan.height
    shift = (1 + plan.moments + group) * plan.state
    deep = tile_rows(row, panel)
    band = band_rows(deep, plan.chunk)
    top, i, j = tile_at(first, inputs, outputs, panel, deep, band)
    done, known, most = first, codes.NONE, tiles_near(row, plan, panel)
    for unit in range(first, last):
        g = weights_at(row, i, j, panel) + shift
        if not row.sparse:
            tile_gradient(M, row, plan, rows, i, j, g, codes.NONE if starting else g, 0, 0)
        elif unit == done:
            count, across = spread_tiles(row, plan, panel, top, i, j, last - unit, most)
            known = spread_chunk(
                M, row, plan, sparse, rows, top, i, j, count, across, g, tall(inputs) * panel,
                starting, known,
            )  # fmt: skip
            done += count
        if i == 0 and row.b >= 0:
            b = row.biases + j + shift
            dZ = row.dresult + j * height
            column_sums(M, b, dZ, rows, codes.NONE if starting else b)
        top, i, j = tile_after(top, i, j, inputs, outputs, panel, deep, band)


@apart
def penalise(
    M: Any, sums: Any, place: int, w: int, g: int, count: int, pitch: int, l1: float, l2: float
) -> None:
    """Add the gradient of L1, and take down the penalty of L1 and L2, of a tile of weights.

    Reads: packed weights from w on, count vectors, pitch apart.  Writes: their gradient from g on;
    in sums, the penalty of the tile at place.  May overwrite: nothing else.
    """
    penalty = 0.5 * l2 * squares(M, w, count, pitch) if l2 > 0.0 else 0.0
    sums[place] = penalty + l1 * add_signs(M, g, w, count, pitch, M.dtype.type(l1))


@kernel
def finish_tiles(
    M: Any, row: Any, plan: Any, sums: Any, l2: Any, l1: float, first: int, last: int, groups: int,
    full: Any,
) -> None:  # fmt: skip
    """Add up the groups' parts of some tiles of an operation's gradient, and the penalties' own.

    Reads: the groups' parts, in their order; the operation's `packed`.  Writes: its gradient, which
    is the first group's; the sums of squares of weights and gradients of each tile.
    May overwrite: nothing else.
    """
    if first >= last:
        return
    panel = PANEL_BYTES // M.itemsize
    lanes = panel // 2
    inputs, outputs, state = row.inputs, row.outputs, plan.state
    shift = (1 + plan.moments) * state
    one = M.dtype.type(1)
    deep = tile_rows(row, panel)
    band = band_rows(deep, plan.chunk)
    top, i, j = tile_at(first, inputs, outputs, panel, deep, band)
    for unit in range(first, last):
        w = weights_at(row, i, j, panel)
        g, b = w + shift, row.biases + j + shift
        count, pitch = vectors_of(row, i, j, panel)
        biased = i == 0 and row.b >= 0
        for group in range(1, groups):
            blend(M, g, g + group * state, count, pitch, one, one)
            if biased:
                blend(M, b, b + group * state, 2, lanes, one, one)
        place = row.units + unit
        if l2:
            sums[place] = 0.5 * float(l2) * squares(M, w, count, pitch)
            blend(M, g, w, count, pitch, one, l2)
        if full is not None and l1 != 0.0:
            penalise(M, sums, place, w, g, count, pitch, l1, float(l2))
        square = squares(M, g, count, pitch)
        if biased:
            square += squares(M, b, 2, lanes)
        sums[plan.unit_count + place] = square
        top, i, j = tile_after(top, i, j, inputs, outputs, panel, deep, band)


@kernel
def lines_ahead(M: Any, plan: Any) -> int:
    """Return how many cache lines of weights and moments to prefetch while a tile is computed.

    None where all of them stay in the L2 cache (with prefetching, three layers of 1024, batch
    256: a step takes 19.3 ms instead of 20.6 on one core, 10.0 instead of 11.2 on two).
    """
    vectors: int = 1 + plan.moments
    if vectors * plan.state * M.itemsize < _NEAR:
        return 0
    return vectors * UNIT_ROWS * PANEL_BYTES // LINE


@kernel
def step_tiles(
    M: Any, row: Any, plan: Any, sparse: Any, sums: Any, l2: Any, l1: float, scale: Any, rows: int,
    first: int, last: int, tile: int, starting: bool, kept: bool, full: Any,
) -> int:  # fmt: skip
    """Update some tiles of an operation's weights, and the biases beside them.

    A gradient that is kept is read; else each tile's gradient is computed (from zero where this
    is the batch's first chunk, starting), applied while it is in the cache, and dropped.

    Reads: the operation's source, or sparse, and `dresult`; or its gradient.  Writes: its
    `packed`, `biases`, `transposed` and moments; where l1 or l2 is not zero, the penalty of each
    tile.  May overwrite: tile, the gradient, the thread's `cursors`.  Returns the number of
    spans with results that are not finite.
    """
    if first >= last:
        return 0
    panel = PANEL_BYTES // M.itemsize
    lanes = panel // 2
    inputs, outputs, height = row.inputs, row.outputs, plan.height
    state, rates, code = plan.state, row.rates, plan.optimizer
    shift = (1 + plan.moments) * state
    zero, one = M.dtype.type(0), M.dtype.type(1)
    averaging = plan.average == codes.EACH_TILE
    broken = 0
    deep = tile_rows(row, panel)
    band = band_rows(deep, plan.chunk)
    top, i, j = tile_at(first, inputs, outputs, panel, deep, band)
    lines = lines_ahead(M, plan)
    done, known, most = first, codes.NONE, tiles_near(row, plan, panel)
    highest, leftmost, apart, size = i, j, 0, tile_size(row, panel)
    for unit in range(first, last):
        w = weights_at(row, i, j, panel)
        g = w + shift if kept else tile
        if not kept and row.sparse:
            if unit == done:
                count, across = spread_tiles(row, plan, panel, top, i, j, last - unit, most)
                highest, leftmost = i, j
                g, apart = w + shift, tall(inputs) * panel
                if starting:
                    g, apart = tile, count // across * size
                known = spread_chunk(
                    M, row, plan, sparse, rows, top, i, j, count, across, g, apart, starting, known
                )
                done += count
            g = w + shift
            if starting:
                g = tile + (j - leftmost) // panel * apart + (i - highest) // deep * size
        elif not kept:
            start = codes.NONE if starting else w + shift
            tile_gradient(M, row, plan, rows, i, j, tile, start, w, lines)
        count, pitch = vectors_of(row, i, j, panel)
        if l2:
            sums[row.units + unit] = 0.5 * float(l2) * squares(M, w, count, pitch)
            blend(M, g, w, count, pitch, one, l2)
        if full is not None and l1 != 0.0:
            penalise(M, sums, row.units + unit, w, g, count, pitch, l1, float(l2))
        if scale != one:
            # `blend` keeps `scale` times what is there and adds 0 times it.
            blend(M, g, g, count, pitch, scale, zero)
        broken += update_span(M, w, g, state, count, pitch, rates, code)
        if averaging:
            follow_tile(M, plan, w, count, pitch)
        if row.transposed >= 0:
            turn_tile(M, row, i, j)
        if i == 0 and row.b >= 0:
            b = row.biases + j
            g = b + shift if kept else tile
            if not kept:
                dZ = row.dresult + j * height
                column_sums(M, tile, dZ, rows, codes.NONE if starting else b + shift)
            if scale != one:
                blend(M, g, g, 2, lanes, scale, zero)
            broken += update_span(M, b, g, state, 2, lanes, rates + codes.RATES, code)
            if averaging:
                follow_tile(M, plan, b, 2, lanes)
        top, i, j = tile_after(top, i, j, inputs, outputs, panel, deep, band)
    return broken
