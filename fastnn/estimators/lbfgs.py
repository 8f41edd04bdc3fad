"""Full batches: L-BFGS on the library's loss and gradient, our own search or SciPy's.

Both take the same steps but for rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from fastnn.data import Data
from fastnn.estimators.blame import overflow
from fastnn.estimators.blas import one_blas_thread
from fastnn.estimators.judge import Judge, Measure, mean_loss
from fastnn.estimators.parameters import THEIRS, plain
from fastnn.estimators.watchers import Watchers
from fastnn.fitting.compiled_call import OneCall
from fastnn.fitting.quasi_newton import Curvature
from fastnn.fitting.quasi_newton import Search as QuasiNewton
from fastnn.kernels import codes
from fastnn.network import Sequential
from fastnn.notices import warn

__all__ = ["FullBatch", "Search"]

Floats = NDArray[np.floating]
Vector = NDArray[np.float64]

# Pairs that scikit-learn's search keeps.
_MEMORY = 10


class FullBatch:
    """Loss and gradient of all examples, with L2, at any weights.

    Parameters
    ----------
    known : Data
        The examples.
    measure : Measure
        Vector and loss; its layout has no L2.
    alpha : float
        Strength of L2, which is divided by the examples or by their weights.
    threads : int or None
        How many may compute; None for the process's limit.
    """

    def __init__(self, known: Data, measure: Measure, alpha: float, threads: int | None) -> None:
        self._known, self._measure = known, measure
        # The search tries points that it does not accept, which are nobody else's to see.
        self._vector = np.empty_like(measure.vector)
        self._constant = _constant(known, measure)
        layout = measure.layout.with_l2(alpha)
        slope = measure.path.slope(
            layout, self._vector, measure.loss, known, measure.conventions, threads
        )  # fmt: skip
        self._found: Callable[[], tuple[float, Floats]] = slope
        if OneCall.suits(slope):
            self._found = OneCall(slope)

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """Return loss and gradient at x; the next call may write over the gradient."""
        self._vector[:] = x
        loss, gradient = self._found()
        return loss + self._constant, np.asarray(gradient, np.float64)

    def overflow(self, network: Sequential) -> str | None:
        """Say that the targets are too large, if they are, for the loss of the weights shown."""
        if np.isfinite(mean_loss(self._measure, self._known)()):
            return None
        return overflow(network, self._measure, self._known)


def _constant(known: Data, measure: Measure) -> float:
    """Return what is added to the engine's loss of all examples."""
    if measure.constant is None:
        return 0.0
    weights = known.weights if known.weights.size else None
    return float(np.average(measure.constant(known.targets.values), weights=weights))


class _Enough(Exception):
    """A callback ends the search, or the clock, which leaves a warning."""


@dataclass(frozen=True, slots=True)
class _Found:
    """How a search ended, in SciPy's words: 0 where it converged, 1 at a limit, else 2."""

    status: int
    message: str
    x: Vector
    fun: float
    nit: int


class Search:
    """One fit with solver="lbfgs".

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its parameters are used; ``loss_``, ``n_iter_`` and validation curves are written.
    objective : FullBatch
        The function to minimise.
    measure : Measure
        Its vector is where the search starts; every point that is accepted is shown there.
    judge : Judge or None
        Scores validation examples after every iteration.
    watchers : Watchers
        The callbacks that run after every iteration.
    known : Curvature, optional
        What an earlier search has learnt.
    """

    def __init__(
        self,
        estimator: Any,
        objective: FullBatch,
        measure: Measure,
        judge: Judge | None,
        watchers: Watchers,
        known: Curvature | None = None,
    ) -> None:
        self._estimator = estimator
        self._objective = objective
        self._vector, self._shown = measure.vector, measure.shown
        self._path = measure.path
        self._judge, self._watchers = judge, watchers
        self._known = known
        limit = estimator.max_time
        self._limit = None if limit is None else plain(limit, "max_time")
        self._tol = plain(estimator.tol, "tol")

    def run(self) -> Curvature | None:
        """Search, and end with the best weights found; return what was learnt of the curvature."""
        one = self._estimator
        one.n_iter_ = 0
        self._began = time.perf_counter()
        self._watchers.epoch_begins()
        search = None
        try:
            if one.search == "scipy":
                found: Any = self._by_scipy()
            else:
                search = self._path.search(self._vector, _MEMORY, self._tol, self._known)
                found = self._by(search)
        except _Enough as reason:
            if reason.args:
                _warn(*reason.args)
            return self._learnt(search)
        one.n_iter_ = min(int(found.nit), one.max_iter)
        one.loss_ = np.float64(found.fun)
        self._show(found.x)
        if found.status != 0:
            why = self._objective.overflow(one._weights.network)
            _warn(_failed(found, one.n_iter_, one.max_iter) + (f"\n\n{why}" if why else ""))
        return self._learnt(search)

    def _learnt(self, search: QuasiNewton | None) -> Curvature | None:
        """Return what a search remembers, where a later fit may go on with it."""
        going_on = self._estimator.warm_start and self._estimator.search == "continued"
        return search.curvature if search is not None and going_on else None

    def _by(self, search: QuasiNewton) -> _Found:
        """Search by the library's own L-BFGS."""
        one, evaluations = self._estimator, 0
        task = codes.EVALUATE
        while task == codes.EVALUATE:
            loss, gradient = self._objective(search.point)
            evaluations += 1
            task = search.tell(loss, gradient)
            if not search.accepted:
                continue
            self._loss = loss
            self._iteration(search.best[0])
            # SciPy looks at limits before it looks whether it has converged.
            if one.n_iter_ >= one.max_iter:
                return self._ended(search, 1, "STOP: TOTAL NO. OF ITERATIONS REACHED LIMIT")
            if evaluations > one.max_fun:
                return self._ended(search, 1, "STOP: TOTAL NO. OF F,G EVALUATIONS EXCEEDS LIMIT")
        if task == codes.NO_PROGRESS:
            return self._ended(search, 1 if evaluations > one.max_fun else 2, "ABNORMAL: ")
        return self._ended(search, 0, "")

    def _ended(self, search: QuasiNewton, status: int, message: str) -> _Found:
        """Return how a search ended."""
        return _Found(status, message, *search.best, self._estimator.n_iter_)

    def _by_scipy(self) -> Any:
        """Search by SciPy's L-BFGS-B."""
        one = self._estimator
        options = {"maxfun": one.max_fun, "maxiter": one.max_iter, "gtol": self._tol}
        with one_blas_thread():
            return minimize(
                self._value,
                self._vector.astype(np.float64),
                method="L-BFGS-B",
                jac=self._gradient,
                callback=self._iteration,
                options=options,
            )

    def _show(self, x: Vector) -> None:
        """Let the users' vector be this point."""
        self._shown.write(lambda: np.copyto(self._vector, x, casting="same_kind"))

    def _value(self, x: Vector) -> float:
        """Return the loss at x; keep it for the iteration's end, and the gradient for SciPy."""
        self._loss, self._slope = self._objective(x)
        self._x = x
        return self._loss

    def _gradient(self, x: Vector) -> Vector:
        """Return the gradient at x, which SciPy asks for after the loss."""
        if not np.array_equal(x, self._x):
            self._value(x)
        return self._slope

    def _iteration(self, x: Vector) -> None:
        """Report an iteration, which ended with the last evaluation."""
        one = self._estimator
        one.n_iter_ += 1
        one.loss_ = np.float64(self._loss)
        self._show(x)
        logs = {"loss": self._loss}
        if self._judge is not None:
            score, loss = self._judge()
            one.validation_scores_.append(score)
            one.validation_loss_curve_.append(loss)
            if self._judge.better(score, one.best_validation_score_):
                one.best_validation_score_ = score
            logs |= {"val_loss": loss, self._judge.name: score}
        if self._watchers.epoch_ends(logs):
            raise _Enough
        if self._limit is not None and time.perf_counter() - self._began >= self._limit:
            raise _Enough(f"max_time of {self._limit:g} s reached after {one.n_iter_} iterations.")
        self._watchers.epoch_begins()


def _failed(found: Any, iterations: int, allowed: int) -> str:
    """Say why a search did not converge, and what to try, in scikit-learn's words."""
    message = (
        f"lbfgs failed to converge after {iterations} iteration(s) (status={found.status}):\n"
        f"{found.message}\n"
    )
    if iterations == allowed:
        message += (
            f"\nIncrease the number of iterations to improve the convergence (max_iter={allowed})."
        )
    return (
        f"{message}\nYou might also want to scale the data as shown in:\n"
        "    https://scikit-learn.org/stable/modules/preprocessing.html"
    )


def _warn(message: str) -> None:
    """Warn that a search has not converged."""
    warn(message, ConvergenceWarning, THEIRS)
