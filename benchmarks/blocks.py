"""What it costs to read examples block by block: epochs beside those on arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import fastnn as fn

from .cores import keep_to, physical_cores

# Sizes of layers, and rows of an epoch.
NETWORKS = {
    "784-256-10": ((784, 256, 10), 30_000),
    "30-64-64-2": ((30, 64, 64, 2), 60_000),
}
# Arrays, and blocks of 10 000 rows, read in the caller's thread or in another.
WAYS = ("arrays", "blocks", "blocks, no prefetch")


class Reading:
    """An epoch of batches of 32, in one thread; reading ahead has a core of its own."""

    params = (list(NETWORKS), list(WAYS))
    param_names = ("network", "way")
    number = 1
    warmup_time = 0
    min_run_count = 5

    def setup(self, name: str, way: str) -> None:
        keep_to(physical_cores()[-2:])
        (inputs, *hidden, outputs), rows = NETWORKS[name]
        layers = [*(fn.Dense(units, "relu") for units in hidden), fn.Dense(outputs, "softmax")]
        self.net = fn.Sequential(layers, inputs=inputs, rng=0)
        rng = np.random.default_rng(0)
        X = rng.normal(size=(rows, inputs)).astype("float32")
        y = rng.integers(outputs, size=rows)

        def read() -> Iterator[Any]:
            for start in range(0, rows, 10_000):
                yield X[start : start + 10_000], y[start : start + 10_000]

        blocks = fn.Blocks(read, rows=rows, prefetch=way == WAYS[1])
        self.given: tuple[Any, Any] = (X, y) if way == WAYS[0] else (blocks, None)
        self.time_epoch(name, way)

    def time_epoch(self, name: str, way: str) -> None:
        self.net.fit(*self.given, epochs=1, batch_size=32, threads=1, progress=False)
