"""What the estimators are measured on.

Append-only, like `benchmarks/workloads.py`: existing work never changes, new work is added at the
end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DATA", "FITS", "PREDICTIONS", "SCORED", "SEARCHES", "Search", "Work"]

Array = NDArray[Any]
Examples = tuple[Array, Array]


@dataclass(frozen=True)
class Work:
    """An estimator, its parameters and its data.

    Attributes
    ----------
    data : str
        One of `DATA`.
    parameters : mapping
        Of the estimator, where they differ from the defaults.
    kind : {"classifier", "regressor"}
        Which of the two.
    tolerance : mapping of dtype to float
        How far two losses may lie apart, as a share: a long search by L-BFGS amplifies rounding.
    """

    data: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "classifier"
    tolerance: Mapping[str, float] = field(
        default_factory=lambda: {"float32": 1e-2, "float64": 1e-6}
    )


@dataclass(frozen=True)
class Search:
    """A grid search: `Work`, the values that are tried, and how often each is fitted."""

    work: Work
    grid: Mapping[str, list[Any]]
    folds: int = 5


def _shipped(name: str) -> Callable[[], Examples]:
    """Return what loads a data set that ships with scikit-learn, its features scaled."""

    def load() -> Examples:
        from sklearn import datasets
        from sklearn.preprocessing import StandardScaler

        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        return StandardScaler().fit_transform(X), y

    return load


def _made(name: str, **settings: Any) -> Callable[[], Examples]:
    """Return what draws a data set by one of scikit-learn's functions."""

    def make() -> Examples:
        from sklearn import datasets

        X, y = getattr(datasets, f"make_{name}")(**settings, random_state=0)
        return X, y

    return make


def _drawn(rows: int, inputs: int) -> Callable[[], Examples]:
    """Return what draws ten classes that a noisy linear map of normal features parts."""

    def draw() -> Examples:
        rng = np.random.default_rng(inputs)
        X = rng.standard_normal((rows, inputs))
        noisy = X @ rng.standard_normal((inputs, 10)) + 0.5 * rng.standard_normal((rows, 10))
        return X, noisy.argmax(axis=1)

    return draw


def _sparse(rows: int, inputs: int, entries: int) -> Callable[[], tuple[Any, Array]]:
    """Return what draws words of documents: few of many features are not zero; five classes."""

    def draw() -> tuple[Any, Array]:
        from scipy import sparse

        rng = np.random.default_rng(inputs)
        X = sparse.random_array((rows, inputs), density=entries / inputs, format="csr", rng=rng)
        return X, (X @ rng.standard_normal((inputs, 5))).argmax(axis=1)

    return draw


#: Examples by name: features, which may be sparse, and targets.
DATA: dict[str, Callable[[], tuple[Any, Array]]] = {
    "iris": _shipped("iris"),
    "wine": _shipped("wine"),
    "breast cancer": _shipped("breast_cancer"),
    "digits": _shipped("digits"),
    "diabetes": _shipped("diabetes"),
    "moons": _made("moons", n_samples=1000, noise=0.3),
    "circles": _made("circles", n_samples=1000, noise=0.15, factor=0.5),
    "five classes": _made(
        "classification", n_samples=1000, n_features=20, n_informative=10, n_classes=5
    ),
    "several labels": _made("multilabel_classification", n_samples=1000, n_features=20),
    "friedman": _made("friedman1", n_samples=1000, noise=1.0),
    "784 inputs": _drawn(4000, 784),
    "1,000 inputs, sparse": _sparse(2000, 1000, 60),
    "5,000 inputs, sparse, a tenth": _sparse(2000, 5000, 500),
    "20,000 inputs, sparse": _sparse(2000, 20_000, 60),
}

# So many epochs and no fewer: nothing ends a fit early.
_WHOLE = {"random_state": 0, "tol": 0.0, "n_iter_no_change": 1_000_000}


def _adam(data: str, hidden: tuple[int, ...], batch: int, epochs: int) -> Work:
    return Work(
        data,
        {"hidden_layer_sizes": hidden, "batch_size": batch, "max_iter": epochs, **_WHOLE},
    )


def _lbfgs(data: str, hidden: tuple[int, ...], steps: int) -> Work:
    parameters = {"solver": "lbfgs", "hidden_layer_sizes": hidden, "max_iter": steps}
    return Work(
        data,
        {**parameters, "alpha": 1.0, "random_state": 0, "tol": 0.0},
        tolerance={"float32": 1e-2, "float64": 1e-2},
    )


#: Fits by name.
FITS = {
    "adam, 30-(32)-1, batch 32": _adam("breast cancer", (32,), 32, 20),
    "adam, 64-(100)-10, batch 32": _adam("digits", (100,), 32, 10),
    "adam, 64-(100)-10, batch 200": _adam("digits", (100,), 200, 20),
    "adam, 784-(100)-10, batch 200": _adam("784 inputs", (100,), 200, 5),
    "adam, 64-(512, 512)-10, batch 200": _adam("digits", (512, 512), 200, 5),
    "adam, 784-(512, 512)-10, batch 200": _adam("784 inputs", (512, 512), 200, 2),
    "lbfgs, 30-(32)-1": _lbfgs("breast cancer", (32,), 100),
    "lbfgs, 64-(100)-10": _lbfgs("digits", (100,), 50),
    "adam, 1,000 sparse-(100)-5, batch 200": _adam("1,000 inputs, sparse", (100,), 200, 5),
    "adam, 5,000 sparse (a tenth)-(10)-5, batch 200": _adam(
        "5,000 inputs, sparse, a tenth", (10,), 200, 2
    ),
    "lbfgs, 5,000 sparse (a tenth)-(10)-5": _lbfgs("5,000 inputs, sparse, a tenth", (10,), 5),
    "adam, 20,000 sparse-(100)-5, batch 200": _adam("20,000 inputs, sparse", (100,), 200, 2),
    "sgd, 20,000 sparse-(100)-5, batch 200": Work(
        "20,000 inputs, sparse",
        {"solver": "sgd", "batch_size": 200, "max_iter": 2, **_WHOLE},
    ),
    "lbfgs, 20,000 sparse-(100)-5": _lbfgs("20,000 inputs, sparse", (100,), 5),
}

_SHORTLY = {"max_iter": 20, "random_state": 0}

#: Predictions by name, with the number of rows.
PREDICTIONS = {
    "predict, 30-(100)-1, one row": (Work("breast cancer", _SHORTLY), 1),
    "predict, 64-(100)-10, one row": (Work("digits", _SHORTLY), 1),
    "predict, 64-(100)-10, 10,000 rows": (Work("digits", _SHORTLY), 10_000),
    "predict, 784-(100)-10, 10,000 rows": (
        Work("784 inputs", {"max_iter": 2, "random_state": 0}),
        10_000,
    ),
    "predict, 20,000 sparse-(100)-5, one row": (
        Work("20,000 inputs, sparse", {"max_iter": 2, "random_state": 0}),
        1,
    ),
    "predict, 20,000 sparse-(100)-5, 2,000 rows": (
        Work("20,000 inputs, sparse", {"max_iter": 2, "random_state": 0}),
        2000,
    ),
}


def _search(data: str, epochs: int, batch: int | str) -> Search:
    parameters = {"max_iter": epochs, "batch_size": batch, **_WHOLE}
    grid = {"alpha": [1e-4, 1e-2], "learning_rate_init": [1e-3, 3e-3]}
    hidden = {"hidden_layer_sizes": [(50,), (100,)]}
    return Search(Work(data, parameters), grid | hidden)


#: Searches by name: forty fits of about half a second in scikit-learn, on whole data sets.
SEARCHES = {
    "GridSearchCV, breast cancer, batch 32": _search("breast cancer", 120, 32),
    "GridSearchCV, digits, batch 200": _search("digits", 160, "auto"),
}

#: What is scored, with the defaults of the estimators.
SCORED = {
    name: Work(name, kind="regressor" if name in ("diabetes", "friedman") else "classifier")
    for name in (
        "iris",
        "wine",
        "breast cancer",
        "digits",
        "diabetes",
        "moons",
        "circles",
        "five classes",
        "several labels",
        "friedman",
    )
}
