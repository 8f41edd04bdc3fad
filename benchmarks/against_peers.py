"""fastnn and other libraries on the same work, each in a process of its own.

A first look with `benchmarks.compare`, which measures all libraries once, in `setup_cache`; those
that are not installed are skipped.  That command measures more, and more carefully.
"""

from __future__ import annotations

from typing import Any

from .compare.__main__ import Asked, measure
from .compare.children import PEERS, is_installed
from .compare.measuring import QUICK
from .compare.tables import best_of
from .cores import THREADS
from .units import unit
from .workloads import NETWORKS

_WORKLOADS = ["8-32-32-1 b32", "64-100-10 b200", "784-128-10 b128", "4-32-16-4 tanh full"]


class Beside:
    """Times of all libraries, and the losses that they reach."""

    params = (list(PEERS), [*_WORKLOADS, *NETWORKS], THREADS)
    param_names = ("library", "work", "threads")
    timeout = 600

    def setup_cache(self) -> dict[str, Any]:
        """Measure all libraries."""
        peers = [peer for peer in PEERS if is_installed(peer)]
        names = [*_WORKLOADS, *NETWORKS]
        asked = Asked(names, trainings=True, series=False, rows=(1,), imported=())
        return measure(peers, THREADS, {}, QUICK, asked)

    setup_cache.timeout = 900  # type: ignore[attr-defined]

    def setup(self, results: dict[str, Any], library: str, work: str, threads: int) -> None:
        if not any(found["peer"] == library for found in results["libraries"]):
            raise NotImplementedError(f"{library} is not installed")
        kind = "prediction of 1" if work in NETWORKS else "training"
        if kind == "training" and not PEERS[library].trains:
            raise NotImplementedError(f"{library} does not train")
        self.record = best_of(results, kind, work, library, threads)
        if self.record is None:
            reasons = [
                record["failed"]
                for record in results["records"]
                if (record["kind"], record["name"], record["peer"]) == (kind, work, library)
            ]
            raise RuntimeError("; ".join(filter(None, reasons)))

    @unit("us")
    def track_time(self, results: dict[str, Any], library: str, work: str, threads: int) -> float:
        """Return the time of a step, or of one row's prediction."""
        return 1e6 * float(self.record["median"])

    @unit("loss")
    def track_loss(self, results: dict[str, Any], library: str, work: str, threads: int) -> float:
        """Return the loss after the steps that were timed; NaN for a prediction."""
        return float("nan" if self.record["loss"] is None else self.record["loss"])
