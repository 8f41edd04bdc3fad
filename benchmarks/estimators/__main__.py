"""``python -m benchmarks.estimators``: measure both libraries' estimators, write the tables."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..commands import add_options, keep, read, when_and_where
from . import tables
from .measuring import DTYPES, FULL, QUICK, Effort, Pair, Record
from .work import FITS, PREDICTIONS, SCORED, SEARCHES

__all__ = ["main", "measure"]

_OUTPUT = Path(".benchmarks/estimators.json")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0, or 1 if something could not be measured or was wrong."""
    options = _parser().parse_args(arguments)
    if options.results:
        results = read(options.results)
    else:
        effort = QUICK if options.quick else FULL
        threads = sorted(set(options.threads))
        results = measure(threads, effort, options.only, default=options.default_threads)
        keep(results, options.output)
    print(tables.render(results, tables.SECTIONS))
    for path in options.write:
        tables.fill(path, results)
    return 1 if tables.is_trouble(results) else 0


def measure(
    threads: list[int], effort: Effort, only: list[str], *, default: bool = False
) -> dict[str, Any]:
    """Return the results of all the work, as what JSON can hold."""
    records: list[Record] = []

    def chosen(name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in only)

    with Pair(threads, effort, default=default) as pair:
        versions = pair.versions()
        for name in filter(chosen, FITS):
            for dtype in DTYPES:
                records += _told(pair.fit(name, FITS[name], dtype))
        for name in filter(chosen, PREDICTIONS):
            work, rows = PREDICTIONS[name]
            for dtype in DTYPES:
                records += _told(pair.predict(name, work, dtype, rows))
        for name in filter(chosen, SEARCHES):
            for dtype in effort.search_dtypes:
                records += _told(pair.search(name, SEARCHES[name], dtype))
        scores = [pair.scores(name, SCORED[name]) for name in filter(chosen, SCORED)]
    return {
        **when_and_where(),
        "settings": {
            "rounds": effort.rounds,
            "searches": effort.searches,
            "default_threads": default,
        },
        "versions": versions,
        "records": [record.as_json() for record in records],
        "scores": scores,
    }


def _told(records: list[Record]) -> list[Record]:
    """Say on standard error what was measured just now."""
    for record in records:
        if record.failed:
            print(f"{record.name}, {record.library}: {record.failed}", file=sys.stderr)
    print(f"{records[0].name}, {records[0].dtype}", file=sys.stderr, flush=True)
    return records


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.estimators",
        description="Measure MLPClassifier and MLPRegressor beside scikit-learn's.",
    )
    add_options(parser, "fits, predictions, searches or data sets", _OUTPUT)
    parser.add_argument("--quick", action="store_true", help="a first look: few short rounds")
    parser.add_argument(
        "--default-threads",
        action="store_true",
        help="set no library's threads, BLAS's neither: as users have them, on so many cores",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
