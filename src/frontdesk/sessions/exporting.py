"""A stored conversation, written out as JSON lines, a part at a time.

As it was when that began: what has come to an end by then. Where something of it goes meanwhile
(it is erased, or its oldest events make room), the lines stop without their end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator

import msgspec

from frontdesk.agents.records import Message
from frontdesk.errors import SessionNotFound
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.conversations import Conversations
from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.persistence.frames import decode_frame
from frontdesk.persistence.stored import StoredConversation, StoredFrame, StoredTurn
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.conversation_record import StoredOptions
from frontdesk.sessions.counters import Counters
from frontdesk.sessions.earlier_life import reason_in
from frontdesk.sessions.portable_lines import (
    VERSION,
    PortableCheckpoint,
    PortableConversation,
    PortableCounters,
    PortableEnd,
    PortableEvent,
    PortableLine,
    PortableMessage,
    PortableTurn,
    PortableTurnEnd,
)
from frontdesk.sessions.recovery import counters_in
from frontdesk.sessions.remembered import position_after
from frontdesk.sessions.turn_ends import TurnEnd

_PAGE = 256
_PAGE_BYTES = 1024 * 1024
_ENDED = ("completed", "failed", "cancelled")


class ExportCutOff(Exception):
    """What was being exported is not there any more."""


class Export:
    """Write a conversation out. `parts` blocks, each part for as long as reading a page takes."""

    def __init__(self, store: Conversations, stored: StoredConversation) -> None:
        self._store, self._stored = store, stored
        self._messages = self._turns = self._checkpoints = self._events = 0
        self._last_position, self._last_index = 0, stored.last_index
        self._ended: set[str] = set()

    def parts(self) -> Iterator[bytes]:
        """Give the lines, many at a time. `ConversationUnreadable` where its key is lost.

        `ExportCutOff` where something of it is gone before it was written out.
        """
        stored = self._stored
        if stored.unreadable is not None:
            raise ConversationUnreadable(stored.unreadable)
        yield _encoded([self.first()])
        self.find_ended()
        yield from map(_encoded, self.message_pages())
        yield from map(_encoded, self.turn_pages())
        yield _encoded(self.read_checkpoints())
        yield from map(_encoded, self.event_pages())
        yield _encoded(
            [
                PortableEnd(
                    messages=self._messages,
                    turns=self._turns,
                    checkpoints=self._checkpoints,
                    events=self._events,
                )
            ]
        )

    def first(self) -> PortableConversation:
        stored = self._stored
        context = msgspec.json.decode(stored.options, type=StoredOptions).context
        return PortableConversation(
            version=VERSION,
            session_id=stored.session_id,
            blueprint=stored.blueprint,
            model=stored.model,
            label=stored.label,
            created_at=stored.created_at_ms,
            forked_from=stored.forked_from,
            ended=None if stored.ended is None else reason_in(stored.ended),
            totals=counters_line(counters_in(stored.totals)),
            tools=context.tools,
            plugins=context.plugins,
            max_turns=context.max_turns,
            max_tokens=context.max_tokens,
            prompt_mode=context.prompt_mode,
        )

    def find_ended(self) -> None:
        """Find out which turns have ended, and how far what has ended reaches."""
        options = msgspec.json.decode(self._stored.options, type=StoredOptions)
        self._last_position = options.inherited
        for page in self.stored_turns():
            for turn in page:
                if turn.state in _ENDED:
                    self._ended.add(turn.request_id)
                    self._last_position = max(self._last_position, position_after(turn))
                elif turn.first_index:
                    self._last_index = min(self._last_index, turn.first_index - 1)

    def turn_pages(self) -> Iterator[list[PortableTurn]]:
        for page in self.stored_turns():
            ended = [turn_line(turn) for turn in page if turn.request_id in self._ended]
            self._turns += len(ended)
            yield ended

    def stored_turns(self) -> Iterator[list[StoredTurn]]:
        after = 0
        while page := self._store.turns(
            self._stored.number, after=after, limit=_PAGE, max_bytes=_PAGE_BYTES
        ):
            yield page
            after = page[-1].position

    def message_pages(self) -> Iterator[list[PortableMessage]]:
        after = 0
        while page := self._store.messages(
            self._stored.number, after=after, limit=_PAGE, max_bytes=_PAGE_BYTES
        ):
            yield [
                PortableMessage(
                    position=each.position,
                    message=msgspec.json.decode(each.message, type=Message),
                )
                for each in page
                if each.position <= self._last_position
            ]
            self._messages += sum(each.position <= self._last_position for each in page)
            after = page[-1].position

    def read_checkpoints(self) -> list[PortableCheckpoint]:
        lines = [
            PortableCheckpoint(
                name=each.name, request_id=each.request_id, position=each.position, at=each.at_ms
            )
            for each in self._store.checkpoints(self._stored.number)
            if each.request_id in self._ended
        ]
        self._checkpoints = len(lines)
        return lines

    def event_pages(self) -> Iterator[list[PortableEvent]]:
        after, last = self._stored.oldest_index - 1, self._last_index
        while after < last:
            page = self._store.frames(
                self._stored.number, after=after, limit=_PAGE, max_bytes=_PAGE_BYTES
            )
            if not page or page[0].index != after + 1:
                raise ExportCutOff
            wanted = [event_line(each) for each in page if each.index <= last]
            self._events += len(wanted)
            yield wanted
            after = page[-1].index


async def exported(commits: CommitQueue, conversation: Conversation) -> AsyncIterator[bytes]:
    """Give what is stored of a conversation as JSON lines, each part read beside the event loop.

    `SessionNotFound` where it was erased meanwhile, and what `Export.parts` raises.
    """
    await conversation.committed()
    tenant_id, session_id = conversation.tenant_id, conversation.session_id

    def begin(store: Conversations) -> Iterator[bytes] | None:
        stored = store.find(tenant_id, session_id, fence=conversation.fence)
        return None if stored is None else Export(store, stored).parts()

    parts = await commits.read(begin, asker=tenant_id)
    if parts is None:
        raise SessionNotFound(session_id)
    while True:
        part = await commits.read(lambda _: next(parts, None), asker=tenant_id)
        if part is None:
            return
        yield part


def turn_line(turn: StoredTurn) -> PortableTurn:
    assert turn.end is not None, "it has ended"
    return PortableTurn(
        request_id=turn.request_id,
        state=turn.state,  # type: ignore[arg-type]  # one of those that are ends
        text=turn.text,
        first_index=turn.first_index,
        last_index=turn.last_index,
        queued_at=turn.queued_at_ms,
        begun_at=turn.begun_at_ms,
        ended_at=turn.ended_at_ms or turn.queued_at_ms,
        end=msgspec.convert(
            msgspec.json.decode(turn.end, type=TurnEnd), PortableTurnEnd, from_attributes=True
        ),
        usage=counters_line(counters_in(turn.usage or b"")),
    )


def counters_line(counters: Counters) -> PortableCounters:
    return msgspec.convert(counters, PortableCounters, from_attributes=True)


def event_line(stored: StoredFrame) -> PortableEvent:
    frame = decode_frame(stored.frame)
    return PortableEvent(index=stored.index, type=frame.name, data=msgspec.Raw(frame.json))


def _encoded(lines: Iterable[PortableLine]) -> bytes:
    return b"".join(msgspec.json.encode(each) + b"\n" for each in lines)
