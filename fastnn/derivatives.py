"""Derivatives of a network's outputs: Jacobians, and products with them, example by example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.activations import ACTIVATIONS
from fastnn.kernels import codes
from fastnn.kernels._load import load_derivatives
from fastnn.layout import Entry, Layout, Operation, aligned_zeros
from fastnn.machine.threads import crowd, fitting, together
from fastnn.predicting.predictor import as_if_writeable, slices, tiling_of

__all__ = ["MODES", "Derivatives"]

Floats = NDArray[np.floating]

MODES = {
    "jacobian": codes.JACOBIAN,
    "vjp": codes.VJP,
    "jvp": codes.JVP,
    "parameter_jacobian": codes.PARAMETERS,
}

# Elements that go back together at the most, and rows that go through together: half of an L2
# cache, and enough for whole register blocks.
_TOGETHER = 1 << 16
_ROWS = 64


@dataclass(frozen=True, slots=True)
class Program:
    """What the kernel walks: a row per layer, and the places in weights and workspace.

    Attributes
    ----------
    rows : ndarray of int64 (layers, codes.D_COLUMNS)
        The table.
    plan : ndarray of int64 (codes.D_ENTRIES,)
        Mode, sizes and places.
    packed, room : int
        Elements of the packed weights, and of the workspace.
    """

    rows: NDArray[np.int64]
    plan: NDArray[np.int64]
    packed: int
    room: int

    @classmethod
    def of(cls, layout: Layout, blocks: Sequence[Operation], dtype: Any, mode: int) -> Program:
        """Plan for the fully connected layers of a network."""
        lanes = tiling_of(dtype).panel // 2

        def padded(count: int) -> int:
            return -(-count // lanes) * lanes

        outputs = blocks[-1].outputs
        count = outputs if mode in (codes.JACOBIAN, codes.PARAMETERS) else 1
        widest = max(padded(layout.inputs), *(padded(one.outputs) for one in blocks))
        share = max(1, min(_ROWS, _TOGETHER // (count * widest)))
        rows = np.full((len(blocks), codes.D_COLUMNS), codes.NONE, np.int64)
        at = place = 0
        for row, one in zip(rows, blocks, strict=True):
            pitch, below = padded(one.outputs), padded(one.inputs)
            code = ACTIVATIONS[one.activation].kernel_code
            row[codes.D_ACTIVATION] = codes.known("activation", code, codes.ACTIVATIONS)
            row[codes.D_INPUTS], row[codes.D_OUTPUTS] = one.inputs, one.outputs
            row[codes.D_PITCH], row[codes.D_BELOW] = pitch, below
            row[codes.D_W], row[codes.D_B] = at, at + one.inputs * pitch
            row[codes.D_TURNED] = row[codes.D_B] + pitch
            at = int(row[codes.D_TURNED]) + one.outputs * below
            row[codes.D_OWN_W] = one.W.offset
            row[codes.D_OWN_B] = codes.NONE if one.b is None else one.b.offset
            for name in (codes.D_Z, codes.D_A, codes.D_SLOPES):
                row[name] = place
                place += share * pitch
        plan = np.zeros(codes.D_ENTRIES, np.int64)
        plan[codes.D_MODE], plan[codes.D_COUNT], plan[codes.D_SHARE] = mode, count, share
        plan[codes.D_SIZE] = layout.size
        plan[codes.D_NOTHING] = at
        plan[codes.D_BACK] = place
        plan[codes.D_OTHER] = place + count * share * widest
        plan[codes.D_SCRATCH] = place + 2 * count * share * widest
        room = int(plan[codes.D_SCRATCH]) + 2 * share * widest + 2 * lanes
        return cls(rows, plan, at + widest + 2 * lanes, room)

    def places(
        self, layout: Layout, blocks: Sequence[Operation], packed: Floats
    ) -> list[tuple[Floats, Entry, bool]]:
        """Return where each array of parameters goes in the packed weights, turned or not."""
        found = []
        for row, one in zip(self.rows, blocks, strict=True):
            pitch, below = int(row[codes.D_PITCH]), int(row[codes.D_BELOW])
            at, turned = int(row[codes.D_W]), int(row[codes.D_TURNED])
            W = packed[at : at + one.inputs * pitch].reshape(-1, pitch)[:, : one.outputs]
            T = packed[turned : turned + one.outputs * below].reshape(-1, below)[:, : one.inputs]
            found += [(W, one.W, False), (T, one.W, True)]
            if one.b is not None:
                start = int(row[codes.D_B])
                found.append((packed[start : start + one.outputs], one.b, False))
        return found


class Derivatives:
    """Derivatives of a network of fully connected layers, natively.

    Parameters
    ----------
    layout : Layout
        The network's.
    parameters : ndarray (size,)
        They are packed now.
    mode : int
        What is asked for.
    pitch : int, optional
        How far vectors of derivatives by parameters are apart, if not by their size.
    """

    def __init__(
        self, layout: Layout, parameters: Floats, mode: int, pitch: int | None = None
    ) -> None:
        load_derivatives()
        from fastnn.kernels.derivatives import derive

        self._derive = derive
        self._layout, self._blocks = layout, layout.blocks
        self._program = Program.of(layout, self._blocks, parameters.dtype, mode)
        if pitch is not None:
            self._program.plan[codes.D_SIZE] = pitch
        self._dtype = parameters.dtype
        self._work = (
            2
            * (1 + int(self._program.plan[codes.D_COUNT]))
            * sum(one.W.size for one in self._blocks)
        )
        self._room: Floats | None = None
        self._packed = aligned_zeros(self._program.packed, self._dtype)
        self._places = self._program.places(layout, self._blocks, self._packed)
        self.pack(parameters)

    def pack(self, parameters: Floats) -> None:
        """Take other parameters."""
        for to, entry, turned in self._places:
            view = self._layout.view(parameters, entry)
            to[...] = view.T if turned else view

    @staticmethod
    def serve(layout: Layout) -> bool:
        """Say whether all layers that a prediction meets are fully connected."""
        return all(one.kind.in_training or one.kind.answered for one in layout.operations)

    def __call__(self, X: Floats, V: Floats | None, out: Floats) -> None:
        """Write the derivatives for each row of X, in as many threads as are worth it."""
        nothing = np.zeros((0, 0), self._dtype)
        V = nothing if V is None else as_if_writeable(V.view())
        each = out.size // len(X) if len(X) else 0
        ways = 1 + int(self._program.plan[codes.D_COUNT])
        for part in slices(len(X) * ways, self._blocks):
            start, stop = part.start // ways, min(part.stop // ways, len(X))
            if start < stop:
                self._some(
                    X[start:stop], V[start:stop] if len(V) else V,
                    out.reshape(-1)[start * each : stop * each],
                )  # fmt: skip

    def _some(self, X: Floats, V: Floats, out: Floats) -> None:
        """Write those of as many rows as one call takes."""
        X = as_if_writeable(X.view())
        program, taken = self._program, np.zeros(1, np.int64)
        parts = -(-len(X) // int(program.plan[codes.D_SHARE]))
        size = crowd.limit(fitting(None, self._work * len(X), 1, parts))
        kept, self._room = self._room, None

        def call(leading: bool) -> None:
            # One thread at a time has the room that is kept.
            room = (
                kept if leading and kept is not None else aligned_zeros(program.room, self._dtype)
            )
            self._derive(program.rows, program.plan, self._packed, room, X, V, out, taken)
            if leading:
                self._room = room

        if size == 1:
            call(True)
        else:
            together(size, call, lambda: taken.fill(len(X)))
