"""The networks and data that every benchmark works on.

Frozen: a workload that is here stays as it is, or its history means nothing; new ones are
added at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fastnn as fn


@dataclass(frozen=True)
class Workload:
    """A network, how it is trained, and the data that it is trained on."""

    widths: tuple[int, ...]
    activation: str
    last: str
    rows: int
    batch_size: int
    seed: int

    def network(self, dtype: str = "float32") -> fn.Sequential:
        """Return the network with its first weights."""
        inputs, *hidden, outputs = self.widths
        layers = [fn.Dense(units, activation=self.activation) for units in hidden]
        layers.append(fn.Dense(outputs, activation=self.last))
        return fn.Sequential(layers, inputs=inputs, dtype=dtype, rng=self.seed)

    def data(self, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
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
        self, net: fn.Sequential, X: np.ndarray, y: np.ndarray, backend: str, epochs: int = 1
    ) -> fn.History:
        """Train a network as this workload is trained."""
        return net.fit(
            X, y, epochs=epochs, batch_size=self.batch_size, progress=False, backend=backend
        )


WORKLOADS = {
    "8-32-32-1 b32": Workload((8, 32, 32, 1), "relu", "identity", 2048, 32, seed=1),
    "30-64-64-2 b64": Workload((30, 64, 64, 2), "relu", "softmax", 2048, 64, seed=2),
    "64-100-10 b200": Workload((64, 100, 10), "relu", "softmax", 2000, 200, seed=3),
    "784-128-10 b128": Workload((784, 128, 10), "relu", "softmax", 2048, 128, seed=4),
    "784-512-512-10 b128": Workload((784, 512, 512, 10), "relu", "softmax", 1024, 128, seed=5),
    "4-32-16-4 tanh full": Workload((4, 32, 16, 4), "tanh", "identity", 10_000, 10_000, seed=6),
}
