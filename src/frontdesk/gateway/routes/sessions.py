"""Sessions: open one, list them, look at one, end one."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from frontdesk.agents.attachments import Attachment
from frontdesk.agents.records import Accepted, CreateSession
from frontdesk.errors import SessionNotFound
from frontdesk.gateway.actions import check_text
from frontdesk.gateway.attachment_reader import types_of
from frontdesk.gateway.body_schemas import CreateSessionBody
from frontdesk.gateway.dependencies import (
    InEarlierConversation,
    InKey,
    InSessions,
    SessionIdInPath,
    SessionRoute,
    encoded,
    gateway_of,
    location_of,
)
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.idempotency import (
    MAX_KEY_CHARACTERS,
    AnswerPlace,
    Slot,
    StoredResponse,
    stored,
)
from frontdesk.gateway.openapi import answers
from frontdesk.gateway.paths import scope_of_action
from frontdesk.gateway.queries import InSessionsQuery
from frontdesk.gateway.request_context import RequestContext, context_of
from frontdesk.gateway.scopes import KeyScope
from frontdesk.gateway.turn_waits import TurnWait
from frontdesk.schemas.answer_schemas import (
    PromptAccepted,
    SessionCreated,
    SessionDeleted,
    SessionList,
    SessionSummary,
    TurnEnded,
)
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.listing import number_after
from frontdesk.sessions.tenant_sessions import TenantSessions

router: APIRouter = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=SessionRoute)

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
    live=True,
    stored=True,
    label="support",
    blocked=None,
    last_activity_at=1795339860000,
    forked_from=None,
    fence="1795339800000123",
)
CLOSED = msgspec.structs.replace(INFO, live=False, pid=None)
ON_SESSION = ("not_found", "session_dead")
CREATED = SessionCreated(
    **{**msgspec.structs.asdict(INFO), "turns": 0, "total_tokens": 0, "uptime_ms": 0},
    prompt=None,
    turn=None,
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
        "not_found",
        "not_stored",
        "create_failed",
        "registration_failed",
        "guardrail",
        "attachment_refused",
        "session_limit",
        "budget_exceeded",
        status=201,
    ),
)
async def create(
    request: Request, body: CreateSessionBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Open a session and start its agent. Without `sessionId` one is minted.

    With `fork` it begins as a copy of another one, up to the end of a turn: with its messages, and
    what its agents remember, and none of its events. With `prompt` its first turn begins; where
    that prompt is refused, there is no session. With `wait` the answer comes with the end of the
    turn, or when so many seconds are over.
    """
    gateway, context = gateway_of(request), context_of(request.scope)
    if body.prompt is not None:
        context.tenant_key.require(scope_of_action("prompt"))
    if body.wait:
        context.tenant_key.require(KeyScope.READ)

    scope = (context.tenant_key.key_id, "create")
    elsewhere = await opened_elsewhere(request, scope, idempotency_key)
    if elsewhere is not None:
        return elsewhere
    if not gateway.idempotency.has(scope, idempotency_key):
        gateway.refuse_unless_taking()
    with TurnWait(gateway, context) if body.wait else nullcontext() as turn_wait:
        first = await gateway.idempotency.once(
            scope,
            idempotency_key,
            body=await request.body(),
            answer=lambda place: stored(lambda: opened(gateway, context, body, place), status=201),
        )
        if first.status == 503 and gateway.draining:
            # It began to drain while the agent started.
            elsewhere = await opened_elsewhere(request, scope, idempotency_key)
        if first.status != 201:
            return elsewhere or first.response
        created = msgspec.json.decode(first.body, type=SessionCreated)
        if turn_wait is not None:
            wait_s = body.wait or 0
            turn = await first_turn(context.tenant_sessions, created, turn_wait, wait_s=wait_s)
            created = msgspec.structs.replace(created, turn=turn)
        place = location_of(request, f"{router.prefix}/{created.session_id}")
        return encoded(created, status=201, location=place)


async def opened_elsewhere(
    request: Request, scope: Slot, idempotency_key: str | None
) -> Response | None:
    """Return another node's answer, where that is the one to open the session."""
    gateway, context = gateway_of(request), context_of(request.scope)
    placement, forwarding = gateway.placement, gateway.forwarding
    if placement is None or forwarding is None or context.tenant_key.forwarded:
        return None
    body = await request.body()
    draining_to = None if gateway.takes_sessions else forwarding
    node = await placement.node_for(scope, idempotency_key, body=body, draining_to=draining_to)
    if node is None:
        return None
    return await forwarding.forward_create(context, body, incarnation=node)


class StoredCreation:
    """The answer to a request that opens a session: stored with the opening, if it has a place.

    Its `body` is there once the session is, and `request_id` that of a prompt that came with it.
    """

    def __init__(self, place: AnswerPlace | None) -> None:
        self._place = place
        self.body: bytes = b""
        self.request_id: str | None = None

    def on_opened(self, conversation: Conversation) -> None:
        """Answer for a session without a prompt, in the stretch in which it is stored."""
        self._make(conversation, prompt=None)

    def on_prompted(self, conversation: Conversation, accepted: Accepted) -> None:
        """Answer for a session with its first prompt."""
        self.request_id = accepted.request_id
        self._make(conversation, prompt=PromptAccepted.of(accepted))

    def _make(self, conversation: Conversation, *, prompt: PromptAccepted | None) -> None:
        created = SessionCreated.of(conversation, conversation.snapshot(), prompt=prompt, turn=None)
        self.body = msgspec.json.encode(created)
        if self._place is not None:
            self._place.store(conversation, StoredResponse(201, self.body))


async def opened(
    gateway: Gateway, context: RequestContext, body: CreateSessionBody, place: AnswerPlace | None
) -> bytes:
    """Open a session, and prompt it where there is a prompt; both or neither.

    The answer is stored with what it tells of, where it has a place.
    """
    check_text(body.system_prompt, limit=gateway.config.limits.text_characters)
    check_text(body.prompt, limit=gateway.config.limits.text_characters)
    of_prompt = {"prompt", "attachments", "wait"}
    asked = body.model_dump(by_alias=True, exclude_none=True, exclude=of_prompt)
    wanted = msgspec.convert({"model": "", **asked}, CreateSession)
    sessions = context.tenant_sessions
    await gateway.check_provider_options(wanted, tenant_id=sessions.tenant_id)
    files: tuple[Attachment, ...] = ()
    if body.attachments:
        if wanted.fork is None:  # the types that a fork takes are known once it is open
            await sessions.require_types(wanted.blueprint, types_of(body.attachments))
        files = await gateway.attachments.read(body.attachments, tenant_id=sessions.tenant_id)
    answer = StoredCreation(place)
    if body.prompt is None:
        await sessions.create(wanted, first=answer.on_opened)
    else:
        await sessions.create_and_prompt(
            wanted, body.prompt, attachments=files, first=answer.on_prompted
        )
        context.request_id = answer.request_id
    return answer.body


async def first_turn(
    sessions: TenantSessions, created: SessionCreated, turn_wait: TurnWait, *, wait_s: float
) -> TurnEnded | None:
    """Wait for the end of the turn that a session was opened with; None where it is not told."""
    assert created.prompt is not None
    try:
        conversation = sessions.recent(created.session_id)
    except SessionNotFound:
        return None
    if str(conversation.fence) != created.fence:
        # Another session of that id by now: the answer is a repetition.
        return None
    end = await turn_wait.for_end(conversation, created.prompt.request_id, wait_s=wait_s)
    return None if end is None else TurnEnded.of(conversation, end)


@router.get(
    "",
    operation_id="listSessions",
    responses=answers(SessionList(sessions=(INFO,), next="42", partial=False)),
)
async def list_sessions(
    request: Request,
    sessions: InSessions,
    query: InSessionsQuery,
) -> Response:
    """List the tenant's sessions, live and dormant, in the order in which they were opened.

    With `kept=true` those that have ended as well, as long as they are stored. Where `state` is
    asked for, a page may have fewer than `limit` though more follow: go on while there is `next`.
    """
    gateway = gateway_of(request)
    if gateway.forwarding is not None:
        return encoded(await gateway.forwarding.list_sessions(sessions.tenant_id, query))
    found = await sessions.listed(query.asked(after=number_after(query.after)))
    now_ms = gateway.clock.wall_ms()
    rows = tuple(SessionSummary.of_any(each, now_ms=now_ms) for each in found.sessions)
    following = None if found.next is None else str(found.next)
    return encoded(SessionList(sessions=rows, next=following, partial=False))


@router.get(
    "/{sessionId}", operation_id="getSession", responses=answers(INFO, "not_found", "session_dead")
)
async def get(conversation: InEarlierConversation) -> Response:
    """Say how a session is doing; with `fence` an earlier one of its id, which may have ended."""
    return encoded(SessionSummary.of(conversation))


@router.post(
    "/{sessionId}/resume",
    operation_id="resumeSession",
    responses=answers(INFO, *ON_SESSION, "not_resumable", "session_limit"),
)
async def resume(sessions: InSessions, session_id: SessionIdInPath) -> Response:
    """Start an agent for a session that has none; answered when it is there.

    One that has ended goes on: its log does, after `session_end`. Nothing happens to one that has
    an agent.
    """
    conversation = await sessions.resume(session_id)
    return encoded(SessionSummary.of(conversation, conversation.snapshot()))


@router.post(
    "/{sessionId}/close",
    operation_id="closeSession",
    responses=answers(CLOSED, *ON_SESSION, "not_stored"),
)
async def close(sessions: InSessions, session_id: SessionIdInPath) -> Response:
    """End a session's agent, with the turn under way, and leave the session dormant.

    It goes on with its next prompt, or with `resume`; what waits in it waits until then.
    """
    conversation = await sessions.close(session_id)
    return encoded(SessionSummary.of(conversation, conversation.snapshot()))


@router.delete(
    "/{sessionId}",
    operation_id="deleteSession",
    responses=answers(SessionDeleted(session_id="support-42", status="deleted"), *ON_SESSION),
)
async def delete(sessions: InSessions, key: InKey, session_id: SessionIdInPath) -> Response:
    """End a session, and erase what is stored under its id, of earlier sessions as well.

    Answered when it is gone, after its agent's grace period at the latest. From then on it is as
    if it had never been; its text is in no file a minute later.
    """
    if key.operator:
        # Who stops a tenant's session erases nothing of the tenant's.
        await sessions.end(session_id)
    else:
        await sessions.delete(session_id)
    return encoded(SessionDeleted(session_id=session_id, status="deleted"))
