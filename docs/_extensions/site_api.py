"""A page for each public name, from its docstring, and the list of them by what they are."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fastnn

GROUPS = (
    ("Networks", "Describe, train, ask, inspect, save."),
    ("Estimators", "In place of scikit-learn's."),
    ("Layers", "What a `Sequential` is made of."),
    ("Losses", "Losses with settings of their own; the others go by [name](tables.md)."),
    (
        "Optimizers",
        "How a step follows from a gradient, and an average of the weights after steps.",
    ),
    ("Schedules", "How the learning rate changes during a fit."),
    ("Metrics", "Metrics with settings of their own; the others go by [name](tables.md)."),
    ("Callbacks", "What runs between epochs."),
    ("Results", "What fits and inspections return."),
    ("Errors and warnings", "What they say stands on [a page of its own](../errors.md)."),
    ("Functions", "Files, settings, tools."),
)
METHODS = (classmethod, staticmethod)


def group_of(name: str, thing: Any) -> str:
    """Return the title under which a public name stands."""
    from fastnn.kinds import KINDS
    from fastnn.losses import LOSSES
    from fastnn.optimizers import OPTIMIZERS
    from fastnn.schedules import SCHEDULES

    tables = {
        "Layers": [kind.record for kind in KINDS.values()],
        "Losses": [type(row.given) for row in LOSSES.values() if row.given is not None],
        "Optimizers": [row.record for row in OPTIMIZERS.values()],
        "Schedules": list(SCHEDULES.values()),
    }
    for title, records in tables.items():
        if thing in records:
            return title
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return "Errors and warnings"
    if inspect.isclass(thing) and issubclass(thing, fastnn.Callback):
        return "Callbacks"
    if name.startswith("Custom"):
        return "Losses" if name == "CustomLoss" else "Layers"
    if name.startswith("MLP"):
        return "Estimators"
    if name in {"Sequential", "load"}:
        return "Networks"
    if not inspect.isclass(thing):
        return "Functions"
    home = thing.__module__.removeprefix("fastnn.").split(".")[0]
    homes = {"callbacks": "Callbacks", "schedules": "Schedules", "losses": "Losses"}
    layers = ("layers", "activations", "norms", "slopes", "residual", "scaling", "embeddings")
    layers += ("periodic",)
    homes |= dict.fromkeys(layers, "Layers")
    homes |= dict.fromkeys(("optimizers", "whole_batch", "averages"), "Optimizers")
    homes |= {"metrics": "Metrics"}
    return homes.get(home, "Results")


def members(thing: type) -> list[tuple[str, str]]:
    """Return the directive and the name of what a class of this library has and documents."""
    found = []
    for name in dir(thing):
        raw = inspect.getattr_static(thing, name)
        inner = raw.__func__ if isinstance(raw, METHODS) else getattr(raw, "fget", raw)
        home = getattr(inner, "__module__", None) or ""
        if name.startswith("_") or not home.startswith("fastnn") or not inspect.getdoc(inner):
            continue
        if isinstance(raw, property):
            found.append(("autoproperty", name))
        elif callable(inner):
            found.append(("automethod", name))
    return found


def page(name: str, thing: Any) -> str:
    """Return the page of one public name."""
    lines = [name, "=" * len(name), "", ".. currentmodule:: fastnn", ""]
    if not inspect.isclass(thing):
        return "\n".join([*lines, f".. autofunction:: {name}", ""])
    kind = "autoexception" if issubclass(thing, BaseException) else "autoclass"
    lines += [f".. {kind}:: {name}", ""]
    for directive, member in members(thing):
        lines += [f"   .. {directive}:: {name}.{member}", ""]
    return "\n".join(lines)


def stem(name: str, names: Iterable[str]) -> str:
    """Return what a name's page is called: ``Warmup`` and ``warmup`` are one file on some disks."""
    twins = [other for other in names if other != name and other.lower() == name.lower()]
    return f"function-{name}" if twins and name.islower() else name


def first_sentence(thing: Any) -> str:
    """Return what a docstring says first."""
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def overview(things: dict[str, Any]) -> str:
    """Return the page that lists all names, group by group."""
    lines = ["# Every public name", "", "`import fastnn as fn`, then `fn.` and the name.", ""]
    for title, about in GROUPS:
        names = [name for name, thing in things.items() if group_of(name, thing) == title]
        if names:
            lines += [f"## {title}", "", about, "", "| name | |", "| --- | --- |"]
            lines += [
                f"| [`{name}`](api/{stem(name, things)}.rst) | {first_sentence(things[name])} |"
                for name in sorted(names, key=str.lower)
            ]
            lines.append("")
    lines += ["```{toctree}", ":hidden:", ""]
    return "\n".join(
        [
            *lines,
            *(f"api/{stem(name, things)}" for name in sorted(things, key=str.lower)),
            "```",
            "",
        ]
    )


def write(path: Path, text: str) -> None:
    """Write a file, unless it says so already: Sphinx reads anew what has changed."""
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


def generate(app: Any) -> None:
    """Write the pages before Sphinx looks for sources."""
    folder = Path(app.srcdir) / "reference" / "api"
    folder.mkdir(parents=True, exist_ok=True)
    things = {name: getattr(fastnn, name) for name in (*fastnn.__all__, *fastnn._EXTRAS)}
    for old in folder.glob("*.rst"):
        if old.stem not in {stem(name, things) for name in things}:
            old.unlink()
    for name, thing in things.items():
        write(folder / f"{stem(name, things)}.rst", page(name, thing))
    write(folder.parent / "names.md", overview(things))


def setup(app: Any) -> dict[str, Any]:
    """Have the pages written when a build begins."""
    app.connect("builder-inited", generate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
