"""The estimators: a whole fit, a `partial_fit`, predictions, as users of scikit-learn call them.

`python -m benchmarks.estimators` compares them with scikit-learn's on the same work.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .cores import THREADS, keep_to, physical_cores
from .estimators.work import DATA, FITS, PREDICTIONS, Work

DTYPES = ("float32", "float64")

_FITS = ["adam, 64-(100)-10, batch 200", "adam, 784-(100)-10, batch 200", "lbfgs, 64-(100)-10"]
_PREDICTIONS = ["predict, 64-(100)-10, one row", "predict, 64-(100)-10, 10,000 rows"]


def classifier(work: Work, threads: int) -> Any:
    """Return an estimator that is not fitted; skip what needs scikit-learn where it is missing."""
    warnings.simplefilter("ignore")
    try:
        from fastnn import MLPClassifier
    except ImportError as problem:
        raise NotImplementedError("scikit-learn is not installed") from problem
    return MLPClassifier(**work.parameters, n_threads=threads)


class FitEstimator:
    """A whole fit, including validation of its input."""

    params = (_FITS, DTYPES, THREADS)
    param_names = ("work", "dtype", "threads")
    timeout = 300

    def setup(self, work: str, dtype: str, threads: int) -> None:
        keep_to(physical_cores()[-threads:])
        self.model = classifier(FITS[work], threads)
        X, self.y = DATA[FITS[work].data]()
        self.X = np.ascontiguousarray(X, dtype)
        # The first call compiles.
        self.model.fit(self.X, self.y)

    def time_fit(self, work: str, dtype: str, threads: int) -> None:
        self.model.fit(self.X, self.y)


class PartialFit:
    """One epoch over a batch of a stream, or over a single example; one step."""

    params = ((1, 32, 200), DTYPES)
    param_names = ("rows", "dtype")

    def setup(self, rows: int, dtype: str) -> None:
        keep_to(physical_cores()[-1:])
        work = FITS[_FITS[0]]
        self.model = classifier(work, 1)
        X, y = DATA[work.data]()
        self.model.fit(np.ascontiguousarray(X[:200], dtype), y[:200])
        self.X, self.y = np.ascontiguousarray(X[:rows], dtype), y[:rows]
        self.model.partial_fit(self.X, self.y)

    def time_partial_fit(self, rows: int, dtype: str) -> None:
        self.model.partial_fit(self.X, self.y)


class PredictWithEstimator:
    """Predictions of one row and of many, including validation of the input."""

    params = (_PREDICTIONS, DTYPES)
    param_names = ("work", "dtype")

    def setup(self, work: str, dtype: str) -> None:
        keep_to(physical_cores()[-1:])
        asked, rows = PREDICTIONS[work]
        self.model = classifier(asked, 1)
        X, y = DATA[asked.data]()
        X = np.ascontiguousarray(X, dtype)
        self.model.fit(X, y)
        self.X = np.resize(X, (rows, X.shape[1]))
        self.model.predict(self.X)

    def time_predict(self, work: str, dtype: str) -> None:
        self.model.predict(self.X)


class PredictFrame:
    """Predictions of one row of a frame like that of the fit."""

    params = DTYPES
    param_names = ("dtype",)

    def setup(self, dtype: str) -> None:
        keep_to(physical_cores()[-1:])
        work = PREDICTIONS[_PREDICTIONS[0]][0]
        self.model = classifier(work, 1)
        try:
            from pandas import DataFrame
        except ImportError as problem:
            raise NotImplementedError("pandas is not installed") from problem
        X, y = DATA[work.data]()
        frame = DataFrame(X.astype(dtype), columns=[f"x{j}" for j in range(X.shape[1])])
        self.model.fit(frame, y)
        self.row = frame.iloc[[3]]

    def time_predict(self, dtype: str) -> None:
        self.model.predict(self.row)
