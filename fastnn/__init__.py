"""fastnn: multilayer perceptrons on CPUs, trained and run in native code.

Describe a network with layers, train it with `Sequential.fit`; whole epochs run in compiled
kernels, and a reference in plain NumPy does the same, slowly and readably.

>>> import fastnn as fn
>>> net = fn.Sequential([fn.Dense(16, activation="relu"), fn.Dense(3, activation="softmax")])
>>> net.outputs
3
"""

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

__all__ = [
    "SGD",
    "Adam",
    "Callback",
    "Dense",
    "Diagnosis",
    "DivergenceError",
    "EarlyStopping",
    "History",
    "ModelFileError",
    "Sequential",
    "Trace",
    "backend",
    "load",
    "show_versions",
]
