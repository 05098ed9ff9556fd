"""What sessions and turns do, counted: an observer of the session service, and a meter.

Above the instruments. An event costs an addition, the pieces of a message included; what sessions
are doing now is looked at once a second, of those in which something has happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from frontdesk.agents.events import (
    AgentAbort,
    AgentEnd,
    AgentRestarted,
    ApprovalRequired,
    ApprovalResolved,
    Error,
    Event,
    MessageDelta,
    PromptReceived,
    SessionEnd,
    ThinkingDelta,
)
from frontdesk.agents.records import NO_USAGE, TokenUsage
from frontdesk.agents.restart import CRASHES
from frontdesk.clock import Clock
from frontdesk.gateway.metrics.bounded_labels import OfferedNames, TenantNames
from frontdesk.gateway.metrics.instruments import Distribution, Tally
from frontdesk.gateway.metrics.metric_cells import MetricCells
from frontdesk.records import ExitKind, ExitReason
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.event_log import LoggedEvent
from frontdesk.sessions.hooks import Meter
from frontdesk.sessions.phases import SessionPhase

FAILURES = CRASHES | {ExitKind.LOST}
"""Ends that somebody wants to hear of: they are there as 0 from the first session on."""
WAITING = frozenset({"waiting_approval", "waiting_input"})
STOPS = frozenset({"deadline", "error", "guardrail", "agent_ended"})
"""Why a turn may have failed; an `error` event comes before its end then."""


class SessionNumbers(NamedTuple):
    """What one session adds to the gauges."""

    tenant: str
    state: str
    queued: int
    approvals: int
    processes: int


class _Turn:
    """A turn under way."""

    __slots__ = ("approvals", "begun_s", "failed")

    def __init__(self, begun_s: float) -> None:
        self.begun_s, self.failed = begun_s, False
        self.approvals: dict[str, float] = {}


class SessionMetrics:
    """See sessions and count. A `SessionObserver`; belongs to one event loop."""

    def __init__(
        self, cells: MetricCells, *, clock: Clock, tenants: TenantNames, offered: OfferedNames
    ) -> None:
        self._clock, self._tenants, self._offered = clock, tenants, offered
        self._sessions = Tally("frontdesk_sessions", cells)
        self._starts = Tally("frontdesk_session_starts_total", cells)
        self._left = Tally("frontdesk_session_dormant_total", cells)
        self._resumes = Tally("frontdesk_session_resumes_total", cells)
        self._interrupted = Tally("frontdesk_turns_interrupted_total", cells)
        self._ends = Tally("frontdesk_session_ends_total", cells)
        self._dormant_ends = Tally("frontdesk_session_dormant_ends_total", cells)
        self._start_s = Distribution("frontdesk_session_start_seconds", cells)
        self._cleanup_s = Distribution("frontdesk_cleanup_seconds", cells)
        self._processes = Tally("frontdesk_agent_processes", cells)
        self._outcomes = Tally("frontdesk_turns_total", cells)
        self._turn_s = Distribution("frontdesk_turn_seconds", cells)
        self._first_s = Distribution("frontdesk_first_output_seconds", cells)
        self._queued = Tally("frontdesk_prompts_queued", cells)
        self._approvals = Tally("frontdesk_approvals_pending", cells)
        self._wait_s = Distribution("frontdesk_approval_wait_seconds", cells)
        # Added to directly: the pieces of messages come by the hundred thousand.
        self._values, self._events = cells.values, Tally("frontdesk_events_total", cells).cell()
        self._turns: dict[Conversation, _Turn] = {}
        self._silent: set[Conversation] = set()
        """Those whose turn has put nothing out yet."""
        self._dormant: set[Conversation] = set()
        """Those without an agent: their ends are none of sessions that live."""
        self._changed: set[Conversation] = set()
        self._counted: dict[Conversation, SessionNumbers] = {}
        self._on: dict[type[Event], Callable[[Conversation, Any], None]] = {
            PromptReceived: self._on_turn,
            Error: self._on_error,
            ApprovalRequired: self._on_approval_required,
            ApprovalResolved: self._on_approval_resolved,
            AgentEnd: self._on_turn_end,
            AgentAbort: self._on_turn_end,
            AgentRestarted: self._on_restarted,
            SessionEnd: self._on_session_end,
        }

    # -- what it sees ----------------------------------------------------------------------------

    def on_started(self, conversation: Conversation) -> None:
        """See a session that lives from now on; one that was dormant was counted before."""
        self._changed.add(conversation)
        self._dormant.discard(conversation)
        labels = self._labels_of(conversation)
        for kind in FAILURES:
            self._ends.begin(*labels, kind.value)
        if conversation.record is not None:
            self._left.begin(*labels, ExitKind.LOST.value)
        if conversation.phase is SessionPhase.RESTARTING:
            return
        self._starts.add(*labels)
        self._start_s.observe(self._clock.monotonic() - conversation.born_s)

    def on_event(self, conversation: Conversation, event: Event, logged: LoggedEvent) -> None:  # noqa: ARG002
        """See an event."""
        self._values[self._events] += 1.0
        kind = type(event)
        if kind is MessageDelta or kind is ThinkingDelta:
            if conversation in self._silent:
                self._on_first_output(conversation)
            return
        see = self._on.get(kind)
        if see is not None:
            see(conversation, event)
        self._changed.add(conversation)

    def on_changed(self, conversation: Conversation) -> None:
        """See that a prompt waits, that a session restarts, or begins to end."""
        if conversation.phase is SessionPhase.RESTARTING:
            self._on_agent_death(conversation)
        self._changed.add(conversation)

    def on_published(self, conversation: Conversation) -> None:
        """See nothing of it: what happened is counted, stored or not."""

    def on_dormant(self, conversation: Conversation, reason: ExitReason) -> None:
        """See that a session is dormant from now on."""
        self._left.add(*self._labels_of(conversation), reason.kind.value)
        self._on_agent_death(conversation)
        self.on_loaded(conversation)

    def on_loaded(self, conversation: Conversation) -> None:
        """See a dormant session, which prompts and approvals may wait in."""
        self._dormant.add(conversation)
        self._changed.add(conversation)

    def on_unloaded(self, conversation: Conversation) -> None:
        """See it no longer; a turn that was set aside goes on in another `Conversation`."""
        for each in (self._dormant, self._changed, self._silent):
            each.discard(conversation)
        self._turns.pop(conversation, None)
        if (former := self._counted.pop(conversation, None)) is not None:
            self._add(former, -1)

    def on_recovered(self, *, conversations: int, turns: int) -> None:  # noqa: ARG002
        """Count the turns that an earlier process had begun."""
        self._interrupted.add(amount=turns)

    def _on_restarted(self, conversation: Conversation, event: AgentRestarted) -> None:
        if event.memory is not None and conversation.left_for is not None:
            self._resumes.add(*self._labels_of(conversation), event.memory)

    def _on_turn(self, conversation: Conversation, _: Event) -> None:
        self._turns[conversation] = _Turn(self._clock.monotonic())
        self._silent.add(conversation)

    def _on_first_output(self, conversation: Conversation) -> None:
        self._silent.discard(conversation)
        turn = self._turns[conversation]
        self._first_s.observe(self._clock.monotonic() - turn.begun_s)

    def _on_error(self, conversation: Conversation, _: Event) -> None:
        if (turn := self._turns.get(conversation)) is not None:
            turn.failed = True

    def _on_approval_required(self, conversation: Conversation, asked: ApprovalRequired) -> None:
        if (turn := self._turns.get(conversation)) is not None:
            turn.approvals[asked.approval_id] = self._clock.monotonic()

    def _on_approval_resolved(self, conversation: Conversation, answer: ApprovalResolved) -> None:
        turn = self._turns.get(conversation)
        asked_s = None if turn is None else turn.approvals.pop(answer.approval_id, None)
        if asked_s is not None:
            self._wait_s.observe(self._clock.monotonic() - asked_s)

    def _on_turn_end(self, conversation: Conversation, event: AgentEnd | AgentAbort) -> None:
        self._silent.discard(conversation)
        turn = self._turns.pop(conversation, None)
        if turn is None:
            return
        self._turn_s.observe(self._clock.monotonic() - turn.begun_s)
        outcome = _outcome(conversation, event, failed=turn.failed)
        self._outcomes.add(*self._labels_of(conversation), outcome)

    def _on_session_end(self, conversation: Conversation, _: Event) -> None:
        reason = conversation.ending_reason
        assert reason is not None, "it has ended"
        labels = self._labels_of(conversation)
        self._ends.add(*labels, reason.kind.value)
        if conversation in self._dormant:
            self._dormant.remove(conversation)
            self._dormant_ends.add(*labels)
        self._on_agent_death(conversation)

    def _labels_of(self, conversation: Conversation) -> tuple[str, str]:
        return (
            self._tenants.label(conversation.tenant_id),
            self._offered.blueprint(conversation.blueprint),
        )

    def _on_agent_death(self, conversation: Conversation) -> None:
        if conversation.cleanup_s is not None:
            self._cleanup_s.observe(conversation.cleanup_s)

    # -- what there is now -----------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the sessions in which something has happened, and bring the gauges up to date."""
        changed, self._changed = self._changed, set()
        for conversation in changed:
            former, now = self._counted.get(conversation), self._numbers(conversation)
            if now is not None and now.state in WAITING:
                # No event tells of an answer to a question.
                self._changed.add(conversation)
            if now == former:
                continue
            if former is not None:
                self._add(former, -1)
                del self._counted[conversation]
            if now is not None:
                self._add(now, 1)
                self._counted[conversation] = now

    def _numbers(self, conversation: Conversation) -> SessionNumbers | None:
        """Return what a session adds now; None where it neither lives nor has something waiting.

        The state of a dormant one is "": it is none of those that live.
        """
        if conversation.phase in (SessionPhase.OPENING, SessionPhase.ENDED):
            return None
        waits = conversation.prompts or conversation.parts.approvals
        if conversation.dormant and not waits:
            return None
        ending = conversation.phase is SessionPhase.ENDING
        return SessionNumbers(
            tenant=self._tenants.label(conversation.tenant_id),
            state="" if conversation.dormant else "stopping" if ending else conversation.state,
            queued=len(conversation.prompts),
            approvals=len(conversation.parts.approvals),
            processes=int(conversation.pid is not None),
        )

    def _add(self, numbers: SessionNumbers, sign: int) -> None:
        if numbers.state:
            self._sessions.add(numbers.tenant, numbers.state, amount=sign)
        self._queued.add(amount=sign * numbers.queued)
        self._approvals.add(amount=sign * numbers.approvals)
        self._processes.add(amount=sign * numbers.processes)


def _outcome(conversation: Conversation, event: AgentEnd | AgentAbort, *, failed: bool) -> str:
    """Return how a turn ended. A client's own words for an abort are its own: they say nothing."""
    if isinstance(event, AgentEnd):
        return "completed"
    if failed and event.reason in STOPS:
        return event.reason
    if conversation.ending_reason is not None:
        return "agent_ended" if conversation.leaving else "session_ended"
    return "agent_ended" if conversation.restarting else "aborted"


class CountedMeter:
    """A meter that counts tokens and cost in metrics too."""

    def __init__(
        self, meter: Meter, cells: MetricCells, *, tenants: TenantNames, offered: OfferedNames
    ) -> None:
        self._meter, self._tenants, self._offered = meter, tenants, offered
        self._tokens = Tally("frontdesk_tokens_total", cells)
        self._cost = Tally("frontdesk_cost_usd_total", cells)

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
        """Count, and have it counted for the key and its tenant."""
        self._meter.record(
            tenant_id=tenant_id,
            api_key=api_key,
            model=model,
            prompts=prompts,
            tokens=tokens,
            unknown_turns=unknown_turns,
        )
        if tokens is NO_USAGE:
            return
        labels = self._tenants.label(tenant_id), self._offered.model(model)
        cached = min(tokens.cached, tokens.prompt)
        self._tokens.add(*labels, "prompt", amount=tokens.prompt - cached)
        self._tokens.add(*labels, "cached", amount=cached)
        self._tokens.add(*labels, "completion", amount=tokens.completion)
        self._cost.add(*labels, amount=tokens.cost_usd)
