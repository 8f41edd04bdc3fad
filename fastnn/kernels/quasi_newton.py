"""A search by L-BFGS, told loss and gradient point by point: one call of native code for each.

Nocedal & Wright 2006, algorithms 7.4 and 7.5, with the line search of `line_search`.  The
curvature pairs lie in a ring; the two loops over them are fused, so that each pair is read twice
for a direction and each pass over it computes the sum that the next one needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import entry, kernel
from fastnn.kernels.line_search import begin_line, next_step
from fastnn.kernels.vectors import blended_dot, dot, largest

__all__ = ["advance"]

# The longest step along a line, and how many are tried before the memory is dropped.
_LONGEST = 1e10
_TRIES = 20

# Pairs below this curvature, as a share of what the line began with, are not kept.
_LEAST_CURVATURE = float(np.finfo(np.float64).eps)


@kernel
def direct(search: Any, pairs: Any, vectors: Any, products: Any) -> None:
    """Compute the direction of the next line from the pairs: ``-H g``.

    Reads: pairs (2, memory, n), the gradient.  Writes: DIRECTION of vectors; products (2, memory),
    of which row 0 holds s'y of each pair.
    """
    memory, stored, newest = pairs.shape[1], search.stored, search.newest
    d, g = vectors[codes.DIRECTION], vectors[codes.GRADIENT_ROW]
    for k in range(d.size):
        d[k] = -g[k]
    if stored == 0:
        return
    along = dot(pairs[0, newest], d)
    for n in range(stored):
        this = (newest - n + memory) % memory
        following = (newest - n - 1 + memory) % memory
        factor = along / products[0, this]
        products[1, this] = factor
        if n < stored - 1:
            along = blended_dot(d, 1.0, -factor, pairs[1, this], pairs[0, following])
        else:
            along = blended_dot(d, 1.0, -factor, pairs[1, this], pairs[1, this])
    scale = 1.0 / search.scale
    along *= scale
    for n in range(stored - 1, -1, -1):
        this = (newest - n + memory) % memory
        following = (newest - n + 1 + memory) % memory
        factor = products[1, this] - along / products[0, this]
        along = blended_dot(d, scale, factor, pairs[0, this], pairs[1, following])
        scale = 1.0


@kernel
def set_out(search: Any, pairs: Any, vectors: Any, products: Any) -> None:
    """Begin a line at the point whose loss and gradient are known.

    Writes: all vectors but START_GRADIENT's source; the search's line.
    """
    x, g = vectors[codes.POINT], vectors[codes.GRADIENT_ROW]
    start, start_gradient = vectors[codes.START], vectors[codes.START_GRADIENT]
    d = vectors[codes.DIRECTION]
    for k in range(x.size):
        start[k] = x[k]
        start_gradient[k] = g[k]
    direct(search, pairs, vectors, products)
    slope = dot(g, d)
    if not slope < 0.0 and search.stored > 0:
        # Rounding has spoilt the memory.
        search.stored = 0
        direct(search, pairs, vectors, products)
        slope = dot(g, d)
    step = 1.0
    if search.iterations == 0 and search.stored == 0:
        step = min(1.0 / np.sqrt(dot(d, d)), _LONGEST)
    begin_line(search, search.loss, slope, step, _LONGEST)
    go_to(search, vectors)


@kernel
def go_to(search: Any, vectors: Any) -> None:
    """Write the point at the search's step along the line."""
    x, start, d = vectors[codes.POINT], vectors[codes.START], vectors[codes.DIRECTION]
    step = search.step
    for k in range(x.size):
        x[k] = start[k] + step * d[k]


@kernel
def go_back(search: Any, pairs: Any, vectors: Any, products: Any) -> None:
    """Return to where the line began, and set out again without a memory, if there was one."""
    x, g = vectors[codes.POINT], vectors[codes.GRADIENT_ROW]
    start, start_gradient = vectors[codes.START], vectors[codes.START_GRADIENT]
    for k in range(x.size):
        x[k] = start[k]
        g[k] = start_gradient[k]
    search.loss = search.start_loss
    if search.stored == 0:
        search.task = codes.NO_PROGRESS
        return
    search.stored = 0
    set_out(search, pairs, vectors, products)


@kernel
def remember(search: Any, slope: float, pairs: Any, vectors: Any, products: Any) -> None:
    """Keep the step and the change of the gradient, where the curvature along it is positive.

    Reads: vectors; the slope at the end of the line.  Writes: a pair, its product, scale.
    """
    curved = (slope - search.start_slope) * search.step
    if not curved > -_LEAST_CURVATURE * search.start_slope * search.step:
        return
    memory = pairs.shape[1]
    newest = (search.newest + 1) % memory if search.stored > 0 else 0
    s, y, d = pairs[0, newest], pairs[1, newest], vectors[codes.DIRECTION]
    g, before = vectors[codes.GRADIENT_ROW], vectors[codes.START_GRADIENT]
    step = search.step
    for k in range(d.size):
        s[k] = step * d[k]
        y[k] = g[k] - before[k]
    products[0, newest] = curved
    search.scale = dot(y, y) / curved
    search.newest, search.stored = newest, min(search.stored + 1, memory)


@entry
def advance(
    search: Any, pairs: Any, vectors: Any, products: Any, loss: float, gradient: Any
) -> None:
    """Take in loss and gradient at the point, and choose the next one.

    Parameters
    ----------
    search : records.SEARCH ()
        Read and written: its task says what comes next, and `accepted` whether the point that was
        asked for ended an iteration; it then lies in START.
    pairs : float64 (2, memory, n)
        Steps and changes of the gradient, in a ring; written.
    vectors : float64 (codes.SEARCH_ROWS, n)
        The point where to evaluate next, and what the line is made of; written.
    products : float64 (2, memory)
        Of each pair, and scratch; written.
    loss : float
        At the point.
    gradient : float64 (n,)
        There.  Read only.
    """
    one = search[()]
    g = vectors[codes.GRADIENT_ROW]
    for k in range(g.size):
        g[k] = gradient[k]
    one.accepted = 0
    one.loss = loss
    if one.iterations == 0 and one.tries < 0:
        # Where the search begins.
        if not dot(g, g) >= 0.0 or loss != loss:
            one.task = codes.NO_PROGRESS
        elif largest(g) <= one.tolerance:
            one.task = codes.SMALL_GRADIENT
        else:
            set_out(one, pairs, vectors, products)
        return
    slope = dot(g, vectors[codes.DIRECTION])
    one.tries += 1
    if not next_step(one, loss, slope, _LONGEST):
        if one.tries >= _TRIES:
            go_back(one, pairs, vectors, products)
        else:
            go_to(one, vectors)
        return
    one.accepted = 1
    one.iterations += 1
    if largest(g) <= one.tolerance:
        one.task = codes.SMALL_GRADIENT
    elif one.start_loss - loss <= one.reduction * max(abs(one.start_loss), abs(loss), 1.0):
        one.task = codes.SMALL_REDUCTION
    else:
        remember(one, slope, pairs, vectors, products)
        set_out(one, pairs, vectors, products)
        return
    remember(one, slope, pairs, vectors, products)
    x, start = vectors[codes.POINT], vectors[codes.START]
    for k in range(x.size):
        start[k] = x[k]
