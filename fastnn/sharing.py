"""What threads share of a network: the state that was shown last.

One thread at a time writes a vector of parameters, any number of threads read it.  Readers never
block each other or the writer: a reader that was overtaken by the writer detects that afterwards,
and reads again from a consistent copy.

CPython handles signals and switches threads after calls and in loops only.  Code that Ctrl-C must
not split is therefore straight-line code without a call, here and where the turn is used.

Source: a sequence lock; Boehm 2012, Can seqlocks get along with programming language memory
models?
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shown", "next_turn", "this_thread"]

Floats = NDArray[np.floating]
Answer = TypeVar("Answer")

_TURNS = itertools.count(1)

# Seconds between two looks at a vector that is being written.
_PAUSE = 2e-5


def next_turn() -> int:
    """Return a number that no state of any vector has had in this process.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> next_turn() < next_turn()
    True
    """
    return next(_TURNS)


def this_thread() -> tuple[int, int]:
    """Return what identifies this thread, in this process and its forks.

    Returns
    -------
    tuple of int
        The system's number of the process, Python's of the thread.

    Examples
    --------
    >>> this_thread() == this_thread()
    True
    """
    return os.getpid(), threading.get_ident()


class Shown:
    """Tells readers of a vector whether it was written to while they read it.

    Attributes
    ----------
    turn : int
        Number of the state that is shown; 0 while one is being written.  A reader that finds the
        same number, not 0, before and after has read that state and no other.
    writer : tuple of int
        The thread that writes, or wrote last; see `this_thread`.

    Examples
    --------
    >>> vector, shown = np.ones(3), Shown()
    >>> shown.write(lambda: vector.fill(2.0))
    >>> float(shown.read(np.sum, vector))
    6.0
    """

    __slots__ = ("turn", "writer")

    def __init__(self) -> None:
        self.turn = next_turn()
        self.writer = this_thread()

    def write(self, store: Callable[[], object]) -> None:
        """Show a new state.

        Parameters
        ----------
        store : callable
            Writes it, in one call of compiled code, which no signal interrupts.
        """
        turn, writer = next_turn(), this_thread()
        try:
            self.writer = writer
            self.turn = 0
            store()
        finally:
            self.turn = turn

    def read(self, ask: Callable[[Floats], Answer], vector: Floats) -> Answer:
        """Return the result of a function of the vector for one consistent state of it.

        Parameters
        ----------
        ask : callable
            Called once with the vector, and once more with a copy should a writer overtake it.
        vector : ndarray
            What is shown.

        Returns
        -------
        object
            What the function returned.
        """
        turn = self.turn
        if turn:
            answer = ask(vector)
            if self.turn is turn:
                return answer
        return ask(self.copied(vector.copy))

    def copied(self, copy: Callable[[], Answer]) -> Answer:
        """Return a copy of one state, waiting for a writer that is at work.

        Parameters
        ----------
        copy : callable
            Makes a copy; called again where a writer overtook it.

        Returns
        -------
        object
            What the function returned.
        """
        while True:
            turn = self.turn
            if not turn and self._unfinished():
                return copy()
            if turn:
                found = copy()
                if self.turn is turn:
                    return found
            time.sleep(_PAUSE)

    def _unfinished(self) -> bool:
        """Return whether waiting for the writer would never end.

        It may be this very thread, whose signal handler reads, or a thread of the parent process
        that does not exist after a fork.
        """
        process, thread = self.writer
        mine = this_thread()
        return process != mine[0] or thread == mine[1]
