"""The form of an exported network: plain arrays and names, and rows for the exports' self-tests.

This file is long because every form takes what the one before it has found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import own
from fastnn.embeddings import Embedding
from fastnn.exports.parts import (
    PlainLayer,
    PlainPart,
    PlainSum,
    Step,
    folded,
    is_waves,
    steps_of,
    walked,
)
from fastnn.layout import Layout
from fastnn.target_scale import TargetScale

__all__ = ["PlainEmbedding", "PlainNetwork", "Quantized", "Trial"]

Floats = NDArray[np.floating]

# Rows in an export's self-test, and the most numbers that they may take.
_TRIAL_ROWS = 4
_TRIAL_NUMBERS = 4096


@dataclass(frozen=True, slots=True)
class PlainEmbedding:
    """What stands before the Dense layers where some columns hold codes.

    Attributes
    ----------
    inputs : int
        Columns of X.
    passing : tuple of int
        Those that pass, which come first.
    tables : tuple of (int, ndarray (size, dimension))
        The others, and the vectors of their codes.
    """

    inputs: int
    passing: tuple[int, ...]
    tables: tuple[tuple[int, Floats], ...]

    @property
    def outputs(self) -> int:
        """Columns that the first Dense layer reads."""
        return len(self.passing) + sum(int(table.shape[1]) for _, table in self.tables)

    def __call__(self, X: Floats) -> Floats:
        """Return columns that pass, and the vectors of codes, in float64."""
        vectors = [table[X[:, column].astype(int)] for column, table in self.tables]
        return np.hstack([X[:, list(self.passing)], *vectors]).astype(np.float64)

    def cast(self, dtype: DTypeLike) -> PlainEmbedding:
        """Return the same in a dtype."""
        tables = tuple((column, table.astype(dtype)) for column, table in self.tables)
        return replace(self, tables=tables)

    def drawn(self, X: Floats) -> Floats:
        """Return rows with codes in the columns that hold some."""
        rng = np.random.default_rng(1)
        for column, table in self.tables:
            X[:, column] = rng.integers(len(table), size=len(X))
        return X


@dataclass(frozen=True, slots=True)
class PlainNetwork:
    """Layers in order; dropouts are omitted, and a Standardize is in the first weights.

    The units of scaled targets are in the last ones, and a BatchNorm is in those beside it.  What
    has no Dense beside it that takes it in stays a part of its own.

    Attributes
    ----------
    steps : tuple of PlainLayer, PlainPart or PlainSum
        At least one; the last one is a PlainLayer.
    dtype : numpy.dtype
        Of all arrays.
    classes : ndarray or None
        Labels of the outputs; of one output those of its low and its high side.
    embedding : PlainEmbedding or None
        What stands before the layers where columns hold codes.
    """

    steps: tuple[Step, ...]
    dtype: np.dtype[Any]
    classes: NDArray[Any] | None
    embedding: PlainEmbedding | None = None

    @classmethod
    def of(
        cls, layout: Layout, parameters: Floats, classes: NDArray[Any] | None,
        apart: bool = False,
    ) -> PlainNetwork:  # fmt: skip
        """Copy a network's parameters layer by layer.

        Parameters
        ----------
        layout : Layout
            Of the network.
        parameters : ndarray
            With its buffers.
        classes : ndarray or None
            Its labels.
        apart : bool, default False
            Whether every Dropout and BatchNorm stays what it is.

        Raises
        ------
        ValueError
            If a parameter is not finite, or an activation is one of the user's own.
        """
        if not np.isfinite(parameters).all():
            raise ValueError(
                "a network can be exported if all of its parameters are finite; "
                f"got {np.count_nonzero(~np.isfinite(parameters))} that are not."
            )
        for block in layout.blocks:
            if block.activation in own.ACTIVATIONS:
                raise ValueError(
                    "a network of the library's own activations can be exported; got "
                    f"{block.activation!r}, one of yours, as layer {block.name}."
                )
        dtype = parameters.dtype
        seen = layout if apart else layout.without_training()
        steps = steps_of(layout, parameters, seen.operations)
        embedding, steps = _embedded(layout, steps, dtype)
        found = folded(steps, dtype, apart)
        if layout.scale is not None:
            found = (*found[:-1], _in_units(found[-1], layout.scale, dtype))
        labels = None if classes is None else classes.copy()
        return cls(tuple(step.cast(dtype) for step in found), dtype, labels, embedding)

    @property
    def layers(self) -> tuple[PlainLayer, ...]:
        """The Dense layers, in order."""
        return tuple(_dense(self.steps))

    @property
    def last(self) -> PlainLayer:
        """The last one."""
        last = self.steps[-1]
        assert isinstance(last, PlainLayer)
        return last

    def cast(self, dtype: DTypeLike) -> PlainNetwork:
        """Return the same in a dtype, in which numbers may be infinite."""
        with np.errstate(over="ignore"):
            return replace(
                self,
                steps=tuple(step.cast(dtype) for step in self.steps),
                dtype=np.dtype(dtype),
                embedding=None if self.embedding is None else self.embedding.cast(dtype),
            )

    @property
    def arrays(self) -> tuple[Floats, ...]:
        """Arrays of all layers, and tables of vectors."""
        tables = () if self.embedding is None else self.embedding.tables
        return (
            *(table for _, table in tables),
            *(array for step in self.steps for array in step.arrays),
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds of its layers other than Dense, each once."""
        return tuple(dict.fromkeys(_kinds(self.steps)))

    @property
    def inputs(self) -> int:
        """Number of features."""
        return self.steps[0].inputs if self.embedding is None else self.embedding.inputs

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.last.outputs

    @property
    def sizes(self) -> str:
        """Widths, as in ``8-64-64-2``."""
        return "-".join(map(str, (self.inputs, *(layer.outputs for layer in self.layers))))

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(array.size for array in self.arrays)

    @property
    def threshold(self) -> float | None:
        """The threshold of one output for the second class; None where there are several."""
        if self.outputs > 1:
            return None
        return 0.5 if self.last.activation in ("sigmoid", "hard_sigmoid") else 0.0

    @property
    def classifies(self) -> bool:
        """Whether all outputs together name one class."""
        last = self.last.activation
        if self.outputs == 1:
            return last == "sigmoid" if self.classes is None else len(self.classes) == 2
        # Several sigmoids are separate binary outputs, not one choice among several.
        return last == "softmax" or (self.classes is not None and "sigmoid" not in last)

    def predictions(self, X: Floats) -> Floats:
        """Return the textbook's outputs (n, m) in float64, which is exact compared with float32."""
        A = X.astype(np.float64) if self.embedding is None else self.embedding(X)
        with np.errstate(all="ignore"):
            return np.asarray(walked([step.cast(np.float64) for step in self.steps], A.T).T)

    def places(self, outputs: Floats) -> NDArray[np.intp]:
        """Return the class of each row of outputs (n, m), as its place among the labels."""
        if self.threshold is not None:
            return (outputs[:, 0] > self.threshold).astype(np.intp)
        return np.asarray(outputs.argmax(axis=1))

    def with_weights(self, weights: list[Floats]) -> PlainNetwork:
        """Return the network with other weights of its Dense layers, and their biases."""
        return replace(self, steps=_with_weights(self.steps, iter(weights)))


def _dense(steps: Iterable[Step]) -> Iterator[PlainLayer]:
    """Yield the Dense layers among some, in order."""
    for step in steps:
        if isinstance(step, PlainLayer):
            yield step
        elif isinstance(step, PlainSum):
            yield from _dense(step.steps)


def _kinds(steps: Iterable[Step]) -> Iterator[str]:
    """Yield the names of the kinds of layers other than Dense."""
    for step in steps:
        if isinstance(step, PlainPart):
            yield step.name
        elif isinstance(step, PlainSum):
            yield "Residual"
            yield from _kinds(step.steps)


def _with_weights(steps: Iterable[Step], weights: Iterator[Floats]) -> tuple[Step, ...]:
    """Return layers with other weights."""
    found: list[Step] = []
    for step in steps:
        if isinstance(step, PlainLayer):
            step = replace(step, W=next(weights))
        elif isinstance(step, PlainSum):
            step = replace(step, steps=_with_weights(step.steps, weights))
        found.append(step)
    return tuple(found)


def _embedded(
    layout: Layout, steps: list[Step], dtype: np.dtype[Any]
) -> tuple[PlainEmbedding | None, list[Step]]:
    """Return what stands before the layers, if columns hold codes, and the layers without it.

    A Standardize that stood before it comes behind, and leaves its vectors alone.
    """
    place = next(
        (n for n, step in enumerate(steps[:2])
         if isinstance(step, PlainPart) and isinstance(step.layer, Embedding)), None,
    )  # fmt: skip
    if place is None:
        return None, steps
    known, part = dict(layout.coded), steps[place]
    passing = tuple(column for column in range(layout.inputs) if column not in known)
    tables = (table.astype(dtype) for table in part.arrays)
    embedding = PlainEmbedding(layout.inputs, passing, tuple(zip(known, tables, strict=True)))
    before = steps[:place]
    if before:
        (scale,) = before
        assert isinstance(scale, PlainPart)
        vectors = embedding.outputs - len(passing)
        arrays = {
            "mean": np.append(scale.parameters["mean"][list(passing)], np.zeros(vectors)),
            "deviation": np.append(scale.parameters["deviation"][list(passing)], np.ones(vectors)),
        }
        before = [PlainPart(scale.layer, embedding.outputs, embedding.outputs, arrays)]
    return embedding, [*before, *steps[place + 1 :]]


def _in_units(last: Step, scale: TargetScale, dtype: np.dtype[Any]) -> PlainLayer:
    """Return the last layer with outputs in the targets' units."""
    assert isinstance(last, PlainLayer)
    scaled = last.scaled_by(scale)
    with np.errstate(over="ignore"):
        if all(np.isfinite(array.astype(dtype)).all() for array in scaled.arrays):
            return scaled
    raise ValueError(
        "a network with scale_targets can be exported where its last weights times the "
        f"deviations of the targets are finite in {dtype}; got some that are not. "
        "Compute in float64."
    )


@dataclass(frozen=True, slots=True)
class Quantized:
    """Weights as whole numbers from -127 to 127, times a scale for each unit.

    Attributes
    ----------
    levels : list of ndarray of int8 (inputs, outputs)
        For each layer.
    scales : list of ndarray (outputs,)
        For each layer, in the network's dtype.
    network : PlainNetwork
        With the weights that these stand for.
    error : str
        How far its outputs are from those of full precision, as text.
    """

    levels: list[NDArray[np.int8]]
    scales: list[Floats]
    network: PlainNetwork
    error: str

    @classmethod
    def of(cls, network: PlainNetwork, X: Floats) -> Quantized:
        """Quantize a network's weights, and measure the error on rows X (n, inputs)."""
        levels, scales, weights = [], [], []
        for layer in network.layers:
            largest = np.abs(layer.W).max(axis=0).astype(np.float64)
            scale = (largest / 127).astype(network.dtype).astype(np.float64)
            level = np.rint(layer.W / np.where(scale > 0, scale, 1.0)).clip(-127, 127)
            levels.append(level.astype(np.int8))
            scales.append(scale.astype(network.dtype))
            weights.append(np.asarray(level * scale))
        rounded = network.with_weights(weights)
        before, after = network.predictions(X), rounded.predictions(X)
        apart = np.abs(after - before)
        error = (
            f"on {len(X):,} rows its outputs lie {apart.max():.3g} at most and {apart.mean():.3g} "
            f"on average from those of full precision, whose largest is {np.abs(before).max():.3g}"
        )
        if network.classifies:
            other = int((network.places(before) != network.places(after)).sum())
            error += f"; {other:,} rows get another class"
        return cls(levels, scales, rounded, f"{error}.")


@dataclass(frozen=True, slots=True)
class Trial:
    """Rows by which a copy tests itself, and what it shall answer.

    Attributes
    ----------
    X : ndarray (n, inputs)
        Examples.
    Y : ndarray (n, outputs)
        Outputs for them.
    tolerance : float
        How far an answer may lie away, as a part of the largest number in Y.
    """

    X: Floats
    Y: Floats
    tolerance: float

    @classmethod
    def of(cls, network: PlainNetwork, X: Floats | None) -> Trial:
        """Take the first rows of X, or draw some."""
        rows = max(1, min(_TRIAL_ROWS, _TRIAL_NUMBERS // network.inputs))
        if X is None or not len(X):
            X = np.random.default_rng(0).normal(size=(rows, network.inputs)).astype(network.dtype)
            X = X if network.embedding is None else network.embedding.drawn(X)
        X = X[:rows]
        tolerance = float(np.finfo(network.dtype).eps) * 1000 * _bend(network, X)
        return cls(X, network.predictions(X).astype(network.dtype), tolerance)


def _bend(network: PlainNetwork, X: Floats) -> float:
    """Return how many times an answer may be off where waves turn a lot; 1 at least.

    An angle is off by its own rounding, a thousandth of the tolerance for each 6 radians.
    """
    first = next((step for step in network.steps if is_waves(step)), None)
    if first is None:
        return 1.0
    assert isinstance(first, PlainPart)
    A = X.astype(np.float64) if network.embedding is None else network.embedding(X)
    A = walked(network.steps[: network.steps.index(first)], A.T)
    C = first.parameters["frequencies"].astype(np.float64)
    turns = np.abs(A[: len(C)]).max(axis=1, initial=0.0) * np.abs(C).max(axis=1)
    return max(1.0, float(turns.max()) / 8)
