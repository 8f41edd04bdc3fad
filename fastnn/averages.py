"""Averages of weights: over the steps of a fit, or over the ends of its epochs.

Training goes on from its own weights; the average is one more vector beside the optimizer's
moments, so that whatever keeps, packs, saves and brings back these has it too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from fastnn import words
from fastnn.hints import understands
from fastnn.kernels import codes
from fastnn.names import check_integer, check_real, describe

__all__ = ["EMA", "SWA", "Average", "Averaging", "averaging", "check_average"]


# What the text of a mean over epochs begins with, before their number.
_BEGINS = "SWA after "


@understands(words.AVERAGE)
@dataclass(frozen=True, slots=True)
class EMA:
    """Exponential moving average: end a fit with the mean of its steps' weights, the last most.

    For ``Sequential.fit(average=...)``.  Training goes on from its own weights, which nobody sees:
    validation, callbacks such as `EarlyStopping`, and the network after the fit have the average
    ``a`` of the weights ``w`` after each step ``t`` so far,
    ``a <- a + (1 - decay) / (1 - decay^t) (w - a)``.

    Parameters
    ----------
    decay : float, default 0.999
        How much of the average is kept at each step, from 0 to below 1: it is mostly of the last
        ``1 / (1 - decay)`` steps.

    Raises
    ------
    TypeError, ValueError
        If decay is no such number.

    Notes
    -----
    The division corrects the bias of an average that begins at zero: weights count in proportion
    to ``decay^(t - i)``, and those from before the fit do not count.  So no warm-up is needed; of
    fits shorter than ``1 / (1 - decay)`` steps it is about the plain mean.  What layers keep of
    batches, as `BatchNorm` does, is averaged too.

    References
    ----------
    Kingma & Ba 2015, Adam: a method for stochastic optimization, section 7.2, Temporal averaging;
    Polyak & Juditsky 1992.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=1)
    >>> history = net.fit([[1.0]], [1.0], optimizer=fn.SGD(0.125), epochs=2, average=fn.EMA(0.5))
    >>> float(net.weights[0][0, 0])  # the mean of 0.25 and 0.375, of which the second counts twice
    0.3333333432674408
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        """Check the field once and store it in its plain form."""
        decay = check_real(self.decay, "decay", low=0.0, high=1.0, high_open=True)
        object.__setattr__(self, "decay", decay)


@understands(words.AVERAGE)
@dataclass(frozen=True, slots=True)
class SWA:
    """Stochastic weight averaging: end a fit with the mean of the weights of its last epochs.

    For ``Sequential.fit(average=...)``.  Training goes on from its own weights, which nobody sees
    once averaging has begun: validation, callbacks such as `EarlyStopping`, and the network after
    the fit have the mean of the weights at the ends of the epochs so far.

    Parameters
    ----------
    start : int or float, default 0.75
        How many epochs go before: a number of epochs, or a part of them, at least 0 and less
        than 1, rounded down.

    Raises
    ------
    TypeError, ValueError
        If start is not as described.

    Notes
    -----
    A learning rate that stays high at the end, as without a schedule, is what averaging is for.

    A part is one of all epochs, those of the fits before included where a fit goes on (``resume``).
    With more of them it begins later; if no earlier than after all that are over, the mean begins
    anew then, as in one fit of so many epochs, and else the fit is refused.  A number of epochs
    stays where it is.

    Source: Izmailov, Podoprikhin, Garipov, Vetrov & Wilson 2018; Polyak & Juditsky 1992.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=1)
    >>> history = net.fit([[1.0]], [1.0], optimizer=fn.SGD(0.125), epochs=4, average=fn.SWA(2))
    >>> net.weights[0]  # the mean of 0.4375 and 0.46875
    array([[0.453125]], dtype=float32)
    """

    start: int | float = 0.75

    def __post_init__(self) -> None:
        """Check the field once and store it in its plain form."""
        start: int | float
        if isinstance(self.start, (float, np.floating)):
            start = check_real(self.start, "start", low=0.0, high=1.0, high_open=True)
        else:
            start = check_integer(self.start, "start", 0)
        object.__setattr__(self, "start", start)

    def before(self, epochs: int, more: bool = False) -> int:
        """Return how many of a fit's epochs go before; there may be more than these."""
        if isinstance(self.start, float):
            return int(self.start * epochs)
        if self.start >= epochs and not more:
            raise ValueError(
                f"average=SWA({self.start}) begins after {self.start} epochs, but the fit has "
                f"{epochs}; give a smaller start, or a part such as 0.75."
            )
        return self.start


Average: TypeAlias = EMA | SWA


@dataclass(frozen=True, slots=True)
class Averaging:
    """How a fit averages its weights.

    Attributes
    ----------
    code : int
        What is averaged: codes.EACH_STEP or codes.EACH_EPOCH.
    decay : float
        How much of the average each step keeps; 0 of a mean over epochs.
    before : int
        Epochs that go before.
    part : float or None
        Of all epochs of the fit, where it is so that these were given.
    """

    code: int
    decay: float = 0.0
    before: int = 0
    part: float | None = None

    def counted(self, epochs: int, steps: int) -> int:
        """Return how many weights are in the average after so many epochs and steps of a fit."""
        return steps if self.code == codes.EACH_STEP else max(0, epochs - self.before)

    def check_beginning(self, there: str, over: int, theirs: str) -> bool:
        """Say whether it may begin elsewhere than that of a fit which goes on.

        A part of more epochs begins later.  If it does so when all that are over are, nothing is in
        it yet, and it is that of one longer fit.

        Parameters
        ----------
        there : str
            What `__str__` gave for the average of that fit.
        over : int
            How many of its epochs are over.
        theirs : str
            What messages call that fit.

        Raises
        ------
        ValueError
            If epochs are in the one average and not in the other.
        """
        if self.part is None or there == str(self) or not there.startswith(_BEGINS):
            return False
        if over <= self.before:
            return True
        least = math.ceil(over / self.part)
        least += int(self.part * least) < over
        begun = there.removeprefix(_BEGINS).partition(" ")[0]
        raise ValueError(
            f"average=SWA({self.part}) begins after {self.before} epochs of this fit, which is "
            f"longer or shorter than {theirs}; there it began after {begun}, {over} are over, and "
            "none can be taken out of a mean or into it. Give as many epochs as make it at least "
            f"{least} in all, for a mean that begins anew, or average=SWA({begun}), for one that "
            "goes on."
        )

    def __str__(self) -> str:
        """Return what tells it from another."""
        if self.code == codes.EACH_STEP:
            return f"EMA(decay={self.decay!r})"
        return f"{_BEGINS}{self.before} epochs"


def check_average(average: object) -> Average | None:
    """Return what was given for a fit's average, or say what one is."""
    if average is None or isinstance(average, (EMA, SWA)):
        return average
    hint = ""
    if isinstance(average, type) and issubclass(average, (EMA, SWA)):
        hint = f" Did you mean fastnn.{average.__name__}()?"
    raise TypeError(
        f"average must be fastnn.EMA(decay=0.999), fastnn.SWA(start=0.75) or None; got "
        f"{describe(average)}.{hint}"
    )


def averaging(average: Average | None, epochs: int, more: bool = False) -> Averaging | None:
    """Return how a fit of so many epochs averages its weights, if it does.

    There may be more epochs, where other fits go on.
    """
    if average is None:
        return None
    if isinstance(average, EMA):
        return Averaging(codes.EACH_STEP, average.decay)
    before, start = average.before(epochs, more), average.start
    part = start if isinstance(start, float) else None
    return Averaging(codes.EACH_EPOCH, before=before, part=part)
