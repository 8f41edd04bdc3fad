"""Predictions of compiled code: inside users' functions, by a C pointer, with many weight vectors.

All three use the arrays of `Embedded`, the one place here that knows what the kernels read.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import tuning
from fastnn.helpers import shared
from fastnn.kernels import codes
from fastnn.kernels._load import load_kernels
from fastnn.layout import Layout, aligned_zeros
from fastnn.predictor import Predictor, Table, as_if_writeable, tiling_of
from fastnn.threads import crowd, recent_ceiling

__all__ = ["CFunction", "Embedded", "Weights", "functions"]

Floats = NDArray[np.floating]
Weights: TypeAlias = tuple[Floats, NDArray[np.int64], NDArray[np.int64], NDArray[Any]]

# Bytes of the stack that what lies between layers may take.  The smallest stack that threads have
# is that of macOS's: 512 KiB.
_STACK = 1 << 18

# Rows for a weight vector are computed one by one, without packing the weights, up to this number
# and where they are up to so much work (8-64-64-2: packing pays from 20 rows on, 64-256-256-10:
# from 5 on).
_FEW_ROWS = 4
_LITTLE_WORK = 200_000

# A multiplication or addition for one row takes about as long as so many for many rows, as it is
# bound by memory.
_ROW_FACTOR = 4

# Weight vectors are shared out among threads in so many parts for each, so that all end together.
_PARTS = 8

# Multiplications and additions that a thread does in a nanosecond.
_WORK_IN_A_NANOSECOND = 50


def functions() -> tuple[Any, Any]:
    """Return what users' compiled functions call: the prediction, and the product with v."""
    load_kernels()
    from fastnn.kernels.embedded import forward, vjp

    return forward, vjp


class Embedded:
    """What compiled code needs to know of a network beside its parameters.

    Parameters
    ----------
    layout : Layout
        The network's.
    dtype : dtype
        Of everything.

    Attributes
    ----------
    layout : Layout
        As given.
    """

    def __init__(self, layout: Layout, dtype: np.dtype[Any]) -> None:
        load_kernels()
        from fastnn.kernels.embedded import seal

        table = Table.of(layout.blocks, dtype)
        panel = tiling_of(dtype).panel
        widest = max(layout.inputs, *(block.outputs for block in layout.blocks))
        plan = table.plan.copy()
        plan[codes.ROOM] = 0
        plan[codes.HALF] = self._half = -(-widest // panel) * panel
        rows = table.rows
        for array in (rows, plan):
            array.flags.writeable = False
        self.layout, self._dtype = layout, dtype
        self._rest = rows, plan, seal(dtype)
        self._work = sum(2 * block.W.size for block in layout.blocks)
        self._rooms: list[Floats] = []

    def weights(self, parameters: Floats, method: str, gradient: bool = False) -> Weights:
        """Return the tuple that `kernels.embedded` takes, of which the first is the parameters.

        Raises
        ------
        ValueError
            If the stack has no room for what lies between the layers.
        """
        layers = len(self.layout.blocks)
        buffers = 2 * layers + 2 if gradient else 2
        if buffers * self._half * self._dtype.itemsize > _STACK:
            most = _STACK // buffers // self._dtype.itemsize
            raise ValueError(
                f"{method}{'(gradient=True)' if gradient else '()'} keeps what lies between layers "
                f"on the stack, and so computes networks of {layers} layers of at most {most:,} "
                f"inputs and units each in {self._dtype}; got {self._half:,}. net(x) computes "
                f"networks of any width."
            )
        return (parameters, *self._rest)

    def each(self, predictor: Predictor, P: Floats, X: Floats, out: Floats) -> None:
        """Predict with every weight vector.

        Parameters
        ----------
        predictor : Predictor
            The network's.
        P : ndarray, shape (k, size)
            Parameters.
        X : ndarray, shape (1, n, p) or (k, n, p)
            Rows for all, or for each.
        out : ndarray, shape (k, n, m)
            Written.
        """
        rows = X.shape[1]
        one_by_one = rows <= _FEW_ROWS or rows * self._work <= _LITTLE_WORK
        work = self._work * rows * (_ROW_FACTOR if one_by_one else 1)
        size = min(int(work * len(P) / tuning.current.helper_share), len(P))
        size = crowd.limit(min(recent_ceiling(), size)) if size > 1 else 1
        # Ctrl-C takes effect between two slices.
        nanoseconds = work / _WORK_IN_A_NANOSECOND
        step = max(1, int(size * tuning.current.call_nanoseconds / nanoseconds))
        if not one_by_one:
            P = as_if_writeable(P.view())
        for start in range(0, len(P), step):
            some = slice(start, start + step)
            mine = X if len(X) == 1 else X[some]
            if one_by_one:
                self._few_rows(size, P[some], mine, out[some])
            elif rows <= predictor.most:
                self._some_rows(size, predictor, P[some], mine, out[some])
            else:
                for k, parameters in enumerate(P[some], start):
                    predictor(parameters, X[k if len(X) > 1 else 0], out[k])

    def _few_rows(self, size: int, P: Floats, X: Floats, out: Floats) -> None:
        """Predict for a few rows in one kernel, in so many threads."""
        from fastnn.kernels.embedded import answer_each

        table, plan, _ = self._rest
        P, X = P.view(), X.view()
        for given in (P, X):
            # Kernels are compiled once, for read-only arrays.
            given.flags.writeable = False
        taken = np.zeros(1, np.int64)
        share = max(1, len(P) // (size * _PARTS))
        rooms = self._rooms

        def call() -> None:
            try:
                room = rooms.pop()
            except IndexError:
                room = aligned_zeros(2 * self._half, self._dtype)
            answer_each(table, plan, P, room, X, out, taken, share)
            rooms.append(room)

        shared(size, call)

    def _some_rows(
        self, size: int, predictor: Predictor, P: Floats, X: Floats, out: Floats
    ) -> None:
        """Predict for some rows from packed weights, in so many threads."""
        waiting: Iterator[int] = iter(range(len(P)))

        def call() -> None:
            for k in waiting:
                predictor(P[k], X[k if len(X) > 1 else 0], out[k])

        shared(size, call)


class CFunction:
    """A network's prediction for one row as a C function, ``void f(const T *x, T *out)``.

    Made by `Sequential.cfunc`.  T is ``float`` or ``double``, x has a number for each input and out
    one for each output; neither is checked, and they may be the same.  The function may be called
    from several threads at once, needs no Python and does not hold its global lock.

    It reads the network's parameters where they are, so that training and assigning to
    `parameters` take effect at once; the network itself need not be kept.

    The function is there as long as this object is, or one of the objects that `ctypes` gave: keep
    one of them for as long as compiled code may call the address.

    Parameters
    ----------
    embedded : Embedded
        The network's.
    weights : tuple of ndarray
        From there.

    Attributes
    ----------
    inputs, outputs : int
        Lengths of x and out.
    dtype : numpy.dtype
        The network's: of x and out.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fn
    >>> function = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=2, dtype="float64").cfunc()
    >>> x, out = np.array([1.0, 2.0]), np.zeros(1)
    >>> pointer = function.ctypes.argtypes[0]
    >>> function.ctypes(x.ctypes.data_as(pointer), out.ctypes.data_as(pointer))
    >>> out
    array([1.5])
    """

    __slots__ = ("__weakref__", "_held", "_kind", "address", "dtype", "inputs", "outputs")

    #: Where the function is in memory, for as long as this object is.
    address: int

    def __init__(self, embedded: Embedded, weights: Weights) -> None:
        layout, parameters = embedded.layout, weights[0]
        self.inputs, self.outputs, self.dtype = layout.inputs, layout.outputs, parameters.dtype
        number = ctypes.c_float if parameters.dtype == np.float32 else ctypes.c_double
        pointer = ctypes.POINTER(number)
        self._kind = ctypes.CFUNCTYPE(None, pointer, pointer)
        self.address, *self._held = _function(self._kind, weights, self.inputs, self.outputs)

    @property
    def ctypes(self) -> Any:
        """The function for ctypes and for SciPy's ``LowLevelCallable``; it keeps this object."""
        function: Any = self._kind(self.address)
        function.owner = self
        return function

    def __repr__(self) -> str:
        T = "float" if self.dtype == np.float32 else "double"
        return (
            f"<void f(const {T} *x, {T} *out) at {self.address:#x}: a network of {self.inputs} "
            f"inputs and {self.outputs} outputs>"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a C function is of this process only. Pickle or copy the network, and ask that for "
            "its cfunc()."
        )

    def __copy__(self) -> CFunction:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> CFunction:
        return self


def _function(
    kind: Callable[..., Any], weights: Weights, inputs: int, outputs: int
) -> tuple[int, Any, Any]:
    """Return the address of a network's C function, and what must be kept for it."""
    from fastnn.kernels.embedded import forward, row_at_addresses

    address_of = row_at_addresses(weights[0].dtype)
    if address_of is None:

        def interpreted(x: Any, out: Any) -> None:
            vectors = np.ctypeslib.as_array(x, (inputs,)), np.ctypeslib.as_array(out, (outputs,))
            forward(weights, *vectors)

        function = kind(interpreted)
        address = ctypes.cast(function, ctypes.c_void_p).value
        assert address is not None
        return address, function, weights
    from fastnn.kernels.thunks import Thunk

    parameters, table, plan, _ = weights
    thunk = Thunk(
        address_of.address,
        [
            parameters.ctypes.data, parameters.size, table.ctypes.data, len(table),
            plan.ctypes.data,
        ],
    )  # fmt: skip
    return thunk.address, thunk, weights
