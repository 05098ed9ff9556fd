"""Laws of the feed: what a watch yields, in which order, and what it never leaves out.

Revisions are opaque here: the store under test says which follows which.
"""

from __future__ import annotations

import asyncio
import gc
import weakref

from frontdesk.errors import SessionLimitExceeded
from frontdesk.records import Change, Created, Ended, Snapshot, Updated
from frontdesk.store import Limits
from frontdesk.testing.agents import FakeAgent
from frontdesk.testing.law import law
from frontdesk.testing.laws.reading import (
    brief_changes,
    changes,
    is_gone,
    passes,
    pending,
    refusal,
    watching,
)
from frontdesk.testing.subject import StoreUnderTest, WatchUnderTest

SMALL = 8
CYCLES = 200


@law("A watch begins with a snapshot of all that live, as of its revision.", guarantee=7)
async def a_watch_begins_with_a_snapshot(store: StoreUnderTest) -> None:
    sessions = [await store.create(name, FakeAgent()) for name in ("a", "b")]
    async with watching(store) as (snapshot, _):
        assert snapshot.sessions == tuple(session.metadata for session in sessions)
        assert snapshot.revision == sessions[-1].fence
        assert not snapshot.resync


@law(
    "After revision r come r+1, r+2 and so on: nothing missed, repeated or reordered.", guarantee=7
)
async def revisions_are_contiguous(store: StoreUnderTest) -> None:
    async with watching(store) as (snapshot, watch):
        for number in range(20):
            await store.create(f"s{number}", agent := FakeAgent())
            await store.update(f"s{number}", model="m")
            agent.end() if number % 2 else await store.delete(f"s{number}")
        seen = await changes(watch, 60)
    revision = snapshot.revision
    for change in seen:
        revision = store.next_revision(revision)
        assert change.revision == revision
    assert [change.kind for change in seen] == ["created", "updated", "ended"] * 20


@law(
    "A change carries the session as it was made: a create its fence, an update its value.",
    guarantee=7,
)
async def a_change_carries_the_session_of_its_time(store: StoreUnderTest) -> None:
    async with watching(store) as (_, watch):
        session = await store.create("s", FakeAgent(), model="old")
        await store.update("s", model="new")
        await store.delete("s")
        created, updated, ended = await changes(watch, 3)
    assert created.session == session.metadata
    assert created.revision == session.fence
    assert [change.session.model for change in (created, updated, ended)] == ["old", "new", "new"]
    assert {change.session.fence for change in (created, updated, ended)} == {session.fence}
    kinds = [type(change) for change in (created, updated, ended)]
    assert kinds == [Created, Updated, Ended]


@law(
    "A watch of a tenant or a key tells of nobody else, and leaves out none of its own.",
    guarantee=7,
)
async def a_filtered_watch_tells_of_its_own_only(store: StoreUnderTest) -> None:
    await store.create("before", FakeAgent(), tenant_id="t", api_key="k")
    await store.create("stranger", FakeAgent(), tenant_id="u", api_key="l")
    scopes = ({"tenant_id": "t"}, {"api_key": "k"}, {"tenant_id": "t", "api_key": "k"})
    for scope in scopes:
        async with watching(store, **scope) as (snapshot, watch):
            assert [one.session_id for one in snapshot.sessions] == ["before"]
            await store.create("foreign", FakeAgent(), tenant_id="u", api_key="l")
            await store.create("own", FakeAgent(), tenant_id="t", api_key="k")
            await store.delete("foreign")
            await store.delete("own")
            assert await brief_changes(watch, 2) == [
                ("created", "own", None),
                ("ended", "own", "deleted"),
            ]


@law("Every watch hears everything, however many there are.", guarantee=7)
async def every_watch_hears_everything(store: StoreUnderTest) -> None:
    watches = [await store.watch() for _ in range(10)]
    await store.create("s", FakeAgent())
    await store.delete("s")
    for watch in watches:
        assert isinstance(await watch.next(), Snapshot)
        assert await brief_changes(watch, 2) == [("created", "s", None), ("ended", "s", "deleted")]
        await watch.close()


@law(
    "A watch that falls behind is told so, with a fresh snapshot, and goes on from there.",
    guarantee=7,
    feed_capacity=SMALL,
)
async def a_slow_watch_is_resynchronised(store: StoreUnderTest) -> None:
    await store.create("old", FakeAgent())
    async with watching(store) as (_, watch):
        for number in range(SMALL * 3):
            await store.create(f"s{number}", FakeAgent())
            await store.delete(f"s{number}")
        last = await store.create("last", FakeAgent())
        snapshot = await watch.next()
        assert isinstance(snapshot, Snapshot), f"a change came over a gap: {snapshot}"
        assert snapshot.resync
        assert [one.session_id for one in snapshot.sessions] == ["old", "last"]
        assert snapshot.revision == last.fence
        await store.delete("old")
        (change,) = await changes(watch, 1)
        assert change.revision == store.next_revision(snapshot.revision)


@law(
    "A slow watch keeps neither writers nor other watches waiting.",
    guarantee=7,
    feed_capacity=SMALL,
)
async def a_slow_watch_keeps_nobody_waiting(store: StoreUnderTest) -> None:
    async with watching(store), watching(store) as (snapshot, reader):
        revision = snapshot.revision
        for number in range(SMALL * 3):
            await store.create(f"s{number}", FakeAgent())
            (change,) = await changes(reader, 1)
            revision = store.next_revision(revision)
            assert change.revision == revision


@law("Replaying a watch from its snapshot gives the store.", guarantee=7)
async def replaying_a_watch_gives_the_store(store: StoreUnderTest) -> None:
    agents = [FakeAgent(str(number)) for number in range(10)]
    for agent in agents[:5]:
        await store.create(agent.name, agent)
    async with watching(store) as (snapshot, watch):
        for agent in agents[5:]:
            await store.create(agent.name, agent)
        for agent in agents[::2]:
            agent.end()
        await store.update("1", model="m")
        known = {one.session_id: one for one in snapshot.sessions}
        for change in await changes(watch, 11):
            known.pop(change.session.session_id, None)
            if change.kind != "ended":
                known[change.session.session_id] = change.session
    living = {session.session_id: session.metadata for session in await store.list()}
    assert known == living


@law("Closing the store ends every session as shutdown, and then the watches.", guarantee=7)
async def closing_tells_the_watches(store: StoreUnderTest) -> None:
    for name in ("a", "b"):
        await store.create(name, FakeAgent())
    async with watching(store) as (_, watch):
        await store.close()
        assert await brief_changes(watch, 2) == [
            ("ended", "a", "shutdown"),
            ("ended", "b", "shutdown"),
        ]
        assert await _is_over(watch)


async def _is_over(watch: WatchUnderTest) -> bool:
    try:
        await watch.next()
    except StopAsyncIteration:
        return True
    return False


@law(
    "A waiting watch is told the end that a refused create came upon.",
    guarantee=7,
    limits=Limits(per_tenant=1),
)
async def a_refused_create_tells_the_end_it_found(store: StoreUnderTest) -> None:
    finished = pending()
    await store.create("s", finished, tenant_id="finished")
    await store.create("full", FakeAgent(), tenant_id="full")
    async with watching(store) as (_, watch):
        waiting = asyncio.create_task(brief_changes(watch, 1))
        await passes()
        finished.set_result(None)
        await refusal(store.create("s", FakeAgent(), tenant_id="full"), SessionLimitExceeded)
        assert await waiting == [("ended", "s", "normal")]


@law("A watcher may ask and write to the store between any two changes.", guarantee=8)
async def a_watcher_may_call_back(store: StoreUnderTest) -> None:
    async with watching(store) as (_, watch):
        await store.create("s0", FakeAgent())
        for number in range(10):
            change = await watch.next()
            assert isinstance(change, Change)
            assert (await store.get(f"s{number}")).metadata == change.session
            await store.create(f"s{number + 1}", FakeAgent())
    assert await store.count() == 11


@law("Many create and exit cycles leave no entry, no count and no callback.", guarantee=10)
async def cycles_leave_nothing(store: StoreUnderTest) -> None:
    async with watching(store) as (_, watch):
        for number in range(CYCLES):
            agent = FakeAgent()
            await store.create(f"s{number}", agent, tenant_id=f"t{number % 7}", api_key="k")
            agent.end() if number % 2 else await store.delete(f"s{number}")
            await changes(watch, 2)
            assert agent.watched_by == 0
    assert await store.count() == await store.count_by_api_key("k") == 0
    assert await store.list() == []


@law("A registered agent that nobody else references is not garbage-collected.", guarantee=11)
async def a_registered_agent_is_not_collected(store: StoreUnderTest) -> None:
    await store.create("s", pending())
    gc.collect()
    await passes()
    assert not (await store.get("s")).agent.done()


@law("After its session is gone the store holds no reference to an agent.", guarantee=11)
async def a_gone_agent_is_released(store: StoreUnderTest) -> None:
    async with watching(store) as (_, watch):
        released = [await _registered_and_gone(store, by_delete) for by_delete in (True, False)]
        kept: list[object] = [await watch.next() for _ in range(4)]
        kept += [await store.ended(f"s{by_delete}") for by_delete in (True, False)]
        await passes()
        gc.collect()
        assert [agent() for agent in released] == [None, None], "something keeps the agent"
    assert len(kept) == 6
    assert await is_gone(store, "sTrue")


async def _registered_and_gone(store: StoreUnderTest, by_delete: bool) -> weakref.ref[FakeAgent]:
    agent = FakeAgent()
    await store.create(f"s{by_delete}", agent)
    if by_delete:
        await store.delete(f"s{by_delete}")
    else:
        agent.end()
    return weakref.ref(agent)


FEED = (
    a_watch_begins_with_a_snapshot,
    revisions_are_contiguous,
    a_change_carries_the_session_of_its_time,
    a_filtered_watch_tells_of_its_own_only,
    every_watch_hears_everything,
    a_slow_watch_is_resynchronised,
    a_slow_watch_keeps_nobody_waiting,
    replaying_a_watch_gives_the_store,
    closing_tells_the_watches,
    a_refused_create_tells_the_end_it_found,
    a_watcher_may_call_back,
    cycles_leave_nothing,
    a_registered_agent_is_not_collected,
    a_gone_agent_is_released,
)
