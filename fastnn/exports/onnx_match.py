"""The operators of an ONNX file one after another, beside the patterns of `onnx_graph`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from numpy.typing import NDArray

from fastnn.exports.onnx_graph import PARTS, PATTERNS, SINGLE, Node, Nodes, nodes_of

__all__ = ["Chain", "activation_at", "part_at"]

Array = NDArray[Any]

_CLOSE = 1e-6


@dataclass(slots=True)
class Chain:
    """The nodes that are still to be read, in their order.

    Attributes
    ----------
    nodes : list
        Of the file, without its constants.
    arrays : dict of str to ndarray
        Its constants.
    onnx : module
        The package.
    room : int
        Bytes that the arrays of further layers may have.
    layers : int
        How many were read.
    at : int
        The next one.
    stop : int
        Behind the last one, for now.
    sums : dict of str to list of int
        Where a result is added to another one.
    """

    nodes: list[Any]
    arrays: dict[str, Array]
    onnx: Any
    room: int
    layers: int = 0
    at: int = 0
    stop: int = 0
    sums: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Note the sums."""
        self.stop = len(self.nodes)
        for place, node in enumerate(self.nodes):
            reads = list(node.input)
            if node.op_type == "Add" and not any(name in self.arrays for name in reads):
                for name in set(reads):
                    self.sums.setdefault(name, []).append(place)

    def peek(self) -> Any:
        """Return the next node that does something."""
        return self.nodes[self.at] if self.at < self.stop else None

    def attributes(self, node: Any) -> dict[str, Any]:
        """Return a node's attributes, those of norms and means with their defaults."""
        found = {one.name: self.onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type not in _DEFAULTS:
            return found
        found = {**_DEFAULTS[node.op_type], **found}
        if node.op_type == "ReduceMean" and len(node.input) > 1:
            axes = self.arrays.get(node.input[1])
            found["axes"] = None if axes is None else axes.reshape(-1).tolist()
        for name, others in _SAME.items():
            if found.get(name) in others:
                found[name] = others[0]
        return {name: value for name, value in found.items() if _SILENT.get(name, ()) != value}

    def reads(self, node: Any) -> list[str]:
        """Return the names of what a node reads, without axes."""
        return list(node.input[:1] if node.op_type == "ReduceMean" else node.input)

    def sum_of(self, source: str) -> int | None:
        """Return the last place where a result is added to something, before the stop."""
        places = self.sums.get(source, ())
        last = bisect_left(places, self.stop) - 1
        return places[last] if last >= 0 and places[last] >= self.at else None


_NORM = {"axis": -1, "epsilon": 1e-5, "stash_type": 1}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "LayerNormalization": _NORM,
    "RMSNormalization": _NORM,
    "BatchNormalization": {"epsilon": 1e-5, "momentum": 0.9, "training_mode": 0},
    "ReduceMean": {"keepdims": 1, "noop_with_empty_axes": 0},
}
# Values that say the same of rows, and those that say nothing.
_SAME: dict[str, tuple[Any, ...]] = {"axis": (-1, 1), "axes": ([-1], [1])}
_SILENT = {"stash_type": 1, "training_mode": 0, "noop_with_empty_axes": 0}


def _pow(n: Nodes) -> None:
    """Add a `LayerNorm` as PyTorch writes it where it has no operator for it."""
    off = n("Sub", None, n("ReduceMean", None, axes=[-1], keepdims=1))
    variance = n("ReduceMean", n("Pow", off, 2.0), axes=[-1], keepdims=1)
    normal = n("Div", off, n("Sqrt", n("Add", variance, "epsilon")))
    n("Add", n("Mul", normal, "scale"), "shift")


def _pow_rms(n: Nodes) -> None:
    """Add an `RMSNorm` as PyTorch writes it where it has no operator for it."""
    square = n("ReduceMean", n("Pow", None, 2.0), axes=[-1], keepdims=1)
    root = n("Sqrt", n("Add", square, "epsilon"))
    n("Mul", n("Mul", None, n("Reciprocal", root)), "scale")


def _by_factor(n: Nodes) -> None:
    """Add an `RMSNorm` by another order of its operators."""
    square = n("ReduceMean", n("Pow", None, 2.0), axes=[-1], keepdims=1)
    n("Mul", n("Div", None, n("Sqrt", n("Add", square, "epsilon"))), "scale")


# What is read and not written.
_READ: tuple[tuple[str, tuple[Node, ...]], ...] = tuple(
    (name, nodes_of(formula))
    for name, formula in (
        (
            "LayerNorm",
            lambda n: n("LayerNormalization", None, "scale", axis=-1, epsilon="epsilon"),
        ),
        ("LayerNorm", _pow),
        ("RMSNorm", lambda n: n("RMSNormalization", None, "scale", axis=-1, epsilon="epsilon")),
        ("RMSNorm", _pow_rms),
        ("RMSNorm", _by_factor),
        ("Relu", lambda n: n("Relu", None)),
        ("LeakyRelu", lambda n: n("LeakyRelu", None)),
        ("LeakyRelu", lambda n: n("LeakyRelu", None, alpha="alpha")),
    )
)
_Patterns: TypeAlias = dict[str, list[tuple[str, tuple[Node, ...]]]]


def _by_first(patterns: Iterable[tuple[str, tuple[Node, ...]]]) -> _Patterns:
    """Return patterns by their first operator: few of them begin as the next nodes do."""
    found: _Patterns = {}
    for name, pattern in patterns:
        if pattern:
            found.setdefault(pattern[0].operator, []).append((name, pattern))
    return found


_ACTIVATIONS = _by_first((name, one) for name, every in PATTERNS.items() for one in every)
_PARTS = _by_first(
    (
        *((name, pattern) for name, patterns in PARTS.items() for pattern in patterns),
        *SINGLE.items(),
        *_READ,
    )
)


def _next(chain: Chain, patterns: _Patterns) -> Sequence[tuple[str, tuple[Node, ...]]]:
    """Return the patterns that begin with the next node's operator."""
    node = chain.peek()
    return () if node is None else patterns.get(node.op_type, ())


def activation_at(chain: Chain, z: str) -> tuple[str, str]:
    """Return the activation whose operators come next, the longest of several, and its result."""
    best: tuple[int, str] = (0, "identity")
    for name, pattern in _next(chain, _ACTIVATIONS):
        if len(pattern) > best[0] and _match(chain, z, pattern) is not None:
            best = (len(pattern), name)
    chain.at += best[0]
    return best[1], chain.nodes[chain.at - 1].output[0] if best[0] else z


def part_at(chain: Chain, z: str) -> tuple[str, dict[str, Any], str] | None:
    """Return the layer of another kind that comes next, what it has by name, and its result."""
    best: tuple[int, str, dict[str, Any]] = (0, "", {})
    for name, pattern in _next(chain, _PARTS):
        if len(pattern) > best[0]:
            named = _match(chain, z, pattern)
            if named is not None:
                best = (len(pattern), name, named)
    if not best[0]:
        return None
    chain.at += best[0]
    return best[1], best[2], chain.nodes[chain.at - 1].output[0]


def _match(chain: Chain, z: str, pattern: tuple[Node, ...]) -> dict[str, Any] | None:
    """Return what a pattern's names stand for in the next nodes; None where they are others."""
    nodes = chain.nodes[chain.at : min(chain.at + len(pattern), chain.stop)]
    if len(nodes) < len(pattern) or any(
        node.domain or node.op_type != wanted.operator
        for node, wanted in zip(nodes, pattern, strict=False)
    ):
        return None
    named: dict[str, Any] = {}
    for node, wanted in zip(nodes, pattern, strict=True):
        if not _same_numbers(chain.attributes(node), dict(wanted.attributes), named):
            return None
        reads = [_reads(z, nodes, one) for one in chain.reads(node)]
        expected = list(wanted.inputs)
        commutes = wanted.operator in ("Add", "Mul", "Max", "Min")
        if not _same(chain, reads, expected, named) and not (
            commutes and _same(chain, reads[::-1], expected, named)
        ):
            return None
    return named


def _reads(z: str, nodes: list[Any], name: str) -> int | str | None:
    """Return what a name is to a pattern: z, an earlier node's place, or something else."""
    if name == z:
        return None
    return next((place for place, node in enumerate(nodes) if node.output[0] == name), name)


def _same(
    chain: Chain, reads: list[int | str | None], wanted: list[Any], named: dict[str, Any]
) -> bool:
    """Whether inputs are those of a pattern, numbers to rounding; notes arrays that have names."""
    if len(reads) != len(wanted):
        return False
    found: dict[str, Any] = {}
    for one, other in zip(reads, wanted, strict=True):
        if isinstance(other, (str, float)):
            array = chain.arrays.get(one) if isinstance(one, str) else None
            if array is None:
                return False
            if isinstance(other, str):
                found[other] = array
            elif array.size != 1 or not _near(float(array.reshape(())), other):
                return False
        elif one != other:
            return False
    named.update(found)
    return True


def _same_numbers(found: dict[str, Any], wanted: dict[str, Any], named: dict[str, Any]) -> bool:
    """Whether attributes are those of a pattern, numbers to rounding; notes those with names."""
    if found.keys() != wanted.keys():
        return False
    for name, value in wanted.items():
        if isinstance(value, str):
            named[value] = found[name]
        elif isinstance(value, float):
            if not _near(found[name], value):
                return False
        elif found[name] != value:
            return False
    return True


def _near(one: float, other: float) -> bool:
    """Whether two numbers are the same to float32's rounding."""
    return abs(one - other) <= _CLOSE * max(abs(one), abs(other))
