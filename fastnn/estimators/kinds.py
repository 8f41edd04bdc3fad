"""Records, generators and the like as files keep them: apart in plain values, and put together.

What a file says is believed by none of the libraries that take it: a state of NumPy's generators is
held against one that NumPy made, as the generators themselves read where it points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest

from fastnn import own, pickles
from fastnn.callbacks import EarlyStopping
from fastnn.formats.plain_values import Kind
from fastnn.kinds import check_activation
from fastnn.names import describe, lookup
from fastnn.schedules import FromFunction

__all__ = ["KINDS", "check_keys", "record_of"]

_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
# How many words a generator has at hand, of which its state names the next.
_AT_HAND = {"MT19937": ("state", "pos", 624), "Philox": (None, "buffer_pos", 4)}


def check_keys(found: Any, expected: Any, what: str) -> None:
    """Refuse an object of other names.

    Parameters
    ----------
    found : object
        What a file has.
    expected : iterable of str
        The names that it must have, and no others.
    what : str
        What it is, for the message.

    Raises
    ------
    ValueError
        If it has others, or is no object.
    """
    if not isinstance(found, dict) or found.keys() != set(expected):
        came = describe(sorted(found)) if isinstance(found, dict) else describe(found)
        raise ValueError(f"{what} must have {', '.join(sorted(expected))}; got {came}.")


def _ofrecord_of(name: str) -> Kind:
    """Return how a record of the library's is kept: by its fields."""
    kind = pickles.RECORDS[name]
    return Kind(name, kind, pickles.fields_of, lambda values: record_of(name, values))


def record_of(name: str, values: Any) -> Any:
    """Return a record of all its fields: a default in the place of one would be another record.

    Files of before have no fields that came later, whose defaults make the same one.

    Raises
    ------
    TypeError, ValueError
        If there is no such record, or the fields are not its own.
    """
    if isinstance(values, dict):
        check_activation(values.get("activation"))
    record = pickles.record(name, values)
    later = (one.name for one in fields(record) if one.metadata.get("later"))
    check_keys({**dict.fromkeys(later), **values}, pickles.fields_of(record), name)
    return record


def _kind_of_own(kind: type, made: Mapping[str, Any]) -> Kind:
    """Return how functions of the user's own are kept: by the name that they are registered under.

    A file holds no code, so that they must have been made again before it is read.
    """

    def made_before(name: Any) -> Any:
        if not isinstance(name, str) or name not in made:
            raise ValueError(
                f"a function of the user's own must have been made before, by "
                f"fastnn.{kind.__name__}(..., name=...); got {describe(name)}."
            )
        return made[name]

    return Kind(kind.__name__, kind, lambda one: str(one.name), made_before)


def _type_name(kind: type) -> str:
    """Return the name of a dtype that is given as a class."""
    if kind not in (np.float32, np.float64):
        raise TypeError(f"{describe(kind)} is no plain value")
    return kind.__name__


def _type_of(name: Any) -> type:
    """Return a dtype's class."""
    return lookup({"float32": np.float32, "float64": np.float64}, name, "dtype")


def _stopping(one: EarlyStopping) -> dict[str, Any]:
    """Return what makes an `EarlyStopping`, of which fits begin anew."""
    return {name: getattr(one, name) for name in _OF_STOPPING}


_OF_STOPPING = ("monitor", "patience", "min_delta", "mode", "restore_best")


def _stopping_of(values: Any) -> EarlyStopping:
    """Return the `EarlyStopping` of what makes it."""
    check_keys(values, _OF_STOPPING, "EarlyStopping")
    return EarlyStopping(**values)


def _random_state(state: np.random.RandomState) -> dict[str, Any]:
    """Return the state of a generator of random numbers."""
    return dict(state.get_state(legacy=False))


def _random_state_of(values: Any) -> np.random.RandomState:
    """Return a generator in a state, of which NumPy would believe everything."""
    name = values.get("bit_generator") if isinstance(values, dict) else None
    if name not in _GENERATORS:
        raise ValueError(f"a RandomState must be of one of {_GENERATORS}; got {describe(name)}.")
    state = np.random.RandomState(getattr(np.random, name)(0))
    fresh: dict[str, Any] = dict(state.get_state(legacy=False))
    if not _alike(values, fresh):
        raise ValueError(f"a state of {name} must have the parts of one; got others.")
    if name in _AT_HAND:
        inside, place, most = _AT_HAND[name]
        found = values if inside is None else values[inside]
        if not 0 <= found[place] <= most:
            raise ValueError(f"{place} must be from 0 to {most}; got {found[place]}.")
    state.set_state(values)
    return state


def _alike(values: Any, fresh: Any) -> bool:
    """Whether values have the types, names and shapes of others."""
    if isinstance(fresh, dict):
        return (
            isinstance(values, dict)
            and values.keys() == fresh.keys()
            and all(_alike(values[name], fresh[name]) for name in fresh)
        )
    if isinstance(fresh, np.ndarray):
        return (
            isinstance(values, np.ndarray)
            and values.dtype == fresh.dtype
            and values.shape == fresh.shape
        )
    return type(values) is type(fresh)


def _requests(one: MetadataRequest) -> dict[str, dict[str, Any]]:
    """Return what an estimator asks a Pipeline for, by method and argument."""
    return {method: dict(asked) for method, asked in one._serialize().items()}


def _requests_of(values: Any) -> MetadataRequest:
    """Return such requests of what they ask for."""
    one = MetadataRequest(owner="MLP")
    if not isinstance(values, dict):
        raise ValueError(f"requests must be by method; got {describe(values)}.")
    for method, asked in values.items():
        if method not in _METHODS or not isinstance(asked, dict):
            raise ValueError(f"requests must be of {', '.join(_METHODS)}; got {describe(method)}.")
        for name, alias in asked.items():
            if not isinstance(name, str) or not isinstance(alias, (bool, str, type(None))):
                raise ValueError(f"a request must be by an argument's name; got {describe(name)}.")
            getattr(one, method).add_request(param=name, alias=alias)
    return one


_METHODS = ("fit", "partial_fit", "score")

KINDS = (
    *(_ofrecord_of(name) for name, kind in pickles.RECORDS.items() if kind is not FromFunction),
    _kind_of_own(own.CustomActivation, own.ACTIVATIONS),
    _kind_of_own(own.CustomLoss, own.LOSSES),
    Kind("EarlyStopping", EarlyStopping, _stopping, _stopping_of),
    Kind("RandomState", np.random.RandomState, _random_state, _random_state_of),
    Kind("MetadataRequest", MetadataRequest, _requests, _requests_of),
    Kind("dtype", type, _type_name, _type_of),
)
