"""What is read of an SQLite file: one object a snapshot, which nobody writes into meanwhile.

A conversation whose key is gone is read nonetheless: lists say of it that it is unreadable. Only
who asks for what cannot be decrypted itself gets `ConversationUnreadable`.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from frontdesk.persistence.conversations import StoredMessage
from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.persistence.journal_index import Tail
from frontdesk.persistence.operations import TurnState
from frontdesk.persistence.schema import WAITING
from frontdesk.persistence.sealing import KeyOf, Sealing
from frontdesk.persistence.segments import AS_WRITTEN, decompress, unpack_frames
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

CONVERSATION = (
    "number, tenant_id, session_id, owner, state, blueprint, model, api_key, label, created_at_ms,"
    " last_activity_ms, fence, oldest_index, last_index, last_position, options, totals, ended,"
    " forked_from, held_bytes, key_id"
)
TURN = (
    "number, position, request_id, state, text, api_key, attachments, first_index, last_index,"
    " queued_at_ms, begun_at_ms, ended_at_ms, turn_end, turn_usage, kind, version, content"
)


class StoredReader:
    """Read what is stored, all of it as of one moment."""

    def __init__(self, connection: sqlite3.Connection, *, sealing: Sealing) -> None:
        self._execute = connection.execute
        self._sealing = sealing

    # -- conversations -----------------------------------------------------------------------------

    def numbers(self, listed: ListQuery) -> list[int]:
        """Return the numbers of a page of a tenant's conversations."""
        asked = (
            ("blueprint = ?", listed.blueprint),
            ("label = ?", listed.label),
            ("created_at_ms >= ?", listed.from_ms),
            ("created_at_ms < ?", listed.to_ms),
        )
        wanted = [(text, value) for text, value in asked if value is not None]
        also = "".join(f" AND {text}" for text, _ in wanted)
        values = [value for _, value in wanted]
        found: list[int] = []
        # Each state alone is in the order of its index; several at once would all be sorted.
        for state in listed.states:
            rows = self._execute(
                "SELECT number FROM conversation WHERE tenant_id = ? AND state = ? AND number > ?"
                f"{also} ORDER BY number LIMIT ?",
                (listed.tenant_id, state, listed.after, *values, listed.limit),
            )
            found.extend(number for (number,) in rows)
        return sorted(found)[: listed.limit]

    def unfinished(self, owner: str) -> list[int]:
        """Return the numbers of an owner's conversations that are live, or have turns to end."""
        rows = self._execute(
            "SELECT number FROM conversation WHERE owner = ? AND number IN ("
            " SELECT number FROM conversation WHERE state = 'live'"
            f" UNION SELECT number FROM turn WHERE {WAITING}) ORDER BY number",
            (owner,),
        )
        return [number for (number,) in rows]

    def expired(
        self,
        owner: str,
        *,
        lives: Callable[[str], bool],
        before_ms: int,
        limit: int,
        after: int,
        blueprint: str | None,
    ) -> list[int]:
        """Return those that nobody used since, without live ones and those with turns to end.

        And without what other owners have that live; what is live at a dead one is so no longer.
        """
        rows = self._execute(
            "SELECT number, owner FROM conversation"
            " WHERE (state <> 'live' OR owner <> :owner) AND last_activity_ms < :before"
            " AND number > :after"
            " AND (:blueprint IS NULL OR blueprint = :blueprint)"
            " AND NOT EXISTS (SELECT 1 FROM turn"
            f" WHERE turn.number = conversation.number AND turn.{WAITING})"
            " ORDER BY number",
            {"before": before_ms, "owner": owner, "after": after, "blueprint": blueprint},
        )
        had = (number for number, whose in rows if whose == owner or not lives(whose))
        return list(islice(had, limit))

    def newest(self, tenant_id: str, session_id: str, *, fence: int | None) -> list[int]:
        """Return the number of the newest conversation of an id, or of that with a fence."""
        rows = self._execute(
            "SELECT number FROM conversation WHERE tenant_id = :tenant AND session_id = :id"
            " AND (:fence IS NULL OR fence = :fence) ORDER BY number DESC LIMIT 1",
            {"tenant": tenant_id, "id": session_id, "fence": fence},
        )
        return [number for (number,) in rows]

    def count(self, tenant_id: str) -> int:
        """Return how many conversations a tenant has."""
        counted = "SELECT count(*) FROM conversation WHERE tenant_id = ?"
        return int(self._execute(counted, (tenant_id,)).fetchone()[0])

    def greatest_fence(self) -> int:
        """Return the greatest fence of all."""
        return int(self._execute("SELECT coalesce(max(fence), 0) FROM epoch").fetchone()[0])

    def conversations(
        self, numbers: Sequence[int], *, tails: dict[int, Tail], with_options: bool = True
    ) -> list[StoredConversation]:
        """Return conversations in the order of their numbers; what is not there is left out."""
        columns = CONVERSATION if with_options else CONVERSATION.replace("options", "x''")
        marks = ", ".join("?" * len(numbers))
        epochs: defaultdict[int, list[StoredEpoch]] = defaultdict(list)
        for number, fence, first in self._execute(
            f"SELECT number, fence, first_index FROM epoch WHERE number IN ({marks})"
            " ORDER BY number, fence",
            numbers,
        ):
            epochs[number].append(StoredEpoch(fence, first))
        waiting = dict(
            self._execute(
                f"SELECT number, count(*) FROM turn WHERE number IN ({marks})"
                f" AND {WAITING} GROUP BY number",
                numbers,
            )
        )
        rows = self._execute(
            f"SELECT {columns} FROM conversation WHERE number IN ({marks}) ORDER BY number",
            numbers,
        )
        return [
            self._conversation(
                row,
                epochs=tuple(epochs[row[0]]),
                waiting=waiting.get(row[0], 0),
                tail=tails.get(row[0]),
            )
            for row in rows
        ]

    def _conversation(
        self,
        row: Sequence[Any],
        *,
        epochs: tuple[StoredEpoch, ...],
        waiting: int,
        tail: Tail | None,
    ) -> StoredConversation:
        *columns, held_bytes, key_id = row
        values = dict(zip(CONVERSATION.replace(",", "").split()[:-2], columns, strict=True))
        key = KeyOf(values["tenant_id"], row[0], key_id)
        unreadable = None
        for column in ("options", "ended"):
            if values[column] is None:
                continue
            try:
                self._sealing.require_key(key)
                values[column] = self._sealing.open(values[column], key=key, column=column)
            except ConversationUnreadable as error:
                unreadable, values[column] = error.problem, b""
        if tail is not None:
            values["last_index"] = max(values["last_index"], tail.last_index)
        return StoredConversation(
            **values,
            epochs=epochs,
            waiting=waiting,
            held_bytes=held_bytes + (tail.held_bytes if tail else 0),
            unreadable=unreadable,
        )

    # -- events ------------------------------------------------------------------------------------

    def frames(
        self, number: int, *, tail: Tail | None, after: int, limit: int, max_bytes: int
    ) -> list[StoredFrame]:
        """Return events after an index, at least one if there is one."""
        found = self._execute(
            "SELECT oldest_index FROM conversation WHERE number = ?", (number,)
        ).fetchone()
        if found is None:
            return []
        after = max(after, found[0] - 1)
        frames: list[StoredFrame] = []
        size = 0
        for frame in self._frames_after(number, tail=tail, after=after):
            size += len(frame.frame)
            if frames and (len(frames) >= limit or size > max_bytes):
                break
            frames.append(frame)
        return frames

    def _frames_after(self, number: int, *, tail: Tail | None, after: int) -> Iterator[StoredFrame]:
        key = self._key(number)
        if key is None:
            return
        segments = self._execute(
            "SELECT fence, first_index, last_index, frames FROM segment WHERE number = :number"
            " AND first_index >= coalesce((SELECT max(first_index) FROM segment"
            " WHERE number = :number AND first_index <= :first), 0) AND last_index >= :first"
            " ORDER BY first_index",
            {"number": number, "first": after + 1},
        )
        for fence, first, last, stored in segments:
            if stored[:1] == AS_WRITTEN:
                packed = self._sealing.open(stored[1:], key=key, column=f"frames:{first}")
            else:
                packed = decompress(self._sealing.open(stored, key=key, column=f"segment:{first}"))
            yield from _numbered(packed, fence=fence, first=first, after=after)
            after = max(after, last)
        for row in tail.rows if tail else ():
            if row.last_index <= after:
                continue
            found = self._execute(
                "SELECT frames FROM journal WHERE rowid = ? AND number = ?", (row.id, number)
            ).fetchone()
            if found is None:
                return
            packed = self._sealing.open(found[0], key=key, column=f"frames:{row.first_index}")
            yield from _numbered(packed, fence=row.fence, first=row.first_index, after=after)
            after = row.last_index

    # -- messages, turns, and what they left -------------------------------------------------------

    def messages(
        self, number: int, *, after: int, limit: int, max_bytes: int
    ) -> list[StoredMessage]:
        """Return messages after a position, oldest first, at least one if there is one."""
        rows = self._execute(
            "SELECT position, content FROM message WHERE number = ? AND position > ?"
            " ORDER BY position LIMIT ?",
            (number, after, limit),
        )
        return _as_many(self._messages(number, rows), max_bytes=max_bytes)

    def last_messages(self, number: int, *, limit: int, max_bytes: int) -> list[StoredMessage]:
        """Return the newest messages, oldest first, at least one if there is one."""
        rows = self._execute(
            "SELECT position, content FROM message WHERE number = ? ORDER BY position DESC LIMIT ?",
            (number, limit),
        )
        return _as_many(self._messages(number, rows), max_bytes=max_bytes)[::-1]

    def turns(
        self,
        number: int,
        *,
        states: tuple[TurnState, ...],
        after: int,
        limit: int,
        max_bytes: int | None,
    ) -> list[StoredTurn]:
        """Return turns after a position, oldest first; of these states, if any are named."""
        one_of = f" AND state IN ({', '.join('?' * len(states))})" if states else ""
        rows = self._execute(
            f"SELECT {TURN} FROM turn WHERE number = ? AND position > ?{one_of}"
            " ORDER BY position LIMIT ?",
            (number, after, *states, limit),
        )
        turns: list[StoredTurn] = []
        for turn in self._turns(number, rows):
            if max_bytes is not None:
                max_bytes -= len(turn.text) + len(turn.attachments)
                if turns and max_bytes < 0:
                    break
            turns.append(turn)
        return turns

    def turn(self, number: int, request_id: str) -> StoredTurn | None:
        """Return one turn."""
        rows = self._execute(
            f"SELECT {TURN} FROM turn WHERE number = ? AND request_id = ?",
            (number, request_id),
        )
        return next(self._turns(number, rows), None)

    def latest_turn(self, number: int) -> StoredTurn | None:
        """Return the newest turn."""
        rows = self._execute(
            f"SELECT {TURN} FROM turn WHERE number = ? ORDER BY position DESC LIMIT 1", (number,)
        )
        return next(self._turns(number, rows), None)

    def memories(self, number: int, *, at: int | None) -> list[StoredMemory]:
        """Return what agents left, oldest first: now, or at a checkpoint."""
        rows = self._execute(
            "SELECT request_id, kind, version, content, replaces, position FROM memory"
            " WHERE number = :number AND (:at IS NULL OR position <= :at)"
            " AND (until IS NULL OR until > :at) ORDER BY place",
            {"number": number, "at": at},
        ).fetchall()
        return [
            StoredMemory(
                request_id=request_id,
                kind=kind,
                version=version,
                content=self._opened(number, content, f"memory:{request_id}:{kind}"),
                replaces=bool(replaces),
                position=position,
            )
            for request_id, kind, version, content, replaces, position in rows
        ]

    def requests(self, number: int) -> list[StoredRequest]:
        """Return the approvals and questions of turns that have not ended, oldest first."""
        rows = self._execute(
            "SELECT request_id, reference, kind, event, answer FROM pending WHERE number = ?"
            " ORDER BY place",
            (number,),
        ).fetchall()
        return [
            StoredRequest(
                request_id=request_id,
                reference=reference,
                kind=kind,
                event=self._opened(number, event, f"pending.event:{reference}"),
                answer=answer and self._opened(number, answer, f"pending.answer:{reference}"),
            )
            for request_id, reference, kind, event, answer in rows
        ]

    def checkpoints(self, number: int) -> list[StoredCheckpoint]:
        """Return the checkpoints, oldest first."""
        rows = self._execute(
            "SELECT name, request_id, position, at_ms FROM checkpoint WHERE number = ?"
            " ORDER BY at_ms, name",
            (number,),
        )
        return [
            StoredCheckpoint(name=name, request_id=request_id, position=position, at_ms=at_ms)
            for name, request_id, position, at_ms in rows
        ]

    def answer(self, slot: str, *, now_ms: int) -> StoredAnswer | None:
        """Return the answer in a slot, while its time has not run out."""
        found = self._execute(
            "SELECT number, digest, answer FROM idempotency WHERE slot = ? AND until_ms > ?",
            (slot, now_ms),
        ).fetchone()
        if found is None:
            return None
        number, digest, answer = found
        opened = self._opened(number, answer, f"idempotency:{slot}")
        return StoredAnswer(digest=digest, answer=opened)

    def _messages(self, number: int, rows: Iterable[tuple[int, bytes]]) -> Iterator[StoredMessage]:
        for position, content in rows:
            yield StoredMessage(position, self._opened(number, content, f"message:{position}"))

    def _turns(self, number: int, rows: Iterable[Sequence[Any]]) -> Iterator[StoredTurn]:
        return (self._turn(number, row) for row in rows)

    def _turn(self, number: int, row: Sequence[Any]) -> StoredTurn:
        *columns, end, usage, kind, version, content = row
        values = dict(zip(islice(TURN.replace(",", "").split(), 12), columns, strict=True))
        request_id = values["request_id"]

        def opened(column: str, stored: bytes) -> bytes:
            return self._opened(number, stored, f"turn.{column}:{request_id}")

        values["text"] = opened("text", values["text"]).decode()
        values["attachments"] = opened("attachments", values["attachments"])
        suspended = None
        if kind is not None:
            with suppress(ConversationUnreadable):  # its conversation says that it is
                suspended = StoredMemory(
                    request_id=request_id,
                    kind=kind,
                    version=version,
                    content=opened("content", content),
                )
        return StoredTurn(
            **values,
            end=None if end is None else opened("end", end),
            usage=usage,
            suspended=suspended,
        )

    def _opened(self, number: int, stored: bytes, column: str) -> bytes:
        if stored[:1] == b"\0":
            return stored[1:]
        key = self._key(number)
        if key is None:
            raise ConversationUnreadable("it was erased")
        return self._sealing.open(stored, key=key, column=column)

    def _key(self, number: int) -> KeyOf | None:
        found = self._execute(
            "SELECT tenant_id, key_id FROM conversation WHERE number = ?", (number,)
        ).fetchone()
        return found and KeyOf(found[0], number, found[1])


def _as_many(messages: Iterable[StoredMessage], *, max_bytes: int) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    for each in messages:
        max_bytes -= len(each.message)
        if found and max_bytes < 0:
            break
        found.append(each)
    return found


def _numbered(packed: bytes, *, fence: int, first: int, after: int) -> Iterator[StoredFrame]:
    for index, frame in enumerate(unpack_frames(packed), first):
        if index > after:
            yield StoredFrame(fence, index, frame)
