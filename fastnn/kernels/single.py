"""One row through a network, straight from its flat vector: the path of least latency.

Packing the weights would take longer than the answer.  Every sum has the order that it has in a
tile, from the bias on through the inputs, so that the bits are those of a prediction for many.
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import entry, intrinsic
from fastnn.kernels.elementwise import activation_forward
from fastnn.kernels.narrow import row_times_few
from fastnn.kernels.subnormals import flush_subnormals, restore_subnormals
from fastnn.kernels.views import matrix

__all__ = ["answer"]

# Rows of the matrix that are added to all results together: weights are read in the order in which
# they lie (67 us for 784-512-512-10, against 79 with sums in registers and 72 with 4 rows).
_ROWS = 8


def _row_times_matrix(
    z: Any, to: int, a: Any, source: int, P: Any, W: int, b: int, inputs: int, outputs: int
) -> None:
    """Compute it in NumPy."""
    total = P[b : b + outputs].copy() if b >= 0 else P[:0].dtype.type(0) * P[W : W + outputs]
    for k in range(inputs):
        total += a[source + k] * P[W + k * outputs : W + (k + 1) * outputs]
    z[to : to + outputs] = total


@intrinsic(_row_times_matrix)
def row_times_matrix(
    typing: Any, z: Any, to: Any, a: Any, source: Any, P: Any, W: Any, b: Any, inputs: Any,
    outputs: Any,
) -> Any:  # fmt: skip
    """Compute z = a W + b for one row.

    Reads: a (inputs,) from source; in P, W (inputs, outputs) row by row, and b (outputs,) unless
    its place is negative.  Writes: z (outputs,) from to.  May overwrite: nothing else.
    """
    place = types.intp
    signature = types.void(z, place, a, place, P, place, place, place, place)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, source, W, b, inputs, outputs = (arguments[n] for n in (1, 3, 5, 6, 7, 8))
        z_data, a_data, p_data = (
            simd.data_pointer(context, builder, kind, arguments[n])
            for kind, n in ((z, 0), (a, 2), (P, 4))
        )
        v = simd.Vectors(builder, context.get_data_type(P.dtype))
        number = simd.int64
        biased = builder.icmp_signed(">=", b, number(0))

        def stream(k: Any, rows: int) -> None:
            """Add some rows of the matrix to all results."""
            places = [builder.add(k, number(n)) for n in range(rows)]
            starts = [builder.add(W, builder.mul(place, outputs)) for place in places]
            places = [builder.gep(a_data, [builder.add(source, place)]) for place in places]
            factors = [v.splat(builder.load(place)) for place in places]

            def step(j: Any, mask: Any) -> None:
                total = v.load(z_data, builder.add(to, j), mask)
                for factor, start in zip(factors, starts, strict=True):
                    total = v.fma(factor, v.load(p_data, builder.add(start, j), mask), total)
                v.store(total, z_data, builder.add(to, j), mask)

            v.over(outputs, step)

        def begin(j: Any, mask: Any) -> None:
            first = simd.variable(builder, v.constant(0.0))
            with builder.if_then(biased):
                builder.store(v.load(p_data, builder.add(b, j), mask), first)
            v.store(builder.load(first), z_data, builder.add(to, j), mask)

        v.over(outputs, begin)
        whole = builder.and_(inputs, number(-_ROWS))
        simd.count_loop(builder, whole, lambda k: stream(k, _ROWS), step=_ROWS)
        rest = builder.sub(inputs, whole)
        simd.count_loop(builder, rest, lambda k: stream(builder.add(whole, k), 1))
        return context.get_dummy_value()

    return signature, generate


@entry
def answer(table: Any, P: Any, room: Any, x: Any, out: Any) -> None:
    """Compute the prediction for each row of x.

    Reads: table, int64 (layers, codes.TABLE_COLUMNS), of which sizes, activations and the places
    of parameters; P (size,); x (rows * inputs,).  Writes: out (rows * outputs,).
    May overwrite: room (2 * widest,).
    """
    inputs, layers = table[0, codes.INPUTS], table.shape[0]
    outputs = table[layers - 1, codes.OUTPUTS]
    half = room.size // 2
    control = flush_subnormals()
    for r in range(x.size // inputs):
        for n in range(layers):
            row = table[n]
            width = row[codes.OUTPUTS]
            to, source = n % 2 * half, (n + 1) % 2 * half
            W, b, before = row[codes.W], row[codes.B], row[codes.INPUTS]
            if row[codes.NARROW]:
                if n == 0:
                    row_times_few(room, to, x, r * inputs, P, W, b, before, width)
                else:
                    row_times_few(room, to, room, source, P, W, b, before, width)
            elif n == 0:
                row_times_matrix(room, to, x, r * inputs, P, W, b, before, width)
            else:
                row_times_matrix(room, to, room, source, P, W, b, before, width)
            Z = matrix(room, to, 1, width)
            activation_forward(Z, Z, row[codes.ACTIVATION])
        last, to = (layers - 1) % 2 * half, r * outputs
        for j in range(outputs):
            out[to + j] = room[last + j]
    restore_subnormals(control)
