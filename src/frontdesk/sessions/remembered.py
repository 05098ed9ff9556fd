"""How far the memory of a conversation's agents reaches, and what the next one gets of it."""

from __future__ import annotations

import msgspec

from frontdesk.agents.records import Memory, Message, Restored
from frontdesk.persistence.conversations import Conversations
from frontdesk.persistence.stored import StoredMemory, StoredTurn
from frontdesk.sessions.turn_ends import TurnEnd


def restored(
    store: Conversations, number: int, *, history: tuple[Message, ...], newest: int
) -> Restored:
    """Return what the next agent gets; `newest` is the number of the history's last message."""
    found = store.memories(number)
    reached = max((each.position for each in found), default=0)
    return Restored(
        history=history,
        memories=tuple(map(memory_of, found)),
        unremembered=min(len(history), max(0, newest - reached)),
    )


def position_after(turn: StoredTurn) -> int:
    """Return the number of the history's newest message when a turn ended, 0 before that."""
    if turn.end is None:
        return 0
    return msgspec.json.decode(turn.end, type=TurnEnd).last_position


def memory_of(stored: StoredMemory) -> Memory:
    """Return what an agent left as its next one gets it."""
    return Memory(
        kind=stored.kind,
        version=stored.version,
        content=stored.content,
        replaces=stored.replaces,
    )
