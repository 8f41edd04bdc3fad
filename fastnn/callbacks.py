"""What runs between a fit's epochs: the hooks, what they see, and early stopping.

This file is long because early stopping has two ways to the same end: as a callback that looks at
every epoch, and behind the engine that has looked at many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from fastnn import metrics, names, words
from fastnn.fitting.tallies import Watch
from fastnn.hints import arguments_wanted, check_hooks, understands
from fastnn.history import History

__all__ = [
    "Callback", "CallbackLike", "EarlyStopping", "Mode", "Run", "as_callbacks", "check_mode",
    "check_monitor", "sign_of",
]  # fmt: skip

Mode: TypeAlias = Literal["auto", "min", "max"]


class Trainable(Protocol):
    """Anything whose parameters lie in one flat, writable vector."""

    @property
    def parameters(self) -> NDArray[np.floating[Any]]:
        """All weights and biases, ``(count,)``."""
        ...

    @parameters.setter
    def parameters(self, values: NDArray[np.floating[Any]]) -> None: ...

    @property
    def _everything(self) -> NDArray[np.floating[Any]]:
        """All parameters, and the buffers behind them."""

    @_everything.setter
    def _everything(self, values: NDArray[np.floating[Any]]) -> None: ...

    def _write(self, path: str, parameters: NDArray[np.floating[Any]], state: Any) -> None:
        """Write a file with other parameters in their place, and with a fit's state."""


class Run(Protocol):
    """A fit in progress, as callbacks see it."""

    @property
    def network(self) -> Trainable:
        """The network being trained.

        Its ``parameters`` are up to date when a hook runs, and training goes on from what a hook
        writes into them.
        """
        ...

    @property
    def epoch(self) -> int:
        """How many epochs are finished: 1 in the first call of `Callback.on_epoch_end`."""
        ...

    @property
    def epochs(self) -> int:
        """How many epochs were asked for."""
        ...

    @property
    def history(self) -> History:
        """What was recorded so far, this epoch included."""
        ...

    @property
    def logs(self) -> Mapping[str, float]:
        """The values of this epoch; empty before the first."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """What `logs` will hold, known from the beginning."""
        ...

    def stop(self, reason: str) -> None:
        """End the fit after this epoch; `reason` becomes ``history.stopped``."""
        ...


@understands({}, words.CALLBACK)
class Callback:
    """Base of what is given to ``fit`` in ``callbacks``: override the hooks you need.

    A plain function of one argument will do where only the end of an epoch matters: it is called
    with the run there.

    Attributes
    ----------
    each_epoch : bool
        Whether `on_epoch_end` must run before the next epoch begins, as it must where it reads or
        writes the weights: true.  A class may say false: then the engine goes on through epochs,
        which takes a small part of the time where they are short, and the hook runs for several
        epochs, one after the other, when they have ended.  It must not look at the weights then,
        which may be those of any epoch, and a stop comes after the last of these epochs.

    Examples
    --------
    >>> class StopWhenGood(Callback):
    ...     def on_epoch_end(self, run):
    ...         if run.logs["loss"] < 0.01:
    ...             run.stop("good enough")
    """

    each_epoch: ClassVar[bool] = True

    def on_fit_begin(self, run: Run) -> None:
        """Run once before the first epoch; does nothing here.

        Parameters
        ----------
        run : Run
            The fit; ``run.names`` is known, ``run.logs`` is empty.
        """

    def on_epoch_end(self, run: Run) -> None:
        """Run after every epoch; does nothing here.

        Parameters
        ----------
        run : Run
            The fit, with this epoch's ``logs``, already in ``history``.
        """

    def on_fit_end(self, run: Run) -> None:
        """Run once at the end, after an interruption too; does nothing here.

        Parameters
        ----------
        run : Run
            The fit, as the last epoch left it.
        """

    def get_state(self) -> dict[str, Any]:
        """Return what this callback knows of the fit, for one that goes on; nothing here.

        Returns
        -------
        dict
            Of numbers, texts, lists and arrays by name, which files can hold.
        """
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `get_state` returned, after `on_fit_begin`; does nothing here.

        Parameters
        ----------
        state : mapping
            From a file, it may be anything that files can hold.
        """


@understands(words.STOPPING)
class EarlyStopping(Callback):
    """Stop a fit that no longer gets better, and go back to the best weights.

    The fit ends when the monitored value has not improved by more than `min_delta` for `patience`
    epochs in a row. The best epoch is the one with the very best value (the first of equals), by
    however little it is better; NaN is never better than anything.

    Parameters
    ----------
    monitor : str, default "val_loss"
        The value to watch, a key of the history.
    patience : int, default 10
        How many epochs in a row without improvement end the fit; at least 1.
    min_delta : float, default 0.0
        By more than how much a value must be better than the last improvement to count as one;
        at least 0, in the monitored value's unit.
    mode : {"auto", "min", "max"}, default "auto"
        Which way is better. "auto" knows: smaller for the loss and the errors, greater for
        accuracy and r2. A metric of your own needs "min" or "max".
    restore_best : bool, default True
        Whether the fit ends with the weights of the best epoch, also when it ran to its end or
        was interrupted; else with those of the last. The copy of the best weights is kept only
        while the fit runs.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described; at the beginning of a fit, if `monitor` is not among
        what the fit records, or `mode` is "auto" and the metric is not one of the library's.

    Notes
    -----
    ``history.best_epoch`` is set when the fit ends. One object may serve one fit after another,
    each from anew, but not two at a time.

    The method is algorithm 7.1 of Goodfellow, Bengio & Courville 2016, Deep Learning, section
    7.8, with an evaluation after every epoch.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.EarlyStopping("val_accuracy", patience=5)
    EarlyStopping(monitor='val_accuracy', patience=5, min_delta=0.0, mode='auto', restore_best=True)
    """

    # Values of a fit: both are times the sign, so that smaller is always better.
    _best: float
    _to_beat: float
    _best_epoch: int | None
    _best_parameters: NDArray[np.floating[Any]] | None

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: Mode = "auto",
        restore_best: bool = True,
    ) -> None:
        self.monitor = check_monitor(monitor)
        self.patience = names.check_integer(patience, "patience", 1)
        self.min_delta = names.check_real(min_delta, "min_delta", low=0)
        self.mode = check_mode(mode)
        self.restore_best = names.check_bool(restore_best, "restore_best")
        self._forget()

    def on_fit_begin(self, run: Run) -> None:
        """Start from anew, and refuse to watch what is not recorded.

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
        self._forget()
        self._sign = sign_of(self.monitor, self.mode, run.names)

    def on_epoch_end(self, run: Run) -> None:
        """Compare this epoch with those before; keep the weights or stop the fit.

        Parameters
        ----------
        run : Run
            The fit.
        """
        before = self._best_epoch
        stopping = self._judge(run.epoch, run.logs[self.monitor])
        if self.restore_best and self._best_epoch != before:
            self._keep(run.network._everything)
        if stopping:
            run.stop("early stopping")

    def on_fit_end(self, run: Run) -> None:
        """Write the best epoch into the history and its weights into the network.

        Parameters
        ----------
        run : Run
            The fit.
        """
        if self._best_epoch is not None:
            run.history.best_epoch = self._best_epoch
        if self._best_parameters is not None:
            run.network._everything = self._best_parameters
            self._best_parameters = None

    def get_state(self) -> dict[str, Any]:
        """Return what was seen so far, the best weights included.

        Returns
        -------
        dict
            Sharing memory with this.
        """
        return {
            "best": self._best,
            "to_beat": self._to_beat,
            "waited": self._waited,
            "best_epoch": self._best_epoch,
            "best_parameters": self._best_parameters,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `get_state` returned.

        Parameters
        ----------
        state : mapping
            It is left as it is.

        Raises
        ------
        TypeError, ValueError
            If it is no such state.
        """
        found, expected = set(state), set(self.get_state())
        if found != expected:
            raise ValueError(f"a state must have {sorted(expected)}; got {sorted(found)}.")
        best, to_beat = state["best"], state["to_beat"]
        if not isinstance(best, float) or not isinstance(to_beat, float):
            raise TypeError("best and to_beat must be floats.")
        self._best, self._to_beat = best, to_beat
        self._waited = names.check_integer(state["waited"], "waited", 0)
        epoch, parameters = state["best_epoch"], state["best_parameters"]
        self._best_epoch = None if epoch is None else names.check_integer(epoch, "best_epoch", 1)
        if parameters is not None and not isinstance(parameters, np.ndarray):
            raise TypeError("best_parameters must be an array or None.")
        # It is written into.
        self._best_parameters = None if parameters is None else parameters.copy()

    def watch(self) -> Watch:
        """Return what the engine shall watch, once a fit has begun; training calls this."""
        keep = self.restore_best
        return Watch(self.monitor, self._sign, float(self.patience), self.min_delta, keep)

    def follow(self, run: Run, epoch: int, values: Iterable[float]) -> None:
        """Take note of epochs that the engine watched, from behind one on; training calls this."""
        for value in values:
            epoch += 1
            if self._judge(epoch, value):
                run.stop("early stopping")

    def take_best(self, parameters: NDArray[np.floating[Any]]) -> None:
        """Take over the weights of the best epoch that the engine kept; training calls this."""
        if self.restore_best and self._best_epoch is not None:
            self._best_parameters = parameters

    def _judge(self, epoch: int, value: float) -> bool:
        """Take note of an epoch's value; return whether the fit shall end.

        `kernels.measures` does the same.
        """
        value *= self._sign
        if value < self._best:
            self._best = value
            self._best_epoch = epoch
        if value < self._to_beat - self.min_delta:
            self._to_beat = value
            self._waited = 0
            return False
        self._waited += 1
        return self._waited >= self.patience

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(monitor={self.monitor!r}, patience={self.patience}, "
            f"min_delta={self.min_delta}, mode={self.mode!r}, restore_best={self.restore_best})"
        )

    def _forget(self) -> None:
        """Drop whatever an earlier fit left here."""
        self._sign = 1.0
        self._best = math.inf
        self._to_beat = math.inf
        self._waited = 0
        self._best_epoch = None
        self._best_parameters = None

    def _keep(self, parameters: NDArray[np.floating[Any]]) -> None:
        """Copy the weights, into the same memory every time."""
        if self._best_parameters is None:
            self._best_parameters = parameters.copy()
        else:
            self._best_parameters[...] = parameters


def check_monitor(monitor: object) -> str:
    """Return what is to be watched, or refuse what is no key of a history."""
    if not isinstance(monitor, str):
        raise TypeError(
            "monitor must be a string, a key of the history such as 'val_loss'; "
            f"got {names.describe(monitor)}."
        )
    return monitor


def check_mode(mode: object) -> Mode:
    """Return which way is better, or say which ways there are."""
    ways: dict[str, Mode] = {way: way for way in get_args(Mode)}
    return names.lookup(ways, mode, "mode")


def sign_of(monitor: str, mode: Mode, recorded: tuple[str, ...]) -> float:
    """Return by what a monitored value is multiplied, so that smaller is better.

    Parameters
    ----------
    monitor : str
        A key of the history.
    mode : {"auto", "min", "max"}
        Which way is better; "auto" goes by the name.
    recorded : tuple of str
        The keys that there are.

    Raises
    ------
    ValueError
        If the value is not recorded, or the way is not known by its name.
    """
    if monitor not in recorded:
        raise ValueError(_missing(monitor, recorded))
    if mode != "auto":
        return -1.0 if mode == "max" else 1.0
    known = metrics.greater_is_better(monitor)
    if known is None:
        raise ValueError(
            f"mode must be 'min' or 'max' to monitor {monitor!r}, a metric of which it is "
            "not known which way is better; got 'auto'."
        )
    return -1.0 if known else 1.0


CallbackLike: TypeAlias = Callback | Callable[[Run], object]


@dataclass(frozen=True)
class _AtEpochEnd(Callback):
    """A plain function, called with the run at the end of each epoch."""

    function: Callable[[Run], object]

    def on_epoch_end(self, run: Run) -> None:
        """Call the function."""
        self.function(run)


def as_callbacks(callbacks: CallbackLike | Iterable[CallbackLike]) -> tuple[Callback, ...]:
    """Take what was given to ``fit`` as a tuple of callbacks.

    Parameters
    ----------
    callbacks : Callback, callable, or iterable of them
        A callable is called with the run at the end of each epoch; what it returns is ignored.

    Returns
    -------
    tuple of Callback
        In the order given.

    Raises
    ------
    TypeError
        If there is anything else among them, a class instead of an object included.

    Examples
    --------
    >>> losses = []
    >>> as_callbacks([EarlyStopping(patience=3), lambda run: losses.append(run.logs["loss"])])[0]
    EarlyStopping(monitor='val_loss', patience=3, min_delta=0.0, mode='auto', restore_best=True)
    """
    if isinstance(callbacks, (str, bytes, Mapping)) or not names.several(callbacks):
        return (_as_callback(callbacks),)
    return tuple(_as_callback(one) for one in callbacks)


def _as_callback(one: object) -> Callback:
    """Take one element of the callbacks."""
    if isinstance(one, Callback):
        if type(one) not in (Callback, EarlyStopping, _AtEpochEnd):
            check_hooks(one, _HOOKS, words.HOOKS)
        return one
    hooks = ("on_epoch_end", *words.HOOKS)
    if not isinstance(one, type) and any(callable(getattr(one, hook, None)) for hook in hooks):
        raise TypeError(
            "callbacks must be a Callback of this library, a function of one argument (the run), "
            f"or several of them; got {names.describe(one)}, whose hooks are called otherwise. "
            "Derive from fastnn.Callback: on_epoch_end(self, run), with run.epoch, run.logs, "
            "run.network and run.stop(reason)."
        )
    if callable(one) and not isinstance(one, type):
        wanted = arguments_wanted(one, 1)
        if wanted is not None:
            name = getattr(one, "__name__", type(one).__name__)
            raise TypeError(
                "callbacks must be functions of one argument, the run, which has epoch, logs and "
                f"network; got {name}{wanted}."
            )
        return _AtEpochEnd(one)
    if isinstance(one, type):
        came = f"the class {one.__name__}. Did you mean {one.__name__}(...), an object of it?"
    else:
        came = f"{names.describe(one)}."
    raise TypeError(
        "callbacks must be a Callback, a function of one argument (the run), or several of them; "
        f"got {came}"
    )


_HOOKS = ("on_fit_begin", "on_epoch_end", "on_fit_end")


def _missing(monitor: str, recorded: tuple[str, ...]) -> str:
    """Say that a value is not recorded, what is, and what would get it recorded."""
    message = f"monitor must be one of {', '.join(map(repr, recorded))}; got {monitor!r}."
    bare = {name for row in metrics.METRICS.values() for name in (row.name, *row.aliases)}
    bare |= {name.removeprefix("val_") for name in recorded}
    possible = sorted(bare | {f"val_{name}" for name in bare})
    near: str | None = monitor
    if monitor not in possible:
        near = names.nearest(monitor, possible)
        message += "" if near is None else f" Did you mean {near!r}?"
    right = monitor if near is None else near
    wanted = []
    metric = right.removeprefix("val_")
    if near is not None and metric not in recorded:
        wanted.append(f"metrics=[{metric!r}]")
    if right.startswith("val_") and not any(name.startswith("val_") for name in recorded):
        wanted.append("validation data (validation_data=(X, y) or validation_fraction=0.1)")
    if wanted:
        message += f" To have it, give fit {' and '.join(wanted)}."
    return message
