"""A reader of a conversation's log: one stream's cursor, where it begins, and what it skips.

Above the log, below the doors. It knows nothing of SSE or WebSocket, nor of who reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from frontdesk.agents.events import Error, Frame, PromptReceived, SessionEnd
from frontdesk.errors import InvalidArgument
from frontdesk.feed import FellBehind
from frontdesk.sessions.errors import ReaderTooSlow
from frontdesk.sessions.event_log import EventLog

BATCH = 256
"""The most frames that one `next` returns."""

_SINCE = re.compile(r"(?:([0-9]{1,20})-)?([0-9]{1,20})")


class Gap:
    """What a client asked to resume after is not held; `resumes_at` says where the stream goes on.

    `data` is the JSON object of an `error` event that goes out without an id, `sse` the whole
    frame, `text` the message of a WebSocket.
    """

    __slots__ = ("requested", "resumes_at")

    def __init__(self, *, requested: str, resumes_at: str) -> None:
        self.requested, self.resumes_at = requested, resumes_at

    @property
    def data(self) -> bytes:
        """Return `{"reason":"gap","requested":...,"resumesAt":...}`."""
        return msgspec.json.encode(
            {"reason": "gap", "requested": self.requested, "resumesAt": self.resumes_at}
        )

    @property
    def sse(self) -> bytes:
        """Return the frame of an event stream, without an id: it is no event of the session."""
        return b"event: %b\ndata: %b\n\n" % (Error.name.encode(), self.data)

    @property
    def text(self) -> bytes:
        """Return the message of a WebSocket."""
        return b'{"event":"%b","data":%b}' % (Error.name.encode(), self.data)


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a stream begins: after an index, or at the turn of a prompt that is still to come."""

    after: int
    gap: Gap | None = None
    awaited_request: str | None = None


def after_since(since: str, log: EventLog) -> Beginning:
    """Begin after an id (`<fence>-<index>`) or a bare index, or with a gap at what is held."""
    match = _SINCE.fullmatch(since)
    if match is None:
        raise InvalidArgument("since", expected="an event id or an index", got=repr(since[:40]))
    fence, index = match[1], int(match[2])
    known = fence is None or int(fence) == log.fence
    if known and log.oldest - 1 <= index <= log.last_index:
        return Beginning(index)
    return _after_gap(since, log)


def at_prompt(request_id: str | None, index: int | None, log: EventLog) -> Beginning:
    """Begin at the latest accepted prompt: at its index, or when it comes; at 1 without any."""
    if request_id is not None and index is None:
        return Beginning(log.last_index, awaited_request=request_id)
    first = index or 1
    if first >= log.oldest:
        return Beginning(first - 1)
    return _after_gap(str(first - 1), log)


def _after_gap(requested: str, log: EventLog) -> Beginning:
    gap = Gap(requested=requested, resumes_at=f"{log.fence}-{log.oldest}")
    return Beginning(log.oldest - 1, gap=gap)


class EventReader:
    """One stream over a conversation's events. An open one keeps its session from idling out.

    A reader holds a cursor and no events. Close it: `on_close` is how its conversation knows.
    """

    __slots__ = ("_awaited", "_closed", "_cursor", "_gap", "_log", "_nudged", "_on_close", "_types")

    def __init__(
        self,
        log: EventLog,
        beginning: Beginning,
        *,
        types: frozenset[str] | None = None,
        on_close: Callable[[], None],
    ) -> None:
        self._log = log
        self._cursor = beginning.after
        self._gap = beginning.gap
        self._awaited = beginning.awaited_request
        self._types = types
        self._on_close = on_close
        self._closed = self._nudged = False

    @property
    def drained(self) -> bool:
        """Say whether nothing is left to read and nothing will ever come (204)."""
        if not self._log.closed or self._gap is not None:
            return False
        try:
            return not self._wanted(self._read(len(self._log)))
        except ReaderTooSlow:
            return False

    async def next(self) -> list[Frame] | Gap | None:
        """Wait for more; None when the stream is over (after `session_end`, or closed).

        Returns everything there is, up to 256 frames. A list is empty only after `nudge`.
        Raises `ReaderTooSlow` when the cursor fell off the log. Safe to cancel: nothing is lost.
        """
        while not self._closed:
            if self._gap is not None:
                gap, self._gap = self._gap, None
                return gap
            frames, over = self._take()
            if frames or self._nudged:
                self._nudged = False
                return frames
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

    def _take(self) -> tuple[list[Frame], bool]:
        """Return the next frames that are wanted, and whether nothing follows them."""
        while True:
            frames = self._read(BATCH)
            if not frames:
                return [], self._log.closed
            self._cursor = frames[-1].index
            wanted = self._wanted(frames)
            if any(self._is_awaited(frame) for frame in frames):
                self._awaited = None
            if wanted:
                return wanted, False

    def _read(self, most: int) -> list[Frame]:
        try:
            return self._log.read(self._cursor, most=most)
        except FellBehind:
            raise ReaderTooSlow(next_index=self._cursor + 1, oldest=self._log.oldest) from None

    def _wanted(self, frames: list[Frame]) -> list[Frame]:
        if self._awaited is not None:
            frames = self._from_awaited(frames)
        if self._types is not None:
            frames = [frame for frame in frames if frame.name in self._types]
        return frames

    def _from_awaited(self, frames: list[Frame]) -> list[Frame]:
        """Drop what comes before the prompt to begin at, but not the session's end."""
        for place, frame in enumerate(frames):
            if self._is_awaited(frame):
                return frames[place:]
        return [frame for frame in frames if frame.name == SessionEnd.name]

    def _is_awaited(self, frame: Frame) -> bool:
        return (
            self._awaited is not None
            and frame.request_id == self._awaited
            and frame.name == PromptReceived.name
        )
