"""Plans of single calls on a network, cached for later ones: a step, a gradient, a loss.

Planning a run and allocating its memory takes a hundred times as long as a step of a small network.
So a network keeps the runs of its last calls; weights are packed again for every call, as the user
may have written to them in between.  The file is long because all kinds of calls share how plans
are kept.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import gate, tuning
from fastnn.data import Data
from fastnn.fitting.compiled_call import NAN, Batch, Call, batch_of
from fastnn.fitting.runs import Run
from fastnn.fitting.states import TrainingState
from fastnn.fitting.updates import Update
from fastnn.kernels import codes, records
from fastnn.layout import Layout, capacity
from fastnn.losses import Loss
from fastnn.names import describe
from fastnn.optimizers import row_of
from fastnn.path import Path

__all__ = ["Objective", "Plans", "Room", "Step"]

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

    __slots__ = ("_call", "_drops", "moments", "parameters", "run")

    def __init__(self, call: Call, parameters: Floats, moments: Floats, drops: bool) -> None:
        self.run = call.run
        self._call = call
        self._drops = drops
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
        layout.check_batch(rows)
        nothing = Data.unanswered(np.zeros((0, layout.inputs), parameters.dtype))
        run = Run(
            layout.operations, parameters.dtype, nothing, loss, batch_size=rows, gradient=True,
            moments=len(state.moments), dropping=True, **planning,
        )  # fmt: skip
        run.optimize_with(row_of(state.optimizer).code, run.numbers, False)
        drops = any(one.kind.in_training for one in layout.operations)
        return cls(Call(run, codes.TRAIN, layout, loss), parameters, state.moments, drops)

    def at_once(
        self,
        parameters: Floats,
        state: TrainingState,
        batch: Batch,
        mask_key: int,
        step: int,
        clip_norm: float = 0.0,
    ) -> tuple[float, NDArray[np.void]] | None:
        """Take a step as `take` does, in one compiled call.

        Parameters
        ----------
        parameters, state, mask_key, step, clip_norm
            As for `take`.
        batch : Batch
            The examples, of which nothing but dtypes and shapes needs to be known.

        Returns
        -------
        tuple or None
            As from `take`; None also where that is needed, which also says what is wrong with the
            examples.
        """
        numbers = records.copied(state.numbers)
        if clip_norm:
            numbers["clip_norm"] = clip_norm
        if self._drops:
            plan = self.run.program.plan
            plan["mask_key"], plan["step_number"] = mask_key, step
        loss = self._call.at_once(
            batch, parameters, self.parameters, numbers, state.moments, self.moments
        )
        return (loss, numbers) if loss == loss else None

    def take(
        self,
        parameters: Floats,
        state: TrainingState,
        data: Data,
        mask_key: int,
        step: int,
        clip_norm: float = 0.0,
    ) -> tuple[float, NDArray[np.void]] | None:
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
        taken = self.at_once(parameters, state, batch_of(data), mask_key, step, clip_norm)
        if taken is not None:
            return taken
        run = self.run
        run.numbers = numbers = records.copied(state.numbers)
        if clip_norm:
            numbers["clip_norm"] = clip_norm
        if self._drops:
            plan = run.program.plan
            plan["mask_key"], plan["step_number"] = mask_key, step
        run.load_all(parameters, state.moments)
        loss = self._call.long_way(data)
        if int(run.report["trouble"]) != codes.FINE:
            return None
        run.store_all(self.parameters, self.moments)
        return loss, numbers


#: What took a step, and the moments that it may write over in a later one.
Room: TypeAlias = tuple[Step | Update, Floats]


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
        # No array is as wide as that: the gate looks at all codes.
        self._inputs = -1 if layout.coded else layout.inputs
        self._outputs = layout.outputs
        self._nothing = Data.unanswered(np.zeros((0, layout.inputs), dtype))
        self._runs: dict[Key, list[Call]] = {}
        self._steps: dict[Key, Step] = {}
        self._updates: dict[Key, Update] = {}
        # The last calls of each kind, so that those that follow need no key.
        self._last: dict[int, tuple[Loss, int, tuple[int, list[Call]]]] = {}
        self._last_step: tuple[Loss, int, type, Step] | None = None
        self._no_result = np.zeros(0, dtype)
        tuning.forget_with(self)

    def forget(self) -> None:
        """Drop every run."""
        self._runs.clear()
        self._steps.clear()
        self._updates.clear()
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
        key = loss.name, loss.given, most, rule
        kept = self._steps.get(key)
        if kept is None or not kept.run.suits(rows):
            kept = Step.planned(self.layout, parameters, state, loss, most)
            _keep(self._steps, key, kept)
        self._last_step = loss, rows, rule, kept
        return kept

    def update(self, parameters: Floats, state: TrainingState) -> Update:
        """Return the record that steps by gradients; one thread at a time may train."""
        key = (type(state.optimizer),)
        kept = self._updates.get(key)
        if kept is None:
            kept = Update(self.layout, parameters, state)
            _keep(self._updates, key, kept)
        return kept

    def mean_loss(self, parameters: Floats, loss: Loss, batch: Batch) -> float:
        """Return the (weighted) mean loss, without L2; NaN where all has to go the long way."""
        _, kept = self._kept(codes.LOSS, loss, len(batch[0]))
        call = _one_of(kept, len(batch[0]))
        if call is None:
            return NAN
        value = call.at_once(batch, parameters, self._no_result)
        kept.append(call)
        return value

    def mean_loss_of(self, parameters: Floats, loss: Loss, data: Data) -> float:
        """Return the (weighted) mean loss, without L2, of what passed the gate."""
        value = self.mean_loss(parameters, loss, batch_of(data))
        if value == value:
            return value
        most, kept = self._kept(codes.LOSS, loss, len(data.X))
        call = _one_of(kept, len(data.X)) or self._call(codes.LOSS, loss, most, penalty=False)
        call.run.load(parameters)
        value = call.long_way(data)
        kept.append(call)
        return value

    def loss_and_gradient(
        self, parameters: Floats, loss: Loss, batch: Batch
    ) -> tuple[float, Floats]:
        """Return the training loss, with L2, and its gradient, a new vector.

        The loss is NaN where all has to go the long way.
        """
        _, kept = self._kept(codes.GRADIENT, loss, len(batch[0]))
        gradient = np.empty(self.layout.size, parameters.dtype)
        call = _one_of(kept, len(batch[0]))
        if call is None:
            return NAN, gradient
        value = call.at_once(batch, parameters, gradient)
        kept.append(call)
        return value, gradient

    def loss_and_gradient_of(
        self, parameters: Floats, loss: Loss, data: Data, batch: Batch | None = None
    ) -> tuple[float, Floats]:
        """Return them for what passed the gate, as a batch too if that is at hand."""
        value, gradient = self.loss_and_gradient(
            parameters, loss, batch_of(data) if batch is None else batch
        )
        if value == value:
            return value, gradient
        most, kept = self._kept(codes.GRADIENT, loss, len(data.X))
        call = _one_of(kept, len(data.X)) or self._call(codes.GRADIENT, loss, most, gradient=True)
        call.run.load(parameters)
        value = call.long_way(data)
        call.run.store(gradient, 1)
        kept.append(call)
        return value, gradient

    def _kept(self, mode: int, loss: Loss, rows: int) -> tuple[int, list[Call]]:
        """Return the runs that are kept for such calls, and of how many examples they are."""
        last = self._last.get(mode)
        if last is not None and last[0] is loss and last[1] == rows:
            return last[2]
        most = capacity(rows)
        key = mode, loss.name, loss.given, most
        kept = self._runs.get(key)
        if kept is None:
            kept = []
            _keep(self._runs, key, kept)
            # What was dropped to make room shall not live on here.
            self._last.clear()
        self._last[mode] = loss, rows, (most, kept)
        return most, kept

    def _call(self, mode: int, loss: Loss, rows: int, **planning: Any) -> Call:
        """Return a run for so many examples or fewer."""
        run = Run(
            self.layout.operations, self._dtype, self._nothing, loss, batch_size=rows, **planning
        )
        return Call(run, mode, self.layout, loss)

    @staticmethod
    def suit(data: Data) -> bool:
        """Return whether runs for such examples are kept."""
        return len(data) <= _MOST_ROWS and data.is_plain

    def batch(self, X: object, y: object, loss: Loss) -> Batch | None:
        """Return examples of which a kernel checks what there is to check; None for all others."""
        outputs = self._outputs
        width = outputs if loss.outputs == 1 else loss.width(outputs)
        found = gate.at_a_glance(X, y, loss.targets, self._inputs, width, self._dtype)
        return found if found is None or len(found[0]) <= _MOST_ROWS else None


def _one_of(kept: list[Call], rows: int) -> Call | None:
    """Take a run that serves so many examples; None where there is none."""
    try:
        call = kept.pop()
    except IndexError:
        return None
    return call if call.run.suits(rows) else None


def _keep(kept: dict[Key, Any], key: Key, one: Any) -> None:
    """Keep one more, and drop the oldest where there are many."""
    kept[key] = one
    if len(kept) > _KINDS:
        kept.pop(next(iter(kept)), None)


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
    path : Path
        Which computes.
    buffers : ndarray
        What lies behind the parameters, which stays as it is.
    """

    def __init__(
        self, layout: Layout, dtype: np.dtype[Any], loss: Loss, data: Data, path: Path,
        buffers: Floats,
    ) -> None:  # fmt: skip
        self._layout, self._dtype = layout, dtype
        self._loss, self._data = loss, data
        self._path = path
        self._shape = (layout.size,)
        self._buffers = buffers
        self._plans = Plans(layout, dtype)
        self._native = path.by_engine and data.is_plain
        self._batch = batch_of(data) if self._native else None

    def __call__(self, vector: Any) -> tuple[float, Floats]:
        """Return the loss, with the L2 penalty, and its gradient.

        Parameters
        ----------
        vector : array-like, shape (parameters,)
            In the order of `Sequential.parameters`; it may hold any numbers, and is left as it is.

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
            wanted = f"shape {self._shape}, as the network's parameters have"
            raise ValueError(f"vector must have {wanted}; got shape {vector.shape}.")
        if vector.dtype == self._dtype and vector.flags.carray and not self._buffers.size:
            # Kernels are compiled for writeable, contiguous arrays; they do not write to it.
            parameters = vector
        else:
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                parameters = np.concatenate([vector, self._buffers], dtype=self._dtype)
        if self._native:
            return self._plans.loss_and_gradient_of(parameters, self._loss, self._data, self._batch)
        return self._path.slope(self._layout, parameters, self._loss, self._data)()

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
        made_of = self._layout, self._dtype, self._loss, self._data, self._path, self._buffers
        return type(self), made_of
