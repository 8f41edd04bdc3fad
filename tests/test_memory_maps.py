"""Arrays in files: `np.memmap`, and `np.load(mmap_mode="r")`, are read where they lie."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastnn as fn
from fastnn import gate, training

RNG = np.random.default_rng(0)


@pytest.fixture(params=["memmap", "load"])
def mapped(request, tmp_path):
    """An array of 60 rows in a file, and how it came from there."""
    values = RNG.normal(size=(60, 5)).astype(np.float32)
    if request.param == "load":
        np.save(tmp_path / "X.npy", values)
        return np.load(tmp_path / "X.npy", mmap_mode="r")
    values.tofile(tmp_path / "X")
    return np.memmap(tmp_path / "X", np.float32, "r", shape=values.shape)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_fit_reads_the_file_s_own_memory(mapped, shuffle, backend, monkeypatch):
    jobs, fit = [], training.fit

    def spy(job, *given):
        jobs.append(job)
        return fit(job, *given)

    monkeypatch.setattr(training, "fit", spy)
    y = np.asarray(mapped[:, 0])
    asked = {"epochs": 2, "shuffle": shuffle, "backend": backend}
    nets = [fn.Sequential([fn.Standardize(), fn.Dense(4), fn.Dense(1)]) for _ in range(2)]
    nets[0].fit(mapped, y, **asked)
    nets[1].fit(np.array(mapped), y, **asked)
    assert np.shares_memory(jobs[0].data.X, mapped)
    assert type(jobs[0].data.X) is np.ndarray
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    assert np.array_equal(nets[0].predict(mapped), nets[1].predict(np.array(mapped)))
    assert nets[0].evaluate(mapped, y) == nets[1].evaluate(np.array(mapped), y)


def test_what_lies_otherwise_is_converted(mapped):
    assert np.shares_memory(gate.features(mapped, "float32", 5), mapped)
    assert not np.shares_memory(gate.features(mapped, "float64", 5), mapped)
    assert not np.shares_memory(gate.features(mapped[:, :4], "float32", 4), mapped)


LIMITED = """
    import resource, sys
    import numpy as np, fastnn as fn

    X = np.load(sys.argv[1], mmap_mode="r")
    y = np.arange(len(X)) % 2

    def ask():
        fn.set_threads(1)
        net = fn.Sequential([fn.Dense(4, "relu"), fn.Dense(2, "softmax")], inputs=X.shape[1])
        some = slice(0, 5000)
        yield net.fit(X[some], y[some], epochs=1, batch_size=512, progress=False)
        yield net.predict(X[some]), net.evaluate(X[some], y[some], metrics="accuracy")
        # From here on a copy has no room.
        lines = open("/proc/self/status").read().splitlines()
        data = next(int(line.split()[1]) for line in lines if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (data * 1024 + 80_000_000,) * 2)
        yield net.fit(X, y, epochs=1, batch_size=512, progress=False)
        yield net.predict(X), net.evaluate(X, y, metrics="accuracy")
        try:
            yield X.copy()
        except MemoryError:
            print("as it should be")

    for _ in ask():
        pass
"""


@pytest.mark.jit
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_a_file_larger_than_the_memory_that_is_left_is_read(tmp_path):
    # Nothing but zeros takes no room on the disk.
    np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (100_000, 500)).flush()
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), str(tmp_path / "X.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "as it should be\n", done.stderr
