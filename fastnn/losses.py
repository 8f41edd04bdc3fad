"""The table of losses: one row each, and the records of those that take a number.

A loss is the mean over examples of a per-example loss; with sample weights it is
``sum(w l) / sum(w)``.  Every loss but cross-entropy is a mean over outputs too.  The formulas
themselves stand in ``kernels/pointwise.py`` and ``kernels/output.py`` (native) and in
``reference.py`` and ``reference_tables.py`` (textbook).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, TypeAlias

from fastnn import words
from fastnn.activations import ACTIVATIONS
from fastnn.hints import understands
from fastnn.kernels import codes
from fastnn.names import check_real, describe, lookup

__all__ = ["LOSSES", "Huber", "Loss", "LossLike", "Quantile", "resolve_loss"]


@understands(words.LOSS)
@dataclass(frozen=True, slots=True)
class Huber:
    """The Huber loss: the square near 0, straight beyond ``delta``.

    With ``e = a - y`` it is ``e^2 / 2`` where ``|e| <= delta``, else ``delta (|e| - delta / 2)``,
    as a mean over outputs.  ``loss="huber"`` stands for ``Huber()``.

    Parameters
    ----------
    delta : float, default 1.0
        Where it turns straight, in the unit of the targets, above 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Huber 1964, Robust estimation of a location parameter, Annals of Mathematical Statistics 35.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=1)
    >>> net.evaluate([[1.0]], [5.0], loss=fn.Huber(delta=2.0))
    {'loss': 8.0}
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        """Check the number once, when the record is made."""
        delta = check_real(self.delta, "delta", low=0.0, low_open=True)
        object.__setattr__(self, "delta", delta)


@understands(words.LOSS)
@dataclass(frozen=True, slots=True)
class Quantile:
    """The quantile or pinball loss, which is least at a quantile of the targets.

    With ``e = y - a`` it is ``max(quantile e, (quantile - 1) e)``, as a mean over outputs: at
    0.9 a prediction that is too low costs nine times as much as one that is too high.
    ``loss="quantile"`` stands for ``Quantile()``, half the absolute error, least at the median.

    Parameters
    ----------
    quantile : float, default 0.5
        Which quantile to predict, between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Koenker & Bassett 1978, Regression quantiles, Econometrica 46.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=1)
    >>> net.evaluate([[1.0]], [5.0], loss=fn.Quantile(0.75))
    {'loss': 3.75}
    """

    quantile: float = 0.5

    def __post_init__(self) -> None:
        """Check the number once, when the record is made."""
        quantile = check_real(
            self.quantile, "quantile", low=0.0, high=1.0, low_open=True, high_open=True
        )
        object.__setattr__(self, "quantile", quantile)


LossLike: TypeAlias = str | Huber | Quantile


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
    targets : {"real", "counts", "classes", "probabilities", "sides"}
        What ``y`` may hold: any numbers; numbers of at least 0; integer classes, one-hot rows or
        rows of probabilities; numbers from 0 to 1; -1 and 1 or 0 and 1, or integer classes, each
        against the rest.
    formula : str
        The loss of one example, for the documentation.
    source : str
        Where it comes from.
    aliases : tuple of str
        Other names that are accepted.
    outputs : int
        How many outputs of the network go with each target.
    record : type or None
        The record that sets its number; None where it has none.
    number : float
        Its own number, which the record's field holds; 0 where it has none.
    """

    name: str
    code: int
    activation: str | None
    targets: Literal["real", "counts", "classes", "probabilities", "sides"]
    formula: str
    source: str
    aliases: tuple[str, ...] = ()
    outputs: int = 1
    record: type[Huber] | type[Quantile] | None = None
    number: float = 0.0

    @property
    def settings(self) -> dict[str, float]:
        """Its number by name, as the reference takes it."""
        return {} if self.record is None else {fields(self.record)[0].name: self.number}

    def width(self, outputs: int) -> int:
        """Return the targets of an example for a network of so many outputs."""
        if outputs % self.outputs:
            raise ValueError(
                f"loss={self.name!r} needs {self.outputs} outputs for each target; "
                f"got a last layer of {outputs} unit{'' if outputs == 1 else 's'}."
            )
        return outputs // self.outputs


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
        Loss(
            name="mean_absolute_error",
            code=codes.MEAN_ABSOLUTE_ERROR,
            activation=None,
            targets="real",
            formula="mean_j |a_j - y_j|",
            source="Hastie, Tibshirani & Friedman 2009, Elements of Statistical Learning, 10.6",
            aliases=("mae", "absolute_error"),
        ),
        Loss(
            name="huber",
            code=codes.HUBER,
            activation=None,
            targets="real",
            formula="mean_j e_j^2 / 2 where |e_j| <= delta, else delta (|e_j| - delta / 2)",
            source="Huber 1964, Robust estimation of a location parameter",
            record=Huber,
            number=Huber().delta,
        ),
        Loss(
            name="log_cosh",
            code=codes.LOG_COSH,
            activation=None,
            targets="real",
            formula="mean_j log cosh(a_j - y_j)",
            source="Green 1990, Bayesian reconstructions from emission tomography data",
        ),
        Loss(
            name="poisson",
            code=codes.POISSON,
            activation="exp",
            targets="counts",
            formula="mean_j a_j - y_j log a_j",
            source="McCullagh & Nelder 1989, Generalized Linear Models, chapter 6",
        ),
        Loss(
            name="quantile",
            code=codes.QUANTILE,
            activation=None,
            targets="real",
            formula="mean_j max(quantile (y_j - a_j), (quantile - 1) (y_j - a_j))",
            source="Koenker & Bassett 1978, Regression quantiles",
            aliases=("pinball",),
            record=Quantile,
            number=Quantile().quantile,
        ),
        Loss(
            name="gaussian_nll",
            code=codes.GAUSSIAN_NLL,
            activation="identity",
            targets="real",
            formula="mean_j (s_j + (a_j - y_j)^2 / exp(s_j)) / 2, of means a, then logarithms s",
            source="Nix & Weigend 1994, Estimating the mean and variance of the target",
            outputs=2,
        ),
        Loss(
            name="hinge",
            code=codes.HINGE,
            activation=None,
            targets="sides",
            formula="mean_j max(0, 1 - t_j a_j), with the sides t = 2 y - 1",
            source="Cortes & Vapnik 1995, Support-vector networks",
        ),
    )
}


def resolve_loss(loss: object, last: str) -> Loss:
    """Return the row of a loss for a network whose last layer has the given activation."""
    if isinstance(loss, str) and loss == "auto":
        return LOSSES[ACTIVATIONS[last].loss]
    row = _row(loss)
    if row.activation not in (None, last):
        raise ValueError(
            f"loss={row.name!r} is computed together with a last layer of activation "
            f"{row.activation!r}; got a last layer of activation {last!r}. "
            f"Give the last layer activation={row.activation!r}, or use "
            f"loss={ACTIVATIONS[last].loss!r}."
        )
    return row


def _row(loss: object) -> Loss:
    """Return the row that a name or a record stands for, with its number."""
    for row in LOSSES.values():
        if row.record is not None and type(loss) is row.record:
            return replace(row, number=getattr(loss, next(iter(row.settings))))
        if row.record is not None and loss is row.record:
            raise TypeError(
                f"loss must be a name or a record; got {describe(loss)}. "
                f"Did you mean fastnn.{row.record.__name__}()?"
            )
    return lookup(LOSSES, loss, "loss")
