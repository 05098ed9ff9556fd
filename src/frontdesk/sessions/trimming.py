"""A conversation that takes more room than it may: its oldest events go, and only they.

Its messages and what its agents left stay: without them the next agent would know less. Where they
alone are too much, the conversation is full.
"""

from __future__ import annotations

from contextlib import suppress

from frontdesk.errors import FrontdeskError
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.conversations import Conversations
from frontdesk.persistence.stored import StoredConversation
from frontdesk.sessions.conversation import Conversation

ROUNDS = 6
"""In each, half of the events go that are left before the latest turn, then of it; at last, all."""

TARGET = 0.9
"""Of what it may take: it is not to be trimmed again at once."""


async def trim(conversation: Conversation, commits: CommitQueue, *, max_bytes: int) -> None:
    """Drop the oldest events of a conversation until it takes no more than it may.

    Those of the latest turn, which may be under way, go last. Streams that go on from what is gone
    begin with a gap.
    """
    with suppress(FrontdeskError):  # the next turn's end has it done
        for latest in (False, True):
            if await _fits(conversation, commits, max_bytes=max_bytes, latest=latest):
                return


async def _fits(
    conversation: Conversation, commits: CommitQueue, *, max_bytes: int, latest: bool
) -> bool:
    """Drop events before the latest turn, or of that; say whether it is small enough by then."""
    record = conversation.record
    assert record is not None, "only what is stored is trimmed"
    for left in reversed(range(ROUNDS + 1)):
        await record.committed(wait_s=None)
        stored, first = await commits.read(
            lambda store: _found(store, conversation), asker=conversation.tenant_id
        )
        if stored is None:
            return True
        record.stored_bytes, record.least_bytes = stored.held_bytes, 0
        if stored.held_bytes <= max_bytes * TARGET:
            return True
        oldest, end = stored.oldest_index, stored.last_index if latest else first
        if not left or oldest >= end:
            break
        record.drop(end if left == 1 else oldest + (end - oldest + 1) // 2)
    if latest:
        record.least_bytes = record.stored_bytes
    return False


def _found(
    store: Conversations, conversation: Conversation
) -> tuple[StoredConversation | None, int]:
    """Return what is stored, and the index at which its latest turn begins. Blocks."""
    stored = store.find(conversation.tenant_id, conversation.session_id, fence=conversation.fence)
    latest = store.latest_turn(conversation.number)
    if stored is None or latest is None:
        return stored, 1
    return stored, latest.first_index or stored.last_index + 1
