"""Reading a session: its numbers, what it waits for, its history."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from frontdesk.agents.records import Message
from frontdesk.gateway.dependencies import InConversation, SessionRoute, encoded
from frontdesk.gateway.openapi import answers
from frontdesk.gateway.queries import InPage
from frontdesk.schemas.answer_schemas import (
    Messages,
    Queues,
    SessionStats,
    SessionStatus,
    TokenCounts,
)

router: APIRouter = APIRouter(
    prefix="/v1/sessions/{sessionId}", tags=["reading"], route_class=SessionRoute
)

ON_SESSION = ("not_found", "session_dead")
STATS = SessionStats(
    session_id="support-42",
    turns=1,
    total_tokens=57,
    cost_usd=0.0,
    prompt_count=1,
    token_usage=TokenCounts(
        prompt_tokens=51, completion_tokens=6, total_tokens=57, cached_tokens=0, unknown_turns=0
    ),
    last_event_index=9,
    event_buffer_count=9,
)
STATUS = SessionStatus(
    session_id="support-42",
    state="idle",
    pending_tools=(),
    pending_approvals=(),
    pending_questions=(),
    queues=Queues(prompts=0, steering=0),
    last_event_index=9,
)
MESSAGES = Messages(
    messages=(Message("tool_result", "42", call_id="call_9f3c2a1b0d4e5f67", status="ok"),), next="3"
)


@router.get("/stats", operation_id="getSessionStats", responses=answers(STATS, *ON_SESSION))
async def stats(conversation: InConversation) -> Response:
    """Return turns, tokens, cost and the size of the event buffer."""
    return encoded(SessionStats.of(conversation))


@router.get("/status", operation_id="getSessionStatus", responses=answers(STATUS, *ON_SESSION))
async def status(conversation: InConversation) -> Response:
    """Return what the session does and waits for."""
    return encoded(SessionStatus.of(conversation))


@router.get(
    "/messages",
    operation_id="listMessages",
    responses=answers(MESSAGES, *ON_SESSION, "not_resumable"),
)
async def messages(
    conversation: InConversation,
    page: InPage,
) -> Response:
    """Return the history that is kept, oldest first, a page at a time."""
    found = await conversation.messages(limit=page.limit, after=page.after)
    return encoded(Messages(messages=found.messages, next=found.next))
