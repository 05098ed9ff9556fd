"""Taking over what no living node owns.

The owner's row is locked first: that waits for the batch it has in flight, and a batch that comes
later waits for this, and then finds out that the conversation is another's. An owner that is said
to be dead and holds its row nonetheless, because it was stopped in the middle of a batch, has its
connections ended: whatever it had not committed is undone.
"""

from __future__ import annotations

import threading
from typing import Any

import psycopg

from frontdesk.persistence import postgres_statements as sql
from frontdesk.persistence.postgres_connections import (
    BoundedConnection,
    DatabaseConnections,
    backend_name,
)

__all__ = ["DatabaseClaims"]

LOCK_WAIT_MS = 500
"""For so long a batch in flight is waited for before the connections of its node are ended."""

ATTEMPTS = 20
"""So often; where the account may not end them, the server does, after `WaitLimits.idle_s`."""


class DatabaseClaims:
    """Make conversations this node's, one call at a time; any thread may call it."""

    def __init__(self, connections: DatabaseConnections, *, node: str) -> None:
        self._connections, self._node = connections, node
        self._lock = threading.Lock()
        self._unsure: set[int] = set()
        """What an earlier call had, whose commit nobody knows the outcome of."""

    def claim(self, number: int | None, dead: frozenset[str] | None) -> list[int]:
        """Return the numbers of those that were another's before, and are not ended.

        `dead` names the owners that are; None says that all others are. What an owner has released,
        anybody may have.
        """
        values = {"node": self._node, "number": number}
        with self._lock:
            claimed = self._connections.run(lambda one: self._claim(one, values, dead))
            self._unsure.clear()
        return sorted(claimed)

    def _claim(
        self, connection: BoundedConnection, values: dict[str, Any], dead: frozenset[str] | None
    ) -> set[int]:
        owners = [
            owner
            for owner, is_entered in connection.execute(sql.OWNERS, values)
            if not is_entered or dead is None or owner in dead
        ]
        self._lock_rows(connection, owners)
        claimed = connection.execute(sql.CLAIM, {**values, "owners": owners}).fetchall()
        self._unsure.update(number for number, state in claimed if state != "ended")
        connection.execute("COMMIT")
        unsure = connection.execute(sql.STILL_OWNED, [list(self._unsure), self._node])
        return {number for (number,) in unsure}

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
