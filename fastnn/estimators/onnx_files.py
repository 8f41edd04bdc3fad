"""Fitted estimators as ONNX: files of their own, and a part of what skl2onnx makes of a Pipeline.

skl2onnx asks a model that it does not know for a parser, a shape calculator and a converter, which
`Fitted` hands out.  The first time it does so the class is registered with it as well, so that it
takes its options for them and finds them inside other estimators.
"""

from __future__ import annotations

import copy
import os
import sys
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import DTypeLike
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.utils.validation import check_is_fitted

from fastnn.exports.onnx_answers import Answers, add_answers, onnx_labels
from fastnn.exports.onnx_graph import Graph
from fastnn.exports.plain import PlainNetwork
from fastnn.machine.system import write_atomically
from fastnn.names import describe

__all__ = ["convert", "parse", "register_if_there", "shape", "write"]

_DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}


def write(estimator: Any, path: str | os.PathLike[str], dtype: DTypeLike | None) -> None:
    """Write a fitted estimator as an ONNX file: what `Fitted.to_onnx` does."""
    check_is_fitted(estimator)
    try:
        from fastnn.exports.onnx_out import answering_model
    except ImportError as problem:
        raise ImportError("to_onnx needs onnx: python -m pip install onnx.") from problem
    network, answers = _plain(estimator, None if dtype is None else _dtype(dtype))
    write_atomically(path, [answering_model(network, answers)])


def _dtype(dtype: Any) -> np.dtype[Any]:
    """Return a dtype that ONNX's operators take, or say which."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
    if name not in _DTYPES:
        raise ValueError(f"dtype must be 'float32', 'float64' or None; got {describe(dtype)}.")
    return _DTYPES[name]


def _plain(estimator: Any, dtype: np.dtype[Any] | None) -> tuple[PlainNetwork, Answers]:
    """Return an estimator's network in a dtype, and what is asked of it, both of one state."""
    estimator = copy.copy(estimator)
    network, _ = estimator._current().network._exported(None)
    return _as(network, dtype), _answers(estimator)


def _as(network: PlainNetwork, dtype: np.dtype[Any] | None) -> PlainNetwork:
    """Return a network in a dtype, or say that it does not fit."""
    if dtype is None or dtype == network.dtype:
        return network
    cast = network.cast(dtype)
    if not all(np.isfinite(array).all() for array in cast.arrays):
        raise ValueError(f"dtype must hold all weights; got {dtype}, where one is infinite.")
    return cast


def _answers(estimator: Any) -> Answers:
    """Return what an estimator makes of its network's outputs."""
    if not is_classifier(estimator):
        return Answers("numbers", numbers=estimator._quantiles or estimator.n_outputs_)
    binarizer, margins = estimator._label_binarizer, not estimator._probable
    kind, edge = binarizer.y_type_, estimator._edge
    labels = None if kind == "multilabel-indicator" else onnx_labels(binarizer.classes_)
    return Answers(kind, labels, edge, margins)


# What skl2onnx asks for.


def parse(scope: Any, estimator: Any, inputs: list[Any]) -> list[Any]:
    """Declare the outputs, as tensors."""
    from skl2onnx.common.data_types import guess_tensor_type

    _register(type(estimator))
    kind = guess_tensor_type(inputs[0].type)
    return [scope.declare_local_variable(name, kind) for name in _answers(estimator).names]


def _parser(scope: Any, estimator: Any, inputs: list[Any], custom_parsers: Any = None) -> list[Any]:
    """Declare a registered estimator's operator and its outputs, never a ZipMap."""
    operator = scope.declare_local_operator(_alias(type(estimator)), estimator)
    operator.inputs = inputs
    operator.outputs.extend(parse(scope, estimator, inputs))
    return list(operator.outputs)


def shape(operator: Any) -> None:
    """Give the outputs their types and shapes."""
    from skl2onnx.common import data_types

    tensors = {
        np.dtype(np.float32): data_types.FloatTensorType,
        np.dtype(np.float64): data_types.DoubleTensorType,
        np.dtype(np.int64): data_types.Int64TensorType,
        np.dtype(object): data_types.StringTensorType,
    }
    network, answers = _plain(operator.raw_operator, _of_input(operator))
    rows = operator.inputs[0].get_first_dimension()
    found = answers.types(network).values()
    for output, (dtype, width) in zip(operator.outputs, found, strict=True):
        output.type = tensors[dtype]([rows, *width])


def convert(scope: Any, operator: Any, container: Any) -> None:
    """Add an estimator's operators to a graph of skl2onnx's."""
    from onnx import numpy_helper
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, guess_proto_type

    dtype = _of_input(operator)
    network, answers = _plain(operator.raw_operator, dtype)
    graph = Graph(dtype, scope.get_unique_variable_name)
    source = operator.inputs[0]
    x = source.full_name
    if not isinstance(source.type, (FloatTensorType, DoubleTensorType)):
        x = graph.add("Cast", [x], "X", to=guess_proto_type(FloatTensorType()))
    names = tuple(output.full_name for output in operator.outputs)
    add_answers(graph, graph.network(network, x), answers, names)
    for name, array in graph.arrays.items():
        tensor = numpy_helper.from_array(array, name)
        content: Any = array.ravel()
        if array.dtype == object:
            content = [label.encode() for label in content]
        container.add_initializer(name, tensor.data_type, list(array.shape), content)
    for node in graph.nodes:
        name = scope.get_unique_operator_name(node.operator)
        container.add_node(node.operator, node.inputs, [node.output], name=name, **node.attributes)


def _of_input(operator: Any) -> np.dtype[Any]:
    """Return what a graph computes in: its input's dtype, float32 where that is none of floats."""
    from skl2onnx.common.data_types import DoubleTensorType

    double = isinstance(operator.inputs[0].type, DoubleTensorType)
    return _DTYPES["float64" if double else "float32"]


def _alias(kind: type) -> str:
    """Return the name by which skl2onnx knows a class."""
    return f"Fastnn{kind.__name__}"


def register_if_there(*kinds: type) -> None:
    """Register classes with skl2onnx if it was imported before them."""
    if "skl2onnx" in sys.modules:
        for kind in kinds:
            _register(kind)


def _register(kind: type) -> None:
    """Register a class with skl2onnx, which has been imported."""
    from skl2onnx import update_registered_converter

    if kind not in _registered:
        options = {"zipmap": [False]} if issubclass(kind, ClassifierMixin) else {}
        update_registered_converter(
            kind, _alias(kind), shape, convert, parser=_parser, options=options
        )
        _registered.add(kind)


# Classes that skl2onnx knows; not for longer than there are such.
_registered: WeakSet[type] = WeakSet()
