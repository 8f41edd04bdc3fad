"""The table of initializers: how the first weights of a layer are drawn.

For a layer with ``fan_in`` inputs and ``fan_out`` units the variance of a weight is
``scale / fan``, with the fan that the row names.  A uniform row draws from
``[-limit, limit)`` with ``limit = sqrt(3 scale / fan)``, which has that variance.  An orthogonal
row draws a matrix whose columns, or whose rows where they are the fewer, are orthonormal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastnn.names import check_real, describe, lookup

__all__ = ["INITIALIZERS", "Initializer", "draw_weights"]


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


def _orthogonal(fan_in: int, fan_out: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a matrix with orthonormal columns, or rows, evenly among all of them.

    Q of a normal matrix is so drawn once the signs of R's diagonal are taken out (Mezzadri 2007,
    How to generate random matrices from the classical compact groups).
    """
    Q, R = np.linalg.qr(rng.normal(size=(max(fan_in, fan_out), min(fan_in, fan_out))))
    Q = Q * np.where(np.diag(R) < 0, -1.0, 1.0)
    return Q if fan_in >= fan_out else np.ascontiguousarray(Q.T)
