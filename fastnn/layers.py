"""Layers: frozen records that describe.  They hold no weights and compute nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass
from typing import Any

from fastnn.activations import ACTIVATIONS
from fastnn.initializers import check_initializer
from fastnn.names import check_bool, check_integer, check_real, describe, lookup

__all__ = ["LAYERS", "Dense", "check_layers", "from_dict", "to_dict"]


@dataclass(frozen=True, slots=True)
class Dense:
    """A fully connected layer: ``A = f(X W + b)``.

    Parameters
    ----------
    units : int
        Width of the layer, at least 1.
    activation : str, default "identity"
        ``f``: "identity", "sigmoid", "tanh", "relu", "softmax" (over the layer's units),
        "leaky_relu" (slope 0.01 below 0), "elu", "selu", "gelu", "silu", "softplus", "mish",
        "softsign", "hard_sigmoid", "exp" or "sin".
    bias : bool, default True
        Whether the layer has ``b``; it starts at zero.
    initializer : str or float, default "auto"
        How ``W`` starts: "glorot_uniform", "glorot_normal", "he_uniform", "he_normal",
        "lecun_uniform", "lecun_normal", "orthogonal", "zeros", "constant" (0.1), or the number
        that every weight starts at.  "auto" is "he_uniform" for relu and what resembles it and
        for sin, "lecun_normal" for selu, and "glorot_uniform" for the others.
    l2 : float, default 0.0
        L2 regularisation: adds ``l2 / 2 * sum(W**2)`` to the training loss, biases excluded.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind, unknown or out of its range.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.Dense(64, activation="relu")
    Dense(units=64, activation='relu', bias=True, initializer='auto', l2=0.0)
    """

    units: int
    activation: str = "identity"
    bias: bool = True
    initializer: str | float = "auto"
    l2: float = 0.0

    def __post_init__(self) -> None:
        """Check every field once and store it in its plain form."""
        checked = {
            "units": check_integer(self.units, "units", 1),
            "activation": lookup(ACTIVATIONS, self.activation, "activation").name,
            "bias": check_bool(self.bias, "bias"),
            "initializer": check_initializer(self.initializer),
            "l2": check_real(self.l2, "l2", low=0.0),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def first_weights(self) -> str | float:
        """The initializer that "auto" stands for here, or the one that was given."""
        if self.initializer == "auto":
            return ACTIVATIONS[self.activation].initializer
        return self.initializer


LAYERS: dict[str, type[Dense]] = {"Dense": Dense}


def check_layers(layers: object) -> tuple[Dense, ...]:
    """Return the layers of a network as a tuple, or say what a network is made of."""
    if isinstance(layers, tuple(LAYERS.values())):
        raise TypeError(f"layers must be a list of layers; got one layer: {layers!r}.")
    if not isinstance(layers, Iterable) or isinstance(layers, (str, bytes, Mapping, Set)):
        raise TypeError(f"layers must be a list of layers; got {describe(layers)}.")
    found = tuple(layers)
    if not found:
        raise ValueError("layers must hold at least one layer; got an empty list.")
    for place, layer in enumerate(found):
        if not isinstance(layer, tuple(LAYERS.values())):
            known = ", ".join(f"fastnn.{name}(...)" for name in LAYERS)
            raise TypeError(
                f"layers[{place}] must be a layer, one of {known}; got {describe(layer)}."
            )
    return found


def to_dict(layer: Dense) -> dict[str, Any]:
    """Return a layer as plain data, for files."""
    return {"layer": type(layer).__name__, **asdict(layer)}


def from_dict(data: object) -> Dense:
    """Return the layer that `to_dict` described; anything else is refused."""
    if not isinstance(data, dict):
        raise TypeError(f"a layer must be described by an object; got {describe(data)}.")
    fields = dict(data)
    kind = lookup(LAYERS, fields.pop("layer", None), "layer")
    expected = kind.__dataclass_fields__.keys()
    if fields.keys() != expected:
        raise ValueError(
            f"a layer must be described by {', '.join(expected)}; got {', '.join(fields)}."
        )
    return kind(**fields)
