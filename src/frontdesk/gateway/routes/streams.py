"""The event stream and the WebSocket, as far as the API description is concerned.

The middleware answers both before the application (`sse.py`, `websocket.py`), for every layer in
between would cost each open stream memory. What gets here has the right path and the wrong form.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header
from pydantic import Field
from starlette.responses import Response

from frontdesk.agents.events import EVENTS, Gap
from frontdesk.gateway.dependencies import GatewayRoute, SessionIdInPath
from frontdesk.gateway.errors import MalformedRequest
from frontdesk.gateway.openapi import REFERENCE, problems
from frontdesk.gateway.queries import InEventStreamQuery, InStreamQuery
from frontdesk.sessions.event_reader import SINCE

router: APIRouter = APIRouter(
    prefix="/v1/sessions/{sessionId}", tags=["streams"], route_class=GatewayRoute
)

HEARTBEAT_DESCRIBED: dict[str, Any] = {
    "X-Frontdesk-Heartbeat": {
        "description": "how many seconds pass at most without a sign of life",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    }
}
STREAM = """id: 17-1
event: prompt_received
data: {"requestId":"5f0c2a9e1b7d4c36","text":"Hello"}

"""
ENVELOPE: dict[str, Any] = {
    "type": "object",
    "title": "Envelope",
    "description": "an event as a message without a name, with `envelope`",
    "properties": {
        "event": {"type": "string"},
        "data": {"type": "object"},
        "index": {"type": "integer", "minimum": 1},
    },
    "required": ["event", "data"],
}
FRAME: dict[str, Any] = {
    "type": "object",
    "description": "one frame; `data` is the JSON object of the event",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+-[0-9]+$"},
        "event": {"type": "string", "enum": [*(event.name for event in EVENTS), "message"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "anyOf": [
                    *(
                        {"$ref": REFERENCE.format(name=name)}
                        for name in (*(event.__name__ for event in EVENTS), Gap.__name__)
                    ),
                    ENVELOPE,
                ]
            },
        },
    },
    "required": ["data"],
}
LastEventId = Annotated[
    Annotated[str, Field(json_schema_extra={"pattern": f"^({SINCE})?$"})] | None,
    Header(alias="Last-Event-ID"),
]


@router.get(
    "/events",
    operation_id="streamEvents",
    responses={
        200: {
            "description": "the events, until the session ends",
            "headers": HEARTBEAT_DESCRIBED,
            "content": {"text/event-stream": {"schema": FRAME, "example": STREAM}},
        },
        204: {"description": "the session has ended and this client has it all"},
        **problems("not_found", "session_dead", "not_resumable"),
    },
)
async def events(
    _session_id: SessionIdInPath,
    _query: InEventStreamQuery,
    _last_event_id: LastEventId = None,
) -> Response:
    """Stream the session's events.

    Begins after `Last-Event-ID` or `since`; without either, at the `prompt_received` of the most
    recently accepted prompt, even if that is still to come. With `envelope`, each frame has its id
    and no name, and `data` is `{event, data, index}`.
    """
    raise MalformedRequest("an event stream is asked for with GET")


@router.get(
    "/ws",
    operation_id="openWebSocket",
    responses={
        101: {"description": "actions in, answers and events out"},
        **problems("not_found", "session_dead", "not_resumable"),
    },
)
async def websocket(_session_id: SessionIdInPath, _query: InStreamQuery) -> Response:
    """Open a WebSocket: `{action, ...}` in; `{action, status, ...}` and `{event, ...}` out."""
    raise MalformedRequest("open this as a WebSocket")
