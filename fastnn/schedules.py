"""Schedules: the learning rate as a function of the step; frozen records, and their table.

A schedule's ``rate`` is a pure function of the step, counted from 0 through the whole fit, the
steps per epoch, the epochs of the fit and the optimizer's own learning rate, the *base*;
`ReduceOnPlateau` alone also uses what the fit has recorded.  Lengths are given in epochs and
heights as fractions of the base, so that a schedule means the same for every batch size and every
learning rate.  The file is long because each record documents its formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fastnn import metrics, words
from fastnn.hints import arguments_wanted, understands
from fastnn.names import check_integer, check_real, describe, lookup

__all__ = [
    "SCHEDULES",
    "ConstantRate",
    "CosineDecay",
    "ExponentialDecay",
    "InverseScaling",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "ScheduleLike",
    "StepDecay",
    "Warmup",
    "alike",
    "as_given",
    "from_dict",
    "looks_back",
    "rates",
    "resolve_schedule",
    "to_dict",
]

History: TypeAlias = Mapping[str, Sequence[float]]
Mode: TypeAlias = Literal["auto", "min", "max"]

_NOTHING: History = {}


@runtime_checkable
class Schedule(Protocol):
    """Anything that gives a learning rate for each step."""

    def rate(
        self, step: int, steps_per_epoch: int, epochs: float, base: float,
        history: History = _NOTHING,
    ) -> float:  # fmt: skip
        """Return the learning rate of a step.

        Parameters
        ----------
        step : int
            The step, from 0 on through the whole fit.
        steps_per_epoch : int
            Steps per epoch.
        epochs : float
            How many epochs the fit has.
        base : float
            The optimizer's learning rate.
        history : mapping of str to sequence of float
            What the epochs before this step recorded.
        """
        ...


ScheduleLike: TypeAlias = (
    Schedule | Callable[[float], float] | Sequence[float] | NDArray[np.floating] | str
)


@understands(words.SCHEDULE)
@dataclass(frozen=True, slots=True)
class ConstantRate:
    """The same rate at every step: the optimizer's own.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.ConstantRate().rate(70, steps_per_epoch=10, epochs=20, base=0.1)
    0.1
    """

    def rate(
        self, step: int, steps_per_epoch: int, epochs: float, base: float,
        history: History = _NOTHING,
    ) -> float:  # fmt: skip
        """Return the base."""
        return base


@understands(words.SCHEDULE)
@dataclass(frozen=True, slots=True)
class StepDecay:
    """A rate that falls by a factor every so many epochs: ``base factor^(epoch // every)``.

    Parameters
    ----------
    every : int, default 10
        Epochs between two falls, at least 1.
    factor : float, default 0.1
        What the rate is multiplied by, above 0 and at most 1.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Krizhevsky, Sutskever & Hinton 2012, ImageNet classification with deep convolutional neural
    networks, section 5.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.StepDecay(every=5, factor=0.5).rate(70, steps_per_epoch=10, epochs=20, base=0.1)
    0.05
    """

    every: int = 10
    factor: float = 0.1

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        object.__setattr__(self, "every", check_integer(self.every, "every", 1))
        _set(self, "factor", low=0.0, high=1.0, low_open=True)

    def rate(
        self, step: int, steps_per_epoch: int, epochs: float, base: float,
        history: History = _NOTHING,
    ) -> float:  # fmt: skip
        """Return the base times as many factors as there were falls."""
        return float(base * self.factor ** (step // (self.every * steps_per_epoch)))


@understands(words.SCHEDULE)
@dataclass(frozen=True, slots=True)
class ExponentialDecay:
    """A rate that falls by a factor in each epoch, step by step: ``base factor^(epochs so far)``.

    Parameters
    ----------
    factor : float, default 0.95
        What an epoch multiplies the rate by, above 0 and at most 1.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Goodfellow, Bengio & Courville 2016, Deep Learning, section 8.3.1, on falling rates.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.ExponentialDecay(0.25).rate(5, steps_per_epoch=10, epochs=20, base=0.1)
    0.05
    """

    factor: float = 0.95

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        _set(self, "factor", low=0.0, high=1.0, low_open=True)

    def rate(
        self, step: int, steps_per_epoch: int, epochs: float, base: float,
        history: History = _NOTHING,
    ) -> float:  # fmt: skip
        """Return the base times the factor to the power of the epochs so far."""
        return float(base * self.factor ** (step / steps_per_epoch))


@understands(words.SCHEDULE)
@dataclass(frozen=True, slots=True)
class CosineDecay:
    """A rate that falls along half a cosine, once or with warm restarts.

    ``base (floor + (1 - floor) (1 + cos(pi p)) / 2)``, where ``p`` goes from 0 at the beginning of
    a cycle to 1 at its end.

    Parameters
    ----------
    period : int, optional
        Epochs of the first cycle, at least 1; left out, one cycle takes the whole fit.
    growth : int, default 1
        How many times as long as the one before it a cycle is, at least 1.
    floor : float, default 0.0
        What is left of the base at the end of a cycle, from 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Loshchilov & Hutter 2017, SGDR: stochastic gradient descent with warm restarts, equation 5.

    Examples
    --------
    >>> import fastnn as fn
    >>> schedule = fn.CosineDecay(period=10)
    >>> [schedule.rate(step, 1, epochs=20, base=0.5) for step in (0, 5, 10, 15)]
    [0.5, 0.25, 0.5, 0.25]
    """

    period: int | None = None
    growth: int = 1
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        if self.period is not None:
            object.__setattr__(self, "period", check_integer(self.period, "period", 1))
        object.__setattr__(self, "growth", check_integer(self.growth, "growth", 1))
        _set(self, "floor", low=0.0, high=1.0)

    def rate(
        self, step: int, steps_per_epoch: int, epochs: float, base: float,
        history: History = _NOTHING,
    ) -> float:  # fmt: skip
        """Return what the place in its cycle gives."""
        part = _half_cosine(self._place(step, steps_per_epoch, epochs))
        return base * (self.floor + (1.0 - self.floor) * part)

    def _place(self, step: int, steps_per_epoch: int, epochs: float) -> float:
        """Return how much of its cycle lies before a step, from 0 to 1."""
        if self.period is None:
            return min(step / (epochs * steps_per_epoch), 1.0)
        length = self.period * steps_per_epoch
        if self.growth == 1:
            return step % length / length
        while step >= length:
            step -= length
            length *= self.growth
        return step / length


@understands(words.SCHEDULE)
@dataclass(frozen=True, slots=True)
class OneCycle:
    """One rise to the base and one long fall, each along half a cosine: "super-convergence".

    The base is the highest rate.  The last step of the fit is taken at ``end``.

    Parameters
    ----------
    warmup : float, default 0.3
        What part of the fit the rise takes, between 0 and 1.
    start : float, default 0.04
        Where it starts, as a part of the base, above 0 and at most 1.
    end : float, default 4e-6
        Where it ends, as a part of the base, from 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Smith & Topin 2019, Super-convergence: very fast training of neural networks using large
    learning rates, SPIE 11006.  The defaults and the cosines are PyTorch's.

    Examples
    --------
    >>> import fastnn as fn
    >>> schedule = fn.OneCycle(warmup=0.5, start=0.5, end=0.0)
    >>> [schedule.rate(step, 3, epochs=1, base=0.5) for step in range(3)]
    [0.25, 0.5, 0.0]
    """

    warmup: float = 0.3
    start: float = 0.04
    end: float = 4e-6

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        _set(self, "warmup", low=0.0, high=1.0, low_open=True, high_open=True)
        _set(self, "start", low=0.0, high=1.0, low_open=True)
        _set(self, "end", low=0.0, high=1.0)

    def rate(
        self, step: int, steps_per_epoch: int, epochs: float, base: float,
        history: History = _NOTHING,
    ) -> float:  # fmt: skip
        """Return what the place in the fit gives."""
        place = min(step / max(epochs * steps_per_epoch - 1.0, 1.0), 1.0)
        if place <= self.warmup:
            return base * (1.0 - (1.0 - self.start) * _half_cosine(place / self.warmup))
        fallen = (place - self.warmup) / (1.0 - self.warmup)
        return base * (self.end + (1.0 - self.end) * _half_cosine(fallen))


@understands(words.SCHEDULE)
@dataclass(frozen=True, slots=True)
class InverseScaling:
    """A rate that falls with a power of the steps taken: ``base / (step + 1)^power``.

    Parameters
    ----------
    power : float, default 0.5
        How fast it falls, at least 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Robbins & Monro 1951, A stochastic approximation method, whose conditions a power above 1/2
    and up to 1 meets.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.InverseScaling(0.5).rate(3, steps_per_epoch=10, epochs=20, base=0.1)
    0.05
    """

    power: float = 0.5

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        _set(self, "power", low=0.0)

    def rate(
        self, step: int, steps_per_epoch: int, epochs: float, base: float,
        history: History = _NOTHING,
    ) -> float:  # fmt: skip
        """Return the base over a power of the number of this step."""
        return float(base / (step + 1.0) ** self.power)


@understands(words.SCHEDULE)
@dataclass(frozen=True, slots=True)
class ReduceOnPlateau:
    """A rate that falls by a factor whenever a recorded value has stopped getting better.

    Parameters
    ----------
    monitor : str, default "val_loss"
        The value to watch, a key of the history.
    factor : float, default 0.1
        What the rate is multiplied by, between 0 and 1.
    patience : int, default 10
        How many epochs in a row without improvement make the rate fall; at least 1.
    min_delta : float, default 0.0
        By more than how much a value must be better than the last improvement to count as one;
        at least 0, in the monitored value's unit.
    floor : float, default 0.0
        What part of the base is always left, from 0 to 1.
    mode : {"auto", "min", "max"}, default "auto"
        Which way is better. "auto" knows: smaller for the loss and the errors, greater for
        accuracy and r2. A metric of your own needs "min" or "max".

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described; from ``rate``, if the history has no such value.

    References
    ----------
    The rule is that of Keras and PyTorch, with the patience counted as in `EarlyStopping`.

    Examples
    --------
    >>> import fastnn as fn
    >>> schedule = fn.ReduceOnPlateau("loss", factor=0.5, patience=2)
    >>> schedule.rate(30, 10, epochs=20, base=0.1, history={"loss": [1.0, 1.0, 1.0]})
    0.05
    """

    monitor: str = "val_loss"
    factor: float = 0.1
    patience: int = 10
    min_delta: float = 0.0
    floor: float = 0.0
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        """Check every field once, when the record is made."""
        if not isinstance(self.monitor, str):
            raise TypeError(
                "monitor must be a string, a key of the history such as 'val_loss'; "
                f"got {describe(self.monitor)}."
            )
        _set(self, "factor", low=0.0, high=1.0, low_open=True, high_open=True)
        object.__setattr__(self, "patience", check_integer(self.patience, "patience", 1))
        _set(self, "min_delta", low=0.0)
        _set(self, "floor", low=0.0, high=1.0)
        lookup({mode: mode for mode in get_args(Mode)}, self.mode, "mode")
        if self.mode == "auto" and metrics.greater_is_better(self.monitor) is None:
            raise ValueError(
                f"mode must be 'min' or 'max' to monitor {self.monitor!r}, a metric of which it is "
                "not known which way is better; got 'auto'."
            )

    def rate(
        self, step: int, steps_per_epoch: int, epochs: float, base: float,
        history: History = _NOTHING,
    ) -> float:  # fmt: skip
        """Return the base times as many factors as there were plateaus."""
        if self.monitor not in history:
            if step < steps_per_epoch and not history:
                return base
            known = ", ".join(map(repr, history)) or "nothing"
            raise ValueError(
                f"monitor must be one of what the fit records, {known}; got {self.monitor!r}."
            )
        memo = getattr(history, "memo", {})
        plateaus = self._plateaus(history[self.monitor], memo)
        return max(base * self.factor**plateaus, base * self.floor)

    def _plateaus(self, values: Sequence[float], memo: dict[object, Any]) -> int:
        """Count how often so many values in a row were no better than the best before them.

        The memo of a history that grows holds how far they were counted.
        """
        greater = self.mode == "max"
        if self.mode == "auto":
            greater = bool(metrics.greater_is_better(self.monitor))
        seen, best, waited = 0, math.inf, 0
        count: int = 0
        if self in memo:
            seen, best, waited, count = memo[self]
        if seen > len(values):
            seen, best, waited, count = 0, math.inf, 0, 0
        for place in range(seen, len(values)):
            value = values[place]
            loss = -value if greater else value
            if loss < best - self.min_delta:
                best, waited = loss, 0
                continue
            waited += 1
            if waited == self.patience:
                waited, count = 0, count + 1
        memo[self] = len(values), best, waited, count
        return count


@understands(words.SCHEDULE)
@dataclass(frozen=True, slots=True)
class Warmup:
    """A rate that rises in a straight line to the base, and then follows another schedule.

    At step ``s`` of the ``w`` steps of the rise it is ``base (s + 1) / w``.  The other schedule
    begins when the rise is over, and has the epochs that are left.

    Parameters
    ----------
    epochs : float, default 1.0
        How many epochs the rise takes, above 0.
    then : Schedule, callable or str, optional
        What follows; the base itself if left out.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Goyal and others 2017, Accurate, large minibatch SGD: training ImageNet in 1 hour, section 2.2.

    Examples
    --------
    >>> import fastnn as fn
    >>> schedule = fn.Warmup(epochs=2, then=fn.CosineDecay())
    >>> [schedule.rate(step, 1, epochs=4, base=0.5) for step in range(4)]
    [0.25, 0.5, 0.5, 0.25]
    """

    epochs: float = 1.0
    then: Schedule | Callable[[float], float] | str | None = None

    def __post_init__(self) -> None:
        """Check every field once, when the record is made."""
        _set(self, "epochs", low=0.0, low_open=True)
        object.__setattr__(self, "then", resolve_schedule(self.then, "then"))

    def rate(
        self, step: int, steps_per_epoch: int, epochs: float, base: float,
        history: History = _NOTHING,
    ) -> float:  # fmt: skip
        """Return the base's part during the rise, then what the other schedule gives."""
        rise = max(round(self.epochs * steps_per_epoch), 1)
        if step < rise:
            return base * (step + 1) / rise
        left = epochs - rise / steps_per_epoch
        return resolve_schedule(self.then).rate(step - rise, steps_per_epoch, left, base, history)


@dataclass(frozen=True, slots=True)
class FromFunction:
    """A function of the user's own: of the epochs so far, 2.5 in the middle of the third.

    ``argument`` is the name of the caller's argument, for the message.
    """

    function: Callable[[float], float]
    argument: str = "schedule"

    def rate(
        self, step: int, steps_per_epoch: int, epochs: float, base: float,
        history: History = _NOTHING,
    ) -> float:  # fmt: skip
        """Return the base times what the function gives."""
        factor: object = self.function(step / steps_per_epoch)
        if type(factor) is float and 0.0 <= factor < math.inf:
            return base * factor
        said = f"what {self.argument} gives at step {step}, {_after(step, steps_per_epoch)},"
        return base * check_real(factor, said, low=0.0)


@dataclass(frozen=True, slots=True)
class FromNumbers:
    """Numbers of the user's own: a factor for each epoch, of which the last one stays."""

    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the field once and store it in its plain form."""
        object.__setattr__(self, "factors", _factors(self.factors, "factors"))

    @classmethod
    def of(cls, factors: object, argument: str) -> FromNumbers:
        """Take a list or an array of factors, or say what is wrong with it."""
        return cls(_factors(factors, argument))

    def rate(
        self, step: int, steps_per_epoch: int, epochs: float, base: float,
        history: History = _NOTHING,
    ) -> float:  # fmt: skip
        """Return the base times the factor of the step's epoch."""
        return base * self.factors[min(step // steps_per_epoch, len(self.factors) - 1)]


def _factors(factors: object, argument: str) -> tuple[float, ...]:
    """Return factors in their plain form, or say what is wrong with them."""
    listed: Any = factors.tolist() if isinstance(factors, np.ndarray) else factors
    if not isinstance(listed, list | tuple) or not listed:
        raise ValueError(f"{argument} must hold a factor for each epoch; got {describe(factors)}.")
    return tuple(check_real(one, f"{argument}[{n}]", low=0.0) for n, one in enumerate(listed))


SCHEDULES: dict[str, type[Any]] = {
    "constant": ConstantRate,
    "step": StepDecay,
    "exponential": ExponentialDecay,
    "cosine": CosineDecay,
    "one_cycle": OneCycle,
    "inverse_scaling": InverseScaling,
    "plateau": ReduceOnPlateau,
    "warmup": Warmup,
}


def resolve_schedule(schedule: object, argument: str = "schedule") -> Schedule:
    """Take what was given for a schedule.

    Parameters
    ----------
    schedule : Schedule, callable, str or None
        A record, or any object with such a ``rate``; a function of the epochs so far, a float,
        that gives a factor for the optimizer's learning rate; a list or an array of such factors,
        one per epoch, of which the last one stays; a name in `SCHEDULES`, which stands for the
        record with its defaults; or None for the optimizer's own rate.
    argument : str
        The name of the caller's argument, for the message.

    Returns
    -------
    Schedule
        The record or object.

    Raises
    ------
    TypeError, ValueError
        If it is anything else, a class instead of an object included.

    Examples
    --------
    >>> resolve_schedule("cosine")
    CosineDecay(period=None, growth=1, floor=0.0)
    >>> resolve_schedule(lambda epoch: 0.5**epoch).rate(10, 5, epochs=4, base=0.5)
    0.125
    >>> resolve_schedule([1.0, 0.5, 0.1]).rate(9, 5, epochs=4, base=0.5)
    0.25
    """
    if schedule is None:
        return ConstantRate()
    if isinstance(schedule, str):
        record: Schedule = lookup(SCHEDULES, schedule, argument)()
        return record
    if isinstance(schedule, list | tuple | np.ndarray):
        return FromNumbers.of(schedule, argument)
    if not isinstance(schedule, type):
        # A field called rate, as a layer may have, makes no schedule.
        if isinstance(schedule, Schedule) and callable(schedule.rate):
            _check_rate(schedule, argument)
            return schedule
        if callable(schedule):
            wanted = arguments_wanted(schedule, 1)
            if wanted is not None:
                name = getattr(schedule, "__name__", type(schedule).__name__)
                raise TypeError(
                    f"{argument} must be a function of one argument, the epochs so far; "
                    f"got {name}{wanted}."
                )
            return FromFunction(schedule, argument)
    hint = f" Did you mean {schedule.__name__}()?" if isinstance(schedule, type) else ""
    listed = ", ".join(f"fastnn.{record.__name__}(...)" for record in SCHEDULES.values())
    raise TypeError(
        f"{argument} must be one of {listed}, a list of factors, a name, or a function of the "
        f"epoch; got {describe(schedule)}.{hint}"
    )


def _check_rate(schedule: Schedule, argument: str) -> None:
    """Refuse an object of the user's own whose `rate` takes other arguments."""
    kind = type(schedule)
    if kind.__module__ == __name__:
        return
    wanted = arguments_wanted(schedule.rate, 5)
    if wanted is not None:
        raise TypeError(
            f"{argument} must be an object whose rate takes five arguments: step, steps_per_epoch, "
            f"epochs, base and history; got {kind.__name__}.rate{wanted}."
        )


def alike(one: object, other: object) -> bool:
    """Say whether two schedules are equal; those that cannot be compared are not.

    An object of the user's own may hold arrays, whose comparison is no truth value.

    Examples
    --------
    >>> alike(resolve_schedule([1.0, 0.5]), resolve_schedule([1, 0.5]))
    True
    """
    try:
        return one is other or bool(one == other)
    except Exception:
        return False


def as_given(value: Any) -> Any:
    """Return what `resolve_schedule` made a record of, or anything else as it is.

    Examples
    --------
    >>> as_given(resolve_schedule([1.0, 0.5])), as_given(CosineDecay(period=2))
    ([1.0, 0.5], CosineDecay(period=2, growth=1, floor=0.0))
    """
    if isinstance(value, FromNumbers):
        return list(value.factors)
    return value.function if isinstance(value, FromFunction) else value


def to_dict(schedule: Schedule, *, functions: bool = False) -> Any:
    """Return a schedule as plain data, for files.

    Parameters
    ----------
    schedule : Schedule
        A record.
    functions : bool, default False
        Whether functions and objects of the user's own stay as they are, as pickles have them.

    Returns
    -------
    dict
        Its name, as "schedule", and its fields; factors are one text, which takes one place in a
        file, however many there are.

    Raises
    ------
    TypeError
        If it is a function or an object of the user's own.

    Examples
    --------
    >>> to_dict(StepDecay(every=3))
    {'schedule': 'StepDecay', 'every': 3, 'factor': 0.1}
    """
    plain: dict[str, Any] = {"schedule": type(schedule).__name__}
    if isinstance(schedule, FromNumbers):
        return plain | {"factors": " ".join(map(repr, schedule.factors))}
    if type(schedule) not in SCHEDULES.values():
        if functions:
            return schedule
        raise TypeError(
            "schedule must be one of this library's records, a name or a list of factors to be "
            f"saved, as a file holds no code; got {describe(as_given(schedule))}. Copies and "
            "pickles keep it."
        )
    for one in fields(schedule):  # type: ignore[arg-type]
        value = getattr(schedule, one.name)
        inside = isinstance(value, Schedule)
        plain[one.name] = to_dict(value, functions=functions) if inside else value
    return plain


def from_dict(data: Any) -> Any:
    """Return the schedule that `to_dict` described; what is no description stays as it is.

    Raises
    ------
    TypeError, ValueError
        If a description names another record, or has other fields than its own.

    Examples
    --------
    >>> from_dict({"schedule": "FromNumbers", "factors": "1.0 0.5"})
    FromNumbers(factors=(1.0, 0.5))
    """
    if not isinstance(data, dict):
        return data
    given = dict(data)
    known = {record.__name__: record for record in (*SCHEDULES.values(), FromNumbers)}
    record = lookup(known, given.pop("schedule", None), "schedule")
    wanted = [one.name for one in fields(record)]
    if given.keys() != set(wanted):
        raise ValueError(
            f"{record.__name__} must be described by {', '.join(wanted)}; got {', '.join(given)}."
        )
    if record is FromNumbers:
        given["factors"] = [float(factor) for factor in str(given["factors"]).split()]
    if "then" in given:
        try:
            given["then"] = from_dict(given["then"])
        except RecursionError:
            raise ValueError("a schedule must be of few levels; got far more.") from None
    return record(**given)


def looks_back(schedule: Schedule) -> bool:
    """Say whether a schedule may look at what the epochs before a step recorded.

    Parameters
    ----------
    schedule : Schedule
        A record or any object with a ``rate``.

    Returns
    -------
    bool
        False for records of which it is known that they do not.

    Examples
    --------
    >>> looks_back(CosineDecay()), looks_back(Warmup(then="plateau"))
    (False, True)
    """
    if isinstance(schedule, Warmup):
        return looks_back(resolve_schedule(schedule.then))
    blind = ConstantRate, StepDecay, ExponentialDecay, CosineDecay, OneCycle, InverseScaling
    return type(schedule) not in (*blind, FromNumbers)


def rates(
    schedule: Schedule,
    first: int,
    last: int,
    steps_per_epoch: int,
    epochs: float,
    base: float,
    history: History = _NOTHING,
) -> NDArray[np.float64]:
    """Return the learning rates of the steps from first to before last.

    Parameters
    ----------
    schedule : Schedule
        The record or object.
    first, last : int
        Steps, counted from 0 through the whole fit; at least one.
    steps_per_epoch, epochs, base, history
        What a schedule reads.

    Returns
    -------
    ndarray of float64, shape (last - first,)
        Finite and at least 0.

    Raises
    ------
    TypeError, ValueError
        If the schedule gives anything else; the message names the step.

    Examples
    --------
    >>> rates(StepDecay(every=1, factor=0.5), 0, 6, steps_per_epoch=2, epochs=3, base=1.0)
    array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25])
    """
    # A plateau's rate depends on the history alone, and is costly to compute in a long one.
    steady = isinstance(schedule, ReduceOnPlateau)
    steps = range(first, first + 1 if steady else last)
    given = [schedule.rate(s, steps_per_epoch, epochs, base, history) for s in steps]
    if all(type(rate) is float for rate in given):
        found = np.array(given)
        if not np.isfinite(found).all() or found.min() < 0.0:
            found = _checked(given, first, steps_per_epoch)
    else:
        found = _checked(given, first, steps_per_epoch)
    return np.repeat(found, last - first) if steady else found


def _checked(given: Sequence[object], first: int, steps_per_epoch: int) -> NDArray[np.float64]:
    """Return the rates of steps from the first on as plain numbers, or name the one that is not."""
    return np.array(
        [
            check_real(
                rate,
                f"the learning rate that schedule gives at step {step}, "
                f"{_after(step, steps_per_epoch)},",
                low=0.0,
            )
            for step, rate in enumerate(given, first)
        ]
    )


def _after(step: int, steps_per_epoch: int) -> str:
    """Say where a step is."""
    return f"{step / steps_per_epoch:.4g} epochs from its start"


def _half_cosine(place: float) -> float:
    """Return 1 at 0, 0 at 1, and half a cosine between them."""
    return 0.5 * (1.0 + math.cos(math.pi * place))


def _set(record: Any, name: str, **limits: Any) -> None:
    """Check a field and store it as a plain float, so that equal settings compare equal."""
    object.__setattr__(record, name, check_real(getattr(record, name), name, **limits))
