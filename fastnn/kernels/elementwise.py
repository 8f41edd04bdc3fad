"""Activations and their derivatives, one arm for each code.

The switch stands outside the element loops.  Constants take the arrays' dtype, as a plain 1.0
would carry a float32 loop through float64.
"""

from __future__ import annotations

import math
from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import kernel

__all__ = ["activation_backward", "activation_forward"]


@kernel
def activation_forward(A: Any, Z: Any, code: int) -> None:
    """Compute A = f(Z).

    Reads: Z (rows, units).  Writes: A (rows, units).
    May overwrite: A may be Z itself; it overlaps it in no other way.
    """
    zero = Z.dtype.type(0)
    one = Z.dtype.type(1)
    if code == codes.SOFTMAX:
        for i in range(Z.shape[0]):
            softmax_row(A[i], Z[i])
        return
    z = Z.reshape(Z.size)
    a = A.reshape(A.size)
    if code == codes.IDENTITY:
        for i in range(z.size):
            a[i] = z[i]
    elif code == codes.RELU:
        for i in range(z.size):
            # Asked this way round, NaN stays NaN.
            a[i] = zero if z[i] < zero else z[i]
    elif code == codes.TANH:
        for i in range(z.size):
            a[i] = math.tanh(z[i])
    elif code == codes.SIGMOID:
        for i in range(z.size):
            # The exponential of a number at most 0 cannot overflow.
            e = math.exp(-abs(z[i]))
            a[i] = (one if z[i] >= zero else e) / (one + e)


@kernel
def softmax_row(a: Any, z: Any) -> None:
    """Compute a = softmax(z), shifted by the largest z so that nothing overflows.

    Reads: z (units,).  Writes: a (units,).  May overwrite: a may be z itself.
    """
    highest = z[0]
    for j in range(1, z.size):
        highest = max(highest, z[j])
    total = z.dtype.type(0)
    for j in range(z.size):
        e = math.exp(z[j] - highest)
        a[j] = e
        total += e
    for j in range(z.size):
        a[j] = a[j] / total


@kernel
def activation_backward(dZ: Any, A: Any, Z: Any, code: int) -> None:
    """Compute dZ = dA * f'(Z), where dZ holds dA on the way in.

    Reads: A and Z (rows, units), of which an activation uses the one that its row in the table
    of activations names, so that the other may hold anything.  Writes: dZ (rows, units), in
    place.  May overwrite: nothing else.
    """
    zero = A.dtype.type(0)
    one = A.dtype.type(1)
    if code == codes.SOFTMAX:
        for i in range(A.shape[0]):
            a, d = A[i], dZ[i]
            along = zero
            for j in range(a.size):
                along += a[j] * d[j]
            for j in range(a.size):
                d[j] = a[j] * (d[j] - along)
        return
    a = A.reshape(A.size)
    d = dZ.reshape(dZ.size)
    if code == codes.RELU:
        for i in range(d.size):
            # Asked this way round, NaN keeps its gradient.
            d[i] = zero if a[i] <= zero else d[i]
    elif code == codes.TANH:
        for i in range(d.size):
            d[i] = d[i] * (one - a[i] * a[i])
    elif code == codes.SIGMOID:
        for i in range(d.size):
            d[i] = d[i] * (a[i] * (one - a[i]))
