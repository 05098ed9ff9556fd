"""What goes over the wire in JSON bodies: checked on the way in, described for the API document.

Below the routes and the WebSocket, which check the same bodies by the same models. Answers are not
checked on the way out (the conversation makes them); their models are here for the description.
Names are camelCase on the wire. Fields that a client sends and we do not know are ignored, so that
clients written for a richer gateway work.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

DEEPEST = 64


def _unicode(text: str) -> str:
    """Refuse lone surrogates: JSON can write them, UTF-8 cannot."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("is not valid Unicode") from None
    return text


Str = Annotated[str, AfterValidator(_unicode)]
SessionId = Annotated[Str, Field(pattern=r"^[A-Za-z0-9_~.-]{1,128}$", examples=["support-42"])]
Name = Annotated[Str, Field(min_length=1, max_length=256)]
Reference = Annotated[Str, Field(min_length=1, max_length=256)]
Text = Annotated[Str, Field(min_length=1)]
Reason = Annotated[Str, Field(max_length=2000)]


def _shallow(value: Any) -> Any:
    """Refuse free-form JSON that is too deep, or that could not be written as JSON again."""
    try:
        msgspec.json.encode(value)
        # NaN and the infinities are read by the framework, and are no JSON.
        json.dumps(value, allow_nan=False)
    except (RecursionError, OverflowError, ValueError):
        raise ValueError("cannot be written as JSON again") from None
    if _depth(value) > DEEPEST:
        raise ValueError(f"is nested deeper than {DEEPEST} levels")
    return value


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [
        inner
        for outer in level
        if isinstance(outer, dict | list)
        for inner in (outer.values() if isinstance(outer, dict) else outer)
    ]:
        depth += 1
    return depth


FreeForm = Annotated[Any, AfterValidator(_shallow)]
FreeObject = Annotated[dict[str, Any], AfterValidator(_shallow)]


class _Body(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, strict=True, frozen=True, validate_by_name=False
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

    name: Annotated[Str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", examples=["lookup_order"])]
    description: Annotated[Str, Field(max_length=8192)]
    parameters: Annotated[
        FreeObject,
        Field(examples=[{"type": "object", "properties": {"order": {"type": "string"}}}]),
    ]
    callback_url: Annotated[
        str, Field(min_length=1, max_length=2048, examples=["https://tools.example.com/orders"])
    ]
    timeout_ms: Annotated[int, Field(gt=0, le=600_000)] = 30_000


# -- what clients get ----------------------------------------------------------------------------


class Health(_Body):
    class Sessions(_Body):
        active: int

    class Meter(_Body):
        tracked_keys: Annotated[int, Field(alias="tracked_keys")]

    status: Literal["ok"]
    version: str
    sessions: Sessions
    meter: Meter
    timestamp: Annotated[str, Field(description="ISO-8601, UTC")]


class Readiness(_Body):
    status: Literal["ready"]


class SessionCreated(_Body):
    session_id: str
    model: str
    blueprint: str
    created_at: int


State = Literal["idle", "working", "waiting_approval", "waiting_input", "restarting"]


class SessionInfo(_Body):
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
    restarts: int = 0
    pid: int | None = None


class SessionList(_Body):
    sessions: list[SessionInfo]
    next: str | None = None


class SessionDeleted(_Body):
    session_id: str
    status: Literal["deleted"]


class PromptAccepted(_Body):
    request_id: str
    session_id: str
    queued: bool


class Status(_Body):
    """`status` says what became of it."""

    status: str


class TokenUsage(_Body):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int


class SessionStats(_Body):
    session_id: str
    turns: int
    total_tokens: int
    cost_usd: float
    prompt_count: int
    token_usage: TokenUsage
    last_event_index: int
    event_buffer_count: int


class SessionStatus(_Body):
    model_config = ConfigDict(extra="allow")

    state: State
    pending_tools: list[Any]
    pending_approvals: list[Any]
    queues: dict[str, Any]
    last_event_index: int


class HistoryMessage(_Body):
    role: Literal["user", "assistant", "system", "tool_result"]
    content: str
    tool_calls: list[Any]


class Messages(_Body):
    messages: list[HistoryMessage]
    next: str | None = None


class ToolAttached(_Body):
    name: str
    status: Literal["attached"]


class ToolDetached(_Body):
    name: str
    status: Literal["detached"]


class MeterReading(_Body):
    prompts: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    total_tokens: int
    cost_usd: float


class UsageAnswer(_Body):
    """What the calling key has used, and all keys of its tenant together."""

    class OfKey(MeterReading):
        key_id: str

    class OfTenant(MeterReading):
        tenant_id: str

    key: OfKey
    tenant: OfTenant


class Refusal(_Body):
    """Every error: a code to act on and a sentence to read."""

    error: str
    message: str
    retry_after: Annotated[int, Field(description="whole seconds")] | None = None
    reason: str | None = None
    scope: str | None = None
    limit: int | None = None
