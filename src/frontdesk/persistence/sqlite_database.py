"""An SQLite file of conversations while it is open: one writer, and readers beside it.

The file is in WAL mode: readers have snapshots of their own and never wait for the writer. With
`sync="always"` every commit is synced; with "edges" those that hold nothing but events are not, and
come with the next one that is.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from frontdesk.persistence.conversations import Applied, OwnedBatch
from frontdesk.persistence.disk_reserve import DiskReserve
from frontdesk.persistence.errors import StorageBroken
from frontdesk.persistence.journal_index import JournalIndex, Tail
from frontdesk.persistence.operations import FramesAppended
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_batch import SqliteBatch
from frontdesk.persistence.sqlite_eraser import SqliteEraser
from frontdesk.persistence.sqlite_file import (
    open_reader,
    refuse_damaged,
    refuse_network,
    sqlite_errors,
)
from frontdesk.persistence.sqlite_log import read_journal
from frontdesk.persistence.sqlite_writer import SqliteWriter
from frontdesk.persistence.stored_reader import StoredReader

Sync = Literal["always", "edges"]

ERASE_WITHIN_S: float = 30.0
EXPIRE_EVERY_S = 60.0
CHECKED_BYTES = 64 * 1024 * 1024
"""A file of this size is looked through at each start; a larger one only after something failed."""


class SqliteDatabase:
    """Open the file, which nobody else may have open for writing; `StorageRefused`."""

    def __init__(
        self,
        path: Path,
        *,
        sealing: Sealing,
        sync: Sync,
        erase_within_s: float,
        wall_ms: Callable[[], int],
        reserve: DiskReserve,
    ) -> None:
        self._path = path
        self._reserve = reserve
        self._sealing = sealing
        self._edges = sync == "edges"
        self._wall_ms = wall_ms
        self._readers: list[sqlite3.Connection] = []
        self._closed = False
        self._journal = JournalIndex()
        self._expire_at = 0.0
        self._doubt = path.with_suffix(".doubt")
        refuse_network(path.parent)
        self._writer = SqliteWriter(path)
        try:
            with self._writer.alone() as connection:
                if path.stat().st_size <= CHECKED_BYTES or self._doubt.exists():
                    refuse_damaged(connection, path)
                    self._doubt.unlink(missing_ok=True)
                read_journal(connection, self._journal)
            self._eraser = SqliteEraser(
                path, writer=self._writer, sealing=sealing, within_s=erase_within_s
            )
        except BaseException:
            self._writer.close()
            raise

    @contextmanager
    def _doubting(self) -> Iterator[None]:
        """Have the next start look through the whole file, where something of it failed."""
        try:
            yield
        except StorageBroken:
            with suppress(OSError):
                self._doubt.touch()
            raise

    @property
    def tails(self) -> dict[int, Tail]:
        """The ends of conversations' logs, as of the last commit."""
        return self._journal.tails

    def close(self) -> None:
        """Finish erasures and close the file, once nobody reads or writes. Twice is once."""
        self._closed = True
        self._eraser.close()
        for connection in self._readers:
            connection.close()
        self._readers.clear()
        self._writer.close()
        self._eraser.release()

    def apply_together(self, batches: Sequence[OwnedBatch]) -> list[Applied]:
        """Carry out batches of several owners in one transaction, and sync it once."""
        with self._doubting(), self._reserve.guarding(), self._writer.alone() as connection:
            if self._eraser.broken is not None:
                raise self._eraser.broken
            self._writer.sync_commits(not self._edges or _needs_sync(batches))
            connection.execute("BEGIN IMMEDIATE")
            batch = SqliteBatch(connection, sealing=self._sealing, journal=self._journal)
            try:
                outcomes = [batch.carry_out(each.owner, each.operations) for each in batches]
                batch.log.finish()
                self._expire_answers(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                batch.take_back()
                raise
            log = batch.log
            self._journal.replace(log.tails, slices=log.slices, next_id=log.next_id)
            if batch.erases:
                self._eraser.erase_soon()
            return outcomes

    def claim(
        self, owner: str, number: int | None, *, takes_from: Callable[[str], bool]
    ) -> list[int]:
        """Make an owner's what others had that it may take from; return what has not ended.

        The ended ones change their owner too: somebody has to erase them one day.
        """
        which = "owner <> :owner AND (:number IS NULL OR number = :number)"
        asked = {"owner": owner, "number": number}
        with self._writer.alone() as connection:
            others = f"SELECT DISTINCT owner FROM conversation WHERE {which}"
            found = [each for (each,) in connection.execute(others, asked)]
            taken = [each for each in found if takes_from(each)]
            rows: list[tuple[int, str]] = []
            for other in taken:
                rows += connection.execute(
                    f"UPDATE conversation SET owner = :owner WHERE owner = :other AND {which}"
                    " RETURNING number, state",
                    {**asked, "other": other},
                ).fetchall()
            self._journal.own(owner, (number for number, _ in rows))
            return sorted(number for number, state in rows if state != "ended")

    @contextmanager
    def reading(self) -> Iterator[StoredReader]:
        """Read a snapshot of the file."""
        with self._doubting(), sqlite_errors():
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = open_reader(self._path)
            try:
                connection.execute("BEGIN")
                yield StoredReader(connection, sealing=self._sealing)
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
            if self._closed:
                connection.close()
            else:
                self._readers.append(connection)

    def _expire_answers(self, connection: sqlite3.Connection) -> None:
        if time.monotonic() >= self._expire_at:
            now_ms = (self._wall_ms(),)
            connection.execute("DELETE FROM idempotency WHERE until_ms <= ?", now_ms)
            self._expire_at = time.monotonic() + EXPIRE_EVERY_S


def _needs_sync(batches: Sequence[OwnedBatch]) -> bool:
    return any(type(each) is not FramesAppended for batch in batches for each in batch.operations)
