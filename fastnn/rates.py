"""`find_learning_rate`: what a network learns in steps whose learning rate grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import gate
from fastnn.errors import DivergenceError
from fastnn.losses import LossLike
from fastnn.names import check_integer, check_real
from fastnn.network import Sequential
from fastnn.optimizers import Adam, OptimizerLike, resolve_optimizer

__all__ = ["LearningRates", "find_learning_rate"]

# Examples at most that every step is judged by: always the same, so that no step is judged by
# which examples it met.
_JUDGES = 1000
# The search ends where the loss has risen from its lowest by so many times as much as it fell, or
# as it was.
_FAR = 2.0


@dataclass(frozen=True, slots=True)
class LearningRates:
    """What `find_learning_rate` saw.

    Attributes
    ----------
    rates : ndarray of float64, shape (steps,)
        The learning rate of each step, growing by a constant factor.
    losses : ndarray of float64, shape (steps,)
        The loss after each step, of the same examples.
    suggestion : float
        The rate to start with: a third of that at which the loss was lowest.
    diverged : bool
        Whether the steps ended in numbers that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> rates = np.array([0.01, 0.1, 1.0])
    >>> print(LearningRates(rates, np.array([0.9, 0.5, 0.8]), 0.1 / 3, False))
    learning rate 0.033: 3 steps from 0.01 to 1, the loss lowest (0.5) at 0.1
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    suggestion: float
    diverged: bool

    def __str__(self) -> str:
        lowest = int(self.losses.argmin())
        return (
            f"learning rate {self.suggestion:.2g}: {len(self.rates)} steps from "
            f"{self.rates[0]:.2g} to {self.rates[-1]:.2g}, the loss lowest "
            f"({self.losses[lowest]:.3g}) at {self.rates[lowest]:.2g}"
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw losses by rate, and the suggestion.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure's if left out.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        if ax is None:
            try:
                from matplotlib.figure import Figure
            except ImportError as problem:
                raise ImportError(
                    "plot needs matplotlib: python -m pip install matplotlib."
                ) from problem
            ax = Figure(layout="constrained").add_subplot()
        ax.plot(self.rates, self.losses, label="loss after the step")
        ax.axvline(self.suggestion, color="C1", label=f"suggestion: {self.suggestion:.2g}")
        # What it rose to in the end would press all else flat.
        first, low = float(self.losses[0]), float(self.losses.min())
        if first > low:
            ax.set_ylim(low - 0.1 * (first - low), first + (first - low))
        ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
        ax.legend()
        return ax


def find_learning_rate(
    net: Sequential,
    X: ArrayLike,
    y: ArrayLike,
    loss: LossLike = "auto",
    optimizer: OptimizerLike = Adam(),  # noqa: B008  (a frozen record)
    *,
    batch_size: int = 32,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 200,
    seed: int = 0,
    sample_weight: ArrayLike | None = None,
    missing_targets: Literal["error", "ignore"] = "error",
    backend: str | None = None,
) -> LearningRates:
    """Take steps with a learning rate that grows, and say at which one the loss falls well.

    A copy of the network takes the steps, so that the network stays as it is.  They end early
    where the loss has risen far above its lowest value.

    Parameters
    ----------
    net : Sequential
        From its present parameters; one without weights draws them as its fit would.
    X : array-like or sparse matrix, shape (n, p)
        Examples.
    y : array-like
        Targets.
    loss, optimizer
        As in `Sequential.fit`; the optimizer's own learning rate does not count.
    batch_size : int, default 32
        Examples per step.
    lowest, highest : float, default 1e-6 and 10
        Learning rates of the first and of the last step.
    steps : int, default 200
        How many steps there are between them, at least 20.
    seed : int, default 0
        Of the order of the examples.
    sample_weight, missing_targets, backend
        As in `Sequential.fit`.  Examples of weight 0 and those without any target are left out.

    Returns
    -------
    LearningRates
        With `suggestion`, the curve, and `plot`.

    Raises
    ------
    TypeError, ValueError
        As from `Sequential.fit`, or if an argument is out of its bounds.

    References
    ----------
    .. [1] Smith 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fn
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> net = fn.Sequential([fn.Dense(16, "tanh"), fn.Dense(1)], rng=0)
    >>> found = fn.find_learning_rate(net, X, np.sin(X).sum(axis=1))
    >>> 1e-3 < found.suggestion < 1
    True
    """
    rule = resolve_optimizer(optimizer)
    batch_size = check_integer(batch_size, "batch_size", 1)
    steps = check_integer(steps, "steps", 20)
    seed = check_integer(seed, "seed", 0)
    lowest = check_real(lowest, "lowest", low=0.0, low_open=True)
    highest = check_real(highest, "highest", low=lowest, low_open=True)
    net = net.copy()
    if net._unmeasured:
        net.adapt(X, sample_weight)
    if net.scale_targets and net.target_scale is None:
        net.adapt(X, sample_weight, y=y, missing_targets=missing_targets)
    how: dict[str, Any] = {"missing_targets": missing_targets, "backend": backend}
    # All examples go through the gate once, whichever of them the steps take.
    first = replace(rule, learning_rate=lowest)
    net.copy().train_on_batch(X, y, loss, first, sample_weight=sample_weight, **how)
    used, some = _examples(X, y, sample_weight, how)
    batches = _batches(len(used), min(batch_size, len(used)), steps, seed)
    rates = np.geomspace(lowest, highest, steps)
    judged = some(used[np.random.default_rng(seed).permutation(len(used))[:_JUDGES]])
    twin, losses, diverged = net.copy(), list[float](), False
    for rate, rows in zip(rates.tolist(), batches, strict=True):
        try:
            rated = replace(rule, learning_rate=rate)
            twin.train_on_batch(loss=loss, optimizer=rated, **some(used[rows]))
            # What is trained is the loss of scaled targets, where they are.
            value = (
                twin.loss_and_gradient(loss=loss, **judged)[0]
                if net.scale_targets
                else twin.evaluate(loss=loss, **judged)["loss"]
            )
        except DivergenceError:
            value = np.inf
        if not np.isfinite(value):
            diverged = True
            break
        losses.append(value)
        fallen = losses[0] - min(losses)
        if value - min(losses) > _FAR * max(fallen, abs(losses[0])):
            break
    if not losses:
        raise ValueError(f"lowest must be a rate at which a step is finite; got {lowest!r}.")
    suggestion = max(float(rates[int(np.argmin(losses))]) / 3.0, lowest)
    return LearningRates(rates[: len(losses)], np.array(losses), suggestion, diverged)


def _examples(
    X: Any, y: Any, sample_weight: Any, how: dict[str, Any]
) -> tuple[NDArray[np.int64], Callable[[NDArray[np.int64]], dict[str, Any]]]:
    """Return which examples count, and what gives some of them as arguments of the network."""
    features: Any = X.tocsr() if hasattr(X, "tocsr") else np.asarray(X)
    missing = how["missing_targets"] == "ignore"
    targets = gate.with_gaps(y, "y") if missing else np.asarray(y)
    weights = None if sample_weight is None else np.asarray(sample_weight)

    def some(rows: NDArray[np.int64]) -> dict[str, Any]:
        counts = None if weights is None else weights[rows]
        return {"X": features[rows], "y": targets[rows], "sample_weight": counts, **how}

    # Only what is missing is not equal to itself.
    known = (targets == targets).reshape(len(targets), -1).any(axis=1)
    return np.flatnonzero(known if weights is None else known & (weights > 0)), some


def _batches(n: int, size: int, steps: int, seed: int) -> list[NDArray[np.int64]]:
    """Return the rows of each step, which go through all examples again and again."""
    rng = np.random.default_rng(seed)
    epochs = -(-steps * size // n)
    order = np.concatenate([rng.permutation(n) for _ in range(epochs)])
    return [order[step * size : (step + 1) * size] for step in range(steps)]
