"""The operators of ONNX that each activation is, and graphs of them with names.

One table serves both ways: a file gets the nodes, and a file's nodes are compared with them.
Nothing here needs the package ``onnx``: whoever writes a file makes its nodes of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.exports.parts import PlainPart, PlainSum, Step
from fastnn.exports.plain import PlainEmbedding, PlainNetwork

__all__ = ["PARTS", "PATTERNS", "SINGLE", "Graph", "NamedNode", "Node", "Nodes", "nodes_of"]

Array = NDArray[Any]

# Where a slice ends that goes to the end.
_FAR = 2**31 - 1


Input: TypeAlias = int | float | str | None


@dataclass(frozen=True, slots=True)
class Node:
    """One operator.

    Attributes
    ----------
    operator : str
        Its name in ONNX.
    inputs : tuple of int, float, str or None
        What it reads: the z of the layer (None), the result of an earlier node (its place), a
        number, or one of the layer's arrays or numbers by name.
    attributes : tuple of (str, object)
        Sorted by name.
    """

    operator: str
    inputs: tuple[Input, ...]
    attributes: tuple[tuple[str, Any], ...] = ()


class Whole(float):
    """A number that an operator reads as an integer."""


@dataclass(slots=True)
class Nodes:
    """Collects the nodes of a formula, the last of which gives its value."""

    nodes: list[Node] = field(default_factory=list)

    def __call__(self, operator: str, *inputs: Input, **attributes: Any) -> int:
        """Add a node and return its place."""
        self.nodes.append(Node(operator, inputs, tuple(sorted(attributes.items()))))
        return len(self.nodes) - 1


Formula = Callable[[Nodes], object]

# As files number the dtype (onnx.TensorProto.INT64).
_INT64 = 7


def nodes_of(formula: Formula) -> tuple[Node, ...]:
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


def _increasing(n: Nodes) -> int:
    """Return the sums along a row of its first z and of the softplus of the others."""
    first = n("Slice", None, Whole(0), Whole(1), Whole(1))
    others = n("Slice", _softplus(n), Whole(1), Whole(_FAR), Whole(1))
    return n("CumSum", n("Concat", first, others, axis=1), Whole(1))


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
    "increasing": (_increasing,),
}

#: The graphs that are an activation; the first is the one that is written.
PATTERNS: dict[str, tuple[tuple[Node, ...], ...]] = {
    name: tuple(map(nodes_of, formulas)) for name, formulas in _FORMULAS.items()
}


def _layer_norm(n: Nodes) -> None:
    """Add ``scale (z - mean) / sqrt(variance + epsilon) + shift``, row by row."""
    off = n("Sub", None, n("ReduceMean", None, axes=[-1], keepdims=1))
    variance = n("ReduceMean", n("Mul", off, off), axes=[-1], keepdims=1)
    normal = n("Div", off, n("Sqrt", n("Add", variance, "epsilon")))
    n("Add", n("Mul", normal, "scale"), "shift")


def _rms_norm(n: Nodes) -> None:
    """Add ``scale z / sqrt(mean z^2 + epsilon)``, row by row."""
    square = n("ReduceMean", n("Mul", None, None), axes=[-1], keepdims=1)
    n("Mul", n("Div", None, n("Sqrt", n("Add", square, "epsilon"))), "scale")


def _batch_norm(n: Nodes) -> None:
    """Add ``scale (z - mean) / sqrt(variance + epsilon) + shift``, column by column."""
    off = n("Sub", None, "mean")
    normal = n("Div", off, n("Sqrt", n("Add", "variance", "epsilon")))
    n("Add", n("Mul", normal, "scale"), "shift")


def _waves(n: Nodes, passing: bool) -> None:
    """Add ``relu(W v + b)`` of each column, v its waves, and what passes, if something does."""
    x = n("Gather", None, "columns", axis=1) if passing else None
    turns = n("Mul", n("Unsqueeze", x, Whole(2)), "frequencies")
    # Whole turns do nothing.
    t = n("Mul", n("Sub", turns, n("Round", turns)), 2 * math.pi)
    v = n("Unsqueeze", n("Concat", n("Sin", t), n("Cos", t), axis=2), Whole(2))
    z = n("Add", n("Squeeze", n("MatMul", v, "weights"), Whole(2)), "biases")
    z = n("Flatten", n("Relu", z), axis=1)
    if passing:
        n("Concat", z, n("Gather", None, "passing", axis=1), axis=1)


#: The graphs that are a layer of another kind, in float64 and where there is no operator for it.
PARTS: dict[str, tuple[tuple[Node, ...], ...]] = {
    "LayerNorm": (nodes_of(_layer_norm),),
    "RMSNorm": (nodes_of(_rms_norm),),
    "BatchNorm": (nodes_of(_batch_norm),),
    "Standardize": (nodes_of(lambda n: n("Div", n("Sub", None, "mean"), "deviation")),),
    "PReLU": (nodes_of(lambda n: n("PRelu", None, "slope")),),
    "NumericEmbedding": (
        nodes_of(lambda n: _waves(n, passing=False)), nodes_of(lambda n: _waves(n, passing=True)),
    ),
}  # fmt: skip

#: The layers that are one operator in float32; its numbers are of float32 alone.
SINGLE: dict[str, tuple[Node, ...]] = {
    "LayerNorm": nodes_of(
        lambda n: n("LayerNormalization", None, "scale", "shift", axis=-1, epsilon="epsilon")
    ),
    "BatchNorm": nodes_of(
        lambda n: n(
            "BatchNormalization", None, "scale", "shift", "mean", "variance", epsilon="epsilon",
            momentum="momentum",
        )
    ),
}  # fmt: skip


class NamedNode(NamedTuple):
    """An operator, and the names of what it reads and gives."""

    operator: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]


class Graph:
    """Operators and arrays with names, of one dtype.

    Parameters
    ----------
    dtype : dtype
        float32 or float64.
    named : callable, optional
        Makes names that are free where the graph becomes part of another.

    Attributes
    ----------
    nodes : list of NamedNode
        In their order.
    arrays : dict of str to ndarray
        What they read beside each other.
    """

    def __init__(self, dtype: np.dtype[Any], named: Callable[[str], str] = str) -> None:
        self.nodes: list[NamedNode] = []
        self.arrays: dict[str, Array] = {}
        self._dtype, self._named = dtype, named
        self._numbers: dict[tuple[float, bool], str] = {}
        self._layers = self._parts = self._sums = 0

    def add(
        self, operator: str, inputs: list[str], name: str, *, last: bool = False, **attributes: Any
    ) -> str:
        """Add an operator; return the name of its result, which is just this one where last."""
        result = name if last else self._named(name)
        self.nodes.append(NamedNode(operator, inputs, result, attributes))
        return result

    def array(self, name: str, values: Array) -> str:
        """Add an array; return its name."""
        name = self._named(name)
        self.arrays[name] = values
        return name

    def number(self, value: float) -> str:
        """Add a number, once; return its name."""
        whole = isinstance(value, Whole)
        key = value, whole
        if key not in self._numbers:
            array = np.array([value], np.int64) if whole else np.array(value, self._dtype)
            self._numbers[key] = self.array(f"number_{len(self._numbers)}", array)
        return self._numbers[key]

    def network(self, network: PlainNetwork, source: str, end: str | None = None) -> str:
        """Add a network that reads a name; return the name of its outputs.

        Parameters
        ----------
        network : PlainNetwork
            Of the graph's dtype.
        source : str
            The name of its inputs, (n, p).
        end : str, optional
            The name of its outputs; one that is free where it is left out.
        """
        if network.embedding is not None:
            source = self._embedded(network.embedding, source)
        for step in network.steps:
            source = self._step(step, source, end if step is network.last else None)
        return source

    def _step(self, step: Step, source: str, end: str | None = None) -> str:
        """Add a layer; return the name of what it gives."""
        if isinstance(step, PlainSum):
            inner = source
            for one in step.steps:
                inner = self._step(one, inner)
            number, self._sums = self._sums, self._sums + 1
            return self.add("Add", [inner, source], f"sum_{number}")
        if isinstance(step, PlainPart):
            return self._part(step, source)
        place, self._layers = self._layers, self._layers + 1
        pattern = PATTERNS[step.activation][0]
        inputs = [source, self.array(f"W{place}", step.W)]
        if step.b is not None:
            inputs.append(self.array(f"b{place}", step.b))
        z = self._result("Gemm", inputs, f"Z{place}", None if pattern else end)
        return self._pattern(pattern, z, {}, place, end)

    def _part(self, step: PlainPart, source: str) -> str:
        """Add a layer of another kind."""
        place, self._parts = self._parts, self._parts + 1
        layer: Any = step.layer
        held: dict[str, Array] = {**step.parameters}
        numbers: dict[str, Any] = {
            name: getattr(layer, name, None) for name in ("epsilon", "momentum")
        }
        nodes = PARTS[step.name][0]
        if self._dtype == np.float32:
            nodes = SINGLE.get(step.name, nodes)
        if step.name == "Standardize":
            held["deviation"] = np.where(held["deviation"] > 0, held["deviation"], 1)
            held["deviation"] = held["deviation"].astype(self._dtype)
        elif step.name == "NumericEmbedding":
            C = held["frequencies"]
            held["weights"] = held["weights"].reshape(len(C), 2 * C.shape[1], -1)
            if layer.passing:
                nodes = PARTS[step.name][1]
                held["columns"] = np.arange(len(C))
                held["passing"] = np.arange(len(C), step.inputs)
        names: dict[str, Any] = {}
        for node in nodes:
            for one in node.inputs:
                if isinstance(one, str) and one not in names:
                    names[one] = (
                        self.array(f"{one}_{place}", held[one]) if one in held
                        else self.number(numbers[one])
                    )  # fmt: skip
            names |= {one: numbers[one] for _, one in node.attributes if isinstance(one, str)}
        return self._pattern(nodes, source, names, f"p{place}", None)

    def _pattern(
        self, pattern: tuple[Node, ...], z: str, named: dict[str, Any], place: int | str,
        end: str | None,
    ) -> str:  # fmt: skip
        """Add the nodes of a pattern; return the name of the last one's result, z of none."""
        names: list[str] = []
        for n, node in enumerate(pattern):
            ending = n == len(pattern) - 1
            reads = [
                z if one is None
                else names[one] if isinstance(one, int)
                else named[one] if isinstance(one, str)
                else self.number(one)
                for one in node.inputs
            ]  # fmt: skip
            more = {
                name: named[value] if isinstance(value, str) else value
                for name, value in node.attributes
            }
            name = f"A{place}" if ending else f"Z{place}_{n}"
            names.append(self._result(node.operator, reads, name, end if ending else None, more))
        return names[-1] if names else z

    def _embedded(self, embedding: PlainEmbedding, source: str) -> str:
        """Add what stands before the first layer; return the name of what that reads."""
        parts = []
        if embedding.passing:
            passing = self.array("passing", np.array(embedding.passing, np.int64))
            parts.append(self.add("Gather", [source, passing], "passed", axis=1))
        for column, table in embedding.tables:
            place = self.array(f"column_{column}", np.array(column, np.int64))
            number = self.add("Gather", [source, place], f"number_of_{column}", axis=1)
            code = self.add("Cast", [number], f"code_{column}", to=_INT64)
            names = [self.array(f"table_{column}", table), code]
            parts.append(self.add("Gather", names, f"vectors_{column}", axis=0))
        return self.add("Concat", parts, "embedded", axis=1)

    def _result(
        self,
        operator: str,
        inputs: list[str],
        name: str,
        end: str | None,
        attributes: dict[str, Any] | None = None,
    ) -> str:
        """Add an operator whose result has a given name at the end of all, else one of its own."""
        more = attributes or {}
        return self.add(operator, inputs, end or name, last=end is not None, **more)
