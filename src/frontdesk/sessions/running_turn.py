"""The turn under way: what stands behind a `Turn` in the gateway.

An agent acts through it (`TurnPort`): what it emits is filtered, logged, and written into the
history. Whoever ends the turn calls `stop`, and `close` when it is over. What its agent does after
that is discarded.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any, TypeVar

import msgspec

from frontdesk.agents.approval_options import with_option
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
    normal,
)
from frontdesk.agents.ids import new_reference
from frontdesk.agents.records import (
    REFERENCE,
    Approval,
    ApprovalDetails,
    Memory,
    TokenUsage,
    ToolSpec,
    TurnContext,
)
from frontdesk.agents.turn import TurnListener
from frontdesk.agents.values import HalfJoiner, encodable, json_value
from frontdesk.errors import InvalidArgument, InvalidType
from frontdesk.sessions.counters import Counters
from frontdesk.sessions.earlier_life import EarlierTurn
from frontdesk.sessions.errors import GuardrailRefused
from frontdesk.sessions.hooks import TurnTrace
from frontdesk.sessions.output_filter import OutputFilter
from frontdesk.sessions.pending import NO_ANSWER
from frontdesk.sessions.phases import TurnPhase
from frontdesk.sessions.stop_reason import StopReason
from frontdesk.sessions.transcript import Transcript
from frontdesk.sessions.turn_memories import TurnMemories
from frontdesk.sessions.turn_parts import TurnParts
from frontdesk.sessions.turn_suspension import Suspension

_EMITTABLE = frozenset(AGENT_EVENTS)

_REFERENCE = re.compile(REFERENCE)

E = TypeVar("E", bound=Event)


class RunningTurn:
    """One turn, from its prompt to its end. Implements `TurnPort`; all on one event loop."""

    __slots__ = (
        "_delta_kind",
        "_filters",
        "_halves",
        "_listener",
        "_parts",
        "_suspension",
        "_transcript",
        "api_key",
        "context",
        "counters",
        "deadline_s",
        "done",
        "memories",
        "model",
        "on_lost",
        "over",
        "phase",
        "running_tools",
        "stopped",
        "trace",
    )
    context: TurnContext
    counters: Counters
    model: str
    phase: TurnPhase

    def __init__(
        self,
        context: TurnContext,
        parts: TurnParts,
        *,
        deadline_s: float,
        api_key: str | None,
        trace: TurnTrace | None = None,
    ) -> None:
        self.context, self._parts = context, parts
        self.api_key: str | None = api_key
        """The key that acted on it last: what it uses counts for that one."""
        self.deadline_s: float = deadline_s
        self.trace: TurnTrace | None = trace
        self.model = context.model
        """The model to call next."""
        loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = loop.create_future()
        """Done when the agent is, or when the turn is to be stopped."""
        self.done: asyncio.Future[None] = loop.create_future()
        """Done when the turn has ended."""
        self.phase = TurnPhase.RUNNING
        self.stopped: StopReason | None = None
        """Why it is being stopped, or was; None where nobody asked for that."""
        self.on_lost: Callable[[], bool] | None = None
        """Asked when a request is dismissed: whether the agent is lost and the turn waits on."""
        self.counters = Counters()
        self.running_tools: dict[str, ToolExecutionStart] = {}
        self.memories: TurnMemories = TurnMemories()
        self._suspension = Suspension(context.request_id, parts)
        self._transcript = Transcript(parts.history)
        self._halves = HalfJoiner()
        self._delta_kind: type[MessageDelta | ThinkingDelta] = MessageDelta
        self._listener: TurnListener | None = None
        guardrails = parts.service.guardrails
        self._filters: dict[type[MessageDelta | ThinkingDelta], OutputFilter] = {}
        if guardrails is not None:
            for kind in (MessageDelta, ThinkingDelta):
                self._filters[kind] = OutputFilter(guardrails, parts.tenant_id)

    # -- the agent's side: TurnPort --------------------------------------------------------------

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """Return the callback tools that are attached now."""
        return self._parts.tools.specs()

    def emit(self, event: Event) -> None:
        """Emit one of `AGENT_EVENTS`."""
        self._require_open()
        if type(event) not in _EMITTABLE:
            expected = "one of " + ", ".join(each.__name__ for each in AGENT_EVENTS)
            raise InvalidType("event", expected=expected, got=type(event).__name__)
        event = normal(event)
        if not isinstance(event, MessageDelta | ThinkingDelta):
            self._flush_half()
            self._emit_one(event)
            return
        if type(event) is not self._delta_kind:
            self._flush_half()
            self._delta_kind = type(event)
        text = self._halves.feed(event.delta)
        if text or not event.delta:
            self._emit_delta(event if text == event.delta else type(event)(text))

    def usage(self, used: TokenUsage) -> None:
        """Count tokens and cost, even of a turn that is over: they were spent."""
        parts = self._parts
        for counters in (self.counters, parts.counters):
            counters.tokens += used
        self._store_counters()
        parts.service.meter.record(
            tenant_id=parts.tenant_id, api_key=self.api_key, model=self.model, tokens=used
        )

    def usage_unknown(self) -> None:
        """Count that the agent does not tell what this turn used."""
        if not self.counters.unknown_usage:
            parts = self._parts
            for counters in (self.counters, parts.counters):
                counters.unknown_usage += 1
            self._store_counters()
            parts.service.meter.record(
                tenant_id=parts.tenant_id, api_key=self.api_key, model=self.model, unknown_turns=1
            )

    def steering(self, limit: int | None = None) -> list[str]:
        """Take up to `limit` of the steering texts that wait, oldest first; all by default."""
        self._require_open()
        waiting = self._parts.steering_texts
        taken = waiting[:limit]
        del waiting[: len(taken)]
        return taken

    def waiting_steering(self) -> list[str]:
        """Return the steering texts that wait, without taking them."""
        self._require_open()
        return list(self._parts.steering_texts)

    def listen(self, listener: TurnListener | None) -> None:
        """Notify this listener, and no other, of what changes from now on."""
        self._listener = listener

    def remember(self, memory: Memory) -> None:
        """Keep this with the turn's end, or soon after it."""
        self.memories.add(memory, over=self.phase is TurnPhase.FINISHED)

    def suspend(self, memory: Memory) -> None:
        """Let the turn go on from this in another agent, while what is asked by reference waits."""
        self._require_open()
        self._suspension.memory = memory
        self._suspension.renew()

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
        self._require_open()
        service, outlives = self._parts.service, reference is not None
        reference = self._checked_reference(reference) or new_reference("apr")
        hint = None if hint is None else encodable(hint)
        self._check_text(hint or "")
        event = ApprovalRequired(
            reference, encodable(tool), json_value(args), hint, service.clock.wall_ms(), details
        )
        # What waits is what went out: without arguments that are too large.
        event = self._append(event)
        self._suspension.on_asked(reference, event, outlives=outlives)
        answer = await self._parts.approvals.wait(
            reference,
            event,
            timeout_s=service.settings.approval_timeout_s,
            late=Approval("expired"),
            dismissed=Approval("cancelled"),
            on_answer=partial(self._on_approval, event),
        )
        await self._suspension.until_stored(reference)
        return with_option(answer, details)

    async def ask(self, question: str, *, reference: str | None = None) -> Any:
        """Wait for the user's answer; `QuestionExpired` when there is none in time."""
        self._require_open()
        outlives = reference is not None
        reference = self._checked_reference(reference) or new_reference("ask")
        question = encodable(question)
        self._check_text(question)
        event = self._append(AskUser(reference, question))
        self._suspension.on_asked(reference, event, outlives=outlives)
        timeout_s = self._parts.service.settings.question_timeout_s
        answer = await self._parts.questions.wait(
            reference,
            event,
            timeout_s=timeout_s,
            late=NO_ANSWER,
            dismissed=NO_ANSWER,
            on_answer=partial(self._on_response, reference),
        )
        await self._suspension.until_stored(reference)
        if answer is NO_ANSWER:
            self._require_open()
            raise QuestionExpired(reference, waited_s=timeout_s)
        return answer

    async def call_tool(self, name: str, args: Any = None, *, call_id: str | None = None) -> Any:
        """Run a callback tool, with its events; `ToolFailed` when it fails."""
        self._require_open()
        args = json_value(args)
        return await self._parts.tools.call(
            name, args, emit=self.emit, call_id=call_id, committed=self._parts.committed
        )

    # -- the conversation's side -----------------------------------------------------------------

    async def committed(self) -> None:
        """Wait until all that was said is stored."""
        await self._parts.committed()

    @property
    def request_id(self) -> str:
        """Return the id that the prompt was accepted under."""
        return self.context.request_id

    def on_steered(self) -> None:
        """Notify the agent of a steering text."""
        if self._listener is not None:
            self._listener.steered()

    def on_model_switched(self, model: str) -> None:
        """Go on with another model from the next call on, and notify the agent."""
        self.model = model
        if self._listener is not None:
            self._listener.model_switched(model)

    def on_tools_changed(self) -> None:
        """Notify the agent that a callback tool came or went."""
        if self._listener is not None:
            self._listener.tools_changed()

    def stop(self, stop: StopReason) -> None:
        """Ask for the end of the turn; the first to ask is heard."""
        if self.phase is TurnPhase.RUNNING:
            self.phase = self.phase.to(TurnPhase.STOPPING)
            self.stopped = stop
            self._suspension.end()
            self.wake()

    def suspended(self) -> EarlierTurn | None:
        """Be without an agent, and return where another goes on; None where none could."""
        return self._suspension.left()

    def go_on(self, context: TurnContext, *, deadline_s: float, text: str) -> None:
        """Be the turn of another agent, which goes on where the last one had said this text."""
        self.context, self.model, self.deadline_s = context, context.model, deadline_s
        self._suspension = Suspension(context.request_id, self._parts)
        self._listener, self.over = None, asyncio.get_running_loop().create_future()
        if text:
            self._transcript.go_on(text)

    @property
    def is_aside(self) -> bool:
        """Say whether it was set aside."""
        return self._suspension.is_left

    def set_aside(self) -> RunningTurn:
        """Be over for an agent that may live on, and return the turn as it waits for another."""
        self._listener = None
        waiting = copy(self)
        waiting.done = asyncio.get_running_loop().create_future()
        # What it leaves of the turn as it is cancelled is not what the turn comes to.
        self.memories = TurnMemories()
        self._be_over()
        return waiting

    def wake(self, _: object = None) -> None:
        """Wake whoever waits for the turn to be over."""
        if not self.over.done():
            self.over.set_result(None)

    def refuses_end(self) -> bool:
        """Complete the message that is still open; true where the guardrails refuse it."""
        try:
            self._flush_half()
            self._end_text()
        except TurnOver:
            return True
        return False

    def close(self) -> LastMessage:
        """End the turn's own part: nothing more comes from its agent. Returns the last message."""
        last = self._transcript.close()
        self._be_over()
        return last

    # -- within ----------------------------------------------------------------------------------

    def _be_over(self) -> None:
        self.phase = self.phase.to(TurnPhase.FINISHED)
        self._listener = None
        self.wake()
        if not self.done.done():
            self.done.set_result(None)

    def _require_open(self) -> None:
        late = self._parts.service.clock.monotonic() > self.deadline_s
        silenced = self.stopped is not None and self.stopped.silent
        if self.phase is TurnPhase.FINISHED or late or silenced:
            raise TurnOver(self.request_id)

    def _checked_reference(self, reference: str | None) -> str | None:
        """Return a reference that the agent made, where it made one that can be taken."""
        taken = reference in self._parts.approvals or reference in self._parts.questions
        if reference is not None and (taken or not _REFERENCE.fullmatch(reference)):
            raise InvalidArgument("reference", expected=REFERENCE, got=repr(reference[:40]))
        return reference

    def _emit_delta(self, event: MessageDelta | ThinkingDelta) -> None:
        opening = self._transcript.opening(event)
        if opening is not None:
            self._emit_one(opening)
        self._emit_one(event)

    def _flush_half(self) -> None:
        """Let out what waits for the other half of a character that does not come."""
        if text := self._halves.flush():
            self._emit_delta(self._delta_kind(text))

    def _emit_one(self, event: Event) -> None:
        if not isinstance(event, MessageDelta | ThinkingDelta):
            self._end_text()
            self._write(event)
        elif not self._filters:
            self._write(event)
        else:
            with self._stopping_if_refused():
                passed = self._filters[type(event)].feed(event.delta)
            for text in passed:
                self._write(event if text is event.delta else type(event)(text))

    def _end_text(self) -> None:
        """Let out what the guardrails have not decided about: the text ends here."""
        for kind, each in self._filters.items():
            before = self._transcript.open_text() if kind is MessageDelta else None
            with self._stopping_if_refused():
                passed = each.end(before)
            for text in passed:
                self._write(kind(text))

    def _check_text(self, text: str) -> None:
        """Show the guardrails what goes out beside messages, which end here for them."""
        self._end_text()
        if text and self._filters:
            with self._stopping_if_refused():
                self._filters[MessageDelta].check(text)

    def _write(self, event: Event) -> None:
        event = self._append(event)
        self._transcript.add(event)
        if isinstance(event, ToolExecutionStart):
            self.running_tools[event.call_id] = event
            self._parts.counters.tool_calls += 1
            self.counters.tool_calls += 1
            self._store_counters()
        elif isinstance(event, ToolExecutionEnd):
            self.running_tools.pop(event.call_id, None)

    def _store_counters(self) -> None:
        if (record := self._parts.record) is not None:
            record.count(self.request_id, usage=self.counters, totals=self._parts.counters)

    def _append(self, event: E) -> E:
        """Append to the log; return the event as it went out.

        Arguments and results that are too large go without their value, other events with their
        text cut. A delta may be no larger than the bound: `EventTooLarge`.
        """
        try:
            self._parts.log.append(event, request_id=self.request_id)
        except EventTooLarge as error:
            if isinstance(event, MessageDelta | ThinkingDelta):
                raise
            left_out = f"<{error.size} bytes>"
            values = {name: left_out for name in ("args", "result") if hasattr(event, name)}
            event = msgspec.structs.replace(event, **values)
            return self._parts.log.append_shortened(event, request_id=self.request_id)
        return event

    @contextmanager
    def _stopping_if_refused(self) -> Iterator[None]:
        try:
            yield
        except GuardrailRefused:
            self.stop(StopReason("guardrail", error="guardrail", silent=True))
            raise TurnOver(self.request_id) from None

    def _waits_on(self) -> bool:
        """Say whether a request is only dismissed as its agent is lost, and waits for another."""
        return self._suspension.is_left or (self.on_lost is not None and self.on_lost())

    def _on_response(self, reference: str, answer: object) -> None:
        if answer is not NO_ANSWER or not self._waits_on():
            self._suspension.on_answer(reference, answer)

    def _on_approval(self, asked: ApprovalRequired, answer: Approval) -> None:
        if answer.status == "cancelled" and self._waits_on():
            return
        self._suspension.on_answer(asked.approval_id, answer)
        if self.phase is not TurnPhase.FINISHED:
            answer = with_option(answer, asked.details)
            self._append(ApprovalResolved(asked.approval_id, answer.status, answer.option_id))
