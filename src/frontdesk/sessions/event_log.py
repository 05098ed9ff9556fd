"""The log of one conversation: its events under numbers without gaps, bounded.

One writer, on one event loop; any number of readers (`event_reader.py`) with a cursor each, and no
queue for any of them. It holds events and their JSON; how a protocol frames them is the protocol's.
Where conversations are stored, readers see an event once it is committed (`show`), and what is no
longer held here is read from the storage.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Self, TypeVar

from frontdesk.agents.errors import EventTooLarge
from frontdesk.agents.events import Event, PromptReceived, encode, shortened
from frontdesk.feed import Ring, Wakers

REST_FOR_COST = 1.0
"""How long readers are left alone, for each second that they took to read and send."""

_FEW = 50
"""Fewer readers than these are woken at once, always."""

_LEAST_REST_S = 0.001
"""What a timer can do."""

_LONGEST_REST_S = 0.1

E = TypeVar("E", bound=Event)

OVERHEAD_BYTES = 512
"""What an event takes beside its JSON, and beside the JSON in the frame of a protocol."""


class LoggedEvent:
    """One event of a log, as every reader gets it.

    `json` is the event as a JSON object, led by the `requestId` of its turn where it belongs to
    one. A protocol frames it with `encoded`: once for all of its streams, as long as streams of no
    other protocol read the same session.
    """

    __slots__ = ("_encoded", "_encoder", "fence", "index", "json", "name", "request_id")
    fence: int
    index: int
    request_id: str | None

    def __init__(
        self, event: Event, *, fence: int, index: int, request_id: str | None = None
    ) -> None:
        self.name: str = event.name
        """The event's type on the wire."""
        self.fence, self.index, self.request_id = fence, index, request_id
        self.json: bytes = encode(event, request_id=request_id)
        self._encoder: Callable[[LoggedEvent], bytes] | None = None
        self._encoded = b""

    @classmethod
    def stored(
        cls, name: str, json: bytes, *, fence: int, index: int, request_id: str | None
    ) -> Self:
        """Return an event as it was logged before, from what was stored of it."""
        logged = cls.__new__(cls)
        logged.name, logged.json = name, json
        logged.fence, logged.index, logged.request_id = fence, index, request_id
        logged._encoder, logged._encoded = None, b""
        return logged

    @property
    def held_bytes(self) -> int:
        """Return the memory that it takes, with one protocol's frame of it."""
        return 2 * len(self.json) + OVERHEAD_BYTES

    @property
    def id(self) -> str:
        """Return what `Last-Event-ID` resumes after."""
        return f"{self.fence}-{self.index}"

    def encoded(self, encoder: Callable[[LoggedEvent], bytes]) -> bytes:
        """Return what a protocol's encoder makes of it. The last one's answer is kept."""
        if self._encoder is not encoder:
            self._encoder, self._encoded = encoder, encoder(self)
        return self._encoded

    def __repr__(self) -> str:
        return f"<LoggedEvent {self.id} {self.name}>"


class LogEpoch(NamedTuple):
    """The events from `first_index` on, up to the next epoch's, carry this fence."""

    fence: int
    first_index: int


class StoredEvents(NamedTuple):
    """What a storage holds of a log: from the index `oldest` on, and how it is read.

    `read(after)` returns at least one event after an index, where there is one.
    """

    oldest: int
    read: Callable[[int], Awaitable[list[LoggedEvent]]]


class EventLog:
    """Hold the whole latest turn and the last `min_events` events, within `max_bytes`.

    Indices count from 1 without gaps. `append` encodes the event once for all readers, and wakes
    those that wait: what is appended before they run costs no further wake-up. Many readers are not
    woken again before as much time has passed as they needed the last time, so that they use at
    most half of the loop's: what comes faster than that goes out in batches. `max_bytes` bounds
    the memory that they take, their frames for streams included; the newest is kept whatever its
    size.

    With `stored`, readers see events up to `visible` only, and what is no longer held is read from
    there; `epochs` are those of an earlier life, whose events ended at `head`.
    """

    __slots__ = (
        "_cut",
        "_epochs",
        "_max_bytes",
        "_max_event_bytes",
        "_min_events",
        "_missed",
        "_rest_until_s",
        "_ring",
        "_turn_from",
        "_wake_timer",
        "_wakers",
        "_woken_s",
        "closed",
        "fence",
        "held_bytes",
        "on_append",
        "on_store",
        "stored",
        "visible",
    )
    closed: bool
    held_bytes: int
    visible: int

    def __init__(
        self,
        *,
        fence: int = 0,
        min_events: int = 1024,
        max_bytes: int = 8 * 1024 * 1024,
        max_event_bytes: int = 1024 * 1024,
        head: int = 0,
        epochs: Sequence[LogEpoch] = (),
    ) -> None:
        self.fence: int = fence
        self._epochs = [*epochs] or [LogEpoch(fence, 1)]
        self.closed = False
        self.visible = head
        """The index of the newest event that readers may see."""
        self.stored: StoredEvents | None = None
        self.on_store: Callable[[LoggedEvent], None] | None = None
        """Called with each event, where it is stored: `show` follows once it is."""
        self.on_append: Callable[[Event, LoggedEvent], None] | None = None
        """Called with each event and what was made of it, where somebody observes."""
        self.held_bytes = 0
        self._min_events, self._max_bytes = min_events, max_bytes
        self._max_event_bytes = max_event_bytes
        self._turn_from = sys.maxsize
        self._ring: Ring[LoggedEvent] = Ring(capacity=sys.maxsize, head=head)
        self._wakers = Wakers()
        self._wake_timer: asyncio.TimerHandle | None = None
        self._woken_s = self._rest_until_s = 0.0
        self._missed = self._cut = False

    def append(self, event: Event, *, request_id: str | None = None) -> LoggedEvent:
        """Append an event, wake the readers, return it. `EventTooLarge` changes nothing."""
        ring = self._ring
        logged = LoggedEvent(event, fence=self.fence, index=ring.head + 1, request_id=request_id)
        size = len(logged.json)
        if size > self._max_event_bytes:
            raise EventTooLarge(event.name, size=size, limit=self._max_event_bytes)
        ring.append(logged)
        self.held_bytes += logged.held_bytes
        if type(event) is PromptReceived:
            self._turn_from = logged.index
        self._trim()
        if self.on_store is not None:
            self.on_store(logged)
        else:
            self.show(logged.index)
        if self.on_append is not None:
            self.on_append(event, logged)
        return logged

    def append_shortened(self, event: E, *, request_id: str | None = None) -> E:
        """Append an event, with a text cut where it is too large; return it as it was appended.

        For what was accepted or has happened: no bound keeps a client from learning of it.
        """
        try:
            self.append(event, request_id=request_id)
        except EventTooLarge:
            # The request id comes on top.
            event = shortened(event, max_bytes=self._max_event_bytes - 256)
            self.append(event, request_id=request_id)
        return event

    def show(self, index: int) -> None:
        """Let readers see the events up to an index, and wake them."""
        if index > self.visible:
            self.visible = index
            if self._wakers:
                self._wake_soon()

    def begin_epoch(self, fence: int) -> None:
        """Have the events from here on carry another fence."""
        self.fence = fence
        self._epochs.append(LogEpoch(fence, self.last_index + 1))

    @property
    def last_index(self) -> int:
        """Return the index of the newest event, 0 where there is none."""
        return self._ring.head

    @property
    def oldest(self) -> int:
        """Return the index of the oldest event that can be read, `last_index + 1` without any."""
        return self._ring.oldest if self.stored is None else self.stored.oldest

    @property
    def over(self) -> bool:
        """Say whether nothing follows here what readers may see."""
        return self._cut or self.ended

    @property
    def ended(self) -> bool:
        """Say whether nothing will ever follow what readers may see."""
        return self.closed and self.visible == self._ring.head

    def is_held(self, after: int) -> bool:
        """Say whether what follows an index is held here: else `stored` has it, or nobody."""
        return after >= self._ring.oldest - 1

    @property
    def first_fence(self) -> int:
        """Return the fence of its first epoch, even where no event came to carry it."""
        return self._epochs[0].fence

    def fence_of(self, index: int) -> int:
        """Return the fence that the event of an index carries."""
        return next(
            (each.fence for each in reversed(self._epochs) if each.first_index <= index),
            self.first_fence,
        )

    def end_of(self, fence: int) -> int | None:
        """Return the index of the newest event of an epoch; None where it has no such epoch."""
        for place, each in enumerate(self._epochs):
            if each.fence == fence:
                following = self._epochs[place + 1 : place + 2]
                return following[0].first_index - 1 if following else self.visible
        return None

    def id_of(self, index: int) -> str:
        """Return what `Last-Event-ID` is for the event of an index."""
        return f"{self.fence_of(index)}-{index}"

    def __len__(self) -> int:
        return len(self._ring)

    def read(self, after: int, *, limit: int) -> list[LoggedEvent]:
        """Return up to `limit` events after the index `after`; `FellBehind` if one is gone."""
        return self._ring.read(after, limit=min(limit, self.visible - after))

    def close(self) -> None:
        """Take no more events; readers come to an end after the last."""
        self.closed, self.on_append = True, None
        if self._wake_timer is not None:
            self._wake_timer.cancel()
            self._wake_timer = None
        self._wakers.wake_all()

    def cut(self) -> None:
        """Have readers come to an end after what they may see: the log goes on elsewhere."""
        self._cut = True
        self._wakers.wake_all()

    def wait(self, reader: object) -> Coroutine[Any, Any, None]:
        """Wait until something is appended, the log is closed, or `wake` is called for the reader.

        The caller has looked already: nothing can come in between, as all is on one loop.
        """
        return self._wakers.wait_async(key=reader)

    def wake(self, reader: object) -> None:
        """Wake one reader."""
        self._wakers.wake(reader)

    # -- many readers ------------------------------------------------------------------------

    def _wake_soon(self) -> None:
        """Wake the readers now, or when it is their turn again."""
        if self._wake_timer is not None:
            return
        rest_s = self._rest_until_s - perf_counter()
        if math.isinf(rest_s):
            self._missed = True
        elif rest_s > _LEAST_REST_S:
            self._wake_timer = asyncio.get_running_loop().call_later(rest_s, self._on_rested)
        elif len(self._wakers) < _FEW:
            self._wakers.wake_all()
        else:
            # They run between the two calls, which measure how long they take.
            loop = asyncio.get_running_loop()
            self._rest_until_s = math.inf
            loop.call_soon(self._on_first_woken)
            self._wakers.wake_all()
            loop.call_soon(self._on_all_woken)

    def _on_rested(self) -> None:
        self._wake_timer = None
        if self._wakers:
            # Looked at again: the loop's own clock may be behind, by as long as its turn lasts.
            self._wake_soon()

    def _on_first_woken(self) -> None:
        self._woken_s = perf_counter()

    def _on_all_woken(self) -> None:
        now = perf_counter()
        rest_s = min(REST_FOR_COST * (now - self._woken_s), _LONGEST_REST_S)
        self._rest_until_s = now + rest_s
        if self._missed and self._wakers:
            self._wake_soon()
        self._missed = False

    def _trim(self) -> None:
        """Forget what neither the latest turn nor the last events hold, or what is too much."""
        ring = self._ring
        keep_from = min(self._turn_from, ring.head - self._min_events + 1)
        while ring.oldest < keep_from or (
            self.held_bytes > self._max_bytes and ring.oldest < ring.head
        ):
            if self.on_store is not None and ring.oldest > self.visible:
                return
            (logged,) = ring.read(ring.oldest - 1, limit=1)
            self.held_bytes -= logged.held_bytes
            ring.forget(logged.index)
