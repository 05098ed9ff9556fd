"""The state of a store, and the steps that its writes are made of.

Below `store.py`, which has the operations and takes the lock; above the index, the registrations
and the monitors. Whatever is called "a step" here runs under the lock, changes everything that
belongs together in one go, and calls nobody: watchers are woken, monitors released, crashes logged
and references to agents dropped after it (dropping an agent may run its finalizers).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import weakref
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import partial
from typing import Any

from frontdesk.clock import Clock, SystemClock
from frontdesk.errors import InvalidType, SessionAlreadyExists, SessionLimitExceeded, StoreClosed
from frontdesk.feed import Feed
from frontdesk.monitors import Monitor, MonitorFunction, Watcher, monitor
from frontdesk.monitors.kinds import function_of, is_future
from frontdesk.session import Change, ExitKind, ExitReason, Session, freeze_session
from frontdesk.store import checks
from frontdesk.store.building import Builds
from frontdesk.store.ends import Ends
from frontdesk.store.forks import tell_after_fork
from frontdesk.store.index import Index, Limits
from frontdesk.store.lock import WriteLock
from frontdesk.store.lookups import Lookups
from frontdesk.store.loops import Loops
from frontdesk.store.registration import (
    PLAIN_FUTURES,
    AgentRegistration,
    FutureRegistration,
    Idle,
    Registration,
    agent_key,
    report_crash,
)

_NOT_ALIVE = ExitReason.of(ExitKind.NOT_ALIVE)
_SHUTDOWN = ExitReason.of(ExitKind.SHUTDOWN)
_NO_LIMITS = Limits()


class Core(Lookups):
    """What a store is made of."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        monitors: Mapping[type, MonitorFunction] | None = None,
        feed_capacity: int = 4096,
        ends_capacity: int = 10_000,
        clock: Clock | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._limits = _NO_LIMITS if limits is None else _checked(limits)
        self._monitors = dict(monitors or {})
        self._now_ms = (clock or SystemClock()).wall_ms
        self._lock = WriteLock()
        self._closed: StoreClosed | None = None
        self._pid = os.getpid()
        self._index = Index()
        self._entries = self._index.entries
        self._agents: dict[Any, Registration] = {}
        self._idle: dict[int, Idle] = {}
        self._forget_idle = _forgetter(self._idle)
        self._loops = Loops()
        self._looking = False
        self._builds = Builds()
        self._revision = 0
        self._ends = Ends(checks.capacity("ends_capacity", ends_capacity))
        self._feed: Feed[Change] = Feed(capacity=checks.capacity("feed_capacity", feed_capacity))
        self._watches: dict[object, None] = {}
        self._closing: Feed[None] = Feed(capacity=1)
        self._self: weakref.ref[Core] = weakref.ref(self)
        self._watcher = Watcher() if watcher is None else watcher
        self._owns_watcher = watcher is None
        if self._owns_watcher:
            # A store that is forgotten without close() leaves no thread behind.
            weakref.finalize(self, self._watcher.close).atexit = False
        tell_after_fork(self)

    # -- entering ------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """The limits in force. Others hold from the next create on; no session ends for them."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = _checked(limits)

    def _admit(self, draft: Any) -> None:
        """Refuse what may not enter (a step); finished agents are no reason, they are reaped."""
        if self._closed is not None:
            self._require_open()
        holder = self._entries.get(draft.session_id)
        if holder is not None:
            if not holder._life.done():
                raise SessionAlreadyExists(draft.session_id, holder=holder)
            self._reap(holder)
        if self._limits is not _NO_LIMITS:
            self._admit_by_limits(draft)

    def _admit_by_limits(self, draft: Any) -> None:
        while True:
            excess = self._index.excess(
                self._limits, tenant_id=draft.tenant_id, api_key=draft.api_key
            )
            if excess is None:
                return
            finished = [session for session in excess.sessions if session._life.done()]
            if not finished:
                raise SessionLimitExceeded(scope=excess.scope, limit=excess.limit)
            for session in finished:
                self._reap(session)

    def _present(self, agent: Any) -> Registration | None:
        """Return the registration of an agent that is alive (a step); reap it where it is not."""
        registration = self._agents.get(agent_key(agent))
        if registration is not None and registration.done():
            self._end_finished(registration)
            return None
        return registration

    def _is_future(self, agent: Any) -> bool:
        """Tell whether the store's own monitor of futures is for this agent."""
        kind = type(agent)
        if self._monitors and function_of(kind, self._monitors) is not None:
            return False
        return kind in PLAIN_FUTURES or is_future(agent)

    def _arm_future(self, future: Any) -> Registration:
        """Monitor a future (a step). Its callbacks can't be taken back, but taken up again."""
        idle = self._idle.pop(id(future), None)
        if idle is not None and idle() is future:
            idle.registration.take_up(future, self._self)
            return idle.registration
        if isinstance(future, concurrent.futures.Future):
            return FutureRegistration(future, self._self)
        loop = future.get_loop()
        context = self._context_on(loop)
        here = loop is asyncio._get_running_loop()
        return FutureRegistration(future, self._self, context if here else None)

    def _arm(self, agent: Any) -> AgentRegistration:
        """Monitor any other agent: not a step, since a monitor may run foreign code."""
        registration = AgentRegistration(self._self)
        registration.watching = monitor(
            agent, registration, watcher=self._watcher, kinds=self._monitors
        )
        return registration

    def _context_on(self, loop: asyncio.AbstractEventLoop) -> Context:
        """Remember the loop of a future (a step), to find it closed one day."""
        if not self._looking:
            self._looking = True
            self._watcher.every_second(self._look_now_and_then)
        return self._loops.add(loop)

    def _enter(self, draft: Any, registration: Registration) -> Session:
        """Make the session (a step): an entry where the agent lives, else only a record."""
        agent: Any = draft.agent
        if isinstance(registration, FutureRegistration):
            life, pid = agent, self._pid
            watching: Any = registration
        else:
            life, watching = registration, registration.watching
            # Asked first: a monitor of the user's may raise, and a revision may not be skipped.
            pid = getattr(watching, "pid", self._pid)
        dead = registration.done()
        self._revision += 1
        session = freeze_session(draft, life, watching, pid, self._revision)
        if not dead:
            self._index.insert(session)
            if registration.sessions is None:
                self._agents[agent_key(agent)] = registration
                registration.sessions = session
            else:
                registration.add(session)
        # Told last: a reader may see a change before this step is over, and look the session up.
        if self._watches:
            self._feed.append(Change(self._revision, "created", session.metadata))
        if dead:
            self._record_end(session, _NOT_ALIVE, self._now_ms())
        return session

    # -- ending --------------------------------------------------------------------------------

    def _agent_ended(self, registration: Registration, reason: ExitReason) -> None:
        """Take a monitor's word for it: remove the agent's sessions, all in one go."""
        if self._lock.interrupting():
            self._lock.defer(partial(self._agent_ended, registration, reason))
            return
        try:
            self._lock.held.acquire()
            sessions = self._end(registration, reason)
        finally:
            try:  # noqa: SIM105 - suppress() costs more than the lock does
                self._lock.held.release()
            except RuntimeError:  # a signal handler raised before the lock was had
                pass
        if self._lock.deferred or self._watches:
            self._after_write()
        if sessions and reason.kind is ExitKind.CRASHED:
            report_crash(sessions, reason)

    def _reap(self, session: Session) -> None:
        """End an agent that was found finished (a step), before its callback has run."""
        registration = self._agents.get(agent_key(session.agent))
        if registration is not None:
            self._end_finished(registration)

    def _end_finished(self, registration: Registration) -> None:
        reason = registration.reason()
        sessions = self._end(registration, reason)
        # Deferred also because it holds the agent until nothing is locked any more.
        self._lock.defer(partial(report_crash, sessions, reason))

    def _end(self, registration: Registration, reason: ExitReason) -> tuple[Session, ...]:
        """Remove an agent's sessions (a step); return them, to be dropped after the lock."""
        if registration.ended is not None:
            return ()
        registration.ended = reason
        sessions = registration.take()
        if not sessions:
            return ()
        agent = sessions[0].agent
        del self._agents[agent if type(agent) in PLAIN_FUTURES else id(agent)]
        at_ms = self._now_ms()
        for session in sessions:
            # By identity: the entry goes only if it still is this very incarnation.
            if self._index.remove(session):
                self._record_end(session, reason, at_ms)
        return sessions

    def _forget(self, session: Session, reason: ExitReason) -> Monitor | None:
        """Remove the session of a live agent (a step); return the monitor to release after it."""
        key = agent_key(session.agent)
        registration = self._agents[key]
        self._index.remove(session)
        self._record_end(session, reason, self._now_ms())
        if not registration.discard(session):
            return None
        del self._agents[key]
        if not isinstance(registration, FutureRegistration):
            registration.ended = reason
            return registration.watching
        # Under the lock, so that no create can meet the callback disarmed but not remembered.
        idle = registration.rest(self._forget_idle)
        if idle is not None:
            self._idle[idle.key] = idle
        return None

    def _record_end(self, session: Session, reason: ExitReason, at_ms: int) -> None:
        self._revision += 1
        self._ends.note(session, reason, at_ms, self._revision)
        if self._watches:
            self._feed.append(Change(self._revision, "ended", session.metadata, reason))

    def _record_update(self, session: Session) -> None:
        self._revision += 1
        if self._watches:
            self._feed.append(Change(self._revision, "updated", session.metadata))

    def _empty(self) -> list[Registration]:
        """End everything with the store (a step); return the registrations to release."""
        registrations = list(self._agents.values())
        for registration in registrations:
            if registration.done():
                self._end_finished(registration)
            else:
                sessions = self._end(registration, _SHUTDOWN)
                self._lock.defer(partial(report_crash, sessions, _SHUTDOWN))
        # The last change is in the feed before the store is closed, as watches rely on.
        self._closed = StoreClosed()
        self._clear()
        return registrations

    def _clear(self) -> None:
        # Replaced, not cleared: a reader may be in the middle of the old ones.
        self._index = Index()
        self._entries = self._index.entries
        self._agents = {}
        self._idle.clear()

    # -- after a write, and without one --------------------------------------------------------

    def _after_write(self) -> None:
        """Do what a write leaves to be done when nothing is locked any more.

        To be called whenever the lock was let go, also by whoever wrote nothing or failed: another
        write may have come in between, and been put off.
        """
        if self._lock.deferred:
            self._lock.run_deferred()
        if self._watches:
            self._feed.wake()

    def _look_now_and_then(self) -> None:
        # Held weakly by the watcher, so that it keeps no store.
        if self._closed is None:
            self._look_at_loops()

    def _look_at_loops(self) -> None:
        """End the agents whose event loop was closed under them: nobody else will tell."""
        if self._closed is not None:
            self._require_open()
        if self._loops.any_closed() and not self._lock.interrupting():
            self._end_loops()

    def _end_loops(self) -> None:
        with self._lock.held:
            gone = self._loops.take_closed()
            for registration in list(self._agents.values()):
                if isinstance(registration, FutureRegistration) and registration.loop in gone:
                    self._end_finished(registration)
                    registration.cancel()
        self._after_write()

    def _snapshot(self, tenant_id: str | None, api_key: str | None) -> tuple[int, list[Session]]:
        self._lock.refuse_interrupting("watch")
        try:
            with self._lock.held:
                return self._revision, self._index.select(tenant_id=tenant_id, api_key=api_key)
        finally:
            self._after_write()

    def _after_fork_in_child(self) -> None:
        """Be closed in a forked child: the agents live in the parent, the lock may be held."""
        self._closed = StoreClosed(forked=True)
        self._lock = WriteLock()
        self._watches = {}
        self._clear()
        self._watcher.abandon_after_fork()


def _checked(limits: Limits) -> Limits:
    if not isinstance(limits, Limits):
        raise InvalidType("limits", expected="Limits", got=type(limits).__name__)
    return limits


def _forgetter(idle_agents: dict[int, Idle]) -> Callable[[Idle], None]:
    """Return what takes an idle agent out when it is collected, and holds no store."""

    def forget(idle: Idle) -> None:
        idle_agents.pop(idle.key, None)
        idle.registration.bury()

    return forget
