"""The textbook's equations of what standardises features.  EXAMPLES ARE COLUMNS."""

# NumPy types most results as Any, and casts would hide the equations:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from fastnn.equations.kinds import Equations, Parameters
from fastnn.equations.tables import Array

__all__ = ["STANDARDIZE"]


def _deviation(parameters: Parameters) -> Array:
    """Return the deviations; 1 before they are known."""
    return np.where(parameters[1] > 0, parameters[1], np.ones_like(parameters[1]))


STANDARDIZE = Equations(
    lambda layer, parameters, A, D: (A - parameters[0]) / _deviation(parameters),
    lambda layer, parameters, A, Z, dZ, D: dZ / _deviation(parameters),
    lambda layer, parameters, A, Z, dZ: (np.zeros_like(parameters[0]),) * 2,
)
