"""Networks from ONNX files: chains of ``Gemm``, or ``MatMul`` and ``Add``, and activations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.errors import ModelFileError
from fastnn.exports.onnx_graph import PATTERNS, Node
from fastnn.labels import labels_of
from fastnn.layers import Dense
from fastnn.names import describe
from fastnn.network import Sequential
from fastnn.system import file_name, read_regular

__all__ = ["from_onnx"]

Array = NDArray[Any]

_NEWEST_OPSET = 23
_MOST_NODES = 20_000
_LONGEST_LABELS = 1_000_000
# Operators that are nothing when a network predicts.
_NOTHING = {"Identity", "Dropout", "Flatten"}
_CLOSE = 1e-6


def from_onnx(path: str | os.PathLike[str]) -> Sequential:
    """Return the network of an ONNX file.

    The graph must be a chain from one input to one output: ``Gemm``, or ``MatMul`` with or without
    ``Add``, and after each the operators of one of this library's activations.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    Sequential
        In the dtype of its weights, float32 or float64.

    Raises
    ------
    ImportError
        If the package ``onnx`` is not installed.
    ModelFileError
        If the file is damaged, or holds an operator, a type or a shape that has no place here.
    OSError
        If it cannot be read.

    See Also
    --------
    Sequential.to_onnx : The way out.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.from_onnx("net.onnx")  # doctest: +SKIP
    """
    name = file_name(path)
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as problem:
        raise ImportError("from_onnx needs onnx: python -m pip install onnx.") from problem
    try:
        return _network(onnx.ModelProto.FromString(read_regular(name)), onnx)
    except DecodeError:
        raise ModelFileError(f"{name!r} is not a readable ONNX file: it does not parse.") from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as problem:
        raise ModelFileError(f"{name!r} is not a readable ONNX network: {problem}") from None


def _network(model: Any, onnx: Any) -> Sequential:
    """Return the network of a parsed file, or raise ValueError."""
    versions = {one.domain: one.version for one in model.opset_import}
    if set(versions) - {"", "ai.onnx"}:
        raise ValueError(f"it uses operators of {describe(sorted(versions)[-1])}.")
    if max(versions.values(), default=0) > _NEWEST_OPSET:
        raise ValueError(
            f"its operators are of version {max(versions.values())}, newer than {_NEWEST_OPSET}."
        )
    graph = model.graph
    if len(graph.node) > _MOST_NODES:
        raise ValueError(f"it has {len(graph.node)} operators, more than {_MOST_NODES}.")
    if model.functions or graph.sparse_initializer:
        raise ValueError("it has functions or sparse tensors of its own.")
    arrays = {one.name: _tensor(one, onnx) for one in graph.initializer}
    nodes = []
    for node in graph.node:
        if len(node.output) != 1:
            raise ValueError(f"its operator {describe(node.op_type)} has several results, or none.")
        if node.op_type == "Constant":
            arrays[node.output[0]] = _constant(node, onnx)
        else:
            nodes.append(node)
    given = [one.name for one in graph.input if one.name not in arrays]
    if len(given) != 1 or len(graph.output) != 1:
        raise ValueError(
            f"it must have one input and one output; it has {len(given)} and {len(graph.output)}."
        )
    layers = list(_layers(_Chain(nodes, arrays, onnx), given[0], graph.output[0].name))
    if not layers:
        raise ValueError("it has no layer.")
    dtypes = {W.dtype for W, _, _ in layers}
    if len(dtypes) != 1:
        raise ValueError("its layers are of several dtypes.")
    dense = [Dense(W.shape[1], activation, bias=b is not None) for W, b, activation in layers]
    net = Sequential(dense, layers[0][0].shape[0], dtypes.pop())
    net.set_weights([one for W, b, _ in layers for one in (W, b) if one is not None])
    for entry in model.metadata_props:
        if entry.key == "fastnn.classes" and len(entry.value) <= _LONGEST_LABELS:
            net.classes = labels_of(json.loads(entry.value))
    return net


def _constant(node: Any, onnx: Any) -> Array:
    """Return the tensor of an operator that is one."""
    if len(node.attribute) != 1 or node.attribute[0].name != "value":
        raise ValueError("its operator Constant is no tensor.")
    return _tensor(node.attribute[0].t, onnx)


def _tensor(tensor: Any, onnx: Any) -> Array:
    """Return an initializer's numbers, which must be in the file."""
    what = f"tensor {describe(tensor.name)}"
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise ValueError(f"its {what} lies in another file.")
    size = int(np.prod([int(n) for n in tensor.dims], dtype=object)) if tensor.dims else 1
    if size < 0 or size > tensor.ByteSize():
        raise ValueError(f"its {what} is not as long as its shape says.")
    return np.asarray(onnx.numpy_helper.to_array(tensor))


@dataclass(slots=True)
class _Chain:
    """The nodes that are still to be read, in their order."""

    nodes: list[Any]
    arrays: dict[str, Array]
    onnx: Any
    at: int = 0

    def peek(self) -> Any:
        """Return the next node that does something."""
        return self.nodes[self.at] if self.at < len(self.nodes) else None

    def attributes(self, node: Any) -> dict[str, Any]:
        """Return a node's attributes."""
        return {one.name: self.onnx.helper.get_attribute_value(one) for one in node.attribute}


def _layers(chain: _Chain, source: str, end: str) -> Iterator[tuple[Array, Array | None, str]]:
    """Yield weights (inputs, outputs), biases and activation of each layer."""
    width = None
    source = _skipped(chain, source)
    while chain.peek() is not None:
        W, b, z = _linear(chain, source)
        if width is not None and W.shape[0] != width:
            raise ValueError(f"a layer reads {W.shape[0]} columns where there are {width}.")
        width = W.shape[1]
        if b is not None and b.shape != (width,):
            raise ValueError(f"a layer of {width} outputs has biases of shape {b.shape}.")
        z = _skipped(chain, z)
        activation, source = _activation(chain, z)
        source = _skipped(chain, source)
        yield W, b, activation
    if source != end:
        raise ValueError("its output is not the end of a chain of layers.")


def _skipped(chain: _Chain, source: str) -> str:
    """Go over operators that do nothing, and return the name of what they give."""
    node = chain.peek()
    while node is not None and node.op_type in _NOTHING and list(node.input[:1]) == [source]:
        if node.op_type == "Flatten" and chain.attributes(node).get("axis", 1) != 1:
            raise ValueError("its operator Flatten has an axis other than 1.")
        source = node.output[0]
        chain.at += 1
        node = chain.peek()
    return source


def _linear(chain: _Chain, source: str) -> tuple[Array, Array | None, str]:
    """Return weights (inputs, outputs) and biases of the next layer, and the name of its Z."""
    node = chain.peek()
    inputs = list(node.input)
    known = not node.domain and node.op_type in ("Gemm", "MatMul")
    if not known or len(inputs) < 2 or inputs[0] != source:
        raise ValueError(
            f"its operator {describe(node.op_type)} is none of a chain of Gemm, or MatMul and Add, "
            "and of this library's activations."
        )
    numbers = chain.attributes(node)
    W, b = _matrix(chain, inputs[1]), None
    chain.at += 1
    if node.op_type == "Gemm":
        if numbers.get("alpha", 1.0) != 1.0 or numbers.get("beta", 1.0) != 1.0:
            raise ValueError("its operator Gemm has a factor other than 1.")
        if numbers.get("transA", 0):
            raise ValueError("its operator Gemm turns its input.")
        if numbers.get("transB", 0):
            W = W.T
        if len(inputs) > 2 and inputs[2]:
            b = _array(chain, inputs[2]).reshape(-1)
        return np.ascontiguousarray(W), b, node.output[0]
    z = node.output[0]
    add = chain.peek()
    if add is not None and add.op_type == "Add" and z in add.input:
        others = [one for one in add.input if one != z]
        if len(others) == 1 and others[0] in chain.arrays:
            found = chain.arrays[others[0]]
            if found.size == W.shape[1] and found.shape[-1:] == (W.shape[1],):
                chain.at += 1
                b, z = found.reshape(-1), add.output[0]
    return np.ascontiguousarray(W), b, z


def _array(chain: _Chain, name: str) -> Array:
    """Return an array of the file, of real numbers."""
    found = chain.arrays.get(name)
    if found is None:
        raise ValueError(f"its {describe(name)} is no tensor of the file.")
    if found.dtype not in (np.float32, np.float64):
        raise ValueError(f"its tensor {describe(name)} is of {found.dtype}.")
    return found


def _matrix(chain: _Chain, name: str) -> Array:
    """Return weights of the file."""
    found = _array(chain, name)
    if found.ndim != 2 or not found.size:
        raise ValueError(f"its weights {describe(name)} are of shape {found.shape}.")
    return found


def _activation(chain: _Chain, z: str) -> tuple[str, str]:
    """Return the activation whose operators come next, the longest of several, and its result."""
    best: tuple[int, str] = (0, "identity")
    for name, patterns in PATTERNS.items():
        for pattern in patterns:
            if len(pattern) > best[0] and _fits(chain, z, pattern):
                best = (len(pattern), name)
    chain.at += best[0]
    return best[1], chain.nodes[chain.at - 1].output[0] if best[0] else z


def _fits(chain: _Chain, z: str, pattern: tuple[Node, ...]) -> bool:
    """Whether the next nodes are those of a pattern."""
    nodes = chain.nodes[chain.at : chain.at + len(pattern)]
    if len(nodes) < len(pattern):
        return False
    for node, wanted in zip(nodes, pattern, strict=True):
        if node.domain or node.op_type != wanted.operator:
            return False
        if not _same_numbers(chain.attributes(node), dict(wanted.attributes)):
            return False
        reads = [_reads(chain, z, nodes, one) for one in node.input]
        expected = list(wanted.inputs)
        commutes = wanted.operator in ("Add", "Mul", "Max", "Min")
        if not _same(reads, expected) and not (commutes and _same(reads[::-1], expected)):
            return False
    return True


def _reads(chain: _Chain, z: str, nodes: list[Any], name: str) -> object:
    """Return what a name is to a pattern: z, an earlier node's place, or a number."""
    if name == z:
        return None
    for place, node in enumerate(nodes):
        if node.output[0] == name:
            return place
    found = chain.arrays.get(name)
    return float(found.reshape(())) if found is not None and found.size == 1 else name


def _same(reads: list[object], wanted: list[Any]) -> bool:
    """Whether inputs are those of a pattern, numbers to rounding."""
    return len(reads) == len(wanted) and all(
        (type(one) is type(other) and one == other)
        or (isinstance(one, float) and isinstance(other, float) and _near(one, other))
        for one, other in zip(reads, wanted, strict=True)
    )


def _same_numbers(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether attributes are those of a pattern, numbers to rounding."""
    return found.keys() == wanted.keys() and all(
        _near(found[name], value) if isinstance(value, float) else found[name] == value
        for name, value in wanted.items()
    )


def _near(one: float, other: float) -> bool:
    """Whether two numbers are the same to float32's rounding."""
    return abs(one - other) <= _CLOSE * max(abs(one), abs(other))
