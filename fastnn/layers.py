"""Layers: frozen records that describe.  They hold no weights and compute nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from fastnn import own, words
from fastnn.activations import ACTIVATIONS, activation_named
from fastnn.hints import understands
from fastnn.initializers import Start, check_initializer
from fastnn.names import check_bool, check_integer, check_real
from fastnn.own import CustomActivation
from fastnn.schedules import ScheduleLike, alike, as_given, resolve_schedule

__all__ = ["Dense", "Dropout", "Layer", "later", "named", "starts"]


class Layer:
    """What every record of a layer is; `kinds` says what there is to know of each."""

    __slots__ = ()

    @property
    def inside(self) -> tuple[Layer, ...]:
        """The layers that it is made of; most are made of none."""
        return ()

    def __repr__(self) -> str:
        """Return the call that makes it; fields that came later are left out at their default."""
        shown = (
            f"{one.name}={as_given(getattr(self, one.name))!r}"
            for one in fields(self)  # type: ignore[arg-type]
            if not one.metadata.get("later") or getattr(self, one.name) != one.default
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def later(default: Any, *, hashed: bool = True) -> Any:
    """Return a field that files of before do not have, and that is left out at its default.

    One that may hold an object of the user's own is better left out of the record's hash.
    """
    return field(default=default, hash=None if hashed else False, metadata={"later": True})


@understands(words.DENSE)
@dataclass(frozen=True, slots=True, repr=False)
class Dense(Layer):
    """A fully connected layer: ``A = f(X W + b)``.

    Parameters
    ----------
    units : int
        Width of the layer, at least 1.
    activation : str, default "identity"
        ``f``: "identity", "sigmoid", "tanh", "relu", "softmax" (over the layer's units),
        "leaky_relu" (slope 0.01 below 0), "elu", "selu", "gelu", "silu", "softplus", "mish",
        "softsign", "hard_sigmoid", "exp" or "sin".
    bias : bool, default True
        Whether the layer has ``b``; it starts at zero, but see "auto" for the first layer.
    initializer : str or float, default "auto"
        How ``W`` starts: "glorot_uniform", "glorot_normal", "he_uniform", "he_normal",
        "lecun_uniform", "lecun_normal", "orthogonal", "zeros", "constant" (0.1), or the number
        that every weight starts at.  "auto", the default, starts every hidden layer as a rotation:
        units of relu and its like, and of sigmoid, come in pairs of ``f(z)`` and ``f(-z)``, whose
        difference hands z on, so that signal and gradient keep their length at any depth.  The
        weighted sums of the first hidden layer have the standard deviation ``p**-0.25`` for p
        features of unit scale, and its biases are spread evenly as far, so that its units bend in
        different places.  In a hidden layer of "selu" it is "lecun_normal", of "softmax" and "exp"
        "glorot_uniform".
    l2 : float, default 0.0
        L2 regularisation: adds ``l2 / 2 * sum(W**2)`` to the training loss, biases excluded.
    trainable : bool, default True
        Whether training changes the layer.  False freezes it: its gradient counts as zero, no
        step moves it, and its regularisation adds nothing.
    l1 : float, default 0.0
        L1 regularisation: adds ``l1 * sum(|W|)`` to the training loss, biases excluded; with
        ``l2`` beside it, the elastic net.  Its gradient is ``l1 * sign(W)``, 0 where a weight is 0.
    max_norm : float or None, default None
        The length of each unit's incoming weights at the most: after every step a longer column of
        ``W`` is scaled to it, ``w <- w min(1, max_norm / ||w||)``.
    non_negative : bool, default False
        Whether weights that a step has taken below 0 become 0, so that the layer is increasing
        in what it reads, if its activation is; biases stay free.
    learning_rate_scale : float, default 1.0
        What the optimizer's learning rate, or the schedule's, is multiplied by for this layer's
        weights and biases, above 0.
    weight_decay : float or None, default None
        By what part of itself, times the learning rate, each weight shrinks at each step, in place
        of the optimizer's own ``weight_decay``; for `AdamW` and `Lion`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind, unknown or out of its range.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.Dense(64, activation="relu")
    Dense(units=64, activation='relu', bias=True, initializer='auto', l2=0.0)
    >>> fn.Dense(9, "relu", max_norm=3.0)
    Dense(units=9, activation='relu', bias=True, initializer='auto', l2=0.0, max_norm=3.0)

    References
    ----------
    Tibshirani 1996 (L1); Zou & Hastie 2005 (elastic net); Srivastava, Hinton, Krizhevsky, Sutskever
    & Salakhutdinov 2014, section 5.1 (max-norm); Loshchilov & Hutter 2019 (decay).
    """

    units: int
    activation: str = "identity"
    bias: bool = True
    initializer: str | float = "auto"
    l2: float = 0.0
    trainable: bool = later(True)
    l1: float = later(0.0)
    max_norm: float | None = later(None)
    non_negative: bool = later(False)
    learning_rate_scale: float = later(1.0)
    weight_decay: float | None = later(None)

    def __post_init__(self) -> None:
        """Check every field once and store it in its plain form."""
        limit, decay, scale = self.max_norm, self.weight_decay, self.learning_rate_scale
        checked = {
            "units": check_integer(self.units, "units", 1),
            "activation": activation_named(self.activation).name,
            "bias": check_bool(self.bias, "bias"),
            "initializer": check_initializer(self.initializer),
            "l2": check_real(self.l2, "l2", low=0.0),
            "trainable": check_bool(self.trainable, "trainable"),
            "l1": check_real(self.l1, "l1", low=0.0),
            "max_norm": (
                None if limit is None else check_real(limit, "max_norm", low=0.0, low_open=True)
            ),
            "non_negative": check_bool(self.non_negative, "non_negative"),
            "learning_rate_scale": check_real(scale, "learning_rate_scale", low=0.0, low_open=True),
            "weight_decay": (None if decay is None else check_real(decay, "weight_decay", low=0.0)),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


@understands(words.DROPOUT)
@dataclass(frozen=True, slots=True, repr=False)
class Dropout(Layer):
    """In training, drops units of the layer before it at random, so that none is relied upon.

    Each unit of each example becomes 0 with probability ``rate``; the others are multiplied by
    ``1 / (1 - rate)``, so that what the next layer reads stays the same on the average.  Every
    step draws anew.  As the first layer it drops inputs.  Predictions, `evaluate`, `trace`,
    `loss_and_gradient`, `hidden` and `diagnose` drop nothing.

    Parameters
    ----------
    rate : float
        The part that is dropped, at least 0 and less than 1.
    schedule : Schedule, callable, array-like, str or None, default None
        How ``rate`` changes from one epoch of a fit to the next: whatever ``fit(schedule=...)``
        takes for the learning rate, such as ``fn.CosineDecay()``, its name, a list of factors, one
        per epoch, of which the last one stays, or a function of the epochs so far that gives a
        factor.  An epoch's rate is what the schedule gives at its first step, with ``rate`` as the
        base, and is at least 0 and less than 1 as well; at 0 nothing is dropped.

    Raises
    ------
    TypeError, ValueError
        If the rate is no such number, or the schedule is none; from a fit, if the schedule gives
        an epoch a rate out of that range, in which case the message names layer and epoch.  From
        ``save`` and `Checkpoint`, if the schedule is a function or an object of the user's own,
        which files do not hold; copies and pickles do.

    Notes
    -----
    The schedule is a matter of fits: `Sequential.train_on_batch`, which knows of no epochs, and
    ``predict(dropout=True)`` drop at ``rate``.

    What a step drops follows from the network's ``rng`` and from how many steps it has taken, and
    is the same in any number of threads, in float32 and float64, natively and on the reference.

    Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov 2014, Journal of Machine Learning
    Research 15, in the form that scales in training and leaves predictions alone.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(64, "relu"), fn.Dropout(0.1), fn.Dense(10, "softmax")])
    >>> net.layers[1]
    Dropout(rate=0.1)

    Half as much in the second epoch, and nothing from the third one on:

    >>> fn.Dropout(0.2, schedule=[1.0, 0.5, 0.0])
    Dropout(rate=0.2, schedule=[1.0, 0.5, 0.0])
    """

    rate: float
    schedule: ScheduleLike | None = later(None, hashed=False)  # noqa: RUF009  (a field)

    def __post_init__(self) -> None:
        """Check the fields once and store them in their plain form."""
        rate = check_real(self.rate, "rate", low=0.0, high=1.0, high_open=True)
        object.__setattr__(self, "rate", rate)
        if self.schedule is not None:
            object.__setattr__(self, "schedule", resolve_schedule(self.schedule))

    def __eq__(self, other: object) -> bool:
        """Compare rates and schedules, of which one of the user's own may compare nothing."""
        if not isinstance(other, Dropout):
            return NotImplemented
        return self.rate == other.rate and alike(self.schedule, other.schedule)


def named(layers: Sequence[Layer], above: str = "") -> Iterator[tuple[str, Layer]]:
    """Give all layers with their places, such as "1.0"; those inside one come behind it."""
    for place, layer in enumerate(layers):
        yield f"{above}{place}", layer
        yield from named(layer.inside, f"{above}{place}.")


def starts(layers: Sequence[Layer]) -> list[Start]:
    """Return how every Dense layer begins; "auto" hangs on its place and on the layer below."""
    every = [layer for _, layer in named(layers)]
    count = sum(isinstance(layer, Dense) for layer in every)
    share = max(1, sum(bool(layer.inside) for layer in every)) ** -0.5
    found: list[Start] = []
    _begin(layers, False, found, count, 1.0, share)
    return found


def _begin(
    layers: Sequence[Layer], pairs: bool, found: list[Start], count: int, factor: float,
    share: float,
) -> bool:  # fmt: skip
    """Add how the Dense layers of a chain begin; say whether it ends in pairs, as it may begin.

    The last of them is multiplied by a factor, that of a block by its share.
    """
    last = max((n for n, layer in enumerate(layers) if isinstance(layer, Dense)), default=-1)
    for place, layer in enumerate(layers):
        if layer.inside:
            # A sum of pairs is one of pairs.
            pairs = _begin(layer.inside, pairs, found, count, share, share) and pairs
        elif isinstance(layer, Dense):
            found.append(_start(layer, pairs, not found, len(found) == count - 1))
            pairs = found[-1].makes_pairs
            if place == last and factor != 1.0 and found[-1].initializer == "isometry":
                found[-1] = replace(found[-1], gain=found[-1].gain * factor)
    return pairs


def own_activations(layers: Sequence[Layer]) -> list[CustomActivation]:
    """Return the activations of the user's own among layers, each once."""
    names = dict.fromkeys(getattr(layer, "activation", "") for _, layer in named(layers))
    return [own.ACTIVATIONS[name] for name in names if name in own.ACTIVATIONS]


def _start(layer: Dense, pairs: bool, first: bool, last: bool) -> Start:
    """Return how a layer begins that reads pairs or not, and is the first or last one or not."""
    row = ACTIVATIONS[layer.activation]
    if layer.initializer != "auto":
        return Start(layer.initializer)
    if not last and row.initializer not in ("isometry", "pairs"):
        return Start(row.initializer)
    return Start(
        "isometry",
        gain=1.0 if last else row.gain,
        reads_pairs=pairs,
        makes_pairs=not last and row.initializer == "pairs",
        spread=first and not last and layer.activation != "identity",
    )
