"""`net.freeze()`: predictions from weights that were packed once."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastnn import backends, gate, prediction
from fastnn.layout import Layout
from fastnn.predictor import Predictor

__all__ = ["Frozen"]

Floats = NDArray[np.floating]


class Frozen:
    """A network's predictions with its weights as they were, deaf to later training.

    Made by `Sequential.freeze`.  Several threads may call it at once.

    Parameters
    ----------
    layout : Layout
        The network's.
    parameters : ndarray
        All of its parameters; kept, and never written to.

    Attributes
    ----------
    inputs, outputs : int
        Number of features, p, and of outputs, m.
    dtype : numpy.dtype
        The network's.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=2)
    >>> frozen = net.freeze()
    >>> net.parameters[:] = 0
    >>> frozen(np.array([1, 2], dtype=np.float32))
    array([1.5], dtype=float32)
    """

    def __init__(self, layout: Layout, parameters: Floats) -> None:
        self.inputs, self.outputs, self.dtype = layout.inputs, layout.outputs, parameters.dtype
        self._layout, self._parameters = layout, parameters
        self._predictor = Predictor(layout, parameters.dtype, frozen=True)
        self._packed = self._predictor.pack(parameters)

    def __call__(self, x: Floats, out: Floats | None = None) -> Floats:
        """Predict one example, or some: the bits of ``net(x)`` at the time of `freeze`.

        Parameters
        ----------
        x : ndarray, shape (p,) or (n, p)
            Of the network's dtype and C-contiguous; its values are not checked.
        out : ndarray, shape (m,) or (n, m), optional
            Where to write the predictions.

        Returns
        -------
        ndarray, shape (m,) or (n, m)
            `out`, if it is given.

        Raises
        ------
        TypeError, ValueError
            If x or out is not as said above.

        Examples
        --------
        >>> import numpy as np
        >>> import fastnn as fn
        >>> frozen = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=2).freeze()
        >>> frozen(np.ones((2, 2), np.float32))
        array([[1.],
               [1.]], dtype=float32)
        """
        rows = gate.row_or_rows(x, self.inputs, self.dtype)
        shape = (self.outputs,) if rows.ndim == 1 else (len(rows), self.outputs)
        if out is None:
            out = np.empty(shape, self.dtype)
        else:
            gate.output_buffer(out, shape, self.dtype)
            if np.may_share_memory(out, rows):
                rows = rows.copy()
        if backends.natively():
            self._predictor(self._packed, rows, out)
        else:
            out[...] = prediction.predictions(
                self._layout,
                self._parameters,
                rows.reshape(-1, self.inputs),
                backend=backends.in_force(),
            ).reshape(shape)
        return out

    def __repr__(self) -> str:
        return (
            f"<frozen network of {self.inputs} inputs and {self.outputs} outputs, {self.dtype}: "
            "its weights stay as they were when it was frozen>"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a frozen network is of this process only, as its weights are packed for this "
            "processor. Pickle or copy the network, and freeze that."
        )

    def __copy__(self) -> Frozen:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Frozen:
        return self
