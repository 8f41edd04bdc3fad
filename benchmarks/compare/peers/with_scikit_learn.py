"""scikit-learn: its MLPClassifier and MLPRegressor, started from the given weights.

Its first weights are its own, so that a fit of one epoch makes the arrays, which then take the
given ones over (`warm_start`).  It ends a network of two classes in one logistic output; told
its output activation and given indicator columns, it trains the two softmax outputs that the
others train.  Its squared error is halved, of which Adam's step sees nothing but epsilon.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn
from serving import BETA_1, BETA_2, EPSILON, LEARNING_RATE, Case, Floats, Library, serve
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from threadpoolctl import threadpool_info


class ScikitLearn(Library):
    def versions(self) -> dict[str, str]:
        found = {"scikit-learn": str(sklearn.__version__), "numpy": np.__version__}
        for library in threadpool_info():
            if library["user_api"] == "blas":
                found["BLAS kernels of scikit-learn"] = str(library["architecture"])
        return found

    def prepare(self, case: Case) -> None:
        warnings.simplefilter("ignore", ConvergenceWarning)
        self.case = case
        kind = MLPClassifier if case.classifies else MLPRegressor
        self.model = kind(
            hidden_layer_sizes=[W.shape[1] for W, _ in case.weights[:-1]],
            activation=case.activation,
            solver="adam",
            alpha=0.0,
            batch_size=case.batch_size,
            learning_rate_init=LEARNING_RATE,
            beta_1=BETA_1,
            beta_2=BETA_2,
            epsilon=EPSILON,
            max_iter=1,
            shuffle=False,
            tol=0.0,
            n_iter_no_change=1_000_000_000,
            warm_start=True,
            random_state=0,
        )
        self.targets = self._targets(case)
        self.model.fit(case.X, self.targets)
        if case.classifies:
            self.model.out_activation_ = "softmax"

    def _targets(self, case: Case) -> Any:
        outputs = case.weights[-1][1].size
        if case.classifies:
            # All columns, also of classes that no example has.
            return np.eye(outputs, dtype=np.int64)[case.y]
        return case.y[:, 0] if outputs == 1 else case.y

    def reset(self) -> None:
        self.model.coefs_ = [W.copy() for W, _ in self.case.weights]
        self.model.intercepts_ = [b.copy() for _, b in self.case.weights]

    def train(self, epochs: int) -> None:
        self.model.max_iter = epochs
        self.model.fit(self.case.X, self.targets)

    def weights(self) -> list[tuple[Floats, Floats]]:
        return list(zip(self.model.coefs_, self.model.intercepts_, strict=True))

    def predictor(self, case: Case) -> Callable[[], Any]:
        self.prepare(case)
        self.reset()
        ask = self.model.predict_proba if case.classifies else self.model.predict
        return lambda: ask(case.X)


if __name__ == "__main__":
    serve(ScikitLearn)
