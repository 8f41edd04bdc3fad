"""``python -m benchmarks.history``: measure some commits by asv, and keep what the site shows.

The commits stand in ``benchmarks/results/commits.txt``, each with what it brought.  asv measures
them in turn, some rounds, of which the least counts, as other work only slows down; what is kept
of that in ``benchmarks/results`` has asv's own form, fewer benchmarks, and nothing that names a
machine or a folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / ".asv" / "results"
KEPT = ROOT / "benchmarks" / "results"

# What is measured: a suite that knows of the library what every commit has, its public names.
BENCHMARKS = "chosen."
SUITE = ("__init__.py", "chosen.py", "units.py", "workloads.py")
# What of a machine is told: not its name.
TOLD = ("arch", "cpu", "num_cpu", "os")


def commits() -> list[tuple[str, str]]:
    """Return the commits, oldest first, each with what it brought."""
    lines = (KEPT / "commits.txt").read_text("utf-8").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def measure(commit: str) -> None:
    """Have asv measure a commit, in a folder of its own; the least of this and before counts."""
    before = {path: _results(path) for path in MEASURED.glob(f"*/{commit[:8]}-*.json")}
    with tempfile.TemporaryDirectory() as folder:
        tree, suite = str(Path(folder) / "tree"), Path(folder) / "benchmarks"
        suite.mkdir()
        for name in SUITE:
            shutil.copy(ROOT / "benchmarks" / name, suite / name)
        settings: dict[str, Any] = {"version": 1, "project": "fastnn", "branches": ["main"]}
        settings |= {"repo": str(ROOT), "benchmark_dir": str(suite), "env_dir": folder}
        settings |= {"results_dir": str(MEASURED), "environment_type": "virtualenv"}
        config = suite / "asv.conf.json"
        config.write_text(json.dumps(settings), "utf-8")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", tree, commit], check=True)
        try:
            # The suites are today's, the library is the commit's.
            command = [sys.executable, "-m", "asv", "run", "--config", str(config)]
            command += ["--python=same", "--set-commit-hash", commit, "--show-stderr"]
            done = subprocess.run(command, env={**os.environ, "ASV_PYTHONPATH": tree})
            # asv ends with 2 where a suite failed, such as one of what a commit has not yet.
            if done.returncode not in (0, 2):
                raise SystemExit(done.returncode)
        finally:
            subprocess.run([*git, "remove", "--force", tree], check=True)
    for path, known in before.items():
        found = _results(path)
        for name, (values, *rest) in known["results"].items():
            if name in found["results"]:
                now, *_ = found["results"][name]
                pairs = zip(values, now, strict=True)
                least = [min((x for x in pair if x is not None), default=None) for pair in pairs]
                found["results"][name] = [least, *rest]
        path.write_text(json.dumps(found), "utf-8")


def _results(path: Path) -> dict[str, Any]:
    """Return what asv wrote of a commit."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def plain(machine: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of a machine, under a name made of that."""
    told = {key: str(machine.get(key, "")) for key in TOLD}
    told["os"] = told["os"].split()[0] if told["os"] else platform.system()
    words = f"{told['cpu']} {told['num_cpu']} cores".lower().split()
    return {"machine": "-".join(words).replace("/", "-"), **told}


def keep(hashes: list[str]) -> list[Path]:
    """Write what asv has measured of these commits beside the benchmarks; return the files."""
    written = []
    for machine in sorted(MEASURED.glob("*/machine.json")):
        known = plain(json.loads(machine.read_text("utf-8")))
        for found in sorted(machine.parent.glob("*.json")):
            if not found.name.startswith(tuple(one[:8] for one in hashes)):
                continue
            result = _results(found)
            # asv names this Python by its path.
            version = platform.python_version()
            result["params"] = {**known, "python": version}
            result["python"], result["env_name"] = version, f"python{version}"
            result["env_vars"] = {}
            result["durations"] = {}
            taken = result["results"].items()
            result["results"] = {name: of for name, of in taken if name.startswith(BENCHMARKS)}
            folder = KEPT / known["machine"]
            folder.mkdir(exist_ok=True)
            (folder / "machine.json").write_text(json.dumps({**known, "version": 1}, indent=1))
            path = folder / f"{result['commit_hash'][:8]}.json"
            path.write_text(json.dumps(result, indent=None) + "\n", "utf-8")
            written.append(path)
    return written


def main() -> None:
    """Measure, keep, and say what is kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="measure nothing, keep what asv has measured before"
    )
    parser.add_argument("--rounds", type=int, default=3, help="over all commits; 3 by default")
    options = parser.parse_args()
    hashes = [commit for commit, _ in commits()]
    for _ in range(0 if options.keep else options.rounds):
        for commit in hashes:
            measure(commit)
    for path in keep(hashes):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
