"""What the programs of all libraries share: they take commands and measure in their own process.

A command is one JSON object a line on standard input, its answer one on standard output.  Each
program is a file that is run by its path, by the Python that has its library: they import
NumPy and that library and nothing else.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BETA_1",
    "BETA_2",
    "EPSILON",
    "LEARNING_RATE",
    "Case",
    "Library",
    "about",
    "answer",
    "arguments",
    "seconds_of",
    "serve",
]

Floats = NDArray[np.floating[Any]]

# Seconds of calls by which it is found how many are timed.
_LONG_ENOUGH = 0.005

# Adam as in Algorithm 1 of Kingma and Ba (2015), in every library.
LEARNING_RATE, BETA_1, BETA_2, EPSILON = 0.001, 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Case:
    """A network with its first weights, the examples, and how it is trained."""

    X: Floats
    y: NDArray[Any]
    weights: list[tuple[Floats, Floats]]
    activation: str
    last: str
    batch_size: int
    #: The network as an ONNX file, where it comes as one.
    onnx: bytes = b""

    @property
    def classifies(self) -> bool:
        """Whether softmax and cross-entropy end the network, else mean squared error does."""
        return self.last == "softmax"

    @property
    def batches(self) -> list[slice]:
        """The batches of an epoch, always in this order."""
        starts = range(0, len(self.X), self.batch_size)
        return [slice(start, start + self.batch_size) for start in starts]

    @classmethod
    def read(cls, path: str) -> Case:
        """Read a case that the comparison wrote."""
        with np.load(path) as file:
            layers = int(file["layers"])
            return cls(
                X=file["X"],
                y=file["y"],
                weights=[(file[f"W{n}"], file[f"b{n}"]) for n in range(layers)],
                activation=str(file["activation"]),
                last=str(file["last"]),
                batch_size=int(file["batch_size"]),
                onnx=file["onnx"].tobytes() if "onnx" in file else b"",
            )


class Library(ABC):
    """How one library does the work; what is slow and done once stands in `prepare`."""

    #: Ways to do it, of which the faster counts.
    variants: tuple[str, ...] = ("",)

    def __init__(self, variant: str, threads: int) -> None:
        self.variant = variant
        self.threads = threads

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Return what the result depends on: packages and what they say of themselves."""

    def prepare(self, case: Case) -> None:
        """Take data and weights over, into the library's own arrays."""
        raise NotImplementedError("no training")

    def reset(self) -> None:
        """Go back to the first weights and a fresh optimizer."""
        raise NotImplementedError("no training")

    def train(self, epochs: int) -> None:
        """Train, and return when all of it is done."""
        raise NotImplementedError("no training")

    def weights(self) -> list[tuple[Floats, Floats]]:
        """Return W (inputs, outputs) and b of each layer."""
        raise NotImplementedError("no training")

    def predictor(self, case: Case) -> Callable[[], Any]:
        """Return a function that predicts X, from and to the library's own arrays."""
        raise NotImplementedError("no predictions")

    def product(self, A: Floats, B: Floats) -> Callable[[], Any] | None:
        """Return a function that multiplies two matrices, if the library has one for that."""
        return None

    def forget(self) -> None:
        """Let go of what an earlier case has left behind in the library itself."""
        return


class _Server:
    """Answers commands; each public method is one."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._predict: Callable[[], Any] = lambda: None

    def about(self) -> dict[str, Any]:
        """Return versions, and the cores that this process has."""
        return about(self._library.versions())

    def product(self, size: int) -> dict[str, Any]:
        """Return the best seconds of a product of two square matrices, if there is one."""
        A, B = np.random.default_rng(0).standard_normal((2, size, size), dtype=np.float32)
        multiply = self._library.product(A, B)
        if multiply is None:
            return {}
        multiply()
        return {"seconds": min(seconds_of(multiply) for _ in range(7))}

    def prepare_training(self, case: str) -> dict[str, Any]:
        """Return the seconds of the first epoch, compiling included, and of a later one."""
        self._library.forget()
        began = time.perf_counter()
        self._library.prepare(Case.read(case))
        self._library.reset()
        self._library.train(1)
        first = time.perf_counter() - began
        _keep_loaded()
        return {"first": first, "epoch": min(self._trained(1) for _ in range(2))}

    def train(self, epochs: int, result: str = "") -> dict[str, Any]:
        """Return the seconds of some epochs from the first weights, after an untimed one."""
        self._trained(1)
        seconds = self._trained(epochs)
        if result:
            self._write(result, self._library.weights())
        return {"seconds": seconds}

    def prepare_prediction(self, case: str) -> dict[str, Any]:
        """Return the seconds of the first prediction, compiling included, and of a later one."""
        self._library.forget()
        began = time.perf_counter()
        self._predict = self._library.predictor(Case.read(case))
        self._predict()
        first = time.perf_counter() - began
        _keep_loaded()
        calls, seconds = 1, 0.0
        while seconds < _LONG_ENOUGH:
            calls *= 2
            seconds = min(self._predicted(calls) for _ in range(3))
        return {"first": first, "call": seconds / calls}

    def predict(self, calls: int, result: str = "") -> dict[str, Any]:
        """Return the seconds of some predictions, after a tenth of them, untimed, or one."""
        seconds = self._predicted(calls)
        if result:
            np.savez(result, predictions=np.asarray(self._predict()))
        return {"seconds": seconds}

    def _trained(self, epochs: int) -> float:
        self._library.reset()
        return seconds_of(lambda: self._library.train(epochs))

    def _predicted(self, calls: int) -> float:
        predict = self._predict

        def ask(calls: int) -> None:
            for _ in range(calls):
                predict()

        return seconds_of(lambda: ask(calls), lambda: ask(max(1, calls // 10)))

    def _write(self, path: str, weights: list[tuple[Floats, Floats]]) -> None:
        arrays = {f"W{n}": np.asarray(W) for n, (W, _) in enumerate(weights)}
        arrays |= {f"b{n}": np.asarray(b) for n, (_, b) in enumerate(weights)}
        np.savez(path, **arrays)  # type: ignore[arg-type]


def about(versions: dict[str, str]) -> dict[str, Any]:
    """Return versions, and the cores that this process has, where systems tell."""
    found: dict[str, Any] = {"versions": versions}
    if hasattr(os, "sched_getaffinity"):
        found["cores"] = sorted(os.sched_getaffinity(0))
    return found


def _keep_loaded() -> None:
    """Let no collection go through what a library loaded when it was first used.

    That would leave the caches to whoever loaded most.
    """
    gc.collect()
    gc.freeze()


def seconds_of(work: Callable[[], Any], before: Callable[[], Any] | None = None) -> float:
    """Return how long something takes, with no collection of garbage inside.

    What is to be done before it, untimed, comes behind the collection, which empties the caches.
    """
    gc.collect()
    gc.disable()
    try:
        if before is not None:
            before()
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    finally:
        gc.enable()


def arguments(variant: str) -> tuple[str, int]:
    """Return the variant, this one if left out, and the threads that a program is started with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--variant", default=variant)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    return given.variant, given.threads


def answer(make: Callable[[], object]) -> None:
    """Answer commands until there are no more: each is a public method of what is made."""
    # Answers go where standard output went; whatever a library prints goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = make()
    # What was imported stays: no collection before a measurement need go through it.
    gc.freeze()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            found = getattr(server, command.pop("do"))(**command)
        except Exception as problem:
            found = {"failed": f"{type(problem).__name__}: {problem}"}
        print(json.dumps(found), file=answers, flush=True)


def serve(library: type[Library]) -> None:
    """Answer commands with a library."""
    variant, threads = arguments(library.variants[0])
    answer(lambda: _Server(library(variant, threads)))
