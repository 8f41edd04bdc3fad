"""Where everything lies: parameters by name, and what the kernels read.

`Layout` turns layer sizes into names, offsets and shapes in one flat vector.  `Program` turns
a layout into the integer table that the engine walks: one row per operation, with the offsets in
the workspace that it reads and writes.  Sizes and offsets count elements.

This file is long because names, table and workspace describe the same offsets.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import tuning
from fastnn.activations import ACTIVATIONS, Activation
from fastnn.kernels import codes, records
from fastnn.kinds import KINDS, Array, Kind, check_widths, coded_columns, kind_of
from fastnn.layers import Layer
from fastnn.losses import Loss
from fastnn.machine.system import pages
from fastnn.target_scale import TargetScale

__all__ = [
    "Entry", "Layout", "Operation", "Program", "Tiling", "aligned_zeros", "capacity", "seconds",
]  # fmt: skip

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector of any current CPU
_LARGE_PAGE = 1 << 21  # bytes, on x86 and where ARM has pages of 4 KiB
_LINE = 16  # elements: a cache line of float32, so that no two buffers share one
_SPAN_BLOCK = 1 << 14  # elements of a gradient in one span that are summed before their step

# Programs that are kept for runs to come, each of some kilobytes.
_KEPT = 32

# What of a layer no search over all examples takes into account, and the defaults.
_OF_STEPS: dict[str, Any] = {
    "l1": 0.0, "max_norm": None, "non_negative": False, "learning_rate_scale": 1.0,
    "weight_decay": None,
}  # fmt: skip

# What is private to a thread where threads share no chunk.
_PRIVATE_IN_TABLE = (
    "source", "Z", "result", "dsource", "dresult", "scratch", "other", "plus", "carry", "carried",
)  # fmt: skip
_PRIVATE_IN_PLAN = ("flat_at", "dflat_at", "losses", "shares", "entries")
_PRIVATE_INTEGERS = ("beginnings", "row_starts")


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
    """One named array in the flat vector of parameters and buffers.

    Attributes
    ----------
    name : str
        Place in the layer list, a dot, and the array's name in its layer, such as "W" or "b"; also
        the name in files.
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
class Operation:
    """One layer, as it stands in a network of known inputs.

    Attributes
    ----------
    kind : Kind
        Its row in the table of kinds.
    layer : Layer
        Its record.
    place : int
        Place in the network's layer list; of a layer inside another one a number of its own.
    inputs, outputs : int
        Columns read and written.
    parameters : tuple of Entry
        Where its parameters lie: W and b of a fully connected layer.
    buffers : tuple of Entry
        Where its buffers lie.
    name : str
        Place in the layer list, such as "1"; with dots, such as "1.0", inside another layer.
    number : int
        How many operations stand before it in the network.
    since : int or None
        Of a sum, the number of the first operation inside; what that reads is added.
    """

    kind: Kind
    layer: Layer
    place: int
    inputs: int
    outputs: int
    parameters: tuple[Entry, ...] = ()
    buffers: tuple[Entry, ...] = ()
    name: str = ""
    number: int = 0
    since: int | None = None

    def behind(self, size: int) -> Operation:
        """Return the same with buffers that lie behind so many parameters."""
        if not self.buffers:
            return self
        moved = (replace(entry, offset=entry.offset + size) for entry in self.buffers)
        return replace(self, buffers=tuple(moved))

    @property
    def label(self) -> int | str:
        """Its place as reports have it: a number, but inside another layer."""
        return self.name if "." in self.name else self.place

    def begin(self, layout: Layout, vector: NDArray[np.floating], rng: np.random.Generator) -> None:
        """Write what its arrays begin as, but for those that an initializer draws."""
        kind = self.kind
        entries, arrays = self.buffers, kind.buffers(self.layer, self.inputs)
        if kind.form != codes.MATRIX:
            entries = self.parameters + entries
            arrays = kind.parameters(self.layer, self.inputs) + arrays
        for entry, one in zip(entries, arrays, strict=True):
            view = layout.view(vector, entry)
            view[:] = one.start
            if one.deviation:
                view += rng.normal(0.0, one.deviation, view.shape).astype(view.dtype)

    @property
    def activation(self) -> str:
        """The name of its activation's row; "identity" for what has none."""
        return getattr(self.layer, "activation", "identity")

    @property
    def trainable(self) -> bool:
        """Whether it has parameters, and training changes them."""
        return bool(self.parameters) and getattr(self.layer, "trainable", True)

    @property
    def whole(self) -> bool:
        """Whether training needs all rows of a batch for it at once."""
        return self.kind.whole and self.trainable

    @property
    def l2(self) -> float:
        """Strength of its L2 regularisation; 0 where no step moves it."""
        return getattr(self.layer, "l2", 0.0) if self.trainable else 0.0

    @property
    def l1(self) -> float:
        """Strength of its L1 regularisation; 0 where no step moves it."""
        return getattr(self.layer, "l1", 0.0) if self.trainable else 0.0

    @property
    def rate_scale(self) -> float:
        """What the learning rate is multiplied by for its parameters."""
        return getattr(self.layer, "learning_rate_scale", 1.0)

    @property
    def decay(self) -> float | None:
        """By what part of itself, times the learning rate, a weight decays; None for the rule's."""
        return getattr(self.layer, "weight_decay", None)

    @property
    def max_norm(self) -> float | None:
        """The length to which the weights of each unit are shortened after a step."""
        return getattr(self.layer, "max_norm", None) if self.trainable else None

    @property
    def non_negative(self) -> bool:
        """Whether weights below 0 become 0 after a step."""
        return bool(getattr(self.layer, "non_negative", False)) and self.trainable

    @property
    def bounded(self) -> bool:
        """Whether its weights are kept within bounds after a step."""
        return self.non_negative or self.max_norm is not None

    @property
    def of_steps(self) -> str | None:
        """What its layer asks of optimizers that take steps, and of no others, as an argument."""
        for name, usual in _OF_STEPS.items() if self.trainable else ():
            value = getattr(self.layer, name, usual)
            if value != usual:
                return f"{name}={value!r}"
        return None

    @property
    def plain(self) -> bool:
        """Whether the engine that is compiled without rarer things is enough for it."""
        return self.kind.plain and self.of_steps is None

    @property
    def W(self) -> Entry:
        """Where its weights lie, of a fully connected layer."""
        return self.parameters[0]

    @property
    def b(self) -> Entry | None:
        """Where its biases lie, of a fully connected layer that has some."""
        return self.parameters[1] if len(self.parameters) > 1 else None


class Layout:
    """Names, offsets and shapes of everything in the flat parameter vector.

    The vector holds ``W1, b1, W2, b2, ...``, each row-major, without padding.  What belongs to
    layers and is no parameter, their buffers, lies behind all parameters in the same way:
    gradients have ``size`` elements, what is saved and shown ``size + buffer_size``.

    Parameters
    ----------
    operations : sequence of Operation
        The layers, in order; see `Layout.of`.
    scale : TargetScale, optional
        By which predictions are brought to the units of the targets; None where they are what the
        last layer gives.

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

    def __init__(
        self, operations: Sequence[Operation], scale: TargetScale | None = None
    ) -> None:  # fmt: skip
        self.operations = tuple(operations)
        self.scale = scale
        self._entries = {
            entry.name: entry for operation in self.operations for entry in operation.parameters
        }
        self.buffers = {
            entry.name: entry for operation in self.operations for entry in operation.buffers
        }
        self.size = sum(entry.size for entry in self)
        #: Columns of X that hold codes, and how many codes each has.
        self.coded = coded_columns([one.layer for one in self.operations])
        self.buffer_size = sum(entry.size for entry in self.buffers.values())

    @classmethod
    def of(cls, inputs: int, layers: Sequence[Layer]) -> Layout:
        """Lay out the layers of a network of so many inputs."""
        check_widths(layers, inputs)
        laid = _Laid(len(layers))
        laid.chain(inputs, layers)
        return cls([one.behind(laid.size) for one in laid.operations])

    def check_batch(self, rows: int) -> None:
        """Refuse to train on batches of so many examples where that says nothing."""
        for one in self.operations:
            if one.whole and rows < 2:
                raise ValueError(
                    f"{one.layer!r}, layer {one.name}, normalises over the examples of a batch, of "
                    "which training needs at least 2 (batch_size=2, or more); got 1. "
                    "fastnn.LayerNorm() normalises each example by itself."
                )

    def without_training(self) -> Layout:
        """Return the same without what is done in training only."""
        return Layout([one for one in self.operations if not one.kind.in_training], self.scale)

    def with_scale(self, scale: TargetScale | None) -> Layout:
        """Return the same with predictions in other units; None for those of the last layer."""
        return self if scale is self.scale else Layout(self.operations, scale)

    def units(
        self, operations: Sequence[Operation], dtype: DTypeLike
    ) -> NDArray[np.floating] | None:
        """Return the numbers by which the result of some operations gets its units.

        None where it has none: only that of the last one of all has.
        """
        if self.scale is None or operations[-1].name != self.operations[-1].name:
            return None
        return self.scale.numbers(self.outputs, dtype)

    def predicting(self) -> Layout:
        """Return the same as predictions see it, by the buffers, also where a gradient is asked."""
        found = []
        for one in self.operations:
            layer: Any = one.layer
            found.append(replace(one, layer=replace(layer, trainable=False)) if one.whole else one)
        return Layout(found, self.scale)

    def with_l2(self, l2: float) -> Layout:
        """Return the same with one strength of L2 regularisation for all weights."""
        found = []
        for one in self.operations:
            layer: Any = one.layer
            weighted = one.kind.form == codes.MATRIX
            found.append(replace(one, layer=replace(layer, l2=l2)) if weighted else one)
        return Layout(found, self.scale)

    @property
    def blocks(self) -> tuple[Operation, ...]:
        """The fully connected layers among the operations."""
        return tuple(one for one in self.operations if one.kind.form == codes.MATRIX)

    @property
    def inputs(self) -> int:
        """Columns of X."""
        return self.operations[0].inputs

    @property
    def outputs(self) -> int:
        """Columns of a prediction."""
        return self.operations[-1].outputs

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
        """Return the views of all W, by fully connected layer."""
        return [self.view(vector, block.W) for block in self.blocks]

    def biases(self, vector: NDArray[np.floating]) -> list[NDArray[np.floating] | None]:
        """Return the views of all b, by fully connected layer; None where it has no bias."""
        return [None if block.b is None else self.view(vector, block.b) for block in self.blocks]


class _Laid:
    """Operations in a row, and where their arrays end.

    Parameters
    ----------
    inner : int
        The place of the first layer inside another one.

    Attributes
    ----------
    operations : list of Operation
        Of which the buffers lie from 0 on.
    size : int
        Parameters of all of them.
    """

    def __init__(self, inner: int) -> None:
        self.operations: list[Operation] = []
        self._inner, self.size, self._buffer_size = inner, 0, 0

    def chain(self, width: int, layers: Sequence[Layer], above: str = "") -> int:
        """Add layers that read so many columns; return how many they give."""
        for n, layer in enumerate(layers):
            kind, name, since = kind_of(layer), f"{above}{n}", None
            place = n if not above else self._inner
            self._inner += bool(above)
            if layer.inside:
                since = len(self.operations)
                width = self.chain(width, layer.inside, f"{name}.")
            parameters, self.size = _entries(name, kind.parameters(layer, width), self.size)
            buffers, self._buffer_size = _entries(
                name, kind.buffers(layer, width), self._buffer_size
            )
            inputs, width = width, kind.outputs(layer, width)
            self.operations.append(
                Operation(
                    kind, layer, place, inputs, width, parameters, buffers, name,
                    len(self.operations), since,
                )
            )  # fmt: skip
        return width


def _entries(name: str, arrays: Sequence[Array], offset: int) -> tuple[tuple[Entry, ...], int]:
    """Return where a layer's arrays lie from an offset on, and where the next ones begin."""
    found = []
    for one in arrays:
        found.append(Entry(f"{name}.{one.name}", offset, one.shape))
        offset += found[-1].size
    return tuple(found), offset


def seconds(operations: Sequence[Operation]) -> list[int | None]:
    """Return where the second operation that a sum reads stands, -1 for X; None of all others.

    The operations may be some of a network's: what is done in training only leaves a sum with its
    block as it is.
    """
    numbers = [one.number for one in operations]
    return [
        None if one.since is None else bisect_left(numbers, one.since) - 1 for one in operations
    ]


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

    def panels(self, tall: int, wide: int) -> int:
        """Return how many elements a matrix in panels takes."""
        return tall * _up(wide, self.panel)


@dataclass(frozen=True, slots=True)
class Program:
    """What the engine walks: the operation table and the places in its workspace.

    Attributes
    ----------
    table : ndarray of records.OPERATION, shape (threads, operations)
        One row per operation, in the order of the forward pass, with each thread's offsets.
    plan : ndarray of records.PLAN, shape (threads,)
        What to do, with each thread's offsets; the caller fills in mode and steps.
    workspace : int
        Elements of workspace that a run needs.
    integers : int
        Elements of the integer workspace that it needs.
    parts : int
        Parts into which the work between two barriers is divided; further threads would be idle.
    known : ndarray of int64
        What the integer workspace begins with.
    """

    table: NDArray[np.void]
    plan: NDArray[np.void]
    workspace: int
    integers: int = 0
    parts: int = 1
    known: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __str__(self) -> str:
        """Return the first thread's operation table with names, one line per operation.

        Places of parameters count from the beginning of the flat vector, all others from that
        of the workspace; - stands for what an operation has not.
        """
        table = self.table[0]
        kinds = {row.code: name.lower() for name, row in KINDS.items()}
        activations = {row.code: name for name, row in ACTIVATIONS.items()}
        lines = [["", "operation", "activation", *_SHOWN]]
        for place, row in enumerate(table):
            numbers = (row[name] for name in _SHOWN)
            lines.append(
                [
                    str(place),
                    kinds[int(row["operation"])],
                    activations.get(int(row["activation"]), "own"),
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
                f"{self.plan['chunk'][0]} rows of {self.plan['batch'][0]} at a time, "
                f"{self.workspace} elements of workspace, at most {len(self.plan)} threads",
            ]
        )

    @classmethod
    def of(
        cls, operations: Sequence[Operation], rows: int, tiling: Tiling, **asked: Any
    ) -> Program:
        """Plan a run over batches of so many rows; what else is asked is for `Asked`."""
        return _Planner(operations, tiling, Asked(rows, **asked)).program()

    @classmethod
    def kept(
        cls, operations: Sequence[Operation], rows: int, tiling: Tiling, **asked: Any
    ) -> Program:
        """Return what `of` does, from what was planned last where that is the same.

        A fit that is short takes a third of its time to plan otherwise.
        """
        known = Asked(rows, **asked)
        if known.entries is not None:
            # These are of the examples, which are not kept.
            return cls.of(operations, rows, tiling, **asked)
        program = _planned(tuple(operations), tiling, known, tuning.current)
        # Runs write into both.
        table, plan = records.copied(program.table), records.copied(program.plan)
        return cls(table, plan, program.workspace, program.integers, program.parts, program.known)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is asked for.

    Attributes
    ----------
    rows : int
        Rows of a batch.
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
        Columns that count for the size of a chunk although they belong to none of the operations:
        with those of the preceding layers, sums have the same order as in the whole network.
    """

    rows: int
    loss: Loss | None = None
    gradient: bool = False
    keep: bool = False
    penalty: bool = True
    dropping: bool = False
    moments: int = 0
    clipping: bool = False
    threads: int = 1
    entries: Callable[[int], int] | None = None
    beside: int = 0


@lru_cache(_KEPT)
def _planned(
    operations: tuple[Operation, ...], tiling: Tiling, asked: Asked, figures: tuning.Tuning
) -> Program:
    """Return a program by all that it depends on; nobody writes into it."""
    return _Planner(operations, tiling, asked).program()


class _Planner:
    """Writes the operation table and the plan, and allocates the workspace.

    The order of what is allocated is the memory map (docs/kernels.md): packed parameters of all
    operations; as many elements for each vector of moments and part of a gradient; and then
    what is private to threads that share no chunk.
    """

    def __init__(self, operations: Sequence[Operation], tiling: Tiling, asked: Asked) -> None:
        self.operations = [one for one in operations if asked.dropping or not one.kind.in_training]
        self.asked, self.tiling = asked, tiling
        # Where the second operation that a sum reads stands.
        self.seconds = seconds(self.operations)
        self.table = [records.operation() for _ in self.operations]
        self.plan = records.plan()
        self.room, self.integers = _Room(), _Room()
        self.known = np.zeros(0, np.int64)

    def program(self) -> Program:
        """Plan everything."""
        self._size_chunk()
        self._describe()
        self._place_parameters()
        self._divide()
        private = self.room.end
        self._place_rows()
        self._place_gradients()
        self._end_in_loss()
        self._place_entries()
        return self._of_threads(private)

    def _size_chunk(self) -> None:
        """Choose how many rows go through the network together."""
        asked, figures = self.asked, tuning.current
        # What is done in place has no activations of its own.
        widths = [one.outputs for one in self.operations if not one.kind.in_place]
        noted = [
            one.kind.scratch(one.layer, one.inputs)
            for one in self.operations
            if one.kind.form == codes.ONE_SPAN
        ]
        columns = self.operations[0].inputs + sum(widths) + sum(noted) + asked.beside
        fitting = max(figures.smallest_chunk, figures.chunk_elements // columns)
        phased = asked.gradient and any(one.whole for one in self.operations)
        chunk = asked.rows if asked.keep or phased else min(asked.rows, fitting)
        self.plan["phased"] = phased
        self.plan["batch"] = asked.rows
        self.plan["chunk"] = chunk
        self.plan["height"] = _up(chunk, self.tiling.rows)
        self.plan["widest"] = max(widths, default=self.operations[0].inputs)

    def _describe(self) -> None:
        """Write what each operation is, and what it reads and writes by number of columns."""
        asked = self.asked
        sparse = asked.entries is not None
        for row, one in zip(self.table, self.operations, strict=True):
            activation = self._activation(one).kernel_code
            row["operation"] = codes.known("operation", one.kind.code, codes.OPERATIONS)
            row["activation"] = codes.known("activation", activation, codes.ACTIVATIONS)
            row["inputs"], row["outputs"] = one.inputs, one.outputs
            row["form"] = one.kind.form
            row["sparse"] = sparse
            # Up to the first one whose result is dense.
            sparse = sparse and one.kind.in_place
            row.update(one.kind.columns(one.layer, one.place))
            row["number"] = one.kind.number(one.layer)
            row["whole"] = asked.gradient and one.whole
            row["l2"] = one.l2 if asked.penalty else 0.0
            row["l1"] = one.l1 if asked.penalty else 0.0
            row["max_norm"], row["non_negative"] = one.max_norm or 0.0, one.non_negative
            row["rate_scale"] = one.rate_scale
            row["decay"] = codes.NONE if one.decay is None else one.decay
            if one.kind.pieces is not None:
                pieces = one.kind.pieces(one.layer, one.inputs, self.tiling.panel)
                row["pieces"], row["piece_count"] = self.integers(pieces.size), len(pieces)
                known, place = np.zeros(self.integers.end, np.int64), row["pieces"]
                known[: len(self.known)] = self.known
                known[place : place + pieces.size] = pieces.reshape(-1)
                self.known = known

    def _activation(self, one: Operation) -> Activation:
        """Return an operation's activation; a matched loss takes over the last one's."""
        loss = self.asked.loss
        matched = loss is not None and loss.activation is not None
        return ACTIVATIONS["identity" if matched and one is self.operations[-1] else one.activation]

    def _place_parameters(self) -> None:
        """Allocate packed parameters, and number the tiles of their gradients."""
        tiling, units = self.tiling, 0
        for row, one in zip(self.table, self.operations, strict=True):
            row["units"] = units
            if not one.parameters:
                continue
            together = one.kind.form == codes.ONE_SPAN
            count = sum(entry.size for entry in one.parameters) if together else one.outputs
            span = tiling.panels(1, count)
            packed, tiles = span, span // tiling.panel
            matrix = one.kind.form == codes.MATRIX
            if matrix:
                packed, tiles = tiling.packed(one.inputs, one.outputs)
                row["narrow"] = one.outputs <= tiling.narrow
            else:
                row["span"] = count
            first, *others = one.parameters[: 1 if together else 2]
            row["W"] = first.offset
            row["packed"] = self.room(packed)
            if others:
                row["b"] = others[0].offset
            if others or matrix:
                # A product begins at biases: at zeros where a layer has none.
                row["biases"] = self.room(span)
            if one.buffers:
                row["buffers"] = one.buffers[0].offset
                row["running"] = self.room(2 * span)
            units += tiles * one.trainable
        self.plan["state"] = self.room.end
        self.plan["unit_count"] = units

    def _divide(self) -> None:
        """Decide how threads divide the rows, and allocate moments and gradient."""
        asked, figures, plan = self.asked, tuning.current, self.plan
        chunk, state = plan["chunk"], plan["state"]
        # In groups, threads share no chunk: what one core has just written, another reads slowly.
        groups = min(figures.groups, -(-asked.rows // chunk)) if asked.gradient else 1
        if groups < figures.fewest_groups or groups * state > figures.grouped_elements:
            groups = 1
        kept = asked.gradient and (asked.moments == 0 or asked.clipping or chunk < asked.rows)
        self.room((asked.moments + kept * groups) * state)
        self.parts = groups if groups > 1 else plan["height"] // self.tiling.rows
        plan["groups"] = groups
        plan["threads"] = min(asked.threads, self.parts)
        plan["moments"] = asked.moments
        plan["clipping"] = asked.clipping

    def _place_rows(self) -> None:
        """Allocate what every operation reads and writes of the rows of a chunk."""
        asked, height = self.asked, self.plan["height"]
        source = codes.NONE
        if asked.entries is None:
            source = self.room(self.tiling.panels(height, self.operations[0].inputs))
        given, original = source, True
        # From here on the inputs are read again by a sum.
        held = min((one.since for one in self.operations if one.since is not None), default=None)
        for place, (row, one) in enumerate(zip(self.table, self.operations, strict=True)):
            size = self.tiling.panels(height, one.outputs)
            row["source"] = source
            second = self.seconds[place]
            if second is not None:
                row["other"] = self.table[second]["result"] if second >= 0 else given
            # The original inputs are not needed again; a layer's output is, for its derivative.
            original = original and one.kind.in_place and (held is None or one.number < held)
            shared = original or (not asked.keep and self._is_handed_on(place))
            row["result"] = row["Z"] = source if shared else self.room(size)
            if asked.keep or (asked.gradient and self._activation(one).derivative_from == "Z"):
                row["Z"] = row["result"] if one.kind.in_place else self.room(size)
            noted = one.kind.scratch(one.layer, one.inputs) * height
            noted += one.kind.noted * self.tiling.panels(1, one.outputs)
            if noted:
                row["scratch"] = self.room(noted)
            source = row["result"]

    def _place_gradients(self) -> None:
        """Allocate the gradients of what is written, and say whose derivative goes where."""
        if not self.asked.gradient:
            return
        height, tiling = self.plan["height"], self.tiling
        dsource, below, learning = codes.NONE, codes.NONE, False
        for place, (row, one) in enumerate(zip(self.table, self.operations, strict=True)):
            row["dsource"] = dsource if learning else codes.NONE
            row["below"] = below
            shared = one.kind.in_place or self._is_handed_on(place)
            row["dresult"] = dsource if shared else self.room(tiling.panels(height, one.outputs))
            matrix = one.kind.form == codes.MATRIX and not row["narrow"]
            if matrix and row["dsource"] != codes.NONE:
                row["transposed"] = self.room(tiling.panels(one.outputs, one.inputs))
            # A trace wants all of them, whatever learns.
            learning = learning or one.trainable or self.asked.keep
            dsource = row["dresult"]
            below = codes.NONE if row["activation"] == codes.IDENTITY else place
        self._place_sums()

    def _is_handed_on(self, place: int) -> bool:
        """Say whether an operation is a sum that writes over what the last layer inside gives.

        Nothing else reads that, nor changes its gradient, if it is a product or a sum.
        """
        one = self.operations[place]
        if one.since is None or place == 0:
            return False
        last = self.operations[place - 1]
        plain = last.kind.form == codes.MATRIX or last.since is not None
        return plain and last.number >= one.since and last.activation == "identity"

    def _place_sums(self) -> None:
        """Say which gradients of sums are added to those of what they read beside."""
        height, tiling = self.plan["height"], self.tiling
        # The outer ones of several that read the same come first.
        for place in reversed(range(len(self.operations))):
            second = self.seconds[place]
            if second is None:
                continue
            row, first = self.table[place], self.table[second + 1]
            if first["dsource"] == codes.NONE:
                continue
            given = row["dresult"]
            if first["plus"] != codes.NONE:
                row["carried"] = first["plus"]
                given = row["carry"] = self.room(tiling.panels(height, row["outputs"]))
            first["plus"] = given

    def _end_in_loss(self) -> None:
        """Write the loss, and allocate what the last operation's result is turned into."""
        asked, plan, room = self.asked, self.plan, self.room
        code = codes.NO_LOSS if asked.loss is None else asked.loss.kernel_code
        plan["loss"] = codes.known("loss", code, codes.LOSS_CODES)
        plan["penalty"] = any(row["l2"] or row["l1"] for row in self.table)
        # What takes no steps moves no weights.
        plan["projecting"] = asked.moments > 0 and any(one.bounded for one in self.operations)
        for name, number in (asked.loss.settings if asked.loss else {}).items():
            if isinstance(number, tuple):
                number += plan[name][len(number) :]
            plan[name] = number
        # Whole tiles of rows, as validation examples of several chunks fill the last one too.
        height = plan["height"]
        flat = height * plan["widest"]
        plan["flat_at"] = room(flat)
        plan["dflat_at"] = room(flat if asked.gradient else 0)
        plan["losses"] = room(height)
        plan["shares"] = room(height)
        plan["portions"] = room(height if plan["phased"] else 0)

    def _place_entries(self) -> None:
        """Allocate the entries of sparse examples."""
        asked, plan = self.asked, self.plan
        if asked.entries is None:
            return
        chunk = plan["chunk"]
        plan["sparse_rows"] = 1
        plan["entries"] = self.room(asked.entries(chunk))
        plan["beginnings"] = self.integers(chunk + 1)
        plan["row_starts"] = self.integers(chunk)

    def _of_threads(self, private: int) -> Program:
        """Return the program, with places of its own for each thread that shares no chunk."""
        plan, room, integers = self.plan, self.room, self.integers
        grouped, threads = plan["groups"] > 1, plan["threads"]
        copy = room.end - private if grouped else 0
        room((threads - 1) * copy)
        own = integers.end if grouped else 0
        integers((threads - 1) * own)
        deep = self.tiling.units
        if plan["sparse_rows"] and self.asked.gradient:
            plan["cursor_pitch"] = _up(plan["chunk"], _LINE)
            plan["cursors"] = integers(threads * plan["cursor_pitch"])
            columns = min(self.operations[0].inputs, tuning.current.spread_columns)
            deep = _up(columns, self.tiling.units)
        plan["tile_size"] = self.tiling.panel * deep
        if any(one.kind.form == codes.ONE_SPAN for one in self.operations):
            plan["tile_size"] = max(plan["tile_size"], _SPAN_BLOCK)
        plan["tiles"] = room(threads * plan["tile_size"])
        plan["rates_at"] = room(2 * codes.RATES)
        plan["average_rate"] = room(1)
        self._place_rates()
        shifts = copy * np.arange(threads, dtype=np.int64)
        plans = _shifted(records.written([plan], records.PLAN)[0], shifts, _PRIVATE_IN_PLAN)
        for name in _PRIVATE_INTEGERS if own and threads > 1 else ():
            plans[name] += own * np.arange(threads)
        table = records.written(self.table, records.OPERATION)
        tables = _shifted(table, shifts[:, None], _PRIVATE_IN_TABLE)
        return Program(tables, plans, room.end, integers.end, self.parts, self.known)

    def _place_rates(self) -> None:
        """Allocate the rates of operations that have their own; the others share those of all."""
        for row, one in zip(self.table, self.operations, strict=True):
            own = one.trainable and (one.rate_scale != 1.0 or one.decay is not None)
            row["rates"] = self.room(2 * codes.RATES) if own else self.plan["rates_at"]
            self.plan["own_rates"] |= own


#: The columns of the operation table that `Program` shows beside its operation and activation.
_SHOWN = (
    "inputs", "outputs", "W", "b", "source", "Z", "result", "dsource", "dresult", "packed",
    "biases", "transposed",
)  # fmt: skip


def _shifted(numbers: NDArray[np.void], shifts: Any, places: Sequence[str]) -> NDArray[np.void]:
    """Return a copy of plan or table for each thread, with its private offsets."""
    copies = records.repeated(numbers, len(shifts))
    if not shifts.any():
        return copies
    for place in places:
        copies[place] += np.where(copies[place] < 0, 0, shifts)
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
