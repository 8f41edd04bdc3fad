"""Threads: the same bits for any number of them, their limits, and that none is left behind."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cases import DTYPES, JIT, RULES, Shape, data, network, through

import fastnn as fn
from fastnn import layout
from fastnn.fitting import runs
from fastnn.kernels import team
from fastnn.kernels._jit import entry
from fastnn.layout import Program
from fastnn.machine import threads
from fastnn.machine.crew import crew
from fastnn.machine.system import current_core
from fastnn.machine.threads import (
    Crowd,
    Outcome,
    ThreadTuner,
    ceiling,
    crowd,
    fitting,
    set_threads,
    together,
)  # fmt: skip
from fastnn.tuning import Tuning

VARIABLES = ("FASTNN_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")

# Batches of many tiles, whose last one is short.
SHAPE = Shape(131, 5, 17, 3, 3) if JIT else Shape(19, 3, 3, 2, 2)
BATCH = 57 if JIT else 11
NUMBERS = (1, 2, 3, 4, 8) if JIT else (1, 2)

# How a batch goes through: whole; in chunks that threads share; in chunks that they do not.
WAYS = {
    "whole": through(1 << 15, 512, 4),
    "shared": through(1, 16 if JIT else 3, 99),
    "groups": through(1, 5 if JIT else 3, 2),
    # All but the last batch of an epoch goes through in groups.
    "groups and a rest": through(1, 17 if JIT else 8, 2),
}


class Calm(Crowd):
    """A crowd that disturbs nobody."""

    def limit(self, most):
        return most


@pytest.fixture(autouse=True)
def eager(monkeypatch, tuned):
    """Use as many threads as are asked for, however little there is to do, on any machine."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 64)
    # Nor is one thread tried.
    tuned(
        step_share=1e-9,
        call_share=1e-9,
        helper_share=1e-9,
        awake_share=1e-9,
        sure_share=1e-9,
        sure_call=1e-9,
        trial_share=math.inf,
    )
    # Whatever else runs on the machine, teams are sent.
    monkeypatch.setattr(threads, "crowd", Calm())
    monkeypatch.setattr(runs, "crowd", threads.crowd)
    monkeypatch.setattr("fastnn.predicting.predictor.company", threads.crowd)
    set_threads(None)
    ThreadTuner._known.clear()
    yield
    ThreadTuner._known.clear()
    set_threads(None)
    assert not ours(), "no thread is left behind"


@pytest.fixture
def as_it_is(monkeypatch, tuned):
    """Take back all that `eager` did."""
    monkeypatch.undo()
    tuned(Tuning())


@pytest.fixture
def teams(monkeypatch):
    """Return what will hold how many threads were asked for in each call, and how many came."""
    found = SimpleNamespace(asked=[], came=[])
    dismiss = team.dismiss

    def watched(size, call, *more):
        found.asked.append(size)
        together(size, call, *more)

    def seen(signals):
        dismiss(signals)
        found.came.append(int(signals[team._SIZE]))

    monkeypatch.setattr(runs, "together", watched)
    monkeypatch.setattr("fastnn.predicting.predictor.together", watched)

    ready = crew.ready

    def helped(size):
        found.asked.append(size)
        ready(size)

    monkeypatch.setattr(crew, "ready", helped)
    monkeypatch.setattr(team, "dismiss", seen)
    return found


def ours():
    """Return this library's threads that still run, after those that are at their end."""
    for _ in range(2000):
        found = [thread for thread in threading.enumerate() if thread.name == "fastnn"]
        if not found:
            break
        time.sleep(0.001)
    return found


def fitted(number, dtype="float32", rule="adam", hidden="tanh", l2=0.1, seed=0, **more):
    """Return all bits of a fit in so many threads."""
    net = network(SHAPE, hidden, "softmax", dtype, l2=l2, seed=seed)
    examples = data(SHAPE, "cross_entropy")
    options = {"epochs": 3, "batch_size": BATCH, "optimizer": RULES[rule], **more}
    if options.pop("weighted", False):
        options["sample_weight"] = examples.w
    history = net.fit(examples.X, examples.y, threads=number, **options)
    return net.parameters.tobytes(), history.to_dict(), net._streams


# The same bits.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_a_fit_has_the_same_bits_in_any_number_of_threads(rule, dtype, way, tuned, teams):
    tuned(**WAYS[way])
    for more in (
        {},
        {"clip_norm": 0.05, "weighted": True},
        {"clip_norm": 0.05, "l2": 0.0, "shuffle": False, "hidden": "relu"},
        {"weighted": True, "hidden": "softmax", "callbacks": lambda run: None},
    )[:: 1 if JIT else 3]:
        alone, *others = (fitted(number, dtype, rule, **more) for number in NUMBERS)
        assert others == [alone] * len(others), more
    # No more than there are parts of work.
    # The shapes without the compiler have one part where a chunk is shared.
    assert max(teams.asked, default=1) > 1 or (way == "shared" and not JIT)
    assert way != "whole" or {2, 3, 4} & set(NUMBERS) <= set(teams.asked)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_gradients_and_predictions_have_the_same_bits(dtype, way, tuned, teams):
    tuned(**WAYS[way])
    net, examples = (
        network(SHAPE, "sigmoid", "softmax", dtype, l2=0.1),
        data(SHAPE, "cross_entropy"),
    )
    found = []
    for number in NUMBERS:
        set_threads(number)
        loss, gradient = net.loss_and_gradient(examples.X, examples.y, sample_weight=examples.w)
        found.append(
            (
                loss, gradient.tobytes(), net.predict(examples.X).tobytes(),
                net.hidden(examples.X, 1).tobytes(), net.evaluate(examples.X, examples.y)["loss"],
                net.trace(examples.X, examples.y).dZ[0].tobytes(),
            )
        )  # fmt: skip
    assert found[1:] == [found[0]] * (len(NUMBERS) - 1)
    assert max(teams.asked) > 1


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [Shape(700, 40, 300, 33, 5), Shape(241, 1, 9, 257, 40)], ids=str)
def test_shapes_of_many_blocks_have_the_same_bits(shape, dtype):
    net, examples = network(shape, "relu", "softmax", dtype, l2=0.01), data(shape, "cross_entropy")
    found = []
    for number in NUMBERS:
        twin = net.copy()
        twin.fit(examples.X, examples.y, epochs=2, batch_size=500, threads=number)
        found.append(twin.parameters.tobytes())
    assert found[1:] == [found[0]] * (len(NUMBERS) - 1)


@pytest.mark.jit
def test_threads_do_come_together(tuned, teams):
    tuned(**WAYS["whole"])
    tuned(slice_seconds=0.0)
    fitted(2, epochs=200)
    assert len(teams.came) > 200
    assert set(teams.came) <= {1, 2}
    assert 2 in teams.came


@pytest.mark.jit
def test_more_threads_than_any_machine_has_cores_come_to_an_end(tuned, teams):
    tuned(**WAYS["groups"])
    alone = fitted(1, batch_size=131)
    assert fitted(200, batch_size=131) == alone
    assert max(teams.asked) == 16


@pytest.mark.jit
@pytest.mark.parametrize("way", WAYS)
def test_threads_that_the_system_refuses_change_nothing(way, monkeypatch, tuned):
    tuned(**WAYS[way])
    alone = fitted(1)
    start, started = threading.Thread.start, []

    def refuse(self):
        if len(started) % 3 != 1:
            started.append(None)
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert fitted(4) == alone
    assert len(started) > 1


def test_threads_that_come_late_go_home(monkeypatch):
    alone = fitted(1)
    calls = []

    def late(size, call, *more):
        call(True)
        for _ in range(size - 1):
            call(False)
        calls.append(size)

    monkeypatch.setattr(runs, "together", late)
    assert fitted(2) == alone
    assert set(calls) == {2}


def test_fits_in_threads_have_threads_of_their_own():
    alone = [fitted(1, seed=seed) for seed in range(4)]
    found, gate = [None] * 4, threading.Barrier(4)

    def work(seed):
        gate.wait(60)
        found[seed] = fitted(3, seed=seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == alone


POOL = """
import concurrent.futures, hashlib, multiprocessing, sys
import numpy as np
import fastnn as fn
from fastnn.machine import threads
from fastnn.tuning import tuning

threads.usable_cores = lambda: 64
eager = tuning(step_share=1e-9, call_share=1e-9, helper_share=1e-9, awake_share=1e-9)
eager.__enter__()


def work(number):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5))
    net = fn.Sequential([fn.Dense(9, "tanh"), fn.Dense(1)], rng=0)
    net.fit(X, X[:, 0], epochs=3, batch_size=90, threads=number)
    net.predict(X)
    return hashlib.sha256(net.parameters.tobytes() + net.predict(X).tobytes()).hexdigest()


if __name__ == "__main__":
    # The parent has compiled, and had threads of its own.
    alone = work(1)
    assert work(3) == alone
    context = multiprocessing.get_context(sys.argv[1])
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        found = list(pool.map(work, (1, 2, 3, 4)))
    print(found == [alone] * 4)
"""


@pytest.mark.jit
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_a_pool_have_threads_of_their_own(method, tmp_path):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    root = str(Path(fn.__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(script), method],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout == "True\n", done.stderr


# Limits.


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize(
    ("text", "limit"),
    [("3", 3), (" 5 ", 5), ("4,2", 4), ("0", 1), ("", 64), ("many", 64), ("-3", 64), ("99", 64)],
)
def test_the_environment_limits_threads(name, text, limit, monkeypatch):
    monkeypatch.setenv(name, text)
    assert ceiling() == limit


def test_the_least_limit_holds(monkeypatch):
    for name, text in zip(VARIABLES, "859", strict=True):
        monkeypatch.setenv(name, text)
    assert ceiling() == 5
    set_threads(3)
    assert ceiling() == 3
    set_threads(7)
    assert ceiling() == 5
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    assert ceiling() == 2
    set_threads(None)
    assert ceiling() == 2


@pytest.mark.parametrize(
    ("number", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError),
                         (True, TypeError)],
)  # fmt: skip
def test_a_limit_is_a_whole_number_of_at_least_one(number, kind):
    set_threads(3)
    with pytest.raises(kind, match=r"^threads must be an integer of at least 1; got"):
        set_threads(number)
    assert ceiling() == 3


def test_threads_are_used_where_they_gain_something(as_it_is):
    assert fitting(8, 1e3, 10**6, 100) == 1
    assert fitting(8, 1e9, 10**6, 100) == 8
    assert fitting(8, 1e9, 10**6, 5) == 5
    # The work of one call does not pay the start.
    assert fitting(8, 4e6, 1, 100) == 1
    assert fitting(8, 2.5e5, 1000, 100) == 2


def timed(pace, seconds, turns, most=8):
    """Let a pace choose so many times, steps taking as long as is said for each number."""
    chosen = []
    for _ in range(turns):
        chosen.append(pace.choose(most))
        pace.note(chosen[-1], 100, 100 * seconds[chosen[-1]])
    return chosen


def test_the_fastest_number_of_threads_is_found_by_trying(as_it_is):
    seconds = {8: 0.4, 4: 0.3, 2: 0.5, 1: 0.9}
    assert timed(ThreadTuner(1e6), seconds, 10) == [1, 1, 8, 8, 4, 4, 2, 2, 4, 4]
    uneven = {3: 0.6, 2: 0.4, 1: 0.6}
    assert timed(ThreadTuner(1e6), uneven, 8, most=3) == [1, 1, 3, 3, 2, 2, 2, 2]
    # Where more threads are slower all the way down, one is left.
    slower = {8: 2.0, 4: 1.6, 2: 1.3, 1: 1.0}
    assert timed(ThreadTuner(1e6), slower, 10) == [1, 1, 8, 8, 4, 4, 2, 2, 1, 1]
    # Where a step is large all are sent at once, and one is timed later.
    assert timed(ThreadTuner(1e9), seconds, 10) == [8, 1, 1, 8, 4, 4, 2, 2, 4, 4]
    assert ThreadTuner(1e6).choose(1) == 1


def test_what_was_found_is_asked_again_when_it_has_become_slower(as_it_is):
    pace = ThreadTuner(1e6)
    assert timed(pace, {2: 0.5, 1: 0.9}, 5, most=2) == [1, 1, 2, 2, 2]
    assert timed(pace, {2: 5.0, 1: 0.9}, 5, most=2) == [2, 1, 1, 1, 1]
    assert timed(pace, {2: 0.5, 1: 1.8}, 6, most=2) == [1, 1, 2, 2, 2, 2]


def test_a_trial_of_several_threads_is_short(as_it_is):
    pace = ThreadTuner(1e6)
    assert pace.ration(2) is None
    pace.note(1, 1000, 0.1)
    assert (pace.choose(2), pace.ration(2)) == (1, 10)
    pace.note(1, 10, 0.001)
    # A millisecond, as steps of one thread, and six.
    assert pace.ration(2) == 40
    assert pace.ration(1) is None
    pace.note(2, 40, 0.005)
    assert pace.ration(2) == 60
    pace.note(2, 60, 0.007)
    assert (pace.choose(2), pace.ration(2)) == (1, None)
    # Where several are hopeless, once is enough.
    pace = ThreadTuner(1e6)
    pace.note(1, 1000, 0.1)
    pace.note(1, 1000, 0.1)
    pace.note(2, 40, 0.013)
    assert (pace.choose(2), pace.ration(2)) == (1, None)
    # Where a step is large, all are sent at once, and one thread takes a step when there is time.
    pace = ThreadTuner(1e9)
    assert (pace.choose(2), pace.ration(2)) == (2, None)
    pace.note(2, 10, 0.05)
    assert (pace.choose(2), pace.ration(2)) == (2, None)
    assert pace.ration(2, left=1000) == 1
    assert pace.choose(2) == 1
    # Where steps are slow, a trial still has the work that several threads are given for.
    for most in (2, 16):
        pace = ThreadTuner(3e6)
        pace.note(1, 10, 0.05)
        pace.note(1, 10, 0.05)
        assert fitting(most, 3e6, pace.ration(most), 1000) == most


def test_a_trial_is_a_small_part_of_the_work(as_it_is):
    pace = ThreadTuner(1e6)
    pace.note(1, 1000, 0.001)
    pace.note(1, 1000, 0.001)
    assert (pace.ration(2, left=1000), pace.choose(2)) == (None, 1)
    # Of a long fit it is, and of many short ones.
    assert pace.ration(2, left=100_000) is not None
    assert pace.choose(2) == 2
    assert pace.ration(2) is None
    for _ in range(20):
        pace.note(1, 1000, 0.001)
    assert pace.choose(2) == 2


def test_what_steps_of_a_kind_take_is_remembered(as_it_is):
    ThreadTuner._known.clear()
    assert timed(ThreadTuner.of("a kind", 1e6), {2: 0.5, 1: 0.9}, 4, most=2) == [1, 1, 2, 2]
    assert ThreadTuner.of("a kind", 1e6).choose(2) == 2
    assert ThreadTuner.of("another kind", 1e6).choose(2) == 1
    for number in range(1000):
        ThreadTuner.of(number, 1e6)
    assert len(ThreadTuner._known) < 1000
    assert ThreadTuner.of("a kind", 1e6).choose(2) == 1
    ThreadTuner._known.clear()


def test_several_threads_that_were_too_slow_are_tried_again_later(as_it_is, monkeypatch):
    moment = SimpleNamespace(now=0.0)
    monkeypatch.setattr(threads.time, "perf_counter", lambda: moment.now)
    pace, slow = ThreadTuner(1e6), {2: 1.1, 1: 1.0}
    assert timed(pace, slow, 6, most=2) == [1, 1, 2, 2, 1, 1]
    found = []
    for _ in range(60):
        moment.now += 1.0
        found += timed(pace, slow, 1, most=2)
    # Seldomer and seldomer.
    tried = [place for place, size in enumerate(found) if size == 2]
    assert 2 <= len(tried) <= 12
    assert tried[-1] - tried[-3] > tried[2] - tried[0]


def test_a_team_that_was_disturbed_is_not_sent_again_at_once(monkeypatch):
    moment = SimpleNamespace(now=100.0)
    monkeypatch.setattr(threads.time, "perf_counter", lambda: moment.now)
    busy = Crowd(lambda: None)
    assert (busy.limit(4), busy.limit(1)) == (4, 1)
    waits = []
    for _ in range(6):
        busy.disturbed(stayed=2, lost=0.004)
        began = moment.now
        while busy.limit(4) == 2:
            assert busy.limit(1) == 1
            moment.now += 0.002
        waits.append(moment.now - began)
    # Ten times what it has cost, and twice as long each time that it happens again.
    assert waits[0] == pytest.approx(0.04, abs=0.005)
    assert waits[3] == pytest.approx(8 * waits[0], rel=0.1)
    assert max(waits) < 3.0
    # After a while in peace all that is forgotten.
    moment.now += 60.0
    busy.disturbed(stayed=1, lost=0.004)
    assert busy.limit(4) == 1
    moment.now += 0.05
    assert busy.limit(4) == 4


def test_predictions_rest_for_a_shorter_time_than_fits(monkeypatch):
    moment = SimpleNamespace(now=100.0)
    monkeypatch.setattr(threads.time, "perf_counter", lambda: moment.now)
    for brief, rest in ((False, 0.04), (True, 0.008)):
        found = Crowd(lambda: None, brief)
        found.disturbed(stayed=1, lost=0.004)
        moment.now += 0.9 * rest
        assert found.limit(2) == 1
        moment.now += 0.2 * rest
        assert found.limit(2) == 2
        # Again soon: twice as long.
        found.disturbed(stayed=1, lost=0.001)
        moment.now += 1.9 * rest
        assert found.limit(2) == 1
        moment.now += 0.2 * rest
        assert found.limit(2) == 2


@pytest.mark.parametrize(
    ("free", "most", "limit"),
    [
        (None, 8, 8),
        (8, 8, 8),
        (9, 8, 8),
        # Halves, as those are the numbers that are tried.
        (7, 8, 4),
        (3, 8, 2),
        (1, 8, 1),
        (2, 5, 2),
        (3, 5, 3),
        (1, 1, 1),
        (2, 10**6, 2),
    ],
)
def test_no_more_threads_are_sent_than_cores_are_free(free, most, limit):
    assert Crowd(lambda: free).limit(most) == limit


def test_cores_are_counted_again_before_a_moments_work_leaves_one_thread_alone(monkeypatch):
    moment = SimpleNamespace(now=100.0)
    monkeypatch.setattr(threads.time, "perf_counter", lambda: moment.now)
    counts = []
    found = Crowd(lambda: counts.pop(0))

    def limit(*says):
        counts[:] = says
        moment.now += 1.0
        return found.limit(4)

    assert limit(4) == 4
    # The system's own work is over at the second look.
    assert limit(1, 3, 4) == 4
    assert not counts
    # That of others is not, and later one look is enough.
    assert limit(*[1] * 50) == 1
    assert limit(1) == limit(1) == 1
    assert limit(4) == 4
    # A count holds for a moment.
    counts[:] = []
    assert found.limit(4) == 4
    # What a team says counts beside it.
    counts[:] = [4] * 2
    found.disturbed(stayed=2, lost=1.0)
    moment.now += 0.5
    assert found.limit(4) == 2


def test_counting_cores_takes_a_small_part_of_the_time_however_slow_the_system_is(monkeypatch):
    moment = SimpleNamespace(now=100.0, spent=0.0)
    monkeypatch.setattr(threads.time, "perf_counter", lambda: moment.now)

    def count():
        moment.now += 0.003
        moment.spent += 0.003
        return 1

    found = Crowd(count)
    for _ in range(100_000):
        moment.now += 0.0002
        assert found.limit(4) == 1
    assert 0.01 <= moment.spent / (moment.now - 100.0) <= 0.02


def test_too_few_free_cores_are_counted_again_soon_and_then_seldomer(monkeypatch):
    moment = SimpleNamespace(now=100.0, free=1)
    monkeypatch.setattr(threads.time, "perf_counter", lambda: moment.now)
    counted = []

    def count():
        # A system that is slow to answer: such a count is valid for 2 ms at first, then for 20.
        counted.append(moment.now)
        moment.now += 0.0004
        return moment.free

    def waits(seconds):
        counted.clear()
        until = moment.now + seconds
        while moment.now < until:
            found.limit(2)
            moment.now += 0.00001
        return 1e3 * np.diff(counted)

    found = Crowd(count)
    some = waits(0.3)
    assert some[:5] == pytest.approx([2.4, 4.4, 8.4, 16.4, 20.4], abs=0.1)
    assert some[5:] == pytest.approx(20.4, abs=0.1)
    # Long after, what is seen may be brief again.
    moment.now += 1.0
    assert waits(0.02)[:2] == pytest.approx([2.4, 4.4], abs=0.1)
    moment.free = 2
    waits(0.1)
    moment.free = 1
    moment.now += 0.05
    # It was enough before: counted again at once, for a millisecond.
    assert waits(0.02)[:4] == pytest.approx([0.4, 0.4, 2.4, 4.4], abs=0.1)


def test_the_first_steps_of_a_fit_are_not_timed_where_others_follow(monkeypatch, tuned):
    tuned(sure_share=1e12, trial_share=1e12)
    timed = []
    monkeypatch.setattr(ThreadTuner, "note", lambda self, size, steps, _: timed.append(steps))
    steps = -(-SHAPE.n // BATCH)
    fitted(2, epochs=3)
    assert 0 < sum(timed) < 3 * steps
    timed.clear()
    fitted(2, epochs=1, batch_size=SHAPE.n)
    # One step is all that there is.
    assert sum(timed) == 1


def test_a_fit_that_is_left_to_one_thread_asks_again_after_a_while(monkeypatch, tuned):
    tuned(sure_share=1e12, trial_share=1e12, recheck=0.025)
    free, asked = [1], []
    crowd = Crowd(lambda: free[0])
    monkeypatch.setattr(crowd, "disturbed", lambda *what, **more: None)
    monkeypatch.setattr(threads, "crowd", crowd)
    monkeypatch.setattr(runs, "crowd", crowd)
    monkeypatch.setattr(ThreadTuner, "choose", lambda self, most: most)
    monkeypatch.setattr(ThreadTuner, "ration", lambda self, most, left=None: None)
    monkeypatch.setattr(ThreadTuner, "alone", lambda self: 0.01)
    ration = runs.Run.ration

    def seen(self, left=None):
        found = ration(self, left)
        asked.append(found)
        if len(asked) == 2:
            free[0] = 64
            crowd.forget()
        return found

    monkeypatch.setattr(runs.Run, "ration", seen)
    fitted(2)
    # Two steps, as long as that takes; then all that are left.
    assert asked[:2] == [2, 2]
    assert set(asked[2:]) == {None}


def test_what_a_team_says_goes_to_the_pace_or_to_the_crowd(monkeypatch, tuned):
    told = []
    monkeypatch.setattr(threads.crowd, "disturbed", lambda *what: told.append(what), raising=False)
    tuned(sure_share=5e6)
    pace = ThreadTuner(1e6)
    pace.note(1, 100, 0.1)
    # Without what starting takes, or with it.
    pace.judge(4, 100, 0.09, 0.06, Outcome(came=4, stayed=4, waited=0.01, lost=0.0))
    pace.judge(4, 100, 0.06, None, Outcome(came=4, stayed=4, waited=0.01, lost=0.0))
    assert told == []
    assert pace._seconds[4] == [pytest.approx(0.0005), pytest.approx(0.0006)]
    pace.judge(4, 100, 0.5, 0.5, Outcome(came=4, stayed=3, waited=0.0, lost=0.003))
    pace.judge(4, 100, 0.101, 0.1, Outcome(came=4, stayed=3, waited=0.0, lost=0.5))
    pace.judge(4, 100, 0.101, 0.1, Outcome(came=1, stayed=1, waited=0.002, lost=0.0))
    assert told == [(3, 0.003), (3, pytest.approx(0.001)), (1, 0.002)]
    assert len(pace._seconds[4]) == 2


def test_the_terms_of_a_team_follow_what_it_gains():
    pace = ThreadTuner(1e6)
    pace.note(1, 100, 0.1)
    few, many = pace.terms(2, 1, 4), pace.terms(2, 1000, 4)
    assert few.patience < many.patience <= 1_000_000
    assert few.gain == pytest.approx(0.8 * 500_000 / 4, rel=0.01)
    assert few.credit > few.gain
    assert pace.terms(8, 1, 4).gain > few.gain
    assert few.most > few.credit


@pytest.mark.jit
def test_a_fit_tries_several_threads_for_a_short_while(monkeypatch, tuned):
    tuned(sure_share=1e12, trial_share=1)
    counts, note = [], ThreadTuner.note

    def seen(self, size, steps, seconds):
        counts.append((size, steps))
        note(self, size, steps, 10.0 * seconds if size > 1 else seconds)

    monkeypatch.setattr(ThreadTuner, "note", seen)
    # Nor is what came together disturbed.
    monkeypatch.setattr(
        ThreadTuner, "judge", lambda self, size, steps, *more: seen(self, size, steps, 1)
    )
    fitted(2, epochs=3000)
    tried = [steps for size, steps in counts if size == 2]
    assert len(tried) >= 1
    assert max(tried) < max(steps for size, steps in counts if size == 1)
    assert counts[-1][0] == 1


def test_one_bad_beginning_does_not_condemn_several_threads(as_it_is):
    pace = ThreadTuner(1e6)
    assert timed(pace, {1: 10.0}, 2, most=2) == [1, 1]
    assert timed(pace, {2: 25.0, 1: 10.0}, 1, most=2) == [2]
    assert timed(pace, {2: 5.0, 1: 10.0}, 3, most=2) == [2, 2, 2]


def test_calls_that_took_no_time_to_speak_of_tell_something_together(as_it_is):
    pace = ThreadTuner(1e6)
    assert timed(pace, {1: 0.001}, 2, most=2) == [1, 1]
    chosen = []
    for _ in range(30):
        chosen.append(pace.choose(2))
        pace.note(chosen[-1], 0.1, {1: 0.0001, 2: 0.00011}[chosen[-1]])
    # Two threads are slower; that takes two times half a millisecond to see.
    assert chosen == [2] * 10 + [1] * 20


def test_a_small_fit_starts_no_thread(as_it_is, monkeypatch):

    def refuse(*arguments):
        raise AssertionError("a thread was started")

    monkeypatch.setattr(runs, "together", refuse)
    set_threads(None)
    fitted(64)


@pytest.mark.jit
def test_a_limit_holds_for_what_begins_after_it(teams):
    """Also for a network that has kept room for predictions under another limit."""
    net, X = network(SHAPE, "tanh", "softmax", "float32"), data(SHAPE, "cross_entropy").X
    parts = 16
    expected = net.predict(X).tobytes()
    for limit in (1, parts, 2, None, 1):
        set_threads(limit)
        teams.asked.clear()
        assert net.predict(X).tobytes() == expected
        wanted = {None: parts}.get(limit, limit)
        assert len(teams.asked) == (wanted > 1)
        assert all(wanted <= asked for asked in teams.asked) if limit != 2 else teams.asked == [2]


# Ends.


def test_whoever_is_asked_takes_part_once():
    seen, here = [], threading.get_ident()
    together(4, lambda leading: seen.append((leading, threading.get_ident() == here)))
    assert sorted(seen) == [(False, False)] * 3 + [(True, True)]
    together(1, lambda leading: seen.append(leading))
    assert seen[4:] == [True]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be moved here")
def test_threads_begin_where_the_process_may_run_and_may_still_go_anywhere():
    allowed, found = os.sched_getaffinity(0), []
    together(4, lambda leading: found.append((current_core(), os.sched_getaffinity(0))))
    assert [may for _, may in found] == [allowed] * 4
    assert {core for core, _ in found} <= allowed | {None}


def test_an_error_of_the_leader_comes_through_when_the_others_have_gone():
    dismissed = threading.Event()

    def call(leading):
        if leading:
            raise ZeroDivisionError
        assert dismissed.wait(60)

    with pytest.raises(ZeroDivisionError):
        together(3, call, dismissed.set)
    assert not ours()


def test_an_interruption_while_others_end_waits_for_them(monkeypatch):
    join, joined = threading.Thread.join, []
    go_on = threading.Event()

    def interrupted(self, timeout=None):
        joined.append(self)
        if len(joined) == 1:
            raise KeyboardInterrupt
        go_on.set()
        join(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        together(3, lambda leading: leading or go_on.wait(60))
    monkeypatch.undo()
    assert len(joined) > 1
    assert not [thread for thread in threading.enumerate() if thread.name == "fastnn"]


def test_an_interruption_while_others_start_sends_them_home(monkeypatch):
    start, started = threading.Thread.start, []

    def interrupted(self):
        start(self)
        started.append(self)
        if len(started) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.warns(UserWarning, match="interrupted after 0 of 3"):
        fitted(4)
    assert not ours()
    assert len(started) == 2


@pytest.mark.jit
def test_an_interruption_on_any_line_leaves_no_thread(tuned):
    tuned(saving_share=0)
    places = {together.__code__, threads._start.__code__, threads._await.__code__,
              runs.Run.__call__.__code__}  # fmt: skip
    files = {code.co_filename for code in places}
    names = {code.co_name for code in places} | {"call"}
    net, examples = network(SHAPE, "tanh", "softmax", "float32"), data(SHAPE, "cross_entropy")

    def strike(where):
        """Fit, and interrupt when the line is reached; return the lines gone through."""
        lines = []

        def trace(frame, event, argument):
            code = frame.f_code
            if code.co_filename not in files or code.co_name not in names:
                return trace if event == "call" else None
            if event == "line":
                lines.append((code.co_name, frame.f_lineno))
                if lines[-1] == where:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return trace

        twin, before = net.copy(), sys.gettrace()
        sys.settrace(trace)
        try:
            with warnings.catch_warnings(), contextlib.suppress(KeyboardInterrupt), np.errstate():
                warnings.simplefilter("ignore")
                history = twin.fit(examples.X, examples.y, epochs=2, batch_size=200, threads=3)
                assert (history.stopped == "interrupted") == (where in lines), where
        finally:
            sys.settrace(before)
        assert not ours(), where
        assert np.isfinite(twin.parameters).all(), where
        twin.fit(examples.X, examples.y, epochs=1, threads=3)
        return lines

    every = list(dict.fromkeys(strike(None)))
    assert {name for name, _ in every} == names
    for where in every:
        # A thread that has ended before is not waited for, so that this line may be passed over.
        assert any(where in strike(where) for _ in range(50)), where


@pytest.mark.filterwarnings("ignore::fastnn.errors.FitWarning")
def test_no_thread_is_left_after_a_divergence():
    net, examples = network(SHAPE, "relu", "identity", "float32"), data(SHAPE, "mean_squared_error")
    examples.X[SHAPE.n - 1] = 1e30
    with pytest.raises(fn.DivergenceError):
        net.fit(examples.X, examples.y, batch_size=BATCH, shuffle=False, threads=4)
    assert not ours()


# A busy machine.


def shrinking(monkeypatch):
    """Let every team shrink at the first boundary, as if one of its threads had lost its core."""
    set_terms, sizes = runs.Run._set_terms, []

    def poor(self, signals, size, steps):
        set_terms(self, signals, size, steps)
        signals[team.PATIENCE] = 10**9
        signals[team.CREDIT], signals[team.CAP] = -(10**15), 10**15
        signals[team._STALLED] = 1
        sizes.append((size, signals))

    monkeypatch.setattr(runs.Run, "_set_terms", poor)
    return sizes


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_team_that_shrinks_on_its_way_gives_the_same_bits(dtype, way, monkeypatch, tuned):
    tuned(**WAYS[way])
    for more in ({}, {"clip_norm": 0.05, "weighted": True}):
        alone = fitted(1, dtype, **more)
        with monkeypatch.context() as patch:
            sizes = shrinking(patch)
            for number in NUMBERS[1:]:
                assert fitted(number, dtype, **more) == alone, (number, more)
        shrunk = [asked for asked, signals in sizes if signals[team._SIZE] < signals[team.CAME]]
        assert not JIT or shrunk


@pytest.mark.parametrize("way", WAYS)
def test_predictions_and_gradients_of_a_team_that_shrinks_have_the_same_bits(
    way, monkeypatch, tuned
):
    tuned(**WAYS[way])
    net, examples = network(SHAPE, "tanh", "softmax", "float32"), data(SHAPE, "cross_entropy")

    def found():
        loss, gradient = net.loss_and_gradient(examples.X, examples.y)
        return net.predict(examples.X).tobytes(), loss, gradient.tobytes()

    set_threads(1)
    alone = found()
    shrinking(monkeypatch)
    for number in NUMBERS[1:]:
        set_threads(number)
        assert found() == alone, number


@pytest.mark.jit
@pytest.mark.parametrize("told", [True, False], ids=["of free cores", "nothing of the cores"])
def test_beside_busy_processes_all_comes_to_its_end_with_the_same_bits(told, as_it_is, monkeypatch):
    """Loops that do nothing on every core, teams that ask for more cores than there are."""
    crowd.forget()
    if not told:
        monkeypatch.setattr(crowd, "count", lambda: None)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2000, 64)).astype("f4"), rng.integers(0, 10, 2000)
    start = fn.Sequential([fn.Dense(100, "relu"), fn.Dense(10, "softmax")], inputs=64, rng=0)

    def work(number):
        net = start.copy()
        for batch, epochs in ((200, 10), (2000, 3), (32, 2)):
            net.fit(X, y, epochs=epochs, batch_size=batch, threads=number, progress=False)
        set_threads(number)
        return net.parameters.tobytes(), net.predict(np.tile(X, (5, 1))).tobytes()

    alone = work(1)
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        began = time.perf_counter()
        assert [work(number) for number in (None, 2, 4)] == [alone] * 3
        # A second or two; barriers that wait for whole time slices took more than a minute.
        assert time.perf_counter() - began < 60
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
        crowd.forget()


@pytest.mark.jit
def test_threads_without_work_are_not_planned_for():
    net = network(SHAPE, "tanh", "softmax", "float32")
    blocks, tiling = net.layout.blocks, layout.Tiling(16, 6, 4)
    for gradient in (False, True):
        few, many = (
            Program.of(blocks, 3_000_000, tiling, gradient=gradient, moments=2, threads=number)
            for number in (1, 10**6)
        )
        assert len(many.plan) == many.parts == few.parts < 400
        assert many.workspace < 500 * few.workspace
        assert many.workspace < 20_000_000


def test_a_million_threads_may_be_asked_for(teams):
    alone = fitted(1)
    assert fitted(10**6) == alone
    assert 1 < max(teams.asked) <= 64
    set_threads(10**6)
    X = data(SHAPE, "cross_entropy").X
    assert network(SHAPE, "tanh", "softmax", "float32").predict(X).shape == (SHAPE.n, SHAPE.m)


# The team itself.


def _meet(signals, expected, leading, steps, sums):
    """Join, and count how often the others were where they had to be."""
    number = team.join(signals, expected, leading)
    if number < 0:
        return number
    size = team.team_size(signals)
    for step in range(1, steps + 1):
        sums[number] = step
        team.barrier(signals, size)
        for other in range(size):
            team.raise_flag(signals, sums[other] != step)
        team.barrier(signals, size)
    return number


@pytest.fixture(scope="module")
def meet():
    """Return a native function that joins a team and meets it some times."""
    with pytest.MonkeyPatch.context() as patch:
        # A file on disk would not notice an edit of this one.
        patch.setenv("FASTNN_CACHE", "0")
        compiled = entry(_meet)
    compiled(np.zeros(team.SIGNALS, np.int64), 1, True, 1, np.zeros(1))
    return compiled


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_team_meets_at_every_barrier(size, meet):
    for _ in range(20 if JIT else 2):
        signals, sums, numbers = np.zeros(team.SIGNALS, np.int64), np.zeros(size), []
        signals[team.PATIENCE] = 10**9
        signals[team.CREDIT] = signals[team.CAP] = 10**15
        together(
            size,
            lambda leading, signals=signals, sums=sums, numbers=numbers: numbers.append(
                meet(signals, size, leading, 50 if JIT else 3, sums)
            ),
        )
        came = [number for number in numbers if number >= 0]
        assert sorted(came) == list(range(len(came)))
        assert signals[team._SIZE] == len(came) >= 1
        assert numbers.count(-1) == size - len(came)
        assert signals[team._FLAG] == 0
        assert (sums[: len(came)] > 0).all()


@pytest.fixture(scope="module")
def arrive():
    """Return native functions that take part in a team, and meet the others once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTNN_CACHE", "0")
        join, barrier = entry(_join), entry(_barrier)
    signals = np.zeros(team.SIGNALS, np.int64)
    barrier(signals, join(signals, 1, True) + 1)
    return join, barrier


def _join(signals, expected, leading):
    return team.join(signals, expected, leading)


def _barrier(signals, size):
    team.barrier(signals, size)


@pytest.mark.parametrize(
    ("size", "cores", "left"), [(2, 8, 1), (4, 8, 3), (4, 2, 2), (5, 1, 1), (3, 8, 2)]
)
def test_a_team_that_waits_for_longer_than_it_may_shrinks(size, cores, left, arrive):
    join, barrier = arrive
    signals, numbers = np.zeros(team.SIGNALS, np.int64), []
    signals[team.PATIENCE], signals[team.CORES], signals[team.SPIN] = 10**10, cores, 1000
    signals[team.CREDIT], signals[team.CAP] = 1_000_000, 10**10

    def call(leading):
        numbers.append(number := join(signals, size, leading))
        if number == size - 1:
            time.sleep(0.1)
        barrier(signals, size)

    together(size, call)
    assert sorted(numbers) == list(range(size))
    assert signals[team.CAME] == size
    assert team.stayed(signals) == left
    assert signals[team.LOST] > 1_000_000


def test_a_team_may_wait_as_long_as_it_has_gained(arrive):
    join, barrier = arrive
    signals = np.zeros(team.SIGNALS, np.int64)
    signals[team.PATIENCE], signals[team.CORES], signals[team.SPIN] = 10**10, 8, 1000
    signals[team.GAIN], signals[team.CAP] = 10**12, 10**12

    def call(leading):
        if join(signals, 2, leading) == 1:
            time.sleep(0.05)
        barrier(signals, 2)

    together(2, call)
    assert team.stayed(signals) == 2
    assert 0 < signals[team.CREDIT] < 10**12


def test_the_leader_waits_for_helpers_no_longer_than_it_shall(arrive):
    join, _ = arrive
    signals = np.zeros(team.SIGNALS, np.int64)
    signals[team.PATIENCE] = 2_000_000
    assert join(signals, 3, True) == 0
    assert 2_000_000 <= signals[team.WAITED] < 10**9
    assert team.stayed(signals) == signals[team.CAME] == 1
    assert join(signals, 3, False) == -1


def test_whoever_comes_when_the_door_is_closed_goes_home(meet):
    signals, sums = np.zeros(team.SIGNALS, np.int64), np.zeros(3)
    assert meet(signals, 3, True, 5, sums) == 0
    assert meet(signals, 3, False, 5, sums) == -1
    assert meet(signals, 3, False, 5, sums) == -1
    assert sums.tolist() == [5.0, 0.0, 0.0]
    team.dismiss(signals)
    assert signals[team._SIZE] == 1


def test_whoever_waits_for_a_leader_that_never_comes_is_sent_home(meet):
    signals, numbers = np.zeros(team.SIGNALS, np.int64), []
    waiting = threading.Thread(
        target=lambda: numbers.append(meet(signals, 2, False, 5, np.zeros(2)))
    )
    waiting.start()
    while signals[team._DOOR] == 0:
        time.sleep(0.001)
    team.dismiss(signals)
    waiting.join(60)
    assert numbers == [-1]
