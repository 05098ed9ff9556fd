"""The network between a node and the engine: cut one way, both, flapping, slow, losing answers."""

import asyncio
import contextlib

import pytest

from cluster.faults.engines import Front
from cluster.faults.kinds import SERVERS, VALKEY_9, on
from cluster.faults.steps import creates_again, goes_on, heard_as, ids, in_condition
from cluster.history import EngineDown, EngineUp
from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.cluster.records import Selection
from support.cluster_nodes import TERMS
from support.fault_proxy import Way
from support.recorded_engine import open_engine

pytestmark = pytest.mark.slow

LEASE_S = TERMS["lease_s"]
WAYS = {"to the engine": Way.TO_SERVER, "from the engine": Way.TO_CLIENT, "both": Way.BOTH}


@on(SERVERS)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_is_asked_after_a_connection_broke_is_asked_on_another(engine, loop):
    run = pytest.importorskip(loop).run
    with Front(engine) as front:
        run(ask_before_and_after(engine.url_at(front.address), front))


async def ask_before_and_after(url, front):
    async with open_engine(url) as seam:
        await seam.count(Selection())
        await asyncio.to_thread(front.refuse)
        for _ in range(3):
            with contextlib.suppress(EngineUnavailable, TimeoutError):
                async with asyncio.timeout(0.05):
                    await seam.take("requests", limit=5, window_s=60)
            await asyncio.sleep(0.1)  # the end of the connection is read meanwhile
        await asyncio.to_thread(front.heal)
        for _ in range(100):
            with contextlib.suppress(EngineUnavailable):
                assert await seam.count(Selection()) == 0
                return
    pytest.fail("nothing is answered any more")


@on(VALKEY_9)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_node_cut_off_for_longer_than_its_lease_keeps_its_sessions(nodes, way, fault):
    apart, other = nodes.start("apart", proxied=True, isolation_grace_s=20), nodes.start("other")
    other.ask("watch", watcher="other")
    apart.create(*ids("a", 20), kind="process")
    there = nodes.settled()
    apart.cut(fault, WAYS[way])
    in_condition(apart, "cut_off")
    heard_as(apart, "suspect", other)
    assert apart.refusal("create", session="acme/new") == "EngineUnavailable"
    assert other.refusal("create", session="acme/a0") == "OwnerSuspect"
    assert goes_on(apart, *ids("a", 20))
    assert other.ask("find", session="acme/a0")["state"] == "suspect"
    apart.heal()
    in_condition(apart, "joined")
    heard_as(apart, "alive", other)
    creates_again(apart, "acme/new")
    assert set(nodes.settled()) == {*there, "acme/new"}


@on(SERVERS)
def test_a_node_cut_off_until_it_is_dead_comes_back_with_its_minted_sessions(nodes):
    apart, other = nodes.start("apart", proxied=True), nodes.start("other")
    other.ask("watch", watcher="other")
    minted = ids("minted", 120)
    apart.create(*minted, minted=True)
    apart.create("acme/chosen")
    before = nodes.settled()
    apart.cut("cut")
    assert apart.await_event("isolated")["session"] == "acme/chosen"
    heard_as(apart, "gone", other)
    other.create("acme/chosen")
    assert other.refusal("find", session=minted[0]) == "SessionNotFound"
    apart.heal()
    in_condition(apart, "joined")
    there = nodes.settled()
    assert set(there) == {*minted, "acme/chosen"}
    assert there["acme/chosen"][1] == "other"
    assert all(there[one][0] > before[one][0] for one in minted)


@on(SERVERS)
@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("flap", {"up_s": 0.7, "down_s": 0.5}),
        ("slow", {"late_s": 0.05}),
        ("lossy", {"chance": 0.02}),
    ],
    ids=["flapping", "slow", "lossy"],
)
def test_a_bad_line_under_load_loses_no_create_and_doubles_none(nodes, fault, options):
    contested = ids("contested", 4)
    one, two = nodes.start_all("one", "two", proxied=True)
    three = nodes.start("three")
    for node in (one, two, three):
        node.ask("watch", watcher=node.name)
        node.create(*ids(node.name, 10), minted=True)
    nodes.settled()
    for node in (one, two, three):
        node.ask("load", clients=3, chosen=contested)
    nodes.write(EngineDown, why=fault)
    for node in (one, two):
        node.cut(fault, **options)
    for turn in range(30):
        three.create(f"acme/turn{turn}")
    for node in (one, two):
        node.heal()
    nodes.write(EngineUp)
    steps = {node.name: node.ask("rest") for node in (one, two, three)}
    assert all(each["done"] for each in steps.values()), steps
    there = nodes.settled()
    kept = {*ids("one", 10), *ids("two", 10), *ids("three", 10)}
    assert set(there) == {*kept, *ids("turn", 30)}
