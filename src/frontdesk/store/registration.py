"""One agent as one store knows it: its monitor, and the sessions that it answers for.

Below `store.py`. A registration is what the monitor calls when the agent ends, so an agent has one
callback per store, whatever the number of its sessions.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import Any, Protocol

from frontdesk.monitors import Monitor
from frontdesk.session import ExitKind, ExitReason, Session

_log = logging.getLogger("frontdesk")


class EndListener(Protocol):
    """Who is told that a registered agent has ended: the store."""

    def _agent_ended(self, registration: Registration, reason: ExitReason) -> None: ...


class Registration:
    """Join an agent's monitor to the sessions that end with the agent.

    `sessions` is the one session that most agents have, or a dict by id where there are several.
    """

    __slots__ = ("_store", "ended", "monitor", "sessions")

    def __init__(self, store: weakref.ref[EndListener]) -> None:
        # Weak: an agent that outlives a forgotten store must not keep the store.
        self._store = store
        self.monitor: Monitor | None = None
        self.sessions: Session | dict[str, Session] | None = None
        self.ended: ExitReason | None = None

    def __call__(self, reason: ExitReason) -> None:
        """Take the monitor's word that the agent has ended."""
        store = self._store()
        if store is not None and self.ended is None:
            store._agent_ended(self, reason)

    def done(self) -> bool:
        """Tell whether the agent has finished, as `Future.done` does: read, not told."""
        return self.ended is not None or (self.monitor is not None and not self.monitor.alive)

    def reason(self) -> ExitReason:
        """Return how the agent, found finished, ended."""
        tell = getattr(self.monitor, "exit_reason", None)
        return (tell() if tell is not None else None) or ExitReason.of(ExitKind.UNKNOWN)

    def add(self, session: Session) -> None:
        """Add a session, or put it in the place of its former version."""
        if self.sessions is None:
            self.sessions = session
        elif isinstance(self.sessions, dict):
            self.sessions[session.session_id] = session
        elif self.sessions.session_id == session.session_id:
            self.sessions = session
        else:
            first = self.sessions
            self.sessions = {first.session_id: first, session.session_id: session}

    def discard(self, session: Session) -> bool:
        """Take a session out; tell whether it was the last."""
        if isinstance(self.sessions, dict):
            self.sessions.pop(session.session_id, None)
            return not self.sessions
        self.sessions = None
        return True

    def take(self) -> tuple[Session, ...]:
        """Hand over all sessions, oldest first, and hold none."""
        sessions, self.sessions = self.sessions, None
        if sessions is None:
            return ()
        return tuple(sessions.values()) if isinstance(sessions, dict) else (sessions,)


def agent_of(sessions: tuple[Session, ...]) -> Any:
    """Return the agent that these sessions of one registration share."""
    return sessions[0].agent if sessions else None


def report_crash(sessions: tuple[Session, ...], reason: ExitReason) -> None:
    """Log what asyncio would have: reading a task's exception silences its own report."""
    agent = agent_of(sessions)
    if reason.kind is not ExitKind.CRASHED or not isinstance(agent, asyncio.Future):
        return
    error = agent.exception() if agent.done() and not agent.cancelled() else None
    more = f" and {len(sessions) - 1} more" if len(sessions) > 1 else ""
    _log.error("agent of session %s%s crashed", sessions[0].session_id, more, exc_info=error)
