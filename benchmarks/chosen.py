"""What the history of some commits shows (`benchmarks.history`): little, and in processor time.

The least of many calls in one thread, counted by the process's own clock: other work on the machine
hardly shows, so that commits can be measured one after the other.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fastnn as fn

from .units import unit
from .workloads import NETWORKS, WORKLOADS


def _least(work: Callable[[], object], calls: int, rounds: int = 15) -> float:
    """Return the processor time of a call, the least of some rounds."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            work()
        found.append((time.process_time() - began) / calls)
    return min(found)


class Chosen:
    """An epoch of some workloads and one row of some networks, in float32."""

    params = ("8-32-32-1 b32", "64-100-10 b200", "784-128-10 b128", "784-512-512-10 b128")
    param_names = ("workload",)
    timeout = 600

    def setup(self, name: str) -> None:
        workload = WORKLOADS[name]
        self.net = workload.network("float32")
        X, y = workload.data("float32")
        self.epoch: Callable[[], object] = lambda: workload.epochs(self.net, X, y, threads=1)
        # The first call compiles.
        self.epoch()

    @unit("s")
    def track_epoch(self, name: str) -> float:
        return _least(self.epoch, 3)


class ChosenRow:
    """One row by ``net(x)``, in float32."""

    params = ("8-64-64-2", "64-256-256-10")
    param_names = ("network",)
    timeout = 600

    def setup(self, name: str) -> None:
        self.net = NETWORKS[name].network("float32")
        self.row = NETWORKS[name].data("float32")[0][0].copy()
        self.net(self.row)

    @unit("s")
    def track_row(self, name: str) -> float:
        return _least(lambda: self.net(self.row), 5000)


class ChosenImport:
    """``import fastnn`` in a new process, all that Python does before included."""

    params: tuple[str, ...] = ()
    param_names: tuple[str, ...] = ()

    @unit("s")
    def track_import(self) -> float:
        found = []
        # asv takes the path away from new processes.
        here = {**os.environ, "PYTHONPATH": str(Path(fn.__file__).parents[1])}
        for _ in range(7):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-P", "-c", "import fastnn"], env=here, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(found)
