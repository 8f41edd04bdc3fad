"""What a path computes: native and textbook are two of them, with one interface.

A path takes a layout and a flat vector of parameters, never a network.  Arrays have passed the
gate.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn.conventions import OWN, Conventions
from fastnn.data import Data
from fastnn.layout import Layout, Operation
from fastnn.losses import Loss
from fastnn.sparse import SparseRows
from fastnn.tracing import Trace

if TYPE_CHECKING:
    from fastnn.equations.search import Curvature
    from fastnn.fitting.jobs import Job
    from fastnn.fitting.least_squares import Squares
    from fastnn.fitting.quasi_newton import Search
    from fastnn.fitting.runs import Run
    from fastnn.fitting.steppers import Applying

__all__ = ["MeanLoss", "Passes", "Path", "Slope"]

Floats = NDArray[np.floating]


class MeanLoss:
    """Mean loss, without L2, of the same examples at every call's parameters.

    Parameters
    ----------
    layout, parameters, loss
        Of the network; parameters are read at every call.
    data : Data
        The examples.
    parts : sequence of slice
        Of which as many are computed at a time; between two of them Ctrl-C takes effect.
    conventions : Conventions
        How losses count.
    out : ndarray (n, outputs) or None
        Where to write the outputs from which the loss is computed.
    """

    def __init__(
        self, layout: Layout, parameters: Floats, loss: Loss, data: Data, parts: Sequence[slice],
        conventions: Conventions, out: Floats | None,
    ) -> None:  # fmt: skip
        self._asked = layout, parameters, loss
        self._conventions = conventions
        self._parts = [data.part(one) for one in parts]
        self._outs = [None if out is None else out[one] for one in parts]

    def __call__(self) -> float:
        """Return the loss."""
        if len(self._parts) == 1:  # Times its weight and by it again has other bits.
            return self._of(self._parts[0], self._outs[0])
        summed = total = 0.0
        for part, out in zip(self._parts, self._outs, strict=True):
            weight = part.total
            if weight != 0.0:
                summed += weight * self._of(part, out)
                total += weight
        return summed / total

    @abstractmethod
    def _of(self, part: Data, out: Floats | None) -> float:
        """Return the mean loss of as many examples as one call takes."""


class Slope(Protocol):
    """Training loss, with L2, of the same examples and its gradient, at every call's parameters."""

    asked: tuple[Layout, Floats, Loss, Data]
    run: Run | None  # what computes natively

    def __call__(self) -> tuple[float, Floats]:
        """Return the loss and its gradient, flat; the next call may write over the gradient."""


class Passes(Protocol):
    """Passes with dropout, forward only, by one vector of parameters."""

    def __call__(self, X: Floats | SparseRows, number: int) -> Floats:
        """Return the outputs for some rows, in the targets' units; the next call may write there.

        The number is that of the stream which says what is kept.
        """


class Path(Protocol):
    """Computes everything that there is to compute, in its own way."""

    #: Its name, as users give it.
    name: ClassVar[str]
    #: Whether it is the engine, which may measure epochs by itself, and for which single calls keep
    #: what they planned.  Its passes end in Z where a loss is fused with the last activation.
    by_engine: ClassVar[bool]

    def predictions(
        self, layout: Layout, parameters: Floats, X: Floats | SparseRows, *,
        operations: Sequence[Operation] | None = None, out: Floats | None = None,
    ) -> Floats:  # fmt: skip
        """Return the result of the last of the operations (default: all) for every example."""

    def passes(self, layout: Layout, parameters: Floats, key: int, most: int) -> Passes:
        """Return what predicts for at most so many rows with dropout, by the masks of a key."""

    def mean_loss(
        self, layout: Layout, parameters: Floats, loss: Loss, data: Data,
        conventions: Conventions = OWN, out: Floats | None = None,
    ) -> MeanLoss:  # fmt: skip
        """Return what gives the mean loss; out gets outputs, Z where the loss is fused."""

    def slope(
        self, layout: Layout, parameters: Floats, loss: Loss, data: Data,
        conventions: Conventions = OWN, threads: int | None = None,
    ) -> Slope:  # fmt: skip
        """Return what gives the training loss and its gradient."""

    def trace(self, layout: Layout, parameters: Floats, loss: Loss, data: Data) -> Trace:
        """Return every intermediate of one pass over the examples, taken as one batch."""

    def derivatives(
        self, layout: Layout, parameters: Floats, X: Floats, name: str, V: Floats | None
    ) -> Floats:
        """Return derivatives of the outputs, or products with them; see `derivatives.MODES`."""

    def draw_order(self, order: NDArray[np.int64], key: int, number: int) -> None:
        """Write an order of examples, the same on both paths."""

    def stepper(self, job: Job) -> Applying:
        """Return what takes a fit's steps."""

    def search(
        self, start: NDArray[np.floating[Any]], memory: int, tolerance: float,
        known: Curvature | None = None,
    ) -> Search:  # fmt: skip
        """Return a search by L-BFGS that begins at a point.

        It keeps as many pairs as memory says, those of known first, where they are of its size;
        it ends where no element of the gradient is larger than the tolerance.
        """

    def squares(self, layout: Layout, X: Floats) -> Squares:
        """Return what solves for steps that lower squared errors."""
