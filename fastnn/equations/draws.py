"""What the textbook draws at random: the order of an epoch, and what dropout keeps.

These are the only formulas that the reference shares with the native path, so that both see the
same batches and the same units.  Nothing has a state: every number is a hash of a key and of what
it is drawn for.

Examples
--------
>>> permutation(1, 0, 5).tolist()
[2, 4, 0, 3, 1]
>>> kept(1, 0, 0, 2, 3, 0.5).tolist()
[[True, True, False], [False, True, False]]
"""

# NumPy types most results as Any, and casts would hide the equations:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)


def hash64(x: Array) -> Array:
    """Return the finaliser of splitmix64 (Steele, Lea & Flood 2014) of a uint64 array."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def draws(key: int, number: int, count: int) -> Array:
    """Return the first hashes, uint64, of the stream of a key and a number."""
    stream = hash64(np.array([(int(key) + (int(number) + 1) * GOLDEN) % 2**64], dtype=np.uint64))
    return hash64(stream + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN))


def permutation(key: int, epoch: int, n: int) -> npt.NDArray[np.int64]:
    """Return 0..n-1 shuffled by Fisher & Yates, swap i taking its place from the i-th hash."""
    places = np.arange(1, n + 1, dtype=np.uint64)
    J = ((draws(key, epoch, n) >> np.uint64(32)) * places) >> np.uint64(32)
    order = np.arange(n, dtype=np.int64)
    for i in range(n - 1, 0, -1):
        order[i], order[J[i]] = order[J[i]], order[i]
    return order


def hash32(x: Array, key: int) -> Array:
    """Return 32 bits for each number of a uint32 array; all of a key's 64 bits have a say."""
    low, high = np.uint32(key % 2**32), np.uint32(key >> 32)
    x = x + low
    x = (x ^ (x >> np.uint32(16))) * FIRST
    return (x ^ (x >> np.uint32(15)) ^ high) * SECOND


def kept(key: int, step: int, place: int, h: int, d: int, rate: float) -> Array:
    """Return which of h units stay for each of d examples, (h, d): each one by 1 - rate."""
    layer = int(draws(key, step, place + 1)[place])
    numbers = np.arange(h * d, dtype=np.uint32).reshape(d, h).T
    return hash32(numbers, layer) >= np.uint32(min(round(rate * 2**32), 2**32 - 1))
