"""What the commands that write tables have in common: options, results in files, the machine."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
from pathlib import Path
from typing import Any

from fastnn.machine.system import cpu_name

from .cores import THREADS, physical_cores

__all__ = ["add_options", "at_least_one", "keep", "read", "when_and_where"]


def at_least_one(text: str) -> int:
    """Return the value of an option that is a count."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count


def add_options(parser: argparse.ArgumentParser, names: str, output: Path) -> None:
    """Add the options that choose work and threads, and say where results and tables go."""
    parser.add_argument(
        "--only",
        nargs="+",
        default=["*"],
        metavar="NAME",
        help=f"{names} by name; * stands for anything",
    )
    parser.add_argument(
        "--threads",
        nargs="+",
        type=at_least_one,
        default=THREADS,
        metavar="N",
        help="numbers of threads (default: one, and as many as there are physical cores)",
    )
    parser.add_argument(
        "--output", type=Path, default=output, help=f"the results (default: {output})"
    )
    parser.add_argument(
        "--results", type=Path, help="measure nothing, show these results of an earlier run"
    )
    add_write(parser)


def add_write(parser: argparse.ArgumentParser) -> None:
    """Add the option that says into which files tables go."""
    parser.add_argument(
        "--write",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="put the tables where this file has places for them",
    )


def read(path: Path) -> dict[str, Any]:
    """Return the results of an earlier run."""
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def keep(results: dict[str, Any], path: Path) -> None:
    """Write results to a file, and say where they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"results: {path}", file=sys.stderr)


def when_and_where() -> dict[str, Any]:
    """Return today's date, and what the machine is."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {
            "cpu": cpu_name(),
            "cores": len(physical_cores()),
            "system": platform.system(),
            "python": platform.python_version(),
        },
    }
