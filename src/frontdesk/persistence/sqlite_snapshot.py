"""The file of conversations as it is at one moment, beside whoever writes it, and what is wrong.

For the command line, which looks at a file and does not have it: nothing is written here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from frontdesk.persistence.conversations import PAGE_BYTES, Applied, OwnedBatch
from frontdesk.persistence.errors import (
    ConversationUnreadable,
    StorageBroken,
    StorageRefused,
    StorageUnavailable,
)
from frontdesk.persistence.journal_index import JournalIndex, Tail
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_file import open_reader, refuse_other, sqlite_errors
from frontdesk.persistence.sqlite_log import read_journal
from frontdesk.persistence.stored import StoredConversation
from frontdesk.persistence.stored_reader import StoredReader

_PAGE = 500
_FRAMES_BYTES = 1024 * 1024


class SqliteSnapshot:
    """Read the file as it is now. A context manager; `StorageRefused` for what is none of ours.

    Costs a read of the journal, 16 MiB at most. What is written meanwhile is not seen.
    """

    def __init__(self, path: Path, *, sealing: Sealing) -> None:
        _require_file(path)
        self._connection = open_reader(path)
        self._journal = JournalIndex()
        try:
            with sqlite_errors():
                if refuse_other(self._connection, path):
                    self._connection.execute("BEGIN")
                    read_journal(self._connection, self._journal)
        except BaseException:
            self._connection.close()
            raise
        self.reader: StoredReader = StoredReader(self._connection, sealing=sealing)

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def conversations(self, tenant_id: str | None = None) -> Iterator[StoredConversation]:
        """Give all of a tenant's conversations, or everybody's, oldest first."""
        for numbers in self._pages(tenant_id):
            yield from self.reader.conversations(numbers, tails=self._journal.tails)

    def _pages(self, tenant_id: str | None) -> Iterator[list[int]]:
        after = 0
        while True:
            rows = self._connection.execute(
                "SELECT number FROM conversation WHERE number > :after"
                " AND (:tenant IS NULL OR tenant_id = :tenant) ORDER BY number LIMIT :limit",
                {"after": after, "tenant": tenant_id, "limit": _PAGE},
            )
            if not (numbers := [number for (number,) in rows]):
                return
            yield numbers
            after = numbers[-1]

    # -- as a store reads it, and never writes ---------------------------------------------------

    @property
    def tails(self) -> dict[int, Tail]:
        """The ends of conversations' logs."""
        return self._journal.tails

    @contextmanager
    def reading(self) -> Iterator[StoredReader]:
        """Read it."""
        with sqlite_errors():
            yield self.reader

    def apply_together(self, batches: Sequence[OwnedBatch]) -> list[Applied]:  # noqa: ARG002
        """Write nothing."""
        raise StorageUnavailable("it is only read")

    def claim(
        self,
        owner: str,  # noqa: ARG002
        number: int | None,  # noqa: ARG002
        *,
        takes_from: Callable[[str], bool],  # noqa: ARG002
    ) -> list[int]:
        """Write nothing."""
        raise StorageUnavailable("it is only read")

    # -- what is wrong ---------------------------------------------------------------------------

    def problems(self) -> Iterator[str | None]:
        """Give of each conversation what is wrong with it, None where it can be read whole."""
        for numbers in self._pages(None):
            for number in numbers:
                try:
                    (stored,) = self.reader.conversations([number], tails=self.tails)
                except sqlite3.DatabaseError as error:
                    yield f"conversation {number}: {error}"
                    continue
                problem = self._problem_of(stored)
                yield problem and f"{stored.tenant_id}/{stored.session_id}: {problem}"

    def _problem_of(self, stored: StoredConversation) -> str | None:
        """Return why a conversation cannot be read whole, None where it can."""
        if stored.unreadable is not None:
            return stored.unreadable
        try:
            after = stored.oldest_index - 1
            tail = self.tails.get(stored.number)
            while page := self.reader.frames(
                stored.number, tail=tail, after=after, limit=_PAGE, max_bytes=_FRAMES_BYTES
            ):
                if page[0].index != after + 1:
                    return f"event {after + 1} is missing"
                after = page[-1].index
            if after < stored.last_index:
                return f"event {after + 1} is missing"
            after = 0
            while messages := self.reader.messages(
                stored.number, after=after, limit=_PAGE, max_bytes=PAGE_BYTES
            ):
                after = messages[-1].position
            ends = {each.position for each in self.reader.checkpoints(stored.number)}
            for at in (None, *ends):
                self.reader.memories(stored.number, at=at)
        except (ConversationUnreadable, sqlite3.DatabaseError) as error:
            return str(error)
        return None


def check_file(path: Path, *, sealing: Sealing) -> tuple[int, list[str]]:
    """Read all that is stored; return how many conversations were found, and all that is wrong.

    `StorageRefused` for what is none of ours, which is not the same as damaged.
    """
    _require_file(path)
    problems = [f"the file: {each}" for each in _damage(path)]
    checked = 0
    try:
        with closing(SqliteSnapshot(path, sealing=sealing)) as snapshot, sqlite_errors():
            for problem in snapshot.problems():
                checked += 1
                problems += [] if problem is None else [problem]
    except StorageBroken as error:
        problems.append(f"the conversations after these cannot be read: {error.problem}")
    return checked, problems


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise StorageRefused(str(path), problem="there is no file")


def _damage(path: Path) -> Iterator[str]:
    try:
        with closing(open_reader(path)) as connection:
            for (found,) in connection.execute("PRAGMA integrity_check"):
                if found != "ok":
                    yield found
    except sqlite3.DatabaseError as error:
        yield str(error)
