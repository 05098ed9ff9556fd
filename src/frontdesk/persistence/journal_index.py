"""Where in the journal the frames of each conversation are: in memory, since it has no index.

The journal is one table that grows at its end, whichever conversation a row is of, so that a commit
writes few pages. Its rows become segments; then they are forgotten here, and cleared from the disk
in slices, the oldest first. A reader takes the tail before its snapshot begins: a row that is gone
by then is in a segment.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from frontdesk.persistence.sealing import KeyOf

MAX_WITHOUT_ROWS = 16_384
"""Tails of conversations without rows here, which only save a look at their row."""


class JournalRow(NamedTuple):
    """A row of the journal that is not in a segment yet."""

    id: int
    fence: int
    first_index: int
    last_index: int
    held_bytes: int


class Tail(msgspec.Struct, frozen=True):
    """The end of a conversation's log, and whose it is."""

    key: KeyOf
    owner: str
    last_index: int
    rows: tuple[JournalRow, ...] = ()
    held_bytes: int = 0
    """Of the rows."""

    def extended(self, row: JournalRow) -> Tail:
        """Return it with one more row."""
        stored = self.held_bytes + row.held_bytes
        return Tail(self.key, self.owner, row.last_index, (*self.rows, row), stored)

    def without_rows(self) -> Tail:
        """Return it once its rows are in segments."""
        return Tail(self.key, self.owner, self.last_index)


class Slice(NamedTuple):
    """Some of the journal's rows that follow each other: up to which, and how large they are."""

    last_id: int
    held_bytes: int


class JournalIndex:
    """The tails of conversations, as of the last commit. One thread changes it, any may read."""

    __slots__ = ("next_id", "slices", "tails")

    def __init__(self) -> None:
        self.tails: dict[int, Tail] = {}
        self.slices: tuple[Slice, ...] = ()
        self.next_id: int = 1
        """Of the next row: never that of an earlier one, which a reader may look for."""

    def replace(
        self, changed: dict[int, Tail | None], *, slices: tuple[Slice, ...], next_id: int
    ) -> None:
        """Take over what a commit has changed; None is gone."""
        for number, tail in changed.items():
            if tail is None:
                self.tails.pop(number, None)
            else:
                self.tails[number] = tail
        self.slices, self.next_id = slices, next_id
        if len(self.tails) > MAX_WITHOUT_ROWS:
            self.tails = {n: tail for n, tail in self.tails.items() if tail.rows}

    def own(self, owner: str, numbers: Iterable[int]) -> None:
        """Take over what was claimed."""
        for number in numbers:
            if (tail := self.tails.get(number)) is not None:
                self.tails[number] = msgspec.structs.replace(tail, owner=owner)


def with_row(slices: tuple[Slice, ...], row: JournalRow, *, max_bytes: int) -> tuple[Slice, ...]:
    """Return the slices with one more row, in the last one while that has room."""
    if slices and slices[-1].held_bytes + row.held_bytes <= max_bytes:
        last = slices[-1]
        return (*slices[:-1], Slice(row.id, last.held_bytes + row.held_bytes))
    return (*slices, Slice(row.id, row.held_bytes))
