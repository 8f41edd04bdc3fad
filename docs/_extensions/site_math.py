"""Formulas as MathML, which browsers draw themselves: no script and nothing from elsewhere."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml

# What the converter does not know, in words that it does.
OTHERWISE = {
    r"\dots": r"\ldots",
    r"\gt": ">",
    r"\lt": "<",
    r"\lvert": "|",
    r"\rvert": "|",
    r"\lVert": r"\|",
    r"\rVert": r"\|",
}
WORD = re.compile("|".join(re.escape(word) + r"(?![A-Za-z])" for word in OTHERWISE))


def mathml(text: str, *, block: bool) -> str:
    """Return the element for a formula in LaTeX."""
    text = WORD.sub(lambda found: OTHERWISE[found.group()], text)
    return latex2mathml.tex2mathml(text, as_block=block)


def visit_inline(self: Any, node: nodes.math) -> None:
    """Write a formula that stands in a line."""
    self.body.append(mathml(node.astext(), block=False))
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.math_block) -> None:
    """Write a formula that stands alone."""
    self.body.append(f'<div class="math">{mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    """Register the renderer with Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
