"""How the time of a step grows: with width, depth, batch and the number of examples."""

from __future__ import annotations

from .cores import keep_to, physical_cores
from .measures import best_seconds, unit
from .workloads import SERIES


class _Growth:
    """One thing grows, everything else stays; one thread, float32."""

    series: str
    params: tuple[int, ...]
    timeout = 300

    def setup(self, size: int) -> None:
        keep_to(physical_cores()[-1:])
        members = list(SERIES[self.series].values())
        self.workload = members[self.params.index(size)]
        self.net = self.workload.network()
        self.X, self.y = self.workload.data()
        # The first call compiles.
        self.epoch()

    def epoch(self) -> None:
        self.workload.epochs(self.net, self.X, self.y, threads=1)

    @unit("us a step")
    def track_step(self, size: int) -> float:
        return 1e6 * best_seconds(self.epoch) / self.workload.steps

    @unit("loss")
    def track_loss(self, size: int) -> float:
        """Return the loss after two epochs: speed is never shown without it."""
        self.epoch()
        return float(self.net.evaluate(self.X, self.y)["loss"])


class Width(_Growth):
    series = "width"
    params = tuple(workload.widths[1] for workload in SERIES["width"].values())
    param_names = ("width",)


class Depth(_Growth):
    series = "depth"
    params = tuple(len(workload.widths) - 2 for workload in SERIES["depth"].values())
    param_names = ("hidden layers",)


class Batch(_Growth):
    series = "batch"
    params = tuple(workload.batch_size for workload in SERIES["batch"].values())
    param_names = ("batch",)


class Examples(_Growth):
    series = "examples"
    params = tuple(workload.rows for workload in SERIES["examples"].values())
    param_names = ("examples",)
