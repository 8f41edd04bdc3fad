"""Warnings that point at the user's line, however many calls lie between it and their cause."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

__all__ = ["warn"]

# Packages whose calls lie between a user's line and a warning: this one, and those that call or
# load it.
_BETWEEN = frozenset({"fastnn", "importlib", "joblib", "numba", "sklearn", "scipy"})


def warn(message: str, category: type[Warning] = UserWarning, module: str | None = None) -> None:
    """Warn at the innermost line that belongs to neither this package nor one that calls it.

    Parameters
    ----------
    message : str
        What is said.
    category : type of Warning, default UserWarning
        Of what kind it is.
    module : str, optional
        The module that filters see in place of the user's, as
        ``warnings.filterwarnings("ignore", module="sklearn")`` does.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as heard:
    ...     warnings.simplefilter("always")
    ...     warn("so it is", UserWarning)
    >>> str(heard[0].message)
    'so it is'
    """
    frame = _user_frame(sys._getframe(1))
    variables = frame.f_globals
    warnings.warn_explicit(
        message,
        category,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=module or variables.get("__name__") or "<unknown>",
        registry=variables.setdefault("__warningregistry__", {}),
    )


def _user_frame(frame: FrameType) -> FrameType:
    """Return the innermost frame of neither package, or the given one where there is none."""
    outer: FrameType | None = frame
    while outer is not None and _between(outer):
        outer = outer.f_back
    return frame if outer is None else outer


def _between(frame: FrameType) -> bool:
    """Tell whether a frame is of a package that a user's line calls."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _BETWEEN
