"""One agent as one store knows it: its monitor, and the sessions that it answers for.

Below `store.py`. A registration is what is called when the agent ends, so an agent has one
callback per store, whatever the number of its sessions. That of a future is its own monitor:
one object less for each of the most frequent agents.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol, cast

from frontdesk.monitors import ExitCallback, Monitor
from frontdesk.monitors.futures import FutureMonitor, exit_reason_of
from frontdesk.session import ExitKind, ExitReason, Session

_log = logging.getLogger("frontdesk")


PLAIN_FUTURES = frozenset({asyncio.Task, asyncio.Future})
"""The types that are compared by identity, as nobody can override in them."""


class EndListener(Protocol):
    """Who is told that a registered agent has ended: the store."""

    def _agent_ended(self, registration: Registration, reason: ExitReason) -> None: ...


FindStore = Callable[[], EndListener | None]
"""A weak reference to the store: an agent that outlives a forgotten store must not keep it."""


class Registration:
    """Join an agent's monitor to the sessions that end with the agent.

    `sessions` is the one session that most agents have, or a dict by id where there are several.
    """

    if TYPE_CHECKING:
        sessions: Session | dict[str, Session] | None
        ended: ExitReason | None
    else:
        __slots__ = ()  # the two classes below have the slots: a base with slots can't be shared

    @property
    def watching(self) -> Monitor:
        """Return the agent's monitor."""
        raise NotImplementedError

    def done(self) -> bool:
        """Tell whether the agent has finished, as `Future.done` does: read, not told."""
        return self.ended is not None or not self.watching.alive

    def reason(self) -> ExitReason:
        """Return how the agent, found finished, ended."""
        tell = getattr(self.watching, "exit_reason", None)
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
            if self.sessions:
                return False
        self.sessions = None
        return True

    def take(self) -> tuple[Session, ...]:
        """Hand over all sessions, oldest first, and hold none."""
        sessions, self.sessions = self.sessions, None
        if sessions is None:
            return ()
        return tuple(sessions.values()) if isinstance(sessions, dict) else (sessions,)


class FutureRegistration(Registration, FutureMonitor):
    """The registration of a task or future, and its monitor in one."""

    __slots__ = ("ended", "sessions")

    def __init__(self, future: Any, find_store: FindStore, context: Context | None = None) -> None:
        """Watch; with a `context`, the future is one of the loop that runs in this thread."""
        self.ended = None
        self.sessions = None
        # The seat of the exit callback holds the way to the store: disarming empties it.
        on_exit = cast("ExitCallback", find_store)
        if context is not None and not future.done():
            self._future, self._on_exit = future, on_exit
            future.add_done_callback(self, context=context)
        else:
            super().__init__(future, on_exit)

    def rest(self, forget: Callable[[Idle], None]) -> Idle | None:
        """Disarm: hold the future weakly, by a reference that leads back here.

        None for a future of a strange type that nobody can refer to weakly: it is not found again.
        """
        self._on_exit = None
        try:
            idle = Idle(self._future, forget)
        except TypeError:
            return None
        idle.key, idle.registration = id(self._future), self
        self._future = idle
        return idle

    def take_up(self, future: Any, find_store: FindStore) -> None:
        """Watch the same future for the store again, after `rest`."""
        self.ended = None
        self.rearm(future, cast("ExitCallback", find_store))
        if not self.alive:  # its loop was closed meanwhile
            self._on_exit = None

    def bury(self) -> None:
        """Let go of the reference to a future that is being collected."""
        self._future = None

    @property
    def watching(self) -> Monitor:
        return self

    def done(self) -> bool:
        # Never armed (the future was done, or its loop closed), told already, or just finished.
        return self._on_exit is None or self._future.done()

    def __call__(self, future: Any) -> None:
        """Be told by the future that it is done."""
        find_store: Any = self._on_exit
        if find_store is None or self.ended is not None:
            return
        self._on_exit = None
        store = find_store()
        if store is not None:
            store._agent_ended(self, exit_reason_of(future))


class AgentRegistration(Registration):
    """The registration of any other agent, whose monitor calls it with the reason."""

    __slots__ = ("_find_store", "_monitor", "ended", "sessions")

    def __init__(self, find_store: FindStore) -> None:
        self._find_store = find_store
        self._monitor: Monitor | None = None
        self.sessions = None
        self.ended = None

    @property
    def watching(self) -> Monitor:
        assert self._monitor is not None
        return self._monitor

    @watching.setter
    def watching(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def __call__(self, reason: ExitReason) -> None:
        """Take the monitor's word that the agent has ended."""
        store = self._find_store()
        if store is not None and self.ended is None:
            store._agent_ended(self, reason)


class Idle(weakref.ref[Any]):
    """A live agent without sessions, held weakly, and its registration to be taken up again."""

    __slots__ = ("key", "registration")

    key: int
    registration: FutureRegistration


def agent_key(agent: Any) -> Any:
    """Return what an agent is found by: itself, or its id where its type may define equality."""
    return agent if type(agent) in PLAIN_FUTURES else id(agent)


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
