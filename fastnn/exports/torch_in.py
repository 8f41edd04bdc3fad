"""Networks from PyTorch's: from its modules, or from tensors by name and the activations' names."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn.activations import activation_named
from fastnn.layers import Dense, Dropout, Layer
from fastnn.names import describe, several
from fastnn.network import Sequential
from fastnn.norms import BatchNorm

__all__ = ["MODULES", "from_torch"]

Array = NDArray[Any]

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


def from_torch(
    source: Any,
    activations: str | Sequence[str] | None = None,
    *,
    dtype: DTypeLike | None = None,
) -> Sequential:
    """Return a network that computes what a PyTorch network does.

    Parameters
    ----------
    source : torch.nn.Sequential, torch.nn.Module or mapping of str to tensor or ndarray
        A ``Sequential`` of ``Linear``, ``Dropout``, ``BatchNorm1d`` and activation modules, nested
        or not; or any module of ``Linear`` layers that follow each other, or its ``state_dict``,
        with their ``activations``.  `load_torch` reads a ``state_dict`` without PyTorch.
    activations : str or sequence of str, optional
        Of every ``Linear`` layer; or one name for all but the last, which is then "identity".
        Only a ``Sequential`` says its own.
    dtype : {"float32", "float64"}, optional
        Of the network; float64 if left out and a tensor has it, else float32.

    Returns
    -------
    Sequential
        With weights of its own.

    Raises
    ------
    TypeError
        If the source or the activations are of another kind.
    ValueError
        If something in it is none of this library's layers, or layers do not fit each other.

    Notes
    -----
    The running variance of a ``BatchNorm1d`` is taken over as it is, so that predictions are the
    same.  PyTorch's follows that of batches over n - 1, that of `BatchNorm` over n: a fit that goes
    on does not move them quite alike.  An activation right behind a ``BatchNorm1d`` has no layer
    here; ``torch.nn.utils.fusion.fuse_linear_bn_eval`` folds that into the ``Linear`` before it.

    See Also
    --------
    load_torch : Reads a file of PyTorch's.
    Sequential.to_torch : The way back.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fn
    >>> state = {"0.weight": np.array([[1.0, 2.0]]), "0.bias": np.array([0.5])}
    >>> fn.from_torch(state, "relu").predict([[1.0, 1.0]])
    array([[3.5]])
    """
    torch = sys.modules.get("torch")
    layers: list[Layer]
    norms: list[tuple[Array, ...]] = []
    if activations is None and torch is not None and isinstance(source, torch.nn.Sequential):
        layers, arrays, norms = _from_modules(list(_leaves(source, "", torch)))
    else:
        arrays = _pairs(_state_of(source))
        names = _names(activations, len(arrays))
        layers = [
            Dense(W.shape[0], name, bias=b is not None)
            for (_, W, b), name in zip(arrays, names, strict=True)
        ]
    _check_chain(arrays)
    if dtype is None:
        double = any(
            one.dtype == np.float64 for _, *both in arrays for one in both if one is not None
        )
        dtype = "float64" if double else "float32"
    net = Sequential(layers, arrays[0][1].shape[1], dtype)
    dense, others = iter(arrays), iter(norms)
    weights: list[Array] = []
    buffers: list[Array] = []
    for layer in layers:
        if isinstance(layer, Dense):
            _, W, b = next(dense)
            weights += [W.T] if b is None else [W.T, b]
        elif isinstance(layer, BatchNorm):
            scale, shift, *running = next(others)
            weights += [scale, shift]
            buffers += running
    net.set_weights(weights)
    if buffers:
        net.buffers = np.concatenate(buffers)
    return net


_Triple = tuple[str, Array, "Array | None"]


def _array_of(tensor: Any, name: str) -> Array:
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


def _from_modules(
    leaves: list[tuple[str, Any]],
) -> tuple[list[Layer], list[_Triple], list[tuple[Array, ...]]]:
    """Return layers, and the arrays of the Dense and of the BatchNorm ones, of modules in a row."""
    layers: list[Layer] = []
    arrays: list[_Triple] = []
    norms: list[tuple[Array, ...]] = []
    open_ = False  # whether the last layer still waits for its activation
    for name, module in leaves:
        kind = type(module).__name__
        where = f"module {name!r} ({kind})"
        if kind == "Linear":
            bias = None if module.bias is None else _array_of(module.bias, f"{name}.bias")
            W = _array_of(module.weight, f"{name}.weight")
            arrays.append((name, W, bias))
            layers.append(Dense(W.shape[0], "identity", bias=bias is not None))
            open_ = True
        elif kind == "Dropout":
            if module.p:
                layers.append(Dropout(float(module.p)))
                open_ = False
        elif kind == "BatchNorm1d":
            layer, found = _batch_norm(module, name, where)
            if arrays and len(found[0]) != len(arrays[-1][1]):
                raise ValueError(
                    f"{where} must have {len(arrays[-1][1])} features, as the Linear before it has "
                    f"outputs; it has {len(found[0])}."
                )
            layers.append(layer)
            norms.append(found)
            open_ = False
        elif kind in MODULES:
            activation = _activation(module, kind, where)
            if activation == "identity":
                continue
            if not open_:
                raise ValueError(
                    f"{where} must follow a Linear module; here one activation follows another, "
                    "a Dropout, a BatchNorm1d or the inputs."
                )
            last = layers[-1]
            assert isinstance(last, Dense)
            layers[-1] = Dense(last.units, activation, bias=last.bias)
            open_ = False
        else:
            raise ValueError(f"{where} has no layer here; known are {', '.join(_KNOWN)}.")
    return layers, arrays, norms


_KNOWN = ("Linear", "Dropout", "BatchNorm1d", *MODULES)


def _batch_norm(module: Any, name: str, where: str) -> tuple[BatchNorm, tuple[Array, ...]]:
    """Return the layer of a ``BatchNorm1d``, and its scale, shift, mean and variance."""
    if module.running_mean is None or module.momentum is None:
        raise ValueError(
            f"{where} must have track_running_stats=True and a momentum to be a BatchNorm here."
        )
    n = module.num_features
    scale, shift = (
        np.full(n, start) if one is None else _array_of(one, f"{name}.{attribute}")
        for one, attribute, start in (
            (module.weight, "weight", 1.0), (module.bias, "bias", 0.0),
        )
    )  # fmt: skip
    running = (
        _array_of(getattr(module, one), f"{name}.{one}") for one in ("running_mean", "running_var")
    )
    layer = BatchNorm(1.0 - float(module.momentum), float(module.eps))
    return layer, (scale, shift, *running)


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


def _state_of(source: Any) -> Mapping[str, Any]:
    """Return tensors by name."""
    if callable(getattr(source, "state_dict", None)):
        source = source.state_dict()
    if not isinstance(source, Mapping) or not all(isinstance(name, str) for name in source):
        raise TypeError(
            "source must be a module of PyTorch's or a state_dict, tensors by name; "
            f"got {describe(source)}."
        )
    return source


def _pairs(state: Mapping[str, Any]) -> list[_Triple]:
    """Return name, weight and bias of each Linear layer of a ``state_dict``."""
    weights: dict[str, Array] = {}
    biases: dict[str, Array] = {}
    for name, tensor in state.items():
        prefix, _, kind = name.rpartition(".")
        array = _array_of(tensor, name)
        if kind == "weight" and array.ndim == 2:
            weights[prefix] = array
        elif kind == "bias" and array.ndim == 1:
            biases[prefix] = array
        else:
            raise ValueError(
                f"{name} must be the weight (outputs, inputs) or the bias (outputs,) of a Linear "
                f"layer; got shape {array.shape}."
            )
    lone = [name for name in biases if name not in weights]
    if lone or not weights:
        what = f"{lone[0]}.bias stands alone" if lone else "there is none"
        raise ValueError(f"source must hold the weights of Linear layers; {what}.")
    return [(name, W, biases.get(name)) for name, W in weights.items()]


def _names(activations: object, count: int) -> list[str]:
    """Return the name of each layer's activation."""
    if activations is None:
        raise TypeError(
            "activations must say what follows each Linear layer, as tensors do not: a name for "
            "the hidden layers, or a list of one for each."
        )
    if isinstance(activations, str):
        names = [activations] * (count - 1) + ["identity"]
    elif several(activations):
        names = list(activations)
    else:
        raise TypeError(
            f"activations must be a name or a list of names; got {describe(activations)}."
        )
    if len(names) != count:
        raise ValueError(
            f"activations must hold one name for each of the {count} Linear layers; "
            f"got {len(names)}."
        )
    return [activation_named(name, "activations").name for name in names]


def _check_chain(arrays: list[_Triple]) -> None:
    """Refuse layers of which one does not read what the one before it leaves."""
    if not arrays:
        raise ValueError("source must have at least one Linear layer; got none.")
    for place, (name, W, b) in enumerate(arrays):
        if b is not None and len(b) != len(W):
            raise ValueError(
                f"{name}.bias must have {len(W)} numbers, as many as the layer has outputs; "
                f"got {len(b)}."
            )
        if place and W.shape[1] != len(arrays[place - 1][1]):
            raise ValueError(
                f"{name}.weight must read the {len(arrays[place - 1][1])} outputs of "
                f"{arrays[place - 1][0]}; it reads {W.shape[1]}."
            )
