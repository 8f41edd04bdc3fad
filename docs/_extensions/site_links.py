"""Links from a page to the repository's files: on a code host they work as they are.

On the site a link to a module leads to a page with its source, and one to a folder or to another
page of the repository is its text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+(?!_)[\w./-]+)\)")
PAGE = """:orphan:

{title}
{line}

.. literalinclude:: {path}
   :linenos:
"""


def source_page(root: Path, module: Path) -> Path:
    """Return where the page with a module's source stands, written if it has to be."""
    folder = root / "reference" / "source"
    folder.mkdir(parents=True, exist_ok=True)
    title = str(module.relative_to(root.parent))
    page = folder / f"{title.removesuffix('.py').replace('/', '-')}.rst"
    path = os.path.relpath(module, folder)
    text = PAGE.format(title=f"``{title}``", line="=" * (len(title) + 4), path=path)
    if not page.exists() or page.read_text("utf-8") != text:
        page.write_text(text, "utf-8")
    return page


def followed(root: Path, page: Path, found: re.Match[str]) -> str:
    """Return what a link is on the site."""
    text, where = found.groups()
    target = (page.parent / where).resolve()
    if root in target.parents:
        return found.group(0)
    if target.is_dir() or target.suffix == ".md":
        return text
    if target.suffix == ".py":
        return f"[{text}]({os.path.relpath(source_page(root, target), page.parent)})"
    return found.group(0)


def pages(root: Path) -> list[Path]:
    """Return the pages that are written by hand."""
    return [path for path in root.rglob("*.md") if not {"_build", "api"} & set(path.parts)]


def prepare(app: Any) -> None:
    """Write the pages with sources before Sphinx looks for pages."""
    root = Path(app.srcdir).resolve()
    for page in pages(root):
        for found in LINK.finditer(page.read_text("utf-8")):
            followed(root, page, found)


def read(app: Any, docname: str, content: list[str]) -> None:
    """Turn the links of a page that Sphinx has read."""
    root = Path(app.srcdir).resolve()
    page = Path(app.env.doc2path(docname)).resolve()
    if page.suffix == ".md":
        content[0] = LINK.sub(lambda found: followed(root, page, found), content[0])


def setup(app: Any) -> dict[str, Any]:
    """Have links turned as pages are read."""
    app.connect("builder-inited", prepare)
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
