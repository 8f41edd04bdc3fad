"""Layers that normalise: frozen records, like those of `layers`."""

from __future__ import annotations

from dataclasses import dataclass

from fastnn.hints import understands
from fastnn.layers import Layer, later
from fastnn.names import check_bool, check_real

__all__ = ["BatchNorm", "LayerNorm", "RMSNorm"]

_WORDS = {
    "eps": "epsilon",
    "normalized_shape": "It normalises the units of each example, as many as there are.",
    "axis": "It normalises the units of each example, as many as there are.",
    "elementwise_affine": "Scale and shift are always there; trainable=False leaves them alone.",
    "name": "A layer has no name; leave it out.",
}


@understands(_WORDS)
@dataclass(frozen=True, slots=True, repr=False)
class LayerNorm(Layer):
    """Normalises the units of each example.

    Computes ``scale (a - mean) / sqrt(variance + epsilon) + shift`` of what the layer before gives.
    Mean and variance are those of the example's own units, in training as in predictions.  The
    layer has one scale, which begins at 1, and one shift, which begins at 0, per unit: arrays
    "scale" and "shift" of shape (units,).  They neither decay nor count for L2.

    Parameters
    ----------
    epsilon : float, default 1e-5
        Is added to the variance; above 0.
    trainable : bool, default True
        Whether training changes scale and shift.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    Notes
    -----
    Ba, Kiros & Hinton 2016, "Layer normalization".

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(64), fn.LayerNorm(), fn.Dense(10, "softmax")], inputs=5)
    >>> net.layers[1]
    LayerNorm(epsilon=1e-05)
    >>> net.layout["1.scale"].shape
    (64,)
    """

    epsilon: float = 1e-5
    trainable: bool = later(True)

    def __post_init__(self) -> None:
        """Check every field once and store it in its plain form."""
        epsilon = check_real(self.epsilon, "epsilon", low=0.0, low_open=True)
        object.__setattr__(self, "epsilon", epsilon)
        object.__setattr__(self, "trainable", check_bool(self.trainable, "trainable"))


@understands(_WORDS)
@dataclass(frozen=True, slots=True, repr=False)
class RMSNorm(Layer):
    """Divides the units of each example by the root of the mean of their squares.

    Computes ``scale a / sqrt(mean(a**2) + epsilon)`` of what the layer before gives: a `LayerNorm`
    that takes no mean off and has no shift.  The array "scale", of shape (units,), begins at 1; it
    neither decays nor counts for L2.

    Parameters
    ----------
    epsilon : float, default 1e-6
        Is added to the mean of the squares; above 0.
    trainable : bool, default True
        Whether training changes the scale.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    Notes
    -----
    Zhang & Sennrich 2019, "Root mean square layer normalization".

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(64), fn.RMSNorm(), fn.Dense(10, "softmax")], inputs=5)
    >>> net.layout.names
    ('0.W', '0.b', '1.scale', '2.W', '2.b')
    """

    epsilon: float = 1e-6
    trainable: bool = later(True)

    def __post_init__(self) -> None:
        """Check every field once and store it in its plain form."""
        epsilon = check_real(self.epsilon, "epsilon", low=0.0, low_open=True)
        object.__setattr__(self, "epsilon", epsilon)
        object.__setattr__(self, "trainable", check_bool(self.trainable, "trainable"))


@understands(
    {
        "eps": "epsilon",
        "num_features": "It normalises every column that it reads, as many as there are.",
        "axis": "It normalises every column that it reads.",
        "affine": "Scale and shift are always there; trainable=False leaves them alone.",
        "center": "Scale and shift are always there; trainable=False leaves them alone.",
        "track_running_stats": "It always keeps the running mean and variance.",
        "name": "A layer has no name; leave it out.",
    }
)
@dataclass(frozen=True, slots=True, repr=False)
class BatchNorm(Layer):
    """Normalises each unit over the examples of a batch.

    Computes ``scale (a - mean) / sqrt(variance + epsilon) + shift`` of what the layer before gives.
    In training (`fit`, `train_on_batch`, `loss_and_gradient`, `trace`) mean and variance are those
    of the whole batch, in which each example counts by its weight.  Everywhere else they are the
    running ones, which every step of training brings along: arrays "mean", which begins at 0, and
    "variance", which begins at 1, of shape (units,), in ``net.buffers``.  Scale, which begins at 1,
    and shift, which begins at 0, are parameters; they neither decay nor count for L2.

    Parameters
    ----------
    momentum : float, default 0.9
        The part of the running mean and variance that a step leaves, at least 0 and below 1:
        ``running = momentum * running + (1 - momentum) * batch``, as in Keras.  PyTorch's
        momentum is 1 less this.
    epsilon : float, default 1e-5
        Is added to the variance; above 0.
    trainable : bool, default True
        Whether training changes the layer.  False leaves scale, shift and the running mean and
        variance as they are, and normalises by these in training too.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or out of its range.

    Notes
    -----
    Ioffe & Szegedy 2015, "Batch normalization".  The running variance is that of the batch itself,
    divided by n and not by n - 1.  A batch in which a single example counts has no variance: it
    gives the shift, and leaves the running mean and variance alone.  All rows of a batch are in
    memory at once in training, however large it is.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(64), fn.BatchNorm(), fn.Dense(10, "softmax")], inputs=5)
    >>> net.layers[1]
    BatchNorm(momentum=0.9, epsilon=1e-05)
    >>> net.layout["1.scale"].shape, net.buffers.shape
    ((64,), (128,))
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    trainable: bool = later(True)

    def __post_init__(self) -> None:
        """Check every field once and store it in its plain form."""
        momentum = check_real(self.momentum, "momentum", low=0.0, high=1.0, high_open=True)
        epsilon = check_real(self.epsilon, "epsilon", low=0.0, low_open=True)
        object.__setattr__(self, "momentum", momentum)
        object.__setattr__(self, "epsilon", epsilon)
        object.__setattr__(self, "trainable", check_bool(self.trainable, "trainable"))
