"""Networks as ONNX files; loaded when one is asked for, as it imports the package ``onnx``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fastnn.exports.onnx_answers import Answers, add_answers
from fastnn.exports.onnx_graph import Graph
from fastnn.exports.plain import PlainNetwork
from fastnn.labels import labels_to_plain

__all__ = ["OPSET", "answering_model", "onnx_model"]

#: The operators' version: what runtimes since 2022 know.
OPSET = 17
_FORMAT_OF_FILES = 8

# A dtype, and a shape with the name of the number of rows.
Output: TypeAlias = tuple[np.dtype[Any], list[str | int]]

_KINDS = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(object): TensorProto.STRING,
}


def onnx_model(network: PlainNetwork) -> bytes:
    """Return the file: ``Gemm`` and the operators of its activation for each layer, X to Y."""
    graph = Graph(network.dtype)
    graph.network(network, "X", "Y")
    about = {}
    if network.classes is not None:
        about["fastnn.classes"] = json.dumps(labels_to_plain(network.classes))
    return _file(graph, network, {"Y": (network.dtype, ["n", network.outputs])}, about)


def answering_model(network: PlainNetwork, answers: Answers) -> bytes:
    """Return the file of an estimator: its network, and what its methods make of the outputs."""
    graph = Graph(network.dtype)
    add_answers(graph, graph.network(network, "X"), answers)
    found: dict[str, Output] = {
        name: (dtype, ["n", *shape]) for name, (dtype, shape) in answers.types(network).items()
    }
    return _file(graph, network, found, {})


def _file(
    graph: Graph,
    network: PlainNetwork,
    outputs: Mapping[str, Output],
    about: dict[str, str],
) -> bytes:
    """Return the bytes of a file that reads X."""
    places = iter(range(len(graph.nodes)))
    nodes = [
        helper.make_node(
            one.operator, one.inputs, [one.output], name=f"node_{next(places)}", **one.attributes
        )
        for one in graph.nodes
    ]
    arrays = [numpy_helper.from_array(array, name) for name, array in graph.arrays.items()]
    made = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("X", _KINDS[network.dtype], ["n", network.inputs])],
        [
            helper.make_tensor_value_info(name, _KINDS[dtype], shape)
            for name, (dtype, shape) in outputs.items()
        ],
        arrays,
    )  # fmt: skip
    model = helper.make_model(
        made, producer_name="fastnn", opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_FORMAT_OF_FILES,
    )  # fmt: skip
    if about:
        helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
