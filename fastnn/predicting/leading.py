"""Predictions where layers that read the features stand before those of the usual kernels.

A `LeadingPredictor` takes a layout and a flat parameter vector, never a network; arrays have passed
the gate, but for codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import gate
from fastnn.embeddings import pieces
from fastnn.kernels import codes
from fastnn.kernels._load import load_kernels
from fastnn.layout import Layout, Operation
from fastnn.predicting.predictor import Predictor, as_if_writeable
from fastnn.sparse import SparseRows

__all__ = ["Codes", "LeadingPredictor", "count_leading"]

Floats = NDArray[np.floating]
# Parameters and features, each row behind the other -> the same of what a layer gives.
Stage: TypeAlias = Callable[[Floats, Floats], Floats]

# Wider than any row, which is then a panel of its own.
_ANY_WIDTH = 1 << 40


class Codes:
    """Sees to it that features hold only codes that there are.

    Parameters
    ----------
    coded : sequence of (int, int)
        Columns that hold codes, and how many codes each has.
    inputs : int
        Columns of the features.
    """

    def __init__(self, coded: Sequence[tuple[int, int]], inputs: int) -> None:
        load_kernels()
        from fastnn.kernels.gathers import codes_fit

        self._fit: Callable[..., bool] = codes_fit
        self._coded, self._inputs = tuple(coded), inputs
        self._table = np.array(self._coded, np.int64).reshape(-1, 2)

    def check(self, x: Floats, flat: Floats) -> None:
        """Refuse features, given as one vector too, with a code that there is not."""
        if not self._fit(self._table, flat, self._inputs):
            gate.codes(x, self._coded, "x")


class LeadingPredictor:
    """Scales the features and puts vectors in place of codes, before a `Predictor` of the rest.

    It may be called from several threads at once.

    Parameters
    ----------
    layout : Layout
        The network's.
    dtype : dtype
        Of everything.
    operations : sequence of Operation
        The layers to walk: a `Standardize`, an `Embedding` or both, then some that the kernels of
        predictions know.
    """

    def __init__(
        self, layout: Layout, dtype: np.dtype[Any], operations: Sequence[Operation]
    ) -> None:
        load_kernels()
        self.layout = layout
        leading = operations[: count_leading(operations)]
        self._behind = Predictor(layout, dtype, operations[len(leading) :])
        self._codes = Codes(layout.coded, layout.inputs) if layout.coded else None
        self._stages = tuple(_STAGES[one.kind.code](one) for one in leading)
        self.inputs, self.outputs = leading[0].inputs, self._behind.outputs
        self.row = (self.inputs,)

    @staticmethod
    def suits(operations: Sequence[Operation]) -> bool:
        """Say whether it predicts with such layers."""
        count = count_leading(operations)
        rest = operations[count:]
        return bool(count) and bool(rest) and all(one.kind.answered for one in rest)

    def __call__(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict for one row, or for several, into an array of the results' shape."""
        self._behind(parameters, self._led(parameters, x), out)

    def single(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict for one row."""
        self._behind.single(parameters, self._led(parameters, x), out)

    def sparse(self, parameters: Floats, X: SparseRows, out: Floats) -> None:
        """Predict for sparse rows, written out."""
        self(parameters, X.toarray(), out)

    def pack(self, parameters: Floats) -> Floats:
        """Return what a call reads: a copy of the parameters."""
        return parameters.copy()

    def _led(self, parameters: Floats, x: Floats) -> Floats:
        """Return what the leading layers give, as one vector."""
        flat = x.reshape(-1)
        if not flat.flags.writeable:
            flat = as_if_writeable(flat)
        if self._codes is not None:
            self._codes.check(x, flat)
        for stage in self._stages:
            flat = stage(parameters, flat)
        return flat


def count_leading(operations: Sequence[Operation]) -> int:
    """Return how many layers stand before those of the usual kernels, as far as stages exist."""
    count = 0
    while count < len(operations) and operations[count].kind.code in _STAGES:
        count += 1
    return count


def _scaled(one: Operation) -> Stage:
    """Return what brings features to their scale."""
    from fastnn.kernels.scaling import scale_examples

    scale: Callable[..., None] = scale_examples
    places = tuple(entry.offset for entry in one.parameters)

    def stage(parameters: Floats, x: Floats) -> Floats:
        scaled = np.empty_like(x)
        scale(parameters, *places, one.inputs, x, scaled)
        return scaled

    return stage


def _embedded(one: Operation) -> Stage:
    """Return what puts vectors in place of codes."""
    from fastnn.kernels.gathers import embed_examples

    embed: Callable[..., None] = embed_examples
    layer: Any = one.layer
    copied = pieces(layer, one.inputs, _ANY_WIDTH)
    start, inputs, outputs = one.parameters[0].offset, one.inputs, one.outputs

    def stage(parameters: Floats, x: Floats) -> Floats:
        found = np.empty(len(x) // inputs * outputs, x.dtype)
        embed(parameters, start, copied, x, inputs, found, outputs)
        return found

    return stage


_STAGES: dict[int, Callable[[Operation], Stage]] = {
    codes.STANDARDIZE: _scaled,
    codes.EMBEDDING: _embedded,
}
