"""Searches and derivatives: Levenberg-Marquardt beside Adam, L-BFGS, Jacobians, attributions.

``python -m benchmarks.second_order`` prints the table of docs/benchmarks.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fn

from .cores import keep_to, physical_cores

Array = NDArray[Any]

_EPOCHS = 20_000


def _friedman(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    X = rng.random((n, 5))
    y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2
    return X, (y + 10 * X[:, 3] + 5 * X[:, 4]) / 5


def _wave(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    X = rng.uniform(-1, 1, (n, 1))
    return X, np.sin(9 * X[:, 0]) * np.exp(-(X[:, 0] ** 2))


def _saddle(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    X = rng.uniform(-1, 1, (n, 2))
    return X, X[:, 0] ** 2 - X[:, 1] ** 2 + 0.05 * rng.standard_normal(n)


def _arm(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    X = rng.uniform(0, np.pi, (n, 2))
    angles = X[:, 0] + X[:, 1]
    ends = [np.cos(X[:, 0]) + np.cos(angles), np.sin(X[:, 0]) + np.sin(angles)]
    return X, np.stack(ends, axis=1)


def _noisy(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    X = rng.standard_normal((n, 8))
    return X, np.tanh(X[:, 0] * X[:, 1]) + 0.5 * X[:, 2] + 0.1 * rng.standard_normal(n)


Draw = Callable[[np.random.Generator, int], tuple[Array, Array]]

#: What is drawn, examples and units of the hidden layer.
PROBLEMS: dict[str, tuple[Draw, int, int]] = {
    "wave": (_wave, 100, 10),
    "saddle": (_saddle, 300, 10),
    "noisy product": (_noisy, 500, 10),
    "arm of two joints": (_arm, 1000, 20),
    "Friedman": (_friedman, 2000, 20),
}


def problem(name: str) -> tuple[Array, Array, fn.Sequential]:
    """Return examples and a network that has not learnt yet."""
    draw, n, hidden = PROBLEMS[name]
    X, y = draw(np.random.default_rng(0), n)
    outputs = 1 if y.ndim == 1 else y.shape[1]
    layers = [fn.Dense(hidden, "tanh"), fn.Dense(outputs)]
    return X, y, fn.Sequential(layers, inputs=X.shape[1], dtype="float64", rng=0)


def beside_adam(name: str, epochs: int = _EPOCHS) -> tuple[float, float, float, float]:
    """Return Adam's best loss and its seconds, and the loss and seconds that it took to reach it.

    Both start at the same weights; Adam takes batches of 32.
    """
    X, y, net = problem(name)
    other = net.copy()
    for one, optimizer in ((net.copy(), "adam"), (net.copy(), "levenberg_marquardt")):
        one.fit(X, y, optimizer=optimizer, epochs=1, threads=1)
    began = time.process_time()
    history = net.fit(X, y, epochs=epochs, threads=1)
    adam = time.process_time() - began
    best = min(history["loss"])

    def reached(run: Any) -> None:
        if run.logs["loss"] <= best:
            run.stop("reached")

    # How many iterations that takes, and then how long they take.
    needed = other.copy().fit(
        X, y, optimizer="levenberg_marquardt", epochs=2000, threads=1, callbacks=reached
    )
    began = time.process_time()
    history = other.fit(X, y, optimizer="levenberg_marquardt", epochs=needed.epochs, threads=1)
    return best, adam, history["loss"][-1], time.process_time() - began


class Search:
    """Fifty iterations of each search."""

    params = (["wave", "Friedman"], ["lbfgs", "levenberg_marquardt"])
    param_names = ("problem", "optimizer")
    number = 1
    warmup_time = 0
    min_run_count = 5
    timeout = 600

    def setup(self, name: str, optimizer: str) -> None:
        keep_to(physical_cores()[-1:])
        self.X, self.y, self.net = problem(name)
        self.time_fit(name, optimizer)

    def time_fit(self, name: str, optimizer: str) -> None:
        net = self.net.copy()
        net.fit(self.X, self.y, optimizer=optimizer, epochs=50, threads=1, progress=False)


class Derivative:
    """Derivatives of 10-64-64-3 for 10 000 rows, on one core."""

    params = (["jacobian", "vjp", "jvp", "attribute"],)
    param_names = ("what",)
    number = 1
    warmup_time = 0
    min_run_count = 5
    timeout = 600

    def setup(self, what: str) -> None:
        keep_to(physical_cores()[-1:])
        rng = np.random.default_rng(0)
        layers = [fn.Dense(64, "tanh"), fn.Dense(64, "tanh"), fn.Dense(3)]
        self.net = fn.Sequential(layers, inputs=10, rng=0)
        X, U, V = (rng.standard_normal((10_000, k)).astype(np.float32) for k in (10, 3, 10))
        asked: dict[str, Callable[[], Any]] = {
            "jacobian": lambda: self.net.jacobian(X),
            "vjp": lambda: self.net.vjp(X, U),
            "jvp": lambda: self.net.jvp(X, V),
            "attribute": lambda: self.net.attribute(
                X[:1000], X[:100], "expected_gradients", output=0
            ),
        }
        self.asked = asked[what]
        self.asked()

    def time_derivative(self, what: str) -> None:
        self.asked()


def main() -> int:
    """Print the table."""
    keep_to(physical_cores()[-1:])
    print(
        "| problem | examples | parameters | best of Adam | s | Levenberg-Marquardt | s | times |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, (_, n, _) in PROBLEMS.items():
        best, adam, found, seconds = beside_adam(name)
        size = problem(name)[2].parameters.size
        print(
            f"| {name} | {n} | {size} | {best:.3g} | {adam:.2f} | {found:.3g} | {seconds:.3f} | "
            f"{adam / seconds:.0f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
