"""Compile ahead of time, so that the first fit finds everything on disk."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np

from fastnn.layers import Dense, Layer
from fastnn.names import check_bool, lookup
from fastnn.network import Sequential
from fastnn.norms import BatchNorm, LayerNorm
from fastnn.scaling import Standardize

__all__ = ["warmup"]

_DTYPES = {name: name for name in ("float32", "float64")}


def warmup(
    dtypes: str | Sequence[str] = ("float32", "float64"), *, all_layers: bool = False
) -> float:
    """Compile the kernels, or load them if an earlier process has kept them.

    A process compiles for the first fit of a dtype, once per machine: ten seconds to half a minute,
    which a service, an image of a container or a pool of workers may like to spend beforehand.

    Parameters
    ----------
    dtypes : str or sequence of str, default ("float32", "float64")
        "float32", "float64" or both.
    all_layers : bool, default False
        Whether layers of all kinds shall be ready, which takes twice as long; by default networks
        of `Dense` and `Dropout` are.

    Returns
    -------
    float
        Seconds that it took.

    Raises
    ------
    TypeError, ValueError
        If a dtype is not one of the two, or all_layers is no bool.

    Examples
    --------
    >>> import fastnn as fn
    >>> seconds = fn.warmup("float32")
    >>> seconds >= 0
    True
    """
    wanted = dtypes if isinstance(dtypes, (list, tuple)) else (dtypes,)
    names = [lookup(_DTYPES, name, "dtypes") for name in wanted]
    check_bool(all_layers, "all_layers")
    plain = [Dense(2, "relu"), Dense(2, "softmax")]
    stacks: list[list[Layer]] = [[*plain]]
    if all_layers:
        # The engine that knows one other kind knows all; the second norm is folded into weights.
        stacks += [[LayerNorm(), *plain], [Dense(2), BatchNorm(), *plain], [Standardize(), *plain]]
    began = time.perf_counter()
    for name, layers in itertools.product(names, stacks):
        X, y = np.zeros((8, 2), name), np.arange(8) % 2
        net = Sequential(layers, 2, name)
        net.fit(X, y, epochs=1, validation_fraction=0.5, progress=False, backend="native")
        for _ in range(2):
            # The first one plans what the others do in one compiled call.
            net.train_on_batch(X, y, backend="native")
        net.predict(X, backend="native")
        # A single row has a way of its own.
        net.predict(X[:1], backend="native")
    return time.perf_counter() - began
