"""Where a described network meets computing without learning: forward, loss, gradient, trace.

Everything here takes a layout and a flat parameter vector, never a network, and runs on the
native kernels or on the textbook reference.  Arrays have passed the gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import reference
from fastnn.data import Data
from fastnn.kernels import codes
from fastnn.layout import Block, Layout, Program, Tiling, aligned_zeros
from fastnn.losses import Loss

__all__ = [
    "Run",
    "Trace",
    "loss_and_gradient",
    "mean_loss",
    "predictions",
    "textbook",
    "trace",
]

Floats = NDArray[np.floating]

# Multiplications and additions that one call takes on without giving Ctrl-C a chance: about
# 0.1 s where the activations, not the products, are the work.
_SLICE_WORK = 200_000_000
_SMALLEST_SLICE = 256


@dataclass(frozen=True, slots=True)
class Trace:
    """The textbook's intermediates of one forward and backward pass.

    Every list has one entry a Dense layer, counted from 0.

    Attributes
    ----------
    loss : float
        Mean loss of the examples, without L2.
    Z : list of ndarray, shape (n, h)
        Weighted sums.
    A : list of ndarray, shape (n, h)
        Activations, ``A[l] = f(Z[l])``; ``A[-1]`` is the prediction.
    dZ : list of ndarray, shape (n, h)
        Gradient of the mean loss with respect to Z.
    dW : list of ndarray, shape (h_in, h_out)
        Gradient with respect to W.
    db : list of ndarray, shape (h_out,), or None
        Gradient with respect to b; None where the layer has no bias.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=2)
    >>> t = net.trace([[1.0, 2.0]], [3.0])
    >>> t.loss, t.db[0]
    (9.0, array([-6.], dtype=float32))
    """

    loss: float
    Z: list[Floats]
    A: list[Floats]
    dZ: list[Floats]
    dW: list[Floats]
    db: list[Floats | None]


class Run:
    """The engine with all it needs for one set of examples: plan, room and arrays.

    Parameters
    ----------
    blocks : sequence of Block
        The layers to walk.
    parameters : ndarray (size,)
        The network's vector.
    data : Data
        Examples.
    loss : Loss or None
        What the run ends in, or None for predictions.
    batch_size : int or None
        Examples a step; None for all of them.
    gradient : bool
        Whether the backward pass is wanted.
    order : ndarray of int64 (n,) or None
        Order of the examples; None for their own.
    **planning
        For `Program.of`.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        parameters: Floats,
        data: Data,
        loss: Loss | None = None,
        *,
        batch_size: int | None = None,
        gradient: bool = False,
        order: NDArray[np.int64] | None = None,
        **planning: bool,
    ) -> None:
        dtype = parameters.dtype
        batch = len(data) if batch_size is None else batch_size
        program = Program.of(
            blocks, batch, _tiling(dtype), loss=loss, gradient=gradient, **planning
        )
        self.program = program
        self.parameters = parameters
        self.gradient = aligned_zeros(parameters.size if gradient else 0, dtype)
        self.workspace = aligned_zeros(program.workspace, dtype)
        self.report = np.zeros(codes.REPORT_ENTRIES)
        self._numbers = np.zeros(codes.NUMBERS)
        self._moments = np.zeros((1, 0), dtype)
        self._out = np.zeros((0, 0), dtype)
        self._picks = np.zeros(program.plan[codes.CHUNK], np.int64)
        self._order = np.zeros(0, np.int64) if order is None else order
        self._data = data
        self._plan = program.plan

    def optimize_with(self, code: int, moments: Floats, numbers: NDArray[np.float64]) -> None:
        """Use an optimizer's rule, its moments and its numbers; both are written by training."""
        self._plan[codes.OPTIMIZER] = code
        self._moments = moments
        self._numbers = numbers

    def predict_into(self, out: Floats) -> None:
        """Write the last layer's result for every example."""
        self._out = out
        self(codes.FORWARD)

    def rows_at(self, place: int, columns: int) -> Floats:
        """Return the rows of a panel matrix in the workspace, as a plain matrix of their own."""
        panel = _tiling(self.parameters.dtype).panel
        across = -(-columns // panel)
        height = int(self._plan[codes.HEIGHT])
        panels = self.workspace[place : place + across * height * panel]
        matrix = panels.reshape(across, height, panel).transpose(1, 0, 2).reshape(height, -1)
        return np.ascontiguousarray(matrix[: len(self._data), :columns])

    def __call__(self, mode: int, first: int = 0, last: int = 0) -> NDArray[np.float64]:
        """Run the engine; return its report."""
        from fastnn.kernels.epoch import engine

        self._plan[codes.MODE] = mode
        self._plan[codes.FIRST_STEP] = first
        self._plan[codes.LAST_STEP] = last
        engine(
            self._plan,
            self.program.table,
            self.program.constants,
            self._numbers,
            self.report,
            self.parameters,
            self.gradient,
            self._moments,
            self.workspace,
            self._picks,
            self._data.X,
            self._data.targets.labels,
            self._data.targets.values,
            self._data.weights,
            self._order,
            self._out,
        )
        return self.report

    @property
    def mean_loss(self) -> float:
        """Mean loss of the examples of the last call."""
        return float(self.report[codes.LOSS_SUM] / self.report[codes.WEIGHT_SUM])


def _tiling(dtype: np.dtype[Any]) -> Tiling:
    """Return the kernels' sizes for a dtype."""
    from fastnn.kernels import matmul, panels

    return Tiling(panels.PANEL_BYTES // dtype.itemsize, matmul.BATCH_ROWS, matmul.UNIT_ROWS)


def textbook(
    layout: Layout, vector: Floats, blocks: Sequence[Block] | None = None
) -> tuple[list[Floats], list[Floats | None], list[str]]:
    """Return W, b and activations by layer, in the textbook's orientation (views)."""
    chosen = layout.blocks if blocks is None else blocks
    W = [layout.view(vector, block.W).T for block in chosen]
    b = [None if block.b is None else layout.view(vector, block.b)[:, None] for block in chosen]
    return W, b, [block.activation for block in chosen]


def predictions(
    layout: Layout,
    parameters: Floats,
    X: Floats,
    *,
    backend: str,
    blocks: Sequence[Block] | None = None,
    out: Floats | None = None,
) -> Floats:
    """Return the result of the last of the blocks (default: all of them) for every example."""
    chosen = layout.blocks if blocks is None else tuple(blocks)
    if out is None:
        out = np.empty((len(X), chosen[-1].outputs), parameters.dtype)
    for rows in _slices(len(X), chosen):
        if backend == "reference":
            with np.errstate(all="ignore"):
                A = reference.forward(*textbook(layout, parameters, chosen), X[rows].T)[1]
                out[rows] = A[-1].T
        else:
            run = Run(chosen, parameters, Data.unanswered(X[rows]), penalty=False)
            run.predict_into(out[rows])
    return out


def _slices(examples: int, blocks: Sequence[Block]) -> list[slice]:
    """Part examples so that Ctrl-C is served between the parts; by the layers' sizes alone."""
    work = sum(2 * block.W.size for block in blocks)
    rows = max(_SMALLEST_SLICE, _SLICE_WORK // work)
    return [slice(start, start + rows) for start in range(0, examples, rows)]


def mean_loss(
    layout: Layout,
    parameters: Floats,
    loss: Loss,
    data: Data,
    backend: str,
) -> float:
    """Return the (weighted) mean loss of the examples, without L2."""
    summed = total = 0.0
    for rows in _slices(len(data), layout.blocks):
        part = data.part(rows)
        if part.total > 0.0:
            summed += part.total * _mean_loss(layout, parameters, loss, part, backend)
            total += part.total
    return summed / total


def _mean_loss(
    layout: Layout,
    parameters: Floats,
    loss: Loss,
    data: Data,
    backend: str,
) -> float:
    """Return the mean loss of as many examples as one call takes."""
    if backend == "reference":
        W, b, activations = textbook(layout, parameters)
        X, Y, w = data.columns(layout.outputs)
        with np.errstate(all="ignore"):
            Z, A = reference.forward(W, b, activations, X)
            return float(reference.mean_loss(loss.name, activations[-1], Z[-1], A[-1], Y, w))
    run = Run(layout.blocks, parameters, data, loss, penalty=False)
    run(codes.LOSS)
    return run.mean_loss


def loss_and_gradient(
    layout: Layout,
    parameters: Floats,
    loss: Loss,
    data: Data,
    backend: str,
) -> tuple[float, Floats]:
    """Return the training loss (with L2) of the examples and its gradient, flat."""
    if backend == "reference":
        W = textbook(layout, parameters)[0]
        l2 = [block.l2 for block in layout.blocks]
        value, _, _, _, dW, db = _textbook_pass(layout, parameters, loss, data)
        gradient = aligned_zeros(layout.size, parameters.dtype)
        penalties = reference.l2_gradient(W, l2)
        gW, gb, _ = textbook(layout, gradient)
        for place in range(len(W)):
            gW[place][:] = dW[place] + penalties[place]
            bias = gb[place]
            if bias is not None:
                bias[:] = db[place]
        with np.errstate(all="ignore"):
            return value + float(reference.l2_penalty(W, l2)), gradient
    run = Run(layout.blocks, parameters, data, loss, gradient=True)
    run(codes.GRADIENT)
    return run.mean_loss, run.gradient


def _textbook_pass(
    layout: Layout,
    parameters: Floats,
    loss: Loss,
    data: Data,
) -> tuple[float, list[Floats], list[Floats], list[Floats], list[Floats], list[Floats | None]]:
    """Go forward and backward on the reference: loss, Z, A, dZ, dW, db in its orientation."""
    W, b, activations = textbook(layout, parameters)
    X, Y, w = data.columns(layout.outputs)
    with np.errstate(all="ignore"):
        Z, A = reference.forward(W, b, activations, X)
        value = float(reference.mean_loss(loss.name, activations[-1], Z[-1], A[-1], Y, w))
        dZ, dW, db = reference.backward(W, b, activations, loss.name, X, Z, A, Y, w)
    return value, Z, A, dZ, dW, db


def trace(
    layout: Layout,
    parameters: Floats,
    loss: Loss,
    data: Data,
    backend: str,
) -> Trace:
    """Return every intermediate of one pass over the examples, taken as one batch."""
    if backend == "reference":
        value, Z, A, dZ, dW, db = _textbook_pass(layout, parameters, loss, data)
        return Trace(
            loss=value,
            Z=[np.ascontiguousarray(matrix.T) for matrix in Z],
            A=[np.ascontiguousarray(matrix.T) for matrix in A],
            dZ=[np.ascontiguousarray(matrix.T) for matrix in dZ],
            dW=[np.ascontiguousarray(matrix.T) for matrix in dW],
            db=[None if bias is None else bias.reshape(-1).copy() for bias in db],
        )
    run = Run(layout.blocks, parameters, data, loss, gradient=True, keep=True, penalty=False)
    run(codes.GRADIENT)

    def kept(column: int) -> list[Floats]:
        return [run.rows_at(int(row[column]), int(row[codes.OUTPUTS])) for row in run.program.table]

    A = kept(codes.RESULT)
    # A matched loss stops at Z of the last layer, so its prediction is computed for itself.
    A[-1] = predictions(layout, parameters, data.X, backend=backend)
    return Trace(
        loss=run.mean_loss,
        Z=kept(codes.Z),
        A=A,
        dZ=kept(codes.DRESULT),
        dW=layout.weights(run.gradient),
        db=layout.biases(run.gradient),
    )
