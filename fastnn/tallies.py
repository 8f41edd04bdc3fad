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
from fastnn.kernels import codes
from fastnn.layout import Layout, Operation, Program, Tiling
from fastnn.losses import Loss
from fastnn.metrics import Metric, spreads

__all__ = ["Counting", "Watch"]

Floats = NDArray[np.floating]

_PRIVATE_IN_TABLE = (codes.SOURCE, codes.Z, codes.RESULT, codes.SCRATCH)
_PRIVATE_IN_PLAN = (codes.FLAT, codes.LOSSES, codes.SHARES)
_HELD_ARRAYS = (codes.X_AT, codes.LABELS_AT, codes.VALUES_AT, codes.WEIGHTS_AT)


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
    columns : dict of str to int
        Where the record has the values, by name.
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
    """

    kind: int
    columns: dict[str, int]
    targets: int
    finish: int
    figures: NDArray[np.float64]
    held: Data | None
    training: bool = True
    watch: Watch | None = None

    @classmethod
    def of(
        cls, metrics: Sequence[Metric], loss: Loss, layout: Layout, known: Data, held: Data | None,
        *, training: bool = True,
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
        """
        if any(row.column is None for row in metrics):
            return None
        kind, columns = 0, {"loss": codes.VALUES}
        targets = loss.width(layout.outputs)
        matched = loss.activation is not None
        parts = [part for part in (known, held) if part is not None]
        for row in metrics:
            assert row.column is not None
            columns[row.name] = codes.VALUES + row.column
            kinds = {_kind(row, loss, targets, matched, part) for part in parts}
            if len(kinds) > 1:
                return None
            kind |= kinds.pop()
        if not training:
            columns = {"loss": codes.VALUES}
        if held is not None:
            columns["val_loss"] = codes.HELD_VALUES
            for row in metrics:
                assert row.column is not None
                columns[f"val_{row.name}"] = codes.HELD_VALUES + row.column
        figures = np.zeros((2, 1 + targets))
        for place, part in enumerate(parts):
            figures[place, 0] = part.total
            if any(row.column == codes.R2 for row in metrics):
                weights = part.weights if part.weights.size else None
                figures[place, 1:] = spreads(part.targets.as_rows(targets, part.X.dtype), weights)
        activation = ACTIVATIONS[layout.blocks[-1].activation if matched else "identity"]
        return cls(kind, columns, targets, activation.code, figures, held, training)

    @property
    def width(self) -> int:
        """Columns of the record."""
        return codes.COUNTS_SO_FAR + codes.SQUARES + self.targets

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
        constants = program.constants
        examples = 0 if counting.held is None else len(counting.held)
        if examples:
            beside = Program.of(operations, examples, tiling, loss=loss, penalty=False)
            moved = workspace - int(beside.plan[0, codes.STATE])
            theirs, its = beside.table.copy(), beside.plan.copy()
            theirs[..., _PRIVATE_IN_TABLE] += moved
            its[..., _PRIVATE_IN_PLAN] += moved
            its[:, codes.TABLE_ROWS] = theirs.shape[1]
            theirs[..., codes.CONSTANTS] += len(constants)
            constants = np.concatenate([constants, beside.constants])
            whole = np.zeros((1, *table.shape[1:]), np.int64)
            whole[:, : theirs.shape[1]] = theirs
            table, plan = np.concatenate([table, whole]), np.concatenate([plan, its])
            workspace += beside.workspace - int(beside.plan[0, codes.STATE])
        width = codes.SQUARES + counting.targets
        rows, chunk = int(program.plan[0, codes.BATCH]), int(program.plan[0, codes.CHUNK])
        tiles = -(-rows // chunk) * (int(program.plan[0, codes.HEIGHT]) // tiling.rows)
        plan[:, codes.MEASURES] = 1
        plan[:, codes.COUNTED] = counting.kind
        if not counting.training:
            plan[: len(program.plan), codes.COUNTED] = 0
        plan[:, codes.FINISH] = counting.finish
        plan[:, codes.TARGETS] = counting.targets
        plan[:, codes.HELD_EXAMPLES] = examples
        if counting.held is not None:
            held = counting.held
            arrays = held.arrays[0], held.targets.labels, held.targets.values, held.weights
            for entry, array in zip(_HELD_ARRAYS, arrays, strict=True):
                plan[:, entry] = array.ctypes.data if array.size else 0
        at = sums
        for entry, size in (
            (codes.TALLIES, tiles * width),
            (codes.HELD_TALLIES, (-(-examples // tiling.rows) + 1) * width),
            (codes.HELD_LOSSES, 2 * examples),
            (codes.FIGURES, counting.figures.size),
            (codes.WATCH, codes.WATCH_ENTRIES),
        ):
            plan[:, entry] = at
            at += size
        numbers = np.zeros(at)
        begin = int(plan[0, codes.FIGURES])
        numbers[begin : begin + counting.figures.size] = counting.figures.reshape(-1)
        begin, watch = int(plan[0, codes.WATCH]), counting.watch
        if watch is None:
            plan[:, codes.WATCH] = codes.NONE
        else:
            entries = numbers[begin:]
            entries[codes.WATCHED] = counting.columns[watch.name]
            entries[codes.SIGN] = watch.sign
            entries[codes.MIN_DELTA] = watch.min_delta
            entries[codes.PATIENCE] = watch.patience
            entries[codes.BEST_VALUE] = watch.best
            entries[codes.TO_BEAT] = np.inf
        plan[:, codes.BEST] = codes.NONE
        if watch is not None and watch.keep:
            plan[:, codes.BEST] = workspace
            workspace += int(plan[0, codes.STATE])
        extended = replace(
            program, table=table, constants=constants, plan=plan, workspace=workspace
        )
        return cls(extended, numbers)


def _kind(row: Metric, loss: Loss, targets: int, matched: bool, part: Data) -> int:
    """Return what is counted for a metric."""
    if row.column != codes.ACCURACY:
        return codes.ERRORS
    if loss.targets == "classes":
        return codes.PLACES
    if loss.targets == "probabilities":
        return codes.SIDES if matched else codes.SIDES | codes.SIDES_OF_HALF
    values = part.targets.values
    if targets > 1 and (part.targets.labels.size or (values.sum(axis=1) == 1).all()):
        return codes.PLACES
    return codes.SIDES
