"""How far the memory of a conversation's agents reaches, and what the next one gets of it."""

from __future__ import annotations

import msgspec

from frontdesk.agents.records import Memory, Message, Restored
from frontdesk.persistence.conversations import Conversations
from frontdesk.persistence.stored import StoredMemory, StoredTurn
from frontdesk.sessions.conversation_record import StoredOptions
from frontdesk.sessions.turn_ends import TurnEnd

_LAST = 8
"""Of how many turns that left something the end is looked up: a late one may come after others."""


def restored(
    store: Conversations,
    number: int,
    *,
    history: tuple[Message, ...],
    newest: int,
    options: StoredOptions,
) -> Restored:
    """Return what the next agent gets; `newest` is the number of the history's last message."""
    found = store.memories(number)
    reached = remembered_position(store, number, found, inherited=options.remembered)
    return Restored(
        history=history,
        memories=tuple(map(memory_of, found)),
        unremembered=min(len(history), max(0, newest - reached)),
    )


def remembered_position(
    store: Conversations, number: int, memories: list[StoredMemory], *, inherited: int
) -> int:
    """Return the number of the last message that these know of, 0 where there are none.

    `inherited` is that of those that were taken over from another conversation. Blocks.
    """
    if not memories:
        return 0
    last = list(dict.fromkeys(each.request_id for each in reversed(memories)))[:_LAST]
    turns = (store.turn(number, request_id) for request_id in last)
    return max(inherited, *(0 if each is None else position_after(each) for each in turns))


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
