"""Memory: the peak of a fit, beyond the data that it is given."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fn

from .units import unit

# The input: as the kernels need it, or of another dtype, or of another order.
_GIVEN: dict[str, Callable[[Any], Any]] = {
    "float32, by rows": lambda X: X,
    "float64, by rows": lambda X: X.astype(np.float64),
    "float32, by columns": np.asfortranarray,
}
_ROWS, _INPUTS = 200_000, 64
_STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc_pid_clear_refs(5): resets the peak resident set size


class Fit:
    """A fit of 200 000 examples of 64 numbers, 51 MB in float32."""

    params = tuple(_GIVEN)
    param_names = ("X",)
    timeout = 300

    def setup(self, given: str) -> None:
        if not CLEAR.exists():
            raise NotImplementedError("this system does not tell the peak of a part of a process")
        rng = np.random.default_rng(0)
        X = rng.standard_normal((_ROWS, _INPUTS), dtype=np.float32)
        self.y = X[:, 0].copy()
        self.X = _GIVEN[given](X)
        self.net = fn.Sequential([fn.Dense(64, activation="relu"), fn.Dense(1)], inputs=_INPUTS)
        # The first call compiles.
        self.net.fit(self.X[:100].copy(), self.y[:100], epochs=1, progress=False)

    def fit(self) -> None:
        self.net.fit(self.X, self.y, epochs=1, batch_size=256, progress=False)

    @unit("% of the data")
    def track_beyond_the_data(self, given: str) -> float:
        gc.collect()
        CLEAR.write_text(RESET_PEAK)
        before = kilobytes("VmRSS")
        self.fit()
        beyond = 1024 * (kilobytes("VmHWM") - before)
        return 100.0 * beyond / int(self.X.nbytes + self.y.nbytes)

    def peakmem_fit(self, given: str) -> None:
        """The whole process, with what `setup` needs to make the data."""
        self.fit()


def kilobytes(name: str) -> int:
    """Return a field of this process's status."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise NotImplementedError(f"this system's status has no {name}")
