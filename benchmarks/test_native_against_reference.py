"""Native against reference on the same workloads: how much faster, with the same results.

``python -m pytest benchmarks --benchmark-only``
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

import fastnn as fn

from .workloads import WORKLOADS

BACKENDS = ("native", "reference")
ROUNDS = 5
# On the widest networks the reference takes minutes and shows nothing new.
NAMES = [name for name, workload in WORKLOADS.items() if workload.flops < 2e9]


@functools.cache
def reference_loss(name: str) -> float:
    """Return the loss of the second epoch, by the textbook in double precision."""
    workload = WORKLOADS[name]
    net = workload.network("float64")
    X, y = workload.data("float64")
    return [workload.epochs(net, X, y, "reference")["loss"][0] for _ in range(2)][-1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_epoch(benchmark: Any, name: str, backend: str) -> None:
    workload = WORKLOADS[name]
    X, y = workload.data()
    losses: list[float] = []

    def setup() -> tuple[tuple[fn.Sequential], dict[str, Any]]:
        net = workload.network()
        workload.epochs(net, X, y, backend)
        return (net,), {}

    def epoch(net: fn.Sequential) -> None:
        losses.append(workload.epochs(net, X, y, backend)["loss"][0])

    benchmark.group = f"epoch {name}"
    benchmark.extra_info["loss"] = reference_loss(name)
    benchmark.pedantic(epoch, setup=setup, rounds=ROUNDS, warmup_rounds=1)
    assert set(losses) == {losses[0]}
    assert losses[0] == pytest.approx(reference_loss(name), rel=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rows", [1, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_predict(benchmark: Any, name: str, rows: int, backend: str) -> None:
    workload = WORKLOADS[name]
    net = workload.network()
    X = workload.data()[0][:rows]
    wanted = workload.network("float64").predict(X, backend="reference")
    benchmark.group = f"predict {rows} x {name}"
    # One round at least runs before those that count, and compiles.
    found = benchmark.pedantic(
        net.predict, (X,), {"backend": backend}, rounds=ROUNDS, iterations=5, warmup_rounds=1
    )
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4)
