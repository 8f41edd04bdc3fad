"""System calls of a waiting thread: the clock, yielding, and sleeping until it is woken (a futex).

The system's functions are declared by name, so that machine code that calls them can be cached on
disk.  None of them takes the GIL.
"""

from __future__ import annotations

import time
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic
from fastnn.machine.system import (
    CLOCK,
    CLOCK_FUNCTION,
    FUTEX_CALL,
    FUTEX_SHIFT,
    NAP,
    NAP_FUNCTION,
    YIELD_FUNCTION,
)

__all__ = ["call_system", "clock", "give_way", "park", "wake"]

# llvmlite's and Numba's helpers carry no types.
_ir: Any = ir
_cgutils: Any = cgutils

_LONG = _ir.IntType(64)
_WAIT, _WAKE = 0 | 128, 1 | 128  # with FUTEX_PRIVATE_FLAG, as only threads of one process wait
_EVERY = 2**31 - 1
_SECOND = 1_000_000_000


def call_system(
    builder: Any, name: str, result: Any, arguments: list[Any], *, variadic: bool
) -> Any:
    """Emit a call of a function that every process has."""
    kinds = [argument.type for argument in arguments]
    kind = _ir.FunctionType(result, kinds[:1] if variadic else kinds, var_arg=variadic)
    function = _cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments)


def _two_longs(builder: Any, first: int, second: int) -> Any:
    """Return a pointer to two integers on the stack: the system's seconds and nanoseconds."""
    place = _cgutils.alloca_once(builder, _ir.ArrayType(_LONG, 2))
    longs = builder.bitcast(place, _LONG.as_pointer())
    builder.store(_LONG(first), longs)
    builder.store(_LONG(second), builder.gep(longs, [_LONG(1)]))
    return longs


def _clock() -> int:
    """Return the time in Python."""
    return time.perf_counter_ns()


@intrinsic(_clock)
def clock(typing: Any) -> Any:
    """Return nanoseconds of a monotonic clock, which runs while the thread sleeps."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        longs = _two_longs(builder, 0, 0)
        if CLOCK is None:
            # Windows: one number, in units of a hundred nanoseconds.
            call_system(builder, CLOCK_FUNCTION, _ir.VoidType(), [longs], variadic=False)
            return builder.mul(builder.load(longs), _LONG(100))
        which = _ir.IntType(32)(CLOCK)
        call_system(builder, CLOCK_FUNCTION, _ir.IntType(32), [which, longs], variadic=False)
        rest = builder.load(builder.gep(longs, [_LONG(1)]))
        return builder.add(builder.mul(builder.load(longs), _LONG(_SECOND)), rest)

    return types.int64(), generate


def _give_way() -> None:
    """Yield in Python."""
    time.sleep(0.0)


@intrinsic(_give_way)
def give_way(typing: Any) -> Any:
    """Yield the core to another thread that is ready to run, if there is one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        call_system(builder, YIELD_FUNCTION, _ir.IntType(32), [], variadic=False)
        return context.get_dummy_value()

    return types.void(), generate


def _word(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Any:
    """Return the address of a signal's low 32 bits, which are what a futex compares."""
    at = builder.gep(simd.data_pointer(context, builder, kind, array), [place])
    return builder.add(builder.ptrtoint(at, _LONG), _LONG(FUTEX_SHIFT))


def _park(signals: Any, place: int, known: int, limit: int) -> None:
    """Wait a moment in Python."""
    time.sleep(1e-4 if signals[place] == known else 0.0)


@intrinsic(_park)
def park(typing: Any, signals: Any, place: Any, known: Any, limit: Any) -> Any:
    """Sleep until the signal is woken, at most `limit` nanoseconds, which is less than 1e9.

    Returns at once where the signal differs from `known`; it may also wake spuriously.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not FUTEX_CALL:
            call_system(builder, YIELD_FUNCTION, _ir.IntType(32), [], variadic=False)
            nap = _ir.IntType(32)(NAP)
            call_system(builder, NAP_FUNCTION, _ir.IntType(32), [nap], variadic=False)
            return context.get_dummy_value()
        span = _two_longs(builder, 0, 0)
        builder.store(arguments[3], builder.gep(span, [_LONG(1)]))
        word = _word(context, builder, signals, arguments[0], arguments[1])
        known_half = builder.and_(arguments[2], _LONG(0xFFFFFFFF))
        asked = [_LONG(FUTEX_CALL), word, _LONG(_WAIT), known_half, builder.ptrtoint(span, _LONG)]
        call_system(builder, "syscall", _LONG, [*asked, _LONG(0), _LONG(0)], variadic=True)
        return context.get_dummy_value()

    return types.void(signals, types.intp, types.int64, types.int64), generate


def _wake(signals: Any, place: int) -> None:
    """Do nothing in Python, where no thread sleeps for long."""


@intrinsic(_wake)
def wake(typing: Any, signals: Any, place: Any) -> Any:
    """Wake all threads that are parked on a signal."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if FUTEX_CALL:
            word = _word(context, builder, signals, arguments[0], arguments[1])
            asked = [_LONG(FUTEX_CALL), word, _LONG(_WAKE), _LONG(_EVERY), _LONG(0)]
            call_system(builder, "syscall", _LONG, [*asked, _LONG(0), _LONG(0)], variadic=True)
        return context.get_dummy_value()

    return types.void(signals, types.intp), generate
