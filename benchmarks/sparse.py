"""Sparse examples: fits and predictions, their time and their memory.

`python -m benchmarks.estimators --only "*sparse*"` compares them with scikit-learn's.
"""

from __future__ import annotations

import gc
from typing import Any

import numpy as np

from .cores import keep_to, physical_cores
from .drop_in import DTYPES, classifier
from .estimators.work import DATA, FITS, PREDICTIONS
from .memory import CLEAR, RESET_PEAK, kilobytes
from .units import unit

_FITS = [name for name in FITS if "sparse" in name]
_PREDICTIONS = [name for name in PREDICTIONS if "sparse" in name]


def _examples(data: str, dtype: str, rows: int | None = None) -> tuple[Any, Any]:
    """Return CSR and targets; so many rows, if it is said."""
    X, y = DATA[data]()
    X = X.astype(dtype)
    return (X, y) if rows is None else (X[np.arange(rows) % X.shape[0]], y)


class FitSparse:
    """A fit from the start."""

    params = (_FITS, DTYPES)
    param_names = ("work", "dtype")
    timeout = 300

    def setup(self, work: str, dtype: str) -> None:
        keep_to(physical_cores()[-1:])
        self.model = classifier(FITS[work], 1)
        self.X, self.y = _examples(FITS[work].data, dtype)
        # The first call compiles.
        self.model.fit(self.X, self.y)

    def time_fit(self, work: str, dtype: str) -> None:
        self.model.fit(self.X, self.y)

    @unit("MB")
    def track_memory_of_a_fit(self, work: str, dtype: str) -> float:
        if not CLEAR.exists():
            raise NotImplementedError("this system does not tell the peak of a part of a process")
        self.model = classifier(FITS[work], 1)
        gc.collect()
        CLEAR.write_text(RESET_PEAK)
        before = kilobytes("VmRSS")
        self.model.fit(self.X, self.y)
        return (kilobytes("VmHWM") - before) / 1024


class PredictSparse:
    """Predictions of one row and of many."""

    params = (_PREDICTIONS, DTYPES)
    param_names = ("work", "dtype")
    timeout = 300

    def setup(self, work: str, dtype: str) -> None:
        keep_to(physical_cores()[-1:])
        asked, rows = PREDICTIONS[work]
        self.model = classifier(asked, 1)
        self.model.fit(*_examples(asked.data, dtype))
        self.X, _ = _examples(asked.data, dtype, rows)
        self.model.predict(self.X)

    def time_predict(self, work: str, dtype: str) -> None:
        self.model.predict(self.X)
