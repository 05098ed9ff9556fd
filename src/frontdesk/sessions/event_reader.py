"""A reader of a conversation's log: one stream's cursor, where it begins, and what it skips."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from frontdesk.agents.events import Gap, PromptReceived, SessionEnd
from frontdesk.errors import InvalidArgument
from frontdesk.feed import FellBehind
from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.sessions.errors import ReaderTooSlow
from frontdesk.sessions.event_log import EventLog, LoggedEvent

BATCH = 256
"""The most events that one `next` returns."""
AGAIN_S = 1.0
"""Between two tries to read what is stored, where the storage cannot be asked."""
BATCH_BYTES = 256 * 1024
"""Where these end, too: a connection holds what its client does not read. An event is whole."""

SINCE = r"(?:([0-9]{1,20})-)?([0-9]{1,20})"
"""What `since` may be: an event's id, `<epoch>-<index>`, or a bare index."""

_SINCE = re.compile(SINCE)


@dataclass(frozen=True, slots=True)
class StreamStart:
    """Where a stream begins: after an index, or at the turn of a prompt that is still to come."""

    index: int
    gap: Gap | None = None
    awaited_request: str | None = None

    @classmethod
    def after(cls, since: str, log: EventLog) -> StreamStart:
        """Begin after an id (`<epoch>-<index>`) or a bare index, or with a gap at what is held.

        Of a log that is stored and lost its last events (a backup was put back, a power loss), who
        had seen these goes on after them: what is before the gap it has.
        """
        match = _SINCE.fullmatch(since)
        if match is None:
            raise InvalidArgument("since", expected="an event id or an index", got=repr(since[:40]))
        fence, index = match[1], int(match[2])
        known = fence is None or int(fence) == log.fence_of(index)
        if known and log.oldest - 1 <= index <= log.visible:
            return cls(index)
        end = None if fence is None or log.stored is None else log.end_of(int(fence))
        if end is not None and log.oldest - 1 <= end < index:
            return cls(end, gap=Gap(requested=since, resumes_at=log.id_of(end + 1)))
        return cls._after_gap(since, log)

    @classmethod
    def at_prompt(cls, request_id: str | None, index: int | None, log: EventLog) -> StreamStart:
        """Begin at the latest accepted prompt: at its index, or when it comes; at 1 without any."""
        if request_id is not None and index is None:
            # Its turn never comes where the session has ended: the end is what there is to tell.
            after = log.visible - 1 if log.over else log.visible
            return cls(max(after, log.oldest - 1), awaited_request=request_id)
        first = index or 1
        return cls(first - 1) if first >= log.oldest else cls._after_gap(str(first - 1), log)

    @classmethod
    def _after_gap(cls, requested: str, log: EventLog) -> StreamStart:
        gap = Gap(requested=requested, resumes_at=log.id_of(log.oldest))
        return cls(log.oldest - 1, gap=gap)


class EventReader:
    """One stream over a conversation's events. An open one keeps its session from idling out.

    A reader holds a cursor and no events. Close it: `on_close` is how its conversation knows.
    """

    __slots__ = ("_awaited", "_closed", "_cursor", "_gap", "_log", "_nudged", "_on_close", "_types")

    def __init__(
        self,
        log: EventLog,
        start: StreamStart,
        *,
        types: frozenset[str] | None = None,
        on_close: Callable[[], None],
    ) -> None:
        self._log = log
        self._cursor = start.index
        self._gap = start.gap
        self._awaited = start.awaited_request
        self._types = types
        self._on_close = on_close
        self._closed = self._nudged = False

    @property
    def has_gap(self) -> bool:
        """Say whether it begins with a gap: what its client asked to resume after is not held."""
        return self._gap is not None

    @property
    def drained(self) -> bool:
        """Say whether nothing is left to read and nothing will ever come (204)."""
        if not self._log.ended or self._gap is not None or self._is_behind:
            return False
        try:
            return not self._wanted(self._read(len(self._log)))
        except ReaderTooSlow:
            return False

    async def next(self) -> list[LoggedEvent] | Gap | None:
        """Wait for more; None when the stream is over (after `session_end`, or closed).

        Returns all there is, up to 256 events or 256 KiB. A list is empty only after `nudge`.
        Raises `ReaderTooSlow` when the cursor fell off the log. Safe to cancel: nothing is lost.
        """
        while not self._closed:
            if self._gap is not None:
                gap, self._gap = self._gap, None
                return gap
            if self._is_behind and not self._nudged:
                events, over = await self._take_stored(), False
            else:
                events, over = self._take()
            if events or self._nudged:
                self._nudged = False
                return events
            if over:
                return None
            await self._log.wait(self)
        return None

    def nudge(self) -> None:
        """Make the pending (or else the next) `next` return at once, with what there is.

        For heartbeats and for clients that left: cheaper than a time-out or a cancellation.
        """
        self._nudged = True
        self._log.wake(self)

    def close(self) -> None:
        """Stop reading. Idempotent; a pending `next` returns None."""
        if not self._closed:
            self._closed = True
            self._log.wake(self)
            self._on_close()

    @property
    def _is_behind(self) -> bool:
        """Say whether what comes next is read from the storage."""
        return self._log.stored is not None and not self._log.is_held(self._cursor)

    async def _take_stored(self) -> list[LoggedEvent]:
        """Return the next events that are wanted of those that are stored; none is no end."""
        assert self._log.stored is not None
        while self._is_behind and not self._closed:
            try:
                events = await self._log.stored.read(self._cursor)
            except StorageUnavailable:
                if self._log.over:  # the process is to end, and does not wait for the storage
                    oldest = self._log.oldest
                    raise ReaderTooSlow(next_index=self._cursor + 1, oldest=oldest) from None
                # It stands still until that passes; a sign of life or its end comes in time.
                await asyncio.sleep(AGAIN_S)
                if self._nudged:
                    break
                continue
            if not events or events[0].index != self._cursor + 1:
                # They made room for newer ones while it was read.
                raise ReaderTooSlow(next_index=self._cursor + 1, oldest=self._log.oldest)
            wanted = self._wanted(events)
            found = any(self._is_awaited(event) for event in events)
            self._cursor, self._awaited = events[-1].index, None if found else self._awaited
            if wanted:
                return wanted
        return []

    def _take(self) -> tuple[list[LoggedEvent], bool]:
        """Return the next events that are wanted, and whether nothing follows them."""
        while True:
            events = self._read(BATCH)
            if len(events) > 1:
                sizes = accumulate(len(event.json) for event in events)
                events = events[: max(1, sum(size <= BATCH_BYTES for size in sizes))]
            if not events:
                return [], self._log.over
            wanted = self._wanted(events)
            found = any(self._is_awaited(event) for event in events)
            # Last and in one: nothing can break off the reading once it counts as read.
            self._cursor, self._awaited = events[-1].index, None if found else self._awaited
            if wanted:
                return wanted, False

    def _read(self, limit: int) -> list[LoggedEvent]:
        try:
            return self._log.read(self._cursor, limit=limit)
        except FellBehind:
            raise ReaderTooSlow(next_index=self._cursor + 1, oldest=self._log.oldest) from None

    def _wanted(self, events: list[LoggedEvent]) -> list[LoggedEvent]:
        if self._awaited is not None:
            # What comes before the prompt to begin at is dropped, but not the session's end.
            first = next((n for n, each in enumerate(events) if self._is_awaited(each)), None)
            if first is None:
                events = [event for event in events if event.name == SessionEnd.name]
            else:
                events = events[first:]
        if self._types is not None:
            events = [event for event in events if event.name in self._types]
        return events

    def _is_awaited(self, event: LoggedEvent) -> bool:
        return (
            self._awaited is not None
            and event.request_id == self._awaited
            and event.name == PromptReceived.name
        )
