"""Callbacks of an estimator's fit: the library's, and those of scikit-learn's own protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastnn.callbacks import as_callbacks
from fastnn.checkpoints import Checkpoint
from fastnn.fitting.epochs import FitRun
from fastnn.history import History
from fastnn.network import Sequential
from fastnn.reporting.progress import Progress

__all__ = ["Watchers"]


class Watchers:
    """Calls callbacks of both kinds when a fit and its epochs begin and end."""

    def __init__(self, run: FitRun | None = None, tasks: _Tasks | None = None) -> None:
        self._run, self._tasks = run, tasks

    @classmethod
    def of(
        cls,
        estimator: Any,
        steps: int,
        names: tuple[str, ...],
        network: Sequential,
        given: tuple[Any, Any, Any],
        snapshot: Callable[[], dict[str, Any]],
    ) -> Watchers:
        """Return those of an estimator that is about to be fitted, after calling their begin hooks.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            Has the callbacks.
        steps : int
            How many epochs or iterations there may be.
        names : tuple of str
            The names of the values of every epoch.
        network : Sequential
            What callbacks see as ``run.network``.
        given : tuple
            X, y and sample_weight as the user gave them: scikit-learn's callbacks score with them.
        snapshot : callable
            Gives the fitted attributes of the moment, copied.
        """
        run = tasks = None
        if estimator.callbacks is not None:
            called = as_callbacks(estimator.callbacks)
            if any(isinstance(one, Checkpoint) for one in called):
                raise TypeError(
                    "callbacks of an estimator must not hold a Checkpoint, which writes the state "
                    "of a network's fit. Its save keeps what partial_fit and warm_start go on from."
                )
            shown = Progress(False, steps, names)
            run = FitRun(network, steps, names, History(names), called, shown)
            for callback in called:
                callback.on_fit_begin(run)
        if getattr(estimator, "_skl_callbacks", None):
            tasks = _Tasks(estimator, steps, given, snapshot)
        return cls(run, tasks)

    @property
    def present(self) -> bool:
        """Whether there is any callback, which may have changed the weights."""
        return self._run is not None or self._tasks is not None

    def epoch_begins(self) -> None:
        """Report that an epoch begins."""
        if self._tasks is not None:
            self._tasks.begin()

    def epoch_ends(self, logs: Mapping[str, float]) -> bool:
        """Report an epoch's values; return whether a callback wants to stop."""
        run = self._run
        stop = False
        if run is not None:
            run.logs = logs
            run.history.append(logs)
            run.epoch = run.history.epochs
            for callback in run.callbacks:
                callback.on_epoch_end(run)
            stop = run.history.stopped is not None
        if self._tasks is not None:
            stop = self._tasks.end() or stop
        return stop

    def fit_ends(self) -> None:
        """Report that the fit is over, with the weights that it ends with."""
        if self._run is not None:
            for callback in self._run.callbacks:
                callback.on_fit_end(self._run)
        if self._tasks is not None:
            self._tasks.close()


class _Tasks:
    """The tree of tasks that scikit-learn's callbacks follow: the fit, and epochs below it."""

    def __init__(
        self,
        estimator: Any,
        steps: int,
        given: tuple[Any, Any, Any],
        snapshot: Callable[[], dict[str, Any]],
    ) -> None:
        X, y, weights = given
        metadata = None if weights is None else {"sample_weight": weights}
        self._told = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._snapshot = snapshot
        self._fit = estimator._init_callback_context(max_subtasks=steps)
        self._fit.call_on_fit_task_begin(**self._told)
        self._epoch: Any = None

    def begin(self) -> None:
        """Begin an epoch's task."""
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._told)

    def end(self) -> bool:
        """End the epoch's task; return whether a callback asks to stop."""
        epoch, self._epoch = self._epoch, None
        return bool(
            epoch.call_on_fit_task_end(**self._told, reconstruction_attributes=self._snapshot)
        )

    def close(self) -> None:
        """End what is open: an epoch that was not finished, and the fit."""
        if self._epoch is not None:
            self._epoch.call_on_fit_task_end(estimator=self._told["estimator"])
        self._fit.call_on_fit_task_end(**self._told, reconstruction_attributes=self._snapshot)
