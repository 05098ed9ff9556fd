"""An engine that is there and cannot: unreachable, read-only, full, loading, standing still."""

import time
from contextlib import contextmanager

import pytest

from cluster.faults.engines import PROGRAMS, Server
from cluster.faults.kinds import EITHER, SERVERS, VALKEY_9, on
from cluster.faults.steps import condition, creates_again, goes_on, ids, in_condition
from cluster.history import EngineDown, EngineUp
from support.cluster_nodes import TERMS, Nodes, Refused
from support.waiting import eventually

pytestmark = pytest.mark.slow

LEASE_S = TERMS["lease_s"]
REFUSED_S = 10
"""Refusals come within two seconds; this much on a machine that does much else."""


def refused_soon(node):
    """See that a create is refused in time, typed, and that it left nothing half done."""
    before = node.ask("local")["sessions"]
    began = time.monotonic()
    with pytest.raises(Refused) as refusal:
        node.ask("create", session="acme/refused")
    assert refusal.value.error == "EngineUnavailable", refusal.value
    assert time.monotonic() - began < REFUSED_S
    assert node.ask("local")["sessions"] == before
    return True


def minted_and_chosen(node):
    """Give a node a session under an id that a caller chose, and some under minted ones."""
    minted = ids(f"{node.name}-minted", 20)
    node.create(*minted, minted=True, kind="process")
    node.create(f"acme/{node.name}-chosen")
    return minted


@contextmanager
def outage(nodes, lost=False):
    """Say in the history that the engine answers nobody."""
    nodes.write(EngineDown)
    yield
    nodes.write(EngineUp, lost=lost)


@on(VALKEY_9)
@pytest.mark.parametrize("fault", ["refuse", "cut"])
def test_an_engine_gone_for_many_leases_ends_no_agent_under_a_minted_id(nodes, fault):
    one, two = nodes.start_all("one", "two", proxied=True)
    minted = {node.name: minted_and_chosen(node) for node in (one, two)}
    # Each has seen the other's sessions: their owners are known.
    assert goes_on(one, *minted["two"])
    assert goes_on(two, *minted["one"])
    nodes.settled()
    with outage(nodes):
        for node in (one, two):
            node.cut(fault)
        for node in (one, two):
            in_condition(node, "cut_off")
            assert refused_soon(node)
            # What somebody else may start once this node is held to be dead is stopped first.
            assert node.await_event("isolated")["session"] == f"acme/{node.name}-chosen"
        until = time.monotonic() + LEASE_S * 4
        while time.monotonic() < until:
            assert goes_on(one, *minted["one"], *minted["two"])
            assert goes_on(two, *minted["one"], *minted["two"])
        for node in (one, two):
            node.heal()
    for node in (one, two):
        creates_again(node, f"acme/{node.name}-new")
    there = nodes.settled()
    assert set(there) == {*minted["one"], *minted["two"], "acme/one-new", "acme/two-new"}


@on(EITHER)
def test_an_engine_that_stands_still_for_longer_than_a_lease_ends_nobodys_session(nodes):
    one, two = nodes.start_all("one", "two", isolation_grace_s=20)
    one.create(*ids("one", 20))
    two.create(*ids("two", 20))
    assert goes_on(one, *ids("two", 20))
    there = nodes.settled()
    with outage(nodes):
        nodes.engine.pause()
        in_condition(one, "cut_off")
        assert refused_soon(one)
        assert goes_on(one, *ids("one", 20), *ids("two", 20))
        nodes.engine.resume()
    # Its time moved on by no more than half a lease: nobody died meanwhile.
    assert nodes.settled() == there


@on(SERVERS)
def test_an_engine_that_is_read_only_refuses_creates_and_ends_nobodys_session(nodes):
    one, two = nodes.start_all("one", "two", isolation_grace_s=20)
    one.create(*ids("one", 20))
    two.create(*ids("two", 20))
    assert goes_on(one, *ids("two", 20))
    there = nodes.settled()
    with outage(nodes):
        nodes.engine.command("REPLICAOF", "127.0.0.1", "1")
        assert refused_soon(one)
        assert goes_on(one, *ids("one", 20), *ids("two", 20))
        nodes.engine.command("REPLICAOF", "NO", "ONE")
    creates_again(one, "acme/new")
    assert set(nodes.settled()) == {*there, "acme/new"}


@on(SERVERS)
def test_an_engine_that_is_full_still_renews_leases_and_ends_sessions(nodes):
    one, two = nodes.start_all("one", "two")
    one.create(*ids("one", 20))
    two.create(*ids("two", 20))
    nodes.settled()
    nodes.engine.command("CONFIG", "SET", "maxmemory", "1")
    assert refused_soon(one)
    until = time.monotonic() + LEASE_S * 2
    while time.monotonic() < until:
        assert condition(one) == condition(two) == "joined"
        assert refused_soon(two)
    one.ask("end", session="acme/one0")
    eventually(lambda: "acme/one0" not in two.ask("list")["sessions"])
    nodes.engine.command("CONFIG", "SET", "maxmemory", "0")
    creates_again(one, "acme/new")
    assert set(nodes.settled()) == {*ids("one", 20)[1:], *ids("two", 20), "acme/new"}


@pytest.mark.parametrize("kind", SERVERS)
def test_an_engine_that_loads_its_file_for_longer_than_a_lease_ends_nobodys_session(kind, tmp_path):
    # It answers "loading" once a kilobyte; so many µs a key, and these sessions take some leases.
    options = {"save": "3600 1", "loading_process_events_interval_bytes": "1024"}
    with Server(PROGRAMS[kind], **options) as engine, Nodes(engine, tmp_path) as nodes:
        one, two = nodes.start_all("one", "two", isolation_grace_s=30)
        one.create(*ids("one", 50))
        two.create(*ids("two", 50))
        assert goes_on(one, *ids("two", 50))
        there = nodes.settled()
        engine.command("SAVE")
        engine.options["key_load_delay"] = str(int(LEASE_S * 2 * 1_000_000 / 100))
        with outage(nodes, lost=True):
            engine.restart()
            in_condition(one, "cut_off")
            assert refused_soon(one)
            assert goes_on(one, *ids("one", 50), *ids("two", 50))
            eventually(lambda: not engine.command("INFO", "persistence")["loading"])
        assert nodes.settled() == there
        nodes.check()
