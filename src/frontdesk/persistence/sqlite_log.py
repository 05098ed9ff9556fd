"""The events of conversations in SQLite, as a transaction writes them: the journal, and segments.

Below the batch, which carries out everything else. What the journal's index is after the commit is
gathered here (`tails`, `slices`), and handed over once there is one.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.persistence.journal_index import JournalIndex, JournalRow, Slice, Tail, with_rows
from frontdesk.persistence.operations import FramesAppended
from frontdesk.persistence.sealing import KeyOf, Sealing
from frontdesk.persistence.segments import AS_WRITTEN, SEGMENT_BYTES, compress, pack_frames

JOURNAL_BYTES: int = 16 * 1024 * 1024
SLICE_BYTES: int = 1024 * 1024
Execute = Callable[[str, tuple[Any, ...]], sqlite3.Cursor]

SAVE = (
    "UPDATE conversation SET last_activity_ms = max(last_activity_ms, ?),"
    " last_position = max(last_position, ?), last_index = max(last_index, ?),"
    " held_bytes = held_bytes + ? WHERE number = ?"
)


class ConversationChanges:
    """What a transaction changes of a conversation's own row, besides its state."""

    __slots__ = ("held_bytes", "last_activity_ms", "last_index", "last_position")

    def __init__(self) -> None:
        self.last_activity_ms: int = 0
        self.last_position: int = 0
        self.last_index: int = 0
        self.held_bytes: int = 0

    def active(self, at_ms: int) -> None:
        """Take note that the conversation was used."""
        self.last_activity_ms = max(self.last_activity_ms, at_ms)


class SqliteLog:
    """Write events within one transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        sealing: Sealing,
        journal: JournalIndex,
    ) -> None:
        self._execute = connection.execute
        self._many = connection.executemany
        self._sealing = sealing
        self._before = journal.tails
        self.next_id: int = journal.next_id
        self.tails: dict[int, Tail | None] = {}
        self.slices: tuple[Slice, ...] = journal.slices
        self.changes: defaultdict[int, ConversationChanges] = defaultdict(ConversationChanges)
        self._rows: list[tuple[int, int, int, int, int, int, bytes]] = []

    def tail(self, number: int) -> Tail | None:
        """Return the end of a conversation's log, None where there is no such conversation."""
        if number in self.tails:
            return self.tails[number]
        if (tail := self._before.get(number)) is not None:
            return tail
        self.tails[number] = tail = read_tail(self._execute, number)
        return tail

    def append(self, tail: Tail, operation: FramesAppended) -> None:
        """Write events into the journal, without those that were written before."""
        first, frames = operation.first_index, operation.frames
        last = first + len(frames) - 1
        if first <= tail.last_index:
            frames = frames[tail.last_index + 1 - first :]
            first = tail.last_index + 1
        if not frames:
            return
        number, fence, row_id = operation.number, operation.fence, self.next_id
        stored = self._sealing.keep(pack_frames(frames), key=tail.key, column=f"frames:{first}")
        size = len(stored)
        self._rows.append((row_id, number, fence, first, last, size, stored))
        self.next_id = row_id + 1
        self.tails[number] = tail = tail.extended(JournalRow(row_id, fence, first, last, size))
        if tail.held_bytes >= SEGMENT_BYTES:
            self.compress(tail)

    def drop(self, tail: Tail, *, before: int) -> None:
        """Remove the events before an index; a segment that has others too stays as it is."""
        number = tail.key.number
        if tail.count and tail.listed[0].first_index < before:
            self.compress(tail)
        dropped = "FROM segment WHERE number = ? AND last_index < ?"
        found = self._execute(f"SELECT coalesce(sum(held_bytes), 0) {dropped}", (number, before))
        self.changes[number].held_bytes -= found.fetchone()[0]
        self._execute(f"DELETE {dropped}", (number, before))
        self._execute(
            "UPDATE conversation SET oldest_index = max(oldest_index, min(?, ?)) WHERE number = ?",
            (before, tail.last_index + 1, number),
        )

    def compress(self, tail: Tail) -> None:
        """Make segments of what a conversation has in the journal; its rows are cleared later."""
        if not tail.count:
            return
        self.flush()
        rows: list[JournalRow] = []
        size = 0
        for row in tail.rows:
            if rows and (row.fence != rows[0].fence or size >= SEGMENT_BYTES):
                self._write_segment(tail, rows)
                rows, size = [], 0
            rows.append(row)
            size += row.held_bytes
        self._write_segment(tail, rows)
        self._clear(tail)

    def forget(self, number: int) -> None:
        """Take note that a conversation is erased."""
        self.tails[number] = None
        self.changes.pop(number, None)

    def flush(self) -> None:
        """Write the rows that were gathered."""
        if self._rows:
            self._many(
                "INSERT INTO journal"
                " (rowid, number, fence, first_index, last_index, held_bytes, frames)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                self._rows,
            )
            written = Slice(self.next_id - 1, sum(row[5] for row in self._rows))
            self.slices = with_rows(self.slices, written, max_bytes=SLICE_BYTES)
            self._rows = []

    def finish(self) -> None:
        """Write what was gathered, and clear what the journal has too much of."""
        self.flush()
        while sum(each.held_bytes for each in self.slices) > JOURNAL_BYTES:
            self._clear_slice(self.slices[0])
            self.slices = self.slices[1:]
        self._many(
            SAVE,
            [
                (each.last_activity_ms, each.last_position, each.last_index, each.held_bytes, n)
                for n, each in self.changes.items()
            ],
        )

    def _clear_slice(self, oldest: Slice) -> None:
        tails = {**self._before, **self.tails}
        for tail in tails.values():
            if tail is not None and tail.count and tail.listed[0].id <= oldest.last_id:
                try:
                    self.compress(tail)
                except ConversationUnreadable:
                    self._move(tail)
        self._execute("DELETE FROM journal WHERE rowid <= ?", (oldest.last_id,))

    def _move(self, tail: Tail) -> None:
        """Make a segment of each row as it is: none of them can be decrypted now."""
        for row in tail.rows:
            self._insert_segment(tail, [row], AS_WRITTEN + self._row(row))
        self._clear(tail)

    def _clear(self, tail: Tail) -> None:
        number = tail.key.number
        self.tails[number] = tail.without_rows()
        # The row's own index says what is in segments: what is after it is read from the journal.
        changes = self.changes[number]
        changes.last_index = max(changes.last_index, tail.last_index)

    def _write_segment(self, tail: Tail, rows: Sequence[JournalRow]) -> None:
        packed = [
            self._sealing.open(self._row(row), key=tail.key, column=f"frames:{row.first_index}")
            for row in rows
        ]
        column = f"segment:{rows[0].first_index}"
        stored = self._sealing.keep(compress(b"".join(packed)), key=tail.key, column=column)
        self._insert_segment(tail, rows, stored)

    def _row(self, row: JournalRow) -> bytes:
        found = self._execute("SELECT frames FROM journal WHERE rowid = ?", (row.id,))
        (stored,) = found.fetchone()
        return bytes(stored)

    def _insert_segment(self, tail: Tail, rows: Sequence[JournalRow], stored: bytes) -> None:
        number, first = tail.key.number, rows[0].first_index
        self._execute(
            "INSERT OR REPLACE INTO segment"
            " (number, fence, first_index, last_index, held_bytes, frames)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (number, rows[0].fence, first, rows[-1].last_index, len(stored), stored),
        )
        self.changes[number].held_bytes += len(stored)


def read_journal(connection: sqlite3.Connection, journal: JournalIndex) -> None:
    """Find the events that are in no segment, once, when a file is opened."""
    tails: dict[int, Tail | None] = {}
    slices = journal.slices
    for row_id, number, *columns in connection.execute(
        "SELECT rowid, number, fence, first_index, last_index, held_bytes FROM journal"
        " ORDER BY rowid"
    ):
        row = JournalRow(row_id, *columns)
        slices = with_rows(slices, Slice(row_id, row.held_bytes), max_bytes=SLICE_BYTES)
        if number not in tails:
            tails[number] = read_tail(connection.execute, number)
        tail = tails[number]
        if tail is not None and row.last_index > tail.last_index:
            tails[number] = tail.extended(row)
    next_id = slices[-1].last_id + 1 if slices else 1
    journal.replace(tails, slices=slices, next_id=next_id)


def read_tail(execute: Execute, number: int) -> Tail | None:
    """Return the end of a conversation's log as its row has it: all but the journal's rows."""
    found = execute(
        "SELECT tenant_id, key_id, owner, last_index FROM conversation WHERE number = ?", (number,)
    ).fetchone()
    if found is None:
        return None
    tenant_id, key_id, owner, last_index = found
    return Tail(KeyOf(tenant_id, number, key_id), owner, last_index)
