"""The integers that describing and computing agree on: operation codes, table columns, entries.

The tables (activations, losses, optimizers) put these codes into their rows, ``layout`` writes
them into the operation table, and the kernels switch on them.  Nothing here imports Numba, so
that describing a network never loads a compiler.

The kernels have an arm for every code of the ranges below, and what they would do with another one
is not defined: what writes a table or a plan for them asks `known` first.
"""

from __future__ import annotations

from typing import Final

# Operations: what a row of the operation table asks for.
DENSE: Final = 0
DROPOUT: Final = 1
OPERATIONS: Final = range(DROPOUT + 1)

# Columns of the operation table; offsets count elements, not bytes.
OPERATION: Final = 0
ACTIVATION: Final = 1
INPUTS: Final = 2  # columns of what the operation reads
OUTPUTS: Final = 3  # columns of what it writes
W: Final = 4  # offset of its weights, or first span, in the parameters, or NONE
B: Final = 5  # offset of its biases, or second span, in the parameters, or NONE
SOURCE: Final = 6  # workspace: activations read, in panels
Z: Final = 7  # workspace: weighted sums (the same place as RESULT where Z is not needed)
RESULT: Final = 8  # workspace: activations written, in panels
DSOURCE: Final = 9  # workspace: gradient of what was read, or NONE where it is not needed
DRESULT: Final = 10  # workspace: gradient of what was written, turned into dZ in place
PACKED: Final = 11  # workspace: W in panels, or the first span, whole panels of it
BIASES: Final = 12  # workspace: b, or the second span, whole panels of it
TRANSPOSED: Final = 13  # workspace: the transpose of W in panels, or NONE where it is not needed
UNITS: Final = 14  # index of the operation's first tile among the gradients' tiles of all
PLACE: Final = 15  # of a dropout in the layer list
THRESHOLD: Final = 16  # of a dropout: 32-bit hashes from here on keep a unit
NARROW: Final = 17  # 1 for a layer of so few outputs that its weights are stored as their transpose
SPARSE: Final = 18  # 1 for an operation on sparse examples
PACKED_FROM: Final = 19  # of a prediction: the first column of W that is read from its PACKED
PITCH: Final = 20  # of a prediction: elements from one row of the result to the next
BELOW: Final = 21  # row whose activation's derivative the backward pass applies, or NONE
FORM: Final = 22  # how the operation's parameters lie; see below
CONSTANTS: Final = 23  # its row of the constants
SCRATCH: Final = 24  # workspace: what it notes of every row of a chunk, column by column, or NONE
TABLE_COLUMNS: Final = 25
NONE: Final = -1

# Forms of parameters: none; a matrix in panels and biases; one or two spans, one number per column.
NO_PARAMETERS: Final = 0
MATRIX: Final = 1
SPANS: Final = 2

# Rows that the transpose of narrow weights has in each panel.
NARROW_ROWS: Final = 4

# Columns of the constants that go with each operation.
L2: Final = 0
LOSS_NUMBER: Final = 1  # the loss's own, in the last operation's row
NUMBER: Final = 2  # the operation's own: what a dropout multiplies by where it keeps
CONSTANT_COLUMNS: Final = 3

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
ACTIVATIONS: Final = range(SIN + 1)

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
LOSS_CODES: Final = range(HINGE + 1)

# Optimizers.
SGD: Final = 0
ADAM: Final = 1
RMSPROP: Final = 2
ADAGRAD: Final = 3
ADAMW: Final = 4
NADAM: Final = 5
RADAM: Final = 6
RPROP: Final = 7
OPTIMIZERS: Final = range(RPROP + 1)

# What one call of the engine does.
FORWARD: Final = 0  # predictions of all rows
LOSS: Final = 1  # loss of all rows
GRADIENT: Final = 2  # loss and gradient of all rows, taken as one batch
TRAIN: Final = 3  # a slice of steps: forward, loss, backward, update

# Entries of the engine's plan.
MODE: Final = 0
LOSS_CODE: Final = 1
OPTIMIZER: Final = 2
BATCH: Final = 3  # examples per step
CHUNK: Final = 4  # rows that go through the network together
HEIGHT: Final = 5  # rows of a panel: the chunk's, rounded up to whole tiles
FIRST_STEP: Final = 6  # counted from the beginning of the present epoch, through later epochs
LAST_STEP: Final = 7  # one past it
SHUFFLE: Final = 8  # 1 where every epoch draws an order when it begins
THREADS: Final = 9  # threads that are expected to join
CLIPPING: Final = 10  # 1 where the gradient's norm is limited
PENALTY: Final = 11  # 1 where an operation has L2 regularisation
STATE: Final = 12  # packed weights and biases: the stride from them to their first moments
MOMENTS: Final = 13  # vectors of moments; the gradient, or a part per group, follows them
GROUPS: Final = 14  # groups of chunks, each with a gradient sum of its own, or 1
UNIT_COUNT: Final = 15  # tiles of weight gradients in all
FLAT: Final = 16  # workspace: the last Z or A row by row, or a softmax layer's
DFLAT: Final = 17  # workspace: its gradient row by row
TILES: Final = 18  # workspace: a tile of a weight gradient for each thread
TILE_SIZE: Final = 19  # elements from one thread's tile to the next one's
RATES_AT: Final = 20  # workspace: the step's rates, those of weights and those of biases
LOSSES: Final = 21  # workspace: the loss of each row of a chunk
SHARES: Final = 22  # workspace: the part of each row of a chunk in the batch's mean
WIDEST: Final = 23  # columns of the widest result: what FLAT and DFLAT have for each row
SPARSE_ROWS: Final = 24  # 1 where examples are sparse
ENTRIES: Final = 25  # workspace: the values of a chunk's entries, row by row
TURNED_ENTRIES: Final = 26  # workspace: the same column by column
BEGINNINGS: Final = 27  # integers: where each row of ENTRIES begins, and the last one ends
CURSORS: Final = 28  # integers: where each column of TURNED_ENTRIES begins, and the last one ends
TURNED_ROWS: Final = 29  # integers: the rows of TURNED_ENTRIES
COUNTS: Final = 30  # integers: the entries of each thread's share of the columns, a line apart
COUNTED: Final = 31  # what is counted of every example, as flags below; 0 for nothing
FINISH: Final = 32  # activation that errors are counted after, where the loss took it over
TARGETS: Final = 33  # columns of targets
TALLIES: Final = 34  # sums: what is counted in each tile of a batch
HELD_TALLIES: Final = 35  # sums: in each tile of the validation examples, then in all of them
HELD_LOSSES: Final = 36  # sums: the share of each validation example, and its loss
FIGURES: Final = 37  # sums: total weight, then each target's spread; validation's behind them
WATCH: Final = 38  # sums: what a fit stops by, or NONE
BEST: Final = 39  # workspace: packed weights and biases of the best epoch, or NONE
TABLE_ROWS: Final = 40  # rows of the table that are used
MEASURES: Final = 41  # 1 where an epoch ends with measuring
HELD_EXAMPLES: Final = 42  # validation examples
# Their arrays: addresses, not places, as an argument that most calls have no use for costs each of
# them a tenth of a microsecond; 0 for none.
X_AT: Final = 43
LABELS_AT: Final = 44
VALUES_AT: Final = 45
WEIGHTS_AT: Final = 46
PLAN_ENTRIES: Final = 47

# Integers from one thread's count to the next one's: a cache line.
COUNT_PITCH: Final = 8

# Entries of the plan of predictions.
NEXT: Final = 0  # the first row that no thread has taken
SHARE: Final = 1  # rows that a thread takes at a time
FROZEN: Final = 2  # 1 where all weights are packed
ROOM: Final = 3  # place of the room for what lies between two layers
HALF: Final = 4  # elements of its half
FAR: Final = 5  # 1 where weights are too many to stay in the second-level cache, and lie unpacked
DONE: Final = 6  # rows whose answers stand in the result
WAIT: Final = 7  # nanoseconds that a thread which finds no more rows looks for those of the others
ANSWER_ENTRIES: Final = 8

# Entries of the draw: keys of the streams, and how far they are.
ORDER_KEY: Final = 0
ORDER: Final = 1  # number of the present epoch's order
MASK_KEY: Final = 2
STEP: Final = 3  # number of the first step that a call takes
DRAW_ENTRIES: Final = 4

# Entries of the optimizer's numbers: steps taken, then the record's own.
STEPS: Final = 0
LEARNING_RATE: Final = 1
MOMENTUM: Final = 2
NESTEROV: Final = 3
BETA_1: Final = 2
BETA_2: Final = 3
EPSILON: Final = 4
WEIGHT_DECAY: Final = 5
RHO: Final = 2
DECREASE: Final = 2
INCREASE: Final = 3
SMALLEST: Final = 4
LARGEST: Final = 5
CLIP_NORM: Final = 6
NUMBERS: Final = 7
RATES: Final = 7  # room for what a step's rule derives from them, once for weights, once for biases

# Entries of the conventions: how a loss, its gradient and a penalty count.
LOSS_SCALE: Final = 0  # times every loss
GRADIENT_SCALE: Final = 1  # times every gradient of a loss
LOSS_LIMIT: Final = 2  # upper bound of a cross-entropy, per output
SHARED_PENALTY: Final = 3  # 1 where L2 is divided by the weight of the batch
BY_EXAMPLES: Final = 4  # 1 where LOSS_SUM counts a batch by its examples, not by their weights
BARE_EPSILON: Final = 5  # 1 where Adam's epsilon is added to the root before its correction
CONVENTIONS: Final = 6

# Entries of the engine's report.
STEPS_DONE: Final = 0
TROUBLE: Final = 1
REPORT_ENTRIES: Final = 2

# Columns of the engine's record, which has a row for every epoch that a call touches.
LOSS_SUM: Final = 0  # sum over steps of (batch loss with penalty) x (what the batch counts)
WEIGHT_SUM: Final = 1
RECORD_COLUMNS: Final = 2
# Where epochs end with measuring, further ones: values of training examples, the same of validation
# examples, then what is counted of training examples so far.
VALUES: Final = 2
HELD_VALUES: Final = 8
COUNTS_SO_FAR: Final = 14

# Values, counted from VALUES and from HELD_VALUES.
LOSS_VALUE: Final = 0
ACCURACY: Final = 1
SQUARED_ERROR: Final = 2
ROOT_OF_SQUARES: Final = 3
ABSOLUTE_ERROR: Final = 4
R2: Final = 5

# What is counted of examples: flags.
PLACES: Final = 1  # whether the largest output stands at the class
SIDES: Final = 2  # how many outputs are on the target's side of 0
SIDES_OF_HALF: Final = 4  # with SIDES or ALL_SIDES: of one half, not of 0
ALL_SIDES: Final = 8  # whether all of them are
FINISHED: Final = 16  # of the above: after the activation FINISH, by which outputs may become equal
ERRORS: Final = 32  # absolute errors, and squares of errors by target

# Columns of what is counted; squares follow, a column for each target.
HITS: Final = 0
ABSOLUTE: Final = 1
SQUARES: Final = 2

# Entries of what a fit stops by; the last four are written.
WATCHED: Final = 0  # column of the record
SIGN: Final = 1  # times the value: smaller is better then
MIN_DELTA: Final = 2
PATIENCE: Final = 3
BEST_VALUE: Final = 4
TO_BEAT: Final = 5
WAITED: Final = 6
STOPPED: Final = 7  # 1 where the fit shall end
WATCH_ENTRIES: Final = 8

# What trouble the engine reports.
FINE: Final = 0
LOSS_NOT_FINITE: Final = 1
UPDATE_NOT_FINITE: Final = 2

# Which values targets may have.
ANY_NUMBER: Final = 0
AT_LEAST_0: Final = 1
FROM_0_TO_1: Final = 2


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
    if code not in codes:
        raise ValueError(
            f"the kernels have no {kind} of code {code!r}; they know {codes[0]} to {codes[-1]}."
        )
    return code
