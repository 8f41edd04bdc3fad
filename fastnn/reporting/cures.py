"""What a diagnosis may recommend to a network: nothing that it has already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.initializers import draw_start
from fastnn.layers import Dense, starts
from fastnn.layout import Layout

__all__ = ["Cures", "norm", "tried"]

Floats = NDArray[np.floating[Any]]

# Weights so many times as large as their initializer draws them are told.
_GROWN = 3.0


def norm(array: Floats) -> float:
    """Return the Euclidean norm, summed in double precision."""
    with np.errstate(all="ignore"):
        return float(np.sqrt(np.square(array, dtype=np.float64).sum()))


@dataclass(frozen=True, slots=True)
class Cures:
    """What may be recommended to this network: nothing that it has already.

    Each is a piece of a list, with a comma in front, or empty.

    Attributes
    ----------
    weights : str
        To begin from other weights.
    scaled : str
        To scale what was found out of scale.
    double : str
        To compute in float64.
    steep : str
        To use an activation that passes gradients on.
    undying : tuple of str
        For each layer, to use one whose units do not die.
    """

    weights: str
    scaled: str
    double: str
    steep: str
    undying: tuple[str, ...]

    @classmethod
    def of(
        cls, layers: Sequence[Dense], layout: Layout, parameters: Floats, out_of_scale: bool
    ) -> Cures:
        """Find out what is not set yet."""
        hidden = layers[:-1]
        flat = {"sigmoid", "tanh", "softmax", "softsign", "hard_sigmoid"}
        found = sorted(flat & {layer.activation for layer in hidden})
        return cls(
            weights=_about_weights(layers, layout, parameters),
            scaled=", scaled features and targets" if out_of_scale else "",
            double=", dtype='float64'" if parameters.dtype != np.float64 else "",
            steep=f", relu in place of {' or '.join(found)}" if found else "",
            undying=tuple(
                ", leaky_relu" if layer.activation == "relu" else ", tanh" for layer in layers
            ),
        )


def _about_weights(layers: Sequence[Dense], layout: Layout, parameters: Floats) -> str:
    """Say how to begin from other weights, where these are not as "auto" draws them."""
    given = starts(layers)
    if given != starts([replace(layer, initializer="auto") for layer in layers]):
        return ", initializer='auto'"
    rng = np.random.default_rng(0)
    for start, block in zip(given, layout.blocks, strict=True):
        W = np.empty((block.inputs, block.outputs))
        draw_start(start, W, None, rng)
        drawn, here = norm(W), norm(layout.view(parameters, block.W))
        if here > _GROWN * drawn > 0.0:
            return (
                f", smaller weights (those of layer {block.name} are {here / drawn:.2g} times as "
                "large as their initializer draws them)"
            )
    return ""


def tried(*cures: str) -> str:
    """Return the sentence that lists what to try; cures that are empty do not count."""
    listed = "".join(cures).removeprefix(", ")
    return f" Try {listed}." if listed else ""
