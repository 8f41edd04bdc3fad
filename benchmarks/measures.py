"""What the suites share: the best time of a call, and a rate as a fraction of the measured peak."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from .peak import fma_peak

__all__ = ["best_seconds", "share_of_peak"]

# Seconds of a run, at least; how many runs, and how long all of them may take.
_RUN, _RUNS, _ALL = 0.01, 7, 0.5


def best_seconds(work: Callable[[], Any]) -> float:
    """Return the time of a call, the best of several runs: noise only ever slows down.

    A run is as many calls as fill a hundredth of a second; there are at least two.
    """
    gc.collect()
    gc.disable()
    try:
        calls = 1
        while (seconds := _seconds(work, calls)) < _RUN:
            calls *= 2
        runs = max(1, min(_RUNS, int(_ALL / seconds)))
        return min([seconds, *(_seconds(work, calls) for _ in range(runs))]) / calls
    finally:
        gc.enable()


def share_of_peak(flops: float, work: Callable[[], Any], dtype: str, threads: int) -> float:
    """Return the rate of a call in percent of the multiply-add peak, measured before and after."""
    before = fma_peak(dtype, threads)
    rate = flops / best_seconds(work)
    return 100.0 * rate / max(before, fma_peak(dtype, threads))


def _seconds(work: Callable[[], Any], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        work()
    return time.perf_counter() - began
