"""How conversations are stored, counted: commits as they happen, the rest looked at once a second.

A gateway that stores nothing has all of it, and it is 0.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from frontdesk.gateway.metrics.instruments import Distribution, Tally
from frontdesk.gateway.metrics.metric_cells import MetricCells
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.operations import ConversationErased
from frontdesk.persistence.writer import Batch


class StorageMetrics:
    """Count what is committed. Belongs to one event loop."""

    def __init__(self, cells: MetricCells) -> None:
        self._dormant = Tally("frontdesk_conversations_dormant", cells)
        self._erased = Tally("frontdesk_conversations_erased_total", cells)
        self._unavailable = Tally("frontdesk_storage_unavailable", cells)
        self._backlog = Tally("frontdesk_storage_backlog_bytes", cells)
        self._file = Tally("frontdesk_storage_file_bytes", cells)
        self._commit_s = Distribution("frontdesk_storage_commit_seconds", cells)
        self._bytes = Tally("frontdesk_storage_committed_bytes_total", cells)
        self._commits: CommitQueue | None = None
        self._files: tuple[Path, ...] = ()

    def follow(self, commits: CommitQueue | None, *, file: Path | None) -> None:
        """Count what is committed here from now on; `file` is SQLite's, None for another store."""
        self._commits = commits
        if commits is not None:
            commits.on_commit = self._on_commit
        if file is not None:
            self._files = (file, file.with_name(f"{file.name}-wal"))

    def refresh(self, dormant: int) -> None:
        """Look at what waits to be stored, and at how much there is."""
        self._dormant.set(value=dormant)
        if self._commits is not None:
            self._backlog.set(value=self._commits.backlog())
            self._unavailable.set(value=float(self._commits.unavailable is not None))
        self._file.set(value=sum(map(_size, self._files)))

    def _on_commit(self, batch: Batch, seconds: float) -> None:
        self._commit_s.observe(seconds)
        self._bytes.add(amount=sum(batch.sizes.values()))
        erased = sum(type(each) is ConversationErased for each in batch.operations)
        if erased:
            self._erased.add(amount=erased)


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0
