"""PReLU: relu with a slope below 0 for each column, which is learnt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import apart, intrinsic, kernel
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["prelu_backward", "prelu_forward", "prelu_gradient"]


def _rows(M: Any, at: int, rows: int) -> Any:
    """Return rows of one panel, for NumPy."""
    panel = PANEL_BYTES // M.itemsize
    return M[at : at + rows * panel].reshape(rows, panel)


def _bend(M: Any, x: int, to: int, slopes: int, rows: int) -> None:
    """Bend in NumPy."""
    X, panel = _rows(M, x, rows), PANEL_BYTES // M.itemsize
    _rows(M, to, rows)[:] = np.where(X > 0, X, X * M[slopes : slopes + panel])


def _panel(
    build: Any, data: Any, rows: Any, body: Callable[[simd.Vectors, int, Any], None]
) -> None:
    """Emit ``body(vectors, half, place)`` for both vectors of each row of a panel."""
    v = simd.Vectors(build, data.type.pointee)

    def row(i: Any) -> None:
        at = build.mul(i, simd.int64(2 * v.lanes))
        for half in range(2):
            body(v, half, build.add(at, simd.int64(half * v.lanes)))

    simd.count_loop(build, rows, row)


def _halves(build: Any, data: Any, at: Any) -> list[Any]:
    """Return both vectors of a panel's row."""
    v = simd.Vectors(build, data.type.pointee)
    return [v.load(data, build.add(at, simd.int64(half * v.lanes))) for half in range(2)]


def _called(M: Any, count: int, name: str, emit: Callable[..., None]) -> Any:
    """Return signature and generator of an intrinsic that calls one function of M and places."""
    signature = types.void(M, *[types.intp] * count)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        kinds = [data.type, *[simd.int64] * count]
        function = simd.outlined(builder, f"fastnn.{name}.{data.type.pointee}", kinds, emit)
        builder.call(function, [data, *arguments[1:]])
        return context.get_dummy_value()

    return signature, generate


@intrinsic(_bend)
def bend(typing: Any, M: Any, x: Any, to: Any, slopes: Any, rows: Any) -> Any:
    """Compute x where it is above 0, else x times its column's slope, of rows of one panel.

    Reads: in M, the panel at x, one row at slopes.  Writes: the panel at `to`.
    May overwrite: nothing else.
    """
    return _called(M, 4, "bend", _emit_bend)


def _emit_bend(build: Any, data: Any, x: Any, to: Any, slopes: Any, rows: Any) -> None:
    """Emit it."""
    factors = _halves(build, data, slopes)

    def body(v: simd.Vectors, half: int, n: Any) -> None:
        a = v.load(data, build.add(x, n))
        y = v.select_greater(a, v.constant(0.0), a, build.fmul(a, factors[half]))
        v.store(y, data, build.add(to, n))

    _panel(build, data, rows, body)


def _bend_back(M: Any, x: int, d: int, to: int, slopes: int, rows: int) -> None:
    """Go back in NumPy."""
    slope, panel = _rows(M, d, rows), PANEL_BYTES // M.itemsize
    bent = slope * M[slopes : slopes + panel]
    _rows(M, to, rows)[:] = np.where(_rows(M, x, rows) > 0, slope, bent)


@intrinsic(_bend_back)
def bend_back(typing: Any, M: Any, x: Any, d: Any, to: Any, slopes: Any, rows: Any) -> Any:
    """Compute the derivative by x from that by what `bend` gave, at d, of rows of one panel.

    Reads: in M, the panels at x and d, one row at slopes.  Writes: the panel at `to`.
    May overwrite: nothing else.
    """
    return _called(M, 5, "bend_back", _emit_back)


def _emit_back(build: Any, data: Any, x: Any, d: Any, to: Any, slopes: Any, rows: Any) -> None:
    """Emit it."""
    factors = _halves(build, data, slopes)

    def body(v: simd.Vectors, half: int, n: Any) -> None:
        slope = v.load(data, build.add(d, n))
        bent = build.fmul(slope, factors[half])
        a = v.load(data, build.add(x, n))
        v.store(v.select_greater(a, v.constant(0.0), slope, bent), data, build.add(to, n))

    _panel(build, data, rows, body)


def _bend_sums(M: Any, x: int, d: int, rows: int, result: int, start: int) -> None:
    """Sum in NumPy."""
    X, panel = _rows(M, x, rows), PANEL_BYTES // M.itemsize
    total = (_rows(M, d, rows) * np.where(X > 0, M.dtype.type(0), X)).sum(axis=0)
    M[result : result + panel] = total + (M[start : start + panel] if start >= 0 else 0)


@intrinsic(_bend_sums)
def bend_sums(typing: Any, M: Any, x: Any, d: Any, rows: Any, result: Any, start: Any) -> Any:
    """Sum the gradient of the slopes over rows of one panel.

    Reads: in M, the panels at x and d, and one row at start unless that is negative.
    Writes: one row of sums at result.  May overwrite: nothing else; result may be start.
    """
    return _called(M, 5, "bend_sums", _emit_sums)


def _emit_sums(build: Any, data: Any, x: Any, d: Any, rows: Any, result: Any, start: Any) -> None:
    """Emit it."""
    v = simd.Vectors(build, data.type.pointee)
    sums = [simd.variable(build, v.constant(0.0)) for _ in range(2)]
    with build.if_then(build.icmp_signed(">=", start, simd.int64(0))):
        for held, value in zip(sums, _halves(build, data, start), strict=True):
            build.store(value, held)

    def body(v: simd.Vectors, half: int, n: Any) -> None:
        zero, a = v.constant(0.0), v.load(data, build.add(x, n))
        below = v.select_greater(a, zero, zero, a)
        total = v.fma(v.load(data, build.add(d, n)), below, build.load(sums[half]))
        build.store(total, sums[half])

    _panel(build, data, rows, body)
    for half, held in enumerate(sums):
        place = build.add(result, simd.int64(half * v.lanes))
        v.store(build.load(held), data, place)


@apart
def prelu_forward(M: Any, row: Any, height: int, first: int, last: int) -> None:
    """Bend some rows.

    Reads: the operation's source and span.  Writes: its result.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    for j in range(0, row.outputs, panel):
        at = j * height + first * panel
        bend(M, row.source + at, row.result + at, row.packed + j, last - first)


@apart
def prelu_backward(M: Any, row: Any, height: int, first: int, last: int) -> None:
    """Compute the derivative by what the operation reads, of some rows.

    Reads: its source, `dresult` and span.  Writes: its `dsource`.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    for j in range(0, row.outputs, panel):
        at = j * height + first * panel
        bend_back(
            M, row.source + at, row.dresult + at, row.dsource + at, row.packed + j, last - first
        )


@kernel
def prelu_gradient(
    M: Any, row: Any, height: int, rows: int, j: int, first: int, start: int
) -> None:
    """Sum the gradient of its span, one panel from column j; see `spans.span_gradient`."""
    at = j * height
    bend_sums(M, row.source + at, row.dresult + at, rows, first, start)
