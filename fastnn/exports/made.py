"""Networks of layers and arrays that were read elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn.layers import Dense, Layer
from fastnn.network import Sequential

__all__ = ["Held", "network_of"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Held:
    """A layer, and its arrays as this library has them.

    Attributes
    ----------
    layer : Layer
        Its record.
    parameters, buffers : tuple of ndarray
        Of its own.
    inside : tuple of Held
        The layers that it is made of.
    """

    layer: Layer
    parameters: tuple[Array, ...] = ()
    buffers: tuple[Array, ...] = ()
    inside: tuple[Held, ...] = ()

    def every(self, buffers: bool = False) -> Iterator[Array]:
        """Yield all parameters, or buffers, in the order of the network's vector."""
        for one in self.inside:
            yield from one.every(buffers)
        yield from self.buffers if buffers else self.parameters

    @property
    def is_double(self) -> bool:
        """Whether weights of a Dense layer are of float64."""
        if isinstance(self.layer, Dense):
            return any(array.dtype == np.float64 for array in self.parameters)
        return any(one.is_double for one in self.inside)


def network_of(
    layers: Sequence[Held], inputs: int, dtype: DTypeLike | None = None
) -> Sequential:  # fmt: skip
    """Return a network of layers with their arrays.

    Parameters
    ----------
    layers : sequence of Held
        In order.
    inputs : int
        Columns that the first one reads.
    dtype : dtype, optional
        The network's; float64 if left out and weights have it, else float32.
    """
    parameters = [array for one in layers for array in one.every()]
    buffers = [array for one in layers for array in one.every(buffers=True)]
    if dtype is None:
        dtype = "float64" if any(one.is_double for one in layers) else "float32"
    net = Sequential([one.layer for one in layers], inputs, dtype)
    net.set_weights(parameters)
    if buffers:
        net.buffers = np.concatenate(buffers)
    return net
