"""What a turn shares with its session: its log, its history, who waits in it, what is stored of it.

Below the turn (`running_turn.py`) and the session. Made once for a session, here.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from frontdesk.agents.events import AskUser
from frontdesk.agents.records import SessionContext
from frontdesk.sessions.callback_tools import CallbackTools
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.conversation_record import ConversationRecord
from frontdesk.sessions.counters import Counters
from frontdesk.sessions.earlier_life import EarlierLife
from frontdesk.sessions.event_log import EventLog
from frontdesk.sessions.history import History
from frontdesk.sessions.pending import PendingApprovals, PendingRequests
from frontdesk.sessions.stored_log import stored_events


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnParts:
    """What a turn shares with its session: each part is one object for the session's whole life."""

    service: ServiceContext
    tenant_id: str
    log: EventLog
    history: History
    counters: Counters
    tools: CallbackTools
    steering_texts: list[str]
    approvals: PendingApprovals
    questions: PendingRequests[AskUser, Any]
    record: ConversationRecord | None
    """What is written down of the conversation; None where it is not stored."""

    @classmethod
    def make(
        cls,
        context: SessionContext,
        *,
        service: ServiceContext,
        number: int,
        stored: bool,
        life: EarlierLife | None,
    ) -> TurnParts:
        """Make the parts of a new session, or of one that goes on from an earlier life."""
        settings, log = service.settings, _log_of(service, stored=stored, life=life)
        history = History(max_messages=settings.max_messages, max_bytes=settings.max_history_bytes)
        tools = CallbackTools(context, service=service)
        if life is not None:
            history.restore(life.messages, newest=life.stored.last_position)
            tools.restore(life.options.tools, keys=life.options.tool_keys)
        record = None
        if stored and service.commits is not None:
            oldest = 1 if life is None else life.stored.oldest_index
            log.stored = stored_events(service.commits, context, number=number, oldest=oldest)
            record = ConversationRecord(
                service.commits,
                number=number,
                log=log,
                history=history,
                clock=service.clock,
                opened=life is not None,
            )
        repeats = None if record is None else record.repeats
        return cls(
            service=service,
            tenant_id=context.tenant_id,
            log=log,
            history=history,
            record=record,
            counters=Counters() if life is None else life.totals,
            tools=tools,
            steering_texts=[],
            approvals=PendingApprovals("approvalId", repeats=repeats),
            questions=PendingRequests("ref", repeats=repeats),
        )

    async def committed(self) -> None:
        """Wait until all that was said is stored, however long: a turn's own end ends the wait."""
        if self.record is not None:
            await self.record.committed(wait_s=None)


def _log_of(service: ServiceContext, *, stored: bool, life: EarlierLife | None) -> EventLog:
    """Return the log of a new session, or of one that goes on from an earlier life."""
    settings = service.settings
    if life is not None:
        fence = life.epochs[-1].fence
    elif stored:
        fence = service.next_fence()
    else:
        # Random, not the registry's: that one counts what all tenants do, and begins again with the
        # process, so that a client could resume in another conversation.
        fence = secrets.randbelow(10**15)
    return EventLog(
        fence=fence,
        min_events=settings.min_events,
        max_bytes=settings.max_log_bytes,
        max_event_bytes=settings.max_event_bytes,
        head=0 if life is None else life.stored.last_index,
        epochs=() if life is None else life.epochs,
    )
