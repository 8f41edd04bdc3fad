"""Networks as modules of PyTorch's; loaded when one is asked for, as it imports PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastnn.exports.parts import PlainPart, PlainSum, Step
from fastnn.exports.plain import PlainEmbedding, PlainNetwork
from fastnn.layers import Dropout
from fastnn.norms import BatchNorm, LayerNorm, RMSNorm
from fastnn.periodic import NumericEmbedding
from fastnn.slopes import PReLU

__all__ = [
    "Embed", "Exp", "Increasing", "Residual", "Sin", "Standard", "Waves", "to_torch",
]  # fmt: skip


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


class Residual(torch.nn.Module):  # type: ignore[misc]
    """What its modules give, and its input: `fastnn.Residual`."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Any) -> Any:
        """Return the sum."""
        return x + self.block(x)


class Standard(torch.nn.Module):  # type: ignore[misc]
    """Columns at unit scale: `fastnn.Standardize`, where no Linear module is behind it."""

    def __init__(self, mean: Any, deviation: Any) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, x: Any) -> Any:
        """Return ``(x - mean) / deviation``; a column that does not vary is left as it lies."""
        by = torch.where(self.deviation > 0, self.deviation, torch.ones_like(self.deviation))
        return (x - self.mean) / by


class Waves(torch.nn.Module):  # type: ignore[misc]
    """Periodic features of numbers, then columns that pass: `fastnn.NumericEmbedding`.

    Parameters
    ----------
    passing : int
        How many columns pass, the last ones.
    frequencies, weights, biases : tensor
        Of shapes (columns, k), (columns * 2 k, d) and (columns, d).
    """

    def __init__(self, passing: int, frequencies: Any, weights: Any, biases: Any) -> None:
        super().__init__()
        self.passing = passing
        self.frequencies = torch.nn.Parameter(frequencies)
        self.weights = torch.nn.Parameter(weights)
        self.biases = torch.nn.Parameter(biases)

    def forward(self, x: Any) -> Any:
        """Return vectors of the columns, one after another, and what passes."""
        columns, k = self.frequencies.shape
        turns = self.frequencies * x[..., :columns, None]
        # Whole turns do nothing.
        t = 2 * torch.pi * (turns - torch.round(turns).detach())
        v = torch.cat([torch.sin(t), torch.cos(t)], dim=-1)
        W = self.weights.reshape(columns, 2 * k, -1)
        z = torch.relu(torch.einsum("...jf,jfd->...jd", v, W) + self.biases)
        return torch.cat([z.flatten(-2), x[..., columns:]], dim=-1)


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


def to_torch(network: PlainNetwork) -> torch.nn.Sequential:
    """Return a ``torch.nn.Sequential`` of copies of the weights, in the mode of evaluation.

    Parameters
    ----------
    network : PlainNetwork
        With every Dropout and BatchNorm apart.
    """
    dtype = torch.float32 if network.dtype == np.float32 else torch.float64
    modules: list[Any] = [] if network.embedding is None else [Embed(network.embedding)]
    modules += _modules(network.steps, dtype)
    return torch.nn.Sequential(*modules).eval()


def _modules(steps: Sequence[Step], dtype: Any) -> Iterator[Any]:
    """Yield the modules of some layers."""
    for step in steps:
        if isinstance(step, PlainSum):
            yield Residual(torch.nn.Sequential(*_modules(step.steps, dtype)))
        elif isinstance(step, PlainPart):
            yield _part(step, dtype)
        else:
            linear = torch.nn.Linear(step.inputs, step.outputs, step.b is not None, dtype=dtype)
            arrays = (step.W.T,) if step.b is None else (step.W.T, step.b)
            yield _filled(linear, ("weight", "bias"), arrays)
            if step.activation != "identity":
                yield _MODULES[step.activation]()


def _part(step: PlainPart, dtype: Any) -> Any:
    """Return the module of a layer of another kind."""
    layer, n = step.layer, step.outputs
    if isinstance(layer, Dropout):
        return torch.nn.Dropout(layer.rate)
    if isinstance(layer, PReLU):
        return _filled(torch.nn.PReLU(n, dtype=dtype), ("weight",), step.arrays)
    if isinstance(layer, LayerNorm):
        norm = torch.nn.LayerNorm(n, eps=layer.epsilon, dtype=dtype)
        return _filled(norm, ("weight", "bias"), step.arrays)
    if isinstance(layer, RMSNorm):
        norm = torch.nn.RMSNorm(n, eps=layer.epsilon, dtype=dtype)
        return _filled(norm, ("weight",), step.arrays)
    if isinstance(layer, BatchNorm):
        norm = torch.nn.BatchNorm1d(n, layer.epsilon, 1.0 - layer.momentum, dtype=dtype)
        return _filled(norm, ("weight", "bias", "running_mean", "running_var"), step.arrays)
    if isinstance(layer, NumericEmbedding):
        return Waves(layer.passing, *(torch.from_numpy(array.copy()) for array in step.arrays))
    # A Standardize.
    return Standard(*(torch.from_numpy(array.copy()) for array in step.arrays))


def _filled(module: Any, names: Sequence[str], arrays: Sequence[NDArray[Any]]) -> Any:
    """Return a module with arrays in its tensors."""
    with torch.no_grad():
        for name, array in zip(names, arrays, strict=False):
            getattr(module, name).copy_(torch.from_numpy(array.copy()))
    return module
