"""Which path computes what was asked for: the one place that goes by a path's name."""

from __future__ import annotations

from typing import Final

from fastnn import backends
from fastnn.native import Native
from fastnn.path import Path
from fastnn.textbook import Textbook

__all__ = ["NATIVE", "TEXTBOOK", "asked"]

NATIVE: Final[Path] = Native()
TEXTBOOK: Final[Path] = Textbook()

_PATHS: dict[str, Path] = {path.name: path for path in (NATIVE, TEXTBOOK)}


def asked(backend: str | None = None) -> Path:
    """Return the path that a call shall take, given its own ``backend=``."""
    return _PATHS[backends.in_force(backend)]
