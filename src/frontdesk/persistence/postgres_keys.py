"""Tenants' keys in the database, for nodes without a directory that all of them see.

They are encrypted there under the nodes' master secret, as they are in files. What they seal is in
the same backups: removing a key does not reach those.
"""

from __future__ import annotations

from frontdesk.persistence import postgres_statements as sql
from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.persistence.postgres_connections import DatabaseConnections

__all__ = ["DatabaseKeys"]


class DatabaseKeys:
    """Store keys in a table, each in a commit of its own. Any thread may call it."""

    def __init__(self, connections: DatabaseConnections) -> None:
        self._connections = connections

    def add(self, key_id: str, wrapped: bytes) -> None:
        """Store a key."""
        values = {"key_id": key_id, "wrapped": wrapped}
        self._connections.run(lambda one: one.execute(sql.KEY_ADDED, values))

    def read(self, key_id: str) -> bytes:
        """Return a key; `ConversationUnreadable` where there is none."""
        row = self._connections.run(lambda one: one.execute(sql.KEY, [key_id]).fetchone())
        if row is None:
            raise ConversationUnreadable("its tenant's key is not in the database")
        return bytes(row[0])

    def remove(self, key_id: str) -> None:
        """Remove a key."""
        self._connections.run(lambda one: one.execute(sql.KEY_REMOVED, [key_id]))
