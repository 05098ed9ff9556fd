"""Answers to what an agent asked: approvals and questions."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from frontdesk.gateway import actions
from frontdesk.gateway.body_schemas import ApprovalBody, RespondBody
from frontdesk.gateway.dependencies import GatewayRoute, InConversation, InKey, encoded
from frontdesk.gateway.openapi import answers
from frontdesk.schemas.answer_schemas import Status

router: APIRouter = APIRouter(
    prefix="/v1/sessions/{sessionId}", tags=["answers"], route_class=GatewayRoute
)

ON_SESSION = ("not_found", "session_dead", "guardrail", "not_resumable")


@router.post(
    "/approve",
    operation_id="approveTool",
    responses=answers(Status(status="approved"), *ON_SESSION),
)
async def approve(body: ApprovalBody, conversation: InConversation, key: InKey) -> Response:
    """Let the tool run that an `approval_required` is about."""
    return encoded(actions.approve(conversation, body, key))


@router.post(
    "/reject", operation_id="rejectTool", responses=answers(Status(status="rejected"), *ON_SESSION)
)
async def reject(body: ApprovalBody, conversation: InConversation, key: InKey) -> Response:
    """Refuse the tool; the turn goes on without its result."""
    return encoded(actions.reject(conversation, body, key))


@router.post(
    "/respond",
    operation_id="answerQuestion",
    responses=answers(Status(status="answered"), *ON_SESSION),
)
async def respond(body: RespondBody, conversation: InConversation, key: InKey) -> Response:
    """Answer the question of an `ask_user`."""
    return encoded(actions.respond(conversation, body, key))
