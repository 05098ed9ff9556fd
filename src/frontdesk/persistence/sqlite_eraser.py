"""What follows the commit of an erasure: keys go, and what is left of the text in the files.

The commit itself zeroes the rows, and enters what is to be done after it in the table `doomed_key`:
the key of an erased tenant, or an empty one for what has no key of its own. It is done a while
later, by a thread that lives until then, so that many erasures have one of it; or at the end; or,
where the process was killed, at the next start.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from frontdesk.background import start_without_signals
from frontdesk.persistence.errors import StorageBroken, StorageUnavailable
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_slack import overwrite_slack, pages_with_slack
from frontdesk.persistence.sqlite_writer import SqliteWriter

AGAIN_S = 1.0
PAGES_AT_A_TIME = 512
"""So many are overwritten before others may write again."""


class SqliteEraser:
    """Finish the erasures of one file, `within_s` after each."""

    def __init__(
        self, path: Path, *, writer: SqliteWriter, sealing: Sealing, within_s: float
    ) -> None:
        self._writer = writer
        self._sealing = sealing
        self._within_s = within_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._count = 0
        self.broken: StorageBroken | None = None
        """What went wrong: whoever writes next ends the process."""
        # Open for as long as any connection is: the kernel takes SQLite's locks from a process
        # that closes any descriptor of the file.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        with writer.alone() as connection:
            left = connection.execute("SELECT 1 FROM doomed_key LIMIT 1").fetchone()
        if left:
            self._start(wait_s=0)

    def close(self) -> None:
        """Finish what is not finished; what cannot be is at the next start."""
        self._closing.set()
        if (thread := self._thread) is not None:
            thread.join()

    def release(self) -> None:
        """Close what this has of the file, once nobody else has it open. Twice is once."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def erase_soon(self) -> None:
        """Take note of an erasure that is committed, before anybody else writes."""
        with self._lock:
            self._count += 1
            idle = self._thread is None
        if idle:
            self._start(wait_s=self._within_s)

    def _start(self, *, wait_s: float) -> None:
        self._thread = threading.Thread(
            target=self._run, args=(wait_s,), name="frontdesk-storage-eraser", daemon=True
        )
        start_without_signals(self._thread)

    def _run(self, wait_s: float) -> None:
        while True:
            closing = self._closing.wait(wait_s)
            try:
                finished = self._finish()
            except StorageUnavailable:
                finished = None
            except (StorageBroken, OSError) as error:
                self.broken = StorageBroken(f"an erasure: {error}")
                return
            with self._lock:
                if closing or finished == self._count:
                    self._thread = None
                    return
            wait_s = AGAIN_S

    def _finish(self) -> int | None:
        """Do what is to be done; return how many erasures there were then, None where it failed.

        Several writes: the table's rows go last. A crash before repeats all of it at the next
        start, which changes nothing where it was done.
        """
        with self._writer.with_empty_log() as empty:
            if not empty:
                return None
        with self._writer.alone() as connection:
            count = self._count
            doomed = connection.execute("SELECT key_id FROM doomed_key").fetchall()
        for (key_id,) in doomed:
            if key_id:
                self._sealing.remove_key(key_id)
        for pages in _in_parts(list(pages_with_slack(self._descriptor))):
            with self._writer.with_empty_log() as empty:
                if not empty:
                    return None
                overwrite_slack(self._descriptor, pages)
        os.fsync(self._descriptor)
        with self._writer.alone() as connection:
            if count == self._count:
                connection.executemany("DELETE FROM doomed_key WHERE key_id = ?", doomed)
        return count


def _in_parts(pages: list[int]) -> list[list[int]]:
    starts = range(0, len(pages), PAGES_AT_A_TIME)
    return [pages[start : start + PAGES_AT_A_TIME] for start in starts]
