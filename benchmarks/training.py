"""An epoch of training: its time and, beside it, what it reaches."""

from __future__ import annotations

from .workloads import WORKLOADS


class Epoch:
    """One epoch in the middle of a training; every measurement trains on from the last."""

    params = (list(WORKLOADS), ["float32", "float64"], ["native", "reference"])
    param_names = ("workload", "dtype", "backend")
    # A fit changes the network, so that each measurement is one call.
    number = 1
    warmup_time = 0
    min_run_count = 5
    timeout = 300

    def setup(self, workload: str, dtype: str, backend: str) -> None:
        self.workload = WORKLOADS[workload]
        self.net = self.workload.network(dtype)
        self.X, self.y = self.workload.data(dtype)
        # The first call compiles.
        self.workload.epochs(self.net, self.X, self.y, backend)

    def time_epoch(self, workload: str, dtype: str, backend: str) -> None:
        self.workload.epochs(self.net, self.X, self.y, backend)


class Reached:
    """What ten epochs reach: speed is never shown without it."""

    params = Epoch.params
    param_names = Epoch.param_names
    timeout = 300

    def setup(self, workload: str, dtype: str, backend: str) -> None:
        self.workload = WORKLOADS[workload]
        self.net = self.workload.network(dtype)
        self.X, self.y = self.workload.data(dtype)
        self.workload.epochs(self.net, self.X, self.y, backend, epochs=10)

    def track_loss(self, workload: str, dtype: str, backend: str) -> float:
        return self.net.evaluate(self.X, self.y)["loss"]

    def track_accuracy(self, workload: str, dtype: str, backend: str) -> float:
        if self.workload.last != "softmax":
            return float("nan")
        return self.net.evaluate(self.X, self.y, metrics="accuracy")["accuracy"]


Reached.track_loss.unit = "loss"
Reached.track_accuracy.unit = "share"
