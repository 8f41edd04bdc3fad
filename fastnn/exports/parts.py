"""The layers of a network as they leave it: plain arrays and names, and how they are folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import reference
from fastnn.kinds import KINDS
from fastnn.layers import Dense, Dropout, Layer
from fastnn.layout import Layout, Operation
from fastnn.norms import BatchNorm
from fastnn.periodic import NumericEmbedding
from fastnn.residual import Residual
from fastnn.scaling import Standardize
from fastnn.target_scale import TargetScale

__all__ = ["Line", "PlainLayer", "PlainPart", "PlainSum", "Step", "folded", "steps_of", "walked"]

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Line:
    """What multiplies each column and adds to it: ``(x - mean) factor + rest``, in float64."""

    mean: Floats
    factor: Floats
    rest: Floats


@dataclass(frozen=True, slots=True)
class PlainLayer:
    """One Dense layer.

    Attributes
    ----------
    W : ndarray (inputs, outputs)
        Weights.
    b : ndarray (outputs,) or None
        Biases.
    activation : str
        Name in the table of activations.
    """

    W: Floats
    b: Floats | None
    activation: str

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return int(self.W.shape[0])

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return int(self.W.shape[1])

    @property
    def arrays(self) -> tuple[Floats, ...]:
        """Weights, and biases if there are any."""
        return (self.W,) if self.b is None else (self.W, self.b)

    def cast(self, dtype: DTypeLike) -> PlainLayer:
        """Return the same in a dtype."""
        return replace(
            self, W=self.W.astype(dtype), b=None if self.b is None else self.b.astype(dtype)
        )

    def behind(self, line: Line) -> PlainLayer:
        """Return a layer that gives of columns what this one gives of them after a line.

        ``((x - mean) f + r) W + b`` is ``x (f W) + (b + (r - mean f) W)``, taken in float64.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            # Not by BLAS, whose bits may hang on where the weights lie.
            shift = np.einsum("i,ij->j", line.rest - line.mean * line.factor, self.W)
            W = line.factor[:, np.newaxis] * self.W
            return replace(self, W=W, b=shift if self.b is None else self.b + shift)

    def before(self, line: Line) -> PlainLayer:
        """Return a layer without activation that gives what this one and then a line give."""
        with np.errstate(over="ignore", invalid="ignore"):
            b = ((0.0 if self.b is None else self.b) - line.mean) * line.factor + line.rest
            return replace(self, W=self.W * line.factor, b=b)

    def scaled_by(self, scale: TargetScale) -> PlainLayer:
        """Return a last layer that gives outputs in the targets' units."""
        W, b = scale.folded(self.W, self.b)
        return replace(self, W=W, b=b)

    def walked(self, A: Floats) -> Floats:
        """Return what the textbook computes of columns."""
        b = None if self.b is None else self.b[:, np.newaxis]
        Z = reference.linear(self.W.T, b, A)
        return Z if self.activation == "identity" else reference.ACTIVATIONS[self.activation][0](Z)


@dataclass(frozen=True, slots=True)
class PlainPart:
    """One layer of another kind.

    Attributes
    ----------
    layer : Layer
        Its record.
    inputs, outputs : int
        Columns read and written.
    parameters : dict of str to ndarray
        Its arrays by name, buffers behind parameters.
    """

    layer: Layer
    inputs: int
    outputs: int
    parameters: dict[str, Floats]

    @property
    def name(self) -> str:
        """The name of its kind."""
        return type(self.layer).__name__

    @property
    def arrays(self) -> tuple[Floats, ...]:
        """Its arrays."""
        return tuple(self.parameters.values())

    def cast(self, dtype: DTypeLike) -> PlainPart:
        """Return the same in a dtype."""
        arrays = {name: array.astype(dtype) for name, array in self.parameters.items()}
        return replace(self, parameters=arrays)

    @property
    def line(self) -> Line | None:
        """What it does to each column, if that is all that it does."""
        layer, P = self.layer, self.parameters
        if isinstance(layer, Standardize):
            deviation = P["deviation"].astype(np.float64)
            with np.errstate(over="ignore"):
                factor = 1.0 / np.where(deviation > 0, deviation, 1.0)
            return Line(P["mean"].astype(np.float64), factor, np.zeros(self.inputs))
        if isinstance(layer, BatchNorm):
            scale, shift, mean, variance = (array.astype(np.float64) for array in self.arrays)
            return Line(mean, scale / np.sqrt(variance + layer.epsilon), shift)
        return None

    def walked(self, A: Floats) -> Floats:
        """Return what the textbook computes of columns."""
        if isinstance(self.layer, Dropout):
            return A
        equations = KINDS[self.name].equations
        given = tuple(one.T if one.ndim == 2 else one[:, np.newaxis] for one in self.arrays)
        if equations.statistics is not None:
            given += (np.zeros((1, 1)),)
        return np.asarray(equations.forward(self.layer, given, A, None))


@dataclass(frozen=True, slots=True)
class PlainSum:
    """Layers around which their input is passed.

    Attributes
    ----------
    steps : tuple
        The layers; none where all of them did something in training only.
    inputs : int
        Columns read and written.
    """

    steps: tuple[Step, ...]
    inputs: int

    @property
    def outputs(self) -> int:
        """Columns written."""
        return self.inputs

    @property
    def arrays(self) -> tuple[Floats, ...]:
        """Those of its layers."""
        return tuple(array for step in self.steps for array in step.arrays)

    def cast(self, dtype: DTypeLike) -> PlainSum:
        """Return the same in a dtype."""
        return replace(self, steps=tuple(step.cast(dtype) for step in self.steps))

    def walked(self, A: Floats) -> Floats:
        """Return what the textbook computes of columns."""
        return A + walked(self.steps, A)


Step: TypeAlias = PlainLayer | PlainPart | PlainSum


def walked(steps: Sequence[Step], A: Floats) -> Floats:
    """Return what the textbook computes of columns by some layers."""
    for step in steps:
        A = step.walked(A)
    return A


def steps_of(layout: Layout, vector: Floats, operations: Sequence[Operation]) -> list[Step]:
    """Return the layers of a network with copies of their arrays, in float64."""
    found: list[tuple[int, Step]] = []
    for one in operations:
        entries = one.parameters + one.buffers
        arrays = [layout.view(vector, entry).astype(np.float64) for entry in entries]
        layer: Any = one.layer
        step: Step
        if isinstance(layer, Residual):
            inner = [step for number, step in found if number >= (one.since or 0)]
            found = found[: len(found) - len(inner)]
            step = PlainSum(tuple(inner), one.inputs)
        elif isinstance(layer, Dense):
            step = PlainLayer(arrays[0], arrays[1] if layer.bias else None, layer.activation)
        else:
            names = [entry.name.rpartition(".")[2] for entry in entries]
            step = PlainPart(layer, one.inputs, one.outputs, dict(zip(names, arrays, strict=True)))
        # A block begins where its first layer does, for the block around it.
        begins = one.number if one.since is None else one.since
        found.append((begins, step))
    return [step for _, step in found]


def folded(steps: Sequence[Step], dtype: np.dtype[Any], apart: bool) -> tuple[Step, ...]:
    """Return layers of which those that do a line are in the weights of a Dense beside them.

    Parameters
    ----------
    steps : sequence of Step
        In float64.
    dtype : dtype
        In which the weights must be finite.
    apart : bool
        Whether every `BatchNorm` stays what it is.

    Raises
    ------
    ValueError
        If a weight is not finite.
    """
    found: list[Step] = []
    for step in steps:
        if isinstance(step, PlainSum):
            step = replace(step, steps=folded(step.steps, dtype, apart))
        elif isinstance(step, PlainLayer):
            for part, line in _lines_before(found, apart):
                step = _checked(step.behind(line), part, dtype)
        elif isinstance(step.layer, BatchNorm) and not apart:
            last, norm = found[-1] if found else None, step.line
            assert norm is not None
            if isinstance(last, PlainLayer) and last.activation == "identity":
                found[-1] = _checked(last.before(norm), step, dtype)
                continue
        found.append(step)
    return tuple(found)


def _lines_before(found: list[Step], apart: bool) -> Iterator[tuple[PlainPart, Line]]:
    """Take lines off the end of some layers, the last one first; dropouts stay."""
    place = len(found) - 1
    while place >= 0:
        part = found[place]
        if not isinstance(part, PlainPart):
            return
        line = part.line
        if line is not None and not (apart and isinstance(part.layer, BatchNorm)):
            del found[place]
            yield part, line
        elif not isinstance(part.layer, Dropout):
            return
        place -= 1


def _checked(layer: PlainLayer, part: PlainPart, dtype: np.dtype[Any]) -> PlainLayer:
    """Return a layer with another one in its weights, if these are numbers of a dtype."""
    with np.errstate(over="ignore"):
        if all(np.isfinite(array.astype(dtype)).all() for array in layer.arrays):
            return layer
    what = "first weights" if isinstance(part.layer, Standardize) else "weights beside it"
    raise ValueError(
        f"a {part.name} can be exported where the {what} over its deviations are "
        f"finite in {dtype}; got some that are not. Compute in float64."
    )


def is_waves(step: Step) -> bool:
    """Whether a step is a `NumericEmbedding`."""
    return isinstance(step, PlainPart) and isinstance(step.layer, NumericEmbedding)
