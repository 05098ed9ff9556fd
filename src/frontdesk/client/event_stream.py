"""Streams that go on after a cut: where one stands, and what its frames say.

Plain objects, for both clients: they are given what comes from the network, and say what to ask
next. `Following` is what a session's events and a feed have in common.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import msgspec

from frontdesk.agents.events import EVENTS, Error, Event, Gap, SessionEnd
from frontdesk.client.answer_reading import record_of
from frontdesk.client.errors import ClientError, MalformedAnswerError, UnreachableError
from frontdesk.client.event_parser import EventParser, Frame
from frontdesk.client.retrying import Retries
from frontdesk.schemas.row_schemas import (
    Hour,
    NodesNow,
    Now,
    RowChanges,
    SnapshotPage,
    TooManyRows,
)

T = TypeVar("T")

HEARTBEAT_HEADER = "x-frontdesk-heartbeat"
HEARTBEAT_S = 30.0
"""Where the gateway does not say."""
SILENCE_HEARTBEATS = 2.5
"""How many heartbeats may be missed before a silence is a cut."""
SHORTEST_SILENCE_S, LONGEST_SILENCE_S = 0.2, 600.0
BY_NAME: Mapping[str, type[Event]] = {each.name: each for each in EVENTS}


class UnknownEvent(Event, frozen=True, rename="camel"):
    """An event that this client is too old for: its name on the wire, and what it has."""

    name: ClassVar[str] = "unknown"
    event_name: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """An event of a session as it came: `id` is what a stream can begin after.

    `request_id` is the turn that it belongs to, None where it belongs to none. A `session_end` that
    comes from another node than the session's, which was lost, has no id: `id` is empty, `index` 0.
    """

    id: str
    index: int
    request_id: str | None
    event: Event


class Following(ABC, Generic[T]):
    """One stream, over as many connections as it takes.

    For each connection: `target` and `headers` are what to ask; `on_answer` hears what is answered,
    `items` is given what comes. When the connection ends, or breaks, `on_end` says how long to wait
    before the next, unless the stream has `ended`; it raises once there were too many in vain.
    """

    def __init__(self) -> None:
        self.ended: bool = False
        self.silence_s: float = HEARTBEAT_S * SILENCE_HEARTBEATS
        self.position: str | None = None
        """What it goes on after."""
        self._retries = Retries(repeatable=True)
        self._parser = EventParser()
        self._pieces = 0

    @property
    @abstractmethod
    def target(self) -> str:
        """Return path and query."""

    @property
    def headers(self) -> dict[str, str]:
        """Return what is sent beside the key."""
        accepted = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        return accepted if self.position is None else {**accepted, "Last-Event-ID": self.position}

    def on_answer(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin with a new connection; `MalformedAnswerError` for what is no stream."""
        self._parser, self._pieces = EventParser(), 0
        if status == 204:
            self.ended = True
        elif not headers.get("content-type", "").startswith("text/event-stream"):
            raise MalformedAnswerError("the answer is no event stream: what listens there?")
        try:
            heartbeat_s = float(headers.get(HEARTBEAT_HEADER, HEARTBEAT_S))
        except ValueError:
            heartbeat_s = HEARTBEAT_S
        silence_s = heartbeat_s * SILENCE_HEARTBEATS
        # What is no number is not less than anything.
        if not silence_s <= LONGEST_SILENCE_S:
            silence_s = LONGEST_SILENCE_S
        self.silence_s = max(SHORTEST_SILENCE_S, silence_s)

    def items(self, piece: bytes) -> Iterator[T]:
        """Give what comes with a piece. What was given is not asked for again."""
        self._pieces += 1
        if self._pieces > 1:
            # A sign of life behind the welcome counts as well: quiet is not in vain.
            self._retries.on_progress()
        for frame in self._parser.frames(piece):
            self._retries.on_progress()
            yield from self._on_frame(frame)
            if self.ended:
                return

    def on_end(self, error: ClientError | None = None) -> float:
        """Return how long to wait before the next connection; raises where there is none."""
        if self.ended:
            return 0.0
        cut = UnreachableError("the stream ends again and again, and brings nothing")
        return self._retries.wait_s(error or cut)

    @abstractmethod
    def _on_frame(self, frame: Frame) -> Iterator[T]:
        """Give what a frame says, and remember where the stream stands."""


class SessionFollowing(Following[StreamEvent | Gap]):
    """The events of a session, until it ends."""

    ended: bool
    position: str | None

    def __init__(self, path: str, *, since: str | None, types: Iterable[str]) -> None:
        super().__init__()
        self._path, self._types = path, ",".join(types)
        self.position = since

    @property
    def target(self) -> str:
        return f"{self._path}?types={self._types}" if self._types else self._path

    def _on_frame(self, frame: Frame) -> Iterator[StreamEvent | Gap]:
        fields = record_of(frame.data, dict[str, Any])
        if frame.event == Error.name and frame.id is None and fields.get("reason") == "gap":
            yield self._on_gap(record_of(frame.data, Gap))
            return
        event_id, request_id = frame.id or "", fields.get("requestId")
        fence, _, number = event_id.rpartition("-")
        if event_id and not (number.isascii() and number.isdigit() and len(number) < 20):
            raise MalformedAnswerError(f"{event_id[:40]!r} is no event's id")
        index = int(number or 0)
        if event_id and self._has(fence, index):
            return
        event = event_of(frame, fields)
        self.ended = isinstance(event, SessionEnd)
        self.position = event_id or self.position
        yield StreamEvent(
            event_id, index, request_id if isinstance(request_id, str) else None, event
        )

    def _has(self, fence: str, index: int) -> bool:
        """Say whether an event was given before."""
        given_fence, _, given = (self.position or "").rpartition("-")
        return given_fence == fence and given.isdigit() and index <= int(given)

    def _on_gap(self, gap: Gap) -> Gap:
        # What comes next begins there; should the connection break before it does, the next one
        # asks for the same again, and is told of the same gap once more: unless it asks from there.
        fence, _, index = gap.resumes_at.rpartition("-")
        if fence and index.isdigit():
            self.position = f"{fence}-{max(0, int(index) - 1)}"
        return gap


def event_of(frame: Frame, fields: dict[str, Any]) -> Event:
    """Return the event that a frame is; `MalformedAnswerError` where its fields are others."""
    kind = BY_NAME.get(frame.event)
    if kind is None:
        return UnknownEvent(frame.event, fields)
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise MalformedAnswerError(f"the event is no {frame.event}: {error}") from None


# -- feeds -----------------------------------------------------------------------------------------

KnownFeedEvent: TypeAlias = SnapshotPage | RowChanges | TooManyRows | Hour | NodesNow | Now
FeedEvent: TypeAlias = KnownFeedEvent | UnknownEvent
"""What a feed says."""

FEED_EVENTS: Mapping[str, type[KnownFeedEvent]] = {
    "snapshot": SnapshotPage,
    "rows": RowChanges,
    "too_many": TooManyRows,
    "hour": Hour,
    "nodes": NodesNow,
    "now": Now,
}


class FeedFollowing(Following[FeedEvent]):
    """The rows of sessions, until the client is closed."""

    position: str | None

    def __init__(self, target: str) -> None:
        super().__init__()
        self._target = target

    @property
    def target(self) -> str:
        return self._target

    def _on_frame(self, frame: Frame) -> Iterator[FeedEvent]:
        self.position = frame.id or self.position
        kind = FEED_EVENTS.get(frame.event)
        if kind is None:
            yield UnknownEvent(frame.event, record_of(frame.data, dict[str, Any]))
        else:
            yield record_of(frame.data, kind)
