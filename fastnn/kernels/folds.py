"""Layers that multiply columns and add to them, taken into the weights beside them.

Which layers take them in is said in `folding`.  Every prediction folds anew, as weights may have
changed since the last one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import entry, kernel
from fastnn.kernels.views import matrix

__all__ = ["fold", "fold_each"]


@kernel
def line_of(
    P: Any, norms: Any, epsilons: Any, line: Any, columns: int, first: int, last: int
) -> None:
    """Write what norms in a row multiply columns by, and behind it what they add.

    Reads: P; the norms from first to before last.  Writes: line, 2 * columns.
    """
    one, zero = P.dtype.type(1), P.dtype.type(0)
    for j in range(columns):
        line[j], line[columns + j] = one, zero
    for k in range(first, last):
        scale, shift = norms[k, codes.N_SCALE], norms[k, codes.N_SHIFT]
        mean, variance = norms[k, codes.N_MEAN], norms[k, codes.N_VARIANCE]
        centred = norms[k, codes.N_CENTRED] != 0
        for j in range(columns):
            by, middle = P[scale + j], zero
            if not centred:
                by, middle = by / np.sqrt(P[variance + j] + epsilons[k]), P[mean + j]
            line[j] *= by
            line[columns + j] = (line[columns + j] - middle) * by + P[shift + j]


@kernel
def fold_dense(P: Any, part: Any, norms: Any, epsilons: Any, out: Any, line: Any) -> None:
    """Write weights and biases of a layer with the norms before and behind it.

    Reads: P.  Writes: in out, W and b.  May overwrite: line.
    """
    n, m = part[codes.F_INPUTS], part[codes.F_OUTPUTS]
    begin, middle, end = part[codes.F_BEGIN], part[codes.F_MIDDLE], part[codes.F_END]
    W, V = matrix(P, part[codes.F_W], n, m), matrix(out, part[codes.F_TO], n, m)
    b = out[part[codes.F_TO] + n * m :]
    for j in range(m):
        b[j] = P[part[codes.F_B] + j] if part[codes.F_B] >= 0 else P.dtype.type(0)
    line_of(P, norms, epsilons, line, n, begin, middle)
    for i in range(n):
        factor, rest = line[i], line[n + i]
        for j in range(m):
            V[i, j] = factor * W[i, j]
            b[j] += rest * W[i, j]
    if middle == end:
        return
    line_of(P, norms, epsilons, line, m, middle, end)
    for i in range(n):
        for j in range(m):
            V[i, j] *= line[j]
    for j in range(m):
        b[j] = b[j] * line[j] + line[m + j]


@kernel
def fold_parts(P: Any, parts: Any, norms: Any, epsilons: Any, out: Any, line: Any) -> None:
    """Fold one vector; see `fold`."""
    for k in range(parts.shape[0]):
        part = parts[k]
        way, n, to = part[codes.F_WAY], part[codes.F_INPUTS], part[codes.F_TO]
        if way == codes.FOLD_DENSE:
            fold_dense(P, part, norms, epsilons, out, line)
        elif way == codes.FOLD_NOTHING:
            for i in range(n):
                out[to + i] = P[part[codes.F_W] + i]
        elif way == codes.FOLD_CENTRE:
            first = part[codes.F_BEGIN]
            mean, variance = norms[first, codes.N_MEAN], norms[first, codes.N_VARIANCE]
            for j in range(n):
                out[to + j] = P[mean + j]
                out[to + n + j] = np.sqrt(P[variance + j] + epsilons[first])


@entry
def fold(P: Any, parts: Any, norms: Any, epsilons: Any, out: Any, line: Any) -> None:
    """Write the parameters of a network whose norms are in the weights beside them.

    Parameters
    ----------
    P : (size + buffers,)
        Parameters and buffers of the network that has the norms.  Read only.
    parts : int64 (layers that stay, codes.F_COLUMNS); norms : int64 (norms, codes.N_COLUMNS)
        From `folding.Folding.plan`; plain integers, of which a call costs less than of records.
    epsilons : (norms,)
        Added to variances.
    out : (size,)
        Written: the parameters of the layers that stay.
    line : (2 * widest,)
        Scratch.
    """
    fold_parts(P, parts, norms, epsilons, out, line)


@entry
def fold_each(
    V: Any, buffers: Any, parts: Any, norms: Any, epsilons: Any, out: Any, P: Any, line: Any
) -> None:
    """Do the same for several vectors of parameters beside the same buffers.

    Parameters
    ----------
    V : (k, size); buffers : (buffers,)
        Read only.
    parts, norms, epsilons, line
        As for `fold`.
    out : (k, folded size)
        Written.
    P : (size + buffers,)
        Scratch.
    """
    size = V.shape[1]
    for i in range(buffers.size):
        P[size + i] = buffers[i]
    for k in range(V.shape[0]):
        for i in range(size):
            P[i] = V[k, i]
        fold_parts(P, parts, norms, epsilons, out[k], line)
