"""A node that dies with many sessions: all others know it of all of them from the first end on."""

import asyncio

from cluster.engine_laws.members import changes_after, head, members
from cluster.engine_subjects import local_cluster
from cluster.open_nodes import eventually, on_loop, open_nodes
from frontdesk.cluster.cluster_store import ClusterStore
from frontdesk.cluster.records import BURY_BATCH, IndexLimits, Selection
from frontdesk.errors import SessionNotFound
from frontdesk.records import Ended, ExitReason
from frontdesk.testing import FakeAgent

SESSIONS = BURY_BATCH + 30
LAST = f"s{SESSIONS - 1}"
BEFORE = f"s{SESSIONS - 2}"
"""The last session, which is in the near cache, and one that has to be asked for."""


async def two_with_many(server, a, b, *, agents=None):
    """Fill one node, have the other know the last of its sessions, and one of its own."""
    await b.create("mine")
    for n in range(SESSIONS):
        await a.create(f"s{n}", (agents or {}).get(f"s{n}"))
    await b.node.find(LAST)
    await b.node.read_all()


async def begin_burial(server, a, b):
    """Let the first hundred sessions of a dead node end; wait until the other one has heard."""
    a.kill()
    incarnation = a.node.incarnation
    assert not server.call("bury", 0, incarnation, proven=True).done
    await eventually(lambda: b.node.is_dead(incarnation))
    assert server.call("count", 0, Selection(incarnation=incarnation)) == SESSIONS - BURY_BATCH


def bury(server, incarnation):
    while not server.call("bury", 0, incarnation, proven=True).done:
        pass


async def is_found(one, session_id):
    try:
        await one.node.find(session_id)
    except SessionNotFound:
        return False
    return True


@on_loop
async def test_all_sessions_of_a_dead_node_are_gone_with_the_first_end_that_is_told():
    async with open_nodes("b") as (server, b), open_nodes("a", server=server) as (_, a):
        await two_with_many(server, a, b)
        await begin_burial(server, a, b)
        assert not await is_found(b, LAST)
        assert not await is_found(b, BEFORE)
        # How a session ended can be told as soon as it is not found.
        for session_id in (LAST, BEFORE):
            ended = b.node.ended(session_id)
            assert ended.incarnation == a.node.incarnation
            assert ended.ended.session.session_id == session_id
            assert ended.ended.reason == ExitReason.of("lost")
        bury(server, a.node.incarnation)


@on_loop
async def test_lists_of_a_store_are_without_the_sessions_of_a_dead_node():
    async with open_nodes("b") as (server, b), open_nodes("a", server=server) as (_, a):
        await two_with_many(server, a, b)
        store = ClusterStore(b.node, limits=IndexLimits())
        assert len(await store.list()) == SESSIONS + 1
        await begin_burial(server, a, b)
        assert [one.session_id for one in await store.list()] == ["mine"]
        bury(server, a.node.incarnation)


@on_loop
async def test_each_session_of_a_dead_node_ends_once_with_its_reason_all_the_same():
    async with open_nodes("b") as (server, b), open_nodes("a", server=server) as (_, a):
        await two_with_many(server, a, b)
        watch = await b.node.watch().begin()
        snapshot = await anext(watch)
        await begin_burial(server, a, b)
        before = b.node.ended(LAST).ended
        bury(server, a.node.incarnation)
        told = [await anext(watch) for _ in range(SESSIONS)]
        assert [one.revision for one in told] == [
            snapshot.revision + n for n in range(1, SESSIONS + 1)
        ]
        assert [one.session.session_id for one in told] == [f"s{n}" for n in range(SESSIONS)]
        assert {(type(one), str(one.reason)) for one in told} == {(Ended, "lost")}
        # What was known of it before its own end came is what that says, but for when.
        assert b.node.ended(LAST).ended == told[-1]
        assert (before.session, before.reason) == (told[-1].session, told[-1].reason)
        assert await b.node.count(Selection()) == 1


@on_loop
async def test_an_id_of_a_dead_node_that_is_had_anew_is_found_before_its_end_is_told():
    async with (
        open_nodes("b", "c") as (server, b, c),
        open_nodes("a", server=server) as (_, a),
    ):
        await two_with_many(server, a, b)
        await b.node.find(BEFORE)
        await begin_burial(server, a, b)
        hold_log(b)
        for session_id, taker in ((LAST, b), (BEFORE, c)):
            assert not await is_found(b, session_id)
            await taker.create(session_id)
            for one in (b, c):
                located = await one.node.find(session_id)
                assert located.entry.entry.incarnation == taker.node.incarnation
        bury(server, a.node.incarnation)


def hold_log(one):
    """Let a node read no more of the log."""
    (following,) = [task for task in one.node._tasks if task.get_name().endswith("log")]
    following.cancel()


@on_loop
async def test_a_lost_agent_of_a_node_that_lives_takes_nothing_else_along():
    async with open_nodes("a", "b") as (server, a, b):
        agent = FakeAgent("s0")
        await two_with_many(server, a, b, agents={"s0": agent})
        agent.end(ExitReason.of("lost"))
        await a.node.flush()
        await b.node.read_all()
        assert str(b.node.ended("s0").ended.reason) == "lost"
        assert await is_found(b, LAST)
        assert await is_found(b, BEFORE)
        assert not b.node.is_dead(a.node.incarnation)


@on_loop
async def test_a_node_that_was_buried_and_comes_back_in_a_new_era_is_found_again():
    """The engine has lost that it buried it: it takes it in as what it was."""
    async with open_nodes("a", "b") as (server, a, b):
        await two_with_many(server, a, b)
        incarnation = a.node.incarnation
        a.engine.cut = True
        server.call("bury", 0, incarnation, proven=True)
        await eventually(lambda: b.node.is_dead(incarnation))
        server.wipe()
        a.engine.cut = False
        for one in (a, b):
            one.node._lease.renew_soon()
        await eventually(lambda: server.call("count", 0, Selection()) == SESSIONS + 1)
        await eventually(lambda: not b.node.is_dead(incarnation))
        located = await b.node.find(LAST)
        assert located.entry.entry.incarnation == a.node.incarnation == incarnation


@on_loop
async def test_what_was_entered_after_a_node_was_gone_is_not_gone_with_it():
    """It came back in a new era, which this node's log has yet to hear of."""
    async with open_nodes("b") as (server, b), open_nodes("a", server=server) as (_, a):
        await two_with_many(server, a, b)
        entry = server.call("read", 0, LAST)
        await begin_burial(server, a, b)
        assert b.node._log.is_gone(entry)
        later = type(entry)(entry.entry, entry.fence, server.head() + 10**6)
        assert not b.node._log.is_gone(later)
        bury(server, a.node.incarnation)


def test_followers_hear_of_a_death_with_its_first_hundred_ends():
    async def check():
        async with local_cluster() as cluster:
            one, other = await members(cluster)
            for n in range(1500):
                await one.create(f"s{n}")
            revision, era = await head(other.engine)
            waiting = asyncio.ensure_future(other.engine.follow(revision, era=era, wait_s=60.0))
            await asyncio.sleep(0)  # it begins, and asks
            await other.engine.count(Selection())  # what was sent before this has arrived
            cluster.server.node_died(one.incarnation)
            page = await waiting
            assert len(page.changes) == BURY_BATCH
            assert page.changes[0].node_gone
            rest = await changes_after(other.engine, (page.changes[-1].change.revision, era))
            assert 0 < len(rest) <= 1500 - BURY_BATCH

    asyncio.run(check())
