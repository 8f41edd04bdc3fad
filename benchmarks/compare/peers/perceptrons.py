"""The perceptrons of scikit-learn, or fastnn's in their place: the same calls for both.

Which of the two is the variant; all else is the same, so that what is measured is what
changing the import changes.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from scipy import sparse
from serving import about, answer, arguments, seconds_of
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info

Array = NDArray[Any]

_MODULES = {"fastnn": "fastnn", "scikit-learn": "sklearn.neural_network"}
_NAMES = {"classifier": "MLPClassifier", "regressor": "MLPRegressor"}
# Whole fits end in a warning where they were told to end early; workers take this over.
_QUIET = "ignore::sklearn.exceptions.ConvergenceWarning"


class Perceptrons:
    """Answers commands; each public method is one."""

    def __init__(self, variant: str, threads: int) -> None:
        warnings.simplefilter("ignore", ConvergenceWarning)
        os.environ["PYTHONWARNINGS"] = _QUIET
        self._module = importlib.import_module(_MODULES[variant])
        self._ours = variant == "fastnn"
        # scikit-learn's take their threads from the environment; without a number so do ours.
        self._more = {"n_threads": threads} if self._ours and threads else {}
        self._work: Callable[[], Any] = lambda: None

    def about(self) -> dict[str, Any]:
        """Return versions, and the cores that this process has."""
        versions = {"scikit-learn": str(sklearn.__version__), "numpy": np.__version__}
        if self._ours:
            versions = {"fastnn": self._module.__version__}
            versions["numba"] = str(importlib.import_module("numba").__version__)
        for library in threadpool_info():
            if library["user_api"] == "blas" and not self._ours:
                versions["BLAS kernels of scikit-learn"] = str(library["architecture"])
        return about(versions)

    # What is timed.

    def prepare_fit(
        self, case: str, kind: str, parameters: dict[str, Any], dtype: str
    ) -> dict[str, Any]:
        """Take up a fit; return the seconds of one, after one that compiles."""
        X, y = _read(case, dtype)
        self._model = self._made(kind, parameters)
        self._work = lambda: self._model.fit(X, y)
        self._work()
        return {"seconds": seconds_of(self._work)}

    def prepare_prediction(
        self, case: str, kind: str, parameters: dict[str, Any], dtype: str, rows: int
    ) -> dict[str, Any]:
        """Take up predictions of some rows; return the seconds of one."""
        X, y = _read(case, dtype)
        self._model = self._made(kind, parameters).fit(X, y)
        asked = X[np.arange(rows) % X.shape[0]]
        self._work = lambda: self._model.predict(asked)
        self._work()
        return {"seconds": seconds_of(self._work)}

    def prepare_search(
        self,
        case: str,
        kind: str,
        parameters: dict[str, Any],
        dtype: str,
        grid: dict[str, list[Any]],
        folds: int,
        jobs: int,
    ) -> dict[str, Any]:
        """Take up a search over a grid, with workers that have begun to work."""
        X, y = _read(case, dtype)

        def search(model: Any) -> Any:
            return GridSearchCV(model, grid, cv=folds, n_jobs=jobs, refit=False).fit(X, y)

        search(self._made(kind, parameters | {"max_iter": 2}))

        def work() -> None:
            self._model = search(self._made(kind, parameters))

        self._work = work
        return {"seconds": None}

    def run(self, calls: int) -> dict[str, Any]:
        """Do what was taken up so many times; return the seconds of all."""
        work = self._work

        def every() -> None:
            for _ in range(calls):
                work()

        return {"seconds": seconds_of(every)}

    # What came of it.

    def fitted(self) -> dict[str, Any]:
        """Return what the last fit came to."""
        return {"loss": float(self._model.loss_), "epochs": int(self._model.n_iter_)}

    def predicted(self) -> dict[str, Any]:
        """Return the last predictions, class by class."""
        return {"predictions": np.asarray(self._work()).tolist()}

    def found(self) -> dict[str, Any]:
        """Return the best score of the last search, and where it was."""
        return {
            "score": float(self._model.best_score_),
            "parameters": self._model.best_params_,
            "seconds": float(np.mean(self._model.cv_results_["mean_fit_time"])),
        }

    def end_workers(self) -> dict[str, Any]:
        """End the processes of a search, which would outlive this one for a while."""
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        return {}

    def scores(
        self, case: str, kind: str, parameters: dict[str, Any], seeds: list[int]
    ) -> dict[str, Any]:
        """Return the scores on a quarter of the examples, drawn anew by each seed."""
        X, y = _read(case, "float64")
        found = []
        for seed in seeds:
            parts = train_test_split(X, y, test_size=0.25, random_state=seed)
            train, test, y_train, y_test = _scaled(parts, kind)
            model = self._made(kind, parameters | {"random_state": seed}).fit(train, y_train)
            found.append(float(model.score(test, y_test)))
        return {"scores": found}

    def _made(self, kind: str, parameters: dict[str, Any]) -> Any:
        """Return an estimator that is not fitted."""
        return getattr(self._module, _NAMES[kind])(**parameters, **self._more)


def _read(case: str, dtype: str) -> tuple[Any, Array]:
    """Read examples that the comparison wrote, dense or sparse."""
    with np.load(case) as file:
        if "X" in file:
            return np.ascontiguousarray(file["X"], dtype), file["y"]
        parts = file["data"].astype(dtype), file["indices"], file["indptr"]
        return sparse.csr_array(parts, tuple(file["shape"])), file["y"]


def _scaled(parts: list[Array], kind: str) -> list[Array]:
    """Scale features, and the targets of a regressor, by the examples to train on."""
    train, test, y_train, y_test = parts
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    if kind == "regressor":
        middle, width = y_train.mean(), y_train.std()
        y_train, y_test = (y_train - middle) / width, (y_test - middle) / width
    return [train, test, y_train, y_test]


if __name__ == "__main__":
    chosen, allowed = arguments("fastnn")
    answer(lambda: Perceptrons(chosen, allowed))
