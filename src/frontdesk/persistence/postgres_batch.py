"""One batch of operations as statements of PostgreSQL: two round trips, however many they are.

The first raises the node's own row and asks who owns what; what this node owns no longer is left
out of the second, which writes and commits. All frames of a batch go as one statement, or straight
into a segment where their turn ends in the same batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from frontdesk.persistence import operations as ops
from frontdesk.persistence import postgres_statements as sql
from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.persistence.postgres_rows import (
    Bigints,
    Byteas,
    FrameRun,
    JournalRow,
    OwnedRow,
    RowGrowth,
    Statement,
    Tail,
    joined_rows,
)
from frontdesk.persistence.schema import OF_A_CONVERSATION
from frontdesk.persistence.sealing import CLEAR, KeyOf, Sealing
from frontdesk.persistence.segments import SEGMENT_BYTES, compress, pack_frames

__all__ = ["Batch"]

MIN_TURN_BYTES = 16 * 1024
"""At a turn's end, less than this stays in the journal: a small segment compresses badly."""

_OF_THE_LOG = (ops.FramesAppended, ops.FramesDropped)


class Batch:
    """The operations of one transaction, and what becomes of each.

    `tails` is the store's and changed as frames are added: it is only right again once the
    transaction is committed, and whoever fails forgets it.
    """

    def __init__(
        self,
        operations: Sequence[ops.AnyOperation],
        *,
        owner: str,
        sealing: Sealing,
        tails: dict[int, Tail],
    ) -> None:
        self._operations, self._owner = operations, owner
        self._sealing, self._tails = sealing, tails
        self.lost: set[int] = set()
        self._keys: dict[int, KeyOf] = {}
        self._erased: set[int] = set()
        self._oldest: dict[int, int] = {}
        self._positions: dict[int, int] = {}
        self._growth: dict[int, RowGrowth] = {}
        self._chunks: dict[int, list[FrameRun]] = {}
        self._statements: list[Statement] = []

    # -- what it has to know first ---------------------------------------------------------------

    @property
    def numbers(self) -> list[int]:
        """Return the conversations that it is about."""
        return list({each.number for each in self._operations if each.number})

    @property
    def erased_tenants(self) -> list[str]:
        """Return the tenants of which everything goes."""
        return [op.tenant_id for op in self._operations if isinstance(op, ops.TenantErased)]

    @property
    def opening_tenants(self) -> list[str]:
        """Return the tenants that need a key, always in the same order."""
        return sorted(
            {op.tenant_id for op in self._operations if isinstance(op, ops.ConversationOpened)}
        )

    @property
    def logging(self) -> list[int]:
        """Return the conversations of which it has to know where their log ends, and does not."""
        asking = (op for op in self._operations if isinstance(op, _OF_THE_LOG))
        return list({op.number for op in asking if op.number not in self._tails})

    @property
    def compressing(self) -> list[int]:
        """Return the conversations whose journal becomes a segment."""
        added: dict[int, int] = {}
        limits: dict[int, int] = {}
        for op in self._operations:
            if isinstance(op, ops.FramesAppended):
                added[op.number] = added.get(op.number, 0) + op.held_bytes
            elif isinstance(op, ops.TurnFinished):
                limits.setdefault(op.number, MIN_TURN_BYTES)
            elif isinstance(op, ops.ConversationLeft | ops.ConversationEnded):
                limits[op.number] = 0
        return [
            number
            for number in {*added, *limits}
            if self._journal_bytes(number) + added.get(number, 0)
            >= limits.get(number, SEGMENT_BYTES)
        ]

    def _journal_bytes(self, number: int) -> int:
        tail = self._tails.get(number)
        return tail.journal_bytes if tail else 0

    # -- what becomes of it ----------------------------------------------------------------------

    def statements(
        self,
        rows: Iterable[OwnedRow],
        *,
        tenant_keys: Mapping[str, str],
        journal: Mapping[int, Sequence[JournalRow]],
    ) -> list[Statement]:
        """Return what writes it, without what this node does not own."""
        for row in rows:
            if row.owner == self._owner:
                self._keys[row.number] = KeyOf(row.tenant_id, row.number, row.key_id)
                self._positions[row.number] = row.last_position
            else:
                self.lost.add(row.number)
        for operation in self._operations:
            if isinstance(operation, ops.ConversationOpened):
                self._conversation_opened(operation, tenant_keys[operation.tenant_id])
            elif isinstance(operation, ops.TenantErased):
                self._tenant_erased(operation)
            elif self._is_ours(operation.number):
                # Where its key is gone: what must not be stored in clear is not stored.
                with suppress(ConversationUnreadable):
                    _WRITERS[type(operation)](self, operation)
        self._log(journal)
        self._grow()
        return self._statements

    def _is_ours(self, number: int) -> bool:
        if number in self._keys:
            return True
        if number not in self._erased:
            self.lost.add(number)
        return False

    def _add(self, sql: str, **values: Any) -> None:
        self._statements.append(Statement(sql, values))

    def _growth_of(self, number: int) -> RowGrowth:
        return self._growth.setdefault(number, RowGrowth())

    def _used(self, number: int, at_ms: int) -> None:
        growth = self._growth_of(number)
        growth.last_activity_ms = max(growth.last_activity_ms, at_ms)

    def _content(self, number: int, content: bytes, column: str) -> bytes:
        return self._sealing.keep(content, key=self._keys[number], column=column)

    # -- conversations ---------------------------------------------------------------------------

    def _conversation_opened(self, op: ops.ConversationOpened, key_id: str) -> None:
        if op.number in self._keys or op.number in self.lost:
            return  # committed before, or another node's
        key = KeyOf(op.tenant_id, op.number, key_id)
        self._keys[op.number], self._positions[op.number] = key, 0
        self._tails[op.number] = Tail()
        options = self._sealing.seal(op.options, key=key, column="options")
        self._add(
            sql.OPENED,
            number=op.number,
            tenant_id=_clean(op.tenant_id),
            session_id=_clean(op.session_id),
            owner=self._owner,
            blueprint=_clean(op.blueprint),
            model=_clean(op.model),
            api_key=_clean(op.api_key),
            label=_clean(op.label),
            at_ms=op.created_at_ms,
            fence=op.fence,
            key_id=key_id,
            held_bytes=len(options),
            options=options,
            forked_from=_clean(op.forked_from),
        )
        self._add(sql.EPOCH, number=op.number, fence=op.fence, first_index=1)

    def epoch_begun(self, op: ops.EpochBegun) -> None:
        """Begin an epoch: it is live."""
        self._add(sql.EPOCH, number=op.number, fence=op.fence, first_index=op.first_index)
        self._state(op.number, "live", op.at_ms)

    def conversation_left(self, op: ops.ConversationLeft) -> None:
        """Leave it without an agent."""
        self._state(op.number, "dormant", op.at_ms)

    def conversation_ended(self, op: ops.ConversationEnded) -> None:
        """End it, also where its key is lost."""
        try:
            reason = self._content(op.number, op.reason, "ended")
        except ConversationUnreadable:
            reason = CLEAR
        self._state(op.number, "ended", op.at_ms, reason)

    def _state(self, number: int, state: str, at_ms: int, ended: bytes | None = None) -> None:
        self._add(sql.STATE, number=number, state=state, ended=ended)
        self._used(number, at_ms)

    def options_changed(self, op: ops.OptionsChanged) -> None:
        """Change its options."""
        key, options = self._keys[op.number], op.options
        sealed = None if options is None else self._sealing.seal(options, key=key, column="options")
        model, label = _clean(op.model), _clean(op.label)
        self._add(sql.CHANGED, number=op.number, model=model, options=sealed, label=label)

    def conversation_erased(self, op: ops.ConversationErased) -> None:
        """Erase all of it."""
        for table in OF_A_CONVERSATION:
            self._add(f"DELETE FROM {table} WHERE number = %(number)s", number=op.number)
        self._forget(op.number)

    def _tenant_erased(self, op: ops.TenantErased) -> None:
        # The key first: whoever opens a conversation under it meanwhile is waited for, and erased.
        self._add(sql.KEY_DOOMED, tenant_id=_clean(op.tenant_id))
        for table in OF_A_CONVERSATION:
            self._add(sql.TENANT_ERASED.format(table=table), tenant_id=_clean(op.tenant_id))
        gone = [number for number, key in self._keys.items() if key.tenant_id == op.tenant_id]
        for number in gone:
            self._forget(number)

    def _forget(self, number: int) -> None:
        self._keys.pop(number, None)
        self._tails.pop(number, None)
        self._chunks.pop(number, None)
        self._growth.pop(number, None)
        self._erased.add(number)

    # -- turns -----------------------------------------------------------------------------------

    def turn_queued(self, op: ops.TurnQueued) -> None:
        """Queue a turn."""
        text = self._content(op.number, op.text.encode("utf-8", "surrogatepass"), "text")
        attachments = self._content(op.number, op.attachments, "attachments")
        self._add(
            sql.TURN_QUEUED,
            number=op.number,
            request_id=_clean(op.request_id),
            text=text,
            api_key=_clean(op.api_key),
            attachments=attachments,
            at_ms=op.at_ms,
        )

    def turn_begun(self, op: ops.TurnBegun) -> None:
        """Begin a turn."""
        self._add(
            sql.TURN_BEGUN,
            number=op.number,
            request_id=_clean(op.request_id),
            first_index=op.first_index,
            at_ms=op.at_ms,
        )
        self._used(op.number, op.at_ms)

    def turn_finished(self, op: ops.TurnFinished) -> None:
        """End a turn, and what it asked; its agent has got its files, which nobody reads again."""
        request_id = _clean(op.request_id)
        self._add(sql.TURN_FREED, number=op.number, request_id=request_id, totals=op.totals)
        self._add(
            sql.TURN_ENDED,
            number=op.number,
            request_id=request_id,
            state=op.state,
            last_index=op.last_index,
            end=self._content(op.number, op.end, "end"),
            usage=op.usage,
            at_ms=op.at_ms,
        )
        self._add(sql.PENDING_ENDED, number=op.number, request_id=request_id)
        self._used(op.number, op.at_ms)

    def turn_counted(self, op: ops.TurnCounted) -> None:
        """Take over what a turn under way has used."""
        request_id = _clean(op.request_id)
        self._add(sql.TURN_COUNTED, number=op.number, request_id=request_id, usage=op.usage)
        self._add(sql.TOTALS, number=op.number, totals=op.totals)

    def turn_suspended(self, op: ops.TurnSuspended) -> None:
        """Suspend a turn, with what it goes on from."""
        self._add(
            sql.TURN_SUSPENDED,
            number=op.number,
            request_id=_clean(op.request_id),
            kind=_clean(op.kind),
            version=op.version,
            content=self._sealing.seal(
                op.content, key=self._keys[op.number], column=f"suspended:{op.request_id}"
            ),
        )

    def turn_resumed(self, op: ops.TurnResumed) -> None:
        """Let a suspended turn go on."""
        self._add(sql.TURN_RESUMED, number=op.number, request_id=_clean(op.request_id))

    def request_asked(self, op: ops.RequestAsked) -> None:
        """Ask for an approval, or a question."""
        self._add(
            sql.ASKED,
            number=op.number,
            reference=_clean(op.reference),
            request_id=_clean(op.request_id),
            kind=op.kind,
            event=self._content(op.number, op.event, "event"),
        )

    def request_answered(self, op: ops.RequestAnswered) -> None:
        """Answer it; without an answer, it waits no longer."""
        reference = _clean(op.reference)
        if op.answer is None:
            self._add(sql.UNASKED, number=op.number, reference=reference)
            return
        answer = self._content(op.number, op.answer, "answer")
        self._add(sql.ANSWERED, number=op.number, reference=reference, answer=answer)

    # -- history and memory ----------------------------------------------------------------------

    def message_added(self, op: ops.MessageAdded) -> None:
        """Add a message to the history."""
        message = self._content(op.number, op.message, f"message:{op.position}")
        self._add(sql.MESSAGE, number=op.number, position=op.position, message=message)
        if op.position > self._positions.get(op.number, 0):
            growth = self._growth_of(op.number)
            growth.held_bytes += len(message)
            growth.last_position = self._positions[op.number] = op.position

    def memory_added(self, op: ops.MemoryAdded) -> None:
        """Add what an agent leaves, in the place of earlier ones where it says so."""
        identity = str((op.request_id, op.kind, op.version, op.replaces, op.position)).encode()
        values: dict[str, Any] = {
            "number": op.number,
            "position": op.position,
            "request_id": _clean(op.request_id),
            "kind": _clean(op.kind),
            "version": op.version,
            "content": self._content(op.number, op.content, "memory"),
            "replaces": int(op.replaces),
            "digest": self._sealing.digest(identity + op.content, key=self._keys[op.number]),
        }
        for statement in sql.REPLACED if op.replaces else ():
            self._add(statement, **values)
        self._add(sql.REMEMBERED, **values)

    def checkpoint_made(self, op: ops.CheckpointMade) -> None:
        """Name the end of a turn."""
        self._add(
            sql.CHECKPOINT,
            number=op.number,
            name=_clean(op.name),
            request_id=_clean(op.request_id),
            position=op.position,
            at_ms=op.at_ms,
        )
        self._add(sql.MEMORY_FREED, number=op.number)

    def checkpoint_removed(self, op: ops.CheckpointRemoved) -> None:
        """Remove a name."""
        self._add(sql.CHECKPOINT_REMOVED, number=op.number, name=_clean(op.name))
        self._add(sql.MEMORY_FREED, number=op.number)

    def answer_stored(self, op: ops.AnswerStored) -> None:
        """Store the answer to an idempotency key."""
        answer = self._sealing.seal(op.answer, key=self._keys[op.number], column="idempotency")
        self._add(
            sql.ANSWER_STORED,
            slot=_clean(op.slot),
            number=op.number,
            digest=op.digest,
            answer=answer,
            until_ms=op.until_ms,
        )

    # -- events ----------------------------------------------------------------------------------

    def frames_appended(self, op: ops.FramesAppended) -> None:
        """Gather events; they are written at the end of the batch."""
        tail = self._tails.setdefault(op.number, Tail())
        frames = op.frames[max(0, tail.last_index + 1 - op.first_index) :]
        if not frames:
            return  # committed before
        first_index = max(op.first_index, tail.last_index + 1)
        tail.last_index = first_index + len(frames) - 1
        chunks = self._chunks.setdefault(op.number, [])
        last = chunks[-1] if chunks else None
        if last and last.fence == op.fence and last.last_index + 1 == first_index:
            last.frames.extend(frames)
        else:
            chunks.append(FrameRun(op.fence, first_index, list(frames)))

    def frames_dropped(self, op: ops.FramesDropped) -> None:
        """Drop the oldest events."""
        self._oldest[op.number] = max(self._oldest.get(op.number, 0), op.before_index)
        self._add(sql.JOURNAL_DROPPED, number=op.number, before=op.before_index)
        growth, last_index = self._growth_of(op.number), self._tails[op.number].last_index
        growth.last_index = max(growth.last_index, last_index)
        self._add(sql.DROPPED, number=op.number, before=op.before_index, last_index=last_index)

    def _log(self, journal: Mapping[int, Sequence[JournalRow]]) -> None:
        """Add the frames: to the journal, or with what is there already as segments."""
        cells: list[tuple[Any, ...]] = []
        for number in {*self._chunks, *journal}:
            if number not in self._keys:
                continue
            rows = [
                JournalRow(each.fence, each.first_index, each.last_index, pack_frames(each.frames))
                for each in self._chunks.get(number, [])
            ]
            with suppress(ConversationUnreadable):
                if number in journal:
                    self._compress(number, [*journal[number], *rows])
                else:
                    cells += [self._journal_cells(number, row) for row in rows]
        if cells:
            *integers, frames = zip(*cells, strict=True)
            names = ("numbers", "fences", "firsts", "lasts", "sizes")
            columns = dict(zip(names, map(Bigints, integers), strict=True))
            self._add(sql.JOURNAL, **columns, frames=Byteas(frames))

    def _journal_cells(self, number: int, row: JournalRow) -> tuple[Any, ...]:
        stored = self._content(number, row.packed, f"journal:{row.first_index}")
        self._tails[number].journal_bytes += len(stored)
        return number, row.fence, row.first_index, row.last_index, len(stored), stored

    def _compress(self, number: int, rows: Sequence[JournalRow]) -> None:
        growth, oldest = self._growth_of(number), self._oldest.get(number, 0)
        for row in joined_rows([row for row in rows if row.last_index >= oldest]):
            column = f"segment:{row.first_index}"
            segment = self._content(number, compress(row.packed), column)
            growth.held_bytes += len(segment)
            growth.last_index = row.last_index
            self._add(
                sql.SEGMENT,
                number=number,
                first_index=row.first_index,
                last_index=row.last_index,
                fence=row.fence,
                size=len(segment),
                frames=segment,
            )
        if rows:
            self._add("DELETE FROM journal WHERE number = %(number)s", number=number)
        if tail := self._tails.get(number):
            tail.journal_bytes = 0

    def _grow(self) -> None:
        for number, growth in self._growth.items():
            self._add(
                sql.GROWN,
                number=number,
                held_bytes=growth.held_bytes,
                last_index=growth.last_index,
                last_position=growth.last_position,
                last_activity_ms=growth.last_activity_ms,
            )


def _clean(text: str | None) -> str | None:
    """Return a text that PostgreSQL takes: it has no NUL, and no half of a surrogate pair.

    Ids and names have neither; one that came from a model must not keep all others from being
    written.
    """
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


_WRITERS: Mapping[type[ops.Operation], Callable[[Batch, Any], None]] = {
    ops.EpochBegun: Batch.epoch_begun,
    ops.OptionsChanged: Batch.options_changed,
    ops.TurnQueued: Batch.turn_queued,
    ops.TurnBegun: Batch.turn_begun,
    ops.FramesAppended: Batch.frames_appended,
    ops.MessageAdded: Batch.message_added,
    ops.MemoryAdded: Batch.memory_added,
    ops.TurnFinished: Batch.turn_finished,
    ops.TurnCounted: Batch.turn_counted,
    ops.TurnSuspended: Batch.turn_suspended,
    ops.TurnResumed: Batch.turn_resumed,
    ops.RequestAsked: Batch.request_asked,
    ops.RequestAnswered: Batch.request_answered,
    ops.ConversationLeft: Batch.conversation_left,
    ops.ConversationEnded: Batch.conversation_ended,
    ops.ConversationErased: Batch.conversation_erased,
    ops.FramesDropped: Batch.frames_dropped,
    ops.CheckpointMade: Batch.checkpoint_made,
    ops.CheckpointRemoved: Batch.checkpoint_removed,
    ops.AnswerStored: Batch.answer_stored,
}
