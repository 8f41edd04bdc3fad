"""The textbook's equations of vectors in place of codes; EXAMPLES ARE COLUMNS, as in `reference`.

Guo & Berkhahn 2016, "Entity embeddings of categorical variables".
"""

# NumPy types most results as Any, and casts would hide the equations:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.equations.kinds import Equations, Parameters
from fastnn.equations.tables import Array

__all__ = ["EMBEDDING"]


def _passing(layer: Any, A: Array) -> list[int]:
    """Return the rows of A that hold no codes."""
    coded = dict(layer.sizes)
    return [k for k in range(len(A)) if k not in coded]


def _embedding(layer: Any, parameters: Parameters, A: Array, D: Array | None) -> Array:
    """Return the rows that pass, and below them column c of each table T for a code c."""
    vectors = [T[:, A[k].astype(int)] for (k, _), T in zip(layer.sizes, parameters, strict=True)]
    return np.vstack([A[_passing(layer, A)], *vectors])


def _embedding_backward(
    layer: Any, parameters: Parameters, A: Array, Z: Array, dZ: Array, D: Array | None
) -> Array:
    """Return dA: that of rows that pass; 0 for codes, between which nothing changes."""
    dA = np.zeros_like(A)
    passing = _passing(layer, A)
    dA[passing] = dZ[: len(passing)]
    return dA


def _embedding_gradient(
    layer: Any, parameters: Parameters, A: Array, Z: Array, dZ: Array
) -> Parameters:
    """Return each dT: its column c is the sum of the vectors' dZ over the examples of code c."""
    at, found = len(_passing(layer, A)), []
    for (k, _), T in zip(layer.sizes, parameters, strict=True):
        dT = np.zeros_like(T)
        for c in np.unique(A[k].astype(int)):
            dT[:, c] = dZ[at : at + len(T), A[k] == c].sum(axis=1)
        found.append(dT)
        at += len(T)
    return tuple(found)


EMBEDDING = Equations(_embedding, _embedding_backward, _embedding_gradient)
