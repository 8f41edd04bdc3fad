"""Prediction: the latency of one row and of some rows, and the throughput of many."""

from __future__ import annotations

from .cores import THREADS, keep_to, physical_cores
from .measures import best_seconds, share_of_peak, unit
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
