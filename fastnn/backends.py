"""Which path computes: native kernels, or the textbook in NumPy."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

from fastnn.names import lookup

__all__ = ["BACKENDS", "backend", "in_force", "natively"]

BACKENDS: Final = {name: name for name in ("native", "reference")}

# Read once: an answer for one row takes less time than a look into the environment.
_asked = os.environ.get("FASTNN_BACKEND") or "native"

_chosen: ContextVar[str | None] = ContextVar("fastnn_backend", default=None)


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """Choose the path that computes, within a ``with`` block.

    Parameters
    ----------
    name : {"native", "reference"}
        Compiled kernels, or the textbook's equations in plain NumPy: slower, and readable.

    Raises
    ------
    TypeError, ValueError
        If there is no such path.

    Notes
    -----
    A call's own ``backend=`` comes first, then the innermost ``with``, then the environment's
    ``FASTNN_BACKEND`` as it was when fastnn was imported, then "native".  The choice holds for
    the present thread or task only.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1)], inputs=2)
    >>> with fn.backend("reference"):
    ...     net.predict([[1.0, 2.0]]).shape
    (1, 1)
    """
    token = _chosen.set(lookup(BACKENDS, name, "backend"))
    try:
        yield
    finally:
        _chosen.reset(token)


def in_force(asked: str | None = None) -> str:
    """Return the path that a call shall take, given its own ``backend=``."""
    if asked is not None:
        return lookup(BACKENDS, asked, "backend")
    chosen = _chosen.get() or _asked
    return chosen if chosen in BACKENDS else lookup(BACKENDS, chosen, "FASTNN_BACKEND")


def natively() -> bool:
    """Tell, as quickly as can be, whether a call that does not say it takes the native path.

    Returns
    -------
    bool
        False for all else, a name that is none included, of which `in_force` tells more.

    Examples
    --------
    >>> with backend("reference"):
    ...     natively()
    False
    """
    return (_chosen.get() or _asked) == "native"
