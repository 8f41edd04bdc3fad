"""What other threads find of an estimator that is being fitted: one state that was shown."""

from __future__ import annotations

import copy
import pickle
import threading
from contextlib import suppress

import numpy as np
import pytest

pytest.importorskip("sklearn.callback")

from cases import STEPPERS
from scipy import sparse

import fastnn as fn
from fastnn.estimators import lbfgs
from fastnn.tuning import tuning

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Training interrupted"),
]

both_backends = pytest.mark.parametrize("backend", ["native", "reference"])

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3))
Y = np.sin(2 * X[:, 0]) + X[:, 1]
WIDE = RNG.normal(size=(40, 30)).astype(np.float32)
ROW = WIDE[:1].copy()
DOUBLE, SPARSE = WIDE.astype(np.float64), sparse.csr_array(WIDE)
HALVES = (WIDE[:, 0] > 0).astype(int)


def whole(arrays):
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def weights(one):
    return whole([*one.coefs_, *one.intercepts_])


# What a reader makes of an estimator; equal for equal states.
READERS = {
    "one row": lambda one: one.predict(ROW).tobytes(),
    "many rows": lambda one: one.predict(WIDE).tobytes(),
    "another dtype": lambda one: one.predict(DOUBLE).tobytes(),
    "sparse rows": lambda one: one.predict(SPARSE).tobytes(),
    "a list": lambda one: one.predict(ROW.tolist()).tobytes(),
    "probabilities": lambda one: one.predict_proba(WIDE).tobytes(),
    "logarithms": lambda one: one.predict_log_proba(WIDE).tobytes(),
    "score": lambda one: one.score(WIDE, HALVES),
    "copy": lambda one: weights(copy.copy(one)),
    "deep copy": lambda one: weights(copy.deepcopy(one)),
    "pickle": lambda one: weights(pickle.loads(pickle.dumps(one))),
    "to_sklearn": lambda one: weights(one.to_sklearn()),
    "network": lambda one: one.network_.copy().parameters.tobytes(),
    "get_weights": lambda one: whole(one.network_.get_weights()),
    "evaluate": lambda one: one.network_.evaluate(WIDE, HALVES, loss="binary_cross_entropy"),
    "hidden": lambda one: one.network_.hidden(ROW).tobytes(),
}


class Note(fn.Callback):
    """Takes down what every reader makes of each state that is shown."""

    def __init__(self):
        self.one, self.found = None, {name: [] for name in READERS}

    def __reduce__(self):
        return Note, ()

    def on_fit_begin(self, run):
        self.take()

    def on_epoch_end(self, run):
        self.take()

    def on_fit_end(self, run):
        # A search may end with another point than that of its last iteration.
        self.take()

    def take(self):
        for name, reader in READERS.items():
            self.found[name].append(reader(self.one))


def watched(train, one, note):
    """Train in another thread; return what readers found in this one meanwhile."""
    seen, ended, problems = {name: [] for name in READERS}, threading.Event(), []

    def run():
        try:
            train()
        except BaseException as problem:
            problems.append(problem)
        finally:
            ended.set()

    trainer = threading.Thread(target=run)
    trainer.start()
    while not ended.is_set():
        for name, reader in READERS.items():
            seen[name].append(reader(one))
    trainer.join()
    assert not problems
    for name, values in seen.items():
        assert values, name
        assert all(value in note.found[name] for value in values), name


def wide(note, epochs, **settings):
    """Return a classifier whose weights take a while to write, fitted for an epoch."""
    common = {"batch_size": len(WIDE), "tol": 0.0, "random_state": 0, "learning_rate_init": 1e-4}
    one = fn.MLPClassifier((500, 500), max_iter=1, **common | settings)
    note.one = one.fit(WIDE, HALVES)
    note.take()
    return one.set_params(max_iter=epochs, callbacks=note)


FITS = {
    "adam": {"solver": "adam"},
    "sgd, from the start": {"solver": "sgd", "warm_start": False},
    "lbfgs": {"solver": "lbfgs", "dtype": "float32"},
}


def hold_shown_states(settings, epochs):
    note = Note()
    one = wide(note, epochs, **{"warm_start": True} | settings)
    watched(lambda: one.fit(WIDE, HALVES), one, note)
    assert len(note.found["copy"]) > 4


@pytest.mark.jit
@pytest.mark.parametrize("name", FITS)
def test_other_threads_see_only_states_that_a_fit_showed(name):
    hold_shown_states(FITS[name], 8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FITS)
def test_other_threads_see_only_states_that_a_long_fit_showed(name, seed):
    hold_shown_states(FITS[name] | {"random_state": seed}, 150)


def hold_whole_steps(epochs):
    """Copy in this thread what another one trains; hold that a copy's parts are of one step."""
    one, twin = (fn.MLPRegressor("squared_error", 40, random_state=0) for _ in range(2))
    small, wanted = WIDE[:12], WIDE[:12, 0]
    states, ended = {}, threading.Event()

    def state(of):
        pace = of._optimizer
        return weights(of), pace.state.moments.tobytes(), pace.state.steps

    for step in range(1, epochs + 1):
        twin.partial_fit(small, wanted)
        states[step] = state(twin)
    one.partial_fit(small, wanted)

    def train():
        try:
            for _ in range(epochs - 1):
                one.partial_fit(small, wanted)
        finally:
            ended.set()

    trainer = threading.Thread(target=train)
    trainer.start()
    copies = []
    while not ended.is_set():
        copies.append(state(copy.copy(one)))
    trainer.join()
    assert copies
    assert all(found == states[found[2]] for found in copies)
    assert state(one) == states[epochs]


@pytest.mark.jit
def test_a_copy_made_in_another_thread_has_weights_and_moments_of_one_step():
    hold_whole_steps(200)


@pytest.mark.slow
def test_very_many_copies_made_in_another_thread_have_weights_and_moments_of_one_step():
    hold_whole_steps(5_000)


# Without a second thread: what could be seen at the moments between.


def fitted(note=None, **settings):
    """Return a regressor after a fit, or an interrupted one."""
    common = {"max_iter": 6, "batch_size": 5, "random_state": 0, "tol": 0.0}
    one = fn.MLPRegressor("squared_error", 6, **common | settings)
    if note is not None:
        one.set_params(callbacks=lambda run: note(one))
    with suppress(KeyboardInterrupt):
        one.fit(X, Y)
    return one


@both_backends
@pytest.mark.parametrize("early_stopping", [False, True])
def test_steps_on_the_way_are_not_shown(backend, early_stopping, monkeypatch):
    shown, seen, kept = [], [], []
    stepper = STEPPERS[backend]
    run = stepper.run

    def looked_at(self, *arguments):
        done = run(self, *arguments)
        if kept:
            seen.append((weights(kept[0]), kept[0].predict(X).tobytes()))
        return done

    def note(one):
        kept[:] = [one]
        shown.append((weights(one), one.predict(X).tobytes()))

    monkeypatch.setattr(stepper, "run", looked_at)
    with fn.backend(backend), tuning(slice_seconds=0.0, saving_share=np.inf):
        one = fitted(note, early_stopping=early_stopping)
        last = one.predict(X).tobytes()
    assert len(seen) > 15
    assert set(seen) == set(shown[:-1])
    assert last in {predicted for _, predicted in shown}


@both_backends
def test_an_interruption_that_hides_a_divergence_never_shows_it(backend, monkeypatch):
    stepper = STEPPERS[backend]
    run, store, stored = stepper.run, stepper.store, []

    def pressed(self, first, *arguments):
        done = run(self, first, *arguments)
        if stored:
            bad = np.full_like(self._job.parameters, np.nan)
            self.load(bad, self._job.state.moments)
            raise KeyboardInterrupt
        return done

    def noted(self, parameters, moments):
        store(self, parameters, moments)
        stored.append((parameters, np.isfinite(parameters).all()))

    monkeypatch.setattr(stepper, "run", pressed)
    monkeypatch.setattr(stepper, "store", noted)
    with fn.backend(backend), tuning(saving_share=np.inf):
        one = fitted(lambda one: None)
    vector = one._weights.vector
    assert not all(finite for _, finite in stored)
    assert all(finite for where, finite in stored if where is vector)
    assert one.n_iter_ == 1


def searched(note=None, **settings):
    return fitted(note, solver="lbfgs", max_iter=30, activation="tanh", alpha=1e-6, **settings)


@both_backends
def test_points_that_a_search_only_tries_are_not_shown(backend, monkeypatch):
    evaluate, kept, tried, seen, shown = lbfgs.FullBatch.__call__, [], [], [], []

    def looked_at(self, x):
        loss, gradient = evaluate(self, x)
        tried.append(x.tobytes())
        if kept:
            seen.append(weights(kept[0]))
        # A point that looks far too bad to be accepted.
        return loss + 1e6 * (len(tried) == 6), gradient

    def note(one):
        kept[:] = [one]
        shown.append((weights(one), one._weights.vector.tobytes()))

    monkeypatch.setattr(lbfgs.FullBatch, "__call__", looked_at)
    with fn.backend(backend):
        searched(note)
    accepted = {vector for _, vector in shown}
    assert len(accepted) > 6
    assert accepted < set(tried)
    assert tried[5] not in accepted
    assert set(seen) <= {found for found, _ in shown}


@both_backends
def test_an_interrupted_search_leaves_the_last_point_that_it_accepted(backend, monkeypatch):
    evaluate, shown, asked = lbfgs.FullBatch.__call__, [], []

    def pressed(self, x):
        asked.append(x)
        if len(asked) == 12:
            raise KeyboardInterrupt
        return evaluate(self, x)

    monkeypatch.setattr(lbfgs.FullBatch, "__call__", pressed)
    with fn.backend(backend):
        one = searched(lambda one: shown.append(weights(one)))
    assert weights(one) == shown[-1]
    assert one.n_iter_ == len(shown)


def test_a_reader_waits_for_weights_that_are_being_written():
    one = fitted()
    before, gone = one.predict(X), threading.Event()
    shown, vector = one.network_._shown, one._weights.vector
    linear = one._weights.linear
    writing, go_on = threading.Event(), threading.Event()

    def store():
        vector[:3] = 1e6
        writing.set()
        go_on.wait(20)
        vector[:] = 0.0

    writer = threading.Thread(target=shown.write, args=(store,))
    writer.start()
    writing.wait(20)
    found = []

    def read():
        found.append(one.predict(X))
        found.append(linear.predict(X))
        found.append(copy.copy(one).predict(X))
        gone.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert not gone.wait(0.05)
    go_on.set()
    for each in (writer, reader):
        each.join(20)
    assert before.any()
    assert len(found) == 3
    assert not any(np.any(each) for each in found)


@pytest.mark.parametrize("method", ["predict_proba", "predict_log_proba"])
def test_probabilities_overtaken_by_a_fit_are_of_one_state(method, monkeypatch):
    """They ask for the outputs and for the weighted sums."""
    one = fn.MLPClassifier((), max_iter=1, random_state=0).fit(WIDE, HALVES)
    one.coefs_[0][:] *= 1000
    network, ask = one.network_, fn.MLPClassifier._forward
    asked = []

    def overtaken(self, X, *, linear=False):
        found = ask(self, X, linear=linear)
        asked.append(self)
        if len(asked) == 1:
            network.parameters = 0.9 * network.parameters
        return found

    monkeypatch.setattr(fn.MLPClassifier, "_forward", overtaken)
    found = getattr(one, method)(WIDE)
    monkeypatch.undo()
    assert len(asked) >= 4
    assert np.array_equal(found, getattr(one, method)(WIDE))
