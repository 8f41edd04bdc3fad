"""What losses, optimizers, averages and missing targets cost: epochs of 30-64-64-10."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastnn as fn

from .cores import keep_to, physical_cores

_ROWS, _BATCH, _FEATURES, _OUTPUTS = 8192, 128, 30, 10

_rng = np.random.default_rng(0)
_LABELS = _rng.integers(_OUTPUTS, size=_ROWS)
_AMOUNTS = _rng.gamma(2.0, size=(_ROWS, _OUTPUTS))
_GAPS = np.where(_rng.random(_AMOUNTS.shape) < 0.1, np.nan, _AMOUNTS)


def _silu(z: float) -> float:
    return z / (1 + math.exp(-z))


def _silu_slope(z: float) -> float:
    s = 1 / (1 + math.exp(-z))
    return s * (1 + z * (1 - s))


def _squares(a: float, y: float) -> float:
    return (a - y) ** 2


def _squares_slope(a: float, y: float) -> float:
    return 2 * (a - y)


#: Own functions, and the built-in of the same formula.
_OWN_SILU = fn.CustomActivation(_silu, _silu_slope, name="bench_silu")
_OWN_SQUARES = fn.CustomLoss(_squares, _squares_slope, name="bench_squares")
ACTIVATIONS: dict[str, Any] = {"silu": "silu", "own silu": _OWN_SILU}

# Last activation, targets and loss.
LOSSES: dict[str, tuple[str, Any, Any]] = {
    "cross_entropy": ("softmax", _LABELS, "cross_entropy"),
    "smoothed": ("softmax", _LABELS, fn.CrossEntropy(0.1)),
    "focal": ("softmax", _LABELS, fn.Focal()),
    "poisson": ("exp", _AMOUNTS, "poisson"),
    "gamma": ("exp", _AMOUNTS, "gamma"),
    "tweedie": ("exp", _AMOUNTS, fn.Tweedie()),
    "quantiles": (
        "increasing",
        _AMOUNTS[:, :1],
        fn.Quantiles(np.linspace(0.05, 0.95, _OUTPUTS).tolist()),
    ),
    "squares": ("identity", _AMOUNTS, "mean_squared_error"),
    "own squares": ("identity", _AMOUNTS, _OWN_SQUARES),
    "squares, a tenth missing": ("identity", _GAPS, "mean_squared_error"),
}

#: What becomes of the weights of steps beside.
AVERAGES: dict[str, Any] = {"none": None, "EMA": fn.EMA(0.999), "SWA": fn.SWA(0)}

#: What layers ask of training.
ASKED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "l2": {"l2": 1e-6},
    "l1": {"l1": 1e-6},
    "max_norm": {"max_norm": 2.0},
    "non_negative": {"non_negative": True},
    "learning_rate_scale": {"learning_rate_scale": 0.5},
}

OPTIMIZERS: dict[str, Any] = {
    name: getattr(fn, name)(learning_rate=1e-5)
    for name in ("Adam", "Adadelta", "Adamax", "AMSGrad", "Lion")
}


def network(last: str, dtype: str, hidden: Any = "relu", **asked: Any) -> fn.Sequential:
    """Return the network with an activation of its last layer, and of the others."""
    layers = [fn.Dense(64, hidden, **asked), fn.Dense(64, hidden, **asked)]
    layers.append(fn.Dense(_OUTPUTS, last, **asked))
    return fn.Sequential(layers, inputs=_FEATURES, dtype=dtype)


class _Step:
    """An epoch of 64 steps of 128 rows; every measurement trains on from the last."""

    number = 1
    warmup_time = 0
    min_run_count = 5
    timeout = 600

    def prepare(
        self, last: str, y: Any, loss: Any, optimizer: Any, dtype: str, hidden: Any = "relu",
        **asked: Any,
    ) -> None:  # fmt: skip
        keep_to(physical_cores()[-1:])
        self.net = network(last, dtype, hidden, **asked)
        self.loss, self.optimizer = loss, optimizer
        self.X = np.random.default_rng(1).normal(size=(_ROWS, _FEATURES)).astype(dtype)
        self.y = y if last == "softmax" else y.astype(dtype)
        missing = np.isnan(self.y).any()
        self.more = {"missing_targets": "ignore"} if missing else {}
        # The first call compiles.
        self.epoch()

    def epoch(self) -> None:
        more: dict[str, Any] = self.more
        self.net.fit(
            self.X, self.y, self.loss, self.optimizer, epochs=1, batch_size=_BATCH, threads=1,
            shuffle=False, progress=False, **more,
        )  # fmt: skip


class LossStep(_Step):
    """Losses, with Adam."""

    params = (list(LOSSES), ("float32", "float64"))
    param_names = ("loss", "dtype")

    def setup(self, loss: str, dtype: str) -> None:
        last, y, record = LOSSES[loss]
        self.prepare(last, y, record, fn.Adam(1e-5), dtype)

    def time_epoch(self, loss: str, dtype: str) -> None:
        self.epoch()


class OwnStep(_Step):
    """An activation of one's own beside the built-in of the same formula."""

    params = (list(ACTIVATIONS), ("float32", "float64"))
    param_names = ("activation", "dtype")

    def setup(self, activation: str, dtype: str) -> None:
        last, y, loss = LOSSES["cross_entropy"]
        self.prepare(last, y, loss, fn.Adam(1e-5), dtype, ACTIVATIONS[activation])

    def time_epoch(self, activation: str, dtype: str) -> None:
        self.epoch()


class RuleStep(_Step):
    """Optimizers, with a cross-entropy."""

    params = (list(OPTIMIZERS), ("float32", "float64"))
    param_names = ("optimizer", "dtype")

    def setup(self, optimizer: str, dtype: str) -> None:
        last, y, loss = LOSSES["cross_entropy"]
        self.prepare(last, y, loss, OPTIMIZERS[optimizer], dtype)

    def time_epoch(self, optimizer: str, dtype: str) -> None:
        self.epoch()


class AverageStep(_Step):
    """Averages of weights, with Adam and a cross-entropy."""

    params = (list(AVERAGES), ("float32", "float64"))
    param_names = ("average", "dtype")

    def setup(self, average: str, dtype: str) -> None:
        last, y, loss = LOSSES["cross_entropy"]
        self.prepare(last, y, loss, fn.Adam(1e-5), dtype)
        self.more = {"average": AVERAGES[average]}

    def time_epoch(self, average: str, dtype: str) -> None:
        self.epoch()


class AskedStep(_Step):
    """What all layers ask of training, with Adam and a cross-entropy."""

    params = (list(ASKED), ("float32", "float64"))
    param_names = ("asked", "dtype")

    def setup(self, asked: str, dtype: str) -> None:
        last, y, loss = LOSSES["cross_entropy"]
        self.prepare(last, y, loss, fn.Adam(1e-5), dtype, **ASKED[asked])

    def time_epoch(self, asked: str, dtype: str) -> None:
        self.epoch()
