"""What a session says: one frozen struct per event type.

Every protocol (SSE, WebSocket, and those to come) sends these and adds none of its own; agents emit
the few of `AGENT_EVENTS`, the conversation emits the rest. The fields are snake_case here and
camelCase in JSON.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeVar, get_args

import msgspec

from frontdesk.agents.attachments import AttachedFile
from frontdesk.agents.records import (
    ApprovalDetails,
    ApprovalStatus,
    MemoryOutcome,
    ToolStatus,
)
from frontdesk.agents.values import ENCODER, json_value
from frontdesk.errors import InvalidArgument


class Event(msgspec.Struct, frozen=True, rename="camel"):
    """The root of all events. `name` is the event's type on the wire.

    `in_turn` says whether it belongs to a turn, whose `requestId` it then carries.
    """

    name: ClassVar[str]
    in_turn: ClassVar[Literal["always", "sometimes", "never"]] = "always"


E = TypeVar("E", bound=Event)


class PromptReceived(Event, frozen=True, rename="camel"):
    """A turn begins with this prompt. It is emitted when the turn begins, not when it is queued.

    `attachments` says what came with it, and has none of its content.
    """

    name: ClassVar[str] = "prompt_received"
    text: str
    attachments: tuple[AttachedFile, ...] = ()


class AgentStart(Event, frozen=True, rename="camel"):
    """The agent has the turn."""

    name: ClassVar[str] = "agent_start"


class MessageStart(Event, frozen=True, rename="camel"):
    """A message of the agent begins. Emitted by itself before a first `message_delta`."""

    name: ClassVar[str] = "message_start"


class MessageDelta(Event, frozen=True, rename="camel"):
    """More text of the message."""

    name: ClassVar[str] = "message_delta"
    delta: str


class ThinkingStart(Event, frozen=True, rename="camel"):
    """The agent begins to think aloud. Emitted by itself before a first `thinking_delta`."""

    name: ClassVar[str] = "thinking_start"


class ThinkingDelta(Event, frozen=True, rename="camel"):
    """More of the thought."""

    name: ClassVar[str] = "thinking_delta"
    delta: str


class ToolCalls(Event, frozen=True, rename="camel"):
    """The model asked for this many tool calls at once."""

    name: ClassVar[str] = "tool_calls"
    count: int


class ToolExecutionStart(Event, frozen=True, rename="camel"):
    """A tool begins to run."""

    name: ClassVar[str] = "tool_execution_start"
    call_id: str
    tool_name: str
    args: Any = None


class ToolExecutionEnd(Event, frozen=True, rename="camel"):
    """A tool ended. Raises `InvalidArgument` for a `status` that no client knows."""

    name: ClassVar[str] = "tool_execution_end"
    call_id: str
    tool_name: str
    status: ToolStatus
    result: Any = None
    duration_ms: int = 0

    def __post_init__(self) -> None:
        if self.status not in get_args(ToolStatus):
            expected = f"one of {', '.join(get_args(ToolStatus))}"
            raise InvalidArgument("status", expected=expected, got=repr(self.status)[:40])


class ApprovalRequired(Event, frozen=True, rename="camel"):
    """A tool waits for `approve` or `reject`. `requested_at` is wall clock, milliseconds.

    `details` show what it is about to do, where its agent tells: null for most.
    """

    name: ClassVar[str] = "approval_required"
    approval_id: str
    tool_name: str
    args: Any
    hint: str | None
    requested_at: int
    details: ApprovalDetails | None = None


class ApprovalResolved(Event, frozen=True, rename="camel"):
    """An approval was answered; by which option, where the agent offers some and is told one."""

    name: ClassVar[str] = "approval_resolved"
    approval_id: str
    status: ApprovalStatus
    option_id: str | None = None


class AskUser(Event, frozen=True, rename="camel"):
    """The agent waits for `respond` with this reference."""

    name: ClassVar[str] = "ask_user"
    ref: str
    question: str


class Error(Event, frozen=True, rename="camel"):
    """Something went wrong. Clients see the type of an exception, operators its text."""

    name: ClassVar[str] = "error"
    reason: str


class AgentAbort(Event, frozen=True, rename="camel"):
    """The turn ended before the agent was done."""

    name: ClassVar[str] = "agent_abort"
    reason: str


class LastMessage(msgspec.Struct, frozen=True, rename="camel"):
    """The last message of a turn."""

    role: str
    content: str


class TurnTokens(msgspec.Struct, frozen=True, rename="camel"):
    """The tokens that a turn used."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class AgentEnd(Event, frozen=True, rename="camel"):
    """The turn ended well. `token_usage` is null where the agent did not say what it used."""

    name: ClassVar[str] = "agent_end"
    last_message: LastMessage
    token_usage: TurnTokens | None


class ModelSwitched(Event, frozen=True, rename="camel"):
    """From the next model call on, another model answers."""

    name: ClassVar[str] = "model_switched"
    in_turn: ClassVar[Literal["always", "sometimes", "never"]] = "sometimes"
    from_model: str | None = msgspec.field(name="from")
    to_model: str | None = msgspec.field(name="to")


class OptionChanged(Event, frozen=True, rename="camel"):
    """The agent has set one of its options, its mode for instance, of its own accord."""

    name: ClassVar[str] = "option_changed"
    in_turn: ClassVar[Literal["always", "sometimes", "never"]] = "sometimes"
    option_id: str
    value: str | bool


class Steering(Event, frozen=True, rename="camel"):
    """A text for the turn under way was accepted; the agent takes it at its next step."""

    name: ClassVar[str] = "steering"
    in_turn: ClassVar[Literal["always", "sometimes", "never"]] = "sometimes"
    text: str


class ToolAttached(Event, frozen=True, rename="camel"):
    """A callback tool was attached to the session."""

    name: ClassVar[str] = "tool_attached"
    in_turn: ClassVar[Literal["always", "sometimes", "never"]] = "sometimes"
    tool_name: str = msgspec.field(name="name")


class ToolDetached(Event, frozen=True, rename="camel"):
    """A callback tool was taken from the session."""

    name: ClassVar[str] = "tool_detached"
    in_turn: ClassVar[Literal["always", "sometimes", "never"]] = "sometimes"
    tool_name: str = msgspec.field(name="name")


class AgentRestarted(Event, frozen=True, rename="camel"):
    """A new agent took over the conversation; `count` says how often that has happened.

    `memory` is what it knows of the turns before; null where the conversation is not stored.
    """

    name: ClassVar[str] = "agent_restarted"
    in_turn: ClassVar[Literal["always", "sometimes", "never"]] = "never"
    reason: str
    count: int
    memory: MemoryOutcome | None = None


class OutOfTurn(Event, frozen=True, rename="camel"):
    """The agent said or did something of its own accord, while no turn was under way."""

    name: ClassVar[str] = "out_of_turn"
    in_turn: ClassVar[Literal["always", "sometimes", "never"]] = "never"
    kind: Literal["message", "thought", "tool"]
    text: str


class SessionEnd(Event, frozen=True, rename="camel"):
    """The last event of a session: its agent has ended."""

    name: ClassVar[str] = "session_end"
    in_turn: ClassVar[Literal["always", "sometimes", "never"]] = "never"
    reason: str


class Gap(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What a client asked to resume after is not held; `resumes_at` says where the stream goes on.

    A protocol sends it as an `error` event without an id: it is no event of the session.
    """

    reason: Literal["gap"] = "gap"
    requested: str
    resumes_at: str


EVENTS: tuple[type[Event], ...] = (
    PromptReceived,
    AgentStart,
    MessageStart,
    MessageDelta,
    ThinkingStart,
    ThinkingDelta,
    ToolCalls,
    ToolExecutionStart,
    ToolExecutionEnd,
    ApprovalRequired,
    ApprovalResolved,
    AskUser,
    Error,
    AgentAbort,
    AgentEnd,
    ModelSwitched,
    OptionChanged,
    Steering,
    ToolAttached,
    ToolDetached,
    AgentRestarted,
    OutOfTurn,
    SessionEnd,
)
"""Every event there is, in the order of the contract."""

AGENT_EVENTS: tuple[type[Event], ...] = (
    MessageStart,
    MessageDelta,
    ThinkingStart,
    ThinkingDelta,
    ToolCalls,
    ToolExecutionStart,
    ToolExecutionEnd,
    Error,
)
"""What an agent may emit. The rest belongs to the conversation."""


def event_class(name: str) -> type[Event]:
    """Return the class of an event's wire name; `KeyError` where there is none."""
    for event in EVENTS:
        if event.name == name:
            return event
    raise KeyError(name)


def encode(event: Event, *, request_id: str | None = None) -> bytes:
    """Return the event's JSON object, led by the `requestId` of its turn.

    Whatever an agent put into `args` or `result`: what JSON cannot say is shown by its type.
    """
    plain = _json(event)
    if request_id is None:
        return plain
    lead = b'{"requestId":"%b"' % request_id.encode()
    return lead + b"}" if plain == b"{}" else lead + b"," + plain[1:]


def normal(event: Event) -> Event:
    """Return an agent's event as every way out can carry it: its values are a `json_value`.

    Agents in tasks and in processes have their events by this, so that nobody can tell them apart.
    The text of a delta stays as it is: half a character may wait for the rest. Raises
    `InvalidArgument` where a field has not its type.
    """
    kind = type(event)
    if isinstance(event, MessageDelta | ThinkingDelta):
        if type(event.delta) is str:
            return event
        problem = f"a delta of type {type(event.delta).__name__}"
    else:
        try:
            return msgspec.json.decode(_json_with_values(event), type=kind)
        except msgspec.DecodeError as error:
            problem = str(error)
    raise InvalidArgument(kind.name, expected="fields of their types", got=problem)


def shortened(event: E, *, max_bytes: int) -> E:
    """Return the event with its longest text cut, so that its JSON is no longer than that.

    The text says how much was left out. An event that has no text stays as it is.
    """
    holder: msgspec.Struct = event.last_message if isinstance(event, AgentEnd) else event
    texts = {
        name: value
        for name in holder.__struct_fields__
        if isinstance(value := getattr(holder, name), str)
    }
    if not texts:
        return event
    name, text = max(texts.items(), key=lambda each: len(each[1]))
    kept, shorter = len(text), event
    while kept and (size := len(_json(shorter))) > max_bytes:
        # How long a character is in JSON differs: what is kept shrinks until it fits.
        kept = min(kept - 1, kept * max_bytes // size * 9 // 10)
        cut = f"{text[:kept]}… [{len(text) - kept} characters left out]"
        changed = msgspec.structs.replace(holder, **{name: cut})
        if isinstance(event, AgentEnd):
            shorter = msgspec.structs.replace(event, last_message=changed)
        else:
            shorter = changed  # type: ignore[assignment]
    return shorter


def _json(event: Event) -> bytes:
    try:
        return ENCODER.encode(event)
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError):
        return _json_with_values(event)


def _json_with_values(event: Event) -> bytes:
    values = {name: json_value(getattr(event, name)) for name in event.__struct_fields__}
    return ENCODER.encode(msgspec.structs.replace(event, **values))
