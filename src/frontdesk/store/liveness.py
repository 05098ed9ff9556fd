"""One agent as one store knows it: how its end is heard, and the sessions that end with it.

Below `store.py`. A store keeps, for each live agent, its sessions: the one session that most agents
have, or a dict of them by id. What differs is who answers for the agent, a session's `_life`. A
future answers for itself, and all futures of a store share one callback: a session of a task is
one object. Any other agent has an `AgentRegistration`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any, Protocol

from frontdesk.monitors import Monitor
from frontdesk.monitors.futures import FutureLiveness
from frontdesk.records import ExitKind, ExitReason, Session

_log = logging.getLogger("frontdesk")
_UNKNOWN = ExitReason.of(ExitKind.UNKNOWN)

PLAIN_FUTURES = frozenset({asyncio.Task, asyncio.Future})
"""The types that are compared by identity, as nobody can override in them."""

Held = Session | dict[str, Session]
"""The sessions of one agent, oldest first."""


class EndListener(Protocol):
    """Who is told that a registered agent has ended: the store."""

    def _future_ended(self, future: Any) -> None: ...

    def _agent_ended(self, registration: AgentRegistration, reason: ExitReason) -> None: ...


FindStore = Callable[[], EndListener | None]
"""A weak reference to the store: an agent that outlives a forgotten store must not keep it."""


class FutureListener:
    """The one done-callback of a store, for all its futures.

    A callback cannot be taken back, but need not be: of a future without a session the store does
    not know.
    """

    __slots__ = ("_find_store",)

    def __init__(self, find_store: FindStore) -> None:
        self._find_store = find_store

    def __call__(self, future: Any) -> None:
        """Be told by the future that it is done."""
        store = self._find_store()
        if store is not None:
            store._future_ended(future)


class AgentRegistration:
    """Answer for an agent that is no future: its monitor calls this with the reason.

    `entered` tells whether a session relies on it, `ended` how the agent ended, once that is known.
    Whatever asks the monitor may run foreign code, and is called under no lock.
    """

    __slots__ = ("_find_store", "_monitor", "agent_key", "ended", "entered", "pid")

    def __init__(self, find_store: FindStore, agent: Any) -> None:
        self._find_store = find_store
        self._monitor: Monitor | None = None
        self.agent_key = id(agent)
        self.ended: ExitReason | None = None
        self.entered = False
        self.pid = os.getpid()

    @property
    def watching(self) -> Monitor:
        """Return the agent's monitor."""
        assert self._monitor is not None
        return self._monitor

    def begin(self, monitor: Monitor) -> None:
        """Take the monitor, and ask it what a session needs to know; cancel it where that fails."""
        self._monitor = monitor
        try:
            self.pid = getattr(monitor, "pid", self.pid)
            if self.done():
                self.ended = self.reason()
        except BaseException:
            monitor.cancel()
            raise

    def done(self) -> bool:
        """Tell whether the agent has finished, as `Future.done` does: read, not told."""
        return self.ended is not None or not self.watching.alive

    def reason(self) -> ExitReason:
        """Return how the agent, found finished, ended."""
        if self.ended is not None:
            return self.ended
        tell = getattr(self.watching, "exit_reason", None)
        return (tell() if tell is not None else None) or _UNKNOWN

    def __call__(self, reason: ExitReason) -> None:
        """Take the monitor's word that the agent has ended."""
        store = self._find_store()
        if store is not None:
            store._agent_ended(self, reason)


def future_key(future: Any) -> Any:
    """Return what a future is found by: itself, or its id where its type may define equality."""
    return future if type(future) in PLAIN_FUTURES else id(future)


def key_of(session: Session) -> Any:
    """Return what the agent of a session is found by."""
    life = session._life
    return future_key(life) if life is session.agent else life.agent_key


def first_of(held: Held) -> Session:
    """Return the oldest of an agent's sessions: all have the same agent and the same `_life`."""
    return next(iter(held.values())) if isinstance(held, dict) else held


def all_of(held: Held | None) -> tuple[Session, ...]:
    """Return an agent's sessions, oldest first."""
    if held is None:
        return ()
    return tuple(held.values()) if isinstance(held, dict) else (held,)


def joined(held: Held, session: Session) -> Held:
    """Return an agent's sessions with one more, or with another version of one."""
    if not isinstance(held, dict):
        if held.session_id == session.session_id:
            return session
        held = {held.session_id: held}
    held[session.session_id] = session
    return held


def is_finished(session: Session) -> bool:
    """Tell whether an agent is known to be over: a future is asked, of any other it was told.

    For use under the lock, where a monitor of the user's own may not be asked.
    """
    life = session._life
    return life.done() if life is session.agent else life.ended is not None


def reason_of(session: Session) -> ExitReason:
    """Return how an agent ended that is known to be over, or is pending on a closed loop."""
    life = session._life
    if life is session.agent:
        return FutureLiveness(life).exit_reason() or _UNKNOWN
    return life.ended or _UNKNOWN


def report_crash(sessions: tuple[Session, ...], reason: ExitReason) -> None:
    """Log what asyncio would have: reading a task's exception silences its own report."""
    agent = sessions[0].agent if sessions else None
    if reason.kind is not ExitKind.CRASHED or not isinstance(agent, asyncio.Future):
        return
    error = agent.exception() if agent.done() and not agent.cancelled() else None
    more = f" and {len(sessions) - 1} more" if len(sessions) > 1 else ""
    _log.error("agent of session %s%s crashed", sessions[0].session_id, more, exc_info=error)
