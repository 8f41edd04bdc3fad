"""The optimizers: stateless records that hold a rule's numbers, and the table of their rows.

A record says how the rule is set; the moments and the step count that go with it live in the
training state.  The rules themselves stand in ``kernels/update.py`` (native) and in
``reference.py`` (textbook).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from fastnn.kernels import codes
from fastnn.names import check_bool, check_real

__all__ = ["OPTIMIZERS", "SGD", "Adam", "Optimizer", "OptimizerRow", "row_of"]


@dataclass(frozen=True, slots=True)
class SGD:
    """Stochastic gradient descent, with momentum if asked.

    Plain: ``w <- w - eta g``.  With momentum ``mu``: ``v <- mu v - eta g`` and ``w <- w + v``;
    with Nesterov's look-ahead ``w <- w + mu v - eta g``, with the new ``v``.

    Parameters
    ----------
    learning_rate : float, default 0.01
        ``eta``, above 0.
    momentum : float, default 0.0
        ``mu``, from 0 to below 1.
    nesterov : bool, default False
        Whether to look ahead; needs a momentum above 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Sutskever, Martens, Dahl & Hinton 2013, On the importance of initialization and momentum in
    deep learning, equations 1 to 4.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False)
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        """Check every number once, so that nobody else has to."""
        _set(self, "learning_rate", low=0.0, low_open=True)
        _set(self, "momentum", low=0.0, high=1.0, high_open=True)
        check_bool(self.nesterov, "nesterov")
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov=True needs a momentum above 0; got momentum=0.0.")


@dataclass(frozen=True, slots=True)
class Adam:
    """Adam: steps scaled by running means of the gradient and of its square.

    ``m <- beta_1 m + (1 - beta_1) g``, ``v <- beta_2 v + (1 - beta_2) g^2``, and
    ``w <- w - eta (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)`` at step ``t``.

    Parameters
    ----------
    learning_rate : float, default 0.001
        ``eta``, above 0.
    beta_1, beta_2 : float, default 0.9 and 0.999
        How much of the running means is kept at each step, from 0 to below 1.
    epsilon : float, default 1e-8
        Added outside the corrected root, above 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Kingma & Ba 2015, Adam: a method for stochastic optimization, algorithm 1.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.Adam(3e-4)
    Adam(learning_rate=0.0003, beta_1=0.9, beta_2=0.999, epsilon=1e-08)
    """

    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Check every number once, so that nobody else has to."""
        _set(self, "learning_rate", low=0.0, low_open=True)
        _set(self, "beta_1", low=0.0, high=1.0, high_open=True)
        _set(self, "beta_2", low=0.0, high=1.0, high_open=True)
        _set(self, "epsilon", low=0.0, low_open=True)


Optimizer = SGD | Adam


@dataclass(frozen=True, slots=True)
class OptimizerRow:
    """One row: what the engine needs to know about an optimizer.

    Attributes
    ----------
    name : str
        The record's name.
    record : type
        The record itself.
    code : int
        What the kernels switch on.
    moments : int
        How many vectors as long as the parameters it keeps between steps; all start at zero.
    numbers : callable
        Record -> its numbers by their place in the engine's (``kernels/codes.py``).
    """

    name: str
    record: type[Any]
    code: int
    moments: int
    numbers: Callable[[Any], dict[int, float]]


OPTIMIZERS: dict[str, OptimizerRow] = {
    row.name: row
    for row in (
        OptimizerRow(
            name="SGD",
            record=SGD,
            code=codes.SGD,
            moments=1,
            numbers=lambda sgd: {
                codes.LEARNING_RATE: sgd.learning_rate,
                codes.MOMENTUM: sgd.momentum,
                codes.NESTEROV: float(sgd.nesterov),
            },
        ),
        OptimizerRow(
            name="Adam",
            record=Adam,
            code=codes.ADAM,
            moments=2,
            numbers=lambda adam: {
                codes.LEARNING_RATE: adam.learning_rate,
                codes.BETA_1: adam.beta_1,
                codes.BETA_2: adam.beta_2,
                codes.EPSILON: adam.epsilon,
            },
        ),
    )
}


def row_of(optimizer: object) -> OptimizerRow:
    """Return the row of an optimizer's record, or say what an optimizer is."""
    for row in OPTIMIZERS.values():
        if type(optimizer) is row.record:
            return row
    known = ", ".join(f"fastnn.{name}(...)" for name in OPTIMIZERS)
    hint = f" Did you mean fastnn.{optimizer.__name__}()?" if isinstance(optimizer, type) else ""
    raise TypeError(
        f"optimizer must be one of {known}; got {optimizer!r} ({type(optimizer).__name__}).{hint}"
    )


def hyperparameters(optimizer: Optimizer) -> dict[str, float]:
    """Return a record's numbers by name, as the reference takes them."""
    return asdict(optimizer)


def _set(record: Any, name: str, **limits: Any) -> None:
    """Check a field and store it as a plain float, so that equal settings compare equal."""
    object.__setattr__(record, name, check_real(getattr(record, name), name, **limits))
