"""What a network of two features predicts over their plane, made ready to be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn import gate
from fastnn.reporting import pictures

__all__ = ["plot_decision"]


def plot_decision(net: Any, X: ArrayLike, y: ArrayLike, ax: Any) -> Any:
    """Draw the plane; see `Sequential.plot_decision`."""
    layout, dtype = net.layout, net.dtype
    if layout.inputs != 2:
        raise ValueError(f"plot_decision needs two features; this network has {layout.inputs}.")
    features = gate.features(X, dtype, layout.inputs)
    last, outputs = layout.blocks[-1].activation, layout.outputs
    count = len(features)
    if last == "softmax" and outputs > 1:
        wanted = gate.targets(y, "classes", outputs, count, dtype)
        members = wanted.labels if wanted.labels.size else wanted.values.argmax(axis=1)
        names = range(outputs) if net.classes is None else net.classes
        return pictures.plot_decision(
            lambda points: net.predict(points).argmax(axis=1), features, members, list(names), ax
        )
    if outputs > 1:
        raise ValueError(
            "plot_decision draws one class of several (softmax) or one output; this network has "
            f"{outputs} outputs of {last}."
        )
    if last == "sigmoid":
        values = gate.targets(y, "probabilities", 1, count, dtype).values[:, 0]
        names = range(2) if net.classes is None else net.classes
        members = (values > 0.5).astype(np.intp)
        return pictures.plot_decision(
            lambda points: net.predict(points)[:, 0] > 0.5, features, members, list(names), ax
        )
    values = gate.targets(y, "real", 1, count, dtype).values[:, 0]
    return pictures.plot_decision(
        lambda points: net.predict(points)[:, 0], features, None, values, ax
    )
