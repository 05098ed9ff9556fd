"""What the query of a stream says: where to begin, and which events to send.

Below the event stream and the WebSocket, which read the same two parameters without the
application's validation, as they are answered before it.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from frontdesk.agents.events import EVENTS
from frontdesk.errors import InvalidArgument
from frontdesk.gateway.errors import MalformedRequest
from frontdesk.gateway.request_context import RequestContext

MOST_FIELDS = 32
TYPES = frozenset(event.name for event in EVENTS)


def since_of(passage: RequestContext) -> str | None:
    """Return `?since=`, None where it is missing or empty."""
    return _value(passage, "since")


def types_of(passage: RequestContext) -> frozenset[str] | None:
    """Return `?types=a,b`; `InvalidArgument` for a type that there is not."""
    text = _value(passage, "types")
    return None if text is None else _types(text)


def _types(text: str) -> frozenset[str]:
    wanted = frozenset(part.strip() for part in text.split(",") if part.strip())
    if unknown := sorted(wanted - TYPES):
        raise InvalidArgument("types", expected="event types", got=repr(unknown[0][:40]))
    return wanted


def _value(passage: RequestContext, name: str) -> str | None:
    query: bytes = passage.scope.get("query_string", b"")
    if not query:
        return None
    try:
        values = parse_qs(query.decode("ascii"), max_num_fields=MOST_FIELDS)
    except ValueError:
        raise MalformedRequest("the query cannot be read") from None
    return values.get(name, [None])[0]
