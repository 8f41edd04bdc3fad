"""What every epoch writes into an estimator, however its steps were taken."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.estimators.judge import Judge
from fastnn.estimators.pace import Pace
from fastnn.estimators.parameters import plain

__all__ = ["Ledger"]


class Ledger:
    """Records epochs in the estimator's attributes, and decides when to stop.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its parameters rule; its fitted attributes are written epoch by epoch.
    pace : Pace
        The optimizer.
    examples : int
        Of an epoch.
    judge : Judge or None, default None
        What scores validation examples.
    """

    def __init__(
        self, estimator: Any, pace: Pace, examples: int, judge: Judge | None = None
    ) -> None:
        self._estimator = estimator
        self._pace = pace
        self._examples = examples
        self._judge = judge
        self._tol = plain(estimator.tol, "tol")

    def record(self, loss: float, examples: int) -> None:
        """Record the only epoch of a `partial_fit`, which had so many examples."""
        self._examples = examples
        self._record(loss)
        self._exhausted()

    @property
    def _stopping_early(self) -> bool:
        """Whether the weights of the best score are to be kept."""
        return bool(self._estimator.early_stopping)

    def _record(self, loss: float) -> None:
        """Write what an epoch gave into the estimator's attributes."""
        one = self._estimator
        # A number of NumPy's, as in scikit-learn's attributes.
        loss = np.float64(loss)
        one.n_iter_ += 1
        one.loss_ = loss
        one.t_ += self._examples
        one.loss_curve_.append(loss)
        if one.verbose:
            print(f"Iteration {one.n_iter_}, loss = {loss:.8f}")
        if self._judge is not None:
            self._score(self._judge)
        if not self._stopping_early:
            # With the comparison this way round, as there, NaN is no worse, and no better.
            worse = loss > one.best_loss_ - self._tol
            one._no_improvement_count = one._no_improvement_count + 1 if worse else 0
            if loss < one.best_loss_:
                one.best_loss_ = loss
        self._pace.epoch_ends(one.t_, self._logs())

    def _score(self, judge: Judge) -> None:
        """Score the validation examples."""
        raise NotImplementedError

    def _logs(self) -> dict[str, float]:
        """Return what callbacks see of an epoch."""
        logs = {"loss": self._estimator.loss_}
        if self._judge is not None:
            logs["val_loss"] = self._estimator.validation_loss_curve_[-1]
            logs[self._judge.name] = self._estimator.validation_scores_[-1]
        return logs

    def _exhausted(self) -> bool:
        """Return whether nothing has improved for long enough to stop."""
        one = self._estimator
        if one._no_improvement_count <= one.n_iter_no_change:
            return False
        what = "Validation score" if self._stopping_early else "Training loss"
        message = (
            f"{what} did not improve more than tol={self._tol:f} for {one.n_iter_no_change} "
            "consecutive epochs."
        )
        if self._pace.stalls(message, one.verbose):
            return True
        one._no_improvement_count = 0
        return False
