"""What the laws read a store with: the next changes of a watch, and everything at once.

Shared by the files of laws; it states no law itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from frontdesk.errors import SessionNotFound
from frontdesk.records import Change, Ended, Session, Snapshot
from frontdesk.testing.agents import FakeAgent
from frontdesk.testing.subject import StoreUnderTest, WatchUnderTest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

LOOP_PASSES = 5
"""More passes than any callback of an asyncio future needs to have run."""


def pending() -> asyncio.Future[Any]:
    """Return an agent of the running loop that ends when its result is set."""
    return asyncio.get_running_loop().create_future()


def ids(sessions: Sequence[Session]) -> list[str]:
    """Return the ids of sessions, in their order."""
    return [session.session_id for session in sessions]


async def passes() -> None:
    """Let the loop run whatever callbacks are due on it."""
    for _ in range(LOOP_PASSES):
        await asyncio.sleep(0)


@asynccontextmanager
async def watching(
    store: StoreUnderTest, **scope: str | None
) -> AsyncIterator[tuple[Snapshot, WatchUnderTest]]:
    """Open a watch, read its snapshot, and close it in the end."""
    watch = await store.watch(**scope)
    try:
        yield await snapshot_of(watch), watch
    finally:
        await watch.close()


async def snapshot_of(watch: WatchUnderTest) -> Snapshot:
    """Read an item that has to be a snapshot."""
    item = await watch.next()
    assert isinstance(item, Snapshot), f"expected a snapshot, got {item}"
    return item


async def changes(watch: WatchUnderTest, number: int) -> list[Change]:
    """Read `number` items that have to be changes."""
    read: list[Change] = []
    for _ in range(number):
        item = await watch.next()
        assert isinstance(item, Change), f"expected a change, got {item}"
        read.append(item)
    return read


async def ends(watch: WatchUnderTest, number: int) -> list[Ended]:
    """Read `number` items that have to be ends."""
    read: list[Ended] = []
    for change in await changes(watch, number):
        assert isinstance(change, Ended), f"expected an end, got {change}"
        read.append(change)
    return read


async def brief_changes(watch: WatchUnderTest, number: int) -> list[tuple[str, str, str | None]]:
    """Read `number` changes and return what each says: kind, id, and the reason's kind."""
    return [spoken(change) for change in await changes(watch, number)]


def spoken(change: Change) -> tuple[str, str, str | None]:
    """Return what a change says, without the figures."""
    reason = str(change.reason.kind) if isinstance(change, Ended) else None
    return change.kind, change.session.session_id, reason


async def nothing_more(store: StoreUnderTest, watch: WatchUnderTest, **attributes: Any) -> None:
    """Assert that the watch has nothing more: a new session is the next that comes."""
    await passes()
    await store.create("nothing-more", FakeAgent(), **attributes)
    (change,) = await brief_changes(watch, 1)
    assert change == ("created", "nothing-more", None), f"one change too many: {change}"
    await store.delete("nothing-more")
    await changes(watch, 1)


async def is_gone(store: StoreUnderTest, session_id: str) -> bool:
    """Say whether no lookup and no listing knows the id."""
    try:
        await store.get(session_id)
    except SessionNotFound:
        return session_id not in ids(await store.list())
    return False


async def is_empty(store: StoreUnderTest, *, tenant_id: str, api_key: str) -> bool:
    """Say whether every listing and every count of this scope shows nothing."""
    listings = (
        await store.list(),
        await store.list_by_tenant(tenant_id),
        await store.list_by_api_key(api_key),
    )
    counts = (
        await store.count(),
        await store.count_by_tenant(tenant_id),
        await store.count_by_api_key(api_key),
    )
    return not any(listings) and not any(counts)


def only(results: Sequence[T | BaseException], kind: type[BaseException]) -> list[T]:
    """Return the results that are not errors; every error has to be of `kind`."""
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, kind):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


async def refusal(asking: Awaitable[object], kind: type[E]) -> E:
    """Await what has to be refused with an error of `kind`, and return that error."""
    try:
        answer = await asking
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {answer!r}")
