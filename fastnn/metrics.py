"""The table of metrics: one row each, and the way from what a user asked for to rows.

A metric looks at targets and predictions, in this order as everywhere else, both ``(n, m)`` with
one row per example, and gives one float. Targets are rows of values: integer classes have become
one-hot rows before they come here. A function of the user's own sees ``(n,)`` where there is one
output. With weights every mean over examples is ``sum(w v) / sum(w)``; sums are taken in float64
whatever the network's dtype. A metric of the table never raises over numbers: predictions that are
not finite, or weights that sum to zero, give NaN or infinity.  The functions themselves stand in
`distances`, `confusion` and `rankings`.

This file is long because a metric, what it suits and what is said of it belong together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, SupportsFloat, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from fastnn import confusion, distances, names, rankings, words
from fastnn.confusion import AVERAGES, Average, Classified
from fastnn.hints import arguments_wanted, understands
from fastnn.kernels import codes

__all__ = [
    "F1", "METRICS", "Metric", "MetricLike", "Precision", "Recall", "TopK", "greater_is_better",
    "of_known", "resolve",
]  # fmt: skip

Floats: TypeAlias = NDArray[np.floating[Any]]
MetricFunction: TypeAlias = Callable[[Floats, Floats, Floats | None], float]
OwnMetric: TypeAlias = Callable[[Floats, Floats], float]
LossTargets: TypeAlias = names.TargetKind


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
    needs : {"any", "classes", "probabilities", "one class", "quantiles"}
        "classes" where the metric compares classes, so that the loss must be one for classes,
        probabilities or sides; "probabilities" where predictions must be that; "one class" where
        an example must belong to one class of several; "quantiles" where predictions must be
        several quantiles of one target; "any" where it suits every loss.
    on_probabilities, on_sides : callable or None
        What takes the place of `function` where each output is a probability of its own, or has
        its side of 0; None where `function` serves there too.
    column : int or None
        Which of the values it is that the engine measures by itself; None where it does not.
    number : int
        What the engine must know of it: how classes come to one number, or how many places count.
    average : str
        How classes come to one number, for metrics that leave a choice.
    """

    name: str
    function: MetricFunction
    greater_is_better: bool | None
    source: str
    aliases: tuple[str, ...] = ()
    needs: Literal["any", "classes", "probabilities", "one class", "quantiles"] = "any"
    on_probabilities: MetricFunction | None = None
    on_sides: MetricFunction | None = None
    column: int | None = None
    number: int = 0
    average: Average = "auto"

    @property
    def compares_quantiles(self) -> bool:
        """Whether it takes all quantiles where they are predicted, not the middle one alone."""
        return self.needs == "quantiles" or isinstance(self.function, _Own)


class _Averaged:
    """What the records of metrics with an average have in common."""

    __slots__ = ()
    metric: ClassVar[str]
    average: Average

    def __post_init__(self) -> None:
        """Check the name once, when the record is made."""
        names.lookup(AVERAGES, self.average, "average")

    @property
    def name(self) -> str:
        """The key of its values in the history: ``"f1"``, or ``"f1_macro"``."""
        return self.metric if self.average == "auto" else f"{self.metric}_{self.average}"


@understands(words.METRIC)
@dataclass(frozen=True, slots=True)
class Precision(_Averaged):
    """The share of examples predicted to be of a class that are: ``right / predicted``.

    ``metrics="precision"`` stands for ``Precision()``, ``"precision_macro"`` for the others.

    Parameters
    ----------
    average : {"auto", "binary", "macro", "micro", "weighted"}, default "auto"
        How classes come to one number.  "binary" is that of class 1 of two; "macro" the mean over
        the classes that occur, in targets or predictions, and "weighted" the same by how many
        examples belong to each; "micro" counts all classes together.  "auto" is "binary" where
        there are two classes or one output, else "macro".  Several outputs of 0 and 1 are
        questions of their own, all of which are asked.

    Raises
    ------
    TypeError, ValueError
        If `average` is none of these.

    Notes
    -----
    Of losses for classes the largest output is predicted; else an output says yes above 0.5, of
    the hinge loss above 0.  A class that is never predicted scores 0.

    References
    ----------
    Sokolova & Lapalme 2009, A systematic analysis of performance measures for classification
    tasks, Information Processing & Management 45, tables 2 and 3.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, "sigmoid", initializer=1.0)], inputs=1)
    >>> net.evaluate([[-1], [1], [2]], [0, 0, 1], metrics=fn.Precision())["precision"]
    0.5
    """

    metric: ClassVar[str] = "precision"
    average: Average = "auto"


@understands(words.METRIC)
@dataclass(frozen=True, slots=True)
class Recall(_Averaged):
    """The share of a class's examples that are predicted to be: ``right / members``.

    ``metrics="recall"`` stands for ``Recall()``, ``"recall_macro"`` for the others.

    Parameters
    ----------
    average : {"auto", "binary", "macro", "micro", "weighted"}, default "auto"
        As for `Precision`.

    Raises
    ------
    TypeError, ValueError
        If `average` is none of these.

    References
    ----------
    As for `Precision`.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, "sigmoid", initializer=1.0)], inputs=1)
    >>> net.evaluate([[-1], [1], [2]], [1, 0, 1], metrics=fn.Recall("macro"))["recall_macro"]
    0.25
    """

    metric: ClassVar[str] = "recall"
    average: Average = "auto"


@understands(words.METRIC)
@dataclass(frozen=True, slots=True)
class F1(_Averaged):
    """The harmonic mean of precision and recall: ``2 right / (predicted + members)``.

    ``metrics="f1"`` stands for ``F1()``, ``"f1_macro"`` for the others.

    Parameters
    ----------
    average : {"auto", "binary", "macro", "micro", "weighted"}, default "auto"
        As for `Precision`.

    Raises
    ------
    TypeError, ValueError
        If `average` is none of these.

    References
    ----------
    van Rijsbergen 1979, Information Retrieval, chapter 7; averages as for `Precision`.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.F1(average="macro").name
    'f1_macro'
    """

    metric: ClassVar[str] = "f1"
    average: Average = "auto"


@understands(words.METRIC)
@dataclass(frozen=True, slots=True)
class TopK:
    """The share of examples whose class is among the k largest predictions.

    For losses of one class of several.  ``metrics="top_5_accuracy"`` stands for ``TopK(5)``, and
    so with other numbers.

    Parameters
    ----------
    k : int, default 5
        How many places count; at least 1.

    Raises
    ------
    TypeError, ValueError
        If `k` is no such number.

    Notes
    -----
    Of equal predictions that of the later class counts as the larger one, as in scikit-learn.

    References
    ----------
    Russakovsky and others 2015, ImageNet Large Scale Visual Recognition Challenge, section 4.1.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(3, "softmax", initializer="zeros")], inputs=1)
    >>> net.set_weights([[[0.0, 1.0, 2.0]], [0.0, 0.0, 0.0]])
    >>> net.evaluate([[1], [1]], [0, 1], metrics=fn.TopK(2))["top_2_accuracy"]
    0.5
    """

    k: int = 5

    def __post_init__(self) -> None:
        """Check the number once, when the record is made."""
        object.__setattr__(self, "k", names.check_integer(self.k, "k", 1))

    @property
    def name(self) -> str:
        """The key of its values in the history, such as ``"top_5_accuracy"``."""
        return f"top_{self.k}_accuracy"


MetricRecord: TypeAlias = Precision | Recall | F1 | TopK
MetricLike: TypeAlias = str | OwnMetric | MetricRecord


def resolve(
    metrics: MetricLike | Iterable[MetricLike],
    loss_targets: LossTargets,
    outputs: int | None = None,
    *,
    quantiles: bool = False,
) -> tuple[Metric, ...]:
    """Turn what a user asked for into rows that suit the loss.

    Parameters
    ----------
    metrics : str, callable, record, or iterable of them
        Names of `METRICS` or their aliases, records such as `F1` and the names that these have,
        and functions ``f(targets, predictions) -> float``, known by their ``__name__``; see
        Notes. A row keeps the name it was asked for by: ``"mse"`` is found again as
        ``history["mse"]``.
    loss_targets : {"real", "counts", "positive", "classes", "probabilities", "sides"}
        What the loss's row says that ``y`` holds. With "classes" accuracy compares the places of
        the largest values, with "probabilities" each output's side of 0.5; with "sides" the
        places where every row of several names one class, else each output's side of 0.
    outputs : int, optional
        How many columns targets have, where that is known.
    quantiles : bool, default False
        Whether predictions are several quantiles of one target; a function of the user's own then
        sees all of them.

    Returns
    -------
    tuple of Metric
        One row for each, in the order asked for.

    Raises
    ------
    TypeError
        If one is neither a name nor a record nor a function with a name, or a function that cannot
        be called with targets and predictions.
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

    Of several quantiles of one target (`losses.Quantiles`) such a function sees all, ``(n, k)``, as
    "coverage" does; the other metrics compare the one that is nearest to the median.

    Functions of one name are numbered from the second on: ``"<lambda>"``, ``"<lambda>_2"``.

    Examples
    --------
    >>> [row.name for row in resolve(["accuracy", "mse"], "classes")]
    ['accuracy', 'mse']
    >>> resolve("acuracy", "classes")
    Traceback (most recent call last):
    ...
    ValueError: metrics must be one of 'accuracy', 'balanced_accuracy', 'precision', 'recall', \
'f1', 'top_5_accuracy', 'roc_auc', 'average_precision', 'log_loss', 'mean_squared_error', \
'root_mean_squared_error', 'mean_absolute_error', 'mean_absolute_percentage_error', 'r2', \
'coverage'; got 'acuracy'. Did you mean 'accuracy'?
    """
    asked: Iterable[MetricLike]
    if isinstance(metrics, (str, *_RECORDS)) or callable(metrics):
        asked = (metrics,)
    elif names.several(metrics):
        asked = metrics
    else:
        raise TypeError(
            "metrics must be a name, a record such as fastnn.F1(), a function of targets and "
            f"predictions, or several of them; got {names.describe(metrics)}."
        )
    rows: list[Metric] = []
    kept: dict[str, str] = {}
    functions: list[OwnMetric] = []
    for one in asked:
        row = _asked_for(one)
        if callable(one) and one not in functions:
            functions.append(one)
            row = _numbered(row, kept)
        name = one if isinstance(one, str) else row.name
        if row.name in kept:
            raise ValueError(f"metrics must not hold one metric twice; {_both(kept, row, name)}.")
        kept[row.name] = name
        if row.needs == "quantiles":
            _check_quantiles(row, quantiles)
        rows.append(replace(row, name=name, function=_suited(row, loss_targets, outputs)))
    return tuple(rows)


def _check_quantiles(row: Metric, quantiles: bool) -> None:
    """Refuse a metric of quantiles where none are predicted."""
    if not quantiles:
        raise ValueError(
            f"metrics must suit the loss; got {row.name!r}, which compares quantiles, with a loss "
            "that predicts none. Take loss=fastnn.Quantiles([0.05, 0.5, 0.95])."
        )


def _asked_for(one: object) -> Metric:
    """Return the row of a name, of a record or of a user's function."""
    if isinstance(one, _RECORDS):
        row = _row_named(one.name)
        assert row is not None
        return row
    if any(one is kind for kind in _RECORDS):
        raise TypeError(
            f"metrics must be names, records or functions; got {one!r}. Did you mean an object of "
            "that class?"
        )
    if callable(one):
        return _own(one)
    row = _row_named(one) if isinstance(one, str) else None
    return row or names.lookup(METRICS, one, "metrics")


def _row_named(name: str) -> Metric | None:
    """Return the row of a name of the table, of an alias, or of a record; None for another one."""
    for row in METRICS.values():
        if name == row.name or name in row.aliases:
            return row
    score, _, average = name.rpartition("_")
    if average in AVERAGES and score in _AVERAGED and average != "auto":
        return _averaged(cast("Any", score), cast("Any", average))
    places = re.fullmatch(r"top_([1-9]\d{0,8})_accuracy", name, re.ASCII)
    return None if places is None else _top(int(places[1]))


def of_known(function: MetricFunction) -> MetricFunction:
    """Return a metric of the targets that are known, where NaN stands for none.

    It is the mean over outputs of the metric of each, of the examples that have its target.

    Parameters
    ----------
    function : callable
        Of targets, predictions and weights of examples, which were multiplied by the part of
        their targets that is known.

    Examples
    --------
    >>> row, targets = METRICS["mean_absolute_error"], np.array([[1.0, np.nan], [3.0, 4.0]])
    >>> of_known(row.function)(targets, np.zeros((2, 2)), np.array([0.5, 1.0]))
    3.0
    """

    def measured(targets: Floats, predictions: Floats, weights: Floats | None) -> float:
        known = ~np.isnan(targets)
        parts = np.maximum(known.mean(axis=1), 1.0 / known.shape[1])
        own = None if weights is None else weights / parts.astype(weights.dtype)
        values = []
        for column in range(targets.shape[1]):
            rows, one = known[:, column], slice(column, column + 1)
            if rows.any():
                mine = None if own is None else own[rows]
                # Of one target there may be several quantiles.
                seen = predictions if known.shape[1] == 1 else predictions[:, one]
                values.append(function(targets[rows, one], seen[rows], mine))
        return float(np.mean(values)) if values else float("nan")

    return measured


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
    row = _row_named(bare)
    return None if row is None else row.greater_is_better


@dataclass(frozen=True, slots=True)
class _Own:
    """A user's function of targets and predictions in a metric's clothes, picklable."""

    function: OwnMetric
    name: str

    def __call__(self, targets: Floats, predictions: Floats, weights: Floats | None) -> float:
        if targets.shape[1] == 1:
            targets = targets[:, 0]
            predictions = predictions[:, 0] if predictions.shape[1] == 1 else predictions
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


_SUITABLE: dict[str, tuple[tuple[str, ...], str, str]] = {
    "any": (("real", "counts", "positive", "classes", "probabilities", "sides"), "", ""),
    "classes": (("classes", "probabilities", "sides"), "compares classes", "for classes"),
    "probabilities": (
        ("classes", "probabilities"), "needs probabilities",
        "whose predictions are that, such as cross_entropy",
    ),
    "quantiles": (("real",), "compares quantiles", "of quantiles"),
    "one class": (
        ("classes",), "needs one class of several for each example", "such as cross_entropy",
    ),
}  # fmt: skip


def _suited(row: Metric, loss_targets: str, outputs: int | None) -> MetricFunction:
    """Choose a row's function for what the loss's targets are, or refuse."""
    fitting, wants, losses = _SUITABLE[row.needs]
    if loss_targets not in fitting:
        others = ", ".join(
            repr(other.name)
            for other in METRICS.values()
            if loss_targets in _SUITABLE[other.needs][0]
        )
        kind = {
            "real": "real numbers", "counts": "real numbers", "positive": "real numbers",
            "probabilities": "separate outputs",
            "sides": "sides of a margin",
        }[loss_targets]  # fmt: skip
        raise ValueError(
            f"metrics must suit the loss; got {row.name!r}, which {wants}, with a loss "
            f"for {kind}. Take one of {others}, or a loss {losses}."
        )
    most = 2 if loss_targets == "classes" else 1
    if row.average == "binary" and outputs is not None and outputs > most:
        bare = row.name.removesuffix("_binary")
        raise ValueError(
            f"metrics must suit the outputs; got {row.name!r}, which is for two classes, with "
            f"{outputs} outputs. Take one of '{bare}_macro', '{bare}_micro', '{bare}_weighted'."
        )
    if row.on_probabilities is not None and loss_targets == "probabilities":
        return row.on_probabilities
    if row.on_sides is not None and loss_targets == "sides":
        return row.on_sides
    return row.function


_RECORDS = (Precision, Recall, F1, TopK)
_AVERAGED = {"precision": codes.PRECISION, "recall": codes.RECALL, "f1": codes.F1}
_SOURCES = {
    "precision": "Sokolova & Lapalme 2009, A systematic analysis of performance measures, table 3",
    "recall": "Sokolova & Lapalme 2009, A systematic analysis of performance measures, table 3",
    "f1": "van Rijsbergen 1979, Information Retrieval, chapter 7",
}


def _averaged(score: Literal["precision", "recall", "f1"], average: Average) -> Metric:
    """Return the row of a score of classes and the way that they come to one number."""
    return Metric(
        name=score if average == "auto" else f"{score}_{average}",
        column=_AVERAGED[score],
        number=AVERAGES[average],
        average=average,
        function=Classified(score, average, "classes"),
        on_probabilities=Classified(score, average, "probabilities"),
        on_sides=Classified(score, average, "sides"),
        greater_is_better=True,
        needs="classes",
        source=_SOURCES[score],
    )


def _top(k: int) -> Metric:
    """Return the row of so many places."""
    return Metric(
        name=f"top_{k}_accuracy",
        column=codes.TOP_PLACES,
        number=k,
        function=rankings.TopPlaces(k),
        greater_is_better=True,
        needs="one class",
        source="Russakovsky and others 2015, ImageNet Challenge, section 4.1",
    )


METRICS: dict[str, Metric] = {
    row.name: row
    for row in (
        Metric(
            name="accuracy",
            column=codes.ACCURACY,
            function=confusion.accuracy_of_classes,
            on_probabilities=confusion.accuracy_by_threshold,
            on_sides=confusion.accuracy_by_side,
            greater_is_better=True,
            needs="classes",
            source="Goodfellow, Bengio & Courville 2016, Deep Learning, section 5.1.2",
        ),
        Metric(
            name="balanced_accuracy",
            column=codes.BALANCED,
            function=Classified("balanced_accuracy", "auto", "classes"),
            on_probabilities=Classified("balanced_accuracy", "auto", "probabilities"),
            on_sides=Classified("balanced_accuracy", "auto", "sides"),
            greater_is_better=True,
            needs="classes",
            source="Brodersen and others 2010, The balanced accuracy and its posterior, equation 1",
        ),
        _averaged("precision", "auto"),
        _averaged("recall", "auto"),
        _averaged("f1", "auto"),
        _top(5),
        Metric(
            name="roc_auc",
            function=rankings.Area("roc_auc", classes=True),
            on_probabilities=rankings.Area("roc_auc", classes=False),
            on_sides=rankings.Area("roc_auc", classes=False),
            greater_is_better=True,
            needs="classes",
            source="Fawcett 2006, An introduction to ROC analysis, sections 7 and 9.1",
        ),
        Metric(
            name="average_precision",
            function=rankings.Area("average_precision", classes=True),
            on_probabilities=rankings.Area("average_precision", classes=False),
            on_sides=rankings.Area("average_precision", classes=False),
            greater_is_better=True,
            needs="classes",
            source="Zhu 2004, Recall, Precision and Average Precision, section 3",
        ),
        Metric(
            name="log_loss",
            column=codes.LOG_LOSS,
            function=distances.log_loss,
            on_probabilities=distances.log_loss_by_output,
            greater_is_better=False,
            needs="probabilities",
            source="Good 1952, Rational Decisions, section 4",
        ),
        Metric(
            name="mean_squared_error",
            column=codes.SQUARED_ERROR,
            function=distances.mean_squared_error,
            greater_is_better=False,
            aliases=("mse",),
            source="Goodfellow, Bengio & Courville 2016, Deep Learning, section 5.1.4",
        ),
        Metric(
            name="root_mean_squared_error",
            column=codes.ROOT_OF_SQUARES,
            function=distances.root_mean_squared_error,
            greater_is_better=False,
            aliases=("rmse",),
            source="Hyndman & Koehler 2006, Another look at measures of forecast accuracy, 2.1",
        ),
        Metric(
            name="mean_absolute_error",
            column=codes.ABSOLUTE_ERROR,
            function=distances.mean_absolute_error,
            greater_is_better=False,
            aliases=("mae",),
            source="Hyndman & Koehler 2006, Another look at measures of forecast accuracy, 2.1",
        ),
        Metric(
            name="mean_absolute_percentage_error",
            column=codes.RELATIVE_ERROR,
            function=distances.mean_absolute_percentage_error,
            greater_is_better=False,
            aliases=("mape",),
            source="Hyndman & Koehler 2006, Another look at measures of forecast accuracy, 2.2",
        ),
        Metric(
            name="r2",
            column=codes.R2,
            function=distances.r2,
            greater_is_better=True,
            source="Kvalseth 1985, Cautionary Note about R2, equation 1",
        ),
        Metric(
            name="coverage",
            function=distances.coverage,
            greater_is_better=None,
            needs="quantiles",
            source="Gneiting & Raftery 2007, Strictly Proper Scoring Rules, section 6.2",
        ),
    )
}
