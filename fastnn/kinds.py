"""What there is to know of every kind of layer, a row each: all other rooms walk this table.

To add one, see "Adding a layer" in ``docs/architecture.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from numpy.typing import NDArray

from fastnn import embeddings, own, periodic, schedules
from fastnn.activations import ACTIVATIONS
from fastnn.embeddings import Embedding
from fastnn.equations import embeddings as reference_embeddings  # fmt: skip
from fastnn.equations import kinds as reference_kinds
from fastnn.equations import norms as reference_norms
from fastnn.equations import periodic as reference_periodic
from fastnn.equations import scaling as reference_scaling
from fastnn.equations import slopes as reference_slopes
from fastnn.equations.kinds import Equations
from fastnn.kernels import codes
from fastnn.layers import Dense, Dropout, Layer
from fastnn.names import describe, lookup
from fastnn.norms import BatchNorm, LayerNorm, RMSNorm
from fastnn.periodic import NumericEmbedding
from fastnn.residual import Residual
from fastnn.scaling import Standardize, measured
from fastnn.slopes import PReLU

__all__ = [
    "KINDS", "LAYERS", "Array", "Kind", "check_activation", "check_widths", "coded_columns",
    "columns_of", "drop_numbers", "from_dict", "kind_of", "spelt", "to_dict",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Array:
    """One array that a layer has.

    Attributes
    ----------
    name : str
        Its name in the layer, such as "W".
    shape : tuple of int
        ``(inputs, outputs)`` for a matrix, ``(outputs,)`` for one number per column.
    start : float
        What its elements begin as, unless an initializer draws them.
    deviation : float
        Standard deviation of the normal numbers that they are drawn from, about the start.
    """

    name: str
    shape: tuple[int, ...]
    start: float = 0.0
    deviation: float = 0.0


def _same(layer: Any, inputs: int) -> int:
    """Return as many outputs as there are inputs."""
    return inputs


def _none(layer: Any, inputs: int) -> tuple[Array, ...]:
    """Return no arrays."""
    return ()


@dataclass(frozen=True, slots=True, eq=False)  # Each is itself alone, whatever its functions.
class Kind:
    """A kind of layer.

    Attributes
    ----------
    record : type
        Of the layers.
    code : int
        By which the kernels know it.
    equations : Equations
        What the textbook computes.
    say : callable
        What `Sequential.summary` says of a layer beside its kind.
    parameters : callable
        The arrays that training changes, of a layer and its number of inputs: a matrix and
        biases, one or two spans, or any that are one span together, as `form` says.
    buffers : callable
        The arrays that belong to it otherwise, in the same way; two of one number per column for
        a kind whose kernels keep them.
    outputs : callable
        How many columns it writes, of a layer and its number of inputs.
    form : int
        How its parameters lie: codes.NO_PARAMETERS, codes.MATRIX, codes.SPANS or
        codes.ONE_SPAN.
    number : callable
        The number that its kernels take, of a layer.
    columns : callable
        Numbers of the operation table that are its own, by name, of a layer and its place.
    scratch : callable
        How many numbers its passes note of each row, of a layer and its number of inputs.
    work : callable or None
        Multiplications and additions for an example, of the same; None for a matrix, which has one
        of each per number, and where they are next to nothing.
    noted : int
        Numbers that its passes note of each column, which `scratch` then stands for.
    whole : bool
        Whether it needs all rows of a batch at once in training, unless it is frozen.
    plain : bool
        Whether the engine that is compiled without the other kinds has it: those of most networks.
    answered : bool
        Whether the kernels of predictions know it; else predictions walk the engine's table.
    in_training : bool
        Whether it does something in training only.
    in_place : bool
        Whether the gradient of what it reads takes the place of that of what it writes.
    measured : callable or None
        Its parameters where examples and their weights say them, for a layer that reads X; the
        first fit asks.
    coded : callable
        The columns of X that it reads as codes, and how many codes each has, of a layer.
    pieces : callable or None
        Integers that its kernels go by, of a layer, its number of inputs and the columns of a
        panel.
    """

    record: type[Layer]
    code: int
    equations: Equations
    say: Callable[[Any], str]
    parameters: Callable[[Any, int], tuple[Array, ...]] = _none
    buffers: Callable[[Any, int], tuple[Array, ...]] = _none
    outputs: Callable[[Any, int], int] = _same
    form: int = codes.NO_PARAMETERS
    number: Callable[[Any], float] = lambda layer: 0.0
    columns: Callable[[Any, int], dict[str, float]] = lambda layer, place: {}
    scratch: Callable[[Any, int], int] = lambda layer, inputs: 0
    work: Callable[[Any, int], int] | None = None
    noted: int = 0
    whole: bool = False
    plain: bool = False
    answered: bool = False
    in_training: bool = False
    in_place: bool = False
    measured: Callable[[Any, Any], tuple[Any, ...]] | None = None
    coded: Callable[[Any], tuple[tuple[int, int], ...]] = lambda layer: ()
    pieces: Callable[[Any, int, int], NDArray[Any]] | None = None

    @property
    def name(self) -> str:
        """The name of its record, as files have it."""
        return self.record.__name__

    def __reduce__(self) -> tuple[Any, ...]:
        return _named, (self.name,)


def _dense(layer: Dense, inputs: int) -> tuple[Array, ...]:
    """Return W, and b where there is one."""
    W = Array("W", (inputs, layer.units))
    return (W, Array("b", (layer.units,))) if layer.bias else (W,)


def drop_numbers(rate: float) -> dict[str, float]:
    """Return what a dropout of a rate goes by: from which hash on a unit stays, and how scaled."""
    return {"threshold": min(round(rate * 2**32), 2**32 - 1), "number": 1.0 / (1.0 - rate)}


def _dropped(layer: Dropout, place: int) -> dict[str, float]:
    """Return what a dropout draws by: its place, and from which hash on a unit stays."""
    return {"place": place, "threshold": drop_numbers(layer.rate)["threshold"]}


def _follows(layer: Dropout) -> str:
    """Return what a summary says of a rate that is the first one only."""
    return "" if layer.schedule is None else ", scheduled"


def _tables(layer: Embedding, inputs: int) -> tuple[Array, ...]:
    """Return a table of vectors for each coded column."""
    return tuple(
        Array(name, shape, deviation=spread) for name, shape, spread in embeddings.tables(layer)
    )


def _waves(layer: NumericEmbedding, inputs: int) -> tuple[Array, ...]:
    """Return frequencies, weights and biases."""
    return tuple(
        Array(name, shape, deviation=spread)
        for name, shape, spread in periodic.arrays(layer, inputs)
    )


def _scale_and_shift(layer: Any, inputs: int) -> tuple[Array, ...]:
    """Return a scale, which begins at 1, and a shift."""
    return Array("scale", (inputs,), 1.0), Array("shift", (inputs,))


_ROWS = (
    Kind(
        Dense, codes.DENSE, reference_kinds.DENSE,
        say=lambda layer: layer.activation,
        parameters=_dense,
        outputs=lambda layer, inputs: layer.units,
        form=codes.MATRIX,
        plain=True,
        answered=True,
    ),
    Kind(
        Dropout, codes.DROPOUT, reference_kinds.DROPOUT,
        say=lambda layer: f"rate {layer.rate:g}{_follows(layer)}",
        number=lambda layer: drop_numbers(layer.rate)["number"],
        columns=_dropped,
        plain=True,
        in_training=True,
        in_place=True,
    ),
    Kind(
        Standardize, codes.STANDARDIZE, reference_scaling.STANDARDIZE,
        say=lambda layer: "",
        parameters=lambda layer, inputs: (Array("mean", (inputs,)), Array("deviation", (inputs,))),
        form=codes.SPANS,
        in_place=True,
        measured=measured,
    ),
    Kind(
        LayerNorm, codes.LAYER_NORM, reference_norms.LAYER_NORM,
        say=lambda layer: f"epsilon {layer.epsilon:g}",
        parameters=_scale_and_shift,
        form=codes.SPANS,
        number=lambda layer: layer.epsilon,
        scratch=lambda layer, inputs: 2,
    ),
    Kind(
        RMSNorm, codes.RMS_NORM, reference_norms.RMS_NORM,
        say=lambda layer: f"epsilon {layer.epsilon:g}",
        parameters=lambda layer, inputs: (Array("scale", (inputs,), 1.0),),
        form=codes.SPANS,
        number=lambda layer: layer.epsilon,
        scratch=lambda layer, inputs: 2,
    ),
    Kind(
        BatchNorm, codes.BATCH_NORM, reference_norms.BATCH_NORM,
        say=lambda layer: f"momentum {layer.momentum:g}",
        parameters=_scale_and_shift,
        buffers=lambda layer, inputs: (
            Array("mean", (inputs,)), Array("variance", (inputs,), 1.0),
        ),
        form=codes.SPANS,
        number=lambda layer: layer.epsilon,
        columns=lambda layer, place: {"momentum": layer.momentum},
        noted=4,
        whole=True,
    ),
    Kind(
        PReLU, codes.PRELU, reference_slopes.PRELU,
        say=lambda layer: f"from {layer.initial:g}",
        parameters=lambda layer, inputs: (Array("slope", (inputs,), layer.initial),),
        form=codes.SPANS,
    ),
    Kind(
        Residual, codes.RESIDUAL, reference_kinds.RESIDUAL,
        say=lambda layer: "sum",
    ),
    Kind(
        Embedding, codes.EMBEDDING, reference_embeddings.EMBEDDING,
        say=embeddings.said,
        parameters=_tables,
        outputs=embeddings.width,
        form=codes.ONE_SPAN,
        coded=lambda layer: layer.sizes,
        pieces=embeddings.pieces,
    ),
    Kind(
        NumericEmbedding, codes.NUMERIC_EMBEDDING, reference_periodic.NUMERIC_EMBEDDING,
        say=periodic.said,
        parameters=_waves,
        outputs=periodic.width,
        form=codes.ONE_SPAN,
        scratch=periodic.notes,
        work=periodic.work,
        pieces=periodic.pieces,
    ),
)  # fmt: skip

KINDS: dict[str, Kind] = {row.name: row for row in _ROWS}

LAYERS: dict[str, type[Layer]] = {name: row.record for name, row in KINDS.items()}


def _named(name: str) -> Kind:
    """Return a kind by its name, as pickles have it."""
    return KINDS[name]


def kind_of(layer: Layer) -> Kind:
    """Return a layer's row."""
    return KINDS[type(layer).__name__]


def coded_columns(layers: Sequence[Layer]) -> tuple[tuple[int, int], ...]:
    """Return the columns of X that layers read as codes, and how many codes each has."""
    return tuple(pair for layer in layers[:2] for pair in kind_of(layer).coded(layer))


def spelt(name: str) -> str:
    """Return a layer's place, such as "1.0", as an expression in Python."""
    return ".".join(f"layers[{place}]" for place in name.split("."))


def check_widths(layers: Sequence[Layer], inputs: int | None, above: str = "") -> int | None:
    """Return how many columns layers give, None where that is not known yet.

    Refuses a sum of columns that are not as many.
    """
    for place, layer in enumerate(layers):
        name, width = f"{above}{place}", inputs
        if layer.inside:
            width = check_widths(layer.inside, inputs, f"{name}.")
            if None not in (inputs, width) and width != inputs:
                raise ValueError(
                    f"{spelt(name)} adds its input, {columns_of(inputs)}, to what its layers give, "
                    f"{columns_of(width)}; both must be as wide."
                )
        give: Any = kind_of(layer).outputs
        inputs = give(layer, width)
    return inputs


def columns_of(count: int | None) -> str:
    """Return a number of columns in words."""
    return f"{count} column{'' if count == 1 else 's'}"


def to_dict(layer: Layer, *, functions: bool = False) -> dict[str, Any]:
    """Return a layer as plain data, for files; as files of before have it where that says all.

    Functions of the user's own stay as they are if asked, as pickles have them, or are refused.
    """
    plain: dict[str, Any] = {"layer": type(layer).__name__}
    for one in fields(layer):  # type: ignore[arg-type]
        value = getattr(layer, one.name)
        if one.metadata.get("later") and value == one.default:
            continue
        if one.name == "schedule":
            value = schedules.to_dict(value, functions=functions)
        elif isinstance(value, tuple):
            value = (
                [to_dict(part, functions=functions) for part in value]
                if layer.inside
                else [number for pair in value for number in pair]
            )
        plain[one.name] = value
    return plain


def from_dict(data: object) -> Layer:
    """Return the layer that `to_dict` described; anything else is refused."""
    if not isinstance(data, dict):
        raise TypeError(f"a layer must be described by an object; got {describe(data)}.")
    given = dict(data)
    record: Any = lookup(LAYERS, given.pop("layer", None), "layer")
    known = {one.name: bool(one.metadata.get("later")) for one in fields(record)}
    wanted = [name for name, later in known.items() if not later]
    if not set(wanted) <= given.keys() <= known.keys():
        raise ValueError(
            f"a layer must be described by {', '.join(wanted)}; got {', '.join(given)}."
        )
    if isinstance(given.get("layers"), list):
        given["layers"] = [from_dict(part) for part in given["layers"]]
    if "schedule" in given:
        given["schedule"] = schedules.from_dict(given["schedule"])
    check_activation(given.get("activation"))
    layer: Layer = record(**given)
    return layer


def check_activation(name: object) -> None:
    """Refuse the name of an activation that a file has and nobody has made yet.

    Raises
    ------
    ValueError
        If no activation is called so; whatever is no text is left to the layer.
    """
    if isinstance(name, str) and name not in own.ACTIVATIONS and _is_unknown(name):
        raise ValueError(
            "its activation must be one of the library's, or one of the user's own that was made "
            f"before, by fastnn.CustomActivation(..., name=...); got {describe(name)}."
        )


def _is_unknown(name: str) -> bool:
    """Say whether no activation of the library's has a name."""
    aliases = {alias for row in ACTIVATIONS.values() for alias in row.aliases}
    return name not in ACTIVATIONS and name not in aliases
