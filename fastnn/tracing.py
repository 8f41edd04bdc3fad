"""What a pass over some examples computes on its way, in the textbook's words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Trace"]

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Trace:
    """The textbook's intermediates of one forward and backward pass.

    Every list has one entry per Dense layer, counted from 0.

    Attributes
    ----------
    loss : float
        Mean loss of the examples, without L2.
    Z : list of ndarray, shape (n, h)
        Weighted sums.
    A : list of ndarray, shape (n, h)
        Activations, ``A[l] = f(Z[l])``; ``A[-1]`` is the prediction.
    dZ : list of ndarray, shape (n, h)
        Gradient of the mean loss with respect to Z.
    dW : list of ndarray, shape (h_in, h_out)
        Gradient with respect to W.
    db : list of ndarray, shape (h_out,), or None
        Gradient with respect to b; None where the layer has no bias.
    dX : ndarray, shape (n, p)
        Gradient of the mean loss with respect to X.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=2)
    >>> t = net.trace([[1.0, 2.0]], [3.0])
    >>> t.loss, t.db[0]
    (9.0, array([-6.], dtype=float32))
    >>> t.dX.shape
    (1, 2)
    """

    loss: float
    Z: list[Floats]
    A: list[Floats]
    dZ: list[Floats]
    dW: list[Floats]
    db: list[Floats | None]
    dX: Floats
