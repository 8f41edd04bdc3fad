"""Pictures and tables as text, SVG and HTML, for notebooks and files: no other package is needed.

A picture has a background of its own, and colours for light and for dark surroundings, as the
viewer prefers.  Whatever a user named is escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from fastnn.layers import Layer
from fastnn.reporting.description import Described, described, whole

__all__ = ["Svg", "diagnosis_html", "diagram", "history_html", "network_html"]

_COLOURS = {
    "ground": ("#ffffff", "#1e1e1e"),
    "text": ("#1f2328", "#e6e6e6"),
    "faint": ("#59636e", "#a0a0a0"),
    "line": ("#8c959f", "#7a7a7a"),
    "box": ("#ddebf7", "#1f3a57"),
    "other": ("#eceff1", "#333333"),
    "first": ("#0072b2", "#56b4e9"),
    "second": ("#d55e00", "#e69f00"),
}
_FONT = "font-family:system-ui,sans-serif"

# Of a diagram: a layer's height and distance, the narrowest and the widest box.
_HEIGHT, _APART = 40, 20
_NARROW, _WIDE = 160, 300
# How many layers are drawn at the top and at the bottom where there are more than both.
_TOP, _BOTTOM = 16, 8
# Of a curve in a notebook.
_CURVE = 300, 120
_POINTS = 400


class Svg(str):
    """The text of a picture, which notebooks show."""

    __slots__ = ()

    def _repr_svg_(self) -> str:
        """Return the text itself, for notebooks."""
        return str(self)


def _style() -> str:
    """Return the colours, for light and for dark surroundings."""
    rules = [
        "".join(
            f".fastnn-{name}{{fill:{pair[dark]}}}.fastnn-{name}-line{{stroke:{pair[dark]};fill:none}}"
            for name, pair in _COLOURS.items()
        )
        for dark in (0, 1)
    ]
    return f"<style>{rules[0]}@media (prefers-color-scheme:dark){{{rules[1]}}}</style>"


def _picture(width: float, height: float, title: str, parts: Iterable[str]) -> Svg:
    """Return a whole picture of such parts, on a ground of its own."""
    inside = "".join(parts)
    return Svg(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img">'
        f"<title>{_plain(title)}</title>{_style()}"
        f'<rect class="fastnn-ground" width="{width:g}" height="{height:g}" rx="6"/>{inside}</svg>'
    )


def _plain(text: object) -> str:
    """Return a text as it may stand in XML, where most control characters may not."""
    known = re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", str(text))
    # As `xml.sax.saxutils.escape`, whose module would import those for the web.
    return escape(known, quote=False)


def _text(
    x: float, y: float, text: object, colour: str = "text", size: int = 13, anchor: str = "middle"
) -> str:
    """Return a line of text."""
    return (
        f'<text class="fastnn-{colour}" x="{x:g}" y="{y:g}" text-anchor="{anchor}" '
        f'style="{_FONT};font-size:{size}px">{_plain(text)}</text>'
    )


def diagram(layers: Sequence[Layer], inputs: int | None, dtype: Any) -> Svg:
    """Draw a network from its inputs down to its outputs; see `Sequential.diagram`."""
    known = described(layers, inputs)
    shown: list[Described | int] = list(known)
    if len(known) > _TOP + _BOTTOM + 1:
        shown = [*known[:_TOP], len(known) - _TOP - _BOTTOM, *known[-_BOTTOM:]]
    most = max([one.outputs or 1 for one in known] + [inputs or 1])
    width = _WIDE + 2 * _APART
    centre, y = width / 2, float(_APART)
    said = "inputs" if inputs is None else f"{inputs:,} input{'s' * (inputs != 1)}"
    parts = [_text(centre, y + 6, said)]
    y += 14
    for one in shown:
        parts.append(
            f'<path class="fastnn-line-line" d="M{centre:g} {y:g}V{y + _APART - 4:g}'
            f'm-4 -4l4 4l4 -4"/>'
        )
        y += _APART
        if isinstance(one, int):
            parts.append(_text(centre, y + 10, f"{one:,} more layers", "faint"))
            y += 16
            continue
        parts.append(_box(one, centre, y, most))
        y += _HEIGHT
    parts.append(_text(centre, y + 22, whole(known, inputs, dtype), "faint", 11))
    return _picture(width, y + 36, f"network of {len(known)} layers", parts)


def _box(one: Described, centre: float, y: float, most: int) -> str:
    """Return a layer's box, as wide as its outputs are many, in its logarithm."""
    share = math.log1p(one.outputs or 1) / math.log1p(most)
    wide = _NARROW + (_WIDE - _NARROW) * share
    first = one.kind + (f" · {_short(one.said)}" if one.said else "")
    count = "" if one.outputs is None else f"{one.outputs:,} outputs"
    if one.parameters:
        count += f"{', ' * bool(count)}{one.parameters:,} parameters"
    return (
        f'<rect class="fastnn-{"box" if one.parameters else "other"}" x="{centre - wide / 2:g}" '
        f'y="{y:g}" width="{wide:g}" height="{_HEIGHT}" rx="5"/>'
        + _text(centre, y + 17, first)
        + _text(centre, y + 32, count, "faint", 11)
    )


def _short(text: str, most: int = 28) -> str:
    """Return a text that fits a box."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def network_html(layers: Sequence[Layer], inputs: int | None, dtype: Any) -> str:
    """Return what a notebook shows of a network."""
    return f"<div>{diagram(layers, inputs, dtype)}</div>"


def history_html(history: Any) -> str:
    """Return what a notebook shows of a `History`: curves of the loss, and the last values."""
    last = [(name, f"{values[-1]:.6g}") for name, values in history.items() if values]
    best = history.best_epoch
    rows = [("epoch", str(history.epochs)), *last]
    if best is not None:
        rows.append(("best epoch", str(best)))
    curve = _curves([(name, history[name]) for name in ("loss", "val_loss") if name in history])
    return f"<div>{curve}{_table(('', 'last'), rows)}<p>{_plain(repr(history))}</p></div>"


def _curves(curves: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return a picture of a few curves over epochs; nothing where there are no two points."""
    finite = [value for _, values in curves for value in values if math.isfinite(value)]
    epochs = max((len(values) for _, values in curves), default=0)
    if epochs < 2 or not finite:
        return ""
    low, high = min(finite), max(finite)
    # Of huge values the difference may overflow.
    reach = (high / 2 - low / 2) or 1.0
    wide, tall = _CURVE
    edge = 10.0
    parts = []
    for (name, values), colour, x in zip(
        curves, ("first", "second"), (edge, wide / 2), strict=False
    ):
        step = max(1, -(-len(values) // _POINTS))
        points = [
            f"{edge + (wide - 2 * edge) * place / (epochs - 1):.1f},"
            f"{tall - edge - (tall - 40) * ((value / 2 - low / 2) / reach):.1f}"
            for place, value in list(enumerate(values))[::step]
            if math.isfinite(value)
        ]
        if not points:
            continue
        kind = f'class="fastnn-{colour}-line" stroke-width="1.5"'
        parts.append(f'<polyline {kind} points="{" ".join(points)}"/>')
        parts.append(_text(x, 18, f"{name} {values[-1]:.4g}", colour, 12, "start"))
    return _picture(wide, tall, "loss by epoch", parts)


def diagnosis_html(
    loss: float, head: Sequence[str], rows: Sequence[Sequence[str]], said: Sequence[str]
) -> str:
    """Return what a notebook shows of a `Diagnosis`: its findings, then the layers in numbers."""
    items = "".join(f"<li>{_plain(one)}</li>" for one in said)
    return f"<div><p>loss {loss:.6g}</p><ul>{items}</ul>{_table(head, rows)}</div>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; notebooks have colours of their own for it."""
    first = "".join(f"<th>{_plain(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_plain(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table>"
