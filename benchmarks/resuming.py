"""What it costs to write a fit's state, and to go on from it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import fastnn as fn

from .cores import keep_to, physical_cores

# Hidden units of two layers, features and outputs.
NETWORKS = {"8-32-32-1": (8, 32, 32, 1), "784-512-512-10": (784, 512, 512, 10)}


class Resuming:
    """One epoch of 1000 rows: alone, with a file at its end, and going on from one."""

    params = (list(NETWORKS),)
    param_names = ("network",)
    number = 1
    warmup_time = 0
    min_run_count = 5

    def setup(self, name: str) -> None:
        keep_to(physical_cores()[-1:])
        inputs, *hidden, outputs = NETWORKS[name]
        layers = [*(fn.Dense(units, "relu") for units in hidden), fn.Dense(outputs)]
        self.net = fn.Sequential(layers, inputs=inputs, rng=0)
        rng = np.random.default_rng(0)
        self.X = rng.normal(size=(1000, inputs)).astype("float32")
        self.y = rng.normal(size=(1000, outputs)).astype("float32")
        self.folder = tempfile.TemporaryDirectory()
        self.kept = fn.Checkpoint(Path(self.folder.name) / "state", every=1)
        self.fit()

    def teardown(self, name: str) -> None:
        self.folder.cleanup()

    def fit(self, *callbacks: fn.Checkpoint, resume: bool = False) -> None:
        self.net.fit(
            self.X, self.y, epochs=1, batch_size=32, threads=1, callbacks=callbacks, resume=resume,
            progress=False,
        )  # fmt: skip

    def time_epoch(self, name: str) -> None:
        self.fit()

    def time_epoch_and_files(self, name: str) -> None:
        self.fit(self.kept)

    def time_resumed_epoch(self, name: str) -> None:
        self.fit(resume=True)
