"""The table of initializers: how the first weights of a layer are drawn.

For a layer with ``fan_in`` inputs and ``fan_out`` units the variance of a weight is
``scale / fan``, with the fan that the row names.  A uniform row draws from
``[-limit, limit)`` with ``limit = sqrt(3 scale / fan)``, which has that variance.  An orthogonal
row draws a matrix whose columns, or whose rows where they are the fewer, are orthonormal.

``initializer="auto"`` is no row, as it depends on where a layer stands: `Start` says how.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastnn.names import check_real, describe, lookup

__all__ = ["INITIALIZERS", "Initializer", "Start", "draw_start", "draw_weights"]


@dataclass(frozen=True, slots=True)
class Initializer:
    """One row: a distribution for the weights of a layer.

    Attributes
    ----------
    name : str
        The field's name for it.
    scale : float
        Variance of a weight times its fan; 0 for the rows that draw nothing.
    fan : {"in", "average", None}
        ``fan_in``, or the mean of ``fan_in`` and ``fan_out``.
    shape : {"uniform", "normal", "orthogonal", "constant"}
        The distribution.
    source : str
        Where the rule comes from.
    value : float
        What every weight of a "constant" row starts at.
    """

    name: str
    scale: float
    fan: Literal["in", "average"] | None
    shape: Literal["uniform", "normal", "orthogonal", "constant"]
    source: str
    value: float = 0.0
    aliases: tuple[str, ...] = ()


_GLOROT = "Glorot & Bengio 2010, Understanding the difficulty of training deep networks, eq. 16"
_HE = "He, Zhang, Ren & Sun 2015, Delving deep into rectifiers, equation 10"
_SAXE = "Saxe, McClelland & Ganguli 2014, Exact solutions to the nonlinear dynamics of learning"
_LECUN = "LeCun, Bottou, Orr & Mueller 1998, Efficient BackProp, section 4.6"

INITIALIZERS: dict[str, Initializer] = {
    row.name: row
    for row in (
        Initializer("glorot_uniform", 1.0, "average", "uniform", _GLOROT),
        Initializer("glorot_normal", 1.0, "average", "normal", _GLOROT),
        Initializer("he_uniform", 2.0, "in", "uniform", _HE),
        Initializer("he_normal", 2.0, "in", "normal", _HE),
        Initializer("lecun_uniform", 1.0, "in", "uniform", _LECUN),
        Initializer("lecun_normal", 1.0, "in", "normal", _LECUN),
        Initializer("orthogonal", 1.0, None, "orthogonal", _SAXE),
        Initializer("zeros", 0.0, None, "constant", "all weights 0"),
        Initializer("constant", 0.0, None, "constant", "all weights 0.1", value=0.1),
    )
}

# The largest orthogonal matrix that is made once and kept; larger ones are computed where needed.
_KEPT = 128

# So many entries of a larger one are computed at once.
_AT_ONCE = 16384

# Below this size the orders and signs of a fixed matrix's rows are too few.
_SMALL = 8


@dataclass(frozen=True, slots=True)
class Start:
    """How one layer begins.

    Attributes
    ----------
    initializer : str or float
        A row, the number that every weight starts at, or "isometry": the layer passes on what it
        reads at its full length, turned, and the fields below say the rest.
    gain : float
        What an isometry is multiplied by.
    reads_pairs, makes_pairs : bool
        Whether the units of the layer below, or of this one, are pairs of ``f(z)`` and
        ``f(-z)``.  The first half of a layer holds the ``z``, the second the ``-z``; of an odd
        number of units the middle one is alone.
    spread : bool
        Whether the layer reads features: its weighted sums then have the standard deviation
        ``p**-0.25`` for p features of unit scale, and its biases are spread as widely.
    """

    initializer: str | float
    gain: float = 1.0
    reads_pairs: bool = False
    makes_pairs: bool = False
    spread: bool = False


def check_initializer(initializer: object) -> str | float:
    """Return a row's name or a finite number, or say what an initializer is."""
    if isinstance(initializer, str):
        if initializer == "auto":
            return initializer
        return lookup(INITIALIZERS, initializer, "initializer").name
    try:
        return check_real(initializer, "initializer")
    except TypeError:
        came = "None (NoneType)" if initializer is None else describe(initializer)
        known = ", ".join(repr(name) for name in ("auto", *INITIALIZERS))
        raise TypeError(
            f"initializer must be a number (every weight starts there) or one of {known}; "
            f"got {came}."
        ) from None


def draw_weights(
    initializer: str | float, fan_in: int, fan_out: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the first weights of a layer.

    Parameters
    ----------
    initializer : str or float
        Name of a row, or the number that every weight starts at.
    fan_in, fan_out : int
        Inputs and units of the layer.
    rng : numpy.random.Generator
        Where the numbers come from.

    Returns
    -------
    ndarray of float64, shape (fan_in, fan_out)
        Drawn in double precision whatever the network's dtype, so that a float32 network
        starts at the rounded weights of its float64 twin.
    """
    size = (fan_in, fan_out)
    if not isinstance(initializer, str):
        return np.full(size, initializer)
    row = INITIALIZERS[initializer]
    if row.shape == "constant":
        return np.full(size, row.value)
    if row.shape == "orthogonal":
        return _orthogonal(fan_in, fan_out, rng)
    fan = fan_in if row.fan == "in" else (fan_in + fan_out) / 2
    if row.shape == "normal":
        return rng.normal(0.0, math.sqrt(row.scale / fan), size)
    limit = math.sqrt(3.0 * row.scale / fan)
    return rng.uniform(-limit, limit, size)


def draw_start(
    start: Start, W: NDArray[Any], b: NDArray[Any] | None, rng: np.random.Generator
) -> None:
    """Draw the first weights and biases of a layer into their views.

    Parameters
    ----------
    start : Start
        How the layer begins.
    W : ndarray, shape (fan_in, fan_out)
        Written to, rounded to its dtype.
    b : ndarray, shape (fan_out,), or None
        Holds zeros, and is written to where biases are spread.
    rng : numpy.random.Generator
        Where the numbers come from.
    """
    fan_in, fan_out = W.shape
    if start.initializer != "isometry":
        W[:] = draw_weights(start.initializer, fan_in, fan_out, rng)
        return
    # Of a pair only one sum is drawn; the other is its mirror image.
    pairs_in = fan_in // 2 if start.reads_pairs else 0
    pairs_out = fan_out // 2 if start.makes_pairs else 0
    rows, columns = fan_in - pairs_in, fan_out - pairs_out
    V = _isometry(rows, columns, rng, scattered=start.spread)
    if start.spread:
        scale = start.gain * rows**-0.25
        V *= scale / np.sqrt(np.add.reduce(V * V, 0))
        if b is not None:
            thresholds = _evenly(columns).take(rng.random(columns).argsort()) * scale
            b[:columns] = thresholds
            b[columns:] = -thresholds[:pairs_out]
    elif start.gain != 1.0:
        V *= start.gain
    W[:rows, :columns] = V
    if pairs_out:
        np.negative(W[:rows, :pairs_out], W[:rows, columns:])
    if pairs_in:
        np.negative(W[:pairs_in], W[rows:])


def _isometry(
    rows: int, columns: int, rng: np.random.Generator, *, scattered: bool
) -> NDArray[np.float64]:
    """Draw a matrix with orthonormal columns, or rows where they are the fewer.

    It consists of rows of a fixed orthogonal matrix in random order, with random signs.  An order
    and signs of its columns would only number units anew.  Of a small matrix these are few; its
    rows are also turned by twos through random angles.

    ``scattered`` asks for columns that look at all directions alike.  Those of a fixed matrix that
    is computed lie on one curve; so a wide matrix is put together from several kept ones, each
    of which has orthonormal rows.
    """
    V: NDArray[np.float64]
    size = max(rows, columns)
    if scattered and size > _KEPT >= rows:
        blocks = [_isometry(rows, _KEPT, rng, scattered=False) for _ in range(0, columns, _KEPT)]
        return np.hstack(blocks)[:, :columns]
    drawn = rng.random(2 * size)
    chosen = drawn[:size].argsort()[:rows]
    negative = drawn[size : size + rows] < 0.5
    if size <= _KEPT:
        np.add(chosen, size, out=chosen, where=negative)
        V = _kept(size)[:, :columns].take(chosen, 0)
        if size < _SMALL:
            _turn(V, rng)
        return V
    # The discrete Hartley transform is orthogonal at every size (Bracewell 1983).
    angles = np.arange(size) * (2.0 * math.pi / size)
    waves = (np.cos(angles) + np.sin(angles)) / math.sqrt(size)
    V = np.empty((rows, columns))
    steps = np.arange(columns)
    # Some rows at a time, whose numbers stay in the cache.
    count = max(1, _AT_ONCE // columns)
    for first in range(0, rows, count):
        places = np.multiply.outer(chosen[first : first + count], steps)
        # Faster than %, whose quotient is not computed in vectors.
        places -= places // size * size
        waves.take(places, out=V[first : first + count], mode="clip")
    V *= np.where(negative, -1.0, 1.0)[:, None]
    return V


def _turn(V: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Turn the rows of a matrix by twos through random angles, in place."""
    half = len(V) // 2
    above, below = V[:half].copy(), V[half : 2 * half]
    angles = rng.random((half, 1)) * (2.0 * math.pi)
    cosines, sines = np.cos(angles), np.sin(angles)
    V[:half] = cosines * above - sines * below
    V[half : 2 * half] = sines * above + cosines * below


@functools.lru_cache(maxsize=_KEPT)
def _kept(size: int) -> NDArray[np.float64]:
    """Return one orthogonal matrix of a size, drawn evenly among all, and its negative below.

    Gram and Schmidt's way, by sums whose order is NumPy's own: what a BLAS computes has other bits
    on other processors and in other numbers of threads.
    """
    Q = np.random.default_rng(size).normal(size=(size, size))
    for _ in range(2):  # The second time takes out what rounding has left.
        for place, row in enumerate(Q):
            row /= math.sqrt((row * row).sum())
            rest = Q[place + 1 :]
            rest -= (rest * row).sum(axis=1, keepdims=True) * row
    both = np.concatenate((Q, -Q))
    both.flags.writeable = False
    return both


@functools.lru_cache(maxsize=_KEPT)
def _evenly(count: int) -> NDArray[np.float64]:
    """Return the middles of equal parts of the interval with mean 0 and standard deviation 1."""
    middles: NDArray[np.float64] = (2.0 * np.arange(count) + 1.0 - count) / count * math.sqrt(3.0)
    middles.flags.writeable = False
    return middles


def _orthogonal(fan_in: int, fan_out: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a matrix with orthonormal columns, or rows, evenly among all of them.

    Q of a normal matrix is so drawn once the signs of R's diagonal are taken out (Mezzadri 2007,
    How to generate random matrices from the classical compact groups).
    """
    Q, R = np.linalg.qr(rng.normal(size=(max(fan_in, fan_out), min(fan_in, fan_out))))
    Q = Q * np.where(np.diag(R) < 0, -1.0, 1.0)
    return Q if fan_in >= fan_out else np.ascontiguousarray(Q.T)
