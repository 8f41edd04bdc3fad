"""Where everything lies: parameters by name, and what the kernels read.

`Layout` turns layer sizes into names, offsets and shapes in one flat vector.  `Program` turns
a layout into the integer table that the engine walks: one row per operation, with the offsets in
the workspace that it reads and writes.  Sizes and offsets count elements.

This file is long because names, table and workspace describe the same offsets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import tuning
from fastnn.activations import ACTIVATIONS
from fastnn.kernels import codes
from fastnn.losses import Loss
from fastnn.system import pages

__all__ = ["Block", "Entry", "Layout", "Program", "Tiling", "aligned_zeros", "capacity"]

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector of any current CPU
_LARGE_PAGE = 1 << 21  # bytes, on x86 and where ARM has pages of 4 KiB
_LINE = 16  # elements: a cache line of float32, so that no two buffers share one

# What is private to a thread where threads share no chunk.
_PRIVATE_IN_TABLE = (codes.SOURCE, codes.Z, codes.RESULT, codes.DSOURCE, codes.DRESULT)
_PRIVATE_IN_PLAN = (
    codes.FLAT, codes.DFLAT, codes.LOSSES, codes.SHARES, codes.ENTRIES, codes.TURNED_ENTRIES,
)  # fmt: skip
_PRIVATE_INTEGERS = (codes.BEGINNINGS, codes.CURSORS, codes.TURNED_ROWS)


def aligned_zeros(size: int, dtype: DTypeLike) -> NDArray[np.floating]:
    """Return a vector of zeros aligned to 64 bytes, or, if it is large, to a large page.

    It is large if it contains a whole large page at any alignment.
    """
    wanted = size * np.dtype(dtype).itemsize
    if wanted < 2 * _LARGE_PAGE:
        step = _ALIGNMENT
        raw = np.zeros(wanted + step, np.uint8)
    else:
        step = _LARGE_PAGE
        raw = np.frombuffer(pages(wanted + step), np.uint8)
    skip = -raw.ctypes.data % step
    vector: NDArray[np.floating] = raw[skip : skip + wanted].view(dtype)
    return vector


def capacity(rows: int) -> int:
    """Return for how many rows a run can be planned that computes this many, or fewer, bit for bit.

    More only as long as they still are one chunk, as chunks determine the order of sums.
    """
    larger = 1 << (rows - 1).bit_length()
    return larger if larger <= tuning.current.smallest_chunk else rows


@dataclass(frozen=True, slots=True)
class Entry:
    """One named array in the flat vector.

    Attributes
    ----------
    name : str
        Place in the layer list, a dot, and "W" or "b"; also the name in files.
    offset : int
        Where it begins.
    shape : tuple of int
        ``(h_in, h_out)`` for W, ``(h_out,)`` for b.
    """

    name: str
    offset: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Block:
    """One layer with parameters, as the kernels need it.

    Attributes
    ----------
    place : int
        Place in the network's layer list.
    inputs, outputs : int
        Columns read and written.
    activation : str
        Name of its row.
    l2 : float
        Strength of its L2 regularisation.
    dropout : float
        Fraction of its inputs that is dropped in training.
    W : Entry
        Where its weights lie.
    b : Entry or None
        Where its biases lie.
    """

    place: int
    inputs: int
    outputs: int
    activation: str
    l2: float
    dropout: float
    W: Entry
    b: Entry | None


class Layout:
    """Names, offsets and shapes of everything in the flat parameter vector.

    The vector holds ``W1, b1, W2, b2, ...``, each row-major, without padding.

    Parameters
    ----------
    blocks : sequence of Block
        The layers with parameters, in order; see `Layout.of`.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(3, "relu"), fn.Dense(1)], inputs=2)
    >>> net.layout.names
    ('0.W', '0.b', '1.W', '1.b')
    >>> net.layout["1.W"]
    Entry(name='1.W', offset=9, shape=(3, 1))
    >>> net.layout.size
    13
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = tuple(blocks)
        self._entries = {
            entry.name: entry
            for block in self.blocks
            for entry in (block.W, block.b)
            if entry is not None
        }
        self.size = sum(entry.size for entry in self)

    @classmethod
    def of(cls, inputs: int, layers: Sequence[tuple[int, int, str, bool, float, float]]) -> Layout:
        """Lay out layers given as (place, units, activation, bias, l2, dropout); see `Block`."""
        blocks = []
        offset = 0
        for place, units, activation, bias, l2, dropout in layers:
            W = Entry(f"{place}.W", offset, (inputs, units))
            offset += W.size
            b = Entry(f"{place}.b", offset, (units,)) if bias else None
            offset += units if bias else 0
            blocks.append(Block(place, inputs, units, activation, l2, dropout, W, b))
            inputs = units
        return cls(blocks)

    @property
    def inputs(self) -> int:
        """Columns of X."""
        return self.blocks[0].inputs

    @property
    def outputs(self) -> int:
        """Columns of a prediction."""
        return self.blocks[-1].outputs

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all arrays, in the vector's order."""
        return tuple(self._entries)

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        arrays = ", ".join(f"{entry.name} {entry.shape}" for entry in self)
        return f"Layout({arrays}; {self.size} parameters)"

    def view(self, vector: NDArray[np.floating], entry: Entry | str) -> NDArray[np.floating]:
        """Return one array of a flat vector as a view that shares its memory."""
        if isinstance(entry, str):
            entry = self[entry]
        return vector[entry.offset : entry.offset + entry.size].reshape(entry.shape)

    def weights(self, vector: NDArray[np.floating]) -> list[NDArray[np.floating]]:
        """Return the views of all W, by layer."""
        return [self.view(vector, block.W) for block in self.blocks]

    def biases(self, vector: NDArray[np.floating]) -> list[NDArray[np.floating] | None]:
        """Return the views of all b, by layer; None where a layer has no bias."""
        return [None if block.b is None else self.view(vector, block.b) for block in self.blocks]


@dataclass(frozen=True, slots=True)
class Tiling:
    """The sizes that the kernels' panel format has for a dtype on this machine.

    Attributes
    ----------
    panel : int
        Columns of a panel.
    rows : int
        Examples that a tile of a product takes together; chunks are rounded up to whole tiles.
    units : int
        Rows of a tile of a weight gradient.
    """

    panel: int
    rows: int
    units: int

    @property
    def narrow(self) -> int:
        """The most outputs of a layer whose weights are stored as their transpose."""
        return min(self.panel // 8, codes.NARROW_ROWS)

    def packed(self, inputs: int, outputs: int) -> tuple[int, int]:
        """Return how many elements packed weights take, and how many tiles their gradient has."""
        panels = _up(inputs, self.panel)
        if outputs <= self.narrow:
            return panels * codes.NARROW_ROWS, panels // self.panel
        tall, wide = _up(inputs, self.units), _up(outputs, self.panel)
        return tall * wide, (tall // self.units) * (wide // self.panel)


@dataclass(frozen=True, slots=True)
class Program:
    """What the engine walks: the operation table and the places in its workspace.

    Attributes
    ----------
    table : ndarray of int64, shape (threads, operations, codes.TABLE_COLUMNS)
        One row per operation, in the order of the forward pass, with each thread's offsets.
    constants : ndarray of float64, shape (operations, codes.CONSTANT_COLUMNS)
        The floating-point parameters of each operation.
    plan : ndarray of int64, shape (threads, codes.PLAN_ENTRIES)
        What to do, with each thread's offsets; the caller fills in mode and steps.
    workspace : int
        Elements of workspace that a run needs.
    integers : int
        Elements of the integer workspace that it needs.
    parts : int
        Parts into which the work between two barriers is divided; further threads would be idle.
    """

    table: NDArray[np.int64]
    constants: NDArray[np.float64]
    plan: NDArray[np.int64]
    workspace: int
    integers: int = 0
    parts: int = 1

    def __str__(self) -> str:
        """Return the first thread's operation table with names, one line per operation.

        Places of parameters count from the beginning of the flat vector, all others from that
        of the workspace; - stands for what an operation has not.
        """
        table = self.table[0]
        kinds = {codes.DENSE: "dense", codes.DROPOUT: "dropout"}
        activations = {row.code: name for name, row in ACTIVATIONS.items()}
        lines = [["", "operation", "activation", *(name.lower() for name in _SHOWN)]]
        for place, row in enumerate(table):
            numbers = (row[getattr(codes, name)] for name in _SHOWN)
            lines.append(
                [
                    str(place),
                    kinds[int(row[codes.OPERATION])],
                    activations[int(row[codes.ACTIVATION])],
                    *("-" if number == codes.NONE else str(number) for number in numbers),
                ]
            )
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = (
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in lines
        )
        return "\n".join(
            [
                *shown,
                f"{self.plan[0, codes.CHUNK]} rows of {self.plan[0, codes.BATCH]} at a time, "
                f"{self.workspace} elements of workspace, at most {len(self.plan)} threads",
            ]
        )

    @classmethod
    def of(
        cls,
        blocks: Sequence[Block],
        rows: int,
        tiling: Tiling,
        *,
        loss: Loss | None = None,
        gradient: bool = False,
        keep: bool = False,
        penalty: bool = True,
        dropping: bool = False,
        moments: int = 0,
        clipping: bool = False,
        threads: int = 1,
        entries: Callable[[int], int] | None = None,
        beside: int = 0,
    ) -> Program:
        """Plan a run.

        Parameters
        ----------
        blocks : sequence of Block
            The layers to walk; the first ones of a network are a network too.
        rows : int
            Rows of a batch.
        tiling : Tiling
            Of the kernels, for the dtype.
        loss : Loss or None
            What the run ends in.  A loss that is matched with the last activation is fused with it:
            the table's last row then stops at Z.
        gradient : bool
            Whether the backward pass is wanted.
        keep : bool
            Whether every Z, A and dZ of all rows must be in the workspace afterwards.
        penalty : bool
            Whether the layers' L2 regularisation counts.
        dropping : bool
            Whether dropout is applied, as in training.
        moments : int
            Vectors of moments that training keeps; 0 where the gradient itself is wanted.
        clipping : bool
            Whether the gradient's norm is limited, for which the gradient must be kept.
        threads : int
            How many may take part; the workspace is planned for at most as many as there are parts.
        entries : callable or None
            For sparse examples: the most entries that a given number of them has.
        beside : int
            Columns that count for the size of a chunk although they belong to none of the blocks:
            with those of the preceding layers, sums have the same order as in the whole network.
        """
        widths = [blocks[0].inputs, *(block.outputs for block in blocks)]
        figures = tuning.current
        fitting = max(figures.smallest_chunk, figures.chunk_elements // (sum(widths) + beside))
        chunk = rows if keep else min(rows, fitting)
        height = _up(chunk, tiling.rows)
        operations = _operations(blocks, dropping)
        table = np.full((len(operations), codes.TABLE_COLUMNS), codes.NONE, dtype=np.int64)
        constants = np.zeros((len(operations), codes.CONSTANT_COLUMNS))
        plan = np.zeros(codes.PLAN_ENTRIES, np.int64)
        room = _Room()

        def panels(tall: int, wide: int) -> int:
            return tall * _up(wide, tiling.panel)

        units = 0
        for row, (code, block) in zip(table, operations, strict=True):
            row[codes.OPERATION] = codes.known("operation", code, codes.OPERATIONS)
            row[codes.UNITS] = units
            if code == codes.DROPOUT:
                continue
            packed, tiles = tiling.packed(block.inputs, block.outputs)
            row[codes.NARROW] = block.outputs <= tiling.narrow
            row[codes.PACKED] = room(packed)
            row[codes.BIASES] = room(panels(1, block.outputs))
            units += tiles
        state = room.end
        # In groups, threads share no chunk: what one core has just written, another reads slowly.
        groups = min(figures.groups, -(-rows // chunk)) if gradient else 1
        if groups < figures.fewest_groups or groups * state > figures.grouped_elements:
            groups = 1
        parts = groups if groups > 1 else height // tiling.rows
        threads = min(threads, parts)
        kept = gradient and (moments == 0 or clipping or chunk < rows)
        room((moments + kept * groups) * state)
        private = room.end
        source, dsource = codes.NONE, codes.NONE
        if entries is None:
            source = room(panels(height, widths[0]))
        for row, constant, (code, block) in zip(table, constants, operations, strict=True):
            row[codes.SPARSE] = entries is not None and block is blocks[0]
            if code == codes.DROPOUT:
                # The original inputs are not needed again; a layer's output is, for its derivative.
                result = source if block is blocks[0] else room(panels(height, block.inputs))
                _drop(row, constant, block, source, result, dsource)
                source = result
                continue
            activation = ACTIVATIONS[block.activation]
            if loss is not None and loss.activation is not None and block is blocks[-1]:
                activation = ACTIVATIONS["identity"]
            keeps_z = keep or (gradient and activation.derivative_from == "Z")
            size = panels(height, block.outputs)
            row[codes.ACTIVATION] = codes.known("activation", activation.code, codes.ACTIVATIONS)
            row[codes.INPUTS] = block.inputs
            row[codes.OUTPUTS] = block.outputs
            row[codes.W] = block.W.offset
            row[codes.B] = codes.NONE if block.b is None else block.b.offset
            row[codes.SOURCE] = source
            row[codes.RESULT] = room(size)
            row[codes.Z] = room(size) if keeps_z else row[codes.RESULT]
            row[codes.DSOURCE] = dsource
            row[codes.DRESULT] = room(size) if gradient else codes.NONE
            if dsource != codes.NONE and not row[codes.NARROW]:
                row[codes.TRANSPOSED] = room(panels(block.outputs, block.inputs))
            constant[codes.L2] = block.l2 if penalty else 0.0
            source, dsource = row[codes.RESULT], row[codes.DRESULT]
        constants[-1, codes.LOSS_NUMBER] = 0.0 if loss is None else loss.number
        widest = max(block.outputs for block in blocks)
        # Whole tiles of rows, as validation examples of several chunks fill the last one too.
        flat = height * widest
        plan[codes.LOSS_CODE] = codes.known(
            "loss", codes.NO_LOSS if loss is None else loss.code, codes.LOSS_CODES
        )
        plan[codes.BATCH] = rows
        plan[codes.CHUNK] = chunk
        plan[codes.HEIGHT] = height
        plan[codes.THREADS] = threads
        plan[codes.CLIPPING] = clipping
        plan[codes.PENALTY] = bool(constants[:, codes.L2].any())
        plan[codes.STATE] = state
        plan[codes.MOMENTS] = moments
        plan[codes.GROUPS] = groups
        plan[codes.UNIT_COUNT] = units
        plan[codes.WIDEST] = widest
        plan[codes.FLAT] = room(flat)
        plan[codes.DFLAT] = room(flat if gradient else 0)
        plan[codes.LOSSES] = room(height)
        plan[codes.SHARES] = room(height)
        integers = _Room()
        if entries is not None:
            turned = entries(chunk) if gradient else 0
            plan[codes.SPARSE_ROWS] = 1
            plan[codes.ENTRIES] = room(entries(chunk))
            plan[codes.TURNED_ENTRIES] = room(turned)
            plan[codes.BEGINNINGS] = integers(chunk + 1)
            plan[codes.CURSORS] = integers(widths[0] + 1 if gradient else 0)
            plan[codes.TURNED_ROWS] = integers(turned)
        # Threads that share no chunk have private activations.
        copy = room(0) - private if groups > 1 else 0
        room((threads - 1) * copy)
        own = integers.end if groups > 1 else 0
        integers((threads - 1) * own)
        plan[codes.COUNTS] = integers(threads * codes.COUNT_PITCH if entries is not None else 0)
        plan[codes.TILE_SIZE] = tiling.panel * tiling.units
        plan[codes.TILES] = room(threads * tiling.panel * tiling.units)
        plan[codes.RATES_AT] = room(2 * codes.RATES)
        shifts = copy * np.arange(threads, dtype=np.int64)
        plans = _shifted(plan, shifts, _PRIVATE_IN_PLAN)
        plans[:, _PRIVATE_INTEGERS] += own * np.arange(threads)[:, np.newaxis]
        return cls(
            _shifted(table, shifts[:, None], _PRIVATE_IN_TABLE), constants, plans, room.end,
            integers.end, parts,
        )  # fmt: skip


#: The columns of the operation table that `Program` shows beside its operation and activation.
_SHOWN = (
    "INPUTS", "OUTPUTS", "W", "B", "SOURCE", "Z", "RESULT", "DSOURCE", "DRESULT", "PACKED",
    "BIASES", "TRANSPOSED",
)  # fmt: skip


def _operations(blocks: Sequence[Block], dropping: bool) -> list[tuple[int, Block]]:
    """Return the operations of the layers in order, each with its layer."""
    operations = []
    for block in blocks:
        if dropping and block.dropout:
            operations.append((codes.DROPOUT, block))
        operations.append((codes.DENSE, block))
    return operations


def _drop(
    row: NDArray[np.int64], constant: NDArray[np.float64], block: Block, source: int, result: int,
    dsource: int,
) -> None:  # fmt: skip
    """Write the dropout of a layer's inputs; the gradient is computed in place."""
    row[codes.ACTIVATION] = codes.IDENTITY
    row[codes.INPUTS] = row[codes.OUTPUTS] = block.inputs
    row[codes.SOURCE] = source
    row[codes.RESULT] = row[codes.Z] = result
    row[codes.DSOURCE] = row[codes.DRESULT] = dsource
    row[codes.PLACE] = block.place - 1
    row[codes.THRESHOLD] = min(round(block.dropout * 2**32), 2**32 - 1)
    constant[codes.KEPT_SCALE] = 1.0 / (1.0 - block.dropout)


def _shifted(numbers: NDArray[np.int64], shifts: Any, places: Sequence[int]) -> NDArray[np.int64]:
    """Return a copy of plan or table for each thread, with its private offsets."""
    copies = np.repeat(numbers[None], len(shifts), axis=0)
    for place in places:
        copies[..., place] += np.where(copies[..., place] < 0, 0, shifts)
    return copies


def _up(count: int, step: int) -> int:
    """Return a count rounded up to whole steps."""
    return -(-count // step) * step


@dataclass(slots=True)
class _Room:
    """Allocates offsets in a workspace, one after the other."""

    end: int = 0

    def __call__(self, elements: int) -> int:
        """Return the offset of so many elements."""
        start = self.end
        self.end += _up(elements, _LINE)
        return start
