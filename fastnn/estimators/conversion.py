"""Estimators of scikit-learn made into the library's, and back, the optimizer's state included."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn import neural_network
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils.validation import check_is_fitted

from fastnn.activations import activation_named
from fastnn.estimators.layered import check_plain
from fastnn.estimators.pace import Pace
from fastnn.estimators.parameters import RATES
from fastnn.layout import Layout
from fastnn.names import describe
from fastnn.optimizers import SGD, Adam
from fastnn.own import CustomActivation

__all__ = [
    "from_sklearn",
    "to_sklearn",
]

Floats = NDArray[np.floating]
Ours = TypeVar("Ours")

# What is recomputed on either side, or has another form there.
_APART = {"coefs_", "intercepts_", "validation_loss_curve_", "n_features_in_"}
_PRIVATE = ("_label_binarizer", "_no_improvement_count")

# What scikit-learn's classes take; its "squared_error" is half the library's, and has another
# multiple of its gradient.
_KNOWN = {"learning_rate": RATES, "solver": ("adam", "sgd", "lbfgs")}
_LOSSES = {"MLPClassifier": ("log_loss",), "MLPRegressor": ("squared_error", "poisson")}

_LAST = {
    neural_network.MLPClassifier: ("softmax", "logistic"),
    neural_network.MLPRegressor: ("identity", "exp"),
}

# The library's names of what scikit-learn has too.
_NAMES = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}


def from_sklearn(kind: type[Ours], theirs: Any) -> Ours:
    """Return scikit-learn's fitted estimator as one of the library's classes."""
    expected = getattr(neural_network, kind.__name__)
    if not isinstance(theirs, expected):
        raise TypeError(
            f"fitted must be an estimator of sklearn.neural_network.{kind.__name__}; "
            f"got {describe(theirs)}."
        )
    check_is_fitted(theirs)
    ours: Any = kind(**theirs.get_params())
    _hand_over(theirs, ours)
    ours.coefs_ = [np.array(W) for W in theirs.coefs_]
    ours.intercepts_ = [np.array(b) for b in theirs.intercepts_]
    ours._adopt(ours._current())
    if hasattr(theirs, "loss_curve_"):
        ours.validation_loss_curve_ = None
    if hasattr(theirs, "_optimizer"):
        ours._optimizer = _pace(ours, theirs._optimizer)
    converted: Ours = ours
    return converted


def to_sklearn(ours: Any) -> Any:
    """Return a fitted estimator as one of scikit-learn's class of the same name."""
    check_is_fitted(ours)
    # A copy is of one state, whatever another thread trains meanwhile.
    ours = copy.copy(ours)
    check_plain(ours, "to_sklearn")
    kind = _theirs(ours)
    given = ours.get_params()
    parameters = {name: given[name] for name in kind().get_params()}
    parameters["activation"] = _one_activation(ours)
    for name, known in (("loss", _LOSSES[kind.__name__]), *_KNOWN.items()):
        if given[name] not in known:
            raise ValueError(
                f"{name} must be one that scikit-learn has, {', '.join(map(repr, known))}; "
                f"got {given[name]!r}."
            )
    if ours.coefs_[-1].shape[1] != ours.n_outputs_ or ours.out_activation_ not in _LAST[kind]:
        raise ValueError(
            "the weights must be those of a loss that scikit-learn has; got a last layer of "
            f"{ours.coefs_[-1].shape[1]} units with activation {ours.out_activation_!r} for "
            f"n_outputs_={ours.n_outputs_}."
        )
    theirs = kind(**parameters)
    _hand_over(ours, theirs)
    theirs.coefs_ = [W.copy() for W in ours.coefs_]
    theirs.intercepts_ = [b.copy() for b in ours.intercepts_]
    theirs._best_coefs = [W.copy() for W in ours.coefs_]
    theirs._best_intercepts = [b.copy() for b in ours.intercepts_]
    if hasattr(ours, "_optimizer"):
        theirs._optimizer = _optimizer(ours)
    return theirs


def _theirs(ours: Any) -> Any:
    """Return scikit-learn's class of the same name, or of that of a subclass's base."""
    names = (kind.__name__ for kind in type(ours).__mro__)
    return getattr(neural_network, next(name for name in names if name in _LOSSES))


def _hand_over(giver: Any, taker: Any) -> None:
    """Copy the fitted attributes that mean the same on both sides."""
    for name, value in vars(giver).items():
        public = name.endswith("_") and not name.startswith("_") and name not in _APART
        if public or name in _PRIVATE:
            setattr(taker, name, copy.deepcopy(value))
    taker.n_features_in_ = giver.n_features_in_


def _one_activation(ours: Any) -> str:
    """Return scikit-learn's name of the only hidden activation, or refuse."""
    given = ours.activation
    alone = isinstance(given, (str, CustomActivation))
    names = {given} if alone else set(given) or {"identity"}
    rows = {activation_named(name, "activation").name for name in names}
    if len(rows) != 1 or not rows <= set(_NAMES):
        raise ValueError(
            "activation must be one that scikit-learn has, the same for all hidden layers: "
            f"{', '.join(map(repr, _NAMES.values()))}; got {given!r}."
        )
    return _NAMES[rows.pop()]


def _views(layout: Layout, vector: Floats) -> list[Floats]:
    """Return weights, then biases, of all layers: scikit-learn's order."""
    return [*layout.weights(vector), *(b for b in layout.biases(vector) if b is not None)]


def _pace(ours: Any, theirs: Any) -> Pace:
    """Return the state of scikit-learn's optimizer in the library's form."""
    adam = isinstance(theirs, AdamOptimizer)
    settings: dict[str, Any] = {"learning_rate_init": theirs.learning_rate_init}
    if adam:
        settings |= {name: getattr(theirs, name) for name in ("beta_1", "beta_2", "epsilon")}
    else:
        settings |= {
            "learning_rate": theirs.lr_schedule,
            "momentum": theirs.momentum,
            "nesterovs_momentum": theirs.nesterov,
            "power_t": theirs.power_t,
        }
    # The optimizer's own settings count, not the estimator's present parameters.
    made = copy.copy(ours).set_params(solver="adam" if adam else "sgd", **settings)
    pace = Pace(made, ours._weights.vector)
    layout = ours._weights.network.layout
    vectors = (theirs.ms, theirs.vs) if adam else (theirs.velocities,)
    for moment, arrays in zip(pace.state.moments, vectors, strict=True):
        for view, array in zip(_views(layout, moment), arrays, strict=True):
            view[:] = array
    if adam:
        pace.resume(steps=theirs.t)
    else:
        # It does not count its steps; none would stand for velocities of zero.
        pace.resume(steps=1, rate=theirs.learning_rate)
    return pace


def _optimizer(ours: Any) -> Any:
    """Return the state of an optimizer in scikit-learn's form."""
    pace: Pace = ours._optimizer
    layout, record = ours._current().network.layout, pace.state.optimizer
    if pace.scheduled is not None:
        raise ValueError(
            "the learning_rate that partial_fit goes on with must be one that scikit-learn has; "
            f"got {pace.scheduled!r}."
        )
    moments = [[view.copy() for view in _views(layout, moment)] for moment in pace.state.moments]
    theirs: Any
    if isinstance(record, Adam):
        theirs = AdamOptimizer(
            moments[0], pace.learning_rate_init, record.beta_1, record.beta_2, record.epsilon
        )
        theirs.t = pace.state.steps
        theirs.ms, theirs.vs = moments
    elif not isinstance(record, SGD):
        raise ValueError(
            "the optimizer that partial_fit goes on with must be one that scikit-learn has; "
            f"got {type(record).__name__}."
        )
    else:
        theirs = SGDOptimizer(
            moments[0], pace.learning_rate_init, pace.schedule, record.momentum, record.nesterov,
            pace.power_t,
        )  # fmt: skip
        (theirs.velocities,) = moments
    theirs.learning_rate = pace.learning_rate
    return theirs
