"""``python -m benchmarks.compare``: measure, check, and write results, tables and a chart."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..commands import add_options, at_least_one, keep, read, when_and_where
from ..peak import fma_peak
from ..workloads import NETWORKS, SERIES, WORKLOADS, Workload
from . import tables
from .adding import added
from .chart import draw, draw_rows
from .children import IMPORTS, PEERS, is_installed
from .measuring import FULL, QUICK, Effort, Record, Team, is_trouble

__all__ = ["Asked", "main", "measure"]

_ROWS = (1, 4, 16, 64, 256, 1000, 10_000)
_IMPORTED_ROWS = (1, 64, 1000)
_OUTPUT = Path(".benchmarks/compare.json")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0, or 1 if something could not be measured or was wrong."""
    options = _parser().parse_args(arguments)
    if options.results:
        results = read(options.results)
    else:
        results = measure(
            _chosen_peers(options),
            sorted(set(options.threads)),
            dict(options.python),
            _effort(options),
            _asked(options),
        )
        if options.add and options.output.exists():
            results = added(read(options.output), results)
        keep(results, options.output)
    print(tables.render(results, tables.SECTIONS))
    if options.chart:
        _draw(options.chart, results)
    for path in options.write:
        tables.fill(path, results)
    return 1 if any(is_trouble(record) for record in results["records"]) else 0


@dataclass(frozen=True)
class Asked:
    """What is measured: trainings, series among them, and predictions of so many rows."""

    only: list[str]
    trainings: bool
    series: bool
    rows: tuple[int, ...]
    #: Rows that imported networks predict.
    imported: tuple[int, ...]


def measure(
    peers: list[str],
    threads: list[int],
    pythons: dict[str, str],
    effort: Effort,
    asked: Asked,
) -> dict[str, Any]:
    """Return the results of the work that is asked for, as what JSON can hold."""
    records: list[Record] = []
    peak = _Peak(threads)
    imports = _importable(peers, pythons) if asked.imported else []
    with Team(peers, threads, pythons, effort, imports) as team:
        libraries = team.about()
        for name, workload in _trainings(asked.only, asked.series) if asked.trainings else ():
            records += _told(team.train(name, workload))
            peak.measure()
        for name, workload in _matching(NETWORKS, asked.only):
            for count in asked.rows:
                records += _told(team.predict(name, workload, count))
            for count in asked.imported if imports else ():
                records += _told(team.predict_imported(name, workload, count))
            peak.measure()
    return {
        **when_and_where(),
        "settings": {"repeats": effort.repeats, "least": effort.least, "most": effort.most},
        "peak": {str(count): flops for count, flops in peak.best.items()},
        "libraries": libraries,
        "records": [record.as_json() for record in records],
    }


class _Peak:
    """The multiply-add peak, the best of several that are measured between the other measurements.

    Noise only slows down; a single peak, measured in a noisy moment, would flatter.
    """

    def __init__(self, threads: list[int]) -> None:
        self.best = dict.fromkeys(threads, 0.0)
        self.measure()

    def measure(self) -> None:
        for count, before in self.best.items():
            self.best[count] = max(before, fma_peak("float32", count))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Measure fastnn beside other libraries on the same work.",
    )
    add_options(parser, "workloads, networks or series", _OUTPUT)
    parser.add_argument(
        "--rows",
        nargs="*",
        type=at_least_one,
        metavar="N",
        help=f"predictions alone, of so many rows (default: {' '.join(map(str, _ROWS))})",
    )
    parser.add_argument(
        "--imported",
        action="store_true",
        help="predictions of imported networks alone "
        f"(of {', '.join(map(str, _IMPORTED_ROWS))} rows, if --rows gives no others)",
    )
    parser.add_argument(
        "--add",
        action="store_true",
        help="keep what --output holds of other work, so that a run may go in parts",
    )
    parser.add_argument("--repeats", type=at_least_one, help="rounds over all libraries")
    parser.add_argument(
        "--quick", action="store_true", help="a first look: few short rounds, and no series"
    )
    parser.add_argument(
        "--peers",
        nargs="+",
        type=_peer,
        metavar="NAME",
        help=f"libraries (default: all that are installed of {', '.join(PEERS)})",
    )
    parser.add_argument(
        "--python",
        action="append",
        type=_pair,
        default=[],
        metavar="PEER=PATH",
        help="the Python that has a library, where it lives in an environment of its own",
    )
    parser.add_argument(
        "--chart",
        type=Path,
        metavar="FILE",
        help="draw the ratios of trainings by size; those of predictions by rows, in FILE-rows",
    )
    return parser  # fmt: skip


def _draw(path: Path, results: dict[str, Any]) -> None:
    """Draw the results, each kind of work into a file of its own, and record the paths."""
    if any(record["kind"] == "training" for record in results["records"]):
        draw(path, results)
        results["chart"] = str(path)
    if tables.rows_of(results):
        beside = path.with_stem(f"{path.stem}-rows")
        draw_rows(beside, results)
        results["rows_chart"] = str(beside)


def _peer(text: str) -> str:
    """Return the name of a library, however it is spelt."""

    def plain(name: str) -> str:
        return "".join(filter(str.isalnum, name.casefold()))

    for name in PEERS:
        if plain(name) == plain(text):
            return name
    raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(PEERS)}")


def _pair(text: str) -> tuple[str, str]:
    """Return the library and the path of ``peer=path``."""
    name, _, path = text.partition("=")
    if not path:
        raise argparse.ArgumentTypeError("must be PEER=PATH")
    return _peer(name), path


def _effort(options: argparse.Namespace) -> Effort:
    effort = QUICK if options.quick else FULL
    return replace(effort, repeats=options.repeats or effort.repeats)


def _asked(options: argparse.Namespace) -> Asked:
    everything = options.rows is None and not options.imported
    return Asked(
        options.only,
        trainings=everything,
        series=not options.quick,
        rows=() if options.imported else tuple(options.rows or _ROWS),
        imported=tuple(options.rows or _IMPORTED_ROWS) if options.imported or everything else (),
    )


def _importable(peers: list[str], pythons: dict[str, str]) -> list[str]:
    """Return the libraries among these whose networks can be written here and read by fastnn."""
    every = {sys.executable, pythons.get("fastnn", sys.executable)}
    return [
        peer
        for peer in IMPORTS
        if peer in peers and all(is_installed(peer, python, imports=True) for python in every)
    ]


def _chosen_peers(options: argparse.Namespace) -> list[str]:
    """Return the libraries to measure, always with fastnn; report those that are skipped."""
    pythons = dict(options.python)
    wanted = {"fastnn", *(options.peers or PEERS)}
    missing = [
        peer
        for peer in PEERS
        if peer in wanted and not is_installed(peer, pythons.get(peer, sys.executable))
    ]
    for peer in missing:
        if options.peers:
            raise SystemExit(f"{peer} is not installed; --python {peer}=PATH names its Python.")
        print(f"left out, as it is not installed: {peer}", file=sys.stderr)
    return [peer for peer in PEERS if peer in wanted and peer not in missing]


def _matching(every: dict[str, Workload], only: list[str]) -> Iterator[tuple[str, Workload]]:
    for name, workload in every.items():
        if any(fnmatch(name, pattern) for pattern in only):
            yield name, workload


def _trainings(only: list[str], series: bool) -> Iterator[tuple[str, Workload]]:
    """Yield the chosen workloads; a series whole where its own name is chosen."""
    yield from _matching(WORKLOADS, only)
    for name, members in SERIES.items():
        if name in only:
            yield from members.items()
        elif series or only != ["*"]:
            yield from _matching(members, only)


def _told(records: list[Record]) -> list[Record]:
    """Report on standard error what has just been measured."""
    for record in records:
        way = f"{record.peer} {record.variant}".strip()
        found = record.as_json()
        told = record.failed or f"{found['median'] * 1e6:12,.2f} us +- {found['spread']:.1%}"
        print(
            f"{record.kind}: {record.name}, {way}, {record.threads} threads: {told}",
            file=sys.stderr,
            flush=True,
        )
    return records


if __name__ == "__main__":
    sys.exit(main())
