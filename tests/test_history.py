"""The history: a read-only mapping that grows by one float a key and epoch."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping

import numpy as np
import pytest

from fastnn.history import History


@pytest.fixture
def history():
    made = History(["loss", "val_loss"])
    made.append({"loss": np.float32(0.5), "val_loss": 0.75})
    made.append({"val_loss": 0.625, "loss": 0.25})
    return made


def test_it_is_a_mapping_of_lists_of_floats(history):
    assert isinstance(history, Mapping)
    assert dict(history) == {"loss": [0.5, 0.25], "val_loss": [0.75, 0.625]}
    assert list(history) == ["loss", "val_loss"]
    assert len(history) == 2
    assert "loss" in history
    assert "accuracy" not in history
    assert all(type(value) is float for values in history.values() for value in values)
    assert history.epochs == 2


def test_it_is_read_only(history):
    history["loss"].append(9.0)
    history.to_dict()["loss"].append(9.0)
    assert history["loss"] == [0.5, 0.25]
    with pytest.raises(TypeError):
        history["loss"] = []
    with pytest.raises(AttributeError):
        history.epochs = 3


def test_names_are_there_before_the_first_epoch():
    history = History(["loss", "accuracy"])
    assert history["accuracy"] == []
    assert history.epochs == 0
    assert (history.seconds, history.stopped, history.best_epoch) == (0.0, None, None)


def test_without_names_the_first_epoch_sets_them():
    history = History()
    history.append({"loss": 1.0})
    assert history["loss"] == [1.0]
    with pytest.raises(ValueError, match=r"^logs must hold 'loss', every epoch alike; got 'los'"):
        history.append({"los": 1.0})


@pytest.mark.parametrize(
    "logs", [{}, {"loss": 1.0}, {"loss": 1.0, "val_loss": 1.0, "accuracy": 1.0}]
)
def test_other_keys_are_refused_and_nothing_is_kept(history, logs):
    before = history.to_dict()
    with pytest.raises(ValueError, match="logs must hold 'loss', 'val_loss', every epoch alike"):
        history.append(logs)
    assert history.to_dict() == before
    assert history.epochs == 2


def test_a_value_that_is_no_number_keeps_the_columns_alike(history):
    with pytest.raises(TypeError):
        history.append({"loss": 1.0, "val_loss": None})
    assert [len(values) for values in history.values()] == [2, 2]


def test_a_missing_key_says_what_there_is(history):
    with pytest.raises(KeyError, match=r"history has 'loss', 'val_loss'; got 'accuracy'\."):
        history["accuracy"]
    assert history.get("accuracy") is None


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda history: pickle.loads(pickle.dumps(history))]
)
def test_copies_are_the_same(history, again):
    history.seconds, history.stopped, history.best_epoch = 1.5, "interrupted", 2
    twin = again(history)
    assert twin == history
    assert (twin.epochs, twin.seconds, twin.stopped, twin.best_epoch) == (2, 1.5, "interrupted", 2)


def test_a_deep_copy_goes_its_own_way(history):
    twin = copy.deepcopy(history)
    twin.append({"loss": 0.0, "val_loss": 0.0})
    assert history.epochs == 2
    assert len(history["loss"]) == 2


def test_to_dict_can_be_written_as_json(history):
    assert json.loads(json.dumps(history.to_dict())) == dict(history)


def test_to_dict_makes_a_frame(history):
    pandas = pytest.importorskip("pandas")
    assert pandas.DataFrame(history.to_dict()).shape == (2, 2)


def test_repr(history):
    assert repr(history) == "History(2 epochs in 0 s; loss 0.25, val_loss 0.625)"
    history.seconds, history.stopped, history.best_epoch = 83.2, "early stopping", 1
    assert repr(history) == (
        "History(2 epochs in 1 min 23 s; loss 0.25, val_loss 0.625; best epoch 1; "
        "stopped: early stopping)"
    )


def test_repr_of_short_histories():
    history = History(["loss"])
    assert repr(history) == "History(0 epochs in 0 s)"
    history.append({"loss": 1 / 3})
    assert repr(history) == "History(1 epoch in 0 s; loss 0.3333)"


def test_frames_take_a_history_as_it_is(history):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(history)
    assert list(frame.columns) == ["loss", "val_loss"]
    assert frame.shape == (2, 2)
    assert frame["val_loss"].tolist() == [0.75, 0.625]
    assert pandas.DataFrame(History(["loss"])).shape == (0, 1)


def test_polars_and_json_take_a_history_as_it_is(history):
    assert json.loads(json.dumps(history)) == history.to_dict()
    polars = pytest.importorskip("polars")
    assert polars.DataFrame(history).shape == (2, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda history: history.clear(),
        lambda history: history.pop("loss"),
        lambda history: history.update(loss=[]),
        lambda history: history.__delitem__("loss"),
        lambda history: history.setdefault("mine", []),
    ],
)
def test_keys_are_neither_set_nor_taken_away(history, change):
    with pytest.raises(TypeError, match="a history only grows"):
        change(history)
    assert history.epochs == 2
