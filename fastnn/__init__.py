"""fastnn: multilayer perceptrons on CPUs, trained and run in native code.

Describe a network with layers, train it with `Sequential.fit`; whole epochs run in compiled
kernels, and a reference in plain NumPy does the same, slowly and readably.

Public names are loaded when they are first used, and Numba at the first native computation, so
that ``import fastnn`` costs next to nothing.

>>> import fastnn as fn
>>> net = fn.Sequential([fn.Dense(16, activation="relu"), fn.Dense(3, activation="softmax")])
>>> net.outputs
3
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastnn.backends import backend as backend
    from fastnn.callbacks import Callback as Callback
    from fastnn.callbacks import EarlyStopping as EarlyStopping
    from fastnn.diagnosis import Diagnosis as Diagnosis
    from fastnn.errors import DivergenceError as DivergenceError
    from fastnn.errors import ModelFileError as ModelFileError
    from fastnn.history import History as History
    from fastnn.layers import Dense as Dense
    from fastnn.network import Sequential as Sequential
    from fastnn.network import load as load
    from fastnn.optimizers import SGD as SGD
    from fastnn.optimizers import Adam as Adam
    from fastnn.prediction import Trace as Trace
    from fastnn.versions import show_versions as show_versions

__version__ = "0.1.0"

_HOMES = {
    "SGD": "optimizers",
    "Adam": "optimizers",
    "Callback": "callbacks",
    "Dense": "layers",
    "Diagnosis": "diagnosis",
    "DivergenceError": "errors",
    "EarlyStopping": "callbacks",
    "History": "history",
    "ModelFileError": "errors",
    "Sequential": "network",
    "Trace": "prediction",
    "backend": "backends",
    "load": "network",
    "show_versions": "versions",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    """Load a public name from its room."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
    value = getattr(import_module(f"fastnn.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
