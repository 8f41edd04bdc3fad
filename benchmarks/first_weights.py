"""``python -m benchmarks.first_weights``: how well networks learn from rules for first weights.

Networks of 1 to 24 hidden layers of 64 units with relu, tanh and gelu learn twelve problems, some
synthetic and some that ship with scikit-learn, from first weights by fastnn's default and by other
rules, PyTorch's and Keras's defaults among them. Only the first weights differ: every network is
trained by fastnn, with the same steps on the same rows in the same order; a seed stands for a split
of the rows, an order and a draw of first weights. The score is that on held-out rows: accuracy, or
R², where less than 0 (or a fit that diverges) counts as 0.

A full run takes about half an hour on one core. Every score is appended to a file at once, and a
run that finds scores there continues after them; ``--minutes`` ends a run early, and ``--seeds 2``
gives a first look. ``--write FILE`` writes the tables to the places that the file marks for them.

This is not an asv suite: what it measures does not depend on the machine's speed.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastnn as fn

from .commands import add_write, at_least_one
from .compare import places

__all__ = ["PROBLEMS", "RULES", "SECTIONS", "Case", "main", "render", "score"]

Array = NDArray[Any]

_OUTPUT = Path(".benchmarks/first_weights.jsonl")
_ROWS = 1000
_WIDTH = 64
_BATCH = 32
_STEPS = 1200
_OURS = "fastnn"
# Less than so many standard errors of the difference is noise.
_NOISE = 2.0

ACTIVATIONS = ("relu", "tanh", "gelu")
DEPTHS = (1, 2, 4, 8, 24)


class Case(NamedTuple):
    """One network and its first weights."""

    problem: str
    activation: str
    depth: int
    rule: str
    seed: int


class Problem(NamedTuple):
    """A problem: whether its targets are classes, and its rows for a seed."""

    classes: bool
    rows: Callable[[int], tuple[Array, Array]]


class Parts(NamedTuple):
    """Training rows and held-out rows, scaled by the statistics of the former."""

    X: Array
    y: Array
    X_new: Array
    y_new: Array


def _shipped(name: str) -> Callable[[int], tuple[Array, Array]]:
    """Return a function that loads a data set that ships with scikit-learn."""

    def load(seed: int) -> tuple[Array, Array]:
        from sklearn import datasets

        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        return X, y

    return load


def _made(name: str, **settings: Any) -> Callable[[int], tuple[Array, Array]]:
    """Return a function that generates a data set with one of scikit-learn's functions."""

    def make(seed: int) -> tuple[Array, Array]:
        from sklearn import datasets

        X, y = getattr(datasets, f"make_{name}")(2 * _ROWS, **settings, random_state=seed)
        return X, y

    return make


def _hastie(seed: int) -> tuple[Array, Array]:
    X, y = _made("hastie_10_2")(seed)
    return X, (y > 0).astype(np.int64)


def _wave(seed: int) -> tuple[Array, Array]:
    """One feature: a wave with a kink."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.0, 1.0, 2 * _ROWS)
    return x[:, None], np.sin(8.0 * x) + np.abs(x) + 0.1 * rng.normal(size=x.size)


def _surface(seed: int) -> tuple[Array, Array]:
    """Two features: the product of two waves."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1.0, 1.0, (2 * _ROWS, 2))
    return X, np.sin(5.0 * X[:, 0]) * np.cos(4.0 * X[:, 1]) + 0.1 * rng.normal(size=len(X))


def _twelve(seed: int) -> tuple[Array, Array]:
    """Twelve gaussian features: a wave, a product, a kink and a weak linear part."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(2 * _ROWS, 12))
    curved = np.sin(2.0 * X[:, 0]) + X[:, 1] * X[:, 2] + np.abs(X[:, 3])
    linear = 0.5 * X[:, 4:].sum(axis=1) / math.sqrt(8.0)
    return X, curved + linear + 0.1 * rng.normal(size=len(X))


def _spirals(seed: int) -> tuple[Array, Array]:
    """Two spirals of one and a half turns, one within the other."""
    rng = np.random.default_rng(seed)
    angle = 3.0 * math.pi * np.sqrt(rng.uniform(size=2 * _ROWS))
    y = rng.integers(2, size=2 * _ROWS)
    turned = angle + math.pi * y
    X = np.column_stack([angle * np.cos(turned), angle * np.sin(turned)])
    return X + 0.3 * rng.normal(size=X.shape), y


PROBLEMS = {
    "wave, 1 feature": Problem(False, _wave),
    "surface, 2 features": Problem(False, _surface),
    "friedman1": Problem(False, _made("friedman1", noise=0.5)),
    "friedman3": Problem(False, _made("friedman3", noise=0.1)),
    "12 gaussian features": Problem(False, _twelve),
    "diabetes": Problem(False, _shipped("diabetes")),
    "spirals": Problem(True, _spirals),
    "hastie": Problem(True, _hastie),
    "five classes": Problem(
        True, _made("classification", n_features=20, n_informative=10, n_classes=5)
    ),
    "wine": Problem(True, _shipped("wine")),
    "breast cancer": Problem(True, _shipped("breast_cancer")),
    "digits": Problem(True, _shipped("digits")),
}

#: Initializers of the hidden layers and of the last one. Biases are zero but in fastnn's own
#: default and in PyTorch's, whose weights and biases are both uniform within 1 / sqrt(fan_in).
RULES = {
    _OURS: ("auto", "auto"),
    "PyTorch": ("zeros", "zeros"),
    "Keras": ("glorot_uniform", "glorot_uniform"),
    "He": ("he_uniform", "glorot_uniform"),
    "LeCun": ("lecun_uniform", "lecun_uniform"),
    "orthogonal": ("orthogonal", "orthogonal"),
}


def parts(problem: Problem, seed: int) -> Parts:
    """Return a seed's rows: at most 1000 and at most 70 % for training, 1000 held out."""
    X, y = problem.rows(seed)
    order = np.random.default_rng(1000 + seed).permutation(len(X))
    count = min(_ROWS, 7 * len(X) // 10)
    seen, new = order[:count], order[count : count + _ROWS]
    mean, spread = X[seen].mean(axis=0), X[seen].std(axis=0)
    X = (X - mean) / np.where(spread > 0.0, spread, 1.0)
    if not problem.classes:
        y = (y - y[seen].mean()) / y[seen].std()
    return Parts(X[seen], y[seen], X[new], y[new])


def network(case: Case, data: Parts) -> fn.Sequential:
    """Return a network with the first weights of its rule."""
    hidden, last = RULES[case.rule]
    classes = PROBLEMS[case.problem].classes
    outputs = int(data.y.max()) + 1 if classes else 1
    layers = [fn.Dense(_WIDTH, case.activation, initializer=hidden) for _ in range(case.depth)]
    layers.append(fn.Dense(outputs, "softmax" if classes else "identity", initializer=last))
    net = fn.Sequential(layers, inputs=data.X.shape[1], rng=case.seed)
    if case.rule == "PyTorch":
        rng = np.random.default_rng([case.seed, case.depth])
        for W, b in zip(net.weights, net.biases, strict=True):
            assert b is not None
            limit = 1.0 / math.sqrt(len(W))
            W[:] = rng.uniform(-limit, limit, W.shape)
            b[:] = rng.uniform(-limit, limit, b.shape)
    return net


def score(case: Case, data: Parts, steps: int = _STEPS) -> float:
    """Return accuracy or R² on the held-out rows, after so many steps or a few more."""
    net = network(case, data)
    epochs = math.ceil(steps / math.ceil(len(data.X) / _BATCH))
    try:
        net.fit(data.X, data.y, epochs=epochs, batch_size=_BATCH, threads=1, progress=False)
    except fn.DivergenceError:
        return 0.0
    found = net.predict(data.X_new)
    if PROBLEMS[case.problem].classes:
        return float((found.argmax(axis=1) == data.y_new).mean())
    errors = np.square(found[:, 0] - data.y_new).mean()
    return max(0.0, float(1.0 - errors / data.y_new.var()))


# The run.


def cases(seeds: int) -> Iterator[Case]:
    """Iterate over all networks, seed by seed, so that a partial run is a run of fewer seeds."""
    for seed in range(seeds):
        for problem in PROBLEMS:
            for activation in ACTIVATIONS:
                for depth in DEPTHS:
                    for rule in RULES:
                        yield Case(problem, activation, depth, rule, seed)


def run(path: Path, seeds: int, minutes: float, steps: int = _STEPS) -> dict[Case, float]:
    """Add the scores that a file lacks; return all of them, or as many as time allowed."""
    scores = read(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60.0 * minutes
    of: tuple[str, int] | None = None
    with path.open("a", encoding="utf-8") as file:
        for case in cases(seeds):
            if case in scores:
                continue
            if time.monotonic() > end:
                print("out of time; run it again to go on", file=sys.stderr)
                break
            if of != (case.problem, case.seed):
                of = case.problem, case.seed
                data = parts(PROBLEMS[case.problem], case.seed)
                print(f"seed {case.seed}: {case.problem}", file=sys.stderr, flush=True)
            scores[case] = score(case, data, steps)
            file.write(json.dumps([*case, scores[case]]) + "\n")
            file.flush()
    return scores


def read(path: Path) -> dict[Case, float]:
    """Return the scores of earlier runs; a last line that a run left half written is cut off."""
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    lines = [json.loads(line) for line in whole.splitlines()]
    return {Case(*line[:-1]): line[-1] for line in lines}


# The tables.


class Results:
    """Scores by cell: a problem, an activation and a depth; of the seeds that every rule has."""

    def __init__(self, scores: dict[Case, float]) -> None:
        count: dict[int, int] = {}
        for case in scores:
            count[case.seed] = count.get(case.seed, 0) + 1
        most = max(count.values(), default=0)
        self.seeds = sorted(seed for seed, cells in count.items() if cells == most)
        self._scores = scores
        self.cells = list(
            dict.fromkeys((case.problem, case.activation, case.depth) for case in scores)
        )

    def scores(self, cell: tuple[str, str, int], rule: str) -> Array:
        """Return the scores of a cell, one per seed."""
        problem, activation, depth = cell
        return np.array(
            [self._scores[Case(problem, activation, depth, rule, seed)] for seed in self.seeds]
        )

    def chosen(
        self, problem: str | None = None, activation: str | None = None, depth: int | None = None
    ) -> list[tuple[str, str, int]]:
        """Return the cells of a problem, an activation or a depth, or all."""
        wanted = (problem, activation, depth)
        return [
            cell
            for cell in self.cells
            if all(one in (None, found) for one, found in zip(wanted, cell, strict=True))
        ]

    def mean(self, cells: Sequence[tuple[str, str, int]], rule: str) -> Array:
        """Return the mean over cells, one per seed."""
        means: Array = np.mean([self.scores(cell, rule) for cell in cells], axis=0)
        return means

    def behind(self, cell: tuple[str, str, int]) -> tuple[str, float, float]:
        """Return the best other rule of a cell, our score less its, and the noise of that."""
        best = max(
            (rule for rule in RULES if rule != _OURS),
            key=lambda rule: float(self.scores(cell, rule).mean()),
        )
        differences = self.scores(cell, _OURS) - self.scores(cell, best)
        return best, float(differences.mean()), _error(differences)


def render(scores: dict[Case, float], sections: Iterable[str]) -> str:
    """Return some sections as Markdown."""
    results = Results(scores)
    return "\n".join(part for section in sections for part in SECTIONS[section](results))


def _summary(results: Results) -> list[str]:
    """Show means over problems, activations and depths, and count what lies within noise."""
    groups: list[tuple[str, list[tuple[str, str, int]]]] = [("everything", results.cells)]
    groups += [(name, results.chosen(activation=name)) for name in ACTIVATIONS]
    groups += [
        (f"{depth} hidden layer{'s' * (depth > 1)}", results.chosen(depth=depth))
        for depth in DEPTHS
    ]
    groups += [(name, results.chosen(problem=name)) for name in PROBLEMS]
    rows = [[name, *(_cell(results.mean(cells, rule)) for rule in RULES)] for name, cells in groups]
    return [*_table(["mean over", *RULES], rows), ""]


def _standing(results: Results) -> list[str]:
    """Say in how many cells the default is ahead, within noise of the best, and behind it."""
    rows = []
    for rule in RULES:
        if rule == _OURS:
            continue
        ahead = behind = 0
        for cell in results.cells:
            differences = results.scores(cell, _OURS) - results.scores(cell, rule)
            noise = _NOISE * _error(differences)
            ahead += bool(differences.mean() > noise)
            behind += bool(differences.mean() < -noise)
        rows.append([rule, str(ahead), str(len(results.cells) - ahead - behind), str(behind)])
    within = sum(
        difference >= -_NOISE * noise for _, difference, noise in map(results.behind, results.cells)
    )
    return [
        *_table(["fastnn's default against", "ahead", "within noise", "behind"], rows),
        "",
        f"Of {len(results.cells)} cells (a problem, an activation and a depth, "
        f"{len(results.seeds)} seeds each) the default is the best of all or within noise of the "
        f"best in {within}. Noise is {_NOISE:g} standard errors of the mean difference of the same "
        "seeds.",
        "",
    ]


def _losses(results: Results) -> list[str]:
    """List the cells in which another rule is better by more than noise, the widest first."""
    found = [(cell, *results.behind(cell)) for cell in results.cells]
    found = [one for one in found if one[2] < -_NOISE * one[3]]
    rows = [
        [
            f"{problem}, {activation}, {depth}",
            _cell(results.scores((problem, activation, depth), _OURS)),
            f"{best}: {_cell(results.scores((problem, activation, depth), best))}",
            f"{difference:+.4f} ± {noise:.4f}",
        ]
        for (problem, activation, depth), best, difference, noise in sorted(
            found, key=lambda one: one[2]
        )
    ]
    return [*_table(["cell", "fastnn", "the best", "difference"], rows), ""]


def _cells(results: Results) -> list[str]:
    """Show every cell, a table for each activation; the best mean of a row is bold."""
    lines: list[str] = []
    for activation in ACTIVATIONS:
        rows = []
        for problem, _, depth in results.chosen(activation=activation):
            every = [results.scores((problem, activation, depth), rule) for rule in RULES]
            best = max(float(scores.mean()) for scores in every)
            shown = [
                f"**{_cell(scores)}**" if scores.mean() == best else _cell(scores)
                for scores in every
            ]
            rows.append([f"{problem}, {depth}", *shown])
        lines += [f"**{activation}**", "", *_table(["problem, layers", *RULES], rows), ""]
    return lines


#: The sections that a place can name.
SECTIONS: dict[str, Callable[[Results], list[str]]] = {
    "summary": _summary,
    "standing": _standing,
    "losses": _losses,
    "cells": _cells,
}


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def _error(values: Array) -> float:
    """Return the standard error of a mean; that of a single value is not known."""
    return statistics.stdev(values.tolist()) / len(values) ** 0.5 if len(values) > 1 else math.nan


def _cell(values: Array) -> str:
    return f"{values.mean():.3f} ± {_error(values):.3f}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_weights",
        description="Measure how well networks learn from first weights of several rules.",
    )
    parser.add_argument("--seeds", type=at_least_one, default=10, metavar="N")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin no fit after so many (default: all)"
    )
    parser.add_argument(
        "--output", type=Path, default=_OUTPUT, help=f"the scores (default: {_OUTPUT})"
    )
    parser.add_argument(
        "--show", action="store_true", help="fit nothing, show the scores that there are"
    )
    add_write(parser)
    options = parser.parse_args(arguments)
    scores = (
        read(options.output)
        if options.show
        else run(options.output, options.seeds, options.minutes)
    )
    print(render(scores, [name for name in SECTIONS if name != "cells"]))
    for path in options.write:
        places.fill(path, "first weights", SECTIONS, lambda wanted: render(scores, wanted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
