"""Predictions and input gradients of one row, as users' compiled functions call them.

Numba links what a compiled function calls into it, and keeps the whole on disk where the function
is cached.  The weights therefore come with a seal: an empty array whose dtype names the version of
the kernels.  It is a part of the type that the user's function is compiled for, so that the
function is compiled anew under a version of the library that has other kernels.

What lies between layers is on the stack: nothing is allocated, and threads share nothing.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba.core import errors, types
from numpy.typing import NDArray

from fastnn.kernels import codes
from fastnn.kernels._cache import source_hash
from fastnn.kernels._jit import embeddable, intrinsic, kernel, pointer_entry
from fastnn.kernels.answers import answer_one
from fastnn.kernels.elementwise import activation_backward, activation_forward
from fastnn.kernels.frames import dense, is_dense, pointed, room_on_stack
from fastnn.kernels.narrow import row_times_few
from fastnn.kernels.single import few_times_matrix, rows_times_vector
from fastnn.kernels.subnormals import flush_subnormals, restore_subnormals
from fastnn.kernels.views import matrix

__all__ = ["forward", "row_at_addresses", "seal", "vjp"]

# Numba's types carry no types.
_types: Any = types
_errors: Any = errors

_SEAL = "fastnn_kernels"
_KINDS = {"float32": _types.float32, "float64": _types.float64}


@functools.cache
def _version() -> str:
    """Return what names the version of the kernels."""
    version = source_hash()
    if version is None:
        # Where the sources cannot be read, what another process compiled may be of other ones.
        return f"{np.random.SeedSequence().entropy:x}"
    return version.hex()[:40]


def seal(dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an empty array whose dtype names the version of the kernels, and the network's."""
    return np.empty(0, np.dtype([(f"{_SEAL}_{dtype.name}_{_version()}", np.uint8)]))


def _sealed(weights: Any) -> Any:
    """Return the number type of weights that `compiled.Embedded` made, or None for others."""
    kinds = tuple(weights) if isinstance(weights, _types.BaseTuple) else ()
    if len(kinds) != 4 or not all(isinstance(kind, _types.Array) for kind in kinds):
        return None
    if not isinstance(kinds[3].dtype, _types.Record):
        return None
    for name, number in _KINDS.items():
        known = tuple(kinds[3].dtype.fields) == seal(np.dtype(name)).dtype.names
        if known and _is_vector(kinds[0], number):
            return number
    return None


def _is_vector(kind: Any, number: Any) -> bool:
    """Return whether a type is that of a vector that kernels can read."""
    return isinstance(kind, _types.Array) and (
        (kind.dtype, kind.ndim, kind.aligned) == (number, 1, True)
    )


def _misfit(weights: Any = None, *vectors: Any) -> str | None:
    """Say which type does not fit among the arguments of `forward` or `vjp`, or return None."""
    number = _sealed(weights)
    if number is None:
        return (
            "weights must be those of net.jitted(), of which the first may be another vector of "
            f"the same dtype; got {weights}"
        )
    names = ("x", "out") if len(vectors) == 2 else ("x", "v", "dx")
    if len(vectors) != len(names):
        return f"{len(vectors) + 1} arguments came"
    for name, kind in zip(names, vectors, strict=True):
        if not _is_vector(kind, number):
            return f"{name} must be a vector of {number}, as the weights are; got {kind}"
    if not vectors[-1].mutable:
        return f"{names[-1]} must be writeable; got {vectors[-1]}"
    return None


def _fits(weights: Any, vectors: Any) -> None:
    """Take everything, in Python."""


@intrinsic(_fits)
def fits(typing: Any, weights: Any, vectors: Any) -> Any:
    """Refuse, when it is compiled, arguments of other types than those that are computed."""
    misfit = _misfit(weights, *vectors)
    if misfit:
        raise _errors.TypingError(misfit)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_dummy_value()

    return types.void(weights, vectors), generate


@kernel
def size_of(table: Any) -> int:
    """Return the number of parameters that a table tells of."""
    last = table[table.shape[0] - 1]
    if last[codes.B] >= 0:
        return int(last[codes.B] + last[codes.OUTPUTS])
    return int(last[codes.W] + last[codes.INPUTS] * last[codes.OUTPUTS])


@embeddable(_misfit)
def forward(weights: Any, x: Any, out: Any) -> None:
    """Compute the prediction for one row; see `Sequential.jitted`.

    Reads: weights, from `compiled.Embedded`; x (inputs,).  Writes: out (outputs,).
    May overwrite: out may be x.
    """
    fits(weights, (x, out))
    P, table, plan = weights[0], weights[1], weights[2]
    if x.size != table[0, codes.INPUTS] or out.size != table[table.shape[0] - 1, codes.OUTPUTS]:
        raise ValueError("x must have a number for each input, and out for each output.")
    if P.size != size_of(table):
        raise ValueError("the first of the weights must be a vector of all parameters.")
    if not (is_dense(P) and is_dense(x) and is_dense(out)):
        raise ValueError("weights, x and out must be contiguous.")
    control = flush_subnormals()
    room = room_on_stack(P, 2 * plan[codes.HALF])
    answer_one(table, plan, dense(P), room, dense(x), dense(out))
    restore_subnormals(control)


@kernel
def keep_layers(table: Any, P: Any, room: Any, pitch: int, x: Any) -> None:
    """Compute Z and f(Z) of each layer for one row.

    Reads: table; P (size,); x (inputs,).  Writes: room, for layer n Z from 2 n pitch on and f(Z)
    from (2 n + 1) pitch on.  May overwrite: nothing else.
    """
    A, a = x, 0
    one = x.size // table[0, codes.INPUTS]
    for n in range(table.shape[0]):
        row, z = table[n], 2 * n * pitch
        inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
        W, b = row[codes.W], row[codes.B]
        if row[codes.NARROW]:
            row_times_few(room, z, A, a, P, W, b, inputs, outputs)
        else:
            few_times_matrix(room, z, 0, A, a, 0, P, W, outputs, b, one, inputs, outputs)
        Z = matrix(room, z, one, outputs)
        activation_forward(matrix(room, z + pitch, one, outputs), Z, row[codes.ACTIVATION])
        A, a = room, z + pitch


@embeddable(_misfit)
def vjp(weights: Any, x: Any, v: Any, dx: Any) -> None:
    """Compute the product of a vector with the Jacobian of the prediction for one row.

    Reads: weights, from `compiled.Embedded`; x (inputs,); v (outputs,).  Writes: dx (inputs,).
    May overwrite: dx may be x or v.
    """
    fits(weights, (x, v, dx))
    P, table, plan = weights[0], weights[1], weights[2]
    layers = table.shape[0]
    inputs = table[0, codes.INPUTS]
    if x.size != inputs or dx.size != inputs or v.size != table[layers - 1, codes.OUTPUTS]:
        raise ValueError("x and dx must have a number for each input, and v for each output.")
    if P.size != size_of(table):
        raise ValueError("the first of the weights must be a vector of all parameters.")
    if not (is_dense(P) and is_dense(x) and is_dense(v) and is_dense(dx)):
        raise ValueError("weights, x, v and dx must be contiguous.")
    control = flush_subnormals()
    pitch = plan[codes.HALF]
    room = room_on_stack(P, (2 * layers + 2) * pitch)
    keep_layers(table, dense(P), room, pitch, dense(x))
    one = x.size // inputs
    d, other = 2 * layers * pitch, (2 * layers + 1) * pitch
    for j in range(v.size):
        room[d + j] = v[j]
    for back in range(layers):
        n = layers - 1 - back
        row = table[n]
        outputs = row[codes.OUTPUTS]
        Z, A = (
            matrix(room, 2 * n * pitch, one, outputs),
            matrix(room, (2 * n + 1) * pitch, one, outputs),
        )
        activation_backward(matrix(room, d, one, outputs), A, Z, row[codes.ACTIVATION])
        to, place = (room, other) if n > 0 else (dense(dx), 0)
        rows_times_vector(to, place, dense(P), row[codes.W], room, d, row[codes.INPUTS], outputs)
        d, other = other, d
    restore_subnormals(control)


def _row_at_addresses(
    parameters: Any, size: int, table: Any, rows: int, plan: Any, x: Any, out: Any
) -> None:
    """Compute the prediction for one row, from pointers to what `forward` takes.

    Reads: what `compiled.Embedded` has; x (inputs,).  Writes: out (outputs,).
    May overwrite: out may be x.
    """
    flat = pointed(table, rows * codes.TABLE_COLUMNS)
    T, S = matrix(flat, 0, rows, codes.TABLE_COLUMNS), pointed(plan, codes.ANSWER_ENTRIES)
    P = pointed(parameters, size)
    row, result = pointed(x, T[0, codes.INPUTS]), pointed(out, T[rows - 1, codes.OUTPUTS])
    control = flush_subnormals()
    answer_one(T, S, P, room_on_stack(P, 2 * S[codes.HALF]), row, result)
    restore_subnormals(control)


@functools.cache
def row_at_addresses(dtype: np.dtype[Any]) -> Any:
    """Return `_row_at_addresses` as a C function with an address; None where the JIT is off."""
    number = _types.float32 if dtype == np.float32 else _types.float64
    numbers, integers, place = _types.CPointer(number), _types.CPointer(types.int64), types.intp
    arguments = numbers, place, integers, place, integers, numbers, numbers
    return pointer_entry(_row_at_addresses, types.void(*arguments))
