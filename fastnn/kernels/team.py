"""Several threads in one kernel: registration, barriers, and how a team shrinks.

Python threads call the same kernel, without the GIL.  The leader waits briefly for the expected
helpers, then closes the team; a helper that arrives later returns at once.  As no result depends on
how many threads take part, none depends on which of them arrived in time.

A waiting thread spins for a bounded time, then parks: on a futex on Linux, in short sleeps
elsewhere.  On a busy machine a helper may lose its core in the middle of a step, for a time slice
of another process.  The time spent waiting for it is charged against what the team gains; when the
credit is used up the team shrinks, and the threads that are dropped return at the next boundary
(`team_size`).  Kernels cannot fail, so no thread waits for one that has ended.
"""

from __future__ import annotations

import threading
from typing import Any

from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic, kernel
from fastnn.kernels.parking import clock, give_way, park, wake

__all__ = [
    "CAME",
    "CAP",
    "CORES",
    "CREDIT",
    "GAIN",
    "LOST",
    "PATIENCE",
    "SIGNALS",
    "SPIN",
    "WAITED",
    "barrier",
    "dismiss",
    "flag",
    "join",
    "raise_flag",
    "stayed",
    "team_size",
]

# Places in the signals, int64.  Each line below has a cache line to itself, against false sharing.
_DOOR = 0  # helpers that have arrived, plus _CLOSED
_SIZE = 8
_ARRIVED, CREDIT, _STALLED, GAIN, CAP, CORES = 16, 17, 18, 19, 20, 21
_PHASE = 24
_FLAG = 32
_PARKED = 40
PATIENCE, WAITED, CAME, LOST, SPIN = 48, 49, 50, 51, 52
SIGNALS = 56

_CLOSED = 1 << 20  # added to the count of arrivals
_LOOKS = 1000  # spins before a waiting thread reads the clock, and between two readings
_SOON = 20_000  # nanoseconds after which the leader yields its core while it waits for helpers
_PARKING = 500_000  # nanoseconds after which a parked thread checks by itself

# For the mode without the JIT, where adding takes several steps.
_alone = threading.Lock()


def _add(signals: Any, place: int, number: int) -> int:
    """Add in Python."""
    with _alone:
        before = int(signals[place])
        signals[place] += number
    return before


@intrinsic(_add)
def add(typing: Any, signals: Any, place: Any, number: Any) -> Any:
    """Add to a signal atomically; return what it was before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = builder.gep(simd.data_pointer(context, builder, signals, arguments[0]), [arguments[1]])
        return builder.atomic_rmw("add", at, arguments[2], "seq_cst")

    return types.int64(signals, types.intp, types.int64), generate


def _read(signals: Any, place: int) -> int:
    """Read in Python."""
    return int(signals[place])


@intrinsic(_read)
def read(typing: Any, signals: Any, place: Any) -> Any:
    """Return a signal (acquire): all that was written before it was set is visible."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = builder.gep(simd.data_pointer(context, builder, signals, arguments[0]), [arguments[1]])
        return builder.load_atomic(at, "seq_cst", 8)

    return types.int64(signals, types.intp), generate


def _set(signals: Any, place: int, number: int) -> None:
    """Set in Python."""
    signals[place] = number


@intrinsic(_set)
def set_(typing: Any, signals: Any, place: Any, number: Any) -> Any:
    """Set a signal (release): all that was written before becomes visible with it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = builder.gep(simd.data_pointer(context, builder, signals, arguments[0]), [arguments[1]])
        builder.store_atomic(arguments[2], at, "release", 8)
        return context.get_dummy_value()

    return types.void(signals, types.intp, types.int64), generate


def _replace(signals: Any, place: int, known: int, number: int) -> int:
    """Replace in Python."""
    with _alone:
        before = int(signals[place])
        if before == known:
            signals[place] = number
    return before


@intrinsic(_replace)
def replace(typing: Any, signals: Any, place: Any, known: Any, number: Any) -> Any:
    """Set a signal if it is what is known, in one step; return what it was before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = builder.gep(simd.data_pointer(context, builder, signals, arguments[0]), [arguments[1]])
        found = builder.cmpxchg(at, arguments[2], arguments[3], "seq_cst", "seq_cst")
        return builder.extract_value(found, 0)

    return types.int64(signals, types.intp, types.int64, types.int64), generate


@kernel
def publish(signals: Any, place: int, number: int) -> None:
    """Set a signal on which threads may have parked, and wake them."""
    # Added, not set: this and the next line must not be reordered.
    add(signals, place, number - read(signals, place))
    if read(signals, _PARKED) > 0:
        wake(signals, place)


@kernel
def await_change(signals: Any, place: int, known: int, charged: bool) -> None:
    """Wait until a signal differs from `known`; charge a long wait to the team."""
    for _ in range(_LOOKS):
        if read(signals, place) != known:
            return
    began = clock()
    since = began
    while True:
        for _ in range(_LOOKS):
            if read(signals, place) != known:
                if charged and since != began:
                    add(signals, _STALLED, clock() - since)
                return
        here = clock()
        if here - began < signals[SPIN]:
            continue
        if charged:
            add(signals, _STALLED, here - since)
            since = here
        add(signals, _PARKED, 1)
        park(signals, place, known, _PARKING)
        add(signals, _PARKED, -1)


@kernel
def await_helpers(signals: Any, count: int) -> int:
    """Wait until so many helpers have arrived, or for PATIENCE; return how long it took.

    The leader yields its core now and then, as a helper may have been scheduled on the same one.
    """
    began = clock()
    waited = 0
    while read(signals, _DOOR) < count and waited < signals[PATIENCE]:
        for _ in range(_LOOKS):
            if read(signals, _DOOR) >= count:
                break
        if waited > _SOON:
            give_way()
        waited = clock() - began
    return waited


@kernel
def join(signals: Any, expected: int, leading: bool) -> int:
    """Join the team; return this thread's number in it, or -1 for one that arrived too late.

    The leader's number is 0.

    Reads and writes: signals (SIGNALS,), zero when the first thread arrives, except for the terms.
    """
    if leading:
        if expected > 1:
            signals[WAITED] = await_helpers(signals, expected - 1)
        size = add(signals, _DOOR, _CLOSED) + 1
        signals[CAME] = size
        publish(signals, _SIZE, size)
        return 0
    number = add(signals, _DOOR, 1) + 1
    if number > _CLOSED:
        return -1
    await_change(signals, _SIZE, 0, False)
    return number if read(signals, _SIZE) > 0 else -1


def stayed(signals: Any) -> int:
    """Return, to Python, how many threads were left in the team at the end."""
    return int(signals[_SIZE])


def dismiss(signals: Any) -> None:
    """Release, from Python, helpers that wait for a leader that was interrupted before it joined.

    Reads and writes: signals.  Does nothing once the leader has joined.  A parked thread checks
    again soon.
    """
    if signals[_SIZE] == 0:
        signals[_SIZE] = -1


@kernel
def team_size(signals: Any) -> int:
    """Return the size of the team; less than before where the last barrier dropped threads.

    All threads must call it between the same two barriers, so that all get the same answer.  Those
    whose numbers are no longer below it return.

    Reads: signals.
    """
    return read(signals, _SIZE)


@kernel
def settle(signals: Any, size: int) -> None:
    """Charge the time that threads waited since the last barrier; shrink a team without credit.

    Called by the last thread at a barrier, before it releases the others.

    Reads and writes: signals.
    """
    credit = min(signals[CREDIT] + signals[GAIN], signals[CAP])
    stalled = read(signals, _STALLED)
    if stalled > 0:
        add(signals, _STALLED, -stalled)
        stalled //= size - 1
        signals[LOST] += stalled
        credit -= stalled
        # A team shrinks once before it is asked for its size.
        if credit < 0 and read(signals, _SIZE) == size:
            # More threads than cores wait for each other; else each dropped thread frees a core.
            set_(signals, _SIZE, min(size - (size + 3) // 4, max(signals[CORES], 1)))
            credit = 0
    signals[CREDIT] = credit


@kernel
def barrier(signals: Any, size: int) -> None:
    """Wait until all threads of the team have arrived.  Reads and writes: signals."""
    if size == 1:
        return
    phase = read(signals, _PHASE)
    if add(signals, _ARRIVED, 1) == size - 1:
        settle(signals, size)
        set_(signals, _ARRIVED, 0)
        publish(signals, _PHASE, phase + 1)
        return
    await_change(signals, _PHASE, phase, True)


@kernel
def raise_flag(signals: Any, wanted: bool) -> None:
    """Raise the team's flag if wanted; it stays up.  Writes: signals."""
    if wanted:
        set_(signals, _FLAG, 1)


@kernel
def flag(signals: Any) -> bool:
    """Return whether any thread raised the flag before the last barrier.  Reads: signals."""
    return read(signals, _FLAG) != 0
