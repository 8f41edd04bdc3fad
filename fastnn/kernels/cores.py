"""On which core a thread runs, and how another one is kept off it, under Linux.

Linux often schedules a thread that is woken on the core of the thread that woke it, and separates
the two only after milliseconds.  So whoever wakes one first restricts it to the other cores, and
the woken thread lifts that before it begins to work: from then on the system decides again.

A *place* is where the record of a thread lies in an array of integers, `PLACE` of them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic, kernel
from fastnn.kernels.parking import call_system
from fastnn.kernels.team import read, set_
from fastnn.machine.system import CORE_FUNCTION

__all__ = ["PLACE", "THREAD", "core", "free_to_move", "keep_off", "seen_on"]

# llvmlite's helpers carry no types.
_ir: Any = ir

_INT, _LONG = _ir.IntType(32), _ir.IntType(64)

# A record: the thread's number in the system, the core where it was last seen, the number of the
# thread that is kept off one, as another may have taken its place; its cores as they were before, a
# bit each, and those that are left meanwhile.
THREAD, _CORE, _KEPT_OFF, _BEFORE = 0, 1, 2, 4
_WORDS = 16
_BITS = 64
_LEFT = _BEFORE + _WORDS
PLACE = _LEFT + _WORDS


def _call(builder: Any, name: str, arguments: list[Any]) -> Any:
    """Emit a call of a function that returns an int, and return a long."""
    return builder.sext(call_system(builder, name, _INT, arguments, variadic=False), _LONG)


def _core() -> int:
    """Tell no core in Python, where no thread is moved."""
    return -1


@intrinsic(_core)
def core(typing: Any) -> Any:
    """Return the core on which this thread runs; negative where threads cannot be moved."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, CORE_FUNCTION, []) if CORE_FUNCTION else _LONG(-1)

    return types.int64(), generate


def _refuse(board: Any, place: int, thread: int) -> int:
    """Do nothing in Python."""
    return -1


def _about_cores(name: str) -> Any:
    """Return an intrinsic around a function of the system, which gives 0 where it succeeded.

    It reads or writes the cores that a thread may use, at a place of the board.
    """

    def build(typing: Any, board: Any, place: Any, thread: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            if not CORE_FUNCTION:
                return _LONG(-1)
            at = builder.gep(
                simd.data_pointer(context, builder, board, arguments[0]), [arguments[1]]
            )
            size = _LONG(_WORDS * _BITS // 8)
            return _call(builder, name, [builder.trunc(arguments[2], _INT), size, at])

        return types.int64(board, types.intp, types.int64), generate

    return intrinsic(_refuse)(build)


_ask_cores = _about_cores("sched_getaffinity")
_set_cores = _about_cores("sched_setaffinity")


@kernel
def seen_on(board: Any, place: int, taken: int) -> bool:
    """Whether a thread was last seen on a core.  Reads: board."""
    found: bool = read(board, place + _CORE) == taken
    return found


@kernel
def keep_off(board: Any, place: int, taken: int) -> None:
    """Let a thread run on any of its cores but one, until it calls `free_to_move`.

    Does nothing where it has no other core, is kept off one already, or the system forbids it; one
    thread at a time may call it for a place.  Reads and writes: board.
    """
    thread = board[place + THREAD]
    # Number 0 would be this thread.
    if thread <= 0 or read(board, place + _KEPT_OFF) == thread:
        return
    if _ask_cores(board, place + _BEFORE, thread) != 0:
        return
    rest = 0
    for word in range(_WORDS):
        left = board[place + _BEFORE + word]
        if word == taken // _BITS:
            left &= ~(1 << taken % _BITS)
        board[place + _LEFT + word] = left
        rest |= left
    if rest != 0 and _set_cores(board, place + _LEFT, thread) == 0:
        set_(board, place + _KEPT_OFF, thread)


@kernel
def free_to_move(board: Any, place: int) -> None:
    """Note where this thread runs, and let it run on all of its cores again.

    Reads and writes: board.
    """
    if read(board, place + _KEPT_OFF) == board[place + THREAD]:
        _set_cores(board, place + _BEFORE, 0)
        set_(board, place + _KEPT_OFF, 0)
    here = core()
    if here != read(board, place + _CORE):
        set_(board, place + _CORE, here)
