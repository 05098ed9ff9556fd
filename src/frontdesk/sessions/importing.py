"""A conversation from JSON lines: read a part at a time, checked line by line, and stored at once.

What is wrong is found out before anything is stored, every wrong line by its number; then all of it
is one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from frontdesk.agents.records import CreateSession, SessionContext
from frontdesk.persistence.operations import (
    AnyOperation,
    CheckpointMade,
    ConversationEnded,
    ConversationLeft,
    ConversationOpened,
    FramesAppended,
    FramesDropped,
    MessageAdded,
    TurnBegun,
    TurnFinished,
    TurnQueued,
)
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.conversation_record import StoredOptions
from frontdesk.sessions.counters import Counters
from frontdesk.sessions.errors import GuardrailRefused, ImportRefused
from frontdesk.sessions.input_checks import filtered
from frontdesk.sessions.portable_lines import (
    IN_ORDER,
    AnyLine,
    PortableCheckpoint,
    PortableConversation,
    PortableCounters,
    PortableEnd,
    PortableEvent,
    PortableLine,
    PortableMessage,
    PortableTurn,
)
from frontdesk.sessions.portable_parts import PortableParts
from frontdesk.sessions.turn_ends import TurnEnd

MAX_PROBLEMS = 100
"""Wrong lines that are named; after these, no more is read."""

MAX_LINE_BYTES = 8 * 1024 * 1024
_FRAMES = 256
_DECODER = msgspec.json.Decoder(AnyLine)
_ADD: Mapping[type[PortableLine], Callable[[PortableParts, Any], str | None]] = MappingProxyType(
    {
        PortableConversation: PortableParts.add_conversation,
        PortableMessage: PortableParts.add_message,
        PortableTurn: PortableParts.add_turn,
        PortableCheckpoint: PortableParts.add_checkpoint,
        PortableEvent: PortableParts.add_event,
        PortableEnd: PortableParts.add_end,
    }
)


class ImportedConversation:
    """Read lines with `feed`, then `finish`; both raise `ImportRefused`."""

    def __init__(self, *, max_event_bytes: int) -> None:
        self._parts = PortableParts(max_event_bytes=max_event_bytes)
        self._problems: list[tuple[int, str]] = []
        self._unread: list[bytes] = []
        self._unread_bytes = self._line = self._place = 0

    def feed(self, part: bytes) -> None:
        """Read what came next."""
        *lines, rest = part.split(b"\n")
        for each in lines:
            self._read(b"".join((*self._unread, each)))
            self._unread.clear()
            self._unread_bytes = 0
        self._unread.append(rest)
        self._unread_bytes += len(rest)
        if self._unread_bytes > MAX_LINE_BYTES:
            self._line += 1
            self._refuse(f"is longer than {MAX_LINE_BYTES} bytes")
            raise ImportRefused(problems=self._problems)

    def finish(self) -> None:
        """Raise `ImportRefused` unless all lines have been read and are right."""
        if self._unread_bytes:
            self.feed(b"\n")
        if not self._parts.over and not self._problems:
            self._line += 1
            self._refuse("the end is missing: what was exported was cut off")
        if self._problems:
            raise ImportRefused(problems=self._problems)

    def check(self, service: ServiceContext, *, tenant_id: str) -> None:
        """Raise `ImportRefused` for what users are said to have said and a filter refuses."""
        for line, each in enumerate(self._parts.messages, 2):
            if each.message.role == "user":
                try:
                    filtered(each.message.content, service=service, tenant_id=tenant_id)
                except GuardrailRefused as error:
                    self._problems.append((line, str(error)))
        if self._problems:
            raise ImportRefused(problems=self._problems[:MAX_PROBLEMS])

    def wanted(self, session_id: str | None) -> CreateSession:
        """Return what opens a session like this one, under another id, if one is given."""
        assert self._parts.first is not None, "it is finished"
        return self._parts.wanted(self._parts.first, session_id)

    def _read(self, line: bytes) -> None:
        """Read a line, and remember what is wrong with it."""
        self._line += 1
        try:
            read = _DECODER.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            self._refuse(str(error) or "is nested too deeply")
            return
        place = IN_ORDER.index(type(read))
        if self._parts.over or place < self._place or (place == 0) != (self._line == 1):
            self._refuse(f"a line {line[:40]!r}… does not belong at this place")
            return
        self._place = place
        if (problem := _ADD[type(read)](self._parts, read)) is not None:
            self._refuse(problem)

    def _refuse(self, problem: str) -> None:
        self._problems.append((self._line, problem))
        if len(self._problems) >= MAX_PROBLEMS:
            raise ImportRefused(problems=self._problems)

    def operations(
        self, context: SessionContext, *, number: int, fence: int, api_key: str | None, now_ms: int
    ) -> list[AnyOperation]:
        """Return what stores it as a conversation of this context: all of it is one commit."""
        parts, first = self._parts, self._parts.first
        assert first is not None, "it is finished"
        inherited = 0 if parts.turns else parts.last_position
        options = StoredOptions(context=context, inherited=inherited, left_for="imported")
        opened = ConversationOpened(
            number=number,
            tenant_id=context.tenant_id,
            session_id=context.session_id,
            blueprint=context.blueprint,
            model=context.model,
            api_key=api_key,
            label=first.label,
            created_at_ms=first.created_at,
            fence=fence,
            options=msgspec.json.encode(options),
            forked_from=first.forked_from,
        )
        end: AnyOperation = ConversationLeft(number=number, at_ms=now_ms)
        if first.ended is not None:
            reason = msgspec.json.encode(first.ended)
            end = ConversationEnded(number=number, reason=reason, at_ms=now_ms)
        totals = stored_counters(first.totals)
        return [
            opened,
            *messages_and_events(parts, number=number, fence=fence),
            *(
                operation
                for turn in parts.turns.values()
                for operation in turn_operations(turn, number, api_key=api_key, totals=totals)
            ),
            *(checkpoint_made(number, each) for each in parts.checkpoints.values()),
            end,
        ]


def messages_and_events(parts: PortableParts, *, number: int, fence: int) -> list[AnyOperation]:
    """Return what stores messages, and events under a fence of their own."""
    first = parts.first_index
    operations: list[AnyOperation] = [
        MessageAdded(
            number=number, position=each.position, message=msgspec.json.encode(each.message)
        )
        for each in parts.messages
    ]
    for start in range(0, len(parts.frames), _FRAMES):
        frames = tuple(parts.frames[start : start + _FRAMES])
        operations.append(
            FramesAppended(number=number, fence=fence, first_index=first + start, frames=frames)
        )
    if first > 1:
        operations.append(FramesDropped(number=number, before_index=first))
    return operations


def turn_operations(
    turn: PortableTurn, number: int, *, api_key: str | None, totals: bytes
) -> list[AnyOperation]:
    """Return what stores a turn that has ended."""
    request_id = turn.request_id
    queued = TurnQueued(
        number=number,
        request_id=request_id,
        text=turn.text,
        api_key=api_key,
        at_ms=turn.queued_at,
    )
    finished = TurnFinished(
        number=number,
        request_id=request_id,
        state=turn.state,
        last_index=turn.last_index,
        end=msgspec.json.encode(msgspec.convert(turn.end, TurnEnd, from_attributes=True)),
        usage=stored_counters(turn.usage),
        totals=totals,
        at_ms=turn.ended_at,
    )
    if turn.begun_at is None:
        return [queued, finished]
    begun = TurnBegun(
        number=number,
        request_id=request_id,
        first_index=turn.first_index,
        at_ms=turn.begun_at,
    )
    return [queued, begun, finished]


def stored_counters(read: PortableCounters) -> bytes:
    """Return counters as they are stored."""
    return msgspec.json.encode(msgspec.convert(read, Counters, from_attributes=True))


def checkpoint_made(number: int, read: PortableCheckpoint) -> CheckpointMade:
    """Return what stores a checkpoint."""
    return CheckpointMade(
        number=number,
        name=read.name,
        request_id=read.request_id,
        position=read.position,
        at_ms=read.at,
    )
