"""Examples that have passed the gate, kept together: features, targets and weights."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.gate import Targets
from fastnn.sparse import SparseRows

__all__ = ["Data", "Window", "together"]

Floats = NDArray[np.floating]

# Rows of the examples by which they are recognised.
_ROWS = 16


@dataclass(frozen=True, slots=True)
class Data:
    """Examples that have passed the gate; targets and weights of length 0 where there are none."""

    X: Floats | SparseRows
    targets: Targets
    weights: Floats

    def __len__(self) -> int:
        return len(self.X)

    @classmethod
    def unanswered(cls, X: Floats | SparseRows) -> Data:
        """Return examples without targets, for prediction."""
        nothing = Targets(_frozen((0,), np.int64), _frozen((0, 0), X.dtype))
        return cls(X, nothing, _frozen((0,), X.dtype))

    def take(self, rows: NDArray[np.int64]) -> Data:
        """Return copies of the chosen examples, read-only like all that passed the gate."""
        X, weights = self.X[rows], self.weights[rows] if self.weights.size else self.weights
        weights.flags.writeable = False
        if not isinstance(X, SparseRows):
            X.flags.writeable = False
        return Data(X, self.targets.take(rows), weights)

    def copy(self) -> Data:
        """Return examples that share no memory with these."""
        return self.take(np.arange(len(self)))

    def astype(self, dtype: Any) -> Data:
        """Return the same in another dtype, read-only; sparse examples become dense."""
        X = self.X.toarray() if isinstance(self.X, SparseRows) else self.X
        parts = [part.astype(dtype) for part in (X, self.targets.values, self.weights)]
        for part in parts:
            part.flags.writeable = False
        return Data(parts[0], Targets(self.targets.labels, parts[1]), parts[2])

    def without_features(self) -> Data:
        """Return copies of targets and weights alone."""
        targets = self.targets.take(np.arange(len(self)))
        return Data(_frozen((0, self.X.shape[1]), self.X.dtype), targets, self.weights.copy())

    def part(self, rows: slice) -> Data:
        """Return views of consecutive examples."""
        mine = self.targets
        targets = Targets(mine.labels[rows], mine.values[rows], mine.missing)
        return Data(self.X[rows], targets, self.weights[rows])

    @property
    def arrays(self) -> tuple[Floats, NDArray[np.int64], NDArray[np.int32], Floats]:
        """X as the engine takes it: dense, then starts, columns and values where it is sparse."""
        X = self.X
        if isinstance(X, SparseRows):
            return _frozen((0, X.width), X.dtype), X.starts, X.columns, X.values
        return X, _NO_STARTS, _NO_COLUMNS, self.weights[:0]

    @property
    def is_plain(self) -> bool:
        """Whether features are dense and all targets are known."""
        return not isinstance(self.X, SparseRows) and not self.targets.missing

    @property
    def total(self) -> float:
        """Sum of the weights; without weights, the number of examples."""
        return float(self.weights.sum(dtype=float)) if self.weights.size else float(len(self))

    def fingerprint(self) -> int:
        """Return a number that other examples most likely do not have, from a few of them."""
        stride = max(1, len(self) // _ROWS)
        X, targets = self.X, self.targets
        arrays: list[NDArray[Any]] = []
        if isinstance(X, SparseRows):
            arrays += [X.starts, X.columns, X.values]
        else:
            arrays.append(X)
        arrays += [targets.labels, targets.values, self.weights]
        number = 0
        for array in arrays:
            if array.size:
                number = zlib.crc32(array[::stride].tobytes(), number)
        return number

    def columns(self, outputs: int) -> tuple[Floats, Floats, Floats | None]:
        """Return X, Y and w in the textbook's orientation: one column per example.

        The weights are scaled by a power of two so that their sum cannot overflow, which changes
        no bit of their proportions.
        """
        Y = self.targets.as_rows(outputs, self.X.dtype).T
        if not self.weights.size:
            return self.X.T, Y, None
        return self.X.T, Y, np.ldexp(self.weights, -np.frexp(self.weights.max())[1])

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.X, self.targets, self.weights)


@dataclass(frozen=True, slots=True)
class Window:
    """Examples of an epoch that lie in memory together: all of them, or some.

    Attributes
    ----------
    data : Data
        The examples.
    first : int
        The first step of the epoch that takes its batch from them.
    last : bool
        Whether the epoch ends with them.
    """

    data: Data
    first: int
    last: bool


def together(parts: Sequence[Data]) -> Data:
    """Return the targets and weights of several examples, without their features."""
    targets = [part.targets for part in parts]
    labels = np.concatenate([one.labels for one in targets])
    values = np.concatenate([one.values for one in targets])
    missing = any(one.missing for one in targets)
    weights = np.concatenate([part.weights for part in parts])
    for array in (labels, values, weights):
        array.flags.writeable = False
    return Data(parts[0].X, Targets(labels, values, missing), weights)


def _unpickled(X: Floats | SparseRows, targets: Targets, weights: Floats) -> Data:
    """Return examples whose arrays are read-only again: for others the engine would be compiled."""
    arrays = [targets.labels, targets.values, weights]
    arrays += [X.starts, X.columns, X.values] if isinstance(X, SparseRows) else [X]
    for array in arrays:
        array.flags.writeable = False
    return Data(X, targets, weights)


def _frozen(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an empty array that is read-only, like those that the gate returns."""
    array = np.zeros(shape, dtype)
    array.flags.writeable = False
    return array


_NO_STARTS = _frozen((0,), np.int64)
_NO_COLUMNS = _frozen((0,), np.int32)
