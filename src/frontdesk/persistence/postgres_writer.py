"""A node's batches, one after the other, each in one transaction that raises the node's own row.

A commit of unknown outcome, where the connection was lost before its answer, is found out by that
row: its sequence was raised or it was not. It is read under its lock, which a transaction that is
still open holds; and one that had only been sent, and is carried out later, would raise the row to
a number that it has already, and does not.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from frontdesk.persistence import postgres_statements as sql
from frontdesk.persistence.conversations import Applied
from frontdesk.persistence.errors import ConversationUnreadable, StorageBroken
from frontdesk.persistence.operations import AnyOperation, FramesAppended
from frontdesk.persistence.postgres_batch import Batch
from frontdesk.persistence.postgres_connections import (
    BoundedConnection,
    DatabaseConnections,
    backend_name,
    failure_of,
    is_contended,
    is_lost,
)
from frontdesk.persistence.postgres_rows import Bigints, JournalRow, OwnedRow, Statement, Tail
from frontdesk.persistence.sealing import KeyOf, Sealing

__all__ = ["NodeWriter"]

ATTEMPTS = 3
"""So often a batch is tried before it is said that it cannot be written now."""

EXPIRE_EVERY_S = 60.0
"""So often a batch removes stored answers whose time has run out, too."""

MAX_TAILS = 50_000
"""Of so many conversations it is known where their log ends; of others it is read again."""

Row = tuple[Any, ...]


@dataclass(slots=True)
class _Sent:
    """A batch that may be committed: its number, what is in it, and what was left out."""

    sequence: int
    operations: list[AnyOperation]
    lost: frozenset[int] = frozenset()


class NodeWriter:
    """Write what a node has to write. One thread at a time; it is closed by its owner."""

    def __init__(
        self, connections: DatabaseConnections, *, node: str, sealing: Sealing, edges: bool
    ) -> None:
        self._connections, self._node, self._sealing = connections, node, sealing
        self._edges = edges
        self._writing = threading.Lock()
        self._connection: BoundedConnection | None = None
        self._backend_pid = 0
        self._sequence = 0
        self._sent: _Sent | None = None
        self._done: _Sent | None = None
        self._tails: dict[int, Tail] = {}
        self._keys: dict[str, str] = {}
        self._expire_at_s = time.monotonic() + EXPIRE_EVERY_S

    def register(self, connection: BoundedConnection) -> None:
        """Enter the node, on a connection that is the writer's from here on.

        One that is entered already is raised, so that another process of that name is refused.
        """
        row = connection.execute(sql.REGISTER, {"node": self._node}).fetchone()
        self._connection, self._sequence = connection, row[0] if row else 0
        self._backend_pid = connection.info.backend_pid

    def forget(self, numbers: Iterable[int]) -> None:
        """Read again where their logs end: somebody else may have written them meanwhile."""
        for number in numbers:
            self._tails.pop(number, None)

    def release(self) -> None:
        """Let everybody have what the node owns, if that can be said now; then close."""
        with self._writing, suppress(psycopg.Error):
            if self._connection is not None:
                self._connection.execute(sql.RELEASE, [self._node])
        self._abandon()

    # -- a batch ---------------------------------------------------------------------------------

    def apply(self, operations: Sequence[AnyOperation]) -> Applied:
        """Carry them out; raises `StorageUnavailable`, `StorageBroken`."""
        with self._writing:
            for attempt in range(1, ATTEMPTS + 1):
                connection = self._connected()
                try:
                    return self._apply(connection, operations)
                except psycopg.Error as error:
                    self._abandon()
                    if attempt == ATTEMPTS or not (is_lost(error) or is_contended(error)):
                        raise failure_of(error, self._connections.address) from None
                except BaseException:
                    self._abandon()
                    raise
        raise AssertionError("unreachable")

    def _connected(self) -> BoundedConnection:
        if self._connection is None:
            try:
                connection = self._connection = self._connections.connect()
                # The one before may still wait for what never comes, with our row locked.
                names = [backend_name(self._node)]
                self._connections.end_backends(connection, names, pid=self._backend_pid)
                self._backend_pid = connection.info.backend_pid
            except psycopg.Error as error:
                self._abandon()
                raise failure_of(error, self._connections.address) from None
        return self._connection

    def _abandon(self) -> None:
        """Give the connection up, with whatever is open on it, and all that was only assumed."""
        self._tails.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _apply(self, connection: BoundedConnection, operations: Sequence[AnyOperation]) -> Applied:
        """Write one batch: find out what became of the last, raise, leave out, write, commit."""
        if self._sent is not None:
            self._find_out(connection, self._sent)
        lost: frozenset[int] = frozenset()
        if (done := self._done) and list(operations[: len(done.operations)]) == done.operations:
            operations, lost = operations[len(done.operations) :], done.lost
        if not operations:
            return Applied(lost)
        sent = self._sent = _Sent(self._sequence + 1, list(operations))
        batch = Batch(operations, owner=self._node, sealing=self._sealing, tails=self._tails)
        statements = self._begin(connection, batch, sent)
        sent.lost = frozenset(batch.lost)
        with connection.pipeline():
            if self._edges and all(isinstance(each, FramesAppended) for each in operations):
                connection.execute("SET LOCAL synchronous_commit = off")
            for statement, values in statements:
                connection.execute(statement.encode(), values)
            if time.monotonic() >= self._expire_at_s:
                self._expire_at_s = time.monotonic() + EXPIRE_EVERY_S
                connection.execute(sql.ANSWERS_EXPIRED, [time.time_ns() // 1_000_000])
            connection.execute("COMMIT")
        self._sequence, self._sent, self._done = sent.sequence, None, None
        self.forget(batch.lost)
        if len(self._tails) > MAX_TAILS:
            self._tails.clear()
        if batch.erased_tenants:
            remove_doomed_keys(connection, self._sealing)
        return Applied(sent.lost | lost)

    def _find_out(self, connection: BoundedConnection, sent: _Sent) -> None:
        # The row is locked, so this commits, and waits for a replica where commits do: what is
        # found is there too. Looking alone would find what the primary has and the replica lacks.
        with connection.transaction():
            row = connection.execute(sql.SEQUENCE, [self._node]).fetchone()
        if row == (sent.sequence,):
            self._sequence, self._done = sent.sequence, sent
        else:
            self._check(row, self._sequence)
        self._sent = None

    def _check(self, row: Row | None, expected: int) -> None:
        if row is None:
            raise StorageBroken(
                "this node's row is gone: the database has gone back in time, as a replica that "
                "took over without it, or a backup; or another process has released it"
            )
        if row[0] < expected:
            raise StorageBroken(
                f"the database has gone back in time: {expected} batches of this node were "
                f"committed, and it has {row[0]}. Did a replica take over that lacked the last, "
                "was a backup restored, or did the server crash without having synced "
                "(sync = 'edges', fsync = off)?"
            )
        if row[0] > expected:
            raise StorageBroken("another process writes under this node's name")

    def _begin(
        self, connection: BoundedConnection, batch: Batch, sent: _Sent
    ) -> Sequence[Statement]:
        """Raise the node's row, and return what is to be written, in the transaction now open."""
        compressing, logging, tenants = batch.compressing, batch.logging, batch.opening_tenants
        with connection.pipeline():
            connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            if batch.erased_tenants:
                # Their owners' batches in flight are waited for, in an order that is everybody's.
                connection.execute(sql.LOCK_OWNERS, [self._node, batch.erased_tenants])
            raised = connection.execute(sql.RAISE, [self._node])
            rows = connection.execute(sql.ROWS, [Bigints(batch.numbers)])
            ends = packed = None
            if logging:
                ends = connection.execute(sql.LOG_ENDS, [Bigints(logging)])
            if compressing:
                packed = connection.execute(sql.JOURNAL_ROWS, [Bigints(compressing)])
            keys = connection.execute(sql.TENANT_KEYS, [tenants]) if tenants else None
        self._check(raised.fetchone(), sent.sequence)
        owned = [OwnedRow._make(row) for row in rows.fetchall()]
        for number, last_index, size in ends or ():
            self._tails[number] = Tail(last_index, size)
        return batch.statements(
            owned,
            tenant_keys=self._tenant_keys(connection, tenants, dict(keys or ())),
            journal=self._journal(compressing, owned, packed or ()),
        )

    def _journal(
        self, numbers: Sequence[int], owned: Sequence[OwnedRow], rows: Iterable[Row]
    ) -> dict[int, list[JournalRow]]:
        """Return what is in the journal of those that are to be compressed, in clear.

        Those that cannot be decrypted any more stay as they are.
        """
        found: defaultdict[int, list[JournalRow]] = defaultdict(list)
        keys = {row.number: KeyOf(row.tenant_id, row.number, row.key_id) for row in owned}
        unreadable = set()
        for number, fence, first, last, stored in rows:
            try:
                packed = self._sealing.open(stored, key=keys[number], column=f"journal:{first}")
            except ConversationUnreadable:
                unreadable.add(number)
            else:
                found[number].append(JournalRow(fence, first, last, packed))
        return {number: found[number] for number in numbers if number not in unreadable}

    def _tenant_keys(
        self, connection: BoundedConnection, tenants: Sequence[str], found: dict[str, str]
    ) -> Mapping[str, str]:
        """Return the tenants' keys; make those that are missing, or that nobody can read.

        Two writes: a key is stored before the commit that names it. A crash between leaves a key
        that nothing was sealed with; the other way round, rows that nobody opens.
        """
        for tenant_id in tenants:
            key_id = found.get(tenant_id)
            if key_id is not None and self._sealing.has_key(tenant_id, key_id):
                continue
            made = self._keys.get(tenant_id) or self._sealing.new_key(tenant_id)
            self._keys[tenant_id] = made
            row = connection.execute(sql.NEW_KEY, [tenant_id, made, key_id]).fetchone()
            if row is not None and row[0] != made:
                self._sealing.remove_key(made)
            del self._keys[tenant_id]
            found[tenant_id] = row[0] if row else made
        return found


def remove_doomed_keys(connection: BoundedConnection, sealing: Sealing) -> None:
    """Remove the keys of tenants that are erased; what fails is done by who starts next."""
    with suppress(psycopg.Error):
        for (key_id,) in connection.execute("SELECT key_id FROM doomed_key").fetchall():
            sealing.remove_key(key_id)
            connection.execute("DELETE FROM doomed_key WHERE key_id = %s", [key_id])
