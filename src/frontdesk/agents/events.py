"""What a session says: one frozen struct per event type, and the frame that carries it.

Every door (SSE, WebSocket, and those to come) sends these and adds none of its own; agents emit the
few of `AGENT_EVENTS`, the conversation emits the rest. The fields are snake_case here and camelCase
in JSON.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal, get_args

import msgspec

from frontdesk.agents.records import ApprovalStatus
from frontdesk.errors import InvalidArgument

ToolStatus = Literal["ok", "error", "rejected", "expired", "cancelled"]
"""How a tool's call ended: it ran, it failed, its approval was refused or came too late, or it was
broken off."""


class Event(msgspec.Struct, frozen=True, rename="camel"):
    """The root of all events. `name` is the event's type on the wire."""

    name: ClassVar[str]


class PromptReceived(Event, frozen=True, rename="camel"):
    """A turn begins with this prompt. It is emitted when the turn begins, not when it is queued."""

    name: ClassVar[str] = "prompt_received"
    text: str


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
    """A tool waits for `approve` or `reject`. `requested_at` is wall clock, milliseconds."""

    name: ClassVar[str] = "approval_required"
    approval_id: str
    tool_name: str
    args: Any
    hint: str | None
    requested_at: int


class ApprovalResolved(Event, frozen=True, rename="camel"):
    """An approval was answered."""

    name: ClassVar[str] = "approval_resolved"
    approval_id: str
    status: ApprovalStatus


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
    """The turn ended well."""

    name: ClassVar[str] = "agent_end"
    last_message: LastMessage
    token_usage: TurnTokens


class ModelSwitched(Event, frozen=True, rename="camel"):
    """From the next model call on, another model answers."""

    name: ClassVar[str] = "model_switched"
    from_model: str | None = msgspec.field(name="from")
    to_model: str | None = msgspec.field(name="to")


class Steering(Event, frozen=True, rename="camel"):
    """A text for the turn under way was accepted; the agent takes it at its next step."""

    name: ClassVar[str] = "steering"
    text: str


class ToolAttached(Event, frozen=True, rename="camel"):
    """A callback tool was attached to the session."""

    name: ClassVar[str] = "tool_attached"
    tool_name: str = msgspec.field(name="name")


class ToolDetached(Event, frozen=True, rename="camel"):
    """A callback tool was taken from the session."""

    name: ClassVar[str] = "tool_detached"
    tool_name: str = msgspec.field(name="name")


class AgentRestarted(Event, frozen=True, rename="camel"):
    """A new agent took over the conversation; `count` says how often that has happened."""

    name: ClassVar[str] = "agent_restarted"
    reason: str
    count: int


class SessionEnd(Event, frozen=True, rename="camel"):
    """The last event of a session: its agent has ended."""

    name: ClassVar[str] = "session_end"
    reason: str


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
    Steering,
    ToolAttached,
    ToolDetached,
    AgentRestarted,
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


class Frame:
    """One numbered event, encoded once and shared by every stream that sends it.

    `data` is a JSON object, with the `requestId` of its turn where it belongs to one; `sse` is the
    whole server-sent event; `text` is how it reads on a WebSocket.
    """

    __slots__ = ("_data_from", "fence", "index", "name", "request_id", "sse")

    def __init__(
        self, event: Event, *, fence: int, index: int, request_id: str | None = None
    ) -> None:
        self.fence, self.index = fence, index
        self.name: str = event.name
        self.request_id = request_id
        head = f"id: {fence}-{index}\nevent: {self.name}\ndata: ".encode()
        self._data_from = len(head)
        self.sse: bytes = b"%b%b\n\n" % (head, encode(event, request_id=request_id))

    @property
    def data(self) -> bytes:
        """Return the JSON object alone."""
        return self.sse[self._data_from : -2]

    @property
    def id(self) -> str:
        """Return what `Last-Event-ID` resumes after."""
        return f"{self.fence}-{self.index}"

    @property
    def text(self) -> bytes:
        """Return the message of a WebSocket: `{"event", "data", "index"}`."""
        return b'{"event":"%b","data":%b,"index":%d}' % (
            self.name.encode(),
            self.data,
            self.index,
        )

    def __repr__(self) -> str:
        return f"<Frame {self.id} {self.name}>"


def encode(event: Event, *, request_id: str | None = None) -> bytes:
    """Return the event's JSON object, led by the `requestId` of its turn.

    Whatever an agent put into `args` or `result`: what JSON cannot say is shown by its type.
    """
    plain = _json(event)
    if request_id is None:
        return plain
    lead = b'{"requestId":"%b"' % request_id.encode()
    return lead + b"}" if plain == b"{}" else lead + b"," + plain[1:]


def plain(value: Any) -> Any:
    """Return a copy of the value made of what JSON has: dicts, lists, text, numbers, None.

    What JSON cannot say is shown by its type.
    """
    try:
        return msgspec.json.decode(_ENCODER.encode(value))
    except UnicodeEncodeError:
        return json.loads(json.dumps(msgspec.to_builtins(value, enc_hook=_shown, str_keys=True)))
    except (TypeError, ValueError, RecursionError):
        return _shown(value)


def encodable(text: str) -> str:
    """Return text that UTF-8 can carry: half a surrogate pair becomes a replacement character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _json(event: Event) -> bytes:
    try:
        return _ENCODER.encode(event)
    except UnicodeEncodeError:
        # Half a surrogate pair is no UTF-8, but is sayable in JSON as an escape.
        return json.dumps(msgspec.to_builtins(event, enc_hook=_shown, str_keys=True)).encode()
    except (TypeError, ValueError, RecursionError):
        return _ENCODER.encode(_with_plain_fields(event))


def _with_plain_fields(event: Event) -> Event:
    """Replace the fields that hold anything an agent liked by what JSON can say of them."""
    replaced = {
        name: plain(getattr(event, name)) for name in ("args", "result") if hasattr(event, name)
    }
    return msgspec.structs.replace(event, **replaced)


def _shown(value: object) -> str:
    return f"<{type(value).__name__}>"


_ENCODER = msgspec.json.Encoder(enc_hook=_shown)
