"""The measurement: every library in turn, round after round, on one piece of work at a time.

A noisy minute then affects all of them, and each shows its median.  While one computes, the
others are paused.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..cores import physical_cores
from ..workloads import Workload
from .checking import Referee, WrongWork
from .children import IMPORTS, PEERS, Child, ChildFailed

__all__ = ["FULL", "LEFT_OUT", "QUICK", "Effort", "Record", "Team", "is_trouble", "spread"]

# Size of the matrices whose product measures the speed of a library's own products.
_PRODUCT = 1024

# How the record of a way that is not worth its time begins: no failure, as another way is shown.
LEFT_OUT = "left out"
_TOO_SLOW = LEFT_OUT + ": at {:.0f} us per step several times slower than this library's faster way"


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    #: Rounds over all libraries.
    repeats: int
    #: Seconds that a timed run of the fastest library shall take.
    least: float
    #: Seconds that one of the slowest library may take, which goes before.
    most: float
    #: Steps of a timed training, whatever they take: a start is not most of it.
    steps: int = 1


FULL = Effort(repeats=5, least=0.3, most=2.0, steps=16)
QUICK = Effort(repeats=3, least=0.02, most=0.4)


@dataclass
class Record:
    """The result of one library's variant on one piece of work.

    ``seconds`` are those of one unit, a step or a call, round by round; ``first`` those of the
    first epoch or call, with what it compiles; ``failed`` says why there are none.
    """

    kind: str
    name: str
    peer: str
    variant: str
    threads: int
    flops: float
    first: float | None = None
    seconds: list[float] = field(default_factory=list)
    steps: int = 0
    loss: float | None = None
    accuracy: float | None = None
    failed: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold, with the median and the spread."""
        found = asdict(self)
        if self.seconds:
            found["median"] = statistics.median(self.seconds)
            found["spread"] = spread(self.seconds)
        return found


def is_trouble(record: Mapping[str, Any]) -> bool:
    """Whether a record is missing for another reason than a faster way to do the same."""
    return bool(record["failed"]) and not record["failed"].startswith(LEFT_OUT)


def spread(seconds: list[float]) -> float:
    """Return half the range of the middle half, as a share of the median."""
    if len(seconds) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return (high - low) / 2 / middle


@dataclass
class _Entrant:
    """A child on one piece of work, its record, and how long an epoch or a call takes."""

    child: Child
    record: Record
    unit: float = math.nan


class Team:
    """The processes of all libraries.

    Parameters
    ----------
    peers : list of str
        Which of `PEERS`.
    threads : list of int
        Each library is run with each of these numbers of threads.
    pythons : dict of str to str
        The Python of a library that does not live in this one's environment.
    effort : Effort
        How long to measure.
    imports : list of str
        Which of `IMPORTS`: whose networks are measured after their import, too.

    Raises
    ------
    ValueError
        If more threads are asked for than there are cores.
    """

    def __init__(
        self,
        peers: list[str],
        threads: list[int],
        pythons: Mapping[str, str],
        effort: Effort,
        imports: Sequence[str] = (),
    ) -> None:
        cores = physical_cores()
        if max(threads) > len(cores):
            raise ValueError(
                f"threads must be at most the {len(cores)} physical cores that this process may "
                f"use; got {max(threads)}."
            )
        self.effort = effort
        with ExitStack() as ends:
            self._folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))

            def started(peer: str, variant: str, count: int, program: str | None = None) -> Child:
                # The last cores: the first one often serves the machine's interrupts.
                used, python = cores[-count:], pythons.get(peer, sys.executable)
                return ends.enter_context(Child(peer, variant, count, used, python, program))

            self.children = [
                started(peer, variant, count)
                for peer in peers
                for variant in PEERS[peer].variants
                for count in threads
            ]
            self._importing = [
                started("fastnn", peer, count, IMPORTS[peer].file)
                for peer in imports
                for count in threads
            ]
            self._ends = ends.pop_all()

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *exception: object) -> None:
        self._ends.close()

    def about(self) -> list[dict[str, Any]]:
        """Return each child's versions, and the FLOP/s of its own product of large matrices."""
        # All are called first, as some are still importing, which would disturb a product.
        every = [*self.children, *self._importing]
        answers = [_answer(child, "about") for child in every]
        for child, answer in zip(every, answers, strict=True):
            if "failed" not in answer:
                seconds = _answer(child, "product", size=_PRODUCT).get("seconds")
                answer["product"] = 2 * _PRODUCT**3 / seconds if seconds else None
        return answers

    def train(self, name: str, workload: Workload) -> list[Record]:
        """Measure the steps of a training with all libraries that train."""
        referee = Referee(workload)
        case = self._folder / "case.npz"
        referee.write_case(case)

        def prepare(child: Child) -> tuple[float, float]:
            found = child.ask("prepare_training", case=str(case))
            result = self._result(child)
            child.ask("train", epochs=referee.epochs, result=str(result))
            referee.check(result, child.peer)
            return found["first"], found["epoch"]

        training = [child for child in self.children if PEERS[child.peer].trains]
        entrants = _prepared(training, prepare, "training", name, workload.flops)
        epochs, slowest = _plan(entrants, self.effort, workload.steps)
        for entrant in entrants:
            if entrant.unit * epochs > 5 * slowest:
                entrant.record.failed = _TOO_SLOW.format(entrant.unit / workload.steps * 1e6)

        def run(entrant: _Entrant) -> None:
            result = str(self._result(entrant.child))
            seconds = entrant.child.ask("train", epochs=epochs, result=result)["seconds"]
            entrant.record.steps = epochs * workload.steps
            entrant.record.seconds.append(seconds / entrant.record.steps)

        for entrant in self._in_rounds(entrants, run):
            try:
                reached = referee.reached(self._result(entrant.child))
            except WrongWork as problem:
                entrant.record.failed = str(problem)
            else:
                entrant.record.loss, entrant.record.accuracy = reached.loss, reached.accuracy
        return [entrant.record for entrant in entrants]

    def predict(self, name: str, workload: Workload, rows: int) -> list[Record]:
        """Measure predictions of some rows with all libraries."""
        case = self._folder / "case.npz"
        Referee(workload).write_case(case, rows)
        return self._predicted(self.children, f"prediction of {rows}", name, workload, rows)

    def predict_imported(self, name: str, workload: Workload, rows: int) -> list[Record]:
        """Measure predictions of some rows by imported networks, beside the libraries of these.

        The variant of fastnn's records is the library that the network comes from.
        """
        case = self._folder / "case.npz"
        exported = self._folder / "network.onnx"
        whose = {child.variant for child in self._importing}
        if "ONNX Runtime" in whose:
            workload.network().to_onnx(exported)
        Referee(workload).write_case(case, rows, onnx=exported if exported.exists() else None)
        beside = [child for child in self.children if child.peer in whose]
        kind = f"imported prediction of {rows}"
        return self._predicted([*self._importing, *beside], kind, name, workload, rows)

    def _predicted(
        self, children: list[Child], kind: str, name: str, workload: Workload, rows: int
    ) -> list[Record]:
        """Measure predictions of the rows of the case."""
        referee = Referee(workload)
        case = self._folder / "case.npz"

        def prepare(child: Child) -> tuple[float, float]:
            found = child.ask("prepare_prediction", case=str(case))
            result = self._result(child)
            child.ask("predict", calls=1, result=str(result))
            referee.check_predictions(result, rows)
            return found["first"], found["call"]

        def run(entrant: _Entrant) -> None:
            calls = max(1, round(self.effort.least / entrant.unit))
            seconds = entrant.child.ask("predict", calls=calls)["seconds"]
            entrant.record.steps = calls
            entrant.record.seconds.append(seconds / calls)

        flops = workload.prediction_flops * rows
        entrants = _prepared(children, prepare, kind, name, flops)
        self._in_rounds(entrants, run)
        return [entrant.record for entrant in entrants]

    def _result(self, child: Child) -> Path:
        """Where a child writes what it came to."""
        return self._folder / f"{[*self.children, *self._importing].index(child)}.npz"

    def _in_rounds(
        self, entrants: list[_Entrant], run: Callable[[_Entrant], None]
    ) -> list[_Entrant]:
        """Run all once per round, each round starting with another; return those that ran."""
        for turn in range(self.effort.repeats):
            ahead = [entrant for entrant in entrants if not entrant.record.failed]
            start = turn % max(1, len(ahead))
            for entrant in ahead[start:] + ahead[:start]:
                try:
                    run(entrant)
                except ChildFailed as problem:
                    entrant.record.failed = str(problem)
        return [entrant for entrant in entrants if not entrant.record.failed]


def _answer(child: Child, command: str, **arguments: Any) -> dict[str, Any]:
    """Return a child's answer, or that it failed, with the child's name."""
    found: dict[str, Any] = {
        "peer": child.peer, "variant": child.variant, "threads": child.threads
    }  # fmt: skip
    try:
        return found | dict(child.ask(command, **arguments))
    except ChildFailed as problem:
        return found | {"failed": str(problem)}


def _prepared(
    children: list[Child],
    prepare: Callable[[Child], tuple[float, float]],
    kind: str,
    name: str,
    flops: float,
) -> list[_Entrant]:
    """Give all libraries the work, compiled and checked; a failure is written to the record."""
    entrants = []
    for child in children:
        record = Record(kind, name, child.peer, child.variant, child.threads, flops)
        entrant = _Entrant(child, record)
        try:
            record.first, entrant.unit = prepare(child)
        except (ChildFailed, WrongWork) as problem:
            record.failed = str(problem)
        entrants.append(entrant)
    return entrants


def _plan(entrants: list[_Entrant], effort: Effort, steps: int) -> tuple[int, float]:
    """Return how many epochs of so many steps all train, and the slowest library's seconds.

    A library counts in its fastest way, fastnn with each number of threads, as each is shown.
    """
    best: dict[tuple[str, int], float] = {}
    for entrant in entrants:
        record = entrant.record
        if not record.failed:
            key = (record.peer, record.threads if record.peer == "fastnn" else 0)
            best[key] = min(entrant.unit, best.get(key, math.inf))
    units = list(best.values()) or [1.0]
    fitting = min(effort.least / min(units), effort.most / max(units))
    wanted = max(1.0, fitting, effort.steps / steps)
    power = 10 ** math.floor(math.log10(wanted))
    epochs = max(digit * power for digit in (1, 2, 5) if digit * power <= wanted)
    return epochs, epochs * max(units)
