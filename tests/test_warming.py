"""Compiling ahead of time: what it leaves to be done, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import fastnn as fn
from fastnn import __main__ as command_line

FINISHED = """
import sys
from numba.core.event import install_recorder
import numpy as np
import fastnn as fn

more = sys.argv[3] == "all layers"
with fn.backend(sys.argv[2]):
    seconds = fn.warmup(sys.argv[1], all_layers=more)
assert 0 < seconds < 300
from fastnn.kernels import answers, epoch, order

entries = epoch.engine, epoch.load, epoch.store, order.draw_order, answers.answer
known = [len(entry.signatures) for entry in entries]
assert known == [1 + more, 1, 1, 1, 1], known
X = np.random.default_rng(0).normal(size=(50, 3)).astype(sys.argv[1])
between = [fn.Standardize(), fn.Residual([fn.Dense(3)]), fn.BatchNorm(), fn.PReLU()] * more
layers = [*between, fn.Dense(4, "tanh", l2=0.1), fn.Dense(3, "softmax")]
net = fn.Sequential(layers, dtype=sys.argv[1])
with install_recorder("numba:compile") as compiled:
    net.fit(X, np.arange(50) % 3, validation_fraction=0.2, metrics="accuracy", epochs=2,
            clip_norm=1.0, sample_weight=np.ones(50), threads=2)
    net.train_on_batch(X, np.arange(50) % 3)
    net.predict(X), net.hidden(X), net(X), net(X[0]), net.evaluate(X, np.arange(50) % 3)
assert compiled.buffer == []
assert [len(entry.signatures) for entry in entries] == known
print("nothing left")
"""


@pytest.mark.jit
@pytest.mark.parametrize(
    ("dtype", "backend", "layers"),
    [
        ("float32", "native", "Dense"),
        ("float64", "native", "all layers"),
        ("float32", "reference", "Dense"),
    ],
)
def test_a_warm_process_has_nothing_left_to_compile(dtype, backend, layers):
    done = subprocess.run(
        [sys.executable, "-c", FINISHED, dtype, backend, layers],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "nothing left\n", done.stderr


@pytest.mark.parametrize(
    ("dtypes", "kind", "came"),
    [
        ("float16", ValueError, "'float16'"),
        (("float32", "float"), ValueError, "'float'"),
        (np.float32, TypeError, "float32"),
        (None, TypeError, "None"),
        ([32], TypeError, "32 (int)"),
    ],
)
def test_other_dtypes_are_refused(dtypes, kind, came):
    with pytest.raises(kind, match=r"^dtypes must be") as caught:
        fn.warmup(dtypes)
    assert came in str(caught.value)


def test_all_layers_is_yes_or_no():
    with pytest.raises(TypeError, match=r"^all_layers must be True or False; got 1"):
        fn.warmup((), all_layers=1)


def test_no_dtype_is_no_work():
    assert fn.warmup(()) >= 0


@pytest.mark.jit
def test_the_command_says_that_kernels_are_ready(capsys):
    assert command_line.main(["warmup"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("kernels are ready, after ")
    assert out.endswith(" seconds\n")
    assert err == ""


def test_an_interrupted_warmup_ends_like_any_command(capsys, monkeypatch):
    def interrupted(all_layers):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "warmup", interrupted)
    assert command_line.main(["warmup"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"
