"""An epoch of training: its time, its fraction of the peak, and the loss and accuracy reached."""

from __future__ import annotations

from .cores import THREADS, keep_to, physical_cores
from .measures import share_of_peak
from .units import unit
from .workloads import WORKLOADS

DTYPES = ("float32", "float64")


class Epoch:
    """One epoch in the middle of a training; every measurement trains on from the last."""

    params = (list(WORKLOADS), DTYPES, THREADS)
    param_names = ("workload", "dtype", "threads")
    # A fit changes the network, so that each measurement is one call.
    number = 1
    warmup_time = 0
    min_run_count = 5
    timeout = 600

    def setup(self, workload: str, dtype: str, threads: int) -> None:
        keep_to(physical_cores()[-threads:])
        self.workload = WORKLOADS[workload]
        self.net = self.workload.network(dtype)
        self.X, self.y = self.workload.data(dtype)
        self.threads = threads
        # The first call compiles.
        self.epoch()

    def epoch(self) -> None:
        self.workload.epochs(self.net, self.X, self.y, threads=self.threads)

    def time_epoch(self, workload: str, dtype: str, threads: int) -> None:
        self.epoch()

    @unit("% of peak")
    def track_share(self, workload: str, dtype: str, threads: int) -> float:
        flops = self.workload.flops * self.workload.steps
        return share_of_peak(flops, self.epoch, dtype, threads)


class Reached:
    """Loss and accuracy after ten epochs: speed is never shown without them."""

    params = (list(WORKLOADS), DTYPES)
    param_names = ("workload", "dtype")
    timeout = 600

    def setup_cache(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Train everything once; the scores below only look it up."""
        return {(name, dtype): _reached(name, dtype) for name in WORKLOADS for dtype in DTYPES}

    setup_cache.timeout = 900  # type: ignore[attr-defined]

    @unit("loss")
    def track_loss(
        self, reached: dict[tuple[str, str], tuple[float, float]], workload: str, dtype: str
    ) -> float:
        return reached[workload, dtype][0]

    @unit("share")
    def track_accuracy(
        self, reached: dict[tuple[str, str], tuple[float, float]], workload: str, dtype: str
    ) -> float:
        return reached[workload, dtype][1]


def _reached(name: str, dtype: str) -> tuple[float, float]:
    """Return loss and accuracy, NaN where there are no classes, of the training examples."""
    workload = WORKLOADS[name]
    net = workload.network(dtype)
    X, y = workload.data(dtype)
    workload.epochs(net, X, y, epochs=10)
    metrics = "accuracy" if workload.last == "softmax" else ()
    found = net.evaluate(X, y, metrics=metrics)
    return found["loss"], found.get("accuracy", float("nan"))


class OneAtATime:
    """Single calls on a network that somebody trains, or asks, step by step."""

    params = (("8-32-32-1 b32", "64-100-10 b200", "784-128-10 b128"), (1, 32), DTYPES)
    param_names = ("workload", "rows", "dtype")

    def setup(self, workload: str, rows: int, dtype: str) -> None:
        keep_to(physical_cores()[-1:])
        self.net = WORKLOADS[workload].network(dtype)
        X, y = WORKLOADS[workload].data(dtype)
        self.X, self.y = X[:rows].copy(), y[:rows].copy()
        self.f = self.net.objective(self.X, self.y)
        for call in (self.step, self.slope, self.loss, self.flat):
            call()

    def step(self) -> None:
        self.net.train_on_batch(self.X, self.y)

    def slope(self) -> None:
        self.net.loss_and_gradient(self.X, self.y)

    def loss(self) -> None:
        self.net.evaluate(self.X, self.y)

    def flat(self) -> None:
        self.f(self.net.parameters)

    def time_train_on_batch(self, workload: str, rows: int, dtype: str) -> None:
        self.step()

    def time_loss_and_gradient(self, workload: str, rows: int, dtype: str) -> None:
        self.slope()

    def time_evaluate(self, workload: str, rows: int, dtype: str) -> None:
        self.loss()

    def time_objective(self, workload: str, rows: int, dtype: str) -> None:
        self.flat()
