"""The one connection that writes an SQLite file, for one thread at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frontdesk.persistence.errors import StorageBroken
from frontdesk.persistence.sqlite_file import open_writer, sqlite_errors


class SqliteWriter:
    """Open a file for writing; `StorageRefused`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection = open_writer(path)
        self._synced = True
        self._broken: str | None = None

    def sync_commits(self, synced: bool) -> None:
        """Have what is committed from here on synced, or not. For who is alone."""
        if synced is not self._synced:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
            self._synced = synced

    @contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """Have the connection, and nobody else; its errors are ours.

        `StorageBroken` for everybody once it was raised: no sync follows one that failed.
        """
        with self._lock:
            if self._broken is not None:
                raise StorageBroken(self._broken)
            try:
                with sqlite_errors():
                    yield self._connection
            except StorageBroken as error:
                self._broken = error.problem
                raise

    @contextmanager
    def with_empty_log(self) -> Iterator[bool]:
        """Keep everybody from writing, with all that was written in the file itself.

        The connection is a new one then, without pages that it remembers. False, and nothing of
        that, where somebody reads at the moment.
        """
        with self.alone() as connection:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                before, self._connection = self._connection, open_writer(self._path)
                self._synced = True
                before.close()
            yield not busy

    def close(self) -> None:
        """Close the file. Twice is once."""
        with self._lock:
            self._connection.close()
