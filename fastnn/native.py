"""The native path: predictions by their kernels, all else by the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn.conventions import OWN, Conventions
from fastnn.data import Data
from fastnn.derivatives import MODES, Derivatives
from fastnn.equations import walk as reference_walk
from fastnn.fitting.jobs import Job
from fastnn.fitting.least_squares import NativeSquares
from fastnn.fitting.quasi_newton import REDUCTION, Curvature, NativeSearch
from fastnn.fitting.runs import Run, mean_of
from fastnn.fitting.steppers import NativeStepper
from fastnn.kernels import codes
from fastnn.kernels._load import load_kernels
from fastnn.layout import Layout, Operation, aligned_zeros, seconds
from fastnn.losses import Loss
from fastnn.path import MeanLoss, Path
from fastnn.predicting.predictor import Predictor, slices
from fastnn.predicting.walking import predictor_of
from fastnn.sparse import SparseRows
from fastnn.textbook import Textbook, textbook_trace
from fastnn.tracing import Trace

__all__ = ["Native"]

Floats = NDArray[np.floating]


class Native(Path):
    """Computes by compiled kernels."""

    name: ClassVar[str] = "native"
    by_engine: ClassVar[bool] = True

    def predictions(
        self, layout: Layout, parameters: Floats, X: Floats | SparseRows, *,
        operations: Sequence[Operation] | None = None, out: Floats | None = None,
    ) -> Floats:  # fmt: skip
        """Return the result of the last of the operations (default: all) for every example."""
        predictor = predictor_of(layout, parameters.dtype, operations)
        if out is None:
            out = np.empty((len(X), predictor.outputs), parameters.dtype)
        if isinstance(X, SparseRows):
            predictor.sparse(parameters, X, out)
        else:
            predictor(parameters, X, out)
        return out

    def passes(self, layout: Layout, parameters: Floats, key: int, most: int) -> _Passes:
        """Return what predicts for at most so many rows with dropout, by the masks of a key."""
        return _Passes(layout, parameters, key, most)

    def mean_loss(
        self, layout: Layout, parameters: Floats, loss: Loss, data: Data,
        conventions: Conventions = OWN, out: Floats | None = None,
    ) -> MeanLoss:  # fmt: skip
        """Return what gives the mean loss; out gets Z where the loss is fused with the last A."""
        parts = slices(len(data.X), layout.operations)
        return _Loss(layout, parameters, loss, data, parts, conventions, out)

    def slope(
        self, layout: Layout, parameters: Floats, loss: Loss, data: Data,
        conventions: Conventions = OWN, threads: int | None = None,
    ) -> _Slope:  # fmt: skip
        """Return what gives the training loss and its gradient."""
        return _Slope(layout, parameters, loss, data, conventions, threads)

    def trace(self, layout: Layout, parameters: Floats, loss: Loss, data: Data) -> Trace:
        """Return every intermediate of one pass over the examples, taken as one batch."""
        layout = layout.without_training().with_scale(None)
        operations = layout.operations
        run = Run(operations, parameters.dtype, data, loss, gradient=True, keep=True, penalty=False)
        run.load(parameters)
        value = mean_of(run(codes.GRADIENT))
        gradient = aligned_zeros(layout.size, parameters.dtype)
        run.store(gradient, place=1)
        dense = run.program.table[0, run.program.table["form"][0] == codes.MATRIX]

        def kept(place: str) -> list[Floats]:
            return [run.rows_at(int(row[place]), int(row["outputs"])) for row in dense]

        A, dZ = kept("result"), kept("dresult")
        # A matched loss stops at Z of the last layer, so its prediction is computed for itself.
        if any(one.whole for one in operations):
            # As training sees it, not as predictions do.
            with np.errstate(all="ignore"):
                last = reference_walk.activated(operations[-1], kept("Z")[-1].T)
            A[-1] = np.ascontiguousarray(last.T)
        else:
            A[-1] = self.predictions(layout, parameters, data.X)
        # No step asks for it, so that the engine does not compute it.
        first = operations.index(layout.blocks[0])
        before = operations[:first]
        with np.errstate(all="ignore"):
            dX = dZ[0] @ layout.weights(parameters)[0].T
            beside = any(second is not None and second < first for second in seconds(operations))
            if beside or any(one.whole for one in before):
                # A sum reads X, or what comes of it before the first product; or rows hang on
                # each other.
                dX = textbook_trace(layout, parameters, loss, data).dX
            elif before:
                X = data.columns(layout.outputs)[0]
                passed = reference_walk.outputs(layout, parameters, X, before)
                dX = reference_walk.below(layout, parameters, before, passed, dX.T).T
        return Trace(
            loss=value,
            Z=kept("Z"),
            A=A,
            dZ=dZ,
            dW=layout.weights(gradient),
            db=layout.biases(gradient),
            dX=np.ascontiguousarray(dX),
        )

    def derivatives(
        self, layout: Layout, parameters: Floats, X: Floats, name: str, V: Floats | None
    ) -> Floats:
        """Return derivatives of the outputs, or products with them.

        What the kernels do not know goes by the textbook.
        """
        if not (Derivatives.serve(layout) and layout.blocks):
            return Textbook().derivatives(layout, parameters, X, name, V)
        n, m = len(X), layout.outputs
        shape = {
            "jacobian": (n, m, layout.inputs), "vjp": (n, layout.inputs), "jvp": (n, m),
            "parameter_jacobian": (n, m, layout.size),
        }[name]  # fmt: skip
        out = np.empty(shape, parameters.dtype)
        Derivatives(layout, parameters, MODES[name])(X, V, out)
        return out

    def draw_order(self, order: NDArray[np.int64], key: int, number: int) -> None:
        """Write an order of examples."""
        load_kernels()
        from fastnn.kernels.order import draw_order

        draw_order(order, np.array([key, number], np.uint64))

    def stepper(self, job: Job) -> NativeStepper:
        """Return what takes a fit's steps."""
        return NativeStepper(job)

    def search(
        self, start: NDArray[np.floating[Any]], memory: int, tolerance: float,
        known: Curvature | None = None,
    ) -> NativeSearch:  # fmt: skip
        """Return a search by L-BFGS that begins at a point."""
        return NativeSearch(start, memory, tolerance, REDUCTION, known)

    def squares(self, layout: Layout, X: Floats) -> NativeSquares:
        """Return what solves for steps that lower squared errors."""
        return NativeSquares(layout, X)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


class _Passes:
    """Passes with dropout by the engine; see `path.Passes`."""

    def __init__(self, layout: Layout, parameters: Floats, key: int, most: int) -> None:
        self._layout, self._parameters, self._key = layout, parameters, key
        dtype = parameters.dtype
        self._out = np.empty((most, layout.outputs), dtype)
        self._units = layout.units(layout.operations, dtype)
        self._most = most
        self._run: Run | None = None

    def __call__(self, X: Floats | SparseRows, number: int) -> Floats:
        """Return the outputs for some rows; the next call writes over them."""
        data, out = Data.unanswered(X), self._out[: len(X)]
        run = self._run
        if run is None:
            run = Run(
                self._layout.operations, self._parameters.dtype, data,
                batch_size=self._most, dropping=True,
            )  # fmt: skip
            run.load(self._parameters)
        if not isinstance(X, SparseRows):
            # The room of sparse rows is as large as their own entries take.
            self._run = run
        plan = run.program.plan
        plan["mask_key"], plan["step_number"] = self._key, number
        run.hand_out_to(out)
        run.once(codes.FORWARD, data)
        if self._units is not None:
            from fastnn.kernels.scaling import bring_back

            bring_back(out.reshape(-1), self._units)
        return out


class _Loss(MeanLoss):
    """Mean loss by the engine."""

    _run: Run | None = None
    _behind: _Behind | None = None

    def _of(self, part: Data, out: Floats | None) -> float:
        """Return the mean loss of as many examples as one call takes."""
        layout, parameters, loss = self._asked
        run, beside = self._run, 0
        operations = layout.without_training().operations
        if isinstance(part.X, SparseRows) and len(operations) > 1:
            # Packing the first layer's weights may take longer than all else.
            if self._behind is None:
                self._behind = _Behind(layout, parameters)
            part, beside = self._behind(part), operations[0].inputs
            operations = operations[1:]
        if run is None:
            run = Run(
                operations, parameters.dtype, part, loss, conventions=self._conventions,
                penalty=False, beside=beside,
            )  # fmt: skip
        if len(self._parts) == 1:
            # The room of many parts would be as large as their activations together.
            self._run = run
        if out is not None:
            run.hand_out_to(out)
        run.load(parameters)
        return mean_of(run(codes.LOSS))


class _Behind:
    """The first layer's output for sparse examples: dense input of the layers after it."""

    def __init__(self, layout: Layout, parameters: Floats) -> None:
        self._predictor = Predictor(layout, parameters.dtype, layout.blocks[:1])
        self._parameters = parameters
        self._room = np.empty((0, layout.blocks[0].outputs), parameters.dtype)

    def __call__(self, part: Data) -> Data:
        """Return the part by the parameters as they are now; the next call writes over it."""
        assert isinstance(part.X, SparseRows)
        if len(self._room) < len(part):
            self._room = np.empty((len(part), self._room.shape[1]), self._room.dtype)
        room = self._room[: len(part)]
        self._predictor.first(self._parameters, part.X, room)
        hidden = room.view()
        hidden.flags.writeable = False
        return Data(hidden, part.targets, part.weights)


class _Slope:
    """Training loss and gradient by the engine; see `path.Slope`."""

    def __init__(
        self, layout: Layout, parameters: Floats, loss: Loss, data: Data, conventions: Conventions,
        threads: int | None,
    ) -> None:  # fmt: skip
        self.asked = layout, parameters, loss, data
        self.run: Run | None = Run(
            layout.operations, parameters.dtype, data, loss,
            gradient=True, conventions=conventions, threads=threads,
        )  # fmt: skip
        self._gradient = aligned_zeros(layout.size, parameters.dtype)

    def __call__(self) -> tuple[float, Floats]:
        """Return the loss and its gradient, flat; the next call may write over the gradient."""
        assert self.run is not None
        self.run.load(self.asked[1])
        value = mean_of(self.run(codes.GRADIENT))
        self.run.store(self._gradient, place=1)
        return value, self._gradient
