"""JAX: one jitted scan over the batches of an epoch, its arrays donated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from serving import BETA_1, BETA_2, EPSILON, LEARNING_RATE, Case, Floats, Library, serve


class Jax(Library):
    def versions(self) -> dict[str, str]:
        return {"jax": str(jax.__version__), "jaxlib": str(jax.lib.__version__)}

    def forget(self) -> None:
        jax.clear_caches()

    def prepare(self, case: Case) -> None:
        self.case = case
        # A scan takes batches of one size.
        steps = len(case.X) // case.batch_size
        if steps * case.batch_size != len(case.X):
            raise ValueError("the examples must be whole batches")
        shape = (steps, case.batch_size)
        self.X = jnp.asarray(case.X.reshape(*shape, -1))
        self.y = jnp.asarray(case.y.reshape(*shape, *case.y.shape[1:]))
        self.epoch = jax.jit(_epoch_of(case), donate_argnums=0)

    def reset(self) -> None:
        parameters = [(jnp.array(W), jnp.array(b)) for W, b in self.case.weights]
        m, v = (jax.tree.map(jnp.zeros_like, parameters) for _ in range(2))
        self.state: Any = jax.block_until_ready((parameters, m, v, jnp.float32(0)))

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            self.state = self.epoch(self.state, self.X, self.y)
        jax.block_until_ready(self.state)

    def weights(self) -> list[tuple[Floats, Floats]]:
        return [(np.asarray(W), np.asarray(b)) for W, b in self.state[0]]

    def product(self, A: Floats, B: Floats) -> Callable[[], Any] | None:
        left, right = jnp.array(A), jnp.array(B)
        multiply = jax.jit(jnp.matmul)
        return lambda: multiply(left, right).block_until_ready()

    def predictor(self, case: Case) -> Callable[[], Any]:
        weights = [(jnp.array(W), jnp.array(b)) for W, b in case.weights]
        X = jnp.array(case.X)

        def forward(X: Any) -> Any:
            Z = _forward(weights, X, case.activation)
            return jax.nn.softmax(Z) if case.classifies else Z

        compiled = jax.jit(forward)
        return lambda: compiled(X).block_until_ready()


def _forward(weights: Any, X: Any, activation: str) -> Any:
    """Return Z of the last layer."""
    hidden = jax.nn.relu if activation == "relu" else jnp.tanh
    for W, b in weights[:-1]:
        X = hidden(X @ W + b)
    W, b = weights[-1]
    return X @ W + b


def _epoch_of(case: Case) -> Callable[[Any, Any, Any], Any]:
    """Return the function of a whole epoch."""

    def loss(weights: Any, X: Any, y: Any) -> Any:
        Z = _forward(weights, X, case.activation)
        if case.classifies:
            return -jnp.take_along_axis(jax.nn.log_softmax(Z), y[:, None], axis=1).mean()
        return ((Z - y) ** 2).mean()

    def step(state: Any, batch: Any) -> Any:
        weights, m, v, count = state
        count = count + 1
        gradient = jax.grad(loss)(weights, *batch)
        m = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, m, gradient)
        v = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, v, gradient)
        scale_m, scale_v = 1 / (1 - BETA_1**count), 1 / (1 - BETA_2**count)

        def moved(w: Any, m: Any, v: Any) -> Any:
            return w - LEARNING_RATE * (m * scale_m) / (jnp.sqrt(v * scale_v) + EPSILON)

        return (jax.tree.map(moved, weights, m, v), m, v, count), None

    def epoch(state: Any, X: Any, y: Any) -> Any:
        return jax.lax.scan(step, state, (X, y))[0]

    return epoch


if __name__ == "__main__":
    serve(Jax)
