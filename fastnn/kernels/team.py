"""Several threads in one kernel: who takes part, and where they wait for each other.

Python threads call the same kernel, which does not hold Python's lock.  Each takes a number at
the door; the leader waits a little for those who are expected, then closes it, and whoever comes
late goes home.  As no result depends on how many take part, nothing depends on who came in time.

A thread waits by looking again and again, and after a while by giving its core to others, so
that more threads than cores are slow but never stuck.  Kernels cannot fail, so nobody waits for
a thread that is gone.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from llvmlite import ir
from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import external, intrinsic, kernel
from fastnn.system import YIELD_FUNCTION

__all__ = ["SIGNALS", "barrier", "dismiss", "flag", "join", "raise_flag", "team_size"]

_ir: Any = ir

# Places in the signals, int64; each has a cache line to itself.
_DOOR = 0
_SIZE = 8
_ARRIVED = 16
_PHASE = 24
_FLAG = 32
SIGNALS = 40

_CLOSED = 1 << 20  # added to the door's count
_LOOKS = 2000  # before a waiting thread gives its core away each time
_PATIENCE = 2000  # times that the leader gives its core away before it closes the door

# For the mode without the JIT, where adding takes several steps.
_alone = threading.Lock()

give_way = external(YIELD_FUNCTION, types.int32(), lambda: time.sleep(0))


def _add(signals: Any, place: int, number: int) -> int:
    """Add in Python."""
    with _alone:
        before = int(signals[place])
        signals[place] += number
    return before


@intrinsic(_add)
def add(typing: Any, signals: Any, place: Any, number: Any) -> Any:
    """Add to a signal; return what it was before.  No other thread comes in between."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = builder.gep(simd.data_pointer(context, builder, signals, arguments[0]), [arguments[1]])
        return builder.atomic_rmw("add", at, arguments[2], "acq_rel")

    return types.int64(signals, types.intp, types.int64), generate


def _read(signals: Any, place: int) -> int:
    """Read in Python."""
    return int(signals[place])


@intrinsic(_read)
def read(typing: Any, signals: Any, place: Any) -> Any:
    """Return a signal, and see all that was written before it was set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = builder.gep(simd.data_pointer(context, builder, signals, arguments[0]), [arguments[1]])
        return builder.load_atomic(at, "acquire", 8)

    return types.int64(signals, types.intp), generate


def _set(signals: Any, place: int, number: int) -> None:
    """Set in Python."""
    signals[place] = number


@intrinsic(_set)
def set_(typing: Any, signals: Any, place: Any, number: Any) -> Any:
    """Set a signal, and let all that was written before be seen with it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = builder.gep(simd.data_pointer(context, builder, signals, arguments[0]), [arguments[1]])
        builder.store_atomic(arguments[2], at, "release", 8)
        return context.get_dummy_value()

    return types.void(signals, types.intp, types.int64), generate


@kernel
def join(signals: Any, expected: int, leading: bool) -> int:
    """Take part; return this thread's number in the team, or -1 for one that came late.

    Reads and writes: signals (SIGNALS,), zero when the first thread comes.
    """
    number = add(signals, _DOOR, 1)
    if leading:
        looks = 0
        while read(signals, _DOOR) < expected and looks < _LOOKS + _PATIENCE:
            looks += 1
            if looks > _LOOKS:
                give_way()
        set_(signals, _SIZE, add(signals, _DOOR, _CLOSED))
        return number
    if number >= _CLOSED:
        return -1
    looks = 0
    while read(signals, _SIZE) == 0:
        looks += 1
        if looks > _LOOKS:
            give_way()
    return number if read(signals, _SIZE) > 0 else -1


def dismiss(signals: Any) -> None:
    """Send home, from Python, those who wait for a leader that was interrupted on its way.

    Reads and writes: signals.  Does nothing once the leader has been there.
    """
    if signals[_SIZE] == 0:
        signals[_SIZE] = -1


@kernel
def team_size(signals: Any) -> int:
    """Return how many take part.  Reads: signals."""
    return read(signals, _SIZE)


@kernel
def barrier(signals: Any, size: int) -> None:
    """Wait until all of the team are here.  Reads and writes: signals."""
    if size == 1:
        return
    phase = read(signals, _PHASE)
    if add(signals, _ARRIVED, 1) == size - 1:
        set_(signals, _ARRIVED, 0)
        set_(signals, _PHASE, phase + 1)
        return
    looks = 0
    while read(signals, _PHASE) == phase:
        looks += 1
        if looks > _LOOKS:
            give_way()


@kernel
def raise_flag(signals: Any, wanted: bool) -> None:
    """Raise the team's flag if wanted; it stays up.  Writes: signals."""
    if wanted:
        set_(signals, _FLAG, 1)


@kernel
def flag(signals: Any) -> bool:
    """Return whether any thread raised the flag before the last barrier.  Reads: signals."""
    return read(signals, _FLAG) != 0
