"""Threads of other libraries' products: one, while a search asks for many short ones."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]

_lock = threading.Lock()
_searches = 0
_limit: Any = None


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit every BLAS library of the process to one thread.

    SciPy's L-BFGS-B multiplies matrices of a few columns.  More threads gain nothing there, and
    after each product they look for work for milliseconds, on the cores that this library's own
    threads need.

    Where the limit is the process's own, searches in several threads find each other's: each puts
    back what the first one of them found.  (Some builds of OpenBLAS heed the main thread alone.)
    """
    _enter()
    try:
        yield
    finally:
        _leave()


@functools.cache
def _libraries() -> Any:
    """Look for the libraries that this process has loaded, once, as that takes 15 ms."""
    return ThreadpoolController()


def _enter() -> None:
    """Count a search, and limit; the first one remembers what was there."""
    global _searches, _limit
    with _lock:
        limit = _libraries().limit(limits=1, user_api="blas")
        if not _searches:
            _limit = limit
        _searches += 1


def _leave() -> None:
    """Count a search out, and lift the limit."""
    global _searches
    with _lock:
        _searches -= 1
        _limit.restore_original_limits()
