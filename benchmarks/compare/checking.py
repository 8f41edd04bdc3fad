"""Whether all libraries do the same work: their losses, computed here from their weights.

No library's own loss is used.  A library returns its weights after so many steps; the loss of all
examples is computed from them in double precision by the textbook in NumPy, and compared with the
loss that the textbook itself reaches in as many steps from the same first weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fn

from ..workloads import Workload

__all__ = ["Reached", "Referee", "WrongWork"]

#: Steps, at least, after which losses are compared, in whole epochs.  The first ones say little,
#: as Adam's first step is the gradient's sign; much later, training has amplified the rounding.
CHECKED_STEPS = 8

#: How far a loss may be from the textbook's, as a fraction of its decrease in training.
#: float32 stays within a tenth of this; only 16 layers and thousands of steps reach a half.
LOSS_TOLERANCE = 2e-3

#: scikit-learn adds Adam's epsilon before the bias correction and not after, which shows where
#: gradients are as small as epsilon: in the first steps of a deep network.
TOLERANCES = {"scikit-learn": 2e-2}

#: How far a prediction may be from the textbook's, as a fraction of the largest one.
PREDICTION_TOLERANCE = 1e-4


class WrongWork(Exception):
    """A library has not computed what the others have."""


@dataclass(frozen=True)
class Reached:
    """The quality of weights: the loss of all examples, and the accuracy."""

    loss: float
    accuracy: float | None


class Referee:
    """Compares the results of libraries on a workload with the textbook's.

    Parameters
    ----------
    workload : Workload
        The workload.
    """

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._X, self._y = workload.data()
        self._first = workload.network().get_weights()
        #: After how many epochs losses are compared.
        self.epochs = -(-CHECKED_STEPS // workload.steps)
        self._wanted: Reached | None = None

    def write_case(self, path: Path, rows: int | None = None, onnx: Path | None = None) -> None:
        """Write the file that every library starts from; with some rows, or all.

        Where an ONNX file of the network is named, it stands in the case as it is.
        """
        weights = self._first
        arrays: dict[str, Any] = {f"W{n}": W for n, W in enumerate(weights[::2])}
        arrays |= {f"b{n}": b for n, b in enumerate(weights[1::2])}
        if onnx is not None:
            arrays["onnx"] = np.frombuffer(onnx.read_bytes(), np.uint8)
        np.savez(
            path,
            X=self._X[:rows],
            y=self._y[:rows],
            layers=len(weights) // 2,
            activation=self._workload.activation,
            last=self._workload.last,
            batch_size=self._workload.batch_size,
            **arrays,
        )

    def reached(self, path: Path) -> Reached:
        """Return the quality of the weights in a file.

        Raises
        ------
        WrongWork
            If they are not finite.
        """
        with np.load(path) as file:
            layers = len(file.files) // 2
            weights = [file[f"{kind}{n}"] for n in range(layers) for kind in "Wb"]
        if not all(np.isfinite(array).all() for array in weights):
            raise WrongWork("its weights are not finite")
        return self._value(weights)

    def check(self, path: Path, peer: str = "") -> Reached:
        """Compare a library's weights in a file, after `epochs`, with the textbook's.

        Raises
        ------
        WrongWork
            If their loss differs.
        """
        if self._wanted is None:
            self._start, self._wanted = self._textbook()
        found, wanted, start = self.reached(path), self._wanted.loss, self._start.loss
        allowed = TOLERANCES.get(peer, LOSS_TOLERANCE) * abs(start - wanted)
        if not abs(found.loss - wanted) <= allowed:
            raise WrongWork(
                f"its loss after {self.epochs * self._workload.steps} steps is "
                f"{found.loss:.6g}; the textbook's is {wanted:.6g} (from {start:.6g} at first), "
                f"and {allowed:.2g} may lie between them"
            )
        return found

    def check_predictions(self, path: Path, rows: int) -> None:
        """Compare the predictions of a file with the textbook's.

        Raises
        ------
        WrongWork
            If they differ.
        """
        net = self._network(self._first)
        wanted = net.predict(self._X[:rows].astype(np.float64), backend="reference")
        with np.load(path) as file:
            found = file["predictions"].reshape(wanted.shape)
        farthest = float(np.abs(found - wanted).max())
        if not farthest <= PREDICTION_TOLERANCE * float(np.abs(wanted).max()):
            raise WrongWork(f"its predictions are up to {farthest:.2g} from the textbook's")

    def _textbook(self) -> tuple[Reached, Reached]:
        """Return the quality of the first weights, and of the textbook's after training."""
        net = self._network(self._first)
        net.fit(
            self._X,
            self._y,
            epochs=self.epochs,
            batch_size=self._workload.batch_size,
            shuffle=False,
            progress=False,
            backend="reference",
        )
        return self._value(self._first), self._value(net.get_weights())

    def _network(self, weights: list[NDArray[Any]]) -> fn.Sequential:
        """Return the network in double precision with some weights."""
        net = self._workload.network("float64")
        net.set_weights(weights)
        return net

    def _value(self, weights: list[NDArray[Any]]) -> Reached:
        """Evaluate weights in double precision."""
        classifies = self._workload.last == "softmax"
        asked = "accuracy" if classifies else ()
        found = self._network(weights).evaluate(
            self._X, self._y, metrics=asked, backend="reference"
        )
        return Reached(found["loss"], found.get("accuracy"))
