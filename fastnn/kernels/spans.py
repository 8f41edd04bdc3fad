"""Parameters that are spans: gradients summed and steps taken, panel by panel.

An operation has one span or two of a number per column, such as scale and shift of a normalisation;
or all of its arrays are one span, such as the tables of an embedding, whose gradient is summed for
many panels at a time.  A panel of them is one tile beside the tiles of weights (`tiles`): it
belongs to one thread, and the sums over the rows have one order.  Spans take the rates of biases,
so that they neither decay nor count for L2.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import apart, kernel
from fastnn.kernels.batch_norm import batch_norm_gradient
from fastnn.kernels.gathers import embedding_sums
from fastnn.kernels.norms import norm_gradient
from fastnn.kernels.panels import PANEL_BYTES
from fastnn.kernels.prelu import prelu_gradient
from fastnn.kernels.sparse_products import clear
from fastnn.kernels.update import blend, squares, update_span
from fastnn.kernels.waves import numeric_sums

__all__ = ["finish_spans", "step_one_span", "step_spans", "sum_one_span", "sum_spans"]


@apart
def span_gradient(
    M: Any, row: Any, plan: Any, rows: int, j: int, first: int, second: int, start: int, other: int
) -> None:
    """Sum the gradients of an operation's spans over rows of a chunk, one panel from column j.

    Reads: what the operation read and noted of the rows, its `dresult`; the starts, which are
    negative for zeros.  Writes: one panel's row of sums at first, and at second if there are two.
    May overwrite: nothing else.
    """
    if row.biases < 0:
        second = other = codes.NONE
    if row.operation == codes.LAYER_NORM or row.operation == codes.RMS_NORM:
        norm_gradient(M, row, plan.height, rows, j, first, second, start, other)
    elif row.operation == codes.PRELU:
        prelu_gradient(M, row, plan.height, rows, j, first, start)
    elif row.operation == codes.BATCH_NORM:
        batch_norm_gradient(M, row, j, first, second)


@apart
def sum_spans(
    M: Any, row: Any, plan: Any, rows: int, begin: int, end: int, group: int, starting: bool
) -> None:
    """Add a chunk's part of some tiles of an operation's spans to their gradient.

    Reads and writes: as `tiles.sum_tiles`.
    """
    panel = PANEL_BYTES // M.itemsize
    shift = (1 + plan.moments + group) * plan.state
    for j in range(begin * panel, end * panel, panel):
        first, second = row.packed + j + shift, row.biases + j + shift
        start, other = first, second
        if starting:
            start = other = codes.NONE
        span_gradient(M, row, plan, rows, j, first, second, start, other)


@apart
def finish_spans(M: Any, row: Any, plan: Any, sums: Any, begin: int, end: int, groups: int) -> None:
    """Add up the groups' parts of some tiles of the gradient of an operation's spans.

    Reads and writes: as `tiles.finish_tiles`.
    """
    panel = PANEL_BYTES // M.itemsize
    shift, state = (1 + plan.moments) * plan.state, plan.state
    for unit in range(begin, end):
        first, second = row.packed + unit * panel, row.biases + unit * panel
        square = finish_span(M, first + shift, state, groups)
        if row.biases >= 0:
            square += finish_span(M, second + shift, state, groups)
        sums[plan.unit_count + row.units + unit] = square


@kernel
def finish_span(M: Any, g: int, state: int, groups: int) -> float:
    """Add up the groups' parts of one panel of one span; return the sum of their squares.

    Reads: the groups' parts, from g on.  Writes: the first of them.  May overwrite: nothing else.
    """
    lanes, one = PANEL_BYTES // M.itemsize // 2, M.dtype.type(1)
    for group in range(1, groups):
        blend(M, g, g + group * state, 2, lanes, one, one)
    total: float = squares(M, g, 2, lanes)
    return total


@apart
def step_spans(
    M: Any, row: Any, plan: Any, scale: Any, rows: int, begin: int, end: int, tile: int,
    starting: bool, kept: bool,
) -> int:  # fmt: skip
    """Update some tiles of an operation's spans.

    Reads and writes: as `tiles.step_tiles`.  May overwrite: two panels' rows from tile on.
    Returns the number of spans with results that are not finite.
    """
    panel = PANEL_BYTES // M.itemsize
    shift = (1 + plan.moments) * plan.state
    broken = 0
    for j in range(begin * panel, end * panel, panel):
        first, second = row.packed + j, row.biases + j
        g, other = first + shift, second + shift
        if not kept:
            start, before = g, other
            if starting:
                start = before = codes.NONE
            g, other = tile, tile + panel
            span_gradient(M, row, plan, rows, j, g, other, start, before)
        broken += step_span(M, plan, scale, first, g)
        if row.biases >= 0:
            broken += step_span(M, plan, scale, second, other)
    return broken


@kernel
def step_span(M: Any, plan: Any, scale: Any, w: int, g: int) -> int:
    """Update one panel of one span from its gradient at g, which is scaled.

    Returns 0 if all results are finite, else 1.
    """
    lanes = PANEL_BYTES // M.itemsize // 2
    one = M.dtype.type(1)
    if scale != one:
        # `blend` keeps `scale` times what is there and adds 0 times it.
        blend(M, g, g, 2, lanes, scale, M.dtype.type(0))
    rates = plan.rates_at + codes.RATES
    broken: int = update_span(M, w, g, plan.state, 2, lanes, rates, plan.optimizer)
    return broken


@kernel
def one_span_sums(
    M: Any, row: Any, plan: Any, integers: Any, rows: int, low: int, high: int, result: int
) -> None:
    """Add a chunk's part of the gradient of some elements of an operation's only span.

    Reads: what the operation read of the rows, its `dresult`; the integers.  Reads and writes: the
    sums, from result on, for the elements from low to before high.  May overwrite: nothing else.
    """
    if row.operation == codes.EMBEDDING:
        embedding_sums(M, row, integers, plan.height, rows, low, high, result)
    elif row.operation == codes.NUMERIC_EMBEDDING:
        numeric_sums(M, row, integers, plan.height, rows, low, high, result)


@apart
def sum_one_span(
    M: Any, row: Any, plan: Any, integers: Any, rows: int, begin: int, end: int, group: int,
    starting: bool,
) -> None:  # fmt: skip
    """Add a chunk's part of some tiles of an operation's only span to their gradient.

    Reads and writes: as `tiles.sum_tiles`.
    """
    if begin >= end:
        return
    panel = PANEL_BYTES // M.itemsize
    low, high = begin * panel, end * panel
    g = row.packed + low + (1 + plan.moments + group) * plan.state
    if starting:
        clear(M, g, high - low)
    one_span_sums(M, row, plan, integers, rows, low, high, g)


@apart
def step_one_span(
    M: Any, row: Any, plan: Any, integers: Any, scale: Any, rows: int, begin: int, end: int,
    tile: int, starting: bool, kept: bool,
) -> int:  # fmt: skip
    """Update some tiles of an operation's only span, as many at a time as stay in the cache.

    Reads and writes: as `tiles.step_tiles`.  May overwrite: `tile_size` elements from tile on.
    Returns the number of blocks with results that are not finite.
    """
    panel = PANEL_BYTES // M.itemsize
    lanes = panel // 2
    shift, room = (1 + plan.moments) * plan.state, plan.tile_size // panel * panel
    one, rates = M.dtype.type(1), plan.rates_at + codes.RATES
    broken = 0
    for low in range(begin * panel, end * panel, room):
        high = min(low + room, end * panel)
        w = row.packed + low
        g = w + shift
        if not kept:
            if starting:
                g = tile
                clear(M, g, high - low)
            one_span_sums(M, row, plan, integers, rows, low, high, g)
        count = (high - low) // lanes
        if scale != one:
            # `blend` keeps `scale` times what is there and adds 0 times it.
            blend(M, g, g, count, lanes, scale, M.dtype.type(0))
        broken += update_span(M, w, g, plan.state, count, lanes, rates, plan.optimizer)
    return broken
