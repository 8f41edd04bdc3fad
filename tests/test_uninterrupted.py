"""Loading and compiling in one piece: under signals at any moment, and beside forks."""

from __future__ import annotations

import _thread
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from fastnn.kernels._jit import entry, kernel
from fastnn.machine.uninterrupted import in_one_piece, stop_if_abandoned

timed = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer's signal")
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

X = np.arange(3.0)


def run(program: str, *arguments: object, timeout: float = 300) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Work in a thread of its own.


def test_work_runs_in_another_thread_and_its_result_comes_back():
    here = threading.get_ident()
    assert in_one_piece(threading.get_ident) != here
    assert in_one_piece(lambda: "word") == "word"


def test_what_work_raises_comes_back():
    problem = ZeroDivisionError("by zero")

    def fail():
        raise problem

    with pytest.raises(ZeroDivisionError) as caught:
        in_one_piece(fail)
    assert caught.value is problem


def test_work_within_work_runs_where_it_is():
    assert in_one_piece(lambda: in_one_piece(threading.get_ident) == threading.get_ident())


def test_the_process_is_left_as_it_was():
    threading.stack_size(1 << 20)
    try:
        before = threading.enumerate()
        in_one_piece(lambda: None)
        assert threading.enumerate() == before
        assert threading.stack_size() == 1 << 20
    finally:
        threading.stack_size(0)


def test_a_system_without_threads_does_the_work_all_the_same(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    assert in_one_piece(threading.get_ident) == threading.get_ident()


def test_work_by_several_threads_takes_turns():
    at_once, most = 0, 0

    def work():
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.002)
        at_once -= 1

    threads = [threading.Thread(target=in_one_piece, args=(work,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


@pytest.fixture
def alarm():
    """Have a timer's signal raise a KeyboardInterrupt."""

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupted(alarm, seconds, work):
    """Do work, and let a signal come meanwhile or soon after."""

    def until_it_comes():
        alarm(seconds)
        work()
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        until_it_comes()


@timed
def test_a_signal_ends_the_waiting_and_not_what_was_begun(alarm):
    go, done = threading.Event(), threading.Event()

    def work():
        go.wait()
        done.set()

    interrupted(alarm, 0.01, lambda: in_one_piece(work))
    assert not done.is_set()
    go.set()
    # The next work waits for it.
    in_one_piece(lambda: None)
    assert done.is_set()


@timed
def test_abandoned_work_ends_where_it_can(alarm):
    go, went_on = threading.Event(), []

    def work():
        stop_if_abandoned()
        go.wait()
        try:
            stop_if_abandoned()
        except Exception:
            went_on.append("caught")
        went_on.append("after")

    interrupted(alarm, 0.01, lambda: in_one_piece(work))
    # Work that has not begun does not begin either.
    interrupted(alarm, 0.01, lambda: in_one_piece(lambda: went_on.append("begun")))
    go.set()
    in_one_piece(lambda: None)
    assert went_on == []


# Compiling.


def fresh():
    """Return an entry that was never compiled, with a kernel below it."""

    @kernel
    def part(x):
        return x.sum() + 38

    @entry
    def whole(x):
        return part(x) + 1

    return whole


def interrupt_compiling(alarm, moments):
    for moment in moments:
        compiled = fresh()
        interrupted(alarm, moment, lambda compiled=compiled: compiled(X))
        assert compiled(X) == 42


@timed
@pytest.mark.jit
def test_compiling_that_was_interrupted_is_done_the_next_time(alarm, monkeypatch):
    monkeypatch.setenv("FASTNN_CACHE", "0")
    fresh()(X)
    interrupt_compiling(alarm, [0.001, 0.02, 0.04, 0.06, 0.08, 0.1])


@timed
@pytest.mark.jit
@pytest.mark.slow
def test_compiling_that_was_interrupted_at_any_moment_is_done_the_next_time(alarm, monkeypatch):
    monkeypatch.setenv("FASTNN_CACHE", "0")
    fresh()(X)
    dice = random.Random(1)
    interrupt_compiling(alarm, [dice.uniform(1e-5, 0.2) for _ in range(500)])


# The first use, loading included.


FIRST_USE = """
import os, random, signal, sys, traceback
import fastnn as fn

how_many, longest = int(sys.argv[1]), float(sys.argv[2])
dice = random.Random(how_many)

def stop(*_):
    raise KeyboardInterrupt

def use():
    net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=2)
    assert net.predict([[1.0, 2.0]]) == 0.0

failed = 0
signal.signal(signal.SIGALRM, stop)
for turn in range(how_many):
    moment = longest * (turn + dice.random()) / how_many
    child = os.fork()
    if child == 0:
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, moment)
                while True:
                    use()
            except KeyboardInterrupt:
                pass
            use()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    failed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
print(how_many, "interrupted,", failed, "failed")
"""


def test_nothing_but_python_is_loaded_before_loading_is_in_one_piece():
    program = (
        "import sys, fastnn\nimport fastnn.machine.uninterrupted\n"
        "print(sorted({'numpy', 'numba', 'fastnn.hints'} & set(sys.modules)))"
    )
    assert run(program) == "[]\n"


@timed
@forking
@pytest.mark.jit
def test_a_first_use_that_was_interrupted_works_the_next_time():
    # NumPy, Numba and the kernels are loaded within it.
    assert run(FIRST_USE, 5, 0.8) == "5 interrupted, 0 failed\n"


@timed
@forking
@pytest.mark.jit
@pytest.mark.slow
def test_a_first_use_that_was_interrupted_at_any_moment_works_the_next_time(tmp_path, monkeypatch):
    assert run(FIRST_USE, 200, 1.0, timeout=1200) == "200 interrupted, 0 failed\n"
    # The same where it compiles.
    monkeypatch.setenv("FASTNN_CACHE", "0")
    assert run(FIRST_USE, 30, 6.0, timeout=1200) == "30 interrupted, 0 failed\n"


HALF = """
import sys
import numba

del sys.modules["numba"], sys.modules["numba.core.typing"]
sys.modules["numba.core.types"] = None
import fastnn as fn
try:
    fn.Sequential([fn.Dense(1)], inputs=2).predict([[1.0, 2.0]])
except ImportError as problem:
    print(problem)
"""


@pytest.mark.jit
def test_a_compiler_that_was_left_half_loaded_by_others_is_told_of():
    said = run(HALF)
    assert said.startswith("fastnn cannot load its compiler, Numba (")
    assert said.endswith("left it half loaded: start this process anew.\n")


# Forks.


FORKS = """
import os, random, signal, sys, threading, time
import numpy as np
os.environ["FASTNN_CACHE"] = "0"
how_many = int(sys.argv[1])
X = np.arange(3.0)
going = True

from fastnn.kernels._load import load_kernels

def first_use(count):
    load_kernels()
    from fastnn.kernels._jit import entry

    def plus(x):
        return x.size + 39

    while going and count:
        assert entry(plus)(X) == 42
        count -= 1

dice = random.Random(0)
other = threading.Thread(target=first_use, args=(-1,))
other.start()
failed = 0
for turn in range(how_many):
    time.sleep(dice.uniform(0.0, 0.3))
    child = os.fork()
    if child == 0:
        # The system ends it.
        signal.alarm(60)
        first_use(1)
        os._exit(0)
    failed += os.waitpid(child, 0)[1] != 0
going = False
other.join()
print(how_many, "forked,", failed, "failed")
"""


@forking
@pytest.mark.jit
def test_a_process_that_is_forked_while_another_thread_compiles_can_compile():
    assert run(FORKS, 5) == "5 forked, 0 failed\n"


@forking
@pytest.mark.jit
@pytest.mark.slow
def test_processes_that_are_forked_while_another_thread_compiles_can_compile():
    assert run(FORKS, 200) == "200 forked, 0 failed\n"


@forking
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python's own, of threads and forks
def test_a_process_that_was_forked_amid_work_that_does_not_end_is_told(tuned):
    tuned(fork_patience=0.01)
    ends, begun = threading.Event(), threading.Event()

    def work():
        begun.set()
        ends.wait()

    other = threading.Thread(target=in_one_piece, args=(work,))
    other.start()
    begun.wait()
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            in_one_piece(lambda: None)
        except RuntimeError as problem:
            os.write(writable, str(problem).encode())
        finally:
            os._exit(0)
    os.close(writable)
    with open(readable) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    ends.set()
    other.join()
    assert "forked while another thread was compiling" in said
    assert '"spawn" or "forkserver"' in said
    # This process goes on.
    assert in_one_piece(lambda: 42) == 42
