"""What a gateway and an agent's process say to each other, and how it is framed.

A frame is a length of four bytes, big-endian, and a message in MessagePack; records and events
travel as they are. Messages carry the number of their turn: what belongs to another is discarded.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from frontdesk import errors
from frontdesk.agents import errors as agent_errors
from frontdesk.agents.errors import MessageInvalid
from frontdesk.agents.events import (
    Event,
    MessageDelta,
    ThinkingDelta,
    encode,
    event_class,
)
from frontdesk.agents.records import (
    ApprovalDetails,
    Memory,
    MemoryOutcome,
    Restored,
    SessionContext,
    TokenUsage,
    ToolSpec,
    TurnContext,
)
from frontdesk.agents.values import MAX_VALUES, encodable, json_value, values_in
from frontdesk.errors import FrontdeskError

MAX_TO_WORKER_BYTES = 32 * 1024 * 1024
"""Bytes of one message to the process: a turn brings the history that is kept."""

MAX_FROM_WORKER_BYTES = 4 * 1024 * 1024
"""Bytes of one message from the process."""

_PREFIX = 4


class ProgramSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where an agent's process finds its program: `target` is `module:name`.

    The name is a `Blueprint`, a `Program`, an agent function, or, with `options`, something that
    returns one of these when it is called with them. `warm_up_model` names a model with which a
    turn is run before the first session, so that what a program puts off until its first turn is
    done once for all; the program must not mind a turn that nobody asked for.
    """

    target: str
    options: dict[str, Any] | None = None
    warm_up_model: str | None = None

    @property
    def module(self) -> str:
        """Return the module to import."""
        return self.target.partition(":")[0]


class RemoteError(msgspec.Struct, frozen=True, kw_only=True):
    """An exception on its way: its type by name, its text, and the attributes of one of ours."""

    kind: str
    text: str
    attributes: dict[str, Any] | None = None
    trace: str = ""


# -- down: from the gateway to the process -----------------------------------------------------


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """Open the program for a session, one that is not new where something is restored.

    Answered by `Opened` or `OpenFailed`.
    """

    context: SessionContext
    restored: Restored | None = None


class RunTurn(msgspec.Struct, frozen=True, tag="run"):
    """Run a turn; `steering` are the texts that wait already. Answered by `Finished`."""

    turn: int
    context: TurnContext
    steering: tuple[str, ...]


class AbortTurn(msgspec.Struct, frozen=True, tag="abort"):
    """Cancel the turn. `Finished` comes all the same, after its clean-up."""

    turn: int


class Steered(msgspec.Struct, frozen=True, tag="steered"):
    """More steering texts wait."""

    turn: int
    texts: tuple[str, ...]


class ModelChanged(msgspec.Struct, frozen=True, tag="model"):
    """The next model call is for this model."""

    turn: int
    model: str


class ToolsChanged(msgspec.Struct, frozen=True, tag="tools"):
    """These are the callback tools now."""

    turn: int
    tools: tuple[ToolSpec, ...]


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """What a call of the turn came to: a value, or an error."""

    turn: int
    call: int
    value: Any = None
    error: RemoteError | None = None


class Close(msgspec.Struct, frozen=True, tag="close"):
    """The session is over: clean up and exit."""


ToWorker = Begin | RunTurn | AbortTurn | Steered | ModelChanged | ToolsChanged | Answered | Close

# -- up: from the process to the gateway -------------------------------------------------------


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The program is open for the session, and this is known of what was restored.

    `suspends` is the kind of `Memory` that its turns can go on from, if they can.
    """

    memory: MemoryOutcome | None = None
    suspends: str | None = None


class OpenFailed(msgspec.Struct, frozen=True, tag="open_failed"):
    """The program refused the session, or could not be found."""

    error: RemoteError


class Emitted(msgspec.Struct, frozen=True, tag="emitted"):
    """The turn emitted an event; `fields` is its JSON object."""

    turn: int
    event: str
    fields: bytes


class Used(msgspec.Struct, frozen=True, tag="used"):
    """A model call of the turn used this much; None where nobody tells."""

    turn: int
    usage: TokenUsage | None


class SteeringTaken(msgspec.Struct, frozen=True, tag="taken"):
    """The turn took the first texts that wait."""

    turn: int
    count: int


class MemoryGiven(msgspec.Struct, frozen=True, tag="memory"):
    """What the next agent of the session is to have."""

    turn: int
    memory: Memory


class SuspensionGiven(msgspec.Struct, frozen=True, tag="suspension"):
    """What the turn could go on from in another agent."""

    turn: int
    memory: Memory


class ApprovalAsked(msgspec.Struct, frozen=True, tag="approval"):
    """A call: may this tool run?"""

    turn: int
    call: int
    tool: str
    args: Any
    hint: str | None
    details: ApprovalDetails | None = None
    reference: str | None = None


class QuestionAsked(msgspec.Struct, frozen=True, tag="question"):
    """A call: what does the user answer?"""

    turn: int
    call: int
    question: str
    reference: str | None = None


class ToolCalled(msgspec.Struct, frozen=True, tag="tool"):
    """A call: run this callback tool."""

    turn: int
    call: int
    name: str
    args: Any
    call_id: str | None


class CallDropped(msgspec.Struct, frozen=True, tag="dropped"):
    """Nobody waits for the answer of this call any more."""

    turn: int
    call: int


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The turn is done; with `error` where it raised."""

    turn: int
    error: RemoteError | None = None


Call = ApprovalAsked | QuestionAsked | ToolCalled
Given = MemoryGiven | SuspensionGiven
FromWorker = (
    Opened | OpenFailed | Emitted | Used | SteeringTaken | Given | Call | CallDropped | Finished
)

# -- framing -----------------------------------------------------------------------------------


def pack(message: ToWorker | FromWorker, *, largest: int) -> bytes:
    """Return the frame of a message; `MessageInvalid` if it is too large or holds no plain data."""
    try:
        payload = _encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MessageInvalid(f"a {type(message).__name__} cannot be sent: {error}") from error
    if len(payload) > largest:
        name = type(message).__name__
        raise MessageInvalid(f"a {name} of {len(payload)} bytes cannot be sent: {largest} at most")
    return len(payload).to_bytes(_PREFIX, "big") + payload


def _encode(message: ToWorker | FromWorker) -> bytes:
    try:
        return msgspec.msgpack.encode(message)
    except (UnicodeEncodeError, OverflowError):
        return msgspec.msgpack.encode(json_value(message))


class Frames:
    """Cut what comes in, in pieces of any size, into messages."""

    __slots__ = ("_buffer", "_largest")

    def __init__(self, *, largest: int) -> None:
        self._buffer = bytearray()
        self._largest = largest

    def feed(self, piece: bytes) -> list[bytes]:
        """Take in a piece, and return the messages that are whole now; `MessageInvalid`."""
        buffer = self._buffer
        buffer += piece
        whole, start = [], 0
        while len(buffer) - start >= _PREFIX:
            length = int.from_bytes(buffer[start : start + _PREFIX], "big")
            if length > self._largest:
                raise MessageInvalid(f"a message of {length} bytes came, {self._largest} at most")
            end = start + _PREFIX + length
            if len(buffer) < end:
                break
            whole.append(bytes(buffer[start + _PREFIX : end]))
            start = end
        del buffer[:start]
        return whole


# -- events and errors -------------------------------------------------------------------------


def emitted(turn: int, event: Event) -> Emitted:
    """Return an event on its way."""
    if isinstance(event, MessageDelta | ThinkingDelta) and not event.delta.isascii():
        # Half a character may be at its end, which only the gateway can join with the next.
        return Emitted(turn, event.name, json.dumps({"delta": event.delta}).encode())
    return Emitted(turn, event.name, encode(event))


def event_of(message: Emitted) -> Event:
    """Return the event that a message carries; `MessageInvalid` where it carries none."""
    # Its values are a `json_value` there already, beside a few fields.
    limit = 2 * MAX_VALUES
    if values_in(message.fields, enough=limit) > limit:
        raise MessageInvalid(f"{message.event[:40]!r} with more than {MAX_VALUES} values")
    try:
        kind = event_class(message.event)
        try:
            return msgspec.json.decode(message.fields, type=kind)
        except msgspec.DecodeError:
            # Half a surrogate pair is sayable in JSON as an escape, which msgspec does not take.
            return msgspec.convert(json.loads(message.fields), type=kind)
    except (KeyError, ValueError) as error:
        raise MessageInvalid(f"no event of ours: {message.event[:40]!r}") from error


_TEXT_LIMIT = 2000


def remote(error: BaseException, *, trace: str = "") -> RemoteError:
    """Return an exception on its way. One of our own errors keeps its attributes."""
    attributes = None
    if isinstance(error, FrontdeskError):
        attributes = {"args": json_value(list(error.args)), "state": json_value(error.__dict__)}
    text = encodable(_text_of(error))[:_TEXT_LIMIT]
    return RemoteError(
        kind=type(error).__name__, text=text, attributes=attributes, trace=encodable(trace)
    )


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception whose own __str__ raises has still happened
        return ""


class AgentRaised(Exception):
    """What an agent's process raised. Its type has the name of the original's; its text too."""


def local(error: RemoteError) -> Exception:
    """Return an exception that has arrived, as one of its own type as far as there is one here.

    An error of ours is rebuilt with its facts; what the agent raised is an `AgentRaised` of a type
    of the same name. Where the process sent its traceback, that is a note.
    """
    arrived: Exception | None = _ours(error)
    if arrived is None:
        name = error.kind[:100] if error.kind.isidentifier() else AgentRaised.__name__
        arrived = type(name, (AgentRaised,), {})(error.text)
    if error.trace:
        arrived.add_note(f"In the agent's process:\n{error.trace}")
    return arrived


def _ours(error: RemoteError) -> FrontdeskError | None:
    kind = getattr(agent_errors, error.kind, None) or getattr(errors, error.kind, None)
    if error.attributes is None or not (
        isinstance(kind, type) and issubclass(kind, FrontdeskError)
    ):
        return None
    rebuilt = kind.__new__(kind)
    rebuilt.args = tuple(error.attributes.get("args", ()))
    rebuilt.__dict__.update(error.attributes.get("state", {}))
    return rebuilt
