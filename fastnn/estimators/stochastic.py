"""Epochs of minibatches: sgd and adam, with scikit-learn's rules for when to stop.

Random numbers are drawn as scikit-learn draws them: every epoch shuffles the order of the last.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastnn.data import Data
from fastnn.errors import DivergenceError
from fastnn.estimators.blame import overflow
from fastnn.estimators.judge import Judge, Measure
from fastnn.estimators.ledger import Ledger
from fastnn.estimators.pace import Pace
from fastnn.estimators.parameters import THEIRS, plain
from fastnn.estimators.watchers import Watchers
from fastnn.fitting.descent import Bad, Descent
from fastnn.fitting.dropping import UNSCHEDULED, DropRates
from fastnn.fitting.jobs import Job
from fastnn.fitting.orders import Given
from fastnn.fitting.snapshots import InPlace
from fastnn.notices import warn

__all__ = ["NOT_FINITE", "Epochs"]

Floats = NDArray[np.floating]
Order = NDArray[np.int64]

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)


class Epochs(Ledger):
    """The policy of a fit, or of a `partial_fit`, of an estimator.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its parameters are used; its fitted attributes are written epoch by epoch.
    job : Job
        What is trained.
    pace : Pace
        The optimizer.
    measure : Measure
        Vector and loss.
    judge : Judge or None
        Scores validation examples.
    watchers : Watchers
        The callbacks that run after every epoch.
    fallback : ndarray (size,) or None
        The weights to end with where no score is better than those before; None for the last.
    """

    measured = False  # as far as a descent must know: no slice goes on through several epochs

    def __init__(
        self,
        estimator: Any,
        job: Job,
        pace: Pace,
        measure: Measure,
        judge: Judge | None,
        watchers: Watchers,
        fallback: Floats | None,
    ) -> None:
        super().__init__(estimator, pace, len(job.data), judge)
        self._job, self._measure, self._watchers = job, measure, watchers
        self._best = fallback
        self._kept = False  # whether the engine has better ones
        self._counting = job.counting
        self._values: NDArray[np.float64]  # what the engine measured at the end of the last epoch
        self._constant = _constants(measure.constant, job.data, job.batch_size)
        self._source = Given(job.data)
        self._drawn: Order | None = None  # of the first epoch, where it is known
        self._limit = math.inf
        if estimator.max_time is not None:
            self._limit = plain(estimator.max_time, "max_time")
        self._epochs, self._looked_at, self._over = 0, 0, False
        self._descent = Descent(job, self._source, self, InPlace(job, pace.shows))

    def run(self, epochs: int, *, incremental: bool, order: Order | None = None) -> None:
        """Train for so many epochs, or until a stopping rule applies; once where incremental.

        The first epoch has the order that is given, or draws its own.
        """
        self._estimator.n_iter_ = 0
        self._epochs, self._once, self._drawn = epochs, incremental, order
        self._began = time.perf_counter()
        try:
            self._descent.run()
        except DivergenceError as problem:
            if not self._stopping_early:
                raise
            self._record(float("nan"))
            _warn(f"{problem} The weights are the best before.")
        self._take_best()
        best = self._best
        if self._stopping_early and best is not None:
            vector = self._measure.vector
            self._measure.shown.write(lambda: np.copyto(vector, best))

    # What a descent asks for.

    def goes_on(self, descent: Descent) -> bool:
        """Return whether to take more steps; begin an epoch where the last one is over."""
        if not descent.between_epochs:
            return True
        if self._over:
            return False
        if self._estimator.n_iter_ >= self._epochs:
            _warn(
                f"Stochastic Optimizer: Maximum iterations ({self._epochs}) reached and the "
                "optimization hasn't converged yet."
            )
            return False
        self._watchers.epoch_begins()
        order, self._drawn = self._drawn, None
        if order is None and self._estimator.shuffle:
            # From that of the last, as scikit-learn does.
            places = np.arange(self._examples)
            self._estimator._random_state.shuffle(places)
            order = self._source.order[places]
        if order is not None:
            self._source.follow(order, descent.stepper.order)
        return True

    def horizon(self, epoch: int) -> tuple[int, int | None]:
        """Return 1: every epoch is looked at; nobody knows how many are to come."""
        return 1, None

    def rates(self, epoch: int, first: int, last: int) -> NDArray[np.float64]:
        """Return the scheduled learning rates of steps."""
        return self._pace.rates(first, last, self._job.steps, self._estimator.max_iter)

    def drop_rates(self, epoch: int) -> DropRates:
        """Return none: an estimator refuses layers with a schedule."""
        return UNSCHEDULED

    def values(self, ended: NDArray[np.void]) -> Iterable[NDArray[np.void]]:
        """Return the engine's record of each of these epochs."""
        return list(ended)

    def look(self, descent: Descent) -> None:
        """Record an epoch that ended, and see whether it is the last."""
        one = self._estimator
        if len(descent.ended) == self._looked_at:
            return
        self._looked_at = len(descent.ended)
        record = descent.ended[-1]
        counted = float(record["weight_sum"])
        loss = float(record["loss_sum"] / counted) if counted else 0.0
        self._values = record["values"]
        self._record(loss + self._constant(self._source.order))
        stop = self._tell(descent)
        self._over = self._exhausted() or stop or self._once
        if not self._over and time.perf_counter() - self._began >= self._limit:
            self._over = True
            _warn(f"max_time of {self._limit:g} s reached after {one.n_iter_} epochs.")

    def interrupted(self, descent: Descent) -> None:
        """Say that Ctrl-C ended the fit."""
        self._own_up()
        warn("Training interrupted by user.", module=THEIRS)

    def diverged(self, bad: Bad) -> DivergenceError:
        """Say what made the weights turn non-finite."""
        epoch, step = self._estimator.n_iter_ + 1, bad.step + 1
        where = f"It happened in epoch {epoch}, step {step}; the weights are those from before."
        reason = overflow(self._estimator._weights.network, self._measure, bad.batch)
        if reason is None:
            rate = float(self._pace.learning_rate_init)
            advice = f"A smaller learning_rate_init than {rate:g} may help too."
            said = f"{NOT_FINITE} {where} {advice}"
        else:
            said = f"{reason} {where}"
        return DivergenceError(said, epoch=epoch, step=step)

    # Between epochs.

    def _score(self, judge: Judge) -> None:
        """Score the validation examples; keep the weights where it is the best."""
        one = self._estimator
        score, loss = self._judged(judge)
        one.validation_scores_.append(score)
        one.validation_loss_curve_.append(loss)
        if one.verbose:
            print(f"Validation score: {score:f}")
        best = one.best_validation_score_
        if self._stopping_early:
            worse = judge.sign * score < judge.sign * best + self._tol
            one._no_improvement_count = one._no_improvement_count + 1 if worse else 0
        if judge.better(score, best):
            # Before the score, so that an interruption in between is found by `_own_up`.
            if self._stopping_early and self._counting is not None:
                self._kept = True
            elif self._stopping_early:
                self._best = self._measure.vector.copy()
            one.best_validation_score_ = score

    def _judged(self, judge: Judge) -> tuple[float, float]:
        """Return score and loss of the validation examples."""
        loss, counting = self._estimator.loss_, self._counting
        if loss != loss:
            return float("nan"), float("nan")
        if counting is not None:
            found = judge.from_record(counting, self._values)
            if np.isfinite(found[0]):
                return found
            # scikit-learn has its own ways with such outputs.
            self._take_best()
            self._descent.stepper.measure_no_more()
            self._counting = None
        self._descent.show()
        return judge()

    def _own_up(self) -> None:
        """Record the best score where the engine kept its weights, but was interrupted then."""
        counting, one, judge = self._counting, self._estimator, self._judge
        if judge is None or counting is None or counting.watch is None:
            return
        score = counting.watch.sign * self._descent.stepper.best_value
        if judge.better(score, one.best_validation_score_):
            self._kept = True
            one.best_validation_score_ = score

    def _take_best(self) -> None:
        """Bring back the weights of the best score where the engine keeps them."""
        if self._kept:
            self._best = self._descent.best
            self._kept = False

    def _tell(self, descent: Descent) -> bool:
        """Pass an epoch's values to the watchers; return whether one of them wants to stop."""
        if not self._watchers.present:
            return False
        descent.show()
        stop = self._watchers.epoch_ends(self._logs())
        # A callback may have changed the weights.
        descent.renew()
        return stop


def _warn(message: str) -> None:
    """Warn that a fit has not converged."""
    warn(message, ConvergenceWarning, THEIRS)


def _constants(
    constant: Callable[[NDArray[Any]], NDArray[Any]] | None, known: Data, batch: int
) -> Callable[[NDArray[np.int64]], float]:
    """Return what is added to the engine's loss of an epoch, as a function of the order.

    The loss of a batch is a mean by weights, that of an epoch a mean of batches by examples.
    """
    if constant is None:
        return lambda order: 0.0
    each = constant(known.targets.values)
    starts = np.arange(0, len(known), batch)
    sizes = np.diff(np.append(starts, len(known)))
    weights = known.weights if known.weights.size else np.ones(len(known))

    def of(order: NDArray[np.int64]) -> float:
        shares = np.add.reduceat(weights[order], starts)
        sums = np.add.reduceat((weights * each)[order], starts)
        counts = shares != 0.0
        if not counts.any():
            return 0.0
        return float(np.average(sums[counts] / shares[counts], weights=sizes[counts]))

    return of
