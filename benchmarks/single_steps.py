"""Steps, gradients, updates by them, losses and predictions of a few rows, beside PyTorch and JAX.

``python -m benchmarks.single_steps`` prints a table of microseconds: 8-32-32-1 in float32 with
Adam, 1 and 32 rows, each library in a process of its own, on one core.  Every call takes NumPy
arrays, or the library's own tensors where it has some, made before.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .cores import keep_to, physical_cores

ROWS = (1, 32)
CALLS = ("step", "gradient", "update", "loss", "prediction")
WIDTHS = (8, 32, 32, 1)
RATE = 1e-4

# Calls of a round, and rounds, of which the median counts.
_CALLS = 300
_ROUNDS = 7

Calls = dict[str, Callable[[], object]]


def with_fastnn(X: Any, y: Any) -> Calls:
    """Return the calls of this library."""
    import fastnn as fn

    layers = [*(fn.Dense(units, "relu") for units in WIDTHS[1:-1]), fn.Dense(WIDTHS[-1])]
    net, adam = fn.Sequential(layers, inputs=WIDTHS[0]), fn.Adam(RATE)
    slope = net.loss_and_gradient(X, y)[1]
    return {
        "step": lambda: net.train_on_batch(X, y, optimizer=adam),
        "gradient": lambda: net.loss_and_gradient(X, y),
        "update": lambda: net.apply_gradient(slope, adam),
        "loss": lambda: net.evaluate(X, y),
        "prediction": lambda: net.predict(X),
    }


def with_pytorch(X: Any, y: Any, compiled: bool = False) -> Calls:
    """Return the calls of PyTorch, eager or compiled, with its fused Adam."""
    import torch

    torch.set_num_threads(1)
    linear: Any = torch.nn.Linear
    layers: list[Any] = []
    for inputs, outputs in itertools.pairwise(WIDTHS):
        layers += [linear(inputs, outputs), torch.nn.ReLU()]
    net: Any = torch.nn.Sequential(*layers[:-1])
    mean: Any = torch.nn.MSELoss()
    adam = torch.optim.Adam(net.parameters(), RATE, fused=True)
    x, wanted = torch.from_numpy(X), torch.from_numpy(y)
    forward: Any = torch.compile(lambda: mean(net(x), wanted)) if compiled else None
    forward = forward or (lambda: mean(net(x), wanted))
    answer: Any = torch.compile(net) if compiled else net

    def gradient() -> None:
        adam.zero_grad()
        forward().backward()

    def step() -> None:
        gradient()
        adam.step()

    def loss() -> float:
        with torch.no_grad():
            return float(forward())

    def prediction() -> object:
        with torch.no_grad():
            return answer(x)

    # There is a gradient to update by.
    gradient()
    return {
        "step": step,
        "gradient": gradient,
        "update": adam.step,
        "loss": loss,
        "prediction": prediction,
    }


def with_compiled_pytorch(X: Any, y: Any) -> Calls:
    """Return the calls of ``torch.compile``."""
    return with_pytorch(X, y, compiled=True)


def with_jax(X: Any, y: Any) -> Calls:
    """Return the calls of JAX: each is one compiled function, waited for."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.PRNGKey(0), len(WIDTHS) - 1)
    weights: Any = [
        (jax.random.normal(key, (inputs, outputs)) / inputs**0.5, jnp.zeros(outputs))
        for key, inputs, outputs in zip(keys, WIDTHS, WIDTHS[1:], strict=False)
    ]
    x, wanted = jnp.asarray(X), jnp.asarray(y)

    def forward(weights: Any, x: Any) -> Any:
        for W, b in weights[:-1]:
            x = jax.nn.relu(x @ W + b)
        return x @ weights[-1][0] + weights[-1][1]

    def mean(weights: Any, x: Any, y: Any) -> Any:
        return jnp.mean((forward(weights, x) - y) ** 2)

    def changed(state: Any, slopes: Any) -> Any:
        weights, first, second, count = state
        count = count + 1
        each = jax.tree_util.tree_map
        first = each(lambda m, g: 0.9 * m + 0.1 * g, first, slopes)
        second = each(lambda v, g: 0.999 * v + 0.001 * g * g, second, slopes)

        def change(w: Any, m: Any, v: Any) -> Any:
            return w - RATE * (m / (1 - 0.9**count)) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8)

        return each(change, weights, first, second), first, second, count

    def advance(state: Any, x: Any, y: Any) -> Any:
        value, slopes = jax.value_and_grad(mean)(state[0], x, y)
        return changed(state, slopes), value

    zeros = jax.tree_util.tree_map(jnp.zeros_like, weights)
    held = [(weights, zeros, zeros, jnp.zeros(()))]
    advanced: Any = jax.jit(advance)
    slope, loss, predict = jax.jit(jax.value_and_grad(mean)), jax.jit(mean), jax.jit(forward)
    known: Any = slope(weights, x, wanted)[1]
    updated: Any = jax.jit(changed)

    def step() -> float:
        held[0], value = advanced(held[0], x, wanted)
        return float(value)

    def update() -> None:
        held[0] = jax.block_until_ready(updated(held[0], known))

    return {
        "step": step,
        "gradient": lambda: jax.block_until_ready(slope(weights, x, wanted)),
        "update": update,
        "loss": lambda: float(loss(weights, x, wanted)),
        "prediction": lambda: np.asarray(predict(weights, x)),
    }


LIBRARIES: dict[str, Callable[[Any, Any], Calls]] = {
    "fastnn": with_fastnn,
    "PyTorch": with_pytorch,
    "PyTorch, compiled": with_compiled_pytorch,
    "JAX, jit": with_jax,
}


class OneCall:
    """A step, a gradient, a loss or a prediction of a small network, with each library."""

    params = (list(LIBRARIES), CALLS, ROWS)
    param_names = ("library", "call", "rows")

    def setup(self, library: str, call: str, rows: int) -> None:
        keep_to(physical_cores()[-1:])
        try:
            self.call = LIBRARIES[library](*examples(rows))[call]
        except ImportError:
            raise NotImplementedError(f"{library} is not installed") from None
        self.call()
        self.call()

    def time_call(self, library: str, call: str, rows: int) -> None:
        self.call()


def examples(rows: int) -> tuple[Any, Any]:
    """Return features and targets."""
    rng = np.random.default_rng(0)
    X, y = (rng.normal(size=(rows, n)).astype(np.float32) for n in (WIDTHS[0], WIDTHS[-1]))
    return X, y


def microseconds(call: Callable[[], object]) -> float:
    """Return the median time of a call, which has been compiled before."""
    for _ in range(20):
        call()
    found = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        for _ in range(_CALLS):
            call()
        found.append((time.perf_counter() - began) / _CALLS * 1e6)
    return statistics.median(found)


def measured(library: str) -> dict[str, list[float]]:
    """Return one library's microseconds, by call, for each number of rows."""
    found: dict[str, list[float]] = {call: [] for call in CALLS}
    for rows in ROWS:
        for name, call in LIBRARIES[library](*examples(rows)).items():
            found[name].append(microseconds(call))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or, in a child, one library's figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--library", choices=LIBRARIES, help="only this one, as JSON")
    chosen = parser.parse_args(arguments).library
    if chosen:
        keep_to(physical_cores()[-1:])
        print(json.dumps(measured(chosen)))
        return
    print("| us, 1 / 32 rows |", " | ".join(CALLS), "|")
    print("| --- |" + " ---: |" * len(CALLS))
    for library in LIBRARIES:
        command = [sys.executable, "-m", "benchmarks.single_steps", "--library", library]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode:
            print(f"| {library} |" + " - |" * len(CALLS), file=sys.stderr)
            continue
        found = json.loads(child.stdout.splitlines()[-1])
        cells = (" / ".join(f"{value:.3g}" for value in found[call]) for call in CALLS)
        print(f"| {library} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
