"""Optimizers that take all examples at a time: the records of L-BFGS and Levenberg-Marquardt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fastnn.names import check_integer, check_real

__all__ = ["LBFGS", "SEARCHES", "LevenbergMarquardt", "Searched", "WholeBatch", "searched"]


@dataclass(frozen=True, slots=True)
class LBFGS:
    """L-BFGS: a quasi-Newton search with a limited memory of the curvature.

    Each iteration goes along ``-H g``, where H is an inverse Hessian that agrees with how the
    gradient changed over the last steps, to a point that satisfies the strong Wolfe conditions.  In
    `Sequential.fit` an epoch is an iteration, over all examples at once: ``batch_size`` and
    ``shuffle`` have no effect.  For data sets that fit the memory, and networks without dropout.

    Parameters
    ----------
    memory : int, default 10
        How many steps are remembered.
    tolerance : float, default 1e-5
        The search has converged where no element of the gradient is larger.
    max_evaluations : int, default 15000
        Losses and gradients that may be computed, about 1.1 an epoch.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Nocedal & Wright 2006, Numerical Optimization, algorithms 7.4 and 7.5; More & Thuente 1994, Line
    search algorithms with guaranteed sufficient decrease.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fn
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> net = fn.Sequential([fn.Dense(8, "tanh"), fn.Dense(1)], dtype="float64", rng=0)
    >>> history = net.fit(X, np.sin(3 * X[:, 0]), optimizer=fn.LBFGS(), epochs=200)
    >>> history["loss"][-1] < 1e-3
    True
    """

    memory: int = 10
    tolerance: float = 1e-5
    max_evaluations: int = 15_000

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        check_integer(self.memory, "memory", 1)
        check_real(self.tolerance, "tolerance", low=0.0)
        check_integer(self.max_evaluations, "max_evaluations", 1)


@dataclass(frozen=True, slots=True)
class LevenbergMarquardt:
    """Levenberg-Marquardt: damped Gauss-Newton steps, for squared errors of small networks.

    Each iteration solves ``(J'J + damping I) step = -g`` for the Jacobian J of all errors; the
    damping falls where the loss falls as the linear model says, and grows until it falls at all.
    In `Sequential.fit` an epoch is an iteration, over all examples at once: ``batch_size`` and
    ``shuffle`` have no effect.  The loss must be the mean squared error and all layers `Dense`; L2
    and sample weights count.

    Parameters
    ----------
    damping : float, default 1e-3
        The first damping, times the largest diagonal element of ``J'J``.
    tolerance : float, default 1e-8
        It has converged where no element of the gradient is larger.
    max_memory : int, default 1073741824
        Bytes that may be allocated.  Two matrices of float64 of the parameters' count squared are
        needed, and some rows of the Jacobian: 1000 parameters need 20 MB, however many examples
        there are.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Hagan & Menhaj 1994, Training feedforward networks with the Marquardt algorithm; Nielsen 1999,
    Damping parameter in Marquardt's method.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fn
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> net = fn.Sequential([fn.Dense(8, "tanh"), fn.Dense(1)], dtype="float64", rng=0)
    >>> history = net.fit(X, np.sin(3 * X[:, 0]), optimizer=fn.LevenbergMarquardt(), epochs=50)
    >>> history["loss"][-1] < 1e-6
    True
    """

    damping: float = 1e-3
    tolerance: float = 1e-8
    max_memory: int = 1 << 30

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        check_real(self.damping, "damping", low=0.0, low_open=True)
        check_real(self.tolerance, "tolerance", low=0.0)
        check_integer(self.max_memory, "max_memory", 1)


WholeBatch: TypeAlias = LBFGS | LevenbergMarquardt


@dataclass(slots=True)
class Searched:
    """A search that takes the place of an optimizer's steps.

    Attributes
    ----------
    record : LBFGS or LevenbergMarquardt
        Its numbers.
    ended : str
        Why it is over; empty while it goes on.
    """

    record: WholeBatch
    ended: str = ""


_NAMES: dict[str, type[WholeBatch]] = {
    "lbfgs": LBFGS,
    "levenberg_marquardt": LevenbergMarquardt,
    "levenbergmarquardt": LevenbergMarquardt,
}

#: The names of the records, as messages list them.
SEARCHES = tuple(record.__name__ for record in (LBFGS, LevenbergMarquardt))


def searched(optimizer: object) -> Searched | None:
    """Return the search that was given for an optimizer, by record or name; None for others."""
    if isinstance(optimizer, str) and optimizer.lower() in _NAMES:
        return Searched(_NAMES[optimizer.lower()]())
    if isinstance(optimizer, LBFGS | LevenbergMarquardt):
        return Searched(optimizer)
    return None
