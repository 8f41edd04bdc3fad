"""Normal equations of least squares: sums of products of a Jacobian's columns, and their solution.

Symmetric matrices have their lower triangle only; their rows are padded to whole panels, so that no
product needs a mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import entry, kernel
from fastnn.kernels.blocks import rows_times_strip
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["add_products", "solve_damped"]

BLOCK = codes.FACTORISED

# The inner index is blocked by this, so that a strip of the second factor stays in the L1 cache.
_DEPTH = 128


@entry
def add_products(turned: Any, J: Any, C: Any) -> None:
    """Add the products of all pairs of columns: the lower triangle of ``C + J' J``.

    Parameters
    ----------
    turned : float64 (columns, rows)
        The transpose of J.
    J : float64 (rows, pitch)
        Whose rows are padded with zeros to whole panels.
    C : float64 (columns, pitch)
        Written; above its diagonal it may hold anything.
    """
    columns, rows, pitch = turned.shape[0], turned.shape[1], J.shape[1]
    panel = PANEL_BYTES // J.itemsize
    A, B, T = turned.reshape(turned.size), J.reshape(J.size), C.reshape(C.size)
    for k in range(0, rows, _DEPTH):
        deep = min(_DEPTH, rows - k)
        for j in range(0, columns, panel):
            at = j * pitch + j
            rows_times_strip(
                2, T, at, pitch, A, j * rows + k, rows, B, k * pitch + j, pitch, T, at, pitch,
                columns - j, deep, -np.inf,
            )  # fmt: skip


@kernel
def factorise_block(L: Any, room: Any, first: int, last: int, size: int) -> bool:
    """Compute some columns of the Cholesky factor; return whether the matrix is positive there.

    Reads and writes: L (size, pitch) from column first to before last, below the diagonal, from
    which the products of the columns before them are subtracted already.
    May overwrite: room (BLOCK,).
    """
    for j in range(first, last):
        pivot = L[j, j]
        if not (pivot > 0.0 and pivot < np.inf):
            return False
        root = np.sqrt(pivot)
        for i in range(j, size):
            L[i, j] /= root
        for t in range(j + 1, last):
            room[t - first] = L[t, j]
        for i in range(j + 1, size):
            factor = L[i, j]
            # Above the diagonal it computes what nobody reads.
            for t in range(j + 1, last):
                L[i, t] -= factor * room[t - first]
    return True


@entry
def solve_damped(C: Any, damping: Any, g: Any, L: Any, room: Any, step: Any) -> bool:
    """Solve ``(C + diag(damping)) step = -g`` by Cholesky's factorisation.

    Parameters
    ----------
    C : float64 (n or more, pitch)
        Of which the lower triangle of n columns is read.
    damping : float64 (n,)
        At least 0.
    g : float64 (n,)
        Read only.
    L : float64 (n, pitch)
        Written: the factor.
    room : float64 (n * BLOCK,)
        Scratch.
    step : float64 (n,)
        Written.

    Returns
    -------
    bool
        Whether the matrix was positive definite; else step holds anything.
    """
    n, pitch = g.size, C.shape[1]
    for i in range(n):
        for j in range(i + 1):
            L[i, j] = C[i, j]
        for j in range(i + 1, pitch):
            L[i, j] = 0.0
        L[i, i] += damping[i]
    panel = PANEL_BYTES // L.itemsize
    T = L.reshape(L.size)
    for first in range(0, n, BLOCK):
        last = min(first + BLOCK, n)
        # Less the products of the columns before, whose transpose goes through scratch.
        for j in range(BLOCK):
            for k in range(first):
                room[k * BLOCK + j] = -L[first + j, k] if first + j < last else 0.0
        for k in range(0, first, _DEPTH):
            deep = min(_DEPTH, first - k)
            for j in range(0, BLOCK, panel):
                at = first * pitch + first + j
                rows_times_strip(
                    2, T, at, pitch, T, first * pitch + k, pitch, room, k * BLOCK + j, BLOCK, T,
                    at, pitch, n - first, deep, -np.inf,
                )  # fmt: skip
        if not factorise_block(L, room, first, last, n):
            return False
    for i in range(n):
        total = -g[i]
        for j in range(i):
            total -= L[i, j] * step[j]
        step[i] = total / L[i, i]
    for back in range(n):
        i = n - 1 - back
        step[i] /= L[i, i]
        for j in range(i):
            step[j] -= step[i] * L[i, j]
    return True
