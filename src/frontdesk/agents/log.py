"""The log of one conversation: its events under numbers without gaps, bounded.

Above the events and the feed, below the conversation. One writer, on one event loop; any number of
readers (`reader.py`) with a cursor each, and no queue for any of them. It knows nothing of turns
but where the latest began.
"""

from __future__ import annotations

import asyncio
import sys

from frontdesk.agents.events import Event, Frame, PromptReceived
from frontdesk.errors import EventTooLarge
from frontdesk.feed import Feed

WAKE_COST_S = 20e-6
"""About twice what it takes to wake one reader and to have it read and send one event."""

_LEAST_WAIT_S = 0.001
"""What a timer can do. Fewer than fifty readers are woken at once."""


class EventLog:
    """Hold the whole latest turn and the last `min_events` events, within `max_bytes`.

    Indices count from 1 without gaps. `append` encodes the event once for all readers, and wakes
    those that wait: what is appended before they run costs no further wake-up. Readers that have
    just been woken are not woken again before they could use half of the loop's time for it: with
    300 readers events that come faster than every 6 ms go out in batches. `max_bytes` bounds the
    frames as they are sent; the newest is kept whatever its size.
    """

    __slots__ = (
        "_feed",
        "_max_bytes",
        "_max_event_bytes",
        "_min_events",
        "_next_wake_s",
        "_turn_from",
        "_waiting",
        "_wake_timer",
        "closed",
        "fence",
        "held_bytes",
    )

    def __init__(
        self,
        *,
        fence: int = 0,
        min_events: int = 1024,
        max_bytes: int = 8 * 1024 * 1024,
        max_event_bytes: int = 1024 * 1024,
    ) -> None:
        self.fence = fence
        self.closed = False
        self.held_bytes = 0
        self._min_events, self._max_bytes = min_events, max_bytes
        self._max_event_bytes = max_event_bytes
        self._turn_from = sys.maxsize
        self._feed: Feed[Frame] = Feed(capacity=sys.maxsize)
        self._waiting: dict[object, asyncio.Future[None]] = {}
        self._wake_timer: asyncio.TimerHandle | None = None
        self._next_wake_s = 0.0

    def append(self, event: Event, *, request_id: str | None = None) -> Frame:
        """Append an event, wake the readers, return its frame. `EventTooLarge` changes nothing."""
        feed = self._feed
        frame = Frame(event, fence=self.fence, index=feed.head + 1, request_id=request_id)
        if len(frame.sse) > self._max_event_bytes:
            raise EventTooLarge(frame.name, size=len(frame.sse), limit=self._max_event_bytes)
        feed.append(frame)
        self.held_bytes += len(frame.sse)
        if type(event) is PromptReceived:
            self._turn_from = frame.index
        self._trim()
        if self._waiting:
            self._wake_soon()
        return frame

    @property
    def last_index(self) -> int:
        """Return the index of the newest event, 0 where there is none."""
        return self._feed.head

    @property
    def oldest(self) -> int:
        """Return the index of the oldest event that is held, `last_index + 1` where none is."""
        return self._feed.oldest

    def __len__(self) -> int:
        return self._feed.head - self._feed.oldest + 1

    def read(self, after: int, *, most: int) -> list[Frame]:
        """Return up to `most` frames that follow the index `after`; `FellBehind` if one is gone."""
        return self._feed.read(after, most=most)

    def close(self) -> None:
        """Take no more events; readers come to an end after the last."""
        self.closed = True
        if self._wake_timer is not None:
            self._wake_timer.cancel()
        self._wake_all()

    async def wait(self, reader: object) -> None:
        """Wait until something is appended, the log is closed, or `wake` is called for the reader.

        The caller has looked already: nothing can come in between, as all is on one loop.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[reader] = future
        try:
            await future
        finally:
            if self._waiting.get(reader) is future:
                del self._waiting[reader]

    def wake(self, reader: object) -> None:
        """Wake one reader."""
        future = self._waiting.pop(reader, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _wake_soon(self) -> None:
        """Wake the readers now, or when it is their turn again."""
        if self._wake_timer is not None:
            return
        loop = asyncio.get_running_loop()
        wait_s = self._next_wake_s - loop.time()
        if wait_s > _LEAST_WAIT_S:
            self._wake_timer = loop.call_later(wait_s, self._wake_paced)
        else:
            self._wake_paced()

    def _wake_paced(self) -> None:
        loop = asyncio.get_running_loop()
        self._next_wake_s = loop.time() + len(self._waiting) * WAKE_COST_S
        self._wake_all()

    def _wake_all(self) -> None:
        self._wake_timer = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_result(None)

    def _trim(self) -> None:
        """Forget what neither the latest turn nor the last events hold, or what is too much."""
        feed = self._feed
        keep_from = min(self._turn_from, feed.head - self._min_events + 1)
        while feed.oldest < keep_from or (
            self.held_bytes > self._max_bytes and feed.oldest < feed.head
        ):
            (frame,) = feed.read(feed.oldest - 1, most=1)
            self.held_bytes -= len(frame.sse)
            feed.forget(frame.index)
