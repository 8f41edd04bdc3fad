"""A network as one module of Python that needs NumPy alone."""

from __future__ import annotations

import base64
import string
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.exports.parts import PlainLayer, PlainPart, PlainSum, Step
from fastnn.exports.plain import PlainNetwork, Trial
from fastnn.norms import LayerNorm, RMSNorm
from fastnn.periodic import NumericEmbedding

__all__ = ["ACTIVATIONS", "PARTS", "python_source"]

_WIDTH = 96

_SOFTMAX = """\
def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
"""

_INCREASING = """\
def increasing(z):
    steps = np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))
    steps[:, 0] = z[:, 0]
    return steps.cumsum(axis=1)
"""

#: The function of each activation, as NumPy writes it.
ACTIVATIONS: dict[str, str] = {
    "identity": "def identity(z):\n    return z\n",
    "sigmoid": (
        "def sigmoid(z):\n    e = np.exp(-np.abs(z))\n    return np.where(z < 0, e, 1) / (1 + e)\n"
    ),
    "tanh": "def tanh(z):\n    return np.tanh(z)\n",
    "relu": "def relu(z):\n    return np.maximum(z, 0)\n",
    "softmax": _SOFTMAX,
    "leaky_relu": "def leaky_relu(z):\n    return np.where(z < 0, 0.01, 1).astype(z.dtype) * z\n",
    "elu": "def elu(z):\n    return np.maximum(z, 0) + np.expm1(np.minimum(z, 0))\n",
    "selu": (
        "def selu(z):\n    low = 1.6732632423543772 * np.expm1(np.minimum(z, 0))\n"
        "    return 1.0507009873554805 * (np.maximum(z, 0) + low)\n"
    ),
    "gelu": (
        "def gelu(z):\n    erfc = np.frompyfunc(math.erfc, 1, 1)\n"
        "    return z * (erfc(z / -math.sqrt(2)) / 2).astype(z.dtype)\n"
    ),
    "silu": (
        "def silu(z):\n    e = np.exp(-np.abs(z))\n    return z * np.where(z < 0, e, 1) / (1 + e)\n"
    ),
    "softplus": ("def softplus(z):\n    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))\n"),
    "mish": (
        "def mish(z):\n    return z * np.tanh(np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))))\n"
    ),
    "softsign": "def softsign(z):\n    return z / (1 + np.abs(z))\n",
    "hard_sigmoid": "def hard_sigmoid(z):\n    return np.clip(z + 3, 0, 6) / 6\n",
    "exp": "def exp(z):\n    return np.exp(z)\n",
    "sin": "def sin(z):\n    return np.sin(z)\n",
    "increasing": _INCREASING,
}

#: The function of each other kind of layer.
PARTS: dict[str, str] = {
    "LayerNorm": (
        "def layer_norm(a, epsilon, scale, shift):\n"
        "    off = a - a.mean(axis=1, keepdims=True)\n"
        "    variance = np.square(off).mean(axis=1, keepdims=True)\n"
        "    return scale * (off / np.sqrt(variance + DTYPE.type(epsilon))) + shift\n"
    ),
    "RMSNorm": (
        "def rms_norm(a, epsilon, scale):\n"
        "    square = np.square(a).mean(axis=1, keepdims=True)\n"
        "    return scale * (a / np.sqrt(square + DTYPE.type(epsilon)))\n"
    ),
    "line": "def line(a, mean, factor, rest):\n    return (a - mean) * factor + rest\n",
    "PReLU": ("def prelu(a, slope):\n    return np.maximum(a, 0) + slope * np.minimum(a, 0)\n"),
    "Residual": "def added(a, *layers):\n    return a + through(a, layers)\n",
    "NumericEmbedding": (
        "def waves(a, C, W, b):\n"
        "    turns = C * a[:, : len(C), None]\n"
        "    # Whole turns do nothing.\n"
        "    t = (turns - np.rint(turns)) * DTYPE.type(2 * np.pi)\n"
        "    v = np.concatenate([np.sin(t), np.cos(t)], axis=2)\n"
        '    z = np.maximum(np.einsum("njf,jfd->njd", v, W) + b, 0)\n'
        "    return np.hstack([z.reshape(len(a), -1), a[:, len(C) :]])\n"
    ),
}
_CALLED = {
    "LayerNorm": "layer_norm", "RMSNorm": "rms_norm", "PReLU": "prelu", "NumericEmbedding": "waves",
}  # fmt: skip

_MODULE = '''\
"""$facts

Needs NumPy alone.  ``predict(X)`` returns the outputs (n, $outputs) of examples X
(n, $inputs)$classify.  Run as a program, it tests itself.
"""

import base64
${math}
import numpy as np

DTYPE = np.dtype("$dtype")


def array(text, *shape):
    """Return the numbers that a text holds, as little-endian bytes in base 64."""
    raw = np.frombuffer(base64.b64decode(text), DTYPE.newbyteorder("<"))
    return raw.astype(DTYPE).reshape(shape)


def through(a, layers):
    """Return what layers, one after another, make of rows."""
    for function, *arguments in layers:
        a = function(a, *arguments)
    return a


def dense(a, W, b, activation):
    return activation(a @ W + b)


$functions
# Each layer's function and what it takes beside its input; a dense one's are its weights (inputs,
# outputs), biases (outputs,) and activation.
LAYERS = [
$layers]
$embedding$labels

def predict(X):
    """Return outputs (n, $outputs) for examples X (n, $inputs)."""
    a = np.asarray(X, dtype=DTYPE)
    if a.ndim != 2 or a.shape[1] != $inputs:
        raise ValueError(f"X must be of shape (n, $inputs); got {a.shape}.")
$begin    with np.errstate(over="ignore", under="ignore"):
        return through(a, LAYERS)
$more

def self_test():
    """Compare some rows with what they gave."""
    X = array($X)
    wanted = array($Y)
    apart, largest = np.abs(predict(X) - wanted).max(), np.abs(wanted).max()
    assert apart <= $tolerance * largest, f"{apart:.3g} apart, where the largest is {largest:.3g}"
    print(f"passed: {len(X)} rows, at most {apart:.3g} apart, of at most {largest:.3g}")


if __name__ == "__main__":
    self_test()
'''

_EMBEDDING = '''
# Columns that pass, and tables (codes, dimension) of the vectors of the others' codes.
PASSING = $passing
TABLES = {
$tables}


def embedded(X):
    """Return the columns that pass, then the vectors of the codes."""
    parts = [X[:, PASSING]]
    for column, table in TABLES.items():
        codes = X[:, column]
        if not ((codes >= 0) & (codes < len(table)) & (codes == np.floor(codes))).all():
            raise ValueError(f"column {column} must hold codes from 0 to {len(table) - 1}.")
        parts.append(table[codes.astype(int)])
    return np.hstack(parts)

'''

_CLASSIFY = '''

def classify(X):
    """Return $what of the class of each example, (n,)."""
    Y = predict(X)
    return $found
'''


def python_source(network: PlainNetwork, trial: Trial) -> str:
    """Return the module; see `c_source.c_source`."""
    names = dict.fromkeys(layer.activation for layer in network.layers)
    others = f", with {', '.join(network.kinds)}: " if network.kinds else ": "
    facts = (
        f"{network.sizes} ({', '.join(layer.activation for layer in network.layers)})"
        f"{others}{network.parameters:,} parameters of {network.dtype}, written by fastnn."
    )
    kinds = dict.fromkeys(_functions(network.steps))
    functions = [ACTIVATIONS[name] for name in names] + [PARTS[kind] for kind in kinds]
    layers = "".join(f"    {_written(step, 4)},\n" for step in network.steps)
    classify = more = labels = embedding = begin = ""
    if network.embedding is not None:
        begin = "    a = embedded(a)\n"
        embedding = string.Template(_EMBEDDING).substitute(
            passing=list(network.embedding.passing),
            tables="".join(
                f"    {column}: array({_packed(table, 8)}),\n"
                for column, table in network.embedding.tables
            ),
        )
    if network.classifies:
        places = "Y.argmax(axis=1)"
        if network.threshold is not None:
            places = f"(Y[:, 0] > {network.threshold}).astype(int)"
        if network.classes is not None:
            labels = (
                f"\n#: Labels of the classes.\nCLASSES = np.array({network.classes.tolist()!r})\n"
            )
        what = "the number" if network.classes is None else "the label"
        found = places if network.classes is None else f"CLASSES[{places}]"
        classify = f", ``classify(X)`` {what} of the class of each"
        more = string.Template(_CLASSIFY).substitute(what=what, found=found)
    return string.Template(_MODULE).substitute(
        facts=textwrap.fill(facts, _WIDTH - 3).replace("\n", "\n\n", 1),
        inputs=network.inputs, outputs=network.outputs, classify=classify,
        dtype=network.dtype.name, functions="\n\n".join(functions) + "\n",
        layers=layers, labels=labels, embedding=embedding, begin=begin, more=more,
        X=_packed(trial.X, 8), Y=_packed(trial.Y, 8), tolerance=repr(trial.tolerance),
        math="import math\n" if "gelu" in names else "",
    )  # fmt: skip


def _functions(steps: Iterable[Step]) -> Iterator[str]:
    """Yield which functions in `PARTS` some layers need."""
    for step in steps:
        if isinstance(step, PlainSum):
            yield "Residual"
            yield from _functions(step.steps)
        elif isinstance(step, PlainPart):
            yield step.name if step.line is None else "line"


def _written(step: Step, indent: int) -> str:
    """Return a layer as the module writes it: its function, and what that takes."""
    margin, arguments = " " * (indent + 4), []
    if isinstance(step, PlainSum):
        name = "added"
        arguments = [_written(inner, indent + 4) for inner in step.steps]
    elif isinstance(step, PlainLayer):
        name = "dense"
        b = np.zeros(step.outputs, step.W.dtype) if step.b is None else step.b
        arguments = [*_arrays([step.W, b], indent + 4), step.activation]
    elif (line := step.line) is not None:
        name = "line"
        arrays = (one.astype(step.arrays[0].dtype) for one in (line.mean, line.factor, line.rest))
        arguments = _arrays(arrays, indent + 4)
    else:
        name, layer = _CALLED[step.name], step.layer
        arguments = [repr(layer.epsilon)] if isinstance(layer, (LayerNorm, RMSNorm)) else []
        held = list(step.arrays)
        if isinstance(layer, NumericEmbedding):
            held[1] = held[1].reshape(len(held[0]), 2 * layer.frequencies, layer.dimension)
        arguments += _arrays(held, indent + 4)
    lines = "".join(f"{margin}{argument},\n" for argument in (name, *arguments))
    return f"(\n{lines}{' ' * indent})"


def _arrays(arrays: Iterable[NDArray[Any]], indent: int) -> list[str]:
    """Return the expressions that are some arrays."""
    return [f"array({_packed(array, indent + 4)})" for array in arrays]


def _packed(values: NDArray[Any], indent: int) -> str:
    """Return the arguments that `array` of the module takes for an array."""
    raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
    text = base64.b64encode(raw).decode()
    room = _WIDTH - indent - 2
    lines = [text[at : at + room] for at in range(0, len(text), room)] or [""]
    margin = " " * indent
    held = f"\n{margin}".join(f'"{line}"' for line in lines)
    return f"\n{margin}{held},\n{margin}{', '.join(map(str, values.shape))},\n{margin[4:]}"
