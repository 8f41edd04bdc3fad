"""Activations and their derivatives, one arm for each code.

The switch stands outside the element loops.  Constants take the arrays' dtype, as a plain 1.0
would carry a float32 loop through float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import codes, simd, vector_math
from fastnn.kernels._jit import intrinsic, kernel
from fastnn.kernels.rows import Matrix, Walk, walk_along, walk_rows

__all__ = ["activation_backward", "activation_forward"]


@kernel
def activation_forward(A: Any, Z: Any, code: int) -> None:
    """Compute A = f(Z).

    Reads: Z (rows, units).  Writes: A (rows, units).
    May overwrite: A may be Z itself; it overlaps it in no other way.
    """
    zero = Z.dtype.type(0)
    if code == codes.SOFTMAX:
        softmax(A, Z)
    elif code == codes.SIGMOID:
        sigmoid(A, Z)
    elif code == codes.TANH:
        tanh(A, Z)
    elif code == codes.IDENTITY:
        z, a = Z.reshape(Z.size), A.reshape(A.size)
        for i in range(z.size):
            a[i] = z[i]
    elif code == codes.RELU:
        z, a = Z.reshape(Z.size), A.reshape(A.size)
        for i in range(z.size):
            # Asked this way round, NaN stays NaN.
            a[i] = zero if z[i] < zero else z[i]


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
        softmax_backward(dZ, A)
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


def _sweep(function: Callable[[simd.Vectors, Any], Any]) -> Callable[..., Any]:
    """Return the code generator of A = f(Z), element by element."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v, (A, Z) = _matrices(context, builder, signature, arguments)

        def step(offset: Any, mask: Any) -> None:
            v.store(function(v, v.load(Z.data, offset, mask)), A.data, offset, mask)

        v.over(builder.mul(Z.rows, Z.columns), step)
        return context.get_dummy_value()

    return generate


def _sigmoid(A: Any, Z: Any) -> None:
    """Compute it in NumPy."""
    A[:] = 1 / (1 + np.exp(-Z))


@intrinsic(_sigmoid)
def sigmoid(typing: Any, A: Any, Z: Any) -> Any:
    """Compute A = 1 / (1 + exp(-Z)); A may be Z."""
    return types.void(A, Z), _sweep(vector_math.sigmoid)


def _tanh(A: Any, Z: Any) -> None:
    """Compute it in NumPy."""
    A[:] = np.tanh(Z)


@intrinsic(_tanh)
def tanh(typing: Any, A: Any, Z: Any) -> Any:
    """Compute A = tanh(Z); A may be Z."""
    return types.void(A, Z), _sweep(vector_math.tanh)


def _softmax(A: Any, Z: Any) -> None:
    """Compute it in NumPy."""
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    A[:] = E / E.sum(axis=1, keepdims=True)


@intrinsic(_softmax)
def softmax(typing: Any, A: Any, Z: Any) -> Any:
    """Compute softmax of each row, shifted by its largest z so that nothing overflows.

    A may be Z.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v, (target, source) = _matrices(context, builder, signature, arguments)

        def rows(walk: Walk) -> None:
            z, a = walk.source(source), walk.target(target, simd.TRUE)
            highest = walk.largest(z)

            def term(place: Any) -> list[Any]:
                e = vector_math.exp(v, builder.fsub(z.load(place), highest))
                a.store(e, place)
                return [e]

            (total,) = walk.total(term)
            factor = builder.fdiv(v.constant(1.0), total)
            walk.each(lambda place: a.store(builder.fmul(a.load(place), factor), place))
            walk.hand_out(a)

        walk_rows(v, source, rows)
        return context.get_dummy_value()

    return types.void(A, Z), generate


def _softmax_backward(dZ: Any, A: Any) -> None:
    """Compute it in NumPy."""
    dZ[:] = A * (dZ - (A * dZ).sum(axis=1, keepdims=True))


@intrinsic(_softmax_backward)
def softmax_backward(typing: Any, dZ: Any, A: Any) -> Any:
    """Compute dz_j = a_j (da_j - sum_k a_k da_k) of each row, where dZ holds dA."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v, (target, source) = _matrices(context, builder, signature, arguments)

        def rows(walk: Walk) -> None:
            a, d = walk.source(source), walk.target(target, simd.TRUE)
            (along,) = walk.total(lambda place: [builder.fmul(a.load(place), d.load(place))])

            def step(place: Any) -> None:
                across = builder.fsub(d.load(place), along)
                d.store(builder.fmul(a.load(place), across), place)

            walk.each(step)

        walk_along(v, source, rows)
        return context.get_dummy_value()

    return types.void(dZ, A), generate


def _matrices(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Return the vectors, and the arguments as matrices."""
    kinds = signature.args
    v = simd.Vectors(builder, context.get_data_type(kinds[0].dtype))
    arrays = zip(kinds, arguments, strict=True)
    return v, [Matrix.of(context, builder, *array) for array in arrays]
