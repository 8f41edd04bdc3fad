"""The records that describing and computing agree on: operation rows, plan, numbers, reports.

A kernel reads ``row.inputs`` where other rooms read ``table["inputs"]``; the arrays are the same.
Where the JIT is off, `_jit.entry` hands kernels views that know attributes.  No field may bear the
name of an attribute of a NumPy scalar, such as `flat`.  Nothing here imports Numba.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.kernels import codes

#: A record while it is planned: its numbers by name, in the order of the fields.
Row: TypeAlias = dict[str, Any]

# A row of the operation table.  Offsets count elements, not bytes; NONE is that of nothing.
OPERATION: Final = np.dtype(
    [
        ("operation", np.int64),
        ("activation", np.int64),
        ("inputs", np.int64),  # columns of what the operation reads
        ("outputs", np.int64),  # columns of what it writes
        ("W", np.int64),  # offset of its weights, or first span, in the parameters, or NONE
        ("b", np.int64),  # offset of its biases, or second span, in the parameters, or NONE
        ("source", np.int64),  # workspace: activations read, in panels
        # Workspace: weighted sums (the same place as `result` where Z is not needed).
        ("Z", np.int64),
        ("result", np.int64),  # workspace: activations written, in panels
        # Workspace: gradient of what was read, or NONE where it is not needed.
        ("dsource", np.int64),
        ("dresult", np.int64),  # workspace: gradient of what was written, turned into dZ in place
        ("packed", np.int64),  # workspace: W in panels, or the first span, whole panels of it
        ("biases", np.int64),  # workspace: b, or the second span, whole panels of it
        # Workspace: the transpose of W in panels, or NONE where it is not needed.
        ("transposed", np.int64),
        # Index of the operation's first tile among the gradients' tiles of all.
        ("units", np.int64),
        ("place", np.int64),  # of a dropout in the layer list
        ("threshold", np.int64),  # of a dropout: 32-bit hashes from here on keep a unit
        # 1 for a layer of so few outputs that its weights are stored as their transpose.
        ("narrow", np.int64),
        ("sparse", np.int64),  # 1 for an operation on sparse examples
        ("below", np.int64),  # row whose activation's derivative the backward pass applies, or NONE
        ("form", np.int64),  # how the operation's parameters lie; see below
        ("span", np.int64),  # elements of the first span, or NONE
        ("pieces", np.int64),  # integers: what an embedding goes by, or NONE
        ("piece_count", np.int64),
        # Workspace: what it notes of every row of a chunk, column by column, or NONE.
        ("scratch", np.int64),
        ("other", np.int64),  # workspace: of a sum, its second source
        # Workspace: the gradient of a sum that reads the operation's source too, to be added to
        # `dsource`, or NONE.
        ("plus", np.int64),
        # Workspace: of a sum within another that reads the same, where both gradients are added,
        # and that of the other one; or NONE.
        ("carry", np.int64),
        ("carried", np.int64),
        # Offset of its two buffers in the vector of parameters and buffers, or NONE.
        ("buffers", np.int64),
        # Workspace: whole panels of the first, then of the second, or NONE.
        ("running", np.int64),
        # 1 for an operation that needs all rows of a batch at once, and so ends a phase.
        ("whole", np.int64),
        ("rates", np.int64),  # workspace: the step's rates for its weights, and for its biases
        ("non_negative", np.int64),  # 1 where its weights are kept from falling below 0
        ("l2", np.float64),
        ("l1", np.float64),
        ("max_norm", np.float64),  # to which each unit's weights are shortened, or 0
        ("rate_scale", np.float64),  # times the learning rate
        ("decay", np.float64),  # of its weights; NONE for the optimizer's
        ("number", np.float64),  # the operation's own: what a dropout multiplies by where it keeps
        ("momentum", np.float64),  # the part of its buffers that a step leaves
    ],
    align=True,
)


# The engine's plan, of which each thread has a copy with its own places in the workspace.
PLAN: Final = np.dtype(
    [
        ("mode", np.int64),
        ("loss", np.int64),
        ("optimizer", np.int64),
        ("batch", np.int64),  # examples per step
        ("chunk", np.int64),  # rows that go through the network together
        ("height", np.int64),  # rows of a panel: the chunk's, rounded up to whole tiles
        # Counted from the beginning of the present epoch, through later epochs.
        ("first_step", np.int64),
        ("last_step", np.int64),  # one past it
        # 1 where the examples are not the first of their epoch, whose counts go on.
        ("begun", np.int64),
        ("shuffle", np.int64),  # 1 where every epoch draws an order when it begins
        ("threads", np.int64),  # threads that are expected to join
        ("clipping", np.int64),  # 1 where the gradient's norm is limited
        ("penalty", np.int64),  # 1 where an operation has L1 or L2 regularisation
        ("projecting", np.int64),  # 1 where an operation's weights are kept within bounds
        ("own_rates", np.int64),  # 1 where an operation has rates of its own
        # Packed weights and biases: the stride from them to their first moments.
        ("state", np.int64),
        # Vectors of moments; the gradient, or a part per group, follows them.
        ("moments", np.int64),
        ("groups", np.int64),  # groups of chunks, each with a gradient sum of its own, or 1
        ("unit_count", np.int64),  # tiles of weight gradients in all
        ("flat_at", np.int64),  # workspace: the last Z or A row by row, or a softmax layer's
        ("dflat_at", np.int64),  # workspace: its gradient row by row
        ("tiles", np.int64),  # workspace: a tile of a weight gradient for each thread
        ("tile_size", np.int64),  # elements from one thread's tile to the next one's
        ("rates_at", np.int64),  # workspace: the step's rates, those of weights and those of biases
        ("losses", np.int64),  # workspace: the loss of each row of a chunk
        ("shares", np.int64),  # workspace: the part of each row of a chunk in the batch's mean
        # 1 where an operation needs all rows of a batch, which then is one chunk.
        ("phased", np.int64),
        ("portions", np.int64),  # workspace: the part of each row in the batch, where it is phased
        # Columns of the widest result: what `flat_at` and `dflat_at` have for each row.
        ("widest", np.int64),
        ("sparse_rows", np.int64),  # 1 where examples are sparse
        ("entries", np.int64),  # workspace: the values of a chunk's entries, row by row
        # Integers: where each row of `entries` begins, and the last one ends.
        ("beginnings", np.int64),
        # Integers: where each row of a chunk begins among the examples' entries.
        ("row_starts", np.int64),
        # Integers: for each thread, the entry of each row of a chunk that comes next.
        ("cursors", np.int64),
        ("cursor_pitch", np.int64),  # integers from one thread's cursors to the next one's
        ("counted", np.int64),  # what is counted of every example, as flags below; 0 for nothing
        # Activation that errors are counted after, where the loss took it over.
        ("finish", np.int64),
        ("targets", np.int64),  # columns of targets
        ("tally", np.int64),  # columns of what is counted; where those begin that not all have
        ("more", np.int64),
        ("confusion", np.int64),
        # Which value each place of an epoch's record holds, and what it must know beside.
        ("slots", np.int64, (codes.SLOTS,)),
        ("slot_numbers", np.int64, (codes.SLOTS,)),
        ("tallies", np.int64),  # sums: what is counted in each tile of a batch
        # Sums: in each tile of the validation examples, then in all of them.
        ("held_tallies", np.int64),
        ("held_losses", np.int64),  # sums: the share of each validation example, and its loss
        # Sums: total weight, then each target's spread; validation's behind them.
        ("figures", np.int64),
        ("counts_so_far", np.int64),  # sums: what is counted of an epoch's training examples
        ("watching", np.int64),  # 1 where a value is watched, which stops a fit
        ("watches_held", np.int64),  # 1 for one of validation examples
        ("watched", np.int64),  # which value
        ("sign", np.float64),  # times the value: smaller is better then
        ("min_delta", np.float64),
        ("patience", np.float64),
        ("best", np.int64),  # workspace: packed weights and biases of the best epoch, or NONE
        ("table_rows", np.int64),  # rows of the table that are used
        ("measures", np.int64),  # 1 where an epoch ends with measuring
        ("held_examples", np.int64),  # validation examples
        # Their arrays: addresses, not places, as an argument that most calls have no use for costs
        # each of them a tenth of a microsecond; 0 for none.
        ("x_at", np.int64),
        ("labels_at", np.int64),
        ("values_at", np.int64),
        ("weights_at", np.int64),
        ("average", np.int64),  # what of the weights is averaged: see `codes`
        # How many of them were before this call, in steps or in ends of epochs; less than 0 where
        # others go before.
        ("averaged", np.int64),
        ("decay", np.float64),  # how much of the average each step keeps
        ("average_rate", np.int64),  # workspace: what part of its way it goes in a step
        # How a loss, its gradient and a penalty count.
        ("loss_scale", np.float64),  # times every loss
        ("gradient_scale", np.float64),  # times every gradient of a loss
        ("missing", np.int64),  # 1 where NaN among the targets' values stands for none
        ("loss_limit", np.float64),  # upper bound of a cross-entropy, per output
        # Numbers of losses, by the names that their records give them.
        ("delta", np.float64),
        ("quantile", np.float64),
        ("label_smoothing", np.float64),
        ("gamma", np.float64),
        ("power", np.float64),
        ("quantiles", np.float64, (codes.MOST_QUANTILES,)),
        ("shared_penalty", np.int64),  # 1 where L2 is divided by the weight of the batch
        # 1 where `loss_sum` counts a batch by its examples, not by their weights.
        ("by_examples", np.int64),
        # 1 where Adam's epsilon is added to the root before its correction.
        ("bare_epsilon", np.int64),
        # Keys of the streams, and how far they are.
        ("order_key", np.uint64),
        ("order_number", np.uint64),  # number of the present epoch's order
        ("mask_key", np.uint64),
        ("step_number", np.uint64),  # number of the first step that a call takes
    ],
    align=True,
)

# The optimizer's numbers: steps taken, then its record's own, by their names.
NUMBERS: Final = np.dtype(
    [
        ("steps", np.float64),
        ("learning_rate", np.float64),
        ("momentum", np.float64),
        ("nesterov", np.float64),
        ("beta_1", np.float64),
        ("beta_2", np.float64),
        ("epsilon", np.float64),
        ("weight_decay", np.float64),
        ("rho", np.float64),
        ("decrease", np.float64),
        ("increase", np.float64),
        ("smallest", np.float64),
        ("largest", np.float64),
        ("clip_norm", np.float64),
    ],
    align=True,
)

# The engine's report; what a fit stops by is read too.
REPORT: Final = np.dtype(
    [
        ("steps_done", np.int64),
        ("trouble", np.int64),
        ("best_value", np.float64),  # of what is watched, times its sign
        ("to_beat", np.float64),  # the same, by more than `min_delta`
        ("waited", np.int64),  # epochs since it was beaten
        ("stopped", np.int64),  # 1 where the fit shall end
    ],
    align=True,
)

# The engine's record of an epoch.
RECORD: Final = np.dtype(
    [
        # Sum over steps of (batch loss with penalty) x (what the batch counts).
        ("loss_sum", np.float64),
        ("weight_sum", np.float64),
        # Where epochs end with measuring: values of training and of validation examples.
        ("values", np.float64, (2, codes.SLOTS)),
    ],
    align=True,
)

# How a quasi-Newton search stands.
SEARCH: Final = np.dtype(
    [
        ("task", np.int64),  # what is asked for; see `codes`
        ("accepted", np.int64),  # 1 where the last point ended an iteration
        ("stored", np.int64),  # pairs that are kept
        ("newest", np.int64),  # place of the newest of them
        ("iterations", np.int64),
        ("tries", np.int64),  # points of the present line search
        ("bracketed", np.int64),  # 1 where a minimum lies between the two ends
        ("descended", np.int64),  # 1 from where the loss has fallen enough and the slope is not < 0
        ("tolerance", np.float64),  # of the largest element of the gradient
        ("reduction", np.float64),  # least relative reduction of the loss
        ("loss", np.float64),  # where the gradient is wanted, or was found last
        ("start_loss", np.float64),  # where the line begins
        ("start_slope", np.float64),
        ("scale", np.float64),  # the curvature along the newest pair: y'y / s'y
        ("step", np.float64),
        ("shortest", np.float64),  # of the present interval
        ("longest", np.float64),
        ("width", np.float64),
        ("width_before", np.float64),
        ("best_step", np.float64),  # the end with the least loss
        ("best_loss", np.float64),
        ("best_slope", np.float64),
        ("other_step", np.float64),  # the other end
        ("other_loss", np.float64),
        ("other_slope", np.float64),
    ],
    align=True,
)

_NOTHING: Final[Row] = {
    name: codes.NONE if np.issubdtype(OPERATION[name], np.integer) else 0.0
    for name in OPERATION.names or ()
}
_UNPLANNED: Final[Row] = {
    name: (0,) * PLAN[name].shape[0] if PLAN[name].shape else 0 for name in PLAN.names or ()
}


def copied(record: NDArray[np.void]) -> NDArray[np.void]:
    """Return a copy of records, as NumPy copies field by field (2.9 us instead of 0.4 for one)."""
    return np.ndarray(record.shape, record.dtype, bytearray(record.tobytes()))


def repeated(record: NDArray[np.void], count: int) -> NDArray[np.void]:
    """Return so many copies of records, along a first axis that they then have."""
    return np.ndarray((count, *record.shape), record.dtype, bytearray(record.tobytes() * count))


def joined(record: NDArray[np.void], other: NDArray[np.void]) -> NDArray[np.void]:
    """Return records and others, along their first axis."""
    shape = (len(record) + len(other), *record.shape[1:])
    return np.ndarray(shape, record.dtype, bytearray(record.tobytes() + other.tobytes()))


def written(rows: Sequence[Row], dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """Return rows as records, whole ones at a time, which takes a fifth of field by field."""
    return np.array([tuple(row.values()) for row in rows], dtype)


def operation() -> Row:
    """Return a row of the operation table of an operation that has nothing yet."""
    return _NOTHING.copy()


def plan() -> Row:
    """Return a plan of which nothing is known yet."""
    return _UNPLANNED.copy()
