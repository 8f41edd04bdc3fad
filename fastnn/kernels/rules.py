"""The optimizers' rules, on explicit vectors, and the numbers that all spans of a step share.

A rule is written once on `simd.Vectors`, and once in NumPy for the mode without the JIT.
Optimizers that differ in numbers only share a rule: Adam, AdamW, Nadam and RAdam are
one rule, RMSprop and Adagrad another, and `prepare_rates` tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels._jit import apart, kernel
from fastnn.kernels.simd import Vectors
from fastnn.kernels.vector_math import sign

__all__ = ["RULES", "Rule", "prepare_own_rates", "prepare_rates"]

# Nadam's momentum warms up as 1 - 0.96^(t / 250) / 2.
_NADAM_DECAY = 0.96
_NADAM_STEPS = 250.0

# After so many steps the product of Nadam's momenta is below the last bit of 1, whatever beta_1:
# each of them is at most 1 - 0.96^(64 / 250) / 2 = 0.506.
_NADAM_PRODUCT = 64.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes
    ----------
    emit : callable
        ``emit(v, w, g, moments, rates)`` emits the new w and the new moments, as one list.
    twin : callable
        The same in NumPy, without v.
    moments, rates : int
        How many of each it takes.
    """

    emit: Callable[[Vectors, Any, Any, Sequence[Any], Sequence[Any]], list[Any]]
    twin: Callable[[Any, Any, Sequence[Any], Sequence[Any]], list[Any]]
    moments: int
    rates: int


@kernel
def prepare_rates(rates: Any, numbers: Any, plan: Any) -> None:
    """Count a step, and compute the numbers that all its spans share.

    Reads: numbers, the plan's optimizer and conventions.  Writes: rates (2 codes.RATES,), first
    those of weights, then those of biases, in the order in which the rule takes them; the count of
    steps in numbers.
    """
    dtype, code = rates.dtype.type, plan.optimizer
    numbers.steps += 1.0
    eta, t = numbers.learning_rate, numbers.steps
    if code == codes.SGD:
        rates[0] = dtype(eta)
        rates[1] = dtype(numbers.momentum)
        rates[2] = dtype(numbers.nesterov)
    elif code == codes.RMSPROP or code == codes.ADAGRAD:
        kept = numbers.rho if code == codes.RMSPROP else 1.0
        rates[0] = dtype(eta)
        rates[1] = dtype(kept)
        rates[2] = dtype(1.0 - kept if code == codes.RMSPROP else 1.0)
        rates[3] = dtype(numbers.epsilon)
    elif code == codes.RPROP:
        rates[0] = dtype(eta if t == 1.0 else 0.0)
        rates[1] = dtype(numbers.decrease)
        rates[2] = dtype(numbers.increase)
        rates[3] = dtype(numbers.smallest)
        rates[4] = dtype(numbers.largest)
    elif code == codes.ADADELTA:
        rates[0] = dtype(eta)
        rates[1] = dtype(1.0 - numbers.rho)
        rates[2] = dtype(numbers.epsilon)
    elif code == codes.ADAMAX:
        rates[0] = dtype(eta / (1.0 - numbers.beta_1**t))
        rates[1] = dtype(1.0 - numbers.beta_1)
        rates[2] = dtype(numbers.beta_2)
        rates[3] = dtype(numbers.epsilon)
    elif code == codes.LION:
        rates[0] = dtype(eta)
        rates[1] = dtype(1.0 - numbers.beta_1)
        rates[2] = dtype(1.0 - numbers.beta_2)
        rates[3] = dtype(1.0)
    else:
        of_mean, of_gradient, adaptive = adam_sizes(numbers, code)
        rates[0] = dtype(eta * of_mean)
        rates[1] = dtype(eta * of_gradient)
        rates[2] = dtype(1.0 - numbers.beta_1)
        rates[3] = dtype(1.0 - numbers.beta_2)
        rates[4] = dtype(adaptive / (1.0 - numbers.beta_2**t))
        epsilon = numbers.epsilon
        if plan.bare_epsilon:
            # (sqrt(s) + epsilon) / sqrt(1 - beta_2^t) is the corrected root plus this.
            epsilon /= (1.0 - numbers.beta_2**t) ** 0.5
        # RAdam's first steps do not adapt: the denominator becomes sqrt(0) + 1.
        rates[5] = dtype(epsilon if adaptive != 0.0 else 1.0)
        rates[6] = dtype(1.0)
    for place in range(codes.RATES):
        rates[codes.RATES + place] = rates[place]
    if code == codes.ADAMW:
        rates[6] = dtype(1.0 - eta * numbers.weight_decay)
    elif code == codes.LION:
        rates[3] = dtype(1.0 - eta * numbers.weight_decay)


@apart
def prepare_own_rates(M: Any, table: Any, numbers: Any, plan: Any) -> None:
    """Compute the rates of operations that have their own, after those of all others.

    Reads: the operations' `rate_scale` and `decay`; numbers.  Writes: in M, their rates.
    """
    eta, decay = numbers.learning_rate, numbers.weight_decay
    for r in range(table.shape[0]):
        row = table[r]
        if row.form != codes.MATRIX or row.rates == plan.rates_at:
            continue
        numbers.learning_rate = eta * row.rate_scale
        numbers.weight_decay = row.decay if row.decay >= 0.0 else decay
        # The step is counted once.
        numbers.steps -= 1.0
        prepare_rates(M[row.rates : row.rates + 2 * codes.RATES], numbers, plan)
    numbers.learning_rate, numbers.weight_decay = eta, decay


@kernel
def adam_sizes(numbers: Any, code: int) -> tuple[float, float, float]:
    """Return the factors of the running mean and of the gradient in a step, and 1 if it adapts.

    Reads: numbers.
    """
    t, beta_1, beta_2 = numbers.steps, numbers.beta_1, numbers.beta_2
    of_mean = 1.0 / (1.0 - beta_1**t)
    if code == codes.NADAM:
        product = 1.0
        for i in range(int(min(t, _NADAM_PRODUCT))):
            product *= nadam_momentum(beta_1, i + 1.0)
        now, later = nadam_momentum(beta_1, t), nadam_momentum(beta_1, t + 1.0)
        return later / (1.0 - product * later), (1.0 - now) / (1.0 - product), 1.0
    if code == codes.RADAM:
        # rho: over how many steps the second moment averages now, and in the limit.
        end = 2.0 / (1.0 - beta_2) - 1.0
        length = end - 2.0 * t * beta_2**t / (1.0 - beta_2**t)
        if length <= 4.0:
            return of_mean, 0.0, 0.0
        known = (length - 4.0) * (length - 2.0) * end
        of_mean *= (known / ((end - 4.0) * (end - 2.0) * length)) ** 0.5
    return of_mean, 0.0, 1.0


@kernel
def nadam_momentum(beta_1: Any, t: Any) -> Any:
    """Return Nadam's momentum at a step."""
    return beta_1 * (1.0 - 0.5 * _NADAM_DECAY ** (t / _NADAM_STEPS))


def sgd_rule(v: Vectors, w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]) -> list[Any]:
    """Step as SGD does: v = mu v - eta g, w += v, or with Nesterov w += mu v - eta g."""
    eta, mu, nesterov = rates
    b = v.builder
    pull = b.fmul(eta, g)
    velocity = b.fsub(b.fmul(mu, moments[0]), pull)
    ahead = b.fsub(b.fmul(mu, velocity), pull)
    step = v.select_greater(nesterov, v.constant(0.0), ahead, velocity)
    return [b.fadd(w, step), velocity]


def adam_rule(
    v: Vectors, w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]
) -> list[Any]:
    """Step as Adam and its relatives do, from running means of g and g^2.

    w = kept w - (of_mean m + of_gradient g) / (sqrt(correction s) + epsilon)
    """
    of_mean, of_gradient, new_1, new_2, correction, epsilon, kept = rates
    b = v.builder
    m = v.fma(new_1, b.fsub(g, moments[0]), moments[0])
    s = v.fma(new_2, b.fsub(b.fmul(g, g), moments[1]), moments[1])
    root = b.fadd(v.root(b.fmul(s, correction)), epsilon)
    step = v.quotient(v.fma(of_gradient, g, b.fmul(of_mean, m)), root)
    return [v.fma(w, kept, b.fneg(step)), m, s]


def scaled_rule(
    v: Vectors, w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]
) -> list[Any]:
    """Step as RMSprop and Adagrad do: s = kept s + new g^2, w -= eta g / (sqrt(s) + epsilon)."""
    eta, kept, new, epsilon = rates
    b = v.builder
    s = v.fma(kept, moments[0], b.fmul(new, b.fmul(g, g)))
    root = b.fadd(v.root(s), epsilon)
    return [b.fsub(w, v.quotient(b.fmul(eta, g), root)), s]


def rprop_rule(
    v: Vectors, w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]
) -> list[Any]:
    """Step as Rprop does: each weight by its own step size, against the gradient's sign.

    The size grows while the sign stays; where the sign flips it shrinks, and the weight is not
    moved in that step.
    """
    first, decrease, increase, smallest, largest = rates
    b = v.builder
    zero = v.constant(0.0)
    same = b.fmul(sign(v, g), sign(v, moments[0]))
    factor = v.select_greater(zero, same, decrease, v.constant(1.0))
    factor = v.select_greater(same, zero, increase, factor)
    size = b.fmul(v.select_greater(first, zero, first, moments[1]), factor)
    size = v.greater(smallest, v.select_greater(size, largest, largest, size))
    counted = v.select_greater(zero, same, zero, g)
    return [b.fsub(w, b.fmul(sign(v, counted), size)), counted, size]


def amsgrad_rule(
    v: Vectors, w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]
) -> list[Any]:
    """Step as Adam does, by the largest running mean of g^2 so far in place of the present one."""
    of_mean, of_gradient, new_1, new_2, correction, epsilon, kept = rates
    b = v.builder
    m = v.fma(new_1, b.fsub(g, moments[0]), moments[0])
    s = v.fma(new_2, b.fsub(b.fmul(g, g), moments[1]), moments[1])
    # Were s NaN, the greater of both would be it.
    most = v.greater(moments[2], s)
    root = b.fadd(v.root(b.fmul(most, correction)), epsilon)
    step = v.quotient(v.fma(of_gradient, g, b.fmul(of_mean, m)), root)
    return [v.fma(w, kept, b.fneg(step)), m, s, most]


def adamax_rule(
    v: Vectors, w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]
) -> list[Any]:
    """Step as Adamax does: u = max(beta_2 u, |g| + epsilon), w -= eta m / u."""
    eta, new, beta_2, epsilon = rates
    b = v.builder
    m = v.fma(new, b.fsub(g, moments[0]), moments[0])
    u = v.greater(b.fmul(beta_2, moments[1]), b.fadd(v.call("llvm.fabs", g), epsilon))
    return [b.fsub(w, v.quotient(b.fmul(eta, m), u)), m, u]


def adadelta_rule(
    v: Vectors, w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]
) -> list[Any]:
    """Step as Adadelta does: by the root of the mean of past steps' squares, over that of g^2."""
    eta, new, epsilon = rates
    b = v.builder
    s = v.fma(new, b.fsub(b.fmul(g, g), moments[0]), moments[0])
    size = v.quotient(v.root(b.fadd(moments[1], epsilon)), v.root(b.fadd(s, epsilon)))
    step = b.fmul(size, g)
    past = v.fma(new, b.fsub(b.fmul(step, step), moments[1]), moments[1])
    return [b.fsub(w, b.fmul(eta, step)), s, past]


def lion_rule(
    v: Vectors, w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]
) -> list[Any]:
    """Step as Lion does: w = kept w - eta sign(beta_1 m + (1 - beta_1) g), then m by beta_2."""
    eta, new_1, new_2, kept = rates
    b = v.builder
    apart = b.fsub(g, moments[0])
    side = sign(v, v.fma(new_1, apart, moments[0]))
    return [v.fma(w, kept, b.fneg(b.fmul(eta, side))), v.fma(new_2, apart, moments[0])]


# Twins.


def _sgd(w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]) -> list[Any]:
    """Compute it in NumPy."""
    eta, mu, nesterov = rates
    velocity = mu * moments[0] - eta * g
    return [w + (mu * velocity - eta * g if nesterov else velocity), velocity]


def _adam(w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]) -> list[Any]:
    """Compute it in NumPy."""
    of_mean, of_gradient, new_1, new_2, correction, epsilon, kept = rates
    m = moments[0] + new_1 * (g - moments[0])
    s = moments[1] + new_2 * (g * g - moments[1])
    root = np.sqrt(s * correction) + epsilon
    return [w * kept - (of_mean * m + of_gradient * g) / root, m, s]


def _scaled(w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]) -> list[Any]:
    """Compute it in NumPy."""
    eta, kept, new, epsilon = rates
    s = kept * moments[0] + new * g * g
    return [w - eta * g / (np.sqrt(s) + epsilon), s]


def _rprop(w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]) -> list[Any]:
    """Compute it in NumPy."""
    first, decrease, increase, smallest, largest = rates
    same = np.sign(g) * np.sign(moments[0])
    size = (first if first else moments[1]) * np.where(
        same > 0, increase, np.where(same < 0, decrease, w.dtype.type(1))
    )
    size = np.clip(size, smallest, largest)
    counted = np.where(same < 0, 0, g)
    return [w - np.sign(counted) * size, counted, size]


def _amsgrad(w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]) -> list[Any]:
    """Compute it in NumPy."""
    of_mean, of_gradient, new_1, new_2, correction, epsilon, kept = rates
    m = moments[0] + new_1 * (g - moments[0])
    s = moments[1] + new_2 * (g * g - moments[1])
    most = np.maximum(moments[2], s)
    root = np.sqrt(most * correction) + epsilon
    return [w * kept - (of_mean * m + of_gradient * g) / root, m, s, most]


def _adamax(w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]) -> list[Any]:
    """Compute it in NumPy."""
    eta, new, beta_2, epsilon = rates
    m = moments[0] + new * (g - moments[0])
    u = np.maximum(beta_2 * moments[1], np.abs(g) + epsilon)
    return [w - eta * m / u, m, u]


def _adadelta(w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]) -> list[Any]:
    """Compute it in NumPy."""
    eta, new, epsilon = rates
    s = moments[0] + new * (g * g - moments[0])
    step = np.sqrt((moments[1] + epsilon) / (s + epsilon)) * g
    return [w - eta * step, s, moments[1] + new * (step * step - moments[1])]


def _lion(w: Any, g: Any, moments: Sequence[Any], rates: Sequence[Any]) -> list[Any]:
    """Compute it in NumPy."""
    eta, new_1, new_2, kept = rates
    apart = g - moments[0]
    return [w * kept - eta * np.sign(moments[0] + new_1 * apart), moments[0] + new_2 * apart]


#: By the code of the first optimizer in the table that uses the rule.
RULES: dict[int, Rule] = {
    codes.SGD: Rule(sgd_rule, _sgd, moments=1, rates=3),
    codes.ADAM: Rule(adam_rule, _adam, moments=2, rates=7),
    codes.RMSPROP: Rule(scaled_rule, _scaled, moments=1, rates=4),
    codes.RPROP: Rule(rprop_rule, _rprop, moments=2, rates=5),
    codes.ADADELTA: Rule(adadelta_rule, _adadelta, moments=2, rates=3),
    codes.ADAMAX: Rule(adamax_rule, _adamax, moments=2, rates=4),
    codes.AMSGRAD: Rule(amsgrad_rule, _amsgrad, moments=3, rates=7),
    codes.LION: Rule(lion_rule, _lion, moments=1, rates=4),
}
