"""What a conversation goes on from, read from the storage. All of it blocks."""

from __future__ import annotations

import msgspec

from frontdesk.agents.records import Message, SessionContext
from frontdesk.persistence.conversations import Conversations
from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.persistence.stored import StoredConversation, StoredTurn
from frontdesk.sessions.conversation_record import StoredOptions
from frontdesk.sessions.earlier_life import EarlierLife, EarlierRequest, EarlierTurn
from frontdesk.sessions.recovery import counters_in, messages_of
from frontdesk.sessions.remembered import memory_of


def read_life(
    store: Conversations, stored: StoredConversation, *, messages: int, max_bytes: int
) -> EarlierLife:
    """Return what a conversation goes on from, with its newest messages.

    Where its key is lost, it is what is stored in clear of it: what waits there waits on.
    """
    try:
        return _whole_life(store, stored, messages=messages, max_bytes=max_bytes)
    except ConversationUnreadable as error:
        stored = msgspec.structs.replace(stored, unreadable=error.problem)
        return EarlierLife(
            stored=stored,
            options=_options_of(stored),
            messages=(),
            totals=counters_in(stored.totals),
            waiting=(),
            suspended=None,
            latest=None,
        )


def _whole_life(
    store: Conversations, stored: StoredConversation, *, messages: int, max_bytes: int
) -> EarlierLife:
    number = stored.number
    newest = store.last_messages(number, limit=messages, max_bytes=max_bytes)
    suspended = store.turns(number, states=("suspended",))
    latest, totals = store.latest_turn(number), counters_in(stored.totals)
    # Written at turns' ends; those that were accepted since have their places.
    totals.prompts = max(totals.prompts, 0 if latest is None else latest.position)
    return EarlierLife(
        stored=stored,
        options=_options_of(stored),
        messages=tuple(msgspec.json.decode(each.message, type=Message) for each in newest),
        totals=totals,
        waiting=tuple(store.turns(number, states=("queued",))),
        suspended=_earlier_turn(store, suspended[0]) if suspended else None,
        latest=latest,
    )


def _earlier_turn(store: Conversations, turn: StoredTurn) -> EarlierTurn:
    messages, text = messages_of(store, turn)
    own = [each for each in store.requests(turn.number) if each.request_id == turn.request_id]
    left = turn.suspended
    return EarlierTurn(
        request_id=turn.request_id,
        memory=None if left is None else memory_of(left),
        requests=EarlierRequest.all_of(own),
        messages=tuple(messages),
        text=text,
        stored=turn,
    )


def _options_of(stored: StoredConversation) -> StoredOptions:
    """Return what it was opened with: as much as is told in clear, where its key is lost."""
    if stored.unreadable is None:
        return msgspec.json.decode(stored.options, type=StoredOptions)
    return StoredOptions(
        context=SessionContext(
            session_id=stored.session_id,
            tenant_id=stored.tenant_id,
            blueprint=stored.blueprint,
            model=stored.model,
        )
    )
