"""Layers that are no product, of what an ONNX file has for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.exports.made import Held
from fastnn.exports.parts import PlainLayer, PlainPart
from fastnn.layers import Dense
from fastnn.norms import BatchNorm, LayerNorm, RMSNorm
from fastnn.periodic import NumericEmbedding
from fastnn.scaling import Standardize
from fastnn.slopes import PReLU

__all__ = ["Widths", "active", "made_part"]

Array = NDArray[Any]

#: How many columns a layer reads and gives; None where its input says it.
Widths: TypeAlias = tuple[int | None, int | None]


def made_part(name: str, named: dict[str, Any], width: int | None) -> tuple[Held, Widths]:
    """Return a layer with its arrays, and how wide it is.

    Parameters
    ----------
    name : str
        Of a pattern.
    named : dict of str to object
        What its names stand for in the file.
    width : int or None
        Columns that it reads, where that is known.

    Raises
    ------
    ValueError
        If its arrays are of other shapes or types.
    """
    if name == "NumericEmbedding":
        return _waves(named)
    if name in _ACTIVE:
        if width is None:
            raise ValueError("an activation stands before any layer.")
        slope = float(named.get("alpha", _ACTIVE[name]))
        # Slopes that training leaves alone; in the dtype that the layers have.
        return Held(PReLU(slope, trainable=False), (np.full(width, slope),)), (width, width)
    wanted = _ARRAYS[name]
    # A norm without a shift has none to add.
    named = {"shift": np.zeros(1, np.asarray(named[wanted[0]]).dtype), **named}
    arrays = [_vector(named[one], one, width) for one in wanted]
    n = width or max(map(len, arrays))
    arrays = [np.repeat(array, n) if len(array) == 1 else array for array in arrays]
    if any(len(array) != n for array in arrays):
        raise ValueError(f"the arrays of a {name} have several lengths.")
    numbers = {one: _short(named[one]) for one in ("epsilon", "momentum") if one in named}
    layer: Any
    if name == "BatchNorm":
        momentum = numbers.get("momentum", 0.9)
        layer = BatchNorm(momentum, numbers.get("epsilon", 1e-5))
        return Held(layer, tuple(arrays[:2]), tuple(arrays[2:])), (n, n)
    if name == "Standardize":
        return Held(Standardize(), tuple(arrays)), (n, n)
    if name == "PReLU":
        return Held(PReLU(), tuple(arrays)), (n, n)
    kind = LayerNorm if name == "LayerNorm" else RMSNorm
    return Held(kind(numbers.get("epsilon", 1e-5)), tuple(arrays)), (n, n)


_ARRAYS = {
    "LayerNorm": ("scale", "shift"),
    "RMSNorm": ("scale",),
    "BatchNorm": ("scale", "shift", "mean", "variance"),
    "Standardize": ("mean", "deviation"),
    "PReLU": ("slope",),
}
# Activations that stand without a product before them, and their slopes.
_ACTIVE = {"Relu": 0.0, "LeakyRelu": 0.01}


def _vector(found: Any, name: str, width: int | None) -> Array:
    """Return an array of one number for each column."""
    array = np.asarray(found)
    if array.dtype not in (np.float32, np.float64) or array.size != max(array.shape, default=1):
        raise ValueError(f"its {name} is of {array.dtype} and shape {array.shape}.")
    if width is not None and array.size not in (1, width):
        raise ValueError(f"its {name} has {array.size} numbers for {width} columns.")
    return np.ascontiguousarray(array.reshape(-1))


def _short(number: Any) -> float:
    """Return a number of float32 as the shortest one that is written so, such as 1e-05."""
    value = float(np.asarray(number).reshape(()))
    return float(str(np.float32(value))) if np.float32(value) == value else value


def _waves(named: dict[str, Any]) -> tuple[Held, Widths]:
    """Return a `NumericEmbedding`."""
    C, W, b = (np.asarray(named[one]) for one in ("frequencies", "weights", "biases"))
    if any(one.dtype not in (np.float32, np.float64) for one in (C, W, b)):
        raise ValueError("its waves are no real numbers.")
    if C.ndim != 2 or W.ndim != 3 or b.ndim != 2 or not C.size:
        raise ValueError(f"its waves are of shapes {C.shape}, {W.shape} and {b.shape}.")
    count, k = C.shape
    d = b.shape[1]
    if W.shape != (count, 2 * k, d) or len(b) != count:
        raise ValueError(f"its waves are of shapes {C.shape}, {W.shape} and {b.shape}.")
    passing = np.asarray(named.get("passing", ())).reshape(-1)
    columns = np.asarray(named.get("columns", range(count))).reshape(-1)
    whole = np.concatenate([columns, passing])
    if whole.tolist() != list(range(len(whole))) or len(columns) != count:
        raise ValueError("its waves are not those of the first columns.")
    layer = NumericEmbedding(k, d, passing=len(passing))
    return Held(layer, (C, W.reshape(-1, d), b)), (len(whole), count * d + len(passing))


def active(layers: Sequence[Held], activation: str) -> Held | None:
    """Return one Dense for a Dense, a BatchNorm and an activation; None of other layers.

    The norm is in its weights, computed in float64.
    """
    if len(layers) != 2:
        return None
    (dense, norm), layer = layers, layers[0].layer
    if not isinstance(layer, Dense) or not isinstance(norm.layer, BatchNorm):
        return None
    if layer.activation != "identity":
        return None
    names = _ARRAYS["BatchNorm"]
    arrays = dict(zip(names, norm.parameters + norm.buffers, strict=True))
    line = PlainPart(norm.layer, layer.units, layer.units, arrays).line
    assert line is not None
    W, *b = dense.parameters
    plain = PlainLayer(W.astype(np.float64), b[0] if b else None, activation).before(line)
    return Held(Dense(layer.units, activation), plain.cast(W.dtype).arrays)
