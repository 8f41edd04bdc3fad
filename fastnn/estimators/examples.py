"""Examples on their way to the engine: dense as they are, sparse in slices, never as a whole.

A slice of sparse rows is written out into one buffer that the next slice uses again, so that a
fit needs the memory of a few batches beside the sparse data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fastnn import gate
from fastnn.data import Data
from fastnn.gate import Targets
from fastnn.kernels import codes
from fastnn.training import STEPPERS, Job, Slice, Stepper

__all__ = ["FORMATS", "Examples", "Feed", "check_total", "examples", "feed", "rows_of"]

Floats = NDArray[np.floating]
Places = NDArray[np.int64]
Rates = NDArray[np.float64]

# Sparse formats that scikit-learn lets through as they are.
FORMATS = ["csr", "csc"]

# Elements of a buffer: 8 MiB of float64.
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Sparse:
    """Sparse examples with their targets and weights, like `Data`.

    Attributes
    ----------
    X : CSR array, shape (n, p)
        Of the engine's dtype.
    targets : Targets
        Dense.
    weights : ndarray, shape (n,) or (0,)
        Of length 0 where all count alike.
    """

    X: Any
    targets: Targets
    weights: Floats

    def __len__(self) -> int:
        return int(self.X.shape[0])

    @property
    def total(self) -> float:
        """Sum of the weights; without weights, the number of examples."""
        return float(self.weights.sum(dtype=float)) if self.weights.size else float(len(self))

    def take(self, rows: Places) -> Sparse:
        """Return copies of the chosen examples."""
        weights = self.weights[rows] if self.weights.size else self.weights
        return Sparse(self.X[rows], self.targets.take(rows), weights)


Examples = Data | Sparse


def examples(X: Any, targets: Targets, weights: Floats, dtype: np.dtype[Any]) -> Examples:
    """Return validated examples in the engine's dtype, dense or sparse as they came."""
    # Read-only like all that the gate lets through: the engine is compiled for such arrays.
    for array in (targets.labels, targets.values, weights):
        array.flags.writeable = False
    if not sparse.issparse(X):
        return Data(gate.features(X, dtype, None), targets, weights)
    rows = X.tocsr().astype(dtype, copy=False)
    if not np.isfinite(rows.data).all():
        raise ValueError(f"X must hold numbers that fit {dtype}; scale the data.")
    return Sparse(rows, targets, weights)


class _Buffer:
    """Dense room for some rows of sparse examples.

    Parameters
    ----------
    known : Sparse
        The examples.
    rows : int
        How many fit.
    """

    def __init__(self, known: Sparse, rows: int) -> None:
        dtype, targets = known.X.dtype, known.targets
        self._known = known
        self._X = np.empty((rows, known.X.shape[1]), dtype)
        self._labels = np.empty(rows if targets.labels.size else 0, np.int64)
        self._values = np.empty(
            (rows if targets.values.size else 0, targets.values.shape[1]), dtype
        )
        self._weights = np.empty(rows if known.weights.size else 0, dtype)

    def part(self, rows: int) -> Data:
        """Return the first rows as examples: views that follow what is filled in."""
        X, weights = self._X[:rows], self._weights[:rows]
        labels, values = self._labels[:rows], self._values[:rows]
        for view in (X, weights, labels, values):
            view.flags.writeable = False
        return Data(X, Targets(labels, values), weights)

    def fill(self, rows: Places) -> None:
        """Write the chosen examples into the first rows."""
        known, count = self._known, len(rows)
        known.X[rows].toarray(out=self._X[:count])
        for room, source in (
            (self._labels, known.targets.labels),
            (self._values, known.targets.values),
            (self._weights, known.weights),
        ):
            if len(source):
                room[:count] = source[rows]


def _rows_at_once(columns: int, batch: int = 1) -> int:
    """Return how many rows a buffer shall hold: whole batches, at least one."""
    return max(1, _BUFFER // max(1, columns * batch)) * batch


def rows_of(known: Examples) -> Iterator[tuple[slice, Data]]:
    """Walk through examples in their own order, in dense parts; each is void after the next."""
    if isinstance(known, Data):
        yield slice(0, len(known)), known
        return
    size = min(_rows_at_once(known.X.shape[1]), len(known))
    buffer = _Buffer(known, size)
    for start in range(0, len(known), size):
        rows = np.arange(start, min(start + size, len(known)))
        buffer.fill(rows)
        yield slice(start, start + len(rows)), buffer.part(len(rows))


class DenseFeed:
    """Takes steps on dense examples, where they lie.

    While it takes steps the weights may lie elsewhere: `show` brings them back.

    Attributes
    ----------
    order : ndarray of int64, shape (n,)
        The order in which examples come; write into it.
    steady : bool
        Whether steps leave the job's vector and moments as they were shown last.
    """

    def __init__(self, make: Callable[[Data], Job], known: Data) -> None:
        job = make(known)
        self._stepper = STEPPERS[job.backend](job)
        self.order = self._stepper.order
        self.steady = job.backend == "native"

    def length(self, fitting: int) -> int:
        """Return how many steps a slice shall take, where so many would be served in time."""
        return fitting

    def run(self, first: int, last: int, rates: Rates) -> Slice:
        """Take the steps from first to before last of an epoch, at these learning rates if any."""
        return _steps(self._stepper, first, last, rates)

    def take(self, moments: bool = False) -> None:
        """Take over weights, and moments if asked, as they are now."""
        self._stepper.take(moments)

    def show(self, moments: bool = False) -> None:
        """Write weights, and moments if asked, as the last step left them."""
        self._stepper.show(moments)


class SparseFeed:
    """Takes steps on sparse examples, a buffer of whole batches at a time; see `DenseFeed`."""

    steady = False

    def __init__(self, make: Callable[[Data], Job], known: Sparse, batch: int) -> None:
        self._make, self._batch = make, batch
        self.order = np.arange(len(known), dtype=np.int64)
        rows = min(_rows_at_once(known.X.shape[1], batch), -(-len(known) // batch) * batch)
        self._length = rows // batch
        self._buffer = _Buffer(known, rows)
        self._steppers: dict[int, Stepper] = {}
        self._latest: Stepper | None = None

    def length(self, fitting: int) -> int:
        """Return how many steps a slice shall take: always as many as fill the buffer."""
        return self._length

    def run(self, first: int, last: int, rates: Rates) -> Slice:
        """Take the steps from first to before last of an epoch, at these learning rates if any."""
        rows = self.order[first * self._batch : last * self._batch]
        self._buffer.fill(rows)
        self._turn_to(len(rows))
        assert self._latest is not None
        return _steps(self._latest, 0, last - first, rates)

    def _turn_to(self, rows: int) -> None:
        """Go on with the stepper for so many rows: one for whole slices, one for the last."""
        known = self._steppers.get(rows)
        if known is not None and known is self._latest:
            return
        self.show(moments=True)
        if known is None:
            job = self._make(self._buffer.part(rows))
            self._steppers[rows] = known = STEPPERS[job.backend](job)
        else:
            known.take(moments=True)
        self._latest = known

    def take(self, moments: bool = False) -> None:
        """Take over weights, and moments if asked, as they are now."""
        if self._latest is not None:
            self._latest.take(moments)

    def show(self, moments: bool = False) -> None:
        """Write weights, and moments if asked, as the last step left them."""
        if self._latest is not None:
            self._latest.show(moments)


def _steps(stepper: Stepper, first: int, last: int, rates: Rates) -> Slice:
    """Let a stepper take steps of one epoch, in the order that it holds."""
    stepper.rates = rates
    return stepper.run(first, last, 0, np.zeros((1, codes.RECORD_COLUMNS)))


Feed = DenseFeed | SparseFeed


def feed(make: Callable[[Data], Job], known: Examples, batch: int) -> Feed:
    """Return what takes steps on the examples, given what makes a job of dense ones."""
    if isinstance(known, Data):
        return DenseFeed(make, known)
    return SparseFeed(make, known, batch)


def check_total(known: Examples, whose: str) -> None:
    """Refuse weights that no mean can be taken with."""
    with np.errstate(over="ignore"):
        total = known.total
    if total == 0.0 or not np.isfinite(total):
        raise ValueError(
            f"sample_weight (and class_weight) must have a finite sum other than 0 for {whose}; "
            f"got {total}."
        )
