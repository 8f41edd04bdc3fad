"""The progress line of a fit.

On a terminal and in a notebook it is one line that is rewritten; elsewhere, where it was requested,
plain lines for a log. It goes to stderr, and if the stream fails, the fit continues without it.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TextIO

from fastnn.names import describe

__all__ = ["Progress", "format_seconds"]

_LIVE_INTERVAL = 0.1
_PLAIN_INTERVAL = 0.5

_WIDE_BAR = 20
_NARROW_BAR = 6
# Done, a half cell, to come: heavy and light lines, or what every encoding has.
_LINES = ("━", "╸", "─")
_ASCII = ("=", "-", ".")

# What is dropped where the line is too long for its terminal, in this order.
_STAGES = range(1, 10)
_SPEED, _WIDE, _TRAINING_TWINS, _PERCENT, _WORD, _BAR, _METRICS, _LEFT, _VAL_LOSS = _STAGES


class Progress:
    """Show epoch, losses, metrics, speed and time left while a fit runs.

    Parameters
    ----------
    mode : {"auto", True, False}
        "auto" shows only at a terminal or in a notebook, True always, False never.
    epochs : int
        How many epochs were asked for, at least 1.
    names : iterable of str
        The keys of the logs, in the order of the history.
    stream : text file, optional
        Where to write. The default is ``sys.stderr`` as it is now; without one nothing is shown.
    clock : callable, default ``time.monotonic``
        Gives the time in seconds.

    Attributes
    ----------
    shown : bool
        False where nothing will be written, so that nothing need be computed for it.

    Raises
    ------
    ValueError
        If `mode` is anything else.

    Examples
    --------
    >>> progress = Progress(True, epochs=2, names=["loss"], stream=sys.stdout, clock=lambda: 0.0)
    >>> progress.epoch_end(1, {"loss": 0.5})
    epoch 1/2  50%  loss 0.5000
    >>> progress.epoch_end(2, {"loss": 0.25})
    >>> progress.close()
    epoch 2/2 100%  loss 0.2500
    2 epochs in 0 s
    """

    def __init__(
        self,
        mode: Literal["auto"] | bool,
        epochs: int,
        names: Iterable[str],
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        wanted = _checked(mode)
        # The interpreter has no stderr where it runs without a console.
        self._stream: TextIO | None = sys.stderr if stream is None else stream
        self._live = self._stream is not None and (_is_terminal(self._stream) or _in_notebook())
        self.shown = self._stream is not None and (self._live if wanted is None else wanted)
        self._epochs = epochs
        self._order = _in_display_order(names)
        self._clock = clock
        self._began = clock()
        self._next = -math.inf
        self._finished = 0
        self._position = 0.0
        self._logs: Mapping[str, float] = {}
        self._base: tuple[float, float] | None = None
        self._cells = _LINES if _can_write("".join(_LINES), self._stream) else _ASCII
        self._room = 0
        self._dropped = 0
        self._length = 0
        self._last_plain = 0
        self._closed = False

    def update(self, epoch_fraction: float, logs: Mapping[str, float]) -> None:
        """Say how far the running epoch is; cheap, since most calls return at once.

        Parameters
        ----------
        epoch_fraction : float
            The share of the epoch that is done, 0 to 1.
        logs : mapping of str to float
            What is known by now, such as the epoch's loss so far; for the rest, what the epoch
            before gave stays on show.
        """
        if not (self.shown and self._live):
            return
        now = self._clock()
        if now < self._next:
            return
        self._position = self._finished + epoch_fraction
        self._logs = {**self._logs, **logs}
        self._draw(now)

    def epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Say that an epoch is finished.

        Parameters
        ----------
        epoch : int
            The epoch, counted from 1.
        logs : mapping of str to float
            Its values.
        """
        if not self.shown:
            return
        self._finished = epoch
        self._position = float(epoch)
        self._logs = logs
        now = self._clock()
        if now >= self._next:
            if self._live:
                self._draw(now)
            else:
                self._print(now)

    def close(self, reason: str | None = None) -> None:
        """Finish with a line that says how long it took; further calls do nothing.

        Parameters
        ----------
        reason : str, optional
            Why the fit ended early; None where it ran to its end.
        """
        if self._closed or not self.shown:
            return
        self._closed = True
        now = self._clock()
        if self._live and (self._finished or self._length):
            self._draw(now, last=True)
        elif not self._live and self._last_plain < self._finished:
            self._print(now)
        took = format_seconds(now - self._began)
        if self._finished == self._epochs:
            end = f"{_counted(self._epochs)} in {took}"
        else:
            end = f"stopped after {self._finished} of {_counted(self._epochs)}, {took}"
        if reason is not None:
            end += f": {reason}"
        line_break = "\n" if self._length else ""
        self._write(f"{line_break}{end}\n")

    def _draw(self, now: float, last: bool = False) -> None:
        """Write the live line over the one before."""
        self._next = now + _LIVE_INTERVAL
        rate = self._rate(now)
        # The last column stays free: some terminals break the line when it is filled.
        room = _columns(self._stream) - 1
        if room != self._room:
            self._room, self._dropped = room, 0
        line = self._compose(rate, self._dropped, last)
        # What was dropped once stays away, so that the line does not flicker when a number grows.
        while len(line) > room and self._dropped < _STAGES[-1]:
            self._dropped += 1
            line = self._compose(rate, self._dropped, last)
        line = line[:room]
        self._write("\r" + line.ljust(min(self._length, room)))
        self._length = len(line)

    def _print(self, now: float) -> None:
        """Write a line of a log."""
        self._next = now + _PLAIN_INTERVAL
        self._last_plain = self._finished
        last = self._finished == self._epochs
        self._write(self._compose(self._rate(now), 0, last) + "\n")

    def _compose(self, rate: float | None, dropped: int, last: bool) -> str:
        """Put the line together, without what has been dropped."""
        epoch = min(max(math.ceil(self._position), 1), self._epochs)
        head = "epoch " if dropped < _WORD else ""
        head += f"{epoch:>{len(str(self._epochs))}}/{self._epochs}"
        if self._live and dropped < _BAR:
            head += " " + self._bar(_WIDE_BAR if dropped < _WIDE else _NARROW_BAR)
        if dropped < _PERCENT:
            head += f" {self._done(100):>3}%"
        parts = [head]
        for name in self._order:
            if name in self._logs and dropped < self._rank(name):
                parts.append(f"{name} {_value(self._logs[name])}")
        if rate is not None:
            if dropped < _SPEED:
                parts.append(_speed(rate))
            if dropped < _LEFT and not last:
                parts.append(_left((self._epochs - self._position) / rate))
        return "  ".join(parts)

    def _rank(self, name: str) -> int:
        """Say at which stage of dropping a value goes; the loss never does."""
        if name == "loss":
            return _STAGES.stop
        if name == "val_loss":
            return _VAL_LOSS
        return _TRAINING_TWINS if f"val_{name}" in self._order else _METRICS

    def _done(self, parts: int) -> int:
        """Count how many parts of the fit are done, rounded down."""
        return min(math.floor(parts * self._position / self._epochs), parts)

    def _bar(self, cells: int) -> str:
        """Draw a bar to half a cell."""
        full, half, empty = self._cells
        halves = self._done(2 * cells)
        return (full * (halves // 2) + half * (halves % 2)).ljust(cells, empty)

    def _rate(self, now: float) -> float | None:
        """Return epochs per second; None before there are two times to compare.

        It counts from the first line shown and not from the beginning, which may include a
        compilation.
        """
        if self._base is None:
            self._base = (now, self._position)
            return None
        seconds, done = now - self._base[0], self._position - self._base[1]
        return done / seconds if seconds > 0.0 and done > 0.0 else None

    def _write(self, text: str) -> None:
        """Write at once; a stream that fails is not used again."""
        if self._stream is None or not self.shown:
            return
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(text.encode("ascii", "replace").decode("ascii"))
            self._stream.flush()
        except Exception:  # a fit must not fail because a pipe was closed or a notebook is gone
            self.shown = False


def format_seconds(s: float) -> str:
    """Write a duration as it is read aloud.

    Parameters
    ----------
    s : float
        Seconds; below 0 counts as 0.

    Returns
    -------
    str
        With one or two units: ms, s, min, h, d.

    Examples
    --------
    >>> [format_seconds(s) for s in (0.0123, 1.26, 42, 200, 3600, 9000, 200_000)]
    ['12 ms', '1.3 s', '42 s', '3 min 20 s', '1 h', '2 h 30 min', '2 d 8 h']
    """
    if not math.isfinite(s):
        return "an unknown time"
    if round(s, 3) <= 0.0:
        return "0 s"
    if s < 0.0995:
        return f"{1000 * s:.0f} ms"
    if s < 9.95:
        return f"{s:.1f} s"
    if round(s) < 60:
        return f"{round(s)} s"
    if round(s) < 3600:
        return _two_units(round(s), 60, "min", "s")
    if round(s / 60) < 24 * 60:
        return _two_units(round(s / 60), 60, "h", "min")
    return _two_units(round(s / 3600), 24, "d", "h")


def _checked(mode: object) -> bool | None:
    """Take True or False as it is and "auto" as None."""
    if isinstance(mode, bool):
        return mode
    if isinstance(mode, str) and mode == "auto":
        return None
    raise ValueError(f"progress must be 'auto', True or False; got {describe(mode)}.")


def _two_units(amount: int, ratio: int, large: str, small: str) -> str:
    """Split an amount of the smaller unit, leaving out a zero."""
    whole, rest = divmod(amount, ratio)
    return f"{whole} {large}" + (f" {rest} {small}" if rest else "")


def _left(seconds: float) -> str:
    """Write the time left, no finer than it can be known."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s left"
    return f"{format_seconds(60.0 * round(seconds / 60.0))} left"


def _speed(rate: float) -> str:
    """Write a rate as epochs per second or as time per epoch, whichever is above one."""
    if rate < 1.0:
        return f"{format_seconds(1.0 / rate)}/epoch"
    return f"{rate:.1f} epochs/s" if rate < 10.0 else f"{rate:.0f} epochs/s"


def _value(value: float) -> str:
    """Write a value with four digits, zeros too, so that the line does not jump."""
    if value != 0.0 and not 1e-3 <= abs(value) < 9999.5:
        return f"{value:.2e}" if math.isfinite(value) else f"{value:>6}"
    return f"{value:#.4g}".rstrip(".")


def _counted(epochs: int) -> str:
    """Write a number of epochs."""
    return "1 epoch" if epochs == 1 else f"{epochs} epochs"


def _in_display_order(names: Iterable[str]) -> tuple[str, ...]:
    """Put both losses first, then each metric next to its validation value."""
    given = tuple(names)
    metrics = dict.fromkeys(name.removeprefix("val_") for name in ("loss", *given))
    wanted = (twin for name in metrics for twin in (name, f"val_{name}"))
    return tuple(name for name in wanted if name in given)


def _is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal."""
    try:
        return bool(stream.isatty())
    except Exception:  # a closed or custom stream may raise anything
        return False


def _in_notebook() -> bool:
    """Tell whether a Jupyter kernel runs this, without importing anything."""
    try:
        shell = sys.modules["IPython"].get_ipython()
        return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)
    except (KeyError, AttributeError):
        return False


def _can_write(text: str, stream: TextIO | None) -> bool:
    """Tell whether a stream's encoding has these characters; one without encoding takes all."""
    encoding = getattr(stream, "encoding", None)
    if not isinstance(encoding, str):
        return True
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _columns(stream: TextIO | None) -> int:
    """Give the width of the terminal, asking the stream itself where stdout is redirected."""
    width = 80
    if stream is not None:
        # Not every stream is a terminal, or has a file behind it.
        with contextlib.suppress(Exception):
            width = os.get_terminal_size(stream.fileno()).columns or width
    return max(shutil.get_terminal_size(fallback=(width, 24)).columns, 2)
