"""The operators of ONNX that each activation is, as a small graph of its own.

One table serves both ways: a file gets the nodes, and a file's nodes are compared with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PATTERNS", "Node", "Nodes"]


@dataclass(frozen=True, slots=True)
class Node:
    """One operator.

    Attributes
    ----------
    operator : str
        Its name in ONNX.
    inputs : tuple of int, float or None
        What it reads: the z of the layer (None), the result of an earlier node (its place), or a
        number.
    attributes : tuple of (str, object)
        Sorted by name.
    """

    operator: str
    inputs: tuple[int | float | None, ...]
    attributes: tuple[tuple[str, Any], ...] = ()


@dataclass(slots=True)
class Nodes:
    """Collects the nodes of a formula, the last of which gives its value."""

    nodes: list[Node] = field(default_factory=list)

    def __call__(self, operator: str, *inputs: int | float | None, **attributes: Any) -> int:
        """Add a node and return its place."""
        self.nodes.append(Node(operator, inputs, tuple(sorted(attributes.items()))))
        return len(self.nodes) - 1


Formula = Callable[[Nodes], object]


def _nodes(formula: Formula) -> tuple[Node, ...]:
    """Return the nodes of a formula."""
    made = Nodes()
    formula(made)
    return tuple(made.nodes)


def _low(n: Nodes) -> int:
    """Return ``exp(min(z, 0)) - 1``."""
    return n("Sub", n("Exp", n("Min", None, 0.0)), 1.0)


def _softplus(n: Nodes) -> int:
    """Return ``max(z, 0) + log(1 + exp(-|z|))``."""
    size = n("Neg", n("Abs", None))
    logarithm = n("Log", n("Add", n("Exp", size), 1.0))
    return n("Add", n("Max", None, 0.0), logarithm)


_FORMULAS: dict[str, tuple[Formula, ...]] = {
    "identity": (lambda n: None,),
    "sigmoid": (lambda n: n("Sigmoid", None),),
    "tanh": (lambda n: n("Tanh", None),),
    "relu": (lambda n: n("Relu", None),),
    "softmax": (lambda n: n("Softmax", None, axis=-1), lambda n: n("Softmax", None, axis=1)),
    "leaky_relu": (
        lambda n: n("Add", n("Max", None, 0.0), n("Mul", n("Min", None, 0.0), 0.01)),
        lambda n: n("LeakyRelu", None, alpha=0.01),
        lambda n: n("LeakyRelu", None),
    ),
    "elu": (
        lambda n: n("Add", n("Max", None, 0.0), _low(n)),
        lambda n: n("Elu", None, alpha=1.0),
        lambda n: n("Elu", None),
    ),
    "selu": (
        lambda n: n(
            "Mul",
            n("Add", n("Max", None, 0.0), n("Mul", _low(n), 1.6732632423543772)),
            1.0507009873554805,
        ),
        lambda n: n("Selu", None),
    ),
    "gelu": (
        # The cumulative normal distribution by erf, as PyTorch writes it too.
        lambda n: n(
            "Mul", n("Mul", None, n("Add", n("Erf", n("Div", None, math.sqrt(2.0))), 1.0)), 0.5
        ),
        lambda n: n("Gelu", None, approximate=b"none"),
        lambda n: n("Gelu", None),
    ),
    "silu": (lambda n: n("Mul", None, n("Sigmoid", None)),),
    "softplus": (_softplus, lambda n: n("Softplus", None)),
    "mish": (
        lambda n: n("Mul", None, n("Tanh", _softplus(n))),
        lambda n: n("Mul", None, n("Tanh", n("Softplus", None))),
        lambda n: n("Mish", None),
    ),
    "softsign": (
        lambda n: n("Div", None, n("Add", n("Abs", None), 1.0)),
        lambda n: n("Softsign", None),
    ),
    "hard_sigmoid": (
        lambda n: n("Div", n("Min", n("Max", n("Add", None, 3.0), 0.0), 6.0), 6.0),
        lambda n: n("HardSigmoid", None, alpha=1.0 / 6.0, beta=0.5),
        lambda n: n("HardSigmoid", None, alpha=1.0 / 6.0),
    ),
    "exp": (lambda n: n("Exp", None),),
    "sin": (lambda n: n("Sin", None),),
}

#: The graphs that are an activation; the first is the one that is written.
PATTERNS: dict[str, tuple[tuple[Node, ...], ...]] = {
    name: tuple(map(_nodes, formulas)) for name, formulas in _FORMULAS.items()
}
