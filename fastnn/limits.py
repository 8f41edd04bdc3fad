"""Callbacks that end a fit: at a value that is good enough, or when its time is up."""

from __future__ import annotations

import math
import time
from typing import ClassVar

from fastnn import names, words
from fastnn.callbacks import Callback, Mode, Run, check_mode, check_monitor, sign_of
from fastnn.hints import understands

__all__ = ["TargetLoss", "TimeLimit"]


@understands(words.STOPPING)
class TargetLoss(Callback):
    """Stop a fit when a value is good enough.

    Parameters
    ----------
    value : float
        Where to stop: at this or anything better.
    monitor : str, default "loss"
        The value to watch, a key of the history.
    mode : {"auto", "min", "max"}, default "auto"
        Which way is better, as for `EarlyStopping`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described; at the beginning of a fit, if `monitor` is not among
        what the fit records, or `mode` is "auto" and the metric is not one of the library's.

    Notes
    -----
    The history's ``stopped`` says "target reached".

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1)], inputs=1, rng=0)
    >>> enough = fn.TargetLoss(0.01)
    >>> history = net.fit(
    ...     [[1.0], [2.0]], [1.0, 2.0], optimizer=fn.Adam(0.01), epochs=5000, callbacks=enough
    ... )
    >>> history["loss"][-1] <= 0.01, history.stopped, history.epochs < 5000
    (True, 'target reached', True)
    """

    def __init__(self, value: float, monitor: str = "loss", mode: Mode = "auto") -> None:
        self.value = names.check_real(value, "value")
        self.monitor = check_monitor(monitor)
        self.mode = check_mode(mode)
        self._sign = 1.0

    def on_fit_begin(self, run: Run) -> None:
        """Refuse to watch what is not recorded.

        Parameters
        ----------
        run : Run
            The fit.

        Raises
        ------
        ValueError
            If `monitor` is not in ``run.names``, or `mode` is "auto" and the metric is not one of
            the library's.
        """
        self._sign = sign_of(self.monitor, self.mode, run.names)

    def on_epoch_end(self, run: Run) -> None:
        """Stop the fit where the value is reached.

        Parameters
        ----------
        run : Run
            The fit.
        """
        if self._sign * run.logs[self.monitor] <= self._sign * self.value:
            run.stop("target reached")

    def __repr__(self) -> str:
        return f"TargetLoss({self.value!r}, monitor={self.monitor!r}, mode={self.mode!r})"


@understands(words.STOPPING)
class TimeLimit(Callback):
    """Stop a fit when it has taken so long.

    Parameters
    ----------
    seconds : float
        From the fit's beginning on, above 0.

    Raises
    ------
    TypeError, ValueError
        If `seconds` is no such number.

    Notes
    -----
    The fit ends with the first epoch that ends later, or, where epochs are shorter than that, up
    to a tenth of a second later with an epoch.  The history's ``stopped`` says "time limit".

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1)], inputs=1)
    >>> net.fit([[1.0]], [1.0], epochs=10**6, callbacks=fn.TimeLimit(0.1)).stopped
    'time limit'
    """

    each_epoch: ClassVar[bool] = False

    def __init__(self, seconds: float) -> None:
        self.seconds = names.check_real(seconds, "seconds", low=0.0, low_open=True)
        self._end = math.inf

    def on_fit_begin(self, run: Run) -> None:
        """Look at the clock.

        Parameters
        ----------
        run : Run
            The fit.
        """
        self._end = time.monotonic() + self.seconds

    def on_epoch_end(self, run: Run) -> None:
        """Stop the fit if the time is up.

        Parameters
        ----------
        run : Run
            The fit.
        """
        if time.monotonic() >= self._end:
            run.stop("time limit")

    def __repr__(self) -> str:
        return f"TimeLimit({self.seconds!r})"
