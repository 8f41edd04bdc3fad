"""What a new process pays before it computes."""

from __future__ import annotations


def timeraw_import() -> str:
    return "import fastnn"


def timeraw_import_and_describe() -> str:
    return "import fastnn as fn; fn.Sequential([fn.Dense(1)], inputs=1)"


def timeraw_import_numpy() -> str:
    return "import numpy"


def timeraw_first_fit_from_cache() -> str:
    return """
import fastnn as fn
import numpy as np
net = fn.Sequential([fn.Dense(1)], inputs=1)
net.fit(np.zeros((1, 1), np.float32), np.zeros(1, np.float32), epochs=1, progress=False)
"""
