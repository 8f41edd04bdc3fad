"""The tables: Markdown from the results, put where a file has places for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..workloads import SERIES, WORKLOADS
from . import places
from .children import IMPORTS, PEERS
from .measuring import is_trouble

__all__ = ["SECTIONS", "best_of", "fill", "ratio_to_best", "render", "rows_of", "threads_of"]

Results = dict[str, Any]

_OTHERS = [peer for peer in PEERS if peer != "fastnn"]

# What the kinds of records of predictions begin with; the number of rows follows.
_PREDICTION, _IMPORTED = "prediction of", "imported prediction of"

# What a network came as, where that is not the name of the library that runs it.
_ORIGINS = {"ONNX Runtime": "ONNX"}


def fill(path: Path, results: Results) -> None:
    """Write the sections that a file's markers name between these markers.

    A place for work none of which was measured is left as it is.

    Raises
    ------
    ValueError
        If the file has no markers, or names a section that does not exist.
    """
    for name in {"chart", "rows_chart"} & results.keys():
        chart = Path(os.path.relpath(results[name], path.parent))
        results = results | {name: chart.as_posix()}

    def rendered(sections: list[str]) -> str | None:
        # What was not measured this time stays as it is.
        measured = sorted(set(sections) - {"machine"})
        if measured and not any(SECTIONS[section](results) for section in measured):
            return None
        return render(results, sections)

    places.fill(path, "benchmarks", SECTIONS, rendered)


def render(results: Results, sections: Iterable[str]) -> str:
    """Return some sections as Markdown."""
    return "\n".join(part for section in sections for part in SECTIONS[section](results))


def best_of(
    results: Results, kind: str, name: str, peer: str, threads: int, variant: str | None = None
) -> Any:
    """Return the fastest record of a library, or of one of its ways, with at most so many threads.

    fastnn is shown with exactly so many threads, so that it does not hide where a second one hurts.
    There may be none.
    """
    records = [
        record
        for record in results["records"]
        if (record["kind"], record["name"], record["peer"]) == (kind, name, peer)
        and not record["failed"]
        and variant in (None, record["variant"])
        and (record["threads"] == threads if peer == "fastnn" else record["threads"] <= threads)
    ]
    return min(records, key=lambda record: float(record["median"]), default=None)


def ratio_to_best(results: Results, kind: str, name: str, threads: int) -> tuple[float, str] | None:
    """Return the best peer's time divided by fastnn's, and the name of that peer."""
    ours = best_of(results, kind, name, "fastnn", threads)
    others = [best_of(results, kind, name, peer, threads) for peer in _OTHERS]
    theirs = min(filter(None, others), key=lambda record: float(record["median"]), default=None)
    if ours is None or theirs is None:
        return None
    return theirs["median"] / ours["median"], theirs["peer"]


def threads_of(results: Results) -> list[int]:
    """Return the numbers of threads that were measured."""
    return sorted({record["threads"] for record in results["records"]})


def _machine(results: Results) -> list[str]:
    """Say what was measured on what."""
    machine, peaks = results["machine"], results["peak"]
    peak = ", ".join(
        f"{flops / 1e9:.0f} GFLOP/s on {_threads(int(count))}" for count, flops in peaks.items()
    )
    versions: dict[str, str] = {}
    for library in results["libraries"]:
        versions |= library.get("versions", {})
    products = [
        f"{library['peer']} {library['product'] / 1e9:.0f}"
        for library in results["libraries"]
        if library.get("product") and library["threads"] == 1 and library["variant"] != "compiled"
    ]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}; {results['date']}.",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        f"Measured multiply-add peak, float32: {peak}.",
    ]
    if products:
        lines.append(
            "The libraries' own product of two 1024 x 1024 matrices on one thread, in GFLOP/s: "
            f"{', '.join(products)}."
        )
    return ["\n".join(lines), ""]


def _training(results: Results) -> list[str]:
    """Show the steps of the workloads, a table for each number of threads."""
    names = [name for name in WORKLOADS if _has(results, "training", name)]
    lines = [(name, "training", name) for name in names]
    return _tables(results, lines, "Training, {}: us per step")


def _growth(results: Results) -> list[str]:
    """Show the steps of the series."""
    parts = []
    for series, members in SERIES.items():
        names = [name for name in members if _has(results, "training", name)]
        lines = [(name, "training", name) for name in names]
        parts += _tables(results, lines, f"Growth with {series}, {{}}: us per step")
    return parts


def _prediction(results: Results) -> list[str]:
    """Show fastnn's predictions and their ratio to the best, one table per number of threads."""
    parts: list[str] = []
    rows, names = rows_of(results), _predicted(results)
    if not rows:
        return parts
    kinds = [f"{_PREDICTION} {count}" for count in rows]
    work = [(kind, name) for kind in kinds for name in names]
    for threads in threads_of(results):
        head = ["network", *map(_rows, rows)]
        parts += [f"**Predicting, {_threads(threads)}: us per call, and against the best**", ""]
        parts += [_row(head), _row(["---"] + ["---:"] * len(rows))]
        for name in names:
            parts.append(_row([name, *(_brief(results, kind, name, threads) for kind in kinds)]))
        parts += ["", *_spread(results, work, threads)]
    return parts


def _rows_by_network(results: Results) -> list[str]:
    """Show predictions by rows, a table for each network and number of threads."""
    parts: list[str] = []
    for name in _predicted(results):
        kinds = {count: f"{_PREDICTION} {count}" for count in rows_of(results)}
        lines = [(f"{n:,}", kind, name) for n, kind in kinds.items() if _has(results, kind, name)]
        parts += _tables(results, lines, f"Predicting with {name}, {{}}: us per call", "rows")
    if parts and "rows_chart" in results:
        told = "fastnn's speed over the best other library's, by rows"
        parts += [f"![{told}]({results['rows_chart']})", ""]
    return parts


def _imported(results: Results) -> list[str]:
    """Show imported networks beside the libraries that they come from."""
    parts: list[str] = []
    work = [
        (f"{_IMPORTED} {count}", name, count)
        for name in _predicted(results, _IMPORTED)
        for count in rows_of(results, _IMPORTED)
    ]
    measured = {r["peer"] for r in results["records"] if r["kind"].startswith(_IMPORTED)}
    peers = [peer for peer in IMPORTS if peer in measured]
    for threads in threads_of(results) if peers else ():
        head = ["network", "rows"]
        for peer in peers:
            head += [f"from {_ORIGINS.get(peer, peer)}, here", peer, "against it"]
        parts += [f"**Imported networks, {_threads(threads)}: us per call**", "", _row(head)]
        parts.append(_row(["---"] + ["---:"] * (len(head) - 1)))
        for kind, name, count in work:
            cells = [name, f"{count:,}"]
            for peer in peers:
                ours = best_of(results, kind, name, "fastnn", threads, peer)
                theirs = best_of(results, kind, name, peer, threads)
                both = ours is not None and theirs is not None
                ratio = f"{theirs['median'] / ours['median']:.2f}x" if both else "-"
                cells += [_cell(ours), _cell(theirs), ratio]
            parts.append(_row(cells))
        parts += ["", *_spread(results, [(kind, name) for kind, name, _ in work], threads)]
    return parts


def rows_of(results: Results, kind: str = _PREDICTION) -> list[int]:
    """Return the numbers of rows that were predicted."""
    kinds = {record["kind"] for record in results["records"]}
    return sorted(int(found.split()[-1]) for found in kinds if found.startswith(kind))


def _predicted(results: Results, kind: str = _PREDICTION) -> list[str]:
    """Return the networks that predicted, the smallest first."""
    found = {
        record["name"]: record["flops"] / int(record["kind"].split()[-1])
        for record in results["records"]
        if record["kind"].startswith(kind)
    }
    return sorted(found, key=lambda name: found[name])


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _brief(results: Results, kind: str, name: str, threads: int) -> str:
    """Return fastnn's time, and how many times the best peer's speed that is."""
    ratio = ratio_to_best(results, kind, name, threads)
    time = _cell(best_of(results, kind, name, "fastnn", threads))
    return time if ratio is None else f"{time} ({ratio[0]:.2f}x {ratio[1]})"


def _chart(results: Results) -> list[str]:
    """Show the chart, where one has been drawn."""
    if "chart" not in results:
        return []
    return [f"![fastnn's speed over the best other library's, by size]({results['chart']})", ""]


#: The sections that a place can name.
SECTIONS: dict[str, Callable[[Results], list[str]]] = {
    "machine": _machine,
    "training": _training,
    "prediction": _prediction,
    "rows": _rows_by_network,
    "imported": _imported,
    "growth": _growth,
    "chart": _chart,
}


def _has(results: Results, kind: str, name: str) -> bool:
    """Whether anything was measured on a piece of work."""
    return any((r["kind"], r["name"]) == (kind, name) for r in results["records"])


def _tables(
    results: Results, lines: list[tuple[str, str, str]], title: str, first: str = "network"
) -> list[str]:
    """Return a table for each number of threads; a line has a label, its kind of work and name."""
    parts: list[str] = []
    work = [(kind, name) for _, kind, name in lines]
    measured = {r["peer"] for r in results["records"] if (r["kind"], r["name"]) in work}
    peers = [peer for peer in PEERS if peer in measured]
    for threads in threads_of(results) if lines else ():
        head = [first, *peers, "against the best", "GFLOP/s", "of peak"]
        parts += [f"**{title.format(_threads(threads))}**", "", _row(head)]
        parts.append(_row(["---"] + ["---:"] * (len(head) - 1)))
        for label, kind, name in lines:
            cells = [_cell(best_of(results, kind, name, peer, threads)) for peer in peers]
            parts.append(_row([label, *cells, *_shares(results, kind, name, threads)]))
        parts += ["", *_spread(results, work, threads)]
    return parts


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def _cell(record: Any) -> str:
    """Return the time in microseconds and, for a training, what it has reached."""
    if record is None:
        return "-"
    time = _digits(record["median"] * 1e6)
    if record["accuracy"] is not None:
        return f"{time} ({record['accuracy']:.1%})"
    return time if record["loss"] is None else f"{time} ({record['loss']:.3g})"


def _digits(value: float) -> str:
    """Return a number with three significant digits."""
    whole = f"{value:.3g}"
    return whole if "e" not in whole and value < 1000 else f"{float(whole):,.0f}"


def _shares(results: Results, kind: str, name: str, threads: int) -> list[str]:
    """Return fastnn's speed over the best peer's, its GFLOP/s and its share of the peak."""
    ours = best_of(results, kind, name, "fastnn", threads)
    ratio = ratio_to_best(results, kind, name, threads)
    against = "-" if ratio is None else f"{ratio[0]:.2f}x {ratio[1]}"
    if ours is None:
        return [against, "-", "-"]
    rate = ours["flops"] / ours["median"]
    peak = results["peak"].get(str(threads))
    return [against, _digits(rate / 1e9), f"{rate / peak:.0%}" if peak else "-"]


def _spread(results: Results, work: list[tuple[str, str]], threads: int) -> list[str]:
    """Report the spread of a table's repeats, and what has failed; work is kind and name."""
    shown = [best_of(results, kind, name, peer, threads) for kind, name in work for peer in PEERS]
    spreads = sorted(record["spread"] for record in shown if record)
    lines = []
    if spreads:
        lines.append(
            f"Medians of {results['settings']['repeats']} rounds, whose quartiles lie "
            f"{spreads[len(spreads) // 2]:.1%} away in the middle cell, {spreads[-1]:.1%} in "
            "the widest."
        )
    lines += [
        f"{record['peer']} {record['variant']} on {name}: {record['failed']}".replace("  ", " ")
        for kind, name in work
        for record in results["records"]
        if (record["kind"], record["name"], record["threads"]) == (kind, name, threads)
        and is_trouble(record)
    ]
    return ["\n".join(f"- {line}" for line in lines), ""] if lines else []
