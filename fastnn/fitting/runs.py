"""The driver of the engine: a run has its plan, its workspace and its examples.

This file is long because every way of calling the engine shares what a run holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import tuning
from fastnn.conventions import OWN, Conventions
from fastnn.data import Data
from fastnn.fitting.tallies import Counting, Room
from fastnn.kernels import codes, records
from fastnn.kinds import drop_numbers
from fastnn.layout import Operation, Program, aligned_zeros
from fastnn.losses import Loss
from fastnn.machine.system import usable_cores
from fastnn.machine.threads import Outcome, ThreadTuner, crowd, fitting, together
from fastnn.predicting.predictor import SPARSE_FACTOR, tiling_of
from fastnn.sparse import SparseRows

__all__ = ["Packed", "Run", "mean_of"]

Floats = NDArray[np.floating]

# The update of a weight takes about as long as so many multiplications or additions in a product,
# as it is bound by memory.
_STEP_FACTOR = 50

# Places of X and out among the engine's arguments.
_ROWS_AT, _OUT_AT = 11, 16

# Bytes of the smallest pages anywhere.
_PAGE = 4096

# So many steps in one call of a fit that the cost of starting threads is negligible.
_MANY_STEPS = 10**9


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
        self._full = None if all(one.plain for one in operations) else 1
        self._beside = 0
        if isinstance(data.X, SparseRows) and gradient:
            self._beside = _STEP_FACTOR * _first(operations).W.size
        if gradient:
            self._beside += _STEP_FACTOR * _apart(operations)
        step = self._work * batch + self._beside
        self._steps = 1 if order is None else _MANY_STEPS
        most = fitting(threads, step, self._steps, -(-batch // tiling.rows))
        program = Program.kept(
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
        self._integers[: len(program.known)] = program.known
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
        self._left, self._warm = 0, False
        self._tuner = ThreadTuner.of(
            (kind, dtype.char, batch, gradient, training, self._work), step, sure
        )
        self._nowhere = np.zeros((0, 0), dtype)
        self._out = self._nowhere
        self._picks = np.zeros((most, height), np.int64)
        self._order = np.zeros(0, np.int64) if order is None else order
        self._etas = np.zeros(0)
        self._data = data
        self._entries: int | None = None  # for how many of a chunk there is room, once asked
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

    def average(self, code: int, decay: float, operations: Sequence[Operation]) -> None:
        """Have the last vector of moments be an average of these operations' parameters."""
        plan = self._plan
        vectors = int(plan["state"][0]) * (1 + int(plan["moments"][0]))
        tiled = all(
            one.trainable and not one.bounded
            if one.kind.form == codes.MATRIX
            else not one.parameters
            for one in operations
        )
        far = vectors * self.dtype.itemsize >= tuning.current.averaged_bytes
        if code == codes.EACH_STEP and tiled and far:
            code = codes.EACH_TILE
        plan["average"], plan["decay"] = code, decay

    def drop_at(self, rates: Mapping[int, float]) -> None:
        """Have dropouts, by their places, drop such parts from the next step on."""
        table = self.program.table
        drops = table["operation"] == codes.DROPOUT
        for place, rate in rates.items():
            for name, number in drop_numbers(rate).items():
                # In every thread's copy.
                table[name][drops & (table["place"] == place)] = number

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
        self._left = left or 0
        allowed = self._allowed(self._most)
        steps = self._tuner.ration(allowed, left)
        if steps is None and allowed < self._most:
            # More threads may be allowed soon.
            figures = tuning.current
            soon = min(max(crowd.pause(), figures.recheck), figures.slice_seconds)
            steps = max(1, int(soon / self._tuner.alone()))
        return steps

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
        X, starts, columns, entries = data.arrays
        return (
            self._plan, program.table, self.numbers, self._etas, self._sums, self.report, record,
            signals, True, self.workspace, self._picks, X, targets.labels, targets.values,
            data.weights, self._order, self._out, self._integers, starts, columns,
            entries, self._full,
        )  # fmt: skip

    @property
    def order(self) -> NDArray[np.int64]:
        """The order of the examples; empty for their own."""
        return self._order

    def follow(self, order: NDArray[np.int64]) -> None:
        """From now on take examples in this order; in their own where it is empty."""
        self._order = order

    def has_room_for(self, data: Data) -> bool:
        """Return whether other examples can take the place of these: sparse ones may not."""
        if not isinstance(data.X, SparseRows):
            return True
        chunk = int(self._plan["chunk"][0])
        if self._entries is None:
            assert isinstance(self._data.X, SparseRows)
            self._entries = self._data.X.most(chunk)
        return data.X.most(chunk) <= self._entries

    def go_on_with(self, data: Data, order: NDArray[np.int64], *, begun: bool, ends: bool) -> None:
        """Train on other examples of an epoch, of which steps are counted from their beginning.

        Parameters
        ----------
        data : Data
            The examples, at most as many as before.
        order : ndarray of int64 (n,)
            Their order.
        begun : bool
            Whether the epoch had others before, whose counts go on.
        ends : bool
            Whether the epoch ends with them.
        """
        self._data, self._order = data, order
        self._plan["missing"] = data.targets.missing
        self._plan["begun"] = begun
        if self._counting is not None:
            self._plan["measures"] = ends

    def keep_best_of(self, other: Run) -> None:
        """Take over what another run of the same layers keeps of its best epoch."""
        mine, theirs = int(self._plan["best"][0]), int(other._plan["best"][0])
        if self._counting is not None and mine != codes.NONE:
            self.workspace[mine:][: self.state] = other.workspace[theirs:][: self.state]

    @property
    def figures(self) -> NDArray[np.float64]:
        """Total weight of the training examples, and the spreads of their targets."""
        begin, targets = int(self._plan["figures"][0]), int(self._plan["targets"][0])
        return self._sums[begin : begin + (1 + targets if self._counting is not None else 0)]

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
        X, starts, columns, entries = data.arrays
        etas = self._etas if rates is None else rates

        led = 0.0

        def call(leading: bool) -> None:
            nonlocal led
            here = time.perf_counter()
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
                starts,
                columns,
                entries,
                self._full,
            )
            if leading:
                led = time.perf_counter() - here

        # Calls other than a fit's steps differ in size.
        share = (last - first) * examples / int(plan["batch"][0])
        if self._held_share:
            epoch = -(-len(data) // examples)
            share += (last // epoch - first // epoch) * self._held_share
        # The first steps find nothing in the caches, so that others tell more.
        training = mode == codes.TRAIN
        telling = not training or self._warm or self._left <= last - first
        self._warm = self._warm or training
        began = time.perf_counter()
        if size == 1:
            call(True)
            if most > 1 and telling:
                self._tuner.note(1, share, time.perf_counter() - began)
            return record
        self._set_terms(signals, size, last - first)
        together(size, call, lambda: team.dismiss(signals))
        seconds = time.perf_counter() - began
        outcome = Outcome(
            int(signals[team.CAME]), team.stayed(signals),
            1e-9 * int(signals[team.WAITED]), 1e-9 * int(signals[team.LOST]),
        )  # fmt: skip
        if telling or outcome.stayed < size:
            self._tuner.judge(size, share, seconds, led if training else None, outcome)
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


def mean_of(record: NDArray[np.void]) -> float:
    """Return the mean loss of a record's only epoch."""
    return float(record["loss_sum"][0] / record["weight_sum"][0])


def _work(
    operations: Sequence[Operation], gradient: bool, X: Floats | SparseRows | None = None
) -> int:
    """Return the multiplications and additions per example, averaged over X."""
    sizes = [2 * one.W.size for one in operations if one.kind.form == codes.MATRIX]
    sizes += [one.kind.work(one.layer, one.inputs) for one in operations if one.kind.work]
    first, *others = sizes or [0]
    if isinstance(X, SparseRows):
        first = SPARSE_FACTOR * 2 * X.entries // len(X) * _first(operations).outputs
    return 2 * first + 3 * sum(others) if gradient else first + sum(others)


def _apart(operations: Sequence[Operation]) -> int:
    """Return how many parameters a step goes through that are in no product."""
    spans = [one for one in operations if one.kind.form == codes.ONE_SPAN and one.trainable]
    return sum(entry.size for one in spans for entry in one.parameters)


def _first(operations: Sequence[Operation]) -> Operation:
    """Return the first fully connected layer."""
    return next(one for one in operations if one.kind.form == codes.MATRIX)
