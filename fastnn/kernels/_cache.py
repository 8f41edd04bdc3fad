"""Machine code kept on disk: one file for each compiled signature.

Numba's own cache does not notice an edit in another file than the entry's, numbers its files so
that two processes can overwrite each other's, and lets a damaged file or a full disk raise out
of the user's call.  This one names a file by the hash of everything its content depends on (all
kernel files, versions, CPU, compiler settings, signature), writes it whole or not at all, checks
it before it is read, and treats whatever goes wrong as "not there".

The files are unpickled, so anyone who can write them can run code as the user: folder and file must
be the user's own and not writable by others (`machine/private.py`), and any other is ignored.

Where the user's own folder cannot be used, one below the system's folder for temporary files is
used instead.

Environment: ``FASTNN_CACHE=0`` turns the cache off; ``FASTNN_CACHE_DIR`` moves it, and then there
is no such fallback.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastnn import tuning
from fastnn.machine.private import NotPrivateError, PrivateFolder, temporary_folder
from fastnn.machine.system import user_cache_dir
from fastnn.notices import warn

__all__ = ["KernelCache", "cache_folder", "source_hash"]

_DIGEST = hashlib.sha256().digest_size


def _chosen(make: bool) -> PrivateFolder:
    return PrivateFolder(Path(os.environ["FASTNN_CACHE_DIR"]), make=make)


def _at_home(make: bool) -> PrivateFolder:
    return PrivateFolder(user_cache_dir() / "fastnn", make=make and "at home")


def _among_temporary(make: bool) -> PrivateFolder:
    return PrivateFolder(temporary_folder(), make=make, strict=True)


def _places() -> tuple[Callable[[bool], PrivateFolder], ...]:
    """Return what opens the folders that may hold kernels, and makes them if asked; best first."""
    if os.environ.get("FASTNN_CACHE_DIR"):
        return (_chosen,)
    return _at_home, _among_temporary


def cache_folder() -> Path | None:
    """Return the folder of the compiled kernels, or where it would be made; None if nowhere."""
    for place in _places():
        with contextlib.suppress(OSError, RuntimeError), place(False) as folder:
            return folder.path
    chosen = os.environ.get("FASTNN_CACHE_DIR")
    if chosen:
        return Path(chosen)
    with contextlib.suppress(RuntimeError):
        return user_cache_dir() / "fastnn"
    with contextlib.suppress(OSError):
        return temporary_folder()
    return None


@functools.cache
def source_hash() -> bytes | None:
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
        return str(cache_folder() or "")

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the compiled signature from disk, or None."""
        try:
            target.refresh()
            # Whatever is wrong with a file or its folder, compiling anew is right.
            payload = self._kept(signature, target.codegen())
            if payload is None:
                return None
            from numba.core import compiler

            result: Any = compiler.CompileResult
            return result._rebuild(target, *pickle.loads(payload))
        except Exception as problem:
            _warn_once(_NOT_LOADED.format(_told(problem)))
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Write a compiled signature to disk, or warn that it could not be kept."""
        try:
            from numba.core import serialize

            dumps: Any = serialize.dumps
            if source_hash() is None or compiled.library.has_dynamic_globals:
                return
            payload = dumps(compiled._reduce())
            name, label = self._entry(signature, compiled.codegen)
        except Exception as problem:
            _warn_once(_NOT_KEPT.format(_told(problem)))
            return
        digest = hashlib.sha256(label + payload).digest()
        self._keep(name, [digest, label, payload])

    def enable(self) -> None:
        """Numba's protocol; the environment decides."""

    def disable(self) -> None:
        """Numba's protocol; the environment decides."""

    def flush(self) -> None:
        """Numba's protocol; a file is named by its content and never stale."""

    def _kept(self, signature: Any, codegen: Any) -> memoryview | None:
        """Return what was kept, if it is whole and what was asked for."""
        name, label = self._entry(signature, codegen)
        for place in _places():
            with contextlib.suppress(OSError, RuntimeError), place(False) as folder:
                content = memoryview(folder.read(name, tuning.current.largest_kernel))
                digest, body = content[:_DIGEST], content[_DIGEST:]
                if hashlib.sha256(body).digest() == digest and body[: len(label)] == label:
                    return body[len(label) :]
        return None

    def _keep(self, name: str, content: list[bytes]) -> None:
        """Write an entry to the first folder that takes it."""
        problems: list[Exception] = []
        for place in _places():
            try:
                with place(True) as folder:
                    folder.write(name, content)
                    break
            except (OSError, RuntimeError) as problem:
                problems.append(problem)
        else:
            _warn_once(_NOT_KEPT.format("; ".join(map(_told, problems))))
            return
        # Nothing is wrong with a home that cannot be written, but with one that others can write.
        if any(isinstance(problem, NotPrivateError) for problem in problems):
            _warn_once(_KEPT_ELSEWHERE.format("; ".join(map(_told, problems)), folder.path))

    def _entry(self, signature: Any, codegen: Any) -> tuple[str, bytes]:
        """Name the file by everything that its content depends on; label the content by the same.

        The label has the name in full: a file under another's name is no answer.
        """
        import llvmlite
        import numba

        settings: Any = numba.config
        depends_on = (
            source_hash(),
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
        key = hashlib.sha256(repr(depends_on).encode()).hexdigest()
        name = f"{key[:40]}.kernel"
        return name, f"{name}\n{key}\n{self._name}\n{signature}\n".encode()


_NOT_KEPT = (
    "fastnn could not keep its compiled kernels, so the next process compiles them again ({}). "
    "Set FASTNN_CACHE_DIR to a folder of your own, or FASTNN_CACHE=0 to compile anew each time "
    "without this warning."
)
_NOT_LOADED = (
    "fastnn could not load the compiled kernels that it has kept, so each process compiles them "
    "again ({}). FASTNN_CACHE=0 compiles anew each time without this warning."
)
_KEPT_ELSEWHERE = (
    "fastnn keeps its compiled kernels elsewhere than usual ({}; now in {}). Make the usual folder "
    "your own and closed to others, or set FASTNN_CACHE_DIR to one that is."
)

_warned: list[str] = []


def _told(problem: Exception) -> str:
    """Name a problem and say what it is."""
    return f"{type(problem).__name__}: {problem}"


def _warn_once(message: str) -> None:
    """Warn of the first trouble with the folder: all entries have the same."""
    if not _warned:
        _warned.append(message)
        warn(message, RuntimeWarning)
