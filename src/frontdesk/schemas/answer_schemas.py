"""What clients are told of sessions, turns, tools and blueprints.

`of` makes a record of what the session service has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, Self, TypeVar

import msgspec
from msgspec.structs import astuple

from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.events import (
    ApprovalRequired,
    AskUser,
    Event,
    ToolExecutionStart,
    TurnTokens,
)
from frontdesk.agents.records import Accepted, AgentOption, CreateSession, Message, State
from frontdesk.errors import SessionNotFound
from frontdesk.persistence.stored import StoredCheckpoint, StoredConversation
from frontdesk.sessions.admission import OPTIONS
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.listing import ENDED, SessionState, state_of
from frontdesk.sessions.recovery import counters_in
from frontdesk.sessions.session_snapshot import SessionSnapshot
from frontdesk.sessions.turn_ends import TurnEnd

P = TypeVar("P", bound=Event)


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The root of all answers. Each field is always there; a newer gateway may have more."""


SummaryState = SessionState | Literal["suspect"]


class SessionSummary(Answer, frozen=True, kw_only=True):
    """How a session is doing. One that is not `live` is stored, and has no agent now.

    What is not `stored` ends with its agent: it cannot be closed, forked or exported.

    `blocked` says why none could be started when one was needed. `fence` tells two sessions of one
    id apart. In lists over several nodes, `state` is `suspect` where a session's node does not
    say: then its numbers are 0, and what nobody else knows is null.
    """

    session_id: str
    state: SummaryState
    turns: int
    tool_calls: int
    total_tokens: int
    uptime_ms: int
    model: str
    blueprint: str
    created_at: int
    tenant_id: str
    restarts: int
    pid: int | None
    live: bool
    stored: bool | None
    label: str | None
    blocked: str | None
    last_activity_at: int
    forked_from: Annotated[str | None, msgspec.Meta(description="the session that it is a copy of")]
    fence: str | None

    @classmethod
    def of(
        cls, conversation: Conversation, snapshot: SessionSnapshot | None = None, **more: Any
    ) -> Self:
        """Return how a session is doing that is here: as it is shown, or as a snapshot has it."""
        public = snapshot or public_of(conversation)
        return cls(
            session_id=conversation.session_id,
            state=ENDED if public.ended else public.state,
            turns=public.turns,
            tool_calls=public.tool_calls,
            total_tokens=public.tokens.total,
            uptime_ms=conversation.uptime_ms,
            model=public.model,
            blueprint=conversation.blueprint,
            created_at=conversation.created_at,
            tenant_id=conversation.tenant_id,
            restarts=public.restarts,
            pid=conversation.pid,
            live=conversation.live,
            stored=conversation.record is not None,
            label=conversation.label,
            blocked=conversation.blocked,
            last_activity_at=public.last_activity_at,
            forked_from=conversation.forked_from,
            fence=str(conversation.fence),
            **more,
        )

    @classmethod
    def of_any(cls, session: Conversation | StoredConversation, *, now_ms: int) -> Self:
        """Return how a session is doing, here or stored."""
        if isinstance(session, Conversation):
            return cls.of(session)
        return cls.of_stored(session, now_ms=now_ms)

    @classmethod
    def of_stored(cls, stored: StoredConversation, *, now_ms: int) -> Self:
        """Return how a session is doing that is stored, and has no agent now."""
        counters = counters_in(stored.totals)
        return cls(
            session_id=stored.session_id,
            state=state_of(stored),
            turns=counters.turns,
            tool_calls=counters.tool_calls,
            total_tokens=counters.tokens.total,
            uptime_ms=max(0, now_ms - stored.created_at_ms),
            model=stored.model,
            blueprint=stored.blueprint,
            created_at=stored.created_at_ms,
            tenant_id=stored.tenant_id,
            restarts=max(0, len(stored.epochs) - 1),
            pid=None,
            live=False,
            stored=True,
            label=stored.label,
            blocked=stored.unreadable,
            last_activity_at=stored.last_activity_ms,
            forked_from=stored.forked_from,
            fence=str(stored.fence),
        )


class SessionList(Answer, frozen=True, kw_only=True):
    """A page of sessions. `next` is what `after` continues with, null on the last page.

    `partial` is true where some node of several could not be asked.
    """

    sessions: tuple[SessionSummary, ...]
    next: str | None
    partial: bool


class NamedCheckpoint(Answer, frozen=True, kw_only=True):
    """A name for the end of a turn: a session that is forked there has what was said up to it."""

    name: str
    request_id: str
    at: int

    @classmethod
    def of(cls, stored: StoredCheckpoint) -> Self:
        return cls(name=stored.name, request_id=stored.request_id, at=stored.at_ms)


class CheckpointList(Answer, frozen=True, kw_only=True):
    """The checkpoints of a session, oldest first."""

    checkpoints: tuple[NamedCheckpoint, ...]


class CheckpointDeleted(Answer, frozen=True, kw_only=True):
    """The name is free again; what was forked there stays."""

    name: str
    status: Literal["deleted"]


class SessionToken(Answer, frozen=True, kw_only=True):
    """A session token; `expires_at` is when it ends, at the latest."""

    token: str
    expires_at: int

    def __repr__(self) -> str:
        return f"SessionToken(expires_at={self.expires_at})"


class SessionDeleted(Answer, frozen=True, kw_only=True):
    """The session's entry is gone."""

    session_id: str
    status: Literal["deleted"]


class PromptAccepted(Answer, frozen=True, kw_only=True):
    """A prompt was accepted; `queued` says that it waits for another turn to end.

    A stream with this `since` has all events of its turn, whatever other prompts are accepted.
    """

    request_id: str
    session_id: str
    queued: bool
    status: Literal["accepted", "queued"]
    since: str

    @classmethod
    def of(cls, accepted: Accepted) -> Self:
        return cls(
            request_id=accepted.request_id,
            session_id=accepted.session_id,
            queued=accepted.queued,
            status="queued" if accepted.queued else "accepted",
            since=accepted.since,
        )


class TurnEnded(Answer, frozen=True, kw_only=True):
    """How the turn of a prompt ended.

    `status` is `aborted` where it ended before its agent was done: then `reason` says why, and
    `error` what explains it, if anything does. `text` is the last message, as far as it came.
    `tokenUsage` is null where the agent did not say what it used. A stream goes on after the end
    with `since=<lastEventIndex>`.
    """

    request_id: str
    session_id: str
    status: Literal["ended", "aborted"]
    reason: str | None
    error: str | None
    text: str
    token_usage: TurnTokens | None
    last_event_index: int

    @classmethod
    def of(cls, conversation: Conversation, end: TurnEnd) -> Self:
        return cls(
            request_id=end.request_id,
            session_id=conversation.session_id,
            status="ended" if end.aborted is None else "aborted",
            reason=end.aborted,
            error=end.error,
            text=end.text,
            token_usage=end.tokens,
            last_event_index=end.last_index,
        )


class SessionCreated(SessionSummary, frozen=True, kw_only=True):
    """A new session; with what became of the prompt that came with it, else null.

    `turn` is how its turn ended, null where that was not waited for, or not for long enough.
    """

    prompt: PromptAccepted | None
    turn: TurnEnded | None


class Status(Answer, frozen=True, kw_only=True):
    """`status` says what became of it."""

    status: Literal["approved", "rejected", "answered", "aborting", "accepted"]


class TokenCounts(Answer, frozen=True, kw_only=True):
    """The tokens of a conversation; cached ones are prompt tokens as well.

    What the agent used in `unknown_turns` of its turns is not among them: it did not say.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    unknown_turns: int


class SessionStats(Answer, frozen=True, kw_only=True):
    """What a conversation has used, and what is held of its events."""

    session_id: str
    turns: int
    total_tokens: int
    cost_usd: float
    prompt_count: int
    token_usage: TokenCounts
    last_event_index: int
    event_buffer_count: int

    @classmethod
    def of(cls, conversation: Conversation) -> Self:
        public = public_of(conversation)
        tokens = public.tokens
        return cls(
            session_id=conversation.session_id,
            turns=public.turns,
            total_tokens=tokens.total,
            cost_usd=tokens.cost_usd,
            prompt_count=public.prompts,
            token_usage=TokenCounts(
                prompt_tokens=tokens.prompt,
                completion_tokens=tokens.completion,
                total_tokens=tokens.total,
                cached_tokens=tokens.cached,
                unknown_turns=public.unknown_usage,
            ),
            last_event_index=conversation.log.visible,
            event_buffer_count=len(conversation.log),
        )


def public_of(conversation: Conversation) -> SessionSnapshot:
    """Return what may be seen of a session; `SessionNotFound` for one that is not stored yet."""
    if (public := conversation.public) is None:
        raise SessionNotFound(conversation.session_id)
    return public


class Queues(Answer, frozen=True, kw_only=True):
    """How many prompts and steering texts wait."""

    prompts: int
    steering: int


class PendingTool(ToolExecutionStart, frozen=True, kw_only=True):
    """A tool that runs, as its event said it."""

    request_id: str


class PendingApproval(ApprovalRequired, frozen=True, kw_only=True):
    """A tool that waits for an approval, as its event said it."""

    request_id: str


class PendingQuestion(AskUser, frozen=True, kw_only=True):
    """A question that waits for an answer, as its event said it."""

    request_id: str


class SessionStatus(Answer, frozen=True, kw_only=True):
    """What a session does and waits for; tools and requests as their events said it."""

    session_id: str
    state: State
    pending_tools: tuple[PendingTool, ...]
    pending_approvals: tuple[PendingApproval, ...]
    pending_questions: tuple[PendingQuestion, ...]
    queues: Queues
    last_event_index: int

    @classmethod
    def of(cls, conversation: Conversation) -> Self:
        public = public_of(conversation)
        request_id = public.request_id or ""

        def pending(kind: Callable[..., P], asked: Iterable[Event]) -> tuple[P, ...]:
            return tuple(kind(*astuple(each), request_id=request_id) for each in asked)

        return cls(
            session_id=conversation.session_id,
            state=public.state,
            pending_tools=pending(PendingTool, public.running_tools),
            pending_approvals=pending(PendingApproval, public.approvals),
            pending_questions=pending(PendingQuestion, public.questions),
            queues=Queues(prompts=public.queued, steering=public.steering),
            last_event_index=conversation.log.visible,
        )


class Messages(Answer, frozen=True, kw_only=True):
    """A page of the history. `next` is what `after` continues with, null on the last page."""

    messages: tuple[Message, ...]
    next: str | None


class AttachedTool(Answer, frozen=True, kw_only=True):
    """The tool is the session's now."""

    name: str
    status: Literal["attached"]


class DetachedTool(Answer, frozen=True, kw_only=True):
    """The tool is the session's no more."""

    name: str
    status: Literal["detached"]


class BlueprintOffer(Answer, frozen=True, kw_only=True):
    """A blueprint that sessions can be opened from, and what may stand beside it in `create`.

    `models` are names, or shell-style patterns of them. `options` are the fields that it knows;
    others are refused. `tools` and `plugins` are those that may be named, `attachments` patterns of
    the media types that may come with a prompt. `agent_options` is what
    its agents have beside a model (a mode for instance), as the operator has set it; null until
    the first of them has said so.
    """

    name: str
    kind: str
    isolation: Literal["task", "process"]
    default: Annotated[bool, msgspec.Meta(description="what a session gets that names none")]
    models: tuple[str, ...]
    options: tuple[str, ...]
    tools: tuple[str, ...]
    plugins: tuple[str, ...]
    attachments: tuple[str, ...]
    agent_options: tuple[AgentOption, ...] | None

    @classmethod
    def of(cls, blueprint: Blueprint, *, default: bool) -> Self:
        known = OPTIONS if blueprint.options is None else blueprint.options
        names = {each.name: each.encode_name for each in msgspec.structs.fields(CreateSession)}
        return cls(
            name=blueprint.name,
            kind=blueprint.kind,
            isolation=blueprint.isolation,
            default=default,
            models=blueprint.models,
            options=tuple(sorted(names[each] for each in known)),
            tools=tuple(sorted(blueprint.tools)),
            plugins=tuple(sorted(blueprint.plugins)),
            attachments=blueprint.attachments,
            agent_options=() if blueprint.agent_options is None else blueprint.agent_options(),
        )


class BlueprintList(Answer, frozen=True, kw_only=True):
    """All blueprints that sessions can be opened from, in the operator's order."""

    blueprints: tuple[BlueprintOffer, ...]


class ModelOffer(Answer, frozen=True, kw_only=True):
    """A model that can be asked for, or (`pattern`) a shell-style pattern of their names."""

    model: str
    pattern: bool
    blueprints: Annotated[tuple[str, ...], msgspec.Meta(description="those that allow it")]

    @classmethod
    def of(cls, model: str, blueprints: tuple[str, ...]) -> Self:
        return cls(model=model, pattern=any(each in model for each in "*?["), blueprints=blueprints)


class ModelList(Answer, frozen=True, kw_only=True):
    """All models that can be asked for."""

    models: tuple[ModelOffer, ...]
