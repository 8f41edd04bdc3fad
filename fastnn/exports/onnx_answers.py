"""Labels and probabilities that an estimator makes of its outputs, as operators of ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastnn.exports.onnx_graph import Graph
from fastnn.exports.plain import PlainNetwork
from fastnn.names import describe

__all__ = ["Answers", "Kind", "add_answers", "onnx_labels"]

Array = NDArray[Any]
Kind = Literal["binary", "multiclass", "multilabel-indicator", "numbers"]

# ONNX's number of the type of 64-bit integers, as `Cast` takes it.
_INT64 = 7
_NUMBERS: Kind = "numbers"


@dataclass(frozen=True, slots=True)
class Answers:
    """What is asked of an estimator.

    Attributes
    ----------
    kind : {"binary", "multiclass", "multilabel-indicator", "numbers"}
        One of two classes, one of several, any of several labels, or numbers.
    labels : ndarray or None
        Of the classes, as `onnx_labels` gives them; None for the last two kinds.
    edge : float, default 0.5
        Beyond which an output stands for a label.
    margins : bool, default False
        Whether outputs are no probabilities.
    numbers : int, default 0
        How many of the outputs are the numbers asked for.
    """

    kind: Kind
    labels: Array | None = None
    edge: float = 0.5
    margins: bool = False
    numbers: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs, as skl2onnx gives them to scikit-learn's estimators."""
        if self.kind == _NUMBERS:
            return ("variable",)
        return ("label", "scores" if self.margins else "probabilities")

    def types(self, network: PlainNetwork) -> dict[str, tuple[np.dtype[Any], list[int]]]:
        """Return the dtype of each output, and its shape without the number of rows."""
        if self.kind == _NUMBERS:
            return {"variable": (network.dtype, [self.numbers])}
        label, scores = self.names
        if self.labels is None:
            several = [network.outputs]
            return {label: (np.dtype(np.int64), several), scores: (network.dtype, several)}
        width = [network.outputs]
        if self.kind == "binary":
            width = [] if self.margins else [2]
        return {label: (self.labels.dtype, []), scores: (network.dtype, width)}


def onnx_labels(classes: Array) -> Array:
    """Return labels as ONNX has them: int64, float64 or texts.

    Parameters
    ----------
    classes : ndarray
        Whole numbers, truth values (which become 0 and 1), numbers or texts.

    Returns
    -------
    ndarray of int64, float64 or object

    Raises
    ------
    TypeError
        If they are anything else.

    Examples
    --------
    >>> import numpy as np
    >>> onnx_labels(np.array(["no", "yes"]))
    array(['no', 'yes'], dtype=object)
    """
    kind = classes.dtype.kind
    if kind in "bi" or (kind == "u" and (classes < 2**63).all()):
        return classes.astype(np.int64)
    if kind == "f":
        return classes.astype(np.float64)
    if kind in "UO" and all(isinstance(label, str) for label in classes.tolist()):
        return classes.astype(object)
    raise TypeError(
        "classes must be whole numbers of 64 bits, numbers, truth values or texts for ONNX; "
        f"got {describe(classes[0])} of dtype {classes.dtype}."
    )


def add_answers(graph: Graph, y: str, answers: Answers, names: tuple[str, ...] = ()) -> None:
    """Add operators that make an estimator's answers of its network's outputs.

    Parameters
    ----------
    graph : Graph
        It holds the network.
    y : str
        The name of its outputs, (n, m).
    answers : Answers
        What is asked.
    names : tuple of str, optional
        The names of the answers, if not ``answers.names``.
    """
    label, *more = names or answers.names
    if answers.kind == _NUMBERS:
        columns = graph.array("columns", np.arange(answers.numbers))
        graph.add("Gather", [y, columns], label, last=True, axis=1)
        return
    (scores,) = more
    if answers.kind == "multiclass":
        place = graph.add("ArgMax", [y], "place", axis=1, keepdims=0)
    else:
        beyond = graph.add("Greater", [y, graph.number(answers.edge)], "beyond")
        if answers.labels is None:
            graph.add("Cast", [beyond], label, last=True, to=_INT64)
            graph.add("Identity", [y], scores, last=True)
            return
        whole = graph.add("Cast", [beyond], "whole", to=_INT64)
        place = graph.add("Reshape", [whole, _flat(graph)], "place")
    assert answers.labels is not None
    labels = answers.labels
    # The only class, whatever the output.
    known = np.repeat(labels, 2) if answers.kind == "binary" and len(labels) == 1 else labels
    graph.add("Gather", [graph.array("labels", known), place], label, last=True)
    if answers.kind == "multiclass":
        graph.add("Identity", [y], scores, last=True)
    elif answers.margins:
        graph.add("Reshape", [y, _flat(graph)], scores, last=True)
    else:
        other = graph.add("Sub", [graph.number(1.0), y], "other")
        graph.add("Concat", [other, y], scores, last=True, axis=1)


def _flat(graph: Graph) -> str:
    """Return the name of the shape (n,)."""
    return graph.array("flat", np.array([-1]))
