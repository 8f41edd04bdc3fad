"""Epochs of minibatches: sgd and adam, with scikit-learn's rules for when to stop.

An epoch is cut into slices of native steps of about 70 ms, so that Ctrl-C takes effect at once.
Random numbers are drawn as scikit-learn draws them: every epoch shuffles the order of the last.

During steps the weights are packed.  They are unpacked before callbacks run, and now and then: from
the last unpacked state, and a list of the steps since, a fit that diverged is replayed to the step
in which it did, as steps repeat bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastnn import tuning
from fastnn.data import Data
from fastnn.errors import DivergenceError
from fastnn.estimators.blame import overflow
from fastnn.estimators.examples import Feed
from fastnn.estimators.judge import Judge, Measure
from fastnn.estimators.ledger import Ledger
from fastnn.estimators.pace import Pace
from fastnn.estimators.parameters import THEIRS, plain
from fastnn.estimators.watchers import Watchers
from fastnn.kernels import records
from fastnn.notices import warn

__all__ = ["NOT_FINITE", "Descent"]

Floats = NDArray[np.floating]

# Seconds that bringing a weight or moment back takes, until it was measured.
_SHOWING_ONE = 2e-9

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)


@dataclass(frozen=True, slots=True)
class _Taken:
    """Steps of an epoch, from first to before last: what a replay needs to take them again."""

    order: NDArray[np.int64]
    first: int
    last: int
    rate: float
    rates: NDArray[np.float64]  # of each step, where they are scheduled


class Descent(Ledger):
    """One fit, or one `partial_fit`, of an estimator.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its parameters are used; its fitted attributes are written epoch by epoch.
    known : Data
        Training examples.
    feed : Feed
        Takes the steps on them.
    batch : int
        Examples per step.
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

    def __init__(
        self,
        estimator: Any,
        known: Data,
        feed: Feed,
        batch: int,
        pace: Pace,
        measure: Measure,
        judge: Judge | None,
        watchers: Watchers,
        fallback: Floats | None,
    ) -> None:
        super().__init__(estimator, pace, len(known), judge)
        self._feed = feed
        self._vector, self._shown = measure.vector, measure.shown
        self._watchers = watchers
        self._best = fallback
        self._kept = False  # whether the engine has better ones
        self._values = np.zeros(0)  # what the engine measured at the end of the present epoch
        self._batch = batch
        self._constant = _constants(measure.constant, known, batch)
        self._known, self._measure = known, measure
        self._length = 1
        self._order = feed.order.copy()
        self._taken: list[_Taken] = []  # since weights and moments were brought back
        self._stale = 0.0  # seconds of steps since then
        self._showing = _SHOWING_ONE * (self._vector.size + pace.state.moments.size)  # seconds
        self._keep()

    def run(
        self, epochs: int, *, incremental: bool, order: NDArray[np.int64] | None = None
    ) -> None:
        """Train for so many epochs, or until a stopping rule applies; once where incremental.

        The first epoch has the order that is given, or draws its own.
        """
        one = self._estimator
        limit = None if one.max_time is None else plain(one.max_time, "max_time")
        began = time.perf_counter()
        one.n_iter_ = 0
        try:
            while one.n_iter_ < epochs:
                self._watchers.epoch_begins()
                if order is None:
                    self._shuffle()
                else:
                    self._order = self._feed.order[:] = order
                    order = None
                loss = self._epoch()
                self._record(loss)
                stop = self._tell()
                if self._exhausted() or stop or incremental:
                    break
                if limit is not None and time.perf_counter() - began >= limit:
                    _warn(f"max_time of {limit:g} s reached after {one.n_iter_} epochs.")
                    break
            else:
                _warn(
                    f"Stochastic Optimizer: Maximum iterations ({epochs}) reached and the "
                    "optimization hasn't converged yet."
                )
        except KeyboardInterrupt:
            self._settle()
            warn("Training interrupted by user.", module=THEIRS)
        except DivergenceError as problem:
            if not self._stopping_early:
                raise
            self._record(float("nan"))
            _warn(f"{problem} The weights are the best before.")
        finally:
            self._show()
        self._take_best()
        best = self._best
        if self._stopping_early and best is not None:
            self._shown.write(lambda: np.copyto(self._vector, best))

    # One epoch.

    def _shuffle(self) -> None:
        """Draw the order of an epoch from that of the last, as scikit-learn does."""
        if self._estimator.shuffle:
            places = np.arange(self._examples)
            self._estimator._random_state.shuffle(places)
            self._order = self._order[places]
            self._feed.order[:] = self._order

    def _epoch(self) -> float:
        """Take all steps of an epoch; return its loss."""
        loss_sum = counted = 0.0
        first, steps = 0, -(-self._examples // self._batch)
        while first < steps:
            length = min(self._length, self._feed.ration() or self._length)
            last = min(first + length, steps)
            if self._due():
                self._show()
            rates = self._pace.rates(first, last, steps, self._estimator.max_iter)
            began = time.perf_counter()
            rate = float(self._pace.state.numbers["learning_rate"])
            self._taken.append(_Taken(self._order, first, last, rate, rates))
            done = self._feed.run(first, last, rates)
            if done.trouble:
                self._diverged(first + done.done)
            loss_sum += done.record["loss_sum"][0]
            counted += done.record["weight_sum"][0]
            seconds = time.perf_counter() - began
            self._stale += seconds
            self._adapt(seconds, last - first)
            first = last
            self._values = done.record["values"][0]
        loss = float(loss_sum / counted) if counted else 0.0
        return loss + self._constant(self._order)

    def _adapt(self, seconds: float, steps: int) -> None:
        """Choose the next slice's length; at most eight times this one, as timings err."""
        fitting = int(tuning.current.slice_seconds * steps / max(seconds, 1e-9))
        self._length = max(1, min(fitting, 8 * steps))

    # Weights and moments: packed, unpacked, restored.

    def _due(self) -> bool:
        """Return whether to unpack weights and moments before the next steps."""
        places = len(self._taken) * self._examples
        figures = tuning.current
        late = self._stale > figures.saving_share * self._showing or places >= figures.kept_orders
        return bool(self._taken) and late

    def _show(self) -> None:
        """Unpack weights and moments, unless they are up to date."""
        if not self._taken:
            return
        began = time.perf_counter()
        self._shown.write(self._bring_back)
        self._keep()
        self._showing = time.perf_counter() - began

    def _bring_back(self) -> None:
        """Unpack weights and moments, and take down how many steps led to them."""
        self._feed.store(self._vector, self._pace.state.moments)
        self._pace.shows()

    def _keep(self) -> None:
        """Keep what a replay starts from beside weights and moments: the state's numbers."""
        self._taken.clear()
        self._stale = 0.0
        self._numbers = records.copied(self._pace.state.numbers)

    def _replay(self, taken: Iterable[_Taken]) -> None:
        """Go back to the last unpacked state, and take these steps from there."""
        state = self._pace.state
        rate = float(state.numbers["learning_rate"])
        state.numbers[...] = self._numbers
        self._feed.load(self._vector, state.moments)
        for steps in taken:
            self._feed.order[:] = steps.order
            state.numbers["learning_rate"] = steps.rate
            self._feed.run(steps.first, steps.last, steps.rates)
        state.numbers["learning_rate"] = rate

    def _settle(self) -> None:
        """Go back to before a divergence, should the interruption have hidden one."""
        self._own_up()
        self._feed.measure_no_more()
        weights, moments = np.empty_like(self._vector), np.empty_like(self._pace.state.moments)
        self._feed.store(weights, moments)
        if self._taken and not np.isfinite(weights).all():
            self._replay(self._taken[:-1])

    def _diverged(self, step: int) -> None:
        """Go back to the last finite weights, and say so."""
        self._feed.measure_no_more()
        *before, bad = self._taken
        self._replay([*before, replace(bad, last=step)] if step > bad.first else before)
        epoch = self._estimator.n_iter_ + 1
        where = f"It happened in epoch {epoch}, step {step + 1}; the weights are those from before."
        rows = bad.order[step * self._batch : (step + 1) * self._batch]
        network = self._estimator._weights.network
        reason = overflow(network, self._measure, self._known.take(rows))
        if reason is None:
            rate = float(self._pace.learning_rate_init)
            advice = f"A smaller learning_rate_init than {rate:g} may help too."
            said = f"{NOT_FINITE} {where} {advice}"
        else:
            said = f"{reason} {where}"
        raise DivergenceError(said, epoch=epoch, step=step + 1)

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
            if self._stopping_early and self._feed.counting is not None:
                self._kept = True
            elif self._stopping_early:
                self._best = self._vector.copy()
            one.best_validation_score_ = score

    def _judged(self, judge: Judge) -> tuple[float, float]:
        """Return score and loss of the validation examples."""
        loss, counting = self._estimator.loss_, self._feed.counting
        if loss != loss:
            return float("nan"), float("nan")
        if counting is not None:
            found = judge.from_record(counting, self._values)
            if np.isfinite(found[0]):
                return found
            # scikit-learn has its own ways with such outputs.
            self._take_best()
            self._feed.measure_no_more()
        self._show()
        return judge()

    def _own_up(self) -> None:
        """Record the best score where the engine kept its weights, but was interrupted then."""
        counting, one, judge = self._feed.counting, self._estimator, self._judge
        if judge is None or counting is None or counting.watch is None:
            return
        score = counting.watch.sign * self._feed.best_value
        if judge.better(score, one.best_validation_score_):
            self._kept = True
            one.best_validation_score_ = score

    def _take_best(self) -> None:
        """Bring back the weights of the best score where the engine keeps them."""
        if self._kept:
            self._best = np.empty_like(self._vector)
            self._feed.store_best(self._best)
            self._kept = False

    def _tell(self) -> bool:
        """Pass an epoch's values to the watchers; return whether one of them wants to stop."""
        if not self._watchers.present:
            return False
        self._show()
        stop = self._watchers.epoch_ends(self._logs())
        # A callback may have changed the weights.
        self._feed.take()
        self._keep()
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
