"""A conversation: what a client sees of a session: history, prompt queue, event stream.

The verbs that a client may ask for come first, then what the runner does (turns begin and finish),
then what the supervisor does (an agent is bound, its end interrupts, the session ends). All are
synchronous, quick, and belong to one event loop. It outlives the registry's entry where another
agent takes over, at once or, where it is stored, whenever somebody asks something. What is answered
to a client, and what an agent gets, comes once it is `committed`. Every turn that begins ends with
exactly one `agent_end` or `agent_abort`, and `session_end` is the last event of all.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import msgspec

from frontdesk.agents.attachments import Attachment
from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.events import (
    AgentAbort,
    AgentEnd,
    AgentRestarted,
    AgentStart,
    Error,
    Event,
    ModelSwitched,
    OptionChanged,
    OutOfTurn,
    PromptReceived,
    SessionEnd,
    Steering,
    ToolAttached,
    ToolDetached,
    TurnTokens,
)
from frontdesk.agents.ids import registry_key
from frontdesk.agents.protocol import check
from frontdesk.agents.records import (
    Accepted,
    Approval,
    CallbackTool,
    MemoryOutcome,
    Message,
    SessionContext,
    State,
    TurnContext,
)
from frontdesk.agents.restart import CRASHES
from frontdesk.records import ExitKind, ExitReason, Session
from frontdesk.sessions.attachment_room import TakesType, require_types
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.conversation_record import (
    ConversationRecord,
    StoredOptions,
    attachments_in,
)
from frontdesk.sessions.counters import Counters
from frontdesk.sessions.earlier_life import EarlierLife
from frontdesk.sessions.errors import (
    GuardrailRefused,
    PromptQueueFull,
    SessionDead,
    SteeringQueueFull,
)
from frontdesk.sessions.event_log import EventLog
from frontdesk.sessions.event_reader import EventReader, StreamStart
from frontdesk.sessions.expiry import Expiry, LifeTimes
from frontdesk.sessions.forking import ForkSource
from frontdesk.sessions.history import History
from frontdesk.sessions.hooks import TurnTrace
from frontdesk.sessions.input_checks import checked_prompt, filtered, refusing_model
from frontdesk.sessions.output_filter import OutputFilter
from frontdesk.sessions.phases import SessionPhase, TurnPhase
from frontdesk.sessions.queue import Prompt, PromptQueue
from frontdesk.sessions.running_turn import RunningTurn, TurnParts
from frontdesk.sessions.stop_reason import StopReason
from frontdesk.sessions.turn_ends import TurnEnd, TurnEnds

T = TypeVar("T")

MAX_REASON_CHARACTERS = 200
"""How much of a client's own reason for an abort goes out."""


class Conversation:
    """One session as its client sees it. Made by a `SessionService`.

    Verbs that change something raise `SessionDead` once the session has ended, or is ending;
    what it is can be read and `subscribe` goes on working. They take the `api_key` that acts: what
    comes of it counts for that key and is signed with its secret, whichever opened the session
    (None: that one). A turn counts for the key that acted on it last.
    """

    __slots__ = (
        "_deadline_timer",
        "_entry_fence",
        "_latest_index",
        "_latest_request",
        "_pid",
        "_readers",
        "_stop_next",
        "_took",
        "api_key",
        "born_s",
        "cleanup_s",
        "context",
        "counters",
        "created_at",
        "ending_reason",
        "ends",
        "expiry",
        "forked_from",
        "history",
        "label",
        "log",
        "model",
        "number",
        "parts",
        "phase",
        "prompts",
        "record",
        "restarts",
        "rules",
        "service",
        "session_id",
        "takes",
        "tenant_id",
        "turn",
    )
    _latest_index: int | None
    _latest_request: str | None
    api_key: str | None
    born_s: float
    cleanup_s: float | None
    """From its last agent's death to the end of its entry; None where that was brought about."""
    context: SessionContext
    created_at: int
    history: History
    log: EventLog
    model: str
    phase: SessionPhase
    restarts: int
    session_id: str
    tenant_id: str

    def __init__(
        self,
        context: SessionContext,
        *,
        service: ServiceContext,
        blueprint: Blueprint,
        api_key: str | None,
        number: int,
        stored: bool = False,
        life: EarlierLife | None = None,
    ) -> None:
        self.session_id, self.tenant_id = context.session_id, context.tenant_id
        self.context, self.model, self.api_key = context, context.model, api_key
        self.number: int = number
        """Its place among its tenant's sessions: greater than that of any session before it."""
        self.service: ServiceContext = service
        self.rules: Blueprint = blueprint
        """The blueprint, as it was when the session was opened."""
        self.created_at, self.born_s = service.clock.wall_ms(), service.clock.monotonic()
        self.label: str | None = None
        self.forked_from: str | None = None
        """The session that it is a copy of."""
        self._took: StoredOptions | None = None if life is None else life.options
        self.phase = SessionPhase.OPENING
        self.ending_reason: ExitReason | None = None
        """Why it ends or has ended; None while it does not."""
        self.restarts = self._entry_fence = self._readers = 0
        self.takes: TakesType | None = None
        """Says which attachments its agent takes, where that is fewer than its blueprint says."""
        self._pid: int | None = None
        self.parts: TurnParts = TurnParts.make(
            context, service=service, number=number, stored=stored, life=life
        )
        self.record: ConversationRecord | None = self.parts.record
        self.log, self.history = self.parts.log, self.parts.history
        if (observer := service.observer) is not None:
            self.log.on_append = partial(observer.on_event, self)
        self.counters: Counters = self.parts.counters
        self.prompts: PromptQueue = PromptQueue()
        self.ends: TurnEnds = TurnEnds()
        self.turn: RunningTurn | None = None
        """The turn under way."""
        self._stop_next: StopReason | None = None
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._latest_request = self._latest_index = self.cleanup_s = None
        if life is not None:
            self._go_on_from(life)
        self.expiry: Expiry = self._new_expiry()

    def _new_expiry(self) -> Expiry:
        rules, service = self.rules, self.service
        times = LifeTimes(rules.idle_timeout_s, rules.unused_timeout_s, rules.max_age_s)
        if self.phase is not SessionPhase.OPENING:
            times = LifeTimes()
        return Expiry(
            times, clock=service.clock, born_s=self.born_s, expire=lambda: service.expire(self)
        )

    def take_over(self, source: ForkSource) -> None:
        """Begin as a copy of another session: before anything else is said."""
        self.forked_from = source.session_id
        for message in source.messages:
            self.history.add(message)
        if self.record is not None:
            for each in source.memories:
                self.record.remember(each.request_id, each.memory)
        self.parts.tools.restore(source.options.tools, keys=source.options.tool_keys)
        inherited = self.history.last_position
        known = max(0, inherited - source.unremembered) if source.memories else 0
        self._took = msgspec.structs.replace(source.options, inherited=inherited, remembered=known)

    def _go_on_from(self, life: EarlierLife) -> None:
        """Be what was stored: dormant, or ended, with what waits in its queue."""
        stored = life.stored
        self.model, self.created_at, self.label = stored.model, stored.created_at_ms, stored.label
        self.forked_from = stored.forked_from
        self.born_s -= max(0, self.service.clock.wall_ms() - stored.created_at_ms) / 1000
        if life.latest is not None:
            self._latest_request = life.latest.request_id
            self._latest_index = life.latest.first_index or None
        if (reason := life.ended) is not None:
            self.ending_reason, self.phase = reason, self.phase.to(SessionPhase.ENDED)
            self.log.close()
            return
        self.phase = self.phase.to(SessionPhase.DORMANT)
        for turn in life.waiting:
            if turn.state == "queued":
                files = attachments_in(turn.attachments)
                self.prompts.put(Prompt(turn.request_id, turn.text, turn.api_key, files))
                self.ends.expect(turn.request_id)

    # -- what it is --------------------------------------------------------------------------

    @property
    def blueprint(self) -> str:
        """Return the name of the blueprint that its agents are built from."""
        return self.rules.name

    @property
    def ended(self) -> ExitReason | None:
        """Return how it ended; None before that."""
        return self.ending_reason if self.phase is SessionPhase.ENDED else None

    @property
    def dormant(self) -> bool:
        """Say whether it is stored and has no agent now."""
        return self.phase is SessionPhase.DORMANT

    @property
    def restarting(self) -> bool:
        """Say whether it is between two agents, or waits for one that is asked for already."""
        return self.phase is SessionPhase.RESTARTING or (self.dormant and len(self.prompts) > 0)

    @property
    def pid(self) -> int | None:
        """Return the process of its own that the agent runs in; None for a task."""
        return None if self.rules.isolation == "task" else self._pid

    @property
    def fence(self) -> int:
        """Return what tells two sessions of one id apart, in any life of the process."""
        return self.log.fence_of(1)

    @property
    def entry_fence(self) -> int:
        """Return the fence of its agent's entry: that of the cluster, where there is one.

        It is for agents, not for clients: in it every tenant's sessions count. While the index has
        not been told of the next agent, it is that of the last.
        """
        if (node := self.service.node) is not None:
            fence = node.fence(registry_key(self.tenant_id, self.session_id))
            self._entry_fence = fence or self._entry_fence
        return self._entry_fence

    @property
    def turn_timeout_s(self) -> float:
        """Return the deadline of its turns."""
        return self.rules.turn_timeout_s or self.service.settings.turn_timeout_s

    @property
    def held_bytes(self) -> int:
        """Return the memory that it takes for those who come later: its events and ends."""
        return self.log.held_bytes + self.ends.held_bytes

    @property
    def uptime_ms(self) -> int:
        """Return how long ago the session was opened."""
        return round((self.service.clock.monotonic() - self.born_s) * 1000)

    @property
    def busy(self) -> bool:
        """Say whether a prompt that comes now has to wait."""
        return self.turn is not None or len(self.prompts) > 0 or self.restarting

    @property
    def in_use(self) -> bool:
        """Say whether somebody reads its events, or something waits in it."""
        return self._readers > 0 or self.busy

    @property
    def state(self) -> State:
        """Return what the session is doing."""
        if self.restarting:
            return "restarting"
        if not self.busy:
            return "idle"
        if self.parts.approvals:
            return "waiting_approval"
        return "waiting_input" if self.parts.questions else "working"

    # -- a client's verbs --------------------------------------------------------------------

    def prompt(
        self,
        text: str,
        *,
        attachments: Sequence[Attachment] = (),
        api_key: str | None = None,
    ) -> Accepted:
        """Accept a prompt: its turn begins at once, or after those before it.

        Raises `PromptQueueFull`, `SessionDead`, `GuardrailRefused`, `BudgetExceeded`, `Draining`,
        `AttachmentRefused`, `AttachmentsFull`.
        """
        self.require_types([each.media_type for each in attachments])
        api_key = api_key or self.api_key
        text, files = checked_prompt(
            text, attachments, service=self.service, tenant_id=self.tenant_id, api_key=api_key
        )
        limit = self.service.settings.max_queued_prompts
        # Where no turn is under way, the first that waits is about to begin: it takes no place.
        if len(self.prompts) >= limit + (1 if self.turn is None else 0):
            raise PromptQueueFull(self.session_id, limit=limit)
        self.service.attachments.take(self.tenant_id, files)
        queued = self.busy
        origin, accepted_s = None, 0.0
        if (tracer := self.service.tracer) is not None:
            origin, accepted_s = tracer.origin(), self.service.clock.monotonic()
        request_id = f"req_{secrets.token_hex(8)}"
        prompt = Prompt(request_id, text, api_key, files, origin, accepted_s)
        self._latest_request, self._latest_index = prompt.request_id, None
        if self.record is not None:
            self.record.queue(prompt)
        self.prompts.put(prompt)
        self.ends.expect(prompt.request_id)
        self.counters.prompts += 1
        self.expiry.busy(used=True)
        self.service.meter.record(
            tenant_id=self.tenant_id, api_key=api_key, model=self.model, prompts=1
        )
        if queued:
            self._on_changed()
        since = self.log.id_of(self.log.last_index)
        if self.dormant:
            self.service.wake(self)
        return Accepted(prompt.request_id, self.session_id, queued, since)

    def require_types(self, media_types: Sequence[str]) -> None:
        """Raise `AttachmentRefused` for a type that the agent does not take; `SessionDead`."""
        self._require_open()
        require_types(media_types, rules=self.rules, takes=self.takes)

    def approve(
        self,
        approval_id: str,
        reason: str | None = None,
        *,
        option_id: str | None = None,
        api_key: str | None = None,
    ) -> None:
        """Let a tool run, by one of the options that its agent offers, if one is named.

        `UnknownReference` where nothing waits for it, `OptionRefused`, `GuardrailRefused`.
        """
        self._answer(approval_id, Approval("approved", reason, option_id), api_key)

    def reject(
        self,
        approval_id: str,
        reason: str | None = None,
        *,
        option_id: str | None = None,
        api_key: str | None = None,
    ) -> None:
        """Keep a tool from running. Options and errors as in `approve`."""
        self._answer(approval_id, Approval("rejected", reason, option_id), api_key)

    def respond(self, ref: str, response: Any, *, api_key: str | None = None) -> None:
        """Answer a question of the agent. `UnknownReference`, `GuardrailRefused`."""
        self._require_open()
        self.parts.questions.answer(ref, self._filtered(response))
        self._count_turn_for(api_key)

    def abort(self, reason: str | None = None, *, kill_tools: bool = False) -> None:  # noqa: ARG002
        """End the turn under way, if there is one; the session lives on.

        The turn is cancelled, the tools that it runs with it: `kill_tools` is what happens anyway.
        """
        self._require_open()
        stop = StopReason((reason or "aborted")[:MAX_REASON_CHARACTERS])
        if self.turn is not None:
            self.turn.stop(stop)
        elif self.prompts:
            self._stop_next = stop

    def steer(self, text: str, *, api_key: str | None = None) -> None:
        """Add a text that the turn takes into account at its next step.

        Between turns it waits for the next one; what a turn does not take goes with it.
        Raises `SteeringQueueFull`, `GuardrailRefused`, `SessionDead`.
        """
        self._require_open()
        text = self._filtered(text)
        limit = self.service.settings.max_steering
        if len(self.parts.steering_texts) >= limit:
            raise SteeringQueueFull(self.session_id, limit=limit)
        self._append_to_turn(Steering(text))
        self.parts.steering_texts.append(text)
        self._count_turn_for(api_key)
        if self.turn is not None:
            self.turn.on_steered()

    async def prepare_model(self, model: str) -> None:
        """Load what `switch_model` needs without blocking the loop; refuses like it."""
        self._require_open()
        with refusing_model(model, rules=self.rules):
            await check(self.rules.factory, msgspec.structs.replace(self.context, model=model))

    def switch_model(self, model: str, *, api_key: str | None = None) -> None:
        """Answer with another model, from the next model call on. `ModelRefused`, `SessionDead`."""
        self._require_open()
        with refusing_model(model, rules=self.rules):
            self.rules.factory.check(msgspec.structs.replace(self.context, model=model))
        former, self.model = self.model, model
        self.service.update_model(self, model)
        self._on_model_stored(ModelSwitched(former, model))
        self._count_turn_for(api_key)
        if self.turn is not None:
            self.turn.on_model_switched(model)

    def attach_tool(self, tool: CallbackTool, *, api_key: str | None = None) -> None:
        """Attach a callback tool. `ToolRefused`, `SessionDead`."""
        self._require_open()
        self.parts.tools.attach(tool, api_key=api_key or self.api_key)
        self._on_tools_changed(ToolAttached(tool.name))

    def detach_tool(self, name: str) -> None:
        """Detach a callback tool. `UnknownTool`, `SessionDead`."""
        self._require_open()
        self.parts.tools.detach(name)
        self._on_tools_changed(ToolDetached(name))

    def subscribe(
        self,
        *,
        since: str | None = None,
        types: frozenset[str] | None = None,
        from_now: bool = False,
    ) -> EventReader:
        """Open a stream over the events. Close it: an open one keeps the session from idling out.

        With `since` (an event's id, or a bare index) it goes on after that, or begins with a `Gap`
        where that is not held. Without, it begins at the `prompt_received` of the latest accepted
        prompt, even if that is still to come; with `from_now` after the newest event. `types`
        keeps only these events. Works after the end as well.

        Raises `InvalidArgument` for a `since` that is neither an id nor an index.
        """
        if since is not None:
            start = StreamStart.after(since, self.log)
        elif from_now:
            start = StreamStart(self.log.last_index)
        else:
            start = StreamStart.at_prompt(self._latest_request, self._latest_index, self.log)
        reader = EventReader(self.log, start, types=types, on_close=self._on_reader_closed)
        self._readers += 1
        self.expiry.busy()
        return reader

    async def committed(self) -> None:
        """Wait until all that was said and done is stored; `StorageUnavailable` if that fails."""
        if self.record is not None:
            await self.record.committed()

    # -- turns: called by the runner ---------------------------------------------------------

    def begin(self, prompt: Prompt) -> RunningTurn:
        """Begin the turn of a prompt."""
        timeout_s, trace = self.turn_timeout_s, self._traced(prompt)
        context = TurnContext(
            text=prompt.text,
            request_id=prompt.request_id,
            session=self.context,
            model=self.model,
            history=self.history.all(),
            tools=self.parts.tools.specs(),
            attachments=prompt.attachments,
            fence=self.entry_fence,
            traceparent=None if trace is None else trace.traceparent,
        )
        deadline_s = self.service.clock.monotonic() + timeout_s
        turn = self.turn = RunningTurn(
            context, self.parts, deadline_s=deadline_s, api_key=prompt.api_key, trace=trace
        )
        files = tuple(each.without_content for each in prompt.attachments)
        if self.record is not None:
            self.record.begin(prompt.request_id)
        self.history.add(Message("user", prompt.text, attachments=files))
        if self.record is not None:
            self.record.begun()
        self.log.append_shortened(PromptReceived(prompt.text, files), request_id=prompt.request_id)
        if prompt.request_id == self._latest_request:
            self._latest_index = self.log.last_index
        self.log.append_shortened(AgentStart(), request_id=prompt.request_id)
        late = StopReason("deadline", error="deadline", silent=True)
        self._deadline_timer = asyncio.get_running_loop().call_later(timeout_s, turn.stop, late)
        # One that was aborted when its prompt was accepted but had not begun stops at once.
        stop, self._stop_next = self._stop_next, None
        if stop is not None:
            turn.stop(stop)
        return turn

    def finish(self, turn: RunningTurn, stop: StopReason | None = None) -> None:
        """End a turn, well or with the reason of a stop. What was finished stays as it is."""
        if turn.phase is TurnPhase.FINISHED:
            return
        if stop is None and turn.refuses_end():
            stop = turn.stopped
        self.parts.approvals.dismiss_all()
        self.parts.questions.dismiss_all()
        last, tokens = turn.close(), turn.counters.turn_tokens
        self.service.attachments.give(self.tenant_id, turn.context.attachments)
        self.turn = None
        if stop is None:
            self.log.append_shortened(AgentEnd(last, tokens), request_id=turn.request_id)
        else:
            if stop.error is not None:
                self.log.append_shortened(Error(stop.error), request_id=turn.request_id)
            self.log.append_shortened(AgentAbort(stop.reason), request_id=turn.request_id)
        end = TurnEnd.of(
            turn.request_id,
            stop,
            text=last.content,
            tokens=tokens,
            log=self.log,
            last_position=self.history.last_position,
        )
        self.ends.add(end)
        self.counters.turns += 1
        if self.record is not None:
            for memory in turn.memories.left:
                self.record.remember(turn.request_id, memory)
            turn.memories.on_late = partial(self.record.remember, turn.request_id)
            self.record.finish(
                end,
                usage=turn.counters,
                totals=self.counters,
                state="completed" if stop is None else "failed",
            )
        self.parts.steering_texts.clear()
        self._cancel_deadline()
        self._idle_if_unused()

    def _cancel_deadline(self) -> None:
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
            self._deadline_timer = None

    # -- agents: what one does by itself, AgentListener ---------------------------------------

    def on_model_changed(self, model: str) -> None:
        """Go by what the agent says: another model answers from here on."""
        if self.phase is SessionPhase.ENDED or model == self.model:
            return
        former, self.model = self.model, model
        self.service.update_model(self, model)
        self._on_model_stored(ModelSwitched(former, model))
        if self.turn is not None:
            self.turn.model = model

    def on_option_changed(self, option_id: str, value: str | bool) -> None:
        """Tell that the agent has set one of its options otherwise."""
        if self.phase is not SessionPhase.ENDED:
            self._append_to_turn(OptionChanged(option_id, value))

    def on_out_of_turn(self, event: OutOfTurn) -> None:
        """Let out what the agent said between two turns, where no filter refuses it."""
        guardrails = self.service.guardrails
        if self.phase is not SessionPhase.ENDED:
            with suppress(GuardrailRefused):
                if guardrails is not None:
                    OutputFilter(guardrails, self.tenant_id).check(event.text)
                self.log.append_shortened(event)

    # -- agents: called by the supervisor ----------------------------------------------------

    def bind_entry(self, entry: Session) -> None:
        """Go by the registry's entry of an agent: its process. With the first the session lives."""
        self._pid = entry.pid
        if self.service.node is None:
            self._entry_fence = entry.fence
        if self.phase is SessionPhase.OPENING:
            self.phase = self.phase.to(SessionPhase.LIVE)

    def bind_fence(self, fence: int) -> None:
        """Go by the cluster's fence of an agent's entry."""
        self._entry_fence = fence

    def interrupt(self, reason: ExitReason) -> None:
        """End the turn under way, because its agent has ended, and wait for the next agent."""
        self.phase = self.phase.to(SessionPhase.RESTARTING)
        self._pid = None
        self.expiry.busy()
        self._abort_for(reason)
        self._on_changed()

    def leave(self, reason: ExitReason) -> None:
        """Be dormant: its agent has ended for this reason, and none follows now."""
        self._abort_for(reason)
        self.phase = self.phase.to(SessionPhase.DORMANT)
        self._pid = self.ending_reason = None
        self.expiry.cancel()
        if self.record is not None:
            self.record.leave()
        self._on_changed()

    def begin_resuming(self) -> None:
        """Wait for an agent: it is dormant, and somebody asked something."""
        self.phase = self.phase.to(SessionPhase.RESTARTING)
        self._on_changed()

    def stay_dormant(self) -> None:
        """Wait for an agent no longer: none could be started."""
        self.phase = self.phase.to(SessionPhase.DORMANT)
        self._on_changed()

    def resume(self, reason: ExitReason, *, memory: MemoryOutcome | None = None) -> None:
        """Go on with a new agent, after the last has ended for this reason."""
        self.phase = self.phase.to(SessionPhase.LIVE)
        self.restarts += 1
        self.prompts.go_on()
        if self.record is not None:
            self.log.begin_epoch(self.service.next_fence())
            self.record.begin_epoch()
            if self.expiry.over:
                self.expiry = self._new_expiry()
        self.log.append_shortened(AgentRestarted(reason.public_text, self.restarts, memory))
        self._idle_if_unused()

    def begin_ending(self, reason: ExitReason) -> None:
        """Take nothing new from now on; the session ends for this reason."""
        self.phase = self.phase.to(SessionPhase.ENDING)
        self.ending_reason = reason
        self._on_changed()

    def end(self, reason: ExitReason) -> None:
        """End the conversation: the turn under way, the queue, the stream. The first end counts."""
        if self.phase is SessionPhase.ENDED:
            return
        self.ending_reason = reason
        self.phase = self.phase.to(SessionPhase.ENDED)
        self.expiry.cancel()
        never_begun = self.prompts.clear()
        self._abort_for(reason)
        self.log.append_shortened(SessionEnd(reason.public_text))
        self.log.close()
        for prompt in never_begun:
            self.service.attachments.give(self.tenant_id, prompt.attachments)
            stop = StopReason(reason.public_text)
            end = TurnEnd.of(prompt.request_id, stop, tokens=TurnTokens(), log=self.log)
            self.ends.add(end)
            if self.record is not None:
                unused = Counters()
                self.record.finish(end, usage=unused, totals=self.counters, state="cancelled")
        if self.record is not None and reason.kind is ExitKind.DELETED:
            self.record.erase()
        elif self.record is not None:
            self.record.end(reason)
        # Its stream may be replayed for a while; nobody asks for the rest any more.
        self.history.clear()
        self.parts.tools.clear()

    # -- within ------------------------------------------------------------------------------

    def _require_open(self) -> None:
        if self.ending_reason is not None:
            raise SessionDead(self.session_id, reason=self.ending_reason)

    def _traced(self, prompt: Prompt) -> TurnTrace | None:
        """Begin the trace of a prompt's turn, where there are traces."""
        if (tracer := self.service.tracer) is None:
            return None
        queued_s = self.service.clock.monotonic() - prompt.accepted_s
        return tracer.begin_turn(self, origin=prompt.origin, queued_s=queued_s)

    def _answer(self, approval_id: str, answer: Approval, api_key: str | None) -> None:
        self._require_open()
        filtered = msgspec.structs.replace(answer, reason=self._filtered(answer.reason))
        self.parts.approvals.answer(approval_id, filtered)
        self._count_turn_for(api_key)

    def _filtered(self, value: T) -> T:
        return filtered(value, service=self.service, tenant_id=self.tenant_id)

    def _count_turn_for(self, api_key: str | None) -> None:
        """Let what the turn under way uses from now on count for the key that acts on it.

        Nobody can so let another key pay for what it asks for, and a revoked one pays no more.
        """
        if self.turn is not None:
            self.turn.api_key = api_key or self.api_key

    def _append_to_turn(self, event: Event) -> None:
        """Append an event that belongs to the turn under way, where there is one."""
        self.log.append_shortened(
            event, request_id=None if self.turn is None else self.turn.request_id
        )

    def _on_model_stored(self, event: ModelSwitched) -> None:
        if self.record is not None:
            self.record.change(model=event.to_model)
        self._append_to_turn(event)

    @property
    def options(self) -> StoredOptions:
        """Return what its next agent needs to know beside its messages."""
        tools, took = self.parts.tools, self._took
        return StoredOptions(
            context=self.context,
            tools=tools.attached(),
            tool_keys=tools.keys(),
            inherited=0 if took is None else took.inherited,
            remembered=0 if took is None else took.remembered,
        )

    def _on_tools_changed(self, event: ToolAttached | ToolDetached) -> None:
        if self.record is not None:
            self.record.change(options=self.options)
        self._append_to_turn(event)
        if self.turn is not None:
            self.turn.on_tools_changed()

    def _abort_for(self, reason: ExitReason) -> None:
        """End the turn under way because of the end of its agent, or of its session."""
        if self.turn is not None:
            text = reason.public_text
            failed = reason.kind in CRASHES
            stop = StopReason("agent_ended" if failed else text, error=text if failed else None)
            self.finish(self.turn, self.turn.stopped or stop)

    def _on_changed(self) -> None:
        if self.service.observer is not None:
            self.service.observer.on_changed(self)

    def _on_reader_closed(self) -> None:
        self._readers -= 1
        self._idle_if_unused()

    def _idle_if_unused(self) -> None:
        """Begin the idle time where nothing is under way and nobody listens."""
        if not self.busy and not self._readers and self.phase is not SessionPhase.ENDED:
            self.expiry.idle()
