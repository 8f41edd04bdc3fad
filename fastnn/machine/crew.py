"""Threads that predictions keep, awake for a moment after each, asleep then (`kernels.crew`).

Starting a thread takes as long as predicting 64 rows with a network of some width; one that sleeps
begins after some 20 microseconds, one that is awake after a fraction of one.  A helper runs
no Python for a prediction, and no prediction waits for a helper that has not come.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import tuning
from fastnn.layout import aligned_zeros
from fastnn.machine.system import FUTEX_CALL, free_cores, running_threads
from fastnn.machine.threads import Crowd, crowd

__all__ = ["Crew", "company", "crew"]

# Seconds that a fork, or the end of the process, waits for a helper that is at work.
_PATIENCE = 1.0


class Crew:
    """The helpers of this process, and the board on which predictions are posted for them.

    Examples
    --------
    >>> some = Crew()
    >>> some.awake()
    0
    """

    def __init__(self) -> None:
        self._board: NDArray[np.int64] | None = None
        self._serving: dict[int, threading.Thread] = {}
        self._last = -math.inf
        self._closed = False

    @property
    def address(self) -> int:
        """Where the board is, for the plan of a prediction; it stays there."""
        if self._board is None:
            from fastnn.kernels.crew import BOARD

            board: NDArray[Any] = aligned_zeros(BOARD, np.int64)
            self._board = board
            # Compiles, here and not in a helper.
            self._rouse(board)
        return int(self._board.ctypes.data)

    def worth(self, large: bool) -> bool:
        """Note that a prediction comes, and say whether asking the helpers would pay.

        Where it is small, and none came shortly before, they sleep, and waking them would take
        longer than it gains.

        Parameters
        ----------
        large : bool
            Whether the prediction takes longer than waking.
        """
        now = time.perf_counter()
        often = now - self._last < tuning.current.linger
        self._last = now
        return often or large

    def done(self) -> None:
        """Note that a prediction ends: what counts is how closely the next one follows it."""
        self._last = time.perf_counter()

    def ready(self, size: int) -> None:
        """Prepare for a prediction by so many threads, the calling one included."""
        if len(self._serving) < size - 1 and not self._closed:
            self._start(size - 1)

    def awake(self) -> int:
        """Count the helpers that are awake, which run on a core even if they have nothing to do."""
        if not self._serving or self._board is None:
            return 0
        from fastnn.kernels.crew import AWAKE, STATE_APART, STATES

        states = self._board[STATES::STATE_APART]
        return int(np.count_nonzero(states == AWAKE))

    def free(self) -> int | None:
        """Count the cores that a prediction may use; see `free_cores`.

        Those on which threads of other libraries in this process run count as free, where no other
        thread runs Python: such threads wait for the next product of the thread that predicts, as
        BLAS libraries let theirs do for a while, and offer their core again and again.
        """
        awake = self.awake()
        free, cores = free_cores(idle=awake), os.cpu_count()
        if free is None or cores is None or free >= cores:
            return free
        if threading.active_count() > 1 + len(self._serving):
            return free
        return min(free + max(0, running_threads() - 1 - awake), cores)

    def dismiss(self) -> None:
        """Have all helpers end, and wait for them; others start when they are needed."""
        board = self._board
        if board is None or not self._serving:
            return
        from fastnn.kernels.crew import STOP

        board[STOP] = 1
        self._rouse(board)
        for thread in list(self._serving.values()):
            if thread.ident is not None:
                thread.join(_PATIENCE)
        board[STOP] = 0

    def close(self) -> None:
        """Have all helpers end at the end of the process, and start no others."""
        self._closed = True
        self.dismiss()

    def forget(self) -> None:
        """Begin anew, in a process that was forked off: threads stay behind."""
        self._serving = {}
        if self._board is not None:
            self._board[:] = 0

    def _rouse(self, board: NDArray[np.int64]) -> None:
        """Wake all that sleep."""
        self._serve(board, 0)

    def _start(self, most: int) -> None:
        """Start helpers until there are so many, or as many as the system gives."""
        board = self._board
        for number in range(1, most + 1):
            if number in self._serving:
                continue
            thread = threading.Thread(
                target=self._help, args=(board, number), name="fastnn helper", daemon=True
            )
            if self._serving.setdefault(number, thread) is not thread:
                continue
            try:
                with contextlib.suppress(RuntimeError, MemoryError):
                    thread.start()
            finally:
                if thread.ident is None:
                    self._serving.pop(number, None)

    def _help(self, board: NDArray[np.int64], number: int) -> None:
        """Be a helper."""
        from fastnn.kernels.cores import THREAD
        from fastnn.kernels.crew import STATE_APART, STATES, WHERE

        try:
            board[STATES + number * STATE_APART + WHERE + THREAD] = threading.get_native_id()
            self._serve(board, number)
        finally:
            self._serving.pop(number, None)

    def _serve(self, board: NDArray[np.int64], number: int) -> None:
        """Run the kernel of a helper until it shall end; number 0 wakes all others."""
        from fastnn.kernels.crew import IDLE, LINGER, MINE, NUMBER, serve

        figures = tuning.current
        mine: NDArray[Any] = aligned_zeros(MINE, np.int64)
        mine[NUMBER] = number
        mine[LINGER] = int(1e9 * figures.linger)
        # Where nothing wakes a thread, it would look again and again.
        mine[IDLE] = int(1e9 * figures.idle) if FUTEX_CALL else mine[LINGER]
        serve(board, mine, np.zeros(1, np.float32), np.zeros(1), np.zeros((1, 1), np.int64))


#: The helpers of this process.
crew = Crew()

crowd.count = lambda: free_cores(idle=crew.awake())

#: What this process has observed of other load on the cores where it predicts.
company = Crowd(lambda: crew.free(), brief=True)

atexit.register(crew.close)
if hasattr(os, "register_at_fork"):
    # A fork of a process of several threads gets a warning from Python 3.12 on.
    os.register_at_fork(before=crew.dismiss, after_in_child=crew.forget)
