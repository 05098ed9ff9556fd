"""The messages of a conversation that are stored, a page at a time."""

from __future__ import annotations

import msgspec

from frontdesk.agents.records import Message
from frontdesk.persistence.conversations import Conversations, StoredMessage
from frontdesk.sessions.history import MessagePage

MAX_PAGE_BYTES = 4 * 1024 * 1024
"""Of the messages of a page, as they are stored; one is always on it."""

_BATCH = 64


def stored_page(store: Conversations, number: int, *, after: int, limit: int) -> MessagePage:
    """Return up to `limit` messages after a position, as many as the page has room for. Blocks."""
    found: list[StoredMessage] = []
    room, following = MAX_PAGE_BYTES, None
    while following is None:
        batch = store.messages(number, after=after, limit=min(_BATCH, limit + 1 - len(found)))
        if not batch:
            break
        for each in batch:
            room -= len(each.message)
            if len(found) == limit or (found and room < 0):
                following = str(found[-1].position)
                break
            found.append(each)
        after = batch[-1].position
    messages = tuple(msgspec.json.decode(each.message, type=Message) for each in found)
    return MessagePage(messages, following)
