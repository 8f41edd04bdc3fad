from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import pytest

from fastnn.names import check_bool, check_integer, check_real, describe, lookup, nearest


@dataclass(frozen=True)
class Row:
    code: int
    aliases: tuple[str, ...] = ()


TABLE = {
    "identity": Row(0, ("linear",)),
    "relu": Row(1),
    "leaky_relu": Row(2),
    "sigmoid": Row(3, ("logistic",)),
}
KNOWN = "'identity', 'relu', 'leaky_relu', 'sigmoid'"


@pytest.mark.parametrize("name", TABLE)
def test_lookup_takes_every_name(name: str) -> None:
    assert lookup(TABLE, name, "activation") is TABLE[name]


@pytest.mark.parametrize("row", [row for row in TABLE.values() if row.aliases])
def test_lookup_takes_aliases(row: Row) -> None:
    for alias in row.aliases:
        assert lookup(TABLE, alias, "activation") is row


def test_lookup_takes_rows_without_aliases() -> None:
    assert lookup({"a": 1, "b": 2}, "b", "kind") == 2


def test_lookup_takes_numpy_strings() -> None:
    assert lookup(TABLE, np.str_("relu"), "activation") is TABLE["relu"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("rellu", "relu"),
        ("ReLU", "relu"),
        ("LeakyReLU", "leaky_relu"),
        ("sigmod", "sigmoid"),
        ("Linear", "linear"),
        ("logistics", "logistic"),
    ],
)
def test_lookup_suggests_the_nearest(given: str, meant: str) -> None:
    message = f"activation must be one of {KNOWN}; got {given!r}. Did you mean {meant!r}?"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        lookup(TABLE, given, "activation")


@pytest.mark.parametrize("given", ["convolution", "", "  ", "x"])
def test_lookup_suggests_nothing_where_nothing_is_near(given: str) -> None:
    message = f"activation must be one of {KNOWN}; got {given!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        lookup(TABLE, given, "activation")


@pytest.mark.parametrize(
    ("given", "shown"),
    [(3, "3 (int)"), (None, "None"), (["relu"], "['relu'] (list)"), (b"relu", "b'relu' (bytes)")],
)
def test_lookup_refuses_what_is_no_string(given: object, shown: str) -> None:
    message = f"activation must be a string, one of {KNOWN}; got {shown}."
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        lookup(TABLE, given, "activation")


LOSSES = ["mean_squared_error", "cross_entropy", "binary_cross_entropy", "hinge"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("binary_crossentropy", "binary_cross_entropy"),
        ("binari_cross_entropy", "binary_cross_entropy"),
        ("categorical_crossentropy", "cross_entropy"),
        ("CrossEntropyLoss", "cross_entropy"),
        ("MeanSquaredError", "mean_squared_error"),
        ("hinge-loss", "hinge"),
        ("poisson", None),
    ],
)
def test_nearest(given: str, meant: str | None) -> None:
    assert nearest(given, LOSSES) == meant


def test_nearest_of_nothing() -> None:
    assert nearest("relu", []) is None


@pytest.mark.parametrize("value", [1, 7, 10**30, np.int8(5), np.uint64(2**63)])
def test_check_integer_takes_integers(value: int) -> None:
    taken = check_integer(value, "batch_size", 1)
    assert taken == value
    assert type(taken) is int


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (0, ValueError, "0"),
        (-3, ValueError, "-3"),
        (np.int32(-3), ValueError, "-3"),
        (True, TypeError, "True (bool)"),
        (np.True_, TypeError, "True (bool"),
        (3.0, TypeError, "3.0 (float)"),
        (np.float32(3), TypeError, "3.0 (float32)"),
        ("3", TypeError, "'3' (str)"),
        (None, TypeError, "None"),
        (np.timedelta64(3, "s"), TypeError, "(timedelta64)"),
        (np.array(3), TypeError, "array(3) (ndarray)"),
    ],
)
def test_check_integer_refuses(value: object, error: type[Exception], shown: str) -> None:
    with pytest.raises(error) as caught:
        check_integer(value, "batch_size", 1)
    message = str(caught.value)
    assert message.startswith("batch_size must be an integer of at least 1; got ")
    assert shown in message
    assert message.endswith(".")


@pytest.mark.parametrize(
    "value", [0, 0.5, 1, np.float16(0.5), np.float32(0.25), np.int64(1), np.longdouble(0.5)]
)
def test_check_real_takes_numbers(value: float) -> None:
    taken = check_real(value, "momentum", low=0, high=1)
    assert taken == value
    assert type(taken) is float


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.5, "1.5"),
        (-0.5, "-0.5"),
        (1, "1"),
        (1.0, "1.0"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (np.float32(-math.inf), "-inf"),
        (np.float32(1.5), "1.5"),
    ],
)
def test_check_real_refuses_numbers_outside(value: float, shown: str) -> None:
    message = f"momentum must be a number in [0, 1); got {shown}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_real(value, "momentum", low=0, high=1, high_open=True)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0.5", "'0.5' (str)"),
        (True, "True (bool)"),
        (None, "None"),
        (1j, "1j (complex)"),
        ([0.5], "[0.5] (list)"),
        (np.timedelta64(1, "s"), "(timedelta64)"),
    ],
)
def test_check_real_refuses_other_types(value: object, shown: str) -> None:
    with pytest.raises(TypeError) as caught:
        check_real(value, "momentum", low=0, high=1)
    message = str(caught.value)
    assert message.startswith("momentum must be a number in [0, 1]; got ")
    assert message.endswith(f"{shown}.")


@pytest.mark.parametrize(
    ("low", "high", "low_open", "high_open", "words"),
    [
        (0, 1, False, False, "a number in [0, 1]"),
        (0, 1, True, True, "a number in (0, 1)"),
        (0, math.inf, False, False, "a finite number of at least 0"),
        (0, math.inf, True, False, "a finite number greater than 0"),
        (-math.inf, 2.5, False, False, "a finite number of at most 2.5"),
        (-math.inf, 2.5, False, True, "a finite number less than 2.5"),
        (-math.inf, math.inf, False, False, "a finite number"),
    ],
)
def test_check_real_names_the_interval(
    low: float, high: float, low_open: bool, high_open: bool, words: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'rate must be {words}; got inf.')}$"):
        check_real(math.inf, "rate", low=low, high=high, low_open=low_open, high_open=high_open)


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_check_real_knows_open_ends(end: float) -> None:
    assert check_real(end, "rate", low=0, high=1) == end
    with pytest.raises(ValueError, match=r"^rate must be a number in \(0, 1\)"):
        check_real(end, "rate", low=0, high=1, low_open=True, high_open=True)


def test_check_real_refuses_integers_beyond_floats() -> None:
    with pytest.raises(ValueError, match=r"^rate must be a finite number; got 1000+\.\.\.0+\.$"):
        check_real(10**400, "rate")


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
def test_check_bool_takes_truth_values(value: bool) -> None:
    taken = check_bool(value, "bias")
    assert taken == value
    assert type(taken) is bool


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1, "1 (int)"), (0.0, "0.0 (float)"), ("yes", "'yes' (str)"), (None, "None")],
)
def test_check_bool_refuses_all_else(value: object, shown: str) -> None:
    message = f"bias must be True or False; got {shown}."
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        check_bool(value, "bias")


@pytest.mark.parametrize("value", ["x" * 10_000, list(range(10_000)), np.zeros((500, 500))])
def test_describe_stays_short(value: object) -> None:
    text = describe(value)
    assert len(text) < 120
    assert "\n" not in text
    assert text.endswith(f"({type(value).__name__})")


def nested(levels):
    return [nested(levels - 1)] * 6 if levels else 0


@pytest.mark.parametrize(
    "value",
    [nested(6), {k: nested(5) for k in range(9)}, "x" * 10**6, ["y" * 60] * 6, [10**60] * 6,
     type("T" * 10**5, (), {})(), np.zeros((100, 100))],
)  # fmt: skip
def test_whatever_came_is_described_in_a_line(value):
    assert len(describe(value)) < 200
