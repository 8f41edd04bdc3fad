"""The figures that trade one cost for another, in one record.

`current` is the record in force.  Rooms read it when they plan a run or choose what to do next,
as ``tuning.current.chunk_elements``; where a single row or a step is answered from a plan, nothing
of it is read.  The sizes of register blocks and of blocks in the caches are compiled into the
kernels, and stand beside them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Tuning", "current", "forget_with", "tuning"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tuning:
    """Every figure that tunes, each with what it trades and where its value comes from.

    No figure changes what a network learns, but those of chunks and groups decide in which order
    sums are taken, and so their last bits.  Records are compared by identity, so that one can be
    part of a key at the cost of a pointer.

    Attributes
    ----------
    chunk_elements : int
        Elements of activations that one chunk of rows may fill.  More need fewer passes over the
        weights; fewer stay in the L2 cache from the forward pass to the backward pass.  128 KiB
        of float32: an eighth to a quarter of the L2 cache of common processors, so that weights
        and gradients have room beside them.
    smallest_chunk : int
        Rows of a chunk at the least, however wide the layers are: with fewer the weights are read
        too often.  Up to so many rows, runs of single calls are planned for the next power of two.
    groups : int
        Groups of chunks at the most, each of which sums a gradient of its own.  More groups let
        more threads work without sharing a chunk, and take more memory and a longer last sum.
    fewest_groups : int
        Chunks of a batch from which on they are grouped.  With fewer, threads share each chunk.
    grouped_elements : int
        Elements that the gradients of all groups may take, 8 MiB of float32.  Each group writes a
        gradient of its own, which is read once more to add them up: with many weights that costs
        more than it saves to share no chunk.
    step_share : float
        Floating-point operations of a step, for each thread, above which another thread may pay.
        A microsecond of work at 100 GFLOP/s: about the cost of a step's barriers between cores
        that share a cache (a fifth of a microsecond each).  Above it, the trials of
        `threads.ThreadTuner` decide.
    sure_share : float
        Floating-point operations of a step, for each thread, above which several threads pay on
        any machine, so that they are started without a trial: 50 us of work, many times the cost
        of the slowest barriers (some 2 us).
    call_share : float
        Floating-point operations of a call, for each thread, that pay for starting that thread:
        0.2 ms of work, three times what Python takes to start and join one (60 us).
    helper_share : float
        Floating-point operations of a prediction, for each thread, that pay for waking a kept
        helper: 50 microseconds' work, as much as it takes a core that sleeps to be there.
    awake_share : float
        Floating-point operations of a prediction, for each thread, that pay for giving a part of it
        to a helper that is awake: some 5 microseconds' work, several times what it takes two cores
        to pass something on and back.
    linger : float
        Seconds for which a helper stays awake after a prediction.  Longer ones find it awake more
        often, and keep a core busy in vain as long after the last one.
    idle : float
        Seconds after which a helper that had nothing to do ends.
    sure_call : float
        As `sure_share`, for calls of one step, which start threads for it: 10 ms of work.
    trial_share : float
        How many times as long as a trial of another number of threads all steps must take for it
        to be allowed.  A trial may lose its whole time: this bounds the loss to 3 percent.
    timing : float
        Seconds of steps that suffice to time them: a hundred times what reading the clock and
        calling the engine take.
    second_trial : float
        How many times as long the second trial of several threads takes as the first, during
        which a core may still be waking up: 6 ms.
    hopeless : float
        Several threads that were so many times as slow as one in their first trial get no second.
    slower : float
        How many times as slow steps must have become for every number of threads to be timed
        again; less would follow the noise of the machine.
    presumed_rate : float
        Floating-point operations of a thread per second that are presumed where nothing was timed
        yet: two fifths of the peak of a core with AVX-512 in float32.
    retry, retry_at_most : float
        Seconds after which several threads that were too slow are timed again; doubled each time.
        The moment may have been bad; each retry costs a trial.
    rest_share, rest_repeated, rest_at_most : float
        After a disturbance no team of that size is started for `rest_share` times as long as it
        has cost, which bounds the loss to a tenth; twice as long where it is disturbed again
        within `rest_repeated` such times, and for `rest_at_most` seconds at the most.
    rest_share_brief : float
        As `rest_share`, for predictions: a helper that loses its core costs one time slice, while
        resting costs half of the time that one thread takes meanwhile.
    count_valid, count_share : float
        Seconds for which a count of the free cores is valid, at least, and the part of the time
        that counting may take; a count takes 10 us, or 0.3 ms where the system is slow to answer.
    doubt_share : float
        The part of the time that counting may take at first where a count is too low, as what was
        seen may end soon: the count is then valid for a short time only, twice as long each time
        until `count_share` is reached.
    recounts : int
        How often a count that has become too low is repeated at once, for `count_valid` at the
        most: the system's own work ends soon.
    recheck : float
        Seconds of steps, at the least, after which a fit that other load leaves to fewer threads
        asks again.  A call takes a hundredth of it.
    patience, patience_at_most : float
        Seconds that the leader waits for its helpers, by what they would gain.  To start a thread
        takes 0.06 ms; on a busy machine a helper may come after a whole time slice.
    credit, credit_at_most : float
        Seconds that the threads of a team may wait for each other at first, and the most that they
        may save up from what they gain.  Less drops threads for a hiccup; more waits longer for
        one that has lost its core.
    spin : float
        Seconds that a thread spins before it parks.  On a virtual machine a core that was given up
        takes long to wake up, and its thread is often scheduled on the core of the one that woke
        it: 784-128-10 took 72 to 84 ms after one disturbance where this was 0.1 ms, and 52 to 56
        otherwise.
    slice_seconds : float
        Seconds of steps that the engine takes in one call.  Longer ones save calls; Ctrl-C,
        progress and callbacks wait until it ends.  A person does not notice 0.07 s, and a call
        takes a thousandth of it.
    saving_share : float
        How many times as long as saving weights and moments takes, steps go on before they are
        saved again.  A divergence goes back to what was saved and takes the steps since again;
        saving costs a fiftieth of the time at the most.
    kept_orders : int
        Elements of the orders of examples that an estimator keeps to take steps again: 16 MiB.
    call_nanoseconds : float
        Estimated time of the predictions that are computed in one call of a kernel, which Ctrl-C
        waits for: 0.1 s.
    smallest_call : int
        Rows that such a call takes at the least, however large the network is.
    part_work : int
        Multiplications and additions of the first layer of sparse rows that a thread takes at a
        time: 0.2 ms, long beside taking the next part, short beside waiting for the last thread.
    hidden_elements : int
        Elements of the first layer's results of sparse rows that are kept at a time, 2 MiB of
        float32, so that the layers behind it find them in the caches.
    spread_columns : int
        Rows of a panel of the gradient that sparse rows are added to at a time: 256 KiB with
        AVX-512, which stay in the L2 cache.
    averaged_bytes : int
        Bytes of weights and moments from which on an average of a step's weights follows them tile
        by tile, as they pass through the caches, and not in one walk over all of them: what an L2
        cache holds.
    checked_elements : int
        Elements of an input that a check of its values looks at in one go, so that its masks stay
        small beside the data and in the L2 cache.
    largest_kernel : int
        Bytes of a file in the kernel cache above which it is not read.  The largest that was
        written has 1 MB; a planted one must not fill the memory.
    fork_patience : float
        Seconds that a fork, or the end of the process, waits for other threads' compiling.  A cold
        start takes 15; only a thread that itself waits for the forking one lets it wait in vain.

    Examples
    --------
    >>> from fastnn.tuning import Tuning, tuning
    >>> Tuning().chunk_elements
    32768
    >>> Tuning(groups=8).groups
    8
    """

    chunk_elements: int = 1 << 15
    smallest_chunk: int = 512
    groups: int = 16
    fewest_groups: int = 4
    grouped_elements: int = 1 << 21
    step_share: float = 100_000
    sure_share: float = 5_000_000
    call_share: float = 20_000_000
    helper_share: float = 5_000_000
    awake_share: float = 600_000
    linger: float = 0.0002
    idle: float = 60.0
    sure_call: float = 1_000_000_000
    trial_share: float = 30
    timing: float = 0.0005
    second_trial: float = 6
    hopeless: float = 3.0
    slower: float = 1.25
    presumed_rate: float = 1e11
    retry: float = 1.0
    retry_at_most: float = 60.0
    rest_share: float = 10
    rest_share_brief: float = 2
    rest_repeated: float = 3.0
    rest_at_most: float = 2.0
    count_valid: float = 0.001
    count_share: float = 0.02
    doubt_share: float = 0.2
    recounts: int = 10
    recheck: float = 0.005
    patience: float = 0.0001
    patience_at_most: float = 0.001
    credit: float = 0.0003
    credit_at_most: float = 0.01
    spin: float = 0.001
    slice_seconds: float = 0.07
    saving_share: float = 50
    kept_orders: int = 1 << 21
    call_nanoseconds: float = 100_000_000
    smallest_call: int = 256
    part_work: int = 10_000_000
    hidden_elements: int = 1 << 19
    spread_columns: int = 2048
    averaged_bytes: int = 1 << 19
    checked_elements: int = 1 << 18
    largest_kernel: int = 64 << 20
    fork_patience: float = 120.0


class Planned(Protocol):
    """What keeps plans that were made by the figures in force."""

    def forget(self) -> None:
        """Drop them, or make them anew."""


#: The record in force, of the whole process.
current = Tuning()

# References without a callback: Python drops an interruption that comes within one.
_planned: list[weakref.ref[Planned]] = []


def forget_with(planned: Planned) -> None:
    """Have an object's plans dropped when other figures come into force, while it lives."""
    count = len(_planned)
    if not count & (count - 1):
        # Now and then, at powers of two, those of objects that are gone are dropped.
        _planned[:] = [one for one in _planned if one() is not None]
    _planned.append(weakref.ref(planned))


@contextlib.contextmanager
def tuning(record: Tuning | None = None, /, **figures: Any) -> Iterator[Tuning]:
    """Let other figures be in force, in the whole process, until the block ends.

    Plans that were made under other figures are not used in it, nor its own after it.

    Parameters
    ----------
    record : Tuning, optional
        What to begin with; by default the one in force.
    **figures
        Fields of it to change.

    Yields
    ------
    Tuning
        The record in force.

    Examples
    --------
    >>> from fastnn import tuning as room
    >>> with room.tuning(chunk_elements=64, smallest_chunk=1) as figures:
    ...     figures.chunk_elements, room.current is figures
    (64, True)
    >>> room.current.chunk_elements
    32768
    """
    before = current
    chosen = dataclasses.replace(before if record is None else record, **figures)
    try:
        _put_in_force(chosen)
        yield chosen
    finally:
        _put_in_force(before)


def _put_in_force(record: Tuning) -> None:
    """Exchange the record, and then drop what was planned under the other one."""
    global current
    current = record
    for one in list(_planned):
        planned = one()
        if planned is not None:
            planned.forget()
