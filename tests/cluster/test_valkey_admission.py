"""Which servers and accounts are let in, and what those that are not are told to do."""

import asyncio
import contextlib
import logging
import socket
import threading
from dataclasses import replace

import pytest

from frontdesk.cluster.errors import EngineRefused, EngineUnavailable
from frontdesk.cluster.records import IndexLimits, NewEntry, NodeRecord, Renewal, Selection
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.cluster.valkey.engine import ValkeyEngine
from frontdesk.cluster.valkey.engine_address import EngineAddress
from frontdesk.cluster.valkey.keys import COMMANDS, account_rules
from frontdesk.cluster.valkey.server_status import ServerStatus
from frontdesk.errors import InvalidArgument
from support.engines import (
    PASSWORD,
    PROGRAMS,
    REDIS,
    VALKEY,
    EngineServer,
    await_replica,
    certificates,
    free_port,
    replica_of,
    sentinel_of,
    with_tls,
)
from support.waiting import eventually

slow = pytest.mark.slow
NODE = NodeRecord("n" * 32, "host/1", "unix:/s", 1, "1.0", "")


@pytest.fixture(params=PROGRAMS, ids=str)
def program(request):
    request.param.needed()
    return request.param


async def _use(address):
    """Ask every verb once."""
    entry = NewEntry("t/s", NODE.incarnation, "0" * 16, "t", "k", 1, "b", None, 1, minted=True)
    async with ValkeyEngine(address) as engine:
        joined = await engine.join(NODE, terms=LeaseTerms())
        await engine.reserve(entry, limits=IndexLimits(5, 5, 5), ttl_s=5)
        fence = await engine.create(entry, limits=IndexLimits(5, 5, 5))
        await engine.release(NODE.incarnation, "t/other", token="0" * 16)
        await engine.update(NODE.incarnation, "t/s", fence=fence, model="m")
        read = await engine.read("t/s")
        await engine.restore(NODE.incarnation, [read], complete=True)
        assert (await engine.list(Selection())).entries == (read,)
        assert await engine.count(Selection()) == 1
        page = await engine.follow(joined.revision, era=joined.era, wait_s=5)
        assert len(page.changes) == 2
        assert not (await engine.follow(page.head, era=page.era, wait_s=0.01)).changes
        await engine.take("x", limit=1, window_s=5)
        await engine.claim(NODE.incarnation, "slot", digest="d", ttl_s=5)
        await engine.publish("topic", "host/1", b"\xff")
        assert await engine.totals("topic") == {"host/1": b"\xff"}
        await engine.end(NODE.incarnation, [])
        lease = engine.lease_connection()
        await asyncio.to_thread(lease.renew, Renewal(NODE.incarnation, 1, 0))
        await engine.nodes()
        await engine.bury("nobody", proven=True)
        await engine.leave(NODE.incarnation)


def use(address):
    asyncio.run(_use(address))


async def _open(address):
    async with ValkeyEngine(address):
        pass


def refusal(address, kind=EngineRefused):
    """Return what opening an engine is refused with."""
    with pytest.raises(kind) as caught:
        asyncio.run(_open(address))
    return caught.value.problem


# -- servers ---------------------------------------------------------------------------------------


@slow
def test_eviction_is_refused_and_says_what_to_set(program):
    with EngineServer(program, maxmemory_policy="allkeys-lru") as server:
        problem = refusal(EngineAddress.parse(server.url))
        assert "maxmemory-policy allkeys-lru" in problem
        assert "set maxmemory-policy noeviction" in problem


@slow
def test_cluster_mode_is_refused_and_says_what_to_set(program):
    with EngineServer(program, cluster_enabled="yes", cluster_port=free_port()) as server:
        assert "cluster-enabled no" in refusal(EngineAddress.parse(server.url))


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (b"redis_version:6.2.14\r\n", "Redis 6.2.14"),
        (b"redis_version:7.2.4\r\nvalkey_version:7.2.8\r\n", "Valkey 7.2.8"),
        (b"redis_version:\r\n", "Redis "),
    ],
)
def test_what_is_too_old_is_refused(said, name):
    with pytest.raises(EngineRefused, match=f"it is {name}, which is too old: use Valkey 8"):
        ServerStatus.parse(said).check()


@pytest.mark.parametrize(
    "said", [b"redis_version:7.0.0", b"redis_version:8.2\r\nvalkey_version:8.0.1"]
)
def test_what_is_new_enough_is_let_in(said):
    ServerStatus.parse(said).check()


@slow
def test_a_replica_is_not_used(program):
    with EngineServer(program) as server, replica_of(server) as replica:
        await_replica(replica)
        problem = refusal(EngineAddress.parse(replica.url), EngineUnavailable)
        assert "replica" in problem


@slow
@pytest.mark.parametrize(("needed", "warned"), [("0", True), ("1", False)])
def test_replicas_that_nobody_waits_for_are_warned_of(needed, warned, program, caplog):
    with (
        EngineServer(program, min_replicas_to_write=needed) as server,
        replica_of(server) as replica,
    ):
        await_replica(replica)
        eventually(lambda: server.info("replication")["connected_slaves"] == 1)
        with caplog.at_level(logging.WARNING, logger="frontdesk"):
            asyncio.run(_open(EngineAddress.parse(server.url)))
        assert ("min-replicas-to-write 1" in caplog.text) is warned


def test_nobody_at_an_address_is_told_within_two_seconds():
    problem = refusal(EngineAddress.parse(f"valkey://127.0.0.1:{free_port()}"), EngineUnavailable)
    assert "refused" in problem or "connect" in problem.lower()


@slow
@pytest.mark.parametrize("scheme", ["valkey", "valkeys"])
@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["HTTP", "nothing"]
)
def test_what_is_no_engine_is_told_within_two_seconds(said, scheme):
    connections = []

    def answer(server):
        with contextlib.suppress(OSError):  # closed: the test is over
            while True:
                connections.append(server.accept()[0])
                connections[-1].sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        port = server.getsockname()[1]
        try:
            problem = refusal(
                EngineAddress.parse(f"{scheme}://127.0.0.1:{port}"), EngineUnavailable
            )
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in connections:
                each.close()
    assert problem
    assert "\n" not in problem


# -- accounts --------------------------------------------------------------------------------------


@slow
def test_an_account_for_the_prefix_and_the_listed_commands_is_enough(program):
    with EngineServer(program) as server:
        server.command("ACL", "SETUSER", "desk", "on", f">{PASSWORD}", *account_rules("mine"))
        url = server.url.replace("://", "://desk@")
        use(EngineAddress.parse(url, password=PASSWORD, prefix="mine"))
        assert all(name.startswith("{mine}:") for name in server.command("KEYS", "*"))


@slow
@pytest.mark.parametrize("command", COMMANDS)
def test_an_account_that_lacks_a_command_is_refused_and_says_which(command):
    REDIS.needed()
    with EngineServer(REDIS) as server:
        rules = [*account_rules("frontdesk"), f"-{command}"]
        server.command("ACL", "SETUSER", "desk", "on", f">{PASSWORD}", *rules)
        url = server.url.replace("://", "://desk@")
        problem = refusal(EngineAddress.parse(url, password=PASSWORD))
        assert command.split("|")[0] in problem
        assert PASSWORD not in problem


@slow
def test_an_account_for_other_keys_is_refused(program):
    with EngineServer(program) as server:
        server.command("ACL", "SETUSER", "desk", "on", f">{PASSWORD}", *account_rules("other"))
        url = server.url.replace("://", "://desk@")
        problem = refusal(EngineAddress.parse(url, password=PASSWORD))
        assert "ACL SETUSER desk ~{frontdesk}:* +del" in problem


@slow
def test_a_wrong_password_is_refused_and_told_nowhere(program, caplog):
    with EngineServer(program) as server:
        server.command("ACL", "SETUSER", "desk", "on", ">another", *account_rules("frontdesk"))
        url = server.url.replace("://", "://desk@")
        address = EngineAddress.parse(url, password=PASSWORD)
        with caplog.at_level(logging.DEBUG):
            problem = refusal(address)
        told = f"{problem} {address} {address!r} {ValkeyEngine(address)!r} {caplog.text}"
        assert PASSWORD not in told


# -- TLS and sentinels -----------------------------------------------------------------------------


@slow
def test_every_verb_works_over_tls_with_a_clients_certificate(tmp_path):
    files = certificates(tmp_path)
    with with_tls(REDIS, files) as server:
        options = {"certificate": files.client, "key": files.client_key}
        use(EngineAddress.parse(server.url, ca=files.authority, **options))
        assert "certificate" in refusal(EngineAddress.parse(server.url), EngineUnavailable)
        # An address that its certificate does not name: it might be anybody's.
        elsewhere = server.url.replace("127.0.0.1", "127.1")
        named = EngineAddress.parse(elsewhere, ca=files.authority, **options)
        assert "'127.1'" in refusal(named, EngineUnavailable)
        # One that is asked without TLS says nothing that is understood.
        refusal(EngineAddress.parse(server.url.replace("rediss", "redis")), EngineUnavailable)


@slow
def test_sentinels_lead_to_the_primary_and_after_a_failover_to_the_next_one(program):
    with EngineServer(program) as server, replica_of(server) as replica:
        await_replica(replica)
        with sentinel_of(server) as sentinel:
            eventually(lambda: sentinel.info("sentinel")["master0"]["slaves"] == 1)
            places = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}"
            address = EngineAddress.parse(f"valkey+sentinel://{places}/desk")
            asyncio.run(asyncio.wait_for(_fail_over(address, server, replica), 100))


async def _fail_over(address, server, replica):
    async with ValkeyEngine(address) as engine:
        await engine.join(NODE, terms=LeaseTerms())
        revision = engine.known
        await asyncio.to_thread(server.kill)
        while True:
            try:
                page = await engine.list(Selection())
                break
            except EngineUnavailable:
                continue
        # Another server, which may have lost something: everybody is asked again.
        assert page.era > revision
        assert page.partial
        assert replica.info("replication")["role"] == "master"


@slow
def test_a_service_that_no_sentinel_knows_is_told(program):
    with EngineServer(program) as server, sentinel_of(server) as sentinel:
        url = f"valkey+sentinel://127.0.0.1:{sentinel.port}/another"
        assert "another" in refusal(EngineAddress.parse(url), EngineUnavailable)


SENTINELS_PASSWORD = "another one of the sentinels"


@pytest.fixture
def guarded(program):
    """An engine and a sentinel that have different accounts, both with passwords."""
    with (
        EngineServer(program, requirepass=PASSWORD) as server,
        sentinel_of(server, requirepass=f'"{SENTINELS_PASSWORD}"') as sentinel,
    ):
        with sentinel.client(password=SENTINELS_PASSWORD) as client:
            client.execute_command("SENTINEL", "SET", "desk", "auth-pass", PASSWORD)
            rules = "on", f">{SENTINELS_PASSWORD}", "-@all", "+sentinel|get-master-addr-by-name"
            client.execute_command("ACL", "SETUSER", "desk", *rules)
        url = f"valkey+sentinel://127.0.0.1:{sentinel.port}/desk"
        yield EngineAddress.parse(url, password=PASSWORD)


@slow
@pytest.mark.parametrize("user", [None, "desk"])
def test_sentinels_are_asked_with_an_account_of_their_own(guarded, user):
    use(replace(guarded, sentinel_user=user, sentinel_password=SENTINELS_PASSWORD))


@slow
@pytest.mark.parametrize("password", [None, PASSWORD])
def test_sentinels_that_let_nobody_in_are_told_of_and_no_password_is(guarded, password):
    address = replace(guarded, sentinel_password=password)
    problem = refusal(address)
    assert "a sentinel lets nobody in like that" in problem
    assert PASSWORD not in f"{problem} {address} {address!r}"


@slow
def test_a_sentinel_that_lets_nobody_in_is_passed_over_for_the_next_one(guarded):
    with EngineServer(VALKEY, requirepass="unknown to us") as other:
        places = ("127.0.0.1", other.port), *guarded.places
        use(replace(guarded, places=places, sentinel_password=SENTINELS_PASSWORD))


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "places"),
    [
        ("valkey://a", (("a", 6379),)),
        ("valkeys://a", (("a", 6379),)),
        ("redis://a:7000/3", (("a", 7000),)),
        ("rediss://[::1]:7000", (("::1", 7000),)),
        ("valkeys+sentinel://a,b:7/desk", (("a", 26379), ("b", 7))),
    ],
)
def test_a_url_says_where_the_engine_is(url, places):
    address = EngineAddress.parse(url)
    assert address.places == places
    assert address.secured is url.startswith(("valkeys", "rediss"))
    assert address.service == ("desk" if "+sentinel" in url else None)
    assert address.database == (3 if url.endswith("/3") else 0)


def test_an_account_stands_before_the_host_and_a_password_is_shown_nowhere():
    address = EngineAddress.parse(f"valkey://desk%40x:{PASSWORD.replace(' ', '%20')}@a")
    assert (address.user, address.password) == ("desk@x", PASSWORD)
    assert PASSWORD not in f"{address} {address!r}"
    assert str(address) == "valkey://a:6379"


@pytest.mark.parametrize(
    "url",
    [
        "http://a",
        "valkey://",
        "valkey://a:99999",
        "valkey://a/x",
        "valkey://a,b",
        "valkey+sentinel://a",
        "valkey://u:secret-word@a/x",
    ],
)
def test_what_is_no_url_of_an_engine_is_refused_without_its_secrets(url):
    with pytest.raises(InvalidArgument, match="valkey://host:port") as caught:
        EngineAddress.parse(url)
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "a b", "{a}", "a:b", "x" * 65])
def test_a_prefix_that_would_take_keys_apart_is_refused(prefix):
    with pytest.raises(InvalidArgument, match="key_prefix"):
        EngineAddress.parse("valkey://a", prefix=prefix)
