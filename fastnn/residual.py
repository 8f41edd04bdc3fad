"""Layers around which their input is passed: the record of a residual block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from fastnn.hints import understands
from fastnn.layers import Layer
from fastnn.names import describe, several

__all__ = ["Residual"]

# Blocks within blocks; a file of more would be no network of anybody's.
_DEEPEST = 32

_WORDS = {
    "block": "layers",
    "fn": "layers",
    "module": "layers",
    "name": "A layer has no name; leave it out.",
}


@understands(_WORDS)
@dataclass(frozen=True, slots=True, repr=False)
class Residual(Layer):
    """Adds its input to what its layers give: ``A + f(A)``.

    It has no parameters of its own; those of its layers are named after both places, such as
    "1.0.W" for the first layer in a block at place 1.

    Parameters
    ----------
    layers : list of layers
        ``f``, at least one layer, which must give as many columns as it reads.  Blocks may hold
        blocks.

    Raises
    ------
    TypeError, ValueError
        If it is no such list; for widths that differ, as soon as both are known.

    Notes
    -----
    He, Zhang, Ren & Sun 2016, "Deep residual learning for image recognition".

    Where "auto" draws the weights of the last `Dense` of a block, they are divided by the root of
    the number of blocks in the network, so that the sums do not grow with it (Radford et al. 2019,
    "Language models are unsupervised multitask learners", section 2.3).

    Examples
    --------
    >>> import fastnn as fn
    >>> block = fn.Residual([fn.LayerNorm(), fn.Dense(8, "relu"), fn.Dense(4)])
    >>> net = fn.Sequential([fn.Dense(4), block, fn.Dense(1)], inputs=3)
    >>> net.layout.names
    ('0.W', '0.b', '1.0.scale', '1.0.shift', '1.1.W', '1.1.b', '1.2.W', '1.2.b', '2.W', '2.b')
    >>> fn.Sequential([fn.Dense(4), fn.Residual([fn.Dense(5)]), fn.Dense(1)])
    Traceback (most recent call last):
    ...
    ValueError: layers[1] adds its input, 4 columns, to what its layers give, 5 columns; ...
    """

    layers: Sequence[Layer]

    def __post_init__(self) -> None:
        """Check the field once and store it in its plain form."""
        given = self.layers
        if not several(given) or isinstance(given, (str, bytes, Mapping, Set, Layer)):
            raise TypeError(
                f"layers of a Residual must be a list of layers; got {describe(given)}."
            )
        layers = tuple(given)
        if not layers:
            raise ValueError("layers of a Residual must hold at least one layer; got none.")
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers of a Residual must be layers; got {describe(layer)}.")
        object.__setattr__(self, "layers", layers)
        if _depth(self) > _DEEPEST:
            raise ValueError(f"blocks must be at most {_DEEPEST} deep; got more within each other.")

    @property
    def inside(self) -> tuple[Layer, ...]:
        """Its layers."""
        return tuple(self.layers)


def _depth(layer: Layer) -> int:
    """Return how many blocks stand within each other."""
    return 1 + max(map(_depth, layer.inside), default=-1)
