"""The table of losses: one row each.

A loss is the mean over examples of a per-example loss; with sample weights it is
``sum(w l) / sum(w)``.  Every loss but cross-entropy is a mean over outputs too.  The formulas
themselves stand in ``kernels/output.py`` (native) and in ``reference.py`` (textbook).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastnn.activations import ACTIVATIONS
from fastnn.kernels import codes
from fastnn.names import lookup

__all__ = ["LOSSES", "Loss", "resolve_loss"]


@dataclass(frozen=True, slots=True)
class Loss:
    """One row: what the rest of the library needs to know about a loss.

    Attributes
    ----------
    name : str
        The field's name for it.
    code : int
        What the kernels switch on.
    activation : str or None
        The last layer's activation that this loss is matched with: both are then computed
        together from Z, so that nothing overflows.  None where any activation will do.
    targets : {"real", "classes", "probabilities"}
        What ``y`` may hold: any numbers; integer classes, one-hot rows or rows of
        probabilities; numbers from 0 to 1.
    formula : str
        The loss of one example, for the documentation.
    source : str
        Where it comes from.
    aliases : tuple of str
        Other names that are accepted.
    """

    name: str
    code: int
    activation: str | None
    targets: Literal["real", "classes", "probabilities"]
    formula: str
    source: str
    aliases: tuple[str, ...] = ()


LOSSES: dict[str, Loss] = {
    row.name: row
    for row in (
        Loss(
            name="mean_squared_error",
            code=codes.MEAN_SQUARED_ERROR,
            activation=None,
            targets="real",
            formula="mean_j (a_j - y_j)^2",
            source="Goodfellow, Bengio & Courville 2016, Deep Learning, section 5.1.4",
            aliases=("mse", "squared_error"),
        ),
        Loss(
            name="binary_cross_entropy",
            code=codes.BINARY_CROSS_ENTROPY,
            activation="sigmoid",
            targets="probabilities",
            formula="mean_j -(y_j log a_j + (1 - y_j) log(1 - a_j))",
            source="Bishop 2006, Pattern Recognition and Machine Learning, equation 4.90",
        ),
        Loss(
            name="cross_entropy",
            code=codes.CROSS_ENTROPY,
            activation="softmax",
            targets="classes",
            formula="-sum_j y_j log a_j",
            source="Bishop 2006, Pattern Recognition and Machine Learning, equation 4.108",
        ),
    )
}


def resolve_loss(loss: object, last: str) -> Loss:
    """Return the row of a loss for a network whose last layer has the given activation."""
    if isinstance(loss, str) and loss == "auto":
        return LOSSES[ACTIVATIONS[last].loss]
    row = lookup(LOSSES, loss, "loss")
    if row.activation not in (None, last):
        raise ValueError(
            f"loss={row.name!r} is computed together with a last layer of activation "
            f"{row.activation!r}; got a last layer of activation {last!r}. "
            f"Give the last layer activation={row.activation!r}, or use "
            f"loss={ACTIVATIONS[last].loss!r}."
        )
    return row
