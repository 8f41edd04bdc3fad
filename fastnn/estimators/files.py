"""Fitted estimators in files that hold no code: `save` of an estimator, and `load_estimator`.

A file is the library's safetensors container.  Its texts are ``format`` and a description in JSON:
the class, the parameters and the fitted attributes, each by name, as `fastnn.formats.plain_values`
writes them; the arrays are what these hold.  A file's attributes are those that a fit leaves, each
checked for its kind and against the others, and public ones of the user's own.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from fastnn import pickles
from fastnn.errors import ModelFileError
from fastnn.estimators.kinds import KINDS, check_keys
from fastnn.estimators.learnt import LEARNT, check_learnt, same_labels
from fastnn.estimators.parameters import hidden_sizes
from fastnn.formats import safetensors
from fastnn.formats.plain_values import from_plain, list_bytes, to_plain
from fastnn.names import describe

__all__ = ["load_estimator", "save"]

Array = NDArray[Any]

_FORMAT = "fastnn-estimator"
_VERSION = 1
_CLASSES = ("MLPClassifier", "MLPRegressor")

# More than any estimator has that trains in reasonable time, and so few that a file which holds
# nothing else is refused at once.
_MOST_ARRAYS = 4_096

# Lists may take as many bytes of memory as the arrays of the file, and so many more: half a million
# numbers of a curve.  Reading takes at most twice the file and 16 MB.
_MOST_LISTED = 12_000_000

# What `_taken_down` gives beside public names; private names of other packages are not kept.
_PRIVATE = ("_beyond", "_label_binarizer", "_margins", "_no_improvement_count", "_optimizer",
            "_metadata_request")  # fmt: skip

# Parameters that files of before do not have.
_LATER = ("layers", "standardize", "scale_targets", "missing_targets")

_KEPT_OTHERWISE = (
    "A file without code holds numbers, texts, arrays and this library's own records; pickle, "
    "joblib and skops keep more."
)


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to a file: what `Fitted.save` does.

    Raises
    ------
    NotFittedError
        If there are no weights yet.
    TypeError
        If the estimator is of another class, or something of it is no plain value.
    ValueError
        If a parameter is out of its range, or attributes do not fit each other.
    """
    check_is_fitted(estimator)
    kind = type(estimator)
    if kind.__name__ not in _CLASSES or kind.__module__.partition(".")[0] != "fastnn":
        raise TypeError(
            f"the estimator must be a {' or '.join(_CLASSES)} itself to be saved; got "
            f"{kind.__name__}, whose code no such file holds. Pickle and joblib keep subclasses."
        )
    if "_skl_callbacks" in vars(estimator):
        raise TypeError(
            "the estimator must have no callbacks of scikit-learn's to be saved; "
            f"set_callbacks() takes them off. {_KEPT_OTHERWISE}"
        )
    _check_parameters(estimator)
    state = pickles.opened(estimator.__getstate__())
    names = kind._get_param_names()
    parameters = {name: state.pop(name, getattr(kind, name, None)) for name in names}
    fitted = {name: value for name, value in state.items() if _is_kept(name)}
    described: dict[str, Any] = {"version": _VERSION, "class": kind.__name__}
    arrays: dict[str, Array] = {}
    for part, values in (("parameters", parameters), ("fitted", _without_classes(fitted))):
        described[part] = {}
        for name, value in values.items():
            plain, theirs = _described(name, value)
            described[part][name] = [plain, len(theirs)]
            arrays |= {f"{name}.{place}": array for place, array in theirs.items()}
    check_learnt(estimator, fitted)
    estimator._current()  # Refuses weights, set by hand, that are no network's.
    if len(arrays) > _MOST_ARRAYS:
        raise ValueError(
            f"an estimator must have at most {_MOST_ARRAYS} arrays to be saved; got {len(arrays)}."
        )
    _check_lists(described, arrays)
    text = json.dumps(described)
    # The reader's own rules decide what may be written.
    safetensors.parse(text.encode(), "what is to be saved")
    safetensors.write(path, arrays, {"format": _FORMAT, "estimator": text})


def load_estimator(path: str | os.PathLike[str]) -> Any:
    """Read an estimator that its `save` wrote.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    MLPClassifier or MLPRegressor
        With the same parameters, weights, classes, names of features, curves and optimizer: it
        predicts with the same bits, and `partial_fit` and ``warm_start`` go on as they would have.

    Raises
    ------
    ModelFileError
        If the file is damaged, or is not a fastnn estimator.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import fastnn as fn
    >>> model = fn.MLPClassifier(4, solver="lbfgs", random_state=0)
    >>> model = model.fit([[0.0], [1.0]], ["no", "yes"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "model.fastnn"
    ...     model.save(path)
    ...     again = fn.load_estimator(path)
    >>> again.predict([[0.0], [1.0]])
    array(['no', 'yes'], dtype='<U3')
    """

    def accept(texts: dict[str, str], room: int, count: int) -> bool:
        _check_kind(path, texts)
        if count > _MOST_ARRAYS:
            raise _not_ours(path, f"it has {count} arrays, more than {_MOST_ARRAYS}.")
        return True

    arrays, texts = safetensors.read(path, accept)
    try:
        described = safetensors.parse(texts["estimator"].encode(), "the description")
        return _made(described, arrays)
    except (TypeError, ValueError, KeyError, OverflowError, AttributeError) as problem:
        raise _not_ours(path, problem) from problem


def _check_kind(path: str | os.PathLike[str], texts: dict[str, str]) -> None:
    """Refuse a file of which the texts do not say that it is an estimator."""
    found = texts.get("format")
    if found != _FORMAT or "estimator" not in texts:
        hint = " It may be a network: fastnn.load(path)." if found == "fastnn" else ""
        raise ModelFileError(
            f"{os.fspath(path)}: expected an estimator that fastnn saved; got a safetensors file "
            f"of another kind (format {describe(found)}).{hint}"
        )


def _not_ours(path: str | os.PathLike[str], problem: object) -> ModelFileError:
    """Return what a file gets that does not describe the estimator that it holds."""
    return ModelFileError(
        f"{os.fspath(path)}: expected the description of an estimator that fastnn saved; "
        f"got one that does not hold together: {problem!s:.400}"
    )


def _made(described: Any, arrays: dict[str, Array]) -> Any:
    """Return the estimator of a file's description and arrays, or raise what does not fit.

    Arrays are taken away as they are used, so that those of lists leave memory with that.
    """
    check_keys(described, ("version", "class", "parameters", "fitted"), "an estimator")
    if type(described["version"]) is not int or described["version"] != _VERSION:
        raise ValueError(f"version must be {_VERSION}; got {describe(described['version'])}.")
    if described["class"] not in _CLASSES:
        raise ValueError(
            f"class must be one of {', '.join(_CLASSES)}; got {describe(described['class'])}."
        )
    _check_lists(described, arrays)
    estimator = pickles.made(described["class"])
    parameters = _values(described["parameters"], "parameters", arrays)
    kind = type(estimator)
    later = (name for name in _LATER if name in kind._get_param_names())
    parameters = {name: getattr(kind, name) for name in later} | parameters
    check_keys(parameters, kind._get_param_names(), "the parameters")
    fitted = _values(described["fitted"], "the fitted attributes", arrays)
    if arrays:
        raise ValueError(f"every array must belong to something; got {describe(min(arrays))}.")
    _check_names(estimator, fitted)
    fitted = _with_classes(fitted)
    check_learnt(estimator, fitted)
    estimator.__dict__.update(parameters)
    _check_parameters(estimator)
    estimator.__setstate__(pickles.sealed(parameters | fitted))
    estimator._current()
    if isinstance(estimator.random_state, np.random.RandomState):
        # They are one: the next fit draws from where this left off.
        estimator._random_state = estimator.random_state
    return estimator


# Values.


def _described(name: str, value: object) -> tuple[Any, dict[str, Array]]:
    """Return a value as JSON and arrays, or say what of it no file holds."""
    try:
        return to_plain(value, KINDS)
    except TypeError as problem:
        if name in ("learning_rate", "_optimizer"):
            raise TypeError(
                f"learning_rate must be a number's rule by name or a record of this library's to "
                f"be saved; {problem}. {_KEPT_OTHERWISE} network_.save keeps the network alone."
            ) from None
        if name in ("callbacks", "monitor"):
            raise TypeError(
                f"{name} must hold what is no code to be saved; {problem}. "
                f"set_params({name}=None) leaves it out. {_KEPT_OTHERWISE}"
            ) from None
        raise TypeError(f"{name} cannot be saved: {problem}. {_KEPT_OTHERWISE}") from None


def _check_lists(described: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Refuse lists that would take far more memory than the file, before any is made."""
    theirs: dict[str, dict[str, Array]] = {}
    for key, array in arrays.items():
        name, _, place = key.rpartition(".")
        theirs.setdefault(name, {})[place] = array
    taken: dict[str, int] = {}
    for part in ("parameters", "fitted"):
        values = described[part]
        for name, content in values.items() if isinstance(values, dict) else ():
            taken[name] = list_bytes(content, theirs.get(name, {}))
    total = sum(taken.values())
    most = sum(array.nbytes for array in arrays.values()) + _MOST_LISTED
    if total > most:
        longest = max(taken, key=lambda name: taken[name])
        raise ValueError(
            f"lists of an estimator in a file must take at most {most} bytes of memory, as much as "
            f"its arrays and {_MOST_LISTED} more; got {total}, most of them for {longest:.80}. "
            "Of a curve the last part may be kept, as loss_curve_ = loss_curve_[-1000:]; an array "
            "takes less than a list, and pickle and joblib keep lists of any length."
        )


def _values(described: Any, what: str, left: dict[str, Array]) -> dict[str, Any]:
    """Return values by name, and take away the arrays that they hold."""
    if not isinstance(described, dict):
        raise ValueError(f"{what} must be an object; got {describe(described)}.")
    found = {}
    for name, content in described.items():
        if not isinstance(content, list) or len(content) != 2 or type(content[1]) is not int:
            raise ValueError(f"{name} must have a value and its arrays; got {describe(content)}.")
        plain, count = content
        if not 0 <= count <= len(left):
            raise ValueError(f"{name} must have arrays that are there; got {count}.")
        theirs = {str(place): left.pop(f"{name}.{place}") for place in range(count)}
        found[name] = from_plain(plain, theirs, KINDS)
    return found


def _is_kept(name: str) -> bool:
    """Whether an attribute goes into a file; what a fit draws anew does not."""
    return name in _PRIVATE or not name.startswith("_")


def _check_parameters(estimator: Any) -> None:
    """Refuse parameters that no fit takes."""
    estimator._validate_params()
    hidden_sizes(estimator.hidden_layer_sizes)


def _check_names(estimator: Any, fitted: dict[str, Any]) -> None:
    """Refuse attributes that would take the place of something else."""
    kind = type(estimator)
    for name in fitted:
        taken = name not in LEARNT and (hasattr(kind, name) or not name.isidentifier())
        if taken or not _is_kept(name) or name in kind._get_param_names():
            raise ValueError(f"an attribute must have a name that is free; got {describe(name)}.")


def _without_classes(fitted: dict[str, Any]) -> dict[str, Any]:
    """Return attributes in which a binarizer has None for classes that are the estimator's too."""
    binarizer = fitted.get("_label_binarizer")
    if binarizer is None:
        return fitted
    if not same_labels(fitted.get("classes_"), binarizer["classes_"]):
        return fitted
    return {**fitted, "_label_binarizer": {**binarizer, "classes_": None}}


def _with_classes(fitted: dict[str, Any]) -> dict[str, Any]:
    """Return attributes in which a binarizer has its classes."""
    binarizer = fitted.get("_label_binarizer")
    if not isinstance(binarizer, dict) or binarizer.get("classes_", 0) is not None:
        return fitted
    classes = fitted.get("classes_")
    return {**fitted, "_label_binarizer": {**binarizer, "classes_": classes}}
