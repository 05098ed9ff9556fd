"""The tests' own engines: what other tests rely on."""

import socket
import ssl

import pytest

from support.engines import (
    PROGRAMS,
    REDIS,
    EngineServer,
    await_replica,
    certificates,
    replica_of,
    sentinel_of,
    with_tls,
)
from support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture(params=PROGRAMS, ids=str)
def program(request):
    request.param.needed()
    return request.param


def test_an_engine_that_was_killed_starts_again_on_its_port_with_what_its_file_has(program):
    with EngineServer(program, appendonly="yes", appendfsync="no") as server:
        server.command("SET", "a", "1")
        server.restart()
        assert server.command("GET", "a") == "1"


def test_an_engine_without_a_file_starts_again_empty(program):
    with EngineServer(program) as server:
        server.command("SET", "a", "1")
        server.restart()
        assert server.command("GET", "a") is None


def test_a_replica_has_what_its_primary_has(program):
    with EngineServer(program) as server, replica_of(server) as replica:
        server.command("SET", "a", "1")
        await_replica(replica)
        assert eventually(lambda: replica.command("GET", "a")) == "1"


def test_a_sentinel_promotes_the_replica_of_a_primary_that_was_killed(program):
    with EngineServer(program) as server, replica_of(server) as replica:
        await_replica(replica)
        with sentinel_of(server) as sentinel:
            eventually(lambda: sentinel.info("sentinel")["master0"]["slaves"] == 1)
            server.kill()
            eventually(lambda: replica.info("replication")["role"] == "master", within_s=60)


def test_an_engine_with_tls_asks_for_a_certificate(tmp_path):
    files = certificates(tmp_path)
    with with_tls(REDIS, files) as server:
        context = ssl.create_default_context(cafile=files.authority)
        context.load_cert_chain(files.client, files.client_key)
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
        ):
            secured.sendall(b"PING\r\n")
            assert secured.recv(100) == b"+PONG\r\n"
