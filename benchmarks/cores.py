"""Which processor cores a measurement runs on, and how a process is pinned to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastnn.machine.system import usable_cores

__all__ = ["THREADS", "keep_to", "kept_to", "physical_cores"]

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def physical_cores() -> list[int]:
    """Return one logical core for each physical core that this process may use.

    Two hardware threads of one core share its multiply-add units, so that for computing they are
    one core.
    """
    if not hasattr(os, "sched_getaffinity"):
        return list(range(usable_cores()))
    chosen: dict[str, int] = {}
    for core in sorted(os.sched_getaffinity(0)):
        siblings = Path(_TOPOLOGY.format(core))
        name = siblings.read_text() if siblings.exists() else str(core)
        chosen.setdefault(name, core)
    return list(chosen.values())[: usable_cores()]


def keep_to(cores: list[int]) -> None:
    """Pin this thread, and the threads and processes that it starts, to cores, where possible."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


@contextmanager
def kept_to(cores: list[int]) -> Iterator[None]:
    """Pin this thread and what it starts to cores for a while."""
    before = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    keep_to(cores)
    try:
        yield
    finally:
        if before:
            keep_to(before)


#: Numbers of threads that suites are run with: one, and as many as there are cores.
THREADS = sorted({1, len(physical_cores())})
