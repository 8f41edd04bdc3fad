"""Prediction: one row, and a thousand."""

from __future__ import annotations

from .workloads import WORKLOADS


class Predict:
    """Predictions of a network as it is built; the weights' values cost nothing."""

    params = (list(WORKLOADS), ["float32", "float64"], ["native", "reference"])
    param_names = ("workload", "dtype", "backend")

    def setup(self, workload: str, dtype: str, backend: str) -> None:
        self.net = WORKLOADS[workload].network(dtype)
        X, _ = WORKLOADS[workload].data(dtype)
        self.row, self.rows = X[:1], X[:1000]
        # The first call compiles.
        self.net.predict(self.row, backend=backend)

    def time_one_row(self, workload: str, dtype: str, backend: str) -> None:
        self.net.predict(self.row, backend=backend)

    def time_thousand_rows(self, workload: str, dtype: str, backend: str) -> None:
        self.net.predict(self.rows, backend=backend)


class Call:
    """The fast path, ``net(x)``, on one row."""

    params = (list(WORKLOADS), ["float32", "float64"])
    param_names = ("workload", "dtype")

    def setup(self, workload: str, dtype: str) -> None:
        self.net = WORKLOADS[workload].network(dtype)
        self.row = WORKLOADS[workload].data(dtype)[0][0].copy()
        self.net(self.row)

    def time_one_row(self, workload: str, dtype: str) -> None:
        self.net(self.row)
