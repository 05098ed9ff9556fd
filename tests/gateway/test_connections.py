"""What one connection may hold: requests ahead of their answers, answers that nobody reads."""

import os
import socket
import time

from gateway.command import serving
from gateway.running import ACME, create
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
