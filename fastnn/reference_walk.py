"""The textbook's walk over any layers, by the equations of their kinds.

EXAMPLES ARE COLUMNS, as in `reference`, where a chain of fully connected layers stands on one page.
Vectors of parameters are those of a layout.
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
from fastnn.kernels import codes
from fastnn.layout import Layout, Operation, seconds
from fastnn.losses import Loss

__all__ = [
    "Drops",
    "Passed",
    "Slopes",
    "Walk",
    "below",
    "clipped",
    "columns",
    "deactivated",
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


def _activated(one: Operation, Z: Floats) -> Floats:
    """Return ``A = f(Z)``; Z itself where an operation has no activation."""
    return Z if one.activation == "identity" else reference.ACTIVATIONS[one.activation][0](Z)


def deactivated(one: Operation, dA: Floats, seen: Passed) -> Floats:
    """Return ``dZ = dA f'(Z)``."""
    if one.activation == "identity":
        return dA
    return reference.ACTIVATIONS[one.activation][1](dA, seen.Z, seen.A)


def outputs(
    layout: Layout, vector: Floats, X: Floats, operations: Sequence[Operation], D: Drops = None
) -> list[Passed]:
    """Return what every operation reads and gives; D is what dropouts do, by their places."""
    passed: list[Passed] = []
    for one, second in zip(operations, seconds(operations), strict=True):
        source = passed[-1].A if passed else X
        beside = None if D is None else D.get(one.place)
        if second is not None:
            beside = passed[second].A if second >= 0 else X
        equations = one.kind.equations
        Z = equations.forward(one.layer, columns(layout, vector, one), source, beside)
        passed.append(Passed(source, Z, _activated(one, Z)))
    return passed


def _back(
    layout: Layout, vector: Floats, operations: Sequence[Operation], passed: Sequence[Passed],
    dZ: Floats, D: Drops, through: bool,
) -> tuple[list[Floats], Floats]:  # fmt: skip
    """Return the dZ of every operation, from the last one's; and dX if that is asked for."""
    beside = seconds(operations)
    found = [dZ]
    # The derivatives of sums by the operations that they read beside, -1 for X.
    added: dict[int, Floats] = {}
    for place in reversed(range(0 if through else 1, len(operations))):
        one, seen, second = operations[place], passed[place], beside[place]
        parameters = columns(layout, vector, one)
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
    dZ: Floats, D: Drops = None,
) -> Floats:  # fmt: skip
    """Return the derivative by what the first operation reads, from the last one's dZ."""
    return _back(layout, vector, operations, passed, dZ, D, True)[1]


def slopes(
    layout: Layout, vector: Floats, operations: Sequence[Operation], passed: Sequence[Passed],
    dZ: Floats, D: Drops = None,
) -> list[Floats]:  # fmt: skip
    """Return the dZ of every operation, from the last one's."""
    return _back(layout, vector, operations, passed, dZ, D, False)[0]


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
    """

    layout: Layout
    vector: Floats
    loss: Loss
    batch: tuple[Floats, Floats, Floats | None]
    limit: float = math.inf
    D: Drops = None

    def forward(self) -> list[Passed]:
        """Return what every operation gives."""
        return outputs(self.layout, self.vector, self.batch[0], self.layout.operations, self.D)

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
        every = slopes(self.layout, self.vector, operations, passed, dZ, self.D)
        found: list[Slopes] = []
        for one, seen, slope in zip(operations, passed, every, strict=True):
            parameters = columns(self.layout, self.vector, one)
            gradient = one.kind.equations.gradient
            found.append(Slopes(slope, gradient(one.layer, parameters, seen.source, seen.Z, slope)))
        return found

    def penalty(self, share: float) -> float:
        """Return the L2 penalty of all weights, of which a share counts."""
        blocks = self.layout.blocks
        W = [columns(self.layout, self.vector, one)[0] for one in blocks]
        return reference.l2_penalty(W, [one.l2 * share for one in blocks])

    def gradient(self, slopes: Sequence[Slopes], scale: float, share: float) -> Floats:
        """Return the gradient as a flat vector: scaled, with L2's; zero for what is frozen."""
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
    """Return parameters and moments after a step; what is no matrix does not decay."""
    after = [vector.copy(), *(moment.copy() for moment in moments)]
    for one in layout.operations:
        if not one.trainable:
            continue
        for number, entry in enumerate(one.parameters):
            matrix = one.kind.form == codes.MATRIX and number == 0
            numbers = hyper if matrix else {**hyper, "weight_decay": 0.0}
            theta, g, *state = (layout.view(flat, entry) for flat in (vector, gradient, *moments))
            theta, state = rule(theta, g, tuple(state), t, numbers)
            for to, new in zip(after, (theta, *state), strict=True):
                layout.view(to, entry)[:] = new
    return after
