"""How many threads compute, and how they are started for one call of a kernel.

Threads are Python's own and live as long as one call.  No result depends on their number, so a
thread that cannot be started, or comes late, only makes a call slower.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable
from typing import Any

from fastnn.names import check_integer
from fastnn.system import core_apart, current_core, usable_cores

__all__ = ["Pace", "ceiling", "fitting", "set_threads", "together"]

_VARIABLES = ("FASTNN_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")

# Multiplications and additions of a step that may be worth another thread, which meets the others
# twice in it, and that are worth it on any machine; and those of a call, which starts it.
_STEP_SHARE = 100_000
_SURE_SHARE = 5_000_000
_CALL_SHARE = 20_000_000

# Seconds for each thread that steps must take to tell how fast they are, starting them included;
# and how much slower it must have become since for all to be asked again.
_TELLING = 0.001
_CHANGED = 1.25

# A first trial of several threads may fall into the time that a core takes to wake up, so that a
# second one follows, so many times as long, unless the first was so much slower than one thread.
_LONGER = 4
_HOPELESS = 3.0

_chosen: int | None = None


def set_threads(threads: int | None) -> None:
    """Limit how many threads compute in this process where a call does not say it itself.

    The environment's FASTNN_NUM_THREADS, NUMBA_NUM_THREADS and OMP_NUM_THREADS, the processors
    that the process may use and its share of them in a container are limits too; the least holds.
    No result depends on the number of threads, to the last bit.

    Parameters
    ----------
    threads : int or None
        At least 1; None lifts the limit.

    Raises
    ------
    TypeError, ValueError
        If threads is not a whole number of at least 1, nor None.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.set_threads(1)
    >>> fn.set_threads(None)
    """
    global _chosen
    _chosen = None if threads is None else check_integer(threads, "threads", 1)


def ceiling() -> int:
    """Return how many threads may compute where the caller does not say.

    Returns
    -------
    int
        The least of all limits; see `set_threads`.

    Examples
    --------
    >>> ceiling() >= 1
    True
    """
    limits = [usable_cores(), *(_number(os.environ.get(name)) for name in _VARIABLES), _chosen]
    return min(limit for limit in limits if limit is not None)


def _number(text: str | None) -> int | None:
    """Read a limit from the environment; OMP_NUM_THREADS may be a list, by depth of nesting."""
    first = (text or "").split(",")[0].strip()
    return max(1, int(first)) if first.isdecimal() else None


def fitting(threads: int | None, step: float, steps: int, parts: int) -> int:
    """Return how many threads may gain something.

    Parameters
    ----------
    threads : int or None
        The caller's own limit, or None for `ceiling`.
    step : float
        Multiplications and additions between two meetings of the threads.
    steps : int
        Such steps in a call.
    parts : int
        Parts into which a step's rows fall.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> fitting(8, 1e3, 10**6, 100), fitting(8, 1e9, 10, 100), fitting(8, 1e9, 10, 3)
    (1, 8, 3)
    """
    worth = min(int(min(step / _STEP_SHARE, step * steps / _CALL_SHARE)), parts)
    if worth < 2:
        # Most calls: looking for limits takes longer than some of them.
        return 1
    return min(ceiling() if threads is None else threads, worth)


class Pace:
    """Finds, while steps are taken, how many threads are the fastest.

    What a meeting of threads costs differs from machine to machine by a factor of ten, and with
    what else runs there.  As no result depends on the number of threads, those that take steps
    try: one for the first few, which tells soon; then the most that may be worth it, half as many,
    and so on while that is faster.

    Parameters
    ----------
    step : float
        Multiplications and additions between two meetings of the threads.

    Examples
    --------
    >>> pace = Pace(1e6)
    >>> def run(seconds):
    ...     size = pace.choose(4)
    ...     pace.note(size, steps=100, seconds=seconds[size])
    ...     return size
    >>> [run({1: 0.5, 2: 0.3, 4: 0.2}) for _ in range(7)]
    [1, 4, 4, 2, 2, 4, 4]
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._seconds: dict[int, list[float]] = {}
        self._telling: dict[int, tuple[int, float]] = {}

    def choose(self, most: int) -> int:
        """Return how many threads shall take the next steps, most at the most."""
        size = most
        if self._step >= most * _SURE_SHARE:
            return most
        if not self._is_known(1):
            return 1
        while size > 1:
            fewer = (size + 1) // 2
            for asked in (size, fewer):
                if not self._is_known(asked):
                    return asked
            if min(self._seconds[fewer]) >= min(self._seconds[size]):
                return size
            size = fewer
        return size

    def ration(self, most: int) -> int | None:
        """Return how many steps the next call shall take at the most, None for any number.

        A trial takes what one thread does in the time that tells: somewhere several threads may
        be five times slower.
        """
        size = self.choose(most)
        if size == 1 or self._step >= most * _SURE_SHARE or self._is_known(size):
            return None
        longer = _LONGER if self._seconds.get(size) else 1
        telling = int(longer * _TELLING * size / min(self._seconds[1]))
        # A call of less work would not get so many threads, and nothing would be known after it.
        return max(telling, math.ceil(most * _CALL_SHARE / self._step))

    def note(self, size: int, steps: int, seconds: float) -> None:
        """Take down how long so many threads took for some steps, their start included."""
        # Calls that are short tell something together.
        steps_before, seconds_before = self._telling.pop(size, (0, 0.0))
        steps, seconds = steps + steps_before, seconds + seconds_before
        if seconds < _TELLING * size:
            self._telling[size] = steps, seconds
            return
        each = seconds / steps
        known = self._seconds.setdefault(size, [])
        if known and each > _CHANGED * min(known):
            self._seconds, self._telling = {size: []}, {}
        self._seconds[size] = [*self._seconds[size][-1:], each]

    def _is_known(self, size: int) -> bool:
        """Say whether a number was timed; several threads twice, if there is hope."""
        found = self._seconds.get(size, [])
        if size == 1 or len(found) != 1:
            return bool(found)
        return found[0] > _HOPELESS * min(self._seconds.get(1, [math.inf]))


def together(
    size: int, call: Callable[[bool], Any], dismiss: Callable[[], Any] = lambda: None
) -> None:
    """Call a function in so many threads at once, and return when all have returned.

    Parameters
    ----------
    size : int
        Threads, this one included; fewer where the system gives no more.
    call : callable
        Gets True in this thread, False in the others.
    dismiss : callable, optional
        Called when this thread is through, or was interrupted before it began: sends home those
        who would wait for it.

    Examples
    --------
    >>> seen = []
    >>> together(3, seen.append)
    >>> sorted(seen)
    [False, False, True]
    """
    helpers: list[threading.Thread] = []
    cores = [current_core()]

    def help_out(leading: bool) -> None:
        cores.append(core_apart(cores))
        call(leading)

    try:
        _start(helpers, size - 1, help_out)
        cores[0] = current_core()
        call(True)
    finally:
        _await(helpers, dismiss)


def _start(helpers: list[threading.Thread], count: int, call: Callable[[bool], Any]) -> None:
    """Start threads, as many as the system gives."""
    with contextlib.suppress(RuntimeError, MemoryError):
        for _ in range(count):
            # In the list first: an interruption may fall between any two lines.
            helpers.append(threading.Thread(target=call, args=(False,), name="fastnn"))
            helpers[-1].start()


def _await(helpers: list[threading.Thread], dismiss: Callable[[], Any]) -> None:
    """Wait for threads that are about to end, whatever interrupts."""
    interrupted: BaseException | None = None
    waiting = True
    while waiting:
        try:
            dismiss()
            for helper in helpers:
                if helper.is_alive():
                    helper.join()
            waiting = False
        except KeyboardInterrupt as interruption:
            interrupted = interruption
    if interrupted is not None:
        raise interrupted
