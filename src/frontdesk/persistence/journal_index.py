"""Where in the journal the events of each conversation are: in memory, since it has no index.

The journal is one table that grows at its end, whichever conversation a row is of, so that a commit
writes few pages. Its rows become segments; then they are forgotten here, and cleared from the disk
in slices, the oldest first. A reader takes the tail before its snapshot begins: a row that is gone
by then is in a segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec

from frontdesk.persistence.sealing import KeyOf

MAX_WITHOUT_ROWS = 16_384
"""Tails of conversations without rows here, which only save a look at their row."""


class JournalRow(msgspec.Struct, frozen=True, gc=False):
    """A row of the journal that is not in a segment yet."""

    id: int
    fence: int
    first_index: int
    last_index: int
    held_bytes: int


class Tail(msgspec.Struct, frozen=True, gc=False):
    """The end of a conversation's log, and whose it is.

    The tails that follow each other have one list of rows, which only ever grows: each has the
    first of them, up to its own count.
    """

    key: KeyOf
    owner: str
    last_index: int
    listed: list[JournalRow] = []
    count: int = 0
    held_bytes: int = 0
    """Of the rows."""

    @property
    def rows(self) -> Sequence[JournalRow]:
        """Its rows, oldest first."""
        return self.listed[: self.count]

    def extended(self, row: JournalRow) -> Tail:
        """Return it with one more row."""
        listed, count = self.listed, self.count
        if len(listed) != count or not count:  # another one, of a transaction that failed, has it
            listed = list(islice(listed, count))
        listed.append(row)
        held_bytes = self.held_bytes + row.held_bytes
        return Tail(self.key, self.owner, row.last_index, listed, count + 1, held_bytes)

    def without_rows(self) -> Tail:
        """Return it once its rows are in segments."""
        return Tail(self.key, self.owner, self.last_index)


class Slice(msgspec.Struct, frozen=True, gc=False):
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
            self.tails = {n: tail for n, tail in self.tails.items() if tail.count}

    def own(self, owner: str, numbers: Iterable[int]) -> None:
        """Take over what was claimed."""
        for number in numbers:
            if (tail := self.tails.get(number)) is not None:
                self.tails[number] = msgspec.structs.replace(tail, owner=owner)


def with_rows(slices: tuple[Slice, ...], rows: Slice, *, max_bytes: int) -> tuple[Slice, ...]:
    """Return the slices with more rows, in the last one while that has room."""
    if slices and slices[-1].held_bytes + rows.held_bytes <= max_bytes:
        joined = Slice(rows.last_id, slices[-1].held_bytes + rows.held_bytes)
        return (*slices[:-1], joined)
    return (*slices, rows)
