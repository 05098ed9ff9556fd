"""What goes wrong elsewhere with more than one worker; each is named after what must not happen."""

import asyncio
import os
import secrets
import signal
import time
from contextlib import suppress

import httpx
import pytest

from cluster.faults.desks import (
    ANSWER_S,
    HOLD_S,
    LEASE_S,
    gateways,
    timed,
    workers,
)
from cluster.faults.engines import PROGRAMS, Front, Server, running
from cluster.faults.kinds import EITHER, EVERY, SERVERS, on
from cluster.faults.steps import ids
from frontdesk.cluster.errors import LeaseLost
from frontdesk.cluster.records import (
    SCHEMA,
    IndexLimits,
    NewEntry,
    NodeRecord,
    Renewal,
    Selection,
)
from frontdesk.cluster.terms import LeaseTerms
from support.cluster_nodes import PATIENCE_S, Nodes, Refused
from support.engines import await_replica
from support.recorded_engine import open_engine
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

GONE = {404, 410}
NO_ANSWER = 0


# -- MCP python-sdk #520, #1350, fastmcp #658 ------------------------------------------------------


def test_no_session_is_missing_as_soon_as_there_is_more_than_one_worker(tmp_path):
    with workers(tmp_path) as desk:
        sessions = [desk.create(f"s{each}")["sessionId"] for each in range(30)]
        for _ in range(3):
            answers = [desk.get(session) for session in sessions]
            assert [each.status_code for each in answers] == [200] * len(sessions)
            turns = [desk.prompt(session, "hello") for session in sessions]
            assert [each.status_code for each in turns] == [202] * len(sessions)
            assert sorted(desk.listed()) == sorted(sessions)


# -- mcp-context-forge #5485 -----------------------------------------------------------------------


def test_no_request_hangs_for_an_owner_that_is_dead(tmp_path):
    with workers(tmp_path) as desk:
        sessions = [desk.create(f"s{each}")["sessionId"] for each in range(40)]
        doomed = desk.workers[0]
        os.kill(doomed, signal.SIGKILL)
        seen = {}
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for session in sessions:
                answer, took = timed(lambda session=session: answered(desk, session))
                assert took < ANSWER_S
                seen.setdefault(session, []).append(answer)
        lost = {session for session in sessions if seen[session][-1] in GONE}
        assert lost
        assert len(lost) < len(sessions)
        # What was another worker's never was gone. The first time the kernel may still have given
        # the connection to the worker that was killed.
        living = [seen[session] for session in set(sessions) - lost]
        assert {first for first, *_ in living} <= {200, NO_ANSWER}
        assert {each for _, *later in living for each in later} == {200}
        assert sorted(desk.listed()) == sorted(set(sessions) - lost)


def answered(desk, session):
    """Return the status of an answer; a connection to the worker that was killed has none."""
    try:
        return desk.get(session).status_code
    except httpx.TransportError:
        return NO_ANSWER


def test_no_owner_counts_as_alive_whose_heartbeat_lives_while_its_listener_is_dead(tmp_path):
    with running(SERVERS[0]) as engine, gateways(tmp_path, engine) as desk:
        desk.create("victim", at=0)
        desk.create("rude", blueprint="rude", at=0)
        assert desk.get("victim", at=1).status_code == 200
        desk.prompt("rude", "12", at=0)

        def refused_at_once():
            answer, took = timed(lambda: desk.get("victim", at=1))
            assert took < ANSWER_S
            at_once = took < 1 and answer.status_code == 503
            return at_once and int(answer.headers["retry-after"]) > 0

        eventually(refused_at_once, within_s=PATIENCE_S)
        # It is not dead: when its loop moves again, it goes on.
        eventually(lambda: desk.get("victim", at=1).status_code == 200, within_s=PATIENCE_S)


# -- Orleans #7054, #7066 --------------------------------------------------------------------------


def test_no_entry_of_a_dead_node_sticks(tmp_path):
    with running(SERVERS[0]) as engine, gateways(tmp_path, engine) as desk:
        lost = [desk.create(f"lost{each}", at=0)["sessionId"] for each in range(120)]
        kept = [desk.create(f"kept{each}", at=1)["sessionId"] for each in range(3)]
        assert sorted(desk.listed(at=1)) == sorted(lost + kept)
        desk.servers[0].signal(signal.SIGKILL)
        desk.servers[0].wait()
        eventually(lambda: sorted(desk.listed(at=1)) == sorted(kept), within_s=PATIENCE_S)
        assert {desk.get(session, at=1).status_code for session in lost} <= GONE
        assert desk.create("lost0", at=1)["sessionId"] == "lost0"


@on(EITHER)
def test_the_record_of_a_dead_node_is_never_removed_before_its_entries(nodes):
    """Whoever buries it is killed in the middle: somebody else goes on."""
    doomed, burying, other = nodes.start_all("doomed", "burying", "other")
    doomed.create(*ids("d", 350))
    there = doomed.ask("local")["incarnation"]
    nodes.settled()
    doomed.kill()
    asyncio.run(one_batch(nodes.engine, there))
    burying.kill()
    # Whether it has heard that the node is gone, or not yet: asking changes nothing.
    with suppress(Refused):
        other.ask("find", session=ids("d", 350)[-1])
    assert nodes.settled() == {}


async def one_batch(engine, incarnation):
    """Begin to bury a node whose death is proven, and stop after a batch."""
    async with open_engine(engine.url_at(engine.address)) as seam:
        buried = await seam.bury(incarnation, proven=True)
        assert (buried.ended, buried.done) == (100, False)
        assert await seam.count(Selection(incarnation=incarnation)) == 250


# -- a2a-python #1188 ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SERVERS)
def test_no_stale_replica_overwrites_newer_state(kind, tmp_path):
    with (
        Server(PROGRAMS[kind]) as newer,
        Server(PROGRAMS[kind]) as stale,
        Front(newer) as front,
        Nodes(front, tmp_path) as nodes,
    ):
        one, two = nodes.start_all("one", "two")
        one.create(*ids("old", 20))
        nodes.settled()
        # The stale one has what there is now, and hears nothing of what comes after.
        stale.command("REPLICAOF", "127.0.0.1", str(newer.port))
        await_replica(stale)
        stale.command("REPLICAOF", "NO", "ONE")
        for session in ids("old", 10):
            one.ask("end", session=session)
        [newest] = two.create("acme/new")
        nodes.engine_lost(lambda: front.lead_to(stale))
        there = nodes.settled()
        assert set(there) == {*ids("old", 20)[10:], "acme/new"}
        assert there["acme/new"][0] == newest
        # And back: what was newer is stale by now.
        two.ask("end", session="acme/new")
        nodes.engine_lost(lambda: front.lead_to(newer))
        assert set(nodes.settled()) == set(ids("old", 20)[10:])
        nodes.check()


# -- proto.actor's tests ---------------------------------------------------------------------------


@on(EVERY)
def test_no_heartbeat_after_a_shutdown_brings_a_node_back_to_life(engine):
    asyncio.run(leave_and_renew(engine.url_at(engine.address)))


async def leave_and_renew(url):
    async with open_engine(url) as engine:
        node = record("late")
        await engine.join(node, terms=LeaseTerms())
        lease = engine.lease_connection()
        renewal = Renewal(node.incarnation, 0, 0)
        try:
            await asyncio.to_thread(lease.renew, renewal)
            await engine.leave(node.incarnation)
            with pytest.raises(LeaseLost):
                await asyncio.to_thread(lease.renew, renewal)
        finally:
            lease.close()
        assert not await engine.nodes()
        with pytest.raises(LeaseLost):
            await engine.create(entry(node, "acme/late"), limits=IndexLimits())
        assert await engine.count(Selection()) == 0


# -- etcd #9360 ------------------------------------------------------------------------------------


@on(EVERY)
def test_hundreds_of_leases_running_out_at_once_do_not_paralyse_the_engine(engine):
    asyncio.run(expire_by_the_hundred(engine.url_at(engine.address)))


async def expire_by_the_hundred(url, number=300):
    """Let so many nodes fall silent, each with entries; see that another one is answered."""
    terms = LeaseTerms(lease_s=LEASE_S, isolation_grace_s=1, kill_grace_s=0.5)
    async with open_engine(url) as engine:
        dying = [record(f"dying{each}") for each in range(number)]
        await asyncio.gather(*(engine.join(node, terms=terms) for node in dying))
        await asyncio.gather(
            *(
                engine.create(entry(node, f"acme/{node.name}-{each}"), limits=IndexLimits())
                for node in dying
                for each in range(3)
            )
        )
        living = record("living")
        await engine.join(living, terms=LeaseTerms(lease_s=60))
        slowest, created = 0.0, 0
        buried = asyncio.create_task(bury_all(engine, dying))
        while not buried.done():
            began = time.monotonic()
            await engine.create(entry(living, f"acme/{created}"), limits=IndexLimits())
            await engine.count(Selection())
            slowest = max(slowest, time.monotonic() - began)
            created += 1
            await asyncio.sleep(0.005)
        await buried
        assert slowest < LEASE_S / 4, "renewals would have been late"
        assert await engine.count(Selection()) == created
        assert [each.node for each in await engine.nodes()] == [living]


async def bury_all(engine, dying):
    """Bury as soon as each may be buried, all at once as several nodes would."""

    async def bury(node):
        while not (await engine.bury(node.incarnation, proven=False)).done:
            await asyncio.sleep(0.1)

    await asyncio.wait_for(asyncio.gather(*map(bury, dying)), PATIENCE_S + LEASE_S + HOLD_S)


def record(name):
    """Return the record of a node that is only an entry in the engine."""
    return NodeRecord(secrets.token_hex(16), name, f"unix:/nowhere/{name}", SCHEMA, "0", "")


def entry(node, session_id):
    """Return a new entry of a node."""
    return NewEntry(
        session_id=session_id,
        incarnation=node.incarnation,
        token=secrets.token_hex(8),
        tenant_id="acme",
        api_key=None,
        created_at=0,
        blueprint=None,
        model=None,
        pid=0,
        minted=True,
    )
