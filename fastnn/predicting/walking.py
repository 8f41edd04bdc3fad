"""Predictions by the engine, where the kernels of predictions do not know a kind of layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import tuning
from fastnn.data import Data
from fastnn.fitting.runs import Run
from fastnn.kernels import codes
from fastnn.layout import Layout, Operation
from fastnn.predicting.folded import FoldedPredictor
from fastnn.predicting.folding import Folding
from fastnn.predicting.leading import Codes, LeadingPredictor
from fastnn.predicting.predictor import Predictor, as_if_writeable, slices
from fastnn.sparse import SparseRows

__all__ = ["AnyPredictor", "WalkingPredictor", "predictor_of"]

Floats = NDArray[np.floating]


class WalkingPredictor:
    """Predicts with the engine, where the kernels of predictions do not know a kind of layer.

    It may be called from several threads at once.

    Parameters
    ----------
    layout : Layout
        The network's.
    dtype : dtype
        Of everything.
    operations : sequence of Operation, optional
        The layers to walk; all of the layout's by default.
    """

    def __init__(
        self,
        layout: Layout,
        dtype: np.dtype[Any],
        operations: Sequence[Operation] | None = None,
    ) -> None:
        self.layout = layout
        chosen = layout.operations if operations is None else operations
        self._operations = tuple(one for one in chosen if not one.kind.in_training)
        self.inputs, self.outputs = self._operations[0].inputs, self._operations[-1].outputs
        self.row = (self.inputs,)
        self._dtype = dtype
        self._units = layout.units(self._operations, dtype)
        self._codes = Codes(layout.coded, layout.inputs) if layout.coded else None
        # By the most rows that they take: a run is planned for a power of two.
        self._runs: dict[int, list[Run]] = {}
        self.forget()
        tuning.forget_with(self)

    def forget(self) -> None:
        """Drop what was planned, and find anew how many rows go through in one call."""
        self._runs.clear()
        self._slice = slices(1, self._operations)[0].stop

    def __call__(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict for one row, or for several, into an array of the results' shape."""
        rows, results = x.reshape(-1, self.inputs), out.reshape(-1, self.outputs)
        if rows.flags.writeable:
            rows = rows.view()
            rows.flags.writeable = False
        if self._codes is not None:
            self._codes.check(x, as_if_writeable(rows.reshape(-1)))
        if len(rows) <= self._slice:
            self._some(parameters, rows, results)
            return
        for start in range(0, len(rows), self._slice):
            part = slice(start, start + self._slice)
            self._some(parameters, rows[part], results[part])

    single = __call__

    def sparse(self, parameters: Floats, X: SparseRows, out: Floats) -> None:
        """Predict for sparse rows."""
        for part in slices(len(X), self._operations):
            data = Data.unanswered(X[part])
            run = Run(self._operations, self._dtype, data)
            run.load(parameters)
            run.hand_out_to(out[part])
            run(codes.FORWARD)
            self._bring_back(out[part])

    def pack(self, parameters: Floats) -> Floats:
        """Return what a call reads: a copy of the parameters."""
        return parameters.copy()

    def _some(self, parameters: Floats, rows: Floats, out: Floats) -> None:
        """Predict for as many rows as one call of the engine takes."""
        most = 1 << (len(rows) - 1).bit_length()
        kept = self._runs.setdefault(most, [])
        try:
            run = kept.pop()
        except IndexError:
            nothing = Data.unanswered(np.empty((0, self.inputs), self._dtype))
            run = Run(self._operations, self._dtype, nothing, batch_size=most)
        run.answer(parameters, rows, out)
        kept.append(run)
        self._bring_back(out)

    def _bring_back(self, out: Floats) -> None:
        """Bring outputs to the units of the targets, where these are scaled."""
        if self._units is not None:
            from fastnn.kernels.scaling import bring_back

            bring_back(out.reshape(-1), self._units)


AnyPredictor: TypeAlias = Predictor | LeadingPredictor | FoldedPredictor | WalkingPredictor


def predictor_of(
    layout: Layout, dtype: np.dtype[Any], operations: Sequence[Operation] | None = None
) -> AnyPredictor:
    """Return what predicts with some layers of a network, all of them by default."""
    chosen = layout.operations if operations is None else operations
    chosen = tuple(one for one in chosen if not one.kind.in_training)
    short = _short(layout, dtype, chosen)
    if short is not None:
        return short
    folding = Folding.of(layout, chosen, centred=True)
    if folding is not None:
        inner = _short(folding.layout, dtype, folding.layout.operations)
        if inner is not None:
            return FoldedPredictor(layout, folding, inner, dtype)
    return WalkingPredictor(layout, dtype, chosen)


def _short(
    layout: Layout, dtype: np.dtype[Any], chosen: Sequence[Operation]
) -> Predictor | LeadingPredictor | None:
    """Return what predicts with such layers without the engine, None where nothing does."""
    if all(one.kind.answered for one in chosen):
        return Predictor(layout, dtype, chosen)
    if LeadingPredictor.suits(chosen):
        return LeadingPredictor(layout, dtype, chosen)
    return None
