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
from collections.abc import Mapping
from contextvars import Context
from functools import partial
from typing import Any

from frontdesk.clock import Clock, SystemClock
from frontdesk.errors import (
    InvalidType,
    MonitorFailed,
    SessionAlreadyExists,
    SessionLimitExceeded,
    StoreClosed,
)
from frontdesk.feed import Ring, Wakers
from frontdesk.monitors import Monitor, MonitorFunction, Watcher, monitor
from frontdesk.monitors.dispatch import function_for, is_future
from frontdesk.monitors.futures import (
    FutureLiveness,
    add_callback,
    exit_reason_of,
    has_callback,
    on_closed_loop,
)
from frontdesk.records import Change, ExitKind, ExitReason, Session, freeze_session
from frontdesk.store import validation
from frontdesk.store.event_loops import EventLoops
from frontdesk.store.fork import tell_after_fork
from frontdesk.store.get_or_create import PendingCreates
from frontdesk.store.index import Excess, Index, Limits
from frontdesk.store.liveness import (
    PLAIN_FUTURES,
    AgentRegistration,
    FutureListener,
    Held,
    all_of,
    first_of,
    future_key,
    is_finished,
    joined,
    key_of,
    reason_of,
    report_crash,
)
from frontdesk.store.lookups import Lookups
from frontdesk.store.recent_ends import RecentEnds
from frontdesk.store.write_lock import WriteLock

_NOT_ALIVE = ExitReason.of(ExitKind.NOT_ALIVE)
_SHUTDOWN = ExitReason.of(ExitKind.SHUTDOWN)
NO_LIMITS = Limits()

Refusal = SessionAlreadyExists | SessionLimitExceeded
"""What a finished agent must not be the reason of."""


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
        self._limits = NO_LIMITS if limits is None else _checked(limits)
        self._monitors = validation.monitors(monitors)
        self._now_ms = (clock or SystemClock()).wall_ms
        self._lock = WriteLock()
        self._closed: StoreClosed | None = None
        self._pid = os.getpid()
        self._index = Index()
        self._entries = self._index.entries
        self._agents: dict[Any, Held] = {}
        self._let_go = False
        self._loops = EventLoops()
        self._looking = False
        self._builds = PendingCreates()
        self._revision = 0
        self._ends = RecentEnds(validation.capacity("ends_capacity", ends_capacity))
        self._feed: Ring[Change] = Ring(
            capacity=validation.capacity("feed_capacity", feed_capacity)
        )
        self._watches: dict[object, None] = {}
        self._wakers = Wakers()
        self._closing = Wakers()
        self._self: weakref.ref[Core] = weakref.ref(self)
        self._when_done = FutureListener(self._self)
        self._watcher = Watcher() if watcher is None else watcher
        self._owns_watcher = watcher is None
        if self._owns_watcher:
            # A store that is forgotten without close() leaves no thread behind.
            weakref.finalize(self, self._watcher.close).atexit = False
        tell_after_fork(self)

    # -- entering ------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """The limits in force.

        Set it to replace them: they hold from the next `create` on, and no session ends for them.
        """
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = _checked(limits)

    def _admit(self, draft: Any) -> None:
        """Refuse what may not enter (a step); finished agents are no reason, they are reaped."""
        if self._closed is not None:
            self._require_open()
        if draft.session_id in self._entries:
            holder = self._entries[draft.session_id]
            if not is_finished(holder):
                raise SessionAlreadyExists(draft.session_id, holder=holder)
            self._end_finished(holder)
        if self._limits is not NO_LIMITS:
            self._admit_by_limits(draft)

    def _admit_by_limits(self, draft: Any) -> None:
        while True:
            excess = self._excess(draft)
            if excess is None:
                return
            finished = [session for session in excess.sessions if is_finished(session)]
            if not finished:
                raise SessionLimitExceeded(scope=excess.scope, limit=excess.limit)
            for session in finished:
                self._end_finished(session)

    def _known(self, key: Any) -> Session | None:
        """Return a session of this agent, if it is alive (a step); reap them where it is not."""
        held = self._agents.get(key)
        if held is None:
            return None
        session = first_of(held)
        if is_finished(session):
            self._end_finished(session)
            return None
        return session

    def _reap_in_the_way(self, draft: Any, refusal: Refusal) -> bool:
        """Tell whether a refusal no longer stands: who was in the way had finished, and is ended.

        Not a step: the monitors are asked, which the lock does not allow.
        """
        if isinstance(refusal, SessionAlreadyExists):
            present: tuple[Session, ...] = (refusal.holder,)
        else:
            excess = self._excess_now(draft)
            if excess is None:
                return True
            present = excess.sessions
        finished = [session for session in present if session._life.done()]
        for session in finished:
            self._reap(session)
        return bool(finished)

    def _excess_now(self, draft: Any) -> Excess | None:
        try:
            with self._lock.held:
                return self._excess(draft)
        finally:
            self._after_write()

    def _excess(self, draft: Any) -> Excess | None:
        return self._index.excess(self._limits, tenant_id=draft.tenant_id, api_key=draft.api_key)

    def _is_future(self, agent: Any) -> bool:
        """Tell whether the store's own monitor of futures is for this agent."""
        kind = type(agent)
        if self._monitors and function_for(kind, self._monitors) is not None:
            return False
        return kind in PLAIN_FUTURES or is_future(agent)

    def _listen(self, future: Any) -> bool:
        """Have the store called when a future is done (a step); False where it never will be."""
        if future.done():
            return False
        if self._let_go and has_callback(future, self._when_done):
            return not on_closed_loop(future)
        if isinstance(future, concurrent.futures.Future):
            future.add_done_callback(self._when_done)
            # Asked again: one that has finished just now has called back inside that very call.
            return not future.done()
        return add_callback(future, self._when_done, self._context_on(future.get_loop()))

    def _arm(self, agent: Any) -> AgentRegistration:
        """Monitor any other agent: not a step, since a monitor may run foreign code."""
        registration = AgentRegistration(self._self, agent)
        try:
            registration.begin(
                monitor(agent, registration, watcher=self._watcher, kinds=self._monitors)
            )
        except MonitorFailed:
            self._require_open()  # closed meanwhile, with the watcher: that is the reason then
            raise
        return registration

    def _context_on(self, loop: asyncio.AbstractEventLoop) -> Context:
        """Remember the loop of a future (a step), to find it closed one day."""
        if not self._looking:
            self._looking = True
            self._watcher.every_second(self._look_now_and_then)
        return self._loops.add(loop)

    def _enter_future(self, draft: Any) -> Session:
        """Make the session of a future (a step)."""
        future = draft.agent
        key = future_key(future)
        known = key in self._agents and self._known(key) is not None
        alive = known or self._listen(future)
        return self._enter(draft, key, future, FutureLiveness, self._pid, alive)

    def _enter_monitored(self, draft: Any, registration: AgentRegistration) -> Session:
        """Make the session of any other agent (a step)."""
        alive = registration.ended is None
        registration.entered = registration.entered or alive
        watching, pid = registration.watching, registration.pid
        return self._enter(draft, registration.agent_key, registration, watching, pid, alive)

    def _enter(
        self, draft: Any, key: Any, life: Any, watching: Any, pid: int, alive: bool
    ) -> Session:
        """Make the session (a step): an entry where the agent lives, else only a record."""
        self._revision += 1
        session = freeze_session(draft, life, watching, pid, self._revision)
        if alive:
            # The agent first: a signal handler that raises in between leaves what goes with it.
            held = self._agents.setdefault(key, session)
            if held is not session:
                self._agents[key] = joined(held, session)
            self._index.insert(session)
        # Told last: a reader may see a change before this step is over, and look the session up.
        if self._watches:
            self._publish(Change(self._revision, "created", session.metadata))
        if not alive:
            self._record_end(session, _NOT_ALIVE, self._now_ms())
        return session

    # -- ending --------------------------------------------------------------------------------

    def _future_ended(self, future: Any) -> None:
        """Be told by a future that it is done; it may have no session here any more."""
        if self._lock.interrupting():
            self._lock.defer(partial(self._future_ended, future))
            return
        key = future_key(future)
        if key in self._agents or self._entered_meanwhile(key):
            self._end_told(key, future, exit_reason_of(future))

    def _entered_meanwhile(self, key: Any) -> bool:
        """Tell whether a create that is under way in another thread registers this future.

        Asked before the future is: the exception of one that is not ours is left unread, so that
        asyncio reports it.
        """
        with self._lock.held:
            known = key in self._agents
        self._after_write()
        return known

    def _agent_ended(self, registration: AgentRegistration, reason: ExitReason) -> None:
        """Take a monitor's word for it that an agent has ended."""
        if self._lock.interrupting():
            self._lock.defer(partial(self._agent_ended, registration, reason))
            return
        if registration.ended is None:
            registration.ended = reason
        # Also where somebody was faster: whoever returns from here finds the sessions gone.
        self._end_told(registration.agent_key, registration, registration.ended)

    def _end_told(self, key: Any, life: Any, reason: ExitReason) -> None:
        """Remove an agent's sessions, all in one go."""
        sessions: tuple[Session, ...] = ()
        lock = self._lock
        acquire, release = lock.acquire, lock.release
        try:
            acquire()
            present = self._agents.get(key)
            # By identity: the sessions go only if this very agent answers for them.
            if present is not None and first_of(present)._life is life:
                sessions = self._end(key, reason)
        except BaseException:
            # A signal handler broke it off, and nobody tells of an end twice: the next write does.
            self._lock.defer(partial(self._end_told, key, life, reason))
            raise
        finally:
            try:  # noqa: SIM105 - a call in its place could be interrupted itself
                release()
            except RuntimeError:  # a signal handler raised before the lock was had
                pass
        if lock.deferred or self._watches:
            self._after_write()
        if sessions and reason.kind is ExitKind.CRASHED:
            report_crash(sessions, reason)

    def _reap(self, session: Session) -> None:
        """End the agent of a session that was found finished, before anybody told."""
        life = session._life
        if life is session.agent:
            self._future_ended(life)
        else:
            self._agent_ended(life, life.reason())
            life.watching.cancel()

    def _end_finished(self, session: Session) -> None:
        """End an agent that is known to be over (a step), before its callback has run."""
        reason = reason_of(session)
        sessions = self._end_with(session, reason)
        # Deferred also because it holds the agent until nothing is locked any more.
        self._lock.defer(partial(report_crash, sessions, reason))

    def _end_with(self, session: Session, reason: ExitReason) -> tuple[Session, ...]:
        """Remove a session and all others of its agent (a step)."""
        if session._life is not session.agent:
            session._life.ended = reason
        return self._end(key_of(session), reason)

    def _end(self, key: Any, reason: ExitReason) -> tuple[Session, ...]:
        """Remove an agent's sessions (a step); return them, to be dropped after the lock."""
        sessions = all_of(self._agents.get(key))
        at_ms = self._now_ms()
        for session in sessions:
            # By identity: the entry goes only if it still is this very incarnation.
            if self._index.remove(session):
                self._record_end(session, reason, at_ms)
        # The agent last: what a signal handler that raises leaves undone is found, and done next.
        self._agents.pop(key, None)
        return sessions

    def _forget(self, session: Session, reason: ExitReason) -> Monitor | None:
        """Remove the session of a live agent (a step); return the monitor to release after it."""
        key, life = key_of(session), session._life
        held = self._agents[key]
        self._index.remove(session)
        self._record_end(session, reason, self._now_ms())
        if isinstance(held, dict):
            del held[session.session_id]
            if held:
                return None
        del self._agents[key]
        if life is not session.agent:
            life.ended = reason
            watching: Monitor = life.watching
            return watching
        # The callback stays in the future, and is found there if it is given again.
        self._let_go = True
        return None

    def _record_end(self, session: Session, reason: ExitReason, at_ms: int) -> None:
        self._revision += 1
        self._ends.note(session, reason, at_ms, self._revision)
        if self._watches:
            self._publish(Change(self._revision, "ended", session.metadata, reason))

    def _record_update(self, session: Session) -> None:
        self._revision += 1
        if self._watches:
            self._publish(Change(self._revision, "updated", session.metadata))

    def _publish(self, change: Change) -> None:
        if self._feed.head != change.revision - 1:
            # A signal handler broke a write off before its change was told: watches begin anew.
            self._feed.restart(change.revision - 1)
        self._feed.append(change)

    def _empty(self) -> list[AgentRegistration]:
        """End everything with the store (a step); return the registrations to release."""
        registrations: list[AgentRegistration] = []
        for held in list(self._agents.values()):
            session = first_of(held)
            if session._life is not session.agent:
                registrations.append(session._life)
            if is_finished(session):
                self._end_finished(session)
            else:
                sessions = self._end_with(session, _SHUTDOWN)
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

    # -- after a write, and without one --------------------------------------------------------

    def _after_write(self) -> None:
        """Do what a write leaves to be done when nothing is locked any more.

        To be called whenever the lock was let go, also by whoever wrote nothing or failed: another
        write may have come in between, and been put off.
        """
        if self._lock.deferred:
            self._lock.run_deferred()
        if self._watches:
            self._wakers.wake_all()

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
            self._end_on_closed_loops()
        self._after_write()

    def _end_on_closed_loops(self) -> None:
        """End whose loop is closed (a step)."""
        for held in list(self._agents.values()):
            session = first_of(held)
            if session._life is session.agent and on_closed_loop(session.agent):
                self._end_finished(session)
        # Last: where a signal handler breaks this off, the next look finds the loops again.
        self._loops.forget_closed()

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
