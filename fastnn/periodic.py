"""Learnt periodic features of numbers: the record, like those of `layers`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.hints import understands
from fastnn.layers import Layer, later
from fastnn.names import check_bool, check_integer, check_real

__all__ = ["NumericEmbedding", "arrays", "notes", "numbers", "pieces", "said", "width", "work"]

_WORDS = {
    "n_frequencies": "frequencies",
    "d_embedding": "dimension",
    "embedding_dim": "dimension",
    "frequency_init_scale": "sigma",
    "activation": "Its activation is relu, as in the paper.",
    "lite": "Every column has a linear layer of its own.",
    "n_features": "The network counts the features.",
    "name": "A layer has no name; leave it out.",
}


@understands(_WORDS)
@dataclass(frozen=True, slots=True, repr=False)
class NumericEmbedding(Layer):
    """Puts a vector in place of every number: learnt waves of it, a linear layer, and relu.

    Computes ``relu(W v + b)`` of each column x by itself, where ``v = [sin(2 pi c x), cos(2 pi c
    x)]`` for frequencies c.  Frequencies, weights and biases are each column's own and learnt.  It
    is the first layer, or stands behind a `Standardize`, which numbers should have passed, and an
    `Embedding`, whose vectors then pass by.  What it gives are the vectors of the columns, in their
    order, then what passes.

    Parameters
    ----------
    frequencies : int, default 48
        How many each column has.
    dimension : int, default 24
        Numbers of a vector.
    sigma : float, default 0.01
        Standard deviation of the normal frequencies at the start, above 0.  What matters most: a
        larger one, such as 0.1 or 1, lets the network bend within smaller ranges of x.
    passing : int, default 0
        How many columns, the last ones, pass by as they are.  Behind an `Embedding` a network puts
        the columns of its vectors here.
    trainable : bool, default True
        Whether training changes the layer.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    Notes
    -----
    The arrays are "frequencies", of shape (columns, frequencies), "weights", of shape (columns * 2
    * frequencies, dimension), with those of a column's sines, then of its cosines, below each
    other, and "biases", of shape (columns, dimension).  Weights and biases begin as normal numbers
    of standard deviation ``1 / sqrt(6 frequencies)``.  None of them decays or counts for L2.

    Gorishniy, Rubachev & Babenko 2022, "On embeddings for numerical features in tabular deep
    learning", where it is called PLR; the defaults are those of the authors' package.

    Examples
    --------
    >>> import fastnn as fn
    >>> layers = [fn.Standardize(), fn.NumericEmbedding(16, 8), fn.Dense(32, "relu"), fn.Dense(1)]
    >>> net = fn.Sequential(layers, inputs=3)
    >>> [(entry.name, entry.shape) for entry in net.layout][2:5]
    [('1.frequencies', (3, 16)), ('1.weights', (96, 8)), ('1.biases', (3, 8))]
    >>> net.hidden([[0.5, 1.0, -2.0]], 1).shape
    (1, 24)
    """

    frequencies: int = 48
    dimension: int = 24
    sigma: float = 0.01
    passing: int = later(0)
    trainable: bool = later(True)

    def __post_init__(self) -> None:
        """Check every field once and store it in its plain form."""
        checked = {
            "frequencies": check_integer(self.frequencies, "frequencies", 1),
            "dimension": check_integer(self.dimension, "dimension", 1),
            "sigma": check_real(self.sigma, "sigma", low=0.0, low_open=True),
            "passing": check_integer(self.passing, "passing", 0),
            "trainable": check_bool(self.trainable, "trainable"),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def numbers(layer: NumericEmbedding, inputs: int) -> int:
    """Return how many columns are replaced.

    Raises
    ------
    ValueError
        If there are none.
    """
    if inputs <= layer.passing:
        raise ValueError(
            f"{layer!r} lets the last {layer.passing} columns pass, and so needs more of them; "
            f"got {inputs}. Where all columns hold codes, leave it out."
        )
    return inputs - layer.passing


def width(layer: NumericEmbedding, inputs: int | None) -> Any:
    """Return how many columns the layer gives, None where it is not known how many it reads."""
    if inputs is None:
        return None
    return numbers(layer, inputs) * layer.dimension + layer.passing


def said(layer: NumericEmbedding) -> str:
    """Return what a summary says of a layer."""
    return f"{layer.frequencies} waves"


def arrays(layer: NumericEmbedding, inputs: int) -> list[tuple[str, tuple[int, int], float]]:
    """Return name, shape and standard deviation of each array."""
    count, k, d = numbers(layer, inputs), layer.frequencies, layer.dimension
    spread = 1.0 / math.sqrt(6 * k)
    return [
        ("frequencies", (count, k), layer.sigma),
        ("weights", (count * 2 * k, d), spread),
        ("biases", (count, d), spread),
    ]


def work(layer: NumericEmbedding, inputs: int) -> int:
    """Return how many multiplications and additions an example takes."""
    return 4 * layer.frequencies * layer.dimension * numbers(layer, inputs)


def notes(layer: NumericEmbedding, inputs: int) -> int:
    """Return how many numbers the kernels note of each row: waves, their slopes, and a 1.

    Beside them every four rows have room for the transposed weights of a column.
    """
    weights = 2 * layer.frequencies * layer.dimension
    return 4 * layer.frequencies * numbers(layer, inputs) + 1 + -(-weights // 4)


def pieces(layer: NumericEmbedding, inputs: int, panel: int) -> NDArray[np.int64]:
    """Return what the kernels go by: sizes, then pieces within a panel of so many columns.

    Returns
    -------
    ndarray of int64, shape (1 + pieces, 6)
        Number of columns, frequencies and dimension, then as `embeddings.pieces` has it: where a
        piece goes and how many columns it has; the column that is read; 1 for a vector, 0 for
        columns that pass; where the piece begins in its vector.
    """
    count, k, d = numbers(layer, inputs), layer.frequencies, layer.dimension
    found = [(count, k, d, 0, 0, 0)]
    to = 0
    for column in range(count):
        done = 0
        while done < d:
            some = min(d - done, panel - to % panel)
            found.append((to, some, column, 1, done, 0))
            done, to = done + some, to + some
    column = count
    while column < inputs:
        some = min(inputs - column, panel - to % panel, panel - column % panel)
        found.append((to, some, column, 0, 0, 0))
        column, to = column + some, to + some
    return np.array(found, np.int64)
