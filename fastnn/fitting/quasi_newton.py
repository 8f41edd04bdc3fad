"""Searches by L-BFGS: what asks for loss and gradient point by point, and what it remembers."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn.equations.search import Curvature
from fastnn.kernels import codes, records
from fastnn.kernels._load import load_search
from fastnn.layout import aligned_zeros

__all__ = ["REDUCTION", "Curvature", "NativeSearch", "Search"]

Vector = NDArray[np.float64]

# The least relative reduction of the loss, as SciPy has it.
REDUCTION = 1e7 * float(np.finfo(np.float64).eps)


class Search(Protocol):
    """A search that is told loss and gradient at the point that it asks for."""

    @property
    def point(self) -> Vector:
        """Where to evaluate next, (n,); not to be written to."""

    def tell(self, loss: float, gradient: NDArray[np.floating[Any]]) -> int:
        """Take in loss and gradient at the point; return one of the tasks in `codes`."""

    @property
    def accepted(self) -> bool:
        """Whether the point that was told last ended an iteration."""

    @property
    def best(self) -> tuple[Vector, float]:
        """The point that was accepted last, or where the search began, and the loss there."""

    @property
    def curvature(self) -> Curvature:
        """What the search remembers, as copies."""


class NativeSearch:
    """A search whose vectors compiled code works on."""

    def __init__(
        self,
        start: NDArray[np.floating[Any]],
        memory: int,
        tolerance: float,
        reduction: float = REDUCTION,
        known: Curvature | None = None,
    ) -> None:
        load_search()
        from fastnn.kernels.quasi_newton import advance

        self._advance = advance
        size = start.size
        self._vectors: NDArray[Any] = aligned_zeros(codes.SEARCH_ROWS * size, np.float64).reshape(
            -1, size
        )
        self._pairs: NDArray[Any] = aligned_zeros(2 * memory * size, np.float64).reshape(
            2, memory, size
        )
        self._products = np.zeros((2, memory))
        self._search = np.zeros((), records.SEARCH)
        self._search["tolerance"], self._search["reduction"] = tolerance, reduction
        self._search["tries"] = -1
        self.point = self._vectors[codes.POINT]
        self.point[:] = start
        self._vectors[codes.START] = start
        if known is not None and known.steps.shape[1:] == (size,):
            self._remember(known, memory)

    def _remember(self, known: Curvature, memory: int) -> None:
        """Begin with what another search has learnt."""
        count = min(memory, len(known.steps))
        if not count:
            return
        kept = slice(len(known.steps) - count, None)
        self._pairs[0, :count], self._pairs[1, :count] = known.steps[kept], known.changes[kept]
        self._products[0, :count] = known.products[kept]
        self._search["stored"], self._search["newest"] = count, count - 1
        self._search["scale"] = known.scale

    def tell(self, loss: float, gradient: NDArray[np.floating[Any]]) -> int:
        """Take in loss and gradient at the point; return one of the tasks in `codes`."""
        if gradient.dtype != np.float64:
            gradient = gradient.astype(np.float64)
        self._advance(
            self._search, self._pairs, self._vectors, self._products, float(loss), gradient
        )
        return int(self._search["task"])

    @property
    def accepted(self) -> bool:
        """Whether the point that was told last ended an iteration."""
        return bool(self._search["accepted"])

    @property
    def best(self) -> tuple[Vector, float]:
        """The point that was accepted last, or where the search began, and the loss there."""
        over = self._search["task"] != codes.EVALUATE
        loss = self._search["loss" if over else "start_loss"]
        return self._vectors[codes.START], float(loss)

    @property
    def curvature(self) -> Curvature:
        """What the search remembers, as copies."""
        stored, newest = int(self._search["stored"]), int(self._search["newest"])
        memory = self._pairs.shape[1]
        order = [(newest - n) % memory for n in range(stored)][::-1]
        return Curvature(
            self._pairs[0, order], self._pairs[1, order], self._products[0, order],
            float(self._search["scale"]),
        )  # fmt: skip
