"""The turns of one session: each begins and ends here, once.

Above what the session is (`session_state.py`), below what it is asked to do (`conversation.py`).
Called by the runner, and by whoever ends its agent.
"""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec

from frontdesk.agents.events import (
    AgentAbort,
    AgentEnd,
    AgentStart,
    Error,
    PromptReceived,
    TurnTokens,
)
from frontdesk.agents.records import Memory, Message, TurnContext
from frontdesk.agents.restart import CRASHES
from frontdesk.records import ExitReason
from frontdesk.sessions.conversation_record import ConversationRecord
from frontdesk.sessions.counters import Counters
from frontdesk.sessions.earlier_life import EarlierTurn
from frontdesk.sessions.hooks import TurnTrace
from frontdesk.sessions.phases import TurnPhase
from frontdesk.sessions.queue import Prompt
from frontdesk.sessions.running_turn import RunningTurn
from frontdesk.sessions.session_state import SessionState
from frontdesk.sessions.stop_reason import StopReason
from frontdesk.sessions.suspended_turn import SuspendedTurn
from frontdesk.sessions.turn_ends import TurnEnd


class SessionTurns(SessionState):
    """A session that runs turns. See `Conversation`, which is all of it."""

    __slots__ = ()
    last_activity_at: int
    suspended: SuspendedTurn | None

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
        self._set_deadline(turn, timeout_s)
        # One that was aborted when its prompt was accepted but had not begun stops at once.
        stop, self._stop_next = self._stop_next, None
        if stop is not None:
            turn.stop(stop)
        return turn

    def go_on(self, turn: RunningTurn, suspended: SuspendedTurn, memory: Memory) -> RunningTurn:
        """Begin again the turn that another agent began: what it asked is answered."""
        earlier, timeout_s = suspended.earlier, self.turn_timeout_s
        self.suspended = None
        context = msgspec.structs.replace(
            turn.context,
            model=self.model,
            history=self.history.all()[: -self.turn_messages],
            tools=self.parts.tools.specs(),
            fence=self.entry_fence,
            suspended=suspended.suspended(memory),
        )
        if self.record is not None:
            # Stored before its agent gets it: from here on it is cut off like any other.
            self.record.resume(turn.request_id)
        self._add_messages(earlier)
        deadline_s = self.service.clock.monotonic() + timeout_s
        turn.go_on(context, deadline_s=deadline_s, text=earlier.text)
        self._set_deadline(turn, timeout_s)
        self._on_changed()
        return turn

    def suspend(self, turn: RunningTurn) -> bool:
        """Have a turn wait on without its agent; false where no other could go on with it."""
        if self.suspended is None and turn is self.turn and turn.stopped is None:
            earlier = turn.suspended()
            if earlier is not None:
                self._cancel_deadline()
                self._suspend(earlier)
        return turn is self.turn and self.suspended is not None

    def set_aside(self) -> None:
        """Have the turn under way wait on, where it can: it is over for its agent, which ends."""
        turn = self.turn
        if turn is not None and self.suspended is None and self.suspend(turn):
            self.turn = turn.set_aside()

    def _add_messages(self, earlier: EarlierTurn) -> None:
        if self.record is not None:
            self.record.begun()
        for message in earlier.messages:
            self.history.add(message)

    def _set_deadline(self, turn: RunningTurn, timeout_s: float) -> None:
        late = StopReason("deadline", error="deadline", silent=True)
        self._deadline_timer = asyncio.get_running_loop().call_later(timeout_s, turn.stop, late)

    def finish(self, turn: RunningTurn, stop: StopReason | None = None) -> None:
        """End a turn, well or with the reason of a stop. What was finished stays as it is."""
        if turn.phase is TurnPhase.FINISHED:
            return
        if stop is None and turn.refuses_end():
            stop = turn.stopped
        suspended, self.suspended = self.suspended, None
        if suspended is not None:
            self._add_messages(suspended.earlier)
        self.parts.approvals.dismiss_all()
        self.parts.questions.dismiss_all()
        last, tokens = turn.close(), turn.counters.turn_tokens
        self.service.attachments.give(self.tenant_id, turn.context.attachments)
        self.turn, self.last_activity_at = None, self.service.clock.wall_ms()
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
        self._store_end(turn, end)
        self.parts.steering_texts.clear()
        self._cancel_deadline()
        self._idle_if_unused()
        self._wake_if_wanted()

    def _store_end(self, turn: RunningTurn, end: TurnEnd) -> None:
        if self.record is None:
            return
        remember = partial(self.record.remember, turn.request_id, position=end.last_position)
        for memory in turn.memories.left:
            remember(memory)
        fence = self.log.fence

        def remember_late(memory: Memory) -> None:
            if self.log.fence == fence:  # else another agent has gone on without it
                remember(memory)

        turn.memories.on_late = remember_late
        self.record.finish(
            end,
            usage=turn.counters,
            totals=self.counters,
            state="completed" if end.aborted is None else "failed",
            attachments=turn.context.attachments,
        )
        self.service.on_turn_stored(self)

    def _cancel_deadline(self) -> None:
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
            self._deadline_timer = None

    def _abort_for(self, reason: ExitReason) -> None:
        """End the turn under way because of the end of its agent, or of its session."""
        if self.turn is not None:
            text = reason.public_text
            failed = reason.kind in CRASHES
            stop = StopReason("agent_ended" if failed else text, error=text if failed else None)
            self.finish(self.turn, self.turn.stopped or stop)

    def cancel_next(self, record: ConversationRecord, stop: StopReason) -> None:
        """End the first prompt that waits: no agent is there to begin its turn, and to stop it."""
        prompt = self.prompts.withdraw()
        files = tuple(each.without_content for each in prompt.attachments)
        # What a restored backup has lost of this is said under another fence.
        self.log.begin_epoch(self.service.next_fence())
        record.begin_epoch()
        for event in (PromptReceived(prompt.text, files), AgentStart(), AgentAbort(stop.reason)):
            self.log.append_shortened(event, request_id=prompt.request_id)
        if prompt.request_id == self._latest_request:
            self._latest_index = self.log.last_index - 2
        self.end_unbegun(prompt, stop)
        record.leave()
        self._on_changed()

    def end_unbegun(self, prompt: Prompt, stop: StopReason) -> None:
        """End an accepted prompt whose turn has not begun, and will not."""
        self.service.attachments.give(self.tenant_id, prompt.attachments)
        end = TurnEnd.of(prompt.request_id, stop, tokens=TurnTokens(), log=self.log)
        self.ends.add(end)
        if self.record is not None:
            self.record.finish(
                end,
                usage=Counters(),
                totals=self.counters,
                state="cancelled",
                attachments=prompt.attachments,
            )

    # -- within ------------------------------------------------------------------------------

    def _traced(self, prompt: Prompt) -> TurnTrace | None:
        """Begin the trace of a prompt's turn, where there are traces."""
        if (tracer := self.service.tracer) is None:
            return None
        queued_s = self.service.clock.monotonic() - prompt.accepted_s
        return tracer.begin_turn(self, origin=prompt.origin, queued_s=queued_s)
