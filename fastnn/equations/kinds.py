"""The textbook's equations of each kind of layer: forward, backward, gradient of parameters.

EXAMPLES ARE COLUMNS, as in `reference`: ``Z = g(A)`` of a layer without its activation, ``dA`` from
dZ, and the gradients of its parameters from A and dZ.
"""

# NumPy types most results as Any, and casts would hide the equations:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from fastnn import reference
from fastnn.equations.tables import Array

__all__ = ["DENSE", "DROPOUT", "RESIDUAL", "Equations", "Parameters"]

Parameters: TypeAlias = tuple[Array, ...]


class Equations(NamedTuple):
    """What the textbook has for a kind of layer.

    Attributes
    ----------
    forward : callable
        ``forward(layer, parameters, A, D)`` gives Z; D is what dropout does to A, or what is added
        to A, or None.
    backward : callable
        ``backward(layer, parameters, A, Z, dZ, D)`` gives dA; what is added has dZ too.
    gradient : callable
        ``gradient(layer, parameters, A, Z, dZ)`` gives the gradient of each parameter.
    statistics : callable or None
        Of a kind with buffers, ``statistics(A, w)``: what they follow, of a batch in which the
        examples have the parts w.  Its equations get these and w, or the buffers and 0, behind the
        parameters.
    """

    forward: Callable[[Any, Parameters, Array, Array | None], Array]
    backward: Callable[[Any, Parameters, Array, Array, Array, Array | None], Array]
    gradient: Callable[[Any, Parameters, Array, Array, Array], Parameters]
    statistics: Callable[[Array, Array], Parameters] | None = None


def _bias(parameters: Parameters) -> Array | None:
    """Return b of (W, b) or (W,)."""
    return parameters[1] if len(parameters) > 1 else None


def _dense_gradient(
    layer: Any, parameters: Parameters, A: Array, Z: Array, dZ: Array
) -> Parameters:
    """Return ``dW = dZ A^T`` and ``db = dZ 1``."""
    dW = reference.weight_gradient(dZ, A)
    return (dW,) if _bias(parameters) is None else (dW, reference.bias_gradient(dZ))


DENSE = Equations(
    lambda layer, parameters, A, D: reference.linear(parameters[0], _bias(parameters), A),
    lambda layer, parameters, A, Z, dZ, D: reference.input_gradient(parameters[0], dZ),
    _dense_gradient,
)

DROPOUT = Equations(
    lambda layer, parameters, A, D: reference.dropped(A, D),
    lambda layer, parameters, A, Z, dZ, D: reference.dropped(dZ, D),
    lambda layer, parameters, A, Z, dZ: (),
)

RESIDUAL = Equations(
    lambda layer, parameters, A, D: A + D,
    lambda layer, parameters, A, Z, dZ, D: dZ,
    lambda layer, parameters, A, Z, dZ: (),
)
