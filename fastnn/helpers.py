"""Threads that are kept between calls, and help out in one when asked.

Starting a thread takes as long as predicting 64 rows with a network of some width; one that sleeps
begins after some 20 microseconds.  No helper spins: one that has nothing to do sleeps in the
system, and one that comes when all is done goes back to sleep without having been waited for.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from fastnn.system import core_apart, current_core

__all__ = ["shared"]

# Seconds that a fork waits for a helper that is at work for another thread.
_PATIENCE = 1.0

Call = Callable[[], Any]
Settled = Callable[[], bool]


class _Job:
    """A call that one helper is to make, unless it is withdrawn before."""

    __slots__ = ("_call", "_core", "_done", "_ended", "_owner")

    def __init__(self, call: Call, core: int | None) -> None:
        self._call, self._core = call, core
        self._owner: dict[str, str] = {}
        self._ended = False
        self._done = threading.Lock()
        self._done.acquire()

    def run(self) -> None:
        """Make the call, in a helper."""
        if self._owner.setdefault("is", "helper") != "helper":
            return
        try:
            core_apart([self._core])
            # Whatever it has not taken, the thread that asked does.
            with contextlib.suppress(MemoryError):
                self._call()
        finally:
            self._ended = True
            self._done.release()

    def end(self, settled: Settled) -> None:
        """Withdraw the call, or wait until it has returned; after an interruption once more."""
        if self._owner.setdefault("is", "asker") == "asker":
            return
        while not (self._ended or settled()):
            self._done.acquire()


class _Helpers:
    """The helpers of this process.

    As no caller relies on a helper that has not begun, they are counted without a lock.

    Parameters
    ----------
    idle : float
        Seconds after which a helper that nobody asked ends.
    """

    def __init__(self, idle: float = 60.0) -> None:
        self.idle = idle
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._serving: set[threading.Thread] = set()

    def ask(self, jobs: list[_Job]) -> None:
        """Have some calls made, by as many helpers as the system gives."""
        for _ in range(len(jobs) - len(self._serving)):
            with contextlib.suppress(RuntimeError, MemoryError):
                threading.Thread(target=self._serve, name="fastnn helper", daemon=True).start()
        for job in jobs:
            self._jobs.put(job)

    def _serve(self) -> None:
        """Take jobs, as long as there are any once in a while."""
        me = threading.current_thread()
        self._serving.add(me)
        with contextlib.suppress(queue.Empty):
            while (job := self._jobs.get(timeout=self.idle)) is not None:
                job.run()
        self._serving.discard(me)

    def dismiss(self) -> None:
        """Have all helpers end, and wait for them; others start when they are asked for."""
        serving = list(self._serving)
        for _ in serving:
            self._jobs.put(None)
        for thread in serving:
            thread.join(_PATIENCE)


_helpers = _Helpers()


def _forget() -> None:
    """Begin anew, in a process that was forked off: threads stay behind."""
    global _helpers
    _helpers = _Helpers()


if hasattr(os, "register_at_fork"):
    # A fork of a process of several threads gets a warning from Python 3.12 on.
    os.register_at_fork(before=lambda: _helpers.dismiss(), after_in_child=_forget)


def shared(size: int, call: Call, settled: Settled = lambda: False) -> float:
    """Call a function in this thread and in up to so many in all; return when all is done.

    A helper that has not come when this thread is through is not waited for, so that what the
    calls share must be done when one of them has returned and the others have that began.

    Parameters
    ----------
    size : int
        Threads, this one included; fewer where the system gives no more.
    call : callable
        What each of them calls.
    settled : callable, optional
        Whether all is done, so that calls which have not returned yet touch nothing any more.

    Returns
    -------
    float
        For how many seconds this thread waited in the end.

    Examples
    --------
    >>> waiting = iter([1, 2, 3])
    >>> taken = []
    >>> shared(2, lambda: taken.extend(waiting)) >= 0.0
    True
    >>> sorted(taken)
    [1, 2, 3]
    """
    core = current_core()
    jobs = [_Job(call, core) for _ in range(size - 1)]
    try:
        _helpers.ask(jobs)
        call()
    finally:
        through = time.perf_counter()
        _end(jobs, settled)
    return time.perf_counter() - through


def _end(jobs: list[_Job], settled: Settled) -> None:
    """End all jobs, whatever interrupts."""
    interrupted: BaseException | None = None
    waiting = True
    while waiting:
        try:
            for job in jobs:
                job.end(settled)
            waiting = False
        except KeyboardInterrupt as interruption:
            interrupted = interruption
    if interrupted is not None:
        raise interrupted
