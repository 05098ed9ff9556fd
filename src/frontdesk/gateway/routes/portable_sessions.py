"""Sessions as JSON lines: written out, and read in on this gateway or another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from frontdesk.gateway.actions import check_text
from frontdesk.gateway.dependencies import (
    GatewayRoute,
    InSessions,
    SessionIdInPath,
    encoded,
    gateway_of,
    location_of,
)
from frontdesk.gateway.openapi import answers, problems
from frontdesk.gateway.queries import InImport
from frontdesk.gateway.routes.sessions import INFO
from frontdesk.schemas.answer_schemas import SessionSummary

router: APIRouter = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=GatewayRoute)

JSON_LINES = "application/jsonl"
LINES: dict[str, Any] = {
    JSON_LINES: {
        "schema": {"type": "string", "description": "a line for each part, `line` says of what"},
        "example": '{"line":"conversation","version":1,"sessionId":"support-42"}\n',
    }
}


@router.get(
    "/{sessionId}/export",
    operation_id="exportSession",
    response_class=StreamingResponse,
    responses={
        200: {"description": "the session", "content": LINES},
        **problems("not_found", "session_dead", "not_stored", "not_resumable"),
    },
)
async def export(sessions: InSessions, session_id: SessionIdInPath) -> Response:
    """Write a session out, whether it lives, is dormant or has ended: all that has come to an end.

    Its last line is the `end`; an answer without it was cut off. What may be a secret of its
    options is left out, and so is what its agents remember.
    """
    parts = sessions.export(session_id)
    first = await anext(parts)

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    name = f'attachment; filename="{session_id}.jsonl"'
    return StreamingResponse(whole(), media_type=JSON_LINES, headers={"Content-Disposition": name})


@router.post(
    "/import",
    operation_id="importSession",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": LINES}},
    responses=answers(
        INFO,
        "already_exists",
        "not_stored",
        "create_failed",
        "import_refused",
        "session_limit",
        status=201,
    ),
)
async def import_session(request: Request, sessions: InSessions, query: InImport) -> Response:
    """Read a session in that was exported, under its own id or another; all of it or nothing.

    It is dormant, or has ended as it had; every line that is wrong is named. At most 64 MiB.
    """
    gateway = gateway_of(request)
    gateway.refuse_if_draining()
    reading = sessions.importing()
    async for part in request.stream():
        reading.feed(part)
    reading.finish()
    wanted = reading.wanted(query.session_id)
    check_text(wanted.system_prompt, limit=gateway.config.limits.text_characters)
    await gateway.check_provider_options(wanted, tenant_id=sessions.tenant_id)
    conversation = await sessions.import_lines(reading, session_id=query.session_id)
    place = location_of(request, f"/v1/sessions/{conversation.session_id}")
    return encoded(SessionSummary.of(conversation), status=201, location=place)
