"""Pages whose code runs when the site is built.

On a page that has the comment ``<!-- this page runs -->`` every block of Python is run, in order
and in one namespace, in a folder of its own.  A block of ``text`` right behind one must be what it
prints; a figure that it leaves open in matplotlib stands behind it.  A page that has not changed,
with a library that has not changed, is not run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import fastnn

SIGN = "<!-- this page runs -->"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(\n*```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


def library() -> str:
    """Return a hash of the library's sources."""
    found = hashlib.sha256()
    for path in sorted(Path(fastnn.__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def drawn(stem: Path) -> list[Path]:
    """Save the figures that are open and return where."""
    from matplotlib import pyplot

    found = []
    for number in pyplot.get_fignums():
        path = stem.with_name(f"{stem.name}-{number}.svg")
        pyplot.figure(number).savefig(path, bbox_inches="tight", metadata={"Date": None})
        found.append(path)
    pyplot.close("all")
    return found


class Wrong(Exception):
    """A block of a page printed something else than the page says."""


def run(text: str, page: str, pictures: Path) -> str:
    """Run a page's blocks and return the page with its pictures."""
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = "fastnn"
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0

    def one(found: re.Match[str]) -> str:
        nonlocal count
        count += 1
        block, _, expected = found.groups()
        line = text.count("\n", 0, found.start()) + 1
        # Line numbers in errors are those of the page.
        source = compile("\n" * line + block, f"{page}.md", "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(source, names)
        if expected is not None and printed.getvalue() != expected:
            raise Wrong(f"{page}.md, line {line}, prints:\n{printed.getvalue()}")
        stem = pictures / f"{page.replace('/', '-')}-{count}"
        links = [f"![What this draws](/{pictures.name}/{path.name})" for path in drawn(stem)]
        return found.group(0) + "".join(f"\n{link}\n" for link in links)

    return BLOCK.sub(one, text)


def read(app: Any, page: str, content: list[str]) -> None:
    """Run a page when Sphinx has read it, unless an earlier run of the same is kept."""
    if SIGN not in content[0]:
        return
    pictures = Path(app.srcdir) / "_pictures"
    pictures.mkdir(exist_ok=True)
    key = hashlib.sha256((library() + content[0]).encode()).hexdigest()[:24]
    kept = pictures / f"{page.replace('/', '-')}.{key}.kept"
    if not kept.exists():
        here = os.getcwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                result = run(content[0], page, pictures)
            finally:
                os.chdir(here)
        for old in pictures.glob(f"{page.replace('/', '-')}.*.kept"):
            old.unlink()
        kept.write_text(result, "utf-8")
    content[0] = kept.read_text("utf-8")


def setup(app: Any) -> dict[str, Any]:
    """Have pages run as they are read."""
    app.connect("source-read", read)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
