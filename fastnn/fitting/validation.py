"""Validation examples that a user passes: in which arguments they came, and whether they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.blocks import Blocks
from fastnn.data import Data
from fastnn.errors import FitWarning
from fastnn.names import describe
from fastnn.notices import warn

__all__ = ["Given", "given", "warn_of_scales"]

Floats = NDArray[np.floating]

# How many times as wide, or as far away, a column may be as that of the training examples.  The
# check looks for a hundredfold difference, of which a sample may show half.
_FAR = 50.0

# Rows from which a column's scale is estimated, fewer for wide examples, as the check must be cheap
# compared with an epoch (2 ms for 784 columns); and the fewest that give an estimate.
_ENOUGH_ROWS = 256
_ENOUGH_ELEMENTS = 1 << 15
_SOME_ROWS = 32
_FEWEST_ROWS = 10


@dataclass(frozen=True, slots=True)
class Given:
    """Validation examples as they came, and the names of their arguments.

    Attributes
    ----------
    X, y, weights
        As the user gave them; weights may be None.
    names : tuple of three str
        What messages call them.
    """

    X: Any
    y: Any
    weights: Any
    names: tuple[str, str, str]


def given(validation_data: Any, X_val: Any, y_val: Any, sample_weight_val: Any) -> Given | None:
    """Take validation examples from either of the two ways to pass them.

    Parameters
    ----------
    validation_data : (X, y) or (X, y, sample_weight), or None
        All in one argument.
    X_val, y_val, sample_weight_val : array-like or None
        Each in an argument of its own.

    Returns
    -------
    Given or None
        None where there are none.

    Raises
    ------
    TypeError, ValueError
        If `validation_data` is no such tuple, if X is `Blocks`, if one of `X_val` and `y_val` is
        missing, or if both ways are taken.

    Examples
    --------
    >>> given(None, [[1.0]], [2.0], None).names
    ('X_val', 'y_val', 'sample_weight_val')
    >>> given(None, [[1.0]], None, None)
    Traceback (most recent call last):
    ...
    ValueError: X_val and y_val must be given together; got no y_val.
    """
    apart = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
    came = [name for name, value in apart.items() if value is not None]
    if validation_data is not None:
        if came:
            raise ValueError(f"validation_data and {came[0]} exclude each other; got both.")
        _refuse_blocks("validation_data", validation_data)
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            raise TypeError(
                "validation_data must be (X, y) or (X, y, sample_weight); "
                f"got {describe(validation_data)}."
            )
        X, y, *rest = validation_data
        names = tuple(f"validation_data[{place}]" for place in range(3))
        _refuse_blocks(names[0], X)
        return Given(X, y, rest[0] if rest else None, (names[0], names[1], names[2]))
    if not came:
        return None
    _refuse_blocks("X_val", X_val)
    missing = [name for name in ("X_val", "y_val") if name not in came]
    if missing:
        raise ValueError(
            f"X_val and y_val must be given together; got no {' and no '.join(missing)}."
        )
    return Given(X_val, y_val, sample_weight_val, ("X_val", "y_val", "sample_weight_val"))


def _refuse_blocks(name: str, value: object) -> None:
    """Refuse examples that come block by block, and say what does for them."""
    if isinstance(value, Blocks):
        raise TypeError(
            f"{name} must hold arrays, which are predicted after every epoch; got {value!r}. Give "
            "(X, y), which may be memory maps of files (numpy.load(..., mmap_mode='r')), or "
            "evaluate the Blocks as often as you want in a callback: callbacks=lambda run: "
            "print(run.network.evaluate(blocks))."
        )


def warn_of_scales(
    known: Data, held: Data, names: tuple[str, str, str], numeric: bool, coded: Sequence[int] = ()
) -> None:
    """Warn where validation examples look as if they had not been transformed like the others.

    A column's scale is the median distance from its median, or its standard deviation where most
    of it is one value, estimated from some rows.  Sparse examples are not checked.

    Parameters
    ----------
    known : Data
        Training examples.
    held : Data
        Validation examples.
    names : tuple of three str
        The arguments that those came in.
    numeric : bool
        Whether targets are numbers, which have a scale too.
    coded : sequence of int
        Columns of X that hold codes, which have none.
    """
    if min(len(known), len(held)) < _FEWEST_ROWS:
        return
    if isinstance(known.X, np.ndarray) and isinstance(held.X, np.ndarray):
        said = _compared(known.X, held.X, "X", names[0], coded)
        if said is not None:
            warn(
                f"{said} If X was transformed, as by a Pipeline, transform {names[0]} too: a "
                'Pipeline does with transform_input=["X_val"] and X_val routed to fit.',
                FitWarning,
            )
    if numeric:
        said = _compared(known.targets.values, held.targets.values, "y", names[1])
        if said is not None:
            warn(f"{said} If y was transformed, transform {names[1]} too.", FitWarning)


def _compared(
    known: Floats, held: Floats, of: str, name: str, coded: Sequence[int] = ()
) -> str | None:
    """Say in which column two arrays differ most in scale, if they differ greatly."""
    ours, theirs = _some(known), _some(held)
    with np.errstate(all="ignore"):
        centre, other = np.median(ours, axis=0), np.median(theirs, axis=0)
        scale, width = (
            np.median(np.abs(rows - middle), axis=0)
            for rows, middle in ((ours, centre), (theirs, other))
        )
        flat = (scale == 0.0) | (width == 0.0)
        scale, width = (
            np.where(flat, ours.std(axis=0), scale),
            np.where(flat, theirs.std(axis=0), width),
        )
        wider = np.maximum(width, np.abs(other - centre)) / scale
        ratio = np.where((scale > 0.0) & (width > 0.0), np.maximum(wider, scale / width), 0.0)
    ratio[list(coded)] = 0.0
    column = int(ratio.argmax())
    if not ratio[column] >= _FAR:
        return None
    return (
        f"{name} has another scale than {of}: in column {column} {of} lies about "
        f"{centre[column]:.3g} within {scale[column]:.3g}, and {name} about {other[column]:.3g} "
        f"within {width[column]:.3g} (medians)."
    )


def _some(X: Floats) -> Floats:
    """Return some rows, evenly spread, in float64 and with each column in one piece."""
    rows = max(_SOME_ROWS, min(_ENOUGH_ROWS, _ENOUGH_ELEMENTS // X.shape[1]))
    step = max(1, len(X) // rows)
    return np.asarray(X[::step][:rows], np.float64, order="F")
