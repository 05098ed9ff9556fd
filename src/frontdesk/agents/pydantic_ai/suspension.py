"""What a turn of a Pydantic AI agent waits for, and how another agent goes on with it.

While an approval or a question waits, what the turn has come to is left with the conversation: the
messages up to the model's calls, the results that there are, and which call waits for which answer.
Another agent begins its run there, with the answers: no model and no tool is asked again. What ran
beside the question as the agent was lost, and has no result, was cut off.

    1. `TurnSuspension` is asked: it makes the references, leaves the state, then asks the client.
    2. The agent goes on with the answers, or is lost.
    3. `Resumed.of` reads the state and the answers, for the next agent's run.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.tools import (
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    ToolApproved,
    ToolDenied,
)

from frontdesk.agents.errors import AgentFailed, QuestionExpired
from frontdesk.agents.events import ToolExecutionEnd
from frontdesk.agents.ids import new_reference
from frontdesk.agents.pydantic_ai.memory import CUT_OFF, TurnMemory, content_of
from frontdesk.agents.pydantic_ai.stored_messages import (
    KIND,
    Change,
    MemoryUnreadable,
    StoredMessages,
    require_version,
    version,
)
from frontdesk.agents.records import MAX_MEMORY_BYTES, Approval, Memory, Suspended
from frontdesk.agents.tool_run import ToolRun
from frontdesk.agents.turn import Turn

NO_ANSWER = "The user did not answer."
"""What a model reads where nobody answered its question in time."""


class BegunCall(msgspec.Struct, frozen=True):
    """A tool's call that clients know as begun: by which id, and since when (ms)."""

    call_id: str
    tool_name: str
    begun_at_ms: int

    def end(self, turn: Turn, status: Literal["ok", "cancelled"], result: Any = None) -> None:
        """Tell how it ended after all."""
        duration_ms = max(0, _now_ms() - self.begun_at_ms)
        end = ToolExecutionEnd(self.call_id, self.tool_name, status, result, duration_ms)
        turn.emit(end)


class WaitingCall(msgspec.Struct, frozen=True):
    """A model's call that waits for an answer, and as which tool's clients know it, if they do."""

    kind: Literal["approval", "question"]
    reference: str
    begun: BegunCall | None = None


class SuspendedRun(msgspec.Struct, frozen=True):
    """What is left of a turn that waits: its messages, the calls that wait, those that ran."""

    change: Change
    waiting: dict[str, WaitingCall]
    running: tuple[BegunCall, ...]


class TurnSuspension:
    """Ask what one turn has to ask, so that the answers can come to another agent.

    `remembered` is the turn as far as it has come, `stored` what its state is left in addition to.
    """

    def __init__(self, turn: Turn, *, remembered: TurnMemory, stored: StoredMessages) -> None:
        self._turn, self._remembered, self._stored = turn, remembered, stored
        self._waiting: dict[str, WaitingCall] = {}
        self._begun: dict[str, BegunCall] = {}

    def on_begun(self, call_id: str | None, run: ToolRun) -> None:
        """Know as what clients know a tool's call."""
        if call_id is not None:
            self._begun[call_id] = BegunCall(run.call_id, run.name, _now_ms())

    def on_result(self) -> None:
        """Leave the state anew, where it is left: a tool beside what is asked has a result."""
        if self._waiting:
            self._leave()

    async def resolve(self, requests: DeferredToolRequests) -> DeferredToolResults:
        """Ask for every approval that a model's calls need, and every result of those elsewhere.

        A call that runs elsewhere (`ExternalToolset`, `CallDeferred`) is a question to the user.
        """
        approvals, calls = requests.approvals, requests.calls
        waiting = {each.tool_call_id: _waiting("approval") for each in approvals}
        waiting |= {each.tool_call_id: _waiting("question") for each in calls}
        results = DeferredToolResults()
        with self._asking(waiting) as references:

            async def approve(call: ToolCallPart) -> None:
                answer = await self._approval(call, references.get(call.tool_call_id))
                results.approvals[call.tool_call_id] = answer

            async def answer(call: ToolCallPart) -> None:
                result = await self._result(call, references.get(call.tool_call_id))
                results.calls[call.tool_call_id] = result

            await asyncio.gather(*map(approve, approvals), *map(answer, calls))
        return results

    async def ask(self, question: str, *, call_id: str) -> Any:
        """Ask the user from within a tool that does nothing else; `QuestionExpired`."""
        waiting = _waiting("question", self._begun.get(call_id))
        with self._asking({call_id: waiting}) as references:
            return await self._turn.ask(question, reference=references.get(call_id))

    async def _approval(
        self, call: ToolCallPart, reference: str | None
    ) -> ToolApproved | ToolDenied:
        args = call.args_as_dict()
        return judged(await self._turn.approval(call.tool_name, args, reference=reference))

    async def _result(self, call: ToolCallPart, reference: str | None) -> Any:
        args = call.args_as_dict()
        question = args.get("question")
        if not isinstance(question, str):
            question = f"{call.tool_name}: {json.dumps(args, ensure_ascii=False)}"
        try:
            return await self._turn.ask(question, reference=reference)
        except QuestionExpired:
            return NO_ANSWER

    @contextmanager
    def _asking(self, waiting: dict[str, WaitingCall]) -> Iterator[dict[str, str]]:
        """Leave the state with these calls in it; return their references, by the calls' ids.

        None for a call that no other agent would find again, or where the state is too large.
        """
        calls = {call.tool_call_id for call in self._calls()}
        added = {each: waiting[each] for each in waiting if each in calls - self._waiting.keys()}
        self._waiting |= added
        try:
            if added and not self._leave():
                added = {}
            yield {call_id: each.reference for call_id, each in added.items()}
        finally:
            for call_id in waiting:
                self._waiting.pop(call_id, None)

    def _leave(self) -> bool:
        """Leave the turn as it is now, where there is room for it; say whether there is."""
        run, calls = self._remembered.run, self._calls()
        returned = self._remembered.returned
        results: list[ModelRequestPart] = [] if run is None else list(run.results)
        done = {getattr(part, "tool_call_id", None) for part in results}
        left = [each for each in calls if each.tool_call_id not in done | self._waiting.keys()]
        for each in left:
            # The run has not come to every result yet that clients know of.
            content = content_of(returned.get(each.tool_call_id, CUT_OFF))
            results.append(ToolReturnPart(each.tool_name, content, each.tool_call_id))
        cut = [each for each in left if each.tool_call_id not in returned]
        messages = [] if run is None else run.messages()
        while messages and not isinstance(messages[-1], ModelResponse):
            messages.pop()
        if results:
            messages.append(ModelRequest(parts=results))
        state = SuspendedRun(
            change=Change.between(self._stored.messages, messages),
            waiting=dict(self._waiting),
            running=tuple(
                self._begun[each.tool_call_id] for each in cut if each.tool_call_id in self._begun
            ),
        )
        content = msgspec.json.encode(state)
        if len(content) > MAX_MEMORY_BYTES:
            return False
        self._turn.suspend(Memory(kind=KIND, version=version(), content=content))
        return True

    def _calls(self) -> list[ToolCallPart]:
        """Return the calls of the model's last response, which are under way."""
        run = self._remembered.run
        for message in reversed([] if run is None else run.messages()):
            if isinstance(message, ModelResponse):
                return [part for part in message.parts if isinstance(part, ToolCallPart)]
        return []


def _waiting(kind: Literal["approval", "question"], begun: BegunCall | None = None) -> WaitingCall:
    return WaitingCall(kind, new_reference("apr" if kind == "approval" else "ask"), begun)


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run goes on: its messages so far, and the results of the calls that waited."""

    messages: list[ModelMessage]
    results: DeferredToolResults

    @classmethod
    def of(cls, turn: Turn, suspended: Suspended, *, stored: StoredMessages) -> Resumed:
        """Read what a turn was suspended with, and tell how its open calls ended.

        `AgentFailed` where it cannot be read any more: nothing of the turn is done again.
        """
        memory = suspended.memory
        try:
            require_version(memory)
            state = msgspec.json.decode(memory.content, type=SuspendedRun)
            messages = state.change.applied(stored.messages)
        except (MemoryUnreadable, msgspec.MsgspecError, RecursionError) as error:
            problem = f"what the turn was suspended with cannot be read: {error}"
            raise AgentFailed(problem) from error
        for call in state.running:
            call.end(turn, "cancelled")
        results = DeferredToolResults()
        for call_id, waiting in state.waiting.items():
            if waiting.kind == "approval":
                answer = suspended.approvals.get(waiting.reference, Approval("expired"))
                results.approvals[call_id] = judged(answer)
                continue
            response = suspended.responses.get(waiting.reference, NO_ANSWER)
            if waiting.begun is not None:
                response = str(response)
                waiting.begun.end(turn, "ok", response)
            results.calls[call_id] = response
        return cls(messages=messages, results=results)


def judged(answer: Approval) -> ToolApproved | ToolDenied:
    """Return an approval as the model is told."""
    if answer.approved:
        return ToolApproved()
    reason = f": {answer.reason}" if answer.reason else "."
    return ToolDenied(f"The user did not approve this call ({answer.status}){reason}")


def suspension_in(ctx: RunContext[Any]) -> TurnSuspension | None:
    """Return the suspension of the turn that a tool runs in; None within an agent of its own."""
    found: list[TurnSuspension] = []

    def visit(capability: AbstractCapability[Any]) -> None:
        suspension = getattr(capability, "suspension", None)
        if isinstance(suspension, TurnSuspension):
            found.append(suspension)

    if ctx.root_capability is not None:
        ctx.root_capability.apply(visit)
    return found[0] if found else None


def _now_ms() -> int:
    return int(time.time() * 1000)
