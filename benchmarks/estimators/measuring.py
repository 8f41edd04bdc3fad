"""The measurement: both libraries in turn, round after round, on one piece of work at a time.

While one computes the other is paused.  Their results are compared: a fit with another loss or
another number of epochs is a failure and is not shown.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..compare.children import Child, ChildFailed
from ..compare.measuring import spread
from ..cores import physical_cores
from .work import DATA, Search, Work

__all__ = ["DTYPES", "FULL", "LIBRARIES", "QUICK", "Effort", "Pair", "Record"]

LIBRARIES = ("scikit-learn", "fastnn")
DTYPES = ("float32", "float64")

_PROGRAM = "perceptrons.py"
# More threads do not help where one fit takes so many times as long with them.
_NO_HELP = 1.2
# So many of 10 000 predictions may differ, where two classes are as likely.
_DIFFERENT = 1e-3
# Best scores of two searches may lie so far apart; the fits differ by rounding only.
_SCORE = 5e-3


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    #: Rounds over both libraries.
    rounds: int
    #: Rounds of a search, which is long.
    searches: int
    #: Seconds that a timed run shall take, at least.
    least: float
    #: Seeds of the scores.
    seeds: int
    #: What the features of a search are.
    search_dtypes: tuple[str, ...] = DTYPES


FULL = Effort(rounds=7, searches=3, least=0.1, seeds=10)
QUICK = Effort(rounds=3, searches=1, least=0.02, seeds=3, search_dtypes=("float64",))


@dataclass
class Record:
    """One library's result on one piece of work: seconds of each round, or why there are none.

    ``reached`` is the loss of a fit's last epoch, or the best score of a search.
    """

    kind: str
    name: str
    dtype: str
    library: str
    threads: int
    seconds: list[float] = field(default_factory=list)
    reached: float | None = None
    failed: str = ""
    left_out: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold, with the median and the spread."""
        found = asdict(self)
        if self.seconds:
            found["median"] = statistics.median(self.seconds)
            found["spread"] = spread(self.seconds)
        return found


class Pair:
    """The processes of both libraries, with each number of threads.

    Parameters
    ----------
    threads : list of int
        Numbers of threads.
    effort : Effort
        How long to measure.
    default : bool
        Whether all libraries, BLAS included, take as many threads as they do by default, on so
        many cores.

    Raises
    ------
    ValueError
        If more threads are asked for than there are cores.
    """

    def __init__(self, threads: list[int], effort: Effort, *, default: bool = False) -> None:
        self._cores = physical_cores()
        if max(threads) > len(self._cores):
            raise ValueError(
                f"threads must be at most the {len(self._cores)} physical cores that this process "
                f"may use; got {max(threads)}."
            )
        self.effort = effort
        self._threads, self._default = threads, default
        self._written: dict[str, Path] = {}
        with ExitStack() as ends:
            self._folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))
            self._children = [
                ends.enter_context(self._child(library, count, count))
                for count in threads
                for library in LIBRARIES
            ]
            self._ends = ends.pop_all()

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *exception: object) -> None:
        self._ends.close()

    def _child(self, library: str, threads: int, cores: int) -> Child:
        # The last cores: the first one often serves the machine's interrupts.
        kept = self._cores[-cores:]
        return Child(library, library, threads, kept, program=_PROGRAM, default=self._default)

    def versions(self) -> dict[str, str]:
        """Return the versions of both libraries."""
        found: dict[str, str] = {}
        for child in self._children:
            found |= child.ask("about")["versions"]
        return found

    # What is timed.

    def fit(self, name: str, work: Work, dtype: str) -> list[Record]:
        """Measure a fit, and compare both libraries' losses."""
        return self._timed("fit", name, work, dtype, "prepare_fit", {})

    def predict(self, name: str, work: Work, dtype: str, rows: int) -> list[Record]:
        """Measure predictions of some rows, and compare them."""
        return self._timed("predict", name, work, dtype, "prepare_prediction", {"rows": rows})

    def search(self, name: str, search: Search, dtype: str) -> list[Record]:
        """Measure a grid search in a process for each core, each with one thread."""
        cores = max(self._threads)
        work = search.work
        records = [Record("search", name, dtype, library, cores) for library in LIBRARIES]
        with ExitStack() as ends:
            children = [ends.enter_context(self._child(name, 1, cores)) for name in LIBRARIES]
            asked = self._asked(work, dtype) | {
                "grid": dict(search.grid), "folds": search.folds, "jobs": cores
            }  # fmt: skip
            teams = list(zip(children, records, strict=True))
            for child, record in teams:
                _try(record, child.ask, "prepare_search", **asked)
            for turn in range(self.effort.searches):
                for child, record in teams[:: 1 if turn % 2 else -1]:
                    _try(record, _run, child, record, 1)
            _compare(teams, "found", 0.0)
            for child, record in teams:
                _try(record, child.ask, "end_workers")
        return records

    def _timed(
        self, kind: str, name: str, work: Work, dtype: str, command: str, more: dict[str, Any]
    ) -> list[Record]:
        """Time a piece of work with every child, in turn."""
        asked = self._asked(work, dtype) | more
        teams: list[tuple[Child, Record]] = []
        units: dict[int, float] = {}
        for child in self._children:
            record = Record(kind, name, dtype, child.peer, child.threads)
            found = _try(record, child.ask, command, **asked)
            units[id(child)] = found["seconds"] if found else 0.0
            teams.append((child, record))
        _leave_out(teams, units)
        for turn in range(self.effort.rounds):
            start = turn % len(teams)
            for child, record in teams[start:] + teams[:start]:
                calls = max(1, round(self.effort.least / max(units[id(child)], 1e-9)))
                _try(record, _run, child, record, calls)
        _compare(teams, "fitted" if kind == "fit" else "predicted", work.tolerance[dtype])
        return [record for _, record in teams]

    # What is scored.

    def scores(self, name: str, work: Work) -> dict[str, Any]:
        """Return the scores of scikit-learn, of fastnn, and of fastnn in single precision."""
        seeds = list(range(self.effort.seeds))
        # Nothing is timed: the first child of each will do.
        theirs, ours = self._children[:2]
        found: dict[str, Any] = {"name": name, "kind": work.kind, "scores": {}}
        for label, child, more in (
            ("scikit-learn", theirs, {}),
            ("fastnn", ours, {}),
            ("fastnn, float32", ours, {"dtype": "float32"}),
        ):
            asked = self._asked(work, "float64")
            asked.pop("dtype")
            asked["parameters"] = asked["parameters"] | more
            answer = child.ask("scores", seeds=seeds, **asked)
            found["scores"][label] = answer["scores"]
        return found

    def _asked(self, work: Work, dtype: str) -> dict[str, Any]:
        """Return the arguments of every command, with the examples in a file."""
        if work.data not in self._written:
            X, y = DATA[work.data]()
            path = self._folder / f"{len(self._written)}.npz"
            parts = {"X": X}
            if not isinstance(X, np.ndarray):
                names = ("data", "indices", "indptr", "shape")
                parts = {name: getattr(X, name) for name in names}
            np.savez(path, y=y, **parts)
            self._written[work.data] = path
        return {
            "case": str(self._written[work.data]),
            "kind": work.kind,
            "parameters": dict(work.parameters),
            "dtype": dtype,
        }


def _try(record: Record, ask: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call a child that has not failed yet; a failure is written to the record."""
    if record.failed or record.left_out:
        return None
    try:
        return ask(*arguments, **named)
    except ChildFailed as problem:
        record.failed = str(problem)
        return None


def _run(child: Child, record: Record, calls: int) -> None:
    """Time a run of some calls."""
    record.seconds.append(child.ask("run", calls=calls)["seconds"] / calls)


def _leave_out(teams: list[tuple[Child, Record]], units: Mapping[int, float]) -> None:
    """Skip more threads of scikit-learn's where they only slow it down."""
    fewest = units[id(teams[0][0])]
    for child, record in teams:
        if child.peer != "fastnn" and units[id(child)] > _NO_HELP * fewest > 0.0:
            record.left_out = True


def _compare(teams: list[tuple[Child, Record]], command: str, tolerance: float) -> None:
    """Compare all results with that of scikit-learn, which comes first."""
    reference: Mapping[str, Any] | None = None
    for child, record in teams:
        result = _try(record, child.ask, command)
        if result is not None:
            reference = reference or result
            record.reached = result.get("loss", result.get("score"))
            record.failed = _difference(result, reference, tolerance)


def _difference(
    result: Mapping[str, Any], reference: Mapping[str, Any], tolerance: float
) -> str:  # fmt: skip
    """Say how a result differs from scikit-learn's; nothing where it does not."""
    if result.get("epochs") != reference.get("epochs"):
        return f"it took {result['epochs']} epochs; scikit-learn took {reference['epochs']}"
    # Asked this way round, as NaN is no loss either.
    if "loss" in result and not abs(result["loss"] / reference["loss"] - 1.0) <= tolerance:
        return f"its loss is {result['loss']:.6g}; scikit-learn's is {reference['loss']:.6g}"
    if "score" in result and abs(result["score"] - reference["score"]) > _SCORE:
        return f"its score is {result['score']:.4f}; scikit-learn's is {reference['score']:.4f}"
    if "predictions" in result:
        different = np.mean(np.asarray(result["predictions"]) != reference["predictions"])
        if different > _DIFFERENT:
            return f"{different:.2%} of its predictions are not scikit-learn's"
    return ""
