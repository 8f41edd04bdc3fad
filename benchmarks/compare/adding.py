"""Results of a run in parts: those of its last part beside those of the earlier ones."""

from __future__ import annotations

from typing import Any

__all__ = ["added"]

Results = dict[str, Any]


def added(before: Results, now: Results) -> Results:
    """Return the results of two runs together; of what both have measured, the later ones.

    Raises
    ------
    SystemExit
        If they are from another machine, another effort or other versions, so that they cannot
        stand in one table.
    """
    for what in ("machine", "settings"):
        if before[what] != now[what]:
            raise SystemExit(
                f"--add needs results of the same {what}; those of the file have {before[what]}, "
                f"the new ones {now[what]}."
            )
    libraries = _joined(before["libraries"], now["libraries"], ("peer", "variant", "threads"))
    versions: dict[str, str] = {}
    for library in libraries:
        for name, version in library.get("versions", {}).items():
            if versions.setdefault(name, version) != version:
                raise SystemExit(
                    f"--add needs results of the same versions; got {name} {versions[name]} and "
                    f"{version}."
                )
    # Noise only slows down; see the measurement.
    peaks = before["peak"] | now["peak"]
    peaks = {
        count: max(flops, before["peak"].get(count, 0.0)) for count, flops in sorted(peaks.items())
    }
    work = ("kind", "name", "peer", "variant", "threads")
    records = _joined(before["records"], now["records"], work)
    return {**now, "peak": peaks, "libraries": libraries, "records": records}


def _joined(before: list[Results], now: list[Results], key: tuple[str, ...]) -> list[Results]:
    """Return entries of two lists, those of the second one where both have an entry of a key."""
    found = {tuple(entry[name] for name in key): entry for entry in before}
    found |= {tuple(entry[name] for name in key): entry for entry in now}
    return list(found.values())
