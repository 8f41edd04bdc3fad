"""How many threads compute, and how they are started for one call of a kernel.

Threads are Python's own and live as long as one call.  No result depends on their number, so a
thread that cannot be started, comes late or leaves early only makes a call slower.

This file is long because which number of threads pays, and what disturbs it, are judged together.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

from fastnn import tuning
from fastnn.machine.system import core_apart, current_core, free_cores, usable_cores
from fastnn.names import check_integer

__all__ = [
    "Crowd",
    "Outcome",
    "Terms",
    "ThreadTuner",
    "ceiling",
    "crowd",
    "fitting",
    "recent_ceiling",
    "set_threads",
    "together",
]

_VARIABLES = ("FASTNN_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")

# Kinds of steps whose speeds are remembered.
_REMEMBERED = 256

# Seconds for which the limits of short calls are not asked anew.
_RECENT = 0.005

_chosen: int | None = None
_recent = 1, -math.inf


def set_threads(threads: int | None) -> None:
    """Limit how many threads compute in this process where a call does not set a limit itself.

    The environment variables FASTNN_NUM_THREADS, NUMBA_NUM_THREADS and OMP_NUM_THREADS, the
    processors that the process may use and its quota in a container are limits too; the lowest
    applies.
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
    global _chosen, _recent
    _recent = 1, -math.inf
    _chosen = None if threads is None else check_integer(threads, "threads", 1)


def ceiling() -> int:
    """Return how many threads may compute where the caller does not say.

    Returns
    -------
    int
        The lowest of all limits; see `set_threads`.

    Examples
    --------
    >>> ceiling() >= 1
    True
    """
    limits = [usable_cores(), *(_number(os.environ.get(name)) for name in _VARIABLES), _chosen]
    return min(limit for limit in limits if limit is not None)


def recent_ceiling() -> int:
    """Return `ceiling` as it was a moment ago: looking anew takes as long as some predictions.

    Returns
    -------
    int
        Of at most 5 ms ago, and never from before the last `set_threads`.

    Examples
    --------
    >>> recent_ceiling() >= 1
    True
    """
    global _recent
    found, until = _recent
    now = time.perf_counter()
    if now >= until:
        found = ceiling()
        _recent = found, now + _RECENT
    return found


def _number(text: str | None) -> int | None:
    """Read a limit from the environment; OMP_NUM_THREADS may be a list, by depth of nesting."""
    first = (text or "").split(",")[0].strip()
    return max(1, int(first)) if first.isdecimal() else None


def fitting(threads: int | None, step: float, steps: int, parts: int) -> int:
    """Return the number of threads that may be worth starting.

    Parameters
    ----------
    threads : int or None
        The caller's own limit, or None for `ceiling`.
    step : float
        Multiplications and additions between two barriers.
    steps : int
        Such steps in a call.
    parts : int
        Parts into which a step's rows are divided.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> fitting(8, 1e3, 10**6, 100), fitting(8, 1e9, 10, 100), fitting(8, 1e9, 10, 3)
    (1, 8, 3)
    """
    figures = tuning.current
    worth = min(int(min(step / figures.step_share, step * steps / figures.call_share)), parts)
    if worth < 2:
        # Most calls: looking up the limits takes longer than some of them.
        return 1
    return min(ceiling() if threads is None else threads, worth)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a team of threads may cost in one call, in nanoseconds.

    Attributes
    ----------
    patience : int
        How long the leader waits for helpers.
    credit : int
        How long threads may wait for each other at first.
    gain : int
        What the team gains from one barrier to the next, which is added to the credit.
    most : int
        The maximum of the credit.
    spin : int
        How long a thread spins before it parks.
    """

    patience: int
    credit: int
    gain: int
    most: int
    spin: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a call by a team of threads.

    Attributes
    ----------
    came, stayed : int
        Threads that took part, and that were left at the end.
    waited : float
        Seconds that the leader waited for helpers.
    lost : float
        Seconds that threads waited for one that had lost its core.
    """

    came: int
    stayed: int
    waited: float
    lost: float


class Crowd:
    """Other load on the cores: as the system reports it, and as seen by teams that it disturbed.

    Where the system reports how many cores are free, no larger team is started.  A team that loses
    a thread nevertheless reports that.  Until the lost time is a small part of the time since, no
    larger team is started; if the next one is disturbed too, the wait is twice as long.

    Parameters
    ----------
    count : callable, default free_cores
        Counts the cores that are free; None where it cannot.
    brief : bool, default False
        Whether teams work for so short a time that one which is disturbed loses little.

    Examples
    --------
    >>> found = Crowd(lambda: 6)
    >>> found.limit(8), found.limit(6)
    (4, 6)
    >>> found.disturbed(stayed=2, lost=0.003)
    >>> found.limit(8)
    2
    """

    def __init__(self, count: Callable[[], int | None] = free_cores, brief: bool = False) -> None:
        #: Counts the cores that are free.
        self.count = count
        self._brief = brief
        self._size = 1
        self._until = -math.inf
        self._wait = 0.0
        self._free: int | None = None
        self._valid_until = -math.inf
        self._doubt = 0.0  # seconds for which the last count was valid, where it was too low

    def limit(self, most: int) -> int:
        """Return how many threads may be used now, at most `most`."""
        if most == 1:
            return 1
        now = time.perf_counter()
        if now >= self._valid_until:
            self._count_anew(most)
        if now < self._until:
            most = min(most, self._size)
        if self._free is not None:
            # Only numbers that a `ThreadTuner` tries.
            while most > max(self._free, 1):
                most = (most + 1) // 2
        return most

    def pause(self) -> float:
        """Return after how many seconds more threads may be allowed than a moment ago."""
        return max(0.0, max(self._until, self._valid_until) - time.perf_counter())

    def _count_anew(self, most: int) -> None:
        """Count the cores that are free; again where they have just become too few."""
        figures = tuning.current
        enough = self._free is not None and self._free >= most
        began = here = time.perf_counter()
        cost, free = math.inf, None
        for _ in range(1 + (figures.recounts if enough else 0)):
            free = self.count()
            here, last = time.perf_counter(), here
            cost = min(cost, here - last)
            if free is None or free >= most or here - began > figures.count_valid:
                break
        # A system may take long to answer, above all a busy one.
        rest = max(figures.count_valid, cost / figures.count_share)
        if free is None or free >= most:
            self._doubt = 0.0
        else:
            # What was seen may end soon, unless the last count has just seen it too.
            lasts = began < self._valid_until + self._doubt
            doubt = 2.0 * self._doubt if lasts else 0.0
            soon = max(figures.count_valid, cost / figures.doubt_share)
            self._doubt = rest = min(rest, max(soon, doubt))
        self._free, self._valid_until = free, here + rest

    def disturbed(self, stayed: int, lost: float) -> None:
        """Record that a team ended with so many threads, and the seconds that it lost."""
        now, figures = time.perf_counter(), tuning.current
        again = now < self._until + figures.rest_repeated * self._wait
        share = figures.rest_share_brief if self._brief else figures.rest_share
        wait = max(share * lost, 2.0 * self._wait if again else 0.0)
        self._wait = min(wait, figures.rest_at_most)
        self._until = now + self._wait
        self._size = max(1, stayed)

    def forget(self) -> None:
        """Forget all disturbances."""
        self._until, self._wait = -math.inf, 0.0
        self._free, self._valid_until, self._doubt = None, -math.inf, 0.0


#: What this process has observed of other load on its cores.
crowd = Crowd()


class ThreadTuner:
    """Finds, during training, how many threads are the fastest.

    The cost of a barrier differs between machines by a factor of ten, and with what else runs
    there.  As no result depends on the number of threads, a fit tries: one thread for the first few
    steps; then, where the trial is a small part of the work, the largest number that may be worth
    it, half as many, and so on while that is faster.

    Parameters
    ----------
    step : float
        Floating-point operations of a step.
    sure : float, optional
        Operations for each thread of a step that needs no trial.

    Examples
    --------
    >>> pace = ThreadTuner(1e6)
    >>> def run(seconds):
    ...     size = pace.choose(4)
    ...     pace.note(size, steps=100, seconds=seconds[size])
    ...     return size
    >>> [run({1: 0.5, 2: 0.3, 4: 0.2}) for _ in range(7)]
    [1, 1, 4, 4, 2, 2, 4]
    """

    _known: ClassVar[OrderedDict[Hashable, ThreadTuner]] = OrderedDict()

    def __init__(self, step: float, sure: float | None = None) -> None:
        self._step = step
        self._sure = sure
        self._seconds: dict[int, list[float]] = {}
        self._telling: dict[int, tuple[float, float]] = {}
        self._worked = 0.0
        self._left = 0.0  # steps to come, where the caller knows
        self._again, self._wait = -math.inf, 0.0

    @classmethod
    def of(cls, kind: Hashable, step: float, sure: float | None = None) -> ThreadTuner:
        """Return the timings of steps of a kind, including those of earlier fits or predictions."""
        # By the figures in force too: they decide how a step is cut, and so how long it takes.
        known, kind = cls._known, (kind, tuning.current)
        pace = known.pop(kind, None)
        known[kind] = pace = pace or cls(step, sure)
        with contextlib.suppress(KeyError):
            while len(known) > _REMEMBERED:
                known.popitem(last=False)
        return pace

    def choose(self, most: int) -> int:
        """Return how many threads are to take the next steps, at most `most`."""
        size = most
        if size == 1:
            return 1
        # Large steps go to all at once; one thread is timed where that costs next to nothing.
        if self._is_sure(most) and not (
            self._seconds.get(most) and (self._is_known(1) or self._may_try_one(most))
        ):
            return most
        if not self._is_known(1):
            return 1
        best = 1
        while size > 1:
            fewer = (size + 1) // 2
            for asked in (size, fewer):
                if not self._is_known(asked):
                    return asked if self._may_try(asked) else best
            if min(self._seconds[fewer]) >= min(self._seconds[size]):
                return size
            best = size = fewer
        now = time.perf_counter()
        if now >= self._again:
            if self._wait:
                # The moment may have been bad.
                self._seconds = {1: self._seconds[1]}
            figures = tuning.current
            self._wait = min(max(figures.retry, 2.0 * self._wait), figures.retry_at_most)
            self._again = now + self._wait
        return 1

    def ration(self, most: int, left: int | None = None) -> int | None:
        """Return the most steps that the next call may take, None for any number.

        A trial takes as many steps as one thread does in the time that suffices for timing, since
        several threads may be five times slower.

        Parameters
        ----------
        most : int
            Threads at the most.
        left : int, optional
            How many steps are to come.
        """
        figures = tuning.current
        self._left = 0.0 if left is None else left
        size = self.choose(most)
        if self._is_known(size) or not self._seconds:
            return None
        if size == 1:
            return max(1, int(2.0 * figures.timing / self.alone()))
        if not self._is_known(1):
            return None
        longer = figures.second_trial if self._seconds.get(size) else 1
        telling = int(2.0 * longer * figures.timing / min(self._seconds[1]))
        # A call of less work would not get so many threads, and nothing would be known after it.
        return max(telling, math.ceil(most * figures.call_share / self._step))

    def note(self, size: int, steps: float, seconds: float) -> None:
        """Record how long so many threads took for some steps."""
        self._worked += seconds
        # Short calls are timed together.
        steps_before, seconds_before = self._telling.pop(size, (0, 0.0))
        steps, seconds = steps + steps_before, seconds + seconds_before
        if seconds < tuning.current.timing:
            self._telling[size] = steps, seconds
            return
        each = seconds / steps
        known = self._seconds.setdefault(size, [])
        if known and each > tuning.current.slower * min(known):
            self._seconds, self._telling = {size: []}, {}
        self._seconds[size] = [*self._seconds[size][-1:], each]

    def judge(
        self, size: int, steps: float, seconds: float, led: float | None, outcome: Outcome
    ) -> None:
        """Record the outcome of a team of so many threads, and any disturbance.

        Parameters
        ----------
        size : int
            Threads that were started.
        steps : float
            The work that they did, in steps.
        seconds : float
            How long that took, their start included.
        led : float or None
            Seconds that the leader spent in the kernel, waiting for the others included; None where
            starting threads is to count too.  Not so for a fit's steps: later calls take longer,
            and a start weighs less.
        outcome : Outcome
            What the team reports.
        """
        if outcome.stayed == size:
            self.note(size, steps, seconds if led is None else led - outcome.waited)
            return
        self._worked += seconds
        lost = outcome.lost
        if 1 in self._seconds:
            lost = min(lost, seconds - self.alone() * steps)
        crowd.disturbed(outcome.stayed, max(lost, outcome.waited, tuning.current.credit))

    def alone(self) -> float:
        """Return the seconds of a step in one thread, or an estimate."""
        known = self._seconds.get(1)
        if known:
            return min(known)
        # An upper bound, where several were timed.
        found = [size * min(times) for size, times in self._seconds.items() if times]
        return min([self._step / tuning.current.presumed_rate, *found])

    def terms(self, size: int, steps: int, barriers: int) -> Terms:
        """Return the terms of so many threads for a call of steps with so many barriers each."""
        gain = self.alone() * (1.0 - 1.0 / size)
        figures = tuning.current
        patience = min(max(figures.patience, 0.25 * gain * steps), figures.patience_at_most)
        apart = 0.8 * gain / barriers
        most = max(figures.credit_at_most, 2.0 * apart)
        numbers = (patience, figures.credit + apart, apart, most, figures.spin)
        return Terms(*(int(1e9 * number) for number in numbers))

    def _is_sure(self, most: int) -> bool:
        """Return whether a step is so large that no trial is needed."""
        sure = tuning.current.sure_share if self._sure is None else self._sure
        return self._step >= most * sure

    def _may_try(self, size: int) -> bool:
        """Return whether a trial of so many threads is a small part of the work."""
        alone = min(self._seconds[1])
        figures = tuning.current
        cost = figures.timing
        if self._seconds.get(size):
            # The second one takes longer, and it is known how slow it may be.
            longest = 2.0 * figures.second_trial * figures.timing
            cost = max(cost, longest * (self._seconds[size][0] / alone - 1.0))
        # A trial may lose its own time; steps to come count where their number is known.
        return figures.trial_share * cost <= self._worked + self._left * alone

    def _may_try_one(self, most: int) -> bool:
        """Return whether timing one thread, for at least a step, is a small part of the work."""
        alone = self.alone()
        figures = tuning.current
        cost = figures.trial_share * max(figures.timing, alone)
        return cost <= self._worked + self._left * alone / most

    def _is_known(self, size: int) -> bool:
        """Return whether a number was timed twice, or several threads that are hopeless once."""
        found = self._seconds.get(size, [])
        if size == 1 or len(found) != 1:
            return len(found) > 1
        return found[0] > tuning.current.hopeless * min(self._seconds.get(1, [math.inf]))


def together(
    size: int, call: Callable[[bool], Any], dismiss: Callable[[], Any] = lambda: None
) -> None:
    """Call a function in so many threads at once, and return when all calls have returned.

    Parameters
    ----------
    size : int
        Threads, including this one; fewer where the system cannot start more.
    call : callable
        Gets True in this thread, False in the others.
    dismiss : callable, optional
        Called when this thread has returned, or was interrupted before its call: releases threads
        that would wait for it.

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
    """Start threads, as many as the system can."""
    with contextlib.suppress(RuntimeError, MemoryError):
        for _ in range(count):
            # In the list first: an interruption may fall between any two lines.
            helpers.append(threading.Thread(target=call, args=(False,), name="fastnn"))
            helpers[-1].start()


def _await(helpers: list[threading.Thread], dismiss: Callable[[], Any]) -> None:
    """Wait for threads that are about to end, despite interruptions."""
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
