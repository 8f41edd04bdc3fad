"""Threads of BLAS: one, while a search computes many small products."""

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
    after each product they spin for milliseconds, on the cores that this library's own threads
    need (oversubscription).

    Where the limit belongs to the process, searches in several threads see each other's: each
    restores what the first one found.  (Some builds of OpenBLAS obey the main thread only.)
    """
    _enter()
    try:
        yield
    finally:
        _leave()


@functools.cache
def _libraries() -> Any:
    """Find the BLAS libraries that this process has loaded, once, as that takes 15 ms."""
    return ThreadpoolController()


def _enter() -> None:
    """Count a search in, and set the limit; the first one remembers the previous one."""
    global _searches, _limit
    with _lock:
        limit = _libraries().limit(limits=1, user_api="blas")
        if not _searches:
            _limit = limit
        _searches += 1


def _leave() -> None:
    """Count a search out, and restore the limit."""
    global _searches
    with _lock:
        _searches -= 1
        _limit.restore_original_limits()
