"""ONNX Runtime: predictions only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from serving import Case, Library, serve

# What both packages read, old and new ones.
_OPSET, _FORMAT = 17, 8


class OnnxRuntime(Library):
    def versions(self) -> dict[str, str]:
        return {
            "onnxruntime": str(onnxruntime.__version__),
            "onnx": str(onnx.__version__),
        }

    def predictor(self, case: Case) -> Callable[[], Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            case.onnx or _model(case).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
        )
        names, given = [session.get_outputs()[0].name], {session.get_inputs()[0].name: case.X}
        return lambda: session.run(names, given)[0]


def _model(case: Case) -> Any:
    """Return the network as an ONNX model."""
    hidden = {"relu": "Relu", "tanh": "Tanh"}[case.activation]
    nodes, weights, name = [], [], "X"
    for n, (W, b) in enumerate(case.weights):
        weights += [numpy_helper.from_array(W, f"W{n}"), numpy_helper.from_array(b, f"b{n}")]
        nodes.append(helper.make_node("Gemm", [name, f"W{n}", f"b{n}"], [f"Z{n}"]))
        last = n == len(case.weights) - 1
        kind = ("Softmax" if case.classifies else "Identity") if last else hidden
        name = "predictions" if last else f"A{n}"
        nodes.append(helper.make_node(kind, [f"Z{n}"], [name]))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, list(case.X.shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [len(case.X), b.size])],
        weights,
    )
    return helper.make_model(
        graph, ir_version=_FORMAT, opset_imports=[helper.make_opsetid("", _OPSET)]
    )


if __name__ == "__main__":
    serve(OnnxRuntime)
