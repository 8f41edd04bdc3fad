"""The kernels: matrix products by shape, dtype and threads, as a share of the peak.

They are called through the public interface.  ``forward`` is a prediction through one layer: one
product.  ``step`` is a training step through two layers of the same width: five products and the
optimizer.  Only the products are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fn

from .cores import THREADS, keep_to, physical_cores
from .measures import best_seconds, share_of_peak
from .peak import fma_peak
from .units import unit

# Rows of a batch x width: powers of two, something between them, and more than a cache holds.
SHAPES = {
    "32 x 32": (32, 32),
    "200 x 100": (200, 100),
    "128 x 256": (128, 256),
    "512 x 512": (512, 512),
    "256 x 1024": (256, 1024),
}
DTYPES = ("float32", "float64")

# Of a fit that is measured, at least.
_FLOPS = 500_000_000


class Peak:
    """The peak, of which all other rates are a fraction."""

    params = (DTYPES, THREADS)
    param_names = ("dtype", "threads")

    def setup(self, dtype: str, threads: int) -> None:
        keep_to(physical_cores()[-threads:])

    @unit("GFLOP/s")
    def track_rate(self, dtype: str, threads: int) -> float:
        return fma_peak(dtype, threads) / 1e9


class Products:
    """Rates of a prediction through one layer, and of a step through two."""

    params = (list(SHAPES), ("forward", "step"), DTYPES, THREADS)
    param_names = ("batch x width", "what", "dtype", "threads")
    timeout = 300

    def setup(self, shape: str, what: str, dtype: str, threads: int) -> None:
        keep_to(physical_cores()[-threads:])
        rows, width = SHAPES[shape]
        rng = np.random.default_rng(0)
        X = rng.standard_normal((rows, width)).astype(dtype)
        y = rng.standard_normal((rows, width)).astype(dtype)
        product = 2 * rows * width * width
        if what == "forward":
            self.flops, self.work = product, _forward(X)
        else:
            # So many that the fixed cost of a fit is small.
            steps = -(-_FLOPS // (5 * product))
            self.flops, self.work = 5 * product * steps, _fit(X, y, steps, threads)
        # The first call compiles.
        self.work()

    @unit("GFLOP/s")
    def track_rate(self, shape: str, what: str, dtype: str, threads: int) -> float:
        return self.flops / best_seconds(self.work) / 1e9

    @unit("% of peak")
    def track_share(self, shape: str, what: str, dtype: str, threads: int) -> float:
        return share_of_peak(self.flops, self.work, dtype, threads)


def _forward(X: Any) -> Callable[[], Any]:
    """Return a prediction through one layer.  Threads follow the cores it is pinned to."""
    width = X.shape[1]
    net = fn.Sequential([fn.Dense(width)], inputs=width, dtype=X.dtype)
    out = np.empty_like(X)
    return lambda: net.predict(X, out=out)


def _fit(X: Any, y: Any, steps: int, threads: int) -> Callable[[], Any]:
    """Return a fit of so many full batches through two layers."""
    width = X.shape[1]
    layers = [fn.Dense(width, activation="relu"), fn.Dense(width)]
    net = fn.Sequential(layers, inputs=width, dtype=X.dtype)
    return lambda: net.fit(X, y, epochs=steps, batch_size=len(X), threads=threads, progress=False)
