"""What one connection may hold: requests ahead of their answers, answers that nobody reads."""

import os
import socket
import time
from contextlib import ExitStack, suppress

import pytest

from gateway.command import serving
from gateway.loop_time import LONGEST_TURN_S, LongestTurn
from gateway.running import ACME, UMBRELLA, RunningGateway, create, turn_of
from support.waiting import eventually

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
MEBIBYTE = 1024 * 1024
NOTICED_S = 1.0
SLACK_S = 2.0


def resident_bytes(process):
    with open(f"/proc/{process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def send_until_full(connection, data):
    """Send until the other side takes no more for a while, or hangs up."""
    connection.settimeout(0.3)
    try:
        while data:
            data = data[connection.send(data) :]
    except OSError:
        pass


def test_requests_ahead_of_their_answers_hold_no_memory(tmp_path):
    with serving(tmp_path) as served:
        host, port = served.url.removeprefix("http://").split(":")
        before = resident_bytes(served.process)
        for _ in range(3):
            with socket.create_connection((host, int(port))) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                send_until_full(connection, REQUEST * (9_000_000 // len(REQUEST)))
                assert resident_bytes(served.process) - before < 30 * MEBIBYTE
        with served.client() as client:
            assert client.get("/healthz").status_code == 200


def test_pipelined_requests_are_all_answered_in_order(gateway):
    """More of them than may wait: reading goes on with the answers."""
    padded = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: %b\r\n\r\n" % (b"a" * 1000)
    with gateway.connect() as connection:
        connection.sendall(padded * 600)
        answer = b""
        while answer.count(b"HTTP/1.1 200") < 600:
            answer += connection.recv(MEBIBYTE)


def stream(sid):
    lines = (f"GET /v1/sessions/{sid}/events HTTP/1.1", "Host: x", f"X-API-Key: {ACME}", "", "")
    return "\r\n".join(lines).encode()


def test_a_client_that_leaves_is_noticed_within_a_second_whatever_it_sent(gateway, acme, sid):
    create(acme, sid)
    open_streams = gateway.gateway.streams
    for ahead in (b"", b"GET /hea", REQUEST * 3, REQUEST * 500, REQUEST * 100_000, b"\0" * 300_000):
        with gateway.connect() as connection:
            connection.sendall(stream(sid))
            connection.recv(65536)
            send_until_full(connection, ahead)
            left = time.monotonic()
        eventually(lambda: gateway.call(lambda: len(open_streams)) == 0)
        assert time.monotonic() - left < NOTICED_S + SLACK_S, ahead[:20]


# -- one WebSocket against the others ------------------------------------------------------------

HANDSHAKE = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)  # fmt: skip
FLOODS = {
    "pings": b"\x89\x80\0\0\0\0",
    "pongs": b"\x8a\x80\0\0\0\0",
    "texts": b"\x81\x82\0\0\0\0{}",
    "binaries": b"\x82\x80\0\0\0\0",
    "fragments": b"\0\x80\0\0\0\0",
}


@pytest.mark.parametrize("kind", FLOODS)
def test_the_smallest_frames_of_one_socket_leave_the_loop_to_the_others(tmp_path, kind):
    """A turn is what another's request waits for: each of its few steps takes one."""
    with (
        RunningGateway(tmp_path, limits={"requests_per_minute": 600}) as gateway,
        gateway.client() as client,
        gateway.connect() as connection,
    ):
        create(client, "s")
        lines = ("GET /v1/sessions/s/ws HTTP/1.1", "Host: x", f"X-API-Key: {ACME}", *HANDSHAKE)
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 101 ")
        opening = b"\x01\x80\0\0\0\0" if kind == "fragments" else b""
        with LongestTurn(gateway) as turn:
            send_until_full(connection, opening + FLOODS[kind] * 100_000)
            eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 0)
        assert turn.longest_s < LONGEST_TURN_S


# -- connections without a key -------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /hea", REQUEST, b"GET /v1/sessions HTTP/1.1\r\nHost: x\r\nX-API-Key: no\r\n\r\n"],
    ids=["nothing", "half-a-head", "healthz", "a-wrong-key"],
)
def test_connections_without_a_key_leave_room_for_those_with_one(tmp_path, caplog, sent):
    limits = {"keyless_connections": 20, "keyless_connections_per_address": 10}
    with RunningGateway(tmp_path, limits=limits) as gateway, gateway.client() as client:
        create(client, "s")
        with ExitStack() as stack:
            others = [stack.enter_context(gateway.connect()) for _ in range(30)]
            for other in others:
                with suppress(OSError):
                    other.sendall(sent)
            keyless = gateway.server.config.keyless
            eventually(lambda: gateway.call(lambda: len(keyless)) == 10)
            assert client.get("/v1/sessions/s").status_code == 200  # the connection from before
            with gateway.client() as newcomer:
                assert newcomer.get("/v1/sessions/s").status_code == 200
                assert newcomer.get("/healthz").status_code == 200
            assert gateway.call(lambda: len(keyless)) <= 10
        eventually(lambda: gateway.call(lambda: len(keyless)) == 0)
    assert [each for each in caplog.messages if "too many connections without a key" in each]


def test_connections_with_a_key_are_not_counted_among_those_without(tmp_path):
    limits = {"keyless_connections": 2, "keyless_connections_per_address": 2}
    with RunningGateway(tmp_path, limits=limits) as gateway, ExitStack() as stack:
        clients = [stack.enter_context(gateway.client()) for _ in range(10)]
        for client in clients:
            assert client.get("/v1/sessions").status_code == 200
        create(clients[0], "s")
        with stack.enter_context(gateway.connect()) as stream_:
            stream_.sendall(stream("s"))
            assert stream_.recv(65536).startswith(b"HTTP/1.1 200 ")
            for _ in range(10):
                stack.enter_context(gateway.connect())
            keyless = gateway.server.config.keyless
            eventually(lambda: gateway.call(lambda: len(keyless)) == 2)
            assert {client.get("/v1/sessions").status_code for client in clients} == {200}
            assert gateway.call(lambda: len(gateway.gateway.streams)) == 1


# -- answers that nobody reads -------------------------------------------------------------------


def unread(gateway, path):
    """Ask for something, with the smallest window there is, and read nothing of it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", gateway.port))
    lines = (f"GET {path} HTTP/1.1", "Host: x", f"X-API-Key: {ACME}", "", "")
    connection.sendall("\r\n".join(lines).encode())
    return connection


def held_bytes(gateway):
    return sum(each.unread_bytes for each in gateway.server.server_state.connections)


@pytest.mark.parametrize("path", ["messages?limit=1000", "events?since=0"])
def test_answers_that_nobody_reads_hold_no_more_than_a_bound(tmp_path, path):
    bound = 8 * MEBIBYTE
    with (
        RunningGateway(tmp_path, limits={"unread_bytes_per_key": bound}) as gateway,
        gateway.client() as client,
    ):
        create(client, "s")
        for _ in range(20):
            turn_of(client, "s", "x" * 100_000)
        one = len(client.get("/v1/sessions/s/messages?limit=1000").content)
        with ExitStack() as stack:
            behind = gateway.server.config.unread
            for _ in range(60):
                stack.enter_context(unread(gateway, f"/v1/sessions/s/{path}"))
                assert gateway.call(held_bytes, gateway) <= bound + one
            if path.startswith("messages"):
                eventually(lambda: gateway.call(held_bytes, gateway) > bound / 2)
            assert client.get("/v1/sessions/s").status_code == 200
        eventually(lambda: gateway.call(lambda: len(behind)) == 0)


def test_an_answer_that_has_left_in_part_counts_whole(tmp_path):
    """What has left is held as long as the rest: the answer is one piece of memory."""
    with RunningGateway(tmp_path) as gateway, gateway.client() as client:
        create(client, "s")
        for _ in range(20):
            turn_of(client, "s", "x" * 100_000)
        path = "/v1/sessions/s/messages?limit=1000"
        size = len(client.get(path).content)
        with unread(gateway, path):
            eventually(lambda: gateway.call(held_bytes, gateway) > 0)
            assert gateway.call(held_bytes, gateway) >= size


# -- bodies that do not end ----------------------------------------------------------------------

CHUNKED, ANNOUNCED = "Transfer-Encoding: chunked", f"Content-Length: {MEBIBYTE}"


def unfinished(gateway, framing, *, key=ACME):
    """Begin a request whose body of a mebibyte does not come."""
    connection = gateway.connect()
    asked = ("POST /v1/sessions HTTP/1.1", "Host: x", f"X-API-Key: {key}", framing)
    connection.sendall("\r\n".join([*asked, "Content-Type: application/json", "", ""]).encode())
    return connection


@pytest.fixture
def narrow(tmp_path):
    """A gateway with room for four mebibytes of one key's bodies."""
    with RunningGateway(tmp_path, limits={"body_bytes_per_key": 4 * MEBIBYTE}) as gateway:
        yield gateway


def held_bodies(gateway):
    return gateway.call(lambda: gateway.gateway.bodies.held("k-acme"))


@pytest.mark.parametrize("framing", [ANNOUNCED, CHUNKED])
def test_bodies_that_do_not_end_hold_no_more_than_a_bound(narrow, framing):
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(unfinished(narrow, framing))
        eventually(lambda: held_bodies(narrow) == 4 * MEBIBYTE)
        with unfinished(narrow, framing) as refused:
            answer = refused.recv(65536)
            assert answer.startswith(b"HTTP/1.1 429 ")
            assert b"\r\nretry-after: 1\r\n" in answer.lower()
        with narrow.client() as client, narrow.client(UMBRELLA) as other:
            assert client.get("/v1/sessions").status_code == 200  # without a body
            assert create(other, "s")  # of another key
    eventually(lambda: held_bodies(narrow) == 0)  # their clients left
    with narrow.client() as client:
        assert create(client, "s")


@pytest.mark.parametrize("body", [b" " * MEBIBYTE, b"[" * MEBIBYTE, b"\xff" * MEBIBYTE])
def test_a_body_gives_its_room_back_with_its_answer(narrow, body):
    for _ in range(8):
        with unfinished(narrow, ANNOUNCED) as connection:
            connection.sendall(body)
            assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert held_bodies(narrow) == 0


def test_a_body_that_is_larger_than_the_room_for_all_is_taken_alone(tmp_path):
    limits = {"body_bytes_per_key": 1024}
    with RunningGateway(tmp_path, limits=limits) as gateway, gateway.client() as client:
        create(client, "s", userData="x" * 5000)
        assert held_bodies(gateway) == 0
