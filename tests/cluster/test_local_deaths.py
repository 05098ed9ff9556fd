"""The local engine where a worker or the supervisor dies or hangs, and the leases of workers."""

import asyncio
import os
import signal
import socket
import threading
import time

import pytest

from cluster.engine_laws.members import (
    EVERYTHING,
    TERMS,
    changes_after,
    head,
    member,
    members,
)
from cluster.engine_subjects import local_cluster
from cluster.local_programs import PATIENCE_S, bound, program, program_in_thread
from frontdesk.cluster.errors import EngineUnavailable, LeaseLost
from frontdesk.cluster.local.engine import LocalEngine
from frontdesk.cluster.local.lease import LocalLease
from frontdesk.cluster.local.server import LocalServer
from frontdesk.cluster.records import Renewal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "engine"


# -- dead workers ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_a_killed_worker_had_is_gone_everywhere_at_once(path):
    """Before its lease ran out: the kernel has told its parent, which tells the server."""

    async def check():
        async with LocalServer(path) as server, LocalEngine(path) as engine:
            with program_in_thread("work", path, 2500) as (process, incarnation):
                while not incarnation():
                    await asyncio.sleep(0.01)
                assert await engine.count(EVERYTHING) == 2500
                place = await head(engine)
                process.kill()
                await asyncio.to_thread(process.wait)
                server.process_died(process.pid)
                after, told = place[0], 0
                async with bound():
                    while told < 2500:
                        page = await engine.follow(after, era=place[1], wait_s=PATIENCE_S)
                        told += len(page.changes)
                        after = page.changes[-1].change.revision
                        # Others are answered in between.
                        assert await engine.count(EVERYTHING) <= 2500 - told
            assert await engine.count(EVERYTHING) == 0
            assert await engine.nodes() == ()

    asyncio.run(check())


def test_what_a_dead_process_had_sent_is_not_carried_out():
    """Nor does anything remain of it that joined from there."""

    async def check():
        async with local_cluster() as cluster:
            one, other = await members(cluster)
            await one.create("a")
            # Both are this process, which lives: its pid stands for that of a dead one.
            calls = asyncio.gather(
                *(one.create(f"late{n}") for n in range(10)), return_exceptions=True
            )
            cluster.server.process_died(os.getpid())
            async with bound():
                results = await calls
                # This process does live, so it is let in again, and hears what became of it.
                while await other.engine.nodes():
                    await asyncio.sleep(0)
            assert {type(each) for each in results} == {LeaseLost}
            assert await other.engine.count(EVERYTHING) == 0

    asyncio.run(check())


def test_a_burial_lets_others_in_between():
    async def check():
        async with local_cluster() as cluster:
            one, other = await members(cluster)
            for n in range(1000):
                await one.create(f"s{n}")
            place = await head(other.engine)
            cluster.server.node_died(one.incarnation)
            counts = []
            while not counts or counts[-1]:
                counts.append(await other.engine.count(EVERYTHING))
            assert len(set(counts)) >= 3
            told = await changes_after(other.engine, place)
            assert [each.change.reason.kind for each in told] == ["lost"] * 1000

    asyncio.run(check())


# -- a dead supervisor -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_whose_supervisor_is_killed_hears_of_it_and_ends(path):
    with (
        program("supervise", path) as (supervisor, ready),
        program("work", path, 5) as (worker, incarnation),
    ):
        assert (ready, len(incarnation)) == ("ready", 32)
        supervisor.kill()
        said, _ = worker.communicate(timeout=PATIENCE_S)
        assert (said.strip(), worker.returncode) == ("lost", 0)


@pytest.mark.slow
def test_callers_of_a_supervisor_that_is_killed_get_engine_unavailable(path):
    async def check(supervisor):
        async with LocalEngine(path) as engine:
            revision, era = await head(engine)
            waiting = asyncio.ensure_future(engine.follow(revision, era=era, wait_s=PATIENCE_S))
            lease = engine.lease_connection()
            with pytest.raises(LeaseLost):
                await asyncio.to_thread(lease.renew, Renewal("0" * 32, 0, 0))
            os.kill(supervisor.pid, signal.SIGSTOP)
            asked = asyncio.ensure_future(engine.nodes())
            await asyncio.sleep(0)
            supervisor.kill()
            async with bound():
                for each in (asked, waiting):
                    with pytest.raises(EngineUnavailable, match="the supervisor"):
                        await each
                await engine.lost()
            with pytest.raises(EngineUnavailable, match="the supervisor"):
                await engine.nodes()
            with pytest.raises(EngineUnavailable, match="could not be renewed"):
                await asyncio.to_thread(lease.renew, Renewal("0" * 32, 0, 0))
            lease.close()

    with program("supervise", path) as (supervisor, _):
        asyncio.run(check(supervisor))


@pytest.mark.slow
def test_callers_of_a_supervisor_that_hangs_get_engine_unavailable_within_two_seconds(path):
    async def check(supervisor):
        async with LocalEngine(path) as engine:
            await engine.nodes()
            os.kill(supervisor.pid, signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(EngineUnavailable, match="in time"):
                await engine.nodes()
            assert 1.9 < time.monotonic() - began < 10
            os.kill(supervisor.pid, signal.SIGCONT)
            # The late answer is nobody's; the connection goes on.
            assert await engine.count(EVERYTHING) == 0
            assert await engine.nodes() == ()

    with program("supervise", path) as (supervisor, _):
        asyncio.run(check(supervisor))


# -- leases ----------------------------------------------------------------------------------------


def test_a_renewal_gives_up_after_a_quarter_of_a_lease_and_the_next_connects_anew(path):
    """What listens and does not answer is a supervisor that hangs."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        lease = LocalLease(path, patience_s=0.05)
        for _ in range(2):
            with pytest.raises(EngineUnavailable, match="could not be renewed"):
                lease.renew(Renewal("0" * 32, 0, 0))
        silent.setblocking(False)
        accepted = [silent.accept()[0] for _ in range(2)]
        for connection in accepted:
            connection.close()
        lease.close()


def test_a_renewal_under_way_ends_when_its_connection_is_closed(path):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        lease, errors = LocalLease(path, patience_s=PATIENCE_S), []

        def renew():
            try:
                lease.renew(Renewal("0" * 32, 0, 0))
            except EngineUnavailable as error:
                errors.append(error)

        thread = threading.Thread(target=renew)
        thread.start()
        connection, _ = silent.accept()
        assert connection.recv(1)
        lease.close()
        thread.join(PATIENCE_S)
        connection.close()
        assert len(errors) == 1
        with pytest.raises(EngineUnavailable, match="closed"):
            lease.renew(Renewal("0" * 32, 0, 0))


def test_a_renewal_waits_for_no_call():
    """It has a connection of its own, and the calls of the node fill another."""

    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            creates = asyncio.gather(*(one.create(f"s{n}") for n in range(300)))
            renewed = await one.renew()
            await creates
            assert renewed.era == one.era

    asyncio.run(check())


def test_terms_of_a_node_bound_its_renewals():
    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            lease = one.engine.lease_connection()
            assert lease._patience_s == TERMS.renew_s
            lease.close()

    asyncio.run(check())
