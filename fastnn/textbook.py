"""The textbook's path: the equations of `reference.py`, walked over any layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn import gate
from fastnn.conventions import OWN, Conventions
from fastnn.data import Data
from fastnn.equations import derivatives as reference_derivatives
from fastnn.equations import draws as reference_draws
from fastnn.equations import walk as reference_walk
from fastnn.equations.search import Textbook as TextbookSearch
from fastnn.equations.walk import Drops, Walk
from fastnn.fitting.jobs import Job
from fastnn.fitting.least_squares import TextbookSquares
from fastnn.fitting.quasi_newton import REDUCTION, Curvature
from fastnn.fitting.runs import Run
from fastnn.fitting.steppers import ReferenceStepper, drawn
from fastnn.kernels import codes
from fastnn.layout import Layout, Operation, aligned_zeros
from fastnn.losses import Loss
from fastnn.path import MeanLoss, Path
from fastnn.predicting.predictor import slices
from fastnn.sparse import SparseRows
from fastnn.tracing import Trace

__all__ = ["Textbook", "textbook_trace"]

Floats = NDArray[np.floating]

# Elements of sparse examples that are densified at a time.
_WRITTEN_OUT = 1 << 22


class Textbook(Path):
    """Computes by the textbook's equations, in NumPy."""

    name: ClassVar[str] = "reference"
    by_engine: ClassVar[bool] = False

    def predictions(
        self, layout: Layout, parameters: Floats, X: Floats | SparseRows, *,
        operations: Sequence[Operation] | None = None, out: Floats | None = None,
    ) -> Floats:  # fmt: skip
        """Return the result of the last of the operations (default: all) for every example."""
        chosen = layout.operations if operations is None else operations
        chosen = tuple(one for one in chosen if not one.kind.in_training)
        if out is None:
            out = np.empty((len(X), chosen[-1].outputs), parameters.dtype)
        if layout.coded and not isinstance(X, SparseRows):
            gate.codes(X, layout.coded, "x")
        for rows in _parts(X, chosen):
            with np.errstate(all="ignore"):
                passed = reference_walk.outputs(layout, parameters, X[rows].T, chosen)
                out[rows] = passed[-1].A.T
        if layout.scale is not None and layout.units(chosen, out.dtype) is not None:
            layout.scale.bring_back(out)
        return out

    def passes(self, layout: Layout, parameters: Floats, key: int, most: int) -> _Passes:
        """Return what predicts with dropout, by the masks of a key."""
        return _Passes(layout, parameters, key)

    def mean_loss(
        self, layout: Layout, parameters: Floats, loss: Loss, data: Data,
        conventions: Conventions = OWN, out: Floats | None = None,
    ) -> MeanLoss:  # fmt: skip
        """Return what gives the mean loss."""
        parts = _parts(data.X, layout.operations)
        return _Loss(layout, parameters, loss, data, parts, conventions, out)

    def slope(
        self, layout: Layout, parameters: Floats, loss: Loss, data: Data,
        conventions: Conventions = OWN, threads: int | None = None,
    ) -> _Slope:  # fmt: skip
        """Return what gives the training loss and its gradient."""
        return _Slope(layout, parameters, loss, data, conventions)

    def trace(self, layout: Layout, parameters: Floats, loss: Loss, data: Data) -> Trace:
        """Return every intermediate of one pass over the examples, taken as one batch."""
        return textbook_trace(layout, parameters, loss, data)

    def derivatives(
        self, layout: Layout, parameters: Floats, X: Floats, name: str, V: Floats | None
    ) -> Floats:
        """Return derivatives of the outputs, or products with them."""
        with np.errstate(all="ignore"):
            found: Floats = getattr(reference_derivatives, name)(layout, parameters, X, V)
        return np.asarray(found, parameters.dtype)

    def draw_order(self, order: NDArray[np.int64], key: int, number: int) -> None:
        """Write an order of examples."""
        order[:] = reference_draws.permutation(key, number, len(order))

    def stepper(self, job: Job) -> ReferenceStepper:
        """Return what takes a fit's steps."""
        return ReferenceStepper(job)

    def search(
        self, start: NDArray[np.floating[Any]], memory: int, tolerance: float,
        known: Curvature | None = None,
    ) -> TextbookSearch:  # fmt: skip
        """Return a search by L-BFGS that begins at a point."""
        return TextbookSearch(start, memory, tolerance, REDUCTION, known)

    def squares(self, layout: Layout, X: Floats) -> TextbookSquares:
        """Return what solves for steps that lower squared errors."""
        return TextbookSquares(layout, X)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def _parts(X: Floats | SparseRows, operations: Sequence[Operation]) -> list[slice]:
    """Divide examples, dense or sparse, so that Ctrl-C takes effect between the parts."""
    if not isinstance(X, SparseRows):
        return slices(len(X), operations)
    rows = max(1, _WRITTEN_OUT // X.width)
    return [slice(start, start + rows) for start in range(0, len(X), rows)]


class _Passes:
    """Passes with dropout by the textbook; see `path.Passes`."""

    def __init__(self, layout: Layout, parameters: Floats, key: int) -> None:
        self._layout, self._parameters, self._key = layout, parameters, key

    def __call__(self, X: Floats | SparseRows, number: int) -> Floats:
        """Return the outputs for some rows."""
        layout, parameters = self._layout, self._parameters
        drops = drawn(layout, self._key, number, len(X), parameters.dtype)
        with np.errstate(all="ignore"):
            passed = reference_walk.outputs(layout, parameters, X.T, layout.operations, drops)
            out = np.ascontiguousarray(passed[-1].A.T)
        if layout.scale is not None:
            layout.scale.bring_back(out)
        return out


class _Loss(MeanLoss):
    """Mean loss by the textbook."""

    def _of(self, part: Data, out: Floats | None) -> float:
        """Return the mean loss of as many examples as one call takes."""
        layout, parameters, loss = self._asked
        conventions = self._conventions
        batch = part.columns(layout.outputs)
        walk = Walk(layout, parameters, loss, batch, conventions.loss_limit, training=False)
        with np.errstate(all="ignore"):
            passed = walk.forward()
            if out is not None:
                out[:] = passed[-1].A.T
            return conventions.loss_scale * walk.mean_loss(passed)


class _Slope:
    """Training loss and gradient by the textbook; see `path.Slope`."""

    def __init__(
        self, layout: Layout, parameters: Floats, loss: Loss, data: Data, conventions: Conventions
    ) -> None:
        self.asked = layout, parameters, loss, data
        self.run: Run | None = None
        self._conventions = conventions
        self._gradient = aligned_zeros(layout.size, parameters.dtype)

    def __call__(self) -> tuple[float, Floats]:
        """Return the loss and its gradient, flat; the next call may write over the gradient."""
        layout, parameters, loss, data = self.asked
        scales, limit = self._conventions.scales, self._conventions.loss_limit
        share = 1.0 / data.total if self._conventions.shared_penalty else 1.0
        walk = Walk(layout, parameters, loss, data.columns(layout.outputs), limit)
        with np.errstate(all="ignore"):
            passed = walk.forward()
            value = walk.mean_loss(passed)
            self._gradient[:] = walk.gradient(walk.backward(passed), scales[1], share)
            return scales[0] * value + float(walk.penalty(share)), self._gradient


def textbook_trace(
    layout: Layout,
    parameters: Floats,
    loss: Loss,
    data: Data,
    D: Drops = None,
) -> Trace:
    """Return every intermediate on the reference, of a step of training where D is given."""
    operations = layout.operations
    walk = Walk(layout, parameters, loss, data.columns(layout.outputs), D=D)
    with np.errstate(all="ignore"):
        passed = walk.forward()
        value = walk.mean_loss(passed)
        slopes = walk.backward(passed)
        gradient = walk.gradient(slopes, 1.0, 0.0)
        dX = reference_walk.below(
            layout, parameters, operations, passed, slopes[-1].dZ, D, walk.shares
        )
    dense = [place for place, one in enumerate(operations) if one.kind.form == codes.MATRIX]
    return Trace(
        loss=value,
        Z=[np.ascontiguousarray(passed[place].Z.T) for place in dense],
        A=[np.ascontiguousarray(passed[place].A.T) for place in dense],
        dZ=[np.ascontiguousarray(slopes[place].dZ.T) for place in dense],
        dW=layout.weights(gradient),
        db=layout.biases(gradient),
        dX=np.ascontiguousarray(dX.T),
    )
