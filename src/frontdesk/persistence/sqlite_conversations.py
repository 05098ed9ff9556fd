"""Conversations in one SQLite file: what a node has of it, and the whole of it.

The supervisor of several workers opens the file for all of them, and each has its own; a gateway
alone has all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from frontdesk.persistence.conversations import PAGE_BYTES, Applied, OwnedBatch, StoredMessage
from frontdesk.persistence.disk_reserve import DiskReserve
from frontdesk.persistence.operations import AnyOperation, TurnState
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_database import ERASE_WITHIN_S, SqliteDatabase, Sync
from frontdesk.persistence.sqlite_snapshot import SqliteSnapshot
from frontdesk.persistence.stored import (
    ListQuery,
    StoredAnswer,
    StoredCheckpoint,
    StoredConversation,
    StoredFrame,
    StoredMemory,
    StoredRequest,
    StoredTurn,
)
from frontdesk.persistence.stored_reader import StoredReader

CHUNK = 500
"""Conversations that one statement names."""


class OwnedConversations:
    """An open file as one owner sees it: a `Conversations`. Closing it closes nothing.

    It claims from those that do not live.
    """

    def __init__(
        self, database: SqliteDatabase | SqliteSnapshot, *, owner: str, lives: Callable[[str], bool]
    ) -> None:
        self._database = database
        self._owner = owner
        self._lives = lives

    def apply(self, operations: Sequence[AnyOperation]) -> Applied:
        """Carry out the operations in their order, in one transaction, and sync it."""
        return self._database.apply_together([OwnedBatch(self._owner, operations)])[0]

    def claim(self, number: int | None = None, *, dead: frozenset[str] | None = None) -> list[int]:
        """Make what has no living owner this one's: one conversation, or all; return which."""

        def takes_from(other: str) -> bool:
            return not self._lives(other) and (dead is None or other in dead)

        return self._database.claim(self._owner, number, takes_from=takes_from)

    def close(self) -> None:
        """Close nothing: the file is somebody else's."""

    # -- reading -----------------------------------------------------------------------------------

    def unfinished(self) -> list[StoredConversation]:
        """Return this owner's conversations that are live, or have turns that are not ended."""
        with self._database.reading() as reader:
            return self._conversations(reader, reader.unfinished(self._owner))

    def expired(
        self, *, before_ms: int, limit: int, after: int = 0, blueprint: str | None = None
    ) -> list[StoredConversation]:
        """Return those that nobody used since, of this owner and of those that do not live."""
        with self._database.reading() as reader:
            numbers = reader.expired(
                self._owner,
                lives=self._lives,
                before_ms=before_ms,
                limit=limit,
                after=after,
                blueprint=blueprint,
            )
            return self._conversations(reader, numbers, with_options=False)

    def find(
        self, tenant_id: str, session_id: str, *, fence: int | None = None
    ) -> StoredConversation | None:
        """Return the newest conversation of an id, or the one with this fence."""
        with self._database.reading() as reader:
            numbers = reader.newest(tenant_id, session_id, fence=fence)
            return next(iter(self._conversations(reader, numbers)), None)

    def page(self, listed: ListQuery) -> list[StoredConversation]:
        """Return a page of a tenant's conversations, in the order of their numbers."""
        with self._database.reading() as reader:
            return self._conversations(reader, reader.numbers(listed), with_options=False)

    def count(self, tenant_id: str) -> int:
        """Return how many conversations a tenant has that are stored."""
        with self._database.reading() as reader:
            return reader.count(tenant_id)

    def greatest_fence(self) -> int:
        """Return the greatest fence of all conversations, 0 where there is none."""
        with self._database.reading() as reader:
            return reader.greatest_fence()

    def frames(self, number: int, *, after: int, limit: int, max_bytes: int) -> list[StoredFrame]:
        """Return events after an index, at least one if there is one, in order."""
        tail = self._database.tails.get(number)  # before the snapshot, see `journal_index`
        with self._database.reading() as reader:
            return reader.frames(number, tail=tail, after=after, limit=limit, max_bytes=max_bytes)

    def messages(
        self, number: int, *, after: int = 0, limit: int = 1000, max_bytes: int = PAGE_BYTES
    ) -> list[StoredMessage]:
        """Return messages after a position, oldest first."""
        with self._database.reading() as reader:
            return reader.messages(number, after=after, limit=limit, max_bytes=max_bytes)

    def last_messages(self, number: int, *, limit: int, max_bytes: int) -> list[StoredMessage]:
        """Return the newest messages, oldest first, at least one if there is one."""
        with self._database.reading() as reader:
            return reader.last_messages(number, limit=limit, max_bytes=max_bytes)

    def turns(
        self,
        number: int,
        *,
        states: tuple[TurnState, ...] = (),
        after: int = 0,
        limit: int = 1000,
        max_bytes: int | None = None,
    ) -> list[StoredTurn]:
        """Return turns after a position, oldest first; of these states, if any are named."""
        with self._database.reading() as reader:
            return reader.turns(
                number, states=states, after=after, limit=limit, max_bytes=max_bytes
            )

    def turn(self, number: int, request_id: str) -> StoredTurn | None:
        """Return one turn."""
        with self._database.reading() as reader:
            return reader.turn(number, request_id)

    def latest_turn(self, number: int) -> StoredTurn | None:
        """Return the newest turn, queued or not."""
        with self._database.reading() as reader:
            return reader.latest_turn(number)

    def memories(self, number: int, *, at: int | None = None) -> list[StoredMemory]:
        """Return what agents left, oldest first."""
        with self._database.reading() as reader:
            return reader.memories(number, at=at)

    def requests(self, number: int) -> list[StoredRequest]:
        """Return the approvals and questions of turns that have not ended, oldest first."""
        with self._database.reading() as reader:
            return reader.requests(number)

    def checkpoints(self, number: int) -> list[StoredCheckpoint]:
        """Return the checkpoints, oldest first."""
        with self._database.reading() as reader:
            return reader.checkpoints(number)

    def answer(self, slot: str, *, now_ms: int) -> StoredAnswer | None:
        """Return the answer that is stored in a slot, while its time has not run out."""
        with self._database.reading() as reader:
            return reader.answer(slot, now_ms=now_ms)

    def _conversations(
        self, reader: StoredReader, numbers: Sequence[int], *, with_options: bool = True
    ) -> list[StoredConversation]:
        tails = self._database.tails
        return [
            each
            for start in range(0, len(numbers), CHUNK)
            for each in reader.conversations(
                numbers[start : start + CHUNK], tails=tails, with_options=with_options
            )
        ]


class SqliteConversations(OwnedConversations):
    """Keep conversations in a file, which is this process's alone until `close`.

    The caller sees to that, by a lock of its own. Opening finishes the erasures that the process
    before could not, and reads the journal, 16 MiB at most. `StorageRefused` where the file is
    newer, damaged, not of conversations, or on a network. What is erased is nowhere in the
    directory within `erase_within_s` and a moment; `wall_ms` is the clock by which answers run out.
    `reserve` is what is freed where the disk is full.
    """

    def __init__(
        self,
        path: Path,
        *,
        owner: str,
        sealing: Sealing,
        sync: Sync = "always",
        erase_within_s: float = ERASE_WITHIN_S,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        reserve: DiskReserve | None = None,
    ) -> None:
        database = SqliteDatabase(
            path,
            sealing=sealing,
            sync=sync,
            erase_within_s=erase_within_s,
            wall_ms=wall_ms,
            reserve=reserve or DiskReserve(path.with_suffix(".reserve"), size=0, after_s=0.0),
        )
        super().__init__(database, owner=owner, lives=lambda other: other == owner)

    def apply_together(self, batches: Sequence[OwnedBatch]) -> list[Applied]:
        """Carry out batches of several owners in one transaction, and sync it once."""
        return self._database.apply_together(batches)

    def owned_by(self, owner: str, *, lives: Callable[[str], bool]) -> OwnedConversations:
        """Return the file as another owner sees it, which claims from those that do not live."""
        return OwnedConversations(self._database, owner=owner, lives=lives)

    def close(self) -> None:
        """Close the file, once nobody reads or writes. Twice is once."""
        self._database.close()
