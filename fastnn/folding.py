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

__all__ = ["Folding"]

Floats = NDArray[np.floating]

# What may stand in front.
_LEADING = (codes.STANDARDIZE, codes.EMBEDDING)


@dataclass(slots=True)
class _Part:
    """A layer that stays, and what is folded into it: of its inputs, and of its outputs."""

    one: Operation
    before: tuple[Operation, ...]
    behind: tuple[Operation, ...] = ()


class Folding:
    """How a network becomes one of fully connected layers; made by `of`.

    Attributes
    ----------
    layout : Layout
        Of the network that it becomes.
    """

    def __init__(self, layout: Layout, of: Layout, parts: Sequence[_Part]) -> None:
        self.layout = layout
        self._of, self._parts = of, tuple(parts)

    @classmethod
    def of(cls, layout: Layout, operations: Sequence[Operation] | None = None) -> Folding | None:
        """Return how some layers are folded, all by default; None where there is nothing to fold.

        Nor is there where a BatchNorm, or a layer of another kind, stands where no Dense takes it
        in.  A `Standardize` and an `Embedding` may stand in front.
        """
        chosen = layout.operations if operations is None else operations
        chosen = [one for one in chosen if not one.kind.in_training]
        parts: list[_Part] = []
        waiting: tuple[Operation, ...] = ()
        for one in chosen:
            if one.kind.code == codes.BATCH_NORM:
                last = parts[-1] if parts and not waiting else None
                if last and last.one.kind.answered and last.one.activation == "identity":
                    last.behind += (one,)
                else:
                    waiting += (one,)
            elif one.kind.answered:
                parts.append(_Part(one, waiting))
                waiting = ()
            elif one.kind.code in _LEADING and not waiting:
                parts.append(_Part(one, ()))
            else:
                return None
        if waiting or not any(part.before or part.behind for part in parts):
            return None
        layers = []
        for part in parts:
            layer: Any = part.one.layer
            biased = bool(part.before or part.behind)
            layers.append(replace(layer, bias=True) if biased else layer)
        whole = chosen[-1].name == layout.operations[-1].name
        folded = Layout.of(chosen[0].inputs, layers).with_scale(layout.scale if whole else None)
        return cls(folded, layout, parts)

    def __call__(self, vector: Floats) -> Floats:
        """Return the parameters of what the network becomes, by its parameters and buffers."""
        folded = np.empty(self.layout.size, vector.dtype)
        with np.errstate(all="ignore"):
            for to, part in zip(self.layout.operations, self._parts, strict=True):
                arrays = [self._of.view(vector, entry) for entry in part.one.parameters]
                if part.before or part.behind:
                    arrays = self._taken_in(part, arrays, vector)
                for entry, array in zip(to.parameters, arrays, strict=True):
                    self.layout.view(folded, entry)[...] = array
        return folded

    def _taken_in(self, part: _Part, arrays: list[Floats], vector: Floats) -> list[Floats]:
        """Return weights and biases of a layer with what is folded into it."""
        W = arrays[0]
        b = arrays[1] if len(arrays) > 1 else np.zeros(W.shape[1], W.dtype)
        if part.before:
            factor, rest = self._line(part.before, vector)
            # Not by BLAS, whose bits may hang on where the weights lie.
            b = b + np.einsum("i,ij->j", rest, W)
            W = factor[:, None] * W
        if part.behind:
            factor, rest = self._line(part.behind, vector)
            W, b = W * factor, b * factor + rest
        return [W, b]

    def _line(self, norms: Sequence[Operation], vector: Floats) -> tuple[Floats, Floats]:
        """Return what norms in a row multiply by and add."""
        factor = np.ones(norms[0].inputs, vector.dtype)
        rest = np.zeros_like(factor)
        for one in norms:
            scale, shift = (self._of.view(vector, entry) for entry in one.parameters)
            mean, variance = (self._of.view(vector, entry) for entry in one.buffers)
            layer: Any = one.layer
            by = scale / np.sqrt(variance + vector.dtype.type(layer.epsilon))
            factor, rest = factor * by, (rest - mean) * by + shift
        return factor, rest
