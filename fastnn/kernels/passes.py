"""The walk over the operation table: forward, and backward with steps or sums of gradients.

The architecture is data: the table says what to do with which part of the workspace.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels import codes
from fastnn.kernels._jit import kernel, spliced
from fastnn.kernels.elementwise import activation_backward, activation_forward
from fastnn.kernels.matmul import UNIT_ROWS, column_sums, gradient_tile, row_product
from fastnn.kernels.panels import (
    PANEL_BYTES,
    pack,
    pack_transposed,
    pack_weights,
    transpose_tile,
    unpack,
)
from fastnn.kernels.update import update_row
from fastnn.kernels.views import matrix

__all__ = ["backward", "forward", "pack_network"]


@spliced
def pack_network(workspace: Any, parameters: Any, table: Any) -> None:
    """Pack every layer's weights and biases, and the transposes that are asked for.

    Reads: parameters.  Writes: every PACKED and TRANSPOSED in the workspace.
    """
    for row in table:
        inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
        W = matrix(parameters, row[codes.W], inputs, outputs)
        b = parameters[:0] if row[codes.B] < 0 else parameters[row[codes.B] :][:outputs]
        pack_weights(workspace, row[codes.PACKED], W, b)
        if row[codes.TRANSPOSED] >= 0:
            pack_transposed(workspace, row[codes.TRANSPOSED], W)


@kernel
def activate(workspace: Any, row: Any, flat: int, height: int, rows: int) -> None:
    """Compute A = f(Z) of an operation, in panels.

    Reads: its Z.  Writes: its result.  May overwrite: flat, rows by outputs.
    """
    outputs = row[codes.OUTPUTS]
    if row[codes.ACTIVATION] == codes.SOFTMAX:
        Z = matrix(workspace, flat, rows, outputs)
        unpack(Z, workspace, row[codes.Z], height)
        activation_forward(Z, Z, codes.SOFTMAX)
        pack(workspace, row[codes.RESULT], height, Z)
        return
    if row[codes.ACTIVATION] == codes.IDENTITY and row[codes.Z] == row[codes.RESULT]:
        return
    panel = PANEL_BYTES // workspace.itemsize
    for j in range(0, outputs, panel):
        Z = matrix(workspace, row[codes.Z] + j * height, rows, panel)
        A = matrix(workspace, row[codes.RESULT] + j * height, rows, panel)
        activation_forward(A, Z, row[codes.ACTIVATION])


@kernel
def deactivate(workspace: Any, row: Any, flat: int, dflat: int, height: int, rows: int) -> None:
    """Compute dZ = dA f'(Z) of an operation, in panels, where its DRESULT holds dA.

    Reads: its result or its Z.  Writes: its DRESULT.  May overwrite: flat and dflat, rows by
    outputs.
    """
    outputs = row[codes.OUTPUTS]
    if row[codes.ACTIVATION] == codes.IDENTITY:
        return
    if row[codes.ACTIVATION] == codes.SOFTMAX:
        A = matrix(workspace, flat, rows, outputs)
        unpack(A, workspace, row[codes.RESULT], height)
        dZ = matrix(workspace, dflat, rows, outputs)
        unpack(dZ, workspace, row[codes.DRESULT], height)
        activation_backward(dZ, A, A, codes.SOFTMAX)
        pack(workspace, row[codes.DRESULT], height, dZ)
        return
    panel = PANEL_BYTES // workspace.itemsize
    for j in range(0, outputs, panel):
        A = matrix(workspace, row[codes.RESULT] + j * height, rows, panel)
        Z = matrix(workspace, row[codes.Z] + j * height, rows, panel)
        dZ = matrix(workspace, row[codes.DRESULT] + j * height, rows, panel)
        activation_backward(dZ, A, Z, row[codes.ACTIVATION])


@spliced
def forward(workspace: Any, table: Any, plan: Any, rows: int) -> None:
    """Walk the table down: every Z and A of a chunk of rows.

    Reads: packed weights, and the first operation's source in the workspace.
    Writes: every operation's Z and result in the workspace.  May overwrite: its FLAT.
    """
    panel = PANEL_BYTES // workspace.itemsize
    height = plan[codes.HEIGHT]
    for row in table:
        inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
        packed = row[codes.PACKED]
        biases = packed + (outputs + panel - 1) // panel * panel * inputs
        row_product(
            workspace, row[codes.Z], row[codes.SOURCE], packed, biases, height, rows, inputs,
            outputs,
        )  # fmt: skip
        activate(workspace, row, plan[codes.FLAT], height, rows)


@spliced
def backward(
    workspace: Any,
    gradient: Any,
    parameters: Any,
    moments: Any,
    table: Any,
    constants: Any,
    plan: Any,
    rows: int,
    stepping: bool,
) -> int:
    """Walk the table up: every dZ of a chunk of rows, then steps or sums its weight gradients.

    Reads: what `forward` left, and the last operation's DRESULT, in the workspace; its rates
    where stepping.
    Writes: every DRESULT in the workspace; where stepping, parameters, moments and packed weights;
    else gradient, adding to it.  May overwrite: the workspace's FLAT, DFLAT and TILE.
    Returns how many segments of weights or moments are not finite.
    """
    height = plan[codes.HEIGHT]
    broken = 0
    for r in range(table.shape[0] - 1, -1, -1):
        row = table[r]
        inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
        deactivate(workspace, row, plan[codes.FLAT], plan[codes.DFLAT], height, rows)
        if row[codes.DSOURCE] >= 0:
            row_product(
                workspace, row[codes.DSOURCE], row[codes.DRESULT], row[codes.TRANSPOSED], -1,
                height, rows, outputs, inputs,
            )  # fmt: skip
        if stepping:
            l2 = workspace.dtype.type(constants[r, codes.L2])
            broken += step_layer(workspace, parameters, moments, row, plan, rows, l2)
        else:
            sum_layer(workspace, gradient, row, plan, rows)
    return broken


@kernel
def step_layer(
    workspace: Any, parameters: Any, moments: Any, row: Any, plan: Any, rows: int, l2: Any
) -> int:
    """Update a layer tile by tile, while its weight gradients are in the cache.

    Reads: the operation's source and DRESULT.  Writes: its parameters and moments, and their
    packed forms.  May overwrite: the workspace's TILE.
    """
    panel = PANEL_BYTES // workspace.itemsize
    inputs, outputs, code = row[codes.INPUTS], row[codes.OUTPUTS], plan[codes.OPTIMIZER]
    height, tile, packed = plan[codes.HEIGHT], plan[codes.TILE], row[codes.PACKED]
    rates = workspace[plan[codes.UPDATE] :][: codes.RATES]
    zero = workspace.dtype.type(0)
    biases = packed + (outputs + panel - 1) // panel * panel * inputs
    broken = 0
    for j in range(0, outputs, panel):
        count = min(panel, outputs - j)
        for i in range(0, inputs, UNIT_ROWS):
            gradient_tile(
                workspace, tile, row[codes.SOURCE], row[codes.DRESULT], height, rows, i, j, outputs
            )
            strip = packed + j * inputs + i * panel
            for u in range(min(UNIT_ROWS, inputs - i)):
                at = row[codes.W] + (i + u) * outputs + j
                broken += update_row(
                    parameters, moments, at, workspace, tile + u * panel, count, rates, l2,
                    workspace, strip + u * panel, code,
                )  # fmt: skip
            if row[codes.TRANSPOSED] >= 0:
                column = i // panel * panel * outputs + i % panel
                to = row[codes.TRANSPOSED] + column + j * panel
                transpose_tile(UNIT_ROWS, workspace, strip, to, count)
        if row[codes.B] >= 0:
            column_sums(workspace, tile, row[codes.DRESULT] + j * height, rows)
            broken += update_row(
                parameters, moments, row[codes.B] + j, workspace, tile, count, rates, zero,
                workspace, biases + j, code,
            )  # fmt: skip
    return broken


@kernel
def sum_layer(workspace: Any, gradient: Any, row: Any, plan: Any, rows: int) -> None:
    """Add a chunk's part of a layer's gradient.

    Reads: the operation's source and DRESULT.  Writes: the gradient of its parameters, adding to
    it.  May overwrite: the workspace's TILE.
    """
    panel = PANEL_BYTES // workspace.itemsize
    inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
    height, tile = plan[codes.HEIGHT], plan[codes.TILE]
    for j in range(0, outputs, panel):
        count = min(panel, outputs - j)
        for i in range(0, inputs, UNIT_ROWS):
            gradient_tile(
                workspace, tile, row[codes.SOURCE], row[codes.DRESULT], height, rows, i, j, outputs
            )
            for u in range(min(UNIT_ROWS, inputs - i)):
                at = row[codes.W] + (i + u) * outputs + j
                add(gradient[at : at + count], workspace[tile + u * panel :])
        if row[codes.B] >= 0:
            column_sums(workspace, tile, row[codes.DRESULT] + j * height, rows)
            at = row[codes.B] + j
            add(gradient[at : at + count], workspace[tile:])


@kernel
def add(total: Any, part: Any) -> None:
    """Add the beginning of a vector to another.  Reads: part.  Writes: total (size,)."""
    for q in range(total.size):
        total[q] += part[q]
