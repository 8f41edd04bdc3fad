"""BatchNorms in the weights and biases of the Dense layers beside them, for predictions.

By its running numbers a BatchNorm multiplies each column and adds to it; a Dense before it without
an activation, or one behind it, can do both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.kernels import codes
from fastnn.layout import Layout, Operation
from fastnn.scaling import Standardize

__all__ = ["Folding"]

Floats = NDArray[np.floating]

# What may stand in front.
_LEADING = (codes.STANDARDIZE, codes.EMBEDDING)


@dataclass(frozen=True, slots=True)
class _Norm:
    """A BatchNorm that is folded.

    Attributes
    ----------
    one : Operation
        It.
    centred : bool
        Whether mean and deviation are done with already, so that scale and shift are left.
    """

    one: Operation
    centred: bool = False


@dataclass(slots=True)
class _Part:
    """A layer that stays, and what is folded into it: of its inputs, and of its outputs."""

    one: Operation
    before: tuple[_Norm, ...] = ()
    behind: tuple[_Norm, ...] = ()

    @property
    def centres(self) -> bool:
        """Whether it is a BatchNorm of which mean and deviation stay."""
        return self.one.kind.code == codes.BATCH_NORM

    @property
    def layer(self) -> Any:
        """The layer that it becomes."""
        layer: Any = self.one.layer
        if self.centres:
            return Standardize()
        return replace(layer, bias=True) if self.before or self.behind else layer


class Folding:
    """How a network becomes one of fully connected layers; made by `of`.

    Attributes
    ----------
    layout : Layout
        Of the network that it becomes.
    """

    def __init__(self, layout: Layout, parts: Sequence[_Part]) -> None:
        self.layout = layout
        self._parts = tuple(parts)

    @classmethod
    def of(
        cls, layout: Layout, operations: Sequence[Operation] | None = None, *, centred: bool = False
    ) -> Folding | None:
        """Return how some layers are folded, all by default; None where there is nothing to fold.

        Nor is there where a BatchNorm, or a layer of another kind, stands where no Dense takes it
        in.  A `Standardize` and an `Embedding` may stand in front.

        Where it is asked for, a BatchNorm that reads the features is centred: it becomes a
        `Standardize`, and scale and shift alone are folded.  The mean of a feature may be a
        million times its deviation, which sums in single precision would not survive.
        """
        chosen = layout.operations if operations is None else operations
        chosen = [one for one in chosen if not one.kind.in_training]
        parts: list[_Part] = []
        waiting: tuple[_Norm, ...] = ()
        for one in chosen:
            if one.kind.code == codes.BATCH_NORM:
                last = parts[-1] if parts and not waiting else None
                if last and last.one.kind.answered and last.one.activation == "identity":
                    last.behind += (_Norm(one),)
                    continue
                if centred and not (parts or waiting):
                    parts.append(_Part(one))
                    waiting = (_Norm(one, centred=True),)
                    continue
                waiting += (_Norm(one),)
            elif one.kind.answered:
                parts.append(_Part(one, waiting))
                waiting = ()
            elif one.kind.code in _LEADING and not waiting:
                parts.append(_Part(one))
            else:
                return None
        if waiting or not any(part.before or part.behind for part in parts):
            return None
        whole = chosen[-1].name == layout.operations[-1].name
        folded = Layout.of(chosen[0].inputs, [part.layer for part in parts])
        return cls(folded.with_scale(layout.scale if whole else None), parts)

    def plan(self, dtype: np.dtype[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        """Return the parts, the norms and what is added to these's variances, for the kernels."""
        norms = [norm for part in self._parts for norm in self._norms_of(part)]
        rows = np.zeros((len(norms), codes.N_COLUMNS), np.int64)
        epsilons = np.zeros(len(norms), dtype)
        for k, norm in enumerate(norms):
            layer: Any = norm.one.layer
            entries = norm.one.parameters + norm.one.buffers
            rows[k] = *(entry.offset for entry in entries), norm.centred
            epsilons[k] = layer.epsilon
        parts = np.full((len(self._parts), codes.F_COLUMNS), codes.NONE, np.int64)
        begin = 0
        for row, part, to in zip(parts, self._parts, self.layout.operations, strict=True):
            one, end = part.one, begin + len(self._norms_of(part))
            row[codes.F_WAY], row[codes.F_INPUTS] = codes.FOLD_DENSE, one.inputs
            row[codes.F_OUTPUTS] = one.outputs
            row[codes.F_W], row[codes.F_TO] = one.parameters[0].offset, to.parameters[0].offset
            row[codes.F_BEGIN], row[codes.F_END] = begin, end
            row[codes.F_MIDDLE] = begin + len(part.before)
            begin = end
            if part.centres:
                row[codes.F_WAY] = codes.FOLD_CENTRE
            elif not (part.before or part.behind):
                row[codes.F_WAY] = codes.FOLD_NOTHING
                row[codes.F_INPUTS] = sum(entry.size for entry in one.parameters)
            elif one.b is not None:
                row[codes.F_B] = one.b.offset
        return parts, rows, epsilons

    @staticmethod
    def _norms_of(part: _Part) -> tuple[_Norm, ...]:
        """Return the norms that a part reads."""
        return (_Norm(part.one),) if part.centres else part.before + part.behind
