"""Load Numba and every kernel, in one piece, when the first of them is needed."""

from __future__ import annotations

import sys

from fastnn.machine.tested import advice, check_version
from fastnn.machine.uninterrupted import in_one_piece

__all__ = ["load_derivatives", "load_halves", "load_kernels", "load_search"]

_loaded = False


def load_kernels() -> None:
    """Load Numba and every kernel that Python calls, unless that is done already.

    To be called before a kernel is imported: a signal, such as that of Ctrl-C, may break any import
    off, and Numba does not load a second time.

    Raises
    ------
    ImportError
        If Numba cannot be loaded, is too old or too new, or was left half loaded by an
        interruption before; the message says what to do.
    """
    global _loaded
    if not _loaded:
        in_one_piece(_load)
        _loaded = True


def _load() -> None:
    """Load them; in the worker's thread."""
    # A module that failed to load is gone; those below it that did load are not.
    half = "numba" not in sys.modules and "numba.core" in sys.modules
    try:
        import numba

        # Numba looks for masked arrays at its first call; NumPy loads them when it is asked.
        import numpy.ma  # noqa: F401

        check_version("numba", numba.__version__)
        from fastnn.kernels import (  # noqa: F401
            answers,
            crew,
            embedded,
            epoch,
            first_layer,
            folds,
            once,
            order,
            team,
            thunks,
        )
    except Exception as problem:
        if isinstance(problem, ImportError) and problem.name == "numba" and not half:
            # Missing or too old, as it says.
            raise
        raise ImportError(_explained(half, problem), name="numba") from problem


def load_search() -> None:
    """Load the kernels of searches by L-BFGS, beside the others."""
    load_kernels()
    in_one_piece(_load_search)


def _load_search() -> None:
    """Load them; in the worker's thread."""
    from fastnn.kernels import quasi_newton  # noqa: F401


def load_halves() -> None:
    """Load the kernels of predictions from weights of half the size, beside the others."""
    load_kernels()
    in_one_piece(_load_halves)


def _load_halves() -> None:
    """Load them; in the worker's thread."""
    from fastnn.kernels import half_answers  # noqa: F401


def load_derivatives() -> None:
    """Load the kernels of derivatives, beside the others."""
    load_kernels()
    in_one_piece(_load_derivatives)


def _load_derivatives() -> None:
    """Load them; in the worker's thread."""
    from fastnn.kernels import derivatives, normal_equations  # noqa: F401


def _explained(half: bool, problem: Exception) -> str:
    """Say why the kernels cannot be loaded, and what to do about it."""
    said = f"fastnn cannot load its compiler, Numba ({type(problem).__name__}: {problem}). "
    if half:
        return (
            f"{said}Its import was broken off before, which left it half loaded: start this "
            "process anew."
        )
    return f"{said}If its import was broken off before, start this process anew. {advice('numba')}"
