"""What layers beside Dense add to a step: an epoch of three layers of 256 without and with them."""

from __future__ import annotations

import numpy as np

import fastnn as fn
from fastnn.layers import Layer

from .cores import keep_to, physical_cores

_ROWS, _BATCH, _WIDTH, _FEATURES = 2048, 256, 256, 256
_DENSE = fn.Dense(_WIDTH, "relu")

# What stands for each of the three layers.
KINDS: dict[str, tuple[Layer, ...]] = {
    "nothing": (_DENSE,),
    "LayerNorm": (_DENSE, fn.LayerNorm()),
    "BatchNorm": (_DENSE, fn.BatchNorm()),
    "RMSNorm": (_DENSE, fn.RMSNorm()),
    "PReLU": (_DENSE, fn.PReLU()),
    "Residual": (fn.Residual([_DENSE]),),
    "Embedding": (_DENSE,),
    "NumericEmbedding": (_DENSE,),
}

# What stands before them: vectors in place of the codes, or numbers, of sixteen columns.
_CODES = 1000
LEADING: dict[str, tuple[Layer, ...]] = {
    "Embedding": (fn.Embedding(dict.fromkeys(range(16), _CODES), 16),),
    "NumericEmbedding": (fn.NumericEmbedding(passing=_FEATURES - 16),),
}


def network(kind: str, dtype: str = "float32") -> fn.Sequential:
    """Return three layers of 256, a kind of layer behind or around each, and ten classes."""
    layers = [*LEADING.get(kind, ()), *KINDS[kind] * 3]
    return fn.Sequential([*layers, fn.Dense(10, "softmax")], inputs=_FEATURES, dtype=dtype)


class LayerStep:
    """An epoch of eight steps of 256 rows; every measurement trains on from the last."""

    params = (list(KINDS), ("float32", "float64"))
    param_names = ("kind", "dtype")
    number = 1
    warmup_time = 0
    min_run_count = 5
    timeout = 600

    def setup(self, kind: str, dtype: str) -> None:
        keep_to(physical_cores()[-1:])
        rng = np.random.default_rng(0)
        self.net = network(kind, dtype)
        self.X = rng.normal(size=(_ROWS, _FEATURES)).astype(dtype)
        for column, size in self.net.layout.coded:
            self.X[:, column] = rng.integers(size, size=_ROWS)
        self.y = rng.integers(10, size=_ROWS)
        # The first call compiles.
        self.epoch()

    def epoch(self) -> None:
        self.net.fit(
            self.X, self.y, epochs=1, batch_size=_BATCH, threads=1, shuffle=False, progress=False
        )

    def time_epoch(self, kind: str, dtype: str) -> None:
        self.epoch()
