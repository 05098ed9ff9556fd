"""What the session service needs from above: meter, budgets, guardrails, tool caller, tracer.

The gateway implements these; whoever embeds the service without a gateway leaves them out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextvars import Context
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, Protocol

from frontdesk.agents.events import Event
from frontdesk.agents.records import NO_USAGE, CallbackTool, TokenUsage
from frontdesk.records import ExitReason
from frontdesk.sessions.event_log import LoggedEvent

SHOWN_CHARACTERS = 4096
"""How much of what went out before guardrails are shown with each piece of a message."""

MAX_TEXTS = 4000
"""Different texts of one value that guardrails look at before anything else is done."""

TEXTS_IN_A_PIECE = 200


class Pending(Enum):
    """What guardrails answer where it depends on what comes next."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING


@dataclass(frozen=True, slots=True)
class MessageSoFar:
    """What guardrails are shown of a message, or a thought, on its way out."""

    text: str
    """The end of what went out, and behind it what is to go out now."""
    characters: int
    """Of the whole message so far, this text included."""
    complete: bool
    """Whether this is its end."""

    @property
    def begins(self) -> bool:
        """Say whether the text is the message from its beginning on."""
        return len(self.text) == self.characters


class Meter(Protocol):
    """Counts what keys and tenants use."""

    def record(
        self,
        *,
        tenant_id: str,
        api_key: str | None,
        model: str = "",
        prompts: int = 0,
        tokens: TokenUsage = NO_USAGE,
        unknown_turns: int = 0,
    ) -> None:
        """Add to the meters of a key and its tenant. Never waits, never raises.

        `model` is the one that was asked for; `unknown_turns` did not say what they used.
        """
        ...


class Budgets(Protocol):
    """Says whether a key may still ask for something."""

    def check(self, tenant_id: str, api_key: str | None) -> None:
        """Raise `BudgetExceeded` where what it counts for is used up. Never waits."""
        ...


class Guardrails(Protocol):
    """Filters of what goes into and comes out of agents."""

    def refuse_input(self, tenant_id: str, text: str) -> str | None:
        """Return why a prompt is refused, None where it is not."""
        ...

    def refuse_tool_result(self, tenant_id: str, text: str) -> str | None:
        """Return why a text in a callback tool's result is refused, None where it is not."""
        ...

    def refuse_output(
        self, tenant_id: str, message: MessageSoFar
    ) -> str | Literal[Pending.PENDING] | None:
        """Return why the next piece of a message is refused, None where it may go out.

        Asked before each piece goes out, with the end of the message so far (the last 4,096
        characters and the piece), and once more at its end. What is `PENDING` waits for more of
        the message, up to 4,096 characters, or for its end.
        """
        ...

    def refuse_message(self, tenant_id: str, text: str) -> str | None:
        """Return why a text is refused as a whole: a complete message, a question, a hint."""
        ...


class ToolCaller(Protocol):
    """Runs callback tools."""

    async def call(
        self,
        tool: CallbackTool,
        *,
        call_id: str,
        args: Any,
        session_id: str,
        tenant_id: str,
        api_key: str | None,
    ) -> Any:
        """Call the tool and return its result; `ToolFailed` when it fails."""
        ...


class SessionObserver(Protocol):
    """Sees what sessions do: for metrics, logs, traces, lists that follow.

    Called on the event loop, in the midst of what it sees: it never waits, never raises, and
    changes nothing. What it is shown is the `Conversation`; whoever sees `SessionEnd` finds the
    reason in its `ending_reason`. One that was dormant is started again, and its `phase` is
    `restarting` then.
    """

    def on_started(self, conversation: Any) -> None:
        """See a session that lives from now on: its first agent is registered."""
        ...

    def on_event(self, conversation: Any, event: Event, logged: LoggedEvent) -> None:
        """See an event, right after it went into the log."""
        ...

    def on_changed(self, conversation: Any) -> None:
        """See what no event tells: a prompt waits, the session restarts, or begins to end."""
        ...

    def on_published(self, conversation: Any) -> None:
        """See that what clients may see of it has changed, as more of it is stored now."""
        ...

    def on_dormant(self, conversation: Any, reason: ExitReason) -> None:
        """See that its agent has ended for this reason and none follows now: it is stored."""
        ...

    def on_loaded(self, conversation: Any) -> None:
        """See a dormant session that was read from the storage, and is held from now on."""
        ...

    def on_unloaded(self, conversation: Any) -> None:
        """See that a dormant session is held no longer. Another `Conversation` may follow it."""
        ...

    def on_recovered(self, *, conversations: int, turns: int) -> None:
        """See what another process had left was brought to rest: so many turns were cut off."""
        ...


class TurnTrace(Protocol):
    """The trace of a turn, as what runs it needs it."""

    @property
    def context(self) -> Context:
        """In which its agent runs, so that what that does belongs to the trace."""
        ...

    @property
    def traceparent(self) -> str | None:
        """What its agent's process is told of the trace, as W3C Trace Context writes it."""
        ...

    @property
    def trace_id(self) -> str | None:
        """What the log calls it."""
        ...


class TurnTracer(Protocol):
    """Makes traces of turns. Sees their ends as a `SessionObserver`. Never waits, never raises."""

    def origin(self) -> object | None:
        """Return what a prompt that is accepted now keeps of where it came from."""
        ...

    def begin_turn(
        self, conversation: Any, *, origin: object | None, queued_s: float
    ) -> TurnTrace | None:
        """Begin the trace of the turn whose prompt is about to be received; None for none."""
        ...


class NoMeter:
    """Count nothing."""

    __slots__ = ()

    def record(self, **_: Any) -> None:
        """Forget it."""


def refusal_of(refuse: Callable[[str, str], str | None], tenant_id: str, value: Any) -> str | None:
    """Return why a value may not reach an agent, None where it may.

    `refuse` is asked about every text in it, the names of dicts included.
    """
    texts = texts_in(value)
    if len(texts) > MAX_TEXTS:
        return f"it has more than {MAX_TEXTS} different texts"
    return next(filter(None, (refuse(tenant_id, each) for each in texts)), None)


async def refusal_in_pieces(
    refuse: Callable[[str, str], str | None], tenant_id: str, value: Any
) -> str | None:
    """Do the same for a value of any size; between pieces of it the loop is the others'."""
    for number, text in enumerate(texts_in(value), start=1):
        if (why := refuse(tenant_id, text)) is not None:
            return why
        if number % TEXTS_IN_A_PIECE == 0:
            await asyncio.sleep(0)
    return None


def texts_in(value: Any) -> Collection[str]:
    """Return every text in a value once, the names of dicts included."""
    found: dict[str, None] = {}
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            found[each] = None
        elif isinstance(each, dict):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple):
            waiting += each
    return found.keys()
