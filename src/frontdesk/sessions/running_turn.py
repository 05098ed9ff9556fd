"""The turn under way: what stands behind a `Turn` in the gateway.

Above the transcript and the answers, below the conversation that begins and ends it. An agent acts
through it (`TurnPort`); whoever ends the turn calls `stop`, and `close` when it is over. What its
agent does after that is discarded. It knows nothing of tasks, queues or the registry.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import msgspec

from frontdesk.agents.errors import EventTooLarge, QuestionExpired, TurnOver
from frontdesk.agents.events import (
    AGENT_EVENTS,
    ApprovalRequired,
    ApprovalResolved,
    AskUser,
    Event,
    LastMessage,
    MessageDelta,
    ThinkingDelta,
    ToolExecutionEnd,
    ToolExecutionStart,
    plain,
)
from frontdesk.agents.records import Approval, CallbackTool, ToolSpec, TurnContext
from frontdesk.agents.turn import TurnListener
from frontdesk.agents.usage import Usage
from frontdesk.errors import InvalidArgument, InvalidType
from frontdesk.sessions.callback_tools import run_callback_tool
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.history import History
from frontdesk.sessions.output_guard import OutputGuard
from frontdesk.sessions.pending import PendingRequests
from frontdesk.sessions.transcript import Transcript

_EMITTABLE = frozenset(AGENT_EVENTS)


class TurnHost(Protocol):
    """What a turn needs of its conversation."""

    service: ServiceContext
    session_id: str
    tenant_id: str
    api_key: str | None
    model: str
    usage: Usage
    history: History
    steering_texts: list[str]
    callback_tools: dict[str, CallbackTool]
    approvals: PendingRequests[Approval]
    questions: PendingRequests[Any]

    def append_event(self, event: Event, *, request_id: str | None) -> None:
        """Append an event to the log."""
        ...


@dataclass(frozen=True, slots=True)
class StopReason:
    """Why a turn is ended before its agent is done; `error` explains it where something failed.

    A `silent` stop lets nothing more out; otherwise the agent may tell of its clean-up.
    """

    reason: str
    error: str | None = None
    silent: bool = False


class RunningTurn:
    """One turn, from its prompt to its end. Implements `TurnPort`; all on one event loop."""

    __slots__ = (
        "_guards",
        "_host",
        "_listener",
        "_transcript",
        "closed",
        "deadline_s",
        "done",
        "context",
        "over",
        "running_tools",
        "stopped",
        "usage_of_turn",
    )

    def __init__(self, host: TurnHost, context: TurnContext, *, deadline_s: float) -> None:
        self._host = host
        self.context = context
        self.deadline_s = deadline_s
        loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = loop.create_future()
        """Done when the agent is, or when the turn is to be stopped."""
        self.done: asyncio.Future[None] = loop.create_future()
        """Done when the turn has ended."""
        self.stopped: StopReason | None = None
        self.closed = False
        self.usage_of_turn = Usage()
        self.running_tools: dict[str, ToolExecutionStart] = {}
        self._transcript = Transcript(host.history)
        self._listener: TurnListener | None = None
        self._guards = _guards(host)

    # -- the agent's side: TurnPort --------------------------------------------------------------

    @property
    def model(self) -> str:
        """Return the model to call next."""
        return self._host.model

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """Return the callback tools that are attached now."""
        return specs_of(self._host.callback_tools)

    def emit(self, event: Event) -> None:
        """Emit one of `AGENT_EVENTS`."""
        self._require_open()
        if type(event) not in _EMITTABLE:
            expected = "one of " + ", ".join(each.__name__ for each in AGENT_EVENTS)
            raise InvalidType("event", expected=expected, got=type(event).__name__)
        opening = self._transcript.opening(event)
        if opening is not None:
            self._note(opening)
        self._note(event)

    def usage(
        self, *, prompt: int = 0, completion: int = 0, cached: int = 0, cost_usd: float = 0.0
    ) -> None:
        """Count tokens and cost, even of a turn that is over: they were spent."""
        _check_usage(prompt, completion, cached, cost_usd)
        host = self._host
        for counter in (self.usage_of_turn, host.usage):
            counter.add(prompt=prompt, completion=completion, cached=cached, cost_usd=cost_usd)
        host.service.meter.record(
            tenant_id=host.tenant_id,
            api_key=host.api_key,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=cached,
            cost_usd=cost_usd,
        )

    def steering(self, most: int | None = None) -> list[str]:
        """Take up to `most` of the steering texts that wait, oldest first; all by default."""
        self._require_open()
        waiting = self._host.steering_texts
        taken = waiting[:most]
        del waiting[: len(taken)]
        return taken

    def waiting_steering(self) -> list[str]:
        """Return the steering texts that wait, without taking them."""
        self._require_open()
        return list(self._host.steering_texts)

    def listen(self, listener: TurnListener | None) -> None:
        """Tell this listener, and no other, what changes from now on."""
        self._listener = listener

    async def approval(self, tool: str, args: Any = None, *, hint: str | None = None) -> Approval:
        """Wait until somebody approves or rejects, or until it is too late."""
        self._require_open()
        reference, host = f"apr_{secrets.token_hex(8)}", self._host
        event = ApprovalRequired(reference, tool, plain(args), hint, host.service.clock.wall_ms())
        self._say(event)
        return await host.approvals.wait(
            reference,
            shown=msgspec.to_builtins(event),
            timeout_s=host.service.settings.approval_timeout_s,
            late=Approval("expired"),
            dismissed=Approval("cancelled"),
            on_answer=partial(self._approval_resolved, reference),
        )

    async def ask(self, question: str) -> Any:
        """Wait for the user's answer; `QuestionExpired` when there is none in time."""
        self._require_open()
        reference, host = f"ask_{secrets.token_hex(8)}", self._host
        event = AskUser(reference, question)
        self._say(event)
        timeout_s = host.service.settings.question_timeout_s
        answer = await host.questions.wait(
            reference,
            shown=msgspec.to_builtins(event),
            timeout_s=timeout_s,
            late=_NO_ANSWER,
            dismissed=_NO_ANSWER,
            on_answer=_tell_nobody,
        )
        if answer is _NO_ANSWER:
            self._require_open()
            raise QuestionExpired(reference, waited_s=timeout_s)
        return answer

    async def call_tool(self, name: str, args: Any = None, *, call_id: str | None = None) -> Any:
        """Run a callback tool, with its events; `ToolFailed` when it fails."""
        self._require_open()
        return await run_callback_tool(self, self._host, name, args=args, call_id=call_id)

    # -- the conversation's side -----------------------------------------------------------------

    @property
    def request_id(self) -> str:
        """Return the id that the prompt was accepted under."""
        return self.context.request_id

    @property
    def listener(self) -> TurnListener | None:
        """Return who is told of changes, if anybody."""
        return self._listener

    def stop(self, stop: StopReason) -> None:
        """Ask for the end of the turn; the first to ask is heard."""
        if self.stopped is None and not self.closed:
            self.stopped = stop
            self.wake()

    def wake(self, _: object = None) -> None:
        """Wake whoever waits for the turn to be over."""
        if not self.over.done():
            self.over.set_result(None)

    def refuses_end(self) -> bool:
        """Ask the guardrails about the message that is still open; true where they refuse it."""
        try:
            self._guard_whole(self._transcript.open_text())
        except TurnOver:
            return True
        return False

    def close(self) -> LastMessage:
        """End the turn's own part: nothing more comes from its agent. Returns the last message."""
        last = self._transcript.close()
        self.closed = True
        self._listener = None
        self.wake()
        if not self.done.done():
            self.done.set_result(None)
        return last

    # -- within ----------------------------------------------------------------------------------

    def _require_open(self) -> None:
        stopped = self.stopped
        late = self._host.service.clock.monotonic() > self.deadline_s
        if self.closed or late or (stopped is not None and stopped.silent):
            raise TurnOver(self.request_id)

    def _note(self, event: Event) -> None:
        self._guard_piece(event)
        event = self._say(event)
        completed = self._transcript.add(event)
        if isinstance(event, ToolExecutionStart):
            self._tool_began(event)
        elif isinstance(event, ToolExecutionEnd):
            self.running_tools.pop(event.call_id, None)
        if completed is not None:
            self._guard_whole(completed)

    def _say(self, event: Event) -> Event:
        """Send an event out; arguments and results that are too large go without their value."""
        try:
            self._host.append_event(event, request_id=self.request_id)
        except EventTooLarge as error:
            shorter = _without_value(event, error)
            self._host.append_event(shorter, request_id=self.request_id)
            return shorter
        return event

    def _tool_began(self, event: ToolExecutionStart) -> None:
        self.running_tools[event.call_id] = event
        self._host.usage.tool_calls += 1
        self.usage_of_turn.tool_calls += 1

    def _guard_piece(self, event: Event) -> None:
        if self._guards and isinstance(event, MessageDelta | ThinkingDelta):
            self._refuse(self._guards[type(event)].refuses(event.delta))

    def _guard_whole(self, text: str) -> None:
        if self._guards:
            self._refuse(self._guards[MessageDelta].refuses_whole(text))

    def _refuse(self, why: str | None) -> None:
        if why is not None:
            self.stop(StopReason("guardrail", error="guardrail", silent=True))
            raise TurnOver(self.request_id)

    def _approval_resolved(self, reference: str, answer: Approval) -> None:
        if not self.closed:
            self._say(ApprovalResolved(reference, answer.status))


def specs_of(tools: dict[str, CallbackTool]) -> tuple[ToolSpec, ...]:
    """Return callback tools as agents see them."""
    return tuple(
        ToolSpec(name=each.name, description=each.description, parameters=each.parameters)
        for each in tools.values()
    )


def _without_value(event: Event, error: EventTooLarge) -> Event:
    for name in ("args", "result"):
        if hasattr(event, name):
            shorter: Event = msgspec.structs.replace(event, **{name: f"<{error.size} bytes>"})
            return shorter
    raise error


def _guards(host: TurnHost) -> dict[type[Event], OutputGuard]:
    guardrails = host.service.guardrails
    if guardrails is None:
        return {}
    return {kind: OutputGuard(guardrails, host.tenant_id) for kind in (MessageDelta, ThinkingDelta)}


def _check_usage(prompt: int, completion: int, cached: int, cost_usd: float) -> None:
    for name, value in (("prompt", prompt), ("completion", completion), ("cached", cached)):
        if value < 0:
            raise InvalidArgument(name, expected="a number of tokens", got=repr(value)[:40])
    if not (math.isfinite(cost_usd) and cost_usd >= 0):
        raise InvalidArgument("cost", expected="an amount of USD", got=repr(cost_usd)[:40])


def _tell_nobody(_: object) -> None:
    """Questions have no event of their end."""


_NO_ANSWER = object()
