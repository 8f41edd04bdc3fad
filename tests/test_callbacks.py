"""Callbacks: what is accepted as one, and early stopping on fits made by hand."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

from fastnn.callbacks import Callback, EarlyStopping, as_callbacks
from fastnn.history import History

NAN = math.nan


class FakeNetwork:
    """Parameters that stay one vector, as a network's do."""

    def __init__(self, vector):
        self.vector = vector

    @property
    def parameters(self):
        return self.vector

    @parameters.setter
    def parameters(self, values):
        self.vector[...] = values

    _everything = parameters


class FakeRun:
    """A fit whose values are given beforehand; its parameters hold the epoch."""

    def __init__(self, names, epochs, dtype=np.float32):
        self.network = FakeNetwork(np.zeros(3, dtype))
        self.epoch = 0
        self.epochs = epochs
        self.names = names
        self.history = History(names)
        self.logs = {}
        self.reason = None

    def stop(self, reason):
        self.reason = reason


def fit(callback, values, monitor="val_loss", end=True):
    run = FakeRun(("loss", monitor) if monitor != "loss" else ("loss",), len(values))
    callback.on_fit_begin(run)
    for value in values:
        run.epoch += 1
        run.network.parameters[...] = run.epoch
        run.logs = {"loss": 1.0, monitor: value}
        run.history.append(run.logs)
        callback.on_epoch_end(run)
        if run.reason is not None:
            break
    if end:
        # Ctrl-C may come in the middle of an epoch.
        run.network.parameters += 0.5
        callback.on_fit_end(run)
    return run


@pytest.mark.parametrize(
    ("values", "patience", "ends", "best"),
    [
        ([3, 2, 1], 1, 3, 3),
        ([3, 2, 2, 1], 1, 3, 2),
        ([3, 2, 4, 1, 5, 6, 0], 2, 6, 4),
        ([1, 2, 3, 4, 5], 3, 4, 1),
        ([1, 1, 1, 1], 10, 4, 1),
        ([NAN, 2, NAN, 1, NAN, NAN, 0], 2, 6, 4),
        ([2, NAN, 3, 1], 3, 4, 4),
        ([math.inf, 2, 3], 2, 3, 2),
    ],
)
def test_stops_after_patience_and_restores_the_best(values, patience, ends, best):
    run = fit(EarlyStopping(patience=patience), values)
    assert run.epoch == ends
    assert run.history.best_epoch == best
    np.testing.assert_array_equal(run.network.parameters, best)


def test_the_reason_is_given_only_where_it_stops():
    assert fit(EarlyStopping(patience=2), [1, 2, 3, 4]).reason == "early stopping"
    assert fit(EarlyStopping(patience=2), [4, 3, 2, 3]).reason is None


def test_without_restoring_the_last_weights_stay():
    run = fit(EarlyStopping(patience=2, restore_best=False), [3, 1, 2, 2])
    assert run.epoch == 4
    assert run.history.best_epoch == 2
    np.testing.assert_array_equal(run.network.parameters, 4.5)


def test_values_that_are_never_numbers_restore_nothing():
    run = fit(EarlyStopping(patience=3), [NAN, NAN, NAN, 1])
    assert run.epoch == 3
    assert run.history.best_epoch is None
    np.testing.assert_array_equal(run.network.parameters, 3.5)


def test_interrupted_before_the_first_epoch_ends():
    run = fit(EarlyStopping(), [])
    assert run.history.best_epoch is None
    np.testing.assert_array_equal(run.network.parameters, 0.5)


def test_min_delta_decides_patience_and_not_what_is_best():
    values = [1.0, 0.95, 0.94, 0.2]
    run = fit(EarlyStopping(patience=2, min_delta=0.1), values)
    assert run.epoch == 3
    assert run.history.best_epoch == 3
    assert fit(EarlyStopping(patience=2, min_delta=0.04), values).epoch == 4


def test_slow_progress_adds_up_to_an_improvement():
    run = fit(EarlyStopping(patience=3, min_delta=0.1), [1.0, 0.95, 0.875, 0.8, 0.7])
    assert run.epoch == 5
    assert run.history.best_epoch == 5


def test_improving_by_min_delta_is_not_more_than_min_delta():
    assert fit(EarlyStopping(patience=1, min_delta=0.5), [2.0, 1.5, 0.0]).epoch == 2


@pytest.mark.parametrize(
    ("monitor", "mode", "best"),
    [
        ("val_loss", "auto", 2),
        ("loss", "auto", 2),
        ("val_accuracy", "auto", 3),
        ("accuracy", "auto", 3),
        ("val_r2", "auto", 3),
        ("val_mean_squared_error", "auto", 2),
        ("val_mse", "auto", 2),
        ("val_loss", "max", 3),
        ("val_accuracy", "min", 2),
        ("mine", "min", 2),
        ("val_mine", "max", 3),
    ],
)
def test_direction(monitor, mode, best):
    run = fit(EarlyStopping(monitor, mode=mode), [0.5, 0.25, 0.75], monitor)
    assert run.history.best_epoch == best


def test_direction_of_an_own_metric_must_be_given():
    with pytest.raises(ValueError, match=r"^mode must be 'min' or 'max' to monitor 'val_mine', "):
        fit(EarlyStopping("val_mine"), [1.0], "val_mine")


@pytest.mark.parametrize("end", [True, False])
def test_one_object_serves_one_fit_after_another(end):
    stopper = EarlyStopping(patience=2)
    fit(stopper, [0.1, 0.2, 0.3], end=end)
    run = fit(stopper, [9.0, 8.0, 8.5])
    assert run.epoch == 3
    assert run.history.best_epoch == 2
    np.testing.assert_array_equal(run.network.parameters, 2)


def test_a_fit_of_another_size_and_dtype_may_follow():
    stopper = EarlyStopping()
    fit(stopper, [1.0, 2.0], end=False)
    run = FakeRun(("loss", "val_loss"), 1, np.float64)
    run.network = FakeNetwork(np.full(5, 1 / 3))
    stopper.on_fit_begin(run)
    run.epoch, run.logs = 1, {"loss": 1.0, "val_loss": 1.0}
    stopper.on_epoch_end(run)
    run.network.parameters[...] = 0.0
    stopper.on_fit_end(run)
    np.testing.assert_array_equal(run.network.parameters, 1 / 3)


def test_the_parameters_are_written_in_place():
    run = FakeRun(("loss",), 2)
    vector = run.network.parameters
    stopper = EarlyStopping("loss")
    stopper.on_fit_begin(run)
    for run.epoch, value in enumerate([1.0, 2.0], start=1):
        vector[...] = run.epoch
        run.logs = {"loss": value}
        stopper.on_epoch_end(run)
    stopper.on_fit_end(run)
    assert run.network.parameters is vector
    np.testing.assert_array_equal(vector, 1)


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda stopper: pickle.loads(pickle.dumps(stopper))]
)
def test_state_survives_a_copy_in_the_middle_of_a_fit(again):
    stopper = EarlyStopping(patience=2)
    run = fit(stopper, [5.0, 1.0, 2.0], end=False)
    twin = again(stopper)
    assert repr(twin) == repr(stopper)
    run.epoch, run.logs = 4, {"loss": 1.0, "val_loss": 3.0}
    twin.on_epoch_end(run)
    assert run.reason == "early stopping"
    twin.on_fit_end(run)
    np.testing.assert_array_equal(run.network.parameters, 2)


def test_weights_are_not_kept_after_the_fit():
    stopper = EarlyStopping()
    fresh = len(pickle.dumps(stopper))
    run = FakeRun(("val_loss",), 1)
    run.network = FakeNetwork(np.zeros(10_000))
    stopper.on_fit_begin(run)
    run.epoch, run.logs = 1, {"val_loss": 1.0}
    stopper.on_epoch_end(run)
    assert len(pickle.dumps(stopper)) > 80_000
    stopper.on_fit_end(run)
    assert len(pickle.dumps(stopper)) < fresh + 100


@pytest.mark.parametrize(
    ("monitor", "recorded", "ending"),
    [
        (
            "val_loss",
            ("loss",),
            "'loss'; got 'val_loss'. To have it, give fit validation data "
            "(validation_data=(X, y) or validation_fraction=0.1).",
        ),
        (
            "val_accuracy",
            ("loss",),
            "'loss'; got 'val_accuracy'. To have it, give fit metrics=['accuracy'] and validation "
            "data (validation_data=(X, y) or validation_fraction=0.1).",
        ),
        (
            "val_accuracy",
            ("loss", "val_loss"),
            "'loss', 'val_loss'; got 'val_accuracy'. To have it, give fit metrics=['accuracy'].",
        ),
        (
            "val_accuracy",
            ("loss", "accuracy"),
            "'loss', 'accuracy'; got 'val_accuracy'. To have it, give fit validation data "
            "(validation_data=(X, y) or validation_fraction=0.1).",
        ),
        ("r2", ("loss",), "'loss'; got 'r2'. To have it, give fit metrics=['r2']."),
        (
            "vall_loss",
            ("loss", "val_loss"),
            "'loss', 'val_loss'; got 'vall_loss'. Did you mean 'val_loss'?",
        ),
        ("qqq", ("loss", "val_loss"), "'loss', 'val_loss'; got 'qqq'."),
        (
            "val_acc",
            ("loss",),
            "'loss'; got 'val_acc'. Did you mean 'val_accuracy'? To have it, give fit "
            "metrics=['accuracy'] and validation data (validation_data=(X, y) or "
            "validation_fraction=0.1).",
        ),
        (
            "val_mine",
            ("loss", "mine"),
            "'loss', 'mine'; got 'val_mine'. To have it, give fit validation data "
            "(validation_data=(X, y) or validation_fraction=0.1).",
        ),
    ],
)
def test_what_is_not_recorded_cannot_be_monitored(monitor, recorded, ending):
    with pytest.raises(ValueError, match=r"^monitor must be one of ") as caught:
        EarlyStopping(monitor).on_fit_begin(FakeRun(recorded, 1))
    assert str(caught.value) == "monitor must be one of " + ending


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"monitor": 3}, TypeError, r"^monitor must be a string, .* got 3 \(int\)\.$"),
        ({"patience": 0}, ValueError, r"^patience must be an integer of at least 1; got 0\.$"),
        ({"patience": 2.0}, TypeError, r"^patience must be an integer"),
        ({"min_delta": -0.1}, ValueError, r"^min_delta must be "),
        ({"min_delta": NAN}, ValueError, r"^min_delta must be "),
        ({"min_delta": "0"}, TypeError, r"^min_delta must be "),
        ({"mode": "maximum"}, ValueError, r"^mode must be one of 'auto', 'min', 'max'; got 'maxi"),
        ({"mode": None}, TypeError, r"^mode must be "),
        ({"restore_best": 1}, TypeError, r"^restore_best must be True or False"),
    ],
)
def test_parameters_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        EarlyStopping(**arguments)


def test_repr_can_be_evaluated():
    text = (
        "EarlyStopping(monitor='loss', patience=3, min_delta=0.5, mode='min', restore_best=False)"
    )
    stopper = EarlyStopping("loss", np.int64(3), 0.5, "min", False)
    assert repr(stopper) == text
    assert repr(eval(text)) == text
    assert "min_delta=0.0" in repr(EarlyStopping(min_delta=0))


def test_the_base_does_nothing():
    run = FakeRun(("loss",), 1)
    callback = Callback()
    for hook in (callback.on_fit_begin, callback.on_epoch_end, callback.on_fit_end):
        assert hook(run) is None
    assert run.reason is None


def test_callbacks_are_taken_one_by_one_or_together():
    stopper = EarlyStopping()
    assert as_callbacks(stopper) == (stopper,)
    assert as_callbacks(()) == ()
    assert as_callbacks(iter([stopper, stopper])) == (stopper, stopper)


def test_a_function_is_called_at_the_end_of_each_epoch():
    seen = []
    (callback,) = as_callbacks(lambda run: seen.append(run.epoch))
    assert isinstance(callback, Callback)
    fit(callback, [1.0, 2.0, 3.0])
    assert seen == [1, 2, 3]


def test_a_bound_method_and_a_callable_object_are_functions_too():
    class Recorder:
        def __init__(self):
            self.seen = []

        def __call__(self, run):
            self.seen.append(run.epoch)

    recorder, seen = Recorder(), []
    for callback in as_callbacks([recorder, seen.append]):
        fit(callback, [1.0])
    assert recorder.seen == [1]
    assert len(seen) == 1


def test_a_callable_callback_keeps_its_hooks():
    class Both(Callback):
        def __call__(self, run):
            raise AssertionError

    both = Both()
    assert as_callbacks(both) == (both,)


@pytest.mark.parametrize("given", [None, 3, "early stopping", {"loss": print}, [3], [None]])
def test_anything_else_is_refused(given):
    with pytest.raises(TypeError, match=r"^callbacks must be a Callback, a function .*; got "):
        as_callbacks(given)


@pytest.mark.parametrize("given", [EarlyStopping, [EarlyStopping]])
def test_a_class_is_refused(given):
    with pytest.raises(TypeError, match=r"Did you mean EarlyStopping\(\.\.\.\), an object of it\?"):
        as_callbacks(given)
