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

# Rooms whose tests together take less than a minute, compiling of one dtype included; `-m quick`
# runs them.
QUICK = {
    "callbacks", "documents", "gate", "history", "layers", "layout", "metrics", "names", "network",
    "policy", "progress", "reference", "safetensors", "saving", "schedules", "system", "tables",
    "versions",
}  # fmt: skip

# What takes seconds in these rooms: campaigns that damage files, and compiling the second dtype.
NOT_QUICK = {
    "test_a_fit_asks_for_every_step_once_the_epoch_before_is_recorded",
    "test_a_plateau_lowers_the_rate_by_what_the_fit_records",
    "test_a_rate_of_zero_leaves_the_weights_and_a_factor_is_a_smaller_rate",
    "test_a_scheduled_fit_is_the_reference_s",
    "test_a_scheduled_fit_that_diverges_goes_back_to_before_the_step",
    "test_an_activation_may_ask_for_z",
    "test_every_cut_is_noticed",
    "test_every_damaged_byte_is_noticed",
    "test_mutated_files_are_refused",
    "test_mutated_files_without_checksums_never_raise_anything_else",
    "test_small_signals_and_gradients_keep_their_size_through_24_layers",
    "test_whatever_the_workspace_held_does_not_matter",
}


def pytest_ignore_collect(collection_path, config):
    """Leave the other rooms' files unread for `-m quick`: to collect them takes ten seconds."""
    stem = collection_path.stem
    others = stem.startswith("test_") and stem.removeprefix("test_") not in QUICK
    return True if others and config.option.markexpr == "quick" else None


def pytest_collection_modifyitems(items):
    """Mark the quick rooms; skip what needs compiled kernels where the compiler is off."""
    for item in items:
        if (
            item.path.stem.removeprefix("test_") in QUICK
            and getattr(item, "originalname", None) not in NOT_QUICK
            and not item.get_closest_marker("slow")
        ):
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
