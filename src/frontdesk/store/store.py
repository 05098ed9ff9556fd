"""SessionStore: `session_id -> live agent + metadata`, in one process. The reference product.

Above the monitors and the feed; the gateway, the agents and every later store stand on it or are
held to its laws. It knows nothing of HTTP, conversations or clusters.

How it is built. Reads are dict lookups without a lock, and ask the agent itself whether it has
finished. Writes take one lock, change entries, indexes and revision in one go, and call nobody
while they hold it: watchers are woken, monitors released and references dropped after it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from types import EllipsisType
from typing import Any

from frontdesk.clock import Clock, SystemClock
from frontdesk.errors import (
    InvalidType,
    SessionAlreadyExists,
    SessionLimitExceeded,
    SessionNotFound,
    StoreClosed,
)
from frontdesk.feed import Feed
from frontdesk.monitors import Monitor, MonitorFunction, Watcher, monitor
from frontdesk.monitors.futures import FutureMonitor
from frontdesk.session import (
    Change,
    Ended,
    ExitKind,
    ExitReason,
    Fence,
    Session,
    new_session,
    revised,
)
from frontdesk.store import checks
from frontdesk.store.building import Builds
from frontdesk.store.draft import Draft
from frontdesk.store.ends import Ends
from frontdesk.store.forks import tell_after_fork
from frontdesk.store.hosting import Hosted
from frontdesk.store.index import Index, Limits
from frontdesk.store.lock import WriteLock
from frontdesk.store.lookups import Lookups
from frontdesk.store.loops import Loops
from frontdesk.store.registration import Registration, agent_of, report_crash
from frontdesk.store.watch import Watch

_DELETED = ExitReason.of(ExitKind.DELETED)
_LOST = ExitReason.of(ExitKind.LOST)
_NOT_ALIVE = ExitReason.of(ExitKind.NOT_ALIVE)
_SHUTDOWN = ExitReason.of(ExitKind.SHUTDOWN)

_NO_LIMITS = Limits()
_FUTURES = (asyncio.Future, concurrent.futures.Future)


class SessionStore(Lookups, Hosted):
    """Register live agents under ids; an entry exists exactly as long as its agent lives.

    Thread-safe; usable with or without an event loop. `limits` bounds the number of live sessions,
    `monitors` maps further agent types to functions `(agent, on_exit) -> Monitor`, `feed_capacity`
    is how many changes a slow watch may lag behind before it gets a fresh snapshot,
    `ends_capacity` how many ended ids are remembered at least. A store ends with `close()`, `with`,
    `async with`, `lifespan` or `serve`.

    >>> import concurrent.futures
    >>> from frontdesk import SessionStore, SessionNotFound
    >>> agent = concurrent.futures.Future()
    >>> with SessionStore() as store:
    ...     session = store.create("s-1", agent, tenant_id="acme")
    ...     store.get("s-1") is session
    ...     agent.set_result(None)
    ...     "s-1" in store, str(store.ended("s-1").reason)
    True
    (False, 'normal')
    """

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
        self._limits = limits or _NO_LIMITS
        self._monitors = dict(monitors or {})
        self._clock = clock or SystemClock()
        self._watcher = watcher or Watcher()
        self._looking = False
        self._lock = WriteLock()
        self._closed: StoreClosed | None = None
        self._pid = os.getpid()
        self._index = Index()
        self._entries = self._index.entries
        self._ends = Ends(checks.capacity("ends_capacity", ends_capacity))
        self._agents: dict[int, Registration] = {}
        self._idle: dict[int, tuple[weakref.ref[Any], FutureMonitor]] = {}
        self._builds = Builds()
        self._loops = Loops()
        self._revision = 0
        self._feed: Feed[Change] = Feed(capacity=checks.capacity("feed_capacity", feed_capacity))
        self._watches: dict[object, None] = {}
        self._closing: Feed[None] = Feed(capacity=1)
        self._self: weakref.ref[SessionStore] = weakref.ref(self)
        if watcher is None:
            weakref.finalize(self, self._watcher.close).atexit = False
        tell_after_fork(self)

    # -- reading, beside what `Lookups` has ---------------------------------------------------

    def ended(self, session_id: str) -> Ended:
        """Return how the last session of this id ended, from the memory of recent ends.

        Raises `SessionNotFound` when nothing is remembered. The memory holds at least
        `ends_capacity` ids and no agents.
        """
        self._require_open()
        session = self._entries.get(checks.identifier("session_id", session_id))
        if session is not None and session._life.done() and not self._lock.interrupted():
            self._reap(session)
        ended = self._ends.of(session_id)
        if ended is None:
            raise SessionNotFound(session_id)
        return ended

    # -- writing -------------------------------------------------------------------------------

    def create(
        self,
        session_id: str,
        agent: Any,
        *,
        api_key: str | None = None,
        tenant_id: str = "default",
        blueprint: str | None = None,
        model: str | None = None,
    ) -> Session:
        """Register a live agent under an id, and monitor it.

        Guarantees that of any number of racing callers exactly one gets the id, that limits hold
        exactly, and that a refused call leaves nothing behind. An agent that is already dead is
        not entered: its `Session` is returned and its end, `not_alive`, is on record.

        Raises `SessionAlreadyExists` (with the holder) if a live agent has the id,
        `SessionLimitExceeded`, `UnknownAgentKind`, `AgentNotStarted`, `MonitorFailed` if the
        operating system cannot watch one more, `InvalidArgument`, `InvalidType`, `StoreClosed`.
        """
        draft = Draft(session_id, agent, api_key, tenant_id, blueprint, model)
        self._look_at_loops()
        if isinstance(agent, _FUTURES):
            return self._create(draft, None)
        return self._create_monitored(draft)

    def delete(
        self, session_id: str, *, fence: Fence | None = None, reason: ExitReason = _DELETED
    ) -> None:
        """Remove a session and stop monitoring it; the agent is left alone.

        Never fails for an id that is not there. With `fence`, only that incarnation is removed.
        `reason` is what the change feed and `ended` will say.
        """
        session_id = checks.identifier("session_id", session_id)
        if self._lock.interrupted():
            self._lock.defer(partial(self.delete, session_id, fence=fence, reason=reason))
            return
        released: Monitor | None = None
        session: Session | None = None
        with self._lock:
            self._require_open()
            session = self._entries.get(session_id)
            if session is None or fence not in (None, session.fence):
                return
            if session._life.done():
                self._reap_locked(session)
            else:
                released = self._forget(session, reason)
        self._after_write(released)

    def update(
        self,
        session_id: str,
        *,
        model: str | EllipsisType | None = ...,
        blueprint: str | EllipsisType | None = ...,
    ) -> Session:
        """Replace the metadata of a live session: same agent and fence, new revision.

        What is not given stays. Raises `SessionNotFound`.
        """
        session_id = checks.identifier("session_id", session_id)
        with self._lock:
            session = self.get(session_id)
            session = revised(
                session,
                blueprint=_or(blueprint, session.blueprint, "blueprint"),
                model=_or(model, session.model, "model"),
            )
            self._index.replace(session)
            self._registration(session).add(session)
            self._publish("updated", session)
        self._after_write()
        return session

    def get_or_create(
        self,
        session_id: str,
        factory: Callable[[], Any],
        *,
        timeout_s: float = 30,
        api_key: str | None = None,
        tenant_id: str = "default",
        blueprint: str | None = None,
        model: str | None = None,
    ) -> Session:
        """Return the live session of this id, or register the agent that `factory()` makes.

        The factory runs once, outside the store's lock, however many callers race; the others wait
        for it for at most `timeout_s` seconds. Where it fails, its own caller sees its exception,
        the waiting ones `AgentFactoryFailed`, and the next call may try again.

        Raises `RecursiveCreate` inside the factory, `SessionBusy` where the wait times out or would
        block a running event loop, `SessionAlreadyExists` (with the unused agent) where somebody
        registers the id by `create` meanwhile, and what `create` raises.
        """
        session_id = checks.identifier("session_id", session_id)
        if not callable(factory):
            raise InvalidType("factory", expected="callable", got=type(factory).__name__)
        timeout_s = checks.timeout("timeout_s", timeout_s)
        attributes = {
            "api_key": checks.optional_identifier("api_key", api_key),
            "tenant_id": checks.identifier("tenant_id", tenant_id),
            "blueprint": checks.optional_text("blueprint", blueprint),
            "model": checks.optional_text("model", model),
        }

        def make() -> Session:
            found = self._find(session_id)
            return found or self._create_made(session_id, factory(), attributes)

        return self._find(session_id) or self._builds.share(session_id, make, timeout_s=timeout_s)

    def watch(self, *, tenant_id: str | None = None, api_key: str | None = None) -> Watch:
        """Subscribe: one snapshot, then every later change, of a tenant, a key, or everything."""
        tenant_id = checks.optional_identifier("tenant_id", tenant_id)
        api_key = checks.optional_identifier("api_key", api_key)
        token = object()
        with self._lock:
            self._require_open()
            if not self._watches:
                self._feed.restart(self._revision)
            self._watches[token] = None
        return Watch(
            self,
            tenant_id=tenant_id,
            api_key=api_key,
            forget=partial(self._watches.pop, token, None),
        )

    def close(self) -> None:
        """End the store: every session ends with `shutdown`, monitors are released, watches end.

        Idempotent, and safe from anywhere: callbacks, watchers, signal handlers, finalizers. The
        agents are left alone. Every later call raises `StoreClosed`.
        """
        if self._closed is not None:
            return
        if self._lock.interrupted():
            self._lock.defer(self.close)
            return
        with self._lock:
            if self._closed is not None:
                return
            emptied = self._empty()
        for registration in emptied:
            _cancel(registration)
        self._watcher.close()
        self._closing.wake()
        self._feed.wake()

    # -- creating ------------------------------------------------------------------------------

    def _create(self, draft: Draft, armed: Registration | None) -> Session:
        """Enter a session; `armed` is the agent's registration where one was made beforehand."""
        with self._lock:
            self._require_open()
            self._admit(draft)
            registration = self._current(draft.agent) or armed or self._arm(draft.agent)
            session = self._session(draft, registration)
            if registration.done():
                self._enter_dead(session)
            else:
                self._enter(session, registration)
        self._after_write()
        return session

    def _create_monitored(self, draft: Draft) -> Session:
        """Create for an agent whose monitor may run foreign code, so not under our lock."""
        with self._lock:
            self._require_open()
            self._admit(draft)
            known = self._current(draft.agent)
        armed = None
        if known is None:
            armed = Registration(self._self)
            armed.monitor = monitor(draft.agent, armed, watcher=self._watcher, kinds=self._monitors)
        try:
            session = self._create(draft, armed)
        except BaseException:
            _cancel(armed)
            raise
        # Another thread may have registered the same agent meanwhile; one monitor is enough.
        if armed is not None and session.monitor is not armed.monitor:
            _cancel(armed)
        return session

    def _create_made(self, session_id: str, agent: Any, attributes: dict[str, Any]) -> Session:
        try:
            return self.create(session_id, agent, **attributes)
        except SessionAlreadyExists as error:
            error.agent = agent
            raise

    def _admit(self, draft: Draft) -> None:
        """Refuse what may not enter; finished agents are no reason, and are reaped first."""
        holder = self._entries.get(draft.session_id)
        if holder is not None:
            if not holder._life.done():
                raise SessionAlreadyExists(draft.session_id, holder=holder)
            self._reap_locked(holder)
        if self._limits is not _NO_LIMITS:
            self._admit_by_limits(draft)

    def _admit_by_limits(self, draft: Draft) -> None:
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
                self._reap_locked(session)

    def _current(self, agent: Any) -> Registration | None:
        """Return the registration of an agent that is alive; reap it where the agent is not."""
        registration = self._agents.get(id(agent))
        if registration is not None and registration.done():
            self._end_finished(registration)
            return None
        return registration

    def _arm(self, agent: Any) -> Registration:
        """Monitor a future. Its callbacks can't be taken back, so a disarmed one is used again."""
        registration = Registration(self._self)
        idle = self._idle.pop(id(agent), None)
        if idle is not None and idle[0]() is agent:
            registration.monitor = idle[1]
            idle[1].rearm(agent, registration)
        else:
            registration.monitor = FutureMonitor(agent, registration)
        return registration

    def _session(self, draft: Draft, registration: Registration) -> Session:
        self._revision += 1
        agent = draft.agent
        return new_session(
            draft.session_id,
            agent,
            life=agent if isinstance(agent, _FUTURES) else registration,
            pid=getattr(registration.monitor, "pid", self._pid),
            api_key=draft.api_key,
            tenant_id=draft.tenant_id,
            created_at=self._clock.wall_ms(),
            blueprint=draft.blueprint,
            model=draft.model,
            monitor=registration.monitor,
            fence=self._revision,
        )

    def _enter(self, session: Session, registration: Registration) -> None:
        self._index.insert(session)
        if registration.sessions is None:
            self._agents[id(session.agent)] = registration
            loop = getattr(registration.monitor, "loop", None)
            if loop is not None:
                self._loops.add(loop)
                self._look_every_second()
        registration.add(session)
        if self._watches:
            self._feed.append(Change(session.fence, "created", session.metadata))

    def _look_every_second(self) -> None:
        if not self._looking:
            self._looking = True
            self._watcher.every_second(_looker(self._self))

    def _enter_dead(self, session: Session) -> None:
        if self._watches:
            self._feed.append(Change(session.fence, "created", session.metadata))
        self._record_end(session, _NOT_ALIVE)

    # -- ending --------------------------------------------------------------------------------

    def _agent_ended(self, registration: Registration, reason: ExitReason) -> None:
        """Take a monitor's word for it: remove the agent's sessions, all in one go."""
        if self._lock.interrupted():
            self._lock.defer(partial(self._agent_ended, registration, reason))
            return
        with self._lock:
            # Kept until the lock is released: dropping an agent may run its finalizers.
            sessions = self._end(registration, reason)
        if sessions:
            self._after_write()
            report_crash(sessions, reason)

    def _reap(self, session: Session) -> None:
        with self._lock:
            present = self._entries.get(session.session_id)
            if present is not None and present._life.done():
                self._reap_locked(present)
        self._after_write()

    def _reap_locked(self, session: Session) -> None:
        """End an agent that was found finished, before its callback has run."""
        registration = self._agents.get(id(session.agent))
        if registration is not None:
            self._end_finished(registration)

    def _end_finished(self, registration: Registration) -> None:
        reason = registration.reason()
        sessions = self._end(registration, reason)
        # Deferred also because it holds the agent: dropping one may run its finalizers.
        self._lock.defer(partial(report_crash, sessions, reason))

    def _end(self, registration: Registration, reason: ExitReason) -> tuple[Session, ...]:
        if registration.ended is not None:
            return ()
        registration.ended = reason
        sessions = registration.take()
        if not sessions:
            return ()
        self._agents.pop(id(agent_of(sessions)), None)
        for session in sessions:
            # By identity: the entry goes only if it still is this very incarnation.
            if self._index.remove(session):
                self._record_end(session, reason)
        return sessions

    def _forget(self, session: Session, reason: ExitReason) -> Monitor | None:
        """Remove a session whose agent lives; return the monitor that is to be released."""
        registration = self._registration(session)
        self._index.remove(session)
        self._record_end(session, reason)
        if not registration.discard(session):
            return None
        del self._agents[id(session.agent)]
        watching = registration.monitor
        if isinstance(watching, FutureMonitor):
            # Under the lock, so that no create can meet the callback armed but not remembered.
            watching.cancel()
            self._remember_idle(session.agent, watching)
            return None
        return watching

    def _remember_idle(self, agent: Any, watching: FutureMonitor) -> None:
        key, idle = id(agent), self._idle
        idle[key] = (weakref.ref(agent, lambda _: idle.pop(key, None)), watching)

    def _record_end(self, session: Session, reason: ExitReason) -> None:
        self._revision += 1
        self._ends.note(session, reason, at_ms=self._clock.wall_ms(), revision=self._revision)
        if self._watches:
            self._feed.append(Change(self._revision, "ended", session.metadata, reason))

    def _empty(self) -> list[Registration]:
        """End everything with the store; return the registrations to release."""
        registrations = list(self._agents.values())
        for registration in registrations:
            found = registration.done()
            self._end(registration, registration.reason() if found else _SHUTDOWN)
        # The last change is in the feed before the store is closed, as watches rely on.
        self._closed = StoreClosed()
        self._index = Index()
        self._entries = self._index.entries
        self._idle.clear()
        return registrations

    # -- within --------------------------------------------------------------------------------

    def _publish(self, kind: Any, session: Session) -> None:
        self._revision += 1
        if self._watches:
            self._feed.append(Change(self._revision, kind, session.metadata))

    def _after_write(self, released: Monitor | None = None) -> None:
        """Do what a write leaves to be done when nothing is locked any more."""
        if released is not None:
            released.cancel()
        if self._watches:
            self._feed.wake()

    def _registration(self, session: Session) -> Registration:
        return self._agents[id(session.agent)]

    def _find(self, session_id: str) -> Session | None:
        try:
            return self.get(session_id)
        except SessionNotFound:
            return None

    def _look_at_loops(self) -> None:
        """End the agents whose event loop was closed under them: nobody else will tell."""
        if self._closed is not None:
            self._require_open()
        gone = self._loops.closed()
        if gone and not self._lock.interrupted():
            self._end_loops(gone)

    def _end_loops(self, gone: list[asyncio.AbstractEventLoop]) -> None:
        ended: list[tuple[tuple[Session, ...], ExitReason]] = []
        with self._lock:
            self._loops.forget(gone)
            for registration in list(self._agents.values()):
                if getattr(registration.monitor, "loop", None) in gone:
                    reason = registration.reason() if registration.done() else _LOST
                    ended.append((self._end(registration, reason), reason))
                    _cancel(registration)
        self._after_write()
        for sessions, reason in ended:
            report_crash(sessions, reason)

    def _snapshot(self, tenant_id: str | None, api_key: str | None) -> tuple[int, list[Session]]:
        with self._lock:
            return self._revision, self._index.select(tenant_id=tenant_id, api_key=api_key)

    def _after_fork_in_child(self) -> None:
        """Be closed in a forked child: the agents live in the parent, the lock may be held."""
        self._closed = StoreClosed(forked=True)
        self._lock = WriteLock()
        self._index = Index()
        self._entries = self._index.entries
        self._agents, self._idle, self._watches = {}, {}, {}
        self._watcher.abandon_after_fork()


def _or(value: str | EllipsisType | None, present: str | None, name: str) -> str | None:
    return present if isinstance(value, EllipsisType) else checks.optional_text(name, value)


def _cancel(registration: Registration | None) -> None:
    if registration is not None and registration.monitor is not None:
        registration.monitor.cancel()


def _looker(reference: weakref.ref[SessionStore]) -> Callable[[], None]:
    """Return a look at the loops that keeps no store alive."""

    def look() -> None:
        store = reference()
        if store is not None and not store.closed:
            store._look_at_loops()

    return look
