"""The form of an exported network: plain arrays and names, and rows for the exports' self-tests.

This file is long because every form takes what the one before it has found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import own, reference
from fastnn.folding import Folding
from fastnn.kernels import codes
from fastnn.layout import Layout
from fastnn.target_scale import TargetScale

__all__ = ["PlainEmbedding", "PlainLayer", "PlainNetwork", "Quantized", "Trial"]

Floats = NDArray[np.floating]

# Rows in an export's self-test, and the most numbers that they may take.
_TRIAL_ROWS = 4
_TRIAL_NUMBERS = 4096


@dataclass(frozen=True, slots=True)
class PlainLayer:
    """One Dense layer.

    Attributes
    ----------
    W : ndarray (inputs, outputs)
        Weights.
    b : ndarray (outputs,) or None
        Biases.
    activation : str
        Name in the table of activations.
    """

    W: Floats
    b: Floats | None
    activation: str

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return int(self.W.shape[0])

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return int(self.W.shape[1])

    def behind(self, mean: Floats, deviation: Floats) -> PlainLayer:
        """Return a layer that gives of features what this one gives of them at unit scale.

        ``(X - mean) / deviation W + b`` is ``X (W / deviation) + (b - mean (W / deviation))``,
        taken in float64.

        Raises
        ------
        ValueError
            If a weight or bias of it is no number of the dtype.
        """
        spread = np.where(deviation > 0, deviation, 1).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            W = self.W / spread[:, np.newaxis]
            b = (0 if self.b is None else self.b) - mean.astype(np.float64) @ W
            W, b = W.astype(self.W.dtype), b.astype(self.W.dtype)
        if not (np.isfinite(W).all() and np.isfinite(b).all()):
            raise ValueError(
                "a Standardize can be exported where the first weights over its deviations are "
                f"finite in {self.W.dtype}; got some that are not. Compute in float64."
            )
        return PlainLayer(W, b, self.activation)

    def scaled_by(self, scale: TargetScale) -> PlainLayer:
        """Return a last layer that gives outputs in the targets' units.

        Raises
        ------
        ValueError
            If a weight or bias of it is no number of the dtype.
        """
        W, b = scale.folded(self.W, self.b)
        if not (np.isfinite(W).all() and np.isfinite(b).all()):
            raise ValueError(
                "a network with scale_targets can be exported where its last weights times the "
                f"deviations of the targets are finite in {self.W.dtype}; got some that are not. "
                "Compute in float64."
            )
        return PlainLayer(W, b, self.activation)


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

    def drawn(self, X: Floats) -> Floats:
        """Return rows with codes in the columns that hold some."""
        rng = np.random.default_rng(1)
        for column, table in self.tables:
            X[:, column] = rng.integers(len(table), size=len(X))
        return X


@dataclass(frozen=True, slots=True)
class PlainNorm:
    """The arrays of a BatchNorm, (units,) each."""

    scale: Floats
    shift: Floats
    mean: Floats
    variance: Floats


@dataclass(frozen=True, slots=True)
class PlainNetwork:
    """Dense layers in order; dropouts are omitted, and a Standardize is in the first weights.

    The units of scaled targets are in the last ones, and a BatchNorm is in those beside it.

    Attributes
    ----------
    layers : tuple of PlainLayer
        At least one.
    dtype : numpy.dtype
        Of all arrays.
    classes : ndarray or None
        Labels of the outputs; of one output those of its low and its high side.
    embedding : PlainEmbedding or None
        What stands before the layers where columns hold codes.
    norms : tuple of PlainNorm
        Those that are in no weights, where that was asked for.
    """

    layers: tuple[PlainLayer, ...]
    dtype: np.dtype[Any]
    classes: NDArray[Any] | None
    embedding: PlainEmbedding | None = None
    norms: tuple[PlainNorm, ...] = ()

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
            Whether every BatchNorm stays what it is, unless it stands between a Standardize and
            the first weights.

        Raises
        ------
        ValueError
            If a parameter is not finite, or a layer is of a kind that no export knows.
        """
        if not np.isfinite(parameters).all():
            raise ValueError(
                "a network can be exported if all of its parameters are finite; "
                f"got {np.count_nonzero(~np.isfinite(parameters))} that are not."
            )
        rest = list(layout.without_training().operations)
        scale = rest.pop(0) if rest[0].kind.code == codes.STANDARDIZE else None
        coded = rest.pop(0) if rest[0].kind.code == codes.EMBEDDING else None
        for one in rest:
            if not one.kind.answered and one.kind.code != codes.BATCH_NORM:
                raise ValueError(
                    "a network of Dense, BatchNorm and Dropout layers, with or without a "
                    "Standardize and an Embedding before them, can be exported; got a "
                    f"{one.kind.name} as layer {one.name}."
                )
        for block in layout.blocks:
            if block.activation in own.ACTIVATIONS:
                raise ValueError(
                    "a network of the library's own activations can be exported; got "
                    f"{block.activation!r}, one of yours, as layer {block.name}."
                )
        held = parameters.copy()
        norms: tuple[PlainNorm, ...] = ()
        if apart and not (scale is not None and rest[0].kind.code == codes.BATCH_NORM):
            norms = _norms(layout, held)
        elif (folding := Folding.of(layout)) is not None:
            # What stands in front lies where it did.
            layout, held = folding.layout, _folded(folding, held)
        arrays = zip(layout.blocks, layout.weights(held), layout.biases(held), strict=True)
        layers = [PlainLayer(W, b, block.activation) for block, W, b in arrays]
        embedding = None
        if coded is not None:
            known = dict(layout.coded)
            embedding = PlainEmbedding(
                layout.inputs,
                tuple(column for column in range(layout.inputs) if column not in known),
                tuple(
                    (column, layout.view(held, entry))
                    for column, entry in zip(known, coded.parameters, strict=True)
                ),
            )
        if scale is not None:
            mean, deviation = (layout.view(held, entry) for entry in scale.parameters)
            if embedding is not None:
                passing = list(embedding.passing)
                vectors = embedding.outputs - len(passing)
                mean = np.append(mean[passing], np.zeros(vectors, mean.dtype))
                deviation = np.append(deviation[passing], np.ones(vectors, mean.dtype))
            layers[0] = layers[0].behind(mean, deviation)
        if layout.scale is not None:
            layers[-1] = layers[-1].scaled_by(layout.scale)
        labels = None if classes is None else classes.copy()
        return cls(tuple(layers), parameters.dtype, labels, embedding, norms)

    @property
    def inputs(self) -> int:
        """Number of features."""
        return self.layers[0].inputs if self.embedding is None else self.embedding.inputs

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.layers[-1].outputs

    @property
    def sizes(self) -> str:
        """Widths, as in ``8-64-64-2``."""
        return "-".join(map(str, (self.inputs, *(layer.outputs for layer in self.layers))))

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        tables = () if self.embedding is None else self.embedding.tables
        return sum(table.size for _, table in tables) + sum(
            layer.W.size + (0 if layer.b is None else layer.b.size) for layer in self.layers
        )

    @property
    def threshold(self) -> float | None:
        """The threshold of one output for the second class; None where there are several."""
        if self.outputs > 1:
            return None
        return 0.5 if self.layers[-1].activation in ("sigmoid", "hard_sigmoid") else 0.0

    @property
    def classifies(self) -> bool:
        """Whether all outputs together name one class."""
        last = self.layers[-1].activation
        if self.outputs == 1:
            return last == "sigmoid" if self.classes is None else len(self.classes) == 2
        # Several sigmoids are separate binary outputs, not one choice among several.
        return last == "softmax" or (self.classes is not None and "sigmoid" not in last)

    def predictions(self, X: Floats) -> Floats:
        """Return the textbook's outputs (n, m) in float64, which is exact compared with float32."""
        W = [layer.W.T.astype(np.float64) for layer in self.layers]
        b = [
            None if lay.b is None else lay.b[:, np.newaxis].astype(np.float64)
            for lay in self.layers
        ]
        X = X.astype(np.float64) if self.embedding is None else self.embedding(X)
        with np.errstate(all="ignore"):
            names = [layer.activation for layer in self.layers]
            return np.asarray(reference.forward(W, b, names, X.T)[1][-1].T)

    def places(self, outputs: Floats) -> NDArray[np.intp]:
        """Return the class of each row of outputs (n, m), as its place among the labels."""
        if self.threshold is not None:
            return (outputs[:, 0] > self.threshold).astype(np.intp)
        return np.asarray(outputs.argmax(axis=1))

    def with_weights(self, weights: list[Floats]) -> PlainNetwork:
        """Return the network with other weights, and its biases."""
        pairs = zip(self.layers, weights, strict=True)
        return replace(self, layers=tuple(replace(layer, W=W) for layer, W in pairs))


def _norms(layout: Layout, held: Floats) -> tuple[PlainNorm, ...]:
    """Return the arrays of every BatchNorm."""
    return tuple(
        PlainNorm(*(layout.view(held, entry) for entry in one.parameters + one.buffers))
        for one in layout.operations
        if one.kind.code == codes.BATCH_NORM
    )


def _folded(folding: Folding, held: Floats) -> Floats:
    """Return parameters with every BatchNorm in them, computed in float64."""
    with np.errstate(over="ignore"):
        folded = folding(held.astype(np.float64)).astype(held.dtype)
    if not np.isfinite(folded).all():
        raise ValueError(
            "a BatchNorm can be exported where the weights beside it over its deviations are "
            f"finite in {held.dtype}; got some that are not. Compute in float64."
        )
    return folded


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
        tolerance = float(np.finfo(network.dtype).eps) * 1000
        return cls(X, network.predictions(X).astype(network.dtype), tolerance)
