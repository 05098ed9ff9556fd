"""A stream of events that goes on after a cut: where it stands, and what its frames say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from frontdesk.agents.events import Event
from frontdesk.schemas.row_schemas import Hour, Now, RowChanges, SnapshotPage, TooManyRows


class UnknownEvent(Event, frozen=True, rename="camel"):
    """An event that this client is too old for: its name on the wire, and what it has."""

    name: ClassVar[str] = "unknown"
    event_name: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """An event of a session as it came: `id` is what a stream can begin after.

    `request_id` is the turn that it belongs to, None where it belongs to none.
    """

    id: str
    index: int
    request_id: str | None
    event: Event


FeedEvent: TypeAlias = SnapshotPage | RowChanges | TooManyRows | Hour | Now
"""What a feed says."""
