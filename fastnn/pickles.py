"""The form in which networks, estimators and records are pickled: public names and plain values.

A pickle names what it is made of by module and name, and breaks where these move.  Those of this
library name nothing but `made`, `record` and `told` of this file, which stays where it is, and what
these are given: public names, such as "MLPClassifier", and dictionaries of numbers, texts and
arrays with the number of their version.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from fastnn import kinds, losses, optimizers, own, schedules
from fastnn.callbacks import EarlyStopping
from fastnn.errors import ModelFileError
from fastnn.fitting.states import TrainingState
from fastnn.history import History
from fastnn.names import describe

__all__ = [
    "RECORDS", "fields_of", "made", "opened", "record", "reduced", "sealed", "state_of",
    "state_to_plain", "told", "values_of",
]  # fmt: skip

VERSION = 1
_MARK = "fastnn_pickle"

_MODELS = ("MLPClassifier", "MLPRegressor", "Sequential", "EarlyStopping")
RECORDS = {
    kind.__name__: kind
    for kind in (
        *kinds.LAYERS.values(),
        *losses.RECORDS.values(),
        *(row.record for row in optimizers.OPTIMIZERS.values()),
        *schedules.SCHEDULES.values(),
        schedules.FromFunction,
        schedules.FromNumbers,
    )
}


def made(kind: str | type) -> Any:
    """Return an empty model: of a public name, or of a user's own class.

    Parameters
    ----------
    kind : str or type
        "Sequential", "MLPClassifier", "MLPRegressor", or a subclass of one of them; or
        "EarlyStopping", which goes with them.

    Raises
    ------
    ModelFileError
        If there is no such model.
    """
    import fastnn

    if isinstance(kind, str):
        if kind not in _MODELS:
            raise ModelFileError(
                f"a pickled model must be one of {', '.join(_MODELS)}; got {describe(kind)}."
            )
        kind = getattr(fastnn, kind)
    chosen: Any = kind
    return chosen.__new__(chosen)


def record(kind: str, values: dict[str, Any]) -> Any:
    """Return a record, such as a layer or an optimizer, of its public name and its fields.

    Raises
    ------
    ModelFileError
        If there is no such record.
    """
    if kind not in RECORDS:
        raise ModelFileError(
            f"a pickled record must be one of {', '.join(RECORDS)}; got {describe(kind)}."
        )
    return RECORDS[kind](**values)


def told(
    columns: dict[str, list[float]], seconds: float, stopped: str | None, best_epoch: int | None
) -> History:
    """Return a history of its columns, and of how the fit ended."""
    history = History(columns)
    for row in zip(*columns.values(), strict=True):
        history.append(dict(zip(columns, row, strict=True)))
    history.seconds, history.stopped, history.best_epoch = seconds, stopped, best_epoch
    return history


def reduced(model: Any) -> tuple[Callable[[str | type], Any], tuple[str | type], Any]:
    """Return how pickle makes a model again: the answer of its ``__reduce__``."""
    kind = type(model)
    ours = kind.__name__ in _MODELS and kind.__module__.partition(".")[0] == "fastnn"
    return made, (kind.__name__ if ours else kind,), model.__getstate__()


def sealed(state: dict[str, Any]) -> dict[str, Any]:
    """Return a model's state with the number of its form."""
    return {_MARK: VERSION, **state}


def opened(state: Any) -> dict[str, Any]:
    """Return a model's state without that number, or refuse another form.

    Raises
    ------
    ModelFileError
        If the pickle is of a version with another form.
    """
    found = state.get(_MARK) if isinstance(state, dict) else None
    if found != VERSION:
        came = "none" if found is None else describe(found)
        raise ModelFileError(
            f"a pickle of this version of fastnn must have form {VERSION}; got {came}: another "
            "version wrote it. Load it there, and save networks with save, or train anew."
        )
    return {name: value for name, value in state.items() if name != _MARK}


def state_to_plain(state: TrainingState | None) -> dict[str, Any] | None:
    """Return what an optimizer carries in plain values, sharing nothing with it."""
    return None if state is None else values_of(state)


def values_of(state: TrainingState) -> dict[str, Any]:
    """Return what `state_to_plain` does, of a state that there is."""
    return {
        "rule": type(state.optimizer).__name__,
        "settings": fields_of(state.optimizer),
        "moments": state.moments.copy(),
        "steps": state.steps,
        "learning_rate": state.learning_rate,
    }


def state_of(plain: dict[str, Any] | None) -> TrainingState | None:
    """Return what an optimizer carries from its plain values, which it does not share."""
    if plain is None:
        return None
    return TrainingState.resumed(
        record(plain["rule"], plain["settings"]),
        np.array(plain["moments"]),
        plain["steps"],
        plain["learning_rate"],
    )


def fields_of(one: Any) -> dict[str, Any]:
    """Return a record's fields by name."""
    return {field.name: getattr(one, field.name) for field in fields(one) if field.init}


def _reduced_record(one: Any) -> tuple[Callable[..., Any], tuple[str, dict[str, Any]]]:
    """Return how pickle makes a record again; functions of a user's own go with it by reference."""
    values = fields_of(one)
    made = own.ACTIVATIONS.get(values.get("activation", ""))
    return record, (type(one).__name__, values if made is None else values | {"activation": made})


def _reduced_callback(one: Any) -> tuple[Callable[..., Any], tuple[str], dict[str, Any]]:
    """Return how pickle makes a callback again."""
    return made, (type(one).__name__,), vars(one)


def _reduced_history(one: History) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return how pickle makes a history again."""
    return told, (one.to_dict(), one.seconds, one.stopped, one.best_epoch)


copyreg.pickle(EarlyStopping, _reduced_callback)
copyreg.pickle(History, _reduced_history)
for _kind in RECORDS.values():
    copyreg.pickle(_kind, _reduced_record)
