"""What becomes of sessions, for the log. Sees what they do, as one of the `observers`."""

from __future__ import annotations

import logging
from typing import Any

from frontdesk.agents.events import AgentRestarted, Event, SessionEnd
from frontdesk.agents.restart import CRASHES
from frontdesk.gateway.log_events import LogEvent, log_event
from frontdesk.gateway.rows.last_ends import log_id_of
from frontdesk.records import ExitReason
from frontdesk.sessions.event_log import LoggedEvent
from frontdesk.sessions.phases import SessionPhase


class SessionLog:
    """A `SessionObserver` that writes a line of each start, restart and end."""

    __slots__ = ()

    def on_started(self, conversation: Any) -> None:
        """Write that it lives; where it was dormant, the event of its next agent says so."""
        if conversation.phase is SessionPhase.RESTARTING:
            return
        log_event(
            LogEvent.SESSION_STARTED,
            **_which(conversation),
            model=conversation.model,
            key_id=conversation.api_key,
        )

    def on_event(self, conversation: Any, event: Event, logged: LoggedEvent) -> None:  # noqa: ARG002 - the Protocol's
        """Write that it was restarted, or why it ended; other events have no line."""
        kind = type(event)
        if kind is SessionEnd:
            reason = conversation.ending_reason
            log_event(
                LogEvent.SESSION_ENDED,
                level=logging.WARNING if reason.kind in CRASHES else None,
                **_which(conversation),
                # Without the text of an exception: that may be anybody's.
                reason=reason.public_text,
                log_id=log_id_of(conversation),
                age_ms=conversation.uptime_ms,
                turns=conversation.counters.turns,
                tokens=conversation.counters.tokens.total,
            )
        elif isinstance(event, AgentRestarted):
            resumed = conversation.left_for is not None
            log_event(
                LogEvent.SESSION_RESUMED if resumed else LogEvent.SESSION_RESTARTED,
                **_which(conversation),
                reason=event.reason,
                restarts=event.count,
                memory=event.memory,
            )

    def on_changed(self, conversation: Any) -> None:
        """Write nothing: what comes of it has its line."""

    def on_published(self, conversation: Any) -> None:
        """Write nothing: what happened has its line."""

    def on_dormant(self, conversation: Any, reason: ExitReason) -> None:
        """Write that it is dormant from now on, and why its agent ended."""
        log_event(
            LogEvent.SESSION_DORMANT,
            level=logging.WARNING if reason.kind in CRASHES else None,
            **_which(conversation),
            reason=reason.public_text,
            turns=conversation.counters.turns,
        )

    def on_loaded(self, conversation: Any) -> None:
        """Write nothing: it was read, and nothing has come of it."""

    def on_unloaded(self, conversation: Any) -> None:
        """Write nothing: it is stored."""

    def on_recovered(self, *, conversations: int, turns: int) -> None:
        """Write how much of an earlier process's was brought to rest."""
        log_event(LogEvent.STORAGE_RECOVERED, conversations=conversations, turns=turns)


def _which(conversation: Any) -> dict[str, Any]:
    return {
        "tenant": conversation.tenant_id,
        "session_id": conversation.session_id,
        "blueprint": conversation.blueprint,
    }
