"""What every test runs under: no trace left behind, and no compiler where there is none."""

from __future__ import annotations

import contextlib
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fastnn.tuning import tuning

# The same examples in every run, whatever the machine is busy with; a search with fresh ones is
# `python -m pytest --hypothesis-profile=search`.
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile(
    "search", settings.get_profile("repeatable"), derandomize=False, max_examples=5_000
)
settings.load_profile("repeatable")

# Rooms whose tests together take less than a minute, compiling included; `-m quick` runs them.
QUICK = {
    "callbacks", "conventions", "diagnosis", "documents", "gate", "history", "layers", "layout",
    "metrics", "names", "narrow", "network", "progress", "reference", "safetensors", "saving",
    "schedules", "subnormals", "system", "tables", "versions", "worked_example",
}  # fmt: skip


def pytest_collection_modifyitems(items):
    """Mark the quick rooms; skip what needs compiled kernels where the compiler is off."""
    for item in items:
        if item.path.stem.removeprefix("test_") in QUICK and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.quick)
    if os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0"):
        return
    for item in items:
        if item.get_closest_marker("jit"):
            item.add_marker(pytest.mark.skip(reason="needs compiled kernels"))


@pytest.fixture
def tuned():
    """Return what puts figures of `Tuning` in force, as `tuning` does, until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda *record, **figures: stack.enter_context(tuning(*record, **figures))


@pytest.fixture(autouse=True)
def nothing_global_changes(request):
    """Hold that NumPy's settings are the caller's, whatever a test does with the library."""
    before = _global_state()
    yield
    after = _global_state()
    assert after[1:] == before[1:]
    if not request.node.get_closest_marker("global_random"):
        assert after[0] == before[0]


def _global_state():
    """Return what belongs to the whole process and is not the library's to change."""
    kind, keys, *rest = np.random.get_state()
    return (kind, keys.tobytes(), *rest), np.geterr(), np.get_printoptions()
