"""Layers that bend what they read by slopes that are learnt: frozen records, like `layers`'."""

from __future__ import annotations

from dataclasses import dataclass

from fastnn.hints import understands
from fastnn.layers import Layer, later
from fastnn.names import check_bool, check_real

__all__ = ["PReLU"]

_WORDS = {
    "init": "initial",
    "alpha": "initial",
    "negative_slope": "initial",
    "num_parameters": "There is one slope for each unit.",
    "shared_axes": "There is one slope for each unit.",
    "name": "A layer has no name; leave it out.",
}


@understands(_WORDS)
@dataclass(frozen=True, slots=True, repr=False)
class PReLU(Layer):
    """Computes ``max(a, 0) + slope min(a, 0)``, with one slope for each unit, which is learnt.

    It stands behind a `Dense` of activation "identity".  The array "slope", of shape (units,),
    neither decays nor counts for L2.

    Parameters
    ----------
    initial : float, default 0.25
        What every slope begins at.
    trainable : bool, default True
        Whether training changes the slopes.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or not finite.

    Notes
    -----
    He, Zhang, Ren & Sun 2015, "Delving deep into rectifiers".

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(64), fn.PReLU(), fn.Dense(10, "softmax")], inputs=5)
    >>> net.layout.names
    ('0.W', '0.b', '1.slope', '2.W', '2.b')
    """

    initial: float = 0.25
    trainable: bool = later(True)

    def __post_init__(self) -> None:
        """Check every field once and store it in its plain form."""
        object.__setattr__(self, "initial", check_real(self.initial, "initial"))
        object.__setattr__(self, "trainable", check_bool(self.trainable, "trainable"))
