"""The sessions of all tenants, for operators: lists, one by itself, and what they may do to it.

What is done to a session, and what is read of it, the middleware answers before the application
(`operator_requests.py`), as the tenant's own request. What gets here of that has the wrong form.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from frontdesk.agents.ids import TENANT_ID, registry_key
from frontdesk.gateway.body_schemas import AbortBody
from frontdesk.gateway.dependencies import (
    GatewayRoute,
    InGateway,
    SessionIdInPath,
    encoded,
)
from frontdesk.gateway.errors import MalformedRequest
from frontdesk.gateway.openapi import Responses, answers, problems
from frontdesk.gateway.queries import InEventStreamQuery, InPage
from frontdesk.gateway.routes.reading import MESSAGES
from frontdesk.gateway.routes.streams import FRAME, STREAM, LastEventId
from frontdesk.gateway.rows.hosted_rows import HostedQuery, detail_of, hosted_here, page_of
from frontdesk.schemas.answer_schemas import SessionDeleted, Status
from frontdesk.schemas.row_schemas import (
    HostedSession,
    HostedSessionDetail,
    HostedSessions,
)

router: APIRouter = APIRouter(prefix="/ops/sessions", tags=["operations"], route_class=GatewayRoute)

ROW: dict[str, Any] = {
    "tenant_id": "acme",
    "session_id": "support-42",
    "fence": "17",
    "state": "waiting_approval",
    "created_at": 1795339800000,
    "last_activity_at": 1795339860000,
    "blueprint": "assistant",
    "model": "test",
    "turns": 2,
    "tokens": 114,
    "cost_usd": 0.0012,
    "approvals": 1,
    "questions": 0,
    "key_id": "env:ci",
    "node": "desk-1/2",
    "pid": 4711,
}
SESSIONS = HostedSessions(sessions=(HostedSession(**ROW),), next=None, partial=False)
DETAIL = HostedSessionDetail(
    **ROW, restarts=0, queued=0, running_tools=(), waiting_tools=("refund",)
)
ON_SESSION = ("not_found", "session_dead")
TenantInPath = Annotated[
    str,
    Path(
        alias="tenant",
        description=f"`{TENANT_ID}`",
        json_schema_extra={"pattern": f"^{TENANT_ID}$"},
        examples=["acme"],
    ),
]
EVENTS: Responses = {
    200: {
        "description": "the events, until the session ends",
        "content": {"text/event-stream": {"schema": FRAME, "example": STREAM}},
    },
    204: {"description": "the session has ended and this client has it all"},
    **problems(*ON_SESSION, "not_resumable"),
}


@router.get("", operation_id="listHostedSessions", responses=answers(SESSIONS))
async def sessions(gateway: InGateway, query: Annotated[HostedQuery, Query()]) -> Response:
    """List live sessions of all tenants, oldest first unless `sort` says otherwise.

    Of several nodes: those of all that answer; `partial` says that some did not. A row that moves
    in the order between two pages, as by its activity, may be on both or on none.
    """
    if gateway.forwarding is None:
        found, partial = await hosted_here(gateway.rows, query), False
    else:
        found, partial = await gateway.forwarding.hosted_sessions(query)
    page, following = page_of(query, found)
    return encoded(HostedSessions(sessions=page, next=following, partial=partial))


@router.get(
    "/{tenant}/{sessionId}",
    operation_id="getHostedSession",
    responses=answers(DETAIL, *ON_SESSION),
)
async def session(
    gateway: InGateway, tenant: TenantInPath, session_id: SessionIdInPath
) -> Response:
    """Say how a session is doing, and for which tools it waits; nothing of what is said in it."""
    key, service = registry_key(tenant, session_id), gateway.service
    detail = None
    if not service.lives(key) and gateway.forwarding is not None:
        detail = await gateway.forwarding.hosted_session(key)
    if detail is None:
        detail = detail_of(gateway.rows, service.live(key, session_id))
    assert detail is not None, "it lives"
    return encoded(detail)


@router.post(
    "/{tenant}/{sessionId}/stop",
    operation_id="stopHostedSession",
    responses=answers(SessionDeleted(session_id="support-42", status="deleted"), *ON_SESSION),
)
async def stop(_tenant: TenantInPath, _session_id: SessionIdInPath) -> Response:
    """End a session; answered when it has ended, after its agent's grace period at the latest.

    What is stored of it stays its tenant's, to be read, resumed or erased, until its retention is
    over. Logged, with the operator's key.
    """
    raise MalformedRequest("a session is stopped with POST")


@router.post(
    "/{tenant}/{sessionId}/abort",
    operation_id="abortHostedTurn",
    status_code=202,
    responses=answers(Status(status="aborting"), *ON_SESSION, status=202),
)
async def abort(_tenant: TenantInPath, _session_id: SessionIdInPath, _body: AbortBody) -> Response:
    """End the turn under way; the session goes on. Logged, with the operator's key."""
    raise MalformedRequest("a turn is aborted with POST")


@router.get(
    "/{tenant}/{sessionId}/messages",
    operation_id="listHostedMessages",
    responses=answers(MESSAGES, "forbidden", *ON_SESSION, "not_resumable"),
)
async def messages(_tenant: TenantInPath, _session_id: SessionIdInPath, _page: InPage) -> Response:
    """Return the history of a session, where `operators_read_text` allows it. Logged."""
    raise MalformedRequest("messages are asked for with GET")


@router.get(
    "/{tenant}/{sessionId}/events",
    operation_id="streamHostedEvents",
    responses=EVENTS,
)
async def events(
    _tenant: TenantInPath,
    _session_id: SessionIdInPath,
    _query: InEventStreamQuery,
    _last_event_id: LastEventId = None,
) -> Response:
    """Stream the events of a session, where `operators_read_text` allows it. Logged."""
    raise MalformedRequest("an event stream is asked for with GET")
