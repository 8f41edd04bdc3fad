"""What takes a fit's steps where one is an iteration over all examples: searches as a stepper."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fastnn.data import Data, Window
from fastnn.errors import DivergenceError
from fastnn.fitting.dropping import UNSCHEDULED
from fastnn.fitting.jobs import Job
from fastnn.fitting.least_squares import LeastSquares, check_squares
from fastnn.fitting.steppers import Slice, Stepper
from fastnn.kernels import codes, records
from fastnn.layout import Layout
from fastnn.losses import Loss
from fastnn.path import Path
from fastnn.whole_batch import LBFGS, WholeBatch

__all__ = ["QuasiNewton", "SearchStepper", "check_search", "stepper_of"]

Floats = NDArray[np.floating]

_ENDINGS = {
    codes.SMALL_GRADIENT: "converged: the gradient is within the tolerance",
    codes.SMALL_REDUCTION: "converged: the loss falls by rounding only",
    codes.NO_PROGRESS: "no step lowers the loss any more",
}


class QuasiNewton:
    """Iterations of L-BFGS on a network's training loss; attributes as of `LeastSquares`.

    Parameters are those of `LeastSquares`, for any loss, and the caller's limit of threads.
    """

    def __init__(
        self,
        layout: Layout,
        parameters: Floats,
        loss: Loss,
        data: Data,
        record: LBFGS,
        path: Path,
        threads: int | None,
    ) -> None:
        self._record, self._path = record, path
        self._vector = parameters.copy()
        self._slope = path.slope(layout, self._vector, loss, data, threads=threads)
        self._evaluations = 0
        self.restart(parameters)

    def restart(self, parameters: Floats) -> None:
        """Begin anew at other parameters, without a memory."""
        self._search = self._path.search(parameters, self._record.memory, self._record.tolerance)
        self.ended = ""
        self._tell()

    @property
    def point(self) -> NDArray[np.float64]:
        """The parameters."""
        return self._search.best[0]

    @property
    def loss(self) -> float:
        """Of these, with L2."""
        return self._search.best[1]

    def _tell(self) -> None:
        """Evaluate where the search asks for it."""
        self._vector[:] = self._search.point
        self._evaluations += 1
        task = self._search.tell(*self._slope())
        if task != codes.EVALUATE:
            self.ended = _ENDINGS[task]

    def iterate(self) -> bool:
        """Go on to the next point that is accepted; return whether there was one."""
        while not self.ended:
            if self._evaluations >= self._record.max_evaluations:
                self.ended = f"max_evaluations={self._record.max_evaluations} reached"
                return False
            self._tell()
            if self._search.accepted:
                return True
        return False


def check_search(record: WholeBatch, layout: Layout, loss: Loss, data: Data) -> None:
    """Refuse what a search cannot train, before anything is changed."""
    for one in layout.operations:
        if one.of_steps is not None:
            raise ValueError(
                f"{type(record).__name__} minimises a smooth loss, without bounds and at a rate of "
                f"its own; got {one.of_steps} of layer {one.name}. An optimizer that takes steps, "
                "such as Adam, takes that into account; l2 suits both."
            )
        if one.buffers:
            raise ValueError(
                f"{type(record).__name__} evaluates the loss at weights that it does not take, "
                f"which the running mean and variance of a layer cannot follow; got {one.layer!r}. "
                "fastnn.LayerNorm() has none; an optimizer that takes steps, such as Adam, trains "
                "both."
            )
        if one.kind.in_training:
            raise ValueError(
                f"{type(record).__name__} needs the same loss at every evaluation, without what is "
                f"drawn in training; got {one.layer!r}. An optimizer that takes steps, such as "
                "Adam, trains it."
            )
    if not isinstance(record, LBFGS):
        check_squares(layout, loss, data, record)


def solver_of(job: Job) -> LeastSquares | QuasiNewton:
    """Return what takes a job's iterations."""
    assert job.search is not None
    record = job.search.record
    given = job.layout, job.parameters, job.loss, job.data
    if isinstance(record, LBFGS):
        return QuasiNewton(*given, record, job.path, job.threads)
    return LeastSquares(*given, record, job.path)


class SearchStepper:
    """Takes iterations of a search as the steps of a fit; see `steppers.Stepper`."""

    def __init__(self, job: Job) -> None:
        self.order = np.arange(len(job.data), dtype=np.int64)
        self.report = np.zeros((), records.REPORT)
        self.rates = self.counts = np.zeros(0)
        self.drop_rates = UNSCHEDULED
        self.epoch = 0
        self.outputs = job.outputs
        self._job = job
        self._solver = solver_of(job)
        if not np.isfinite(self._solver.loss):
            raise DivergenceError(
                f"training cannot begin: the loss is {self._solver.loss}. Bring features and "
                "targets to unit scale, or set other parameters.",
                epoch=1,
                step=1,
                layer="",
            )
        self._shown = job.parameters.copy()

    @property
    def best_value(self) -> float:
        """Infinity: here nothing is watched."""
        return np.inf

    def follow(self, window: Window) -> None:
        """Do nothing: a search needs all examples at once."""

    def run(self, first: int, last: int, number: int, record: NDArray[np.void]) -> Slice:
        """Take iterations until the last one, or until the search is over."""
        job, done = self._job, 0
        assert job.search is not None
        total = job.data.total
        for step in range(first, last):
            loss = self._solver.loss
            self._solver.iterate()
            here = record[step - first]
            here["loss_sum"], here["weight_sum"] = loss * total, total
            job.state.numbers["steps"] += 1
            done = step + 1 - first
            self.report["steps_done"] = done
            job.search.ended = self._solver.ended
            if self._solver.ended:
                break
        return Slice(record, done, codes.FINE)

    def ration(self, left: int | None = None) -> int | None:
        """Return None: there is nothing to try."""
        return None

    def take(self, moments: bool = False) -> None:
        """Begin anew at the job's parameters, where somebody has changed them."""
        if not np.array_equal(self._job.parameters, self._shown):
            self.load(self._job.parameters, ())

    def show(self, average: bool = False) -> None:
        """Write the job's parameters; there is no average."""
        job = self._job
        job.shown.write(lambda: self.store(job.parameters, job.state.moments))
        self._shown[:] = job.parameters

    def load(self, parameters: Floats, moments: Iterable[Floats]) -> None:
        """Begin anew at parameters."""
        self._solver.restart(parameters)
        self._shown[:] = parameters

    def store(self, parameters: Floats, moments: Floats) -> None:
        """Write the parameters as they are now."""
        np.copyto(parameters, self._solver.point, casting="same_kind")

    def store_moments(self, moments: Floats) -> None:
        """Do nothing: there are none."""

    def leave_moments(self) -> Floats:
        """Return none."""
        return self._job.state.moments

    def store_best(self, parameters: Floats) -> None:
        """Do nothing: here epochs end in Python."""

    def measure_no_more(self) -> None:
        """Do nothing: here epochs end in Python."""


def stepper_of(job: Job) -> Stepper:
    """Return what takes a job's steps."""
    return job.path.stepper(job) if job.search is None else SearchStepper(job)
