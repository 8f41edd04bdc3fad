"""Layers of PyTorch's modules in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.embeddings import Embedding
from fastnn.exports.made import Held
from fastnn.layers import Dense, Dropout
from fastnn.norms import BatchNorm, LayerNorm, RMSNorm
from fastnn.periodic import NumericEmbedding
from fastnn.residual import Residual
from fastnn.scaling import Standardize
from fastnn.slopes import PReLU

__all__ = ["MODULES", "array_of", "layers_of"]

Array = NDArray[Any]
# A layer, and how many columns it reads and gives.
_Read: TypeAlias = tuple[Held, int, int]

#: Modules of PyTorch that are activations here, and what their numbers must be for that.
MODULES: dict[str, tuple[str, dict[str, tuple[Any, ...]]]] = {
    "Identity": ("identity", {}),
    "Sigmoid": ("sigmoid", {}),
    "Tanh": ("tanh", {}),
    "ReLU": ("relu", {}),
    "Softmax": ("softmax", {"dim": (1, -1, None)}),
    "LeakyReLU": ("leaky_relu", {"negative_slope": (0.01,)}),
    "ELU": ("elu", {"alpha": (1.0,)}),
    "SELU": ("selu", {}),
    "GELU": ("gelu", {"approximate": ("none",)}),
    "SiLU": ("silu", {}),
    "Softplus": ("softplus", {"beta": (1.0,), "threshold": (20.0,)}),
    "Mish": ("mish", {}),
    "Softsign": ("softsign", {}),
    "Hardsigmoid": ("hard_sigmoid", {}),
    "Exp": ("exp", {}),
    "Sin": ("sin", {}),
    "Increasing": ("increasing", {}),
}


def array_of(tensor: Any, name: str) -> Array:
    """Return a tensor's numbers as an array of floats."""
    if callable(getattr(tensor, "detach", None)):
        tensor = tensor.detach().cpu()
        if str(tensor.dtype) in ("torch.float16", "torch.bfloat16"):
            tensor = tensor.float()
        tensor = tensor.numpy()
    array = np.asarray(tensor)
    if array.dtype.kind != "f":
        raise ValueError(f"{name} must hold real numbers; got dtype {array.dtype}.")
    return array


def _leaves(module: Any, prefix: str, torch: Any) -> Iterator[tuple[str, Any]]:
    """Yield the modules of nested Sequentials in their order, each with its name."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.Sequential):
            yield from _leaves(child, f"{prefix}{name}.", torch)
        else:
            yield f"{prefix}{name}", child


def layers_of(source: Any, torch: Any) -> tuple[list[Held], int]:
    """Return the layers of a ``torch.nn.Sequential`` with their arrays, and how many features.

    Parameters
    ----------
    source : torch.nn.Sequential
        Nested or not.
    torch : module
        PyTorch.

    Raises
    ------
    ValueError
        If a module is none of this library's layers, or modules do not fit each other.
    """
    found = _Found(torch)
    for name, module in _leaves(source, "", torch):
        found.add(name, module)
    if found.width is None or not any(isinstance(one.layer, Dense) for one in found.layers):
        raise ValueError("source must have at least one Linear layer; got none.")
    assert found.features is not None
    layers = found.layers
    if [type(one.layer) for one in layers[:2]] == [Embedding, Standardize]:
        layers[:2] = [_of_features(layers[1], layers[0], found.features), layers[0]]
    return layers, found.features


def _of_features(scale: Held, embedding: Held, features: int) -> Held:
    """Return a Standardize of the columns that an Embedding lets pass, as one in front of it."""
    layer: Any = embedding.layer
    coded = [column for column, _ in layer.sizes]
    passing = [column for column in range(features) if column not in coded]
    arrays = []
    for given, start in zip(scale.parameters, (0.0, 1.0), strict=True):
        array = np.full(features, start, given.dtype)
        array[passing] = given[: len(passing)]
        arrays.append(array)
    return Held(scale.layer, tuple(arrays))


class _Found:
    """Layers that have been read of modules in a row.

    Parameters
    ----------
    torch : module
        PyTorch.
    width : int, optional
        Columns that the first one reads.

    Attributes
    ----------
    layers : list of Held
        So far.
    features : int or None
        Columns that the first one reads, once known.
    width : int or None
        Columns that the last one gives, once known.
    """

    def __init__(self, torch: Any, width: int | None = None) -> None:
        self.layers: list[Held] = []
        self.features = self.width = width
        self._torch = torch
        self._open = False  # whether the last layer still waits for its activation

    def add(self, name: str, module: Any) -> None:
        """Add a module."""
        kind = type(module).__name__
        where = f"module {name!r} ({kind})"
        if kind == "Residual" and hasattr(module, "block"):
            self._add_block(name, module)
        elif kind == "Dropout":
            if module.p:
                self.layers.append(Held(Dropout(float(module.p))))
                self._open = False
        elif kind in _READERS:
            held, reads, gives = _READERS[kind](module, name, where)
            self._follow(where, reads, gives)
            self.layers.append(held)
            self._open = kind == "Linear"
        elif kind in MODULES or kind == "LeakyReLU":
            self._add_activation(module, kind, where)
        else:
            raise ValueError(f"{where} has no layer here; known are {', '.join(_KNOWN)}.")

    def _follow(self, where: str, reads: int, gives: int) -> None:
        """Note how wide a layer is, or refuse it behind another one."""
        if self.width is None:
            self.features = reads
        elif reads != self.width:
            raise ValueError(
                f"{where} must have {self.width} features, as what stands before it has outputs; "
                f"it has {reads}."
            )
        self.width = gives

    def _add_block(self, name: str, module: Any) -> None:
        """Add a block of modules, around which their input is passed."""
        inner = _Found(self._torch, self.width)
        for child, part in _leaves(module.block, f"{name}.block.", self._torch):
            inner.add(child, part)
        if inner.layers:
            if self.width is None:
                self.features = self.width = inner.features
            layer = Residual([one.layer for one in inner.layers])
            self.layers.append(Held(layer, inside=tuple(inner.layers)))
            self._open = False

    def _add_activation(self, module: Any, kind: str, where: str) -> None:
        """Give the last layer its activation, or add one with slopes."""
        slope = getattr(module, "negative_slope", 0.0) if kind in ("ReLU", "LeakyReLU") else None
        if slope is not None and self.width is not None and (
            not self._open or slope not in (0.0, 0.01)
        ):  # fmt: skip
            # Slopes that training leaves alone.
            slopes = np.full(self.width, slope)
            self.layers.append(Held(PReLU(float(slope), trainable=False), (slopes,)))
            self._open = False
            return
        activation = _activation(module, kind, where)
        if activation == "identity":
            return
        if not self._open:
            raise ValueError(
                f"{where} must follow a Linear module; here one activation follows another, "
                "a norm, a Dropout, a sum or the inputs, where ReLU and LeakyReLU may stand."
            )
        last = self.layers[-1]
        dense: Any = last.layer
        self.layers[-1] = replace(last, layer=replace(dense, activation=activation))
        self._open = False


def _linear(module: Any, name: str, where: str) -> _Read:
    """Return the layer of a ``Linear``."""
    W = array_of(module.weight, f"{name}.weight").T
    b = () if module.bias is None else (array_of(module.bias, f"{name}.bias"),)
    return Held(Dense(W.shape[1], bias=bool(b)), (W, *b)), W.shape[0], W.shape[1]


def _tensors(module: Any, name: str, n: int, *wanted: tuple[str, float]) -> tuple[Array, ...]:
    """Return tensors of a module; where it has none, what would change nothing."""
    tensors = ((attribute, getattr(module, attribute), start) for attribute, start in wanted)
    return tuple(
        np.full(n, start, np.float32) if one is None else array_of(one, f"{name}.{attribute}")
        for attribute, one, start in tensors
    )


def _batch_norm(module: Any, name: str, where: str) -> _Read:
    """Return the layer of a ``BatchNorm1d``."""
    if module.running_mean is None or module.momentum is None:
        raise ValueError(
            f"{where} must have track_running_stats=True and a momentum to be a BatchNorm here."
        )
    n = module.num_features
    layer = BatchNorm(1.0 - float(module.momentum), float(module.eps))
    arrays = _tensors(module, name, n, ("weight", 1.0), ("bias", 0.0))
    running = _tensors(module, name, n, ("running_mean", 0.0), ("running_var", 1.0))
    return Held(layer, arrays, running), n, n


def _norm(module: Any, name: str, where: str) -> _Read:
    """Return the layer of a ``LayerNorm`` or an ``RMSNorm``."""
    if len(module.normalized_shape) != 1:
        raise ValueError(
            f"{where} must normalise the last axis alone; got {tuple(module.normalized_shape)}."
        )
    (n,) = module.normalized_shape
    if type(module).__name__ == "LayerNorm":
        arrays = _tensors(module, name, n, ("weight", 1.0), ("bias", 0.0))
        return Held(LayerNorm(float(module.eps)), arrays), n, n
    arrays = _tensors(module, name, n, ("weight", 1.0))
    # Where it is left out, PyTorch takes the dtype's.
    epsilon = float(np.finfo(arrays[0].dtype).eps if module.eps is None else module.eps)
    return Held(RMSNorm(epsilon), arrays), n, n


def _slopes(module: Any, name: str, where: str) -> _Read:
    """Return the layer of a ``PReLU`` of one slope for each unit."""
    slope = array_of(module.weight, f"{name}.weight")
    if len(slope) != module.num_parameters or len(slope) < 2:
        raise ValueError(
            f"{where} must have a slope for each unit (num_parameters=units); got {len(slope)}."
        )
    return Held(PReLU(), (slope,)), len(slope), len(slope)


def _standard(module: Any, name: str, where: str) -> _Read:
    """Return the layer of a ``Standard``, which `to_torch` writes."""
    arrays = _tensors(module, name, 0, ("mean", 0.0), ("deviation", 1.0))
    return Held(Standardize(), arrays), len(arrays[0]), len(arrays[0])


def _embedding(module: Any, name: str, where: str) -> _Read:
    """Return the layer of an ``Embed``, which `to_torch` writes."""
    tables = [array_of(one.weight, f"{name}.tables") for one in module.tables]
    by_column = dict(zip(module.columns, tables, strict=True))
    layer = Embedding(
        {column: len(table) for column, table in by_column.items()},
        {column: table.shape[1] for column, table in by_column.items()},
    )
    passing = len(module.passing)
    gives = passing + sum(table.shape[1] for table in tables)
    return Held(layer, tuple(tables)), passing + len(tables), gives


def _waves(module: Any, name: str, where: str) -> _Read:
    """Return the layer of a ``Waves``, which `to_torch` writes."""
    C, W, b = (
        array_of(getattr(module, one), f"{name}.{one}")
        for one in ("frequencies", "weights", "biases")
    )
    layer = NumericEmbedding(C.shape[1], b.shape[1], passing=module.passing)
    return Held(layer, (C, W, b)), len(C) + module.passing, b.size + module.passing


_READERS: dict[str, Callable[[Any, str, str], _Read]] = {
    "Linear": _linear,
    "BatchNorm1d": _batch_norm,
    "LayerNorm": _norm,
    "RMSNorm": _norm,
    "PReLU": _slopes,
    "Standard": _standard,
    "Embed": _embedding,
    "Waves": _waves,
}
_KNOWN = ("Dropout", *_READERS, "Residual", *MODULES)


def _activation(module: Any, kind: str, where: str) -> str:
    """Return the name of an activation module, if its numbers are those of this library's."""
    name, numbers = MODULES[kind]
    for attribute, allowed in numbers.items():
        value = getattr(module, attribute, None)
        if value not in allowed:
            raise ValueError(
                f"{where} must have {attribute}={allowed[0]!r} to be {name!r} here; got {value!r}."
            )
    return name
