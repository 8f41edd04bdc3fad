"""The dense layer's matrix products, forward and backward.

All three products are one kernel, `accumulate_product`: its inner loop adds four multiples of
rows to a row, so that LLVM vectorises it along the row and each result is loaded and stored once
for four multiplications.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels._jit import kernel

__all__ = ["dense_backward", "dense_forward"]


@kernel
def accumulate_product(C: Any, A: Any, B: Any) -> None:
    """Compute C += A B, each sum in the order of the inner index.

    Reads: A (rows, inner), B (inner, columns).  Writes: C (rows, columns), adding to it.
    May overwrite: nothing else; C overlaps neither A nor B.
    """
    rows, inner = A.shape
    columns = B.shape[1]
    whole = inner - inner % 4
    for i in range(rows):
        c = C[i]
        for k in range(0, whole, 4):
            a0, a1, a2, a3 = A[i, k], A[i, k + 1], A[i, k + 2], A[i, k + 3]
            b0, b1, b2, b3 = B[k], B[k + 1], B[k + 2], B[k + 3]
            for j in range(columns):
                c[j] = (((c[j] + a0 * b0[j]) + a1 * b1[j]) + a2 * b2[j]) + a3 * b3[j]
        for k in range(whole, inner):
            a0 = A[i, k]
            b0 = B[k]
            for j in range(columns):
                c[j] += a0 * b0[j]


@kernel
def dense_forward(Z: Any, A: Any, W: Any, b: Any) -> None:
    """Compute Z = A W + b.

    Reads: A (rows, inputs), W (inputs, units), b (units,) or (0,) where there is no bias.
    Writes: Z (rows, units).  May overwrite: nothing else; Z overlaps no input.
    """
    zero = Z.dtype.type(0)
    for i in range(Z.shape[0]):
        z = Z[i]
        for j in range(Z.shape[1]):
            z[j] = b[j] if b.size else zero
    accumulate_product(Z, A, W)


@kernel
def dense_backward(dA: Any, dW: Any, db: Any, dZ: Any, A: Any, W: Any, transposed: Any) -> None:
    """Compute dA = dZ W^T, dW += A^T dZ, db += column sums of dZ.

    Reads: dZ (rows, units), A (rows, inputs), W (inputs, units).
    Writes: dA (rows, inputs), or nothing where dA is (0, inputs); dW (inputs, units) and
    db (units,) or (0,), adding to both.  May overwrite: transposed (units, inputs), any content;
    not read where dA is (0, inputs).
    """
    accumulate_product(dW, A.T, dZ)
    if db.size:
        for i in range(dZ.shape[0]):
            dz = dZ[i]
            for j in range(dZ.shape[1]):
                db[j] += dz[j]
    if dA.shape[0]:
        for k in range(W.shape[0]):
            for j in range(W.shape[1]):
                transposed[j, k] = W[k, j]
        dA[:] = dA.dtype.type(0)
        accumulate_product(dA, dZ, transposed)
