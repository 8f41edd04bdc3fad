"""Values of Python's and NumPy's as JSON and arrays, for files that hold no code.

JSON holds what it has a form for: None, truth values, texts, finite numbers and lists of them.
All else is an object with one name, its *mark*: ``{"tuple": [...]}``.  Arrays and long lists of
one kind are stored beside it, in the container's own dtypes, or as bytes where it has none for
theirs; the JSON names them.

What is read is built of the very types that are listed here.  Nothing is imported, called or
looked up by a name that a file gives, and every array is used once.

This file is long because what is written and what is believed of it stand in one place.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.names import describe

__all__ = ["Kind", "from_plain", "list_bytes", "to_plain"]

Array = NDArray[Any]

# Integers that every JSON reader has exactly; larger ones are texts of so many digits at most.
_EXACT = 2**53
_MOST_DIGITS = 400

# Lists up to this length stand in the JSON, where a reader sees them.
_SHORT = 32

# Dtypes that the container has; others of these kinds are stored as bytes.
_OWN_DTYPES = ("<f2", "<f4", "<f8", "<i8")
_FIXED_KINDS = "biufUSMm"
_DTYPE = re.compile(r"[<|][biufUSMm][0-9]{1,9}(\[[0-9]{0,9}[A-Za-z\u03bc]{1,2}\])?")
_MOST_FLOAT_BYTES = 8

# An array of texts has room for the longest everywhere; so many times its letters it may take.
_MOST_ROOM = 8

_LARGEST_CHARACTER = 0x10FFFF

# Bytes that a list takes for each entry, beside the value, and what is made of a list: a dict, as
# it grows, by its keys.
_PLACE = 8
_AROUND = {"tuple": 8, "objects": 8, "dict": 104}

# Bytes that scalars of NumPy's take, by their dtype's kind, beside a text's or time's own.
_SCALARS = {"U": 104, "S": 48, "M": 48, "m": 48}
_NUMBER = 32

_NOTHING = np.empty(0)

# Lists of one type, by what they are called, and what makes such a list of an array.
_ALIKE: dict[str, tuple[type, Callable[[Array], list[Any]]]] = {
    "float": (float, lambda array: array.astype(np.float64, casting="no", copy=False).tolist()),
    "int": (int, lambda array: array.astype(np.int64, casting="no", copy=False).tolist()),
    "text": (
        str,
        lambda array: array.astype(f"U{_letters(array)}", casting="no", copy=False).tolist(),
    ),
    "bool": (bool, lambda array: array.astype(np.bool_, casting="no", copy=False).tolist()),
}


class Kind(NamedTuple):
    """A type of another room's, taken apart into plain values and put together of them.

    Attributes
    ----------
    name : str
        What a file calls it.
    type : type
        Just this type; subclasses are others.
    apart : callable
        Object -> values that `to_plain` knows; TypeError where there are none.
    together : callable
        Such values -> object; TypeError or ValueError where they are none.
    """

    name: str
    type: type
    apart: Callable[[Any], Any]
    together: Callable[[Any], Any]


def to_plain(value: object, kinds: Iterable[Kind] = ()) -> tuple[Any, dict[str, Array]]:
    """Return a value as JSON has it, and the arrays that it names.

    Parameters
    ----------
    value : object
        None, numbers, texts, lists, tuples, dicts, arrays and scalars of NumPy's, and `kinds`.
    kinds : iterable of Kind
        What else there may be.

    Returns
    -------
    plain : object
        For `json.dumps`.
    arrays : dict of str to ndarray
        In dtypes that the container has.

    Raises
    ------
    TypeError
        If there is anything else, which the message describes.

    Examples
    --------
    >>> to_plain({"a": (1, 2.5, None)})
    ({'dict': [['a'], [{'tuple': [1, 2.5, None]}]]}, {})
    >>> to_plain([print])
    Traceback (most recent call last):
    ...
    TypeError: <built-in function print> (builtin_function_or_method) is no plain value
    """
    writer = _Writer(kinds)
    return writer.plain(value), writer.arrays


def from_plain(plain: Any, arrays: Mapping[str, Array], kinds: Iterable[Kind] = ()) -> Any:
    """Return the value that `to_plain` described; anything else is refused.

    Parameters
    ----------
    plain : object
        As JSON gave it.
    arrays : mapping of str to ndarray
        All that it names, and no others.
    kinds : iterable of Kind
        As they were.

    Returns
    -------
    object
        It may share memory with the arrays.

    Raises
    ------
    TypeError, ValueError
        If something is no such description.

    Examples
    --------
    >>> from_plain(*to_plain({"a": (1, 2.5, None)}))
    {'a': (1, 2.5, None)}
    """
    reader = _Reader(arrays, kinds)
    try:
        value = reader.value(plain)
    except RecursionError:
        raise ValueError("values must be of few levels; got far deeper ones.") from None
    if reader.left:
        raise ValueError(f"every array must be named; got {describe(min(reader.left))} besides.")
    return value


def list_bytes(plain: Any, arrays: Mapping[str, Array]) -> int:
    """Return about how many bytes the lists take that a description has stored as arrays.

    A text of one letter takes 20 times as much in a list as in an array, and a truth value 16
    times.  A reader may refuse them by that before it makes any.

    Parameters
    ----------
    plain : object
        As JSON gave it; what is no description counts nothing.
    arrays : mapping of str to ndarray
        All that it names.

    Returns
    -------
    int
        At least what they take.

    Examples
    --------
    >>> plain, arrays = to_plain([0.5] * 1000)
    >>> arrays["0"].nbytes, list_bytes(plain, arrays)
    (8000, 32000)
    """
    total, left = 0, [plain]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left += one
        elif isinstance(one, dict):
            left += one.values()
            for mark, content in one.items():
                if mark == "all":
                    name, array = _listed(content, arrays)
                    total += len(array) * (_PLACE + _value_bytes(name, content, array))
                elif mark in _AROUND:
                    first = content[0] if isinstance(content, list) and content else content
                    if isinstance(first, dict):
                        total += len(_listed(first.get("all"), arrays)[1]) * _AROUND[mark]
    return total


def _listed(content: Any, arrays: Mapping[str, Array]) -> tuple[Any, Array]:
    """Return of what type a list is, and the array that holds it; an empty one where none does."""
    name, named = content if isinstance(content, list) and len(content) == 2 else (None, None)
    key = named.get("array") if isinstance(named, dict) else None
    if isinstance(key, list) and key:
        key = key[0]
    array = arrays.get(key) if isinstance(key, str) else None
    return name, _NOTHING if array is None or not array.ndim else array


def _value_bytes(name: Any, content: Any, stored: Array) -> int:
    """Return how many bytes a value of a list takes beside its place, at the most."""
    wide = stored.itemsize * (stored.shape[-1] if stored.ndim > 1 else 1)
    match name:
        case "bool":
            return 0  # There are two of them.
        case "float":
            return sys.getsizeof(0.5)
        case "int":
            return sys.getsizeof(2**63 - 1)
        case "text" if stored.size and stored.dtype == np.uint8 and not wide % 4:
            # All are as long, and take as wide letters, as any.
            widest = min(int(stored.view("<u4").max()), _LARGEST_CHARACTER)
            return sys.getsizeof(chr(widest) * (wide // 4))
    named = content[1]["array"] if stored is not _NOTHING else None
    if isinstance(named, list) and len(named) == 2 and isinstance(named[1], str):
        kind = named[1][1:2]
        return _SCALARS[kind] + wide if kind in _SCALARS else _NUMBER
    return _NUMBER


class _Writer:
    """Describes values, and collects their arrays."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self.arrays: dict[str, Array] = {}
        self._kinds = {kind.type: kind for kind in kinds}

    def plain(self, value: Any) -> Any:
        """Return a value's description."""
        kind = type(value)
        if value is None or kind in (bool, str):
            return value
        if kind is int:
            return value if abs(value) <= _EXACT else {"int": _digits(value)}
        if kind is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if kind is list:
            return self._items(value)
        if kind is tuple:
            return {"tuple": self._items(value)}
        if kind is dict:
            return {"dict": [self._items(list(value)), self._items(list(value.values()))]}
        if isinstance(value, np.generic):
            return {"scalar": self._array(np.asarray(value))}
        if kind in (np.ndarray, np.memmap):
            return self._objects(value) if value.dtype.kind == "O" else self._array(value)
        known = self._kinds.get(kind)
        if known is None:
            raise TypeError(f"{describe(value)} is no plain value")
        return {"made": [known.name, self.plain(known.apart(value))]}

    def _items(self, values: Sequence[Any]) -> Any:
        """Return the description of a sequence: a list, or the array that holds all of it."""
        types = set(map(type, values)) if len(values) > _SHORT else set()
        if len(types) == 1:
            (kind,) = types
            for name, (alike, _) in _ALIKE.items():
                array = np.array(values) if kind is alike else None
                if array is not None and self._tells(name, array, values):
                    return {"all": [name, self._array(array)]}
            if issubclass(kind, np.generic):
                # Texts and dates of one type may have several dtypes.
                dtypes = {value.dtype for value in values}
                if len(dtypes) == 1:
                    return {"all": ["scalar", self._array(np.array(values, dtypes.pop()))]}
        return [self.plain(value) for value in values]

    @staticmethod
    def _tells(name: str, array: Array, values: Sequence[Any]) -> bool:
        """Whether an array gives the values back: NumPy drops zeros at the ends of texts."""
        if name == "int":
            return array.dtype == np.int64
        if name != "text":
            return True
        letters = sum(map(len, values)) + len(values)
        return array.nbytes <= 4 * _MOST_ROOM * letters and array.tolist() == list(values)

    def _objects(self, array: Array) -> dict[str, Any]:
        """Return the description of an array of objects."""
        return {"objects": [self._items(array.ravel().tolist()), list(array.shape)]}

    def _array(self, array: Array) -> dict[str, Any]:
        """Store an array of numbers, texts or times, and return how it is named."""
        little = array.dtype.newbyteorder("<")
        name = str(len(self.arrays))
        if little.str in _OWN_DTYPES:
            self.arrays[name] = np.asarray(array, little, order="C")
            return {"array": name}
        if array.dtype.kind not in _FIXED_KINDS or _is_too_long(little):
            raise TypeError(f"an array of dtype {array.dtype} is no plain value")
        # Texts of no letter at all have no bytes.
        wide = np.dtype(little.str.replace("0", "1")) if not little.itemsize else little
        stored = np.asarray(array, wide, order="C")
        self.arrays[name] = stored.reshape(*stored.shape, 1).view(np.uint8)
        return {"array": [name, wide.str]}


class _Reader:
    """Builds values of their descriptions, using every array once."""

    def __init__(self, arrays: Mapping[str, Array], kinds: Iterable[Kind]) -> None:
        self.left = dict(arrays)
        self._kinds = {kind.name: kind for kind in kinds}
        self._marks: dict[str, Callable[[Any], Any]] = {
            "int": _whole,
            "float": _infinite,
            "tuple": lambda content: tuple(self.items(content)),
            "dict": self._dict,
            "scalar": self._scalar,
            "array": self._named,
            "objects": self._objects,
            "all": self._alike,
            "made": self._made,
        }

    def value(self, plain: Any) -> Any:
        """Return the value of a description."""
        if isinstance(plain, list):
            return self.items(plain)
        if not isinstance(plain, dict):
            return plain
        mark, content = _only(plain)
        if mark not in self._marks:
            raise ValueError(f"a value must have a mark that is known; got {describe(mark)}.")
        return self._marks[mark](content)

    def items(self, plain: Any) -> list[Any]:
        """Return the values of a sequence's description."""
        if isinstance(plain, list):
            return [self.value(one) for one in plain]
        if isinstance(plain, dict) and _only(plain)[0] == "all":
            return self._alike(plain["all"])
        raise ValueError(f"a sequence must be a list; got {describe(plain)}.")

    def _alike(self, content: Any) -> list[Any]:
        """Return the list that an array holds."""
        name, stored = _several(content, 2)
        array = self.array(stored)
        if array.ndim != 1:
            raise ValueError(f"a list must be of one dimension; got shape {array.shape}.")
        if name == "scalar":
            return list(array)
        if not isinstance(name, str) or name not in _ALIKE:
            raise ValueError(f"a list must be of a type that is known; got {describe(name)}.")
        return _ALIKE[name][1](array)

    def _dict(self, content: Any) -> dict[Any, Any]:
        """Return a dict of its keys and values."""
        keys, values = map(self.items, _several(content, 2))
        if len(keys) != len(values):
            raise ValueError(f"{len(keys)} keys must have as many values; got {len(values)}.")
        found = dict(zip(keys, values, strict=True))
        if len(found) != len(keys):
            raise ValueError("keys must be told apart; one came twice.")
        return found

    def _scalar(self, content: Any) -> Any:
        """Return a scalar of NumPy's."""
        array = self.array(content)
        if array.shape:
            raise ValueError(f"a scalar must have no dimension; got shape {array.shape}.")
        return array[()]

    def _objects(self, content: Any) -> Array:
        """Return an array of objects."""
        plain, shape = _several(content, 2)
        values = self.items(plain)
        sizes = (
            isinstance(shape, list)
            and len(shape) <= 2
            and all(type(size) is int and size >= 0 for size in shape)
        )
        if not sizes or math.prod(shape) != len(values):
            raise ValueError(
                f"the shape of {len(values)} objects must be theirs; got {describe(shape)}."
            )
        array = np.empty(len(values), object)
        for place, value in enumerate(values):
            array[place] = value
        return array.reshape(shape)

    def _made(self, content: Any) -> Any:
        """Return an object of another room's."""
        name, plain = _several(content, 2)
        kind = self._kinds.get(name) if isinstance(name, str) else None
        if kind is None:
            raise ValueError(f"an object must be of a kind that is known; got {describe(name)}.")
        return kind.together(self.value(plain))

    def array(self, plain: Any) -> Array:
        """Return a stored array of a description that must be one's."""
        if not isinstance(plain, dict) or _only(plain)[0] != "array":
            raise ValueError(f"an array must be named; got {describe(plain)}.")
        return self._named(plain["array"])

    def _named(self, content: Any) -> Array:
        """Return a stored array."""
        if isinstance(content, str):
            array = self._take(content)
            if array.dtype == np.uint8:
                raise ValueError(f"bytes must have a dtype; those of {content!r} have none.")
            return array
        name, dtype = _several(content, 2)
        return _of_bytes(self._take(name), dtype)

    def _take(self, name: Any) -> Array:
        """Take an array that was not named before."""
        if not isinstance(name, str) or name not in self.left:
            raise ValueError(f"an array that is there must be named once; got {describe(name)}.")
        return self.left.pop(name)


def _digits(value: int) -> str:
    """Return a large integer as text, or refuse one that no number here can be."""
    # Python itself refuses to write very long ones.
    if value.bit_length() > 3 * _MOST_DIGITS:
        raise TypeError(f"{describe(value)} is no plain value")
    return str(value)


def _whole(content: Any) -> int:
    """Return the integer of a text."""
    digits = content.removeprefix("-") if isinstance(content, str) else ""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS):
        raise ValueError(f"an integer must have digits; got {describe(content)}.")
    return int(content)


def _infinite(content: Any) -> float:
    """Return a number that JSON has not."""
    if content not in ("nan", "inf", "-inf"):
        raise ValueError(f"a float must be nan, inf or -inf; got {describe(content)}.")
    return float(content)


def _only(plain: dict[str, Any]) -> tuple[str, Any]:
    """Return the one entry of an object."""
    if len(plain) != 1:
        raise ValueError(f"a value must have one mark; got {describe(plain)}.")
    return next(iter(plain.items()))


def _several(content: Any, count: int) -> list[Any]:
    """Return a list of so many."""
    if not isinstance(content, list) or len(content) != count:
        raise ValueError(f"there must be a list of {count}; got {describe(content)}.")
    return content


def _letters(array: Array) -> int:
    """Return how many letters each text of an array has room for."""
    return array.dtype.itemsize // 4


def _of_bytes(stored: Array, name: Any) -> Array:
    """Return bytes as an array of a dtype, of which every pattern of theirs must be a value."""
    if stored.dtype != np.uint8 or not stored.ndim:
        raise ValueError(f"what has a dtype must be bytes; got {stored.dtype}.")
    dtype = _dtype(name)
    if stored.shape[-1] != dtype.itemsize:
        raise ValueError(f"{dtype} must have {dtype.itemsize} bytes; got {stored.shape[-1]}.")
    if dtype.kind == "b" and (stored > 1).any():
        raise ValueError("truth values must be 0 or 1; got another byte.")
    if dtype.kind == "U" and (stored.view("<u4") > _LARGEST_CHARACTER).any():
        raise ValueError("texts must be of Unicode's characters; got a larger number.")
    array: Array = stored.view(dtype).reshape(stored.shape[:-1])
    return array.astype(dtype.newbyteorder("="), copy=False)


def _dtype(name: Any) -> np.dtype[Any]:
    """Return a dtype of numbers, texts or times by its short name."""
    # Anything else that NumPy has a name for, such as a list of fields, was never written.
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise ValueError(f"a dtype must be of numbers, texts or times; got {describe(name)}.")
    dtype = np.dtype(name)
    if dtype.str != name or not dtype.itemsize or _is_too_long(dtype):
        raise ValueError(f"a dtype must be of numbers, texts or times; got {describe(name)}.")
    return dtype


def _is_too_long(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is of floats whose bytes differ between machines."""
    return dtype.kind == "f" and dtype.itemsize > _MOST_FLOAT_BYTES
