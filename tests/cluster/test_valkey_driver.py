"""The driver under faults: what is asked is done once or not at all, and answered in time."""

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest

from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.cluster.records import (
    EntryEnd,
    IndexLimits,
    NewEntry,
    NodeRecord,
    Renewal,
    Selection,
)
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.cluster.valkey import driver
from frontdesk.cluster.valkey.engine import ValkeyEngine
from frontdesk.cluster.valkey.engine_address import EngineAddress
from frontdesk.errors import InvalidArgument
from frontdesk.records import ExitReason
from support.engines import PROGRAMS, EngineServer, replica_of
from support.fault_proxy import FaultProxy, Way

pytestmark = pytest.mark.slow

NODE = NodeRecord("n" * 32, "host/1", "unix:/s", 1, "1.0", "")
ANSWERED_S = 2.0
SLACK_S = 1.0
"""What a machine that has other things to do may add."""


@pytest.fixture(params=PROGRAMS, ids=str)
def server(request):
    request.param.needed()
    with EngineServer(request.param) as server:
        yield server


@pytest.fixture
def proxy(server):
    with FaultProxy(f"tcp:127.0.0.1:{server.port}") as proxy:
        yield proxy


def entry(number):
    token = f"{number:016x}"
    return NewEntry(f"t/{number}", NODE.incarnation, token, "t", "k", 1, "b", None, 1, minted=True)


@asynccontextmanager
async def joined(port):
    """Open an engine, with a node that has a long lease."""
    async with ValkeyEngine(EngineAddress.parse(f"valkey://127.0.0.1:{port}")) as engine:
        await engine.join(NODE, terms=LeaseTerms(lease_s=100))
        yield engine


async def create(engine, number):
    return await engine.create(entry(number), limits=IndexLimits())


async def refused(call):
    """Return what a call is refused with; it has to come in time."""
    began = time.monotonic()
    with pytest.raises(EngineUnavailable) as caught:
        await call
    assert time.monotonic() - began < ANSWERED_S + SLACK_S
    return caught.value.problem


async def until_answered(ask):
    """Ask until the engine answers."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await ask()
            except EngineUnavailable:
                await asyncio.sleep(0.01)


def run(scene, *arguments):
    asyncio.run(asyncio.wait_for(scene(*arguments), 100))


# -- what one tick asks ----------------------------------------------------------------------------


def test_what_one_tick_asks_goes_out_as_one_pipeline(server):
    async def scene():
        async with joined(server.port) as engine:
            await create(engine, 0)
            before = server.info("stats")["total_reads_processed"]
            await asyncio.gather(*(create(engine, number) for number in range(1, 401)))
            # An `INFO` is read too, and 400 calls are more than one read of 16 KiB takes.
            reads = server.info("stats")["total_reads_processed"] - before
            assert reads < 40

    run(scene)


def test_a_cancelled_caller_drops_its_call_and_nobody_elses(server):
    async def scene():
        async with joined(server.port) as engine:
            calls = [asyncio.ensure_future(create(engine, number)) for number in range(300)]
            await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in done[::2])
            assert len(set(done[1::2])) == 150
            assert server.info("clients")["connected_clients"] <= 2  # its own, and this one
            assert await create(engine, 1) == done[1]

    run(scene)


def test_scripts_that_the_server_forgot_are_loaded_again(server):
    async def scene():
        async with joined(server.port) as engine:
            lease = engine.lease_connection()
            for number in range(0, 30, 3):
                server.command("SCRIPT", "FLUSH")
                fences = await asyncio.gather(*(create(engine, number + n) for n in range(3)))
                assert len(set(fences)) == 3
                server.command("SCRIPT", "FLUSH")
                renewed = await asyncio.to_thread(lease.renew, Renewal(NODE.incarnation, 0, 0))
                page = await engine.follow(fences[0] - 1, era=renewed.era, wait_s=5)
                assert page.head == renewed.revision
            assert await engine.count(Selection()) == 30

    run(scene)


def test_more_calls_than_may_wait_are_refused_at_once(server, monkeypatch):
    monkeypatch.setattr(driver, "MAX_WAITING", 10)

    async def scene():
        async with joined(server.port) as engine:
            calls = (create(engine, number) for number in range(20))
            done = await asyncio.gather(*calls, return_exceptions=True)
            refused = [one for one in done if isinstance(one, EngineUnavailable)]
            assert len(refused) == 10
            assert "10 calls wait" in refused[0].problem

    run(scene)


def test_text_that_cannot_be_sent_is_refused_before_anything_is(server):
    async def scene():
        async with joined(server.port) as engine:
            with pytest.raises(InvalidArgument, match="ud800"):
                await engine.read("t/\ud800")
            # An exception's text is nobody's argument: what of it can be sent, is.
            fence = await create(engine, 1)
            reason = ExitReason.crashed(ValueError("half a \ud800 pair"))
            await engine.end(NODE.incarnation, [EntryEnd("t/1", fence, reason, 5)])
            page = await engine.follow(fence, era=engine.known - 2, wait_s=5)
            assert page.changes[0].change.reason.text == "half a ? pair"

    run(scene)


# -- an engine that is away ------------------------------------------------------------------------


def test_an_engine_that_was_killed_is_told_within_two_seconds_and_found_again(server):
    async def scene():
        async with joined(server.port) as engine:
            fence = await create(engine, 1)
            server.kill()
            calls = [refused(create(engine, number)) for number in range(2, 10)]
            await asyncio.gather(*calls, refused(engine.read("t/1")), refused(engine.nodes()))
            # It is known by now: nobody waits for two seconds each time.
            began = time.monotonic()
            await refused(create(engine, 10))
            assert time.monotonic() - began < 0.5
            server.start()
            page = await until_answered(lambda: engine.list(Selection()))
            assert page.era > fence
            assert page.partial
            assert page.entries == ()

    run(scene)


def test_an_engine_that_stands_still_is_told_within_two_seconds_and_does_it_once(server):
    async def scene():
        async with joined(server.port) as engine:
            for number in (1, 2):  # once more: that it was given up once is over
                server.pause()
                await refused(create(engine, number))
                server.resume()
                # What it was asked it may have done; asked again with its token, it is one.
                fence = await until_answered(partial(create, engine, number))
                assert await create(engine, number) == fence
            assert await engine.count(Selection()) == 2

    run(scene)


@pytest.mark.parametrize("answered_bytes", [0, 1, 17])
def test_a_create_whose_answer_was_lost_is_asked_again_and_is_one(answered_bytes, server, proxy):
    async def scene():
        async with joined(proxy.port) as engine:
            first = await create(engine, 1)
            proxy.cut_after(answered_bytes, Way.TO_CLIENT)
            asked = asyncio.ensure_future(create(engine, 2))
            deadline = time.monotonic() + 30
            while server.command("EXISTS", "{frontdesk}:entry:t/2") == 0:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
            proxy.reset()
            proxy.heal()
            assert await asked == first + 1
            page = await engine.follow(first, era=first - 1, wait_s=5)
            assert [one.change.session.session_id for one in page.changes] == ["t/2"]

    run(scene)


def test_a_rate_whose_answer_was_lost_is_not_counted_twice(server, proxy):
    async def scene():
        async with joined(proxy.port) as engine:
            await engine.take("a", limit=10, window_s=100)
            proxy.stall(Way.TO_CLIENT)
            assert "lost" in await refused(engine.take("a", limit=10, window_s=100))
            proxy.reset()
            proxy.heal()
            taken = await until_answered(lambda: engine.take("a", limit=10, window_s=100))
            assert taken.remaining == 7

    run(scene)


def test_a_flapping_network_loses_and_doubles_nothing(server, proxy):
    async def scene():
        async with joined(proxy.port) as engine:
            proxy.flap(up_s=0.05, down_s=0.02)
            for number in range(100):
                await until_answered(lambda number=number: create(engine, number))
            proxy.heal()
            page = await until_answered(lambda: engine.list(Selection()))
            assert {one.entry.session_id for one in page.entries} == {
                f"t/{number}" for number in range(100)
            }
            assert page.revision == page.era + 100

    run(scene)


# -- an engine that cannot -------------------------------------------------------------------------


def test_an_engine_that_is_full_creates_nothing_but_renews_ends_and_is_read(server):
    async def scene():
        async with joined(server.port) as engine:
            fence = await create(engine, 1)
            lease = engine.lease_connection()
            server.command("CONFIG", "SET", "maxmemory", "1")
            assert "maxmemory" in await refused(create(engine, 2))
            assert (await engine.read("t/1")).fence == fence
            await asyncio.to_thread(lease.renew, Renewal(NODE.incarnation, 1, 1))
            await engine.end(NODE.incarnation, [EntryEnd("t/1", fence, ExitReason.of("normal"), 5)])
            assert await engine.count(Selection()) == 0
            server.command("CONFIG", "SET", "maxmemory", "0")
            assert await create(engine, 2) == fence + 2

    run(scene)


def test_an_engine_that_became_a_replica_is_told_and_found_again_as_a_primary(server):
    async def scene(primary):
        async with joined(server.port) as engine:
            await create(engine, 1)
            server.command("REPLICAOF", "127.0.0.1", primary.port)
            assert "replica" in await refused(create(engine, 2))
            server.command("REPLICAOF", "NO", "ONE")
            await until_answered(lambda: engine.nodes())

    with EngineServer(server.program) as primary:
        run(scene, primary)


def test_an_engine_that_is_loading_is_told_and_found_again(server):
    server.options["key_load_delay"] = "20000"
    server.options["loading_process_events_interval_bytes"] = "1024"

    async def scene():
        async with joined(server.port) as engine:
            await asyncio.gather(*(create(engine, number) for number in range(400)))
            server.command("SAVE")
            server.restart()
            problem = await refused(create(engine, 401))
            assert "loading" in problem
            page = await until_answered(lambda: engine.list(Selection()))
            assert len(page.entries) == 400
            assert page.partial

    run(scene)


def test_an_engine_whose_replicas_are_gone_creates_nothing(server):
    async def scene():
        async with joined(server.port) as engine:
            await create(engine, 1)
            server.command("CONFIG", "SET", "min-replicas-to-write", "1")
            await refused(create(engine, 2))
            with replica_of(server):
                await until_answered(lambda: create(engine, 2))

    run(scene)


# -- the log, and renewals -------------------------------------------------------------------------


def test_a_reader_of_the_log_is_woken_by_a_change_and_answered_after_its_wait(server):
    async def scene():
        async with joined(server.port) as engine:
            fence = await create(engine, 1)
            era = fence - 1
            reading = asyncio.ensure_future(engine.follow(fence, era=era, wait_s=50))
            await asyncio.sleep(0.05)
            await create(engine, 2)
            page = await asyncio.wait_for(reading, 30)
            assert [one.change.revision for one in page.changes] == [fence + 1]
            page = await engine.follow(fence + 1, era=era, wait_s=0.05)
            assert page == type(page)(era, fence + 1)

    run(scene)


def test_a_reader_with_a_cursor_from_before_a_wipe_is_told_of_the_gap(server):
    async def scene():
        async with joined(server.port) as engine:
            fence = await create(engine, 1)
            reading = asyncio.ensure_future(engine.follow(fence, era=fence - 1, wait_s=0.3))
            await asyncio.sleep(0.05)
            server.command("FLUSHALL")
            assert (await asyncio.wait_for(reading, 30)).gap

    run(scene)


def test_a_reader_that_is_cancelled_leaves_the_next_one_a_connection(server):
    async def scene():
        async with joined(server.port) as engine:
            fence = await create(engine, 1)
            for _ in range(5):
                reading = asyncio.ensure_future(engine.follow(fence, era=fence - 1, wait_s=50))
                await asyncio.sleep(0.02)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
            await create(engine, 2)
            assert (await engine.follow(fence, era=fence - 1, wait_s=5)).head == fence + 1

    run(scene)


def test_closing_ends_a_renewal_under_way(server):
    async def scene():
        async with joined(server.port) as engine:
            lease = engine.lease_connection()
            await asyncio.to_thread(lease.renew, Renewal(NODE.incarnation, 0, 0))
            server.pause()
            ended = threading.Event()

            def renewing():
                with pytest.raises(EngineUnavailable):
                    lease.renew(Renewal(NODE.incarnation, 0, 0))
                ended.set()

            thread = threading.Thread(target=renewing)
            thread.start()
            await asyncio.sleep(0.05)
            lease.close()
            assert await asyncio.to_thread(ended.wait, 30)
            thread.join()
            server.resume()

    run(scene)


def test_a_renewal_blocks_for_a_quarter_of_a_lease_at_most(server):
    async def scene():
        address = EngineAddress.parse(server.url)
        async with ValkeyEngine(address) as engine:
            await engine.join(NODE, terms=LeaseTerms(lease_s=4))
            lease = engine.lease_connection()
            server.pause()
            began = time.monotonic()
            with pytest.raises(EngineUnavailable):
                await asyncio.to_thread(lease.renew, Renewal(NODE.incarnation, 0, 0))
            assert time.monotonic() - began < 1 + SLACK_S
            server.resume()

    run(scene)
