"""A node while all is well: what it tells, what it finds, what it holds, what it leaves behind."""

import asyncio
import gc
import os
import time
import weakref

import pytest

from cluster.open_nodes import NO_LIMITS, eventually, on_loop, open_nodes
from frontdesk.cluster.cluster_store import ClusterStore
from frontdesk.cluster.decisions import NodeCondition
from frontdesk.cluster.errors import EngineUnavailable, SchemaRefused
from frontdesk.cluster.membership import new_token
from frontdesk.cluster.records import IndexLimits, NodeState, Selection
from frontdesk.errors import SessionAlreadyExists, SessionLimitExceeded, SessionNotFound
from frontdesk.records import ExitReason
from frontdesk.testing import FakeAgent

NOBODYS = {"tenant_id": "default", "api_key": None, "blueprint": None, "model": None}
RESTARTED = ExitReason.of("restarted")


@on_loop
async def test_a_node_joins_as_it_is_entered_and_is_gone_when_it_has_left():
    async with open_nodes("a") as (server, a):
        assert a.node.condition is NodeCondition.JOINED
        (status,) = a.node.nodes()
        assert (status.node.name, status.node.address, status.state) == (
            "a",
            "unix:/a",
            NodeState.ALIVE,
        )
        assert a.node.node(a.node.incarnation) == status
        await a.create("s")
    assert a.node.condition is NodeCondition.LEFT
    assert server.call("nodes", 0) == []
    assert server.call("count", 0, Selection()) == 0
    with pytest.raises(EngineUnavailable, match="has left"):
        await a.node.reserve("s", minted=False, limits=NO_LIMITS, **NOBODYS)


@on_loop
async def test_a_node_that_cannot_join_leaves_nothing_behind():
    async with open_nodes() as (server,):
        server.down = True
        with pytest.raises(EngineUnavailable):
            async with open_nodes("a", server=server):
                pass


@on_loop
async def test_a_node_of_another_schema_is_refused():
    async with open_nodes("a") as (server, a):
        server.index._contents.epoch.schema = 99
        with pytest.raises(SchemaRefused):
            async with open_nodes("b", server=server):
                pass
        assert a.node.condition is NodeCondition.JOINED


@on_loop
async def test_a_reserved_id_is_nobody_elses_until_it_is_released():
    async with open_nodes("a", "b") as (_, a, b):
        token = await a.node.reserve("s", minted=False, limits=NO_LIMITS, **NOBODYS)
        with pytest.raises(SessionAlreadyExists) as taken:
            await b.create("s")
        assert taken.value.holder is None
        assert "s" not in b.store
        await a.node.release("s", token=token)
        await b.create("s")


@on_loop
async def test_the_reservation_counts_once_and_becomes_the_entry():
    async with open_nodes("a") as (_, a):
        limits = IndexLimits(per_tenant=1)
        token = await a.node.reserve("s", minted=False, limits=limits, **NOBODYS)
        with pytest.raises(SessionLimitExceeded):
            await a.node.reserve("t", minted=False, limits=limits, **NOBODYS)
        session = a.store.create("s", FakeAgent())
        fence = await a.node.create(session, token=token, minted=False, limits=limits)
        assert a.node.fence("s") == fence
        assert a.node.entry("s").metadata.fence == fence
        assert a.node.fence_of(session) == fence


@on_loop
async def test_what_changes_while_the_index_is_being_told_of_a_session_is_told_after():
    async with open_nodes("a") as (server, a):
        create = a.engine.create

        async def create_slowly(entry, *, limits):
            fence = await create(entry, limits=limits)
            a.store.update("s", model="large")
            await a.node.flush()  # the watch has read it, for nobody: the index is not told yet
            return fence

        a.engine.create = create_slowly
        await a.create("s")
        await eventually(lambda: server.call("read", 0, "s").entry.model == "large")


@on_loop
async def test_ends_are_told_in_batches():
    async with open_nodes("a", "b") as (server, a, b):
        agents = [FakeAgent() for _ in range(250)]
        await asyncio.gather(
            *(a.create(f"s{number}", agent) for number, agent in enumerate(agents))
        )
        server.calls.clear()
        for agent in agents:
            agent.end(ExitReason.exited(3))
        await a.node.flush()
        assert 3 <= server.calls.count("end") <= 5
        assert await b.node.count(Selection()) == 0
        await b.node.read_all()
        ended = b.node.ended("s249")
        assert ended.ended.reason == ExitReason.exited(3)
        assert ended.incarnation == a.node.incarnation


@on_loop
async def test_what_was_missed_of_the_store_is_told_all_the_same():
    """The store's feed holds 4096 changes: here more happen before the node has its turn."""
    async with open_nodes("a") as (_, a):
        ending, living = FakeAgent(), FakeAgent()
        await a.create("ends", ending)
        await a.create("lives", living)
        a.store.update("lives", model="first")
        ending.end(ExitReason.signalled(9))
        for _ in range(5000):
            a.store.update("lives", model="last")
        await a.node.flush()
        await a.node.read_all()
        assert a.node.ended("ends").ended.reason == ExitReason.signalled(9)
        assert (await a.engine.read("lives")).entry.model == "last"


@on_loop
async def test_an_agent_that_ends_while_the_index_is_being_told_of_it_is_told_to_have_ended():
    async with open_nodes("a") as (_, a):
        agent = FakeAgent()
        session = a.store.create("s", agent)
        creating = asyncio.create_task(
            a.node.create(session, token=new_token(), minted=False, limits=NO_LIMITS)
        )
        await asyncio.sleep(0)
        agent.end(ExitReason.exited(7))
        fence = await creating
        await a.node.flush()
        await a.node.read_all()
        ended = a.node.ended("s").ended
        assert (ended.session.fence, ended.reason) == (fence, ExitReason.exited(7))
        assert a.node.fence("s") is None


@on_loop
async def test_a_model_that_changes_while_the_index_is_being_told_of_it_is_the_new_one():
    async with open_nodes("a") as (_, a):
        session = a.store.create("s", FakeAgent(), model="old")
        creating = asyncio.create_task(
            a.node.create(session, token=new_token(), minted=False, limits=NO_LIMITS)
        )
        await asyncio.sleep(0)
        a.store.update("s", model="new")
        await creating
        await eventually(lambda: a.node.entry("s").entry.model == "new")
        assert (await a.engine.read("s")).entry.model == "new"


@on_loop
async def test_a_model_that_is_told_while_entries_are_told_again_is_not_taken_back():
    async with open_nodes("a") as (server, a):
        await a.create("s")

        def told():
            return server.call("read", 0, "s").entry.model

        async def restore(*arguments, **options):
            a.store.update("s", model="large")
            await eventually(lambda: told() == "large")
            return await a.engine.call("restore", *arguments, **options)

        a.engine.restore = restore
        await a.node._repairs.restore()
        assert told() == "large"


@on_loop
async def test_a_restarted_agents_id_stays_reserved_under_the_next_token():
    async with open_nodes("a", "b") as (_, a, b):
        agent = FakeAgent()
        await a.create("s", agent)
        agent.end(RESTARTED)
        token = a.node.next_token("s")  # asked before the watch has told of the end
        assert token is not None
        await a.node.flush()
        assert a.node.next_token("s") == token
        with pytest.raises(SessionAlreadyExists):
            await b.create("s")
        session = a.store.create("s", FakeAgent())
        await a.node.create(session, token=token, minted=False, limits=NO_LIMITS)
        assert a.node.next_token("s") is None
        assert (await b.node.find("s")).entry.fence == a.node.fence("s")


@on_loop
async def test_an_id_whose_restart_failed_is_given_free():
    async with open_nodes("a", "b") as (_, a, b):
        agent = FakeAgent()
        await a.create("s", agent)
        agent.end(RESTARTED)
        token = a.node.next_token("s")
        await a.node.flush()
        await a.node.release("s", token=token)
        assert a.node.next_token("s") is None
        await b.create("s")


@on_loop
async def test_a_found_session_comes_from_memory_until_the_log_says_otherwise():
    async with open_nodes("a", "b") as (server, a, b):
        agent = FakeAgent()
        await a.create("s", agent)
        await b.node.read_all()
        first = await b.node.find("s")
        server.calls.clear()
        assert (await b.node.find("s")).entry is first.entry
        assert "read" not in server.calls
        agent.end()
        await a.node.flush()
        await b.node.read_all()
        with pytest.raises(SessionNotFound):
            await b.node.find("s")


@on_loop
async def test_an_owners_word_empties_the_memory_of_an_id():
    async with open_nodes("a", "b") as (server, a, b):
        await a.create("s")
        await b.node.find("s")
        server.calls.clear()
        b.node.forget("s")
        await b.node.find("s")
        assert "read" in server.calls


@on_loop
async def test_a_session_of_its_own_is_found_without_asking():
    async with open_nodes("a") as (server, a):
        await a.create("s")
        server.calls.clear()
        assert (await a.node.find("s")).node.node.name == "a"
        assert "read" not in server.calls


@on_loop
async def test_a_node_that_joined_since_is_asked_for():
    async with open_nodes("a") as (server, a), open_nodes("b", server=server) as (_, b):
        await b.create("s")
        assert (await a.node.find("s")).node.node.name == "b"


@on_loop
async def test_a_draining_node_says_so_with_its_next_renewal():
    async with open_nodes("a", "b") as (_, a, b):
        a.node.begin_draining()
        await eventually(
            lambda: b.node._lease.renew_soon() or b.node.node(a.node.incarnation).draining
        )


@on_loop
async def test_a_cancelled_create_leaves_nothing_in_the_index():
    async with open_nodes("a") as (server, a):
        creating = asyncio.create_task(a.create("s"))
        while "create" not in server.calls:
            await asyncio.sleep(0)  # the index has it, and the answer is under way
        creating.cancel()
        await asyncio.wait([creating])
        assert creating.cancelled()
        await eventually(lambda: server.call("count", 0, Selection()) == 0)
        await a.create("s")


@on_loop
async def test_a_create_whose_answer_was_lost_is_created_once():
    async with open_nodes("a") as (server, a):
        a.engine.lose_replies = 1
        await a.create("s")
        assert server.calls.count("create") == 2
        assert await a.node.count(Selection()) == 1
        assert (await a.engine.read("s")).fence == a.node.fence("s")


@on_loop
async def test_a_limit_that_finished_agents_fill_is_none():
    async with open_nodes("a") as (_, a):
        limits = IndexLimits(per_tenant=2)
        agents = [FakeAgent(), FakeAgent()]
        for number, agent in enumerate(agents):
            await a.create(f"s{number}", agent, limits=limits)
        with pytest.raises(SessionLimitExceeded):
            await a.create("one too many", limits=limits)
        for agent in agents:
            agent.die()  # nobody has been told yet
        await a.create("fits", limits=limits)


@on_loop
async def test_a_node_keeps_no_agent_alive():
    async with open_nodes("a") as (_, a):
        agent = FakeAgent()
        await a.create("s", agent)
        agent.end()
        await a.node.flush()
        released = weakref.ref(agent)
        del agent
        gc.collect()
        assert released() is None


@on_loop
async def test_the_index_learns_the_process_and_no_secret():
    async with open_nodes("a") as (_, a):
        await a.create("s", api_key="key-id", tenant_id="t")
        entry = (await a.engine.read("s")).entry
        assert (entry.pid, entry.api_key, entry.tenant_id) == (os.getpid(), "key-id", "t")


@pytest.mark.slow
@on_loop
async def test_a_cached_find_costs_microseconds():
    async with open_nodes("a", "b") as (_, a, b):
        await a.create("s")
        await b.node.read_all()
        for find in (b.node.find, ClusterStore(b.node).get):
            await find("s")
            best_s = min([await _seconds_of(find) for _ in range(30)])
            assert best_s < 3e-6, f"{best_s * 1e6:.2f} µs"


async def _seconds_of(find, number=2000):
    began_s = time.perf_counter()
    for _ in range(number):
        await find("s")
    return (time.perf_counter() - began_s) / number
