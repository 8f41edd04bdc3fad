"""What other threads and Ctrl-C find: a state that was shown, and a network to go on with."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import signal
import sys
import threading
import time

import numpy as np
import pytest
from cases import STEPPERS

import fastnn as fn
from fastnn.sharing import Shown

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype(np.float32)
Y = np.sin(X[:, :1])

both_backends = pytest.mark.parametrize("backend", ["native", "reference"])


# A vector and those who read it.


def test_a_reader_that_was_overtaken_reads_a_copy_of_one_state():
    vector, shown, asked = np.zeros(3), Shown(), []

    def ask(given):
        asked.append(given is vector)
        first = given[0]
        if len(asked) == 1:
            shown.write(lambda: vector.fill(7.0))
        return first, given[-1]

    assert shown.read(ask, vector) == (7.0, 7.0)
    assert asked == [True, False]


def test_a_reader_that_nobody_overtakes_copies_nothing():
    vector, shown = np.arange(3.0), Shown()
    assert shown.read(lambda given: given is vector, vector)


def test_a_reader_waits_for_the_writer_that_is_at_work():
    vector, shown, writing, done = np.zeros(2), Shown(), threading.Event(), threading.Event()

    def store():
        vector[0] = 1.0
        writing.set()
        done.wait(10)
        vector[1] = 1.0

    thread = threading.Thread(target=shown.write, args=(store,))
    thread.start()
    writing.wait(10)
    found = []
    reader = threading.Thread(target=lambda: found.append(shown.read(np.copy, vector)))
    reader.start()
    reader.join(0.05)
    assert reader.is_alive()
    assert not found
    done.set()
    for each in (thread, reader):
        each.join(10)
    assert found[0].tolist() == [1.0, 1.0]


def test_a_copy_that_was_overtaken_is_made_again():
    vector, shown, made = np.zeros(2), Shown(), []

    def copy():
        made.append(vector.copy())
        if len(made) < 4:
            shown.write(lambda: vector.fill(len(made)))
        return made[-1]

    assert shown.copied(copy).tolist() == [3.0, 3.0]


def test_who_reads_within_its_own_writing_does_not_wait_for_itself():
    """A signal's handler runs in the thread that it interrupts."""
    vector, shown, found = np.ones(2), Shown(), []
    shown.write(lambda: found.append(shown.read(np.sum, vector)))
    assert found == [2.0]


def test_a_writer_that_fails_leaves_a_vector_that_can_be_read():
    vector, shown = np.ones(2), Shown()
    with pytest.raises(ZeroDivisionError):
        shown.write(lambda: 1 // 0)
    assert shown.read(np.sum, vector) == 2.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_of_a_fork_waits_for_no_thread_of_its_parent():
    """Of a fit in another thread the child has the lock and not the thread."""
    net, inside, go_on = network(), threading.Event(), threading.Event()

    def wait(run):
        inside.set()
        go_on.wait(20)

    thread = threading.Thread(
        target=net.fit, args=(X, Y), kwargs={"epochs": 1, "callbacks": wait, "progress": False}
    )
    thread.start()
    inside.wait(20)
    net._shown.turn = 0  # as in the middle of showing
    net._shown.writer = os.getpid(), thread.ident
    child = os.fork()
    if not child:
        fine = np.isfinite(net(X)).all() and np.isfinite(net.copy().predict(X)).all()
        with net_is_free(net):
            os._exit(0 if fine else 1)
    net._shown.turn = 1
    go_on.set()
    thread.join(20)
    assert os.waitpid(child, 0)[1] == 0


def net_is_free(net):
    """Train, within a with block, a network that nobody else may be training."""
    net.train_on_batch(X, Y, backend="reference")
    return np.errstate()


# Whole networks, while another thread trains.


def network(dtype="float32", dropout=0.0, rng=1):
    layers = [fn.Dense(8, "tanh"), fn.Dense(1)]
    if dropout:
        layers.insert(1, fn.Dropout(dropout))
    return fn.Sequential(layers, inputs=4, dtype=dtype, rng=rng)


WIDE = RNG.normal(size=(40, 30)).astype(np.float32)
ROW = WIDE[:1].copy()


def wide():
    """Return a network whose parameters take a while to write."""
    return fn.Sequential([fn.Dense(600, "relu"), fn.Dense(600), fn.Dense(1)], inputs=30)


def saved_and_loaded(net, path):
    net.save(path)
    return fn.load(path).parameters.tobytes()


# What a reader makes of a network; equal for equal states.
READERS = {
    "net(x)": lambda net, path: float(net(ROW[0])[0]),
    "net(x, out=)": lambda net, path: float(net(ROW[0], out=np.empty(1, np.float32))[0]),
    "net(X)": lambda net, path: net(WIDE).tobytes(),
    "predict": lambda net, path: net.predict(WIDE).tobytes(),
    "predict on the reference": lambda net, path: net.predict(ROW, backend="reference").tobytes(),
    "hidden": lambda net, path: net.hidden(ROW).tobytes(),
    "evaluate": lambda net, path: net.evaluate(WIDE, WIDE[:, 0], metrics="mae"),
    "loss_and_gradient": lambda net, path: net.loss_and_gradient(ROW, [0.5])[0],
    "trace": lambda net, path: net.trace(ROW, [0.5]).A[-1].tobytes(),
    "get_weights": lambda net, path: b"".join(part.tobytes() for part in net.get_weights()),
    "copy": lambda net, path: net.copy().parameters.tobytes(),
    "pickle": lambda net, path: pickle.loads(pickle.dumps(net)).parameters.tobytes(),
    "save": saved_and_loaded,
}


@pytest.mark.jit
@pytest.mark.parametrize("steps", ["epochs", "single steps"])
def test_other_threads_see_only_states_that_were_shown(steps, tmp_path):
    net, shown, seen = wide(), {name: [] for name in READERS}, {name: [] for name in READERS}
    path, ended = tmp_path / "net.fastnn", threading.Event()

    def note(run=None, folder=tmp_path / "shown.fastnn"):
        for name, reader in READERS.items():
            shown[name].append(reader(net, folder))

    def train():
        try:
            settings = {"optimizer": fn.SGD(1e-3, momentum=0.5)}
            if steps == "epochs":
                net.fit(
                    WIDE, WIDE[:, 0], epochs=25, batch_size=10, callbacks=note, progress=False,
                    **settings,
                )  # fmt: skip
            else:
                for _ in range(25):
                    net.train_on_batch(WIDE, WIDE[:, 0], **settings)
                    note()
        finally:
            ended.set()

    note()
    trainer = threading.Thread(target=train)
    trainer.start()
    while not ended.is_set():
        for name, reader in READERS.items():
            seen[name].append(reader(net, path))
    trainer.join()
    assert len(shown["copy"]) == 26
    for name, found in seen.items():
        assert found, name
        assert all(one in shown[name] for one in found), name


@both_backends
def test_only_what_callbacks_see_is_shown(backend, monkeypatch, tuned):
    """What a fit keeps to go back to, and what it goes through on the way, is nobody else's."""
    tuned(saving_share=0, slice_seconds=0.0)
    net, seen, shown = network(), [], []
    stepper = STEPPERS[backend]
    run = stepper.run

    def looked_at(self, *arguments):
        done = run(self, *arguments)
        seen.append(net.predict(X).tobytes())
        return done

    monkeypatch.setattr(stepper, "run", looked_at)

    def note(run=None):
        shown.append(net.predict(X).tobytes())

    note()
    net.fit(X, Y, epochs=4, batch_size=3, callbacks=note, backend=backend)
    assert len(seen) == 16
    assert set(seen) == set(shown[:-1])
    with pytest.raises(fn.DivergenceError):
        net.fit(X, 100 * Y, optimizer=fn.SGD(3e38), epochs=5, batch_size=3, backend=backend)
    assert set(seen[16:]) == {shown[-1]}


def test_a_copy_made_in_another_thread_has_moments_and_parameters_of_one_step():
    net, twin, states, ended = network(), network(), {}, threading.Event()
    for step in range(300):
        states[twin.parameters.tobytes()] = step
        twin.train_on_batch(X, Y)

    def train():
        for _ in range(300):
            net.train_on_batch(X, Y)
        ended.set()

    trainer = threading.Thread(target=train)
    trainer.start()
    copies = []
    while not ended.is_set():
        copies.append(net.copy())
    trainer.join()
    for one in copies:
        step = states.get(one.parameters.tobytes(), 300)
        assert step == (0 if one._state is None else one._state.steps) == one._streams.steps


# Ctrl-C.


class Bell:
    """A timer that interrupts like Ctrl-C, once, and only while it is wound."""

    def __init__(self):
        self.wound = False

    def ring(self, *_):
        if self.wound:
            self.wound = False
            raise KeyboardInterrupt

    def during(self, call, seconds):
        """Return what a call returned, or None if it was interrupted before."""
        value = None
        try:
            self.wound = True
            signal.setitimer(signal.ITIMER_REAL, seconds)
            value = call()
            self.wound = False
        except KeyboardInterrupt:
            pass
        return value


@pytest.fixture
def bell():
    bell = Bell()
    before = signal.signal(signal.SIGALRM, bell.ring)
    yield bell
    bell.wound = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupted_steps(bell, times, dtype="float32", seed=0):
    """Interrupt single steps at random moments; hold that each was taken whole or not at all."""
    net, twin = network(dtype, dropout=0.3), network(dtype, dropout=0.3)
    for each in (net, twin):
        step_of(each)
    began = time.perf_counter()
    for _ in range(20):
        step_of(net.copy())
    usual = (time.perf_counter() - began) / 20
    rng, struck, taken = random.Random(seed), 0, 1
    for _ in itertools.count():
        with np.errstate():  # Python may strike before a block's end is run
            # Not a partial function: after one of those, in C, a signal would be served.
            value = bell.during(lambda: step_of(net), rng.uniform(1e-6, 1.5 * usual))
        if value is not None:
            taken += 1
            assert value == step_of(twin)
        else:
            struck += 1
        assert net._state.steps == net._streams.steps == taken
        assert net.parameters.tobytes() == twin.parameters.tobytes()
        assert net._state.moments.tobytes() == twin._state.moments.tobytes()
        if struck == times:
            return
    raise AssertionError


def step_of(net):
    """Take a step."""
    return net.train_on_batch(X, Y, optimizer=fn.Adam(0.01))


needs_timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer")


@needs_timer
@pytest.mark.jit
def test_a_step_that_is_interrupted_anywhere_was_never_taken(bell):
    interrupted_steps(bell, 2000)


@needs_timer
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_very_many_steps_that_are_interrupted_were_never_taken(bell, seed, dtype):
    interrupted_steps(bell, 20_000, dtype, seed + 1)


CALLS = {
    "fit": lambda net, path: net.fit(X, Y, epochs=3, batch_size=4, progress=False),
    "first fit": lambda net, path: fn.Sequential([fn.Dense(2), fn.Dense(1)]).fit(X, Y, epochs=2),
    "net(x)": lambda net, path: net(X[0]),
    "predict": lambda net, path: net.predict(X),
    "evaluate": lambda net, path: net.evaluate(X, Y, metrics="mae"),
    "loss_and_gradient": lambda net, path: net.loss_and_gradient(X, Y),
    "set_weights": lambda net, path: net.set_weights(net.get_weights()),
    "copy": lambda net, path: net.copy(),
    "pickle": lambda net, path: pickle.loads(pickle.dumps(net)),
    "save": lambda net, path: net.save(path),
}


@needs_timer
@pytest.mark.jit
@pytest.mark.filterwarnings("ignore:fit was interrupted")
# A file or a listing that an interruption caught between its opening and its `with` is closed by
# the garbage collector, which says so.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_network_is_usable_after_an_interruption_of_anything(bell, tmp_path):
    net, path = network(dropout=0.3), tmp_path / "net.fastnn"
    net.save(path)
    rng = random.Random(0)
    for name, call in CALLS.items():
        began = time.perf_counter()
        for _ in range(3):
            call(net, path)
        usual = (time.perf_counter() - began) / 3
        for _ in range(40):
            with np.errstate():
                bell.during(lambda call=call: call(net, path), rng.uniform(1e-6, usual))
            step_of(net)
            assert np.isfinite(net(X)).all(), name
            assert fn.load(path).parameters.size == net.parameters.size, name
            assert net.copy().predict(X).tobytes() == net(X).tobytes(), name


@both_backends
@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist], ids=["arrays", "lists"])
def test_a_step_interrupted_after_any_call_was_never_taken(backend, form):
    """CPython serves signals when a function begins, and after calls of compiled code."""
    given = form(X), form(Y)
    net, twin = network(dropout=0.3), network(dropout=0.3)
    for each in (net, twin):
        each.train_on_batch(*given, backend=backend)
    before = net.parameters.tobytes(), net._state.moments.tobytes(), net._state.steps

    def struck(place):
        """Take a step, interrupted at a place; return how many there were, and what it gave."""
        places, value = itertools.count(1), None

        def profile(frame, event, argument):
            if event in ("call", "c_return") and next(places) == place:
                sys.setprofile(None)
                raise KeyboardInterrupt

        with np.errstate():
            try:
                sys.setprofile(profile)
                value = net.train_on_batch(*given, backend=backend)
            except KeyboardInterrupt:
                pass
            finally:
                sys.setprofile(None)
        return next(places) - 1, value

    place = 1
    while True:
        _, value = struck(place)
        if value is not None:
            break
        assert before == (
            net.parameters.tobytes(),
            net._state.moments.tobytes(),
            net._state.numbers["steps"],
        )
        place += 1
    assert place > 20
    assert value == twin.train_on_batch(*given, backend=backend)
    assert net.parameters.tobytes() == twin.parameters.tobytes()
