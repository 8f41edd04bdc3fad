"""Errors that have a name of their own, because a program may want to catch just them."""

from __future__ import annotations

from functools import partial
from typing import Any

__all__ = ["DivergenceError", "FitWarning", "ModelFileError"]


class FitWarning(UserWarning):
    """A fit goes on, but is not likely to give what is wanted.

    It is given where features or targets are so far from unit scale that a network hardly learns
    from them, and where examples to validate on have another scale than those to train on.
    ``warnings.simplefilter("ignore", fastnn.FitWarning)`` silences it.

    Examples
    --------
    >>> import warnings
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1)])
    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     _ = net.fit([[1.0], [2.0]], [3e6, 5e6], epochs=1)
    >>> caught[0].category.__name__
    'FitWarning'
    """


class ModelFileError(ValueError):
    """A file is not a readable fastnn model: damaged, cut short, or of another kind.

    The message names the file, what is wrong with it and what was expected.  A file that is
    missing or may not be opened raises the operating system's own error instead.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from fastnn.errors import ModelFileError
    >>> from fastnn.formats import safetensors
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "notes.txt")
    ...     _ = path.write_bytes(b"not a network")
    ...     try:
    ...         safetensors.read(path)
    ...     except ModelFileError as error:
    ...         print(str(error).partition("notes.txt' ")[2])  # doctest: +ELLIPSIS
    is not a readable model: its first 8 bytes must give the length of the header, ...
    """


class DivergenceError(FloatingPointError, ValueError):
    """A fit turned non-finite: a loss, a gradient or a weight became infinite or NaN.

    It is raised at the step where that is found, after the last finite weights were restored.
    The usual causes are a learning rate that is too high and inputs that are not scaled.

    Parameters
    ----------
    message : str
        What happened, where, and what to try.
    epoch : int
        The epoch in which the fit turned non-finite, counted from 1.
    step : int
        The step of that epoch, counted from 1.
    layer : str, optional
        The first layer at fault, by name; None where it is not known.
    history : object, optional
        What the fit had recorded until then.

    Attributes
    ----------
    epoch, step, layer, history
        As given.

    Examples
    --------
    >>> try:  # what a fit with learning_rate=1e6 does
    ...     raise DivergenceError(
    ...         "the loss became NaN in epoch 1, step 4, layer '0'; try a lower learning_rate.",
    ...         epoch=1, step=4, layer="0",
    ...     )
    ... except DivergenceError as error:
    ...     print(error.epoch, error.step, error.layer, error.history)
    1 4 0 None
    """

    def __init__(
        self,
        message: str,
        *,
        epoch: int,
        step: int,
        layer: str | None = None,
        history: Any = None,
    ) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step
        self.layer = layer
        self.history = history

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the keywords, so that the error comes back from a worker process."""
        make = partial(type(self), epoch=self.epoch, step=self.step)
        return make, self.args, self.__dict__
