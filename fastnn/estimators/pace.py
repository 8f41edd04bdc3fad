"""The optimizer's state that an estimator keeps from one `partial_fit` to the next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import pickles, schedules
from fastnn.estimators.judge import Judge
from fastnn.estimators.parameters import RATES, SOLVERS, plain
from fastnn.fitting.states import TrainingState
from fastnn.names import check_real
from fastnn.optimizers import Adam
from fastnn.schedules import ReduceOnPlateau, Schedule, resolve_schedule

__all__ = ["Pace", "schedule_of"]

Floats = NDArray[np.floating]
Vector = NDArray[np.float64]

# Below this rate "adaptive" stops.
_SLOWEST = 1e-6


def schedule_of(estimator: Any, judge: Judge | None) -> Schedule | None:
    """Return the library's schedule that ``learning_rate`` asks for; None for scikit-learn's own.

    "plateau" monitors the quantity by which the fit stops, with half the patience: otherwise both
    would trigger at the same epoch.
    """
    asked = estimator.learning_rate
    if isinstance(asked, str) and asked in RATES:
        return None
    if isinstance(asked, str) and asked == "plateau":
        patient = estimator.n_iter_no_change
        return ReduceOnPlateau(
            "loss" if judge is None else judge.name,
            patience=10 if patient == math.inf else max(1, int(patient) // 2),
            min_delta=plain(estimator.tol, "tol"),
            mode="min" if judge is None or judge.sign < 0.0 else "max",
        )
    return resolve_schedule(asked, "learning_rate")


class Pace:
    """Moments, steps and learning rate of a stochastic solver.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its parameters set the rule; later changes of them have no effect.
    parameters : ndarray (size,)
        The vector to be trained.
    scheduled : Schedule or None, default None
        The library's schedule of the learning rate.

    Attributes
    ----------
    state : TrainingState
        What the engine reads and writes.
    learning_rate_init : float
        As the estimator had it, until it is set: the base rate of Adam and its relatives,
        "invscaling" and schedules from the next step on.
    power_t : float
        As the estimator had it.
    schedule : {"constant", "invscaling", "adaptive"}
        Which of scikit-learn's rules changes the learning rate.
    scheduled : Schedule or None
        As given; it takes precedence over that rule.
    learning_rate : float
        That of the last step, for Adam with its bias corrections, as in scikit-learn; with a
        schedule, what the schedule gave.  Setting it takes effect at the next step, except for Adam
        and with a schedule, where it follows from ``learning_rate_init``, as in scikit-learn.
    """

    def __init__(
        self, estimator: Any, parameters: Floats, scheduled: Schedule | None = None
    ) -> None:
        make = SOLVERS[estimator.solver]
        assert make is not None, estimator.solver
        self._rate_init = estimator.learning_rate_init
        self._follows_init = estimator.solver != "sgd" or scheduled is not None
        self.state = TrainingState.fresh(make(estimator, parameters.dtype), parameters)
        own = estimator.solver == "sgd" and scheduled is None
        self.schedule = estimator.learning_rate if own else "constant"
        self.power_t = plain(estimator.power_t, "power_t")
        self.scheduled = scheduled
        self._epochs = 0
        # What a schedule sees of the previous epochs.
        self._history: dict[str, list[float]] = {}
        # To which the state's moments belong: a fit counts on before it brings these back.
        self.steps_shown = 0

    def to_plain(self) -> dict[str, Any]:
        """Return all of this in plain values, for a pickle."""
        return {
            # Of a fit that is under way the steps as well as the moments that were shown last.
            "training": {**pickles.values_of(self.state), "steps": self.steps_shown},
            "learning_rate_init": self._rate_init,
            "follows_init": self._follows_init,
            "schedule": self.schedule,
            "power_t": self.power_t,
            "scheduled": self.scheduled,
            "epochs": self._epochs,
            "history": {name: list(values) for name, values in self._history.items()},
        }

    @classmethod
    def of_plain(cls, plain: dict[str, Any]) -> Pace:
        """Return what `to_plain` described; what was mapped from a file becomes memory."""
        pace = cls.__new__(cls)
        state = pickles.state_of(plain["training"])
        assert state is not None
        pace.state = state
        pace._rate_init, pace._follows_init = plain["learning_rate_init"], plain["follows_init"]
        pace.schedule, pace.power_t = plain["schedule"], plain["power_t"]
        pace.scheduled, pace._epochs = plain["scheduled"], plain["epochs"]
        pace._history = {name: list(values) for name, values in plain["history"].items()}
        pace.steps_shown = state.steps
        return pace

    @property
    def learning_rate(self) -> float:
        """The present one."""
        if self.scheduled is not None:
            return float(self.state.numbers["learning_rate"])
        optimizer = self.state.optimizer
        if not isinstance(optimizer, Adam) or not self.state.steps:
            return float(optimizer.learning_rate)
        t = self.state.steps
        root = math.sqrt(1.0 - optimizer.beta_2**t)
        return float(optimizer.learning_rate * root / (1.0 - optimizer.beta_1**t))

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        rate = check_real(rate, "learning_rate", low=0.0)
        if self.scheduled is None and not isinstance(self.state.optimizer, Adam):
            self._learn_at(rate)

    @property
    def learning_rate_init(self) -> float:
        """What the learning rate starts from."""
        rate: float = self._rate_init
        return rate

    @learning_rate_init.setter
    def learning_rate_init(self, rate: float) -> None:
        checked = check_real(rate, "learning_rate_init", low=0.0)
        self._rate_init = rate
        if self._follows_init:
            self._learn_at(checked)

    def resume(self, *, steps: int = 0, rate: float | None = None) -> None:
        """Go on after so many steps, at this learning rate."""
        self.state.numbers["steps"] = self.steps_shown = steps
        if rate is not None:
            self._learn_at(rate)

    def shows(self) -> None:
        """Take down that the state's moments are those of its steps."""
        self.steps_shown = self.state.steps

    def check(self, parameters: Floats) -> None:
        """Refuse to continue with weights of another size than the moments."""
        if self.state.moments.shape[1] != parameters.size:
            raise ValueError(
                f"coefs_ and intercepts_ must hold {self.state.moments.shape[1]} numbers to go "
                f"on with; got {parameters.size}."
            )

    def begin(self, names: Iterable[str]) -> None:
        """Get ready for epochs that record these values."""
        for name in names:
            self._history.setdefault(name, [])

    def rates(self, first: int, last: int, steps: int, epochs: int) -> Vector:
        """Return the scheduled learning rates of steps of the coming epoch; none without schedule.

        Parameters
        ----------
        first, last : int
            The first step of the epoch, and the one past the last.
        steps : int
            How many the epoch has.
        epochs : int
            How many epochs the schedule spans.
        """
        if self.scheduled is None:
            return np.zeros(0)
        begin = self._epochs * steps
        found = self._ask(begin + first, begin + last, steps, epochs)
        if self._epochs >= epochs:
            # Not one epoch more: the last step of every fit would be at the same place.
            longer = self._ask(begin + first, begin + last, steps, 2 * (self._epochs + 1))
            if not np.array_equal(found, longer):
                raise ValueError(
                    f"learning_rate is laid out for max_iter={epochs} epochs, and as many are "
                    "over. Raise max_iter to go on, or fit anew with a learning_rate that does not "
                    "depend on how long training takes."
                )
        return found

    def _ask(self, first: int, last: int, steps: int, epochs: int) -> Vector:
        """Ask the schedule for the learning rates of steps, counted from the first of all."""
        assert self.scheduled is not None
        base = self.state.optimizer.learning_rate
        try:
            return schedules.rates(self.scheduled, first, last, steps, epochs, base, self._history)
        except ValueError as problem:
            raise ValueError(f"learning_rate cannot be followed: {problem}") from problem

    def epoch_ends(self, seen: int, logs: Mapping[str, float]) -> None:
        """Record an epoch's values; decay with the number of examples seen if asked."""
        if self.scheduled is not None:
            self._epochs += 1
            for name, value in logs.items():
                self._history[name].append(value)
        if self.schedule == "invscaling":
            self._learn_at(self.learning_rate_init / _power(seen + 1, self.power_t))

    def stalls(self, message: str, verbose: Any) -> bool:
        """Return whether to stop where nothing improves, or reduce the rate with "adaptive"."""
        if self.schedule != "adaptive":
            word = "Stopping."
        elif self.learning_rate <= _SLOWEST:
            word = "Learning rate too small. Stopping."
        else:
            self._learn_at(self.learning_rate / 5.0)
            word = f"Setting learning rate to {self.learning_rate:f}"
        if verbose:
            print(f"{message} {word}")
        return word.endswith("Stopping.")

    def _learn_at(self, rate: float) -> None:
        """Change the learning rate; one that underflows becomes the smallest number above 0."""
        self.state.learn_at(max(float(rate), float(np.finfo(np.float64).smallest_subnormal)))


def _power(base: int, exponent: float) -> float:
    """Return a power, infinity where it overflows."""
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf
