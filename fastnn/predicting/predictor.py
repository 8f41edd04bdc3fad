"""Calls the kernels for predictions, and keeps the workspace that they need.

A `Predictor` takes a layout and a flat parameter vector, never a network; arrays have passed the
gate.  This file is long because all ways to predict share what was planned.
"""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import tuning
from fastnn.activations import ACTIVATIONS
from fastnn.kernels import codes
from fastnn.kernels._load import load_kernels
from fastnn.layout import Layout, Operation, Tiling, aligned_zeros
from fastnn.machine.crew import company, crew
from fastnn.machine.threads import crowd, fitting, recent_ceiling, together
from fastnn.predicting.ways import Ways
from fastnn.sparse import SparseRows

__all__ = ["SPARSE_FACTOR", "Predictor", "Table", "as_if_writeable", "slices", "tiling_of"]

Floats = NDArray[np.floating]

# Multiplications and additions that a thread does in a nanosecond, while it computes one element
# of the costliest activation.
_WORK_IN_A_NANOSECOND = 50

# A multiplication or addition for an entry of a sparse example takes about as long as so many in a
# dense product, as it is bound by memory.
SPARSE_FACTOR = 4

# Sparse rows whose first layer is computed in one call of its kernel, at the least.
_FEWEST_ROWS = 16

# Rows per thread at the least where several divide them.
_SMALLEST_SHARE = 8

# Columns of a layer whose outputs threads divide, at the least, in panels.
_FEWEST_PANELS = 4

# Seconds for which a thread waits for one that keeps its core, at the most.
_SHARE_AT_MOST = 0.0003

# Rows for a weight vector are computed one by one, without packing the weights, up to this number
# and where they are up to so much work (8-64-64-2: packing pays from 20 rows on, 64-256-256-10:
# from 5 on).
_FEW_ROWS = 4
_LITTLE_WORK = 200_000

# A multiplication or addition for one row takes about as long as so many for many rows, as it is
# bound by memory.
_ROW_FACTOR = 4

# Rows per thread from which packing all weights first may pay, so that both ways are timed
# (784-512-512-10, float32: on a Zen 5 it takes 48 us and saves 0.59 us per row; on a Zen 4 250 us,
# so that it pays from 2000 rows on, and from 256 on for 256-1024-1024-10); and bytes of the weights
# where it may: smaller ones stay in the L1 cache as they lie, larger ones would be kept twice.
_ROWS_TO_PACK = {"f": 96, "d": 48}
_BYTES_TO_PACK = (1 << 17, 1 << 26)

# Bytes of weights that certainly stay in the L2 cache from one call to the next.
_NEAR = 1 << 19

# Bytes of a cache line.
_LINE = 64

# Rows at a distance of a multiple of so many bytes map to a few sets of the L1 cache, or to one.
_SAME_PLACE = 1024
_SAME_SET = 4096

# Of weights that do not stay in the L2 cache: the most rows for which they are streamed; and where
# their rows share a set, also the fewest for which tiles of them are copied (of the time that
# register blocks on weights as they lie take, 256-1024-1024-10 on a Zen 3: 8 rows 0.7, 32 rows
# 0.65, 64 rows 0.7).  Where they do not, copying does not pay (784-512-512-10, 32 rows: 1.15).
_STREAMED, _STREAMED_SAME_SET = 4, 16

# Rows for which streaming takes less time than reading packed weights (784-512-512-10 on a Zen 3,
# 2, 3 and 4 rows: 0.8, 0.94 and 1.03 of it).
_FASTER_UNPACKED = 3


@functools.cache
def tiling_of(dtype: np.dtype[Any]) -> Tiling:
    """Return the kernels' sizes for a dtype."""
    load_kernels()
    from fastnn.kernels.micro_kernels import BATCH_ROWS, UNIT_ROWS
    from fastnn.kernels.panels import PANEL_BYTES

    return Tiling(PANEL_BYTES // dtype.itemsize, BATCH_ROWS, UNIT_ROWS)


def slices(examples: int, operations: Sequence[Operation]) -> list[slice]:
    """Divide examples so that Ctrl-C takes effect between the parts; by the layers' sizes alone."""
    rows = _slice_rows(operations)
    return [slice(start, start + rows) for start in range(0, examples, rows)]


def _slice_rows(operations: Sequence[Operation]) -> int:
    """Return how many examples a slice has."""
    nanoseconds = sum(
        2 * sum(entry.size for entry in one.parameters if len(entry.shape) > 1)
        / _WORK_IN_A_NANOSECOND + one.outputs
        for one in operations
        if not one.kind.in_training
    )  # fmt: skip
    figures = tuning.current
    return max(figures.smallest_call, int(figures.call_nanoseconds / nanoseconds))


def _by_rows(apart: int, far: bool) -> tuple[int, int]:
    """Return up to how many rows weights are streamed, and from how many on copied in tiles.

    Their rows are so many bytes apart.
    """
    if not far:
        return 0, codes.NONE
    if apart % _SAME_SET:
        return _STREAMED, codes.NONE
    return _STREAMED_SAME_SET, _STREAMED_SAME_SET + 1


@dataclass(frozen=True, slots=True)
class Table:
    """What the kernels of predictions walk: one row per layer, and the offsets in their workspace.

    Attributes
    ----------
    rows : ndarray of int64, shape (layers, codes.TABLE_COLUMNS)
        Sizes, activations and places.
    plan : ndarray of int64, shape (codes.ANSWER_ENTRIES,)
        Of one thread that takes as many rows at a time as fit.
    packed : int
        Elements of the packed weights: part of the workspace, or a vector of its own.
    room : int
        Elements of the workspace that a thread needs.
    dtype : dtype
        Of everything.
    units : ndarray (2 * outputs,) or (0,)
        What outputs are multiplied by, then what is added to them; the plan has its address.
    """

    rows: NDArray[np.int64]
    plan: NDArray[np.int64]
    packed: int
    room: int
    dtype: np.dtype[Any]
    units: Floats

    def parts(self, rows: int) -> int:
        """Return into how many parts so many rows can be divided, for a thread each."""
        if rows <= self.plan[codes.SHARE] and self.plan[codes.PHASES]:
            return codes.LARGEST_TEAM
        return min(-(-rows // _SMALLEST_SHARE), codes.HELPERS + 1)

    def several(self, size: int, code: int, board: int) -> tuple[NDArray[np.int64], Floats]:
        """Return the plan for so many threads, and the rooms of all of them."""
        plan = self.plan.copy()
        lines = -(-self.room * self.dtype.itemsize // _LINE)
        stride = lines * _LINE // self.dtype.itemsize
        plan[codes.TEAM], plan[codes.STRIDE] = size, stride
        plan[codes.CODE], plan[codes.BOARD] = code, board
        return plan, aligned_zeros(size * stride, self.dtype)

    @classmethod
    def of(
        cls, blocks: Sequence[Operation], dtype: np.dtype[Any], frozen: bool = False,
        packing: bool = False, units: Floats | None = None,
    ) -> Table:  # fmt: skip
        """Plan the predictions of some layers, whose weights are read as they lie, or from panels.

        They are there already where they are frozen, or every call packs them.  Units are what
        `Layout.units` gives of the layers.
        """
        load_kernels()
        from fastnn.kernels.answers import SHARE_ROWS, tile_elements

        tiling = tiling_of(dtype)
        panel, lanes = tiling.panel, tiling.panel // 2
        rows = np.full((len(blocks), codes.TABLE_COLUMNS), codes.NONE, np.int64)
        weights = sum(block.W.size for block in blocks) * dtype.itemsize
        far = weights > _NEAR and not (frozen or packing)
        end = 0
        for row, block in zip(rows, blocks, strict=True):
            inputs, outputs = block.inputs, block.outputs
            narrow = outputs <= tiling.narrow
            begin = 0 if frozen or packing or narrow else outputs // panel * panel
            pitch = -(-outputs // lanes) * lanes
            code = ACTIVATIONS[block.activation].kernel_code
            row[codes.ACTIVATION] = codes.known("activation", code, codes.ACTIVATIONS)
            row[codes.INPUTS] = inputs
            row[codes.OUTPUTS] = outputs
            row[codes.W] = block.W.offset
            row[codes.B] = codes.NONE if block.b is None else block.b.offset
            row[codes.NARROW] = narrow
            row[codes.PACKED_FROM] = begin
            row[codes.STREAMED], row[codes.TILED] = _by_rows(outputs * dtype.itemsize, far)
            row[codes.PITCH] = pitch if pitch * dtype.itemsize % _SAME_PLACE else pitch + lanes
            row[codes.BIASES] = end
            end += -(-outputs // panel) * panel
            row[codes.PACKED] = end
            if narrow:
                end += tiling.packed(inputs, outputs)[0]
            else:
                end += -(-(outputs - begin) // panel) * panel * inputs
        half = SHARE_ROWS * int(rows[:, codes.PITCH].max())
        start = 0 if frozen else end
        plan = np.zeros(codes.ANSWER_ENTRIES, np.int64)
        plan[codes.SHARE] = SHARE_ROWS
        plan[codes.FROZEN] = frozen
        plan[codes.ITEM] = dtype.itemsize
        divided = (
            block.outputs >= _FEWEST_PANELS * panel
            and (ACTIVATIONS[block.activation].code not in codes.ROW_WISE or block is blocks[-1])
            for block in blocks[: codes.MOST_PHASES]
        )
        plan[codes.PHASES] = sum(1 for _ in takewhile(bool, divided))
        tiled = bool((rows[:, codes.TILED] != codes.NONE).any())
        plan[codes.ROOM] = start
        plan[codes.HALF] = half
        plan[codes.TILE] = start + 2 * half if tiled else codes.NONE
        room = start + 2 * half + (tile_elements(panel) if tiled else 0)
        units = np.zeros(0, dtype) if units is None else units
        plan[codes.UNITS] = units.ctypes.data if units.size else 0
        return cls(rows, plan, end, room, dtype, units)


class Predictor:
    """Computes a network's predictions, and keeps their workspace.

    Several threads may call it at once; each takes a workspace from a list, or allocates one.

    Parameters
    ----------
    layout : Layout
        The network's.
    dtype : dtype
        Of everything.
    blocks : sequence of Operation, optional
        The layers to walk; all of the layout's by default.
    frozen : bool, default False
        Whether the parameters are what `pack` returned, instead of a flat vector.
    packing : bool, default False
        Whether every call packs all weights first, which pays with many rows.
    """

    def __init__(
        self,
        layout: Layout,
        dtype: np.dtype[Any],
        blocks: Sequence[Operation] | None = None,
        frozen: bool = False,
        packing: bool = False,
    ) -> None:
        load_kernels()
        from fastnn.kernels.answers import answer, machine_code

        self.layout = layout
        self._blocks = layout.blocks if blocks is None else tuple(blocks)
        self.inputs = self._blocks[0].inputs
        self.outputs = self._blocks[-1].outputs
        self.row = (self.inputs,)
        self._dtype = dtype
        self._answer: Callable[..., None] = answer
        self._machine_code: Callable[..., int] = machine_code
        units = layout.units(self._blocks, dtype)
        self._table = Table.of(self._blocks, dtype, frozen, packing, units)
        self._rows = self._table.rows
        self._work = sum(2 * block.W.size for block in self._blocks)
        self._plan = self._table.plan
        self._rooms: list[Floats] = []
        # What several threads need, by their number.
        self._shared: dict[int, list[tuple[NDArray[np.int64], Floats]]] = {}
        self._code = 0  # where the kernel's machine code lies, once it is compiled
        self._rest: Predictor | None = None  # of the layers behind the first one
        self._packer: Predictor | None = None  # what packs all weights first
        weights = sum(block.W.size for block in self._blocks) * dtype.itemsize
        pays = _BYTES_TO_PACK[0] <= weights <= _BYTES_TO_PACK[1] and not (frozen or packing)
        self._rows_to_pack = _ROWS_TO_PACK[dtype.char] if pays else sys.maxsize
        self._ways = Ways()  # weights as they lie, or packed first
        self.forget()
        tuning.forget_with(self)

    def forget(self) -> None:
        """Find anew up to how many rows go through in one call, and of those in one thread."""
        figures = tuning.current
        self._slice = _slice_rows(self._blocks)
        self._alone = min(self._slice, int(2 * figures.awake_share / self._work))
        # More are worth waking a helper.
        self._most = min(self._slice, int(2 * figures.helper_share / self._work))

    @property
    def unpacked(self) -> int:
        """Up to how many rows weights as they lie in a flat vector are faster than packed ones."""
        return _FASTER_UNPACKED if (self._rows[:, codes.STREAMED] > 0).any() else 0

    @property
    def table(self) -> Table:
        """What the kernels walk."""
        return self._table

    @property
    def most(self) -> int:
        """The most rows that are not worth waking a thread; one in any case."""
        return max(1, self._most)

    def __call__(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict for one row, or for several, into an array of the results' shape."""
        x, out = x.reshape(-1), out.reshape(-1)
        if not x.flags.writeable:
            x = as_if_writeable(x)
        if len(x) <= self._alone * self.inputs:
            self.one(parameters, x, out)
        else:
            self.many(parameters, x, out)

    def single(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict for one row, which must be writeable, from a flat vector: the least latency."""
        if not self._alone:
            self.some(parameters, x, out)
            return
        # As `one`: to call it would take a thirtieth of this.
        try:
            room = self._rooms.pop()
        except IndexError:
            room = aligned_zeros(self._table.room, self._dtype)
        self._answer(self._rows, self._plan, parameters, room, x, out)
        self._rooms.append(room)

    def one(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict in this thread for the rows of one vector, which must be writeable.

        The kernel only reads the plan then, so that all calls share one.
        """
        try:
            room = self._rooms.pop()
        except IndexError:
            room = aligned_zeros(self._table.room, self._dtype)
        self._answer(self._rows, self._plan, parameters, room, x, out)
        self._rooms.append(room)

    def many(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict for the rows of one vector, slice by slice."""
        p, m = self.inputs, self.outputs
        if len(x) <= self._slice * p:
            self.some(parameters, x, out)
            return
        for rows in slices(len(x) // p, self._blocks):
            some = x[rows.start * p : rows.stop * p]
            self.some(parameters, some, out[rows.start * m : rows.stop * m])

    def some(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict for the rows of one vector, in as many threads as are worth it."""
        self._some(parameters, x, out)
        crew.done()

    def _some(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Do what `some` says, and have helpers asked where that would pay."""
        count = len(x) // self.inputs
        size = 1
        if crew.worth(count > self._most):
            worth = int(self._work * count / tuning.current.awake_share)
            # The last slice of very many rows may be worth less than one thread.
            size = max(1, min(worth, self._table.parts(count)))
            if size > 1:
                size = company.limit(min(recent_ceiling(), size))
        if count < size * self._rows_to_pack:
            self._by(size, parameters, x, out)
            return
        # Numbers of rows that differ by less than a half are one kind.
        kind = size, count >> (count.bit_length() - 2), count.bit_length()
        way = self._ways.choose(kind)
        began = time.perf_counter()
        try:
            planned = (self._packer or self._packing()) if way else self
            planned._by(size, parameters, x, out)
        except MemoryError:
            if not way:
                raise
            self._ways.note(kind, way, math.inf)
            self._by(size, parameters, x, out)
        else:
            self._ways.note(kind, way, (time.perf_counter() - began) / count)
        if self._packer is not None and not self._ways.need(1):
            # Its room is as large as all weights.
            self._packer = None

    def _by(self, size: int, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict in so many threads, as soon as they can be given the kernel."""
        if size > 1 and self._code:
            self._together(size, self._code, parameters, x, out)
            return
        self.one(parameters, x, out)
        if size > 1:
            given = self._rows, self._plan, parameters, parameters, x, out
            self._code = self._machine_code(*given)

    def _packing(self) -> Predictor:
        """Return what packs all weights first."""
        self._packer = Predictor(self.layout, self._dtype, self._blocks, packing=True)
        return self._packer

    def _together(self, size: int, code: int, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict in several threads, as far as helpers come."""
        waiting = self._shared.get(size)
        if waiting is None:
            waiting = self._shared.setdefault(size, [])
        try:
            plan, room = waiting.pop()
        except IndexError:
            plan, room = self._table.several(size, code, crew.address)
        began = time.perf_counter()
        crew.ready(size)
        self._answer(self._rows, plan, parameters, room, x, out)
        waited = 1e-9 * float(plan[codes.WAITED])
        waiting.append((plan, room))
        if waited > max(_SHARE_AT_MOST, 0.5 * (time.perf_counter() - began)):
            company.disturbed(1, waited)

    def each(self, P: Floats, X: Floats, out: Floats) -> None:
        """Predict with every one of several weight vectors.

        Parameters
        ----------
        P : ndarray, shape (k, size)
            Parameters.
        X : ndarray, shape (1, n, p) or (k, n, p)
            Rows for all, or for each.
        out : ndarray, shape (k, n, m)
            Written.
        """
        rows = X.shape[1]
        alone = rows <= _FEW_ROWS or rows * self._work <= _LITTLE_WORK
        if rows > self.most and not alone:
            for k, parameters in enumerate(as_if_writeable(P.view())):
                self(parameters, X[k if len(X) > 1 else 0], out[k])
            return
        if not rows:
            return
        P, X = as_if_writeable(P.view()), as_if_writeable(X.view())
        work = self._work * rows * (_ROW_FACTOR if alone else 1)
        size = min(int(work * len(P) / tuning.current.helper_share), len(P), codes.HELPERS + 1)
        size = max(1, size)
        if size > 1 and crew.worth(True):
            size = company.limit(min(recent_ceiling(), size))
        # Ctrl-C takes effect between two slices.
        nanoseconds = work / _WORK_IN_A_NANOSECOND
        step = max(1, int(size * tuning.current.call_nanoseconds / nanoseconds))
        for start in range(0, len(P), step):
            some = slice(start, start + step)
            self._vectors(size, P[some], X if len(X) == 1 else X[some], out[some], alone)

    def _vectors(self, size: int, P: Floats, X: Floats, out: Floats, alone: bool) -> None:
        """Predict with as many weight vectors as one call takes, in so many threads."""
        flat = P.reshape(-1), X.reshape(-1), out.reshape(-1)
        if size > 1 and not self._code:
            # It is there once the kernel is compiled.
            self._vectors(1, P[:1], X[:1], out[:1], alone)
            given = self._rows, self._plan, flat[0], flat[0], flat[1], flat[2]
            self._code = self._machine_code(*given)
            size = size if self._code else 1
        if size > 1:
            plan, room = self._table.several(size, self._code, crew.address)
            crew.ready(size)
        else:
            plan, room = self._plan.copy(), aligned_zeros(self._table.room, self._dtype)
        plan[codes.VECTORS], plan[codes.ONE_BY_ONE] = len(P), alone
        self._answer(self._rows, plan, flat[0], room, flat[1], flat[2])

    def sparse(self, parameters: Floats, X: SparseRows, out: Floats) -> None:
        """Predict for sparse rows: the first layer over their entries, the others densely."""
        rest = self._blocks[1:]
        if not rest:
            self.first(parameters, X, out)
            if self._table.units.size:
                from fastnn.kernels.scaling import bring_back

                bring_back(out.reshape(-1), self._table.units)
            return
        if self._rest is None:
            self._rest = Predictor(self.layout, self._dtype, rest)
        size = max(1, min(len(X), tuning.current.hidden_elements // self._blocks[0].outputs))
        room = np.empty((size, self._blocks[0].outputs), self._dtype)
        for start in range(0, len(X), size):
            part = X[start : start + size]
            hidden = room[: len(part)]
            self.first(parameters, part, hidden)
            self._rest(parameters, hidden, out[start : start + size])

    def first(self, parameters: Floats, X: SparseRows, out: Floats) -> None:
        """Write the first layer's result for sparse rows, in as many threads as are worth it."""
        from fastnn.kernels.first_layer import first_layer

        row, results = self._rows[0], out.reshape(-1)
        work = SPARSE_FACTOR * 2 * X.entries * self._blocks[0].outputs
        parts = max(1, min(len(X) // _FEWEST_ROWS, work // tuning.current.part_work))
        # A free thread takes the next part, so that none waits for a thread that is late.
        cuts = [len(X) * part // parts for part in range(parts + 1)]
        waiting = iter(list(pairwise(cuts)))

        def call(leading: bool) -> None:
            for first, last in waiting:
                first_layer(row, parameters, X.starts, X.columns, X.values, first, last, results)

        size = crowd.limit(fitting(None, work, 1, parts))
        if size == 1:
            call(True)
        else:
            together(size, call, lambda: list(waiting))

    def pack(self, parameters: Floats) -> Floats:
        """Return a flat vector's weights as a frozen predictor reads them."""
        packed = aligned_zeros(self._table.packed, self._dtype)
        plan = self._plan.copy()
        plan[codes.FROZEN] = 0
        nothing = np.zeros(0, self._dtype)
        self._answer(self._rows, plan, parameters, packed, nothing, nothing)
        return packed


def as_if_writeable(x: NDArray[Any]) -> NDArray[Any]:
    """Return an array of the same memory that says it is writeable; kernels do not write to it.

    They are compiled for writeable arrays.
    """
    try:
        x.flags.writeable = True
    except ValueError:
        # Memory that is read-only itself, such as a file's, which may be larger than what is left.
        x = np.asarray(_Lent(x))
    return x


class _Lent:
    """An array's memory, to be read only, whatever is said of it."""

    def __init__(self, x: NDArray[Any]) -> None:
        self._kept_alive = x
        self.__array_interface__ = {**x.__array_interface__, "data": (x.ctypes.data, False)}
