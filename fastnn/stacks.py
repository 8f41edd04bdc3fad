"""What a network is made of: a list of layers, each where it may stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import pairwise
from typing import Any

from fastnn.embeddings import Embedding, lengths
from fastnn.kinds import KINDS, LAYERS, check_widths, columns_of, kind_of, spelt
from fastnn.layers import Dense, Layer, named
from fastnn.names import describe, several
from fastnn.periodic import NumericEmbedding

__all__ = ["check_layers"]


def check_layers(layers: object) -> tuple[Layer, ...]:
    """Return the layers of a network as a tuple, or say what a network is made of."""
    if isinstance(layers, tuple(LAYERS.values())):
        raise TypeError(f"layers must be a list of layers; got one layer: {layers!r}.")
    if not several(layers) or isinstance(layers, (str, bytes, Mapping, Set)):
        raise TypeError(f"layers must be a list of layers; got {describe(layers)}.")
    found: tuple[Layer, ...] = _passed_by(tuple(layers))
    if not found:
        raise ValueError("layers must hold at least one layer; got an empty list.")
    for place, layer in enumerate(found):
        if not isinstance(layer, tuple(LAYERS.values())):
            known = ", ".join(f"fastnn.{name}(...)" for name in LAYERS)
            raise TypeError(
                f"layers[{place}] must be a layer, one of {known}; got {describe(layer)}."
            )
    for name, layer in named(found):
        if type(layer).__name__ not in KINDS:
            raise TypeError(f"{spelt(name)} must be a layer of fastnn's; got {describe(layer)}.")
        if name != "0" and kind_of(layer).measured is not None:
            first = "a block" if "." in name else repr(found[int(name) - 1])
            raise ValueError(
                f"{spelt(name)} is {layer!r}, which measures the features and so must be the "
                f"first layer; before it stands {first}."
            )
        if kind_of(layer).coded(layer):
            _check_reads_codes(name, layer, found)
        if isinstance(layer, NumericEmbedding):
            _check_reads_numbers(name, layer, found)
    check_widths(found, None)
    if not isinstance(found[-1], Dense):
        raise ValueError(
            "layers must end with a Dense layer, which gives the predictions; "
            f"got {found[-1]!r} at the end."
        )
    return found


def _check_reads_codes(name: str, layer: Layer, layers: Sequence[Layer]) -> None:
    """Refuse a layer that reads codes where what it reads are no features as they came."""
    if name == "0" or (name == "1" and kind_of(layers[0]).measured is not None):
        return
    first = "a block" if "." in name else repr(layers[int(name) - 1])
    raise ValueError(
        f"{spelt(name)} is {layer!r}, which reads codes from X and so must be the first layer, or "
        f"the second behind a Standardize; before it stands {first}."
    )


def _passed_by(layers: tuple[Any, ...]) -> tuple[Any, ...]:
    """Let the vectors of an Embedding pass by the layer behind it that embeds numbers."""
    found = list(layers)
    for place, (first, second) in enumerate(pairwise(layers), 1):
        if isinstance(first, Embedding) and isinstance(second, NumericEmbedding):
            vectors = sum(lengths(first))
            if second.passing not in (0, vectors):
                raise ValueError(
                    f"{spelt(str(place))} lets {columns_of(second.passing)} pass, where the "
                    f"vectors of the Embedding before it have {vectors}. Leave passing out."
                )
            found[place] = replace(second, passing=vectors)
    return tuple(found)


def _check_reads_numbers(name: str, layer: Layer, layers: Sequence[Layer]) -> None:
    """Refuse a layer that embeds numbers where what it reads are none that came so."""
    before = layers[: int(name)] if "." not in name else ()
    known = [kind_of(one).measured is not None or bool(kind_of(one).coded(one)) for one in before]
    if "." in name or not all(known):
        first = "a block" if "." in name else repr(before[known.index(False)])
        raise ValueError(
            f"{spelt(name)} is {layer!r}, which embeds the features and so must be the first "
            f"layer, or stand behind a Standardize and an Embedding; before it stands {first}."
        )
