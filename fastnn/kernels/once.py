"""A single call on a network in one entry: pack the weights, run the engine once, unpack.

To call an entry from Python costs 0.05 us for each array, and 0.2 us for each that is read-only:
for the engine's arguments more than a step of a small network takes.  What a plan holds is
therefore written down once, as addresses and shapes, and the engine, `load` and `store` are called
where their machine code lies.  This entry has none of their code, so that it compiles in a
fraction of a second.

Arrays whose addresses are written down must outlive the calls: the caller holds them.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.core import types
from numba.np import arrayobj
from numpy.typing import NDArray

from fastnn.kernels import codes
from fastnn.kernels._jit import address_of, entry, intrinsic, kernel
from fastnn.kernels.epoch import engine, load, store
from fastnn.kernels.views import call_at

__all__ = ["once", "written_down"]

# Numba's own function carries no types.
_populate: Any = arrayobj.populate_array

# The engine's arguments; each takes an address and at most three lengths.
_NAMES = tuple(inspect.signature(engine).parameters)
_WORDS = 4
_NUMBERS, _X, _LABELS, _VALUES, _WEIGHTS, _ORDER = (
    _WORDS * _NAMES.index(name) for name in ("numbers", "X", "labels", "values", "weights", "order")
)

# Behind them: where the machine code lies, what is unpacked, and which targets are allowed.
_ENGINE, _LOAD, _STORE, _STATE, _FROM, _BOUNDS, _CLASSES = (
    _WORDS * len(_NAMES) + place for place in range(7)
)
_LENGTH = _WORDS * len(_NAMES) + 7


def written_down(
    arguments: Sequence[Any], table: Any, vector: Any, state: int, result: int | None,
    bounds: int, classes: int,
) -> NDArray[np.int64] | None:  # fmt: skip
    """Write down what a plan holds, for `once`.

    Parameters
    ----------
    arguments : sequence
        The engine's, after a call with arguments of these types.
    table : records.OPERATION (operations,)
        For `load` and `store`, after a call of each with it.
    vector : (size,)
        Of the type of all vectors that are loaded and stored.
    state : int
        Elements of a packed vector.
    result : int or None
        How many such vectors lie before that which is unpacked; None where none is.
    bounds : int
        Which values targets may have: codes.ANY_NUMBER, codes.AT_LEAST_0 or codes.FROM_0_TO_1.
    classes : int
        Labels are below it.

    Returns
    -------
    ndarray of int64 or None
        None where the machine code cannot be found, as without a compiler.
    """
    packing = table, arguments[_NAMES.index("M")], 0, vector
    calls: list[tuple[Any, Sequence[Any]]] = [(engine, arguments), (load, packing)]
    if result is not None:
        calls.append((store, packing))
    found = [address_of(function, given) for function, given in calls]
    if not all(found):
        return None
    words = np.zeros(_LENGTH, np.int64)
    for place, argument in enumerate(arguments):
        here = words[place * _WORDS :]
        if isinstance(argument, np.ndarray):
            here[0] = argument.ctypes.data
            here[1 : 1 + argument.ndim] = argument.shape
        elif argument is not None:
            here[0] = argument
    words[_ENGINE : _ENGINE + len(found)] = found
    words[_STATE:] = state, (result or 0) * state, bounds, classes
    return words


def _no_twin(*arguments: Any) -> None:
    """Stand for what runs compiled only."""
    raise NotImplementedError


@intrinsic(_no_twin)
def call_packing(typing: Any, address: Any, table: Any, M: Any, shift: Any, vector: Any) -> Any:
    """Call `load` or `store` at an address."""
    given = address, table, M, types.intp, vector

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        call_at(context, builder, arguments[0], signature.args[1:], arguments[1:])
        return context.get_dummy_value()

    return types.void(*given), generate


@intrinsic(_no_twin)
def call_engine(typing: Any, words: Any, M: Any) -> Any:
    """Call the engine on the arguments that are written down, for a network of M's dtype."""
    place = _NAMES.index("M")
    (kinds, *_) = (known for known in _signatures() if known[place].dtype == M.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        listed = context.make_array(words)(context, builder, arguments[0])

        def word(place: int) -> Any:
            at = context.get_constant(types.intp, place)
            return builder.load(builder.gep(listed.data, [at]))

        given = []
        for place, kind in enumerate(kinds):
            first = word(place * _WORDS)
            if isinstance(kind, types.NoneType):
                # In its place a number has as many bytes: the engines are called alike.
                given.append(context.get_dummy_value())
                continue
            if not isinstance(kind, types.Array):
                given.append(context.cast(builder, first, types.int64, kind))
                continue
            size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
            lengths = [word(place * _WORDS + 1 + axis) for axis in range(kind.ndim)]
            strides = [context.get_constant(types.intp, size)]
            for length in lengths[:0:-1]:
                strides.insert(0, builder.mul(strides[0], length))
            # A single record has neither lengths nor strides.
            strides = strides[: kind.ndim]
            array = context.make_array(kind)(context, builder)
            _populate(
                array, data=builder.inttoptr(first, array.data.type), shape=lengths,
                strides=strides, itemsize=context.get_constant(types.intp, size), meminfo=None,
            )  # fmt: skip
            given.append(array._getvalue())
        call_at(context, builder, word(_ENGINE), kinds, given)
        return context.get_dummy_value()

    return types.void(words, M), generate


def _signatures() -> list[Any]:
    """Return the types for which the engine is compiled."""
    compiled: Any = engine
    return list(compiled.overloads)


@kernel
def allowed(X: Any, labels: Any, values: Any, bounds: int, classes: int) -> bool:
    """Return whether examples are finite, and targets within their bounds."""
    wrong = 0
    for x in X.reshape(X.size):
        wrong += not np.isfinite(x)
    for y in values.reshape(values.size):
        wrong += not np.isfinite(y)
        wrong += bounds != codes.ANY_NUMBER and y < 0.0
        wrong += bounds == codes.FROM_0_TO_1 and y > 1.0
    for label in labels:
        wrong += label < 0 or label >= classes
    return wrong == 0


@entry
def once(
    words: Any,
    table: Any,
    M: Any,
    record: Any,
    report: Any,
    signals: Any,
    parameters: Any,
    moments: Any,
    X: Any,
    labels: Any,
    values: Any,
    weights: Any,
    order: Any,
    numbers: Any,
    out: Any,
    changed: Any,
) -> float:
    """Run the engine once on some examples from a flat vector of parameters.

    Parameters
    ----------
    words : int64
        From `written_down`; the places of what follows are written.
    table, M, record, report, signals
        As for the engine and `load`; the last three are written.
    parameters : (size,); moments : (rule's own, size)
        Read only.
    X : (rows, inputs); labels : (rows,) or (0,); values : (rows, targets) or (0, targets)
        Read only; checked.
    weights : (rows,) or (0,); order : int64 (rows,) or (0,)
        Read only.
    numbers : records.NUMBERS ()
        The optimizer's; written by a step.
    out : (size,) or (0,)
        Written: the parameters after a step, or the gradient.
    changed : (rule's own, size)
        Written: the moments.

    Returns
    -------
    float
        The mean loss.  NaN where examples are not allowed, or something turned non-finite; then
        nothing but scratch is written, or what is written means nothing.
    """
    if not allowed(X, labels, values, words[_BOUNDS], words[_CLASSES]):
        return np.nan
    words[_X], words[_X + 1], words[_X + 2] = X.ctypes.data, X.shape[0], X.shape[1]
    words[_LABELS], words[_LABELS + 1] = labels.ctypes.data, labels.size
    words[_VALUES], words[_VALUES + 1] = values.ctypes.data, values.shape[0]
    words[_WEIGHTS], words[_WEIGHTS + 1] = weights.ctypes.data, weights.size
    words[_ORDER], words[_ORDER + 1] = order.ctypes.data, order.size
    words[_NUMBERS] = numbers.ctypes.data
    sums, result = record[0], report[()]
    sums.loss_sum = sums.weight_sum = 0.0
    signals[:] = 0
    call_packing(words[_LOAD], table, M, 0, parameters)
    for place in range(moments.shape[0]):
        call_packing(words[_LOAD], table, M, (place + 1) * words[_STATE], moments[place])
    call_engine(words, M)
    if result.trouble != codes.FINE:
        return np.nan
    if out.size and words[_STORE] != 0:
        call_packing(words[_STORE], table, M, words[_FROM], out)
    for place in range(changed.shape[0]):
        call_packing(words[_STORE], table, M, (place + 1) * words[_STATE], changed[place])
    mean: float = sums.loss_sum / sums.weight_sum
    return mean
