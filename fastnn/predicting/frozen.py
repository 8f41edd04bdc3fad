"""`net.freeze()`: predictions from weights that were packed once."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastnn import backends, gate, paths
from fastnn.layout import Layout, aligned_zeros
from fastnn.names import lookup
from fastnn.predicting.folded import Folder
from fastnn.predicting.folding import Folding
from fastnn.predicting.halves import AnyHalfPredictor, half_predictor_of
from fastnn.predicting.predictor import Predictor
from fastnn.predicting.walking import predictor_of

__all__ = ["Frozen"]

Floats = NDArray[np.floating]

# What weights may be stored as, beside the network's own dtype.
_FORMATS = {"bfloat16": "bfloat16"}


class Frozen:
    """A network's predictions with its weights as they were, unaffected by later training.

    Made by `Sequential.freeze`.  Several threads may call it at once.

    Parameters
    ----------
    layout : Layout
        The network's.
    parameters : ndarray
        All of its parameters; copied.
    weights : str, optional
        "bfloat16" rounds the weights, so that they take half the memory.

    Attributes
    ----------
    inputs, outputs : int
        Number of features, p, and of outputs, m.
    dtype : numpy.dtype
        The network's.
    nbytes : int
        Bytes of the weights and biases that predictions of some rows read.

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

    def __init__(self, layout: Layout, parameters: Floats, weights: str | None = None) -> None:
        self.inputs, self.outputs, self.dtype = layout.inputs, layout.outputs, parameters.dtype
        self._halves: AnyHalfPredictor | None = None
        if weights is not None:
            self._round(layout, parameters, weights)
            return
        self._given = layout, parameters.copy()
        folding = Folding.of(layout, centred=True)
        if folding is not None:
            layout, parameters = folding.layout, Folder(folding, self.dtype).take(parameters)[0]
        # On a large page, like the network's own (784-512-512-10: a row takes 34 us, not 36).
        self._parameters = aligned_zeros(parameters.size, parameters.dtype)
        self._parameters[:] = parameters
        # A single row is answered soonest from weights that lie as in the network, and so are a
        # few where weights are large.
        self._few = 0
        self._lone = self._predictor = predictor_of(layout, parameters.dtype)
        if isinstance(self._lone, Predictor):
            self._few = self._lone.unpacked
            self._predictor = Predictor(layout, parameters.dtype, frozen=True)
        self._packed = self._predictor.pack(parameters)

    def _round(self, layout: Layout, parameters: Floats, weights: str) -> None:
        """Keep nothing but rounded weights."""
        lookup(_FORMATS, weights, "weights")
        if self.dtype != np.float32:
            raise TypeError(
                f"weights={weights!r} is for networks of float32; got one of {self.dtype}. "
                'Sequential(..., dtype="float32") makes one, and net.freeze() takes any.'
            )
        folding = Folding.of(layout, centred=True)
        if folding is not None:
            layout, parameters = folding.layout, Folder(folding, self.dtype).take(parameters)[0]
        self._few = 0
        self._lone = self._predictor = self._halves = half_predictor_of(layout, self.dtype)
        self._parameters = self._packed = self._halves.pack(parameters)

    def _by_the_book(self, rows: Floats) -> Floats:
        """Return the textbook's predictions."""
        if self._halves is None:
            return paths.asked().predictions(*self._given, rows)
        flat = self._halves.unpack(self._packed)
        return paths.asked().predictions(self._halves.layout, flat, rows)

    def __call__(self, x: Floats, out: Floats | None = None) -> Floats:
        """Predict one example, or some: the bits of ``net(x)`` at the time of `freeze`.

        Where weights were rounded, those of a network of such weights.

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
            if len(x) <= self._few:
                self._lone(self._parameters, x, out)
            else:
                self._predictor(self._packed, x, out)
            return out
        rows, out = gate.rows_and_results(x, out, self.inputs, self.outputs, self.dtype)
        if backends.natively():
            self._predictor(self._packed, rows, out)
        else:
            out[...] = self._by_the_book(rows.reshape(-1, self.inputs)).reshape(out.shape)
        return out

    @property
    def nbytes(self) -> int:
        """Bytes of the weights and biases that predictions of some rows read."""
        return self._packed.nbytes

    def __repr__(self) -> str:
        kept = "" if self._halves is None else ", in bfloat16"
        return (
            f"<frozen network of {self.inputs} inputs and {self.outputs} outputs, {self.dtype}: "
            f"its weights stay as they were when it was frozen{kept}>"
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
