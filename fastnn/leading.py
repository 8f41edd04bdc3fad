"""Predictions where layers that read the features stand before those of the usual kernels.

A `LeadingPredictor` takes a layout and a flat parameter vector, never a network; arrays have passed
the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.kernels import codes
from fastnn.kernels._load import load_kernels
from fastnn.layout import Layout, Operation
from fastnn.predictor import Predictor, as_if_writeable
from fastnn.sparse import SparseRows

__all__ = ["LeadingPredictor"]

Floats = NDArray[np.floating]


class LeadingPredictor:
    """Scales the features, and hands them to a `Predictor` of the layers behind.

    It may be called from several threads at once.

    Parameters
    ----------
    layout : Layout
        The network's.
    dtype : dtype
        Of everything.
    operations : sequence of Operation
        The layers to walk: a `Standardize`, then some that the kernels of predictions know.
    """

    def __init__(
        self, layout: Layout, dtype: np.dtype[Any], operations: Sequence[Operation]
    ) -> None:
        load_kernels()
        from fastnn.kernels.scaling import scale_examples

        self.layout = layout
        first, *rest = operations
        self._behind = Predictor(layout, dtype, rest)
        self._scale: Callable[..., None] = scale_examples
        self._places = tuple(entry.offset for entry in first.parameters)
        self.inputs, self.outputs = first.inputs, self._behind.outputs
        self.row = (self.inputs,)

    @staticmethod
    def suits(operations: Sequence[Operation]) -> bool:
        """Say whether it predicts with such layers."""
        first, *rest = operations
        scales = first.kind.code == codes.STANDARDIZE
        return scales and bool(rest) and all(one.kind.answered for one in rest)

    def __call__(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict for one row, or for several, into an array of the results' shape."""
        self._behind(parameters, self._scaled(parameters, x), out)

    def single(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict for one row."""
        self._behind.single(parameters, self._scaled(parameters, x), out)

    def sparse(self, parameters: Floats, X: SparseRows, out: Floats) -> None:
        """Predict for sparse rows, written out."""
        self(parameters, X.toarray(), out)

    def pack(self, parameters: Floats) -> Floats:
        """Return what a call reads: a copy of the parameters."""
        return parameters.copy()

    def _scaled(self, parameters: Floats, x: Floats) -> Floats:
        """Return the features at their scale, as one vector."""
        x = x.reshape(-1)
        if not x.flags.writeable:
            x = as_if_writeable(x)
        scaled = np.empty_like(x)
        self._scale(parameters, *self._places, self.inputs, x, scaled)
        return scaled
