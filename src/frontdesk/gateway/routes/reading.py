"""Reading a session: its numbers, what it waits for, its history."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from frontdesk.gateway import views
from frontdesk.gateway.dependencies import InConversation, SessionRoute, encoded
from frontdesk.gateway.openapi import answers
from frontdesk.gateway.schemas import Messages, SessionStats, SessionStatus

router = APIRouter(prefix="/v1/sessions/{sessionId}", tags=["reading"], route_class=SessionRoute)

ON_SESSION = ("not_found", "session_dead")
STATS = {
    "sessionId": "support-42",
    "turns": 1,
    "totalTokens": 57,
    "costUsd": 0.0,
    "promptCount": 1,
    "tokenUsage": {
        "promptTokens": 51,
        "completionTokens": 6,
        "totalTokens": 57,
        "cachedTokens": 0,
    },
    "lastEventIndex": 9,
    "eventBufferCount": 9,
}
STATUS = {
    "sessionId": "support-42",
    "state": "idle",
    "pendingTools": [],
    "pendingApprovals": [],
    "pendingQuestions": [],
    "queues": {"prompts": 0, "steering": 0},
    "lastEventIndex": 9,
}
MESSAGES = {
    "messages": [{"role": "user", "content": "Hello", "toolCalls": []}],
    "next": "1",
}


@router.get("/stats", responses=answers(200, SessionStats, STATS, *ON_SESSION))
async def stats(conversation: InConversation) -> Response:
    """Return turns, tokens, cost and the size of the event buffer."""
    return encoded(views.stats(conversation))


@router.get("/status", responses=answers(200, SessionStatus, STATUS, *ON_SESSION))
async def status(conversation: InConversation) -> Response:
    """Return what the session does and waits for."""
    return encoded(views.status(conversation))


@router.get("/messages", responses=answers(200, Messages, MESSAGES, *ON_SESSION))
async def messages(
    conversation: InConversation,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str, Query(max_length=512, description="the last answer's `next`")] = "",
) -> Response:
    """Return the history that is kept, oldest first, a page at a time."""
    return encoded(views.messages(conversation.history.page(limit=limit, after=after or None)))
