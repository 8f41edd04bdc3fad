"""The search along a line: by cubics, until both of Wolfe's conditions hold (strongly).

More & Thuente 1994, Line search algorithms with guaranteed sufficient decrease: an interval that
holds an acceptable step shrinks around the minima of cubics and parabolas through its ends, at
first of the loss less the decrease that is asked for anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels._jit import kernel

__all__ = ["begin_line", "next_step"]

# Of the slope at the start: the decrease that is asked for, and what may be left of the slope.
_DECREASE = 1e-3
_SLOPE_LEFT = 0.9

# The interval may become no smaller than this share of its longer end.
_NARROWEST = 0.1

# The most times that a step grows before a minimum is bracketed, the least, and how much of an
# interval may be left after two steps.
_MOST_GROWTH = 4.0
_LEAST_GROWTH = 1.1
_LEFT = 0.66


@kernel
def begin_line(search: Any, loss: float, slope: float, step: float, longest: float) -> None:
    """Begin a line with a step to try first.

    Writes: the search's fields of a line, with the loss and the slope where it begins.
    """
    search.start_loss, search.start_slope = loss, slope
    search.step, search.tries = step, 0
    search.bracketed = search.descended = 0
    search.best_step, search.best_loss, search.best_slope = 0.0, loss, slope
    search.other_step, search.other_loss, search.other_slope = 0.0, loss, slope
    search.shortest, search.longest = 0.0, step + _MOST_GROWTH * step
    search.width, search.width_before = longest, 2.0 * longest


@kernel
def next_step(search: Any, loss: float, slope: float, longest: float) -> bool:
    """Take in loss and slope at the present step; return whether it is accepted.

    It is where both conditions hold, or where rounding allows no better one.  Otherwise the
    search's step is the one to try next.

    Reads and writes: the search's fields of a line.
    """
    step = search.step
    asked = _DECREASE * search.start_slope
    wanted = search.start_loss + step * asked
    if not search.descended and loss <= wanted and slope >= 0.0:
        search.descended = 1
    if search.bracketed and (step <= search.shortest or step >= search.longest):
        return True
    if search.bracketed and search.longest - search.shortest <= _NARROWEST * search.longest:
        return True
    if step == longest and loss <= wanted and slope <= asked:
        return True
    if step == 0.0 and (loss > wanted or slope >= asked):
        return True
    if loss <= wanted and abs(slope) <= -_SLOPE_LEFT * search.start_slope:
        return True
    # Until it has fallen enough, the loss less that decrease is what is searched for a minimum.
    less = 0.0
    if not search.descended and loss <= search.best_loss and loss > wanted:
        less = asked
    narrow(search, loss, slope, less)
    if search.bracketed:
        apart = abs(search.other_step - search.best_step)
        if apart >= _LEFT * search.width_before:
            search.step = search.best_step + 0.5 * (search.other_step - search.best_step)
        search.width_before, search.width = search.width, apart
        search.shortest = min(search.best_step, search.other_step)
        search.longest = max(search.best_step, search.other_step)
    else:
        gone = search.step - search.best_step
        search.shortest = search.step + _LEAST_GROWTH * gone
        search.longest = search.step + _MOST_GROWTH * gone
    search.step = min(max(search.step, 0.0), longest)
    if search.bracketed and (
        search.step <= search.shortest
        or search.step >= search.longest
        or search.longest - search.shortest <= _NARROWEST * search.longest
    ):
        search.step = search.best_step
    return False


@kernel
def narrow(search: Any, loss: float, slope: float, less: float) -> None:
    """Choose the next step, and take the present one for an end of the interval.

    Losses and slopes are those less a line of slope `less`.

    Reads and writes: step, bracketed, and both ends of the search.
    """
    at, near, far = search.step, search.best_step, search.other_step
    f, d = loss - at * less, slope - less
    f_near, d_near = search.best_loss - near * less, search.best_slope - less
    f_far, d_far = search.other_loss - far * less, search.other_slope - less
    # In the paper's order: the loss is higher; the slope has turned; it has become less; neither.
    turned = d * (d_near / abs(d_near)) < 0.0
    if f > f_near:
        cubic = cubic_minimum(near, f_near, d_near, at, f, d)
        falls = (f_near - f) / (at - near) + d_near
        square = near + 0.5 * (d_near / falls) * (at - near)
        new = cubic
        if not abs(cubic - near) < abs(square - near):
            new = cubic + 0.5 * (square - cubic)
        search.bracketed = 1
    elif turned:
        cubic = cubic_minimum(at, f, d, near, f_near, d_near)
        secant = at + d / (d - d_near) * (near - at)
        new = cubic if abs(cubic - at) > abs(secant - at) else secant
        search.bracketed = 1
    elif abs(d) < abs(d_near):
        new = beyond(search, f, d, f_near, d_near)
    elif search.bracketed:
        new = cubic_minimum(at, f, d, far, f_far, d_far)
    else:
        new = search.longest if at > near else search.shortest
    if f > f_near:
        search.other_step, search.other_loss, search.other_slope = at, loss, slope
    else:
        if turned:
            search.other_step, search.other_loss = near, search.best_loss
            search.other_slope = search.best_slope
        search.best_step, search.best_loss, search.best_slope = at, loss, slope
    search.step = new


@kernel
def beyond(search: Any, f: float, d: float, f_near: float, d_near: float) -> Any:
    """Return the next step where the slope has become less, but still falls the same way."""
    at, near, far = search.step, search.best_step, search.other_step
    theta = 3.0 * (f_near - f) / (at - near) + d_near + d
    size = max(abs(theta), abs(d_near), abs(d))
    inside = (theta / size) ** 2 - (d_near / size) * (d / size)
    gamma = size * np.sqrt(max(0.0, inside))
    gamma = -gamma if at > near else gamma
    ratio = (gamma - d + theta) / (gamma + (d_near - d) + gamma)
    if ratio < 0.0 and gamma != 0.0:
        cubic = at + ratio * (near - at)
    else:
        # The cubic falls for ever that way.
        cubic = search.longest if at > near else search.shortest
    secant = at + d / (d - d_near) * (near - at)
    if search.bracketed:
        new = cubic if abs(cubic - at) < abs(secant - at) else secant
        edge = at + _LEFT * (far - at)
        return min(edge, new) if at > near else max(edge, new)
    new = cubic if abs(cubic - at) > abs(secant - at) else secant
    return max(search.shortest, min(search.longest, new))


@kernel
def cubic_minimum(
    a: float, f_a: float, d_a: float, b: float, f_b: float, d_b: float
) -> float:  # fmt: skip
    """Return where the cubic through two values and slopes has its minimum.

    Nocedal & Wright 2006, equation 3.59, counted from a.
    """
    theta = 3.0 * (f_a - f_b) / (b - a) + d_a + d_b
    size = max(abs(theta), abs(d_a), abs(d_b))
    gamma = size * np.sqrt((theta / size) ** 2 - (d_a / size) * (d_b / size))
    gamma = -gamma if b < a else gamma
    return float(a + (gamma - d_a + theta) / (gamma - d_a + gamma + d_b) * (b - a))
