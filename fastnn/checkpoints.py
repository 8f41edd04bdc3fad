"""A fit's state, written to a file now and then."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Literal, get_args

from fastnn import names, notices
from fastnn.callbacks import Callback, Run
from fastnn.machine.system import file_name

__all__ = ["Checkpoint", "earlier", "newest"]

Unit = Literal["epochs", "seconds"]


def earlier(path: str | os.PathLike[str], place: int) -> str:
    """Return where the file that was written so many times ago is kept."""
    return file_name(path) if not place else f"{file_name(path)}.{place}"


def newest(path: str | os.PathLike[str]) -> str:
    """Return the newest file there is: a process may have been killed while it renamed them."""
    first, second = earlier(path, 0), earlier(path, 1)
    return second if not os.path.exists(first) and os.path.exists(second) else first


class Checkpoint(Callback):
    """Write a fit's whole state to a file now and then, so that another fit can go on from it.

    ``net.fit(..., resume=path)`` with the same arguments goes on to the bits of the fit that was
    never interrupted; `load` reads the network alone.  A file is written under another name and
    then renamed, so that there is a whole one at any time.  One is written at the end of the fit
    too, after Ctrl-C as well.

    Parameters
    ----------
    path : path-like
        The file.
    every : int or float, default 10
        How often, in `unit`: a whole number of epochs, at least 1, or seconds, above 0.
    unit : {"epochs", "seconds"}, default "epochs"
        With "seconds" a file may be written within an epoch.
    keep : int, default 2
        How many files are kept, at least 1: the newest at `path`, the one before at `path` with
        ".1" added, and so on.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    OSError
        At the beginning of a fit, if the folder does not exist, or `path` is one.

    Warns
    -----
    UserWarning
        Once in a fit, if a file cannot be written, as on a full disk; training goes on, and the
        files before it stay.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import fastnn as fn
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 4.0, 9.0]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "state.fastnn"
    ...     kept = fn.Checkpoint(path, every=5)
    ...     net = fn.Sequential([fn.Dense(4, "tanh"), fn.Dense(1)])
    ...     history = net.fit(X, y, epochs=5, callbacks=kept)
    ...     other = fn.Sequential([fn.Dense(4, "tanh"), fn.Dense(1)])
    ...     other.fit(X, y, epochs=8, callbacks=kept, resume=path).epochs
    8
    """

    _due: float
    _warned: bool

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: float = 10,
        unit: Unit = "epochs",
        keep: int = 2,
    ) -> None:
        self.path = file_name(path)
        self.unit: Unit = names.lookup({m: m for m in get_args(Unit)}, unit, "unit")
        if self.unit == "epochs":
            self.every: float = names.check_integer(every, "every", 1)
        else:
            self.every = names.check_real(every, "every", low=0.0, low_open=True)
        self.keep = names.check_integer(keep, "keep", 1)
        self._warned, self._due = False, 0.0

    def on_fit_begin(self, run: Run) -> None:
        """Refuse a folder that does not exist, and one in place of the file.

        Parameters
        ----------
        run : Run
            The fit.
        """
        folder = os.path.dirname(os.path.realpath(self.path))
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"path must be in a folder that exists; got {self.path!r}.")
        if os.path.isdir(self.path):
            # It would be given another name, as the file before.
            raise IsADirectoryError(
                f"path must be the name of a file; got {self.path!r}, which is a folder. Give one "
                f"in it, such as {os.path.join(self.path, 'state.fastnn')!r}."
            )
        self._warned = False
        self._due = time.monotonic() + self.every

    def epochs_to(self, epoch: int) -> int | None:
        """Return how many epochs after one the next file is due; None where time decides."""
        every = int(self.every)
        return None if self.unit == "seconds" else every - epoch % every

    def is_due(self, epoch: int, ended: bool) -> bool:
        """Return whether to write a file now, after so many epochs, the last of which has ended."""
        if self.unit == "seconds":
            return time.monotonic() >= self._due
        return ended and epoch > 0 and epoch % int(self.every) == 0

    def write(self, save: Callable[[str], None]) -> None:
        """Let a function write a file, and give it the newest one's name; training calls this.

        Parameters
        ----------
        save : callable
            Writes a file whose name it is given.
        """
        fresh = f"{self.path}.new"
        try:
            save(fresh)
            for place in range(self.keep - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(earlier(self.path, place - 1), earlier(self.path, place))
            os.replace(fresh, self.path)
        except OSError as problem:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            if not self._warned:
                self._warned = True
                notices.warn(f"{self.path} could not be written, and training goes on: {problem}")
        self._due = time.monotonic() + self.every

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.path!r}, every={self.every}, unit={self.unit!r}, "
            f"keep={self.keep})"
        )
