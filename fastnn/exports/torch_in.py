"""Networks from PyTorch's: from its modules, or from tensors by name and the activations' names."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import DTypeLike, NDArray

from fastnn.activations import activation_named
from fastnn.exports.made import Held, network_of
from fastnn.exports.torch_modules import array_of, layers_of
from fastnn.layers import Dense
from fastnn.names import describe, several
from fastnn.network import Sequential

__all__ = ["from_torch"]

Array = NDArray[Any]


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
        A ``Sequential`` of ``Linear``, ``Dropout``, ``BatchNorm1d``, ``LayerNorm``, ``RMSNorm``,
        ``PReLU`` and activation modules, nested or not, and of those that `Sequential.to_torch`
        writes; or any module of ``Linear`` layers that follow each other, or its ``state_dict``,
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
    if activations is None and torch is not None and isinstance(source, torch.nn.Sequential):
        found, features = layers_of(source, torch)
    else:
        arrays = _pairs(_state_of(source))
        _check_chain(arrays)
        names = _names(activations, len(arrays))
        found = [
            Held(Dense(W.shape[0], name, bias=b is not None), (W.T,) if b is None else (W.T, b))
            for (_, W, b), name in zip(arrays, names, strict=True)
        ]
        features = arrays[0][1].shape[1]
    return network_of(found, features, dtype)


_Triple = tuple[str, Array, "Array | None"]


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
        array = array_of(tensor, name)
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
