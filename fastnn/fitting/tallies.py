"""What the engine measures at the end of every epoch by itself, and how its record reads.

The built-in metrics of training examples are counted in the passes that training makes; those of
validation examples, and their loss, in a pass of their own within the same call.  Whatever is
measured in another way is the business of `measuring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastnn.activations import ACTIVATIONS
from fastnn.data import Data
from fastnn.distances import mean, spreads
from fastnn.kernels import codes, records
from fastnn.layout import Layout, Operation, Program, Tiling
from fastnn.losses import Loss
from fastnn.metrics import Metric
from fastnn.target_scale import TargetScale

__all__ = ["Counting", "Figures", "Watch"]

Floats = NDArray[np.floating]

# Relative error of a mean of equal numbers, at the most.
_ROUNDING = 1e-12

_PRIVATE_IN_TABLE = ("source", "Z", "result", "scratch", "other")
_PRIVATE_IN_PLAN = ("flat_at", "losses", "shares")
_HELD_ARRAYS = ("x_at", "labels_at", "values_at", "weights_at")


@dataclass(frozen=True, slots=True)
class Watch:
    """By which value a fit stops; see `callbacks.EarlyStopping`.

    Attributes
    ----------
    name : str
        Of the value.
    sign : float
        What it is multiplied by, so that smaller is better.
    patience, min_delta : float
        As there.
    keep : bool
        Whether the weights of the best epoch are kept.
    best : float
        What is to be beaten, times the sign.
    """

    name: str
    sign: float
    patience: float
    min_delta: float
    keep: bool
    best: float = np.inf


@dataclass(frozen=True, slots=True)
class Counting:
    """What is measured at the end of every epoch.

    Attributes
    ----------
    kind : int
        What is counted of examples: flags of `codes`.
    slots : tuple of (int, int)
        Which values an epoch's record holds, as codes, and what must be known of each beside.
    places : dict of str to (int, int)
        Where the record has the values, by name: the row is 1 for validation examples.
    targets : int
        Columns of targets.
    finish : int
        Code of the activation that errors are counted after.
    figures : ndarray of float64 (2, 1 + targets)
        Total weight and the spreads of targets, of training and validation examples.
    held : Data or None
        Validation examples.
    training : bool
        Whether training examples are counted too.
    watch : Watch or None
        What the fit stops by.
    scale : TargetScale or None
        Of the targets, where they are at unit scale; metrics are in their units.
    """

    kind: int
    slots: tuple[tuple[int, int], ...]
    places: dict[str, tuple[int, int]]
    targets: int
    finish: int
    figures: NDArray[np.float64]
    held: Data | None
    training: bool = True
    watch: Watch | None = None
    scale: TargetScale | None = None

    @classmethod
    def of(
        cls, metrics: Sequence[Metric], loss: Loss, layout: Layout, known: Data, held: Data | None,
        *, training: bool = True, scale: TargetScale | None = None,
    ) -> Counting | None:  # fmt: skip
        """Return what measures these metrics, or None where the engine cannot.

        Parameters
        ----------
        metrics : sequence of Metric
            Rows, as `metrics.resolve` gives them.
        loss : Loss
            Of the fit.
        layout : Layout
            Of the network.
        known, held : Data
            Training and validation examples.
        training : bool
            Whether metrics of training examples are wanted.
        scale : TargetScale or None
            Of the targets.
        """
        parts = [part for part in (known, held) if part is not None]
        gaps = any(part.targets.missing for part in parts)
        # What is counted compares the first outputs with targets.
        uncounted = any(row.column is None or gaps or loss.ordered for row in metrics)
        if uncounted or len(metrics) >= codes.SLOTS:
            return None
        kind, places, slots = 0, {"loss": (0, 0)}, [(codes.LOSS_VALUE, 0)]
        targets = loss.width(layout.outputs)
        matched = loss.activation is not None
        for row in metrics:
            assert row.column is not None
            places[row.name] = 0, len(slots)
            slots.append((row.column, row.number))
            kinds = {_kind(row, loss, targets, matched, part) for part in parts}
            if len(kinds) > 1:
                return None
            kind |= kinds.pop()
        if not training:
            places = {"loss": (0, 0)}
        if held is not None:
            places["val_loss"] = 1, 0
            for slot, row in enumerate(metrics, 1):
                places[f"val_{row.name}"] = 1, slot
        spread = any(row.column == codes.R2 for row in metrics)
        figures = _figures(parts, targets, spread, scale)
        activation = ACTIVATIONS[layout.blocks[-1].activation if matched else "identity"]
        return cls(
            kind, tuple(slots), places, targets, activation.code, figures, held, training,
            scale=scale,
        )  # fmt: skip

    @property
    def numbers(self) -> NDArray[np.float64]:
        """The figures, then deviations and means of the targets, in one vector."""
        deviation, mean = np.ones(self.targets), np.zeros(self.targets)
        if self.scale is not None:
            deviation, mean = self.scale.deviation, self.scale.mean
        return np.concatenate([self.figures.reshape(-1), deviation, mean])

    def columns(self) -> tuple[int, int, int]:
        """Return where columns begin that not every fit counts, and how many there are in all.

        Those of some metrics, then those of the table of confusion.
        """
        more = codes.SQUARES + self.targets
        extra = self.kind & (codes.RELATIVES | codes.LOGS | codes.RANKS)
        confusion = more + codes.MORE if extra else more
        confused = codes.CELLS * self.targets if self.kind & codes.CONFUSED else 0
        return more, confusion, confusion + confused

    def watching(self, watch: Watch) -> Counting:
        """Return the same with something to stop by."""
        return replace(self, watch=watch)


@dataclass(frozen=True, slots=True)
class Room:
    """Where the engine finds what it measures with.

    Attributes
    ----------
    program : Program
        With a table and a plan for validation examples behind those of the threads, and all places.
    numbers : ndarray of float64
        The sums as they begin.
    """

    program: Program
    numbers: NDArray[np.float64]

    @classmethod
    def of(
        cls, counting: Counting, program: Program, operations: Sequence[Operation], tiling: Tiling,
        loss: Loss | None, sums: int,
    ) -> Room:  # fmt: skip
        """Plan it, for a program that trains, with so many sums of its own."""
        table, plan, workspace = program.table, program.plan, program.workspace
        examples = 0 if counting.held is None else len(counting.held)
        if examples:
            beside = Program.kept(operations, examples, tiling, loss=loss, penalty=False)
            moved = workspace - int(beside.plan["state"][0])
            theirs, its = beside.table, beside.plan
            for name in _PRIVATE_IN_TABLE:
                theirs[name] += moved
            for name in _PRIVATE_IN_PLAN:
                its[name] += moved
            its["missing"] = counting.held is not None and counting.held.targets.missing
            its["table_rows"] = theirs.shape[1]
            whole = np.zeros((1, *table.shape[1:]), table.dtype)
            whole[:, : theirs.shape[1]] = theirs
            table, plan = records.joined(table, whole), records.joined(plan, its)
            workspace += beside.workspace - int(beside.plan["state"][0])
        more, confusion, width = counting.columns()
        rows, chunk = int(program.plan["batch"][0]), int(program.plan["chunk"][0])
        tiles = -(-rows // chunk) * (int(program.plan["height"][0]) // tiling.rows)
        plan["measures"] = 1
        plan["counted"] = counting.kind
        if not counting.training:
            plan["counted"][: len(program.plan)] = 0
        plan["finish"] = counting.finish
        plan["targets"] = counting.targets
        plan["more"], plan["confusion"], plan["tally"] = more, confusion, width
        for slot, (value, number) in enumerate(counting.slots):
            plan["slots"][:, slot] = codes.known("value", value, codes.VALUES)
            plan["slot_numbers"][:, slot] = number
        plan["held_examples"] = examples
        if counting.held is not None:
            held = counting.held
            arrays = held.arrays[0], held.targets.labels, held.targets.values, held.weights
            for entry, array in zip(_HELD_ARRAYS, arrays, strict=True):
                plan[entry] = array.ctypes.data if array.size else 0
        at = sums
        for entry, size in (
            ("tallies", tiles * width),
            ("held_tallies", (-(-examples // tiling.rows) + 1) * width),
            ("held_losses", 2 * examples),
            ("figures", counting.numbers.size),
            ("counts_so_far", width),
        ):
            plan[entry] = at
            at += size
        numbers = np.zeros(at)
        begin = int(plan["figures"][0])
        numbers[begin : begin + counting.numbers.size] = counting.numbers
        watch = counting.watch
        if watch is not None:
            plan["watching"] = 1
            plan["watches_held"], plan["watched"] = counting.places[watch.name]
            plan["sign"], plan["min_delta"] = watch.sign, watch.min_delta
            plan["patience"] = watch.patience
        plan["best"] = codes.NONE
        if watch is not None and watch.keep:
            plan["best"] = workspace
            workspace += int(plan["state"][0])
        extended = replace(program, table=table, plan=plan, workspace=workspace)
        return cls(extended, numbers)


class Figures:
    """Total weight and spreads of an epoch's examples, which come in several parts.

    Spreads are combined pairwise: the mean square distance from the common mean is that from a
    part's own, plus the square of how far these lie apart (Chan, Golub & LeVeque 1983).

    Attributes
    ----------
    row : ndarray of float64 (1 + targets,)
        As in `Counting.figures`.
    """

    def __init__(self, counting: Counting) -> None:
        self._targets, self._scale = counting.targets, counting.scale
        self._spread = any(value == codes.R2 for value, _ in counting.slots)
        self.row = np.zeros(1 + counting.targets)
        self._mean = np.zeros(counting.targets)

    @classmethod
    def of(cls, counting: Counting | None) -> Figures | None:
        """Return what sums up for a counting, if there is one."""
        return None if counting is None else cls(counting)

    def add(self, data: Data, anew: bool) -> None:
        """Add examples, to none where an epoch begins."""
        if anew:
            self.row[:] = 0.0
        before, weight = self.row[0], data.total
        if weight and not self._spread:
            self.row[0] = before + weight
        elif weight:
            self.row[0] = before + weight
            self._add_spread(data, before, weight)

    def _add_spread(self, data: Data, before: float, weight: float) -> None:
        """Add to the spreads of targets."""
        weights = data.weights if data.weights.size else None
        rows = data.targets.as_rows(self._targets, data.X.dtype)
        found = _figures([data], self._targets, True, self._scale)[0, 1:]
        middle = mean(rows, weights)
        if self._scale is not None:
            middle = middle * self._scale.deviation
        if not before:
            self.row[1:], self._mean = found, middle
            return
        # A part of a single example has no spread.
        found = np.where(np.isnan(found), 0.0, found)
        spread = np.where(np.isnan(self.row[1:]), 0.0, self.row[1:])
        share, apart = weight / self.row[0], middle - self._mean
        # Targets that are the same in all parts have means that are as near as rounding lets them.
        near = np.abs(apart) <= _ROUNDING * np.abs(middle)
        apart[near & (found == 0.0) & (spread == 0.0)] = 0.0
        self.row[1:] = (1.0 - share) * spread + share * found + share * (1.0 - share) * apart**2
        self._mean = self._mean + share * apart


# What is counted for values, beside how classes are told.
_COUNTED = {
    codes.ACCURACY: 0,
    codes.BALANCED: codes.CONFUSED,
    codes.PRECISION: codes.CONFUSED,
    codes.RECALL: codes.CONFUSED,
    codes.F1: codes.CONFUSED,
    codes.TOP_PLACES: codes.RANKS,
    codes.LOG_LOSS: codes.LOGS,
}


def _figures(
    parts: Sequence[Data], targets: int, spread: bool, scale: TargetScale | None
) -> NDArray[np.float64]:
    """Return total weights, and spreads of the targets in their units where they are wanted."""
    figures = np.zeros((2, 1 + targets))
    for place, part in enumerate(parts):
        figures[place, 0] = part.total
        if spread:
            weights = part.weights if part.weights.size else None
            figures[place, 1:] = spreads(part.targets.as_rows(targets, part.X.dtype), weights)
            if scale is not None:
                figures[place, 1:] *= scale.deviation**2
    return figures


def _kind(row: Metric, loss: Loss, targets: int, matched: bool, part: Data) -> int:
    """Return what is counted for a metric."""
    if row.column not in _COUNTED:
        return codes.ERRORS | (codes.RELATIVES if row.column == codes.RELATIVE_ERROR else 0)
    return _COUNTED[row.column] | _told(loss, targets, matched, part)


def _told(loss: Loss, targets: int, matched: bool, part: Data) -> int:
    """Return how the classes of examples and of results are told."""
    if loss.targets == "classes":
        return codes.PLACES
    if loss.targets == "probabilities":
        return codes.SIDES if matched else codes.SIDES | codes.SIDES_OF_HALF
    values = part.targets.values
    if targets > 1 and (part.targets.labels.size or (values.sum(axis=1) == 1).all()):
        return codes.PLACES
    return codes.SIDES
