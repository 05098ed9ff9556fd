"""SessionStore: `session_id -> live agent + metadata`, in one process. The reference product.

Above the monitors and the feed; the agents, the gateway and every later store stand on it or are
held to its laws. It knows nothing of HTTP, conversations or clusters. The operations are here, the
lookups in `lookups.py`, the steps that writes are made of in `core.py`, ways to run it in a host
in `hosting.py`.

Reads are dict lookups without a lock, and ask the agent itself whether it has finished. Writes
take one lock and call nobody while they hold it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from contextvars import Context
from functools import partial
from types import EllipsisType
from typing import Any

from frontdesk.errors import (
    FrontdeskError,
    InvalidType,
    ReentrantWrite,
    SessionAlreadyExists,
    SessionLimitExceeded,
    SessionNotFound,
)
from frontdesk.monitors import Monitor
from frontdesk.monitors.futures import FutureLiveness
from frontdesk.records import Ended, ExitKind, ExitReason, Fence, Session, draft_session, revised
from frontdesk.store import validation
from frontdesk.store.core import NO_LIMITS, Core
from frontdesk.store.hosting import Hosted
from frontdesk.store.liveness import (
    PLAIN_FUTURES,
    AgentRegistration,
    is_finished,
    joined,
    key_of,
)
from frontdesk.store.watch import Watch

_DELETED = ExitReason.of(ExitKind.DELETED)


class SessionStore(Core, Hosted):
    """Register live agents under ids; an entry exists exactly as long as its agent lives.

    Thread-safe; usable with or without an event loop. A store ends with `close()`, `with`,
    `async with`, `lifespan` or `serve`. An empty one is true, as a condition.

    A new store has no thread. One daemon thread comes with the first thread or process agent, or
    with the first task or asyncio future (it looks for closed event loops once a second), and
    serves everything of the store. It ends with the store, also with one that is forgotten
    without `close()`.

    Args:
        limits: How many sessions may live at once. None is no limit.
        monitors: Further kinds of agents: a type to a function `(agent, on_exit) -> Monitor`.
        feed_capacity: How many changes a slow watch may lag behind before it gets a fresh
            snapshot.
        ends_capacity: How many ended ids are remembered: at least this many, at most twice.
        clock: What `created_at` and `ended_at` are read from; the machine's unless given.
        watcher: A `Watcher` to share with other stores, or with pidfds switched off. It stays open
            when the store is closed: it is yours.

    Examples:
        >>> import concurrent.futures
        >>> from frontdesk import SessionStore
        >>> agent = concurrent.futures.Future()
        >>> with SessionStore() as store:
        ...     session = store.create("s-1", agent, tenant_id="acme")
        ...     print(store.get("s-1") is session)
        ...     agent.set_result(None)
        ...     print("s-1" in store, store.ended("s-1").reason)
        True
        False normal
    """

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

        - Of any number of racing callers exactly one gets an id; limits hold exactly; a refused
          call leaves nothing behind.
        - **An agent that is dead already is not an error**: its `Session` is returned, the change
          feed shows it created and ended with `not_alive`, `ended` knows it, and no lookup ever
          sees it. A process that has exited and was not waited for is dead.
        - A finished agent that still has the id, or fills a limit, is ended first, with its own
          reason.
        - One agent may have any number of sessions. It gets one monitor per store, and its end ends
          them all in one go.
        - The store keeps the agent alive (in Python's sense): a registered task that nobody else
          refers to is not garbage-collected.

        Raises `SessionAlreadyExists` (with the `holder`, which is untouched) if a live agent has
        the id, `SessionLimitExceeded`, `UnknownAgentKind`, `AgentNotStarted`, `MonitorFailed` if
        the operating system cannot watch one more (no descriptor is free, say), `InvalidArgument`,
        `InvalidType`, `ReentrantWrite`, `StoreClosed`. Costs constant time, but for a refusal by a
        limit, which looks through the sessions that fill it.
        """
        draft = draft_session(
            validation.identifier("session_id", session_id),
            agent,
            None if api_key is None else self._index.api_key(api_key),
            self._index.tenant_id(tenant_id),
            None if blueprint is None else validation.optional_text("blueprint", blueprint),
            None if model is None else validation.optional_text("model", model),
            self._now_ms(),
        )
        if self._lock.interrupting():
            raise ReentrantWrite("create")
        while True:
            try:
                # The hot path: a task of the running loop, where no other loop is known.
                if type(agent) in PLAIN_FUTURES and not self._monitors:
                    context = self._loops.context_here(agent)
                    if context is not None:
                        return self._create_future(draft, context)
                self._look_at_loops()
                if self._is_future(agent):
                    return self._create_future(draft)
                return self._create_monitored(draft)
            except (SessionAlreadyExists, SessionLimitExceeded) as refusal:
                if not self._reap_in_the_way(draft, refusal):
                    raise

    def delete(
        self, session_id: str, *, fence: Fence | None = None, reason: ExitReason = _DELETED
    ) -> None:
        """Remove a session and stop monitoring it; **the agent is left alone**.

        Never fails for an id that is not there. End the agent yourself: `delete` only takes it out
        of the registry. With `fence`, only that incarnation is removed, so that a late clean-up of
        yours cannot hit a session made since. `reason` is what the feed and `ended` will say
        (`deleted`, unless given); a session whose agent had finished already ends with the agent's
        reason instead.

        In a signal handler or finalizer that interrupted a write of this store, it is carried out
        right after that write. Raises `InvalidType` for a `fence` or `reason` of another type, and
        removes nothing then. Costs constant time.
        """
        if type(session_id) is not str:
            session_id = validation.identifier("session_id", session_id)
        if fence is not None:
            validation.fence(fence)
        if reason is not _DELETED:
            validation.reason(reason)
        if self._lock.interrupting():
            self._lock.defer(partial(self.delete, session_id, fence=fence, reason=reason))
            return
        session = self._entries.get(session_id)
        if session is not None and fence in (None, session.fence) and session._life.done():
            self._reap(session)
        if self._delete(session_id, fence, reason) is None:
            validation.identifier("session_id", session_id)

    def update(
        self,
        session_id: str,
        *,
        model: str | EllipsisType | None = ...,
        blueprint: str | EllipsisType | None = ...,
    ) -> Session:
        """Replace the metadata of a live session: same agent and fence, new revision.

        What is not given stays; None clears. Sessions are frozen, so one that you hold shows what
        was. Nothing else of a session can be changed: not its tenant, key, id or agent. Raises
        `SessionNotFound`. Costs constant time.
        """
        session_id = validation.identifier("session_id", session_id)
        self._lock.refuse_interrupting("update")
        self.get(session_id)
        try:
            with self._lock.held:
                present = self._entries.get(session_id)
                if present is None or is_finished(present):
                    return self._absent(session_id)
                session = revised(
                    present,
                    blueprint=_or(blueprint, present.blueprint, "blueprint"),
                    model=_or(model, present.model, "model"),
                )
                self._index.replace(session)
                key = key_of(session)
                self._agents[key] = joined(self._agents[key], session)
                self._record_update(session)
                return session
        finally:
            self._after_write()

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

        - The factory is a plain function of no arguments that returns an agent. It runs once
          however many callers race, in the first one's thread, outside the store's lock. The others
          wait for at most `timeout_s` seconds.
        - If it fails, its own caller sees its exception, the waiting ones `AgentFactoryFailed`, and
          the next call may try again.
        - **A caller on a running event loop never waits**: it would block the loop. It gets
          `SessionBusy` with `waited_s=0`. (If it is the first, it runs the factory, as any plain
          call.) In a thread, `SessionBusy` comes after `timeout_s`.
        - The attributes are for a session that is made. **One that exists is returned as it is,
          whatever its tenant, key or model.**
        - A factory that returns a dead agent gives a `Session` that is over (`not_alive`), to all
          callers.

        Raises `RecursiveCreate` for the same id inside the factory, `SessionAlreadyExists` (with
        the `holder`) where somebody takes the id by `create` meanwhile, and what `create` raises.
        Whatever the refusal (a limit, say), the error's `agent` is the one that was made for
        nothing: it is alive, and the caller's to end.
        """
        session_id = validation.identifier("session_id", session_id)
        if not callable(factory):
            raise InvalidType("factory", expected="callable", got=type(factory).__name__)
        timeout_s = validation.timeout("timeout_s", timeout_s)
        attributes = {
            "api_key": validation.optional_identifier("api_key", api_key),
            "tenant_id": validation.identifier("tenant_id", tenant_id),
            "blueprint": validation.optional_text("blueprint", blueprint),
            "model": validation.optional_text("model", model),
        }

        def make() -> Session:
            found = self._find(session_id)
            return found or self._create_made(session_id, factory(), attributes)

        self._lock.refuse_interrupting("get_or_create")
        return self._find(session_id) or self._builds.share(session_id, make, timeout_s=timeout_s)

    def ended(self, session_id: str) -> Ended:
        """Return how the last session of this id ended.

        It knows the end of a finished agent before its callback has run. While a session of the id
        lives, it tells of the one before. It comes from a bounded memory of at least
        `ends_capacity` ids, which holds no agents and knows no tenants. Raises `SessionNotFound`
        when nothing is remembered: it never was, or was too long ago. Costs constant time.
        """
        self._require_open()
        session = self._entries.get(validation.identifier("session_id", session_id))
        if session is not None and session._life.done() and not self._lock.interrupting():
            self._reap(session)
        ended = self._ends.of(session_id)
        if ended is None:
            raise SessionNotFound(session_id)
        return ended

    def watch(self, *, tenant_id: str | None = None, api_key: str | None = None) -> Watch:
        """Subscribe: one snapshot, then every later change, of a tenant, a key, or everything.

        Costs the store nothing but the records that all watches share.
        """
        tenant_id = validation.optional_identifier("tenant_id", tenant_id)
        api_key = validation.optional_identifier("api_key", api_key)
        self._lock.refuse_interrupting("watch")
        token = object()
        try:
            with self._lock.held:
                self._require_open()
                if not self._watches:
                    self._feed.restart(self._revision)
                self._watches[token] = None
        finally:
            self._after_write()
        return Watch(
            self,
            tenant_id=tenant_id,
            api_key=api_key,
            forget=partial(self._watches.pop, token, None),
        )

    def close(self) -> None:
        """End the store: every session ends with `shutdown`, monitors are released, watches end.

        Watches deliver what is left first. **The agents are left alone.** Idempotent, and safe from
        anywhere: callbacks, watchers, signal handlers, finalizers, while other threads are in the
        middle of calls. Every later operation raises `StoreClosed`; a second `close` does nothing.
        """
        if self._lock.interrupting():
            self._lock.defer(self.close)
            return
        for session in self._index.select(tenant_id=None, api_key=None):
            if session._life.done():
                self._reap(session)
        with self._lock.held:
            registrations = [] if self.closed else self._empty()
        # Watchers first: a monitor of the user's own may block when it is cancelled.
        self._after_write()
        self._closing.wake_all()
        if self._owns_watcher:
            self._watcher.close()
        # One that raises, SystemExit included, keeps no other from being released.
        with ExitStack() as releasing:
            for registration in reversed(registrations):
                releasing.callback(registration.watching.cancel)

    # -- within --------------------------------------------------------------------------------

    def _delete(self, session_id: str, fence: Fence | None, reason: ExitReason) -> Session | None:
        """Remove it, and return what had the id; it holds the agent until the lock is let go."""
        lock = self._lock
        acquire, release = lock.acquire, lock.release
        released: Monitor | None = None
        session: Session | None = None
        try:
            try:
                acquire()
                if self._closed is not None:
                    self._require_open()
                session = self._entries.get(session_id)
                if session is not None and (fence is None or session.fence == fence):
                    if is_finished(session):
                        self._end_finished(session)
                    else:
                        released = self._forget(session, reason)
            finally:
                try:  # noqa: SIM105 - a call in its place could be interrupted itself
                    release()
                except RuntimeError:  # a signal handler raised before the lock was had
                    pass
        finally:
            # Watchers first: a monitor of the user's own may block when it is cancelled.
            if lock.deferred or self._watches:
                self._after_write()
            if released is not None:
                released.cancel()
        return session

    def _create_future(self, draft: Any, context: Context | None = None) -> Session:
        # Not `with`: on CPython 3.11 that costs twice as much, and this is the hot path.
        lock, future = self._lock, draft.agent
        acquire, release = lock.acquire, lock.release
        try:
            acquire()
            if (
                self._closed is not None
                or self._limits is not NO_LIMITS
                or draft.session_id in self._entries
            ):
                self._admit(draft)
            # `context` is for a plain future of the running loop, most likely one that is new here.
            if context is None or future in self._agents or self._let_go or future.done():
                return self._enter_future(draft)
            future.add_done_callback(self._when_done, context=context)
            return self._enter(draft, future, future, FutureLiveness, self._pid, True)
        finally:
            try:  # noqa: SIM105 - a call in its place could be interrupted itself
                release()
            except RuntimeError:  # a signal handler raised before the lock was had
                pass
            if lock.deferred or self._watches:
                self._after_write()

    def _create_monitored(self, draft: Any) -> Session:
        """Create for an agent whose monitor may run foreign code: so not under our lock."""
        armed = self._armed_if_new(draft)
        try:
            with self._lock.held:
                self._admit(draft)
                known = self._known(id(draft.agent))
                registration = armed if known is None else known._life
                if registration is not None:
                    return self._enter_monitored(draft, registration)
        finally:
            self._after_write()
            # Refused, dead meanwhile, or registered by another thread too: one is enough.
            if armed is not None and not armed.entered:
                armed.watching.cancel()
        # Known at first, and let go by another thread since: it needs a monitor after all.
        return self._create_monitored(draft)

    def _armed_if_new(self, draft: Any) -> AgentRegistration | None:
        try:
            with self._lock.held:
                self._admit(draft)
                known = self._known(id(draft.agent))
        finally:
            self._after_write()
        if known is None:
            return self._arm(draft.agent)
        if known._life.done():
            self._reap(known)
            return self._armed_if_new(draft)
        return None

    def _create_made(self, session_id: str, agent: Any, attributes: dict[str, Any]) -> Session:
        try:
            return self.create(session_id, agent, **attributes)
        except FrontdeskError as error:
            error.agent = agent
            raise

    def _find(self, session_id: str) -> Session | None:
        try:
            return self.get(session_id)
        except SessionNotFound:
            return None


def _or(value: str | EllipsisType | None, present: str | None, name: str) -> str | None:
    return present if isinstance(value, EllipsisType) else validation.optional_text(name, value)
