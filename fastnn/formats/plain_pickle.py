"""Pickles read as data: an interpreter that calls nothing and imports nothing.

Python's own unpickler runs what a file says.  This one knows the opcodes of plain values (numbers,
texts, tuples, lists, dicts) and a table of names, each with what its owner makes of its
arguments; everything else is refused by name.  Keys are texts and numbers, so that no hash of a
nested value is ever taken, and the opcodes are counted, so that a file cannot keep it long.

Source: Python's ``pickletools``, which describes the opcodes and takes a pickle apart into them.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from fastnn.names import describe

__all__ = ["Name", "UnknownNameError", "read_plain"]

_LARGEST_INT = 1 << 127
_KEYS = (str, int, float)

Known = Mapping[str, Callable[..., Any]]


class UnknownNameError(ValueError):
    """A pickle asks for a name that the table does not have."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name that a pickle gave and the table allows, as ``module name``."""

    name: str


def read_plain(
    file: BytesIO,
    known: Known,
    persistent: Callable[[Any], Any],
    most: int,
) -> Any:
    """Read the pickle that begins where the file stands, and leave the file behind it.

    Parameters
    ----------
    file : BytesIO
        What holds it.
    known : mapping of str to callable
        By ``module name``: what becomes of a call with these arguments.
    persistent : callable
        What becomes of a persistent identifier.
    most : int
        Opcodes that it may have.

    Returns
    -------
    object
        Plain values, names, and what the callables returned.

    Raises
    ------
    UnknownNameError
        If it asks for a name that is not in the table.
    ValueError
        If it is damaged, or says anything else.
    """
    machine = _Machine(known, persistent)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count >= most:
            raise ValueError(f"its pickle has more than {most} opcodes, too many for its data.")
        if opcode.name == "STOP":
            break
        act = _ACTS.get(opcode.name)
        if act is None:
            raise ValueError(f"its pickle has the opcode {opcode.name}; plain values have not.")
        try:
            act(machine, argument)
        except (IndexError, KeyError, TypeError):
            raise ValueError(
                f"its pickle has the opcode {opcode.name} where it has nothing to work on."
            ) from None
    if len(machine.stack) != 1 or machine.below:
        raise ValueError("its pickle must end in one value.")
    return machine.stack[0]


class _Machine:
    """What opcodes work on.

    Attributes
    ----------
    stack : list
        The values since the last mark.
    below : list of list
        Those before each of the marks.
    memo : dict
        Values that may be asked for again.
    """

    def __init__(self, known: Known, persistent: Callable[[Any], Any]) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.known = known
        self.persistent = persistent

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        if isinstance(value, int) and abs(value) > _LARGEST_INT:
            raise ValueError("its pickle has a whole number of more than 16 bytes.")
        self.stack.append(value)

    def mark(self) -> None:
        """Begin a group of values."""
        self.below.append(self.stack)
        self.stack = []

    def group(self) -> list[Any]:
        """Return the values since the last mark, and take both away."""
        values = self.stack
        self.stack = self.below.pop()
        return values

    def tuple_of(self, count: int) -> None:
        """Make one value of the last ones."""
        first = len(self.stack) - count
        if first < 0:
            raise IndexError
        self.stack[first:] = [tuple(self.stack[first:])]

    def remember(self, place: int) -> None:
        """Keep the last value in the memo."""
        self.memo[place] = self.stack[-1]

    def name(self, text: str) -> None:
        """Put a name on the stack, if the table has it."""
        if text not in self.known:
            raise UnknownNameError(f"it asks for {describe(text)}, which it may not.")
        self.stack.append(Name(text))

    def name_of_two(self) -> None:
        """Put the name on the stack whose module and name are the last values."""
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError
        self.name(f"{module} {name}")

    def call(self) -> None:
        """Let the table's owner make a value of a name and its arguments."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise TypeError
        self.stack.append(self.known[name.name](*arguments))

    def extend(self, values: list[Any]) -> None:
        """Append to the list that is the last value."""
        if not isinstance(self.stack[-1], list):
            raise TypeError
        self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Put keys and values into the dict that is the last value."""
        held = self.stack[-1]
        if not isinstance(held, dict) or len(values) % 2:
            raise TypeError
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, _KEYS):
                raise ValueError("it has a key that is neither a text nor a number.")
            held[key] = value

    def build(self) -> None:
        """Drop the attributes of a dict, such as the versions of PyTorch's modules."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise TypeError


_Act = Callable[[_Machine, Any], object]
_ACTS: dict[str, _Act] = {
    "PROTO": lambda m, x: None,
    "FRAME": lambda m, x: None,
    "NONE": lambda m, x: m.push(None),
    "NEWTRUE": lambda m, x: m.push(True),
    "NEWFALSE": lambda m, x: m.push(False),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "INT", "LONG", "BINFLOAT", "FLOAT"),
        lambda m, x: m.push(x),
    ),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "UNICODE"), lambda m, x: m.push(x)),
    "EMPTY_TUPLE": lambda m, x: m.tuple_of(0),
    "TUPLE1": lambda m, x: m.tuple_of(1),
    "TUPLE2": lambda m, x: m.tuple_of(2),
    "TUPLE3": lambda m, x: m.tuple_of(3),
    "EMPTY_LIST": lambda m, x: m.push([]),
    "EMPTY_DICT": lambda m, x: m.push({}),
    "MARK": lambda m, x: m.mark(),
    "TUPLE": lambda m, x: m.push(tuple(m.group())),
    "LIST": lambda m, x: m.push(m.group()),
    "APPEND": lambda m, x: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, x: m.extend(m.group()),
    "SETITEM": lambda m, x: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m, x: m.set_items(m.group()),
    "MEMOIZE": lambda m, x: m.remember(len(m.memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, x: m.remember(x)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, x: m.push(m.memo[x])),
    "GLOBAL": lambda m, x: m.name(x),
    "STACK_GLOBAL": lambda m, x: m.name_of_two(),
    "REDUCE": lambda m, x: m.call(),
    "BINPERSID": lambda m, x: m.push(m.persistent(m.stack.pop())),
    "BUILD": lambda m, x: m.build(),
}
