"""The table of metrics: one row each, and the way from what a user asked for to rows.

A metric looks at targets and predictions, in this order as everywhere else, both ``(n, m)`` with
one row per example, and gives one float. Targets are rows of values: integer classes have become
one-hot rows before they come here. A function of the user's own sees ``(n,)`` where there is one
output. With weights every mean over examples is ``sum(w v) / sum(w)``; sums are taken in float64
whatever the network's dtype. A metric of the table never raises over numbers: predictions that are
not finite, or weights that sum to zero, give NaN or infinity.

This file is long because a metric, what it suits and what is said of it belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, SupportsFloat, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import names
from fastnn.hints import arguments_wanted
from fastnn.kernels import codes

__all__ = ["METRICS", "Metric", "greater_is_better", "resolve", "spreads"]

Floats: TypeAlias = NDArray[np.floating[Any]]
MetricFunction: TypeAlias = Callable[[Floats, Floats, Floats | None], float]
OwnMetric: TypeAlias = Callable[[Floats, Floats], float]

_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Metric:
    """One row: what the rest of the library needs to know about a metric.

    Attributes
    ----------
    name : str
        The key that its values have in the history and in what ``evaluate`` gives.
    function : callable
        ``function(targets (n, m), predictions (n, m), weights (n,) or None) -> float``.
    greater_is_better : bool or None
        Which way is better; None for a function of the user's own, which does not say.
    source : str
        Where it comes from.
    aliases : tuple of str
        Other names that are accepted.
    needs : {"any", "classes"}
        "classes" where the metric compares classes, so that the loss must be one for classes or
        probabilities; "any" where it suits every loss.
    on_probabilities, on_sides : callable or None
        What takes the place of `function` where each output is a probability of its own, or has
        its side of 0; None where `function` serves there too.
    column : int or None
        Which of the values it is that the engine measures by itself; None where it does not.
    """

    name: str
    function: MetricFunction
    greater_is_better: bool | None
    source: str
    aliases: tuple[str, ...] = ()
    needs: Literal["any", "classes"] = "any"
    on_probabilities: MetricFunction | None = None
    on_sides: MetricFunction | None = None
    column: int | None = None


def resolve(
    metrics: str | OwnMetric | Iterable[str | OwnMetric],
    loss_targets: Literal["real", "counts", "classes", "probabilities", "sides"],
) -> tuple[Metric, ...]:
    """Turn what a user asked for into rows that suit the loss.

    Parameters
    ----------
    metrics : str, callable, or iterable of them
        Names of `METRICS` or their aliases, and functions
        ``f(targets, predictions) -> float``, known by their ``__name__``; see Notes. A row keeps
        the name it was asked for by: ``"mse"`` is found again as ``history["mse"]``.
    loss_targets : {"real", "counts", "classes", "probabilities", "sides"}
        What the loss's row says that ``y`` holds. With "classes" accuracy compares the places of
        the largest values, with "probabilities" each output's side of 0.5; with "sides" the
        places where every row of several names one class, else each output's side of 0.

    Returns
    -------
    tuple of Metric
        One row for each, in the order asked for.

    Raises
    ------
    TypeError
        If one is neither a name nor a function with a name, or a function that cannot be called
        with targets and predictions.
    ValueError
        If a name is unknown, comes twice, cannot be a key of the history, or does not suit the
        loss.

    Notes
    -----
    A function of the user's own is called as scikit-learn's and Keras's are: with targets first,
    then what the network predicts, both of shape ``(n,)`` where there is one output, else
    ``(n, m)``; without sample weights. Classes come as one-hot rows beside rows of probabilities,
    which is what ``log_loss``, ``roc_auc_score`` and their like take; for a function of class
    numbers give ``lambda t, p: f1_score(t.argmax(1), p.argmax(1), average="macro")``. With one
    output of sigmoid they are 0 and 1 beside probabilities, ``(n,)`` both.

    Functions of one name are numbered from the second on: ``"<lambda>"``, ``"<lambda>_2"``.

    Examples
    --------
    >>> [row.name for row in resolve(["accuracy", "mse"], "classes")]
    ['accuracy', 'mse']
    >>> resolve("acuracy", "classes")
    Traceback (most recent call last):
    ...
    ValueError: metrics must be one of 'accuracy', 'mean_squared_error', \
'root_mean_squared_error', 'mean_absolute_error', 'r2'; got 'acuracy'. Did you mean 'accuracy'?
    """
    asked: Iterable[str | OwnMetric]
    if isinstance(metrics, str) or callable(metrics):
        asked = (metrics,)
    elif names.several(metrics):
        asked = metrics
    else:
        raise TypeError(
            "metrics must be a name, a function of targets and predictions, or several of them; "
            f"got {names.describe(metrics)}."
        )
    rows: list[Metric] = []
    kept: dict[str, str] = {}
    functions: list[OwnMetric] = []
    for one in asked:
        row = _own(one) if callable(one) else names.lookup(METRICS, one, "metrics")
        if callable(one) and one not in functions:
            functions.append(one)
            row = _numbered(row, kept)
        name = one if isinstance(one, str) else row.name
        if row.name in kept:
            raise ValueError(f"metrics must not hold one metric twice; {_both(kept, row, name)}.")
        kept[row.name] = name
        rows.append(replace(row, name=name, function=_suited(row, loss_targets)))
    return tuple(rows)


def greater_is_better(name: str) -> bool | None:
    """Say which way a value of the history is better.

    Parameters
    ----------
    name : str
        A key of the history, with or without ``val_`` in front.

    Returns
    -------
    bool or None
        False for the loss, the row's answer for a metric of `METRICS` or an alias, None for a
        name that is not known here.

    Examples
    --------
    >>> greater_is_better("val_accuracy"), greater_is_better("loss"), greater_is_better("mine")
    (True, False, None)
    """
    bare = name.removeprefix("val_")
    if bare == "loss":
        return False
    for row in METRICS.values():
        if bare == row.name or bare in row.aliases:
            return row.greater_is_better
    return None


@dataclass(frozen=True, slots=True)
class _Own:
    """A user's function of targets and predictions in a metric's clothes, picklable."""

    function: OwnMetric
    name: str

    def __call__(self, targets: Floats, predictions: Floats, weights: Floats | None) -> float:
        if targets.shape[1] == 1:
            targets, predictions = targets[:, 0], predictions[:, 0]
        try:
            value: object = self.function(targets, predictions)
        except Exception as problem:
            problem.add_note(
                f"This was metric {self.name!r}, called with targets of shape {targets.shape} and "
                f"predictions of shape {predictions.shape}, as the network gives them: classes "
                "are one-hot rows (0 and 1 where there is one output) beside probabilities. For "
                "a function of class numbers give lambda t, p: f(t.argmax(axis=1), "
                "p.argmax(axis=1)), or f(t, p > 0.5) where there is one output."
            )
            raise
        if isinstance(value, SupportsFloat):
            try:
                return float(value)
            except (TypeError, ValueError):
                pass
        raise TypeError(
            f"metrics must give one real number each; {self.name!r} gave {names.describe(value)}."
        )


def _own(function: OwnMetric) -> Metric:
    """Make a row of a user's function."""
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(
            "metrics must be names or functions that have a __name__, under which the history "
            f"keeps their values; got {names.describe(function)}."
        )
    if name == "loss" or name.startswith("val_"):
        raise ValueError(
            "metrics must not be functions named 'loss' or 'val_...', keys that the history has "
            f"for other values; got a function named {name!r}."
        )
    wanted = arguments_wanted(function, 2)
    if wanted is not None:
        raise TypeError(
            "metrics must be functions of two arguments, targets and predictions; "
            f"got {name}{wanted}."
        )
    return Metric(name, _Own(function, name), greater_is_better=None, source="the user")


def _numbered(row: Metric, kept: Mapping[str, str]) -> Metric:
    """Give another function of a name that a function has already a number."""
    number, name = 2, row.name
    while name in kept and name not in METRICS:
        name, number = f"{row.name}_{number}", number + 1
    return replace(row, name=name)


def _both(kept: dict[str, str], row: Metric, name: str) -> str:
    """Say by which two names one metric was asked for."""
    if kept[row.name] == name:
        return f"got {name!r} twice"
    return f"got {kept[row.name]!r} and {name!r}, two names of one"


def _suited(row: Metric, loss_targets: str) -> MetricFunction:
    """Choose a row's function for what the loss's targets are, or refuse."""
    if row.needs == "classes" and loss_targets in ("real", "counts"):
        others = ", ".join(repr(other.name) for other in METRICS.values() if other.needs == "any")
        raise ValueError(
            f"metrics must suit the loss; got {row.name!r}, which compares classes, with a loss "
            f"for real numbers. Take one of {others}, or a loss for classes."
        )
    if row.on_probabilities is not None and loss_targets == "probabilities":
        return row.on_probabilities
    if row.on_sides is not None and loss_targets == "sides":
        return row.on_sides
    return row.function


def _mean(values: NDArray[Any], weights: Floats | None) -> NDArray[np.float64]:
    """Average over examples, the first axis, in float64."""
    if weights is None:
        return np.asarray(values.mean(axis=0, dtype=np.float64))
    w = weights.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(np.tensordot(w, values.astype(np.float64), axes=1) / w.sum())


def _difference(targets: Floats, predictions: Floats) -> NDArray[np.float64]:
    """Subtract in float64, whatever the dtypes."""
    return np.asarray(np.subtract(predictions, targets, dtype=np.float64))


def _share(hits: NDArray[np.bool_], predictions: Floats, weights: Floats | None) -> float:
    """Average hits; NaN where a prediction is not finite, since comparing it says nothing."""
    if not np.isfinite(predictions).all():
        return float("nan")
    return float(_mean(hits, weights).mean())


def _accuracy_of_classes(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Share of examples whose largest prediction stands at their class."""
    hits = predictions.argmax(axis=1) == targets.argmax(axis=1)
    return _share(hits, predictions, weights)


def _accuracy_by_threshold(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Share of outputs on the target's side of one half, averaged over outputs."""
    hits = (predictions > _THRESHOLD) == (targets > _THRESHOLD)
    return _share(hits, predictions, weights)


def _accuracy_by_side(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Share of outputs on the target's side of 0, or of examples by their largest output."""
    if targets.shape[1] > 1 and (targets.sum(axis=1) == 1).all():
        return _accuracy_of_classes(targets, predictions, weights)
    hits = (predictions > 0) == (targets > _THRESHOLD)
    return _share(hits, predictions, weights)


def _squared_errors(
    targets: Floats, predictions: Floats, weights: Floats | None
) -> NDArray[np.float64]:
    """Mean squared error of each output, ``(m,)``."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _mean(np.square(_difference(targets, predictions)), weights)


def _mean_squared_error(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Mean over outputs of ``mean (a - y)^2``."""
    return float(_squared_errors(targets, predictions, weights).mean())


def _root_mean_squared_error(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Mean over outputs of ``sqrt(mean (a - y)^2)``, each root in its output's own unit."""
    return float(np.sqrt(_squared_errors(targets, predictions, weights)).mean())


def _mean_absolute_error(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Mean over outputs of ``mean |a - y|``."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(_mean(np.abs(_difference(targets, predictions)), weights).mean())


def _r2(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
    """Mean over outputs of ``1 - sum (a - y)^2 / sum (y - mean y)^2``.

    An output whose targets are all the same scores 1 if it is predicted exactly, else 0; fewer
    than two examples of some weight give NaN.
    """
    spread = spreads(targets, weights)
    residual = _squared_errors(targets, predictions, weights)
    flat = spread == 0.0
    explained = 1.0 - residual / np.where(flat, 1.0, spread)
    of_flat = np.where(np.isnan(residual), np.nan, np.where(residual == 0.0, 1.0, 0.0))
    return float(np.where(flat, of_flat, explained).mean())


def spreads(targets: Floats, weights: Floats | None) -> NDArray[np.float64]:
    """Return the mean squared distance of each target from its mean, by which r2 divides.

    Parameters
    ----------
    targets : ndarray (n, m)
        One row per example.
    weights : ndarray (n,) or None
        How much each counts.

    Returns
    -------
    ndarray of float64 (m,)
        0 where all targets of some weight are the same; NaN where there are fewer than two.
    """
    counted = targets if weights is None else targets[weights > 0]
    if len(counted) < 2:
        return np.full(targets.shape[1], np.nan)
    spread = _squared_errors(targets, _mean(targets, weights).reshape(1, -1), weights)
    # Constant targets are told by the values themselves: their mean is rounded, so that their
    # spread need not be zero.
    return np.where(counted.min(axis=0) == counted.max(axis=0), 0.0, spread)


METRICS: dict[str, Metric] = {
    row.name: row
    for row in (
        Metric(
            name="accuracy",
            column=codes.ACCURACY,
            function=_accuracy_of_classes,
            on_probabilities=_accuracy_by_threshold,
            on_sides=_accuracy_by_side,
            greater_is_better=True,
            needs="classes",
            source="Goodfellow, Bengio & Courville 2016, Deep Learning, section 5.1.2",
        ),
        Metric(
            name="mean_squared_error",
            column=codes.SQUARED_ERROR,
            function=_mean_squared_error,
            greater_is_better=False,
            aliases=("mse",),
            source="Goodfellow, Bengio & Courville 2016, Deep Learning, section 5.1.4",
        ),
        Metric(
            name="root_mean_squared_error",
            column=codes.ROOT_OF_SQUARES,
            function=_root_mean_squared_error,
            greater_is_better=False,
            aliases=("rmse",),
            source="Hyndman & Koehler 2006, Another look at measures of forecast accuracy, 2.1",
        ),
        Metric(
            name="mean_absolute_error",
            column=codes.ABSOLUTE_ERROR,
            function=_mean_absolute_error,
            greater_is_better=False,
            aliases=("mae",),
            source="Hyndman & Koehler 2006, Another look at measures of forecast accuracy, 2.1",
        ),
        Metric(
            name="r2",
            column=codes.R2,
            function=_r2,
            greater_is_better=True,
            source="Kvalseth 1985, Cautionary Note about R2, equation 1",
        ),
    )
}
