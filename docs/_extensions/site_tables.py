"""The library's tables as tables of a page: ```` ```{rows} activations ```` and the like.

They are read from the library when the site is built, so that a row that is added to the library
appears by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

Rows = Iterator[tuple[str, ...]]


def code(text: object) -> str:
    """Return a text in backticks, as a cell of a table holds it."""
    return f"`{text}`".replace("|", r"\|")


def names(row: Any) -> str:
    """Return a row's name and the others that are accepted."""
    return ", ".join(code(f'"{name}"') for name in (row.name, *row.aliases))


def first(thing: Any) -> str:
    """Return what a docstring says first, without its stop."""
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ").rstrip(".")


def linked(record: type) -> str:
    """Return a link to the page of a public name."""
    return f"[`{record.__name__}`](api/{record.__name__}.rst)"


def settings(record: type) -> str:
    """Return a record's fields with their defaults."""
    if not is_dataclass(record):
        return ""
    signature = inspect.signature(record)
    shown = [
        f"{field.name}={signature.parameters[field.name].default!r}"
        if signature.parameters[field.name].default is not inspect.Parameter.empty
        else field.name
        for field in fields(record)
        if field.init
    ]
    return ", ".join(map(code, shown))


def activations() -> Rows:
    """Activations, with what a layer of them begins with."""
    from fastnn.activations import ACTIVATIONS

    yield "name", "f(z)", 'what `loss="auto"` means behind it', "first weights", "source"
    for row in ACTIVATIONS.values():
        start = row.initializer.replace("pairs", "isometry in pairs")
        yield names(row), code(row.formula), code(row.loss), start, row.source


def losses() -> Rows:
    """Losses of one example."""
    from fastnn.losses import LOSSES

    targets = {
        "real": "any numbers",
        "counts": "numbers of at least 0",
        "classes": "classes, one-hot rows or probabilities",
        "probabilities": "numbers from 0 to 1",
        "sides": "-1 and 1, 0 and 1, or classes",
    }
    yield "name", "loss of one example", "targets", "last layer", "with settings", "source"
    for row in LOSSES.values():
        record = linked(type(row.given)) if row.given is not None else ""
        last = code(row.activation) if row.activation else "any"
        wanted = targets.get(row.targets, row.targets)
        yield names(row), code(row.formula), wanted, last, record, row.source


def layers() -> Rows:
    """Kinds of layers."""
    from fastnn.kinds import KINDS

    yield "layer", "what it does", "settings"
    for kind in KINDS.values():
        yield linked(kind.record), first(kind.record), settings(kind.record)


def optimizers() -> Rows:
    """Optimizers: of batches, then of all examples at once."""
    from fastnn.optimizers import OPTIMIZERS
    from fastnn.whole_batch import WholeBatch

    yield "optimizer", "what it does", "settings"
    for record in (*(row.record for row in OPTIMIZERS.values()), *get_args(WholeBatch)):
        yield linked(record), first(record), settings(record)


def schedules() -> Rows:
    """Schedules of the learning rate."""
    from fastnn.schedules import SCHEDULES

    yield "name", "schedule", "what it does", "settings"
    for name, record in SCHEDULES.items():
        yield code(f'"{name}"'), linked(record), first(record), settings(record)


def metrics() -> Rows:
    """Metrics."""
    from fastnn.metrics import METRICS

    yield "name", "better", "for", "source"
    for row in METRICS.values():
        better = "greater" if row.greater_is_better else "smaller"
        yield names(row), better, "classes" if row.needs == "classes" else "any targets", row.source


def initializers() -> Rows:
    """Distributions of first weights."""
    from fastnn.initializers import INITIALIZERS

    yield "name", "shape", "scale over which fan", "source"
    yield '`"auto"`', "by layer", "", "[First weights](../first-weights.md)"
    for row in INITIALIZERS.values():
        fan = f"{row.scale:g} / fan {row.fan}" if row.fan else ""
        yield code(f'"{row.name}"'), row.shape, fan, row.source


def words(of: str) -> Callable[[], Rows]:
    """Return a table of other libraries' words, as error messages know them."""

    def rows() -> Rows:
        from fastnn import words as known

        yield "there", "here"
        table: dict[str, str] = getattr(known, of)
        for word, meant in sorted(table.items(), key=lambda item: (item[1], item[0])):
            yield code(word), meant if " " in meant else code(meant)

    return rows


TABLES: dict[str, Callable[[], Rows]] = {
    "activations": activations,
    "initializers": initializers,
    "layers": layers,
    "losses": losses,
    "metrics": metrics,
    "optimizers": optimizers,
    "schedules": schedules,
    **{f"words {of}": words(of) for of in ("FIT", "NETWORK", "NETWORK_ARGUMENTS", "PREDICT")},
    **{f"words {of}": words(of) for of in ("ESTIMATOR", "MODULE", "LOSS", "OPTIMIZER", "SCHEDULE")},
}


def markdown(name: str) -> str:
    """Return a table in Markdown."""
    head, *body = TABLES[name]()
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class Table(SphinxDirective):
    """Put one of the tables where it stands."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[Any]:
        """Return the nodes of the table."""
        text = markdown(self.arguments[0]).splitlines()
        return self.parse_content_to_nodes_of(text)

    def parse_content_to_nodes_of(self, text: list[str]) -> list[Any]:
        """Parse Markdown that stands nowhere."""
        self.content = StringList(text, source=self.env.docname)
        return self.parse_content_to_nodes()


def setup(app: Any) -> dict[str, Any]:
    """Register the directive with Sphinx."""
    app.add_directive("rows", Table)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
