"""The table of losses: one row each, and the records of those that take a number.

A loss is the mean over examples of a per-example loss; with sample weights it is
``sum(w l) / sum(w)``.  Every loss but cross-entropy is a mean over outputs too.  The formulas
themselves stand in ``kernels/pointwise.py`` and ``kernels/output.py`` (native) and in
``reference.py`` and ``equations.tables`` (textbook).  The file is long because each record
documents its loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

from fastnn import own, words
from fastnn.activations import ACTIVATIONS
from fastnn.hints import understands
from fastnn.kernels import codes
from fastnn.names import NUMERIC, TargetKind, check_real, describe, lookup, several
from fastnn.own import CustomActivation as CustomActivation
from fastnn.own import CustomLoss as CustomLoss

__all__ = [
    "LOSSES",
    "RECORDS",
    "CrossEntropy",
    "Focal",
    "Huber",
    "Loss",
    "LossLike",
    "Quantile",
    "Quantiles",
    "Tweedie",
    "activation_for",
    "resolve_loss",
]


def _set(record: Any, name: str, **limits: Any) -> None:
    """Check a field and store it as a plain float, so that equal settings compare equal."""
    object.__setattr__(record, name, check_real(getattr(record, name), name, **limits))


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
        _set(self, "delta", low=0.0, low_open=True)


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
        _set(self, "quantile", low=0.0, high=1.0, low_open=True, high_open=True)


@understands(words.LOSS)
@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Cross-entropy with smoothed labels: no class is ever wholly sure.

    With a last layer of softmax it is the loss "cross_entropy" of the targets
    ``(1 - s) y + s / m`` for ``m`` classes and ``s`` the smoothing; with one of sigmoid it is
    "binary_cross_entropy" of ``(1 - s) y + s / 2``.  `evaluate` smooths too, where it gets this
    loss; give it ``loss="cross_entropy"`` for the loss of the targets themselves.

    Parameters
    ----------
    label_smoothing : float, default 0.0
        From 0 to below 1.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2016, Rethinking the Inception architecture for
    computer vision, section 7.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(4, "softmax", initializer="zeros")], inputs=1)
    >>> round(net.evaluate([[1.0]], [2], loss=fn.CrossEntropy(label_smoothing=0.1))["loss"], 4)
    1.3863
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Check the number once, when the record is made."""
        _set(self, "label_smoothing", low=0.0, high=1.0, high_open=True)


@understands(words.LOSS)
@dataclass(frozen=True, slots=True)
class Focal:
    """The focal loss: a cross-entropy that counts what is classified well already less.

    With a last layer of softmax it is ``-sum_j y_j (1 - a_j)^gamma log a_j``; with one of sigmoid
    the mean over outputs of ``-y (1 - a)^gamma log a - (1 - y) a^gamma log(1 - a)``.  For the
    paper's alpha, a factor by class, give `fit` a ``class_weight``.

    Parameters
    ----------
    gamma : float, default 2.0
        How much less, at least 0, where it is cross-entropy.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Lin, Goyal, Girshick, He & Dollar 2017, Focal loss for dense object detection, equation 4.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, "sigmoid", initializer="zeros")], inputs=1)
    >>> round(net.evaluate([[1.0]], [1.0], loss=fn.Focal(gamma=1.0))["loss"], 4)
    0.3466
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        """Check the number once, when the record is made."""
        _set(self, "gamma", low=0.0)


@understands(words.LOSS)
@dataclass(frozen=True, slots=True)
class Tweedie:
    """Half the deviance of a Tweedie distribution, whose variance is a power of the mean.

    ``a^(2 - p) / (2 - p) - y a^(1 - p) / (1 - p)`` as a mean over outputs, for a last layer of
    activation "exp" (a log link); at ``p = 1`` it is the loss "poisson", at ``p = 2`` "gamma".
    From 1 to 2 (compound Poisson and gamma: sums of many zeros and some amounts, such as claims
    or rain) targets are at least 0, from 2 on above 0.  What depends on the targets alone is left
    out, so that gradients are those of half the deviance.  ``loss="tweedie"`` stands for
    ``Tweedie()``.

    Parameters
    ----------
    power : float, default 1.5
        ``p``, at least 1.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Jorgensen 1987, Exponential dispersion models, Journal of the Royal Statistical Society B 49.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, "exp", initializer="zeros")], inputs=1)
    >>> net.evaluate([[1.0]], [3.0], loss=fn.Tweedie(1.5))
    {'loss': 8.0}
    """

    power: float = 1.5

    def __post_init__(self) -> None:
        """Check the number once, when the record is made."""
        _set(self, "power", low=1.0)


@understands(words.LOSS)
@dataclass(frozen=True, slots=True)
class Quantiles:
    """The quantile loss at several quantiles at once, whose predictions never cross.

    For one target and a last layer of activation "increasing", which has a unit for each
    quantile: the mean over the quantiles of ``max(q_j (y - a_j), (q_j - 1) (y - a_j))``.  The
    first unit is the lowest quantile, each other one adds ``log(1 + exp(z_j))``, above 0, to the
    one before, whatever the weights are.  ``loss="quantiles"`` stands for ``Quantiles()``.

    Parameters
    ----------
    quantiles : sequence of float, default (0.05, 0.5, 0.95)
        Which quantiles to predict: at most 99, each between 0 and 1, in ascending order.

    Raises
    ------
    TypeError, ValueError
        If they are not that.

    References
    ----------
    Koenker & Bassett 1978, Regression quantiles, Econometrica 46; Park, Maddix, Aubet, Kan,
    Gasthaus & Wang 2022, Learning Quantile Functions without Quantile Crossing for
    Distribution-free Time Series Forecasting, for the increments.

    Examples
    --------
    >>> import fastnn as fn
    >>> loss = fn.Quantiles([0.25, 0.75])
    >>> net = fn.Sequential([fn.Dense(2, "increasing", initializer="zeros")], inputs=1)
    >>> net.predict([[1.0]]).round(4).tolist()
    [[0.0, 0.6930999755859375]]
    >>> round(net.evaluate([[1.0]], [5.0], loss)["loss"], 4)
    2.2401
    """

    quantiles: Sequence[float] = (0.05, 0.5, 0.95)

    def __post_init__(self) -> None:
        """Check the numbers once, when the record is made."""
        given: Any = self.quantiles
        if isinstance(given, str) or not several(given):
            raise TypeError(
                "quantiles must be several numbers between 0 and 1, such as [0.05, 0.5, 0.95]; "
                f"got {describe(given)}."
            )
        listed = list(given)
        if not 1 <= len(listed) <= codes.MOST_QUANTILES:
            raise ValueError(
                f"quantiles must be 1 to {codes.MOST_QUANTILES} numbers; got {len(listed)}."
            )
        inside: dict[str, Any] = {"low": 0.0, "high": 1.0, "low_open": True, "high_open": True}
        found = tuple(
            check_real(one, f"quantiles[{place}]", **inside) for place, one in enumerate(listed)
        )
        for place in range(1, len(found)):
            if found[place] <= found[place - 1]:
                raise ValueError(
                    "quantiles must be in ascending order, none twice; got "
                    f"{found[place]} after {found[place - 1]}."
                )
        object.__setattr__(self, "quantiles", found)

    @property
    def middle(self) -> int:
        """The place of the quantile that is nearest to the median, of two the lower one."""
        return min(range(len(self.quantiles)), key=lambda n: abs(self.quantiles[n] - 0.5))


LossLike: TypeAlias = (
    str | Huber | Quantile | Quantiles | CrossEntropy | Focal | Tweedie | own.CustomLoss
)


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
    targets : {"real", "counts", "positive", "classes", "probabilities", "sides"}
        What ``y`` may hold: any numbers; numbers of at least 0; above 0; integer classes, one-hot
        rows or rows of probabilities; numbers from 0 to 1; -1 and 1 or 0 and 1, or integer
        classes, each against the rest.
    formula : str
        The loss of one example, for the documentation.
    source : str
        Where it comes from.
    aliases : tuple of str
        Other names that are accepted.
    outputs : int
        How many outputs of the network go with each target.
    given : record or None
        The record that sets its numbers; None where it has none.
    """

    name: str
    code: int
    activation: str | None
    targets: TargetKind
    formula: str
    source: str
    aliases: tuple[str, ...] = ()
    outputs: int = 1
    given: Any = None

    @property
    def settings(self) -> dict[str, Any]:
        """Its numbers by name, as the reference takes them and the plan holds them."""
        if self.given is None or isinstance(self.given, own.CustomLoss):
            return {}
        return {one.name: getattr(self.given, one.name) for one in fields(self.given)}

    @property
    def kernel_code(self) -> int:
        """What plans for kernels hold: its code, or where functions of the user's own are."""
        return int(self.given.code) if isinstance(self.given, own.CustomLoss) else self.code

    @property
    def numeric(self) -> bool:
        """Whether it compares numbers, not classes."""
        return self.targets in NUMERIC

    def width(self, outputs: int) -> int:
        """Return the targets of an example for a network of so many outputs."""
        if isinstance(self.given, Quantiles):
            return self._of_one_target(outputs)
        if outputs % self.outputs:
            raise ValueError(
                f"loss={self.name!r} needs {self.outputs} outputs for each target; "
                f"got a last layer of {outputs} unit{'' if outputs == 1 else 's'}."
            )
        return outputs // self.outputs

    def _of_one_target(self, outputs: int) -> int:
        """Return 1, as all outputs are quantiles of one target."""
        if outputs != self.outputs:
            plurals = ["" if count == 1 else "s" for count in (self.outputs, outputs)]
            raise ValueError(
                f"loss={self.given!r} needs a last layer of {self.outputs} unit{plurals[0]}, one "
                f"for each quantile of one target; got a last layer of {outputs} unit{plurals[1]}. "
                "For several targets fit a network for each."
            )
        return 1

    def middle(self, outputs: Any) -> Any:
        """Return which of the outputs (n, m) are compared with targets.

        The first ones where there are more than targets: means, with "gaussian_nll"; of quantiles
        the one that is nearest to the median.
        """
        if isinstance(self.given, Quantiles):
            return outputs[:, self.given.middle : self.given.middle + 1]
        return outputs[:, : self.width(outputs.shape[1])]

    @property
    def ordered(self) -> bool:
        """Whether outputs are several quantiles of one target."""
        return isinstance(self.given, Quantiles)


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
            given=CrossEntropy(),
        ),
        Loss(
            name="cross_entropy",
            code=codes.CROSS_ENTROPY,
            activation="softmax",
            targets="classes",
            formula="-sum_j y_j log a_j",
            source="Bishop 2006, Pattern Recognition and Machine Learning, equation 4.108",
            given=CrossEntropy(),
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
            given=Huber(),
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
            given=Quantile(),
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
        Loss(
            name="focal",
            code=codes.FOCAL,
            activation="softmax",
            targets="classes",
            formula="-sum_j y_j (1 - a_j)^gamma log a_j",
            source="Lin, Goyal, Girshick, He & Dollar 2017, Focal loss, equation 4",
            given=Focal(),
        ),
        Loss(
            name="binary_focal",
            code=codes.BINARY_FOCAL,
            activation="sigmoid",
            targets="probabilities",
            formula="mean_j -(y_j (1 - a_j)^gamma log a_j + (1 - y_j) a_j^gamma log(1 - a_j))",
            source="Lin, Goyal, Girshick, He & Dollar 2017, Focal loss, equation 4",
            given=Focal(),
        ),
        Loss(
            name="gamma",
            code=codes.GAMMA,
            activation="exp",
            targets="positive",
            formula="mean_j log a_j + y_j / a_j",
            source="McCullagh & Nelder 1989, Generalized Linear Models, chapter 8",
        ),
        Loss(
            name="tweedie",
            code=codes.TWEEDIE,
            activation="exp",
            targets="counts",
            formula="mean_j a_j^(2 - power) / (2 - power) - y_j a_j^(1 - power) / (1 - power)",
            source="Jorgensen 1987, Exponential dispersion models",
            given=Tweedie(),
        ),
        Loss(
            name="quantiles",
            code=codes.QUANTILES,
            activation="increasing",
            targets="real",
            formula="mean_j max(q_j (y - a_j), (q_j - 1) (y - a_j)), of one y",
            source="Koenker & Bassett 1978, Regression quantiles",
            outputs=3,
            given=Quantiles(),
        ),
    )
}

own.RESERVED.update(LOSSES, *(row.aliases for row in LOSSES.values()))

#: The records, by their names.
RECORDS: dict[str, type[Any]] = {
    type(row.given).__name__: type(row.given) for row in LOSSES.values() if row.given is not None
}


def resolve_loss(loss: object, last: str) -> Loss:
    """Return the row of a loss for a network whose last layer has the given activation."""
    if isinstance(loss, str) and loss == "auto":
        return LOSSES[ACTIVATIONS[last].loss]
    row = _row(loss, last)
    if row.activation not in (None, last):
        fitting, name = repr(row.activation), repr(row.name)
        if not isinstance(loss, str):
            # A record may have a row for each of several activations.
            kin = [one for one in LOSSES.values() if type(one.given) is type(row.given)]
            if len(kin) > 1:
                name, fitting = str(loss), " or ".join(repr(one.activation) for one in kin)
        raise ValueError(
            f"loss={name} is computed together with a last layer of activation {fitting}; got a "
            f"last layer of activation {last!r}. Give the last layer activation={fitting}, or use "
            f"loss={ACTIVATIONS[last].loss!r}."
        )
    return row


def activation_for(loss: object) -> str:
    """Return the activation of a last layer that a record goes with."""
    row = next((row for row in LOSSES.values() if type(row.given) is type(loss)), None)
    return "identity" if row is None or row.activation is None else row.activation


def _row(loss: object, last: str) -> Loss:
    """Return the row that a name or a record stands for, with its numbers.

    Of several rows of one record it is that of the last layer's activation, else the first.
    """
    if isinstance(loss, str):
        loss = own.LOSSES.get(loss, loss)
    if isinstance(loss, own.CustomLoss):
        return Loss(
            loss.name, codes.NO_LOSS, None, "real", "the user's own", "the user", given=loss
        )
    kind = loss if isinstance(loss, type) else type(loss)
    rows = [row for row in LOSSES.values() if type(row.given) is kind and row.given is not None]
    if not rows:
        return lookup(LOSSES, loss, "loss")
    if isinstance(loss, type):
        raise TypeError(
            f"loss must be a name or a record; got {describe(loss)}. "
            f"Did you mean fastnn.{loss.__name__}()?"
        )
    row = next((row for row in rows if row.activation == last), rows[0])
    if isinstance(loss, Tweedie):
        return _of_power(loss, row)
    if isinstance(loss, Quantiles):
        return replace(row, given=loss, outputs=len(loss.quantiles))
    return replace(row, given=loss)


def _of_power(loss: Tweedie, row: Loss) -> Loss:
    """Return the row of a Tweedie loss; at 1 and 2 its formula has limits, which are rows."""
    if loss.power in (1.0, 2.0):
        return LOSSES["poisson" if loss.power == 1.0 else "gamma"]
    return replace(row, given=loss, targets="counts" if loss.power < 2.0 else "positive")
