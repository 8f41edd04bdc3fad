"""Layers: frozen records that describe.  They hold no weights and compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from fastnn import words
from fastnn.activations import ACTIVATIONS
from fastnn.hints import understands
from fastnn.initializers import Start, check_initializer
from fastnn.names import check_bool, check_integer, check_real, describe, lookup, several

__all__ = [
    "LAYERS",
    "Dense",
    "Dropout",
    "Layer",
    "check_layers",
    "described",
    "from_dict",
    "starts",
    "to_dict",
]


@understands(words.DENSE)
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
        Whether the layer has ``b``; it starts at zero, but see "auto" for the first layer.
    initializer : str or float, default "auto"
        How ``W`` starts: "glorot_uniform", "glorot_normal", "he_uniform", "he_normal",
        "lecun_uniform", "lecun_normal", "orthogonal", "zeros", "constant" (0.1), or the number
        that every weight starts at.  "auto", the default, starts every hidden layer as a rotation:
        units of relu and its like, and of sigmoid, come in pairs of ``f(z)`` and ``f(-z)``, whose
        difference hands z on, so that signal and gradient keep their length at any depth.  The
        weighted sums of the first hidden layer have the standard deviation ``p**-0.25`` for p
        features of unit scale, and its biases are spread evenly as far, so that its units bend in
        different places.  In a hidden layer of "selu" it is "lecun_normal", of "softmax" and "exp"
        "glorot_uniform".
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


@understands(words.DROPOUT)
@dataclass(frozen=True, slots=True)
class Dropout:
    """In training, drops units of the layer before it at random, so that none is relied upon.

    Each unit of each example becomes 0 with probability ``rate``; the others are multiplied by
    ``1 / (1 - rate)``, so that what the next layer reads stays the same on the average.  Every
    step draws anew.  As the first layer it drops inputs.  Predictions, `evaluate`, `trace`,
    `loss_and_gradient`, `hidden` and `diagnose` drop nothing.

    Parameters
    ----------
    rate : float
        The part that is dropped, at least 0 and less than 1.

    Raises
    ------
    TypeError, ValueError
        If the rate is no such number.

    Notes
    -----
    What a step drops follows from the network's ``rng`` and from how many steps it has taken, and
    is the same in any number of threads, in float32 and float64, natively and on the reference.

    Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov 2014, Journal of Machine Learning
    Research 15, in the form that scales in training and leaves predictions alone.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(64, "relu"), fn.Dropout(0.1), fn.Dense(10, "softmax")])
    >>> net.layers[1]
    Dropout(rate=0.1)
    """

    rate: float

    def __post_init__(self) -> None:
        """Check the field once and store it in its plain form."""
        rate = check_real(self.rate, "rate", low=0.0, high=1.0, high_open=True)
        object.__setattr__(self, "rate", rate)


Layer: TypeAlias = Dense | Dropout

LAYERS: dict[str, type[Dense] | type[Dropout]] = {"Dense": Dense, "Dropout": Dropout}


def check_layers(layers: object) -> tuple[Layer, ...]:
    """Return the layers of a network as a tuple, or say what a network is made of."""
    if isinstance(layers, tuple(LAYERS.values())):
        raise TypeError(f"layers must be a list of layers; got one layer: {layers!r}.")
    if not several(layers) or isinstance(layers, (str, bytes, Mapping, Set)):
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
    for place, (below, layer) in enumerate(pairwise(found), 1):
        if isinstance(below, Dropout) and isinstance(layer, Dropout):
            raise ValueError(
                f"layers[{place}] must be a Dense layer, which reads what {below!r} before it "
                f"leaves; got {layer!r}."
            )
    if isinstance(found[-1], Dropout):
        raise ValueError(
            "layers must end with a Dense layer, which gives the predictions; "
            f"got {found[-1]!r} at the end."
        )
    return found


def described(layers: Sequence[Layer]) -> list[tuple[int, Dense, float]]:
    """Return place and record of every Dense layer, and the part of what it reads that drops."""
    below = [None, *layers[:-1]]
    return [
        (place, layer, before.rate if isinstance(before, Dropout) else 0.0)
        for place, (before, layer) in enumerate(zip(below, layers, strict=True))
        if isinstance(layer, Dense)
    ]


def starts(layers: Sequence[Layer]) -> list[Start]:
    """Return how every Dense layer begins; "auto" hangs on its place and on the layer below."""
    dense = [layer for _, layer, _ in described(layers)]
    found: list[Start] = []
    for place, layer in enumerate(dense):
        row = ACTIVATIONS[layer.activation]
        last = place == len(dense) - 1
        if layer.initializer != "auto":
            start = Start(layer.initializer)
        elif not last and row.initializer not in ("isometry", "pairs"):
            start = Start(row.initializer)
        else:
            start = Start(
                "isometry",
                gain=1.0 if last else row.gain,
                reads_pairs=place > 0 and found[-1].makes_pairs,
                makes_pairs=not last and row.initializer == "pairs",
                spread=place == 0 and not last and layer.activation != "identity",
            )
        found.append(start)
    return found


def to_dict(layer: Layer) -> dict[str, Any]:
    """Return a layer as plain data, for files."""
    return {"layer": type(layer).__name__, **asdict(layer)}


def from_dict(data: object) -> Layer:
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
