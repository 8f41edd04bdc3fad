"""The networks and data that every benchmark works on.

Append-only: an existing workload never changes, as its history would become meaningless; new ones
are added at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fn

__all__ = ["NETWORKS", "SERIES", "WORKLOADS", "Workload", "workload_named"]

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Workload:
    """A network, how it is trained, and the data that it is trained on."""

    widths: tuple[int, ...]
    activation: str
    last: str
    rows: int
    batch_size: int
    seed: int

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.rows // self.batch_size)

    @property
    def flops(self) -> int:
        """Floating-point operations of a step: those of the matrix products only.

        A layer has three products of 2 x batch x inputs x outputs each, the first layer two, as
        the gradient of the examples is not needed.
        """
        pairs = zip(self.widths[:-1], self.widths[1:], strict=True)
        products = [inputs * outputs * 3 for inputs, outputs in pairs]
        products[0] = products[0] // 3 * 2
        return 2 * self.batch_size * sum(products)

    @property
    def prediction_flops(self) -> int:
        """Floating-point operations of one row's prediction: those of the products again."""
        pairs = zip(self.widths[:-1], self.widths[1:], strict=True)
        return sum(2 * inputs * outputs for inputs, outputs in pairs)

    def network(self, dtype: str = "float32") -> fn.Sequential:
        """Return the network with its first weights."""
        inputs, *hidden, outputs = self.widths
        layers = [fn.Dense(units, activation=self.activation) for units in hidden]
        layers.append(fn.Dense(outputs, activation=self.last))
        return fn.Sequential(layers, inputs=inputs, dtype=dtype, rng=self.seed)

    def data(self, dtype: str = "float32") -> tuple[Floats, NDArray[Any]]:
        """Return X and y: what a fixed random network of one hidden layer makes of noise."""
        rng = np.random.default_rng(self.seed)
        inputs, outputs = self.widths[0], self.widths[-1]
        X = rng.standard_normal((self.rows, inputs))
        hidden = np.tanh(X @ rng.standard_normal((inputs, 16)) / np.sqrt(inputs))
        y = hidden @ rng.standard_normal((16, outputs))
        if self.last == "softmax":
            return X.astype(dtype), y.argmax(axis=1)
        return X.astype(dtype), y.astype(dtype)

    def epochs(
        self,
        net: fn.Sequential,
        X: Floats,
        y: NDArray[Any],
        backend: str = "native",
        epochs: int = 1,
        threads: int | None = None,
    ) -> fn.History:
        """Train a network as this workload is trained."""
        return net.fit(
            X,
            y,
            epochs=epochs,
            batch_size=self.batch_size,
            threads=threads,
            progress=False,
            backend=backend,
        )


WORKLOADS = {
    "8-32-32-1 b32": Workload((8, 32, 32, 1), "relu", "identity", 2048, 32, seed=1),
    "30-64-64-2 b64": Workload((30, 64, 64, 2), "relu", "softmax", 2048, 64, seed=2),
    "64-100-10 b200": Workload((64, 100, 10), "relu", "softmax", 2000, 200, seed=3),
    "784-128-10 b128": Workload((784, 128, 10), "relu", "softmax", 2048, 128, seed=4),
    "784-512-512-10 b128": Workload((784, 512, 512, 10), "relu", "softmax", 1024, 128, seed=5),
    "4-32-16-4 tanh full": Workload((4, 32, 16, 4), "tanh", "identity", 10_000, 10_000, seed=6),
    "3x1024 b256": Workload((1024,) * 4, "relu", "softmax", 1024, 256, seed=7),
    "1024-2048-2048-1000 b512": Workload(
        (1024, 2048, 2048, 1000), "relu", "softmax", 1024, 512, seed=8
    ),
}

#: How time grows: with one quantity at a time, all others fixed.
SERIES = {
    "width": {
        f"64-{h}-{h}-10 b128": Workload((64, h, h, 10), "relu", "softmax", 2048, 128, seed=11)
        for h in (8, 16, 32, 64, 128, 256, 512, 1024)
    },
    "depth": {
        f"64-{d}x64-10 b128": Workload((64, *[64] * d, 10), "relu", "softmax", 2048, 128, seed=12)
        for d in (1, 2, 4, 8, 16)
    },
    "batch": {
        f"64-100-10 b{b}": Workload((64, 100, 10), "relu", "softmax", 4096, b, seed=13)
        for b in (8, 32, 128, 512, 2048)
    },
    "examples": {
        f"30-64-64-2 b64 n{n}": Workload((30, 64, 64, 2), "relu", "softmax", n, 64, seed=14)
        for n in (1024, 8192, 65_536, 262_144)
    },
}

#: The networks of the predictions: a control policy, a classifier of small images, one in between,
#: and one of wider layers, whose rows of weights are 4 KiB apart.
NETWORKS = {
    "8-64-64-2": Workload((8, 64, 64, 2), "relu", "softmax", 10_000, 64, seed=21),
    "784-512-512-10": Workload((784, 512, 512, 10), "relu", "softmax", 10_000, 128, seed=22),
    "64-256-256-10": Workload((64, 256, 256, 10), "relu", "softmax", 10_000, 128, seed=23),
    "256-1024-1024-10": Workload((256, 1024, 1024, 10), "relu", "softmax", 10_000, 128, seed=24),
}


def workload_named(name: str) -> Workload:
    """Return the workload of a name, wherever it stands."""
    every: dict[str, Workload] = dict(WORKLOADS)
    for members in SERIES.values():
        every |= members
    return every[name]
