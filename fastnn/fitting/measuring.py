"""What an epoch records in addition to its loss: metrics of the training passes, and validation.

Outputs are those that the engine writes: Z of the last layer where the loss is fused with its
activation, else A.  Metrics that only compare outputs need no activation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import reference
from fastnn.data import Data, together
from fastnn.kernels import codes
from fastnn.layout import Layout
from fastnn.losses import Loss
from fastnn.metrics import Metric, of_known
from fastnn.path import Path
from fastnn.target_scale import TargetScale

__all__ = ["Group", "Validation", "evaluated", "metrics_of", "value_of"]

Floats = NDArray[np.floating]


def value_of(
    row: Metric, loss: Loss, targets: Floats, predicted: Floats, weights: Floats | None,
    missing: bool,
) -> float:  # fmt: skip
    """Return a metric of predictions (n, outputs), where targets (n, m) may be missing."""
    function = of_known(row.function) if missing else row.function
    whole = loss.ordered and row.compares_quantiles
    seen = predicted if whole else loss.middle(predicted)
    return float(function(targets, seen, weights))


def metrics_of(
    metrics: Sequence[Metric], loss: Loss, data: Data, predicted: Floats,
    scale: TargetScale | None, prefix: str = "",
) -> dict[str, float]:  # fmt: skip
    """Return each metric of predictions, which like the data's targets may be at unit scale."""
    wanted = data.targets.as_rows(loss.width(predicted.shape[1]), predicted.dtype)
    if scale is not None:
        predicted, wanted = scale.outside(predicted), scale.outside(wanted)
    weights = data.weights if data.weights.size else None
    missing = data.targets.missing
    return {
        prefix + row.name: value_of(row, loss, wanted, predicted, weights, missing)
        for row in metrics
    }


def evaluated(
    parts: Iterable[Data], layout: Layout, parameters: Floats, loss: Loss,
    metrics: Sequence[Metric], path: Path,
) -> dict[str, float]:  # fmt: skip
    """Return the loss, without L2, and metrics of examples that come in parts.

    Where there are metrics, the parts' targets and predictions are kept until all have come.

    Raises
    ------
    ValueError
        If no example has weight.
    """
    bare, scale = layout.with_scale(None), layout.scale
    total = summed = 0.0
    kept: list[tuple[Data, Floats]] = []
    for part in parts:
        weight = part.total
        outputs = np.zeros((0, layout.outputs), parameters.dtype)
        if metrics or scale is not None:
            outputs = path.predictions(bare, parameters, part.X)
        if weight and scale is not None:
            summed += weight * scale.mean_loss(loss, outputs, part)
        elif weight:
            summed += weight * path.mean_loss(layout, parameters, loss, part)()
        total += weight
        if metrics:
            kept.append((part.without_features(), outputs))
    if not total:
        raise ValueError("blocks must have at least one example of a weight above 0; got none.")
    found = {"loss": summed / total}
    if kept:
        data = together([part for part, _ in kept])
        predicted = np.concatenate([outputs for _, outputs in kept])
        found |= metrics_of(metrics, loss, data, predicted, scale)
    return found


class Group:
    """Metrics of some examples, for any predictions.

    Parameters
    ----------
    metrics : sequence of Metric
        Their rows, as `metrics.resolve` gives them.
    loss : Loss
        Of the fit.
    layout : Layout
        Of the network.
    data : Data
        The examples.
    path : Path
        Which gives the outputs.
    scale : TargetScale or None
        Of the targets, where they are at unit scale; metrics are in their units.
    """

    def __init__(
        self, metrics: Sequence[Metric], loss: Loss, layout: Layout, data: Data, path: Path,
        scale: TargetScale | None = None,
    ) -> None:  # fmt: skip
        self._metrics, self._scale = metrics, scale
        self._last = layout.blocks[-1].activation
        self._finished = loss.activation is None or not path.by_engine
        self._loss = loss
        self._targets = data.targets.as_rows(loss.width(layout.outputs), data.X.dtype)
        if scale is not None:
            self._targets = scale.outside(self._targets)
        self._weights = data.weights if data.weights.size else None
        self._missing = data.targets.missing
        self._classes: NDArray[Any] | None = None
        self._sides: NDArray[Any] | None = None
        if loss.targets == "classes":
            labels = data.targets.labels
            self._classes = labels if labels.size else self._targets.argmax(axis=1)
        elif loss.targets == "probabilities":
            self._sides = self._targets > 0.5

    def values(self, outputs: Floats, prefix: str = "") -> dict[str, float]:
        """Return each metric of outputs, shape (n, outputs of the network)."""
        found: dict[str, float] = {}
        predicted: Floats | None = None
        for row in self._metrics:
            value = self._accuracy(outputs) if row.column == codes.ACCURACY else None
            if value is None:
                if predicted is None:
                    predicted = self._predictions(outputs)
                value = value_of(
                    row, self._loss, self._targets, predicted, self._weights, self._missing
                )
            found[prefix + row.name] = value
        return found

    def _predictions(self, outputs: Floats) -> Floats:
        """Return the last layer's A."""
        if not self._finished:
            with np.errstate(all="ignore"):
                outputs = reference.ACTIVATIONS[self._last][0](outputs.T).T
        if self._scale is not None:
            outputs = self._scale.outside(outputs)
        return outputs

    def _accuracy(self, outputs: Floats) -> float | None:
        """Return the accuracy by comparing outputs; None where only the metric can compute it."""
        if self._weights is not None:
            return None
        if self._classes is not None:
            # Of equal numbers the first, as in argmax.
            two = outputs.shape[1] == 2
            places = outputs[:, 1] > outputs[:, 0] if two else outputs.argmax(axis=1)
            hits = places == self._classes
        elif self._sides is not None:
            hits = (outputs > (0.5 if self._finished else 0.0)) == self._sides
        else:
            return None
        with np.errstate(all="ignore"):
            # One non-finite number makes the sum non-finite.
            if not np.isfinite(outputs.sum()) and not np.isfinite(outputs).all():
                return float("nan")
        return float(np.count_nonzero(hits) / hits.size)


class Validation:
    """Loss and metrics of validation examples, in one pass per call.

    Parameters are those of `Group`, and the parameters of the network, read at each call.  The
    loss is that of the targets as they come.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        loss: Loss,
        layout: Layout,
        data: Data,
        path: Path,
        parameters: Floats,
        scale: TargetScale | None = None,
    ) -> None:
        self._outputs = np.zeros((len(data) if metrics else 0, layout.outputs), parameters.dtype)
        out = self._outputs if metrics else None
        self._loss = path.mean_loss(layout, parameters, loss, data, out=out)
        self._group = Group(metrics, loss, layout, data, path, scale) if metrics else None

    def __call__(self) -> tuple[float, dict[str, float]]:
        """Return the loss, and metrics by their names with ``val_`` in front."""
        loss = self._loss()
        group = self._group
        return loss, {} if group is None else group.values(self._outputs, "val_")
