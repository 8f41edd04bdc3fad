"""Networks as modules of PyTorch's; loaded when one is asked for, as it imports PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fastnn.exports.plain import PlainEmbedding, PlainNetwork, PlainNorm
from fastnn.layers import Dense, Dropout, Layer
from fastnn.norms import BatchNorm

__all__ = ["Embed", "Exp", "Increasing", "Sin", "to_torch"]


class Exp(torch.nn.Module):  # type: ignore[misc]
    """``exp(z)``, for which PyTorch has no module."""

    def forward(self, z: Any) -> Any:
        """Return ``exp(z)``."""
        return torch.exp(z)


class Sin(torch.nn.Module):  # type: ignore[misc]
    """``sin(z)``, for which PyTorch has no module."""

    def forward(self, z: Any) -> Any:
        """Return ``sin(z)``."""
        return torch.sin(z)


class Embed(torch.nn.Module):  # type: ignore[misc]
    """Columns that pass, then the vectors of the codes in the others: `fastnn.Embedding`."""

    def __init__(self, embedding: PlainEmbedding) -> None:
        super().__init__()
        self.passing = list(embedding.passing)
        self.columns = [column for column, _ in embedding.tables]
        self.tables = torch.nn.ModuleList(
            torch.nn.Embedding.from_pretrained(torch.from_numpy(table.copy()), freeze=False)
            for _, table in embedding.tables
        )

    def forward(self, x: Any) -> Any:
        """Return what the first Linear module reads, (n, columns)."""
        coded = zip(self.columns, self.tables, strict=True)
        vectors = [table(x[..., column].long()) for column, table in coded]
        return torch.cat([x[..., self.passing], *vectors], dim=-1)


class Increasing(torch.nn.Module):  # type: ignore[misc]
    """``z_1``, then what is before plus ``log(1 + exp(z_j))``, over the last axis."""

    def forward(self, z: Any) -> Any:
        """Return the sums."""
        steps = torch.logaddexp(z, torch.zeros_like(z))
        return torch.cumsum(torch.cat([z[..., :1], steps[..., 1:]], dim=-1), dim=-1)


_MODULES: dict[str, Any] = {
    "sigmoid": torch.nn.Sigmoid,
    "tanh": torch.nn.Tanh,
    "relu": torch.nn.ReLU,
    "softmax": lambda: torch.nn.Softmax(dim=-1),
    "leaky_relu": torch.nn.LeakyReLU,
    "elu": torch.nn.ELU,
    "selu": torch.nn.SELU,
    "gelu": torch.nn.GELU,
    "silu": torch.nn.SiLU,
    "softplus": torch.nn.Softplus,
    "mish": torch.nn.Mish,
    "softsign": torch.nn.Softsign,
    "hard_sigmoid": torch.nn.Hardsigmoid,
    "exp": Exp,
    "sin": Sin,
    "increasing": Increasing,
}


def to_torch(network: PlainNetwork, layers: Sequence[Layer]) -> torch.nn.Sequential:
    """Return a ``torch.nn.Sequential`` of copies of the weights, in the mode of evaluation."""
    dtype = torch.float32 if network.dtype == np.float32 else torch.float64
    modules: list[Any] = [] if network.embedding is None else [Embed(network.embedding)]
    dense, norms = iter(network.layers), iter(network.norms)
    for layer in layers:
        if isinstance(layer, BatchNorm) and network.norms:
            modules.append(_batch_norm(layer, next(norms), dtype))
            continue
        if isinstance(layer, Dropout):
            modules.append(torch.nn.Dropout(layer.rate))
            continue
        if not isinstance(layer, Dense):
            # A Standardize, and a BatchNorm behind it, which the first Dense has in its weights; or
            # an Embedding.
            continue
        plain = next(dense)
        linear = torch.nn.Linear(plain.inputs, plain.outputs, plain.b is not None, dtype=dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(plain.W.T.copy()))
            if plain.b is not None:
                linear.bias.copy_(torch.from_numpy(plain.b.copy()))
        modules.append(linear)
        if plain.activation != "identity":
            modules.append(_MODULES[plain.activation]())
    return torch.nn.Sequential(*modules).eval()


def _batch_norm(layer: BatchNorm, norm: PlainNorm, dtype: Any) -> Any:
    """Return a ``BatchNorm1d`` with a layer's arrays."""
    module = torch.nn.BatchNorm1d(
        len(norm.scale), eps=layer.epsilon, momentum=1.0 - layer.momentum, dtype=dtype
    )
    with torch.no_grad():
        for tensor, array in (
            (module.weight, norm.scale), (module.bias, norm.shift),
            (module.running_mean, norm.mean), (module.running_var, norm.variance),
        ):  # fmt: skip
            tensor.copy_(torch.from_numpy(array.copy()))
    return module
