"""A busy machine, and an idle one: the time with the default number of threads, relative to one.

A fit and a prediction, alternating with ``threads=1``, while so many other processes run empty
loops; the ratio of the medians.  1 is as fast as one thread there.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import fastnn as fn

from .units import unit
from .workloads import NETWORKS, WORKLOADS

_FITS = ["8-32-32-1 b32", "64-100-10 b200", "784-128-10 b128", "4-32-16-4 tanh full"]
# Networks and rows.
_PREDICTIONS = {name: (name, 10_000) for name in NETWORKS} | {
    f"784-512-512-10, {rows} rows": ("784-512-512-10", rows) for rows in (16, 1000)
}

# Seconds for both numbers of threads together, and rounds at least.
_SECONDS, _ROUNDS = 3.0, 5


class Busy:
    """Other busy processes, and the library's work at the same time."""

    params = ([0, 1, 2, 4], [*_FITS, *_PREDICTIONS])
    param_names = ("processes", "work")
    timeout = 300

    def setup(self, processes: int, work: str) -> None:
        self.loops: list[subprocess.Popen[bytes]] = []
        self.ask = _fit(work) if work in _FITS else _prediction(work)
        # The first call compiles.
        self.ask(1)
        for _ in range(processes):
            self.loops.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))

    def teardown(self, processes: int, work: str) -> None:
        for loop in self.loops:
            loop.kill()
            loop.wait()

    @unit("times the time of one thread")
    def track_default_threads(self, processes: int, work: str) -> float:
        taken: dict[int | None, list[float]] = {1: [], None: []}
        until = time.perf_counter() + _SECONDS
        while len(taken[1]) < _ROUNDS or time.perf_counter() < until:
            for threads, seconds in taken.items():
                began = time.perf_counter()
                self.ask(threads)
                seconds.append(time.perf_counter() - began)
        return statistics.median(taken[None]) / statistics.median(taken[1])


def _fit(work: str) -> Callable[[int | None], Any]:
    """Return what fits ten epochs in so many threads."""
    workload = WORKLOADS[work]
    net, (X, y) = workload.network(), workload.data()
    return lambda threads: workload.epochs(net, X, y, epochs=10, threads=threads)


def _prediction(work: str) -> Callable[[int | None], Any]:
    """Return what predicts some rows in so many threads."""
    name, rows = _PREDICTIONS[work]
    workload = NETWORKS[name]
    net, X = workload.network(), workload.data()[0][:rows].copy()

    def predict(threads: int | None) -> None:
        fn.set_threads(threads)
        with contextlib.ExitStack() as ends:
            ends.callback(fn.set_threads, None)
            net(X)

    return predict
