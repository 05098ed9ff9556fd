"""A turn: one prompt, and everything that an agent can do about it.

`Turn` is what agents are written against; `TurnPort` is the seam behind it: in the gateway the
conversation answers it, in an agent's process messages do, and both are alike to an agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from frontdesk.agents.attachments import Attachment
from frontdesk.agents.events import Event
from frontdesk.agents.records import (
    Approval,
    ApprovalDetails,
    Memory,
    Message,
    SessionContext,
    Suspended,
    TokenUsage,
    ToolSpec,
    TurnContext,
)


class EndSession(Exception):
    """End the session, not only the turn: the turn ends well, the session with reason `normal`."""


class TurnListener(Protocol):
    """Who is notified of changes while a turn runs (an agent's process keeps copies)."""

    def steered(self) -> None:
        """A steering text came: see `TurnPort.waiting_steering`."""
        ...

    def model_switched(self, model: str) -> None:
        """The next model call is for this model."""
        ...

    def tools_changed(self) -> None:
        """A callback tool came or went: see `TurnPort.tools`."""
        ...


class TurnPort(Protocol):
    """What stands behind a `Turn`. All of it belongs to one event loop.

    Every method raises `TurnOver` once the turn has ended, whoever ended it.
    """

    @property
    def context(self) -> TurnContext:
        """Return what the turn began with."""
        ...

    @property
    def model(self) -> str:
        """Return the model to call next."""
        ...

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """Return the callback tools that are attached now."""
        ...

    def emit(self, event: Event) -> None:
        """Emit one of `AGENT_EVENTS`."""
        ...

    def usage(self, used: TokenUsage) -> None:
        """Add to the meters of the turn, the session, the key and the tenant."""
        ...

    def usage_unknown(self) -> None:
        """Say that the agent does not tell what this turn used: that is not nothing."""
        ...

    def steering(self, limit: int | None = None) -> list[str]:
        """Take up to `limit` of the steering texts that wait, oldest first; all by default."""
        ...

    def waiting_steering(self) -> list[str]:
        """Return the steering texts that wait, without taking them."""
        ...

    def listen(self, listener: TurnListener | None) -> None:
        """Notify this listener, and no other, of what changes from now on."""
        ...

    def remember(self, memory: Memory) -> None:
        """Keep this with the turn's end; soon, where it has ended. Never raises `TurnOver`.

        `InvalidArgument` for more than 16 MiB a turn. Where conversations are not kept, it is not
        either.
        """
        ...

    def suspend(self, memory: Memory) -> None:
        """Let the turn go on from this in another agent, while what is asked by reference waits.

        It is kept before such a request is seen. The last one counts. Once all such requests are
        answered it counts no longer: the turn goes on here, and is cut off like any other.
        """
        ...

    async def approval(
        self,
        tool: str,
        args: Any = None,
        *,
        hint: str | None = None,
        details: ApprovalDetails | None = None,
        reference: str | None = None,
    ) -> Approval:
        """Wait until somebody approves or rejects, or until it is too late.

        With a `reference` that the agent made (`new_reference`), it outlives the agent: see
        `suspend`. `InvalidArgument` for one that is none, or waits already.
        """
        ...

    async def ask(self, question: str, *, reference: str | None = None) -> Any:
        """Wait for the user's answer; `QuestionExpired` when there is none in time.

        `reference` as in `approval`.
        """
        ...

    async def call_tool(self, name: str, args: Any = None, *, call_id: str | None = None) -> Any:
        """Run a callback tool, with its events; `ToolFailed` when it fails."""
        ...


class MemoryValue(Protocol):
    """What an agent has in `turn.memory`."""

    value: Any


class Turn:
    """One prompt and what an agent may do about it.

    An abort cancels the turn: clean up in `finally`, like any coroutine. What you raise ends the
    turn with `error` and `agent_abort`; raise `EndSession` to end the session.

    Examples:
        >>> from frontdesk.agents import Turn, blueprint
        >>> @blueprint("parrot")
        ... async def parrot(turn: Turn):
        ...     for word in turn.text.split():
        ...         yield word + " "
    """

    __slots__ = ("_memory", "_port")

    def __init__(self, port: TurnPort, memory: MemoryValue) -> None:
        self._port, self._memory = port, memory

    @property
    def text(self) -> str:
        """Return the prompt."""
        return self._port.context.text

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """Return the files that came with the prompt, of the types that the blueprint takes."""
        return self._port.context.attachments

    @property
    def request_id(self) -> str:
        """Return the id that the prompt was accepted under; events of the turn carry it."""
        return self._port.context.request_id

    @property
    def session(self) -> SessionContext:
        """Return the session's id, tenant, options and user data."""
        return self._port.context.session

    @property
    def fence(self) -> int:
        """Return a number that grows with each agent of this session, on whichever node it is.

        Pass it along with what you write elsewhere, and have it refused there where a higher one
        was seen: of two agents that are cut off from each other, one is the session's.
        """
        return self._port.context.fence

    @property
    def traceparent(self) -> str | None:
        """Return the trace that the turn is part of, for whatever the agent calls; often None.

        As W3C Trace Context writes it. Where OpenTelemetry is in use in the agent's process, it is
        the current context already.
        """
        return self._port.context.traceparent

    @property
    def history(self) -> tuple[Message, ...]:
        """Return the messages before this turn, oldest first. The history kept is bounded."""
        return self._port.context.history

    @property
    def memory(self) -> Any:
        """Hold what the agent wants to find in the next turn: a JSON value, None at first.

        Assign it, or change what it returns. Where conversations are kept it outlives the agent
        and the gateway: it is kept with the turn's end, however that ends, or not at all. From one
        turn to the next it is what JSON makes of it, so that a tuple becomes a list.
        `InvalidArgument` for what is no JSON and for more than 1 MiB: at once where it is assigned,
        else at the turn's end, which then is an error.

        Examples:
            >>> from frontdesk.agents import Turn, blueprint
            >>> @blueprint("counter")
            ... async def counter(turn: Turn):
            ...     turn.memory = (turn.memory or 0) + 1
            ...     yield f"This is prompt {turn.memory}."
        """
        return self._memory.value

    @memory.setter
    def memory(self, value: Any) -> None:
        self._memory.value = value

    @property
    def model(self) -> str:
        """Return the model to call next: a switch takes effect between two calls."""
        return self._port.model

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """Return the callback tools of this session, as they are now."""
        return self._port.tools

    def emit(self, event: Event) -> None:
        """Emit an event. Text deltas open their message by themselves.

        Never waits. An agent that emits without ever awaiting blocks its loop, as any coroutine
        would. Raises `TurnOver` when the turn has ended, `InvalidArgument` for an event that is
        not the agent's to emit, or too large.
        """
        self._port.emit(event)

    def usage(
        self, *, prompt: int = 0, completion: int = 0, cached: int = 0, cost: float = 0.0
    ) -> None:
        """Add what a model call used: tokens, of which `cached` were read from a cache, and USD.

        Raises `InvalidArgument` for what cannot have been used, see `TokenUsage`.
        """
        self._port.usage(TokenUsage(prompt, completion, cached, cost))

    def usage_unknown(self) -> None:
        """Say that what this turn used is not known: that is not nothing."""
        self._port.usage_unknown()

    def steering(self) -> list[str]:
        """Take the texts that came since the last look, oldest first."""
        return self._port.steering()

    @property
    def suspended(self) -> Suspended | None:
        """Return where the turn goes on, where another agent began it; None for a new one.

        Only programs that say so (`suspends`) get such turns.
        """
        return self._port.context.suspended

    def remember(self, memory: Memory) -> None:
        """Leave something for the next agent of the session: kept with the turn's end.

        For programs with a form of their own, which they read again in `reopen`. Nothing is kept
        where conversations are not. `InvalidArgument` for more than 16 MiB a turn.
        """
        self._port.remember(memory)

    def suspend(self, memory: Memory) -> None:
        """Let the turn go on from this in another agent, while what is asked by reference waits.

        It is kept before any such request is seen, until all of them are answered.
        """
        self._port.suspend(memory)

    async def approval(
        self,
        tool: str,
        args: Any = None,
        *,
        hint: str | None = None,
        reference: str | None = None,
    ) -> Approval:
        """Ask whether a tool may run; true where it may.

        Waits until a client approves or rejects, at most 120 s by default: then the answer is false
        with status `expired` (`cancelled`, where the turn ends first). `reason` is the client's.
        The turn goes on either way. `reference` is for programs that suspend: see `suspend`.
        """
        return await self._port.approval(tool, args, hint=hint, reference=reference)

    async def ask(self, question: str, *, reference: str | None = None) -> Any:
        """Ask the user, and return the response. `QuestionExpired` after 300 s by default.

        `reference` is for programs that suspend: see `suspend`.
        """
        return await self._port.ask(question, reference=reference)

    async def call_tool(self, name: str, args: Any = None) -> Any:
        """Run a callback tool of this session, with its events, and return its result.

        Raises `ToolFailed` when it fails, `UnknownTool` where the session has none of that name.
        """
        return await self._port.call_tool(name, args)

    def __repr__(self) -> str:
        return f"<Turn {self.request_id} of session {self.session.session_id!r}>"
