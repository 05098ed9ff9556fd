"""What a store of conversations can do: SQLite's and PostgreSQL's are alike to everybody else.

All methods block, and each may be called from any thread; `apply` is called by one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from frontdesk.persistence.operations import AnyOperation, TurnState
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

PAGE_BYTES: int = 1024 * 1024
"""Of what is read at once, where nobody asks for another size."""


class Applied(msgspec.Struct, frozen=True):
    """What came of a batch: the numbers of conversations that are another node's by now.

    Nothing of those was written; everything else was, and is on the disk.
    """

    lost: frozenset[int] = frozenset()


class OwnedBatch(NamedTuple):
    """A batch of one node."""

    owner: str
    operations: Sequence[AnyOperation]


class StoredMessage(NamedTuple):
    """A message of the history, encoded, under its position."""

    position: int
    message: bytes


class Conversations(Protocol):
    """Conversations on a disk. `StorageUnavailable` where it cannot be reached or is full.

    `StorageBroken` where a sync or a read failed: whoever gets it ends the process. What is
    another tenant's is as if it were not there.
    """

    def apply(self, operations: Sequence[AnyOperation]) -> Applied:
        """Carry out the operations in their order, in one transaction, and sync it.

        Carrying out the same batch again, as after a commit of unknown outcome, changes nothing.
        """
        ...

    def claim(self, number: int | None = None, *, dead: frozenset[str] | None = None) -> list[int]:
        """Make what has no living owner this node's: one conversation, or all; return which.

        `dead` are the owners that are known to be; None leaves that to the store, for which
        everybody else is dead where it has one user. Those that have ended change their owner too,
        and are not returned.
        """
        ...

    def unfinished(self) -> list[StoredConversation]:
        """Return this node's conversations that are live, or have turns that are not ended."""
        ...

    def find(
        self, tenant_id: str, session_id: str, *, fence: int | None = None
    ) -> StoredConversation | None:
        """Return the newest conversation of an id, or the one with this fence."""
        ...

    def page(self, listed: ListQuery) -> list[StoredConversation]:
        """Return a page of a tenant's conversations, in the order of their numbers.

        Without their options, which may be large.
        """
        ...

    def count(self, tenant_id: str) -> int:
        """Return how many conversations a tenant has that are stored."""
        ...

    def frames(self, number: int, *, after: int, limit: int, max_bytes: int) -> list[StoredFrame]:
        """Return events after an index, at least one if there is one, in order."""
        ...

    def messages(
        self, number: int, *, after: int = 0, limit: int = 1000, max_bytes: int = PAGE_BYTES
    ) -> list[StoredMessage]:
        """Return messages after a position, oldest first, at least one if there is one."""
        ...

    def last_messages(self, number: int, *, limit: int, max_bytes: int) -> list[StoredMessage]:
        """Return the newest messages, oldest first."""
        ...

    def turns(
        self,
        number: int,
        *,
        states: tuple[TurnState, ...] = (),
        after: int = 0,
        limit: int = 1000,
        max_bytes: int | None = None,
    ) -> list[StoredTurn]:
        """Return turns after a position, oldest first; of these states, if any are named.

        With `max_bytes` of prompts and what came with them, but at least one if there is one.
        """
        ...

    def turn(self, number: int, request_id: str) -> StoredTurn | None:
        """Return one turn."""
        ...

    def latest_turn(self, number: int) -> StoredTurn | None:
        """Return the newest turn, queued or not."""
        ...

    def memories(self, number: int, *, at: int | None = None) -> list[StoredMemory]:
        """Return what agents left, oldest first.

        `at` the position of a checkpoint it is what there was then. At any other it is what is
        left of that: what was replaced is held for checkpoints alone.
        """
        ...

    def requests(self, number: int) -> list[StoredRequest]:
        """Return the approvals and questions of turns that have not ended, oldest first."""
        ...

    def checkpoints(self, number: int) -> list[StoredCheckpoint]:
        """Return the checkpoints, oldest first."""
        ...

    def answer(self, slot: str, *, now_ms: int) -> StoredAnswer | None:
        """Return the answer that is stored in a slot, while its time has not run out."""
        ...

    def greatest_fence(self) -> int:
        """Return the greatest fence of all conversations, 0 where there is none."""
        ...

    def expired(
        self, *, before_ms: int, limit: int, after: int = 0, blueprint: str | None = None
    ) -> list[StoredConversation]:
        """Return those that nobody used since, are not live, and have no turn waiting.

        This node's, and those that it may claim. In the order of their numbers, after one; of a
        blueprint, if one is named. Without their options.
        """
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class JointConversations(Protocol):
    """An open store that one process writes for several nodes: the supervisor for its workers."""

    def apply_together(self, batches: Sequence[OwnedBatch]) -> list[Applied]:
        """Carry out batches of several nodes in one transaction, and sync it once.

        Each as `Conversations.apply` would: what its owner has no longer is left out of it.
        """
        ...

    def owned_by(self, owner: str, *, lives: Callable[[str], bool]) -> Conversations:
        """Return the store as this owner sees it, which claims from those that do not live.

        Its `close` closes nothing.
        """
        ...

    def close(self) -> None:
        """Close what is open."""
        ...
