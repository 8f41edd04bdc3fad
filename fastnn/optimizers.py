"""The optimizers: stateless records that hold a rule's numbers, and the table of their rows.

A record says how the rule is set; the moments and the step count that go with it live in the
training state.  The rules themselves stand in ``kernels/rules.py`` (native) and in
``reference.py`` and ``equations.tables`` (textbook).  The file is long because each record
documents its rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import words
from fastnn.hints import understands
from fastnn.kernels import codes, records
from fastnn.names import check_bool, check_real, describe, lookup
from fastnn.whole_batch import SEARCHES, WholeBatch, searched

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "AMSGrad",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Nadam",
    "Optimizer",
    "OptimizerLike",
    "OptimizerRow",
    "RAdam",
    "RMSprop",
    "Rprop",
    "check_decays",
    "hyperparameters",
    "resolve_optimizer",
    "row_of",
]


@understands(words.OPTIMIZER)
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
        """Check every number once, when the record is made."""
        _set(self, "learning_rate", low=0.0, low_open=True)
        _set(self, "momentum", low=0.0, high=1.0, high_open=True)
        check_bool(self.nesterov, "nesterov")
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov=True needs a momentum above 0; got momentum=0.0.")


@understands(words.OPTIMIZER)
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
        """Check every number once, when the record is made."""
        _check_adam(self)


@understands(words.OPTIMIZER)
@dataclass(frozen=True, slots=True)
class RMSprop:
    """RMSprop: steps scaled by a running mean of the gradient's square.

    ``v <- rho v + (1 - rho) g^2`` and ``w <- w - eta g / (sqrt(v) + epsilon)``.

    Parameters
    ----------
    learning_rate : float, default 0.001
        ``eta``, above 0.
    rho : float, default 0.9
        How much of the running mean is kept at each step, from 0 to below 1.
    epsilon : float, default 1e-8
        Added outside the root, above 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Tieleman & Hinton 2012, Lecture 6.5: rmsprop, divide the gradient by a running average of its
    recent magnitude, Neural networks for machine learning; ``rho`` and ``learning_rate`` too.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.RMSprop(0.01)
    RMSprop(learning_rate=0.01, rho=0.9, epsilon=1e-08)
    """

    learning_rate: float = 0.001
    rho: float = 0.9
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        _set(self, "learning_rate", low=0.0, low_open=True)
        _set(self, "rho", low=0.0, high=1.0, high_open=True)
        _set(self, "epsilon", low=0.0, low_open=True)


@understands(words.OPTIMIZER)
@dataclass(frozen=True, slots=True)
class Adagrad:
    """Adagrad: steps scaled by the sum of all squares of the gradient.

    ``v <- v + g^2`` and ``w <- w - eta g / (sqrt(v) + epsilon)``.

    Parameters
    ----------
    learning_rate : float, default 0.01
        ``eta``, above 0.
    epsilon : float, default 1e-10
        Added outside the root, above 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Duchi, Hazan & Singer 2011, Adaptive subgradient methods for online learning and stochastic
    optimization, Journal of Machine Learning Research 12.  The defaults are PyTorch's.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.Adagrad(0.1)
    Adagrad(learning_rate=0.1, epsilon=1e-10)
    """

    learning_rate: float = 0.01
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        _set(self, "learning_rate", low=0.0, low_open=True)
        _set(self, "epsilon", low=0.0, low_open=True)


@understands(words.OPTIMIZER)
@dataclass(frozen=True, slots=True)
class AdamW:
    """Adam with decoupled weight decay: the weights shrink beside Adam's step, not through it.

    `Adam`'s step, and ``w <- w - eta weight_decay w`` of the weight before it.  Biases do not
    decay.  A layer's ``l2`` is something else: part of the loss, and so of the gradient.

    Parameters
    ----------
    learning_rate : float, default 0.001
        ``eta``, above 0; it scales the decay too.
    beta_1, beta_2 : float, default 0.9 and 0.999
        How much of the running means is kept at each step, from 0 to below 1.
    epsilon : float, default 1e-8
        Added outside the corrected root, above 0.
    weight_decay : float, default 0.01
        By what part of itself, times ``eta``, a weight shrinks at each step, at least 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Loshchilov & Hutter 2019, Decoupled weight decay regularization, algorithm 2, in the form and
    with the default of PyTorch, where the learning rate scales the decay.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.AdamW(weight_decay=0.1)
    AdamW(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08, weight_decay=0.1)
    """

    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        _check_adam(self)
        _set(self, "weight_decay", low=0.0)


@understands(words.OPTIMIZER)
@dataclass(frozen=True, slots=True)
class Nadam:
    """Nadam: Adam whose mean of the gradient looks one step ahead, as Nesterov's momentum does.

    With `Adam`'s ``m`` and ``v``, ``mu_t = beta_1 (1 - 0.96^(t / 250) / 2)`` and ``P_t`` the
    product of ``mu_1`` to ``mu_t``: ``w <- w - eta (mu_{t+1} m / (1 - P_{t+1}) + (1 - mu_t) g /
    (1 - P_t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)`` at step ``t``.

    Parameters
    ----------
    learning_rate : float, default 0.002
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
    Dozat 2016, Incorporating Nesterov momentum into Adam, ICLR workshop, in the form and with the
    defaults of PyTorch, where ``m`` itself keeps ``beta_1``.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.Nadam()
    Nadam(learning_rate=0.002, beta_1=0.9, beta_2=0.999, epsilon=1e-08)
    """

    learning_rate: float = 0.002
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        _check_adam(self)


@understands(words.OPTIMIZER)
@dataclass(frozen=True, slots=True)
class RAdam:
    """Rectified Adam: no scaling until the mean of the squares averages enough, then Adam's.

    With `Adam`'s ``m`` and ``v`` corrected, ``n = 2 / (1 - beta_2) - 1`` and ``n_t = n - 2 t
    beta_2^t / (1 - beta_2^t)``: up to ``n_t = 4`` (the first five steps) ``w <- w - eta m``, then
    ``w <- w - eta r m / (sqrt(v) + epsilon)`` with ``r^2 = (n_t - 4) (n_t - 2) n / ((n - 4)
    (n - 2) n_t)``.

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
    Liu, Jiang, He, Chen, Liu, Gao & Han 2020, On the variance of the adaptive learning rate and
    beyond, ICLR, algorithm 2; ``epsilon`` as in Adam.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.RAdam()
    RAdam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08)
    """

    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        _check_adam(self)


@understands(words.OPTIMIZER)
@dataclass(frozen=True, slots=True)
class Rprop:
    """Resilient backpropagation: every parameter has a step of its own; only signs count.

    Where the gradient keeps its sign the step grows by ``increase`` and is taken against it;
    where the sign turns the step shrinks by ``decrease`` and is left out once.  Made for full
    batches: from batch to batch signs turn by chance.

    Parameters
    ----------
    learning_rate : float, default 0.01
        The first step of each parameter, above 0.
    decrease : float, default 0.5
        Factor of a step where the sign turned, between 0 and 1.
    increase : float, default 1.2
        Factor of a step where the sign stayed, above 1.
    smallest, largest : float, default 1e-6 and 50.0
        Limits of a step, above 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Riedmiller & Braun 1993, A direct adaptive method for faster backpropagation learning: the
    RPROP algorithm, ICNN, in the variant iRprop- of Igel & Huesken 2003, Empirical evaluation of
    the improved Rprop learning algorithms, Neurocomputing 50.  The first step is PyTorch's.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.Rprop()
    Rprop(learning_rate=0.01, decrease=0.5, increase=1.2, smallest=1e-06, largest=50.0)
    """

    learning_rate: float = 0.01
    decrease: float = 0.5
    increase: float = 1.2
    smallest: float = 1e-6
    largest: float = 50.0

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        _set(self, "learning_rate", low=0.0, low_open=True)
        _set(self, "decrease", low=0.0, high=1.0, low_open=True, high_open=True)
        _set(self, "increase", low=1.0, low_open=True)
        _set(self, "smallest", low=0.0, low_open=True)
        _set(self, "largest", low=self.smallest)


@understands(words.OPTIMIZER)
@dataclass(frozen=True, slots=True)
class AMSGrad:
    """Adam that divides by the largest running mean of squares so far, so that steps only shrink.

    With `Adam`'s ``m`` and ``v``, and ``u <- max(u, v)``:
    ``w <- w - eta (m / (1 - beta_1^t)) / (sqrt(u / (1 - beta_2^t)) + epsilon)``.  It is a record
    of its own and no switch of `Adam`, as it keeps one vector more.

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
    Reddi, Kale & Kumar 2018, On the convergence of Adam and beyond, ICLR, algorithm 2, in the form
    of PyTorch, where means are corrected as Adam's are.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.AMSGrad(3e-4)
    AMSGrad(learning_rate=0.0003, beta_1=0.9, beta_2=0.999, epsilon=1e-08)
    """

    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        _check_adam(self)


@understands(words.OPTIMIZER)
@dataclass(frozen=True, slots=True)
class Adamax:
    """Adamax: Adam with the largest of past gradients, fading, in place of their mean square.

    ``m <- beta_1 m + (1 - beta_1) g``, ``u <- max(beta_2 u, |g| + epsilon)`` and
    ``w <- w - eta / (1 - beta_1^t) m / u`` at step ``t``.

    Parameters
    ----------
    learning_rate : float, default 0.002
        ``eta``, above 0.
    beta_1, beta_2 : float, default 0.9 and 0.999
        How much is kept at each step, from 0 to below 1.
    epsilon : float, default 1e-8
        Added to the size of each gradient, above 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Kingma & Ba 2015, Adam: a method for stochastic optimization, algorithm 2; ``epsilon`` and the
    default of ``learning_rate`` are PyTorch's.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.Adamax()
    Adamax(learning_rate=0.002, beta_1=0.9, beta_2=0.999, epsilon=1e-08)
    """

    learning_rate: float = 0.002
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        _check_adam(self)


@understands(words.OPTIMIZER)
@dataclass(frozen=True, slots=True)
class Adadelta:
    """Adadelta: steps whose size follows from those taken before, not from a learning rate.

    ``v <- rho v + (1 - rho) g^2``, the step ``d = sqrt(u + epsilon) / sqrt(v + epsilon) g``,
    ``u <- rho u + (1 - rho) d^2`` and ``w <- w - eta d``.

    Parameters
    ----------
    learning_rate : float, default 1.0
        ``eta``, above 0; 1 in the paper.
    rho : float, default 0.9
        How much of the running means is kept at each step, from 0 to below 1.
    epsilon : float, default 1e-6
        Added inside both roots, above 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Zeiler 2012, ADADELTA: an adaptive learning rate method, arXiv:1212.5701, algorithm 1.  The
    defaults are PyTorch's.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.Adadelta()
    Adadelta(learning_rate=1.0, rho=0.9, epsilon=1e-06)
    """

    learning_rate: float = 1.0
    rho: float = 0.9
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        _set(self, "learning_rate", low=0.0, low_open=True)
        _set(self, "rho", low=0.0, high=1.0, high_open=True)
        _set(self, "epsilon", low=0.0, low_open=True)


@understands(words.OPTIMIZER)
@dataclass(frozen=True, slots=True)
class Lion:
    """Lion: steps of one size, by the sign of a running mean of the gradient.

    ``w <- w - eta (sign(beta_1 m + (1 - beta_1) g) + weight_decay w)``, then
    ``m <- beta_2 m + (1 - beta_2) g``.  Biases do not decay.  One vector is kept, where Adam keeps
    two; a tenth to a third of Adam's learning rate suits it.

    Parameters
    ----------
    learning_rate : float, default 0.0001
        ``eta``, above 0.
    beta_1, beta_2 : float, default 0.9 and 0.99
        How much of the running mean is kept for the step, and after it, from 0 to below 1.
    weight_decay : float, default 0.0
        By what part of itself, times ``eta``, a weight shrinks at each step, at least 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    References
    ----------
    Chen and others 2023, Symbolic discovery of optimization algorithms, NeurIPS, algorithm 2.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.Lion(3e-4)
    Lion(learning_rate=0.0003, beta_1=0.9, beta_2=0.99, weight_decay=0.0)
    """

    learning_rate: float = 0.0001
    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Check every number once, when the record is made."""
        _set(self, "learning_rate", low=0.0, low_open=True)
        _set(self, "beta_1", low=0.0, high=1.0, high_open=True)
        _set(self, "beta_2", low=0.0, high=1.0, high_open=True)
        _set(self, "weight_decay", low=0.0)


Optimizer = (
    SGD | Adam | RMSprop | Adagrad | AdamW | Nadam | RAdam | Rprop | AMSGrad | Adamax | Adadelta
    | Lion
)  # fmt: skip
OptimizerLike: TypeAlias = Optimizer | WholeBatch | str


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
    """

    name: str
    record: type[Any]
    code: int
    moments: int

    def __post_init__(self) -> None:
        """Refuse a record with a number that the engine's have no place for."""
        own = {field.name for field in fields(self.record)}
        places = set(records.NUMBERS.names or ()) - {"steps", "clip_norm"}
        if not own <= places:
            raise ValueError(
                f"the numbers of {self.name} must be fields of records.NUMBERS other than steps "
                f"and clip_norm; got {', '.join(sorted(own - places))}."
            )

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names that are accepted: its own in small letters."""
        return (self.name.lower(),)

    def numbers(self, record: Any) -> NDArray[np.void]:
        """Return a record's numbers as the engine reads them, `records.NUMBERS`, before a step."""
        numbers = np.zeros((), records.NUMBERS)
        for name, number in hyperparameters(record).items():
            numbers[name] = number
        return numbers


OPTIMIZERS: dict[str, OptimizerRow] = {
    row.name: row
    for row in (
        OptimizerRow("SGD", SGD, codes.SGD, moments=1),
        OptimizerRow("Adam", Adam, codes.ADAM, moments=2),
        OptimizerRow("RMSprop", RMSprop, codes.RMSPROP, moments=1),
        OptimizerRow("Adagrad", Adagrad, codes.ADAGRAD, moments=1),
        OptimizerRow("AdamW", AdamW, codes.ADAMW, moments=2),
        OptimizerRow("Nadam", Nadam, codes.NADAM, moments=2),
        OptimizerRow("RAdam", RAdam, codes.RADAM, moments=2),
        OptimizerRow("Rprop", Rprop, codes.RPROP, moments=2),
        OptimizerRow("Adadelta", Adadelta, codes.ADADELTA, moments=2),
        OptimizerRow("Adamax", Adamax, codes.ADAMAX, moments=2),
        OptimizerRow("AMSGrad", AMSGrad, codes.AMSGRAD, moments=3),
        OptimizerRow("Lion", Lion, codes.LION, moments=1),
    )
}

# A single step looks its row up twice.
_NAMES = {row.record: name for name, row in OPTIMIZERS.items()}


def row_of(optimizer: object, others: tuple[str, ...] = ()) -> OptimizerRow:
    """Return the row of an optimizer's record, or say what an optimizer is, or one of others."""
    name = _NAMES.get(type(optimizer))
    if name is not None:
        return OPTIMIZERS[name]
    known = ", ".join(f"fastnn.{name}(...)" for name in (*OPTIMIZERS, *others))
    hint = f" Did you mean fastnn.{optimizer.__name__}()?" if isinstance(optimizer, type) else ""
    raise TypeError(
        f"optimizer must be one of {known}, or its name; got {describe(optimizer)}.{hint}"
    )


def resolve_optimizer(optimizer: object, *, fitting: bool = False) -> Optimizer:
    """Take what was given for an optimizer that takes steps.

    Parameters
    ----------
    optimizer : record or str
        A record, or the name of one in `OPTIMIZERS`, as it stands there or in small letters,
        which stands for the record with its defaults.
    fitting : bool
        Whether the caller takes searches too, for messages.

    Returns
    -------
    Optimizer
        The record.

    Raises
    ------
    TypeError, ValueError
        If it is anything else, a class instead of an object included, an unknown name, or a search
        over all examples, which takes no steps.

    Examples
    --------
    >>> resolve_optimizer("sgd")
    SGD(learning_rate=0.01, momentum=0.0, nesterov=False)
    >>> resolve_optimizer("RMSprop")
    RMSprop(learning_rate=0.001, rho=0.9, epsilon=1e-08)
    """
    if type(optimizer) in _NAMES:
        return optimizer  # type: ignore[return-value]
    search = searched(optimizer)
    if search is not None:
        raise ValueError(
            f"optimizer must be one that takes steps, {', '.join(OPTIMIZERS)}; "
            f"{type(search.record).__name__} searches over all examples at once, in fit alone."
        )
    others = SEARCHES if fitting else ()
    if isinstance(optimizer, str):
        known: dict[str, Any] = OPTIMIZERS | {name: name for name in others}
        record: Optimizer = lookup(known, optimizer, "optimizer").record()
        return record
    row_of(optimizer, others)
    return optimizer  # type: ignore[return-value]


def check_decays(optimizer: Optimizer, layers: Iterable[object]) -> None:
    """Refuse layers that ask for a decay that an optimizer has not.

    Raises
    ------
    ValueError
        If there is one.

    Examples
    --------
    >>> from fastnn.layers import Dense
    >>> check_decays(AdamW(), [Dense(3, weight_decay=0.1)])
    """
    if isinstance(optimizer, AdamW | Lion):
        return
    for layer in layers:
        if getattr(layer, "weight_decay", None) is not None:
            raise ValueError(
                "weight_decay of a layer is for AdamW and Lion, whose weights decay; got "
                f"{layer!r} with {type(optimizer).__name__}. Give optimizer=fastnn.AdamW(...), or "
                "the layer an l2=."
            )


def hyperparameters(optimizer: Optimizer) -> dict[str, float]:
    """Return a record's numbers by name, as the reference takes them."""
    # `dataclasses.asdict` copies every number, and takes ten times as long.
    return {one.name: getattr(optimizer, one.name) for one in fields(optimizer)}


def _check_adam(record: Any) -> None:
    """Check the numbers that Adam and its relatives share."""
    _set(record, "learning_rate", low=0.0, low_open=True)
    _set(record, "beta_1", low=0.0, high=1.0, high_open=True)
    _set(record, "beta_2", low=0.0, high=1.0, high_open=True)
    _set(record, "epsilon", low=0.0, low_open=True)


def _set(record: Any, name: str, **limits: Any) -> None:
    """Check a field and store it as a plain float, so that equal settings compare equal."""
    object.__setattr__(record, name, check_real(getattr(record, name), name, **limits))
