"""The statements of C by which a network's layers are computed, and the buffers between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.exports.parts import PlainLayer, PlainPart, PlainSum, Step
from fastnn.exports.plain import PlainNetwork
from fastnn.kernels import codes
from fastnn.kinds import KINDS

__all__ = ["Program"]

Array = NDArray[Any]


class Program:
    """What computes a network, in the order of its layers.

    A layer writes to a buffer of its own, or works within the one that the layer before has written
    to, unless that is the input or is still to be added to a sum.

    Parameters
    ----------
    network : PlainNetwork
        What it computes.
    scaled : bool
        Whether weights are whole numbers times a scale.

    Attributes
    ----------
    lines : list of str
        Statements, with ``${N}`` where names begin and ``$F`` where constants end.
    sizes : list of int
        Numbers in each buffer ``r0``, ``r1``, ...
    functions : list of str
        Names in `c_texts.PARTS`, each once.
    arrays : list of (str, ndarray)
        Of the layers that are not Dense, by name.
    """

    def __init__(self, network: PlainNetwork, scaled: bool) -> None:
        self.lines: list[str] = []
        self.sizes: list[int] = []
        self.arrays: list[tuple[str, Array]] = []
        self._functions: dict[str, None] = {}
        self._free: list[int] = []
        self._scaled, self._dtype = scaled, network.dtype
        self._layers = self._parts = 0
        source = "x"
        if network.embedding is not None:
            source = self._take(network.embedding.outputs)
            self.lines.append(f"${{N}}_embed(x, {source});")
        for step in network.steps:
            source = self._step(step, source, {"x"}, "y" if step is network.last else None)

    @property
    def functions(self) -> list[str]:
        """Names in `c_texts.PARTS`."""
        return list(self._functions)

    def _take(self, size: int) -> str:
        """Return a free buffer: the smallest that is large enough, else the largest made larger."""
        fits = [room for room in self._free if self.sizes[room] >= size]
        if fits:
            room = min(fits, key=self.sizes.__getitem__)
        elif self._free:
            room = max(self._free, key=self.sizes.__getitem__)
            self.sizes[room] = size
        else:
            room = len(self.sizes)
            self.sizes.append(size)
        if room in self._free:
            self._free.remove(room)
        return f"r{room}"

    def _drop(self, name: str, held: set[str]) -> None:
        """Let a buffer be used again, unless it is held."""
        if name not in held and name != "y":
            self._free.append(int(name[1:]))

    def _writable(self, source: str, size: int, held: set[str]) -> str:
        """Return the buffer of a source, or a copy where that is held."""
        if source not in held:
            return source
        copy = self._take(size)
        self._call("copy", f"{copy}, {size}, {source}")
        return copy

    def _call(self, function: str, arguments: str, named: str | None = None) -> None:
        """Add a call of one of the parts."""
        self._functions[function] = None
        self.lines.append(f"${{N}}_{named or function}({arguments});")

    def _step(self, step: Step, source: str, held: set[str], end: str | None = None) -> str:
        """Add a layer; return where its result is."""
        if isinstance(step, PlainLayer):
            return self._dense(step, source, held, end)
        if isinstance(step, PlainSum):
            return self._sum(step, source, held)
        if KINDS[step.name].code == codes.NUMERIC_EMBEDDING:
            return self._waves(step, source, held)
        room = self._writable(source, step.outputs, held)
        function, arrays, numbers = _in_place(step)
        names = self._named(arrays)
        named = {"LayerNorm": "layer_norm", "RMSNorm": "rms_norm", "PReLU": "prelu"}.get(function)
        literals = [str(number) for number in numbers]
        self._call(function, ", ".join([room, str(step.outputs), *names, *literals]), named)
        return room

    def _named(self, arrays: dict[str, Array]) -> list[str]:
        """Keep the arrays of a layer under names of their own; return these."""
        number, self._parts = self._parts, self._parts + 1
        self.arrays += [
            (f"part{number}_{name}", array.astype(self._dtype)) for name, array in arrays.items()
        ]
        return [f"${{N}}_part{number}_{name}" for name in arrays]

    def _dense(self, layer: PlainLayer, source: str, held: set[str], end: str | None) -> str:
        """Add a Dense layer."""
        place, self._layers = self._layers, self._layers + 1
        to = end or self._take(layer.outputs)
        scale = f" ${{N}}_scale{place}," if self._scaled else ""
        bias = "0" if layer.b is None else f"${{N}}_b{place}"
        self.lines.append(
            f"${{N}}_dense({source}, {layer.inputs}, ${{N}}_w{place},{scale} {bias}, "
            f"{layer.outputs}, {to});"
        )
        if layer.activation != "identity":
            self.lines.append(f"${{N}}_{layer.activation}({to}, {layer.outputs});")
        self._drop(source, held)
        return to

    def _sum(self, step: PlainSum, source: str, held: set[str]) -> str:
        """Add the layers of a block, and the sum."""
        room = source
        for inner in step.steps:
            room = self._step(inner, room, held | {source})
        room = self._writable(room, step.outputs, held | {source})
        self._call("add", f"{room}, {step.outputs}, {source}")
        self._drop(source, held)
        return room

    def _waves(self, step: PlainPart, source: str, held: set[str]) -> str:
        """Add a `NumericEmbedding`."""
        layer: Any = step.layer
        C, w, b = self._named(step.parameters)
        to = self._take(step.outputs)
        v = self._take(2 * layer.frequencies)
        self._call(
            step.name,
            f"{source}, {step.inputs - layer.passing}, {layer.passing}, {C}, {layer.frequencies},\n"
            f"        {w}, {b}, {layer.dimension}, {v}, {to}",
            "waves",
        )
        self._drop(v, held)
        self._drop(source, held)
        return to


def _in_place(step: PlainPart) -> tuple[str, dict[str, Array], Sequence[object]]:
    """Return function, arrays and numbers of a layer that works within a buffer."""
    line, layer = step.line, step.layer
    if line is not None:
        return "line", {"mean": line.mean, "factor": line.factor, "rest": line.rest}, ()
    return step.name, step.parameters, tuple(_numbers(layer))


def _numbers(layer: Any) -> Iterator[str]:
    """Yield the numbers that a layer's function takes, as constants of C."""
    if hasattr(layer, "epsilon"):
        yield f"{np.float64(layer.epsilon)!s}$F"
