"""What is read back from PostgreSQL: one statement each, on any connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import psycopg

from frontdesk.persistence.conversations import StoredMessage
from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.persistence.operations import TurnState
from frontdesk.persistence.schema import WAITING
from frontdesk.persistence.sealing import KeyOf, Sealing
from frontdesk.persistence.segments import decompress, unpack_frames
from frontdesk.persistence.stored import (
    ListQuery,
    StoredAnswer,
    StoredCheckpoint,
    StoredConversation,
    StoredEpoch,
    StoredFrame,
    StoredMemory,
    StoredRequest,
    StoredTurn,
)

__all__ = ["DatabaseReader"]

Row = tuple[Any, ...]
Asked = psycopg.Connection[Row]

MAX_SEGMENTS = 16
MAX_JOURNAL_ROWS = 1000
"""So many rows are read at once for a page of events."""


class _Packed(NamedTuple):
    is_segment: bool
    first_index: int
    last_index: int
    fence: int
    frames: bytes
    oldest_index: int
    tenant_id: str
    key_id: str


class DatabaseReader:
    """Read what is stored. `owner` is the node that asks."""

    def __init__(self, sealing: Sealing, *, owner: str) -> None:
        self._sealing, self._owner = sealing, owner

    # -- conversations ---------------------------------------------------------------------------

    def find(
        self, connection: Asked, tenant_id: str, session_id: str, *, fence: int | None
    ) -> StoredConversation | None:
        """Return the newest of an id, or the one with this fence."""
        by_fence = "" if fence is None else "AND fence = %(fence)s"
        found = self._conversations(
            connection,
            "tenant_id = %(tenant_id)s AND session_id = %(session_id)s "
            f"{by_fence} ORDER BY number DESC LIMIT 1",
            {"tenant_id": tenant_id, "session_id": session_id, "fence": fence},
        )
        return found[0] if found else None

    def page(self, connection: Asked, listed: ListQuery) -> list[StoredConversation]:
        """Return a page of a tenant's conversations."""
        values = {
            "tenant_id": listed.tenant_id,
            "after": listed.after,
            "blueprint": listed.blueprint,
            "label": listed.label,
            "from_ms": listed.from_ms,
            "to_ms": listed.to_ms,
            "limit": listed.limit,
        }
        terms = [text for name, text in _TERMS.items() if values[name] is not None]
        # Each state alone is in the order of its index; several at once would all be sorted.
        of_states = [
            "(SELECT number FROM conversation WHERE tenant_id = %(tenant_id)s "
            f"AND state = %({state})s AND {' AND '.join(terms)} ORDER BY number LIMIT %(limit)s)"
            for state in listed.states
        ]
        if not of_states:
            return []
        numbers = (
            f"SELECT number FROM ({' UNION ALL '.join(of_states)}) AS of_states "
            "ORDER BY number LIMIT %(limit)s"
        )
        states = {state: state for state in listed.states}
        return self._conversations(
            connection, f"number IN ({numbers})", values | states, with_options=False
        )

    def unfinished(self, connection: Asked) -> list[StoredConversation]:
        """Return this node's that are live, or have turns that are not ended."""
        chosen = (
            "owner = %(owner)s AND number IN (SELECT number FROM conversation "
            f"WHERE state = 'live' UNION SELECT number FROM turn WHERE {WAITING})"
        )
        return self._conversations(connection, chosen, {"owner": self._owner})

    def expired(
        self,
        connection: Asked,
        *,
        held: list[str],
        before_ms: int,
        limit: int,
        after: int,
        blueprint: str | None,
    ) -> list[StoredConversation]:
        """Return those that nobody used since, without live ones and those with turns to end.

        And without what the owners `held` have; what is live at any other is so no longer.
        """
        # Each of the two is in an index of its own, as it is said here.
        chosen = (
            "owner <> ALL(%(held)s) "
            "AND (state <> 'live' OR (state = 'live' AND owner <> %(owner)s)) "
            "AND last_activity_ms < %(before_ms)s AND number > %(after)s "
            "AND (%(blueprint)s::text IS NULL OR blueprint = %(blueprint)s) "
            "AND NOT EXISTS (SELECT FROM turn WHERE turn.number = conversation.number "
            f"AND turn.{WAITING}) ORDER BY number LIMIT %(limit)s"
        )
        values = {
            "owner": self._owner,
            "held": held,
            "before_ms": before_ms,
            "limit": limit,
            "after": after,
            "blueprint": blueprint,
        }
        return self._conversations(connection, chosen, values, with_options=False)

    def count(self, connection: Asked, tenant_id: str) -> int:
        """Return how many a tenant has."""
        asked = "SELECT count(*) FROM conversation WHERE tenant_id = %s"
        return _number(connection.execute(asked, [tenant_id]).fetchone())

    def greatest_fence(self, connection: Asked) -> int:
        """Return the greatest of all."""
        return _number(connection.execute("SELECT max(fence) FROM epoch").fetchone())

    def _conversations(
        self,
        connection: Asked,
        chosen: str,
        values: dict[str, Any],
        *,
        with_options: bool = True,
    ) -> list[StoredConversation]:
        options = "options" if with_options else "''::bytea"
        asked = _CONVERSATIONS.format(chosen=chosen, options=options)
        return [self._conversation(row) for row in connection.execute(asked.encode(), values)]

    def _conversation(self, row: Row) -> StoredConversation:
        *plain, key_id, sealed, epochs = row
        named = dict(zip(_CONVERSATION_FIELDS, plain, strict=True))
        key = KeyOf(named["tenant_id"], named["number"], key_id)
        unreadable, options, ended = None, b"", named.pop("ended")
        try:
            self._sealing.require_key(key)
            options = self._sealing.open(sealed, key=key, column="options")
            ended = ended and self._sealing.open(ended, key=key, column="ended")
        except ConversationUnreadable as error:
            unreadable, ended = error.problem, ended and b""
        return StoredConversation(
            **named,
            options=options,
            ended=ended,
            epochs=tuple(StoredEpoch(*epoch) for epoch in epochs),
            unreadable=unreadable,
        )

    # -- events ----------------------------------------------------------------------------------

    def frames(
        self, connection: Asked, number: int, *, after: int, limit: int, max_bytes: int
    ) -> list[StoredFrame]:
        """Return events after an index, at least one if there is one, in order."""
        found: list[StoredFrame] = []
        size = 0
        while rows := self._packed(connection, number, after):
            for row in rows:
                for frame in self._frames_of(row, number, after=after):
                    size += len(frame.frame)
                    if found and (len(found) >= limit or size > max_bytes):
                        return found
                    found.append(frame)
            after = rows[-1].last_index
        return found

    def _packed(self, connection: Asked, number: int, after: int) -> list[_Packed]:
        values = {
            "number": number,
            "after": after,
            "segments": MAX_SEGMENTS,
            "rows": MAX_JOURNAL_ROWS,
        }
        rows = [_Packed(*row) for row in connection.execute(_FRAMES, values)]
        segments = [row for row in rows if row.is_segment]
        # More of them may follow, before the journal's.
        return segments if len(segments) == MAX_SEGMENTS else rows

    def _frames_of(self, row: _Packed, number: int, *, after: int) -> Iterator[StoredFrame]:
        key = KeyOf(row.tenant_id, number, row.key_id)
        column = f"{'segment' if row.is_segment else 'journal'}:{row.first_index}"
        packed = self._sealing.open(row.frames, key=key, column=column)
        frames = unpack_frames(decompress(packed) if row.is_segment else packed)
        for index, frame in enumerate(frames, row.first_index):
            if index > after and index >= row.oldest_index:
                yield StoredFrame(row.fence, index, frame)

    # -- history ---------------------------------------------------------------------------------

    def messages(
        self, connection: Asked, number: int, *, after: int, limit: int, max_bytes: int
    ) -> list[StoredMessage]:
        """Return messages after a position, oldest first; at least one, if there is one."""
        values = {"number": number, "after": after, "limit": limit, "max_bytes": max_bytes}
        return self._messages(connection.execute(_MESSAGES, values), number)

    def last_messages(
        self, connection: Asked, number: int, *, limit: int, max_bytes: int
    ) -> list[StoredMessage]:
        """Return the newest messages, oldest first; at least one, if there is one."""
        values = {"number": number, "limit": limit, "max_bytes": max_bytes}
        return self._messages(connection.execute(_LAST_MESSAGES, values), number)

    def _messages(self, rows: Iterable[Row], number: int) -> list[StoredMessage]:
        return [
            StoredMessage(
                position,
                self._sealing.open(
                    content, key=KeyOf(tenant_id, number, key_id), column=f"message:{position}"
                ),
            )
            for position, content, tenant_id, key_id in rows
        ]

    def memories(self, connection: Asked, number: int, *, at: int | None) -> list[StoredMemory]:
        """Return what agents left, oldest first: now, or at a checkpoint."""
        return [
            StoredMemory(
                request_id=request_id,
                kind=kind,
                version=version,
                content=self._opened(content, number, "memory", key),
                replaces=bool(replaces),
                position=position,
            )
            for request_id, kind, version, content, replaces, position, *key in connection.execute(
                _MEMORIES, {"number": number, "at": at}
            )
        ]

    # -- turns -----------------------------------------------------------------------------------

    def turns(
        self,
        connection: Asked,
        number: int,
        *,
        states: tuple[TurnState, ...],
        after: int,
        limit: int,
        max_bytes: int | None,
    ) -> list[StoredTurn]:
        """Return turns after a position, oldest first."""
        chosen = "t.position > %(after)s" + (" AND t.state = ANY(%(states)s)" if states else "")
        values = {
            "number": number,
            "after": after,
            "states": list(states),
            "limit": limit,
            "max_bytes": max_bytes,
        }
        return self._turns(connection, number, chosen, values)

    def turn(self, connection: Asked, number: int, request_id: str) -> StoredTurn | None:
        """Return one turn."""
        values = {"number": number, "request_id": request_id}
        found = self._turns(connection, number, "t.request_id = %(request_id)s", values)
        return found[0] if found else None

    def latest_turn(self, connection: Asked, number: int) -> StoredTurn | None:
        """Return the newest turn."""
        newest = "t.position = (SELECT max(position) FROM turn WHERE number = %(number)s)"
        found = self._turns(connection, number, newest, {"number": number})
        return found[0] if found else None

    def _turns(
        self, connection: Asked, number: int, chosen: str, values: dict[str, Any]
    ) -> list[StoredTurn]:
        asked = _TURNS.format(chosen=chosen).encode()
        values = {"limit": 1, "max_bytes": None} | values
        return [self._turn(number, row) for row in connection.execute(asked, values)]

    def _turn(self, number: int, row: Row) -> StoredTurn:
        *plain, text, attachments, end, kind, version, content, tenant_id, key_id = row
        named = dict(zip(_TURN_FIELDS, plain, strict=True))
        key = (tenant_id, key_id)
        suspended = None
        if content is not None:
            suspended = StoredMemory(
                request_id=named["request_id"],
                kind=kind,
                version=version,
                content=self._opened(content, number, f"suspended:{named['request_id']}", key),
            )
        return StoredTurn(
            number=number,
            **named,
            text=self._opened(text, number, "text", key).decode("utf-8", "surrogatepass"),
            attachments=self._opened(attachments, number, "attachments", key),
            end=None if end is None else self._opened(end, number, "end", key),
            suspended=suspended,
        )

    def requests(self, connection: Asked, number: int) -> list[StoredRequest]:
        """Return the approvals and questions of turns that have not ended, oldest first."""
        return [
            StoredRequest(
                request_id=request_id,
                reference=reference,
                kind=kind,
                event=self._opened(event, number, "event", key),
                answer=None if answer is None else self._opened(answer, number, "answer", key),
            )
            for request_id, reference, kind, event, answer, *key in connection.execute(
                _REQUESTS, [number]
            )
        ]

    def checkpoints(self, connection: Asked, number: int) -> list[StoredCheckpoint]:
        """Return the checkpoints, oldest first."""
        return [
            StoredCheckpoint(name=name, request_id=request_id, position=position, at_ms=at_ms)
            for name, request_id, position, at_ms in connection.execute(_CHECKPOINTS, [number])
        ]

    def answer(self, connection: Asked, slot: str, *, now_ms: int) -> StoredAnswer | None:
        """Return the answer that is stored in a slot, while its time has not run out."""
        row = connection.execute(_ANSWER, {"slot": slot, "now_ms": now_ms}).fetchone()
        if row is None:
            return None
        number, digest, answer, *key = row
        return StoredAnswer(digest=digest, answer=self._opened(answer, number, "idempotency", key))

    def _opened(self, stored: bytes, number: int, column: str, key: Sequence[str]) -> bytes:
        tenant_id, key_id = key
        return self._sealing.open(stored, key=KeyOf(tenant_id, number, key_id), column=column)


def _number(row: Row | None) -> int:
    return int(row[0] or 0) if row else 0


_TERMS = {
    "after": "number > %(after)s",
    "blueprint": "blueprint = %(blueprint)s",
    "label": "label = %(label)s",
    "from_ms": "created_at_ms >= %(from_ms)s",
    "to_ms": "created_at_ms < %(to_ms)s",
}

_CONVERSATION_FIELDS = (
    "number", "tenant_id", "session_id", "owner", "state", "blueprint", "model", "api_key",
    "label", "created_at_ms", "last_activity_ms", "fence", "oldest_index", "last_position",
    "totals", "ended", "forked_from", "last_index", "held_bytes", "waiting",
)  # fmt: skip

_CONVERSATIONS = """
SELECT c.number, tenant_id, session_id, owner, state, blueprint, model, api_key, label,
    created_at_ms, last_activity_ms, fence, oldest_index, last_position, totals, ended,
    forked_from, greatest(c.last_index, j.last_index), held_bytes + j.size,
    (SELECT count(*) FROM turn t WHERE t.number = c.number
        AND t.state IN ('queued', 'running', 'suspended')),
    key_id, {options},
    ARRAY(SELECT ARRAY[fence, first_index] FROM epoch e WHERE e.number = c.number
        ORDER BY first_index, fence)
FROM (SELECT * FROM conversation WHERE {chosen}) c
CROSS JOIN LATERAL (
    SELECT coalesce(max(last_index), 0) AS last_index,
        coalesce(sum(journal.held_bytes), 0)::bigint AS size
    FROM journal WHERE journal.number = c.number) j
ORDER BY c.number
"""

_FRAMES = """
WITH c AS (SELECT tenant_id, key_id, oldest_index FROM conversation WHERE number = %(number)s)
(SELECT true, first_index, last_index, fence, frames, oldest_index, tenant_id, key_id
    FROM segment CROSS JOIN c
    WHERE number = %(number)s AND last_index > %(after)s AND first_index >= coalesce(
        (SELECT max(first_index) FROM segment
            WHERE number = %(number)s AND first_index <= %(after)s + 1), 0)
    ORDER BY first_index LIMIT %(segments)s)
UNION ALL
(SELECT false, first_index, last_index, fence, frames, oldest_index, tenant_id, key_id
    FROM journal CROSS JOIN c
    WHERE number = %(number)s AND last_index > %(after)s
    ORDER BY first_index LIMIT %(rows)s)
ORDER BY 2
"""

_MESSAGES = """
SELECT m.position, m.content, c.tenant_id, c.key_id
FROM (SELECT position, content,
        sum(octet_length(content)) OVER (ORDER BY position) AS total,
        row_number() OVER (ORDER BY position) AS place
    FROM (SELECT position, content FROM message WHERE number = %(number)s
        AND position > %(after)s ORDER BY position LIMIT %(limit)s) page) m
CROSS JOIN (SELECT tenant_id, key_id FROM conversation WHERE number = %(number)s) c
WHERE m.place = 1 OR m.total <= %(max_bytes)s ORDER BY m.position
"""

_LAST_MESSAGES = """
SELECT m.position, m.content, c.tenant_id, c.key_id
FROM (SELECT position, content,
        sum(octet_length(content)) OVER (ORDER BY position DESC) AS total,
        row_number() OVER (ORDER BY position DESC) AS place
    FROM (SELECT position, content FROM message WHERE number = %(number)s
        ORDER BY position DESC LIMIT %(limit)s) newest) m
CROSS JOIN (SELECT tenant_id, key_id FROM conversation WHERE number = %(number)s) c
WHERE m.place = 1 OR m.total <= %(max_bytes)s ORDER BY m.position
"""

_MEMORIES = """
SELECT request_id, kind, version, content, replaces, position, c.tenant_id, c.key_id
FROM memory JOIN conversation c USING (number)
WHERE number = %(number)s AND (%(at)s::bigint IS NULL OR position <= %(at)s)
    AND (until IS NULL OR until > %(at)s)
ORDER BY place
"""

_TURN_FIELDS = (
    "position", "request_id", "state", "api_key", "first_index", "last_index", "queued_at_ms",
    "begun_at_ms", "ended_at_ms", "usage",
)  # fmt: skip

_TURNS = """
SELECT t.position, t.request_id, t.state, t.api_key, t.first_index, t.last_index,
    t.queued_at_ms, t.begun_at_ms, t.ended_at_ms, t.turn_usage, t.text, t.attachments,
    t.turn_end, t.kind, t.version, t.content, c.tenant_id, c.key_id
FROM (SELECT *,
        sum(octet_length(text) + octet_length(attachments)) OVER (ORDER BY position) AS total,
        row_number() OVER (ORDER BY position) AS place
    FROM (SELECT * FROM turn t WHERE t.number = %(number)s AND {chosen}
        ORDER BY t.position LIMIT %(limit)s) page) t
JOIN conversation c USING (number)
WHERE t.place = 1 OR %(max_bytes)s::bigint IS NULL OR t.total <= %(max_bytes)s
ORDER BY t.position
"""

_REQUESTS = """
SELECT p.request_id, p.reference, p.kind, p.event, p.answer, c.tenant_id, c.key_id
FROM pending p JOIN conversation c USING (number) WHERE p.number = %s ORDER BY p.place
"""

_CHECKPOINTS = """
SELECT name, request_id, position, at_ms FROM checkpoint WHERE number = %s
ORDER BY at_ms, position, name
"""

_ANSWER = """
SELECT i.number, i.digest, i.answer, c.tenant_id, c.key_id
FROM idempotency i JOIN conversation c ON c.number = i.number
WHERE i.slot = %(slot)s AND i.until_ms > %(now_ms)s
"""
