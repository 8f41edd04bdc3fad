"""What executed pages depend on besides their own text, and what is kept of an earlier build.

sphinx-gallery runs a recipe again when its script has changed, `site_runs` a page when its text
has.  Where the library or a package that they use has changed, nothing is kept.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import fastnn

# What pages compute and draw with, where it is installed.
PACKAGES = (
    "numpy", "numba", "scipy", "scikit-learn", "pandas", "matplotlib", "onnx", "onnxruntime",
    "torch",
)  # fmt: skip


@functools.cache
def surroundings() -> str:
    """Return a hash of the library's sources and of the versions that pages are run with."""
    found = hashlib.sha256(sys.version.encode())
    for path in sorted(Path(fastnn.__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    for name in PACKAGES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = "none"
        found.update(f"{name} {version}\n".encode())
    return found.hexdigest()


def forget(app: Any) -> None:
    """Have every recipe run again if it was last run in other surroundings."""
    folder = Path(app.srcdir) / "recipes"
    mark = folder / ".surroundings"
    if mark.exists() and mark.read_text("utf-8") == surroundings():
        return
    for kept in folder.glob("*.py.md5"):
        kept.unlink()
    folder.mkdir(exist_ok=True)
    mark.write_text(surroundings(), "utf-8")


def setup(app: Any) -> dict[str, Any]:
    """Forget before sphinx-gallery looks."""
    app.connect("builder-inited", forget, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
