"""The measured multiply-add peak of this machine, of which every rate is given as a fraction.

A loop of fused multiply-adds on vectors in registers, with enough independent sums to hide the
latency, and no memory access.  ``python -m benchmarks.peak`` prints it.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from typing import Any

import numba
import numpy as np
from numba.core import types

from fastnn.kernels import simd
from fastnn.kernels._jit import intrinsic

from .cores import keep_to, physical_cores

__all__ = ["fma_peak"]

# Independent sums: eight would suffice for two units with a latency of four cycles; the registers
# have room for more besides the two factors.
SUMS = 24 if simd.REGISTERS == 32 else 12


def _multiply_add(values: Any, turns: int) -> None:
    """Do the same in NumPy."""
    width = (values.size - 2) // SUMS
    sums, x, y = values[: SUMS * width], values[-2], values[-1]
    for _ in range(turns):
        sums[:] = sums * x + y


@intrinsic(_multiply_add)
def multiply_add(typing: Any, values: Any, turns: Any) -> Any:
    """Repeat ``sum = sum x + y`` on as many vectors as `SUMS` says.

    Reads: x and y, the last two of values.  Writes: the vectors before them.
    May overwrite: nothing else.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        data = simd.data_pointer(context, builder, kind, arguments[0])
        v = simd.Vectors(builder, context.get_data_type(kind.dtype))
        end = SUMS * v.lanes
        x, y = (v.splat(builder.load(builder.gep(data, [simd.int64(end + n)]))) for n in range(2))
        places = [simd.int64(n * v.lanes) for n in range(SUMS)]
        sums = [simd.variable(builder, v.load(data, place)) for place in places]

        def body(_: Any) -> None:
            for total in sums:
                builder.store(v.fma(builder.load(total), x, y), total)

        simd.count_loop(builder, arguments[1], body)
        for total, place in zip(sums, places, strict=True):
            v.store(builder.load(total), data, place)
        return context.get_dummy_value()

    return types.void(values, types.intp), generate


# Not through the library's cache, whose files are named by the library's sources alone.
@numba.njit(nogil=True)
def turn(values: Any, turns: int) -> None:
    multiply_add(values, turns)


def fma_peak(dtype: str = "float32", threads: int = 1, repeats: int = 5) -> float:
    """Measure the multiply-add peak.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        Of the numbers.
    threads : int
        Threads that compute at once, each pinned to a physical core of its own.
    repeats : int
        Runs, of which the fastest counts, as noise only slows down.

    Returns
    -------
    float
        FLOP/s of all threads together; a multiply-add counts two.
    """
    itemsize = np.dtype(dtype).itemsize
    lanes = simd.BYTES // itemsize
    start = np.ones(SUMS * lanes + 2, dtype)
    # The sums stay near one: nothing grows, nothing vanishes.
    start[-2:] = 0.5
    turn(start.copy(), 1)
    turns = 1000
    while _seconds(start, turns, 1) < 0.02:
        turns *= 2
    best = min(_seconds(start, turns, threads) for _ in range(repeats))
    return 2.0 * SUMS * lanes * turns * threads / best


def _seconds(start: Any, turns: int, threads: int) -> float:
    """Return the time from the common start to the end of the last thread."""
    began: list[float] = []
    ended: list[float] = []
    together = threading.Barrier(threads, action=lambda: began.append(time.perf_counter()))
    cores = physical_cores()

    def work(core: int) -> None:
        keep_to([core])
        values = start.copy()
        together.wait()
        turn(values, turns)
        ended.append(time.perf_counter())

    team = [threading.Thread(target=work, args=(cores[n % len(cores)],)) for n in range(threads)]
    for member in team:
        member.start()
    for member in team:
        member.join()
    return max(ended) - began[0]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peak", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    arguments = parser.parse_args()
    print(json.dumps({"flops_a_second": fma_peak(arguments.dtype, arguments.threads)}))


if __name__ == "__main__":
    main()
