"""Callbacks that write a fit's record elsewhere, and that end it: values, places, and when."""

from __future__ import annotations

import csv
import os
import pickle
import time

import numpy as np
import pytest

import fastnn as fn

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3))
Y = X[:, 0]
FIT = {"batch_size": 16, "progress": False, "validation_data": (X[:10], Y[:10])}


def network():
    return fn.Sequential([fn.Dense(4, "tanh"), fn.Dense(1)], inputs=3, dtype="float64", rng=0)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_table_holds_what_the_history_does(tmp_path, backend):
    path = tmp_path / "fit.csv"
    path.write_text("of another fit")
    history = network().fit(
        X, Y, epochs=5, metrics="r2", callbacks=fn.CSVLogger(path), backend=backend, **FIT
    )
    found = rows(path)
    assert list(found[0]) == ["epoch", "seconds", *history]
    assert [row["epoch"] for row in found] == ["1", "2", "3", "4", "5"]
    for name, values in history.items():
        assert [float(row[name]) for row in found] == values
    seconds = [float(row["seconds"]) for row in found]
    assert seconds == sorted(seconds)


def test_a_table_may_go_on(tmp_path):
    logger = fn.CSVLogger(tmp_path / "fit.csv", append=True)
    for _ in range(2):
        network().fit(X, Y, epochs=2, callbacks=logger, **FIT)
    assert [row["epoch"] for row in rows(logger.path)] == ["1", "2", "1", "2"]
    net = network()
    before = net.parameters.copy()
    with pytest.raises(ValueError, match="to append to; got one of epoch, seconds, loss, val_loss"):
        net.fit(X, Y, epochs=2, metrics="r2", callbacks=logger, **FIT)
    assert (net.parameters == before).all()


@pytest.mark.parametrize("append", [False, True])
def test_the_table_of_a_fit_that_goes_on_is_that_of_one_fit(tmp_path, append):
    state, logger = tmp_path / "state", fn.CSVLogger(tmp_path / "fit.csv", append)
    if append:
        network().fit(X, Y, epochs=5, callbacks=logger, **FIT)

    def fail(run):
        if run.epoch == 5:
            raise RuntimeError

    kept = fn.Checkpoint(state, every=3)
    with pytest.raises(RuntimeError):
        network().fit(X, Y, epochs=7, callbacks=[logger, kept, fail], **FIT)
    with open(logger.path, "a") as file:
        file.write("3,0.1")  # as of a process that was killed
    history = network().fit(X, Y, epochs=7, callbacks=[logger, kept], resume=state, **FIT)
    before = ["1", "2", "3", "4", "5"] if append else []
    found = rows(logger.path)
    assert [row["epoch"] for row in found] == [*before, "1", "2", "3", "4", "5", "6", "7"]
    assert [float(row["loss"]) for row in found[len(before) :]] == history["loss"]
    # A fit that does not go on begins a table of its own.
    network().fit(X, Y, epochs=2, callbacks=fn.CSVLogger(logger.path), **FIT)
    assert [row["epoch"] for row in rows(logger.path)] == ["1", "2"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="nothing here is always full")
def test_a_full_disk_ends_the_table_and_not_the_fit():
    asked = {**FIT, "epochs": 4}
    with pytest.warns(UserWarning, match="/dev/full could not be written") as warned:
        history = network().fit(X, Y, callbacks=fn.CSVLogger("/dev/full"), **asked)
    assert len(warned) == 1
    assert history.epochs == 4


def test_a_fit_that_fails_leaves_the_lines_before(tmp_path):
    path = tmp_path / "fit.csv"

    def fail(run):
        if run.epoch == 3:
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        network().fit(X, Y, epochs=9, callbacks=[fn.CSVLogger(path), fail], **FIT)
    assert len(rows(path)) == 3


def test_a_file_that_cannot_be_written_ends_a_fit_before_it_begins(tmp_path):
    with pytest.raises(FileNotFoundError):
        network().fit(X, Y, callbacks=fn.CSVLogger(tmp_path / "no" / "fit.csv"), **FIT)


def test_loggers_change_no_weight_and_let_the_engine_go_on_through_epochs(tmp_path):
    seen, watched = [], []

    class Seeing(fn.Callback):
        each_epoch = False

        def on_epoch_end(self, run):
            seen.append(run.network.parameters.tobytes())

    plain, logged, apart = network(), network(), network()
    plain.fit(X, Y, epochs=300, **FIT)
    logged.fit(X, Y, epochs=300, callbacks=[fn.CSVLogger(tmp_path / "a"), Seeing()], **FIT)
    apart.fit(
        X, Y, epochs=300, callbacks=lambda run: watched.append(run.network.parameters[0]), **FIT
    )
    assert plain.parameters.tobytes() == logged.parameters.tobytes() == apart.parameters.tobytes()
    assert len(seen) == 300
    assert len(set(watched)) == 300
    # Epochs of a slice are shown with the weights of its last one.
    assert len(set(seen)) < 300


@pytest.mark.parametrize(
    "logger", [fn.CSVLogger("a"), fn.TensorBoardLogger("b"), fn.MLflowLogger()]
)
def test_loggers_can_be_pickled(logger):
    twin = pickle.loads(pickle.dumps(logger))
    assert type(twin) is type(logger)
    assert vars(twin) == vars(logger)


def test_curves_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = network().fit(X, Y, epochs=4, callbacks=fn.TensorBoardLogger(tmp_path), **FIT)
    for place, name in (("train", "loss"), ("validation", "val_loss")):
        read = EventAccumulator(str(tmp_path / place))
        read.Reload()
        events = read.Tensors("loss")
        assert [event.step for event in events] == [1, 2, 3, 4]
        values = [event.tensor_proto.float_val[0] for event in events]
        assert values == pytest.approx(history[name], rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_run_of_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    monkeypatch.chdir(tmp_path)
    with mlflow.start_run() as run:
        history = network().fit(X, Y, epochs=3, callbacks=fn.MLflowLogger(prefix="a."), **FIT)
    client = mlflow.MlflowClient()
    found = client.get_metric_history(run.info.run_id, "a.val_loss")
    assert [(one.step, one.value) for one in found] == list(enumerate(history["val_loss"], 1))
    kept = client.get_run(run.info.run_id).data.params
    assert kept == {"a.epochs": "3", "a.parameters": "21"}
    network().fit(X, Y, epochs=1, callbacks=fn.MLflowLogger(), **FIT)
    assert mlflow.active_run() is None


@pytest.mark.parametrize(
    ("logger", "said"),
    [
        (fn.CSVLogger("fit.csv"), "CSVLogger('fit.csv', append=False)"),
        (fn.TensorBoardLogger("runs/first"), "TensorBoardLogger('runs/first')"),
        (fn.MLflowLogger("1a", prefix="mlp."), "MLflowLogger(run_id='1a', prefix='mlp.')"),
    ],
    ids=["csv", "tensorboard", "mlflow"],
)
def test_a_logger_is_shown_as_it_is_made(logger, said):
    assert repr(logger) == said
    made = eval(said, vars(fn))
    assert vars(made) == vars(logger)


def test_a_logger_s_arguments_are_checked():
    with pytest.raises(TypeError, match=r"^run_id must be a string; got 3"):
        fn.MLflowLogger(run_id=3)
    with pytest.raises(TypeError, match=r"^append must be"):
        fn.CSVLogger("a", append=1)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_fit_ends_at_the_first_value_that_is_good_enough(backend):
    asked = {**FIT, "epochs": 30, "metrics": "r2", "backend": backend}
    whole = network().fit(X, Y, **asked)
    for monitor, place in (("loss", 7), ("val_r2", 12)):
        goal = fn.TargetLoss(whole[monitor][place], monitor)
        history = network().fit(X, Y, callbacks=goal, **asked)
        sign = 1.0 if monitor == "loss" else -1.0
        first = next(n for n, one in enumerate(whole[monitor]) if sign * one <= sign * goal.value)
        assert history.epochs == first + 1
        assert history.stopped == "target reached"
    assert network().fit(X, Y, callbacks=fn.TargetLoss(-1.0), **asked).stopped is None


def test_what_cannot_be_a_target_is_refused():
    with pytest.raises(TypeError, match=r"^value must be"):
        fn.TargetLoss("low")
    with pytest.raises(ValueError, match=r"^mode must be one of"):
        fn.TargetLoss(1.0, mode="less")
    with pytest.raises(ValueError, match=r"^monitor must be one of 'loss', 'val_loss'"):
        network().fit(X, Y, callbacks=fn.TargetLoss(1.0, "r2"), **FIT)
    with pytest.raises(ValueError, match=r"^seconds must be"):
        fn.TimeLimit(0.0)


def test_a_fit_ends_when_its_time_is_up(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    history = network().fit(X, Y, epochs=500, callbacks=fn.TimeLimit(3.0), **FIT)
    assert history.stopped == "time limit"
    assert 3 <= history.epochs < 500
