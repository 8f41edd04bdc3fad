"""Estimators of any layers: what network they ask for, and its weights.

``layers=`` takes the place of ``hidden_layer_sizes``; ``standardize=`` and ``scale_targets=`` make
a network of the same kind of those.  What it has beside the weights and biases of its `Dense`
layers lies in its own vectors alone, and goes into pickles and files apart from ``coefs_``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse

from fastnn import gate
from fastnn.estimators.weights import (
    Weights,
    given,
    hidden_activations,
    hidden_dropouts,
    plain_layers,
)
from fastnn.kinds import coded_columns, from_dict, kind_of, to_dict
from fastnn.layers import Dense, Layer, named
from fastnn.layout import Layout
from fastnn.names import check_bool, describe, several
from fastnn.network import Sequential
from fastnn.scaling import Standardize
from fastnn.stacks import check_layers

__all__ = ["Asked", "Layered", "asked_of", "check_plain"]

Floats = NDArray[np.floating]

# What `layers` say by themselves, and the values that leave it to them.
_TOLD = {"hidden_layer_sizes": (100,), "activation": "relu", "dropout": 0.0}
_SCALE = ("mean", "deviation")


@dataclass(frozen=True, slots=True)
class Asked:
    """What network an estimator's parameters ask for.

    Attributes
    ----------
    layers : tuple of Layer
        Those before the last one, which the loss and the targets make.
    own : bool
        Whether they came as ``layers=``, with initializers of their own.
    scale_targets : bool
        Whether targets are brought to unit scale.
    """

    layers: tuple[Layer, ...]
    own: bool
    scale_targets: bool

    @property
    def drops(self) -> bool:
        """Whether one of the layers does something in training only."""
        return any(kind_of(layer).in_training for _, layer in named(self.layers))

    def _check_searchable(self, inputs: int) -> None:
        """Refuse layers that follow the examples of steps, which a search does not take."""
        layout = Layout.of(inputs, (*self.layers, Dense(1)))
        shaped = next((one for one in layout.operations if one.of_steps is not None), None)
        if shaped is not None:
            raise ValueError(
                "solver='lbfgs' minimises a smooth loss, without bounds and at a rate of its own; "
                f"got {shaped.of_steps} of layer {shaped.name}. Give a solver that takes steps, "
                "such as 'adam'."
            )
        following = next((one for one in layout.operations if one.buffers), None)
        if following is not None:
            raise ValueError(
                "solver='lbfgs' evaluates the loss at weights that it does not take, which what "
                f"{following.layer!r} holds beside its parameters cannot follow. Give a solver "
                "that takes steps, such as 'adam', or another layer."
            )

    @property
    def whole(self) -> Layer | None:
        """The layer that reads all features of an example, where the first one does."""
        reading = (layer for layer in self.layers if not kind_of(layer).in_training)
        first = next(reading, None)
        return None if first is None or isinstance(first, Dense) else first

    def check(self, X: Any, *, searching: bool) -> None:
        """Refuse examples that the layers cannot read, and layers that no search trains."""
        if searching:
            self._check_searchable(X.shape[1])
        if sparse.issparse(X) and self.whole is not None:
            raise ValueError(
                f"X must be dense where the first layer is no Dense, as {self.whole!r} reads all "
                "features of an example; got a sparse matrix. Give X.toarray()."
            )
        if not sparse.issparse(X):
            gate.codes(X, coded_columns(self.layers), "X")


def asked_of(estimator: Any, sizes: Sequence[int]) -> Asked | None:
    """Return what an estimator asks for; None where that is scikit-learn's network.

    Raises
    ------
    TypeError, ValueError
        If ``layers`` is no list of layers, or some that an estimator does not take, or comes with
        parameters that say the same.
    """
    layers, standardize = estimator.layers, bool(estimator.standardize)
    scale = bool(getattr(estimator, "scale_targets", False))
    if layers is None and not standardize and not scale:
        return None
    if layers is None:
        names = hidden_activations(estimator.activation, len(sizes))
        rates = hidden_dropouts(estimator.dropout, len(sizes))
        found: tuple[Layer, ...] = plain_layers(sizes, names, rates)
    else:
        found = _checked(estimator, layers)
    if standardize:
        found = (Standardize(), *found)
    # With any last layer, so that what is wrong is said before a fit changes anything.
    check_layers((*found, Dense(1)))
    return Asked(found, layers is not None, scale)


def _checked(estimator: Any, layers: Any) -> tuple[Layer, ...]:
    """Return layers as a tuple, or say what of them an estimator does not take."""
    if not several(layers) or isinstance(layers, (str, bytes, Mapping)):
        raise TypeError(f"layers must be a list of layers, or None; got {describe(layers)}.")
    for name, usual in _TOLD.items():
        value = getattr(estimator, name)
        if not (isinstance(value, type(usual)) and value == usual):
            raise ValueError(
                f"layers and {name} exclude each other, as layers say all of it: leave {name} at "
                f"{usual!r}; got {describe(value)}."
            )
    found: tuple[Layer, ...] = tuple(layers)
    check_layers((*found, Dense(1)))
    for place, layer in named(found):
        if getattr(layer, "l2", 0.0):
            raise ValueError(
                "layers of an estimator must have l2=0.0, as alpha is the strength of L2 of all "
                f"weights; got {layer!r} as layer {place}."
            )
        if getattr(layer, "l1", 0.0):
            raise ValueError(
                "layers of an estimator must have l1=0.0, as its penalties are divided by the "
                f"number of examples; got {layer!r} as layer {place}. fastnn.Sequential takes it."
            )
        if getattr(layer, "schedule", None) is not None:
            raise ValueError(
                "layers of an estimator must have a dropout of one rate, without schedule; got "
                f"{layer!r} as layer {place}. fastnn.Sequential takes it."
            )
        decays = getattr(layer, "weight_decay", None) is not None
        if decays and estimator.solver not in ("adamw", "lion"):
            raise ValueError(
                "weight_decay of a layer is for solver='adamw' and solver='lion', whose weights "
                f"decay; got {estimator.solver!r}."
            )
    return found


def check_plain(estimator: Any, method: str) -> None:
    """Refuse what has no counterpart where there are dense layers alone."""
    weights = estimator.__dict__.get("_weights")
    if weights is not None and weights.own:
        raise ValueError(
            f"{method} needs a network of hidden_layer_sizes; this one was fitted with layers=, "
            "standardize= or scale_targets=, of which scikit-learn's class has no counterpart. "
            "Fit without them, with X and y scaled before, or use to_onnx or save."
        )


class Layered(Weights):
    """A network of any layers, and the weights and biases of its `Dense` layers as views.

    Parameters
    ----------
    network : Sequential
        What computes; its last layer is the estimator's.
    """

    own = True

    def __init__(self, network: Sequential) -> None:
        self.network = network
        self.coefs = network.weights
        self.intercepts = [b for b in network.biases if b is not None]
        self._linear: Sequential | None = None

    @classmethod
    def begun(
        cls, asked: Asked, inputs: int, outputs: int, out_activation: str, dtype: DTypeLike,
        rng: int,
    ) -> Layered:  # fmt: skip
        """Return the network that is asked for, with weights drawn by its layers' initializers."""
        layers = (*asked.layers, Dense(outputs, out_activation))
        scaled = asked.scale_targets
        return cls(Sequential(layers, inputs, np.dtype(dtype), rng, scale_targets=scaled))

    @property
    def before(self) -> tuple[tuple[Layer, ...], bool]:
        """The layers before the last one, and whether targets are scaled."""
        return self.network.layers[:-1], self.network.scale_targets

    @property
    def units(self) -> list[int]:
        """Inputs, and widths of the `Dense` layers."""
        return [self.network.layout.inputs, *(W.shape[1] for W in self.coefs)]

    def are(
        self, coefs: Any, intercepts: Any, activation: Any, out_activation: str, dropout: Any
    ) -> bool:
        """Return whether these are the views of this vector, with this last activation."""
        return self.hold(coefs, intercepts) and self._ends_in(out_activation)

    def _ends_in(self, out_activation: str) -> bool:
        last = self.network.layers[-1]
        assert isinstance(last, Dense)
        return replace(last, activation=out_activation) == last

    def present(
        self, coefs: Any, intercepts: Any, out_activation: str, dtype: DTypeLike | None
    ) -> Layered:
        """Return the network with these weights, biases, last activation and dtype.

        Itself, where it has them; else a copy.
        """
        wanted = self.network.dtype if dtype is None else np.dtype(dtype)
        held = self.hold(coefs, intercepts)
        if held and wanted == self.network.dtype and self._ends_in(out_activation):
            return self
        network = self.network
        vector, scale = network._shown.copied(lambda: (self.vector.copy(), network.layout.scale))
        *before, last = network.layers
        assert isinstance(last, Dense)
        layers = (*before, replace(last, activation=out_activation))
        twin = Layered(
            Sequential(layers, network.inputs, wanted, scale_targets=network.scale_targets)
        )
        with np.errstate(over="ignore"):
            twin.vector[:] = vector
        if scale is not None:
            twin.network._take_scale(scale)
        if not held:
            given(twin.coefs, coefs, "coefs_")
            given(twin.intercepts, intercepts, "intercepts_")
        return twin

    # In pickles and files.

    def to_plain(self) -> dict[str, Any]:
        """Return what it is made of beside weights and biases, sharing nothing with it."""
        network = self.network
        layout, vector, scale = network.layout, network.parameters, network.target_scale
        held = {
            entry.name: layout.view(vector, entry).copy()
            for entry in layout
            if entry.name not in _of_dense(layout)
        }
        return {
            "layers": [to_dict(layer) for layer in network.layers],
            "inputs": layout.inputs,
            "dtype": str(network.dtype),
            "held": held,
            "buffers": network.buffers.copy(),
            "scale_targets": network.scale_targets,
            "scale": None if scale is None else dict(zip(_SCALE, scale, strict=True)),
        }

    @classmethod
    def of_plain(cls, plain: dict[str, Any]) -> Layered:
        """Return the network that `to_plain` describes, with other weights and biases.

        Raises
        ------
        TypeError, ValueError
            If it is no such description.
        """
        layers = check_layers([from_dict(layer) for layer in plain["layers"]])
        scaled = check_bool(plain["scale_targets"], "scale_targets")
        network = Sequential(layers, plain["inputs"], plain["dtype"], scale_targets=scaled)
        layout, held = network.layout, dict(plain["held"])
        names = [entry.name for entry in layout if entry.name not in _of_dense(layout)]
        if held.keys() != set(names):
            raise ValueError("a network must have the arrays of its layers; got others.")
        views = [layout.view(network.parameters, layout[name]) for name in names]
        given(views, [held[name] for name in names], "held")
        given([network.buffers], [plain["buffers"]], "buffers")
        if plain["scale"] is not None:
            if not scaled:
                raise ValueError("a network without scale_targets must not have a scale.")
            network._take_scale(network._scale_of_arrays(plain["scale"]))
        return cls(network)

    @staticmethod
    def fits(plain: Any, coefs: Sequence[Any], intercepts: Sequence[Any]) -> bool:
        """Say whether a description is one, of a network with such weights and biases.

        Nothing is made of it that is larger than these.
        """
        names = {"layers", "inputs", "dtype", "held", "buffers", "scale_targets", "scale"}
        if not isinstance(plain, dict) or plain.keys() != names:
            return False
        held, inputs = plain["held"], plain["inputs"]
        if not isinstance(held, dict) or type(inputs) is not int or inputs < 1:
            return False
        others = [*held.values(), plain["buffers"]]
        if not all(isinstance(array, np.ndarray) for array in others):
            return False
        layers = check_layers([from_dict(layer) for layer in plain["layers"]])
        layout = Layout.of(inputs, layers)
        arrays = [*coefs, *intercepts, *others]
        if sum(array.size for array in arrays) != layout.size + layout.buffer_size:
            return False
        Layered.of_plain(plain)
        return True


def _of_dense(layout: Layout) -> set[str]:
    """Return the names of the weights and biases of `Dense` layers."""
    entries = (entry for block in layout.blocks for entry in (block.W, block.b))
    return {entry.name for entry in entries if entry is not None}
