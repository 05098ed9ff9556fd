"""The local engine over its socket: who is let in, what a bad client or a dead process does."""

import asyncio
import os
import signal
import socket
import stat

import pytest

from cluster.engine_laws.members import (
    EVERYTHING,
    NO_LIMITS,
    TERMS,
    Member,
    changes_after,
    head,
    ids,
    member,
    record,
)
from cluster.engine_subjects import local_cluster
from cluster.local_programs import PATIENCE_S, bound, program
from frontdesk.cluster.errors import EngineUnavailable, LeaseLost
from frontdesk.cluster.local import calls, served, wire
from frontdesk.cluster.local.engine import LocalEngine
from frontdesk.cluster.local.revision_file import RevisionFile
from frontdesk.cluster.local.server import LocalServer
from frontdesk.cluster.records import Renewal, Selection
from frontdesk.errors import InvalidArgument
from frontdesk.testing import ManualClock

NOBODY = 65534


@pytest.fixture
def path(tmp_path):
    return tmp_path / "engine"


async def raw_connection(path):
    return await asyncio.open_unix_connection(path)


async def is_hung_up(reader):
    async with bound():
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


# -- who is let in ---------------------------------------------------------------------------------


async def _a_server(path):
    async with LocalServer(path):
        return stat.S_IMODE(path.stat().st_mode)


def test_the_socket_is_for_its_account_alone(path):
    assert asyncio.run(_a_server(path)) == 0o700
    assert not path.exists()


def test_a_socket_that_a_killed_supervisor_left_is_replaced(path):
    with program("supervise", path) as (process, ready):
        assert ready == "ready"
    assert process.returncode == -signal.SIGKILL
    assert path.exists()
    assert asyncio.run(_a_server(path)) == 0o700


def test_what_is_no_socket_is_not_replaced(path):
    path.write_text("somebody's")
    with pytest.raises(OSError, match="in use"):
        asyncio.run(_a_server(path))
    assert path.read_text() == "somebody's"


def test_a_path_may_be_longer_than_an_address_of_a_socket(tmp_path):
    directory = tmp_path / ("d" * 120)
    directory.mkdir()

    async def check():
        path = directory / "engine"
        async with LocalServer(path), LocalEngine(path) as engine:
            assert await engine.count(EVERYTHING) == 0
            lease = engine.lease_connection()
            with pytest.raises(LeaseLost):
                await asyncio.to_thread(lease.renew, Renewal("0" * 32, 0, 0))
            lease.close()

    asyncio.run(check())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_account_is_hung_up_on():
    """Even where the file lets it in: its mode is the first lock, this is the second."""

    async def check():
        async with local_cluster() as cluster:
            cluster.path.parent.chmod(0o755)
            cluster.path.chmod(0o777)
            stranger = socket.socket(socket.AF_UNIX)
            # The kernel tells the account that connects, at that moment.
            os.seteuid(NOBODY)
            try:
                stranger.connect(str(cluster.path))
            finally:
                os.seteuid(0)
            reader, writer = await asyncio.open_unix_connection(sock=stranger)
            assert await is_hung_up(reader)
            writer.close()

    asyncio.run(check())


def test_beside_too_many_others_a_connection_is_hung_up_on(monkeypatch):
    monkeypatch.setattr(served, "MAX_CONNECTIONS", 4)

    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            await member(cluster)
            reader, writer = await raw_connection(cluster.path)
            assert await is_hung_up(reader)
            writer.close()
            assert await one.engine.count(EVERYTHING) == 0

    asyncio.run(check())


# -- eras ------------------------------------------------------------------------------------------


def test_no_fence_repeats_where_the_clock_was_set_back_between_two_starts(tmp_path):
    async def check():
        clock, fences = ManualClock(), []
        for _ in range(5):
            path, revisions = tmp_path / "engine", tmp_path / "revisions"
            server = LocalServer(path, clock=clock, revisions=revisions)
            async with server, LocalEngine(path) as engine:
                node = record("h/1")
                joined = await engine.join(node, terms=TERMS)
                one = Member(node, engine, joined.era)
                fences += [await one.create(f"s{n}") for n in range(3)]
            clock.set_wall_ms(clock.wall_ms() - 60_000)
        assert fences == sorted(set(fences))

    asyncio.run(check())


def test_the_file_of_revisions_is_above_them_and_written_seldom(tmp_path):
    file, written = RevisionFile(tmp_path / "revisions"), []
    assert file.read() == 0
    for revision in range(10**15, 10**15 + 3_000_000, 1000):
        file.cover(revision)
        written.append(file.read() if revision % 100_000 == 0 else written[-1])
        assert written[-1] > revision
    assert len(set(written)) <= 7


@pytest.mark.parametrize("content", [b"", b"-5", b"x", b"\xff", b"9" * 17])
def test_a_file_of_revisions_that_says_nothing_is_none(tmp_path, content):
    (tmp_path / "revisions").write_bytes(content)
    assert RevisionFile(tmp_path / "revisions").read() == 0


# -- bad clients -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        (wire.MAX_CALL_BYTES + 1).to_bytes(4, "big"),
        wire.frame(b"\xc1 not msgpack"),
        wire.frame(wire.encode((1, "no such verb", []))),
        wire.frame(wire.encode((1, "count", ["not a selection"]))),
        wire.frame(wire.encode((1, "_begin", []))),
    ],
    ids=["too large", "no message", "no verb", "wrong arguments", "no verb of the wire"],
)
def test_who_sends_what_is_no_call_is_hung_up_on_and_nobody_else(sent):
    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            await one.create("a")
            reader, writer = await raw_connection(cluster.path)
            writer.write(sent)
            assert await is_hung_up(reader)
            writer.close()
            assert await ids(one.engine) == ["a"]

    asyncio.run(check())


def test_a_client_that_ends_in_the_middle_of_a_frame_has_called_nothing():
    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            call = wire.CREATE.call(1, one.entry("a"), NO_LIMITS)
            _, writer = await raw_connection(cluster.path)
            writer.write(call[:-1])
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            assert await ids(one.engine) == []

    asyncio.run(check())


def test_frames_may_arrive_in_any_pieces():
    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            both = wire.CREATE.call(1, one.entry("a"), NO_LIMITS)
            both += wire.CREATE.call(2, one.entry("b"), NO_LIMITS)
            reader, writer = await raw_connection(cluster.path)
            for byte in both:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            async with bound():
                for _ in range(2):
                    size = int.from_bytes(await reader.readexactly(4), "big")
                    await reader.readexactly(size)
            writer.close()
            assert await ids(one.engine) == ["a", "b"]

    asyncio.run(check())


def test_the_calls_of_who_reads_no_answers_wait_and_others_do_not():
    """What is written for one connection is bounded: its calls stay unread meanwhile."""

    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            for n in range(500):
                await one.create(f"s{n}")
            reader, writer = await raw_connection(cluster.path)
            calls = 300
            for n in range(calls):
                writer.write(wire.LIST.call(n, EVERYTHING, 0, 1000))
            fence = await one.create("meanwhile")
            await one.end("meanwhile", fence)
            written = [each._transport for each in cluster.server._served.connections]
            assert 0 < max(each.get_write_buffer_size() for each in written) < 4 * 2**20
            async with bound():
                for _ in range(calls):
                    size = int.from_bytes(await reader.readexactly(4), "big")
                    await reader.readexactly(size)
            writer.close()

    asyncio.run(check())


# -- callers ---------------------------------------------------------------------------------------


def test_a_cancelled_caller_drops_its_answer_and_not_the_connection():
    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            for n in range(20):
                asked = asyncio.ensure_future(one.create(f"s{n}"))
                for _ in range(n % 4):
                    await asyncio.sleep(0)
                asked.cancel()
                await asyncio.wait((asked,))
            # Whatever was carried out, the same token says.
            fences = [await one.create(f"s{n}") for n in range(20)]
            assert len(set(fences)) == 20
            assert await one.engine.count(EVERYTHING) == 20

    asyncio.run(check())


def test_what_is_asked_in_one_step_of_the_loop_goes_out_at_once():
    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            connection, written = one.engine._calls._connection, []
            connection._transport = Spy(connection._transport, written)
            await asyncio.gather(*(one.create(f"s{n}") for n in range(50)))
            assert len(written) == 1

    asyncio.run(check())


class Spy:
    """A transport that notes what is written to it."""

    def __init__(self, transport, written):
        self._transport, self._written = transport, written

    def write(self, data):
        self._written.append(data)
        self._transport.write(data)

    def __getattr__(self, name):
        return getattr(self._transport, name)


def test_a_create_whose_answer_was_lost_with_its_connection_is_asked_again_with_its_token():
    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            revision, era = await head(one.engine)
            following = asyncio.ensure_future(
                one.engine.follow(revision, era=era, wait_s=PATIENCE_S)
            )
            for n in range(10):
                asked = asyncio.ensure_future(one.create(f"s{n}"))
                for _ in range(n % 5):
                    await asyncio.sleep(0)
                for connection in list(cluster.server._served.connections):
                    connection.abort()
                async with bound():
                    fence = await asked
                assert (await one.engine.read(f"s{n}")).fence == fence
            async with bound():
                await following
            assert await one.engine.count(EVERYTHING) == 10
            assert len(await changes_after(one.engine, (revision, era))) == 10

    asyncio.run(check())


def test_what_is_done_once_is_not_asked_again_when_its_connection_ends():
    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            for asked in (
                one.engine.take("key", limit=5, window_s=60.0),
                one.engine.join(record("h/2"), terms=TERMS),
            ):
                await one.engine.nodes()
                asked = asyncio.ensure_future(asked)
                await asyncio.sleep(0)
                for connection in list(cluster.server._served.connections):
                    connection.abort()
                with pytest.raises(EngineUnavailable):
                    await asked
            assert (await one.engine.take("key", limit=5, window_s=60.0)).remaining >= 3

    asyncio.run(check())


def test_more_calls_than_may_wait_are_refused_and_the_rest_answered(monkeypatch):
    monkeypatch.setattr(calls, "MAX_UNDER_WAY", 10)

    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            asked = (one.create(f"s{n}") for n in range(30))
            results = await asyncio.gather(*asked, return_exceptions=True)
            assert sum(isinstance(each, int) for each in results) == 10
            refused = [each for each in results if not isinstance(each, int)]
            assert {str(each) for each in refused} == {
                "the cluster's engine cannot do this now: 10 calls wait for their answers already"
            }
            await one.create("again")

    asyncio.run(check())


def test_a_verb_that_fails_at_the_supervisor_is_told_and_others_go_on(monkeypatch):
    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            monkeypatch.setattr(cluster.server._served.index, "count", lambda at: 1 / 0)
            with pytest.raises(EngineUnavailable, match="it failed, see its log"):
                await one.engine.count(EVERYTHING)
            await one.create("a")
            assert await ids(one.engine) == ["a"]

    asyncio.run(check())


def test_an_engine_that_is_not_open_says_so(path):
    engine = LocalEngine(path)
    with pytest.raises(EngineUnavailable, match="not open"):
        asyncio.run(engine.nodes())


def test_where_no_supervisor_listens_an_engine_does_not_open(path):
    async def check():
        async with LocalEngine(path):
            pass

    with pytest.raises(EngineUnavailable, match="does not listen"):
        asyncio.run(check())


def test_wrong_arguments_are_refused_before_anybody_is_asked():
    async def check():
        async with local_cluster() as cluster:
            one = await member(cluster)
            engine, node = one.engine, one.incarnation
            many = [engine.list(EVERYTHING, limit=limit) for limit in (0, 1001)]
            both = Selection(tenant_id="t", api_key="k")
            for refused in (
                *many,
                engine.count(both),
                engine.list(both),
                one.create("a", token="short"),
                one.reserve("a", ttl_s=0),
                one.reserve("a", ttl_s=float("nan")),
                one.end("a", 1, next_token="Z" * 16),
                engine.take("key", limit=0, window_s=1.0),
                engine.take("key", limit=1, window_s=1e9),
                engine.claim(node, "slot", digest="d", ttl_s=-1.0),
                engine.publish("usage", "h/1", b"x" * (512 * 1024 + 1)),
                engine.follow(0, era=0, limit=0, wait_s=0),
            ):
                with pytest.raises(InvalidArgument):
                    await refused
            assert await ids(engine) == []

    asyncio.run(check())
