"""A single call of the engine as one compiled call: load, run, unpack.

What a run holds is written down once, as addresses and shapes (`kernels.once`).  The first call of
a run goes the long way, which compiles what there is to compile; so does every call that has
something to say.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.data import Data
from fastnn.fitting.runs import Run, mean_of
from fastnn.kernels import codes
from fastnn.layout import Layout
from fastnn.losses import Loss
from fastnn.path import Slope
from fastnn.predicting.predictor import as_if_writeable
from fastnn.sparse import SparseRows

__all__ = ["NAN", "Batch", "Call", "OneCall", "batch_of"]

Floats = NDArray[np.floating]

#: Features, labels, values and weights, as `Data` has them, but writeable.
Batch = tuple[Floats, NDArray[np.int64], Floats, Floats]

#: The answer of a call that has to go the long way.
NAN = float("nan")

# Which values the targets of each kind may have; others have passed the gate.
_BOUNDS = {"counts": codes.AT_LEAST_0, "probabilities": codes.FROM_0_TO_1}


# Numbers of X up to which looking at them costs less than a call of several steps.
_FEW_NUMBERS = 1 << 17


class Call:
    """A run for single calls of one kind, made as one compiled call where that can be.

    Parameters
    ----------
    run : Run
        Computes.
    mode : int
        Of the engine.
    layout : Layout
        The network's.
    loss : Loss
        What the run ends in.
    """

    __slots__ = ("_classes", "_mode", "_nothing", "_once", "_targets", "run")

    def __init__(self, run: Run, mode: int, layout: Layout, loss: Loss) -> None:
        self.run = run
        self._mode = mode
        self._targets = loss.targets
        self._classes = loss.width(layout.outputs)
        self._nothing = np.zeros((0, layout.size), run.dtype)
        # What calls and its planned arguments; unknown before the engine has run.
        self._once: tuple[Any, ...] | None = None

    def at_once(
        self,
        batch: Batch,
        parameters: Floats,
        out: Floats,
        numbers: NDArray[np.void] | None = None,
        moments: Floats | None = None,
        changed: Floats | None = None,
    ) -> float:
        """Compute the mean loss, and a gradient or a step, in one compiled call.

        Parameters
        ----------
        batch : Batch
            The examples, of which nothing but dtypes and shapes needs to be known.
        parameters : ndarray (size,)
            Where it begins.
        out : ndarray (size,) or (0,)
            Where to write the gradient, or the parameters after a step.
        numbers, moments, changed : ndarray
            Of a step: the optimizer's numbers, which are advanced; the moments, and where to
            write those after it.

        Returns
        -------
        float
            NaN where all has to go the long way, which also says what is wrong with the examples.
        """
        planned = self._once
        if planned is None:
            return NAN
        X, labels, values, weights = batch
        if moments is None or changed is None:
            moments = changed = self._nothing
        call, *fixed = planned
        loss: float = call(
            *fixed, parameters, moments, X, labels, values, weights, self.run.order,
            self.run.numbers if numbers is None else numbers, out, changed,
        )  # fmt: skip
        return loss

    def long_way(self, data: Data) -> float:
        """Run the engine on examples that have passed the gate, after `Run.load`."""
        run = self.run
        record = run.once(self._mode, data)
        # A step that turned non-finite has recorded nothing.
        loss = mean_of(record) if int(run.report["trouble"]) == codes.FINE else NAN
        if self._once is None and run.is_alone:
            self._once = self._planned(data)
        return loss

    def _planned(self, data: Data) -> tuple[Any, ...]:
        """Return what calls at once, now that the engine is compiled for such arguments."""
        result = None if self._mode == codes.LOSS else int(self._mode == codes.GRADIENT)
        bounds = _BOUNDS.get(self._targets, codes.ANY_NUMBER)
        vector = np.zeros(self._nothing.shape[1], self.run.dtype)
        planned = self.run.in_one_call(self._mode, data, vector, result, bounds, self._classes)
        return (_long_way_only,) if planned is None else planned


class OneCall:
    """Loss, with L2, of the same few examples and its gradient, at every call's parameters.

    Parameters
    ----------
    slope : Slope
        The same in several calls.
    """

    def __init__(self, slope: Slope) -> None:
        layout, self._vector, loss, self._data = slope.asked
        assert slope.run is not None
        self._call = Call(slope.run, codes.GRADIENT, layout, loss)
        self._batch = batch_of(self._data)
        self._gradient = np.empty_like(self._vector)

    @staticmethod
    def suits(slope: Slope) -> bool:
        """Say whether it saves time: its look at every number of X takes some of it too."""
        data = slope.asked[3]
        few = not isinstance(data.X, SparseRows) and data.X.size <= _FEW_NUMBERS
        return few and slope.run is not None and slope.run.is_alone

    def __call__(self) -> tuple[float, Floats]:
        """Return the loss and its gradient, flat; the next call may write over the gradient."""
        value = self._call.at_once(self._batch, self._vector, self._gradient)
        if value == value:
            return value, self._gradient
        self._call.run.load(self._vector)
        value = self._call.long_way(self._data)
        self._call.run.store(self._gradient, 1)
        return value, self._gradient


def _long_way_only(*arguments: Any) -> float:
    """Compute nothing, and say so."""
    return NAN


def batch_of(data: Data) -> Batch:
    """Return what passed the gate as a batch, whose arrays are writeable, as kernels expect.

    No kernel writes to them.
    """
    X, targets, weights = data.X, data.targets, data.weights
    assert not isinstance(X, SparseRows)
    return (
        as_if_writeable(X.view()), as_if_writeable(targets.labels.view()),
        as_if_writeable(targets.values.view()), as_if_writeable(weights.view()),
    )  # fmt: skip
