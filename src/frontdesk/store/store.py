"""SessionStore: `session_id -> live agent + metadata`, in one process. The reference product.

The agents, the gateway and every later store stand on it or are held to its laws. The writes and
its life are here, the reads in `lookups.py`; the state, and the steps that writes are made of, are
its `Core`.

Reads are dict lookups without a lock, and ask the agent itself whether it has finished. Writes
take one lock and call nobody while they hold it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from types import EllipsisType
from typing import Protocol, Self, overload

from frontdesk.clock import Clock
from frontdesk.errors import (
    InvalidType,
    ReentrantWrite,
    SessionAlreadyExists,
    SessionLimitExceeded,
)
from frontdesk.feed import Wakers
from frontdesk.monitors import MonitorFunction, Watcher
from frontdesk.records import ExitKind, ExitReason, Fence, Session, revised, session_builder
from frontdesk.store import validation
from frontdesk.store.changes import Changes
from frontdesk.store.core import NO_LIMITS, Core
from frontdesk.store.get_or_create import PendingCreates
from frontdesk.store.index import Limits, checked_limits
from frontdesk.store.liveness import PLAIN_FUTURES
from frontdesk.store.lookups import AgentT, Lookups
from frontdesk.waiting import timeout

_DELETED = ExitReason.of(ExitKind.DELETED)


class TaskStatus(Protocol):
    """What a task group waits for: anyio's and trio's `task_status`."""

    def started(self, value: object = None) -> None: ...


class SessionStore(Lookups[AgentT]):
    """Register live agents under ids; an entry exists exactly as long as its agent lives.

    To type checkers a store is of one type of agent: `SessionStore[asyncio.Task[None]]()` takes and
    returns such tasks. One whose type is not given takes any `KnownAgent`, or with `monitors` the
    kinds that those are for.

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

    @overload
    def __init__(
        self,
        *,
        limits: Limits | None = None,
        monitors: None = None,
        feed_capacity: int = 4096,
        ends_capacity: int = 10_000,
        clock: Clock | None = None,
        watcher: Watcher | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        *,
        limits: Limits | None = None,
        monitors: Mapping[type[AgentT], MonitorFunction],
        feed_capacity: int = 4096,
        ends_capacity: int = 10_000,
        clock: Clock | None = None,
        watcher: Watcher | None = None,
    ) -> None: ...

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        monitors: Mapping[type[AgentT], MonitorFunction] | None = None,
        feed_capacity: int = 4096,
        ends_capacity: int = 10_000,
        clock: Clock | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._core = Core(
            limits=NO_LIMITS if limits is None else checked_limits(limits),
            monitors=validation.monitors(monitors),
            changes=Changes(
                feed_capacity=validation.capacity("feed_capacity", feed_capacity),
                ends_capacity=validation.capacity("ends_capacity", ends_capacity),
            ),
            clock=clock,
            watcher=None if watcher is None else validation.watcher(watcher),
        )
        # The same dict for life: a lookup is one step. No slots here for the same reason: read by
        # the instruction that reads the sessions' own, they cost the processor its prefetching.
        self._entries = self._core.entries
        self._pending = PendingCreates()
        self._closing = Wakers()

    @property
    def limits(self) -> Limits:
        """The limits in force.

        Set it to replace them: they hold from the next `create` on, and no session ends for them.
        """
        return self._core.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._core.limits = checked_limits(limits)

    # -- writes --------------------------------------------------------------------------------

    def create(
        self,
        session_id: str,
        agent: AgentT,
        *,
        api_key: str | None = None,
        tenant_id: str = "default",
        blueprint: str | None = None,
        model: str | None = None,
    ) -> Session[AgentT]:
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
        core = self._core
        # As locals: CPython calls what an instance holds faster so.
        index, listener, now_ms = core.index, core.listener, core.now_ms
        interrupting = core.lock.interrupting
        builder = session_builder(
            validation.identifier("session_id", session_id),
            agent,
            None if api_key is None else index.api_key(api_key),
            index.tenant_id(tenant_id),
            None if blueprint is None else validation.optional_text("blueprint", blueprint),
            None if model is None else validation.optional_text("model", model),
            now_ms(),
        )
        if interrupting():
            raise ReentrantWrite("create")
        while True:
            try:
                # The hot path: a task of the running loop, where no other loop is known.
                plain = type(agent) in PLAIN_FUTURES and not listener.monitors
                if plain and listener.loops.runs_only(builder.agent):
                    session = core.create_on_running_loop(builder)
                    if session is not None:
                        return session
                core.end_closed_loops()
                future = listener.is_future(agent)
                return (core.create_future if future else core.create_monitored)(builder)
            except (SessionAlreadyExists, SessionLimitExceeded) as refusal:
                if not core.reap_in_the_way(builder, refusal):
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
            fence = validation.fence(fence)
        if reason is not _DELETED:
            validation.reason(reason)
        core = self._core
        interrupting = core.lock.interrupting
        if interrupting():
            core.lock.defer(partial(self.delete, session_id, fence=fence, reason=reason))
            return
        session = self._entries.get(session_id)
        if session is not None and fence in (None, session.fence) and session._liveness.done():
            core.reap(session)
        if core.delete(session_id, fence, reason) is None:
            validation.identifier("session_id", session_id)

    def update(
        self,
        session_id: str,
        *,
        model: str | EllipsisType | None = ...,
        blueprint: str | EllipsisType | None = ...,
    ) -> Session[AgentT]:
        """Replace the metadata of a live session: same agent and fence, new revision.

        What is not given stays; None clears. Sessions are frozen, so one that you hold shows what
        was. Nothing else of a session can be changed: not its tenant, key, id or agent. Raises
        `SessionNotFound`. Costs constant time.
        """
        session_id = validation.identifier("session_id", session_id)
        blueprint = validation.changed_text("blueprint", blueprint)
        model = validation.changed_text("model", model)
        core = self._core
        core.lock.refuse_interrupting("update")
        while True:
            asked = self.get(session_id)
            session = revised(asked, blueprint=blueprint, model=model)
            try:
                with core.lock.held:
                    # Else somebody else was faster, and it is another that has to be asked.
                    if self._entries.get(session_id) is asked:
                        return core.replace(session)
            finally:
                core.after_write()

    def get_or_create(
        self,
        session_id: str,
        factory: Callable[[], AgentT],
        *,
        timeout_s: float = 30,
        api_key: str | None = None,
        tenant_id: str = "default",
        blueprint: str | None = None,
        model: str | None = None,
    ) -> Session[AgentT]:
        """Return the live session of this id, or register the agent that `factory()` makes.

        - The factory is a plain function of no arguments that returns an agent. It runs once
          however many callers race, in the first one's thread, outside the store's lock. The others
          wait for at most `timeout_s` seconds.
        - If it fails, its own caller sees its exception, the waiting ones `AgentFactoryFailed`, and
          the next call may try again.
        - **A caller on a running event loop**, asyncio's or trio's, **never waits**: it would block
          the loop. It gets `SessionBusy` with `waited_s=0`. (If it is the first, it runs the
          factory, as any plain call.) In a thread, `SessionBusy` comes after `timeout_s`.
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
        create = self._creator(session_id, factory, api_key, tenant_id, blueprint, model)
        timeout_s = timeout("timeout_s", timeout_s)
        return self._pending.get_or_create(
            session_id, self.get, factory, create, timeout_s=timeout_s
        )

    async def get_or_create_async(
        self,
        session_id: str,
        factory: Callable[[], Coroutine[object, None, AgentT]],
        *,
        timeout_s: float = 30,
        api_key: str | None = None,
        tenant_id: str = "default",
        blueprint: str | None = None,
        model: str | None = None,
    ) -> Session[AgentT]:
        """Return the live session of this id, or register the agent that `await factory()` makes.

        As `get_or_create`, for a coroutine function, on asyncio and trio: nobody blocks a loop, and
        those who come while the factory runs wait for it, on whichever loop, or in whichever thread
        (by `get_or_create`).

        - The factory runs once however many callers race, in a task of its own on the first one's
          loop, with that caller's context variables.
        - **Cancelling is safe.** A caller that is cancelled takes nothing away from the others. The
          last one's cancellation cancels the factory, and waits until it has ended (or until it is
          cancelled again); nothing is registered then. So a time limit of your own is safe, too.
        - If it fails, the first caller sees its exception, the others `AgentFactoryFailed`, and the
          next call may try again. If its event loop ends under it, those who wait on other loops
          try themselves.
        - Who waits for the factory of another caller gets `SessionBusy` after `timeout_s` seconds.

        Refusals, attributes and the error's `agent` are as in `get_or_create`. `RecursiveCreate` is
        for the factory itself; in a task that it started and waits for, the time-out ends it.

        Examples:
            >>> import asyncio
            >>> from frontdesk import SessionStore
            >>> async def connect() -> asyncio.Task[None]:
            ...     await asyncio.sleep(0)
            ...     return asyncio.create_task(asyncio.sleep(60))
            >>> async def main():
            ...     with SessionStore() as store:
            ...         asked = [store.get_or_create_async("s-1", connect) for _ in range(100)]
            ...         sessions = await asyncio.gather(*asked)
            ...         print(len(set(sessions)), sessions[0] is store.get("s-1"))
            >>> asyncio.run(main())
            1 True
        """
        session_id = validation.identifier("session_id", session_id)
        create = self._creator(session_id, factory, api_key, tenant_id, blueprint, model)
        timeout_s = timeout("timeout_s", timeout_s)
        return await self._pending.get_or_create_async(
            session_id, self.get, factory, create, timeout_s=timeout_s
        )

    def _creator(
        self,
        session_id: str,
        factory: object,
        api_key: str | None,
        tenant_id: str,
        blueprint: str | None,
        model: str | None,
    ) -> Callable[[AgentT], Session[AgentT]]:
        """Check what a `get_or_create` is given; return the create that is left to do."""
        if not callable(factory):
            raise InvalidType("factory", expected="callable", got=type(factory).__name__)
        self._core.lock.refuse_interrupting("get_or_create")
        return partial(
            self.create,
            session_id,
            api_key=validation.optional_identifier("api_key", api_key),
            tenant_id=validation.identifier("tenant_id", tenant_id),
            blueprint=validation.optional_text("blueprint", blueprint),
            model=validation.optional_text("model", model),
        )

    # -- its life, alone and in a host ---------------------------------------------------------

    def close(self) -> None:
        """End the store: every session ends with `shutdown`, monitors are released, watches end.

        Watches deliver what is left first. **The agents are left alone.** Idempotent, and safe from
        anywhere: callbacks, watchers, signal handlers, finalizers, while other threads are in the
        middle of calls. Every later operation raises `StoreClosed`; a second `close` does nothing.
        """
        core = self._core
        if core.lock.interrupting():
            core.lock.defer(self.close)
            return
        for session in core.index.select(tenant_id=None, api_key=None):
            if session._liveness.done():
                core.reap(session)
        at_ms = core.now_ms()
        with core.lock.held:
            registrations = core.end_all(at_ms)
        # Watchers first: a monitor of the user's own may block when it is cancelled.
        core.after_write()
        self._closing.wake_all()
        core.listener.close()
        # One that raises, SystemExit included, keeps no other from being released.
        with ExitStack() as releasing:
            for registration in reversed(registrations):
                releasing.callback(registration.monitor.cancel)

    async def serve(self, *, task_status: TaskStatus | None = None) -> None:
        """Live as a child of a task group: `store = await task_group.start(store.serve)`.

        Returns when the store is closed; closes it when cancelled. `start` refuses a closed one.

        Examples:
            >>> import anyio, frontdesk
            >>> async def main():
            ...     async with anyio.create_task_group() as group:
            ...         store = await group.start(frontdesk.SessionStore().serve)
            ...         print(store.count())
            ...         store.close()
            >>> anyio.run(main)
            0
        """
        try:
            if task_status is not None:
                task_status.started(self.__enter__())
            while not self.closed:
                await self._closing.wait_async(lambda: self.closed)
        finally:
            self.close()

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[dict[str, Self]]:
        """Live as long as an ASGI application: `Starlette(lifespan=store.lifespan)`.

        Its state is `{"sessions": store}`: requests find the store as `request.state.sessions`.
        For one start: a second raises `StoreClosed`. Else make the store where it starts.
        """
        del app
        with self:
            yield {"sessions": self}

    def __enter__(self) -> Self:
        self._core.require_open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *error: object) -> None:
        self.close()
