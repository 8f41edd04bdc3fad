"""Plans of single calls on a network, cached for later ones: a step, a gradient, a loss.

Planning a run and allocating its memory takes a hundred times as long as a step of a small network.
So a network keeps the runs of its last calls; weights are packed again for every call, as the user
may have written to them in between.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import prediction, tuning
from fastnn.data import Data
from fastnn.kernels import codes
from fastnn.layout import Layout, capacity
from fastnn.losses import Loss
from fastnn.names import describe
from fastnn.optimizers import row_of
from fastnn.prediction import Run
from fastnn.sparse import SparseRows
from fastnn.training import TrainingState

__all__ = ["Objective", "Plans", "Step"]

Floats = NDArray[np.floating]
Key = tuple[Any, ...]

# The number of kinds of calls whose runs are kept, and up to how many examples.
_KINDS = 8
_MOST_ROWS = 4096


class Step:
    """A run that takes single steps, and room for their results.

    Attributes
    ----------
    run : Run
        Takes them.
    parameters, moments : ndarray
        Written by `take`; may be exchanged for others of the same shape.
    """

    __slots__ = ("moments", "parameters", "run")

    def __init__(self, run: Run, parameters: Floats, moments: Floats) -> None:
        self.run = run
        self.parameters = np.empty_like(parameters)
        self.moments = np.empty_like(moments)

    @classmethod
    def planned(
        cls,
        layout: Layout,
        parameters: Floats,
        state: TrainingState,
        loss: Loss,
        rows: int,
        **planning: Any,
    ) -> Step:
        """Return what takes steps of up to so many examples; the rest is for `Run`."""
        nothing = Data.unanswered(np.zeros((0, layout.inputs), parameters.dtype))
        run = Run(
            layout.operations, parameters.dtype, nothing, loss, batch_size=rows, gradient=True,
            moments=len(state.moments), dropping=True, **planning,
        )  # fmt: skip
        run.optimize_with(row_of(state.optimizer).code, run.numbers, False)
        return cls(run, parameters, state.moments)

    def take(
        self,
        parameters: Floats,
        state: TrainingState,
        data: Data,
        mask_key: int,
        step: int,
        clip_norm: float = 0.0,
    ) -> tuple[float, NDArray[np.float64]] | None:
        """Take a step that writes only to this record.

        Parameters
        ----------
        parameters, state
            Where it begins.
        data : Data
            The batch.
        mask_key, step : int
            Of what dropout keeps.
        clip_norm : float
            The most length of the gradient, where the run is planned for one.

        Returns
        -------
        loss : float
            Before the step, with the penalty.
        numbers : ndarray
            The state's after it.

        None instead of both where something turned non-finite.
        """
        run = self.run
        run.numbers[:] = state.numbers
        if clip_norm:
            run.numbers[codes.CLIP_NORM] = clip_norm
        run.draw[codes.MASK_KEY] = mask_key
        run.draw[codes.STEP] = step
        run.load_all(parameters, state.moments)
        record = run.once(codes.TRAIN, data)
        if run.report[codes.TROUBLE] != codes.FINE:
            return None
        run.store_all(self.parameters, self.moments)
        return _mean(record), run.numbers.copy()


class Plans:
    """Runs for single calls on one network, which several threads may use at once.

    Parameters
    ----------
    layout : Layout
        The network's.
    dtype : dtype
        Of everything.
    """

    def __init__(self, layout: Layout, dtype: np.dtype[Any]) -> None:
        self.layout = layout
        self._dtype = dtype
        self._nothing = Data.unanswered(np.zeros((0, layout.inputs), dtype))
        self._runs: dict[Key, list[Run]] = {}
        self._steps: dict[Key, Step] = {}
        # The last calls of each kind, so that those that follow need no key.
        self._last: dict[int, tuple[Loss, int, tuple[int, list[Run]]]] = {}
        self._last_step: tuple[Loss, int, type, Step] | None = None
        tuning.forget_with(self)

    def forget(self) -> None:
        """Drop every run."""
        self._runs.clear()
        self._steps.clear()
        self._last.clear()
        self._last_step = None

    def step(self, loss: Loss, rows: int, parameters: Floats, state: TrainingState) -> Step:
        """Return the record that steps on so many examples; one thread at a time may train."""
        rule, last = type(state.optimizer), self._last_step
        if last is not None and last[0] is loss and last[1] == rows and last[2] is rule:
            found = last[3]
            if found.run.suits(rows):
                return found
        most = capacity(rows)
        key = loss.name, loss.number, most, rule
        kept = self._steps.get(key)
        if kept is None or not kept.run.suits(rows):
            kept = Step.planned(self.layout, parameters, state, loss, most)
            _keep(self._steps, key, kept)
        self._last_step = loss, rows, rule, kept
        return kept

    def mean_loss(self, parameters: Floats, loss: Loss, data: Data) -> float:
        """Return the (weighted) mean loss of the examples, without L2; see `prediction`."""
        rows = len(data.X)
        most, kept = self._kept(codes.LOSS, loss, rows)
        run = _one_of(kept, rows) or self._run(loss, most, penalty=False)
        run.load(parameters)
        value = _mean(run.once(codes.LOSS, data))
        kept.append(run)
        return value

    def loss_and_gradient(self, parameters: Floats, loss: Loss, data: Data) -> tuple[float, Floats]:
        """Return the training loss of the examples, with L2, and its gradient, a new vector."""
        rows = len(data.X)
        most, kept = self._kept(codes.GRADIENT, loss, rows)
        run = _one_of(kept, rows) or self._run(loss, most, gradient=True)
        run.load(parameters)
        value = _mean(run.once(codes.GRADIENT, data))
        gradient = np.empty(parameters.shape, parameters.dtype)
        run.store(gradient, 1)
        kept.append(run)
        return value, gradient

    def _kept(self, mode: int, loss: Loss, rows: int) -> tuple[int, list[Run]]:
        """Return the runs that are kept for such calls, and of how many examples they are."""
        last = self._last.get(mode)
        if last is not None and last[0] is loss and last[1] == rows:
            return last[2]
        most = capacity(rows)
        key = mode, loss.name, loss.number, most
        kept = self._runs.get(key)
        if kept is None:
            kept = []
            _keep(self._runs, key, kept)
            # What was dropped to make room shall not live on here.
            self._last.clear()
        self._last[mode] = loss, rows, (most, kept)
        return most, kept

    def _run(self, loss: Loss, rows: int, **planning: Any) -> Run:
        """Return a run for so many examples or fewer."""
        return Run(
            self.layout.operations, self._dtype, self._nothing, loss, batch_size=rows, **planning
        )

    @staticmethod
    def suit(data: Data) -> bool:
        """Return whether runs for such examples are kept."""
        return len(data) <= _MOST_ROWS and not isinstance(data.X, SparseRows)


def _one_of(kept: list[Run], rows: int) -> Run | None:
    """Take a run that serves so many examples; None where there is none."""
    try:
        run = kept.pop()
    except IndexError:
        return None
    return run if run.suits(rows) else None


def _keep(kept: dict[Key, Any], key: Key, one: Any) -> None:
    """Keep one more, and drop the oldest where there are many."""
    kept[key] = one
    if len(kept) > _KINDS:
        kept.pop(next(iter(kept)), None)


def _mean(record: NDArray[np.float64]) -> float:
    """Return the mean loss of a record's only epoch."""
    return float(record[0, codes.LOSS_SUM] / record[0, codes.WEIGHT_SUM])


class Objective:
    """The training loss of fixed examples as a function of a flat vector of parameters.

    Made by `Sequential.objective`, which says more.

    Parameters
    ----------
    layout : Layout
        Of the vector.
    dtype : dtype
        In which it is computed.
    loss : Loss
        The row.
    data : Data
        The examples, which no other code writes to.
    backend : str
        Which path computes.
    """

    def __init__(
        self, layout: Layout, dtype: np.dtype[Any], loss: Loss, data: Data, backend: str
    ) -> None:
        self._layout = layout
        self._dtype = dtype
        self._loss = loss
        self._data = data
        self._backend = backend
        self._shape = (layout.size,)
        self._plans = Plans(layout, dtype)
        self._native = backend == "native" and not isinstance(data.X, SparseRows)

    def __call__(self, vector: Any) -> tuple[float, Floats]:
        """Return the loss, with the L2 penalty, and its gradient.

        Parameters
        ----------
        vector : array-like, shape (parameters,)
            In the order of `Sequential.parameters`; it is copied, and may hold any numbers.

        Returns
        -------
        loss : float
            Infinity or NaN where the numbers overflow.
        gradient : ndarray, shape (parameters,)
            In the network's dtype; a new array.

        Raises
        ------
        TypeError, ValueError
            If vector is no vector of that many numbers.
        """
        if type(vector) is not np.ndarray or vector.dtype.kind not in "fiu":
            vector = self._numbers(vector)
        if vector.shape != self._shape:
            raise ValueError(
                f"vector must have shape {self._shape}, as the network's parameters have; "
                f"got shape {vector.shape}."
            )
        # Also where the dtype fits: kernels are compiled for writable, contiguous arrays.
        parameters = np.empty(self._shape, self._dtype)
        if vector.dtype == self._dtype:
            parameters[:] = vector
        else:
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                parameters[:] = vector
        if self._native:
            return self._plans.loss_and_gradient(parameters, self._loss, self._data)
        return prediction.loss_and_gradient(
            self._layout, parameters, self._loss, self._data, self._backend
        )

    def _numbers(self, vector: Any) -> NDArray[Any]:
        """Return an array of numbers, or say that there is none."""
        try:
            found = np.asarray(vector)
            if found.dtype.kind in "fiu":
                return found
        except (TypeError, ValueError, RuntimeError):
            pass
        raise TypeError(f"vector must be a vector of real numbers; got {describe(vector)}.")

    def __reduce__(self) -> tuple[Any, ...]:
        made_of = self._layout, self._dtype, self._loss, self._data, self._backend
        return type(self), made_of
