"""Operations as SQLite carries them out: one object a transaction, one method an operation.

Each may be carried out again with the batch that it was in: what is there already stays as it is.
What concerns the conversation's own row is gathered, and written once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from frontdesk.persistence import operations as ops
from frontdesk.persistence.conversations import Applied
from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.persistence.journal_index import JournalIndex, Tail
from frontdesk.persistence.schema import OF_A_CONVERSATION
from frontdesk.persistence.sealing import CLEAR, KeyOf, Sealing
from frontdesk.persistence.sqlite_log import SqliteLog

MIN_TURN_BYTES: int = 16 * 1024
"""At a turn's end, less than this stays in the journal: a small segment compresses badly."""

TURN = "number = ? AND request_id = ?"
WAITS = "state NOT IN ('completed', 'failed', 'cancelled')"


class SqliteBatch:
    """Carry out operations in a transaction that has begun."""

    def __init__(
        self, connection: sqlite3.Connection, *, sealing: Sealing, journal: JournalIndex
    ) -> None:
        self._execute = connection.execute
        self._sealing = sealing
        self.log: SqliteLog = SqliteLog(connection, sealing=sealing, journal=journal)
        self._new_keys: list[str] = []
        self._erased: set[int] = set()
        self.erases: bool = False
        """Something is to be done after the commit; see `sqlite_eraser`."""

    def carry_out(self, owner: str, operations: Sequence[ops.AnyOperation]) -> Applied:
        """Carry out operations of one owner, in their order."""
        lost: set[int] = set()
        for operation in operations:
            number = operation.number
            tail = self.log.tail(number)
            if tail is not None and tail.owner == owner:
                try:
                    STEPS[type(operation)](self, tail, operation)
                except ConversationUnreadable:
                    continue  # its key is gone: what must not be stored in clear is not stored
            elif isinstance(operation, ops.TenantErased):
                self.erase_tenant(operation.tenant_id)
            elif tail is None and isinstance(operation, ops.ConversationOpened):
                self.open(owner, operation)
            elif number not in self._erased:
                lost.add(number)
        return Applied(frozenset(lost))

    def take_back(self) -> None:
        """Remove what was made beside the database, after a transaction that failed."""
        for key_id in self._new_keys:
            with suppress(OSError):  # nothing was sealed with it
                self._sealing.remove_key(key_id)

    # -- the conversation --------------------------------------------------------------------------

    def open(self, owner: str, operation: ops.ConversationOpened) -> None:
        """Make the row of a conversation, with its first epoch, and a key for a new tenant."""
        number = operation.number
        key = KeyOf(operation.tenant_id, number, self._key_id(operation.tenant_id))
        options = self._sealing.seal(operation.options, key=key, column="options")
        self._insert(
            "conversation",
            number=number,
            tenant_id=operation.tenant_id,
            session_id=operation.session_id,
            owner=owner,
            state="live",
            blueprint=operation.blueprint,
            model=operation.model,
            api_key=operation.api_key,
            label=operation.label,
            created_at_ms=operation.created_at_ms,
            last_activity_ms=operation.created_at_ms,
            fence=operation.fence,
            oldest_index=1,
            last_index=0,
            last_position=0,
            held_bytes=len(options),
            key_id=key.key_id,
            options=options,
            totals=b"",
            forked_from=operation.forked_from,
        )
        self._insert("epoch", number=number, fence=operation.fence, first_index=1)
        self.log.tails[number] = Tail(key, owner, 0)

    def opened_before(self, tail: Tail, operation: ops.ConversationOpened) -> None:
        """Do nothing: it is the same batch again."""

    def begin_epoch(self, tail: Tail, operation: ops.EpochBegun) -> None:
        self._insert(
            "epoch",
            number=operation.number,
            fence=operation.fence,
            first_index=operation.first_index,
            conflict="OR IGNORE",
        )
        self._set_state(tail, "live", at_ms=operation.at_ms)

    def leave(self, tail: Tail, operation: ops.ConversationLeft) -> None:
        self._set_state(tail, "dormant", at_ms=operation.at_ms)
        self.log.compress(tail)

    def end(self, tail: Tail, operation: ops.ConversationEnded) -> None:
        try:
            reason = self._sealing.keep(operation.reason, key=tail.key, column="ended")
        except ConversationUnreadable:
            reason = CLEAR  # that it has ended is stored all the same
        self._set_state(tail, "ended", at_ms=operation.at_ms, ended=reason)
        self.log.compress(tail)

    def change_options(self, tail: Tail, operation: ops.OptionsChanged) -> None:
        options = operation.options
        if options is not None:
            options = self._sealing.seal(options, key=tail.key, column="options")
        self._execute(
            "UPDATE conversation SET model = coalesce(:model, model),"
            " label = coalesce(:label, label),"
            " held_bytes = held_bytes + coalesce(length(:options) - length(options), 0),"
            " options = coalesce(:options, options) WHERE number = :number",
            {
                "model": operation.model,
                "label": operation.label,
                "options": options,
                "number": operation.number,
            },
        )

    def erase(self, tail: Tail, operation: ops.ConversationErased) -> None:
        self.log.flush()
        for table in OF_A_CONVERSATION:
            self._execute(f"DELETE FROM {table} WHERE number = ?", (operation.number,))
        self._forget(operation.number)
        self._doom("")

    def erase_tenant(self, tenant_id: str) -> None:
        """Remove all of a tenant's conversations, and have its keys removed after the commit."""
        self.log.flush()
        tenant = (tenant_id,)
        own = "SELECT number FROM conversation WHERE tenant_id = ?"
        numbers = [number for (number,) in self._execute(own, tenant)]
        self._execute(
            "INSERT OR IGNORE INTO doomed_key SELECT key_id FROM conversation WHERE tenant_id = ?"
            " UNION SELECT key_id FROM tenant_key WHERE tenant_id = ?",
            (tenant_id, tenant_id),
        )
        self._execute("DELETE FROM tenant_key WHERE tenant_id = ?", tenant)
        for table in OF_A_CONVERSATION:
            self._execute(f"DELETE FROM {table} WHERE number IN ({own})", tenant)
        for number in numbers:
            self._forget(number)
        self._doom("")

    # -- turns -------------------------------------------------------------------------------------

    def queue_turn(self, tail: Tail, operation: ops.TurnQueued) -> None:
        number, request_id = operation.number, operation.request_id
        text = self._stored(tail, operation.text.encode(), f"turn.text:{request_id}")
        attachments = self._stored(tail, operation.attachments, f"turn.attachments:{request_id}")
        done = self._execute(
            "INSERT INTO turn (number, position, request_id, state, text, api_key, attachments,"
            " first_index, last_index, queued_at_ms)"
            " SELECT :number,"
            " (SELECT coalesce(max(position), 0) + 1 FROM turn WHERE number = :number),"
            " :request, 'queued', :text, :api_key, :attachments, 0, 0, :at_ms"
            " WHERE NOT EXISTS"
            " (SELECT 1 FROM turn WHERE number = :number AND request_id = :request)",
            {
                "number": number,
                "request": request_id,
                "text": text,
                "api_key": operation.api_key,
                "attachments": attachments,
                "at_ms": operation.at_ms,
            },
        )
        changes = self.log.changes[number]
        changes.active(operation.at_ms)
        changes.held_bytes += (len(text) + len(attachments)) * done.rowcount

    def begin_turn(self, tail: Tail, operation: ops.TurnBegun) -> None:
        self._execute(
            "UPDATE turn SET state = 'running', begun_at_ms = coalesce(begun_at_ms, ?),"
            " first_index = CASE first_index WHEN 0 THEN ? ELSE first_index END,"
            f" kind = NULL, version = NULL, content = NULL WHERE {TURN} AND {WAITS}",
            (operation.at_ms, operation.first_index, operation.number, operation.request_id),
        )
        self.log.changes[operation.number].active(operation.at_ms)

    def finish_turn(self, tail: Tail, operation: ops.TurnFinished) -> None:
        number, request_id = operation.number, operation.request_id
        end = self._stored(tail, operation.end, f"turn.end:{request_id}")
        files = f"SELECT length(attachments) FROM turn WHERE {TURN} AND {WAITS}"
        if (held := self._execute(files, (number, request_id)).fetchone()) is not None:
            # Its agent has got them: nobody reads them any more.
            self.log.changes[number].held_bytes -= held[0] - len(CLEAR)
        self._execute(
            "UPDATE turn SET state = ?, last_index = ?, turn_end = ?, turn_usage = ?,"
            " ended_at_ms = ?, attachments = ?, kind = NULL, version = NULL, content = NULL"
            f" WHERE {TURN} AND {WAITS}",
            (
                operation.state,
                operation.last_index,
                end,
                operation.usage,
                operation.at_ms,
                CLEAR,
                number,
                request_id,
            ),
        )
        self._execute(f"DELETE FROM pending WHERE {TURN}", (number, request_id))
        self._store_totals(number, operation.totals)
        self.log.changes[number].active(operation.at_ms)
        if tail.held_bytes >= MIN_TURN_BYTES:
            self.log.compress(tail)

    def count_turn(self, tail: Tail, operation: ops.TurnCounted) -> None:
        self._execute(
            f"UPDATE turn SET turn_usage = ? WHERE {TURN} AND {WAITS}",
            (operation.usage, operation.number, operation.request_id),
        )
        self._store_totals(operation.number, operation.totals)

    def _store_totals(self, number: int, totals: bytes) -> None:
        self._execute("UPDATE conversation SET totals = ? WHERE number = ?", (totals, number))

    def suspend_turn(self, tail: Tail, operation: ops.TurnSuspended) -> None:
        number, request_id = operation.number, operation.request_id
        column = f"turn.content:{request_id}"
        content = self._sealing.seal(operation.content, key=tail.key, column=column)
        self._execute(
            "UPDATE turn SET state = 'suspended', kind = ?, version = ?, content = ?"
            f" WHERE {TURN} AND {WAITS}",
            (operation.kind, operation.version, content, number, request_id),
        )

    def resume_turn(self, tail: Tail, operation: ops.TurnResumed) -> None:
        self._execute(
            "UPDATE turn SET state = 'running', kind = NULL, version = NULL, content = NULL"
            f" WHERE {TURN} AND state = 'suspended'",
            (operation.number, operation.request_id),
        )

    # -- what turns leave --------------------------------------------------------------------------

    def add_message(self, tail: Tail, operation: ops.MessageAdded) -> None:
        number, position = operation.number, operation.position
        content = self._stored(tail, operation.message, f"message:{position}")
        added = self._insert(
            "message", number=number, position=position, content=content, conflict="OR IGNORE"
        )
        changes = self.log.changes[number]
        changes.last_position = max(changes.last_position, position)
        changes.held_bytes += len(content) * added

    def add_memory(self, tail: Tail, operation: ops.MemoryAdded) -> None:
        number, request_id, kind = operation.number, operation.request_id, operation.kind
        content = self._stored(tail, operation.content, f"memory:{request_id}:{kind}")
        version, replaces, position = operation.version, operation.replaces, operation.position
        identity = str((request_id, kind, version, replaces, position)).encode()
        values = {
            "number": number,
            "position": position,
            "request": request_id,
            "kind": kind,
            "version": version,
            "replaces": int(replaces),
            "content": content,
            "digest": self._sealing.digest(identity + operation.content, key=tail.key),
        }
        # What is replaced itself was said before, in the same batch, and replaces nothing again.
        said = "SELECT 1 FROM memory WHERE number = :number AND digest = :digest"
        if replaces and not self._execute(f"{said} AND until IS NOT NULL", values).fetchone():
            until = "min(coalesce(until, :position), :position)"
            self._delete_memory("kind = :kind", until=until, values=values)
            self._execute(
                "UPDATE memory SET until = :position WHERE number = :number AND kind = :kind"
                " AND (until IS NULL OR until > :position)",
                values,
            )
        done = self._execute(
            "INSERT INTO memory (number, place, position, request_id, kind, version, replaces,"
            " content, digest) SELECT :number,"
            " (SELECT coalesce(max(place), 0) + 1 FROM memory WHERE number = :number),"
            " :position, :request, :kind, :version, :replaces, :content, :digest"
            f" WHERE NOT EXISTS ({said})",
            values,
        )
        self.log.changes[number].held_bytes += len(content) * done.rowcount

    def _free_memory(self, number: int) -> None:
        """Delete what was replaced, and of which no checkpoint needs anything any more."""
        self._delete_memory("until IS NOT NULL", until="until", values={"number": number})

    def _delete_memory(self, rows: str, *, until: str, values: Mapping[str, Any]) -> None:
        """Delete memory, but for what there was at a checkpoint before it was replaced."""
        deleted = self._execute(
            f"DELETE FROM memory WHERE number = :number AND {rows} AND NOT EXISTS"
            " (SELECT 1 FROM checkpoint WHERE checkpoint.number = memory.number"
            f" AND checkpoint.position >= memory.position AND checkpoint.position < {until})"
            " RETURNING length(content)",
            values,
        )
        self.log.changes[values["number"]].held_bytes -= sum(size for (size,) in deleted)

    def ask(self, tail: Tail, operation: ops.RequestAsked) -> None:
        number, reference = operation.number, operation.reference
        event = self._stored(tail, operation.event, f"pending.event:{reference}")
        self._execute(
            "INSERT OR IGNORE INTO pending (number, place, reference, request_id, kind, event)"
            " VALUES (:number,"
            " (SELECT coalesce(max(place), 0) + 1 FROM pending WHERE number = :number),"
            " :reference, :request, :kind, :event)",
            {
                "number": number,
                "reference": reference,
                "request": operation.request_id,
                "kind": operation.kind,
                "event": event,
            },
        )

    def answer(self, tail: Tail, operation: ops.RequestAnswered) -> None:
        number, reference = operation.number, operation.reference
        if operation.answer is None:
            gone = "DELETE FROM pending WHERE number = ? AND reference = ?"
            self._execute(gone, (number, reference))
            return
        answer = self._stored(tail, operation.answer, f"pending.answer:{reference}")
        self._execute(
            "UPDATE pending SET answer = ? WHERE number = ? AND reference = ?",
            (answer, number, reference),
        )

    def make_checkpoint(self, tail: Tail, operation: ops.CheckpointMade) -> None:
        self._insert(
            "checkpoint",
            number=operation.number,
            name=operation.name,
            request_id=operation.request_id,
            position=operation.position,
            at_ms=operation.at_ms,
            conflict="OR REPLACE",
        )
        self._free_memory(operation.number)

    def remove_checkpoint(self, tail: Tail, operation: ops.CheckpointRemoved) -> None:
        gone = "DELETE FROM checkpoint WHERE number = ? AND name = ?"
        self._execute(gone, (operation.number, operation.name))
        self._free_memory(operation.number)

    def store_answer(self, tail: Tail, operation: ops.AnswerStored) -> None:
        column = f"idempotency:{operation.slot}"
        self._insert(
            "idempotency",
            slot=operation.slot,
            number=operation.number,
            digest=operation.digest,
            answer=self._sealing.seal(operation.answer, key=tail.key, column=column),
            until_ms=operation.until_ms,
            conflict="OR REPLACE",
        )

    def append_frames(self, tail: Tail, operation: ops.FramesAppended) -> None:
        self.log.append(tail, operation)

    def drop_frames(self, tail: Tail, operation: ops.FramesDropped) -> None:
        self.log.drop(tail, before=operation.before_index)

    # -- what they are made of ---------------------------------------------------------------------

    def _insert(self, table: str, *, conflict: str = "", **values: Any) -> int:
        """Insert a row, and return how many there are of it now that were not there before."""
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        text = f"INSERT {conflict} INTO {table} ({columns}) VALUES ({marks})"
        return self._execute(text, tuple(values.values())).rowcount

    def _set_state(self, tail: Tail, state: str, *, at_ms: int, ended: bytes | None = None) -> None:
        number = tail.key.number
        values = (state, ended, number)
        self._execute("UPDATE conversation SET state = ?, ended = ? WHERE number = ?", values)
        self.log.changes[number].active(at_ms)

    def _stored(self, tail: Tail, content: bytes, column: str) -> bytes:
        return self._sealing.keep(content, key=tail.key, column=column)

    def _doom(self, key_id: str) -> None:
        self._insert("doomed_key", key_id=key_id, conflict="OR IGNORE")
        self.erases = True

    def _forget(self, number: int) -> None:
        self.log.forget(number)
        self._erased.add(number)

    def _key_id(self, tenant_id: str) -> str:
        found = self._execute("SELECT key_id FROM tenant_key WHERE tenant_id = ?", (tenant_id,))
        row = found.fetchone()
        if row is not None and self._sealing.has_key(tenant_id, row[0]):
            return str(row[0])
        # Two writes: the key's file is synced before the commit that names it. A crash between
        # leaves a file that nothing was sealed with; the other way round, rows that nobody opens.
        key_id = self._sealing.new_key(tenant_id)
        self._new_keys.append(key_id)
        self._insert("tenant_key", tenant_id=tenant_id, key_id=key_id, conflict="OR REPLACE")
        return key_id


STEPS: Mapping[type, Callable[[SqliteBatch, Tail, Any], None]] = {
    ops.ConversationOpened: SqliteBatch.opened_before,
    ops.EpochBegun: SqliteBatch.begin_epoch,
    ops.OptionsChanged: SqliteBatch.change_options,
    ops.TurnQueued: SqliteBatch.queue_turn,
    ops.TurnBegun: SqliteBatch.begin_turn,
    ops.FramesAppended: SqliteBatch.append_frames,
    ops.MessageAdded: SqliteBatch.add_message,
    ops.MemoryAdded: SqliteBatch.add_memory,
    ops.TurnFinished: SqliteBatch.finish_turn,
    ops.TurnCounted: SqliteBatch.count_turn,
    ops.TurnSuspended: SqliteBatch.suspend_turn,
    ops.TurnResumed: SqliteBatch.resume_turn,
    ops.RequestAsked: SqliteBatch.ask,
    ops.RequestAnswered: SqliteBatch.answer,
    ops.ConversationLeft: SqliteBatch.leave,
    ops.ConversationEnded: SqliteBatch.end,
    ops.ConversationErased: SqliteBatch.erase,
    ops.FramesDropped: SqliteBatch.drop_frames,
    ops.CheckpointMade: SqliteBatch.make_checkpoint,
    ops.CheckpointRemoved: SqliteBatch.remove_checkpoint,
    ops.AnswerStored: SqliteBatch.store_answer,
}
"""How each operation is carried out on a conversation that is there, and its owner's."""
