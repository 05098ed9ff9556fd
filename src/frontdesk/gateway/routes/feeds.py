"""The feeds of sessions, as far as the API description is concerned.

The middleware answers both before the application (`rows/row_stream.py`), as it does the event
stream. What gets here has the right path and the wrong form.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from pydantic import Field
from starlette.responses import Response

from frontdesk.gateway.dependencies import GatewayRoute
from frontdesk.gateway.errors import MalformedRequest
from frontdesk.gateway.openapi import REFERENCE, Responses, problems
from frontdesk.gateway.rows.row_filter import MAX_POSITION, FeedQuery, OperatorFeedQuery
from frontdesk.schemas.row_schemas import FEED_EVENTS

router: APIRouter = APIRouter(route_class=GatewayRoute)

FEED = """event: now
data: {"at":1795339860000}

id: 5f0c2a9e1b7d-17
event: snapshot
data: {"rows":[],"first":true,"last":true,"total":0}

"""
FRAME: dict[str, Any] = {
    "type": "object",
    "description": "one frame; `data` is a JSON object, by the name of the event",
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string", "enum": [*FEED_EVENTS]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "anyOf": [
                    {"$ref": REFERENCE.format(name=each.__name__)} for each in FEED_EVENTS.values()
                ]
            },
        },
    },
    "required": ["event", "data"],
}
RESPONSES: Responses = {
    200: {
        "description": "the sessions, and how they change, until the client leaves",
        "content": {"text/event-stream": {"schema": FRAME, "example": FEED}},
    },
    **problems(),
}
LastPosition = Annotated[
    Annotated[str, Field(max_length=MAX_POSITION)] | None, Header(alias="Last-Event-ID")
]


@router.get("/v1/feed", operation_id="followSessions", tags=["streams"], responses=RESPONSES)
async def feed(
    _query: Annotated[FeedQuery, Query()], _last_event_id: LastPosition = None
) -> Response:
    """Follow the tenant's sessions: all of them as rows first, then what changes.

    `snapshot` has up to 500 rows; they count once the page with `last` is there. Then come `rows`:
    each as it is now, at most four times a second. Begins after `Last-Event-ID` or `since`; where
    that is not held any more, with all rows anew. Of more than 20,000 it says how many there are.
    """
    raise MalformedRequest("a feed is asked for with GET")


@router.get("/ops/feed", operation_id="followAllSessions", tags=["operations"], responses=RESPONSES)
async def all_feed(
    _query: Annotated[OperatorFeedQuery, Query()], _last_event_id: LastPosition = None
) -> Response:
    """Follow the sessions of all tenants. As a tenant's feed, with the nodes beside them."""
    raise MalformedRequest("a feed is asked for with GET")
