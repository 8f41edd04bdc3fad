"""Levenberg-Marquardt: squared errors, their Jacobian and the damped steps, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn.data import Data
from fastnn.derivatives import Derivatives
from fastnn.equations import derivatives as reference_derivatives
from fastnn.equations import walk as reference_walk
from fastnn.kernels import codes
from fastnn.layers import Dense
from fastnn.layout import Layout
from fastnn.losses import Loss
from fastnn.predicting.walking import predictor_of
from fastnn.sparse import SparseRows
from fastnn.whole_batch import LevenbergMarquardt

if TYPE_CHECKING:
    from fastnn.path import Path

__all__ = ["LeastSquares", "NativeSquares", "Squares", "TextbookSquares", "check_squares"]

Vector = NDArray[np.float64]
Floats = NDArray[np.floating]
Gaps = NDArray[np.bool_]

# Elements of the Jacobian that are computed at a time, and rows of it at the least: it and its
# transpose stay in the L2 cache, and the matrix of products is gone through seldom enough.
_PART = 1 << 15
_FEWEST = 128

# A damping at which a step is lost in rounding, and how many are tried for one step.
_MOST_DAMPING = 1e30
_TRIES = 60

# The least relative reduction of the loss.
_REDUCTION = 1e-14


class LeastSquares:
    """The mean squared error of fixed examples, and damped steps that lower it.

    Parameters
    ----------
    layout : Layout
        The network's.
    parameters : ndarray (size,)
        Where to begin; they are copied.
    loss : Loss
        It must be the mean squared error.
    data : Data
        The examples.
    record : LevenbergMarquardt
        The numbers.
    path : Path
        Which computes.

    Attributes
    ----------
    point : ndarray of float64 (size,)
        The parameters.
    loss : float
        Of these, with L2.
    ended : str
        Why no further step is taken; empty while there may be one.

    Raises
    ------
    ValueError
        If the loss, a layer or the examples are of another kind, or the matrices are too large.
    """

    def __init__(
        self,
        layout: Layout,
        parameters: Floats,
        loss: Loss,
        data: Data,
        record: LevenbergMarquardt,
        path: Path,
    ) -> None:
        check_squares(layout, loss, data, record)
        self._record = record
        X: Any = data.X
        self._X = np.ascontiguousarray(X, np.float64)
        self._y = np.asarray(data.targets.as_rows(layout.outputs, np.float64), np.float64)
        weights = data.weights.astype(np.float64) if data.weights.size else np.ones(len(data))
        self._gaps = np.isnan(self._y) if data.targets.missing else None
        known: Any = layout.outputs
        if self._gaps is not None:
            # An example's weight is that of its targets together, of those that are known.
            known = np.maximum(1, (~self._gaps).sum(axis=1))
        # Of each residual, so that half the sum of its squares is the mean squared error.
        shares = 2.0 / (known * data.total)
        self._roots = np.sqrt(shares * weights)
        self._l2 = np.zeros(layout.size)
        self._moving = np.zeros(layout.size, bool)
        for one in layout.operations:
            for entry in one.parameters:
                self._moving[entry.offset : entry.offset + entry.size] = one.trainable
            if one.l2:
                self._l2[one.W.offset : one.W.offset + one.W.size] = one.l2
        self._damping, self._growth = 0.0, 2.0
        self._squares = path.squares(layout, self._X)
        self.restart(parameters)

    def restart(self, parameters: Floats) -> None:
        """Begin anew at other parameters, with the damping as it is."""
        self.point = np.array(parameters, np.float64)
        self.ended = ""
        self._errors = self._errors_at(self.point)
        self.loss = self._loss(self.point, self._errors)
        self._products: Vector | None = None

    def _errors_at(self, point: Vector) -> Vector:
        """Return all residuals, weighted, (n, m); 0 where there is no target."""
        found = self._squares.predictions(point)
        errors = np.asarray((found - self._y) * self._roots[:, None])
        if self._gaps is not None:
            errors[self._gaps] = 0.0
        return errors

    def _loss(self, point: Vector, errors: Vector) -> float:
        """Return the loss, with L2."""
        with np.errstate(over="ignore", invalid="ignore"):
            return float(0.5 * (errors**2).sum() + 0.5 * (self._l2 * point**2).sum())

    def iterate(self) -> bool:
        """Take a step that lowers the loss; return whether there was one."""
        if self.ended:
            return False
        if self._products is None:
            self._products = self._squares.products(
                self.point, self._errors, self._roots, self._gaps
            )
        size = self.point.size
        products, g = self._products, self._products[size, :size] + self._l2 * self.point
        g[~self._moving] = 0.0
        if np.abs(g).max() <= self._record.tolerance:
            self.ended = "converged: the gradient is within the tolerance"
            return False
        diagonal = products[np.arange(size), np.arange(size)]
        if not self._damping:
            self._damping = self._record.damping * max(float(diagonal.max()), 1e-300)
        for _ in range(_TRIES):
            step = self._solved(products, g)
            if step is not None and self._accepts(step, g):
                return True
            self._damping *= self._growth
            self._growth *= 2.0
            if self._damping > _MOST_DAMPING:
                break
        self.ended = "converged: no step lowers the loss any more"
        return False

    def _accepts(self, step: Vector, g: Vector) -> bool:
        """Take a step, and set the damping after it, where it lowers the loss."""
        point = self.point + step
        errors = self._errors_at(point)
        loss = self._loss(point, errors)
        fall = self.loss - loss
        expected = 0.5 * float((step * (self._damping * step - g)).sum())
        if not fall > 0.0:
            return False
        if fall <= _REDUCTION * self.loss:
            self.ended = "converged: the loss falls by rounding only"
        ratio = fall / expected if expected > 0.0 else 1.0
        self._damping *= max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3)
        self._growth = 2.0
        self.point, self.loss, self._errors, self._products = point, loss, errors, None
        return True

    def _solved(self, products: Vector, g: Vector) -> Vector | None:
        """Return the damped step; None where the matrix is not positive."""
        step = self._squares.solve(products, self._damping + self._l2, g)
        if step is None:
            return None
        step[~self._moving] = 0.0
        return step if np.isfinite(step).all() else None


class Squares(Protocol):
    """Predictions for fixed examples, products of their Jacobian, and damped steps."""

    def predictions(self, point: Vector) -> Vector:
        """Return the outputs for all examples, (n, m), at a point of float64."""

    def products(self, point: Vector, errors: Vector, roots: Vector, gaps: Gaps | None) -> Vector:
        """Return the lower triangle of the products of J's columns and the residuals.

        J is of all outputs of all examples, its rows times the roots, (n,), or 0 in the gaps,
        (n, m), where targets are missing.  The last row is ``r' J`` for the errors r, (n, m).
        There may be more columns.
        """

    def solve(self, products: Vector, damping: Vector, g: Vector) -> Vector | None:
        """Return the s of ``(J'J + diag(damping)) s = -g``; None where that is not positive."""


class TextbookSquares:
    """By the textbook's derivatives and NumPy's solver; see `Squares`."""

    def __init__(self, layout: Layout, X: Floats) -> None:
        self._layout, self._X = layout, X
        self._rows = part_rows(layout.size, layout.outputs)

    def predictions(self, point: Vector) -> Vector:
        """Return the outputs for all examples."""
        layout = self._layout
        with np.errstate(all="ignore"):
            passed = reference_walk.outputs(layout, point, self._X.T, layout.operations)
        return np.asarray(passed[-1].A.T, np.float64)

    def products(self, point: Vector, errors: Vector, roots: Vector, gaps: Gaps | None) -> Vector:
        """Return the lower triangle of the products, and ``r' J``."""
        size = point.size
        total = np.zeros((size + 1, size + 1))
        for start in range(0, len(self._X), self._rows):
            part = slice(start, start + self._rows)
            J = reference_derivatives.parameter_jacobian(self._layout, point, self._X[part])
            J *= roots[part, np.newaxis, np.newaxis]
            if gaps is not None:
                J[gaps[part]] = 0.0
            whole = np.column_stack([J.reshape(-1, size), errors[part].ravel()])
            total += whole.T @ whole
        return total

    def solve(self, products: Vector, damping: Vector, g: Vector) -> Vector | None:
        """Return the damped step."""
        size = g.size
        lower = np.tril(products[:size, :size])
        A = lower + lower.T + np.diag(damping - np.diag(lower))
        try:
            return np.asarray(np.linalg.solve(A, -g))
        except np.linalg.LinAlgError:
            return None


class NativeSquares:
    """By the kernels of derivatives, blocked products and a Cholesky factor; see `Squares`."""

    def __init__(self, layout: Layout, X: Floats) -> None:
        size, m = layout.size, layout.outputs
        self._X, self._outputs = X, m
        self._rows = min(part_rows(size, m), len(X))
        self._pitch = padded(size + 1)
        self._derive = Derivatives(layout, np.zeros(size), codes.PARAMETERS, self._pitch)
        self._predictor = predictor_of(layout, np.dtype(np.float64))
        self._J = np.zeros((self._rows * m, self._pitch))
        self._factor = np.empty((size, self._pitch))
        self._room = np.empty(size * codes.FACTORISED)

    def predictions(self, point: Vector) -> Vector:
        """Return the outputs for all examples."""
        found = np.empty((len(self._X), self._outputs))
        self._predictor(point, self._X, found)
        return found

    def products(self, point: Vector, errors: Vector, roots: Vector, gaps: Gaps | None) -> Vector:
        """Return the lower triangle of the products, and ``r' J``."""
        from fastnn.kernels.normal_equations import add_products

        size = point.size
        total = np.zeros((size + 1, self._pitch))
        self._derive.pack(point)
        for start in range(0, len(self._X), self._rows):
            part = slice(start, start + self._rows)
            some = errors[part].ravel()
            rows = self._J[: len(some)]
            self._derive(self._X[part], roots[part, np.newaxis], rows)
            if gaps is not None:
                rows[gaps[part].ravel()] = 0.0
            rows[:, size] = some
            add_products(np.ascontiguousarray(rows[:, : size + 1].T), rows, total)
        return total

    def solve(self, products: Vector, damping: Vector, g: Vector) -> Vector | None:
        """Return the damped step."""
        from fastnn.kernels.normal_equations import solve_damped

        step: NDArray[Any] = np.empty(g.size)
        return step if solve_damped(products, damping, g, self._factor, self._room, step) else None


def padded(columns: int) -> int:
    """Return columns rounded up to whole blocks."""
    return -(-columns // codes.FACTORISED) * codes.FACTORISED


def part_rows(size: int, outputs: int) -> int:
    """Return of how many examples the Jacobian is computed at a time."""
    return max(1, max(_PART // padded(size + 1), _FEWEST) // outputs)


def check_squares(layout: Layout, loss: Loss, data: Data, record: LevenbergMarquardt) -> None:
    """Refuse what a step cannot be computed for, before anything is allocated."""
    if loss.name != "mean_squared_error":
        raise ValueError(
            "LevenbergMarquardt minimises squared errors: the loss must be 'mean_squared_error'; "
            f"got {loss.name!r}. LBFGS takes any loss."
        )
    for one in layout.operations:
        if not isinstance(one.layer, Dense):
            raise ValueError(
                "LevenbergMarquardt computes the Jacobian of Dense layers only; got "
                f"{one.layer!r}. LBFGS takes other layers."
            )
    if isinstance(data.X, SparseRows):
        raise ValueError(
            "LevenbergMarquardt needs dense features; got a sparse matrix. Give X.toarray()."
        )
    pitch = padded(layout.size + 1)
    # The products, their factor, and three forms of a part of the Jacobian.
    least = 3 * 8 * pitch * layout.outputs * part_rows(layout.size, layout.outputs)
    needed = 2 * 8 * (layout.size + 1) * pitch + least
    if needed > record.max_memory:
        raise ValueError(
            f"LevenbergMarquardt needs {needed:,} bytes for {layout.size:,} parameters, which is "
            f"above max_memory={record.max_memory:,}. Take a smaller network, a larger max_memory, "
            "or LBFGS."
        )
