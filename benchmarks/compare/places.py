"""Places in a file that tables go into: between two markers, of which the first names them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path

__all__ = ["fill"]

# <!-- word: one section another --> ... <!-- word: end -->
_PLACE = r"^(<!-- {word}: (?!end )([a-z ]+?) -->\n).*?^(<!-- {word}: end -->)$"


def fill(
    path: Path, word: str, sections: Collection[str], render: Callable[[list[str]], str | None]
) -> None:
    """Write the sections that a file's markers name between these markers.

    Parameters
    ----------
    path : Path
        The file.
    word : str
        What its markers begin with.
    sections : collection of str
        Those that exist.
    render : callable
        Returns some of them as Markdown, or None where the place is to be left unchanged.

    Raises
    ------
    ValueError
        If the file has no such markers, or names a section that does not exist.
    """
    text = path.read_text(encoding="utf-8")

    def filled(place: re.Match[str]) -> str:
        wanted = place[2].split()
        unknown = set(wanted) - set(sections)
        if unknown:
            raise ValueError(f"{path}: sections are {', '.join(sections)}; got {unknown}.")
        rendered = render(wanted)
        return place[0] if rendered is None else f"{place[1]}\n{rendered}\n{place[3]}"

    pattern = re.compile(_PLACE.format(word=word), re.DOTALL | re.MULTILINE)
    found, count = pattern.subn(filled, text)
    if count == 0:
        raise ValueError(
            f"{path}: expected a place for tables, '<!-- {word}: {next(iter(sections))} -->' to "
            f"'<!-- {word}: end -->'; got none."
        )
    path.write_text(found, encoding="utf-8")
