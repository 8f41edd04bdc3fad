"""The tables of the estimators: what their parameters accept, and what they mean to the engine.

An objective says which loss of the library stands for one of scikit-learn's, and by which factors
scikit-learn counts it; a solver says which optimizer's record it makes of the parameters.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.utils._param_validation import Interval, InvalidParameterError, Options, StrOptions

from fastnn.activations import ACTIVATIONS, activation_named
from fastnn.callbacks import Callback
from fastnn.conventions import Conventions
from fastnn.losses import (
    RECORDS,
    CrossEntropy,
    Focal,
    Huber,
    Loss,
    LossLike,
    activation_for,
    resolve_loss,
)  # fmt: skip
from fastnn.names import describe, several
from fastnn.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    AMSGrad,
    Lion,
    Nadam,
    Optimizer,
    RAdam,
    RMSprop,
    Rprop,
)
from fastnn.own import CustomActivation, CustomLoss
from fastnn.schedules import SCHEDULES, Schedule
from fastnn.words import ESTIMATOR, ESTIMATOR_DATA

__all__ = [
    "CLASSIFIER",
    "COMMON",
    "OBJECTIVES",
    "RATES",
    "REGRESSOR",
    "SOLVERS",
    "THEIRS",
    "Objective",
    "check_sizes",
    "class_objective",
    "hidden_sizes",
    "method_words",
    "objective_of",
    "plain",
]

Array = NDArray[Any]

# The largest momentum below 1: scikit-learn allows 1 itself, and 1 is what float32 makes of it.
_ALMOST_ONE = float(np.nextafter(1.0, 0.0))

# The module that warning filters see for warnings that scikit-learn's own classes give too.
THEIRS = "sklearn.neural_network._multilayer_perceptron"

# scikit-learn's learning-rate rules, which apply to "sgd" only.
RATES = ("constant", "invscaling", "adaptive")


_SEEDS = "be an integer from 0 to 4294967295, a RandomState of NumPy's, or None"


@dataclass(frozen=True, slots=True)
class Objective:
    """One row: a loss as scikit-learn counts it.

    Attributes
    ----------
    loss : str or record
        Its row in `fastnn.losses`, by name or record.
    out_activation : str
        Activation of the last layer, by scikit-learn's name.
    scales : callable
        Number of outputs -> what the library's loss and its gradient are multiplied by.
    constant : callable or None
        Targets, shape (n, m) -> what is added to the loss of each example, shape (n,); it has no
        gradient.
    """

    loss: LossLike
    out_activation: str
    scales: Callable[[int], tuple[float, float]] = lambda outputs: (1.0, 1.0)
    constant: Callable[[Array], Array] | None = None

    @property
    def row(self) -> Loss:
        """Its row in `fastnn.losses`."""
        return resolve_loss(self.loss, activation_named(self.out_activation, "activation").name)

    def units(self, outputs: int) -> int:
        """Return the width of the last layer for so many outputs."""
        return outputs * self.row.outputs

    def conventions(self, outputs: int, dtype: DTypeLike, solver: str) -> Conventions:
        """Return how scikit-learn counts for so many outputs, this dtype and this solver."""
        loss_scale, gradient_scale = self.scales(outputs)
        return Conventions(
            loss_scale=loss_scale,
            gradient_scale=gradient_scale,
            # Probabilities are clipped there at the machine epsilon before their logarithm.
            loss_limit=-float(np.log(np.finfo(dtype).eps)),
            shared_penalty=True,
            by_examples=True,
            # Of the other rules scikit-learn knows none: they are the library's.
            bare_epsilon=solver == "adam",
        )


def _deviance(y: Array) -> Array:
    """Return sum_j y_j log y_j - y_j, which makes half the deviance of the Poisson loss.

    Where targets are missing it is the mean over those that are known, times their number.
    """
    with np.errstate(all="ignore"):
        logs = np.where(y == 0, 0.0, y * np.log(y))
    known = ~np.isnan(y)
    if known.all():
        return np.asarray((logs - y).sum(axis=1))
    sums = np.where(known, logs - y, 0.0).sum(axis=1)
    return np.asarray(sums * y.shape[1] / np.maximum(known.sum(axis=1), 1))


OBJECTIVES: dict[str, Objective] = {
    # Half the squared error; the loss is a mean over outputs, its gradient that of their sum.
    "squared_error": Objective("mean_squared_error", "identity", lambda m: (0.5, m / 2)),
    # The library's own: loss and gradient agree.
    "mean_squared_error": Objective("mean_squared_error", "identity"),
    "mean_absolute_error": Objective("mean_absolute_error", "identity"),
    "huber": Objective("huber", "identity"),
    "log_cosh": Objective("log_cosh", "identity"),
    "quantile": Objective("quantile", "identity"),
    "gaussian_nll": Objective("gaussian_nll", "identity"),
    "quantiles": Objective("quantiles", "increasing"),
    "gamma": Objective("gamma", "exp"),
    "tweedie": Objective("tweedie", "exp"),
    "poisson": Objective("poisson", "exp", lambda m: (float(m), float(m)), _deviance),
    "multiclass": Objective("cross_entropy", "softmax"),
    "binary": Objective("binary_cross_entropy", "logistic", lambda m: (float(m), float(m))),
}


# The library's losses that make sense of outputs that are probabilities of classes.
_OF_PROBABILITIES = ("mean_squared_error", "mean_absolute_error", "huber", "log_cosh")


def class_objective(loss: Any, several: bool, label_smoothing: float = 0.0) -> Objective:
    """Return the row of a classifier's loss, where one of several classes is right or not."""
    if isinstance(loss, str) and loss == "log_loss":
        row = OBJECTIVES["multiclass" if several else "binary"]
        return replace(row, loss=CrossEntropy(label_smoothing)) if label_smoothing else row
    if label_smoothing:
        raise ValueError(
            "label_smoothing must be 0 unless loss is 'log_loss'; "
            f"got label_smoothing={label_smoothing!r} and loss={loss!r}."
        )
    if isinstance(loss, str) and loss == "hinge":
        return Objective("hinge", "identity")
    return Objective(loss, "softmax" if several else "logistic")


def objective_of(loss: Any) -> Objective:
    """Return the row of a regressor's loss, or one for a record of the library's."""
    return OBJECTIVES[loss] if isinstance(loss, str) else Objective(loss, activation_for(loss))


def _sgd(estimator: Any, dtype: DTypeLike) -> Optimizer:
    """Return the record of solver="sgd"."""
    momentum = min(plain(estimator.momentum, "momentum", dtype), _ALMOST_ONE)
    return SGD(
        plain(estimator.learning_rate_init, "learning_rate_init", dtype),
        momentum=momentum,
        nesterov=bool(estimator.nesterovs_momentum) and momentum > 0.0,
    )


def _reads(record: Callable[..., Optimizer], *names: str) -> Callable[[Any, DTypeLike], Optimizer]:
    """Return what makes a record of the learning rate and of parameters that bear its names.

    Where one of them is None the record's own number stays.
    """

    def make(estimator: Any, dtype: DTypeLike) -> Optimizer:
        given = {name: getattr(estimator, name) for name in names}
        numbers = {
            name: plain(value, name, dtype) for name, value in given.items() if value is not None
        }
        rate = plain(estimator.learning_rate_init, "learning_rate_init", dtype)
        return record(learning_rate=rate, **numbers)

    return make


_OF_ADAM = ("beta_1", "beta_2", "epsilon")

# None: not a rule of steps.
SOLVERS: dict[str, Callable[[Any, DTypeLike], Optimizer] | None] = {
    "lbfgs": None,
    "sgd": _sgd,
    "adam": _reads(Adam, *_OF_ADAM),
    "adamw": _reads(AdamW, *_OF_ADAM, "weight_decay"),
    "nadam": _reads(Nadam, *_OF_ADAM),
    "radam": _reads(RAdam, *_OF_ADAM),
    "rmsprop": _reads(RMSprop, "rho", "epsilon"),
    "adagrad": _reads(Adagrad, "epsilon"),
    "rprop": _reads(Rprop),
    "adadelta": _reads(Adadelta, "rho"),
    "adamax": _reads(Adamax, *_OF_ADAM),
    "amsgrad": _reads(AMSGrad, *_OF_ADAM),
    "lion": _reads(Lion, "weight_decay"),
}


def plain(value: Any, name: str, dtype: DTypeLike = np.float64) -> float:
    """Return a number of any kind as a float that the dtype can tell from 0 and infinity."""
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    limits = np.finfo(dtype)
    if number > float(limits.max):
        raise ValueError(
            f"{name} must be a number that fits {np.dtype(dtype)}; got {describe(value)}."
        )
    return max(number, float(limits.smallest_subnormal)) if number > 0.0 else number


def check_sizes(parameters: Mapping[str, Any]) -> None:
    """Refuse integers that no float can hold, which scikit-learn's messages could not write.

    Parameters
    ----------
    parameters : mapping of str to object
        An estimator's.

    Raises
    ------
    InvalidParameterError
        Which is a ValueError and a TypeError.
    """
    for name, value in parameters.items():
        several = isinstance(value, list | tuple)
        parts = value if several else (value,)
        if any(isinstance(part, int) and abs(part) > sys.float_info.max for part in parts):
            wanted = "hold numbers below 1e308" if several else "be a number below 1e308"
            if name == "random_state":
                wanted = _SEEDS
            raise InvalidParameterError(f"{name} must {wanted}; got {describe(value)}.")


def method_words(kind: str, parameters: Iterable[str]) -> dict[str, str]:
    """Return what to say of arguments that the methods of a class do not take.

    Parameters
    ----------
    kind : str
        Name of the class.
    parameters : iterable of str
        Its parameters, which are most likely meant.
    """
    said = {name: f"It is given to the class: {kind}({name}=...)." for name in parameters}
    said |= {word: said.get(meant, meant) for word, meant in ESTIMATOR.items()}
    return said | ESTIMATOR_DATA


def hidden_sizes(value: Any) -> list[int]:
    """Return the widths of the hidden layers, or say what is wrong with them."""
    sizes = list(value) if several(value) else [value]
    for size in sizes:
        if isinstance(size, bool | np.bool_) or not isinstance(size, Integral):
            raise TypeError(
                f"hidden_layer_sizes must be an integer or several of them; got {describe(size)}."
            )
    if any(size <= 0 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {[int(size) for size in sizes]}.")
    return [int(size) for size in sizes]


_ACTIVATION_NAMES = {name for row in ACTIVATIONS.values() for name in (row.name, *row.aliases)}

COMMON: dict[str, Any] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions(_ACTIVATION_NAMES), list, tuple, CustomActivation],
    "solver": [StrOptions(set(SOLVERS))],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({*RATES, *SCHEDULES}), Schedule, callable, "array-like"],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "monitor": [str, callable, None],
    "monitor_mode": [StrOptions({"auto", "min", "max"})],
    "callbacks": [list, tuple, Callback, callable, None],
    "coefs_init": [list, tuple, None],
    "intercepts_init": [list, tuple, None],
    "max_time": [Interval(Real, 0, None, closed="neither"), None],
    "dtype": [StrOptions({"float32", "float64"}), Options(type, {np.float32, np.float64}), None],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
    "weight_decay": [Interval(Real, 0, None, closed="left"), None],
    "rho": [Interval(Real, 0, 1, closed="left"), None],
    "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    "search": [StrOptions({"own", "continued", "scipy"})],
    "layers": [list, tuple, None],
    "standardize": ["boolean"],
    "missing_targets": [StrOptions({"error", "ignore"})],
}

CLASSIFIER: dict[str, Any] = COMMON | {
    "class_weight": [dict, list, StrOptions({"balanced"}), None],
    "loss": [StrOptions({"log_loss", "hinge", *_OF_PROBABILITIES}), Huber, Focal],
    "label_smoothing": [Interval(Real, 0, 1, closed="left")],
}

REGRESSOR: dict[str, Any] = COMMON | {
    "loss": [
        StrOptions(set(OBJECTIVES) - {"multiclass", "binary"}),
        *(record for record in RECORDS.values() if record not in (CrossEntropy, Focal)),
        CustomLoss,
    ],
    "scale_targets": ["boolean"],
}
