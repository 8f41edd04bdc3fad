"""Where a described network meets computing without learning: forward, loss, gradient, trace.

Everything here takes a layout and a flat parameter vector, never a network, and runs on the
native kernels or on the textbook reference.  Arrays have passed the gate.

This file is long because all calls of the engine, except for a fit's steps, are made here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import reference_walk, tuning
from fastnn.conventions import OWN, Conventions
from fastnn.data import Data
from fastnn.kernels import codes, records
from fastnn.layout import Layout, Operation, Program, aligned_zeros, seconds
from fastnn.leading import LeadingPredictor
from fastnn.losses import Loss
from fastnn.predictor import SPARSE_FACTOR, Predictor, slices, tiling_of
from fastnn.reference_walk import Drops, Walk
from fastnn.sparse import SparseRows
from fastnn.system import usable_cores
from fastnn.tallies import Counting, Room
from fastnn.threads import Outcome, ThreadTuner, crowd, fitting, together

__all__ = [
    "AnyPredictor",
    "MeanLoss",
    "Packed",
    "Predictor",
    "Run",
    "Slope",
    "Trace",
    "WalkingPredictor",
    "loss_and_gradient",
    "mean_loss",
    "predictions",
    "predictor_of",
    "textbook_trace",
    "trace",
]

Floats = NDArray[np.floating]

# The update of a weight takes about as long as so many multiplications or additions in a product,
# as it is bound by memory.
_STEP_FACTOR = 50

# Elements of sparse examples that the textbook densifies at a time.
_WRITTEN_OUT = 1 << 22

# Places of X and out among the engine's arguments.
_ROWS_AT, _OUT_AT = 11, 16

# Bytes of the smallest pages anywhere.
_PAGE = 4096

# So many steps in one call of a fit that the cost of starting threads is negligible.
_MANY_STEPS = 10**9


@dataclass(frozen=True, slots=True)
class Trace:
    """The textbook's intermediates of one forward and backward pass.

    Every list has one entry per Dense layer, counted from 0.

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
    dX : ndarray, shape (n, p)
        Gradient of the mean loss with respect to X.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=2)
    >>> t = net.trace([[1.0, 2.0]], [3.0])
    >>> t.loss, t.db[0]
    (9.0, array([-6.], dtype=float32))
    >>> t.dX.shape
    (1, 2)
    """

    loss: float
    Z: list[Floats]
    A: list[Floats]
    dZ: list[Floats]
    dW: list[Floats]
    db: list[Floats | None]
    dX: Floats


class Packed:
    """Moments as a run left them, in its own form: unpacking them takes time and new memory.

    Parameters
    ----------
    run : Run
        Of which the workspace is kept, and no examples.
    shape : tuple of int
        How many vectors of moments there are, and their length.
    """

    def __init__(self, run: Run, shape: tuple[int, ...]) -> None:
        self.shape, self.dtype = shape, run.dtype
        self._table, self._workspace, self._state = run.program.table[0], run.workspace, run.state

    def unpacked(self) -> Floats:
        """Return them, a new array."""
        from fastnn.kernels.epoch import store

        moments = np.empty(self.shape, self.dtype)
        for place, moment in enumerate(moments, 1):
            store(self._table, self._workspace, place * self._state, moment)
        return moments


class Run:
    """The engine with everything it needs for one set of examples: plan, workspace and arrays.

    Parameters
    ----------
    operations : sequence of Operation
        The layers to walk.
    dtype : dtype
        Of everything.
    data : Data
        Examples.
    loss : Loss or None
        What the run ends in, or None for predictions.
    batch_size : int or None
        Examples per step; None for all of them.
    gradient : bool
        Whether the backward pass is wanted.
    order : ndarray of int64 (n,) or None
        Order of the examples; None for their own.
    threads : int or None
        The caller's limit; None for the process's.
    conventions : Conventions
        How losses, their gradients and penalties count.
    counting : Counting or None
        What to measure at the end of every epoch of training.
    **planning
        For `Program.of`.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        dtype: np.dtype[Any],
        data: Data,
        loss: Loss | None = None,
        *,
        batch_size: int | None = None,
        gradient: bool = False,
        order: NDArray[np.int64] | None = None,
        threads: int | None = None,
        conventions: Conventions = OWN,
        counting: Counting | None = None,
        **planning: Any,
    ) -> None:
        batch = len(data) if batch_size is None else batch_size
        tiling = tiling_of(dtype)
        self._work = _work(operations, gradient, data.X)
        self._beside = 0
        if isinstance(data.X, SparseRows) and gradient:
            self._beside = _STEP_FACTOR * _first(operations).W.size
        step = self._work * batch + self._beside
        self._steps = 1 if order is None else _MANY_STEPS
        most = fitting(threads, step, self._steps, -(-batch // tiling.rows))
        program = Program.of(
            operations, batch, tiling, loss=loss, gradient=gradient, threads=most,
            entries=data.X.most if isinstance(data.X, SparseRows) else None, **planning,
        )  # fmt: skip
        program.plan["missing"] = data.targets.missing
        most = len(program.plan)
        plan = program.plan[0]
        sums = 2 * int(plan["unit_count"]) + -(-batch // int(plan["chunk"]))
        height = int(plan["height"])
        # The plan has addresses of its arrays.
        self._counting, self._held_share = counting, 0.0
        if counting is None:
            self._sums = np.zeros(sums)
        else:
            room = Room.of(counting, program, operations, tiling, loss, sums)
            program, self._sums = room.program, room.numbers
            height = int(program.plan["height"].max())
            if counting.held is not None:
                held = len(counting.held)
                self._held_share = _work(operations, False) * held / (self._work * batch)
        self.program = program
        self.dtype = dtype
        self.workspace = aligned_zeros(program.workspace, dtype)
        if most > 1:
            # Threads that are the first to write to pages wait for each other's page faults (three
            # layers of 1024: the median first step on two cores, after a pause, was 18 ms, not 11).
            self.workspace[:: _PAGE // dtype.itemsize] = 0.0
        self._integers = np.zeros(program.integers, np.int64)
        self.numbers = np.zeros((), records.NUMBERS)
        self.report = np.zeros((), records.REPORT)
        self.report["best_value"] = self.report["to_beat"] = np.inf
        if counting is not None and counting.watch is not None:
            self.report["best_value"] = counting.watch.best
        conventions.enter(program.plan)
        self._most, self._limit = most, threads
        self._batch = int(program.plan["batch"][0])
        kind = tuple((one.inputs, one.layer) for one in operations)
        training = order is not None
        # A call of one step starts threads for that step.
        sure = None if training else tuning.current.sure_call
        self._tuner = ThreadTuner.of(
            (kind, dtype.char, batch, gradient, training, self._work), step, sure
        )
        self._nowhere = np.zeros((0, 0), dtype)
        self._out = self._nowhere
        self._picks = np.zeros((most, height), np.int64)
        self._order = np.zeros(0, np.int64) if order is None else order
        self._etas = np.zeros(0)
        self._data = data
        self._plan = program.plan
        self._packing: tuple[Any, int, Callable[..., None], Callable[..., None]] | None = None
        self._single: tuple[Callable[..., None], NDArray[np.int64]] | None = None
        self._answering: tuple[Callable[..., None], NDArray[np.int64], tuple[Any, ...]] | None
        self._answering = None

    def optimize_with(self, code: int, numbers: NDArray[np.void], shuffle: bool) -> None:
        """Use an optimizer's rule and its numbers, which are updated; draw orders if asked."""
        self._plan["optimizer"] = codes.known("optimizer", code, codes.OPTIMIZERS)
        self._plan["shuffle"] = shuffle
        self.numbers = numbers

    def load(self, vector: Floats, place: int = 0) -> None:
        """Pack a flat vector: parameters (place 0), or moments (1, 2, ...)."""
        if self._packing is None:
            from fastnn.kernels import epoch

            self._packing = self.program.table[0], self.state, epoch.load, epoch.store
        table, state, load, _ = self._packing
        load(table, self.workspace, place * state, vector)

    def store(self, vector: Floats, place: int = 0) -> None:
        """Unpack into a flat vector: what `load` packed, as it is now, or the gradient after it."""
        if self._packing is None:
            from fastnn.kernels import epoch

            self._packing = self.program.table[0], self.state, epoch.load, epoch.store
        table, state, _, store = self._packing
        store(table, self.workspace, place * state, vector)

    def load_all(self, parameters: Floats, moments: Floats) -> None:
        """Pack parameters and moments: `load` for each, in half the time."""
        self.load(parameters)
        assert self._packing is not None
        table, state, load, _ = self._packing
        workspace, at = self.workspace, state
        for moment in moments:
            load(table, workspace, at, moment)
            at += state

    def store_all(self, parameters: Floats, moments: Floats) -> None:
        """Unpack parameters and moments: `store` for each, in half the time."""
        self.store(parameters)
        assert self._packing is not None
        table, state, _, store = self._packing
        workspace, at = self.workspace, state
        for moment in moments:
            store(table, workspace, at, moment)
            at += state

    @property
    def is_alone(self) -> bool:
        """Whether all calls are made in one thread."""
        return self._most == 1

    @property
    def state(self) -> int:
        """Elements of a packed vector."""
        return int(self._plan["state"][0])

    def ration(self, left: int | None = None) -> int | None:
        """Return the most steps that the next call may take, None for any number.

        Parameters
        ----------
        left : int, optional
            How many are to come, where that is known.
        """
        return self._tuner.ration(self._allowed(self._most), left)

    def suits(self, examples: int) -> bool:
        """Say whether a batch of so many has room, as have all threads that may now take part."""
        batch, parts = self._batch, self.program.parts
        if examples > batch or parts == 1:
            return examples <= batch
        step = self._work * batch + self._beside
        return self._most >= fitting(self._limit, step, self._steps, parts)

    def once(self, mode: int, data: Data) -> NDArray[np.void]:
        """Run the engine on other dense examples, of which there may be fewer; return its record.

        With a single thread this is a fast path: half of the time of a call of a small network is
        the preparation for several threads.
        """
        if self._most > 1:
            known, self._data = self._data, data
            record = self(mode)
            # No reference to the arguments is kept.
            self._data = known
            return record
        engine, signals = self._alone(mode)
        signals.fill(0)
        record = np.zeros(1, records.RECORD)
        engine(*self._arguments(data, record, signals))
        return record

    def answer(self, vector: Floats, rows: Floats, out: Floats) -> None:
        """Write the predictions for dense rows, at most a batch, by a vector of parameters.

        What does not change from call to call is prepared once (one row of 8-64-64-2 with
        LayerNorm: half of the time).

        Parameters
        ----------
        vector : ndarray (size,)
            Parameters.
        rows : ndarray (n, inputs)
            Examples, read-only.
        out : ndarray (n, outputs)
            Where to write.
        """
        self.load(vector)
        if self._most > 1:
            self.hand_out_to(out)
            self.once(codes.FORWARD, Data.unanswered(rows))
            self.hand_out_to(self._nowhere)
            return
        if self._answering is None:
            engine, signals = self._alone(codes.FORWARD)
            record = np.zeros(1, records.RECORD)
            # No reference to the caller's arrays is kept.
            nothing = Data.unanswered(rows[:0].copy())
            self._answering = engine, signals, self._arguments(nothing, record, signals)
        engine, signals, known = self._answering
        signals.fill(0)
        engine(*known[:_ROWS_AT], rows, *known[_ROWS_AT + 1 : _OUT_AT], out, *known[_OUT_AT + 1 :])

    def in_one_call(
        self, mode: int, data: Data, vector: Floats, result: int | None, bounds: int, classes: int
    ) -> tuple[Any, ...] | None:
        """Return `kernels.once` and its planned arguments, after a call of `once` on such data.

        The rest is for `written_down`; None where it finds no machine code.
        """
        from fastnn.kernels.once import once, written_down

        if result is not None:
            self.store(vector, result)
        signals, record = self._alone(mode)[1], np.zeros(1, records.RECORD)
        table = self.program.table[0]
        words = written_down(
            self._arguments(data, record, signals), table, vector, self.state, result, bounds,
            classes,
        )  # fmt: skip
        if words is None:
            return None
        return once, words, table, self.workspace, record, self.report, signals

    def _alone(self, mode: int) -> tuple[Callable[..., None], NDArray[np.int64]]:
        """Prepare for a call of one step in one thread; return the engine and its signals."""
        if self._single is None:
            from fastnn.kernels import team
            from fastnn.kernels.epoch import engine

            plan = self._plan
            plan["first_step"], plan["last_step"] = 0, 1
            plan["threads"] = 1
            self._single = engine, np.zeros(team.SIGNALS, np.int64)
        self._plan["mode"][0] = mode
        return self._single

    def _arguments(
        self, data: Data, record: NDArray[np.void], signals: NDArray[np.int64]
    ) -> tuple[Any, ...]:
        """Return the engine's arguments for one thread."""
        program, targets = self.program, data.targets
        X, *sparse = data.arrays
        return (
            self._plan, program.table, self.numbers, self._etas, self._sums, self.report, record,
            signals, True, self.workspace, self._picks, X, targets.labels, targets.values,
            data.weights, self._order, self._out, self._integers, *sparse,
        )  # fmt: skip

    @property
    def order(self) -> NDArray[np.int64]:
        """The order of the examples; empty for their own."""
        return self._order

    def follow(self, order: NDArray[np.int64]) -> None:
        """From now on take examples in this order; in their own where it is empty."""
        self._order = order

    @property
    def counts(self) -> NDArray[np.float64]:
        """What was counted of the present epoch's training examples so far; of length 0 if none."""
        if self._counting is None:
            return self._sums[:0]
        begin = int(self._plan["counts_so_far"][0])
        return self._sums[begin : begin + int(self._plan["tally"][0])]

    def measure_no_more(self) -> None:
        """Take steps as if nothing were measured."""
        for name in ("measures", "counted", "watching"):
            self._plan[name] = 0

    def store_best(self, vector: Floats) -> None:
        """Write the parameters of the epoch whose watched value was the best, if they are kept."""
        place = int(self._plan["best"][0])
        if self._packing is not None and place != codes.NONE:
            table, _, _, store = self._packing
            store(table, self.workspace, place, vector)

    def hand_out_to(self, out: Floats) -> None:
        """From now on write the last operation's result for each example there, in its row."""
        self._out = out

    def rows_at(self, place: int, columns: int) -> Floats:
        """Return the rows of a panel matrix in the workspace, as a plain matrix of their own."""
        panel = tiling_of(self.dtype).panel
        across = -(-columns // panel)
        height = int(self._plan["height"][0])
        panels = self.workspace[place : place + across * height * panel]
        matrix = panels.reshape(across, height, panel).transpose(1, 0, 2).reshape(height, -1)
        return np.ascontiguousarray(matrix[: len(self._data), :columns])

    def __call__(
        self,
        mode: int,
        first: int = 0,
        last: int = 1,
        record: NDArray[np.void] | None = None,
        rates: NDArray[np.float64] | None = None,
    ) -> NDArray[np.void]:
        """Run the engine; return its record, which is added to if one is given."""
        from fastnn.kernels import team
        from fastnn.kernels.epoch import engine

        if record is None:
            record = np.zeros(1, records.RECORD)
        plan = self._plan
        examples = int(plan["batch"][0]) if mode == codes.TRAIN else len(self._data)
        step = self._work * examples + self._beside
        wanted = fitting(self._limit, step, last - first, self.program.parts)
        most = min(self._most, wanted)
        size = self._tuner.choose(self._allowed(most))
        signals = np.zeros(team.SIGNALS, np.int64)
        plan["mode"] = mode
        plan["first_step"] = first
        plan["last_step"] = last
        plan["threads"] = size
        data = self._data
        X, *sparse = data.arrays
        etas = self._etas if rates is None else rates

        def call(leading: bool) -> None:
            engine(
                plan,
                self.program.table,
                self.numbers,
                etas,
                self._sums,
                self.report,
                record,
                signals,
                leading,
                self.workspace,
                self._picks,
                X,
                data.targets.labels,
                data.targets.values,
                data.weights,
                self._order,
                self._out,
                self._integers,
                *sparse,
            )

        # Calls other than a fit's steps differ in size.
        share = (last - first) * examples / int(plan["batch"][0])
        if self._held_share:
            epoch = -(-len(data) // examples)
            share += (last // epoch - first // epoch) * self._held_share
        began = time.perf_counter()
        if size == 1:
            call(True)
            if most > 1:
                self._tuner.note(1, share, time.perf_counter() - began)
            return record
        self._set_terms(signals, size, last - first)
        together(size, call, lambda: team.dismiss(signals))
        self._tuner.judge(
            size, share, time.perf_counter() - began, mode == codes.TRAIN, Outcome(
                int(signals[team.CAME]), team.stayed(signals),
                1e-9 * int(signals[team.WAITED]), 1e-9 * int(signals[team.LOST]),
            ),
        )  # fmt: skip
        return record

    def _allowed(self, most: int) -> int:
        """Return how many threads may be tried now; ask only where there would be several."""
        return crowd.limit(most) if self._tuner.choose(most) > 1 else most

    def _set_terms(self, signals: NDArray[np.int64], size: int, steps: int) -> None:
        """Write a team's terms into its signals."""
        from fastnn.kernels import team

        plan = self._plan[0]
        rows = min(int(plan["batch"]), len(self._data))
        chunks = 1 if plan["groups"] > 1 else -(-rows // int(plan["chunk"]))
        ways = 1 if plan["loss"] == codes.NO_LOSS else 2
        terms = self._tuner.terms(size, steps, ways * chunks)
        signals[team.PATIENCE], signals[team.CREDIT] = terms.patience, terms.credit
        signals[team.GAIN], signals[team.CAP] = terms.gain, terms.most
        signals[team.CORES] = usable_cores()
        signals[team.SPIN] = terms.spin


def _work(
    operations: Sequence[Operation], gradient: bool, X: Floats | SparseRows | None = None
) -> int:
    """Return the multiplications and additions per example, averaged over X."""
    sizes = [2 * one.W.size for one in operations if one.kind.form == codes.MATRIX]
    first, *others = sizes or [0]
    if isinstance(X, SparseRows):
        first = SPARSE_FACTOR * 2 * X.entries // len(X) * _first(operations).outputs
    return 2 * first + 3 * sum(others) if gradient else first + sum(others)


def _first(operations: Sequence[Operation]) -> Operation:
    """Return the first fully connected layer."""
    return next(one for one in operations if one.kind.form == codes.MATRIX)


class WalkingPredictor:
    """Predicts with the engine, where the kernels of predictions do not know a kind of layer.

    It may be called from several threads at once.

    Parameters
    ----------
    layout : Layout
        The network's.
    dtype : dtype
        Of everything.
    operations : sequence of Operation, optional
        The layers to walk; all of the layout's by default.
    """

    def __init__(
        self,
        layout: Layout,
        dtype: np.dtype[Any],
        operations: Sequence[Operation] | None = None,
    ) -> None:
        self.layout = layout
        chosen = layout.operations if operations is None else operations
        self._operations = tuple(one for one in chosen if not one.kind.in_training)
        self.inputs, self.outputs = self._operations[0].inputs, self._operations[-1].outputs
        self.row = (self.inputs,)
        self._dtype = dtype
        # By the most rows that they take: a run is planned for a power of two.
        self._runs: dict[int, list[Run]] = {}
        self.forget()
        tuning.forget_with(self)

    def forget(self) -> None:
        """Drop what was planned, and find anew how many rows go through in one call."""
        self._runs.clear()
        self._slice = slices(1, self._operations)[0].stop

    def __call__(self, parameters: Floats, x: Floats, out: Floats) -> None:
        """Predict for one row, or for several, into an array of the results' shape."""
        rows, results = x.reshape(-1, self.inputs), out.reshape(-1, self.outputs)
        if rows.flags.writeable:
            rows = rows.view()
            rows.flags.writeable = False
        if len(rows) <= self._slice:
            self._some(parameters, rows, results)
            return
        for start in range(0, len(rows), self._slice):
            part = slice(start, start + self._slice)
            self._some(parameters, rows[part], results[part])

    single = __call__

    def sparse(self, parameters: Floats, X: SparseRows, out: Floats) -> None:
        """Predict for sparse rows."""
        for part in slices(len(X), self._operations):
            data = Data.unanswered(X[part])
            run = Run(self._operations, self._dtype, data)
            run.load(parameters)
            run.hand_out_to(out[part])
            run(codes.FORWARD)

    def pack(self, parameters: Floats) -> Floats:
        """Return what a call reads: a copy of the parameters."""
        return parameters.copy()

    def _some(self, parameters: Floats, rows: Floats, out: Floats) -> None:
        """Predict for as many rows as one call of the engine takes."""
        most = 1 << (len(rows) - 1).bit_length()
        kept = self._runs.setdefault(most, [])
        try:
            run = kept.pop()
        except IndexError:
            nothing = Data.unanswered(np.empty((0, self.inputs), self._dtype))
            run = Run(self._operations, self._dtype, nothing, batch_size=most)
        run.answer(parameters, rows, out)
        kept.append(run)


AnyPredictor: TypeAlias = Predictor | LeadingPredictor | WalkingPredictor


def predictor_of(
    layout: Layout, dtype: np.dtype[Any], operations: Sequence[Operation] | None = None
) -> AnyPredictor:
    """Return what predicts with some layers of a network, all of them by default."""
    chosen = layout.operations if operations is None else operations
    chosen = tuple(one for one in chosen if not one.kind.in_training)
    if all(one.kind.answered for one in chosen):
        return Predictor(layout, dtype, chosen)
    if LeadingPredictor.suits(chosen):
        return LeadingPredictor(layout, dtype, chosen)
    return WalkingPredictor(layout, dtype, chosen)


def predictions(
    layout: Layout,
    parameters: Floats,
    X: Floats | SparseRows,
    *,
    backend: str,
    operations: Sequence[Operation] | None = None,
    out: Floats | None = None,
) -> Floats:
    """Return the result of the last of the operations (default: all of them) for every example."""
    chosen = layout.operations if operations is None else operations
    chosen = tuple(one for one in chosen if not one.kind.in_training)
    if out is None:
        out = np.empty((len(X), chosen[-1].outputs), parameters.dtype)
    if backend == "native":
        predictor = predictor_of(layout, parameters.dtype, chosen)
        if isinstance(X, SparseRows):
            predictor.sparse(parameters, X, out)
        else:
            predictor(parameters, X, out)
        return out
    for rows in _parts(X, chosen, backend):
        with np.errstate(all="ignore"):
            passed = reference_walk.outputs(layout, parameters, X[rows].T, chosen)
            out[rows] = passed[-1].A.T
    return out


def _parts(X: Floats | SparseRows, operations: Sequence[Operation], backend: str) -> list[slice]:
    """Divide examples, dense or sparse, so that Ctrl-C takes effect between the parts."""
    if backend == "native" or not isinstance(X, SparseRows):
        return slices(len(X), operations)
    rows = max(1, _WRITTEN_OUT // X.width)
    return [slice(start, start + rows) for start in range(0, len(X), rows)]


def mean_loss(
    layout: Layout,
    parameters: Floats,
    loss: Loss,
    data: Data,
    backend: str,
    conventions: Conventions = OWN,
) -> float:
    """Return the (weighted) mean loss of the examples, without L2."""
    return MeanLoss(layout, parameters, loss, data, backend, conventions)()


class MeanLoss:
    """Mean loss, without L2, of the same examples at every call's parameters.

    Parameters are those of `mean_loss`, and where to write the outputs from which the loss is
    computed: the last layer's Z where the native path fuses the loss with its activation, else A.
    """

    def __init__(
        self,
        layout: Layout,
        parameters: Floats,
        loss: Loss,
        data: Data,
        backend: str,
        conventions: Conventions = OWN,
        out: Floats | None = None,
    ) -> None:
        self._asked = layout, parameters, loss, backend
        self._conventions = conventions
        rows = _parts(data.X, layout.operations, backend)
        self._parts = [data.part(one) for one in rows]
        self._outs = [None if out is None else out[one] for one in rows]
        self._run: Run | None = None
        self._behind: _Behind | None = None

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

    def _of(self, part: Data, out: Floats | None) -> float:
        """Return the mean loss of as many examples as one call takes."""
        layout, parameters, loss, backend = self._asked
        conventions = self._conventions
        if backend == "reference":
            batch = part.columns(layout.outputs)
            walk = Walk(layout, parameters, loss, batch, conventions.loss_limit)
            with np.errstate(all="ignore"):
                passed = walk.forward()
                if out is not None:
                    out[:] = passed[-1].A.T
                return conventions.loss_scale * walk.mean_loss(passed)
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
                operations, parameters.dtype, part, loss, conventions=conventions, penalty=False,
                beside=beside,
            )  # fmt: skip
        if len(self._parts) == 1:
            # The room of many parts would be as large as their activations together.
            self._run = run
        if out is not None:
            run.hand_out_to(out)
        run.load(parameters)
        return _mean(run(codes.LOSS))


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


def _mean(record: NDArray[np.void]) -> float:
    """Return the mean loss of a record's only epoch."""
    return float(record["loss_sum"][0] / record["weight_sum"][0])


def loss_and_gradient(
    layout: Layout,
    parameters: Floats,
    loss: Loss,
    data: Data,
    backend: str,
) -> tuple[float, Floats]:
    """Return the training loss (with L2) of the examples and its gradient, flat."""
    return Slope(layout, parameters, loss, data, backend)()


class Slope:
    """Training loss, with L2, of the same examples and its gradient, at every call's parameters.

    Parameters are those of `loss_and_gradient`, the conventions by which things count, and the
    caller's limit of threads.

    Attributes
    ----------
    asked : tuple
        Layout, parameters, loss and data.
    run : Run or None
        What computes natively.
    """

    def __init__(
        self,
        layout: Layout,
        parameters: Floats,
        loss: Loss,
        data: Data,
        backend: str,
        conventions: Conventions = OWN,
        threads: int | None = None,
    ) -> None:
        self.asked = layout, parameters, loss, data
        self._conventions = conventions
        self._gradient = aligned_zeros(layout.size, parameters.dtype)
        self.run: Run | None = None
        if backend == "native":
            self.run = Run(
                layout.operations, parameters.dtype, data, loss,
                gradient=True, conventions=conventions, threads=threads,
            )  # fmt: skip

    def __call__(self) -> tuple[float, Floats]:
        """Return the loss and its gradient, flat; the next call may write over the gradient."""
        if self.run is None:
            return self._textbook()
        self.run.load(self.asked[1])
        value = _mean(self.run(codes.GRADIENT))
        self.run.store(self._gradient, place=1)
        return value, self._gradient

    def _textbook(self) -> tuple[float, Floats]:
        """Compute them on the reference."""
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
        dX = reference_walk.below(layout, parameters, operations, passed, slopes[-1].dZ, D)
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


def trace(
    layout: Layout,
    parameters: Floats,
    loss: Loss,
    data: Data,
    backend: str,
) -> Trace:
    """Return every intermediate of one pass over the examples, taken as one batch."""
    if backend == "reference":
        return textbook_trace(layout, parameters, loss, data)
    layout = layout.without_training()
    operations = layout.operations
    run = Run(operations, parameters.dtype, data, loss, gradient=True, keep=True, penalty=False)
    run.load(parameters)
    value = _mean(run(codes.GRADIENT))
    gradient = aligned_zeros(layout.size, parameters.dtype)
    run.store(gradient, place=1)
    dense = run.program.table[0, run.program.table["form"][0] == codes.MATRIX]

    def kept(place: str) -> list[Floats]:
        return [run.rows_at(int(row[place]), int(row["outputs"])) for row in dense]

    A, dZ = kept("result"), kept("dresult")
    # A matched loss stops at Z of the last layer, so its prediction is computed for itself.
    A[-1] = predictions(layout, parameters, data.X, backend=backend)
    # No step asks for it, so that the engine does not compute it.
    first = operations.index(layout.blocks[0])
    before = operations[:first]
    with np.errstate(all="ignore"):
        dX = dZ[0] @ layout.weights(parameters)[0].T
        if any(second is not None and second < first for second in seconds(operations)):
            # A sum reads X, or what comes of it before the first product.
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
