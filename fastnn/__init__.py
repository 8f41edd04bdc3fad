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

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastnn.averages import EMA as EMA
    from fastnn.averages import SWA as SWA
    from fastnn.backends import backend as backend
    from fastnn.blocks import Blocks as Blocks
    from fastnn.callbacks import Callback as Callback
    from fastnn.callbacks import EarlyStopping as EarlyStopping
    from fastnn.checkpoints import Checkpoint as Checkpoint
    from fastnn.embeddings import Embedding as Embedding
    from fastnn.errors import DivergenceError as DivergenceError
    from fastnn.errors import FitWarning as FitWarning
    from fastnn.errors import ModelFileError as ModelFileError
    from fastnn.estimators import MLPClassifier as MLPClassifier
    from fastnn.estimators import MLPRegressor as MLPRegressor
    from fastnn.estimators.files import load_estimator as load_estimator
    from fastnn.exports.keras_in import from_keras as from_keras
    from fastnn.exports.onnx_in import from_onnx as from_onnx
    from fastnn.exports.torch_in import from_torch as from_torch
    from fastnn.formats.torch_files import load_torch as load_torch
    from fastnn.gradient_check import check_gradients as check_gradients
    from fastnn.history import History as History
    from fastnn.layers import Dense as Dense
    from fastnn.layers import Dropout as Dropout
    from fastnn.limits import TargetLoss as TargetLoss
    from fastnn.limits import TimeLimit as TimeLimit
    from fastnn.loggers import CSVLogger as CSVLogger
    from fastnn.loggers import MLflowLogger as MLflowLogger
    from fastnn.loggers import TensorBoardLogger as TensorBoardLogger
    from fastnn.losses import CrossEntropy as CrossEntropy
    from fastnn.losses import CustomActivation as CustomActivation
    from fastnn.losses import CustomLoss as CustomLoss
    from fastnn.losses import Focal as Focal
    from fastnn.losses import Huber as Huber
    from fastnn.losses import Quantile as Quantile
    from fastnn.losses import Quantiles as Quantiles
    from fastnn.losses import Tweedie as Tweedie
    from fastnn.machine.threads import set_threads as set_threads
    from fastnn.machine.versions import show_versions as show_versions
    from fastnn.metrics import F1 as F1
    from fastnn.metrics import Precision as Precision
    from fastnn.metrics import Recall as Recall
    from fastnn.metrics import TopK as TopK
    from fastnn.network import Sequential as Sequential
    from fastnn.network import load as load
    from fastnn.norms import BatchNorm as BatchNorm
    from fastnn.norms import LayerNorm as LayerNorm
    from fastnn.norms import RMSNorm as RMSNorm
    from fastnn.optimizers import SGD as SGD
    from fastnn.optimizers import Adadelta as Adadelta
    from fastnn.optimizers import Adagrad as Adagrad
    from fastnn.optimizers import Adam as Adam
    from fastnn.optimizers import Adamax as Adamax
    from fastnn.optimizers import AdamW as AdamW
    from fastnn.optimizers import AMSGrad as AMSGrad
    from fastnn.optimizers import Lion as Lion
    from fastnn.optimizers import Nadam as Nadam
    from fastnn.optimizers import RAdam as RAdam
    from fastnn.optimizers import RMSprop as RMSprop
    from fastnn.optimizers import Rprop as Rprop
    from fastnn.periodic import NumericEmbedding as NumericEmbedding
    from fastnn.predicting.sampling import DropoutPrediction as DropoutPrediction
    from fastnn.rates import LearningRates as LearningRates
    from fastnn.rates import find_learning_rate as find_learning_rate
    from fastnn.reporting.diagnosis import Diagnosis as Diagnosis
    from fastnn.residual import Residual as Residual
    from fastnn.scaling import Standardize as Standardize
    from fastnn.schedules import ConstantRate as ConstantRate
    from fastnn.schedules import CosineDecay as CosineDecay
    from fastnn.schedules import ExponentialDecay as ExponentialDecay
    from fastnn.schedules import InverseScaling as InverseScaling
    from fastnn.schedules import OneCycle as OneCycle
    from fastnn.schedules import ReduceOnPlateau as ReduceOnPlateau
    from fastnn.schedules import StepDecay as StepDecay
    from fastnn.schedules import Warmup as Warmup
    from fastnn.slopes import PReLU as PReLU
    from fastnn.tracing import Trace as Trace
    from fastnn.warming import warmup as warmup
    from fastnn.whole_batch import LBFGS as LBFGS
    from fastnn.whole_batch import LevenbergMarquardt as LevenbergMarquardt

__version__ = "0.1.0"

_HOMES = {
    "AMSGrad": "optimizers",
    "Adadelta": "optimizers",
    "Adagrad": "optimizers",
    "Adam": "optimizers",
    "AdamW": "optimizers",
    "BatchNorm": "norms",
    "Blocks": "blocks",
    "CSVLogger": "loggers",
    "Adamax": "optimizers",
    "Callback": "callbacks",
    "Checkpoint": "checkpoints",
    "ConstantRate": "schedules",
    "CosineDecay": "schedules",
    "CrossEntropy": "losses",
    # Where the library's own names are known.
    "CustomActivation": "losses",
    "CustomLoss": "losses",
    "Dense": "layers",
    "Diagnosis": "reporting.diagnosis",
    "DivergenceError": "errors",
    "Dropout": "layers",
    "DropoutPrediction": "predicting.sampling",
    "EMA": "averages",
    "EarlyStopping": "callbacks",
    "Embedding": "embeddings",
    "ExponentialDecay": "schedules",
    "F1": "metrics",
    "FitWarning": "errors",
    "Focal": "losses",
    "History": "history",
    "Huber": "losses",
    "InverseScaling": "schedules",
    "LBFGS": "whole_batch",
    "LayerNorm": "norms",
    "LearningRates": "rates",
    "LevenbergMarquardt": "whole_batch",
    "MLflowLogger": "loggers",
    "Lion": "optimizers",
    "ModelFileError": "errors",
    "Nadam": "optimizers",
    "OneCycle": "schedules",
    "NumericEmbedding": "periodic",
    "PReLU": "slopes",
    "Precision": "metrics",
    "Quantile": "losses",
    "Quantiles": "losses",
    "RAdam": "optimizers",
    "RMSNorm": "norms",
    "RMSprop": "optimizers",
    "Recall": "metrics",
    "ReduceOnPlateau": "schedules",
    "Residual": "residual",
    "Rprop": "optimizers",
    "SGD": "optimizers",
    "SWA": "averages",
    "Sequential": "network",
    "Standardize": "scaling",
    "StepDecay": "schedules",
    "TargetLoss": "limits",
    "TensorBoardLogger": "loggers",
    "TimeLimit": "limits",
    "TopK": "metrics",
    "Trace": "tracing",
    "Tweedie": "losses",
    "Warmup": "schedules",
    "backend": "backends",
    "check_gradients": "gradient_check",
    "find_learning_rate": "rates",
    "from_keras": "exports.keras_in",
    "from_onnx": "exports.onnx_in",
    "from_torch": "exports.torch_in",
    "load": "network",
    "load_torch": "formats.torch_files",
    "set_threads": "machine.threads",
    "show_versions": "machine.versions",
    "warmup": "warming",
}

__all__ = list(_HOMES)

# Not in __all__: ``from fastnn import *`` must work without the extra that they need.
_EXTRAS = {
    "MLPClassifier": "estimators",
    "MLPRegressor": "estimators",
    "load_estimator": "estimators.files",
}


def __getattr__(name: str) -> object:
    """Load a public name from its room."""
    homes = _HOMES | _EXTRAS
    if name not in homes:
        from fastnn.hints import hint_for
        from fastnn.words import MODULE

        hint = "" if name.startswith("_") else hint_for(name, MODULE, homes)
        stop = "." if hint else ""
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}{stop}{hint}")
    home = f"fastnn.{homes[name]}"
    if home not in sys.modules:
        # NumPy or scikit-learn may come with it, and half of either is none.
        from fastnn.machine.uninterrupted import in_one_piece

        in_one_piece(lambda: import_module(home))
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_EXTRAS})
