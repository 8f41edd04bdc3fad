"""Whether a network's gradients are those of its loss: central differences beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn.losses import LossLike
from fastnn.names import check_integer

__all__ = ["GradientCheck", "check_gradients"]


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """How far gradients and central differences lie apart.

    Attributes
    ----------
    error : float
        The largest difference, as a share of the largest number of its layer's gradient.
    errors : dict of str to float
        The same for each array of parameters, by name, such as "0.W".
    checked : int
        Parameters that were compared.
    """

    error: float
    errors: dict[str, float]
    checked: int


def check_gradients(
    net: Any,
    X: ArrayLike,
    y: ArrayLike,
    loss: LossLike = "auto",
    *,
    sample_weight: ArrayLike | None = None,
    most: int = 200,
    backend: str | None = None,
) -> GradientCheck:
    """Compare a network's gradient with central differences of its loss, in float64.

    Parameters
    ----------
    net : Sequential
        It is left as it is.
    X, y, loss, sample_weight, backend
        As in `Sequential.fit`.
    most : int, default 200
        Parameters of each array that are compared at the most, evenly spread.

    Returns
    -------
    GradientCheck
        An ``error`` below about 1e-6 is rounding; kinks, as relu's, may add to it, and so does a
        bias before a `BatchNorm`, whose gradient is 0.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or the network has no weights yet.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(4, "tanh"), fn.Dense(1)], inputs=2, rng=0)
    >>> fn.check_gradients(net, [[0.5, 1.0], [1.0, -1.0]], [1.0, 0.0]).error < 1e-6
    True
    """
    most = check_integer(most, "most", 1)
    row, data, path = net._asked(X, y, loss, sample_weight, backend)
    layout = net.layout
    parameters = net._everything.astype(np.float64)
    wide = data.astype(np.float64)
    _, gradient = path.slope(layout, parameters, row, wide)()
    gradient = gradient.copy()
    tried = parameters.copy()
    slope = path.slope(layout, tried, row, wide)
    errors, checked = {}, 0
    for one in layout.operations:
        for entry in one.parameters:
            if not one.trainable:
                continue
            places = np.unique(np.linspace(0, entry.size - 1, min(most, entry.size)).astype(int))
            largest, scale = 0.0, np.abs(gradient[entry.offset :][: entry.size]).max(initial=1e-8)
            for place in places + entry.offset:
                step = 6e-6 * max(1.0, abs(parameters[place]))
                losses = []
                for side in (1.0, -1.0):
                    tried[place] = parameters[place] + side * step
                    losses.append(slope()[0])
                tried[place] = parameters[place]
                found = (losses[0] - losses[1]) / (2.0 * step)
                largest = max(largest, abs(found - gradient[place]))
            errors[entry.name] = float(largest / scale)
            checked += len(places)
    return GradientCheck(max(errors.values(), default=0.0), errors, checked)
