"""Helpers of predictions: what they compute is the same, and nobody waits for one that is away."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn.kernels import codes, cores
from fastnn.kernels import crew as board_of
from fastnn.kernels._jit import entry
from fastnn.machine.crew import Crew, crew
from fastnn.machine.system import CORE_FUNCTION, FUTEX_CALL, current_core

PATIENCE = 60.0


class Calm:
    """A machine on which nothing else runs."""

    def limit(self, most):
        return most

    def disturbed(self, *what):
        pass


@pytest.fixture(autouse=True)
def eager(monkeypatch, tuned):
    """Let as many threads as are set take part, however little there is to do."""
    monkeypatch.setattr("fastnn.predicting.predictor.company", Calm())
    monkeypatch.setattr("fastnn.machine.threads.usable_cores", lambda: 64)
    tuned(helper_share=1e-9, awake_share=1e-9)
    everywhere = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    # Of other tests some may be left, which end only after a while.
    crew.dismiss()
    yield
    fn.set_threads(None)
    crew.dismiss()
    assert not crew._serving
    assert not hasattr(os, "sched_getaffinity") or os.sched_getaffinity(0) == everywhere


def network(widths, activations, dtype, inputs=131):
    layers = [fn.Dense(w, f) for w, f in zip(widths, activations, strict=True)]
    net = fn.Sequential(layers, inputs=inputs, dtype=dtype, rng=0)
    net.parameters[:] += 0.01 * np.random.default_rng(1).normal(size=net.parameters.size)
    return net


NETWORKS = {
    "wide": ((150, 203, 10), ("relu", "tanh", "softmax")),
    "one": ((211,), ("softmax",)),
    "wide at the end": ((130, 3, 170), ("sigmoid", "relu", "softmax")),
    "softmax inside": ((160, 140, 7), ("softmax", "gelu", "identity")),
    "far": ((700, 600, 5), ("relu", "relu", "identity")),
    "far, rows in one set of the cache": ((1024, 1024, 5), ("tanh", "relu", "identity")),
}


@pytest.mark.jit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_any_number_of_threads_gives_the_same_bits(name, dtype):
    net = network(*NETWORKS[name], dtype)
    X = np.random.default_rng(0).normal(size=(300, 131)).astype(dtype)
    frozen = net.freeze()
    half = net.freeze(weights="bfloat16") if dtype == "float32" else frozen
    counts = (1, 2, 4, 5, 7, 16, 17, 63, 64, 65, 131, 300)
    fn.set_threads(1)
    alone = {count: net(X[:count].copy()).tobytes() for count in counts}
    halves = {count: half(X[:count].copy()).tobytes() for count in counts}
    row = net(X[0].copy()).tobytes()
    for threads in (2, 3, 5):
        fn.set_threads(threads)
        for count in counts:
            some = X[:count].copy()
            for _ in range(3):
                assert net(some).tobytes() == alone[count]
                assert frozen(some).tobytes() == alone[count]
                assert half(some).tobytes() == halves[count]
            assert net(X[0].copy()).tobytes() == row
        assert set(crew._serving) == set(range(1, threads))


def asleep_at(number):
    """Wait until a helper sleeps."""
    began = time.monotonic()
    place = board_of.STATES + number * board_of.STATE_APART
    while crew._board[place] != board_of.ASLEEP and time.monotonic() < began + PATIENCE:
        time.sleep(0.001)
    return crew._board[place] == board_of.ASLEEP


def helpers_may_use(some):
    """Return whether there are helpers, and all of them may run on these cores and no others."""
    found = [os.sched_getaffinity(thread.native_id) for thread in crew._serving.values()]
    return found == [some] * max(1, len(found))


@pytest.mark.jit
@pytest.mark.skipif(not FUTEX_CALL, reason="no thread sleeps until it is woken")
def test_a_helper_sleeps_when_nothing_comes_and_is_woken_for_large_calls_only(tuned):
    net = network(*NETWORKS["wide"], "float32")
    X = np.ones((40, 131), np.float32)
    fn.set_threads(2)
    net(X), net(X)
    assert asleep_at(1)
    assert crew.awake() == 0
    tuned(helper_share=1e15, linger=0.0)
    before = crew._board[board_of._JOB]
    net(X), net(X)
    # Nothing is posted where nobody comes.
    assert crew._board[board_of._JOB] == before
    tuned(helper_share=1e-9)
    net(X)
    assert crew._board[board_of._JOB] == before + 1


@pytest.mark.jit
def test_a_helper_ends_when_nothing_comes_for_long(tuned):
    tuned(helper_share=1e-9, awake_share=1e-9, idle=0.01, linger=0.001)
    net = network(*NETWORKS["wide"], "float32")
    X = np.ones((40, 131), np.float32)
    fn.set_threads(2)
    expected = net(X).tobytes()
    net(X)
    began = time.monotonic()
    while crew._serving and time.monotonic() < began + PATIENCE:
        time.sleep(0.01)
    assert not crew._serving
    assert net(X).tobytes() == expected


@pytest.mark.jit
def test_a_helper_that_does_not_come_is_not_waited_for(monkeypatch):
    """One that is awake by its state, but has lost its core."""
    net = network(*NETWORKS["wide"], "float32")
    monkeypatch.setattr(crew, "_start", lambda most: None)
    fn.set_threads(1)
    calls = [np.ones((count, 131), np.float32) for count in (1, 5, 40, 100)]
    expected = [net(X).tobytes() for X in calls]
    fn.set_threads(3)
    place = crew.address and board_of.STATES + board_of.STATE_APART
    crew._board[place] = board_of.AWAKE
    try:
        net(calls[0])
        before = int(crew._board[board_of._JOB])
        assert [net(X).tobytes() for X in calls] == expected
        assert crew._board[board_of._JOB] == before + len(calls)
    finally:
        crew._board[place] = 0


@entry
def kept_off(board, place, core):
    cores.keep_off(board, place, core)


@entry
def freed(board, place):
    cores.free_to_move(board, place)


@entry
def seen_on(board, place, core):
    return cores.seen_on(board, place, core)


class Sleeper:
    """A thread that does nothing until it shall move freely again."""

    def __init__(self, record):
        self.record, self.sleeping, self.go = record, threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        assert self.sleeping.wait(PATIENCE)

    def run(self):
        self.record[3 + cores.THREAD] = self.number = threading.get_native_id()
        self.sleeping.set()
        assert self.go.wait(PATIENCE)
        freed(self.record, 3)
        self.allowed, self.core = os.sched_getaffinity(0), current_core()

    def end(self):
        self.go.set()
        self.thread.join(PATIENCE)


@pytest.mark.jit
@pytest.mark.skipif(not CORE_FUNCTION, reason="threads are not moved here")
def test_a_thread_is_kept_off_a_core_until_it_moves_freely_again():
    everywhere = os.sched_getaffinity(0)
    record = np.zeros(3 + cores.PLACE, np.int64)
    sleeper = Sleeper(record)
    taken = max(everywhere)
    try:
        for _ in range(2):
            # The second time it is kept off already.
            kept_off(record, 3, taken)
            left = os.sched_getaffinity(sleeper.number)
            assert left == (everywhere - {taken} or everywhere)
            assert os.sched_getaffinity(0) == everywhere
    finally:
        sleeper.end()
    assert sleeper.allowed == everywhere
    # It may have moved since.
    assert [core for core in range(-1, 1024) if seen_on(record, 3, core)] == [
        record[3 + cores._CORE]
    ]
    assert record[3 + cores._CORE] in everywhere


@pytest.mark.jit
@pytest.mark.skipif(not CORE_FUNCTION, reason="threads are not moved here")
def test_a_thread_without_another_core_stays():
    before = os.sched_getaffinity(0)
    only = {max(before)}
    try:
        os.sched_setaffinity(0, only)
        record = np.zeros(3 + cores.PLACE, np.int64)
        sleeper = Sleeper(record)
        kept_off(record, 3, max(only))
        assert os.sched_getaffinity(sleeper.number) == only
        sleeper.end()
        assert sleeper.allowed == only
        assert seen_on(record, 3, max(only))
        # Nor does one that has ended matter.
        kept_off(record, 3, max(only))
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.jit
@pytest.mark.skipif(not CORE_FUNCTION, reason="threads are not moved here")
def test_a_thread_that_is_not_known_or_was_another_ones_is_left_alone():
    everywhere = os.sched_getaffinity(0)
    record = np.zeros(3 + cores.PLACE, np.int64)
    kept_off(record, 3, max(everywhere))
    assert os.sched_getaffinity(0) == everywhere
    # Its predecessor was kept off a core, and has ended.
    sleeper = Sleeper(record)
    kept_off(record, 3, max(everywhere))
    if len(everywhere) > 1:
        assert record[3 + cores._KEPT_OFF] == sleeper.number
    record[3 + cores.THREAD] = threading.get_native_id()
    record[3 + cores._BEFORE] = 1 << min(everywhere)
    freed(record, 3)
    assert os.sched_getaffinity(0) == everywhere
    record[3 + cores._BEFORE] = 0
    sleeper.end()


@pytest.mark.jit
@pytest.mark.skipif(not CORE_FUNCTION, reason="threads are not moved here")
def test_helpers_begin_with_the_cores_that_the_process_has_then():
    net = network(*NETWORKS["wide"], "float32")
    X = np.ones((40, 131), np.float32)
    fn.set_threads(2)
    everywhere = os.sched_getaffinity(0)
    net(X), net(X)
    assert asleep_at(1)
    # Woken to end, as for a fork.
    crew.dismiss()
    try:
        os.sched_setaffinity(0, {max(everywhere)})
        net(X), net(X)
        assert asleep_at(1)
        assert helpers_may_use({max(everywhere)})
        crew.dismiss()
    finally:
        os.sched_setaffinity(0, everywhere)
    net(X), net(X)
    assert asleep_at(1)
    assert helpers_may_use(everywhere)


@pytest.mark.jit
@pytest.mark.skipif(not CORE_FUNCTION, reason="threads are not moved here")
def test_helpers_that_were_woken_may_run_anywhere_again():
    net = network(*NETWORKS["wide"], "float32")
    X = np.ones((40, 131), np.float32)
    fn.set_threads(3)
    everywhere = os.sched_getaffinity(0)
    net(X), net(X)
    for _ in range(3):
        assert all(map(asleep_at, (1, 2)))
        net(X)
        assert all(map(asleep_at, (1, 2)))
        assert helpers_may_use(everywhere)


@pytest.mark.jit
def test_several_callers_at_once_get_what_one_gets():
    net = network(*NETWORKS["wide"], "float32")
    fn.set_threads(1)
    calls = [np.full((count, 131), 0.1 * count, np.float32) for count in (3, 40, 100, 64)]
    expected = [net(X).tobytes() for X in calls]
    fn.set_threads(2)
    wrong = []

    def ask(X, bits):
        for _ in range(200):
            if net(X).tobytes() != bits:
                wrong.append(len(X))

    threads = [
        threading.Thread(target=ask, args=pair) for pair in zip(calls, expected, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.jit
def test_where_the_system_gives_no_thread_the_asking_one_does_all(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    net = network(*NETWORKS["wide"], "float32")
    X = np.ones((40, 131), np.float32)
    fn.set_threads(1)
    expected = net(X).tobytes()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    fn.set_threads(4)
    for _ in range(3):
        assert net(X).tobytes() == expected
    assert not crew._serving


def test_a_crew_that_was_closed_starts_nobody(monkeypatch):
    started = []
    monkeypatch.setattr(Crew, "_start", lambda self, most: started.append(most))
    some = Crew()
    some.ready(3)
    some.close()
    some.ready(3)
    assert started == [2]


def test_small_calls_that_come_seldom_are_not_worth_a_helper(tuned):
    some = Crew()
    tuned(linger=60.0)
    assert not some.worth(large=False)
    assert some.worth(large=False)
    tuned(linger=0.0)
    assert not some.worth(large=False)
    assert some.worth(large=True)


def test_calls_follow_each_other_closely_however_long_they_take(tuned, monkeypatch):
    moment = [100.0]
    monkeypatch.setattr("fastnn.machine.crew.time.perf_counter", lambda: moment[0])
    tuned(linger=0.5)
    some = Crew()
    some.worth(large=False)
    moment[0] += 2.0
    some.done()
    moment[0] += 0.4
    assert some.worth(large=False)
    moment[0] += 0.6
    assert not some.worth(large=False)


PROCESS = """
import os, sys, threading
import numpy as np
import fastnn as fn
from fastnn.predicting import predictor
from fastnn.machine.crew import crew
predictor.company.limit = lambda most: most
fn.machine.threads.usable_cores = lambda: 2
net = fn.Sequential([fn.Dense(700, "relu"), fn.Dense(700, "relu")], inputs=300, rng=0)
X = np.ones((200, 300), np.float32)
expected = net(X).tobytes()
def helped():
    return all(net(X).tobytes() == expected for _ in range(50)) and len(crew._serving) == 1
assert helped()
if sys.argv[1] == "fork":
    child = os.fork()
    if child == 0:
        os._exit(0 if threading.active_count() == 1 and helped() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert helped()
print("fine")
"""


@pytest.mark.jit
@pytest.mark.parametrize("what", ["end", "fork"])
def test_processes_end_and_fork_with_helpers(what):
    if what == "fork" and not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROCESS, what],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert (found.returncode, found.stdout, found.stderr) == (0, "fine\n", "")


# The board.


@entry
def took_rows(board, job, share, rows):
    return board_of.take_rows(board, job, share, rows)


@entry
def took_part(board, job, phase, part):
    return board_of.take_part(board, job, phase, part)


def posted(job, phases=2):
    board = np.zeros(board_of.BOARD, np.int64)
    for phase in range(phases):
        board[board_of._TAKEN + phase * board_of._APART] = job << board_of._SHIFT
    return board


def test_rows_are_taken_once_in_order_and_by_the_job_that_is_posted():
    board = posted(7)
    assert took_rows(board, 6, 8, 20) == 20
    assert [took_rows(board, 7, 8, 20) for _ in range(4)] == [0, 8, 16, 20]
    assert took_rows(board, 8, 8, 20) == 20


def test_parts_are_taken_once_and_by_the_job_that_is_posted():
    board = posted(7)
    assert not took_part(board, 6, 0, 1)
    assert [took_part(board, 7, 0, part) for part in (1, 0, 1, 0)] == [True, True, False, False]
    assert took_part(board, 7, 1, 1)
    assert not took_part(board, 8, 1, 0)


def test_the_board_has_room_for_all_helpers_and_phases():
    assert board_of._TAKEN >= board_of._OUTPUTS + 1
    last = board_of._DONE + (codes.MOST_PHASES - 1) * board_of._APART
    assert last < board_of.STATES
    assert board_of.STATES + codes.HELPERS * board_of.STATE_APART < board_of.BOARD
    assert board_of.WHERE + cores.PLACE <= board_of.STATE_APART
    assert board_of.STATES + (codes.HELPERS + 1) * board_of.STATE_APART <= board_of.BOARD
    assert codes.LARGEST_TEAM < board_of._SHIFT


def test_threads_of_other_libraries_that_wait_do_not_count(monkeypatch):
    some = Crew()
    told = {"free": 1, "running": 2, "python": 1}
    monkeypatch.setattr("fastnn.machine.crew.free_cores", lambda idle: told["free"])
    monkeypatch.setattr("fastnn.machine.crew.running_threads", lambda: told["running"])
    monkeypatch.setattr("threading.active_count", lambda: told["python"])
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert some.free() == 2
    told["running"] = 9
    assert some.free() == 4
    # Another thread runs Python, and may have given them work.
    told["python"] = 2
    assert some.free() == 1
    for free in (None, 4):
        told["free"] = free
        assert some.free() is free
