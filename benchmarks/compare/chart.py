"""The charts: how many times the best peer's speed fastnn has, by size of a step and by rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..workloads import NETWORKS, WORKLOADS
from .tables import ratio_to_best, rows_of, threads_of

__all__ = ["draw", "draw_rows"]

# Blue, orange and green of Okabe and Ito's palette, which colour-blind readers tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73")
_INK, _PALE = "#222222", "#767676"

# The same results make the same file.
_SETTINGS: Any = {"svg.hashsalt": "fastnn", "font.size": 9, "svg.fonttype": "none"}


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
    with matplotlib.rc_context(_SETTINGS):
        figure, axes = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
        for colour, (threads, points) in zip(_COLOURS, lines.items(), strict=False):
            if not points:
                continue
            x, y, _ = zip(*points, strict=True)
            _plot(axes, x, y, colour, threads)
        _label(axes, lines)
        axes.axhline(1.0, color=_PALE, linewidth=1)
        highest = max(y for points in lines.values() for _, y, _ in points)
        # Room above for the names.
        axes.set(xscale="log", ylim=(0, 1.3 * max(1.0, highest)))
        axes.set(xlabel="floating-point operations of a step")
        axes.set(ylabel="speed, best other library = 1")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower left")
        _save(figure, path)


def draw_rows(path: Path, results: dict[str, Any]) -> None:
    """Draw the predictions of some results by rows, a panel for each network, into a file.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {name: lines for name in NETWORKS if any((lines := _by_rows(results, name)).values())}
    if not panels:
        raise ValueError("a chart needs predictions that fastnn and a peer have been measured on.")
    with matplotlib.rc_context(_SETTINGS):
        figure, every = pyplot.subplots(
            1, len(panels), figsize=(8, 3.2), layout="constrained", sharey=True, squeeze=False
        )
        for axes, (name, lines) in zip(every[0], panels.items(), strict=True):
            for colour, (threads, points) in zip(_COLOURS, lines.items(), strict=False):
                if points:
                    x, y = zip(*points, strict=True)
                    _plot(axes, x, y, colour, threads)
            axes.axhline(1.0, color=_PALE, linewidth=1)
            axes.set(xscale="log", title=name, xlabel="rows of a call")
            axes.spines[["top", "right"]].set_visible(False)
        every[0][0].set(ylabel="speed, best other library = 1", ylim=(0, None))
        every[0][0].legend(frameon=False)
        _save(figure, path)


def _plot(axes: Any, x: Any, y: Any, colour: str, threads: int) -> None:
    """Draw the line of a number of threads."""
    label = "1 thread" if threads == 1 else f"{threads} threads"
    axes.plot(x, y, "o-", color=colour, label=label, linewidth=1.5, markersize=5)


def _save(figure: Any, path: Path) -> None:
    """Write a chart, whose file does not say when it was drawn."""
    from matplotlib import pyplot

    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _by_rows(results: dict[str, Any], name: str) -> dict[int, list[tuple[float, float]]]:
    """Return rows and ratio of a network's predictions for each number of threads."""
    return {
        threads: [
            (float(count), ratio[0])
            for count in rows_of(results)
            if (ratio := ratio_to_best(results, f"prediction of {count}", name, threads))
        ]
        for threads in threads_of(results)
    }


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
