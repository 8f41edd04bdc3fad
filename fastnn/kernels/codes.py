"""The integers that describing and computing agree on: operations, activations, losses, modes.

The tables (activations, losses, optimizers) put these codes into their rows, ``layout`` writes
them into records (`records`), and the kernels switch on them.  Nothing here imports Numba, so
that describing a network never loads a compiler.

The kernels have an arm for every code of the ranges below, and what they would do with another one
is not defined: what writes a table or a plan for them asks `known` first.
"""

from __future__ import annotations

from typing import Final

# Operations: what a row of the operation table asks for.
DENSE: Final = 0
DROPOUT: Final = 1
LAYER_NORM: Final = 2
STANDARDIZE: Final = 3
RMS_NORM: Final = 4
PRELU: Final = 5
RESIDUAL: Final = 6
EMBEDDING: Final = 7
NUMERIC_EMBEDDING: Final = 8
BATCH_NORM: Final = 9
OPERATIONS: Final = range(BATCH_NORM + 1)

NONE: Final = -1

# Forms of parameters: none; a matrix in panels and biases; one or two spans, one number per column;
# all arrays of the operation, one behind the other, as one span.
NO_PARAMETERS: Final = 0
MATRIX: Final = 1
SPANS: Final = 2
ONE_SPAN: Final = 3

# What becomes of a layer where norms are folded into weights: it stays as it is, its weights take
# norms in, or a norm of the features keeps mean and deviation.
FOLD_NOTHING: Final = 0
FOLD_DENSE: Final = 1
FOLD_CENTRE: Final = 2

# Columns of the integers that say how a layer that stays is folded; see `folds`.
F_WAY: Final = 0
F_INPUTS: Final = 1  # columns of what it reads; elements where it stays as it is
F_OUTPUTS: Final = 2
F_W: Final = 3  # offset of its parameters
F_B: Final = 4  # the same of its biases, or NONE
F_TO: Final = 5  # where its parameters begin among those of the layers that stay
F_BEGIN: Final = 6  # first norm before it
F_MIDDLE: Final = 7  # first norm behind it
F_END: Final = 8  # one past the last of these
F_COLUMNS: Final = 9

# Columns of the integers that say where a norm's numbers lie, with the buffers behind parameters.
N_SCALE: Final = 0
N_SHIFT: Final = 1
N_MEAN: Final = 2
N_VARIANCE: Final = 3
N_CENTRED: Final = 4  # 1 where mean and deviation are done with already
N_COLUMNS: Final = 5

# Columns of the integers that say what an embedding copies, or computes, in pieces; see
# `embeddings.pieces` and `periodic.pieces`.
P_TO: Final = 0
P_COUNT: Final = 1
P_FROM: Final = 2
P_SIZE: Final = 3
P_START: Final = 4
P_PITCH: Final = 5
P_COLUMNS: Final = 6

# Rows that the transpose of narrow weights has in each panel.
NARROW_ROWS: Final = 4

# Activations.
IDENTITY: Final = 0
SIGMOID: Final = 1
TANH: Final = 2
RELU: Final = 3
SOFTMAX: Final = 4
LEAKY_RELU: Final = 5
ELU: Final = 6
SELU: Final = 7
GELU: Final = 8
SILU: Final = 9
SOFTPLUS: Final = 10
MISH: Final = 11
SOFTSIGN: Final = 12
HARD_SIGMOID: Final = 13
EXP: Final = 14
SIN: Final = 15
INCREASING: Final = 16
ACTIVATIONS: Final = range(INCREASING + 1)

# What is greater is the address of functions of the user's own, in the place of an activation's or
# a loss's code; see `own_functions`.
LARGEST_CODE: Final = 4095

# Those that take all units of a row together.
ROW_WISE: Final = (SOFTMAX, INCREASING)

# Losses.  A "matched" loss reads Z of the last layer and gives dZ; the others read A and give dA.
NO_LOSS: Final = 0
MEAN_SQUARED_ERROR: Final = 1
BINARY_CROSS_ENTROPY: Final = 2
CROSS_ENTROPY: Final = 3
MEAN_ABSOLUTE_ERROR: Final = 4
HUBER: Final = 5
LOG_COSH: Final = 6
POISSON: Final = 7
QUANTILE: Final = 8
GAUSSIAN_NLL: Final = 9
HINGE: Final = 10
FOCAL: Final = 11
BINARY_FOCAL: Final = 12
GAMMA: Final = 13
TWEEDIE: Final = 14
QUANTILES: Final = 15
LOSS_CODES: Final = range(QUANTILES + 1)

# How many quantiles a loss takes together at the most.
MOST_QUANTILES: Final = 99

# Optimizers.
SGD: Final = 0
ADAM: Final = 1
RMSPROP: Final = 2
ADAGRAD: Final = 3
ADAMW: Final = 4
NADAM: Final = 5
RADAM: Final = 6
RPROP: Final = 7
ADADELTA: Final = 8
ADAMAX: Final = 9
AMSGRAD: Final = 10
LION: Final = 11
OPTIMIZERS: Final = range(LION + 1)

# What one call of the engine does.
FORWARD: Final = 0  # predictions of all rows
LOSS: Final = 1  # loss of all rows
GRADIENT: Final = 2  # loss and gradient of all rows, taken as one batch
TRAIN: Final = 3  # a slice of steps: forward, loss, backward, update
APPLY: Final = 4  # the update of a step, by a gradient that is given

# What of the weights is averaged, if anything: those after each step, or after each epoch; or
# those after each step, tile by tile while they are in the cache.
NO_AVERAGE: Final = 0
EACH_STEP: Final = 1
EACH_EPOCH: Final = 2
EACH_TILE: Final = 3

# Columns of the table of predictions, which is of plain integers: a record takes a tenth of
# a microsecond longer to hand over.
ACTIVATION: Final = 0
INPUTS: Final = 1
OUTPUTS: Final = 2
W: Final = 3  # offset in the parameters
B: Final = 4  # offset in the parameters, or NONE
PACKED: Final = 5  # W in panels
BIASES: Final = 6  # b, whole vectors of it
NARROW: Final = 7  # 1 for a layer of so few outputs that its weights are stored as their transpose
PACKED_FROM: Final = 8  # the first column of W that is read from PACKED
PITCH: Final = 9  # elements from one row of the result to the next
STREAMED: Final = 10  # the most rows for which W is streamed in the order in which it lies
TILED: Final = 11  # the fewest for which tiles of W are copied before they are read; or NONE
TABLE_COLUMNS: Final = 12

# Entries of the plan of predictions.
SHARE: Final = 0  # rows that go through the network together at the most
FROZEN: Final = 1  # 1 where all weights are packed
ROOM: Final = 2  # place of the room for what lies between two layers
HALF: Final = 3  # elements of its half
TILE: Final = 4  # place of the room for a tile of W
PHASES: Final = 5  # how many layers, from the first on, have outputs that threads may divide
# The rest where several threads compute; see `kernels.crew`.
BOARD: Final = 6  # address of what they share; 0 for one thread
CODE: Final = 7  # address of the machine code that all of them run
TEAM: Final = 8  # threads at the most
NUMBER: Final = 9  # of this thread; 0 is the one that asked
STRIDE: Final = 10  # elements from one thread's room to the next one's, where each has one
ITEM: Final = 11  # bytes of an element
# Written when they begin.
ROWS: Final = 12  # of the call
BY_COLUMNS: Final = 13  # 1 where they divide the outputs of each layer, 0 where they divide rows
TAKEN: Final = 14  # rows that are taken together
JOB: Final = 15  # of a helper: the number of the job that it saw
WAITED: Final = 16  # nanoseconds that the asking thread waited for the others
# Of a call with several weight vectors; 0 for one with a single one.
VECTORS: Final = 17
ONE_BY_ONE: Final = 18  # 1 where rows are computed one by one, without packing weights
# Of all again.
UNITS: Final = 19  # address of what outputs are multiplied by and added to; 0 where they stay
ANSWER_ENTRIES: Final = 20

# Helpers of predictions at the most, threads that divide outputs (a bit for each), and layers whose
# outputs they divide.
HELPERS: Final = 63
LARGEST_TEAM: Final = 8
MOST_PHASES: Final = 32

RATES: Final = 7  # room for what a step's rule derives from them, once for weights, once for biases

# Values of an epoch that the engine measures, and how many a fit may ask for, the loss among them.
LOSS_VALUE: Final = 0
ACCURACY: Final = 1
SQUARED_ERROR: Final = 2
ROOT_OF_SQUARES: Final = 3
ABSOLUTE_ERROR: Final = 4
R2: Final = 5
RELATIVE_ERROR: Final = 6
LOG_LOSS: Final = 7
TOP_PLACES: Final = 8
BALANCED: Final = 9
PRECISION: Final = 10
RECALL: Final = 11
F1: Final = 12
VALUES: Final = range(F1 + 1)
SLOTS: Final = 8

# How scores of classes come to one number: binary for two classes, else macro.
AUTO: Final = 0
BINARY: Final = 1
MACRO: Final = 2
MICRO: Final = 3
WEIGHTED: Final = 4

# What is counted of examples: flags.
PLACES: Final = 1  # whether the largest output stands at the class
SIDES: Final = 2  # how many outputs are on the target's side of 0
SIDES_OF_HALF: Final = 4  # with SIDES or ALL_SIDES: of one half, not of 0
ALL_SIDES: Final = 8  # whether all of them are
FINISHED: Final = 16  # of the above: after the activation FINISH, by which outputs may become equal
ERRORS: Final = 32  # absolute errors, and squares of errors by target
RELATIVES: Final = 64  # with ERRORS: absolute errors by the size of the target
LOGS: Final = 128  # logarithms of predicted probabilities
CONFUSED: Final = 256  # with PLACES or SIDES: the table of confusion of each class
RANKS: Final = 512  # whether the class is among the largest outputs

# Columns of what is counted; squares follow, a column for each target.
HITS: Final = 0
ABSOLUTE: Final = 1
SQUARES: Final = 2

# What may follow them, from the plan's `more` on: hits by the slot whose value asks for ranks.
RELATIVE: Final = 0
SURPRISE: Final = 1
RANKED: Final = 2
MORE: Final = RANKED + SLOTS

# And from its `confusion` on, columns for each target: right and wrong guesses that an example
# belongs there, and that it does not.  The last ones are counted with SIDES alone.
RIGHT: Final = 0
WRONG: Final = 1
MISSED: Final = 2
REJECTED: Final = 3
CELLS: Final = 4

# What trouble the engine reports.
FINE: Final = 0
LOSS_NOT_FINITE: Final = 1
UPDATE_NOT_FINITE: Final = 2

# Which values targets may have.
ANY_NUMBER: Final = 0
AT_LEAST_0: Final = 1
FROM_0_TO_1: Final = 2

# What a quasi-Newton search asks for, or why it is over.
EVALUATE: Final = 0
SMALL_GRADIENT: Final = 1
SMALL_REDUCTION: Final = 2
NO_PROGRESS: Final = 3

# Rows of its vectors.
POINT: Final = 0  # where the loss and the gradient are wanted
GRADIENT_ROW: Final = 1
START: Final = 2  # where the line begins: the last point that was accepted
START_GRADIENT: Final = 3
DIRECTION: Final = 4
SEARCH_ROWS: Final = 5

# Columns of a symmetric matrix that are factorised together: whole panels of them on any machine.
FACTORISED: Final = 32

# Columns of the table that derivatives go by: sizes, then places in the packed weights, in the
# workspace, and of the parameters in the flat vector.
D_INPUTS: Final = 0
D_OUTPUTS: Final = 1
D_ACTIVATION: Final = 2
D_PITCH: Final = 3  # of rows of outputs
D_BELOW: Final = 4  # of rows of inputs
D_W: Final = 5
D_B: Final = 6
D_TURNED: Final = 7  # the weights' transpose
D_Z: Final = 8
D_A: Final = 9
D_SLOPES: Final = 10
D_OWN_W: Final = 11
D_OWN_B: Final = 12  # or NONE
D_COLUMNS: Final = 13

# Entries of their plan.
D_MODE: Final = 0
D_COUNT: Final = 1  # outputs that go back together
D_SHARE: Final = 2  # rows that go through together
D_BACK: Final = 3  # workspace: what goes back
D_OTHER: Final = 4
D_SCRATCH: Final = 5
D_NOTHING: Final = 6  # packed weights: zeros, as many as the widest row
D_SIZE: Final = 7  # parameters
D_ENTRIES: Final = 8

# Their modes.
JACOBIAN: Final = 0
VJP: Final = 1
JVP: Final = 2
PARAMETERS: Final = 3


def known(kind: str, code: int, codes: range) -> int:
    """Return a code that the kernels have an arm for, or say that there is none.

    Parameters
    ----------
    kind : str
        What the code stands for, as the error names it.
    code : int
        As a row of a table gives it.
    codes : range
        Those that the kernels switch on: `OPERATIONS`, `ACTIVATIONS`, `LOSS_CODES`, `OPTIMIZERS`.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    if code not in codes and not (kind in ("activation", "loss") and code > LARGEST_CODE):
        raise ValueError(
            f"the kernels have no {kind} of code {code!r}; they know {codes[0]} to {codes[-1]}."
        )
    return code
