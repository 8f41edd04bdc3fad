"""The textbook's equations of PReLU; EXAMPLES ARE COLUMNS, as in `reference`.

He, Zhang, Ren & Sun 2015, "Delving deep into rectifiers".
"""

from __future__ import annotations

import numpy as np

from fastnn.equations.kinds import Equations

__all__ = ["PRELU"]

# ``max(a, 0) + slope min(a, 0)``, and its derivatives by a and by the slope.
PRELU = Equations(
    lambda layer, parameters, A, D: np.maximum(A, 0) + parameters[0] * np.minimum(A, 0),
    lambda layer, parameters, A, Z, dZ, D: dZ * ((A > 0) + parameters[0] * (A <= 0)),
    lambda layer, parameters, A, Z, dZ: (np.sum(dZ * np.minimum(A, 0), axis=1, keepdims=True),),
)
