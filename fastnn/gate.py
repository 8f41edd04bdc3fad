"""The gate: every array from outside is made fit for the engine here, or refused here.

What leaves is C-contiguous, aligned, in the machine's byte order, of the network's dtype and
read-only: a view of the caller's own memory where that fits already, else one converted copy.
The caller's array is left as it is, its flags included. What cannot be used is a ValueError
(the numbers are wrong) or a TypeError (they are not numbers) that names the argument, what came
and what was expected.

Data frames are known by what they can do, so that neither pandas nor polars is imported. The
file is long because no other one may look at an array from outside.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.typing import DTypeLike, NDArray

from fastnn import tuning
from fastnn.blocks import Blocks
from fastnn.names import NUMERIC, TargetKind, check_real, describe
from fastnn.sparse import SparseRows

__all__ = [
    "Targets",
    "at_a_glance",
    "at_once",
    "class_weights",
    "codes",
    "features",
    "known_only",
    "lies_ready",
    "output_buffer",
    "parameter_vectors",
    "parameters",
    "readable",
    "row_or_rows",
    "rows_and_results",
    "rows_for_each",
    "sample_weights",
    "sparse_or_dense",
    "targets",
    "targets_with_gaps",
    "with_gaps",
    "without_mask",
]

Array = NDArray[Any]

# Up to so many are squared and added to see whether all are finite; for more, the BLAS that does it
# would wake its thread pool.
_SMALL = 1 << 12

# Up to so many are added by Python, which takes half as long.
_FEWER = 1 << 5

_SUM_TOLERANCE = 1e-3

_NO_LABELS: NDArray[np.int64] = np.empty(0, np.int64)
_NO_LABELS.flags.writeable = False

_NO_WEIGHTS: dict[np.dtype[Any], Array] = {}
for _dtype in (np.dtype(np.float32), np.dtype(np.float64)):
    _NO_WEIGHTS[_dtype] = np.empty(0, _dtype)
    _NO_WEIGHTS[_dtype].flags.writeable = False

# Labels, values and weights of which there are none, for kernels that expect writeable arrays.
_NOTHING = {
    dtype: (np.empty(0, np.int64), np.empty((0, 0), dtype), np.empty(0, dtype))
    for dtype in _NO_WEIGHTS
}

# Kinds of targets that are numbers, each by itself.
_GLANCED = frozenset({"real", "counts", "probabilities"})

_ENCODE_COLUMNS = "Encode categories as numbers first, for example one column of 0 and 1 for each."
_ENCODE_CLASSES = "Number the classes first: names, y = np.unique(y, return_inverse=True)."
# Where some may be missing, which NumPy does not sort among names.
_ENCODE_SOME = (
    "Number the classes first, NaN where one is missing: "
    "names = sorted({one for one in y if isinstance(one, str)}); "
    "y = [names.index(one) if isinstance(one, str) else np.nan for one in y]."
)
_NO_CLASSES = (
    "A loss on numbers takes no classes: for those use MLPClassifier, or a last layer with softmax."
)
_FROM_TEXT = "Turn text that holds numbers into them first: np.asarray(..., dtype=float)."

# What reading an object as an array may raise; running out of memory is another matter.
_UNREADABLE = (
    TypeError, ValueError, ArithmeticError, AttributeError, LookupError, RuntimeError
)  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class Targets:
    """What a network should answer: class labels or values, one of the two.

    Parameters
    ----------
    labels : ndarray of int64, shape (n,) or (0,)
        The class of each example, from 0. Empty where the targets are values.
    values : ndarray, shape (n, m) or (0, m)
        The wanted outputs in the network's dtype. Empty where the targets are labels.
    missing : bool, default False
        Whether some of the values are NaN, which stands for no target.

    Examples
    --------
    >>> y = targets([2, 0], "classes", outputs=3, rows=2, dtype="float32")
    >>> y.labels
    array([2, 0])
    >>> y.as_rows(3, "float32")
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """

    labels: NDArray[np.int64]
    values: Array
    missing: bool = False

    @classmethod
    def of_values(cls, values: Array) -> Targets:
        """Take values that are as they should be; the array is locked.

        Examples
        --------
        >>> len(Targets.of_values(np.ones((3, 1))))
        3
        """
        return cls(_NO_LABELS, _read_only(values))

    @classmethod
    def of_labels(cls, labels: NDArray[np.int64], outputs: int, dtype: DTypeLike) -> Targets:
        """Take labels that are as they should be, of so many classes; the array is locked.

        Examples
        --------
        >>> Targets.of_labels(np.array([1, 0]), 3, "float32").values.shape
        (0, 3)
        """
        return cls(_read_only(labels), _read_only(np.empty((0, outputs), dtype)))

    def __len__(self) -> int:
        """Count the examples.

        Returns
        -------
        int
            The number n of examples.
        """
        return max(len(self.labels), len(self.values))

    def take(self, rows: NDArray[np.int64]) -> Targets:
        """Choose examples, in the order given.

        Parameters
        ----------
        rows : ndarray of int64, shape (k,)
            The numbers of the rows wanted; one may come more than once.

        Returns
        -------
        Targets
            Read-only copies of those rows.

        Examples
        --------
        >>> y = targets([2, 0], "classes", outputs=3, rows=2, dtype="float32")
        >>> y.take(np.array([1])).labels
        array([0])
        """
        labels = self.labels[rows] if len(self.labels) else self.labels
        values = self.values[rows] if len(self.values) else self.values
        return Targets(_read_only(labels), _read_only(values), self.missing)

    def as_rows(self, m: int, dtype: DTypeLike) -> Array:
        """Give the targets as one row of wanted outputs for each example.

        Parameters
        ----------
        m : int
            The number of outputs of the network.
        dtype : dtype
            The dtype of the result.

        Returns
        -------
        ndarray, shape (n, m), read-only
            The values as they are, or the labels one-hot.
        """
        if not len(self.labels):
            return _fitted(self.values, np.dtype(dtype))
        rows = np.zeros((len(self.labels), m), dtype=dtype)
        rows[np.arange(len(self.labels)), self.labels] = 1
        return _read_only(rows)


def features(
    X: object,
    dtype: DTypeLike,
    inputs: int | None,
    argument: str = "X",
    *,
    allow_vector: bool = False,
) -> Array:
    """Take the examples that a network is to work on.

    Parameters
    ----------
    X : array-like, shape (n, p)
        One row for each example, one column for each feature: an array of integers, booleans or
        floats in any layout, nested lists, a data frame, whatever NumPy reads as such.
    dtype : dtype
        The network's dtype, float32 or float64.
    inputs : int or None
        The network's input width, or None where it is still to be taken from `X`.
    argument : str, default "X"
        The name of the caller's argument, for the message.
    allow_vector : bool, default False
        True where a vector of shape (p,) stands for one example.

    Returns
    -------
    ndarray, shape (n, p), read-only
        The examples: the caller's memory where dtype and layout fit, else a copy.

    Raises
    ------
    TypeError
        If `X` does not hold real numbers.
    ValueError
        If `X` is not two-dimensional, empty, of another width than `inputs`, or not finite in
        `dtype`.

    Examples
    --------
    >>> features([[1, 2], [3, 4]], "float32", inputs=2)
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    >>> features([[1, 2, 3]], "float32", inputs=2)
    Traceback (most recent call last):
    ...
    ValueError: X has 3 features, but this network was built for 2: its input width is fixed; \
rebuild the network (or retrain a new one) for the new features.
    """
    array = _read(X, argument, _ENCODE_COLUMNS)
    if array.size == 0 and array.ndim > 0:
        raise ValueError(
            f"{argument} must hold at least one example and one feature; got shape {array.shape}."
        )
    if array.ndim == 1 and allow_vector:
        array = array.reshape(1, -1)
    if array.ndim != 2:
        advice = {
            0: "",
            1: f" Use np.reshape({argument}, (1, -1)) for one example"
            f" or np.reshape({argument}, (-1, 1)) for one feature.",
        }.get(
            array.ndim,
            f" Flatten each example, for example np.reshape({argument}, (len({argument}), -1)).",
        )
        raise ValueError(
            f"{argument} must be 2-D, one row for each example and one column for each feature;"
            f" got shape {array.shape}.{advice}"
        )
    if inputs is not None and array.shape[1] != inputs:
        raise ValueError(f"{argument} {_other_width(array.shape[1], inputs)}")
    return _finite(array, np.dtype(dtype), argument)


def sparse_or_dense(
    X: object, dtype: DTypeLike, inputs: int | None, argument: str = "X"
) -> Array | SparseRows:
    """Take the examples that a network is to work on, of which most features may be zero.

    Parameters
    ----------
    X : array-like or sparse matrix, shape (n, p)
        What `features` takes, or a sparse matrix or array of SciPy's or of its kind; one that is
        not CSR is converted to it.  Entries of a row need no order, and those of one place are
        added.
    dtype, inputs, argument
        As for `features`.

    Returns
    -------
    ndarray or SparseRows, shape (n, p), read-only
        The examples: the caller's memory where dtype and layout fit, else a copy.

    Raises
    ------
    TypeError, ValueError
        As `features` does; also if a sparse matrix does not hold together.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> sparse_or_dense(csr_array([[0, 2], [0, 0]]), "float32", inputs=2).values
    array([2.], dtype=float32)
    """
    if type(X) is ndarray:
        if X.dtype is dtype and X.ndim == 2 and X.shape[1] == inputs:
            found = _as_it_is(X)
            if found is not None:
                return found
        return features(X, dtype, inputs, argument)
    if not isinstance(X, SparseRows) and not _is_sparse(X):
        return features(X, dtype, inputs, argument)
    # What has passed before does so again.
    rows = X if isinstance(X, SparseRows) else _compressed(X, argument)
    n, p = rows.shape
    if n == 0 or p == 0:
        raise ValueError(
            f"{argument} must hold at least one example and one feature; got shape {rows.shape}."
        )
    if inputs is not None and p != inputs:
        raise ValueError(f"{argument} {_other_width(p, inputs)}")
    rows = _in_order(rows)

    def cell(place: tuple[int, ...]) -> tuple[int, ...]:
        row = int(np.searchsorted(rows.starts, place[0], side="right")) - 1
        return row, int(rows.columns[place[0]])

    values = _finite(rows.values, np.dtype(dtype), argument, cell)
    return SparseRows(_read_only(rows.starts), _read_only(rows.columns), values, p)


def codes(X: Array, coded: Sequence[tuple[int, int]], argument: str) -> Array:
    """Refuse examples in which a column of codes holds something else.

    Parameters
    ----------
    X : ndarray, shape (n, p) or (p,)
        Examples that have passed otherwise, or one of them.
    coded : sequence of (int, int)
        Columns that hold codes, and how many codes each has.
    argument : str
        The name of the caller's argument, for the message.

    Returns
    -------
    ndarray
        `X` itself.

    Raises
    ------
    ValueError
        If there is no such column, or a number in it is not whole, negative, or too large.

    Examples
    --------
    >>> codes(np.array([[0.5, 2.0]]), [(1, 3)], "X")
    array([[0.5, 2. ]])
    >>> codes(np.array([[0.5, 3.0]]), [(1, 3)], "X")
    Traceback (most recent call last):
    ...
    ValueError: X has 3 at row 0, column 1, which holds codes: whole numbers from 0 to 2. Number \
the categories from 0, and keep a code for those that may come later.
    """
    for column, size in coded:
        if column >= X.shape[-1]:
            raise ValueError(
                f"{argument} has {X.shape[-1]} feature{'' if X.shape[-1] == 1 else 's'}, but "
                f"column {column}, counted from 0, shall hold codes for an Embedding."
            )
        values = X[..., column]

        def wrong(part: Array, size: int = size) -> Array:
            found: Array = ~((part >= 0) & (part < size) & (part == np.floor(part)))
            return found

        if wrong(values).any():
            place, _ = _offenders(np.ascontiguousarray(values).reshape(-1), wrong)
            came = f"{float(values.reshape(-1)[place[0]]):.9g}"
            where = _where((*place, column))
            known = f"whole numbers from 0 to {size - 1}" if size > 1 else "0 alone"
            raise ValueError(
                f"{argument} has {came} at {where}, which holds codes: {known}. Number the "
                "categories from 0, and keep a code for those that may come later."
            )
    return X


def _is_sparse(value: object) -> bool:
    """Tell a sparse matrix or array by what it can do, so that SciPy is not imported."""
    kind = type(value)
    return hasattr(kind, "toarray") and hasattr(kind, "nnz")


def _compressed(X: Any, argument: str) -> SparseRows:
    """Read a sparse matrix as it is, row by row, in any format and with numbers of any type."""
    if getattr(X, "ndim", 2) != 2:
        raise ValueError(
            f"{argument} must be 2-D, one row for each example and one column for each feature;"
            f" got a sparse array of shape {tuple(X.shape)}."
        )
    came = type(X).__name__
    if getattr(X, "format", None) != "csr" and hasattr(X, "tocsr"):
        X = X.tocsr()
    parts = [getattr(X, name, None) for name in ("indptr", "indices", "data")]
    if any(part is None for part in parts):
        raise TypeError(
            f"{argument} must be a dense array or a sparse matrix with a way to CSR, tocsr(); "
            f"got {came}."
        )
    starts, columns, values = map(np.asarray, parts)
    n, p = map(int, X.shape)
    values = _numbers(values, argument, _ENCODE_COLUMNS)
    fault = _fault(starts, columns, values, n, p)
    if fault:
        raise ValueError(f"{argument} must be a CSR matrix that holds together; got {fault}.")
    end = int(starts[-1])
    return SparseRows(
        _own(starts, np.int64), _own(columns[:end], np.int32), values[:end], p
    )  # fmt: skip


def _own(array: Array, dtype: DTypeLike) -> Array:
    """Return a contiguous array of a type: a view that can be locked, or a copy."""
    return np.ascontiguousarray(array, dtype).view()


def _fault(starts: Array, columns: Array, values: Array, n: int, p: int) -> str | None:
    """Say what is wrong with the arrays of a CSR matrix; kernels follow them unseen."""
    for name, part in (("indptr", starts), ("indices", columns)):
        if part.ndim != 1 or part.dtype.kind not in "iu":
            return f"{name} of dtype {part.dtype} and shape {part.shape}"
    if values.ndim != 1 or starts.size != n + 1:
        return f"indptr of shape {starts.shape} and data of shape {values.shape} for {n} rows"
    if p > np.iinfo(np.int32).max:
        return f"{p} columns"
    end = min(columns.size, values.size)
    if starts[0] != 0 or (starts[1:] < starts[:-1]).any() or starts[-1] > end:
        return f"an indptr that does not rise from 0 to at most {end}, as many as there are entries"
    inside = columns[: int(starts[-1])]
    if inside.size and (inside.min() < 0 or inside.max() >= p):
        wrong = inside[(inside < 0) | (inside >= p)][0]
        return f"the column {wrong} among its indices, where there are {p}"
    return None


def _in_order(rows: SparseRows) -> SparseRows:
    """Return sparse rows with ascending columns, those that came several times added up."""
    starts, columns, values = rows.starts, rows.columns, rows.values
    if _is_ascending(starts, columns):
        return rows
    # Stable, so that entries of one place are added in the order in which they came.
    numbers = np.repeat(np.arange(len(rows)), np.diff(starts))
    order = np.lexsort((columns, numbers))
    numbers, columns, values = numbers[order], columns[order], values[order]
    first = np.ones(len(columns), bool)
    first[1:] = (columns[1:] != columns[:-1]) | (numbers[1:] != numbers[:-1])
    sums = np.zeros(np.count_nonzero(first), values.dtype)
    with np.errstate(all="ignore"):
        np.add.at(sums, np.cumsum(first) - 1, values)
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(np.bincount(numbers[first], minlength=len(rows)), out=starts[1:])
    return SparseRows(starts, columns[first], sums, rows.width)


def _is_ascending(starts: NDArray[np.int64], columns: NDArray[np.int32]) -> bool:
    """Tell whether columns rise within every row."""
    length = tuning.current.checked_elements
    for begin in range(0, columns.size - 1, length):
        part = columns[begin : begin + length + 1]
        rising = part[1:] > part[:-1]
        if rising.all():
            continue
        # Between two rows they may fall.
        low, high = np.searchsorted(starts, (begin + 1, begin + part.size))
        rising[starts[low:high] - begin - 1] = True
        if not rising.all():
            return False
    return True


def at_a_glance(
    X: object, y: object, loss_targets: str, inputs: int, width: int, dtype: np.dtype[Any]
) -> tuple[Array, NDArray[np.int64], Array, Array] | None:
    """Take examples that lie as the engine reads them, without a look at their numbers.

    Parameters
    ----------
    X, y : object
        What is to be features and targets.
    loss_targets, inputs, width
        The kind of targets, and the widths of features and targets.
    dtype : numpy.dtype
        The network's dtype, float32 or float64.

    Returns
    -------
    tuple of ndarray or None
        Features, labels, values and (no) weights: the caller's own arrays, whose numbers are still
        to be checked.  None where anything else came, or nothing.

    Examples
    --------
    >>> X, y = np.zeros((3, 2)), np.array([1, 0, 1])
    >>> at_a_glance(X, y, "classes", 2, 2, X.dtype)[1]
    array([1, 0, 1])
    >>> at_a_glance(X, y, "classes", 5, 2, X.dtype) is None
    True
    """
    if type(X) is not ndarray or type(y) is not ndarray or X.dtype is not dtype or X.ndim != 2:
        return None
    rows, columns = X.shape
    if columns != inputs or not rows or not X.flags.carray or not y.flags.carray:
        return None
    no_labels, no_values, no_weights = _NOTHING[dtype]
    if y.dtype is dtype and loss_targets in _GLANCED:
        if y.shape == (rows, width):
            return X, no_labels, y, no_weights
        if width == 1 and y.shape == (rows,):
            return X, no_labels, y.reshape(rows, 1), no_weights
    elif loss_targets == "classes" and y.dtype is no_labels.dtype and y.shape == (rows,):
        return X, y, no_values, no_weights
    return None


def lies_ready(X: Array, inputs: int, dtype: np.dtype[Any]) -> bool:
    """Tell whether examples are as `features` would let them pass, at the least cost.

    Parameters
    ----------
    X : ndarray
        What is to be features.
    inputs : int
        The network's input width.
    dtype : numpy.dtype
        The network's dtype, float32 or float64.

    Returns
    -------
    bool
        False also for what needs a longer look.

    Examples
    --------
    >>> lies_ready(np.zeros((1, 2)), 2, np.dtype("float64"))
    True
    >>> lies_ready(np.full((1, 2), np.nan), 2, np.dtype("float64"))
    False
    """
    return (
        X.dtype is dtype
        and X.ndim == 2
        and X.shape[1] == inputs
        and 0 < X.size <= _SMALL
        and X.flags.carray
        and _is_finite(X)
    )


def targets(
    y: object,
    loss_targets: TargetKind,
    outputs: int,
    rows: int,
    dtype: DTypeLike,
    argument: str = "y",
    of: str = "X",
    *,
    each: int = 1,
) -> Targets:
    """Take what a network should answer, in the form that its loss reads.

    Parameters
    ----------
    y : array-like, shape (n,), (n, 1) or (n, m)
        ``"real"``: numbers, (n, m), or (n,) where m is 1. ``"counts"``: the same, of at least 0;
        ``"positive"``: above 0.
        ``"classes"``: whole numbers from 0 to m - 1, (n,) or, where m is above 1, (n, 1); or
        one-hot rows or rows of probabilities, (n, m), each with the sum 1 to within 0.001.
        ``"probabilities"``: numbers from 0 to 1, (n, m), or (n,) where m is 1. ``"sides"``: -1 and
        1, or 0 and 1, (n, m), or (n,) where m is 1; or classes as whole numbers where m is above 1.
    loss_targets : {"real", "counts", "positive", "classes", "probabilities", "sides"}
        What the loss compares with.
    outputs : int
        The number of outputs of the network; m of them, where each has a target.
    rows : int
        The number n of examples in X.
    dtype : dtype
        The network's dtype, float32 or float64.
    argument : str, default "y"
        The name of the caller's argument, for the message.
    of : str, default "X"
        The name of the argument that the examples came in, for the message.
    each : int, default 1
        How many outputs go with each target: m times so many are the network's.

    Returns
    -------
    Targets
        Labels where classes came as whole numbers, else values; of sides, 1 and 0.

    Raises
    ------
    TypeError
        If `y` does not hold real numbers.
    ValueError
        If its length, its shape or its numbers are not as said above, or not finite in `dtype`.

    Examples
    --------
    >>> targets([0.5, 2.0], "real", outputs=1, rows=2, dtype="float64").values
    array([[0.5],
           [2. ]])
    >>> targets([0, 3], "classes", outputs=3, rows=2, dtype="float32")
    Traceback (most recent call last):
    ...
    ValueError: y has label 3 at row 1, but labels must be integers from 0 to 2 for a network \
with 3 outputs. Number the classes first: names, y = np.unique(y, return_inverse=True).
    """
    width = outputs // each
    if type(y) is ndarray:
        found = _targets_at_once(y, loss_targets, width, rows, dtype)
        if found is not None:
            return found
    dtype = np.dtype(dtype)
    numeric = loss_targets in NUMERIC
    array = _read(y, argument, _NO_CLASSES if numeric else _ENCODE_CLASSES)
    _check_length(array, rows, argument, of)
    column = array.shape == (rows, 1)
    listed = array.ndim == 1 or (column and width > 1)
    if listed and (loss_targets == "classes" or (loss_targets == "sides" and width > 1)):
        labels = _labels(array.reshape(rows), width, argument)
        return Targets.of_labels(labels, width, dtype)
    if array.ndim == 1 and width == 1:
        array = array.reshape(rows, 1)
    if array.shape != (rows, width):
        wanted = f"shape ({rows}, {width})"
        if loss_targets == "classes":
            wanted = f"shape ({rows},) for class numbers or {wanted} for probabilities"
        elif loss_targets == "sides" and width > 1:
            wanted = f"shape ({rows},) for class numbers or {wanted} for sides"
        elif width == 1:
            wanted = f"shape ({rows},) or ({rows}, 1)"
        plural = "" if outputs == 1 else "s"
        several = "" if each == 1 else f", {each} for each target"
        raise ValueError(
            f"{argument} must have {wanted}, as the network has {outputs} output{plural}{several};"
            f" got shape {array.shape}."
        )
    values = _finite(array, dtype, argument)
    if loss_targets == "sides":
        values = _sides(values, argument)
    elif loss_targets == "counts":
        _check_counts(values, argument)
    elif loss_targets == "positive":
        _check_positive(values, argument)
    elif loss_targets != "real":
        _check_probabilities(values, argument)
    if loss_targets == "classes":
        _check_sums(values, argument)
    return Targets.of_values(values)


def targets_with_gaps(
    y: object,
    loss_targets: TargetKind,
    outputs: int,
    rows: int,
    dtype: DTypeLike,
    argument: str = "y",
    of: str = "X",
    *,
    each: int = 1,
) -> tuple[Targets, Array | None]:
    """Take what a network should answer, as `targets` does, where NaN stands for no target.

    Returns
    -------
    Targets
        NaN among the values where a target is missing. A class that is missing, or of which a
        part is, is any class.
    ndarray of float64 (n,), or None
        What part of its targets each example has; None where all have all.

    Examples
    --------
    >>> found, known = targets_with_gaps([[1, np.nan]], "real", outputs=2, rows=1, dtype="float32")
    >>> found.values, known
    (array([[ 1., nan]], dtype=float32), array([0.5]))
    """
    numeric = loss_targets in NUMERIC
    array = _read(y, argument, _NO_CLASSES if numeric else _ENCODE_SOME, gaps=True)
    gone = np.isnan(array) if array.dtype.kind == "f" else np.zeros(0, bool)
    given = (loss_targets, outputs, rows, dtype, argument, of)
    if not gone.any():
        return targets(array, *given, each=each), None
    listed = array.ndim == 1 or array.shape[1:] == (1,)
    whole = loss_targets == "classes" or (loss_targets == "sides" and listed and outputs > 1)
    if whole and not listed:
        # A row of probabilities is one target.
        gone = np.broadcast_to(gone.any(axis=1, keepdims=True), array.shape)
        found = targets(np.where(gone, np.arange(outputs) == 0, array), *given, each=each)
    else:
        found = targets(np.where(gone, 0 if whole else 1, array), *given, each=each)
    if whole:
        return found, 1.0 - gone.reshape(rows, -1)[:, 0]
    gone = gone.reshape(found.values.shape)
    values = np.where(gone, found.values.dtype.type(np.nan), found.values)
    return Targets(_NO_LABELS, _read_only(values), True), 1.0 - gone.mean(axis=1)


def known_only(
    weights: Array, known: Array, dtype: DTypeLike, argument: str = "y", *, whole: bool = True
) -> Array:
    """Return weights of examples, each times the part of its targets that is known.

    There may be no known one where the examples are not the whole.

    Raises
    ------
    ValueError
        If no target of any weight is known.
    """
    found = (known if not len(weights) else weights * known).astype(dtype)
    if whole and not found.any():
        raise ValueError(f"{argument} must have a target that is not missing; all are NaN.")
    return _read_only(found)


def sample_weights(
    w: object, rows: int, dtype: DTypeLike, argument: str = "sample_weight", of: str = "X",
    *, whole: bool = True,
) -> Array:  # fmt: skip
    """Take how much each example counts.

    Parameters
    ----------
    w : array-like, shape (n,), or None
        Finite numbers of at least 0, not all of them 0; None where all count alike.
    rows : int
        The number n of examples in X.
    dtype : dtype
        The network's dtype, float32 or float64.
    argument : str, default "sample_weight"
        The name of the caller's argument, for the message.
    of : str, default "X"
        The name of the argument that the examples came in, for the message.
    whole : bool, default True
        False where these are a part of the examples.  Then all may be 0, and numbers that kernels
        take for 0 are 0, as no other part would follow theirs.

    Returns
    -------
    ndarray, shape (n,) or (0,), read-only
        The weights; of length 0 for None.

    Raises
    ------
    TypeError
        If `w` does not hold real numbers.
    ValueError
        If it has another shape, a negative number, one not finite in `dtype`, only zeros, or a
        sum that is not finite in float64.

    Notes
    -----
    Only their proportions count.  Where one is smaller than the smallest normal number of
    `dtype`, which kernels take for 0, all are multiplied by one power of two, which changes no
    proportion; one that is then still too small beside the largest is 0.

    Examples
    --------
    >>> sample_weights([1, 3], rows=2, dtype="float32")
    array([1., 3.], dtype=float32)
    >>> sample_weights([1, -3], rows=2, dtype="float32")
    Traceback (most recent call last):
    ...
    ValueError: sample_weight has -3.0 at row 1, but each weight must be a number of at least 0.
    """
    if w is None:
        return _NO_WEIGHTS[np.dtype(dtype)]
    array = _read(w, argument, "")
    if array.ndim != 1:
        raise ValueError(f"{argument} must have shape ({rows},); got shape {array.shape}.")
    _check_length(array, rows, argument, of)
    weights = _finite(array, np.dtype(dtype), argument)
    least = weights.min()
    if least < 0:
        place, _ = _offenders(weights, lambda part: part < 0)
        raise ValueError(
            f"{argument} has {weights[place]} at {_where(place)},"
            " but each weight must be a number of at least 0."
        )
    tiny = np.finfo(weights.dtype).tiny
    if least < tiny:
        weights = _normal(array, weights) if whole else np.where(weights < tiny, 0, weights)
    if whole and not weights.any():
        raise ValueError(
            f"{argument} must have at least one weight above 0; got {rows} weights of 0."
        )
    _check_sum(weights, argument)
    return _read_only(weights)


def class_weights(
    class_weight: object,
    targets: Targets,
    weights: Array,
    loss_targets: TargetKind,
    dtype: DTypeLike,
    *,
    whole: bool = True,
) -> Array:
    """Take how much the examples of each class count, beside their own weights.

    Parameters
    ----------
    class_weight : dict, list of dict, "balanced" or None
        The factor of each class by its number, finite and at least 0; classes that are left out
        have 1.  A list holds one such dict for each output, where each one tells 0 from 1 by
        itself; their factors are multiplied.  ``"balanced"`` gives a class
        ``total / (classes * count)``, where counts are sums of weights and classes are those
        with a count above 0.
    targets : Targets
        What `targets` gave.
    weights : ndarray, shape (n,) or (0,)
        What `sample_weights` gave.
    loss_targets : {"real", "counts", "positive", "classes", "probabilities", "sides"}
        What the loss compares with; classes for the last three only.
    dtype : dtype
        The network's dtype, float32 or float64.
    whole : bool, default True
        As for `sample_weights`.

    Returns
    -------
    ndarray, shape (n,) or (0,), read-only
        The products of both; `weights` themselves for None.

    Raises
    ------
    TypeError
        If `class_weight` is not of its kind.
    ValueError
        If the targets are no classes, if a number or a class is none, if no weight is left above
        0, or if the weights or their sum are too large.

    References
    ----------
    King & Zeng 2001, Logistic regression in rare events data, section 4.2.  "balanced" is
    scikit-learn's.

    Examples
    --------
    >>> y = targets([0, 0, 0, 1], "classes", outputs=2, rows=4, dtype="float32")
    >>> alike = sample_weights(None, rows=4, dtype="float32")
    >>> class_weights({1: 5}, y, alike, "classes", "float32")
    array([1., 1., 1., 5.], dtype=float32)
    >>> class_weights("balanced", y, alike, "classes", "float64").round(2)
    array([0.67, 0.67, 0.67, 2.  ])
    """
    if class_weight is None:
        return weights
    columns, classes = _class_columns(targets, loss_targets)
    product = weights.astype(float) if weights.size else np.ones(len(targets))
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(class_weight, str) and class_weight == "balanced":
            for labels in columns:
                product *= _balanced(labels, weights if weights.size else None)[labels]
        else:
            given = _one_for_each(class_weight, len(columns))
            for labels, (argument, one) in zip(columns, given, strict=True):
                product *= _factors(one, classes, loss_targets == "sides", argument)[labels]
    name = "class_weight times sample_weight"
    result = _finite(product, np.dtype(dtype), name)
    if whole:
        result = _normal(product, result)
    if whole and not result.any():
        raise ValueError("class_weight must leave at least one example a weight above 0; got none.")
    _check_sum(result, name)
    return result


def parameters(values: object, shape: tuple[int, ...], dtype: DTypeLike, argument: str) -> Array:
    """Take weights that a user sets.

    Parameters
    ----------
    values : array-like
        Finite numbers.
    shape : tuple of int
        The shape that they must have.
    dtype : dtype
        The network's dtype, float32 or float64.
    argument : str
        The name of the caller's argument, for the message.

    Returns
    -------
    ndarray, read-only
        Of that shape and dtype.

    Raises
    ------
    TypeError
        If `values` does not hold real numbers.
    ValueError
        If it has another shape, or a number that is not finite in `dtype`.

    Examples
    --------
    >>> parameters([1, 2], (2,), "float32", "weights (0.b)")
    array([1., 2.], dtype=float32)
    >>> parameters([1, 2], (3,), "float32", "weights (0.b)")
    Traceback (most recent call last):
    ...
    ValueError: weights (0.b) must have shape (3,); got shape (2,).
    """
    array = _read(values, argument, "")
    if array.shape != shape:
        raise ValueError(f"{argument} must have shape {shape}; got shape {array.shape}.")
    return _finite(array, np.dtype(dtype), argument)


def parameter_vectors(values: object, size: int, dtype: DTypeLike) -> Array:
    """Take several vectors of parameters, as they are: their values are not checked.

    Parameters
    ----------
    values : array-like, shape (k, size)
        Real numbers.
    size : int
        How many parameters the network has.
    dtype : dtype
        The network's dtype, float32 or float64.

    Returns
    -------
    ndarray, shape (k, size), C-contiguous
        The caller's memory where dtype and layout fit, else a copy.

    Raises
    ------
    TypeError
        If `values` does not hold real numbers.
    ValueError
        If it has another shape, or k is 0.

    Examples
    --------
    >>> parameter_vectors([[1, 2], [3, 4]], 2, "float32")
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    >>> parameter_vectors([1, 2], 2, "float32")
    Traceback (most recent call last):
    ...
    ValueError: parameters must have shape (k, 2), a vector per row; got shape (2,).
    """
    array = _read(values, "parameters", "")
    if array.ndim != 2 or array.shape[1] != size or not len(array):
        raise ValueError(
            f"parameters must have shape (k, {size}), a vector per row; got shape {array.shape}."
        )
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.require(array, np.dtype(dtype), ["C", "A"])


def rows_for_each(X: object, vectors: int, dtype: DTypeLike, inputs: int) -> Array:
    """Take examples for several vectors of parameters: the same for all, or some for each.

    Parameters
    ----------
    X : array-like, shape (n, p) or (k, n, p)
        As in `features`.
    vectors : int
        How many vectors there are, k.
    dtype : dtype
        The network's dtype, float32 or float64.
    inputs : int
        The network's input width, p.

    Returns
    -------
    ndarray, shape (1, n, p) or (k, n, p), read-only
        As in `features`.

    Raises
    ------
    TypeError, ValueError
        As in `features`; or if X has three axes and k is another number.

    Examples
    --------
    >>> rows_for_each([[1, 2], [3, 4]], 3, "float32", 2).shape
    (1, 2, 2)
    >>> rows_for_each([[[1, 2]], [[3, 4]]], 3, "float32", 2)
    Traceback (most recent call last):
    ...
    ValueError: X must have shape (n, 2), or (3, n, 2) with rows for each vector of parameters; \
got shape (2, 1, 2).
    """
    try:
        axes = np.ndim(X)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        axes = 0
    if axes != 3:
        return features(X, dtype, inputs)[np.newaxis]
    array = _read(X, "X", "")
    k, n, p = array.shape
    if (k, p) != (vectors, inputs):
        raise ValueError(
            f"X must have shape (n, {inputs}), or ({vectors}, n, {inputs}) with rows for each "
            f"vector of parameters; got shape {array.shape}."
        )
    return features(array.reshape(k * n, p), dtype, inputs).reshape(k, n, p)


def readable(value: object, argument: str) -> None:
    """Refuse what cannot be read as an array of real numbers, whatever its shape.

    Parameters
    ----------
    value : object
        What the caller gave.
    argument : str
        The name of the caller's argument, for the message.

    Raises
    ------
    TypeError, ValueError
        As in `features`, `targets` and the others.

    Examples
    --------
    >>> readable([1, 2.5], "X")
    >>> readable([1, "2.5"], "X")
    Traceback (most recent call last):
    ...
    TypeError: X must hold real numbers; got '2.5' (str) at row 1. Turn text that holds numbers \
into them first: np.asarray(..., dtype=float).
    """
    _read(value, argument, "")


def with_gaps(y: object, argument: str) -> Array:
    """Read real numbers of any shape, with NaN for whatever stands for a missing one.

    Parameters
    ----------
    y : object
        What the caller gave.
    argument : str
        The name of the caller's argument, for the message.

    Returns
    -------
    ndarray
        Of booleans, integers or floats.

    Raises
    ------
    TypeError, ValueError
        As in `targets_with_gaps`.

    Examples
    --------
    >>> with_gaps([1, None], "y")
    array([ 1., nan])
    """
    return _read(y, argument, _ENCODE_SOME, gaps=True)


def at_once(array: Array, dtype: np.dtype[Any]) -> Array | None:
    """Let numbers pass for which one look is enough.

    Parameters
    ----------
    array : ndarray
        Of real numbers, and of any shape.
    dtype : numpy.dtype
        The network's dtype, float32 or float64.

    Returns
    -------
    ndarray, read-only, or None
        As `features` and the others let numbers pass; None where they say more, as of NaN.

    Examples
    --------
    >>> at_once(np.array([1, 2]), np.dtype("float32"))
    array([1., 2.], dtype=float32)
    >>> at_once(np.array([1.0, np.nan]), np.dtype("float64")) is None
    True
    """
    result = _fitted(array, dtype)
    return result if _is_finite(result) else None


def row_or_rows(x: object, inputs: int, dtype: np.dtype[Any]) -> Array:
    """Let an array pass that the fast path can read as it is.

    Only attributes are looked at, never the numbers.

    Parameters
    ----------
    x : ndarray, shape (p,) or (n, p)
        C-contiguous and of the network's dtype.
    inputs : int
        The network's input width p.
    dtype : numpy.dtype
        The network's dtype.

    Returns
    -------
    ndarray
        `x` itself.

    Raises
    ------
    TypeError
        If `x` is not an array of that dtype.
    ValueError
        If its shape or its layout is another.

    Examples
    --------
    >>> row_or_rows(np.zeros(3), 3, np.dtype("float64"))
    array([0., 0., 0.])
    >>> row_or_rows([0, 0, 0], 3, np.dtype("float64"))
    Traceback (most recent call last):
    ...
    TypeError: x must be a C-contiguous NumPy array of float64 and shape (3,) or (n, 3); \
got [0, 0, 0] (list). net.predict accepts any array-like.
    """
    # Called for every single row served: carray is c_contiguous, aligned and writeable in one look.
    if type(x) is ndarray and x.dtype == dtype:
        flags = x.flags
        if flags.carray or (flags.c_contiguous and flags.aligned):
            shape = x.shape
            if shape == (inputs,) or (len(shape) == 2 and shape[1] == inputs and shape[0]):
                return x
    if isinstance(x, np.memmap):
        return row_or_rows(np.asarray(x), inputs, dtype)
    wanted = (
        f"x must be a C-contiguous NumPy array of {dtype} and shape ({inputs},) or (n, {inputs})"
    )
    if type(x) is not ndarray:
        raise TypeError(f"{wanted}; got {describe(x)}. net.predict accepts any array-like.")
    if x.dtype != dtype:
        raise TypeError(f"{wanted}; got dtype {x.dtype}. net.predict accepts any array-like.")
    if x.ndim in (1, 2) and x.size and x.shape[-1] != inputs:
        raise ValueError(f"x {_other_width(x.shape[-1], inputs)}")
    if x.ndim not in (1, 2) or x.size == 0:
        raise ValueError(f"{wanted}; got shape {x.shape}.")
    raise ValueError(
        f"{wanted}; got one that is strided or not aligned (shape {x.shape}, strides {x.strides})."
        " net.predict accepts any array-like."
    )


def output_buffer(out: object, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Let an array pass that results can be written into.

    Parameters
    ----------
    out : ndarray
        The caller's array: C-contiguous, aligned, writeable.
    shape : tuple of int
        The shape that the results have.
    dtype : dtype
        The dtype that the results have.

    Returns
    -------
    ndarray
        `out` itself.

    Raises
    ------
    TypeError
        If `out` is not an array of that dtype.
    ValueError
        If its shape or its layout is another, or if it is read-only.

    Examples
    --------
    >>> output_buffer(np.zeros((2, 1)), (2, 1), "float64")
    array([[0.],
           [0.]])
    >>> output_buffer(np.zeros((2, 2)), (2, 1), "float64")
    Traceback (most recent call last):
    ...
    ValueError: out must be a writeable, C-contiguous NumPy array of float64 and shape (2, 1); \
got shape (2, 2).
    """
    if type(out) is ndarray and out.dtype == dtype and out.shape == shape and out.flags.carray:
        return out
    wanted = (
        f"out must be a writeable, C-contiguous NumPy array of {np.dtype(dtype)} and shape {shape}"
    )
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"{wanted}; got {describe(out)}.")
    if out.dtype != dtype:
        raise TypeError(f"{wanted}; got dtype {out.dtype}.")
    if out.shape != shape:
        raise ValueError(f"{wanted}; got shape {out.shape}.")
    if not out.flags.writeable:
        raise ValueError(f"{wanted}; got one that is read-only.")
    if not out.flags.carray:
        raise ValueError(f"{wanted}; got one that is strided or not aligned.")
    return out


def takes(out: object, shape: tuple[int, ...], x: Array) -> bool:
    """Tell, as quickly as can be, whether results may be written straight to an array.

    Parameters
    ----------
    out : object
        What a caller gave as `out`.
    shape : tuple of int
        Of the results, (m,) or (n, m).
    x : ndarray, shape (p,) or (n, p)
        The row or the rows, of the network's dtype.

    Returns
    -------
    bool
        False also where it may, but that takes longer to tell: `output_buffer` does.

    Examples
    --------
    >>> takes(np.empty(2), (2,), np.zeros(3)), takes(np.empty(4)[::2], (2,), np.zeros(3))
    (True, False)
    """
    return (
        type(out) is ndarray
        and out.dtype is x.dtype
        and out.shape == shape
        # Arrays that own their memory share none.
        and out.base is None
        and x.base is not out
        and out is not x
        and out.flags.carray
    )


def rows_and_results(
    x: object, out: object, inputs: int, outputs: int, dtype: np.dtype[Any]
) -> tuple[Array, Array]:
    """Take a row, or some, to predict for, and where the predictions are to be written.

    Parameters
    ----------
    x : ndarray, shape (p,) or (n, p)
        As in `row_or_rows`.
    out : ndarray, shape (m,) or (n, m), or None
        As in `output_buffer`; None for a new array.
    inputs, outputs : int
        Numbers of features, p, and of outputs, m.
    dtype : dtype
        The network's.

    Returns
    -------
    x, out : ndarray
        x is copied where it shares memory with out, as more than one pass may read it.

    Raises
    ------
    TypeError, ValueError
        As `row_or_rows` and `output_buffer`.

    Examples
    --------
    >>> rows, results = rows_and_results(np.zeros((5, 3)), None, 3, 2, np.dtype(float))
    >>> results.shape
    (5, 2)
    """
    rows = row_or_rows(x, inputs, dtype)
    shape = (outputs,) if rows.ndim == 1 else (len(rows), outputs)
    if out is None:
        return rows, np.empty(shape, dtype)
    results = output_buffer(out, shape, dtype)
    return (rows.copy() if np.may_share_memory(results, rows) else rows), results


def _read(value: Any, argument: str, encode: str, *, gaps: bool = False) -> Array:
    """Read what came as a plain array of booleans, integers or floats, of any shape.

    Missing values, such as None, become NaN where there may be gaps, and are refused elsewhere.
    """
    if type(value) is ndarray and value.dtype.kind in "fiub":
        return value
    if gaps:
        value = without_mask(value)
    _refuse_masked(value, argument)
    if isinstance(value, Blocks):
        raise TypeError(
            f"{argument} must be an array of numbers; got Blocks, which fit, evaluate and predict "
            "of fastnn.Sequential take in place of X."
        )
    if _is_sparse(value):
        raise TypeError(
            f"{argument} must be a dense array; got a sparse one ({type(value).__name__})."
            f" Use {argument}.toarray()."
        )
    columns = _frame_columns(value)
    if columns is not None:
        return _side_by_side(columns, len(value), argument, encode, gaps)
    try:
        array = np.asarray(value)
        if array.dtype.kind in "UST":
            # Numbers beside text were made text: read again, to find what was text to begin with.
            array = np.asarray(value, dtype=object)
    except _UNREADABLE as error:
        raise TypeError(
            f"{argument} must be a rectangular array of numbers; got {_ragged(value, error)}."
        ) from error
    return _numbers(array, argument, encode, gaps=gaps)


def without_mask(value: Any) -> Any:
    """Return an array with NaN, or None among what is not of floats, in the place of a mask.

    Anything else comes back as it is.

    Examples
    --------
    >>> without_mask(np.ma.array([1.5, 2.5], mask=[False, True]))
    array([1.5, nan])
    """
    if not isinstance(value, np.ma.MaskedArray) or value.dtype.names is not None:
        return value
    mask = np.ma.getmaskarray(value)
    found = np.array(value.data, None if value.dtype.kind == "f" or not mask.any() else object)
    found[mask] = np.nan if found.dtype.kind == "f" else None
    return found


def _refuse_masked(value: Any, argument: str) -> None:
    """Refuse a masked entry, which NumPy would otherwise read as the number beneath the mask."""
    nested = isinstance(value, (list, tuple))
    for row, part in enumerate(value if nested else (value,)):
        if not isinstance(part, np.ma.MaskedArray) or part.dtype.names is not None:
            continue
        place, count = _offenders(np.ma.getmaskarray(part), lambda mask: mask)
        if count:
            raise ValueError(
                f"{argument} has a masked entry at {_where((row, *place) if nested else place)};"
                " fill it in or drop such rows first."
            )


def _frame_columns(value: Any) -> list[Any] | None:
    """List a data frame's columns where NumPy would blur their types, else give None.

    Read as a whole, a frame of mixed types may come as objects (pandas) or with its dates turned
    into numbers (polars).
    """
    kind = type(value)
    if hasattr(kind, "iloc") and hasattr(kind, "columns"):
        dtypes = set(value.dtypes)
        if len(dtypes) == 1 and all(isinstance(dtype, np.dtype) for dtype in dtypes):
            return None
        return [value.iloc[:, place] for place in range(value.shape[1])]
    if hasattr(kind, "get_columns"):
        return list(value.get_columns())
    return None


def _side_by_side(columns: list[Any], rows: int, argument: str, encode: str, gaps: bool) -> Array:
    """Read a data frame's columns into one array, shape (rows, columns)."""
    parts = [
        _numbers(np.asarray(column), argument, encode, place, gaps=gaps)
        for place, column in enumerate(columns)
    ]
    for place, part in enumerate(parts):
        if part.ndim != 1:
            raise TypeError(
                f"{argument} must hold one number in each cell;"
                f" got arrays of shape {part.shape[1:]} in column {place}."
            )
    dtype = np.result_type(*parts) if parts else np.dtype(float)
    array = np.empty((rows, len(parts)), dtype=dtype)
    return np.stack(parts, axis=1, out=array) if parts else array


def _numbers(
    array: Array, argument: str, encode: str, column: int | None = None, *, gaps: bool = False
) -> Array:
    """Let real numbers pass, turn objects that are numbers into float64, refuse all else."""
    kind = array.dtype.kind
    if kind in "biuf":
        return array
    if kind not in "OUST":
        what = {"c": "complex numbers", "M": "dates", "m": "durations", "V": "records"}
        inside = "" if column is None else f" in column {column}"
        raise TypeError(
            f"{argument} must hold real numbers; got {what.get(kind, 'something else')}"
            f" (dtype {array.dtype}){inside}. Convert them to float32 or float64 first."
        )
    result = np.empty(array.size, dtype=np.float64)
    for place, item in enumerate(array.flat):
        if _is_real(item):
            try:
                result[place] = float(item)
                continue
            except (OverflowError, ValueError):
                pass
        elif gaps and _is_missing(item):
            result[place] = np.nan
            continue
        index = tuple(int(part) for part in np.unravel_index(place, array.shape))
        raise _not_a_number(item, index if column is None else (*index, column), argument, encode)
    return result.reshape(array.shape)


def _is_real(item: object) -> bool:
    """Tell a real number of Python's or NumPy's, of whatever class, from all else."""
    # Most are one of these two, and the abstract classes below take three times as long to ask.
    if isinstance(item, (int, float)):
        return True
    if isinstance(item, np.timedelta64):
        return False
    if isinstance(item, (numbers.Real, np.bool_)):
        return True
    # Decimal is a Number without being Real.
    return isinstance(item, numbers.Number) and not isinstance(item, numbers.Complex)


def _is_missing(item: object) -> bool:
    """Tell what stands for no value: None, and what pandas has for it."""
    return item is None or type(item).__name__ in ("NAType", "NaTType")


def _not_a_number(
    item: object, cell: tuple[int, ...], argument: str, encode: str
) -> TypeError | ValueError:
    """Word the refusal of something that is not a number, or none that fits float64."""
    if not cell:
        advice = " Collect it with list() first." if hasattr(item, "__next__") else ""
        return TypeError(f"{argument} must be an array of numbers; got {describe(item)}.{advice}")
    if _is_missing(item):
        return ValueError(
            f"{argument} has a missing value ({item}) at {_where(cell)};"
            " fill it in or drop such rows first."
        )
    came = f"got {describe(item)} at {_where(cell)}."
    if _is_real(item):
        return ValueError(f"{argument} must hold numbers that fit float64; {came}")
    advice = ""
    if isinstance(item, (str, bytes)):
        named = encode in (_ENCODE_CLASSES, _ENCODE_SOME)
        advice = encode if named or not _spells_number(item) else _FROM_TEXT
    return TypeError(f"{argument} must hold real numbers; {came}{advice and f' {advice}'}")


def _spells_number(text: str | bytes) -> bool:
    """Tell whether text is a number that was written out."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _ragged(value: object, error: Exception) -> str:
    """Say where rows begin to differ in length, or else why NumPy could not read them."""
    if isinstance(value, (list, tuple)):
        lengths = [len(row) if isinstance(row, Sized) else 1 for row in value]
        for row, length in enumerate(lengths):
            if length != lengths[0]:
                return f"row 0 of length {lengths[0]} but row {row} of length {length}"
    return f"{describe(value)}, which NumPy cannot read ({error})"


def _as_it_is(array: Array) -> Array | None:
    """Return a locked view of a few finite numbers that lie as they should, else None."""
    if not 0 < array.size <= _SMALL or not array.flags.carray or not _is_finite(array):
        return None
    view = array.view()
    view.flags.writeable = False
    return view


def _targets_at_once(
    y: Array, loss_targets: str, width: int, rows: int, dtype: DTypeLike
) -> Targets | None:
    """Return a few numbers, or classes, that lie as they should as targets, else None."""
    if loss_targets == "real" and y.dtype is dtype:
        if y.shape == (rows, width) or (width == 1 and y.shape == (rows,)):
            values = _as_it_is(y)
            if values is not None:
                return Targets.of_values(values if values.ndim == 2 else values.reshape(rows, 1))
    elif (
        loss_targets == "classes"
        and y.dtype is _NO_LABELS.dtype
        and y.shape == (rows,)
        and 0 < rows <= _FEWER
        and y.flags.carray
    ):
        labels = y.tolist()
        if min(labels) >= 0 and max(labels) < width:
            return Targets.of_labels(y.view(), width, dtype)
    return None


def _fitted(array: Array, dtype: np.dtype[Any]) -> Array:
    """Give a read-only view where dtype and layout fit, else one read-only copy."""
    flags = array.flags
    if array.dtype == dtype and (flags.carray or (flags.c_contiguous and flags.aligned)):
        return _read_only(array.view())
    with np.errstate(all="ignore"):
        return _read_only(np.array(array, dtype=dtype, order="C"))


def _read_only(array: Array) -> Array:
    """Lock an array object that is this room's own."""
    array.flags.writeable = False
    return array


def _is_finite(array: Array) -> bool:
    """Return whether all is certainly finite; a sum that overflows decides nothing."""
    if array.size <= _SMALL:
        # In a quarter of the time of what follows, or less.
        few = array.size <= _FEWER
        if math.isfinite(sum(array.ravel().tolist()) if few else np.vdot(array, array)):
            return True
    with np.errstate(all="ignore"):
        # Infinity and NaN survive in a sum: one pass without a mask settles the usual case.
        return bool(np.isfinite(array.sum()))


def _finite(
    array: Array,
    dtype: np.dtype[Any],
    argument: str,
    cell: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda place: place,
) -> Array:
    """Fit an array to a dtype and refuse what is not finite there; a cell is what a place means."""
    result = _fitted(array, dtype)
    if _is_finite(result):
        return result
    place, count = _offenders(result, lambda part: ~np.isfinite(part))
    if count == 0:
        return result
    # Put into words by str throughout: formatting would take a long double through a float.
    came = array[place]
    if np.isfinite(came):
        widest = np.finfo(np.float64).max
        wider = ', or build the network with dtype="float64"' if abs(came) <= widest else ""
        raise ValueError(
            f"{argument} has {came!s} at {_where(cell(place))}, which does not fit {dtype}"
            f" ({count} such value{'' if count == 1 else 's'} in all); scale the data{wider}."
        )
    name = "NaN" if np.isnan(came) else "infinity" if came > 0 else "-infinity"
    raise ValueError(
        f"{argument} has {name} at {_where(cell(place))}"
        f" ({count} non-finite value{'' if count == 1 else 's'} in all);"
        " every value must be a finite number: fill it in or drop such rows first."
    )


def _labels(array: Array, outputs: int, argument: str) -> NDArray[np.int64]:
    """Fit class numbers, shape (n,), to int64 and refuse what is no class of the network."""
    if array.dtype.kind == "f":
        array = _finite(array, array.dtype.newbyteorder("="), argument)
        place, count = _offenders(array, lambda part: part != np.floor(part))
        if count:
            raise ValueError(
                f"{argument} has {array[place]!s} at {_where(place)},"
                " but class numbers must be whole."
            )
    if array.min() < 0 or array.max() >= outputs:
        place, _ = _offenders(array, lambda part: (part < 0) | (part >= outputs))
        allowed = f"integers from 0 to {outputs - 1}" if outputs > 1 else "0"
        plural = "" if outputs == 1 else "s"
        raise ValueError(
            f"{argument} has label {array[place]!s} at {_where(place)}, but labels must be"
            f" {allowed} for a network with {outputs} output{plural}. {_ENCODE_CLASSES}"
        )
    return _fitted(array, np.dtype(np.int64))


def _class_columns(
    targets: Targets, loss_targets: TargetKind
) -> tuple[list[NDArray[np.int64]], int]:
    """Return the class of each example, for each output that has its own, and how many there are.

    One-hot rows are one class each; rows of bits are a class of two for each output.
    """
    if loss_targets in NUMERIC:
        raise ValueError(
            "class_weight needs a loss on classes, such as 'cross_entropy', "
            "'binary_cross_entropy' or 'hinge'; for a loss on numbers use sample_weight."
        )
    values = targets.values
    if len(targets.labels):
        return [targets.labels], values.shape[1]
    place, count = _offenders(values, lambda part: (part != 0) & (part != 1))
    if count:
        raise ValueError(
            f"class_weight needs classes, but y has the probability {values[place]} at "
            f"{_where(place)}; use sample_weight."
        )
    if loss_targets == "classes":
        return [values.argmax(axis=1)], values.shape[1]
    return list(values.T.astype(np.int64)), 2


def _one_for_each(class_weight: Any, columns: int) -> list[tuple[str, Mapping[Any, Any]]]:
    """Return the factors by class for each output that has classes of its own, and their names."""
    wanted = "class_weight must be 'balanced' or a dict from class to weight"
    if columns > 1:
        wanted = f"class_weight must be 'balanced' or a list of {columns} dicts, one an output"
    if columns == 1 and isinstance(class_weight, Mapping):
        return [("class_weight", class_weight)]
    if isinstance(class_weight, str):
        raise ValueError(f"{wanted}; got {describe(class_weight)}.")
    listed = columns > 1 and isinstance(class_weight, (list, tuple))
    if not listed or not all(isinstance(one, Mapping) for one in class_weight):
        raise TypeError(f"{wanted}; got {describe(class_weight)}.")
    if len(class_weight) != columns:
        raise ValueError(f"{wanted}; got {len(class_weight)} of them.")
    return [(f"class_weight[{place}]", one) for place, one in enumerate(class_weight)]


def _factors(given: Mapping[Any, Any], classes: int, sides: bool, argument: str) -> Array:
    """Return the factor of every class; -1 is another name of the side 0."""
    known = {label: label for label in range(classes)}
    if sides and classes == 2 and not (-1 in given and 0 in given):
        known[-1] = 0
    factors = np.ones(classes)
    for label, factor in given.items():
        if label not in known:
            also = " or -1 and 1" if -1 in known else ""
            allowed = f"0 to {classes - 1}{also}" if classes > 1 else "0"
            raise ValueError(
                f"{argument} must have classes as keys, integers from {allowed}; "
                f"got {describe(label)}."
            )
        factors[known[label]] = check_real(factor, f"{argument}[{label!r:.60}]", low=0.0)
    return factors


def _balanced(labels: NDArray[np.int64], weights: Array | None) -> Array:
    """Return factors by which all classes that occur count alike, and all examples as before."""
    counts = np.bincount(labels, weights)
    occurring = counts > 0
    total, classes = counts.sum(), np.count_nonzero(occurring)
    factors: Array = np.divide(total / classes, counts, out=np.zeros(len(counts)), where=occurring)
    return factors


def _normal(given: Array, weights: Array) -> Array:
    """Return weights that kernels can tell from 0, in the proportions in which they were given."""
    numbers = np.finfo(weights.dtype)
    with np.errstate(all="ignore"):
        if not ((given > 0) & (given < numbers.tiny)).any():
            return weights
        wide = np.asarray(given, np.result_type(given, np.float64))
        # To about the middle of float32's range; float64's is wide enough above its smallest.
        top = 64 if weights.dtype == np.float32 else 0
        scaled = np.ldexp(wide, top - np.frexp(wide.max())[1]).astype(weights.dtype)
        scaled[scaled < numbers.tiny] = 0
    return _read_only(scaled)


def _check_sum(weights: Array, argument: str) -> None:
    """Refuse weights that cannot be divided by their sum."""
    with np.errstate(over="ignore"):
        total = weights.sum(dtype=float)
    if not np.isfinite(total):
        raise ValueError(
            f"{argument} must have a sum that fits float64; only the weights' proportions count, "
            "so make them smaller."
        )


def _check_length(array: Array, rows: int, argument: str, of: str) -> None:
    """Refuse another number of rows than the examples have."""
    if array.ndim and len(array) != rows:
        plural = "" if rows == 1 else "s"
        raise ValueError(
            f"{of} has {rows} row{plural} but {argument} has {len(array)};"
            f" there must be one row of {argument} for each row of {of}."
        )


def _check_probabilities(values: Array, argument: str) -> None:
    """Refuse values outside [0, 1]."""
    if values.min() < 0 or values.max() > 1:
        place, _ = _offenders(values, lambda part: (part < 0) | (part > 1))
        raise ValueError(
            f"{argument} has {values[place]} at {_where(place)},"
            " but each target must be a probability in [0, 1]."
        )


def _check_counts(values: Array, argument: str) -> None:
    """Refuse values below 0."""
    if values.min() < 0:
        place, _ = _offenders(values, lambda part: part < 0)
        raise ValueError(
            f"{argument} has {values[place]} at {_where(place)},"
            " but each target must be a count or a rate of at least 0."
        )


def _check_positive(values: Array, argument: str) -> None:
    """Refuse values that are not above 0."""
    if values.min() <= 0:
        place, _ = _offenders(values, lambda part: part <= 0)
        raise ValueError(
            f"{argument} has {values[place]} at {_where(place)},"
            " but each target must be greater than 0 for this loss."
        )


def _sides(values: Array, argument: str) -> Array:
    """Return 1 and 0 for sides given as 1 and -1, or as 1 and 0; refuse all else."""
    other = 0 if values.min() >= 0 else -1
    place, count = _offenders(values, lambda part: (part != 1) & (part != other))
    if count:
        raise ValueError(
            f"{argument} has {values[place]} at {_where(place)},"
            " but the targets must be -1 and 1, or 0 and 1."
        )
    return values if other == 0 else _read_only((values > 0).astype(values.dtype))


def _check_sums(values: Array, argument: str) -> None:
    """Refuse rows of class probabilities that do not sum to one."""
    sums = values.sum(axis=1, dtype=np.float64)
    (row,), count = _offenders(sums, lambda part: abs(part - 1) > _SUM_TOLERANCE)
    if count:
        raise ValueError(
            f"{argument} has the sum {sums[row]:.6g} at row {row}, but each row must be class"
            f" probabilities with the sum 1 (to within {_SUM_TOLERANCE})."
        )


def _offenders(values: Array, test: Callable[[Array], Array]) -> tuple[tuple[int, ...], int]:
    """Find the index of the first element that fails a test, and how many do.

    The index is that of the first element, and means nothing, where none fails.
    """
    flat = values.reshape(-1)
    first, count = 0, 0
    length = tuning.current.checked_elements
    for start in range(0, len(flat), length):
        bad = test(flat[start : start + length])
        found = int(np.count_nonzero(bad))
        if found and not count:
            first = start + int(bad.argmax())
        count += found
    return tuple(int(part) for part in np.unravel_index(first, values.shape)), count


def _where(place: tuple[int, ...]) -> str:
    """Format an index for a message."""
    if not place:
        return "its only place"
    if len(place) > 2:
        return f"index {place}"
    return ", column ".join(["row " + str(place[0]), *map(str, place[1:])])


def _other_width(came: int, inputs: int) -> str:
    """Word the refusal of examples of another width than the network's."""
    plural = "" if came == 1 else "s"
    return (
        f"has {came} feature{plural}, but this network was built for {inputs}: its input width is"
        " fixed; rebuild the network (or retrain a new one) for the new features."
    )
