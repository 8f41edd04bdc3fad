"""Two paths to one result: how one is chosen, that it is the one taken, and that they agree."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn import backends, reference
from fastnn.backends import in_force
from fastnn.fitting import compiled_call, runs, states
from fastnn.predicting import predictor

BACKENDS = ("native", "reference")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(41, 5))
LABELS = RNG.integers(0, 3, size=41)
WEIGHTS = RNG.integers(0, 3, size=41)

# Every public method that computes.
METHODS = {
    "fit": lambda net, **backend: net.fit(X, LABELS, epochs=1, validation_data=(X, LABELS),
                                          metrics="accuracy", **backend),
    "train_on_batch": lambda net, **backend: net.train_on_batch(X, LABELS, **backend),
    "predict": lambda net, **backend: net.predict(X, **backend),
    "predict_many": lambda net, **backend: net.predict_many(net.parameters[None], X, **backend),
    "hidden": lambda net, **backend: net.hidden(X, **backend),
    "evaluate": lambda net, **backend: net.evaluate(X, LABELS, metrics="accuracy", **backend),
    "trace": lambda net, **backend: net.trace(X, LABELS, **backend),
    "loss_and_gradient": lambda net, **backend: net.loss_and_gradient(X, LABELS, **backend),
    "objective": lambda net, **backend: net.objective(X, LABELS, **backend)(net.parameters),
    "diagnose": lambda net, **backend: net.diagnose(X, LABELS, **backend),
}  # fmt: skip


def network(dtype="float32"):
    layers = [fn.Dense(7, "tanh", l2=0.01), fn.Dense(4, "relu", bias=False), fn.Dense(3, "softmax")]
    return fn.Sequential(layers, 5, dtype)


@pytest.fixture
def taken(monkeypatch):
    """Note which path computes."""
    paths = set()
    linear = reference.linear

    def native(work):
        def noted(self, *arguments):
            paths.add("native")
            return work(self, *arguments)

        return noted

    def textbook(*arguments):
        paths.add("reference")
        return linear(*arguments)

    room_and_name = (
        (runs.Run, "__call__"), (runs.Run, "once"), (predictor.Predictor, "one"),
        (predictor.Predictor, "single"), (compiled_call.Call, "at_once"),
        (predictor.Predictor, "each"),
    )  # fmt: skip
    for room, name in room_and_name:
        monkeypatch.setattr(room, name, native(getattr(room, name)))
    monkeypatch.setattr(reference, "linear", textbook)
    return paths


@pytest.fixture(autouse=True)
def no_setting(monkeypatch):
    """Whatever the environment says, these tests say themselves."""
    monkeypatch.delenv("FASTNN_BACKEND", raising=False)
    monkeypatch.setattr(backends, "_asked", "native")


# Choosing.


def test_every_method_that_takes_a_backend_is_tried():
    public = {name: value for name, value in vars(fn.Sequential).items() if name[0] != "_"}
    taking = {
        name
        for name, value in public.items()
        if callable(value) and "backend" in inspect.signature(value).parameters
    }
    # A step by a gradient that is given passes no example on; `test_apply_gradient` tries it.
    assert taking == {*METHODS, "apply_gradient"}


@pytest.mark.parametrize("method", METHODS)
def test_the_path_that_is_asked_for_computes_and_no_other(method, taken, monkeypatch):
    call, net = METHODS[method], network()
    for name in BACKENDS:
        ways = {
            "by the call": lambda name=name: call(net, backend=name),
            "by the block": lambda name=name: within(fn.backend(name), lambda: call(net)),
        }
        for how, work in ways.items():
            taken.clear()
            work()
            assert taken == {name}, how
        monkeypatch.setattr(backends, "_asked", name)
        taken.clear()
        call(net)
        assert taken == {name}, "by the environment"
        monkeypatch.setattr(backends, "_asked", "native")
    taken.clear()
    call(net)
    assert taken == {"native"}, "by default"


def within(context, work):
    with context:
        return work()


def test_the_call_comes_before_the_block_and_the_block_before_the_environment(monkeypatch):
    assert in_force() == "native"
    monkeypatch.setattr(backends, "_asked", "reference")
    assert in_force() == "reference"
    with fn.backend("native"):
        assert in_force() == "native"
        with fn.backend("reference"):
            assert in_force() == "reference"
            assert in_force("native") == "native"
        assert in_force() == "native"
    assert in_force() == "reference"


@pytest.mark.parametrize(
    ("text", "expected"), [(None, "native"), ("", "native"), ("reference", "reference")]
)
def test_the_environment_is_read_when_the_package_is_imported(text, expected):
    code = (
        "import os; from fastnn.backends import in_force; found = in_force(); "
        "os.environ['FASTNN_BACKEND'] = 'neither'; print(found, in_force())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "FASTNN_BACKEND"}
    if text is not None:
        environment["FASTNN_BACKEND"] = text
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == [expected, expected], done.stderr


def test_a_block_ends_with_an_error_too():
    with pytest.raises(KeyError), fn.backend("reference"):
        raise KeyError
    assert in_force() == "native"


def test_a_block_may_be_a_decorator():
    @fn.backend("reference")
    def work():
        return in_force()

    assert work() == work() == "reference"
    assert in_force() == "native"


def test_a_block_holds_for_its_own_thread_only():
    found = []
    with fn.backend("reference"):
        thread = threading.Thread(target=lambda: found.append(in_force()))
        thread.start()
        thread.join()
    assert found == ["native"]


def test_the_short_way_in_follows_the_block(taken):
    for x in (np.zeros(5, np.float32), np.zeros((2, 5), np.float32), np.zeros((9, 5), np.float32)):
        net = network()
        for name in ("reference", "native", "native", "reference"):
            taken.clear()
            with fn.backend(name):
                net(x)
                net(x, out=net(x))
            assert taken == {name}


def test_callbacks_run_in_the_block_around_the_fit():
    found = []
    with fn.backend("reference"):
        network().fit(X, LABELS, epochs=1, callbacks=lambda run: found.append(in_force()))
    assert found == ["reference"]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("nativ", ValueError, "backend must be one of 'native', 'reference'; got 'nativ'. "
                              "Did you mean 'native'?"),
        ("Reference", ValueError, "backend must be one of 'native', 'reference'; "
                                  "got 'Reference'. Did you mean 'reference'?"),
        ("cuda", ValueError, "backend must be one of 'native', 'reference'; got 'cuda'."),
        (1, TypeError, "backend must be a string, one of 'native', 'reference'; got 1 (int)."),
    ],
)  # fmt: skip
def test_a_path_that_there_is_not_is_refused(name, kind, message):
    for call in (lambda: fn.backend(name).__enter__(), *(
        lambda method=method: METHODS[method](network(), backend=name) for method in METHODS
    )):  # fmt: skip
        with pytest.raises(kind) as caught:
            call()
        assert str(caught.value) == message
    assert in_force() == "native"


def test_a_wrong_environment_is_named(monkeypatch):
    monkeypatch.setattr(backends, "_asked", "referense")
    with pytest.raises(ValueError, match=r"FASTNN_BACKEND must be .*'referense'.*'reference'\?"):
        network().predict(X)
    network().predict(X, backend="native")


# Agreeing.


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("float64", 1e-10)])
def test_a_whole_job_comes_to_the_same_result(dtype, tolerance):
    """Weights, a penalty, short batches, held-out examples, metrics, the best weights restored."""
    nets, histories = [], []
    for backend in BACKENDS:
        net = network(dtype)
        with fn.backend(backend):
            net.fit(X, LABELS, optimizer=fn.SGD(0.05, 0.9, nesterov=True), epochs=3, batch_size=7)
            net.train_on_batch(X[:9], LABELS[:9])
            histories.append(net.fit(
                X, np.eye(3)[LABELS], optimizer=fn.Adam(0.02), epochs=20, batch_size=8,
                sample_weight=WEIGHTS, validation_fraction=0.3, metrics=["accuracy", "mse"],
                callbacks=fn.EarlyStopping(patience=12),
            ))  # fmt: skip
        nets.append(net)
    native, textbook = histories
    assert list(native) == list(textbook)
    assert (native.stopped, native.best_epoch, native.epochs) == (
        textbook.stopped, textbook.best_epoch, textbook.epochs,
    )  # fmt: skip
    for name in native:
        np.testing.assert_allclose(native[name], textbook[name], rtol=10 * tolerance, err_msg=name)
    scale = np.abs(nets[1].parameters).max()
    np.testing.assert_allclose(
        nets[0].parameters, nets[1].parameters, rtol=0, atol=tolerance * scale
    )
    assert nets[0]._streams == nets[1]._streams


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_reference_computes_in_the_network_s_dtype(dtype):
    net = network(dtype)
    with fn.backend("reference"):
        net.fit(X, LABELS, epochs=2, sample_weight=WEIGHTS)
        found = [net.predict(X), net.hidden(X), net.loss_and_gradient(X, LABELS)[1]]
        t = net.trace(X, LABELS)
    for array in (net.parameters, *found, *t.Z, *t.A, *t.dZ, *t.dW, t.db[0]):
        assert array.dtype == dtype


def test_moments_keep_the_network_s_dtype_on_the_reference():
    net = network()
    net.train_on_batch(X, LABELS, backend="reference")
    assert isinstance(net._state, states.TrainingState)
    assert net._state.moments.dtype == np.float32
    assert net.parameters.dtype == np.float32


# Without anything else.

JOB = textwrap.dedent("""
    import sys, warnings
    for missing in sys.argv[1].split(","):
        # An import of it fails as it does where it is not installed.
        sys.modules[missing] = None
    warnings.simplefilter("error")
    import numpy as np
    import fastnn as fn

    X = np.random.default_rng(0).normal(size=(60, 4))
    y = (X[:, 0] > X[:, 1]).astype(int)
    net = fn.Sequential([fn.Dense(6, "tanh", l2=1e-3), fn.Dense(2, "softmax")])
    history = net.fit(X, y, optimizer=fn.Adam(0.05), epochs=30, metrics="accuracy",
                      validation_fraction=0.2, callbacks=fn.EarlyStopping())
    assert history["accuracy"][-1] > 0.9
    net.train_on_batch(X, y)
    net.predict(X), net(X[0].astype("float32")), net.hidden(X), net.evaluate(X, y)
    net.trace(X, y), net.loss_and_gradient(X, y), str(net.diagnose(X, y)), net.copy()
    net.save(sys.argv[2])
    assert (fn.load(sys.argv[2]).predict(X) == net.predict(X)).all()
    loaded = {name.partition(".")[0] for name in sys.modules if sys.modules[name] is not None}
    print(*sorted(loaded & {"numba", "llvmlite", "scipy", "pandas", "polars", "sklearn"}))
""")

EXTRAS = "scipy,sklearn,pandas,polars,matplotlib,safetensors,IPython"


@pytest.mark.parametrize(
    ("backend", "missing", "loaded"),
    [
        pytest.param("native", EXTRAS, "llvmlite numba", marks=pytest.mark.jit),
        ("reference", f"{EXTRAS},numba,llvmlite", ""),
    ],
    ids=BACKENDS,
)
def test_the_whole_job_runs_with_nothing_more_than_it_needs(backend, missing, loaded, tmp_path):
    root = str(Path(fn.__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", JOB, missing, str(tmp_path / "net")],
        env={**os.environ, "PYTHONPATH": path, "FASTNN_BACKEND": backend},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == loaded
    assert done.stderr == "", "nothing is said where no one watches"
