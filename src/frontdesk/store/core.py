"""The state of a store, and the two protocols that change it: create, and an agent's end.

Whatever is called "a step" here runs under the lock, changes everything that belongs together in
one go, and calls nobody: watchers are woken, monitors released, crashes logged and references to
agents dropped after it (dropping an agent may run its finalizers). Agents, loops and the clock are
asked before or after: one of a user's own type may take a lock, whose holder waits for the store's.
Only asyncio's own tasks and futures, which take none, are asked within a step.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import partial

from frontdesk.clock import Clock, SystemClock
from frontdesk.errors import (
    MonitorFailed,
    SessionAlreadyExists,
    SessionLimitExceeded,
    StoreClosed,
)
from frontdesk.monitors import Monitor, MonitorFunction, Watcher
from frontdesk.monitors.futures import (
    FutureLiveness,
    exit_reason_of,
    has_callback,
    on_closed_loop,
)
from frontdesk.records import (
    Created,
    ExitKind,
    ExitReason,
    Fence,
    Liveness,
    Session,
    SessionBuilder,
    seal_session,
)
from frontdesk.store.changes import Changes
from frontdesk.store.fork import call_in_forked_child
from frontdesk.store.index import AgentSessions, Excess, Index, Limits, all_of, first_of
from frontdesk.store.liveness import (
    AgentKey,
    AgentRegistration,
    ExitListener,
    Future,
    future_key,
    is_finished,
    report_crash,
    weak_callbacks,
)
from frontdesk.store.overlooked import OverlookedEnds
from frontdesk.store.write_lock import WriteLock

_LOST = ExitReason.of(ExitKind.LOST)
_NOT_ALIVE = ExitReason.of(ExitKind.NOT_ALIVE)
_SHUTDOWN = ExitReason.of(ExitKind.SHUTDOWN)
NO_LIMITS = Limits()


class Core:
    """The entries, changes and lock of one store, and who listens for the ends of its agents."""

    limits: Limits
    changes: Changes
    lock: WriteLock

    def __init__(
        self,
        *,
        limits: Limits,
        monitors: Mapping[type, MonitorFunction],
        changes: Changes,
        clock: Clock | None,
        watcher: Watcher | None,
    ) -> None:
        self.limits, self.changes = limits, changes
        self.now_ms: Callable[[], int] = (SystemClock() if clock is None else clock).wall_ms
        self.lock = WriteLock()
        self.closed: StoreClosed | None = None
        self.index: Index = Index()
        self.entries: dict[str, Session] = self.index.entries
        self.agents: dict[AgentKey, AgentSessions] = self.index.agents
        self._overlooked = OverlookedEnds(self.entries)
        self._pid = os.getpid()
        methods, put_off = (Core.on_future_done, Core.on_agent_exit), self.lock.deferred.append
        callbacks = weak_callbacks(weakref.ref(self), *methods, put_off=put_off)
        self.listener: ExitListener = ExitListener(
            monitors=monitors, watcher=watcher, callbacks=callbacks
        )
        call_in_forked_child(self, Core._after_fork_in_child)

    # -- create --------------------------------------------------------------------------------
    #
    # `SessionStore.create` checks the arguments and begins the session, before any lock. Then:
    #
    # 1. A plain task or future of the running loop, where no other loop is known: one pass under
    #    the lock admits it, adds the store's callback and enters it. Nothing foreign is called.
    # 2. Any other future: agents on closed loops are ended first. It is asked, and gets the
    #    callback, before the pass that enters it. By then it may have finished, and called back
    #    for nothing: so it is asked once more after the pass, which it cannot be told of too late.
    # 3. Any other agent: its monitor may run foreign code, so it is armed between two passes. The
    #    first looks whether the call is refused anyway, and whether the agent is known; the second
    #    enters it. Where both were wrong by then (another thread was faster, either way), the
    #    monitor that is one too many is cancelled, or the whole is done again.
    # 4. The agent is dead: its session is returned, created and ended as `not_alive` in one step,
    #    and never was an entry.
    # 5. Somebody has the id, or fills the limit: the call is refused. Before that reaches the
    #    caller those in the way are asked, without the lock, and where one is over it is ended and
    #    the whole is done again.
    # 6. Refused, or broken off by a signal handler that raises: a monitor without a session is
    #    cancelled, the lock is let go, what others put off meanwhile is done.

    def create_on_running_loop(self, builder: SessionBuilder) -> Session | None:
        """Enter a plain future of the running loop (case 1); None where it is done: see case 2."""
        # Not `with`: on CPython 3.11 that costs twice as much, and this is the hot path.
        lock, future = self.lock, builder.agent
        acquire, release = lock.acquire, lock.release
        try:
            acquire()
            if (
                self.closed is not None
                or self.limits is not NO_LIMITS
                or builder.session_id in self.entries
            ):
                self._admit(builder)
            listener = self.listener
            if future.done():
                return None
            # One that is known has the callback; one that was deleted may have kept it.
            if future not in self.agents and not (
                listener.detached and has_callback(future, listener.when_done)
            ):
                # A context for each: one that they share cannot be entered while one of them ends.
                future.add_done_callback(listener.when_done, context=Context())
            return self._enter(builder, future, future, FutureLiveness, self._pid, True)
        finally:
            try:  # noqa: SIM105 - a call in its place could be interrupted itself
                release()
            except RuntimeError:  # a signal handler raised before the lock was had
                pass
            if lock.deferred or self.changes.watches:
                self.after_write()

    def create_future(self, builder: SessionBuilder) -> Session:
        """Enter any other future (case 2)."""
        future = builder.agent
        key = future_key(future)
        if builder.session_id in self.entries or self.limits is not NO_LIMITS:
            self._known_if_admitted(builder, key)
        alive, known = not future.done(), key in self.agents
        if known and not alive:
            self.on_future_done(future)
        try:
            if alive and not known:
                alive = self.listener.listen(future, lock=self.lock.held, tick=self._tick)
            with self.lock.held:
                self._admit(builder)
                if alive:
                    # Put off before the entry is made: nothing can come between that loses it.
                    self.lock.defer(partial(self._end_if_over, future))
                return self._enter(builder, key, future, FutureLiveness, self._pid, alive)
        except BaseException:
            self.listener.detached = True  # it may have the callback, and no session
            raise
        finally:
            self.after_write()

    def create_monitored(self, builder: SessionBuilder) -> Session:
        """Enter any other agent (case 3)."""
        armed = self._armed_if_new(builder)
        try:
            with self.lock.held:
                self._admit(builder)
                present = self.agents.get(id(builder.agent))
                registration = armed if present is None else first_of(present)._liveness
                if type(registration) is AgentRegistration:
                    alive = registration.ended is None
                    registration.registered = registration.registered or alive
                    key, watched = registration.agent_key, registration.monitor
                    return self._enter(builder, key, registration, watched, registration.pid, alive)
        finally:
            self.after_write()
            # Refused, dead meanwhile, or registered by another thread too: one is enough.
            if armed is not None and not armed.registered:
                armed.monitor.cancel()
        # Known at first, and detached by another thread since: it needs a monitor after all.
        return self.create_monitored(builder)

    def _armed_if_new(self, builder: SessionBuilder) -> AgentRegistration | None:
        known = self._known_if_admitted(builder, id(builder.agent))
        if known is not None:
            if not known._liveness.done():
                return None
            self.reap(known)
            return self._armed_if_new(builder)
        try:
            return self.listener.monitor(builder.agent)
        except MonitorFailed:
            self.require_open()  # closed meanwhile, with the watcher: that is the reason then
            raise

    def _known_if_admitted(self, builder: SessionBuilder, key: AgentKey) -> Session | None:
        """Return a session that the agent has, if any; refuse at once what may not enter."""
        try:
            with self.lock.held:
                self._admit(builder)
                sessions = self.agents.get(key)
                return None if sessions is None else first_of(sessions)
        finally:
            self.after_write()

    def _admit(self, builder: SessionBuilder) -> None:
        """Refuse what may not enter (a step). Who is in the way is asked after it (case 5)."""
        if self.closed is not None:
            self.require_open()
        holder = self.entries.get(builder.session_id)
        if holder is not None:
            raise SessionAlreadyExists(builder.session_id, holder=holder)
        if self.limits is not NO_LIMITS:
            excess = self._excess(builder)
            if excess is not None:
                raise SessionLimitExceeded(scope=excess.scope, limit=excess.limit)

    def reap_in_the_way(
        self, builder: SessionBuilder, refusal: SessionAlreadyExists | SessionLimitExceeded
    ) -> bool:
        """Tell whether a refusal no longer stands: who was in the way had finished, and is ended.

        Not a step: the agents are asked, which the lock does not allow (case 5).
        """
        if isinstance(refusal, SessionAlreadyExists):
            present = tuple(filter(None, (refusal.holder,)))
        else:
            try:
                with self.lock.held:
                    excess = self._excess(builder)
            finally:
                self.after_write()
            if excess is None:
                return True
            present = excess.sessions
        finished = [session for session in present if session._liveness.done()]
        for session in finished:
            self.reap(session)
        return bool(finished)

    def _excess(self, builder: SessionBuilder) -> Excess | None:
        return self.index.excess(self.limits, tenant_id=builder.tenant_id, api_key=builder.api_key)

    def _enter(
        self,
        builder: SessionBuilder,
        key: AgentKey,
        liveness: Liveness,
        watched: object,
        pid: int,
        alive: bool,
    ) -> Session:
        """Make the session (a step): an entry where the agent lives, else only a record."""
        changes = self.changes
        revision = changes.revision = changes.revision + 1
        session = seal_session(builder, liveness, watched, pid, revision)
        if alive:
            self.index.insert(session, key)
        # Told last: a reader may see a change before this step is over, and look the session up.
        if changes.watches:
            changes.publish(Created(revision, session.metadata))
        if not alive:
            changes.record_end(session, _NOT_ALIVE, session.created_at)
        return session

    # -- an agent's end ------------------------------------------------------------------------
    #
    # Whoever hears of it first removes all sessions of that agent, and of no other, in one step;
    # whoever comes later finds nothing to do. It is heard of in seven ways:
    #
    # 1. A future calls back. All futures of a store have the same callback, and it stays in one
    #    whose session was deleted: of a future that is not here any more nothing is asked, so that
    #    asyncio reports its exception.
    # 2. A monitor calls, from whatever thread, for its registration.
    # 3. A lookup, or a call that the agent is in the way of, finds it finished before anybody told:
    #    it is asked how it ended, and goes the way of 1 or 2.
    # 4. A write finds it finished while it holds the lock: it is asked how after that step.
    # 5. Its event loop was closed under it, and nobody else will tell: creates, listings and
    #    counts look for closed loops, and so does the watcher's thread once a second.
    # 6. The store is closed: what has not finished ends with `shutdown`, and is left alone.
    # 7. Its callback was broken off at the recursion limit, and is put off; or it was not even
    #    begun, and the watcher's thread finds it, which looks at some futures each second.
    #
    # An end is told by identity: the sessions go only if the very future or registration that it
    # was told of answers for them. A write of this thread may be interrupted by it (a signal
    # handler, a finalizer): then it is put off until that write is done. The agents go last and
    # entries are found through them, so what a handler that raises leaves undone is done by the
    # next write. A delete is not an end: it removes one session, and leaves the agent alone.

    def on_future_done(self, future: Future) -> None:
        """Be told by a future that it is done (case 1)."""
        if self.lock.interrupting():
            self.lock.defer(partial(self.on_future_done, future))
            return
        key = future_key(future)
        known = key in self.agents
        if not known:
            # Asked once more behind a create of another thread that may be registering it.
            with self.lock.held:
                known = key in self.agents
            self.after_write()
        if known:
            self._end_agent(key, future, exit_reason_of(future))

    def on_agent_exit(self, registration: AgentRegistration, reason: ExitReason) -> None:
        """Take a monitor's word for it that an agent has ended (case 2)."""
        if self.lock.interrupting():
            self.lock.defer(partial(self.on_agent_exit, registration, reason))
            return
        if registration.ended is None:
            registration.ended = reason
        # Also where somebody was faster: whoever returns from here finds the sessions gone.
        self._end_agent(registration.agent_key, registration, registration.ended)

    def reap(self, session: Session) -> None:
        """End the agent of a session that was found finished, before anybody told (case 3)."""
        liveness = session._liveness
        if type(liveness) is AgentRegistration:
            self.on_agent_exit(liveness, liveness.reason())
            liveness.monitor.cancel()
        else:
            self.on_future_done(session.agent)

    def _end_agent(self, key: AgentKey, liveness: Liveness, reason: ExitReason) -> None:
        """Remove an agent's sessions, all in one go."""
        sessions: tuple[Session, ...] = ()
        lock = self.lock
        acquire, release = lock.acquire, lock.release
        try:
            at_ms = self.now_ms()
            acquire()
            present = self.agents.get(key)
            if present is not None and first_of(present)._liveness is liveness:
                sessions = self._end(key, reason, at_ms)
        except BaseException as error:
            # A signal handler broke it off, and nobody tells of an end twice: the next write does.
            # At the recursion limit the reason may be wrong as well: the callback sees to it.
            if not isinstance(error, RecursionError):
                lock.defer(partial(self._end_agent, key, liveness, reason))
            raise
        finally:
            try:  # noqa: SIM105 - a call in its place could be interrupted itself
                release()
            except RuntimeError:  # a signal handler raised before the lock was had
                pass
        if lock.deferred or self.changes.watches:
            self.after_write()
        if sessions and reason.kind is ExitKind.CRASHED:
            try:
                report_crash(sessions, reason)
            except RecursionError:
                lock.deferred.append(partial(report_crash, sessions, reason))

    def _end_if_over(self, future: Future) -> None:
        """End a future's sessions, if it is done, or pending on a loop that was closed."""
        if future.done():
            self.on_future_done(future)
        elif on_closed_loop(future):
            self._end_agent(future_key(future), future, _LOST)

    def _end(self, key: AgentKey, reason: ExitReason, at_ms: int) -> tuple[Session, ...]:
        """Remove an agent's sessions (a step); return them, to be dropped after the lock."""
        sessions = all_of(self.agents.get(key))
        for session in sessions:
            # By identity: the entry goes only if it still is this very incarnation.
            if self.index.remove(session):
                self.changes.record_end(session, reason, at_ms)
        # The agent last: what a signal handler that raises leaves undone is found, and done next.
        self.agents.pop(key, None)
        return sessions

    def end_closed_loops(self) -> None:
        """End the agents whose event loop was closed under them (case 5)."""
        if self.closed is not None:
            self.require_open()
        if self.lock.deferred and not self.lock.interrupting():
            self.after_write()
        loops = self.listener.loops
        closed = loops.closed()
        if not closed or self.lock.interrupting():
            return
        with self.lock.held:
            sessions = self.index.oldest_of_each_agent()
        for session in sessions:
            if type(session._liveness) is not AgentRegistration and on_closed_loop(session.agent):
                self._end_if_over(session.agent)
        # Last: where a signal handler breaks this off, the next look finds the loops again. Who
        # was entered since `sessions` was made has looked at its loop after that (create, case 2).
        with self.lock.held:
            loops.forget(closed)
        self.after_write()

    def _tick(self) -> None:
        # Held weakly by the watcher, so that it keeps no store.
        if self.closed is None:
            self.end_closed_loops()
            for session in self._overlooked.next_finished():
                self.reap(session)

    def end_all(self, at_ms: int) -> list[AgentRegistration]:
        """End everything with the store (a step, case 6); return the registrations to release."""
        registrations: list[AgentRegistration] = []
        if self.closed is not None:
            return registrations
        for key, sessions in list(self.agents.items()):
            liveness, reason = first_of(sessions)._liveness, _SHUTDOWN
            if type(liveness) is AgentRegistration:
                registrations.append(liveness)
                if liveness.ended is not None:
                    reason = liveness.ended
            self._end(key, reason, at_ms)
        # The last change is in the feed before the store is closed, as watches rely on.
        self.closed = StoreClosed()
        self.index.clear()
        return registrations

    # -- other writes --------------------------------------------------------------------------

    def delete(self, session_id: str, fence: Fence | None, reason: ExitReason) -> Session | None:
        """Remove one session; return what had the id, which keeps its agent until then."""
        lock = self.lock
        acquire, release = lock.acquire, lock.release
        released: Monitor | None = None
        session: Session | None = None
        finished = False
        at_ms = self.now_ms()
        try:
            try:
                acquire()
                if self.closed is not None:
                    self.require_open()
                session = self.entries.get(session_id)
                if session is not None and (fence is None or session.fence == fence):
                    finished = is_finished(session)
                    if not finished:
                        self.index.remove(session)
                        self.changes.record_end(session, reason, at_ms)
                        if self.index.forget(session):
                            released = self.listener.detach(session, reason)
            finally:
                try:  # noqa: SIM105 - a call in its place could be interrupted itself
                    release()
                except RuntimeError:  # a signal handler raised before the lock was had
                    pass
        finally:
            # Watchers first: a monitor of the user's own may block when it is cancelled.
            if lock.deferred or self.changes.watches:
                self.after_write()
            if released is not None:
                released.cancel()
        if finished and session is not None:
            self.reap(session)
        return session

    def replace(self, session: Session) -> Session:
        """Put a session in the place of its former version (a step)."""
        self.index.replace(session)
        self.changes.record_update(session)
        return session

    # -- after a write, and without one --------------------------------------------------------

    def after_write(self) -> None:
        """Do what a write leaves to be done when nothing is locked any more.

        To be called whenever the lock was let go, also by whoever wrote nothing or failed: another
        write may have come in between, and been put off.
        """
        if self.lock.deferred:
            self.lock.run_deferred()
        if self.changes.watches:
            self.changes.wakers.wake_all()

    def require_open(self) -> None:
        """Refuse what a closed store cannot do."""
        if self.closed is not None:
            raise StoreClosed(forked=self.closed.forked)

    def _after_fork_in_child(self) -> None:
        """Be closed in a forked child: the agents live in the parent, the lock may be held."""
        self.closed = StoreClosed(forked=True)
        self.lock = WriteLock()
        self.changes.watches = {}
        self.index.clear()
        self.listener.watcher.abandon_after_fork()
