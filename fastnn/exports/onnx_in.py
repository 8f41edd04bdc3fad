"""Networks from ONNX files: chains of products, activations, normalisations and residual sums."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.errors import ModelFileError
from fastnn.exports.made import Held, network_of
from fastnn.exports.onnx_match import Chain, activation_at, part_at
from fastnn.exports.onnx_parts import Widths, active, made_part
from fastnn.formats.safetensors import parse
from fastnn.labels import labels_of
from fastnn.layers import Dense, Dropout
from fastnn.machine.system import file_name, read_regular
from fastnn.names import describe
from fastnn.network import Sequential
from fastnn.residual import Residual
from fastnn.slopes import PReLU

__all__ = ["from_onnx"]

Array = NDArray[Any]
_Read: TypeAlias = tuple[list[Held], str, Widths]

_NEWEST_OPSET = 23
# More than networks of a thousand layers have, and so few that a hostile file is refused before it
# takes time.
_MOST_NODES = 4_000
_MOST_TENSORS = 4_000
_MOST_LAYERS = 1_000
_MOST_DOMAINS = 100
_MOST_NODE_BYTES = 10_000
_MOST_DIMENSIONS = 32
# What small arrays that several layers share may add: biases of zero, slopes.
_SHARED_BYTES = 65_536
_LONGEST_LABELS = 1_000_000
# Types of tensors that are read; a layer refuses all but float32 and float64 by name.
_TYPES = {1, 2, 3, 5, 6, 7, 9, 10, 11}
# Operators that are nothing when a network predicts.
_NOTHING = {"Identity", "Dropout", "Flatten"}


def from_onnx(path: str | os.PathLike[str]) -> Sequential:
    """Return the network of an ONNX file.

    The graph must be a chain from one input to one output: ``Gemm``, or ``MatMul`` with or without
    ``Add``, and after each the operators of one of this library's activations; between them
    normalisations, slopes, and sums of what some of these give with what they read.

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
        raw = read_regular(name)
        model, room = onnx.ModelProto.FromString(raw), 2 * len(raw) + _SHARED_BYTES
        del raw  # as large as the model
        return _network(model, room, onnx)
    except DecodeError:
        raise ModelFileError(f"{name!r} is not a readable ONNX file: it does not parse.") from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as problem:
        raise ModelFileError(f"{name!r} is not a readable ONNX network: {problem}") from None


def _network(model: Any, room: int, onnx: Any) -> Sequential:
    """Return the network of a parsed file, of at most so many bytes, or raise ValueError."""
    graph = model.graph
    for count, most, what in (
        (len(model.opset_import), _MOST_DOMAINS, "versions of operators"),
        (len(graph.node), _MOST_NODES, "operators"),
        (max(len(graph.initializer), len(graph.input)), _MOST_TENSORS, "tensors"),
    ):
        if count > most:
            raise ValueError(f"it has {count} {what}, more than {most}.")
    versions = {one.domain: one.version for one in model.opset_import}
    if set(versions) - {"", "ai.onnx"}:
        raise ValueError(f"it uses operators of {describe(sorted(versions)[-1])}.")
    if max(versions.values(), default=0) > _NEWEST_OPSET:
        raise ValueError(
            f"its operators are of version {max(versions.values())}, newer than {_NEWEST_OPSET}."
        )
    if model.functions or graph.sparse_initializer:
        raise ValueError("it has functions or sparse tensors of its own.")
    for node in graph.node:
        if len(node.output) != 1:
            raise ValueError(f"its operator {describe(node.op_type)} has several results, or none.")
        if node.op_type != "Constant" and node.ByteSize() > _MOST_NODE_BYTES:
            raise ValueError(
                f"its operator {describe(node.op_type)} takes {node.ByteSize()} bytes, more than "
                f"{_MOST_NODE_BYTES}."
            )
    names = {one.name for one in graph.initializer} | {node.output[0] for node in graph.node}
    if len(names) != len(graph.initializer) + len(graph.node):
        raise ValueError("several of its tensors have one name.")
    arrays = {one.name: _tensor(one, onnx) for one in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant":
            arrays[node.output[0]] = _constant(node, onnx)
        else:
            nodes.append(node)
    given = [one.name for one in graph.input if one.name not in arrays]
    if len(given) != 1 or len(graph.output) != 1:
        raise ValueError(
            f"it must have one input and one output; it has {len(given)} and {len(graph.output)}."
        )
    layers, end, (inputs, _) = _layers(Chain(nodes, arrays, onnx, room), given[0])
    if end != graph.output[0].name:
        raise ValueError("its output is not the end of a chain of layers.")
    if not layers or inputs is None:
        raise ValueError("it has no layer.")
    if len(set(_dtypes(layers))) != 1:
        raise ValueError("its layers are of several dtypes.")
    net = network_of(layers, inputs)
    labels = [one.value for one in model.metadata_props if one.key == "fastnn.classes"]
    if len(labels) > 1:
        raise ValueError("it has labels of classes more than once.")
    if labels and len(labels[0]) <= _LONGEST_LABELS:
        what = "its labels of classes"
        net.classes = labels_of(parse(labels[0].encode(), what, values=net.outputs))
    return net


def _constant(node: Any, onnx: Any) -> Array:
    """Return the tensor of an operator that is one."""
    if len(node.attribute) != 1 or node.attribute[0].name != "value":
        raise ValueError("its operator Constant is no tensor.")
    return _tensor(node.attribute[0].t, onnx)


def _tensor(tensor: Any, onnx: Any) -> Array:
    """Return an initializer's numbers, which must be in the file."""
    wrong = ""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        wrong = "lies in another file"
    elif tensor.data_type not in _TYPES:
        wrong = f"is of a type that is no number's, {tensor.data_type}"
    elif len(tensor.dims) > _MOST_DIMENSIONS:
        wrong = f"has {len(tensor.dims)} dimensions"
    elif min(tensor.dims, default=0) < 0 or math.prod(tensor.dims) > tensor.ByteSize():
        wrong = "is not as long as its shape says"
    if wrong:
        raise ValueError(f"its tensor {describe(tensor.name)} {wrong}.")
    return np.asarray(onnx.numpy_helper.to_array(tensor))


# Blocks within blocks; a network's may not be deeper.
_DEEPEST = 32


def _layers(chain: Chain, source: str, width: int | None = None, depth: int = 0) -> _Read:
    """Return the layers up to the stop, the name of what they give, and both their widths."""
    found: list[Held] = []
    reads = width
    if depth > _DEEPEST:
        raise ValueError(f"its sums stand more than {_DEEPEST} deep within each other.")
    while True:
        source = _skipped(chain, source)
        if chain.peek() is None:
            return found, source, (reads, width)
        place = chain.sum_of(source)
        if place is not None:
            held, source, widths = _sum(chain, source, place, width, depth)
        elif (part := part_at(chain, source)) is not None:
            name, named, source = part
            held, widths = made_part(name, named, width)
        elif (late := _late_activation(chain, source, found)) is not None:
            source = late
            continue
        else:
            held, source, widths = _dense(chain, source)
        if None not in (width, widths[0]) and width != widths[0]:
            raise ValueError(f"a layer reads {widths[0]} columns where there are {width}.")
        reads, width = widths[0] if reads is None else reads, widths[1]
        _count(chain, held)
        found.append(held)


def _count(chain: Chain, held: Held) -> None:
    """Count a layer and its bytes: a chain whose layers share weights has no end otherwise."""
    chain.layers += 1
    chain.room -= sum(array.nbytes for array in held.parameters + held.buffers)
    if chain.layers > _MOST_LAYERS:
        raise ValueError(f"it has more than {_MOST_LAYERS} layers.")
    if chain.room < 0:
        raise ValueError("its layers share tensors, and are much larger than the file.")


def _sum(
    chain: Chain, source: str, place: int, width: int | None, depth: int
) -> tuple[Held, str, Widths]:
    """Return a block whose input is added to what it gives."""
    node, stop = chain.nodes[place], chain.stop
    others = [name for name in node.input if name != source]
    if node.domain or len(node.input) != 2:
        raise ValueError("its operator Add is none of two results.")
    chain.stop = place
    inner, result, widths = _layers(chain, source, width, depth + 1)
    chain.stop = stop
    if result != (others[0] if others else source):
        raise ValueError("its operator Add adds something else than a block's input.")
    chain.at = place + 1
    # What dropouts alone leave is the input itself.
    inner = inner or [Held(Dropout(0.0))]
    layer = Residual([one.layer for one in inner])
    return Held(layer, inside=tuple(inner)), node.output[0], widths


def _dense(chain: Chain, source: str) -> tuple[Held, str, Widths]:
    """Return a layer of weights, with its activation."""
    W, b, z = _linear(chain, source)
    width = W.shape[1]
    if b is not None and b.shape != (width,):
        raise ValueError(f"a layer of {width} outputs has biases of shape {b.shape}.")
    z, activation = _skipped(chain, z), "identity"
    if chain.sum_of(z) is None:
        activation, z = activation_at(chain, z)
    layer = Dense(width, activation, bias=b is not None)
    return Held(layer, (W,) if b is None else (W, b)), z, (W.shape[0], width)


def _late_activation(chain: Chain, source: str, found: list[Held]) -> str | None:
    """Give an activation behind a BatchNorm to the Dense before it; return its result."""
    at = chain.at
    name, result = activation_at(chain, source)
    if name == "identity":
        return None
    made = active(found[-2:], name)
    if made is None:
        chain.at = at
        return None
    found[-2:] = [made]
    return result


def _dtypes(layers: Sequence[Held]) -> Iterator[np.dtype[Any]]:
    """Yield the dtypes of all arrays but slopes that a file has as attributes."""
    for one in layers:
        yield from _dtypes(one.inside)
        if not (isinstance(one.layer, PReLU) and not one.layer.trainable):
            yield from (array.dtype for array in one.parameters + one.buffers)


def _skipped(chain: Chain, source: str) -> str:
    """Go over operators that do nothing, and return the name of what they give."""
    node = chain.peek()
    while node is not None and node.op_type in _NOTHING and list(node.input[:1]) == [source]:
        if node.op_type == "Flatten" and chain.attributes(node).get("axis", 1) != 1:
            raise ValueError("its operator Flatten has an axis other than 1.")
        source = node.output[0]
        chain.at += 1
        node = chain.peek()
    return source


def _linear(chain: Chain, source: str) -> tuple[Array, Array | None, str]:
    """Return weights (inputs, outputs) and biases of the next layer, and the name of its Z."""
    node = chain.peek()
    inputs = list(node.input)
    known = not node.domain and node.op_type in ("Gemm", "MatMul")
    if not known or len(inputs) < 2 or inputs[0] != source:
        raise ValueError(
            f"its operator {describe(node.op_type)} is none of a chain of Gemm, or MatMul and Add, "
            "of this library's activations, of norms, and of sums with what they read."
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


def _array(chain: Chain, name: str) -> Array:
    """Return an array of the file, of real numbers."""
    found = chain.arrays.get(name)
    if found is None:
        raise ValueError(f"its {describe(name)} is no tensor of the file.")
    if found.dtype not in (np.float32, np.float64):
        raise ValueError(f"its tensor {describe(name)} is of {found.dtype}.")
    return found


def _matrix(chain: Chain, name: str) -> Array:
    """Return weights of the file."""
    found = _array(chain, name)
    if found.ndim != 2 or not found.size:
        raise ValueError(f"its weights {describe(name)} are of shape {found.shape}.")
    return found
