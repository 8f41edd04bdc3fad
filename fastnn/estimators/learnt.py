"""What a fit leaves in an estimator: the kind of each attribute, and how they fit each other."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest

from fastnn.activations import activation_named
from fastnn.estimators.kinds import record_of
from fastnn.estimators.layered import Layered
from fastnn.estimators.parameters import RATES
from fastnn.names import check_real, describe
from fastnn.optimizers import row_of
from fastnn.schedules import SCHEDULES, FromNumbers

__all__ = ["LEARNT", "check_learnt", "same_labels"]

_TARGETS = ("binary", "multiclass", "multilabel-indicator")
_MOST_COUNT = 2**63
_SCHEDULES = *SCHEDULES.values(), FromNumbers


def check_learnt(estimator: Any, fitted: dict[str, Any]) -> None:
    """Refuse attributes of another kind, or some that do not fit each other.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Whose they are.
    fitted : dict
        They, as a pickle has them.

    Raises
    ------
    TypeError, ValueError
        If one is missing, is not what a fit leaves, or does not fit another.
    """
    for name, value in fitted.items():
        if name in LEARNT and not LEARNT[name](value):
            raise ValueError(f"{name} must be what a fit leaves; got {describe(value)}.")
    needed = ["coefs_", "intercepts_", "out_activation_", "n_features_in_", "n_outputs_"]
    classifies = type(estimator).__name__ == "MLPClassifier"
    if classifies:
        needed += ["classes_", "_label_binarizer"]
    for name in needed:
        if name not in fitted:
            raise ValueError(f"a fitted estimator must have {name}; got none.")
    inputs, outputs = fitted["n_features_in_"], fitted["n_outputs_"]
    coefs = fitted["coefs_"]
    if "_beyond" in fitted:
        if not Layered.fits(fitted["_beyond"], coefs, fitted["intercepts_"]):
            raise ValueError("a network of layers must have the weights and biases of its own.")
        if fitted["_beyond"]["inputs"] != inputs:
            raise ValueError(f"layers must be those of {inputs} features; got others.")
    elif len(coefs) != len(fitted["intercepts_"]) or coefs[0].ndim != 2:
        raise ValueError("coefs_ and intercepts_ must be those of as many layers.")
    elif coefs[0].shape[0] != inputs:
        raise ValueError(f"coefs_ must be those of {inputs} features; got {coefs[0].shape[0]}.")
    names = fitted.get("feature_names_in_")
    if names is not None and len(names) != inputs:
        raise ValueError(f"feature_names_in_ must be {inputs} names; got {len(names)}.")
    units = coefs[-1].shape[-1]
    # Of one target there may be any number of quantiles.
    ordered = not classifies and fitted["out_activation_"] == "increasing" and outputs == 1
    if not ordered and units not in ((outputs,) if classifies else (outputs, 2 * outputs)):
        raise ValueError(f"n_outputs_ must be those of {units} units; got {outputs}.")
    if classifies:
        _check_classes(fitted["_label_binarizer"], outputs)


def _check_classes(binarizer: dict[str, Any], outputs: int) -> None:
    """Refuse classes that are not those of so many outputs."""
    classes, kind = binarizer["classes_"], binarizer["y_type_"]
    allowed = (1, 2) if kind == "binary" else (outputs,)
    if len(classes) not in allowed or (kind == "binary" and outputs != 1):
        raise ValueError(
            f"classes must be those of {outputs} outputs ({kind}); got {len(classes)}."
        )
    if not np.array_equal(np.unique(classes), classes):
        raise ValueError("classes must be sorted, each of them once; got others.")


def same_labels(own: Any, theirs: Any) -> bool:
    """Whether two arrays are the same labels, of the same dtype."""
    return own is theirs or (
        _are_labels(own) and own.dtype == theirs.dtype and np.array_equal(own, theirs)
    )


def _is_count(value: Any) -> bool:
    """Whether something counts."""
    whole = isinstance(value, Integral) and not isinstance(value, (bool, np.bool_))
    return whole and 0 <= value < _MOST_COUNT


def _is_real(value: Any) -> bool:
    """Whether something is a number, maybe an infinite one or NaN."""
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_))


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_real(value)


def _is_curve(value: Any) -> bool:
    """Whether something is a list of numbers, or None."""
    return value is None or (
        isinstance(value, list)
        and (set(map(type, value)) <= {float, np.float64, np.float32} or all(map(_is_real, value)))
    )


def _are_weights(value: Any) -> bool:
    """Whether something is a list of arrays of real numbers."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, np.ndarray) and one.dtype.kind in "fiu" for one in value)
    )


def _are_names(value: Any) -> bool:
    """Whether something is an array of texts, as features have."""
    return (
        isinstance(value, np.ndarray)
        and value.ndim == 1
        and value.dtype == object
        and all(isinstance(name, str) for name in value)
    )


def _are_labels(value: Any) -> bool:
    """Whether something is an array of labels."""
    return isinstance(value, np.ndarray) and value.ndim == 1


def _is_activation(value: Any) -> bool:
    """Whether something is an activation's name."""
    return isinstance(value, str) and bool(activation_named(value, "out_activation_"))


def _is_binarizer(value: Any) -> bool:
    """Whether something is what a binarizer of labels learns."""
    return (
        isinstance(value, dict)
        and value.keys() == {"y_type_", "sparse_input_", "classes_"}
        and value["y_type_"] in _TARGETS
        and isinstance(value["sparse_input_"], (bool, np.bool_))
        and _are_labels(value["classes_"])
    )


def _is_pace(value: Any) -> bool:
    """Whether something is an optimizer's state in plain values."""
    names = {
        "training", "learning_rate_init", "follows_init", "schedule", "power_t", "scheduled",
        "epochs", "history",
    }  # fmt: skip
    return (
        isinstance(value, dict)
        and value.keys() == names
        and _is_training(value["training"])
        and _is_real(value["learning_rate_init"])
        and isinstance(value["follows_init"], (bool, np.bool_))
        and value["schedule"] in RATES
        and _is_real(value["power_t"])
        and (value["scheduled"] is None or type(value["scheduled"]) in _SCHEDULES)
        and _is_count(value["epochs"])
        and isinstance(value["history"], dict)
        and all(isinstance(name, str) for name in value["history"])
        and all(curve is not None and _is_curve(curve) for curve in value["history"].values())
    )


def _is_training(value: Any) -> bool:
    """Whether something is the state of one of the library's optimizers."""
    if not isinstance(value, dict) or value.keys() != {
        "rule", "settings", "moments", "steps", "learning_rate"
    }:  # fmt: skip
        return False
    if not isinstance(value["settings"], dict):
        return False
    row = row_of(record_of(value["rule"], value["settings"]))
    moments = value["moments"]
    check_real(value["learning_rate"], "learning_rate", low=0.0)
    return (
        isinstance(moments, np.ndarray)
        and moments.ndim == 2
        and len(moments) == row.moments
        and moments.dtype in (np.float32, np.float64)
        and _is_count(value["steps"])
    )


LEARNT: dict[str, Callable[[Any], bool]] = {
    "coefs_": _are_weights,
    "intercepts_": _are_weights,
    "out_activation_": _is_activation,
    "n_features_in_": _is_count,
    "feature_names_in_": _are_names,
    "n_outputs_": _is_count,
    "n_layers_": _is_count,
    "n_iter_": _is_count,
    "t_": _is_count,
    "loss_": _is_real,
    "best_loss_": _is_number_or_none,
    "best_validation_score_": _is_number_or_none,
    "loss_curve_": _is_curve,
    "validation_scores_": _is_curve,
    "validation_loss_curve_": _is_curve,
    "classes_": _are_labels,
    "_label_binarizer": _is_binarizer,
    "_beyond": lambda value: isinstance(value, dict),
    "_margins": lambda value: isinstance(value, (bool, np.bool_)),
    "_no_improvement_count": _is_count,
    "_metadata_request": lambda value: isinstance(value, MetadataRequest),
    "_optimizer": _is_pace,
}
