"""What a network says of itself: its layers in words, as the text of a summary and for pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastnn.kernels import codes
from fastnn.kinds import check_widths, kind_of
from fastnn.layers import Layer

__all__ = ["Described", "described", "summary"]


@dataclass(frozen=True, slots=True)
class Described:
    """A layer in words.

    Attributes
    ----------
    kind : str
        The name of its record.
    said : str
        What there is to say beside: the activation, a rate, that it is frozen.
    outputs : int or None
        How many columns it writes; None where that is not known yet.
    parameters : int or None
        How many numbers it has; None where that is not known yet.
    name : str
        Its place, with dots, such as "1.0", inside another layer.
    """

    kind: str
    said: str
    outputs: int | None
    parameters: int | None
    name: str


def described(layers: Sequence[Layer], inputs: int | None, above: str = "") -> list[Described]:
    """Describe every layer of a network with so many inputs, or a number that is not known yet.

    Those inside another one come behind it.
    """
    found = []
    width: Any = inputs
    for place, layer in enumerate(layers):
        kind, count = kind_of(layer), None
        said = kind.say(layer)
        if not getattr(layer, "trainable", True):
            said += ", frozen" if said else "measured"
        if width is not None or kind.form == codes.NO_PARAMETERS:
            count = sum(math.prod(one.shape) for one in kind.parameters(layer, width))
        name, before, width = f"{above}{place}", width, check_widths([layer], width)
        found.append(Described(type(layer).__name__, said, width, count, name))
        found += described(layer.inside, before, f"{name}.")
    return found


def summary(layers: Sequence[Layer], inputs: int | None, dtype: Any) -> str:
    """Write a line per layer, and one of the whole; see `Sequential.summary`."""
    rows = [("layer", "kind", "activation", "output", "parameters")]
    known = described(layers, inputs)
    for one in known:
        width = "?" if one.outputs is None else one.outputs
        count = "?" if one.parameters is None else str(one.parameters)
        kind = "  " * one.name.count(".") + one.kind
        rows.append((one.name, kind, one.said, f"(n, {width})", count))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        f"{row[0]:>{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  "
        f"{row[3]:<{widths[3]}}  {row[4]:>{widths[4]}}"
        for row in rows
    ]
    return "\n".join([*lines, whole(known, inputs, dtype)])


def whole(known: Sequence[Described], inputs: int | None, dtype: Any) -> str:
    """Say how large a network is, in a line."""
    outputs = known[-1].outputs
    if inputs is None:
        return f"inputs taken from X at the first fit, {outputs} outputs, {dtype}"
    size = sum(one.parameters or 0 for one in known)
    return (
        f"{inputs} inputs, {outputs} outputs, "
        f"{size:,} parameters of {dtype} ({size * dtype.itemsize:,} bytes)"
    )
