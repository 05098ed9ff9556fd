"""What stands behind a `Turn` in an agent's process: each call of it becomes a message.

It keeps copies of what a turn may look at without waiting: the model, the tools, the steering
texts. It belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from frontdesk.agents.errors import EventTooLarge, TurnOver
from frontdesk.agents.events import AGENT_EVENTS, Event, normal
from frontdesk.agents.process.messages import (
    MAX_FROM_WORKER_BYTES,
    Answered,
    ApprovalAsked,
    Call,
    CallDropped,
    FromWorker,
    MemoryGiven,
    ModelChanged,
    QuestionAsked,
    RunTurn,
    Steered,
    SteeringTaken,
    SuspensionGiven,
    ToolCalled,
    ToolsChanged,
    Used,
    emitted,
    local,
)
from frontdesk.agents.records import (
    Approval,
    ApprovalDetails,
    Memory,
    TokenUsage,
    ToolSpec,
    TurnContext,
)
from frontdesk.agents.turn import TurnListener
from frontdesk.agents.values import encodable, json_value
from frontdesk.errors import InvalidType

_EMITTABLE = frozenset(AGENT_EVENTS)

_ROOM_FOR_THE_REST = 4096


class WorkerTurnPort:
    """Implement `TurnPort` by messages. `send` sends one, and waits where the gateway is slow."""

    def __init__(self, run: RunTurn, send: Callable[[FromWorker], None]) -> None:
        self._number, self._send = run.turn, send
        self.context: TurnContext = run.context
        self._model = run.context.model
        self._tools: Sequence[ToolSpec] = run.context.tools
        self._steering = list(run.steering)
        self._listener: TurnListener | None = None
        self._calls = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._over = False

    # -- the agent's side: TurnPort ------------------------------------------------------------

    @property
    def model(self) -> str:
        """Return the model to call next."""
        return self._model

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """Return the callback tools that are attached now."""
        return self._tools

    def emit(self, event: Event) -> None:
        """Emit one of `AGENT_EVENTS`."""
        self._require_open()
        if type(event) not in _EMITTABLE:
            expected = "one of " + ", ".join(each.__name__ for each in AGENT_EVENTS)
            raise InvalidType("event", expected=expected, got=type(event).__name__)
        message = emitted(self._number, normal(event))
        limit = MAX_FROM_WORKER_BYTES - _ROOM_FOR_THE_REST
        if len(message.fields) > limit:
            raise EventTooLarge(event.name, size=len(message.fields), limit=limit)
        self._send(message)

    def usage(self, used: TokenUsage) -> None:
        """Count tokens and cost, even of a turn that is over: they were spent."""
        self._send(Used(self._number, used))

    def usage_unknown(self) -> None:
        """Say that nobody tells what this turn used."""
        self._send(Used(self._number, None))

    def steering(self, limit: int | None = None) -> list[str]:
        """Take up to `limit` of the steering texts that wait, oldest first; all by default."""
        self._require_open()
        taken = self._steering[:limit]
        if taken:
            del self._steering[: len(taken)]
            self._send(SteeringTaken(self._number, len(taken)))
        return taken

    def waiting_steering(self) -> list[str]:
        """Return the steering texts that wait, without taking them."""
        self._require_open()
        return list(self._steering)

    def listen(self, listener: TurnListener | None) -> None:
        """Notify this listener, and no other, of what changes from now on."""
        self._listener = listener

    def remember(self, memory: Memory) -> None:
        """Keep this with the turn's end, or soon after it."""
        self._send(MemoryGiven(self._number, memory))

    def suspend(self, memory: Memory) -> None:
        """Let the turn go on from this in another agent."""
        self._require_open()
        self._send(SuspensionGiven(self._number, memory))

    async def approval(
        self,
        tool: str,
        args: Any = None,
        *,
        hint: str | None = None,
        details: ApprovalDetails | None = None,
        reference: str | None = None,
    ) -> Approval:
        """Wait until somebody approves or rejects, or until it is too late."""
        hint_text = hint if hint is None else encodable(hint)
        answer = await self._call(
            lambda call: ApprovalAsked(
                self._number, call, encodable(tool), json_value(args), hint_text, details, reference
            )
        )
        return Approval(*answer)

    async def ask(self, question: str, *, reference: str | None = None) -> Any:
        """Wait for the user's answer; `QuestionExpired` when there is none in time."""
        text = encodable(question)
        return await self._call(lambda call: QuestionAsked(self._number, call, text, reference))

    async def call_tool(self, name: str, args: Any = None, *, call_id: str | None = None) -> Any:
        """Run a callback tool, with its events; `ToolFailed` when it fails."""
        return await self._call(
            lambda call: ToolCalled(self._number, call, encodable(name), json_value(args), call_id)
        )

    # -- the gateway's side --------------------------------------------------------------------

    def on_message(self, message: Steered | ModelChanged | ToolsChanged | Answered) -> None:
        """Handle a change, which the listener is notified of, or an answer."""
        match message:
            case Answered():
                waiting = self._waiting.get(message.call)
                if waiting is None or waiting.done():
                    return
                if message.error is None:
                    waiting.set_result(message.value)
                else:
                    waiting.set_exception(local(message.error))
            case Steered():
                self._steering.extend(message.texts)
                if self._listener is not None:
                    self._listener.steered()
            case ModelChanged():
                self._model = message.model
                if self._listener is not None:
                    self._listener.model_switched(message.model)
            case ToolsChanged():
                self._tools = message.tools
                if self._listener is not None:
                    self._listener.tools_changed()

    def close(self) -> None:
        """End the turn: nothing more goes out but what was used."""
        self._over, self._listener = True, None

    # -- within --------------------------------------------------------------------------------

    def _require_open(self) -> None:
        if self._over:
            raise TurnOver(self.context.request_id)

    async def _call(self, make: Callable[[int], Call]) -> Any:
        self._require_open()
        call = next(self._calls)
        self._send(make(call))
        answer = self._waiting[call] = asyncio.get_running_loop().create_future()
        try:
            return await answer
        finally:
            del self._waiting[call]
            if answer.cancelled():
                self._send(CallDropped(self._number, call))
