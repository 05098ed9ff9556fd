"""PlainStore: the simplest store that obeys the laws. One dict, one lock, every question a scan.

Beside the embedded store, not below it: it shares the records, the monitors and the feed, and no
line of its bookkeeping. It shows that the laws ask for nothing but what they say, and it is what
the broken stores break, one method each. Speed and leanness are no aims here.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from frontdesk.errors import (
    InvalidArgument,
    InvalidType,
    SessionAlreadyExists,
    SessionLimitExceeded,
    SessionNotFound,
    StoreClosed,
)
from frontdesk.feed import FellBehind, Ring, Wakers
from frontdesk.monitors import monitor
from frontdesk.records import Change, Created, Ended, ExitReason, Metadata, Snapshot, Updated
from frontdesk.store import Limits
from frontdesk.testing import StoreOptions

NOW_MS = 1_700_000_000_000


class PlainSession:
    """An entry: what a `Session` shows, and its life."""

    def __init__(self, metadata: Metadata, agent: object, monitor: object) -> None:
        self.metadata, self.agent, self.monitor = metadata, agent, monitor

    def __getattr__(self, name: str) -> object:
        return getattr(self.metadata, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlainSession) and other.metadata == self.metadata

    def __hash__(self) -> int:
        return hash(self.metadata)

    def __repr__(self) -> str:
        return f"PlainSession({self.metadata})"


class PlainStore:
    """Keep sessions in one dict and answer everything by looking through it."""

    def __init__(self, options: StoreOptions, *, patience_s: float = 20) -> None:
        self.limits = options.limits or Limits()
        self.patience_s = patience_s
        self.lock = threading.RLock()
        self.entries: dict[str, PlainSession] = {}
        self.ends: dict[str, Ended] = {}
        self.constructions: dict[str, tuple[set[object], asyncio.Task]] = {}
        self.feed: Ring[Change] = Ring(capacity=options.feed_capacity)
        self.wakers = Wakers()
        self.revision = 0
        self.is_closed = False

    # -- reading -------------------------------------------------------------------------------

    async def get(self, session_id):
        with self.lock:
            self.require_open()
            return self.found(session_id)

    def found(self, session_id):
        session = self.entries.get(session_id)
        if session is None or not self.is_alive(session):
            raise SessionNotFound(session_id)
        return session

    def is_alive(self, session):
        return session.monitor.alive

    async def list(self):
        return self.selected()

    async def list_by_tenant(self, tenant_id):
        return self.selected(tenant_id=tenant_id)

    async def list_by_api_key(self, api_key):
        return self.selected(api_key=api_key)

    async def count(self):
        return len(self.selected())

    async def count_by_tenant(self, tenant_id):
        return len(await self.list_by_tenant(tenant_id))

    async def count_by_api_key(self, api_key):
        return len(await self.list_by_api_key(api_key))

    def selected(self, *, tenant_id=None, api_key=None):
        with self.lock:
            self.require_open()
            return [
                session
                for session in sorted(self.entries.values(), key=lambda one: one.fence)
                if self.is_alive(session) and concerns(session, tenant_id, api_key)
            ]

    async def ended(self, session_id):
        with self.lock:
            self.require_open()
            self.reap()
            if session_id not in self.ends:
                raise SessionNotFound(session_id)
            return self.ends[session_id]

    # -- writing -------------------------------------------------------------------------------

    async def create(
        self, session_id, agent, *, api_key=None, tenant_id="default", blueprint=None, model=None
    ):
        self.check(session_id=session_id, tenant_id=tenant_id)
        if api_key is not None:
            self.check(api_key=api_key)
        asked = Metadata(
            session_id, os.getpid(), api_key, tenant_id, NOW_MS, blueprint, model, fence=0
        )
        try:
            with self.lock:
                self.require_open()
                self.reap()
                self.admit(asked)
                return self.enter(asked, agent)
        finally:
            self.wake()

    def admit(self, asked):
        holder = self.entries.get(asked.session_id)
        if holder is not None:
            raise SessionAlreadyExists(asked.session_id, holder=holder)
        self.admit_by_limits(asked)

    def admit_by_limits(self, asked):
        for scope, limit, of_scope in (
            ("total", self.limits.total, lambda _: True),
            ("per_tenant", self.limits.per_tenant, lambda one: one.tenant_id == asked.tenant_id),
            ("per_api_key", self.limits.per_api_key, lambda one: one.api_key == asked.api_key),
        ):
            if limit is None or (scope == "per_api_key" and asked.api_key is None):
                continue
            if sum(map(of_scope, list(self.entries.values()))) >= limit:
                raise SessionLimitExceeded(scope=scope, limit=limit)

    def enter(self, asked, agent):
        session = PlainSession(replace(asked, fence=self.revision + 1), agent, None)
        session.monitor = monitor(agent, lambda reason: self.on_exit(session, reason))
        self.publish(Created, session.metadata)
        if session.monitor.alive:
            self.entries[asked.session_id] = session
        else:
            self.record_end(session, ExitReason.of("not_alive"))
        return session

    def on_exit(self, session, reason):
        with self.lock:
            present = self.entries.get(session.session_id)
            if present is not None and present.fence == session.fence:
                self.remove(present, reason)
        self.wake()

    async def delete(self, session_id, *, fence=None):
        with self.lock:
            self.require_open()
            self.reap()
            session = self.entries.get(session_id)
            if session is not None and fence in (None, session.fence):
                session.monitor.cancel()
                self.remove(session, ExitReason.of("deleted"))
        self.wake()

    async def update(self, session_id, **attributes):
        with self.lock:
            self.require_open()
            old = self.found(session_id)
            new = PlainSession(replace(old.metadata, **attributes), old.agent, old.monitor)
            self.entries[session_id] = new
            self.publish(Updated, new.metadata)
        self.wake()
        return new

    async def get_or_create(self, session_id, factory, **attributes):
        with self.lock:
            try:
                return await self.get(session_id)
            except SessionNotFound:
                return await self.create(session_id, factory(), **attributes)

    async def get_or_create_async(self, session_id, factory, **attributes):
        with suppress(SessionNotFound):
            return await self.get(session_id)
        if session_id not in self.constructions:
            self.begin(session_id, factory, attributes)
        waiting, task = self.constructions[session_id]
        waiting.add(caller := asyncio.current_task())
        try:
            return await asyncio.shield(task)
        finally:
            waiting.discard(caller)
            if not waiting:
                await self.end_construction(task)

    def begin(self, session_id, factory, attributes):
        async def make():
            try:
                return await self.create(session_id, await factory(), **attributes)
            finally:
                del self.constructions[session_id]

        self.constructions[session_id] = set(), asyncio.ensure_future(make())

    async def end_construction(self, task):
        task.cancel()
        await asyncio.wait([task])

    async def close(self):
        with self.lock:
            for session in list(self.entries.values()):
                session.monitor.cancel()
                self.remove(session, ExitReason.of("shutdown"))
            self.is_closed = True
        self.wake()

    # -- within --------------------------------------------------------------------------------

    def reap(self):
        for session in list(self.entries.values()):
            if not self.is_alive(session):
                self.remove(session, session.monitor.exit_reason())

    def remove(self, session, reason):
        self.entries.pop(session.session_id, None)
        self.record_end(session, reason)

    def record_end(self, session, reason):
        self.publish(Ended, session.metadata, reason, NOW_MS)
        ended = Ended(self.revision, session.metadata, reason, NOW_MS)
        self.ends[session.session_id] = ended

    def publish(self, kind, metadata, *of_an_end):
        self.revision += 1
        self.feed.append(kind(self.revision, metadata, *of_an_end))

    def check(self, **identifiers):
        for name, value in identifiers.items():
            check_identifier(name, value)

    def wake(self):
        self.wakers.wake_all()

    def require_open(self):
        if self.is_closed:
            raise StoreClosed

    # -- under test ----------------------------------------------------------------------------

    async def watch(self, *, tenant_id=None, api_key=None):
        return PlainWatch(self, tenant_id, api_key)

    async def together(self, calls):
        loop, start = asyncio.get_running_loop(), threading.Barrier(len(calls))

        def race(call):
            start.wait()
            return asyncio.run(call())

        with ThreadPoolExecutor(len(calls)) as racers:
            runs = [loop.run_in_executor(racers, race, call) for call in calls]
            return await asyncio.gather(*runs, return_exceptions=True)

    def next_revision(self, revision):
        return revision + 1


class PlainWatch:
    """Follow a `PlainStore`'s feed with a cursor."""

    def __init__(self, store, tenant_id, api_key):
        self.store, self.scope = store, (tenant_id, api_key)
        self.ready = []
        self.snapshot(resync=False)

    def snapshot(self, *, resync):
        with self.store.lock:
            self.cursor = self.store.revision
            living = sorted(self.store.entries.values(), key=lambda one: one.fence)
        sessions = tuple(one.metadata for one in living if concerns(one, *self.scope))
        self.ready.append(Snapshot(self.cursor, sessions, resync))

    async def next(self):
        async with asyncio.timeout(self.store.patience_s):
            while not self.ready:
                await self.read()
        return self.ready.pop(0)

    async def read(self):
        if self.store.is_closed and self.cursor >= self.store.feed.head:
            raise StopAsyncIteration
        store = self.store
        await store.wakers.wait_async(lambda: store.feed.head > self.cursor or store.is_closed)
        try:
            changes = self.store.feed.read(self.cursor)
        except FellBehind:
            self.fell_behind()
            return
        self.cursor += len(changes)
        self.ready += [one for one in changes if concerns(one.session, *self.scope)]

    def fell_behind(self):
        self.snapshot(resync=True)

    async def close(self):
        self.ready.clear()


def concerns(session, tenant_id, api_key):
    return tenant_id in (None, session.tenant_id) and api_key in (None, session.api_key)


def check_identifier(name, value):
    if not isinstance(value, str):
        raise InvalidType(name, expected="a str", got=type(value).__name__)
    if not 0 < len(value) <= 512 or any(ord(one) < 32 or ord(one) == 127 for one in value):
        raise InvalidArgument(name, expected="a printable string", got=repr(value[:64]))


def factory_of(kind, *, patience_s=20):
    """Return the factory of a store, plain or broken, as the laws want it."""

    @asynccontextmanager
    async def open_store(options):
        store = kind(options, patience_s=patience_s)
        yield store
        await store.close()

    return open_store


__all__ = ["PlainSession", "PlainStore", "PlainWatch", "factory_of"]
