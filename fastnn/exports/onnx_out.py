"""Networks as ONNX files; loaded when one is asked for, as it imports the package ``onnx``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fastnn.exports.onnx_graph import PATTERNS
from fastnn.exports.plain import PlainNetwork
from fastnn.labels import labels_to_plain

__all__ = ["OPSET", "onnx_model"]

#: The operators' version: what runtimes since 2022 know.
OPSET = 17
_FORMAT_OF_FILES = 8


def onnx_model(network: PlainNetwork) -> bytes:
    """Return the file: ``Gemm`` and the operators of its activation for each layer, X to Y."""
    kind = TensorProto.FLOAT if network.dtype == np.float32 else TensorProto.DOUBLE
    nodes: list[Any] = []
    constants: dict[float, str] = {}
    arrays: list[Any] = []
    source = "X"

    def constant(number: float) -> str:
        name = constants.get(number)
        if name is None:
            name = constants[number] = f"number_{len(constants)}"
            arrays.append(numpy_helper.from_array(np.array(number, network.dtype), name))
        return name

    for place, layer in enumerate(network.layers):
        last = place == len(network.layers) - 1
        pattern = PATTERNS[layer.activation][0]
        inputs = [source, f"W{place}"]
        arrays.append(numpy_helper.from_array(layer.W, f"W{place}"))
        if layer.b is not None:
            inputs.append(f"b{place}")
            arrays.append(numpy_helper.from_array(layer.b, f"b{place}"))
        z = "Y" if last and not pattern else f"Z{place}"
        nodes.append(helper.make_node("Gemm", inputs, [z], name=f"layer_{place}"))
        names: list[str] = []
        for n, node in enumerate(pattern):
            ending = n == len(pattern) - 1
            name = ("Y" if last else f"A{place}") if ending else f"Z{place}_{n}"
            reads = [
                z if one is None else names[one] if isinstance(one, int) else constant(one)
                for one in node.inputs
            ]
            nodes.append(helper.make_node(node.operator, reads, [name], **dict(node.attributes)))
            names.append(name)
        source = names[-1] if names else z
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("X", kind, ["n", network.inputs])],
        [helper.make_tensor_value_info("Y", kind, ["n", network.outputs])],
        arrays,
    )  # fmt: skip
    model = helper.make_model(
        graph, producer_name="fastnn", opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_FORMAT_OF_FILES,
    )  # fmt: skip
    if network.classes is not None:
        labels = json.dumps(labels_to_plain(network.classes))
        helper.set_model_props(model, {"fastnn.classes": labels})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
