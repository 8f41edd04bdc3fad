"""Examples in the engine's form, and the object that takes an estimator's steps on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fastnn import gate
from fastnn.data import Data
from fastnn.gate import Targets
from fastnn.kernels import codes
from fastnn.sparse import SparseRows
from fastnn.training import STEPPERS, Job, Slice

__all__ = ["FORMATS", "Feed", "as_given", "check_total", "examples"]

Floats = NDArray[np.floating]
Rates = NDArray[np.float64]

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


class Feed:
    """Takes steps on examples in place.

    During steps weights and moments are packed elsewhere, and the job's stay as they are: `store`
    unpacks them.  The state's numbers follow the steps.

    Attributes
    ----------
    order : ndarray of int64, shape (n,)
        The order in which examples come; write into it.
    """

    def __init__(self, job: Job) -> None:
        if job.backend == "reference":
            # It writes moments where the state has them.
            job = replace(job, state=replace(job.state, moments=job.state.moments.copy()))
        self._stepper = STEPPERS[job.backend](job)
        self.order = self._stepper.order

    def ration(self) -> int | None:
        """Return how many steps the next call shall take at the most, None for any number."""
        return self._stepper.ration()

    def run(self, first: int, last: int, rates: Rates) -> Slice:
        """Take the steps from first to before last of an epoch, at these learning rates if any."""
        self._stepper.rates = rates
        return self._stepper.run(first, last, 0, np.zeros((1, codes.RECORD_COLUMNS)))

    def take(self) -> None:
        """Pack the job's present weights."""
        self._stepper.take()

    def load(self, parameters: Floats, moments: Iterable[Floats]) -> None:
        """Pack weights and moments."""
        self._stepper.load(parameters, moments)

    def store(self, parameters: Floats, moments: Floats) -> None:
        """Unpack weights and moments, as the last step left them."""
        self._stepper.store(parameters, moments)


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
