"""Names and plain numbers from outside: looked up, checked, or refused in one style.

Every message here names the argument, says what was expected and ends with what came, so that
all rooms speak alike:

    batch_size must be an integer of at least 1; got 0.
    activation must be one of 'identity', 'relu'; got 'rellu'. Did you mean 'relu'?
"""

from __future__ import annotations

import difflib
import math
import reprlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypeGuard, TypeVar

import numpy as np

__all__ = [
    "NUMERIC",
    "TargetKind",
    "check_bool",
    "check_integer",
    "check_real",
    "describe",
    "lookup",
    "nearest",
    "several",
]

Row = TypeVar("Row")

#: What targets may hold, as losses say it; see `fastnn.losses.Loss`.
TargetKind: TypeAlias = Literal["real", "counts", "positive", "classes", "probabilities", "sides"]

#: Those of losses on numbers.
NUMERIC = frozenset({"real", "counts", "positive"})

# A ratio from _SAME_WORD up is a slip of the keyboard; below it a known name that the given one
# contains whole is the better guess (categorical_crossentropy means cross_entropy, although
# binary_cross_entropy shares more letters with it).
_SAME_WORD = 0.85
_NEAR_ENOUGH = 0.6
_WORD_LENGTH = 4

# Both pass for integers in Python's and NumPy's class trees.
_NOT_NUMBERS = (bool, np.timedelta64)
_REAL_NUMBERS = (int, float, np.integer, np.floating)

# Python writes no longer integers unless it is told to.
_WRITTEN_BITS = 14_000
_LARGEST_COUNT = int(sys.float_info.max)


class _Short(reprlib.Repr):
    """Short forms of values, of integers that are too long for Python to write, too."""

    def repr_int(self, x: int, level: int) -> str:
        """Write an integer, a long one by its size."""
        if x.bit_length() < _WRITTEN_BITS:
            return super().repr_int(x, level)
        return f"about {'-' if x < 0 else ''}10**{math.floor(x.bit_length() * math.log10(2))}"


_SHORT = _Short()
_SHORT.maxstring = 60
_SHORT.maxother = 60
# Lists of lists would take 6 times as much for each level.
_SHORT.maxlevel = 3
_LONGEST = 120


def describe(value: object) -> str:
    """Say what came, for the end of an error message: a short form and its type.

    Parameters
    ----------
    value : object
        What the caller gave.

    Returns
    -------
    str
        At most about a line, without line breaks; ``"None"`` for None.

    Examples
    --------
    >>> describe(3)
    '3 (int)'
    >>> describe("relu")
    "'relu' (str)"
    """
    if value is None:
        return "None"
    plain = value.item() if isinstance(value, np.generic) else value
    text = _SHORT.repr(plain).replace("\n", " ")
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 4]} ..."
    return f"{text} ({type(value).__name__:.60})"


def several(value: object) -> TypeGuard[Iterable[Any]]:
    """Say whether a value can be gone through; an array of no dimensions only looks like it.

    Examples
    --------
    >>> several([1]), several(3), several(__import__("numpy").array(3))
    (True, False, False)
    """
    try:
        iter(value)  # type: ignore[call-overload]
    except TypeError:
        return False
    return True


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that a misspelt one most likely meant.

    Case, underscores and hyphens do not count. Likeness is the ratio of
    `difflib.SequenceMatcher`; a known name that the given one contains whole is near too.

    Parameters
    ----------
    name : str
        The name that was given.
    known : iterable of str
        The right names.

    Returns
    -------
    str or None
        The nearest known name as it is spelt in `known`, or None where no name is near.

    Examples
    --------
    >>> nearest("Rellu", ["identity", "relu", "tanh"])
    'relu'
    >>> nearest("convolution", ["identity", "relu", "tanh"]) is None
    True
    """
    spelling: dict[str, str] = {}
    for right in known:
        spelling.setdefault(_letters(right), right)
    given = _letters(name)
    contained = [right for right in spelling if len(right) >= _WORD_LENGTH and right in given]
    found = (
        difflib.get_close_matches(given, spelling, n=1, cutoff=_SAME_WORD)
        or sorted(contained, key=len, reverse=True)
        or difflib.get_close_matches(given, spelling, n=1, cutoff=_NEAR_ENOUGH)
    )
    return spelling[found[0]] if found else None


def lookup(table: Mapping[str, Row], name: object, argument: str) -> Row:
    """Take the row of a table that a name stands for.

    Parameters
    ----------
    table : mapping of str to row
        Rows by name. A row may have an attribute ``aliases``, a tuple of further names for it.
    name : object
        What the caller gave; a name is a string, spelt exactly as in the table.
    argument : str
        The name of the caller's argument, for the message.

    Returns
    -------
    row
        The row of that name or alias.

    Raises
    ------
    TypeError
        If `name` is not a string.
    ValueError
        If `name` is neither in the table nor an alias; the message lists the table's names and
        the nearest one, if one is near.

    Examples
    --------
    >>> lookup({"relu": 1, "tanh": 2}, "tanh", "activation")
    2
    >>> lookup({"relu": 1, "tanh": 2}, "rellu", "activation")
    Traceback (most recent call last):
    ...
    ValueError: activation must be one of 'relu', 'tanh'; got 'rellu'. Did you mean 'relu'?
    """
    names = ", ".join(repr(known) for known in table)
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be a string, one of {names}; got {describe(name)}.")
    if name in table:
        return table[name]
    aliases = {alias: row for row in table.values() for alias in getattr(row, "aliases", ())}
    if name in aliases:
        return aliases[name]
    near = nearest(name, [*table, *aliases])
    hint = "" if near is None else f" Did you mean {near!r}?"
    raise ValueError(f"{argument} must be one of {names}; got {_SHORT.repr(str(name))}.{hint}")


def check_integer(value: object, argument: str, minimum: int) -> int:
    """Take a whole number that was given as an integer.

    Parameters
    ----------
    value : object
        A Python or NumPy integer. Booleans and floats (3.0 too) are refused.
    argument : str
        The name of the caller's argument, for the message.
    minimum : int
        The smallest value allowed.

    Returns
    -------
    int
        The value as a Python integer.

    Raises
    ------
    TypeError
        If `value` is not an integer.
    ValueError
        If `value` is below `minimum`, or larger than any float.

    Examples
    --------
    >>> check_integer(32, "batch_size", 1)
    32
    >>> check_integer(0, "batch_size", 1)
    Traceback (most recent call last):
    ...
    ValueError: batch_size must be an integer of at least 1; got 0.
    """
    wanted = f"{argument} must be an integer of at least {minimum}"
    if isinstance(value, _NOT_NUMBERS) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{wanted}; got {describe(value)}.")
    if value < minimum:
        raise ValueError(f"{wanted}; got {_SHORT.repr(int(value))}.")
    if value > _LARGEST_COUNT:
        raise ValueError(f"{wanted}, and below 1e308; got {_SHORT.repr(int(value))}.")
    return int(value)


def check_real(
    value: object,
    argument: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """Take a finite real number from an interval.

    Parameters
    ----------
    value : object
        A Python or NumPy integer or float. Booleans, NaN and infinity are refused.
    argument : str
        The name of the caller's argument, for the message.
    low, high : float, default -inf and inf
        The ends of the interval.
    low_open, high_open : bool, default False
        True where the end itself is not allowed.

    Returns
    -------
    float
        The value as a Python float.

    Raises
    ------
    TypeError
        If `value` is not a real number.
    ValueError
        If `value` is not finite or outside the interval.

    Examples
    --------
    >>> check_real(0.9, "momentum", low=0, high=1, high_open=True)
    0.9
    >>> check_real(1.5, "momentum", low=0, high=1, high_open=True)
    Traceback (most recent call last):
    ...
    ValueError: momentum must be a number in [0, 1); got 1.5.
    >>> check_real(0, "learning_rate", low=0, low_open=True)
    Traceback (most recent call last):
    ...
    ValueError: learning_rate must be a finite number greater than 0; got 0.
    """
    wanted = f"{argument} must be {_interval(low, high, low_open, high_open)}"
    if isinstance(value, _NOT_NUMBERS) or not isinstance(value, _REAL_NUMBERS):
        raise TypeError(f"{wanted}; got {describe(value)}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    above = number > low or (number == low and not low_open)
    below = number < high or (number == high and not high_open)
    if not (math.isfinite(number) and above and below):
        whole = isinstance(value, (int, np.integer))
        raise ValueError(f"{wanted}; got {_SHORT.repr(int(value) if whole else number)}.")
    return number


def check_bool(value: object, argument: str) -> bool:
    """Take a truth value that was given as one.

    Parameters
    ----------
    value : object
        A Python or NumPy boolean. Numbers are refused, 0 and 1 too.
    argument : str
        The name of the caller's argument, for the message.

    Returns
    -------
    bool
        The value as a Python boolean.

    Raises
    ------
    TypeError
        If `value` is not a boolean.

    Examples
    --------
    >>> check_bool(True, "bias")
    True
    >>> check_bool(1, "bias")
    Traceback (most recent call last):
    ...
    TypeError: bias must be True or False; got 1 (int).
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{argument} must be True or False; got {describe(value)}.")
    return bool(value)


def _letters(name: str) -> str:
    """Reduce a name to what counts when two spellings are compared."""
    return name.casefold().replace("_", "").replace("-", "")


def _interval(low: float, high: float, low_open: bool, high_open: bool) -> str:
    """Put an interval into words, in brackets where both ends are finite."""
    if math.isinf(low) and math.isinf(high):
        return "a finite number"
    if math.isinf(high):
        return f"a finite number {'greater than' if low_open else 'of at least'} {low}"
    if math.isinf(low):
        return f"a finite number {'less than' if high_open else 'of at most'} {high}"
    return f"a number in {'(' if low_open else '['}{low}, {high}{')' if high_open else ']'}"
