"""Sessions: open one, list them, look at one, end one."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Header
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from frontdesk.agents.records import CreateSession
from frontdesk.gateway.actions import check_text
from frontdesk.gateway.answer_schemas import (
    SessionCreated,
    SessionDeleted,
    SessionList,
    SessionSummary,
)
from frontdesk.gateway.body_schemas import CreateSessionBody
from frontdesk.gateway.dependencies import (
    InConversation,
    InSessions,
    SessionIdInPath,
    SessionRoute,
    encoded,
    gateway_of,
)
from frontdesk.gateway.idempotency import MAX_KEY_CHARACTERS, stored
from frontdesk.gateway.openapi import answers
from frontdesk.gateway.queries import InPage
from frontdesk.gateway.request_context import context_of

router = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=SessionRoute)

INFO = SessionSummary(
    session_id="support-42",
    state="idle",
    turns=1,
    tool_calls=0,
    total_tokens=57,
    uptime_ms=61000,
    model="test",
    blueprint="assistant",
    created_at=1795339800000,
    tenant_id="acme",
    restarts=0,
    pid=4711,
)
CREATED = SessionCreated(
    **{**msgspec.structs.asdict(INFO), "turns": 0, "total_tokens": 0, "uptime_ms": 0}, fence="42"
)
IdempotencyKey = Annotated[
    Annotated[str, Field(min_length=1, max_length=MAX_KEY_CHARACTERS)] | None,
    Header(alias="Idempotency-Key"),
]


@router.post(
    "",
    operation_id="createSession",
    status_code=201,
    responses=answers(
        CREATED,
        "already_exists",
        "idempotency_mismatch",
        "create_failed",
        "registration_failed",
        "guardrail",
        "session_limit",
        status=201,
    ),
)
async def create(
    request: Request, body: CreateSessionBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Open a session and start its agent. Without `sessionId` one is minted."""
    gateway, context = gateway_of(request), context_of(request.scope)

    async def open_session() -> bytes:
        check_text(body.system_prompt, limit=gateway.config.limits.text_characters)
        asked = body.model_dump(by_alias=True, exclude_none=True)
        wanted = msgspec.convert(asked, CreateSession)
        await gateway.check_provider_options(wanted, tenant_id=context.tenant_sessions.tenant_id)
        conversation = await context.tenant_sessions.create(wanted)
        fence = str(conversation.fence)
        return msgspec.json.encode(SessionCreated.of(conversation, fence=fence))

    gateway.refuse_if_draining()
    first = await gateway.idempotency.once(
        (context.tenant_key.key_id, "create"),
        idempotency_key,
        body=await request.body(),
        answer=lambda: stored(open_session, status=201),
    )
    return first.response


@router.get(
    "", operation_id="listSessions", responses=answers(SessionList(sessions=(INFO,), next="42"))
)
async def list_sessions(
    sessions: InSessions,
    page: InPage,
) -> Response:
    """List the tenant's sessions, oldest first, a page at a time."""
    found, following = sessions.sessions(limit=page.limit, after=page.after)
    return encoded(SessionList(sessions=tuple(map(SessionSummary.of, found)), next=following))


@router.get(
    "/{sessionId}", operation_id="getSession", responses=answers(INFO, "not_found", "session_dead")
)
async def get(conversation: InConversation) -> Response:
    """Say how a session is doing."""
    return encoded(SessionSummary.of(conversation))


@router.delete(
    "/{sessionId}",
    operation_id="deleteSession",
    responses=answers(
        SessionDeleted(session_id="support-42", status="deleted"), "not_found", "session_dead"
    ),
)
async def delete(sessions: InSessions, session_id: SessionIdInPath) -> Response:
    """End a session; answered when it is gone, after its agent's grace period at the latest."""
    await sessions.delete(session_id)
    return encoded(SessionDeleted(session_id=session_id, status="deleted"))
