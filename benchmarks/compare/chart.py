"""The chart: how many times the best peer's speed fastnn has, by the size of a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..workloads import WORKLOADS
from .tables import ratio_to_best, threads_of

__all__ = ["draw"]

# Blue, orange and green of Okabe and Ito's palette, which colour-blind readers tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73")
_INK, _PALE = "#222222", "#767676"


def draw(path: Path, results: dict[str, Any]) -> None:
    """Draw the workloads of some results into a file; its ending chooses the format.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = {threads: _points(results, threads) for threads in threads_of(results)}
    if not any(lines.values()):
        raise ValueError("a chart needs a workload that fastnn and a peer have been measured on.")
    # The same results make the same file.
    settings: Any = {"svg.hashsalt": "fastnn", "font.size": 9, "svg.fonttype": "none"}
    with matplotlib.rc_context(settings):
        figure, axes = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
        for colour, (threads, points) in zip(_COLOURS, lines.items(), strict=False):
            label = "1 thread" if threads == 1 else f"{threads} threads"
            if not points:
                continue
            x, y, _ = zip(*points, strict=True)
            axes.plot(x, y, "o-", color=colour, label=label, linewidth=1.5, markersize=5)
        _label(axes, lines)
        axes.axhline(1.0, color=_PALE, linewidth=1)
        highest = max(y for points in lines.values() for _, y, _ in points)
        # Room above for the names.
        axes.set(xscale="log", ylim=(0, 1.3 * max(1.0, highest)))
        axes.set(xlabel="floating-point operations of a step")
        axes.set(ylabel="speed, best other library = 1")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower left")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def _points(results: dict[str, Any], threads: int) -> list[tuple[float, float, str]]:
    """Return FLOPs, ratio and name of each workload, the smallest step first."""
    found = []
    for name, workload in WORKLOADS.items():
        ratio = ratio_to_best(results, "training", name, threads)
        if ratio is not None:
            found.append((float(workload.flops), ratio[0], name))
    return sorted(found)


def _label(axes: Any, lines: dict[int, list[tuple[float, float, str]]]) -> None:
    """Name each workload above the higher of its points."""
    highest: dict[str, tuple[float, float]] = {}
    for points in lines.values():
        for x, y, name in points:
            highest[name] = (x, max(y, highest.get(name, (x, 0.0))[1]))
    for name, place in highest.items():
        axes.annotate(
            name, place, xytext=(3, 6), textcoords="offset points", rotation=30, color=_INK,
            fontsize=7,
        )  # fmt: skip
