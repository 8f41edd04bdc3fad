"""The score and the loss that are measured on validation examples after every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import check_scoring

from fastnn.activations import ACTIVATIONS
from fastnn.conventions import Conventions
from fastnn.data import Data
from fastnn.estimators.examples import as_given
from fastnn.fitting.tallies import Counting, Watch
from fastnn.kernels import codes
from fastnn.layout import Layout
from fastnn.losses import Loss
from fastnn.path import Path
from fastnn.predicting.predictor import slices
from fastnn.sharing import Shown
from fastnn.sparse import SparseRows

__all__ = ["Judge", "Measure", "accuracy", "mean_loss", "outputs_for", "r2"]

Array = NDArray[Any]
Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Measure:
    """How the loss of a network is measured: weights, loss and conventions.

    Attributes
    ----------
    layout : Layout
        Of the vector.
    vector : ndarray (size,)
        The weights as they are.
    loss : Loss
        Its row.
    conventions : Conventions
        How it is scaled.
    constant : callable or None
        Targets -> what is added to the loss of each example.
    path : Path
        Which path computes.
    shown : Shown
        Tells other threads which state of the vector is shown; what writes to it goes through this.
    """

    layout: Layout
    vector: Floats
    loss: Loss
    conventions: Conventions
    constant: Callable[[Array], Array] | None
    path: Path
    shown: Shown


def outputs_for(network: Any, known: Data) -> Floats:
    """Return the outputs of the network's last layer for the examples."""
    sparse = isinstance(known.X, SparseRows)
    found: Floats = network.predict(known.X) if sparse else network(known.X)
    return found


def mean_loss(measure: Measure, known: Data) -> Callable[[], float]:
    """Return what gives the (weighted) mean loss of the examples, without L2, as it is then."""
    engines = measure.path.mean_loss(
        measure.layout, measure.vector, measure.loss, known, measure.conventions
    )
    if measure.constant is None:
        return engines
    constant = mean_constant(measure, known)
    return lambda: engines() + constant


def mean_constant(measure: Measure, known: Data) -> float:
    """Return what is added to the engine's (weighted) mean loss of the examples."""
    if measure.constant is None:
        return 0.0
    return float(np.average(measure.constant(known.targets.values), weights=_none(known)))


def _none(part: Data) -> Floats | None:
    """Return the weights of examples, or None where all count alike."""
    return part.weights if part.weights.size else None


def accuracy(right: NDArray[np.bool_], weights: Array | None) -> float:
    """Return the (weighted) share of examples that are right."""
    return float(np.average(right, weights=weights))


def r2(y: Array, found: Array, weights: Array | None) -> float:
    """Return the coefficient of determination, a mean over outputs.

    An output that does not vary counts 1 where it is met and 0 elsewhere, as in scikit-learn.
    """
    w = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
    y = np.asarray(y, np.float64).reshape(len(y), -1)
    errors = w @ np.square(y - found.reshape(y.shape))
    spread = w @ np.square(y - np.average(y, axis=0, weights=w))
    scores = np.where(errors == 0.0, 1.0, 0.0)
    varied = (spread != 0.0) & (errors != 0.0)
    scores[varied] = 1.0 - errors[varied] / spread[varied]
    return float(scores.mean())


def _scorer(estimator: Any, monitor: Any) -> Any:
    """Return scikit-learn's scorer, or say what a monitor may be."""
    try:
        return check_scoring(estimator, monitor)
    except (TypeError, ValueError) as problem:
        raise ValueError(
            "monitor must be None, 'loss', or a scorer of scikit-learn, by name or as a function "
            f"of estimator, X and y; got {monitor!r}."
        ) from problem


class Judge:
    """Scores an estimator during a fit, on examples that it is not trained on.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        With its weights as they are.
    known : Data
        Validation examples.
    y : ndarray
        Their targets as the user has them, for a scorer.
    weights : ndarray or None
        Their weights.
    measure : Measure
        How the loss is measured.

    Attributes
    ----------
    sign : float
        1.0 where a greater score is better, -1.0 where a smaller one is.
    name : str
        What the score is called in a history.
    """

    def __init__(
        self, estimator: Any, known: Data, y: Array, weights: Array | None, measure: Measure
    ) -> None:
        self._estimator = estimator
        self._known, self._y, self._weights = known, y, weights
        self._loss = mean_loss(measure, known)
        self._measure, self._constant = measure, mean_constant(measure, known)
        monitor = estimator.monitor
        self._scorer: Any = None
        if monitor is not None and monitor != "loss":
            self._scorer = _scorer(estimator, monitor)
        mode = estimator.monitor_mode
        least = mode == "min" or (mode == "auto" and monitor == "loss")
        self.sign = -1.0 if least else 1.0
        self.name = f"val_{monitor if isinstance(monitor, str) else 'score'}"
        if monitor is None:
            self.name = f"val_{estimator._score_name}"

    def __call__(self) -> tuple[float, float]:
        """Return score and loss."""
        loss = self._loss()
        if self._estimator.monitor == "loss":
            return loss, loss
        if self._scorer is None:
            found = outputs_for(self._estimator._weights.network, self._known)
            return self._estimator._quick_score(found, self._known, self._y, self._weights), loss
        return self._scored(), loss

    def counting(self, best: float, keep: bool) -> Counting | None:
        """Return what has the engine score at the end of an epoch; None where it would differ.

        Parameters
        ----------
        best : float
            The score to be beaten.
        keep : bool
            Whether the engine is to keep the weights of the best score.
        """
        measure, known = self._measure, self._known
        blocks = measure.layout.blocks
        alone = self._scorer is None and self._estimator.monitor == "loss"
        kind = 0 if alone else self._estimator._counted(known)
        if (
            kind is None
            or self._scorer is not None
            or not measure.path.by_engine
            or known.weights.size
            or isinstance(known.X, SparseRows)
            or len(slices(len(known), blocks)) > 1
            or (alone and measure.constant is not None)
        ):
            return None
        targets = measure.loss.width(measure.layout.outputs)
        figures = np.zeros((2, 1 + targets))
        figures[1, 0] = len(known)
        score = codes.LOSS_VALUE if alone else codes.ACCURACY
        if kind & codes.ERRORS:
            y = known.targets.values
            figures[1, 1:] = np.square(y - np.average(y, axis=0)).mean(axis=0)
            score = codes.R2
        matched = measure.loss.activation is not None
        activation = ACTIVATIONS[blocks[-1].activation if matched else "identity"]
        slots = (codes.LOSS_VALUE, 0), (score, 0)
        places = {"val_loss": (1, 0), "score": (1, 0 if alone else 1)}
        rule = Watch("score", -self.sign, math.inf, 0.0, True, -self.sign * best) if keep else None
        return Counting(kind, slots, places, targets, activation.code, figures, known, False, rule)

    def from_record(self, counting: Counting, values: Floats) -> tuple[float, float]:
        """Return score and loss of the values in the engine's record of an epoch."""
        score, loss = (float(values[counting.places[name]]) for name in ("score", "val_loss"))
        return score, loss + self._constant

    def _scored(self) -> float:
        """Call the scorer on the present estimator, whatever its features are called."""
        seen = object.__new__(type(self._estimator))
        seen.__dict__.update(self._estimator.__dict__)
        seen.__dict__.pop("feature_names_in_", None)
        weights = {} if self._weights is None else {"sample_weight": self._weights}
        value: object = self._scorer(seen, as_given(self._known), self._y, **weights)
        if not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(
                f"monitor must give one number; {self._estimator.monitor!r} gave {value!r}."
            )
        return float(value)

    def better(self, one: float, than: float) -> bool:
        """Tell whether a score is better than another; NaN is never."""
        return self.sign * one > self.sign * than

    @property
    def worst(self) -> float:
        """What every score is better than."""
        return -self.sign * math.inf
