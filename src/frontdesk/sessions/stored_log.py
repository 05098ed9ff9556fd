"""The events of a log that are stored, as its readers get them."""

from __future__ import annotations

from frontdesk.agents.records import SessionContext
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.conversations import Conversations
from frontdesk.persistence.frames import decode_frame
from frontdesk.persistence.stored import StoredFrame
from frontdesk.sessions.event_log import LoggedEvent, StoredEvents

BATCH = 256
"""The most events that are read at once."""

BATCH_BYTES = 256 * 1024


def stored_events(
    commits: CommitQueue, context: SessionContext, *, number: int, oldest: int
) -> StoredEvents:
    """Return how the events of a conversation are read from the storage."""

    async def read(after: int) -> list[LoggedEvent]:
        def ask(store: Conversations) -> list[StoredFrame]:
            return store.frames(number, after=after, limit=BATCH, max_bytes=BATCH_BYTES)

        return [logged(each) for each in await commits.read(ask, asker=context.tenant_id)]

    return StoredEvents(oldest, read)


def logged(stored: StoredFrame) -> LoggedEvent:
    """Return an event as it was logged when it was stored."""
    frame = decode_frame(stored.frame)
    return LoggedEvent.stored(
        frame.name, frame.json, fence=stored.fence, index=stored.index, request_id=frame.request_id
    )
