"""Taking over what no living node owns.

The owner's row is locked first: that waits for the batch it has in flight, and a batch that comes
later waits for this, and then finds out that the conversation is another's. An owner that is said
to be dead and holds its row nonetheless, because it was stopped in the middle of a batch, has its
connections ended: whatever it had not committed is undone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

import psycopg

from frontdesk.persistence import postgres_statements as sql
from frontdesk.persistence.postgres_connections import (
    BoundedConnection,
    DatabaseConnections,
    backend_name,
)
from frontdesk.persistence.stored import WaitingConversation

__all__ = ["DatabaseClaims", "OwnerStanding"]

OwnerStanding = Literal["lives", "dead", "buried", "unknown"]
"""What is known of an owner. One that is buried may live on, cut off from those who buried it."""

LOCK_WAIT_MS = 500
"""For so long a batch in flight is waited for before the connections of its node are ended."""

CLAIMED_AT_ONCE = 2000
"""So many conversations change their owner in one transaction: none takes long."""

ATTEMPTS = 20
"""So often; where the account may not end them, the server does, after `WaitLimits.idle_s`."""


class DatabaseClaims:
    """Make conversations this node's, one call at a time; any thread may call it."""

    def __init__(
        self,
        connections: DatabaseConnections,
        *,
        node: str,
        standing_of: Callable[[str], OwnerStanding],
        hold_s: float,
    ) -> None:
        self._connections, self._node = connections, node
        self._standing_of, self._stillness_ms = standing_of, hold_s * 1000
        self._lock = threading.Lock()
        self._unsure: set[int] = set()
        """What an earlier call had, whose commit nobody knows the outcome of."""

    def claim(self, number: int | None, dead: frozenset[str] | None) -> list[int]:
        """Return the numbers of those that were another's before, and are not ended.

        `dead` names the owners that are; None asks `standing_of`. What an owner has released,
        anybody may have.
        """
        values = {"node": self._node, "number": number}
        with self._lock:
            claimed = self._connections.run(lambda one: self._claim(one, values, dead))
            self._unsure.clear()
        return sorted(claimed)

    def waiting_elsewhere(self, *, after: int, limit: int) -> list[WaitingConversation]:
        """Return what is others', has turns to end, and may be had although nobody asks for it.

        In the order of their numbers, after one. Costs as much as there are turns that wait or run.
        """

        def ask(connection: BoundedConnection) -> list[WaitingConversation]:
            held = self.held_by_others(connection)
            values = {"node": self._node, "held": held, "after": after, "limit": limit}
            return [
                WaitingConversation(*row)
                for row in connection.execute(sql.WAITING_ELSEWHERE, values)
            ]

        return self._connections.run(ask)

    def held_by_others(self, connection: BoundedConnection) -> list[str]:
        """Return the owners from which nothing may be had that nobody asks for."""
        return [
            owner
            for owner, still_ms in connection.execute(sql.OTHERS, [self._node])
            if not self._may_have(owner, still_ms, None, is_asked_for=False)
        ]

    def _claim(
        self, connection: BoundedConnection, values: dict[str, Any], dead: frozenset[str] | None
    ) -> set[int]:
        owners = [
            owner
            for owner, still_ms in connection.execute(sql.OWNERS, values)
            if self._may_have(owner, still_ms, dead, is_asked_for=values["number"] is not None)
        ]
        after, is_done = 0, not owners
        while not is_done:
            self._lock_rows(connection, owners)
            some = {**values, "owners": owners, "after": after, "limit": CLAIMED_AT_ONCE}
            claimed = connection.execute(sql.CLAIM, some).fetchall()
            self._unsure.update(number for number, state in claimed if state != "ended")
            connection.execute("COMMIT")
            after = max((number for number, _ in claimed), default=0)
            is_done = len(claimed) < CLAIMED_AT_ONCE
        if not self._unsure:
            return set()
        unsure = connection.execute(sql.STILL_OWNED, [list(self._unsure), self._node])
        return {number for (number,) in unsure}

    def _may_have(
        self, owner: str, still_ms: int | None, dead: frozenset[str] | None, *, is_asked_for: bool
    ) -> bool:
        """Tell whether this node may have what an owner has, whose row was still for so long."""
        if still_ms is None:
            return True  # released
        if dead is not None:
            return owner in dead
        standing = self._standing_of(owner)
        if standing == "dead" or (standing == "buried" and is_asked_for):
            return True
        return standing != "lives" and still_ms >= self._stillness_ms

    def _lock_rows(self, connection: BoundedConnection, owners: list[str]) -> None:
        """Lock the owners' rows, in an order that is everybody's; the transaction stays open."""
        for attempt in range(1, ATTEMPTS + 1):
            connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            connection.execute(f"SET LOCAL lock_timeout = {LOCK_WAIT_MS}")
            try:
                connection.execute(sql.LOCK_NODES, [owners])
            except psycopg.errors.LockNotAvailable:
                connection.execute("ROLLBACK")
                if attempt == ATTEMPTS:
                    raise
                names = [backend_name(owner) for owner in owners]
                self._connections.end_backends(connection, names)
            else:
                return
