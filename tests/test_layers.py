"""Layers: records that describe, check themselves once, and hold no weights."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle

import numpy as np
import pytest

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.initializers import INITIALIZERS, Start
from fastnn.kinds import from_dict, to_dict
from fastnn.layers import starts
from fastnn.stacks import check_layers

LAYER = fn.Dense(7, "relu", bias=False, initializer="lecun_normal", l2=0.25)
DROPOUT = fn.Dropout(0.25)


def test_a_layer_is_what_it_was_given():
    assert (LAYER.units, LAYER.activation, LAYER.bias) == (7, "relu", False)
    assert (LAYER.initializer, LAYER.l2) == ("lecun_normal", 0.25)
    assert repr(LAYER) == (
        "Dense(units=7, activation='relu', bias=False, initializer='lecun_normal', l2=0.25)"
    )


def test_the_defaults_are_the_documented_ones():
    assert fn.Dense(3) == fn.Dense(3, "identity", True, "auto", 0.0)


def test_a_layer_is_frozen_and_has_room_for_nothing_else():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LAYER.units = 8
    # A frozen record with slots refuses an unknown name one way or the other.
    with pytest.raises((AttributeError, TypeError)):
        LAYER.weights = np.zeros(3)


def test_a_dropout_is_a_rate_and_nothing_else():
    assert DROPOUT.rate == 0.25
    assert repr(DROPOUT) == "Dropout(rate=0.25)"
    assert type(fn.Dropout(np.float32(0.5)).rate) is type(fn.Dropout(0).rate) is float
    assert fn.Dropout(0) != fn.Dense(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        DROPOUT.rate = 0.5
    with pytest.raises(TypeError):
        fn.Dropout()


@pytest.mark.parametrize(
    ("rate", "kind", "came"),
    [
        (1.0, ValueError, "1.0"),
        (-0.1, ValueError, "-0.1"),
        (50, ValueError, "50"),
        (math.nan, ValueError, "nan"),
        ("0.5", TypeError, "'0.5' (str)"),
        (True, TypeError, "True (bool)"),
        (None, TypeError, "None"),
        ([0.5], TypeError, "[0.5] (list)"),
    ],
    ids=str,
)
def test_a_rate_is_a_part_and_never_the_whole(rate, kind, came):
    with pytest.raises(kind) as caught:
        fn.Dropout(rate)
    assert str(caught.value) == f"rate must be a number in [0.0, 1.0); got {came}."
    assert type(caught.value) is kind


def test_equal_layers_are_equal_and_may_be_keys():
    twin = dataclasses.replace(LAYER)
    assert twin == LAYER
    assert hash(twin) == hash(LAYER)
    assert twin != dataclasses.replace(LAYER, units=8)
    assert {LAYER: 1}[twin] == 1


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_and_pickles_are_equal(again):
    for layer in (LAYER, DROPOUT):
        assert again(layer) == layer


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=lambda row: row.name)
def test_every_activation_is_known_by_its_name_and_its_aliases(row):
    for name in (row.name, *row.aliases):
        assert fn.Dense(2, name).activation == row.name


def test_numbers_of_numpy_become_plain_ones():
    layer = fn.Dense(np.int64(3), bias=np.True_, initializer=np.float32(0.5), l2=np.float64(2))
    for value, kind in (
        (layer.units, int),
        (layer.bias, bool),
        (layer.initializer, float),
        (layer.l2, float),
    ):
        assert type(value) is kind
    assert layer == fn.Dense(3, initializer=0.5, l2=2)


def started(*layers: fn.Dense | fn.Dropout) -> list[Start]:
    return starts(check_layers(layers))


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=lambda row: row.name)
def test_auto_stands_for_the_activation_s_start_in_a_hidden_layer(row):
    layer = fn.Dense(3, row.name)
    assert layer.initializer == "auto", "the record says what was asked for"
    (start, _) = started(layer, fn.Dense(1))
    if row.initializer in INITIALIZERS:
        assert start == Start(row.initializer)
    else:
        assert (start.initializer, start.gain) == ("isometry", row.gain)
        assert start.makes_pairs == (row.initializer == "pairs")
        assert start.spread == (row.name != "identity")


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=lambda row: row.name)
def test_auto_in_a_last_layer_is_an_isometry_whatever_its_activation(row):
    assert started(fn.Dense(3, row.name)) == [Start("isometry")]
    assert started(fn.Dense(3, "tanh"), fn.Dense(3, row.name))[1] == Start("isometry")


@pytest.mark.parametrize("initializer", [*INITIALIZERS, 0.25])
def test_a_given_initializer_is_what_a_layer_starts_with(initializer):
    given = fn.Dense(3, "relu", initializer=initializer)
    assert started(given, given, given) == [Start(initializer)] * 3


def test_a_layer_reads_pairs_where_the_one_below_was_started_as_pairs():
    pairs, plain = fn.Dense(4, "relu"), fn.Dense(4, "relu", initializer="he_uniform")
    layers = (pairs, fn.Dropout(0.5), pairs, plain, pairs, fn.Dense(4, "tanh"), fn.Dense(1))
    found = started(*layers)
    assert [start.reads_pairs for start in found] == [False, True, False, False, True, False]
    assert [start.makes_pairs for start in found] == [True, True, False, True, False, False]
    assert [start.spread for start in found] == [True] + [False] * 5


def test_the_first_dense_layer_reads_features_behind_a_dropout_too():
    assert started(fn.Dropout(0.1), fn.Dense(4, "tanh"), fn.Dense(1))[0].spread


ALL = ", ".join(map(repr, ACTIVATIONS))


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"units": 0}, ValueError, "units must be an integer of at least 1; got 0."),
        ({"units": -3}, ValueError, "units must be an integer of at least 1; got -3."),
        ({"units": 3.0}, TypeError, "units must be an integer of at least 1; got 3.0 (float)."),
        ({"units": True}, TypeError, "units must be an integer of at least 1; got True (bool)."),
        ({"units": "3"}, TypeError, "units must be an integer of at least 1; got '3' (str)."),
        ({"units": None}, TypeError, "units must be an integer of at least 1; got None."),
        (
            {"activation": "rellu"},
            ValueError,
            f"activation must be one of {ALL}; got 'rellu'. Did you mean 'relu'?",
        ),
        (
            {"activation": "Tanh"},
            ValueError,
            f"activation must be one of {ALL}; got 'Tanh'. Did you mean 'tanh'?",
        ),
        (
            {"activation": "convolution"},
            ValueError,
            f"activation must be one of {ALL}; got 'convolution'.",
        ),
        (
            {"activation": None},
            TypeError,
            f"activation must be a string, one of {ALL}; got None.",
        ),
        (
            {"activation": np.tanh},
            TypeError,
            f"activation must be a string, one of {ALL}; got <ufunc 'tanh'> (ufunc).",
        ),
        ({"bias": 1}, TypeError, "bias must be True or False; got 1 (int)."),
        ({"bias": None}, TypeError, "bias must be True or False; got None."),
        ({"l2": -0.1}, ValueError, "l2 must be a finite number of at least 0.0; got -0.1."),
        ({"l2": math.nan}, ValueError, "l2 must be a finite number of at least 0.0; got nan."),
        ({"l2": math.inf}, ValueError, "l2 must be a finite number of at least 0.0; got inf."),
        (
            {"l2": "0.1"},
            TypeError,
            "l2 must be a finite number of at least 0.0; got '0.1' (str).",
        ),
        (
            {"initializer": math.inf},
            ValueError,
            "initializer must be a finite number; got inf.",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_layer_is_said_at_once(arguments, kind, message):
    with pytest.raises(kind) as caught:
        fn.Dense(**{"units": 3, **arguments})
    assert str(caught.value) == message
    assert type(caught.value) is kind


def test_an_unknown_initializer_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"initializer must be one of .*; got 'glorot'") as caught:
        fn.Dense(3, initializer="glorot")
    assert str(caught.value).endswith(("'glorot_uniform'?", "'glorot_normal'?"))
    assert all(repr(name) in str(caught.value) for name in INITIALIZERS)


@pytest.mark.parametrize("value", [None, True, [1.0], np.zeros(3), 1j])
def test_an_initializer_is_a_name_or_a_number(value):
    with pytest.raises(
        TypeError, match=r"initializer must be a number .* or one of 'auto'"
    ) as caught:
        fn.Dense(3, initializer=value)
    assert f"({type(value).__name__})" in str(caught.value)


def test_a_layer_survives_json():
    for layer in (LAYER, fn.Dense(1), fn.Dense(2, "tanh", initializer=-0.5)):
        data = json.loads(json.dumps(to_dict(layer)))
        assert data["layer"] == "Dense"
        assert from_dict(data) == layer
    data = json.loads(json.dumps(to_dict(DROPOUT)))
    assert data == {"layer": "Dropout", "rate": 0.25}
    assert from_dict(data) == DROPOUT


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "Dense",
        {},
        {"units": 3},
        {"layer": "Dense"},
        {"layer": "dense", "units": 3},
        {"layer": "Dense", "units": 3, "colour": 1},
        {"layer": "Dense", "units": "3"},
        {"layer": "Dense", "units": 3, "l2": math.nan},
        {"layer": ["Dense"], "units": 3},
        {"layer": "Dropout"},
        {"layer": "Dropout", "rate": 1.0},
        {"layer": "Dropout", "rate": 0.5, "units": 3},
        {"layer": "dropout", "rate": 0.5},
    ],
    ids=repr,
)
def test_what_describes_no_layer_is_refused(data):
    before = copy.deepcopy(data)
    with pytest.raises((TypeError, ValueError)):
        from_dict(data)
    assert data == before
