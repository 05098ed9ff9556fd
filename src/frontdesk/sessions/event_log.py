"""The log of one conversation: its events under numbers without gaps, bounded.

Above the events and the feed, below the conversation. One writer, on one event loop; any number of
readers (`event_reader.py`) with a cursor each, and no queue for any of them. It knows nothing of
turns but where the latest began.
"""

from __future__ import annotations

import asyncio
import math
import sys
from time import perf_counter

from frontdesk.agents.errors import EventTooLarge
from frontdesk.agents.events import Event, Frame, PromptReceived
from frontdesk.feed import Feed

REST_FOR_COST = 1.0
"""How long readers are left alone, for each second that they took to read and send."""

_FEW = 50
"""Fewer readers than these are woken at once, always."""

_LEAST_REST_S = 0.001
"""What a timer can do."""

_LONGEST_REST_S = 0.1


class EventLog:
    """Hold the whole latest turn and the last `min_events` events, within `max_bytes`.

    Indices count from 1 without gaps. `append` encodes the event once for all readers, and wakes
    those that wait: what is appended before they run costs no further wake-up. Many readers are not
    woken again before as much time has passed as they needed the last time, so that they use at
    most half of the loop's: what comes faster than that goes out in batches. `max_bytes` bounds
    the frames as they are sent; the newest is kept whatever its size.
    """

    __slots__ = (
        "_feed",
        "_max_bytes",
        "_max_event_bytes",
        "_min_events",
        "_missed",
        "_rest_until_s",
        "_turn_from",
        "_waiting",
        "_wake_timer",
        "_woken_s",
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
        self._woken_s = self._rest_until_s = 0.0
        self._missed = False

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
            self._wake_timer = None
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
        rest_s = self._rest_until_s - perf_counter()
        if math.isinf(rest_s):
            self._missed = True
        elif rest_s > _LEAST_REST_S:
            self._wake_timer = asyncio.get_running_loop().call_later(rest_s, self._rested)
        elif len(self._waiting) < _FEW:
            self._wake_all()
        else:
            self._wake_many()

    def _rested(self) -> None:
        self._wake_timer = None
        if self._waiting:
            # Looked at again: the loop's own clock may be behind, by as long as its turn lasts.
            self._wake_soon()

    def _wake_many(self) -> None:
        """Wake the readers, and measure how long they take: they run between the two calls."""
        loop = asyncio.get_running_loop()
        self._rest_until_s = math.inf
        loop.call_soon(self._first_woken)
        self._wake_all()
        loop.call_soon(self._all_woken)

    def _first_woken(self) -> None:
        self._woken_s = perf_counter()

    def _all_woken(self) -> None:
        now = perf_counter()
        rest_s = min(REST_FOR_COST * (now - self._woken_s), _LONGEST_REST_S)
        self._rest_until_s = now + rest_s
        if self._missed and self._waiting:
            self._wake_soon()
        self._missed = False

    def _wake_all(self) -> None:
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
