"""Temporary files that a killed process left behind, distinguished from those being written.

A writer holds a lock of the system on its temporary file, which is released when the process ends,
however it ends.  Only regular files with our kind of name that belong to our user and that no
process has locked are removed; one that another machine wrote, whose locks a network file system
may not show, only when it is a day old.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import platform
import re
import secrets
import stat
from typing import Any

_fcntl: Any = None
with contextlib.suppress(ImportError):  # on Windows, which lets no open file be removed
    import fcntl

    _fcntl = fcntl

__all__ = ["claim", "remove_leftovers", "temporary_name"]

_NAME = re.compile(r"\.fastnn-(?:([0-9a-f]{8})-)?[0-9a-f]{16}\.tmp")
_MINUTE, _DAY = 60.0, 86_400.0

# A folder may hold millions of files.
_MOST_LOOKED_AT = 10_000


def temporary_name() -> str:
    """Return a new name for a temporary file of this machine's.

    Returns
    -------
    str
        Without a folder.

    Examples
    --------
    >>> temporary_name() != temporary_name()
    True
    """
    return f".fastnn-{_machine()}-{secrets.token_hex(8)}.tmp"


def claim(handle: int) -> bool:
    """Lock a file until it is closed, where the system can; return whether it still exists.

    Parameters
    ----------
    handle : int
        Of a new temporary file.

    Returns
    -------
    bool
        False if it was removed as a leftover before it was locked: another one is needed then.
    """
    if _fcntl is None:
        return True
    # A file system without locks: no other process can lock the file either.
    with contextlib.suppress(OSError):
        _fcntl.flock(handle, _fcntl.LOCK_EX)
    return os.fstat(handle).st_nlink > 0


def remove_leftovers(folder: str, now: float) -> None:
    """Remove what killed writers left in a folder; what cannot be removed stays.

    Parameters
    ----------
    folder : str
        Where to look.
    now : float
        The file system's time, in seconds since 1970.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in itertools.islice(entries, _MOST_LOOKED_AT):
            name = _NAME.fullmatch(entry.name)
            if name is not None:
                with contextlib.suppress(OSError):
                    _remove_if_dead(entry.path, now, ours=name[1] == _machine())


def _remove_if_dead(path: str, now: float, *, ours: bool) -> None:
    """Remove a temporary file that no process writes any more."""
    found = os.lstat(path)
    # Windows removes no open file; one that is a minute old is not about to get its name.
    age = _DAY if not ours else _MINUTE if _fcntl is None else -_DAY
    if not stat.S_ISREG(found.st_mode) or found.st_mtime > now - age:
        return
    if _fcntl is None:
        os.unlink(path)
        return
    if found.st_uid != os.geteuid() or found.st_nlink != 1:
        return
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), os.lstat(path)):
            os.unlink(path)
    finally:
        os.close(handle)


@functools.cache
def _machine() -> str:
    """Return what distinguishes this machine from others that share its folders."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
