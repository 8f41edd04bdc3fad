"""What a report of a problem needs to say: versions, machine, settings."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import TextIO

import fastnn
from fastnn.backends import in_force
from fastnn.machine import system

__all__ = ["show_versions", "versions"]

_REQUIRED = ("numpy", "numba", "llvmlite")
_OPTIONAL = ("scikit-learn", "scipy", "matplotlib", "pandas", "polars", "safetensors")
_SETTINGS = ("FASTNN_", "NUMBA_", "OMP_NUM_THREADS")


def versions() -> dict[str, str]:
    """Return the versions, the machine and the settings that a computation depends on.

    Returns
    -------
    dict of str to str
        In this order: ``fastnn``, ``python``, ``platform``; ``numpy``, ``numba``, ``llvmlite``;
        ``cpu``, ``cores`` (those that this process may use); ``backend`` (the one in force),
        ``kernel cache`` (a folder, "off" or "nowhere"); the optional packages ``scikit-learn``,
        ``scipy``, ``matplotlib``, ``pandas``, ``polars``, ``safetensors``; and every environment
        variable that is set and starts with ``FASTNN_``, ``NUMBA_`` or ``OMP_NUM_THREADS``.  A
        package that is missing is "not installed".

    Notes
    -----
    Nothing is imported to find out its version, so this is quick and works where an import fails.

    Examples
    --------
    >>> versions()["fastnn"] == fastnn.__version__
    True
    """
    found = {
        "fastnn": fastnn.__version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
    }
    found |= {name: _version(name) for name in _REQUIRED}
    found |= {
        "cpu": system.cpu_name(),
        "cores": str(system.usable_cores()),
        "backend": _backend(),
        "kernel cache": _kernel_cache(),
    }
    found |= {name: _version(name) for name in _OPTIONAL}
    found |= {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_SETTINGS)}
    return found


def show_versions(file: TextIO | None = None) -> None:
    """Print the versions, the machine and the settings, for a report of a problem.

    Parameters
    ----------
    file : text file, optional
        Where to print; standard output if left out.

    See Also
    --------
    versions : The same as a dictionary.

    Examples
    --------
    >>> import io
    >>> import fastnn as fn
    >>> report = io.StringIO()
    >>> fn.show_versions(report)
    >>> report.getvalue().split()[:2] == ["fastnn", fn.__version__]
    True
    """
    found = versions()
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {value}", file=sys.stdout if file is None else file)


def _version(distribution: str) -> str:
    """Return the installed version of a package without importing it."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _backend() -> str:
    """Return the backend in force; a report must come through where the setting is wrong."""
    try:
        return in_force()
    except ValueError as problem:
        return f"none: {problem}"


def _kernel_cache() -> str:
    """Return the folder of the compiled kernels, or that none are kept."""
    from fastnn.kernels._cache import cache_folder

    return "off" if os.environ.get("FASTNN_CACHE") == "0" else str(cache_folder() or "nowhere")
