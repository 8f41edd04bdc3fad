"""The unit of a score, as asv shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["unit"]

Function = TypeVar("Function", bound=Callable[..., Any])


def unit(name: str) -> Callable[[Function], Function]:
    """Set the unit of a score."""

    def decorate(function: Function) -> Function:
        function.unit = name  # type: ignore[attr-defined]
        return function

    return decorate
