"""What a process that went down left in the storage, brought to an end.

A turn that waits for somebody, and can go on in another agent, is left. Any other that was under
way is ended, not repeated: its one `agent_abort{interrupted}` follows the last event that was
committed, and its messages are made out from its events, so that the next agent knows which tools
ran and which were cut off. All of one conversation is one commit: a recovery that is cut off itself
is done again, with the same result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from frontdesk.agents.events import AgentAbort, ApprovalResolved, Event, encode, event_class
from frontdesk.agents.records import Message
from frontdesk.persistence.conversations import Conversations
from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.persistence.frames import EventFrame, decode_frame, encode_frame
from frontdesk.persistence.operations import (
    AnyOperation,
    ConversationLeft,
    EpochBegun,
    FramesAppended,
    MessageAdded,
    TurnFinished,
)
from frontdesk.persistence.stored import StoredConversation, StoredTurn
from frontdesk.sessions.counters import Counters
from frontdesk.sessions.history import History
from frontdesk.sessions.stop_reason import INTERRUPTED
from frontdesk.sessions.transcript import Transcript
from frontdesk.sessions.turn_ends import TurnEnd

_log = logging.getLogger("frontdesk.sessions")

_BATCH = 1024
_BATCH_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Recovery:
    """What brings a conversation to rest, and which turns it ends.

    Attributes:
        stored (StoredConversation): As it was before.
        operations (list): Nothing where there is nothing to do.
        cut_off (list[StoredTurn]): As they were before.
    """

    stored: StoredConversation
    operations: list[AnyOperation]
    cut_off: list[StoredTurn]


def recovered(
    store: Conversations, stored: StoredConversation, *, fence: Callable[[], int], now_ms: int
) -> Recovery:
    """Return what brings a conversation to rest that nobody serves any more. Blocks.

    Where its key is lost, what was under way stays as it is: a start with the key ends it.
    """
    try:
        cut_off = store.turns(stored.number, states=("running",))
        operations = _ended_turns(store, stored, cut_off, fence=fence, now_ms=now_ms)
    except ConversationUnreadable as error:
        _log.warning("session %s is not recovered: %s", stored.session_id, error.problem)
        operations, cut_off = [], []
    if not operations and stored.state == "live" and stored.waiting:
        # Of what a client saw of a turn that is suspended, the last may be lost: what is said of it
        # from here on has other ids.
        first = stored.last_index + 1
        operations.append(_epoch(stored.number, fence=fence(), index=first, now_ms=now_ms))
    if operations or stored.state == "live":
        operations.append(ConversationLeft(number=stored.number, at_ms=now_ms))
    return Recovery(stored, operations, cut_off)


def _ended_turns(
    store: Conversations,
    stored: StoredConversation,
    cut_off: Sequence[StoredTurn],
    *,
    fence: Callable[[], int],
    now_ms: int,
) -> list[AnyOperation]:
    operations: list[AnyOperation] = []
    last_index, position = stored.last_index, stored.last_position
    for turn in cut_off:
        messages, text = messages_of(store, turn)
        for message in messages:
            position += 1
            encoded = msgspec.json.encode(message)
            operations.append(
                MessageAdded(number=stored.number, position=position, message=encoded)
            )
        events = [*_dismissed(store, turn), AgentAbort(INTERRUPTED)]
        operations += _aborted(
            stored,
            turn,
            events,
            first_index=last_index + 1,
            position=position,
            fence=fence(),
            text=text,
            now_ms=now_ms,
        )
        last_index += len(events)
    return operations


def _aborted(
    stored: StoredConversation,
    turn: StoredTurn,
    events: Sequence[Event],
    *,
    first_index: int,
    position: int,
    fence: int,
    text: str,
    now_ms: int,
) -> list[AnyOperation]:
    """Return the one end of a turn that was cut off."""
    number, request_id = stored.number, turn.request_id
    last_index = first_index + len(events) - 1
    frames = tuple(_frame_of(each, request_id) for each in events)
    used, totals = counters_in(turn.usage or b""), counters_in(stored.totals)
    totals.turns += 1
    # What it used last, nobody said.
    totals.unknown_usage, used.unknown_usage = totals.unknown_usage + 1 - used.unknown_usage, 1
    end = TurnEnd(
        request_id=request_id,
        text=text,
        tokens=used.turn_tokens,
        last_index=last_index,
        aborted=INTERRUPTED,
        last_position=position,
    )
    return [
        _epoch(number, fence=fence, index=first_index, now_ms=now_ms),
        FramesAppended(number=number, fence=fence, first_index=first_index, frames=frames),
        TurnFinished(
            number=number,
            request_id=request_id,
            state="failed",
            last_index=last_index,
            end=msgspec.json.encode(end),
            usage=msgspec.json.encode(used),
            totals=msgspec.json.encode(totals),
            at_ms=now_ms,
        ),
    ]


def _frame_of(event: Event, request_id: str) -> bytes:
    return encode_frame(EventFrame(event.name, request_id, encode(event, request_id=request_id)))


def _dismissed(store: Conversations, turn: StoredTurn) -> list[Event]:
    """Return what says that nobody's answer is waited for any more, for each open approval."""
    return [
        ApprovalResolved(each.reference, "cancelled")
        for each in store.requests(turn.number)
        if each.kind == "approval" and each.request_id == turn.request_id and each.answer is None
    ]


def messages_of(store: Conversations, turn: StoredTurn) -> tuple[list[Message], str]:
    """Return the messages that a turn's events make, and the last text."""
    history = History(max_messages=10_000, max_bytes=64 * 1024 * 1024)
    transcript = Transcript(history)
    for event in _events(store, turn):
        transcript.add(event)
    last = transcript.close()
    return list(history.all()), last.content


def _events(store: Conversations, turn: StoredTurn) -> Iterator[Event]:
    after = turn.first_index - 1
    while True:
        frames = store.frames(turn.number, after=after, limit=_BATCH, max_bytes=_BATCH_BYTES)
        for each in frames:
            frame = decode_frame(each.frame)
            if frame.request_id == turn.request_id:
                with suppress(KeyError):  # an event that only another version knows
                    yield msgspec.json.decode(frame.json, type=event_class(frame.name))
        if not frames:
            return
        after = frames[-1].index


def _epoch(number: int, *, fence: int, index: int, now_ms: int) -> EpochBegun:
    return EpochBegun(number=number, fence=fence, first_index=index, at_ms=now_ms)


def counters_in(stored: bytes) -> Counters:
    """Return counters as they were stored; none where there are none yet."""
    return msgspec.json.decode(stored, type=Counters) if stored else Counters()
