"""Predictions from weights of half the size: rounded to bfloat16, summed in float32.

bfloat16 is the upper half of a float32: its range, and 8 bits of precision in place of 24.  A
`HalfPredictor` takes a layout and a flat parameter vector, never a network; arrays have passed the
gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.kernels import codes
from fastnn.kernels._load import load_halves
from fastnn.layout import Layout, Operation, aligned_zeros
from fastnn.predicting.leading import LeadingPredictor, count_leading
from fastnn.predicting.predictor import Predictor, Table, tiling_of

__all__ = ["AnyHalfPredictor", "HalfPredictor", "half_predictor_of", "rounded"]

Floats = NDArray[np.floating]

# A float32 has so many bits more, which are rounded away, and the mark of a NaN is the first one
# that stays in its fraction.
_BITS_LESS = 16
_STAYING = np.uint32(0xFFFF0000)
_NEARLY_HALF = np.uint32(0x7FFF)
_NAN_MARK = np.uint32(0x00400000)

# What lies in front of the packed weights ends at a multiple of so many bytes, a cache line.
_LINE = 64


def rounded(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round numbers to the nearest bfloat16, to the even one of two that are as near.

    Parameters
    ----------
    x : ndarray of float32
        Contiguous.

    Returns
    -------
    ndarray of float32
        Of the same shape; the lower 16 bits of each number are 0.  NaN stays NaN, and what is
        larger than all bfloat16 by half a unit becomes infinite, as IEEE 754 rounds.
    """
    bits = x.view(np.uint32)
    even = bits >> np.uint32(_BITS_LESS) & np.uint32(1)
    found = bits + _NEARLY_HALF + even
    # The fraction of a NaN must not become that of an infinity.
    found = np.where(np.isnan(x), bits | _NAN_MARK, found) & _STAYING
    return found.view(np.float32)


class HalfPredictor(Predictor):
    """Computes predictions from what its `pack` returned, panels of halves.

    Several threads may call it at once.

    Parameters
    ----------
    layout : Layout
        The network's.
    dtype : dtype
        float32.
    blocks : sequence of Operation
        The layers to walk, fully connected ones.
    """

    def __init__(self, layout: Layout, dtype: np.dtype[Any], blocks: Sequence[Operation]) -> None:
        super().__init__(layout, dtype, blocks, frozen=True)
        load_halves()
        from fastnn.kernels.half_answers import answer_by_halves, machine_code

        self._answer, self._machine_code = answer_by_halves, machine_code
        # What belongs to layers in front of these stays as it is, and where it is.
        self._head = self._blocks[0].W.offset
        line = _LINE // dtype.itemsize
        self._table = _of_halves(self._table, -(-self._head // line) * line, _panel(dtype))
        self._rows, self._plan = self._table.rows, self._table.plan

    def pack(self, parameters: Floats) -> Floats:
        """Return a flat vector's parameters as calls read them, its weights rounded."""
        whole = Predictor(self.layout, self._dtype, self._blocks, frozen=True)
        full = whole.pack(parameters)
        packed = aligned_zeros(self._table.packed, self._dtype)
        packed[: self._head] = parameters[: self._head]
        lanes = _panel(self._dtype) // 2
        for row, theirs in zip(self._rows, whole.table.rows, strict=True):
            biases, weights = self._places(row)
            packed[biases] = full[theirs[codes.BIASES] :][: biases.stop - biases.start]
            count = weights.stop - weights.start
            given = full[theirs[codes.PACKED] :]
            if row[codes.NARROW]:
                packed[weights] = rounded(given[:count])
                continue
            pairs = rounded(given[: 2 * count]).view(np.uint32).reshape(-1, 2, lanes)
            words = pairs[:, 0] >> np.uint32(_BITS_LESS) | pairs[:, 1]
            packed[weights] = words.reshape(-1).view(self._dtype)
        return packed

    def unpack(self, packed: Floats) -> Floats:
        """Return what `pack` packed as a flat vector, for the textbook."""
        flat = np.zeros(self.layout.size, self._dtype)
        flat[: self._head] = packed[: self._head]
        panel = _panel(self._dtype)
        for block, row in zip(self._blocks, self._rows, strict=True):
            biases, weights = self._places(row)
            if block.b is not None:
                self.layout.view(flat, block.b)[:] = packed[biases][: block.outputs]
            if row[codes.NARROW]:
                turned = packed[weights].reshape(-1, codes.NARROW_ROWS, panel)
                W = turned.transpose(0, 2, 1).reshape(-1, codes.NARROW_ROWS)[: block.inputs]
            else:
                words = packed[weights].view(np.uint32).reshape(-1, block.inputs, panel // 2)
                halves = words << np.uint32(_BITS_LESS), words & _STAYING
                columns = np.concatenate(halves, axis=2).transpose(1, 0, 2)
                W = columns.reshape(block.inputs, -1).view(self._dtype)
            self.layout.view(flat, block.W)[:] = W[:, : block.outputs]
        return flat

    def _places(self, row: NDArray[np.int64]) -> tuple[slice, slice]:
        """Return where a layer's biases and weights lie, padded."""
        panels = -(-row[codes.OUTPUTS] // _panel(self._dtype))
        begin = row[codes.BIASES]
        biases = slice(begin, begin + panels * _panel(self._dtype))
        begin = row[codes.PACKED]
        return biases, slice(begin, begin + _packed(row, _panel(self._dtype)))


class LeadingHalves(LeadingPredictor):
    """Scales the features and puts vectors in place of codes, before a `HalfPredictor`.

    Parameters
    ----------
    layout : Layout
        The network's.
    dtype : dtype
        float32.
    operations : sequence of Operation
        As `LeadingPredictor` takes them.
    """

    _behind: HalfPredictor

    def __init__(
        self, layout: Layout, dtype: np.dtype[Any], operations: Sequence[Operation]
    ) -> None:
        super().__init__(layout, dtype, operations)
        blocks = [one for one in operations if one.kind.answered]
        self._behind = HalfPredictor(layout, dtype, blocks)

    def pack(self, parameters: Floats) -> Floats:
        """Return a flat vector's parameters as calls read them, its weights rounded."""
        return self._behind.pack(parameters)

    def unpack(self, packed: Floats) -> Floats:
        """Return what `pack` packed as a flat vector, for the textbook."""
        return self._behind.unpack(packed)


AnyHalfPredictor: TypeAlias = HalfPredictor | LeadingHalves


def half_predictor_of(layout: Layout, dtype: np.dtype[Any]) -> AnyHalfPredictor:
    """Return what predicts with a network's weights rounded, norms folded beforehand.

    Raises
    ------
    ValueError
        If it has layers that no kernel of halves computes.
    """
    operations = [one for one in layout.operations if not one.kind.in_training]
    if all(one.kind.answered for one in operations):
        return HalfPredictor(layout, dtype, operations)
    if LeadingPredictor.suits(operations):
        return LeadingHalves(layout, dtype, operations)
    behind = [one for one in operations[count_leading(operations) :] if not one.kind.answered]
    # A norm is in the way of nothing but where another layer is too.
    other = min(behind, key=lambda one: one.kind.code == codes.BATCH_NORM)
    article = "an" if other.kind.name[0] in "AEIOU" else "a"
    raise ValueError(
        "weights='bfloat16' is for networks of Dense layers, with Dropout between them, BatchNorm "
        "that a Dense beside it takes in, and a Standardize and an Embedding in front; got "
        f"{article} {other.kind.name} as layer {other.name}. net.freeze() takes every network."
    )


def _panel(dtype: np.dtype[Any]) -> int:
    """Return how many columns a panel has."""
    return tiling_of(dtype).panel


def _packed(row: NDArray[np.int64], panel: int) -> int:
    """Return how many elements a layer's packed weights take, two of them in one where halves."""
    if row[codes.NARROW]:
        return -(-int(row[codes.INPUTS]) // panel) * panel * codes.NARROW_ROWS
    return -(-int(row[codes.OUTPUTS]) // panel) * panel // 2 * int(row[codes.INPUTS])


def _of_halves(table: Table, begin: int, panel: int) -> Table:
    """Return the plan of frozen layers with panels of halves, which lie from a place on."""
    rows = table.rows.copy()
    for row in rows:
        row[codes.BIASES] = begin
        row[codes.PACKED] = begin = begin + -(-row[codes.OUTPUTS] // panel) * panel
        begin += _packed(row, panel)
    return replace(table, rows=rows, packed=int(begin))
