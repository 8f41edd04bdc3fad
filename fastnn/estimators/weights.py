"""The weights of an estimator: one vector to compute with, and the lists that users see.

``coefs_`` and ``intercepts_`` are authoritative, as in scikit-learn: a user may write into their
arrays, replace one, or set all of them.  While they are the views that `Weights` made, a prediction
reads the vector behind them; arrays of the user's own are copied at every call.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import gate
from fastnn.activations import activation_named
from fastnn.layers import Dense, Dropout, Layer
from fastnn.layout import Layout
from fastnn.names import check_real, describe
from fastnn.network import Sequential
from fastnn.own import CustomActivation

__all__ = [
    "Weights",
    "check_lists",
    "draw",
    "draw_key",
    "given",
    "hidden_activations",
    "hidden_dropouts",
    "plain_layers",
]

Floats = NDArray[np.floating]


class Weights:
    """A network, and its weights and biases as views of its vector.

    Parameters
    ----------
    units : sequence of int
        Inputs, widths of the hidden layers, outputs.
    activation : str or sequence of str
        The estimator's.
    out_activation : str
        Activation of the last layer.
    dropout : float or sequence of float
        The estimator's.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    network : Sequential
        What computes.
    coefs, intercepts : list of ndarray
        Views of its vector, as (in, out) and (out,).
    """

    #: Whether there is more to it than weights and biases; see `layered.Layered`.
    own: ClassVar[bool] = False

    def __init__(
        self,
        units: Sequence[int],
        activation: Any,
        out_activation: str,
        dropout: Any,
        dtype: DTypeLike,
    ) -> None:
        hidden = len(units) - 2
        names = [*hidden_activations(activation, hidden), out_activation]
        rates = [*hidden_dropouts(dropout, hidden), 0.0]
        layers = plain_layers(units[1:], names, rates)
        self.network = Sequential(layers, int(units[0]), np.dtype(dtype))
        self.coefs = self.network.weights
        self.intercepts = [b for b in self.network.biases if b is not None]
        self._described = activation, out_activation, dropout
        self._linear: Sequential | None = None

    @property
    def linear(self) -> Sequential:
        """The network with an identity for its last activation, on the same vector."""
        if self._linear is None:
            *before, last = self.network.layers
            assert isinstance(last, Dense)
            # Its own weights are never used.
            identity = replace(last, activation="identity", initializer="zeros")
            twin = Sequential([*before, identity], self.network.inputs, self.network.dtype)
            twin._parameters = self.network._parameters
            twin._shown = self.network._shown
            self._linear = twin
        return self._linear

    @classmethod
    def of(
        cls,
        coefs: Any,
        intercepts: Any,
        activation: Any,
        out_activation: str,
        dropout: Any,
        dtype: DTypeLike | None = None,
    ) -> Weights:
        """Return a copy of any weights and biases."""
        check_lists(coefs, intercepts)
        units = _widths(coefs, intercepts)
        if dtype is None:
            dtypes = {np.asarray(part).dtype for part in (*coefs, *intercepts)}
            single = dtypes <= {np.dtype(np.float16), np.dtype(np.float32)}
            dtype = np.float32 if single else np.float64
        weights = cls(units, activation, out_activation, dropout, dtype)
        weights.network.set_weights(
            [part for pair in zip(coefs, intercepts, strict=True) for part in pair]
        )
        return weights

    @property
    def units(self) -> list[int]:
        """Inputs, widths of the hidden layers, outputs."""
        return [self.coefs[0].shape[0], *(b.size for b in self.intercepts)]

    @property
    def vector(self) -> Floats:
        """All that the network learns in one flat, writable vector."""
        return self.network._parameters

    def layout(self, alpha: float) -> Layout:
        """Return the layout of the vector to train with, with the strength of L2."""
        return self.network.layout.with_scale(None).with_l2(alpha)

    def taken(self) -> tuple[list[Floats], list[Floats]]:
        """Return copies of weights and biases, all of the state that was shown last."""
        return self.views(self.network._shown.copied(self.vector.copy))

    def views(self, vector: Floats) -> tuple[list[Floats], list[Floats]]:
        """Return the weights and biases that lie in a vector like this one's."""
        layout = self.network.layout
        return layout.weights(vector), [b for b in layout.biases(vector) if b is not None]

    def are(
        self, coefs: Any, intercepts: Any, activation: Any, out_activation: str, dropout: Any
    ) -> bool:
        """Return whether these are the views of this vector, in a network of this kind."""
        kind = activation, out_activation, dropout
        return self.hold(coefs, intercepts) and kind == self._described

    def hold(self, coefs: Any, intercepts: Any) -> bool:
        """Return whether these are the views of this vector."""
        if coefs is None or intercepts is None:
            return False
        return (
            len(coefs) == len(self.coefs)
            and len(intercepts) == len(self.intercepts)
            and all(map(operator.is_, coefs, self.coefs))
            and all(map(operator.is_, intercepts, self.intercepts))
        )


def plain_layers(
    units: Sequence[int], activations: Sequence[str], rates: Sequence[float]
) -> tuple[Layer, ...]:
    """Return a `Dense` for each width, with a `Dropout` behind it where a part is dropped."""
    layers: list[Layer] = []
    for width, name, rate in zip(units, activations, rates, strict=True):
        layers += [Dense(width, name), Dropout(rate)] if rate else [Dense(width, name)]
    return tuple(layers)


def check_lists(coefs: Any, intercepts: Any) -> None:
    """Refuse what is no list of arrays of numbers, or is not as long as the other."""
    for argument, arrays in (("coefs_", coefs), ("intercepts_", intercepts)):
        if isinstance(arrays, str) or not hasattr(arrays, "__len__"):
            raise TypeError(f"{argument} must be a list of arrays; got {describe(arrays)}.")
        for place, array in enumerate(arrays):
            gate.readable(array, f"{argument}[{place}]")


def _widths(coefs: Any, intercepts: Any) -> list[int]:
    """Return inputs and widths of layers, or say how the arrays fail to be a network."""
    shapes = [np.shape(W) for W in coefs]
    biases = [np.shape(b) for b in intercepts]
    fits = (
        bool(shapes)
        and all(len(shape) == 2 for shape in shapes)
        and all(above[0] == below[1] for below, above in pairwise(shapes))
        and biases == [(shape[1],) for shape in shapes]
    )
    if not fits:
        raise ValueError(
            "coefs_ and intercepts_ must hold arrays of shape (in, out) and (out,) for one layer "
            f"after the other; got shapes {shapes} and {biases}."
        )
    return [shapes[0][0], *(shape[1] for shape in shapes)]


def hidden_activations(activation: Any, hidden: int) -> list[str]:
    """Return the name of each hidden layer's activation, or say what is wrong with them."""
    alone = isinstance(activation, (str, CustomActivation))
    names = [activation] * hidden if alone else list(activation)
    if len(names) != hidden:
        raise ValueError(
            f"activation must be one name or one for each of the {hidden} hidden layers; "
            f"got {len(names)} of them."
        )
    return [activation_named(name, "activation").name for name in names]


def hidden_dropouts(dropout: Any, hidden: int) -> list[float]:
    """Return the part of each hidden layer that is dropped, or say what is wrong with them."""
    several = isinstance(dropout, list | tuple)
    rates = list(dropout) if several else [dropout] * hidden
    if len(rates) != hidden:
        raise ValueError(
            f"dropout must be one number, or {hidden}, one for each hidden layer; got {dropout!r}."
        )
    names = [f"dropout[{place}]" if several else "dropout" for place in range(hidden)]
    return [
        check_real(rate, name, low=0.0, high=1.0, high_open=True)
        for rate, name in zip(rates, names, strict=True)
    ]


def draw(weights: Weights, activation: Any, rng: np.random.RandomState) -> None:
    """Draw first weights and biases as scikit-learn does, in its order.

    Uniform within sqrt(6 / (fan_in + fan_out)) of Glorot & Bengio 2010, equation 16, with 2 for
    the 6 behind logistic units; the last layer follows the activation before it.
    """
    names = hidden_activations(activation, len(weights.coefs) - 1)
    if not names:
        names = [activation] if isinstance(activation, str) else ["identity"]
    names = [*names, names[-1]][: len(weights.coefs)]
    for W, b, name in zip(weights.coefs, weights.intercepts, names, strict=True):
        logistic = activation_named(name, "activation").name == "sigmoid"
        bound = np.sqrt((2.0 if logistic else 6.0) / sum(W.shape))
        W[:] = rng.uniform(-bound, bound, W.shape)
        b[:] = rng.uniform(-bound, bound, b.shape)


def draw_key(rng: np.random.RandomState) -> int:
    """Draw dropout's key from a copy of the generator, so that all else is drawn as without it."""
    return int.from_bytes(copy.deepcopy(rng).bytes(8), "little")


def given(views: Sequence[Floats], arrays: Any, argument: str) -> None:
    """Write initial weights or biases from the user into the views, or refuse them."""
    shapes = [view.shape for view in views]
    if len(arrays) != len(shapes):
        raise ValueError(
            f"{argument} must hold {len(shapes)} arrays of shapes {shapes}; got {len(arrays)}."
        )
    values = [
        gate.parameters(array, view.shape, view.dtype, f"{argument}[{place}]")
        for place, (view, array) in enumerate(zip(views, arrays, strict=True))
    ]
    for view, value in zip(views, values, strict=True):
        view[:] = value
