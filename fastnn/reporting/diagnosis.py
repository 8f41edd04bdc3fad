"""What is wrong with a network: the report of `Sequential.diagnose`, in numbers and in words.

This file is long because every finding stands beside the numbers by which it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastnn.activations import ACTIVATIONS
from fastnn.layers import Dense
from fastnn.layout import Layout, Operation
from fastnn.losses import Loss
from fastnn.reporting.constant import constant_loss
from fastnn.reporting.cures import Cures, norm, tried
from fastnn.reporting.drawing import diagnosis_html
from fastnn.reporting.scales import Columns
from fastnn.tracing import Trace

__all__ = ["TRIAL_STEPS", "Diagnosis", "Facts", "LayerReport", "diagnose"]

Floats = NDArray[np.floating]

# Steps on all examples that show whether a learning rate is too large, with the loss before each.
TRIAL_STEPS = 10

# From layer to layer a factor of ten either way is common; a thousand in all is trouble.
_VANISHED = 1e-3
_EXPLODED = 1e3
_MANY = 0.5
_LARGE_UPDATE = 0.1
_SMALL_UPDATE = 1e-6

# Losses by that of the best constant prediction: a step that leads above the first is too large,
# a training that has not come below the second has learnt nothing, one below the third has.
_LOST = 1.3
_NOTHING_LEARNT = 0.99
_LEARNT = 0.1

# Singular values of W by the largest, below which its units all go one way.
_ALIKE = 0.03
_THE_SAME = 1e-4


_HEAD = (
    "layer", "units", "activation", "mean", "spread", "dead", "saturated", "|grad|", "|dZ|",
    "update/weight",
)  # fmt: skip
_NOTHING_WRONG = ("Nothing is wrong here.",)


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer in numbers.

    Attributes
    ----------
    place : int or str
        Place in the network's layer list; a text such as "1.0" for one inside another layer.
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

    place: int | str
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
        rows = [_HEAD, *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        lines = ["  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True))
                 for row in rows]  # fmt: skip
        said = self.findings or _NOTHING_WRONG
        return "\n".join([f"loss {self.loss:.6g}", *lines, *(f"- {one}" for one in said)])

    def _repr_html_(self) -> str:
        """Show a notebook the findings, then the numbers."""
        return diagnosis_html(self.loss, _HEAD, self._rows(), self.findings or _NOTHING_WRONG)

    def _rows(self) -> list[tuple[str, ...]]:
        """Return the layers' numbers, written out."""
        return [
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
            for layer in self.layers
        ]


def _percent(share: float | None) -> str:
    """Write a share as a whole percentage."""
    return "-" if share is None else f"{share:.0%}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a report is made of, in addition to the traced pass.

    Attributes
    ----------
    layout : Layout
        Of the parameters.
    layers : tuple of Dense
        The records of the layers with parameters.
    parameters : ndarray (size,)
        As they are.
    stepped : ndarray (size,) or None
        As they are after one step; None where it overflows.
    trial : tuple of float
        The training loss before each of a few steps on all examples, infinite once one overflows.
    loss : Loss
        Its row.
    targets : ndarray (n, m)
        One-hot rows for classes.
    columns : tuple of Columns
        The scales of X, and of y where it holds real numbers.
    trained : bool
        Whether any step was taken before.
    """

    layout: Layout
    layers: tuple[Dense, ...]
    parameters: Floats
    stepped: Floats | None
    trial: tuple[float, ...]
    loss: Loss
    targets: Floats
    columns: tuple[Columns, ...]
    trained: bool


def diagnose(facts: Facts, seen: Trace) -> Diagnosis:
    """Report on a network from one traced pass and what a few steps do to it."""
    layout, before, after = facts.layout, facts.parameters, facts.stepped
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
    constant = constant_loss(facts.loss, facts.targets)
    learnt = facts.trained and np.isfinite(seen.loss) and bool(seen.loss < _LEARNT * constant)
    scales = _scale_findings(facts, learnt)
    cures = Cures.of(facts.layers, layout, before, bool(scales))
    gradients = _gradient_findings(layers, seen, cures)
    findings = [
        *scales, *gradients, *_alike_findings(facts), *_unit_findings(layers, cures, learnt)
    ]  # fmt: skip
    if after is not None:
        findings += _step_findings(layers, facts.trial, constant, stopped=bool(gradients))
    elif not gradients:
        findings.append(f"One step overflows. Try a smaller learning_rate{cures.scaled}.")
    if facts.trained and np.isfinite(seen.loss) and constant > 0.0:
        findings = [*_constant_findings(facts, seen, constant, alone=not findings), *findings]
    return Diagnosis(seen.loss, layers, tuple(findings))


def _layer(
    block: Operation, W: Floats, stepped: Floats | None, seen: Trace, place: int
) -> LayerReport:
    """Measure one layer."""
    row = ACTIVATIONS[block.activation]
    A = seen.A[place].astype(np.float64)
    db = seen.db[place]
    size = norm(W)
    low, high = row.saturation or (0.0, 0.0)
    with np.errstate(all="ignore"):
        return LayerReport(
            place=block.label,
            units=block.outputs,
            activation=block.activation,
            mean=float(A.mean()),
            spread=float(A.std()),
            dead=float((A == 0.0).all(axis=0).mean()) if row.can_die else None,
            saturated=float(((low > A) | (high < A)).mean()) if row.saturation else None,
            gradient_norm=float(np.hypot(norm(seen.dW[place]), 0.0 if db is None else norm(db))),
            error_norm=norm(seen.dZ[place]),
            update_ratio=None if stepped is None or not size else norm(stepped - W) / size,
        )


def _scale_findings(facts: Facts, learnt: bool) -> list[str]:
    """Say what is out of scale, unless the network has learnt well from it."""
    said = [one for columns in facts.columns for one in columns.findings()]
    if learnt:
        return [one for one in said if "can tell apart" in one]
    return said


def _alike_findings(facts: Facts) -> list[str]:
    """Say in which hidden layers all units compute the same, or what differs by a factor only."""
    alike = []
    for block in facts.layout.blocks[:-1]:
        W = facts.layout.view(facts.parameters, block.W).astype(np.float64)
        if block.outputs < 2 or not np.isfinite(W).all():
            continue
        of_b = None if block.b is None else facts.layout.view(facts.parameters, block.b)
        whole = W if of_b is None else np.vstack([W, of_b])
        same = np.abs(whole - whole[:, :1]).max() <= _THE_SAME * np.abs(whole).max()
        one_way = False
        if min(W.shape) > 1 and block.outputs > 2 and not same:
            sizes = np.linalg.svd(W, compute_uv=False)
            one_way = sizes[1] <= _ALIKE * sizes[0]
        if same or one_way:
            alike.append(block.name)
    if not alike:
        return []
    many = len(alike) > 1
    return [
        f"All units of layer{'s' if many else ''} {', '.join(alike)} compute the same but for a "
        f"factor: the columns of {'their' if many else 'its'} W point one way, so that "
        f"{'they' if many else 'it'} can do no more than one unit can. Begin from weights that "
        "differ: a new network with initializer='auto'."
    ]


def _constant_findings(facts: Facts, seen: Trace, constant: float, alone: bool) -> list[str]:
    """Say that a trained network is no better than one prediction for all examples."""
    if seen.loss < _NOTHING_LEARNT * constant:
        return []
    what = {
        "cross_entropy": "answering with the share of each class",
        "binary_cross_entropy": "answering with the share of 1",
        "mean_squared_error": "predicting the mean of y",
        "poisson": "predicting the mean of y",
        "mean_absolute_error": "predicting the median of y",
        "quantiles": "predicting the quantiles of y",
        "gaussian_nll": "predicting the mean and the variance of y",
    }.get(facts.loss.name, "predicting the best constant")
    said = (
        f"The loss, {seen.loss:.4g}, is no better than that of {what} for every example, "
        f"{constant:.4g}."
    )
    if facts.loss.name == "cross_entropy":
        shares = facts.targets.mean(axis=0)
        common = int(shares.argmax())
        said += f" The commonest class, {common}, has {shares[common]:.0%} of the examples."
    cure = " What may be the reason follows."
    if alone:
        cure = (
            " Try more epochs, another learning_rate or more units; if nothing helps, X may not "
            "tell y."
        )
    return [said + cure]


def _gradient_findings(layers: Sequence[LayerReport], seen: Trace, cures: Cures) -> list[str]:
    """Say whether gradients vanish or explode on their way from the last layer to the first."""
    broken = _first_not_finite(layers, seen)
    if broken is not None:
        cure = tried(cures.weights, cures.scaled, ", a smaller learning_rate", cures.double)
        return [f"Gradients explode: from {broken} on, numbers are not finite.{cure}"]
    errors = [layer.error_norm for layer in layers]
    if errors[-1] == 0.0:
        return ["No gradient leaves the loss: every example is already met exactly."]
    silent = [layer for layer in layers if layer.error_norm == 0.0]
    if silent:
        reason = ", as its units are dead" if silent[-1].dead == 1.0 else ""
        cure = "" if reason else tried(cures.weights, ", fewer layers", cures.scaled, cures.steep)
        return [
            f"Gradients vanish: nothing at all reaches layer {silent[-1].place}{reason}; they are "
            f"exactly zero from there to the first layer.{cure}"
        ]
    findings = []
    pairs = [(low, high) for low in range(len(layers)) for high in range(low + 1, len(layers))]
    ratios = {pair: errors[pair[0]] / errors[pair[1]] for pair in pairs}
    low, high = min(ratios, key=lambda pair: ratios[pair], default=(0, 0))
    if ratios.get((low, high), 1.0) < _VANISHED:
        cure = tried(cures.steep, cures.weights, ", fewer layers", cures.scaled)
        findings.append(
            f"Gradients vanish: what reaches layer {layers[low].place} is {ratios[low, high]:.1e} "
            f"of what leaves layer {layers[high].place}.{cure}"
        )
    low, high = max(ratios, key=lambda pair: ratios[pair], default=(0, 0))
    if ratios.get((low, high), 1.0) > _EXPLODED:
        cure = tried(cures.weights, ", fewer layers", ", l2", ", a smaller learning_rate")
        findings.append(
            f"Gradients explode: what reaches layer {layers[low].place} is "
            f"{ratios[low, high]:.1e} times what leaves layer {layers[high].place}.{cure}"
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


def _unit_findings(layers: Sequence[LayerReport], cures: Cures, learnt: bool) -> list[str]:
    """Say which layers have many dead or saturated units; a sure last layer is no trouble.

    Nor are sure units below it, where the network has learnt well.
    """
    findings = []
    for layer, undying in zip(layers, cures.undying, strict=True):
        if layer.dead is not None and layer.dead >= _MANY:
            cure = tried(", a smaller learning_rate", cures.weights, cures.scaled, undying)
            findings.append(
                f"{layer.dead:.0%} of the units of layer {layer.place} are dead: zero for every "
                f"example, so that they cannot learn.{cure}"
            )
        blamed = layer is not layers[-1] and not learnt
        if blamed and layer.saturated is not None and layer.saturated >= _MANY:
            cure = tried(cures.scaled, cures.weights, cures.steep)
            findings.append(
                f"{layer.saturated:.0%} of the activations of layer {layer.place} are saturated, "
                f"where {layer.activation} is flat and passes almost no gradient.{cure}"
            )
    return findings


def _step_findings(
    layers: Sequence[LayerReport], trial: Sequence[float], constant: float, stopped: bool
) -> list[str]:
    """Say whether steps move the weights too far, or hardly, unless gradients are to blame."""
    ratios = [layer.update_ratio for layer in layers if layer.update_ratio is not None]
    if not ratios or not np.isfinite(ratios).all():
        return []
    if max(ratios) > _LARGE_UPDATE:
        first, *later = trial
        # A long first step may be a good one, as Adam's is that of its learning rate whatever the
        # gradient: what counts is where a few of them lead.
        reached = min(later[len(later) // 2 :], default=first)
        if reached <= max(first if constant <= 0.0 else 0.0, _LOST * constant):
            return []
        if reached < first and max(ratios) < 1.0:
            return []
        return [
            f"One step changes the weights of a layer by {max(ratios):.0%} of their size, and "
            f"{len(later)} steps take the loss from {first:.3g} to {reached:.3g}. Try a smaller "
            "learning_rate."
        ]
    if max(ratios) < _SMALL_UPDATE and not stopped:
        return [
            f"One step changes no layer's weights by more than {max(ratios):.0e} of their size; "
            "about 1e-3 is usual. Try a larger learning_rate."
        ]
    return []
