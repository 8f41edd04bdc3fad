"""Pages whose code runs when the site is built.

On a page that has the comment ``<!-- this page runs -->`` every block of Python is run, in order
and in one namespace, in a folder of its own.  A block of ``text`` right behind one must be what it
prints; a figure that it leaves open in matplotlib stands behind it.  Pages run side by side before
Sphinx reads, each in a process; one that has not changed, in surroundings that have not
(`site_cache`), is not run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import multiprocessing
import os
import re
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from site_cache import surroundings

SIGN = "<!-- this page runs -->"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(\n*```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


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


def kept(pictures: Path, page: str, text: str) -> Path:
    """Return where the result of running a page is kept."""
    key = hashlib.sha256((surroundings() + text).encode()).hexdigest()[:24]
    return pictures / f"{page.replace('/', '-')}.{key}.kept"


def run_apart(text: str, page: str, pictures: Path) -> None:
    """Run a page in a folder of its own and keep what comes of it."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            result = run(text, page, pictures)
        finally:
            os.chdir(here)
    for old in pictures.glob(f"{page.replace('/', '-')}.*.kept"):
        old.unlink()
    kept(pictures, page, text).write_text(result, "utf-8")


def prepare(app: Any) -> None:
    """Run all pages of which nothing is kept, as many at once as there are cores."""
    root = Path(app.srcdir).resolve()
    pictures = root / "_pictures"
    pictures.mkdir(exist_ok=True)
    texts = {
        path.relative_to(root).with_suffix("").as_posix(): path.read_text("utf-8")
        for path in root.rglob("*.md")
        if "_build" not in path.parts
    }
    due = {
        page: text
        for page, text in texts.items()
        if SIGN in text and not kept(pictures, page, text).exists()
    }
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        for done in [pool.submit(run_apart, text, page, pictures) for page, text in due.items()]:
            done.result()


def read(app: Any, page: str, content: list[str]) -> None:
    """Put the page as it was run in the place of its text, when Sphinx has read it."""
    if SIGN in content[0]:
        pictures = Path(app.srcdir).resolve() / "_pictures"
        content[0] = kept(pictures, page, content[0]).read_text("utf-8")


def setup(app: Any) -> dict[str, Any]:
    """Have pages run before Sphinx reads, and put in place as it does."""
    app.connect("builder-inited", prepare, priority=200)
    app.connect("source-read", read, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
