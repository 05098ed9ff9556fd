"""What a new session takes over of another one, up to the end of a turn: a fork.

Messages and memory, no events, and no turns: they are the other's. Whether that lives, is dormant
or has ended makes no difference, and it is not changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.records import ForkPoint, Memory, Message, Restored
from frontdesk.errors import InvalidArgument, SessionNotFound
from frontdesk.persistence.conversations import PAGE_BYTES, Conversations
from frontdesk.persistence.stored import StoredConversation, StoredMemory, StoredTurn
from frontdesk.sessions.conversation_record import StoredOptions
from frontdesk.sessions.remembered import memory_of, position_after

MAX_TAKEN_BYTES = 16 * 1024 * 1024
"""Of messages, the newest; what is taken over is one commit."""

OUTSIDE = ("acp",)
"""Kinds of memory that name something outside, which goes on with one session only."""

_PAGE = 500


class ForkedMemory(msgspec.Struct, frozen=True):
    """What an agent left, in which turn, and how many of the fork's messages it knows."""

    request_id: str
    memory: Memory
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkSource:
    """What a fork begins with: of which session, its options, messages and memory."""

    session_id: str
    model: str
    options: StoredOptions
    messages: tuple[Message, ...]
    memories: tuple[ForkedMemory, ...]

    def restored(self, history: tuple[Message, ...]) -> Restored:
        """Return what the first agent of the fork gets; `history` is what is held of messages."""
        reached = max((each.position for each in self.memories), default=0)
        return Restored(
            history=history,
            memories=tuple(each.memory for each in self.memories),
            unremembered=min(len(history), len(self.messages) - reached),
        )


def fork_source(store: Conversations, tenant_id: str, point: ForkPoint) -> ForkSource:
    """Read what a fork takes of a tenant's session. Blocks.

    `SessionNotFound`; `InvalidArgument` where nothing of the session has the name `after`, and
    where that turn has not ended; `CreateFailed` where its options cannot be decrypted.
    """
    stored = store.find(tenant_id, point.session_id)
    if stored is None:
        raise SessionNotFound(point.session_id)
    if stored.unreadable is not None:
        raise CreateFailed(f"session {point.session_id!r} cannot be read: {stored.unreadable}")
    options = msgspec.json.decode(stored.options, type=StoredOptions)
    position = _position(store, stored, point.after, options=options)
    messages = _newest(store, stored.number, position)
    left_out = position - len(messages)
    return ForkSource(
        session_id=stored.session_id,
        model=stored.model,
        options=options,
        messages=messages,
        memories=tuple(
            ForkedMemory(each.request_id, memory_of(each), max(0, each.position - left_out))
            for each in _memories(store, stored.number, position)
        ),
    )


def latest_end(store: Conversations, number: int) -> StoredTurn | None:
    """Return the last turn that has ended after it began. Blocks.

    Costs a look at the newest turn, and where that is not it, at all.
    """
    newest = store.latest_turn(number)
    if newest is None or newest.state in ("completed", "failed"):
        return newest
    found = None
    for turn in ended_turns(store, number):
        found = turn
    return found


def ended_turns(store: Conversations, number: int) -> Iterator[StoredTurn]:
    """Give the turns that began and have ended, oldest first. Blocks."""
    after = 0
    while page := store.turns(
        number, states=("completed", "failed"), after=after, limit=_PAGE, max_bytes=PAGE_BYTES
    ):
        yield from page
        after = page[-1].position


def _position(
    store: Conversations, stored: StoredConversation, after: str | None, *, options: StoredOptions
) -> int:
    """Return the number of the last message that is taken."""
    if after is None:
        turn = latest_end(store, stored.number)
        return options.inherited if turn is None else position_after(turn)
    for checkpoint in store.checkpoints(stored.number):
        if checkpoint.name == after:
            return checkpoint.position
    turn = store.turn(stored.number, after)
    if turn is None or not (position := position_after(turn)):
        expected = "a checkpoint, or the request id of a turn that has ended"
        raise InvalidArgument("after", expected=expected, got=repr(after[:80]))
    return position


def _newest(store: Conversations, number: int, last: int) -> tuple[Message, ...]:
    """Return the newest messages up to a number, as many as may be taken."""
    taken: deque[bytes] = deque()
    size = after = 0
    while page := store.messages(number, after=after, limit=_PAGE):
        for each in page:
            if each.position > last:
                break
            taken.append(each.message)
            size += len(each.message)
            while size > MAX_TAKEN_BYTES and len(taken) > 1:
                size -= len(taken.popleft())
        after = page[-1].position
        if after >= last:
            break
    return tuple(msgspec.json.decode(each, type=Message) for each in taken)


def _memories(store: Conversations, number: int, last: int) -> list[StoredMemory]:
    """Return the memories of turns up to a message; none, rather than some that lack a part."""
    found = store.memories(number)
    if any(each.replaces and each.position > last for each in found):
        # What was replaced is gone, but for what a checkpoint has: one that is there afterwards.
        found = store.memories(number, at=last)
        if all(each.position != last for each in store.checkpoints(number)):
            return []
    return [each for each in found if each.position <= last and not each.kind.startswith(OUTSIDE)]
