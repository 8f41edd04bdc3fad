"""Which versions of other packages this one was tested with, and what to say beyond them."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from fastnn.notices import warn

__all__ = ["TESTED", "Range", "check_version"]


class Range(NamedTuple):
    """Versions of a package: from the oldest, to all that begin like the newest."""

    title: str
    package: str
    oldest: str
    newest: str

    @property
    def requirement(self) -> str:
        """What an installer takes, such as ``numba>=0.62,<0.69``."""
        *major, last = _numbers(self.newest)
        beyond = ".".join(map(str, [*major, last + 1]))
        return f"{self.package}>={self.oldest},<{beyond}"

    def place(self, version: str) -> int:
        """Return -1 for a version that is too old, 1 for one that is newer than tested, else 0."""
        found = _numbers(version)
        newest = _numbers(self.newest)
        if found < _numbers(self.oldest):
            return -1
        return int(found[: len(newest)] > newest)


#: By the package's name in an installer.
TESTED: Final = {
    tested.package: tested
    for tested in (
        Range("Numba", "numba", "0.62", "0.68"),
        Range("scikit-learn", "scikit-learn", "1.9", "1.9"),
    )
}

_told: set[str] = set()


def check_version(package: str, version: str) -> None:
    """Refuse a version that is too old; warn, once, of one that is newer than tested.

    Parameters
    ----------
    package : str
        One of `TESTED`.
    version : str
        The package's own.

    Raises
    ------
    ImportError
        If it is too old.

    Warns
    -----
    RuntimeWarning
        If it is newer than what this version of fastnn was tested with.

    Examples
    --------
    >>> check_version("numba", "0.62.1")
    """
    tested = TESTED[package]
    place = tested.place(version)
    if place < 0:
        raise ImportError(
            f"fastnn needs {tested.title} {tested.oldest} or newer; {version} is installed. "
            f"{advice(package)}",
            name=package,
        )
    if place > 0 and package not in _told:
        _told.add(package)
        warn(
            f"{tested.title} {version} is newer than what this version of fastnn was tested with "
            f"({tested.oldest} to {tested.newest}). If something fails, look for a newer fastnn. "
            f"{advice(package)}",
            RuntimeWarning,
        )


def advice(package: str) -> str:
    """Return how to install a version that was tested, as a sentence."""
    return f'Tested versions: python -m pip install "{TESTED[package].requirement}".'


def _numbers(version: str) -> tuple[int, ...]:
    """Return a version's leading numbers; what follows them, such as "rc1", counts for nothing."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
