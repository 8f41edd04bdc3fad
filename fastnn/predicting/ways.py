"""Which of two ways to compute the same has been the faster, by the size of the work.

On one processor packing all weights pays from a hundred rows on, on another from a thousand, and
for some widths never.  As both ways give the same bits, they can be timed while they work.
"""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["Ways"]

# Times that each way is taken before the faster one is kept, and calls for which it is kept: the
# moment may have been bad.  A hundredth of all calls then go the slower way.
_TRIALS = 3
_KEPT = 300


class Ways:
    """The times of two ways, 0 and 1, for each kind of work.

    Way 0 is tried first.  Several threads may use one; at worst a trial is repeated.

    Examples
    --------
    >>> ways, seconds = Ways(), (0.3, 0.2)
    >>> def call():
    ...     way = ways.choose("a kind")
    ...     ways.note("a kind", way, seconds[way])
    ...     return way
    >>> [call() for _ in range(9)]
    [0, 1, 0, 1, 0, 1, 1, 1, 1]
    """

    def __init__(self) -> None:
        self._timed: dict[Hashable, tuple[list[float], list[float]]] = {}
        self._chosen: dict[Hashable, list[int]] = {}  # the way, and for how many calls yet

    def choose(self, kind: Hashable) -> int:
        """Return the way to take for work of a kind: the one that is tried, or the faster one."""
        chosen = self._chosen.get(kind)
        if chosen is not None and chosen[1] > 0:
            chosen[1] -= 1
            return chosen[0]
        self._chosen.pop(kind, None)
        first, second = self._timed.get(kind, ((), ()))
        return int(len(second) < len(first))

    def need(self, way: int) -> bool:
        """Return whether a way is kept for some kind, or is on trial."""
        return bool(self._timed) or any(kept[0] == way for kept in list(self._chosen.values()))

    def note(self, kind: Hashable, way: int, seconds: float) -> None:
        """Record how long a way took for work of a kind, for a unit of it."""
        if kind in self._chosen:
            return
        timed = self._timed.setdefault(kind, ([], []))
        timed[way].append(seconds)
        if min(map(len, timed)) >= _TRIALS:
            best = [min(some) for some in timed]
            self._chosen[kind] = [int(best[1] < best[0]), _KEPT]
            self._timed.pop(kind, None)
