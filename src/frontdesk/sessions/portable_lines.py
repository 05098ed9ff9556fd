"""A conversation as JSON lines: one record for each kind of line, alike for writing and reading.

First the conversation itself, then messages, turns, checkpoints and events, each oldest first, then
the end, which counts them: a file without it was cut off. Only what has come to an end is in it.

Options that may hold secrets (the system prompt, the provider's options, callback tools) and paths
are left out: whoever imports may write `systemPrompt`, `providerOpts` and `userData` into the first
line. What agents left for each other is left out as well: an agent may take it for more than data.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from frontdesk.agents.events import TurnTokens
from frontdesk.agents.records import MAX_COST_USD, Message
from frontdesk.records import ExitReason

VERSION: int = 1
"""Of the lines below. What a newer gateway has exported is refused."""

MAX_NUMBER = 2**53

Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class PortablePart(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """The root of lines and of what is in them: by the names of all our JSON."""


class PortableTokens(PortablePart, frozen=True, kw_only=True):
    """What model calls used."""

    prompt: Number = 0
    completion: Number = 0
    cached: Number = 0
    cost_usd: Annotated[float, msgspec.Meta(ge=0, le=MAX_COST_USD)] = 0.0


class PortableCounters(PortablePart, frozen=True, kw_only=True):
    """What a session, or a turn, has used."""

    turns: Number = 0
    prompts: Number = 0
    tool_calls: Number = 0
    tokens: PortableTokens = PortableTokens()
    unknown_usage: Number = 0


class PortableTurnEnd(PortablePart, frozen=True, kw_only=True):
    """How a turn ended, as `TurnEnd` has it."""

    request_id: Name
    text: str
    tokens: TurnTokens | None
    last_index: Number
    aborted: str | None = None
    error: str | None = None
    last_position: Number = 0


class PortableLine(PortablePart, frozen=True, kw_only=True, tag_field="line"):
    """The root of all lines."""


class PortableConversation(PortableLine, frozen=True, kw_only=True, tag="conversation"):
    """What the conversation is. `ended` is how its session ended, null where it can go on."""

    version: int
    session_id: str
    blueprint: Name
    model: Name
    label: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    created_at: Number
    forked_from: str | None = None
    ended: ExitReason | None = None
    totals: PortableCounters
    tools: tuple[Name, ...] = ()
    plugins: tuple[Name, ...] = ()
    max_turns: int | None = None
    max_tokens: int | None = None
    prompt_mode: Name | None = None
    system_prompt: str | None = None
    provider_opts: dict[str, Any] = {}
    user_data: Any = None


class PortableMessage(PortableLine, frozen=True, kw_only=True, tag="message"):
    """A message of the history, and its number."""

    position: Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
    message: Message


class PortableTurn(PortableLine, frozen=True, kw_only=True, tag="turn"):
    """A turn that has ended, without what came with its prompt."""

    request_id: Name
    state: Literal["completed", "failed", "cancelled"]
    text: str
    first_index: Number
    last_index: Number
    queued_at: Number
    begun_at: Number | None
    ended_at: Number
    end: PortableTurnEnd
    usage: PortableCounters


class PortableCheckpoint(PortableLine, frozen=True, kw_only=True, tag="checkpoint"):
    """A name for the end of a turn."""

    name: Name
    request_id: Name
    position: Number
    at: Number


class PortableEvent(PortableLine, frozen=True, kw_only=True, tag="event"):
    """An event: its index, its type, and what a stream has as its data."""

    index: Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
    type: Name
    data: msgspec.Raw


class PortableEnd(PortableLine, frozen=True, kw_only=True, tag="end"):
    """The last line: how many there were before it."""

    messages: Number
    turns: Number
    checkpoints: Number
    events: Number


AnyLine = (
    PortableConversation
    | PortableMessage
    | PortableTurn
    | PortableCheckpoint
    | PortableEvent
    | PortableEnd
)
"""Every line, told apart by `line`."""

IN_ORDER: tuple[type[PortableLine], ...] = (
    PortableConversation,
    PortableMessage,
    PortableTurn,
    PortableCheckpoint,
    PortableEvent,
    PortableEnd,
)
"""The lines in the order in which they come."""
