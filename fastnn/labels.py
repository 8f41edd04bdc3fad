"""Labels of classes, as arrays and in files: whole numbers, numbers, truth values and texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.names import describe

__all__ = ["check_labels", "labels_of", "labels_to_plain"]

Array = NDArray[Any]

_WORDS = "whole numbers, numbers, truth values or texts"


def check_labels(labels: object, outputs: int) -> Array:
    """Take the labels of a network's outputs, or refuse them.

    Parameters
    ----------
    labels : array-like, shape (m,)
        One for each output; of one output also two, for 0 and 1.
    outputs : int
        The number m of outputs.

    Returns
    -------
    ndarray, shape (m,)
        A copy.

    Raises
    ------
    TypeError
        If a label is neither a number nor a text.
    ValueError
        If there are more or fewer, or some that are not finite.

    Examples
    --------
    >>> check_labels(["cat", "dog"], 2)
    array(['cat', 'dog'], dtype='<U3')
    """
    array: Array = np.array(labels)
    allowed = {1, 2} if outputs == 1 else {outputs}
    if array.ndim != 1 or len(array) not in allowed:
        wanted = " or ".join(str(count) for count in sorted(allowed))
        raise ValueError(
            f"classes must be a list of {wanted} labels, as the network has {outputs} "
            f"output{'' if outputs == 1 else 's'}; got shape {array.shape}."
        )
    labels_to_plain(array)
    return array


def labels_to_plain(labels: Array) -> dict[str, Any]:
    """Return labels as JSON has them: the name of their dtype, and a list.

    Raises
    ------
    TypeError
        If a label is neither a number nor a text.
    ValueError
        If one is a number that is not finite.
    """
    values = labels.tolist()
    for value in values:
        if not isinstance(value, (bool, int, float, str)):
            raise TypeError(f"classes must be {_WORDS}; got {describe(value)}.")
        if isinstance(value, float) and not np.isfinite(value):
            raise ValueError(f"classes must be finite; got {value}.")
    return {"dtype": labels.dtype.str, "values": values}


def labels_of(plain: object) -> Array:
    """Return the labels that `labels_to_plain` described; anything else is refused.

    Raises
    ------
    TypeError, ValueError
        If it is another thing.
    """
    if not isinstance(plain, dict) or plain.keys() != {"dtype", "values"}:
        raise ValueError(f"classes must have dtype and values; got {describe(plain)}.")
    name, values = plain["dtype"], plain["values"]
    if not isinstance(name, str) or not isinstance(values, list) or len(name) > 16:
        raise TypeError(f"classes must be {_WORDS}; got {describe(plain)}.")
    dtype = np.dtype(name)
    # A text's length is that of what came, not what a file says of it: it must not cost memory.
    dtype = np.dtype(np.str_) if dtype.kind == "U" else dtype
    if dtype.kind not in "biufUO" or any(isinstance(one, (list, dict)) for one in values):
        raise TypeError(f"classes must be {_WORDS}; got {describe(plain)}.")
    try:
        labels: Array = np.array(values, dtype)
    except OverflowError as problem:
        raise ValueError(f"classes must fit their dtype {name}: {problem}") from problem
    labels_to_plain(labels)
    return labels
