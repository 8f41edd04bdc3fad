"""Machine code kept on disk: one file for each compiled signature.

Numba's own cache does not notice an edit in another file than the entry's, numbers its files so
that two processes can overwrite each other's, and lets a damaged file or a full disk raise out
of the user's call.  This one names a file by the hash of everything its content depends on (all
kernel files, versions, CPU, compiler settings, signature), writes it whole or not at all, checks
it before it is read, and treats whatever goes wrong as "not there".

The files are unpickled, so whoever can write them can run code as the user: the folder is the
user's own, closed to others, and one that is not is left alone.

Environment: ``FASTNN_CACHE=0`` switches the cache off; ``FASTNN_CACHE_DIR`` moves it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastnn.system import user_cache_dir, write_atomically

__all__ = ["KernelCache", "cache_folder"]

_DIGEST = hashlib.sha256().digest_size

_OTHERS_MAY_WRITE = 0o022


def cache_folder() -> Path:
    """Return the folder of the compiled kernels, whether it exists or not."""
    chosen = os.environ.get("FASTNN_CACHE_DIR")
    return Path(chosen) if chosen else user_cache_dir() / "fastnn"


@functools.cache
def _source_hash() -> bytes | None:
    """Hash every kernel file, or return None where the sources cannot be read."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    if not files:
        return None
    together = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        together.update(f"{file.name} {len(content)} ".encode())
        together.update(content)
    return together.digest()


def _private_folder() -> Path:
    """Make the folder if need be, and refuse one that others can write."""
    folder = cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        found = folder.stat()
        if found.st_uid != os.getuid() or found.st_mode & _OTHERS_MAY_WRITE:
            raise PermissionError(f"{folder} belongs to somebody else or can be written by others")
    return folder


class KernelCache:
    """What a Numba dispatcher asks for machine code before it compiles.

    Parameters
    ----------
    function : callable
        The Python function that the dispatcher compiles.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__}.{function.__qualname__}"

    @property
    def cache_path(self) -> str:
        """Folder of the files, as Numba reports it."""
        return str(cache_folder())

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the compiled signature from disk, or None."""
        target.refresh()
        try:
            content = self._file(signature, target.codegen()).read_bytes()
            if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
                return None
            from numba.core import compiler

            result: Any = compiler.CompileResult
            return result._rebuild(target, *pickle.loads(content[_DIGEST:]))
        except Exception:
            # Whatever is wrong with the file or its folder, compiling anew is right.
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Write a compiled signature to disk, or warn that it could not be kept."""
        try:
            from numba.core import serialize

            dumps: Any = serialize.dumps
            if _source_hash() is None or compiled.library.has_dynamic_globals:
                return
            payload = dumps(compiled._reduce())
            file = self._file(signature, compiled.codegen)
            write_atomically(file, [hashlib.sha256(payload).digest(), payload])
        except Exception as problem:
            _warn_once(f"{type(problem).__name__}: {problem}")

    def enable(self) -> None:
        """Numba's protocol; the environment decides."""

    def disable(self) -> None:
        """Numba's protocol; the environment decides."""

    def flush(self) -> None:
        """Numba's protocol; a file is named by its content and never stale."""

    def _file(self, signature: Any, codegen: Any) -> Path:
        """Name the file by everything that its content depends on."""
        import llvmlite
        import numba

        settings: Any = numba.config
        depends_on = (
            _source_hash(),
            numba.__version__,
            llvmlite.__version__,
            platform.python_implementation(),
            platform.python_version(),
            codegen.magic_tuple(),
            [settings.OPT, settings.LOOP_VECTORIZE, settings.SLP_VECTORIZE],
            [settings.DEBUGINFO_DEFAULT, settings.BOUNDSCHECK],
            self._name,
            str(signature),
        )
        name = hashlib.sha256(repr(depends_on).encode()).hexdigest()
        return _private_folder() / f"{name[:40]}.kernel"


@functools.cache
def _warn_once(problem: str) -> None:
    """Say once that compiled kernels cannot be kept, and what to do about it."""
    warnings.warn(
        "fastnn could not keep its compiled kernels, so the next process compiles them again "
        f"({problem}). Set FASTNN_CACHE_DIR to a folder of your own, or FASTNN_CACHE=0 to "
        "compile anew each time without this warning.",
        RuntimeWarning,
        stacklevel=2,
    )
