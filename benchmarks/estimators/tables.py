"""The tables: Markdown from the results, put where a file has places for them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..compare import places
from .measuring import DTYPES

__all__ = ["SECTIONS", "fill", "is_trouble", "ratio", "render"]

Results = dict[str, Any]


def fill(path: Path, results: Results) -> None:
    """Write the sections that a file's markers name between these markers; see `places.fill`."""
    places.fill(path, "estimators", SECTIONS, lambda sections: render(results, sections))


def render(results: Results, sections: Iterable[str]) -> str:
    """Return some sections as Markdown."""
    return "\n".join(part for section in sections for part in SECTIONS[section](results))


def is_trouble(results: Results) -> bool:
    """Whether something failed, or gave another result than scikit-learn."""
    return any(record["failed"] for record in results["records"])


def best(results: Results, name: str, dtype: str, library: str, threads: int) -> Any:
    """Return a record of a piece of work, or None.

    scikit-learn's fastest with at most so many threads; fastnn's with exactly so many, so that it
    does not hide where a second one hurts.
    """
    records = [
        record
        for record in results["records"]
        if (record["name"], record["dtype"], record["library"]) == (name, dtype, library)
        and record["seconds"]
        and not record["failed"]
        and (record["threads"] == threads if library == "fastnn" else record["threads"] <= threads)
    ]
    return min(records, key=lambda record: float(record["median"]), default=None)


def ratio(results: Results, name: str, dtype: str, threads: int) -> float | None:
    """Return how many times as fast as scikit-learn fastnn is."""
    theirs = best(results, name, dtype, "scikit-learn", threads)
    ours = best(results, name, dtype, "fastnn", threads)
    return None if theirs is None or ours is None else theirs["median"] / ours["median"]


def _machine(results: Results) -> list[str]:
    """Say what was measured on what."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    threads = ""
    if results["settings"].get("default_threads"):
        threads = "\nEvery library's threads, BLAS's included, are as they are by default."
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}; {results['date']}.\n{versions}.{threads}",
        "",
    ]


def _speed(results: Results) -> list[str]:
    """Show how many times as fast as scikit-learn fastnn is."""
    counts = _threads_of(results)
    columns = [(dtype, count) for dtype in DTYPES for count in counts]
    head = ["", *(f"{dtype}, {_cores(count)}" for dtype, count in columns)]
    rows = []
    for name in _names(results):
        ratios = [ratio(results, name, *column) for column in columns]
        rows.append([name, *("-" if one is None else f"{_digits(one)}x" for one in ratios)])
    return [*_table(head, rows), *_notes(results)]


def _times(results: Results) -> list[str]:
    """Show the times themselves, a table for each number of cores."""
    parts = []
    for count in _threads_of(results):
        head = ["", *(f"{of}, {dtype}" for dtype in DTYPES for of in ("scikit-learn", "fastnn"))]
        rows = [
            [
                name,
                *(
                    _time(best(results, name, dtype, library, count))
                    for dtype in DTYPES
                    for library in ("scikit-learn", "fastnn")
                ),
            ]
            for name in _names(results)
        ]
        parts += [f"**Milliseconds, {_cores(count)}**", "", *_table(head, rows), ""]
    return parts


def _accuracy(results: Results) -> list[str]:
    """Show the scores of both libraries, and how far apart they are."""
    if not results["scores"]:
        return []
    first, *others = results["scores"][0]["scores"]
    head = ["", first]
    for other in others:
        head += [other, "difference", "in units of noise"]
    rows = []
    for entry in results["scores"]:
        theirs = entry["scores"][first]
        measure = "R²" if entry["kind"] == "regressor" else "accuracy"
        row = [f"{entry['name']} ({measure})", _mean_of(theirs)]
        for other in others:
            row += [_mean_of(entry["scores"][other]), *_apart(entry["scores"][other], theirs)]
        rows.append(row)
    seeds = len(results["scores"][0]["scores"][first])
    return [
        *_table(head, rows),
        "",
        f"Means over {seeds} seeds, each with a split and first weights of its own, and the "
        "standard errors of these means. A difference is that of the same seeds; the noise is "
        "the standard error of its mean.",
        "",
    ]


#: The sections that a place can name.
SECTIONS: dict[str, Callable[[Results], list[str]]] = {
    "machine": _machine,
    "speed": _speed,
    "times": _times,
    "accuracy": _accuracy,
}


def _threads_of(results: Results) -> list[int]:
    return sorted({record["threads"] for record in results["records"]})


def _names(results: Results) -> list[str]:
    return list(dict.fromkeys(record["name"] for record in results["records"]))


def _cores(count: int) -> str:
    return "one core" if count == 1 else f"{count} cores"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def _digits(value: float) -> str:
    """Return a number with two significant digits, or all of them from 10 on."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _time(record: Any) -> str:
    if record is None:
        return "-"
    milliseconds = record["median"] * 1e3
    return f"{milliseconds:,.0f}" if milliseconds >= 1000 else f"{milliseconds:.3g}"


def _notes(results: Results) -> list[str]:
    """Report the spread of the rounds, and what has failed."""
    spreads = sorted(record["spread"] for record in results["records"] if record["seconds"])
    settings = results["settings"]
    lines = []
    if spreads:
        lines.append(
            f"Medians of {settings['rounds']} rounds, of {settings['searches']} for searches; "
            f"quartiles lie {spreads[len(spreads) // 2]:.1%} away in the middle cell, "
            f"{spreads[-1]:.1%} in the widest."
        )
    lines += [
        f"{record['library']}, {record['name']}, {record['dtype']}, {_cores(record['threads'])}: "
        f"{record['failed']}."
        for record in results["records"]
        if record["failed"]
    ]
    return ["", *[f"- {line}" for line in lines], ""] if lines else [""]


def _error(scores: list[float]) -> float:
    """Return the standard error of a mean."""
    return statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else float("nan")


def _mean_of(scores: list[float]) -> str:
    return f"{statistics.fmean(scores):.4f} ± {_error(scores):.4f}"


def _apart(ours: list[float], theirs: list[float]) -> list[str]:
    """Return the mean difference of the same seeds, and it in units of its standard error."""
    # Scores of the same predictions may differ in the last bit, as sums come in another order.
    differences = [round(a - b, 9) for a, b in zip(ours, theirs, strict=True)]
    mean, error = statistics.fmean(differences), _error(differences)
    if not any(differences):
        return ["0", "0"]
    units = f"{mean / error:+.1f}" if error > 0.0 else "-"
    return [f"{mean:+.4f}", units]
