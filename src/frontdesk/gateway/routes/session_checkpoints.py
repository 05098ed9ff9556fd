"""Checkpoints: names for the ends of a session's turns, and sessions that begin there."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from frontdesk.agents.records import CreateSession, ForkPoint
from frontdesk.gateway.body_schemas import CheckpointBody, ResumeCheckpointBody
from frontdesk.gateway.dependencies import (
    GatewayRoute,
    InSessions,
    SessionIdInPath,
    encoded,
    gateway_of,
    location_of,
)
from frontdesk.gateway.idempotency import AnswerPlace, stored
from frontdesk.gateway.openapi import answers
from frontdesk.gateway.request_context import context_of
from frontdesk.gateway.routes.sessions import CREATED, IdempotencyKey, StoredCreation
from frontdesk.schemas.answer_schemas import (
    CheckpointDeleted,
    CheckpointList,
    NamedCheckpoint,
    SessionCreated,
)
from frontdesk.sessions.checkpoints import Checkpoints

router: APIRouter = APIRouter(
    prefix="/v1/sessions/{sessionId}/checkpoints", tags=["checkpoints"], route_class=GatewayRoute
)

ON_SESSION = ("not_found", "session_dead", "not_stored")
CHECKPOINT = NamedCheckpoint(
    name="before-the-refund", request_id="req_5f0c2a9e1b7d4c36", at=1795339800000
)
CheckpointInPath = Annotated[str, Path(examples=["before-the-refund"])]


@router.get(
    "",
    operation_id="listCheckpoints",
    responses=answers(CheckpointList(checkpoints=(CHECKPOINT,)), *ON_SESSION),
)
async def list_checkpoints(sessions: InSessions, session_id: SessionIdInPath) -> Response:
    """List the checkpoints of a session, oldest first."""
    found = await Checkpoints(sessions.recent(session_id)).all()
    return encoded(CheckpointList(checkpoints=tuple(map(NamedCheckpoint.of, found))))


@router.post(
    "",
    operation_id="makeCheckpoint",
    status_code=201,
    responses=answers(CHECKPOINT, *ON_SESSION, "checkpoint_refused", status=201),
)
async def make(
    request: Request, body: CheckpointBody, sessions: InSessions, session_id: SessionIdInPath
) -> Response:
    """Name the end of the last turn that has ended. The same again is answered the same."""
    made = await Checkpoints(sessions.recent(session_id)).make(body.name)
    place = f"/v1/sessions/{session_id}/checkpoints/{made.name}"
    return encoded(NamedCheckpoint.of(made), status=201, location=location_of(request, place))


@router.delete(
    "/{name}",
    operation_id="deleteCheckpoint",
    responses=answers(CheckpointDeleted(name="before-the-refund", status="deleted"), *ON_SESSION),
)
async def delete(
    sessions: InSessions, session_id: SessionIdInPath, name: CheckpointInPath
) -> Response:
    """Take a name back; the session, and what was forked there, stay as they are."""
    await Checkpoints(sessions.recent(session_id)).remove(name)
    return encoded(CheckpointDeleted(name=name, status="deleted"))


@router.post(
    "/{name}/resume",
    operation_id="resumeCheckpoint",
    status_code=201,
    responses=answers(
        CREATED,
        *ON_SESSION,
        "already_exists",
        "idempotency_mismatch",
        "create_failed",
        "registration_failed",
        "session_limit",
        status=201,
    ),
)
async def resume(
    request: Request,
    sessions: InSessions,
    session_id: SessionIdInPath,
    name: CheckpointInPath,
    body: ResumeCheckpointBody | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Open a session that begins at a checkpoint: a fork, with what was said up to there."""
    gateway, context = gateway_of(request), context_of(request.scope)
    gateway.refuse_if_draining()
    asked = body or ResumeCheckpointBody()
    await Checkpoints(sessions.recent(session_id)).get(name)

    async def opened(place: AnswerPlace | None) -> bytes:
        wanted = CreateSession(
            model=asked.model or "",
            session_id=asked.session_id,
            label=asked.label,
            ephemeral=bool(asked.ephemeral),
            fork=ForkPoint(session_id=session_id, after=name),
        )
        answer = StoredCreation(place)
        await sessions.create(wanted, first=answer.on_opened)
        return answer.body

    first = await gateway.idempotency.once(
        (context.tenant_key.key_id, "resume", session_id, name),
        idempotency_key,
        body=await request.body(),
        answer=lambda place: stored(lambda: opened(place), status=201),
    )
    if first.status != 201:
        return first.response
    created = msgspec.json.decode(first.body, type=SessionCreated)
    place = location_of(request, f"/v1/sessions/{created.session_id}")
    return encoded(created, status=201, location=place)
