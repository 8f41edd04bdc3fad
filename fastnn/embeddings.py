"""Learnt vectors in place of columns of codes: the record, like those of `layers`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.hints import understands
from fastnn.layers import Layer, later
from fastnn.names import check_bool, check_integer, describe

__all__ = ["LARGEST", "Embedding", "lengths", "pieces", "said", "tables", "width"]

#: Codes of a column at the most: float32 tells whole numbers apart up to here.
LARGEST = 1 << 24

# "auto" gives no vector more numbers.
_LONGEST = 50

# What a vector's numbers are drawn with, over the root of how many there are: vectors of about this
# length.
_LENGTH = 0.3

_WORDS = {
    "num_embeddings": "sizes",
    "input_dim": "sizes",
    "cardinalities": "sizes",
    "columns": "sizes",
    "embedding_dim": "dimension",
    "output_dim": "dimension",
    "dim": "dimension",
    "padding_idx": "Every code has a vector of its own.",
    "name": "A layer has no name; leave it out.",
}

Pairs: TypeAlias = tuple[tuple[int, int], ...]


@understands(_WORDS)
@dataclass(frozen=True, slots=True, repr=False)
class Embedding(Layer):
    """Puts a learnt vector in place of every code of some columns of X; others pass by.

    A coded column holds categories as whole numbers from 0, as floats where X is an array of
    floats.  What the layer gives are first the other columns, in their order, then the vectors of
    the coded ones, in the order of the columns' numbers.  It is the first layer, or the second
    behind a `Standardize`, which then leaves the coded columns alone.

    Parameters
    ----------
    sizes : dict of int to int
        For each coded column, counted from 0, how many codes it has: one more than the largest, up
        to 2**24.
    dimension : "auto", int or dict of int to int, default "auto"
        Numbers of a vector: of all columns, or by column.  "auto", also for a column that is not in
        the dict, is ``min(50, (size + 1) // 2)``.
    trainable : bool, default True
        Whether training changes the vectors.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.  Whatever reads X refuses a code that
        is not whole or out of its range, by row and column.

    Notes
    -----
    The array "table_3", of shape (size, dimension), has the vectors of column 3.  Their numbers
    begin as normal ones of mean 0 and standard deviation ``0.3 / sqrt(dimension)``, so that a
    vector is about a third as long as a feature of unit scale is large.  They neither decay nor
    count for L2, which would shrink the vectors of rare codes only because these are rare.

    A code that training has never met keeps the vector that was drawn for it.  Keep one for what
    may come later, and use it for rare categories in training, so that it is learnt.

    Guo & Berkhahn 2016, "Entity embeddings of categorical variables".  The rule of "auto" is that
    of Howard's course "Practical deep learning for coders" of 2018, lesson 3.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fn
    >>> layer = fn.Embedding({1: 7, 3: 200}, dimension={1: 2})
    >>> net = fn.Sequential([layer, fn.Dense(8, "relu"), fn.Dense(1)], inputs=4)
    >>> [(entry.name, entry.shape) for entry in net.layout][:3]
    [('0.table_1', (7, 2)), ('0.table_3', (200, 50)), ('1.W', (54, 8))]
    >>> net.predict([[0.5, 6, -1.0, 199], [0.5, 0, -1.0, 7]]).shape
    (2, 1)
    >>> net.predict([[0.5, 7, -1.0, 199]])
    Traceback (most recent call last):
    ...
    ValueError: X has 7 at row 0, column 1, which holds codes: whole numbers from 0 to 6. ...
    """

    sizes: Any
    dimension: Any = "auto"
    trainable: bool = later(True)

    def __post_init__(self) -> None:
        """Check every field once and store it in its plain form."""
        sizes = _pairs(self.sizes, "sizes")
        for column, size in sizes:
            if size > LARGEST:
                raise ValueError(
                    f"sizes[{column}] must be at most 2**24 codes, which float32 can tell apart; "
                    f"got {size}."
                )
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "dimension", _dimension(self.dimension, dict(sizes)))
        object.__setattr__(self, "trainable", check_bool(self.trainable, "trainable"))

    def __repr__(self) -> str:
        """Return the call that makes it."""
        given = self.dimension
        dimension = dict(given) if isinstance(given, tuple) else given
        frozen = "" if self.trainable else ", trainable=False"
        return f"Embedding({dict(self.sizes)!r}, dimension={dimension!r}{frozen})"


def _pairs(given: object, argument: str) -> Pairs:
    """Return the items of a dict from columns to counts, by column; files have them in a row."""
    wanted = f"{argument} must be a dict from columns to whole numbers, such as {{3: 12}}"
    items: Iterable[Any]
    if isinstance(given, Mapping):
        items = given.items()
    elif isinstance(given, (list, tuple)):
        flat = len(given) % 2 == 0 and not any(isinstance(one, (list, tuple)) for one in given)
        items = zip(given[::2], given[1::2], strict=True) if flat else given
    else:
        raise TypeError(f"{wanted}; got {describe(given)}.")
    found: dict[int, int] = {}
    for pair in items:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise TypeError(f"{wanted}; got {describe(given)}.")
        column = check_integer(pair[0], f"a column in {argument}", 0)
        if column in found:
            raise ValueError(f"{argument} must name each column once; got {column} twice.")
        found[column] = check_integer(pair[1], f"{argument}[{column}]", 1)
    if not found:
        raise ValueError(f"{wanted}; got none.")
    return tuple(sorted(found.items()))


def _dimension(given: object, sizes: dict[int, int]) -> Any:
    """Return a dimension in its plain form."""
    if isinstance(given, str):
        if given != "auto":
            raise ValueError(
                f"dimension must be 'auto', a whole number, or a dict of them; got {given!r}."
            )
        return given
    if not isinstance(given, (Mapping, list, tuple)):
        return check_integer(given, "dimension", 1)
    pairs = _pairs(given, "dimension")
    for column, _ in pairs:
        if column not in sizes:
            raise ValueError(
                f"dimension must name coded columns, {', '.join(map(str, sizes))}; got {column}."
            )
    return pairs


def lengths(layer: Embedding) -> tuple[int, ...]:
    """Return how long the vectors of each coded column are.

    Examples
    --------
    >>> lengths(Embedding({0: 2, 4: 9, 5: 1000}, dimension={4: 3}))
    (1, 3, 50)
    """
    given: Any = layer.dimension
    if isinstance(given, int):
        return (given,) * len(layer.sizes)
    chosen = dict(given) if isinstance(given, tuple) else {}
    return tuple(chosen.get(column, min(_LONGEST, (size + 1) // 2)) for column, size in layer.sizes)


def width(layer: Embedding, inputs: int | None) -> Any:
    """Return how many columns the layer gives, None where it is not known how many it reads.

    Raises
    ------
    ValueError
        If it reads too few.
    """
    if inputs is None:
        return None
    last = layer.sizes[-1][0]
    if last >= inputs:
        raise ValueError(
            f"{layer!r} embeds column {last}, but there are {inputs} columns, numbered from 0."
        )
    return inputs - len(layer.sizes) + sum(lengths(layer))


def said(layer: Embedding) -> str:
    """Return what a summary says of a layer."""
    count = len(layer.sizes)
    return f"{count} column{'' if count == 1 else 's'}"


def tables(layer: Embedding) -> list[tuple[str, tuple[int, int], float]]:
    """Return name, shape and standard deviation of the array of each coded column."""
    return [
        (f"table_{column}", (size, length), float(_LENGTH / np.sqrt(length)))
        for (column, size), length in zip(layer.sizes, lengths(layer), strict=True)
    ]


def pieces(layer: Embedding, inputs: int, panel: int) -> NDArray[np.int64]:
    """Return what the layer copies, in pieces that lie within a panel of so many columns.

    Returns
    -------
    ndarray of int64, shape (pieces, 6)
        Where it is to go, and how many columns; the column that is read; the size of its table, 0
        for a column that passes; where the table's part begins among the parameters of the layer,
        and how far its rows are apart.
    """
    found: list[tuple[int, ...]] = []
    coded = dict(layer.sizes)
    to = 0
    for column in (column for column in range(inputs) if column not in coded):
        last = found[-1] if found else (0, 0, -1)
        joins = last[2] + last[1] == column and to % panel and column % panel
        if joins:
            found[-1] = (last[0], last[1] + 1, *last[2:])
        else:
            found.append((to, 1, column, 0, 0, 0))
        to += 1
    start = 0
    for (column, size), length in zip(layer.sizes, lengths(layer), strict=True):
        done = 0
        while done < length:
            count = min(length - done, panel - to % panel)
            found.append((to, count, column, size, start + done, length))
            done, to = done + count, to + count
        start += size * length
    return np.array(found, np.int64)
