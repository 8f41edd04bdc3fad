"""`net.freeze()`: predictions from weights that were packed once."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastnn import backends, gate, paths
from fastnn.layout import Layout, aligned_zeros
from fastnn.predicting.folded import Folder
from fastnn.predicting.folding import Folding
from fastnn.predicting.predictor import Predictor
from fastnn.predicting.walking import predictor_of

__all__ = ["Frozen"]

Floats = NDArray[np.floating]


class Frozen:
    """A network's predictions with its weights as they were, unaffected by later training.

    Made by `Sequential.freeze`.  Several threads may call it at once.

    Parameters
    ----------
    layout : Layout
        The network's.
    parameters : ndarray
        All of its parameters; copied.

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
        self._given = layout, parameters.copy()
        folding = Folding.of(layout, centred=True)
        if folding is not None:
            layout, parameters = folding.layout, Folder(folding, self.dtype).take(parameters)[0]
        # On a large page, like the network's own (784-512-512-10: a row takes 34 us, not 36).
        self._parameters = aligned_zeros(parameters.size, parameters.dtype)
        self._parameters[:] = parameters
        # A single row is answered soonest from weights that lie as in the network.
        self._lone = self._predictor = predictor_of(layout, parameters.dtype)
        if isinstance(self._lone, Predictor):
            self._predictor = Predictor(layout, parameters.dtype, frozen=True)
        self._packed = self._predictor.pack(parameters)

    def __call__(self, x: Floats, out: Floats | None = None) -> Floats:
        """Predict one example, or some: the bits of ``net(x)`` at the time of `freeze`.

        Parameters
        ----------
        x : ndarray, shape (p,) or (n, p)
            Of the network's dtype and C-contiguous; its values are not checked, except for codes
            that an `Embedding` reads.
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
        if (
            type(x) is np.ndarray
            and x.shape == self._lone.row
            and x.dtype is self.dtype
            and x.flags.carray
            and (out is None or gate.takes(out, (self.outputs,), x))
            and backends.natively()
        ):
            if out is None:
                out = np.empty(self.outputs, self.dtype)
            self._lone.single(self._parameters, x, out)
            return out
        if (
            type(x) is np.ndarray
            and x.dtype is self.dtype
            and x.flags.carray
            and x.shape[1:] == self._lone.row
            and len(x)
            and (out is None or gate.takes(out, (len(x), self.outputs), x))
            and backends.natively()
        ):
            if out is None:
                out = np.empty((len(x), self.outputs), self.dtype)
            self._predictor(self._packed, x, out)
            return out
        rows, out = gate.rows_and_results(x, out, self.inputs, self.outputs, self.dtype)
        if backends.natively():
            self._predictor(self._packed, rows, out)
        else:
            found = paths.asked().predictions(*self._given, rows.reshape(-1, self.inputs))
            out[...] = found.reshape(out.shape)
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
