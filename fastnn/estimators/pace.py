"""What an estimator keeps of its optimizer from one `partial_fit` to the next."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.estimators.parameters import SOLVERS, plain
from fastnn.kernels import codes
from fastnn.optimizers import Adam
from fastnn.training import TrainingState

__all__ = ["Pace"]

Floats = NDArray[np.floating]

# Below it "adaptive" gives up.
_SLOWEST = 1e-6


class Pace:
    """Moments, steps and learning rate of a stochastic solver.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Whose parameters set the rule; later changes of them do not count.
    parameters : ndarray (size,)
        The vector to be trained.

    Attributes
    ----------
    state : TrainingState
        What the engine reads and writes.
    learning_rate_init, schedule, power_t
        As the estimator had them.
    learning_rate : float
        At present: for Adam the one of the last step, with its corrections, as in scikit-learn.
    """

    def __init__(self, estimator: Any, parameters: Floats) -> None:
        make = SOLVERS[estimator.solver]
        assert make is not None, estimator.solver
        self.learning_rate_init = estimator.learning_rate_init
        self.state = TrainingState.fresh(make(estimator, parameters.dtype), parameters)
        self.schedule = estimator.learning_rate if estimator.solver == "sgd" else "constant"
        self.power_t = plain(estimator.power_t, "power_t")

    def __setstate__(self, kept: dict[str, Any]) -> None:
        """Come back from a file; what was mapped from it becomes memory that can be written."""
        self.__dict__.update(kept)
        moments, numbers = np.array(self.state.moments), np.array(self.state.numbers)
        self.state = replace(self.state, moments=moments, numbers=numbers)

    @property
    def learning_rate(self) -> float:
        """The present one."""
        optimizer = self.state.optimizer
        if not isinstance(optimizer, Adam) or not self.state.steps:
            return float(optimizer.learning_rate)
        t = self.state.steps
        root = math.sqrt(1.0 - optimizer.beta_2**t)
        return float(optimizer.learning_rate * root / (1.0 - optimizer.beta_1**t))

    def resume(self, *, steps: int = 0, rate: float | None = None) -> None:
        """Go on after so many steps, at this learning rate."""
        self.state.numbers[codes.STEPS] = steps
        if rate is not None:
            self._learn_at(rate)

    def check(self, parameters: Floats) -> None:
        """Refuse to go on with weights of another size than the moments."""
        if self.state.moments.shape[1] != parameters.size:
            raise ValueError(
                f"coefs_ and intercepts_ must hold {self.state.moments.shape[1]} numbers to go "
                f"on with; got {parameters.size}."
            )

    def epoch_ends(self, seen: int) -> None:
        """Slow down with the number of examples seen, where that is the schedule."""
        if self.schedule == "invscaling":
            self._learn_at(self.learning_rate_init / _power(seen + 1, self.power_t))

    def stalls(self, message: str, verbose: Any) -> bool:
        """Tell whether to stop where nothing improves, or slow down where that is the schedule."""
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
        """Change the learning rate; one that underflows stays above 0 by a hair."""
        self.state.learn_at(max(float(rate), float(np.finfo(np.float64).smallest_subnormal)))


def _power(base: int, exponent: float) -> float:
    """Return a power, infinity where it overflows."""
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf
