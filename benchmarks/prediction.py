"""Prediction: the latency of one row and of some rows, and the throughput of many."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn

from .cores import THREADS, keep_to, physical_cores
from .measures import best_seconds, share_of_peak
from .units import unit
from .workloads import NETWORKS

DTYPES = ("float32", "float64")
_ROWS = 10_000


class OneRow:
    """Latency, by the fast path ``net(x)`` and by ``predict``, which validates its input."""

    params = (list(NETWORKS), DTYPES)
    param_names = ("network", "dtype")

    def setup(self, network: str, dtype: str) -> None:
        keep_to(physical_cores()[-1:])
        self.net = NETWORKS[network].network(dtype)
        self.row = NETWORKS[network].data(dtype)[0][0].copy()
        # The first call compiles.
        self.net(self.row)

    def time_call(self, network: str, dtype: str) -> None:
        self.net(self.row)

    def time_predict(self, network: str, dtype: str) -> None:
        self.net.predict(self.row[None])


class SomeRows:
    """Latency of a few rows to some hundred, by ``net(x, out=y)`` and by `predict`."""

    params = (list(NETWORKS), (4, 16, 64, 256, 1000), DTYPES, THREADS)
    param_names = ("network", "rows", "dtype", "cores")

    def setup(self, network: str, rows: int, dtype: str, cores: int) -> None:
        keep_to(physical_cores()[-cores:])
        self.net = NETWORKS[network].network(dtype)
        self.X = NETWORKS[network].data(dtype)[0][:rows].copy()
        self.out = self.net(self.X)

    def time_call(self, network: str, rows: int, dtype: str, cores: int) -> None:
        self.net(self.X, out=self.out)

    def time_predict(self, network: str, rows: int, dtype: str, cores: int) -> None:
        self.net.predict(self.X, out=self.out)


class Frozen:
    """Latency from weights packed once, as they are and rounded to half their size."""

    params = (list(NETWORKS), (None, "bfloat16"), (1, 2, 4, 64, 1000), THREADS)
    param_names = ("network", "weights", "rows", "cores")

    def setup(self, network: str, weights: str | None, rows: int, cores: int) -> None:
        keep_to(physical_cores()[-cores:])
        self.frozen = NETWORKS[network].network().freeze(weights=weights)
        self.X = NETWORKS[network].data()[0][:rows].copy()
        # The first call compiles.
        self.out = self.frozen(self.X)

    def time_call(self, network: str, weights: str | None, rows: int, cores: int) -> None:
        self.frozen(self.X, out=self.out)


class WithDropout:
    """Mean and spread of a hundred passes with dropout, beside one pass without."""

    params = ((False, True), (1, 64, 5000), DTYPES)
    param_names = ("dropout", "rows", "dtype")

    def setup(self, dropout: bool, rows: int, dtype: str) -> None:
        keep_to(physical_cores()[-1:])
        layers = [fn.Dense(64, "relu"), fn.Dropout(0.3), fn.Dense(64, "relu"), fn.Dropout(0.3)]
        self.net = fn.Sequential([*layers, fn.Dense(2)], inputs=8, dtype=dtype, rng=0)
        self.X = np.random.default_rng(0).normal(size=(rows, 8)).astype(dtype)
        # The first call compiles.
        self.time_predict(dropout, rows, dtype)

    def time_predict(self, dropout: bool, rows: int, dtype: str) -> None:
        if dropout:
            self.net.predict(self.X, dropout=True, samples=100, rng=0)
        else:
            self.net.predict(self.X)


class ScaledTargets:
    """What it takes to bring predictions back to the units of scaled targets."""

    params = ((False, True), (1, 64), DTYPES)
    param_names = ("scaled", "rows", "dtype")

    def setup(self, scaled: bool, rows: int, dtype: str) -> None:
        keep_to(physical_cores()[-1:])
        layers = [fn.Dense(64, "relu"), fn.Dense(64, "relu"), fn.Dense(2)]
        self.net = fn.Sequential(layers, inputs=8, dtype=dtype, scale_targets=scaled)
        self.X = np.random.default_rng(0).normal(size=(rows, 8)).astype(dtype)
        if scaled:
            self.net.adapt(self.X, y=np.arange(2.0 * rows).reshape(rows, 2))
        self.net(self.X)

    def time_call(self, scaled: bool, rows: int, dtype: str) -> None:
        self.net(self.X)


class ManyRows:
    """Throughput.  Threads follow the cores that the process is pinned to."""

    params = (list(NETWORKS), DTYPES, THREADS)
    param_names = ("network", "dtype", "cores")
    timeout = 300

    def setup(self, network: str, dtype: str, cores: int) -> None:
        keep_to(physical_cores()[-cores:])
        self.workload = NETWORKS[network]
        self.net = self.workload.network(dtype)
        self.X = self.workload.data(dtype)[0][:_ROWS]
        self.out = self.net.predict(self.X)

    def predict(self) -> None:
        self.net.predict(self.X, out=self.out)

    def time_predict(self, network: str, dtype: str, cores: int) -> None:
        self.predict()

    @unit("rows/s")
    def track_rate(self, network: str, dtype: str, cores: int) -> float:
        return len(self.X) / best_seconds(self.predict)

    @unit("% of peak")
    def track_share(self, network: str, dtype: str, cores: int) -> float:
        flops = self.workload.prediction_flops * len(self.X)
        return share_of_peak(flops, self.predict, dtype, cores)


_CALLS = 1000


class InsideALoop:
    """A thousand calls of one row from a compiled loop: of `jitted`, of `vjp`, of a C function."""

    params = (list(NETWORKS), DTYPES)
    param_names = ("network", "dtype")

    def setup(self, network: str, dtype: str) -> None:
        import numba

        keep_to(physical_cores()[-1:])
        net = NETWORKS[network].network(dtype)
        forward, self.weights, vjp = net.jitted(gradient=True)
        function = net.cfunc().ctypes

        def forwards(weights: Any, x: Any, out: Any) -> None:
            for _ in range(_CALLS):
                forward(weights, x, out)

        def backwards(weights: Any, x: Any, v: Any, dx: Any) -> None:
            for _ in range(_CALLS):
                vjp(weights, x, v, dx)

        def by_pointer(x: Any, out: Any) -> None:
            for _ in range(_CALLS):
                function(x.ctypes, out.ctypes)

        compiled: Any = numba.njit
        self.forwards, self.backwards, self.by_pointer = map(
            compiled, (forwards, backwards, by_pointer)
        )
        self.x = NETWORKS[network].data(dtype)[0][0].copy()
        self.out, self.dx = np.empty(net.outputs, dtype), np.empty(len(self.x), dtype)
        # The first calls compile.
        self.time_forward(network, dtype)
        self.time_vjp(network, dtype)
        self.time_c_function(network, dtype)

    def time_forward(self, network: str, dtype: str) -> None:
        self.forwards(self.weights, self.x, self.out)

    def time_vjp(self, network: str, dtype: str) -> None:
        self.backwards(self.weights, self.x, self.out, self.dx)

    def time_c_function(self, network: str, dtype: str) -> None:
        self.by_pointer(self.x, self.out)


class ManyVectors:
    """A thousand weight vectors of 8-64-64-2, by the rows of each."""

    params = ((1, 8, 64), DTYPES, THREADS)
    param_names = ("rows", "dtype", "cores")

    def setup(self, rows: int, dtype: str, cores: int) -> None:
        keep_to(physical_cores()[-cores:])
        workload = NETWORKS["8-64-64-2"]
        self.net = workload.network(dtype)
        self.X = workload.data(dtype)[0][:rows].copy()
        self.vectors = np.tile(self.net.parameters, (1000, 1))
        self.out = self.net.predict_many(self.vectors, self.X)

    def time_predict_many(self, rows: int, dtype: str, cores: int) -> None:
        self.net.predict_many(self.vectors, self.X, out=self.out)
