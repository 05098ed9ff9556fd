"""The laws of a cluster, as data: what two stores on one engine have in common, and what not.

Each has a sentence and a check of two stores, `one` and `two`, on nodes of their own. They hold
over every engine.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.cluster.remote_agent import RemoteAgent
from frontdesk.errors import SessionAlreadyExists, SessionLimitExceeded, SessionNotFound
from frontdesk.records import ExitReason, Snapshot
from frontdesk.store import Limits
from frontdesk.testing import FakeAgent, StoreOptions
from frontdesk.testing.laws.reading import brief_changes, changes, ids, only, refusal, watching

RACERS = 16


@dataclass(frozen=True, slots=True)
class ClusterLaw:
    """One thing that every two nodes of a cluster do."""

    sentence: str
    check: Callable[..., Awaitable[None]]
    options: StoreOptions

    def __str__(self):
        return self.check.__name__.replace("_", "-")


CLUSTER_LAWS: list[ClusterLaw] = []


def cluster_law(sentence, **options):
    """Make a law of the coroutine function below."""

    def make(check):
        CLUSTER_LAWS.append(ClusterLaw(sentence, check, StoreOptions(**options)))
        return check

    return make


@cluster_law("A session that is created on one node is found on the other, as it was created.")
async def created_on_one_is_found_on_the_other(one, two):
    session = await one.create(
        "s", FakeAgent(), tenant_id="acme", api_key="k", blueprint="b", model="m"
    )
    found = await two.get("s")
    assert found.metadata == session.metadata
    assert found.pid == os.getpid()
    assert found.agent == RemoteAgent(one.node.incarnation, "unix:/one")
    assert ids(await two.list()) == ids(await two.list_by_tenant("acme")) == ["s"]
    assert ids(await two.list_by_api_key("k")) == ["s"]
    counts = await two.count(), await two.count_by_tenant("acme"), await two.count_by_api_key("k")
    assert counts == (1, 1, 1)


@cluster_law("A session that ended on one node is found on none, and both know how it ended.")
async def ended_on_one_is_found_on_none(one, two):
    agent = FakeAgent()
    session = await one.create("s", agent)
    await two.get("s")
    async with watching(two) as (_, watch):
        agent.end(ExitReason.exited(3))
        (ended,) = await changes(watch, 1)
    await refusal(two.get("s"), SessionNotFound)
    assert ids(await two.list()) == []
    assert await two.count() == 0
    assert ended.session == session.metadata
    assert await two.ended("s") == await one.ended("s") == ended
    assert ended.reason == ExitReason.exited(3)


@cluster_law("A watch on one node tells of both nodes' changes, contiguous and in one order.")
async def watches_agree(one, two):
    async with watching(one) as (first, here), watching(two) as (second, there):
        assert first == second
        for number in range(10):
            store = (one, two)[number % 2]
            agent = FakeAgent()
            await store.create(f"s{number}", agent)
            await store.update(f"s{number}", model="m")
            agent.end()
            await store.count()  # it is told now
        heard = await changes(here, 30)
        assert heard == await changes(there, 30)
    revisions = [change.revision for change in heard]
    assert revisions == list(range(first.revision + 1, first.revision + 31))
    assert [change.kind for change in heard] == ["created", "updated", "ended"] * 10


@cluster_law("A watch that is filtered tells of its own tenant only, whichever node it is on.")
async def a_filtered_watch_crosses_nodes(one, two):
    await one.create("before", FakeAgent(), tenant_id="t")
    async with watching(two, tenant_id="t") as (snapshot, watch):
        assert [each.session_id for each in snapshot.sessions] == ["before"]
        await one.create("foreign", FakeAgent(), tenant_id="u")
        await one.create("own", FakeAgent(), tenant_id="t")
        await one.delete("own")
        assert await brief_changes(watch, 2) == [
            ("created", "own", None),
            ("ended", "own", "deleted"),
        ]


@cluster_law("Of racing creates of an id on two nodes one wins, and all others are told who.")
async def one_owner_of_an_id(one, two):
    for number in range(5):
        name, agents = f"s{number}", [FakeAgent() for _ in range(RACERS)]
        racing = [(one, two)[place % 2].create(name, agent) for place, agent in enumerate(agents)]
        results = await asyncio.gather(*racing, return_exceptions=True)
        (winner,) = only(results, SessionAlreadyExists)
        refusals = [each for each in results if isinstance(each, SessionAlreadyExists)]
        fences = {each.holder and each.holder.fence for each in refusals}
        # One whose own node was not asked yet may know of no holder.
        assert fences <= {winner.fence}
        assert [agent for agent in agents if agent.watched_by] == [winner.agent]
        assert (await one.get(name)).fence == (await two.get(name)).fence == winner.fence


@cluster_law("An id that ended on one node can be taken on the other, with a greater fence.")
async def fences_grow_across_nodes(one, two):
    fences = []
    for number in range(6):
        store = (one, two)[number % 2]
        session = await store.create("s", FakeAgent())
        fences.append(session.fence)
        await store.delete("s", fence=session.fence)
    assert fences == sorted(set(fences))


@cluster_law("A late end of the old session leaves the new one on the other node alone.")
async def a_late_end_leaves_the_other_nodes_alone(one, two):
    old, new = FakeAgent("old"), FakeAgent("new")
    await one.create("s", old)
    await one.delete("s")
    session = await two.create("s", new)
    old.end()
    await one.count()
    assert (await one.get("s")).fence == (await two.get("s")).fence == session.fence
    await one.delete("s", fence=session.fence - 1)
    assert (await two.get("s")).agent is new


@cluster_law("What changed on one node is found changed on the other, also where it was cached.")
async def the_near_cache_follows(one, two):
    await one.create("s", FakeAgent(), model="old")
    async with watching(two) as (_, watch):
        assert (await two.get("s")).model == "old"
        await one.update("s", model="new")
        await changes(watch, 1)
        assert (await two.get("s")).model == "new"
        await one.delete("s")
        await one.create("s", FakeAgent(), model="another")
        await changes(watch, 2)
        assert (await two.get("s")).model == "another"


@cluster_law("A limit holds over both nodes, exactly, in a race.", limits=Limits(per_tenant=5))
async def limits_hold_over_nodes(one, two):
    racing = [
        (one, two)[number % 2].create(f"s{number}", FakeAgent(), tenant_id="t")
        for number in range(RACERS)
    ]
    results = await asyncio.gather(*racing, return_exceptions=True)
    assert len(only(results, SessionLimitExceeded)) == 5 == await one.count_by_tenant("t")
    await two.create("elsewhere", FakeAgent(), tenant_id="u")


@cluster_law(
    "A place that one node gives free can be taken on the other.", limits=Limits(per_tenant=1)
)
async def a_freed_place_can_be_taken_on_the_other(one, two):
    for number in range(4):
        store, other = (one, two) if number % 2 else (two, one)
        await store.create(f"s{number}", FakeAgent())
        await refusal(other.create("too-many", FakeAgent()), SessionLimitExceeded)
        await store.delete(f"s{number}")


@cluster_law("Over both nodes one factory of an id runs, and everybody gets its session.")
async def one_factory_runs_over_nodes(one, two):
    made = []

    async def factory():
        await asyncio.sleep(0)
        made.append(FakeAgent())
        return made[-1]

    asked = [(one, two)[number % 2].get_or_create_async("s", factory) for number in range(RACERS)]
    sessions = await asyncio.gather(*asked)
    assert len(made) == 1
    assert len({session.fence for session in sessions}) == 1


@cluster_law("Neither update nor delete reaches another node's session without somebody to ask it.")
async def a_remote_session_is_its_nodes(one, two):
    session = await one.create("s", FakeAgent())
    await refusal(two.update("s", model="m"), OwnerUnreachable)
    await refusal(two.delete("s"), OwnerUnreachable)
    await two.delete("s", fence=session.fence - 1)
    assert (await one.get("s")).model is None


@cluster_law("A node that leaves takes its sessions along, with `shutdown`, and the other goes on.")
async def leaving_ends_its_sessions(one, two):
    for number in range(3):
        await one.create(f"s{number}", FakeAgent())
    await two.create("stays", FakeAgent())
    async with watching(two) as (_, watch):
        await one.node.__aexit__(None, None, None)
        heard = await brief_changes(watch, 3)
        assert heard == [("ended", f"s{number}", "shutdown") for number in range(3)]
        await two.create("later", FakeAgent())
        assert await brief_changes(watch, 1) == [("created", "later", None)]
    assert ids(await two.list()) == ["stays", "later"]
    assert [status.node.name for status in await two.node.engine.nodes()] == ["host/two"]


@cluster_law("A slow watch of one node's many changes begins anew on the other.", feed_capacity=8)
async def a_slow_watch_begins_anew(one, two):
    await one.create("old", FakeAgent())
    async with watching(two) as (_, watch):
        for number in range(24):
            await one.create(f"s{number}", FakeAgent())
            await one.delete(f"s{number}")
        last = await one.create("last", FakeAgent())
        snapshot = await watch.next()
        assert isinstance(snapshot, Snapshot)
        assert snapshot.resync
        assert [each.session_id for each in snapshot.sessions] == ["old", "last"]
        assert snapshot.revision == last.fence
