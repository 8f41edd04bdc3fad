"""``python -m benchmarks.bits OTHER``: do two checkouts compute the same bits?

Random networks are trained, and predict, in each checkout, in a process of its own, from the same
first weights: dtypes, widths, activations, losses, optimizers, dropout, L2, gradient clipping,
sample weights, batches, schedules and numbers of threads.  Results are hashed and compared.

Use it to verify a change that promises the same bits; see CONTRIBUTING.md.  The file
is run by its path with the other checkout's library, so it imports nothing else but NumPy.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

_HIDDEN = (
    "relu",
    "tanh",
    "sigmoid",
    "gelu",
    "silu",
    "elu",
    "selu",
    "leaky_relu",
    "softplus",
    "identity",
    "sin",
    "mish",
)
_ENDS = (
    ("identity", "mean_squared_error"),
    ("identity", "mean_absolute_error"),
    ("identity", "huber"),
    ("softmax", "cross_entropy"),
    ("sigmoid", "binary_cross_entropy"),
    ("exp", "poisson"),
    ("identity", "hinge"),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0 if all bits are the same, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bits", description=__doc__)
    parser.add_argument("other", type=Path, nargs="?", help="the root of another checkout")
    parser.add_argument("--networks", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the random networks")
    parser.add_argument("--hashes", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.hashes:
        print(json.dumps([_outcome(options.seed, n) for n in range(options.networks)]))
        return 0
    if options.other is None:
        parser.error("name the other checkout")
    here = Path(__file__).resolve().parents[1]
    ours, theirs = (_hashes(root, options) for root in (here, options.other.resolve()))
    return _report(ours, theirs)


def _hashes(root: Path, options: argparse.Namespace) -> list[dict[str, str]]:
    """Return what a checkout computes."""
    command = [sys.executable, str(Path(__file__).resolve()), "--hashes"]
    command += ["--networks", str(options.networks), "--seed", str(options.seed)]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def _report(ours: list[dict[str, str]], theirs: list[dict[str, str]]) -> int:
    """Print which results differ; return 1 if any does."""
    different = 0
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        names = [name for name in mine if mine[name] != other.get(name)]
        if names:
            different += 1
            print(f"network {number}: {', '.join(names)} ({mine['network']})")
    print(f"{len(ours) - different} of {len(ours)} networks give the same bits")
    return 1 if different else 0


def _outcome(seed: int, number: int) -> dict[str, str]:
    """Train one random network and predict; return the hashes of its results by name."""
    import fastnn as fn

    rng = np.random.default_rng([seed, number])

    def one(choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    dtype = one(("float32", "float64"))
    last, loss = one(_ENDS)
    p, m = int(rng.integers(1, 90)), int(rng.integers(1, 40))
    widths = [int(rng.integers(1, 150)) for _ in range(rng.integers(0, 4))]
    layers: list[Any] = []
    for units in widths:
        layers.append(fn.Dense(units, one(_HIDDEN), bias=rng.random() < 0.9, l2=one((0.0, 1e-3))))
        if rng.random() < 0.2:
            layers.append(fn.Dropout(float(rng.uniform(0.05, 0.6))))
    layers.append(fn.Dense(m, last))
    net = fn.Sequential(layers, inputs=p, dtype=dtype, rng=int(rng.integers(1000)))
    net.parameters = rng.normal(size=net.parameters.size) * 0.3 / np.sqrt(max([p, *widths]))
    n = int(one((1, 7, 60, 500, 3000)))
    X = rng.normal(size=(n, p))
    y = _targets(rng, loss, n, m)
    eta = 1e-3
    optimizers: list[Any] = [fn.SGD(eta), fn.SGD(eta, 0.9), fn.SGD(eta, 0.9, True)]
    for kind in (fn.Adam, fn.AdamW, fn.RMSprop, fn.Adagrad, fn.Nadam, fn.RAdam, fn.Rprop):
        optimizers.append(kind(eta))
    weight = rng.random(n) + 0.01 if rng.random() < 0.3 else None
    options = {
        "optimizer": one(optimizers),
        "batch_size": int(one((1, 8, 32, 129, 4000))) if n <= 60 else int(one((32, 129, 4000))),
        "clip_norm": one((None, None, 0.5)),
        "schedule": one((None, None, fn.CosineDecay(3))),
        "validation_fraction": one((0.0, 0.2)) if n >= 60 else 0.0,
        "shuffle": bool(rng.random() < 0.8),
        "threads": int(one((1, 2, 3))),
    }
    history = net.fit(X, y, loss=loss, sample_weight=weight, epochs=3, progress=False, **options)
    asked = np.ascontiguousarray(rng.normal(size=(int(rng.integers(1, 300)), p)), dtype)
    value, gradient = net.loss_and_gradient(X, y, loss=loss, sample_weight=weight)
    step = net.train_on_batch(X[:40], y[:40], loss=loss)
    results = {
        "history": np.asarray(history["loss"]),
        "predict": net.predict(asked),
        "rows": np.stack([net(row) for row in asked]),
        "few": net(asked[:3]),
        "loss": np.asarray(value),
        "gradient": gradient,
        "step": np.asarray(step),
        "parameters": net.parameters,
    }
    hashes = {
        name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
        for name, array in results.items()
    }
    about = f"{dtype}, {p}-{widths}-{m} {last}, {loss}, {n} rows, {options}"
    return {**hashes, "network": about}


def _targets(rng: np.random.Generator, loss: str, n: int, m: int) -> Any:
    """Return targets that a loss takes."""
    if loss == "cross_entropy":
        return rng.integers(0, m, size=n)
    if loss in ("binary_cross_entropy", "hinge"):
        return rng.integers(0, 2, size=(n, m)).astype(float)
    if loss == "poisson":
        return rng.poisson(2.0, size=(n, m)).astype(float)
    return rng.normal(size=(n, m))


if __name__ == "__main__":
    sys.exit(main())
