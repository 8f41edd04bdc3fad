"""Networks as models of Keras's; loaded when one is asked for, as it imports Keras."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from fastnn.exports.keras_names import ACTIVATIONS
from fastnn.exports.parts import PlainLayer, PlainPart, PlainSum, Step
from fastnn.exports.plain import PlainNetwork
from fastnn.layers import Dropout
from fastnn.norms import BatchNorm, LayerNorm, RMSNorm
from fastnn.slopes import PReLU

__all__ = ["to_keras"]

# What Keras has no name for is refused; its leaky ReLU has a layer.
_NAMES = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}


def to_keras(network: PlainNetwork) -> Any:
    """Return a ``keras.Sequential`` of copies of the weights.

    Parameters
    ----------
    network : PlainNetwork
        With every Dropout and BatchNorm apart.

    Raises
    ------
    ValueError
        If Keras has no layer for one of its.
    """
    if network.embedding is not None:
        raise _refused("Embedding", "its columns of codes beside others")
    pairs = [pair for step in network.steps for pair in _layers(step, network.dtype.name)]
    model = keras.Sequential([keras.Input((network.inputs,), dtype=network.dtype.name)])
    for layer, arrays in pairs:
        model.add(layer)
        if arrays:
            layer.set_weights(arrays)
    return model


def _refused(name: str, what: str) -> ValueError:
    """Return what is raised for a layer that Keras has not."""
    return ValueError(
        f"to_keras() writes a keras.Sequential, which has no layer for {what} ({name}); "
        "to_onnx, to_torch, to_c and to_python have."
    )


def _layers(step: Step, dtype: str) -> Iterator[tuple[Any, list[Any]]]:
    """Yield Keras's layers for one of this library's, each with its arrays."""
    if isinstance(step, PlainSum):
        raise _refused("Residual", "sums")
    if isinstance(step, PlainLayer):
        leaky = step.activation == "leaky_relu"
        if not leaky and step.activation not in _NAMES:
            raise _refused(step.activation, "this activation")
        name = "linear" if leaky else _NAMES[step.activation]
        dense = keras.layers.Dense(
            step.outputs, activation=name, use_bias=step.b is not None, dtype=dtype
        )
        yield dense, list(step.arrays)
        if leaky:
            yield keras.layers.LeakyReLU(negative_slope=0.01, dtype=dtype), []
    else:
        yield _part(step, dtype)


def _part(step: PlainPart, dtype: str) -> tuple[Any, list[Any]]:
    """Return Keras's layer for one that is not Dense, with its arrays."""
    layer, arrays, layers = step.layer, list(step.arrays), keras.layers
    if isinstance(layer, Dropout):
        return layers.Dropout(layer.rate, dtype=dtype), []
    if isinstance(layer, PReLU):
        return layers.PReLU(dtype=dtype), arrays
    if isinstance(layer, LayerNorm):
        return layers.LayerNormalization(epsilon=layer.epsilon, dtype=dtype), arrays
    if isinstance(layer, RMSNorm) and hasattr(layers, "RMSNormalization"):
        return layers.RMSNormalization(epsilon=layer.epsilon, dtype=dtype), arrays
    if isinstance(layer, BatchNorm):
        norm = layers.BatchNormalization(
            momentum=layer.momentum, epsilon=layer.epsilon, dtype=dtype
        )
        return norm, arrays
    line = step.line
    if line is None:
        raise _refused(step.name, "such a layer")
    variance = (1.0 / line.factor) ** 2
    return layers.Normalization(mean=line.mean, variance=variance, dtype=dtype), []
