"""Short rows transposed in registers: a vector then holds one column of as many rows as lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba.core import cgutils

from fastnn.kernels.simd import Vectors, count_loop, int64

__all__ = ["MOST", "Columns"]

# Numba's helpers carry no types.
_cgutils: Any = cgutils

# Rows of at most so many columns are transposed.
MOST = 32

# Up to so many columns have a transpose of fewer shuffles.
_FOUR = 4


class Columns:
    """Columns of some rows, each column a vector, on the stack."""

    def __init__(self, v: Vectors, matrix: Any, rows: Sequence[Any], wanted: Any = None) -> None:
        build = v.builder
        self.wanted = wanted
        self._v = v
        self._starts = [build.gep(matrix.data, [build.mul(row, matrix.pitch)]) for row in rows]
        self._tile = _cgutils.alloca_once(build, v.type, size=int64(MOST))

    def load(self, place: Any) -> Any:
        """Return a column."""
        return self._v.builder.load(self._v.builder.gep(self._tile, [place]))

    def store(self, vector: Any, place: Any) -> None:
        """Put a column."""
        self._v.builder.store(vector, self._v.builder.gep(self._tile, [place]))

    def gather(self, columns: Any) -> None:
        """Take the rows from the matrix, turned in registers."""
        self._by_width(columns, self._gather_few, self._gather_many)

    def scatter(self, columns: Any) -> None:
        """Put the rows into the matrix."""
        self._by_width(columns, self._scatter_few, self._scatter_many)

    def _by_width(
        self, columns: Any, few: Callable[[Any], None], many: Callable[[Any], None]
    ) -> None:
        """Emit both ways; up to four columns take a sixth of the shuffles of sixteen."""
        build = self._v.builder
        if self._v.lanes <= _FOUR:
            many(columns)
            return
        with build.if_else(build.icmp_signed("<=", columns, int64(_FOUR))) as (narrow, wide):
            with narrow:
                few(columns)
            with wide:
                many(columns)

    def _gather_few(self, columns: Any) -> None:
        v = self._v
        short = Vectors(v.builder, v.element, _FOUR)
        mask = short.first_lanes(columns)
        rows = [short.load(start, int64(0), mask) for start in self._starts]
        quads = [v.joined(rows[k::_FOUR]) for k in range(_FOUR)]
        for place, column in enumerate(v.turned_by_fours(quads)):
            self.store(column, int64(place))

    def _scatter_few(self, columns: Any) -> None:
        v = self._v
        short = Vectors(v.builder, v.element, _FOUR)
        mask = short.first_lanes(columns)
        quads = v.turned_by_fours([self.load(int64(place)) for place in range(_FOUR)])
        for n, start in enumerate(self._starts):
            row = v.part(quads[n % _FOUR], n // _FOUR * _FOUR, _FOUR)
            short.store(row, start, int64(0), mask)

    def _gather_many(self, columns: Any) -> None:
        v = self._v

        def block(first: Any) -> None:
            mask = v.first_lanes(v.builder.sub(columns, first))
            rows = [v.load(start, first, mask) for start in self._starts]
            for lane, column in enumerate(v.interleave(rows)):
                self.store(column, v.builder.add(first, int64(lane)))

        count_loop(v.builder, columns, block, step=v.lanes)

    def _scatter_many(self, columns: Any) -> None:
        v = self._v

        def block(first: Any) -> None:
            mask = v.first_lanes(v.builder.sub(columns, first))
            places = [v.builder.add(first, int64(lane)) for lane in range(v.lanes)]
            turned = v.interleave([self.load(place) for place in places])
            for start, row in zip(self._starts, turned, strict=True):
                v.store(row, start, first, mask)

        count_loop(v.builder, columns, block, step=v.lanes)
