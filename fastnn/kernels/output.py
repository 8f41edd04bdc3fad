"""Losses and the gradients that the backward pass starts from, one arm for each code.

A matched loss is computed from Z of the last layer and gives dZ; the others read A and give dA.
"""

from __future__ import annotations

import math
from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import kernel

__all__ = ["loss_backward", "loss_forward"]


@kernel
def loss_forward(losses: Any, S: Any, labels: Any, Y: Any, picks: Any, code: int) -> None:
    """Compute the loss of each example.

    Reads: S (rows, outputs), which is Z for a matched loss and A for the others; picks (rows,),
    the example of each row; labels (examples,) where targets are integer classes, else
    Y (examples, outputs); the other one is empty.
    Writes: losses (rows,).  May overwrite: nothing else.
    """
    zero = S.dtype.type(0)
    count = S.dtype.type(S.shape[1])
    for i in range(S.shape[0]):
        s = S[i]
        total = zero
        if code == codes.MEAN_SQUARED_ERROR:
            y = Y[picks[i]]
            for j in range(s.size):
                total += (s[j] - y[j]) * (s[j] - y[j])
            total /= count
        elif code == codes.BINARY_CROSS_ENTROPY:
            # log(1 + e^z) - y z, with the exponent at most 0.
            y = Y[picks[i]]
            for j in range(s.size):
                total += max(s[j], zero) - s[j] * y[j] + math.log1p(math.exp(-abs(s[j])))
            total /= count
        elif code == codes.CROSS_ENTROPY:
            # y_j (log sum_k e^(z_k - highest) - (z_j - highest)), over the j with a target.
            highest, log_sum = log_sum_exp(s)
            if labels.size:
                total = log_sum - (s[labels[picks[i]]] - highest)
            else:
                y = Y[picks[i]]
                for j in range(s.size):
                    if y[j] != zero:
                        total += y[j] * (log_sum - (s[j] - highest))
        losses[i] = total


@kernel
def log_sum_exp(z: Any) -> Any:
    """Return the largest z, and log(sum(exp(z - largest))).  Reads: z (units,)."""
    highest = z[0]
    for j in range(1, z.size):
        highest = max(highest, z[j])
    total = z.dtype.type(0)
    for j in range(z.size):
        total += math.exp(z[j] - highest)
    return highest, math.log(total)


@kernel
def loss_backward(D: Any, S: Any, labels: Any, Y: Any, picks: Any, shares: Any, code: int) -> None:
    """Compute D, the gradient of the batch's mean loss with respect to S.

    Reads: S, labels, Y and picks as in `loss_forward`; shares (rows,), each row's part in the
    mean.
    Writes: D (rows, outputs).  May overwrite: nothing else.
    """
    zero = S.dtype.type(0)
    one = S.dtype.type(1)
    two = S.dtype.type(2)
    count = S.dtype.type(S.shape[1])
    for i in range(S.shape[0]):
        s, d = S[i], D[i]
        if code == codes.MEAN_SQUARED_ERROR:
            y = Y[picks[i]]
            scale = two * shares[i] / count
            for j in range(s.size):
                d[j] = scale * (s[j] - y[j])
        elif code == codes.BINARY_CROSS_ENTROPY:
            y = Y[picks[i]]
            scale = shares[i] / count
            for j in range(s.size):
                e = math.exp(-abs(s[j]))
                d[j] = scale * ((one if s[j] >= zero else e) / (one + e) - y[j])
        elif code == codes.CROSS_ENTROPY:
            softmax_gradient_row(d, s, labels, Y, picks[i], shares[i])


@kernel
def softmax_gradient_row(d: Any, z: Any, labels: Any, Y: Any, pick: int, share: Any) -> None:
    """Compute d = share * (softmax(z) * sum(y) - y), with the targets of example ``pick``.

    Reads: z (units,); labels (examples,) or Y (examples, units).  Writes: d (units,).
    """
    highest, log_sum = log_sum_exp(z)
    mass = z.dtype.type(1)
    if not labels.size:
        mass = z.dtype.type(0)
        for j in range(z.size):
            mass += Y[pick, j]
    for j in range(z.size):
        d[j] = share * mass * math.exp(z[j] - highest - log_sum)
    if labels.size:
        d[labels[pick]] -= share
    else:
        for j in range(z.size):
            d[j] -= share * Y[pick, j]
