"""Derivatives of a network's outputs, example by example: forward, and back for several outputs.

A block of rows goes through the layers once, which keeps each layer's result and its activation's
derivatives.  On the way back the rows of all outputs stand below each other, so that each layer is
one product for all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import entry, intrinsic, kernel
from fastnn.kernels.blocks import copy_rows, rows_times_strip
from fastnn.kernels.elementwise import activation_backward, activation_forward, by_rows
from fastnn.kernels.panels import PANEL_BYTES
from fastnn.kernels.subnormals import flush_subnormals, restore_subnormals
from fastnn.kernels.team import add
from fastnn.kernels.views import matrix

__all__ = ["derive"]

# The inner index is blocked by this, so that a strip of the second factor stays in the L1 cache.
_DEPTH = 256


@kernel
def times(
    M: Any, c: int, c_pitch: int, A: Any, a: int, a_pitch: int, Q: Any, b: int, bias: int,
    rows: int, inner: int,
) -> None:  # fmt: skip
    """Compute C = A B + bias, whose columns are padded to whole vectors.

    Reads: A (rows, inner) from a; in Q, B (inner, c_pitch) from b and the bias (c_pitch,).
    Writes: C (rows, c_pitch) in M from c.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    for k in range(0, inner, _DEPTH):
        deep = min(_DEPTH, inner - k)
        for j in range(0, c_pitch, panel):
            vectors = 2 if c_pitch - j > panel // 2 else 1
            S, start, pitch = Q, bias + j, 0
            if k > 0:
                S, start, pitch = M, c + j, c_pitch
            rows_times_strip(
                vectors, M, c + j, c_pitch, A, a + k, a_pitch, Q, b + k * c_pitch + j, c_pitch, S,
                start, pitch, rows, deep, -np.inf,
            )  # fmt: skip


def _times_slopes(M: Any, d: int, slopes: int, size: int) -> None:
    """Compute it in NumPy."""
    f = M[slopes : slopes + size]
    M[d : d + size] = np.where(f == 0, f, M[d : d + size] * f)


@intrinsic(_times_slopes)
def times_slopes(typing: Any, M: Any, d: Any, slopes: Any, size: Any) -> Any:
    """Multiply gradients by derivatives; where these are 0, infinite gradients count as 0 too.

    Reads: in M, slopes (size,).  Writes: gradients (size,) from d, in place.
    May overwrite: nothing else.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        d, slopes = (builder.gep(data, [place]) for place in arguments[1:3])
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        zero = v.constant(0.0)

        def step(at: Any, mask: Any) -> None:
            f = v.load(slopes, at, mask)
            product = builder.fmul(v.load(d, at, mask), f)
            nothing = builder.fcmp_ordered("==", f, zero)
            v.store(builder.select(nothing, f, product), d, at, mask)

        v.over(arguments[3], step)
        return context.get_dummy_value()

    return types.void(M, types.intp, types.intp, types.intp), generate


@kernel
def run_sums(M: Any, d: int, pitch: int, rows: int, outputs: int, backward: bool) -> None:
    """Replace each number of a row by the sum of all up to it, or where backward from it on.

    Reads and writes: rows of M from d, a pitch apart.  May overwrite: nothing else.
    """
    for r in range(rows):
        at = d + r * pitch
        for k in range(1, outputs):
            if backward:
                M[at + outputs - 1 - k] += M[at + outputs - k]
            else:
                M[at + k] += M[at + k - 1]


@kernel
def back_through(M: Any, d: int, row: Any, plan: Any, rows: int, count: int) -> None:
    """Multiply gradients, or tangents, by a layer's derivatives, for each of several outputs.

    Reads: in M, the layer's Z, A and slopes.  Writes: the gradients (count, rows, pitch) from d,
    in place.  May overwrite: the scratch of softmax.
    """
    pitch, outputs = row[codes.D_PITCH], row[codes.D_OUTPUTS]
    size = rows * pitch
    if row[codes.D_ACTIVATION] == codes.INCREASING and plan[codes.D_MODE] != codes.JVP:
        run_sums(M, d, pitch, count * rows, outputs, True)
    if row[codes.D_ACTIVATION] == codes.SOFTMAX:
        at = plan[codes.D_SCRATCH]
        result = at + rows * outputs
        copy_rows(M, result, outputs, M, row[codes.D_A], pitch, rows, outputs, False)
        A, dZ = matrix(M, result, rows, outputs), matrix(M, at, rows, outputs)
        for j in range(count):
            copy_rows(M, at, outputs, M, d + j * size, pitch, rows, outputs, False)
            activation_backward(dZ, A, A, row[codes.D_ACTIVATION])
            copy_rows(M, d + j * size, pitch, M, at, outputs, rows, outputs, False)
    elif row[codes.D_ACTIVATION] != codes.IDENTITY:
        slopes = row[codes.D_SLOPES]
        for j in range(count):
            times_slopes(M, d + j * size, slopes, size)
    if row[codes.D_ACTIVATION] == codes.INCREASING and plan[codes.D_MODE] == codes.JVP:
        run_sums(M, d, pitch, count * rows, outputs, False)


@kernel
def keep_rows(table: Any, plan: Any, Q: Any, M: Any, X: Any, first: int, rows: int) -> None:
    """Compute Z, f(Z) and f'(Z) of each layer for some rows.

    Reads: table; Q; X (n, inputs).  Writes: each layer's places in M.
    May overwrite: the scratch of what takes whole rows.
    """
    flat = X.reshape(X.size)
    A, a, a_pitch = flat, first * X.shape[1], X.shape[1]
    for row in table:
        pitch, outputs, code = row[codes.D_PITCH], row[codes.D_OUTPUTS], row[codes.D_ACTIVATION]
        z, result = row[codes.D_Z], row[codes.D_A]
        times(
            M, z, pitch, A, a, a_pitch, Q, row[codes.D_W], row[codes.D_B], rows,
            row[codes.D_INPUTS],
        )  # fmt: skip
        if by_rows(code):
            at = plan[codes.D_SCRATCH]
            copy_rows(M, at, outputs, M, z, pitch, rows, outputs, False)
            Z = matrix(M, at, rows, outputs)
            activation_forward(Z, Z, code)
            copy_rows(M, result, pitch, M, at, outputs, rows, outputs, False)
            if code == codes.INCREASING:
                keep_increments(M, row, rows)
        else:
            Z, F = matrix(M, z, rows, pitch), matrix(M, result, rows, pitch)
            activation_forward(F, Z, code)
            S = matrix(M, row[codes.D_SLOPES], rows, pitch)
            for r in range(rows):
                for k in range(pitch):
                    S[r, k] = 1.0
            activation_backward(S, F, Z, code)
        A, a, a_pitch = M, result, pitch


@kernel
def keep_increments(M: Any, row: Any, rows: int) -> None:
    """Compute the slopes of what an increasing layer adds: 1, then those of log(1 + e^z).

    Reads: its Z.  Writes: its slopes.
    """
    pitch, z, slopes = row[codes.D_PITCH], row[codes.D_Z], row[codes.D_SLOPES]
    activation_forward(matrix(M, slopes, rows, pitch), matrix(M, z, rows, pitch), codes.SIGMOID)
    for r in range(rows):
        M[slopes + r * pitch] = 1.0


@kernel
def begin_back(M: Any, plan: Any, row: Any, V: Any, first: int, rows: int, count: int) -> None:
    """Write what the way back begins with: a row of V for each row, or one for each output.

    Reads: V (n, outputs) in mode VJP, else (n, 1) what each row counts, or (0, 0) for 1.
    Writes: (count, rows, pitch) in M.
    """
    pitch, at = row[codes.D_PITCH], plan[codes.D_BACK]
    for k in range(count * rows * pitch):
        M[at + k] = 0.0
    for r in range(rows):
        if plan[codes.D_MODE] == codes.VJP:
            for j in range(row[codes.D_OUTPUTS]):
                M[at + r * pitch + j] = V[first + r, j]
        else:
            for j in range(count):
                M[at + (j * rows + r) * pitch + j] = V[first + r, 0] if V.size > 0 else 1.0


@kernel
def hand_out_parameters(
    M: Any, d: int, row: Any, A: Any, a: int, a_pitch: int, out: Any, first: int, rows: int,
    count: int, size: int,
) -> None:  # fmt: skip
    """Write the derivatives by a layer's parameters.

    Reads: dZ (count, rows, pitch) in M from d; what the layer read, A (rows, inputs) from a.
    Writes: out, a vector (size,) for each output of each row, at the layer's places.
    """
    inputs, outputs, pitch = row[codes.D_INPUTS], row[codes.D_OUTPUTS], row[codes.D_PITCH]
    for r in range(rows):
        for j in range(count):
            here = d + (j * rows + r) * pitch
            base = ((first + r) * count + j) * size
            to = base + row[codes.D_OWN_W]
            for i in range(inputs):
                factor = A[a + r * a_pitch + i]
                for k in range(outputs):
                    out[to + i * outputs + k] = factor * M[here + k]
            if row[codes.D_OWN_B] >= 0:
                for k in range(outputs):
                    out[base + row[codes.D_OWN_B] + k] = M[here + k]


@kernel
def go_back(
    table: Any, plan: Any, Q: Any, M: Any, X: Any, V: Any, out: Any, first: int, rows: int
) -> None:
    """Compute Jacobians, or products with them, of some rows; see `derive`."""
    layers, count, mode = table.shape[0], plan[codes.D_COUNT], plan[codes.D_MODE]
    d, other = plan[codes.D_BACK], plan[codes.D_OTHER]
    begin_back(M, plan, table[layers - 1], V, first, rows, count)
    for back in range(layers):
        n = layers - 1 - back
        row = table[n]
        back_through(M, d, row, plan, rows, count)
        if mode == codes.PARAMETERS:
            size = plan[codes.D_SIZE]
            if n > 0:
                a, pitch = table[n - 1, codes.D_A], table[n - 1, codes.D_PITCH]
                hand_out_parameters(M, d, row, M, a, pitch, out, first, rows, count, size)
            else:
                flat, inputs = X.reshape(X.size), X.shape[1]
                at = first * inputs
                hand_out_parameters(M, d, row, flat, at, inputs, out, first, rows, count, size)
                return
        times(
            M, other, row[codes.D_BELOW], M, d, row[codes.D_PITCH], Q, row[codes.D_TURNED],
            plan[codes.D_NOTHING], count * rows, row[codes.D_OUTPUTS],
        )  # fmt: skip
        d, other = other, d
    inputs, pitch = table[0, codes.D_INPUTS], table[0, codes.D_BELOW]
    for j in range(count):
        to = (first * count + j) * inputs
        copy_rows(out, to, count * inputs, M, d + j * rows * pitch, pitch, rows, inputs, False)


@kernel
def go_along(
    table: Any, plan: Any, Q: Any, M: Any, V: Any, out: Any, first: int, rows: int
) -> None:
    """Compute products of the Jacobian with vectors of some rows; see `derive`."""
    T, t, t_pitch = V.reshape(V.size), first * V.shape[1], V.shape[1]
    d, other = plan[codes.D_BACK], plan[codes.D_OTHER]
    one = rows // rows
    for row in table:
        pitch = row[codes.D_PITCH]
        times(
            M, d, pitch, T, t, t_pitch, Q, row[codes.D_W], plan[codes.D_NOTHING], rows,
            row[codes.D_INPUTS],
        )  # fmt: skip
        # The Jacobian of every activation but increasing is symmetric, that of softmax too.
        back_through(M, d, row, plan, rows, one)
        T, t, t_pitch = M, d, pitch
        d, other = other, d
    last = table[table.shape[0] - 1]
    outputs = last[codes.D_OUTPUTS]
    copy_rows(out, first * outputs, outputs, M, t, t_pitch, rows, outputs, False)


@entry
def derive(table: Any, plan: Any, Q: Any, M: Any, X: Any, V: Any, out: Any, taken: Any) -> None:
    """Compute derivatives of a network's outputs for each row of X.

    Threads that share the rows call this with one count of those taken, each with a room of its
    own; each takes the next rows that no thread has taken, until there are no more.

    Parameters
    ----------
    table : int64 (layers, codes.D_COLUMNS)
        Sizes and places; see `derivatives.Program`.
    plan : int64 (codes.D_ENTRIES,)
        The mode, sizes and places.
    Q : (packed,)
        Weights, biases and the weights' transposes, their rows padded to whole vectors.
    M : (room,)
        Scratch.
    X : (n, inputs)
        Read only.
    V : (n, outputs) in mode VJP, (n, inputs) in mode JVP, else (n, 1) or (0, 0)
        Read only; of the latter what the derivatives of each row are multiplied by.
    out : (n * outputs * inputs,), (n * inputs,), (n * outputs,) or (n * outputs * size,)
        Written, in modes JACOBIAN, VJP, JVP and PARAMETERS.
    taken : int64 (1,)
        Written.
    """
    control = flush_subnormals()
    share, n = plan[codes.D_SHARE], X.shape[0]
    first = add(taken, 0, share)
    while first < n:
        rows = min(share, n - first)
        keep_rows(table, plan, Q, M, X, first, rows)
        if plan[codes.D_MODE] == codes.JVP:
            go_along(table, plan, Q, M, V, out, first, rows)
        else:
            go_back(table, plan, Q, M, X, V, out, first, rows)
        first = add(taken, 0, share)
    restore_subnormals(control)
