"""Sparse rows as the kernels need them: compressed (CSR), sorted, without duplicates.

NumPy alone: matrices of SciPy, or of similar libraries, are read in ``gate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SparseRows", "joined"]

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False, slots=True)
class SparseRows:
    """A matrix of which each row's entries other than zero are listed (CSR).

    Attributes
    ----------
    starts : ndarray of int64, shape (n + 1,)
        Where each row's entries begin, and where the last one's end; not always from 0.
    columns : ndarray of int32, shape (entries,)
        Ascending within a row.
    values : ndarray, shape (entries,)
        float32 or float64.
    width : int
        Columns of the matrix.

    Examples
    --------
    >>> starts, columns = np.array([0, 2, 2, 3]), np.array([1, 3, 0], np.int32)
    >>> rows = SparseRows(starts, columns, np.array([1.0, 2.0, 3.0]), 4)
    >>> rows.toarray()
    array([[0., 1., 0., 2.],
           [0., 0., 0., 0.],
           [3., 0., 0., 0.]])
    >>> rows[np.array([2, 0])].columns
    array([0, 1, 3], dtype=int32)
    """

    starts: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: Floats
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), self.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return self.values.dtype

    @property
    def entries(self) -> int:
        """How many there are."""
        return int(self.starts[-1] - self.starts[0])

    @property
    def T(self) -> Floats:
        """The transpose, dense: what the textbook reads."""
        return self.toarray().T

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> SparseRows:
        """Return consecutive rows, which share memory with these, or a copy of chosen ones."""
        if isinstance(rows, slice):
            first, last, _ = rows.indices(len(self))
            starts = self.starts[first : max(first, last) + 1]
            return SparseRows(starts, self.columns, self.values, self.width)
        begins = self.starts[rows]
        lengths = self.starts[rows + 1] - begins
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=starts[1:])
        places = np.repeat(begins - starts[:-1], lengths) + np.arange(starts[-1])
        parts = starts, self.columns[places], self.values[places]
        for part in parts:
            part.flags.writeable = False
        return SparseRows(*parts, self.width)

    def copy(self) -> SparseRows:
        """Return the same rows in memory of their own."""
        return self[np.arange(len(self))]

    def shares_memory(self, array: NDArray[Any]) -> bool:
        """Return whether these rows may share memory with an array."""
        parts = self.starts, self.columns, self.values
        return any(np.may_share_memory(array, part) for part in parts)

    def toarray(self) -> Floats:
        """Return the matrix with its zeros."""
        first, last = self.starts[0], self.starts[-1]
        dense = np.zeros(self.shape, self.dtype)
        rows = np.repeat(np.arange(len(self)), np.diff(self.starts))
        dense[rows, self.columns[first:last]] = self.values[first:last]
        return dense

    def most(self, rows: int) -> int:
        """Return the most entries that any so many of the rows have."""
        lengths = np.diff(self.starts)
        if rows < len(lengths):
            lengths = np.partition(lengths, len(lengths) - rows)[len(lengths) - rows :]
        return int(lengths.sum())


def joined(parts: Sequence[SparseRows]) -> SparseRows:
    """Return the rows of several matrices of one width, one below the other, in new memory.

    Examples
    --------
    >>> row = SparseRows(np.array([0, 1]), np.array([1], np.int32), np.array([2.0]), 2)
    >>> joined([row, row]).toarray()
    array([[0., 2.],
           [0., 2.]])
    """
    spans = [slice(part.starts[0], part.starts[-1]) for part in parts]
    starts = [part.starts[1:] - part.starts[:-1] for part in parts]
    arrays = (
        np.concatenate([[0], np.cumsum(np.concatenate(starts))]),
        np.concatenate([part.columns[span] for part, span in zip(parts, spans, strict=True)]),
        np.concatenate([part.values[span] for part, span in zip(parts, spans, strict=True)]),
    )
    for array in arrays:
        array.flags.writeable = False
    return SparseRows(*arrays, parts[0].width)
