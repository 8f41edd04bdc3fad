"""Steps by gradients that are given: what they planned, for those that follow on a network."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from fastnn.data import Data
from fastnn.fitting.runs import Run
from fastnn.fitting.states import TrainingState
from fastnn.kernels import codes, records
from fastnn.layout import Layout
from fastnn.losses import resolve_loss
from fastnn.optimizers import row_of
from fastnn.predicting.predictor import as_if_writeable

__all__ = ["Update"]

Floats = NDArray[np.floating]


class Update:
    """A run that takes steps by gradients that are given, and room for their results.

    Parameters
    ----------
    layout : Layout
        The network's.
    parameters : ndarray
        Of the network.
    state : TrainingState
        Of the rule, which all steps have.

    Attributes
    ----------
    parameters, moments : ndarray
        Written by `take`; may be exchanged for others of the same shape.
    """

    __slots__ = ("_nothing", "_run", "moments", "parameters")

    def __init__(self, layout: Layout, parameters: Floats, state: TrainingState) -> None:
        nothing = np.zeros((0, layout.inputs), parameters.dtype)
        # As the examples of a fit are: for others the engine would be compiled once more.
        nothing.flags.writeable = False
        self._nothing = Data.unanswered(nothing)
        # Only where its norm is limited has a whole gradient room in every plan.
        self._run = Run(
            layout.operations, parameters.dtype, self._nothing,
            resolve_loss("auto", layout.blocks[-1].activation), batch_size=1, gradient=True,
            moments=len(state.moments), clipping=True, dropping=True,
        )  # fmt: skip
        self._run.optimize_with(row_of(state.optimizer).code, state.numbers, False)
        self.parameters = np.empty_like(parameters)
        self.moments = np.empty_like(state.moments)

    def take(
        self, parameters: Floats, state: TrainingState, gradient: Floats, clip_norm: float | None
    ) -> NDArray[np.void] | None:
        """Take a step that writes only to this record.

        Parameters
        ----------
        parameters, state
            Where it begins.
        gradient : ndarray (size,)
            Of the training loss, L2 included.
        clip_norm : float or None
            The norm to which it is limited.

        Returns
        -------
        ndarray or None
            The state's numbers after it; None where something turned non-finite.
        """
        run = self._run
        run.numbers = numbers = records.copied(state.numbers)
        numbers["clip_norm"] = sys.float_info.max if clip_norm is None else clip_norm
        run.load_all(parameters, state.moments)
        run.load(as_if_writeable(gradient), len(state.moments) + 1)
        run.once(codes.APPLY, self._nothing)
        if int(run.report["trouble"]) != codes.FINE:
            return None
        run.store_all(self.parameters, self.moments)
        return numbers
