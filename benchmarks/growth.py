"""How the time of a step grows: with width, depth, batch and the number of examples.

``python -m benchmarks.growth`` prints how that of a whole fit does, with epochs, rows, columns,
layers, classes and callbacks: times of fits that are each twice as large as the one before, and the
exponent between the last two, where 1 is linear.  Columns and classes count in the first and the
last layer only, so that theirs may be below 1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fn

from .cores import keep_to, physical_cores
from .measures import best_seconds
from .units import unit
from .workloads import SERIES


class _Growth:
    """One quantity grows, all others are fixed; one thread, float32."""

    series: str
    params: tuple[int, ...]
    timeout = 300

    def setup(self, size: int) -> None:
        keep_to(physical_cores()[-1:])
        members = list(SERIES[self.series].values())
        self.workload = members[self.params.index(size)]
        self.net = self.workload.network()
        self.X, self.y = self.workload.data()
        # The first call compiles.
        self.epoch()

    def epoch(self) -> None:
        self.workload.epochs(self.net, self.X, self.y, threads=1)

    @unit("us per step")
    def track_step(self, size: int) -> float:
        return 1e6 * best_seconds(self.epoch) / self.workload.steps

    @unit("loss")
    def track_loss(self, size: int) -> float:
        """Return the loss after two epochs: speed is never shown without it."""
        self.epoch()
        return float(self.net.evaluate(self.X, self.y)["loss"])


class Width(_Growth):
    series = "width"
    params = tuple(workload.widths[1] for workload in SERIES["width"].values())
    param_names = ("width",)


class Depth(_Growth):
    series = "depth"
    params = tuple(len(workload.widths) - 2 for workload in SERIES["depth"].values())
    param_names = ("hidden layers",)


class Batch(_Growth):
    series = "batch"
    params = tuple(workload.batch_size for workload in SERIES["batch"].values())
    param_names = ("batch",)


class Examples(_Growth):
    series = "examples"
    params = tuple(workload.rows for workload in SERIES["examples"].values())
    param_names = ("examples",)


ROUNDS = 5


def fitted(
    *, epochs: int = 4, rows: int = 2000, columns: int = 16, layers: int = 1, classes: int = 4,
    **settings: Any,
) -> float:  # fmt: skip
    """Return the seconds of a fit on one thread, the minimum of a few."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, columns)).astype(np.float32)
    y = rng.integers(0, classes, rows)
    hidden = [fn.Dense(32, "relu") for _ in range(layers)]
    best = math.inf
    for _ in range(ROUNDS):
        net = fn.Sequential([*hidden, fn.Dense(classes, "softmax")], inputs=columns)
        began = time.perf_counter()
        net.fit(X, y, epochs=epochs, threads=1, progress=False, **settings)
        best = min(best, time.perf_counter() - began)
    return best


def few(epochs: int, **settings: Any) -> float:
    """Return the seconds of a fit of many epochs of hardly any rows."""
    return fitted(epochs=epochs, rows=8, columns=2, classes=2, **settings)


CASES: dict[str, tuple[Callable[[int], float], tuple[int, ...]]] = {
    "epochs": (few, (1000, 2000, 4000, 8000)),
    "epochs, a schedule": (lambda n: few(n, schedule="constant"), (1000, 2000, 4000, 8000)),
    "epochs, a plateau": (
        lambda n: few(n, schedule=fn.ReduceOnPlateau("loss")), (500, 1000, 2000, 4000),
    ),
    "epochs, a callback that reads": (
        lambda n: few(n, callbacks=lambda run: run.history["loss"][-1]), (500, 1000, 2000, 4000),
    ),
    "epochs, a metric": (lambda n: few(n, metrics="accuracy"), (250, 500, 1000, 2000)),
    "rows": (lambda n: fitted(rows=n), (2000, 4000, 8000, 16_000)),
    "columns": (lambda n: fitted(columns=n), (64, 128, 256, 512)),
    "layers": (lambda n: fitted(layers=n), (4, 8, 16, 32)),
    "classes": (lambda n: fitted(classes=n), (32, 64, 128, 256)),
    "callbacks": (
        lambda n: few(500, callbacks=[lambda run: None] * n), (8, 16, 32, 64),
    ),
}  # fmt: skip


def exponent(sizes: tuple[int, ...], times: list[float]) -> float:
    """Return the power of the size with which the last two times grow."""
    return math.log(times[-1] / times[-2]) / math.log(sizes[-1] / sizes[-2])


def main() -> None:
    """Measure, and print a table."""
    fn.warmup()
    print(f"{'':<30}{'milliseconds':<52}exponent")
    for name, (run, sizes) in CASES.items():
        times = [run(size) for size in sizes]
        said = ", ".join(
            f"{size}: {1e3 * seconds:.1f}" for size, seconds in zip(sizes, times, strict=True)
        )
        print(f"{name:<30}{said:<52}{exponent(sizes, times):.2f}")


if __name__ == "__main__":
    main()
