"""Activations and losses of the user's own: two Python functions of numbers each, and a name.

What is made here is registered under its name, by which layers, files and checkpoints know it.
The functions are compiled when an engine first needs them (`kernels.own_functions`); on the
reference path, and where there is no compiler, Python calls them number by number.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Final, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastnn.names import describe, lookup

__all__ = ["ACTIVATIONS", "LOSSES", "CustomActivation", "CustomLoss", "Extended"]

Number: TypeAlias = Callable[..., float]
Array: TypeAlias = NDArray[Any]
Row = TypeVar("Row")

# Where functions are tried: at no round number, as there may be kinks there, and at 0, which is
# what the padding of layers holds.
_PLACES: Final = tuple(-10.0 + 20.0 * (n + 0.3137) / 41 for n in range(41))
_TARGETS: Final = (-2.71, -0.53, 0.0, 0.61, 3.14)
_STEP = 1e-5
_TOLERANCE = 1e-5


class Extended(dict[str, Row]):
    """A table whose rows are found by name, and those of the user's own too; they are not listed.

    Parameters
    ----------
    rows : dict
        The library's own rows.
    further : callable
        The row of a name that is not among them; a LookupError where there is none.
    """

    def __init__(self, rows: dict[str, Row], further: Callable[[str], Row]) -> None:
        super().__init__(rows)
        self._further = further

    def __missing__(self, name: str) -> Row:
        return self._further(name)


class _Own:
    """What own activations and losses have in common: two functions, a name, and their code."""

    __slots__ = ("__weakref__", "_code", "_held", "_in_vain", "_made_of", "functions", "name")
    functions: tuple[Number, Number]
    name: str

    def _register(
        self, functions: Mapping[str, object], name: object, table: dict[str, Any], settings: object
    ) -> None:
        """Check functions and name, and enter the record under it."""
        for argument, function in functions.items():
            if not callable(function):
                raise TypeError(
                    f"{argument} must be a Python function of numbers; got {describe(function)}."
                )
            kind: type[Any] = type(function)
            if kind is not FunctionType:
                raise TypeError(
                    f"{argument} must be a plain function, written with def or lambda, which may "
                    f"call others, such as math.sinh; got {describe(function)}."
                )
        first, second = functions.values()
        found = getattr(first, "__name__", "") if name is None else name
        if not isinstance(found, str) or not found.isidentifier():
            wanted = "a name for the registry and for files, of letters, digits and underscores"
            raise ValueError(f"name must be {wanted}; got {describe(found)}.")
        if found in RESERVED:
            raise ValueError(
                f"name must be one that the library has no other meaning for; got {found!r}. "
                f"Give another one, such as name='my_{found}'."
            )
        self.functions, self.name = (first, second), found  # type: ignore[assignment]
        # As they are now: what they call or read may be another one when a twin is made.
        self._made_of = [_source(first), _source(second)]
        self._code, self._held, self._in_vain = None, None, False
        known = table.get(found)
        if known is not None and known._in_vain:
            # The name of a pair that cannot be compiled is free for one that can.
            del table[found]
            known = None
        if known is not None and not _same(known, self, settings):
            raise ValueError(
                f"name must stand for one pair of functions; {found!r} was registered with others "
                "before. Give name= another one."
            )
        if known is not None:
            # What was compiled for the same functions serves again.
            self._code, self._held = known._code, known._held

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memory: object) -> Any:
        return self

    def _parts(self) -> tuple[Number, Number]:
        """Return the functions, if pickles can name them."""
        for function in self.functions:
            held: Any = sys.modules.get(getattr(function, "__module__", ""))
            for part in getattr(function, "__qualname__", "<").split("."):
                held = getattr(held, part, None)
            if held is not function:
                raise TypeError(
                    f"{self!r} can be pickled where its functions stand in a module; got "
                    f"{getattr(function, '__qualname__', function)!r}, which does not. Define it "
                    "at the top of a module, or save the network, whose file has the name alone."
                )
        return self.functions

    @property
    def code(self) -> int:
        """What kernels take for it: where its compiled functions are written down."""
        if self._code is None:
            # A compiler is loaded where one is needed.
            from fastnn.kernels.own_functions import written_down

            self._in_vain = True
            self._code, self._held = written_down(self)
            self._in_vain = False
        found: int = self._code
        return found


class CustomActivation(_Own):
    """An activation of your own: Python functions of one number, compiled once.

    Making one registers it: layers take it, ``Dense(64, square)``, or its name, and files hold
    the name.  Before such a file is loaded the activation must have been made again.

    Parameters
    ----------
    value : callable
        ``value(z)`` returns f(z); with numbers, ``math``, and what else Numba compiles, further
        functions of numbers among them.  It is finite from -10 to 10.  Global variables count as
        they are at the first use.
    derivative : callable
        ``derivative(z)`` returns f'(z); or of ``a = f(z)``, where `derivative_from` says so.
    derivative_from : {"Z", "A"}, default "Z"
        What the derivative is a function of: the weighted sum z, or the result a.
    name : str, optional
        What it is called; the name of `value` by default, which a lambda has not.

    Raises
    ------
    TypeError, ValueError
        If a function fails or is not finite there, if the derivative is not that of the value by
        central differences, or if other functions have the name.

    Notes
    -----
    The loop over whole arrays is compiled with the function in it, in the network's dtype, with
    the library's vectorised exp, log, tanh, sin and cos in place of those of ``math`` and
    ``numpy``; numbers in it count as numbers of that dtype.  No other code is compiled again.

    Examples
    --------
    >>> import fastnn as fn
    >>> square = fn.CustomActivation(lambda z: z * z, lambda z: 2.0 * z, name="square")
    >>> net = fn.Sequential([fn.Dense(1, square, initializer=1.0)], inputs=2)
    >>> net.predict([[1.0, 2.0]])
    array([[9.]], dtype=float32)
    """

    __slots__ = ("derivative_from",)
    derivative_from: Literal["Z", "A"]

    def __init__(
        self,
        value: Number,
        derivative: Number,
        derivative_from: Literal["Z", "A"] = "Z",
        name: str | None = None,
    ) -> None:
        self.derivative_from = lookup({"Z": "Z", "A": "A"}, derivative_from, "derivative_from")
        functions = {"value": value, "derivative": derivative}
        self._register(functions, name, ACTIVATIONS, self.derivative_from)
        for z in (0.0, *_PLACES):
            a = _number("value", value, z)
            x = z if derivative_from == "Z" else a
            slope = _number("derivative", derivative, x)
            h = _STEP * max(1.0, abs(z))
            rise = (_number("value", value, z + h) - _number("value", value, z - h)) / (2.0 * h)
            # At 0 there may be a kink.
            if z != 0.0:
                _compare("derivative", "value", f"z = {z:.4g}", slope, rise, a)
        from fastnn import reference

        reference.ACTIVATIONS.own[self.name] = self.equations()
        ACTIVATIONS.setdefault(self.name, self)

    def __reduce__(self) -> tuple[Any, ...]:
        return CustomActivation, (*self._parts(), self.derivative_from, self.name)

    @property
    def gain(self) -> float:
        """One over the slope at 0, as far as that is of the size of 1."""
        x = 0.0 if self.derivative_from == "Z" else float(self.functions[0](0.0))
        slope = abs(float(self.functions[1](x)))
        return 1.0 / slope if 0.1 < slope < 10.0 else 1.0

    def values(self, Z: Array) -> Array:
        """Compute f of each element, in the array's dtype."""
        return _each(self.functions[0], Z)

    def slopes(self, X: Array) -> Array:
        """Compute f' of each element of Z or A, whichever it is a function of."""
        return _each(self.functions[1], X)

    def equations(self) -> tuple[Callable[[Array], Array], Callable[[Array, Array, Array], Array]]:
        """Return forward and backward as the textbook has them."""
        from_z = self.derivative_from == "Z"
        return self.values, lambda dA, Z, A: dA * self.slopes(Z if from_z else A)


class CustomLoss(_Own):
    """A loss of your own: Python functions of a prediction and its target, compiled once.

    The loss of an example is the mean over outputs, that of a batch the mean over examples, with
    their weights.  Making one registers it: ``loss=`` takes it or its name, and checkpoints hold
    the name.

    Parameters
    ----------
    loss : callable
        ``loss(prediction, target)`` returns the loss of one output.
    gradient : callable
        ``gradient(prediction, target)`` returns its derivative by the prediction.
    targets : {"values"}, default "values"
        What y holds: any numbers, one for each output.
    name : str, optional
        What it is called; the name of `loss` by default, which a lambda has not.

    Raises
    ------
    TypeError, ValueError
        As for `CustomActivation`.

    Examples
    --------
    >>> import fastnn as fn
    >>> fourth = fn.CustomLoss(
    ...     lambda a, y: (a - y) ** 4, lambda a, y: 4 * (a - y) ** 3, name="fourth"
    ... )
    >>> net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=1)
    >>> net.evaluate([[1.0]], [2.0], fourth)
    {'loss': 16.0}
    """

    __slots__ = ()

    def __init__(
        self,
        loss: Number,
        gradient: Number,
        targets: Literal["values"] = "values",
        name: str | None = None,
    ) -> None:
        lookup({"values": 0}, targets, "targets")
        self._register({"loss": loss, "gradient": gradient}, name, LOSSES, None)
        for y in _TARGETS:
            for a in _PLACES:
                value = _number("loss", loss, a, y)
                slope = _number("gradient", gradient, a, y)
                h = _STEP * max(1.0, abs(a))
                above, below = (_number("loss", loss, a + way * h, y) for way in (1, -1))
                where = f"prediction = {a:.4g}, target = {y:g}"
                _compare("gradient", "loss", where, slope, (above - below) / (2.0 * h), value)
        from fastnn import reference

        reference.LOSSES.own[self.name] = self.equations()
        LOSSES.setdefault(self.name, self)

    def __reduce__(self) -> tuple[Any, ...]:
        return CustomLoss, (*self._parts(), "values", self.name)

    def values(self, S: Array, Y: Array) -> Array:
        """Compute the loss of each element, in the dtype of S."""
        return _each(self.functions[0], S, Y)

    def slopes(self, S: Array, Y: Array) -> Array:
        """Compute the derivative of each element."""
        return _each(self.functions[1], S, Y)

    def equations(self) -> tuple[Callable[..., Array], Callable[..., Array]]:
        """Return L of each example and its derivative as the textbook has them."""
        return (
            lambda Yhat, Y: np.mean(self.values(Yhat, Y), axis=0),
            lambda Yhat, Y: self.slopes(Yhat, Y) / len(Y),
        )


#: Names that stand for something else: rows of the library's tables, their aliases, and "auto".
RESERVED: set[str] = {"auto"}

#: Those that there are, by name.
ACTIVATIONS: dict[str, CustomActivation] = {}
LOSSES: dict[str, CustomLoss] = {}


def _same(one: _Own, other: _Own, settings: object) -> bool:
    """Say whether two records are of the same functions, written again at most."""
    if settings is not None and getattr(one, "derivative_from", None) != settings:
        return False
    return bool(one._made_of == other._made_of)


def _source(function: Any, callers: tuple[Any, ...] = ()) -> object:
    """Return what a function does: its code, and what it holds, functions that it calls too."""
    code = getattr(function, "__code__", None)
    if code is None or code in callers:
        return function if code is None else code
    held = [cell.cell_contents for cell in function.__closure__ or ()]
    held += [function.__globals__.get(name) for name in code.co_names]
    within, mine = (*callers, code), function.__globals__
    # Those of other modules, which may call very many, stand for themselves.
    known = [
        _source(one, within) if type(one) is FunctionType and one.__globals__ is mine else one
        for one in held
    ]
    return code, function.__defaults__, known


def _number(argument: str, function: Number, *given: float) -> float:
    """Call a function of the user's, which must give a finite number."""
    at = ", ".join(f"{one:.4g}" for one in given)
    try:
        found: Any = function(*given)
    except Exception as problem:
        said = f"{type(problem).__name__}: {problem}"
        raise ValueError(
            f"{argument} must compute a number; at {at} it raised {said}."
        ) from problem
    if not isinstance(found, (int, float, np.integer, np.floating)):
        raise TypeError(f"{argument} must return one number; at {at} it gave {describe(found)}.")
    if not math.isfinite(found):
        raise ValueError(f"{argument} must return a finite number; at {at} it gave {found}.")
    return float(found)


def _compare(argument: str, value: str, where: str, slope: float, rise: float, size: float) -> None:
    """Refuse a derivative that is not what differences say."""
    if abs(slope - rise) > _TOLERANCE * max(1.0, abs(rise), abs(size)):
        raise ValueError(
            f"{argument} must be the derivative of {value}; at {where} it gave {slope:.6g}, and "
            f"central differences of {value} say {rise:.6g}."
        )


def _each(function: Number, *arrays: Array) -> Array:
    """Call a function for each element; where Python raises, as of an overflow, it gives NaN."""

    def one(*given: Any) -> float:
        try:
            return float(function(*given))
        except (ArithmeticError, ValueError):
            return math.nan

    dtype = arrays[0].dtype
    if not arrays[0].size:
        return np.zeros(arrays[0].shape, dtype)
    with np.errstate(all="ignore"):
        return np.asarray(np.frompyfunc(one, len(arrays), 1)(*arrays).astype(dtype))
