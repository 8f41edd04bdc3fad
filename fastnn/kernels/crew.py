"""Helpers that stay awake between predictions, and how a prediction is given to them.

A *board* is an array of integers that outlives everything: one thread at a time posts a *job* on
it, helpers look there for the next one (`serve`), spinning for a while, then asleep.  No Python
is run for a job.

Work is divided into pieces, and a piece is begun by whoever takes it first (`take_rows`,
`take_part`).  The thread that posted a job takes all that no helper has taken, and waits only for
pieces that helpers are computing: for one that has not come it never waits.  What is taken is
marked with the job's number, so that a helper which lost its core on the way to a piece and comes
back long after finds nothing there, and touches no memory but the board.
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from fastnn.kernels import codes
from fastnn.kernels._jit import entry, intrinsic, kernel
from fastnn.kernels.cores import PLACE, core, free_to_move, keep_off, seen_on
from fastnn.kernels.parking import clock, give_way, park, wake
from fastnn.kernels.team import add, read, replace, set_
from fastnn.kernels.views import array_at, call_at

__all__ = [
    "ASLEEP",
    "AWAKE",
    "BOARD",
    "IDLE",
    "LINGER",
    "MINE",
    "NUMBER",
    "STATES",
    "STATE_APART",
    "STOP",
    "WHERE",
    "finish",
    "left",
    "post",
    "serve",
    "take_part",
    "take_rows",
    "wait_for",
]

# Places on the board, int64.  What threads write to has a cache line, or two, to itself.
_APART = 16
_LOCK = 0  # 1 while a thread uses the helpers
_JOB = _APART  # the number of the job that was posted last
STOP = 2 * _APART  # 1 where all helpers are to return
_GIVEN = 3 * _APART  # the plan, then addresses and lengths of the arguments
_TAKEN = 6 * _APART  # of each phase: the job's number, and what of it is taken
_DONE = _TAKEN + _APART // 2  # of each phase: how much of it is done
STATES = _TAKEN + codes.MOST_PHASES * _APART  # of each helper
WHERE = _APART // 2  # from a helper's state to where it runs
STATE_APART = -(-(WHERE + PLACE) // _APART) * _APART
BOARD = STATES + (codes.HELPERS + 1) * STATE_APART

_TABLE, _LAYERS, _P, _SIZE, _M, _ROOM, _X, _INPUTS, _OUT, _OUTPUTS = (
    _GIVEN + codes.ANSWER_ENTRIES + place for place in range(10)
)

# States of a helper; 0 where there is none.
ASLEEP, AWAKE = 1, 2

# A helper's own numbers: the last job that it saw; which helper it is; nanoseconds for which it
# spins after a job before it sleeps, and after which it ends where there was none; its copy of the
# plan.
_SEEN, NUMBER, LINGER, IDLE, _PLAN = 0, 1, 2, 3, 8
MINE = _PLAN + codes.ANSWER_ENTRIES

_NUMBERS = (1 << 30) - 1  # of jobs, after which they begin anew
_SHIFT = 32  # of a job's number beside what is taken
_LOOKS = 200  # spins between two readings of the clock
_SOON = 20_000  # nanoseconds after which a waiting thread offers its core to others now and then
_NAP = 900_000_000  # nanoseconds after which a sleeping helper looks by itself


@kernel
def post(board: Any, table: Any, plan: Any, P: Any, room: Any, x: Any, out: Any) -> int:
    """Post a job for the helpers; return its number, or 0 where none can help now.

    Reads: the arguments of `answers.answer`.  Writes: board.
    """
    if replace(board, _LOCK, 0, 1) != 0:
        return 0
    helped = False
    for helper in range(1, plan[codes.TEAM]):
        helped = helped or read(board, STATES + helper * STATE_APART) != 0
    if not helped or read(board, STOP) != 0:
        set_(board, _LOCK, 0)
        return 0
    before = read(board, _JOB)
    job = (before & _NUMBERS) + 1
    for phase in range(max(1, plan[codes.PHASES])):
        set_(board, _DONE + phase * _APART, 0)
        set_(board, _TAKEN + phase * _APART, job << _SHIFT)
    for place in range(codes.ANSWER_ENTRIES):
        board[_GIVEN + place] = plan[place]
    board[_TABLE], board[_LAYERS] = table.ctypes.data, table.shape[0]
    board[_P], board[_SIZE] = P.ctypes.data, P.size
    board[_M], board[_ROOM] = room.ctypes.data, room.size
    board[_X], board[_INPUTS] = x.ctypes.data, x.size
    board[_OUT], board[_OUTPUTS] = out.ctypes.data, out.size
    add(board, _JOB, job - before)
    call_up(board, plan[codes.TEAM])
    return job


@kernel
def call_up(board: Any, before: int) -> None:
    """Have the helpers whose numbers are below one awake, and not on this thread's core.

    The caller has the lock.  Reads and writes: board.
    """
    here = core()
    for helper in range(1, before):
        place = STATES + helper * STATE_APART
        state = read(board, place)
        # One that sleeps would be woken here, and one that is awake may wait for this core.
        comes_here = state == ASLEEP or (state == AWAKE and seen_on(board, place + WHERE, here))
        if comes_here and here >= 0:
            keep_off(board, place + WHERE, here)
        if state == ASLEEP:
            rouse(board, place)


@kernel
def rouse(board: Any, place: int) -> None:
    """Wake the helper whose state lies at a place, if it sleeps.  Reads and writes: board."""
    if replace(board, place, ASLEEP, AWAKE) == ASLEEP:
        wake(board, place)


@kernel
def finish(board: Any) -> None:
    """Let others use the helpers: nothing of the job is left.  Writes: board."""
    set_(board, _LOCK, 0)


@kernel
def take_rows(board: Any, job: int, share: int, rows: int) -> int:
    """Take the next rows of a job; return the first one, or `rows` where none is left.

    Reads and writes: board.
    """
    word = read(board, _TAKEN)
    while word >> _SHIFT == job:
        first = word & ((1 << _SHIFT) - 1)
        if first >= rows:
            break
        found = replace(board, _TAKEN, word, word + min(share, rows - first))
        if found == word:
            return first
        word = found
    return rows


@kernel
def take_part(board: Any, job: int, phase: int, part: int) -> bool:
    """Take a part of a phase of a job, unless it is taken.  Reads and writes: board."""
    place, bit = _TAKEN + phase * _APART, 1 << part
    word = read(board, place)
    while word >> _SHIFT == job and word & bit == 0:
        found = replace(board, place, word, word | bit)
        if found == word:
            return True
        word = found
    return False


@kernel
def left(board: Any, phase: int, count: int) -> None:
    """Record that so many pieces of a phase are done.  Writes: board."""
    add(board, _DONE + phase * _APART, count)


@kernel
def wait_for(board: Any, job: int, phase: int, count: int) -> int:
    """Wait until so many pieces of a phase are done; return for how many nanoseconds.

    Returns at once where another job was posted.  Reads: board.
    """
    place = _DONE + phase * _APART
    for _ in range(_LOOKS):
        if read(board, place) >= count or read(board, _JOB) != job:
            return 0
    began = clock()
    waited = 0
    while read(board, place) < count and read(board, _JOB) == job:
        for _ in range(_LOOKS):
            if read(board, place) >= count:
                break
        waited = clock() - began
        if waited > _SOON:
            # The other thread may be on this core.
            give_way()
    return waited


def _no_twin(*arguments: Any) -> None:
    """Stand for what runs compiled only."""
    raise NotImplementedError


@intrinsic(_no_twin)
def call_answer(
    typing: Any, code: Any, table: Any, plan: Any, P: Any, room: Any, x: Any, out: Any
) -> Any:
    """Call `answers.answer` at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        call_at(context, builder, arguments[0], signature.args[1:], arguments[1:])
        return context.get_dummy_value()

    return types.void(types.int64, table, plan, P, room, x, out), generate


@kernel
def help_with(board: Any, mine: Any, number: int, vector: Any, matrix: Any) -> None:
    """Compute what there is to take of the job that is posted.

    Reads: board.  Writes: mine (MINE,), and what the pieces are.  `vector` and `matrix` are arrays
    of the kinds of the arguments, of any size.
    """
    for place in range(codes.ANSWER_ENTRIES):
        mine[_PLAN + place] = board[_GIVEN + place]
    mine[_PLAN + codes.NUMBER] = number
    mine[_PLAN + codes.JOB] = mine[_SEEN]
    # Where they divide outputs, all use one room.
    start = 0 if mine[_PLAN + codes.BY_COLUMNS] else number * mine[_PLAN + codes.STRIDE]
    call_answer(
        mine[_PLAN + codes.CODE],
        array_at(matrix, board[_TABLE], board[_LAYERS], codes.TABLE_COLUMNS),
        array_at(mine, mine.ctypes.data + 8 * _PLAN, codes.ANSWER_ENTRIES, 0),
        array_at(vector, board[_P], board[_SIZE], 0),
        array_at(vector, board[_M] + vector.itemsize * start, board[_ROOM] - start, 0),
        array_at(vector, board[_X], board[_INPUTS], 0),
        array_at(vector, board[_OUT], board[_OUTPUTS], 0),
    )


@kernel
def fall_asleep(board: Any, place: int, job: int) -> None:
    """Sleep until woken, or for a while, unless there is another job than the one given."""
    # Exchanged, not set: this and the next reading must not be reordered.
    replace(board, place, AWAKE, ASLEEP)
    if read(board, _JOB) == job and read(board, STOP) == 0:
        park(board, place, ASLEEP, _NAP)
    replace(board, place, ASLEEP, AWAKE)


@entry
def serve(board: Any, mine: Any, single: Any, double: Any, matrix: Any) -> None:
    """Help with every job that is posted, until there is none for long, or all are to end.

    Parameters
    ----------
    board : int64 (BOARD,)
        Read and written.
    mine : int64 (MINE,)
        This helper's own: its number, from 1 on, and how long it waits; else zero at first.  Number
        0 wakes all of them.
    single : float32 (1,); double : float64 (1,); matrix : int64 (1, 1)
        Stand for arrays of these types.
    """
    number = mine[NUMBER]
    if number == 0:
        for helper in range(1, codes.HELPERS + 1):
            rouse(board, STATES + helper * STATE_APART)
        return
    place = STATES + number * STATE_APART
    free_to_move(board, place + WHERE)
    set_(board, place, AWAKE)
    began = clock()
    while read(board, STOP) == 0:
        free_to_move(board, place + WHERE)
        job = mine[_SEEN]
        for _ in range(_LOOKS):
            job = read(board, _JOB)
            if job != mine[_SEEN]:
                break
        here = clock()
        if job != mine[_SEEN]:
            mine[_SEEN] = job
            if number < board[_GIVEN + codes.TEAM]:
                # As the arguments below, of this job if something is left to take.
                if board[_GIVEN + codes.ITEM] == single.itemsize:
                    help_with(board, mine, number, single, matrix)
                else:
                    help_with(board, mine, number, double, matrix)
                began = clock()
        elif here - began > mine[IDLE]:
            break
        elif here - began > mine[LINGER]:
            fall_asleep(board, place, job)
    set_(board, place, 0)
