"""What losses, optimizers and missing targets cost: epochs of 30-64-64-10."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn

from .cores import keep_to, physical_cores

_ROWS, _BATCH, _FEATURES, _OUTPUTS = 8192, 128, 30, 10

_rng = np.random.default_rng(0)
_LABELS = _rng.integers(_OUTPUTS, size=_ROWS)
_AMOUNTS = _rng.gamma(2.0, size=(_ROWS, _OUTPUTS))
_GAPS = np.where(_rng.random(_AMOUNTS.shape) < 0.1, np.nan, _AMOUNTS)

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
    "squares, a tenth missing": ("identity", _GAPS, "mean_squared_error"),
}

OPTIMIZERS: dict[str, Any] = {
    name: getattr(fn, name)(learning_rate=1e-5)
    for name in ("Adam", "Adadelta", "Adamax", "AMSGrad", "Lion")
}


def network(last: str, dtype: str) -> fn.Sequential:
    """Return the network with an activation of its last layer."""
    layers = [fn.Dense(64, "relu"), fn.Dense(64, "relu"), fn.Dense(_OUTPUTS, last)]
    return fn.Sequential(layers, inputs=_FEATURES, dtype=dtype)


class _Step:
    """An epoch of 64 steps of 128 rows; every measurement trains on from the last."""

    number = 1
    warmup_time = 0
    min_run_count = 5
    timeout = 600

    def prepare(self, last: str, y: Any, loss: Any, optimizer: Any, dtype: str) -> None:
        keep_to(physical_cores()[-1:])
        self.net, self.loss, self.optimizer = network(last, dtype), loss, optimizer
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


class RuleStep(_Step):
    """Optimizers, with a cross-entropy."""

    params = (list(OPTIMIZERS), ("float32", "float64"))
    param_names = ("optimizer", "dtype")

    def setup(self, optimizer: str, dtype: str) -> None:
        last, y, loss = LOSSES["cross_entropy"]
        self.prepare(last, y, loss, OPTIMIZERS[optimizer], dtype)

    def time_epoch(self, optimizer: str, dtype: str) -> None:
        self.epoch()
