"""Layers of few outputs: their products, on weights that are stored as their transpose.

The columns of such a layer would leave most lanes of a panel idle.  As rows of the transpose,
`NARROW_ROWS` of them per panel of inputs, its weights fill the lanes: the forward pass
computes dot products along them, and the backward pass reads the weights as they are.  (8-32-32-1,
batch 32: a step takes 2.3 us instead of 2.55; 30-64-64-2, batch 64: 11.4 instead of 12.8.)
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import intrinsic, kernel
from fastnn.kernels.micro_kernels import BATCH_ROWS, column_tile
from fastnn.kernels.panels import PANEL_BYTES

__all__ = [
    "narrow_gradient_tile",
    "narrow_strip",
    "pack_narrow",
    "row_times_few",
    "unpack_narrow",
]

# Only a name of the module's own counts as a literal in a kernel.
NARROW_ROWS = codes.NARROW_ROWS


@kernel
def pack_narrow(P: Any, at: int, W: Any) -> None:
    """Copy weights of few outputs into panels, as their transpose.

    Reads: W (inputs, outputs).  Writes: NARROW_ROWS rows of P for each panel of inputs, from at,
    zero past the last output and the last input.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // P.itemsize
    for n in range((W.shape[0] + panel - 1) // panel * panel * NARROW_ROWS):
        P[at + n] = 0.0
    for k in range(W.shape[0]):
        for q in range(W.shape[1]):
            P[at + k // panel * panel * NARROW_ROWS + q * panel + k % panel] = W[k, q]


@kernel
def unpack_narrow(W: Any, P: Any, at: int) -> None:
    """Unpack what `pack_narrow` packs.

    Reads: P from at.  Writes: W (inputs, outputs).  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // P.itemsize
    for k in range(W.shape[0]):
        for q in range(W.shape[1]):
            W[k, q] = P[at + k // panel * panel * NARROW_ROWS + q * panel + k % panel]


@kernel
def narrow_gradient_tile(
    M: Any, result: int, A: int, dZ: int, height: int, rows: int, i: int, inputs: int, start: int
) -> None:
    """Compute the columns from i, one panel of them, of dW^T = dZ^T A + start.

    Reads: in M, A (height, inputs) and dZ (height, outputs) in panels, of which rows count; the
    start, laid out as the result, or zero where it is negative.
    Writes: the tile at result, NARROW_ROWS of a panel's rows, zero past the last input.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    # All columns of dZ are in one panel.
    column_tile(NARROW_ROWS, 2, M, result, dZ, panel, 0, A + i * height, rows, start, 0, 0, 0)
    for r in range(NARROW_ROWS):
        for q in range(inputs - i, panel):
            M[result + r * panel + q] = 0.0


@kernel
def narrow_strip(
    M: Any, c: int, a: int, b: int, bias: int, height: int, rows: int, inner: int, columns: int
) -> None:
    """Compute C = A B + bias of few columns for a block of rows.

    Reads: in M, A (rows, inner) in panels of a height from a; B's transpose in panels of
    NARROW_ROWS from b; bias (columns,).
    Writes: C (rows, columns), one panel, rows rounded up to whole tiles of them.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    for i in range(0, rows * panel, BATCH_ROWS * panel):
        dots(BATCH_ROWS, M, c + i, a + i, height * panel, b, inner, bias, columns)


def _dots(
    rows: int, M: Any, c: int, a: int, a_panel: int, b: int, inner: int, bias: int, columns: int
) -> None:
    """Compute it in NumPy."""
    panel = PANEL_BYTES // M.itemsize
    for r in range(rows):
        M[c + r * panel : c + r * panel + panel // 2] = 0
        for q in range(columns):
            total = M[bias + q]
            for k in range(0, inner, panel):
                width = min(panel, inner - k)
                part = M[a + k // panel * a_panel + r * panel :][:width]
                total += (part * M[b + k * NARROW_ROWS + q * panel :][:width]).sum()
            M[c + r * panel + q] = total


@intrinsic(_dots)
def dots(
    typing: Any, rows: Any, M: Any, c: Any, a: Any, a_panel: Any, b: Any, inner: Any, bias: Any,
    columns: Any,
) -> Any:  # fmt: skip
    """Compute a few rows of C(r, q) = sum_k A(r, k) B(k, q) + bias(q), q by q.

    Each sum is kept in one partial sum per lane; these are reduced in the order of
    `Vectors.folded`.

    Reads: in M, A from a, its panels a_panel apart; B's transpose in panels of NARROW_ROWS rows
    from b; bias (columns,).  Writes: half a panel of each of the rows from c, zero past the last
    column.  May overwrite: nothing else.
    """
    height = rows.literal_value
    place = types.intp
    signature = types.void(rows, M, *[place] * 7)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[1])
        c, a, a_panel, b, inner, bias, columns = arguments[2:]
        v = simd.Vectors(builder, context.get_data_type(M.dtype))
        panel = 2 * v.lanes
        number = simd.int64
        whole = builder.sdiv(inner, number(panel))
        rest = builder.sub(inner, builder.mul(whole, number(panel)))
        masks = v.first_lanes(rest), v.first_lanes(rest, v.lanes)
        zero = v.constant(0.0)

        def column(q: Any) -> None:
            sums = [simd.variable(builder, zero) for _ in range(height)]
            mine = builder.add(b, builder.mul(q, number(panel)))

            def add(n: Any, masked: bool) -> None:
                factors = builder.add(mine, builder.mul(n, number(panel * NARROW_ROWS)))
                row = builder.add(a, builder.mul(n, a_panel))
                for half, mask in zip((0, v.lanes), masks, strict=True):
                    w = v.load(data, builder.add(factors, number(half)))
                    for r, total in enumerate(sums):
                        x = v.load(data, builder.add(row, number(r * panel + half)))
                        x = builder.select(mask, x, zero) if masked else x
                        builder.store(v.fma(x, w, builder.load(total)), total)

            simd.count_loop(builder, whole, lambda n: add(n, False))
            with builder.if_then(builder.icmp_signed(">", rest, number(0))):
                add(whole, True)
            start = v.splat(builder.load(builder.gep(data, [builder.add(bias, q)])))
            for first in range(0, height, v.lanes):
                some = [builder.load(total) for total in sums[first : first + v.lanes]]
                found = builder.fadd(v.sums(some), start)
                for n in range(len(some)):
                    at = builder.add(builder.add(c, q), number((first + n) * panel))
                    x = builder.extract_element(found, simd.int32(n))
                    builder.store(x, builder.gep(data, [at]))

        for r in range(height):
            v.store(zero, data, builder.add(c, number(r * panel)))
        simd.count_loop(builder, columns, column)
        return context.get_dummy_value()

    return signature, generate


def _row_times_few(
    z: Any, to: int, a: Any, source: int, P: Any, W: int, b: int, inputs: int, outputs: int
) -> None:
    """Compute it in NumPy, as `dots` does there."""
    panel = PANEL_BYTES // P.itemsize
    weights = P[W : W + inputs * outputs].reshape(inputs, outputs)
    for q in range(outputs):
        total = P[b + q] if b >= 0 else P.dtype.type(0)
        for k in range(0, inputs, panel):
            width = min(panel, inputs - k)
            total += (a[source + k : source + k + width] * weights[k : k + width, q]).sum()
        z[to + q] = total


@intrinsic(_row_times_few)
def row_times_few(
    typing: Any, z: Any, to: Any, a: Any, source: Any, P: Any, W: Any, b: Any, inputs: Any,
    outputs: Any,
) -> Any:  # fmt: skip
    """Compute z = a W + b for one row and few outputs, in the order of `dots`.

    Reads, writes and may overwrite: as `single.few_times_matrix` for one row.
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
        zero = v.constant(0.0)

        def column(q: Any) -> None:
            total = simd.variable(builder, zero)
            mine = builder.add(W, q)

            def add(k: Any, mask: Any) -> None:
                last = builder.sub(inputs, number(1))
                places = [builder.add(k, number(lane)) for lane in range(v.lanes)]
                if mask is not None:
                    # Nothing past the end is touched.
                    places = [
                        builder.select(builder.icmp_signed("<", place, last), place, last)
                        for place in places
                    ]
                places = [builder.add(mine, builder.mul(place, outputs)) for place in places]
                w = v.gathered([builder.load(builder.gep(p_data, [place])) for place in places])
                if mask is not None:
                    w = builder.select(mask, w, zero)
                x = v.load(a_data, builder.add(source, k), mask)
                builder.store(v.fma(x, w, builder.load(total)), total)

            v.over(inputs, add)
            start = simd.variable(builder, zero.type.element(0.0))
            with builder.if_then(builder.icmp_signed(">=", b, number(0))):
                builder.store(builder.load(builder.gep(p_data, [builder.add(b, q)])), start)
            found = v.folded(builder.load(total), builder.fadd)
            found = builder.fadd(found, builder.load(start))
            builder.store(found, builder.gep(z_data, [builder.add(to, q)]))

        simd.count_loop(builder, outputs, column)
        return context.get_dummy_value()

    return signature, generate
