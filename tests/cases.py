"""What the tests of native code share: networks and data for every row of the tables."""

from __future__ import annotations

import os
import sys
import tracemalloc
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.fitting.steppers import NativeStepper, ReferenceStepper
from fastnn.losses import LOSSES

# Without the compiler a kernel is a Python loop: the same tests, on the smallest shapes.
JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")

DTYPES = ("float32", "float64")

# What takes the steps of a fit on each path.
STEPPERS = {"native": NativeStepper, "reference": ReferenceStepper}


def through(chunk_elements, smallest_chunk, fewest_groups):
    """Return the figures of `Tuning` that say how a batch goes through, in chunks and groups."""
    return {
        "chunk_elements": chunk_elements,
        "smallest_chunk": smallest_chunk,
        "fewest_groups": fewest_groups,
    }


# Last activation and loss: every pair that can be computed.
EVERY_PAIR = [
    (last, loss.name)
    for loss in LOSSES.values()
    for last in ACTIVATIONS
    if loss.activation in (None, last)
]


def some_pairs():
    """Return every matched pair, and of the others so many that each row comes more than once."""
    free = [loss.name for loss in LOSSES.values() if loss.activation is None]
    taken = [pair for pair in EVERY_PAIR if LOSSES[pair[1]].activation is not None]
    for place, last in enumerate(ACTIVATIONS):
        taken += [(last, free[(place + skip) % len(free)]) for skip in (0, len(free) // 2)]
    return taken


PAIRS = some_pairs()

# Hidden activation, last activation and loss: every pair with one hidden activation, and so each
# hidden activation with several pairs.
NETWORKS = [
    (list(ACTIVATIONS)[(3 * place) % len(ACTIVATIONS)], *pair) for place, pair in enumerate(PAIRS)
]

# The forms in which targets may come, by what the loss compares with.
FORMS = {
    "real": ("values",),
    "counts": ("values",),
    "positive": ("values",),
    "classes": ("labels", "one-hot", "probabilities"),
    "probabilities": ("labels", "probabilities"),
    "sides": ("labels", "signs", "one-hot"),
}
TARGETS = [(last, loss, form) for last, loss in PAIRS for form in FORMS[LOSSES[loss].targets]]

# One record at least for every rule; each is also tried as it is by default.
RULES = {
    "sgd": fn.SGD(0.1),
    "momentum": fn.SGD(0.05, momentum=0.9),
    "nesterov": fn.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": fn.Adam(0.01),
    "adam-far": fn.Adam(0.02, beta_1=0.5, beta_2=0.9, epsilon=0.1),
    "rmsprop": fn.RMSprop(0.005),
    # Its first step moves every parameter by its learning rate: with large ones, float32 runs part.
    "adagrad": fn.Adagrad(0.1),
    "adamw": fn.AdamW(0.01, weight_decay=1e-4),
    "nadam": fn.Nadam(0.01),
    "radam": fn.RAdam(0.01, beta_2=0.99),
    # Up to this beta_2 the squares never average enough.
    "radam-plain": fn.RAdam(0.01, beta_2=0.5),
    "rprop": fn.Rprop(0.02),
    "adadelta": fn.Adadelta(0.5, epsilon=1e-4),
    "adamax": fn.Adamax(0.01),
    "amsgrad": fn.AMSGrad(0.01, beta_2=0.9),
    "lion": fn.Lion(0.002, weight_decay=0.01),
}


@dataclass(frozen=True)
class Shape:
    """Numbers of examples, features, units of both hidden layers, and outputs."""

    n: int
    p: int
    first: int
    second: int
    m: int

    def __str__(self) -> str:
        return f"{self.n}x{self.p}-{self.first}-{self.second}-{self.m}"


# Multiples of nothing: of no vector, no unrolled loop, no cache line.
SHAPES = (
    [
        Shape(1, 1, 1, 1, 1),
        Shape(1, 5, 3, 17, 3),
        Shape(17, 257, 17, 3, 33),
        Shape(33, 1, 33, 17, 1),
        Shape(257, 5, 3, 33, 17),
    ]
    if JIT
    else [Shape(1, 1, 1, 1, 1), Shape(7, 5, 3, 2, 3)]
)


def fitted(shape, loss):
    """Return a shape, with more outputs where a loss needs several for each target."""
    each = LOSSES[loss].outputs
    # All quantiles are of one target.
    return replace(shape, m=each if LOSSES[loss].ordered else -(-shape.m // each) * each)


def shapes(loss):
    """Return the shapes, fitted to a loss."""
    return [fitted(shape, loss) for shape in SHAPES]


def network(shape, hidden, last, dtype, *, bias=True, l2=0.0, seed=0):
    """Return a network of two hidden layers whose biases are not zero."""
    layers = [
        fn.Dense(shape.first, hidden, bias=bias, l2=l2),
        fn.Dense(shape.second, hidden, bias=bias, l2=2 * l2),
        fn.Dense(shape.m, last, bias=bias),
    ]
    net = fn.Sequential(layers, shape.p, dtype, rng=seed)
    rng = np.random.default_rng(seed)
    for b in net.biases:
        if b is not None:
            b[:] = 0.5 * rng.normal(size=b.shape)
    if "exp" in (hidden, last):
        # Its relative error is its argument's absolute one.
        net.parameters[:] *= 0.2
    return net


def data(shape, loss, form=None, *, seed=1) -> Any:
    """Return X, y and weights that suit a loss; some of the weights are zero."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(shape.n, shape.p)) / np.sqrt(shape.p / 5)
    targets = LOSSES[loss].targets
    form = FORMS[targets][0] if form is None else form
    width = LOSSES[loss].width(shape.m)
    y = {
        ("real", "values"): lambda: rng.normal(size=(shape.n, width)),
        ("counts", "values"): lambda: rng.poisson(2.0, size=(shape.n, width)),
        ("positive", "values"): lambda: rng.gamma(2.0, size=(shape.n, width)),
        ("classes", "labels"): lambda: rng.integers(0, shape.m, size=shape.n),
        ("classes", "one-hot"): lambda: np.eye(shape.m)[rng.integers(0, shape.m, size=shape.n)],
        ("classes", "probabilities"): lambda: rng.dirichlet(np.ones(shape.m), size=shape.n),
        ("probabilities", "labels"): lambda: rng.integers(0, 2, size=(shape.n, shape.m)),
        ("probabilities", "probabilities"): lambda: rng.random(size=(shape.n, shape.m)),
        ("sides", "labels"): lambda: rng.integers(0, max(shape.m, 2), size=shape.n),
        ("sides", "signs"): lambda: rng.choice([-1.0, 1.0], size=(shape.n, shape.m)),
        ("sides", "one-hot"): lambda: rng.integers(0, 2, size=(shape.n, shape.m)),
    }[targets, form]()
    w = rng.random(shape.n) + 0.1
    w[1::3] = 0.0
    return SimpleNamespace(X=X, y=y, w=w)


# Where the slope of an activation jumps.
KINKS = {"relu": [0], "leaky_relu": [0], "selu": [0], "hard_sigmoid": [-3, 3]}

# What is 0 where the slope of a loss jumps, for outputs and the targets as the kernels read them.
LOSS_KINKS = {
    "mean_absolute_error": lambda A, y: A - y,
    "quantile": lambda A, y: A - y,
    "hinge": lambda A, y: (2 * y - 1) * A - 1,
}


def kink_distance(last, loss, Z, A, y):
    """Return how near the last layer comes to a point where differences say nothing."""
    distances = [np.abs(Z - kink).min() for kink in KINKS.get(last, [])]
    if loss in LOSS_KINKS:
        wanted = np.eye(A.shape[1])[y] if y.ndim == 1 and A.shape[1] > 1 else y.reshape(A.shape)
        distances.append(np.abs(LOSS_KINKS[loss](A, wanted)).min())
    return min(distances, default=1.0)


def differences(net, places, X, y, **options):
    """Return the derivatives of the training loss by parameters at some places.

    They are central differences at two distances, extrapolated.
    """
    base, found = net.parameters.copy(), []
    for place in places:
        losses = []
        for step in (2e-5, -2e-5, 1e-5, -1e-5):
            net.parameters = base + step * (np.arange(base.size) == place)
            losses.append(net.loss_and_gradient(X, y, **options)[0])
        far, near = (losses[0] - losses[1]) / 4e-5, (losses[2] - losses[3]) / 2e-5
        found.append(near + (near - far) / 3)
    return np.array(found)


def error(found, expected):
    """Return the largest difference of two arrays, as a part of the largest magnitude."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    magnitude = np.abs(expected).max(initial=0.0)
    # Below a hundredth, what is left of numbers near one that cancelled counts absolutely.
    return np.abs(found - expected).max(initial=0.0) / max(magnitude, 1e-2)


def flat(arrays):
    """Return arrays as one vector; None among them counts as nothing."""
    return np.concatenate([np.ravel(array) for array in arrays if array is not None])


def work(call):
    """Count the functions that a call calls, and the bytes that it holds at most."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event.endswith("call")

    tracemalloc.start()
    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return calls, peak
