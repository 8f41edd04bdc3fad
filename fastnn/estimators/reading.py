"""Clear errors for arguments that NumPy cannot read, around scikit-learn's validation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.validation import _check_sample_weight

from fastnn import gate

__all__ = ["frame_at_once", "reading", "weights_of"]

Array = NDArray[Any]

# What conversions of other packages raise besides TypeError and ValueError: an integer beyond
# float64, a tensor that requires gradients or lies on another device.
_WORDLESS = (ArithmeticError, AttributeError, LookupError, RuntimeError)


@contextmanager
def reading(**arguments: Any) -> Iterator[None]:
    """Read arguments inside, and say which of them cannot be read and why.

    Parameters
    ----------
    **arguments
        What the user gave, by name.

    Raises
    ------
    TypeError, ValueError
        In place of an error of the object's own; in the words of the gate.
    """
    try:
        yield
    except (TypeError, ValueError):
        raise
    except _WORDLESS as problem:
        for argument, value in arguments.items():
            if _fails(value):
                gate.readable(value, argument)
        names = " and ".join(arguments)
        raise TypeError(f"{names} must be arrays that NumPy can read: {problem}") from problem


def _fails(value: Any) -> bool:
    """Tell whether reading a value raises something that is neither TypeError nor ValueError."""
    if sparse.issparse(value):
        return False
    try:
        np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return False
    except _WORDLESS:
        return True
    return False


def weights_of(examples: Any, weights: Any, argument: str = "sample_weight") -> Array | None:
    """Return weights of validated examples as scikit-learn checks them; None for None."""
    if weights is None:
        return None
    with reading(**{argument: weights}):
        checked: Array = _check_sample_weight(weights, examples)
    return checked


def frame_at_once(X: Any, names: Array, dtype: np.dtype[Any]) -> Array | None:
    """Return the rows of a pandas frame of numbers whose columns have these names, in this order.

    Parameters
    ----------
    X : object
        Any.
    names : ndarray of str
        ``feature_names_in_``.
    dtype : dtype
        The network's.

    Returns
    -------
    ndarray, shape (n, p), or None
        A copy in the dtype; None for all that scikit-learn would have to look at: no frame, other
        names, columns that are no plain numbers, and numbers that the dtype does not hold.
    """
    # Imported by whoever made the frame.
    pandas = sys.modules.get("pandas")
    if pandas is None or type(X) is not pandas.DataFrame or type(names) is not np.ndarray:
        return None
    columns = X.columns.tolist()
    if columns != names.tolist() or any(type(name) is not str for name in columns):
        return None
    dtypes = set(X.dtypes)
    if not all(isinstance(one, np.dtype) and one.kind in "fiu" for one in dtypes):
        return None
    if np.result_type(dtype, *dtypes) != dtype:
        return None
    return np.array(X.to_numpy(), dtype, order="C")
