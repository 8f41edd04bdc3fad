"""The table of activations: one row each.

A row describes; the value and the derivative themselves stand in ``kernels/curves.py`` (native;
those of whole rows in ``kernels/elementwise.py`` and ``kernels/increments.py``) and in
``reference.py`` and ``equations.tables`` (textbook).  To add one: its row here, its code in
``kernels/codes.py``, its curve, its line in the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fastnn import own
from fastnn.kernels import codes
from fastnn.names import lookup

__all__ = ["ACTIVATIONS", "Activation", "activation_named"]


@dataclass(frozen=True, slots=True)
class Activation:
    """One row: what the rest of the library needs to know about ``A = f(Z)``.

    Attributes
    ----------
    name : str
        The field's name for it.
    code : int
        What the kernels switch on.
    aliases : tuple of str
        Other names that are accepted.
    derivative_from : {"A", "Z"}
        Whether the backward pass reads the activation's output or its input.
    initializer : str
        What ``initializer="auto"`` stands for in a hidden layer with this activation: an
        initializer, "isometry" or "pairs" (see `initializers.Start`; pairs are an isometry too).
    loss : str
        Loss that ``loss="auto"`` stands for where this is the last layer's activation.
    saturation : tuple of float or None
        Outputs outside (low, high) count as saturated in ``diagnose``; None where the
        activation has no flat ends.
    gain : float
        Of "isometry" 1 over the slope of ``f(z)`` at 0, of "pairs" 1 over that of
        ``f(z) - f(-z)``: with it such a layer neither stretches nor shrinks small sums.
    can_die : bool
        Whether a unit can be stuck at zero for every example, passing no gradient.
    own : CustomActivation or None
        What a user made; then `code` is none.
    formula : str
        ``f(z)``, for the documentation.
    source : str
        Where formula and use come from.
    """

    name: str
    code: int
    formula: str
    initializer: str
    loss: str
    source: str
    aliases: tuple[str, ...] = ()
    derivative_from: Literal["A", "Z"] = "A"
    saturation: tuple[float, float] | None = None
    gain: float = 1.0
    can_die: bool = False
    own: Any = None

    @property
    def kernel_code(self) -> int:
        """What tables for kernels hold: its code, or where functions of the user's own are."""
        return self.code if self.own is None else int(self.own.code)


_ROWS: dict[str, Activation] = {
    row.name: row
    for row in (
        Activation(
            name="identity",
            code=codes.IDENTITY,
            aliases=("linear",),
            formula="z",
            initializer="isometry",
            loss="mean_squared_error",
            source="Goodfellow, Bengio & Courville 2016, Deep Learning, section 6.2.2.1",
        ),
        Activation(
            name="sigmoid",
            code=codes.SIGMOID,
            aliases=("logistic",),
            formula="1 / (1 + exp(-z))",
            initializer="pairs",
            gain=2.0,
            loss="binary_cross_entropy",
            saturation=(0.01, 0.99),
            source="Goodfellow, Bengio & Courville 2016, Deep Learning, section 6.2.2.2",
        ),
        Activation(
            name="tanh",
            code=codes.TANH,
            formula="tanh(z)",
            initializer="isometry",
            loss="mean_squared_error",
            saturation=(-0.98, 0.98),
            source="LeCun, Bottou, Orr & Mueller 1998, Efficient BackProp, section 4.4",
        ),
        Activation(
            name="relu",
            code=codes.RELU,
            formula="max(z, 0)",
            initializer="pairs",
            loss="mean_squared_error",
            can_die=True,
            source="Glorot, Bordes & Bengio 2011, Deep Sparse Rectifier Neural Networks",
        ),
        Activation(
            name="softmax",
            code=codes.SOFTMAX,
            formula="exp(z_j) / sum_k exp(z_k), over the units of the layer",
            initializer="glorot_uniform",
            loss="cross_entropy",
            source="Bridle 1990, Training Stochastic Model Recognition Algorithms as Networks",
        ),
        Activation(
            name="leaky_relu",
            code=codes.LEAKY_RELU,
            formula="max(z, 0) + 0.01 * min(z, 0)",
            initializer="pairs",
            gain=1.0 / 1.01,
            loss="mean_squared_error",
            source="Maas, Hannun & Ng 2013, Rectifier Nonlinearities Improve Acoustic Models",
        ),
        Activation(
            name="elu",
            code=codes.ELU,
            formula="max(z, 0) + expm1(min(z, 0))",
            initializer="pairs",
            gain=0.5,
            loss="mean_squared_error",
            source="Clevert, Unterthiner & Hochreiter 2016, Exponential Linear Units, with alpha 1",
        ),
        Activation(
            name="selu",
            code=codes.SELU,
            formula="1.0507009873554805 * (max(z, 0) + 1.6732632423543772 * expm1(min(z, 0)))",
            initializer="lecun_normal",
            loss="mean_squared_error",
            source="Klambauer, Unterthiner, Mayr & Hochreiter 2017, Self-Normalizing Networks",
        ),
        Activation(
            name="gelu",
            code=codes.GELU,
            formula="z * erfc(-z / sqrt(2)) / 2",
            initializer="pairs",
            loss="mean_squared_error",
            source="Hendrycks & Gimpel 2016, Gaussian Error Linear Units, the exact form",
            derivative_from="Z",
        ),
        Activation(
            name="silu",
            code=codes.SILU,
            aliases=("swish",),
            formula="z / (1 + exp(-z))",
            initializer="pairs",
            loss="mean_squared_error",
            source="Elfwing, Uchibe & Doya 2018, Sigmoid-Weighted Linear Units",
            derivative_from="Z",
        ),
        Activation(
            name="softplus",
            code=codes.SOFTPLUS,
            formula="log1p(exp(z))",
            initializer="pairs",
            loss="mean_squared_error",
            source="Dugas, Bengio, Belisle, Nadeau & Garcia 2001, Second-Order Knowledge",
        ),
        Activation(
            name="mish",
            code=codes.MISH,
            formula="z * tanh(log1p(exp(z)))",
            initializer="pairs",
            gain=1.0 / 1.2,
            loss="mean_squared_error",
            source="Misra 2020, Mish: A Self Regularized Non-Monotonic Activation Function",
            derivative_from="Z",
        ),
        Activation(
            name="softsign",
            code=codes.SOFTSIGN,
            formula="z / (1 + abs(z))",
            initializer="isometry",
            loss="mean_squared_error",
            saturation=(-0.98, 0.98),
            source="Turian, Bergstra & Bengio 2009, Quadratic Features and Deep Architectures",
        ),
        Activation(
            name="hard_sigmoid",
            code=codes.HARD_SIGMOID,
            formula="min(max(z + 3, 0), 6) / 6",
            initializer="pairs",
            gain=3.0,
            loss="mean_squared_error",
            saturation=(0.01, 0.99),
            can_die=True,
            source="Howard and others 2019, Searching for MobileNetV3, section 5.2",
        ),
        Activation(
            name="exp",
            code=codes.EXP,
            formula="exp(z)",
            initializer="glorot_uniform",
            loss="poisson",
            source="McCullagh & Nelder 1989, Generalized Linear Models, chapter 6",
        ),
        Activation(
            name="sin",
            code=codes.SIN,
            formula="sin(z)",
            initializer="isometry",
            loss="mean_squared_error",
            source="Sitzmann and others 2020, Implicit Neural Representations, section 3.2",
            derivative_from="Z",
        ),
        Activation(
            name="increasing",
            code=codes.INCREASING,
            formula="z_1, then a_(j-1) + log1p(exp(z_j)), over the units of the layer",
            initializer="glorot_uniform",
            loss="quantiles",
            source="Park and others 2022, Learning Quantile Functions without Quantile Crossing",
            derivative_from="Z",
        ),
    )
}


def _row_of(name: str) -> Activation:
    """Return the row of an activation of the user's own."""
    made = own.ACTIVATIONS[name]
    return Activation(
        name=name,
        code=codes.NONE,
        formula="the user's own",
        initializer="isometry",
        loss="mean_squared_error",
        source="the user",
        derivative_from=made.derivative_from,
        gain=made.gain,
        own=made,
    )


own.RESERVED.update(_ROWS, *(row.aliases for row in _ROWS.values()))

#: By name; those that users made are found too, and not listed.
ACTIVATIONS: dict[str, Activation] = own.Extended(_ROWS, _row_of)


def activation_named(name: object, argument: str = "activation") -> Activation:
    """Return the row of an activation's name or alias, or of what a user made.

    Raises
    ------
    TypeError, ValueError
        If there is none; the message says how one's own comes in.
    """
    if isinstance(name, own.CustomActivation):
        return ACTIVATIONS[name.name]
    if isinstance(name, str) and name in own.ACTIVATIONS:
        return ACTIVATIONS[name]
    return lookup(ACTIVATIONS, name, argument)
