"""The life of a conversation: its parts, and how turns begin and end in it.

Above the turn and its parts, below `conversation.py`, which adds what clients may do. The runner
begins and finishes turns here, the desk interrupts, resumes and ends. Every turn that begins ends
with exactly one `agent_end` or `agent_abort`, and `session_end` is the last event of all. It
belongs to one event loop, and knows nothing of HTTP or of how its agent runs.
"""

from __future__ import annotations

import asyncio
from typing import Any

from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.events import (
    AgentAbort,
    AgentEnd,
    AgentRestarted,
    AgentStart,
    Error,
    Event,
    PromptReceived,
    SessionEnd,
    TurnTokens,
)
from frontdesk.agents.records import (
    Approval,
    CallbackTool,
    Message,
    SessionContext,
    State,
    TurnContext,
)
from frontdesk.agents.restart import CRASHES
from frontdesk.agents.usage import Usage
from frontdesk.records import ExitReason, Session
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.event_log import EventLog
from frontdesk.sessions.expiry import Expiry, LifeTimes
from frontdesk.sessions.history import History
from frontdesk.sessions.pending import PendingRequests
from frontdesk.sessions.queue import Prompt, PromptQueue
from frontdesk.sessions.reasons import public_reason
from frontdesk.sessions.running_turn import RunningTurn, StopReason, specs_of


class Lifecycle:
    """The parts of one conversation, and its turns from beginning to end."""

    __slots__ = (
        "_deadline_timer",
        "_latest_index",
        "_latest_request",
        "_pid",
        "_readers",
        "_rules",
        "_stop_next",
        "_turn",
        "api_key",
        "approvals",
        "born_s",
        "callback_tools",
        "created_at",
        "ended",
        "ending",
        "expiry",
        "history",
        "house",
        "log",
        "model",
        "options",
        "prompts",
        "questions",
        "restarting",
        "restarts",
        "session_id",
        "steering_texts",
        "tenant_id",
        "usage",
    )

    def __init__(
        self,
        facts: SessionContext,
        *,
        house: ServiceContext,
        blueprint: Blueprint,
        api_key: str | None,
    ) -> None:
        settings = house.settings
        self.session_id, self.tenant_id, self.api_key = facts.session_id, facts.tenant_id, api_key
        self.options, self.model = facts, facts.model
        self.house, self._rules = house, blueprint
        self.created_at, self.born_s = house.clock.wall_ms(), house.clock.monotonic()
        self.ended: ExitReason | None = None
        self.ending: ExitReason | None = None
        self.restarting, self.restarts = False, 0
        self._pid: int | None = None
        self.usage = Usage()
        self.log = EventLog(
            min_events=settings.min_events,
            max_bytes=settings.max_log_bytes,
            max_event_bytes=settings.max_event_bytes,
        )
        self.history = History(
            max_messages=settings.max_messages, max_characters=settings.max_history_characters
        )
        self.prompts = PromptQueue()
        self.approvals: PendingRequests[Approval] = PendingRequests("approvalId")
        self.questions: PendingRequests[Any] = PendingRequests("ref")
        self.steering_texts: list[str] = []
        self.callback_tools: dict[str, CallbackTool] = {}
        times = LifeTimes(blueprint.idle_timeout_s, blueprint.unused_timeout_s, blueprint.max_age_s)
        self.expiry = Expiry(times, clock=house.clock, expire=self._expire)
        self._readers = 0
        self._turn: RunningTurn | None = None
        self._stop_next: StopReason | None = None
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._latest_request: str | None = None
        self._latest_index: int | None = None

    # -- what it is --------------------------------------------------------------------------

    @property
    def blueprint(self) -> str:
        """Return the name of the blueprint that its agents are built from."""
        return self._rules.name

    @property
    def rules(self) -> Blueprint:
        """Return the blueprint, as it was when the session was opened."""
        return self._rules

    @property
    def pid(self) -> int | None:
        """Return the process of its own that the agent runs in; None for a task."""
        return None if self.restarting or self.rules.isolation == "task" else self._pid

    @property
    def fence(self) -> int:
        """Return the fence of its first entry in the registry: it tells two of one id apart."""
        return self.log.fence

    @property
    def turn(self) -> RunningTurn | None:
        """Return the turn under way."""
        return self._turn

    @property
    def uptime_ms(self) -> int:
        """Return how long ago the session was opened."""
        return round((self.house.clock.monotonic() - self.born_s) * 1000)

    @property
    def busy(self) -> bool:
        """Say whether a prompt that comes now has to wait."""
        return self._turn is not None or len(self.prompts) > 0 or self.restarting

    @property
    def state(self) -> State:
        """Return what the session is doing."""
        if self.restarting:
            return "restarting"
        if not self.busy:
            return "idle"
        if self.approvals:
            return "waiting_approval"
        return "waiting_input" if self.questions else "working"

    def say(self, event: Event, *, request_id: str | None = None) -> None:
        """Append an event to the log."""
        self.log.append(event, request_id=request_id)

    # -- turns: the runner's -----------------------------------------------------------------

    def begin(self, prompt: Prompt) -> RunningTurn:
        """Begin the turn of a prompt."""
        house, rules = self.house, self._rules
        timeout_s = rules.turn_timeout_s or house.settings.turn_timeout_s
        turn = RunningTurn(
            self, self._facts_of(prompt), deadline_s=house.clock.monotonic() + timeout_s
        )
        self._turn = turn
        self.history.add(Message("user", prompt.text))
        self.say(PromptReceived(prompt.text), request_id=prompt.request_id)
        if prompt.request_id == self._latest_request:
            self._latest_index = self.log.last_index
        self.say(AgentStart(), request_id=prompt.request_id)
        late = StopReason("deadline", error="deadline", silent=True)
        self._deadline_timer = asyncio.get_running_loop().call_later(timeout_s, turn.stop, late)
        self._stop_begun(turn)
        return turn

    def finish(self, turn: RunningTurn, stop: StopReason | None = None) -> None:
        """End a turn, well or with the reason of a stop. What was finished stays as it is."""
        if turn.closed:
            return
        if stop is None and turn.refuses_end():
            stop = turn.stopped
        self.approvals.dismiss_all()
        self.questions.dismiss_all()
        last = turn.close()
        self._turn = None
        if stop is not None:
            self._say_abort(stop, request_id=turn.request_id)
        else:
            self.say(AgentEnd(last, _tokens(turn.usage_of_turn)), request_id=turn.request_id)
        self._after_turn()

    # -- the desk's --------------------------------------------------------------------------

    def entered(self, entry: Session) -> None:
        """Take the fence of the registry's entry as the conversation's own, if it has none yet."""
        self._pid = entry.pid
        if not self.log.fence:
            self.log.fence = entry.fence

    def interrupt(self, reason: ExitReason) -> None:
        """End the turn under way, because its agent has ended, and wait for the next agent."""
        self.restarting = True
        self.expiry.busy()
        self._abort_for(reason)

    def resume(self, reason: ExitReason) -> None:
        """Go on with a new agent, after the last has ended for this reason."""
        self.restarting = False
        self.restarts += 1
        self.say(AgentRestarted(public_reason(reason), self.restarts))
        self._settle()

    def end(self, reason: ExitReason) -> None:
        """End the conversation: the turn under way, the queue, the stream. The first end counts."""
        if self.ended is not None:
            return
        self.ended = reason
        self.restarting = False
        self.expiry.cancel()
        self.prompts.clear()
        self._abort_for(reason)
        self.say(SessionEnd(public_reason(reason)))
        self.log.close()
        # Its stream may be replayed for a while; nobody asks for the rest any more.
        self.history.clear()
        self.callback_tools.clear()

    def _abort_for(self, reason: ExitReason) -> None:
        if self._turn is not None:
            shown = public_reason(reason)
            failed = reason.kind in CRASHES
            stop = StopReason("agent_ended" if failed else shown, error=shown if failed else None)
            self.finish(self._turn, self._turn.stopped or stop)

    # -- within ------------------------------------------------------------------------------

    def _stop_begun(self, turn: RunningTurn) -> None:
        """Stop a turn that was aborted when its prompt was accepted but had not begun."""
        stop, self._stop_next = self._stop_next, None
        if stop is not None:
            turn.stop(stop)

    def _facts_of(self, prompt: Prompt) -> TurnContext:
        return TurnContext(
            text=prompt.text,
            request_id=prompt.request_id,
            session=self.options,
            model=self.model,
            history=self.history.all(),
            tools=specs_of(self.callback_tools),
        )

    def _say_abort(self, stop: StopReason, *, request_id: str) -> None:
        if stop.error is not None:
            self.say(Error(stop.error), request_id=request_id)
        self.say(AgentAbort(stop.reason), request_id=request_id)

    def _after_turn(self) -> None:
        self.usage.turns += 1
        self.steering_texts.clear()
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
            self._deadline_timer = None
        self._settle()

    def _settle(self) -> None:
        """Begin the idle time where nothing is under way and nobody listens."""
        if not self.busy and not self._readers and self.ended is None:
            self.expiry.idle()

    def _expire(self) -> None:
        self.house.expire(self)


def _tokens(used: Usage) -> TurnTokens:
    return TurnTokens(used.prompt_tokens, used.completion_tokens, used.total_tokens)
