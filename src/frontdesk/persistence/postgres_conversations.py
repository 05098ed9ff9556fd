"""Conversations in PostgreSQL, for several nodes with one history between them.

**Each node has a row**, and its batches raise it first, which locks it (`postgres_writer.py`). So
one batch of a node is open at a time, and whoever takes a conversation over locks the owner's row
(`postgres_claims.py`): that waits for a batch in flight, and the next one finds out that the node
owns the conversation no longer. Nothing of it is written then, and the caller is told.

**A database that went back in time**, as a restored backup, has the row at a number below what this
process has committed. Nothing is written then, and `StorageBroken` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal

import psycopg

from frontdesk.persistence.conversations import PAGE_BYTES, Applied, StoredMessage
from frontdesk.persistence.operations import AnyOperation, TurnState
from frontdesk.persistence.postgres_claims import DatabaseClaims, OwnerStanding
from frontdesk.persistence.postgres_connections import (
    DatabaseAddress,
    DatabaseConnections,
    WaitLimits,
    failure_of,
)
from frontdesk.persistence.postgres_keys import DatabaseKeys
from frontdesk.persistence.postgres_reader import DatabaseReader
from frontdesk.persistence.postgres_schema import prepare_schema
from frontdesk.persistence.postgres_writer import NodeWriter, remove_doomed_keys
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.stored import (
    ListQuery,
    StoredAnswer,
    StoredCheckpoint,
    StoredConversation,
    StoredFrame,
    StoredMemory,
    StoredRequest,
    StoredTurn,
    WaitingConversation,
)

__all__ = ["PostgresConversations"]


class PostgresConversations:
    """Keep conversations in a database of PostgreSQL 14 or newer, as one of its nodes.

    Opening makes the tables, in the schema `schema`, where there are none. Raises
    `StorageUnavailable` where the database cannot be reached, and `StorageRefused` where it cannot
    be used.

    `owner` names this process among all that there ever were. `sealing` makes what encrypts, and
    is given the keys that lie in the database, for nodes that have no other place for them.
    `sync="edges"` syncs all but what is only events: those of the last moments are lost where the
    server crashes. `standing_of` says what is known of another owner, by default that it is dead;
    from one that may live on, what nobody asks for is claimed once its row was still for `hold_s`.
    """

    def __init__(
        self,
        address: DatabaseAddress,
        *,
        owner: str,
        sealing: Callable[[DatabaseKeys], Sealing],
        sync: Literal["always", "edges"] = "always",
        schema: str = "frontdesk",
        standing_of: Callable[[str], OwnerStanding] = lambda _: "dead",
        hold_s: float = 0.0,
        limits: WaitLimits = WaitLimits(),  # noqa: B008 - frozen
    ) -> None:
        self._connections = DatabaseConnections(address, schema=schema, node=owner, limits=limits)
        # Whoever reads may need a key meanwhile, and would wait for a connection that others have.
        self._to_keys = DatabaseConnections(address, schema=schema, node=owner, limits=limits)
        sealed = sealing(DatabaseKeys(self._to_keys))
        self._writer = NodeWriter(
            self._connections, node=owner, sealing=sealed, edges=sync == "edges"
        )
        self._claims = DatabaseClaims(
            self._connections, node=owner, standing_of=standing_of, hold_s=hold_s
        )
        self._reader = DatabaseReader(sealed, owner=owner)
        try:
            connection = self._connections.connect()
            try:
                prepare_schema(connection, schema)
                remove_doomed_keys(connection, sealed)
                self._writer.register(connection)
            except BaseException:
                with suppress(psycopg.Error):
                    connection.close()
                raise
        except psycopg.Error as error:
            raise failure_of(error, address) from None

    def close(self) -> None:
        """Release what this node owns, so that any other may claim it, and close what is open."""
        self._writer.release()
        self._connections.close()
        self._to_keys.close()

    # -- writing ---------------------------------------------------------------------------------

    def apply(self, operations: Sequence[AnyOperation]) -> Applied:
        """Carry out the operations in their order, in one transaction, and sync it.

        Where it raised `StorageUnavailable`, nobody knows whether it was committed: the next call
        has the same operations first, and what was is not done again.
        """
        return self._writer.apply(operations)

    def claim(self, number: int | None = None, *, dead: frozenset[str] | None = None) -> list[int]:
        """Make what has no living owner this node's: one conversation, or all; return which.

        Those that are not ended and were another owner's before. `dead` are the owners that are
        known to be; None asks `standing_of`.
        """
        claimed = self._claims.claim(number, dead)
        self._writer.forget(claimed)
        return claimed

    def waiting_elsewhere(self, *, after: int, limit: int) -> list[WaitingConversation]:
        """Return what has turns to end, and no owner that lives; in the order of their numbers."""
        return self._claims.waiting_elsewhere(after=after, limit=limit)

    # -- reading ---------------------------------------------------------------------------------

    def unfinished(self) -> list[StoredConversation]:
        """Return this node's conversations that are live, or have turns that are not ended."""
        return self._connections.run(self._reader.unfinished)

    def find(
        self, tenant_id: str, session_id: str, *, fence: int | None = None
    ) -> StoredConversation | None:
        """Return the newest conversation of an id, or the one with this fence."""
        find = self._reader.find
        return self._connections.run(lambda one: find(one, tenant_id, session_id, fence=fence))

    def page(self, listed: ListQuery) -> list[StoredConversation]:
        """Return a page of a tenant's conversations, in the order of their numbers."""
        return self._connections.run(lambda one: self._reader.page(one, listed))

    def count(self, tenant_id: str) -> int:
        """Return how many conversations a tenant has that are stored."""
        return self._connections.run(lambda one: self._reader.count(one, tenant_id))

    def frames(self, number: int, *, after: int, limit: int, max_bytes: int) -> list[StoredFrame]:
        """Return events after an index, at least one if there is one, in order."""
        return self._connections.run(
            lambda one: self._reader.frames(
                one, number, after=after, limit=limit, max_bytes=max_bytes
            )
        )

    def messages(
        self, number: int, *, after: int = 0, limit: int = 1000, max_bytes: int = PAGE_BYTES
    ) -> list[StoredMessage]:
        """Return messages after a position, oldest first."""
        return self._connections.run(
            lambda one: self._reader.messages(
                one, number, after=after, limit=limit, max_bytes=max_bytes
            )
        )

    def last_messages(self, number: int, *, limit: int, max_bytes: int) -> list[StoredMessage]:
        """Return the newest messages, oldest first; at least one, if there is one."""
        return self._connections.run(
            lambda one: self._reader.last_messages(one, number, limit=limit, max_bytes=max_bytes)
        )

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
        return self._connections.run(
            lambda one: self._reader.turns(
                one, number, states=states, after=after, limit=limit, max_bytes=max_bytes
            )
        )

    def turn(self, number: int, request_id: str) -> StoredTurn | None:
        """Return one turn."""
        return self._connections.run(lambda one: self._reader.turn(one, number, request_id))

    def latest_turn(self, number: int) -> StoredTurn | None:
        """Return the newest turn, queued or not."""
        return self._connections.run(lambda one: self._reader.latest_turn(one, number))

    def memories(self, number: int, *, at: int | None = None) -> list[StoredMemory]:
        """Return what agents left, oldest first: now, or at a checkpoint."""
        return self._connections.run(lambda one: self._reader.memories(one, number, at=at))

    def requests(self, number: int) -> list[StoredRequest]:
        """Return the approvals and questions of turns that have not ended, oldest first."""
        return self._connections.run(lambda one: self._reader.requests(one, number))

    def checkpoints(self, number: int) -> list[StoredCheckpoint]:
        """Return the checkpoints, oldest first."""
        return self._connections.run(lambda one: self._reader.checkpoints(one, number))

    def answer(self, slot: str, *, now_ms: int) -> StoredAnswer | None:
        """Return the answer that is stored in a slot, while its time has not run out."""
        return self._connections.run(lambda one: self._reader.answer(one, slot, now_ms=now_ms))

    def greatest_fence(self) -> int:
        """Return the greatest fence of all conversations, 0 where there is none."""
        return self._connections.run(self._reader.greatest_fence)

    def expired(
        self, *, before_ms: int, limit: int, after: int = 0, blueprint: str | None = None
    ) -> list[StoredConversation]:
        """Return those that nobody used since, of this node and of owners that do not live."""
        return self._connections.run(
            lambda one: self._reader.expired(
                one,
                held=self._claims.held_by_others(one),
                before_ms=before_ms,
                limit=limit,
                after=after,
                blueprint=blueprint,
            )
        )
