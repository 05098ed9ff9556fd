"""A reader of a conversation's log: one stream's cursor, where it begins, and what it skips.

Above the log, below the doors. It knows nothing of SSE or WebSocket.
"""

from __future__ import annotations

from typing import Protocol

from frontdesk.agents.events import Frame


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
        raise NotImplementedError

    @property
    def sse(self) -> bytes:
        """Return the frame of an event stream."""
        raise NotImplementedError

    @property
    def text(self) -> bytes:
        """Return the message of a WebSocket."""
        raise NotImplementedError


class EventReader(Protocol):
    """One stream over a conversation's events. An open one keeps its session from idling out."""

    @property
    def drained(self) -> bool:
        """Say whether nothing is left to read and nothing will ever come (204)."""
        ...

    async def next(self) -> list[Frame] | Gap | None:
        """Wait for more; None when the stream is over (after `session_end`).

        Returns everything there is, up to 256 frames. A list is empty only after `nudge`.
        Raises `ReaderTooSlow` when the cursor fell off the log. Safe to cancel: nothing is lost.
        """
        ...

    def nudge(self) -> None:
        """Make the pending (or else the next) `next` return at once, with what there is.

        For heartbeats and for clients that left: cheaper than a time-out or a cancellation.
        """
        ...

    def close(self) -> None:
        """Stop reading. Idempotent; a pending `next` returns None."""
        ...
