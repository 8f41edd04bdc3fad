"""Networks from Keras's models; Keras itself is not imported here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn.exports.keras_names import ACTIVATIONS
from fastnn.exports.made import Held, network_of
from fastnn.layers import Dense, Dropout
from fastnn.names import describe
from fastnn.network import Sequential
from fastnn.norms import BatchNorm, LayerNorm, RMSNorm
from fastnn.scaling import Standardize
from fastnn.slopes import PReLU

__all__ = ["from_keras"]

Array = NDArray[Any]

# The slope below 0 of Keras's activation of this name.
_LEAKY = 0.2
_NOTHING = {"InputLayer", "Flatten", "ActivityRegularization", "GaussianNoise"}


def from_keras(model: Any, *, dtype: DTypeLike | None = None) -> Sequential:
    """Return a network that computes what a ``keras.Sequential`` predicts.

    Parameters
    ----------
    model : keras.Sequential
        Of ``Dense``, activation, ``Dropout``, ``BatchNormalization``, ``LayerNormalization``,
        ``RMSNormalization`` and ``PReLU`` layers, behind a ``Normalization`` or none, nested or
        not.  It must have weights.
    dtype : {"float32", "float64"}, optional
        Of the network; that of the weights if left out.

    Returns
    -------
    Sequential
        With weights of its own.

    Raises
    ------
    TypeError
        If it is no ``Sequential`` of Keras's.
    ValueError
        If something in it is none of this library's layers, which is named.

    See Also
    --------
    Sequential.to_keras : The way back.
    Sequential.set_weights : Takes the list of ``model.get_weights()`` of ``Dense`` layers.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.from_keras(model)  # doctest: +SKIP
    """
    kind = type(model)
    if kind.__name__ != "Sequential" or not kind.__module__.partition(".")[0].endswith("keras"):
        raise TypeError(f"model must be a keras.Sequential; got {describe(model)}.")
    layers: list[Held] = []
    width: int | None = None
    features: int | None = None
    for layer in _flat(model):
        width = _add(layers, layer, width)
        if features is None and width is not None:
            features = _reads(layers[0]) if layers else width
    if not any(isinstance(one.layer, Dense) for one in layers) or features is None:
        raise ValueError("model must have a Dense layer with weights; got none.")
    return network_of(layers, features, dtype)


def _flat(model: Any) -> Iterator[Any]:
    """Yield the layers of nested Sequentials."""
    for layer in model.layers:
        if type(layer).__name__ == "Sequential":
            yield from _flat(layer)
        else:
            yield layer


def _reads(held: Held) -> int:
    """Return how many columns a layer reads."""
    return len(held.parameters[0])


def _add(layers: list[Held], layer: Any, width: int | None) -> int | None:
    """Add a layer of Keras's; return how many columns it gives, if that is known."""
    kind, where = type(layer).__name__, f"layer {layer.name!r} ({type(layer).__name__})"
    settings, arrays = layer.get_config(), [np.asarray(one) for one in layer.get_weights()]
    if kind in _NOTHING:
        return width
    if kind == "Dropout":
        if settings["rate"]:
            layers.append(Held(Dropout(float(settings["rate"]))))
        return width
    if kind == "Dense":
        _check_arrays(where, arrays, 1 + bool(settings["use_bias"]))
        W = arrays[0]
        layers.append(Held(Dense(W.shape[1], bias=len(arrays) > 1), tuple(arrays)))
        _activate(layers, _named(settings["activation"], where), W.shape[1], where)
        return int(W.shape[1])
    if kind in ("Activation", "ReLU", "LeakyReLU", "ELU", "Softmax"):
        _activate(layers, _of_layer(kind, settings, where), width, where)
        return width
    if kind in _NORMS:
        held = _norm(kind, settings, arrays, where)
        layers.append(held)
        return _reads(held)
    known = ", ".join(("Dense", "Dropout", "Activation", "ReLU", "LeakyReLU", "ELU", "Softmax",
                       *_NORMS, *sorted(_NOTHING)))  # fmt: skip
    raise ValueError(f"{where} has no layer here; known are {known}.")


def _check_arrays(where: str, arrays: list[Array], count: int) -> None:
    """Refuse a layer that has not so many arrays."""
    if len(arrays) != count:
        raise ValueError(
            f"{where} must have {count} arrays; it has {len(arrays)}. Build the model."
        )


def _named(activation: Any, where: str) -> str | float:
    """Return an activation's name here, or the slope of a leaky one."""
    name = activation
    if isinstance(activation, dict):
        name = activation.get("config")
        name = name if isinstance(name, str) else activation.get("class_name")
    if name == "leaky_relu":
        return _LEAKY
    if name not in ACTIVATIONS:
        raise ValueError(
            f"{where} has the activation {describe(name)}, which is none of this library's; known "
            f"are {', '.join(ACTIVATIONS)} and leaky_relu."
        )
    return ACTIVATIONS[name]


def _of_layer(kind: str, settings: dict[str, Any], where: str) -> str | float:
    """Return the activation that a layer of its own is, or the slope of a leaky one."""
    if kind == "Activation":
        return _named(settings["activation"], where)
    if kind == "LeakyReLU":
        return float(settings["negative_slope"])
    if kind == "ReLU":
        if settings.get("max_value") is not None or settings.get("threshold"):
            raise ValueError(f"{where} must have max_value=None and threshold=0.")
        return float(settings.get("negative_slope") or 0.0)
    if kind == "ELU" and settings.get("alpha", 1.0) != 1.0:
        raise ValueError(f"{where} must have alpha=1.0; got {settings['alpha']}.")
    if kind == "Softmax" and settings.get("axis", -1) not in (-1, 1):
        raise ValueError(f"{where} must have axis=-1; got {settings['axis']}.")
    return kind.lower()


def _activate(
    layers: list[Held], activation: str | float, width: int | None, where: str
) -> None:  # fmt: skip
    """Give the last layer its activation, or add one with slopes."""
    if activation == "identity":
        return
    last = layers[-1] if layers else None
    dense: Any = None if last is None else last.layer
    is_open = isinstance(dense, Dense) and dense.activation == "identity"
    if isinstance(activation, float):
        activation = {0.0: "relu", 0.01: "leaky_relu"}.get(activation, activation)
    slope = {"relu": 0.0, "leaky_relu": 0.01}.get(str(activation), activation)
    if isinstance(activation, str) and is_open and last is not None:
        layers[-1] = replace(last, layer=replace(dense, activation=activation))
    elif isinstance(slope, float) and width is not None:
        # Slopes that training leaves alone.
        layers.append(Held(PReLU(slope, trainable=False), (np.full(width, slope),)))
    else:
        raise ValueError(
            f"{where} must follow a Dense layer; here one activation follows another, a norm, a "
            "Dropout or the inputs, where ReLU and LeakyReLU may stand."
        )


_NORMS = (
    "BatchNormalization", "LayerNormalization", "RMSNormalization", "PReLU", "Normalization",
)  # fmt: skip


def _norm(kind: str, settings: dict[str, Any], arrays: list[Array], where: str) -> Held:
    """Return a layer that normalises, or bends, columns."""
    axis = settings.get("axis", -1)
    if kind != "PReLU" and axis not in (-1, 1, [-1], [1], (-1,), (1,)):
        raise ValueError(f"{where} must have axis=-1; got {describe(axis)}.")
    if kind == "PReLU":
        _check_arrays(where, arrays, 1)
        if arrays[0].ndim != 1:
            raise ValueError(f"{where} must have a slope for each unit; got {arrays[0].shape}.")
        return Held(PReLU(), (arrays[0],))
    if kind == "Normalization":
        return _standardize(arrays, settings, where)
    if kind == "RMSNormalization":
        _check_arrays(where, arrays, 1)
        return Held(RMSNorm(float(settings["epsilon"])), (arrays[0],))
    buffers = 2 if kind == "BatchNormalization" else 0
    scaled, centred = bool(settings["scale"]), bool(settings["center"])
    _check_arrays(where, arrays, scaled + centred + buffers)
    if not arrays:
        raise ValueError(f"{where} must have a scale or a shift.")
    ones = np.ones_like(arrays[0])
    scale = arrays[0] if scaled else ones
    shift = arrays[int(scaled)] if centred else 0 * ones
    epsilon = float(settings["epsilon"])
    if kind == "LayerNormalization":
        return Held(LayerNorm(epsilon), (scale, shift))
    return Held(BatchNorm(float(settings["momentum"]), epsilon), (scale, shift), tuple(arrays[-2:]))


def _standardize(arrays: list[Array], settings: dict[str, Any], where: str) -> Held:
    """Return the layer of a ``Normalization``, which has measured its features or was told."""
    found = arrays[:2] if arrays else [settings.get(name) for name in ("mean", "variance")]
    if any(one is None for one in found) or settings.get("invert"):
        raise ValueError(f"{where} must know mean and variance, and not invert them.")
    mean, variance = (np.asarray(one, np.float64).reshape(-1) for one in found)
    return Held(Standardize(), (mean, np.sqrt(variance)))
