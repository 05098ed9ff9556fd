"""What a batch has to know of conversations in PostgreSQL, and what it says: plain records.

Arrays are written here as the server takes them. psycopg looks at each value of a list on its own,
and at all of them for the narrowest type, which costs more than the rest of an event.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, NamedTuple, TypeAlias

from psycopg import pq
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper

from frontdesk.persistence.segments import SEGMENT_BYTES

__all__ = [
    "Bigints",
    "Byteas",
    "FrameRun",
    "JournalRow",
    "OwnedRow",
    "RowGrowth",
    "Statement",
    "Tail",
    "joined_rows",
    "register_arrays",
]

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


@dataclass(slots=True)
class RowGrowth:
    """What a batch adds to a conversation's counters."""

    held_bytes: int = 0
    last_index: int = 0
    last_position: int = 0
    last_activity_ms: int = 0


@dataclass(slots=True)
class FrameRun:
    """Events of one conversation that follow each other, on their way into the journal."""

    fence: int
    first_index: int
    frames: list[bytes]

    @property
    def last_index(self) -> int:
        """The index of the last of them."""
        return self.first_index + len(self.frames) - 1


class Bigints(NamedTuple):
    """A value of type `bigint[]`."""

    values: Sequence[int]


class Byteas(NamedTuple):
    """A value of type `bytea[]`."""

    values: Sequence[bytes]


_ARRAY = struct.Struct(">iiIii")
"""Its dimensions, whether there are NULLs, the type of its elements, how many, from which on."""

_BIGINT, _BYTEA = 20, 17
_element = struct.Struct(">iq").pack
_length = struct.Struct(">i").pack


class _BigintsDumper(Dumper):
    format, oid = pq.Format.BINARY, 1016

    def dump(self, array: Bigints) -> bytes:
        values = array.values
        head = _ARRAY.pack(1, 0, _BIGINT, len(values), 1)
        return head + b"".join(map(_element, repeat(8), values))


class _ByteasDumper(Dumper):
    format, oid = pq.Format.BINARY, 1001

    def dump(self, array: Byteas) -> bytes:
        values = array.values
        head = _ARRAY.pack(1, 0, _BYTEA, len(values), 1)
        lengths = map(_length, map(len, values))
        return head + b"".join(chain.from_iterable(zip(lengths, values, strict=True)))


def register_arrays(connection: AdaptContext) -> None:
    """Have a connection take them."""
    if connection.adapters is not None:
        connection.adapters.register_dumper(Bigints, _BigintsDumper)
        connection.adapters.register_dumper(Byteas, _ByteasDumper)


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
