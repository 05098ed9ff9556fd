"""What goes over the wire in JSON bodies: checked on the way in, described for the API document.

Below the routes and the WebSocket, which check the same bodies by the same models. An answer is one
frozen record, which a route encodes and the API description shows; `of` makes it.
Names are camelCase on the wire. Fields that a client sends and we do not know are refused by name:
dropped in silence, a misspelt one would be missed by nobody but the user.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, Self, TypeVar

import msgspec
from msgspec.structs import astuple
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from frontdesk.agents.events import ApprovalRequired, AskUser, Event, ToolExecutionStart
from frontdesk.agents.ids import SESSION_ID
from frontdesk.agents.records import MAX_TOOL_DESCRIPTION_CHARACTERS, TOOL_NAME, Message, State
from frontdesk.gateway.metering import MeteredUsage
from frontdesk.sessions.conversation import Conversation

MAX_DEPTH = 64

P = TypeVar("P", bound=Event)


def _unicode(text: str) -> str:
    """Refuse lone surrogates: JSON can write them, UTF-8 cannot."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("is not valid Unicode") from None
    return text


Str = Annotated[str, AfterValidator(_unicode)]
SessionId = Annotated[str, Field(pattern=f"^{SESSION_ID}$", examples=["support-42"])]
Name = Annotated[Str, Field(min_length=1, max_length=256)]
Reference = Annotated[Str, Field(min_length=1, max_length=256)]
Text = Annotated[Str, Field(min_length=1)]
# A pattern on top of `Str` would be checked, and missing in the description.
Reason = Annotated[Str, Field(max_length=2000)]


def _not_too_deep(value: Any) -> Any:
    """Refuse free-form JSON that is too deep, or that could not be written as JSON again."""
    try:
        msgspec.json.encode(value)
        # NaN and the infinities are read by the framework, and are no JSON.
        json.dumps(value, allow_nan=False)
    except (RecursionError, OverflowError, ValueError):
        raise ValueError("cannot be written as JSON again") from None
    level, depth = [value], 0
    while level := [
        inner
        for outer in level
        if isinstance(outer, dict | list)
        for inner in (outer.values() if isinstance(outer, dict) else outer)
    ]:
        depth += 1
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
    return value


FreeForm = Annotated[Any, AfterValidator(_not_too_deep)]
FreeObject = Annotated[dict[str, Any], AfterValidator(_not_too_deep)]


class _Body(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, strict=True, frozen=True, validate_by_name=False, extra="forbid"
    )


# -- what clients send ---------------------------------------------------------------------------


class CreateSessionBody(_Body):
    """A session to open."""

    model: Annotated[Str, Field(min_length=1, max_length=256, examples=["test"])]
    session_id: SessionId | None = None
    system_prompt: Str | None = None
    working_dir: Annotated[Str, Field(max_length=4096)] | None = None
    tools: Annotated[list[Name], Field(max_length=256)] | None = None
    plugins: Annotated[list[Name], Field(max_length=256)] | None = None
    blueprint: Name | None = None
    max_turns: Annotated[int, Field(gt=0, lt=2**31)] | None = None
    max_tokens: Annotated[int, Field(gt=0, lt=2**31)] | None = None
    skills_dirs: Annotated[list[Str], Field(max_length=64)] | None = None
    provider_opts: FreeObject | None = None
    user_data: FreeForm = None
    prompt_mode: Name | None = None


class PromptBody(_Body):
    """A prompt."""

    text: Annotated[Text, Field(examples=["What is the weather in Paris?"])]


class SteerBody(_Body):
    """A text for the turn under way."""

    text: Annotated[Text, Field(examples=["in one sentence, please"])]


class ApprovalBody(_Body):
    """An answer to an `approval_required`."""

    approval_id: Annotated[Reference, Field(examples=["9f3c2a1b0d4e5f67"])]
    reason: Reason | None = None


class RespondBody(_Body):
    """An answer to an `ask_user`."""

    ref: Annotated[Reference, Field(examples=["9f3c2a1b0d4e5f67"])]
    response: Annotated[FreeForm, Field(examples=["the blue one"])]


class AbortBody(_Body):
    """Why the turn under way ends, and whether running tools are killed as well."""

    reason: Reason | None = None
    kill_tools: bool = False


class SwitchModelBody(_Body):
    """Another model."""

    model: Annotated[Str, Field(min_length=1, max_length=256, examples=["test"])]


class ToolBody(_Body):
    """A callback tool."""

    name: Annotated[str, Field(pattern=f"^{TOOL_NAME}$", examples=["lookup_order"])]
    description: Annotated[Str, Field(max_length=MAX_TOOL_DESCRIPTION_CHARACTERS)]
    parameters: Annotated[
        FreeObject,
        Field(examples=[{"type": "object", "properties": {"order": {"type": "string"}}}]),
    ]
    callback_url: Annotated[
        str, Field(min_length=1, max_length=2048, examples=["https://tools.example.com/orders"])
    ]
    timeout_ms: Annotated[int, Field(gt=0, le=600_000)] = 30_000


# -- what clients get ----------------------------------------------------------------------------


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The root of all answers. Each field is always there, and there is no other."""


class ActiveSessions(Answer, frozen=True, kw_only=True):
    """How many sessions live."""

    active: int


class MeterState(Answer, frozen=True, kw_only=True):
    """How many keys have used anything."""

    tracked_keys: int = msgspec.field(name="tracked_keys")


class Health(Answer, frozen=True, kw_only=True):
    """The server lives, and has so much to do."""

    status: Literal["ok"]
    version: str
    sessions: ActiveSessions
    meter: MeterState
    timestamp: Annotated[str, msgspec.Meta(description="ISO-8601, UTC")]


class Readiness(Answer, frozen=True, kw_only=True):
    """New work is taken."""

    status: Literal["ready"]


class SessionSummary(Answer, frozen=True, kw_only=True):
    """How a session is doing."""

    session_id: str
    state: State
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

    @classmethod
    def of(cls, conversation: Conversation, **more: Any) -> Self:
        counters = conversation.counters
        return cls(
            session_id=conversation.session_id,
            state=conversation.state,
            turns=counters.turns,
            tool_calls=counters.tool_calls,
            total_tokens=counters.tokens.total,
            uptime_ms=conversation.uptime_ms,
            model=conversation.model,
            blueprint=conversation.blueprint,
            created_at=conversation.created_at,
            tenant_id=conversation.tenant_id,
            restarts=conversation.restarts,
            pid=conversation.pid,
            **more,
        )


class SessionCreated(SessionSummary, frozen=True, kw_only=True):
    """A new session."""

    fence: Annotated[str, msgspec.Meta(description="tells two sessions of one id apart")]


class SessionList(Answer, frozen=True, kw_only=True):
    """A page of sessions. `next` is what `after` continues with, null on the last page."""

    sessions: tuple[SessionSummary, ...]
    next: str | None


class SessionDeleted(Answer, frozen=True, kw_only=True):
    """The session's entry is gone."""

    session_id: str
    status: Literal["deleted"]


class PromptAccepted(Answer, frozen=True, kw_only=True):
    """A prompt was accepted; `queued` says that it waits for another turn to end."""

    request_id: str
    session_id: str
    queued: bool
    status: Literal["accepted", "queued"]


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
        counters, tokens = conversation.counters, conversation.counters.tokens
        return cls(
            session_id=conversation.session_id,
            turns=counters.turns,
            total_tokens=tokens.total,
            cost_usd=tokens.cost_usd,
            prompt_count=counters.prompts,
            token_usage=TokenCounts(
                prompt_tokens=tokens.prompt,
                completion_tokens=tokens.completion,
                total_tokens=tokens.total,
                cached_tokens=tokens.cached,
                unknown_turns=counters.unknown_usage,
            ),
            last_event_index=conversation.log.last_index,
            event_buffer_count=len(conversation.log),
        )


class Queues(Answer, frozen=True, kw_only=True):
    """How many prompts and steering texts wait."""

    prompts: int
    steering: int


class PendingTool(ToolExecutionStart, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool that runs, as its event said it."""

    request_id: str


class PendingApproval(ApprovalRequired, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool that waits for an approval, as its event said it."""

    request_id: str


class PendingQuestion(AskUser, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
        turn, parts = conversation.turn, conversation.parts
        # Whatever is pending is the turn's under way, and goes with it.
        request_id = "" if turn is None else turn.request_id
        running = () if turn is None else turn.running_tools.values()

        def pending(kind: Callable[..., P], asked: Iterable[Event]) -> tuple[P, ...]:
            return tuple(kind(*astuple(each), request_id=request_id) for each in asked)

        return cls(
            session_id=conversation.session_id,
            state=conversation.state,
            pending_tools=pending(PendingTool, running),
            pending_approvals=pending(PendingApproval, parts.approvals.requests()),
            pending_questions=pending(PendingQuestion, parts.questions.requests()),
            queues=Queues(prompts=len(conversation.prompts), steering=len(parts.steering_texts)),
            last_event_index=conversation.log.last_index,
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


class MeterReading(Answer, frozen=True, kw_only=True):
    """What was used."""

    prompts: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    total_tokens: int
    cost_usd: float

    @classmethod
    def of(cls, used: MeteredUsage, **owner: Any) -> Self:
        return cls(
            prompts=used.prompts,
            prompt_tokens=used.tokens.prompt,
            completion_tokens=used.tokens.completion,
            cached_tokens=used.tokens.cached,
            total_tokens=used.tokens.total,
            cost_usd=used.tokens.cost_usd,
            **owner,
        )


class KeyReading(MeterReading, frozen=True, kw_only=True):
    """What a key has used."""

    key_id: str


class TenantReading(MeterReading, frozen=True, kw_only=True):
    """What all keys of a tenant have used."""

    tenant_id: str


class UsageReport(Answer, frozen=True, kw_only=True):
    """What the calling key has used, and all keys of its tenant together."""

    key: KeyReading
    tenant: TenantReading


# -- what operators and other agents get ---------------------------------------------------------


class GatewayNumbers(Answer, frozen=True, kw_only=True):
    """How much there is of what a gateway holds."""

    sessions: int
    streams: int
    stuck: int
    keys: int
    metered_keys: int = msgspec.field(name="metered_keys")
    log_lines_dropped: int = msgspec.field(name="log_lines_dropped")


class GatewayStatus(GatewayNumbers, frozen=True, kw_only=True):
    """What runs here."""

    version: str
    draining: bool


class HostedSession(Answer, frozen=True, kw_only=True):
    """A live session and the process that its agent runs in, null for a task."""

    tenant_id: str
    session_id: str
    key_id: str | None
    blueprint: str | None
    model: str | None
    pid: int | None
    created_at: int


class HostedSessions(Answer, frozen=True, kw_only=True):
    """Every live session, oldest first."""

    sessions: tuple[HostedSession, ...]


class AgentCapabilities(Answer, frozen=True, kw_only=True):
    """What an agent card says of the protocol."""

    streaming: bool
    push_notifications: bool


class AgentAuthentication(Answer, frozen=True, kw_only=True):
    """What an agent card says of keys."""

    schemes: tuple[str, ...]


class AgentCard(Answer, frozen=True, kw_only=True):
    """What other agents may know of this server."""

    name: str
    description: str
    version: str
    url: str
    documentation_url: str
    capabilities: AgentCapabilities
    default_input_modes: tuple[str, ...]
    default_output_modes: tuple[str, ...]
    authentication: AgentAuthentication
    skills: tuple[str, ...]
