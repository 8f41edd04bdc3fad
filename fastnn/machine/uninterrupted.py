"""Work that no signal may interrupt: loading the compiler, and compiling.

A signal handler, such as that of Ctrl-C, runs in the main thread between any two bytecodes, and may
raise there.  A module that is half imported then, or a table of the compiler that is half written,
stays so: nearly every later call failed.  So this work runs in a worker thread, where no handler
runs, and the caller waits for it.  An interruption ends the waiting at once; the worker continues
to a point where it can stop, and the next call waits for that, and continues from there.

A forked process has only the forking thread, and each lock in the state at the fork.  So a fork
waits until no other thread does such work, or compiles anything with Numba.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import contextvars
import functools
import logging  # noqa: F401
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

# Not from the package, which would be asked for a public name first and load NumPy to answer.
import fastnn.tuning as tuning

__all__ = ["in_one_piece", "stop_if_abandoned"]

Result = TypeVar("Result")

# Bytes of a worker's stack.  What the system gives may be little (2 MiB where a process may have a
# stack of any size), and a compiler goes deep.
_STACK = 16 << 20

_busy = threading.RLock()
_here = threading.local()
_forked_amid_work = False


class _Abandoned(BaseException):
    """Ends work that no caller waits for; not caught by handlers of exceptions."""


class _Job:
    """Some work, and its result."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.context = contextvars.copy_context()
        self.abandoned = False
        self.result: Any = None
        self.problem: BaseException | None = None
        self.running = _thread.allocate_lock()
        self.running.acquire()

    def run(self) -> None:
        """Do the work; in a thread of its own."""
        # Such threads are not traced by themselves.
        sys.settrace(threading.gettrace())
        try:
            with _busy:
                _here.job = self
                self.context.run(self._work)
        finally:
            self.running.release()

    def _work(self) -> None:
        try:
            stop_if_abandoned()
            self.result = self.work()
        except BaseException as problem:
            self.problem = problem


def in_one_piece(work: Callable[[], Result]) -> Result:
    """Do some work that no signal handler can interrupt, and return its result.

    Parameters
    ----------
    work : callable
        Without arguments.  It runs in another thread, one such job at a time, unless this thread
        is running such work already, or the system cannot start a thread.

    Returns
    -------
    object
        What the work returns.

    Raises
    ------
    BaseException
        What the work raises; or what a signal handler raises meanwhile, as soon as it does.
    RuntimeError
        In a process that was forked while another thread was doing such work.

    Examples
    --------
    >>> in_one_piece(lambda: 6 * 7)
    42
    """
    if _forked_amid_work:
        raise RuntimeError(
            "this process was forked while another thread was compiling, so that its compiler "
            'cannot be used. Start processes by the method "spawn" or "forkserver", or fork '
            "after the first fit."
        )
    if getattr(_here, "job", None) is not None or _compiles():
        return work()
    _watch_the_end()
    job = _Job(work)
    try:
        if not _start(job):
            with _busy:
                return work()
        job.running.acquire()
    except BaseException:
        job.abandoned = True
        raise
    if job.problem is not None:
        try:
            raise job.problem
        finally:
            # It holds the stack, which holds it.
            job.problem = None
    result: Result = job.result
    return result


def stop_if_abandoned() -> None:
    """End this thread's work here if no caller waits for it any more.

    Called at points where nothing is half done.

    Examples
    --------
    >>> stop_if_abandoned()
    """
    job = getattr(_here, "job", None)
    if job is not None and job.abandoned:
        raise _Abandoned


def _start(job: _Job) -> bool:
    """Start a job's thread with a large enough stack; return whether it was started."""
    before = threading.stack_size()
    with contextlib.suppress(ValueError, RuntimeError):
        threading.stack_size(max(before, _STACK))
    try:
        # Starting Python's own kind of thread takes several steps, after any of which an
        # interruption could leave it waiting for ever.
        _thread.start_new_thread(job.run, ())
    except (RuntimeError, MemoryError):
        return False
    finally:
        threading.stack_size(before)
    return True


def _compiler_lock() -> Any:
    """Return Numba's compiler lock, if Numba is loaded and still has it there."""
    module = sys.modules.get("numba.core.compiler_lock")
    return getattr(getattr(module, "global_compiler_lock", None), "_lock", None)


def _compiles() -> bool:
    """Return whether this thread holds Numba's compiler lock, for which another would wait."""
    owned = getattr(_compiler_lock(), "_is_owned", None)
    return owned is not None and bool(owned())


@functools.cache
def _watch_the_end() -> None:
    """Let the process end only after its workers; Python does not wait for such threads."""
    atexit.register(_busy.acquire, timeout=tuning.current.fork_patience)


def _locks() -> Iterator[Any]:
    """Yield the locks that a forked process must not find held, outermost first.

    Each is looked up once those before it are held: until then, Numba may be loading.
    """
    yield _busy
    yield _compiler_lock()
    # Unused machine code is freed under this one, at any time.
    binding = sys.modules.get("llvmlite.binding.ffi")
    yield getattr(getattr(getattr(binding, "lib", None), "_lock", None), "_lock", None)


def _wait_before_fork() -> None:
    """Wait until no other thread does such work, and let none begin."""
    _here.held, _here.amid_work = [], True
    missed = False
    for lock in _locks():
        if lock is not None:
            if lock.acquire(timeout=tuning.current.fork_patience):
                _here.held.append(lock)
            else:
                missed = True
    # Only now: an interruption on the way is no success.
    _here.amid_work = missed


def _go_on_after_fork() -> None:
    """Let other threads work again."""
    held = _here.__dict__.pop("held", [])
    while held:
        held.pop().release()


def _begin_after_fork() -> None:
    """Find out, in the new process, whether it was forked during such work."""
    global _forked_amid_work
    _forked_amid_work = _forked_amid_work or _here.__dict__.get("amid_work", True)
    _go_on_after_fork()


# Handlers that are registered last run first.  That of logging, imported above for this reason
# alone, runs next: it holds its lock until the fork, and a compiler may need it.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_wait_before_fork,
        after_in_parent=_go_on_after_fork,
        after_in_child=_begin_after_fork,
    )
