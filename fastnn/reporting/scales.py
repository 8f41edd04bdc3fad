"""How far features and targets are from unit scale, column by column, and what to do about it.

Weights are drawn, and learning rates chosen, for numbers of about 1.  `hopeless` is the quick check
of a few rows in every fit; `Columns` is what `Sequential.diagnose` measures on all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.sparse import SparseRows

__all__ = ["HOPELESS", "Columns", "hopeless", "standardize"]

Floats = NDArray[np.floating[Any]]

# Beyond this magnitude, or below its reciprocal, a fit warns.
HOPELESS = 1e4

# What a fit checks: so many rows, evenly spread, but no more elements than these.
_ROWS = 256
_ELEMENTS = 1 << 18
_FEWEST_ROWS = 8

# What `diagnose` names: sizes above and reaches below these, means so many times the reach, and
# sizes so many times those of other columns.
_LARGE = 50.0
_SMALL = 1e-3
_FAR = 30.0
_UNEQUAL = 1e3

# With fewer than this part of a column's values left, a dtype cannot tell them apart.
_LEFT = 0.9

_NAMED = 3

# What has a network bring an array to unit scale by itself.
_INSIDE = {
    "X": "fastnn.Standardize() as the first layer",
    "y": "fastnn.Sequential(..., scale_targets=True)",
}


def hopeless(
    X: Floats | SparseRows | None, y: Floats | None, coded: Sequence[int] = ()
) -> str | None:
    """Say which columns are beyond 1e4 of unit scale, if any is.

    Parameters
    ----------
    X : ndarray or SparseRows, shape (n, p), or None
        Features; None where the network brings them to unit scale itself.
    y : ndarray, shape (n, m), or None
        Targets that are real numbers; None for others.
    coded : sequence of int
        Columns of X that hold codes, which have no scale.

    Returns
    -------
    str or None
        The message of a warning, or None where all is well.  A column is beyond where its largest
        magnitude, among at most 256 rows that are evenly spread, is above 1e4, or is below 1e-4
        and not 0.

    Examples
    --------
    >>> hopeless(np.ones((3, 2)), np.array([[2e5], [3e5], [4e5]]))[:36]
    'y reaches 4e+05: networks learn from'
    """
    arrays = {name: array for name, array in (("X", X), ("y", y)) if array is not None}
    said = {
        name: _beyond(name, array, coded if name == "X" else ()) for name, array in arrays.items()
    }
    both = [name for name, one in said.items() if one]
    found = [said[name] for name in both]
    if not found:
        return None
    inside = " and ".join(_INSIDE[name] for name in both)
    return (
        f"{', and '.join(found)}: networks learn from numbers of about 1, and hardly from these. "
        f"{standardize(both, _width(y))} Or have the network do it: {inside}. "
        "net.diagnose(X, y) says more."
    )


def standardize(arrays: Sequence[str], outputs: int = 1) -> str:
    """Return the sentence that says how to bring arrays to unit scale, each column by its own."""
    lines = {
        "X": "X = (X - X.mean(axis=0)) / X.std(axis=0)",
        "y": "y = (y - y.mean()) / y.std()",
    }
    if outputs > 1:
        lines["y"] = lines["X"].replace("X", "y")
    steps = " and ".join(lines[name] for name in arrays)
    return f"Standardize: {steps}, by the mean and std of the training examples, in float64."


def _width(y: Floats | None) -> int:
    """Count the columns of targets."""
    return 1 if y is None else y.shape[1]


def _beyond(name: str, values: Floats | SparseRows, coded: Sequence[int]) -> str:
    """Say which columns of an array are beyond 1e4 of unit scale; nothing where none is."""
    rows = max(_FEWEST_ROWS, min(_ROWS, _ELEMENTS // values.shape[1]))
    step = -(-len(values) // rows)
    if isinstance(values, SparseRows):
        some = values[np.arange(0, len(values), step)]
        top = np.zeros(values.width)
        np.maximum.at(top, some.columns, np.abs(some.values))
    else:
        top = np.abs(values[::step]).max(axis=0)
        if coded:
            top[list(coded)] = 0.0
    if top.max() <= HOPELESS and top.min() >= 1.0 / HOPELESS:
        return ""
    parts = []
    for wrong, verb in (
        (top > HOPELESS, "reaches"),
        ((top > 0.0) & (top < 1.0 / HOPELESS), "reaches no more than"),
    ):
        places = np.flatnonzero(wrong)
        if len(places):
            distance = np.abs(np.log(top[places].astype(float)))
            worst = places[np.argmax(distance)]
            others = f" (as {len(places) - 1} more do)" if len(places) > 1 else ""
            parts.append(f"{_column(name, worst, len(top))} {verb} {top[worst]:.2g}{others}")
    return " and ".join(parts)


def _column(name: str, place: int, count: int) -> str:
    """Name a column as a user writes it; a target of one column has no place."""
    return name if name == "y" and count == 1 else f"{name}[:, {place}]"


@dataclass(frozen=True, slots=True)
class Columns:
    """The scales of an array's columns.

    Attributes
    ----------
    name : str
        "X" or "y".
    mean, size, reach : ndarray of float64, shape (columns,)
        Means, roots of mean squares, and largest distances from the mean.
    lost : ndarray of bool, shape (columns,)
        Where the network's dtype makes one of more than a tenth of a column's values.
    step : ndarray of float64, shape (columns,)
        The distance of neighbours in that dtype, at a column's largest magnitude.
    dtype : str
        That dtype.
    """

    name: str
    mean: NDArray[np.float64]
    size: NDArray[np.float64]
    reach: NDArray[np.float64]
    lost: NDArray[np.bool_]
    step: NDArray[np.float64]
    dtype: str

    @classmethod
    def of(cls, name: str, exact: NDArray[np.float64], dtype: np.dtype[Any]) -> Columns:
        """Measure an array, given in float64, that a network reads in its dtype."""
        with np.errstate(all="ignore"):
            mean = exact.mean(axis=0)
            size = np.sqrt(np.square(exact).mean(axis=0))
            reach = np.abs(exact - mean).max(axis=0)
            largest = np.abs(exact).max(axis=0)
            step = np.spacing(largest.astype(dtype)).astype(float)
            # Where neighbours lie close together, nothing needs counting.
            lost = (reach > 0.0) & (step * len(exact) > 1e-2 * reach)
            for place in np.flatnonzero(lost):
                column = exact[:, place]
                kept = len(np.unique(column.astype(dtype)))
                lost[place] = kept < _LEFT * len(np.unique(column))
        return cls(name, mean, size, reach, lost, step, str(dtype))

    def findings(self) -> Iterator[str]:
        """Yield a sentence for each kind of trouble."""
        varied = self.reach > 0.0
        many = len(self.mean)
        far = varied & (np.abs(self.mean) > _FAR * self.reach)
        large = (self.size > _LARGE) & ~far
        small = varied & (np.maximum(self.size, self.reach) < _SMALL)
        if self.lost.any():
            place = self._worst(self.lost, self.step / np.where(varied, self.reach, 1.0))
            yield (
                f"{self._named(self.lost, place)} beyond what {self.dtype} can tell apart: "
                f"{_column(self.name, place, many)} lies within {self.reach[place]:.3g} of "
                f"{self.mean[place]:.6g}, where {self.dtype} has steps of {self.step[place]:.3g}. "
                f"Subtract the mean in float64 before fit: {self._centre()}; or use "
                "dtype='float64' besides."
            )
        if far.any():
            place = self._worst(far, np.abs(self.mean) / np.where(varied, self.reach, 1.0))
            yield (
                f"{self._named(far, place)} far from 0 compared with what varies: "
                f"{_column(self.name, place, many)} has the mean {self.mean[place]:.4g} and stays "
                f"within {self.reach[place]:.3g} of it. {standardize([self.name], many)}"
            )
        if large.any():
            place = self._worst(large, self.size)
            yield (
                f"{self._named(large, place)} far from unit scale: "
                f"{_column(self.name, place, many)} has the mean {self.mean[place]:.3g} and a "
                f"root mean square of {self.size[place]:.3g}. {standardize([self.name], many)}"
            )
        if small.any():
            place = self._worst(small, 1.0 / np.where(small, self.size, 1.0))
            yield (
                f"{self._named(small, place)} small: {_column(self.name, place, many)} has a root "
                f"mean square of {self.size[place]:.2g}, which a network hardly tells from 0. "
                f"{standardize([self.name], many)}"
            )
        if varied.any() and not (far | large | small).any():
            scale = np.where(varied, self.size, np.nan)
            low, high = int(np.nanargmin(scale)), int(np.nanargmax(scale))
            reach = max(self.reach[low], self.size[low])
            if self.size[high] > _UNEQUAL * reach:
                yield (
                    f"Columns of {self.name} differ in scale: "
                    f"{_column(self.name, high, many)} has a root mean square of "
                    f"{self.size[high]:.3g}, {_column(self.name, low, many)} of "
                    f"{self.size[low]:.2g}. {standardize([self.name], many)}"
                )

    def _worst(self, wrong: NDArray[np.bool_], measure: NDArray[np.float64]) -> int:
        """Return the column with the largest measure among those that are wrong."""
        return int(np.argmax(np.where(wrong, measure, -np.inf)))

    def _named(self, wrong: NDArray[np.bool_], worst: int) -> str:
        """Name the columns that are wrong, as the subject of a sentence."""
        places = np.flatnonzero(wrong)
        if len(self.mean) == 1:
            return "The targets are" if self.name == "y" else f"{self.name}[:, 0] is"
        if len(places) == len(self.mean):
            return f"All {len(places)} columns of {self.name} are"
        listed = [worst, *(place for place in places if place != worst)][:_NAMED]
        said = ", ".join(str(place) for place in listed)
        more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
        kind = "Column" if len(places) == 1 else "Columns"
        return f"{kind} {said}{more} of {self.name} {'is' if len(places) == 1 else 'are'}"

    def _centre(self) -> str:
        """Say how to subtract the mean."""
        return f"{self.name} = {self.name} - {self.name}.mean(axis=0)"
