"""An SQLite file of conversations while it is open: one writer, readers beside it, erasures.

The file is in WAL mode: readers have snapshots of their own and never wait for the writer. With
`sync="always"` every commit is synced; with "edges" those that hold nothing but events are not, and
come with the next one that is. What is erased is overwritten in the file by its commit, and goes
from its log, with the keys that are to be removed, `erase_within_s` later, in a thread's life of
its own.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from frontdesk.background import start_without_signals
from frontdesk.persistence.conversations import Applied, OwnedBatch
from frontdesk.persistence.errors import StorageBroken, StorageUnavailable
from frontdesk.persistence.journal_index import JournalIndex, Tail
from frontdesk.persistence.operations import FramesAppended
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_batch import SqliteBatch
from frontdesk.persistence.sqlite_file import (
    open_reader,
    open_writer,
    refuse_network,
    sqlite_errors,
)
from frontdesk.persistence.sqlite_log import read_journal
from frontdesk.persistence.stored_reader import StoredReader

Sync = Literal["always", "edges"]

ERASE_WITHIN_S: float = 30.0
AGAIN_S = 1.0
EXPIRE_EVERY_S = 60.0


class SqliteDatabase:
    """Open the file, which nobody else may have open for writing; `StorageRefused`.

    Opening finishes the erasures that the process before could not.
    """

    def __init__(
        self,
        path: Path,
        *,
        sealing: Sealing,
        sync: Sync,
        erase_within_s: float,
        wall_ms: Callable[[], int],
    ) -> None:
        self._path = path
        self._sealing = sealing
        self._edges = sync == "edges"
        self._erase_within_s = erase_within_s
        self._wall_ms = wall_ms
        self._writing = threading.Lock()
        self._readers: list[sqlite3.Connection] = []
        self._journal = JournalIndex()
        self._synced = True
        self._expire_at = 0.0
        self._eraser: threading.Thread | None = None
        self._closing = threading.Event()
        self._broken: StorageBroken | None = None
        refuse_network(path.parent)
        self._writer = open_writer(path)
        try:
            with sqlite_errors():
                read_journal(self._writer, self._journal)
                self._finish_erasures()
        except BaseException:
            self._writer.close()
            raise

    @property
    def tails(self) -> dict[int, Tail]:
        """The ends of conversations' logs, as of the last commit."""
        return self._journal.tails

    def close(self) -> None:
        """Close the file, once nobody reads or writes; what is to be erased is. Twice is once."""
        self._closing.set()
        if self._eraser is not None:
            self._eraser.join()
        with self._writing:
            with suppress(sqlite3.Error):  # at the latest the next start does it
                self._finish_erasures()
            for connection in (*self._readers, self._writer):
                connection.close()
            self._readers.clear()

    def apply_together(self, batches: Sequence[OwnedBatch]) -> list[Applied]:
        """Carry out batches of several owners in one transaction, and sync it once."""
        with self._writing, sqlite_errors():
            if self._broken is not None:
                raise self._broken
            self._choose_sync(batches)
            self._writer.execute("BEGIN IMMEDIATE")
            batch = SqliteBatch(self._writer, sealing=self._sealing, journal=self._journal)
            try:
                outcomes = [batch.carry_out(each.owner, each.operations) for each in batches]
                batch.log.finish()
                self._expire_answers()
                self._writer.execute("COMMIT")
            except BaseException:
                self._roll_back(batch)
                raise
            log = batch.log
            self._journal.replace(log.tails, slices=log.slices, next_id=log.next_id)
            if batch.erased or batch.dooms_keys:
                self._erase_soon()
            return outcomes

    def claim(
        self, owner: str, number: int | None, *, takes_from: Callable[[str], bool]
    ) -> list[int]:
        """Make an owner's what others had that it may take from; return what has not ended.

        The ended ones change their owner too: somebody has to erase them one day.
        """
        which = "owner <> ?1 AND (?2 IS NULL OR number = ?2)"
        with self._writing, sqlite_errors():
            others = f"SELECT DISTINCT owner FROM conversation WHERE {which}"
            found = [each for (each,) in self._writer.execute(others, (owner, number))]
            taken = [each for each in found if takes_from(each)]
            rows: list[tuple[int, str]] = []
            for other in taken:
                rows += self._writer.execute(
                    f"UPDATE conversation SET owner = ?1 WHERE owner = ?3 AND {which}"
                    " RETURNING number, state",
                    (owner, number, other),
                ).fetchall()
            self._journal.own(owner, (number for number, _ in rows))
            return sorted(number for number, state in rows if state != "ended")

    @contextmanager
    def reading(self) -> Iterator[StoredReader]:
        """Read a snapshot of the file."""
        with sqlite_errors():
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
            self._readers.append(connection)

    def _roll_back(self, batch: SqliteBatch) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        for key_id in batch.new_keys:
            with suppress(OSError):  # nothing was sealed with it
                self._sealing.remove_key(key_id)

    def _choose_sync(self, batches: Sequence[OwnedBatch]) -> None:
        if not self._edges:
            return
        synced = any(type(op) is not FramesAppended for each in batches for op in each.operations)
        if synced is not self._synced:
            self._writer.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
            self._synced = synced

    def _expire_answers(self) -> None:
        if time.monotonic() >= self._expire_at:
            now_ms = (self._wall_ms(),)
            self._writer.execute("DELETE FROM idempotency WHERE until_ms <= ?", now_ms)
            self._expire_at = time.monotonic() + EXPIRE_EVERY_S

    # -- erasures ----------------------------------------------------------------------------------

    def _erase_soon(self) -> None:
        if self._eraser is None:
            self._eraser = threading.Thread(target=self._erase, name="frontdesk-storage-eraser")
            start_without_signals(self._eraser)

    def _erase(self) -> None:
        wait_s = self._erase_within_s
        while not self._closing.wait(wait_s):
            wait_s = AGAIN_S
            try:
                with self._writing, sqlite_errors():
                    if self._finish_erasures():
                        self._eraser = None
                        return
            except StorageUnavailable:
                continue
            except StorageBroken as error:
                self._broken = error  # whoever writes next ends the process
                return

    def _finish_erasures(self) -> bool:
        """Remove keys of erased tenants, and empty the log, where what was erased still stands.

        Two writes: the erasure is committed before. A crash between is made good here, at the next
        start; the other way round, it would leave conversations that nobody can read.
        """
        doomed = self._writer.execute("SELECT key_id FROM doomed_key").fetchall()
        for (key_id,) in doomed:
            self._sealing.remove_key(key_id)
        if doomed:
            self._writer.execute("DELETE FROM doomed_key")
        busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy
