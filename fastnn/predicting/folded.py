"""Predictions of networks whose norms are in the weights beside them, folded anew for every call.

A `FoldedPredictor` takes a layout and a flat parameter vector, never a network; arrays have passed
the gate, but for codes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.kernels._load import load_kernels
from fastnn.layout import Layout, aligned_zeros
from fastnn.predicting.folding import Folding
from fastnn.predicting.leading import LeadingPredictor
from fastnn.predicting.predictor import Predictor, as_if_writeable
from fastnn.sparse import SparseRows

__all__ = ["FoldedPredictor", "Folder"]

Floats = NDArray[np.floating]
Inner: TypeAlias = Predictor | LeadingPredictor

# Folded parameters that are kept at a time where many vectors are folded.
_NUMBERS_AT_A_TIME = 1 << 20


class Folder:
    """Folds vectors of parameters; several threads may call it at once.

    Parameters
    ----------
    folding : Folding
        How.
    dtype : dtype
        Of the vectors.
    """

    def __init__(self, folding: Folding, dtype: np.dtype[Any]) -> None:
        load_kernels()
        from fastnn.kernels.folds import fold

        self.layout = folding.layout
        self._dtype = dtype
        self._fold: Callable[..., None] = fold
        self._plan = folding.plan(dtype)
        self._widest = max(max(one.inputs, one.outputs) for one in self.layout.operations)
        # Where they lie, and room for the widest columns' factors and sums.
        self._rooms: list[tuple[Floats, Floats]] = []

    def take(self, vector: Floats) -> tuple[Floats, Floats]:
        """Return a vector's folded parameters with their scratch; to be given back."""
        try:
            room = self._rooms.pop()
        except IndexError:
            room = (
                aligned_zeros(self.layout.size, self._dtype),
                np.zeros(2 * self._widest, self._dtype),
            )
        self._fold(vector, *self._plan, *room)
        return room

    def give_back(self, room: tuple[Floats, Floats]) -> None:
        """Let another call have the room."""
        self._rooms.append(room)

    def each(self, vectors: Floats, buffers: Floats) -> Floats:
        """Return the folded parameters of several vectors, all beside the same buffers."""
        from fastnn.kernels.folds import fold_each

        k, size = vectors.shape
        folded = np.empty((k, self.layout.size), self._dtype)
        whole = np.empty(size + len(buffers), self._dtype)
        line = np.zeros(2 * self._widest, self._dtype)
        given = as_if_writeable(vectors.view()), as_if_writeable(buffers.view())
        fold_each(*given, *self._plan, folded, whole, line)
        return folded


class FoldedPredictor:
    """Predicts with a network of which the layers that stay are known to other predictors.

    It may be called from several threads at once.

    Parameters
    ----------
    layout : Layout
        The network's.
    folding : Folding
        How its layers, or the first ones, are folded.
    inner : Predictor or LeadingPredictor
        What predicts with the layers that stay.
    dtype : dtype
        Of everything.
    """

    def __init__(
        self, layout: Layout, folding: Folding, inner: Inner, dtype: np.dtype[Any]
    ) -> None:  # fmt: skip
        self.layout = layout
        self.inputs, self.outputs, self.row = inner.inputs, inner.outputs, inner.row
        self._inner, self._folder = inner, Folder(folding, dtype)

    def __call__(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict for one row, or for several, into an array of the results' shape."""
        room = self._folder.take(parameters)
        self._inner(room[0], x, out)
        self._folder.give_back(room)

    def single(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict for one row, which must be writeable."""
        room = self._folder.take(parameters)
        self._inner.single(room[0], x, out)
        self._folder.give_back(room)

    def sparse(self, parameters: Floats, X: SparseRows, out: Floats) -> None:
        """Predict for sparse rows."""
        room = self._folder.take(parameters)
        self._inner.sparse(room[0], X, out)
        self._folder.give_back(room)

    def each(self, P: Floats, buffers: Floats, X: Floats, out: Floats) -> None:
        """Predict with every one of several weight vectors beside the same buffers.

        Parameters
        ----------
        P : ndarray, shape (k, size)
            Parameters.
        buffers : ndarray, shape (buffers,)
            What belongs to layers otherwise.
        X : ndarray, shape (1, n, p) or (k, n, p)
            Rows for all, or for each.
        out : ndarray, shape (k, n, m)
            Written.
        """
        step = max(1, _NUMBERS_AT_A_TIME // self._folder.layout.size)
        for start in range(0, len(P), step):
            some = slice(start, start + step)
            folded = self._folder.each(P[some], buffers)
            rows, results = X if len(X) == 1 else X[some], out[some]
            if isinstance(self._inner, Predictor):
                self._inner.each(folded, rows, results)
                continue
            for k, vector in enumerate(folded):
                self._inner(vector, rows[k if len(rows) > 1 else 0], results[k])

    def pack(self, parameters: Floats) -> Floats:
        """Return what a call reads: a copy of the parameters."""
        return parameters.copy()
