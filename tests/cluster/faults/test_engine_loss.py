"""An engine that has lost something: killed, wiped, or another one in its place. It is rebuilt."""

import time
from contextlib import ExitStack

import pytest

from cluster.faults.engines import PROGRAMS, Front, Server
from cluster.faults.kinds import SERVERS, VALKEY_9, on
from cluster.faults.steps import creates_again, goes_on, ids, never_gone
from cluster.history import EngineDown, EngineUp
from support.cluster_nodes import PATIENCE_S, Nodes
from support.engines import await_replica
from support.fault_proxy import FaultProxy
from support.waiting import eventually

pytestmark = pytest.mark.slow


def restarted(nodes):
    """Kill the engine and start it again, at once."""
    nodes.write(EngineDown)
    nodes.engine.kill()
    nodes.engine.start()
    nodes.write(EngineUp, lost=True)


def with_sessions(nodes, number=120):
    """Start two nodes with sessions and watches; return them and the fences."""
    one, two = nodes.start_all("one", "two")
    fences = {}
    for node in (one, two):
        node.ask("watch", watcher=node.name)
        mine = ids(node.name, number)
        fences.update(zip(mine, node.create(*mine), strict=True))
    assert {each: fence for each, (fence, _) in nodes.settled().items()} == fences
    return one, two, fences


@on(SERVERS)
def test_an_engine_that_comes_back_empty_is_told_everything_again(nodes):
    one, two, fences = with_sessions(nodes)
    restarted(nodes)
    # Its own sessions a node finds all the while; of others' it is not said that they are gone.
    assert goes_on(one, *ids("one", 120))
    assert never_gone(one, *ids("two", 120))
    assert one.refusal("find", session="acme/nobody") != "SessionNotFound"
    there = nodes.settled()
    assert {each: fence for each, (fence, _) in there.items()} == fences, "fences as they were"
    [new] = two.create("acme/new")
    assert new > max(fences.values())
    eventually(lambda: one.refusal("find", session="acme/nobody") == "SessionNotFound")
    nodes.settled()


@on(SERVERS)
def test_an_engine_wiped_under_load_loses_no_session_and_doubles_none(nodes):
    one, two, fences = with_sessions(nodes, 30)
    for node in (one, two):
        node.ask("load", clients=3, chosen=ids("contested", 3))
    for _ in range(2):
        nodes.engine_lost(lambda: nodes.engine.command("FLUSHALL"))
        assert never_gone(one, *ids("two", 30))
        assert never_gone(two, *ids("one", 30))
        creates_again(one, f"acme/after{time.monotonic()}")
    for node in (one, two):
        node.ask("rest")
    there = nodes.settled()
    assert {each: there[each][0] for each in fences} == fences


@pytest.mark.parametrize(
    "options",
    [
        {"appendonly": "yes", "appendfsync": "always"},
        {"appendonly": "yes", "appendfsync": "no"},
        {"save": "1 1"},
    ],
    ids=["log synced", "log not synced", "snapshots"],
)
@pytest.mark.parametrize("kind", [VALKEY_9])
def test_an_engine_that_comes_back_with_its_file_ends_up_with_the_truth(kind, options, tmp_path):
    with Server(PROGRAMS[kind], **options) as engine, Nodes(engine, tmp_path) as nodes:
        one, two, fences = with_sessions(nodes, 30)
        if "save" in options:
            engine.command("SAVE")
        # After the snapshot: an end and a create that such a file does not know.
        one.ask("end", session="acme/one0")
        two.create("acme/later")
        restarted(nodes)
        there = nodes.settled()
        assert set(there) == {*fences, "acme/later"} - {"acme/one0"}
        nodes.check()


@pytest.mark.parametrize("kind", SERVERS)
def test_a_replica_promoted_without_acknowledged_writes_is_told_of_them(kind, tmp_path):
    with ExitStack() as stack:
        primary = stack.enter_context(Server(PROGRAMS[kind]))
        link = stack.enter_context(FaultProxy(primary.address))
        follows = ("127.0.0.1", str(link.port))
        replica = stack.enter_context(Server(PROGRAMS[kind], replicaof=follows))
        await_replica(replica)
        front = stack.enter_context(Front(primary))
        nodes = stack.enter_context(Nodes(front, tmp_path))
        one, two, fences = with_sessions(nodes, 30)
        eventually(lambda: replica.command("DBSIZE") == primary.command("DBSIZE"))
        link.stall()
        # Acknowledged, and never on the replica: creates, and an end.
        unknown = ids("unknown", 30)
        fences.update(zip(unknown, one.create(*unknown), strict=True))
        two.ask("end", session="acme/two0")
        del fences["acme/two0"]
        nodes.write(EngineDown)
        primary.kill()
        replica.command("REPLICAOF", "NO", "ONE")
        front.lead_to(replica)
        nodes.write(EngineUp, lost=True)
        there = nodes.settled()
        assert {each: fence for each, (fence, _) in there.items()} == fences
        [new] = two.create("acme/new")
        assert new > max(fences.values())
        nodes.settled()
        nodes.check()


@on(VALKEY_9)
def test_nodes_that_die_while_the_engine_is_rebuilt_leave_nothing_behind(nodes):
    _, two, _ = with_sessions(nodes, 150)
    third = nodes.start("third")
    third.create(*ids("third", 150))
    nodes.settled()
    nodes.write(EngineDown)
    nodes.engine.kill()
    third.kill()
    nodes.engine.start()
    nodes.write(EngineUp, lost=True)
    there = nodes.settled(within_s=90)
    assert set(there) == {*ids("one", 150), *ids("two", 150)}
    assert two.refusal("find", session="acme/third0") == "SessionNotFound"


@on(VALKEY_9)
def test_scripts_forgotten_by_the_engine_are_loaded_again(nodes):
    one, two = nodes.start_all("one", "two")
    for node in (one, two):
        node.ask("load", clients=3, chosen=ids("contested", 3))
    for _ in range(20):
        nodes.engine.command("SCRIPT", "FLUSH")
        one.create(f"acme/{time.monotonic()}")
    steps = [node.ask("rest") for node in (one, two)]
    assert not any("EngineUnavailable" in each["refused"] for each in steps), steps
    nodes.settled(PATIENCE_S)
