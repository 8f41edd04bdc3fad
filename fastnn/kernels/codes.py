"""The integers on which describing and computing agree.

The tables (activations, losses, optimizers) put these codes into their rows, ``layout`` writes
them into the operation table, and the kernels switch on them.  Nothing here imports Numba, so
that describing a network never loads a compiler.
"""

from __future__ import annotations

from typing import Final

# Operations: what a row of the operation table asks for.
DENSE: Final = 0

# Columns of the operation table; offsets count elements, not bytes.
OPERATION: Final = 0
ACTIVATION: Final = 1
INPUTS: Final = 2  # columns of what the operation reads
OUTPUTS: Final = 3  # columns of what it writes
W: Final = 4  # offset in the parameters
B: Final = 5  # offset in the parameters, or NONE
SOURCE: Final = 6  # workspace: activations read, in panels
Z: Final = 7  # workspace: weighted sums (the same place as RESULT where nobody asks for Z)
RESULT: Final = 8  # workspace: activations written, in panels
DSOURCE: Final = 9  # workspace: gradient of what was read, or NONE where nobody asks for it
DRESULT: Final = 10  # workspace: gradient of what was written, turned into dZ in place
PACKED: Final = 11  # workspace: W in panels, then b
TRANSPOSED: Final = 12  # workspace: the transpose of W in panels, or NONE where nobody asks for it
TABLE_COLUMNS: Final = 13
NONE: Final = -1

# Columns of the constants that go with each operation.
L2: Final = 0
CONSTANT_COLUMNS: Final = 1

# Activations.
IDENTITY: Final = 0
SIGMOID: Final = 1
TANH: Final = 2
RELU: Final = 3
SOFTMAX: Final = 4

# Losses.  A "matched" loss reads Z of the last layer and gives dZ; the others read A and give dA.
NO_LOSS: Final = 0
MEAN_SQUARED_ERROR: Final = 1
BINARY_CROSS_ENTROPY: Final = 2
CROSS_ENTROPY: Final = 3

# Optimizers.
SGD: Final = 0
ADAM: Final = 1

# What one call of the engine does.
FORWARD: Final = 0  # predictions of all rows
LOSS: Final = 1  # loss of all rows
GRADIENT: Final = 2  # loss and gradient of all rows, taken as one batch
TRAIN: Final = 3  # a slice of steps: forward, loss, backward, update

# Entries of the engine's plan.
MODE: Final = 0
LOSS_CODE: Final = 1
OPTIMIZER: Final = 2
BATCH: Final = 3  # examples a step
CHUNK: Final = 4  # rows that go through the network together
HEIGHT: Final = 5  # rows of a panel: the chunk's, rounded up to whole tiles
FIRST_STEP: Final = 6
LAST_STEP: Final = 7  # one past it
FLAT: Final = 8  # workspace: the last Z or A row by row, or a softmax layer's
DFLAT: Final = 9  # workspace: its gradient row by row
TILE: Final = 10  # workspace: one tile of a weight gradient
UPDATE: Final = 11  # workspace: the step's rates
LOSSES: Final = 12  # workspace: the loss of each row of a chunk
SHARES: Final = 13  # workspace: the part of each row of a chunk in the batch's mean
PLAN_ENTRIES: Final = 14

# Entries of the optimizer's numbers: steps taken, then the record's own.
STEPS: Final = 0
LEARNING_RATE: Final = 1
MOMENTUM: Final = 2
NESTEROV: Final = 3
BETA_1: Final = 2
BETA_2: Final = 3
EPSILON: Final = 4
NUMBERS: Final = 5
RATES: Final = 5  # room for what a step's rule derives from them

# Entries of the engine's report.
LOSS_SUM: Final = 0  # sum over steps of (batch loss with penalty) x (weight of the batch)
WEIGHT_SUM: Final = 1
STEPS_DONE: Final = 2
TROUBLE: Final = 3
REPORT_ENTRIES: Final = 4

# What trouble the engine reports.
FINE: Final = 0
LOSS_NOT_FINITE: Final = 1
UPDATE_NOT_FINITE: Final = 2
