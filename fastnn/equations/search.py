"""The textbook's L-BFGS in NumPy: the oracle of the native search, and the reference's own.

Nocedal & Wright 2006, chapter 7, and the line search of More & Thuente 1994.  The inverse Hessian
is applied by its recursive definition, and minima are those of polynomials fitted to the data.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.kernels import codes

__all__ = ["Curvature", "Textbook"]

Vector = NDArray[np.float64]

_LONGEST = 1e10
_TRIES = 20


class End(NamedTuple):
    """An end of an interval of steps: the step, the loss there and its slope along the line."""

    step: float
    loss: float
    slope: float

    def less(self, slope: float) -> End:
        """Return it for the loss less a line of that slope."""
        return End(self.step, self.loss - slope * self.step, self.slope - slope)


@dataclass(frozen=True, slots=True)
class Curvature:
    """What a search has learnt of the curvature, for another one to begin with.

    Attributes
    ----------
    steps, changes : ndarray of float64 (pairs, n)
        Steps, and how the gradient changed over each; the newest last.
    products : ndarray of float64 (pairs,)
        Of each step and its change, as found along its line.
    scale : float
        The curvature along the newest step.
    """

    steps: Vector
    changes: Vector
    products: Vector
    scale: float


def inverse_times(pairs: list[tuple[Vector, Vector]], v: Vector) -> Vector:
    """Return ``H v`` by ``H = (1 - s y'/y's) H_before (1 - y s'/y's) + s s'/y's``.

    The first H is ``(y's / y'y)`` of the newest pair times the identity.
    """

    def times(count: int, v: Vector) -> Vector:
        if count == 0:
            s, y = pairs[-1]
            return np.asarray(v * ((s * y).sum() / (y * y).sum()))
        s, y = pairs[count - 1]
        curved = (s * y).sum()
        along = (s * v).sum() / curved
        inner = times(count - 1, v - along * y)
        return np.asarray(inner - s * ((y * inner).sum() / curved) + s * along)

    return times(len(pairs), v) if pairs else v.copy()


def cubic(a: End, b: End) -> float:
    """Return where the cubic through values and slopes at two ends has its minimum; NaN if none.

    In t from a (0) to b (1): ``f = c0 + c1 t + c2 t^2 + c3 t^3``.
    """
    h = b.step - a.step
    c1, rise = a.slope * h, b.loss - a.loss
    c3 = c1 + b.slope * h - 2 * rise
    c2 = rise - c1 - c3
    inside = c2 * c2 - 3 * c1 * c3
    if not inside >= 0:
        return math.nan
    # The root of c1 + 2 c2 t + 3 c3 t^2 with a positive second derivative.
    root = math.sqrt(inside)
    t = -c1 / (c2 + root) if c2 >= 0 else (root - c2) / (3 * c3) if c3 else math.nan
    return a.step + t * h


def secant(a: End, b: End) -> float:
    """Return where the line through two slopes is 0."""
    rise = b.slope - a.slope
    return b.step - b.slope * (b.step - a.step) / rise if rise else math.inf


def parabola(a: End, b: End) -> float:
    """Return where the parabola through a, its slope, and b has its minimum."""
    h = b.step - a.step
    bend = b.loss - a.loss - a.slope * h
    return a.step - a.slope * h * h / (2 * bend)


def chosen(near: End, far: End, new: End, low: float, high: float, between: bool) -> float:
    """Return the next step, by the four cases of the paper's section 4."""
    if new.loss > near.loss:
        by_cubic, by_square = cubic(near, new), parabola(near, new)
        if abs(by_cubic - near.step) < abs(by_square - near.step):
            return by_cubic
        return (by_cubic + by_square) / 2
    if new.slope * near.slope < 0:
        return max(cubic(near, new), secant(near, new), key=lambda one: abs(one - new.step))
    edge = high if new.step > near.step else low
    if abs(new.slope) < abs(near.slope):
        by_cubic = cubic(near, new)
        ahead = (by_cubic - new.step) * (new.step - near.step) > 0
        tried = [by_cubic if ahead else edge, secant(near, new)]
        if between:
            limit = new.step + 0.66 * (far.step - new.step)
            step = min(tried, key=lambda one: abs(one - new.step))
            return min(step, limit) if new.step > near.step else max(step, limit)
        step = max(tried, key=lambda one: abs(one - new.step))
        return min(max(step, low), high)
    return cubic(new, far) if between else edge


def along(start: End, first: float) -> Iterator[float]:
    """Yield steps to try, and be sent their ends; stop at one that is accepted."""
    near = far = start
    between = searching_fall = False
    low, high = 0.0, 5 * first
    widths = [2 * _LONGEST, _LONGEST]
    searching_fall, step = True, first
    asked = 1e-3 * start.slope
    while True:
        new: Any = yield step
        wanted = start.loss + asked * new.step
        if searching_fall and new.loss <= wanted and new.slope >= 0:
            searching_fall = False
        flat = abs(new.slope) <= 0.9 * abs(start.slope)
        narrow = between and (not low < new.step < high or high - low <= 0.1 * high)
        if (new.loss <= wanted and flat) or narrow:
            return
        tilted = searching_fall and wanted < new.loss <= near.loss
        tilt = asked if tilted else 0.0
        ends = near.less(tilt), far.less(tilt), new.less(tilt)
        step = chosen(*ends, low, high, between)
        higher, turned = ends[2].loss > ends[0].loss, ends[2].slope * ends[0].slope < 0
        if higher:
            far, between = new, True
        else:
            if turned:
                far, between = near, True
            near = new
        if between:
            width = abs(far.step - near.step)
            if width >= 0.66 * widths[-2]:
                step = (near.step + far.step) / 2
            widths.append(width)
            low, high = sorted((near.step, far.step))
        else:
            gone = step - near.step
            low, high = step + 1.1 * gone, step + 4 * gone
        step = min(max(step, 0.0), _LONGEST)
        if between and (not low < step < high or high - low <= 0.1 * high):
            step = near.step


class Textbook:
    """A search that is told loss and gradient; see `quasi_newton.Search`."""

    def __init__(
        self,
        start: NDArray[np.floating[Any]],
        memory: int,
        tolerance: float,
        reduction: float,
        known: Any = None,
    ) -> None:
        self.point = np.array(start, np.float64)
        self.accepted = False
        self._tolerance, self._reduction = tolerance, reduction
        self._pairs: deque[tuple[Vector, Vector]] = deque(maxlen=memory)
        if known is not None and known.steps.shape[1:] == self.point.shape:
            self._pairs.extend(zip(known.steps, known.changes, strict=True))
        self._line: Any = None
        self._iterations = 0
        self._step = 0.0
        self.best = self.point.copy(), math.inf

    @property
    def curvature(self) -> Curvature:
        """What the search remembers."""
        shape = (-1, self.point.size)
        steps, changes = ([pair[n] for pair in self._pairs] for n in (0, 1))
        products = np.array([(s * y).sum() for s, y in self._pairs])
        scale = (changes[-1] ** 2).sum() / products[-1] if changes else 1.0
        return Curvature(
            np.reshape(steps, shape), np.reshape(changes, shape), products, float(scale)
        )

    def tell(self, loss: float, gradient: NDArray[np.floating[Any]]) -> int:
        """Take in loss and gradient at the point; return one of the tasks in `codes`."""
        with np.errstate(all="ignore"):
            return self._told(float(loss), np.array(gradient, np.float64))

    def _told(self, loss: float, g: Vector) -> int:
        self.accepted = False
        if self._line is None:
            self.best = self.point.copy(), loss
            return self._set_out(g)
        slope = float((g * self._d).sum())
        self._tries += 1
        try:
            self._step = self._line.send(End(self._step, loss, slope))
        except StopIteration:
            return self._arrived(loss, slope, g)
        if self._tries == _TRIES:
            if not self._pairs:
                self.point = self.best[0].copy()
                return codes.NO_PROGRESS
            self._pairs.clear()
            self.point = self.best[0].copy()
            return self._set_out(self._g)
        self.point = self.best[0] + self._step * self._d
        return codes.EVALUATE

    def _arrived(self, loss: float, slope: float, g: Vector) -> int:
        """End an iteration at the point."""
        before, fell = self.best[1], self._line_slope
        self.accepted, self._iterations = True, self._iterations + 1
        s = self._step * self._d
        if (slope - fell) * self._step > -np.finfo(float).eps * fell * self._step:
            self._pairs.append((s, g - self._g))
        self.best = self.point.copy(), loss
        if np.abs(g).max() <= self._tolerance:
            return codes.SMALL_GRADIENT
        if before - loss <= self._reduction * max(abs(before), abs(loss), 1.0):
            return codes.SMALL_REDUCTION
        return self._set_out(g)

    def _set_out(self, g: Vector) -> int:
        """Begin a line at the best point."""
        if self._line is None and np.abs(g).max() <= self._tolerance:
            return codes.SMALL_GRADIENT
        d = -inverse_times(list(self._pairs), g)
        if self._pairs and not (g * d).sum() < 0:
            self._pairs.clear()
            d = -g
        first = 1.0
        if not self._iterations and not self._pairs:
            first = min(1 / math.sqrt((d * d).sum()), _LONGEST)
        self._g, self._d, self._tries = g, d, 0
        self._line_slope = float((g * d).sum())
        self._line = along(End(0.0, self.best[1], self._line_slope), first)
        self._step = next(self._line)
        self.point = self.best[0] + self._step * d
        return codes.EVALUATE
