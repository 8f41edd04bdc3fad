"""NumPy: the loop that one writes by hand, with every array allocated once.

The honest floor: a library that is slower than this has a cost of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from serving import BETA_1, BETA_2, EPSILON, LEARNING_RATE, Case, Floats, Library, serve


class NumPy(Library):
    def versions(self) -> dict[str, str]:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return {"numpy": np.__version__, "BLAS of NumPy": f"{blas['name']} {blas['version']}"}

    def prepare(self, case: Case) -> None:
        self.case = case
        self.first = np.concatenate([part.ravel() for pair in case.weights for part in pair])
        # One vector each, so that the optimizer is a few calls for the whole network.
        self.values, self.gradient, self.m, self.v, self.scratch = (
            np.empty_like(self.first) for _ in range(5)
        )
        self.layers = _views(self.values, case)
        self.gradients = _views(self.gradient, case)
        self.A = [np.empty((case.batch_size, W.shape[1]), W.dtype) for W, _ in case.weights]
        self.dA = [np.empty_like(A) for A in self.A]
        self.targets = case.y
        if case.classifies:
            self.targets = np.eye(case.weights[-1][1].size, dtype=case.X.dtype)[case.y]

    def reset(self) -> None:
        self.values[:] = self.first
        self.m[:] = 0
        self.v[:] = 0
        self.step = 0

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            for batch in self.case.batches:
                self._backward(self.case.X[batch], self.targets[batch])
                self._update()

    def _forward(self, X: Floats) -> list[Floats]:
        """Return the activations of each layer, in the arrays that are there for them."""
        found = [A[: len(X)] for A in self.A]
        for n, (W, b) in enumerate(self.layers):
            np.matmul(X if n == 0 else found[n - 1], W, out=found[n])
            found[n] += b
            if n < len(found) - 1:
                _activate(found[n], self.case.activation)
        if self.case.classifies:
            _softmax(found[-1])
        return found

    def _backward(self, X: Floats, targets: Floats) -> None:
        """Compute the gradient of the batch's mean loss."""
        A = self._forward(X)
        dA = [array[: len(X)] for array in self.dA]
        # dZ of the last layer, for softmax with cross-entropy and for mean squared error.
        np.subtract(A[-1], targets, out=dA[-1])
        dA[-1] *= 1 / len(X) if self.case.classifies else 2 / targets.size
        for n in range(len(A) - 1, -1, -1):
            dW, db = self.gradients[n]
            np.matmul((X if n == 0 else A[n - 1]).T, dA[n], out=dW)
            dA[n].sum(axis=0, out=db)
            if n > 0:
                np.matmul(dA[n], self.layers[n][0].T, out=dA[n - 1])
                _deactivate(dA[n - 1], A[n - 1], self.case.activation)

    def _update(self) -> None:
        """Take a step of Adam, over all parameters at once."""
        self.step += 1
        gradient, m, v, scratch = self.gradient, self.m, self.v, self.scratch
        m *= BETA_1
        np.multiply(gradient, 1 - BETA_1, out=scratch)
        m += scratch
        v *= BETA_2
        np.multiply(gradient, gradient, out=scratch)
        scratch *= 1 - BETA_2
        v += scratch
        np.multiply(v, 1 / (1 - BETA_2**self.step), out=scratch)
        np.sqrt(scratch, out=scratch)
        scratch += EPSILON
        np.divide(m, scratch, out=scratch)
        scratch *= LEARNING_RATE / (1 - BETA_1**self.step)
        self.values -= scratch

    def weights(self) -> list[tuple[Floats, Floats]]:
        return [(W.copy(), b.copy()) for W, b in self.layers]

    def product(self, A: Floats, B: Floats) -> Callable[[], Any] | None:
        return lambda: A @ B

    def predictor(self, case: Case) -> Callable[[], Any]:
        self.case = case
        self.layers = case.weights
        self.A = [np.empty((len(case.X), W.shape[1]), W.dtype) for W, _ in case.weights]
        return lambda: self._forward(case.X)[-1]


def _views(vector: Floats, case: Case) -> list[tuple[Floats, Floats]]:
    """Return W and b of each layer in one vector."""
    found, start = [], 0
    for W, b in case.weights:
        middle, end = start + W.size, start + W.size + b.size
        found.append((vector[start:middle].reshape(W.shape), vector[middle:end]))
        start = end
    return found


def _activate(Z: Floats, activation: str) -> None:
    if activation == "relu":
        np.maximum(Z, 0, out=Z)
    else:
        np.tanh(Z, out=Z)


def _deactivate(dA: Floats, A: Floats, activation: str) -> None:
    """Turn dA into dZ; A is not needed any more."""
    if activation == "relu":
        dA *= A > 0
    else:
        np.multiply(A, A, out=A)
        np.subtract(1, A, out=A)
        dA *= A


def _softmax(Z: Floats) -> None:
    Z -= Z.max(axis=1, keepdims=True)
    np.exp(Z, out=Z)
    Z /= Z.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    serve(NumPy)
