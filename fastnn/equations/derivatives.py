"""The textbook's derivatives of outputs, by the walk over any layers.

EXAMPLES ARE COLUMNS within, as in `equations.walk`; what comes in and goes out has them as rows.
"""

# NumPy types most results as Any, and casts would hide the equations:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.equations.walk import below, columns, deactivated, given, outputs, slopes
from fastnn.layout import Layout

__all__ = ["jacobian", "jvp", "parameter_jacobian", "vjp"]

Floats: TypeAlias = NDArray[np.floating]


def vjp(layout: Layout, vector: Floats, X: Floats, U: Floats) -> Floats:
    """Return ``u' J`` of each example, (n, p)."""
    operations = layout.without_training().operations
    passed = outputs(layout, vector, X.T, operations)
    dZ = deactivated(operations[-1], U.T, passed[-1])
    return below(layout, vector, operations, passed, dZ).T


def jacobian(layout: Layout, vector: Floats, X: Floats, V: Any = None) -> Floats:
    """Return J of each example, (n, m, p): a product with each unit vector."""
    m = layout.outputs
    units = np.eye(m, dtype=vector.dtype)
    rows = [vjp(layout, vector, X, np.tile(unit, (len(X), 1))) for unit in units]
    return np.stack(rows, axis=1)


def jvp(layout: Layout, vector: Floats, X: Floats, V: Floats) -> Floats:
    """Return ``J v`` of each example, (n, m)."""
    return np.sum(jacobian(layout, vector, X) * V[:, None, :], axis=2)


def parameter_jacobian(layout: Layout, vector: Floats, X: Floats, V: Any = None) -> Floats:
    """Return the outputs' derivatives by all parameters, (n, m, size), example by example."""
    operations = layout.without_training().operations
    found = np.zeros((len(X), layout.outputs, layout.size), vector.dtype)
    for n in range(len(X)):
        passed = outputs(layout, vector, X[n : n + 1].T, operations)
        for k in range(layout.outputs):
            dA = np.zeros((layout.outputs, 1), vector.dtype)
            dA[k] = 1
            dZ = deactivated(operations[-1], dA, passed[-1])
            every = slopes(layout, vector, operations, passed, dZ)
            for one, seen, slope in zip(operations, passed, every, strict=True):
                parameters = given(layout, vector, one, seen.source, None)
                into = columns(layout, found[n, k], one)
                gradients = one.kind.equations.gradient(
                    one.layer, parameters, seen.source, seen.Z, slope
                )
                for to, g in zip(into, gradients, strict=True):
                    to[:] = g
    return found
