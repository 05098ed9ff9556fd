"""What a batch has to know of conversations in PostgreSQL, and what it says: plain records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from frontdesk.persistence.segments import SEGMENT_BYTES

__all__ = ["JournalRow", "OwnedRow", "Statement", "Tail", "joined_rows"]

Values: TypeAlias = Mapping[str, Any]


class Statement(NamedTuple):
    """One statement and its values."""

    sql: str
    values: Values


@dataclass(slots=True)
class Tail:
    """Where the log of a conversation ends, and how much of it is not compressed."""

    last_index: int = 0
    journal_bytes: int = 0


class OwnedRow(NamedTuple):
    """What a batch has to know of a conversation that is stored."""

    number: int
    owner: str
    tenant_id: str
    key_id: str
    last_position: int


class JournalRow(NamedTuple):
    """Packed frames of one conversation, in clear."""

    fence: int
    first_index: int
    last_index: int
    packed: bytes


def joined_rows(rows: Sequence[JournalRow]) -> Iterator[JournalRow]:
    """Join rows that follow each other, up to the size of a segment."""
    joined: list[JournalRow] = []
    size = 0
    for row in rows:
        last = joined[-1] if joined else row
        if joined and (row.fence != last.fence or size + len(row.packed) > SEGMENT_BYTES):
            yield _one_of(joined)
            joined, size = [], 0
        joined.append(row)
        size += len(row.packed)
    if joined:
        yield _one_of(joined)


def _one_of(rows: Sequence[JournalRow]) -> JournalRow:
    packed = b"".join(row.packed for row in rows)
    return JournalRow(rows[0].fence, rows[0].first_index, rows[-1].last_index, packed)
