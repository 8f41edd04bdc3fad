"""What the tests of native code share: networks and data for every row of the tables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.losses import LOSSES

# Without the compiler a kernel is a Python loop: the same tests, on the smallest shapes.
JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")

DTYPES = ("float32", "float64")

# Last activation and loss: every pair that can be computed.
PAIRS = [
    (last, loss.name)
    for loss in LOSSES.values()
    for last in ACTIVATIONS
    if loss.activation in (None, last)
]

# The forms in which targets may come, by what the loss compares with.
FORMS = {
    "real": ("values",),
    "classes": ("labels", "one-hot", "probabilities"),
    "probabilities": ("labels", "probabilities"),
}
TARGETS = [(last, loss, form) for last, loss in PAIRS for form in FORMS[LOSSES[loss].targets]]

# One record at least for every rule; each is also tried as it is by default.
RULES = {
    "sgd": fn.SGD(0.1),
    "momentum": fn.SGD(0.05, momentum=0.9),
    "nesterov": fn.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": fn.Adam(0.01),
    "adam-far": fn.Adam(0.02, beta_1=0.5, beta_2=0.9, epsilon=0.1),
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
    return net


def data(shape, loss, form=None, *, seed=1) -> Any:
    """Return X, y and weights that suit a loss; some of the weights are zero."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(shape.n, shape.p)) / np.sqrt(shape.p / 5)
    targets = LOSSES[loss].targets
    form = FORMS[targets][0] if form is None else form
    y = {
        ("real", "values"): lambda: rng.normal(size=(shape.n, shape.m)),
        ("classes", "labels"): lambda: rng.integers(0, shape.m, size=shape.n),
        ("classes", "one-hot"): lambda: np.eye(shape.m)[rng.integers(0, shape.m, size=shape.n)],
        ("classes", "probabilities"): lambda: rng.dirichlet(np.ones(shape.m), size=shape.n),
        ("probabilities", "labels"): lambda: rng.integers(0, 2, size=(shape.n, shape.m)),
        ("probabilities", "probabilities"): lambda: rng.random(size=(shape.n, shape.m)),
    }[targets, form]()
    w = rng.random(shape.n) + 0.1
    w[1::3] = 0.0
    return SimpleNamespace(X=X, y=y, w=w)


def error(found, expected):
    """Return the largest difference of two arrays, as a part of the largest magnitude."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    magnitude = np.abs(expected).max(initial=0.0)
    # Below a thousandth, what is left of numbers near one that cancelled counts absolutely.
    return np.abs(found - expected).max(initial=0.0) / max(magnitude, 1e-3)


def flat(arrays):
    """Return arrays as one vector; None among them counts as nothing."""
    return np.concatenate([np.ravel(array) for array in arrays if array is not None])
