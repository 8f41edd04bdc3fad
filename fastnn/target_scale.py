"""Targets brought to unit scale within a network, and its outputs brought back to their units.

A network with such a scale learns ``(y - mean) / deviation`` and predicts ``mean + deviation a``
of its last layer's outputs a.  A `Layout` carries the scale, so that whatever computes predictions
finds it; what trains is given a layout without one, and targets at unit scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import notices, reference
from fastnn.data import Data
from fastnn.errors import FitWarning
from fastnn.gate import Targets
from fastnn.losses import LOSSES, Loss
from fastnn.names import describe
from fastnn.scaling import Moments

__all__ = [
    "TargetMoments", "TargetScale", "check_last", "check_loss", "measured_targets",
    "target_scale_of",
]  # fmt: skip

# The distance of neighbouring predictions, in deviations of the targets, from which on it shows.
_COARSE = 0.02

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TargetScale:
    """Means and deviations of targets.

    Attributes
    ----------
    mean, deviation : ndarray of float64 (targets,)
        Of each column; 0 and 1 of one that is left alone.
    shared : bool
        Whether all outputs are in the units of one target, as quantiles are.
    """

    mean: Doubles
    deviation: Doubles
    shared: bool = False

    def __post_init__(self) -> None:
        """Lock the arrays."""
        self.mean.flags.writeable = self.deviation.flags.writeable = False

    def numbers(self, outputs: int, dtype: Any = np.float64) -> Floats:
        """Return what outputs are multiplied by, then what is added to them, in one vector.

        Where a network has two outputs for each target, the later half are logarithms of
        variances, to which twice the logarithm of the deviation is added.
        """
        factors, shifts = np.ones(outputs), np.zeros(outputs)
        targets = outputs if self.shared else len(self.mean)
        factors[:targets], shifts[:targets] = self.deviation, self.mean
        if outputs > targets:
            shifts[targets:] = 2.0 * np.log(self.deviation)
        return np.concatenate([factors, shifts]).astype(dtype)

    def factors(self, outputs: int, dtype: Any) -> Floats:
        """Return what derivatives of outputs are multiplied by."""
        return self.numbers(outputs, dtype)[:outputs]

    def outside(self, outputs: Floats) -> Doubles:
        """Return outputs (n, m), or targets at unit scale, in the targets' units and float64."""
        numbers = self.numbers(outputs.shape[1])
        factors, shifts = np.split(numbers, 2)
        return np.asarray(outputs * factors + shifts, np.float64)

    def bring_back(self, outputs: Floats) -> None:
        """Bring outputs (n, m) to the targets' units, in place and in their dtype."""
        factors, shifts = np.split(self.numbers(outputs.shape[1], outputs.dtype), 2)
        with np.errstate(all="ignore"):
            outputs *= factors
            outputs += shifts

    def inside(self, data: Data, dtype: Any, argument: str = "y") -> Data:
        """Return examples with targets, given in float64, at unit scale and in a dtype.

        Raises
        ------
        ValueError
            If one is so far away that it is no number of the dtype.
        """
        with np.errstate(over="ignore"):
            values = ((data.targets.values - self.mean) / self.deviation).astype(dtype)
        wrong = np.isinf(values)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"{argument} must lie within what {np.dtype(dtype)} holds of the first targets' "
                f"scale; got {data.targets.values[row, column]:g} at row {row}, where these have "
                f"the mean {self.mean[column]:g} and the deviation {self.deviation[column]:g}."
            )
        values.flags.writeable = False
        targets = Targets(data.targets.labels, values, data.targets.missing)
        return Data(data.X, targets, data.weights)

    def mean_loss(self, loss: Loss, outputs: Floats, data: Data) -> float:
        """Return the (weighted) mean loss, without L2, in the targets' units.

        Parameters
        ----------
        loss : Loss
            The row.
        outputs : ndarray (n, m)
            The last layer's, at unit scale.
        data : Data
            With targets at unit scale.
        """
        A, Y = self.outside(outputs).T, self.outside(data.targets.values).T
        weights = data.weights.astype(np.float64) if data.weights.size else None
        with np.errstate(all="ignore"):
            return float(
                reference.mean_loss(loss.name, "identity", A, A, Y, weights, **loss.settings)
            )

    def folded(self, W: Floats, b: Floats | None) -> tuple[Floats, Floats]:
        """Return weights and biases of a last layer that gives outputs in the targets' units.

        ``(A W + b) D + M`` is ``A (W D) + (b D + M)``, taken in float64.

        Raises
        ------
        ValueError
            If the outputs are quantiles, which are no such sums.
        """
        if self.shared:
            raise ValueError(
                "scale_targets can be folded into a last layer of activation 'identity'; got "
                "'increasing', which adds up exponentials behind its weights. net(x), net.predict "
                "and net.freeze() give the targets' units, and net.save keeps the network."
            )
        factors, shifts = np.split(self.numbers(W.shape[1]), 2)
        with np.errstate(over="ignore"):
            biases = (0.0 if b is None else b) * factors + shifts
            return (W * factors).astype(W.dtype), np.asarray(biases).astype(W.dtype)


# Of last layers whose outputs may be any numbers, in no other units than the targets'.
_LAST = ("identity", "increasing")


def check_last(activation: str) -> None:
    """Refuse a last layer whose outputs are not any numbers."""
    if activation not in _LAST:
        raise ValueError(
            "scale_targets=True needs a last layer of activation 'identity', or 'increasing' for "
            "quantiles, as targets at unit scale are numbers on both sides of 0; got "
            f"{activation!r}. For classes, counts and amounts leave scale_targets=False: their "
            "losses need no scale."
        )


def check_loss(loss: Loss) -> None:
    """Refuse a loss whose targets have no scale of their own."""
    if loss.targets != "real":
        fitting = [row.name for row in LOSSES.values() if row.targets == "real"]
        raise ValueError(
            f"scale_targets=True needs a loss for targets that are any numbers, one of "
            f"{', '.join(map(repr, fitting))}; got loss={loss.name!r}. With it leave "
            "scale_targets=False."
        )


def measured_targets(data: Data, dtype: Any, last: str, argument: str = "y") -> TargetScale:
    """Return the scale of targets, given in float64, of those that are known, by their weights.

    A column that has one value only is left alone, as is one whose deviation is no number of the
    network's dtype.  Warns where predictions in that dtype would be too coarse for the targets.

    Parameters
    ----------
    data : Data
        The examples.
    dtype : dtype
        The network's.
    last : str
        Activation of its last layer.
    argument : str
        What messages call the targets.

    Raises
    ------
    ValueError
        If a target is no number of the network's dtype, or there are several where all outputs
        are in the units of one.
    """
    moments = TargetMoments(dtype, last, argument)
    moments.add(data)
    return moments.scale()


class TargetMoments:
    """Means and deviations of targets that come in several parts; see `measured_targets`."""

    def __init__(self, dtype: Any, last: str, argument: str = "y") -> None:
        self._dtype, self._last, self._argument = np.dtype(dtype), last, argument
        self._columns: list[Moments] = []

    def add(self, data: Data) -> None:
        """Add targets, given in float64."""
        values, limits = data.targets.values, np.finfo(self._dtype)
        if self._last == "increasing" and values.shape[1] > 1:
            raise ValueError(
                "scale_targets=True with a last layer of activation 'increasing' is for one "
                "target, of whose quantiles all outputs are (loss=fastnn.Quantiles([...])); got "
                f"{self._argument} of {values.shape[1]} columns. Leave scale_targets=False, or end "
                "with 'identity'."
            )
        known = ~np.isnan(values)
        weights = data.weights.astype(np.float64) if data.weights.size else None
        if weights is not None and data.targets.missing:
            # What has passed the gate counts as much as the part of its targets that is known.
            weights = weights / np.maximum(known.mean(axis=1), 1.0 / values.shape[1])
        if not self._columns:
            self._columns = [Moments(1, np.float64) for _ in range(values.shape[1])]
        for column, moments in enumerate(self._columns):
            rows = known[:, column]
            w = np.zeros(0) if weights is None else weights[rows]
            if not rows.any() or (len(w) and not w.any()):
                continue
            one = values[rows, column, np.newaxis]
            if np.abs(one).max() > float(limits.max):
                raise ValueError(
                    f"{self._argument} must hold numbers that fit {self._dtype}, as predictions "
                    f"are; got {one[np.abs(one).argmax(), 0]:g} in column {column}. Use "
                    "dtype='float64'."
                )
            moments.add(one, w)

    def scale(self) -> TargetScale:
        """Return the scale of what was added."""
        mean, deviation = np.zeros(len(self._columns)), np.ones(len(self._columns))
        for column, moments in enumerate(self._columns):
            found = moments.found()
            if float(np.finfo(self._dtype).tiny) <= found[1][0]:
                mean[column], deviation[column] = found[0][0], found[1][0]
        _warn_of_spacing(mean, deviation, self._dtype, self._argument)
        return TargetScale(mean, deviation, self._last == "increasing")


def _warn_of_spacing(mean: Doubles, deviation: Doubles, dtype: Any, argument: str) -> None:
    """Warn where predictions of a dtype cannot follow the targets, which lie too close together."""
    spacing = float(np.finfo(dtype).eps) * np.abs(mean)
    worst = int((spacing / deviation).argmax())
    if spacing[worst] > _COARSE * deviation[worst] and dtype != np.float64:
        notices.warn(
            f"{argument} has values around {mean[worst]:.6g} in column {worst}, of deviation "
            f"{deviation[worst]:.3g}; predictions in {dtype} tell such numbers apart by "
            f"{spacing[worst]:.2g} only. Use dtype='float64', or subtract a constant before.",
            FitWarning,
        )


def target_scale_of(arrays: Mapping[str, NDArray[Any]], outputs: int, last: str) -> TargetScale:
    """Return the scale that a file or a pickle holds, checked, for a last activation.

    Raises
    ------
    ValueError
        If it is none of a network with so many outputs.
    """
    mean, deviation = arrays.get("mean"), arrays.get("deviation")
    if len(arrays) != 2 or mean is None or deviation is None:
        raise ValueError(
            f"a scale of targets must have a mean and a deviation; got {describe(sorted(arrays))}."
        )
    shared = last == "increasing"
    fits = (
        mean.shape == deviation.shape
        and mean.ndim == 1
        and len(mean) in ((1,) if shared else (outputs, outputs / 2))
        and mean.dtype == deviation.dtype == np.float64
        and np.isfinite(mean).all()
        and np.isfinite(deviation).all()
        and (deviation > 0.0).all()
    )
    if not fits:
        raise ValueError("a scale of targets must have a number and one above 0 for each target.")
    return TargetScale(mean.copy(), deviation.copy(), shared)
