"""The log of one conversation: its events under numbers without gaps, bounded.

Above the events and the feed, below the conversation. One writer, on one event loop; any number of
readers (`reader.py`) with a cursor each. It knows nothing of turns but where the latest began.
"""

from __future__ import annotations

from frontdesk.agents.events import Event, Frame
from frontdesk.feed import Feed


class EventLog:
    """Hold the whole latest turn and the last `min_events` events, within `max_bytes`.

    Indices count from 1 without gaps. `append` encodes the event once for all readers.
    """

    __slots__ = ("_feed", "closed", "fence")

    def __init__(
        self, fence: int, *, min_events: int = 1024, max_bytes: int = 8 * 1024 * 1024
    ) -> None:
        self.fence = fence
        self.closed = False
        self._feed: Feed[Frame] = Feed(capacity=min_events)

    def append(self, event: Event, *, request_id: str | None = None) -> Frame:
        """Append an event and wake the readers; return its frame."""
        raise NotImplementedError

    @property
    def last_index(self) -> int:
        """Return the index of the newest event, 0 where there is none."""
        return self._feed.head

    @property
    def oldest(self) -> int:
        """Return the index of the oldest event that is held."""
        return self._feed.oldest

    def close(self) -> None:
        """Take no more events; readers come to an end after the last."""
        raise NotImplementedError
