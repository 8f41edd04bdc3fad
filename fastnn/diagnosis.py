"""What ails a network: the report of `Sequential.diagnose`, in numbers and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastnn.activations import ACTIVATIONS
from fastnn.layout import Block, Layout
from fastnn.prediction import Trace

__all__ = ["Diagnosis", "LayerReport", "diagnose"]

Floats = NDArray[np.floating]

# From layer to layer a factor of ten either way is common; a thousand in all is trouble.
_VANISHED = 1e-3
_EXPLODED = 1e3
_MANY = 0.5
_LARGE_UPDATE = 0.1
_SMALL_UPDATE = 1e-6


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer in numbers.

    Attributes
    ----------
    place : int
        Place in the network's layer list.
    units : int
        Width of the layer.
    activation : str
        Its activation.
    mean, spread : float
        Mean and standard deviation of its activations, over units and examples.
    dead : float or None
        Share of units that are zero for every example; None where the activation cannot die.
    saturated : float or None
        Share of activations on the flat ends of f; None where f has none.
    gradient_norm : float
        Euclidean norm of the gradient of the loss with respect to W and b.
    error_norm : float
        Euclidean norm of dZ: what of the loss's gradient reaches this layer.
    update_ratio : float or None
        Norm of one step's change of W over the norm of W; None where W is zero, or where the
        step overflows.
    """

    place: int
    units: int
    activation: str
    mean: float
    spread: float
    dead: float | None
    saturated: float | None
    gradient_norm: float
    error_norm: float
    update_ratio: float | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The state of every layer, and what to make of it.  Print it to read it.

    Attributes
    ----------
    loss : float
        Mean loss of the examples, without L2.
    layers : tuple of LayerReport
        One per layer.
    findings : tuple of str
        What is wrong and what to try, in words; empty where nothing is.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(4, "relu"), fn.Dense(1)], inputs=1)
    >>> net.biases[0][:] = -100
    >>> net.diagnose([[0.5], [1.0]], [1.0, 2.0]).findings[-1][:42]
    '100% of the units of layer 0 are dead: zer'
    """

    loss: float
    layers: tuple[LayerReport, ...]
    findings: tuple[str, ...]

    def __str__(self) -> str:
        head = ("layer", "units", "activation", "mean", "spread", "dead", "saturated", "|grad|",
                "|dZ|", "update/weight")  # fmt: skip
        rows = [head]
        for layer in self.layers:
            rows.append(
                (
                    str(layer.place),
                    str(layer.units),
                    layer.activation,
                    f"{layer.mean:.3g}",
                    f"{layer.spread:.3g}",
                    _percent(layer.dead),
                    _percent(layer.saturated),
                    f"{layer.gradient_norm:.2e}",
                    f"{layer.error_norm:.2e}",
                    "-" if layer.update_ratio is None else f"{layer.update_ratio:.1e}",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True))
                 for row in rows]  # fmt: skip
        said = self.findings or ("Nothing is wrong here.",)
        return "\n".join([f"loss {self.loss:.6g}", *lines, *(f"- {one}" for one in said)])


def _percent(share: float | None) -> str:
    """Write a share as a whole percentage."""
    return "-" if share is None else f"{share:.0%}"


def diagnose(layout: Layout, before: Floats, after: Floats | None, seen: Trace) -> Diagnosis:
    """Report on a network from one traced pass and the parameters before and after one step.

    There is nothing after a step that overflowed.
    """
    layers = tuple(
        _layer(
            block,
            layout.view(before, block.W),
            None if after is None else layout.view(after, block.W),
            seen,
            place,
        )
        for place, block in enumerate(layout.blocks)
    )
    gradients = _gradient_findings(layers, seen)
    findings = [*gradients, *_unit_findings(layers)]
    if after is not None:
        findings += _step_findings(layers, stopped=bool(gradients))
    elif not findings:
        findings.append("One step overflows. Try a smaller learning_rate, or scaled targets.")
    return Diagnosis(seen.loss, layers, tuple(findings))


def _layer(block: Block, W: Floats, stepped: Floats | None, seen: Trace, place: int) -> LayerReport:
    """Measure one layer."""
    row = ACTIVATIONS[block.activation]
    A = seen.A[place].astype(np.float64)
    db = seen.db[place]
    size = _norm(W)
    low, high = row.saturation or (0.0, 0.0)
    with np.errstate(all="ignore"):
        return LayerReport(
            place=block.place,
            units=block.outputs,
            activation=block.activation,
            mean=float(A.mean()),
            spread=float(A.std()),
            dead=float((A == 0.0).all(axis=0).mean()) if row.can_die else None,
            saturated=float(((low > A) | (high < A)).mean()) if row.saturation else None,
            gradient_norm=float(np.hypot(_norm(seen.dW[place]), 0.0 if db is None else _norm(db))),
            error_norm=_norm(seen.dZ[place]),
            update_ratio=None if stepped is None or not size else _norm(stepped - W) / size,
        )


def _norm(array: Floats) -> float:
    """Return the Euclidean norm, summed in double precision."""
    with np.errstate(all="ignore"):
        return float(np.sqrt(np.square(array, dtype=np.float64).sum()))


def _gradient_findings(layers: Sequence[LayerReport], seen: Trace) -> list[str]:
    """Say whether gradients vanish or explode on their way from the last layer to the first."""
    broken = _first_not_finite(layers, seen)
    if broken is not None:
        return [
            f"Gradients explode: from {broken} on, numbers are not finite. Try smaller weights "
            "(initializer='auto'), features and targets scaled to about 1, a smaller "
            "learning_rate, or dtype='float64'."
        ]
    errors = [layer.error_norm for layer in layers]
    if errors[-1] == 0.0:
        return ["No gradient leaves the loss: every example is already met exactly."]
    silent = [layer for layer in layers if layer.error_norm == 0.0]
    if silent:
        reason = ", as its units are dead" if silent[-1].dead == 1.0 else ""
        return [
            f"Gradients vanish: nothing at all reaches layer {silent[-1].place}{reason}; they are "
            "exactly zero from there to the first layer. Try initializer='auto', fewer layers, "
            "scaled features, or other activations."
        ]
    findings = []
    pairs = [(low, high) for low in range(len(layers)) for high in range(low + 1, len(layers))]
    ratios = {pair: errors[pair[0]] / errors[pair[1]] for pair in pairs}
    low, high = min(ratios, key=lambda pair: ratios[pair], default=(0, 0))
    if ratios.get((low, high), 1.0) < _VANISHED:
        findings.append(
            f"Gradients vanish: what reaches layer {layers[low].place} is {ratios[low, high]:.1e} "
            f"of what leaves layer {layers[high].place}. Try relu in place of sigmoid or tanh, "
            "initializer='auto', fewer layers, or scaled features."
        )
    low, high = max(ratios, key=lambda pair: ratios[pair], default=(0, 0))
    if ratios.get((low, high), 1.0) > _EXPLODED:
        findings.append(
            f"Gradients explode: what reaches layer {layers[low].place} is "
            f"{ratios[low, high]:.1e} times what leaves layer {layers[high].place}. Try smaller "
            "weights (initializer='auto'), fewer layers, l2, or a smaller learning_rate."
        )
    return findings


def _first_not_finite(layers: Sequence[LayerReport], seen: Trace) -> str | None:
    """Name where the first number that is not finite appears, in the order of computing."""
    for layer, Z, A in zip(layers, seen.Z, seen.A, strict=True):
        if not (np.isfinite(Z).all() and np.isfinite(A).all()):
            return f"the activations of layer {layer.place}"
    if not np.isfinite(seen.loss):
        return "the loss"
    for layer in reversed(layers):
        if not np.isfinite([layer.error_norm, layer.gradient_norm]).all():
            return f"the gradient of layer {layer.place}"
    return None


def _unit_findings(layers: Sequence[LayerReport]) -> list[str]:
    """Say which layers have many dead or saturated units; a sure last layer is no trouble."""
    findings = []
    for layer in layers:
        if layer.dead is not None and layer.dead >= _MANY:
            findings.append(
                f"{layer.dead:.0%} of the units of layer {layer.place} are dead: zero for every "
                "example, so that they cannot learn. Try a smaller learning_rate, "
                "initializer='he_uniform', scaled features, or tanh."
            )
        hidden = layer is not layers[-1]
        if hidden and layer.saturated is not None and layer.saturated >= _MANY:
            findings.append(
                f"{layer.saturated:.0%} of the activations of layer {layer.place} are saturated, "
                f"where {layer.activation} is flat and passes almost no gradient. Try scaled "
                "features, initializer='auto', or relu."
            )
    return findings


def _step_findings(layers: Sequence[LayerReport], stopped: bool) -> list[str]:
    """Say whether one step moves the weights too far, or hardly, unless gradients are to blame."""
    ratios = [layer.update_ratio for layer in layers if layer.update_ratio is not None]
    if not ratios or not np.isfinite(ratios).all():
        return []
    if max(ratios) > _LARGE_UPDATE:
        return [
            f"One step changes the weights of a layer by {max(ratios):.0%} of their size; about "
            "0.1 % is usual. Try a smaller learning_rate."
        ]
    if max(ratios) < _SMALL_UPDATE and not stopped:
        return [
            f"One step changes no layer's weights by more than {max(ratios):.0e} of their size; "
            "about 1e-3 is usual. Try a larger learning_rate."
        ]
    return []
