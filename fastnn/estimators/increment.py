"""A `partial_fit` that repeats the one before in kind, without planning and checking all again.

Validation as scikit-learn does it, and planning a run, take a hundred times as long as a step of a
small network.  So an estimator keeps what its last `partial_fit` went by.  Where a call comes with
plain arrays, the same parameters and the same weights, it goes the short way; in every other
case, and wherever something is to be said, all goes as in a first call.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.utils import check_random_state

from fastnn import backends, gate
from fastnn.data import Data
from fastnn.estimators.examples import check_total, scaled
from fastnn.estimators.judge import Measure
from fastnn.estimators.ledger import Ledger
from fastnn.estimators.parameters import THEIRS, plain
from fastnn.estimators.watchers import Watchers
from fastnn.estimators.weights import draw_key
from fastnn.fitting.kept import Step
from fastnn.layout import capacity
from fastnn.losses import RECORDS
from fastnn.notices import warn
from fastnn.sharing import next_turn, this_thread

__all__ = ["Drawn", "Increment", "labels_at_once", "numbers_at_once", "repeating"]

Array = NDArray[Any]
Floats = NDArray[np.floating]
Order = NDArray[np.int64]

# Values that cannot change while they stay the same object; a RandomState changes by being drawn
# from, which every call does alike.
_FIXED: tuple[type[Any], ...] = (
    str, int, float, bool, type(None), type, np.generic, np.random.RandomState, *RECORDS.values()
)  # fmt: skip

# Parameters that no call after the first one reads.
_UNREAD = frozenset({"callbacks", "coefs_init", "intercepts_init", "monitor"})

# Examples of a step, and numbers of examples whose draws are kept.
_MOST_ROWS = 512
_KINDS = 8

# Arguments that the short way knows.
_NAMED = frozenset({"sample_weight", "classes"})

# Characters of dtypes that numbers may have, and labels beside words.
_NUMBERS = "fdbhilqBHILQ"
_LABELS = "fdbhilq"

# From so many labels on scikit-learn may say that there are too many kinds of them.
_FEW_LABELS = 20

_NO_ORDER: Order = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What an epoch of minibatches has drawn: its order, if any yet, and dropout's key."""

    order: Order | None
    mask_key: int


def repeating(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a `partial_fit` go the short way where it repeats the one before in kind.

    Parameters
    ----------
    method : callable
        The long way, which runs in scikit-learn's context of a fit.
    """
    longer = _fit_context(prefer_skip_nested_validation=True)(method)

    @functools.wraps(method)
    def partial_fit(self: Any, X: Any, y: Any, *more: Any, **named: Any) -> Any:
        # Taken away meanwhile, so that another thread's call finds none.
        kept: Increment | None = self.__dict__.pop("_increment", None)
        if kept is not None:
            try:
                if not more and named.keys() <= _NAMED and kept.take(self, X, y, **named):
                    return self
            finally:
                self._increment = kept
        return longer(self, X, y, *more, **named)

    return partial_fit


class Increment:
    """What a `partial_fit` went by, for those that follow.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        After a `partial_fit`.
    measure : Measure
        Vector, layout and loss.
    rows : int
        Examples that it had.
    """

    def __init__(self, estimator: Any, measure: Measure, rows: int) -> None:
        known = estimator.__dict__
        names = [name for name in estimator._parameter_constraints if name in known]
        self._absent = [name for name in estimator._parameter_constraints if name not in known]
        self._parameters = operator.itemgetter(*names)
        self._values = self._parameters(known)
        self._lists = [
            (value, tuple(value)) for value in self._values if isinstance(value, list)
        ]  # fmt: skip
        self._measure, self._most = measure, capacity(rows)
        self._weights, self._pace = estimator._weights, estimator._optimizer
        self._learnt = known.get("classes_"), known.get("_label_binarizer")
        self._inputs = self._weights.units[0]
        self._drops = estimator._drops()
        self._threads = estimator.n_threads
        self._clip_norm = 0.0
        if estimator.clip_norm is not None:
            self._clip_norm = plain(estimator.clip_norm, "clip_norm")
        self._ledger = Ledger(estimator, self._pace, rows)
        self._step: Step | None = None
        self._drawn: dict[int, tuple[np.random.RandomState, Drawn]] = {}

    @classmethod
    def of(cls, estimator: Any, measure: Measure, rows: int) -> Increment | None:
        """Return what a call of so many examples went by; None where calls may go otherwise."""
        known, kind = estimator.__dict__, type(estimator)
        for name in estimator._parameter_constraints:
            value = known[name] if name in known else getattr(kind, name, None)
            if name not in _UNREAD and not _is_fixed(value):
                return None
        sizes = estimator.hidden_layer_sizes
        sizes = list(sizes) if isinstance(sizes, list | tuple) else [sizes]
        usual = (
            rows <= _MOST_ROWS
            and not estimator._weights.own
            and estimator.n_iter_ == 1
            and measure.path.by_engine
            and measure.constant is None
            and estimator._optimizer.scheduled is None
            and getattr(estimator, "class_weight", None) is None
            and estimator._weights.units[1:-1] == sizes
            and "feature_names_in_" not in known
        )
        return cls(estimator, measure, rows) if usual else None

    def serves(self, estimator: Any, rows: int) -> bool:
        """Tell whether a call of so many examples would go by this."""
        return rows <= self._most and self._holds(estimator)

    def take(
        self, one: Any, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> bool:
        """Take one epoch, of one step; False, and nothing done, where the long way must."""
        if (
            type(X) is not np.ndarray
            or X.ndim != 2
            or X.dtype.char not in "fd"
            or not self._has_room(one, len(X))
            or not X.shape[1] == self._inputs == one.n_features_in_
            or not self._holds(one)
            or (classes is not None and not one._are_classes(classes))
        ):
            return False
        data = self._data(one, X, y, sample_weight)
        if data is None:
            return False
        self._advance(one, data)
        return True

    def _has_room(self, one: Any, rows: int) -> bool:
        """Tell whether so many examples are one step, of which nothing is to be said."""
        batch = one.batch_size
        return 0 < rows <= self._most and (rows <= 200 if batch == "auto" else batch == rows)

    def _holds(self, one: Any) -> bool:
        """Tell whether an estimator is as it was, but for what epochs change."""
        known = one.__dict__
        try:
            values = self._parameters(known)
        except KeyError:
            return False
        return (
            all(map(operator.is_, values, self._values))
            and all(tuple(value) == content for value, content in self._lists)
            and not any(name in known for name in self._absent)
            and known.get("_weights") is self._weights
            and known.get("_optimizer") is self._pace
            and known.get("classes_") is self._learnt[0]
            and known.get("_label_binarizer") is self._learnt[1]
            and known.get("best_loss_") is not None
            and "loss_curve_" in known
            and "feature_names_in_" not in known
            and self._weights.are(*one._described())
            and backends.natively()
        )

    def _data(self, one: Any, X: Array, y: Any, sample_weight: Any) -> Data | None:
        """Return the examples as the engine takes them; None where more is to be looked at."""
        dtype = self._measure.vector.dtype
        targets = one._targets_at_once(y, len(X), dtype)
        if targets is None:
            return None
        features, weights = gate.at_once(X, dtype), np.empty(0, dtype)
        weights.flags.writeable = False
        if features is None:
            return None
        if sample_weight is None:
            return Data(features, targets, weights)
        found = numbers_at_once(sample_weight, (len(X),), dtype)
        if found is None or isinstance(sample_weight, list) or scaled(found)[1]:
            return None
        data = Data(features, targets, found)
        try:
            check_total(data, "the training examples")
        except ValueError:
            return None
        return data

    def _advance(self, one: Any, data: Data) -> None:
        """Take the epoch's step on some examples, and record it."""
        step, rows = self._stepping(len(data)), len(data)
        state, vector = self._pace.state, self._measure.vector
        network, clip_norm = self._weights.network, self._clip_norm
        drawn = self._draw(one, rows)
        step.run.follow(_NO_ORDER if drawn.order is None else drawn.order)
        one.n_iter_ = 0
        try:
            taken = step.take(vector, state, data, drawn.mask_key, one.t_ % 2**64, clip_norm)
            if taken is None:
                self._tell(one, data, drawn)
                return
            loss, numbers = taken
            steps, pace = int(numbers["steps"]), self._pace
            turn, writer, shown = next_turn(), this_thread(), network._shown
            # From here on no call: Ctrl-C finds a step that was never taken, or all of it.
            shown.writer = writer
            shown.turn = 0
            vector[:] = step.parameters
            before = state.moments
            state.moments = step.moments
            state.numbers = numbers
            pace.steps_shown = steps
            shown.turn = turn
            step.moments = before
            self._ledger.record(loss, rows)
        except KeyboardInterrupt:
            warn("Training interrupted by user.", module=THEIRS)

    def _stepping(self, rows: int) -> Step:
        """Return what takes steps of so many examples."""
        step = self._step
        if step is None or not step.run.suits(rows):
            measure = self._measure
            step = self._step = Step.planned(
                measure.layout, measure.vector, self._pace.state, measure.loss, self._most,
                conventions=measure.conventions, clipping=self._clip_norm > 0.0,
                threads=self._threads,
            )  # fmt: skip
        return step

    def _draw(self, one: Any, rows: int) -> Drawn:
        """Draw what an epoch draws, in scikit-learn's order; a seed gives the same every time."""
        seeded = isinstance(one.random_state, Integral)
        if seeded and rows in self._drawn:
            one._random_state, drawn = self._drawn[rows]
            return drawn
        one._random_state = rng = check_random_state(one.random_state)
        mask_key = draw_key(rng) if self._drops else 0
        order = None
        if one.shuffle and rows > 1:
            order = np.arange(rows)
            rng.shuffle(order)
        drawn = Drawn(order, mask_key)
        if seeded:
            if len(self._drawn) >= _KINDS:
                self._drawn.clear()
            self._drawn[rows] = rng, drawn
        return drawn

    def _tell(self, one: Any, data: Data, drawn: Drawn) -> None:
        """Take a step that diverges the long way, which tells where it does."""
        one._descend(
            data, self._measure, None, Watchers(), first=False, incremental=True, drawn=drawn
        )


def _is_fixed(value: Any) -> bool:
    """Tell whether a parameter means the same as long as it holds the same."""
    parts = value if isinstance(value, list | tuple) else (value,)
    return all(isinstance(part, _FIXED) for part in parts)


def _plain_array(values: Any) -> Array | None:
    """Return an array, or a list of Python's numbers or words as one; None for all else."""
    if type(values) is list:
        kinds = set(map(type, values))
        if len(kinds) != 1 or kinds.isdisjoint((int, float, str)):
            return None
        return np.asarray(values)
    return values if type(values) is np.ndarray else None


def numbers_at_once(values: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
    """Return numbers of a shape as the engine takes them, where one look is enough.

    Parameters
    ----------
    values : array-like
        Any.
    shape : tuple of int
        The one that they must have.
    dtype : dtype
        The engine's.

    Returns
    -------
    ndarray, read-only, or None
        None for all that scikit-learn would have to look at.
    """
    array = _plain_array(values)
    if array is None or array.shape != shape or array.dtype.char not in _NUMBERS:
        return None
    return gate.at_once(array, dtype)


def labels_at_once(values: Any, classes: Array) -> NDArray[np.int64] | None:
    """Return the place of each label among sorted classes, where one look is enough.

    Parameters
    ----------
    values : array-like
        Any.
    classes : ndarray
        Sorted.

    Returns
    -------
    ndarray of int64, shape (n,), or None
        None for all that scikit-learn would have to look at, such as labels of no class.
    """
    array = _plain_array(values)
    if array is None or array.ndim != 1 or not array.size:
        return None
    alike = "U" if classes.dtype.char == "U" else _LABELS
    if classes.dtype.char not in alike or array.dtype.char not in alike:
        return None
    if array.size > _FEW_LABELS and len(classes) > array.size // 2:
        return None
    places = classes.searchsorted(array)
    if places.max() == len(classes) or not (classes[places] == array).all():
        return None
    return places
