"""Predictions of compiled code: inside users' functions, by a C pointer, with many weight vectors.

All three use the arrays of `Embedded`, the one place here that knows what the kernels read.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.kernels import codes
from fastnn.kernels._load import load_kernels
from fastnn.layout import Layout
from fastnn.predicting.predictor import Table, tiling_of

__all__ = ["CFunction", "Embedded", "Weights", "functions"]

Floats = NDArray[np.floating]
Weights: TypeAlias = tuple[Floats, NDArray[np.int64], NDArray[np.int64], NDArray[Any]]

# Bytes of the stack that what lies between layers may take.  The smallest stack that threads have
# is that of macOS's: 512 KiB.
_STACK = 1 << 18


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
