"""Turns: prompt, steer, abort, and the model that answers."""

from __future__ import annotations

from contextlib import nullcontext

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from frontdesk.agents.events import TurnTokens
from frontdesk.gateway import actions
from frontdesk.gateway.body_schemas import AbortBody, PromptAndWaitBody, SteerBody, SwitchModelBody
from frontdesk.gateway.dependencies import (
    GatewayRoute,
    InConversation,
    InGateway,
    InKey,
    InSessions,
    SessionIdInPath,
    encoded,
    gateway_of,
)
from frontdesk.gateway.idempotency import AnswerPlace, StoredResponse, stored
from frontdesk.gateway.openapi import answer, answers
from frontdesk.gateway.request_context import context_of
from frontdesk.gateway.routes.sessions import IdempotencyKey
from frontdesk.gateway.scopes import KeyScope
from frontdesk.gateway.turn_waits import TurnWait
from frontdesk.schemas.answer_schemas import PromptAccepted, Status, TurnEnded

router: APIRouter = APIRouter(
    prefix="/v1/sessions/{sessionId}", tags=["turns"], route_class=GatewayRoute
)

ACCEPTED = PromptAccepted(
    request_id="5f0c2a9e1b7d4c36",
    session_id="support-42",
    queued=False,
    status="accepted",
    since="42-0",
)
ENDED = TurnEnded(
    request_id="5f0c2a9e1b7d4c36",
    session_id="support-42",
    status="ended",
    reason=None,
    error=None,
    text="It is sunny.",
    token_usage=TurnTokens(51, 6, 57),
    last_event_index=9,
)
ON_SESSION = ("not_found", "session_dead")


@router.post(
    "/prompt",
    operation_id="sendPrompt",
    status_code=202,
    responses={
        200: answer(ENDED),
        **answers(
            ACCEPTED,
            *ON_SESSION,
            "prompt_queue_full",
            "not_resumable",
            "conversation_full",
            "budget_exceeded",
            "guardrail",
            "attachment_refused",
            "idempotency_mismatch",
            status=202,
        ),
    },
)
async def prompt(
    request: Request,
    body: PromptAndWaitBody,
    sessions: InSessions,
    session_id: SessionIdInPath,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Accept a prompt. Prompts run one after another; `queued` says that this one waits.

    With `wait` the answer is the end of its turn (200), if that comes within so many seconds. A
    client that leaves changes nothing: the turn goes on.
    """
    gateway, context = gateway_of(request), context_of(request.scope)
    if body.wait:
        context.tenant_key.require(KeyScope.READ)
    gateway.refuse_if_draining()
    actions.check_text(body.text, limit=gateway.config.limits.text_characters)
    # One that has ended, too: a repetition gets its first answer.
    conversation = sessions.recent(session_id)

    async def accept(place: AnswerPlace | None) -> bytes:
        files = await actions.attachments_of(conversation, body, gateway.attachments)
        accepted = actions.prompt(conversation, body, context.tenant_key, files)
        context.request_id = accepted.request_id
        answer = msgspec.json.encode(accepted)
        if place is not None:
            # In the stretch in which the prompt was accepted: both are stored, or neither.
            place.store(conversation, StoredResponse(202, answer))
        return answer

    with TurnWait(gateway, context) if body.wait else nullcontext() as turn_wait:
        first = await gateway.idempotency.once(
            (context.tenant_key.key_id, "prompt", session_id, str(conversation.fence)),
            idempotency_key,
            body=await request.body(),
            answer=lambda place: stored(lambda: accept(place), status=202),
        )
        if turn_wait is None or first.status != 202:
            return first.response
        accepted = msgspec.json.decode(first.body, type=PromptAccepted)
        end = await turn_wait.for_end(conversation, accepted.request_id, wait_s=body.wait or 0)
        return first.response if end is None else encoded(TurnEnded.of(conversation, end))


@router.post(
    "/steer",
    operation_id="steerTurn",
    status_code=202,
    responses=answers(
        Status(status="accepted"),
        *ON_SESSION,
        "queue_full",
        "guardrail",
        "not_resumable",
        status=202,
    ),
)
async def steer(
    body: SteerBody, conversation: InConversation, gateway: InGateway, key: InKey
) -> Response:
    """Give the turn under way a text for its next step."""
    actions.check_text(body.text, limit=gateway.config.limits.text_characters)
    return encoded(actions.steer(conversation, body, key), status=202)


@router.post(
    "/abort",
    operation_id="abortTurn",
    status_code=202,
    responses=answers(Status(status="aborting"), *ON_SESSION, status=202),
)
async def abort(
    conversation: InConversation, key: InKey, body: AbortBody | None = None
) -> Response:
    """End the turn under way with `agent_abort`; the session lives on."""
    return encoded(actions.abort(conversation, body or AbortBody(), key), status=202)


@router.post(
    "/switch_model",
    operation_id="switchModel",
    status_code=202,
    responses=answers(
        Status(status="accepted"), *ON_SESSION, "not_resumable", "create_failed", status=202
    ),
)
async def switch_model(body: SwitchModelBody, conversation: InConversation, key: InKey) -> Response:
    """Answer with another model, from the next model call on."""
    await conversation.prepare_model(body.model)
    conversation.switch_model(body.model, api_key=key.key_id)
    return encoded(Status(status="accepted"), status=202)
