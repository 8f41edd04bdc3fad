"""fastnn: one `fit`, as a user calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from serving import BETA_1, BETA_2, EPSILON, LEARNING_RATE, Case, Floats, Library, serve

import fastnn as fn


class Fastnn(Library):
    def versions(self) -> dict[str, str]:
        return {
            "fastnn": fn.__version__,
            "numba": str(numba.__version__),
            "numpy": np.__version__,
        }

    def prepare(self, case: Case) -> None:
        self.case = case
        self.net = network_of(case)
        self.first = self.net.get_weights()

    def reset(self) -> None:
        self.net.set_weights(self.first)

    def train(self, epochs: int) -> None:
        self.net.fit(
            self.case.X,
            self.case.y,
            optimizer=fn.Adam(LEARNING_RATE, BETA_1, BETA_2, EPSILON),
            epochs=epochs,
            batch_size=self.case.batch_size,
            shuffle=False,
            threads=self.threads,
            progress=False,
        )

    def weights(self) -> list[tuple[Floats, Floats]]:
        values = self.net.get_weights()
        return list(zip(values[::2], values[1::2], strict=True))

    def predictor(self, case: Case) -> Callable[[], Any]:
        return asked(network_of(case), case)


def asked(net: fn.Sequential, case: Case) -> Callable[[], Any]:
    """Return a function that predicts X, one row as a vector."""
    rows = case.X[0].copy() if len(case.X) == 1 else case.X
    return lambda: net(rows)


def network_of(case: Case) -> fn.Sequential:
    """Return the network with its first weights."""
    widths = [W.shape[1] for W, _ in case.weights]
    layers = [fn.Dense(units, activation=case.activation) for units in widths[:-1]]
    layers.append(fn.Dense(widths[-1], activation=case.last))
    net = fn.Sequential(layers, inputs=case.X.shape[1], dtype=case.X.dtype)
    net.set_weights([array for pair in case.weights for array in pair])
    return net


if __name__ == "__main__":
    serve(Fastnn)
