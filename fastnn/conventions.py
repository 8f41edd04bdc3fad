"""How a loss, its gradient, a penalty and Adam's epsilon are scaled: settings, as numbers.

The library's own conventions are the defaults of `Conventions`.  scikit-learn's differ only by
factors and where they are applied, so the engine and the reference take them as numbers, and there
is no second set of kernels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = ["OWN", "Conventions"]


@dataclass(frozen=True, slots=True)
class Conventions:
    """How things count.

    Attributes
    ----------
    loss_scale : float
        Times every loss; above 0.
    gradient_scale : float
        Times every gradient of a loss; above 0.
    loss_limit : float
        The upper bound of a cross-entropy, per output.  Its gradient is not bounded.
    shared_penalty : bool
        Whether L2 is divided by the weight of each batch, or its number of examples.
    by_examples : bool
        Whether the loss of an epoch counts each batch by its examples where they have weights.
    bare_epsilon : bool
        Whether Adam adds epsilon to the root of the second moment before correcting it.
    """

    loss_scale: float = 1.0
    gradient_scale: float = 1.0
    loss_limit: float = math.inf
    shared_penalty: bool = False
    by_examples: bool = False
    bare_epsilon: bool = False

    @property
    def scales(self) -> tuple[float, float]:
        """Those of the loss and of its gradient."""
        return self.loss_scale, self.gradient_scale

    def enter(self, plan: NDArray[np.void]) -> None:
        """Write them into plans of the engine, `records.PLAN`, where they have the same names."""
        for one in fields(self):
            plan[one.name] = getattr(self, one.name)


OWN = Conventions()
