"""One turn among the events of its session: which are its own, how it ended, what waits for whom.

A plain object, for both clients.
"""

from __future__ import annotations

from typing import Any

from frontdesk.agents.events import (
    AgentAbort,
    AgentEnd,
    ApprovalRequired,
    AskUser,
    Error,
    Event,
    Gap,
    MessageDelta,
    MessageStart,
    PromptReceived,
    SessionEnd,
)
from frontdesk.agents.records import Approval
from frontdesk.client import gateway_calls as calls
from frontdesk.client.call_options import ApprovalAnswer
from frontdesk.client.errors import SessionDeadError, TurnAbortedError, TurnLostError
from frontdesk.client.event_stream import SessionFollowing, StreamEvent
from frontdesk.client.gateway_calls import GatewayCall
from frontdesk.errors import InvalidType
from frontdesk.schemas.answer_schemas import PromptAccepted, SessionStatus, Status


class TurnProgress:
    """How far a turn has come for its reader.

    `doubtful` is whether its end may be among what a gap stands for: then the session's status has
    to be asked, and given to `on_status`.
    """

    def __init__(self, accepted: PromptAccepted) -> None:
        self.request_id: str = accepted.request_id
        self.session_id: str = accepted.session_id
        self.following: SessionFollowing = SessionFollowing(
            calls.events_path(accepted.session_id), since=accepted.since, types=()
        )
        self.end: AgentEnd | AgentAbort | None = None
        self.doubtful: bool = False
        self._fence = accepted.since.rpartition("-")[0]
        self._begun = self._after_gap = False
        self._lost_after: int | None = None
        """By which event its end comes, or has gone."""
        self._text: list[str] = []
        self._error: str | None = None

    def own(self, item: StreamEvent | Gap) -> Event | Gap | None:
        """Return an event of the stream if it is the turn's own, or a gap; None for others.

        `SessionDeadError` where the session has ended and the turn had not begun.
        """
        if isinstance(item, Gap):
            self._after_gap = self.doubtful = True
            return item
        if item.request_id == self.request_id:
            self.doubtful = False
            self._on_own(item.event)
            return item.event
        if isinstance(item.event, SessionEnd):
            raise self._session_dead(item.event.reason)
        self._require_more(item.index)
        # The turns before it end one after another, and then it is its own.
        self.doubtful = self._after_gap and isinstance(item.event, AgentEnd | AgentAbort)
        return None

    def _on_own(self, event: Event) -> None:
        self._after_gap, self._lost_after = False, None
        match event:
            case PromptReceived():
                self._begun = True
            case MessageStart():
                self._text.clear()
            case MessageDelta():
                self._text.append(event.delta)
            case Error():
                self._error = event.reason
            case AgentEnd() | AgentAbort():
                self.end, self.following.ended = event, True
            case _:
                pass

    def on_status(self, status: SessionStatus) -> None:
        """Hear what the session does; `TurnLostError` where the turn has ended in a gap.

        A turn under way is kept whole: one that had begun before a gap is over. One that had not
        may be still to come, if prompts wait or a turn is under way. Of a turn that is over, the
        end may still be held: it is lost once the stream has come to what was last by now.
        """
        self.doubtful = False
        fence, _, index = (self.following.position or "").rpartition("-")
        if fence != self._fence:
            # Another session of that id has taken its place.
            raise TurnLostError(self.request_id)
        if self._begun or (status.state == "idle" and not status.queues.prompts):
            self._lost_after = status.last_event_index
            self._require_more(int(index))

    def _require_more(self, index: int) -> None:
        if self._lost_after is not None and index >= self._lost_after:
            raise TurnLostError(self.request_id)

    def on_stream_end(self) -> None:
        """Hear that there is no more; `SessionDeadError` where the turn has no end."""
        if self.end is None:
            raise self._session_dead(None)

    def _session_dead(self, reason: str | None) -> SessionDeadError:
        why = "" if reason is None else f": {reason}"
        return SessionDeadError(
            "session_dead",
            f"session {self.session_id!r} ended before the turn began{why}",
            status=404,
            facts={} if reason is None else {"reason": reason},
        )

    @property
    def text(self) -> str:
        """Return the last message; `TurnAbortedError` where the turn ended before it was whole."""
        if isinstance(self.end, AgentEnd):
            return self.end.last_message.content
        reason = "unknown" if self.end is None else self.end.reason
        raise TurnAbortedError(reason, error=self._error, text="".join(self._text))


def approval_call(
    session_id: str, asked: ApprovalRequired, answer: ApprovalAnswer
) -> GatewayCall[Status] | None:
    """Return what sends an answer to an approval; None where it is left to somebody else.

    `InvalidType` for what is no answer: a tool is not let run by something that is merely true.
    """
    if answer is None:
        return None
    given: object = answer
    if isinstance(given, bool):
        given = Approval("approved" if given else "rejected")
    if not isinstance(given, Approval):
        expected = "True, False, an Approval or None"
        raise InvalidType("what on_approval gives", expected=expected, got=type(given).__name__)
    return calls.answer_approval(session_id, asked.approval_id, given)


def question_call(session_id: str, asked: AskUser, answer: Any) -> GatewayCall[Status] | None:
    """Return what sends an answer to a question; None where it is left to somebody else."""
    return None if answer is None else calls.answer_question(session_id, asked.ref, answer)


def is_pending(asked: ApprovalRequired | AskUser, status: SessionStatus) -> bool:
    """Say whether an approval or a question still waits for its answer."""
    if isinstance(asked, AskUser):
        return any(each.ref == asked.ref for each in status.pending_questions)
    return any(each.approval_id == asked.approval_id for each in status.pending_approvals)
