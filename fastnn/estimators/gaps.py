"""Targets that are missing: which examples have none at all, and which parts of others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import _safe_indexing, check_array, check_consistent_length
from sklearn.utils.validation import _num_samples

from fastnn.estimators.reading import reading
from fastnn.gate import without_mask

__all__ = ["filled", "has_gaps", "known_examples", "parts_known", "with_gaps"]

Array = NDArray[Any]


def known_examples(X: Any, y: Any, sample_weight: Any, argument: str = "y") -> tuple[Any, Any, Any]:
    """Return examples without those that have no target, where NaN, None and a mask stand for none.

    Examples that have one among several stay, with NaN in the places of the others.

    Parameters
    ----------
    X, y, sample_weight : array-like
        As the user gave them; returned as they are where nothing is missing.
    argument : str
        What messages call the targets.

    Raises
    ------
    ValueError
        If no example has a target.
    """
    y = without_mask(y)
    with reading(**{argument: y}):
        gone = _missing(y)
    if gone is None or not gone.ndim or not gone.any() or _num_samples(X) != len(gone):
        return X, y, sample_weight
    rows = np.flatnonzero(~gone.reshape(len(gone), -1).all(axis=1))
    if not len(rows):
        raise ValueError(f"{argument} must have a target that is not missing; all are NaN.")
    kept = np.asarray(y)[rows]
    if kept.dtype == object:
        nothing = gone[rows]
        if nothing.any():
            # NA of pandas does not become one by itself.
            kept[nothing] = np.nan
            kept = kept.astype(np.float64)
        else:
            # Of texts, numbers or truth values alike, as they would have come without gaps.
            kept = np.array(kept.tolist())
    if sample_weight is not None and np.ndim(sample_weight):
        sample_weight = _safe_indexing(sample_weight, rows)
    return _safe_indexing(X, rows), kept, sample_weight


def _missing(y: Any) -> NDArray[np.bool_] | None:
    """Return where targets are missing; None where they can be nowhere."""
    if sparse.issparse(y):
        return None
    array = np.asarray(y)
    if array.dtype.kind == "f":
        return np.asarray(np.isnan(array))
    if array.dtype != object or not array.ndim:
        return None
    flat = [_is_none(one) for one in array.reshape(-1)]
    return np.array(flat, bool).reshape(array.shape)


def _is_none(one: Any) -> bool:
    """Say whether something stands for no target: None, NaN, or NA of pandas."""
    if one is None or type(one).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(one, (float, np.floating)) and one != one


def has_gaps(y: Any) -> bool:
    """Say whether some targets of examples that have others are missing."""
    rows = isinstance(y, np.ndarray) and y.ndim == 2 and y.dtype.kind == "f"
    return rows and bool(np.isnan(y).any())


def with_gaps(X: Any, y: Array, argument: str = "y") -> Array:
    """Return targets as scikit-learn validates them, which may be NaN."""
    y = check_array(y, dtype="numeric", ensure_all_finite="allow-nan", input_name=argument)
    check_consistent_length(X, y)
    return np.asarray(y)


def filled(y: Array) -> Array:
    """Return rows of 0 and 1 with 0 where one is missing."""
    return np.where(np.isnan(y), 0, y).astype(np.int64)


def parts_known(values: Array) -> NDArray[np.float64]:
    """Return what part of its targets each example has."""
    return np.asarray(1.0 - np.isnan(values).mean(axis=1))
