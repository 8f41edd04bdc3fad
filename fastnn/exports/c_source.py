"""A network as one file of C99 that needs nothing but ``math.h``; its texts are in `c_texts`."""

from __future__ import annotations

import re
import string
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.exports import c_texts
from fastnn.exports.c_program import Program
from fastnn.exports.plain import PlainEmbedding, PlainNetwork, Quantized, Trial
from fastnn.names import describe

__all__ = ["c_source", "check_identifier"]

Array = NDArray[Any]

_WIDTH = 96
# The longest string literal that every C99 compiler must accept.
_LONGEST_TEXT = 4095
# What every int of C99's usual machines holds.
_LARGEST_INT = 2**31 - 1
_RESERVED = {
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum",
    "extern", "float", "for", "goto", "if", "inline", "int", "long", "main", "register", "restrict",
    "return", "short", "signed", "sizeof", "static", "struct", "switch", "typedef", "union",
    "unsigned", "void", "volatile", "while",
}  # fmt: skip


def check_identifier(name: object) -> str:
    """Return a valid prefix of C identifiers, or say what is wrong with it.

    Raises
    ------
    TypeError
        If it is no text.
    ValueError
        If C would not take it.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be an identifier of C; got {describe(name)}.")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,40}", name, re.ASCII) or name in _RESERVED:
        raise ValueError(
            "name must be an identifier of C: a letter, then up to 40 letters, digits and "
            f"underscores, and no word of the language; got {describe(name)}."
        )
    return name


def c_source(
    network: PlainNetwork, name: str, trial: Trial, levels: Quantized | None = None
) -> str:
    """Return the file.

    Parameters
    ----------
    network : PlainNetwork
        What it computes.
    name : str
        The prefix of all its names; see `check_identifier`.
    trial : Trial
        The rows and results of its self-test.
    levels : Quantized or None
        The network's weights in a byte each.

    Raises
    ------
    ValueError
        If a label is longer than C's texts may be.
    """
    writer = _Writer(network, name, levels, Program(network, levels is not None))
    parts = [writer.head(), "#include <math.h>\n", writer.declarations()]
    parts += writer.arrays()
    parts.append(writer.fill(c_texts.DENSE if levels is None else c_texts.DENSE_OF_BYTES))
    parts += writer.embedding()
    parts += writer.activations()
    parts += [writer.fill(c_texts.PARTS[part]) for part in writer.program.functions]
    parts.append(writer.predict())
    parts += writer.classes()
    parts.append(writer.self_test(trial))
    return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the parts of a file."""

    network: PlainNetwork
    name: str
    levels: Quantized | None
    program: Program

    @property
    def single(self) -> bool:
        """Whether the type is float."""
        return bool(self.network.dtype == np.float32)

    def fill(self, text: str, **more: object) -> str:
        """Return a text with what its names stand for."""
        return string.Template(text).substitute(
            {
                "T": "float" if self.single else "double",
                "f": "f" if self.single else "",
                "F": "F" if self.single else "",
                "N": self.name,
                "M": self.name.upper(),
                **{name: str(value) for name, value in more.items()},
            }
        )

    def head(self) -> str:
        """Return the comment that says what the file holds and how it is used."""
        network, levels = self.network, self.levels
        size = network.dtype.itemsize
        weights = sum(layer.W.size for layer in network.layers)
        scales = 0 if levels is None else sum(layer.outputs for layer in network.layers)
        others = network.parameters - weights + scales
        constants = weights * (size if levels is None else 1) + others * size
        stack = sum(self.program.sizes) * size
        activations = ", ".join(layer.activation for layer in network.layers)
        others_too = f", with {', '.join(network.kinds)}" if network.kinds else ""
        facts = (
            f"{network.sizes} ({activations}){others_too}: {network.parameters:,} parameters in "
            f"{constants:,} bytes of constants, with {stack:,} bytes of stack "
            f"for what lies between layers. Written by fastnn."
        )
        lines = [*textwrap.wrap(facts, _WIDTH - 3), ""]
        lines.append(self.fill("    void ${N}_predict(const $T *x, $T *y);"))
        lines.append(f"        from {network.inputs} features x to {network.outputs} outputs y,")
        lines.append("        which do not overlap")
        if network.classifies:
            lines.append(self.fill("    int ${N}_class(const $T *x);"))
            where = "among the outputs" if network.classes is None else f"in {self.name}_classes"
            lines.append(f"        the place of the class of x {where}")
        lines += [
            "",
            "It needs C99 and math.h, allocates nothing and keeps nothing between calls, which may",
            "come from several threads.  To test it:",
            "",
            self.fill("    cc -std=c99 -O3 -D${M}_SELF_TEST FILE.c -lm && ./a.out"),
        ]
        if levels is not None:
            lines += ["", *textwrap.wrap(f"A byte for each weight: {levels.error}", _WIDTH - 3)]
        return "/*\n" + "".join(f" * {line}".rstrip() + "\n" for line in lines) + " */"

    def declarations(self) -> str:
        """Return what other files may declare too."""
        lines = ["void ${N}_predict(const $T *x, $T *y);"]
        if self.network.classifies:
            lines.append("int ${N}_class(const $T *x);")
        if self.network.classes is not None:
            lines.append(f"extern {_kind(self.network.classes)}[{len(self.network.classes)}];")
        return self.fill("\n".join(lines) + "\n")

    def arrays(self) -> Iterator[str]:
        """Yield weights and biases, and labels if there are any."""
        for place, layer in enumerate(self.network.layers):
            if self.levels is None:
                yield self._numbers(f"w{place}", layer.W)
            else:
                integers = map(str, self.levels.levels[place].ravel().tolist())
                yield _array(f"static const signed char {self.name}_w{place}", integers)
                yield self._numbers(f"scale{place}", self.levels.scales[place])
            if layer.b is not None:
                yield self._numbers(f"b{place}", layer.b)
        for name, values in self.program.arrays:
            yield self._numbers(name, values)
        for column, table in () if self._embedding is None else self._embedding.tables:
            yield self._numbers(f"table_{column}", table)
        labels = self.network.classes
        if labels is not None:
            kind = self.fill(_kind(labels))
            yield _array(kind, _labels(labels))

    @property
    def _embedding(self) -> PlainEmbedding | None:
        """What stands before the layers."""
        return self.network.embedding

    def embedding(self) -> Iterator[str]:
        """Yield the function that puts vectors in place of codes, if there are some."""
        if self._embedding is None:
            return
        lines = [f"    z[{to}] = x[{column}];" for to, column in enumerate(self._embedding.passing)]
        to = len(lines)
        for column, table in self._embedding.tables:
            size, length = table.shape
            lines.append(
                f"    v = ${{N}}_table_{column} + ${{N}}_code(x[{column}], {size}) * {length};"
            )
            lines.append(f"    for (k = 0; k < {length}; k++)\n        z[{to} + k] = v[k];")
            to += length
        text = self.fill("".join(f"{line}\n" for line in lines))
        yield self.fill(c_texts.EMBEDDED, lines=text)

    def activations(self) -> Iterator[str]:
        """Yield a function for each activation that the network has."""
        for name in dict.fromkeys(layer.activation for layer in self.network.layers):
            formula = c_texts.ACTIVATIONS[name]
            if formula is None:
                yield self.fill(c_texts.ROWS[name])
            elif formula != "z":
                yield self.fill(c_texts.EACH, activation=name, formula=self.fill(formula))

    def predict(self) -> str:
        """Return the function that computes the layers."""
        rooms = [f"r{room}[{size}]" for room, size in enumerate(self.program.sizes)]
        lines = ["void ${N}_predict(const $T *x, $T *y)", "{"]
        lines += [f"    $T {', '.join(rooms)};"] if rooms else []
        lines += [f"    {line}" for line in self.program.lines]
        return self.fill("\n".join([*lines, "}", ""]))

    def classes(self) -> Iterator[str]:
        """Yield the function that names the class, where outputs stand for classes."""
        if self.network.classifies and self.network.threshold is None:
            yield self.fill(c_texts.LARGEST, outputs=self.network.outputs)
        elif self.network.classifies:
            threshold = self._literal(np.array([self.network.threshold], self.network.dtype))
            yield self.fill(c_texts.SIDE, threshold=next(threshold))

    def self_test(self, trial: Trial) -> str:
        """Return the self-test, which compares some rows' results, behind a macro."""
        rows = self._numbers("rows", trial.X) + self._numbers("answers", trial.Y)
        return self.fill(
            c_texts.TEST, rows=rows, inputs=self.network.inputs, outputs=self.network.outputs,
            count=len(trial.X),
            tolerance=next(self._literal(np.array([trial.tolerance], self.network.dtype))),
        )  # fmt: skip

    def _numbers(self, what: str, values: Array) -> str:
        """Return the definition of an array of the network's type."""
        kind = self.fill("static const $T ${N}_") + what
        return _array(kind, self._literal(values))

    def _literal(self, values: Array) -> Iterator[str]:
        """Yield numbers in the fewest digits that round-trip."""
        end = "F" if self.single else ""
        return (f"{value}{end}" for value in map(str, values.ravel()))


def _array(kind: str, values: Iterable[str]) -> str:
    """Return the definition of an array."""
    lines, line, size = [], "", 0
    for value in values:
        size += 1
        if line and len(line) + len(value) + 2 > _WIDTH - 4:
            lines.append(f"    {line}\n")
            line = ""
        line += f"{' ' if line else ''}{value},"
    return f"{kind}[{size}] = {{\n{''.join(lines)}    {line.rstrip(',')}\n}};\n"


def _kind(labels: Array) -> str:
    """Return the type and the name of an array of labels."""
    if labels.dtype.kind == "f":
        return "const double ${N}_classes"
    if labels.dtype.kind in "biu" and all(abs(one) <= _LARGEST_INT for one in labels.tolist()):
        return "const long ${N}_classes"
    return "const char *const ${N}_classes"


def _labels(labels: Array) -> Iterator[str]:
    """Yield labels as C writes them."""
    texts = "char" in _kind(labels)
    for label in labels.tolist():
        if texts:
            yield _text(str(label))
        else:
            yield repr(label) if isinstance(label, float) else str(int(label))


def _text(label: str) -> str:
    """Return a text as C writes it, in UTF-8."""
    raw = label.encode()
    if len(raw) > _LONGEST_TEXT:
        raise ValueError(
            f"classes must be of at most {_LONGEST_TEXT} bytes to be written in C; got one of "
            f"{len(raw)}."
        )
    plain = set(range(32, 127)) - set(b'"?\\')
    return '"' + "".join(chr(one) if one in plain else f"\\{one:03o}" for one in raw) + '"'
