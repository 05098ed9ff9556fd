"""What one session is: its parts, where it stands, and what can be read of it.

Below `session_turns.py`, where its turns begin and end, and `conversation.py`, where it is asked to
do something. Here nothing happens.
"""

from __future__ import annotations

import asyncio
from functools import partial
from math import inf

import msgspec

from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.events import Event
from frontdesk.agents.ids import registry_key
from frontdesk.agents.records import SessionContext, State, TurnContext
from frontdesk.records import ExitReason, Session
from frontdesk.sessions.attachment_room import TakesType
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.conversation_record import ConversationRecord, StoredOptions, attachments_in
from frontdesk.sessions.counters import Counters
from frontdesk.sessions.earlier_life import EarlierLife, EarlierTurn
from frontdesk.sessions.event_log import EventLog
from frontdesk.sessions.expiry import Expiry, LifeTimes
from frontdesk.sessions.forking import ForkSource
from frontdesk.sessions.history import History
from frontdesk.sessions.phases import SessionPhase
from frontdesk.sessions.queue import Prompt, PromptQueue
from frontdesk.sessions.recovery import counters_in
from frontdesk.sessions.running_turn import RunningTurn
from frontdesk.sessions.session_snapshot import SessionSnapshot
from frontdesk.sessions.stop_reason import INTERRUPTED, StopReason
from frontdesk.sessions.suspended_turn import SuspendedTurn
from frontdesk.sessions.turn_ends import TurnEnds
from frontdesk.sessions.turn_parts import TurnParts


class SessionState:
    """What one session is. See `Conversation`, which is all of it."""

    __slots__ = (
        "__weakref__",
        "_deadline_timer",
        "_entry_fence",
        "_latest_index",
        "_latest_request",
        "_pid",
        "_readers",
        "_stop_next",
        "_took",
        "_wanted",
        "api_key",
        "blocked",
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
        "last_activity_at",
        "leaving",
        "left_for",
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
        "suspended",
        "takes",
        "tenant_id",
        "turn",
        "unreadable",
    )
    _deadline_timer: asyncio.TimerHandle | None
    _latest_index: int | None
    _latest_request: str | None
    _pid: int | None
    _stop_next: StopReason | None
    _took: StoredOptions | None
    _wanted: bool
    """Whether a prompt came while its agent was being ended."""
    api_key: str | None
    blocked: str | None
    """Why it is dormant and no agent can be had; None where nothing is known of that."""
    born_s: float
    cleanup_s: float | None
    """From its last agent's death to the end of its entry; None where that was brought about."""
    context: SessionContext
    counters: Counters
    created_at: int
    ending_reason: ExitReason | None
    """Why it ends or has ended; None while it does not."""
    forked_from: str | None
    """The session that it is a copy of."""
    history: History
    label: str | None
    last_activity_at: int
    """When a turn was asked for, began or ended, or an agent came or left; in milliseconds."""
    leaving: bool
    """Whether its agent is being ended, and not the conversation: it will be dormant."""
    left_for: str | None
    """Why it has no agent, where it is dormant."""
    log: EventLog
    model: str
    number: int
    """Its place among its tenant's sessions: greater than that of any session before it."""
    parts: TurnParts
    phase: SessionPhase
    record: ConversationRecord | None
    restarts: int
    rules: Blueprint
    """The blueprint, as it was when the session was opened."""
    service: ServiceContext
    session_id: str
    suspended: SuspendedTurn | None
    """What its turn waits for that another agent began; None where it has none such."""
    takes: TakesType | None
    """Says which attachments its agent takes, where that is fewer than its blueprint says."""
    tenant_id: str
    turn: RunningTurn | None
    """The turn under way."""
    unreadable: str | None
    """Why what its next agent needs cannot be decrypted."""

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
        self.number, self.service, self.rules = number, service, blueprint
        self.created_at, self.born_s = service.clock.wall_ms(), service.clock.monotonic()
        self.last_activity_at, self.phase = self.created_at, SessionPhase.OPENING
        self.label = self.blocked = self.ending_reason = None
        self.forked_from, self._took = None, None if life is None else life.options
        self.restarts = self._entry_fence = self._readers = 0
        self.takes = self._pid = self.turn = self.suspended = None
        self.left_for = self.unreadable = None
        self.leaving = self._wanted = False
        self.parts = TurnParts.make(
            context, service=service, number=number, stored=stored, life=life
        )
        self.record, self.log, self.history = self.parts.record, self.parts.log, self.parts.history
        if (observer := service.observer) is not None:
            self.log.on_append = partial(observer.on_event, self)
        self.counters = self.parts.counters
        self.prompts: PromptQueue = PromptQueue()
        self.ends: TurnEnds = TurnEnds()
        self._stop_next = self._deadline_timer = None
        self._latest_request = self._latest_index = self.cleanup_s = None
        if life is not None:
            self._go_on_from(life)
        self.expiry: Expiry = self._new_expiry()
        if self.record is not None:
            self.record.publish(self.snapshot, self._on_published)
            key = registry_key(self.tenant_id, self.session_id)
            self.record.on_grown = partial(service.on_grown, key)

    def _new_expiry(self) -> Expiry:
        rules, service = self.rules, self.service
        times = LifeTimes(rules.idle_timeout_s, rules.unused_timeout_s, rules.max_age_s)
        if self.dormant:
            times = LifeTimes(age_s=rules.max_age_s)
        elif self.phase is SessionPhase.ENDED:
            times = LifeTimes()
        return Expiry(
            times,
            clock=service.clock,
            born_s=self.born_s,
            expire=lambda: service.expire(self),
            used=self.counters.prompts > 0,
        )

    def take_over(self, source: ForkSource) -> None:
        """Begin as a copy of another session: before anything else is said."""
        self.forked_from = source.session_id
        for message in source.messages:
            self.history.add(message)
        if self.record is not None:
            for each in source.memories:
                self.record.remember(each.request_id, each.memory, position=each.position)
        self.parts.tools.restore(source.options.tools, keys=source.options.tool_keys)
        inherited = self.history.last_position
        self._took = msgspec.structs.replace(source.options, inherited=inherited)

    def _go_on_from(self, life: EarlierLife) -> None:
        """Be what was stored: dormant, or ended, with what waits in its queue."""
        stored = life.stored
        self.model, self.created_at, self.label = stored.model, stored.created_at_ms, stored.label
        self.last_activity_at = stored.last_activity_ms
        self.forked_from, self.unreadable = stored.forked_from, stored.unreadable
        self.restarts = life.options.restarts
        self.left_for = life.ended_before or life.options.left_for or INTERRUPTED
        self.born_s -= max(0, self.service.clock.wall_ms() - stored.created_at_ms) / 1000
        if life.latest is not None:
            self._latest_request = life.latest.request_id
            self._latest_index = life.latest.first_index or None
        if (reason := life.ended) is not None:
            self.ending_reason, self.phase = reason, self.phase.to(SessionPhase.ENDED)
            self.log.close()
            return
        self.phase = self.phase.to(SessionPhase.DORMANT)
        if self.record is not None:
            self.record.stored_bytes = stored.held_bytes
        if life.suspended is not None:
            self._wait_on(life.suspended)
        for turn in life.waiting:
            files = attachments_in(turn.attachments)
            self.service.attachments.readmit(self.tenant_id, files)
            self.prompts.put(Prompt(turn.request_id, turn.text, turn.api_key, files))
            self.ends.expect(turn.request_id)

    def _wait_on(self, earlier: EarlierTurn) -> None:
        """Wait for the answers to what a turn asked whose agent is lost; then wake."""
        stored = earlier.stored
        assert stored is not None, "it was read from the storage"
        files = attachments_in(stored.attachments)
        self.service.attachments.readmit(self.tenant_id, files)
        self.ends.expect(stored.request_id)
        context = TurnContext(
            text=stored.text,
            request_id=stored.request_id,
            session=self.context,
            model=self.model,
            attachments=files,
        )
        self.turn = RunningTurn(context, self.parts, deadline_s=inf, api_key=stored.api_key)
        self.turn.counters = counters_in(stored.usage or b"")
        self._suspend(earlier)

    def _suspend(self, earlier: EarlierTurn) -> None:
        self.suspended = SuspendedTurn(earlier, self.parts)
        self.suspended.answered.add_done_callback(lambda _: self._wake_if_wanted())

    def _wake_if_wanted(self) -> None:
        if self.dormant and self.wants_agent:
            self.service.wake(self)

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

    def load(self) -> None:
        """Be loaded again, dormant as it was left by `unload`."""
        self.expiry = self._new_expiry()
        for prompt in self.prompts:
            self.service.attachments.readmit(self.tenant_id, prompt.attachments)
        if self.record is not None:
            self.record.follow()

    def unload(self) -> None:
        """Take nothing that another object for the same conversation would take again."""
        self.expiry.cancel()
        for prompt in self.prompts:
            self.service.attachments.give(self.tenant_id, prompt.attachments)
        if self.turn is not None:
            # It waits on elsewhere: what is late there must not be written from here as well.
            self.service.attachments.give(self.tenant_id, self.turn.context.attachments)
            self.parts.approvals.drop_all()
            self.parts.questions.drop_all()
        if self.record is not None:
            self.record.close()

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
    def live(self) -> bool:
        """Say whether an agent answers in it now, or the next one is being started."""
        return self.phase not in (SessionPhase.DORMANT, SessionPhase.ENDED)

    @property
    def turn_messages(self) -> int:
        """Return how many of the newest messages are of the turn under way; its prompt is one."""
        held = 0 if self.record is None else self.record.held_messages
        return 0 if self.turn is None else 1 + held

    @property
    def restarting(self) -> bool:
        """Say whether it is between two agents, or waits for one that is asked for already."""
        return self.phase is SessionPhase.RESTARTING or (self.dormant and self.wants_agent)

    @property
    def wants_agent(self) -> bool:
        """Say whether there is something for an agent to do."""
        if self.suspended is not None:
            return self.suspended.answered.done()
        return len(self.prompts) > 0

    @property
    def pid(self) -> int | None:
        """Return the process of its own that the agent runs in; None for a task."""
        return None if self.rules.isolation == "task" else self._pid

    @property
    def fence(self) -> int:
        """Return what tells two sessions of one id apart, in any life of the process."""
        return self.log.first_fence

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
    def can_be_unloaded(self) -> bool:
        """Say whether nobody would miss it, were it read from the storage when next asked for."""
        stored = self.record is not None and not self.record.backlog
        unused = not self._readers and self.turn is None and not self.ends.waited_for
        return self.dormant and stored and unused

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

    def snapshot(self) -> SessionSnapshot:
        """Return what it does, waits for and has used, now."""
        counters, parts, turn = self.counters, self.parts, self.turn
        return SessionSnapshot(
            state=self.state,
            ended=self.ended is not None,
            model=self.model,
            restarts=self.restarts,
            last_activity_at=self.last_activity_at,
            turns=counters.turns,
            prompts=counters.prompts,
            tool_calls=counters.tool_calls,
            tokens=counters.tokens,
            unknown_usage=counters.unknown_usage,
            request_id=None if turn is None else turn.request_id,
            running_tools=() if turn is None else tuple(turn.running_tools.values()),
            approvals=parts.approvals.requests(),
            questions=parts.questions.requests(),
            queued=len(self.prompts),
            steering=len(parts.steering_texts),
        )

    @property
    def public(self) -> SessionSnapshot | None:
        """Return what clients may see of it: of one that is stored as it was with the last commit.

        None for one that is being opened, and not stored yet. Whether it has an agent, and whether
        that is being started or ended, is told as it is: no crash leaves it so.
        """
        return self.snapshot() if self.record is None else self.record.public

    # -- within ------------------------------------------------------------------------------

    def _on_published(self) -> None:
        if self.service.observer is not None:
            self.service.observer.on_published(self)

    def _on_activity(self) -> None:
        self.last_activity_at = self.service.clock.wall_ms()

    def _on_changed(self) -> None:
        if self.service.observer is not None:
            self.service.observer.on_changed(self)

    def _idle_if_unused(self) -> None:
        """Begin the idle time where nothing is under way and nobody listens."""
        if not self.busy and not self._readers and self.phase is not SessionPhase.ENDED:
            self.expiry.idle()

    def _append_to_turn(self, event: Event) -> None:
        """Append an event that belongs to the turn under way, where there is one."""
        self.log.append_shortened(
            event, request_id=None if self.turn is None else self.turn.request_id
        )
