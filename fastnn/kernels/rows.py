"""Row-wise mathematics (softmax, losses) on explicit vectors, written once for two walks.

For long rows, the lanes of a vector hold neighbouring columns of one row, and a sum over the row
ends with a reduction over the lanes.  For short rows, as the outputs of most networks are, the
lanes hold the same column of different rows, so that no lane is idle and no reduction over lanes
is needed.  The code asks a walk for its loads, stores and sums and does not know which of the two
it is; every sum has one order, given by the width alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.np import arrayobj

from fastnn.kernels.simd import Vectors, count_loop, int64, variable
from fastnn.kernels.turning import MOST, Columns

__all__ = ["Matrix", "Walk", "walk_along", "walk_in_parts", "walk_rows"]

# llvmlite's and Numba's helpers carry no types.
_ir: Any = ir
_cgutils: Any = cgutils
_arrayobj: Any = arrayobj


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix in memory, with any stride between its rows.

    Attributes
    ----------
    data : llvmlite value
        Address of its first element.
    rows, columns, pitch : llvmlite values, int64
        Its shape, and the elements from one row to the next.
    """

    data: Any
    rows: Any
    columns: Any
    pitch: Any

    @classmethod
    def of(cls, context: Any, builder: Any, kind: Any, array: Any) -> Matrix:
        """Return an argument of an intrinsic, an array of two dimensions, as a matrix."""
        whole = _arrayobj.make_array(kind)(context, builder, array)
        rows, columns = _cgutils.unpack_tuple(builder, whole.shape, 2)
        apart = _cgutils.unpack_tuple(builder, whole.strides, 2)[0]
        size = int64(kind.dtype.bitwidth // 8)
        return cls(whole.data, rows, columns, builder.sdiv(apart, size, flags=["exact"]))

    def part(self, builder: Any, at: Any) -> Matrix:
        """Return the columns from one on."""
        start = builder.gep(self.data, [at])
        return Matrix(start, self.rows, builder.sub(self.columns, at), self.pitch)


class Walk(ABC):
    """A walk over some rows of matrices of one width, place after place.

    A quantity per row, such as its sum, is a vector too.  A place is what `each` passes to its
    body, and what loads and stores take.

    Parameters
    ----------
    v : Vectors
        Where the instructions go.
    columns : llvmlite value, int64
        Width of the matrices.
    rows : sequence of llvmlite values, int64
        The rows, by number.
    """

    def __init__(self, v: Vectors, columns: Any, rows: Sequence[Any]) -> None:
        self.v = v
        self.columns = columns
        self.rows = rows

    def first(self, columns: Any) -> Walk:
        """Return the walk of the same rows over their first columns."""
        return type(self)(self.v, columns, self.rows)

    @abstractmethod
    def each(self, body: Callable[[Any], None]) -> None:
        """Emit ``body(place)`` for every place of the rows."""

    @abstractmethod
    def moved(self, place: Any, columns: Any) -> Any:
        """Return the place that lies so many columns further."""

    @abstractmethod
    def source(self, matrix: Matrix) -> Any:
        """Return the rows of a matrix, to load from."""

    @abstractmethod
    def target(self, matrix: Matrix, wanted: Any) -> Any:
        """Return the rows of a matrix to store to, where wanted, and to load what was stored."""

    @abstractmethod
    def answers(self, matrix: Matrix, rows: Sequence[Any], labels: Any, labelled: Any) -> Any:
        """Return the targets of the rows: rows of a matrix, or, where labelled, one-hot labels.

        A label, one per row, stands for 1 in the column of its number and 0 in the others.
        """

    @abstractmethod
    def hand_out(self, target: Any) -> None:
        """Write what was stored to the matrix."""

    @abstractmethod
    def spread(self, scalars: Sequence[Any]) -> Any:
        """Return the vector of a scalar for each row."""

    @abstractmethod
    def read(self, base: Any) -> Any:
        """Return the vector of the array's element of each row."""

    @abstractmethod
    def write(self, vector: Any, base: Any) -> None:
        """Store each row's number to its element of an array."""

    def total(self, terms: Callable[[Any], Sequence[Any]], count: int = 1) -> list[Any]:
        """Return the sums over each row of so many terms, which depend on the place."""
        return self._fold(terms, [self.v.constant(0.0)] * count, self.v.builder.fadd)

    def largest(self, source: Any) -> Any:
        """Return the largest number of each row; NaN is ignored."""
        least = self.v.constant(-inf)
        return self._fold(lambda place: [source.load(place)], [least], self.v.greater)[0]

    def numbers(self, base: Any) -> list[Any]:
        """Return the scalar that stands for each row in an array."""
        return [self.v.builder.load(self.v.builder.gep(base, [row])) for row in self.rows]

    @abstractmethod
    def _fold(
        self,
        terms: Callable[[Any], Sequence[Any]],
        neutral: Sequence[Any],
        combine: Callable[[Any, Any], Any],
    ) -> list[Any]:
        """Return each term combined over the places of each row."""


class _Along(Walk):
    """One row; a place is an offset and the mask of the lanes inside the row."""

    def each(self, body: Callable[[Any], None]) -> None:
        self.v.over(self.columns, lambda offset, mask: body((offset, mask)))

    def moved(self, place: Any, columns: Any) -> Any:
        return self.v.builder.add(place[0], columns), place[1]

    def source(self, matrix: Matrix) -> Any:
        return _Line(self.v, matrix, self.rows[0])

    def target(self, matrix: Matrix, wanted: Any) -> Any:
        return _Line(self.v, matrix, self.rows[0], wanted)

    def answers(self, matrix: Matrix, rows: Sequence[Any], labels: Any, labelled: Any) -> Any:
        return _Answers(_Line(self.v, matrix, rows[0]), labels, labelled)

    def hand_out(self, target: Any) -> None:
        pass

    def spread(self, scalars: Sequence[Any]) -> Any:
        return self.v.splat(scalars[0])

    def read(self, base: Any) -> Any:
        return self.spread(self.numbers(base))

    def write(self, vector: Any, base: Any) -> None:
        first = self.v.builder.extract_element(vector, int64(0))
        self.v.builder.store(first, self.v.builder.gep(base, self.rows))

    def _fold(
        self,
        terms: Callable[[Any], Sequence[Any]],
        neutral: Sequence[Any],
        combine: Callable[[Any, Any], Any],
    ) -> list[Any]:
        build = self.v.builder
        sums = [variable(build, number) for number in neutral]

        def add(place: Any) -> None:
            for held, term, nothing in zip(sums, terms(place), neutral, strict=True):
                alive = term if place[1] is None else build.select(place[1], term, nothing)
                build.store(combine(alive, build.load(held)), held)

        self.each(add)
        return [self.v.splat(self.v.folded(build.load(held), combine)) for held in sums]


class _Line:
    """A row in memory."""

    def __init__(self, v: Vectors, matrix: Matrix, row: Any, wanted: Any = None) -> None:
        self.v = v
        self._start = v.builder.gep(matrix.data, [v.builder.mul(row, matrix.pitch)])
        self._wanted = wanted

    def load(self, place: Any) -> Any:
        """Return the numbers at a place."""
        offset, mask = place
        return self.v.load(self._start, offset, mask)

    def store(self, vector: Any, place: Any) -> None:
        """Put numbers at a place, where they are wanted."""
        offset, mask = place
        with self.v.builder.if_then(self._wanted):
            self.v.store(vector, self._start, offset, mask)


class _Answers:
    """A row in memory, or the one-hot row of a label."""

    def __init__(self, line: _Line, label: Any, labelled: Any) -> None:
        self._line, self._label, self._labelled = line, label, labelled

    def load(self, place: Any) -> Any:
        """Return the numbers at a place."""
        v = self._line.v
        held = variable(v.builder, v.constant(0.0))
        with v.builder.if_else(self._labelled) as (labelled, given):
            with labelled:
                lanes = _ir.Constant(v.integers, list(range(v.lanes)))
                columns = v.builder.add(lanes, v.splat(v.whole(place[0])))
                v.builder.store(v.one_where(columns, self._label), held)
            with given:
                v.builder.store(self._line.load(place), held)
        return v.builder.load(held)


class _Across(Walk):
    """One row per lane; a place is the number of a column.

    Lanes past the last row repeat it; nothing is written to the matrix before all is done.

    Parameters
    ----------
    v, columns
        As for any walk.
    begin : llvmlite value, int64
        The first of the rows.
    end : llvmlite value, int64
        One past the last row that there is.
    """

    def __init__(self, v: Vectors, columns: Any, begin: Any, end: Any) -> None:
        build = v.builder
        last = build.sub(end, int64(1))
        places = [build.add(begin, int64(lane)) for lane in range(v.lanes)]
        inside = [build.icmp_signed("<", place, last) for place in places]
        chosen = zip(inside, places, strict=True)
        rows = [build.select(yes, place, last) for yes, place in chosen]
        super().__init__(v, columns, rows)
        self._begin, self._end = begin, end
        self._mask = v.first_lanes(build.sub(end, begin))

    def first(self, columns: Any) -> Walk:
        return type(self)(self.v, columns, self._begin, self._end)

    def each(self, body: Callable[[Any], None]) -> None:
        count_loop(self.v.builder, self.columns, body)

    def moved(self, place: Any, columns: Any) -> Any:
        return self.v.builder.add(place, columns)

    def source(self, matrix: Matrix) -> Any:
        tile = Columns(self.v, matrix, self.rows)
        tile.gather(self.columns)
        return tile

    def target(self, matrix: Matrix, wanted: Any) -> Any:
        return Columns(self.v, matrix, self.rows, wanted)

    def answers(self, matrix: Matrix, rows: Sequence[Any], labels: Any, labelled: Any) -> Any:
        v = self.v
        tile = Columns(self.v, matrix, rows)

        def mark(place: Any) -> None:
            tile.store(v.one_where(v.splat(v.whole(place)), labels), place)

        with v.builder.if_else(labelled) as (marked, given):
            with marked:
                self.each(mark)
            with given:
                tile.gather(self.columns)
        return tile

    def hand_out(self, target: Any) -> None:
        with self.v.builder.if_then(target.wanted):
            target.scatter(self.columns)

    def spread(self, scalars: Sequence[Any]) -> Any:
        return self.v.gathered(scalars)

    def read(self, base: Any) -> Any:
        build = self.v.builder
        last = self.v.splat(build.load(build.gep(base, [self.rows[-1]])))
        return build.select(self._mask, self.v.load(base, self._begin, self._mask), last)

    def write(self, vector: Any, base: Any) -> None:
        self.v.store(vector, base, self._begin, self._mask)

    def _fold(
        self,
        terms: Callable[[Any], Sequence[Any]],
        neutral: Sequence[Any],
        combine: Callable[[Any, Any], Any],
    ) -> list[Any]:
        build = self.v.builder
        sums = [variable(build, number) for number in neutral]

        def add(place: Any) -> None:
            for held, term in zip(sums, terms(place), strict=True):
                build.store(combine(term, build.load(held)), held)

        self.each(add)
        return [build.load(held) for held in sums]


def walk_along(v: Vectors, matrix: Matrix, body: Callable[[Walk], None]) -> None:
    """Emit ``body(walk)`` for all rows of a matrix, one by one."""
    count_loop(v.builder, matrix.rows, lambda row: body(_Along(v, matrix.columns, [row])))


def walk_in_parts(
    v: Vectors, matrix: Matrix, body: Callable[..., None], *, backward: bool = False, count: int = 1
) -> None:
    """Emit ``body(walk, at, *held)`` for all rows, in parts of some columns from `at` on.

    For what goes on from column to column: a lane is a row whatever the width, and `held` are
    `count` numbers per row that stay from part to part, 0 at first.  The last part comes first
    where backward.
    """
    build = v.builder
    parts = build.sdiv(build.add(matrix.columns, int64(MOST - 1)), int64(MOST))

    def block(begin: Any) -> None:
        held = [_cgutils.alloca_once(build, v.type) for _ in range(count)]
        for one in held:
            build.store(v.constant(0.0), one)

        def part(turn: Any) -> None:
            turn = build.sub(build.sub(parts, int64(1)), turn) if backward else turn
            at = build.mul(turn, int64(MOST))
            rest = build.sub(matrix.columns, at)
            few = build.icmp_signed("<", rest, int64(MOST))
            columns = build.select(few, rest, int64(MOST))
            body(_Across(v, columns, begin, matrix.rows), at, *held)

        count_loop(build, parts, part)

    count_loop(build, matrix.rows, block, step=v.lanes)


def walk_rows(v: Vectors, matrix: Matrix, body: Callable[[Walk], None]) -> None:
    """Emit ``body(walk)`` for all rows of a matrix, for both walks; its width selects one."""
    build = v.builder

    def block(begin: Any) -> None:
        body(_Across(v, matrix.columns, begin, matrix.rows))

    with build.if_else(build.icmp_signed("<=", matrix.columns, int64(MOST))) as (narrow, wide):
        with narrow:
            count_loop(build, matrix.rows, block, step=v.lanes)
        with wide:
            walk_along(v, matrix, body)
