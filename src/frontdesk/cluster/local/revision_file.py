"""The file that keeps fences from repeating where a machine's clock was set back.

An era begins at the clock's microseconds, which is above all that was ever given, unless the clock
was set back while no supervisor ran. So one that starts reads here what it must be above. Writing
down every revision would cost a write for each; what is written down is ahead of them instead, and
by less than the clock moves until anybody can have started again.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["RevisionFile"]

_AHEAD = 1_000_000

_DIGITS = 16
"""Of the longest revision: they are under 2^53."""


class RevisionFile:
    """Remember a number that no revision has reached yet. One process has it at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._above = 0

    def read(self) -> int:
        """Return what every revision until now is below; 0 where nothing is known."""
        try:
            text = self._path.read_text("ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return 0
        return int(text) if text.isdigit() and len(text) <= _DIGITS else 0

    def cover(self, revision: int) -> None:
        """Write down a number above a revision, before that is given, if it is not there yet.

        A write each million of changes, which is whole or not there after a crash.
        """
        if revision < self._above - _AHEAD // 2:
            return
        self._above = revision + _AHEAD
        fresh = self._path.with_name(f"{self._path.name}.new")
        fresh.write_text(f"{self._above}\n", "ascii")
        fresh.replace(self._path)
