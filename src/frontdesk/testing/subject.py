"""The store under test: the verbs that a law may use, as coroutines, and the adapter for ours.

A cluster store has these verbs already; the embedded one is synchronous and gets them here from
`EmbeddedSubject`. What a store can do beyond these verbs the laws do not use.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from frontdesk.records import Change, Ended, Session, Snapshot
from frontdesk.store import SessionStore, Watch

T = TypeVar("T")
Call = Callable[[], Coroutine[Any, Any, T]]

PATIENCE_S = 20.0
"""How long a law waits for something that must come before it calls it missing."""


class WatchUnderTest(Protocol):
    """A watch that is asked for one item at a time."""

    async def next(self) -> Snapshot | Change:
        """Return the next item; `TimeoutError` after the subject's patience.

        `StopAsyncIteration` says that the watch has ended, as it does in `async for`.
        """
        ...

    async def close(self) -> None:
        """End the watch."""
        ...


class StoreUnderTest(Protocol):
    """The verbs of a `SessionStore` as coroutines, and three things that only a test asks for.

    `together` runs calls as concurrently as the store allows (an embedded store: threads that
    start at one signal) and returns results and exceptions in the order of the calls.
    `next_revision` says which revision follows another: the laws take them as opaque.
    """

    async def create(self, session_id: str, agent: Any, **attributes: Any) -> Session: ...
    async def get(self, session_id: str) -> Session: ...
    async def delete(self, session_id: str, *, fence: Any = None) -> None: ...
    async def list(self) -> Sequence[Session]: ...
    async def list_by_tenant(self, tenant_id: str) -> Sequence[Session]: ...
    async def list_by_api_key(self, api_key: str) -> Sequence[Session]: ...
    async def count(self) -> int: ...
    async def count_by_tenant(self, tenant_id: str) -> int: ...
    async def count_by_api_key(self, api_key: str) -> int: ...
    async def update(self, session_id: str, **attributes: Any) -> Session: ...
    async def get_or_create(
        self, session_id: str, factory: Callable[[], Any], **attributes: Any
    ) -> Session: ...
    async def get_or_create_async(
        self, session_id: str, factory: Callable[[], Coroutine[Any, Any, Any]], **attributes: Any
    ) -> Session: ...
    async def ended(self, session_id: str) -> Ended: ...
    async def watch(
        self, *, tenant_id: str | None = None, api_key: str | None = None
    ) -> WatchUnderTest: ...
    async def close(self) -> None: ...
    async def together(self, calls: Sequence[Call[T]]) -> Sequence[T | BaseException]: ...
    def next_revision(self, revision: Any) -> Any: ...


class EmbeddedSubject:
    """Give a `SessionStore` the verbs of `StoreUnderTest`. Only the awaited factory suspends."""

    __slots__ = ("_patience_s", "store")

    def __init__(self, store: SessionStore[Any], *, patience_s: float = PATIENCE_S) -> None:
        self.store: SessionStore[Any] = store
        self._patience_s = patience_s

    async def create(self, session_id: str, agent: Any, **attributes: Any) -> Session:
        return self.store.create(session_id, agent, **attributes)

    async def get(self, session_id: str) -> Session:
        return self.store.get(session_id)

    async def delete(self, session_id: str, *, fence: Any = None) -> None:
        self.store.delete(session_id, fence=fence)

    async def list(self) -> Sequence[Session]:
        return self.store.list()

    async def list_by_tenant(self, tenant_id: str) -> Sequence[Session]:
        return self.store.list_by_tenant(tenant_id)

    async def list_by_api_key(self, api_key: str) -> Sequence[Session]:
        return self.store.list_by_api_key(api_key)

    async def count(self) -> int:
        return self.store.count()

    async def count_by_tenant(self, tenant_id: str) -> int:
        return self.store.count_by_tenant(tenant_id)

    async def count_by_api_key(self, api_key: str) -> int:
        return self.store.count_by_api_key(api_key)

    async def update(self, session_id: str, **attributes: Any) -> Session:
        return self.store.update(session_id, **attributes)

    async def get_or_create(
        self, session_id: str, factory: Callable[[], Any], **attributes: Any
    ) -> Session:
        return self.store.get_or_create(session_id, factory, **attributes)

    async def get_or_create_async(
        self, session_id: str, factory: Callable[[], Coroutine[Any, Any, Any]], **attributes: Any
    ) -> Session:
        return await self.store.get_or_create_async(session_id, factory, **attributes)

    async def ended(self, session_id: str) -> Ended:
        return self.store.ended(session_id)

    async def watch(
        self, *, tenant_id: str | None = None, api_key: str | None = None
    ) -> WatchUnderTest:
        watch = self.store.watch(tenant_id=tenant_id, api_key=api_key)
        return EmbeddedWatch(watch, patience_s=self._patience_s)

    async def close(self) -> None:
        self.store.close()

    async def together(self, calls: Sequence[Call[T]]) -> Sequence[T | BaseException]:
        loop, start = asyncio.get_running_loop(), threading.Barrier(len(calls))
        with ThreadPoolExecutor(len(calls)) as racers:
            runs = [loop.run_in_executor(racers, _race, start, call) for call in calls]
            return await asyncio.gather(*runs, return_exceptions=True)

    def next_revision(self, revision: int) -> int:
        return revision + 1


class EmbeddedWatch:
    """Ask a `Watch` for one item at a time, with a bound."""

    __slots__ = ("_patience_s", "_watch")

    def __init__(self, watch: Watch, *, patience_s: float) -> None:
        self._watch = watch
        self._patience_s = patience_s

    async def next(self) -> Snapshot | Change:
        async with asyncio.timeout(self._patience_s):
            return await anext(self._watch)

    async def close(self) -> None:
        self._watch.close()


def _race(start: threading.Barrier, call: Call[T]) -> T:
    """Run a coroutine that never suspends to its end, in this thread, when all are ready."""
    coroutine = call()
    start.wait()
    try:
        coroutine.send(None)
    except StopIteration as returned:
        return returned.value  # type: ignore[no-any-return]  # StopIteration.value is Any
    coroutine.close()
    raise RuntimeError("a verb of an embedded store never suspends")
