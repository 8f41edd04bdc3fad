"""The scikit-learn face: `MLPClassifier` and `MLPRegressor`, drop-in and faster.

The only room that imports scikit-learn, and with it SciPy: `fastnn` loads it when one of the two
names is first used.
"""

from __future__ import annotations

from fastnn.machine.tested import check_version

try:
    import sklearn.callback  # (the newest part of scikit-learn that is used)
except ImportError as problem:
    raise ImportError(
        "MLPClassifier and MLPRegressor need scikit-learn 1.9 or newer: "
        'python -m pip install "scikit-learn>=1.9", or in a checkout of fastnn '
        'python -m pip install ".[sklearn]".',
        name="sklearn",
    ) from problem

check_version("scikit-learn", sklearn.__version__)

from fastnn.estimators.classifier import MLPClassifier  # noqa: E402
from fastnn.estimators.onnx_files import register_if_there  # noqa: E402
from fastnn.estimators.regressor import MLPRegressor  # noqa: E402

__all__ = ["MLPClassifier", "MLPRegressor"]

register_if_there(MLPClassifier, MLPRegressor)
