"""The optimizers' rules: one loop over flat vectors each.

Each returns how many of its results are not finite.  ``x - x`` is 0 for a finite x and NaN
otherwise, and counting integers vectorises where a sum of floats would not.
"""

from __future__ import annotations

import math
from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import kernel

__all__ = ["update"]


@kernel
def update(w: Any, g: Any, moments: Any, numbers: Any, code: int) -> int:
    """Take one step with the rule of the code; return how many results are not finite.

    Reads: g (size,), numbers (codes.NUMBERS,).  Writes: w (size,), moments (rule's own, size)
    and the count of steps in numbers.  May overwrite: nothing else; no two arrays overlap.
    """
    numbers[codes.STEPS] += 1.0
    if code == codes.ADAM:
        return adam_step(w, g, moments[0], moments[1], numbers)
    return sgd_step(w, g, moments[0], numbers)


@kernel
def sgd_step(w: Any, g: Any, v: Any, numbers: Any) -> int:
    """Compute v = mu v - eta g, then w += v, or with Nesterov w += mu v - eta g.

    Reads: g (size,), numbers.  Writes: w and v (size,).
    """
    zero = w.dtype.type(0)
    eta = w.dtype.type(numbers[codes.LEARNING_RATE])
    mu = w.dtype.type(numbers[codes.MOMENTUM])
    broken = 0
    if numbers[codes.NESTEROV] != 0.0:
        for i in range(w.size):
            v[i] = mu * v[i] - eta * g[i]
            w[i] += mu * v[i] - eta * g[i]
            broken += w[i] - w[i] != zero
    else:
        for i in range(w.size):
            v[i] = mu * v[i] - eta * g[i]
            w[i] += v[i]
            broken += w[i] - w[i] != zero
    return broken


@kernel
def adam_step(w: Any, g: Any, m: Any, v: Any, numbers: Any) -> int:
    """Step as Adam does, algorithm 1 of Kingma & Ba 2015; epsilon outside the corrected root.

    Reads: g (size,), numbers.  Writes: w, m and v (size,).
    """
    zero = w.dtype.type(0)
    t = numbers[codes.STEPS]
    eta = w.dtype.type(numbers[codes.LEARNING_RATE] / (1.0 - numbers[codes.BETA_1] ** t))
    correction = w.dtype.type(1.0 / (1.0 - numbers[codes.BETA_2] ** t))
    new_1 = w.dtype.type(1.0 - numbers[codes.BETA_1])
    new_2 = w.dtype.type(1.0 - numbers[codes.BETA_2])
    epsilon = w.dtype.type(numbers[codes.EPSILON])
    broken = 0
    for i in range(w.size):
        m[i] += new_1 * (g[i] - m[i])
        v[i] += new_2 * (g[i] * g[i] - v[i])
        w[i] -= eta * m[i] / (math.sqrt(v[i] * correction) + epsilon)
        # A second moment that overflowed would stop its weight for good without a sign.
        broken += (w[i] - w[i] != zero) | (v[i] - v[i] != zero)
    return broken
