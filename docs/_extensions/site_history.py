"""The page of how fast some commits were, from what asv measured of them.

``benchmarks/results`` holds asv's own files (``python -m benchmarks.history`` writes them).  The
page has a picture for each benchmark and a table of all figures.
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
from pathlib import Path
from typing import Any

PAGE = """# From commit to commit

What [asv](https://asv.readthedocs.io) measured of some commits, oldest first, on {machine}: the
least processor time of many calls, in one thread and in float32. A commit that computes the same
differs by the noise of that machine.

{pictures}

| commit | of | what it brought |{heads} |
| --- | --- | --- |{lines} |
{rows}

[How to take them again, or those of other commits](benchmarks.md#some-commits).
"""

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
# What a benchmark is called on the page.
TITLES = {
    "chosen.Chosen.track_epoch": "an epoch",
    "chosen.ChosenRow.track_row": "one row",
    "chosen.ChosenImport.track_import": "import fastnn",
}


def figure(seconds: float) -> str:
    """Return a time with three digits and its unit."""
    if math.isnan(seconds):
        return "-"
    size, unit = next(one for one in (*UNITS, UNITS[-1]) if seconds >= one[0] or one is UNITS[-1])
    return f"{seconds / size:.3g} {unit}"


def cases(record: list[Any], columns: list[str]) -> dict[str, float]:
    """Return a benchmark's figure for each case of its parameters that was taken."""
    of = dict(zip(columns, record, strict=False))
    choices = [[value.strip("'") for value in values] for values in of["params"]]
    names = [" ".join(value) for value in itertools.product(*choices)]
    values = of["result"] or [None] * len(names)
    return {
        name: value
        for name, value in zip(names, values, strict=True)
        if value is not None and not math.isnan(value)
    }


def measured(folder: Path) -> list[dict[str, Any]]:
    """Return the commits of a machine's folder in the order of ``commits.txt``."""
    found = []
    for line in (folder.parent / "commits.txt").read_text("utf-8").splitlines():
        commit, words = line.split(maxsplit=1)
        path = folder / f"{commit[:8]}.json"
        if path.exists():
            result = json.loads(path.read_text("utf-8"))
            columns = result["result_columns"]
            taken = {name: cases(of, columns) for name, of in result["results"].items() if of}
            day = datetime.datetime.fromtimestamp(result["date"] / 1000, datetime.UTC).date()
            found.append({"commit": commit[:8], "words": words, "day": day, "taken": taken})
    return found


def draw(commits: list[dict[str, Any]], name: str, path: Path) -> None:
    """Draw one benchmark, a line for each of its cases, relative to the first commit."""
    from matplotlib import pyplot, rcParams

    rcParams["svg.hashsalt"] = "fastnn"
    shown, axis = pyplot.subplots(figsize=(7, 3))
    for case in dict.fromkeys(case for one in commits for case in one["taken"].get(name, {})):
        points = [one["taken"].get(name, {}).get(case, math.nan) for one in commits]
        base = next(value for value in points if not math.isnan(value))
        label = f"{case}, first {figure(base)}".removeprefix(", ")
        axis.plot([value / base for value in points], "o-", label=label)
    axis.set_xticks(range(len(commits)), [one["commit"] for one in commits])
    axis.set_ylim(bottom=0)
    axis.set_ylabel("time, first commit = 1")
    axis.set_title(TITLES.get(name, name))
    axis.legend(fontsize=8)
    shown.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(shown)


def page(folder: Path, pictures: Path) -> str:
    """Return the page of a machine, with its pictures written."""
    machine = json.loads((folder / "machine.json").read_text("utf-8"))
    commits = measured(folder)
    names = [name for name in TITLES if any(name in one["taken"] for one in commits)]
    links, heads = [], []
    for name in names:
        path = pictures / f"history-{name.replace('.', '-').lower()}.svg"
        draw(commits, name, path)
        links.append(f"![Time of {TITLES[name]} by commit](/{pictures.name}/{path.name})")
        heads += [
            (name, case)
            for case in dict.fromkeys(c for one in commits for c in one["taken"].get(name, ()))
        ]
    rows = []
    for one in commits:
        taken = [one["taken"].get(name, {}).get(case, math.nan) for name, case in heads]
        cells = [f"`{one['commit']}`", str(one["day"]), one["words"], *map(figure, taken)]
        rows.append("| " + " | ".join(cells) + " |")
    said = [f"{TITLES[name]}, {case}".removesuffix(", ") for name, case in heads]
    return PAGE.format(
        machine=f"{machine['num_cpu']} cores of an {machine['cpu']} under {machine['os']}",
        pictures="\n\n".join(links),
        heads="".join(f" {text} |" for text in said).removesuffix(" |"),
        lines=" ---: |" * (len(heads) - 1) + " ---:",
        rows="\n".join(rows),
    )


def generate(app: Any) -> None:
    """Write the page before Sphinx looks for pages: that of the machine with most commits."""
    root = Path(app.srcdir).resolve()
    results = root.parent / "benchmarks" / "results"
    folders = [path.parent for path in results.glob("*/machine.json")]
    pictures = root / "_pictures"
    pictures.mkdir(exist_ok=True)
    text = page(max(sorted(folders), key=lambda folder: len(measured(folder))), pictures)
    path = root / "history.md"
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


def setup(app: Any) -> dict[str, Any]:
    """Have the page written when a build begins."""
    app.connect("builder-inited", generate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
