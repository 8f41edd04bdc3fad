"""Derivatives of a network, as methods: what `Sequential` has beside training and predicting."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import attribution, gate, paths
from fastnn.attribution import Attribution
from fastnn.data import Data
from fastnn.equations import curvature as reference_curvature
from fastnn.equations.walk import Walk
from fastnn.layout import Layout
from fastnn.losses import Loss, LossLike
from fastnn.names import check_integer, lookup
from fastnn.path import Path
from fastnn.sharing import Shown

__all__ = ["Differentiable"]

Floats = NDArray[np.floating]

_METHODS = {name: name for name in ("integrated_gradients", "expected_gradients")}


class Differentiable:
    """What a network tells of its derivatives; a base of `Sequential`."""

    dtype: np.dtype[Any]
    _shown: Shown
    _parameters: Floats

    @property
    def layout(self) -> Layout:
        """Names, offsets and shapes of the parameters."""
        raise NotImplementedError

    def _asked(
        self, X: object, y: object, loss: object, sample_weight: object, backend: str | None,
        dense: bool = False,
    ) -> tuple[Loss, Data, Path]:  # fmt: skip
        raise NotImplementedError

    def _readable(self, features: Floats, name: str = "X") -> Any:
        raise NotImplementedError

    def _derived(self, X: object, name: str, V: Floats | None, backend: str | None) -> Floats:
        """Return derivatives of one state of the parameters."""
        layout, path = self.layout, paths.asked(backend)
        rows = self._readable(gate.features(X, self.dtype, layout.inputs))
        return self._shown.read(
            lambda parameters: _derived(path, layout, parameters, rows, name, V), self._parameters
        )

    def _beside(self, X: object, V: object, columns: int, argument: str) -> Floats:
        """Return vectors that are multiplied, one for each row of X."""
        rows = len(gate.features(X, self.dtype, self.layout.inputs))
        return gate.parameters(V, (rows, columns), self.dtype, argument)

    def jacobian(self, X: ArrayLike, *, backend: str | None = None) -> Floats:
        """Return the derivatives of all outputs by all features, example by example.

        Parameters
        ----------
        X : array-like, shape (n, p)
            Examples, one per row.
        backend : {None, "native", "reference"}, default None
            Which path computes.  Networks with other layers than Dense and Dropout go by the
            textbook: right, and slower.

        Returns
        -------
        ndarray, shape (n, m, p)
            ``[i, k, j]`` is the derivative of output k by feature j at example i; 0 by codes that
            an `Embedding` reads, as nothing changes between two of them.

        Raises
        ------
        TypeError, ValueError
            If X does not fit, or the network has no weights yet.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=2)
        >>> net.jacobian([[1.0, 2.0]])
        array([[[0.5, 0.5]]], dtype=float32)
        """
        return self._derived(X, "jacobian", None, backend)

    def jvp(self, X: ArrayLike, V: ArrayLike, *, backend: str | None = None) -> Floats:
        """Return ``J v`` for each example: how the outputs change along v.

        Parameters
        ----------
        X : array-like, shape (n, p)
            Examples, one per row.
        V : array-like, shape (n, p)
            A direction for each.
        backend
            As in `jacobian`.

        Returns
        -------
        ndarray, shape (n, m)

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or the network has no weights yet.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=2)
        >>> net.jvp([[1.0, 2.0]], [[2.0, 4.0]])
        array([[3.]], dtype=float32)
        """
        return self._derived(X, "jvp", self._beside(X, V, self.layout.inputs, "V"), backend)

    def vjp(self, X: ArrayLike, U: ArrayLike, *, backend: str | None = None) -> Floats:
        """Return ``u' J`` for each example: the gradient by the features of ``u' f(x)``.

        Parameters
        ----------
        X : array-like, shape (n, p)
            Examples, one per row.
        U : array-like, shape (n, m)
            A weight for each output.
        backend
            As in `jacobian`.

        Returns
        -------
        ndarray, shape (n, p)

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or the network has no weights yet.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=2)
        >>> net.vjp([[1.0, 2.0]], [[3.0]])
        array([[1.5, 1.5]], dtype=float32)
        """
        return self._derived(X, "vjp", self._beside(X, U, self.layout.outputs, "U"), backend)

    def parameter_jacobian(self, X: ArrayLike, *, backend: str | None = None) -> Floats:
        """Return the derivatives of all outputs by all parameters, example by example.

        Parameters
        ----------
        X : array-like, shape (n, p)
            Examples, one per row.
        backend
            As in `jacobian`.

        Returns
        -------
        ndarray, shape (n, m, parameters)
            In the order of `parameters`.  It takes ``n * m * parameters`` numbers.

        Raises
        ------
        TypeError, ValueError
            If X does not fit, or the network has no weights yet.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=2)
        >>> net.parameter_jacobian([[1.0, 2.0]])
        array([[[1., 2., 1.]]], dtype=float32)
        """
        return self._derived(X, "parameter_jacobian", None, backend)

    def hessian_vector_product(
        self,
        X: ArrayLike,
        y: ArrayLike,
        v: ArrayLike,
        loss: LossLike = "auto",
        *,
        sample_weight: ArrayLike | None = None,
    ) -> Floats:
        """Return ``H v`` for the Hessian H of the training loss, without computing H.

        Computed in float64.  Where a layer or the loss has no second derivatives here, it is a
        central difference of two gradients, right to some eight digits.

        Parameters
        ----------
        X, y, loss, sample_weight
            As in `fit`, X dense; the examples are taken as one batch, without dropout.
        v : array-like, shape (parameters,)
            In the order of `parameters`.  What belongs to frozen layers counts as 0.

        Returns
        -------
        ndarray, shape (parameters,)
            L2 included; 0 for frozen layers.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or the network has no weights yet.

        References
        ----------
        Pearlmutter 1994, Fast exact multiplication by the Hessian.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=1)
        >>> net.hessian_vector_product([[3.0]], [0.0], [1.0, 0.0])
        array([18.,  6.], dtype=float32)
        """
        row, data, _ = self._asked(X, y, loss, sample_weight, None, dense=True)
        vector = gate.parameters(v, (self.layout.size,), np.float64, "v")
        X64, Y, w = (
            None if one is None else np.asarray(one, np.float64)
            for one in data.columns(self.layout.outputs)
        )
        assert X64 is not None
        assert Y is not None
        layout, batch = self.layout.without_training(), (X64, Y, w)

        def product(parameters: Floats) -> Floats:
            at = parameters.astype(np.float64)
            if not reference_curvature.knows(layout, row):
                return _differences(layout, at, row, batch, vector)
            return reference_curvature.hessian_product(layout, at, row, batch, vector)

        with np.errstate(all="ignore"):
            found = self._shown.read(product, self._parameters)
            return np.asarray(found.astype(self.dtype))

    def attribute(
        self,
        X: ArrayLike,
        baseline: ArrayLike | None = None,
        method: str = "integrated_gradients",
        *,
        output: int | None = None,
        steps: int | None = None,
        rng: int | np.random.Generator | None = 0,
        backend: str | None = None,
    ) -> Attribution:
        """Return what each feature has contributed to an output, or to each of them.

        Parameters
        ----------
        X : array-like, shape (n, p)
            Examples, one per row.
        baseline : array-like, shape (p,) or (b, p), optional
            What the examples are compared with; zeros by default.  Of several the mean counts.
        method : {"integrated_gradients", "expected_gradients"}
            The first takes ``steps`` gradients on the line from each baseline to each example; the
            second one at a drawn place on each line, for many baselines, such as a hundred
            examples of the training data.
        output : int, optional
            Which output; left out, each of them.
        steps : int, optional
            Gradients on each line; 32 for the first, 1 for the second.
        rng : int or Generator, default 0
            Where places are drawn from.
        backend
            As in `jacobian`.

        Returns
        -------
        Attribution
            Its ``values`` (n, p) sum to the output less that of the baseline, but for ``gap``; for
            each of several outputs they are (n, m, p).

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or the network has no weights yet.

        References
        ----------
        Sundararajan, Taly & Yan 2017, Axiomatic attribution for deep networks; Erion and others
        2021, Improving performance of deep learning models with axiomatic attribution priors and
        expected gradients.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, "exp", initializer=1.0)], inputs=2, dtype="float64")
        >>> found = net.attribute([[1.0, 0.0]])
        >>> found.values.round(3).tolist()
        [[1.718, 0.0]]
        """
        layout, path = self.layout, paths.asked(backend)
        if layout.coded:
            raise ValueError(
                "attribute goes from a baseline to each example, and between two codes there is "
                f"nothing; got a network that embeds column {layout.coded[0][0]}. Compare "
                "predictions with other codes instead."
            )
        rows = gate.features(X, self.dtype, layout.inputs)
        bases = np.zeros((1, layout.inputs), self.dtype)
        if baseline is not None:
            given = np.asarray(baseline)
            bases = gate.features(given[None] if given.ndim == 1 else given, self.dtype,
                                  layout.inputs)  # fmt: skip
        method = lookup(_METHODS, method, "method")
        chosen = range(layout.outputs)
        if output is not None:
            one = check_integer(output, "output", 0)
            if one >= layout.outputs:
                raise ValueError(f"output must be below {layout.outputs}; got {one}.")
            chosen = range(one, one + 1)
        integrated = method == "integrated_gradients"
        count = (32 if integrated else 1) if steps is None else check_integer(steps, "steps", 1)

        drawn = np.random.default_rng(rng)
        begin = drawn.bit_generator.state

        def contributed(parameters: Floats, to: int) -> Floats:
            def gradient(points: Floats) -> Floats:
                units = np.zeros((len(points), layout.outputs), self.dtype)
                units[:, to] = 1.0
                return _derived(path, layout, parameters, points, "vjp", units)

            if integrated:
                return attribution.integrated_gradients(gradient, rows, bases, count)
            # The same places for every output.
            drawn.bit_generator.state = begin
            return attribution.expected_gradients(gradient, rows, bases, count, drawn)

        def found(parameters: Floats) -> Attribution:
            values = np.stack([contributed(parameters, to) for to in chosen], axis=1)
            values = values.astype(self.dtype)
            at = path.predictions(layout, parameters, bases)[:, chosen]
            outputs = path.predictions(layout, parameters, rows)[:, chosen]
            base = at.mean(axis=0, dtype=np.float64)
            if len(chosen) == 1:
                return Attribution(values[:, 0], float(base[0]), outputs[:, 0])
            return Attribution(values, base, outputs)

        return self._shown.read(found, self._parameters)


def _derived(
    path: Path, layout: Layout, parameters: Floats, X: Floats, name: str, V: Floats | None
) -> Floats:
    """Return derivatives of the outputs in the units of the targets, where these are scaled."""
    if layout.scale is None:
        return path.derivatives(layout, parameters, X, name, V)
    factors = layout.scale.factors(layout.outputs, parameters.dtype)
    with np.errstate(all="ignore"):
        if name == "vjp":
            return path.derivatives(layout, parameters, X, name, None if V is None else V * factors)
        found = path.derivatives(layout, parameters, X, name, V)
        found *= factors if name == "jvp" else factors[:, np.newaxis]
    return found


def _differences(
    layout: Layout, at: Floats, loss: Loss, batch: Any, v: Floats
) -> Floats:  # fmt: skip
    """Return ``H v`` as a central difference of two gradients."""
    moving = np.zeros(layout.size)
    for one in layout.operations:
        for entry in one.parameters:
            moving[entry.offset : entry.offset + entry.size] = one.trainable
    v = v * moving
    length = float(np.sqrt((v**2).sum()))
    if length == 0.0:
        return np.zeros(layout.size)
    step = np.cbrt(np.finfo(np.float64).eps) * max(1.0, float(np.abs(at).max())) / length

    def gradient(change: Floats) -> Floats:
        moved = at.copy()
        moved[: layout.size] += change
        walk = Walk(layout, moved, loss, batch)
        return walk.gradient(walk.backward(walk.forward()), 1.0, 1.0)

    return np.asarray((gradient(step * v) - gradient(-step * v)) / (2.0 * step))
