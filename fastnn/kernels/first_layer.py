"""The first layer of predictions for sparse examples, computed from the flat vector.

Packing its weights would take longer than the predictions (20 000 inputs and 100 units in float64:
9 ms, where 2000 examples with 60 entries each take 4.5 ms).  Every sum has the same order as in the
engine, so that the bits are those of predictions for the same examples stored densely.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import entry
from fastnn.kernels.elementwise import activation_forward
from fastnn.kernels.panels import PANEL_BYTES
from fastnn.kernels.sparse_products import narrow_sums, row_sums
from fastnn.kernels.subnormals import flush_subnormals, restore_subnormals
from fastnn.kernels.views import matrix

__all__ = ["first_layer"]

# Rows that go through the activation together, while they are still in the cache.
_ROWS = 32


@entry
def first_layer(
    row: Any, P: Any, starts: Any, columns: Any, values: Any, first: int, last: int, out: Any
) -> None:
    """Compute f(X W + b) for rows from first to before last of sparse examples X.

    Reads: sizes, activation and the places of parameters in row, int64 (codes.TABLE_COLUMNS,);
    P (size,); X as starts (n + 1,), columns and values (CSR).
    Writes: out (n * outputs,), row by row.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // P.itemsize
    outputs, W, b = row[codes.OUTPUTS], row[codes.W], row[codes.B]
    control = flush_subnormals()
    for block in range(first, last, _ROWS):
        end = min(block + _ROWS, last)
        for i in range(block, end):
            begin, z = starts[i], i * outputs
            count = starts[i + 1] - begin
            if row[codes.NARROW]:
                narrow_sums(
                    out, z, values, begin, columns, begin, count, P, W, panel * outputs, outputs, 1,
                    b, outputs,
                )  # fmt: skip
            else:
                row_sums(
                    out, z, panel, values, begin, columns, begin, count, P, W, outputs, panel, b,
                    outputs,
                )  # fmt: skip
        Z = matrix(out, block * outputs, end - block, outputs)
        activation_forward(Z, Z, row[codes.ACTIVATION])
    restore_subnormals(control)
