"""The textbook's walk over any layers, by the equations of their kinds.

EXAMPLES ARE COLUMNS, as in `reference`, where a chain of fully connected layers stands on one page.
Vectors of parameters, and of the buffers behind them, are those of a layout.  `shares` are the
parts of the examples in a batch of training, which sum to 1; None stands for a prediction, for
which layers take their buffers in place of what they would find in the batch.
"""

# NumPy types most results as Any, and casts would hide the equations:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import reference
from fastnn.equations import losses, optimizers
from fastnn.kernels import codes
from fastnn.layout import Layout, Operation, seconds
from fastnn.losses import Loss

__all__ = [
    "Drops",
    "Passed",
    "Slopes",
    "Walk",
    "activated",
    "below",
    "clipped",
    "columns",
    "deactivated",
    "given",
    "outputs",
    "slopes",
    "step",
]

Floats: TypeAlias = NDArray[np.floating]
Drops: TypeAlias = Mapping[int, Floats] | None


@dataclass(frozen=True, slots=True)
class Passed:
    """What an operation read, its result without its activation, and with it."""

    source: Floats
    Z: Floats
    A: Floats


@dataclass(frozen=True, slots=True)
class Slopes:
    """The loss's derivatives by an operation's Z and by each of its parameters."""

    dZ: Floats
    parameters: tuple[Floats, ...]


def columns(layout: Layout, vector: Floats, operation: Operation) -> tuple[Floats, ...]:
    """Return an operation's parameters in the textbook's orientation (views)."""
    views = (layout.view(vector, entry) for entry in operation.parameters)
    return tuple(view.T if view.ndim == 2 else view[:, None] for view in views)


def given(
    layout: Layout, vector: Floats, one: Operation, A: Floats, shares: Floats | None
) -> tuple[Floats, ...]:
    """Return what an operation's equations take: its parameters, and statistics if it has some."""
    parameters = columns(layout, vector, one)
    if one.kind.equations.statistics is None:
        return parameters
    if shares is None or not one.whole:
        held = (layout.view(vector, entry)[:, None] for entry in one.buffers)
        return (*parameters, *held, np.zeros((1, 1), vector.dtype))
    return (*parameters, *one.kind.equations.statistics(A, shares), shares)


def activated(one: Operation, Z: Floats) -> Floats:
    """Return ``A = f(Z)``; Z itself where an operation has no activation."""
    return Z if one.activation == "identity" else reference.ACTIVATIONS[one.activation][0](Z)


def deactivated(one: Operation, dA: Floats, seen: Passed) -> Floats:
    """Return ``dZ = dA f'(Z)``."""
    if one.activation == "identity":
        return dA
    return reference.ACTIVATIONS[one.activation][1](dA, seen.Z, seen.A)


def outputs(
    layout: Layout, vector: Floats, X: Floats, operations: Sequence[Operation], D: Drops = None,
    shares: Floats | None = None,
) -> list[Passed]:  # fmt: skip
    """Return what every operation reads and gives; D is what dropouts do, by their places."""
    passed: list[Passed] = []
    for one, second in zip(operations, seconds(operations), strict=True):
        source = passed[-1].A if passed else X
        beside = None if D is None else D.get(one.place)
        if second is not None:
            beside = passed[second].A if second >= 0 else X
        equations = one.kind.equations
        parameters = given(layout, vector, one, source, shares)
        Z = equations.forward(one.layer, parameters, source, beside)
        passed.append(Passed(source, Z, activated(one, Z)))
    return passed


def _back(
    layout: Layout, vector: Floats, operations: Sequence[Operation], passed: Sequence[Passed],
    dZ: Floats, D: Drops, shares: Floats | None, through: bool,
) -> tuple[list[Floats], Floats]:  # fmt: skip
    """Return the dZ of every operation, from the last one's; and dX if that is asked for."""
    beside = seconds(operations)
    found = [dZ]
    # The derivatives of sums by the operations that they read beside, -1 for X.
    added: dict[int, Floats] = {}
    for place in reversed(range(0 if through else 1, len(operations))):
        one, seen, second = operations[place], passed[place], beside[place]
        parameters = given(layout, vector, one, seen.source, shares)
        mask = None if D is None else D.get(one.place)
        dA = one.kind.equations.backward(one.layer, parameters, seen.source, seen.Z, dZ, mask)
        if second is not None:
            added[second] = added[second] + dZ if second in added else dZ
        if place - 1 in added:
            dA = dA + added[place - 1]
        if place == 0:
            return found[::-1], dA
        dZ = deactivated(operations[place - 1], dA, passed[place - 1])
        found.append(dZ)
    return found[::-1], dZ


def below(
    layout: Layout, vector: Floats, operations: Sequence[Operation], passed: Sequence[Passed],
    dZ: Floats, D: Drops = None, shares: Floats | None = None,
) -> Floats:  # fmt: skip
    """Return the derivative by what the first operation reads, from the last one's dZ."""
    return _back(layout, vector, operations, passed, dZ, D, shares, True)[1]


def slopes(
    layout: Layout, vector: Floats, operations: Sequence[Operation], passed: Sequence[Passed],
    dZ: Floats, D: Drops = None, shares: Floats | None = None,
) -> list[Floats]:  # fmt: skip
    """Return the dZ of every operation, from the last one's."""
    return _back(layout, vector, operations, passed, dZ, D, shares, False)[0]


@dataclass(frozen=True, slots=True)
class Walk:
    """A pass over a batch, forward and backward.

    Attributes
    ----------
    layout : Layout
        Of the network.
    vector : ndarray
        Its parameters.
    loss : Loss
        In which it ends.
    batch : tuple of ndarray
        X, Y and w of the batch, examples as columns; w may be None.
    limit : float
        The most that a cross-entropy counts.
    D : mapping of int to ndarray, or None
        What each dropout does, by its place; None where nothing is dropped.
    training : bool
        Whether it is training's view of the batch, not that of predictions.
    """

    layout: Layout
    vector: Floats
    loss: Loss
    batch: tuple[Floats, Floats, Floats | None]
    limit: float = math.inf
    D: Drops = None
    training: bool = True

    @property
    def shares(self) -> Floats | None:
        """The part of each example in the batch; None for predictions' view."""
        X, _, w = self.batch
        if not self.training:
            return None
        if w is None:
            return np.full((1, X.shape[1]), 1.0 / X.shape[1], self.vector.dtype)
        return (w / w.sum(dtype=float)).astype(self.vector.dtype)[None]

    def forward(self) -> list[Passed]:
        """Return what every operation gives."""
        operations = self.layout.operations
        return outputs(self.layout, self.vector, self.batch[0], operations, self.D, self.shares)

    def followed(self, passed: Sequence[Passed]) -> Floats:
        """Return the vector with buffers that have followed the batch, if several examples count.

        ``running = momentum running + (1 - momentum) batch``.
        """
        after, shares = self.vector.copy(), self.shares
        assert shares is not None
        for one, seen in zip(self.layout.operations, passed, strict=True):
            statistics = one.kind.equations.statistics
            if statistics is None or not one.whole or np.count_nonzero(shares) < 2:
                continue
            layer: Any = one.layer
            for entry, batch in zip(one.buffers, statistics(seen.source, shares), strict=True):
                running, momentum = self.layout.view(after, entry), after.dtype.type(layer.momentum)
                running[:] = momentum * running + (1 - momentum) * batch[:, 0]
        return after

    def mean_loss(self, passed: Sequence[Passed]) -> float:
        """Return the mean loss of the last operation's result, without L2."""
        (_, Y, w), last = self.batch, passed[-1]
        return reference.mean_loss(
            self.loss.name, self.layout.operations[-1].activation, last.Z, last.A, Y, w,
            self.limit, **self.loss.settings,
        )  # fmt: skip

    def backward(self, passed: Sequence[Passed]) -> list[Slopes]:
        """Return every operation's derivatives."""
        operations, (_, Y, w), last = self.layout.operations, self.batch, passed[-1]
        dZ = reference.output_gradient(
            self.loss.name, operations[-1].activation, last.Z, last.A, Y, w, **self.loss.settings
        )
        shares = self.shares
        every = slopes(self.layout, self.vector, operations, passed, dZ, self.D, shares)
        found: list[Slopes] = []
        for one, seen, slope in zip(operations, passed, every, strict=True):
            parameters = given(self.layout, self.vector, one, seen.source, shares)
            gradient = one.kind.equations.gradient
            found.append(Slopes(slope, gradient(one.layer, parameters, seen.source, seen.Z, slope)))
        return found

    def penalty(self, share: float) -> float:
        """Return the L1 and L2 penalties of all weights, of which a share counts."""
        blocks = self.layout.blocks
        W = [columns(self.layout, self.vector, one)[0] for one in blocks]
        l1, l2 = [one.l1 * share for one in blocks], [one.l2 * share for one in blocks]
        return losses.l1_penalty(W, l1) + reference.l2_penalty(W, l2)

    def gradient(self, slopes: Sequence[Slopes], scale: float, share: float) -> Floats:
        """Return the flat gradient: scaled, with that of penalties; zero for what is frozen."""
        flat = np.zeros(self.layout.size, self.vector.dtype)
        for one, slope in zip(self.layout.operations, slopes, strict=True):
            if not one.trainable:
                continue
            into = columns(self.layout, flat, one)
            for number, (to, g) in enumerate(zip(into, slope.parameters, strict=True)):
                to[:] = scale * g
                if one.kind.form == codes.MATRIX and number == 0:
                    W = columns(self.layout, self.vector, one)[0]
                    to += reference.l2_gradient([W], [one.l2 * share])[0]
                    to += losses.l1_gradient([W], [one.l1 * share])[0]
        return flat


def clipped(layout: Layout, gradient: Floats, limit: float) -> Floats:
    """Return a flat gradient with its length limited."""
    flat = gradient.copy()
    W: list[Floats] = []
    others: list[Floats] = []
    for one in layout.operations:
        first = 1 if one.kind.form == codes.MATRIX else 0
        arrays = columns(layout, flat, one)
        W += arrays[:first]
        others += arrays[first:]
    of_W, of_others = reference.clipped(W, others, limit)
    for array, shorter in zip([*W, *others], [*of_W, *of_others], strict=True):
        assert shorter is not None
        array[:] = shorter
    return flat


def step(
    layout: Layout, vector: Floats, gradient: Floats, moments: Sequence[Floats], rule: Any,
    t: int, hyper: dict[str, float],
) -> list[Floats]:  # fmt: skip
    """Return parameters and moments after a step; what is no matrix does not decay.

    Weights that have bounds are brought within them.
    """
    after = [vector.copy(), *(moment.copy() for moment in moments)]
    every = hyper
    for one in layout.operations:
        if not one.trainable:
            continue
        hyper = {**every, "learning_rate": every["learning_rate"] * one.rate_scale}
        if one.decay is not None:
            hyper["weight_decay"] = one.decay
        for number, entry in enumerate(one.parameters):
            matrix = one.kind.form == codes.MATRIX and number == 0
            numbers = hyper if matrix else {**hyper, "weight_decay": 0.0}
            theta, g, *state = (layout.view(flat, entry) for flat in (vector, gradient, *moments))
            theta, state = rule(theta, g, tuple(state), t, numbers)
            for to, new in zip(after, (theta, *state), strict=True):
                layout.view(to, entry)[:] = new
        if one.bounded:
            W = columns(layout, after[0], one)[0]
            W[:] = optimizers.bounded(W, one.max_norm, one.non_negative)
    return after
