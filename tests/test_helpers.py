"""Helpers come when they are asked, are kept, and nobody relies on one that has not come."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fastnn import helpers
from fastnn.helpers import shared

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Begin with no helper, and let those end that this test has started."""
    monkeypatch.setattr(helpers, "_helpers", helpers._Helpers(idle=0.05))


def met(size=2):
    """Call a function in so many threads that wait for each other; return who they were."""
    gate, found = threading.Barrier(size), []

    def call():
        gate.wait(PATIENCE)
        found.append(threading.get_ident())

    shared(size, call)
    return found


@pytest.mark.parametrize("size", [1, 2, 5])
def test_as_many_threads_as_asked_for_are_there_at_once(size):
    found = met(size)
    assert len(set(found)) == size
    assert threading.get_ident() in found


def test_helpers_are_kept_and_end_when_nobody_asks():
    helpers._helpers.idle = PATIENCE
    first = set(met())
    assert set(met()) == first
    helpers._helpers.idle = 0.05
    assert set(met()) == first
    began = time.monotonic()
    while helpers._helpers._serving and time.monotonic() < began + PATIENCE:
        time.sleep(0.01)
    assert not helpers._helpers._serving
    assert len(set(met())) == 2


@pytest.mark.parametrize("refusal", [RuntimeError("can't start new thread"), MemoryError()])
def test_where_the_system_gives_no_thread_the_asking_one_does_all(monkeypatch, refusal):
    def refuse(self):
        raise refusal

    monkeypatch.setattr(threading.Thread, "start", refuse)
    calls = []
    shared(3, lambda: calls.append(threading.get_ident()))
    assert calls == [threading.get_ident()]


def test_a_helper_that_comes_when_all_is_done_makes_no_call():
    held, release = threading.Event(), threading.Event()

    def hold():
        if threading.current_thread() is not threading.main_thread():
            held.set()
            release.wait(PATIENCE)
        else:
            held.wait(PATIENCE)

    busy = threading.Thread(target=lambda: shared(2, hold))
    busy.start()
    assert held.wait(PATIENCE)
    calls = []
    # Every helper is busy, one more is not started for this.
    shared(2, lambda: calls.append(threading.get_ident()))
    release.set()
    busy.join()
    assert calls == [threading.get_ident()]
    assert len(set(met())) == 2
    assert len(calls) == 1


def test_a_call_that_has_begun_is_waited_for_unless_all_is_settled():
    begun, done = threading.Event(), []

    def call():
        if threading.current_thread() is threading.main_thread():
            begun.wait(PATIENCE)
        else:
            begun.set()
            time.sleep(0.05)
            done.append(True)

    assert shared(2, call) > 0.01
    assert done == [True]
    begun.clear()
    shared(2, call, lambda: True)
    assert done == [True]


def test_an_interruption_waits_for_the_helpers_and_goes_on(monkeypatch):
    begun, done = threading.Event(), []

    def call():
        if threading.current_thread() is threading.main_thread():
            begun.wait(PATIENCE)
            raise KeyboardInterrupt
        begun.set()
        time.sleep(0.05)
        done.append(True)

    with pytest.raises(KeyboardInterrupt):
        shared(2, call)
    assert done == [True]
    # Another one while it waits.
    end, interrupted = helpers._Job.end, []

    def once(self, settled):
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        end(self, settled)

    monkeypatch.setattr(helpers._Job, "end", once)
    begun.clear()
    with pytest.raises(KeyboardInterrupt):
        shared(2, call)
    assert done == [True, True]


def test_a_helper_without_memory_is_kept():
    begun = threading.Event()

    def call():
        if threading.current_thread() is threading.main_thread():
            begun.wait(PATIENCE)
        else:
            begun.set()
            raise MemoryError

    shared(2, call)
    assert len(set(met())) == 2


FORKED = """
import os, threading
from fastnn.helpers import shared

def met():
    gate, found = threading.Barrier(2), []
    shared(2, lambda: (gate.wait(60), found.append(threading.get_ident())))
    return len(set(found))

assert met() == 2
child = os.fork()
if child == 0:
    os._exit(0 if met() == 2 else 1)
assert os.waitpid(child, 0)[1] == 0
assert met() == 2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_helpers_of_its_own():
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", FORKED], cwd=root, check=True, timeout=PATIENCE)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_finds_no_helper_and_they_come_again():
    helpers._helpers.idle = PATIENCE
    assert len(set(met(3))) == 3
    assert helpers._helpers._serving
    child = os.fork()
    if child == 0:
        os._exit(0 if threading.active_count() == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not helpers._helpers._serving
    assert len(set(met(3))) == 3
    helpers._helpers.dismiss()
