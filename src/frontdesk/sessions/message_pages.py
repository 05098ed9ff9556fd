"""The messages of a conversation that are stored, a page at a time."""

from __future__ import annotations

import msgspec

from frontdesk.agents.records import Message
from frontdesk.persistence.conversations import Conversations
from frontdesk.sessions.history import MessagePage

MAX_PAGE_BYTES = 4 * 1024 * 1024
"""Of the messages of a page, as they are stored; one is always on it."""

_BATCH_BYTES = 256 * 1024


def stored_page(store: Conversations, number: int, *, after: int, limit: int) -> MessagePage:
    """Return up to `limit` messages after a position, as many as the page has room for. Blocks."""
    messages: list[Message] = []
    room = MAX_PAGE_BYTES
    while batch := store.messages(
        number, after=after, limit=limit + 1 - len(messages), max_bytes=_BATCH_BYTES
    ):
        for each in batch:
            room -= len(each.message)
            if len(messages) == limit or (messages and room < 0):
                return MessagePage(tuple(messages), str(after))
            messages.append(msgspec.json.decode(each.message, type=Message))
            after = each.position
    return MessagePage(tuple(messages), None)
