"""What the end of an epoch costs: validation, metrics and early stopping beside the plain epoch.

``python -m benchmarks.epoch_ends`` prints a table: how many times as long as the plain epoch it
takes with the mean of weights, with a fifth as many validation examples, with a metric too, with
five, and in an estimator's fit with early stopping, as many epochs of each.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

import fastnn as fn

from .cores import THREADS, keep_to, physical_cores
from .units import unit

DTYPES = ("float32", "float64")

# Widths, last activation, examples, examples of a batch.
NETWORKS: dict[str, tuple[tuple[int, ...], str, int, int]] = {
    "20-50-1, 100 rows": ((20, 50, 1), "identity", 100, 32),
    "30-64-64-2, 1000 rows": ((30, 64, 64, 2), "softmax", 1000, 32),
    "30-64-64-2, 10 000 rows": ((30, 64, 64, 2), "softmax", 10_000, 32),
    "784-256-10, 2000 rows": ((784, 256, 10), "softmax", 2000, 32),
}
PLAIN, MEAN, EARLY = "plain", "an average of weights", "early stopping of an estimator"
ENDS = (
    PLAIN, MEAN, "validation", "validation and a metric", "validation and five metrics", EARLY,
)  # fmt: skip
OF_CLASSES = ("accuracy", "balanced_accuracy", "f1_macro", "log_loss", "top_1_accuracy")
OF_NUMBERS = ("mse", "rmse", "mae", "mape", "r2")

# Seconds of one fit, and fits of each kind, of which the median counts.
_FIT = 0.1
_ROUNDS = 7


class Fits:
    """One network, and fits of it that end their epochs in several ways."""

    def __init__(self, name: str, dtype: str, threads: int) -> None:
        widths, last, rows, batch = NETWORKS[name]
        rng = np.random.default_rng(0)
        hidden = [fn.Dense(units, "relu") for units in widths[1:-1]]
        self.network = fn.Sequential(
            [*hidden, fn.Dense(widths[-1], last)], inputs=widths[0], dtype=dtype, rng=0
        )
        X, V = (rng.normal(size=(n, widths[0])).astype(dtype) for n in (rows, rows // 5))
        y: np.ndarray[Any, Any]
        v: np.ndarray[Any, Any]
        if last == "softmax":
            y, v = (rng.integers(0, widths[-1], len(part)) for part in (X, V))
        else:
            y, v = (rng.normal(size=len(part)) for part in (X, V))
        metric = "accuracy" if last == "softmax" else "mean_absolute_error"
        held = {"X_val": V, "y_val": v}
        self.ends: dict[str, dict[str, Any]] = {
            PLAIN: {},
            MEAN: {"average": fn.SWA(0)},
            "validation": held,
            "validation and a metric": {**held, "metrics": metric},
            "validation and five metrics": {
                **held,
                "metrics": OF_CLASSES if last == "softmax" else OF_NUMBERS,
            },
        }
        self._fit: dict[str, Any] = {"batch_size": batch, "threads": threads, "progress": False}
        self._data, self._held = (X, y), (V, v)
        self._kind = fn.MLPClassifier if last == "softmax" else fn.MLPRegressor
        # Two classes have one output there, as in scikit-learn.
        self._settings: dict[str, Any] = {
            "hidden_layer_sizes": widths[1:-1], "batch_size": batch, "n_threads": threads,
            "tol": 0.0, "n_iter_no_change": 10**9, "random_state": 0,
        }  # fmt: skip

    def seconds(self, end: str, epochs: int) -> float:
        """Return how long so many epochs take, further from where the last ones ended."""
        (X, y), settings = self._data, {**self._fit, **self.ends[end]}
        began = time.perf_counter()
        self.network.fit(X, y, epochs=epochs, **settings)
        return time.perf_counter() - began

    def early(self, epochs: int, *, stopping: bool) -> float:
        """Return how long an estimator's fit of so many epochs takes."""
        one = self._kind(**self._settings, max_iter=epochs, early_stopping=stopping)
        held = {"validation_data": self._held} if stopping else {}
        began = time.perf_counter()
        with warnings.catch_warnings():
            # It has not converged.
            warnings.simplefilter("ignore")
            one.fit(*self._data, **held)
        return time.perf_counter() - began

    def epochs(self) -> int:
        """Return how many plain epochs fill a fit that is long enough to time."""
        self.seconds(PLAIN, 1)
        count = 1
        while self.seconds(PLAIN, count) < _FIT:
            count *= 2
        return count


def ratios(name: str, dtype: str, threads: int, rounds: int = _ROUNDS) -> dict[str, float]:
    """Return, of each way to end epochs, the median of its times relative to plain epochs."""
    fits = Fits(name, dtype, threads)
    count = fits.epochs()
    found: dict[str, list[float]] = {end: [] for end in ENDS}
    # The first round warms up.
    for number in range(rounds + 1):
        times = {end: fits.seconds(end, count) for end in fits.ends}
        early, late = (fits.early(count, stopping=stopping) for stopping in (True, False))
        for end in fits.ends if number else ():
            found[end].append(times[end] / times[PLAIN])
        if number:
            found[EARLY].append(early / late)
    return {end: statistics.median(values) for end, values in found.items()}


class EpochEnd:
    """The time of an epoch relative to the plain one, by what is measured at its end."""

    params = (list(NETWORKS), DTYPES, THREADS, ENDS[1:])
    param_names = ("network", "dtype", "threads", "measured")
    timeout = 600

    def setup(self, network: str, dtype: str, threads: int, measured: str) -> None:
        keep_to(physical_cores()[-threads:])

    @unit("times the plain epoch")
    def track_ratio(self, network: str, dtype: str, threads: int, measured: str) -> float:
        return ratios(network, dtype, threads)[measured]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.epoch_ends", description=__doc__)
    parser.add_argument("--only", default="", help="networks whose names contain this")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--dtypes", nargs="*", default=list(DTYPES))
    options = parser.parse_args(arguments)
    fn.warmup()
    print(f"| network | dtype | threads | {' | '.join(ENDS[1:])} |")
    print(f"| --- | --- | ---: |{' ---: |' * len(ENDS[1:])}")
    for name in (name for name in NETWORKS if options.only in name):
        for dtype in options.dtypes:
            for threads in options.threads:
                keep_to(physical_cores()[-threads:])
                found = ratios(name, dtype, threads)
                cells = " | ".join(f"{found[end]:.2f}" for end in ENDS[1:])
                print(f"| {name} | {dtype} | {threads} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
