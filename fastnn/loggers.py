"""Callbacks that write what a fit records elsewhere: tables, TensorBoard's files, MLflow's runs.

None of them looks at the weights, so that the engine goes on through epochs, and several epochs
are written at once where they are short.
"""

from __future__ import annotations

import contextlib
import csv
import math
import os
import time
from typing import IO, Any, ClassVar

from fastnn import names, notices
from fastnn.callbacks import Callback, Run

__all__ = ["CSVLogger", "MLflowLogger", "TensorBoardLogger"]

# MLflow takes as many values in one call.
_AT_ONCE = 1000


class CSVLogger(Callback):
    """Write a line per epoch into a table of comma-separated values.

    The columns are ``epoch``, counted from 1, ``seconds`` since the fit began, and everything that
    the history records, each in as many digits as it has.  Lines are written as epochs end, so
    that a fit that dies leaves those before.

    Parameters
    ----------
    path : path-like
        The file.  An existing one is replaced when a fit begins, but that of a fit which is gone
        on with (``resume``) keeps its lines up to the epoch from where it goes on; lines of
        epochs that are repeated are dropped.
    append : bool, default False
        Whether to go on behind what is there.

    Raises
    ------
    TypeError
        If `append` is no bool, or `path` no path.
    OSError
        When a fit begins, if the file cannot be written.
    ValueError
        When a fit begins, if the file to append to has other columns.

    Warns
    -----
    UserWarning
        Once in a fit, if a line cannot be written, as on a full disk; training goes on without
        the lines that follow.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1)], inputs=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "fit.csv"
    ...     history = net.fit([[1.0]], [1.0], epochs=2, callbacks=fn.CSVLogger(path))
    ...     lines = path.read_text().splitlines()
    >>> lines[0], len(lines)
    ('epoch,seconds,loss', 3)
    """

    each_epoch: ClassVar[bool] = False

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path = os.fspath(path)
        self.append = names.check_bool(append, "append")
        self._began = 0.0
        self._file: IO[str] | None = None

    def on_fit_begin(self, run: Run) -> None:
        """Open the file and write the names of the columns.

        Parameters
        ----------
        run : Run
            The fit.

        Raises
        ------
        OSError, ValueError
            If the file cannot be written, or does not go on as it began.
        """
        self._close()
        columns = ["epoch", "seconds", *run.names]
        there, end = _lines_before(self.path, run.epoch)
        if self.append and there and there != columns:
            raise ValueError(
                f"path must be a table of {', '.join(columns)} to append to; got one of "
                f"{', '.join(there)}: {self.path}."
            )
        if end is not None and there == columns:
            os.truncate(self.path, end)
        going_on = bool(there) and (self.append or (end is not None and there == columns))
        mode = "a" if going_on else "w"
        out: IO[str] = open(self.path, mode, newline="", encoding="utf-8")  # noqa: SIM115
        self._file = out
        if not going_on:
            csv.writer(out).writerow(columns)
        self._began = time.perf_counter()

    def on_epoch_end(self, run: Run) -> None:
        """Write the epoch's line.

        Parameters
        ----------
        run : Run
            The fit.
        """
        if self._file is None:
            return
        seconds = time.perf_counter() - self._began
        values = [repr(float(run.logs[name])) for name in run.names]
        try:
            csv.writer(self._file).writerow([run.epoch, f"{seconds:.6f}", *values])
            self._file.flush()
        except OSError as problem:
            notices.warn(f"{self.path} could not be written, and training goes on: {problem}")
            self._close()

    def on_fit_end(self, run: Run) -> None:
        """Close the file.

        Parameters
        ----------
        run : Run
            The fit.
        """
        self._close()

    def _close(self) -> None:
        """Close the file, if it is open."""
        file, self._file = self._file, None
        if file is not None:
            # What a full disk did not take has been told of.
            with contextlib.suppress(OSError):
                file.close()

    def __del__(self) -> None:
        # A fit that fails has no end.
        if getattr(self, "_file", None) is not None:
            self._close()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_file": None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, append={self.append})"


def _lines_before(path: str, epoch: int) -> tuple[list[str], int | None]:
    """Return the names of a table's columns, and where the last line of an epoch ends.

    None where there is no such line, or no epoch before; no names where there is no table.
    """
    if not os.path.isfile(path):
        return [], None
    with open(path, "rb") as file:
        lines = file.readlines()
    columns = next(csv.reader([lines[0].decode("utf-8", "replace")]), []) if lines else []
    # The last line of a process that was killed may be a part of one.
    ends = [
        place
        for place, line in enumerate(lines, 1)
        if line.startswith(b"%d," % epoch) and line.endswith(b"\n")
    ]
    return columns, sum(map(len, lines[: ends[-1]])) if epoch and ends else None


class TensorBoardLogger(Callback):
    """Write curves that TensorBoard shows.

    Values of the training examples are written into ``train``, those of validation examples into
    ``validation`` without ``val_``, so that each pair stands in one picture.  A step is an epoch.

    Parameters
    ----------
    directory : path-like
        Where ``tensorboard --logdir`` will look, or a folder in it for this fit.

    Raises
    ------
    ImportError
        When a fit begins, if ``tensorboard`` is not installed.
    TypeError
        If `directory` is no path.

    Examples
    --------
    >>> import fastnn as fn
    >>> logger = fn.TensorBoardLogger("runs/first")
    """

    each_epoch: ClassVar[bool] = False

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = os.fspath(directory)
        self._writers: dict[str, Any] = {}

    def on_fit_begin(self, run: Run) -> None:
        """Begin a file for each curve's place.

        Parameters
        ----------
        run : Run
            The fit.

        Raises
        ------
        ImportError
            If ``tensorboard`` is not installed.
        """
        try:
            from tensorboard.summary import Writer
        except ImportError as problem:
            raise ImportError(
                "TensorBoardLogger needs tensorboard: python -m pip install tensorboard."
            ) from problem
        self._close()
        places = dict.fromkeys(_place(name)[0] for name in run.names)
        self._writers = {place: Writer(os.path.join(self.directory, place)) for place in places}

    def on_epoch_end(self, run: Run) -> None:
        """Write the epoch's values.

        Parameters
        ----------
        run : Run
            The fit.
        """
        for name in run.names if self._writers else ():
            place, tag = _place(name)
            self._writers[place].add_scalar(tag, run.logs[name], run.epoch)

    def on_fit_end(self, run: Run) -> None:
        """Write what is left.

        Parameters
        ----------
        run : Run
            The fit.
        """
        self._close()

    def _close(self) -> None:
        """Close the files that are open."""
        writers, self._writers = self._writers, {}
        for writer in writers.values():
            writer.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_writers": {}}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.directory!r})"


def _place(name: str) -> tuple[str, str]:
    """Return in which folder a value's curve lies, and its name there."""
    bare = name.removeprefix("val_")
    return ("train" if bare == name else "validation"), bare


class MLflowLogger(Callback):
    """Write values of every epoch, and what was fitted, into a run of MLflow.

    Parameters
    ----------
    run_id : str, optional
        The run to write into.  Left out, it is the active one, else a new one in the active
        experiment, which ends with the fit.
    prefix : str, default ""
        What the names of values and parameters begin with.

    Raises
    ------
    ImportError
        When a fit begins, if ``mlflow`` is not installed.
    TypeError
        If an argument is no string.

    Notes
    -----
    Values are sent at most once per second, and at the end.  One that is not finite is sent as it
    is.

    Examples
    --------
    >>> import fastnn as fn
    >>> logger = fn.MLflowLogger(prefix="mlp.")
    """

    each_epoch: ClassVar[bool] = False

    _client: Any
    _id: Any
    _own: bool
    _waiting: list[tuple[str, float, int, int]]
    _sent: float

    def __init__(self, run_id: str | None = None, prefix: str = "") -> None:
        given: dict[str, Any] = {"run_id": run_id or "", "prefix": prefix}
        for name, value in given.items():
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a string; got {names.describe(value)}.")
        self.run_id = run_id
        self.prefix = prefix
        self._forget()

    def on_fit_begin(self, run: Run) -> None:
        """Find or begin the run, and tell what is fitted.

        Parameters
        ----------
        run : Run
            The fit.

        Raises
        ------
        ImportError
            If ``mlflow`` is not installed.
        """
        try:
            import mlflow
        except ImportError as problem:
            raise ImportError(
                "MLflowLogger needs mlflow: python -m pip install mlflow."
            ) from problem
        self._forget()
        active = mlflow.active_run()
        self._id = self.run_id or (None if active is None else active.info.run_id)
        if self._id is None:
            self._id = mlflow.start_run().info.run_id
            self._own = True
        self._client = mlflow.MlflowClient()
        self._client.log_param(self._id, f"{self.prefix}epochs", run.epochs)
        size = len(run.network.parameters)
        self._client.log_param(self._id, f"{self.prefix}parameters", size)
        self._sent = time.monotonic()

    def on_epoch_end(self, run: Run) -> None:
        """Keep the epoch's values, and send them all if that is a second ago.

        Parameters
        ----------
        run : Run
            The fit.
        """
        stamp = int(time.time() * 1000)
        for name in run.names:
            self._waiting.append((self.prefix + name, run.logs[name], stamp, run.epoch))
        if time.monotonic() - self._sent >= 1.0:
            self._send()

    def on_fit_end(self, run: Run) -> None:
        """Send what is left, and end the run if the fit began it.

        Parameters
        ----------
        run : Run
            The fit.
        """
        if self._client is None:
            return
        self._send()
        if run.history.stopped is not None:
            self._client.set_tag(self._id, f"{self.prefix}stopped", run.history.stopped)
        if self._own:
            import mlflow

            mlflow.end_run()
        self._forget()

    def _send(self) -> None:
        """Send the values that wait."""
        from mlflow.entities import Metric

        waiting, self._waiting = self._waiting, []
        for first in range(0, len(waiting), _AT_ONCE):
            batch = [Metric(*one) for one in waiting[first : first + _AT_ONCE]]
            self._client.log_batch(self._id, metrics=batch)
        self._sent = time.monotonic()

    def _forget(self) -> None:
        """Drop what belongs to a fit."""
        self._client = self._id = None
        self._own, self._sent = False, -math.inf
        self._waiting = []

    def __getstate__(self) -> dict[str, Any]:
        return vars(MLflowLogger(self.run_id, self.prefix))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(run_id={self.run_id!r}, prefix={self.prefix!r})"
