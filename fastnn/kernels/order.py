"""Counter-based random numbers: hashes, and an epoch's order, from a key and a number alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels._jit import entry, kernel

__all__ = ["draw_order", "drawn", "shuffle", "stream_of"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_27, _30, _31, _32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_ONE = np.uint64(1)


@kernel
def hash64(x: Any) -> Any:
    """Mix 64 bits: the finaliser of splitmix64 (Steele, Lea & Flood 2014)."""
    x = (x ^ (x >> _30)) * _MIX_1
    x = (x ^ (x >> _27)) * _MIX_2
    return x ^ (x >> _31)


@kernel
def stream_of(key: Any, number: Any) -> Any:
    """Return the stream of a key and a number, all uint64."""
    return hash64(key + (number + _ONE) * _GOLDEN)


@kernel
def drawn(stream: Any, place: int) -> Any:
    """Return the hash at a place of a stream, uint64."""
    return hash64(stream + (np.uint64(place) + _ONE) * _GOLDEN)


@kernel
def shuffle(order: Any, key: Any, number: Any) -> None:
    """Shuffle the numbers 0, 1, ..., n - 1 (Fisher & Yates), the same for the same draw.

    Every choice is a hash of the key, the draw's number and the place, so that any epoch's
    order can be had without those before it.

    Reads: key and number of the draw, uint64.  Writes: order, int64 (n,).
    """
    stream = stream_of(key, number)
    for i in range(order.size):
        order[i] = i
    for i in range(order.size - 1, 0, -1):
        bits = drawn(stream, i) >> _32
        j = np.int64((bits * np.uint64(i + 1)) >> _32)
        order[i], order[j] = order[j], order[i]


@entry
def draw_order(order: Any, draw: Any) -> None:
    """Write a shuffled order of examples.

    Reads: draw, uint64 (2,): key and number of the draw.  Writes: order, int64 (n,).
    """
    shuffle(order, draw[0], draw[1])
