"""A fit that goes on where another ended: to the very bits of one that was never interrupted."""

from __future__ import annotations

import errno
import hashlib
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import fastnn as fn
from fastnn.formats import safetensors
from fastnn.machine import system

BACKENDS = ["native", "reference"]
both_backends = pytest.mark.parametrize("backend", BACKENDS)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 5))
Y = np.tanh(X @ RNG.normal(size=5)) + 0.1 * RNG.normal(size=90)
WEIGHTS = RNG.random(90)


def network(dtype="float32", layers=None):
    layers = layers or [fn.Dense(7, "tanh", l2=0.01), fn.Dropout(0.2), fn.Dense(1)]
    return fn.Sequential(layers, inputs=5, dtype=dtype, rng=3)


def error_of_largest(targets, predictions):
    """A metric of a user's own, for which what training predicts is kept."""
    return np.abs(targets - predictions).max()


def settings(backend="native", **more):
    common = {"batch_size": 8, "optimizer": fn.Adam(0.01), "backend": backend, "progress": False}
    return common | more


CASES = {
    "plain": {},
    "no order is drawn": {"shuffle": False, "optimizer": fn.SGD(0.05, momentum=0.9)},
    "split and counted": {"validation_fraction": 0.2, "metrics": ["mse", "r2"]},
    "metric of one's own": {"metrics": error_of_largest, "validation_data": (X[:9], Y[:9])},
    "after": {"metrics": "mae", "measure": "after", "sample_weight": WEIGHTS},
    "clipped": {"clip_norm": 0.5, "optimizer": fn.RMSprop(0.01)},
    "plateau": {"schedule": fn.ReduceOnPlateau("loss", patience=1), "optimizer": fn.SGD(0.3)},
}


def same(one, other):
    return one.parameters.tobytes() == other.parameters.tobytes()


def alike(one, other):
    """Whether two histories tell the same, but for the time."""
    return one.to_dict() == other.to_dict() and one.best_epoch == other.best_epoch


@both_backends
@pytest.mark.parametrize("case", CASES)
def test_ten_fits_of_one_epoch_are_one_fit_of_ten(case, backend):
    asked = settings(backend, **CASES[case])
    whole, parts = network(), network()
    expected = whole.fit(X, Y, epochs=10, **asked)
    for _ in range(10):
        found = parts.fit(X, Y, epochs=1, resume=True, **asked)
    assert same(whole, parts)
    assert alike(expected, found)
    assert found.epochs == 10
    assert found.stopped is None
    assert whole._streams == parts._streams


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
def test_both_dtypes_and_sparse_examples_go_on(make, dtype):
    examples = make(np.where(np.abs(X) > 0.7, X, 0.0))
    whole, parts = network(dtype), network(dtype)
    expected = whole.fit(examples, Y, epochs=4, **settings())
    parts.fit(examples, Y, epochs=3, **settings())
    assert alike(expected, parts.fit(examples, Y, epochs=1, resume=True, **settings()))
    assert same(whole, parts)


@both_backends
@pytest.mark.parametrize("restore_best", [True, False])
def test_early_stopping_goes_on_with_what_it_knew(restore_best, backend):
    asked = settings(backend, validation_fraction=0.3, optimizer=fn.SGD(0.2))

    def stopping():
        return fn.EarlyStopping(patience=4, restore_best=restore_best)

    whole, parts = network(), network()
    expected = whole.fit(X, Y, epochs=40, callbacks=stopping(), **asked)
    assert expected.stopped == "early stopping"
    while (
        found := parts.fit(X, Y, epochs=1, resume=True, callbacks=stopping(), **asked)
    ).stopped is None:
        assert found.epochs < 40
    assert alike(expected, found)
    assert same(whole, parts)


def test_parameters_that_were_set_between_two_fits_are_gone_on_from():
    one, other = network(), network()
    for net in (one, other):
        net.fit(X, Y, epochs=2, **settings())
        net.parameters *= 0.5
        net.fit(X, Y, epochs=1, resume=True, **settings())
    assert same(one, other)
    kept = network()
    kept.fit(X, Y, epochs=3, **settings())
    assert not same(one, kept)


def test_without_a_fit_before_it_begins_afresh():
    fresh, resumed = network(), network()
    fresh.fit(X, Y, epochs=2, **settings())
    resumed.fit(X, Y, epochs=2, resume=True, **settings())
    assert same(fresh, resumed)
    for net, how in ((fresh, {}), (resumed, {"resume": True})):
        net.train_on_batch(X, Y)
        net.fit(X, Y, epochs=1, **how, **settings())
    assert same(fresh, resumed)


# Files.


def checkpointed(folder, epochs, backend="native", keep=2, **more):
    """Fit for so many epochs, a file after each; return the network and the file."""
    path, net = folder / "state", network()
    kept = fn.Checkpoint(path, every=1, keep=keep)
    net.fit(X, Y, epochs=epochs, callbacks=kept, **settings(backend, **more))
    return net, path


@both_backends
@pytest.mark.parametrize("case", CASES)
def test_another_network_goes_on_from_the_file(case, backend, tmp_path):
    _, path = checkpointed(tmp_path, 3, backend, **CASES[case])
    asked = settings(backend, **CASES[case])
    whole, other = network(), network()
    other.parameters[:] = 0.0
    expected = whole.fit(X, Y, epochs=6, **asked)
    found = other.fit(X, Y, epochs=6, resume=path, **asked)
    assert same(whole, other)
    assert alike(expected, found)
    # What is over is over.
    assert alike(expected, other.fit(X, Y, epochs=6, resume=True, **asked)) is False


@both_backends
@pytest.mark.parametrize("case", ["plain", "split and counted", "metric of one's own", "clipped"])
def test_a_file_may_be_written_within_an_epoch(case, backend, tmp_path, tuned):
    tuned(slice_seconds=0.0)
    path, asked, copies = tmp_path / "state", settings(backend, **CASES[case]), []

    class Copying(fn.Checkpoint):
        def write(self, save):
            super().write(save)
            copies.append(shutil.copy(path, tmp_path / str(len(copies))))

    whole = network()
    kept = Copying(path, every=1e-9, unit="seconds")
    expected = whole.fit(X, Y, epochs=3, callbacks=kept, **asked)
    assert len(copies) > 3 * 6
    within = 0
    for copy in copies[1:-1:4]:
        within += fn.load(copy)._fit_state.step > 0
        other = network()
        found = other.fit(X, Y, epochs=3, resume=copy, **asked)
        assert same(whole, other), copy
        assert alike(expected, found), copy
    assert within > 2


@both_backends
def test_a_fit_that_ctrl_c_ended_goes_on(backend, tmp_path, tuned):
    tuned(slice_seconds=0.0)

    class Pressed(fn.Checkpoint):
        count = 0

        def is_due(self, epoch, ended):
            self.count += 1
            if self.count == 17:
                raise KeyboardInterrupt
            return super().is_due(epoch, ended)

    asked = settings(backend, metrics="mse")
    whole, net, other = network(), network(), network()
    expected = whole.fit(X, Y, epochs=4, **asked)
    path = tmp_path / "state"
    with pytest.warns(UserWarning, match="interrupted after 1 of 4"):
        net.fit(X, Y, epochs=4, callbacks=Pressed(path, every=100), **asked)
    assert alike(expected, other.fit(X, Y, epochs=4, resume=path, **asked))
    assert alike(expected, net.fit(X, Y, epochs=3, resume=True, **asked))
    assert same(whole, net)
    assert same(whole, other)


def test_save_and_load_keep_the_state(tmp_path):
    whole, net = network(), network()
    whole.fit(X, Y, epochs=5, **settings())
    net.fit(X, Y, epochs=3, **settings())
    net.save(tmp_path / "with", state=True)
    net.save(tmp_path / "without")
    read, copied = fn.load(tmp_path / "with"), net.copy()
    for one in (read, copied):
        one.fit(X, Y, epochs=2, resume=True, **settings())
        assert same(whole, one)
    assert (tmp_path / "without").stat().st_size < (tmp_path / "with").stat().st_size
    assert fn.load(tmp_path / "without")._fit_state is None


def test_the_files_before_are_kept(tmp_path):
    _, path = checkpointed(tmp_path, 5, keep=3)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["state", "state.1", "state.2"]
    counts = [
        fn.load(f"{path}{end}")._fit_state.history.epochs for end in ("", ".1", ".2")
    ]  # The last one is of the fit's end.
    assert counts == [5, 5, 4]
    # A process was killed between two renamings.
    path.unlink()
    assert network().fit(X, Y, epochs=6, resume=path, **settings()).epochs == 6


def test_a_full_disk_does_not_end_the_fit(tmp_path, monkeypatch):
    path, whole, net = tmp_path / "state", network(), network()
    whole.fit(X, Y, epochs=6, **settings())
    write, written, full = system.write_all, [], []

    def scarce(handle, chunk):
        if full and written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(len(chunk))
        write(handle, chunk)

    def fill(run):
        written.clear()
        full.extend([True] * (run.epoch == 3))

    monkeypatch.setattr(system, "write_all", scarce)
    callbacks = [fn.Checkpoint(path, every=1), fill]
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        net.fit(X, Y, epochs=6, callbacks=callbacks, **settings())
    monkeypatch.undo()
    assert [str(one.message) for one in heard] == [
        f"{path} could not be written, and training goes on: [Errno 28] No space left on device"
    ]
    assert Path(heard[0].filename) == Path(__file__)
    assert same(whole, net)
    assert {one.name for one in tmp_path.iterdir()} == {"state", "state.1"}
    assert fn.load(path)._fit_state.history.epochs == 2
    other = network()
    other.fit(X, Y, epochs=6, resume=path, **settings())
    assert same(whole, other)


def fit_of(epochs, rows, units, kept, resume=False):
    """Fit, a file after each step; children have this function as text."""
    from fastnn.tuning import tuning

    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, 6))
    y = np.sin(X.sum(axis=1))
    net = fn.Sequential([fn.Dense(units, "tanh"), fn.Dropout(0.1), fn.Dense(1)], inputs=6, rng=1)
    with tuning(slice_seconds=0.0):
        net.fit(
            X, y, epochs=epochs, batch_size=16, metrics="mse", validation_fraction=0.2,
            callbacks=kept, resume=resume, progress=False,
        )  # fmt: skip


CHILD = f"""
import os, sys
import numpy as np
import fastnn as fn

{inspect.getsource(fit_of)}

class Told(fn.Checkpoint):
    def write(self, save):
        print(flush=True)
        super().write(save)

path, epochs, rows, units = sys.argv[1], *map(int, sys.argv[2:])
there = os.path.exists(path) or os.path.exists(path + ".1")
fit_of(epochs, rows, units, Told(path, every=1e-9, unit="seconds"), path if there else False)
"""


def run_child(path, asked, *, files=None, pause=0.0):
    """Run the fit in a process of its own; kill it in or after the writing of so many files."""
    command = [sys.executable, "-c", CHILD, path, *asked]
    child = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)
    with child:
        if files is not None and all(child.stdout.readline() for _ in range(files)):
            time.sleep(pause)
            os.kill(child.pid, signal.SIGKILL)
        child.stdout.read()
    assert child.returncode in (0, -signal.SIGKILL)


def state_in(path):
    """Return where the fit in a file is, as epochs and steps, and all that it carries, in short."""
    net = fn.load(path)
    state = net._fit_state
    arrays = net.parameters, state.unpacked, state.sums, state.counts, state.outputs
    told = state.history.to_dict(), state.streams, state.steps, state.rate
    digest = hashlib.sha256(repr(told).encode())
    for array in arrays:
        digest.update(array.tobytes())
    return (state.history.epochs, state.step), digest.hexdigest()


def hold_against_killing(folder, kills, asked, pause):
    """Kill a fit again and again: each file that is left has the state of a fit left alone.

    A kill comes up to `pause` seconds after a file is begun that is drawn at random; return how
    many came while a file was being written.
    """
    rng = np.random.default_rng()
    path, expected = folder / "state", {}

    class Noting(fn.Checkpoint):
        def write(self, save):
            super().write(save)
            place, state = state_in(self.path)
            assert expected.setdefault(place, state) == state

    fit_of(*asked, Noting(folder / "alone", every=1e-9, unit="seconds"))
    (folder / "alone").unlink()
    (folder / "alone.1").unlink()
    most, reached, within = max(1, 2 * len(expected) // (kills + 1)), (0, 0), 0
    for _ in range(kills):
        run_child(path, asked, files=int(rng.integers(1, most + 1)), pause=rng.uniform(0.0, pause))
        there = sorted(folder.iterdir())
        whole = [one for one in there if one.name in ("state", "state.1")]
        within += len(there) > len(whole)
        for one in whole:
            place, state = state_in(one)
            assert state == expected[place], place
        if whole:
            assert state_in(whole[0])[0] >= reached
            reached = state_in(whole[0])[0]
    run_child(path, asked)
    place, state = state_in(path)
    assert place == (asked[0], 0)
    assert state == expected[place]
    return within


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_fit_goes_on_to_the_same_bits(tmp_path):
    hold_against_killing(tmp_path, 2, (6, 100, 20), 0.005)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize(("asked", "pause"), [((60, 200, 20), 0.01), ((15, 200, 60_000), 0.05)])
def test_a_fit_that_is_killed_fifty_times_has_the_same_bits_after_each(asked, pause, tmp_path):
    # With files of megabytes one is being written most of the time.
    assert hold_against_killing(tmp_path, 50, asked, pause) > 0


# What is refused.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": fn.Adam(0.02)}, r"optimizer \(Adam\(learning_rate=0.01.* there, Adam\("),
        ({"optimizer": fn.SGD(0.01)}, r"differs in optimizer \(Adam\(.* there, SGD\(.* here\)"),
        ({"batch_size": 9}, r"batch_size \(8 there, 9 here\)"),
        ({"shuffle": False}, r"shuffle \(True there, False here\)"),
        ({"metrics": "mse"}, r"what is recorded \(loss there, loss, mse here\)"),
        ({"loss": "huber"}, r"loss \(mean_squared_error there, .*uber.* here\)"),
        ({"backend": "reference"}, r"backend \(native there, reference here\)"),
        ({"clip_norm": 1.0}, r"clip_norm \(None there, 1.0 here\)"),
    ],
)
@pytest.mark.parametrize("way", ["file", "here"])
def test_another_fit_is_told_from_the_one_before(change, message, way, tmp_path):
    net, path = checkpointed(tmp_path, 2)
    before = net.parameters.tobytes(), net._streams
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y, resume=path if way == "file" else True, **settings() | change)
    assert (net.parameters.tobytes(), net._streams) == before
    # Nothing is lost by it.
    assert net.fit(X, Y, epochs=1, resume=True, **settings()).epochs == 3


def test_other_examples_and_networks_are_told_from_those_before(tmp_path):
    net, path = checkpointed(tmp_path, 2)
    with pytest.raises(ValueError, match=r"examples \(90 there, 89 here\)"):
        net.fit(X[1:], Y[1:], resume=True, **settings())
    with pytest.raises(ValueError, match="differs in the examples' contents"):
        net.fit(X + 1, Y, resume=True, **settings())
    wider = network(layers=[fn.Dense(8, "tanh"), fn.Dense(1)])
    with pytest.raises(
        ValueError, match=r"layer 0 .Dense.units=7.* there, .*units=8.* here.; layer 1"
    ):
        wider.fit(X, Y, resume=path, **settings())
    with pytest.raises(ValueError, match=r"dtype \(float32 there, float64 here\)"):
        network("float64").fit(X, Y, resume=path, **settings())


def test_what_names_no_state_is_refused(tmp_path):
    net, path = checkpointed(tmp_path, 1)
    net.save(tmp_path / "alone")
    with pytest.raises(ValueError, match=r"resume must name a file with the state of a fit"):
        net.fit(X, Y, resume=tmp_path / "alone", **settings())
    with pytest.raises(TypeError, match=r"resume must be True, False or a path; got 1 \(int\)"):
        net.fit(X, Y, resume=1, **settings())
    with pytest.raises(FileNotFoundError):
        net.fit(X, Y, resume=tmp_path / "nowhere", **settings())
    with pytest.raises(FileNotFoundError, match="path must be in a folder that exists"):
        net.fit(X, Y, callbacks=fn.Checkpoint(tmp_path / "no" / "state"), **settings())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "paper").touch()
    with pytest.raises(IsADirectoryError, match=r"path must be the name of a file; got .*mine"):
        net.fit(X, Y, callbacks=fn.Checkpoint(tmp_path / "mine", every=1), **settings())
    assert (tmp_path / "mine" / "paper").exists()
    with pytest.raises(ValueError, match="every must be an integer of at least 1; got 0"):
        fn.Checkpoint(path, every=0)
    with pytest.raises(ValueError, match="unit must be"):
        fn.Checkpoint(path, unit="steps")
    with pytest.raises(ValueError, match="state must be False for a network that keeps no state"):
        network().save(path, state=True)
    with pytest.raises(TypeError, match="state must be True or False"):
        net.save(path, state=1)


def changes(plain):
    """Yield copies of JSON with one part gone, or another in its place."""
    strange = [None, -1, 2**70, 1e400, "x", [], {}, True, [1, 2], {"array": "0"}, {"int": "9" * 30}]

    def parts(value, where):
        yield where
        if isinstance(value, dict | list):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                yield from parts(inner, (*where, key))

    for where in list(parts(plain, ()))[1:]:
        for other in [*strange, ...]:
            copy = json.loads(json.dumps(plain))
            inside = copy
            for key in where[:-1]:
                inside = inside[key]
            if other is ...:
                del inside[where[-1]]
            else:
                inside[where[-1]] = other
            yield copy


def test_hostile_states_are_refused_as_files_are(tmp_path):
    path = tmp_path / "state"
    net = network()
    asked = settings(validation_fraction=0.2, metrics="mse")
    stopping = [fn.EarlyStopping(patience=2), fn.Checkpoint(path)]
    net.fit(X, Y, epochs=2, callbacks=stopping, **asked)
    tensors, texts = safetensors.read(path, lambda *_: True)
    texts = {name: text for name, text in texts.items() if not name.startswith("sha")}
    outcomes = {"refused": 0, "another fit": 0, "taken": 0}
    every = list(changes(json.loads(texts["fit"])))
    for changed in every[:: max(1, len(every) // 400)]:
        try:
            safetensors.write(path, tensors, texts | {"fit": json.dumps(changed)})
            other = network()
            other.fit(X, Y, epochs=3, resume=path, callbacks=fn.EarlyStopping(), **asked)
            outcomes["taken"] += 1
        except fn.ModelFileError:
            outcomes["refused"] += 1
        except ValueError as problem:
            assert "resume must be of a fit of the same" in str(problem)  # noqa: PT017
            outcomes["another fit"] += 1
        assert np.isfinite(other.parameters).all()
    assert outcomes["refused"] > 100, outcomes
