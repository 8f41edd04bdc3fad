"""Folders whose files only this user can have written.

For files that are run, or unpickled, when they are read: anyone who can write one can run code as
the user who reads it.  A folder and each of its files are checked through the handle by which they
are used, so that nothing can be exchanged between check and use: the folder must belong to this
user and not be writable by others; a file must be a regular file of this user's, with a single hard
link, and not be writable by others.  Both are checked, as files may have been planted while the
folder was writable by all.

Where folders have no handles or files no owners (Windows), paths are used, and the system's own
permissions of a user's folders are relied on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from fastnn.machine.system import write_all

__all__ = ["NotPrivateError", "PrivateFolder", "temporary_folder"]

_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
_OTHERS_MAY_WRITE = 0o022
_OTHERS_MAY_ANYTHING = 0o077

_HAS_OWNERS = hasattr(os, "getuid")

# Flags that not every system has; a named pipe, for one, must not be waited for.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_AS_FOLDER = getattr(os, "O_DIRECTORY", 0)
_PLAIN = _NO_LINK | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | _PLAIN | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN

_TEMPORARY = {"/tmp", "/var/tmp", "/usr/tmp"}

# Files that a killed writer left behind, and the seconds after which no writer can be at one.
_UNFINISHED = ".fastnn-", ".tmp"
_ABANDONED = 3600


class NotPrivateError(PermissionError):
    """Others than this user can have written a folder or a file."""


class PrivateFolder:
    """A folder that only this user can write, held open for some reads and writes.

    Parameters
    ----------
    path : pathlib.Path
        The folder.  It may be a symbolic link if that is this user's own, or root's.
    make : {False, True, "at home"}, default False
        Create it, and missing parents, readable by this user alone; "at home" only in a folder of
        this user's or of root's, so that root creates nothing in another user's home that would
        be in that user's way.
    strict : bool, default False
        Refuse links, and a folder that others can read: for a parent folder in which every user
        can create files of any name.

    Raises
    ------
    NotPrivateError
        If the folder is another user's or can be written by others; the message names it and
        says which.
    OSError
        The operating system's own: above all FileNotFoundError.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as above:
    ...     with PrivateFolder(Path(above, "mine"), make=True) as folder:
    ...         folder.write("word", [b"good ", b"morning"])
    ...         folder.read("word", 1000)
    b'good morning'
    """

    def __init__(
        self, path: Path, *, make: bool | Literal["at home"] = False, strict: bool = False
    ) -> None:
        self.path = path
        if make:
            _make(path, make == "at home")
        self._handle: int | None = None
        # Where the system has handles of folders, or else by the folder's path.
        if {os.open, os.rename, os.stat, os.unlink} <= os.supports_dir_fd:
            self._handle = _open_folder(path, strict)
        try:
            found = os.lstat(path) if self._handle is None else os.fstat(self._handle)
            _refuse_others(found, path, _OTHERS_MAY_ANYTHING if strict else _OTHERS_MAY_WRITE)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the folder."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __enter__(self) -> PrivateFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, name: str, most: int) -> bytes:
        """Return a file's content, never waiting and never following a link.

        Parameters
        ----------
        name : str
            The file's, without a folder.
        most : int
            Bytes that a file may have.

        Raises
        ------
        NotPrivateError
            If another user can have written the file.
        OSError
            If it is no regular file, or too large; also the operating system's own.
        """
        handle = os.open(self._name(name), _READ, dir_fd=self._handle)
        with open(handle, "rb") as file:
            found = os.fstat(handle)
            path = self.path / name
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "Not a regular file", str(path))
            # A second link may be another user's, who chose the content or its place.
            if _HAS_OWNERS and found.st_nlink > 1:
                raise NotPrivateError(f"{path} has other names")
            _refuse_others(found, path, _OTHERS_MAY_WRITE)
            if found.st_size > most:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
            return file.read(found.st_size)

    def write(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        """Write a file that this user alone may read, whole or not at all.

        Parameters
        ----------
        name : str
            The file's, without a folder.  A file or link of this name is replaced.
        chunks : iterable of bytes or memoryview
            The content, in order.

        Raises
        ------
        OSError
            The operating system's own; NotPrivateError where the file system gives the file to
            another user.
        """
        before, after = _UNFINISHED
        temporary = f"{before}{secrets.token_hex(8)}{after}"
        handle = os.open(self._name(temporary), _WRITE, _FILE_MODE, dir_fd=self._handle)
        try:
            try:
                _refuse_others(os.fstat(handle), self.path / name, _OTHERS_MAY_WRITE)
                for chunk in chunks:
                    write_all(handle, chunk)
            finally:
                os.close(handle)
            self._rename(temporary, name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(self._name(temporary), dir_fd=self._handle)
            raise
        self._sweep()

    def _name(self, name: str) -> str:
        """Return what the system's calls take for a file: a name beside the folder's handle."""
        return str(self.path / name) if self._handle is None else name

    def _rename(self, temporary: str, name: str) -> None:
        """Give a file the name of another, which it replaces."""
        if self._handle is None:
            os.replace(self._name(temporary), self._name(name))
        else:
            os.rename(temporary, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)

    def _sweep(self) -> None:
        """Remove what writers that were killed have left behind."""
        before, after = _UNFINISHED
        with contextlib.suppress(OSError):
            for name in os.listdir(self.path if self._handle is None else self._handle):
                if not (name.startswith(before) and name.endswith(after)):
                    continue
                # Another process may sweep too.
                with contextlib.suppress(OSError):
                    at = os.stat(self._name(name), dir_fd=self._handle, follow_symlinks=False)
                    if time.time() - at.st_mtime > _ABANDONED:
                        os.unlink(self._name(name), dir_fd=self._handle)


def temporary_folder() -> Path:
    """Return where this user's files go when there is no better place, in the system's folder.

    Any user may create a folder of this name there first: open it with ``strict=True``.

    Returns
    -------
    pathlib.Path
        The folder need not exist.

    Raises
    ------
    FileNotFoundError
        If the system has no folder for temporary files that can be written.

    Examples
    --------
    >>> temporary_folder().name.startswith("fastnn")
    True
    """
    # Rarely needed.
    import tempfile

    above = tempfile.gettempdir()
    usual = {os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")} | _TEMPORARY
    # Python's last resort is the current folder, where no user expects a cache.
    if os.path.realpath(above) == os.path.realpath(os.curdir) and above not in usual:
        raise FileNotFoundError("there is no folder for temporary files that can be written")
    return Path(above, f"fastnn-{os.getuid()}" if _HAS_OWNERS else "fastnn")


def _make(path: Path, at_home: bool) -> None:
    """Make a folder and what is missing above it, whatever the umask, for this user alone."""
    missing = list(_missing(path))
    if missing and at_home and _HAS_OWNERS:
        above = missing[-1].parent
        owner = os.stat(above).st_uid
        if owner not in (0, os.getuid()):
            raise PermissionError(f"{above} belongs to another user (number {owner})")
    for folder in reversed(missing):
        # Another process may have been faster; whose it is, is asked later.
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, _FOLDER_MODE)


def _missing(path: Path) -> Iterator[Path]:
    """Yield the folders that do not exist, innermost first."""
    for folder in (path, *path.parents):
        if os.path.lexists(folder):
            return
        yield folder


def _open_folder(path: Path, strict: bool) -> int:
    """Return a folder's handle, through a link only if no other user can have created it."""
    flags = os.O_RDONLY | _AS_FOLDER
    try:
        return os.open(path, flags | _NO_LINK)
    except OSError:
        found = os.lstat(path)
        if not stat.S_ISLNK(found.st_mode):
            raise
        if strict or (_HAS_OWNERS and found.st_uid not in (0, os.getuid())):
            raise NotPrivateError(f"{path} is a symbolic link") from None
        return os.open(path, flags)


def _refuse_others(found: os.stat_result, path: Path, closed: int) -> None:
    """Raise if others than this user can have written something, by owner or by mode."""
    if not _HAS_OWNERS:
        return
    # A program with the set-user-id bit runs with two users' numbers, and is refused.
    if {found.st_uid} != {os.getuid(), os.geteuid()}:
        raise NotPrivateError(f"{path} belongs to another user (number {found.st_uid})")
    if found.st_mode & closed:
        verb = "read or written" if closed & ~_OTHERS_MAY_WRITE else "written"
        raise NotPrivateError(
            f"{path} can be {verb} by others (its mode is {stat.S_IMODE(found.st_mode):04o})"
        )
