"""Examples in the engine's form, and the object that takes an estimator's steps on them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fastnn import gate
from fastnn.data import Data
from fastnn.gate import Targets
from fastnn.sparse import SparseRows

__all__ = ["FORMATS", "as_given", "check_total", "examples", "penalty_of", "scaled"]

Floats = NDArray[np.floating]

# Weights of examples are scaled from 2 to this on.
_FAR = 64

# How far below the root of the largest number the strength of L2 stays.
_MARGIN = 1e-3

# Sparse formats that scikit-learn lets through as they are.
FORMATS = ["csr", "csc"]


def examples(X: Any, targets: Targets, weights: Floats, dtype: np.dtype[Any]) -> Data:
    """Return validated examples in the engine's dtype, dense or sparse as they came."""
    # Read-only like all arrays from the gate: the engine is compiled for these.
    for array in (targets.labels, targets.values, weights):
        array.flags.writeable = False
    return Data(gate.sparse_or_dense(X, dtype, None), targets, weights)


def as_given(known: Data) -> Any:
    """Return the features as a user may see them: an array, or a sparse one of SciPy's."""
    X = known.X
    if not isinstance(X, SparseRows):
        return X
    whole = X if not X.starts[0] else X[np.arange(len(X))]
    return sparse.csr_array((whole.values, whole.columns, whole.starts), shape=whole.shape)


def scaled(weights: NDArray[Any] | None) -> tuple[NDArray[Any] | None, int]:
    """Return weights of examples that no sum or product with a loss can take out of range.

    Parameters
    ----------
    weights : ndarray or None
        As they were given.

    Returns
    -------
    weights : ndarray or None
        The same, or where the largest is very small or large, times a power of two.  Only their
        shares count, and these keep every bit.
    power : int
        The exponent of that power of two; what is divided by the sum of weights, such as the
        strength of L2, is to be scaled alike.
    """
    largest = 0.0 if weights is None else float(np.abs(weights).max(initial=0.0))
    if weights is None or largest in (0.0, math.inf) or 2.0**-_FAR <= largest <= 2.0**_FAR:
        return weights, 0
    power = -math.frexp(largest)[1]
    with np.errstate(under="ignore"):
        return np.ldexp(weights.astype(np.float64), power), power


def penalty_of(alpha: float, power: int, known: Data) -> float:
    """Return the strength of L2 beside scaled weights, or refuse one that overflows.

    Parameters
    ----------
    alpha : float
        As the user has it.
    power : int
        From `scaled`.
    known : Data
        The examples that are trained on, with their scaled weights.
    """
    try:
        beside = math.ldexp(alpha, power)
    except OverflowError:
        beside = math.inf
    dtype = known.X.dtype
    # Solvers square it, times weights.
    most = _MARGIN * float(np.finfo(dtype).max) ** 0.5 * abs(known.total)
    if known.weights.size and not beside <= most:
        raise ValueError(
            f"sample_weight (and class_weight) must not be so small beside alpha={alpha:g}, which "
            f"is divided by their sum, that L2 overflows {dtype}; got a sum of "
            f"{math.ldexp(known.total, -power):.3g}. Multiply all weights by one number, so that "
            "they are about 1, or set alpha=0."
        )
    return beside


def check_total(known: Data, whose: str) -> None:
    """Refuse weights that no mean can be taken with."""
    with np.errstate(over="ignore"):
        total = known.total
    if total == 0.0 or not np.isfinite(total):
        raise ValueError(
            f"sample_weight (and class_weight) must have a finite sum other than 0 for {whose}; "
            f"got {total}."
        )
    weights = known.weights
    if weights.size and np.abs(weights).max() < (least := np.finfo(weights.dtype).tiny):
        raise ValueError(
            f"sample_weight (and class_weight) must reach {least:.3g} for {whose}, the smallest "
            f"normal number of {weights.dtype}, below which a number counts as 0; got no more than "
            f"{np.abs(weights).max():.3g}. Multiply all weights by one number, and alpha by the "
            "same, for the same fit."
        )
